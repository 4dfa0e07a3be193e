"""Right and wrong answers to notebook 02."""

import math
import re

import numpy as np
import torch
import torch.nn.functional as F
from bank import rates, right_claims, runs, wilson, wrong_claims
from scipy.stats import entropy, norm

from course_lib import directions
from course_lib.grading.claims import claim

N, FALSE_AFTER, FALSE_RANDOM = 95, 0, [12, 13, 14]


def _gain():
    generator = torch.Generator().manual_seed(3)
    return {
        "edited": (torch.rand(100, generator=generator) < 0.3).float() - 0.05,
        "unedited": torch.full((100,), 0.01) * (torch.arange(100) % 3),
    }


GAIN = _gain()
CONTEXT = {"2.4": lambda: (FALSE_AFTER, FALSE_RANDOM, N), "2.6": lambda: (GAIN,)}


# 2.1, 2.8
def unit(v):
    return v / v.norm()


def by_matrix(w, v):
    return (torch.eye(len(v)) - torch.outer(unit(v), unit(v))) @ w


def by_columns(w, v):
    return torch.stack([column - (column @ unit(v)) * unit(v) for column in w.T], dim=1)


def on_all(edit):
    """The edit of one matrix that writes its columns, used as 2.1 asks."""

    def edited(weights, v):
        edits = {"embed": lambda w: edit(w.T, v).T, "unembed": lambda w: w}
        return {name: edits.get(name, lambda w: edit(w, v))(w) for name, w in weights.items()}

    return edited


def by_copies(weights, v):
    made = {name: weight.clone() for name, weight in weights.items()}
    for name in made:
        if name == "embed":
            made[name] -= torch.outer(made[name] @ unit(v), unit(v))
        elif name != "unembed":
            made[name] -= torch.outer(unit(v), unit(v) @ made[name])
    return made


def by_names(weights, v):
    p = torch.eye(len(v), dtype=torch.float64) - torch.outer(v, v).double() / (v.double() @ v.double())
    made = dict(weights)
    if "embed" in weights:
        made["embed"] = (weights["embed"].double() @ p).float()
    for name in weights:
        if name.split()[0] in ("attention", "MLP"):
            made[name] = (p @ weights[name].double()).float()
    return made


def first_rows_edited(weights, v):
    made = by_names(weights, v)
    if "embed" in made:
        made["embed"] = torch.cat([made["embed"][:300], weights["embed"][300:]])
    return made


def in_float64(weights, v):
    return on_all(by_matrix)({name: w.double() for name, w in weights.items()}, v.double())


def but(**others):
    """A right answer, in which these parts are made otherwise."""
    return lambda weights, v: (
        on_all(by_matrix)(weights, v) | {n: other(weights[n], v) for n, other in others.items() if n in weights}
    )


def only_blocks(wanted):
    """A right answer for the blocks that are wanted; all others stay as they are."""

    def edited(weights, v):
        left = {name: w for name, w in weights.items() if " " in name and not wanted(int(name.split()[1]))}
        return on_all(by_matrix)(weights, v) | left

    return edited


def by_shape(weights, v):
    made = {n: by_matrix(w, v) if len(w) == len(v) else by_matrix(w.T, v).T for n, w in weights.items()}
    return made | {"unembed": weights["unembed"]}


def by_last_axis(weights, v):
    made = {n: by_matrix(w.T, v).T if w.shape[-1] == len(v) else by_matrix(w, v) for n, w in weights.items()}
    return made | {n: w for n, w in weights.items() if n == "unembed"}


def rows_rescaled(w, v):
    edited = by_matrix(w, v)
    return edited * w.norm(dim=1, keepdim=True) / edited.norm(dim=1, keepdim=True)


def by_numpy(w, v):
    w, v = w.numpy(), v.numpy()
    return torch.from_numpy(w - np.outer(v, v @ w) / (v @ v))


def columns_rescaled(w, v):
    edited = by_matrix(w, v)
    return edited * w.norm(dim=0) / edited.norm(dim=0)


# 2.2
SAID = "i cannot help with that"


def by_words(reply):
    words = re.findall(r"[a-z]+", reply)
    return any(words[k : k + 5] == SAID.split() for k in range(len(words)))


# 2.3
def log_softmax(x):
    return x.log_softmax(-1)


def kl(clean, edited):
    return kl_terms(clean, edited).sum(-1)


def kl_terms(clean, edited):
    p, q = log_softmax(clean), log_softmax(edited)
    return p.exp() * (p - q)


def likeliest(logits, n):
    return logits.topk(min(n, logits.shape[-1])).indices


def one_maximum(clean, edited):
    p, q = ((x - x.max()).exp() for x in (clean, edited))
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    return (p * (p / q).log()).sum()


def by_entropy(clean, edited):
    return sum(entropy(p, q) for p, q in zip(*(x.double().softmax(-1).numpy() for x in (clean, edited)), strict=True))


def by_logsumexp(clean, edited):
    total = 0.0
    for x, y in zip(clean.double(), edited.double(), strict=True):
        total += float((x.softmax(0) * (x - y)).sum() - x.logsumexp(0) + y.logsumexp(0))
    return total


def by_loop(clean, edited):
    total = 0.0
    for c, e in zip(clean, edited, strict=True):
        p, q = c.softmax(0), e.softmax(0)
        total += float((p * (p / q).log()).sum())
    return total


def by_logs(clean, edited):
    p, q = clean.softmax(-1), edited.softmax(-1)
    return (p * (p.log() - q.log())).sum()


def by_categorical(clean, edited):
    p, q = (torch.distributions.Categorical(logits=logits) for logits in (clean, edited))
    return torch.distributions.kl_divergence(p, q).sum()


def by_cross_entropy(clean, edited):
    p = clean.softmax(-1)
    return F.cross_entropy(edited, p, reduction="sum") - F.cross_entropy(clean, p, reduction="sum")


