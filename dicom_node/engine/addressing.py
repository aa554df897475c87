"""What of a study goes to whom: rows of the outbox for every object that a destination has not proved."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from dicom_node.config import Config
from dicom_node.engine.object_identity import object_uid
from dicom_node.engine.outbox import Outbox
from dicom_node.engine.outbox_tables import Item
from dicom_node.engine.run_folder import objects, saliency_kinds
from dicom_node.log import say
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.standings import OPEN, SET_ASIDE, Standing, standings, state_of
from dicom_node.studies.timeline import Delivery, Entry, Event, Kind, State, Timeline
from pipeline.report import Predecessor

logger = logging.getLogger(__name__)

SECONDS_PER_HOUR = 3600
_WITH_SCORE = frozenset({State.SCORED, State.SENDING, State.DELIVERY_FAILED})


def owed(config: Config, study: Study, timeline: Timeline, state: str) -> list[Delivery]:
    """Return what a study owes to its destinations.

    Parameters
    ----------
    config
        Says what each destination gets.
    study, timeline
        The study, and what was noted of it.
    state
        What reading came to. Scored: every object that is configured. Held: the report of it, where that is configured,
        to peers that get reports and do not know the reason. Anything else: nothing.
    """
    if state == State.HELD and config.report.held == "sr":
        told = timeline.told_of_hold
        getting = [peer.name for peer in config.destinations if "sr" in config.sent_to(peer)]
        return [Delivery(peer, Kind.HELD) for peer in getting if peer not in told]
    if state != State.SCORED:
        return []
    digest = timeline.read_digest
    maps = saliency_kinds(study.run_folder(digest) if digest else None)
    # Page and maps are objects of their own: each is delivered, proved and set aside by itself.
    return [
        Delivery(peer.name, kind)
        for peer in config.destinations
        for sent in map(Kind, config.sent_to(peer))
        for kind in (maps if sent is Kind.SALIENCY else (sent,))
    ] + [
        *(Delivery(server.name, Kind.FHIR) for server in config.fhir_servers),
        *(Delivery(receiver.name, Kind.HL7) for receiver in config.hl7_receivers),
    ]


def identified(folder: Path, kind: Kind) -> dict[str, Path]:
    """Return the files of a kind that a run left, the best first, by their UIDs."""
    return {object_uid(path): path for path in objects(folder, kind)}


def predecessors(timeline: Timeline) -> tuple[Predecessor, ...]:
    """Return the reports of a study that were sent, the last one first: what is read now replaces them."""
    return tuple(dict.fromkeys(map(_report, timeline.reports)))


def _report(sent: Entry) -> Predecessor:
    series_uid, sop_class_uid, sop_instance_uid = map(sent.text, ("series_uid", "sop_class_uid", "sop_instance_uid"))
    return Predecessor(series_uid, sop_class_uid, sop_instance_uid, scored=sent.delivery.kind == Kind.SR)


class Addressing:
    """Puts what a study owes into the outbox, once.

    Parameters
    ----------
    config
        Of the node.
    spool
        The received studies.
    outbox
        What waits to be delivered.
    """

    def __init__(self, config: Config, spool: Spool, outbox: Outbox) -> None:
        self._config = config
        self._spool = spool
        self._outbox = outbox

    def reconfigure(self, config: Config) -> None:
        """Address by another configuration from the next study on."""
        self._config = config

    @property
    def give_up_s(self) -> float:
        """How long the pauses between attempts may last together."""
        return self._config.delivery.give_up_hours * SECONDS_PER_HOUR

    def address(self, study_uid: str, state: str, *, wake: bool) -> None:
        """Have everything delivered that a study owes and that is not proved; what its last result replaces is not.

        Parameters
        ----------
        study_uid
            A study that was read.
        state
            What reading came to.
        wake
            Try at once what waits or was set aside.
        """
        study = self._spool.study(study_uid)
        timeline = study.timeline()
        digest = timeline.read_digest
        if digest is None:
            return
        self._withdraw_older(study, digest)
        known = standings(timeline)
        due = [one for one in owed(self._config, study, timeline, state) if not _proved(study, digest, one, known)]
        news = [one for one in due if wake or one not in known or known[one].progress not in OPEN | SET_ASIDE]
        if news or state_of(timeline):
            study.note(Event.ADDRESSED, state_of, input_digest=digest, deliveries=[list(one) for one in news])
        for one in due:
            self._outbox.put(Item(study_uid, digest, one.kind, one.peer), self.give_up_s, wake=wake)

    def take_over(self, study_uid: str) -> None:
        """Have delivered what a study owes by its timeline, where the outbox is new or of another version."""
        study = self._spool.study(study_uid)
        timeline = study.timeline()
        digest, state = timeline.read_digest, timeline.state
        if digest is None or state not in _WITH_SCORE | {State.HELD}:
            return
        known = standings(timeline)
        wanted = dict.fromkeys(owed(self._config, study, timeline, State.HELD if state == State.HELD else State.SCORED))
        wanted |= dict.fromkeys(one for one, standing in known.items() if standing.progress in OPEN | SET_ASIDE)
        due = [one for one in wanted if not _proved(study, digest, one, known)]
        if news := [list(one) for one in due if one not in known]:
            study.note(Event.ADDRESSED, state_of, input_digest=digest, deliveries=news)
        for one in due:
            aside = one in known and known[one].progress in SET_ASIDE
            self._outbox.put(Item(study.uid, digest, one.kind, one.peer), self.give_up_s, aside=aside)

    def begin(self) -> None:
        """Take everything over once into a new outbox."""
        if self._outbox.begun:
            return
        for study in self._spool.studies():
            try:
                self.take_over(study.uid)
            except (OSError, ValueError):
                say(logger, "deliveries not taken over", level=logging.ERROR, study=study.uid)
        self._outbox.begin()

    def _withdraw_older(self, study: Study, digest: str) -> None:
        """Withdraw what earlier results of a study still owe: they are no longer its result."""
        for item in self._outbox.undelivered(study_uid=study.uid):
            if item.input_digest != digest:
                self._outbox.remove(item)
                study.note(Event.WITHDRAWN, peer=item.peer, kind=item.kind, input_digest=item.input_digest)


def _proved(study: Study, digest: str, delivery: Delivery, known: Mapping[Delivery, Standing]) -> bool:
    standing = known.get(delivery)
    if standing is None or not standing.proved:
        return False
    return not standing.proved.isdisjoint(identified(study.run_folder(digest), Kind(delivery.kind)))
