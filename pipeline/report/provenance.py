"""Facts of a run that are not the finding's own, and what its results are named after."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pipeline.brain import WeightsIdentity
from pipeline.report.uids import result_uid


class Title(StrEnum):
    """Document title of a report."""

    PRIVATE = "private"
    IMAGING_MEASUREMENT_REPORT = "126000"


@dataclass(frozen=True, slots=True)
class Predecessor:
    """An earlier report of the same study that a new one revises; `scored` unless it said why there is no score."""

    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    scored: bool = True


@dataclass(frozen=True, slots=True)
class Provenance:
    """Facts of the run that are not the finding's own.

    Attributes
    ----------
    input_digest
        SHA-256 over the selected input set.
    started
        When the analysis began, naive local or with a time zone; becomes Content Date and Time.
    software
        Name and version of the node, for example ``dicom-node 0.1.0``.
    brain_weights
        Which weights drew the brain masks.
    title
        Of the report: our own, or an Imaging Measurement Report with image library where the site's viewers want it.
    predecessors
        The earlier reports of the study that this one replaces, the last one first.
    """

    input_digest: str
    started: datetime
    software: str
    brain_weights: WeightsIdentity
    title: Title = Title.PRIVATE
    predecessors: tuple[Predecessor, ...] = ()


@dataclass(frozen=True, slots=True)
class ResultNames:
    """Makes the UIDs of one run's results; equal runs get equal UIDs."""

    parts: tuple[str, ...]

    @classmethod
    def of(cls, study_uid: str, model_digest: str, provenance: Provenance) -> ResultNames:
        """Return the names of the results of one run.

        Parameters
        ----------
        study_uid
            Study Instance UID of the input.
        model_digest
            SHA-256 of the bundle.
        provenance
            Of the run; its time does not count, nor what it revises.
        """
        return cls(
            (
                study_uid,
                provenance.input_digest,
                model_digest,
                provenance.brain_weights.digest,
                provenance.software,
                provenance.title,
            )
        )

    def uid(self, kind: str, *more: str) -> str:
        """Return the UID of a result.

        Parameters
        ----------
        kind
            What is named.
        *more
            Distinguish several of a kind.
        """
        return result_uid(kind, *self.parts, *more)
