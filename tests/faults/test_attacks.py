"""What an attack on the DICOM port may cost, while another peer is served; the long version is `attacks` itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.attacks import ATTACKS, Scene, attacked_receiver, endure
from tests.support.services import wait_for

OUTCOMES = {
    "length_of_four_gigabytes": "aborted after ",
    "many_idle_connections": "136 of 200 gave way",
    "twenty_thousand_contexts": "aborted (6)",
    "dripping_request": "waited for",
    "stalled_associations": "64 open, the next rejected (2)",
    "stalled_within_a_pdu": "waited for",
    "deflate_bomb": "1.2 MB sent, status A900H",
    "deflate_bomb_in_pixels": "1.2 MB sent, status 0000H",
    "object_too_large": "status C001H, nothing is left",
    "endless_data_set": "aborted (0) after ",
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with attacked_receiver(tmp_path_factory.mktemp("attacked")) as scene:
        yield scene


@pytest.mark.measures
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_costs_little_and_holds_nobody_else_up(scene: Scene, name: str):
    found = endure(scene, ATTACKS[name])
    assert found.outcome.startswith(OUTCOMES[name])
    assert "something is left" not in found.outcome
    assert found.grown_mb < 48
    assert found.cpu_s < 2
    assert found.threads < 70
    assert found.answers > 0
    assert found.slowest_s < 5


@pytest.mark.measures
def test_the_threads_of_attackers_end(scene: Scene):
    for name in ("many_idle_connections", "stalled_associations"):
        endure(scene, ATTACKS[name])
    wait_for(lambda: scene.threads() <= scene.quiet_threads, 30, "the end of their threads")
