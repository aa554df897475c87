"""How a bundle is trained; the defaults are the patent's (CN114170162A [0061], [0081]-[0082]) where it states them.

The checks are not pydantic's: a dataclass of its own raises before it could refuse with our code and sentence, and the
rules about two choices at once would stay as long as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

from models.averaging import SHIFTS
from models.bundle import MEMBERS_MAX, ModelError, sha256
from models.training.bundling.fit_calibration import Method

PATENT_OPERATIONS: Final = ("crop", "rotation", "flip")
"""The augmentations that the patent names ([0061])."""
OPERATIONS: Final = (*PATENT_OPERATIONS, "shift")
TEST_SHARE_MAX: Final = 0.5
"""Beyond it more patients would test than train."""
# What is only decided once the networks are trained; it may change without training again.
_AFTERWARDS: Final = frozenset(
    {
        "calibrate", "features_action", "loss_threshold", "members", "name", "reproduce_patent_selection",
        "two_sequences", "version",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recipe:
    """Choices of a training.

    Attributes
    ----------
    name, version
        Of the bundle.
    epochs, learning_rate, batch
        100 epochs of Adam at 0.001 ([0081]); the patent states no batch size.
    folds, test_share, seed
        Parts of the development patients, share of all patients set aside first, and start of every random draw. The
        share is rounded to one of 1/k (0.4 becomes 1/2); the record and the model card state what was set aside.
    first_block_stride
        Of the network; see `models.efficientnet3d`.
    shared
        One network for all sequences ([0065]) instead of one for each.
    members
        ``folds``: the bundle holds the network of every fold and averages them; ``refit``: one network, trained anew
        on all development patients for the median of the folds' steps.
    start
        Weights to begin with, as `models.inflate` writes them; None: random.
    augmentation
        Which of crop, rotation, flip and shift; empty: none.
    placement
        Every sample, the original too, is moved by parts of a voxel, turned by a few degrees, and its border moved by
        up to a voxel: what must not change a score, and what the patent does not do.
    averaged
        Over how many shifts of a voxel a score is averaged, 1, 2, 4 or 8; what a reading costs grows as much.
    mr
        Also draws a bias field, noise and a gamma for every copy but the original.
    copies
        Samples of each image in an epoch: the original, and copies that each had one of the augmentations. Four are
        the patent's.
    network_loss
        Training of a network ends once its mean loss of an epoch is at most this; None: never. The last networks,
        trained on all, then take as many steps as the others did, whatever their loss.
    loss_threshold
        Of the ensemble (claim 7): the record says whether its log-loss is at most this. It ends nothing.
    patience
        Training ends after so many epochs without a smaller loss on the fold left out, and the best epoch is kept;
        None: all epochs, and the last is kept.
    mixed_precision
        bfloat16 where it is safe: ``auto`` on a GPU only, since on a CPU the backward pass loses what the forward
        pass gains; ``on`` also on a CPU; ``off``.
    half
        Weights are stored in half precision.
    calibrate
        Fit a calibration of the score on out-of-fold scores.
    two_sequences
        Also weigh every pair of sequences, for studies that lack the third; those that tell development patients
        apart no better than by chance are dropped.
    reproduce_patent_selection
        Choose the weights on the test patients, as [0085] does it; the test result is optimistic then.
    shuffle_labels
        A control run: labels are exchanged between patients before anything else.
    features_action
        What a study outside the feature space gets.

    Raises
    ------
    ModelError
        ``recipe_invalid`` if a value cannot be right.
    """

    name: str = "wae-net"
    version: str = "1.0.0"
    epochs: int = 100
    learning_rate: float = 1e-3
    batch: int = 4
    folds: int = 5
    test_share: float = 0.2
    seed: int = 0
    first_block_stride: Literal[1, 2] = 2
    shared: bool = False
    members: Literal["folds", "refit"] = "folds"
    start: Path | None = None
    augmentation: tuple[str, ...] = PATENT_OPERATIONS
    placement: bool = True
    mr: bool = False
    copies: int = 4
    network_loss: float | None = None
    loss_threshold: float | None = None
    patience: int | None = None
    mixed_precision: Literal["auto", "on", "off"] = "auto"
    half: bool = True
    averaged: int = 4
    calibrate: Method | None = None
    two_sequences: bool = False
    reproduce_patent_selection: bool = False
    shuffle_labels: bool = False
    features_action: Literal["flag", "withhold"] = "flag"

    def __post_init__(self) -> None:
        for wrong in self._faults():
            raise ModelError("recipe_invalid", f"The training cannot start: {wrong}.")

    @property
    def stated_start(self) -> str | None:
        """Name and digest of the weights to begin with; None where they are random."""
        return None if self.start is None else f"{self.start.name} (SHA-256 {sha256(self.start)})"

    def as_json(self) -> dict[str, Any]:
        """Return the choices as JSON values; weights to begin with by name and digest, not by their path."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"start": self.stated_start, "augmentation": list(self.augmentation)}

    def networks_json(self) -> dict[str, Any]:
        """Return the choices that the trained networks depend on."""
        return {name: value for name, value in self.as_json().items() if name not in _AFTERWARDS}

    def _faults(self) -> Iterator[str]:
        for name, lowest in (("epochs", 1), ("batch", 2), ("folds", 2), ("seed", 0), ("copies", 1)):
            if getattr(self, name) < lowest:
                yield f"{name} is {getattr(self, name)}, and {lowest} is the least"
        if self.folds > MEMBERS_MAX:
            yield f"folds is {self.folds}, and {MEMBERS_MAX} is the most"
        for name in ("learning_rate", "network_loss", "loss_threshold"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                yield f"{name} is {value}, and must be above 0"
        if not 0 < self.test_share <= TEST_SHARE_MAX:
            yield f"test_share is {self.test_share}, and must be above 0 and at most {TEST_SHARE_MAX}"
        if self.patience is not None and self.patience < 1:
            yield f"patience is {self.patience}, and 1 is the least"
        yield from self._wrong_words()

    def _wrong_words(self) -> Iterator[str]:
        choices = {
            "first_block_stride": (1, 2), "members": ("folds", "refit"), "mixed_precision": ("auto", "on", "off"),
            "calibrate": (None, "temperature", "platt"), "features_action": ("flag", "withhold"),
            "averaged": tuple(SHIFTS),
        }  # fmt: skip
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                yield f"{name} is {getattr(self, name)!r}, and must be one of {', '.join(map(str, allowed))}"
        if not set(self.augmentation) <= set(OPERATIONS) or len(set(self.augmentation)) < len(self.augmentation):
            yield f"augmentation is {self.augmentation}, and takes each of {', '.join(OPERATIONS)} once at most"
        if self.copies > 1 and not self.augmentation and not self.mr:
            yield f"copies is {self.copies}, but without augmentation they would be equal; set copies to 1"
        if self.start is not None and not self.start.is_file():
            yield f"there is no file {self.start} to start from"
        if not self.name or not self.version:
            yield "the bundle needs a name and a version"
