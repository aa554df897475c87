"""Why a study gets no score.

`StudyHeld` is the only error of this package that a user sees: a code that stays the same over releases, and a sentence
that a radiographer understands. It is never retried by itself: the same input gives the same answer.
"""

from __future__ import annotations


class StudyHeld(Exception):
    """A study that cannot be scored as it is.

    Attributes
    ----------
    code
        Stable name of the reason, for example ``missing_role`` or ``geometry_gap``.
    sentence
        What is wrong and what to do, without patient data.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(code, sentence)
        self.code = code
        self.sentence = sentence

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}"
