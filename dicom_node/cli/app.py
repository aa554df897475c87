"""``dicom-node``: the verbs put together; each reads its arguments, calls one function and prints what it returned."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from dicom_node.cli import keep, model, node, research, study, watching
from dicom_node.cli.printing import print_line, print_lines, print_problem, show_what_cannot_be_encoded
from dicom_node.errors import CommandError, NodeError, disk_refusal

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(model.app, name="models")
app.add_typer(research.cohort_app, name="cohort")

_INTERRUPTED = 130
"""Exit status of a program that Ctrl-C ended, as shells have it."""


def _print_version(asked: bool) -> None:
    if asked:
        print_line(f"dicom-node {version('dicom-node')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option(help="Show tracebacks of errors.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Brain MR of tuberous sclerosis complex in, a structured report with the AED-refractory score out."""
    context.obj = debug


_VERBS: dict[str, Callable[..., None]] = {
    "init": node.init,
    "check": node.check_,
    "status": watching.status,
    "alarms": watching.alarms,
    "watch": watching.watch,
    "callers": node.callers,
    "serve": node.serve,
    "receive": node.receive,
    "work": node.work,
    "web": node.web,
    "user": node.user,
    "run": study.run,
    "explain": study.explain_,
    "air-sample": study.air_sample,
    "demo": node.demo,
    "studies": study.studies,
    "show": study.show,
    "retry": study.retry,
    "release": study.release_,
    "reindex": keep.reindex,
    "purge": keep.purge,
    "backup": keep.backup,
    "restore": keep.restore,
    "echo": node.echo,
    "synthesize": research.synthesize,
    "train": research.train,
    "evaluate": research.evaluate,
}
for _name, _verb in _VERBS.items():
    app.command(_name)(_verb)
for _command in (*app.registered_commands, *model.app.registered_commands, *research.cohort_app.registered_commands):
    _command.short_help = inspect.getdoc(_command.callback)  # Else the list of verbs is cut at the width.


def main() -> None:
    """Run a verb; errors are one sentence with a code on stderr."""
    show_what_cannot_be_encoded()
    try:
        sys.exit(app(prog_name="dicom-node", standalone_mode=False))
    except NodeError as error:
        _refuse(error)
    except typer.TyperException as error:
        _refuse_command(error)
    except typer.Abort:
        sys.exit(_INTERRUPTED)
    except OSError as error:
        _refuse(disk_refusal(error))
    except Exception as error:
        _refuse(
            NodeError(f"A fault in the node ({type(error).__name__}): report what --debug shows.", "internal_error")
        )


def _refuse_command(error: typer.TyperException) -> None:
    """Refuse what the command line does not understand; who only names the program, or a group, is shown its verbs."""
    context = getattr(error, "ctx", None)
    if context and error.message == context.get_help():
        print_lines(error.message.splitlines())
        sys.exit(CommandError.exit_code)
    words = error.format_message().replace("Value error, ", "").rstrip(".")
    where = f"`{context.command_path} --help`" if context else "`dicom-node --help`"
    _refuse(CommandError(f"{words}: see {where}."))


def _refuse(error: NodeError) -> None:
    if "--debug" in sys.argv:
        for line in traceback.format_exc().splitlines():
            print_problem(line)
    print_problem(f"{error.code}: {error}")
    sys.exit(error.exit_code)
