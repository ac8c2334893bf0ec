"""`asys vendor`, and vendors in `asys isa` and `asys caps`: with a package that is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.vendors import Packages

DOMAIN = "shop.example.com"
BAD = "bad.example.com"
INSTRUCTIONS = {"STOCK": "0xC0", "ORDER": "0xC1, reply=Empty"}


@pytest.fixture
def packages(tmp_path: Path) -> Packages:
    made = Packages(tmp_path / "site")
    made.add(DOMAIN, INSTRUCTIONS, "")
    return made


def asys(packages: Packages, *words: str, cwd: Path | None = None) -> tuple[int, str, str]:
    program = f"{packages.prelude}from asys.cli.agent import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200"},
    )
    return done.returncode, done.stdout, done.stderr


def test_list(packages: Packages) -> None:
    status, out, err = asys(packages, "vendor", "list")
    assert (status, err) == (0, "")
    assert DOMAIN in out
    assert "STOCK" in out
    assert "ORDER" in out


def test_list_as_json(packages: Packages) -> None:
    status, out, _ = asys(packages, "vendor", "list", "--json")
    assert status == 0
    (one,) = json.loads(out)["vendors"]
    assert (one["domain"], [each["hex"] for each in one["instructions"]]) == (DOMAIN, ["C0", "C1"])


def test_one_that_cannot_be_imported_is_named_and_left_out(packages: Packages) -> None:
    packages.declare(BAD, "not_there.definition:VENDOR", "vendor_bad")
    status, out, err = asys(packages, "vendor", "list")
    assert status == 0
    assert DOMAIN in out
    assert err.startswith(f"asys: vendor left out: {BAD}: ")


def test_the_instruction_set_has_them(packages: Packages) -> None:
    status, out, _ = asys(packages, "isa")
    assert status == 0
    assert out.index("SYS_CAPS") < out.index(DOMAIN) < out.index("STOCK")
    status, out, _ = asys(packages, "isa", "--json")
    assert [one["domain"] for one in json.loads(out)["vendors"]] == [DOMAIN]
    status, out, _ = asys(packages, "isa", "--toml")
    assert f'domain = "{DOMAIN}"' in out


def test_one_of_them(packages: Packages) -> None:
    status, out, _ = asys(packages, "isa", "stock")
    assert status == 0
    assert f"asys vendor {DOMAIN} stock HOST --number NUMBER" in out


def test_nobody_of_that_name(packages: Packages) -> None:
    status, _, err = asys(packages, "isa", "nothing")
    assert status == 2
    assert "there is no instruction 'nothing'" in err


def test_a_command_for_each(packages: Packages) -> None:
    status, out, _ = asys(packages, "vendor", DOMAIN, "--help")
    assert status == 0
    assert "stock" in out
    status, out, _ = asys(packages, "vendor", DOMAIN, "stock", "--help")
    assert status == 0
    assert "--number NUMBER" in out


def test_a_new_one(packages: Packages, tmp_path: Path) -> None:
    status, out, err = asys(packages, "vendor", "new", "new.example.com", cwd=tmp_path)
    assert (status, err) == (0, "")
    assert "asys_new/src/asys_new/definition.py" in out
    status, _, err = asys(packages, "vendor", "new", "new.example.com", cwd=tmp_path)
    assert status == 2
    assert "asys_new is not empty; name another with --directory" in err


def test_new_of_what_is_no_domain(packages: Packages, tmp_path: Path) -> None:
    status, _, err = asys(packages, "vendor", "new", "shop", cwd=tmp_path)
    assert status == 2
    assert "'shop' is no domain name" in err


def test_other_commands_import_no_vendor(packages: Packages) -> None:
    """Whatever its package does when it is imported, `asys keygen` and the like are not held."""
    (packages.directory / "vendor_shop_example_com/definition.py").write_text("raise SystemExit(9)")
    status, out, err = asys(packages, "inspect", "000100000000")
    assert (status, err) == (0, "")
    assert "SYS_HELLO" in out
