"""A node of which there is nothing but files, and the command that edits them."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.admin_cli import BOSS, DEPUTY, TEXT, Agents, delegate, save, write


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "an asyd's directory"
    path.mkdir(mode=0o700)
    write(path, TEXT)
    return path


@pytest.fixture
def state(directory: Path) -> Path:
    """With agents that agents have added: boss has added deputy, deputy has added hand."""
    path = directory / "state"
    path.mkdir(mode=0o700)
    save(path, delegate(DEPUTY, BOSS, "core,20,22,14,security", "deputy"))
    return path


@pytest.fixture
def agents(capfd: pytest.CaptureFixture[str], directory: Path) -> Agents:
    return Agents(capfd, directory)
