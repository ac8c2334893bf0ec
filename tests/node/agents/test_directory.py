"""What lines and delegates hold, and every refusal of a change with its place in the order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from asys.isa.capmap import CORE
from asys.node.agents.book import Agent, AgentBook, parse_agents
from asys.node.agents.directory import (
    LAST_SECOND,
    Delegate,
    Directory,
    DirectoryRefusal,
    key_hash,
)
from asys.node.agents.scope import Scope
from asys.protocol.status import SW

NOW = 1_700_000_000
NODE = bytes([250]) * 32
FULL = (1 << 256) - 1
LOW_ORDER = bytes(32)


class TooFast(Exception):
    """What a rate check raises."""


def key(number: int) -> bytes:
    return bytes([9, number]) + bytes(29) + b"k"


def line(number: int, caps: int = FULL, *, expires: int = 0, admin: bool = False) -> Agent:
    return Agent(key(number), f"line{number}", caps, number, expires=expires, admin=admin)


def book(*lines: Agent, bad: tuple[bytes, ...] = ()) -> AgentBook:
    agents = {one.key: one for one in lines}
    return AgentBook(agents, (), frozenset([*agents, *bad]))


def free() -> None:
    """A rate that is not used up."""


def used_up() -> None:
    raise TooFast


class Charge:
    """A rate check that counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


def directory(*lines: Agent, bad: tuple[bytes, ...] = ()) -> Directory:
    return Directory(book(*lines, bad=bad), node_key=NODE)


def add(
    target: Directory,
    parent: int,
    child: bytes | int,
    caps: int = 0b11,
    ttl: int = 0,
    label: str = "",
    *,
    now: int = NOW,
    charge: Callable[[], None] = free,
) -> None:
    child = key(child) if isinstance(child, int) else child
    target.add(key(parent), child, caps, ttl, label, now, charge=charge)


def keys(*numbers: int) -> tuple[bytes, ...]:
    return tuple(key(number) for number in numbers)


def caps_of(target: Directory, number: int, now: int = NOW) -> int | None:
    holding = target.holding(key(number), now)
    return None if holding is None else holding.caps


# What is held


def test_a_line_holds_what_it_says() -> None:
    agent = line(1, CORE, expires=NOW + 1, admin=True)
    target = directory(agent, line(2))
    holding = target.holding(key(1), NOW)
    assert holding is not None
    assert (holding.caps, holding.root, holding.parent) == (CORE, agent, b"")
    assert (holding.expires, holding.admin, holding.depth) == (NOW + 1, True, 0)
    assert holding.name == "line1"
    assert target.holding(key(1), NOW + 1) is None
    assert target.holding(key(3), NOW) is None


def test_a_bad_line_is_never_served_from_the_delegates() -> None:
    delegate = Delegate(key(2), key(1), 1, "", 0)
    target = Directory(book(line(1), bad=(key(2),)), [delegate], node_key=NODE)
    assert target.holding(key(2), NOW) is None
    assert target.delegates == ()


def test_a_delegate_holds_the_intersection_along_its_chain() -> None:
    scope = Scope(services=("web-*",))
    root = Agent(key(1), "", 0b1110, 1, scope, admin=True)
    delegates = [
        Delegate(key(2), key(1), 0b0111, "two", NOW + 50),
        Delegate(key(3), key(2), FULL, "", NOW + 70),
        Delegate(key(4), key(3), 0b0101, "", 0),
    ]
    target = Directory(book(root), delegates, node_key=NODE)
    two, three, four = (target.holding(key(number), NOW) for number in (2, 3, 4))
    assert two is not None
    assert three is not None
    assert four is not None
    assert [one.caps for one in (two, three, four)] == [0b0110, 0b0110, 0b0100]
    assert [one.depth for one in (two, three, four)] == [1, 2, 3]
    assert [one.parent for one in (two, three, four)] == [*keys(1, 2, 3)]
    assert [one.expires for one in (two, three, four)] == [NOW + 50] * 3
    assert all(one.root is root and not one.admin for one in (two, three, four))
    assert (two.name, three.name) == ("two", key(3).hex()[:8])


