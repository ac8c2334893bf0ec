"""The documentation as a site: it builds without a warning, and without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

from asys.isa import REGISTRY
from support.pages import DOCS

ROOT = DOCS.parent
FETCHED = {"audio", "embed", "iframe", "img", "link", "script", "source", "video"}
"""Elements for which a browser goes and gets something; `a` is for people to click on."""


class Page(HTMLParser):
    """What a page of the site loads, and which anchors it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.classes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """As HTMLParser."""
        given = {name: value or "" for name, value in attrs}
        self.anchors.add(given.get("id", ""))
        self.classes |= set(given.get("class", "").split())
        if tag in FETCHED:
            self.loads += [given[name] for name in ("href", "src") if name in given]


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` builds it; where the tests may, with no network at all."""
    alone = ("unshare", "--net") if os.geteuid() == 0 else ()
    mkdocs = (sys.executable, "-W", "error", "-m", "mkdocs", "build", "--strict")
    return subprocess.run(
        (*alone, *mkdocs, "--site-dir", str(site)),
        cwd=root,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_it_builds_and_is_complete_in_itself(tmp_path: Path) -> None:
    site = tmp_path / "site"
    done = build(ROOT, site)
    assert done.returncode == 0, done.stderr
    pages = {
        page.relative_to(site).as_posix(): Page(page.read_text("utf-8"))
        for page in site.rglob("*.html")
    }
    for name, page in pages.items():
        assert page.loads
        for address in page.loads:
            assert not re.match(r"([a-z]+:)?//", address), f"{name} loads {address}"
        assert "mermaid" not in page.classes, f"{name}: the theme would load mermaid from a CDN"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text("utf-8"))

    written = {
        page.relative_to(DOCS).with_suffix(".html").as_posix() for page in DOCS.rglob("*.md")
    }
    built = {name.replace("decisions/index", "decisions/README") for name in pages}
    assert built == written | {"404.html"}
    assert {one.method for one in REGISTRY} <= pages["instructions.html"].anchors


def test_what_is_broken_ends_the_build(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    (tmp_path / "tools").mkdir()
    for name in ("mkdocs.yml", "tools/docs_nav.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    with (tmp_path / "docs" / "why.md").open("a") as page:
        page.write("[a](nowhere.md) [b](start.md#nowhere) [c](../README) [d](/start.md)\n")
    (tmp_path / "docs" / "forgotten.md").write_text("# No entry of the navigation\n")

    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 5, done.stderr
    for told in ("'nowhere.md'", "'start.md#nowhere'", "'../README'", "'/start.md'"):
        assert sum(told in line for line in warnings) == 1, told
    assert "forgotten.md" in done.stderr


def test_a_folder_without_pages_is_told(tmp_path: Path) -> None:
    settings = (ROOT / "mkdocs.yml").read_text("utf-8").replace("decisions/", "nothing/")
    (tmp_path / "mkdocs.yml").write_text(settings)
    (tmp_path / "docs").mkdir()
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools/docs_nav.py", tmp_path / "tools")
    for folder in ("guides", "nothing"):
        (tmp_path / "docs" / folder).mkdir()
    (tmp_path / "docs" / "guides" / "one.md").write_text("# One\n")

    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert f"nav: there are no pages in {tmp_path}/docs/nothing" in done.stderr
