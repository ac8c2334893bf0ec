"""The node's way to its shadow collector (docs/audit.md, section 12).

`shipper` is a program of its own beside the writer: it reads the segment files and pushes them. Its
parts: `source` reads, `conversation` speaks, `road` connects again and again. On asyd's side `host`
starts it and hears it, and `strict` holds up what must not run before the collector has its record.
`pinned` is the file with the keys of collectors.
"""
