"""What an upgrade lights: a line that says `all` gets what a new version brings, unasked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from asys.isa import REGISTRY
from asys.isa.capmap import CARRIER, SETS, parse_caps
from asys.isa.definition import AnyInstruction, Registry
from asys.node.agents.book import Agent, parse_agents, read_words
from asys.node.agents.ran import InstructionSet, this_set
from asys.node.agents.scope import UidOf, uid_here


@dataclass(frozen=True, slots=True)
class Growing:
    """A line, and what words of its `caps=` take in that an earlier version did not have.

    `open_words`: those that may take in more with a later version; none: the line is pinned.
    """

    agent: Agent
    open_words: tuple[str, ...]
    words: tuple[str, ...] = ()
    instructions: tuple[AnyInstruction, ...] = ()


def growing(
    written: str,
    then: InstructionSet | None,
    now: int,
    uid_of: UidOf = uid_here,
    registry: Registry = REGISTRY,
) -> list[Growing]:
    """Each line that holds, in order. `now`: Unix seconds; `then` None: nothing is new.

    An instruction that the line names is not new to whoever wrote it: an asyd that did not know the
    name would have refused the line.
    """
    known = this_set(registry).codes
    fresh = known & ~then.codes if then is not None else 0
    lines = written.split("\n")
    found = []
    for agent in sorted(parse_agents(written, uid_of).agents.values(), key=lambda one: one.line):
        if 0 < agent.expires <= now:
            continue
        listed = read_words(lines[agent.line - 1].removesuffix("\r")).options.get("caps", "core")
        words = listed.split(",")
        named = {one.code for word in words if (one := _named(word, registry)) is not None}
        lit = [(word, parse_caps(word)) for word in words if _named(word, registry) is None]
        codes = [code for code in _codes(agent.caps & fresh) if code not in named]
        found.append(
            Growing(
                agent,
                tuple(word for word, caps in lit if caps & ~(known | CARRIER | SETS["vendor"])),
                tuple(word for word, caps in lit if any(caps >> code & 1 for code in codes)),
                tuple(one for code in codes if (one := registry.get(code)) is not None),
            )
        )
    return found


def said(words: Sequence[str], instructions: Sequence[AnyInstruction], then: InstructionSet) -> str:
    """What is new, for people: LOG_SUMMARY (risk low) and so on."""
    names = [f"{one.name} (risk {one.guide.risk})" for one in instructions]
    return (
        f"{', '.join(words)} of caps= lights {listed(names)}, which asyd {then.asyd} did not have"
    )


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _named(word: str, registry: Registry) -> AnyInstruction | None:
    return None if word in SETS else registry.named(word)


def _codes(lit: int) -> Iterator[int]:
    return (code for code in range(256) if lit >> code & 1)
