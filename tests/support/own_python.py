"""A Python whose own pages are charged to whoever runs it first: a copy that is in no cache.

What a process maps of a file that others use already is charged to them, and a memory cgroup never
takes it away. So a process in a cgroup that is out of memory shows what that costs only where its
interpreter and its libraries are its own.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Final

COPIED: Final = ("cryptography", "uvloop")
"""Packages of compiled code that asyd runs most of."""


class OwnPython:
    """The copy in a directory; `python` is its program, `environment` what it needs to run."""

    def __init__(self, directory: Path) -> None:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        library = directory / "lib" / version
        library.mkdir(parents=True)
        (directory / "bin").mkdir()
        self.python = directory / "bin" / version
        self.environment = {"LD_LIBRARY_PATH": str(directory / "lib")}
        self._copied: list[Path] = []
        base = getattr(sys, "_base_executable", sys.executable)
        self._copy(Path(base), self.python)
        shared = Path(sysconfig.get_config_var("LIBDIR")) / sysconfig.get_config_var("INSTSONAME")
        if shared.exists():
            self._copy(shared, directory / "lib" / shared.name)
        for one in Path(sysconfig.get_path("stdlib")).iterdir():
            if one.name not in ("site-packages", "lib-dynload"):
                (library / one.name).symlink_to(one)
        self._copy(Path(sysconfig.get_config_var("DESTSHARED")), library / "lib-dynload")
        packages = library / "site-packages"
        packages.mkdir()
        for one in Path(sysconfig.get_path("platlib")).iterdir():
            if one.name in COPIED:
                self._copy(one, packages / one.name)
            else:
                (packages / one.name).symlink_to(one)
        self.forget()

    def _copy(self, source: Path, target: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.pyc", "*.pyx", "*.c"))
            self._copied += [one for one in target.rglob("*") if one.is_file()]
        else:
            shutil.copy2(source, target)
            self._copied.append(target)

    def forget(self) -> None:
        """Has the kernel drop the copy from its cache: the next to read it pays for it."""
        for path in self._copied:
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)

    def launcher(self, *cgroups: str) -> tuple[str, ...]:
        """A command that has another one, whose program is any Python, run by this one and in these
        cgroups.
        """
        enter = "".join(f"echo $$ > {one}/cgroup.procs; " for one in cgroups)
        variables = " ".join(f"{name}={value}" for name, value in self.environment.items())
        return ("sh", "-c", f'{enter}shift; exec env {variables} {self.python} "$@"', "sh")
