"""Train one network: the unit of work of a training, resumed after every epoch.

Everything random in an epoch is drawn anew from the seed, the job and the epoch's number, so that an epoch begun from
its checkpoint after an interruption is the epoch that would have been. On a CPU, with the same number of threads, the
weights are then equal bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F

from models.averaging import SHIFTS, shifted
from models.bundle import ModelError
from models.contrast import Contrast
from models.efficientnet3d import efficientnet3d_b0
from models.inference import for_inference, full_float32, read
from models.training.cohort import Case, Cohort
from models.training.fit.checkpoint import Progress, load_progress, save_network, save_progress
from models.training.fit.job_result import Ended, JobResult, finished, write_result
from models.training.fit.recipe import Recipe
from models.training.fit.samples import Batch, Samples, divided
from models.training.fit.training_log import Epoch, write_log
from models.wae_net import load_network
from models.whole_files import drop_unfinished, make_folder

NETWORK: Final = "network.safetensors"
CHECKPOINT: Final = "checkpoint.pt"
SHARED: Final = "shared"
_VALIDATIONS: Final = 20
"""How often a network is judged on the fold left out where nothing depends on it."""
_LOADER_WORKERS: Final = 6
"""Processes that augment for one GPU."""
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One network to train.

    Attributes
    ----------
    name
        Of its folder and its weights file.
    contrasts
        Whose images it sees: one, or all for a shared network ([0065]).
    fold
        Which fold is left out; the number of folds where none is.
    training, validation
        Cases that train, and cases of the fold left out; the latter are empty where none is.
    epochs
        At most so many.
    steps
        Exactly so many, in the last epoch over a part of the samples; None: all of the epochs, unless the losses end
        them before.
    """

    name: str
    contrasts: tuple[Contrast, ...]
    fold: int
    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    epochs: int
    steps: int | None = None

    @property
    def group(self) -> str:
        """The contrast that the network is for, or ``shared``."""
        return group_name(self.contrasts)


def group_name(contrasts: tuple[Contrast, ...]) -> str:
    """Return what a network is for, as files and plots name it.

    Parameters
    ----------
    contrasts
        One, or all for a shared network.

    Returns
    -------
    str
        The contrast, or ``shared``.
    """
    return contrasts[0] if len(contrasts) == 1 else SHARED


def fit(job: Job, cohort: Cohort, recipe: Recipe, folder: Path, device: torch.device, tell: Tell) -> None:
    """Train a network, or go on with it, and write its weights, its log and its scores of the fold left out.

    Parameters
    ----------
    job, cohort, recipe
        What to train, on what, and how.
    folder
        Of this job alone; made if missing. Nothing is done if it holds a finished job.
    device
        Where the network is trained.
    tell
        Takes a line about each epoch.

    Raises
    ------
    ModelError
        ``training_diverged`` if the loss is not finite; what `load_network` and `Cohort.tensor` raise.
    """
    if finished(folder):
        return
    make_folder(folder)
    drop_unfinished(folder)
    with torch.random.fork_rng():
        training = _Training(job, cohort, recipe, device)
        progress = load_progress(folder / CHECKPOINT)
        if progress is not None:
            training.restore(progress)
            tell(f"{job.name}: going on after epoch {training.epoch}")
        while training.ended is None:
            training.run_epoch()
            save_progress(folder / CHECKPOINT, training.progress())
            write_log(folder / "log.csv", training.history)
            tell(f"{job.name}: {training.history[-1].sentence(job.epochs)}")
        _finish(training, folder)


