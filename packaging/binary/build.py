"""Builds asyd as one file: build.py WHEELS OUT, as `make binary` runs it.

WHEELS is a directory with the wheel of asys and those of requirements.txt. OUT becomes the
executable, and OUT.contents.json says of what it is made, for sbom.py. Debian's Python runs it: its
standard library is what goes in.

The same sources give the same bytes: entries are sorted, their time is SOURCE_DATE_EPOCH, bytecode
is of the unchecked kind, and no path of the build is in it.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent

LEFT_OUT: Final = frozenset(
    {
        *("__pycache__", "config-3.11-x86_64-linux-gnu", "dist-packages", "distutils", "ensurepip"),
        *("idlelib", "lib-dynload", "lib2to3", "msilib", "pydoc_data", "site-packages"),
        *("sitecustomize.py", "sqlite3", "test", "tests", "tkinter", "turtle.py", "turtledemo"),
        "venv",
    }
)
"""Of the standard library: what nobody imports here, and what needs a library for it."""

NOT_FROM_WHEELS: Final = (".dist-info/RECORD", ".dist-info/WHEEL", ".pyi", ".pyx", ".pxd", ".pxi")
"""Of packages: what only installers and compilers read."""

DYNAMIC: Final = (
    *("_asyncio", "_contextvars", "_ctypes", "_decimal", "_hashlib", "_json", "_multibytecodec"),
    *("_multiprocessing", "_posixshmem", "_queue", "_ssl", "_typing", "_zoneinfo"),
    *("mmap", "resource", "termios"),
)
"""Extension modules of the standard library that are files of their own."""

GLIBC: Final = frozenset(
    {
        *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"),
        "ld-linux-x86-64.so.2",
    }
)
"""Libraries that the machine has; all others are in the archive."""

STATIC: Final = ("libz.a", "libexpat.a")
"""Libraries that the interpreter needs, linked into it."""

_UNCHECKED: Final = 1
"""The flags of bytecode that names its source by a hash that nobody compares."""

_SONAME: Final = re.compile(r"\((NEEDED|SONAME)\).*\[(.*)\]")
_EXTENSION: Final = re.compile(r"(.*?)(\.cpython-311-x86_64-linux-gnu|\.abi3)?\.so")

Entries = dict[str, bytes]
Add = Callable[[Entries, str, bytes], None]


def output(*command: str | Path) -> str:
    """What a command prints. CalledProcessError."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


# -- what goes in


def compiled(source: bytes, name: str) -> bytes:
    """A module as bytecode that is never compared with its source."""
    code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    return MAGIC_NUMBER + _UNCHECKED.to_bytes(4, "little") + bytes(8) + marshal.dumps(code)


def add(entries: Entries, name: str, data: bytes) -> None:
    """Adds a file; modules as bytecode alone."""
    if name.endswith(".py"):
        entries[f"{name}c"] = compiled(data, name)
    else:
        entries[name] = data


def standard_library(entries: Entries) -> None:
    """The modules in Python."""
    root = Path(sysconfig.get_path("stdlib"))
    for directory, directories, names in os.walk(root):
        directories[:] = sorted(set(directories) - LEFT_OUT)
        for name in sorted(set(names) - LEFT_OUT):
            path = Path(directory, name)
            if name.endswith(".py"):
                add(entries, str(path.relative_to(root)), path.read_bytes())


def wheel(entries: Entries, path: Path, add: Add = add) -> dict[str, Any]:
    """Adds what is in a wheel, but for what installers alone read; who it is."""
    metadata = ""
    sboms = []
    with zipfile.ZipFile(path) as archive:
        for name in sorted(one for one in archive.namelist() if not one.endswith("/")):
            data = archive.read(name)
            if name.endswith(".dist-info/METADATA"):
                metadata = data.decode()
            if ".dist-info/sboms/" in name:
                sboms.append(json.loads(data))
            elif not name.endswith(NOT_FROM_WHEELS):
                add(entries, name, data)
    return {
        "kind": "wheel",
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "metadata": metadata,
        "sboms": sboms,
    }


# -- what is in C


def dynamic(path: Path, there: frozenset[str] = GLIBC) -> tuple[str, list[str]]:
    """The soname of a shared library, and those that it needs and that are not there anyway."""
    found = _SONAME.findall(output("readelf", "--dynamic", path))
    soname = next((name for kind, name in found if kind == "SONAME"), "")
    return soname, [name for kind, name in found if kind == "NEEDED" and name not in there]


def stripped(path: Path, scratch: Path) -> bytes:
    """A shared library without what only debuggers read."""
    target = scratch / "stripped.so"
    output("strip", "--strip-unneeded", "-o", target, path)
    return target.read_bytes()


def system_library(soname: str) -> Path:
    """Where Debian has a library. FileNotFoundError."""
    for directory in ("/lib", "/usr/lib"):
        path = Path(directory, "x86_64-linux-gnu", soname)
        if path.exists():
            return path.resolve()
    raise FileNotFoundError(f"{soname}: no package of those that README.md lists has it")


