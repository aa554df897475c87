"""What an association may carry: the services of the node, and every class that may be storage, private ones too.

A sender that meets one refused context among the images of a study may stop there, and what came looks like all of it.
So whatever is not known as another service is taken for storage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import cast

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, build_context
from pynetdicom.presentation import PresentationContext, negotiate_as_acceptor
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
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
_WITHOUT_ROLES = (Verification, ModalityPerformedProcedureStep, InstanceAvailabilityNotification)
"""Services beside storage of which the node is the SCP and its peer the SCU, as by default."""
# Stands on media only, and no study can be seen in it (PS3.4 table I.4-1).
_DIRECTORY = "1.2.840.10008.1.3.10"
_STORAGE = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)


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


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """A context that the node accepted.

    Attributes
    ----------
    abstract_syntax
        SOP class.
    transfer_syntax
        The one that was chosen.
    """

    abstract_syntax: UID
    transfer_syntax: UID


@dataclass(frozen=True, slots=True)
class Negotiation:
    """What became of the contexts that were proposed.

    Attributes
    ----------
    results
        Number, result and transfer syntax of each, as the answer gives them back.
    accepted
        By number.
    refused
        In the order of their numbers.
    roles
        Answers to role selection: SOP class, SCU role, SCP role.
    """

    results: tuple[tuple[int, Negotiated, str], ...]
    accepted: Mapping[int, AcceptedContext]
    refused: tuple[RefusedContext, ...]
    roles: tuple[tuple[str, bool, bool], ...]


def negotiate(proposed: Sequence[PresentationContext], roles: Mapping[str, tuple[bool, bool]]) -> Negotiation:
    """Return which of the proposed contexts are accepted, and in which transfer syntax.

    Parameters
    ----------
    proposed
        Each with a number of its own, and with at least one transfer syntax.
    roles
        What the requestor would be, by SOP class: SCU, SCP.
    """
    ours = [context for uid in {_class_of(context) for context in proposed} if (context := _supported(uid))]
    decided, answers = negotiate_as_acceptor(list(proposed), ours, {UID(uid): role for uid, role in roles.items()})
    offered = {context.context_id: context.transfer_syntax for context in proposed}
    results = tuple(
        (cast(int, context.context_id), Negotiated(cast(int, context.result)), str(context.transfer_syntax[0]))
        for context in decided
    )
    return Negotiation(
        results,
        {
            cast(int, context.context_id): AcceptedContext(_class_of(context), context.transfer_syntax[0])
            for context in decided
            if context.result == Negotiated.ACCEPTED
        },
        tuple(
            RefusedContext(
                str(context.abstract_syntax),
                tuple(map(str, offered[context.context_id])),
                Negotiated(cast(int, context.result)),
            )
            for context in decided
            if context.result != Negotiated.ACCEPTED
        ),
        tuple((str(role.sop_class_uid), bool(role.scu_role), bool(role.scp_role)) for role in answers),
    )


@lru_cache(maxsize=512)
def _supported(abstract_syntax: UID) -> PresentationContext | None:
    """Return what is accepted of a SOP class; made once, and read only."""
    if abstract_syntax in _WITHOUT_ROLES:
        return build_context(abstract_syntax)
    if abstract_syntax == StorageCommitmentPushModel:
        commitment = build_context(StorageCommitmentPushModel)
        # The PACS is the SCP of this service although it opens the association.
        commitment.scu_role, commitment.scp_role = False, True
        return commitment
    if abstract_syntax in _STORAGE or is_storage(abstract_syntax):
        return build_context(abstract_syntax, storage_transfer_syntaxes())
    return None


def _class_of(context: PresentationContext) -> UID:
    return cast(UID, context.abstract_syntax)
