"""What a case works with: the node, the means that the caller gave, and what is known already."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeVar

from asys.client.address import Address
from asys.conformance.case import Need
from asys.conformance.handshake import MISTAKES, RIGHT, Rules
from asys.conformance.verdicts import Failed, KnownDeviation, NotRun
from asys.conformance.wire import Session, Unreachable, Wire, WireError

_T = TypeVar("_T", bound=Wire)

ATTEMPTS: Final = 4
"""A node that is full, or whose limit of handshakes is reached, closes at once: try again."""

ATTEMPT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. `timeout`: each wait for the node; `quiet`: how long silence is listened to.

    The deadlines are those of docs/protocol.md, section 1.6; `slack` is how much later a node may
    be. `restarts` lies between two restarts of --service at least: a service manager gives up on
    what restarts too often (systemd after 5 times in 10 s). `pace` is how many connections a second
    are opened at most, after a first `burst`; 0: any.
    """

    timeout: float = 5.0
    quiet: float = 0.5
    magic: float = 1.0
    handshake: float = 5.0
    frame: float = 10.0
    idle: float = 60.0
    slack: float = 2.0
    restarts: float = 3.0
    pace: float = 15.0
    burst: int = 40


@dataclass(frozen=True, slots=True)
class Chainable:
    """An instruction of a vendor that takes fragments, and that the identity may use."""

    code: int
    vendor_id: int


