"""One self-contained HTML page about an evaluation."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from models.training.evaluation.figures import BASES, MEASURES, cautions, counts_text, estimate_text

_STYLE = """
body { font-family: sans-serif; line-height: 1.45; max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem; }
.notice { border: 3px solid #b00020; padding: 0.6rem 1rem; font-weight: bold; }
.caution { border-left: 4px solid #b00020; padding-left: 0.8rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border: 1px solid #999; padding: 0.3rem 0.6rem; text-align: left; vertical-align: top; }
img { max-width: 100%; width: 34rem; display: block; margin: 1rem 0; }
"""


def evaluation_page(evaluation: Mapping[str, Any], plots: Mapping[str, bytes]) -> str:
    """Return the page; it loads nothing from elsewhere and runs no script.

    Parameters
    ----------
    evaluation
        Content of ``evaluation.json``.
    plots
        PNG by what it shows.
    """
    title = f"Evaluation of {evaluation['bundle']} {evaluation['version']}"
    parts = [
        f"<p class='notice'>{escape(evaluation['notice'])}</p>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(evaluation['intended_use'])}</p>",
        *(f"<p class='caution'>{escape(caution)}</p>" for caution in cautions(evaluation)),
        "<h2>Who was tested</h2>",
        *(f"<p>{escape(sentence)}</p>" for sentence in _tested(evaluation)),
        "<h2>Performance</h2>",
        _performance(evaluation),
        *(f"<p>{escape(sentence)}</p>" for sentence in _reading(evaluation)),
        "<h2>Plots</h2>",
        *(_image(name, content) for name, content in plots.items()),
        "<h2>Provenance</h2>",
        _table(["", ""], _provenance(evaluation)),
    ]
    head = f"<meta charset='utf-8'><title>{escape(title)}</title><style>{_STYLE}</style>"
    return f"<!DOCTYPE html>\n<html lang='en'><head>{head}</head><body>\n" + "\n".join(parts) + "\n</body></html>\n"


def _tested(evaluation: Mapping[str, Any]) -> Iterable[str]:
    yield f"{counts_text(evaluation['ensemble'])} (label 1: seizures not controlled at one year of medication)."
    yield BASES[evaluation["basis"]]
    if evaluation["left_out"]:
        yield f"{evaluation['left_out']} cases were left out because their patient or group took part in training."


def _performance(evaluation: Mapping[str, Any]) -> str:
    columns = {"Ensemble": evaluation["ensemble"]}
    if evaluation["calibrated"] is not None:
        columns["Ensemble, calibrated"] = evaluation["calibrated"]
    columns |= evaluation["sequences"] | evaluation["two_sequences"]
    rows = [[label, *(estimate_text(summary[key]) for summary in columns.values())] for key, label in MEASURES.items()]
    rows.insert(0, ["Threshold", *(f"{summary['threshold']:.4g}" for summary in columns.values())])
    rows.append(["Intervals of the AUC", *(summary["auc"]["method"] for summary in columns.values())])
    return _table(["Measure (95 % interval)", *columns], rows)


def _reading(evaluation: Mapping[str, Any]) -> Iterable[str]:
    weights = ", ".join(f"{sequence} {weight:g}" for sequence, weight in evaluation["weights"].items())
    chosen = (evaluation["weights_chosen_on"] or "not stated").replace("_", " ")
    yield f"Weights of the ensemble: {weights}; chosen on: {chosen}."
    yield (
        f"With equal weights the AUC is {estimate_text(evaluation['equal_weights_auc'])}; the bundle's weights change "
        f"it by {estimate_text(evaluation['gain_over_equal_weights'])}, patients resampled in pairs."
    )
    yield "The threshold was fixed beforehand and is that of the ensemble; single sequences are shown at the same one."
    yield (
        "Figures are over studies, intervals over patients. A predictive value, a Brier score and a calibration hold "
        "for the share of events in this cohort only."
    )


def _provenance(evaluation: Mapping[str, Any]) -> list[list[str]]:
    return [
        ["Bundle (SHA-256)", evaluation["digest"]],
        ["Cohort (SHA-256)", evaluation["cohort_digest"]],
        ["Resamples, seed", f"{evaluation['resamples']}, {evaluation['seed']}"],
        *([name, version] for name, version in evaluation["software"].items()),
    ]


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>\n{body}</table>"


def _image(name: str, content: bytes) -> str:
    data = base64.b64encode(content).decode("ascii")
    return f"<img alt='{escape(name)}' src='data:image/png;base64,{data}'>"
