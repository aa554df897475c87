"""The verbs of who watches a node: how it is, and who is told when it is not."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from dicom_node.cli.printing import print_json, print_line, print_table
from dicom_node.cli.settings import ConfigOption, JsonOption, load_config, quiet, service
from dicom_node.errors import CommandError

if TYPE_CHECKING:
    from dicom_node.config import Config


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say in ten lines how the node is; exit 1 if something is wrong with it."""
    from dicom_node.engine.survey import survey
    from dicom_node.watch import health

    quiet()
    lines = health.status(survey(load_config(config)))
    good = all(line.level is not health.Level.BAD for line in lines)
    if as_json:
        print_json({"good": good, "lines": [asdict(line) for line in lines]})
    else:
        print_table(("", "what", "state"), [(line.level, line.what, line.sentence) for line in lines])
    raise typer.Exit(0 if good else 1)


def alarms(
    test: Annotated[bool, typer.Option("--test", help="Send a message to every address of [alarms].")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the causes for an alarm that there are now; with --test, see whether messages arrive."""
    from dicom_node.engine.survey import survey
    from dicom_node.watch.alarm_rules import causes
    from dicom_node.watch.alarms import read_alarms

    quiet()
    settings = load_config(config)
    if test:
        _test(settings)
    began_s = read_alarms(settings.node.data_dir, time.time()).began_s
    found = causes(survey(settings), settings.alarms, began_s)
    if as_json:
        print_json([asdict(cause) for cause in found])
    else:
        print_table(("rule", "what is wrong"), [(cause.rule, cause.sentence) for cause in found])
    raise typer.Exit(1 if found else 0)


def _test(settings: Config) -> NoReturn:
    from dicom_node.engine.alarming import name_of
    from dicom_node.watch.alarm_sending import addresses, send
    from dicom_node.watch.alarms import trial

    named = addresses(settings.alarms)
    if not named:
        raise CommandError("[alarms] names nobody: set alarms.to or alarms.to_file.")
    good = True
    for number, address in enumerate(named, 1):
        taken = send(address, trial(name_of(settings)))
        good &= taken
        kind = address.partition("://")[0]
        print_line(f"{number}, {kind}: {'sent' if taken else 'not taken: look at the address, and at its log'}")
    raise typer.Exit(0 if good else 1)


def watch(config: ConfigOption = None) -> None:
    """Look after the node, and tell whom [alarms] names when something stops."""
    from dicom_node.engine import alarming

    with service("watch", config) as (settings, file):
        alarming.watch(settings, file)