def test_maps_are_kept_as_they_were_asked_for() -> None:
    target = directory(line(1, 0b11))
    add(target, 1, 2, 0b11)
    assert target.replace_book(book(line(1, 0b01)), NOW) == ()
    assert caps_of(target, 2) == 0b01
    assert target.replace_book(book(line(1, 0b111)), NOW) == ()
    assert caps_of(target, 2) == 0b11


def test_an_expired_link_ends_everything_below() -> None:
    target = directory(line(1, expires=NOW + 100))
    add(target, 1, 2, ttl=50)
    add(target, 2, 3)
    add(target, 1, 4)
    assert target.next_expiry(NOW) == NOW + 50
    assert caps_of(target, 3, NOW + 49) == 0b11
    assert target.prune(NOW + 49) == ()
    assert [caps_of(target, one, NOW + 50) for one in (2, 3, 4)] == [None, None, 0b11]
    assert target.next_expiry(NOW + 50) == NOW + 50
    assert target.prune(NOW + 50) == keys(2, 3)
    assert target.next_expiry(NOW + 50) == NOW + 100
    assert caps_of(target, 4, NOW + 100) is None
    assert target.next_expiry(NOW + 100) == NOW + 100
    assert target.prune(NOW + 100) == keys(4)
    assert target.next_expiry(NOW + 100) == 0
    assert target.prune(NOW + 100) == ()


def test_what_was_loaded_is_taken_as_far_as_it_may_stand() -> None:
    too_deep = [Delegate(key(10 + i), key(9 + i), 1, "", 0) for i in range(1, 6)]
    delegates = [
        Delegate(key(3), key(2), 1, "before its parent", 0),
        Delegate(key(2), key(1), 1, "", 0),
        Delegate(key(2), key(5), 1, "again", 0),
        Delegate(key(4), key(99), 1, "nobody's", 0),
        Delegate(key(5), key(1), 1, "a line's", 0),
        Delegate(key(6), key(6), 1, "its own", 0),
        Delegate(NODE, key(1), 1, "the node's", 0),
        Delegate(key(10), key(1), 1, "", 0),
        *too_deep,
    ]
    target = Directory(book(line(1), line(5)), delegates, node_key=NODE)
    assert [one.key for one in target.delegates] == [*keys(2, 10, 11, 12, 13)]
    many = [Delegate(key(10 + i), key(1 + i % 2), 1, "", 0) for i in range(140)]
    target = Directory(book(line(1), line(2)), many, node_key=NODE)
    assert [one.key for one in target.delegates] == [key(10 + i) for i in range(128)]


def test_a_book_without_a_list_of_keys_still_protects_its_lines() -> None:
    target = Directory(AgentBook({key(1): line(1), key(2): line(2)}), node_key=NODE)
    with pytest.raises(DirectoryRefusal) as refused:
        add(target, 1, 2)
    assert refused.value.sw is SW.INVALID_PAYLOAD


# AGENT_ADD


def test_adding_again_replaces_map_label_and_expiry_in_place() -> None:
    target = directory(line(1))
    add(target, 1, 2, 0b11, 10, "old")
    add(target, 1, 3)
    add(target, 2, 4, 0b10)
    add(target, 1, 2, 0b01, 20, "new")
    assert target.delegates[0] == Delegate(key(2), key(1), 0b01, "new", NOW + 20)
    assert [one.key for one in target.delegates] == [*keys(2, 3, 4)]
    assert caps_of(target, 4) == 0
    add(target, 1, 2, 0b11)
    assert target.delegates[0].expires == 0
    assert caps_of(target, 4) == 0b10


def test_an_agent_that_has_ended_is_added_anew_without_what_was_below() -> None:
    target = directory(line(1))
    add(target, 1, 2, ttl=10)
    add(target, 2, 3)
    add(target, 1, 4)
    add(target, 1, 2, now=NOW + 10)
    assert [one.key for one in target.delegates] == [*keys(4, 2)]
    assert target.holding(key(3), NOW + 10) is None
    assert target.next_expiry(NOW + 10) == NOW + 10
    assert target.prune(NOW + 10) == keys(2, 3)
    assert target.next_expiry(NOW + 10) == 0


def test_the_last_second() -> None:
    target = directory(line(1))
    add(target, 1, 2, ttl=LAST_SECOND - NOW)
    assert target.delegates[0].expires == LAST_SECOND
    with pytest.raises(DirectoryRefusal) as refused:
        add(target, 1, 3, ttl=LAST_SECOND - NOW + 1)
    assert refused.value.sw is SW.INVALID_PAYLOAD


