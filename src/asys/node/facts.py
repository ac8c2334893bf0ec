"""What SYS_CAPS says: an agent's map by pages, and the machine (docs/protocol.md, 6.1)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from asys.isa import Capabilities
from asys.isa.capmap import words
from asys.isa.core import PAGES
from asys.node.platform.base import MachineFacts, Platform, PlatformError
from asys.protocol.limits import VERSION
from asys.protocol.status import SW

if TYPE_CHECKING:
    from asys.node.agents.grant import Grant

FACTS_SECONDS: Final = 1.0
"""Age above which the machine's facts are read again when a session opens."""

_PAGE: Final = 33
_ANY_FLAG: Final = 0x80
"""Where SYS_CAPS shows that some node flag is up."""

_log = logging.getLogger("asyd.node")


class Facts:
    """The machine as last looked at. PlatformError at first; later what was known stays."""

    def __init__(self, platform: Platform, now: float) -> None:
        self._platform = platform
        self._facts = platform.facts()
        self._read_at = now

    def refresh(self, now: float) -> None:
        """Looks at the machine again, if that was long ago."""
        if now - self._read_at <= FACTS_SECONDS:
            return
        self._read_at = now
        try:
            self._facts = self._platform.facts()
        except PlatformError as error:
            _log.warning("SYS_CAPS says what it said before: %s", error)

    def reply(self, grant: Grant, page: int, *, flags: int) -> bytes:
        """The answer to SYS_CAPS for an agent, packed once for each grant and state of facts."""
        if grant.caps_facts is not self._facts:
            grant.caps_facts = self._facts
            grant.caps_replies = [
                _capabilities(grant.lit, self._facts, one).pack() + SW.SUCCESS.wire
                for one in range(PAGES)
            ]
        reply = grant.caps_replies[page]
        if not flags:
            return reply
        return reply[:_PAGE] + bytes((reply[_PAGE] | _ANY_FLAG,)) + reply[_PAGE + 1 :]


def _capabilities(lit: int, facts: MachineFacts, page: int) -> Capabilities:
    core, ext = words(lit, page)
    major, minor, patch = facts.kernel
    return Capabilities(
        core_bitmap=core,
        ext_bitmap=ext,
        protocol_version=VERSION,
        kernel_major=major,
        kernel_minor=minor,
        kernel_patch=patch,
        cpu_count=facts.cpu_count,
        architecture=facts.architecture,
        ram_mb=facts.ram_mb,
        swap_mb=facts.swap_mb,
        root_size_mb=facts.root_size_mb,
        root_file_system=facts.root_file_system,
        rpi_source=facts.rpi_source,
        page=page,
    )
