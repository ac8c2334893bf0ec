"""What the kernel tells about the process behind a pidfd (linux/pidfd.h)."""

from __future__ import annotations

import errno
from fcntl import ioctl as _ioctl
from struct import Struct
from typing import Final

_GET_INFO: Final = 0xC040FF0B
"""PIDFD_GET_INFO, since Linux 6.13."""

_CREDENTIALS: Final = 1 << 1
_ASK: Final = Struct("<Q56x").pack(_CREDENTIALS)
_uids = Struct("<28xI4xI4xI4xI8x").unpack
_NOT_KNOWN: Final = (errno.ENOTTY, errno.EINVAL, errno.EPERM, errno.ENOSYS)
"""Of an older kernel, and of what may confine asyd."""

_buffer: Final = bytearray(_ASK)
"""Made once, as it is asked for with every scope; one thread at a time."""


def owners(fd: int) -> tuple[int, ...] | None:
    """Real, effective, saved and file system uid; None where the kernel does not tell. OSError."""
    _buffer[0] = _CREDENTIALS  # all that the kernel has changed of what is asked
    try:
        _ioctl(fd, _GET_INFO, _buffer)
    except OSError as error:
        if error.errno in _NOT_KNOWN:
            return None
        raise
    return _uids(_buffer) if _buffer[0] & _CREDENTIALS else None
