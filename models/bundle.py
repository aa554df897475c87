"""Open and verify a model bundle: MONAI bundle layout, SHA-256 of every file, no pickle.

A bundle is a folder::

    configs/metadata.json    what the model is, its grid, weights, threshold, notice and intended use
    configs/inference.json   how MONAI would run a network; absent in a bundle that states a seed
    configs/training.json    how and on whom the networks were trained; absent in a bundle that was not
    docs/README.md           the model card
    models/*.safetensors     one file per contrast and fold, or one shared by all contrasts; absent in a bundle that
                             states a seed instead
    LICENSE
    SHA256SUMS               of every other file, as sha256sum writes it

More files may lie in it. Nothing in a bundle is executed, and nothing is read before its digest has been checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from models.bounded_json import MOST_BYTES, read_json
from models.bundle_metadata import (
    MEMBERS_MAX,
    WEIGHTS_SUM,
    Action,
    Architecture,
    Calibration,
    Check,
    ChosenOn,
    Evidence,
    FeatureSpace,
    Grid,
    Intensity,
    Metadata,
    Range,
    Repeatability,
    TwoSequences,
)
from models.contrast import Contrast
from models.whole_files import OWNER_ALONE, write_whole

__all__ = [
    "MEMBERS_MAX",
    "Action",
    "Architecture",
    "Bundle",
    "Calibration",
    "Check",
    "ChosenOn",
    "Evidence",
    "FeatureSpace",
    "Grid",
    "Intensity",
    "Metadata",
    "ModelError",
    "Range",
    "Repeatability",
    "TwoSequences",
    "bundle_folder",
    "open_bundle",
    "sha256",
    "shipped_bundles",
    "verify_checksums",
    "write_checksums",
]

SHIPPED = Path(__file__).parent / "bundles"
CHECKSUMS = "SHA256SUMS"
METADATA: Final = "configs/metadata.json"
INFERENCE: Final = "configs/inference.json"
TRAINING: Final = "configs/training.json"
_ALWAYS: Final = (METADATA, "docs/README.md", "LICENSE")

_PICKLES: Final = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib"})
_PICKLE_STARTS: Final = (b"\x80", b"PK")
"""Of a pickle and of torch's zip archive; a safetensors file may begin so too, with the length of its header."""

_MATRIX: Final = 2
"""Dimensions of axes: (k, C)."""
_MOST_FEATURES: Final = 4096
"""Of k and C; EfficientNet-B0 pools 1280."""
_STATE_DICT: Final = {"EfficientNet3D-B0": "9f00d0567dbd8c118e02d3004bf11783a4f47dd5a0c7661220db5867a6744366"}
"""SHA-256 of names and shapes of a network's tensors, so that no network need be built to refuse a file."""


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


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle.

    Attributes
    ----------
    folder
        Where it lies.
    metadata
        What it states about itself.
    digest
        SHA-256 of its checksum file, hence of all its files.
    file_digests
        SHA-256 of each file as it was verified; what lies in the folder later does not count.
    """

    folder: Path
    metadata: Metadata
    digest: str
    file_digests: Mapping[str, str] = field(default_factory=dict)

    def network_digest(self, contrast: Contrast) -> str:
        """Return the SHA-256 that identifies one contrast's weights.

        Of one network that of its file, of several one over theirs in the order of the folds, of a seeded network one
        over the statement of its seed.

        Parameters
        ----------
        contrast
            Whose weights.

        Returns
        -------
        str
            64 lower-case hexadecimal digits.
        """
        files = self.metadata.network_files
        if files is None:
            statement = f"{self.metadata.architecture.model_dump_json()} {contrast} seed {self.network_seed(contrast)}"
            return hashlib.sha256(statement.encode()).hexdigest()
        digests = [self.file_digests[name] for name in files[contrast]]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def network_seed(self, contrast: Contrast) -> int:
        """Return the seed of one contrast's network, in a bundle that states a seed; each contrast has its own.

        Parameters
        ----------
        contrast
            Whose network.
        """
        assert self.metadata.seed is not None
        return self.metadata.seed + tuple(Contrast).index(contrast)


def open_bundle(name_or_path: str | Path) -> Bundle:
    """Return the bundle of a name under ``models/bundles`` or of a path, verified.

    Parameters
    ----------
    name_or_path
        Name of a folder in ``models/bundles``, or path of a bundle's folder; the name wins.

    Raises
    ------
    ModelError
        ``bundle_missing`` (no bundle there), ``bundle_pickle`` (a file that could run code), ``bundle_file_missing``,
        ``bundle_changed`` (a file is not listed, or differs from its SHA-256), ``architecture_unknown``,
        ``ensemble_weights_invalid``, ``bundle_invalid`` (the metadata cannot be right otherwise), ``weights_unfit`` (a
        file does not hold the networks' tensors) or ``feature_space_unfit``.
    """
    folder = bundle_folder(name_or_path)
    if not (folder / METADATA).is_file():
        names = ", ".join(shipped_bundles())
        raise ModelError(
            "bundle_missing", f"There is no model bundle '{name_or_path}': name {names}, or the folder of another."
        )
    _refuse_pickles(folder)
    sums = folder / CHECKSUMS
    listed = _listed(_read_sums(sums, "bundle_changed")) if sums.is_file() else ()
    _require(folder, [*_ALWAYS, *listed])
    digest, file_digests = _verified(folder, "bundle_changed")
    metadata = _metadata(folder)
    if metadata.network_files is not None:
        _require(folder, [INFERENCE, *metadata.named_files])
        _read_json(folder, INFERENCE)
    for name in dict.fromkeys(name for files in (metadata.network_files or {}).values() for name in files):
        _check_network(folder, name, metadata.architecture)
    if metadata.range.features is not None:
        _require(folder, metadata.named_files)
        _check_feature_space(folder, metadata.range.features.file)
    return Bundle(folder, metadata, digest, file_digests)


def bundle_folder(name_or_path: str | Path) -> Path:
    """Return where the bundle of a name or a path lies, whether or not it is one."""
    shipped = SHIPPED / name_or_path
    return shipped if shipped.is_dir() else Path(name_or_path)


def shipped_bundles() -> list[str]:
    """Return the names of the bundles that ship."""
    return [file.parents[1].name for file in sorted(SHIPPED.glob(f"*/{METADATA}"))]


def verify_checksums(folder: Path, code: str) -> str:
    """Return the SHA-256 of a folder's checksum file after checking every file against it.

    Parameters
    ----------
    folder
        With a checksum file.
    code
        Of the error.

    Raises
    ------
    ModelError
        With `code`, if a file is missing, differs, or is not listed.
    """
    return _verified(folder, code)[0]


def _verified(folder: Path, code: str) -> tuple[str, dict[str, str]]:
    """Return the SHA-256 of the checksum file and those that it lists, all from one reading of it."""
    sums = folder / CHECKSUMS
    if not sums.is_file():
        raise ModelError(code, f"'{folder.name}' has no {CHECKSUMS}; install it again from a trusted copy.")
    content = _read_sums(sums, code)
    listed = _listed(content)
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p != sums}
    for name in sorted(present | set(listed)):
        if name not in present or listed.get(name) != sha256(folder / name):
            raise ModelError(
                code, f"File '{name}' of '{folder.name}' is missing or not the one listed; install it again."
            )
    return hashlib.sha256(content).hexdigest(), listed


def _read_sums(sums: Path, code: str) -> bytes:
    if sums.stat().st_size > MOST_BYTES:
        raise ModelError(code, f"{CHECKSUMS} of '{sums.parent.name}' lists more files than any model has.")
    return sums.read_bytes()


def write_checksums(folder: Path, permissions: int = OWNER_ALONE) -> None:
    """Write the checksum file of a finished folder.

    Parameters
    ----------
    folder
        Every file in it is listed, by its path in POSIX form.
    permissions
        Of the checksum file.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUMS)
    lines = [f"{sha256(p)}  {p.relative_to(folder).as_posix()}\n" for p in files]
    write_whole(folder / CHECKSUMS, "".join(lines).encode(), permissions)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in lower-case hexadecimal digits.

    Parameters
    ----------
    path
        Of a file that is there.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _listed(content: bytes) -> dict[str, str]:
    lines = (line.partition("  ") for line in content.decode("utf-8", "replace").splitlines())
    return {name: digest for digest, _, name in lines}


