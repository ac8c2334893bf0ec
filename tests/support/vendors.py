"""Vendors' packages, made for a test and installed where it says, each with its entry point."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Final

from asys.vendor import id_of_domain

GUIDE: Final = """
Guide(
    description="For tests.", when="In a test.", when_not="Else.", side_effects="None.",
    reversible="Nothing to undo.", risk=Risk.LOW,
)
"""

DECLARATION: Final = """
from asys.vendor import *

@layout
class Text(Layout):
    text: Annotated[str, text("some text", least=0, most=60000, pattern="[ -~\\n]*")]

@layout
class Number(Layout):
    number: Annotated[int, u32("a number")]

GUIDE = {guide}

def instruction(code, name, request=Number, reply=Number, level=Level.SIGNED, **options):
    return Instruction(
        code, name, request=request, reply=reply, guide=GUIDE, level=level, **options
    )

{instructions}

VENDOR = Vendor(
    domain={domain!r}, title="For tests", instructions=({names},),
    handlers="{module}.handlers", vendor_id={vendor_id!r},
)
"""


class Packages:
    """A directory of installed packages; `environment` puts it on the path of a process."""

    def __init__(self, directory: Path) -> None:
        self.directory: Final = directory
        self.ids: Final[dict[str, int]] = {}
        """Of the vendors that are there, by domain."""
        directory.mkdir(mode=0o755, exist_ok=True)

    @property
    def prelude(self) -> str:
        """Python that has a process import from here."""
        return f"import sys; sys.path.append({str(self.directory)!r});"

    def add(
        self,
        domain: str,
        instructions: Mapping[str, str],
        handlers: str,
        *,
        vendor_id: int | None = None,
        entry: str = "",
    ) -> int:
        """Installs a vendor; returns its id.

        `instructions` are names with the arguments of `instruction` behind the name in the
        declaration, the code first; `handlers` is the body of the module of handlers.
        """
        module = "vendor_" + domain.replace(".", "_").replace("-", "_")
        lines = []
        for name, arguments in instructions.items():
            code, _, options = arguments.partition(",")
            lines.append(f"{name} = instruction({code}, {name!r}, {options})")
        declared = DECLARATION.format(
            guide=GUIDE.strip(),
            instructions="\n".join(lines),
            domain=domain,
            names=", ".join(instructions),
            module=module,
            vendor_id=vendor_id,
        )
        package = self.directory / module
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "definition.py").write_text("from typing import Annotated\n" + declared)
        (package / "handlers.py").write_text(
            f"from asys.vendor import *\nfrom {module}.definition import *\n" + dedent(handlers)
        )
        self.declare(entry or domain, f"{module}.definition:VENDOR", module)
        self.ids[domain] = id_of_domain(domain) if vendor_id is None else vendor_id
        return self.ids[domain]

    def declare(self, name: str, value: str, package: str) -> None:
        """The metadata of a package with this entry point."""
        information = self.directory / f"{package}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n"
        )
        (information / "entry_points.txt").write_text(f"[asys.vendors]\n{name} = {value}\n")
