"""A node that gets another key: asked once a connection, checked, and put on record, without I/O of
its own (docs/protocol.md, section 8.4).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeAlias

from asys.client.address import Address
from asys.client.observe import tell
from asys.errors import BadKeyStatement, HostKeyChanged, IdentityError, LinkError
from asys.isa import StatedKey
from asys.protocol.link import AgentLink
from asys.protocol.statement import BadStatement, KeyStatement, follow

Carry: TypeAlias = Callable[[Iterable[KeyStatement]], bytes]
"""Writes down that a node's key states another one. BadStatement, IdentityError."""


class KeyRecord:
    """The key that a node must prove, those that it had before, and the one that it states."""

    __slots__ = ("_address", "asked", "carry", "next_key", "proven", "superseded", "trusted")

    def __init__(
        self,
        address: Address,
        trusted: bytes | None,
        superseded: frozenset[bytes],
        carry: Carry | None,
    ) -> None:
        self.trusted = trusted
        """The key on record; None: there is none."""
        self.superseded = superseded
        self.next_key: bytes | None = None
        """What the node's key states, once that is checked."""
        self.asked = False
        """The statement has been asked for."""
        self.proven = False
        """The handshake is done."""
        self.carry = carry
        self._address = address

    def wanted(self, link: AgentLink) -> bool:
        """Whether the statement is of use: this is the key that states, and nobody has asked."""
        return not self.asked and link.shown_key == link.node_key

    def explained(self, error: LinkError, link: AgentLink) -> LinkError:
        """Why a connection has ended: for the key that was shown, where that is another one.

        Not where the node is known to have both: it shows the old one until the overlap ends.
        """
        shown, trusted = link.shown_key, self.trusted
        if self.proven or trusted is None or not shown or shown == trusted:
            return error
        if shown in self.superseded or isinstance(error, HostKeyChanged):
            return error
        changed = HostKeyChanged(str(self._address), shown, trusted)
        changed.__cause__ = error
        return changed

    def stated(self, reply: StatedKey, node_key: bytes) -> None:
        """The answer to KEY_STATEMENT. BadKeyStatement, and nothing has changed."""
        statement = KeyStatement(
            reply.old_key, reply.new_key, reply.made, reply.ends, reply.signature
        )
        try:
            if not follow(node_key, [statement], self.superseded):
                raise BadStatement(f"it is of the key {reply.old_key.hex()}")
            written = self._write(statement)
        except BadStatement as error:
            raise BadKeyStatement(str(self._address), str(error)) from None
        self.next_key = reply.new_key
        tell(
            logging.WARNING,
            f"the node's key {reply.old_key.hex()} states the next one, {reply.new_key.hex()}; "
            + written,
            str(self._address),
            event="next-key",
            old_key=reply.old_key.hex(),
            new_key=reply.new_key.hex(),
            ends=reply.ends,
        )

    def _write(self, statement: KeyStatement) -> str:
        """Puts the next key on record; says what became of that. BadStatement."""
        if self.carry is None:
            return "nothing is written, as the key was given in code: put the next one there"
        try:
            self.carry([statement])
        except IdentityError as error:
            return f"it could not be written: {error}"
        return "it is on record now"

    def again(self, link: AgentLink) -> KeyRecord:
        """For another connection to the same node, which then must prove the next key."""
        before = {link.shown_key} - {link.node_key}
        trusted = self.trusted
        if self.next_key is not None and trusted is not None:
            before, trusted = {trusted}, self.next_key
        return KeyRecord(self._address, trusted, self.superseded | before, self.carry)
