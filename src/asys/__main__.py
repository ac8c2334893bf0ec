"""`python -m asys` is the command `asys`."""

from __future__ import annotations

import sys

from asys.cli.agent import main

if __name__ == "__main__":
    sys.exit(main())
