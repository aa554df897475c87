"""A subset is not a study: real senders bring private classes among the images, break off, and come again."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID

from pipeline.synthetic.study_tags import derive_uid
from tests.support.services import STORESCU, Node, Orthanc, command, node_and_pacs, require, wait_for

DCMSEND = Path("/usr/bin/dcmsend")
SPECTRUM, CSA = "1.3.46.670589.11.0.0.12.1", "1.3.12.2.1107.5.9.1"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Orthanc]]:
    """Yield a running node and its PACS."""
    with node_and_pacs(tmp_path_factory.mktemp("subsets")) as (node, pacs):
        node.start("serve")
        node.wait_listening()
        yield node, pacs


def mix(quick_study, study_uid: str, folder: Path) -> list[Path]:
    """Write the study under another UID, with an object of a private class in each series after every third image."""
    folder.mkdir(exist_ok=True)
    written: list[Path] = []
    for paths in quick_study.files.values():
        for number, path in enumerate(paths):
            dataset = pydicom.dcmread(path)
            dataset.StudyInstanceUID = study_uid
            dataset.SeriesInstanceUID = derive_uid(study_uid, dataset.SeriesInstanceUID)
            written.append(_write(dataset, dataset.SOPInstanceUID, folder, len(written)))
            if number % 3 == 1:
                for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"):
                    delattr(dataset, keyword)
                dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID((SPECTRUM, CSA)[number % 2])
                written.append(_write(dataset, f"private {dataset.SOPInstanceUID}", folder, len(written)))
    return written


def _write(dataset: pydicom.Dataset, name: str, folder: Path, number: int) -> Path:
    dataset.SOPInstanceUID = derive_uid(str(dataset.StudyInstanceUID), name)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    path = folder / f"{number:05d}.dcm"
    dataset.save_as(path)
    return path


def kept(node: Node, study_uid: str) -> int:
    return len(list((node.data_dir / "spool" / study_uid / "instances").glob("[0-9]*.dcm")))


def entries(node: Node, study_uid: str, event: str) -> list[dict]:
    told = json.loads(node.command("show", study_uid, "--json"))
    return [entry for entry in told["timeline"] if entry["event"] == event]


def sender(tool: Path, node: Node, *arguments: str | Path) -> list[str | Path]:
    require(tool)
    return [tool, "-aet", "PACS", "-aec", "TSCNODE", "127.0.0.1", str(node.port), *arguments]


def storescu(node: Node) -> list[str | Path]:
    """Return a storescu that is told of the private classes: of itself it proposes those that it knows."""
    file = node.folder / "storescu.cfg"
    classes = ("MRImageStorage", SPECTRUM, CSA)
    contexts = "".join(f"PresentationContext{n} = {name}\\Any\n" for n, name in enumerate(classes, start=1))
    file.write_text(
        "[[TransferSyntaxes]]\n[Any]\nTransferSyntax1 = LittleEndianExplicit\n"
        f"[[PresentationContexts]]\n[All]\n{contexts}[[Profiles]]\n[Default]\nPresentationContexts = All\n"
    )
    return sender(STORESCU, node, "--config-file", file, "Default")


def by_dcmsend(node: Node, pacs: Orthanc, files: Sequence[Path]) -> None:
    line = sender(DCMSEND, node, "+sd", files[0].parent)
    sent = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert sent.returncode == 0, sent.stderr


def by_storescu(node: Node, pacs: Orthanc, files: Sequence[Path]) -> None:
    subprocess.run([*storescu(node), "+sd", files[0].parent], check=True, timeout=120)


def by_orthanc(node: Node, pacs: Orthanc, files: Sequence[Path]) -> None:
    pacs.upload(*files)
    study_uid = str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    found = pacs.post("/tools/find", {"Level": "Study", "Query": {"StudyInstanceUID": study_uid}})
    done = pacs.post("/modalities/node/store", {"Resources": found, "Synchronous": True})
    assert (done["InstancesCount"], done["FailedInstancesCount"]) == (len(files), 0)


SENDERS = (by_dcmsend, by_storescu, by_orthanc)


@pytest.mark.parametrize("send", SENDERS)
def test_a_study_with_private_classes_among_its_images_arrives_whole_and_makes_one_report(
    served: tuple[Node, Orthanc], quick_study, sent: Path, send
):
    node, pacs = served
    study_uid = f"2.25.190000000000000000000000000000090{SENDERS.index(send)}"
    files = mix(quick_study, study_uid, sent)
    images = sum(len(paths) for paths in quick_study.files.values())
    assert len(files) > images
    send(node, pacs, files)
    assert kept(node, study_uid) == len(files)
    assert node.wait_state(study_uid, "delivered", "held", "failed") == "delivered"
    assert len(pacs.instances(study_uid, "SR")) == 1
    (collected,) = entries(node, study_uid, "collected")
    assert (collected["reason"], collected["instances"]) == ("quiet", len(files))
    assert entries(node, study_uid, "contexts_refused") == []

    text = " ".join(command("explain", str(sent)).split())
    for kind in (SPECTRUM, CSA):
        count = sum(str(pydicom.dcmread(file).SOPClassUID) == kind for file in files)
        told = (
            rf"Not used: {count} files, among them \S+ \(not_mr_image\): The object is {re.escape(kind)} of modality MR"
        )
        assert re.search(told, text)
    result = node.result(study_uid)
    assert {file["code"] for file in result["ignored_files"]} == {"not_mr_image"}
    assert len(result["ignored_files"]) == len(files) - images


def test_a_sender_that_is_killed_halfway_and_comes_again_makes_one_report(
    served: tuple[Node, Orthanc], quick_study, sent: Path
):
    node, pacs = served
    study_uid = "2.25.1900000000000000000000000000000911"
    files = mix(quick_study, study_uid, sent)
    with subprocess.Popen([*storescu(node), "+sd", sent]) as process:
        wait_for(lambda: kept(node, study_uid) >= 5, 30, "the first instances", poll_s=0.001)
        process.kill()
    node.wait_event(study_uid, "association_failed", 1)
    assert 5 <= kept(node, study_uid) < len(files)
    (failed,) = entries(node, study_uid, "association_failed")
    assert (failed["calling"], failed["address"], failed["ending"]) == ("PACS", "127.0.0.1", "lost")
    time.sleep(4)  # twice the quiet time
    assert "collected" not in node.events(study_uid)

    by_storescu(node, pacs, files)
    assert node.wait_state(study_uid, "delivered", "held", "failed") == "delivered"
    assert kept(node, study_uid) == len(files)
    assert len(pacs.instances(study_uid, "SR")) == 1
    (collected,) = entries(node, study_uid, "collected")
    assert (collected["reason"], collected["instances"]) == ("quiet", len(files))
    assert len(entries(node, study_uid, "sent_again")) == 1
    assert node.events(study_uid).count("queued") == 1


def test_a_sender_that_aborts_and_stays_away_is_named_where_the_study_is_shown(
    served: tuple[Node, Orthanc], quick_study, sent: Path
):
    node, _ = served
    study_uid = "2.25.1900000000000000000000000000000912"
    files = mix(quick_study, study_uid, sent)
    for file in files[10:]:
        file.unlink()
    subprocess.run([*storescu(node), "--abort", "+sd", sent], check=True, timeout=60)
    assert node.wait_state(study_uid, "held", "delivered", "failed") == "held"
    (failed,), (collected,) = (entries(node, study_uid, event) for event in ("association_failed", "collected"))
    assert failed["ending"] == "aborted"
    assert collected["reason"] == "quiet_after_abort"
    shown = node.command("show", study_uid)
    assert "ending aborted" in shown
    assert "reason quiet_after_abort" in shown
    said = [line for line in node.lines() if line["event"] == "study complete"]
    assert said[-1]["reason"] == "quiet_after_abort"
