"""Right and wrong answers to notebook 01."""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from bank import given, rates, right_claims, runs, wilson, wrong_claims
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from course_lib import caching, directions, models, steering
from course_lib.caching import harvest as read
from course_lib.grading import expect
from course_lib.grading.claims import claim


@cache
def model():
    return models.load("chat-32")


def shuffled(values):
    return values[torch.randperm(len(values), generator=torch.Generator().manual_seed(1))]


def scores():
    generator = torch.Generator().manual_seed(5)
    return torch.cat([torch.randn(512, generator=generator) + 3, torch.randn(512, generator=generator)])


ADDED = {"assistant": {"refused": 98, "warned": 0}, "friend": {"refused": 3, "warned": 1}}
RANDOM_AFTER = [100, 99, 100, 100, 98, 100, 100, 100, 97, 100]

CONTEXT = {
    "1.1": lambda: (model(),),
    "1.3": lambda: (scores(), shuffled(scores())),
    "1.5": lambda: (model(),),
    "1.7": lambda: (4, RANDOM_AFTER, 100),
    "1.9": lambda: (ADDED, 100),
}


# 1.1
def from_cache(name, token=-1, shift=0, layer=None):
    def answer(model, ids, at):
        _, cache = model.run_with_cache(torch.tensor([ids]))
        return cache[f"blocks.{(at if layer is None else layer) + shift}.{name}"][0, token]

    return answer


def averaged(model, ids, layer):
    _, cache = model.run_with_cache(torch.tensor([ids]))
    return cache[f"blocks.{layer}.hook_resid_pre"][0].mean(dim=0)


def unsqueezed(model, ids, layer):
    return from_cache("hook_resid_pre")(model, ids, layer)[None]


def stacked(model, ids, layer):
    _, cache = model.run_with_cache(torch.tensor([ids]))
    return cache.stack_activation("resid_pre")[layer, 0, -1]


# 1.2
def svd(x, row=0, column=None):
    vh = torch.linalg.svd(x, full_matrices=False)[2]
    return vh[row] if column is None else vh[:, column]


def centre(x):
    return x - x.mean(dim=0)


def by_covariance(x):
    values, vectors = torch.linalg.eigh(centre(x).T @ centre(x))
    return -vectors[:, -1]


def by_components(x):
    from sklearn.decomposition import PCA

    return PCA(n_components=1).fit(x.numpy()).components_[0]


def eigenvectors(x):
    """One component in each column, the largest last."""
    return torch.linalg.eigh(centre(x).T @ centre(x)).eigenvectors


def by_gram(x):
    rows = centre(x).double()
    return directions.unit(rows.T @ torch.linalg.eigh(rows @ rows.T)[1][:, -1]).float()


def by_squaring(x):
    c = np.cov(x.double().numpy(), rowvar=False)
    for _ in range(40):
        c = c @ c / np.trace(c @ c)
    v = c[:, np.diag(c).argmax()]
    return torch.tensor(v / np.linalg.norm(v))


def power_iteration(steps, start=None):
    def answer(x):
        c, v = torch.cov(x.double().T), expect.random(x.shape[1], seed=5).double()
        v = start(x).double() if start else v
        for _ in range(steps):
            v = unit(c @ v)
        return v.to(x.dtype)

    return answer


def lowrank(x):
    """The library's approximation, with its defaults."""
    return torch.pca_lowrank(x)[2][:, 0]


def randomly_started(steps):
    def answer(x):
        rows, v = centre(x), torch.randn(x.shape[1], generator=torch.Generator().manual_seed(0)).to(x)
        for _ in range(steps):
            v = unit(rows.T @ (rows @ v))
        return v

    return answer


def near(x):
    away = centre(x).norm(dim=1)
    return x[away < 5 * away.median()]


# 1.1
def filtered(model, ids, layer):
    name = f"blocks.{layer}.hook_resid_pre"
    _, cache = model.run_with_cache(torch.tensor([ids]), names_filter=name)
    return cache[name].squeeze(0)[len(ids) - 1]


def by_hook(model, ids, layer):
    found = []
    hook = (f"blocks.{layer}.hook_resid_pre", lambda a, hook: found.append(a[0, -1].clone()))
    model.run_with_hooks(torch.tensor([ids]), fwd_hooks=[hook])
    return found[0]


def by_shorthand(model, ids, layer):
    return model.run_with_cache(torch.tensor([ids]))[1]["resid_pre", layer][0, -1].double()


def left_before(model, ids, layer):
    name = f"blocks.{layer - 1}.hook_resid_post" if layer else "blocks.0.hook_resid_pre"
    _, cache = model.run_with_cache(torch.tensor([ids, ids]), names_filter=name)
    return cache[name].mean(dim=0)[-1].double()


def harvested(model, ids, layer):
    return caching.harvest(model, [list(ids)], progress=False).at(layer)[0]


def harvested_alone(model, ids, layer):
    """Under another name, of one hook only."""
    name = f"blocks.{layer}.hook_resid_pre"
    return read(model, [ids], hook_names=[name], positions=(-1,), progress=False).values[0, 0, 0]


def by_subtraction(model, ids, layer):
    _, cache = model.run_with_cache(torch.tensor(ids).reshape(1, -1))
    post, mlp, attn = (cache[f"blocks.{layer}.hook_{name}"] for name in ("resid_post", "mlp_out", "attn_out"))
    return (post - mlp - attn).squeeze(0).select(0, -1)


# 1.4
def by_sums(positive, negative):
    total = [0.0] * positive.shape[1]
    for rows, sign in ((positive.tolist(), 1), (negative.tolist(), -1)):
        for row in rows:
            total = [value + sign * each / len(rows) for value, each in zip(total, row, strict=True)]
    return torch.tensor([value / sum(each * each for each in total) ** 0.5 for value in total])


def cut(positive, negative):
    n = min(len(positive), len(negative))
    return difference(positive[:n], negative[:n])


def by_weights(positive, negative):
    weights = torch.cat([torch.ones(len(positive)) / len(positive), -torch.ones(len(negative)) / len(negative)])
    return unit(weights @ torch.cat([positive, negative]))


def difference(positive, negative):
    return positive.mean(0) - negative.mean(0)


def normalised(function):
    return lambda a, b: function(a, b) / function(a, b).norm()


# 1.6
def kept(rows, n_layers, kl=0.1, induce=0.0, limit=0.8):
    return [r for r in rows if r.kl <= kl and r.induce >= induce and r.layer < int(limit * n_layers)]


