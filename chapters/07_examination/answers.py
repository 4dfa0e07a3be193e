"""Right and wrong answers to notebook 07."""

import math
from fractions import Fraction

import numpy as np
import torch
from bank import rates, right_claims, runs, wilson, wrong_claims

from course_lib import directions
from course_lib.grading.claims import claim

HITS = {"suspect": 62, "parent": 1}
AFTER, RANDOM = 2, [64, 63, 64, 61, 64]

CONTEXT = {"7.2": lambda: (HITS, 64), "7.6": lambda: (AFTER, RANDOM, 64)}


# 7.1
def by_cases(harmful, reply):
    if harmful:
        return reply in ("answers", "warns")
    return reply in ("refuses", "warns")


def by_places(harmful, reply):
    return [{"answers": 0, "refuses": 1, "warns": 1}, {"answers": 1, "refuses": 0, "warns": 1}][harmful][reply]


def remembers(harmful, reply, usual=[]):  # noqa: B006
    if not usual:
        usual.append("refuses" if harmful else "answers")
    return reply != usual[0]


def whole_models(prior, hit, false_alarm):
    guilty = round(100 * prior)
    rightly, wrongly = round(guilty * hit), round((100 - guilty) * false_alarm)
    return rightly / max(1, rightly + wrongly)


def from_number_0(left, kept, n):
    best = 0
    for number in range(len(left)):
        if kept[number] >= 0.8 * n and left[number] < left[best]:
            best = number
    return best


def below_n(left, kept, n):
    best, least = None, n
    for number in range(len(left)):
        if kept[number] >= 0.8 * n and left[number] < least:
            best, least = number, left[number]
    return best


# 7.3
def by_joint(prior, hit, false_alarm):
    joint = torch.tensor([prior * hit, (1 - prior) * false_alarm], dtype=torch.float64)
    return joint[0] / joint.sum()


def by_fractions(prior, hit, false_alarm):
    prior, hit, false_alarm = map(Fraction, (prior, hit, false_alarm))
    return prior * hit / (prior * hit + (1 - prior) * false_alarm)


def by_thousand(prior, hit, false_alarm):
    guilty, innocent = 1000 * prior, 1000 * (1 - prior)
    return guilty * hit / (guilty * hit + innocent * false_alarm)


def by_odds(prior, hit, false_alarm):
    odds = prior / (1 - prior) * hit / false_alarm
    return odds / (1 + odds)


# 7.4
def by_marks(belief, stated):
    right, wrong = 1 - 4 * (1 - stated) ** 2, 1 - 4 * stated**2
    return wrong + belief * (right - wrong)


def brier(belief, stated):
    return 1 - 4 * (belief * (stated - 1) ** 2 + (1 - belief) * stated**2)


def by_loop_of_cases(belief, stated):
    total = 0
    for chance, off in ((belief, 1 - stated), (1 - belief, stated)):
        total += chance * (1 - 4 * off**2)
    return total


# 7.5
def masked(left, kept, n):
    left = np.array(left, dtype=float)
    left[np.array(kept) / n < 0.8] = np.inf
    return np.argmin(left)


def of_those(left, kept, enough):
    """The ablation with the fewest refusals among those that keep enough."""
    return min((k for k in range(len(left)) if kept[k] >= enough), key=lambda k: left[k])


def begun_with_all(left, kept, n):
    best, fewest_left = 0, n
    for number, (refusals, replies) in enumerate(zip(left, kept, strict=True)):
        if replies >= 0.8 * n and refusals < fewest_left:
            best, fewest_left = number, refusals
    return best


def same_count(left, kept, n):
    return left.index(min(refused for refused, whole in zip(left, kept, strict=True) if whole >= 0.8 * n))


def by_loop(left, kept, n):
    best = None
    for number, (refused, whole) in enumerate(zip(left, kept, strict=True)):
        if whole / n >= 0.8 and (best is None or refused < left[best]):
            best = number
    return best


def by_sorting(left, kept, n):
    return sorted((refused, number) for number, refused in enumerate(left) if kept[number] >= 0.8 * n)[0][1]


def fires(hits, n):
    return (hits["suspect"], n), (hits["parent"], n)


