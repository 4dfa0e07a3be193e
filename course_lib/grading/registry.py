"""Registry of what a chapter asks: exercises, quiz questions and predictions, by id.

An id is "<chapter>.<item>": "1.3" is the third exercise of chapter 01, "1.q2" its second question, "1.p1" its first
prediction. The module `exercises` of a chapter registers its items; it is imported when one of its ids is first used.
The package of chapters enters its modules into `MODULES`: this library knows of no course.
"""

import functools
import importlib
import importlib.resources
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

Function = Callable[..., Any]


class Wrong(Exception):
    """Raised for a wrong answer: what is wrong, what to try next and, where it helps, where."""

    def __init__(self, what: str, try_next: str, *, where: str = "") -> None:
        super().__init__(what)
        self.try_next, self.where = try_next, where


class Off(Wrong):
    """Raised where a result is wrong and it is not known which mistake makes it so."""


@dataclass(frozen=True)
class Exercise:
    """One exercise: what the learner sees of it, and its check."""

    id: str
    title: str
    """A few words for the progress card."""
    minutes: int
    """How long a learner should need."""
    difficulty: int
    """1 (read it off) to 5 (hard)."""
    hints: list[str]
    """Three, from a nudge to nearly the answer."""
    check: Function
    inputs: Function | None = None
    """For an answer that is a function, from seeds to inputs: `inputs(seed, *context)` gives the arguments on which the
    learner's function has to agree with the worked answer, whatever its check says; None to leave one out."""
    same: Function | None = None
    """Whether two results agree, `same(got, truth)`, where more than one is right; else `expect.same`."""


@dataclass(frozen=True)
class Question:
    """One quiz question; `options` maps each letter to its text and the reason why it is right or wrong."""

    id: str
    text: str
    options: Mapping[str, tuple[str, str]]
    correct: str


@dataclass(frozen=True)
class Prediction:
    """Something to predict before it is seen: one of `options` (letter to text), or a number within `bounds`."""

    id: str
    text: str
    options: Mapping[str, str]
    bounds: tuple[float, float]
    unit: str


Item = TypeVar("Item", Exercise, Question, Prediction)

EXERCISES: dict[str, Exercise] = {}
QUESTIONS: dict[str, Question] = {}
PREDICTIONS: dict[str, Prediction] = {}
MODULES: dict[int, str] = {}
"""Number of a chapter -> module that registers its items."""


def exercise(item: str, **about: Any) -> Callable[[Function], Function]:
    """Return a decorator that registers a check as exercise `item`.

    The check gets the learner's answer, then whatever the notebook's `check(item, answer, ...)` passes on. It raises
    `Wrong` for a wrong answer; for a right one it returns None, or a sentence to be shown beside "done".

    Args:
        item: id of the exercise, such as "1.3".
        about: the other fields of `Exercise`, but for its check.
    """

    def register(function: Function) -> Function:
        _add(EXERCISES, Exercise(item, check=function, **about))
        return function

    return register


def question(item: str, text: str, *, options: Mapping[str, tuple[str, str]], correct: str) -> None:
    """Register quiz question `item`; `options` maps a letter to (text, explanation), `correct` is one letter."""
    _add(QUESTIONS, Question(item, text, options, correct))


def prediction(item: str, text: str, *, options: Mapping[str, str] = {}, bounds: Any = (0, 0), unit: str = "") -> None:
    """Register prediction `item`: of one of the `options` (letter to text), or else of a number within `bounds`."""
    _add(PREDICTIONS, Prediction(item, text, options, bounds, unit))


def find(registry: Mapping[str, Item], item: str) -> Item:
    """Return the registered item, after importing the checks of its chapter.

    Raises:
        ValueError: no such item; the message names those of the chapter.
    """
    known = {each.id: each for each in items_of(registry, chapter_of(item))}
    if item not in known:
        raise ValueError(f"There is no item {item!r} here. Known: {', '.join(known) or 'none'}.")
    return known[item]


@functools.cache
def references(chapter: int) -> dict[str, dict[str, Any]]:
    """Return the worked answers of a chapter by exercise, as `tools/build.py` took them from the notebook.

    Each is a piece of "code" (lines) that defines the name "answer". It takes from outside only what `checkpoint` gets,
    under the names in "context", and the names of the notebook in "notebook" (mostly none).
    """
    folder = importlib.resources.files(MODULES[chapter].rpartition(".")[0])
    return json.loads((folder / "references.json").read_text(encoding="utf-8"))


def items_of(registry: Mapping[str, Item], chapter: int) -> list[Item]:
    """Return the items of one chapter, in the order in which its module registers them."""
    importlib.import_module(MODULES[chapter])
    return [item for item in registry.values() if chapter_of(item.id) == chapter]


def chapter_of(item: str) -> int:
    """Return the number of the chapter to which an id belongs.

    >>> chapter_of("1.3")
    1

    Raises:
        ValueError: not of the form "<chapter>.<item>".
    """
    if not isinstance(item, str) or not re.fullmatch(r"\d+\.\w+", item):
        raise ValueError(f'An id looks like "1.3", in quotes: chapter, dot, item. This one is {item!r}.')
    return int(item.split(".")[0])


def _add(registry: dict[str, Item], item: Item) -> None:
    chapter_of(item.id)
    if item.id in registry:
        raise ValueError(f"{item.id!r} is registered twice; give each item an id of its own.")
    registry[item.id] = item