def extensions(entries: Entries, scratch: Path) -> list[Path]:
    """Strips what is in C, adds what it needs, and lists it for boot.py; the system's files."""
    of_system = {
        one: Path(sysconfig.get_path("stdlib"), "lib-dynload", f"{one}.{_SUFFIX}")
        for one in DYNAMIC
    }
    for one, path in of_system.items():
        entries[f"{one}.so"] = path.read_bytes()
    modules: dict[str, tuple[str, list[str]]] = {}
    libraries: dict[str, tuple[str, list[str]]] = {}
    missing: list[str] = []
    for entry in sorted(entries):
        if entry.endswith(".so") and (found := _EXTENSION.fullmatch(entry)):
            path = scratch / "library.so"
            path.write_bytes(entries[entry])
            needed = dynamic(path)[1]
            entries[entry] = stripped(path, scratch)
            modules[found[1].replace("/", ".")] = (entry, needed)
            missing += needed
    used = list(of_system.values())
    while missing:
        soname = missing.pop()
        if soname not in libraries:
            path = system_library(soname)
            used.append(path)
            libraries[soname] = (f"lib/{soname}", dynamic(path)[1])
            entries[f"lib/{soname}"] = stripped(path, scratch)
            missing += libraries[soname][1]
    text = f"EXTENSIONS = {modules!r}\nLIBRARIES = {dict(sorted(libraries.items()))!r}\n"
    add(entries, "asys_contents.py", text.encode())
    return used


_SUFFIX: Final = str(sysconfig.get_config_var("EXT_SUFFIX")).removeprefix(".")


def launcher(scratch: Path) -> bytes:
    """The interpreter with launcher.c in front of it."""
    config = Path(sysconfig.get_config_var("LIBPL"))
    target = scratch / "launcher"
    output(
        *("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIE", "-pie", "-fstack-protector-strong"),
        *("-D_FORTIFY_SOURCE=2", f"-ffile-prefix-map={HERE}=."),
        *("-isystem", sysconfig.get_path("include"), "-o", target, HERE / "launcher.c"),
        *("-Wl,--whole-archive", config / "libpython3.11-pic.a", "-Wl,--no-whole-archive"),
        *(f"-l:{one}" for one in STATIC),
        *("-lm", "-Wl,--export-dynamic", f"-Wl,--exclude-libs={':'.join(STATIC)}"),
        *("-Wl,-z,relro,-z,now", "-Wl,--build-id=none", "-s"),
    )
    return target.read_bytes()


# -- what it is made of


def packages(files: list[Path]) -> Iterator[dict[str, Any]]:
    """The Debian packages that files are from."""
    # What was packaged before /lib became a link is listed there.
    places = sorted({str(path).removeprefix("/usr") for path in files})
    command = ("dpkg-query", "--search", *places, *(f"/usr{one}" for one in places))
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    owners: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        owner, _, path = line.partition(": ")
        owners.setdefault(owner.split(":")[0], []).append(os.path.basename(path))
    unknown = {os.path.basename(one) for one in places}.difference(*owners.values())
    if unknown:
        raise FileNotFoundError(f"no package of Debian's has {', '.join(sorted(unknown))}")
    for name, names in sorted(owners.items()):
        shown = output("dpkg-query", "--show", "-f", "${Version} ${source:Package}\n", name)
        version, source = shown.splitlines()[0].split()
        yield {
            "kind": "deb",
            "name": name,
            "version": version,
            "source": source,
            "files": sorted(names),
            "copyright": Path("/usr/share/doc", name, "copyright").read_text(encoding="utf-8"),
        }


def libuv(wheels: Path, scratch: Path) -> dict[str, Any]:
    """The library that is linked into uvloop, by what it says itself."""
    for path in wheels.glob("uvloop-*.whl"):
        with zipfile.ZipFile(path) as inside:
            inside.extractall(scratch / "uvloop")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import uvloop.loop as loop; "
    code += "print(loop.libuv_get_version())"
    number = int(output(sys.executable, "-I", "-c", code, scratch / "uvloop"))
    version = f"{number >> 16}.{number >> 8 & 0xFF}.{number & 0xFF}"
    return {"kind": "bundled", "name": "libuv", "version": version, "in": "uvloop"}


def archive(entries: Entries, target: Path, when: int) -> None:
    """The zip archive, in the order of the names."""
    date = max(time.gmtime(when)[:6], (1980, 1, 1, 0, 0, 0))
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as into:
        for name, data in sorted(entries.items()):
            info = zipfile.ZipInfo(name, date)
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            into.writestr(info, data)


def build(wheels: Path, out: Path, when: int) -> None:
    """Writes the executable, and beside it what it is made of."""
    entries: Entries = {}
    standard_library(entries)
    contents = [wheel(entries, path) for path in sorted(wheels.glob("*.whl"))]
    add(entries, "asys_boot.py", (HERE / "boot.py").read_bytes())
    with tempfile.TemporaryDirectory() as scratch:
        used = extensions(entries, Path(scratch))
        program = launcher(Path(scratch))
        parts = Path(scratch, "archive.zip")
        libraries = [Path(sysconfig.get_config_var("LIBPL"), "libpython3.11-pic.a")]
        libraries += [Path("/usr/lib/x86_64-linux-gnu", one) for one in STATIC]
        libraries.append(Path(sysconfig.get_path("stdlib"), "asyncio", "__init__.py"))
        libraries.append(Path(sysconfig.get_path("stdlib"), "os.py"))
        contents += packages([*used, *libraries])
        for one in contents:
            if one["kind"] == "deb":
                add(entries, f"licenses/{one['name']}", one.pop("copyright").encode())
        contents.append(libuv(wheels, Path(scratch)))
        archive(entries, parts, when)
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_suffix(".new")
        temporary.write_bytes(program + parts.read_bytes())
    temporary.chmod(0o755)
    described = {"python": sys.version.split()[0], "contents": contents}
    out.with_name(f"{out.name}.contents.json").write_text(json.dumps(described, indent=1) + "\n")
    temporary.replace(out)


if __name__ == "__main__":
    if sys.version_info[:2] != (3, 11) or sys.flags.hash_randomization:
        sys.exit("build.py runs as: PYTHONHASHSEED=0 /usr/bin/python3.11 build.py WHEELS OUT")
    build(Path(sys.argv[1]), Path(sys.argv[2]), int(os.environ["SOURCE_DATE_EPOCH"]))
