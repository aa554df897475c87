"""The first day of an administrator in the short form: all is real but the reading, which takes moments."""

from __future__ import annotations

from pathlib import Path

from tests.faults.crash import make_study
from tests.support.services import ORTHANC, STORESCU, require
from tests.viewers.chromium import CHROMIUM
from tests.viewers.first_day import FIRST, day, live_through


def test_an_administrator_gets_through_the_first_day_by_the_keyboard(tmp_path: Path):
    require(CHROMIUM, ORTHANC, STORESCU)
    with day(tmp_path, "tests.faults.quick_node") as the:
        live_through(the, make_study(tmp_path / "first-sent", FIRST))
