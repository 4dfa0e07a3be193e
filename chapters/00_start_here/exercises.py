"""Exercises of notebook 00: template tokens, a hook name, the residual stream as a sum, a centred cosine."""

import random
import re
from itertools import product
from typing import Any

import torch
from torch import Tensor

from chapters.drawn import MANY, WIDE, few_or_many, refuse_one_in_a_row
from course_lib import directions
from course_lib.grading import expect
from course_lib.grading.registry import Wrong, exercise, prediction, question

TEMPLATE = {"<bos>", "<human>", "<end>", "<assistant>"}


@exercise(
    "0.1",
    title="the template tokens",
    minutes=2,
    difficulty=1,
    hints=[
        "Which tokens did you not type?",
        "They all look like <...>.",
        "There are four; write them as a set of strings.",
    ],
)
def template_tokens(answer, tokenizer):
    if isinstance(answer, str) or not hasattr(answer, "__iter__"):
        raise Wrong("your answer is not a set of strings", 'write it like {"<bos>", "<end>"}.')
    given = list(answer)
    if not all(isinstance(token, str) for token in given):
        raise Wrong("some entries are not strings", "write the tokens as they are printed, in quotes.")
    if given and all(token.isdecimal() for token in given):
        raise Wrong("these are ids, not tokens", "write the tokens as they are printed, in quotes.")
    unknown = sorted(token for token in given if token not in tokenizer.get_vocab())
    if unknown:
        raise Wrong(
            f"{unknown[0]!r} is no token of this model", "copy the tokens as they are printed, < and > included."
        )
    typed = sorted(set(given) - TEMPLATE)
    if "<friend>" in typed:
        raise Wrong(
            "'<friend>' does not stand in this prompt", "it asks for another role's reply: here the assistant is asked."
        )
    if typed:
        raise Wrong(
            f"{typed[0]!r} does not belong to the template", "which tokens would also be there for another request?"
        )
    missing = sorted(TEMPLATE - set(given))
    if missing:
        raise Wrong(f"template tokens are missing: {len(missing)} of 4", "look at both ends of the list.")


