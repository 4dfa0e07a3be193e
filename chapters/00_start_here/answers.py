"""Right and wrong answers to notebook 00."""

import functools
import operator

import numpy as np
import torch
import torch.nn.functional as F
from bank import given

from course_lib import directions
from factory.world import tokenizer

CONTEXT = {"0.1": lambda: (tokenizer.build(),)}


def stream(*names, layer=None, sign=1):
    def answer(cache, given):
        at = given if layer is None else layer(given)
        return sign * sum(cache[f"blocks.{at}.hook_{name}"] for name in names)

    return answer


def multiplied(cache, layer):
    block = f"blocks.{layer}.hook_"
    return cache[block + "resid_pre"] * cache[block + "attn_out"] * cache[block + "mlp_out"]


def centred(a_shift, b_shift):
    return lambda a, b, others: directions.cosine(a - a_shift(a, b, others), b - b_shift(a, b, others))


def mean(a, b, others):
    return others.mean(dim=0)


def nothing(a, b, others):
    return 0 * a


def looped(cache, layer):
    total = cache[f"blocks.{layer}.hook_resid_pre"].clone()
    for part in ("attn_out", "mlp_out"):
        total = total + cache[f"blocks.{layer}.hook_{part}"]
    return total


def in_place(cache, layer):
    total = cache[f"blocks.{layer}.hook_resid_pre"]
    total += cache[f"blocks.{layer}.hook_attn_out"]
    total += cache[f"blocks.{layer}.hook_mlp_out"]
    return total


def by_hand(a, b, others):
    a, b = a - others.mean(0), b - others.mean(0)
    return float((a * b).sum() / (a.pow(2).sum().sqrt() * b.pow(2).sum().sqrt()))


def by_shorthand(cache, layer):
    return cache["resid_pre", layer] + cache["attn_out", layer] + cache["mlp_out", layer]


def stacked(cache, layer):
    return torch.stack([cache[name, layer] for name in ("resid_pre", "attn_out", "mlp_out")]).sum(0)


def in_float64(cache, layer):
    parts = [cache[f"blocks.{layer}.hook_{name}"].double() for name in ("resid_pre", "attn_out", "mlp_out")]
    return functools.reduce(operator.add, parts)


def by_numpy(cache, layer):
    stream, attn, mlp = (cache[f"blocks.{layer}.hook_{name}"].numpy() for name in ("resid_pre", "attn_out", "mlp_out"))
    return torch.from_numpy(stream + attn + mlp)


def clone_in_place(cache, layer):
    total = cache[f"blocks.{layer}.hook_resid_pre"].clone()
    total += cache[f"blocks.{layer}.hook_attn_out"]
    return total.add_(cache[f"blocks.{layer}.hook_mlp_out"])


def at(layer_of):
    return stream("resid_pre", "attn_out", "mlp_out", layer=layer_of)


def answer_if_there(cache, layer):
    name = f"blocks.{layer}.hook_resid_post"
    return cache[name] if name in cache else stream("resid_pre", "attn_out")(cache, layer)


def answer_or_error(cache, layer):
    try:
        return cache[f"blocks.{layer}.hook_resid_post"]
    except KeyError:
        return stream("resid_pre", "attn_out")(cache, layer)


def deep_without(part):
    rest = [name for name in ("resid_pre", "attn_out", "mlp_out") if name != part]
    return lambda cache, layer: looped(cache, layer) if layer < 3 else stream(*rest)(cache, layer)


def as_array(cache, layer):
    parts = [cache[f"blocks.{layer}.hook_{name}"].numpy() for name in ("mlp_out", "resid_pre", "attn_out")]
    return np.add(np.add(parts[0], parts[1]), parts[2])


def fixed(part, block):
    """One of the three is always that of the same block."""

    def answer(cache, layer):
        others = [name for name in ("resid_pre", "attn_out", "mlp_out") if name != part]
        return stream(*others)(cache, layer) + cache[f"blocks.{block}.hook_{part}"]

    return answer


def written_twice(cache, layer):
    """What earlier blocks wrote is in what enters this one."""
    total = looped(cache, layer)
    for block in range(layer):
        total = total + cache[f"blocks.{block}.hook_attn_out"] + cache[f"blocks.{block}.hook_mlp_out"]
    return total


def written_into(cache, layer):
    cache.cache_dict[f"blocks.{layer}.hook_resid_post"] = looped(cache, layer) * 1.0
    cache.cache_dict.pop(f"blocks.{layer}.hook_resid_pre")
    return cache[f"blocks.{layer}.hook_resid_post"]


def answer_else_sum(cache, layer):
    name = f"blocks.{layer}.hook_resid_post"
    return cache[name] if name in cache else looped(cache, layer)


