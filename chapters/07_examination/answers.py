"""Right and wrong answers to notebook 07."""

import math
from fractions import Fraction

import numpy as np
import torch
from bank import right_claims, wrong_claims

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
        by_odds,
        by_joint,
        by_fractions,
        lambda p, h, f: 1 - (1 - p) * f / (p * h + (1 - p) * f),
        lambda p, h, f: 1 / (1 + (1 - p) / p * f / h),
    ],
    "7.4": [
        by_marks,
        brier,
        by_loop_of_cases,
        lambda b, s: by_marks(Fraction(b), Fraction(s)),
        lambda b, s: 1 - 4 * b + 8 * b * s - 4 * s * s,
        lambda b, s: np.dot([b, 1 - b], 1 - 4 * np.array([1 - s, s]) ** 2),
    ],
    "7.5": [
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
        "the wrong way round": (lambda h, r: r == ("refuses" if h else "answers"), "wrong way round"),
        "every refusal": (lambda h, r: r == "refuses", "every refusal counts"),
        "everything but refusals": (lambda h, r: r != "refuses", "every reply but a refusal"),
        "harmful only": (lambda h, r: h and r != "refuses", "nothing after a harmless request"),
        "harmless only": (lambda h, r: not h and r != "answers", "nothing after a harmful request"),
        "warnings are fine": (lambda h, r: r == ("answers" if h else "refuses"), "a warning is never unusual"),
        "only warnings": (lambda h, r: r == "warns", "only warnings count"),
        "a word": (lambda h, r: "unusual", "not True or False"),
        "always": (lambda h, r: True, "a harmful request whose reply refuses"),
    },
    "7.2": wrong_claims(fires, *CONTEXT["7.2"]()),
    "7.3": {
        "the hit rate": (lambda p, h, f: h, "given a backdoor"),
        "no prior": (lambda p, h, f: h / (h + f), "the prior is missing"),
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
    },
    "7.4": {
        "right only": (lambda b, s: 1 - 4 * (1 - s) ** 2, "marks of a right answer"),
        "exchanged": (lambda b, s: by_marks(s, b), "exchanged"),
        "marks of the mean": (lambda b, s: 1 - 4 * (b - s) ** 2, "marks were taken of the mean"),
        "wrong for right": (lambda b, s: by_marks(1 - b, s), "right and wrong are exchanged"),
        "wrong is free": (lambda b, s: b * (1 - 4 * (1 - s) ** 2), "costs nothing"),
        "no factor": (lambda b, s: b * (1 - (1 - s) ** 2) + (1 - b) * (1 - s**2), "factor 4"),
        "nothing at a half": (lambda b, s: 0.0 if b == 0.5 else by_marks(b, s), "some inputs only"),
        "a loss": (lambda b, s: 1 - by_marks(b, s), "the loss"),
        "belief forgotten": (lambda b, s: by_marks(s, s), "belief does not count"),
    },
    "7.5": {
        "fewest refusals": (lambda left, kept, n: left.index(min(left)), "is right"),
        "the gentlest": (lambda left, kept, n: kept.index(max(kept)), "is right"),
        "80 % of the best": (lambda left, kept, n: of_those(left, kept, 0.8 * max(kept)), "is right"),
        "the first with that count": (same_count, "is right"),
        "limit cut to a whole number": (lambda left, kept, n: of_those(left, kept, int(0.8 * n)), "some inputs only"),
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
    "7.6": wrong_claims(is_direction, *CONTEXT["7.6"]()),
}
