"""The matrix of access and TLS: who calls, over what, with which certificate, and what comes of it and why.

``python -m tests.faults.access`` prints it; the suite runs the same cases. The other side is DCMTK, and a bare socket
for titles that DCMTK does not send.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, MaximumLengthNotification
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.config import Config, NodeSection, Peer, PeerRole, ReceiveSection, TLSSection
from dicom_node.errors import PeerError
from dicom_node.net import scu
from dicom_node.net.callers import Reason
from dicom_node.net.held_port import held_port
from dicom_node.net.refused import RefusedCallers, Who
from dicom_node.net.scp import Receiver
from dicom_node.net.tls_faults import TLSFault
from dicom_node.net.tls_sentences import FAILED, REFUSED
from dicom_node.studies.spool import Spool
from tests.support.authorities import Authority, Pair
from tests.support.services import ECHOSCU, require, started

STORESCP, OPENSSL = Path("/usr/bin/storescp"), Path("/usr/bin/openssl")
HERE, PASSED = "127.0.0.1", "accepted"
Outcome = Reason | TLSFault | str


@dataclass(frozen=True)
class Certificates:
    """One of each kind."""

    folder: Path
    ours: Authority
    others: Authority
    node: Pair
    shown: dict[str, Pair]

    @classmethod
    def made(cls, folder: Path) -> Certificates:
        ours, others = Authority.new(folder / "ours"), Authority.new(folder / "others", "other-ca")
        pinned = ours.self_signed("pinned")
        shown = {
            "own CA": ours.issue("pacs", "pacs.example"),
            "other peer's": ours.issue("ct", "ct.example"),
            "nobody's": ours.issue("nobody", "nobody.example"),
            "other CA": others.issue("foreign", "pacs.example"),
            "self-signed": ours.self_signed("self", "pacs.example"),
            "self-signed, pinned": pinned,
            "expired": ours.issue("expired", "pacs.example", begins=-9, ends=-1),
            "not yet valid": ours.issue("future", "pacs.example", begins=2, ends=9),
        }
        return cls(folder, ours, others, ours.issue("node", HERE), shown)


@dataclass(frozen=True)
class Call:
    """A caller, and what must become of it; without a certificate the port is the plain one."""

    who: str
    outcome: Outcome
    calling: str | bytes = "PACS"
    called: str = "TSCNODE"
    certificate: str = ""
    port: str = ""
    options: Sequence[str] = field(default_factory=tuple)

    @property
    def over_tls(self) -> bool:
        return (self.port or ("TLS" if self.certificate else "plain")) == "TLS"


CALLS = [
    Call("right title and address", PASSED, "VIEWER"),
    Call("unknown title", Reason.TITLE_UNKNOWN, "STRANGER"),
    Call("lower case", Reason.TITLE_CASE, "viewer"),
    Call("wrong address", Reason.ADDRESS, "FAR"),
    Call("host without address", Reason.HOST_UNKNOWN, "LOST"),
    Call("wrong called title", Reason.CALLED_TITLE, "VIEWER", "OTHERNODE"),
    Call("called title in lower case", Reason.CALLED_TITLE, "VIEWER", "tscnode"),
    Call("empty title", Reason.TITLE_MALFORMED, bytes(0)),
    Call("title of nulls", Reason.TITLE_MALFORMED, bytes(16)),
    Call("null-padded title", Reason.TITLE_MALFORMED, b"VIEWER".ljust(16, b"\0")),
    Call("title with an escape", Reason.TITLE_MALFORMED, b"VIEWER\x1b[2J"),
    Call("space-padded title", PASSED, b"  VIEWER"),
    Call("peer of TLS, plain", Reason.WITHOUT_TLS),
    Call("right", PASSED, certificate="own CA"),
    Call("right, TLS 1.2", PASSED, certificate="own CA", options=["+pz"]),
    Call("right, pinned", PASSED, "PINNED", certificate="self-signed, pinned"),
    Call("peer without tls = true", PASSED, "VIEWER", certificate="own CA"),
    Call("unknown title", Reason.TITLE_UNKNOWN, "STRANGER", certificate="own CA"),
    Call("wrong called title", Reason.CALLED_TITLE, called="OTHERNODE", certificate="own CA"),
    Call("wrong address", Reason.ADDRESS, "FAR", certificate="own CA"),
    Call("certificate of another peer", Reason.CERTIFICATE_OF_ANOTHER, certificate="other peer's"),
    Call("pinned certificate of another", Reason.CERTIFICATE_OF_ANOTHER, certificate="self-signed, pinned"),
    Call("certificate of nobody", Reason.CERTIFICATE_UNKNOWN, certificate="nobody's"),
    Call("other CA", TLSFault.UNTRUSTED, certificate="other CA"),
    Call("self-signed", TLSFault.SELF_SIGNED, certificate="self-signed"),
    Call("expired", TLSFault.EXPIRED, certificate="expired"),
    Call("not yet valid", TLSFault.NOT_YET_VALID, certificate="not yet valid"),
    Call("no certificate", TLSFault.NO_CERTIFICATE, port="TLS", options=["+tla"]),
    Call("does not trust us", TLSFault.OURS_REFUSED, certificate="own CA", options=["others"]),
    Call("cipher suites of 2006 alone", TLSFault.NO_CIPHER, certificate="own CA", options=["+pa"]),
    Call("TLS 1.1 alone", TLSFault.VERSION, port="TLS", options=["-tls1_1"]),
    Call("plain at the TLS port", TLSFault.NOT_SPOKEN, "VIEWER", port="TLS"),
    Call("TLS at the plain port", TLSFault.NEEDED, certificate="own CA", port="plain"),
]


@dataclass(frozen=True)
class Destination:
    """A peer that the node calls, and what must become of it."""

    who: str
    outcome: Outcome
    certificate: str = ""
    options: Sequence[str] = field(default_factory=tuple)
    tls: bool = True
    with_ours: bool = True
    names: tuple[str, ...] = ("pacs.example",)


DESTINATIONS = [
    Destination("plain", PASSED, tls=False),
    Destination("right", PASSED, "own CA"),
    Destination("right, TLS 1.2", PASSED, "own CA", ["+pz"]),
    Destination("right, pinned", PASSED, "self-signed, pinned", names=()),
    Destination("wrong name", TLSFault.WRONG_NAME, "other peer's"),
    Destination("host is no name of it", TLSFault.WRONG_NAME, "own CA", names=()),
    Destination("other CA", TLSFault.UNTRUSTED, "other CA"),
    Destination("self-signed", TLSFault.SELF_SIGNED, "self-signed"),
    Destination("expired", TLSFault.EXPIRED, "expired"),
    Destination("not yet valid", TLSFault.NOT_YET_VALID, "not yet valid"),
    Destination("wants our certificate", TLSFault.NO_CERTIFICATE, "own CA", with_ours=False),
    Destination("wants our certificate, TLS 1.2", TLSFault.NO_CERTIFICATE, "own CA", ["+pz"], with_ours=False),
    Destination("does without our certificate", PASSED, "own CA", ["-ic"], with_ours=False),
    Destination("does not trust us", TLSFault.OURS_REFUSED, "own CA", ["others"]),
    Destination("cipher suites of 2006 alone", TLSFault.NO_CIPHER, "own CA", ["+pa"]),
    Destination("TLS to its plain port", TLSFault.NOT_SPOKEN),
    Destination("plain to its TLS port", TLSFault.NEEDED, "own CA", tls=False),
]


def callers(certificates: Certificates) -> Config:
    """Return a node with peers of every kind; both its ports are chosen by the system."""

    def peer(title: str, **more: object) -> Peer:
        facts = {"name": title.lower(), "ae_title": title, "host": HERE, "roles": (PeerRole.SOURCE,)}
        return Peer.model_validate(facts | more)

    pinned = certificates.shown["self-signed, pinned"].certificate
    peers = (
        peer("VIEWER", tls_names=("pacs.example",)),
        peer("PACS", tls=True, tls_names=("pacs.example",)),
        peer("CT", tls=True, tls_names=("ct.example",)),
        peer("PINNED", tls=True, tls_ca=(pinned,)),
        peer("FAR", host="192.0.2.1"),
        peer("LOST", host="no-such-host.invalid"),
    )
    ours = certificates.node
    tls = TLSSection(certificate=ours.certificate, key=ours.key, ca=(certificates.ours.file,), port=2762)
    node = NodeSection(bind=HERE, data_dir=certificates.folder / "data")
    made = Config(node=node, tls=tls, peers=peers)
    free = {"node": node.model_copy(update={"port": 0}), "tls": tls.model_copy(update={"port": 0})}
    return made.model_copy(update=free)


@dataclass(frozen=True)
class Node:
    """A receiver, and whom it refuses."""

    receiver: Receiver
    refused: queue.SimpleQueue[Who]

    @classmethod
    @contextlib.contextmanager
    def running(cls, certificates: Certificates) -> Iterator[Node]:
        config = callers(certificates)
        noted: queue.SimpleQueue[Who] = queue.SimpleQueue()
        note = RefusedCallers.note

        def note_both(known: RefusedCallers, who: Who) -> None:
            noted.put(who)
            note(known, who)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RefusedCallers, "note", note_both)
            receiver = Receiver(config, Spool(config.node.data_dir))
            receiver.start()
            try:
                yield cls(receiver, noted)
            finally:
                receiver.stop(0)

    def outcome(self, call: Call, certificates: Certificates) -> Outcome:
        """Make a call, and return what became of it."""
        port = self.receiver.tls_port if call.over_tls else self.receiver.port
        if isinstance(call.calling, bytes):
            with socket.create_connection((HERE, port), 10) as connection:
                passed = ask(connection, call.calling, call.called)
        else:
            require(ECHOSCU, OPENSSL)
            done = subprocess.run(_command(call, port, certificates), capture_output=True, timeout=60, check=False)
            passed = done.returncode == 0 and "-tls1_1" not in call.options
        return PASSED if passed else self.refused.get(timeout=20).reason


def _command(call: Call, port: int, certificates: Certificates) -> list[str]:
    if "-tls1_1" in call.options:
        return [str(OPENSSL), "s_client", "-connect", f"{HERE}:{port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
    return [
        *(str(ECHOSCU), "-to", "10", "-aet", str(call.calling), "-aec", call.called),
        *_tls_options(call.certificate, call.options, certificates),
        *(HERE, str(port)),
    ]


def _tls_options(shown: str, options: Sequence[str], certificates: Certificates) -> list[str]:
    """Return DCMTK's options for a certificate; ``others`` has it trust the other authority alone."""
    trusted = certificates.others if "others" in options else certificates.ours
    pair = certificates.shown.get(shown)
    with_tls = ["+tls", str(pair.key), str(pair.certificate)] if pair else []
    others = [option for option in options if option != "others"]
    return [*with_tls, *others, "+cf", str(trusted.file)] if with_tls or others else []


