"""Small received studies: whole heads of meaningless pixels, which is all that selection looks at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk

from dicom_node.studies.spool import Spool, Study
from models.contrast import Contrast
from pipeline.synthetic import SeriesTags, StudyTags, derive_uid, series_tags, write_series
from tests.support.services import SEEDED

TRIPLET = tuple(series_tags(role) for role in Contrast)
SECOND_T2W = series_tags(Contrast.T2W, number=5)
T2_SPACE = replace(SECOND_T2W, description="t2_space_tra", protocol="t2_space_tra", mr_acquisition_type="3D")
"""Preferred to the T2W series of the triplet: it is three-dimensional."""


def series_uid(study_uid: str, number: int) -> str:
    """Return the Series Instance UID that a written series has."""
    return derive_uid(study_uid, "series", number)


def receive_study(spool: Spool, folder: Path, study_uid: str, *series: SeriesTags) -> Study:
    """Put series into the spool as if they had been received; `folder` takes the files on the way."""
    tags = StudyTags(study_uid=study_uid, **SEEDED)
    for one in series:
        for path in write_series(head(one.number), folder / study_uid, tags, one):
            uid = pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID
            spool.store(study_uid, uid, path.read_bytes())
    return spool.study(study_uid)


def head(seed: int) -> sitk.Image:
    """Return a whole head of meaningless voxels."""
    image = sitk.GetImageFromArray(np.random.default_rng(seed).integers(0, 900, (24, 16, 20)).astype(np.int16))
    image.SetSpacing((9.0, 9.5, 5.0))
    return image
