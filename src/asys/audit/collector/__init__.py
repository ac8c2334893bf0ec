"""The collector: keeps what nodes push of their audits (docs/audit.md, section 11).

Two processes. One listens and holds the keys, and never touches the disk once it serves; the other
writes, with a thread for each node, and knows no key. So a disk that hangs holds up nothing but
what belongs on it, and the one that listens can always be ended.

`incoming` judges bytes, `store` keeps those of one node; `disk` is the process that writes and
`keeper` the other's side of it; `nodes` is the list of nodes, `connection` and `server` are the
network, `process` starts it all. POSIX only, but for `incoming` and `nodes`.
"""
