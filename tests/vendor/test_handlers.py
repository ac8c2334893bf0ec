"""How a vendor's code is bound to its instructions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asys.vendor import SW, Refuse, VendorError, find, handler
from asys.vendor.handlers import REFUSALS, handlers_of
from support.vendors import Packages
from vendor.test_definition import Number, instruction

TWO = {"DOUBLE": "0xC0", "TRIPLE": "0xC1"}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    """Some on the path, which forgets their modules again."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield Packages(tmp_path / "site")
    for name in set(sys.modules) - before:
        if name.startswith("vendor_"):
            del sys.modules[name]


def test_a_handler_is_the_function_itself() -> None:
    one = instruction()

    @handler(one)
    def double(request: Number) -> Number:
        return Number(2 * request.number)

    assert double(Number(4)) == Number(8)
    with pytest.raises(VendorError, match="has a handler already"):
        handler(one)(double)


def test_every_instruction_has_one(packages: Packages) -> None:
    packages.add(
        "a.example",
        TWO,
        """
        @handler(DOUBLE)
        def double(request):
            return Number(2 * request.number)
        @handler(TRIPLE)
        async def triple(request):
            return Number(3 * request.number)
        """,
    )
    found = handlers_of(find("a.example").load())
    assert sorted(found) == [0xC0, 0xC1]
    assert found[0xC0](Number(2)).number == 4


def test_one_that_lacks_is_named(packages: Packages) -> None:
    packages.add("b.example", TWO, "@handler(DOUBLE)\ndef double(request): ...\n")
    with pytest.raises(VendorError, match="has no @handler for TRIPLE"):
        handlers_of(find("b.example").load())


def test_a_module_that_cannot_be_imported(packages: Packages) -> None:
    packages.add("c.example", TWO, "import a_module_that_is_not_there")
    with pytest.raises(VendorError, match="cannot be imported: ModuleNotFoundError"):
        handlers_of(find("c.example").load())


@pytest.mark.parametrize("status", [0x6400, 0x6982, 0x6A80, 0x6D00, 0x6F00, 0x6FFF])
def test_what_a_handler_may_answer(status: int) -> None:
    refusal = Refuse(status, "why")
    assert (refusal.sw, str(refusal)) == (status, "why")
    assert refusal.sw in REFUSALS


@pytest.mark.parametrize("status", [0x9000, 0x6A81, 0x6985, 0x6700, 0x6E00, 0x1234])
def test_what_it_may_not(status: int) -> None:
    with pytest.raises(ValueError, match=r"refuses with one of|is not a valid SW"):
        Refuse(status)
    assert SW.SUCCESS not in REFUSALS
