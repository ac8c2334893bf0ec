"""The audit black box: what every agent did, in files that show whether they were edited.

docs/audit.md is the format. Nothing here but `collector` knows asyncio, or writes files. What else
touches them only reads them: `segments`, `trace`, `verify`, `reading` and `follow`.
"""
