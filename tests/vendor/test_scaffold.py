"""`asys vendor new`: what it writes is a vendor, keeps the rules of style, and passes its tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from asys.vendor import VendorError
from asys.vendor.scaffold import create, default_package

DOMAIN = "front-shop.example.com"


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if "COV" not in key}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_passes_its_own_tests(tmp_path: Path) -> None:
    create(DOMAIN, tmp_path / "new")
    done = run("pytest", "-q", "-p", "no:cacheprovider", "-W", "error", cwd=tmp_path / "new")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_its_own_tests_can_fail(tmp_path: Path) -> None:
    create(DOMAIN, tmp_path / "new")
    handlers = tmp_path / "new/src/asys_front_shop/handlers.py"
    handlers.write_text(handlers.read_text().replace("@handler(COUNTER_RESET)\n", ""))
    done = run("pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path / "new")
    assert done.returncode != 0
    assert "has no @handler for COUNTER_RESET" in done.stdout


def test_it_is_well_formed(tmp_path: Path) -> None:
    create(DOMAIN, tmp_path / "new")
    rules = ("--isolated", "--select", "E,F,W,I,UP,B,RUF,SIM", "--line-length", "100")
    assert run("ruff", "check", *rules, ".", cwd=tmp_path / "new").returncode == 0
    form = run("ruff", "format", "--isolated", "--line-length", "100", "--check", ".", cwd=tmp_path)
    assert form.returncode == 0, form.stdout


def test_its_types_hold(tmp_path: Path) -> None:
    create(DOMAIN, tmp_path / "new")
    done = run(
        "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "asys_front_shop",
        cwd=tmp_path / "new/src",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_no_word_of_the_template_is_left(tmp_path: Path) -> None:
    for path in create(DOMAIN, tmp_path / "new"):
        text = path.read_text()
        assert not any(f"@{word}@" in text for word in ("DOMAIN", "PACKAGE", "CLASS", "TITLE"))
        assert "@DISTRIBUTION@" not in text
    assert (tmp_path / "new/src/asys_front_shop/definition.py").exists()


@pytest.mark.parametrize("domain", ["", "shop", "sh op.example.com", "shop..com", "-a.com"])
def test_what_is_no_domain(tmp_path: Path, domain: str) -> None:
    with pytest.raises(VendorError, match="no domain name"):
        create(domain, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["Shop", "class", "1shop", "shop-x", "a.b"])
def test_what_is_no_package(tmp_path: Path, package: str) -> None:
    with pytest.raises(VendorError, match="no name for a package"):
        create(DOMAIN, tmp_path / "new", package)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(VendorError, match="is not empty"):
        create(DOMAIN, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_name_of_the_package() -> None:
    assert default_package("front-shop.example.com") == "asys_front_shop"
