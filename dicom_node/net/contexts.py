"""What an association may carry: the services of the node, and every class that may be storage, private ones too.

A sender that meets one refused context among the images of a study may stop there, and what came looks like all of it.
So whatever is not known as another service is taken for storage. pynetdicom has a switch for it
(``_config.UNRESTRICTED_STORAGE_SERVICE``), which does not fit: it takes the first transfer syntax that is offered, be
it one whose pixels are elsewhere, and it takes retired services for storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, build_context
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE, SOPClassCommonExtendedNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    Verification,
    uid_to_service_class,
)

# What a sender offers in one context is accepted in this order: plain, then lossless, then the rest.
_PREFERRED = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    *("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.57"),  # RLE, JPEG lossless
    *("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"),  # JPEG-LS, JPEG 2000 lossless
)
# JPIP and SMPTE ST 2110 transfer syntaxes refer to pixels that are elsewhere.
_ELSEWHERE = ("1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.204", "1.2.840.10008.1.2.4.205")
_STREAMED = "1.2.840.10008.1.2.7."
_COMPOSITE_STORAGE = "1.2.840.10008.5.1.4.1.1."
_SOP_CLASS = "SOP Class"
# Stands on media only, and no study can be seen in it (PS3.4 table I.4-1).
_DIRECTORY = "1.2.840.10008.1.3.10"


class Negotiated(IntEnum):
    """What became of a proposed context (PS3.8 table 9-18)."""

    ACCEPTED = 0
    USER_REJECTION = 1
    NO_REASON = 2
    ABSTRACT_SYNTAX = 3
    TRANSFER_SYNTAX = 4


@dataclass(frozen=True, slots=True)
class RefusedContext:
    """A context that the node did not accept.

    Attributes
    ----------
    abstract_syntax
        SOP class.
    transfer_syntaxes
        All that were offered with it.
    because
        Of what it was refused.
    """

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    because: Negotiated

    def as_json(self) -> dict[str, object]:
        """Return what stands in the timeline."""
        return {
            "abstract_syntax": self.abstract_syntax,
            "transfer_syntaxes": list(self.transfer_syntaxes),
            "because": self.because.name.lower(),
        }


def storage_transfer_syntaxes() -> list[str]:
    """Return the transfer syntaxes whose data sets can be kept as bytes, in the order they are preferred."""
    rest = [uid for uid in ALL_TRANSFER_SYNTAXES if uid not in (*_PREFERRED, *_ELSEWHERE) and _STREAMED not in uid]
    return [*_PREFERRED, *rest]


def supported_contexts() -> list[PresentationContext]:
    """Return what is accepted of whoever asks; `accept_storage` adds to it."""
    syntaxes = storage_transfer_syntaxes()
    contexts = [build_context(str(context.abstract_syntax), syntaxes) for context in AllStoragePresentationContexts]
    commitment = build_context(StorageCommitmentPushModel)
    # The PACS is the SCP of this service although it opens the association.
    commitment.scu_role, commitment.scp_role = False, True
    return [*contexts, build_context(Verification), commitment]


def is_storage(abstract_syntax: UID) -> bool:
    """Return whether a SOP class may be one of the Storage Service: it is none that is known to be of another.

    Parameters
    ----------
    abstract_syntax
        Of the standard, retired, newer than this software, or private.
    """
    if abstract_syntax.type != _SOP_CLASS:
        return not abstract_syntax.type
    service = uid_to_service_class(abstract_syntax)
    if service is not ServiceClass:
        return service is StorageServiceClass
    named = " Storage" in abstract_syntax.name
    return (named or abstract_syntax.startswith(_COMPOSITE_STORAGE)) and abstract_syntax != _DIRECTORY


def accept_storage(association: Association) -> None:
    """Accept the storage-like classes that the sender proposes besides those of `supported_contexts`.

    Parameters
    ----------
    association
        Requested, and not answered yet.
    """
    supported = association.acceptor.supported_contexts
    known = {context.abstract_syntax for context in supported}
    more = {uid for uid in map(_class_of, _proposed(association)) if uid not in known and is_storage(uid)}
    syntaxes = storage_transfer_syntaxes() if more else []
    association.acceptor.supported_contexts = [*supported, *(build_context(uid, syntaxes) for uid in sorted(more))]


def serve_storage(association: Association) -> None:
    """Have C-STORE requests of every accepted storage-like class served as such.

    pynetdicom 3.0.4 finds the service of a request by a list of classes. Another one can be added for the whole process
    only (`register_uid`, which changes the list while other associations read it), or by the sender, who may name the
    service of a class (PS3.7 D.3.3.6): that is said here in its place. No upstream issue is known.

    Parameters
    ----------
    association
        Just accepted.
    """
    classes = {_class_of(context) for context in association.accepted_contexts}
    unknown = [uid for uid in classes if uid_to_service_class(uid) is ServiceClass]
    association.acceptor._common_ext = {uid: _as_storage(uid) for uid in unknown}


def refused_contexts(association: Association) -> list[RefusedContext]:
    """Return the contexts of an accepted association that were refused, in the order they were proposed."""
    offered = {context.context_id: context.transfer_syntax for context in _proposed(association)}
    return [
        RefusedContext(
            str(context.abstract_syntax),
            tuple(map(str, offered[context.context_id])),
            Negotiated(cast(int, context.result)),
        )
        for context in association.rejected_contexts
    ]


def _proposed(association: Association) -> list[PresentationContext]:
    return cast(A_ASSOCIATE, association.requestor.primitive).presentation_context_definition_list


def _class_of(context: PresentationContext) -> UID:
    return cast(UID, context.abstract_syntax)


def _as_storage(sop_class: UID) -> SOPClassCommonExtendedNegotiation:
    item: Any = SOPClassCommonExtendedNegotiation()
    item.sop_class_uid, item.service_class_uid = sop_class, StorageServiceClass.uid
    return cast(SOPClassCommonExtendedNegotiation, item)
