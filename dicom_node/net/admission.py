"""Whether an association is accepted, and with what: who may talk to us, contexts, roles, the window of operations."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from dicom_node.config import Config
from dicom_node.net.addresses import Addresses
from dicom_node.net.callers import Call, Caller, Reason, recognise
from dicom_node.net.contexts import Negotiation, negotiate
from dicom_node.net.tls import shown_by
from dicom_node.net.upper_layer import APPLICATION_CONTEXT, Rejection, accept, item
from dicom_node.net.upper_layer_accept import Asked
from dicom_node.net.upper_layer_request import AssociationRequest, read_request, read_titles
from dicom_node.net.upper_layer_transfer import LONGEST_PDU_BYTES

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


REJECTIONS: Final[Mapping[Reason, Rejection]] = {
    **dict.fromkeys(Reason, Rejection.CALLING_AE_TITLE),
    Reason.CALLED_TITLE: Rejection.CALLED_AE_TITLE,
    Reason.CALLED_TITLE_MALFORMED: Rejection.CALLED_AE_TITLE,
    Reason.PROTOCOL_VERSION: Rejection.PROTOCOL_VERSION,
    Reason.APPLICATION_CONTEXT: Rejection.APPLICATION_CONTEXT,
    Reason.TOO_MANY_ASSOCIATIONS: Rejection.TOO_MANY_ASSOCIATIONS,
}
"""What a caller is answered; the sentence is for the operator of the node."""


def call_of(asked: Asked) -> Call:
    """Return who asks, before anything of it is believed.

    Raises
    ------
    Abort
        If the request is too short to name anybody.
    """
    called, calling = read_titles(asked.request)
    secured = asked.socket if isinstance(asked.socket, ssl.SSLSocket) else None
    return Call(called, calling, asked.address, secured is not None, shown_by(secured) if secured else None)


def admit(asked: Asked, call: Call, config: Config, addresses: Addresses) -> Admitted | Reason:
    """Return who asks and what is accepted, or why nothing is.

    Parameters
    ----------
    asked
        Connection and request; nothing but the titles is read before it is known who asks.
    call
        Who asks, by `call_of`.
    config
        Our AE title, peers.
    addresses
        Of the hosts of peers.

    Raises
    ------
    Abort
        If the request is not valid.
    """
    caller = recognise(config, addresses, call)
    if isinstance(caller, Reason):
        return caller
    request = read_request(asked.request)
    if not request.protocol_version & 1:
        return Reason.PROTOCOL_VERSION
    if request.application_context != APPLICATION_CONTEXT:
        return Reason.APPLICATION_CONTEXT
    return Admitted(caller, request, negotiate(request.contexts, request.roles))


def _role(sop_class: str, scu: bool, scp: bool) -> bytes:
    return len(sop_class).to_bytes(2, "big") + sop_class.encode() + bytes((scu, scp))
