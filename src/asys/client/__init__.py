"""The SDK: an agent's side of a connection.

    call -> request -> frame -> link -> bytes ... bytes -> link -> frame -> result or exception

`caller` does that without I/O; `aio` and `blocking` are the two shells over it. Nothing in here
imports what only POSIX has.
"""
