"""Labels of records: accepted or rejected, with a corrected text and a note, appended to a file of JSON lines.

Every label is one line, written whole and flushed to the disk before the page gets its answer; the last line about a
record counts. A line that a crash has torn off at the end of the file is cut away when the file is opened again.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs

from curate.errors import PlanError

VERDICTS: Final = ("accept", "reject", "")
MAX_TEXT_CHARACTERS: Final = 20_000


@attrs.frozen
class Annotation:
    """A label of a record.

    Args:
        verdict: `accept`, `reject`, or "" (a note or a corrected text alone).
        text: the corrected text; None: it was not corrected.
    """

    id: str
    verdict: str = ""
    text: str | None = None
    note: str = ""
    audio_filepath: str | None = None

    def line(self) -> bytes:
        """Return its line of the file."""
        row = {
            "id": self.id,
            "audio_filepath": self.audio_filepath,
            "verdict": self.verdict or None,
            "corrected_text": self.text,
            "note": self.note or None,
            "labelled_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"


class Annotations:
    """The labels in a file.

    Args:
        path: the file; it is made with the first label.

    Raises:
        PlanError: the file holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._found: dict[str, Annotation] = {}
        if path.exists():
            self._read()

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                row = json.loads(line)
                found = Annotation(
                    str(row["id"]),
                    row.get("verdict") or "",
                    row.get("corrected_text"),
                    row.get("note") or "",
                    row.get("audio_filepath"),
                )
            except (ValueError, KeyError, TypeError, AttributeError):
                raise PlanError(
                    f"{self.path}:{number}: this is not a label; name another file with --annotations"
                ) from None
            self._found[found.id] = found
        if whole < len(content):
            with self.path.open("r+b") as file:
                file.truncate(whole)

    def add(self, annotation: Annotation) -> None:
        """Append a label; it is on the disk when this returns."""
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(annotation.line())
                file.flush()
                os.fsync(file.fileno())
            self._found[annotation.id] = annotation

    def of(self, identity: str) -> Annotation | None:
        """Return the last label of a record."""
        return self._found.get(identity)

    def ids(self, verdict: str | None = None) -> list[str]:
        """Return the ids of the records with a verdict, or with any label."""
        with self._lock:
            return [each.id for each in self._found.values() if verdict is None or each.verdict == verdict]

    def counts(self) -> Mapping[str, int]:
        """Return the number of records with each verdict."""
        with self._lock:
            found = [each.verdict for each in self._found.values()]
        return {verdict or "note": found.count(verdict) for verdict in VERDICTS}


def annotation_of(identity: str, audio_filepath: Any, asked: Mapping[str, Any]) -> Annotation:
    """Return the label that a request describes.

    Raises:
        ValueError: its form is another.
    """
    verdict, text, note = asked.get("verdict") or "", asked.get("text"), asked.get("note") or ""
    if verdict not in VERDICTS:
        raise ValueError(f"verdict={verdict!r:.80}: must be accept, reject or empty")
    if (text is not None and not isinstance(text, str)) or not isinstance(note, str):
        raise ValueError("text and note must be strings")
    if len(text or "") > MAX_TEXT_CHARACTERS or len(note) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"text and note have at most {MAX_TEXT_CHARACTERS:,} characters")
    return Annotation(identity, verdict, text, note, audio_filepath if isinstance(audio_filepath, str) else None)
