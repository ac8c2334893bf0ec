"""Builds the Debian package of asyd: package.py WHEELS DIRECTORY REVISION, as `make deb` runs it.

WHEELS is a directory with the wheel of asys and those of packaging/binary/requirements.txt. The
package, asyd_VERSION-REVISION_amd64.deb, is written to DIRECTORY, and beside it what it is made of,
for sbom.py. Debian's Python runs it, the one for which it compiles.

The same sources give the same bytes: the time of all files is SOURCE_DATE_EPOCH, bytecode is of the
unchecked kind, all belongs to root, and no path of the build is in it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
import re
import sys
import tempfile
from email.message import Message
from email.parser import Parser
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final

from build import Entries, compiled, dynamic, libuv, output, stripped, wheel

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
UNITS: Final = ROOT / "packaging" / "systemd"

NAME: Final = "asyd"
MAINTAINER: Final = "ASys maintainers <asys@asys.invalid>"

HOME: Final = "usr/lib/asys"
"""A virtual environment without pip: what runs in it sees its packages and the standard library."""

PYTHON: Final = f"/{HOME}/bin/python"
PACKAGES: Final = f"{HOME}/lib/python3.11/site-packages"

VENDORS: Final = "/usr/local/lib/asyd-vendors"
"""Where an admin puts vendors' packages: never in a directory of dpkg's."""

LIBRARIES: Final = {
    "libgcc_s.so.1": "libgcc-s1 (>= 4.2)",
    **dict.fromkeys(
        ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"), "libc6"
    ),
    "ld-linux-x86-64.so.2": "libc6",
}
"""The package of Debian that has a library which something in C needs."""

COMMANDS: Final = {"asyd": ("asys.cli.daemon", 8), "asys": ("asys.cli.agent", 1)}
"""The module of each command, and the section of its manual page."""

MODES: Final = {"usr/bin/": 0o755, "DEBIAN/p": 0o755}
"""Of files whose names begin so; all others are 0644."""

DIRECTORY: Final = re.compile(
    r"^(State|Cache|Logs|Configuration)Directory=([a-z][a-z0-9-]*)", re.MULTILINE
)
PLACES: Final = {
    "State": ("/var/lib", "/var/lib/private"),
    "Cache": ("/var/cache", "/var/cache/private"),
    "Logs": ("/var/log", "/var/log/private"),
    "Configuration": ("/etc",),
}
"""Where systemd makes the directories that a unit asks for, also for a user of the moment."""

DEFAULT: Final = re.compile(r"^EnvironmentFile=-?/(etc/default/([a-z-]+))$", re.MULTILINE)
"""A file with which an admin gives asyd options, and its name."""


# -- packages


def add(entries: Entries, name: str, data: bytes) -> None:
    """Adds a file of a package; modules with their bytecode, for root alone could add that."""
    entries[f"{PACKAGES}/{name}"] = data
    if name.endswith(".py"):
        directory, _, module = f"{PACKAGES}/{name}".rpartition("/")
        cached = f"{directory}/__pycache__/{module[:-3]}.cpython-311.pyc"
        entries[cached] = compiled(data, f"/{PACKAGES}/{name}")


def strip(entries: Entries, scratch: Path) -> set[str]:
    """Strips what is in C; the sonames of what it needs."""
    needed: set[str] = set()
    for name in sorted(entries):
        if name.endswith(".so"):
            path = scratch / "library.so"
            path.write_bytes(entries[name])
            needed.update(dynamic(path, frozenset())[1])
            entries[name] = stripped(path, scratch)
    return needed


def dependencies(sonames: set[str], glibc: str) -> str:
    """What the package depends on. KeyError for a library of which nothing is known here."""
    packages = {LIBRARIES[one] for one in sonames}
    packages = {f"libc6 (>= {glibc})" if one == "libc6" else one for one in packages}
    return ", ".join(["python3.11 (>= 3.11.2)", *sorted(packages)])


def newest_glibc(wheels: Path) -> str:
    """The C library that the most demanding of the wheels says that it needs."""
    found = re.findall(r"manylinux_2_(\d+)_", " ".join(one.name for one in wheels.glob("*.whl")))
    return f"2.{max(map(int, found))}"


# -- what is written about it


def debian(version: str) -> str:
    """A version of Python's as one of Debian's, which sorts before what it leads to."""
    version = re.sub(r"\.?dev(\d+)", r"~~dev\1", version)
    return re.sub(r"(a|b|rc)(\d+)", r"~\1\2", version).replace(".post", "+post")


def licences(contents: list[dict[str, Any]], entries: Entries) -> str:
    """The copyright file: whose work is in it, and under which licence."""
    text = [
        "This package has asyd and asys, and the packages of Python's index that they need, as",
        "their authors have published them; what is in C is stripped.",
        "",
        "On Debian systems the text of the Apache License, Version 2.0, is in",
        "/usr/share/common-licenses/Apache-2.0.",
    ]
    for one in contents:
        metadata = Parser().parsestr(one["metadata"])
        name, version = metadata["Name"], metadata["Version"]
        text += ["", "-" * 78, f"{name} {version}", f"Licence: {said(metadata)}"]
        text += [f"Source: https://pypi.org/project/{name}/{version}/"] if name != "asys" else []
        prefix = f"{PACKAGES}/{re.sub('[-.]+', '_', name)}-{version}.dist-info/".lower()
        found = [one for one in entries if one.lower().startswith(prefix) and "LICENSE" in one]
        if not found:
            raise FileNotFoundError(f"{name} has no licence in it")
        for path in sorted(found):
            licence = entries[path].decode()
            if "www.apache.org/licenses" not in licence:
                text += ["", licence.strip()]
    return "\n".join([*text, ""])


def said(metadata: Message) -> str:
    """What a package says of its licence."""
    found = [one for one in metadata.get_all("Classifier", []) if one.startswith("License ::")]
    spoken = metadata["License-Expression"] or metadata["License"]
    return str(spoken or ", ".join(one.rpartition(" :: ")[2] for one in found))


def manual(tree: Path, command: str, version: str, when: int) -> bytes:
    """A page for man: what the command says of itself."""
    module, section = COMMANDS[command]
    code = (
        f"import sys; sys.path.insert(0, {str(tree / PACKAGES)!r})\n"
        f"import {module} as command; command.main(['--help'])"
    )
    told = output("env", "COLUMNS=78", "LC_ALL=C.UTF-8", sys.executable, "-I", "-B", "-c", code)
    purpose = told.partition("\n\n")[2].partition(":")[0].replace("\n", " ").strip().rstrip(".")
    escaped = told.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    lines = "\n".join(f"\\&{line}" if line[:1] in ".'" else line for line in escaped.splitlines())
    date = formatdate(when)[5:16]
    page = (
        f'.TH {command.upper()} {section} "{date}" "asys {version}"\n'
        f".SH NAME\n{command} \\- {purpose}\n.SH DESCRIPTION\n.nf\n{lines}\n.fi\n"
        f".SH SEE ALSO\n.B {command}\n.I COMMAND\n.B \\-\\-help\n"
    )
    return page.encode()


def documents(entries: Entries, package: str, version: str, when: int) -> None:
    """Both changelogs, and what lintian should not say."""
    of_debian = (
        f"{NAME} ({package}) bookworm; urgency=medium\n\n  * asyd {version}.\n\n"
        f" -- {MAINTAINER}  {formatdate(when)}\n"
    )
    changes = (ROOT / "CHANGELOG.md").read_bytes()
    place = f"usr/share/doc/{NAME}"
    entries[f"{place}/changelog.Debian.gz"] = packed(of_debian.encode())
    entries[f"{place}/changelog.gz"] = packed(changes)
    entries[f"usr/share/lintian/overrides/{NAME}"] = (HERE / "lintian-overrides").read_bytes()


def packed(data: bytes) -> bytes:
    """As gzip packs it, without a time."""
    return gzip.compress(data, 9, mtime=0)


# -- the package


def commands(entries: Entries) -> None:
    """The virtual environment, and what starts asyd and asys in it."""
    entries[f"{HOME}/pyvenv.cfg"] = (
        b"home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n"
    )
    entries[f"{PACKAGES}/vendors.pth"] = f"{VENDORS}\n".encode()
    for name, (module, _) in COMMANDS.items():
        # Isolated: nothing of the caller's environment or directory gets in.
        text = f"#!{PYTHON} -I\nimport sys\n\nfrom {module} import main\n\nsys.exit(main())\n"
        entries[f"usr/bin/{name}"] = text.encode()


def control(entries: Entries, package: str, depends: str) -> None:
    """What dpkg reads."""
    directories = {"/var/lib/asyd", "/etc/asyd"}
    kept: list[str] = []
    for path in sorted(UNITS.glob("*.service")):
        entries[f"usr/lib/systemd/system/{path.name}"] = path.read_bytes()
        for kind, name in DIRECTORY.findall(path.read_text()):
            directories.update(f"{place}/{name}" for place in PLACES[kind])
        for place, name in DEFAULT.findall(path.read_text()):
            text = (HERE / "default").read_text().replace("@UNIT@", name)
            entries[place] = text.encode()
            kept.append(f"/{place}\n")
    sizes = [-(-len(data) // 1024) for data in entries.values()]
    fields = {
        "Package": NAME,
        "Version": package,
        "Architecture": "amd64",
        "Maintainer": MAINTAINER,
        "Installed-Size": str(sum(sizes) + len(parents(entries))),
        "Depends": depends,
        "Section": "admin",
        "Priority": "optional",
    }
    text = "".join(f"{name}: {value}\n" for name, value in fields.items())
    entries["DEBIAN/control"] = (text + (HERE / "description").read_text()).encode()
    sums = (
        f"{hashlib.md5(data).hexdigest()}  {name}\n"  # noqa: S324  it is what dpkg --verify reads
        for name, data in sorted(entries.items())
        if not name.startswith(("DEBIAN/", "etc/"))
    )
    entries["DEBIAN/conffiles"] = "".join(kept).encode()
    entries["DEBIAN/md5sums"] = "".join(sums).encode()
    for name in ("postinst", "prerm", "postrm"):
        script = (HERE / name).read_text()
        entries[f"DEBIAN/{name}"] = script.replace(
            "@DIRECTORIES@", " ".join(sorted(directories))
        ).encode()


def parents(entries: Entries) -> set[Path]:
    """All directories of a package."""
    return {parent for name in entries for parent in Path(name).parents}


def write(tree: Path, entries: Entries) -> None:
    """Writes what has been added so far, whatever umask says."""
    for name, data in entries.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        mode = next((mode for start, mode in MODES.items() if name.startswith(start)), 0o644)
        path.chmod(mode)


def settle(tree: Path, when: int) -> None:
    """Gives directories their mode, and all that is there its time."""
    for directory, _, names in os.walk(tree, topdown=False):
        for name in names:
            os.utime(Path(directory, name), (when, when), follow_symlinks=False)
        os.chmod(directory, 0o755)  # noqa: S103  all may read what is in the package
        os.utime(directory, (when, when))


def build(wheels: Path, directory: Path, revision: str, when: int) -> None:
    """Writes the package, and beside it what it is made of."""
    entries: Entries = {}
    contents = [wheel(entries, path, add) for path in sorted(wheels.glob("*.whl"))]
    [asys] = [path.name for path in wheels.glob("asys-*.whl")]
    version = asys.split("-")[1]
    package = f"{debian(version)}-{revision}"
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch, "tree")
        depends = dependencies(strip(entries, Path(scratch)), newest_glibc(wheels))
        commands(entries)
        copyright = licences(contents, entries)
        entries[f"usr/share/doc/{NAME}/copyright"] = copyright.encode()
        documents(entries, package, version, when)
        write(tree, entries)  # the manual comes from what it is about
        for name, (_, section) in COMMANDS.items():
            page = manual(tree, name, version, when)
            entries[f"usr/share/man/man{section}/{name}.{section}.gz"] = packed(page)
        control(entries, package, depends)
        write(tree, entries)
        (tree / HOME / "bin").mkdir()
        (tree / HOME / "bin/python").symlink_to("../../../bin/python3.11")
        settle(tree, when)
        contents.append(libuv(wheels, Path(scratch)))
        out = directory / f"{NAME}_{package}_amd64.deb"
        directory.mkdir(parents=True, exist_ok=True)
        made = Path(scratch, "made.deb")
        # The lowest level: the highest takes six times as long, for a seventh less.
        # One thread: with more, where xz cuts its blocks depends on how many there are.
        options = ("--root-owner-group", "--uniform-compression", "-Zxz", "-z1")
        output("dpkg-deb", *options, "--threads-max=1", "--build", tree, made)
        described = {
            "package": {"name": NAME, "version": package, "depends": depends},
            "contents": contents,
        }
        out.with_name(f"{out.name}.contents.json").write_text(json.dumps(described, indent=1))
        temporary = out.with_suffix(".new")
        temporary.write_bytes(made.read_bytes())
    temporary.chmod(0o644)
    temporary.replace(out)
    print(out)


if __name__ == "__main__":
    if sys.version_info[:2] != (3, 11) or sys.flags.hash_randomization:
        sys.exit("package.py runs as: PYTHONHASHSEED=0 /usr/bin/python3.11 package.py ...")
    if platform.machine() != "x86_64":
        sys.exit("the packages that are pinned are for x86_64; see packaging/binary/lock.py")
    when = int(os.environ["SOURCE_DATE_EPOCH"])
    build(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], when)
