"""``dicom-node``: the verbs put together; each reads its arguments, calls one function and prints what it returned."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Annotated

import typer

from dicom_node.cli import model, node, research, study
from dicom_node.errors import NodeError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(model.app, name="models")
app.add_typer(research.cohort_app, name="cohort")


@app.callback()
def _options(
    context: typer.Context, debug: Annotated[bool, typer.Option(help="Show tracebacks of errors.")] = False
) -> None:
    """Brain MR of tuberous sclerosis complex in, a structured report with the AED-refractory score out."""
    context.obj = debug


_VERBS: dict[str, Callable[..., None]] = {
    "init": node.init,
    "check": node.check_,
    "serve": node.serve,
    "receive": node.receive,
    "work": node.work,
    "run": study.run,
    "explain": study.explain_,
    "demo": node.demo,
    "studies": study.studies,
    "show": study.show,
    "retry": study.retry,
    "release": study.release_,
    "echo": node.echo,
    "synthesize": research.synthesize,
    "train": research.train,
    "evaluate": research.evaluate,
}
for _name, _verb in _VERBS.items():
    app.command(_name)(_verb)


def main() -> None:
    """Run a verb; errors are one sentence with a code on stderr."""
    try:
        app()
    except NodeError as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        print(f"{error.code}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
