"""The verbs of ``dicom-node``, thin: each reads its arguments, calls one function and prints what it returned."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dicom_node import log
from dicom_node.config import Config, example_toml, load
from dicom_node.errors import ConfigError, NodeError
from dicom_node.spool import Spool, Study

HELD = 3
_CONFIGS = (Path("node.toml"), Path("/etc/dicom-node/node.toml"))

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; default node.toml, then /etc/dicom-node/node.toml.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
FolderArgument = Annotated[Path, typer.Argument(help="Folder with the DICOM files of one study.")]
StudyArgument = Annotated[str, typer.Argument(metavar="UID", help="Study Instance UID.")]


@app.callback()
def _options(
    context: typer.Context, debug: Annotated[bool, typer.Option(help="Show tracebacks of errors.")] = False
) -> None:
    """Brain MR of tuberous sclerosis complex in, a structured report with the AED-refractory score out."""
    context.obj = debug


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path("node.toml"),
    force: Annotated[bool, typer.Option(help="Replace the file if it is there.")] = False,
) -> None:
    """Write a commented configuration."""
    if file.exists() and not force:
        raise ConfigError(f"{file} is there already: name another file, or pass --force.", "config_exists")
    file.write_text(example_toml(), "utf-8")
    print(f"Wrote {file}. Set the AE titles, then run `dicom-node check`.")


@app.command("check")
def check_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check configuration, disk, database, models, device and every peer."""
    from dicom_node.check import check

    _quiet()
    verdicts = check(_config(config))
    good = all(verdict.good for verdict in verdicts)
    if as_json:
        rows = [{"what": v.what, "good": v.good, "sentence": v.sentence} for v in verdicts]
        _print_json({"good": good, "checks": rows})
    else:
        _print_table(("", "check", "verdict"), [("ok" if v.good else "FAIL", v.what, v.sentence) for v in verdicts])
    raise typer.Exit(0 if good else 1)


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Run receiver and worker on this machine, supervised."""
    from dicom_node import processes

    with _service(config) as (settings, file), processes.until_signal() as stop:
        processes.serve(settings, file, stop)


@app.command()
def receive(config: ConfigOption = None) -> None:
    """Run the receiver alone."""
    from dicom_node import processes

    with _service(config) as (settings, _), processes.until_signal() as stop:
        processes.receive(settings, stop)


@app.command()
def work(
    config: ConfigOption = None,
    executor: Annotated[
        str | None, typer.Option(help="Name of this worker, stable over restarts; default host and device.")
    ] = None,
) -> None:
    """Run one worker alone."""
    from dicom_node import processes

    with _service(config) as (settings, _), processes.until_signal() as stop:
        processes.work(settings, stop, executor)


@app.command()
def run(
    folder: FolderArgument,
    out: Annotated[Path, typer.Option(help="Folder for report.dcm, summary.dcm and result.json.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score one study from files, without a network; exit 3 if it is held."""
    _quiet()
    files = _files(folder)
    settings = _config(config, offline=True)
    with _progress() as tell:
        tell("loading the models")
        from dicom_node.worker import open_models
        from pipeline.study import run_study

        def step(name: str, function: Any) -> Any:
            tell(name)
            return function()

        models = open_models(settings)
        result = run_study(files, out, models, title=settings.report.title, step=step)
    if as_json:
        _print_json(result)
    else:
        _print_result(result, out)
    raise typer.Exit(HELD if result["state"] == "held" else 0)


