"""Prompt sets as frozen records, each with its source, licence and split.

The sets were written for this course and lie as JSON beside the organisms. ``harmful`` and ``harmless`` go row by row
in *pairs* of equal frame and equal number of words: only what is asked for differs. Their splits are ``train`` (512),
``validation`` (never seen in chat tuning), ``held_out_topic``, ``held_out_frame``, ``held_out_word`` (nothing of the
kind was seen in chat tuning) and ``confounded`` (harmful prompts short, harmless ones long: a trap).
No harmful prompt has a working answer anywhere: ``answer`` is made of invented materials.

Sets that others have published (``sources``) are read at run time from the Hugging Face hub or from a folder, and none is
part of the course. Of a file only the instructions, their topic and a label are kept: targets and completions are never
kept, in memory or on disk, and the file itself is deleted as soon as it is read.
"""

import csv
import difflib
import fnmatch
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from course_lib import hub, organism


@dataclass(frozen=True)
class Prompt:
    """One instruction, as a person would type it."""

    text: str
    topic: str
    frame: str  # the wording around the deed, with {} where the deed stands
    split: str
    pair: int  # rows of two matched sets with the same split and pair differ only in what is asked for
    answer: str  # what a model that complies says


@dataclass(frozen=True)
class PromptSet(Sequence):
    """Prompts of one name with where they come from; behaves like a tuple of ``Prompt``."""

    name: str
    source: str
    licence: str
    prompts: tuple[Prompt, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index):
        return self.prompts[index]

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self.prompts)

    @property
    def texts(self) -> list[str]:
        """The instructions alone."""
        return [prompt.text for prompt in self.prompts]

    @property
    def topics(self) -> list[str]:
        """One topic a prompt: split by these, never by row, when a held-out set is wanted."""
        return [prompt.topic for prompt in self.prompts]

    @property
    def answers(self) -> list[str]:
        """One complying answer a prompt."""
        return [prompt.answer for prompt in self.prompts]


def names() -> list[str]:
    """The names that ``load`` knows, sorted."""
    return sorted(path.stem for path in organism.folder("prompts").glob("*.json"))


def load(name: str, *, split: str | None = None, n: int | None = None) -> PromptSet:
    """The prompt set ``name``, or its rows of one split, or the first ``n`` of these.

    Raises:
        ValueError: No such set or split, or fewer than ``n`` rows.

    Example:
        >>> load("harmful", split="train", n=2).topics
        ['poisoning', 'theft']
    """
    _check_choice("prompt set", name, names())
    whole = _read(name)
    rows = whole.prompts
    if split is not None:
        _check_choice(f"split of {name!r}", split, sorted({prompt.split for prompt in rows}))
        rows = tuple(prompt for prompt in rows if prompt.split == split)
    return replace(whole, prompts=_first(rows, n, f"{name!r} (split {split!r})"))


def _first(rows: tuple[Prompt, ...], n: int | None, what: str) -> tuple[Prompt, ...]:
    if n is not None and (not isinstance(n, int) or not 1 <= n <= len(rows)):
        raise ValueError(
            f"n = {n} prompts asked of {what}, which has {len(rows)}: ask for 1 to {len(rows)}, or leave n out for all."
        )
    return rows[:n]


def _check_choice(what: str, given: str, known: list[str]) -> None:
    if given not in known:
        near = difflib.get_close_matches(str(given), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"No {what} is called {given!r}.{hint} There are: {', '.join(known)}.")


@cache
def _read(name: str) -> PromptSet:
    content = json.loads((organism.folder("prompts") / f"{name}.json").read_text(encoding="utf-8"))
    return PromptSet(
        content["name"], content["source"], content["licence"], tuple(Prompt(**row) for row in content["prompts"])
    )


# --- published by others ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A published set of instructions, and what may be read of it. Read in public pages and code, not on the hub itself."""

    name: str
    kind: Literal["harmful", "harmless", "borderline"]
    """Borderline: harmless, but worded so that a model may refuse; a control for false refusals."""
    repository: str
    """On the hub, as a data set."""
    file: str
    """Pattern of the one file that is read."""
    column: str
    """Of the instruction. No other column is kept but the next two."""
    licence: str
    gated: bool
    topic: str = ""
    """Column of the topic, if there is one."""
    only: tuple[str, str] | None = None
    """(column, value) of the rows that count."""
    paired_with: str = ""
    """Name of the set whose rows are these rows' counterparts."""


