"""docs/releasing.md and SECURITY.md name what is there, and tools/release_check.py finds what is
not as they say.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import asys
from asys.isa import REGISTRY
from support.pages import DOCS
from tools import release_check

ROOT = DOCS.parent
PAGE = (DOCS / "releasing.md").read_text("utf-8")
POLICY = (ROOT / "SECURITY.md").read_text("utf-8")

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("text", [PAGE, POLICY], ids=["releasing", "security"])
def test_every_command_and_file_that_is_named_is_there(text: str) -> None:
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.MULTILINE))
    assert named <= TARGETS
    for path in re.findall(r"\b((?:src|tools|tests|docs|\.ci)/[\w./-]*\w)", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\(([\w./-]+\.md)", text):
        assert ((DOCS if text is PAGE else ROOT) / path).exists(), path


def test_the_anchors_of_the_policy_are_there() -> None:
    headings = re.findall(r"^## (.*)$", (DOCS / "threat-model.md").read_text("utf-8"), re.MULTILINE)
    anchors = {one.lower().replace(" ", "-") for one in headings}
    found = set(re.findall(r"threat-model\.md#([\w-]+)", POLICY))
    assert len(found) == 2
    assert found <= anchors


def test_the_version_that_is_here_is_supported() -> None:
    series = asys.__version__.rpartition(".")[0]
    assert series in re.findall(r"^\| ([0-9.]+) \| yes \|$", POLICY, re.MULTILINE)


# -- the tool

DECLARATION = """\
NEW = Instruction(
    0x4A,
    "NEW",
    since="0.4.0",
)
"""
CHANGELOG = """\
# Changelog

## [Unreleased]

## [0.5.0] - 2027-02-28

### Added

- Something.

## [0.4.0] - 2027-01-31

- The first.
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One in which everything agrees."""
    (tmp_path / "src/asys/isa").mkdir(parents=True)
    (tmp_path / "src/asys/__init__.py").write_text('__version__ = "0.5.0"\n')
    (tmp_path / "src/asys/isa/new.py").write_text(DECLARATION)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "SECURITY.md").write_text("| 0.5 | yes |\n| 0.4 | until 2027-08-31 |\n")
    return tmp_path


def test_all_agree(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release_check.main([], checkout) == 0
    assert capsys.readouterr() == ("all agree\n", "")


@pytest.mark.parametrize(
    ("file", "was", "now", "fault"),
    [
        ("src/asys/__init__.py", "0.5.0", "0.5", "__version__ is '0.5'; a release is called like"),
        ("src/asys/__init__.py", "0.5.0", "0.5.0.dev1", "a release is called like 1.2.3"),
        ("src/asys/__init__.py", "0.5.0", "0.3.1", "0.3.1 does not come after asyd 0.3.1"),
        ("src/asys/__init__.py", "0.5.0", "0.6.0", "no row `| 0.6 | yes`; add it"),
        ("src/asys/__init__.py", "0.5.0", "0.6.0", "there is no `## [0.6.0] - YYYY-MM-DD`"),
        ("SECURITY.md", "0.5 | yes", "0.5 | no", "has no row `| 0.5 | yes`"),
        ("CHANGELOG.md", "## [Unreleased]\n", "", "the first heading is not `## [Unreleased]`"),
        ("CHANGELOG.md", "d]\n", "d]\n- More.\n", "Unreleased is not empty; move what is in it"),
        ("CHANGELOG.md", " - 2027-02-28", "", "0.5.0 has no date"),
        ("CHANGELOG.md", "2027-02-28", "2027-02-29", "0.5.0 has no date"),
        ("CHANGELOG.md", "### Added\n\n- Something.", "", "nothing stands below 0.5.0"),
        ("CHANGELOG.md", "[0.4.0]", "[0.5.0]", "the versions are not in order"),
        ("CHANGELOG.md", "[0.4.0]", "[0.10.0]", "the versions are not in order"),
        ("CHANGELOG.md", "[0.4.0]", "[first]", "the versions are not in order"),
        ("src/asys/isa/new.py", "0.4.0", "0.6.0", 'NEW (4A) has since="0.6.0"; write'),
        ("src/asys/isa/new.py", '    since="0.4.0",\n', "", 'NEW (4A) has since=""; write the'),
    ],
)
def test_what_does_not_agree_is_named(
    checkout: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    was: str,
    now: str,
    fault: str,
) -> None:
    path = checkout / file
    text = path.read_text()
    assert was in text
    path.write_text(text.replace(was, now, 1))
    assert release_check.main([], checkout) == 1
    assert fault in capsys.readouterr().err


def test_it_sees_every_declaration() -> None:
    texts = [path.read_text("utf-8") for path in (ROOT / "src/asys/isa").glob("*.py")]
    seen = {
        name for text in texts for _, name, since in release_check._SINCE.findall(text) if since
    }
    assert seen == {one.name for one in REGISTRY}


def git(root: Path, *words: str) -> None:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "tag.gpgSign=false")
    subprocess.run(
        ("git", "-C", str(root), *who, "-c", "commit.gpgSign=false", *words),
        check=True,
        capture_output=True,
    )


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_the_tag(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said() -> list[str]:
        status = release_check.main(["--tag"], checkout)
        lines = capsys.readouterr().err.splitlines()
        assert status == bool(lines)
        return lines

    git(checkout, "init", "--quiet")
    git(checkout, "add", ".")
    git(checkout, "commit", "--message", "asys 0.5.0")
    assert said() == ["this commit has no tag v0.5.0: git tag --sign v0.5.0 --message 'asys 0.5.0'"]
    git(checkout, "tag", "v0.5.0")
    [line] = said()
    assert line.startswith("v0.5.0 is no annotated tag")
    git(checkout, "tag", "--force", "--annotate", "v0.5.0", "--message", "asys 0.5.0")
    assert said() == []
    git(checkout, "tag", "vnext")
    git(checkout, "tag", "v0.4.9")
    assert said() == []
    git(checkout, "tag", "v0.10.0")
    assert said() == ["v0.10.0 is on the way to this commit already; 0.5.0 must be higher"]
    git(checkout, "tag", "--delete", "v0.10.0")
    (checkout / "left").touch()
    [line] = said()
    assert line.startswith("the checkout is not clean")
