"""What a learner has done so far, kept so that a restarted kernel still knows it.

Each notebook has one file of events, `.progress/NN.jsonl` beside the notebook, one JSON object a line. Events
are only ever appended, so two kernels can write at once, and a line that was torn by a crash or damaged by
hand is skipped without losing the others. Deleting the file starts the notebook over.

The environment variable COURSE_PROGRESS names another folder, or is "off" to keep everything in memory (the
tests do, so that each run starts fresh).
"""

import json
import os
from pathlib import Path
from typing import Any

# what each kind of event must hold; an event that does not is damaged, and skipped
_FIELDS: dict[str, dict[str, Any]] = {
    "check": {"passed": bool},
    "hint": {},
    "prediction": {"guess": str | list, "confidence": int | float},
    "reveal": {"hit": bool, "confidence": int | float, "brier": int | float},
    "answer": {"letter": str, "right": bool},
}
_in_memory: dict[int, list[dict[str, Any]]] = {}


def add(notebook: int, what: str, item: str, **details: Any) -> None:
    """Appends one event; where the folder cannot be written to, it stays in memory."""
    event = {"what": what, "item": item, **details}
    path = file(notebook)
    try:
        if path is None:
            raise PermissionError("progress is kept in memory")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write("\n" + json.dumps(event))
    except OSError:
        _in_memory.setdefault(notebook, []).append(event)


def events(notebook: int, what: str, item: str | None = None) -> list[dict[str, Any]]:
    """Returns the events of one kind, oldest first, of one item or of all."""
    kept = [*_from_file(file(notebook)), *_in_memory.get(notebook, [])]
    return [event for event in kept if event["what"] == what and item in (None, event["item"])]


def file(notebook: int) -> Path | None:
    """Returns where a notebook's events are kept, or None when they are kept in memory only."""
    folder = os.environ.get("COURSE_PROGRESS", ".progress")
    return None if folder == "off" else Path(folder) / f"{notebook:02d}.jsonl"


def _from_file(path: Path | None) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path else ""
    except OSError:
        return []
    return [event for line in text.splitlines() if (event := _parsed(line))]


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if _is_whole(event) else None


def _is_whole(event: Any) -> bool:
    if not isinstance(event, dict) or not isinstance(event.get("item"), str) or event.get("what") not in list(_FIELDS):
        return False
    return all(isinstance(event.get(name), kind) for name, kind in _FIELDS[event["what"]].items())
