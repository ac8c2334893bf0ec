"""asyd, the daemon on the node.

`server` listens, `session` is one agent's connection, `dispatch` decides in the order of
docs/protocol.md section 5, `handlers` do it, `platform` is the only place that knows the operating
system.
"""
