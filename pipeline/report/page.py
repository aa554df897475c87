"""The summary page as a picture: notice, score with its threshold, sequences, masks, model. No patient, no date."""

from __future__ import annotations

from typing import Final

from PIL import Image

from models.contrast import Contrast
from pipeline.brain import MaskFacts
from pipeline.predict import Category, Finding, ModelIdentity
from pipeline.report.pen import BACKGROUND, MARGIN, MUTED, NOTICE_FILL, TEXT, Pen
from pipeline.report.provenance import Provenance
from pipeline.report.run import ScoredRun
from pipeline.report.views import Views, paste_row
from pipeline.report.wording import (
    CATEGORY_WORDS,
    CONDITION_DEFINITION,
    SCORE_NAME,
    UNVERIFIED,
    caution_words,
    evidence_words,
    notice_line,
    sequences_words,
    spread_words,
)
from pipeline.rounding import decimals_of, rounded

SIZE: Final = 1024
"""Width and height of the page in pixels."""

_RIGHT = SIZE - MARGIN
_SCORE: Final = (94, 167, 232)
_WEIGHT: Final = (134, 146, 160)
_THRESHOLD: Final = (255, 255, 255)
# Two hues that colour-blind readers distinguish; neither is the green of an all-clear.
_CATEGORY: Final = {Category.AT_OR_ABOVE: (243, 156, 70), Category.BELOW: (136, 178, 222)}
_DIGEST_LENGTH: Final = 16
_ROWS_TOP, _ROW = 374, 148
_VIEW, _VIEWS_LEFT = 140, 540
_BESIDE, _BESIDE_WIDTH = 344, 280


def draw_page(run: ScoredRun, views: Views | None = None) -> Image.Image:
    """Return the summary page.

    Parameters
    ----------
    run
        With a score; nothing of its sources is drawn, nor its time.
    views
        Planes of the inputs with their masks; roles may be missing. Without any, words take their place.

    Returns
    -------
    PIL.Image.Image
        RGB, 1024 x 1024 pixels; the first line is the model's notice. Equal arguments give equal pixels.
    """
    finding = run.finding
    pen = Pen(Image.new("RGB", (SIZE, SIZE), BACKGROUND))
    pen.banner(notice_line(run.model) or "Research software.")
    _draw_score(pen, finding)
    pen.rule(362)
    for row, role in enumerate(Contrast):
        top = _ROWS_TOP + _ROW * row
        if role in finding.missing:
            _draw_missing(pen, top, role)
            continue
        _draw_sequence(pen, top, role, finding, run.brain[role])
        paste_row(pen.picture, (views or {}).get(role, ()), (_VIEWS_LEFT, top), _VIEW)
    if not views:
        _draw_words(pen)
    _draw_model(pen, run.model, run.provenance, 842)
    return pen.picture


def _draw_score(pen: Pen, finding: Finding) -> None:
    places, color = decimals_of(finding.score, finding.threshold), _CATEGORY[finding.category]
    pen.text(MARGIN, 116, f"{SCORE_NAME}, tuberous sclerosis complex", 28)
    words = f"Ensemble of {sequences_words(finding)}. A score from 0 to 1, not a probability."
    pen.fitted(MARGIN, 149, words, 20, 900, MUTED)
    pen.fitted(MARGIN, 175, caution_words(finding), 18, _RIGHT - MARGIN, NOTICE_FILL)
    _draw_beside(pen, finding)
    pen.text(MARGIN, 188, f"{finding.score:.{places}f}", 72, color)
    pen.text(_RIGHT, 210, CATEGORY_WORDS[finding.category], 30, color, "ra")
    patent = f"patent score {rounded(finding.score_patent)} (range 0 to 1/3)"
    repeats = f"repeatability +-{finding.repeatability.sd:.3f}, " if finding.repeatability else ""
    pen.text(_RIGHT, 248, repeats + patent, 18, MUTED, "ra")
    top, bottom = 284, 312
    pen.bar((MARGIN, top, _RIGHT, bottom), finding.score, color)
    at = MARGIN + round((_RIGHT - MARGIN) * finding.threshold)
    pen.draw.line((at, top - 8, at, bottom + 8), fill=_THRESHOLD, width=4)
    words = f"threshold {finding.threshold:.{places}f}"
    half = round(pen.width(words, 18) / 2) + 20
    pen.text(min(max(at, MARGIN + half), _RIGHT - half), bottom + 12, words, 18, TEXT, "ma")
    pen.text(MARGIN, bottom + 12, "0", 18, MUTED)
    pen.text(_RIGHT, bottom + 12, "1", 18, MUTED, "ra")


