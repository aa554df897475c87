"""What a model bundle states about itself: the content of ``configs/metadata.json``, strictly typed.

The vocabulary of MONAI bundles is kept where it has a word (`version`, `task`, `network_data_format` and so on); what a
node needs beyond it stands beside. An unknown key is refused: a misspelt limit would not limit anything.
"""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from models.contrast import Contrast

MEMBERS_MAX: Final = 5
"""One network per fold."""
WEIGHTS_SUM: Final = "weights_sum"
"""Type of the validation error for weights of an ensemble that cannot be weights."""
MOST_VOXELS: Final = 2**25
"""Of a grid: four times that of the patent. A tensor of it takes 134 MB, the networks' activations some GB."""
_LONGEST_SIDE: Final = 1024
_LONGEST_NAME: Final = 64
"""Of a value of VR LO (PS3.5 6.2), in which results name the model."""
_LONGEST_TEXT: Final = 10_000
_LARGEST_SEED: Final = 2**31
_PAIR: Final = 2
_MOST_SHIFTS: Final = 8
"""Each costs as much as a whole reading, and a voxel of it is one that the brain moves towards the grid's border."""
_SUM_TOLERANCE: Final = 1e-9
"""Of weights in decimal fractions, whose sum may miss 1 by a few units in the last place of a float64."""


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or str(path) != name:
        raise ValueError("a file of a bundle is named by its path inside of the bundle")
    if path.suffix != ".safetensors":
        raise ValueError("weights are kept as .safetensors")
    return name


BundleFile = Annotated[str, AfterValidator(_inside)]
"""Path of a safetensors file, relative to the bundle's folder and inside of it, with forward slashes."""