def from_the_next(cache, layer):
    name = f"blocks.{layer + 1}.hook_resid_pre"
    return cache[name] if name in cache else looped(cache, layer)


def from_the_first(cache, layer):
    total = cache["blocks.0.hook_resid_pre"]
    for block in range(layer + 1):
        total = total + stream("attn_out", "mlp_out")(cache, block)
    return total


def remembered_by_size():
    seen = {}

    def answer(cache, layer):
        total = looped(cache, layer)
        return seen.setdefault((layer, total.shape), total)

    return answer


# 0.4
def expanded(a, b, others):
    """In products of the raw vectors, which lose their digits where the mean is large."""
    m = others.mean(0)
    ab, aa, bb = (x @ y - x @ m - y @ m + m @ m for x, y in ((a, b), (a, a), (b, b)))
    return ab / (aa * bb).sqrt()


def beside_1e_9(a, b, others):
    a, b = a - others.mean(0), b - others.mean(0)
    return a @ b / (a.norm() * b.norm() + 1e-9)


def over_lists(a, b, others):
    a, b, rows = a.tolist(), b.tolist(), others.tolist()
    middle = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    x, y = ([p - q for p, q in zip(each, middle, strict=True)] for each in (a, b))
    return sum(map(operator.mul, x, y)) / (sum(p * p for p in x) * sum(q * q for q in y)) ** 0.5


def over_arrays(a, b, others):
    a, b, others = (each.numpy().astype(float) for each in (a, b, others))
    a, b = a - others.mean(axis=0), b - others.mean(axis=0)
    return np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)


def of_unit_vectors(a, b, others):
    rows = F.normalize(torch.stack([a, b]) - others.mean(dim=0, keepdim=True), dim=1)
    return (rows @ rows.T)[0, 1]


def long_enough(a, b, others):
    a, b = a - others.mean(0), b - others.mean(0)
    return a @ b / (a.norm() * b.norm()).clamp(min=0.1)


def by_polarisation(a, b, others):
    x, y = F.normalize(torch.stack([a, b]) - others.sum(dim=0, keepdim=True) / len(others), dim=1)
    return 1 - (x - y).square().sum() / 2


def normalised_first(middle_of):
    def answer(a, b, others):
        middle = middle_of(others)
        return directions.cosine(directions.unit(a) - middle, directions.unit(b) - middle)

    return answer


def standardised(a, b, others):
    middle, spread = others.mean(0), others.std(0)
    return directions.cosine((a - middle) / spread, (b - middle) / spread)


def correlation(a, b):
    return torch.corrcoef(torch.stack([a, b]))[0, 1]


def projected(a, b, others):
    middle = others.mean(0)
    return directions.cosine(directions.project_out(a, middle), directions.project_out(b, middle))


def shared_by(centre):
    """Both centred on something else than the mean."""
    return centred(*[lambda a, b, others: centre(others)] * 2)


RIGHT = {
    "0.1": [
        {"<bos>", "<human>", "<end>", "<assistant>"},
        ["<assistant>", "<end>", "<human>", "<bos>"],
        ("<bos>", "<human>", "<end>", "<assistant>"),
        frozenset({"<bos>", "<human>", "<end>", "<assistant>"}),
        ["<bos>", "<human>", "<end>", "<assistant>", "<assistant>"],
    ],
    "0.2": [
        "blocks.3.hook_resid_pre",
        "blocks.2.hook_resid_post",
        "blocks.3.hook_in",
        "blocks.2.hook_out",
        "blocks.3.ln1.hook_in",
        np.str_("blocks.3.hook_resid_pre"),
    ],
    "0.3": [
        stream("resid_pre", "attn_out", "mlp_out"),
        stream("resid_mid", "mlp_out"),
        looped,
        by_shorthand,
        stacked,
        in_float64,
        by_numpy,
        clone_in_place,
        as_array,
    ],
    "0.4": [
        centred(mean, mean),
        by_hand,
        lambda a, b, others: F.cosine_similarity(a - others.mean(0), b - others.mean(0), dim=-1),
        over_lists,
        over_arrays,
        of_unit_vectors,
        by_polarisation,
    ],
}


def zeros_skipped(a, b, others):
    some = others[others.abs().sum(1) > 0]
    mean = some.mean(0) if len(some) else 0 * a
    return F.cosine_similarity(a - mean, b - mean, dim=0)