def twin(of: bytes) -> bytes:
    """Another key that has the hash of this one under `hash_of_a_tail`."""
    return bytes([of[0] ^ 1]) + of[1:]


@pytest.fixture
def hash_of_a_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes as short as that a test can find twins at once: all that is behind the first byte."""
    monkeypatch.setattr("asys.node.agents.directory.key_hash", lambda key: key[1:])


@pytest.mark.usefixtures("hash_of_a_tail")
@pytest.mark.parametrize("taken", [NODE, key(1), key(7), key(8), key(2)])
def test_a_key_hash_belongs_to_one_key(taken: bytes) -> None:
    target = directory(line(1), line(7), bad=(key(8),))
    add(target, 1, 2)
    charge = Charge()
    with pytest.raises(DirectoryRefusal, match="key hash") as refused:
        add(target, 1, twin(taken), charge=charge)
    assert refused.value.sw is SW.INVALID_PAYLOAD
    assert charge.calls == 1
    add(target, 1, 2)


@pytest.mark.usefixtures("hash_of_a_tail")
def test_the_hashes_of_the_lines_follow_the_file() -> None:
    target = directory(line(1))
    add(target, 1, twin(key(7)))
    target.remove(key(1), twin(key(7)), NOW, charge=free)
    target.replace_book(book(line(1), line(7)), NOW)
    with pytest.raises(DirectoryRefusal, match="key hash"):
        add(target, 1, twin(key(7)))


def test_the_key_hash_is_a_cut_of_the_long_hash() -> None:
    # What coreutils' b2sum says of 32 zero bytes.
    assert key_hash(bytes(32)).hex() == "9ab7a73a"


@pytest.fixture
def crowded() -> Directory:
    """1 is an admin's line with 64 below, four levels of them at most; 5 a line with nobody."""
    target = directory(line(1, 0b111, admin=True), line(5, 0b1))
    add(target, 1, 11, 0b111)
    add(target, 11, 12, 0b11)
    add(target, 12, 13, 0b11)
    add(target, 13, 14, 0b11)
    add(target, 5, 15, 0b1)
    for number in range(100, 160):
        add(target, 1, number)
    return target


@pytest.mark.parametrize(
    ("parent", "child", "caps", "ttl", "label", "rate", "expected"),
    [
        # Nothing could make the parameters right.
        (14, LOW_ORDER, FULL, 0, "", used_up, SW.INVALID_PAYLOAD),
        (14, NODE, FULL, 0, "", used_up, SW.INVALID_PAYLOAD),
        (14, key(5), FULL, LAST_SECOND, "", used_up, SW.INVALID_PAYLOAD),
        (14, key(5), FULL, 0, "no blanks", used_up, SW.INVALID_PAYLOAD),
        (14, key(5), FULL, 0, "x" * 32, used_up, SW.INVALID_PAYLOAD),
        (14, key(5), FULL, 0, "trick\n", used_up, SW.INVALID_PAYLOAD),
        # The map is not within the caller's own, which is less than was asked for.
        (14, key(5), 0b100, 0, "", used_up, SW.DENIED),
        (1, key(5), 0b1000, 0, "", used_up, SW.DENIED),
        # The rate.
        (14, key(5), 0b11, 0, "", used_up, None),
        (1, key(200), 0b11, 0, "", used_up, None),
        # No room: too deep, or too many.
        (14, key(5), 0b11, 0, "", free, SW.BLOCKED),
        (1, key(5), 0b11, 0, "", free, SW.BLOCKED),
        (11, key(200), 0b11, 0, "", free, SW.BLOCKED),
        (13, key(15), 0b11, 0, "", free, SW.BLOCKED),
        # Known from elsewhere.
        (5, key(5), 0b1, 0, "", free, SW.INVALID_PAYLOAD),
        (5, key(1), 0b1, 0, "", free, SW.INVALID_PAYLOAD),
        (5, key(12), 0b1, 0, "", free, SW.INVALID_PAYLOAD),
        (15, key(15), 0b1, 0, "", free, SW.INVALID_PAYLOAD),
        # The caller went in between.
        (77, LOW_ORDER, FULL, 0, "", used_up, SW.NO_SUCH_INSTRUCTION),
    ],
)
def test_refusals_of_an_addition_and_their_order(
    crowded: Directory,
    parent: int,
    child: bytes,
    caps: int,
    ttl: int,
    label: str,
    rate: Callable[[], None],
    expected: SW | None,
) -> None:
    before = crowded.delegates
    if expected is None:
        with pytest.raises(TooFast):
            add(crowded, parent, child, caps, ttl, label, charge=rate)
    else:
        with pytest.raises(DirectoryRefusal) as refused:
            add(crowded, parent, child, caps, ttl, label, charge=rate)
        assert refused.value.sw is expected
        assert str(refused.value)
        assert child.hex() not in str(refused.value)
    assert crowded.delegates == before


