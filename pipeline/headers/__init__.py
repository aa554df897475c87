"""DICOM files -> volumes with the facts that say what they are.

Classic and Enhanced objects alike are taken apart into planes, and the planes of one series are put together into
volumes: a series that mixes orientations, echoes, image types, diffusion weightings or repetitions holds several.
Pixels are not read here.
"""

from pipeline.dicom_file import Frame, Vector, content_digest
from pipeline.headers.foreign import Foreign, describe_foreign
from pipeline.headers.reading import read_headers
from pipeline.headers.records import Headers, Problem, ProblemCode, Volume

__all__ = [
    "Foreign",
    "Frame",
    "Headers",
    "Problem",
    "ProblemCode",
    "Vector",
    "Volume",
    "content_digest",
    "describe_foreign",
    "read_headers",
]