@exercise(
    "0.2",
    title="a hook name",
    minutes=2,
    difficulty=1,
    hints=[
        "The names are printed two cells above.",
        "'pre' is before the block, 'post' after it.",
        "It is blocks.<number>.hook_resid_pre.",
    ],
)
def hook_name(answer):
    if isinstance(answer, Tensor):
        what = "that is an activation, a tensor; its name is what stands in the brackets of cache[...]"
        raise Wrong(what, "give the name alone, a string such as 'blocks.0.hook_attn_out'.")
    if isinstance(answer, tuple | list) and any("." in part for part in answer if isinstance(part, str)):
        raise Wrong(f"that is {expect.describe(answer)}, and one hook name is asked for", "give one string.")
    if isinstance(answer, tuple | list) and any(isinstance(part, str) for part in answer):
        what = f"that is {expect.describe(answer)}, the short form of a cache; a hook name is one string"
        raise Wrong(what, "write it out, with 'blocks.' and 'hook_': names look like blocks.0.hook_attn_out.")
    if not isinstance(answer, str):
        what = f"you gave {expect.describe(answer)}, and a hook name is a string"
        raise Wrong(what, "copy it from the list above, in quotes: names look like blocks.0.hook_attn_out.")
    if answer in ("blocks.3.hook_resid_mid", "blocks.3.ln2.hook_in"):
        raise Wrong(f"at {answer} attention of block 3 has already written to the stream", "which word means before?")
    if answer.startswith(("blocks.3.ln1.hook_out", "blocks.3.ln1.hook_normalized", "blocks.3.ln2.hook_")):
        raise Wrong(
            f"{answer} stands after the norm, which rescales what it reads", "what enters stands before it: resid."
        )
    if answer in ("blocks.3.hook_resid_post", "blocks.3.hook_out"):
        raise Wrong(f"{answer} is the residual stream after block 3 has written to it", "which word means before?")
    if answer == "blocks.2.hook_resid_pre":
        raise Wrong("that is what enters block 2", "blocks are counted from 0, and block 3 is called 3.")
    if answer == "blocks.4.hook_resid_pre":
        raise Wrong("that is what enters block 4", "blocks are counted from 0, and block 3 is called 3.")
    component = re.fullmatch(r"blocks\.[0-5]\.(attn|mlp)\.hook_in", answer)
    if component:
        what = f"that is what one component reads ({component[1]}): the stream after a norm, which rescales it"
        raise Wrong(what, "look for 'resid'.")
    if re.fullmatch(r"blocks\.[0-5]\.((attn|mlp)\.hook_out|hook_(attn|mlp)_out)", answer):
        raise Wrong("that is what one component of the block writes, not the residual stream", "look for 'resid'.")
    if re.fullmatch(r"blocks\.[0-5]\.(attn|mlp)\.\w.*", answer):
        raise Wrong("that is inside one component of the block, not the residual stream", "look for 'resid'.")
    if answer == "blocks.3.hook_in":
        return "another name of blocks.3.hook_resid_pre"
    if answer in ("blocks.2.hook_resid_post", "blocks.2.hook_out"):
        return "the same vector as blocks.3.hook_resid_pre: what leaves block 2 enters block 3"
    if answer == "blocks.3.ln1.hook_in":
        return "the same vector as blocks.3.hook_resid_pre: the first norm of block 3 reads what enters the block"
    if answer == "blocks.3.hook_resid_pre":
        return None
    if re.fullmatch(r"blocks\.[0-5]\.hook_([qkv]_input|(attn|mlp)_in)", answer):
        raise Wrong(f"{answer} is switched off in this model: no cache holds it", "look for 'resid'.")
    stream, norm = r"hook_(resid_(pre|mid|post)|in|out)", r"hook_(in|out|scale|normalized)"
    ends = (
        rf"hook_(embed|pos_embed|unembed)|(un)?embed\.hook_(in|out)|rotary_emb\.hook_(in|out|cos|sin)|ln_final\.{norm}"
    )
    if re.fullmatch(rf"{ends}|blocks\.[0-5]\.({stream}|ln[12]\.{norm})", answer):
        raise Wrong(f"{answer} is another place in the model", "look for what enters block 3, which is called 3.")
    if answer != answer.strip():
        raise Wrong(f"there is a space at an end of {answer!r}", "take it away: names are compared letter by letter.")
    raise Wrong(f"{answer!r} is not a hook name of this model", "names look like blocks.0.hook_attn_out.")


def small_cache(seed: int = 0, *, n_layers: int = 3, batch: int = 2, tokens: int = 4, d_model: int = 5) -> Any:
    """Return an invented cache in which every entry is different, of the kind that `run_with_cache` returns."""
    from transformer_lens import ActivationCache  # slow to import

    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.randn(batch, tokens, d_model, generator=generator)

    entries, stream = {}, draw()
    for layer in range(n_layers):
        attn, mlp = draw(), draw()
        parts = {
            "resid_pre": stream,
            "attn_out": attn,
            "resid_mid": stream + attn,
            "mlp_out": mlp,
            "resid_post": stream + attn + mlp,
        }
        entries |= {f"blocks.{layer}.hook_{name}": value for name, value in parts.items()}
        stream = parts["resid_post"]
    return ActivationCache(entries, None)


