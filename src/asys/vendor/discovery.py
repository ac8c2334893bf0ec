"""Which vendors are installed: entry points of the group `asys.vendors`.

The name of an entry point is the vendor's domain, its object the Vendor. Names are read from the
packages' metadata; only `load` and `installed` import anything of a vendor.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asys.vendor.definition import Vendor, VendorError, normal_domain, same_id

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

GROUP: Final = "asys.vendors"


@dataclass(frozen=True, slots=True)
class Found:
    """A vendor that some package declares. Nothing of it has been imported yet."""

    domain: str
    package: str
    entry: EntryPoint

    def load(self) -> Vendor:
        """Imports its declaration. VendorError: that fails, or it is not what its name says."""
        try:
            vendor = self.entry.load()
        except Exception as error:
            raise VendorError(
                f"{self.domain}: {self.entry.value} of {self.package} cannot be imported: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(vendor, Vendor):
            raise VendorError(
                f"{self.domain}: {self.entry.value} of {self.package} is no asys.vendor.Vendor"
            )
        if vendor.domain != self.domain:
            raise VendorError(
                f"{self.domain}: {self.entry.value} of {self.package} is the vendor "
                f"{vendor.domain}; the entry point must be called so"
            )
        return vendor


@dataclass(frozen=True, slots=True)
class Installed:
    """All that is installed: the vendors that hold, in order of their domains, and what is wrong
    with the others.
    """

    vendors: tuple[Vendor, ...]
    faults: tuple[str, ...]

    def get(self, vendor_id: int) -> Vendor | None:
        """The vendor with that id."""
        return next((one for one in self.vendors if one.id == vendor_id), None)


def find_all(path: list[str] | None = None) -> tuple[list[Found], list[str]]:
    """What packages declare, in order of the domains, and the names that are no domains.

    A domain that two packages declare is a fault of the second in order of `path`, which is
    sys.path where it is not given.
    """
    from importlib.metadata import distributions  # takes memory that asyd can do without

    found: dict[str, Found] = {}
    faults = []
    seen: set[str] = set()
    for distribution in distributions(path=sys.path if path is None else path):
        package = _name(distribution)
        if package in seen:  # what is shadowed on the path cannot be imported either
            continue
        seen.add(package)
        for entry in distribution.entry_points.select(group=GROUP):
            try:
                domain = normal_domain(entry.name)
            except VendorError as error:
                faults.append(f"{package}: its entry point in {GROUP}: {error}")
                continue
            first = found.setdefault(domain, Found(domain, package, entry))
            if first.entry is not entry:
                faults.append(
                    f"{domain} is declared by {first.package} and by {package}; the second is "
                    "left out: uninstall one"
                )
    return [found[domain] for domain in sorted(found)], faults


def find(name: str, path: list[str] | None = None) -> Found:
    """The installed vendor with that domain. VendorError says which there are."""
    domain = normal_domain(name)
    found, _ = find_all(path)
    for one in found:
        if one.domain == domain:
            return one
    there = ", ".join(one.domain for one in found) or "none"
    raise VendorError(f"no vendor {domain} is installed; installed: {there}")


def installed(path: list[str] | None = None) -> Installed:
    """Imports the declarations of all installed vendors.

    Of two with one id the second, in order of the domains, is left out. Never raises for what a
    package does wrong.
    """
    found, faults = find_all(path)
    vendors: dict[int, Vendor] = {}
    for one in found:
        try:
            vendor = one.load()
        except VendorError as error:
            faults.append(str(error))
            continue
        first = vendors.setdefault(vendor.id, vendor)
        if first is not vendor:
            faults.append(same_id(first.domain, vendor.domain, vendor.id))
    return Installed(tuple(vendors.values()), tuple(faults))


def _name(distribution: Distribution) -> str:
    """The name of a package; metadata may be damaged."""
    return str(distribution.metadata["Name"] or "a package without a name")