def test_whoever_is_there_can_be_replaced_where_nobody_can_be_added(crowded: Directory) -> None:
    add(crowded, 1, 100, 0b1, label="replaced")
    add(crowded, 13, 14, 0b1)
    add(crowded, 5, 200, 0b1)
    assert len(crowded.delegates) == 66


def test_room_is_there_again_when_somebody_went_or_ended(crowded: Directory) -> None:
    crowded.remove(key(1), key(100), NOW, charge=free)
    add(crowded, 1, 200, ttl=5)
    with pytest.raises(DirectoryRefusal):
        add(crowded, 1, 201)
    add(crowded, 1, 201, now=NOW + 5)


# AGENT_REMOVE


def test_a_removal_takes_all_below() -> None:
    target = directory(line(1))
    for parent, child in [(1, 2), (2, 3), (1, 4), (3, 5), (2, 6)]:
        add(target, parent, child)
    charge = Charge()
    assert target.remove(key(1), key(2), NOW, charge=charge) == keys(2, 3, 5, 6)
    assert charge.calls == 1
    assert [one.key for one in target.delegates] == [key(4)]
    assert target.holding(key(5), NOW) is None


@pytest.mark.parametrize(
    ("caller", "target", "rate", "expected"),
    [
        # A key of the file, though it be the caller's own or a bad line's.
        (1, key(5), used_up, SW.DENIED),
        (11, key(1), used_up, SW.DENIED),
        (5, key(5), used_up, SW.DENIED),
        (5, key(9), used_up, SW.DENIED),
        # The rate.
        (5, key(12), used_up, None),
        (1, key(12), used_up, None),
        # Not below the caller.
        (5, key(12), free, SW.INVALID_PAYLOAD),
        (12, key(11), free, SW.INVALID_PAYLOAD),
        (12, key(12), free, SW.INVALID_PAYLOAD),
        (11, key(100), free, SW.INVALID_PAYLOAD),
        (11, key(15), free, SW.INVALID_PAYLOAD),
        (1, key(200), free, SW.INVALID_PAYLOAD),
        (77, key(5), used_up, SW.NO_SUCH_INSTRUCTION),
    ],
)
def test_refusals_of_a_removal_and_their_order(
    crowded: Directory,
    caller: int,
    target: bytes,
    rate: Callable[[], None],
    expected: SW | None,
) -> None:
    lines = crowded.book.agents.values()
    crowded.replace_book(book(*lines, bad=(key(9),)), NOW)
    before = crowded.delegates
    if expected is None:
        with pytest.raises(TooFast):
            crowded.remove(key(caller), target, NOW, charge=rate)
    else:
        with pytest.raises(DirectoryRefusal) as refused:
            crowded.remove(key(caller), target, NOW, charge=rate)
        assert refused.value.sw is expected
    assert crowded.delegates == before


def test_an_admin_removes_below_every_line_and_nobody_else_does(crowded: Directory) -> None:
    assert crowded.remove(key(1), key(15), NOW, charge=free) == keys(15)
    assert crowded.remove(key(12), key(14), NOW, charge=free) == keys(14)


def test_who_has_ended_cannot_be_removed_and_is_told_of_by_prune() -> None:
    target = directory(line(1))
    add(target, 1, 2, ttl=10)
    with pytest.raises(DirectoryRefusal) as refused:
        target.remove(key(1), key(2), NOW + 10, charge=free)
    assert refused.value.sw is SW.INVALID_PAYLOAD
    assert target.delegates == ()
    assert target.prune(NOW + 10) == keys(2)


# AGENT_LIST


