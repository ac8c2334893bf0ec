"""What the options of `authorized_agents` have in common: lists of words, and their fault."""

from __future__ import annotations

import reprlib


class BadOption(ValueError):
    """The value of an option that means nothing; the message says what is wrong and what is right.

    It does not name the option: whoever knows which one it is puts that in front.
    """


def elements(written: str) -> list[str]:
    """The words of a comma list. BadOption when the list, or one of its elements, is empty."""
    if not written:
        raise BadOption("there is no value; write one, or leave the option out")
    words = written.split(",")
    if "" in words:
        raise BadOption(
            "there is nothing next to a comma; one stands between two values, and nowhere else"
        )
    return words


def cut(word: str) -> str:
    """A word as it may stand in a message: quoted, escaped, and short however long it is."""
    return reprlib.repr(word)
