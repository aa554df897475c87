"""The rung of the SOP classes: what a real peer takes of what it is sent, and nothing is stored by asking."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    SecondaryCaptureImageStorage,
    Verification,
)

from dicom_node.config import Config, Peer, parse
from dicom_node.net.ladder import CLASSES, Rung, climb

PLAIN = (ComprehensiveSRStorage, SecondaryCaptureImageStorage)


@contextmanager
def pacs(
    *classes: str, send: str = '["sr", "summary"]', held: str = "none"
) -> Iterator[tuple[Config, Peer, list[str]]]:
    """Yield a node, a peer that takes these classes, and what that was sent."""
    stored: list[str] = []
    entity = AE("PACS")
    for each in (Verification, *classes):
        entity.add_supported_context(each)

    def keep(event: evt.Event) -> int:
        stored.append(event.request.AffectedSOPClassUID)
        return 0

    handlers: list[Any] = [(evt.EVT_C_STORE, keep)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    text = f'''
[receive]
accept = "any"
[report]
send = {send}
held = "{held}"
[[peers]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {server.server_address[1]}
roles = ["destination"]
verify = "none"
'''
    try:
        config = parse(text)
        yield config, config.peers[0], stored
    finally:
        server.shutdown()


def last(config: Config, peer: Peer) -> Rung:
    *_, rung = climb(config, peer)
    assert rung.what == "SOP classes"
    return rung


@pytest.mark.parametrize(
    ("taken", "best"),
    [
        ((*PLAIN, BasicTextSRStorage), "takes Comprehensive SR, Basic Text SR, Secondary Capture Image"),
        ((Comprehensive3DSRStorage, *PLAIN), "takes Comprehensive 3D SR, Comprehensive SR, Secondary Capture Image"),
    ],
)
def test_a_peer_that_takes_one_class_of_each_kind_is_good(taken: tuple[str, ...], best: str):
    with pacs(*taken) as (config, peer, stored):
        assert last(config, peer) == Rung("SOP classes", True, best)
    assert stored == []


@pytest.mark.parametrize(
    ("taken", "send", "held", "missing"),
    [
        ((SecondaryCaptureImageStorage,), '["sr", "summary"]', "none", "no Structured Report:"),
        (PLAIN, '["sr", "pdf", "saliency"]', "none", "no Encapsulated PDF, no Parametric Map:"),
        ((EncapsulatedPDFStorage,), '["pdf"]', "sr", "no Structured Report:"),
        ((), '["sr", "summary"]', "none", "none of the SOP classes"),
    ],
)
def test_a_kind_that_a_peer_does_not_take_is_named(taken: tuple[str, ...], send: str, held: str, missing: str):
    with pacs(*taken, send=send, held=held) as (config, peer, _):
        rung = last(config, peer)
    assert not rung.good
    assert missing in rung.sentence
    assert "sop_class_refused" in rung.sentence


def test_the_classes_of_reports_are_those_that_reports_have():
    from pipeline.report.structured_report import SOP_CLASSES

    assert CLASSES["sr"]["Structured Report"] == SOP_CLASSES
