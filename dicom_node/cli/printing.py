"""What the verbs print: lines and tables for people, JSON for machines, and progress on a terminal only.

Nothing else writes to a terminal. Whatever a header, a file name or a peer says is text here: it moves no cursor,
opens no line and turns no writing round.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from models.visible_text import visible, visible_json


@contextmanager
def progress() -> Iterator[Any]:
    """Yield a function that says what is going on, on a terminal; in a pipe it says nothing."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("starting") as status:
        yield lambda text: status.update(Text(f"{visible(text)} ..."))


def print_json(value: Any) -> None:
    """Print a value for machines."""
    print(visible_json(value, indent=2))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; in a pipe with room for every word."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    table = Table(box=None, pad_edge=False)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    console.print(table)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines for people."""
    for line in lines:
        print_line(line)


def print_line(line: str) -> None:
    """Print a line for people."""
    print(visible(line))


def print_problem(line: str) -> None:
    """Print on stderr why a verb does not do what it was asked to."""
    print(visible(line), file=sys.stderr)


def show_what_cannot_be_encoded() -> None:
    """Let a character that the terminal's encoding lacks be printed as an escape, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
