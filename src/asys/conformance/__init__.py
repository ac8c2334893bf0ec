"""The conformance kit: any node, in any language, tested from outside (docs/conformance.md).

`asys conformance HOST` is its command. It imports nothing of the node, and of the SDK only what
reads files: what it sends and how it reads answers is its own, from docs/protocol.md alone.
"""
