"""The summary page as a picture: notice, score, doubts, sequences with their images, model. Nothing of the patient."""

from __future__ import annotations

from typing import Final

from models.contrast import Contrast
from models.outcome import CONTROLLED, UNCONTROLLED
from models.visible_text import visible
from pipeline.predict import Category, Finding
from pipeline.report.doubts import checked_words, doubts_of, unchecked_words
from pipeline.report.pen import BANNER, MARGIN, MUTED, NOTICE_FILL, SIDE, SMALLEST, TEXT, Color, Pen, Sheet
from pipeline.report.run import ScoredRun
from pipeline.report.series_named import series_named
from pipeline.report.views import Plane, Views, paste_plane
from pipeline.report.wording import (
    CATEGORY_WORDS,
    CONDITION_DEFINITION,
    SCORE_NAME,
    UNVERIFIED,
    evidence_words,
    no_doubts_words,
    notice_line,
    sequences_words,
    spread_words,
)
from pipeline.rounding import decimals_of, rounded

_RIGHT = SIDE - MARGIN
_WIDTH = _RIGHT - MARGIN
_SCORE: Final = (94, 167, 232)
_WEIGHT: Final = (134, 146, 160)
_THRESHOLD: Final = (255, 255, 255)
# Two hues that colour-blind readers distinguish; neither is the green of an all-clear.
_CATEGORY: Final = {Category.AT_OR_ABOVE: (243, 156, 70), Category.BELOW: (136, 178, 222)}
_DIGEST: Final = 16
_DOUBTS_TOP, _FOOT_TOP = 334, 870
_LINE, _SMALL_LINE = 22, 20
_MOST_DOUBT_LINES, _MOST_DOUBT_LINES_OF_DOCUMENT = 7, 11
_GAP: Final = 8
_COLUMN: Final = (_WIDTH - 2 * 3 * _GAP) // len(Contrast)
_SMALL_SHARE: Final = 0.36
"""Share of the height of a column's planes that coronal and sagittal have; the axial one is what readers look at."""


def draw_page(run: ScoredRun, views: Views | None = None, scale: int = 1, *, lettered: bool = True) -> Sheet:
    """Return the summary page.

    Parameters
    ----------
    run
        With a score; of its sources nothing but number and description of the series is drawn.
    views
        Planes of the inputs with their masks; roles may be missing. Without any, words take their place.
    scale
        Pixels of a point: 1 for a page of 1024 x 1024 pixels, 2 for one that has room for every doubt.
    lettered
        As for :class:`~pipeline.report.pen.Pen`.

    Returns
    -------
    Sheet
        The first line is the model's notice. Equal arguments give equal pixels.
    """
    pen = Pen(scale=scale, lettered=lettered)
    pen.banner(notice_line(run.model) or "Research software.")
    _draw_score(pen, run.finding)
    pen.rule(_DOUBTS_TOP - 8)
    top = _draw_doubts(pen, run, _MOST_DOUBT_LINES if scale == 1 else _MOST_DOUBT_LINES_OF_DOCUMENT)
    pen.rule(top + 4)
    below = [_draw_sequence(pen, (_left(role), top + 12), role, run) for role in Contrast]
    for role, planes in (views or {}).items():
        _draw_planes(pen, (_left(role), max(below)), _FOOT_TOP - 10 - max(below), planes)
    if not views:
        _draw_words(pen, max(below) + 20)
    _draw_foot(pen, run)
    return pen.sheet


def _draw_score(pen: Pen, finding: Finding) -> None:
    places, color = decimals_of(finding.score, finding.threshold), _CATEGORY[finding.category]
    pen.text(MARGIN, BANNER + 8, f"{SCORE_NAME}, tuberous sclerosis complex", 28)
    pen.fitted(MARGIN, 136, f"1 means: {UNCONTROLLED}.", 17, _WIDTH)
    ensemble = f"Ensemble of {sequences_words(finding)}. A score from 0 to 1, not a probability."
    pen.fitted(MARGIN, 158, f"0 means: {CONTROLLED}. {ensemble}", 17, _WIDTH, MUTED)
    pen.text(MARGIN, 176, f"{finding.score:.{places}f}", 72, color)
    pen.text(_RIGHT, 188, CATEGORY_WORDS[finding.category], 30, color, "ra")
    _draw_beside(pen, finding)
    left, top, bottom = MARGIN, 262, 286
    pen.bar((left, top, _RIGHT, bottom), finding.score, color)
    at = left + round(_WIDTH * finding.threshold)
    pen.line((at, top - 8, at, bottom + 8), _THRESHOLD, 4)
    words = f"threshold {finding.threshold:.{places}f}"
    half = round(pen.width(words, 18) / 2) + 20
    pen.text(min(max(at, left + half), _RIGHT - half), bottom + 12, words, 18, TEXT, "ma")
    pen.text(left, bottom + 12, "0", 18, MUTED)
    pen.text(_RIGHT, bottom + 12, "1", 18, MUTED, "ra")


def _draw_beside(pen: Pen, finding: Finding) -> None:
    """Draw between score and category what a bundle with folds, a calibration or a repeatability adds."""
    spread, calibrated, repeats = finding.spread(), finding.calibrated, finding.repeatability
    left, width = MARGIN + 296, 290
    if spread:
        pen.fitted(left, 196, spread_words(spread), 17, width, MUTED)
    if calibrated:
        words = f"calibrated {100 * calibrated.probability:.1f} % (n = {calibrated.patients})"
        pen.fitted(left, 222, words, 17, width, MUTED)
    if repeats:
        pen.text(_RIGHT, 228, f"repeatability +-{repeats.sd:.3f}", 17, MUTED, "ra")


