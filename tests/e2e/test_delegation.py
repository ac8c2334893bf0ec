"""AGENT_ADD: every answer, and what an added agent has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from asys.node.agents.directory import MAX_DELEGATES, MAX_DEPTH
from asys.protocol.keys import PrivateKey
from support.children import waiting
from support.daemon import AGENT, Daemon, running
from support.delegates import (
    CONNECTED,
    CORE,
    Row,
    add,
    addition,
    key_hash,
    listing,
    map_of,
    remove,
    sealed,
)
from support.frames import (
    BLOCKED,
    DENIED,
    INVALID_PAYLOAD,
    NO_SUCH_INSTRUCTION,
    OK,
    WRONG_LENGTH,
    frame,
)
from support.lit import lit
from support.tree import HELD, LINE, SECURITY, Tree, refused

LOW_ORDER = (
    bytes(32),
    b"\x01" + bytes(31),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("asyd"), "--handshake-rate", "0", agents={}) as daemon:
        yield daemon


@pytest.fixture
def tree(node: Daemon) -> Iterator[Tree]:
    with ExitStack() as stack:
        yield Tree(node, stack)


# -- AGENT_ADD


def test_an_added_agent_has_what_it_was_given(tree: Tree) -> None:
    key = PrivateKey.generate()
    with tree.node.connect(key) as early:
        assert early.final() == [DENIED]
    assert add(tree.root, key.public, {0x00, 0x01, 0x20}) == key_hash(key.public) + OK
    with tree.node.connect(key) as agent, waiting() as child:
        assert lit(agent) == {0x00, 0x01, 0x20}
        assert agent.ask(agent.throttle(child.pid)) == OK
        assert agent.ask(agent.throttle(1)) == DENIED
        assert agent.ask(frame(0x02)) == NO_SUCH_INSTRUCTION
        assert agent.ask(sealed(agent, 0x62)) == NO_SUCH_INSTRUCTION


@pytest.mark.parametrize("cut", [1, 2, 31, 69, 100])
def test_a_payload_that_is_too_short(tree: Tree, cut: int) -> None:
    request = addition(PrivateKey.generate().public, label=b"x" * 31)
    refused(tree.root, 0x60, request[:-cut], WRONG_LENGTH)


@pytest.mark.parametrize(
    ("count", "size"), [(0, 1), (1, 0), (1, 2), (5, 4), (31, 30), (31, 32), (200, 31), (255, 100)]
)
def test_a_label_that_is_not_as_long_as_it_says(tree: Tree, count: int, size: int) -> None:
    base = addition(PrivateKey.generate().public)[:-1] + bytes((count,))
    refused(tree.root, 0x60, base + b"x" * size, WRONG_LENGTH)


@pytest.mark.parametrize(
    "label", [b"a b", b"a=b", b"\0", b"a\n", b"\xc3\xa4", b"caps=all", b"#", b"x" * 32, b"/"]
)
def test_labels_that_are_none(tree: Tree, label: bytes) -> None:
    request = addition(PrivateKey.generate().public, label=label)
    refused(tree.root, 0x60, request, INVALID_PAYLOAD)


@pytest.mark.parametrize("label", [b"", b"a", b"A.b_c-9", b"x" * 31])
def test_labels(tree: Tree, label: bytes) -> None:
    key = PrivateKey.generate().public
    assert add(tree.root, key, label=label)[4:] == OK
    assert [row.label for row in listing(tree.root)] == [label]


@pytest.mark.parametrize("key", LOW_ORDER, ids=[key.hex()[:4] for key in LOW_ORDER])
def test_low_order_keys(tree: Tree, key: bytes) -> None:
    refused(tree.root, 0x60, addition(key), INVALID_PAYLOAD)
    refused(tree.root, 0x60, addition(key, {0xFF}), INVALID_PAYLOAD)


def test_the_nodes_own_key(tree: Tree) -> None:
    refused(tree.root, 0x60, addition(tree.node.key), INVALID_PAYLOAD)


def test_a_time_beyond_the_year_2106(tree: Tree) -> None:
    key = PrivateKey.generate().public
    refused(tree.root, 0x60, addition(key, ttl=0xFFFFFFFF), INVALID_PAYLOAD)


@pytest.mark.parametrize("code", [0x05, 0x14, 0x30, 0x8F, 0x90, 0xC0, 0xFF])
def test_a_map_beyond_the_callers(tree: Tree, code: int) -> None:
    key = PrivateKey.generate().public
    for codes in ({code}, HELD | {code}, set(range(256))):
        refused(tree.root, 0x60, addition(key, codes), DENIED)


def test_a_map_beyond_the_callers_although_within_the_lines(tree: Tree) -> None:
    child = tree.connect(tree.below(tree.root, CORE | SECURITY))
    key = PrivateKey.generate().public
    refused(child, 0x60, addition(key, {0x20}), DENIED)
    assert add(child, key, CORE)[4:] == OK


def test_an_empty_map(tree: Tree) -> None:
    with tree.node.connect(tree.below(tree.root, set())) as agent:
        assert agent.ask(frame(0x00)) == NO_SUCH_INSTRUCTION
        assert agent.ask(frame(0x01)) == NO_SUCH_INSTRUCTION


def test_keys_that_are_known_from_elsewhere(tree: Tree) -> None:
    child_key = tree.below(tree.root)
    child = tree.connect(child_key)
    grandchild_key = tree.below(child)
    known = {
        "itself": (child, child_key),
        "a line": (child, tree.admin_key),
        "its own line": (child, tree.root_key),
        "the line itself": (tree.root, tree.root_key),
        "another parent's, above": (tree.root, grandchild_key),
    }
    for agent, key in known.values():
        refused(agent, 0x60, addition(key.public), INVALID_PAYLOAD)
    with tree.node.connect(tree.admin_key) as admin:
        before = listing(admin)
        for key in (child_key, grandchild_key, tree.root_key, tree.admin_key):
            assert add(admin, key.public) == INVALID_PAYLOAD
        assert listing(admin) == before


def test_a_key_with_the_hash_of_another(tree: Tree) -> None:
    """Four bytes: among some 100,000 keys two have the same."""
    seen: dict[bytes, bytes] = {}
    for number in range(1_000_000):
        key = number.to_bytes(32, "big")[::-1][:31] + b"\x01"
        other = seen.setdefault(key_hash(key), key)
        if other != key:
            break
    assert key_hash(other) == key_hash(key)
    assert add(tree.root, other)[:4] == key_hash(key)
    child = tree.connect(tree.below(tree.root))
    refused(tree.root, 0x60, addition(key), INVALID_PAYLOAD)
    refused(child, 0x60, addition(key), INVALID_PAYLOAD)
    assert remove(tree.root, other) == OK
    assert add(tree.root, key)[4:] == OK


def test_the_key_of_a_bad_line(tree: Tree) -> None:
    key = PrivateKey.generate()
    tree.write(LINE, {key: "bad caps=nonsense"})
    refused(tree.root, 0x60, addition(key.public), INVALID_PAYLOAD)


def test_again_by_the_same_parent_replaces(tree: Tree) -> None:
    key = PrivateKey.generate()
    assert add(tree.root, key.public, {0x00, 0x01, 0x20}, 1000, b"first")[4:] == OK
    with tree.node.connect(key) as agent:
        assert lit(agent) == {0x00, 0x01, 0x20}
        assert add(tree.root, key.public, {0x00, 0x02}, 0, b"second")[4:] == OK
        assert lit(agent) == {0x00, 0x02}  # the live session, too
        assert agent.ask(frame(0x01)) == NO_SUCH_INSTRUCTION
        (row,) = listing(tree.root)
        assert row == Row(
            key.public,
            key_hash(tree.root_key.public),
            frozenset({0x00, 0x02}),
            0,
            CONNECTED,
            b"second",
        )


def test_a_replacement_keeps_what_is_below_within_it(tree: Tree) -> None:
    (child_key, child), (_, grandchild) = tree.chain(2)
    assert lit(grandchild) == HELD & lit(tree.root)
    assert add(tree.root, child_key.public, {0x00, 0x01, 0x62})[4:] == OK
    assert lit(grandchild) == {0x00, 0x01, 0x62}
    assert lit(child) == {0x00, 0x01, 0x62}
    assert add(tree.root, child_key.public, HELD)[4:] == OK
    assert lit(grandchild) == HELD & lit(tree.root)


# -- how many


def test_four_levels(tree: Tree) -> None:
    chain = tree.chain(MAX_DEPTH)
    assert MAX_DEPTH == 4
    last = chain[-1][1]
    key = PrivateKey.generate().public
    refused(last, 0x60, addition(key), BLOCKED)
    refused(last, 0x60, addition(key, {0xFF}), DENIED)  # stands before it
    refused(last, 0x60, addition(bytes(32)), INVALID_PAYLOAD)
    refused(last, 0x60, addition(tree.root_key.public), BLOCKED)
    assert len(listing(tree.root)) == MAX_DEPTH


def test_64_below_one_line_on_all_levels_together(tree: Tree) -> None:
    child_key = tree.below(tree.root)
    child = tree.connect(child_key)
    keys = [PrivateKey.generate().public for _ in range(MAX_DELEGATES - 1)]
    assert MAX_DELEGATES == 64
    for number, key in enumerate(keys):
        assert add(child if number % 2 else tree.root, key)[4:] == OK
    extra = PrivateKey.generate().public
    for agent in (tree.root, child):
        assert add(agent, extra) == BLOCKED
        assert add(agent, tree.root_key.public) == BLOCKED  # before whether it is known
        assert add(agent, extra, {0xFF}) == DENIED
    assert add(tree.root, keys[0], {0x01})[4:] == OK  # one that it has already
    with tree.node.connect(tree.admin_key) as admin:  # another line has room of its own
        assert add(admin, extra)[4:] == OK
        assert remove(admin, extra) == OK
    assert remove(tree.root, keys[0]) == OK
    assert add(tree.root, extra)[4:] == OK
    assert add(tree.root, keys[0]) == BLOCKED


# -- to whom it does not exist


def test_to_who_has_none_of_it_it_does_not_exist(tree: Tree) -> None:
    agent = tree.connect(tree.below(tree.root, CORE))
    for ins in sorted(SECURITY):
        for payload in (b"", bytes(32), addition(AGENT.public)):
            assert agent.ask(frame(ins, payload)) == NO_SUCH_INSTRUCTION
            assert agent.ask(agent.signed(ins, payload)) == NO_SUCH_INSTRUCTION
            assert agent.ask(sealed(agent, ins, payload)) == NO_SUCH_INSTRUCTION


def test_all_does_not_name_it(tree: Tree) -> None:
    tree.write("caps=all")
    assert not lit(tree.root) & SECURITY
    assert add(tree.root, PrivateKey.generate().public, map_of([])) == NO_SUCH_INSTRUCTION


def test_pipelined_additions_and_removals_run_in_order(tree: Tree) -> None:
    keys = [PrivateKey.generate().public for _ in range(8)]
    requests = [sealed(tree.root, 0x60, addition(key)) for key in keys]
    requests += [sealed(tree.root, 0x61, key) for key in keys]
    requests.append(sealed(tree.root, 0x62))
    tree.root.send(*requests)
    assert [tree.root.answer() for _ in keys] == [key_hash(key) + OK for key in keys]
    assert [tree.root.answer() for _ in keys] == [OK] * 8
    assert tree.root.answer() == bytes(4) + OK
