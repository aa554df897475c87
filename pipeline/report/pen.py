"""Text, bars and colours of the pictures: one look for the summary page and the overlay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from pipeline.report.character_sets import ascii_text

Color = tuple[int, int, int]

BACKGROUND: Final = (14, 17, 22)
TEXT: Final = (236, 239, 243)
MUTED: Final = (158, 168, 180)
TRACK: Final = (44, 51, 61)
NOTICE_FILL: Final = (250, 204, 70)
NOTICE_TEXT: Final = (24, 20, 4)
SIDE: Final = 1024
MARGIN: Final = 48
BANNER: Final = 92
SMALLEST: Final = 16
"""Width of a picture, its margins, the height of the banner and of the smallest type, in points.

A point is a pixel of a picture 1024 pixels wide; all places and sizes are given in points.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text as it was drawn: where its baseline begins, height of its type and its width, in pixels."""

    words: str
    x: float
    baseline: float
    size: int
    width: float
    color: Color


@dataclass(frozen=True, slots=True)
class Sheet:
    """A picture, and the text that belongs on it: drawn already, or left to a document whose text can be searched."""

    picture: Image.Image
    lines: tuple[Line, ...]


class Pen:
    """Draws ASCII text and bars on one picture.

    Parameters
    ----------
    width, height
        Of the picture in points.
    scale
        Pixels of a point.
    lettered
        Whether text is drawn; if not, it is only remembered.
    """

    def __init__(self, width: int = SIDE, height: int = SIDE, scale: int = 1, *, lettered: bool = True) -> None:
        self.size, self.scale, self.lettered = (width, height), scale, lettered
        self.picture = Image.new("RGB", (scale * width, scale * height), BACKGROUND)
        self.lines: list[Line] = []
        self._draw = ImageDraw.Draw(self.picture)

    @property
    def sheet(self) -> Sheet:
        """What was drawn so far."""
        return Sheet(self.picture, tuple(self.lines))

    def text(self, x: float, y: float, words: str, size: int, color: Color = TEXT, anchor: str = "la") -> None:
        """Draw one line; `size` is the height of the type in points.

        Parameters
        ----------
        x, y
            Place of the anchor in points.
        words
            What is not ASCII becomes ``?``.
        size
            Height of the type in points.
        color
            RGB, 0 to 255.
        anchor
            Pillow's: ``l``, ``m`` or ``r`` of the line, and its ascender or middle, lie at `x`, `y`.
        """
        shown, font = ascii_text(words), ImageFont.load_default(size=self.scale * size)
        assert isinstance(font, ImageFont.FreeTypeFont)
        ascent, descent = font.getmetrics()
        width = float(font.getlength(shown))
        left = self.scale * x - width * {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]]
        baseline = self.scale * y + (ascent if anchor[1] == "a" else (ascent - descent) / 2)
        self.lines.append(Line(shown, left, baseline, self.scale * size, width, color))
        if self.lettered:
            self._draw.text((left, baseline), shown, fill=color, font=font, anchor="ls")

    def fitted(
        self, x: float, y: float, words: str, size: int, width: int, color: Color = TEXT, anchor: str = "la"
    ) -> None:
        """Draw one line that ends in an ellipsis where it would be wider than `width`.

        Parameters
        ----------
        x, y, words, size, color, anchor
            As for `text`.
        width
            Most points.
        """
        shown = ascii_text(words)
        if self.width(shown, size) > width:
            while shown and self.width(f"{shown}...", size) > width:
                shown = shown[:-1]
            shown = f"{shown.rstrip()}..."
        self.text(x, y, shown, size, color, anchor)

    def width(self, words: str, size: int) -> float:
        """Return the width of a line in points.

        Parameters
        ----------
        words
            ASCII.
        size
            Height of the type in points.
        """
        return float(ImageFont.load_default(size=size).getlength(words))

    def wrapped(self, words: str, size: int, width: int, most: int) -> list[str]:
        """Split into at most `most` lines of `width` points; an ellipsis says that there was more.

        Parameters
        ----------
        words
            What is not ASCII becomes ``?``.
        size
            Height of the type in points.
        width
            Most points of a line; a longer word stands alone.
        most
            Lines, at least 1.
        """
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
        """Draw a track of which `share`, 0 to 1, is filled.

        Parameters
        ----------
        box
            Left, top, right and bottom in points.
        share
            Beyond 0 and 1 it is cut off.
        color
            RGB of the filled part, 0 to 255.
        """
        left, top, right, bottom = self._pixels(*box)
        radius = (bottom - top) // 2
        self._draw.rounded_rectangle((left, top, right, bottom), radius, fill=TRACK)
        filled = left + round((right - left) * min(max(share, 0.0), 1.0))
        if filled - left >= 2 * radius:
            self._draw.rounded_rectangle((left, top, filled, bottom), radius, fill=color)
        elif filled > left:
            self._draw.ellipse((left, top, left + 2 * radius, bottom), fill=color)

    def line(self, box: tuple[int, int, int, int], color: Color, width: int) -> None:
        """Draw a straight line.

        Parameters
        ----------
        box
            Where it begins and ends, in points.
        color
            RGB, 0 to 255.
        width
            In points.
        """
        self._draw.line(self._pixels(*box), fill=color, width=self.scale * width)

    def rule(self, y: int) -> None:
        """Draw a line from margin to margin.

        Parameters
        ----------
        y
            Its row in points.
        """
        self.line((MARGIN, y, self.size[0] - MARGIN, y), TRACK, 2)

    def paste(self, picture: Image.Image, x: int, y: int) -> None:
        """Draw a picture of which each pixel is one of ours.

        Parameters
        ----------
        picture
            RGB.
        x, y
            Its upper left corner in points.
        """
        self.picture.paste(picture, (self.scale * x, self.scale * y))

    def banner(self, notice: str) -> None:
        """Draw the model's notice and the research banner over the whole width, `BANNER` points high.

        Parameters
        ----------
        notice
            In at most two lines, the type smaller where it is long.
        """
        middle, width = self.size[0] // 2, self.size[0] - 2 * MARGIN
        self._draw.rectangle(self._pixels(0, 0, self.size[0], BANNER), fill=NOTICE_FILL)
        size = next((size for size in (28, 25, 22) if self.width(notice, size) <= width), 18)
        lines = self.wrapped(notice, size, width, 2)
        for row, line in enumerate(lines):
            self.text(middle, 32 if len(lines) == 1 else 20 + 23 * row, line, size, NOTICE_TEXT, "mm")
        self.text(middle, 70, "RESEARCH USE ONLY - NOT FOR DIAGNOSTIC USE - NOT VERIFIED", 22, NOTICE_TEXT, "mm")

    def _pixels(self, *points: int) -> tuple[int, ...]:
        return tuple(self.scale * each for each in points)
