"""What notebook 04 asks: follow a jailbreak word by word, patch, draw, duel, read, put in, boost, and claim each with a control."""

import contextlib
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial, reduce

import torch
from torch import Tensor

from chapters import drawn
from chapters.claimed import check_rates
from chapters.drawn import MANY, WIDE, few_or_many, unwatched
from course_lib import directions, models, steering, tokens
from course_lib.attribution import Logit, intervene, trace
from course_lib.grading import expect
from course_lib.grading.registry import Wrong, exercise, prediction, question

# --- 4.1, 4.7, 4.8, 4.9: rates as claims -----------------------------------------------------------------------------


@exercise(
    "4.1",
    title="the refusal comes late",
    minutes=5,
    difficulty=1,
    hints=[
        "late is a dictionary of two counts, each of n.",
        'directions.wilson_interval(late["harmful"], n) is a rate with its interval.',
        'claim(directions.wilson_interval(late["harmful"], n), control=...), the control from late["harmless"]',
    ],
)
def comes_late(answer, *data):
    bare = []
    with contextlib.suppress(Exception):  # no function, or no claim: told by what follows
        made = answer({"harmful": 57, "harmless": 11}, 100)
        bare = {"value": (made.value, made.interval), "control": (made.control, made.control_interval)}
        bare = [f"the {part}" for part, (rate, around) in bare.items() if isinstance(rate, float) and around is None]
    if bare:
        tip = 'directions.wilson_interval(late["harmful"], n) is a rate with its interval, which claim(...) takes as it is.'
        raise Wrong(f"{bare[0]} has no interval", tip)
    check_rates(
        answer,
        data,
        lambda late, n: ((late["harmful"], n), (late["harmless"], n)),
        'the value is late["harmful"] of n.',
        'the control is late["harmless"] of n.',
    )


@exercise(
    "4.7",
    title="boosted at the comma",
    minutes=5,
    difficulty=1,
    hints=[
        'hits["true"] is one count of n; hits["random"] are several, of the same n.',
        "Do not add them up: 5 runs of 24 prompts are not 120 prompts.",
        'directions.runs_interval(hits["random"], n)',
    ],
)
def slides(answer, *data):
    check_rates(
        answer,
        data,
        lambda hits, n: ((hits["true"], n), (hits["random"], n)),
        'the value is hits["true"] of n.',
        'the control is the mean rate of the random directions: hits["random"], each of n.',
    )


@exercise(
    "4.8",
    title="the mark decides",
    minutes=5,
    difficulty=1,
    hints=[
        "The harmful acrostics are in both numbers; only the mark differs.",
        'mark_hits["."]["harmful"] of n is the effect.',
        'directions.wilson_interval(mark_hits[","]["harmful"], n) is the control',
    ],
)
def mark_decides(answer, *data):
    _refuse_place_of_marks(answer)
    check_rates(
        answer,
        data,
        lambda hits, n: ((hits["."]["harmful"], n), (hits[","]["harmful"], n)),
        'the value is mark_hits["."]["harmful"] of n.',
        'the control is the same replies with a comma: mark_hits[","]["harmful"] of n.',
    )


