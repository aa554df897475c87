"""The script that is to run once on a GPU: without one it says so, and its way is tried on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.benchmarks.gpu import NO_GPU, main


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2
    assert capsys.readouterr().err.strip() == NO_GPU


def test_a_dry_run_goes_the_way_of_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "found.json"
    assert main(["--dry-run", "--only", "ensemble", "--only", "brain", "--only", "memory", "--json", str(out)]) == 0
    found = json.loads(out.read_text("utf-8"))
    assert set(found["ensemble"]) == {"eager", "folded", "bfloat16"}
    assert found["ensemble"]["folded"]["logits_apart"] < 1e-4
    assert {name: costs["seconds"] > 0 for name, costs in found["brain"].items()} == {
        "embedded": True,
        "official size": True,
    }
    assert found["memory"] == {"left out": "only a GPU has memory of its own"}
    assert "a dry run" in capsys.readouterr().out
