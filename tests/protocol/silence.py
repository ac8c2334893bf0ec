"""That nothing says a secret aloud."""

from __future__ import annotations

import traceback


def _spellings(secret: bytes) -> list[str]:
    return [secret.hex(), secret.hex().upper(), repr(secret)[2:-1], repr(list(secret))[1:-1]]


def assert_silent(thing: object, *secrets: bytes) -> None:
    """No text that `thing` gives of itself has a secret in it."""
    texts = [repr(thing), str(thing), f"{thing}", "%s" % (thing,)]  # noqa: UP031 - as loggers do
    if isinstance(thing, BaseException):
        texts += traceback.format_exception(thing)
        texts += [repr(thing.args), repr(vars(thing)), repr(thing.__cause__)]
        texts.append(repr(getattr(thing, "__notes__", "")))
    for text in texts:
        for secret in secrets:
            for spelling in _spellings(secret):
                assert spelling not in text
