"""Says whether what a release names its version in agrees; docs/releasing.md says when to run it.

    release_check.py             version, changelog, SECURITY.md and declarations
    release_check.py --tag       the tag, too, in a clean checkout of it

Exit status 0: they agree. 1: each thing that does not is a line, with what to do about it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

OLDER: Final = (0, 3, 1)
"""asyd 0.3.1 is another program under the same name; a release must come after it."""

_VERSION: Final = re.compile(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)")
_DECLARED: Final = re.compile(r'^__version__ = "([^"]*)"$', re.MULTILINE)
_HEADING: Final = re.compile(r"^## \[([^\]]*)\](?: - (\S+))?$", re.MULTILINE)
_SINCE: Final = re.compile(
    r'^    0x(..),\n    "([A-Z_]+)",\n(?:    since="([^"]*)",\n)?', re.MULTILINE
)
_ROW: Final = re.compile(r"^\| ([0-9]+\.[0-9]+) \| yes", re.MULTILINE)


def parse(version: str) -> tuple[int, ...] | None:
    """1.2.3 as numbers; None for anything else."""
    found = _VERSION.fullmatch(version)
    return tuple(map(int, found.groups())) if found else None


def faults(root: Path) -> Iterator[str]:
    """What does not agree in the files of a checkout."""
    found = _DECLARED.search(_text(root, "src/asys/__init__.py"))
    version = found[1] if found else ""
    numbers = parse(version)
    if numbers is None:
        yield f"src/asys/__init__.py: __version__ is {version!r}; a release is called like 1.2.3"
        return
    if numbers <= OLDER:
        yield (
            f"src/asys/__init__.py: {version} does not come after asyd {_written(OLDER)}, so "
            "package managers would not upgrade to it; take a higher one"
        )
    yield from _changelog(_text(root, "CHANGELOG.md"), version)
    series = ".".join(version.split(".")[:2])
    if series not in _ROW.findall(_text(root, "SECURITY.md")):
        yield f"SECURITY.md: the table of supported versions has no row `| {series} | yes`; add it"
    for path in sorted((root / "src/asys/isa").glob("*.py")):
        for code, name, since in _SINCE.findall(path.read_text("utf-8")):
            began = parse(since)
            if began is None or began > numbers:
                yield (
                    f'{path.relative_to(root)}: {name} ({code}) has since="{since}"; write the '
                    f'version that brings it, since="{version}"'
                )


def _changelog(text: str, version: str) -> Iterator[str]:
    headings = list(_HEADING.finditer(text))
    names = [one[1] for one in headings]
    if names[:1] != ["Unreleased"]:
        yield "CHANGELOG.md: the first heading is not `## [Unreleased]`; it stays there, empty"
        return
    end = headings[1].start() if len(headings) > 1 else len(text)
    if text[headings[0].end() : end].strip():
        yield f"CHANGELOG.md: Unreleased is not empty; move what is in it below {version}"
    if names[1:2] != [version]:
        yield f"CHANGELOG.md: behind Unreleased there is no `## [{version}] - YYYY-MM-DD`; add it"
        return
    end = headings[2].start() if len(headings) > 2 else len(text)
    if not text[headings[1].end() : end].strip():
        yield f"CHANGELOG.md: nothing stands below {version}; say what is new"
    try:
        date.fromisoformat(headings[1][2] or "")
    except ValueError:
        yield f"CHANGELOG.md: {version} has no date; write `## [{version}] - YYYY-MM-DD`"
    order = [parse(name) for name in names[1:]]
    known = [one for one in order if one is not None]
    if known != order or any(late <= early for late, early in pairwise(known)):
        yield "CHANGELOG.md: the versions are not in order, the newest first, each once"


def tag_faults(root: Path) -> Iterator[str]:
    """What is wrong with the tag of the commit that is checked out."""
    found = _DECLARED.search(_text(root, "src/asys/__init__.py"))
    version = found[1] if found else ""
    tag = f"v{version}"
    if _git(root, "status", "--porcelain"):
        yield "the checkout is not clean; commit what belongs to the release, remove the rest"
    if tag not in _git(root, "tag", "--points-at", "HEAD").split():
        yield f"this commit has no tag {tag}: git tag --sign {tag} --message 'asys {version}'"
    elif _git(root, "cat-file", "-t", tag).strip() != "tag":
        yield f"{tag} is no annotated tag; make it again: git tag --force --sign {tag}"
    mine = parse(version) or ()
    before = [one[1:] for one in _git(root, "tag", "--merged", "HEAD", "--list", "v*").split()]
    higher = [one for one in before if (numbers := parse(one)) is not None and numbers > mine]
    if higher:
        there = ", ".join(f"v{one}" for one in higher)
        yield f"{there} is on the way to this commit already; {version} must be higher"


def _git(root: Path, *words: str) -> str:
    return subprocess.run(  # noqa: S603
        ("git", "-C", str(root), *words),  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def _text(root: Path, name: str) -> str:
    return (root / name).read_text("utf-8")


def _written(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Prints what does not agree; the exit status."""
    parser = argparse.ArgumentParser(description="Say whether a release agrees with itself.")
    parser.add_argument("--tag", action="store_true", help="look at the tag of this commit, too")
    arguments = parser.parse_args(argv)
    found = [*faults(root), *(tag_faults(root) if arguments.tag else ())]
    for one in found:
        print(one, file=sys.stderr)
    if not found:
        print("all agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
