"""Series x role scores with reasons: which series is T1W, which T2W, which FLAIR, or why not.

Every volume of a study is judged by its headers alone (`judge`), then the best for each role is chosen by stated rules
(`select_roles`). Where evidence contradicts itself, or two volumes fit one role equally well, nobody guesses: the study
is held for a human choice.
"""

from pipeline.select.choose import select_roles
from pipeline.select.clues import Clue, ClueKind, Unsuited
from pipeline.select.judge import Candidate, Verdict, judge
from pipeline.select.naming import durable_choice, is_choice
from pipeline.select.one_patient import IdentityStatement, TwoPatients
from pipeline.select.rules import BUILT_IN, SiteRules
from pipeline.select.selection import SelectedSeries, Selection, input_digest, select_study
from pipeline.select.whole import contrasts_whole

__all__ = [
    "BUILT_IN",
    "Candidate",
    "Clue",
    "ClueKind",
    "IdentityStatement",
    "SelectedSeries",
    "Selection",
    "SiteRules",
    "TwoPatients",
    "Unsuited",
    "Verdict",
    "contrasts_whole",
    "durable_choice",
    "input_digest",
    "is_choice",
    "judge",
    "select_roles",
    "select_study",
]
