"""The DICOM port: C-ECHO, C-STORE, what is announced, and the results of storage commitment.

::

    upper_layer_accept   the door: one thread for everybody of whom nothing is known yet
    scp                  who may associate, and what for: a thread for each association
    accepted             its messages, over upper_layer_transfer and dimse
    storage              C-STORE: bytes to the spool, then the answer
    announcements        procedure steps, and notifications of available instances

Only configured peers may associate, by AE title and address, and only those with the role "source" may store.

Storage commitment: the node is the SCU of that service, so the PACS opens an association of its own to report a result
and proposes the SCP role for itself (PS3.4 J.3.3); the result is kept as
``<data_dir>/commitments/<transaction_uid>.json``.
"""

from __future__ import annotations

import itertools
import logging
import resource
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from dicom_node.config import Config
from dicom_node.errors import ConfigError, SpoolError
from dicom_node.log import say
from dicom_node.net.accepted import AcceptedAssociation, Conversation, Operation
from dicom_node.net.addresses import Addresses
from dicom_node.net.admission import REJECTIONS, Admitted, admit, call_of
from dicom_node.net.announcements import ANNOUNCED_IN, AnnounceOperation
from dicom_node.net.callers import Call, Reason
from dicom_node.net.contexts import AcceptedContext
from dicom_node.net.dimse import Command, Request, Status
from dicom_node.net.expiry import ExpiryWatch
from dicom_node.net.operations import AnswerOnly, CommitmentReport
from dicom_node.net.places import Places
from dicom_node.net.refused import RefusedCallers, Who
from dicom_node.net.storage import Storage, StoreOperation
from dicom_node.net.strangers import Strangers
from dicom_node.net.tls import PortTLS
from dicom_node.net.tls_faults import TLSFault
from dicom_node.net.upper_layer import Abort, AbortReason, abort, reject
from dicom_node.net.upper_layer_accept import BACKLOG, Asked, Door, Port
from dicom_node.net.upper_layer_transfer import Closed, TimedOut, Transfer, send_last
from dicom_node.studies.announced import Announcements
from dicom_node.studies.collect import End
from dicom_node.studies.spool import Outcome, Spool, Study
from dicom_node.studies.timeline import Ending, Event

logger = logging.getLogger(__name__)

MAXIMUM_ASSOCIATIONS: Final = 512
MAXIMUM_ASSOCIATIONS_OF_PEER: Final = 64
"""One peer whose associations stall shuts itself out, and nobody else."""
_DECISIONS, _DECISIONS_OF_ADDRESS = 128, 32
_STORING_THREADS = 8
_FILES = 8192
_SLACK_BYTES = 2**24
_LAST_NOTES_S = 5.0
_GB = 10**9
_NO_STORAGE = (Verification, StorageCommitmentPushModel, *ANNOUNCED_IN)


class Listener(Protocol):
    """Who is notified of arrivals; `collect.Collector` is one. Calls come from many threads and must return at once."""

    def stored(self, association: int, study_uid: str, outcome: Outcome) -> None:
        """Take note that an instance is in the spool."""

    def refused(self, association: int, study_uid: str | None) -> None:
        """Take note that an instance was not stored; None if its study cannot be read."""

    def closed(self, association: int, end: End) -> None:
        """Take note that the association is over, and how it ended."""