_Side = Annotated[int, Field(ge=1, le=_LONGEST_SIDE)]
_SpacingMm = Annotated[float, Field(ge=0.1, le=20)]
_Shift = Annotated[int, Field(ge=0, le=_MOST_SHIFTS)]
_Percentile = Annotated[float, Field(ge=0, le=100)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Grid(_Strict):
    """The voxel grid that the networks expect; axes left to right, posterior to anterior, inferior to superior.

    Its middle is that of the brain's extent (``brain``) or the brain's centre of mass (``brain_mass``), which a few
    voxels of the mask do not move. `low_pass_voxels` is the standard deviation, in voxels of the grid, of the Gaussian
    before the interpolation; without one (0) the grey values depend on where between two voxels the grid falls.
    """

    size_xyz: tuple[_Side, _Side, _Side]
    spacing_xyz_mm: tuple[_SpacingMm, _SpacingMm, _SpacingMm]
    centre: Literal["brain", "brain_mass"]
    low_pass_voxels: float = Field(default=0.0, ge=0, le=2)

    @model_serializer(mode="wrap")
    def _as_before(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what older grids lack, so that digests of cohorts that were built with them stay."""
        content: dict[str, Any] = serialise(self)
        return content if self.low_pass_voxels else {k: v for k, v in content.items() if k != "low_pass_voxels"}

    @model_validator(mode="after")
    def _bounded(self) -> Grid:
        if math.prod(self.size_xyz) > MOST_VOXELS:
            raise ValueError(f"a grid has at most {MOST_VOXELS} voxels")
        return self


class Architecture(_Strict):
    """Which network the weights belong to; equal shapes do not distinguish the strides."""

    name: Literal["EfficientNet3D-B0"]
    first_block_stride: Literal[1, 2]


class Intensity(_Strict):
    """How grey values become network input: clipped at percentiles inside the brain, then z-scored there."""

    clip_percentiles: tuple[_Percentile, _Percentile]


class Calibration(_Strict):
    """From score to probability: ``sigmoid(slope * logit(score) + intercept)``, fitted on development patients.

    Temperature scaling leaves the intercept at 0 and has a slope of 1 / temperature. `patients` is how many it was
    fitted on.
    """

    method: Literal["temperature", "platt"]
    slope: float = Field(gt=0)
    intercept: float
    patients: int = Field(ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> Calibration:
        if self.method == "temperature" and self.intercept != 0:
            raise ValueError("temperature scaling has no intercept")
        return self


class FeatureSpace(_Strict):
    """Pooled features of the development patients: principal axes in a file, and the distance beyond which is outside.

    The file holds, for each sequence, ``<sequence>.mean``, ``<sequence>.axes`` and ``<sequence>.variances``
    (:mod:`models.feature_space`). A limit is a Mahalanobis distance, without unit.
    """

    file: BundleFile
    limits: dict[Contrast, Annotated[float, Field(gt=0)]]

    @model_validator(mode="after")
    def _consistent(self) -> FeatureSpace:
        if set(self.limits) != set(Contrast):
            raise ValueError("limits must name T1W, T2W and FLAIR")
        return self


ChosenOn = Literal["out_of_fold", "test", "nothing"]
"""On whom the weights of the ensemble were chosen; ``test`` is the patent's literal way [0085]."""
Check = Literal["age", "contrast", "field_strength", "features", "brain_weights"]
Action = Literal["withhold", "flag"]


class Range(_Strict):
    """Where the cohort lay; None is not checked. What a study outside gets is said for each check in `actions`.

    `brain_weights_digest` is of the weights that drew the cohort's brain masks: other masks make other tensors.
    """

    age_years: tuple[float, float] | None = None
    field_strength_t: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(default=None, min_length=1)
    contrast_agent: Literal["never", "unchecked"] = "unchecked"
    features: FeatureSpace | None = None
    brain_weights_digest: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    actions: dict[Check, Action] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Range:
        if self.age_years is not None and not 0 <= self.age_years[0] < self.age_years[1]:
            raise ValueError("age_years are the youngest and the oldest age")
        return self

    @property
    def checks(self) -> tuple[Check, ...]:
        """What of a study is compared with the cohort."""
        limits: dict[Check, object] = {
            "age": self.age_years,
            "contrast": None if self.contrast_agent == "unchecked" else self.contrast_agent,
            "field_strength": self.field_strength_t,
            "features": self.features,
            "brain_weights": self.brain_weights_digest,
        }
        return tuple(check for check, limit in limits.items() if limit is not None)

    def other_brain_weights(self, digest: str | None) -> bool | None:
        """Return whether weights are others than drew the cohort's brain masks; None where that is not known.

        Parameters
        ----------
        digest
            SHA-256 of the weights that drew a study's masks; None where it is not known.
        """
        return None if None in (digest, self.brain_weights_digest) else digest != self.brain_weights_digest

    def action(self, check: Check) -> Action:
        """Return what a study outside gets; where the bundle does not state it, what a header says withholds.

        Parameters
        ----------
        check
            Which limit the study exceeds.
        """
        return self.actions.get(check, "flag" if check in ("features", "brain_weights") else "withhold")


class TwoSequences(_Strict):
    """Weights and threshold of two sequences, for studies that lack the third; tested on their own."""

    weights: dict[Contrast, float]
    threshold: float = Field(ge=0, le=1)
    patients: int = Field(ge=1)
    auc: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _consistent(self) -> TwoSequences:
        if len(self.weights) != _PAIR:
            raise ValueError("a two-sequence mode weighs exactly two sequences")
        _sum_to_one(self.weights)
        return self


class Evidence(_Strict):
    """What is known of the model's performance; the model card says the rest.

    Attributes
    ----------
    synthetic
        Whether the cohort was made, not scanned.
    development_patients, test_patients
        How many patients trained and chose, and how many were only tested.
    weights_chosen_on
        ``test`` is the patent's literal way [0085], which makes the test result optimistic.
    auc, auc_interval
        On the test patients, with the bounds of 95 %; None where not evaluated.
    """

    synthetic: bool
    development_patients: int = Field(ge=0)
    test_patients: int = Field(ge=0)
    weights_chosen_on: ChosenOn
    auc: float | None = Field(default=None, ge=0, le=1)
    auc_interval: tuple[float, float] | None = None


class Repeatability(_Strict):
    """How far scores of one head lie apart that should be one score, over heads that no network has seen.

    Attributes
    ----------
    heads
        How many.
    sd, largest
        Of the ensemble's score, over all perturbations (:mod:`models.perturbation`): root of the mean variance within
        a head, and the largest difference between two scores of one.
    sequences
        The same standard deviation of each sequence.
    place_sd, place_worst_sd
        Of the ensemble where the images stay as they are and grid and mask move: mean over the heads, and the largest.
    """

    heads: int = Field(ge=1)
    sd: float = Field(ge=0, le=1)
    largest: float = Field(ge=0, le=1)
    sequences: dict[Contrast, float]
    place_sd: float = Field(ge=0, le=1)
    place_worst_sd: float = Field(ge=0, le=1)


class DataFormat(_Strict):
    """One input or output of the networks, in MONAI's words; a spatial size may be a symbol."""

    type: str
    format: str
    num_channels: int = Field(ge=1)
    dtype: str
    spatial_shape: tuple[int | str, ...] = ()
    value_range: tuple[float, ...] = ()
    modality: str | None = None
    is_patch_data: bool = False
    channel_def: dict[str, str] = Field(default_factory=dict)


class NetworkDataFormat(_Strict):
    """Inputs and outputs of the networks by name, as ``network_data_format`` of MONAI bundles has them."""

    inputs: dict[str, DataFormat]
    outputs: dict[str, DataFormat]


class Metadata(_Strict):
    """Content of ``configs/metadata.json``."""

    name: str = Field(max_length=_LONGEST_NAME)
    version: str = Field(max_length=_LONGEST_NAME)
    notice: str = Field(min_length=1, max_length=120)
    intended_use: str = Field(min_length=1, max_length=_LONGEST_TEXT)
    architecture: Architecture
    grid: Grid
    intensity: Intensity
    weights: dict[Contrast, float]
    threshold: float = Field(ge=0, le=1)
    averaged_shifts: tuple[tuple[_Shift, _Shift, _Shift], ...] = Field(default=(), max_length=_MOST_SHIFTS)
    seed: int | None = Field(default=None, ge=0, le=_LARGEST_SEED)
    network_files: dict[Contrast, tuple[BundleFile, ...]] | None = None
    calibration: Calibration | None = None
    range: Range = Field(default_factory=Range)
    two_sequences: tuple[TwoSequences, ...] = ()
    evidence: Evidence | None = None
    repeatability: Repeatability | None = None

    task: str | None = None
    description: str | None = None
    authors: str | None = None
    copyright: str | None = None
    changelog: dict[str, str] | None = None
    monai_version: str | None = None
    pytorch_version: str | None = None
    numpy_version: str | None = None
    required_packages_version: dict[str, str] | None = None
    network_data_format: NetworkDataFormat | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Metadata:
        if set(self.weights) != set(Contrast):
            raise ValueError("weights must name T1W, T2W and FLAIR")
        _sum_to_one(self.weights)
        if (self.seed is None) == (self.network_files is None):
            raise ValueError("state either a seed or network_files")
        if self.network_files is not None:
            self._check_members(self.network_files)
        if len({frozenset(mode.weights) for mode in self.two_sequences}) != len(self.two_sequences):
            raise ValueError("two_sequences names a pair twice")
        if not (self.notice + self.intended_use).isascii():
            raise ValueError("notice and intended_use must be ASCII")
        return self

    @staticmethod
    def _check_members(files: dict[Contrast, tuple[str, ...]]) -> None:
        if set(files) != set(Contrast):
            raise ValueError("network_files must name T1W, T2W and FLAIR")
        if not {len(members) for members in files.values()} <= set(range(1, MEMBERS_MAX + 1)):
            raise ValueError(f"a sequence has 1 to {MEMBERS_MAX} networks")
        if len({len(members) for members in files.values()}) != 1:
            raise ValueError("every sequence has the same number of networks")
        if any(len(set(members)) != len(members) for members in files.values()):
            raise ValueError("a sequence names a network twice")

    @property
    def named_files(self) -> tuple[str, ...]:
        """Every file that the metadata names, each once."""
        networks = (name for members in (self.network_files or {}).values() for name in members)
        features = [self.range.features.file] if self.range.features else []
        return tuple(dict.fromkeys([*networks, *features]))


def _sum_to_one(weights: dict[Contrast, float]) -> None:
    if abs(sum(weights.values()) - 1) > _SUM_TOLERANCE or min(weights.values()) < 0:
        raise PydanticCustomError(WEIGHTS_SUM, "weights must be at least 0 and sum to 1")
