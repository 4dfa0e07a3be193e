"""An append-only audit log of checkpoints, as a chain of hashes.

1. Each entry says what was recorded of a checkpoint, who wrote it, and the hash of the entry before (Haber & Stornetta 1991,
   https://doi.org/10.1007/BF00196791). Whoever alters or removes an entry has to write all later ones anew.
2. `Log.verify` names the first entry that does not fit; `Log.head` fixes everything so far in one hash, to be noted elsewhere.

What the chain cannot show: that the log was rewritten from some entry to its very end, or cut short (unless a head was
noted where the forger does not reach: `verify(head=...)`); who really was at the keyboard (`by` is what was said); when
(there is no clock in it, order is all it proves); an attack before the first entry.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from course_lib import models, store
from course_lib.backdoors.lineages import checkpoint


@dataclass(frozen=True)
class Entry:
    """One line of the log. What it says is what its writer said; its hash only holds it in place."""

    number: int
    by: str
    note: str
    name: str
    weights: str
    parent: str | None
    data: str
    record: str
    previous: str
    """Hash of the entry before; empty in the first."""
    hash: str = ""
    """SHA-256 of everything above."""

    def expected(self) -> str:
        """The hash that this content should have."""
        return store.key_of({key: value for key, value in asdict(self).items() if key != "hash"})


@dataclass(frozen=True)
class Tampered:
    """The first entry of a log that does not fit."""

    number: int
    why: str


class Log:
    """An append-only audit log of checkpoints, one JSON line an entry, each holding the hash of the one before.

    One writer at a time: of two that write at once, one entry is lost. There is no clock in it: order is all it proves.

    Attributes:
        path: The file, which the first `record` makes.
    """

    def __init__(self, path: str | Path) -> None:
        """A log in this file, which need not exist yet.

        Raises:
            ValueError: Its folder does not exist.
        """
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise ValueError(f"The folder {self.path.parent} of the log does not exist. Make it first.")

    def entries(self) -> tuple[Entry, ...]:
        """All entries as they stand, unverified; none if there is no file yet.

        Raises:
            ValueError: A line that is no entry, by its number.
        """
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        return tuple(self._entry(number, line) for number, line in enumerate(lines))

    def _entry(self, number: int, line: str) -> Entry:
        try:
            return Entry(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise ValueError(f"Line {number} of {self.path} is no entry of an audit log: {line[:60]!r}.") from error

    @property
    def head(self) -> str:
        """Hash of the last entry, which fixes all before it: note it where a forger does not reach."""
        entries = self.entries()
        return entries[-1].hash if entries else ""

    def verify(self, *, head: str | None = None) -> Tampered | None:
        """The first entry that does not fit, or None if the chain is whole.

        A log that was rewritten from an entry to its end, or cut short, is whole. Only a `head` noted elsewhere shows it.

        Args:
            head: `Log.head` as it was noted after some entry; that entry must still be there.

        Raises:
            ValueError: A line that is no entry.
        """
        entries, previous = self.entries(), ""
        for place, entry in enumerate(entries):
            if entry.hash != entry.expected():
                return Tampered(
                    place, f"the content of entry {place} does not have the hash that it carries: it was altered"
                )
            if (entry.number, entry.previous) != (place, previous):
                return Tampered(
                    place, f"entry {place} does not follow the one before: one was rewritten, removed or put in"
                )
            previous = entry.hash
        if head is not None and head not in {"", *(entry.hash for entry in entries)}:
            return Tampered(len(entries), "no entry has the hash that was noted: the log was cut short or rewritten")
        return None

    def record(self, name: str | Path, *, by: str, note: str = "") -> Entry:
        """Append what an organism or a folder is now, and return the entry.

        Args:
            name: An organism, or a folder with a lineage.
            by: Who says so.
            note: What was done, in a few words.

        Raises:
            ValueError: As `checkpoint`; nobody given; files that differ from their record; a log that is not whole.
        """
        if not by.strip():
            raise ValueError("An entry says who wrote it: give by='name'.")
        self._check()
        found = checkpoint(name)
        models.check_files(found.folder)
        entries = self.entries()
        content = Entry(
            len(entries), by, note, found.name, found.weights, found.parent, found.data, found.record, self.head
        )
        entry = Entry(**{**asdict(content), "hash": content.expected()})
        lines = [json.dumps(asdict(each), sort_keys=True) for each in (*entries, entry)]
        store.write_atomically(self.path, ("\n".join(lines) + "\n").encode())
        return entry

    def latest(self) -> dict[str, Entry]:
        """The last entry of each name.

        Raises:
            ValueError: A log that is not whole.
        """
        self._check()
        return {entry.name: entry for entry in self.entries()}

    def _check(self) -> None:
        tampered = self.verify()
        if tampered:
            raise ValueError(f"{self.path} cannot be trusted: {tampered.why}. Restore the file from a copy.")
