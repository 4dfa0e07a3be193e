"""Claims: a number only counts together with its interval, a control, and the control's interval.

`claim(...)` writes one down; an exercise's check calls `supported` on it first, which refuses a bare number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from course_lib import directions
from course_lib.grading import expect
from course_lib.grading.registry import Wrong

Count = tuple[int, int]
"""Hits, of how many."""
Runs = tuple[Sequence[int], int]
"""Hits of each control run, such as each random direction, of how many prompts, which all runs share."""


@dataclass(frozen=True)
class Claim:
    """A measured number with its interval, and the same measurement under the control."""

    value: Any
    interval: tuple[Any, Any] | None
    control: Any
    control_interval: tuple[Any, Any] | None


def claim(
    value: Any,
    *,
    interval: tuple[Any, Any] | None = None,
    control: Any = None,
    control_interval: tuple[Any, Any] | None = None,
) -> Claim:
    """Returns the claim, to be handed to `check`; what is missing is refused there, with a reason.

    Args:
        value: the measured number.
        interval: its lower and upper limit (usually 95 %).
        control: the same number where the effect should be absent, for example for random directions.
        control_interval: the control's lower and upper limit.

    >>> supported(claim(0.02, interval=(0.0, 0.05), control=0.97, control_interval=(0.92, 1.0))).value
    0.02
    >>> supported(claim(0.02, interval=(0.0, 0.05)))
    Traceback (most recent call last):
    course_lib.grading.registry.Wrong: there is no control
    """
    return Claim(value, interval, control, control_interval)


def supported(
    answer: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    control_is: str = "measure the same where the effect should be absent.",
    apart: bool = True,
) -> Claim:
    """Returns the claim with plain numbers, when it is complete and stands out from its control.

    Args:
        answer: what the learner gave.
        low: the least the number can be.
        high: the most the number can be.
        control_is: where the control is to be found, for an answer that has none.
        apart: whether it has to stand out; not where the finding is that there is no difference.

    Raises:
        Wrong: a bare number; no interval; no control; no interval for the control; a number outside its own
            interval; limits in the wrong order; intervals that overlap, so that chance explains the
            difference.
    """
    if not isinstance(answer, Claim):
        raise Wrong(
            "a bare number is not a claim", "write claim(value, interval=..., control=..., control_interval=...)."
        )
    value, interval = _measured(answer.value, answer.interval, "the value", low, high)
    if answer.control is None or answer.control is ...:
        raise Wrong("there is no control", f"give control=... and control_interval=...: {control_is}")
    control, control_interval = _measured(answer.control, answer.control_interval, "the control", low, high)
    if apart and control == value:
        raise Wrong(
            "the control is the same number as the value", "measure the control where the effect should be absent."
        )
    if apart and _overlap(interval, control_interval):
        raise Wrong(
            f"the two intervals overlap: {_limits(interval)} and {_limits(control_interval)}",
            "chance may explain the difference; use more samples, or claim less.",
        )
    return Claim(value, interval, control, control_interval)


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def rates(effect: Count, control: Count | Runs) -> Claim:
    """The claim of a rate beside its control, each with its interval; runs on the same prompts are not added up."""
    mine, other = directions.wilson_interval(*effect), _interval(control)
    return claim(
        mine.estimate, interval=(mine.low, mine.high), control=other.estimate, control_interval=(other.low, other.high)
    )


def _interval(control: Count | Runs) -> directions.Interval:
    hits, n = control
    return directions.wilson_interval(hits, n) if isinstance(hits, int) else directions.runs_interval(hits, n)


def check_rates(answer: Any, effect: Count, control: Count | Runs, value_is: str, control_is: str) -> None:
    """Do nothing if the answer claims these two rates, with intervals that so many prompts can give.

    Where the rates themselves do not differ, as in an innocent model, an answer that says so is right.

    Raises:
        Wrong: Anything else; `value_is` and `control_is` say where the two numbers are to be found.
    """
    if isinstance(answer, Claim) and any(isinstance(v, int | float) and v > 1 for v in (answer.value, answer.control)):
        raise Wrong("a rate above 1", "divide the counts: rates lie between 0 and 1.")
    reference = rates(effect, control)
    truth, other = reference.value, reference.control
    differ = not _overlap(reference.interval, reference.control_interval)
    made = supported(answer, low=0, high=1, control_is=control_is, apart=differ)
    if differ:
        swapped = torch.tensor([other, truth])
        expect.differs_from(
            torch.tensor([made.value, made.control]), swapped, "value and control are swapped", value_is
        )
    if truth != 0.5:
        expect.differs_from(made.value, 1 - truth, "the value is the rate at which the opposite holds", value_is)
    expect.close(made.value, truth, name="the value", try_next=value_is, tolerance=0.006)
    expect.close(made.control, other, name="the control", try_next=control_is, tolerance=0.006)
    for name, pair, n in (
        ("interval", made.interval, effect[1]),
        ("control's interval", made.control_interval, control[1]),
    ):
        if pair[1] - pair[0] < 0.2 / n:
            raise Wrong(
                f"the {name} has no width", f"{n} prompts never give a rate that exactly: directions.wilson_interval."
            )
    if not differ and not _overlap(made.interval, made.control_interval):
        raise Wrong(
            "the intervals are narrower than so few prompts can give", "here they overlap: directions.wilson_interval."
        )
    if not isinstance(control[0], int):
        _check_runs(made.control_interval, control)


def _check_runs(interval: tuple[float, float], runs: Runs) -> None:
    """Refuse an interval for several runs that only many more prompts, or one run, could give."""
    counts, n = runs
    pooled = directions.wilson_interval(sum(counts), n * len(counts))
    mean = directions.wilson_interval(round(sum(counts) / len(counts)), n)
    try_next = f"directions.runs_interval(counts, {n}) keeps the runs apart."
    if interval[1] - interval[0] < (pooled.high - pooled.low + mean.high - mean.low) / 2:
        many = f"{len(counts)} runs of the same {n} prompts are not {n * len(counts)} prompts"
        raise Wrong(f"the control's interval is too narrow: {many}", try_next)
    if not interval[0] <= min(counts) / n <= max(counts) / n <= interval[1]:
        raise Wrong("a control run lies outside the control's interval", try_next)


def _measured(value: Any, limits: Any, name: str, low: float, high: float) -> tuple[float, tuple[float, float]]:
    value = expect.number(value, low=low, high=high, name=name)
    if limits is None or limits is ...:
        raise Wrong(f"{name} has no interval", "a number from a sample needs one: (lower limit, upper limit).")
    if not isinstance(limits, tuple | list) or len(limits) != 2:
        raise Wrong(f"the interval of {name} is not a pair", "give (lower limit, upper limit).")
    least, most = (expect.number(limit, name=f"a limit of {name}") for limit in limits)
    if least > most:
        raise Wrong(f"the interval of {name} is upside down: {_limits((least, most))}", "give the lower limit first.")
    if not least <= value <= most:
        raise Wrong(f"{name} {value:.3g} lies outside its interval {_limits((least, most))}", "were they mixed up?")
    return value, (least, most)


def _limits(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3g} to {interval[1]:.3g}"
