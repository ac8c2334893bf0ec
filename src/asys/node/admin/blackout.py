"""The flag that says that the node is dark: every agent is down to `core`, also after a restart.

It is a file of one byte, made at the first start, and the byte is written over in place: that works
on a full disk. In doubt the node is dark.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from asys.node.disk.files import (
    NO_ROOM,
    ConfigError,
    is_there,
    locked,
    make_directory,
    read_private,
    require_private,
    write_atomically,
)
from asys.node.disk.state import overwrite, replace

LIGHT: Final = b"0"
DARK: Final = b"1"

_log = logging.getLogger("asyd.blackout")


class Blackout:
    """The flag in a state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir
        self.path: Final = state_dir / "dark"
        self._turn = asyncio.Lock()

    def prepare(self) -> None:
        """Makes what is missing, the directory or the file, so that `set` needs no room later.

        Where there is no room now that is logged; once there is, this may be called again.
        ConfigError when they are not to be had, or when others may write in the directory.
        """
        try:
            make_directory(self._directory)
        except OSError as error:
            if error.errno in NO_ROOM:
                self._go_without(error)
                return
            raise ConfigError(
                f"{self._directory}: {error.strerror}; name another directory with --state-dir"
            ) from error
        require_private(self._directory, forbidden=0o022, mend="700")
        if is_there(self.path):
            return  # and nobody who writes on a disk that hangs, and has the lock, is waited for
        try:
            with locked(self._directory):
                if not is_there(self.path):
                    write_atomically(self.path, LIGHT, 0o600)
        except OSError as error:
            if error.errno in NO_ROOM:
                self._go_without(error)
                return
            raise ConfigError(
                f"{self.path} cannot be made: {error.strerror}; name another directory with "
                "--state-dir"
            ) from error

    def load(self) -> bool:
        """Whether the node is to be dark. No file: light. One that says neither: dark, logged."""
        try:
            if not is_there(self.path):
                return False
            dark = self._read()
        except ConfigError as error:
            _log.error(
                "every agent is down to core, as it cannot be told whether the node is to be dark: "
                "%s; to lift it, run: asyd light",
                error,
            )
            return True
        if dark:
            _log.warning("dark: every agent is down to core; to lift it, run: asyd light")
        return dark

    async def set(self, dark: bool) -> None:
        """Writes the flag; it is on the disk when this returns.

        A file that is missing or damaged is replaced, which does need room. OSError or TimeoutError
        when the disk does not take it.
        """
        data = DARK if dark else LIGHT
        async with self._turn:
            # Nothing is read before: it is the process behind `overwrite` that a hung disk holds.
            try:
                await overwrite(self.path, data)
            except TimeoutError:
                raise
            except OSError:
                await replace(self.path, data)

    def _go_without(self, error: OSError) -> None:
        _log.error(
            "%s cannot be made: %s; until it can, what `asyd dark` orders ends with this process: "
            "make room, and send SIGHUP",
            self.path,
            error.strerror,
        )

    def _read(self) -> bool:
        data = read_private(self.path, forbidden=0o022, mend="600", limit=1)
        if data not in (LIGHT, DARK):
            raise ConfigError(f"{self.path} is damaged: it is one byte, 0 or 1")
        return data == DARK
