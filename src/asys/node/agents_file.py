"""Editing `authorized_agents` for an admin: atomic, and what people wrote in it stays."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from asys.node.agents import LABEL, BadLine, line_key, parse_line
from asys.node.config_dir import ConfigDir
from asys.node.files import ConfigError, require_private, write_atomically

_KEY: Final = re.compile(r"[0-9A-Fa-f]{64}")


def parse_key(written: str) -> bytes:
    """An agent's public key from 64 hex digits. ConfigError says what is wrong with it."""
    if not _KEY.fullmatch(written):
        raise ConfigError(
            f"{written!r} is no public key: 64 hex digits are expected, as in the agent's "
            "id_curve25519.pub"
        )
    return bytes.fromhex(written)


def add_agent(config: ConfigDir, key: bytes, label: str, caps: str) -> str:
    """Adds a line for a key and returns it. ConfigError: the key is there, or the line is bad."""
    if label and not LABEL.fullmatch(label):
        raise ConfigError(f"the label {label!r} is not 1 to 31 of A-Z a-z 0-9 . _ -")
    words = [key.hex(), label, f"caps={caps}" if caps else ""]
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
                    f"asyd agents remove {key.hex()}"
                )
        return [*lines, line]

    _edit(config, append)
    return line


def remove_agent(config: ConfigDir, who: str) -> str:
    """Removes the line of a key (64 hex digits) or a label and returns it.

    ConfigError when no line, or more than one, is meant.
    """
    removed: list[str] = []

    def drop(lines: list[str]) -> list[str]:
        found = [line for line in lines if _is_about(line, who)]
        if len(found) != 1:
            how_many = "no agent has" if not found else "more than one agent has"
            raise ConfigError(f"{how_many} the key or label {who!r}; see: asyd agents list")
        removed.extend(found)
        return [line for line in lines if line is not found[0]]

    _edit(config, drop)
    return removed[0]


def _is_about(line: str, who: str) -> bool:
    key = line_key(line)
    if key is None:
        return False
    words = line.split()
    label = words[1] if len(words) > 1 and "=" not in words[1] else ""
    return key.hex() == who.lower() or (bool(label) and label == who)


def _edit(config: ConfigDir, change: Callable[[list[str]], list[str]]) -> None:
    """Rewrites the file with `change` applied to its lines; everything else stays as it was."""
    path = config.agents_path
    try:
        mode = 0o600
        lines: list[str] = []
        if path.exists():
            mode = require_private(path, forbidden=0o022, mend="600").st_mode & 0o777
            text = path.read_bytes().decode("utf-8", "surrogateescape")
            lines = text.removesuffix("\n").split("\n") if text else []
        written = "".join(f"{line}\n" for line in change(lines))
        write_atomically(path, written.encode("utf-8", "surrogateescape"), mode)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
