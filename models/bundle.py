"""Open and verify a model bundle: MONAI bundle layout, SHA-256 of every file, no pickle.

A bundle is a folder::

    configs/metadata.json    what the model is, its grid, weights, threshold, notice and intended use
    docs/README.md           the model card
    models/*.safetensors     one file per sequence; absent in a bundle that states a seed instead
    LICENSE
    SHA256SUMS               of every other file, as sha256sum writes it

Nothing in a bundle is executed, and nothing is read before its digest has been checked.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

SHIPPED = Path(__file__).parent / "bundles"
CHECKSUMS = "SHA256SUMS"
Sequence = Literal["T1W", "T2W", "FLAIR"]
SEQUENCES: tuple[Sequence, ...] = ("T1W", "T2W", "FLAIR")


class ModelError(Exception):
    """A model that must not be used.

    Attributes
    ----------
    code
        Stable name of the reason.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Grid(_Strict):
    """The voxel grid that the networks expect; axes left to right, posterior to anterior, inferior to superior."""

    size_xyz: tuple[int, int, int]
    spacing_xyz_mm: tuple[float, float, float]
    centre: Literal["brain"]


class Architecture(_Strict):
    """Which network the weights belong to; equal shapes do not tell the strides apart."""

    name: Literal["EfficientNet3D-B0"]
    first_block_stride: Literal[1, 2]


class Intensity(_Strict):
    """How grey values become network input: clipped at percentiles inside the brain, then z-scored there."""

    clip_percentiles: tuple[float, float]


class Metadata(_Strict):
    """Content of ``configs/metadata.json``."""

    name: str
    version: str
    notice: str = Field(min_length=1, max_length=120)
    intended_use: str = Field(min_length=1)
    architecture: Architecture
    grid: Grid
    intensity: Intensity
    weights: dict[Sequence, float]
    threshold: float = Field(ge=0, le=1)
    seed: int | None = None
    network_files: dict[Sequence, str] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Metadata:
        if set(self.weights) != set(SEQUENCES):
            raise ValueError("weights must name T1W, T2W and FLAIR")
        if abs(sum(self.weights.values()) - 1) > 1e-9 or min(self.weights.values()) < 0:
            raise ValueError("weights must be at least 0 and sum to 1")
        if (self.seed is None) == (self.network_files is None):
            raise ValueError("state either a seed or network_files")
        if self.network_files is not None and set(self.network_files) != set(SEQUENCES):
            raise ValueError("network_files must name T1W, T2W and FLAIR")
        if not (self.notice + self.intended_use).isascii():
            raise ValueError("notice and intended_use must be ASCII")
        return self


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle.

    Attributes
    ----------
    folder
        Where it lies.
    metadata
        What it says of itself.
    digest
        SHA-256 of its checksum file, hence of all its files.
    """

    folder: Path
    metadata: Metadata
    digest: str

    def network_digest(self, sequence: Sequence) -> str:
        """Return the SHA-256 that identifies one sequence's weights; for seeded networks, of the seed's statement."""
        if self.metadata.network_files is None:
            statement = f"{self.metadata.architecture.model_dump_json()} {sequence} seed {self.network_seed(sequence)}"
            return hashlib.sha256(statement.encode()).hexdigest()
        return sha256(self.folder / self.metadata.network_files[sequence])

    def network_seed(self, sequence: Sequence) -> int:
        """Return the seed of one sequence's network; each sequence has its own."""
        assert self.metadata.seed is not None
        return self.metadata.seed + SEQUENCES.index(sequence)


def open_bundle(name_or_path: str | Path) -> Bundle:
    """Return the bundle of a name under ``models/bundles`` or of a path, verified.

    Raises
    ------
    ModelError
        ``bundle_missing``, ``bundle_changed`` (a file is absent, extra or differs from its SHA-256) or
        ``bundle_invalid`` (the metadata cannot be right).
    """
    shipped = SHIPPED / name_or_path
    folder = shipped if shipped.is_dir() else Path(name_or_path)
    if not (folder / "configs" / "metadata.json").is_file():
        raise ModelError("bundle_missing", f"There is no model bundle '{name_or_path}': name one or a folder.")
    digest = verify_checksums(folder, "bundle_changed")
    try:
        metadata = Metadata.model_validate(json.loads((folder / "configs" / "metadata.json").read_text("utf-8")))
    except (ValueError, ValidationError) as error:
        first = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
        raise ModelError("bundle_invalid", f"The metadata of bundle '{folder.name}' cannot be used: {first}.") from None
    return Bundle(folder, metadata, digest)


def verify_checksums(folder: Path, code: str) -> str:
    """Return the SHA-256 of a folder's checksum file after checking every file against it.

    Raises
    ------
    ModelError
        With `code`, if a file is missing, differs, or is not listed.
    """
    sums = folder / CHECKSUMS
    if not sums.is_file():
        raise ModelError(code, f"'{folder.name}' has no {CHECKSUMS}; install it again from a trusted copy.")
    listed: dict[str, str] = {}
    for line in sums.read_text("utf-8").splitlines():
        digest, _, name = line.partition("  ")
        listed[name] = digest
    present = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p != sums}
    for name in sorted(present | set(listed)):
        if name not in present or listed.get(name) != sha256(folder / name):
            raise ModelError(
                code, f"File '{name}' of '{folder.name}' is missing or not the one listed; install it again."
            )
    return sha256(sums)


def write_checksums(folder: Path) -> None:
    """Write the checksum file of a finished folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUMS)
    lines = [f"{sha256(p)}  {p.relative_to(folder)}\n" for p in files]
    (folder / CHECKSUMS).write_text("".join(lines), "utf-8")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
