"""The log: JSON lines, and nothing in them that says whose study it is."""

import io
import json
import logging
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node import log
from dicom_node.errors import ConfigError, SpoolError

STUDY = "1.3.6.1.4.1.14519.5.2.1.1234.5678.900001"
SEEDS = ("SEEDED^PATIENT", "SEED-ID-4711", "19990102", STUDY)
KEY = bytes(range(32))
logger = logging.getLogger("dicom_node.test")

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, warnings.showwarning, threading.excepthook)
    stream = io.StringIO()
    log.configure(stream, KEY)

    def read() -> list[dict[str, Any]]:
        for seed in SEEDS:
            assert seed not in stream.getvalue()
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = log._log_warning
        yield read
    root.handlers[:], level, warnings.showwarning, threading.excepthook = before
    root.setLevel(level)


def test_a_line_has_time_level_logger_event_and_facts(lines: Lines):
    log.say(logger, "study complete", study=STUDY, reason="quiet", instances=12)
    (line,) = lines()
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "dicom_node.test",
        "event": "study complete",
        "study": log.Pseudonym(KEY)(STUDY),
        "reason": "quiet",
        "instances": 12,
    }


def test_facts_do_not_displace_the_fixed_fields(lines: Lines):
    log.say(logger, "event", logger="x", time="y")
    assert lines()[0]["logger"] == "dicom_node.test"


def test_uids_become_pseudonyms_wherever_they_stand(lines: Lines):
    logger.warning("cannot read /data/%s/instances/2.25.329800735698586629295641978511506172918.dcm", STUDY)
    log.say(logger, "x", path=Path("/spool") / STUDY, nested={"a": [STUDY]}, study="1.2.3")
    first, second = lines()
    assert first["event"].startswith(f"cannot read /data/{log.Pseudonym(KEY)(STUDY)}/instances/")
    assert "2.25.3298" not in first["event"]
    assert second["nested"]["a"] == [log.Pseudonym(KEY)(STUDY)]
    assert second["study"] == log.Pseudonym(KEY)("1.2.3")


def test_registered_uids_numbers_and_addresses_stay(lines: Lines):
    log.say(logger, "x", sop_class="1.2.840.10008.5.1.4.1.1.4.1", value=1.2345678901234567e-5, host="192.168.100.200")
    line = lines()[0]
    assert line["sop_class"] == "1.2.840.10008.5.1.4.1.1.4.1"
    assert line["value"] == 1.2345678901234567e-5
    assert line["host"] == "192.168.100.200"


def test_exceptions_keep_type_and_frames_but_no_quoted_value(lines: Lines):
    try:
        int("SEEDED^PATIENT")
    except ValueError:
        log.say(logger, "failed", level=logging.ERROR)
    error = lines()[0]["error"]
    assert error["type"] == "ValueError"
    assert "message" not in error
    assert any("test_exceptions_keep" in frame for frame in error["frames"])


def test_our_own_messages_and_causes_are_kept_guarded(lines: Lines):
    try:
        try:
            Path(f"/nowhere/{STUDY}").read_bytes()
        except OSError as error:
            raise SpoolError(f"Study {STUDY} cannot be read.") from error
    except SpoolError:
        logger.exception("failed")
    written = lines()[0]["error"]
    assert written["message"] == f"Study {log.Pseudonym(KEY)(STUDY)} cannot be read."
    assert written["cause"]["type"] == "FileNotFoundError"


def test_libraries_and_warnings_give_category_and_place_only(lines: Lines):
    logging.getLogger("pydicom").error("Invalid value for VR DA: '19990102x' of SEEDED^PATIENT")
    logging.getLogger("pynetdicom.assoc").error("(0010,0020) LO [SEED-ID-4711]")
    logging.getLogger("pynetdicom.assoc").info("chatter")
    Dataset().PatientBirthDate = "19990102x"
    warnings.warn("SEEDED^PATIENT", UserWarning, stacklevel=1)
    found = lines()
    assert not [line for line in found if line["event"] == "chatter"]
    categories = [line["category"] for line in found if line["logger"] == "warnings"]
    assert categories.count("UserWarning") >= 2
    assert all(line["location"] for line in found if line["logger"] == "warnings")


@pytest.mark.parametrize("name", ["dbos", "matplotlib.font_manager", "numexpr.utils", "uvicorn.error", "yet.another"])
def test_no_text_of_a_library_reaches_the_log(name: str, lines: Lines):
    library = logging.getLogger(name)
    library.info("Using SQLite as a system database. The SQLite system database is for development")
    library.warning("SEEDED^PATIENT", extra={"facts": {"said": "SEEDED^PATIENT"}})
    library.error(ValueError("SEEDED^PATIENT"))
    for line, level in zip(lines(), ("warning", "error"), strict=True):
        assert line["event"].startswith(f"{name} {level} at test_log:")
        assert set(line) <= {"time", "level", "logger", "event"}


def test_a_failing_thread_is_logged(lines: Lines):
    thread = threading.Thread(target=lambda: int("SEED-ID-4711"))
    thread.start()
    thread.join()
    assert lines()[0]["error"]["type"] == "ValueError"


def test_the_key_is_made_once_and_private(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: log.read_key(tmp_path / "data"), range(16)))
    assert len(keys) == 1
    assert len(keys.pop()) == 32
    assert stat.S_IMODE((tmp_path / "data" / "pseudonym.key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["pseudonym.key"]


def test_a_damaged_key_is_refused(tmp_path: Path):
    (tmp_path / "pseudonym.key").write_bytes(b"short")
    with pytest.raises(ConfigError, match="32 bytes"):
        log.read_key(tmp_path)


def test_pseudonyms_depend_on_the_key():
    assert log.Pseudonym(KEY)(STUDY) == log.Pseudonym(KEY)(STUDY)
    assert log.Pseudonym(KEY)(STUDY) != log.Pseudonym(bytes(32))(STUDY)
    assert len(log.Pseudonym(KEY)(STUDY)) == 12
