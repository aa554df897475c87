"""Selections and results as text that nothing is cut from: each line is folded to the width, whatever it holds."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from models.contrast import Contrast
from pipeline.rounding import rounded, shown_score, shown_threshold

if TYPE_CHECKING:
    from dicom_node.studies.replay import Replayed
    from pipeline.explain import JudgedSeries, NamedSeries, SelectionTable, UnusedFile
    from pipeline.result import Result, Scored


_NAMED = 3
"""Files that are not used for one and the same reason are listed up to here, and counted beyond."""


def explained(table: SelectionTable, width: int) -> Iterator[str]:
    """Yield the series x role table as lines of at most `width` columns, where words allow it."""
    yield "series   T1W  T2W  FLAIR  description"
    roles = {chosen.series.series_uid: role for role, chosen in table.roles.items()}
    for row in table.series:
        role = roles.get(row.series.series_uid)
        yield from _row(row, role, width)
        for sentence in table.roles[role].evidence if role else row.evidence:
            yield from _fold(sentence, width, "         - ")
    yield from _unused(table.ignored_files, width)
    yield from _fold(outcome(table), width)


def outcome(table: SelectionTable) -> str:
    """Return in one line which series plays which role, or why the study is held."""
    if table.reason:
        return f"Held: {table.reason}: {table.sentence}"
    chosen = (f"{role} = series {chosen.series.series_number}" for role, chosen in table.roles.items())
    return f"Ready: {', '.join(chosen)}"


def shown(table: SelectionTable, by_hand: Container[Contrast], width: int) -> Iterator[str]:
    """Yield the outcome of a selection; of a held one also the series that a human may choose from."""
    if table.reason:
        for row in table.series:
            if any(row.scores.values()):
                words = f"{number(row.series)}, {row.verdict}, {row.series.description}: {row.series.series_uid}"
                yield from _fold(words, width, subsequent="  ")
                yield from _volumes(row, width, "  ")
    for role, chosen in table.roles.items():
        hand = ", chosen by hand" if role in by_hand else ""
        words = f"{role} = {number(chosen.series)}, {chosen.series.description}{hand}"
        yield from _fold(words, width, subsequent="  ")


def replayed(row: Replayed, width: int) -> Iterator[str]:
    """Yield what a study's selection would be now, compared with what it was."""
    reason = "" if row.judged else f": {row.sentence}"
    yield from _fold(f"{row.study_uid}: {row.outcome.replace('_', ' ')}{reason}", width, subsequent="  ")
    for what, change in row.changes.items():
        yield from _fold(f"{what}: {_value(change.old)} -> {_value(change.new)}", width, "  ")
    if row.changes and row.sentence:
        yield from _fold(row.sentence, width, "  ")


def scored(result: Result, out: Path, width: int) -> Iterator[str]:
    """Yield what ``result.json`` holds."""
    yield result.model.notice
    if result.held:
        yield from _fold(f"Held, no score. {result.held.code}: {result.held.sentence}", width)
    if result.scored:
        yield from _numbers(result, result.scored, width)
        for caveat in _caveats(result.scored):
            yield from _fold(caveat, width, subsequent="  ")
    yield from _unused(result.ignored_files, width)
    yield f"Written to {out}"


def _numbers(result: Result, scored: Scored, width: int) -> Iterator[str]:
    finding = scored.finding
    category = finding.category.replace("_", " ")
    yield f"Score {shown_score(finding)} (threshold {shown_threshold(finding)}, {category})"
    yield "role    score  weight  brain ml  series"
    for role, chosen in result.roles.items():
        numbers = (
            f"{rounded(finding.scores[role]):<6}  {finding.weights[role]:6.2f}  {scored.brain[role].volume_ml:8.0f}"
        )
        words = f"{number(chosen.series)}, {chosen.series.description}"
        yield from _fold(words, width, f"{role:<5}  {numbers}  ")


def _caveats(scored: Scored) -> Iterator[str]:
    """Yield what a reader of the score must know besides."""
    finding = scored.finding
    if spread := finding.spread():
        folds = f"Spread over {spread.folds} folds: SD {rounded(spread.sd)}"
        yield f"{folds}, from {rounded(spread.low)} to {rounded(spread.high)}"
    if finding.missing:
        used = " and ".join(finding.sequences)
        yield f"Scored without {' and '.join(finding.missing)}, with weights and threshold tested for {used} alone"
    for doubt in finding.out_of_range:
        yield f"{doubt.code}: {doubt.sentence}"
    for role in finding.sequences:
        if flags := scored.brain[role].flags:
            yield f"Brain mask of {role}: {', '.join(flags)}"


def width() -> int:
    """Return the columns of the terminal; a pipe has 80."""
    return max(60, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 80


def number(series: NamedSeries) -> str:
    """Return how a line calls a series."""
    return "series without a number" if series.series_number is None else f"series {series.series_number}"


def _unused(files: Iterable[UnusedFile], width: int) -> Iterator[str]:
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file in files:
        alike[file.code, file.sentence].append(file.file)
    for (code, sentence), names in alike.items():
        called = ", ".join(names) if len(names) <= _NAMED else f"{len(names)} files, among them {names[0]}"
        yield from _fold(f"Not used: {called} ({code}): {sentence}", width)


def _row(row: JudgedSeries, role: Contrast | None, width: int) -> Iterator[str]:
    scores = "  ".join(f"{row.scores[each]:{len(each)}.1f}" for each in Contrast)
    given = "-" if row.series.series_number is None else str(row.series.series_number)
    yield from _fold(row.series.description or "(no description)", width, f"{given:>6}   {scores}  ")
    volumes = "" if row.volumes == 1 else f", {row.volumes} volumes"
    verdict = f"chosen for {role}" if role else f"verdict {row.verdict}"
    yield from _fold(f"{verdict}{volumes}, {row.series.series_uid}", width, "         ")
    yield from _volumes(row, width, "         ")


def _volumes(row: JudgedSeries, width: int, indent: str) -> Iterator[str]:
    """Yield for each volume what tells it from others, and what `release` takes for it."""
    for volume in row.by_volume:
        times = (("TR", volume.tr_ms), ("TE", volume.te_ms), ("TI", volume.ti_ms))
        facts = [
            f"{volume.slices} slices",
            *([volume.time] if volume.time else []),
            *(f"{what} {value:g} ms" for what, value in times if value is not None),
        ]
        if len(row.by_volume) > 1:
            facts += [volume.verdict.value, "\\".join(volume.image_type)]
        yield from _fold(f"{', '.join(facts)}; choose it with --role ROLE={volume.argument}", width, indent)


def _value(value: NamedSeries | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or "none"
    return f"{number(value)} ({value.description})"


def _fold(text: str, width: int, indent: str = "", subsequent: str | None = None) -> list[str]:
    """Return a text as lines; a word that is longer than a line stays whole, so that UIDs can be copied."""
    rest = " " * len(indent) if subsequent is None else subsequent
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