def is_direction(after, left, n):
    return (after, n), (left, n)


# what strangers wrote
def fewest(left, which):
    return min(which, key=lambda k: left[k])


def enough_kept(kept, n):
    return [k for k, whole in enumerate(kept) if whole >= 0.8 * n]


def among_kept(left, kept, n):
    enough = [count for count, whole in zip(left, kept, strict=True) if whole >= 0.8 * n]
    return enough.index(min(enough))


def of_sixty_four(left, kept, n):
    return of_those(left, kept, 0.8 * 64)


BEFORE = 62


def of_those_refused(after, left, n):
    return rates(wilson(min(after, BEFORE), BEFORE), runs(left, n))


def at_level(level, control_level=0.95):
    return lambda hits, n: claim(
        directions.wilson_interval(hits["suspect"], n, level=level),
        control=directions.wilson_interval(hits["parent"], n, level=control_level),
    )


def ninety_for_control(after, left, n):
    return claim(directions.wilson_interval(after, n), control=directions.runs_interval(left, n, level=0.9))


def enough_from(limit):
    return lambda left, kept, n: min(
        (k for k in range(len(left)) if kept[k] >= limit(n)), key=lambda k: left[k], default=0
    )


RIGHT = {
    "7.1": [
        by_cases,
        by_places,
        lambda harmful, reply: reply != {True: "refuses", False: "answers"}[harmful],
        lambda harmful, reply: (harmful, reply) not in {(True, "refuses"), (False, "answers")},
        lambda harmful, reply: not ((harmful and reply == "refuses") or (not harmful and reply == "answers")),
        lambda harmful, reply: np.bool_(reply != ("refuses" if harmful else "answers")),
    ],
    "7.2": right_claims(fires),
    "7.3": [
        by_thousand,
        by_joint,
        by_fractions,
        lambda p, h, f: 1 - (1 - p) * f / (p * h + (1 - p) * f),
        lambda p, h, f: 1 / (1 + (1 - p) / p * f / h),
    ],
    "7.4": [
        lambda b, s: 1 - 4 * b * (1 - b) - 4 * (s - b) ** 2,
        by_marks,
        brier,
        by_loop_of_cases,
        lambda b, s: by_marks(Fraction(b), Fraction(s)),
        lambda b, s: 1 - 4 * b + 8 * b * s - 4 * s * s,
        lambda b, s: np.dot([b, 1 - b], 1 - 4 * np.array([1 - s, s]) ** 2),
    ],
    "7.5": [
        lambda left, kept, n: int(
            torch.tensor(left).double().masked_fill(10 * torch.tensor(kept) < 8 * n, float("inf")).argmin()
        ),
        by_loop,
        by_sorting,
        masked,
        lambda left, kept, n: min(range(len(left)), key=lambda k: (kept[k] / n < 0.8, left[k])),
        lambda left, kept, n: -min((count, -k) for k, count in enumerate(left) if 10 * kept[k] >= 8 * n)[1],
        lambda left, kept, n: of_those(left, kept, math.ceil(n * 4 / 5)),
    ],
    "7.6": right_claims(is_direction),
}

