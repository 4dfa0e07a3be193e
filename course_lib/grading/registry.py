"""What a notebook asks: exercises, quiz questions and predictions, kept by their ids.

An id is "<notebook>.<item>": "1.3" is the third exercise of notebook 01, "1.q2" its second question, "1.p1"
its first prediction. The items of a chapter are written in its module `exercises`, which is imported when one of its
ids is first used; importing it fills the three registries below. The package of chapters announces itself
with `add_chapters`: this library knows of no course.
"""

import difflib
import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

N_HINTS = 3


class Wrong(Exception):
    """An answer that is not right: what is wrong, what to try next and, where it helps, where."""

    def __init__(self, what: str, try_next: str, *, where: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.try_next = try_next
        self.where = where


@dataclass(frozen=True)
class Exercise:
    """One exercise: what the learner sees of it, its check, and what makes the reference answer."""

    id: str
    title: str
    minutes: int
    difficulty: int
    hints: tuple[str, ...]
    reference: Callable[..., Any]
    check: Callable[..., str | None]


@dataclass(frozen=True)
class Option:
    """One option of a quiz question: its text, and why it is right or wrong."""

    text: str
    explanation: str


@dataclass(frozen=True)
class Question:
    """One quiz question with an explanation for every option."""

    id: str
    text: str
    options: Mapping[str, Option]
    correct: str


@dataclass(frozen=True)
class Prediction:
    """Something to predict before it is seen: one of `options`, or a number within `bounds`."""

    id: str
    text: str
    options: Mapping[str, str]
    bounds: tuple[float, float] | None
    unit: str


Item = TypeVar("Item", Exercise, Question, Prediction)

EXERCISES: dict[str, Exercise] = {}
QUESTIONS: dict[str, Question] = {}
PREDICTIONS: dict[str, Prediction] = {}
MODULES: dict[int, str] = {}
"""Chapter number -> the module that registers its items."""


def exercise(
    item: str, *, title: str, minutes: int, difficulty: int, hints: list[str], reference: Callable[..., Any]
) -> Callable:
    """Returns a decorator that registers a check function as exercise `item`.

    The check gets the learner's answer, then whatever the notebook's `check(item, answer, ...)` passes on. It
    raises `Wrong` for a wrong answer and returns None, or one sentence to be shown beside "done", for a right
    one.

    Args:
        item: the exercise's id, such as "1.3".
        title: a few words for the progress card.
        minutes: how long a learner should need.
        difficulty: 1 (read it off) to 5 (hard).
        hints: three hints, from a nudge to nearly the answer.
        reference: called with the same extra arguments as the check, returns a right answer.

    Raises:
        ValueError: a malformed id, a number of hints other than three, a difficulty outside 1 to 5, an id in
            use.
    """
    if len(hints) != N_HINTS:
        raise ValueError(f"Exercise {item} has {len(hints)} hints; give {N_HINTS}, from a nudge to nearly the answer.")
    if not 1 <= difficulty <= 5:
        raise ValueError(f"Exercise {item} has difficulty {difficulty}; give 1 (read it off) to 5 (hard).")

    def register(function: Callable[..., str | None]) -> Callable[..., str | None]:
        _add(EXERCISES, Exercise(item, title, minutes, difficulty, tuple(hints), reference, function))
        return function

    return register


def question(item: str, text: str, *, options: Mapping[str, tuple[str, str]], correct: str) -> None:
    """Registers quiz question `item`; `options` maps a letter to (text, explanation), `correct` is one
    letter.

    Raises:
        ValueError: a malformed or used id, fewer than two options, a `correct` that is not an option.
    """
    if len(options) < 2 or correct not in options:
        raise ValueError(f"Question {item}: correct={correct!r} must be one of at least two options {list(options)}.")
    _add(QUESTIONS, Question(item, text, {letter: Option(*pair) for letter, pair in options.items()}, correct))


def prediction(
    item: str,
    text: str,
    *,
    options: Mapping[str, str] | None = None,
    bounds: tuple[float, float] | None = None,
    unit: str = "",
) -> None:
    """Registers prediction `item`: either `options` (letter to text) or the `bounds` a number can lie in.

    Raises:
        ValueError: a malformed or used id, both or none of `options` and `bounds`.
    """
    if (options is None) == (bounds is None):
        raise ValueError(f"Prediction {item} needs either options or bounds, not both and not none.")
    _add(PREDICTIONS, Prediction(item, text, dict(options or {}), bounds, unit))


def find(registry: Mapping[str, Item], item: str) -> Item:
    """Returns the registered item, loading its notebook's checks first.

    Raises:
        ValueError: an id that is not text, or that no notebook registered (with the nearest one that exists).
    """
    load(notebook_of(item))
    if item not in registry:
        near = difflib.get_close_matches(item, registry, n=1)
        nearest = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"There is no item {item!r} here.{nearest} Known: {', '.join(sorted(registry)) or 'none'}.")
    return registry[item]


def notebook_of(item: str) -> int:
    """Returns the number of the notebook that an id belongs to.

    >>> notebook_of("1.3")
    1

    Raises:
        ValueError: an id that is not of the form "<notebook>.<item>".
    """
    if not isinstance(item, str) or not re.fullmatch(r"\d+\.\w+", item):
        raise ValueError(f'An id looks like "1.3", in quotes: notebook, dot, item. This one is {item!r}.')
    return int(item.split(".")[0])


def add_chapters(package: str, paths: Iterable[str]) -> None:
    """Register the folders `NN_topic` of a package, each with a module `exercises`."""
    for path in paths:
        for folder in sorted(Path(path).glob("[0-9][0-9]_*")):
            MODULES[int(folder.name[:2])] = f"{package}.{folder.name}.exercises"


def load(notebook: int) -> None:
    """Import the checks of one chapter.

    Raises:
        ValueError: No chapter of that number was registered.
    """
    if notebook not in MODULES:
        raise ValueError(
            f"Notebook {notebook:02d} has no checks. Known: {sorted(MODULES) or 'none; import chapters first'}."
        )
    importlib.import_module(MODULES[notebook])


def _add(registry: dict[str, Any], item: Any) -> None:
    notebook_of(item.id)
    if item.id in registry:
        raise ValueError(f"{item.id!r} is registered twice; give each item its own id.")
    registry[item.id] = item
