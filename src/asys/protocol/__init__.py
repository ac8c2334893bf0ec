"""The protocol without I/O: no sockets, no event loop, no clock. Both ends use the same code.

What a byte goes through, from the outside in: `link` (magic, handshake, open), `channel` (records),
`signing` (Auth_Tag and Seq), `apdu` (frames), `codec` (fields). `status` names what comes back.
"""
