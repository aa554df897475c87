"""Made studies: head anatomy, procedural or a label map, to T1W, T2W and FLAIR, to DICOM.

For the demonstration, the tests and the training on synthetic cohorts; nothing here comes from a patient.
"""

from pipeline.synthetic.anatomy import brain_volume_ml, procedural_head
from pipeline.synthetic.canvas import RIGHT_OF_LEFT, Label
from pipeline.synthetic.dicom_series import write_series
from pipeline.synthetic.rendering import Plane, render
from pipeline.synthetic.study_files import QUICK, ROUTINE, Acquisition, WrittenStudy, nifti_study, write_study
from pipeline.synthetic.study_tags import SeriesTags, StudyTags, derive_uid, localizer_tags, series_tags

__all__ = [
    "QUICK",
    "RIGHT_OF_LEFT",
    "ROUTINE",
    "Acquisition",
    "Label",
    "Plane",
    "SeriesTags",
    "StudyTags",
    "WrittenStudy",
    "brain_volume_ml",
    "derive_uid",
    "localizer_tags",
    "nifti_study",
    "procedural_head",
    "render",
    "series_tags",
    "write_series",
    "write_study",
]
