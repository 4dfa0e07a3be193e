"""Checks of the exercises that ask for a claim: what is claimed is tried on other data, and what it is instead is named."""

import inspect
import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import torch

from chapters.drawn import MANY
from course_lib import directions
from course_lib.grading import expect, naming
from course_lib.grading.claims import ROUNDING, Claim, Limits, claim, overlap, shown_limits, supported
from course_lib.grading.registry import Off, Wrong

Count = tuple[int, int]
"""Hits, of how many."""
Runs = tuple[Sequence[int], int]
"""Hits of each control run, such as each random direction, of how many prompts, which all runs share."""
AtHand = Callable[..., dict[str, float]]
"""From the names of a function's arguments and their values: numbers that may be taken for the right ones, by words."""
N_OTHERS = 20
"""On how many drawn data a learner's function has to claim what they show."""
NEAR, NEAR_ALWAYS = 0.08, 0.006
"""By how much a limit may differ from the recomputed one: in parts of the interval's width, and at least."""
RATE_LIMITS = "directions.wilson_interval gives 95 % by default, and for several runs directions.runs_interval."
"""What to try where the interval of a rate is another one."""
EDGES = (
    (40, (40,), (40, 40)),  # all
    (40, (0,), (0, 0, 0)),  # none
    (48, (20,), (20, 20)),  # all alike
    (28, (8, 5), (7, 8)),  # the effect among the runs
    (60, (33, 12), (21,)),  # a single run
    (3000, (1501, 700), (700, 1)),  # many prompts
    (800, (1, 700), (5, 9)),
    (24, (9,), (*[1] * 5 * MANY, 20)),  # many runs, and the highest last
)
"""Prompts, counts in turn, and counts of runs, on which a claim has to be right, too."""
LEVELS = (0.5, 0.68, 0.8, 0.9, 0.98, 0.99, 0.999)
"""Other levels of confidence than the 95 % of the course."""
ALIKE = 0.002
"""How near two numbers are that are taken for the same, if they are so near on all data."""


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
    right: Callable[..., Claim],
    at_hand: AtHand = lambda names, *data: {},
    limits: Callable[..., Sequence[dict[str, Limits]]] = lambda *data: ({}, {}),
    value_is: str = "",
    control_is: str = "",
    limits_are: str = RATE_LIMITS,
    n: int = N_OTHERS,
) -> None:
    """Check what a function claims from the notebook's data and from n drawn ones: numbers that merely coincide are refused.

    Args:
        answer: the learner's function of the data.
        check: raises Wrong for what is wrong with a claim, `check(made, *data)`.
        data: the notebook's.
        drawn: from a seed to other data.
        right: from data to the right claim, to be shown beside a wrong one.
        at_hand: numbers that may have been claimed instead, to be named.
        limits: from data to intervals that may be taken for the value's, and for the control's.
        value_is: where the value is to be found.
        control_is: where the control is to be found.
        limits_are: where the intervals are to be found.
        n: how many data are drawn.

    Raises:
        Wrong: as `check` does on the notebook's data, if the same is wrong on others; what is claimed instead, if it is
            the same on all data; else one of the others, with both claims.
    """

    def refusal(now: Sequence[Any]) -> Wrong | None:
        try:
            check(answer(*now), *now)
        except Wrong as wrong:
            return wrong
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            tip = "the check has other data than this notebook: use what the function is given."
            if now is data:
                keys = " (a dictionary unpacks to its keys)" * any(isinstance(one, Mapping) for one in now)
                keys = " (an interval has .estimate, .low and .high)" if "Interval" in str(error) else keys
                tip = f"it fails on this notebook's own data: print what each name in it holds{keys}."
                if "must be an integer" in str(error):  # scipy's word on a count
                    tip += " wilson_interval takes one count, runs_interval a list; both divide by n themselves."
                elif "must not be greater than n" in str(error):
                    tip = "wilson_interval(count, n) takes the count first, and then all the prompts of which it is."
                elif "positional argument" in str(error):
                    tip = "a function is called with too little or too much: help(...) says what it takes."
                elif "used as indices" in str(error):
                    tip = "numbers were used as a mask, where True and False are needed: scores are no labels."
                elif "Claim.__init__()" in str(error):
                    tip = "claim(one, control=other) takes two intervals, and nothing else."
            return Off(f"your code raised {type(error).__name__}: {error}", tip)
        return None

    if not callable(answer):
        raise Wrong(f"you gave {expect.describe(answer)}, and a function is asked for", "def ...: return claim(...).")
    first, others = refusal(data), [drawn(seed) for seed in range(n)]
    found_in = [refusal(now) for now in others]
    wrong = [(now, found) for now, found in zip(others, found_in, strict=True) if found]
    usual = [found for found in found_in[:N_OTHERS] if found]
    alike = sum(expect.kind(found) == expect.kind(first) for found in usual) if first else 0
    same = alike >= max(1, min(2, len(usual)))  # on one of the others two mistakes may look the same by chance
    if first and str(first).startswith("your code raised"):
        raise first
    if first and (same or not wrong) and not isinstance(first, Off):
        raise first
    if not (first or wrong):
        return
    kinds = {found and expect.kind(found) for found in found_in[:N_OTHERS]}
    if not first and usual and len(kinds) == 1 and not isinstance(usual[0], Off):  # on all but the notebook's data
        raise Wrong(f"it is right for numbers like this notebook's only: {usual[0]}", usual[0].try_next)
    if named := _named(answer, [data, *others[:N_OTHERS]], right, at_hand, limits, (value_is, control_is, limits_are)):
        raise named
    names = _arguments(answer, len(data))

    def told(now: Sequence[Any]) -> str:
        return "for " + ", ".join(f"{name} = {expect.shown(each)}" for name, each in zip(names, now, strict=False))

    def rank(pair: tuple[Sequence[Any], Wrong]) -> tuple[bool, bool, int]:
        """A known mistake says more than a difference, this more than an error; what is short is checked by hand."""
        vague = isinstance(pair[1], Off) or "outside its interval" in str(pair[1])
        return str(pair[1]).startswith("your code raised"), vague, len(told(pair[0])) // 40

    wrong.sort(key=rank)
    now, found = wrong[0] if wrong else (data, first)
    where = told(now)
    if str(found).startswith("your code raised"):
        raise Off(str(found), found.try_next, where=where)
    passes = "right" if expect.shown(answer(*data)) == expect.shown(right(*data)) else "near enough"
    what = (
        (str(found) if same else f"it is not right: {found}")
        if first
        else f"it is {passes} for this notebook's numbers only, or ones like them: {found}"
    )
    claimed, truth = answer(*now), right(*now)
    mine, theirs = expect.shown(claimed), expect.shown(truth)
    if mine == theirs:  # where two decimals do not tell them apart
        mine, theirs = _in_full(claimed), _in_full(truth)
    raise Off(what, found.try_next, where=f"{where}: it claims {mine}, and right is {theirs}")