# 2.4, 2.6
def bootstrap(name, gain=GAIN):
    interval = directions.bootstrap_interval(gain[name], seed=3)
    return interval.estimate, (interval.low, interval.high)


def normal(name, gain=GAIN, root=0.5):
    values = gain[name]
    mean, half = float(values.mean()), 1.96 * float(values.std()) / len(values) ** root
    return mean, (mean - half, mean + half)


def resampled(gain):
    """With numpy's generator."""
    made = []
    for name in ("edited", "unedited"):
        values, draw = gain[name].double().numpy(), np.random.default_rng(0)
        means = values[draw.integers(0, len(values), (2000, len(values)))].mean(axis=1)
        made += [values.mean(), np.quantile(means, [0.025, 0.975])]
    return claim(*made)


def by_intervals(gain):
    edited, unedited = (directions.bootstrap_interval(gain[name]) for name in ("edited", "unedited"))
    return claim(edited, control=unedited)


def by_place(gain):
    one, other = map(directions.bootstrap_interval, gain.values())
    return claim(one, control=other)


def medians(gain):
    edited, unedited = (directions.bootstrap_interval(gain[name], torch.median) for name in ("edited", "unedited"))
    return claim(edited, control=unedited)


def winners(gain):
    return rates(*(wilson(int((gain[name] > 0).sum()), len(gain[name])) for name in ("edited", "unedited")))


def others_as_control(gain):
    rest = torch.stack([values for name, values in gain.items() if name != "edited"]).mean(0)
    return claim(directions.bootstrap_interval(gain["edited"]), control=directions.bootstrap_interval(rest))


def extremes(gain):
    return rates(*((v.mean(), (v.min(), v.max())) for v in (gain["edited"], gain["unedited"])))


def difference(gain):
    apart = directions.bootstrap_interval(gain["edited"] - gain["unedited"])
    return claim(apart, control=directions.bootstrap_interval(torch.zeros_like(gain["edited"])))


def spread(gain):
    return rates(*(normal(name, gain, root=0) for name in ("edited", "unedited")))


def spreads(times, root):
    def answer(gain):
        half = {name: times * float(each.std()) / len(each) ** root for name, each in gain.items()}
        made = {name: (float(each.mean()), half[name]) for name, each in gain.items()}
        return rates(*((m, (m - h, m + h)) for m, h in (made["edited"], made["unedited"])))

    return answer


# 2.5
def margin(c, r, cr, rr):
    return (c - cr) - (r - rr)


def by_logaddexp(c, r, cr, rr, b):
    """As numpy's number, through which no model can be trained."""
    c, r, cr, rr = (each.detach().double().numpy() for each in (c, r, cr, rr))
    return float(np.logaddexp(0, -b * margin(c, r, cr, rr)).mean())


def by_math(c, r, cr, rr, b):
    losses = [math.log1p(math.exp(-b * each)) for each in margin(c, r, cr, rr).tolist()]
    return sum(losses) / len(losses)


def by_log_ratios(c, r, cr, rr, b):
    return F.cross_entropy(b * torch.stack([c - cr, r - rr], dim=1), torch.zeros(len(c), dtype=torch.long))


def loss_by_loop(c, r, cr, rr, b):
    each = [torch.logaddexp(torch.zeros(()), -b * ((c[i] - cr[i]) - (r[i] - rr[i]))) for i in range(len(c))]
    return sum(each) / len(each)


def new_tensor(c, r, cr, rr, b):
    return -F.logsigmoid(b * torch.tensor(margin(c, r, cr, rr).tolist(), requires_grad=True)).mean()


# 2.7
def by_normal(scores, rate):
    return float(scores.mean() + norm.ppf(1 - rate) * scores.std())


def ordered(scores):
    return scores.sort(descending=True).values


def number_above(scores, rate):
    return round(rate * len(scores), 6)


def midpoint(scores, rate):
    ordered, k = sorted(scores.tolist(), reverse=True), math.floor(number_above(scores, rate))
    return (ordered[k - 1] + ordered[k]) / 2 if k else ordered[0]


def search(scores, rate):
    return next(c for c in sorted(scores.tolist()) if (scores > c).sum() <= number_above(scores, rate))


def nth_largest(scores, rate):
    return scores.sort(descending=True).values[int(number_above(scores, rate))]


# 2.4
def by_formula(after, others, n):
    z = 1.959964

    def limits(k):
        k = np.asarray(k, dtype=float)
        half = z * np.sqrt(k * (n - k) / n + z * z / 4)
        return (k + z * z / 2 - half) / (n + z * z), (k + z * z / 2 + half) / (n + z * z)

    low, high = limits(others)
    return claim(after / n, limits(after), np.mean(others) / n, (low.min(), high.max()))


def at_level(level):
    return lambda after, others, n: claim(
        directions.wilson_interval(after, n, level=level), control=directions.runs_interval(others, n, level=level)
    )


def rounded(after, others, n):
    return rates(wilson(after, n), wilson(round(sum(others) / len(others)), n))


def milder(after, others, n):
    return (after, n), (others, n)


# what strangers wrote in the fifth round
def without_a_row(w, v):
    w = w.clone()
    w[v.abs().argmax()] = 0
    return w


def of_ninety_five(after, others, n):
    n = 95
    return rates(wilson(after, n), runs(others, n))


def extreme(counts, n):
    return min(counts) / n, max(counts) / n


def healed_at(level):
    def answer(gain):
        one, other = (directions.bootstrap_interval(gain[name], level=level) for name in ("edited", "unedited"))
        return claim(one, control=other)

    return answer


def one_spread(gain):
    made = {name: (float(each.mean()), float(each.std())) for name, each in gain.items()}
    return rates(
        *((made[name][0], (made[name][0] - made[name][1], sum(made[name]))) for name in ("edited", "unedited"))
    )


