"""All pages of AGENT_LIST as one list, without I/O."""

from __future__ import annotations

from typing import Final

from asys.isa import Agents, ListedAgent

_LAST_PAGE: Final = 0xFF
_ATTEMPTS: Final = 4


class AgentPages:
    """Collects the pages: ask for `page`, `take` the answer, until `page` is None.

    Agents that come or go in between move others to another page. So it begins anew when the total
    changes, three times at most.
    """

    def __init__(self) -> None:
        self.page: int | None = 0
        self._total = 0
        self._found: dict[bytes, ListedAgent] = {}
        self._attempts = 1

    @property
    def agents(self) -> tuple[ListedAgent, ...]:
        """What has been collected, each agent once, in order of registration."""
        return tuple(self._found.values())

    def take(self, answer: Agents) -> None:
        """Takes the answer for `page`."""
        page = self.page or 0
        if page and answer.total != self._total and self._attempts < _ATTEMPTS:
            self._attempts += 1
            self._found.clear()
            self.page = 0
            return
        self._total = answer.total
        self._found.update((one.key, one) for one in answer.agents)
        done = len(self._found) >= answer.total or not answer.agents or page == _LAST_PAGE
        self.page = None if done else page + 1
