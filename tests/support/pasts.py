"""Spools with a past: many studies that were received, read and delivered long ago, written without the node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dicom_node.studies.spool import Spool

_DAY = timedelta(days=1)
SENDERS = ("PACS", "MR_1", "MR_2")
OUTCOMES = ("delivered",) * 16 + ("held",) * 3 + ("delivery_failed",)


def past_uid(number: int) -> str:
    """Return the Study Instance UID of a study of the past."""
    return f"1.2.826.0.1.3680043.10.1407.{number}"


def write_past(data_dir: Path, studies: int, *, now: datetime | None = None) -> Spool:
    """Return a spool with finished studies, the oldest first and a hundred a day; each has one small file."""
    spool = Spool(data_dir)
    start = (now or datetime.now(UTC)) - _DAY * (studies / 100)
    for number in range(studies):
        folder = data_dir / "spool" / past_uid(number)
        (folder / "instances").mkdir(parents=True, mode=0o700)
        (folder / "instances" / f"1.2.{number}.dcm").write_bytes(b"x")
        lines = _lines(number, start + _DAY * (number / 100))
        (folder / "timeline.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return spool


def _lines(number: int, began: datetime) -> Iterator[dict[str, object]]:
    outcome, sender = OUTCOMES[number % len(OUTCOMES)], SENDERS[number % len(SENDERS)]

    def line(minutes: float, event: str, state: str | None = None, **facts: object) -> dict[str, object]:
        time = (began + timedelta(minutes=minutes)).isoformat()
        return {"time": time, "event": event, **({"state": state} if state else {}), **facts}

    yield line(0, "association", calling=sender, address="127.0.0.1")
    yield line(2, "queued", "queued", reason="quiet")
    yield line(2, "collected", digest="0" * 64, reason="quiet", instances=1)
    yield line(3, "selected", input_digest="d", series_numbers={"T1W": 2, "T2W": 3, "FLAIR": 4})
    yield line(3, "running", "running", input_digest="d")
    if outcome == "held":
        reason = {"code": "missing_role", "sentence": "No series of the study is FLAIR; acquire or send it."}
        yield line(4, "read", "held", input_digest="d", **reason)
        return
    yield line(4, "read", "scored", input_digest="d")
    for kind in ("sr", "summary"):
        to = {"peer": "pacs", "kind": kind, "input_digest": "d"}
        if outcome == "delivered":
            yield line(5, "sent", "sending", file="report.dcm", **to)
            yield line(6, "verified", proof="commitment", **to)
        else:
            yield line(5, "send_failed", code="peer_unreachable", sentence="It cannot be reached.", **to)
            yield line(60, "gave_up", "delivery_failed", **to)
    if outcome == "delivered":
        yield line(6, "delivered", "delivered")