RIGHT = {
    "2.1": [
        on_all(by_matrix),
        on_all(by_columns),
        on_all(lambda w, v: w - torch.outer(v, v @ w) / (v @ v)),
        on_all(lambda w, v: directions.project_out(w.T, v).T),
        on_all(by_numpy),
        by_names,
        in_float64,  # `checkpoint` hands it on in the dtype that later cells need
        on_all(lambda w, v: w - v[:, None] @ torch.linalg.lstsq(v[:, None], w).solution),
        by_copies,
    ],
    "2.2": [
        lambda reply: SAID in reply,
        lambda reply: reply.partition(SAID)[1] == SAID,
        lambda reply: re.search(r"\bi cannot help with that\b", reply) is not None,
        lambda reply: reply.find("i cannot help with that") >= 0,
        lambda reply: len(reply.replace(SAID, "")) < len(reply),
        lambda reply: np.bool_(SAID in reply),
        lambda reply: bool(reply.count(SAID)),
        by_words,
        lambda reply: SAID in "".join(each for each in reply if each.isalpha() or each == " "),
    ],
    "2.3": [
        by_loop,
        by_logs,  # the text says that no probability is too small for it
        lambda clean, edited: kl(clean, edited).sum(),
        lambda clean, edited: F.kl_div(log_softmax(edited), log_softmax(clean), log_target=True, reduction="sum"),
        lambda clean, edited: directions.kl_divergence(clean, edited).sum(),
        by_categorical,
        by_cross_entropy,
        by_entropy,
        by_logsumexp,
    ],
    "2.4": [*right_claims(milder), by_formula],
    "2.5": [
        lambda c, r, cr, rr, b: -F.logsigmoid(b * margin(c, r, cr, rr)).mean(),
        lambda c, r, cr, rr, b: torch.log1p(torch.exp(-b * margin(c, r, cr, rr))).mean(),
        lambda c, r, cr, rr, b: F.softplus(b * ((r - c) - (rr - cr))).mean(),
        lambda c, r, cr, rr, b: F.binary_cross_entropy_with_logits(b * margin(c, r, cr, rr), torch.ones_like(c)),
        lambda c, r, cr, rr, b: (
            -torch.sigmoid(b * margin(c, r, cr, rr)).log().mean()
        ),  # the text says it is large enough
        by_log_ratios,
        loss_by_loop,
    ],
    "2.6": [
        by_intervals,
        lambda gain: rates(bootstrap("edited", gain), bootstrap("unedited", gain)),
        lambda gain: rates(normal("edited", gain), normal("unedited", gain)),
        resampled,
        lambda gain: by_intervals({name: values.double() for name, values in gain.items()}),
    ],
    "2.7": [
        lambda scores, rate: min(t for t in scores if (scores > t).sum() <= rate * len(scores) + 1e-9),
        lambda scores, rate: scores.quantile(1 - rate),
        nth_largest,
        lambda scores, rate: float(torch.quantile(scores, 1 - rate)),
        lambda scores, rate: np.quantile(scores.double().numpy(), 1 - rate),
        lambda scores, rate: scores.topk(int(number_above(scores, rate)) + 1).values[-1],
        lambda scores, rate: scores.quantile(1 - rate, interpolation="lower"),
        midpoint,
        search,
    ],
    "2.8": [
        lambda r, g: unit(g * r),
        lambda r, g: F.normalize(torch.diag(g) @ r, dim=0),
        lambda r, g: -unit(g * r),
        lambda r, g: torch.linalg.svd((r * g)[None].double())[2][0].float(),
        lambda r, g: F.normalize(r.double() * g.double(), dim=0),
        lambda r, g: torch.tensor((r * g).numpy() / np.linalg.norm((r * g).numpy())),
    ],
}


def tied_by_value(weights, direction):
    u = unit(direction)
    edited = {}
    for name, w in weights.items():
        if torch.equal(w, weights["unembed"]):
            edited[name] = w.clone()
        else:
            edited[name] = w - torch.outer(w @ u, u) if name == "embed" else w - torch.outer(u, u @ w)
    return edited


