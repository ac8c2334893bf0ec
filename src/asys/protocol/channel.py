"""Records: `[u16 n][n bytes of ciphertext]`, one message each (docs/protocol.md, section 1).

Both directions have a key and a counter of their own. Any error breaks the channel for good: after
it, nothing is opened and nothing is sealed.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from asys.errors import ChannelError
from asys.protocol.keys import Secret
from asys.protocol.limits import AEAD_TAG_SIZE, KEY_SIZE, MAX_RECORD, RECORD_PREFIX_SIZE

MAX_MESSAGE: Final = MAX_RECORD - AEAD_TAG_SIZE
"""The most that one record carries, in bytes of plaintext."""

_nonce = Struct("<4xQ").pack
_prefix = Struct(">H").pack

MAX_SHORT: Final = 0xFF
_SHORT_PREFIXES: Final = [_prefix(size) for size in range(MAX_SHORT + 1)]

_REKEY_NONCE: Final = _nonce(0xFFFFFFFFFFFFFFFF)
"""The counter that no record may have: kept for making the next key."""


def _next_key(cipher: ChaCha20Poly1305) -> bytes:
    return cipher.encrypt(_REKEY_NONCE, bytes(KEY_SIZE), None)[:KEY_SIZE]


class Channel(Secret):
    """Seals what goes out and opens what comes in; owns no socket."""

    __slots__ = (
        "_buffer",
        "_nonce_in",
        "_nonce_out",
        "_open",
        "_position",
        "_receive_cipher",
        "_received",
        "_seal",
        "_send_cipher",
        "_sent",
        "broken",
    )

    def __init__(self, send_key: bytes, receive_key: bytes) -> None:
        """Each key has 32 bytes and serves one direction."""
        self._use(ChaCha20Poly1305(send_key), ChaCha20Poly1305(receive_key))
        self._sent = 0
        self._received = 0
        self._nonce_in = self._nonce_out = _nonce(0)
        self._buffer = b""
        self._position = 0
        self.broken = False

    def seal(self, messages: Iterable[bytes]) -> bytes:
        """The records of `messages`, ready to be written in one piece.

        ChannelError when the channel is broken or a message has more than MAX_MESSAGE bytes.
        """
        if self.broken:
            raise ChannelError("the channel is broken")
        seal = self._seal
        counter = self._sent
        records = []
        for message in messages:
            if len(message) > MAX_MESSAGE:
                self.close()  # the records before it are lost, and the peer would miss them
                raise ChannelError(f"a message has {len(message)} bytes; {MAX_MESSAGE} is the most")
            ciphertext = seal(_nonce(counter), message, None)
            counter += 1
            records.append(_prefix(len(ciphertext)))
            records.append(ciphertext)
        self._sent = counter
        self._nonce_out = _nonce(counter)
        return b"".join(records)

    def feed(self, data: bytes) -> None:
        """Keeps bytes from the network for `receive`; a broken channel keeps none."""
        if self.broken:
            return
        if self._position < len(self._buffer):
            self._buffer = self._buffer[self._position :] + data
        else:
            self._buffer = data
        self._position = 0

    def receive(self, limit: int = MAX_RECORD) -> list[bytes]:
        """Up to `limit` messages that are whole in the bytes fed so far.

        ChannelError for an impossible length or a record that does not decrypt; the messages
        before it are delivered first, and the error comes at the next call.
        """
        if self.broken:
            raise ChannelError("the channel is broken")
        buffer = self._buffer
        position = self._position
        end = len(buffer)
        counter = self._received
        open_ = self._open
        messages: list[bytes] = []
        try:
            while end - position >= RECORD_PREFIX_SIZE and len(messages) < limit:
                start = position + RECORD_PREFIX_SIZE
                stop = start + (buffer[position] << 8 | buffer[position + 1])
                if stop - start < AEAD_TAG_SIZE:
                    raise ChannelError("a record is shorter than its own tag")
                if stop > end:
                    break
                messages.append(open_(_nonce(counter), buffer[start:stop], None))
                counter += 1
                position = stop
        except (InvalidTag, ChannelError) as error:
            if not messages:
                self.close()
                if isinstance(error, ChannelError):
                    raise
                raise ChannelError("a record does not authenticate") from None
        self._received = counter
        self._nonce_in = _nonce(counter)
        if position == end:
            self._buffer = b""
            self._position = 0
        else:
            self._position = position
        return messages

    def open_alone(self, record: bytes) -> bytes | None:
        """The message of a record of at most 257 bytes, prefix included, that came whole and alone.

        None where it is no such record, or bytes are buffered, or it does not authenticate: then
        nothing is taken, and `feed` and `receive` judge it. `took` follows what is not None.
        """
        if self._buffer or self.broken:
            return None
        if record[0] or record[1] != len(record) - RECORD_PREFIX_SIZE:
            return None
        open_ = self._open  # called from its slot it would be looked for as a method
        try:
            return open_(self._nonce_in, record[RECORD_PREFIX_SIZE:], None)
        except InvalidTag:
            return None

    def took(self) -> None:
        """What `open_alone` has given is taken: the next record is another one."""
        self._received += 1
        self._nonce_in = _nonce(self._received)

    def seal_alone(self, message: bytes) -> bytes:
        """As `seal` for one message; `sent` follows, before anything else is sealed."""
        if self.broken:
            raise ChannelError("the channel is broken")
        seal = self._seal
        ciphertext = seal(self._nonce_out, message, None)
        size = len(ciphertext)
        if size > MAX_SHORT:
            if size > MAX_RECORD:
                self.close()
                raise ChannelError(f"a message has {len(message)} bytes; {MAX_MESSAGE} is the most")
            return _prefix(size) + ciphertext
        return _SHORT_PREFIXES[size] + ciphertext

    def sent(self) -> None:
        """What `seal_alone` has given is on its way: the next record is another one."""
        self._sent += 1
        self._nonce_out = _nonce(self._sent)

    def rekey(self) -> tuple[bytes, bytes]:
        """Goes on with new keys in both directions, and returns them: to send, to receive.

        REKEY of the Noise specification; the counters go on. ChannelError when it is broken, or
        when bytes are buffered that were meant for the old keys.
        """
        if self.broken:
            raise ChannelError("the channel is broken")
        if self.buffered:
            self.close()
            raise ChannelError("bytes follow where the keys change")
        send_key, receive_key = _next_key(self._send_cipher), _next_key(self._receive_cipher)
        self._use(ChaCha20Poly1305(send_key), ChaCha20Poly1305(receive_key))
        return send_key, receive_key

    def _use(self, send: ChaCha20Poly1305, receive: ChaCha20Poly1305) -> None:
        self._send_cipher = send
        self._receive_cipher = receive
        self._seal = send.encrypt
        self._open = receive.decrypt

    def close(self) -> None:
        """Breaks the channel for good; what was fed and not opened is dropped."""
        self.broken = True
        self._buffer = b""
        self._position = 0

    @property
    def buffered(self) -> int:
        """Bytes fed and not yet opened."""
        return len(self._buffer) - self._position

    def __repr__(self) -> str:
        state = "broken" if self.broken else "open"
        return f"<Channel {state}, {self._sent} sent, {self._received} received>"