class Receiver:
    """The listening application entity.

    Parameters
    ----------
    config
        Whole configuration.
    spool
        Where instances go.
    listener
        Told of every stored instance and every closed association.
    announcements
        Where procedure steps and notifications go; those of the data folder by default.
    """

    def __init__(
        self,
        config: Config,
        spool: Spool,
        listener: Listener | None = None,
        announcements: Announcements | None = None,
    ) -> None:
        self._config = config
        self._spool = spool
        self._listener = listener
        self._announcements = announcements or Announcements(spool.data_dir)
        self._storage = Storage(spool, _Noting(spool, listener), int(config.receive.max_object_gb * _GB))
        self._strangers = Strangers()
        self._addresses = Addresses()
        self._refused = RefusedCallers(spool.data_dir)
        self._expiry = ExpiryWatch(config)
        self._deciding = Places(_DECISIONS_OF_ADDRESS, _DECISIONS)
        self._places = Places(MAXIMUM_ASSOCIATIONS_OF_PEER, MAXIMUM_ASSOCIATIONS)
        self._open: dict[AcceptedAssociation, Transfer] = {}
        self._numbers = itertools.count(1)
        self._given_up = threading.Event()
        self._pool = ThreadPoolExecutor(_STORING_THREADS, "storing")
        self._door: Door | None = None
        self._ports: list[Port] = []

    def reconfigure(self, config: Config) -> None:
        """Know callers by another configuration from the next association on."""
        self._config = config

    @property
    def port(self) -> int:
        """The plain port that is listened on."""
        return self._number(lambda port: port.tls is None)

    @property
    def tls_port(self) -> int:
        """The TLS port that is listened on."""
        return self._number(lambda port: port.tls is not None)

    def _number(self, wanted: Callable[[Port], bool]) -> int:
        if self._door is None:
            raise RuntimeError("the receiver is not started")
        return next(int(port.socket.getsockname()[1]) for port in self._ports if wanted(port))

    def start(self) -> None:
        """Put in place, or remove, what a crash left, then listen.

        Raises
        ------
        ConfigError
            If a port cannot be opened (``port_unavailable``), or a file of TLS cannot be used.
        SpoolError
            If the disk refuses.
        """
        self._spool.clean()
        _allow_files()
        node, tls = self._config.node, self._config.tls
        spoken = None if tls.port is None else PortTLS(self._config)
        self._ports = [Port(listen(node.bind, node.port))] if tls.plain else []
        if tls.port is not None:
            self._ports.append(Port(listen(node.bind, tls.port, "tls.port"), spoken))
        self._door = Door(self._ports, self._on_request, self._on_fault)
        self._door.open()
        self._expiry.start()
        port, tls_port = self.port if tls.plain else None, None if tls.port is None else self.tls_port
        say(logger, "listening", ae_title=node.ae_title, bind=node.bind, port=port, tls_port=tls_port)

    def stop(self, grace_s: float = 5.0) -> None:
        """Take no new association, let open ones finish for `grace_s`, then abort them."""
        if self._door is None:
            return
        self._door.close_ports()
        self._await_ends(grace_s)
        self._given_up.set()
        for transfer in list(self._open.values()):
            transfer.give_up()
        self._await_ends(_LAST_NOTES_S)
        self._door.shut()
        self._door = None
        self._pool.shutdown(wait=False)
        self._expiry.stop()
        self._refused.close()
        say(logger, "stopped")

    def _await_ends(self, timeout_s: float) -> None:
        until_s = time.monotonic() + timeout_s
        while self._open and time.monotonic() < until_s:
            time.sleep(0.01)

    def _on_request(self, asked: Asked) -> None:
        if self._deciding.take(asked.address):
            threading.Thread(target=self._serve, args=(asked,), name="association", daemon=True).start()
        else:
            self._strangers.count("too many wait", asked.address)
            asked.socket.close()

    def _serve(self, asked: Asked) -> None:
        """Answer a request, and serve the association that comes of it until it ends; in a thread of its own."""
        transfer = Transfer(asked.socket, self._given_up.is_set)
        try:
            self._decide_and_serve(asked, transfer)
        except Abort as fault:
            self._strangers.count(fault.because, asked.address)
            send_last(transfer, abort(fault.reason))
        except Closed:
            pass
        except Exception:
            say(logger, "association ended by a fault", level=logging.ERROR, address=asked.address)
        finally:
            self._leave(asked)

    def _decide_and_serve(self, asked: Asked, transfer: Transfer) -> None:
        try:
            call = call_of(asked)
            admitted = admit(asked, call, self._config, self._addresses)
        finally:
            self._deciding.give_back(asked.address)
        if isinstance(admitted, Reason):
            self._refuse(call, admitted, transfer)
            return
        peer = admitted.caller.ae_title, admitted.caller.address
        if not self._places.take(peer):
            self._refuse(call, Reason.TOO_MANY_ASSOCIATIONS, transfer)
            return
        try:
            self._serve_admitted(admitted, transfer)
        finally:
            self._places.give_back(peer)

    def _refuse(self, call: Call, reason: Reason, transfer: Transfer) -> None:
        self._refused.note(Who.of(call, reason))
        transfer.send(reject(REJECTIONS[reason]))

    def _on_fault(self, address: str, fault: TLSFault) -> None:
        self._refused.note(Who("", address, "", fault))

    def _serve_admitted(self, admitted: Admitted, transfer: Transfer) -> None:
        association = AcceptedAssociation(
            next(self._numbers), admitted.caller, admitted.negotiation.accepted, admitted.negotiation.refused
        )
        conversation = Conversation(
            association,
            transfer,
            self._begin,
            width=admitted.operations,
            pool=self._pool,
            longest_bytes=2 * self._storage.longest_bytes + _SLACK_BYTES,
        )
        self._open[association] = transfer
        try:
            transfer.send(admitted.answer())
            self._closed(association, self._converse(association, conversation, transfer))
        finally:
            del self._open[association]
            self._rest()

    def _rest(self) -> None:
        try:
            if not self._open:
                self._spool.rest()
        except SpoolError as error:
            say(logger, "instances keep their slots", level=logging.ERROR, sentence=str(error))

    def _converse(self, association: AcceptedAssociation, conversation: Conversation, transfer: Transfer) -> Ending:
        facts = {"ae_title": association.caller.ae_title, "address": association.caller.address}
        try:
            return conversation.run()
        except Closed:
            if not self._given_up.is_set():
                return Ending.LOST
            send_last(transfer, abort(None))
        except TimedOut:
            say(logger, "association aborted, the peer did not go on", level=logging.WARNING, **facts)
            send_last(transfer, abort(AbortReason.NOT_SPECIFIED))
        except Abort as fault:
            say(logger, "association aborted", level=logging.WARNING, **facts, reason=fault.because)
            send_last(transfer, abort(fault.reason))
        except Exception:
            say(logger, "association ended by a fault", level=logging.ERROR, **facts)
            send_last(transfer, abort(AbortReason.NOT_SPECIFIED))
        return Ending.ABORTED_HERE

    def _closed(self, association: AcceptedAssociation, ending: Ending) -> None:
        try:
            if self._listener:
                end = End(ending, association.caller.ae_title, association.caller.address)
                self._listener.closed(association.number, end)
        except Exception:
            say(logger, "end of an association not noted", level=logging.ERROR)

    def _leave(self, asked: Asked) -> None:
        """Have the peer close the connection, which the door waits for."""
        if self._door and not self._given_up.is_set():
            self._door.leave(asked.socket, asked.address)
        else:
            asked.socket.close()

    def _begin(self, association: AcceptedAssociation, context: AcceptedContext, request: Request) -> Operation:
        """Return the operation that a request asks for (PS3.7 C.5 for those that the node has not)."""
        match request.command:
            case Command.C_STORE if context.abstract_syntax in _NO_STORAGE:
                return AnswerOnly(Status.SOP_CLASS_NOT_SUPPORTED, "no storage SOP class")
            case Command.C_STORE | Command.N_CREATE | Command.N_SET if not association.caller.may_store:
                say(logger, "refused, not a source", level=logging.WARNING, ae_title=association.caller.ae_title)
                return AnswerOnly(Status.NOT_AUTHORISED, "this AE title is not a source")
            case Command.C_STORE:
                return StoreOperation(self._storage, association, context, request)
            case Command.C_ECHO:
                return AnswerOnly(Status.SUCCESS)
            case Command.N_CREATE | Command.N_SET if context.abstract_syntax in ANNOUNCED_IN:
                return AnnounceOperation(self._announcements, context, request)
            case Command.N_EVENT_REPORT if context.abstract_syntax == StorageCommitmentPushModel:
                return CommitmentReport(self._spool.data_dir, context)
            case Command.N_EVENT_REPORT | Command.N_CREATE | Command.N_SET:
                return AnswerOnly(Status.NO_SUCH_SOP_CLASS)
            case Command.C_CANCEL:
                return AnswerOnly(None)
            case _:
                return AnswerOnly(Status.UNRECOGNISED_OPERATION)


