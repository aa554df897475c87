"""Alarms: rules, one message for a cause, quiet hours, restarts, and real receivers of messages."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config import AlarmsSection, parse
from dicom_node.engine.alarming import Watcher
from dicom_node.errors import ConfigError
from dicom_node.net.held_port import held_port
from dicom_node.studies.index import Index
from dicom_node.studies.timeline import Event, State
from dicom_node.watch.alarm_rules import Cause, Rule, causes
from dicom_node.watch.alarm_sending import addresses
from dicom_node.watch.alarms import Alarms, digest, read_alarms, write_alarms
from dicom_node.watch.facts import Certificate, Facts, Stopped, Studies, Undelivered
from dicom_node.watch.pulse import Process, Pulse, Readings
from tests.support.pasts import past_uid, write_past
from tests.support.services import command, wait_for
from tests.support.sinks import mail, smtp, webhook

NOW = datetime(2026, 11, 29, 12, tzinfo=datetime.now().astimezone().tzinfo)
DAY_S = 86400.0
WELL = Facts(
    NOW.timestamp(),
    "1",
    (Pulse(Process.WORKER, "mr-cpu", "elsewhere", 1, 0.0, NOW.timestamp(), ready=True),),
    Studies(),
    {},
    {},
    500 * 10**9,
    900 * 10**9,
    10**9,
)
SECTION = AlarmsSection(to=("json://a", "json://b"))
SILENT = Studies(heard_s={"pacs": WELL.now_s - 4 * DAY_S})
FAILED = Stopped("ab" * 6, "failed", "internal_error", 5.0)
WAITING = Undelivered("pacs", 2, "peer_unreachable", 0.0)
ENDING = Certificate("own certificate", 20, holds=True)
HELD = Cause(Rule.STUDY_STOPPED, "0123456789ab", "Study 0123456789ab is held.")


def read(days: dict[int, tuple[int, int]]) -> tuple[Pulse, ...]:
    """Return a worker that read so many studies, and so many unlike the model's, so many days ago."""
    today = datetime.fromtimestamp(WELL.now_s).date()
    counted = {(today - timedelta(days=ago)).isoformat(): Readings(*each) for ago, each in days.items()}
    return (replace(WELL.pulses[0], days=counted),)


def test_a_node_that_is_well_has_no_cause():
    assert causes(WELL, SECTION, 0.0) == []


@pytest.mark.parametrize(
    ("change", "rule", "off"),
    [
        ({"studies": SILENT}, Rule.NOTHING_RECEIVED, "nothing_received_hours"),
        ({"studies": Studies(stopped=(FAILED,))}, Rule.STUDY_STOPPED, "stopped"),
        ({"studies": Studies(undelivered=(WAITING,))}, Rule.REPORT_UNDELIVERED, "undelivered_min"),
        ({"studies": Studies(queued_since_s=0.0)}, Rule.QUEUE_WAITS, "queue_min"),
        ({"pulses": (replace(WELL.pulses[0], beaten_s=WELL.now_s - 600),)}, Rule.PROCESS_DOWN, "down_min"),
        ({"free_bytes": 2 * 10**9}, Rule.DISK_LOW, "disk_gb"),
        ({"certificates": (ENDING,)}, Rule.CERTIFICATE_ENDS, "certificate_days"),
        ({"pulses": read({2: (10, 6), 20: (40, 4)})}, Rule.OUT_OF_RANGE_RISES, "out_of_range_rise"),
    ],
)
def test_a_rule_speaks_at_its_limit_and_can_be_switched_off(change: dict[str, Any], rule: Rule, off: str):
    (cause,) = causes(replace(WELL, **change), SECTION, 0.0)
    assert cause.rule is rule
    assert causes(replace(WELL, **change), SECTION.model_copy(update={off: 0}), 0.0) == []