def test_a_listing_is_the_own_subtree_in_order_of_registration() -> None:
    target = directory(line(1), line(5))
    for parent, child in [(1, 2), (5, 9), (2, 3), (1, 4), (3, 6)]:
        add(target, parent, child)
    add(target, 4, 7, ttl=5)

    def shown(number: int, now: int = NOW) -> list[bytes]:
        return [one.key for one in target.listing(key(number), now)]

    assert shown(1) == [*keys(2, 3, 4, 6, 7)]
    assert shown(2) == [*keys(3, 6)]
    assert shown(6) == []
    assert shown(5) == [*keys(9)]
    assert shown(4) == [*keys(7)]
    assert shown(4, NOW + 5) == []
    assert shown(88) == []


def test_an_admin_sees_the_lines_and_all_delegates(crowded: Directory) -> None:
    crowded.replace_book(
        book(*crowded.book.agents.values(), line(6, expires=NOW + 1), bad=(key(9),)), NOW
    )
    shown = crowded.listing(key(1), NOW)
    assert [one.key for one in shown[:8]] == [*keys(1, 5, 6, 11, 12, 13, 14, 15)]
    assert len(shown) == 68
    assert [one.admin for one in shown[:4]] == [True, False, False, False]
    assert [one.key for one in crowded.listing(key(1), NOW + 1)[:3]] == [*keys(1, 5, 11)]
    # To be an admin is not handed on.
    assert [one.key for one in crowded.listing(key(11), NOW)] == [*keys(12, 13, 14)]


# A new file


def test_a_line_that_goes_takes_all_below_and_does_not_bring_it_back() -> None:
    target = directory(line(1), line(5))
    for parent, child in [(1, 2), (2, 3), (5, 6)]:
        add(target, parent, child)
    assert target.replace_book(book(line(5)), NOW) == keys(2, 3)
    assert target.replace_book(book(line(1), line(5)), NOW) == ()
    assert [caps_of(target, one) for one in (2, 3, 6)] == [None, None, 0b11]


def test_a_line_that_turns_bad_is_a_line_that_went() -> None:
    target = directory(line(1))
    add(target, 1, 2)
    assert target.replace_book(book(bad=(key(1),)), NOW) == keys(2)
    assert target.holding(key(1), NOW) is None


@pytest.mark.parametrize("good", [True, False])
def test_a_line_overrides_the_delegate_with_its_key(good: bool) -> None:
    target = directory(line(1))
    for parent, child in [(1, 2), (2, 3), (1, 4)]:
        add(target, parent, child)
    new = book(line(1), line(2, 0b1)) if good else book(line(1), bad=(key(2),))
    assert target.replace_book(new, NOW) == keys(2, 3)
    assert target.book is new
    assert caps_of(target, 2) == (0b1 if good else None)
    assert target.holding(key(3), NOW) is None
    assert caps_of(target, 4) == 0b11


def test_a_file_that_was_edited_while_the_node_was_off_counts_the_same() -> None:
    delegates = [Delegate(key(2), key(1), 1, "", 0), Delegate(key(3), key(2), 1, "", 0)]
    target = Directory(book(line(1), line(2)), delegates, node_key=NODE)
    assert target.delegates == ()


def test_what_ended_under_the_old_line_does_not_live_on_under_the_new() -> None:
    target = directory(line(1, expires=NOW + 10))
    add(target, 1, 2)
    assert target.replace_book(book(line(1)), NOW + 10) == keys(2)


def test_a_line_that_has_expired_when_it_comes_takes_all_below() -> None:
    target = directory(line(1))
    add(target, 1, 2)
    assert target.replace_book(book(line(1, expires=NOW)), NOW) == keys(2)
    assert target.next_expiry(NOW) == 0


def test_with_a_file_as_it_is_written() -> None:
    """The node's own parser, to see that both mean the same by a key that is named."""
    text = f"{key(1).hex()} one caps=all,60 role=admin\n"
    target = Directory(parse_agents(text), node_key=NODE)
    add(target, 1, 2, 1 << 0x60 | 1)
    add(target, 2, 3, 1)
    twice = f"{key(2).hex()} caps=all\n" * 2
    assert target.replace_book(parse_agents(text + twice), NOW) == keys(2, 3)
    assert target.holding(key(2), NOW) is None
