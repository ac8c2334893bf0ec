"""A new vendor's package, from the template that lies beside this file (docs/vendors.md)."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Final

from asys.vendor.definition import VendorError, normal_domain

SUFFIX: Final = ".txt"
"""What the template's files have behind their names, so that nobody takes them for code."""

_PACKAGE_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


def default_package(domain: str) -> str:
    """The name of a Python package for a domain: `asys_` and its first label."""
    return "asys_" + domain.partition(".")[0].replace("-", "_")


def create(domain: str, directory: Path, package: str = "") -> list[Path]:
    """Writes the package into `directory`, which must be empty or not there; the files.

    VendorError: the domain or the package's name cannot be, or something is there already.
    OSError.
    """
    domain = normal_domain(domain)
    package = package or default_package(domain)
    if not _PACKAGE_NAME.fullmatch(package) or keyword.iskeyword(package):
        raise VendorError(f"{package!r} is no name for a package, such as asys_shop")
    if directory.exists() and any(directory.iterdir()):
        raise VendorError(f"{directory} is not empty; name another with --directory")
    words = {
        "@DOMAIN@": domain,
        "@TITLE@": f"Instructions of {domain}"[:80],
        "@PACKAGE@": package,
        "@DISTRIBUTION@": package.replace("_", "-"),
        "@CLASS@": "".join(map(str.capitalize, package.removeprefix("asys_").split("_"))),
    }
    written = []
    for name, text in _template(files("asys.vendor") / "template", PurePosixPath()):
        path = directory / str(name).replace("PACKAGE", package)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_filled(text, words), encoding="utf-8")
        written.append(path)
    return written


def _template(place: Traversable, name: PurePosixPath) -> list[tuple[PurePosixPath, str]]:
    found = []
    for one in sorted(place.iterdir(), key=lambda entry: entry.name):
        if one.is_dir():
            found += _template(one, name / one.name)
        elif one.name.endswith(SUFFIX):
            text = one.read_text(encoding="utf-8")
            found.append((name / one.name.removesuffix(SUFFIX), text))
    return found


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text
