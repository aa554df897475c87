"""What a bundle states beyond its networks: limits, pairs of sequences, and how MONAI builds a network of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets.efficientnet import EfficientNet
from safetensors.torch import load_file

from models.bundle import Metadata, open_bundle
from models.contrast import Contrast
from models.efficientnet3d import block_strings, efficientnet3d_b0
from models.training.bundling.assemble import whole_years
from models.training.bundling.pairs import choose_pairs
from models.training.bundling.write_bundle import inference
from models.training.cohort import INCLUDED, Case
from models.training.evaluation.predictions import Predictions
from models.training.fit.checkpoint import save_network

BASE = open_bundle("untrained-demo").metadata
PAIRS = (("T1W", "T2W"), ("T1W", "FLAIR"), ("T2W", "FLAIR"))


def metadata(**facts: object) -> Metadata:
    files = {sequence: ["models/all.safetensors"] for sequence in Contrast}
    evidence = {"synthetic": True, "development_patients": 30, "test_patients": 12, "weights_chosen_on": "out_of_fold"}
    pairs = [{"weights": dict.fromkeys(p, 0.5), "threshold": 0.5, "patients": 30, "auc": 0.5} for p in PAIRS]
    content = {"network_files": files, "seed": None, "evidence": evidence, "two_sequences": pairs, **facts}
    return Metadata.model_validate(BASE.model_dump() | content)


def out_of_fold() -> Predictions:
    """Return scores of twelve patients in two folds, of which only those of T1W tell anything."""
    cases = tuple(Case(f"{n:012x}", f"P{n}", n % 2, INCLUDED) for n in range(12))
    labels = np.array([case.label for case in cases])
    random = np.random.default_rng(0)
    # In T2W and FLAIR one half of either class is high: an AUC of a half at most.
    nothing = {s: np.arange(12) // 2 % 2 * 0.01 + random.random(12) * 1e-6 for s in (Contrast.T2W, Contrast.FLAIR)}
    scores = {Contrast.T1W: labels * 0.5 + random.random(12) * 0.1, **nothing}
    return Predictions(cases, scores, np.repeat([0, 1], 6))


def test_a_pair_that_is_no_better_than_chance_out_of_fold_is_dropped_and_named():
    found = choose_pairs(out_of_fold())
    assert [tuple(pair.weights) for pair in found.kept] == [("T1W", "T2W"), ("T1W", "FLAIR")]
    assert [(pair.auc, pair.patients) for pair in found.kept] == [(1.0, 12), (1.0, 12)]
    assert list(found.dropped) == ["T2W + FLAIR"]
    dropped = found.dropped["T2W + FLAIR"]
    assert dropped.low is None or dropped.low <= 0.5


@pytest.mark.parametrize(
    ("ages", "expected"),
    [([1.4, 7.2], (1, 8)), ([3.0, 3.0], (3, 4)), ([3.5, 3.5], (3, 4)), ([0.2, 12.0], (0, 12))],
)
def test_ages_range_overwhole_years(ages: list[float], expected: tuple[int, int]):
    assert whole_years(ages) == expected


@pytest.mark.parametrize("stride", [1, 2])
def test_monai_builds_the_network_that_the_bundle_describes(stride: int, tmp_path: Path):
    described = BASE.architecture.model_copy(update={"first_block_stride": stride})
    said = inference(metadata().model_copy(update={"architecture": described}))
    assert said["first_block_stride"] == stride
    assert said["network_def"]["blocks_args_str"] == block_strings(stride)
    network = ConfigParser({"network_def": said["network_def"]}).get_parsed_content("network_def")
    assert isinstance(network, EfficientNet)
    ours = efficientnet3d_b0(stride, seed=1)
    save_network(tmp_path / "network.safetensors", ours, half=False)
    network.load_state_dict(load_file(tmp_path / "network.safetensors"))
    volume = torch.randn(1, 1, 64, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(volume), ours.eval()(volume))


def test_strides_that_do_not_exist_have_no_blocks():
    with pytest.raises(ValueError, match="must be 1 or 2"):
        block_strings(3)
