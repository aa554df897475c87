"""How many images a PACS holds of a study, beside what is here: by C-FIND, where its role allows to ask."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
)

from dicom_node.config import Config, Peer, PeerRole
from dicom_node.net.association import associated, refusal, status_of
from dicom_node.studies.completeness import Total
from dicom_node.studies.evidence import Ask, Here
from pipeline.headers import MR_IMAGE_CLASSES

_MODEL = StudyRootQueryRetrieveInformationModelFind
_PENDING = (0xFF00, 0xFF01)


def counting_peers(config: Config) -> dict[str, Ask]:
    """Return how to ask each peer that may be asked for counts, by its name."""
    peers = (peer for peer in config.peers if PeerRole.QUERY in peer.roles)
    return {peer.name: partial(count_at, config, peer) for peer in peers}


def count_at(config: Config, peer: Peer, study_uid: str, here: Here) -> Total | None:
    """Return how many MR images of a study a peer holds, and how many of them are here.

    Series of other modalities do not count. Of a series of which the peer counts more than is here, its instances are
    asked for: what is no MR image, such as spectroscopy, may have been refused or never sent, and does not count.

    Parameters
    ----------
    config, peer
        Our AE title, and a peer with the role "query".
    study_uid
        Study Instance UID.
    here
        What of it is here.

    Returns
    -------
    Total or None
        None where the peer does not know the study, or does not count.

    Raises
    ------
    PeerError
        If there is no association or it breaks off.
    DeliveryError
        If the query is refused (``find_refused``).
    """
    with associated(config, peer, [build_context(_MODEL)]) as association:
        found = list(_series(peer, association, study_uid))
        counting = [each for each in found if _counts(each, here)]
        if not counting:
            return None
        held = arrived = 0
        for series in counting:
            stated, present = (
                int(series.NumberOfSeriesRelatedInstances),
                here.by_series.get(series.SeriesInstanceUID, 0),
            )
            if stated > present:
                missing = _missing(peer, association, study_uid, series.SeriesInstanceUID, here)
                stated = present + min(stated - present, missing)
            held, arrived = held + stated, arrived + min(stated, present)
        return Total(held, arrived)


def _counts(series: Dataset, here: Here) -> bool:
    """Return whether a series counts: it is MR, or came although its modality is not stated, and has a number."""
    if not series.get("SeriesInstanceUID") or series.get("NumberOfSeriesRelatedInstances") in (None, ""):
        return False
    modality = str(series.get("Modality") or "")
    return modality == "MR" or (not modality and series.SeriesInstanceUID in here.by_series)


def _missing(peer: Peer, association: Association, study_uid: str, series_uid: str, here: Here) -> int:
    """Return how many MR images of a series are not here."""
    keys = {"SOPInstanceUID": "", "SOPClassUID": ""}
    found = _find(peer, association, "IMAGE", StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid, **keys)
    images = (each for each in found if str(each.get("SOPClassUID") or "") in {"", *MR_IMAGE_CLASSES})
    return len({str(each.get("SOPInstanceUID") or "") for each in images} - here.instances - {""})


def _series(peer: Peer, association: Association, study_uid: str) -> Iterator[Dataset]:
    keys = {"SeriesInstanceUID": "", "Modality": "", "NumberOfSeriesRelatedInstances": None}
    return _find(peer, association, "SERIES", StudyInstanceUID=study_uid, **keys)


def _find(peer: Peer, association: Association, level: str, **keys: str | None) -> Iterator[Dataset]:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    for answer, identifier in association.send_c_find(query, _MODEL):
        status = status_of(peer, answer)
        if status in _PENDING:
            yield identifier or Dataset()
        elif status:
            raise refusal(peer, "C-FIND", "find_refused", status)
