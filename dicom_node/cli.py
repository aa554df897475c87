"""The verbs of ``dicom-node``, thin: each reads its arguments, calls one function and prints what it returned."""

from __future__ import annotations

import logging
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dicom_node import explained, log, model_verbs, research_verbs
from dicom_node.errors import CommandError, ConfigError, NodeError
from dicom_node.spool import Spool, Study
from dicom_node.terminal import print_json, print_lines, print_table, progress

if TYPE_CHECKING:
    from dicom_node.config import Config
    from dicom_node.workflow import Engine
    from pipeline.select import SiteRules

HELD = 3
_CONFIGS = (Path("node.toml"), Path("/etc/dicom-node/node.toml"))

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(model_verbs.app, name="models")
app.add_typer(research_verbs.cohort_app, name="cohort")

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
    from dicom_node.config import example_toml

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
        print_json({"good": good, "checks": rows})
    else:
        print_table(("", "check", "verdict"), [("ok" if v.good else "FAIL", v.what, v.sentence) for v in verdicts])
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
    with progress() as tell:
        tell("loading the models")
        from dicom_node.worker import open_models
        from pipeline.study import run_study

        def step(name: str, function: Any) -> Any:
            tell(name)
            return function()

        models = open_models(settings)
        rules = settings.selection.rules()
        title, saliency = settings.report.title, "saliency" in settings.report.send
        result = run_study(files, out, models, rules=rules, title=title, saliency=saliency, step=step)
    if as_json:
        print_json(result)
    else:
        print_lines(explained.scored(result, out, explained.width()))
    raise typer.Exit(HELD if result["state"] == "held" else 0)


