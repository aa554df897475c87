"""The verbs of who watches a node: how it is."""

from __future__ import annotations

from dataclasses import asdict

import typer

from dicom_node.cli.printing import print_json, print_table
from dicom_node.cli.settings import ConfigOption, JsonOption, load_config, quiet


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