def ask(connection: socket.socket, calling: bytes, called: str) -> bool:
    """Ask for an association with the bytes of a title as they are, and return whether it is accepted."""
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "ANY", called
    request.user_information = [MaximumLengthNotification()]
    context = build_context(Verification)
    context.context_id = 1
    request.presentation_context_definition_list = [context]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    asked = bytearray(pdu.encode())
    asked[26:42] = calling.ljust(16)
    connection.sendall(asked)
    return connection.recv(1) == b"\x02"


def called(destination: Destination, port: int, certificates: Certificates) -> Outcome:
    """Call a destination by C-ECHO, and return what became of it."""
    ours = certificates.node
    shown = {"certificate": ours.certificate, "key": ours.key} if destination.with_ours else {}
    pair = certificates.shown.get(destination.certificate)
    own_ca = (pair.certificate,) if pair and "pinned" in destination.certificate else ()
    peer = Peer(
        name="pacs",
        ae_title="PACS",
        host=HERE,
        port=port,
        roles=(PeerRole.DESTINATION,),
        tls=destination.tls,
        tls_ca=own_ca,
        tls_names=destination.names,
    )
    tls = TLSSection.model_validate({"ca": (certificates.ours.file,), **shown})
    config = Config(receive=ReceiveSection(accept="any"), tls=tls, peers=(peer,))
    try:
        scu.echo(config, peer)
    except PeerError as error:
        return TLSFault(error.code)
    return PASSED


