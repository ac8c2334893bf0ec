"""What `make sbom` makes: the same bytes anywhere, and documents that say what is in them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

import asys
from support.built import NAME, ROOT, build

pytestmark = pytest.mark.root

LARGEST = 40 << 20
"""Bytes that the executable may have."""


@pytest.fixture
def document(built: Path) -> Any:
    """The SBOM of the executable."""
    return json.loads((built / f"{NAME}.cdx.json").read_bytes())


def parts(document: Any) -> dict[str, Any]:
    """What a document lists, by name and version."""
    return {
        f"{one['name']} {one.get('version', '')}".strip(): one for one in document["components"]
    }


def test_the_same_sources_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "another directory, with a longer name"
    elsewhere.mkdir()
    again = build(elsewhere, umask=0o077, TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="7")
    for path in sorted(built.iterdir()):
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name
    assert len(list(built.iterdir())) == 5


def test_what_it_weighs_and_where_it_was_built(built: Path) -> None:
    data = (built / NAME).read_bytes()
    assert len(data) < LARGEST
    for place in (built.parent, ROOT):
        assert str(place).encode() not in data


@pytest.mark.parametrize("pattern", [f"{NAME}.cdx.json", "asys-*.whl.cdx.json"])
def test_the_documents_hold_by_the_schema(built: Path, pattern: str) -> None:
    [path] = built.glob(pattern)
    text = path.read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    of = built / path.name.removesuffix(".cdx.json")
    whole = json.loads(text)["metadata"]["component"]
    assert whole["version"] == asys.__version__
    assert whole["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert whole["hashes"][0]["content"] == hashlib.sha256(of.read_bytes()).hexdigest()


def test_every_package_is_listed_with_version_licence_and_hash(built: Path, document: Any) -> None:
    listed = parts(document)
    with zipfile.ZipFile(built / NAME) as archive:
        names = archive.namelist()
    found = {one.split("/")[0] for one in names if ".dist-info/" in one}
    assert len(found) > 8
    for one in found:
        name, _, version = one.removesuffix(".dist-info").rpartition("-")
        part = listed[f"{name.lower().replace('_', '-')} {version}"]
        assert part["licenses"]
        assert part["purl"].startswith("pkg:pypi/")
        locked = (ROOT / "packaging/binary/requirements.txt").read_text()
        assert name == "asys" or part["hashes"][0]["content"] in locked


def test_what_asyd_and_asys_require_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    required = {
        Requirement(one).name
        for one in (*project["dependencies"], *extras["daemon"], *extras["cli"])
    }
    pinned = (ROOT / "packaging/binary/requirements.txt").read_text().splitlines()
    assert required <= {one.partition("==")[0] for one in pinned}


def test_the_interpreter_and_every_library_are_listed(built: Path, document: Any) -> None:
    listed = parts(document)
    files = {
        one["value"]
        for part in listed.values()
        for one in part.get("properties", ())
        if one["name"] == "asys:file"
    }
    with zipfile.ZipFile(built / NAME) as archive:
        names = archive.namelist()
    for one in names:
        if one.startswith("lib/"):
            assert any(name.startswith(one.removeprefix("lib/")) for name in files), one
        if one.endswith(".so") and "/" not in one and "cffi" not in one:
            assert one.replace(".so", ".cpython-311-x86_64-linux-gnu.so") in files
    code = "import platform; print(platform.python_version())"
    version = subprocess.run(
        ["/usr/bin/python3.11", "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert listed[f"cpython {version}"]["licenses"] == [{"license": {"id": "PSF-2.0"}}]


def test_what_packages_have_linked_into_them_is_listed(
    built: Path, document: Any, tmp_path: Path
) -> None:
    """As they say themselves when they are asked."""
    wheels = built.parent / "build/binary/wheels"
    for path in (*wheels.glob("cryptography-*"), *wheels.glob("uvloop-*"), *wheels.glob("cffi-*")):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from cryptography.hazmat.backends.openssl import backend\n"
        "from uvloop.loop import libuv_get_version\n"
        "number = libuv_get_version()\n"
        "print(backend.openssl_version_text().split()[1])\n"
        "print(number >> 16, number >> 8 & 255, number & 255, sep='.')\n"
    )
    done = subprocess.run(
        ["/usr/bin/python3.11", "-I", "-c", code], check=True, capture_output=True, text=True
    )
    openssl, libuv = done.stdout.split()
    listed = parts(document)
    assert listed[f"openssl {openssl}"]["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert listed[f"libuv {libuv}"]["licenses"] == [{"license": {"id": "MIT"}}]
    needs = {one["ref"]: one.get("dependsOn", []) for one in document["dependencies"]}
    cryptography = next(one for one in needs if one.startswith("pkg:pypi/cryptography@"))
    assert any("openssl" in one for one in needs[cryptography])