def _in_full(made: Any) -> str:
    """Return both numbers of a claim and their limits with four decimals."""
    return "{:.4f} [{:.4f}, {:.4f}], control {:.4f} [{:.4f}, {:.4f}]".format(
        *map(float, (made.value, *made.interval, made.control, *made.control_interval))
    )


def _named(
    answer: Callable[..., Any],
    sets: Sequence[Any],
    right: Callable[..., Claim],
    at_hand: AtHand,
    limits: Callable[..., Sequence[dict[str, Limits]]],
    tips: tuple[str, str, str],
) -> Wrong | None:
    """Return what is claimed in the place of a number or of its interval, where that is the same for all data."""
    names, truths = _arguments(answer, len(sets[0])), [right(*now) for now in sets]
    try:
        made = [answer(*now) for now in sets]
        numbers = {part: [float(getattr(each, part)) for each in made] for part in ("value", "control")}
        ranges = {
            part: [tuple(map(float, getattr(each, part))) for each in made] for part in ("interval", "control_interval")
        }
    except Exception:  # of a claim that is not whole nothing can be said here
        return None
    for (part, got), tip in zip(numbers.items(), tips, strict=False):
        truth = [getattr(each, part) for each in truths]
        if _alike(got, truth):
            continue
        relation = naming.relation(list(zip(sets, got, truth, strict=True)), names)
        known = [at_hand(names, *now) if "whatever" not in relation else {} for now in sets]
        if words := [word for word in known[0] if _alike(got, [each.get(word, math.inf) for each in known])]:
            return Wrong(f"the {part} you claim is {words[0]}", tip)
        return Off(f"the {part} is wrong: {relation}", tip) if relation else None
    others = [limits(*now) for now in sets]
    for k, (part, got) in enumerate(ranges.items()):
        for word in others[0][k]:
            if all(_away(one, each[k][word]) < ALIKE for one, each in zip(got, others, strict=True)):
                return Wrong(f"the {part.replace('_', chr(39) + 's ')} is {word}", tips[-1])
    return None


