"""One self-contained HTML page about an evaluation; its template is ``page.html``."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from models.outcome import UNCONTROLLED
from models.training.evaluation.cautions import cautions
from models.training.evaluation.evaluated import Evaluation
from models.training.evaluation.figures import (
    BASES,
    counts_text,
    estimate_text,
    looks_text,
    measure_rows,
    repeatability_rows,
    subgroup_rows,
)

_TEMPLATES: Final = Environment(
    loader=PackageLoader("models.training.evaluation", "."), autoescape=True, undefined=StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip


def evaluation_page(evaluation: Evaluation, plots: Mapping[str, bytes]) -> str:
    """Return the page; it loads nothing from elsewhere and runs no script.

    Parameters
    ----------
    evaluation
        Of a bundle on labelled studies.
    plots
        PNG by what it shows.

    Returns
    -------
    str
        HTML; every text of bundle and cohort is escaped.
    """
    summaries = evaluation.summaries(calibrated="Ensemble, calibrated")
    return _TEMPLATES.get_template("page.html").render(
        evaluation=evaluation,
        cautions=cautions(evaluation),
        counts=counts_text(evaluation.ensemble),
        basis=BASES[evaluation.basis],
        summaries=summaries,
        looks=looks_text(evaluation.looks),
        subgroups=subgroup_rows(evaluation),
        measures=measure_rows(summaries.values()),
        estimate=estimate_text,
        outcome=UNCONTROLLED,
        repeatability=repeatability_rows(evaluation.repeatability) if evaluation.repeatability else [],
        plots={name: base64.b64encode(content).decode("ascii") for name, content in plots.items()},
    )
