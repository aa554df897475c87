"""The verbs that keep what the node has, or let go of it: index, studies, back-ups."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.printing import print_line, print_table, progress
from dicom_node.cli.settings import ConfigOption, config_file, load_config, quiet, study_of
from dicom_node.errors import CommandError, IndexUnavailable, SpoolError
from dicom_node.studies.spool import Spool, Study

if TYPE_CHECKING:
    from dicom_node.config import Config
    from dicom_node.studies.retention import Expired


def reindex(config: ConfigOption = None) -> None:
    """Make the index of the studies anew from their timelines; the node may run."""
    from dicom_node.studies.index import Index
    from dicom_node.studies.listing import count

    quiet()
    settings = load_config(config)
    spool, index = Spool(settings.node.data_dir), Index.of(settings)
    index.clear()
    with progress() as tell:
        tell("reading the timelines")
        if not index.catch_up(spool):
            raise IndexUnavailable("The node is making the index just now: wait a little, then look at `studies`.")
    print_line(f"{sum(count(index).values())} studies.")


def purge(
    uid: Annotated[
        str | None, typer.Argument(metavar="[UID]", help="Study Instance UID, or the pseudonym of the log.")
    ] = None,
    expired: Annotated[bool, typer.Option("--expired", help="Whatever [retention] no longer keeps.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also while it arrives, is read or is delivered.")] = False,
    config: ConfigOption = None,
) -> None:
    """Remove a study everywhere, or what is kept long enough."""
    if (uid is None) != expired:
        raise CommandError("Name a study, or give --expired: one of the two.")
    quiet()
    settings = load_config(config)
    if uid is None:
        _purge_expired(settings, dry_run=dry_run)
    else:
        _purge_study(settings, study_of(settings, uid), dry_run=dry_run, yes=yes, force=force)


def _purge_study(settings: Config, study: Study, *, dry_run: bool, yes: bool, force: bool) -> None:
    from dicom_node.engine import housekeeping

    spool, state = Spool(settings.node.data_dir), study.state()
    what = f"study {study.uid}, {state}, with {len(study.instances())} images and its results"
    if dry_run:
        only = ", but only with --force" if not force and housekeeping.is_busy(spool, study) else ""
        print_line(f"Would remove {what}{only}.")
        return
    if not force:
        housekeeping.refuse_busy(spool, study)
    if not (yes or _confirmed(what)):
        raise CommandError("Nothing was removed: pass --yes, or answer y.")
    if not housekeeping.purge(settings, spool, study):
        raise SpoolError("Instances of the study arrived just now: nothing was removed.", "study_busy")
    print_line(f"Removed {what}.")


def _confirmed(what: str) -> bool:
    return sys.stdin.isatty() and typer.confirm(f"Remove {what}?")


def _purge_expired(settings: Config, *, dry_run: bool) -> None:
    from dicom_node.engine import housekeeping, workflow
    from dicom_node.studies.index import Index

    spool, index = Spool(settings.node.data_dir), Index.of(settings)
    index.catch_up(spool)
    if dry_run:
        found = list(housekeeping.expired_now(settings, spool, index))
    else:
        workflow.migrate(settings)
        found = housekeeping.remove_expired(settings, spool, index)
    print_table(("what", "images", "state", "since", "study"), [_cells(study) for study in found])
    print_line(f"{'Would remove' if dry_run else 'Removed'} {len(found)}.")


def _cells(study: Expired) -> tuple[str, ...]:
    since = f"{study.since.astimezone():%Y-%m-%d}"
    return study.what, str(study.instances), study.state, since, study.study_uid


def backup(
    file: Annotated[Path, typer.Argument(help="File to write.")],
    images: Annotated[bool, typer.Option("--images", help="With the received images, which the PACS has too.")] = False,
    config: ConfigOption = None,
) -> None:
    """Write configuration, key, queue, timelines and results into one file; the node may run."""
    from dicom_node.engine import archive

    quiet()
    settings = load_config(config)
    with progress() as tell:
        tell("writing the back-up")
        count = archive.backup(settings, config_file(config), file, images=images)
    print_line(f"Wrote {count} studies to {file}, {'with' if images else 'without'} their images.")
    if settings.node.database_url:
        print_line("The queue is in PostgreSQL: back that up with pg_dump.")


def restore(
    file: Annotated[Path, typer.Argument(help="File that `backup` wrote.")], config: ConfigOption = None
) -> None:
    """Put a back-up back, into a data folder that is empty or missing."""
    from dicom_node.engine import archive

    quiet()
    with progress() as tell:
        tell("reading the back-up")
        count = archive.restore(file, config_file(config))
    print_line(f"Restored {count} studies.")
