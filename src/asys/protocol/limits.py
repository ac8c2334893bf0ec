"""Sizes and ports fixed by the protocol (docs/protocol.md, sections 1 and 2). All in bytes."""

from typing import Final

DEFAULT_PORT: Final = 7816
"""TCP port, after ISO/IEC 7816."""

MAGIC: Final = b"ASYS"
"""First bytes of an agent, and of the node's answer to them."""

VERSION: Final = 0x0100
"""Protocol version as on the wire: high byte major, low byte minor."""

KEY_SIZE: Final = 32
"""An X25519 key, private or public."""

PRE_HANDSHAKE_SIZE: Final = 38
"""Magic, version and the node's static public key, in plaintext."""

MESSAGE_1_SIZE: Final = 96
"""Noise IK message 1 with an empty payload: e, encrypted s, tag."""

MESSAGE_2_SIZE: Final = 48
"""Noise IK message 2 with an empty payload: e, tag."""

AEAD_TAG_SIZE: Final = 16
"""Poly1305 tag at the end of each record."""

RECORD_PREFIX_SIZE: Final = 2
"""Length of the ciphertext that follows, u16."""

MAX_RECORD: Final = 0xFFFF
"""Ciphertext of one record; the largest Noise message."""

AUTH_TAG_SIZE: Final = 16
"""Auth_Tag behind the Le of a signed frame."""

SEQ_SIZE: Final = 4
"""Seq at the start of a signed frame's data, counted by Lc."""

SW_SIZE: Final = 2
"""Status word at the end of every response."""

MAX_DATA: Final = MAX_RECORD - AEAD_TAG_SIZE - 7 - 2 - AUTH_TAG_SIZE
"""Lc of the largest frame that fits in one record when it is extended and signed: 65,494."""

MAX_CHAIN: Final = 256 << 10
"""Bytes of a payload that comes in fragments, all fragments together."""

MAX_FRAGMENT: Final = MAX_DATA - 4
"""Bytes of the payload in a plain fragment behind the first: its handle takes 4."""

MAX_FRAME: Final = 7 + MAX_DATA + 2 + AUTH_TAG_SIZE
"""The largest frame, and so the most that a frame parser keeps."""
