"""Prints requirements.txt: what requirements.in resolves to, with the hash of each wheel.

It asks the package index, by pip.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent

PLATFORMS: Final = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64")


def main() -> None:
    """Resolves for Python 3.11 on x86_64, whatever Python this is."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--report", "-"),
            *("--ignore-installed", "--target", "unused", "--only-binary", ":all:"),
            *("--python-version", "3.11", "--implementation", "cp"),
            *("--abi", "cp311", "--abi", "abi3", "--abi", "none"),
            *(word for one in PLATFORMS for word in ("--platform", one)),
            *("--requirement", str(HERE / "requirements.in")),
        ],
        check=True,
        stdout=subprocess.PIPE,
    )
    print("# By `make binary-lock`, from requirements.in.")
    for one in sorted(json.loads(done.stdout)["install"], key=lambda found: _name(found)):
        digest = one["download_info"]["archive_info"]["hashes"]["sha256"]
        print(f"{_name(one)}=={one['metadata']['version']} --hash=sha256:{digest}")


def _name(found: dict[str, dict[str, str]]) -> str:
    return found["metadata"]["name"].lower()


if __name__ == "__main__":
    main()
