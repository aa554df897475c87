"""What is storage-like, and what an association accepts and refuses."""

from __future__ import annotations

import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts, sop_class

from dicom_node.net.contexts import is_storage

PRIVATE = [
    "1.3.46.670589.11.0.0.12.1",  # Philips MR spectrum
    "1.3.46.670589.11.0.0.12.2",  # Philips MR series data
    "1.3.46.670589.11.0.0.12.4",  # Philips MR exam card
    "1.3.46.670589.5.0.1",
    "1.3.12.2.1107.5.9.1",  # Siemens CSA non-image
    "1.2.840.113619.4.30",  # GE
    "1.2.840.113619.4.27",
    "1.2.392.200036.9116.7.8.1.1.1",  # Toshiba
    "1.2.826.0.1.3680043.2.93.1.0.1",
]


@pytest.mark.parametrize("uid", PRIVATE)
def test_private_classes_may_be_storage(uid: str):
    assert is_storage(UID(uid))


def test_classes_that_are_newer_than_this_software_may_be_storage():
    for uid in ("1.2.840.10008.5.1.4.1.1.4.99", "1.2.840.10008.5.1.4.1.1.777", "1.2.840.10008.5.1.4.99.1"):
        assert uid not in UID_dictionary
        assert is_storage(UID(uid))


def test_every_storage_class_that_pynetdicom_knows_is_storage():
    assert all(is_storage(UID(str(context.abstract_syntax))) for context in AllStoragePresentationContexts)


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.1.1.3",  # Ultrasound Multi-frame, retired
        "1.2.840.10008.5.1.4.1.1.5",  # Nuclear Medicine, retired
        "1.2.840.10008.5.1.4.1.1.9",  # Standalone Curve
        "1.2.840.10008.5.1.4.1.1.11",  # Standalone VOI LUT
        "1.2.840.10008.5.1.4.1.1.40",  # MR Image Zero Padded, without a name today
        "1.2.840.10008.5.1.4.1.1.88.1",  # Text SR, trial
        "1.2.840.10008.5.1.1.29",  # Hardcopy Grayscale Image
        "1.2.840.10008.5.1.1.27",  # Stored Print
        "1.2.840.10008.5.1.4.34.1",  # RT Beams Delivery Instruction, trial
        "1.2.840.10008.5.1.4.1.1.501.2.1",  # DICOS Digital X-Ray, for presentation
    ],
)
def test_retired_and_foreign_storage_classes_are_storage(uid: str):
    assert UID(uid) in UID_dictionary
    assert is_storage(UID(uid))


def test_every_other_service_of_the_standard_is_refused():
    classes = {uid: entry for uid, entry in UID_dictionary.items() if entry[1] in ("SOP Class", "Meta SOP Class")}
    accepted = {entry[0] for uid, entry in classes.items() if is_storage(UID(uid))}
    assert all(name == "" or " Storage" in name for name in accepted)
    refused = {entry[0] for uid, entry in classes.items() if not is_storage(UID(uid))}
    # Objects that belong to no patient have services of their own (PS3.4 GG), and a directory stands on media.
    assert {name for name in refused if " Storage" in name} == {
        "Media Storage Directory Storage",
        "CT Defined Procedure Protocol Storage",
        "XA Defined Procedure Protocol Storage",
        "Protocol Approval Storage",
        "Inventory Storage",
        "Hanging Protocol Storage",
        "Color Palette Storage",
        "Generic Implant Template Storage",
        "Implant Assembly Template Storage",
        "Implant Template Group Storage",
    }


@pytest.mark.parametrize(
    "name",
    [
        "Verification",
        "StudyRootQueryRetrieveInformationModelFind",
        "StudyRootQueryRetrieveInformationModelMove",
        "CompositeInstanceRootRetrieveGet",
        "ModalityWorklistInformationFind",
        "ModalityPerformedProcedureStep",
        "StorageCommitmentPushModel",
        "BasicGrayscalePrintManagementMeta",
        "UnifiedProcedureStepPush",
        "InstanceAvailabilityNotification",
        "MediaCreationManagement",
    ],
)
def test_other_services_are_no_storage(name: str):
    assert not is_storage(getattr(sop_class, name))


@pytest.mark.parametrize(
    "uid", ["1.2.840.10008.4.2", "1.2.840.10008.3.1.1.1", "1.2.840.10008.1.2", "1.2.840.10008.1.20.2"]
)
def test_what_is_no_class_or_a_retired_service_is_no_storage(uid: str):
    assert not is_storage(UID(uid))