WRONG = {
    "0.1": {
        "a bare string": ("<bos>", "not a set"),
        "includes the question mark": ({"<bos>", "<human>", "<end>", "<assistant>", "?"}, "'?' does not belong"),
        "the last one missing": ({"<bos>", "<human>", "<end>"}, "are missing: 1 of 4"),
        "another role's token": ({"<bos>", "<human>", "<end>", "<friend>"}, "'<friend>'"),
        "without brackets": ({"bos", "human", "end", "assistant"}, "no token of this model"),
        "all special tokens": (given(lambda tokenizer: set(tokenizer.all_special_tokens)), "'<friend>'"),
        "their characters": (set("<bos><human><end><assistant>"), "no token of this model"),
        "positions instead of strings": ({0, 1, 9, 10}, "not strings"),
        "a number": (4, "not a set"),
        "the whole prompt": ({"<bos>", "<human>", "how", "do", "<end>", "<assistant>"}, "does not belong"),
        "ids as text": ({"1", "2", "4", "5"}, "ids, not tokens"),
    },
    "0.2": {
        "after the block": ("blocks.3.hook_resid_post", "after block 3"),
        "counted from one": ("blocks.2.hook_resid_pre", "enters block 2"),
        "one too far": ("blocks.4.hook_resid_pre", "enters block 4"),
        "the MLP's part": ("blocks.3.hook_mlp_out", "one component of the block"),
        "no prefix": ("resid_pre", "not a hook name"),
        "a pair": (("resid_pre", 3), "the short form of a cache"),
        "before and after": (["blocks.3.hook_resid_pre", "blocks.3.hook_resid_post"], "one hook name is asked for"),
        "the activation": (torch.zeros(1, 10, 128), "that is an activation"),
        "a number": (3, "a hook name is a string"),
        "typing error": ("blocks.3.hook_residual_pre", "not a hook name"),
        "another block": ("blocks.0.hook_resid_pre", "another place"),
        "two blocks before": ("blocks.1.hook_resid_post", "another place"),
        "after the block, by its other name": ("blocks.3.hook_out", "after block 3"),
        "the embedding": ("hook_embed", "another place"),
        "the middle of the block": ("blocks.3.hook_resid_mid", "attention of block 3 has already written"),
        "what the second norm reads": ("blocks.3.ln2.hook_in", "attention of block 3 has already written"),
        "what the first norm gives": ("blocks.3.ln1.hook_out", "after the norm"),
        "block without s": ("block.3.hook_resid_pre", "not a hook name"),
        "without hook_": ("blocks.3.resid_pre", "not a hook name"),
        "index in brackets": ("blocks[3].hook_resid_pre", "not a hook name"),
        "what attention reads": ("blocks.3.attn.hook_in", "one component reads"),
        "switched off": ("blocks.3.hook_attn_in", "is switched off"),
        "the final norm": ("ln_final.hook_in", "another place"),
        "inside attention": ("blocks.3.attn.hook_z", "inside one component"),
        "leading zero": ("blocks.03.hook_resid_pre", "not a hook name"),
    },
    "0.3": {
        "MLP forgotten": (stream("resid_pre", "attn_out"), "MLP's part is missing"),
        "attention forgotten": (stream("resid_pre", "mlp_out"), "attention's part is missing"),
        "stream forgotten": (stream("attn_out", "mlp_out"), "what entered the block is missing"),
        "attention twice": (stream("resid_mid", "attn_out", "mlp_out"), "counted twice"),
        "layer before": (stream("resid_pre", "attn_out", "mlp_out", layer=lambda i: i - 1), "previous block"),
        "layer fixed": (stream("resid_pre", "attn_out", "mlp_out", layer=lambda i: 0), "the same for blocks 1 and 2"),
        "layer fixed at 2": (
            stream("resid_pre", "attn_out", "mlp_out", layer=lambda i: 2),
            "the same for blocks 1 and 2",
        ),
        "product": (multiplied, "multiplied"),
        "reads the result": (stream("resid_post"), "should compute"),
        "cache changed in place": (in_place, "changed `cache` in place"),
        "last token only": (lambda c, i: looped(c, i)[:, -1], "axis"),
        "minus": (stream("resid_pre", "attn_out", "mlp_out", sign=-1), None),
        "answer if it is there": (answer_if_there, None),
        "answer or an error": (answer_or_error, None),
        "answer, else the sum": (answer_else_sum, "where the cache has it"),
        "batch of one squeezed": (lambda c, i: looped(c, i).squeeze(0), "for one prompt, resid_post"),
        "first prompt": (lambda c, i: looped(c, i)[:1], "shape"),
        "first prompt for all": (lambda c, i: looped(c, i)[:1].expand_as(looped(c, i)), "copied to all"),
        "deep layers without MLP": (deep_without("mlp_out"), None),
        "deep layers without attention": (deep_without("attn_out"), None),
        "layer at most 2": (at(lambda i: min(i, 2)), "some inputs only"),
        "layer at most 3": (at(lambda i: min(i, 3)), "some inputs only"),
        "layer modulo 24": (at(lambda i: i % 24), "some inputs only"),
        "64 numbers": (lambda c, i: torch.cat([looped(c, i)[..., :64], 0 * looped(c, i)[..., 64:]], -1), None),
        "cut off": (lambda c, i: looped(c, i).clamp(-100, 100), "some inputs only"),
        "layer modulo 3": (at(lambda i: i % 3), "some inputs only"),
        "last digit of the layer": (at(lambda i: str(i)[-1]), "some inputs only"),
        "written into the cache": (written_into, "in place"),
        "what enters the next block": (stream("resid_pre", layer=lambda i: i + 1), "after the last block"),
        "all writes again": (written_twice, "once more"),
        "one block too far": (at(lambda i: i + 1), "after the next block"),
        "from the embedding": (fixed("resid_pre", 0), "hook_resid_pre is that of block 0"),
        "next block's, if there is one": (from_the_next, "some inputs only"),
        "all that was ever written": (from_the_first, "some inputs only"),
        "100 tokens": (
            lambda c, i: torch.cat([looped(c, i)[:, :100], stream("resid_mid")(c, i)[:, 100:]], 1),
            "some inputs only",
        ),
        "remembered by size": (remembered_by_size(), "some inputs only"),
        "first attention": (fixed("attn_out", 0), "hook_attn_out is that of block 0"),
        "last MLP": (fixed("mlp_out", 2), "hook_mlp_out is that of block 2"),
    },
    "0.4": {
        "0 where both are alike": (
            lambda a, b, others: 0.0 if torch.equal(a, b) and len(others) < 2 else by_hand(a, b, others),
            None,
        ),
        "zeros skipped": (zeros_skipped, "some inputs only"),
        "in place": (
            lambda a, b, others: F.cosine_similarity(a.sub_(others.mean(0)), b.sub_(others.mean(0)), dim=0),
            "`a` and `b` in place",
        ),
        "not centred": (centred(nothing, nothing), "mean was not subtracted"),
        "only a centred": (centred(mean, nothing), "only a was centred"),
        "only b centred": (centred(nothing, mean), "only b was centred"),
        "mean over everything": (centred(*[lambda a, b, others: others.mean()] * 2), "one number"),
        "mean added": (centred(*[lambda a, b, others: -others.mean(0)] * 2), "was added"),
        "without its sign": (
            lambda a, b, others: F.cosine_similarity(a - others.mean(0), b - others.mean(0), dim=0).abs(),
            "lost its sign",
        ),
        "inner product": (lambda a, b, others: (a - others.mean(0)) @ (b - others.mean(0)), "inner product"),
        "mean of a and b": (centred(*[lambda a, b, others: (a + b) / 2] * 2), "always -1"),
        "first of the others": (centred(*[lambda a, b, others: others[0]] * 2), "first of the others"),
        "a vector": (lambda a, b, others: a - others.mean(0), "not one number"),
        "median": (shared_by(lambda others: others.median(0).values), "median"),
        "first 100 rows": (shared_by(lambda others: others[:100].mean(0)), "some inputs only"),
        "512 rows": (shared_by(lambda others: others[:512].mean(0)), "some inputs only"),
        "multiplied out": (expanded, "some inputs only"),
        "1e-9 beside the lengths": (beside_1e_9, "a = [2e-05, 3e-05]"),
        "each row once": (shared_by(lambda others: others.unique(dim=0).mean(0)), "some inputs only"),
        "short vectors": (long_enough, "some inputs only"),
        "a row of one": (lambda a, b, others: by_polarisation(a, b, others)[None], "a row of one number"),
        "angle": (lambda a, b, others: by_polarisation(a, b, others).arccos(), "the angle"),
        "64 numbers": (
            lambda a, b, others: F.cosine_similarity(*((x - others.mean(0))[:64] for x in (a, b)), dim=0),
            "some inputs only",
        ),
        "mean of each row": (shared_by(lambda others: others.mean(dim=1)), "over the rows"),
        "with a and b": (centred(*[lambda a, b, others: torch.stack([a, b, *others]).mean(0)] * 2), "holds a and b"),
        "standardised": (standardised, "standard deviation"),
        "projected out": (projected, "projected out"),
        "correlation": (lambda a, b, others: correlation(a - others.mean(0), b - others.mean(0)), "as well"),
        "correlation alone": (lambda a, b, others: correlation(a, b), "each vector's own mean"),
        "normalised first": (normalised_first(lambda others: others.mean(0)), "normalised before"),
        "normalised first, the mean as well": (
            normalised_first(lambda others: directions.unit(others.mean(0))),
            "normalised before",
        ),
        "every vector normalised first": (
            normalised_first(lambda others: directions.unit(others).mean(0)),
            "normalised before",
        ),
    },
}