@pytest.mark.parametrize(
    "change",
    [
        {"studies": Studies(heard_s={"pacs": WELL.now_s - 2 * DAY_S})},
        {"studies": Studies(undelivered=(Undelivered("pacs", 2, "x", WELL.now_s - 60),))},
        {"studies": Studies(queued_since_s=WELL.now_s - 60)},
        {"pulses": (replace(WELL.pulses[0], beaten_s=WELL.now_s - 600, ended=True),)},
        {"certificates": (Certificate("own certificate", 31, holds=True),)},
        {"pulses": read({2: (10, 4), 20: (40, 0)})},
        {"pulses": read({2: (10, 6), 20: (10, 5)})},
        {"pulses": read({2: (10, 6), 40: (40, 4)})},
    ],
)
def test_a_rule_is_silent_below_its_limit(change: dict[str, Any]):
    assert causes(replace(WELL, **change), SECTION, 0.0) == []


def test_what_stopped_before_the_alarms_first_ran_is_of_the_past():
    known = replace(WELL, studies=Studies(stopped=(Stopped("ab" * 6, "held", "missing_role", 5.0),)))
    assert causes(known, SECTION, 6.0) == []


def test_an_index_that_is_away_is_told_and_resolves_nothing_else():
    assert [cause.rule for cause in causes(replace(WELL, studies=None), SECTION, 0.0)] == [Rule.NOT_KNOWN]


def titles(alarms: Alarms) -> list[str]:
    return [message.title.partition(": ")[2] for message in alarms.waiting.get(digest("json://a"), [])]


def turn(alarms: Alarms, *found: Cause, minutes: float = 0, section: AlarmsSection = SECTION) -> list[str]:
    now = NOW + timedelta(minutes=minutes)
    alarms.look(found, now.timestamp())
    alarms.write(section, section.to, "TSCNODE", now)
    return titles(alarms)


def test_a_cause_is_told_once_and_again_when_it_is_over():
    alarms = Alarms(0.0)
    assert turn(alarms, HELD) == ["study stopped"]
    assert turn(alarms, HELD, minutes=60) == ["study stopped"]
    assert turn(alarms, minutes=61) == ["study stopped", "resolved: study stopped"]
    assert turn(alarms, minutes=90) == ["study stopped", "resolved: study stopped"]
    assert alarms.waiting[digest("json://a")] == alarms.waiting[digest("json://b")]


def test_causes_of_a_rule_are_put_together_for_a_while():
    alarms, more = Alarms(0.0), [replace(HELD, subject=f"{n:012x}") for n in range(30)]
    assert turn(alarms, HELD) == ["study stopped"]
    assert turn(alarms, HELD, *more, minutes=1) == ["study stopped"]
    assert turn(alarms, HELD, *more, minutes=16) == ["study stopped", "study stopped"]
    assert alarms.waiting[digest("json://a")][1].body.endswith("and 10 more")


def test_quiet_hours_hold_back_and_what_is_over_by_then_is_told_to_nobody():
    section = SECTION.model_copy(update={"quiet_hours": "11:00-13:00"})
    alarms, disk = Alarms(0.0), Cause(Rule.DISK_LOW, "", "Make room.")
    assert turn(alarms, HELD, disk, section=section) == []
    assert turn(alarms, HELD, minutes=61, section=section) == ["study stopped"]
    over_midnight = SECTION.model_copy(update={"quiet_hours": "22:00-06:00"})
    assert turn(alarms, HELD, disk, minutes=61, section=over_midnight) == ["disk low", "study stopped"][::-1]


def test_what_came_back_before_its_end_was_told_is_no_news():
    alarms = Alarms(0.0)
    turn(alarms, HELD)
    turn(alarms, minutes=1)
    assert turn(alarms, HELD, minutes=16) == ["study stopped"]
    assert turn(alarms, minutes=17) == ["study stopped", "resolved: study stopped"]


def test_a_restart_forgets_nothing_and_tells_nothing_twice(tmp_path: Path):
    alarms = Alarms(5.0)
    turn(alarms, HELD)
    write_alarms(tmp_path, alarms)
    again = read_alarms(tmp_path, 100.0)
    assert again == alarms
    assert turn(again, HELD, minutes=60) == ["study stopped"]
    assert "json://" not in (tmp_path / "alarms.json").read_text()


def test_a_damaged_file_begins_anew(tmp_path: Path):
    (tmp_path / "alarms.json").write_text('{"began_s": 1, "open": []}')
    assert read_alarms(tmp_path, 100.0) == Alarms(100.0)