def _drawn_cache(seed: int) -> tuple[Any, int]:
    """Return a cache of any size and one of its layers, every second time without the answer in it.

    Some are wide, deep, long or of large numbers; in some the first block comes last. Some are of a patched run, in which
    more is added to the stream between blocks than these write; in one of them, what leaves a block is patched, too, so that
    it is no longer the sum. The last is of the size of another, with other numbers.
    """
    like = 9 if seed == 19 else seed
    draw = random.Random(like)
    n_layers = MANY + 10 if seed % 10 == 4 else draw.randint(1, 14)
    cache = small_cache(
        seed,
        n_layers=n_layers,
        batch=few_or_many(seed, draw.randint(1, 4)),
        tokens=draw.choice((1, 3, 5 * MANY)) if n_layers < MANY else 2,
        d_model=WIDE if seed % 10 == 3 else draw.choice((2, 9, 40)),
    )
    layer = n_layers - 1 if like % 4 < 2 else draw.randrange(n_layers)
    layer = 1 if seed == 14 else layer  # of more than 11 blocks
    if seed % 10 in (1, 8):
        cache = _patched(cache, n_layers)
    if seed == 8:
        cache = type(cache)({name: each + 3 * name.endswith("resid_post") for name, each in cache.items()}, None)
    if seed % 10 == 5:
        cache = type(cache)({name: 300 * value for name, value in cache.items()}, None)
    if seed % 10 == 6:
        cache = type(cache)(dict(reversed(cache.items())), None)
    return _without_answers(cache) if seed % 2 else cache, layer


def _patched(cache: Any, n_layers: int) -> Any:
    """Return the cache with another vector in the stream between each two blocks, which leaves each block a sum."""
    entries = dict(cache.items())
    for layer, name in product(range(n_layers), ("resid_pre", "resid_mid", "resid_post")):
        entries[f"blocks.{layer}.hook_{name}"] = entries[f"blocks.{layer}.hook_{name}"] + 2 * layer
    return type(cache)(entries, None)


def _without_answers(cache: Any, leaves: str = "resid_post") -> Any:
    """Return the cache without one kind of entry: what leaves a block, which is also what enters the next one."""
    return type(cache)({name: value for name, value in cache.items() if leaves not in name}, None)


@exercise(
    "0.3",
    title="the stream is a sum",
    minutes=6,
    difficulty=2,
    inputs=_drawn_cache,
    hints=[
        "Entries of the same block: what entered, and what was written.",
        "resid_pre, attn_out, mlp_out.",
        'return cache[f"blocks.{layer}.hook_resid_pre"] + ... + ...',
    ],
)
def resid_post(answer):
    cache = small_cache()
    layer = 1
    part = {
        name: cache[f"blocks.{layer}.hook_{name}"]
        for name in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
    }
    got = expect.tensor(
        answer(cache, layer), like=part["resid_pre"], axes="batch token d_model", name="resid_post(cache, 1)"
    )
    kept = small_cache()
    if set(cache) != set(kept) or not all(torch.equal(cache[name], kept[name]) for name in kept):
        raise Wrong("your function changed `cache` in place", "build a new tensor: `x + y`, not `x += y`.")
    try:
        of_last = answer(cache, 2)
    except KeyError as error:
        if "blocks.3." not in str(error):
            raise
        of_last = None  # told below, if it is not one of the mistakes
    if of_last is not None and expect.same(got, of_last):
        raise Wrong("it gives the same for blocks 1 and 2", "use the argument `layer` in the hook names.")
    mistakes = (
        (part["resid_mid"], "the MLP's part is missing", "add hook_mlp_out of the same block."),
        (part["resid_pre"] + part["mlp_out"], "attention's part is missing", "add hook_attn_out of the same block."),
        (
            part["attn_out"] + part["mlp_out"],
            "what entered the block is missing",
            "each block adds to the stream; it does not replace it.",
        ),
        (
            part["resid_post"] + part["attn_out"],
            "attention is counted twice",
            "hook_resid_mid already holds what attention wrote.",
        ),
        (
            cache["blocks.0.hook_resid_post"],
            "that is the stream after the previous block",
            "use `layer`, not layer - 1.",
        ),
        (cache["blocks.2.hook_resid_post"], "that is the stream after the next block", "use `layer`, not layer + 1."),
        (
            part["resid_post"][:1].expand_as(part["resid_post"]),
            "the first prompt's stream was copied to all",
            "keep the batch axis: add the entries as they are.",
        ),
        (part["resid_pre"] * part["attn_out"] * part["mlp_out"], "the parts are multiplied", "the stream is a sum."),
        (part["resid_mid"] - part["mlp_out"], "what the MLP writes is subtracted", "every part is added."),
        (
            part["resid_pre"] - part["attn_out"] + part["mlp_out"],
            "what attention writes is subtracted",
            "every part is added.",
        ),
        ((part["resid_mid"] + part["mlp_out"]) / 3, "that is the mean of the three parts", "the stream is their sum."),
        (
            part["resid_post"] + cache["blocks.0.hook_attn_out"] + cache["blocks.0.hook_mlp_out"],
            "what the block before wrote is added once more",
            "hook_resid_pre already holds what all earlier blocks wrote: add this block's two parts only.",
        ),
        *(
            (
                part["resid_post"] - part[name] + cache[f"blocks.{other}.hook_{name}"],
                f"hook_{name} is that of block {other}, where block {layer} is asked for: right for one block only",
                "use `layer` in every hook name.",
            )
            for name in ("resid_pre", "attn_out", "mlp_out")
            for other in (0, 2)
        ),
    )
    for value, what, tip in mistakes:
        expect.differs_from(got, value, what, tip)
    if of_last is None:
        what = "it asks for what enters the next block, and after the last block there is none"
        raise Wrong(what, "add what the block's two components wrote to what entered it.")
    expect.close(got, part["resid_post"], name="resid_post(cache, 1)")
    for batch, tokens, few in ((1, 4, "one prompt"), (2, 1, "one token"), (1, 1, "one prompt of one token")):
        small = small_cache(batch=batch, tokens=tokens)
        like, name = small[f"blocks.{layer}.hook_resid_pre"], f"for {few}, resid_post(cache, 1)"
        expect.tensor(answer(small, layer), like=like, axes="batch token d_model", name=name)
    patched = {name: value + 3 * name.endswith("resid_post") for name, value in cache.items()}
    if expect.same(answer(type(cache)(patched, None), layer), part["resid_post"] + 3):
        raise Wrong(
            "it reads hook_resid_post, which it should compute, where the cache has it",
            "use what entered and what was written, whatever else the cache holds.",
        )
    try:
        answer(_without_answers(cache), layer)
    except KeyError:
        raise Wrong(
            "it reads hook_resid_post, which it should compute", "use what entered and what was written."
        ) from None
    try:
        answer(_without_answers(cache, "resid_mid"), layer)
    except KeyError:
        return "from two entries: hook_resid_mid is already what entered plus what attention wrote"
    return None


