"""Vendors' instructions on a node: enabled by name, done by workers, each in a cage of its own.

`enabled` is what an admin wants, `launch` and its two kinds start a worker, `link` talks with it,
`pool` hands requests to it and starts it again, `vendors` is all of them for the node.
"""
