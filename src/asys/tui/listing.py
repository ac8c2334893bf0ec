"""A table whose rows come anew all the time while the cursor stays with what it points at."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.widgets import DataTable


class Listing(DataTable[Text]):
    """Rows under keys. Cells are Text: plain strings would be read as markup."""

    def __init__(self, *headings: str, name: str, cursor: bool = True) -> None:
        super().__init__(id=name, cursor_type="row" if cursor else "none")
        self._headings = headings
        self._shown: list[tuple[str, tuple[Text, ...]]] = []
        self._settled = False
        """What is shown has been drawn twice: textual may have missed to measure it once."""

    def on_mount(self) -> None:
        """The columns."""
        for heading in self._headings:
            self.add_column(Text(heading), key=heading)

    @property
    def selected(self) -> str | None:
        """The key under the cursor; None in an empty table."""
        row = self.cursor_row
        return self._shown[row][0] if 0 <= row < len(self._shown) else None

    def fill(self, rows: Sequence[tuple[str, tuple[Text, ...]]]) -> None:
        """Shows these rows; the cursor follows its key, and stays where it is when that is gone."""
        same = list(rows) == self._shown
        if same and self._settled:
            return
        self._settled = same
        before, place, top = self.selected, self.cursor_row, self.scroll_y
        self._shown = list(rows)
        # All anew: cells that change before textual has measured their row stay cut off.
        with self.prevent(DataTable.RowHighlighted):
            self.clear()
            for key, cells in rows:
                self.add_row(*cells, key=key)
            keys = [key for key, _ in rows]
            place = keys.index(before) if before in keys else min(place, len(keys) - 1)
            self.move_cursor(row=max(place, 0), animate=False, scroll=False)
        self.scroll_to(y=top, animate=False)
