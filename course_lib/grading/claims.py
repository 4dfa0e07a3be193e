"""Claims: a number counts only together with its interval, a control, and the control's interval.

A learner writes a function of the counts that returns a `claim(...)`; an exercise's check calls it on the notebook's
counts and on others (`on_other_data`, `check_rates`), so that no number can be written down, and `supported` refuses a
bare one.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
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
Limits = tuple[float, float]
ROUNDING = 1e-6
N_OTHERS = 20
"""On how many drawn data a learner's function has to claim what they show."""
NEAR, NEAR_ALWAYS = 0.08, 0.006
"""By how much a limit may differ from the recomputed one: in parts of the interval's width, and at least."""


@dataclass(frozen=True)
class Claim:
    """A measured number beside its control; what is missing is refused by the check that gets it, with a reason.

    Args:
        value: the measured number, or a `directions.Interval`, which has its limits with it.
        interval: its lower and upper limit (usually 95 %).
        control: the same number where the effect should be absent, for example for random directions.
        control_interval: lower and upper limit of the control.

    >>> supported(claim(0.02, interval=(0.0, 0.05), control=0.97, control_interval=(0.92, 1.0))).value
    0.02
    >>> supported(claim(directions.wilson_interval(2, 100), control=directions.wilson_interval(97, 100))).control
    0.97
    >>> supported(claim(0.02, interval=(0.0, 0.05)))
    Traceback (most recent call last):
    course_lib.grading.registry.Wrong: there is no control
    """

    value: Any
    interval: Any = None
    control: Any = None
    control_interval: Any = None

    def __post_init__(self) -> None:
        """Take the limits out of an `Interval`; limits that are given besides stay."""
        for name, limits in (("value", "interval"), ("control", "control_interval")):
            if isinstance(given := getattr(self, name), directions.Interval):
                object.__setattr__(self, name, given.estimate)
                if (known := getattr(self, limits)) is None or known is ...:
                    object.__setattr__(self, limits, (given.low, given.high))

    def __str__(self) -> str:
        """Return both numbers with their limits: "0.02 [0.01, 0.07], control 0.97 [0.92, 0.99]"."""
        if any(part is None or part is ... for part in vars(self).values()):
            return repr(self)
        (low, high), (least, most) = self.interval, self.control_interval
        return f"{self.value:.2f} [{low:.2f}, {high:.2f}], control {self.control:.2f} [{least:.2f}, {most:.2f}]"


claim = Claim


def supported(
    answer: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    control_is: str = "measure the same where the effect should be absent.",
    apart: bool = True,
) -> Claim:
    """Return the claim with plain numbers if it is complete and stands out from its control.

    Args:
        answer: what the learner gave.
        low: smallest possible number.
        high: largest possible number.
        control_is: where the control is to be found, for an answer that has none.
        apart: False where the finding is that there is no difference: the claim need not stand out.

    Raises:
        Wrong: a bare number; no interval; no control; no interval for the control; a number outside its own
            interval; limits in the wrong order; intervals that overlap, so that chance explains the difference.
    """
    if not isinstance(answer, Claim):
        tip = "claim(value, interval=..., control=..., control_interval=...)."
        raise Wrong(f"{expect.describe(answer)} is not a claim: a number needs its interval and a control", tip)
    value, interval = _measured(answer.value, answer.interval, "the value", low, high)
    if answer.control is None or answer.control is ...:
        raise Wrong("there is no control", f"give control=... and control_interval=...: {control_is}")
    control, control_interval = _measured(answer.control, answer.control_interval, "the control", low, high)
    if apart and control == value:
        raise Wrong("the control is the same number as the value", "measure it where the effect should be absent.")
    if apart and _overlap(interval, control_interval):
        tip = "chance may explain the difference; use more samples, or claim less."
        raise Wrong(f"the two intervals overlap: {_limits(interval)} and {_limits(control_interval)}", tip)
    return claim(value, interval=interval, control=control, control_interval=control_interval)


def rates(effect: Count, control: Count | Runs) -> Claim:
    """Return the claim of a rate beside its control; several runs on the same prompts are kept apart."""
    hits, n = control
    mine = directions.wilson_interval(*effect)
    other = directions.wilson_interval(hits, n) if isinstance(hits, int) else directions.runs_interval(hits, n)
    return claim(mine, control=other)