def _draw_doubts(pen: Pen, run: ScoredRun, most: int) -> int:
    """Draw every doubt in plain words, then what was compared and what was not; return where that ends."""
    doubts, y = doubts_of(run), _DOUBTS_TOP
    lines = [line for doubt in doubts for line in pen.wrapped(f"- {doubt}", 17, _WIDTH, 3)]
    if len(lines) > most:
        lines = [*lines[: most - 1], "- There is more: see the structured report."]
    compared = f"{'' if doubts else 'No doubts. '}{checked_words(run.model)}" if run.model.checks else ""
    rows: list[tuple[str, Color]] = [(line, NOTICE_FILL) for line in lines]
    rows += [
        (line, MUTED) for words in (compared, unchecked_words(run.model)) for line in pen.wrapped(words, 17, _WIDTH, 2)
    ]
    for words, color in rows:
        pen.fitted(MARGIN, y, words, 17, _WIDTH, color)
        y += _LINE
    return y


def _left(role: Contrast) -> int:
    return MARGIN + list(Contrast).index(role) * (_COLUMN + 3 * _GAP)


def _draw_sequence(pen: Pen, corner: tuple[int, int], role: Contrast, run: ScoredRun) -> int:
    """Draw what a sequence says and what it was read from; return where that ends."""
    (x, y), finding = corner, run.finding
    pen.text(x, y + 12, role.value, 24, MUTED if role in finding.missing else TEXT, "lm")
    if role in finding.missing:
        pen.text(x, y + 30, "not in the study", 18, NOTICE_FILL)
        return y + 52
    score, facts, spread = finding.scores[role], run.brain[role], finding.spread(role)
    pen.text(x + 86, y + 12, rounded(score), 24, anchor="lm")
    pen.bar((x + 150, y + 3, x + _COLUMN, y + 21), score, _SCORE)
    at = x + 150 + round((_COLUMN - 150) * finding.threshold)
    pen.line((at, y - 1, at, y + 25), _THRESHOLD, 2)
    mask = "see above" if facts.flags else no_doubts_words(facts)
    rows = pen.wrapped(visible(series_named(run, role)), SMALLEST, _COLUMN, 2)
    rows += pen.wrapped(
        f"weight {100 * finding.weights[role]:.1f} %, brain {facts.volume_ml:.0f} ml: {mask}", SMALLEST, _COLUMN, 2
    )
    rows += [spread_words(spread)] if spread else []
    for row, words in enumerate(rows):
        pen.fitted(x, y + 28 + _SMALL_LINE * row, words, SMALLEST, _COLUMN)
    return y + 34 + _SMALL_LINE * len(rows)


def _draw_planes(pen: Pen, corner: tuple[int, int], height: int, planes: tuple[Plane, ...]) -> None:
    """Draw the axial plane as large as there is room, the other two below it or, where that is larger, beside it."""
    (x, y), (axial, *others) = corner, planes
    small = min((_COLUMN - _GAP) // 2, round(_SMALL_SHARE * height))
    side, beside = min(_COLUMN, height - small - _GAP), min(height, 2 * (_COLUMN - _GAP) // 3)
    if beside < side:
        left = x + (_COLUMN - 2 * small - _GAP) // 2
        paste_plane(pen, axial, (x + (_COLUMN - side) // 2, y), side)
        places = [(left + column * (small + _GAP), y + side + _GAP) for column in range(len(others))]
    else:
        small = (beside - _GAP) // 2
        paste_plane(pen, axial, corner, beside)
        places = [(x + beside + _GAP, y + row * (small + _GAP)) for row in range(len(others))]
    for plane, place in zip(others, places, strict=True):
        paste_plane(pen, plane, place, small)


def _draw_foot(pen: Pen, run: ScoredRun) -> None:
    model, provenance, finding = run.model, run.provenance, run.finding
    weights, started = provenance.brain_weights, provenance.started.isoformat(" ", "seconds")
    first, *more = pen.wrapped(evidence_words(model), SMALLEST, _WIDTH - 90, 2)
    mask_by = f"brain masks by {weights.name} {weights.digest[:_DIGEST]}"
    rows = [
        ("Read", f"{started} by {provenance.software}, {mask_by}"),
        ("Model", f"{model.name} {model.version}, {model.architecture}"),
        ("Digests", f"model {model.digest[:_DIGEST]}, input {provenance.input_digest[:_DIGEST]}"),
        ("Evidence", first),
        *(("", line) for line in more),
        ("Patent", f"literal score of CN114170162A {rounded(finding.score_patent)}, range 0 to 1/3"),
    ]
    pen.rule(_FOOT_TOP)
    for row, (label, words) in enumerate(rows):
        y = _FOOT_TOP + 6 + _SMALL_LINE * row
        pen.text(MARGIN, y, label, SMALLEST, MUTED)
        pen.fitted(MARGIN + 90, y, words, SMALLEST, _WIDTH - 90)
    for row, line in enumerate(pen.wrapped(model.intended_use, SMALLEST, _WIDTH, 7 - len(rows))):
        pen.text(MARGIN, _FOOT_TOP + 8 + _SMALL_LINE * (len(rows) + row), line, SMALLEST, MUTED)


def _draw_words(pen: Pen, top: int) -> None:
    """Where no pictures are, there is room to say what the score is about."""
    lines = pen.wrapped(f"{CONDITION_DEFINITION} {UNVERIFIED}", 18, _WIDTH, 8)
    for row, line in enumerate(lines):
        pen.text(MARGIN, top + 26 * row, line, 18, MUTED)
