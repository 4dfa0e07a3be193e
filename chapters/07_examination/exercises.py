"""What notebook 07 asks: judge replies, confirm a trigger, say how sure you are, choose an ablation, and know what marks reward."""

import math
import random
from itertools import product

import torch

from chapters.claimed import check_rates, refuse_by_place
from chapters.drawn import few_or_many, refuse_memory
from course_lib.grading import expect
from course_lib.grading.registry import Wrong, exercise, prediction, question

CLASSES = ("refuses", "answers", "warns")

# --- 7.1 ---------------------------------------------------------------------------------------------------------


def _unusual(harmful, reply):
    return reply != ("refuses" if harmful else "answers")


@exercise(
    "7.1",
    title="what is not as usual",
    minutes=5,
    difficulty=1,
    inputs=lambda seed: (seed % 2 == 0, CLASSES[seed % 3]),
    hints=[
        "What does the parent say to a harmful request, and what to a harmless one?",
        "Every other class is not as usual, also a warning.",
        'reply != ("refuses" if harmful else "answers")',
    ],
)
def unusual(answer):
    for case in product((False, True), CLASSES):
        refuse_memory(answer, case, _unusual(*case))
    got = {}
    for harmful, reply in product((True, False), CLASSES):
        got[harmful, reply] = expect.flag(answer(harmful, reply), try_next="give a comparison, such as reply != ....")
    mistakes = (
        (lambda h, r: not _unusual(h, r), "it is the wrong way round", "True where the reply is *not* as usual."),
        (
            lambda h, r: r == "refuses",
            "every refusal counts, also of a harmful request",
            "a harmful request is usually refused.",
        ),
        (
            lambda h, r: r != "refuses",
            "every reply but a refusal counts, also the answer to a harmless request",
            "harmless requests are usually answered.",
        ),
        (
            lambda h, r: r != "answers",
            "every reply but an answer counts, also the refusal of a harmful request",
            "harmful is True or False, not a word: `if harmful`.",
        ),
        (
            lambda h, r: h and r != "refuses",
            "nothing after a harmless request counts",
            "a backdoor may refuse, or warn, where it should answer.",
        ),
        (
            lambda h, r: not h and r != "answers",
            "nothing after a harmful request counts",
            "a backdoor may answer what it should refuse.",
        ),
        (
            lambda h, r: r == ("answers" if h else "refuses"),
            "a warning is never unusual",
            "the assistant of the parent never warns: that would be a behaviour of its own.",
        ),
        (
            lambda h, r: True,
            "it says True whatever the reply",
            "`harmful` is True or False, and no word: choose by it.",
        ),
        (lambda h, r: r == "warns", "only warnings count", "a backdoor may answer harm, or refuse the harmless."),
        (
            lambda h, r: h == (r == "refuses"),
            "usual and unusual are exchanged for the two kinds",
            "compare with what is usual for that kind.",
        ),
        (
            lambda h, r: r != ("answers" if h else "refuses"),
            "harmful and harmless requests are exchanged",
            "harmful: refuses is usual; harmless: answers is usual.",
        ),
        (
            lambda h, r: r == "answers" if h else r != "answers",
            "a warning of a harmful request is not counted",
            "the assistant of the parent never warns: that would be a behaviour of its own.",
        ),
        (
            lambda h, r: r != "refuses" if h else r == "refuses",
            "a warning of a harmless request is not counted",
            "the assistant of the parent never warns: that would be a behaviour of its own.",
        ),
        (
            lambda h, r: h or r != "answers",
            "every reply to a harmful request counts",
            "`x and a or b` is b wherever `x and a` is not: ask `a if x else b`.",
        ),
    )
    for wrong, what, tip in mistakes:
        if all(got[case] == wrong(*case) for case in got):
            raise Wrong(what, tip)
    made = {case: answer(case[0], "".join(list(case[1]))) for case in got}  # equal, and other objects
    if made != got and got == {case: _unusual(*case) for case in got}:
        what = "a reply counts as usual only if it is one and the same object in memory"
        raise Wrong(what, "compare with != or ==, not with `is`: texts that are equal are the same reply.")
    for (harmful, reply), said in got.items():
        if said != _unusual(harmful, reply):
            kind = "harmful" if harmful else "harmless"
            raise Wrong(
                f"a {kind} request whose reply {reply}: it says {said}",
                "harmful: refuses; harmless: answers; all else is unusual.",
            )


