"""One received study: its instances, its timeline and its results, in its folder of the spool."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.errors import SpoolError
from dicom_node.studies import changes, timeline
from dicom_node.studies.audited_events import audit_event
from dicom_node.studies.copies import received
from dicom_node.studies.timeline import Entry, Event, State, Timeline
from models.contrast import Contrast
from models.whole_files import write_json

TIMELINE: Final = "timeline.jsonl"
_RUN = re.compile(r"[0-9A-Za-z_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Study:
    """One received study.

    Parameters
    ----------
    uid
        Study Instance UID.
    folder
        Its folder in the spool.
    """

    uid: str
    folder: Path

    def instances(self) -> list[Path]:
        """Return the complete instance files, sorted by name."""
        return sorted((self.folder / "instances").glob("[0-9]*.dcm"))

    def digest(self) -> str:
        """Return the SHA-256 over the names and contents of all instances, and the order of their copies, in hex."""
        whole = hashlib.sha256()
        for path in self.instances():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{path.name}\0{content}\n".encode())
        for path in received(self.folder):
            whole.update(f"{path.name}\n".encode())
        return whole.hexdigest()

    def note(
        self, event: Event, state: State | Callable[[Timeline], State | None] | None = None, /, **facts: object
    ) -> Entry:
        """Append an event to the timeline, durably, and return the entry.

        Parameters
        ----------
        event
            What happened.
        state
            What the study is from now on, or what makes it of the timeline; None if it stays what it was.
        **facts
            What else is to be known of it; no patient attribute.
        """
        entry = timeline.append(self._timeline, event, state, facts)
        audit_event(self.uid, self.folder, event, facts)
        self.changed()
        return entry

    def changed(self) -> None:
        """Let the index look at the study again."""
        changes.mark_changed(self.folder.parents[1], self.uid)

    def timeline(self) -> Timeline:
        """Return what was noted.

        Raises
        ------
        SpoolError
            If the disk refuses to read it (``timeline_unreadable``).
        """
        try:
            return timeline.read(self._timeline)
        except OSError as error:
            raise SpoolError(
                f"The timeline of this study cannot be read ({error.strerror}): look at its folder and at the disk.",
                "timeline_unreadable",
            ) from None

    def timeline_bytes(self) -> int:
        """Return the size of the timeline, which only grows; 0 before there is one."""
        try:
            return self._timeline.stat().st_size
        except OSError:
            return 0

    def state(self) -> State | str:
        """Return the last noted state, ``receiving`` before there is one."""
        return self.timeline().state

    def run_folder(self, input_digest: str) -> Path:
        """Return the folder for the results of one input set; it is not created.

        Raises
        ------
        SpoolError
            If `input_digest` is not a plain name (``run_bad_name``).
        """
        if not _RUN.fullmatch(input_digest):
            raise SpoolError("An input digest has letters, digits, - and _ only: pass it as noted.", "run_bad_name")
        return self.folder / "runs" / input_digest

    def choices(self) -> dict[Contrast, str]:
        """Return the Series Instance UIDs that a human chose, by role."""
        try:
            chosen = json.loads(self._choices.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        return {Contrast(role): str(series_uid) for role, series_uid in chosen.items()}

    def choose(self, choices: Mapping[Contrast, str]) -> None:
        """Replace the choices of a human, durably and whole; every later selection of the study keeps to them."""
        write_json(self._choices, dict(choices))

    @property
    def _choices(self) -> Path:
        return self.folder / "choices.json"

    @property
    def _timeline(self) -> Path:
        return self.folder / TIMELINE
