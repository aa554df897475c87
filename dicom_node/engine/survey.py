"""The facts of a node, gathered from where each of them lives; whoever looks waits, and nobody else does.

Counts of studies come from the index, deliveries from the outbox, what a process does from its pulse, refused callers,
certificates and the disk from their files. Nothing of it is on the way of an acknowledgement.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from dicom_node import log
from dicom_node.config import Config, PeerRole
from dicom_node.engine.outbox import Outbox
from dicom_node.errors import NodeError
from dicom_node.net.certificates import configured_certificates
from dicom_node.net.expiry import first_to_expire
from dicom_node.net.refused import read_refused
from dicom_node.studies.index import PEERS, STUDIES, Index
from dicom_node.studies.timeline import State
from dicom_node.watch.facts import MOST_STOPPED, Certificate, Deliveries, Facts, Stopped, Studies, Undelivered
from dicom_node.watch.pulse import pulses

_GB: Final = 10**9
_WITHIN_S: Final = {"1h": 3600.0, "1d": 86400.0}
_STOPPED: Final = (State.HELD, State.FAILED)
_UNDELIVERED: Final = (State.SCORED, State.SENDING, State.DELIVERY_FAILED)
_C = STUDIES.c


def survey(config: Config) -> Facts:
    """Return what is known of a node now; what cannot be read is missing in it, and raises nothing."""
    now_s, data_dir = time.time(), config.node.data_dir
    disk = shutil.disk_usage(next(folder for folder in (data_dir, *data_dir.parents) if folder.is_dir()))
    refused: Counter[str] = Counter()
    for caller in read_refused(data_dir):
        refused[str(caller.reason)] += caller.count
    return Facts(
        now_s,
        version("dicom-node"),
        tuple(pulses(data_dir, now_s)),
        _studies(config, now_s),
        _deliveries(config),
        refused,
        disk.free,
        disk.total,
        int(config.receive.disk_reserve_gb * _GB),
        tuple(_certificates(config)),
    )


def _studies(config: Config, now_s: float) -> Studies | None:
    if not config.node.data_dir.is_dir():
        return Studies()
    index = Index.of(config)
    try:
        with index.transaction() as connection:
            return _gathered(connection, config, now_s)
    except NodeError:
        return None
    finally:
        index.close()


def _gathered(connection: Connection, config: Config, now_s: float) -> Studies:
    count = func.count()
    states = select(_C.state, count).group_by(_C.state)
    codes = select(_C.code, count).group_by(_C.code)
    queued = select(func.min(_C.changed_s)).where(_C.state == State.QUEUED)
    return Studies(
        states=dict(connection.execute(states).all()),
        reasons=dict(connection.execute(codes.where(_C.state.in_(_STOPPED))).all()),
        filtered=dict(connection.execute(codes.where(_C.state == State.FILTERED)).all()),
        received={name: _received(connection, now_s - within_s) for name, within_s in _WITHIN_S.items()},
        queued_since_s=connection.execute(queued).scalar(),
        heard_s=_heard(connection, config),
        stopped=tuple(_stopped(connection, _pseudonyms(config))),
        undelivered=tuple(_undelivered(connection)) if config.receivers else (),
    )


def _received(connection: Connection, since_s: float) -> int:
    query = select(func.count()).where(_C.received_last_s >= since_s)
    return int(connection.execute(query).scalar() or 0)


def _heard(connection: Connection, config: Config) -> Mapping[str, float]:
    titles = {peer.ae_title for peer in config.sources}
    query = (
        select(PEERS.c.peer, func.max(_C.received_last_s))
        .join(STUDIES, _C.study_uid == PEERS.c.study_uid)
        .where(PEERS.c.role == PeerRole.SOURCE, PEERS.c.peer.in_(titles))
        .group_by(PEERS.c.peer)
    )
    last: dict[str, Any] = dict(connection.execute(query).all())
    return {peer.name: last[peer.ae_title] for peer in config.sources if peer.ae_title in last}


def _stopped(connection: Connection, pseudonym: Callable[[str], str]) -> Iterator[Stopped]:
    query = select(_C.study_uid, _C.state, _C.code, _C.changed_s).where(_C.state.in_(_STOPPED))
    for row in connection.execute(query.order_by(_C.changed_s.desc()).limit(MOST_STOPPED)):
        yield Stopped(pseudonym(row.study_uid), row.state, row.code, row.changed_s)


def _undelivered(connection: Connection) -> Iterator[Undelivered]:
    query = select(_C.trouble_peer, func.count(), func.max(_C.trouble_code), func.min(_C.changed_s))
    for row in connection.execute(query.where(_C.state.in_(_UNDELIVERED)).group_by(_C.trouble_peer)):
        yield Undelivered(*row)


def _pseudonyms(config: Config) -> Callable[[str], str]:
    return log.Pseudonym(log.read_key(config.node.data_dir))


def _deliveries(config: Config) -> Mapping[str, Deliveries] | None:
    """Return what waits; a database that is not there yet holds nothing, and looking at it does not make it."""
    if config.node.database_url is None and not config.node.engine_file.exists():
        return {}
    try:
        with Outbox(config.node.engine_url) as outbox:
            everything = Counter(item.peer for item in outbox.undelivered())
            aside = Counter(item.peer for item in outbox.undelivered(waiting=False))
    except NodeError:
        return None
    names = {peer.name for peer in config.receivers} | set(everything)
    return {name: Deliveries(everything[name] - aside[name], aside[name]) for name in sorted(names)}


def _certificates(config: Config) -> Iterator[Certificate]:
    for what, file in configured_certificates(config):
        try:
            expiry = first_to_expire(file)
            yield Certificate(what, expiry.days, expiry.holds)
        except NodeError:
            yield Certificate(what, 0, holds=False)