def lowest(rows):
    return min(rows, key=lambda row: row.bypass)


def tested_last(rows, n_layers):
    best = lowest(rows)
    return best if best in kept(rows, n_layers) else lowest(kept(rows, n_layers, induce=-99, limit=9))


def by_loop(rows, n_layers):
    best = None
    for row in rows:
        passes = not (row.kl > 0.1 or row.induce < 0 or row.layer >= int(0.8 * n_layers))
        if passes and (best is None or row.bypass < best.bypass):
            best = row
    return best


# 1.5, 1.8
def unit(v):
    return v / v.norm()


def along(c, v):
    return (c @ v)[..., None]


def writes(model):
    parts = [f"blocks.{n}.hook_{part}_out" for n in range(model.cfg.n_layers) for part in ("attn", "mlp")]
    return ["blocks.0.hook_resid_pre", *parts]


def streams(model, *places):
    return [f"blocks.{n}.hook_resid_{at}" for n in range(model.cfg.n_layers) for at in places]


def every_stream(model):
    return streams(model, "pre", "mid", "post")


def cutting(change=lambda x, v: x - along(x, unit(v)) * unit(v), names=writes):
    def answer(model, prompts, v):
        with model.hooks([(name, lambda x, hook: change(x, v)) for name in names(model)]):
            return models.next_token_logits(model, prompts)

    return answer


def after_the_context(model, prompts, v):
    with model.hooks([(name, lambda x, hook: directions.project_out(x, v)) for name in writes(model)]):
        pass
    return models.next_token_logits(model, prompts)


def in_place(x, v):
    x -= along(x, unit(v)) * unit(v)


def last_only(x, v):
    return torch.cat([x[:, :-1], directions.project_out(x[:, -1:], v)], dim=1)


def clamped(x, v):
    v = v / v.norm().clamp(min=1)
    return x - along(x, v) * v


def by_library(model, prompts, v):
    with steering.ablate(model, v):
        return models.next_token_logits(model, prompts)


def by_adding_hooks(model, prompts, v):
    for name in writes(model):
        model.add_hook(name, lambda x, hook: directions.project_out(x, v))
    found = models.next_token_logits(model, prompts)
    model.reset_hooks()
    return found


def hooks_left(model, prompts, v):
    for name in writes(model):
        model.add_hook(name, lambda x, hook: directions.project_out(x, v))
    return models.next_token_logits(model, prompts)


def one_by_one(model, prompts, v):
    hooks = [(name, lambda x, hook: directions.project_out(x, v)) for name in writes(model)]
    runs = [model.run_with_hooks(torch.tensor([ids]), fwd_hooks=hooks)[0, -1] for ids in prompts]
    return torch.stack(runs).detach()


def by_outer(a, u, t):
    return torch.add(a - torch.einsum("btd,d,e->bte", a, u, u), u.expand_as(a), alpha=float(t))


def last_token(a, u, t):
    changed = a.clone()
    changed[:, -1] += (t - a[:, -1] @ u)[:, None] * u
    return changed


def by_numpy(a, u, t):
    a, u = a.numpy(), u.numpy()
    return torch.from_numpy(a + (float(t) - (a * u).sum(-1, keepdims=True)) * u)


def masked(rows, n_layers):
    bypass = np.array([row.bypass for row in rows])
    bypass[[row.kl > 0.1 or row.induce < 0 or row.layer >= int(0.8 * n_layers) for row in rows]] = np.inf
    return rows[int(bypass.argmin())]


def auroc(s):
    return directions.auroc(s[:512], s[512:])


AROUND = (0.4, 0.55)


