"""How well series are told apart by what real scanners wrote.

``python -m tests.benchmarks.selection FILE.tsv [--json]`` reads a table of series descriptions with their true labels
and prints precision and recall per role, by description alone and with physics, the confusion by manufacturer and every
error. Rows whose description carries no information are counted apart: they may be declined, never wrong.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.contrast import Contrast
from pipeline.headers import Frame, Volume
from pipeline.select import Verdict, judge

READINGS = {"description_only": False, "with_physics": True}
ROLES = tuple(role.value for role in Contrast)
_HEAD = tuple(
    Frame(
        Path("slice"), 0, str(number), (0.0, 0.0, float(number)), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (1.0, 1.0), 256, 256
    )
    for number in range(160)
)
"""The table says nothing of geometry: every series gets a head's."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; None where a time is unknown."""

    description: str
    label: str
    manufacturer: str
    tr_ms: float | None
    te_ms: float | None
    ti_ms: float | None
    image_type: tuple[str, ...]
    informative: bool
    trap: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A row with what was made of it."""

    row: Row
    verdict: str
    evidence: tuple[str, ...]

    @property
    def wrong(self) -> bool:
        """A role that is not the label's, or a role that was missed."""
        return self.verdict != self.row.label and (self.verdict in ROLES or self.row.label in ROLES)


def read_rows(file: Path) -> list[Row]:
    """Return the lines of a table; quotation marks in it are characters like others."""
    with file.open(encoding="utf-8", newline="") as lines:
        return [_row(line) for line in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]


def _row(line: dict[str, str]) -> Row:
    return Row(
        description=line["string"],
        label=line["label"],
        manufacturer=line["manufacturer"],
        tr_ms=_time(line["tr_ms"]),
        te_ms=_time(line["te_ms"]),
        ti_ms=_time(line["ti_ms"]),
        image_type=tuple(term.upper() for term in (line["image_type"] or "").split("\\") if term),
        informative=line.get("quality") != "no-information",
        trap=line.get("trap") or "",
    )


def _time(text: str | None) -> float | None:
    return float(text) if text else None


def judge_rows(rows: Iterable[Row], *, physics: bool) -> list[Judged]:
    """Return every row with its verdict; without physics the headers say nothing but the description."""
    judged = []
    for row in rows:
        candidate = judge(as_volume(row, physics=physics))
        judged.append(Judged(row, candidate.verdict.value, candidate.evidence))
    return judged


def as_volume(row: Row, *, physics: bool) -> Volume:
    """Return a volume of a whole head with the headers that a row tells."""
    return Volume(
        study_uid="1",
        series_uid="1.1",
        series_number=1,
        description=row.description,
        protocol="",
        modality="MR",
        sop_class_uid="",
        manufacturer=row.manufacturer,
        image_type=row.image_type if physics else (),
        scanning_sequence=(),
        sequence_variant=(),
        scan_options=(),
        acquisition_type="",
        tr_ms=row.tr_ms if physics else None,
        te_ms=row.te_ms if physics else None,
        ti_ms=row.ti_ms if physics else None,
        flip_deg=None,
        b_value=None,
        contrast_agent=False,
        samples_per_pixel=1,
        frames=_HEAD,
    )


def rates(judged: Iterable[Judged]) -> dict[str, dict[str, float | None]]:
    """Return precision and recall of each role; None where nothing can be divided by."""
    hits, chosen, true = Counter[str](), Counter[str](), Counter[str]()
    for one in judged:
        chosen[one.verdict] += 1
        true[one.row.label] += 1
        hits[one.verdict] += one.verdict == one.row.label
    return {
        role: {
            "precision": hits[role] / chosen[role] if chosen[role] else None,
            "recall": hits[role] / true[role] if true[role] else None,
        }
        for role in ROLES
    }


def confusion(judged: Iterable[Judged]) -> dict[str, dict[str, dict[str, int]]]:
    """Return how often each verdict fell on each label, by manufacturer."""
    table: dict[str, dict[str, dict[str, int]]] = {}
    for one in judged:
        counts = table.setdefault(one.row.manufacturer or "unknown", {}).setdefault(one.row.label, {})
        counts[one.verdict] = counts.get(one.verdict, 0) + 1
    return table


def measure(rows: list[Row]) -> dict[str, Any]:
    """Return all figures as JSON types: the two readings by role, and beside them what explains them."""
    result: dict[str, Any] = {}
    details: dict[str, Any] = {}
    for name, physics in READINGS.items():
        judged = judge_rows(rows, physics=physics)
        counted = [one for one in judged if one.row.informative]
        mute = [one for one in judged if not one.row.informative]
        result[name] = rates(counted)
        details[name] = {
            "rows": len(counted),
            "ordinary": rates(one for one in counted if not one.row.trap),
            "traps": rates(one for one in counted if one.row.trap),
            "no_information": {
                "rows": len(mute),
                "wrong_role": sum(one.verdict in ROLES and one.wrong for one in mute),
                "declined": sum(one.verdict not in ROLES for one in mute),
            },
            "confusion": confusion(counted),
            "errors": [
                _error(one) for one in (*counted, *mute) if one.wrong and (one.row.informative or one.verdict in ROLES)
            ],
        }
    return result | {"details": details}


def _error(one: Judged) -> dict[str, Any]:
    row = one.row
    return {
        "string": row.description,
        "label": row.label,
        "verdict": one.verdict,
        "manufacturer": row.manufacturer,
        "tr_ms": row.tr_ms,
        "te_ms": row.te_ms,
        "ti_ms": row.ti_ms,
        "evidence": list(one.evidence),
    }


def _show(result: dict[str, Any]) -> None:
    for name in READINGS:
        details = result["details"][name]
        mute = details["no_information"]
        print(f"{name.replace('_', ' ')}: {details['rows']} rows; precision and recall")
        for part, figures in (("all", result[name]), ("ordinary", details["ordinary"]), ("traps", details["traps"])):
            print(f"  {part:9}" + "".join(f"  {role:5} {_pair(figures[role])}" for role in ROLES))
        print(f"  {mute['rows']} rows without information: {mute['declined']} declined, {mute['wrong_role']} wrong")
        for manufacturer, labels in sorted(details["confusion"].items()):
            _show_confusion(manufacturer, labels)
        print(f"  {len(details['errors'])} errors" + ":" * bool(details["errors"]))
        for error in details["errors"]:
            print("    {label} -> {verdict}: {string!r} ({manufacturer}; {tr_ms}, {te_ms}, {ti_ms} ms)".format(**error))
            print(f"      {'; '.join(error['evidence'])}")
        print()


def _show_confusion(manufacturer: str, labels: dict[str, dict[str, int]]) -> None:
    verdicts = [verdict.value for verdict in Verdict]
    print(f"  {manufacturer:10}" + "".join(f"{verdict:>10}" for verdict in verdicts))
    for label, counts in sorted(labels.items()):
        print(f"    {label:10}" + "".join(f"{counts.get(verdict, 0) or '.':>8}  " for verdict in verdicts))


def _pair(figures: dict[str, float | None]) -> str:
    return " ".join("   -  " if rate is None else f"{rate:6.4f}" for rate in (figures["precision"], figures["recall"]))


def main() -> None:
    """Measure one table and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="tab-separated table of series descriptions with labels")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    result = measure(read_rows(options.file))
    if options.json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        _show(result)


if __name__ == "__main__":
    main()
