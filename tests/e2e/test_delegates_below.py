"""AGENT_LIST, AGENT_REMOVE, and what becomes of added agents when the file changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from asys.protocol.keys import PrivateKey
from support.daemon import CORE_AGENT, Daemon, running
from support.delegates import (
    ADMIN,
    CONNECTED,
    CORE,
    PAGE,
    Row,
    add,
    key_hash,
    listing,
    page,
    remove,
)
from support.frames import (
    DENIED,
    INVALID_PAYLOAD,
    NO_SUCH_INSTRUCTION,
    OK,
    WRONG_LENGTH,
)
from support.lit import lit
from support.tree import GROUP_6, HELD, LINE, SECURITY, Tree, refused


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("asyd"), "--handshake-rate", "0", agents={}) as daemon:
        yield daemon


@pytest.fixture
def tree(node: Daemon) -> Iterator[Tree]:
    with ExitStack() as stack:
        yield Tree(node, stack)


# -- AGENT_LIST


def test_pages_of_32_in_order_of_registration(tree: Tree) -> None:
    keys = [PrivateKey.generate().public for _ in range(PAGE + 5)]
    for number, key in enumerate(keys):
        assert add(tree.root, key, label=f"n{number}".encode())[4:] == OK
    first, second = page(tree.root, 0), page(tree.root, 1)
    assert (first[0], len(first[1]), second[0], len(second[1])) == (PAGE + 5, PAGE, PAGE + 5, 5)
    assert [row.key for row in first[1] + second[1]] == keys
    assert [row.label for row in second[1]] == [f"n{PAGE + n}".encode() for n in range(5)]
    for number in (2, 3, 255):
        assert page(tree.root, number) == (PAGE + 5, [])
    assert add(tree.root, keys[3])[4:] == OK  # again: it keeps its place
    assert [row.key for row in listing(tree.root)] == keys


def test_a_listing_shows_ones_own_subtree(tree: Tree) -> None:
    (child_key, child), (grandchild_key, grandchild) = tree.chain(2)
    other_key = tree.below(tree.root, {0x01})
    assert listing(grandchild) == []
    assert [row.key for row in listing(child)] == [grandchild_key.public]
    rows = listing(tree.root)
    assert [row.key for row in rows] == [
        child_key.public,
        grandchild_key.public,
        other_key.public,
    ]
    assert [row.parent for row in rows] == [
        key_hash(one.public) for one in (tree.root_key, child_key, tree.root_key)
    ]
    assert [row.flags for row in rows] == [CONNECTED, CONNECTED, 0]
    assert rows[2].codes == {0x01}


def test_an_admin_sees_all(tree: Tree) -> None:
    (child_key, _), (grandchild_key, _) = tree.chain(2)
    admin = tree.connect(tree.admin_key)
    rows = {row.key: row for row in listing(admin)}
    assert list(rows) == [
        tree.root_key.public,
        tree.admin_key.public,
        child_key.public,
        grandchild_key.public,
    ]
    assert rows[tree.root_key.public] == Row(
        tree.root_key.public, bytes(4), frozenset(HELD | GROUP_6), 0, CONNECTED, b"root"
    )
    own = rows[tree.admin_key.public]
    assert (own.flags, own.parent, own.label) == (CONNECTED | ADMIN, bytes(4), b"admin")
    assert rows[grandchild_key.public].parent == key_hash(child_key.public)


def test_connected_is_who_has_a_session(tree: Tree) -> None:
    key = tree.below(tree.root)
    assert listing(tree.root)[0].flags == 0
    with tree.node.connect(key) as agent:
        assert listing(tree.root)[0].flags == 0  # the handshake alone could be a replay
        assert agent.alive()
        assert listing(tree.root)[0].flags == CONNECTED
        agent.finish()
        assert agent.ended()
    assert listing(tree.root)[0].flags == 0


def test_role_admin_is_never_handed_on(tree: Tree) -> None:
    tree.write(LINE)
    with tree.node.connect(tree.admin_key) as admin:
        key = PrivateKey.generate()
        assert add(admin, key.public, CORE | SECURITY)[4:] == OK
        with tree.node.connect(key) as below:
            assert listing(below) == []
            assert remove(below, tree.below(tree.root).public) == INVALID_PAYLOAD
            row = next(row for row in listing(admin) if row.key == key.public)
            assert row.flags == CONNECTED


# -- AGENT_REMOVE


def test_removal_closes_the_sessions_of_the_whole_subtree_before_it_answers(tree: Tree) -> None:
    chain = tree.chain(4)
    again = tree.connect(chain[1][0])
    unconfirmed = tree.node.connect(chain[2][0])
    stays = tree.connect(tree.below(tree.root))
    with unconfirmed:
        assert remove(tree.root, chain[0][0].public) == OK
        assert len(listing(tree.root)) == 1
        for one in [*(agent for _, agent in chain), again, unconfirmed]:
            assert one.final() == []
    assert stays.alive()
    for key, _ in chain:
        with tree.node.connect(key) as agent:
            assert agent.final() == [DENIED]


def test_who_cannot_be_removed(tree: Tree) -> None:
    (child_key, child), (grandchild_key, grandchild) = tree.chain(2)
    sibling_key = tree.below(tree.root)
    admin = tree.connect(tree.admin_key)
    cases = [
        (tree.root, tree.root_key.public, DENIED),
        (tree.root, tree.admin_key.public, DENIED),
        (child, tree.root_key.public, DENIED),
        (admin, tree.root_key.public, DENIED),
        (admin, tree.admin_key.public, DENIED),
        (child, child_key.public, INVALID_PAYLOAD),  # itself
        (child, sibling_key.public, INVALID_PAYLOAD),
        (grandchild, child_key.public, INVALID_PAYLOAD),  # above it
        (tree.root, PrivateKey.generate().public, INVALID_PAYLOAD),
        (admin, PrivateKey.generate().public, INVALID_PAYLOAD),
        (tree.root, tree.node.key, INVALID_PAYLOAD),
        (tree.root, bytes(32), INVALID_PAYLOAD),
    ]
    for agent, key, answer in cases:
        refused(agent, 0x61, key, answer)
    assert len(listing(tree.root)) == 3
    assert remove(tree.root, grandchild_key.public) == OK  # two levels below is below


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_key_has_32_bytes(tree: Tree, size: int) -> None:
    refused(tree.root, 0x61, bytes(size), WRONG_LENGTH)


def test_an_admin_removes_whom_another_has_added(tree: Tree) -> None:
    (child_key, child), (_, grandchild) = tree.chain(2)
    with tree.node.connect(tree.admin_key) as admin:
        assert remove(admin, child_key.public) == OK
        assert child.final() == grandchild.final() == []
        assert remove(admin, child_key.public) == INVALID_PAYLOAD
    assert listing(tree.root) == []


def test_who_was_removed_can_be_added_by_another(tree: Tree) -> None:
    child = tree.connect(tree.below(tree.root))
    key = tree.below(child)
    assert add(tree.root, key.public) == INVALID_PAYLOAD
    assert remove(tree.root, key.public) == OK
    assert add(tree.root, key.public)[4:] == OK
    assert add(child, key.public) == INVALID_PAYLOAD


# -- SIGHUP


def test_maps_shrink_and_grow_with_the_line(tree: Tree) -> None:
    (_, child), (_, grandchild) = tree.chain(2)
    possible = lit(tree.root)
    assert lit(grandchild) == possible
    tree.write("caps=core")
    for one in (tree.root, child, grandchild):
        assert lit(one) == CORE
        assert one.ask(one.throttle(1)) == NO_SUCH_INSTRUCTION
    tree.write("caps=SYS_CAPS,PROC_THROTTLE")
    for one in (tree.root, child, grandchild):
        assert lit(one) == {0x00, 0x20}
    tree.write("caps=all,security,vendor")  # never more than each link was given
    assert lit(child) == lit(grandchild) == possible
    assert lit(tree.root) > possible


def test_without_the_line_the_subtree_goes_for_good(tree: Tree) -> None:
    chain = tree.chain(3)
    tree.node.reload({CORE_AGENT: "other"})
    for _, agent in chain:
        assert agent.final() == []
    tree.write()
    for key, _ in chain:
        with tree.node.connect(key) as agent:
            assert agent.final() == [DENIED]
    with tree.node.connect(tree.root_key) as root:
        assert listing(root) == []


def test_a_line_for_the_key_of_an_added_agent_overrides_it(tree: Tree) -> None:
    (child_key, child), (_, grandchild) = tree.chain(2)
    tree.write(LINE, {child_key: "mine-now caps=SYS_CAPS"})
    assert lit(child) == {0x00}
    assert grandchild.final() == []
    assert listing(tree.root) == []
    assert remove(tree.root, child_key.public) == DENIED
    assert add(tree.root, child_key.public) == INVALID_PAYLOAD
    tree.write()  # the line goes again, and the entry does not come back
    assert child.final() == []
    with tree.node.connect(child_key) as agent:
        assert agent.final() == [DENIED]
    assert add(tree.root, child_key.public)[4:] == OK


def test_a_bad_line_for_the_key_of_an_added_agent_shuts_it_out(tree: Tree) -> None:
    ((key, agent),) = tree.chain(1)
    tree.write(LINE, {key: "bad caps=nonsense"})
    assert agent.final() == []
    with tree.node.connect(key) as again:
        assert again.final() == [DENIED]
    assert add(tree.root, key.public) == INVALID_PAYLOAD
