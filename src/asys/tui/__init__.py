"""`asys top`: nodes to look at, live, in a terminal.

    watcher (one a node: connects, asks, tries again) -> app -> a widget for each part of the view

`watcher`, `readings` and `records` know nothing of terminals; the rest needs textual (asys[tui]).
Nothing that came from a node is read as markup, and nothing in it reaches the terminal as control.
"""
