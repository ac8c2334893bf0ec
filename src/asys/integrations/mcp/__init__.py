"""The MCP server `asys-mcp`: any MCP host can operate nodes through it (docs/guides/mcp.md).

Needs the extra `asys[mcp]`; importing this package alone imports nothing of it.
"""
