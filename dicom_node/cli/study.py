"""The verbs about one study: score it, explain it, see what became of it, queue it again, choose for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dicom_node.cli import explained
from dicom_node.cli.printing import print_json, print_line, print_lines, print_problem, print_table, progress
from dicom_node.cli.settings import (
    HELD,
    ConfigOption,
    FolderArgument,
    JsonOption,
    StudyArgument,
    engine_of,
    load_config,
    quiet,
    site_rules,
    study_of,
)
from dicom_node.errors import CommandError, NodeError
from dicom_node.studies.overview import Order, overview
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.standings import standings
from dicom_node.studies.timeline import State
from dicom_node.watch import audit

if TYPE_CHECKING:
    from dicom_node.config import Config
    from pipeline.select import SiteRules


def run(
    folder: FolderArgument,
    out: Annotated[Path, typer.Option(help="Folder for report.dcm, summary.dcm and result.json.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score one study from files, without a network; exit 3 if it is held."""
    quiet()
    files = _files(folder)
    settings = load_config(config, offline=True)
    with progress() as tell:
        tell("loading the models")
        from dicom_node.engine.installed import open_models
        from pipeline.report import Title
        from pipeline.select import select_study
        from pipeline.study import run_study

        def step(name: str, function: Any) -> Any:
            tell(name)
            return function()

        models = open_models(settings)
        selection = select_study(files, settings.selection.rules())
        title, saliency = Title(settings.report.title), "saliency" in settings.report.send
        result = run_study(selection, out, models, title=title, saliency=saliency, records=settings.records, step=step)
    if as_json:
        print_json(result.as_json())
    else:
        print_lines(explained.scored(result, out, explained.width()))
    raise typer.Exit(HELD if result.held else 0)


def air_sample(
    out: Annotated[Path, typer.Argument(help="New folder for source images, result objects and screenshots.")],
    config: ConfigOption = None,
) -> None:
    """Write the sample package of an IHE AIR Evidence Creator from a synthetic study; exit 3 if it is held."""
    quiet()
    settings = load_config(config, offline=True)
    with progress() as tell:
        tell("loading the models")
        from dicom_node.cli.air_sample import write_sample
        from dicom_node.engine.installed import open_models
        from pipeline.report import Title

        result = write_sample(out, open_models(settings), Title.IMAGING_MEASUREMENT_REPORT, tell)
    if result.held:
        print_problem(f"{result.held.code}: {result.held.sentence}")
        raise typer.Exit(HELD)
    print_line(f"Wrote {out}: see README.txt there.")


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
    quiet()
    if folder:
        raise typer.Exit(_explain(folder, site_rules(config), as_json=as_json))
    raise typer.Exit(_replay(replay or 1, load_config(config), as_json=as_json))


def _explain(folder: Path, rules: SiteRules, *, as_json: bool) -> int:
    from pipeline.explain import explain
    from pipeline.select import select_study

    table = explain(select_study(_files(folder), rules))
    if as_json:
        print_json(table.as_json())
    else:
        print_lines(explained.explained(table, explained.width()))
    return HELD if table.reason else 0


def _replay(last: int, settings: Config, *, as_json: bool) -> int:
    from dicom_node.studies.replay import replay, summary

    rows, spool = [], Spool(settings.node.data_dir, make=False)
    with progress() as tell:
        for row in replay(spool, settings, last):
            rows.append(row)
            tell(f"{len(rows)} of at most {last} studies judged again")
    audit.looked(*((row.study_uid, spool.folder(row.study_uid)) for row in rows), verb="explain --replay")
    counts = summary(rows)
    if as_json:
        print_json({"studies": [row.as_json() for row in rows], "summary": counts})
    else:
        for row in rows:
            print_lines(explained.replayed(row, explained.width()))
        print_line(", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in counts.items()))
    return HELD if counts["changed"] else 0


def studies(
    state: Annotated[list[State] | None, typer.Option(help="Only studies in this state; may be repeated.")] = None,
    reason: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="Only studies with this reason; may be repeated.")
    ] = None,
    peer: Annotated[str, typer.Option(help="Only studies from this AE title, or for this destination.")] = "",
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Only studies received since: 2h, 3d, 2026-11-28 or 2026-11-28T14:00.")
    ] = "",
    text: Annotated[str, typer.Option(help="Only studies whose UID, state, reason or peer contains this.")] = "",
    sort: Annotated[Order, typer.Option(help="What comes first, the newest or the last.")] = Order.CHANGED,
    last: Annotated[int, typer.Option(metavar="N", min=1, help="At most so many.")] = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the received studies, those that changed last first."""
    from dicom_node.cli.listed import moment, print_studies
    from dicom_node.studies.filters import Filters

    quiet()
    filters = Filters(tuple(state or ()), tuple(reason or ()), peer, moment(since) if since else None, text=text)
    print_studies(load_config(config), filters, sort, last, as_json=as_json)


def show(uid: StudyArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the timeline of a study, and which series play which role, or why it is held."""
    from dicom_node.cli.listed import as_row, pseudonyms
    from dicom_node.studies.inputs import last_choices, last_table

    settings = load_config(config)
    study = study_of(settings, uid)
    audit.looked((study.uid, study.folder), verb="show")
    timeline, selection = study.timeline(), last_table(study)
    row = as_row(overview(study), pseudonyms(settings), timeline.turn.sentence if timeline.turn else "")
    lines = [entry.as_json() for entry in timeline]
    deliveries = [standing.as_json() for standing in standings(timeline).values()]
    if as_json:
        told = selection.as_json() if selection else None
        print_json({**row, "timeline": lines, "deliveries": deliveries, "selection": told, "choices": study.choices()})
        return
    print_lines([f"study {study.uid}, in the log {row['pseudonym']}"])
    table = []
    for line in lines:
        facts = ", ".join(f"{key} {_fact(value)}" for key, value in line.items() if key not in ("time", "event"))
        table.append((str(line["time"]), str(line["event"]), facts))
    print_table(("time", "event", "facts"), table)
    if deliveries:
        print_table(tuple(deliveries[0]), [tuple(each.values()) for each in deliveries])
    if selection:
        print_lines(explained.shown(selection, last_choices(study), explained.width()))
    if row["code"]:
        print_line(f"{row['state']}: {row['code']}: {row['sentence']}")


