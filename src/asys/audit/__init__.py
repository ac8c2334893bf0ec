"""The audit black box: what every agent did, in files that show whether they were edited.

docs/audit.md is the format. Nothing here knows asyncio. What touches files only reads them:
`segments`, `trace`, `verify`, `reading` and `follow`.
"""
