"""What each network's score depends on, as an image in patient space."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import SimpleITK as sitk

from models.bundle import Grid
from models.contrast import Contrast
from models.saliency import ClassActivation
from pipeline.grid import brain_centred
from pipeline.predict import model_tensor


class ExplainedEnsemble(Protocol):
    """One network per sequence, loaded, that says what its score depends on."""

    def saliency(self, sequence: Contrast, tensor_zyx: np.ndarray) -> ClassActivation:
        """Return the map of one sequence's network.

        Parameters
        ----------
        sequence
            Whose network.
        tensor_zyx
            float32 (z, y, x), as :func:`pipeline.predict.model_tensor` returns it.
        """
        ...


def activation_image(
    role: Contrast,
    volume: sitk.Image,
    mask: sitk.Image,
    grid: Grid,
    clip_percentiles: tuple[float, float],
    ensemble: ExplainedEnsemble,
) -> sitk.Image:
    """Return the class activation map of one sequence on the features of its network.

    Parameters
    ----------
    role
        Whose network.
    volume, mask, grid, clip_percentiles
        As for :func:`pipeline.predict.model_tensor`.
    ensemble
        Loaded networks.

    Returns
    -------
    SimpleITK.Image
        float32, a few voxels of several centimetres, canonical axes, each at the place around which its feature looks
        (:class:`models.saliency.ClassActivation`). A feature gathers from far beyond its own voxel.

    Raises
    ------
    StudyHeld
        As :func:`pipeline.predict.model_tensor`.
    """
    activation = ensemble.saliency(role, model_tensor(volume, mask, grid, clip_percentiles))
    return placed(activation, brain_centred(mask, grid))


def placed(activation: ClassActivation, grid: sitk.Image) -> sitk.Image:
    """Return an activation map in patient space.

    Parameters
    ----------
    activation
        On the features of a network.
    grid
        The voxels that the network saw, in LPS millimetres.

    Returns
    -------
    SimpleITK.Image
        float32, with the axes of `grid` and the spacing of the features.
    """
    image = sitk.GetImageFromArray(activation.values_zyx)
    image.SetDirection(grid.GetDirection())
    image.SetSpacing([activation.stride * side_mm for side_mm in grid.GetSpacing()])
    image.SetOrigin(grid.TransformContinuousIndexToPhysicalPoint([activation.first] * 3))
    return image