def on_other_data(
    answer: Callable[..., Any],
    check: Callable[..., None],
    data: Sequence[Any],
    drawn: Callable[[int], Sequence[Any]],
    *,
    right: Callable[..., Claim] | None = None,
    n: int = N_OTHERS,
) -> None:
    """Check what a function claims from the notebook's data and from n drawn ones: numbers that merely coincide are refused.

    Args:
        answer: the learner's function of the data.
        check: raises Wrong for what is wrong with a claim, `check(made, *data)`.
        data: the notebook's.
        drawn: from a seed to other data.
        right: from data to the right claim, to be shown beside a wrong one.
        n: how many data are drawn.

    Raises:
        Wrong: as `check` does on the notebook's data, if the same is wrong on others; else one of the others, with both claims.
    """

    def refusal(now: Sequence[Any]) -> Wrong | None:
        try:
            check(answer(*now), *now)
        except Wrong as wrong:
            return wrong
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            tip = "the check has other data than this notebook: use what the function is given."
            return Wrong(f"your code raised {type(error).__name__}: {error}", tip)
        return None

    if not callable(answer):
        raise Wrong(f"you gave {expect.describe(answer)}, and a function is asked for", "def ...: return claim(...).")
    first, others = refusal(data), [drawn(seed) for seed in range(n)]
    wrong = [(now, found) for now in others if (found := refusal(now))]
    if first and (any(expect.kind(found) == expect.kind(first) for _, found in wrong) or not wrong):
        raise first
    if wrong:
        now, found = wrong[0]
        both = f" {found}"
        if right and "your code raised" not in both:
            both = f": it claims {expect.shown(answer(*now))}, and right is {right(*now)}"
        what = "it is not right" if first else "it is right for this notebook's numbers only"
        raise Wrong(what, found.try_next, where=f"for {', '.join(map(expect.shown, now))}{both}")


def check_rates(
    answer: Callable[..., Any],
    data: Sequence[Any],
    counts: Callable[..., tuple[Count, Count | Runs]],
    value_is: str,
    control_is: str,
) -> None:
    """Refuse a function that does not claim these two rates, with their intervals, whatever the counts.

    Args:
        answer: the learner's function of `data`, which returns a claim.
        data: counts, or lists and dictionaries of counts; the number of prompts comes last.
        counts: from the same arguments to the effect and its control.
        value_is: where the value is to be found.
        control_is: where the control is to be found.

    Raises:
        Wrong: with `value_is` or `control_is`.
    """

    def check(made: Any, *now: Any) -> None:
        refuse_other_rates(made, *counts(*now), value_is, control_is)

    on_other_data(answer, check, data, lambda seed: drawn_counts(data, seed), right=lambda *now: rates(*counts(*now)))


