"""The writer's keys on the disk: the one that signs next, and the one that this signature names.

KIND.key is the private key that signs the next checkpoint (32 raw bytes, 0600), KIND.key.next the
one after it, from before the checkpoint that names it until that is on the disk, KIND.pub the first
public key of the chain (hex). So whenever the power fails, the key that the last checkpoint on the
disk names is there.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from asys.audit.chain import CheckpointKeys, public_of
from asys.node.audit.place import Place, sync

_SIZE: Final = 32


class KeyFiles:
    """The key files of one chain in a directory."""

    def __init__(self, place: Place, kind: str) -> None:
        self._place = place
        self._key = f"{kind}.key"
        self._next = f"{kind}.key.next"
        self._pub = f"{kind}.pub"

    def load(
        self, signer: bytes | None, remembered: CheckpointKeys | None = None
    ) -> tuple[CheckpointKeys, str]:
        """The keys for a chain whose last checkpoint names `signer`; new ones where they are gone.

        `remembered` are those that this process had, for a directory that lost its files. Behind
        the keys: what is wrong with them, or ''. OSError.
        """
        current, following = self._read(self._key), self._read(self._next)
        if signer is not None and following is not None and public_of(following) == signer:
            self.promote()
            current, following = following, None
        fits = current is not None and signer in (None, public_of(current))
        if current is not None and fits:
            self._publish(public_of(current) if signer is None else None)
            return CheckpointKeys(current, following), ""
        keys, words = CheckpointKeys.generate(), ""
        if remembered is not None and signer in (None, remembered.public):
            keys = remembered
        elif signer is not None or current is not None:
            words = (
                f"{self._key} is not the key that the last checkpoint names; the chain goes on "
                "with a new one, and a verification will say so"
            )
        self._place.create(self._key, keys.private, 0o600, replaces=True)
        self._publish(keys.public if signer is None else None)
        return keys, words

    def prepare(self, following: bytes) -> None:
        """Puts the key that a checkpoint is going to name beside the one that signs it. OSError."""
        self._place.create(self._next, following, 0o600, replaces=True)

    def promote(self) -> None:
        """The checkpoint is on the disk: the key that signed it is written over. OSError."""
        with contextlib.suppress(FileNotFoundError):
            flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(self._key, flags, dir_fd=self._place.fd)
            try:
                os.pwrite(fd, bytes(_SIZE), 0)
                sync(fd)
            finally:
                os.close(fd)
        self._place.rename(self._next, self._key)

    def _publish(self, first: bytes | None) -> None:
        if first is not None and not self._place.has(self._pub):
            self._place.create(self._pub, first.hex().encode() + b"\n", 0o644)

    def _read(self, name: str) -> bytes | None:
        """A private key; None where there is none."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(name, flags, dir_fd=self._place.fd)
        except FileNotFoundError:
            return None
        try:
            data = os.read(fd, _SIZE + 1)
        finally:
            os.close(fd)
        return data if len(data) == _SIZE and any(data) else None