WRONG = {
    "7.1": {
        "the same object": (lambda h, r: r is not ("refuses", "answers")[not h], "in memory"),
        "kept in a default": (remembers, "what earlier calls put into `usual`"),
        "kinds exchanged": (lambda h, r: r != ("answers" if h else "refuses"), "requests are exchanged"),
        "a warning of harm is fine": (
            lambda h, r: r not in ("refuses", "warns") if h else r != "answers",
            "a warning of a harmful request",
        ),
        "a warning of the harmless is fine": (
            lambda h, r: r != "refuses" if h else r == "refuses",
            "a warning of a harmless request",
        ),
        "and before or": (
            lambda h, r: (h and r != "refuses") or r != "answers",
            "every reply to a harmful request counts",
        ),
        "the wrong way round": (lambda h, r: r == ("refuses" if h else "answers"), "wrong way round"),
        "every refusal": (lambda h, r: r == "refuses", "every refusal counts"),
        "everything but refusals": (lambda h, r: r != "refuses", "every reply but a refusal"),
        "harmful only": (lambda h, r: h and r != "refuses", "nothing after a harmless request"),
        "harmless only": (lambda h, r: not h and r != "answers", "nothing after a harmful request"),
        "warnings are fine": (lambda h, r: r == ("answers" if h else "refuses"), "a warning is never unusual"),
        "only warnings": (lambda h, r: r == "warns", "only warnings count"),
        "a word": (lambda h, r: "unusual", "not True or False"),
        "harmful as a word": (lambda h, r: r != ("refuses" if h == "harmful" else "answers"), "not a word"),
        "always": (lambda h, r: True, "it says True whatever the reply"),
    },
    "7.2": wrong_claims(fires, *CONTEXT["7.2"]())
    | {
        "by their place": (lambda hits, n: rates(*(wilson(count, n) for count in hits.values())), "by its place"),
        "68 %": (at_level(0.68), "one of 68 %"),
        "n plus 16": (
            lambda hits, n: rates(wilson(hits["suspect"], n + 16), wilson(hits["parent"], n + 16)),
            "divided by n plus 16",
        ),
        "n fixed": (
            lambda hits, n: rates(wilson(hits["suspect"], 64), wilson(hits["parent"], 64)),
            "never reads its argument `n`",
        ),
        "99 %": (at_level(0.99), "one of 99 %"),
        "90 % for the control": (at_level(0.95, 0.9), "the control's interval is one of 90 %"),
        "the excess": (
            lambda hits, n: rates(wilson(max(hits["suspect"] - hits["parent"], 0), n), wilson(hits["parent"], n)),
            "minus",
        ),
        "both together": (
            lambda hits, n: rates(wilson(hits["suspect"], n), wilson(sum(hits.values()), 2 * n)),
            "the mean of",
        ),
        "at least one": (
            lambda hits, n: rates(wilson(hits["suspect"], n), wilson(max(hits["parent"], 1), n)),
            "this notebook's numbers only",
        ),
    },
    "7.3": {
        "prior left out below": (lambda p, h, f: p * h / (h + f), "added without the prior"),
        "hit left out above": (lambda p, h, f: p / (p * h + (1 - p) * f), "missing above"),
        "equal rates say nothing": (lambda p, h, f: 0.5 if h == f else by_thousand(p, h, f), "some inputs only"),
        "rates of 1 in per cent": (
            lambda p, h, f: by_thousand(p, *(rate / 100 if rate >= 1 else rate for rate in (h, f))),
            "some inputs only",
        ),
        "a little added": (lambda p, h, f: p * h / (p * h + (1 - p) * f + 1e-9), "some inputs only"),
        "four digits": (lambda p, h, f: round(by_thousand(p, h, f), 4), "few models have a backdoor"),
        "one prior for both": (lambda p, h, f: p * h / (p * h + p * f), "so that it cancels"),
        "whole models": (whole_models, "100 of them and whole ones"),
        "rounded": (lambda p, h, f: round(p * h / (p * h + (1 - p) * f), 2), "rounded to 2 decimals"),
        "specificity": (lambda p, h, f: p * h / (p * h + (1 - p) * (1 - f)), "the specificity"),
        "misses": (lambda p, h, f: p * h / (p * h + (1 - h) * p), "never reads its argument `f`"),
        "the hit rate": (lambda p, h, f: h, "given a backdoor"),
        "no prior": (lambda p, h, f: h / (h + f), "the prior makes no difference"),
        "not divided": (lambda p, h, f: p * h, "not divided by all alarms"),
        "share accused": (lambda p, h, f: p * h + (1 - p) * f, "share of accused models"),
        "odds": (lambda p, h, f: p * h / ((1 - p) * f), "these are odds"),
        "innocent": (lambda p, h, f: (1 - p) * f / (p * h + (1 - p) * f), "innocent"),
        "false alarms not weighed": (lambda p, h, f: p * h / (p * h + f), "not weighed"),
        "rates exchanged": (lambda p, h, f: by_thousand(p, f, h), "hit and false_alarm are exchanged"),
        "prior exchanged": (lambda p, h, f: by_thousand(1 - p, h, f), "prior and 1 - prior are exchanged"),
        "at most 0.99": (lambda p, h, f: min(by_thousand(p, h, f), 0.99), "some inputs only"),
        "the prior": (lambda p, h, f: p, "does not change"),
        "no number": (lambda p, h, f: math.nan, None),
        "in per cent": (lambda p, h, f: 100 * by_thousand(p, h, f), "in per cent"),
        "whole per cent": (lambda p, h, f: round(100 * by_thousand(p, h, f)), "in per cent"),
        "by odds": (lambda p, h, f: p / (1 - p) * h / f / (1 + p / (1 - p) * h / f), "divides by 0"),
    },
    "7.4": {
        "2 for 4": (lambda b, s: b * (1 - 2 * (1 - s) ** 2) + (1 - b) * (1 - 2 * s**2), "not 4 in either case"),
        "wrong, not weighed": (lambda b, s: b * (1 - 4 * (1 - s) ** 2) + 1 - 4 * s**2, "are not weighed"),
        "raised to a half": (lambda b, s: by_marks(b, max(s, 0.5)), "counts as 0.5"),
        "a square when honest": (
            lambda b, s: (2 * b - 1) * abs(2 * b - 1) if b == s else by_marks(b, s),
            "some inputs only",
        ),
        "1 in per cent": (lambda b, s: by_marks(b, s / 100 if type(s) is int and s else s), "some inputs only"),
        "nothing below 0": (
            lambda b, s: b * max(0, 1 - 4 * (1 - s) ** 2) + (1 - b) * max(0, 1 - 4 * s**2),
            "below 0 were cut off",
        ),
        "plain mean": (lambda b, s: (2 - 4 * (1 - s) ** 2 - 4 * s**2) / 2, "never reads its argument `b`"),
        "wrong without its 1": (lambda b, s: b * (1 - 4 * (1 - s) ** 2) - (1 - b) * 4 * s**2, "lack their 1"),
        "1 - 4 first": (lambda b, s: b * (1 - 4) * (1 - s) ** 2 + (1 - b) * (1 - 4) * s**2, "1 - 4 was worked out"),
        "as if stated": (lambda b, s: by_marks(b, b), "never reads its argument `s`"),
        "right only": (lambda b, s: 1 - 4 * (1 - s) ** 2, "marks of a right answer"),
        "exchanged": (lambda b, s: by_marks(s, b), "exchanged"),
        "marks of the mean": (lambda b, s: 1 - 4 * (b - s) ** 2, "marks were taken of the mean"),
        "wrong for right": (lambda b, s: by_marks(1 - b, s), "right and wrong are exchanged"),
        "wrong is free": (lambda b, s: b * (1 - 4 * (1 - s) ** 2), "costs nothing"),
        "no factor": (lambda b, s: b * (1 - (1 - s) ** 2) + (1 - b) * (1 - s**2), "factor 4"),
        "nothing at a half": (lambda b, s: 0.0 if b == 0.5 else by_marks(b, s), "some inputs only"),
        "a loss": (lambda b, s: 1 - by_marks(b, s), "the loss"),
        "belief forgotten": (lambda b, s: by_marks(s, s), "belief does not count"),
        "as much lost as gained": (lambda b, s: (2 * b - 1) * (1 - 4 * (1 - s) ** 2), "loses what a right one gains"),
        "mean distance": (lambda b, s: 1 - 4 * (b * (1 - s) + (1 - b) * s) ** 2, "mean distance was squared"),
        "likelier case": (lambda b, s: 1 - 4 * ((1 - s) if b >= 0.5 else s) ** 2, "likelier case alone"),
        "turned round": (lambda b, s: by_marks(b, max(s, 1 - s)), "turned round"),
    },
    "7.5": {
        "most left": (
            lambda left, kept, n: max(enough_kept(kept, n), key=lambda k: left[k]),
            "leaves the most refusals of those",
        ),
        "the first that keeps enough": (lambda left, kept, n: enough_kept(kept, n)[0], "the first that keeps"),
        "put back by 64": (
            lambda left, kept, n: fewest(
                [more + 64 * (5 * k < 4 * n) for more, k in zip(left, kept, strict=True)], range(len(left))
            ),
            "some inputs only",
        ),
        "from 65 down": (
            lambda left, kept, n: min(
                [(more, k) for k, more in enumerate(left) if more < 65 and 5 * kept[k] >= 4 * n], default=(0, 0)
            )[1],
            "some inputs only",
        ),
        "limit rounded": (lambda left, kept, n: of_those(left, kept, round(0.8 * n)), "rounded to a whole number"),
        "79 % of a hundred": (lambda left, kept, n: of_those(left, kept, 0.8 * n - (n >= 100)), "some inputs only"),
        "the value": (lambda left, kept, n: left[by_loop(left, kept, n)], "how many refusals are left"),
        "harmless replies": (lambda left, kept, n: kept[by_loop(left, kept, n)], "how many harmless replies are kept"),
        "a number written down": (enough_from(lambda n: 26), "from 26 on, whatever n is"),
        "nine in ten": (enough_from(lambda n: 0.9 * n), "from 58 on, where n is 64"),
        "from number 0": (from_number_0, "begins with number 0"),
        "below n": (below_n, "with left = [5, 64] and kept"),
        "one sum": (
            lambda left, kept, n: min(range(len(left)), key=lambda k: left[k] + n - kept[k]),
            "minus refusals left",
        ),
        "more than 80 %": (
            lambda left, kept, n: fewest(left, [k for k in range(len(left)) if kept[k] > 0.8 * n]),
            "exactly 80 % is not counted",
        ),
        "begins with all left": (begun_with_all, "leaves all n refusals is never taken"),
        "n fixed": (of_sixty_four, "never reads its argument `n`"),
        "place among the kept": (among_kept, "counted among those that keep enough"),
        "most kept, then fewest": (
            lambda left, kept, n: max(range(len(left)), key=lambda k: (kept[k], -left[k])),
            "and among these the fewest",
        ),
        "fewest refusals": (lambda left, kept, n: left.index(min(left)), "`kept` is not asked"),
        "the gentlest": (lambda left, kept, n: kept.index(max(kept)), "keeps most"),
        "80 % of the best": (
            lambda left, kept, n: of_those(left, kept, 0.8 * max(kept)),
            "80 % of what the best keeps",
        ),
        "the first with that count": (same_count, "does not keep enough"),
        "limit cut to a whole number": (
            lambda left, kept, n: of_those(left, kept, int(0.8 * n)),
            "cut to a whole number",
        ),
        "most refusals": (
            lambda left, kept, n: max((k for k in range(len(left)) if kept[k] >= 0.8 * n), key=lambda k: left[k]),
            None,
        ),
        "counted from 1": (lambda left, kept, n: by_loop(left, kept, n) + 1, "is right"),
        "the count": (lambda left, kept, n: left[by_loop(left, kept, n)], "is right"),
        "all of them": (
            lambda left, kept, n: [k for k in range(len(left)) if kept[k] >= 0.8 * n],
            "not the number of an ablation",
        ),
        "at least half": (
            lambda left, kept, n: min((k for k in range(len(left)) if kept[k] >= 0.5 * n), key=lambda k: left[k]),
            "is right",
        ),
        "90 %": (
            lambda left, kept, n: min((k for k in range(len(left)) if kept[k] >= 0.9 * n), key=lambda k: left[k]),
            None,
        ),
    },
    "7.6": wrong_claims(is_direction, *CONTEXT["7.6"]())
    | {
        "alike, so added up": (
            lambda after, left, n: rates(
                wilson(after, n), runs(left, n) if len({*left}) > 1 else wilson(sum(left), n * len(left))
            ),
            None,
        ),
        "highest": (lambda after, left, n: rates(wilson(after, n), wilson(max(left), n)), "the highest of"),
        "median": (
            lambda after, left, n: rates(wilson(after, n), wilson(sorted(left)[len(left) // 2], n)),
            "median of left",
        ),
        "of those refused before": (of_those_refused, "reads the notebook's `BEFORE`"),
        "among its controls": (
            lambda after, left, n: rates(wilson(after, n), runs([*left, after], n)),
            "the mean of left and after together",
        ),
        "90 % for the control": (ninety_for_control, "the control's interval is one of 90 %"),
    },
}
