"""What `make deb` makes: the same bytes anywhere, with nothing that does not belong there."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import subprocess
import sys
import tarfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import asys
from support.built import ROOT, build

LARGEST = 12 << 20
"""Bytes that the package may have."""

SITE = "./usr/lib/asys/lib/python3.11/site-packages"


@pytest.fixture
def package(packaged: Path) -> Path:
    """The package."""
    [path] = packaged.glob("*.deb")
    return path


@pytest.fixture
def members(package: Path) -> list[tarfile.TarInfo]:
    """The files in it."""
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        return archive.getmembers()


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program that builds it."""
    monkeypatch.syspath_prepend(str(ROOT / "packaging/binary"))
    monkeypatch.syspath_prepend(str(ROOT / "packaging/debian"))
    before = set(sys.modules)
    yield importlib.import_module("package")
    for name in ("package", "build"):
        if name not in before:
            sys.modules.pop(name)


def control(package: Path, directory: Path) -> dict[str, str]:
    """What dpkg reads of it, by name."""
    subprocess.run(["dpkg-deb", "--control", package, directory], check=True)
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_the_same_sources_give_the_same_bytes(packaged: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "another directory, with a longer name"
    elsewhere.mkdir()
    again = build(elsewhere, "deb", 0o077, TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="7")
    made = sorted(packaged.iterdir())
    assert [path.suffix for path in made] == [".deb", ".json", ".json", ".whl"]
    for path in made:
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


def test_whose_files_they_are_and_where(package: Path, members: list[tarfile.TarInfo]) -> None:
    assert package.stat().st_size < LARGEST
    for one in members:
        assert (one.uid, one.gid, one.mtime) == (0, 0, 1_700_000_000), one.name
        if not one.issym():
            executable = one.isdir() or one.name.startswith("./usr/bin/")
            assert one.mode == (0o755 if executable else 0o644), one.name
    assert not [one.name for one in members if one.name.startswith(("./etc/asyd", "./usr/local"))]


def test_each_module_has_its_bytecode(members: list[tarfile.TarInfo]) -> None:
    names = {one.name for one in members}
    modules = [one for one in names if one.startswith(SITE) and one.endswith(".py")]
    assert len(modules) > 500
    for one in modules:
        directory, _, name = one.rpartition("/")
        assert f"{directory}/__pycache__/{name[:-3]}.cpython-311.pyc" in names


def test_what_dpkg_is_told(package: Path, packaged: Path, tmp_path: Path) -> None:
    told = control(package, tmp_path / "control")
    fields = dict(line.split(": ", 1) for line in told["control"].splitlines() if line[0] != " ")
    assert package.name == f"asyd_{asys.__version__}-1_amd64.deb"
    assert (fields["Package"], fields["Version"]) == ("asyd", f"{asys.__version__}-1")
    assert "python3.11 (>= 3.11.2)" in fields["Depends"]
    assert "libc6 (>= 2.34)" in fields["Depends"]
    assert set(told["conffiles"].split()) <= {"/etc/default/asyd", "/etc/default/asyd-monitor"}
    assert {"postinst", "prerm", "postrm", "md5sums"} < set(told)
    assert "@" not in told["postrm"].replace('"$@"', "")
    for path in (str(packaged.parent), str(ROOT)):
        assert not [name for name, text in told.items() if path in text]


def test_the_sbom_lists_what_is_in_it(package: Path, members: list[tarfile.TarInfo]) -> None:
    text = Path(f"{package}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document: Any = json.loads(text)
    whole = document["metadata"]["component"]
    assert whole["hashes"][0]["content"] == hashlib.sha256(package.read_bytes()).hexdigest()
    assert whole["purl"].startswith(f"pkg:deb/asyd@{asys.__version__}-1?")
    listed = {f"{one['name']} {one.get('version', '')}" for one in document["components"]}
    found = {one.name.split("/")[7] for one in members if ".dist-info/" in one.name}
    assert len(found) > 8
    for one in found:
        name, _, version = one.removesuffix(".dist-info").rpartition("-")
        assert f"{name.lower().replace('_', '-')} {version}" in listed
    assert {one.partition(" ")[0] for one in listed} >= {"openssl", "libuv", "h11"}
    assert not [one for one in listed if one.startswith("cpython ")]


def test_versions_sort_as_they_follow_each_other(builder: Any) -> None:
    following = ["0.2.0.dev1", "0.2.0a1", "0.2.0b2", "0.2.0rc1", "0.2.0", "0.2.0.post1", "0.2.1"]
    for earlier, later in pairwise(map(builder.debian, following)):
        command = ["dpkg", "--compare-versions", earlier, "lt", later]
        assert subprocess.run(command, check=False).returncode == 0, (earlier, later)
    assert builder.debian("0.2.0") == "0.2.0"


def test_a_library_of_no_known_package_is_a_fault(builder: Any) -> None:
    assert builder.dependencies(set(builder.LIBRARIES), "2.34") == (
        "python3.11 (>= 3.11.2), libc6 (>= 2.34), libgcc-s1 (>= 4.2)"
    )
    with pytest.raises(KeyError, match="libssl"):
        builder.dependencies({"libssl.so.3"}, "2.34")
