"""What sites may write as a pattern, and that none takes for ever."""

from __future__ import annotations

import re
import time

import pytest

from models.site_patterns import PatternError, compile_pattern, search

LONG = "a" * 64 + "!"


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*$",
        "(a|aa)+$",
        "(a*)*b",
        "^(([a-z])+.)+[A-Z]([a-z])+$",
        r"(\w+\s?)+$",
        "(.*a){20}$",
        "(a?){64}b",
    ],
)
def test_no_pattern_takes_longer_than_the_text_is_long(pattern: str):
    start_s = time.monotonic()
    search(pattern, LONG)
    search(pattern, "a a" * 21 + "ö")
    assert time.monotonic() - start_s < 1


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^sag bravo", "SAG Bravo +C"),
        ("t1_km$", "ax T1_KM"),
        (r"t1\w*km$", "T1größeKM"),
        (r"^\w+$", "größe"),
        (r"^[\w ]+$", "т1 сагитт"),
        (r"\d{2}", "серия ٣٤"),
        ("größe", "GRÖSSE GRÖßE"),
        ("Т1", "т1 саг"),
        ("造影後", "T1造影後"),
        (r"[]x]\s", "a] b"),
        (r"[^]\d]km", "7]_km"),
        (r"\[se\]", "t1[SE]"),
        (r"\bkm\b", "t1 km sag"),
        (r"sag\Z", "t1 sag"),
        (r"t1.{0,3}(tse|se)", "t1_a_SE"),
        (r"(?:t1|t2)[-_ ]?w", "T2-W"),
        ("t1" + "[a-z]" * 39, "t1" + "x" * 60),
    ],
)
def test_patterns_that_sites_write_match_as_in_python(pattern: str, text: str):
    expected = re.search(pattern, text, re.IGNORECASE)
    assert expected is not None
    assert search(pattern, text) == expected.group(0)


@pytest.mark.parametrize(("pattern", "text"), [("^bravo", "sag bravo"), (r"^\W+$", "größe"), (r"\S", " \u2003")])
def test_what_python_does_not_match_is_not_matched(pattern: str, text: str):
    assert re.search(pattern, text, re.IGNORECASE) is None
    assert search(pattern, text) is None


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("t1(?!_km)", "look-around"),
        ("(?<=sag)t1", "look-around"),
        (r"(t1)_\1", "linear time"),
        ("t1++", "linear time"),
        ("(t1", "regular expression"),
        ("t1{5000}", "linear time"),
        ("a" * 201, "200 characters"),
        (r"\bгол\b", "ASCII letters only"),
    ],
)
def test_what_cannot_run_in_linear_time_is_refused_with_a_sentence(pattern: str, sentence: str):
    with pytest.raises(PatternError, match=sentence):
        compile_pattern(pattern)


def test_text_that_is_none_is_searched_all_the_same():
    assert search("t1", "\udcff T1") == "T1"
