"""What a version before had queued, or was about to deliver, goes out once."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import ExitStack, closing
from pathlib import Path

from dbos import DBOS, DBOSClient

from dicom_node.engine import workflow
from dicom_node.engine.outbox import Outbox
from dicom_node.engine.underway import Underway
from dicom_node.engine.workflow import Json
from dicom_node.studies.timeline import Event, State
from tests.support.delivering import RUN, Sender, scored_study, sender
from tests.support.services import wait_for

UID = "2.25.51"


def queue(url: str, *studies: str) -> None:
    """Queue a delivery of each study as versions before did."""
    client = DBOSClient(system_database_url=url, serializer=Json())
    for study_uid in studies:
        options = {
            "workflow_name": "deliver",
            "queue_name": "deliver-pacs",
            "workflow_id": study_uid,
            "app_version": workflow.WORKFLOW_VERSION,
        }
        client.enqueue(options, study_uid, RUN, "sr", "pacs")  # type: ignore[arg-type]
    client.destroy()


def test_deliveries_of_a_version_before_are_handed_on(tmp_path: Path):
    queued, begun = UID, f"{UID}.1"
    with ExitStack() as running:
        node = running.enter_context(sender(tmp_path, "pacs"))
        workflow.migrate(node.config)
        queue(node.config.node.engine_url, queued, begun)
        database = running.enter_context(closing(sqlite3.connect(node.config.node.engine_file)))
        with database:
            pending = "UPDATE workflow_status SET status = 'PENDING', executor_id = 'worker' WHERE workflow_uuid = ?"
            assert database.execute(pending, [begun]).rowcount == 1
        addressing = running.enter_context(node.working())
        # The outbox has nothing to take over yet: what is tried here is the old work itself.
        wait_for(lambda: begins(node), 60, "the take-over")
        for uid in (queued, begun):
            scored_study(node.spool, uid)
        stop = threading.Event()
        working = (None, addressing, node.config, "worker", Underway(node.spool), stop)
        thread = threading.Thread(target=workflow.run, args=working, daemon=True)
        thread.start()
        try:
            for uid in (queued, begun):
                node.wait(uid, "pacs", "verified")
        finally:
            stop.set()
            thread.join(60)
            DBOS.destroy(workflow_completion_timeout_sec=5)
        assert sorted(node.destinations["pacs"].stored.values()) == [1, 1]


def begins(node: Sender) -> bool:
    with Outbox(node.config.node.engine_url) as outbox:
        return outbox.begun


def test_a_new_outbox_takes_over_what_the_timelines_say(tmp_path: Path):
    with sender(tmp_path, "pacs", "other") as node:
        study = scored_study(node.spool, UID)
        # As versions before noted it: no word of which run failed, and of which object was proved.
        taken = node.uids(UID)[0]
        study.note(Event.SENT, State.SENDING, peer="other", kind="sr", input_digest=RUN, sop_instance_uid=taken)
        study.note(Event.VERIFIED, peer="other", kind="sr", proof="commitment", input_digest=RUN)
        study.note(Event.SEND_FAILED, peer="pacs", kind="sr", code="peer_unreachable", sentence="It is away.")
        with node.working():
            node.wait(UID, "pacs", "verified")
            wait_for(lambda: node.state(UID) == "delivered", 60, "state delivered")
        assert node.destinations["other"].came == {}
        assert set(node.destinations["pacs"].stored.values()) == {1}


def test_what_a_version_before_gave_up_waits_for_somebody(tmp_path: Path):
    with sender(tmp_path, "pacs") as node:
        study = scored_study(node.spool, UID)
        study.note(Event.GAVE_UP, State.DELIVERY_FAILED, peer="pacs", kind="sr")
        with node.working():
            wait_for(node.undelivered, 60, "the take-over")
            assert node.state(UID) == "delivery_failed"
            node.wake()
            node.wait(UID, "pacs", "verified")
            wait_for(lambda: node.state(UID) == "delivered", 60, "state delivered")