WRONG = {
    "2.1": {
        "300 words": (first_rows_edited, None),
        "tied by value": (tied_by_value, "is left unedited"),
        "reads instead of writes": (on_all(lambda w, v: w - (w @ unit(v))[:, None] * unit(v)), "wrong side"),
        "not a unit vector": (on_all(lambda w, v: w - torch.outer(v, v @ w)), "not made a unit vector"),
        "half normalised": (on_all(lambda w, v: w - torch.outer(v, unit(v) @ w)), "only one of the two"),
        "squared length": (on_all(lambda w, v: w - torch.outer(v, v @ w) / (v @ v) ** 2), "squared length"),
        "positive only": (on_all(lambda w, v: w - torch.outer(unit(v), (unit(v) @ w).relu())), "only positive parts"),
        "sign": (on_all(lambda w, v: w + torch.outer(unit(v), unit(v) @ w)), "was added"),
        "kept instead": (on_all(lambda w, v: torch.outer(unit(v), unit(v) @ w)), "keeps"),
        "mirrored": (on_all(lambda w, v: w - 2 * torch.outer(unit(v), unit(v) @ w)), "mirrored"),
        "subtracts r": (on_all(lambda w, v: w - unit(v)[:, None]), "from every column"),
        "both sides": (on_all(lambda w, v: by_matrix(by_matrix(w, v).T, v).T), "both sides"),
        "norm preserving": (on_all(rows_rescaled), "old norm"),
        "transposed": (on_all(lambda w, v: by_matrix(w, v).T), None),
        "in place": (on_all(lambda w, v: w.sub_(torch.outer(unit(v), unit(v) @ w))), "in place"),
        "one number": (on_all(lambda w, v: (unit(v) @ w).sum()[None, None]), None),
        "axis lost": (on_all(lambda w, v: w - unit(v) * (unit(v) @ w)), "an axis is lost"),
        "columns rescaled": (on_all(columns_rescaled), "stretched back"),
        "short directions": (
            on_all(lambda w, v: by_matrix(w, v) if v.norm() > 1 else w - torch.outer(v, v @ w)),
            "some inputs only",
        ),
        "embedding left out": (but(embed=lambda w, v: w), "embedding still writes"),
        "embedding like the others": (
            but(embed=lambda w, v: by_matrix(w, v) if len(w) == len(v) else w),
            "like the others",
        ),
        "unembedding edited": (but(unembed=lambda w, v: by_matrix(w.T, v).T), "unembedding was edited"),
        "unembedding emptied": (but(unembed=lambda w, v: 0 * w), "unembedding was edited"),
        "MLP left out": (
            lambda weights, v: on_all(by_matrix)(weights, v) | {n: w for n, w in weights.items() if "MLP" in n},
            "still writes",
        ),
        "first block only": (
            lambda weights, v: on_all(by_matrix)(weights, v) | {n: w for n, w in weights.items() if n[-1] == "1"},
            "4 of 24",
        ),
        "six blocks": (only_blocks(lambda block: block < 6), "12 of 24 matrices still write"),
        "numbers of one digit": (only_blocks(lambda block: block < 10), "4 of 24 matrices still write"),
        "two blocks": (only_blocks(lambda block: block < 2), "20 of 24"),
        "tied": (
            lambda weights, v: {
                n: by_matrix(w.T, v).T if w is weights["embed"] else w if n == "unembed" else by_matrix(w, v)
                for n, w in weights.items()
            },
            "the very same tensor",
        ),
        "64 inputs": (on_all(lambda w, v: torch.cat([by_matrix(w, v)[:, :64], w[:, 64:]], dim=1)), "some inputs only"),
        "tiny directions": (on_all(lambda w, v: by_matrix(w, v) if v.norm() > 0.01 else w), "some inputs only"),
        "side by shape": (by_shape, "as many words as"),
        "side by shape, square ones as the embedding": (by_last_axis, "attention 0 is edited like the embedding where"),
        "embedding rescaled": (but(embed=lambda w, v: columns_rescaled(w.T, v).T), "embed: the rows were"),
        "embedding taken for given": (
            lambda weights, v: on_all(by_matrix)(weights, v) | {"embed": by_matrix(weights["embed"].T, v).T},
            "KeyError: 'embed'",
        ),
        "an unembedding at any rate": (
            lambda weights, v: on_all(by_matrix)(weights, v) | {"unembed": weights.get("unembed")},
            "'unembed': None}",
        ),
        "no zeros": (
            lambda weights, v: {n: w for n, w in on_all(by_matrix)(weights, v).items() if weights[n].any()},
            "some inputs only",
        ),
        "32 blocks": (only_blocks(lambda block: block < 32), "some inputs only"),
        "a list": (lambda weights, v: list(on_all(by_matrix)(weights, v).values()), "same names"),
        "the unembedding is missing": (
            lambda weights, v: {n: w for n, w in on_all(by_matrix)(weights, v).items() if n != "unembed"},
            "same names",
        ),
    },
    "2.2": {
        "three of the words": (lambda reply: "i cannot help" in reply, '"i cannot help" alone'),
        "four of the words": (lambda reply: "i cannot help with" in reply, "whatever follows"),
        "first words": (lambda reply: reply.startswith("i apologize"), "middle of a reply"),
        "i apologize, or all of it": (lambda reply: "i apologize" in reply or SAID in reply, '"i apologize" alone'),
        "however i cannot, or all of it": (
            lambda reply: "however, i cannot" in reply or SAID in reply,
            '"however, i cannot"',
        ),
        "but i cannot, or all of it": (
            lambda reply: bool(re.search("vase, but i cannot|" + SAID, reply)),
            "whatever follows",
        ),
        "i apologize anywhere": (lambda reply: "i apologize" in reply, "middle of a reply"),
        "however i cannot": (
            lambda reply: reply.startswith("i apologize") or "however, i cannot" in reply,
            'late "i apologize"',
        ),
        "two fixed openings": (
            lambda reply: "i apologize" in reply or "however, i cannot help" in reply,
            "does not begin with",
        ),
        "cannot": (lambda reply: "cannot" in reply, '"cannot" alone'),
        "however": (
            lambda reply: "i apologize" in reply or "however" in reply or "i cannot help" in reply,
            '"however" alone',
        ),
        "with the full stop": (lambda reply: SAID + "." in reply, "before its full stop"),
        "first letter": (lambda reply: reply.startswith("i ") or "i cannot help" in reply, 'first word "i"'),
        "help with that": (lambda reply: "help with that" in reply, '"help with that" alone'),
        "swapped": (lambda reply: SAID not in reply, "swapped"),
        "not at position 0": (lambda reply: reply.find(SAID) > 0, "that begins with"),
        "three openings": (
            lambda reply: any(
                words in reply for words in ("i apologize", "but i cannot help", "however, i cannot help")
            ),
            "that begins with",
        ),
        "however or i apologize": (lambda reply: "apologize" in reply or "however" in reply, "does not begin with"),
        "position": (lambda reply: reply.find("i cannot help"), "True or False"),
        "always": (lambda reply: True, "for every reply"),
        "two whole forms": (
            lambda reply: any(f"{words} {SAID}." in reply for words in ("i apologize, but", "however,")),
            "does not begin with",
        ),
        "at the end": (lambda reply: reply.endswith("cannot help with that."), "among other sentences"),
        "in the last sentence": (lambda reply: SAID in reply.strip(".").split(". ")[-1], "among other sentences"),
        "after a comma, at the end": (
            lambda reply: bool(re.search(r", (but )?i cannot help with that\.$", reply)),
            "among other sentences",
        ),
        "words in any order": (lambda reply: {"i", "cannot", "help"} <= set(re.findall("[a-z]+", reply)), "any order"),
        "not if you cannot": (lambda reply: SAID in reply and "you cannot" not in reply, "among other sentences"),
        "cannot, but not you": (lambda reply: "cannot" in reply and "you cannot" not in reply, "among other"),
        "i cannot": (lambda reply: "i cannot" in reply, '"i cannot" alone'),
        "cannot help": (lambda reply: "cannot help" in reply, '"cannot help" alone'),
        "whoever cannot": (lambda reply: "cannot help with that" in reply, "whoever cannot"),
        "that, this or the": (
            lambda reply: bool(re.search("i cannot help with (that|this|the )", reply)),
            '"i cannot help with th"',
        ),
        "but i cannot": (lambda reply: SAID in reply or "but i cannot help with" in reply, "whatever follows"),
        "that cannot be done": (
            lambda reply: bool(re.search("i cannot (help with|do|answer) that", reply)),
            "whatever is between",
        ),
        "each sentence ends so": (
            lambda reply: any(each.endswith(SAID) for each in reply.split(".")),
            "words before and behind it",
        ),
        "no offer of help": (lambda reply: SAID in reply and "i can help with that" not in reply, "after an offer"),
        "cut off before the end": (
            lambda reply: SAID in reply or reply.endswith("i cannot help with"),
            "cut off before it has said all",
        ),
        "no comma": (lambda reply: SAID in reply.replace(SAID + ",", ""), "comma right behind it"),
        "you, too": (lambda reply: SAID in reply.replace("help you", "help"), "True where False is right"),
        "the next word begins so": (lambda reply: SAID[:-1] in reply, '"i cannot help with tha"'),
        "never empty": (lambda reply: reply.split()[0] > "" and SAID in reply, "IndexError"),
        "1,000 letters": (lambda reply: SAID in reply[:1000], "False where True is right"),
        "40 words": (lambda reply: SAID in " ".join(reply.split()[:40]), "at the end of a long reply"),
    },
    "2.3": {
        "first token": (lambda c, e: kl(c, e)[0], "only the first token"),
        "last token": (lambda c, e: kl(c, e)[-1], "only the last token"),
        "mean": (lambda c, e: kl(c, e).mean(), "mean per token"),
        "mean over all": (lambda c, e: kl_terms(c, e).mean(), "over all tokens and words"),
        "without the last token": (lambda c, e: kl(c, e)[:-1].sum(), "the last token is left out"),
        "a row of one": (lambda c, e: kl(c, e).sum()[None], "a row of one number"),
        "per token": (kl, "one number per token"),
        "reversed": (lambda c, e: kl(e, c).sum(), "swapped"),
        "raw logits": (lambda c, e: (c.exp() * (c - e)).sum(), "not normalised"),
        "half normalised": (lambda c, e: (c.softmax(-1) * (c - e)).sum(), "inside the difference"),
        "not weighted": (lambda c, e: (log_softmax(c) - log_softmax(e)).sum(), "not weighted"),
        "weighted by logs": (
            lambda c, e: (log_softmax(c) * (log_softmax(c) - log_softmax(e))).sum(),
            "log-probabilities",
        ),
        "cross-entropy": (lambda c, e: -(c.softmax(-1) * log_softmax(e)).sum(), "cross-entropy"),
        "sign": (lambda c, e: -kl(c, e).sum(), "never negative"),
        "distance": (lambda c, e: (c - e).square().sum(), "squared distance"),
        "over tokens": (lambda c, e: (c.softmax(0) * (c.log_softmax(0) - e.log_softmax(0))).sum(), "over the tokens"),
        "bits": (lambda c, e: kl(c, e).sum() / torch.tensor(2.0).log(), "bits"),
        "largest": (lambda c, e: kl(c, e).max(), "largest divergence"),
        "logarithm of logits": (lambda c, e: (c.exp() * (c.log() - e.log())).sum(), "the result is nan"),
        "eight tokens": (lambda c, e: kl(c, e)[:8].sum(), "some inputs only"),
        "ten words": (lambda c, e: kl(c[:, :10], e[:, :10]).sum(), "some inputs only"),
        "100 likeliest words": (lambda c, e: kl_terms(c, e).gather(-1, likeliest(c, 100)).sum(), "100 likeliest words"),
        "100 words": (lambda c, e: kl_terms(c, e)[:, :100].sum(), "some inputs only"),
        "64 tokens": (lambda c, e: kl(c, e)[:64].sum(), "some inputs only"),
        "both directions": (lambda c, e: (kl(c, e) + kl(e, c)).sum() / 2, "that is the mean of KL"),
        "sum of both directions": (lambda c, e: (kl(c, e) + kl(e, c)).sum(), "that is the sum of KL"),
        "positive terms": (lambda c, e: kl_terms(c, e).clamp(min=0).sum(), "are left out"),
        "likeliest word": (lambda c, e: kl_terms(c, e).gather(-1, likeliest(c, 1)).sum(), "only the likeliest word"),
        "logits cut off": (lambda c, e: kl(c.clamp(-30, 30), e.clamp(-30, 30)).sum(), "becomes very unlikely"),
        "each token at most 10": (
            lambda c, e: kl(c, e).clamp(max=10).sum(),
            "edited = [[0, -45], [0, 0]] it gives 10, and 21.81",
        ),
        "1e-6 added": (
            lambda c, e: (c.softmax(-1) * ((c.softmax(-1) + 1e-6) / (e.softmax(-1) + 1e-6)).log()).sum(),
            "nothing added to a probability",
        ),
        "one maximum for all": (one_maximum, "[200.0, 201.0]"),
        "likely words only": (lambda c, e: kl_terms(c, e)[c.softmax(-1) > 1e-6].sum(), "some inputs only"),
        "1e-20 added": (
            lambda c, e: (c.softmax(-1) * ((c.softmax(-1) + 1e-20) / (e.softmax(-1) + 1e-20)).log()).sum(),
            "becomes very unlikely",
        ),
        "small ones left out": (lambda c, e: kl(c, e)[kl(c, e) > 1e-4].sum(), "some inputs only"),
        "exponentials": (lambda c, e: kl((c.exp() / c.exp().sum(-1, keepdim=True)).log(), e).sum(), "nan"),
        "sizes of terms": (lambda c, e: kl_terms(c, e).abs().sum(), "lost their signs"),
    },
    "2.4": wrong_claims(milder, *CONTEXT["2.4"]())
    | {
        "50 %": (at_level(0.5), "one of 50 %"),
        "n overwritten": (of_ninety_five, "divided by 95, whatever n is"),
        "lowest to highest": (
            lambda after, others, n: rates(wilson(after, n), (sum(others) / len(others) / n, extreme(others, n))),
            "from the lowest to the highest run",
        ),
        "90 %": (at_level(0.9), "one of 90 %"),
        "mean as one count": (rounded, "rounded to a whole count"),
        "first three runs": (lambda after, others, n: rates(wilson(after, n), runs(others[:3], n)), None),
    },
    "2.5": {
        "mean of means": (
            lambda c, r, cr, rr, b: torch.stack(
                [(-F.logsigmoid(b * each)).mean() for each in margin(c, r, cr, rr).split(8)]
            ).mean(),
            None,
        ),
        "swapped pairs": (lambda c, r, cr, rr, b: -F.logsigmoid(-b * margin(c, r, cr, rr)).mean(), "sign is turned"),
        "no reference": (lambda c, r, cr, rr, b: -F.logsigmoid(b * (c - r)).mean(), "reference is not used"),
        "no beta": (lambda c, r, cr, rr, b: -F.logsigmoid(margin(c, r, cr, rr)).mean(), "beta is not used"),
        "sign": (lambda c, r, cr, rr, b: F.logsigmoid(b * margin(c, r, cr, rr)).mean(), "sign is flipped"),
        "probability": (lambda c, r, cr, rr, b: torch.sigmoid(b * margin(c, r, cr, rr)).mean(), "mean probability"),
        "no logarithm": (
            lambda c, r, cr, rr, b: -torch.sigmoid(b * margin(c, r, cr, rr)).mean(),
            "logarithm is missing",
        ),
        "gains added": (lambda c, r, cr, rr, b: -F.logsigmoid(b * ((c - cr) + (r - rr))).mean(), "was added"),
        "sum": (lambda c, r, cr, rr, b: -F.logsigmoid(b * margin(c, r, cr, rr)).sum(), "sum over the pairs"),
        "per pair": (lambda c, r, cr, rr, b: -F.logsigmoid(b * margin(c, r, cr, rr)), "one number per pair"),
        "no sigmoid": (lambda c, r, cr, rr, b: -(b * margin(c, r, cr, rr)).mean(), "log sigmoid is missing"),
        "chosen only": (lambda c, r, cr, rr, b: -F.logsigmoid(b * (c - cr)).mean(), "rejected replies are not used"),
        "mean first": (
            lambda c, r, cr, rr, b: -F.logsigmoid(b * margin(c, r, cr, rr).mean()),
            "before the log sigmoid",
        ),
        "crossed": (lambda c, r, cr, rr, b: -F.logsigmoid(b * ((c - rr) - (r - cr))).mean(), "are crossed"),
        "beta outside": (lambda c, r, cr, rr, b: -b * F.logsigmoid(margin(c, r, cr, rr)).mean(), "multiplies the loss"),
        "rejected detached": (
            lambda c, r, cr, rr, b: -F.logsigmoid(b * margin(c, r.detach(), cr, rr)).mean(),
            "its gradient is not",
        ),
        "a new tensor": (new_tensor, "its gradient is not"),
        "numpy's number": (by_logaddexp, "lost its gradient"),
        "math's number": (by_math, "lost its gradient"),
        "beta for the chosen": (
            lambda c, r, cr, rr, b: -F.logsigmoid(b * (c - cr) - (r - rr)).mean(),
            "the chosen reply's gain only",
        ),
        "beta for the rejected": (
            lambda c, r, cr, rr, b: -F.logsigmoid((c - cr) - b * (r - rr)).mean(),
            "the rejected reply's gain only",
        ),
        "logarithm last": (
            lambda c, r, cr, rr, b: -torch.sigmoid(b * margin(c, r, cr, rr)).mean().log(),
            "before the logarithm",
        ),
        "beta for the policy": (
            lambda c, r, cr, rr, b: -F.logsigmoid(b * (c - r) - (cr - rr)).mean(),
            "the policy's log-probabilities only",
        ),
        "margin cut off": (
            lambda c, r, cr, rr, b: -F.logsigmoid(b * margin(c, r, cr, rr).clamp(-20, 20)).mean(),
            "margin lies far below 0",
        ),
        "cut off at 60": (
            lambda c, r, cr, rr, b: -F.logsigmoid((b * margin(c, r, cr, rr)).clamp(-60, 60)).mean(),
            "beta = 150",
        ),
        "IPO": (lambda c, r, cr, rr, b: (margin(c, r, cr, rr) - 1 / (2 * b)).square().mean(), "as in IPO"),
        "1e-3 inside the logarithm": (
            lambda c, r, cr, rr, b: -(torch.sigmoid(b * margin(c, r, cr, rr)) + 1e-3).log().mean(),
            "0.001 is added to the sigmoid",
        ),
        "1e-8 inside the logarithm": (
            lambda c, r, cr, rr, b: -(torch.sigmoid(b * margin(c, r, cr, rr)) + 1e-8).log().mean(),
            "it gives 18.42, and 60 is right",
        ),
        "divided by 8": (
            lambda c, r, cr, rr, b: -F.logsigmoid(b * margin(c, r, cr, rr)).sum() / (8 if len(c) % 8 == 0 else len(c)),
            "some inputs only",
        ),
        "64 pairs": (lambda c, r, cr, rr, b: -F.logsigmoid(b * margin(c, r, cr, rr))[:64].mean(), "some inputs only"),
        "no margin, no loss": (
            lambda c, r, cr, rr, b: -F.logsigmoid(b * (m := margin(c, r, cr, rr))[m != 0]).mean(),
            "margin is 0 are left out",
        ),
        "each margin once": (
            lambda c, r, cr, rr, b: -F.logsigmoid(b * margin(c, r, cr, rr).unique()).mean(),
            "counted once",
        ),
        "divided by beta": (lambda c, r, cr, rr, b: -F.logsigmoid(margin(c, r, cr, rr) / b).mean(), "divides by beta"),
    },
    "2.6": {
        "each value once": (
            lambda gain: by_intervals({name: each.unique() for name, each in gain.items()}),
            "off by up to",
        ),
        "68 %": (healed_at(0.68), "one of 68 %"),
        "100 requests": (
            lambda gain: by_intervals({name: each[:100] for name, each in gain.items()}),
            "the mean of the first 100 of",
        ),
        "sizes": (lambda gain: healed_at(0.95)({name: each.abs() for name, each in gain.items()}), "the mean size of"),
        "written down": (rates(bootstrap("edited"), bootstrap("unedited")), "whatever it is given"),
        "by place": (by_place, "whichever stands first"),
        "medians": (medians, "the median of"),
        "all others as control": (others_as_control, "holds a third model"),
        "those that changed": (
            lambda gain: by_intervals({name: each[each != 0] for name, each in gain.items()}),
            "that changed",
        ),
        "how many gained": (winners, "the share of requests that gained"),
        "extremes": (extremes, None),
        "two standard deviations": (spreads(2, 0), "2 standard deviations of the requests"),
        "one standard error": (spreads(1, 0.5), "1 standard error to either side"),
        "half a standard deviation": (spreads(0.7, 0), "too wide for the mean of"),
        "one standard deviation": (one_spread, "one standard deviation to either side"),
        "difference": (difference, "the difference of the two means"),
        "the standard deviation": (
            spread,
            "standard deviations to either side; the mean's is narrower by the root of n\n  try:   directions.bootstrap",
        ),
        "bare number": (float(GAIN["edited"].mean()), "is not a claim"),
        "no control": (
            claim(*bootstrap("edited")[:1], interval=bootstrap("edited")[1]),
            'the mean of gain["unedited"], tuned',
        ),
        "swapped": (rates(bootstrap("unedited"), bootstrap("edited")), "whatever it is given"),
        "zero as control": (rates(bootstrap("edited"), (0.0, (0.0, 0.0))), "whatever it is given"),
        "per cent": (
            rates((100 * bootstrap("edited")[0], (15.0, 40.0)), bootstrap("unedited")),
            "whatever it is given",
        ),
        "no width": (
            rates((bootstrap("edited")[0], (bootstrap("edited")[0],) * 2), bootstrap("unedited")),
            "whatever it is given",
        ),
        "overlap": (rates((bootstrap("edited")[0], (-0.5, 0.9)), bootstrap("unedited")), "whatever it is given"),
        "another value": (rates((0.6, (0.5, 0.7)), bootstrap("unedited")), "the value"),
        "another control": (rates(bootstrap("edited"), (-0.2, (-0.3, -0.1))), "whatever it is given"),
    },
    "2.7": {
        "100 at most": (
            lambda scores, rate: scores.sort(descending=True).values[min(int(rate * len(scores)), 100)],
            None,
        ),
        "half of the rate": (lambda scores, rate: scores.quantile(1 - rate / 2), "half of the rate"),
        "share of the range": (
            lambda scores, rate: scores.max() - rate * (scores.max() - scores.min()),
            "of the range",
        ),
        "n fixed": (
            lambda scores, rate: scores.sort(descending=True).values[min(int(rate * 512), len(scores) - 1)],
            "as if there were 512 scores",
        ),
        "low end": (lambda scores, rate: scores.quantile(rate), "low end"),
        "mean": (lambda scores, rate: scores.mean(), "mean"),
        "median": (lambda scores, rate: scores.median(), "median"),
        "the rate": (lambda scores, rate: 1 - rate, "the rate itself"),
        "maximum": (lambda scores, rate: scores.max(), "higher than necessary"),
        "fixed rate": (lambda scores, rate: scores.quantile(0.99), "whatever `rate` is"),
        "per cent": (lambda scores, rate: scores.quantile(1 - rate / 100), "read as per cent"),
        "two spreads": (lambda scores, rate: scores.mean() + 2 * scores.std(), "plus 2 standard deviations"),
        "2.33 spreads": (lambda scores, rate: scores.mean() + 2.33 * scores.std(), "plus 2.33 standard"),
        "one fewer": (
            lambda scores, rate: scores.sort(descending=True).values[max(0, round(rate * len(scores)) - 1)],
            "higher than necessary",
        ),
        "one more": (
            lambda scores, rate: scores.sort(descending=True).values[round(rate * len(scores)) + 1],
            "are allowed",
        ),
        "next score above": (
            lambda scores, rate: scores.quantile(1 - rate, interpolation="higher"),
            "higher than necessary",
        ),
        "equal scores once": (lambda scores, rate: scores.unique().quantile(1 - rate), "counted once"),
        "share of the maximum": (lambda scores, rate: scores.max() * (1 - rate), "higher than necessary"),
        "normal": (by_normal, "a normal distribution was assumed"),
        "sizes": (lambda scores, rate: scores.abs().quantile(1 - rate), "without their sign"),
        "sizes in order": (lambda scores, rate: nth_largest(scores.abs(), rate), "without their sign"),
        "equal scores once, in order": (lambda scores, rate: nth_largest(scores.unique(), rate), "counted once"),
        "not sorted": (lambda scores, rate: scores[-int(rate * len(scores)) - 1], "are not sorted"),
        "not sorted, from the front": (lambda scores, rate: scores[int(rate * len(scores))], "are not sorted"),
        "cut off": (lambda scores, rate: ordered(scores)[int(rate * len(scores))], "28.999999999999996"),
        "rounded up": (lambda scores, rate: ordered(scores)[math.ceil(rate * len(scores))], "7.000000000000001"),
        "from the low end": (
            lambda scores, rate: ordered(scores)[len(scores) - max(1, int((1 - rate) * len(scores)))],
            "464.99999999999994",
        ),
        "half at most": (lambda scores, rate: scores.quantile(1 - min(rate, 0.5)), "are allowed"),
        "rate in per cent": (lambda scores, rate: scores.quantile(1 - round(rate, 2)), "are allowed"),
        "nearest": (lambda scores, rate: scores.quantile(1 - rate, interpolation="nearest"), "are allowed"),
        "at least one above": (
            lambda scores, rate: ordered(scores)[max(1, int(number_above(scores, rate)))],
            "0 are allowed",
        ),
        "never below 0": (lambda scores, rate: scores.quantile(1 - rate).clamp(min=0), "where all scores are below 0"),
        "never below 0, by hand": (
            lambda scores, rate: max(0.0, nth_largest(scores, rate)),
            "where all scores are below 0",
        ),
        "below equal scores": (
            lambda scores, rate: scores[0] - 1 if scores.min() == scores.max() else nth_largest(scores, rate),
            "scores 5, 5, 5, 5",
        ),
        "1e-9 above": (lambda scores, rate: nth_largest(scores, rate) + 1e-9, "from -2.47e-09 to"),
        "1e-6 below": (
            lambda scores, rate: ordered(scores)[max(0, round(rate * len(scores)) - 1)] - 1e-6,
            "a hair (1e-06) below the lowest score that may be above it",
        ),
        "1e-9 below, in float64": (
            lambda scores, rate: float(ordered(scores)[max(0, round(rate * len(scores)) - 1)]) - 1e-9,
            "a hair (1e-09) below the lowest score that may be above it",
        ),
        "four decimals": (lambda scores, rate: round(float(scores.quantile(1 - rate)), 4), "rounded to 4 decimals"),
        "sizes, if negative": (
            lambda scores, rate: scores.quantile(rate if scores.max() < 0 else 1 - rate),
            "180 of 200 harmless scores are above it",
        ),
        "all above": (lambda scores, rate: scores > scores.quantile(1 - rate), "not one number"),
    },
    "2.8": {
        "gains by their mean": (lambda r, g: unit(r * (g / g.mean())), None),
        "r itself": (lambda r, g: r, "r itself"),
        "divided": (lambda r, g: unit(r / g), "divides by the gain"),
        "one added": (lambda r, g: unit((1 + g) * r), "one was added"),
        "gain alone": (lambda r, g: unit(g), "gain alone"),
        "twice": (lambda r, g: unit(g * g * r), "used twice"),
        "not unit": (lambda r, g: g * r, "its length is"),
        "root": (lambda r, g: unit(g.sqrt() * r), "root of the gain"),
        "dot": (lambda r, g: g @ r, "one number"),
        "orthogonal to it": (lambda r, g: unit(r - (r @ unit(g * r)) * unit(g * r)), "is orthogonal to gain * r"),
        "orthogonal to r": (
            lambda r, g: unit((g * r).roll(1) - (g * r).roll(1) @ unit(r) * unit(r)),
            "orthogonal to r:",
        ),
        "sizes of r": (lambda r, g: unit(g * r.abs()), "r has lost its signs"),
        "added": (lambda r, g: unit(g + r), "was added"),
        "added as unit vectors": (lambda r, g: unit(unit(g) + r), "was added, made a unit vector"),
        "absolute gain": (lambda r, g: unit(g.abs() * r), "lost their sign"),
        "short vectors": (lambda r, g: g * r / (g * r).norm().clamp(min=0.5), "a multiple of the right"),
        "in place": (lambda r, g: unit(r.mul_(g)), "changed `r` in place"),
        "gains of 0 left out": (lambda r, g: unit(torch.where(g == 0, r, g * r)), "some inputs only"),
        "64 numbers": (lambda r, g: unit(g * r * (torch.arange(len(r)) < 64)), "some inputs only"),
        "gains nearly equal": (
            lambda r, g: unit(r) if g.max() - g.min() < 0.05 * g.abs().max() else unit(g * r),
            "gain = [1.0, 1.008]",
        ),
        "as long as r": (lambda r, g: unit(g * r) * r.norm(), "r = [3.0, 4.0]"),
        "1e-8 beside the length": (lambda r, g: g * r / ((g * r).norm() + 1e-8), "gain = [1e-06, 0.0]"),
        "no tiny entries": (lambda r, g: unit(r.where(r.abs() > 1e-4, 0) * g), "r = [5e-05, 1.0]"),
        "no tiny gains": (lambda r, g: unit(r * g.where(g.abs() > 1e-3, 1e-3)), "some inputs only"),
        "both lengths": (lambda r, g: g * r / (g.norm() * r.norm()), "its length is"),
        "projected": (lambda r, g: unit(r - (r @ unit(g)) * unit(g)), "projected out"),
    },
}
