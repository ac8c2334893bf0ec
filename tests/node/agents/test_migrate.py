"""authorized_agents of asyd 0.3.1 in our words: what each line becomes, and what is refused."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asys.isa.capmap import describe
from asys.node.agents.book import parse_agents
from asys.node.agents.migrate import LEFT_OUT, Migration, migrate, parse_wishes
from asys.node.disk.files import ConfigError
from asys.protocol.keys import PrivateKey

WEB, BATCH, THIRD = (PrivateKey(bytes([n]) * 32).public.hex() for n in range(1, 4))
LOW_ORDER = "00" * 32
INTO = Path("/a new/asyd")


def done(text: str, *caps: str) -> Migration:
    return migrate(text, parse_wishes(caps), INTO)


def test_each_line_keeps_its_number_its_comment_and_its_label() -> None:
    text = f"# the web\n{WEB} web\n\n  # night\r\n\t{BATCH.upper()}  batch \r\n{THIRD}"
    found = done(text, "core", "batch=core,SVC_RESTART", f"{THIRD.upper()}=all")
    assert found.text == (
        f"# the web\n{WEB} web caps=core\n\n  # night\r\n"
        f"{BATCH.upper()} batch caps=core,SVC_RESTART\r\n{THIRD} caps=all"
    )
    assert [(one.line, one.label, describe(one.caps)) for one in found.agents] == [
        (2, "web", "core"),
        (5, "batch", "core,SVC_RESTART"),
        (6, "", "all"),
    ]
    assert found.left_out == ()
    assert parse_agents(found.text).agents == {one.key: one for one in found.agents}


@pytest.mark.parametrize(
    ("line", "fault", "remedy"),
    [
        ("nonsense", "must begin with a public key of 64 hex digits", "asyd agents add KEY "),
        (f"{BATCH} night jobs", "a second label 'jobs'", f"asyd agents add {BATCH} "),
        (f"{BATCH} # night", "the label '#' is not", f"asyd agents add {BATCH} "),
        (f"{BATCH} {'x' * 32}", "is not 1 to 31 of", f"asyd agents add {BATCH} "),
        (f"{BATCH} shell=yes", "option 'shell' is not known", f"asyd agents add {BATCH} "),
        (f"{BATCH} \x1b[2J", "characters that do not print", f"asyd agents add {BATCH} "),
        (f"{WEB.upper()} again", "the key of line 1 stands here again", "line 1 is the right one"),
        (LOW_ORDER, "low order", "make another key (asys keygen)"),
        (f"*{BATCH}", "must begin with a public key", f"asyd agents add {BATCH} "),
    ],
)
def test_what_cannot_be_taken_over_is_named_and_kept(line: str, fault: str, remedy: str) -> None:
    found = done(f"{WEB} web\n{line}\n", "core")
    assert found.text == f"{WEB} web caps=core\n{LEFT_OUT}{line}\n"
    [one] = found.left_out
    assert one.line == 2
    assert fault in one.fault
    assert remedy in one.remedy
    if "asyd agents add" in one.remedy:
        assert one.remedy.endswith(f" --caps core --config-dir {shlex.quote(str(INTO))}")
    book = parse_agents(found.text)
    assert (set(book.named), book.faults) == ({bytes.fromhex(WEB)}, ())


def test_a_bad_line_does_not_stand_in_the_way_of_a_good_one() -> None:
    found = done(f"{WEB} a b\n{WEB} web\n", "core")
    assert [(one.line, one.label) for one in found.agents] == [(2, "web")]
    assert [one.line for one in found.left_out] == [1]


def test_a_line_that_says_what_it_has_keeps_it_unless_it_is_named() -> None:
    text = f"{WEB} web users=0 caps=core,process\n{BATCH} batch caps=all\n"
    found = done(text, "core", "batch=core")
    assert found.text == (f"{WEB} web caps=core,process users=0\n{BATCH} batch caps=core\n")
    assert done(f"{WEB} caps=core\n", "all").text == f"{WEB} caps=core\n"


@pytest.mark.parametrize(
    ("caps", "fault"),
    [
        (["restart"], "--caps: 'restart' is no instruction"),
        (["web="], "--caps: '' is no instruction"),
        (["=core"], "'=core' names nobody in front of ="),
        (["core", "all"], "--caps for everybody stands twice"),
        (["web=core", "web=all"], "--caps for 'web' stands twice"),
        ([f"{WEB}=core", f"{WEB.upper()}=all"], "stands twice"),
        (
            ["core", "nobody=core"],
            "no line that can be taken over has this key or label; there are ",
        ),
        (["core", "web=all", f"{WEB}=core"], "line 1 is named twice, by label and by key"),
        (["core", "same=all"], "more than one agent has this label; name its key"),
        (["web=core"], "nothing says what is to exist for same, same; add --caps LIST"),
    ],
)
def test_caps_that_mean_nothing_for_these_agents(caps: list[str], fault: str) -> None:
    text = f"{WEB} web\n{BATCH} same\n{THIRD} same\n"
    with pytest.raises(ConfigError, match=re.escape(fault)):
        done(text, *caps)


def test_of_many_agents_some_are_named() -> None:
    keys = [PrivateKey(bytes([n]) * 32).public.hex() for n in range(1, 9)]
    text = "".join(f"{key} agent-{n}\n" for n, key in enumerate(keys))
    with pytest.raises(ConfigError, match=r"agent-4 and 3 more$"):
        done(text, "nobody=core")
    with pytest.raises(ConfigError, match=r"there are none$"):
        done("# nobody\n", "nobody=core")
    with pytest.raises(ConfigError, match=f"--caps {WEB}=LIST"):
        done(f"{WEB}\n{BATCH} b\n", "b=core")


def test_a_file_without_agents() -> None:
    for text in ("", "\n", "# nobody yet"):
        assert done(text, "core") == Migration(text, (), ())


@given(
    st.lists(
        st.one_of(
            st.text(max_size=30),
            st.builds(
                "{}{}{}".format,
                st.sampled_from(["", " ", "*", "# "]),
                st.sampled_from([WEB, BATCH.upper(), LOW_ORDER]),
                st.text(max_size=12),
            ),
        ),
        max_size=6,
    )
)
def test_whatever_stands_there_nothing_is_lost_and_nothing_bad_remains(lines: list[str]) -> None:
    text = "\n".join(lines)
    found = done(text, "core")
    book = parse_agents(found.text)
    assert book.faults == ()
    assert set(book.agents.values()) == set(found.agents)
    before, after = text.split("\n"), found.text.split("\n")
    assert len(before) == len(after)
    out = {one.line for one in found.left_out}
    taken = {one.line for one in found.agents}
    assert not out & taken
    for number, (was, now) in enumerate(zip(before, after, strict=True), 1):
        if number in out:
            assert now == LEFT_OUT + was
        elif number not in taken:
            assert now == was
        else:
            assert now.split()[0] == was.split()[0]
    assert migrate(found.text, parse_wishes(["all"]), INTO).text == found.text
