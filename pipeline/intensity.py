"""Grey values inside the brain -> model tensor."""

from __future__ import annotations

from typing import Final

import numpy as np

from pipeline.errors import HoldReason, StudyHeld

_BRAIN: Final = 0.5
_NOTHING: Final = 0.02
"""Share of brain below which a voxel is 0, so that the tail of the low-pass does not reach the scalp."""


def standardise(
    image_zyx: np.ndarray, share_zyx: np.ndarray, clip_percentiles: tuple[float, float] = (0.5, 99.5)
) -> np.ndarray:
    """Return the model tensor of an image: clipped and z-scored inside the brain, 0 outside.

    Parameters
    ----------
    image_zyx
        Grey values on the model grid.
    share_zyx
        Share of brain in each voxel: 1 inside, 0 outside. Voxels of at least a half are the brain whose values set
        percentiles, mean and deviation.
    clip_percentiles
        Of the values inside the brain, in percent.

    Returns
    -------
    numpy.ndarray
        float32 of the same shape; mean 0 and standard deviation 1 inside the brain, times the share.

    Raises
    ------
    StudyHeld
        ``intensity_constant`` if the brain is empty or of one grey value.
    """
    values = image_zyx[share_zyx >= _BRAIN].astype(np.float64)
    if values.size == 0 or np.ptp(np.percentile(values, clip_percentiles)) <= 0:
        raise StudyHeld(HoldReason.INTENSITY_CONSTANT, "The image has no contrast inside the brain.")
    bounds = np.percentile(values, clip_percentiles)
    values = np.clip(values, *bounds)
    touched = share_zyx > _NOTHING
    clipped = np.clip(image_zyx[touched].astype(np.float64), *bounds)
    tensor_zyx = np.zeros(image_zyx.shape, np.float32)
    tensor_zyx[touched] = (clipped - values.mean()) / values.std() * share_zyx[touched]
    return tensor_zyx