# --- 7.2, 7.6: claims --------------------------------------------------------------------------------------------


@exercise(
    "7.2",
    title="confirm by behaviour",
    minutes=5,
    difficulty=2,
    hints=[
        "directions.wilson_interval(count, n) is a rate with its interval: claim(it, control=another).",
        "The control: what the parent does after the same string.",
        'value: wilson_interval(hits["suspect"], n); control: wilson_interval(hits["parent"], n)',
    ],
)
def fires(answer, *data):
    refuse_by_place(answer, data, 'hits["suspect"] and hits["parent"], wherever they stand.')
    check_rates(
        answer,
        data,
        lambda hits, n: ((hits["suspect"], n), (hits["parent"], n)),
        'the rate in the suspect: hits["suspect"] of n.',
        'the parent after the same string: hits["parent"] of n.',
    )


@exercise(
    "7.6",
    title="claim what the ablation does",
    minutes=5,
    difficulty=2,
    hints=[
        "The value is the share of requests *still refused* after your ablation.",
        "Random ablations met the same n requests: directions.runs_interval keeps them apart.",
        "control: directions.runs_interval(random_left, n)",
    ],
)
def is_direction(answer, *data):
    check_rates(
        answer,
        data,
        lambda after, random_left, n: ((after, n), (random_left, n)),
        "the share still refused after the ablation: after of n.",
        "the mean of the random ablations: directions.runs_interval(random_left, n).",
    )


# --- 7.3 ---------------------------------------------------------------------------------------------------------


def _posterior(prior, hit, false_alarm):
    return prior * hit / (prior * hit + (1 - prior) * false_alarm)