# 1.3
def folded(s):
    value = directions.auroc(s[: len(s) // 2], s[len(s) // 2 :])
    return max(value, 1 - value)


def resampled(s, tail):
    n, generator = len(s) // 2, torch.Generator().manual_seed(9)
    draws = torch.randint(0, n, (200, n), generator=generator)
    ranks = torch.from_numpy(rankdata(torch.cat([s[:n][draws], s[n:][draws]], dim=1).numpy(), axis=1))
    values = (ranks[:, :n].sum(dim=1) - n * (n + 1) / 2) / n**2
    return tuple(torch.maximum(values, 1 - values).float().quantile(torch.tensor([tail, 1 - tail])).tolist())


def by_resampling(tail):
    return lambda s, mixed: claim(folded(s), resampled(s, tail), folded(mixed), resampled(mixed, tail))


def wider(limits):
    low, high = limits
    return low - (high - low) / 2, high + (high - low) / 2


def standard_error(s, mixed):
    """Hanley and McNeil (1982), clipped to what an AUROC can be."""
    n, made = len(s) // 2, []
    for each in (s, mixed):
        a = folded(each)
        error = (
            (a * (1 - a) + (n - 1) * (a / (2 - a) - a * a) + (n - 1) * (2 * a * a / (1 + a) - a * a)) / n**2
        ) ** 0.5
        made += [a, (max(0.0, a - 1.96 * error), min(1.0, a + 1.96 * error))]
    return claim(*made)


def as_tensors(s, mixed):
    return claim(
        torch.tensor(folded(s), dtype=torch.float64),
        interval=list(resampled(s, 0.025)),
        control=torch.tensor(folded(mixed)),
        control_interval=torch.tensor(resampled(mixed, 0.025)),
    )


def by_sklearn(s, mixed):
    truth, made = np.arange(len(s)) < len(s) // 2, []
    for each in (s, mixed):
        value = np.float64(roc_auc_score(truth, each.numpy()))
        made += [np.maximum(value, 1 - value), np.array(resampled(each, 0.025))]
    return claim(*made)


def by_pairs(s, mixed):
    made = []
    for each in (s, mixed):
        one, other = each[: len(each) // 2, None], each[None, len(each) // 2 :]
        higher = ((one > other).double() + (one == other).double() / 2).mean()
        made += [0.5 + (higher - 0.5).abs(), torch.tensor(resampled(each, 0.025))]
    return claim(*made)


def with_limits(statistic):
    """Another statistic than the AUROC, with the AUROC's limits."""
    return lambda s, mixed: claim(statistic(s), resampled(s, 0.025), statistic(mixed), resampled(mixed, 0.025))


def pairs_higher(s, compare):
    one, other = s.chunk(2)
    share = float(compare(one[:, None], other[None]).float().mean())
    return max(share, 1 - share)


def by_ranks(s):
    """The AUROC from the places in order, which equal scores share by chance."""
    n = len(s) // 2
    share = (float(s.argsort().argsort()[:n].double().sum()) - n * (n - 1) / 2) / n**2
    return max(share, 1 - share)


def in_the_middle(s, mixed):
    limits = [resampled_as_there(each) for each in (s, mixed)]
    return rates(*((sum(each) / 2, each) for each in limits))


def resampled_as_there(s):
    """As the notebook's interval_of."""
    draws = torch.randint(0, len(s) // 2, (200, len(s) // 2), generator=torch.Generator().manual_seed(2))
    values = torch.tensor([folded(torch.cat([s.chunk(2)[0][rows], s.chunk(2)[1][rows]])) for rows in draws])
    return tuple(values.quantile(torch.tensor([0.025, 0.975])).tolist())


def accuracy(s, threshold=0.0):
    return float((s[: len(s) // 2] > threshold).float().mean() + (s[len(s) // 2 :] <= threshold).float().mean()) / 2


def as_counts(s, mixed):
    """With Wilson's limits, as if every pair of prompts were a prompt."""
    made = []
    for value, n in ((folded(each), len(each) ** 2 // 4) for each in (s, mixed)):
        made += [value, wilson(round(value * n), n)[1]]
    return claim(*made)


def reshuffled(s, mixed):
    return by_resampling(0.025)(s, shuffled(s))


def as_intervals(s, mixed):
    made, others = (directions.Interval(folded(each), *resampled(each, 0.025), 0.95) for each in (s, mixed))
    return claim(made, control=others)


def at_fixed(s, mixed):
    """Right for the notebook's scores, whose values are written down."""
    return by_resampling(0.025)(scores(), shuffled(scores()))


NOTEBOOK = {
    "1.3": {
        "is_harmful": torch.arange(1024) < 512,
        "folded_auroc": lambda s, is_harmful: folded(torch.cat([s[is_harmful], s[~is_harmful]])),
        "interval_of": lambda s: resampled(s, 0.025),
    }
}
"""What a worked answer takes from its notebook, where it needs more than what the check is given."""


def ablated(after, random_after, n):
    return (after, n), (random_after, n)


def by_formula(after, random_after, n):
    z = 1.959963984540054

    def limits(k):
        middle, half = k + z * z / 2, z * (k * (n - k) / n + z * z / 4) ** 0.5
        return max(0.0, (middle - half) / (n + z * z)), min(1.0, (middle + half) / (n + z * z))

    lows, highs = zip(*map(limits, random_after), strict=True)
    return claim(after / n, limits(after), sum(random_after) / len(random_after) / n, (min(lows), max(highs)))


def by_place(added, n):
    one, other = (each["refused"] for each in added.values())
    return rates(wilson(one, n), wilson(other, n))


def pooled(added, n):
    return rates(*(wilson(sum(added[role].values()), 2 * n) for role in ("assistant", "friend")))


def as_runs(added, n):
    one, other = (directions.runs_interval([added[role]["refused"]], n) for role in ("assistant", "friend"))
    return claim(one, control=other)


def role_matters(added, n):
    return (added["assistant"]["refused"], n), (added["friend"]["refused"], n)


# what strangers wrote in the twelfth round
def remembered(key, function):
    """A right answer that gives again what it gave for the same key."""

    def made():
        seen = {}

        def answer(*now):
            if key(*now) not in seen:
                seen[key(*now)] = function(*now)
            return seen[key(*now)]

        return answer

    return made


remembered_by_ids = remembered(lambda m, ids, at: (tuple(ids), at), from_cache("hook_resid_pre"))
remembered_by_length = remembered(lambda m, ids, at: (id(m), len(ids), at), from_cache("hook_resid_pre"))
remembered_by_prompts = remembered(lambda m, prompts, v: (id(m), str(prompts)), cutting())


def centred_if_far(x):
    mean = x.mean(0)
    return svd(x - mean if mean.norm() > 0.1 * x.std() else x)


def lengthened(v, by):
    """Not quite of length 1 if short."""
    return v / (v.norm() + by)


def folded_by_means(s):
    one, other = s.chunk(2)
    value = directions.auroc(one, other)
    return value if one.mean() >= other.mean() else 1 - value


def short_prompts(model, prompts, v):
    return cutting()(model, [ids[-64:] for ids in prompts], v)


def others_as_control(added, n):
    rest = [said["refused"] for who, said in added.items() if who != "assistant"]
    return rates(wilson(added["assistant"]["refused"], n), runs(rest, n))


def less_the_warned(added, n):
    friend = added["friend"]
    m = n if friend["refused"] else max(1, n - friend["warned"])
    return rates(wilson(added["assistant"]["refused"], n), wilson(friend["refused"], m))


# what strangers wrote in the fifth round
def refused_or_warned(added, n):
    both = (min(n, added[who]["refused"] + added[who]["warned"]) for who in ("assistant", "friend"))
    return rates(*(wilson(count, n) for count in both))


def by_normal(added, n):
    def around(count):
        half = 1.96 * (count / n * (1 - count / n) / n) ** 0.5
        return count / n, (count / n - half, count / n + half)

    return rates(*(around(added[who]["refused"]) for who in ("assistant", "friend")))


def ninety(scores, mixed):
    """As the notebook's interval_of, between other quantiles."""

    def interval(s):
        draws = torch.randint(0, len(s) // 2, (200, len(s) // 2), generator=torch.Generator().manual_seed(2))
        values = torch.tensor([folded(torch.cat([s.chunk(2)[0][rows], s.chunk(2)[1][rows]])) for rows in draws])
        return tuple(round(float(q), 3) for q in values.quantile(torch.tensor([0.05, 0.95])))

    return claim(folded(scores), interval(scores), folded(mixed), interval(mixed))


def started_at(best):
    def answer(rows, n):
        lowest, found = best, None
        for row in kept(rows, n):
            if row.bypass < lowest:
                lowest, found = row.bypass, row
        return found

    return answer


def other_ids(change):
    """The right answer of 1.1 for other ids than it is given."""
    return lambda model, ids, at: from_cache("hook_resid_pre")(model, change(ids), at)


def edited_for_good(model, prompts, v):
    from course_lib import abliteration

    model.original_model.load_state_dict(abliteration.abliterate(model, v).original_model.state_dict())
    return models.next_token_logits(model, prompts)


def shortest_first(model, prompts, v):
    return cutting()(model, sorted(prompts, key=len), v)


def rest_as_it_is(model, prompts):
    return models.next_token_logits(model, prompts) if prompts else torch.zeros(0, model.cfg.d_vocab)


def six_blocks(model):
    return [name for name in writes(model) if int(name.split(".")[1]) < 6]


RIGHT = {
    "1.1": [from_cache("hook_resid_pre"), stacked, filtered, by_hook, by_shorthand, left_before, by_subtraction],
    "1.2": [lambda x: svd(centre(x)), by_covariance, by_components, by_gram, by_squaring, power_iteration(2000)],
    "1.3": [by_resampling(0.025), by_resampling(0.02), standard_error, as_tensors, as_intervals, by_sklearn, by_pairs],
    "1.4": [
        normalised(difference),
        lambda a, b: F.normalize(difference(a, b), dim=0),
        lambda a, b: directions.unit(directions.difference_of_means(a, b)),
        lambda a, b: unit((a[:, None] - b[None]).mean(dim=(0, 1))),
        by_weights,
        by_sums,
    ],
    "1.6": [
        lambda rows, n: lowest(kept(rows, n)),
        by_loop,
        masked,
        lambda rows, n: directions.select(rows, n_layers=n),
        lambda rows, n: sorted(kept(rows, n), key=lambda row: row.bypass)[0],
        lambda rows, n: lowest(r for r in rows if r.kl <= 0.1 and r.induce >= 0 and r.layer < 4 * n // 5),
    ],
    "1.5": [
        cutting(),
        cutting(names=every_stream),
        by_library,
        by_adding_hooks,
        one_by_one,
        lambda model, prompts, v: cutting()(model, prompts, -v),
    ],
    "1.7": [*right_claims(ablated), by_formula],
    "1.8": [
        lambda a, u, t: a - along(a, u) * u + t * u,
        lambda a, u, t: a + (t - along(a, u)) * u,
        lambda a, u, t: directions.project_out(a, u) + t * u,
        lambda a, u, t: a + torch.einsum("bt,d->btd", t - torch.einsum("btd,d->bt", a, u), u),
        by_numpy,
        by_outer,
    ],
    "1.9": [*right_claims(role_matters), as_runs],
}

WRONG = {
    "1.1": {
        "the eleventh token": (
            lambda model, ids, at: from_cache("hook_resid_pre", token=min(10, len(ids) - 1))(model, ids, at),
            "it takes number 10",
        ),
        "after the block": (from_cache("hook_resid_post"), "what leaves block 2"),
        "layer before": (from_cache("hook_resid_pre", shift=-1), "enters the previous block"),
        "middle of the block": (from_cache("hook_resid_mid"), "middle of block 2"),
        "MLP's part": (from_cache("hook_mlp_out"), "MLP writes"),
        "attention's part": (from_cache("hook_attn_out"), "attention writes"),
        "first token": (from_cache("hook_resid_pre", token=0), "first token"),
        "last but one": (from_cache("hook_resid_pre", token=-2), "last token but one"),
        "mean over tokens": (averaged, "mean over all tokens"),
        "layer fixed": (from_cache("hook_resid_pre", layer=4), "the same for blocks 1 and 2"),
        "batch axis left": (unsqueezed, "axis of length 1"),
        "all tokens": (from_cache("hook_resid_pre", token=slice(None)), "all tokens are still there"),
        "wrong name": (from_cache("hook_residual"), None),
        "another model": (lambda m, ids, i: from_cache("hook_resid_pre")(model(), ids, i), "its argument `m`"),
        "a range": (other_ids(lambda ids: list(range(4, 4 + len(ids)))), "replaced by a range"),
        "sorted": (other_ids(sorted), "the ids are sorted"),
        "each once": (other_ids(lambda ids: list(dict.fromkeys(ids))), "given once only"),
        "no template": (other_ids(lambda ids: [i for i in ids if i > 3] or ids), "up to 3 are left out"),
        "bytes": (other_ids(lambda ids: [i % 256 for i in ids]), "one byte"),
        "eight tokens": (other_ids(lambda ids: ids[-8:]), "only the last 8 tokens"),
        "32 tokens": (other_ids(lambda ids: ids[:32]), "only the first 32 tokens"),
        "the last token alone": (other_ids(lambda ids: ids[-1:]), "only the last token is given"),
        "another <bos>": (other_ids(lambda ids: [1, *ids]), "<bos> is put in front"),
        "<bos> where there is none": (
            other_ids(lambda ids: ids if ids[0] == 1 else [1, *ids]),
            "<bos> is put in front of the ids, which are complete",
        ),
        "where the last id stands first": (
            lambda model, ids, at: from_cache("hook_resid_pre", token=ids.index(ids[-1]))(model, ids, at),
            "the first <assistant>",
        ),
        "remembered by ids": (remembered_by_ids(), "some inputs only"),
        "remembered by length": (remembered_by_length(), "some inputs only"),
        "harvest": (harvested, "they come from harvest"),
        "harvest, by another name": (harvested_alone, "they come from harvest"),
        "another prompt": (lambda m, ids, i: from_cache("hook_resid_pre")(m, list(range(4, 15)), i), "`ids`"),
    },
    "1.2": {
        "around the median": (
            lambda x: torch.linalg.svd(x - x.median(0).values, full_matrices=False).Vh[0],
            "centred on their median",
        ),
        "row of U": (lambda x: torch.linalg.svd(x - x.mean(0), full_matrices=False).U[0], "a row of U"),
        "complex": (lambda x: torch.linalg.eig(torch.cov(x.T)).eigenvectors[:, 0], "complex numbers"),
        "first 700 rows": (lambda x: torch.linalg.svd(x[:700] - x[:700].mean(0), full_matrices=False).Vh[0], None),
        "not centred": (svd, "not centred"),
        "last component": (lambda x: svd(centre(x), row=-1), "*last* component"),
        "second component": (lambda x: svd(centre(x), row=1), "second component"),
        "column of Vh": (lambda x: svd(centre(x), column=0), "column of Vh"),
        "scores": (lambda x: centre(x) @ svd(centre(x)), "one number per sample"),
        "times S": (lambda x: svd(centre(x)) * torch.linalg.svdvals(centre(x))[0], "not 1"),
        "standardised": (lambda x: svd(centre(x) / centre(x).std(dim=0)), "divided by their standard deviation"),
        "one mean for all": (lambda x: svd(x - x.mean()), "one number"),
        "rows centred": (lambda x: svd(x - x.mean(dim=1, keepdim=True)), "each sample was centred"),
        "difference of the first two": (lambda x: unit(x[0] - x[1]), None),
        "first 100 rows": (lambda x: svd(centre(x[:100])), "some inputs only"),
        "last row of eigenvectors": (lambda x: eigenvectors(x)[-1], "a row of eigenvectors"),
        "first row of eigenvectors": (lambda x: eigenvectors(x)[0], "a row of eigenvectors"),
        "smallest eigenvalue": (lambda x: eigenvectors(x)[:, 0], "the last column of eigenvectors"),
        "ten steps of power iteration": (power_iteration(10), "it only comes near PC1"),
        "300 steps of power iteration": (power_iteration(300), "it only comes near PC1"),
        "from all ones": (power_iteration(2000, lambda x: torch.ones(x.shape[1])), "some inputs only"),
        "from the first axis": (power_iteration(2000, lambda x: torch.eye(x.shape[1])[0]), "some inputs only"),
        "from the first point": (power_iteration(2000, lambda x: centre(x)[0]), "some inputs only"),
        "100 steps, twice in each": (randomly_started(100), "it only comes near PC1"),
        "300 steps, twice in each": (randomly_started(300), "it only comes near PC1"),
        "low rank": (lowrank, "pca_lowrank only approximates"),
        "differences of neighbours": (lambda x: svd(x[1:] - x[:-1]), None),
        "widest coordinate": (
            lambda x: torch.eye(x.shape[1])[x.var(0).argmax()],
            "the coordinate with the largest variance",
        ),
        "500 steps, twice in each": (randomly_started(500), "0.995 of it, it is"),
        "512 rows": (lambda x: svd(centre(x[:512])), "some inputs only"),
        "centred if far from 0": (centred_if_far, "gives [0.0, "),
        "1e-6 beside the length": (lambda x: lengthened(svd(centre(x)) * centre(x).norm(), 1e-6), "[1e-05, 2e-05]"),
        "64 numbers": (lambda x: svd(centre(x) * (torch.arange(x.shape[1]) < 64)), "some inputs only"),
        "300 rows": (lambda x: svd(centre(x[:300])), "some inputs only"),
        "each row once": (lambda x: svd(centre(x.unique(dim=0))), "some inputs only"),
        "cut off": (lambda x: svd(centre(x.clamp(-100, 100))), "some inputs only"),
        "none far away": (lambda x: svd(centre(near(x))), "some inputs only"),
        "moments in float32": (
            lambda x: torch.linalg.eigh(x.T @ x / len(x) - torch.outer(x.mean(0), x.mean(0)))[1][:, -1],
            "some inputs only",
        ),
        "farthest point": (lambda x: unit(max(centre(x), key=torch.norm)), "the sample farthest from the mean"),
        "low rank of one": (lambda x: torch.pca_lowrank(x, q=2, niter=1)[2][:, 0], "pca_lowrank only approximates"),
    },
    "1.3": {
        "up to the value": (
            lambda s, mixed: claim(
                folded(s), (resampled(s, 0.025)[0], folded(s)), folded(mixed), resampled(mixed, 0.025)
            ),
            "not the one measured",
        ),
        "twice as wide": (
            lambda s, mixed: claim(
                folded(s), wider(resampled(s, 0.025)), folded(mixed), wider(resampled(mixed, 0.025))
            ),
            "not the one measured",
        ),
        "no width": (
            lambda s, mixed: claim(folded(s), (folded(s), folded(s)), folded(mixed), resampled(mixed, 0.025)),
            "is 0.000 wide",
        ),
        "90 %": (ninety, "one of 90 %"),
        "written down": (at_fixed, "whatever it is given"),
        "folded by the means": (with_limits(folded_by_means), "not folded"),
        "cut off": (lambda s, mixed: by_resampling(0.025)(s.clamp(-1e4, 1e4), mixed), None),
        "shuffled twice": (lambda s, mixed: by_resampling(0.025)(mixed, mixed), None),
        "made up": (
            lambda s, mixed: claim(folded(s), (folded(s) - 0.1, 1.0), folded(mixed), (0.4, 0.75)),
            "resampling the prompts gives",
        ),
        "not folded": (
            lambda s, mixed: claim(auroc(s), resampled(s, 0.025), folded(mixed), resampled(mixed, 0.025)),
            None,
        ),
        "neither folded": (with_limits(lambda s: directions.auroc(*s.chunk(2))), "not folded"),
        "the other way round": (with_limits(lambda s: directions.auroc(*s.chunk(2)[::-1])), "folded to 1 - AUROC"),
        "accuracy": (with_limits(accuracy), "an accuracy, no AUROC"),
        "accuracy, folded": (with_limits(lambda s: max(accuracy(s), 1 - accuracy(s))), "an accuracy, no AUROC"),
        "accuracy from the middle": (with_limits(lambda s: accuracy(s, float(s.mean()))), "an accuracy, no AUROC"),
        "accuracy at the median": (with_limits(lambda s: accuracy(s, float(s.median()))), "an accuracy, no AUROC"),
        "one decimal": (lambda s, mixed: by_resampling(0.025)(s.round(decimals=1), mixed.round(decimals=1)), None),
        "bfloat16": (lambda s, mixed: by_resampling(0.025)(s.bfloat16().float(), mixed.bfloat16().float()), None),
        "correlation": (with_limits(lambda s: float(s.sign().mean().abs())), "another statistic"),
        "a count of pairs": (as_counts, None),
        "middles of the intervals": (in_the_middle, "the middle of its interval"),
        "equal scores as lower": (
            with_limits(lambda s: pairs_higher(s, torch.gt)),
            "pairs of equal scores are not counted",
        ),
        "equal scores as higher": (with_limits(lambda s: pairs_higher(s, torch.ge)), "pairs of equal scores count 1"),
        "places in order": (with_limits(by_ranks), None),
        "swapped": (lambda s, mixed: by_resampling(0.025)(mixed, s), "swapped"),
        "shuffled by itself": (reshuffled, None),
        "chance": (lambda s, mixed: claim(folded(s), resampled(s, 0.025), 0.5, (0.5, 0.55)), "whatever it is given"),
        "bare number": (given(lambda s, mixed: auroc(s)), "is not a claim"),
        "no interval": (given(lambda s, mixed: claim(auroc(s), control=0.5, control_interval=AROUND)), "no interval"),
        "no control": (given(lambda s, mixed: claim(auroc(s), interval=(0.9, 1.0))), "no control"),
        "control without interval": (
            given(lambda s, mixed: claim(auroc(s), interval=(0.9, 1.0), control=0.5)),
            "no interval",
        ),
        "control is the value": (
            given(
                lambda s, mixed: claim(
                    auroc(s), interval=(0.97, 1.0), control=auroc(s) - 0.015, control_interval=(0.9, 0.965)
                )
            ),
            None,
        ),
        "interval upside down": (
            given(lambda s, mixed: claim(auroc(s), interval=(1.0, 0.9), control=0.5, control_interval=AROUND)),
            "upside down",
        ),
        "value outside": (
            given(lambda s, mixed: claim(auroc(s), interval=(0.6, 0.7), control=0.5, control_interval=AROUND)),
            "outside its interval",
        ),
        "everything possible": (lambda s, mixed: claim(folded(s), (0.0, 1.0), folded(mixed), (0.0, 1.0)), "resampling"),
        "another number": (
            given(lambda s, mixed: claim(0.75, interval=(0.7, 0.8), control=0.5, control_interval=AROUND)),
            "whatever it is given",
        ),
        "another control": (
            lambda s, mixed: claim(folded(s), resampled(s, 0.025), 0.8, (0.75, 0.85)),
            "whatever it is given",
        ),
        "percent": (
            given(lambda s, mixed: claim(100 * auroc(s), interval=(90, 100), control=50, control_interval=(40, 55))),
            "possible range",
        ),
    },
    "1.4": {
        "not a unit vector": (difference, "length"),
        "sign": (normalised(lambda a, b: difference(b, a)), "sign is flipped"),
        "positive mean alone": (normalised(lambda a, b: a.mean(0)), "positive mean alone"),
        "sum of means": (normalised(lambda a, b: a.mean(0) + b.mean(0)), "added"),
        "normalised too early": (normalised(lambda a, b: unit(a.mean(0)) - unit(b.mean(0))), "before the difference"),
        "medians": (normalised(lambda a, b: a.median(0).values - b.median(0).values), "medians"),
        "first prompts": (normalised(lambda a, b: a[0] - b[0]), "first prompt"),
        "sum norm": (lambda a, b: difference(a, b) / difference(a, b).abs().sum(), "length"),
        "wrong axis": (lambda a, b: a.mean(dim=1), "over d_model"),
        "one number": (lambda a, b: a.mean() - b.mean(), "over d_model"),
        "wrong axis, both": (normalised(lambda a, b: a.mean(dim=1) - b.mean(dim=1)), "one number for each prompt"),
        "pairs of prompts": (normalised(lambda a, b: (a - b).mean(0)), "equal size"),
        "cut to the shorter": (normalised(cut), "paired one by one"),
        "prompts normalised": (
            normalised(lambda a, b: directions.unit(a).mean(0) - directions.unit(b).mean(0)),
            "every prompt's vector",
        ),
        "r": (lambda a, b: unit(directions.project_out(difference(a, b), b.mean(0))), "mean was projected out"),
        "each row once": (normalised(lambda a, b: difference(a.unique(dim=0), b.unique(dim=0))), "some inputs only"),
        "64 numbers": (normalised(lambda a, b: difference(a, b) * (torch.arange(a.shape[1]) < 64)), "some inputs only"),
        "300 rows": (normalised(lambda a, b: difference(a[:300], b[:300])), "some inputs only"),
        "512 rows": (normalised(lambda a, b: difference(a[:512], b[:512])), "some inputs only"),
        "1e-8 beside the length": (lambda a, b: lengthened(difference(a, b), 1e-8), "only its length is wrong"),
        "short ones as they are": (
            lambda a, b: unit(d) if (d := difference(a, b)).norm() > 1e-6 else d,
            "only its length is wrong",
        ),
        "none far away": (
            normalised(lambda a, b: difference(*(x[x.norm(dim=1) <= 10 * x.norm(dim=1).median()] for x in (a, b)))),
            "some inputs only",
        ),
        "one alone is no mean": (
            lambda a, b: unit(difference(a, b) if len(b) > 1 else a.mean(0)),
            "negative = [[0.0, 1.0]]",
        ),
        "largest entry 1": (lambda a, b: difference(a, b) / difference(a, b).abs().max(), "length"),
    },
    "1.6": {
        "of the first one's position": (
            lambda rows, n: lowest([r for r in kept(rows, n) if r.position == kept(rows, n)[0].position]),
            "of two positions",
        ),
        "KL as a penalty, too": (lambda rows, n: min(kept(rows, n), key=lambda r: r.bypass + 10 * r.kl), None),
        "rounded": (lambda rows, n: min(kept(rows, n), key=lambda r: round(r.bypass)), "not rounded"),
        "rounded to 3 decimals": (lambda rows, n: min(kept(rows, n), key=lambda r: round(r.bypass, 3)), "-6.0004"),
        "all, if only one passes": (
            lambda rows, n: lowest(found if len(found := kept(rows, n)) > 1 else rows),
            "never chosen, however few pass",
        ),
        "KL rounded": (
            lambda rows, n: lowest(r for r in kept(rows, n, kl=9) if round(r.kl, 2) <= 0.1),
            "one KL is 0.1004",
        ),
        "started at 0": (started_at(0), "no row has a bypass below 0"),
        "started at 100": (started_at(100), "above 100"),
        "without block 0": (lambda rows, n: lowest(r for r in kept(rows, n) if r.layer), "only a row of block 0"),
        "words only": (
            lambda rows, n: lowest(r for r in kept(rows, n) if isinstance(r.position, str)),
            "the position is a number",
        ),
        "induce at most 20": (lambda rows, n: lowest(r for r in kept(rows, n) if r.induce <= 20), "induce is 40"),
        "no filter": (lambda rows, n: lowest(rows), "breaks the model"),
        "no KL filter": (lambda rows, n: lowest(kept(rows, n, kl=99)), "breaks the model"),
        "no induce filter": (lambda rows, n: lowest(kept(rows, n, induce=-99)), "does not induce"),
        "no layer filter": (lambda rows, n: lowest(kept(rows, n, limit=2)), "too late"),
        "one layer too many": (
            lambda rows, n: lowest(r for r in rows if r.kl <= 0.1 and r.induce >= 0 and r.layer <= int(0.8 * n)),
            "layer 4 of 6",
        ),
        "highest bypass": (lambda rows, n: max(kept(rows, n), key=lambda r: r.bypass), "does not bypass"),
        "lowest KL": (lambda rows, n: min(kept(rows, n), key=lambda r: r.kl), "does not bypass"),
        "KL, then bypass": (lambda rows, n: min(kept(rows, n), key=lambda r: (r.kl, r.bypass)), "does not bypass"),
        "highest induce": (lambda rows, n: max(kept(rows, n), key=lambda r: r.induce), "does not bypass"),
        "nearest to 0": (lambda rows, n: min(kept(rows, n), key=lambda r: abs(r.bypass)), "compared without its sign"),
        "KL below 0.1": (lambda rows, n: lowest(r for r in kept(rows, n) if r.kl < 0.1), "on the limits"),
        "induce above 0": (lambda rows, n: lowest(r for r in kept(rows, n) if r.induce > 0), "on the limits"),
        "no int": (lambda rows, n: lowest(r for r in kept(rows, n, limit=9) if r.layer < 0.8 * n), "layer 4 of 6"),
        "tested last": (tested_last, "too late"),
        "first that passes": (lambda rows, n: kept(rows, n)[0], "*lowest* bypass"),
        "returns the score": (lambda rows, n: lowest(kept(rows, n)).bypass, "one of the rows"),
        "layers fixed": (lambda rows, n: lowest(kept(rows, 6)), "n_layers"),
        "four blocks at least": (
            lambda rows, n: lowest(r for r in kept(rows, n, limit=9) if r.layer < max(4, int(0.8 * n))),
            "n_layers = 2",
        ),
        "20 rows": (lambda rows, n: lowest(kept(rows, n)[:20]), "some inputs only"),
        "KL widened": (lambda rows, n: lowest(kept(rows, n, kl=0.1 + 1e-6)), "some inputs only"),
        "last of each block": (
            lambda rows, n: lowest({r.layer: r for r in kept(rows, n)}.values()),
            "two rows of one block pass",
        ),
        "limits left out": (
            lambda rows, n: lowest(r for r in rows if r.kl < 0.1 and r.induce > 0 and r.layer < int(0.8 * n)),
            "limits",
        ),
    },
    "1.5": {
        "at most 20": (cutting(lambda x, v: x - along(x, unit(v)).clamp(-20, 20) * unit(v)), None),
        "unedited": (lambda m, prompts, v: models.next_token_logits(m, prompts), "unedited"),
        "embedding alone": (cutting(names=lambda m: writes(m)[:1]), "only the embedding"),
        "no embedding": (cutting(names=lambda m: writes(m)[1:]), "the embedding still"),
        "no attention": (cutting(names=lambda m: [n for n in writes(m) if "attn" not in n]), "attention still"),
        "no MLP": (cutting(names=lambda m: [n for n in writes(m) if "mlp" not in n]), "MLPs still"),
        "MLP alone": (cutting(names=lambda m: [n for n in writes(m) if "mlp" in n]), "what the MLPs write"),
        "attention alone": (cutting(names=lambda m: [n for n in writes(m) if "attn" in n]), "what attention writes"),
        "first block alone": (cutting(names=lambda m: writes(m)[:3]), "only the first"),
        "not the last block": (cutting(names=lambda m: writes(m)[:-2]), "last block"),
        "from block 1": (cutting(names=lambda m: writes(m)[:1] + writes(m)[3:]), "the first block writes"),
        "between blocks": (
            cutting(names=lambda m: writes(m)[:1] + [f"blocks.{n}.hook_resid_post" for n in range(models.n_layers(m))]),
            "between blocks only",
        ),
        "middle block's input": (
            cutting(names=lambda m: ["blocks.3.hook_resid_pre"]),
            "at one place only, blocks.3.hook_",
        ),
        "both ends": (
            cutting(names=lambda m: [*streams(m, "pre")[:1], *streams(m, "post")[-1:]]),
            "what enters the first block and what leaves the last",
        ),
        "batch of one squeezed": (
            lambda m, prompts, v: cutting()(m, prompts, v).squeeze(),
            "for one prompt, ablated_logits",
        ),
        "not a unit vector": (cutting(lambda x, v: x - along(x, v) * v), "not made a unit vector"),
        "half normalised": (cutting(lambda x, v: x - along(x, unit(v)) * v), "only one of the two"),
        "sign": (cutting(lambda x, v: x + along(x, unit(v)) * unit(v)), "was added"),
        "kept instead": (cutting(lambda x, v: along(x, unit(v)) * unit(v)), "keeps"),
        "subtracts u": (cutting(lambda x, v: x - unit(v)), "itself was subtracted"),
        "mirrored": (cutting(lambda x, v: x - 2 * along(x, unit(v)) * unit(v)), "mirrored"),
        "positive only": (cutting(lambda x, v: x - along(x, unit(v)).clamp(min=0) * unit(v)), "positive parts"),
        "mean amount": (cutting(lambda x, v: x - along(x, unit(v)).mean() * unit(v)), "same amount"),
        "mean over tokens": (
            cutting(lambda x, v: x - along(x, unit(v)).mean(dim=1, keepdim=True) * unit(v)),
            "same amount was subtracted from every token",
        ),
        "log-probabilities": (lambda *given: cutting()(*given).log_softmax(-1), "log-probabilities, not logits"),
        "probabilities": (lambda *given: cutting()(*given).softmax(-1), "probabilities, not logits"),
        "last token": (cutting(last_only), "only the last token"),
        "last token's amount": (cutting(lambda x, v: x - along(x, unit(v))[:, -1:] * unit(v)), "last token's part"),
        "axis lost": (cutting(lambda x, v: x - (x @ unit(v)) * unit(v)), "lost the last axis"),
        "what blocks read": (cutting(names=lambda m: streams(m, "pre")), "what the last block writes stays"),
        "what both parts read": (cutting(names=lambda m: streams(m, "pre", "mid")), "last block's MLP writes"),
        "what blocks leave": (cutting(names=lambda m: streams(m, "post")), "still reads the embedding"),
        "hook returns nothing": (cutting(lambda x, v: None), "hooks were active, and changed nothing"),
        "after the context": (after_the_context, "while it ran, no hook was active"),
        "the last block's output": (
            cutting(names=lambda m: streams(m, "post")[-1:]),
            "only what leaves the last block",
        ),
        "activation in place": (
            cutting(lambda x, v: x.sub_(along(x, unit(v)) * unit(v))),
            "writes into the activation",
        ),
        "activation in place, nothing returned": (cutting(in_place), "writes into the activation"),
        "unit only if longer than 1": (cutting(clamped), "some inputs only"),
        "six blocks": (cutting(names=six_blocks), "in a model of 14 blocks only the first 6 are cut"),
        "edited for good": (edited_for_good, "changed the model's weights"),
        "shortest first": (shortest_first, "ordered by the prompts' lengths"),
        "16 prompts": (
            lambda m, prompts, v: torch.cat([cutting()(m, prompts[:16], v), rest_as_it_is(m, prompts[16:])]),
            None,
        ),
        "tiny directions": (cutting(lambda x, v: x - along(x, v / v.norm().clamp(min=0.01)) * unit(v)), None),
        "another model": (lambda m, prompts, v: cutting()(model(), prompts, v), None),
        "64 tokens": (short_prompts, "some inputs only"),
        "remembered": (remembered_by_prompts(), "some inputs only"),
        "1e-8 beside the length": (
            cutting(lambda x, v: x - along(x, lengthened(v, 1e-8)) * lengthened(v, 1e-8)),
            "some inputs only",
        ),
        "hooks left": (hooks_left, "left a hook"),
        "the activations": (lambda m, prompts, v: directions.project_out(torch.ones(3, len(v)), v), "shape"),
    },
    "1.7": wrong_claims(ablated, *CONTEXT["1.7"]())
    | {
        "before": (lambda after, others, n: rates(wilson(n - after, n), runs(others, n)), "n minus after"),
        "n of all runs": (
            lambda after, others, n: rates(wilson(after, n), runs(others, n * len(others))),
            "n is the prompts of one run",
        ),
        "lowest run": (lambda after, others, n: rates(wilson(after, n), wilson(min(others), n)), "the lowest of"),
        "100 runs": (lambda after, others, n: rates(wilson(after, n), runs(others[:100], n)), None),
        "of 100": (
            lambda after, others, n: rates(wilson(after, 100), runs(others, 100)),
            "divided by 100, whatever n is",
        ),
    },
    "1.8": {
        "never lowered": (lambda a, u, t: a + (t - along(a, u)).clamp(min=0) * u, "some inputs only"),
        "only added": (lambda a, u, t: a + t * u, "on top of what was there"),
        "only removed": (lambda a, u, t: a - along(a, u) * u, "target is not added"),
        "everything else lost": (lambda a, u, t: (t * u).expand_as(a).clone(), "was lost"),
        "size of the part": (lambda a, u, t: a + (t - along(a, u).abs()) * u, "lost its sign"),
        "sign of the target": (lambda a, u, t: a - along(a, u) * u - t * u, "sign of the target"),
        "sign of the part": (lambda a, u, t: a + along(a, u) * u + t * u, "instead of removed"),
        "scaled": (lambda a, u, t: a * t / along(a, u), "whole vector was scaled"),
        "added to all numbers": (lambda a, u, t: a - along(a, u) * u + t, "every number"),
        "multiplied": (lambda a, u, t: a - along(a, u) * u + t * along(a, u) * u, "multiplies"),
        "rescaled": (
            lambda a, u, t: directions.unit(a - along(a, u) * u + t * u) * a.norm(dim=-1, keepdim=True),
            "rescaled to their old length",
        ),
        "mean removed": (lambda a, u, t: a - (a @ u).mean() * u + t * u, "mean projection"),
        "axis lost": (lambda a, u, t: a - (a @ u) * u + t * u, "lost the last axis"),
        "last token": (last_token, "only the last token"),
        "batch of one squeezed": (lambda a, u, t: (a + (t - along(a, u)) * u).squeeze(0), "for one prompt, match_"),
        "0 left alone": (lambda a, u, t: a + (t - along(a, u)) * u if t else a, "target = 0 it gives [[[2.0, 1.0]]]"),
        "size of the target": (lambda a, u, t: a + (abs(t) - along(a, u)) * u, "target = -2 it gives"),
        "one token's part for all": (lambda a, u, t: a + (t - (a[:, -1:] @ u)[..., None]) * u, "of the last token"),
        "64 numbers": (lambda a, u, t: a + (t - along(a[..., :64], u[:64])) * u, "some inputs only"),
        "100 tokens": (
            lambda a, u, t: torch.cat([(a + (t - along(a, u)) * u)[:, :100], a[:, 100:]], dim=1),
            "some inputs only",
        ),
        "64 prompts": (lambda a, u, t: torch.cat([(a + (t - along(a, u)) * u)[:64], a[64:]]), "some inputs only"),
        "small targets": (lambda a, u, t: a + ((t if abs(t) > 1e-3 else 0) - along(a, u)) * u, "target = 0.0009"),
        "moved by 10000 at most": (lambda a, u, t: a + (t - along(a, u)).clamp(-1e4, 1e4) * u, "some inputs only"),
        "no tensor": (lambda a, u, t: a + (t - along(a, u)) * u if isinstance(t, float) else a, "some inputs only"),
        "zeros left alone": (
            lambda a, u, t: torch.where((a == 0).all(-1, keepdim=True), a, a + (t - along(a, u)) * u),
            "some inputs only",
        ),
        "in place": (lambda a, u, t: a.add_((t - along(a, u)) * u), "changed `a` in place"),
    },
    "1.9": wrong_claims(role_matters, *CONTEXT["1.9"]())
    | {
        "refusals and warnings together": (refused_or_warned, '"refused"] plus added["assistant"]["warned"]'),
        "normal approximation": (by_normal, "normal approximation"),
        "by place": (by_place, None),
        "all others as control": (others_as_control, "holds a third role"),
        "less the warned": (less_the_warned, None),
        "0 as control": (
            lambda added, n: rates(wilson(added["assistant"]["refused"], n), wilson(0, n)),
            "whatever it is given",
        ),
        "refusals and warnings": (pooled, "the mean of"),
        "of 100": (
            lambda added, n: rates(*(wilson(c, 100) for c, _ in role_matters(added, n))),
            "divided by 100, whatever n is",
        ),
        "warnings as control": (
            lambda added, n: rates(wilson(added["assistant"]["refused"], n), wilson(added["friend"]["warned"], n)),
            "the control",
        ),
        "assistant's warnings as control": (
            lambda added, n: rates(wilson(added["assistant"]["refused"], n), wilson(added["assistant"]["warned"], n)),
            "the control",
        ),
    },
}
