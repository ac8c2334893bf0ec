"""`known_hosts` and a node that gets another key: what is replaced, and what stays as it is."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path

import pytest

import asys
from asys.protocol.keys import PrivateKey
from asys.protocol.statement import BadStatement, KeyStatement

KEYS = [PrivateKey(bytes([number]) * 32) for number in range(31, 35)]
WAY = [KeyStatement.of(old, new.public, 7, 9) for old, new in pairwise(KEYS)]
OTHER = PrivateKey(bytes([40]) * 32).public


@pytest.fixture
def hosts(tmp_path: Path) -> asys.KnownHosts:
    made = asys.KnownHosts(tmp_path / "known_hosts")
    made.path.write_text(
        "# mine\n\n"
        f"other:1  {OTHER.hex()}\n"
        f"  NODE:7816 \t {KEYS[0].public.hex()}  \n"
        f"# NODE again\nnode:7816  {KEYS[0].public.hex()}\n"
        f"[::1]:7816  {KEYS[0].public.hex()}"
    )
    return made


def test_a_line_is_replaced_and_all_others_stay(hosts: asys.KnownHosts) -> None:
    assert hosts.carry("node", 7816, WAY[:1]) == KEYS[1].public
    assert hosts.path.read_text() == (
        "# mine\n\n"
        f"other:1  {OTHER.hex()}\n"
        f"#superseded  node:7816  {KEYS[0].public.hex()}\n"
        f"node:7816  {KEYS[1].public.hex()}\n"
        f"# NODE again\n"
        f"[::1]:7816  {KEYS[0].public.hex()}\n"
    )
    assert hosts.superseded("node") == {KEYS[0].public}
    assert hosts.superseded("::1") == frozenset()
    assert hosts.all_superseded() == {"node:7816": frozenset({KEYS[0].public})}


def test_what_is_superseded_is_a_comment_to_others(hosts: asys.KnownHosts) -> None:
    """A reader of 0.3.1 skips what begins with #."""
    hosts.carry("node", 7816, WAY[:1])
    line = re.compile(r"(\S+)\s+([0-9a-f]{64})")
    read = [
        line.fullmatch(one.strip())
        for one in hosts.path.read_text().splitlines()
        if one.strip() and not one.lstrip().startswith("#")
    ]
    assert all(read)
    assert len(read) == 3


def test_several_at_once_and_one_after_the_other(hosts: asys.KnownHosts) -> None:
    assert hosts.carry("node", 7816, WAY[::-1]) == KEYS[3].public
    assert hosts.superseded("node") == {one.public for one in KEYS[:3]}
    before = hosts.path.read_bytes()
    assert hosts.carry("node", 7816, WAY) == KEYS[3].public
    assert hosts.carry("node", 7816, []) == KEYS[3].public
    assert hosts.path.read_bytes() == before


def test_nothing_leads_back(hosts: asys.KnownHosts) -> None:
    hosts.carry("node", 7816, WAY[:2])
    before = hosts.path.read_bytes()
    back = KeyStatement.of(KEYS[2], KEYS[0].public, 7, 9)
    with pytest.raises(BadStatement, match="leads back"):
        hosts.carry("node", 7816, [back])
    assert hosts.carry("node", 7816, WAY[:1]) == KEYS[2].public  # an old one is passed over
    assert hosts.path.read_bytes() == before


def test_a_bad_one_changes_nothing(hosts: asys.KnownHosts) -> None:
    before = hosts.path.read_bytes()
    bad = KeyStatement(KEYS[1].public, OTHER, 7, 9, WAY[1].signature)
    with pytest.raises(BadStatement, match="not signed"):
        hosts.carry("node", 7816, [WAY[0], bad])
    assert hosts.path.read_bytes() == before


def test_a_node_that_is_not_there_has_nothing_to_state(hosts: asys.KnownHosts) -> None:
    with pytest.raises(asys.IdentityError, match="no key for nobody:7816"):
        hosts.carry("nobody", 7816, WAY)


def test_a_person_has_the_last_word(hosts: asys.KnownHosts) -> None:
    hosts.carry("node", 7816, WAY)
    assert hosts.remove("node")
    assert hosts.superseded("node") == frozenset()
    hosts.add("node", 7816, KEYS[0].public)
    assert hosts.carry("node", 7816, WAY[:1]) == KEYS[1].public


def test_what_another_writes_meanwhile_is_kept(
    hosts: asys.KnownHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, late = os.fsync, [1]

    def fsync(handle: int) -> None:
        real(handle)
        if late:
            late.pop()
            with hosts.path.open("a") as file:
                file.write(f"\nlate:1  {OTHER.hex()}\n")

    monkeypatch.setattr(os, "fsync", fsync)
    hosts.carry("node", 7816, WAY[:1])
    assert hosts.lookup("late", 1) == OTHER
    assert hosts.lookup("node") == KEYS[1].public
    assert [one.name for one in hosts.path.parent.iterdir()] == ["known_hosts"]


def test_a_file_that_is_never_still_is_said(
    hosts: asys.KnownHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = os.fsync, iter(range(1000))

    def fsync(handle: int) -> None:
        real(handle)
        with hosts.path.open("a") as file:
            file.write(f"\nlate-{next(count)}:1  {OTHER.hex()}\n")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(asys.IdentityError, match="try again"):
        hosts.carry("node", 7816, WAY[:1])


def test_a_directory_that_takes_nothing_is_said(hosts: asys.KnownHosts, tmp_path: Path) -> None:
    gone = asys.KnownHosts(tmp_path / "gone" / "known_hosts")
    assert not gone.remove("node")
    with pytest.raises(asys.IdentityError):
        gone.carry("node", 7816, WAY)


@pytest.mark.parametrize(
    "line", ["#superseded", "#superseded x", "#superseded  a b:1:2  " + "00" * 32]
)
def test_comments_that_are_none_of_ours_are_comments(hosts: asys.KnownHosts, line: str) -> None:
    hosts.path.write_text(f"{line}\nnode:7816  {KEYS[0].public.hex()}\n")
    assert hosts.all_superseded() == {}
    assert hosts.carry("node", 7816, WAY[:1]) == KEYS[1].public
    assert line in hosts.path.read_text()