class _Noting:
    """Notes what arrived in the timelines, and tells the listener."""

    def __init__(self, spool: Spool, listener: Listener | None) -> None:
        self._spool = spool
        self._listener = listener
        self._lock = threading.Lock()

    def stored(self, association: AcceptedAssociation, study_uid: str, outcome: Outcome) -> None:
        if outcome is Outcome.CONFLICT:
            say(logger, "instance kept beside another with its UID", level=logging.WARNING, study=study_uid)
        caller = association.caller
        with self._lock:
            is_first = study_uid not in caller.studies
            caller.studies.add(study_uid)
        if is_first:
            study = self._spool.study(study_uid)
            study.note(Event.ASSOCIATION, calling=caller.ae_title, address=caller.address)
            _note_refused(study, association)
        if self._listener:
            self._listener.stored(association.number, study_uid, outcome)

    def refused(self, association: AcceptedAssociation, study_uid: str | None) -> None:
        if self._listener:
            self._listener.refused(association.number, study_uid)


def _note_refused(study: Study, association: AcceptedAssociation) -> None:
    """Note the contexts that were refused beside what the study came in, once for each sender."""
    refused = [context.as_json() for context in association.refused]
    facts = {"calling": association.caller.ae_title, "contexts": refused}
    if not refused or any(entry.facts == facts for entry in study.timeline()):
        return
    study.note(Event.CONTEXTS_REFUSED, **facts)
    say(logger, "contexts refused", level=logging.WARNING, study=study.uid, contexts=len(refused))


def listen(bind: str, port: int, key: str = "node.port") -> socket.socket:
    """Return a socket that listens.

    Parameters
    ----------
    bind
        Address of version 4 or 6, or a name.
    port
        0 lets the system choose.
    key
        Of the configuration, which it is from.

    Raises
    ------
    ConfigError
        If the port cannot be opened (``port_unavailable``).
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            bind, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"Port {port} on {bind} cannot be opened ({error.strerror}): change {key} or node.bind.",
            "port_unavailable",
        ) from None
    return listening


def _allow_files() -> None:
    """Allow this process as many descriptors as all associations may need, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