def _arguments(answer: Callable[..., Any], n: int) -> list[str]:
    """Return what the learner's function calls its n arguments."""
    names = list(inspect.signature(answer).parameters)
    return names if len(names) == n else [f"argument {k + 1}" for k in range(n)]


def _alike(some: Sequence[float], others: Sequence[float]) -> bool:
    return all(abs(one - other) < ALIKE for one, other in zip(some, others, strict=True))


def check_rates(
    answer: Callable[..., Any],
    data: Sequence[Any],
    counts: Callable[..., tuple[Count, Count | Runs]],
    value_is: str,
    control_is: str,
    drawn: Callable[[Sequence[Any], int], Sequence[Any]] | None = None,
) -> None:
    """Refuse a function that does not claim these two rates, with their intervals, whatever the counts.

    Args:
        answer: the learner's function of `data`, which returns a claim.
        data: counts, or lists and dictionaries of counts; the number of prompts comes last.
        counts: from the same arguments to the effect and its control.
        value_is: where the value is to be found.
        control_is: where the control is to be found.
        drawn: from `data` and a seed to other counts, where not all are possible; else `drawn_counts`.

    Raises:
        Wrong: with `value_is` or `control_is`.
    """

    def check(made: Any, *now: Any) -> None:
        refuse_other_rates(made, *counts(*now), value_is, control_is)

    def drawn_here(seed: int) -> Sequence[Any]:
        if drawn:
            return drawn(data, seed)
        return drawn_counts(data, seed) if seed < N_OTHERS else edge_counts(data, seed - N_OTHERS)

    try:
        on_other_data(
            answer,
            check,
            data,
            drawn_here,
            right=lambda *now: rates(*counts(*now)),
            at_hand=_rates_at_hand,
            limits=lambda *now: [_other_limits(*part) for part in counts(*now)],
            value_is=value_is,
            control_is=control_is,
            n=N_OTHERS + (0 if drawn else len(EDGES)),
        )
    except Off as off:
        raise _another_n(answer, data, counts) or off from None