def _fact(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_fact(item)}" for key, item in value.items())
    return "; ".join(map(_fact, value)) if isinstance(value, list) else str(value)


def retry(
    uid: Annotated[str | None, typer.Argument(metavar="[UID]", help="Study Instance UID, or its pseudonym.")] = None,
    all_failed: Annotated[
        bool, typer.Option("--all-failed", help="Every study that failed, and every delivery that was set aside.")
    ] = False,
    peer: Annotated[str | None, typer.Option(metavar="NAME", help="Every delivery to a destination.")] = None,
    config: ConfigOption = None,
) -> None:
    """Deliver at once what a study owes, or read it anew if it owes nothing; what is proved is not sent again."""
    if sum((uid is not None, all_failed, peer is not None)) != 1:
        raise CommandError("Name a study, or give --all-failed or --peer NAME: one of the three.")
    quiet()
    settings = load_config(config)
    spool = Spool(settings.node.data_dir, make=False)
    if uid:
        _retry(settings, spool, study_of(settings, uid))
    elif peer:
        from dicom_node.engine.waking import wake

        print_line(_woken(len(wake(settings, spool, peer=settings.receiver(peer).name))))
    else:
        _retry_failed(settings, spool)


def _retry(settings: Config, spool: Spool, study: Study) -> None:
    from dicom_node.engine.retrying import retry_study

    retried = retry_study(settings, spool, study)
    print_line(_woken(retried.woken) if retried.woken else f"Queued as attempt {retried.attempt}.")


def _retry_failed(settings: Config, spool: Spool) -> None:
    from dicom_node.cli.listed import all_in_state
    from dicom_node.engine.waking import wake

    print_line(_woken(len(wake(settings, spool, waiting=False))))
    again = 0
    if failed := all_in_state(settings, State.FAILED):
        with engine_of(settings) as engine:
            for uid in failed:
                # The index may be a moment late.
                if uid in spool and (study := spool.study(uid)).state() == State.FAILED:
                    engine.retry(study)
                    again += 1
    print_line(f"{again} failed studies are read again.")


def _woken(count: int) -> str:
    return f"{count} deliveries are tried at once."


def release_(
    uid: StudyArgument,
    role: Annotated[
        list[str] | None, typer.Option(metavar="ROLE=SERIES", help="Series or volume for a role, as `show` prints it.")
    ] = None,
    identity: Annotated[
        str | None, typer.Option(metavar="SERIES", help="Series whose patient and order all selected ones have.")
    ] = None,
    copy: Annotated[
        str | None, typer.Option(metavar="newest", help="Of copies that differ, the newest is right.")
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Remove the earlier choices and statements.")] = False,
    config: ConfigOption = None,
) -> None:
    """Decide by hand what a study is held for, and queue it again; exit 3 if it would still be held."""
    from dicom_node.studies import choices as release

    quiet()
    if identity is not None or copy is not None:
        _state(uid, identity, copy, load_config(config), alone=not (role or forget))
        return
    chosen = release.read_choices(role or [])
    settings = load_config(config)
    study = study_of(settings, uid)
    if not chosen and not forget:
        raise CommandError("Give --role ROLE=SERIES, --identity SERIES, --copy newest, or --forget.")
    if not chosen:
        release.forget(study)
        print_line("Forgotten. `dicom-node retry` selects the series by the rules alone.")
        return
    with engine_of(settings) as engine:
        selection = release.release(study, chosen, settings.selection.rules(), anew=forget)
        if selection.held:
            print_problem(f"{selection.held.code}: {selection.held.sentence}")
            raise typer.Exit(HELD)
        print_line(f"Queued as attempt {engine.retry(study)}.")


def _state(uid: str, identity: str | None, copy: str | None, settings: Config, *, alone: bool) -> None:
    """Keep one statement of a human, and queue the study again."""
    from dicom_node.studies.statements import state_identity, state_newest_copies

    if identity == "" or copy not in (None, "newest"):
        raise CommandError("--identity takes a series as `dicom-node show` prints it, --copy takes only newest.")
    if not alone or (identity and copy):
        raise CommandError("Give --identity SERIES or --copy newest alone: each is checked by itself.")
    study, rules = study_of(settings, uid), settings.selection.rules()
    with engine_of(settings) as engine:
        selection = state_identity(study, identity, rules) if identity else state_newest_copies(study, rules)
        if selection.held:
            print_problem(f"{selection.held.code}: {selection.held.sentence}")
            raise typer.Exit(HELD)
        print_line(f"Queued as attempt {engine.retry(study)}.")


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise NodeError(f"{folder} is not a folder: name the folder with the study's files.", "folder_missing")
    files = [path for path in folder.rglob("*") if path.is_file()]
    if not files:
        raise NodeError(f"{folder} holds no files: name the folder with the study's files.", "folder_empty")
    return files
