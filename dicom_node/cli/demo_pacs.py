"""The PACS of ``dicom-node demo``: it keeps what it is sent, loses associations or refuses a study if told to."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

_SUCCESS, _OUT_OF_RESOURCES = 0x0000, 0xA700


@dataclass(slots=True)
class DemoPacs:
    """A PACS that keeps what it is sent in memory.

    Attributes
    ----------
    fail_rate
        Share of objects at which it loses the association.
    refusals
        By Study Instance UID how often it refuses an object for want of room, before it has some.
    stored
        What it took; an object that is sent again takes the place of the earlier one.
    asked, lost, refused
        How many objects it was sent, lost the association at, and refused.
    """

    fail_rate: float = 0.0
    refusals: dict[str, int] = field(default_factory=dict)
    stored: dict[str, Dataset] = field(default_factory=dict)
    asked: int = 0
    lost: int = 0
    refused: int = 0
    # The first draw of this seed is small: whatever the rate, something is lost.
    _random: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311 - no secret

    def start(self) -> int:
        """Listen on loopback and return the port."""
        entity = AE("DEMOPACS")
        entity.supported_contexts = AllStoragePresentationContexts
        entity.add_supported_context(Verification)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._keep)]
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        assert server is not None
        return int(server.server_address[1])

    def reports(self) -> dict[str, Dataset]:
        """Return the structured reports that have come, by Study Instance UID."""
        return {str(found.StudyInstanceUID): found for found in list(self.stored.values()) if found.Modality == "SR"}

    def _keep(self, event: evt.Event) -> int:
        self.asked += 1
        if self._random.random() < self.fail_rate:
            self.lost += 1
            event.assoc.abort()
            return _OUT_OF_RESOURCES
        dataset = event.dataset
        study = str(dataset.StudyInstanceUID)
        if self.refusals.get(study, 0) > 0:
            self.refusals[study] -= 1
            self.refused += 1
            return _OUT_OF_RESOURCES
        dataset.file_meta = event.file_meta
        self.stored[str(dataset.SOPInstanceUID)] = dataset
        return _SUCCESS
