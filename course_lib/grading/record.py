"""Record of what a learner has done, kept so that a restarted kernel still knows it.

Each chapter has a file of events, `.progress/NN.jsonl` beside its notebook, one JSON object a line. Events are only
appended, so two kernels can write at once, and a damaged line is skipped without losing the others. Deleting the file
starts the chapter over.

The environment variable COURSE_PROGRESS names another folder, or is "off" to keep everything in memory (as the tests
do, so that each run starts fresh).
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

_in_memory: dict[int, list[dict[str, Any]]] = {}


def add(chapter: int, what: str, item: str, **details: Any) -> None:
    """Append one event; where the folder cannot be written to it stays in memory, and the first one says so."""
    event = {"what": what, "item": item, **details}
    path = _file(chapter)
    try:
        if path is None:
            raise PermissionError("progress is kept in memory")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="\n") as stream:
            stream.write("\n" + json.dumps(event))
    except OSError as error:
        if path and not _in_memory:
            print(f"Your progress cannot be kept ({error}): set COURSE_PROGRESS to a folder of yours, and restart.")
        _in_memory.setdefault(chapter, []).append(event)


def events(chapter: int, what: str, item: str | None = None) -> list[dict[str, Any]]:
    """Return the events of one kind, oldest first, of one item or of all."""
    kept = [*_from_file(_file(chapter)), *_in_memory.get(chapter, [])]
    return [event for event in kept if event["what"] == what and item in (None, event["item"])]


def _file(chapter: int) -> Path | None:
    folder = os.environ.get("COURSE_PROGRESS", ".progress")
    return None if folder == "off" else Path(folder) / f"{chapter:02d}.jsonl"


def _from_file(path: Path | None) -> list[dict[str, Any]]:
    found = []
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path else []:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return [event for event in found if isinstance(event, dict) and {"what", "item"} <= event.keys()]
