"""The steps of a study, from selected series to written objects; each leaves its output in files.

A step that is repeated writes the same files again. What it says besides is a record.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from models.brain_extractor import BrainExtractor
from models.bundle import Grid, Intensity
from models.contrast import Contrast
from models.wae_net import WaeNet
from models.whole_files import open_own
from pipeline.activation import activation_image
from pipeline.brain import MaskFacts, extract_brain
from pipeline.errors import StudyHeld
from pipeline.grid import canonical
from pipeline.mask_agreement import compare_masks
from pipeline.patient_age import read_age_years
from pipeline.predict import model_tensor
from pipeline.report import ScoredRun, tri_planar, write_results, write_saliency
from pipeline.select import Selection
from pipeline.volume import read_volume


@dataclass(frozen=True, slots=True)
class Masks:
    """The brain masks of a study: volume and named doubts of each."""

    brain: dict[Contrast, MaskFacts]


@dataclass(frozen=True, slots=True)
class Readings:
    """What the networks say of a study.

    Attributes
    ----------
    members
        Scores of each sequence's networks in the order of the folds, in [0, 1].
    distances
        How far each sequence's features lie from the cohort's (Mahalanobis); empty where the bundle has no limits.
    """

    members: dict[Contrast, tuple[float, ...]]
    distances: dict[Contrast, float]


def convert(selection: Selection, work: Path) -> None:
    """Write the selected volumes, on canonical axes, as ``volume_<role>.nrrd``.

    Parameters
    ----------
    selection
        With a volume for each role.
    work
        Folder that exists.

    Raises
    ------
    StudyHeld
        As :func:`pipeline.volume.read_volume`, and naming the sequence.
    """
    for role, volume in selection.volumes.items():
        with _naming(role):
            _write_image(work / f"volume_{role}.nrrd", canonical(read_volume(volume)))


def strip(selection: Selection, work: Path, extractor: BrainExtractor) -> Masks:
    """Write the brain masks as ``mask_<role>.nrrd``, and return what is to be said about them.

    Parameters
    ----------
    selection
        Whose volumes `convert` has written to `work`.
    work
        Folder that exists.
    extractor
        Loaded brain weights.

    Raises
    ------
    StudyHeld
        As :func:`pipeline.brain.extract_brain` and :func:`pipeline.mask_agreement.compare_masks`.
    """
    facts, masks = {}, {}
    for role, volume in selection.volumes.items():
        with _naming(role):
            image = sitk.ReadImage(str(work / f"volume_{role}.nrrd"))
            masks[role], facts[role] = extract_brain(image, extractor, read_age_years(volume.files[0]))
        _write_image(work / f"mask_{role}.nrrd", masks[role])
    compared = compare_masks(masks)
    return Masks({role: replace(f, flags=(*f.flags, *compared[role])) for role, f in facts.items()})


def tensors(
    work: Path, grid: Grid, intensity: Intensity, roles: Iterable[Contrast] = tuple(Contrast)
) -> Iterator[tuple[Contrast, np.ndarray]]:
    """Yield the network input of each sequence, one at a time; the node and cohorts share it.

    Parameters
    ----------
    work
        Folder with the volumes and masks of `roles`.
    grid, intensity
        Of the bundle.
    roles
        Which sequences, in the order of the output.

    Yields
    ------
    tuple of Contrast and numpy.ndarray
        float32 (z, y, x) on the model grid, z-scored inside the brain, 0 outside.

    Raises
    ------
    StudyHeld
        As :func:`pipeline.predict.model_tensor`, and naming the sequence.
    """
    for role in roles:
        volume, mask = _read_images(work, role)
        with _naming(role):
            yield role, model_tensor(volume, mask, grid, intensity.clip_percentiles)


def predict(work: Path, ensemble: WaeNet, roles: Iterable[Contrast]) -> Readings:
    """Return the scores of each sequence's networks, and how far its features lie from the cohort's.

    Parameters
    ----------
    work
        Folder with the volumes and masks of `roles`.
    ensemble
        Loaded networks.
    roles
        Which sequences.

    Raises
    ------
    StudyHeld
        As :func:`tensors`.
    """
    metadata, members, distances = ensemble.bundle.metadata, {}, {}
    for role, tensor_zyx in tensors(work, metadata.grid, metadata.intensity, roles):
        reading = ensemble.read(role, tensor_zyx)
        members[role] = reading.member_scores
        far = ensemble.distance(role, reading.features)
        if far is not None:
            distances[role] = far
    return Readings(members, distances)


def report(run: ScoredRun, work: Path, out: Path, explained: WaeNet | None = None) -> None:
    """Write the result objects and pictures.

    Parameters
    ----------
    run
        With a score.
    work
        Folder with the volumes and masks of the sequences that were scored.
    out
        Folder that exists.
    explained
        Loaded networks, where maps of what their scores depend on are written too.
    """
    roles = run.finding.sequences
    views = {role: tri_planar(*_read_images(work, role)) for role in roles}
    write_results(run, views, out)
    if explained:
        activations = {role: _activation(role, work, explained) for role in roles}
        views = {role: tri_planar(*_read_images(work, role), activations[role]) for role in roles}
        write_saliency(run, activations, views, out)


def _activation(role: Contrast, work: Path, ensemble: WaeNet) -> sitk.Image:
    metadata = ensemble.bundle.metadata
    clip_percentiles = metadata.intensity.clip_percentiles
    return activation_image(role, *_read_images(work, role), metadata.grid, clip_percentiles, ensemble)


@contextmanager
def _naming(role: Contrast) -> Iterator[None]:
    """Say in a refusal which sequence it is about."""
    try:
        yield
    except StudyHeld as held:
        raise StudyHeld(held.code, f"{role}: {held.sentence}") from None


def _read_images(work: Path, role: Contrast) -> tuple[sitk.Image, sitk.Image]:
    """Return volume and mask of a role."""
    return sitk.ReadImage(str(work / f"volume_{role}.nrrd")), sitk.ReadImage(str(work / f"mask_{role}.nrrd"))


def _write_image(path: Path, image: sitk.Image) -> None:
    temporary = path.with_name(f"part-{path.name}")
    os.close(open_own(temporary, os.O_WRONLY))  # The library keeps the permissions of a file that is there.
    sitk.WriteImage(image, str(temporary))
    temporary.replace(path)
