"""The bank of right and wrong answers, one module a notebook, run by tests/test_answers.py.

`RIGHT["1.2"]` lists differently written right answers. `WRONG["1.2"]` maps a mistake's name to the wrong
answer and to words that the message must hold (None where it can only be general).
`CONTEXT["1.2"]` makes what the notebook's `check("1.2", answer, ...)` passes on after the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from course_lib import directions
from course_lib.grading.claims import Claim, claim


@dataclass(frozen=True)
class Given:
    """An answer that is worked out from the exercise's context."""

    make: Callable[..., Any]


def given(make: Callable[..., Any]) -> Given:
    """Returns a bank entry whose answer is `make(*context)`."""
    return Given(make)


def wilson(count, n):
    """A rate and the limits of its interval."""
    interval = directions.wilson_interval(count, n)
    return interval.estimate, (interval.low, interval.high)


def runs(counts, n):
    """The mean rate of several runs on the same n prompts, and its limits."""
    interval = directions.runs_interval(counts, n)
    return interval.estimate, (interval.low, interval.high)


def rates(value, control) -> Claim:
    """The claim of a number beside its control, each a number and its limits."""
    (a, interval), (b, control_interval) = value, control
    return claim(a, interval=interval, control=b, control_interval=control_interval)