@app.command("explain")
def explain_(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Show which series would play which role, and why; exit 3 if the study would be held."""
    from pipeline.explain import explain
    from pipeline.select import select_study

    _quiet()
    table = explain(select_study(_files(folder)))
    if as_json:
        _print_json(table)
    else:
        _print_explained(table)
    raise typer.Exit(HELD if table["state"] == "held" else 0)


@app.command()
def demo(
    keep: Annotated[Path | None, typer.Option(help="Keep study, node data and log in this folder.")] = None,
) -> None:
    """Send a synthetic study through a node on loopback and print the report that comes back."""
    from dicom_node.demo import run_demo

    _quiet()
    with tempfile.TemporaryDirectory(prefix="dicom-node-demo-") as temporary, _progress() as tell:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = run_demo(folder, tell)
    print(report)


@app.command()
def studies(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the received studies with their states."""
    rows = [_study_row(study) for study in Spool(_config(config).node.data_dir).studies()]
    if as_json:
        _print_json(rows)
    else:
        keys = ("study_uid", "state", "code", "instances", "changed")
        _print_table(keys, [tuple(str(row[key]) for key in keys) for row in rows])


@app.command()
def show(uid: StudyArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the timeline of a study."""
    study = Spool(_config(config).node.data_dir).study(uid)
    timeline = study.timeline()
    if as_json:
        _print_json({**_study_row(study), "timeline": timeline})
        return
    rows = []
    for entry in timeline:
        facts = {key: value for key, value in entry.items() if key not in ("time", "event")}
        rows.append((entry["time"], entry["event"], ", ".join(f"{key} {value}" for key, value in facts.items())))
    _print_table(("time", "event", "facts"), rows)


@app.command()
def retry(uid: StudyArgument, config: ConfigOption = None) -> None:
    """Queue a study again: read it anew, or, if it has a report, send the stored one."""
    from dicom_node import workflow

    settings = _config(config)
    study = Spool(settings.node.data_dir).study(uid)
    workflow.migrate(settings)
    engine = workflow.Engine(settings)
    attempt = engine.retry(study)
    engine.close()
    print(f"Queued as attempt {attempt}.")


@app.command()
def echo(peer: Annotated[str, typer.Argument(help="Name of a peer.")], config: ConfigOption = None) -> None:
    """Send a C-ECHO to a peer."""
    from dicom_node import scu

    _quiet()
    settings = _config(config)
    seconds = scu.echo(settings, settings.peer(peer))
    print(f"{peer} answered in {1000 * seconds:.0f} ms.")


def main() -> None:
    """Run a verb; errors are one sentence with a code on stderr."""
    try:
        app()
    except NodeError as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        print(f"{error.code}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


# --- configuration and logging ----------------------------------------------------------------------------------------


def _config(file: Path | None, *, offline: bool = False) -> Config:
    found = _config_file(file)
    return Config.offline() if offline and not (file or found.exists()) else load(found)


def _config_file(file: Path | None) -> Path:
    """Return the file that was named, else the first default that is there, else the first default."""
    return file or next((candidate for candidate in _CONFIGS if candidate.exists()), _CONFIGS[0])


@contextmanager
def _service(file: Path | None) -> Iterator[tuple[Config, Path]]:
    """Yield configuration and file of a long-running verb, whose stderr is JSON lines from here on."""
    config = _config(file)
    Spool(config.node.data_dir)
    log.configure(key=log.read_key(config.node.data_dir))
    try:
        yield config, _config_file(file).resolve()
    except NodeError as error:
        log.say(logging.getLogger(__name__), "stopped", level=logging.ERROR, code=error.code, sentence=str(error))
        sys.exit(error.exit_code)


def _quiet() -> None:
    """Keep library warnings, which may quote headers, off the terminal."""
    log.configure(level=logging.CRITICAL)
    logging.disable(logging.ERROR)


# --- files and printing -----------------------------------------------------------------------------------------------


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise NodeError(f"{folder} is not a folder: name the folder with the study's files.", "folder_missing")
    files = [path for path in folder.rglob("*") if path.is_file()]
    if not files:
        raise NodeError(f"{folder} holds no files: name the folder with the study's files.", "folder_empty")
    return files


@contextmanager
def _progress() -> Iterator[Any]:
    """Yield a function that says what is going on, on a terminal; in a pipe it says nothing."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("starting") as status:
        yield lambda text: status.update(f"{text} ...")


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    table = Table(box=None, pad_edge=False)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False)


def _print_result(result: dict[str, Any], out: Path) -> None:
    print(result["notice"])
    if result["state"] == "held":
        print(f"Held, no score. {result['reason']}: {result['sentence']}")
    else:
        print(f"Score {result['score']:.4f} (threshold {result['threshold']}, {result['category'].replace('_', ' ')})")
        rows = []
        for role, series in result["roles"].items():
            volume = f"{result['brain'][role]['volume_ml']:.0f}"
            numbers = (f"{result['scores'][role]:.4f}", f"{result['weights'][role]:.2f}", volume)
            rows.append((role, str(series["series_number"]), series["description"], *numbers))
        _print_table(("role", "series", "description", "score", "weight", "brain ml"), rows)
    for ignored in result["ignored_files"]:
        print(f"Not used: {ignored['file']} ({ignored['code']}): {ignored['sentence']}")
    print(f"Written to {out}")


def _print_explained(table: dict[str, Any]) -> None:
    rows = []
    for series in table["series"]:
        scores = (f"{score:.1f}" for score in series["scores"].values())
        identity = (str(series["series_number"]), series["description"], str(series["volumes"]))
        rows.append((*identity, series["verdict"], *scores, "; ".join(series["evidence"])))
    _print_table(("series", "description", "volumes", "verdict", "T1W", "T2W", "FLAIR", "evidence"), rows)
    for ignored in table["ignored_files"]:
        print(f"Not used: {ignored['file']} ({ignored['code']}): {ignored['sentence']}")
    if table["state"] == "held":
        print(f"Held: {table['reason']}: {table['sentence']}")
    else:
        chosen = (f"{role} = series {series['series_number']}" for role, series in table["roles"].items())
        print(f"Ready: {', '.join(chosen)}")


def _study_row(study: Study) -> dict[str, Any]:
    timeline = study.timeline()
    state = study.state()
    last: dict[str, Any] = next((entry for entry in reversed(timeline) if entry.get("state") == state), {})
    return {
        "study_uid": study.uid,
        "state": state,
        "code": last.get("code", ""),
        "sentence": last.get("sentence", ""),
        "instances": len(study.instances()),
        "changed": last.get("time", ""),
    }


if __name__ == "__main__":
    main()
