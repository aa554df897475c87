"""DICOM files -> volumes with the facts that say what they are.

Classic and Enhanced objects alike are taken apart into planes, and the planes of one series are put together into
volumes: a series that mixes orientations, echoes, image types, diffusion weightings or repetitions holds several.
Pixels are not read here.
"""

from pipeline.dicom_file import Frame, Vector, content_digest
from pipeline.headers.copies import NOTHING_KNOWN, Received
from pipeline.headers.foreign import Foreign, describe_foreign
from pipeline.headers.identity import Identity, contradictions, identity_of
from pipeline.headers.instance import MR_IMAGE_CLASSES, Plane, read_instance
from pipeline.headers.reading import read_headers
from pipeline.headers.records import Copies, CopyVerdict, Headers, Problem, ProblemCode, Volume
from pipeline.headers.thorough import identity_bytes

__all__ = [
    "MR_IMAGE_CLASSES",
    "NOTHING_KNOWN",
    "Copies",
    "CopyVerdict",
    "Foreign",
    "Frame",
    "Headers",
    "Identity",
    "Plane",
    "Problem",
    "ProblemCode",
    "Received",
    "Vector",
    "Volume",
    "content_digest",
    "contradictions",
    "describe_foreign",
    "identity_bytes",
    "identity_of",
    "read_headers",
    "read_instance",
]
