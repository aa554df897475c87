"""What ``init`` asks on a terminal: AE title and port of the node, and its peers; what is refused is asked anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import tomlkit
import typer

from dicom_node.cli.printing import print_problem
from dicom_node.config import PeerRole, parse
from dicom_node.config.writing import put_peer
from dicom_node.errors import ConfigError

_EXAMPLE = "pacs"
"""The peer of the commented example: the first answers take its place, so that its comments stay."""


def interview(text: str) -> str:
    """Return a configuration with what somebody answers in its place.

    Parameters
    ----------
    text
        The commented example.

    Returns
    -------
    str
        One that `parse` accepts.
    """
    text = _asked(text, lambda document: _ask(document["node"], "ae_title", "AE title of this node"))
    text = _asked(text, lambda document: _ask(document["node"], "port", "DICOM port of this node"))
    text = _asked(text, partial(_put, name=_EXAMPLE))
    while typer.confirm("Another PACS, router or scanner?", default=False):
        text = _asked(text, partial(_put, name=""))
    return text


def _asked(text: str, edit: Callable[[Any], None]) -> str:
    """Return the text as answers change it; as long as it would be refused, say why and ask again."""
    while True:
        document = tomlkit.parse(text)
        edit(document)
        try:
            parse(tomlkit.dumps(document), source="This")
        except ConfigError as error:
            print_problem(str(error))
        else:
            return tomlkit.dumps(document)


def _ask(section: Any, key: str, question: str) -> None:
    section[key] = typer.prompt(question, default=section[key].unwrap())


def _put(document: Any, name: str) -> None:
    put_peer(document, name, _peer(name))


def _peer(name: str) -> Mapping[str, Any]:
    """Return what somebody says of one peer."""
    answers: dict[str, Any] = {
        "name": typer.prompt("Short name of the PACS, router or scanner", default=name or None),
        "ae_title": typer.prompt("Its AE title"),
        "host": typer.prompt("Its host name or address"),
    }
    sends = typer.confirm("Does it send studies to this node?", default=True)
    takes = typer.confirm("Does it get the reports?", default=True)
    wanted = {PeerRole.SOURCE: sends, PeerRole.DESTINATION: takes}
    answers["roles"] = [str(role) for role, is_wanted in wanted.items() if is_wanted]
    answers["port"] = typer.prompt("Its DICOM port", default=104) if takes else None
    if takes:
        answers["verify"] = typer.prompt("Proof that it has a report (commitment, find, none)", default="commitment")
    return answers
