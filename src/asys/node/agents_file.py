"""Editing `authorized_agents` for an admin: atomic, and what people wrote in it stays."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from typing import Final

from asys.node.agents import LABEL, BadLine, line_key, parse_line
from asys.node.config_dir import ConfigDir
from asys.node.files import ConfigError, is_there, locked, quoted, write_atomically

_KEY: Final = re.compile(r"[0-9A-Fa-f]{64}")
_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+")


def parse_key(written: str) -> bytes:
    """An agent's public key from 64 hex digits. ConfigError says what is wrong with it."""
    if not _KEY.fullmatch(written):
        raise ConfigError(
            f"{written!r} is no public key: 64 hex digits are expected, as in the agent's "
            "id_curve25519.pub"
        )
    return bytes.fromhex(written)


def add_agent(config: ConfigDir, key: bytes, label: str, caps: str | None) -> str:
    """Adds a line for a key and returns it. ConfigError: the key is there, or the line is bad.

    An empty `label` is none; without `caps` the line has none, which means `core`.
    """
    if label and not LABEL.fullmatch(label):
        raise ConfigError(f"the label {label!r} is not 1 to 31 of A-Z a-z 0-9 . _ -")
    words = [key.hex(), label, "" if caps is None else f"caps={caps}"]
    line = " ".join(word for word in words if word)
    try:
        parse_line(line, 0)
    except BadLine as fault:
        raise ConfigError(f"the agent is not added: {fault}") from None

    def append(lines: list[str]) -> list[str]:
        for number, existing in enumerate(lines, 1):
            if line_key(existing) == key:
                raise ConfigError(
                    f"the key stands in line {number} already; remove it first: "
                    f"asyd agents remove {key.hex()} --config-dir {quoted(config.path)}"
                )
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        return [*lines, line + "\n"]

    _edit(config, append)
    return line


def remove_agent(config: ConfigDir, who: str) -> list[str]:
    """Removes what stands for a key (64 hex digits) or a label, and returns these lines.

    A key that stands twice goes whole. ConfigError when nobody, or more than one key, is meant.
    """
    removed: list[str] = []

    def drop(lines: list[str]) -> list[str]:
        found = [line for line in lines if _is_about(line, who)]
        if len({line_key(line) for line in found}) != 1:
            how_many = "no agent has" if not found else "more than one agent has"
            raise ConfigError(
                f"{how_many} the key or label {who!r}; see: "
                f"asyd agents list --config-dir {quoted(config.path)}"
            )
        removed.extend(line.rstrip("\r\n") for line in found)
        return [line for line in lines if not _is_about(line, who)]

    _edit(config, drop)
    return removed


def _is_about(line: str, who: str) -> bool:
    key = line_key(line)
    if key is None:
        return False
    words = line.split()
    label = words[1] if len(words) > 1 and "=" not in words[1] else ""
    return key.hex() == who.lower() or (bool(label) and label == who)


def _edit(config: ConfigDir, change: Callable[[list[str]], list[str]]) -> None:
    """Rewrites the file with `change` applied to its lines; everything else stays as it was.

    The lines come with their ends. Editors wait for each other; one that does not use this may
    still lose what is written here.
    """
    path = config.agents_path
    try:
        with locked(config.path):
            mode = stat.S_IMODE(path.stat().st_mode) if is_there(path) else 0o600
            text = config.read_agents().decode("utf-8", "surrogateescape")
            changed = "".join(change(_LINE.findall(text)))
            # A link stays a link.
            write_atomically(path.resolve(), changed.encode("utf-8", "surrogateescape"), mode)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