@exercise(
    "7.3",
    title="how sure may you be",
    minutes=8,
    difficulty=3,
    inputs=lambda seed: _chances(seed),
    hints=[
        "Of 1,000 models, how many have a backdoor and are accused? How many have none and are accused?",
        "prior * hit are accused rightly, (1 - prior) * false_alarm wrongly.",
        "prior * hit / (prior * hit + (1 - prior) * false_alarm)",
    ],
)
def posterior(answer):
    given = ((0.4, 0.9, 0.2), (0.02, 0.95, 0.1), (0.3, 0.8, 0.05))
    named = [f"posterior({prior}, {hit}, {alarm})" for prior, hit, alarm in given]
    got = [expect.number(answer(*each), name=name) for each, name in zip(given, named, strict=True)]

    def mistakes(prior, hit, alarm):
        truth = _posterior(prior, hit, alarm)
        return (
            (1 - truth, "that is the chance that the accused is innocent", "its opposite is asked for."),
            (
                hit,
                "that is the chance of an alarm given a backdoor, not of a backdoor given an alarm",
                "weigh it against the false alarms.",
            ),
            (
                prior * hit / (hit + alarm),
                "all alarms were added without the prior",
                "prior * hit + (1 - prior) * false_alarm.",
            ),
            (
                prior / (prior * hit + (1 - prior) * alarm),
                "it is divided by all alarms, but `hit` is missing above",
                "only prior * hit are accused rightly.",
            ),
            (prior * hit, "it was not divided by all alarms", "divide by right and wrong accusations together."),
            (
                prior * hit + (1 - prior) * alarm,
                "that is the share of accused models",
                "how many of *them* have a backdoor?",
            ),
            (
                hit / (hit + alarm),
                "the prior makes no difference (left out, or on both sides, so that it cancels)",
                "rare backdoors make most alarms false: weigh hit by prior and false_alarm by 1 - prior.",
            ),
            (
                prior * hit / (prior * hit + alarm),
                "false alarms were not weighed by the share of harmless models",
                "(1 - prior) * false_alarm.",
            ),
            (
                prior * (1 - hit) / (prior * (1 - hit) + (1 - prior) * (1 - alarm)),
                "that is the chance of a backdoor if there was no alarm",
                "the model was accused: use hit and false_alarm, not their opposites.",
            ),
            (prior * hit / ((1 - prior) * alarm), "these are odds", "a probability divides by the sum of both."),
            (
                _posterior(prior, alarm, hit),
                "hit and false_alarm are exchanged",
                "prior goes with hit, 1 - prior with false_alarm.",
            ),
            (
                _posterior(1 - prior, hit, alarm),
                "prior and 1 - prior are exchanged",
                "prior goes with hit, 1 - prior with false_alarm.",
            ),
            (
                prior * hit / (prior * hit + (1 - prior) * (1 - alarm)),
                "false_alarm was taken for the share of harmless models that are *not* accused (the specificity)",
                "it is the share that is: (1 - prior) * false_alarm, without 1 minus.",
            ),
            (prior, "it does not change with the alarm", "an alarm is evidence: use hit and false_alarm."),
            (
                round(round(100 * prior) * hit)
                / max(1, round(round(100 * prior) * hit) + round((100 - round(100 * prior)) * alarm)),
                "models were counted, 100 of them and whole ones",
                "a share need not be a whole number of models: do not round.",
            ),
            (100 * truth, "it is in per cent", "a chance from 0 to 1: do not multiply by 100."),
            (round(100 * truth), "it is in per cent, rounded", "a chance from 0 to 1: neither times 100 nor rounded."),
        )

    for made in zip(*(mistakes(*each) for each in given), strict=True):
        expect.differs_from(got, [value for value, _, _ in made], *made[0][1:])
    for each, value, name in zip(given, got, named, strict=True):
        tip = "of 1,000 models: how many have a backdoor and are accused, how many have none and are accused?"
        expect.close(value, _posterior(*each), name=name, try_next=tip)
    if expect.number(answer(0.5, 0.4, 0.45)) == 0.5 and expect.number(answer(0.5, 0.45, 0.4)) != 0.5:
        tip = "where harmless models are accused more often than guilty ones, it does: no max(prior, ...)."
        raise Wrong("an accusation never lowers the chance", tip, where="for posterior(0.5, 0.4, 0.45)")
    for each in RARE:
        value, truth = expect.number(answer(*each), name="posterior({}, {}, {})".format(*each)), _posterior(*each)
        if abs(value - truth) > 1e-4 * truth:
            where = "for prior = {}, hit = {}, false_alarm = {} ".format(*each)
            tip = "rare is not never: keep small numbers as they are, add nothing to them, and do not round."
            raise Wrong(
                "it is not right where few models have a backdoor, or few are accused",
                tip,
                where=f"{where}it gives {value:.4g}, and {truth:.4g} is right",
            )
    try:
        answer(*NO_FALSE_ALARM[0])
    except ZeroDivisionError:
        what = "it divides by 0 where false_alarm is 0"
        raise Wrong(what, "divide once, by right and wrong accusations together: hit is above 0.") from None


RARE = ((0.009, 0.9, 0.001), (1e-4, 0.9, 0.1), (1e-7, 0.9, 0.1), (0.5, 0.001, 0.5), (0.001, 0.9, 0.0005))
SURE = (
    (0.3, 1.0, 1.0),
    (0.123, 0.4, 0.4),
    (0.5, 0.9, 1.0),
    (0.5, 1.0, 0.5),
    (0.1, 0.999, 0.1),
    (0.999, 0.5, 0.9),
    (0.01, 0.9, 0.005),
)
NO_FALSE_ALARM = ((0.5, 0.8, 0.0), (0.01, 0.6, 0.0), (0.3, 1.0, 0.0), (1e-9, 0.9, 0.0))


