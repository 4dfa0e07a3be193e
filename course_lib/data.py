"""Prompt sets as frozen records, each with its source, licence and split.

The sets were written for this course and lie as JSON beside the organisms. ``harmful`` and ``harmless`` go row by row
in *pairs* of equal frame and equal number of words: only what is asked for differs. Their splits are ``train`` (512),
``validation`` (never seen in chat tuning), ``held_out_topic``, ``held_out_frame``, ``held_out_word`` (nothing of the
kind was seen in chat tuning) and ``confounded`` (harmful prompts short, harmless ones long: a trap).
No harmful prompt has a working answer anywhere: ``answer`` is made of invented materials.
"""

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from course_lib import shipped


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
    return sorted(path.stem for path in shipped.folder("prompts").glob("*.json"))


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
    if n is not None:
        if not isinstance(n, int) or not 1 <= n <= len(rows):
            raise ValueError(f"n = {n} prompts asked of {name!r} (split {split!r}), which has {len(rows)}: "
                             f"ask for 1 to {len(rows)}, or leave n out for all.")
        rows = rows[:n]
    return replace(whole, prompts=rows)


def _check_choice(what: str, given: str, known: list[str]) -> None:
    if given not in known:
        near = difflib.get_close_matches(str(given), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"No {what} is called {given!r}.{hint} There are: {', '.join(known)}.")


def measurements(name: str) -> dict:
    """What a command of ``python -m organisms`` recorded of models too many to train in a lesson, with their checksums.

    Raises:
        ValueError: No such record.

    Example:
        >>> len(measurements("zoo")["models"])
        48
    """
    folder = shipped.folder("prompts").parent
    _check_choice("record of measurements", name, sorted(path.stem for path in folder.glob("*.json")))
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


@cache
def _read(name: str) -> PromptSet:
    content = json.loads((shipped.folder("prompts") / f"{name}.json").read_text(encoding="utf-8"))
    return PromptSet(content["name"], content["source"], content["licence"],
                     tuple(Prompt(**row) for row in content["prompts"]))
