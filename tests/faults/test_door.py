"""Short versions of the fuzzing of PDUs and of the soak; the long ones are `pdu_fuzz` and `soak` themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.attacks import attacked_receiver
from tests.faults.load import ASSOCIATIONS_BAR_MB, BUSY, OBJECT_BAR_MB, TITLES, large_object, open_associations
from tests.faults.pdu_fuzz import conversations_of, fuzz
from tests.faults.soak import soak
from tests.support.services import STORESCU, require


@pytest.mark.measures
def test_mutated_pdus_crash_and_hang_nothing(tmp_path: Path):
    require(STORESCU)
    (tmp_path / "instances").mkdir()
    with attacked_receiver(tmp_path) as scene:
        conversations = conversations_of(scene, tmp_path / "instances")
        before_mb = scene.resident_mb()
        scene.forget_peak()
        sent = fuzz(scene, conversations, 120, seed=20261129)
        assert {"hang", "slow"} & set(sent.ends) == set()
        assert sent.pdus >= sent.conversations == 120
        assert scene.resident_mb("VmHWM") - before_mb < 48
        log = (tmp_path / "receiver.log").read_text("utf-8")
    assert "ended by a fault" not in log
    assert "thread failed" not in log


@pytest.mark.measures
def test_a_large_object_and_many_associations_cost_little(tmp_path: Path):
    with attacked_receiver(tmp_path, titles=TITLES, max_object_gb=4) as scene:
        one = large_object(scene, 2**27)
        many = open_associations(scene, 120, watch_s=2)
    assert one.grown_mb < OBJECT_BAR_MB
    assert many.grown_mb < ASSOCIATIONS_BAR_MB / 4
    assert many.cpu_share < BUSY


@pytest.mark.measures
def test_memory_and_descriptors_stay_flat_over_associations(tmp_path: Path):
    with attacked_receiver(tmp_path) as scene:
        looks = list(soak(scene, 160, 320, steps=4))
    assert looks[-1].resident_mb < 1.1 * looks[1].resident_mb
    assert looks[-1].descriptors <= looks[1].descriptors + 2