@pytest.mark.parametrize("quiet", ["22-6", "25:00-06:00", "22:00"])
def test_quiet_hours_that_are_none_are_refused(quiet: str):
    with pytest.raises(ConfigError, match="quiet hours"):
        parse(f'[receive]\naccept = "any"\n[alarms]\nquiet_hours = "{quiet}"')


def test_an_address_that_apprise_does_not_know_is_refused_without_being_printed(tmp_path: Path):
    file = tmp_path / "to"
    file.write_text("# ours\njson://a\nnothing://secret@b\n")
    with pytest.raises(ConfigError) as refused:
        addresses(AlarmsSection(to_file=file))
    assert "secret" not in str(refused.value)


SETTINGS = """
[node]
data_dir = "data"
[receive]
disk_reserve_gb = 0
[[peers]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 104
roles = ["source", "destination"]
[alarms]
pause_min = 0
disk_gb = 0
to = {to}
"""


def test_a_held_study_is_told_by_mail_and_webhook_and_resolved_while_another_address_is_away(tmp_path: Path):
    with held_port() as away, smtp() as (port, mails), webhook() as hook:
        to = [mail(port), f"json://127.0.0.1:{away}/", f"json://127.0.0.1:{hook.server.server_port}/"]
        config = parse(SETTINGS.format(to=json.dumps(to)), folder=tmp_path)
        spool, index = write_past(config.node.data_dir, 20), Index.of(config)
        write_alarms(config.node.data_dir, Alarms(0.0))
        index.catch_up(spool)
        watcher = Watcher(config)

        def told(word: str) -> bool:
            watcher.turn()
            return all(
                any(word in text for text in texts) for texts in (mails.taken, [p["title"] for p in hook.posted])
            )

        wait_for(lambda: told("study stopped"), 30, "the messages")
        (posted,) = [post for post in hook.posted if "study stopped" in post["title"]]
        assert posted["message"].count("is held (missing_role)") == 3
        spool.study(past_uid(16)).note(Event.READ, State.SCORED, input_digest="d")
        index.catch_up(spool)
        wait_for(lambda: told("resolved: study stopped"), 30, "the end")
        index.close()
        assert not [text for text in [*mails.taken, *map(str, hook.posted)] if "1.2.826" in text]
        assert read_alarms(config.node.data_dir, 0.0).waiting[digest(to[1])], "what is away gets it later"


def test_the_trial_says_which_address_took_it(tmp_path: Path):
    with held_port() as away, webhook() as hook:
        file = tmp_path / "node.toml"
        to = [f"json://127.0.0.1:{hook.server.server_port}/", f"json://127.0.0.1:{away}/"]
        file.write_text(SETTINGS.format(to=json.dumps(to)))
        lines = command("alarms", "--test", "--config", str(file), code=1).splitlines()
        assert [line.split(":")[0] for line in lines] == ["1, json", "2, json"]
        assert "sent" in lines[0]
        assert "not taken" in lines[1]
        assert hook.posted[0]["title"].endswith("test")


def test_a_watcher_beside_the_node_says_that_its_worker_is_gone(tmp_path: Path):
    """The rule end to end: a pulse that stopped long ago, no restart in between."""
    with webhook() as hook:
        to = json.dumps([f"json://127.0.0.1:{hook.server.server_port}/"])
        config = parse(SETTINGS.format(to=to), folder=tmp_path)
        (config.node.data_dir / "pulse").mkdir(parents=True, mode=0o700)
        config.node.data_dir.chmod(0o700)
        said = {"process": "worker", "name": "mr-cpu", "place": "elsewhere 1", "pid": 1, "started_s": 0.0}
        said |= {"beaten_s": 0.0, "ready": True, "ended": False, "steps": {}, "days": {}, "memory": None}
        file = config.node.data_dir / "pulse" / "mr-cpu.json"
        file.write_text(json.dumps(said))
        os.utime(file, (time.time() - 600,) * 2)
        watcher = Watcher(config)
        watcher.turn()
        wait_for(lambda: hook.posted, 30, "the message")
        assert "process down" in hook.posted[0]["title"]
        assert "mr-cpu is down for 10 minutes" in hook.posted[0]["message"]