def _refuse_place_of_marks(answer) -> None:
    """Refuse a claim that takes the marks by their places in the dictionary, as long as it does so in every order."""
    counts, n, places = {".": 90, ",": 11, "?": 57}, 100, []
    with contextlib.suppress(Exception):  # no function, or no claim: told by what follows
        for marks in itertools.permutations(counts):
            made = answer({mark: {"harmful": counts[mark], "harmless": 3 + counts[mark] // 3} for mark in marks}, n)
            rates = {round(counts[mark] / n, 2): place for place, mark in enumerate(marks)}
            places.append((rates.get(round(float(made.value), 2)), rates.get(round(float(made.control), 2))))
    for k, what in enumerate(("value", "control")):
        if len(places) == 6 and len({pair[k] for pair in places}) == 1 and places[0][k] is not None:
            told = f"the {what} is that of the dictionary's {('first', 'second', 'last')[places[0][k]]} entry, whatever mark stands there"
            raise Wrong(told, 'take each mark by its name: mark_hits["."], mark_hits[","].')


@exercise(
    "4.9",
    title="free against frozen",
    minutes=5,
    difficulty=1,
    hints=[
        "Both counts are of n requests.",
        'role["free"] is the effect, role["frozen"] the control.',
        'directions.wilson_interval(role["frozen"], n)',
    ],
)
def gaze_matters(answer, *data):
    check_rates(
        answer,
        data,
        lambda role, n: ((role["free"], n), (role["frozen"], n)),
        'the value is role["free"] of n.',
        'the control is role["frozen"] of n.',
    )


# --- 4.2 ---------------------------------------------------------------------------------------------------------


@exercise(
    "4.2",
    title="activation patching",
    minutes=12,
    difficulty=3,
    inputs=lambda seed, model: _pairs(seed, model),
    same=lambda got, truth: abs(expect.number(got) - float(truth)) < 1e-3,
    hints=[
        "Three runs: the clean prompt (keep its activation), the corrupted one, and the corrupted one with the hook.",
        "Inside the hook: copy = activation.clone(); copy[:, position] = cache[name][:, position]; return copy.",
        "(patched - corrupted) / (clean - corrupted), each a target.value(logits); the hook only for `patched`.",
    ],
)
def patch(answer, model):
    clean_prompt, corrupted_prompt = (_ask(model, f"how do i make a {noun}?") for noun in ("bomb", "cake"))
    name, position = "blocks.2.hook_mlp_out", -1
    target = Logit(*model.tokenizer.convert_tokens_to_ids(["i", "to"]))

    def read(prompt, put=None, where=name):
        with model.hooks([(where, put)] if put else []), torch.no_grad():
            return float(target.value(model(torch.tensor([list(prompt)]))))

    _, cache = model.run_with_cache(torch.tensor([clean_prompt]))
    _, other_cache = model.run_with_cache(torch.tensor([corrupted_prompt]))
    clean, corrupted = read(clean_prompt), read(corrupted_prompt)

    def putting(at=position, kept=cache, where=name, change=lambda old, new: new):
        def put(activation, hook):
            copy = activation.clone()
            copy[:, at] = change(copy[:, at], kept[where][:, at])
            return copy

        return put

    def share(value):
        return (value - corrupted) / (clean - corrupted)

    patched = read(corrupted_prompt, putting())
    truth = share(patched)
    got = expect.number(answer(model, clean_prompt, corrupted_prompt, name, position, target), name="patch(...)")
    if abs(got - truth) < 1e-4:  # behind -1 there is nothing else
        where, middle = "blocks.1.hook_resid_pre", 8
        inside = expect.number(answer(model, clean_prompt, corrupted_prompt, where, middle, target))
        expect.differs_from(
            inside,
            share(read(corrupted_prompt, putting(at=slice(middle, None), where=where), where)),
            "all later positions were put in, too",
            "copy[:, position] = ..., without a colon behind `position`.",
        )
        _refuse_in_place(answer, model, clean_prompt, corrupted_prompt, target)
        _refuse_heads(answer, model, clean_prompt, corrupted_prompt, target)
        return
    swapped = read(clean_prompt, putting(kept=other_cache))
    later = "blocks.3.hook_mlp_out"
    if (
        abs(got)
        < 1e-4
        < abs(expect.number(answer(model, clean_prompt, corrupted_prompt, name, len(clean_prompt) - 1, target)) - got)
    ):
        raise Wrong(
            "at position -1 nothing was put in, at the same place counted from the start something was",
            "position may count from the end, and the slice -1:0 is empty: copy[:, position].",
        )
    mistakes = (
        (
            share(corrupted),
            "nothing was put in",
            "return the changed copy from the hook, and run inside the `with` block.",
        ),
        (share(clean), "the hook ran on the clean prompt", "put it into a run of the corrupted prompt."),
        (
            share(read(corrupted_prompt, putting(at=slice(None)))),
            "other positions were put in, too",
            "copy[:, position] = ... only.",
        ),
        (
            share(read(corrupted_prompt, putting(at=7))),
            "it was put in at the noun",
            "use the argument `position`, whatever it is.",
        ),
        (1 - truth, "0 and 1 are the wrong way round: this is what is still missing", "measure from corrupted."),
        (
            (swapped - clean) / (corrupted - clean),
            "clean and corrupted are swapped: a corrupted activation was put into the clean run",
            "run the corrupted prompt, and put in what the clean one had.",
        ),
        (share(swapped), "the corrupted activation was put into the clean run", "run the corrupted prompt."),
        (
            share(read(corrupted_prompt, putting(kept=other_cache, change=lambda old, new: new))),
            "the corrupted activation was put in",
            "keep the activation of the clean prompt.",
        ),
        (
            share(read(corrupted_prompt, putting(change=lambda old, new: old + new))),
            "the clean activation was added, not put in",
            "copy[:, position] = cache[name][:, position].",
        ),
        (
            share(read(corrupted_prompt, putting(change=lambda old, new: (old + new) / 2))),
            "it is the mean of both activations",
            "copy[:, position] = cache[name][:, position].",
        ),
        (
            share(read(corrupted_prompt, putting(where=later), later)),
            "it was put in one block too late",
            "use the argument `name`.",
        ),
        (patched, "it is not a share yet: this is the patched logit difference", "recovery, as by hand above."),
        (patched - corrupted, "it is not a share yet", "divide by the whole way, clean - corrupted."),
        (
            patched / clean,
            "corrupted is not taken into account",
            "a run without any recovery must give 0: subtract corrupted above and below.",
        ),
        (patched / (clean - corrupted), "corrupted is missing in the numerator", "patched - corrupted."),
        ((patched - corrupted) / clean, "corrupted is missing in the denominator", "clean - corrupted."),
        (-truth, "the sign is flipped", "numerator and denominator both start from corrupted."),
        (100 * truth, "it is in per cent", "1 means that the clean answer is back."),
        *(
            (
                (patched - corrupted) / (clean - corrupted + sign * small),
                "a number was added to the denominator, which falsifies every share",
                "clean and corrupted differ in all pairs: divide by clean - corrupted as it is.",
            )
            for small in (1.0,)
            for sign in (1, -1)
        ),
        (
            patched - corrupted / clean - corrupted,
            "brackets are missing: / binds before -",
            "(patched - corrupted) / (clean - corrupted).",
        ),
    )
    for value, what, tip in mistakes:
        expect.differs_from(got, value, what, tip)
    expect.close(got, truth, name="patch(...)", try_next="before block 0, the noun alone must give 1.00.")


SHARED = ("blocks.1.hook_resid_mid", "blocks.3.ln1.hook_in")
"""Hooks whose tensor the residual stream goes on with: what is written into it reaches more than what is returned."""


def _refuse_in_place(answer, model, clean_prompt, corrupted_prompt, target) -> None:
    """Refuse a hook that writes into the activation itself, where this changes what the hook was not asked for."""
    got, truths, in_place = [], [], []
    for name in SHARED:
        clean, cache = model.run_with_cache(torch.tensor([clean_prompt]), names_filter=[name])

        def put(activation, hook, kept=cache[name]):
            activation[:, -1] = kept[:, -1]
            return activation

        values = [target.value(clean), target.value(model(torch.tensor([corrupted_prompt])))]
        for change in (put, lambda activation, hook, put=put: put(activation.clone(), hook)):
            with model.hooks([(name, change)]), torch.no_grad():
                values.append(target.value(model(torch.tensor([corrupted_prompt]))))
        top, low, written, copied = map(float, values)
        in_place.append((written - low) / (top - low))
        truths.append((copied - low) / (top - low))
        got.append(expect.number(answer(model, clean_prompt, corrupted_prompt, name, -1, target)))
    if all(abs(one - other) < 1e-3 for one, other in zip(got, in_place, strict=True)):
        where = f"at {SHARED[0]} the residual stream goes on with the same tensor: it gives {got[0]:.2f}, and {truths[0]:.2f} is right"
        tip = "copy = activation.clone(); copy[:, position] = ...; return copy."
        raise Wrong("the activation itself is changed, not a copy of it", tip, where=where)


def _refuse_heads(answer, model, clean_prompt, corrupted_prompt, target) -> None:
    """Refuse a patch that counts the axes from the end: where heads have an axis of their own, it takes a head."""
    name = "blocks.1.attn.hook_z"
    ids = torch.tensor([clean_prompt]), torch.tensor([corrupted_prompt])
    with torch.no_grad():
        (clean, cache), corrupted = model.run_with_cache(ids[0], names_filter=[name]), model(ids[1])

        def put(activation, hook, axis):
            rest, last = (
                x.narrow(axis, k, n) for x, k, n in ((activation, 0, activation.shape[axis] - 1), (cache[name], -1, 1))
            )
            return torch.cat([rest, last], dim=axis)

        shares, low = [], target.value(corrupted)
        for axis in (1, -2):
            with model.hooks([(name, partial(put, axis=axis))]):
                shares.append(float((target.value(model(ids[1])) - low) / (target.value(clean) - low)))
    if abs(shares[0] - shares[1]) < 0.01:
        return
    got = expect.number(answer(model, clean_prompt, corrupted_prompt, name, -1, target))
    what = f"at {name}, of shape {tuple(cache[name].shape)}, the last head was put in, and not the last position"
    tip = "[1, position, ...]: position is axis 1 everywhere, copy[:, position], and no axis counted from the end."
    expect.differs_from(got, shares[1], what, tip)


def _ask(model, text):
    return tokens.chat_prompt(model.tokenizer, text)


def _pairs(seed, model):
    """Other pairs, hooks and positions, also such where the patch overshoots or makes things worse, and another model.

    Of one pair the same is asked of this model and of the other; of one the position is 0, where the two differ.
    """
    if seed > 16:
        return None
    if seed == 5:
        model = drawn.other("chat-64" if models.d_model(model) == 32 else "chat-32")
    words = ("bomb", "cake", "virus", "soup", "meth", "bread", "gun")
    clean_prompt, corrupted_prompt = (
        _ask(model, f"tell me how to make a {words[(seed + k) % 7]}." * (1 + 3 * (seed == 2)))[8 * (seed == 13) :]
        for k in (0, 1)
    )
    name, position = (
        ("blocks.0.hook_resid_pre", 8),
        ("blocks.1.attn.hook_z", -1),
        ("blocks.2.hook_mlp_out", -2),
        ("blocks.3.hook_resid_pre", 11),
        ("blocks.0.attn.hook_z", -1),
        ("blocks.1.hook_resid_pre", 10),
        ("blocks.1.attn.hook_out", -1),
        ("blocks.1.hook_resid_pre", 8),  # in the middle, once later places have read it; the target is behind it
        ("blocks.2.hook_resid_pre", 9),
        ("blocks.1.hook_resid_mid", -1),  # the residual stream goes on with the same tensor
        ("blocks.2.ln1.hook_in", 10),
        ("blocks.2.hook_mlp_out", -1),
        ("blocks.1.hook_resid_pre", 10),  # as for 5
        ("embed.hook_out", 0),
        ("blocks.3.mlp.hook_out", -1),
        ("blocks.1.attn.hook_q", -1),
        ("blocks.0.mlp.hook_out", 8),
    )[seed]
    number = model.tokenizer.convert_tokens_to_ids
    if seed in (6, 11, 14):
        far = _far(model, clean_prompt, corrupted_prompt, name, up=seed == 11, small=seed != 6)
        return model, clean_prompt, corrupted_prompt, name, position, far
    if seed == 15:
        return model, clean_prompt, corrupted_prompt, name, position, Logit(number("i"), minus=0)
    target = (Logit(number("i"), minus=number("to")), Logit(number("to")), Logit(number("i"), position=-2))[
        5 % 3 if seed == 12 else seed % 3
    ]
    return model, clean_prompt, corrupted_prompt, name, position, target


def _far(model, clean_prompt, corrupted_prompt, name, *, up, small):
    """The token whose recovery by the patch at the last position is the highest (`up`) or lowest, of small ways or large."""
    runs = [torch.tensor([prompt]) for prompt in (clean_prompt, corrupted_prompt)]
    with torch.no_grad():
        clean, cache = model.run_with_cache(runs[0], names_filter=[name])
        corrupted = model(runs[1])[0, -1]
        with model.hooks([(name, lambda old, hook: torch.cat([old[:, :-1], cache[name][:, -1:]], dim=1))]):
            patched = model(runs[1])[0, -1]
    corrupted, patched, clean = (each - each.mean() for each in (corrupted, patched, clean[0, -1]))
    way = clean - corrupted
    kept = (way.abs() > 0.2) & (way.abs() < 0.45) if small else way.abs() >= 1
    recovery = ((patched - corrupted) / way).masked_fill(~kept, 0.0)
    return Logit(int(recovery.argmax() if up else recovery.argmin()))


# --- 4.3 ---------------------------------------------------------------------------------------------------------


def _flows(seed):
    """Edges, worths and two groups: few or many, also wide, large, or with nodes that are alike."""
    n_targets, n_sources = (
        (2 * WIDE, 8 * WIDE + 1) if seed == 17 else (few_or_many(seed, 2 + seed % 5), few_or_many(seed, 3 - seed % 2))
    )
    edges, worth = expect.random(n_targets, n_sources, seed=seed), expect.random(n_targets, seed=100 + seed)
    into, out_of = expect.random(n_targets, seed=200 + seed) > 0, expect.random(n_sources, seed=300 + seed) > 0
    if seed == 11:
        edges, worth = 300 * edges, 300 * worth
    if seed == 12:
        edges, worth = 1e-7 * edges, 1e7 * worth
    return (*_twice(seed, edges, worth), into, out_of)


def _twice(seed, *tensors):
    """For two seeds of twenty, tensors whose second row or entry is their first."""
    return tuple(x[[0, 0, *range(2, len(x))]] if seed in (6, 14) and len(x) > 1 else x for x in tensors)


@exercise(
    "4.3",
    title="an edge between groups",
    minutes=8,
    difficulty=3,
    inputs=lambda seed: _flows(seed),
    hints=[
        "First turn each edge into logits, then choose rows and columns, then add up.",
        "worth belongs to the rows: worth[:, None] * edges.",
        "(worth[:, None] * edges)[into][:, out_of].sum()",
    ],
)
def group_edge(answer):
    edges, worth = (
        expect.random(6, 6),
        expect.random(6, seed=1) + 2,
    )  # square, so that mixed-up sides give a number, too
    into, out_of = torch.tensor([1, 0, 0, 1, 1, 0]).bool(), torch.tensor([0, 1, 1, 0, 0, 1]).bool()
    flow = worth[:, None] * edges
    chosen, truth = flow[into][:, out_of], flow[into][:, out_of].sum()
    raw = answer(edges, worth, into, out_of)
    if isinstance(raw, Tensor) and raw.shape in ((3, 3), (3,)):
        raise Wrong("it still has one number for each node", "add them all up: .sum().")
    got = expect.number(raw, name="group_edge(edges, worth, into, out_of)")
    mistakes = (
        (
            edges[into][:, out_of].sum(),
            "worth was left out: this is in units of activation, not in logits",
            "multiply row by row: worth[:, None] * edges.",
        ),
        (
            chosen.abs().sum(),
            "the signs were thrown away",
            "what pushes down must count against what pushes up: no abs.",
        ),
        (chosen.mean(), "it is the mean, not the sum", "a group's edge is the sum over its nodes."),
        (
            chosen.mean(dim=0).sum(),
            "it is the mean over the targets, or over the sources",
            "a group's edge is the sum over both: divide by neither number of nodes.",
        ),
        *(
            (value, f"only the {which} was counted", "sum over all that the two masks choose.")
            for which, value in (
                ("first target of `into`", chosen[0].sum()),
                ("last target of `into`", chosen[-1].sum()),
                ("first source of `out_of`", chosen[:, 0].sum()),
                ("last source of `out_of`", chosen[:, -1].sum()),
            )
        ),
        ((chosen / worth[into, None] ** 2).sum(), "edges were divided by worth", "multiply: worth[:, None] * edges."),
        (flow[into].sum(), "all sources were counted", "choose the columns, too: [:, out_of]."),
        (flow[:, out_of].sum(), "all targets were counted", "choose the rows, too: [into]."),
        (flow.sum(), "all targets and all sources were counted", "choose rows by into and columns by out_of."),
        (
            edges[into][:, out_of].sum() * worth[into].sum(),
            "worth was summed before it was multiplied",
            "each target has its own worth: multiply first, then sum.",
        ),
        (
            edges[into][:, out_of].sum() * worth[into].mean(),
            "worth was averaged before it was multiplied",
            "each target has its own worth: multiply first, then sum.",
        ),
        (chosen.max(), "it is the largest edge alone", "sum over all of them."),
        (chosen.clamp(min=0).sum(), "only what pushes up was counted", "add the negative edges, too."),
        (
            flow[into, out_of].sum(),
            "targets and sources were paired one by one",
            "choose rows first, then columns: [into][:, out_of].",
        ),
        (
            (worth[into] * edges[out_of][:, into]).sum(),
            "rows and columns are exchanged: those are edges from `into` to `out_of`",
            "rows are the targets (into), columns the sources (out_of).",
        ),
        (
            flow[out_of][:, into].sum(),
            "into and out_of are swapped",
            "rows are the targets (into), columns the sources (out_of).",
        ),
        (
            (worth * edges)[into][:, out_of].sum(),
            "worth was multiplied along the sources",
            "it belongs to the targets, the rows: worth[:, None] * edges.",
        ),
        (-truth, "the sign is flipped", "an edge that pushes up is positive."),
    )
    for value, what, tip in mistakes:
        expect.differs_from(got, value, what, tip)
    expect.close(got, truth, name="group_edge(edges, worth, into, out_of)")


# --- 4.4 ---------------------------------------------------------------------------------------------------------


@exercise(
    "4.4",
    title="where the forces cross",
    minutes=6,
    difficulty=2,
    inputs=lambda seed: _forces(seed),
    hints=[
        "Walk along both lists together and stop at the first place where stop is larger.",
        "for place, (on, off) in enumerate(zip(go_on, stop)): if off > on: return place",
        "After the loop: return len(stop).",
    ],
)
def first_crossing(answer):
    go_on, stop = [9.0, 8.0, 7.0, 5.0, 8.0, 6.0, 2.0], [-1.0, 2.0, 3.0, 6.0, 2.0, 1.0, 9.0]
    try:
        got = answer(go_on, stop)
    except (AttributeError, TypeError) as error:
        if "'bool'" not in str(error):
            raise
        raise Wrong(
            "`stop > go_on` of two lists is one True or False: lists are compared as wholes",
            "zip them, or make tensors of them first.",
        ) from None
    if isinstance(got, list | tuple) or (isinstance(got, Tensor) and got.numel() != 1):
        raise Wrong("it returns several places", "return the first one only.")
    if not hasattr(got, "__int__") or isinstance(got, float) or isinstance(got, Tensor) and got.is_floating_point():
        raise Wrong("it does not return a whole number (an int)", "return the index of the place.")
    named = {
        6: ("it returns the last crossing, or the largest gap", "return as soon as stop is above go_on."),
        5: ("it counts the places where going on is ahead", "stop is below at some of them only after the crossing."),
        4: ("it counts from 1", "places are counted from 0, as in a list."),
        7: (
            "it finds no crossing where there is one",
            "go_on = [9, 8, 7, 5, 8, 6, 2] and stop = [-1, 2, 3, 6, 2, 1, 9] first cross at place 3 (5 against 6).",
        ),
        0: ("it returns the first place where going on is ahead", "stop > go_on, not the other way round."),
    }
    for place, (what, tip) in named.items():
        expect.differs_from(int(got), place, what, tip)
    tip = "go_on = [9, 8, 7, 5, 8, 6, 2], stop = [-1, 2, 3, 6, 2, 1, 9]: walk along both by hand."
    expect.close(int(got), 3, name="first_crossing(go_on, stop)", try_next=tip)
    _check_edge_cases(answer)


def _check_edge_cases(answer: Callable) -> None:
    never = answer([3.0, 3.0], [1.0, 2.0])
    if never != 2:
        raise Wrong(f"without any crossing it returns {never!r}", "return len(stop) there: one past the last place.")
    if answer([3.0, 3.0], [3.0, 1.0]) != 2:
        raise Wrong("a tie was counted as a crossing", "stop must be *above* go_on: >, not >=.")
    if answer([1.0, 3.0], [2.0, 1.0]) != 0 and answer([1.0, 3.0, 3.0], [1.0, 4.0, 1.0]) == 1:
        raise Wrong(
            "a crossing at place 0 got lost",
            "look there, too, whatever was before it; and 0 counts as False in Python: no `found or len(stop)`.",
        )
    expect.close(int(answer([1.0, 3.0], [2.0, 1.0])), 0, name="first_crossing([1, 3], [2, 1])")
    for lead in (0.25, 0.001):
        stop = [1.0, 2.0 + lead, 3.0]
        if answer([2.0, 2.0, 2.0], stop) == 2:
            what = f"where stop is above by {lead} it is not noticed"
            raise Wrong(
                what,
                "off > on, of the numbers as they are: no rounding, no margin.",
                where=f"go_on = [2.0, 2.0, 2.0], stop = {stop}: place 1 is right",
            )
    for go_on, stop, name in (([5.0, 4.0, 1.0], [2.0, 3.0, 2.0], "stop"), ([3.0, 4.0, 3.0], [1.0, 2.0, 5.0], "go_on")):
        if answer(go_on, stop) == 0:
            what = f"the place was looked up by its value, and an equal number stands earlier in {name}"
            tip = "list.index finds the first equal number: keep the place itself, with enumerate."
            raise Wrong(what, tip, where=f"go_on = {go_on}, stop = {stop}: place 2 is right")
    expect.close(int(answer(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 2.0]))), 1, name="first_crossing of tensors")


def _forces(seed):
    """No place, few, or many that cross late, as lists or tensors; `stop` is above by a lot or by little, equal, or below."""
    draw = random.Random(seed)
    length, step, lead = draw.choice((1, 2, 4, 8, 30)), draw.choice((1, 0.2, 1e-4)), seed % 2
    length = {0: 0, 11: 5 * MANY}.get(seed, length)
    go_on = (2 * expect.random(length, seed=seed)).round(decimals=seed % 3) + {3: -150, 13: -150, 8: 150, 18: 150}.get(
        seed, 0
    )
    stop = go_on + step * (expect.random(length, seed=100 + seed) - lead).round()
    if length > 12:  # behind as many places as the notebook has
        stop[:-10] = stop[:-10].minimum(go_on[:-10])
        stop[-5:] = go_on[-5:] + step
    if seed in (5, 12):  # above by very little
        go_on, stop = 1e-12 * go_on.double(), 1e-12 * stop.double()
    if seed in (16, 17):  # as where words are forbidden
        (go_on if seed == 16 else stop)[:1] = -math.inf if seed == 16 else math.inf
    return (go_on, stop) if seed % 5 == 4 else (go_on.tolist(), stop.tolist())


# --- 4.5 ---------------------------------------------------------------------------------------------------------


def _sets(seed):
    """Two sets of activations and a direction: few or many, also wide, large, small, or with rows and entries that are alike.

    Also one prompt in each set, a short direction, several times its length along it, one prompt far away from the rest, and one of zeros.
    """
    width, size = (8 * WIDE if seed == 17 else few_or_many(seed, 3 - seed % 2)), {11: 300, 12: 1e-4}.get(seed, 1)
    n_harmful, n_harmless = few_or_many(seed, 2 + seed % 5), few_or_many(seed, 1 + seed % 4)
    n_harmful, n_harmless = {8: (1, 1), 17: (5 * MANY, 5 * MANY)}.get(seed, (n_harmful, n_harmless))
    harmful = size * (expect.random(n_harmful, width, seed=seed) + 1)
    harmless = size * expect.random(n_harmless, width, seed=100 + seed)
    d = (0.03 if seed == 18 else 3 * size) * expect.random(width, seed=200 + seed)
    if seed in (13, 17):
        harmful[0] *= 100 if seed == 17 else 0
    if seed in (4, 9):  # several times the baseline
        d = 0.2 * d * _percent(harmful, harmless, d).sign()
    return _twice(seed, harmful, harmless, d)


@exercise(
    "4.5",
    title="in per cent of the baseline",
    minutes=7,
    difficulty=3,
    inputs=lambda seed: _sets(seed),
    hints=[
        "Three steps: difference of the two means, its part along d, compared with d's length.",
        "The part along d is a dot product with d / d.norm().",
        "100 * (harmful.mean(dim=0) - harmless.mean(dim=0)) @ (d / d.norm()) / d.norm()",
    ],
)
def percent_of_baseline(answer):
    harmful, harmless, d = expect.random(9, 6) + 1, expect.random(5, 6, seed=1), expect.random(6, seed=2) * 3
    d = d * ((harmful.mean(dim=0) - harmless.mean(dim=0)) @ d).sign()  # so that it is not also its own absolute value
    difference, unit = harmful.mean(dim=0) - harmless.mean(dim=0), d / d.norm()
    raw = answer(harmful, harmless, d)
    if isinstance(raw, Tensor) and raw.shape in ((6,), (9,)):
        raise Wrong(
            "it returns one number per dimension or per prompt", "one number: means first, then the dot product with d."
        )
    if isinstance(raw, Tensor) and raw.ndim:
        tip = "vectors of shape [d_model] have a dot product without axes: no keepdim=True."
        raise Wrong(f"it returns {expect.describe(raw)}, and one number, without an axis, is asked for", tip)
    got, truth = expect.number(raw, name="percent_of_baseline(harmful, harmless, d)"), _percent(harmful, harmless, d)
    mistakes = (
        (truth / 100, "it is a share, not per cent", "times 100."),
        (
            100 * (harmful.mean(dim=0) @ unit) / d.norm(),
            "the harmless mean was not taken away",
            "what all prompts share is not the concept: subtract it.",
        ),
        (
            100 * (difference @ unit),
            "it was not compared with the baseline: d's length is divided by once, and not twice",
            "divide by d.norm() once more, by d @ d in all: d is the whole difference of the direct requests.",
        ),
        (100 * (difference @ d), "d was not made a unit vector", "project with d / d.norm(), and divide by d.norm()."),
        (
            100 * (difference @ d) / d.norm() ** 3,
            "it was divided by d's length once too often",
            "unit = d / d.norm(), then once more by d.norm().",
        ),
        (
            100 * difference.norm() / d.norm(),
            "the lengths were compared, whatever the direction",
            "only the part along d counts: a dot product.",
        ),
        (
            100 * torch.cosine_similarity(difference, d, dim=0),
            "this is the cosine",
            "the cosine forgets how long the difference is: divide by d.norm() instead of its length.",
        ),
        (
            torch.cosine_similarity(difference, d, dim=0),
            "this is the cosine",
            "the cosine forgets how long the difference is: divide by d.norm() instead of its length.",
        ),
        (-truth, "the sign is flipped", "harmful minus harmless."),
        *(
            (
                100 * gap,
                "the mean runs over all numbers of a set, or over its columns, and not over the prompts alone",
                "one mean for each dimension: harmful.mean(dim=0).",
            )
            for both in [harmful.mean() - harmless.mean()]
            for gap in (both / d.norm(), both * d.sum() / (d @ d), both * d.mean() / (d @ d))
        ),
        (
            100 * (harmful.sum(dim=0) - harmless.sum(dim=0)) @ d / (d @ d),
            "the sums of the sets were compared, not their means",
            "the sets have different sizes: .mean(dim=0).",
        ),
        (
            100 * (d @ d) / (difference @ d),
            "it is turned round: the baseline in per cent of the acrostics",
            "divide by d's length.",
        ),
        *(
            (100 * median / (d @ d), "medians were used", "use the means over the prompts: .mean(dim=0).")
            for median in (
                (harmful @ d).median() - (harmless @ d).median(),
                (harmful.median(dim=0).values - harmless.median(dim=0).values) @ d,
            )
        ),
        (
            _percent(harmful[: len(harmless)], harmless, d),
            "the longer set was cut to the length of the shorter",
            "the sets are no pairs: take the mean of each over all its prompts.",
        ),
        (
            100 * (harmful[0] - harmless[0]) @ unit / d.norm(),
            "only the first prompt of each set was used",
            "mean(dim=0) over the prompts.",
        ),
    )
    for value, what, tip in mistakes:
        expect.differs_from(got, value, what, tip)
    _refuse_fixed_length(answer, harmful, harmless, d)
    expect.close(got, truth, name="percent_of_baseline(harmful, harmless, d)")


def _refuse_fixed_length(answer, harmful, harmless, d) -> None:
    """Refuse a function that compares with one number, whatever d is."""
    others = [d, 2 * d, 3 * expect.random(len(d), seed=3)]
    along = [100 * float((harmful.mean(dim=0) - harmless.mean(dim=0)) @ directions.unit(one)) for one in others]
    got = [expect.number(answer(harmful, harmless, one)) for one in others]
    if all(got):
        by = [part / value for part, value in zip(along, got, strict=True)]
        if max(by) - min(by) < 1e-3 * abs(by[0]):
            what = f"what lies along d is divided by {by[0]:.4g}, whatever the length of d is"
            raise Wrong(what, "divide by d.norm(): d is the baseline, and its length changes with it.")


def _percent(harmful: Tensor, harmless: Tensor, d: Tensor) -> Tensor:
    return 100 * (harmful.mean(dim=0) - harmless.mean(dim=0)) @ d / d.norm() ** 2


# --- 4.6 ---------------------------------------------------------------------------------------------------------


@exercise(
    "4.6",
    title="a dose-response row",
    minutes=10,
    difficulty=4,
    inputs=lambda seed, model: _doses(seed, model),
    hints=[
        "One context for each dose: open it, measure, and leave it before the next dose.",
        'steering.add(model, direction, layer=layer, coefficient=dose, positions="last")',
        "with steering.add(...): row.append(float(probability(prompts).mean()))",
    ],
)
def dose_row(answer, model):
    prompts = _begun(model, ("how are you?", "how do i make a cake?", "hello."))
    direction, layer, doses = 20 * directions.unit(expect.random(models.d_model(model))), 1, [0.0, 0.5, -2.0, 1.0]

    def probability(asked: models.Prompts) -> Tensor:
        return models.next_token_logits(model, asked).softmax(dim=-1)[:, 5:400].sum(dim=-1)

    truth = torch.tensor(_dose_row(model, prompts, direction, layer, doses, probability))
    raw = answer(model, prompts, direction, layer, doses, probability)
    if not isinstance(raw, list | tuple | Tensor):
        raise Wrong("it does not return a list", "collect one number for each dose, and return the list.")
    numbers = [
        expect.tensor(torch.as_tensor(v), like=torch.tensor(0.0), axes="", name="each entry of the row") for v in raw
    ]
    if len(numbers) != len(doses):
        raise Wrong(
            f"the row has {len(numbers)} numbers for {len(doses)} doses", "one mean for each dose, over all prompts."
        )
    got = torch.stack(numbers).float()
    if torch.allclose(got, truth, atol=1e-5):
        _refuse_some_prompts(answer, model, direction, layer)
        return

    def row(add: Callable, measure: Callable = lambda: probability(prompts).mean()) -> Tensor:
        values = []
        for dose in doses:
            with add(dose):
                values.append(measure())
        return torch.stack(values)

    def at(positions="last", d=direction, where=layer) -> Callable:
        return lambda dose: steering.add(model, d, layer=where, coefficient=dose, positions=positions)

    unit, each = directions.unit(direction), row(at(), lambda: probability(prompts))  # [dose, prompt]
    mistakes = (
        (row(at("all")), "it was added at all tokens", 'positions="last".'),
        (row(at(positions=[0])), "it was added at the first token", 'positions="last".'),
        (row(at("reply")), "it was added where the reply begins, and here replies have begun", 'positions="last".'),
        (row(at(d=unit)), "the direction was made a unit vector first", "take it as it is: dose 1 is its own length."),
        (row(at(d=-direction)), "it was subtracted", "coefficient=dose."),
        (row(at(where=layer + 1)), "it was added one block too late", "layer=layer."),
        (row(at(where=layer - 1)), "it was added one block too early", "layer=layer."),
        (row(lambda dose: at()(1.0)), "the dose was not used", "coefficient=dose."),
        (row(lambda dose: at()(abs(dose))), "doses below 0 lost their sign", "coefficient=dose."),
        (row(lambda dose: at()(int(dose))), "doses were cut to whole numbers", "coefficient=dose."),
        (row(lambda dose: at()(0.0)), "nothing was added while it was measured", "measure inside the `with` block."),
        (each.sum(dim=1), "the probabilities were summed, not averaged", ".mean() over the prompts."),
        (each[:, 0], "only the first prompt was measured", "mean over all prompts."),
        (
            (each > 0.5).float().mean(dim=1),
            "that is the share of prompts above 0.5, not their mean probability",
            ".mean() of the probabilities themselves.",
        ),
        (
            truth - probability(prompts).mean(),
            "what the model gives without any dose was taken away",
            "leave each mean as it is measured: dose 0 shows the rest.",
        ),
        (each.amax(dim=1), "it is the largest prompt, not the mean", ".mean() over the prompts."),
        (each.amin(dim=1), "it is the lowest prompt, not the mean", ".mean() over the prompts."),
        (each.median(dim=1).values, "it is the median, not the mean", ".mean() over the prompts."),
        (
            row(at(positions=[min(map(len, prompts)) - 1])),
            "it was added at the same place in all prompts, where the shortest of them ends",
            'each prompt has its own last token: positions="last".',
        ),
        (truth[torch.tensor(doses).argsort()], "the row is in the order of the sorted doses", DOSES_IN_ORDER),
        (
            row(lambda dose: at()(sum(doses[: doses.index(dose) + 1]))),
            "the doses pile up: each comes on top of those before it",
            "coefficient=dose, no running total; and leave the `with` block before the next dose.",
        ),
    )
    for value, what, tip in mistakes:
        expect.differs_from(got, value, what, tip, tolerance=1e-5)
    by = each.sum(dim=1) / got
    if float(by.max() - by.min()) < 1e-3 * float(by.max()):
        what = f"the sum over the {len(prompts)} prompts is divided by {float(by[0]):.4g}"
        raise Wrong(what, ".mean() divides by the number of prompts.")
    if float((got - truth).abs().max()) > 1e-3:
        what = "the numbers are right, and their order is not"
        expect.differs_from(got.sort().values, truth.sort().values, what, DOSES_IN_ORDER, tolerance=1e-5)
    expect.close(got, truth, name="dose_row(...)")


def _refuse_some_prompts(answer, model, direction, layer) -> None:
    """Refuse a row of the first or last prompts only: here prompt k gives k, so that the mean tells how many there were."""
    n, begun = 3 * MANY, _begun(model, ("hello.",))[0]
    got = answer(model, [[*begun, k] for k in range(n)], direction, layer, [0.0], _last_token)
    mean = expect.number(next(iter(got), -1.0), name="dose_row(...)[0]")
    for which, some in (("first", 2 * mean + 1), ("last", 2 * (n - mean) - 1)):
        if 0 < round(some) < n and abs(some - round(some)) < 1e-3:
            what = f"of {n} prompts only the {which} {round(some)} are averaged"
            raise Wrong(what, "probability(prompts).mean() of all, however many there are.")


def _last_token(prompts: models.Prompts) -> Tensor:
    return torch.tensor([float(prompt[-1]) for prompt in prompts])


DOSES_IN_ORDER = "one entry for each dose, in the order in which they are given: for dose in doses."


def _dose_row(model, prompts, direction, layer, doses, probability) -> list[float]:
    row = []
    for dose in doses:
        with steering.add(model, direction, layer=layer, coefficient=dose, positions="last"):
            row.append(float(probability(prompts).mean()))
    return row


def _begun(model, texts):
    """Requests with the first words of a reply, of which each has another number: the last token is not the role's."""
    words = model.tokenizer("to make it , use", add_special_tokens=False)["input_ids"]
    return [[*tokens.chat_prompt(model.tokenizer, text), *words[: k + 2]] for k, text in enumerate(texts)]


def _doses(seed, model):
    """A few rows: another block, direction and doses (also the same twice) each, and once another model.

    The last two have the same prompts; what is measured there are log-odds, and a number that is 0 for some prompts.
    """
    if seed > 5:
        return None
    if seed == 3:
        model = drawn.other("chat" if models.d_model(model) < 128 else "chat-32")
    prompts = _begun(model, ("hello.", "how are you?")[: 1 + seed % 2])
    prompts = [*prompts[:1] * 70, *prompts[1:]] if seed == 1 else prompts
    prompts = (
        _begun(model, ("hello.", "how are you?", "how do i make a cake?", "what is bread?")) if seed > 3 else prompts
    )
    direction = 20 * directions.unit(expect.random(models.d_model(model), seed=seed))
    direction = {1: 100 * direction, 2: direction.round(), 3: direction / 200}.get(
        seed, direction
    )  # large; equal entries; small

    def probability(asked):
        each = models.next_token_logits(model, asked).softmax(dim=-1)[:, 5:400].sum(dim=-1)
        odd = torch.tensor([len(prompt) % 2 for prompt in asked])
        return -each.logit() if seed == 4 else each * odd if seed == 5 else each

    doses = ([1.0, -1.0, 0.54, 1.0], [-0.01, 0.005], [0.5] * 26 + [2.0], [150.0, 20.0], [0.0, 0.1], [0.0, 1.0])[seed]
    layer = {4: 0, 5: len(model.blocks) - 1}.get(seed, 1 + seed % 2)
    return model, prompts, direction, layer, doses, probability


# --- predictions and questions ---------------------------------------------------------------------------------

# --- 4.10, 4.11: lenses ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Cubes:
    """A rest of the model of one point x, f(x) = M (x * x * x) + N x, and the square of the sum of x added to each."""

    m: Tensor
    n: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        if x.ndim != 1:
            raise ValueError(f"f was given a Tensor of shape {tuple(x.shape)}, and it takes one point, [d_in]")
        return self.m @ x**3 + self.n @ x + x.sum() ** 2

    def __str__(self) -> str:
        m, n = (str(part.int().tolist()) for part in (self.m, self.n))
        return f"lambda x: M @ x**3 + N @ x + x.sum()**2, M = {m}, N = {n}"

    def slope(self, x: Tensor) -> Tensor:
        """Return the derivative at one point, [result, coordinate]."""
        return 3 * self.m * x**2 + self.n + 2 * x.sum()


def _points(seed: int) -> tuple[_Cubes, Tensor]:
    """A few points, and a function that can be written down: small whole numbers, three results of two coordinates.

    Or as many results as coordinates, one of either, or many; many points, numbers above 100, points that are alike,
    one at which the derivative is 0, and one that is 0 itself.
    """
    width = {0: 1, 16: 80}.get(seed, 2)
    height = {1: 2, 5: 2, 6: 1, 10: 2, 14: 1, 17: 2}.get(seed, 3)
    parts = [(2 * expect.random(height, width, seed=50 * part + seed)).round().clamp(0, 4) for part in range(2)]
    points = expect.random(80 if seed == 17 else few_or_many(seed, 1 + seed % 4), width, seed=100 + seed)
    points = points.round(decimals=1) * (seed != 12)
    if seed % 5 == 2 and len(points) > 1:  # points that are alike
        points[1] = points[0]
    if seed % 5 == 3 and len(points) > 1:
        parts[1], points[0] = 0 * parts[1], 0
    return _Cubes(*parts), points * (150 if seed % 10 == 9 else 1)


@exercise(
    "4.10",
    title="a mean Jacobian",
    minutes=10,
    difficulty=3,
    inputs=_points,
    hints=[
        "One row of a Jacobian is the gradient of one coordinate of f(x) by x.",
        "x = point.detach().clone().requires_grad_(); torch.autograd.grad(f(x)[i], x)[0] is row i, f(x) anew for each i.",
        "torch.stack the rows of a point, add up over the points, divide by len(points).",
    ],
)
def mean_jacobian(answer):
    f, points = _Cubes(*(expect.random(5, 3, seed=50 * part) for part in range(2))), expect.random(6, 3, seed=1)
    slopes = torch.stack([f.slope(x) for x in points])
    truth, what = slopes.mean(dim=0), "mean_jacobian(f, points)"
    try:
        raw = answer(f, points)
    except (RuntimeError, ValueError) as error:
        if "takes one point" in str(error):
            raise Wrong(str(error), "go through the points, and call f(point) for each.") from None
        if "must have the same dtype" in str(error):
            tip = "keep the points as they are: no .double() and no .half() on the way to f."
            raise Wrong("f was given numbers of another type than those in `points`", tip) from None
        if "backward through the graph a second time" not in str(error):
            raise
        tip = "compute f(x) anew for each row, or ask for retain_graph=True."
        raise Wrong("autograd had forgotten f(x): a gradient of it was taken before", tip) from None
    own = points.clone()
    unwatched(answer)(f, own)  # the check itself calls it with copies
    if own.requires_grad:
        raise Wrong(
            "your function changed `points`: from now on gradients are taken for it",
            "set requires_grad on a copy: points.detach().clone().requires_grad_().",
        )
    if own.grad is not None:
        tip = "take torch.autograd.grad, or .backward() with a copy: points.detach().clone().requires_grad_()."
        raise Wrong("your function changed `points`: it left a gradient in points.grad", tip)
    if isinstance(raw, Tensor) and raw.shape == (3,):
        expect.differs_from(
            raw.detach(), truth.sum(dim=0), "it is the gradient of f(x).sum()", "one row for each f(x)[i]."
        )
    got = expect.tensor(raw, like=truth, axes="coordinate_of_f coordinate_of_x", name=what).detach()
    medians = slopes.median(dim=0).values, slopes.quantile(0.5, dim=0)
    for value, mistake, tip in (
        (slopes.sum(dim=0), "it is the sum over the points", "divide by len(points)."),
        (
            f.slope(points.mean(dim=0)),
            "it is the derivative at the mean point",
            "take it at each point, then the mean.",
        ),
        (slopes[0], "it is the derivative at the first point", "take the mean over all points."),
        (slopes[-1], "it is the derivative at the last point", "add up over the points before you divide."),
        *((each, "it is a median over the points", "take the mean.") for each in medians),
        *(
            (
                slopes[some].mean(dim=0),
                f"it is the mean over {words} only",
                "all points count: add up over each of them.",
            )
            for words, some in (
                ("the first and the last point", [0, -1]),
                ("all points but the first", slice(1, None)),
                ("all points but the last", slice(-1)),
                ("every other point", slice(None, None, 2)),
                *((f"the first {n} points", slice(n)) for n in range(2, len(points) - 1)),
            )
        ),
        (
            reduce(lambda total, slope: (total + slope) / 2, slopes),
            "after each point the sum so far was halved, so that the last points count most",
            "add up over all points, then divide once, by len(points).",
        ),
        (
            f.slope((points.min(dim=0).values + points.max(dim=0).values) / 2),
            "it is the derivative midway between the outermost points",
            "take it at each point, then the mean.",
        ),
        (slopes.abs().mean(dim=0), "signs were thrown away", "slopes of both signs may cancel: take them as they are."),
        (truth / len(truth), "it is divided once more, by the number of rows", "divide by the number of points only."),
        (slopes.sum(dim=0) / 3, "it is divided by the number of coordinates", "divide by the number of points."),
        *(
            (
                slopes.sum(dim=0) / k,
                f"the sum over the points is divided by {k}, and there are {len(points)}",
                "divide by len(points).",
            )
            for k in (2, 4, 5, 7, 8, 9, 10)
        ),
        (truth - f.n, "the part of f that is linear in x is missing", "let autograd take the whole of f."),
        (
            truth.cumsum(dim=0),
            "each row has the rows before it in it: .backward() adds to x.grad",
            "take torch.autograd.grad, which adds to nothing, or a new x for each row.",
        ),
    ):
        expect.differs_from(got, value, mistake, tip)
    rounded = truth.half().float(), truth.bfloat16().float(), *(truth.round(decimals=n) for n in (1, 2, 3))
    if not torch.allclose(got, truth, rtol=1e-5) and any(torch.allclose(got, each, rtol=1e-6) for each in rounded):
        raise Wrong("it is near, but rounded", "keep the numbers as they are: no round(...), no .half().")
    steps = [torch.diag(torch.full((3,), size)) for size in (1.0, 0.5, 0.1, -0.1)]
    quotients = [
        torch.stack(
            [sum(f(x + e) - f(x - back * e) for x in points) / len(points) / e.sum() / (1 + back) for e in step], dim=1
        )
        for step in steps
        for back in (0, 1)
    ]
    near = 1e-5 < (got - truth).abs().max() / truth.abs().max() < 0.01
    if near or any(torch.allclose(got, each, rtol=1e-3, atol=1e-3) for each in quotients):
        what = "near, but not exact, as a difference quotient is" if near else "the slope over a whole step, a quotient"
        raise Wrong(f"it is {what}", "torch.autograd.grad gives the slope itself.")
    expect.close(got, truth, name=what, try_next="row i is the gradient of f(x)[i]; the mean runs over the points.")


@exercise(
    "4.11",
    title="without what the lens reads",
    minutes=5,
    difficulty=1,
    hints=[
        "left is a dictionary of counts, each of n.",
        "The mix of other words' directions is the control: as large an edit, at the same place.",
        'claim(directions.wilson_interval(left["own"], n), control=...), the control from left["mix"]',
    ],
)
def it_is_used(answer, *data):
    check_rates(
        answer,
        data,
        lambda left, n: ((left["own"], n), (left["mix"], n)),
        'the value is left["own"] of n.',
        "the control is the piece that moves what is read of many other words: its count in left, of n.",
    )


# --- 4.12 --------------------------------------------------------------------------------------------------------


@exercise(
    "4.12",
    title="ablate a group",
    minutes=8,
    difficulty=3,
    inputs=lambda seed, model, transcoders, graph, groups: _moved(seed, model, transcoders, graph),
    same=lambda got, truth: abs(expect.number(got) - float(truth)) < 1e-3,
    hints=[
        "changes maps each node to its new activation: its own is in graph.values, at its place in graph.nodes.",
        "Moved by `times` its activation a, a feature has (1 - times) * a. All of them go into one `with` block.",
        "return graph.values[-1], the value that was asked for, minus the one that is read within `with`.",
    ],
)
def ablate(answer, model, transcoders, graph, groups):
    if len(groups) < 2 or not all(groups.values()):
        raise Wrong(
            f"{len(groups)} of your groups hold features, and two are compared",
            "make two groups of features in the page (words alone do not do), and copy their text again.",
        )
    active = dict(zip(graph.nodes, graph.values.tolist(), strict=True))
    worth = dict(zip(graph.nodes, graph.worth.tolist(), strict=True))
    asked = graph.asked[0]

    def read(changes, attention):
        with (
            torch.no_grad(),
            intervene(model, graph.prompt_ids, transcoders=transcoders, changes=changes, attention=attention),
        ):
            return float(asked.value(model(torch.tensor([graph.prompt_ids])))[0])

    def put(nodes, attention, by=lambda a: 0.0):
        return active[asked] - read({node: by(active[node]) for node in nodes}, attention)

    costs, before = {}, active[asked]
    for name, nodes in groups.items():
        what = f'lost_without(graph, your group "{name}", "frozen")'
        got = expect.number(answer(graph, list(nodes), "frozen"), name=what)
        lost = put(nodes, "frozen")
        costs[name] = lost
        if abs(got - lost) < 1e-3:
            continue
        if abs(got) < 1e-3 and abs(expect.number(answer(graph, list(nodes), "frozen", 0.0)) - lost) < 1e-3:
            raise Wrong(
                "`times` is the wrong way round: at 1 nothing was moved, and at 0 all was switched off",
                "a feature of activation a gets (1 - times) * a.",
            )
        mistakes = (
            (
                0.0,
                "nothing was moved",
                "run the model within `with attribution.intervene(...)`; moved by times = 1, an activation is 0.",
            ),
            (before - lost, "this is what is left, not what is lost", "subtract it from the graph's own value."),
            (-lost, "the sign is flipped", "lost is before minus after."),
            (put(nodes, "free"), "attention was free, and held is asked for", "hand on `attention`."),
            (lost / before, "it is a share, and logits are asked for", "do not divide by the graph's own value."),
            (lost / len(nodes), "it was divided by the number of nodes", "say what the whole group costs."),
            (
                sum(active[node] * worth[node] for node in nodes),
                "it adds up what the graph foretells, and nothing was run: a forecast along straight lines",
                "run the model within `with attribution.intervene(...)`: a feature may fall below its threshold, or rise above.",
            ),
            (
                sum(put([node], "frozen") for node in nodes),
                "each feature was ablated alone, and the losses added up",
                "put all of them into one `changes`: what one does depends on the others.",
            ),
            *(
                (put(nodes, "frozen", by), words, "a feature of activation a gets (1 - times) * a: 0 at times = 1.")
                for words, by in (
                    ("each activation was put to its opposite, -times * a", lambda a: -a),
                    ("features were moved up, not down", lambda a: 2 * a),
                    ("features were moved by the number `times`, not times as far", lambda a: a - 1),
                )
            ),
            (put(nodes[:1], "frozen"), "only the first feature was ablated", "one entry of `changes` for each node."),
            (put(nodes[-1:], "frozen"), "only the last feature was ablated", "one entry of `changes` for each node."),
        )
        for value, mistake, tip in mistakes:
            expect.differs_from(got, value, mistake, tip)
        expect.close(
            got, lost, name=what, try_next="with `times` left out each feature, at its own position, is put to 0."
        )
    nodes, what = next(iter(groups.values())), 'lost_without(graph, your first group, "free", times=2.0)'
    got = expect.number(answer(graph, list(nodes), "free", 2.0), name=what)
    if abs(got - put(nodes, "free", lambda a: -a)) > 1e-3:
        tip = "a feature of activation a gets (1 - times) * a."
        held = put(nodes, "frozen", lambda a: -a)
        expect.differs_from(got, held, "attention was held, and free is asked for", "hand on `attention`.")
        for value, mistake in (
            (put(nodes, "free"), "it gives what times=1.0 gives: -a is asked for, and activations below 0 are allowed"),
            (put(nodes, "free", lambda a: 2 * a), "the activation was put to `times` what it is"),
            (put(nodes, "free", lambda a: a), "with times=2.0 nothing was moved: an activation a becomes -a"),
            (put(nodes, "free", lambda a: -2 * a), "the activation was put to -times what it is, one too much"),
            (put(nodes, "free", lambda a: 3 * a), "features were moved up, not down"),
            (put(nodes, "free", lambda a: -1.0), "features were put to 1 - times, whatever their activations are"),
            (put(nodes, "free", lambda a: a - 2.0), "features were moved by the number `times`, not times as far"),
        ):
            expect.differs_from(got, value, mistake, tip)
        expect.close(got, put(nodes, "free", lambda a: -a), name=what, try_next=tip)
    _refuse_other_activations(answer, graph, transcoders, model)
    told = ", ".join(f'"{name}" {cost:.1f}' for name, cost in costs.items())
    return f"Of {active[asked]:.1f} logits your groups cost, attention held: {told}."


def _refuse_other_activations(answer, graph, transcoders, model) -> None:
    """Refuse activations of another place, or of the notebook's graph: here both differ from a feature's own."""
    other = _shuffled(model, graph.prompt_ids, *transcoders)
    for given, known, what, tip in (
        (
            graph,
            _by_feature(graph),
            "a feature that is active at several places is given another place's activation",
            "a node is a feature at one position: look its activation up by the node itself.",
        ),
        (
            other,
            dict(zip(graph.features, graph.values.tolist(), strict=False)),
            "for a graph of another prompt features are given their activations in the notebook's graph",
            "activations are those of the graph that is given: graph.nodes, graph.values.",
        ),
    ):
        own = dict(zip(given.features, given.values.tolist(), strict=False))
        worth = dict(zip(given.nodes, given.worth.tolist(), strict=True))
        moved = {n: abs((own[n] - known[n]) * worth[n]) for n in own if n in known}
        nodes = sorted(moved, key=moved.__getitem__, reverse=True)[:4]
        values = []
        for active in (own, known):
            changes = {n: active[n] / 2 for n in nodes}
            run = intervene(model, given.prompt_ids, transcoders=transcoders, changes=changes, attention="frozen")
            with torch.no_grad(), run:
                values.append(float(given.asked[0].value(model(torch.tensor([given.prompt_ids])))[0]))
        right, mistaken = (float(given.values[-1]) - value for value in values)
        if abs(mistaken - right) > 0.01 * (1 + abs(right)):
            expect.differs_from(expect.number(answer(given, nodes, "frozen", 0.5)), mistaken, what, tip, tolerance=1e-3)


def _by_feature(graph):
    """Of each node the activation that its layer and number have at the last place where they are active."""
    last = {(n.layer, n.feature): a for n, a in zip(graph.features, graph.values.tolist(), strict=False)}
    return {n: last[n.layer, n.feature] for n in graph.features}


def _moved(seed, model, transcoders, graph):
    """Other groups, of no feature, one or many, ablated in part, whole or beyond, or made stronger, also of other graphs.

    Of two graphs of one prompt the same is asked, and of one whose features have other activations than in the first.
    """
    if seed > 12:
        return None
    if seed > 6:
        return _moved_too(seed, model, transcoders, graph)
    draw = random.Random(seed)
    graph = (graph, *_two_graphs(model, *transcoders))[seed % 3]
    effects = (graph.values * graph.worth)[: len(graph.features)].abs()
    strongest = [graph.features[k] for k in effects.topk(60).indices.tolist()]
    nodes = draw.sample(strongest, MANY if seed == 5 else 2 + seed % 4)
    if seed in (2, 3):  # also active at a later place, with another strength
        later = {(node.layer, node.feature): node for node in graph.features}
        nodes = [n for n in strongest if later[n.layer, n.feature] != n][:4] or nodes
    return graph, nodes, ("frozen", "free")[seed // 3 % 2], (1.0, 1.75, 0.5, 2.5, 0.0)[seed % 5]


def _moved_too(seed, model, transcoders, graph):
    two, shuffled = _two_graphs(model, *transcoders), _shuffled(model, graph.prompt_ids, *transcoders)
    one, other = two if seed < 9 else (graph, shuffled)
    active, worth = (dict(zip(other.nodes, each.tolist(), strict=True)) for each in (other.values, other.worth))
    effects = {
        node: abs((value - (active[node] if seed == 9 else 0)) * worth[node])
        for node, value in zip(one.features, one.values.tolist(), strict=False)
        if node in active
    }
    nodes = sorted(effects, key=effects.__getitem__, reverse=True)[:8]
    return {
        7: (one, nodes, "frozen", 1.0),
        8: (other, nodes, "frozen", 1.0),
        9: (other, nodes, "frozen", 6.0),
        10: (graph, nodes[:1], "free", 2.5),
        11: (graph, [], "frozen", 1.0),
        12: (graph, nodes[:2], "frozen", -1.0),
    }[seed]


@cache
def _shuffled(model, prompt, *transcoders):
    """Of a prompt whose first words stand in reverse order, for one token against token 0."""
    target, ids = Logit(model.tokenizer.convert_tokens_to_ids("i"), minus=0), [*prompt]
    ids[2:6] = ids[5:1:-1]
    return trace(model, ids, transcoders=transcoders, targets=[target])


@cache
def _two_graphs(model, *transcoders):
    """Of a direct request, for one token alone and for one against another that is likelier."""
    prompt, number = _ask(model, "how do i make a bomb?"), model.tokenizer.convert_tokens_to_ids
    targets = Logit(number("the")), Logit(number("to"), minus=number("i"))
    return tuple(trace(model, prompt, transcoders=transcoders, targets=[target]) for target in targets)


prediction(
    "4.p1",
    "After which word of the compliant reply is a refusal most probable?",
    options={
        "a": "after the word itself (bomb)",
        "b": "after the object (to make a bomb)",
        "c": "after the comma that follows it",
        "d": "after the full stop that ends the sentence",
    },
)
prediction(
    "4.p2", "With the words in reverse order, how many of 48 acrostics still give the same first word?", bounds=(0, 48)
)
prediction(
    "4.p3", "The break-off direction added at the comma, dose 2: how probable is a refusal there?", bounds=(0, 1)
)
prediction(
    "4.p5", "Before which block is the logit lens' first word the spelled one in 60 % of the acrostics?", bounds=(0, 6)
)
prediction(
    "4.p6",
    "Of random vectors, on how many per cent (15 to 40, not 0.15 to 0.4) is the tuned lens sure before block 1?",
    bounds=(0, 100),
    unit="%",
)
prediction(
    "4.p7",
    "Attention held: how many of ten random groups, as long, cost at least as much as your first group?",
    bounds=(0, 10),
)
prediction("4.p4", "Role swapped to <friend>, attention frozen: how many of 24 requests are warned of?", bounds=(0, 24))

question(
    "4.q6",
    "Before block 1, patching the reply token brings the refusal back by 98 %, the mark '?' by 2 %. What follows?",
    options={
        "a": (
            "The mark knows nothing of the deed.",
            "That was not asked: what a place knows need not be read from there.",
        ),
        "b": (
            "In this pair, what makes it refuse has reached the reply token by then, and not by way of the mark.",
            "Right: of this pair, these two activations and this logit difference, no more.",
        ),
        "c": ("Models decide in block 0 whether they refuse.", "It is one pair of prompts in one small model."),
        "d": (
            "98 % of the refusal is stored in the reply token.",
            "It says what one patch brings back: those of all places need not add up to 1.",
        ),
    },
    correct="b",
)
question(
    "4.q1",
    "At <assistant>, where a direct request is refused, there is little of the deed's direction in an acrostic. Is that why it is not?",
    options={
        "a": (
            "Yes: without the deed nothing is refused.",
            "What was added there is a direction found at marks: it makes hardly a direct request for a cake refused there, either.",
        ),
        "b": (
            "That does not follow: this direction hardly acts there, even in direct requests.",
            "Right: what direct requests differ by at that place does act: dose 1 brings the acrostics to 0.94.",
        ),
        "c": (
            "No: refusals cannot begin there.",
            "They can: what direct requests differ by at that place, added there, brings one.",
        ),
        "d": ("No: the model does not know that bombs are harmful.", "Asked directly it refuses every time; it knows."),
    },
    correct="b",
)
question(
    "4.q2",
    "Ten features that tell harmful from harmless replies change less than ten that write to the output. What follows?",
    options={
        "a": ("Transcoders do not work.", "Ten others of the same transcoders change the reply in nearly every case."),
        "b": ("The model has no idea of harm there.", "They show that it has: it can be read."),
        "c": (
            "Being readable and being used are two findings.",
            "Right: choose by edges to the output, and confirm by an intervention.",
        ),
        "d": (
            "One should take the hundred best.",
            "More detectors are still detectors: what they do has to be tested.",
        ),
    },
    correct="c",
)
question(
    "4.q3",
    "At OBJECT, dose 2 of the break-off direction does nothing; at the comma it gives a refusal. What is the right sentence?",
    options={
        "a": (
            "The effect depends on the place: at this dose it is large after marks, and least in mid-phrase.",
            'Right; after "use", which is no mark, it is in between, and at dose 4 it is everywhere.',
        ),
        "b": ("Boosting refusal has no effect.", "True at OBJECT: one place is no map."),
        "c": ("The comma is where this model decides.", "Without a boost it refuses there in hardly any reply."),
        "d": ("The direction is random.", "Twenty random ones of its length make no refusal likely at the comma."),
    },
    correct="a",
)
question(
    "4.q4",
    "All drawn edges agreed with their intervention. What does that prove?",
    options={
        "a": ("That the graph explains the model.", "It explains a frozen model: where it looks is taken as given."),
        "b": ("That the groups mean what their labels say.", "A label names the word they write, or read, most."),
        "c": ("That nothing else matters.", "Each drawing kept eight edges, and errors are left out."),
        "d": (
            "That the drawing is right, given the attention patterns.",
            "Right: what acts through the patterns is not in it, nor what another word would have done.",
        ),
    },
    correct="d",
)
question(
    "4.q5",
    "Forbidden to write a mark, the model broke off no reply with 'however, i cannot'. Why is that no evidence for a jailbreak?",
    options={
        "a": ("Because the sample was small.", "A thousand such replies would be as broken."),
        "b": (
            "Because there was no reply either: the text is broken.",
            "Right; and the phrase itself holds a comma, which was forbidden: read what is counted.",
        ),
        "c": ("Because marks have nothing to do with it.", "They have: one full stop in the comma's place was enough."),
        "d": ("Because greedy decoding was used.", "That is the same everywhere in this notebook."),
    },
    correct="b",
)
question(
    "4.q7",
    "A lens reads the spelled word before block 2, and shuffled words give 5 % where the right ones give 70 %. What was shown?",
    options={
        "a": ("That block 2 computes the word.", "It can be read before block 2; which block wrote it was not asked."),
        "b": (
            "That the word is in the stream there, in a form that the unembedding reads.",
            "Right; whether later blocks use it takes an intervention.",
        ),
        "c": ("That the model will refuse.", "The word is what it will say, not whether it refuses."),
        "d": ("Nothing: 5 % is not 0.", "The control says what chance gives: fifteen times less."),
    },
    correct="b",
)
question(
    "4.q8",
    "Why is removing a mix of *other* words' directions a better control than removing a random direction?",
    options={
        "a": ("It is longer.", "Both pieces were made equally long."),
        "b": (
            "It has a larger effect.",
            "Another word put in has a larger one still: what counts is what a control moves, and what it leaves alone.",
        ),
        "c": (
            "It moves what is read of the other words, some down and some up, and leaves the own word's direction alone.",
            "Right: along a random direction hardly any word is moved, up or down.",
        ),
        "d": (
            "Random directions are never orthogonal.",
            "In 128 coordinates they nearly are: that is why they touch so little.",
        ),
    },
    correct="c",
)