def _resid_post(cache, layer):
    return sum(cache[f"blocks.{layer}.hook_{name}"] for name in ("resid_pre", "attn_out", "mlp_out"))


@exercise(
    "0.4",
    title="subtract what is shared",
    minutes=6,
    difficulty=2,
    inputs=lambda seed: _vectors(seed),
    hints=[
        "What is the mean of the rows of `others`?",
        "others.mean(dim=0) has shape [d_model].",
        "directions.cosine(a - mean, b - mean)",
    ],
)
def centred_cosine(answer):
    a, b = torch.tensor([3.0, 1.0, 0.0]), torch.tensor([1.0, 3.0, 2.0])
    others = torch.tensor([[2.0, 1.0, 0.0], [1.0, 1.0, 0.0], [3.0, -2.0, 1.5], [0.0, 1.0, 1.0]])
    mean, square = others.mean(dim=0), others[:3]
    try:
        raw = answer(a, b, others)
    except RuntimeError:  # as many rows as columns: there the other mean fits
        expect.differs_from(
            answer(a, b, square),
            _cosine(a - square.mean(dim=1), b - square.mean(dim=1)),
            "the mean was taken over the entries of each row: one number per row",
            "take it over the rows: dim=0.",
        )
        raise
    refuse_one_in_a_row(raw, "centred_cosine(a, b, others)")
    value = expect.number(raw, name="centred_cosine(a, b, others)")
    mistakes = (
        (_cosine(a, b), "the mean was not subtracted", "subtract others.mean(dim=0) from both."),
        (_cosine(a - mean, b), "only a was centred", "subtract the mean from b as well."),
        (_cosine(a, b - mean), "only b was centred", "subtract the mean from a as well."),
        (_cosine(a - others.mean(), b - others.mean()), "the mean is one number", "take it over the rows: dim=0."),
        (_cosine(a + mean, b + mean), "the mean was added", "subtract it."),
        ((a - mean) @ (b - mean), "this is the inner product, without the lengths", "divide by both norms."),
        (
            _cosine(a - (a + b) / 2, b - (a + b) / 2),
            "the mean of a and b was used: the answer is always -1",
            "use the mean of `others`.",
        ),
        (
            _cosine(a - others[0], b - others[0]),
            "the first of the others was used, not their mean",
            "others.mean(dim=0).",
        ),
        (
            _cosine(a - others[-1], b - others[-1]),
            "the last of the others was used, not their mean",
            "others.mean(dim=0).",
        ),
        (
            _cosine(a - others.sum(dim=0) / 3, b - others.sum(dim=0) / 3),
            "the sum of the others was divided by one fewer than there are",
            "a mean divides by their number: others.mean(dim=0).",
        ),
        (_cosine(a - mean, b - mean).arccos(), "that is the angle, in radians", "the cosine itself is asked for."),
        (_cosine(a - mean, b - mean).square(), "that is the cosine squared", "the cosine itself is asked for."),
        (
            _cosine(a - (mixed := torch.stack([a, b, *others]).mean(dim=0)), b - mixed),
            "the mean holds a and b, too",
            "take the mean of `others` alone.",
        ),
        (
            (a - mean) @ (b - mean) / (a.norm() * b.norm()),
            "the inner product of the centred vectors was divided by the lengths of the raw ones",
            "divide by the norms of a - mean and b - mean.",
        ),
        (
            _cosine((a - mean) / others.std(dim=0), (b - mean) / others.std(dim=0)),
            "the vectors were also divided by the standard deviation",
            "subtract the mean, and leave the scale as it is.",
        ),
        (
            _cosine(a - (a @ mean) / (mean @ mean) * mean, b - (b @ mean) / (mean @ mean) * mean),
            "the mean was projected out",
            "subtract the mean itself.",
        ),
        (
            _cosine(a - others.median(dim=0).values, b - others.median(dim=0).values),
            "that is centred on the median",
            "subtract the mean of the rows.",
        ),
        (
            _cosine(a - mean - (a - mean).mean(), b - mean - (b - mean).mean()),
            "that is a correlation: each vector's own mean was subtracted as well",
            "subtract the mean of the rows, and no more.",
        ),
        (
            _cosine(a - a.mean(), b - b.mean()),
            "that is a correlation: each vector's own mean was subtracted",
            "subtract the mean of the rows of `others`.",
        ),
        *(
            (
                _cosine(directions.unit(a) - middle, directions.unit(b) - middle),
                "the vectors were normalised before the mean was subtracted",
                "subtract first; the cosine divides by the lengths that are left.",
            )
            for middle in (mean, directions.unit(mean), directions.unit(others).mean(dim=0))
        ),
    )
    for mistake, what, tip in mistakes:
        expect.differs_from(value, mistake, what, tip)
    expect.close(value, _centred_cosine(a, b, others), name="centred_cosine(a, b, others)")
    apart = expect.number(answer(a, 2 * mean - b, others), name="centred_cosine(a, b, others)")
    expect.differs_from(apart, value, "the cosine has lost its sign", "no abs: below 0 the two point apart.")


