"""A hook of mkdocs: a folder in the navigation stands for all pages in it.

`Decisions: decisions/` becomes a section with README.md, if there is one, and the rest by name, so
that a new record or guide needs no line in mkdocs.yml.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import ConfigurationError


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Writes out the folders of `nav`. ConfigurationError for one without pages."""
    config.nav = _expanded(config.nav, Path(config.docs_dir))
    return config


def _expanded(entry: Any, docs: Path) -> Any:
    if isinstance(entry, list):
        return [_expanded(one, docs) for one in entry]
    if isinstance(entry, dict):
        return {title: _expanded(one, docs) for title, one in entry.items()}
    if isinstance(entry, str) and entry.endswith("/"):
        pages = sorted(
            (docs / entry).glob("*.md"), key=lambda page: (page.name != "README.md", page)
        )
        if not pages:
            raise ConfigurationError(f"nav: there are no pages in {docs / entry}")
        return [page.relative_to(docs).as_posix() for page in pages]
    return entry
