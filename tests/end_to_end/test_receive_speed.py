"""The node takes in instances from an unmodified storescu at least as fast as DCMTK and Orthanc do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.receive import STORESCP, compare, print_table
from tests.support.services import ORTHANC, STORESCU, require


@pytest.mark.measures
def test_receiving_is_as_fast_as_storescp_and_orthanc():
    require(STORESCU, STORESCP, Path(ORTHANC))
    rows = compare(60)
    print_table(rows)
    as_it_comes = {row["receiver"]: row["instances_per_s"] for row in rows if not row["tcp_nodelay"]}
    assert as_it_comes["dicom-node"] >= as_it_comes["storescp"]
    assert as_it_comes["dicom-node"] >= as_it_comes["Orthanc"]
