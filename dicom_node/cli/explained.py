"""Selections and results as text that nothing is cut from: each line is folded to the width, whatever it holds."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROLES = ("T1W", "T2W", "FLAIR")


def explained(table: dict[str, Any], width: int) -> Iterator[str]:
    """Yield the series x role table of `pipeline.explain` as lines of at most `width` columns, where words allow it."""
    yield "series   T1W  T2W  FLAIR  description"
    chosen = {role["series_uid"]: (name, role) for name, role in table["roles"].items()}
    for series in table["series"]:
        name, role = chosen.get(series["series_uid"], (None, series))
        yield from _row(series, name, width)
        for sentence in role["evidence"]:
            yield from _fold(sentence, width, "         - ")
    yield from _ignored(table, width)
    yield from _fold(outcome(table), width)


def outcome(table: dict[str, Any]) -> str:
    """Return in one line which series plays which role, or why the study is held."""
    if table["state"] == "held":
        return f"Held: {table['reason']}: {table['sentence']}"
    chosen = (f"{role} = series {series['series_number']}" for role, series in table["roles"].items())
    return f"Ready: {', '.join(chosen)}"


def shown(table: dict[str, Any], width: int) -> Iterator[str]:
    """Yield the outcome of a selection; of a held one also the series that a human may choose from."""
    if table["state"] == "held":
        for series in table["series"]:
            if any(series["scores"].values()):
                words = f"{number(series)}, {series['verdict']}, {series['description']}: {series['series_uid']}"
                yield from _fold(words, width, subsequent="  ")
    for name, role in table["roles"].items():
        by_hand = ", chosen by hand" if "chosen by hand" in role["evidence"] else ""
        yield from _fold(f"{name} = {number(role)}, {role['description']}{by_hand}", width, subsequent="  ")


def replayed(row: dict[str, Any], width: int) -> Iterator[str]:
    """Yield what a study's selection would be now, compared with what it was."""
    reason = f": {row['sentence']}" if row["outcome"] == "not_judged" else ""
    yield from _fold(f"{row['study_uid']}: {row['outcome'].replace('_', ' ')}{reason}", width, subsequent="  ")
    for what, change in row["changes"].items():
        yield from _fold(f"{what}: {_value(change['old'])} -> {_value(change['new'])}", width, "  ")
    if row["changes"] and row["sentence"]:
        yield from _fold(row["sentence"], width, "  ")


def scored(result: dict[str, Any], out: Path, width: int) -> Iterator[str]:
    """Yield what ``result.json`` holds."""
    yield result["notice"]
    if result["state"] == "held":
        yield from _fold(f"Held, no score. {result['reason']}: {result['sentence']}", width)
    else:
        yield f"Score {result['score']:.4f} (threshold {result['threshold']}, {result['category'].replace('_', ' ')})"
        yield "role    score  weight  brain ml  series"
        for role, series in result["roles"].items():
            numbers = f"{result['scores'][role]:.4f}  {result['weights'][role]:6.2f}"
            volume = f"{result['brain'][role]['volume_ml']:8.0f}"
            yield from _fold(f"{number(series)}, {series['description']}", width, f"{role:<5}  {numbers}  {volume}  ")
        for caveat in _caveats(result):
            yield from _fold(caveat, width, subsequent="  ")
    yield from _ignored(result, width)
    yield f"Written to {out}"


def _caveats(result: dict[str, Any]) -> Iterator[str]:
    """Yield what a reader of the score must know besides."""
    if result["spread"]:
        spread = result["spread"]["ensemble"]
        folds = f"Spread over {spread['folds']} folds: SD {spread['sd']:.4f}"
        yield f"{folds}, from {spread['low']:.4f} to {spread['high']:.4f}"
    missing = [role for role in ROLES if role not in result["sequences_used"]]
    if missing:
        used = " and ".join(result["sequences_used"])
        yield f"Scored without {' and '.join(missing)}, with weights and threshold tested for {used} alone"
    for doubt in result["out_of_range"]:
        yield f"{doubt['code']}: {doubt['sentence']}"
    for role, facts in result["brain"].items():
        if facts["flags"]:
            yield f"Brain mask of {role}: {', '.join(facts['flags'])}"


def width() -> int:
    """Return the columns of the terminal; a pipe has 80."""
    return max(60, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 80


def number(series: dict[str, Any]) -> str:
    """Return how a line calls a series."""
    return "series without a number" if series["series_number"] is None else f"series {series['series_number']}"


def _ignored(table: dict[str, Any], width: int) -> Iterator[str]:
    for file in table["ignored_files"]:
        yield from _fold(f"Not used: {file['file']} ({file['code']}): {file['sentence']}", width)


def _row(series: dict[str, Any], role: str | None, width: int) -> Iterator[str]:
    scores = "  ".join(f"{series['scores'][name]:{len(name)}.1f}" for name in ROLES)
    given = "-" if series["series_number"] is None else str(series["series_number"])
    yield from _fold(series["description"] or "(no description)", width, f"{given:>6}   {scores}  ")
    volumes = "" if series["volumes"] == 1 else f", {series['volumes']} volumes"
    verdict = f"chosen for {role}" if role else f"verdict {series['verdict']}"
    yield from _fold(f"{verdict}{volumes}, {series['series_uid']}", width, "         ")


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{number(value)} ({value['description']})"
    return "none" if value is None else str(value)


def _fold(text: str, width: int, indent: str = "", subsequent: str | None = None) -> list[str]:
    """Return a text as lines; a word that is longer than a line stays whole, so that UIDs can be copied."""
    rest = " " * len(indent) if subsequent is None else subsequent
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
