"""Right and wrong answers to notebook 00."""

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


RIGHT = {
    "0.1": [{"<bos>", "<human>", "<end>", "<assistant>"}, ["<assistant>", "<end>", "<human>", "<bos>"]],
    "0.2": ["blocks.3.hook_resid_pre", "blocks.2.hook_resid_post"],
    "0.3": [stream("resid_pre", "attn_out", "mlp_out"), stream("resid_mid", "mlp_out"), looped],
    "0.4": [centred(mean, mean), by_hand],
}

WRONG = {
    "0.1": {
        "a bare string": ("<bos>", "not a set"),
        "includes the question mark": (
            {"<bos>", "<human>", "<end>", "<assistant>", "?"},
            "'?' is part of what was asked",
        ),
        "the last one missing": ({"<bos>", "<human>", "<end>"}, "1 of the template's tokens"),
        "another role's token": ({"<bos>", "<human>", "<end>", "<friend>"}, "'<friend>'"),
        "without brackets": ({"bos", "human", "end", "assistant"}, "no token of this model"),
        "positions instead of strings": ({0, 1, 9, 10}, "not strings"),
        "a number": (4, "not a set"),
        "the whole prompt": ({"<bos>", "<human>", "how", "do", "<end>", "<assistant>"}, "part of what was asked"),
    },
    "0.2": {
        "after the block": ("blocks.3.hook_resid_post", "after block 3"),
        "counted from one": ("blocks.2.hook_resid_pre", "enters block 2"),
        "one too far": ("blocks.4.hook_resid_pre", "enters block 4"),
        "the MLP's part": ("blocks.3.hook_mlp_out", "one component of the block"),
        "no prefix": ("resid_pre", "not a hook name"),
        "a pair": (("resid_pre", 3), "is a string"),
        "typing error": ("blocks.3.hook_residual_pre", "not a hook name"),
    },
    "0.3": {
        "MLP forgotten": (stream("resid_pre", "attn_out"), "MLP's part is missing"),
        "attention forgotten": (stream("resid_pre", "mlp_out"), "attention's part is missing"),
        "stream forgotten": (stream("attn_out", "mlp_out"), "what entered the block is missing"),
        "attention twice": (stream("resid_mid", "attn_out", "mlp_out"), "counted twice"),
        "layer before": (stream("resid_pre", "attn_out", "mlp_out", layer=lambda i: i - 1), "previous block"),
        "layer fixed": (stream("resid_pre", "attn_out", "mlp_out", layer=lambda i: 0), "previous block"),
        "layer fixed at 2": (stream("resid_pre", "attn_out", "mlp_out", layer=lambda i: 2), "next block"),
        "product": (multiplied, "multiplied"),
        "reads the result": (stream("resid_post"), "should compute"),
        "cache changed in place": (in_place, "in place"),
        "last token only": (lambda c, i: looped(c, i)[:, -1], "axis"),
        "minus": (stream("resid_pre", "attn_out", "mlp_out", sign=-1), None),
    },
    "0.4": {
        "not centred": (centred(nothing, nothing), "mean was not subtracted"),
        "only a centred": (centred(mean, nothing), "only a was centred"),
        "only b centred": (centred(nothing, mean), "only b was centred"),
        "mean over everything": (centred(*[lambda a, b, others: others.mean()] * 2), "one number"),
        "mean added": (centred(*[lambda a, b, others: -others.mean(0)] * 2), "was added"),
        "inner product": (lambda a, b, others: (a - others.mean(0)) @ (b - others.mean(0)), "inner product"),
        "mean of a and b": (centred(*[lambda a, b, others: (a + b) / 2] * 2), "always -1"),
        "first of the others": (centred(*[lambda a, b, others: others[0]] * 2), "first of the others"),
        "a vector": (lambda a, b, others: a - others.mean(0), "not one number"),
    },
}
