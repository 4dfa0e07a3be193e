"""Claims: a number counts only together with its interval, a control, and the control's interval.

`supported` refuses a bare one. A learner writes a function of the counts that returns a `claim(...)`; how it is tried on
other counts, so that no number can be written down, stands beside the chapters that ask for it (`chapters/claimed.py`).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch

from course_lib import directions
from course_lib.grading import expect
from course_lib.grading.registry import Wrong

Limits = tuple[float, float]
ROUNDING = 1e-6


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
    if apart and overlap(interval, control_interval):
        tip = "chance may explain the difference; use more samples, or claim less."
        raise Wrong(f"the two intervals overlap: {shown_limits(interval)} and {shown_limits(control_interval)}", tip)
    return claim(value, interval=interval, control=control, control_interval=control_interval)


def _measured(value: Any, limits: Any, name: str, low: float, high: float) -> tuple[float, Limits]:
    value = expect.number(expect.plain(value), low=low, high=high, name=name)
    if limits is None or limits is ...:
        raise Wrong(f"{name} has no interval", "give interval=(low, high); for the control control_interval=.")
    limits = (limits.low, limits.high) if isinstance(limits, directions.Interval) else expect.plain(limits)
    if isinstance(limits, torch.Tensor) and limits.ndim == 1:
        limits = limits.tolist()
    if not isinstance(limits, tuple | list) or len(limits) != 2:
        raise Wrong(f"the interval of {name} is not a pair", "give (lower limit, upper limit).")
    lower, upper = (expect.number(limit, name=f"a limit of {name}") for limit in limits)
    pair = shown_limits((lower, upper))
    if lower > upper:
        raise Wrong(f"the interval of {name} is upside down: {pair}", "give the lower limit first.")
    if not lower - ROUNDING <= value <= upper + ROUNDING:
        raise Wrong(f"{name} {value:.3g} lies outside its interval {pair}", "were they mixed up?")
    return value, (lower, upper)


def overlap(one: Limits, other: Limits) -> bool:
    """Return whether two intervals have a number in common."""
    return one[0] <= other[1] and other[0] <= one[1]


def shown_limits(interval: Limits) -> str:
    """Return an interval in words: "0.01 to 0.07"."""
    return f"{interval[0]:.3g} to {interval[1]:.3g}"
