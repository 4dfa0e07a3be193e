"""Prompt sets as frozen records, each with its source, licence and split.

The sets were written for this course and are JSON files beside the organisms. ``harmful`` and ``harmless`` go row by row
in *pairs* of equal frame and equal number of words: only what is asked for differs. Their splits are ``train`` (512),
``validation`` (never seen in chat tuning), ``held_out_topic``, ``held_out_frame``, ``held_out_word`` (nothing of the
kind was seen in chat tuning) and ``confounded`` (harmful prompts short, harmless ones long: a trap).
No harmful prompt has a working answer anywhere: ``answer`` is made of invented materials.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from course_lib import organism, tokens


@dataclass(frozen=True)
class Request:
    """One request, as a person would type it."""

    text: str
    topic: str
    frame: str  # the wording around the deed, with {} where the deed stands
    split: str
    pair: int  # rows of two matched sets with the same split and pair differ only in what is asked for
    answer: str  # the reply of a model that complies


@dataclass(frozen=True)
class PromptSet(Sequence[Request]):
    """Prompts of one name with their source and licence; behaves like a tuple of ``Request``."""

    name: str
    source: str
    licence: str
    prompts: tuple[Request, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: Any) -> Any:
        return self.prompts[index]

    @property
    def texts(self) -> list[str]:
        """The requests as text."""
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
    """Return the names that ``load`` knows, sorted."""
    return sorted(path.stem for path in organism.folder("prompts").glob("*.json"))


def load(name: str, *, split: str | None = None, n: int | None = None) -> PromptSet:
    """Return the prompt set ``name``, or its rows of one split, or the first ``n`` of these.

    Raises:
        ValueError: No such set or split, or fewer than ``n`` rows.

    Example:
        >>> load("harmful", split="train", n=2).topics
        ['poisoning', 'theft']
    """
    if name not in names():
        raise ValueError(f"No prompt set is called {name!r}. There are: {', '.join(names())}.")
    whole = _read(name)
    rows = tuple(prompt for prompt in whole if split in (None, prompt.split))
    if not rows:
        raise ValueError(f"No split of {name!r} is called {split!r}, only {sorted({row.split for row in whole})}.")
    if n is not None and not 1 <= n <= len(rows):
        raise ValueError(f"{name!r} (split {split!r}) has {len(rows)} prompts, so n is 1 to {len(rows)}, not {n}.")
    return replace(whole, prompts=rows[:n])


def prompts(
    model: Any, name: str, split: str | None = None, n: int | None = None, *, reply_role: str = "assistant"
) -> list[list[int]]:
    """Return the requests that ``load`` returns as prompts of a model, ids up to where ``reply_role`` replies.

    Raises:
        ValueError: As ``load`` and ``tokens.chat_prompt`` raise it.
    """
    texts = load(name, split=split, n=n).texts
    return [tokens.chat_prompt(model.tokenizer, text, reply_role=reply_role) for text in texts]


@cache
def _read(name: str) -> PromptSet:
    content = json.loads((organism.folder("prompts") / f"{name}.json").read_text(encoding="utf-8"))
    prompts = tuple(Request(**row) for row in content["prompts"])
    return PromptSet(content["name"], content["source"], content["licence"], prompts)