def _vectors(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return two vectors and few or many others, short or long, some of them more than once.

    Some are wide or tiny, or lie far from 0; some hold the same number more than once, and zeros.
    """
    draw = random.Random(seed)
    d_model, n, scale = draw.choice((2, 4, 9, 40)), draw.choice((1, 2, 4, 7, 30, 700)), draw.choice((0.03, 1.0, 30.0))
    d_model = WIDE if seed % 10 == 3 else d_model
    shared = (100 if seed % 10 == 6 else 3) * expect.random(d_model, seed=300 + seed)
    a, b = expect.random(2, d_model, seed=seed) + shared
    others = expect.random(n, d_model, seed=100 + seed) + shared
    if seed % 2:  # drawn again from themselves
        others = others[torch.tensor([draw.randrange(n) for _ in range(n)])]
    if seed % 10 == 4:
        a, b = torch.tensor([2.0, 2.0, 0.0, 1.0]), torch.tensor([0.0, 3.0, 0.0, 3.0])
        others = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 2.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0]])
        scale = 1.0
        if seed == 14:  # as many, of which the first is the same
            others[1:] += torch.tensor([1.0, 0.0, 3.0, 1.0])
    if seed in (9, 16):  # the same two, besides one other
        b, others = a.clone(), others[:1]
    if seed == 8:
        a, b, scale = torch.tensor([2.0, 3.0]), torch.tensor([1.0, -1.0]), 1e-5
        others = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    if seed == 18:  # one of the others is 0, and counts
        a, b, others = map(torch.tensor, ([2.0, 0.0], [0.0, 1.0], [[0.0, 0.0], [2.0, 2.0]]))
    return scale * a, scale * b, scale * others


def _centred_cosine(a, b, others):
    mean = others.mean(dim=0)
    return float(_cosine(a - mean, b - mean))


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return a @ b / (a.norm() * b.norm())


prediction(
    "0.p1", "Two requests, two models: how many of the four replies refuse?", bounds=(0, 4), unit=" of 4 replies"
)
prediction(
    "0.p2",
    "Before block 0, at how many tokens do the two residual streams differ?",
    bounds=(0, 11),
    unit=" of 11 tokens",
)
prediction(
    "0.p3",
    "Of 128 harmful requests on topics never refused in chat tuning, how many does chat refuse?",
    bounds=(0, 128),
    unit=" of 128 requests",
)

question(
    "0.q1",
    "Which statement does the base model's answer support?",
    options={
        "a": (
            "The base model is more helpful.",
            "Helpful is a judgement; the comparison only shows where refusal comes from.",
        ),
        "b": (
            "Chat tuning put the refusal there.",
            "Right: before tuning the model answers both, and after it refuses one.",
        ),
        "c": ("The base model does not know what a bomb is.", "As a friend it warned: it can tell a bomb from a kite."),
        "d": ("Refusal needs a bigger model.", "Both models have the same size."),
    },
    correct="b",
)
question(
    "0.q2",
    "What does `cache['blocks.2.hook_mlp_out']` hold?",
    options={
        "a": ("The whole residual stream after block 2.", "That is hook_resid_post; the MLP writes only a part of it."),
        "b": ("The weights of the MLP.", "A cache holds activations of one run, never weights."),
        "c": ("What the MLP of block 2 added to the stream, per token.", "Right: one vector for each token."),
        "d": (
            "The words the model will say.",
            "Words appear only at the very end, from what the last block leaves in the stream.",
        ),
    },
    correct="c",
)
question(
    "0.q3",
    "The streams of the two requests agree at every token left of 'bomb'. Why?",
    options={
        "a": ("Attention looks back only.", "Right: a token cannot be changed by a later one."),
        "b": ("The model ignores the first tokens.", "It reads them; they are just the same in both requests."),
        "c": ("The layers are too few.", "It holds in a model of any depth."),
        "d": ("Rounding.", "The difference is exactly zero."),
    },
    correct="a",
)
question(
    "0.q4",
    "A tool silently ignores an unknown hook name. What does your experiment show?",
    options={
        "a": ("That the activation does not matter.", "Nothing was changed, so nothing can be concluded."),
        "b": (
            "Nothing: it never took place.",
            "Right: no effect and no intervention look the same. This is why it is an error here.",
        ),
        "c": ("That the model is robust.", "It was not tested."),
        "d": ("That the hook was too weak.", "There was no hook."),
    },
    correct="b",
)
question(
    "0.q5",
    "Two raw activations have cosine 0.95. What follows?",
    options={
        "a": ("The model treats the two prompts alike.", "A large shared part can make any two look alike."),
        "b": ("They are on the same topic.", "Compare with other pairs first; all pairs may have 0.95."),
        "c": ("Nothing yet; compare with what is usual for other pairs.", "Right: a number needs its baseline."),
        "d": ("The layer is unimportant.", "Importance is measured by intervening, not by similarity."),
    },
    correct="c",
)
