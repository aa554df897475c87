"""The tables of the synthetic experiment, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from models.contrast import Contrast

SCORES = (*tuple(Contrast), "ensemble")


def tables(found: Mapping[str, Any]) -> str:
    """Return all tables.

    Parameters
    ----------
    found
        Content of ``results.json``.
    """
    parts = [
        ("Runs, on patients and anatomies never seen", _runs(found["runs"])),
        ("Out of fold", _folds(found["runs"][0])),
        ("By difficulty", _difficulty(found["runs"][0], found["brightness"])),
        ("Controls", [found["permutations"]["sentence"] + "."]),
        *((f"Repeatability, {name}", _repeatability(one)) for name, one in found["repeatability"].items()),
        ("Real heads on grids half a voxel apart", _resliced(found["resliced"])),
        ("Coverage of intervals of 95 %", _coverage(found["coverage"])),
        ("Cost", [f"{found['seconds_a_study']:.1f} s of one core for the scores of a study, without masks."]),
        ("Bars", [f"- {'met' if met else 'MISSED'}: {bar}" for bar, met in found["verdicts"].items()]),
    ]
    return "\n".join(line for title, lines in parts for line in (f"## {title}", "", *lines, ""))


def _runs(runs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield from _head("run", "AUC (95 %)", "T1W", "T2W", "FLAIR", "weights", "patients", "anatomies", "looks")
    for run in runs:
        weights = ", ".join(f"{name} {weight:g}" for name, weight in run["weights"].items())
        single = [f"{run['sequences'][c]['value']:.3f}" for c in Contrast]
        yield _row(
            run["run"], _interval(run["auc"], run["auc_interval"]), *single, weights, run["test_patients"],
            run["groups"], run["looks"] or "none: labels exchanged",
        )  # fmt: skip


def _folds(run: Mapping[str, Any]) -> Iterator[str]:
    validated = run["cross_validation"]
    count = len(validated["auc_by_fold"]["ensemble"])
    yield from _head("", *(f"fold {number}" for number in range(count)), "within folds (95 %)", "test")
    for name, areas in validated["auc_by_fold"].items():
        ensemble = name == "ensemble"
        within = _interval(validated["ensemble_auc"], validated["ensemble_auc_interval"]) if ensemble else ""
        test = run["auc"] if ensemble else run["sequences"][name]["value"]
        yield _row(name, *(f"{area:.3f}" for area in areas), within, f"{test:.3f}")


def _difficulty(run: Mapping[str, Any], brightness: Mapping[str, Any]) -> Iterator[str]:
    yield from _head(
        "difficulty", "out of fold", "test (95 %)", "test patients", *(f"bright voxels, {c}" for c in Contrast)
    )
    for name, bright in brightness.items():
        tested = run["subgroups"].get(name)
        within = run["cross_validation"]["subgroup_auc"].get(name)
        shares = ["" if bright[c] is None else f"{bright[c]:.3f}" for c in Contrast]
        yield _row(name, "" if within is None else f"{within:.3f}", *_tested(tested), *shares)


def _tested(found: Mapping[str, Any] | None) -> tuple[str, str]:
    if found is None:
        return "", ""
    area = found["auc"]
    return _interval(area["value"], (area["low"], area["high"])), f"{found['studies']}"


def _repeatability(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _head("SD / largest difference", *SCORES)
    for name, by_score in found["table"].items():
        yield _row(name, *(f"{by_score[s]['sd']:.4f} / {by_score[s]['largest']:.4f}" for s in SCORES))
    place = found["table"]["place"]["ensemble"]
    yield ""
    figures = f"mean SD {place['mean_sd']:.4f}, worst head {place['worst_sd']:.4f}"
    yield f"Grid and mask alone: {figures}, {found['heads']} heads."


def _resliced(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _head("SD / largest difference", "head", *SCORES)
    for bundle, by_head in found.items():
        for head, by_score in by_head.items():
            cells = [f"{by_score[s]['sd']:.4f} / {by_score[s]['largest']:.4f}" for s in SCORES]
            yield _row(bundle, head, *cells)


def _coverage(found: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    yield from _head("design", *next(iter(found.values())))
    for design, by_figure in found.items():
        yield _row(design, *(f"{share:.1%}" for share in by_figure.values()))


def _interval(value: float | None, bounds: Iterable[float | None] | None) -> str:
    low, high = bounds or (None, None)
    if value is None:
        return "not determined"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def _head(*names: str) -> Iterator[str]:
    yield _row(*names)
    yield _row(*["---"] * len(names))


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
