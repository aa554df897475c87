"""The error tree: stable codes, exit codes, and the drawing in the docstring is the tree."""

import pytest

from dicom_node import errors
from dicom_node.errors import (
    AlreadyRunningError,
    CommandError,
    ConfigError,
    DeliveryError,
    NodeError,
    PeerError,
    SpoolError,
    SpoolFull,
    StudyUnknown,
)

FAMILY = [
    NodeError,
    AlreadyRunningError,
    ConfigError,
    CommandError,
    SpoolError,
    SpoolFull,
    StudyUnknown,
    PeerError,
    DeliveryError,
]


@pytest.mark.parametrize("kind", FAMILY)
def test_every_error_has_a_code_of_its_own_and_is_drawn(kind: type[NodeError]):
    assert kind("sentence").code == kind.code
    assert kind("sentence", "other_code").code == "other_code"
    assert str(kind("sentence", "other_code")) == "sentence"
    assert kind.__name__ in (errors.__doc__ or "")
    assert len({error.code for error in FAMILY}) == len(FAMILY)


def test_the_family_carries_the_policy():
    assert (ConfigError("").exit_code, SpoolError("").exit_code, PeerError("").exit_code) == (2, 1, 1)
    assert CommandError("").exit_code == 2
    assert SpoolFull("").code == "disk_full"
    assert StudyUnknown("").code == "study_unknown"
    assert isinstance(DeliveryError("", status=0xA700), PeerError)
    assert DeliveryError("", status=0xA700).status == 0xA700