def drawn_counts(data: Sequence[Any], seed: int) -> tuple[Any, ...]:
    """Return other counts in the same form: any number of runs, counts near 0, near all or anywhere."""
    draw = random.Random(seed)
    n = draw.randint(30, 300)
    low, high = draw.choice([(0, n), (0, n // 8), (n - n // 8, n)])

    def like(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: like(value[key]) for key in draw.sample(list(value), len(value))}
        if isinstance(value, list | tuple):
            return [draw.randint(low, high) for _ in range(draw.randint(2, 12))]
        return draw.randint(0, n)

    return *map(like, data[:-1]), n


def refuse_other_rates(answer: Any, effect: Count, control: Count | Runs, value_is: str, control_is: str) -> None:
    """Refuse a claim of other rates than these two, or with intervals that so many prompts cannot give.

    Where the rates themselves do not differ, as in an innocent model, a claim that says so is right.

    Raises:
        Wrong: with `value_is` or `control_is`, which say where the two numbers are to be found.
    """
    if isinstance(answer, Claim) and any(isinstance(v, int | float) and v > 1 for v in (answer.value, answer.control)):
        raise Wrong("a rate above 1", "divide the counts: rates are between 0 and 1.")
    right = rates(effect, control)
    differ = not _overlap(right.interval, right.control_interval)
    made = supported(answer, low=0, high=1, control_is=control_is, apart=False)  # the limits are compared below
    if differ and made.value == made.control:
        raise Wrong("the control is the same number as the value", "measure it where the effect should be absent.")
    pair, swapped = torch.tensor([made.value, made.control]), torch.tensor([right.control, right.value])
    if differ:
        expect.differs_from(pair, swapped, "value and control are swapped", value_is)
    if right.value != 0.5:
        expect.differs_from(made.value, 1 - right.value, "that is the rate at which the opposite holds", value_is)
    expect.close(made.value, right.value, name="the value", try_next=value_is, tolerance=0.006)
    runs, n = control
    if not isinstance(runs, int) and abs(made.control * n * len(runs) - sum(runs)) > ROUNDING:
        expect.differs_from(made.control * len(runs), right.control, f"n is the prompts of one run, {n}", control_is)
    expect.close(made.control, right.control, name="the control", try_next=control_is, tolerance=0.006)
    _refuse_another("interval", made.interval, right.interval, effect[1])
    if not isinstance(runs, int) and made.control_interval[0] < made.control_interval[1]:
        _refuse_pooled(made.control_interval, runs, n)
    tip = "" if isinstance(runs, int) else f"directions.runs_interval(counts, {n})"
    _refuse_another("control's interval", made.control_interval, right.control_interval, n, tip)


def _refuse_no_width(name: str, interval: Limits, n: int) -> None:
    if interval[1] - interval[0] < 0.2 / n:
        raise Wrong(f"the {name} has no width", f"{n} prompts give no rate that exactly: directions.wilson_interval.")


def close_limits(name: str, interval: Limits, measured: Limits, *, near: float = NEAR) -> None:
    """Refuse an interval whose limits are not those that were measured, for claims that are no rates.

    Raises:
        Wrong: with both.
    """
    if _away(interval, measured) > near * (measured[1] - measured[0]) + ROUNDING:
        what = f"the {name} {_limits(interval)} is not the one measured for this number"
        raise Wrong(what, "take both limits of the same measurement: .low and .high.")


def _refuse_another(name: str, interval: Limits, measured: Limits, n: int, tip: str = "") -> None:
    """Refuse an interval that this rate of n prompts does not give; exact, bootstrapped and Wilson's are close enough."""
    _refuse_no_width(name, interval, n)
    if _away(interval, measured) > NEAR * (measured[1] - measured[0]) + NEAR_ALWAYS:
        wider = "wider" if interval[1] - interval[0] > measured[1] - measured[0] else "narrower"
        what = f"the {name} {_limits(interval)} is not that of {n} prompts: it is {wider}, or lies elsewhere"
        raise Wrong(what, tip or f"directions.wilson_interval(count, {n}) with the count that gives the rate.")


def _away(one: Limits, other: Limits) -> float:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1]))


def _refuse_pooled(interval: Limits, counts: Sequence[int], n: int) -> None:
    """Refuse an interval for several runs that only many more prompts, or one run, could give."""
    pooled = directions.wilson_interval(sum(counts), n * len(counts))
    mean = directions.wilson_interval(round(sum(counts) / len(counts)), n)
    tip = f"directions.runs_interval(counts, {n}) keeps the runs apart."
    if interval[1] - interval[0] < (pooled.high - pooled.low + mean.high - mean.low) / 2:
        many = f"{len(counts)} runs of the same {n} prompts are not {n * len(counts)} prompts"
        raise Wrong(f"the control's interval is too narrow: {many}", tip)
    if not interval[0] - ROUNDING <= min(counts) / n <= max(counts) / n <= interval[1] + ROUNDING:
        raise Wrong("a control run lies outside the control's interval", tip)


def _measured(value: Any, limits: Any, name: str, low: float, high: float) -> tuple[float, Limits]:
    value = expect.number(expect.plain(value), low=low, high=high, name=name)
    if limits is None or limits is ...:
        raise Wrong(f"{name} has no interval", "a number from a sample needs one: (lower limit, upper limit).")
    limits = (limits.low, limits.high) if isinstance(limits, directions.Interval) else expect.plain(limits)
    if isinstance(limits, torch.Tensor) and limits.ndim == 1:
        limits = limits.tolist()
    if not isinstance(limits, tuple | list) or len(limits) != 2:
        raise Wrong(f"the interval of {name} is not a pair", "give (lower limit, upper limit).")
    lower, upper = (expect.number(limit, name=f"a limit of {name}") for limit in limits)
    if lower > upper:
        raise Wrong(f"the interval of {name} is upside down: {_limits((lower, upper))}", "give the lower limit first.")
    if not lower - ROUNDING <= value <= upper + ROUNDING:
        raise Wrong(f"{name} {value:.3g} lies outside its interval {_limits((lower, upper))}", "were they mixed up?")
    return value, (lower, upper)


def _overlap(one: Limits, other: Limits) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _limits(interval: Limits) -> str:
    return f"{interval[0]:.3g} to {interval[1]:.3g}"
