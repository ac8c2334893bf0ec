"""Writes what has been built of which parts: python sbom.py EXECUTABLE|DEB|WHEEL ...

CycloneDX 1.6, in FILE.cdx.json. What is in the executable, or in the package of Debian, is read
from FILE.contents.json, by build.py or package.py; what a package of Python has linked into itself,
from the SBOM that it brings along. The same files give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import uuid
import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime
from email import message_from_string
from pathlib import Path
from typing import Any, Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement

EXTRAS: Final = ("daemon", "cli")
"""Of asys, what the executable and the package of Debian have."""

TARGET: Final = {"python_version": "3.11", "python_full_version": "3.11.2"} | {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}

DEBIAN_LICENSES: Final = {
    "expat": "MIT",
    "gcc-12": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "libffi": "MIT",
    "openssl": "Apache-2.0",
    "python3.11": "PSF-2.0",
    "zlib": "Zlib",
}
"""By source package; the texts are in the archive, in `licenses/`."""

SAID: Final = {"BSD License": "BSD-3-Clause", "MIT License": "MIT", "libuv": "MIT"}
"""What packages say that do not say it as SPDX does."""

_NAMESPACE: Final = uuid.UUID("5ad3a4be-5bc0-53c5-a2d7-25d4f7f1c2a1")
_licenses: Final = LicenseFactory()


def normal(name: str) -> str:
    """The name of a package as an index has it."""
    return re.sub("[-_.]+", "-", name).lower()


def component(
    name: str,
    version: str | None,
    license: str = "",
    *,
    purl: PackageURL | None = None,
    sha256: str = "",
    kind: ComponentType = ComponentType.LIBRARY,
    scope: ComponentScope | None = ComponentScope.REQUIRED,
    cpe: str | None = None,
    properties: Iterable[tuple[str, str]] = (),
) -> Component:
    """One part."""
    return Component(
        name=name,
        version=version,
        type=kind,
        scope=scope,
        licenses=[_licenses.make_from_string(license)] if license else [],
        purl=purl,
        cpe=cpe,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else [],
        bom_ref=str(purl) if purl else f"{name}@{version}",
        properties=[Property(name=one, value=value) for one, value in properties],
    )


def license_of(metadata: Any) -> str:
    """What a package says of its licence, as SPDX where it can be told."""
    said = metadata["License-Expression"] or metadata["License"] or ""
    if not said:
        found = [one for one in metadata.get_all("Classifier", []) if one.startswith("License ::")]
        said = found[0].rpartition(" :: ")[2] if found else ""
    return SAID.get(said, said)


# -- the executable, and the package of Debian


class Built:
    """The document of either, part by part."""

    def __init__(self, path: Path) -> None:
        described = json.loads(path.with_name(f"{path.name}.contents.json").read_bytes())
        self._contents: list[dict[str, Any]] = described["contents"]
        self._packages: dict[str, tuple[Component, Any]] = {}
        self.bom = Bom()
        for one in self._contents:
            if one["kind"] == "wheel":
                self._package(one)
        asys, metadata = self._packages["asys"]
        package, python = described.get("package"), described.get("python")
        self._whole = component(
            package["name"] if package else path.name,
            package["version"] if package else asys.version,
            license_of(metadata),
            purl=_purl(package) if package else None,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            kind=ComponentType.APPLICATION,
            scope=None,
            properties=[("asys:depends", package["depends"])] if package else [],
        )
        self.bom.metadata.component = self._whole
        self._depend()
        interpreter = [self._interpreter(python)] if python else []
        self.bom.register_dependency(self._whole, [asys, *interpreter])
        for one in self._contents:
            if one["kind"] == "bundled":
                self._bundled(one)

    def _package(self, one: dict[str, Any]) -> None:
        metadata = message_from_string(one["metadata"])
        name = normal(metadata["Name"])
        made = component(
            name,
            metadata["Version"],
            license_of(metadata),
            purl=PackageURL("pypi", None, name, metadata["Version"]),
            sha256=one["sha256"],
            properties=[("asys:wheel", one["file"])],
        )
        self._packages[name] = made, metadata
        self.bom.components.add(made)
        for document in one["sboms"]:
            self._linked(made, document)

    def _linked(self, package: Component, document: dict[str, Any]) -> None:
        """What is linked into a package, as its own SBOM lists it."""
        found = []
        for one in document.get("components", ()):
            said = [
                each.get("expression") or each["license"].get("id")
                for each in one.get("licenses", ())
            ]
            purl = PackageURL.from_string(one["purl"]) if "purl" in one else None
            license = said[0] if said and said[0] else SAID.get(one["name"], "")
            license = license or DEBIAN_LICENSES.get(one["name"], "")
            part = component(one["name"], one.get("version"), license, purl=purl)
            found.append(part)
            self.bom.components.add(part)
        self.bom.register_dependency(package, found)

    def _bundled(self, one: dict[str, str]) -> None:
        """What is linked into a package that does not say so."""
        name, version = one["name"], one["version"]
        part = component(name, version, SAID[name], purl=PackageURL("generic", None, name, version))
        self.bom.components.add(part)
        self.bom.register_dependency(self._packages[one["in"]][0], [part])

    def _depend(self) -> None:
        """Which package needs which."""
        for name, (made, metadata) in self._packages.items():
            needed = []
            for written in metadata.get_all("Requires-Dist", []):
                wanted = Requirement(written)
                extras = EXTRAS if name == "asys" else ("",)
                there = self._packages.get(normal(wanted.name))
                if there is not None and any(_holds(wanted, extra) for extra in (*extras, "")):
                    needed.append(there[0])
            self.bom.register_dependency(made, needed)

    def _interpreter(self, version: str) -> Component:
        """CPython, which Debian has built, and what it needs."""
        python = component(
            "cpython",
            version,
            "PSF-2.0",
            purl=PackageURL("generic", None, "cpython", version),
            cpe=f"cpe:2.3:a:python:python:{version}:*:*:*:*:*:*:*",
            kind=ComponentType.PLATFORM,
        )
        self.bom.components.add(python)
        parts = []
        for one in self._contents:
            if one["kind"] == "deb":
                qualifiers = {"arch": "amd64", "distro": "debian-12", "upstream": one["source"]}
                purl = PackageURL("deb", "debian", one["name"], one["version"], qualifiers)
                part = component(
                    one["name"],
                    one["version"],
                    DEBIAN_LICENSES[one["source"]],
                    purl=purl,
                    properties=[("asys:file", name) for name in one["files"]],
                )
                parts.append(part)
                self.bom.components.add(part)
        self.bom.register_dependency(python, parts)
        return python


def _purl(package: dict[str, str]) -> PackageURL:
    qualifiers = {"arch": "amd64", "distro": "debian-12"}
    return PackageURL("deb", None, package["name"], package["version"], qualifiers)


def _holds(wanted: Requirement, extra: str) -> bool:
    return wanted.marker is None or wanted.marker.evaluate({**TARGET, "extra": extra})


# -- the wheel


def of_wheel(path: Path) -> Bom:
    """A wheel has nothing in it but asys; what it needs is named, and has no version yet."""
    with zipfile.ZipFile(path) as archive:
        [name] = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")]
        metadata = message_from_string(archive.read(name).decode())
    bom = Bom()
    whole = component(
        metadata["Name"],
        metadata["Version"],
        license_of(metadata),
        purl=PackageURL("pypi", None, metadata["Name"], metadata["Version"]),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        scope=None,
    )
    bom.metadata.component = whole
    needed: dict[str, list[str]] = {}
    for written in metadata.get_all("Requires-Dist", []):
        if normal(Requirement(written).name) != normal(metadata["Name"]):
            needed.setdefault(normal(Requirement(written).name), []).append(written)
    required = []
    for name, requirements in needed.items():
        always = any(Requirement(one).marker is None for one in requirements)
        part = component(
            name,
            None,
            purl=PackageURL("pypi", None, name),
            scope=ComponentScope.REQUIRED if always else ComponentScope.OPTIONAL,
            properties=[("asys:requires", one) for one in requirements],
        )
        bom.components.add(part)
        required.append(part)
    bom.register_dependency(whole, required)
    return bom


def write(bom: Bom, path: Path) -> None:
    """Writes a document that holds by the schema. ValueError: it does not."""
    when = int(os.environ["SOURCE_DATE_EPOCH"])
    bom.metadata.timestamp = datetime.fromtimestamp(when, UTC)
    bom.serial_number = uuid.UUID(int=0)
    first = JsonV1Dot6(bom).output_as_string()
    bom.serial_number = uuid.uuid5(_NAMESPACE, first)
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if fault is not None:
        raise ValueError(f"{path}: {fault}")
    path.write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    """Writes the document of each."""
    for written in sys.argv[1:]:
        path = Path(written)
        bom = of_wheel(path) if path.suffix == ".whl" else Built(path).bom
        write(bom, path.with_name(f"{path.name}.cdx.json"))


if __name__ == "__main__":
    main()
