"""Whether an association is accepted, and with what: who may talk to us, contexts, roles, the window of operations."""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass
from typing import Final

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from dicom_node.config import Config, PeerRole
from dicom_node.log import say
from dicom_node.net.callers import Caller, known_roles
from dicom_node.net.contexts import Negotiation, negotiate
from dicom_node.net.upper_layer import APPLICATION_CONTEXT, Rejection, accept, item
from dicom_node.net.upper_layer_accept import Asked
from dicom_node.net.upper_layer_request import AssociationRequest, read_request, read_titles
from dicom_node.net.upper_layer_transfer import LONGEST_PDU_BYTES
from dicom_node.watch import audit

logger = logging.getLogger(__name__)

MAXIMUM_OPERATIONS: Final = 16
"""That the node performs at once in one association, where the sender negotiates it (PS3.7 D.3.3.3)."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """An association that may be accepted.

    Attributes
    ----------
    caller
        Who asks.
    request
        What it asks for.
    negotiation
        What of it the node accepts.
    """

    caller: Caller
    request: AssociationRequest
    negotiation: Negotiation

    @property
    def operations(self) -> int:
        """How many operations may be open at once."""
        if self.request.window is None:
            return 1
        return min(self.request.window[0] or MAXIMUM_OPERATIONS, MAXIMUM_OPERATIONS)

    def answer(self) -> bytes:
        """Return the A-ASSOCIATE-AC."""
        user_information = [
            item(0x51, LONGEST_PDU_BYTES.to_bytes(4, "big")),
            item(0x52, PYNETDICOM_IMPLEMENTATION_UID.encode()),
            *([] if self.request.window is None else [item(0x53, struct.pack(">HH", self.operations, 1))]),
            *(item(0x54, _role(*role)) for role in self.negotiation.roles),
            item(0x55, PYNETDICOM_IMPLEMENTATION_VERSION.encode()),
        ]
        return accept(self.request.titles, self.negotiation.results, user_information)


def admit(asked: Asked, config: Config) -> Admitted | Rejection:
    """Return who asks and what is accepted, or why nothing is.

    Parameters
    ----------
    asked
        Connection and request; nothing but the titles is read before it is known who asks.
    config
        Our AE title, peers.

    Raises
    ------
    Abort
        If the request is not valid.
    """
    called, calling = read_titles(asked.request)
    if called != config.node.ae_title:
        return refuse(Rejection.CALLED_AE_TITLE, asked)
    roles = known_roles(config, calling, asked.address)
    if roles is None:
        return refuse(Rejection.CALLING_AE_TITLE, asked)
    request = read_request(asked.request)
    if not request.protocol_version & 1:
        return refuse(Rejection.PROTOCOL_VERSION, asked)
    if request.application_context != APPLICATION_CONTEXT:
        return refuse(Rejection.APPLICATION_CONTEXT, asked)
    caller = Caller(calling, asked.address, PeerRole.SOURCE in roles)
    return Admitted(caller, request, negotiate(request.contexts, request.roles))


def refuse(rejection: Rejection, asked: Asked) -> Rejection:
    """Say who is refused and why, and return why."""
    called, calling = read_titles(asked.request)
    facts = {"reason": rejection.name.lower(), "calling": calling, "called": called, "address": asked.address}
    say(logger, "association refused", level=logging.WARNING, **facts)
    audit.refused(**facts)
    return rejection


def _role(sop_class: str, scu: bool, scp: bool) -> bytes:
    return len(sop_class).to_bytes(2, "big") + sop_class.encode() + bytes((scu, scp))
