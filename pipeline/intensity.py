"""Grey values inside the brain -> model tensor."""

from __future__ import annotations

import numpy as np

from pipeline.errors import HoldReason, StudyHeld


def standardise(
    image_zyx: np.ndarray, mask_zyx: np.ndarray, clip_percentiles: tuple[float, float] = (0.5, 99.5)
) -> np.ndarray:
    """Return the model tensor of an image: clipped and z-scored inside the brain, 0 outside.

    Parameters
    ----------
    image_zyx
        Grey values on the model grid.
    mask_zyx
        1 inside the brain.
    clip_percentiles
        Of the values inside the brain, in percent.

    Returns
    -------
    numpy.ndarray
        float32 of the same shape; mean 0 and standard deviation 1 inside the brain.

    Raises
    ------
    StudyHeld
        ``intensity_constant`` if the brain is empty or of one grey value.
    """
    inside = mask_zyx > 0
    values = image_zyx[inside].astype(np.float64)
    if values.size == 0 or np.ptp(np.percentile(values, clip_percentiles)) <= 0:
        raise StudyHeld(HoldReason.INTENSITY_CONSTANT, "The image has no contrast inside the brain.")
    values = np.clip(values, *np.percentile(values, clip_percentiles))
    tensor_zyx = np.zeros(image_zyx.shape, np.float32)
    tensor_zyx[inside] = (values - values.mean()) / values.std()
    return tensor_zyx