def _draw_beside(pen: Pen, finding: Finding) -> None:
    """Draw between score and category what a bundle with folds or with a calibration adds."""
    spread, calibrated = finding.spread(), finding.calibrated
    if spread:
        pen.fitted(_BESIDE, 214, spread_words(spread), 18, _BESIDE_WIDTH, MUTED)
    if calibrated:
        words = f"calibrated {100 * calibrated.probability:.1f} % (n = {calibrated.patients})"
        pen.fitted(_BESIDE, 244, words, 18, _BESIDE_WIDTH, MUTED)


def _draw_missing(pen: Pen, top: int, role: Contrast) -> None:
    pen.text(MARGIN, top + 20, role.value, 26, MUTED, "lm")
    pen.text(142, top + 20, "not in the study", 20, NOTICE_FILL, "lm")


def _draw_sequence(pen: Pen, top: int, role: Contrast, finding: Finding, facts: MaskFacts) -> None:
    label_x, bar_x, value_x = 142, 232, 426
    pen.text(MARGIN, top + 20, role.value, 26, anchor="lm")
    score, weight = finding.scores[role], finding.weights[role]
    pen.text(label_x, top + 20, "score", 18, MUTED, "lm")
    pen.bar((bar_x, top + 10, bar_x + 180, top + 30), score, _SCORE)
    pen.text(value_x, top + 20, rounded(score), 24, anchor="lm")
    spread = finding.spread(role)
    if spread:
        low, high = (bar_x + round(180 * each) for each in (spread.low, spread.high))
        pen.draw.line((low, top + 20, max(high, low + 2), top + 20), fill=_THRESHOLD, width=3)
        pen.fitted(bar_x, top + 41, spread_words(spread), 15, _VIEWS_LEFT - bar_x - 16, MUTED, "lm")
    pen.text(label_x, top + 58, "weight", 18, MUTED, "lm")
    pen.bar((bar_x, top + 50, bar_x + 180, top + 66), weight, _WEIGHT)
    pen.text(value_x, top + 58, f"{100 * weight:.1f} %", 20, anchor="lm")
    pen.text(label_x, top + 92, "brain", 18, MUTED, "lm")
    pen.text(bar_x, top + 92, f"{facts.volume_ml:.0f} ml", 20, anchor="lm")
    flags = ", ".join(facts.flags)
    if flags:
        pen.fitted(label_x, top + 120, flags, 18, _VIEWS_LEFT - label_x - 16, NOTICE_FILL, "lm")
    else:
        pen.text(bar_x + 92, top + 92, "no doubts", 18, MUTED, "lm")


def _draw_model(pen: Pen, model: ModelIdentity, provenance: Provenance, top: int) -> None:
    weights = provenance.brain_weights
    first, *more = pen.wrapped(evidence_words(model), 18, _RIGHT - MARGIN - 130, 2)
    rows = (
        ("Model", f"{model.name} {model.version}, {model.architecture}"),
        ("Evidence", first),
        *(("", line) for line in more),
        ("Digests", f"model {model.digest[:_DIGEST_LENGTH]}, input {provenance.input_digest[:_DIGEST_LENGTH]}"),
        ("Software", f"{provenance.software}, brain mask by {weights.name} {weights.digest[:_DIGEST_LENGTH]}"),
    )
    pen.rule(top - 12)
    for row, (label, words) in enumerate(rows):
        y = top - 6 + 24 * row
        pen.text(MARGIN, y, label, 18, MUTED)
        pen.fitted(MARGIN + 130, y, words, 18, _RIGHT - MARGIN - 130)
    pen.rule(top + 118)
    intended = pen.wrapped(model.intended_use, 16, _RIGHT - MARGIN, 2)
    for row, line in enumerate(intended):
        pen.text(MARGIN, top + 128 + 21 * row, line, 16, MUTED)


def _draw_words(pen: Pen) -> None:
    """Where no pictures are, there is room to say what the score is about."""
    lines = pen.wrapped(f"{CONDITION_DEFINITION} {UNVERIFIED}", 18, _RIGHT - _VIEWS_LEFT, 14)
    for row, line in enumerate(lines):
        pen.text(_VIEWS_LEFT, _ROWS_TOP + 8 + 26 * row, line, 18, MUTED)