class _Training:
    """A network on its way through the epochs."""

    def __init__(self, job: Job, cohort: Cohort, recipe: Recipe, device: torch.device) -> None:
        self.job, self.recipe = job, recipe
        self.device, self._cohort = device, cohort
        self.network = _start(job, recipe).to(device)
        self._optimiser = torch.optim.Adam(self.network.parameters(), lr=recipe.learning_rate)
        self._precision = autocast_dtype(recipe, device)
        self._workers = _LOADER_WORKERS if device.type == "cuda" else 0
        self.history: list[Epoch] = []
        self._best: dict[str, torch.Tensor] | None = None

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.history)

    @property
    def kept_epoch(self) -> int:
        """The epoch whose weights count, from 1: the best if there is patience, else the last."""
        if self.recipe.patience is None or not self.job.validation:
            return self.epoch
        losses = [epoch.validation_loss for epoch in self.history]
        return 1 + min(range(len(losses)), key=lambda number: losses[number] or 0.0)

    @property
    def ended(self) -> Ended | None:
        """What ended the training; None while it goes on."""
        if self.job.steps is not None:
            return Ended.EPOCHS if self.epoch >= self.job.epochs else None
        threshold, patience = self.recipe.network_loss, self.recipe.patience
        if self.history and threshold is not None and self.history[-1].training_loss <= threshold:
            return Ended.NETWORK_LOSS
        if self.history and patience is not None and self.epoch - self.kept_epoch >= patience:
            return Ended.PATIENCE
        return Ended.EPOCHS if self.epoch >= self.job.epochs else None

    def run_epoch(self) -> None:
        """Train for an epoch, and judge the network on the fold left out where that is due."""
        began = time.monotonic()
        number = self.epoch
        drawn = np.random.default_rng([self.recipe.seed, self.job.fold, _index(self.job), number])
        torch.manual_seed(int(drawn.integers(2**63)))
        samples = self._samples(self.job.training, number, self.recipe.copies)
        done = number * steps_of(self.job, self.recipe)
        batches = samples.batches(drawn.permutation(len(samples)), self._workers)
        loss = self._descend(islice(batches, None if self.job.steps is None else self.job.steps - done))
        self.history.append(Epoch(number + 1, loss, None, None, 0.0))
        validation_loss, auc = self._judge() if self.ended or self._due(number) else (None, None)
        self.history[-1] = Epoch(number + 1, loss, validation_loss, auc, time.monotonic() - began)
        if self.recipe.patience is not None and self.job.validation and self.kept_epoch == self.epoch:
            self._best = {name: value.clone() for name, value in self.network.state_dict().items()}

    def keep(self) -> nn.Module:
        """Return the network with the weights that count, in evaluation mode."""
        if self._best is not None:
            self.network.load_state_dict(self._best)
        return self.network.eval()

    def scores(self, network: nn.Module) -> dict[Contrast, dict[str, float]]:
        """Return the scores of the fold left out by contrast and case."""
        return {
            contrast: {
                case.case: score
                for case, score in zip(self.job.validation, self._scores(network, contrast), strict=True)
            }
            for contrast in self.job.contrasts
        }

    def progress(self) -> Progress:
        """Return all that going on needs."""
        return Progress(self.network.state_dict(), self._optimiser.state_dict(), self.history, self._best)

    def restore(self, progress: Progress) -> None:
        """Go back to where a checkpoint was written."""
        self.network.load_state_dict(progress.network)
        self._optimiser.load_state_dict(progress.optimiser)
        self.history, self._best = progress.history, progress.best

    def _samples(self, cases: tuple[Case, ...], epoch: int, copies: int, *, as_they_are: bool = False) -> Samples:
        return Samples(
            self._cohort, cases, self.job.contrasts, self.recipe, fold=self.job.fold, epoch=epoch, copies=copies,
            as_they_are=as_they_are,
        )  # fmt: skip

    def _descend(self, batches: Iterable[Batch]) -> float:
        self.network.train()
        total, count = 0.0, 0
        for images, labels in self._moved(batches):
            self._optimiser.zero_grad(set_to_none=True)
            loss = F.binary_cross_entropy_with_logits(self._forward(self.network, images), labels)
            loss.backward()
            self._optimiser.step()
            total, count = total + loss.item() * len(labels), count + len(labels)
        return self._finite(total) / count

    def _due(self, number: int) -> bool:
        every = 1 if self.recipe.patience is not None else max(1, self.job.epochs // _VALIDATIONS)
        return bool(self.job.validation) and (number + 1) % every == 0

    def _judge(self) -> tuple[float | None, float | None]:
        """Settle batch normalisation and return loss and AUC on the fold left out, if one is."""
        self._settle()
        if not self.job.validation:
            return None, None
        logits = torch.cat([self._logits(self.network, contrast) for contrast in self.job.contrasts])
        labels = torch.tensor([float(case.label or 0) for case in self.job.validation] * len(self.job.contrasts))
        loss = self._finite(float(F.binary_cross_entropy_with_logits(logits, labels.double())))
        return loss, float(roc_auc_score(labels, logits))

    @torch.no_grad()
    def _settle(self) -> None:
        """Take the statistics of batch normalisation anew from the training images as they are.

        EfficientNet's running averages forget 1 % a step: after the few steps of a small cohort they still hold the
        initial values. Averages over one pass with fixed weights have no lag at all (Wu and Johnson, arXiv
        2105.07576), and training itself does not use them.
        """
        norms = [module for module in self.network.modules() if isinstance(module, nn.BatchNorm3d)]
        momenta = [norm.momentum for norm in norms]
        self.network.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.train().momentum = None
        samples = self._samples(self.job.training, 0, copies=1, as_they_are=True)
        order = np.random.default_rng(self.recipe.seed).permutation(len(samples))
        for images, _ in self._moved(samples.batches(order, 0)):
            self._forward(self.network, images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.eval().momentum = momentum

    @torch.inference_mode()
    @full_float32()
    def _logits(self, network: nn.Module, contrast: Contrast) -> torch.Tensor:
        """Return logits of the fold left out, float64 (n,), one image at a time as the node does."""
        network.eval()
        images = (torch.from_numpy(self._cohort.tensor(case, contrast)) for case in self.job.validation)
        logits = [network(image[None, None].to(self.device))[0, 0].double().cpu() for image in images]
        return torch.stack(logits) if logits else torch.empty(0, dtype=torch.float64)

    @torch.inference_mode()
    @full_float32()
    def _scores(self, network: nn.Module, contrast: Contrast) -> Iterator[float]:
        """Yield the scores of the fold left out, averaged over shifts as the node does."""
        reading = for_inference(network, self.device)
        for case in self.job.validation:
            image = torch.from_numpy(self._cohort.tensor(case, contrast))[None, None].to(self.device)
            logits = torch.cat([read(reading, place)[0] for place in shifted(image, SHIFTS[self.recipe.averaged])])
            yield float(torch.sigmoid(logits.double()).mean())

    def _forward(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, self._precision, enabled=self._precision is not None):
            logits: torch.Tensor = network(images)
        return logits[:, 0].float()

    def _finite(self, loss: float) -> float:
        if not np.isfinite(loss):
            raise ModelError(
                "training_diverged", f"The loss of {self.job.name} is not finite: use a lower learning rate."
            )
        return loss

    def _moved(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for images, labels in batches:
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


def steps_of(job: Job, recipe: Recipe) -> int:
    """Return how many steps an epoch has.

    Parameters
    ----------
    job, recipe
        What is trained, and how.
    """
    samples = len(job.training) * len(job.contrasts) * recipe.copies
    return len(divided(np.arange(samples), recipe.batch))


def autocast_dtype(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """Return the type that passes are computed in besides float32; None for float32 alone.

    bfloat16 has the range of float32, so that no loss need be scaled.

    Parameters
    ----------
    recipe
        Its `mixed_precision` decides.
    device
        Where the network is trained.
    """
    if recipe.mixed_precision == "off":
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    return torch.bfloat16 if recipe.mixed_precision == "on" else None


def _start(job: Job, recipe: Recipe) -> nn.Module:
    if recipe.start is not None:
        return load_network(recipe.start, recipe.first_block_stride)
    drawn = int(np.random.SeedSequence([recipe.seed, job.fold, _index(job)]).generate_state(1)[0])
    network = efficientnet3d_b0(recipe.first_block_stride, drawn)
    # MONAI draws the last layer by its single output, from -1 to 1: logits of 1280 features begin beyond 10 then
    # (no upstream issue known).
    last = network.get_submodule("_fc")
    assert isinstance(last, nn.Linear)
    reach = last.in_features**-0.5
    nn.init.uniform_(last.weight, -reach, reach, generator=torch.Generator().manual_seed(drawn))
    return network


def _index(job: Job) -> int:
    return tuple(Contrast).index(job.contrasts[0]) if len(job.contrasts) == 1 else len(tuple(Contrast))


def _finish(training: _Training, folder: Path) -> None:
    """Write weights and scores, then the result that says so, and only then drop the checkpoint."""
    recipe = training.recipe
    save_network(folder / NETWORK, training.keep(), half=recipe.half)
    # The scores are those of the weights that the bundle will hold, after rounding.
    stored = load_network(folder / NETWORK, recipe.first_block_stride).to(training.device)
    assert training.ended is not None
    steps = training.job.steps or training.kept_epoch * steps_of(training.job, recipe)
    result = JobResult(training.kept_epoch, training.ended, tuple(training.history), training.scores(stored), steps)
    write_result(folder, result)
    (folder / CHECKPOINT).unlink(missing_ok=True)