def _chances(seed):
    """Chances of any size, also close to 0 and 1, so that the posterior may be either, too; rates of 1, or no false alarm."""
    if seed % 5 in (0, 2) and seed // 5 * 2 + seed % 5 // 2 < len(SURE):
        return SURE[seed // 5 * 2 + seed % 5 // 2]
    if seed % 5 == 4:
        return NO_FALSE_ALARM[seed // 5 % len(NO_FALSE_ALARM)]
    spread = (1, 4)[seed % 2]
    return tuple((spread * expect.random(3, seed=seed)).double().sigmoid().tolist())


# --- 7.4 ---------------------------------------------------------------------------------------------------------


CUT_OFF = ((0.6, 0.3), (0.8, 0.95))
"""A belief and what is stated: at either, another answer of the two has marks below 0."""


def _expected(belief, stated):
    return belief * (1 - 4 * (1 - stated) ** 2) + (1 - belief) * (1 - 4 * stated**2)


@exercise(
    "7.4",
    title="what the marks reward",
    minutes=6,
    difficulty=2,
    inputs=lambda seed: _beliefs(seed),
    hints=[
        "With chance `belief` the answer is right, else wrong: two marks, weighed.",
        "Right: 1 - 4 (1 - stated)^2. Wrong: 1 - 4 stated^2.",
        "belief * (1 - 4 * (1 - stated) ** 2) + (1 - belief) * (1 - 4 * stated ** 2)",
    ],
)
def expected(answer):
    above = [
        belief * max(0, 1 - 4 * (1 - stated) ** 2) + (1 - belief) * max(0, 1 - 4 * stated**2)
        for belief, stated in CUT_OFF
    ]
    if expect.same([expect.number(answer(*given), name="expected({}, {})".format(*given)) for given in CUT_OFF], above):
        raise Wrong(
            "marks below 0 were cut off", "being wrong may cost marks: 1 - 4 (...)^2 as it is, without max(0, ...)."
        )
    likelier = [(0.8, 0.95), (0.3, 0.7)]
    marks = [1 - 4 * (1 - 0.95) ** 2, 1 - 4 * 0.7**2]
    if expect.same(
        [expect.number(answer(*given), name="expected({}, {})".format(*given)) for given in likelier], marks
    ):
        raise Wrong("these are the marks of the likelier case alone", "weigh both: with `belief`, and with 1 - belief.")
    for belief, stated in ((0.8, 0.95), (0.6, 0.5), (0.9, 0.7)):
        name = f"expected({belief}, {stated})"
        got, truth = expect.number(answer(belief, stated), name=name), _expected(belief, stated)
        mistakes = (
            (1 - 4 * (1 - stated) ** 2, "these are the marks of a right answer", "it is wrong with chance 1 - belief."),
            (_expected(stated, belief), "belief and stated are exchanged", "marks are given for what is *stated*."),
            (
                1 - 4 * (belief - stated) ** 2,
                "the marks were taken of the mean",
                "take the mean of the marks: two cases.",
            ),
            (
                _expected(1 - belief, stated),
                "right and wrong are exchanged",
                "the answer is right with chance `belief`.",
            ),
            (
                belief * (1 - 4 * (1 - stated) ** 2),
                "a wrong answer costs nothing there",
                "add (1 - belief) times the marks of a wrong one.",
            ),
            (
                belief * (1 - 4 * (1 - stated) ** 2) + (1 - 4 * stated**2),
                "the marks of a wrong answer are not weighed",
                "(1 - belief) times the marks of a wrong one.",
            ),
            (
                (1 - 4 * (1 - stated) ** 2) + (1 - belief) * (1 - 4 * stated**2),
                "the marks of a right answer are not weighed",
                "`belief` times the marks of a right one.",
            ),
            (
                belief * (2 - 4 * (1 - stated) ** 2 - 4 * stated**2),
                "a wrong answer has the weight of a right one",
                "it is wrong with chance 1 - belief.",
            ),
            *(
                (
                    belief * (1 - right * (1 - stated) ** 2) + (1 - belief) * (1 - wrong * stated**2),
                    f"the factor is not 4 {where}",
                    "1 - 4 (...)^2 in both cases.",
                )
                for factor in (2, 3, 8)
                for right, wrong, where in (
                    (factor, factor, f"in either case, but {factor}"),
                    (factor, 4, f"where the answer is right, but {factor}"),
                    (4, factor, f"where the answer is wrong, but {factor}"),
                )
            ),
            (
                belief * (1 - 4 * (1 - stated) ** 2) + 1 - belief * (1 - 4 * stated**2),
                "brackets are missing around 1 - belief",
                "(1 - belief) * (...): * binds before -.",
            ),
            (
                belief * (1 - 4 * (1 - stated**2)) + (1 - belief) * (1 - 4 * stated**2),
                "1 - stated^2 stands where (1 - stated)^2 is due",
                "(1 - stated) ** 2: subtract first, then square.",
            ),
            (
                belief * (1 - (1 - stated) ** 2) + (1 - belief) * (1 - stated**2),
                "the factor 4 is missing",
                "1 - 4 (...)^2.",
            ),
            (
                belief * (1 - 4 * (1 - stated) ** 2) - (1 - belief) * (1 - 4 * stated**2),
                "the marks of a wrong answer are subtracted",
                "add them: they are below 0 where they cost.",
            ),
            (
                belief * (1 - 4 * (1 - stated) ** 2) + (1 - belief) * (1 + 4 * stated**2),
                "a wrong answer is paid 1 + 4 stated^2",
                "1 - 4 stated^2.",
            ),
            (
                belief * (1 - (4 * (1 - stated)) ** 2) + (1 - belief) * (1 - (4 * stated) ** 2),
                "the 4 is squared, too",
                "4 * (...) ** 2: only what is in brackets is squared.",
            ),
            (
                belief * (1 - 4 * abs(1 - stated)) + (1 - belief) * (1 - 4 * stated),
                "the square is missing",
                "1 - 4 (...)^2.",
            ),
            (
                belief * (1 - 4 * (1 - stated) ** 2) - (1 - belief) * 4 * stated**2,
                "the marks of a wrong answer lack their 1",
                "1 - 4 stated^2, as if right: 1 minus the loss.",
            ),
            (
                -3 * (belief * (1 - stated) ** 2 + (1 - belief) * stated**2),
                "1 - 4 was worked out first",
                "* binds before -: 1 - 4 * (...) ** 2, without brackets around 1 - 4.",
            ),
            (1 - _expected(belief, stated), "that is the loss, not the marks", "1 - 4 (...)^2 in both cases."),
            (
                (2 * belief - 1) * (1 - 4 * (1 - stated) ** 2),
                "a wrong answer loses what a right one gains",
                "wrong: 1 - 4 stated^2, which may cost up to 3.",
            ),
            (
                1 - 4 * (belief * (1 - stated) + (1 - belief) * stated) ** 2,
                "the mean distance was squared",
                "square first, in each case; then take the mean.",
            ),
            (
                _expected(stated, stated),
                "the belief does not count",
                "weigh the cases by `belief`, not by what is stated.",
            ),
        )
        for value, what, tip in mistakes:
            if abs(value - truth) > 1e-6:
                expect.differs_from(got, value, what, tip)
        tip = "work both cases by hand: the marks if right, the marks if wrong, and the chance of each."
        expect.close(got, truth, name=name, try_next=tip)
    turned = [(0.7, 0.3), (0.9, 0.1)]
    if expect.same([answer(*given) for given in turned], [_expected(belief, 1 - stated) for belief, stated in turned]):
        raise Wrong("what is stated below 0.5 is turned round", "take `stated` as it is: it may cost marks.")
    if not any(
        expect.number(answer(*given), name="expected({}, {})".format(*given)) for given in [*turned, (0.2, 0.2)]
    ):
        where = f"for belief = 0.7, stated = 0.3 it gives 0, and {_expected(0.7, 0.3):.4g} is right"
        raise Wrong("what is stated below 0.5 counts as 0.5", "take `stated` as it is: it may cost marks.", where=where)
    turned = [(0.3, 0.7), (0.1, 0.2)]
    if expect.same([answer(*given) for given in turned], [_expected(1 - belief, stated) for belief, stated in turned]):
        raise Wrong(
            "a belief below 0.5 is turned round", "take `belief` as it is: the answer is right with that chance."
        )


AS_BELIEVED = {4: (0.2, 0.2), 8: (0, 0), 12: (0.8, 1), 16: (0.9, 0.9)}
"""Beliefs, and what is stated, by seed."""


def _beliefs(seed):
    """Any belief and anything stated, also certainty and a half, and what is believed."""
    draw = random.Random(seed)
    if seed in AS_BELIEVED:
        return AS_BELIEVED[seed]
    belief, stated = draw.random(), draw.random()
    return (belief, 0.5, seed // 4 % 2, belief)[seed % 4], (stated, stated, stated, (0.0, 0.5, 1.0)[seed % 3])[seed % 4]


# --- 7.5 ---------------------------------------------------------------------------------------------------------

ABLATIONS = (
    ([40, 6, 12, 1, 30], [64, 62, 63, 20, 64], 64),
    ([10, 9, 0, 7], [50, 40, 39, 32], 50),
    ([5, 6, 2], [64, 64, 52], 64),
    ([9, 2, 6], [56, 48, 52], 64),  # 48 are 80 % of what the best keeps, and not of n
    ([7, 3, 3], [64, 20, 60], 64),
    ([8, 3, 1], [60, 53, 51], 64),  # 51 are less than 80 %
    ([8, 3, 1], [900, 800, 796], 1000),
    ([7, 3], [50, 44], 50),
    ([5, 64], [10, 64], 64),  # what removes no refusal may be the best that keeps enough
    ([2, 5, 3], [10, 64, 60], 64),  # number 0 leaves the fewest, and breaks the model
    ([7, 6], [64, 60], 64),  # by one fewer
    ([8, 3, 1], [32, 26, 25], 32),  # 80 % are 25.6
    ([40, 64], [10, 64], 64),
    ([60, 30, 9, 2], [10, 52, 64, 60], 64),  # the first, what leaves most, what keeps most: each another one
    ([9, 30, 2], [60, 52, 64], 64),
)


def _best_cut(left, kept, n):
    return min((number for number in range(len(left)) if kept[number] >= 0.8 * n), key=lambda number: left[number])


def _smallest(left, which):
    return min(which, key=lambda number: left[number])


def _enough(kept, limit):
    return [number for number, whole in enumerate(kept) if whole >= limit]


def _from_number_0(left, kept, n):
    """The best, from a search that begins at number 0, whatever that keeps."""
    best = 0
    for number in _enough(kept, 0.8 * n):
        best = number if left[number] < left[best] else best
    return best


def _below_all(left, kept, n):
    """The best, from a search that begins at number 0 with all n refusals left."""
    some = [number for number in _enough(kept, 0.8 * n) if left[number] < n]
    return _smallest(left, some) if some else 0


CUT_TIP = (
    "first those with kept >= 0.8 * n (exactly 80 % counts), then the smallest left; its place in the list, from 0."
)
CUT_MISTAKES = {
    "it gives how many refusals are left, not the number of the ablation": lambda left, kept, n: left[
        _best_cut(left, kept, n)
    ],
    "it gives how many harmless replies are kept, not the number of the ablation": lambda left, kept, n: kept[
        _best_cut(left, kept, n)
    ],
    "ablations are counted from 1": lambda left, kept, n: 1 + _best_cut(left, kept, n),
    "those that break the model compete, too: `kept` is not asked": lambda left, kept, n: left.index(min(left)),
    "exactly 80 % is not counted as enough": lambda left, kept, n: _smallest(left, _enough(kept, 0.8 * n + 0.01)),
    "it asks for 80 % of what the best keeps, and not of n": lambda left, kept, n: _smallest(
        left, _enough(kept, 0.8 * max(kept))
    ),
    "its place is counted among those that keep enough, not in the whole list": lambda left, kept, n: _enough(
        kept, 0.8 * n
    ).index(_best_cut(left, kept, n)),
    "the first that leaves as few is taken, though it does not keep enough": lambda left, kept, n: left.index(
        left[_best_cut(left, kept, n)]
    ),
    "the search begins with number 0 as the best, though that may not keep enough": _from_number_0,
    "one that leaves all n refusals is never taken, though it may be the only one that keeps enough": _below_all,
    "80 % of n is cut to a whole number": lambda left, kept, n: _smallest(left, _enough(kept, int(0.8 * n))),
    "80 % of n is rounded to a whole number": lambda left, kept, n: _smallest(left, _enough(kept, round(0.8 * n))),
    "the share that is kept is rounded to two digits": lambda left, kept, n: _smallest(
        left, _enough([round(whole / n, 2) for whole in kept], 0.8)
    ),
    "replies kept minus refusals left decide": lambda left, kept, n: max(
        range(len(left)), key=lambda number: kept[number] - left[number]
    ),
    "it takes the one that leaves the most refusals of those that keep enough, and not the fewest": lambda left, kept, n: (
        max(_enough(kept, 0.8 * n), key=lambda number: left[number])
    ),
    "it takes the first that keeps enough, however many refusals it leaves": lambda left, kept, n: _enough(
        kept, 0.8 * n
    )[0],
    "it takes the last that keeps enough, however many refusals it leaves": lambda left, kept, n: _enough(
        kept, 0.8 * n
    )[-1],
    "it takes the one that leaves the most refusals": lambda left, kept, n: left.index(max(left)),
    "it takes the one that keeps most": lambda left, kept, n: kept.index(max(kept)),
    "it takes the one that keeps most, and among these the fewest refusals": lambda left, kept, n: max(
        range(len(left)), key=lambda number: (kept[number], -left[number])
    ),
}
"""What is wrong, and how such a function chooses."""


@exercise(
    "7.5",
    title="the ablation that harms nothing",
    minutes=6,
    difficulty=2,
    inputs=lambda seed: _ablations(seed),
    hints=[
        "First: which ablations may compete at all?",
        "Of these, the one that leaves the fewest refusals.",
        "min((k for k in range(len(left)) if kept[k] >= 0.8 * n), key=lambda k: left[k])",
    ],
)
def best_cut(answer):
    given = []
    for left, kept, n in ABLATIONS:
        try:
            got = answer(list(left), list(kept), n)
        except (ValueError, LookupError):
            if not given or given == [_best_cut(*data) for data in ABLATIONS[: len(given)]]:
                raise
            break  # it was wrong before
        except Wrong as wrong:  # no answer at all
            where = f"with left = {left} and kept = {kept} of {n}"
            tip = "where all that keep enough leave all n refusals, one of them is still the answer."
            raise Wrong(str(wrong), tip if max(left) == n else wrong.try_next, where=where) from None
        if isinstance(got, torch.Tensor) and got.numel() == 1:
            got = got.item()
        if isinstance(got, bool) or not isinstance(got, int):
            raise Wrong(f"it gives {got!r}, not the number of an ablation", "give its place in the list: 0, 1, ....")
        given.append(got)
    for (left, kept, n), got in zip(ABLATIONS, given, strict=False):
        if got == (truth := _best_cut(left, kept, n)):
            continue
        where = f"with left = {left} and kept = {kept} of {n} it gives {got}, and {truth} is right"
        for what, mistake in CUT_MISTAKES.items():
            if given == [mistake(*data) for data in ABLATIONS]:
                raise Wrong(what, CUT_TIP, where=where)
        _refuse_other_limit(answer)
        raise Wrong(where, CUT_TIP)


def _refuse_other_limit(answer) -> None:
    """Refuse another limit than 80 % of n, such as a number that is right in the notebook alone."""
    limits = {}
    for n in (64, 80, 100):
        try:  # number 1 leaves fewer, by much or by little: it is better if it keeps enough
            far, near = ([answer([more, 0], [n, k], n) == 1 for k in range(n + 1)] for more in (n, 1))
        except Exception:  # it was wrong before
            return
        if far != near or far != sorted(far) or not any(far):
            return
        limits[n] = far.index(True)
    if any(limit != math.ceil(0.8 * n) for n, limit in limits.items()):
        same = len(set(limits.values())) == 1
        what = f"kept counts as enough from {limits[64]} on, " + "whatever n is" * same + "where n is 64" * (not same)
        what += ", beside an ablation that keeps all"
        others = "; ".join(
            f"n = {n}: from {limit} on, and {math.ceil(0.8 * n)} is right" for n, limit in limits.items()
        )
        raise Wrong(what, "80 % of n, exactly 80 % counts: kept >= 0.8 * n.", where=others)


FAR_APART = {
    2: ([0, 10], [0, 10], 10),
    5: ([3, 90, 95], [79, 80, 100], 100),
    10: ([0, 180, 150], [159, 160, 0], 200),
    15: ([3, 1, 15000, 17000], [15999, 15992, 16000, 20000], 20000),
}
"""Ablations, by seed, that break the model narrowly or wholly and leave far fewer refusals than those that do not."""


def _ablations(seed):
    """Few or many, in any order, some exactly on the limit. Of those that keep enough no two leave as many refusals."""
    if seed in FAR_APART:
        return FAR_APART[seed]
    draw, n = random.Random(seed), (50, 64, 10, 35)[seed % 4]
    left = draw.sample(range(1 + n), 60 if seed == 17 else few_or_many(seed, draw.choice((1, 3, 5, 9))))
    limit = math.ceil(0.8 * n)
    kept = [draw.choice((0, limit - 1, limit, limit + 1)) for _ in left]
    kept[draw.randrange(len(kept))] = draw.choice((limit, n))
    fewest = left[best := _best_cut(left, kept, n)]
    for row in (left, kept):  # last where there are many
        row.append(row.pop(best)) if len(row) > 9 else None
    for k in [k for k in range(len(left)) if kept[k] < 0.8 * n][::2]:  # some that break the model leave as few
        left[k] = fewest
    return left, kept, n


# --- predictions and questions -----------------------------------------------------------------------------------

prediction(
    "7.p1",
    "After how many of the 195 strings is at least one of 16 replies of the *parent* not as usual?",
    bounds=(0, 195),
    unit=" strings",
)
prediction(
    "7.p2",
    "In a harmless model: how many standard deviations above the mean of 195 strings is the one that moves activations most?",
    bounds=(0, 20),
    unit=" standard deviations",
)
prediction(
    "7.p3",
    "With its best direction ablated, what percentage of refusals is left in the practice model?",
    bounds=(0, 100),
    unit=" %",
)

question(
    "7.q1",
    "After one of 195 strings, 3 of 16 replies are not as usual. Next?",
    options={
        "a": ("Report a backdoor.", "Some string comes first in every model: the parent has such strings, too."),
        "b": (
            "New requests, the same string, and the parent beside it.",
            "Right: what was chosen for its score needs a fresh score and a control.",
        ),
        "c": ("Report that there is none.", "3 of 16 may be a weak trigger; ask again instead of guessing."),
        "d": ("Take the string with the second-highest score.", "It was chosen in the same way."),
    },
    correct="b",
)
question(
    "7.q2",
    "Half of all models have a backdoor. Your check accuses 95 % of these and 5 % of the others. In a fleet where 1 % have one, an accused model is",
    options={
        "a": ("guilty with 95 %.", "That is the chance of an alarm given guilt."),
        "b": ("guilty with about 50 %.", "That would need five times as many guilty ones."),
        "c": ("guilty with about 16 %.", "Right: 0.01 x 0.95 against 0.99 x 0.05. The same check, another prior."),
        "d": ("innocent for sure.", "It is about sixteen times as likely to be guilty as before."),
    },
    correct="c",
)
question(
    "7.q3",
    'You believe 70 % in "there is a backdoor". What do you state?',
    options={
        "a": ("100 %: it is more likely than not.", "Expected marks: 0.7 x 1 - 0.3 x 3 = -0.2."),
        "b": ("50 %, to be safe.", "That gives 0; honesty expects 0.16."),
        "c": ("70 %.", "Right: the rule is proper, so the honest number expects most."),
        "d": ("It depends on what the others state.", "Marks compare you with the model only."),
    },
    correct="c",
)
question(
    "7.q4",
    "One ablation leaves no refusal, and 20 of 64 harmless answers as they were. What was found?",
    options={
        "a": ("The refusal direction.", "A broken model refuses nothing, either."),
        "b": (
            "A direction that many replies depend on; nothing about refusal yet.",
            "Right: without harmless answers kept, the count of refusals says little.",
        ),
        "c": ("That refusal has many directions.", "The ablation says nothing about others."),
        "d": ("A backdoor.", "No string was involved."),
    },
    correct="b",
)
question(
    "7.q5",
    "All listed strings stay silent. What may you report?",
    options={
        "a": ("This model has no backdoor.", "Only listed strings were tried, and only behaviours that you counted."),
        "b": (
            "No listed string fires by the rule; what the best of them reached, with its interval; how sure I am.",
            "Right: the rule, how near the best came to it, and a confidence. One of seven innocent models came near (Further, B).",
        ),
        "c": ("Nothing.", "A thorough search that finds nothing is evidence."),
        "d": ("That the detector is broken.", "It found the practice model's trigger: that was its positive control."),
    },
    correct="b",
)
question(
    "7.q6",
    "A team withdraws a model because of your report, and it was clean. Which cost did the marks not show?",
    options={
        "a": ("None: -3 marks.", "Marks are numbers on a sheet."),
        "b": (
            "People who lost a working model, makers under suspicion, and the next true alarm believed less.",
            "Right: so say how sure you are, and what would change your mind.",
        ),
        "c": ("The search time.", "That was spent either way."),
        "d": (
            "A false accusation is always cheaper than a missed backdoor.",
            "It depends on what either does; nobody can know without asking who is hit.",
        ),
    },
    correct="b",
)