@dataclass(frozen=True, slots=True)
class Target:
    """The node, and the means. Keys are private X25519 keys, 32 bytes."""

    address: Address
    identity: bytes = field(repr=False)
    node_key: bytes | None = None
    """Its public key; None: whatever it shows."""
    other: bytes | None = field(default=None, repr=False)
    pid: int | None = None
    service: str | None = None
    outside_pid: int | None = None
    outside_service: str | None = None
    chainable: Chainable | None = None
    slow: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What the node says of itself in a first session. Maps have bit = INS."""

    version: int
    part_b: bool
    lit: int
    lit_other: int
    signs: bool
    seals: bool


class Probe:
    """The hands of a case. Connections that it makes are closed behind it."""

    def __init__(
        self, target: Target, timing: Timing, *, seed: int = 0, specified: bool = False
    ) -> None:
        """`specified`: known deviations of deployed nodes are failures too."""
        self.target: Final = target
        self.timing: Final = timing
        self.facts: Facts | None = None
        self.no_session = "no session could be opened"
        self.random = random.Random(seed)  # noqa: S311 -- what to send, not a secret
        self._seed: Final = seed
        self._specified: Final = specified
        self._open: list[Wire] = []
        self._tokens = float(timing.burst)
        self._counted = time.monotonic()
        self._restarted = 0.0

    def begin(self, case_id: str) -> None:
        """A case begins: what it draws at random depends on the seed and on it alone."""
        self.random.seed(f"{self._seed} {case_id}")

    def release(self) -> None:
        """Closes what a case has opened."""
        for wire in self._open:
            wire.close()
        self._open.clear()

    # -- connections

    def dial(self) -> Wire:
        """A connection on which nothing has been sent. Unreachable."""
        self._pace()
        return self._keep(Wire(self.target.address, self.timing.timeout))

    def greeted(self) -> tuple[Wire, bytes]:
        """A connection behind the pre-handshake frame, and that frame. WireError."""

        def attempt() -> tuple[Wire, bytes]:
            wire = self.dial()
            return wire, wire.greet()

        return self._patiently(attempt)

    def session(
        self,
        identity: bytes | None = None,
        rules: Rules = RIGHT,
        *,
        node_key: bytes | None = None,
    ) -> Session:
        """A session, which nothing has confirmed yet, of the identity unless another is given, and
        for the key of the node that is known unless it is `node_key`.

        Unreachable, Ended, Silent, Undecipherable.
        """

        def attempt() -> Session:
            self._pace()
            return self._keep(
                Session(
                    self.target.address,
                    self.timing.timeout,
                    identity or self.target.identity,
                    node_key or self.target.node_key,
                    rules,
                )
            )

        return self._patiently(attempt)

    def named_mistake(self, works: Callable[[Rules], bool]) -> str:
        """Which known mistake of a node makes it understand; '' where none does."""
        for name, rules in MISTAKES.items():
            try:
                if works(rules):
                    return f"; it understands an agent that makes this mistake: {name}"
            except WireError:
                continue
        return ""

    # -- what is known

    @property
    def part_b(self) -> bool:
        """Whether the node says that it speaks part B."""
        return self.facts is not None and self.facts.part_b

    def lit(self, code: int) -> bool:
        """Whether an instruction can be used by the identity, as SYS_CAPS shows it."""
        return self.facts is not None and bool(self.facts.lit >> code & 1)

    @property
    def other(self) -> bytes:
        """The second identity. NotRun where there is none."""
        if self.target.other is None:
            raise NotRun("needs a second identity (--other DIR)")
        return self.target.other

    def deviates(self, what: str) -> NoReturn:
        """KnownDeviation where deployed nodes may do so and this is one of them; else Failed."""
        raise Failed(what) if self.part_b or self._specified else KnownDeviation(what)

    def spared_service(self) -> bytes:
        """The name of --service, once it may be restarted again."""
        wait = self._restarted + self.timing.restarts - time.monotonic()
        if self._restarted and wait > 0:
            time.sleep(wait)
        self._restarted = time.monotonic()
        return (self.target.service or "").encode("ascii")

    # -- inside

    def _keep(self, wire: _T) -> _T:
        self._open.append(wire)
        return wire

    def _patiently(self, attempt: Callable[[], _U]) -> _U:
        """A node may be full for a moment, also with connections that have just been closed."""
        for _ in range(ATTEMPTS - 1):
            try:
                return attempt()
            except Unreachable:
                if self.facts is None:
                    raise  # it has never answered
                time.sleep(ATTEMPT_SECONDS)
        return attempt()

    def _pace(self) -> None:
        if not self.timing.pace:
            return
        now = time.monotonic()
        self._tokens = min(
            float(self.timing.burst), self._tokens + (now - self._counted) * self.timing.pace
        )
        self._counted = now
        if self._tokens < 1:
            time.sleep((1 - self._tokens) / self.timing.pace)
        self._tokens -= 1


_U = TypeVar("_U")


def _has(flag: Callable[[Facts], bool], without: str) -> Callable[[Probe], str]:
    return lambda probe: "" if probe.facts is not None and flag(probe.facts) else without


SESSION: Final = Need("a session", lambda probe: "" if probe.facts else probe.no_session)
SIGNED: Final = Need(
    "signed frames", _has(lambda facts: facts.signs, "signed frames do not work (sign.tag)")
)
PART_B: Final = Need(
    "part B", _has(lambda facts: facts.part_b, "the node does not speak part B (SYS_CAPS page 1)")
)
SEALED: Final = Need(
    "Enc+Sign", _has(lambda facts: facts.seals, "Enc+Sign does not work (seal.payload)")
)
OTHER: Final = Need(
    "--other", lambda probe: "" if probe.target.other else "needs a second identity (--other DIR)"
)
PID: Final = Need(
    "--pid", lambda probe: "" if probe.target.pid else "needs a process to throttle (--pid N)"
)
SERVICE: Final = Need(
    "--service",
    lambda probe: "" if probe.target.service else "needs a service to restart (--service NAME)",
)
OUTSIDE_PID: Final = Need(
    "--outside-pid",
    lambda probe: (
        ""
        if probe.target.outside_pid
        else "needs a process outside of the second identity's users= (--outside-pid N)"
    ),
)
OUTSIDE_SERVICE: Final = Need(
    "--outside-service",
    lambda probe: (
        ""
        if probe.target.outside_service
        else "needs a service outside of the second identity's services= (--outside-service NAME)"
    ),
)
CHAINABLE: Final = Need(
    "--chainable",
    lambda probe: (
        ""
        if probe.target.chainable
        else "needs an instruction that takes fragments (--chainable CODE:VENDOR_ID)"
    ),
)
SLOW: Final = Need("--slow", lambda probe: "" if probe.target.slow else "takes long (--slow)")


def granted(code: int, name: str) -> Need:
    """The identity can use an instruction."""
    return Need(
        name,
        lambda probe: (
            ""
            if probe.lit(code)
            else f"{name} is not granted to this identity, or the node cannot do it"
        ),
    )


def granted_to_other(code: int, name: str) -> Need:
    """The second identity can use an instruction."""
    return Need(
        f"{name} for --other",
        lambda probe: (
            ""
            if probe.facts is not None and probe.facts.lit_other >> code & 1
            else f"{name} is not granted to the second identity, or the node cannot do it"
        ),
    )