_JBB, _XSTEST = "JailbreakBench/JBB-Behaviors", "Paul/XSTest"
_SOURCES = (
    Source("advbench", "harmful", "walledai/AdvBench", "data/train-*.parquet", "prompt", "MIT", gated=True),
    Source(
        "alpaca",
        "harmless",
        "tatsu-lab/alpaca",
        "data/train-*.parquet",
        "instruction",
        "CC BY-NC 4.0",
        gated=False,
        only=("input", ""),
    ),
    Source(
        "harmbench",
        "harmful",
        "walledai/HarmBench",
        "standard/*.parquet",
        "prompt",
        "MIT",
        gated=True,
        topic="category",
    ),
    Source(
        "jailbreakbench",
        "harmful",
        _JBB,
        "data/harmful-behaviors.csv",
        "Goal",
        "MIT",
        gated=False,
        topic="Category",
        paired_with="jailbreakbench-benign",
    ),
    Source(
        "jailbreakbench-benign",
        "borderline",
        _JBB,
        "data/benign-behaviors.csv",
        "Goal",
        "MIT",
        gated=False,
        topic="Category",
        paired_with="jailbreakbench",
    ),
    Source(
        "or-bench-hard",
        "borderline",
        "bench-llm/or-bench",
        "or-bench-hard-1k.csv",
        "prompt",
        "CC BY 4.0",
        gated=False,
        topic="category",
    ),
    Source(
        "xstest-safe",
        "borderline",
        _XSTEST,
        "xstest_prompts.csv",
        "prompt",
        "CC BY 4.0",
        gated=False,
        topic="type",
        only=("label", "safe"),
    ),
    Source(
        "xstest-unsafe",
        "harmful",
        _XSTEST,
        "xstest_prompts.csv",
        "prompt",
        "CC BY 4.0",
        gated=False,
        topic="type",
        only=("label", "unsafe"),
    ),
)


def sources() -> tuple[Source, ...]:
    """What ``published`` knows: names, licences, whether access must be asked for, which sets are each other's controls."""
    return _SOURCES


def published(
    name: str,
    *,
    n: int | None = None,
    seed: int | None = None,
    folder: str | Path | None = None,
    revision: str = "main",
) -> PromptSet:
    """The instructions of a published set, with its licence. Nothing of it stays on the disk.

    Topics are the publisher's; frames and answers are empty, and the split is "published": divide it yourself, by topic. Mind
    the licence (``sources``): not every set may be used for everything, and none is part of this course.

    Args:
        name: As in ``sources``.
        n: Number of instructions; by default all.
        seed: Shuffles the rows before the first ``n`` are taken. Paired sets under one seed keep their pairs.
        folder: Where the file lies already; then no network is needed.
        revision: Commit or branch on the hub.

    Raises:
        ValueError: No such set, fewer than ``n`` rows, or a file that has another form than the one known here.
        OSError: It cannot be fetched, with the reason and the next step: gated, no network, renamed.

    Example:
        >>> [source.name for source in sources() if source.paired_with]
        ['jailbreakbench', 'jailbreakbench-benign']
    """
    _check_choice("published set", name, [source.name for source in _SOURCES])
    source = next(source for source in _SOURCES if source.name == name)
    if folder is not None:
        texts = _read_file(source, _in_folder(source, Path(folder)))
    else:
        texts = _fetched(source, revision)
    rows = tuple(Prompt(text, topic, "{}", "published", number, "") for number, (text, topic) in enumerate(texts))
    if seed is not None:
        rows = tuple(random.Random(seed).sample(rows, len(rows)))
    where = f"https://huggingface.co/datasets/{source.repository} ({revision})" if folder is None else str(folder)
    return PromptSet(name, where, source.licence, _first(rows, n, repr(name)))


@cache
def _fetched(source: Source, revision: str) -> tuple[tuple[str, str], ...]:
    """(instruction, topic) of each row that counts. The file lies in a folder that is gone when this returns."""
    files = fnmatch.filter(hub.dataset_files(source.repository, revision=revision), source.file)
    if len(files) != 1:
        raise ValueError(
            f"{source.repository!r} has {len(files)} files like {source.file!r} on the hub; one was expected. It has changed "
            "since this was written: fetch it yourself, and give the folder."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = hub.dataset_file(source.repository, files[0], revision=revision, folder=Path(folder))
        return _read_file(source, path)


def _in_folder(source: Source, folder: Path) -> Path:
    pattern = source.file.rpartition("/")[2]
    files = sorted(path for path in folder.rglob("*") if fnmatch.fnmatch(path.name, pattern))
    if len(files) != 1:
        raise ValueError(
            f"{folder} holds {len(files)} files called {pattern!r}; one is needed. It is {source.file!r} of "
            f"https://huggingface.co/datasets/{source.repository}."
        )
    return files[0]


def _read_file(source: Source, path: Path) -> tuple[tuple[str, str], ...]:
    wanted = [column for column in (source.column, source.topic, source.only and source.only[0]) if column]
    rows = _columns(source, path, wanted)
    kept = [row for row in rows if source.only is None or (row[source.only[0]] or "").strip() == source.only[1]]
    texts = tuple(
        (row[source.column].strip(), row[source.topic] if source.topic else "") for row in kept if row[source.column]
    )
    if not texts:
        raise ValueError(f"{path.name} of {source.name!r} holds no instruction. Is it the right file?")
    return texts


def _columns(source: Source, path: Path, wanted: list[str]) -> list[dict[str, str]]:
    """The wanted columns of a table, and of no others."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        file = parquet.ParquetFile(path)
        _check_columns(source, wanted, file.schema_arrow.names)
        return file.read(columns=wanted).to_pylist()
    with path.open(encoding="utf-8", newline="") as stream:
        table = csv.DictReader(stream)
        _check_columns(source, wanted, list(table.fieldnames or ()))
        return [{column: row[column] for column in wanted} for row in table]


def _check_columns(source: Source, wanted: list[str], there: list[str]) -> None:
    missing = [column for column in wanted if column not in there]
    if missing:
        raise ValueError(
            f"The file of {source.name!r} has no column {missing[0]!r}. It has: {', '.join(there)}. It is another file, or the "
            "set has changed since this was written."
        )
