"""Text, bars and colours of the pictures: one look for the summary page and the overlay."""

from __future__ import annotations

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
MARGIN: Final = 48
BANNER: Final = 92
"""Margin at the sides and height of the banner, in pixels; so are all places and sizes on pictures."""


class Pen:
    """Draws ASCII text and bars on one picture.

    Parameters
    ----------
    picture
        RGB; drawn on in place.
    """

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture
        self.draw = ImageDraw.Draw(picture)

    def text(self, x: int, y: int, words: str, size: int, color: Color = TEXT, anchor: str = "la") -> None:
        """Draw one line; `size` is the height of the type in pixels.

        Parameters
        ----------
        x, y
            Place of the anchor in pixels.
        words
            What is not ASCII becomes ``?``.
        size
            Height of the type in pixels.
        color
            RGB, 0 to 255.
        anchor
            Pillow's: which point of the line lies at `x`, `y`.
        """
        self.draw.text((x, y), ascii_text(words), fill=color, font=ImageFont.load_default(size=size), anchor=anchor)

    def fitted(
        self, x: int, y: int, words: str, size: int, width: int, color: Color = TEXT, anchor: str = "la"
    ) -> None:
        """Draw one line that ends in an ellipsis where it would be wider than `width`.

        Parameters
        ----------
        x, y, words, size, color, anchor
            As for `text`.
        width
            Most pixels.
        """
        shown = ascii_text(words)
        if self.width(shown, size) > width:
            while shown and self.width(f"{shown}...", size) > width:
                shown = shown[:-1]
            shown = f"{shown.rstrip()}..."
        self.text(x, y, shown, size, color, anchor)

    def width(self, words: str, size: int) -> float:
        """Return the width of a line in pixels.

        Parameters
        ----------
        words
            ASCII.
        size
            Height of the type in pixels.
        """
        return float(ImageFont.load_default(size=size).getlength(words))

    def wrapped(self, words: str, size: int, width: int, most: int) -> list[str]:
        """Split into at most `most` lines of `width` pixels; an ellipsis says that there was more.

        Parameters
        ----------
        words
            What is not ASCII becomes ``?``.
        size
            Height of the type in pixels.
        width
            Most pixels of a line; a longer word stands alone.
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
            Left, top, right and bottom in pixels.
        share
            Beyond 0 and 1 it is cut off.
        color
            RGB of the filled part, 0 to 255.
        """
        left, top, right, bottom = box
        radius = (bottom - top) // 2
        self.draw.rounded_rectangle(box, radius, fill=TRACK)
        filled = left + round((right - left) * min(max(share, 0.0), 1.0))
        if filled - left >= 2 * radius:
            self.draw.rounded_rectangle((left, top, filled, bottom), radius, fill=color)
        elif filled > left:
            self.draw.ellipse((left, top, left + 2 * radius, bottom), fill=color)

    def rule(self, y: int) -> None:
        """Draw a line from margin to margin.

        Parameters
        ----------
        y
            Row in pixels.
        """
        self.draw.line((MARGIN, y, self.picture.width - MARGIN, y), fill=TRACK, width=2)

    def banner(self, notice: str) -> None:
        """Draw the model's notice and the research banner over the whole width, `BANNER` pixels high.

        Parameters
        ----------
        notice
            In at most two lines, the type smaller where it is long.
        """
        middle, width = self.picture.width // 2, self.picture.width - 2 * MARGIN
        self.draw.rectangle((0, 0, self.picture.width, BANNER), fill=NOTICE_FILL)
        size = next((size for size in (28, 25, 22) if self.width(notice, size) <= width), 18)
        lines = self.wrapped(notice, size, width, 2)
        for row, line in enumerate(lines):
            self.text(middle, 32 if len(lines) == 1 else 20 + 23 * row, line, size, NOTICE_TEXT, "mm")
        self.text(middle, 70, "RESEARCH USE ONLY - NOT FOR DIAGNOSTIC USE - NOT VERIFIED", 22, NOTICE_TEXT, "mm")
