"""The first module that the executable imports: loads what is in C from memory, and runs asyd.

    asyd ...                as the command asyd
    asyd asys ...           as the command asys, and so by whatever name that begins with `asys`
    asyd --asys-run PATH    as a child of asyd's, see asys/node/children.py

An extension module, and each library that it needs, is copied from the archive to memory
(memfd_create) and loaded from there: nothing is written to a disk. ASYS_PATH names directories in
which vendors' packages are, separated by colons.
"""

from __future__ import annotations

import _imp
import os
import sys
from collections.abc import Iterator, Sequence
from errno import EIO
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from zipimport import zipimporter
from zlib import decompressobj

from _asys_launcher import load_library
from asys_contents import EXTENSIONS, LIBRARIES

SELF = "/proc/self/exe"
RUN = "--asys-run"

_PIECE = 64 << 10

_MFD_NOEXEC_SEAL = 0x8
"""Linux 6.3: it is no program, and never will be; that is all that vm.memfd_noexec=2 allows. It can
be loaded all the same.
"""


class FromMemory(MetaPathFinder, Loader):
    """Finds and loads the extension modules of the archive."""

    def __init__(self, archive: zipimporter) -> None:
        self._archive = archive
        self._loaded: set[str] = set()
        self._paths = 0

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """A module of the archive; None for any other."""
        if fullname not in EXTENSIONS:
            return None
        return ModuleSpec(fullname, self, origin=f"{SELF}/{EXTENSIONS[fullname][0]}")

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Loads it, behind the libraries that it needs. ImportError, OSError."""
        entry, needed = EXTENSIONS[spec.name]
        for library in needed:
            self._load_library(library)
        fd = self._copied(entry)
        try:
            module = _imp.create_dynamic(ModuleSpec(spec.name, self, origin=self._path(fd)))
        finally:
            os.close(fd)
        module.__file__ = spec.origin
        return module

    def exec_module(self, module: ModuleType) -> None:
        """As the loader of files does."""
        _imp.exec_dynamic(module)

    def _load_library(self, soname: str) -> None:
        if soname in self._loaded:
            return
        self._loaded.add(soname)
        entry, needed = LIBRARIES[soname]
        for other in needed:
            self._load_library(other)
        fd = self._copied(entry)
        try:
            load_library(self._path(fd))
        finally:
            os.close(fd)

    def _path(self, fd: int) -> str:
        """A name for a descriptor that no other had: the loader takes one name for one library."""
        self._paths += 1
        return f"/proc/self/fd{'/' * self._paths}{fd}"

    def _copied(self, entry: str) -> int:
        """A descriptor of memory with an entry of the archive in it. OSError."""
        name = entry.rpartition("/")[2]
        try:
            fd = os.memfd_create(name, os.MFD_CLOEXEC | _MFD_NOEXEC_SEAL)
        except OSError:
            fd = os.memfd_create(name, os.MFD_CLOEXEC)
        try:
            for data in self._pieces(entry):
                while data:
                    data = data[os.write(fd, data) :]
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _pieces(self, entry: str) -> Iterator[bytes]:
        """What is in an entry, piece by piece: the largest has more than 10 MB. OSError."""
        _, _, packed, _, place, _, _, _ = vars(self._archive)["_files"][entry]
        with open(SELF, "rb") as file:
            file.seek(place + 26)
            head = file.read(4)  # the lengths of name and extra in the entry's own header
            file.seek(int.from_bytes(head[:2], "little") + int.from_bytes(head[2:], "little"), 1)
            unpacker = decompressobj(-15)
            while packed > 0 and (data := file.read(min(packed, _PIECE))):
                packed -= len(data)
                yield unpacker.decompress(data)
            yield unpacker.flush()
            if not unpacker.eof:
                raise OSError(EIO, f"{entry} is not whole in {sys.executable}")


def run_program(archive: zipimporter, path: str) -> None:
    """Executes a program of the archive as `__main__`."""
    for prefix in (f"{SELF}/", f"{sys.executable}/"):
        path = path.removeprefix(prefix)
    name = path.removesuffix(".pyc").removesuffix(".py")
    main = ModuleType("__main__")
    main.__file__ = archive.get_filename(name)
    main.__spec__ = ModuleSpec("__main__", None, origin=main.__file__)
    sys.modules["__main__"] = main
    exec(archive.get_code(name), main.__dict__)  # noqa: S102  a program of our own


def main() -> None:
    """Does what the name and the first word say."""
    archive = zipimporter(SELF)
    sys.meta_path.insert(0, FromMemory(archive))
    sys.path += [one for one in os.environ.get("ASYS_PATH", "").split(":") if os.path.isabs(one)]
    words = sys.argv[1:]
    if words[:1] == [RUN] and len(words) > 1:
        sys.argv = words[1:]
        run_program(archive, words[1])
        return
    if words[:1] == ["asys"]:
        del sys.argv[1]
    if words[:1] == ["asys"] or os.path.basename(sys.argv[0]).startswith("asys"):
        from asys.cli.agent import main as command
    else:
        from asys.cli.daemon import main as command
    sys.exit(command())
