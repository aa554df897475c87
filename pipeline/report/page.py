"""The summary page as a picture: notice, score with its threshold, sequences, masks, model. No patient, no date."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pipeline.brain import MaskFacts
from pipeline.predict import Category, Finding
from pipeline.report.character_sets import ascii_text
from pipeline.report.provenance import Provenance
from pipeline.report.wording import (
    CATEGORY_WORDS,
    CONDITION_DEFINITION,
    SCORE_NAME,
    UNVERIFIED,
    check_finding,
    decimals_of,
    notice_line,
)
from pipeline.select import Role

Color = tuple[int, int, int]

SIZE: Final = 1024
"""Width and height of the page in pixels."""

_MARGIN, _RIGHT = 48, SIZE - 48
_BACKGROUND: Final = (14, 17, 22)
_TEXT: Final = (236, 239, 243)
_MUTED: Final = (158, 168, 180)
_TRACK: Final = (44, 51, 61)
_SCORE: Final = (94, 167, 232)
_WEIGHT: Final = (134, 146, 160)
_THRESHOLD: Final = (255, 255, 255)
_NOTICE_FILL: Final = (250, 204, 70)
_NOTICE_TEXT: Final = (24, 20, 4)
# Two hues that colour-blind readers tell apart; neither is the green of an all-clear.
_CATEGORY: Final = {Category.AT_OR_ABOVE: (243, 156, 70), Category.BELOW: (136, 178, 222)}
_DIGEST_LENGTH: Final = 16


class _Pen:
    """Draws ASCII text and bars on one picture."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture
        self.draw = ImageDraw.Draw(picture)

    def text(self, x: int, y: int, words: str, size: int, color: Color = _TEXT, anchor: str = "la") -> None:
        self.draw.text((x, y), ascii_text(words), fill=color, font=ImageFont.load_default(size=size), anchor=anchor)

    def fitted(
        self, x: int, y: int, words: str, size: int, width: int, color: Color = _TEXT, anchor: str = "la"
    ) -> None:
        """One line that ends in an ellipsis where it would be wider than `width`."""
        shown = ascii_text(words)
        if self.width(shown, size) > width:
            while shown and self.width(f"{shown}...", size) > width:
                shown = shown[:-1]
            shown = f"{shown.rstrip()}..."
        self.text(x, y, shown, size, color, anchor)

    def width(self, words: str, size: int) -> float:
        return float(ImageFont.load_default(size=size).getlength(words))

    def wrapped(self, words: str, size: int, width: int, most: int) -> list[str]:
        """Split into at most `most` lines of `width` pixels; an ellipsis says that there was more."""
        lines: list[str] = []
        for word in ascii_text(words).split():
            if lines and self.width(f"{lines[-1]} {word}", size) <= width:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
        if len(lines) > most:
            lines = [*lines[: most - 1], f"{lines[most - 1]} ..."]
        return lines

    def bar(self, box: tuple[int, int, int, int], share: float, color: Color) -> None:
        """Draw a track of which `share`, 0 to 1, is filled."""
        left, top, right, bottom = box
        radius = (bottom - top) // 2
        self.draw.rounded_rectangle(box, radius, fill=_TRACK)
        filled = left + round((right - left) * min(max(share, 0.0), 1.0))
        if filled - left >= 2 * radius:
            self.draw.rounded_rectangle((left, top, filled, bottom), radius, fill=color)
        elif filled > left:
            self.draw.ellipse((left, top, left + 2 * radius, bottom), fill=color)

    def rule(self, y: int) -> None:
        self.draw.line((_MARGIN, y, _RIGHT, y), fill=_TRACK, width=2)


def draw_page(
    finding: Finding,
    brain: Mapping[Role, MaskFacts],
    provenance: Provenance,
    views: Mapping[Role, npt.NDArray[np.uint8]] | None = None,
) -> Image.Image:
    """Return the summary page.

    Parameters
    ----------
    finding
        Scores, weights, threshold and model.
    brain
        Facts of the brain mask of each role.
    provenance
        Of the run; its time is not drawn.
    views
        Pictures of the inputs, 2D uint8, rows downwards; roles may be missing.

    Returns
    -------
    PIL.Image.Image
        RGB, 1024 x 1024 pixels; the first line is the model's notice. Equal arguments give equal pixels.

    Raises
    ------
    ValueError
        If `finding` must not be reported, or a view is not 2D uint8.
    """
    check_finding(finding)
    pen = _Pen(Image.new("RGB", (SIZE, SIZE), _BACKGROUND))
    _draw_notice(pen, finding)
    _draw_score(pen, finding)
    _draw_sequences(pen, finding, brain)
    _draw_views(pen, views or {})
    _draw_model(pen, finding, provenance, 600 if not views else 836)
    if not views:
        _draw_words(pen)
    return pen.picture


