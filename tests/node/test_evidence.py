"""Evidence that a study is complete: what it does to the decision, where it comes from, and what it never holds up."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
)

from dicom_node.config import Config, SelectionSection
from dicom_node.net.counts import count_at, counting_peers
from dicom_node.net.held_port import held_port
from dicom_node.net.scp import Receiver
from dicom_node.studies.announced import Announcement, Announcements, Standing
from dicom_node.studies.collect import Collector, End
from dicom_node.studies.completeness import (
    Announced,
    Arrivals,
    Complete,
    Counted,
    Evidence,
    Known,
    Reason,
    Total,
    Wait,
    WaitingRules,
    decide,
)
from dicom_node.studies.evidence import Ask, Here
from dicom_node.studies.evidence import Evidence as Finding
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.timeline import Ending, State
from models.contrast import Contrast
from pipeline.headers import Plane, Problem, read_instance
from pipeline.synthetic import StudyTags, localizer_tags, series_tags, write_series
from tests.support.services import SEEDED, Orthanc, wait_for
from tests.support.studies import TRIPLET, head, receive_study

RULES = WaitingRules(quiet_s=60, deadline_s=1000, settle_s=5)
UID = "2.25.4711"
WHOLE, MORE, ASKED, ALL = Known(whole=True), Counted.MORE, Counted.ASKED, Counted.ALL


def arrivals(known: Known = WHOLE, **facts) -> Arrivals:
    """Return a study whose last instance came after 10 s, and whose association was released after 11."""
    return Arrivals(
        **{"first_s": 0, "last_s": 10, "open_associations": 0, "instances": 9, "ended_s": 11} | facts, known=known
    )


@pytest.mark.parametrize(
    ("known", "facts", "now_s", "decision"),
    [
        (WHOLE, {}, 15.9, Wait(16)),
        (WHOLE, {}, 16, Reason.SETTLED),
        (Known(), {}, 16, Wait(70)),
        (Known(), {}, 70, Reason.QUIET),
        # Nobody knows how its associations ended: a restart.
        (WHOLE, {"ended_s": None}, 16, Wait(70)),
        (WHOLE, {"open_associations": 1}, 16, Wait(1000)),
        (WHOLE, {"failed_s": 11}, 16, Wait(311)),
        # A sender that pauses once does so again.
        (WHOLE, {"pause_s": 9}, 16, Wait(29)),
        (WHOLE, {"pause_s": 9}, 29, Reason.SETTLED),
        (WHOLE, {"pause_s": 300}, 69, Wait(70)),
        (WHOLE, {"pause_s": 300}, 70, Reason.QUIET),
        (Known(whole=True, counted=ALL), {}, 16, Reason.SETTLED),
        (Known(counted=ALL), {}, 16, Wait(70)),
        # An answer that does not come costs the quiet time, and no more.
        (Known(whole=True, counted=ASKED), {}, 16, Wait(70)),
        (Known(whole=True, counted=ASKED), {}, 70, Reason.QUIET),
        (Known(whole=True, counted=MORE), {}, 16, Wait(1000)),
        (Known(whole=True, counted=MORE), {}, 70, Wait(1000, short=True)),
        (Known(counted=MORE), {"open_associations": 1}, 70, Wait(1000)),
        (Known(counted=MORE), {}, 999, Wait(1000, short=True)),
        (Known(counted=MORE), {}, 1000, Reason.DEADLINE),
        # What a scanner says that it made, whatever was paused.
        (Known(announced=Announced.ALL), {"pause_s": 300}, 16, Reason.SETTLED),
        (Known(announced=Announced.ALL, counted=MORE), {}, 70, Wait(1000, short=True)),
        (Known(whole=True, announced=Announced.OPEN), {}, 16, Wait(70)),
        (Known(whole=True, announced=Announced.OPEN), {}, 70, Reason.QUIET),
    ],
)
def test_the_decision_on_evidence(known: Known, facts: dict, now_s: float, decision: Wait | Reason):
    decided = decide(now_s, arrivals(known, **facts), RULES)
    assert (decided.reason if isinstance(decided, Complete) else decided) == decision


def test_the_decision_names_its_evidence():
    decided = decide(16, arrivals(Known(whole=True, counted=ALL, announced=Announced.ALL)), RULES)
    assert isinstance(decided, Complete)
    assert set(decided.evidence) == {
        Evidence.CONTRASTS_WHOLE,
        Evidence.ASSOCIATIONS_RELEASED,
        Evidence.COUNT_EQUAL,
        Evidence.ANNOUNCED_ARRIVED,
    }
    late = decide(1000, arrivals(Known(counted=MORE)), RULES)
    assert isinstance(late, Complete)
    assert Evidence.COUNT_LARGER in late.evidence


knowns = st.builds(Known, st.booleans(), st.sampled_from(Counted), st.sampled_from(Announced))
seconds = st.floats(0, 2000)


@given(knowns, seconds, seconds, st.integers(0, 1), st.none() | seconds, st.none() | seconds, seconds)
def test_evidence_shortens_and_lengthens_but_never_beyond(known, last_s, since_s, opened, failed_s, ended_s, pause_s):
    def decided(what: Known, at_s: float):
        return decide(at_s, Arrivals(0, last_s, opened, 1, failed_s, ended_s, pause_s, what), RULES)

    now_s = last_s + since_s
    with_it, without = decided(known, now_s), decided(Known(), now_s)
    if isinstance(with_it, Complete) and not isinstance(without, Complete):
        assert with_it.reason is Reason.SETTLED
        assert failed_s is None
        assert not opened
        assert since_s >= RULES.settle_s
    if isinstance(without, Complete) and not isinstance(with_it, Complete):
        assert known.counted is MORE
    # Whatever is known or is not, from the deadline on quiet is enough.
    assert isinstance(decided(known, max(last_s + RULES.quiet_s, RULES.deadline_s)), Complete)


class Bench:
    """A collector with evidence, and a clock that is set by hand."""

    def __init__(self, folder: Path, **peers: Ask) -> None:
        self.now_s = 100.0
        self.spool = Spool(folder / "data")
        self.folder = folder
        self.submitted: list[str] = []
        self.announcements = Announcements(self.spool.data_dir)
        self.finding = Finding(self.spool, SelectionSection(), self.announcements, peers, clock=lambda: self.now_s)
        self.collector = Collector(
            self.spool, RULES, lambda _, reason, __: self.submitted.append(reason), evidence=self.finding,
            clock=lambda: self.now_s,
        )  # fmt: skip
        self.came = 0

    def write(self, *tags) -> list[Path]:
        study = StudyTags(study_uid=UID, **SEEDED)
        return [path for one in tags for path in write_series(head(one.number), self.folder / "sent", study, one)]

    def arrive(self, files: list[Path], association: int = 1) -> None:
        for path in files:
            uid = str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
            outcome = self.spool.store(UID, uid, path.read_bytes()).outcome
            self.collector.stored(association, UID, outcome)
            self.came += 1

    def release(self, association: int = 1) -> None:
        self.collector.closed(association, End(Ending.RELEASED, "PACS", "127.0.0.1"))

    def known(self) -> Known:
        """Return what is known once it was found out."""
        wait_for(lambda: self.finding.of(UID, self.came).counted is not ASKED and self._found(), 20, "evidence")
        return self.finding.of(UID, self.came)

    def _found(self) -> bool:
        return self.finding._found[UID].here is not None

    def after(self, seconds: float) -> list[str]:
        self.now_s += seconds
        self.collector.turn()
        return self.submitted

    @property
    def study(self) -> Study:
        return self.spool.study(UID)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_whole_contrasts_start_a_study_and_stand_in_its_timeline(bench: Bench):
    bench.arrive(bench.write(*TRIPLET))
    assert bench.after(4) == []
    bench.release()
    bench.after(0)
    assert bench.known() == WHOLE
    assert bench.after(4.9) == []
    assert bench.after(0.2) == ["settled"]
    collected = bench.study.timeline().entries[-1]
    assert collected.facts["reason"] == "settled"
    assert collected.facts["evidence"] == ["contrasts_whole", "associations_released"]


@pytest.mark.parametrize("left_out", [slice(0, 1), slice(40, 41)], ids=["an end of T1W", "a middle of T2W"])
def test_a_series_that_lacks_a_slice_is_not_whole_before_it_comes(bench: Bench, left_out: slice):
    files = bench.write(*TRIPLET)
    late = files[left_out] if left_out.start else files[:20]
    bench.arrive([path for path in files if path not in late])
    bench.release()
    bench.after(0)
    assert bench.known() == Known()
    assert bench.after(20) == []
    bench.arrive(late, association=2)
    bench.release(2)
    bench.after(0)
    assert bench.known() == WHOLE
    # It paused for twenty seconds: it may do so again.
    assert bench.after(39) == []
    assert bench.after(2) == ["settled"]


def test_two_series_that_fit_one_contrast_are_a_doubt(bench: Bench):
    bench.arrive(bench.write(*TRIPLET, series_tags(Contrast.T2W, number=5)))
    bench.release()
    bench.after(0)
    assert bench.known() == Known()


def test_what_comes_after_the_start_is_submitted_again(bench: Bench):
    bench.arrive(bench.write(*TRIPLET))
    bench.release()
    bench.after(0)
    bench.known()
    assert bench.after(6) == ["settled"]
    late = series_tags(Contrast.T1W, number=9)
    bench.arrive(bench.write(late), association=2)
    bench.release(2)
    bench.after(0)
    bench.after(61)
    assert len(bench.submitted) == 2


def test_each_header_is_read_once_and_not_while_an_association_is_open(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    read: list[Path] = []

    def reading(path: Path) -> list[Plane] | Problem:
        # What an earlier test left to its own thread is read meanwhile, too.
        if path.is_relative_to(bench.folder):
            read.append(path)
        return read_instance(path)

    monkeypatch.setattr("dicom_node.studies.evidence.read_instance", reading)
    first, second = TRIPLET[:2], TRIPLET[2:]
    bench.arrive(bench.write(*first))
    bench.after(1)
    assert read == []
    bench.release()
    bench.after(0)
    bench.known()
    bench.arrive(bench.write(*second), association=2)
    bench.release(2)
    bench.after(0)
    assert bench.known() == WHOLE
    assert sorted(read) == bench.study.instances()


def test_a_pacs_that_counts_more_is_waited_for_and_named(tmp_path: Path):
    totals = [Total(80, 72)]
    bench = Bench(tmp_path, pacs=lambda _uid, _here: totals[-1])
    bench.arrive(bench.write(*TRIPLET))
    bench.release()
    bench.after(0)
    assert bench.known().counted is MORE
    bench.after(30)
    assert bench.after(40) == []
    entry = bench.study.timeline().turn
    assert entry
    assert (entry.state, entry.code) == (State.RECEIVING, "count_larger")
    assert (entry.facts["peer"], entry.facts["counted"], entry.facts["arrived"]) == ("pacs", 80, 72)
    assert bench.after(30) == []
    assert bench.study.timeline().events.count("short") == 1
    totals.append(Total(72, 72))
    bench.now_s += 61
    wait_for(lambda: bench.finding.of(UID, bench.came).counted is ALL, 20, "another count")
    assert bench.after(0) == ["settled"]


def test_a_pacs_that_counts_more_for_ever_is_waited_for_until_the_deadline(tmp_path: Path):
    bench = Bench(tmp_path, pacs=lambda _uid, _here: Total(80, 72))
    bench.arrive(bench.write(*TRIPLET))
    bench.release()
    bench.after(0)
    bench.known()
    assert bench.after(998) == []
    assert bench.after(3) == ["deadline"]
    assert "count_larger" in str(bench.study.timeline().entries[-1].facts["evidence"])


def test_a_peer_that_hangs_costs_the_quiet_time_and_no_other_peer(tmp_path: Path):
    forever = threading.Event()

    def hang(*_: object) -> None:
        forever.wait(60)

    bench = Bench(tmp_path, hangs=hang, pacs=lambda *_: Total(72, 72))
    bench.arrive(bench.write(*TRIPLET))
    bench.release()
    bench.after(0)
    wait_for(lambda: bench.finding.of(UID, bench.came) and bench.finding.totals(UID), 20, "the other count")
    assert bench.after(20) == []
    assert bench.after(40) == ["quiet"]
    forever.set()


def test_a_peer_that_fails_is_no_evidence(tmp_path: Path):
    def fail(*_: object) -> None:
        raise OSError

    bench = Bench(tmp_path, pacs=fail)
    bench.arrive(bench.write(*TRIPLET))
    bench.release()
    bench.after(0)
    assert bench.known() == WHOLE
    assert bench.after(6) == ["settled"]


# --- counts, from a real PACS -----------------------------------------------------------------------------------------


def querying(port: int) -> Config:
    peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "roles": ["source", "query"]}
    return Config.model_validate({"peers": [peer]})


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, Config, list[Path]]]:
    """Yield a PACS with a study of three MR series, a series of another modality, and a spectroscopy within one."""
    folder = tmp_path_factory.mktemp("pacs")
    with held_port() as port, Orthanc.running(folder, port) as orthanc:
        files = [
            path
            for one in TRIPLET
            for path in write_series(head(one.number), folder / "sent", StudyTags(study_uid=UID, **SEEDED), one)
        ]
        other, spectrum = (pydicom.dcmread(files[0]) for _ in range(2))
        other.Modality, other.SeriesInstanceUID, other.SOPInstanceUID = "CT", generate_uid(), generate_uid()
        spectrum.SOPClassUID, spectrum.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4.2", generate_uid()
        for number, extra in enumerate((other, spectrum)):
            extra.file_meta.MediaStorageSOPInstanceUID = extra.SOPInstanceUID
            extra.file_meta.MediaStorageSOPClassUID = extra.SOPClassUID
            extra.save_as(folder / f"extra{number}.dcm")
        for path in (*files, *folder.glob("extra*.dcm")):
            orthanc.upload(path)
        yield orthanc, querying(orthanc.port), files


def here(files: list[Path]) -> Here:
    sets = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
    by_series = {str(one.SeriesInstanceUID): 0 for one in sets}
    for one in sets:
        by_series[str(one.SeriesInstanceUID)] += 1
    return Here(frozenset(str(one.SOPInstanceUID) for one in sets), by_series)


def test_a_pacs_counts_images_and_nothing_else(pacs: tuple[Orthanc, Config, list[Path]]):
    _, config, files = pacs
    counted = count_at(config, config.peers[0], UID, here(files))
    assert counted == Total(len(files), len(files))
    # A slice that is still to come, and a series of which nothing has.
    assert count_at(config, config.peers[0], UID, here(files[1:])) == Total(len(files), len(files) - 1)
    missing = len(files) // 3
    assert count_at(config, config.peers[0], UID, here(files[missing:])) == Total(len(files), len(files) - missing)


def test_a_pacs_that_does_not_know_the_study_counts_nothing(pacs: tuple[Orthanc, Config, list[Path]]):
    _, config, files = pacs
    assert count_at(config, config.peers[0], "2.25.1", here(files)) is None
    assert list(counting_peers(config)) == ["pacs"]


def test_a_port_that_never_answers_is_asked_beside_everything_else(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = querying(silent.getsockname()[1])
        bench = Bench(tmp_path, **counting_peers(config))
        bench.arrive(bench.write(*TRIPLET))
        bench.release()
        bench.after(0)
        wait_for(lambda: bench.finding.of(UID, bench.came).whole, 20, "the headers")
        assert bench.finding.of(UID, bench.came).counted is ASKED
        assert bench.after(20) == []
        assert bench.after(40) == ["quiet"]


# --- announcements ----------------------------------------------------------------------------------------------------


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    config = Config.model_validate(
        {"node": {"port": 1, "bind": "127.0.0.1", "data_dir": tmp_path / "data"}, "receive": {"accept": "any"}}
    )
    with held_port() as number:
        config = config.model_copy(update={"node": config.node.model_copy(update={"port": number})})
        receiver = Receiver(config, Spool(tmp_path / "data"))
        receiver.start()
        yield number
        receiver.stop(0)


def item(**attributes: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def step(status: str, *instances: str) -> Dataset:
    """Return attributes of a procedure step, as a scanner sends them."""
    images = [
        item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.4", ReferencedSOPInstanceUID=uid) for uid in instances
    ]
    return item(
        PerformedProcedureStepStatus=status,
        PerformedSeriesSequence=[item(SeriesInstanceUID="2.25.5", ReferencedImageSequence=images)] if images else [],
    )


def begun() -> Dataset:
    attributes = step("IN PROGRESS")
    attributes.ScheduledStepAttributesSequence = [item(StudyInstanceUID=UID)]
    attributes.PatientName = "SEEDED^PATIENT"
    return attributes


@pytest.fixture
def scanner(port: int):
    entity = AE("MR")
    for sop_class in (ModalityPerformedProcedureStep, InstanceAvailabilityNotification):
        entity.add_requested_context(sop_class)
    association = entity.associate("127.0.0.1", port, ae_title="TSCNODE")
    assert association.is_established
    yield association
    association.release()


def test_a_procedure_step_is_open_until_it_is_completed_and_its_images_are_here(scanner, tmp_path: Path):
    sop_class, uid = ModalityPerformedProcedureStep, "2.25.99"
    assert scanner.send_n_create(begun(), sop_class, uid)[0].Status == 0x0000
    assert scanner.send_n_create(begun(), sop_class, uid)[0].Status == 0x0111
    said = Announcements(tmp_path / "data")
    assert (said.of(UID, []), said.of("2.25.1", [])) == (Announced.OPEN, Announced.NOTHING)
    assert scanner.send_n_set(step("COMPLETED", "2.25.7", "2.25.8"), sop_class, uid)[0].Status == 0x0000
    said = Announcements(tmp_path / "data")
    assert (said.of(UID, ["2.25.7"]), said.of(UID, ["2.25.7", "2.25.8", "2.25.9"])) == (Announced.OPEN, Announced.ALL)
    assert scanner.send_n_set(step("COMPLETED"), sop_class, uid)[0].Status == 0x0110
    (kept,) = (tmp_path / "data" / "announced").iterdir()
    assert b"SEEDED" not in kept.read_bytes()


@pytest.mark.parametrize(
    ("attributes", "uid", "status"),
    [(step("IN PROGRESS"), "2.25.9", 0x0120), (begun(), "no.uid", 0x0117), (step("DONE"), "2.25.9", 0x0120)],
)
def test_a_procedure_step_of_nothing_is_refused(scanner, attributes: Dataset, uid: str, status: int):
    assert scanner.send_n_create(attributes, ModalityPerformedProcedureStep, uid)[0].Status == status


def test_a_step_that_is_not_known_is_not_changed(scanner):
    assert scanner.send_n_set(step("COMPLETED"), ModalityPerformedProcedureStep, "2.25.9")[0].Status == 0x0112


def test_a_notification_lists_what_is_available(scanner, tmp_path: Path):
    sops = [
        item(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID=f"2.25.{number}", InstanceAvailability=there)
        for number, there in ((1, "ONLINE"), (2, "NEARLINE"), (3, "UNAVAILABLE"))
    ]
    series = [item(SeriesInstanceUID="2.25.5", ReferencedSOPSequence=sops)]
    told = item(StudyInstanceUID=UID, ReferencedSeriesSequence=series, ReferencedPerformedProcedureStepSequence=[])
    assert scanner.send_n_create(told, InstanceAvailabilityNotification, "2.25.98")[0].Status == 0x0000
    said = Announcements(tmp_path / "data")
    assert (said.of(UID, ["2.25.1"]), said.of(UID, ["2.25.1", "2.25.2"])) == (Announced.OPEN, Announced.ALL)


def test_announcements_outlive_a_restart_and_damage(tmp_path: Path):
    said = Announcements(tmp_path)
    said.keep(Announcement("2.25.1", Standing.COMPLETED, (UID,), ("2.25.7",)))
    (tmp_path / "announced" / "2.25.2.json").write_text("{")
    shutil.copy(tmp_path / "announced" / "2.25.1.json", tmp_path / "announced" / "2.25.3.json")
    assert Announcements(tmp_path).of(UID, ["2.25.7"]) is Announced.ALL


def test_what_was_announced_starts_a_study_that_is_not_whole(bench: Bench):
    files = bench.write(localizer_tags())
    uids = tuple(str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in files)
    bench.announcements.keep(Announcement("2.25.1", Standing.COMPLETED, (UID,), uids))
    bench.arrive(files[1:])
    bench.release()
    bench.after(0)
    assert bench.known() == Known(announced=Announced.OPEN)
    bench.arrive(files[:1], association=2)
    bench.release(2)
    bench.after(0)
    assert bench.known() == Known(announced=Announced.ALL)
    assert bench.after(6) == ["settled"]


def test_the_helpers_make_what_the_tests_take_for_whole(tmp_path: Path):
    study = receive_study(Spool(tmp_path / "data"), tmp_path, UID, *TRIPLET)
    assert len(study.instances()) == 72
