"""Commands run as a user without privileges, also where root runs the tests."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from typing import Final

from support.users import NOBODY

_USER: Final = ("--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
_ENVIRONMENT: Final = ("env", "-u", "COVERAGE_PROCESS_CONFIG", "-u", "COVERAGE_PROCESS_START")
"""Coverage would be written where nobody may not write."""

_READS_ALL: Final = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")


@functools.cache
def as_nobody() -> tuple[str, ...]:
    """What to write before a command; nothing where the tests have no privileges themselves.

    Where the interpreter or the checkout lie in a directory that is closed to others, the command
    has the capability to read it, and no other.
    """
    if os.geteuid() != 0:
        return ()
    plain = (*_ENVIRONMENT, "setpriv", *_USER)
    again = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import uvloop'])"
    probe = (sys.executable, "-c", f"import asys.node.daemon; {again}.check_returncode()")
    if subprocess.run((*plain, *probe), capture_output=True, check=False).returncode == 0:
        return plain
    return (*plain, *_READS_ALL)