def _draw_notice(pen: _Pen, finding: Finding) -> None:
    pen.draw.rectangle((0, 0, SIZE, 92), fill=_NOTICE_FILL)
    notice = notice_line(finding) or "Research software."
    width = _RIGHT - _MARGIN
    size = next((size for size in (28, 25, 22) if pen.width(notice, size) <= width), 18)
    lines = pen.wrapped(notice, size, width, 2)
    for row, line in enumerate(lines):
        pen.text(SIZE // 2, 32 if len(lines) == 1 else 20 + 23 * row, line, size, _NOTICE_TEXT, "mm")
    pen.text(SIZE // 2, 70, "RESEARCH USE ONLY - NOT FOR DIAGNOSTIC USE - NOT VERIFIED", 22, _NOTICE_TEXT, "mm")


def _draw_score(pen: _Pen, finding: Finding) -> None:
    places, color = decimals_of(finding), _CATEGORY[finding.category]
    pen.text(_MARGIN, 116, f"{SCORE_NAME}, tuberous sclerosis complex", 28)
    pen.fitted(_MARGIN, 154, "Ensemble of T1W, T2W and FLAIR. A score from 0 to 1, not a probability.", 20, 900, _MUTED)
    pen.text(_MARGIN, 188, f"{finding.score:.{places}f}", 72, color)
    pen.text(_RIGHT, 210, CATEGORY_WORDS[finding.category], 30, color, "ra")
    pen.text(_RIGHT, 248, f"patent score {finding.score_patent:.4f} (range 0 to 1/3)", 18, _MUTED, "ra")
    top, bottom = 284, 312
    pen.bar((_MARGIN, top, _RIGHT, bottom), finding.score, color)
    at = _MARGIN + round((_RIGHT - _MARGIN) * finding.threshold)
    pen.draw.line((at, top - 8, at, bottom + 8), fill=_THRESHOLD, width=4)
    words = f"threshold {finding.threshold:.{places}f}"
    half = round(pen.width(words, 18) / 2) + 20
    pen.text(min(max(at, _MARGIN + half), _RIGHT - half), bottom + 12, words, 18, _TEXT, "ma")
    pen.text(_MARGIN, bottom + 12, "0", 18, _MUTED)
    pen.text(_RIGHT, bottom + 12, "1", 18, _MUTED, "ra")


def _draw_sequences(pen: _Pen, finding: Finding, brain: Mapping[Role, MaskFacts]) -> None:
    pen.rule(362)
    score_x, weight_x, mask_x = 150, 452, 668
    for x, heading in ((_MARGIN, "Sequence"), (score_x, "Score"), (weight_x, "Weight"), (mask_x, "Brain mask")):
        pen.text(x, 378, heading, 18, _MUTED)
    for row, role in enumerate(Role):
        y = 418 + 56 * row
        pen.text(_MARGIN, y + 13, role.value, 24, anchor="lm")
        pen.bar((score_x, y + 4, score_x + 180, y + 22), finding.scores[role], _SCORE)
        pen.text(score_x + 194, y + 13, f"{finding.scores[role]:.4f}", 22, anchor="lm")
        pen.bar((weight_x, y + 4, weight_x + 100, y + 22), finding.weights[role], _WEIGHT)
        pen.text(weight_x + 114, y + 13, f"{100 * finding.weights[role]:.1f} %", 22, anchor="lm")
        _draw_mask(pen, mask_x, y, brain[role])


def _draw_mask(pen: _Pen, x: int, y: int, facts: MaskFacts) -> None:
    flags = ", ".join(facts.flags)
    pen.text(x, y + (2 if flags else 13), f"{facts.volume_ml:.0f} ml", 22, anchor="lm")
    if flags:
        pen.fitted(x, y + 26, flags, 16, _RIGHT - x, _NOTICE_FILL, "lm")
    else:
        pen.text(x + 92, y + 13, "no doubts", 18, _MUTED, "lm")


def _draw_views(pen: _Pen, views: Mapping[Role, npt.NDArray[np.uint8]]) -> None:
    side, top = 216, 590
    for column, role in enumerate(role for role in Role if role in views):
        left = _MARGIN + column * (_RIGHT - _MARGIN - side) // 2
        view = _picture(role, views[role])
        scale = min(side / view.width, side / view.height)
        size = (max(1, round(view.width * scale)), max(1, round(view.height * scale)))
        resized = view.resize(size, Image.Resampling.BILINEAR).convert("RGB")
        pen.draw.rectangle((left, top, left + side, top + side), fill=(0, 0, 0))
        pen.picture.paste(resized, (left + (side - size[0]) // 2, top + (side - size[1]) // 2))
        pen.draw.rectangle((left, top, left + side, top + side), outline=_TRACK, width=2)
        pen.text(left + 10, top + 8, role.value, 18)


def _picture(role: Role, view: npt.NDArray[np.uint8]) -> Image.Image:
    if view.ndim != 2 or view.dtype != np.uint8 or not view.size:
        msg = f"view of {role} has shape {view.shape} and type {view.dtype}, expected 2D uint8"
        raise ValueError(msg)
    return Image.fromarray(np.ascontiguousarray(view))


def _draw_model(pen: _Pen, finding: Finding, provenance: Provenance, top: int) -> None:
    model, weights = finding.model, provenance.brain_weights
    rows = (
        ("Model", f"{model.name} {model.version}, {model.architecture}"),
        ("Digests", f"model {model.digest[:_DIGEST_LENGTH]}, input {provenance.input_digest[:_DIGEST_LENGTH]}"),
        ("Brain mask", f"{weights.name} {weights.digest[:_DIGEST_LENGTH]}"),
        ("Software", provenance.software),
    )
    pen.rule(top - 12)
    for row, (label, words) in enumerate(rows):
        y = top + 4 + 28 * row
        pen.text(_MARGIN, y, label, 18, _MUTED)
        pen.fitted(_MARGIN + 130, y, words, 18, _RIGHT - _MARGIN - 130)
    pen.rule(top + 126)
    intended = pen.wrapped(model.intended_use, 16, _RIGHT - _MARGIN, 2)
    for row, line in enumerate(intended):
        pen.text(_MARGIN, top + 136 + 21 * row, line, 16, _MUTED)


def _draw_words(pen: _Pen) -> None:
    """Where no pictures are, there is room to say what the score is about."""
    lines = pen.wrapped(f"{CONDITION_DEFINITION} {UNVERIFIED}", 18, _RIGHT - _MARGIN, 6)
    for row, line in enumerate(lines):
        pen.text(_MARGIN, 800 + 26 * row, line, 18, _MUTED)
