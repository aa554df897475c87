"""The reason for a missing score survives the way to another process."""

import pickle

from pipeline.errors import HoldReason, StudyHeld


def test_code_and_sentence_survive_a_process_boundary():
    error = pickle.loads(pickle.dumps(StudyHeld(HoldReason.GEOMETRY_GAP, "A slice is missing.")))
    assert isinstance(error, StudyHeld)
    assert (error.code, error.sentence) == ("geometry_gap", "A slice is missing.")
    assert str(error) == "geometry_gap: A slice is missing."
