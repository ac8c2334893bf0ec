"""The tree of exceptions and the table between status words and classes."""

from __future__ import annotations

import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys import errors
from asys.errors import (
    STATUS_ERRORS,
    AlreadyReceived,
    AsysError,
    HostKeyChanged,
    LinkError,
    NodeError,
    OutcomeUnknown,
    StatusError,
    UnknownHost,
    status_error,
)
from asys.protocol.status import MEANINGS, SW, explain

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, Exception)
}
FAILURES = [sw for sw in SW if sw != SW.SUCCESS]


def _drawn() -> dict[str, tuple[str, set[str]]]:
    """The tree in the docstring: class -> (parent, further bases in brackets)."""
    found: dict[str, tuple[str, set[str]]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        mark = max(line.find("|-- "), line.find("`-- "))
        if mark < 0 and line.strip() != "AsysError":
            continue
        name, _, rest = line[mark + 4 if mark >= 0 else 4 :].partition(" ")
        depth = (mark - 4) // 4 + 1 if mark >= 0 else 0
        also = rest[1 : rest.index(")")] if rest.startswith("(") else ""
        del path[depth:]
        found[name] = (path[-1] if path else "", {also} - {""})
        path.append(name)
    return found


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = _drawn()
    assert set(drawn) == set(CLASSES)
    for name, (parent, also) in drawn.items():
        bases = {base.__name__ for base in CLASSES[name].__bases__}
        if name == "AsysError":
            assert bases == {"Exception"}
        elif name == "AlreadyReceived":
            assert parent == "OutcomeUnknown"
            assert bases == {"StatusError", "OutcomeUnknown"}
        elif name == "LinkError":
            assert bases == {"AsysError", "ConnectionError"}
        else:
            assert bases == {parent} | also


def test_everything_has_one_root_and_says_what_it_is() -> None:
    for kind in CLASSES.values():
        assert issubclass(kind, AsysError)
        assert kind.__doc__


def test_the_families_do_not_overlap() -> None:
    families = [
        *(errors.ArgumentError, errors.IdentityError, errors.InventoryError, errors.StillSuspended),
        *(LinkError, StatusError, OutcomeUnknown),
    ]
    for kind in CLASSES.values():
        inside = [family for family in families if issubclass(kind, family)]
        if kind is AlreadyReceived:
            assert inside == [StatusError, OutcomeUnknown]
        elif kind is not AsysError:
            assert len(inside) == 1


@pytest.mark.parametrize("sw", FAILURES, ids=str)
def test_each_status_word_has_exactly_one_class(sw: SW) -> None:
    owners = [
        kind for kind in CLASSES.values() if issubclass(kind, StatusError) and kind.default_sw == sw
    ]
    assert owners == [STATUS_ERRORS[sw]]
    error = status_error(sw, "SYS_CAPS")
    assert type(error) is owners[0]
    assert error.sw == sw
    assert (error.meaning, error.advice) == MEANINGS[sw]
    assert error.instruction == "SYS_CAPS"
    assert str(error) == f"SYS_CAPS: {sw} {error.meaning}; {error.advice}"
    alone = owners[0]()
    assert alone.sw == sw
    assert str(alone).startswith(str(sw))


def test_the_table_has_the_failures_and_nothing_else() -> None:
    assert set(STATUS_ERRORS) == set(FAILURES)
    assert set(MEANINGS) == set(SW)
    assert len(set(STATUS_ERRORS.values())) == len(STATUS_ERRORS)


@given(st.integers(0, 0xFFFF))
def test_any_status_word_has_an_exception(sw: int) -> None:
    error = status_error(sw)
    assert isinstance(error, StatusError)
    assert error.sw == sw
    assert f"{sw:04X}" in str(error)
    assert error.meaning
    assert error.advice
    if sw not in STATUS_ERRORS:
        assert type(error) is (NodeError if sw >> 8 == 0x6F else StatusError)


@pytest.mark.parametrize("sw", [0x6F06, 0x6FFE])
def test_an_unknown_node_error_is_one(sw: int) -> None:
    error = status_error(sw, "SVC_RESTART")
    assert type(error) is NodeError
    assert error.sw == sw
    assert "of a kind unknown to this version" in str(error)


def test_an_unknown_status_word() -> None:
    error = status_error(0x1234)
    assert type(error) is StatusError
    assert str(error) == (
        "1234 status word unknown to this version; treat it as a failure and report it"
    )


def test_success_with_node_flags_is_explained() -> None:
    assert explain(0x9101).meaning == "success, and the node has more to tell"
    assert explain(0x9101).advice == "use the payload"
    assert explain(0x9000) == MEANINGS[SW.SUCCESS]


def test_already_received_is_both() -> None:
    error = status_error(0x6985, "PROC_THROTTLE", seq=7)
    assert isinstance(error, AlreadyReceived)
    assert isinstance(error, StatusError)
    assert isinstance(error, OutcomeUnknown)
    assert (error.sw, error.instruction, error.seq) == (0x6985, "PROC_THROTTLE", 7)
    assert "neither success nor failure" in str(error)


def test_an_unknown_outcome_says_of_what() -> None:
    error = OutcomeUnknown("the connection was lost", instruction="SVC_RESTART", seq=3)
    assert (str(error), error.instruction, error.seq) == (
        "the connection was lost",
        "SVC_RESTART",
        3,
    )


def test_python_s_own_families() -> None:
    assert issubclass(errors.ArgumentError, ValueError)
    assert issubclass(LinkError, ConnectionError)
    assert issubclass(errors.DeadlineExceeded, TimeoutError)
    assert not issubclass(StatusError, OSError)
    assert not issubclass(OutcomeUnknown, OSError)


def test_a_host_key_error_says_what_to_run() -> None:
    unknown = errors.UnknownHost("box:7816", bytes(32))
    assert (unknown.host, unknown.key) == ("box:7816", bytes(32))
    assert "asys trust box:7816" in str(unknown)
    changed = errors.HostKeyChanged("box:7816", bytes(32), bytes([1]) * 32)
    assert (changed.host, changed.key, changed.known) == ("box:7816", bytes(32), bytes([1]) * 32)
    assert "HAS CHANGED" in str(changed)
    assert bytes(32).hex() in str(changed)
    assert (bytes([1]) * 32).hex() in str(changed)


def test_status_words_on_the_wire() -> None:
    assert SW.SUCCESS.wire == b"\x90\x00"
    assert SW.NO_SUCH_INSTRUCTION.wire == b"\x6a\x81"
    assert str(SW.NODE_UNKNOWN_ERROR) == "6FFF"
    assert [f"{sw}" for sw in SW] == [
        "9000",
        "6400",
        "6700",
        "6982",
        "6985",
        "6A80",
        "6A81",
        "6D00",
        "6E00",
        "6F00",
        "6F01",
        "6F02",
        "6F03",
        "6F04",
        "6F05",
        "6FFF",
    ]


@pytest.mark.parametrize(
    "error",
    [
        *(kind() for kind in STATUS_ERRORS.values()),
        status_error(SW.DENIED, "PROC_THROTTLE"),
        status_error(SW.ALREADY_RECEIVED, "SVC_RESTART", 7),
        UnknownHost("node:7816", bytes(32)),
        HostKeyChanged("node:7816", bytes(32), bytes(range(32))),
        OutcomeUnknown("lost", instruction="SVC_RESTART", seq=9),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_survives_the_way_between_processes(error: AsysError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
