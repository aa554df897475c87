"""Delivering over TLS: what is stored, found and committed to, with certificates on both sides."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicom_node.errors import PeerError
from dicom_node.net import scu
from dicom_node.net.commitment_trial import try_commitment
from dicom_node.net.held_port import held_port
from tests.support.authorities import Authority, Pair
from tests.support.delivering import Sender, scored_study, sender

UID, HERE = "2.25.43", "127.0.0.1"


def contexts(authority: Authority, pair: Pair) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return how a PACS takes and makes connections; it wants to see a certificate of the authority."""
    server, client = (ssl.SSLContext(kind) for kind in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT))
    client.check_hostname = False
    for context in (server, client):
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.file)
        context.load_cert_chain(pair.certificate, pair.key)
    return server, client


@contextmanager
def secured(folder: Path, *, verify: str = "commitment", receives: bool = True) -> Iterator[Sender]:
    """Yield a node and a PACS that speak over TLS alone."""
    authority = Authority.new(folder / "authority")
    ours, theirs = authority.issue("node", HERE), authority.issue("pacs", HERE)
    with held_port() as port:
        tls = f'certificate = "{ours.certificate}"\nkey = "{ours.key}"\nca = ["{authority.file}"]\nport = {port}\n'
        times = f"retry_s = 0.3\ncommitment_timeout_s = 5\n[tls]\n{tls}"
        peers = {"pacs": f'tls = true\nverify = "{verify}"'}
        with sender(folder, "pacs", delivery=times, peers=peers, receives=receives) as node:
            node.destinations["pacs"].again(tls=contexts(authority, theirs), node_port=port)
            yield node


@pytest.mark.parametrize("verify", ["commitment", "find", "none"])
def test_a_report_is_delivered_and_proved_over_tls(tmp_path: Path, verify: str):
    with secured(tmp_path, verify=verify) as node:
        scored_study(node.spool, UID)
        node.address(UID)
        with node.working():
            node.wait(UID, "pacs", "accepted" if verify == "none" else "verified")
        assert node.destinations["pacs"].stored.total() == 1
        assert [event for event in node.events(UID) if "failed" in event] == []
        assert node.state(UID) == "delivered"


def test_a_peer_in_the_clear_gets_nothing_of_what_belongs_into_tls(tmp_path: Path):
    with secured(tmp_path) as node:
        node.destinations["pacs"].again(tls=None)
        with pytest.raises(PeerError) as caught:
            scu.send_first_accepted(node.config, node.config.peers[0], _report(node))
        assert caught.value.code == "tls_not_spoken"
        assert node.destinations["pacs"].came.total() == 0


@pytest.mark.parametrize("receives", [True, False])
def test_a_trial_of_commitment_comes_back_over_tls(tmp_path: Path, receives: bool):
    with secured(tmp_path, receives=receives) as node:
        assert try_commitment(node.config, node.config.peers[0]) == "reports storage commitment back"


def _report(node: Sender) -> list[Path]:
    study = scored_study(node.spool, UID)
    return [next(study.folder.glob("runs/*/report.dcm"))]
