"""The node takes in instances from an unmodified storescu at least as fast as DCMTK and Orthanc do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.receive import SENDERS, STORESCP, compare, medians, print_table
from tests.support.services import ORTHANC, STORESCU, require

AS_IT_COMES, WINDOW_1, WINDOW_16 = "storescu as it comes", "raw, 40 ms, window 1", "raw, 40 ms, window 16"


@pytest.mark.measures
def test_receiving_is_as_fast_as_storescp_and_orthanc():
    require(STORESCU, STORESCP, Path(ORTHANC))
    senders = tuple(sender for sender in SENDERS if sender.name in (AS_IT_COMES, WINDOW_1, WINDOW_16))
    rates = compare(60, senders=senders)
    print_table(rates)
    middle = medians(rates)
    ours = middle["dicom-node", AS_IT_COMES]
    assert ours >= middle["storescp", AS_IT_COMES]
    assert ours >= middle["Orthanc", AS_IT_COMES]
    assert middle["dicom-node", WINDOW_16] > 2 * middle["dicom-node", WINDOW_1]