@contextlib.contextmanager
def listening(destination: Destination, certificates: Certificates) -> Iterator[int]:
    """Yield the port of DCMTK's storescp."""
    require(STORESCP)
    options = _tls_options(destination.certificate, destination.options, certificates)
    with (
        held_port() as port,
        started(
            [STORESCP, "--output-directory", certificates.folder, *options, str(port)],
            certificates.folder / "storescp.log",
            port,
        ),
    ):
        yield port


def main() -> int:
    """Print the matrix; return 1 if an outcome is another than expected."""
    logging.disable(logging.CRITICAL)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        certificates = Certificates.made(Path(folder))
        print(f"{'who calls':32} {'port':6} {'certificate':20} outcome")
        with Node.running(certificates) as node:
            for call in CALLS:
                outcome = node.outcome(call, certificates)
                wrong += outcome != call.outcome
                port = "TLS" if call.over_tls else "plain"
                print(f"{call.who:32} {port:6} {call.certificate:20} {_words(outcome, REFUSED)}")
        print(f"\n{'whom the node calls':32} {'call':6} {'certificate':20} outcome")
        for destination in DESTINATIONS:
            with listening(destination, certificates) as port_number:
                outcome = called(destination, port_number, certificates)
            wrong += outcome != destination.outcome
            over = "TLS" if destination.tls else "plain"
            print(f"{destination.who:32} {over:6} {destination.certificate:20} {_words(outcome, FAILED)}")
    print(f"\n{len(CALLS) + len(DESTINATIONS)} cases, {wrong} with another outcome than expected")
    return 1 if wrong else 0


def _words(outcome: Outcome, sentences: dict) -> str:
    words = sentences.get(outcome, "").format(host=HERE, port="PORT")
    return f"{outcome}: {words}" if words else str(outcome)


if __name__ == "__main__":
    sys.exit(main())