@app.command("explain")
def explain_(
    folder: Annotated[Path | None, typer.Argument(help="Folder with the DICOM files of one study.")] = None,
    replay: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Judge the last N studies of the node again instead.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which series would play which role, and why; exit 3 if the study is held, or a replayed one changed."""
    if (folder is None) == (replay is None):
        raise CommandError("Name a folder, or give --replay N: one of the two.")
    _quiet()
    if folder:
        raise typer.Exit(_explain(folder, _rules(config), as_json=as_json))
    raise typer.Exit(_replay(replay or 1, _config(config), as_json=as_json))


def _explain(folder: Path, rules: SiteRules, *, as_json: bool) -> int:
    from pipeline.explain import explain
    from pipeline.select import select_study

    table = explain(select_study(_files(folder), rules))
    if as_json:
        print_json(table)
    else:
        print_lines(explained.explained(table, explained.width()))
    return HELD if table["state"] == "held" else 0


def _replay(last: int, settings: Config, *, as_json: bool) -> int:
    from dicom_node.replay import replay, summary

    rows = []
    with progress() as tell:
        for row in replay(Spool(settings.node.data_dir), settings.selection.rules(), last):
            rows.append(row)
            tell(f"{len(rows)} of at most {last} studies judged again")
    counts = summary(rows)
    if as_json:
        print_json({"studies": rows, "summary": counts})
    else:
        for row in rows:
            print_lines(explained.replayed(row, explained.width()))
        print(", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in counts.items()))
    return HELD if counts["changed"] else 0


@app.command()
def demo(
    keep: Annotated[Path | None, typer.Option(help="Keep study, node data and log in this folder.")] = None,
) -> None:
    """Send a synthetic study through a node on loopback and print the report that comes back."""
    from dicom_node.demo import run_demo

    _quiet()
    with tempfile.TemporaryDirectory(prefix="dicom-node-demo-") as temporary, progress() as tell:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = run_demo(folder, tell)
    print(report)


@app.command()
def studies(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the received studies with their states."""
    rows = [_study_row(study) for study in Spool(_config(config).node.data_dir).studies()]
    if as_json:
        print_json(rows)
    else:
        keys = ("study_uid", "state", "code", "instances", "changed")
        print_table(keys, [tuple(str(row[key]) for key in keys) for row in rows])


@app.command()
def show(uid: StudyArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the timeline of a study, and which series play which role, or why it is held."""
    from dicom_node.inputs import last_table

    study = Spool(_config(config).node.data_dir).study(uid)
    timeline, selection, row = study.timeline(), last_table(study), _study_row(study)
    if as_json:
        print_json({**row, "timeline": timeline, "selection": selection, "choices": study.choices()})
        return
    rows = []
    for entry in timeline:
        facts = {key: value for key, value in entry.items() if key not in ("time", "event")}
        rows.append((entry["time"], entry["event"], ", ".join(f"{key} {value}" for key, value in facts.items())))
    print_table(("time", "event", "facts"), rows)
    if selection:
        print_lines(explained.shown(selection, explained.width()))
    if row["code"]:
        print(f"{row['state']}: {row['code']}: {row['sentence']}")


@app.command()
def retry(uid: StudyArgument, config: ConfigOption = None) -> None:
    """Queue a study again: read it anew, or, if it has a report, send the stored one."""
    settings = _config(config)
    study = Spool(settings.node.data_dir).study(uid)
    with _engine(settings) as engine:
        print(f"Queued as attempt {engine.retry(study)}.")


@app.command("release")
def release_(
    uid: StudyArgument,
    role: Annotated[list[str] | None, typer.Option(metavar="ROLE=SERIES_UID", help="Series for a role.")] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Remove the earlier choices.")] = False,
    config: ConfigOption = None,
) -> None:
    """Choose series of a study by hand and queue it again; exit 3 if it would still be held."""
    from dicom_node import release

    _quiet()
    chosen = release.read_choices(role or [])
    settings = _config(config)
    study = Spool(settings.node.data_dir).study(uid)
    if not chosen and not forget:
        raise CommandError("Give --role ROLE=SERIES_UID, or --forget.")
    if not chosen:
        release.forget(study)
        print("Forgotten. `dicom-node retry` selects the series by the rules alone.")
        return
    with _engine(settings) as engine:
        selection = release.release(study, chosen, settings.selection.rules(), anew=forget)
        if selection.held:
            print(f"{selection.held.code}: {selection.held.sentence}", file=sys.stderr)
            raise typer.Exit(HELD)
        print(f"Queued as attempt {engine.retry(study)}.")


@app.command()
def echo(peer: Annotated[str, typer.Argument(help="Name of a peer.")], config: ConfigOption = None) -> None:
    """Send a C-ECHO to a peer."""
    from dicom_node import scu

    _quiet()
    settings = _config(config)
    seconds = scu.echo(settings, settings.peer(peer))
    print(f"{peer} answered in {1000 * seconds:.0f} ms.")


for _verb in (research_verbs.synthesize, research_verbs.train, research_verbs.evaluate):
    app.command()(_verb)


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
    from dicom_node.config import Config, load

    found = _config_file(file)
    return Config.offline() if offline and not (file or found.exists()) else load(found)


def _rules(file: Path | None) -> SiteRules:
    """Return the site's rules; without a configuration none is loaded, which would take as long as a series."""
    from pipeline.select import BUILT_IN

    return _config(file).selection.rules() if file or _config_file(None).exists() else BUILT_IN


def _config_file(file: Path | None) -> Path:
    """Return the file that was named, else the first default that is there, else the first default."""
    return file or next((candidate for candidate in _CONFIGS if candidate.exists()), _CONFIGS[0])


@contextmanager
def _engine(config: Config) -> Iterator[Engine]:
    """Yield a connection to the queues."""
    from dicom_node import workflow

    workflow.migrate(config)
    engine = workflow.Engine(config)
    try:
        yield engine
    finally:
        engine.close()


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


# --- files and studies ------------------------------------------------------------------------------------------------


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise NodeError(f"{folder} is not a folder: name the folder with the study's files.", "folder_missing")
    files = [path for path in folder.rglob("*") if path.is_file()]
    if not files:
        raise NodeError(f"{folder} holds no files: name the folder with the study's files.", "folder_empty")
    return files


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