def _refuse_pickles(folder: Path) -> None:
    """Refuse a file that torch or another library would unpickle, whatever its name says."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            start = file.read(2)
        if path.suffix.lower() in _PICKLES or (start.startswith(_PICKLE_STARTS) and not _tensors(path)):
            name = path.relative_to(folder).as_posix()
            raise ModelError(
                "bundle_pickle",
                f"'{name}' of '{folder.name}' is a pickle or an archive, which may run code: do not use it.",
            )


def _require(folder: Path, names: list[str] | tuple[str, ...]) -> None:
    """Refuse a bundle that lacks a file, or where a name leads out of it through a link."""
    for name in names:
        path = folder / name
        if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            raise ModelError(
                "bundle_file_missing", f"File '{name}' of '{folder.name}' is not there: install the whole bundle again."
            )


def _metadata(folder: Path) -> Metadata:
    try:
        return Metadata.model_validate(_read_json(folder, METADATA))
    except ValidationError as error:
        first = error.errors()[0]
    where, what = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    sentence = f"The metadata of bundle '{folder.name}' cannot be used: {where and f'{where}: '}{what}."
    if first["loc"][:1] == ("architecture",):
        raise ModelError("architecture_unknown", sentence)
    if first["type"] == WEIGHTS_SUM:
        raise ModelError("ensemble_weights_invalid", sentence)
    raise ModelError("bundle_invalid", sentence)


def _read_json(folder: Path, name: str) -> Mapping[str, Any]:
    try:
        content = read_json(folder / name)
    except ValueError as error:
        content = error
    if not isinstance(content, dict):
        raise ModelError("bundle_invalid", f"File '{name}' of '{folder.name}' is not a JSON object.")
    return content


def _check_network(folder: Path, name: str, architecture: Architecture) -> None:
    tensors = _tensors(folder / name)
    listed = "\n".join(sorted(f"{tensor} {shape}" for tensor, shape in tensors.items()))
    if hashlib.sha256(listed.encode()).hexdigest() != _STATE_DICT[architecture.name]:
        raise ModelError(
            "weights_unfit", f"'{name}' of '{folder.name}' does not contain the tensors of {architecture.name}."
        )


def _check_feature_space(folder: Path, name: str) -> None:
    tensors = _tensors(folder / name)
    for contrast in Contrast:
        axes = tensors.get(f"{contrast}.axes", ())
        fits = len(axes) == _MATRIX and tensors.get(f"{contrast}.mean") == axes[1:]
        fits = fits and max(axes) <= _MOST_FEATURES
        if not fits or tensors.get(f"{contrast}.variances") != axes[:1] or not axes[0]:
            raise ModelError("feature_space_unfit", f"'{name}' of '{folder.name}' does not contain axes of {contrast}.")


def _tensors(path: Path) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a file's tensors; nothing but its header is read. None of a file that is none."""
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return {}
