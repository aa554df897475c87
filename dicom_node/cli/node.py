"""The verbs of who runs the node: set it up, check it, run it, try it."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.printing import print_json, print_line, print_lines, print_table, progress
from dicom_node.cli.settings import ConfigOption, JsonOption, load_config, quiet, service
from dicom_node.errors import CommandError
from dicom_node.web.users import Role
from models.whole_files import READABLE_BY_ALL, make_folder, write_whole


def init(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path("node.toml"),
    force: Annotated[bool, typer.Option(help="Replace the file if it is there.")] = False,
    ask: Annotated[
        bool | None, typer.Option("--ask/--no-ask", help="Ask for AE titles, port and peers; default on a terminal.")
    ] = None,
) -> None:
    """Write a commented configuration; on a terminal it asks for AE titles, port and peers."""
    from dicom_node.config import with_first_password
    from dicom_node.web.users import FIRST, make_password

    if file.exists() and not force:
        raise CommandError(f"{file} is there already: name another file, or pass --force.", "config_exists")
    password, hashed = make_password()
    text = with_first_password(hashed)
    if ask is None:
        ask = sys.stdin.isatty() and sys.stdout.isatty()
    if ask:
        from dicom_node.cli.interview import interview

        text = interview(text)
    write_whole(file, text.encode(), READABLE_BY_ALL)
    print_line(f"Password of the user {FIRST} at the web pages, printed this once: {password}")
    print_line(f"Wrote {file}. {'Run' if ask else 'Set the AE titles, then run'} `dicom-node check`.")


def check_(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    at_once: Annotated[
        bool, typer.Option("--quick", help="Load no model and call no peer: what is left takes a second.")
    ] = False,
) -> None:
    """Check configuration, disk, database, models, device and every peer."""
    from dicom_node.cli.check import check

    quiet()
    verdicts = check(load_config(config), quick=at_once)
    good = all(verdict.good for verdict in verdicts)
    if as_json:
        print_json({"good": good, "checks": [asdict(verdict) for verdict in verdicts]})
    else:
        words = ["FAIL" if not v.good else "warn" if v.warning else "ok" for v in verdicts]
        print_table(
            ("", "check", "verdict"), [(word, v.what, v.sentence) for word, v in zip(words, verdicts, strict=True)]
        )
    raise typer.Exit(0 if good else 1)


def callers(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the callers that were refused of late, and why."""
    from dicom_node.net.refused import read_refused

    refused = read_refused(load_config(config).node.data_dir)
    if as_json:
        print_json([{**asdict(each), "sentence": each.sentence} for each in refused])
    else:
        rows = [(each.title, each.address, each.called, f"{each.count}", each.last, each.sentence) for each in refused]
        print_table(("AE title", "address", "called", "times", "last", "why, and what to do"), rows)


def serve(config: ConfigOption = None) -> None:
    """Run receiver, worker and web pages on this machine, supervised."""
    from dicom_node.engine import supervisor

    with service("serve", config) as (settings, file):
        supervisor.serve(file, pages=settings.web.serve, alarms=settings.alarms.wanted)


def receive(config: ConfigOption = None) -> None:
    """Run the receiver alone."""
    from dicom_node.engine import processes

    with service("receive", config) as (settings, file):
        processes.receive(settings, file)


def work(
    config: ConfigOption = None,
    executor: Annotated[
        str | None, typer.Option(help="Name of this worker, stable over restarts; default host and device.")
    ] = None,
) -> None:
    """Run one worker alone."""
    from dicom_node.engine import processes

    with service("work", config) as (settings, file):
        processes.work(settings, executor, file=file)


def web(config: ConfigOption = None) -> None:
    """Run the web pages alone."""
    from dicom_node.web.server import serve_pages

    with service("web", config) as (settings, file):
        serve_pages(settings, file)


def user(
    name: Annotated[str | None, typer.Argument(help="Name of a user; without one all are listed.")] = None,
    role: Annotated[Role, typer.Option(help="What the user may do.")] = Role.VIEWER,
    remove: Annotated[bool, typer.Option("--remove", help="Let the user sign in no more.")] = False,
    config: ConfigOption = None,
) -> None:
    """Give a user of the web pages a role and a new password, which is printed once; or remove, or list them."""
    from dicom_node.web.users import Users

    users = Users(load_config(config))
    if name is None:
        print_table(("user", "role"), [(each, user.role) for each, user in users.all().items() if user.password])
    elif remove:
        users.remove(name)
        print_line(f"{name} signs in no more; sessions that are open end with the next start of the pages.")
    else:
        print_line(f"Password of {name}, {role}, printed this once: {users.put(name, role)}")


def demo(
    keep: Annotated[Path | None, typer.Option(help="Keep study, node data and log in this folder.")] = None,
    pages: Annotated[bool, typer.Option("--pages", help="Open the web pages of a node with five studies.")] = False,
    fail_rate: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of objects at which the PACS loses the association.")
    ] = 0.0,
) -> None:
    """Send a synthetic study through a node on loopback and print the report that comes back."""
    from dicom_node.cli.demo import run_demo, run_unreliable

    if pages and fail_rate:
        raise CommandError("Give --pages or --fail-rate: one of the two.")
    quiet()
    with tempfile.TemporaryDirectory(prefix="dicom-node-demo-") as temporary, progress() as tell:
        folder = keep or Path(temporary)
        make_folder(folder)
        if pages:
            _show_pages(folder, tell)
            return
        said = run_unreliable(folder, fail_rate, tell) if fail_rate else run_demo(folder, tell)
    print_lines(said.splitlines())


def _show_pages(folder: Path, tell: Callable[[str], None]) -> None:
    """Print where to look, and keep the pages open until Ctrl-C or SIGTERM."""
    from dicom_node.cli.demo import USER, pages_of_demo
    from dicom_node.cli.demo_studies import SHOWS
    from dicom_node.cli.listed import pseudonyms

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), pages_of_demo(folder, tell) as demo:
        pseudonym = pseudonyms(demo.config)
        rows = [
            (study.case, f"{demo.address}/studies/{pseudonym(study.study_uid)}", SHOWS[study.case])
            for study in demo.studies
        ]
        print_table(("study", "look at", "for"), rows)
        print_line(f"All of them: {demo.address}/studies. To release one sign in as {USER}, password {demo.password}.")
        print_line("Ctrl-C ends the node, and removes what it has unless --keep FOLDER.")
        sys.stdout.flush()
        tell("the pages are open")
        signal.pause()


def echo(peer: Annotated[str, typer.Argument(help="Name of a peer.")], config: ConfigOption = None) -> None:
    """Send a C-ECHO to a peer."""
    from dicom_node.net import scu

    quiet()
    settings = load_config(config)
    seconds = scu.echo(settings, settings.peer(peer))
    print_line(f"{peer} answered in {1000 * seconds:.0f} ms.")
