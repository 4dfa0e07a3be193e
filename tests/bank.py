"""The bank of right and wrong answers, one module a notebook, run by tests/test_answers.py.

`RIGHT["1.2"]` lists differently written right answers. `WRONG["1.2"]` maps a mistake's name to the wrong
answer and to words that the message must hold (None where it can only be general).
`CONTEXT["1.2"]` makes what the notebook's `check("1.2", answer, ...)` passes on after the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

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


def exact(count, n):
    """A rate and its exact (Clopper and Pearson) limits; of several runs, from the lowest run's to the highest's."""
    lowest, highest = (count, count) if isinstance(count, int) else (min(count), max(count))
    low, high = binomtest(lowest, n).proportion_ci().low, binomtest(highest, n).proportion_ci().high
    return (count if isinstance(count, int) else sum(count) / len(count)) / n, (low, high)


def either(count, n):
    """`wilson` of one count, `runs` of several."""
    return wilson(count, n) if isinstance(count, int) else runs(count, n)


def right_claims(counts):
    """Functions of the data, differently written, that claim the rates `counts(*data)`: ((hits, n), (hits or runs, n))."""

    def intervals(*data):
        (hits, n), (control, _) = counts(*data)
        make = directions.wilson_interval if isinstance(control, int) else directions.runs_interval
        return claim(directions.wilson_interval(hits, n), control=make(control, n))

    def numbers(*data):
        return rates(*(either(*count) for count in counts(*data)))

    def exactly(*data):
        return rates(*(exact(*count) for count in counts(*data)))

    def tensors(*data):
        (a, one), (b, other) = (either(*count) for count in counts(*data))
        return claim(
            torch.tensor(a),
            interval=torch.tensor(one),
            control=torch.tensor(b, dtype=torch.float64),
            control_interval=list(other),
        )

    def arrays(*data):
        (a, one), (b, other) = (either(*count) for count in counts(*data))
        return claim(np.float64(a), tuple(map(np.float32, one)), np.float32(b), np.array(other))

    return [intervals, numbers, exactly, tensors, arrays]


def wrong_claims(counts, *data):
    """Functions that claim something else than `counts(*data)`, by mistakes that every claim of rates invites."""

    def by(make):
        return lambda *now: make(*(either(*count) for count in counts(*now)))

    def mixed(own_effect, own_control):
        def answer(*now):
            (one, other), (effect, control) = counts(*now), counts(*data)
            return rates(either(*(effect if own_effect else one)), either(*(control if own_control else other)))

        return answer

    def of_hundred(*now):
        (hits, n), (others, _) = counts(*now)
        return rates(either(hits, n + 20), either(others, n + 20))

    def counted(*now):
        (hits, n), (others, _) = counts(*now)
        return claim(hits + 2, interval=(hits, hits + 4), control=2, control_interval=(0, 4))

    def swapped(one, other):
        return rates(other, one)

    def opposite(one, other):
        return rates((1 - one[0], (1 - one[1][1], 1 - one[1][0])), other)

    def percent(one, other):
        return claim(100 * one[0] + 2, interval=(0, 102), control=100 * other[0] + 2, control_interval=(0, 102))

    def narrow(one, other):
        third = [value + (limit - value) / 3 for value, limits in (one, other) for limit in limits]
        return claim(one[0], third[:2], other[0], third[2:])

    wrong = {
        "bare number": (by(lambda one, other: one[0]), "is not a claim"),
        "counts": (counted, "above 1"),
        "percent": (by(percent), "above 1"),
        "no control": (by(lambda one, other: claim(*one)), "no control"),
        "no interval": (by(lambda one, other: claim(one[0], None, *other)), "no interval"),
        "no control interval": (by(lambda one, other: claim(*one, other[0])), "no interval"),
        "upside down": (by(lambda one, other: claim(one[0], one[1][::-1], *other)), "upside down"),
        "no width": (by(lambda one, other: claim(one[0], (one[0], one[0]), *other)), "no width"),
        "a third as wide": (by(narrow), None),
        "of more prompts": (of_hundred, None),
        "swapped": (by(swapped), "swapped"),
        "opposite": (by(opposite), None),
        "itself as control": (by(lambda one, other: rates(one, one)), None),
        "chance as control": (by(lambda one, other: rates(one, wilson(20, 40))), None),
        "written down": (mixed(True, True), "whatever it is given"),
        "value written down": (mixed(False, True), "whatever it is given"),
        "control written down": (mixed(True, False), "whatever it is given"),
    }
    if not isinstance(counts(*data)[1][0], int):
        wrong |= {
            "runs added up": (added_up(counts), "prompts are not"),
            "one run": (one_run(counts), "the control"),
            "runs added up, n of one": (too_many(counts), None),
        }
    return wrong


def added_up(counts):
    """Runs on the same prompts taken for as many prompts more."""

    def answer(*now):
        effect, (runs, n) = counts(*now)
        return rates(wilson(*effect), wilson(sum(runs), n * len(runs)))

    return answer


def one_run(counts):
    def answer(*now):
        effect, (runs, n) = counts(*now)
        return rates(wilson(*effect), wilson(runs[0], n))

    return answer


def too_many(counts):
    def answer(*now):
        effect, (runs, n) = counts(*now)
        return rates(wilson(*effect), (sum(runs) / n, (0.0, float(len(runs)))))

    return answer


def rates(value, control) -> Claim:
    """The claim of a number beside its control, each a number and its limits."""
    (a, interval), (b, control_interval) = value, control
    return claim(a, interval=interval, control=b, control_interval=control_interval)