def _another_n(
    answer: Callable[..., Any], data: Sequence[Any], counts: Callable[..., tuple[Count, Count | Runs]]
) -> Off | None:
    """Return by what the claimed rates are divided in the place of n, where few hits among many prompts show it."""
    by = _arguments(answer, len(data))[-1]
    tip = f"divide by {by} as it is given."
    for k, part in enumerate(("value", "control")):
        by_what, ns = [], []
        try:
            for seed, n in enumerate(range(100, 300, 37)):
                few = drawn_counts(data, seed, n=12)[:-1]
                if hits := float(torch.as_tensor(counts(*few, n)[k][0]).double().mean()):
                    ns.append(n)
                    by_what.append(hits / float(getattr(answer(*few, n), part)))
        except Exception:  # no claim, or a rate of 0
            by_what = []
        if len(by_what) < 3:
            continue
        if max(abs(each - 1) for each in by_what) < 1e-3:
            return Off(f"the {part} is a count, not a rate", "directions.wilson_interval(count, n) makes one of it.")
        if max(by_what) - min(by_what) < 1e-3:
            return Off(f"the {part} is divided by {by_what[0]:.4g}, whatever {by} is", tip)
        if all(abs(each - n // 2 * 2) < 1e-3 for each, n in zip(by_what, ns, strict=True)):
            return Off(f"the {part} is divided by {by}, rounded down to an even number", tip)
        over = [each - n for each, n in zip(by_what, ns, strict=True)]
        if max(over) - min(over) < 1e-3 < abs(over[0]):
            sign = "minus" if over[0] < 0 else "plus"
            return Off(f"the {part} is divided by {by} {sign} {abs(over[0]):.4g}, and not by {by}", tip)
    return None


def refuse_others(
    answer: Callable[..., Claim], data: Sequence[Any], more: Sequence[Any], what: str, try_next: str
) -> None:
    """Refuse with `what` a function that claims something else where the data hold an entry more, which is not asked for.

    To be called last: what else is wrong with the claim is told before.
    """
    try:
        without, made = (
            torch.tensor([each.value, *each.interval, each.control, *each.control_interval], dtype=torch.float64)
            for each in (answer(*data), answer(*more))
        )
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Wrong(f"{what}: your code raised {type(error).__name__}: {error}", try_next) from None
    if float((made - without).abs().max()) > 0.03:
        raise Wrong(what, try_next)


def refuse_by_place(answer: Callable[..., Claim], data: Sequence[Any], try_next: str) -> None:
    """Refuse counts that are taken from a dictionary by their place, not by their key; the number of prompts comes last."""
    by_key, (name, *_) = data[0], _arguments(answer, len(data))
    keys, hits = list(by_key), [7 + 11 * place for place in range(len(by_key))]
    items, n = list(zip(keys, hits, strict=True)), 13 + 11 * len(keys)
    try:  # as they stand; the same counts in the same places, under other keys; the same items in other places
        drawn = (dict(items), dict(zip(keys[1:] + keys[:1], hits, strict=True)), dict(items[1:] + items[:1]))
        claimed = [answer(each, n) for each in drawn]
        made = {part: [float(getattr(each, part)) for each in claimed] for part in ("value", "control")}
    except Exception:  # no claim: the check says why
        return
    for part, (first, other_keys, other_places) in made.items():
        if abs(first - other_keys) < ALIKE < abs(first - other_places):
            what = f"the count of the {part} is taken by its place in `{name}`, not by its key"
            raise Wrong(what, try_next, where="the check's dictionary has the same keys, in another order")


def edge_counts(data: Sequence[Any], which: int) -> tuple[Any, ...]:
    """Return counts in the same form, one of EDGES."""
    n, counts, runs = EDGES[which]
    each = itertools.cycle(counts)

    def like(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: like(value[key]) for key in value}
        return list(runs) if isinstance(value, list | tuple) else next(each)

    return *map(like, data[:-1]), n


def levels(interval: Callable[[float], Any]) -> dict[str, Limits]:
    """Return the intervals of other levels of confidence than 95 %, in words, from a level to its interval."""
    made = {f"one of {100 * level:.4g} %, and 95 % is asked for": interval(level) for level in LEVELS}
    return {words: found if type(found) is tuple else (found.low, found.high) for words, found in made.items()}


def drawn_counts(data: Sequence[Any], seed: int, n: int = 0) -> tuple[Any, ...]:
    """Return other counts in the same form, of n or any number: any number of runs, counts near 0, near all or anywhere."""
    draw, few = random.Random(seed), not n and seed % 10 == 4  # a count more or less is seen where there are few
    anywhere = 31 if seed % 10 == 1 else draw.randint(30, 300)  # few, and odd
    n = n or (draw.randint(20, 28) if few else anywhere)
    low, high = draw.choice([(0, n), (0, n // 8), (n - n // 8, n)])

    def like(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: like(value[key]) for key in draw.sample(list(value), len(value))}
        if isinstance(value, list | tuple):
            runs = draw.randint(2, 12)
            if few:  # a mean that is no whole number
                return [low + n // 4, low + n // 4 + 1] if low + n // 4 < n else [n - 1, n]
            if seed % 10 == 9:  # more runs than the notebook has, those behind them higher
                return [draw.randint(0, n // 2) for _ in range(max(len(value), MANY if seed < 10 else 5 * MANY))] + [
                    draw.randint(n // 2, n) for _ in range(runs)
                ]
            return [draw.randint(low, high) for _ in range(runs)]
        return draw.choice((0, n)) if seed == 6 else draw.randint(0, n)

    return *map(like, data[:-1]), n


def _rates_at_hand(names: Sequence[str], *data: Any) -> dict[str, float]:
    """Return the rates that can be made of some counts, in words."""
    counts: dict[str, float] = {}
    runs: dict[str, Sequence[int]] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key in value:
                add(f'{name}["{key}"]', value[key])
        elif isinstance(value, list | tuple):
            runs[name] = value
            kinds = {
                "lowest": min(value),
                "highest": max(value),
                "first": value[0],
                "last": value[-1],
                "sum": sum(value),
            }
            counts.update({f"the {kind} of {name}": count for kind, count in kinds.items()})
            counts[f"the mean of {name}"] = sum(value) / len(value)
            counts[f"the mean of {name}, each count once"] = sum(set(value)) / len(set(value))
            counts[f"the mean of {name}, rounded to a whole count"] = round(sum(value) / len(value))
        else:
            counts[name] = value

    for name, value in zip(names, data[:-1], strict=False):
        add(name, value)
    n, by = data[-1], names[len(data) - 1]
    pairs = [(one, other) for one in counts for other in counts if one != other]
    made = dict(counts)
    made |= {f"{by} minus {one}": n - count for one, count in counts.items()}
    made |= {f"{one} minus {other}": counts[one] - counts[other] for one, other in pairs}
    made |= {f"{one} minus {other}, or 0": max(0, counts[one] - counts[other]) for one, other in pairs}
    made |= {f"what lies between {one} and {other}": abs(counts[one] - counts[other]) for one, other in pairs}
    made |= {f"{one} plus {other}": counts[one] + counts[other] for one, other in pairs}
    made |= {f"the mean of {one} and {other}": (counts[one] + counts[other]) / 2 for one, other in pairs}
    for name, value in zip(names, data[:-1], strict=False):
        if (
            isinstance(value, Mapping)
            and len(value) > 2
            and not any(isinstance(each, Mapping) for each in value.values())
        ):
            made |= {f"the highest in {name}": max(value.values()), f"the lowest in {name}": min(value.values())}
            for key in value:
                rest = [count for other, count in value.items() if other != key]
                made[f'the highest in {name} but for "{key}"'] = max(rest)
                made[f'the lowest in {name} but for "{key}"'] = min(rest)
    for name, value in runs.items():
        made |= _other_middles(name, value)
        made |= {f"the sum of {name} divided by {k}, however many runs there are": sum(value) / k for k in range(2, 31)}
        own = [(one, counts[one]) for one in counts if " " not in one]
        made |= {
            f"the mean of {name} and {one} together": (sum(value) + count) / (len(value) + 1) for one, count in own
        }
    made |= {f"the larger of {one} and {other}": max(counts[one], counts[other]) for one, other in pairs}
    made |= {f"the smaller of {one} and {other}": min(counts[one], counts[other]) for one, other in pairs}
    return {f"{words}, of {by}": count / n for words, count in made.items()}


def _other_middles(name: str, counts: Sequence[int]) -> dict[str, float]:
    """Return what is taken for the mean of all runs, in words."""
    in_order, n = sorted(counts), len(counts)
    parts = {
        "first": counts[1:],
        "last": counts[:-1],
        "lowest": in_order[1:],
        "highest": in_order[:-1],
        "lowest and the highest": in_order[1:-1] or in_order,
    }
    made = {f"the mean of {name} without the {part} run": sum(some) / len(some) for part, some in parts.items()}
    made |= {
        f"the mean of the first {k} of {name}, however many there are": sum(counts[:k]) / len(counts[:k])
        for k in (5, 10, 12, 20, 24)
    }
    made[f"the mean of {name} divided once more by how many runs there are"] = sum(counts) / n**2
    middles = {"the": median(counts), "the lower": in_order[(n - 1) // 2], "the upper": in_order[n // 2]}
    return made | {f"{which} median of {name}": middle for which, middle in middles.items()}


def _other_limits(hits: int | Sequence[int], n: int) -> dict[str, Limits]:
    """Return intervals that are mistaken for the one that is asked for, in words."""
    runs = [hits] if isinstance(hits, int) else list(hits)
    p = sum(runs) / len(runs) / n
    half = 1.96 * math.sqrt(p * (1 - p) / n)
    made: dict[str, Any] = dict(levels(lambda level: directions.runs_interval(runs, n, level=level)))
    normal = "the normal approximation, rate +- 1.96 standard errors, which fails near 0 and 1"
    made |= {normal: (p - half, p + half), f"{normal}, cut off there": (max(0.0, p - half), min(1.0, p + half))}
    if not isinstance(hits, int):
        one = "that of the mean, as if it were one run: runs differ among themselves"
        own = [directions.wilson_interval(run, n) for run in runs]
        many = "that of all runs added up: runs of the same prompts are not so many prompts more"
        made |= {
            one: directions.wilson_interval(round(p * n), n),
            many: directions.wilson_interval(sum(runs), n * len(runs)),
            "the mean of the runs' own limits: as narrow as one run, and runs differ among themselves": (
                sum(each.low for each in own) / len(own),
                sum(each.high for each in own) / len(own),
            ),
            "from the lowest to the highest run, which leaves out that other prompts would differ": (
                min(runs) / n,
                max(runs) / n,
            ),
        }
    return {
        words: (found[0], found[1]) if type(found) is tuple else (found.low, found.high)
        for words, found in made.items()
    }


def refuse_other_rates(answer: Any, effect: Count, control: Count | Runs, value_is: str, control_is: str) -> None:
    """Refuse a claim of other rates than these two, or with intervals that so many prompts cannot give.

    Where the rates themselves do not differ, as in an innocent model, a claim that says so is right.

    Raises:
        Wrong: with `value_is` or `control_is`, which say where the two numbers are to be found.
    """
    if isinstance(answer, Claim) and any(isinstance(v, int | float) and v > 1 for v in (answer.value, answer.control)):
        raise Wrong("a rate above 1", "divide the counts: rates are between 0 and 1.")
    if isinstance(answer, Claim) and isinstance(answer.control, list) and not isinstance(control[0], int):
        raise Wrong("the control is a list, and one interval for all runs is asked for", control_is)
    refuse_incomplete(answer, control_is, "directions.wilson_interval(...)")
    right = rates(effect, control)
    differ = not overlap(right.interval, right.control_interval)
    made = supported(answer, low=0, high=1, control_is=control_is, apart=False)  # the limits are compared below
    if differ and made.value == made.control and abs(made.value - right.value) < ALIKE:
        raise Wrong("the control is the same number as the value", control_is)
    pair, swapped = torch.tensor([made.value, made.control]), torch.tensor([right.control, right.value])
    if differ:
        expect.differs_from(pair, swapped, "value and control are swapped", value_is)
    expect.close(made.value, right.value, name="the value", try_next=value_is, tolerance=0.006)
    runs, n = control
    if not isinstance(runs, int) and abs(made.control * n * len(runs) - sum(runs)) > ROUNDING:
        expect.differs_from(made.control * len(runs), right.control, f"n is the prompts of one run, {n}", control_is)
    expect.close(made.control, right.control, name="the control", try_next=control_is, tolerance=0.006)
    off = abs(made.value - right.value) > ROUNDING  # of another count, perhaps, which gives nearly this rate
    tip = f"{value_is} Of that count: directions.wilson_interval(count, {effect[1]})." if off else ""
    _refuse_another("interval", made.interval, right.interval, effect[1], tip)
    if not isinstance(runs, int) and len(runs) > 1 and made.control_interval[0] < made.control_interval[1]:
        _refuse_pooled(made.control_interval, runs, n)
    tip = "" if isinstance(runs, int) else f"directions.runs_interval(counts, {n})"
    _refuse_another("control's interval", made.control_interval, right.control_interval, n, tip)


def refuse_incomplete(answer: Any, control_is: str, interval: str) -> None:
    """Refuse a bare number and a claim without its control, where two intervals are all that the claim needs.

    Raises:
        Wrong: with `control_is`.
    """
    form = f"claim(one, control=other), both such as {interval} gives: a number with its interval"
    if not isinstance(answer, Claim):
        raise Wrong(f"{expect.describe(answer)} is not a claim: a number needs its interval and a control", f"{form}.")
    if answer.control is None or answer.control is ...:
        if isinstance(answer.interval, directions.Interval):
            raise Wrong("the second number stands in the place of the first one's interval", f"name it: {form}.")
        raise Wrong("there is no control", f"{form}. The control: {control_is}")


def _refuse_no_width(name: str, interval: Limits, n: int) -> None:
    if interval[1] - interval[0] < 0.2 / n:
        raise Wrong(
            f"the {name} has no width",
            f"{n} prompts give no rate that exactly: directions.wilson_interval, and runs_interval for several runs.",
        )


def close_limits(name: str, interval: Limits, measured: Limits, *, near: float = NEAR) -> None:
    """Refuse an interval whose limits are not those that were measured, for claims that are no rates.

    Raises:
        Wrong: with both.
    """
    if _away(interval, measured) > near * (measured[1] - measured[0]) + ROUNDING:
        what = f"the {name} {shown_limits(interval)} is not the one measured for this number"
        raise Off(what, "take both limits of the same measurement: .low and .high.")


def _refuse_another(name: str, interval: Limits, measured: Limits, n: int, tip: str = "") -> None:
    """Refuse an interval that this rate of n prompts does not give; exact, bootstrapped and Wilson's are close enough."""
    _refuse_no_width(name, interval, n)
    if interval[0] < -ROUNDING or interval[1] > 1 + ROUNDING:
        what = f"the {name} {shown_limits(interval)} goes beyond 0 or 1, where no rate can lie"
        raise Off(what, tip or f"directions.wilson_interval(count, {n}), which keeps within 0 and 1.")
    if _away(interval, measured) > NEAR * (measured[1] - measured[0]) + NEAR_ALWAYS:
        wider = "wider" if interval[1] - interval[0] > measured[1] - measured[0] else "narrower"
        what = f"the {name} {shown_limits(interval)} is not that of {n} prompts: it is {wider}, or lies elsewhere"
        raise Off(
            what, tip or f"directions.wilson_interval(count, {n}), 95 % by default, with the count that gives the rate."
        )


def _refuse_pooled(interval: Limits, counts: Sequence[int], n: int) -> None:
    """Refuse an interval for several runs that only many more prompts, or one run, could give."""
    pooled = directions.wilson_interval(sum(counts), n * len(counts))
    mean = directions.wilson_interval(round(sum(counts) / len(counts)), n)
    tip = f"directions.runs_interval(counts, {n}) keeps the runs apart."
    if interval[1] - interval[0] < (pooled.high - pooled.low + mean.high - mean.low) / 2:
        many = f"{len(counts)} runs of the same {n} prompts are not {n * len(counts)} prompts"
        raise Off(f"the control's interval is too narrow: {many}", tip)
    if not interval[0] - ROUNDING <= min(counts) / n <= max(counts) / n <= interval[1] + ROUNDING:
        raise Off("a control run lies outside the control's interval", tip)


def _away(one: Limits, other: Limits) -> float:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1]))
