"""Exercises of notebook 01: PCA, difference of means, selection, ablation and addition, each claimed with a control."""

import contextlib
import inspect
import math
import random
import sys

import torch
from scipy.stats import rankdata
from torch import Tensor

from chapters import drawn
from chapters.claimed import check_rates, close_limits, drawn_counts, levels, on_other_data, refuse_others
from chapters.drawn import MANY, WIDE, few_or_many, up_to_sign
from course_lib import caching, directions, models
from course_lib.grading import expect
from course_lib.grading.checking import N_INPUTS
from course_lib.grading.claims import Claim, claim, supported
from course_lib.grading.registry import Off, Wrong, exercise, prediction, question

# --- 1.1 ---------------------------------------------------------------------------------------------------------


@exercise(
    "1.1",
    title="one activation by hand",
    minutes=5,
    difficulty=1,
    inputs=lambda seed, model: _asked(seed, model),
    hints=[
        "model.run_with_cache takes a tensor of shape [batch, token]: torch.tensor([ids]).",
        "The hook name is blocks.<layer>.hook_resid_pre.",
        'cache[f"blocks.{layer}.hook_resid_pre"][0, -1]',
    ],
)
def last_token_residual(answer, model):
    ids, layer = list(range(4, 15)), 2
    _, cache = model.run_with_cache(torch.tensor([ids], device=model.cfg.device))
    pre = cache[f"blocks.{layer}.hook_resid_pre"][0]
    try:
        raw = answer(model, ids, layer)
    except ValueError as error:
        if "text input" not in str(error):  # the tokenizer's word on a list of numbers
            raise
        what = "the model was given a list of ids, which it takes for a text"
        raise Wrong(what, "give it a tensor with a batch axis: torch.tensor([ids]).") from error
    if isinstance(raw, Tensor) and raw.shape in (pre.shape, (1, *pre.shape)):
        raise Wrong("all tokens are still there", "the axes are [batch, token, d_model]: index [0, -1].")
    got = expect.tensor(raw, like=pre[-1], axes="d_model", name="last_token_residual(model, ids, 2)")
    if expect.same(got, answer(model, ids, 1)):
        raise Wrong("it gives the same for blocks 1 and 2", "use the argument `layer` in the hook name.")
    n = models.n_layers(model)
    for first, what in ((n - 1, f"block {n - 1} was taken for 0"), (n, f"block {n - 1} was taken for 1")):
        stream = {k: cache[f"blocks.{first - k}.hook_resid_pre"][0, -1] for k in (layer, layer + 1)}
        if all(expect.same(answer(model, ids, k), stream[k]) for k in stream):
            raise Wrong(f"the blocks are counted from the end: {what}", "use `layer` as it is in the hook name.")
    mistakes = (
        (
            cache[f"blocks.{layer}.hook_resid_post"][0, -1],
            "that is what leaves block 2, not what enters it",
            "use resid_pre.",
        ),
        (
            cache[f"blocks.{layer - 1}.hook_resid_pre"][0, -1],
            "that is what enters the previous block",
            "use `layer` as it is.",
        ),
        (
            cache[f"blocks.{layer}.hook_mlp_out"][0, -1],
            "that is what the MLP writes",
            "the residual stream is called resid_pre.",
        ),
        (
            cache[f"blocks.{layer}.hook_attn_out"][0, -1],
            "that is what attention writes",
            "the residual stream is called resid_pre.",
        ),
        (
            cache[f"blocks.{layer}.hook_resid_mid"][0, -1],
            "that is the stream in the middle of block 2: its attention has already written",
            "use resid_pre.",
        ),
        (pre[0], "that is the first token", "the reply is predicted from the last one: index -1."),
        (pre[-2], "that is the last token but one", "use index -1."),
        (pre.mean(dim=0), "that is the mean over all tokens", "take the last token alone."),
        *(
            (pre[k], f"of {len(ids)} tokens it takes number {k}, counted from 0, and not the last", "use index -1.")
            for k in range(1, len(ids) - 2)
        ),
        *(
            (
                cache[f"blocks.{other}.hook_resid_pre"][0, -1],
                "the layer is not the one asked for",
                "use the argument `layer` in the hook name.",
            )
            for other in range(models.n_layers(model))
            if other != layer
        ),
    )
    for value, what, tip in mistakes:
        expect.differs_from(got, value, what, tip)
    _refuse_other_ids(answer, model, layer)
    expect.close(got, pre[-1], name="last_token_residual(model, ids, 2)")
    ids = list(range(4, 30))
    pre = model.run_with_cache(torch.tensor([ids], device=model.cfg.device))[1][f"blocks.{layer}.hook_resid_pre"][0]
    got = expect.tensor(answer(model, ids, layer), like=pre[-1], axes="d_model", name="for 26 tokens, it")
    for place in range(25):
        what = f"of 26 tokens it takes number {place}, counted from 0, and not the last"
        expect.differs_from(got, pre[place], what, "prompts are of any length: index -1.")
    if _calls(caching.harvest, answer, model, ids, layer):
        what = "the values are right, but they come from harvest, which they are to check: it would agree with itself"
        raise Wrong(what, "take them from the cache: _, cache = model.run_with_cache(torch.tensor([ids])).")


def _calls(function, answer, *given) -> bool:
    """Return whether the learner's answer calls this function of the library, under whatever name."""
    code, called, before = inspect.unwrap(function).__code__, [], sys.getprofile()
    sys.setprofile(lambda frame, event, _: called.append(event) if frame.f_code is code else None)
    try:
        answer(*given)
    finally:
        sys.setprofile(before)
    return bool(called)


def _refuse_other_ids(answer, model, layer):
    """Refuse by name what reads other ids than the prompt's: two turns, in which most ids come more than once."""
    ids = [1, 4, 474, 310, 15, 581, 7, 168, 15, 44, 90, 33, 2, 5, 310, 81, 2, 4, *range(600, 570, -1), 310, 2, 5]

    def read(some):
        at = f"blocks.{layer}.hook_resid_pre"
        cache = model.run_with_cache(torch.tensor([some], device=model.cfg.device), names_filter=at)[1]
        return cache[at][0]

    tip = "give the model the ids as they are: torch.tensor([ids])."
    words = ids[2:12]
    plain = read(words)[-1]
    got = expect.tensor(answer(model, words, layer), like=plain, axes="d_model", name=f"for {len(words)} tokens, it")
    if not expect.same(got, plain):
        what = "<bos> is put in front of the ids, which are complete as they are"
        expect.differs_from(got, read([1, *words])[-1], what, tip)
    stream = read(ids)
    got = expect.tensor(answer(model, ids, layer), like=stream[-1], axes="d_model", name=f"for {len(ids)} tokens, it")
    if expect.same(got, stream[-1]):
        return
    for token, name in ((5, "<assistant>"), (2, "<end>")):
        what = f"of a prompt of two turns it takes the first {name} token, and not the last"
        expect.differs_from(got, stream[ids.index(token)], what, "ids come again: the last token of all has index -1.")
    others = {
        "only the last token is given to the model, which then knows nothing of those before it": ids[-1:],
        "<bos> is put in front of the ids, which begin with it: it is there twice": [1, *ids],
        "<assistant> is put behind the ids": [*ids, 5],
        "<end> and <assistant> are put behind the ids, which end with them": [*ids, 2, 5],
        "the ids are put into the template, and they hold it already": [1, 4, *ids, 2, 5],
        "the order of the ids is reversed": ids[::-1],
        "the ids are sorted": sorted(ids),
        "an id that comes more than once is given once only": list(dict.fromkeys(ids)),
        "the ids are sorted, and each is given once": sorted(set(ids)),
        "only how many ids there are is used: they are replaced by a range": list(range(4, 4 + len(ids))),
        "only the first id is used: from there on they are replaced by a range": list(range(ids[0], ids[0] + len(ids))),
        "the template's tokens are left out": [i for i in ids if i > 5],
        "the ids up to 3 are left out": [i for i in ids if i > 3],
        "<bos> is left out": [i for i in ids if i != 1],
        "the last id is left out": ids[:-1],
        "<end> is left out": [i for i in ids if i != 2],
        "ids above 255 have become others, as in one byte": [i % 256 for i in ids],
        "ids above 511 have become others": [i % 512 for i in ids],
        "what follows the first <end> and the token after it is left out": ids[: ids.index(2) + 2],
    }
    others |= {f"only the last {k} tokens are given to the model": ids[-k:] for k in (2, 4, 5, 8, 10, 16, 20, 24, 32)}
    others |= {f"only the first {k} tokens are given to the model": ids[:k] for k in (8, 10, 16, 20, 24, 32)}
    for what, some in others.items():
        expect.differs_from(got, read(some)[-1], what, tip)
    for place in range(len(ids) - 1):
        what = (
            f"of {len(ids)} tokens, some of which are equal, it takes number {place}, counted from 0, and not the last"
        )
        expect.differs_from(got, stream[place], what, "prompts are of any length, and ids come again: index -1.")


# --- 1.2 ---------------------------------------------------------------------------------------------------------


@exercise(
    "1.2",
    title="PCA by hand",
    minutes=10,
    difficulty=3,
    inputs=lambda seed: (_points(seed),),
    same=up_to_sign,
    hints=[
        "What must be subtracted so that the variance is measured around the mean?",
        "torch.linalg.svd(centred, full_matrices=False) returns U, S, Vh; the rows of Vh are directions in d_model.",
        "centred = x - x.mean(dim=0); return torch.linalg.svd(centred, full_matrices=False)[2][0]",
    ],
)
def first_component(answer):
    scale = torch.tensor([1.0, 4.0, 2.0, 0.5, 0.2])
    x = expect.random(60, 5) * scale + torch.tensor([9.0, 0.0, 1.0, 0.0, 0.0])
    x[48:] += torch.tensor([0.0, 3.0, 9.0, 0.0, 0.0])  # so that the median is not the mean
    centred = x - x.mean(dim=0)
    truth = _axes(centred)[0]
    raw = answer(x)
    if isinstance(raw, Tensor) and raw.shape == (60,):
        raise Wrong("it has one number per sample: these are scores, or a column of U", "the direction is a row of Vh.")
    if isinstance(raw, Tensor) and raw.is_complex():
        raise Wrong("it holds complex numbers", "torch.linalg.eigh is the one for covariances: they are symmetric.")
    got = expect.tensor(raw, like=truth, axes="d_model", name="first_component(x)")
    row_of_u = torch.linalg.svd(centred, full_matrices=False).U[0]  # its signs are a matter of chance
    expect.differs_from(got.abs(), row_of_u.abs(), "this is a row of U: one sample's scores", "take the row of Vh.")
    if abs(float(got.norm()) - 1) > 1e-3:
        raise Wrong(f"it has length {got.norm():.4g}, not 1", "divide by the norm; leave S out.")
    vectors = torch.linalg.eigh(centred.T @ centred).eigenvectors
    for row in (vectors[-1], vectors[0]):  # the signs of its columns are a matter of chance
        tip = "eigh gives one component in each column, the largest last: eigenvectors[:, -1]."
        expect.differs_from(got.abs(), row.abs(), "this is a row of eigenvectors", tip)
    standard = centred / centred.std(dim=0)
    mistakes = (
        (_axes(x)[0], "x was not centred: this points at the mean", "subtract x.mean(dim=0) first."),
        (directions.unit(x.mean(dim=0)), "this is the direction of the mean", "PC1 is about the spread around it."),
        (
            _axes(centred)[-1],
            "this is the *last* component, of smallest variance",
            "take the first row of Vh, or of eigh the last column of eigenvectors.",
        ),
        (
            _axes(standard)[0],
            "the columns were divided by their standard deviation",
            "centre only; do not standardise.",
        ),
        (_axes(centred)[:, 0], "this is a column of Vh", "the components are its rows: Vh[0]."),
        (_axes(x - x.mean())[0], "the mean is one number", "take one mean per column: dim=0."),
        (_axes(x - x.mean(dim=1, keepdim=True))[0], "each sample was centred, not each column", "x.mean(dim=0)."),
        (
            directions.unit(x[:30].mean(dim=0) - x[30:].mean(dim=0)),
            "that is the difference of the means of the two halves",
            "a component is a direction of largest variance: the first right singular vector.",
        ),
        (_axes(centred)[1], "this is the second component", "counting starts at 0: Vh[0]."),
        (
            max(centred, key=torch.norm),
            "that points at the sample farthest from the mean",
            "a component is a direction of largest variance: all samples count, not the farthest alone.",
        ),
        (
            _farthest_apart(x),
            "that points from one to the other of the two samples farthest apart",
            "a component is a direction of largest variance: all samples count, not two alone.",
        ),
        (
            torch.eye(5)[x.var(dim=0).argmax()],
            "that is the axis of the coordinate with the largest variance",
            "PC1 may point anywhere between the axes: the first right singular vector.",
        ),
        *(
            (
                spread,
                f"that is made of each column's {word}: it is above 0 everywhere, and PC1 has entries of both signs",
                "a component is a direction of largest variance: the first right singular vector.",
            )
            for word, spread in (("standard deviation", x.std(dim=0)), ("variance", x.var(dim=0)))
        ),
        (
            _axes(x - x.median(dim=0).values)[0],
            "the points are centred on their median, not on their mean",
            "x.mean(dim=0).",
        ),
        (_axes(x - x[0])[0], "the points are centred on the first of them, not on their mean", "x.mean(dim=0)."),
    )
    for value, what, tip in mistakes:
        alike = abs(float(directions.cosine(truth, value))) > 1 - 1e-4  # by chance, on the second inputs
        if not alike and abs(float(directions.cosine(got, value))) > 1 - 1e-5:
            raise Wrong(what, tip)
    expect.close(abs(float(directions.cosine(got, truth))), 1.0, name="|cos| with the first component")
    _refuse_unless_apart(answer)


def _farthest_apart(x: Tensor) -> Tensor:
    """Return the difference of the two rows that lie farthest apart."""
    one, other = divmod(int(torch.cdist(x, x).argmax()), len(x))
    return x[one] - x[other]


def _refuse_unless_apart(answer):
    """Refuse by name what only comes near the first component where the two largest variances are near each other.

    It is right up to about some ratio of the two, and wrong beyond: so are approximations and too few steps.
    """
    tried = []
    for seed in range(N_INPUTS):
        x = _points(seed)
        _, spreads, axes = torch.linalg.svd((x - x.mean(dim=0)).double(), full_matrices=False)
        got = torch.as_tensor(answer(x)).double()
        if got.shape != axes[0].shape:
            return
        cosine = float(got @ axes[0]) / float(got.norm())
        across = float((got / got.norm() - cosine * axes[0]).norm())  # exact for small angles
        off = math.degrees(math.atan2(across, abs(cosine)))
        tried.append((float(spreads[1] / spreads[0]) ** 2, up_to_sign(got, axes[0]), cosine, off))
    fails = [ratio for ratio, right, *_ in tried if not right]
    for library in (torch.pca_lowrank, torch.svd_lowrank) if fails else ():
        if _calls(library, answer, _points(0)):
            what = (
                f"torch.{library.__name__} only approximates: of {len(tried)} sets of points it is off in {len(fails)}"
            )
            raise Wrong(what, "torch.linalg.svd and eigh are exact.")
    if not fails or min(fails) < 0.8 or any(right and ratio > min(fails) + 0.03 for ratio, right, *_ in tried):
        return
    ratio, _, cosine, off = max(tried, key=lambda each: (not each[1], each[0]))
    if abs(cosine) < 1e-3:  # no approximation, but another component
        return
    what = f"it only comes near PC1 where the second largest variance is near the largest: at {ratio:.4g} of it, it is {off:.2g} degrees off"
    raise Wrong(
        what, "it approximates, or stops too soon: torch.linalg.svd and eigh are exact, whatever the variances."
    )


def _points(seed: int) -> Tensor:
    """Return few or many points around a mean, whose second largest spread may come near the largest.

    The first are small enough to be shown number by number in a message. Others are many and wide, lie far from 0,
    are equal to each other, or hold one far from all others; in some, no variance is much larger than the next, or PC1
    is orthogonal to a vector from which a search may start: all ones, the first axis, the first point. One set is tiny; in
    one the mean is small, and the two variances are so near each other that it counts all the same.
    """
    if seed == 11:
        return 1e-5 * torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.0, 0.0], [2.0, 5.0]])
    if seed == 13:
        return torch.tensor([[1.0, 0.06], [-1.0, 0.06], [0.0, 1.0575], [0.0, -0.9375]])
    if seed in (12, 15):
        ones, axis = [[1.0, -1.0], [-1.0, 1.0], [3.0, -3.0]], [[6.0, 5.0], [4.0, 5.0], [5.0, 8.0], [5.0, 2.0]]
        return torch.tensor(ones if seed == 12 else axis)
    if seed % 10 == 4 and seed > 10:
        cloud = expect.random(200, 128, seed=seed)
        u, _, vh = torch.linalg.svd(cloud - cloud.mean(dim=0), full_matrices=False)
        return 14 * u * (1 - 0.005 * torch.arange(128)) @ vh + 3 * expect.random(128, seed=100 + seed)
    if seed % 10 == 9:  # all but three of them equal
        few = torch.tensor([[2.0, 1.0], [1.0, 4.0], [0.0, -1.0], [0.5, 0.0]])
        return few[torch.tensor([0, 1, 0, 0, 2, 0, 3][: 7 - seed // 10])]
    draw, small = random.Random(seed), ((3, 2), (4, 3), (3, 4), (6, 2), (5, 2), (3, 3))
    n, d_model, size = draw.choice((3, 5, 12, 40, 250)), draw.randint(2, 6), draw.choice((0.3, 10.0))
    n, d_model = small[seed] if seed < len(small) else (n, d_model)
    if seed == 7:
        n, d_model = 40 * MANY, WIDE
    rank = min(n - 1, d_model)
    cloud = expect.random(n, d_model, seed=seed)
    u, _, vh = torch.linalg.svd(cloud - cloud.mean(dim=0), full_matrices=False)
    spread = torch.tensor([1.0, (0.3, 0.9, 0.96)[seed % 3], 0.25, 0.2, *(0.1 / k for k in range(1, WIDE))])[:rank]
    centred = (u[:, :rank] * spread) @ vh[:rank] * n**0.5
    if seed % 10 == 6:
        centred[0] += 60 * expect.random(d_model, seed=200 + seed)
    away = 300.0 if seed % 10 == 8 else 3.0
    return size * (centred + away * expect.random(d_model, seed=100 + seed))


def _axes(x: Tensor) -> Tensor:
    """Return the right singular vectors of x, one in each row, the largest singular value first."""
    return torch.linalg.svd(x, full_matrices=False).Vh


# --- 1.3, 1.7, 1.9: claims ------------------------------------------------------------------------------------------


def _folded(scores: Tensor) -> float:
    half = len(scores) // 2
    value = directions.auroc(scores[:half], scores[half:])
    return max(value, 1 - value)


def _resampled(scores):
    """95 % of the folded AUROCs of resampled prompts."""
    return _middle(_resamples(scores))


def _resamples(scores) -> Tensor:
    n = len(scores) // 2
    draws = torch.randint(0, n, (200, n), generator=torch.Generator().manual_seed(2))
    ranks = torch.from_numpy(rankdata(torch.cat([scores[:n][draws], scores[n:][draws]], dim=1).cpu().numpy(), axis=1))
    values = (ranks[:, :n].sum(dim=1) - n * (n + 1) / 2) / n**2  # `_folded` of each, at once
    return torch.maximum(values, 1 - values).float()


def _middle(values: Tensor, level: float = 0.95):
    return tuple(values.quantile(torch.tensor([0.5 - level / 2, 0.5 + level / 2])).tolist())


@exercise(
    "1.3",
    title="a claim with its control",
    minutes=6,
    difficulty=2,
    hints=[
        "claim(value, interval=..., control=..., control_interval=...)",
        "The control is the same AUROC for the shuffled scores.",
        "folded_auroc(shuffled, is_harmful) and interval_of(shuffled)",
    ],
)
def separates(answer, *data):
    on_other_data(
        answer,
        _separates,
        data,
        lambda seed: _scores(len(data[0]), seed),
        right=lambda scores, shuffled: claim(
            _folded(scores),
            interval=_resampled(scores),
            control=_folded(shuffled),
            control_interval=_resampled(shuffled),
        ),
        at_hand=_aurocs_at_hand,
        limits=lambda *both: [_other_limits(*both), _other_limits(*both[::-1])],
        value_is="use folded_auroc(scores, is_harmful).",
        control_is="use folded_auroc(shuffled, is_harmful).",
        limits_are="use interval_of(scores) and interval_of(shuffled): both are of 95 %.",
        n=6,
    )


def _aurocs_at_hand(names, *data: Tensor) -> dict[str, float]:
    """Numbers that may be claimed in the place of a folded AUROC."""
    made = {"chance, 0.5, which was not measured": 0.5}
    for name, scores in zip(names, data, strict=False):
        first, second = scores.chunk(2)
        made |= {
            f"the AUROC of {name}": _folded(scores),
            f"the AUROC of {name} as it is, below 0.5 where the order is the other way round: it is not folded": directions.auroc(
                first, second
            ),
            f"1 minus the AUROC of {name}: it is not folded": 1 - directions.auroc(first, second),
            f"the share of pairs in {name} in which one is higher: pairs of equal scores are not counted, and each counts 1/2": max(
                higher := float((first[:, None] > second).float().mean()), 1 - higher
            ),
            f"the share of pairs in {name} in which one is at least as high: pairs of equal scores count 1, and each counts 1/2": max(
                higher := float((first[:, None] >= second).float().mean()), 1 - higher
            ),
            f"the difference of the mean scores in {name}, no AUROC": abs(float(first.mean() - second.mean())),
        }
        made |= {f"{words} of {name}{no}": accuracy for words, no, accuracy in _accuracies(first, second)}
    return made


def _accuracies(first: Tensor, second: Tensor) -> list[tuple[str, str, float]]:
    """Return the shares of scores on the right side of 0, of the two means' middle, of the median: as they are, folded."""
    made = []
    middle = {"0": 0.0, "a threshold in the middle": float(first.mean() + second.mean()) / 2}
    middle["the median"] = float(torch.cat([first, second]).median())
    for of, threshold in middle.items():
        right = float(torch.cat([first > threshold, second <= threshold]).float().mean())
        words, no = f"the share on the right side of {of}", ": an accuracy, no AUROC"
        made += [(words, no, right), (words, f"{no} (folded)", max(right, 1 - right))]
    return made


def _refuse_stand_ins(part: str, given: object, scores: Tensor, name: str) -> None:
    """Refuse an AUROC that is not folded and an accuracy, which may lie outside the interval of the right number."""
    right, tip = _folded(scores), f"use folded_auroc({name}, is_harmful)."
    if isinstance(given, bool | str) or not hasattr(given, "__float__") or abs(float(given) - right) < 0.001:
        return
    what = f"the {part} is the AUROC of {name} not folded: an AUROC below 0.5 is folded to 1 - AUROC"
    expect.differs_from(float(given), 1 - right, what, tip)
    for words, no, accuracy in _accuracies(*scores.chunk(2)):
        expect.differs_from(float(given), accuracy, f"the {part} is {words} of {name}{no}", tip)


def _other_limits(scores: Tensor, others: Tensor) -> dict[str, tuple[float, float]]:
    """Intervals that may be claimed in the place of that of the scores."""
    n = len(scores)
    made = {"that of the other scores": _resampled(others)}
    for of, number in (("prompts", n), ("pairs, which share their prompts", n * n // 4)):
        wilson = directions.wilson_interval(round(_folded(scores) * number), number)
        made[f"Wilson's, as if the AUROC were a count of {of}"] = (wilson.low, wilson.high)
    return made


def _scores(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return scores of two sets, the second higher or lower, and others in which it differs less.

    Some are tiny, large or far from 0; in one set many scores are equal; in the last, a few so low that the set which is
    higher nearly everywhere has the lower mean.
    """
    second = torch.arange(n).ge(n // 2)
    if seed == 4:
        return tuple(
            (expect.random(n, seed=2 * seed + k) + apart * second).round() for k, apart in enumerate((-1.0, 0.3))
        )
    if seed == 5:
        made = [3e4 * (expect.random(n, seed=2 * seed + k) + (1.0 - 0.6 * k) * second) for k in range(2)]
        for scores in made:
            scores[-4:] = -1e8
        return tuple(made)
    size, away = ((1.0, 0.0), (1e-3, 0.0), (1.0, 1000.0), (300.0, 0.0))[seed % 4]
    return tuple(
        away + size * (expect.random(n, seed=2 * seed + k) + second * apart[seed % 4])
        for k, apart in enumerate(((2.0, -1.0, 0.5, -3.0), (0.4, 0.3, -0.8, -0.5)))
    )


def _separates(answer: object, scores: Tensor, shuffled: Tensor) -> None:
    if isinstance(answer, Claim):
        _refuse_stand_ins("value", answer.value, scores, "scores")
        _refuse_stand_ins("control", answer.control, shuffled, "shuffled")
    try:
        made = supported(answer, low=0, high=1, apart=False)
    except Wrong as wrong:
        if "outside its interval" not in str(wrong):
            raise
        tip = "is it another statistic than the one resampled? Use folded_auroc and interval_of, on the same scores."
        raise Wrong(str(wrong), tip) from None
    value, control = _folded(scores), _folded(shuffled)
    values = _resamples(scores), _resamples(shuffled)
    own, others = _middle(values[0]), _middle(values[1])
    for name, got, truth, (low, high), of in (
        ("value", made.value, value, made.interval, own),
        ("control", made.control, control, made.control_interval, others),
    ):
        measured = abs(low - of[0]) + abs(high - of[1]) < 0.004
        if measured and abs(got - truth) > 0.001 and abs(got - (low + high) / 2) < 1e-4:
            what = f"the {name} is the middle of its interval, and not the AUROC itself, which need not lie there"
            raise Wrong(what, f"use folded_auroc({'scores' if name == 'value' else 'shuffled'}, is_harmful).")
    expect.differs_from(
        torch.tensor([made.value, made.control]),
        torch.tensor([control, value]),
        "value and control are swapped",
        "the value is measured on `scores`, the control on `shuffled`.",
    )
    if abs(made.control - value) < 0.001:
        raise Wrong("the control is the same number as the value", "the control must be measured on `shuffled`.")
    for name, got, truth, of in (
        ("AUROC", made.value, value, "scores"),
        ("control", made.control, control, "shuffled"),
    ):
        expect.close(got, truth, name=f"the {name}", try_next=f"use folded_auroc({of}, is_harmful).", tolerance=0.001)
    one, two = (levels(lambda level, each=each: _middle(each, level)) for each in values)
    for words in one:
        got = torch.tensor([*made.interval, *made.control_interval]), torch.tensor([*one[words], *two[words]])
        if (got[0] - got[1]).abs().max() < 0.0011 and max(abs(torch.tensor(others) - got[1][2:])) > 0.003:
            raise Wrong(f"the interval is {words}", "interval_of gives 95 %: the quantiles 0.025 and 0.975.")
    for name, (low, high), of in (
        ("interval", made.interval, own),
        ("control's interval", made.control_interval, others),
    ):
        width = of[1] - of[0]
        if not 0.4 * width <= high - low <= 2.5 * width + 0.004:
            what = f"the {name} is {high - low:.3f} wide, and resampling the prompts gives about {width:.3f}"
            refusal = Wrong if high - low < 0.1 * width else Off  # of no width, it is no other interval
            raise refusal(what, "use interval_of on the very scores whose AUROC you claim.")
        near = 0.45 if of[0] > 0.51 else 1.0  # as two resamplings; near 0.5 folding makes it lopsided
        close_limits(name, (low, high), of, near=near)


@exercise(
    "1.7",
    title="claim the effect of the ablation",
    minutes=5,
    difficulty=2,
    hints=[
        "directions.wilson_interval(count, n) is a rate with its interval: claim(it, control=another).",
        "The random directions share their n requests: use directions.runs_interval.",
        "claim(directions.wilson_interval(after, n), control=directions.runs_interval(random_after, n))",
    ],
)
def ablated(answer, *data):
    check_rates(
        answer,
        data,
        lambda after, random_after, n: ((after, n), (random_after, n)),
        "the value is the rate after ablating r: `after` of n.",
        "the mean of the random directions: directions.runs_interval(random_after, n).",
    )


@exercise(
    "1.9",
    title="one dose, two roles",
    minutes=6,
    difficulty=2,
    hints=[
        'added["assistant"]["refused"] is a count of n.',
        "The control is the same count for the friend.",
        "claim(directions.wilson_interval(one, n), control=directions.wilson_interval(other, n))",
    ],
)
def role_matters(answer, *data):
    check_rates(
        answer,
        data,
        lambda added, n: ((added["assistant"]["refused"], n), (added["friend"]["refused"], n)),
        'the value is the assistant\'s: added["assistant"]["refused"] of n.',
        'the control is the friend\'s: added["friend"]["refused"] of n (refused, not warned).',
        drawn=_replies_counted,
    )
    added, n = data
    more = {"agent": {"refused": n // 2, "warned": n // 4}} | added
    tip = 'take the two by their names: added["assistant"], added["friend"].'
    refuse_others(answer, data, (more, n), "where `added` holds a third role, too, you claim something else", tip)


def _replies_counted(data, seed: int):
    """Return other counts, of replies that refuse or warn, and not both: together at most n."""
    added, n = drawn_counts(data, seed)
    made = {who: said | {"warned": said["warned"] * (n - said["refused"]) // n} for who, said in added.items()}
    if seed == 16:  # the friend warns often and never refuses
        made["friend"] = {"refused": 0, "warned": n // 2}
    return made, n


# --- 1.4 ---------------------------------------------------------------------------------------------------------


@exercise(
    "1.4",
    title="difference of means",
    minutes=5,
    difficulty=1,
    inputs=lambda seed: _two_sets(seed),
    hints=[
        "Which axis are the prompts on?",
        "positive.mean(dim=0) - negative.mean(dim=0)",
        "... divided by its .norm()",
    ],
)
def refusal_direction(answer):
    positive = expect.random(6, 4) + torch.tensor([3.0, 1.0, 0.0, 0.0])
    negative = expect.random(9, 4, seed=1) + torch.tensor([0.0, 2.0, 1.0, 0.0])
    difference = positive.mean(dim=0) - negative.mean(dim=0)
    try:
        raw = answer(positive, negative)
    except RuntimeError:
        equal = torch.as_tensor(answer(positive, negative[:6]))  # raises where the sizes do not matter
        if equal.shape == (6,):
            what = "there is one number for each prompt: the means were taken over d_model, not over the prompts"
            raise Wrong(what, "mean(dim=0).") from None
        paired = (positive - negative[:6]).mean(dim=0)
        if equal.shape != paired.shape or abs(float(directions.cosine(equal, paired))) < 0.999:
            raise
        what = "it works only for two sets of equal size: their prompts are paired one by one"
        raise Wrong(what, "take each set's own mean first.") from None
    if isinstance(raw, Tensor) and raw.shape in ((6,), (9,), ()):
        raise Wrong("the mean was taken over d_model, not over the prompts", "mean(dim=0).")
    got = expect.tensor(raw, like=difference, axes="d_model", name="refusal_direction(positive, negative)")
    along = float(directions.cosine(got, difference))
    if along < -0.999:
        raise Wrong("the sign is flipped: it points from positive to negative", "positive minus negative.")
    if along > 0.999 and abs(float(got.norm()) - 1) > 1e-3:
        raise Wrong(f"right direction, but its length is {got.norm():.4g}, not 1", "divide by difference.norm().")
    mistakes = (
        (positive.mean(dim=0), "that is the positive mean alone", "subtract the mean of the negatives."),
        (positive.mean(dim=0) + negative.mean(dim=0), "the means were added", "subtract."),
        (
            directions.unit(positive.mean(dim=0)) - directions.unit(negative.mean(dim=0)),
            "each mean was normalised before the difference",
            "take the difference first, normalise last.",
        ),
        (
            positive.median(dim=0).values - negative.median(dim=0).values,
            "that is the difference of medians",
            "use the mean.",
        ),
        (positive[0] - negative[0], "only the first prompt of each set was used", "average over all prompts."),
        (
            positive.sum(dim=0) - negative.sum(dim=0),
            "that is the difference of sums: the larger set counts more",
            "take means: mean(dim=0).",
        ),
        (
            (positive - negative[:6]).mean(dim=0),
            "prompts were paired one by one: those of the larger set that are over are left out",
            "take each set's own mean first.",
        ),
        (
            directions.project_out(difference, negative.mean(dim=0)),
            "the negatives' mean was projected out of the difference",
            "give the difference as it is, divided by its length.",
        ),
        (
            directions.unit(positive).mean(dim=0) - directions.unit(negative).mean(dim=0),
            "every prompt's vector was normalised before the mean",
            "take the means of the vectors as they are, normalise last.",
        ),
    )
    for value, what, tip in mistakes:
        expect.differs_from(directions.unit(got), directions.unit(value), what, tip)
    expect.close(got, directions.unit(difference), name="refusal_direction(positive, negative)")


def _two_sets(seed: int) -> tuple[Tensor, Tensor]:
    """Return two sets of any two sizes, which need not be equal, of short or long vectors.

    Some hold the same vector more than once, zeros, or vectors of both sets; some are wide or tiny, or one is far from all
    others.
    """
    draw = random.Random(seed)
    if seed == 12:
        return 1e-6 * torch.eye(2), 1e-6 * torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    if seed == 13:  # a set of one
        return torch.tensor([[1.0, 2.0], [3.0, 2.0]]), torch.tensor([[0.0, 1.0]])
    if seed % 5 == 4:  # seven vectors of two, so that many are the same
        corners = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
        rows = [(0, 0, 1), (0, 1, 1, 2, 2, 1), (3, 3, 2, 0, 3), (1, 1, 3, 2)]
        return corners[torch.tensor(rows[seed // 5])], corners[torch.tensor(rows[(seed // 5 + 1) % 4])]
    d_model, scale = draw.randint(2, 9), draw.choice((0.03, 1.0, 30.0))
    some, others = (draw.choice((1, 2, 3, 5, 8, 40, 300)) for _ in range(2))
    if seed % 10 == 7:
        some, others, d_model = 700, 600, WIDE
    positive, negative = expect.random(some, d_model, seed=seed) + 1, expect.random(others, d_model, seed=100 + seed)
    if seed % 10 == 8:
        positive = torch.cat([positive, 100 * expect.random(1, d_model, seed=200 + seed)]).repeat_interleave(2, dim=0)
        positive = torch.cat([positive, positive[:1].expand(20, -1)])
    return (scale * positive, scale * negative) if seed < 10 else (scale * negative, scale * positive)


# --- 1.6 ---------------------------------------------------------------------------------------------------------

ROWS = tuple(
    directions.Candidate(layer=layer, position=position, bypass=bypass, induce=induce, kl=kl)
    for layer, position, bypass, induce, kl in (
        (1, "reply", -14.0, 2.0, 13.1),  # breaks the model: its KL is that of a published run without filters
        (2, "reply", -4.0, 3.0, 0.05),
        (2, "<end>", -6.0, -0.5, 0.02),  # removes refusal, does not induce it
        (3, "reply", -5.0, 1.0, 0.09),  # right
        (4, "reply", -9.0, 4.0, 0.08),  # right for ten layers, too late for six
        (5, "reply", -7.0, 4.0, 0.01),  # too late for six
        (1, "<end>", 3.0, 9.0, 0.00),
    )
)
NEAREST = tuple(
    directions.Candidate(layer=2, position="reply", bypass=bypass, induce=induce, kl=kl)
    for bypass, induce, kl in ((-9.0, 1.0, 0.05), (-1.0, 2.0, 0.03), (3.0, 9.0, 0.0))
)
"""All pass the filters: the lowest bypass, the one nearest to 0, and the highest."""


@exercise(
    "1.6",
    title="choose one direction",
    minutes=8,
    difficulty=2,
    inputs=lambda seed: _rows(seed),
    hints=[
        "First drop every row that fails one of the three filters.",
        "int(0.8 * 6) is 4, so with six layers the layers 0 to 3 are allowed.",
        "min(kept, key=lambda row: row.bypass)",
    ],
)
def choose(answer):
    got = answer(list(ROWS), 6)
    if isinstance(got, list | tuple):
        raise Wrong("it returns several rows", "return one: min(kept, key=lambda row: row.bypass).")
    if got not in ROWS:
        raise Wrong("it does not return one of the rows", "return the row itself, not its score or number.")
    reasons = {
        0: ("the chosen row breaks the model: its KL is 13.1 nats", "keep rows with kl <= 0.1."),
        1: ("the chosen row has a higher bypass score than another that passes", "take the *lowest* bypass."),
        2: ("the chosen row does not induce refusal (induce -0.5)", "keep rows with induce >= 0."),
        4: (
            "the chosen row is too late: layer 4 of 6",
            "layer < int(0.8 * n_layers): int(4.8) is 4, so layers 0 to 3 are left.",
        ),
        5: ("the chosen row is too late: layer 5 of 6", "keep rows with layer < int(0.8 * n_layers)."),
        6: (
            "the chosen row does not bypass (3), and another one that passes does (-5)",
            "bypass decides among the remaining rows, with its sign: the lowest (-5 before 3), not the nearest to 0.",
        ),
    }
    if (index := ROWS.index(got)) == 6 and answer(list(NEAREST), 6) == NEAREST[1]:
        what = "the chosen row has the bypass nearest to 0 (3): it was compared without its sign"
        raise Wrong(what, "the *lowest* bypass, with its sign: -5 comes before 3.")
    if index != 3:
        raise Wrong(*reasons[index])
    if answer(list(ROWS), 10) != directions.select(ROWS, n_layers=10):
        tip = "the limit is int(0.8 * n_layers), of the argument: no fixed number, and not from the rows."
        raise Wrong("with 10 layers it does not choose the right row", tip)
    _refuse_known_choices(answer)
    edge = [ROWS[6], directions.Candidate(layer=1, position=ROWS[6].position, bypass=-1.0, induce=0.0, kl=0.1)]
    if answer(edge, 6) != edge[1]:
        raise Wrong(
            "a row exactly on the limits (KL 0.1, induce 0) was dropped", "use <= 0.1 and >= 0: both include the limit."
        )


def _refuse_known_choices(answer):
    """Refuse by name rules that are right unless rows come near a limit or near each other: two rows each, six layers."""

    def row(layer=1, position="reply", bypass=-1.0, induce=2.0, kl=0.05):
        return directions.Candidate(layer=layer, position=position, bypass=bypass, induce=induce, kl=kl)

    several = "of one block several rows may pass: compare them all"
    for rows, what, tip in (
        ((row(bypass=-2.0), row()), "two rows of one block pass", several),
        ((row(), row(bypass=-2.0)), "two rows of one block pass", several),
        (
            (row(), row(bypass=-2.0, kl=13.0)),
            "one row passes, and the other's KL is 13",
            "a row that fails is never chosen, however few pass",
        ),
        (
            (row(bypass=3.0), row(bypass=5.0)),
            "no row has a bypass below 0",
            "the lowest wins, whatever its sign: no abs, and no search that starts from 0",
        ),
        ((row(bypass=130.0), row(bypass=150.0)), "all bypass scores are above 100", "start from float('inf')"),
        ((row(layer=0), row(kl=2.0)), "only a row of block 0 passes", "blocks count from 0: row.layer may be 0"),
        ((row(layer=3), row(layer=4)), "only a row of block 3 passes", "int(0.8 * 6) is 4: block 3 is below it"),
        ((row(position=-2), row(kl=2.0)), "the position is a number", "no filter asks for the position"),
        ((row(position=-2), row(bypass=-2.0)), "the rows are of two positions", "compare all rows that pass"),
        ((row(position=-5), row()), "the positions are a number and a word", "if bypass ties, any will do"),
        ((row(bypass=-6.04), row(bypass=-6.01)), "bypass is -6.04 and -6.01", "compare it as it is, not rounded"),
        ((row(bypass=-6.01), row(bypass=-6.04)), "bypass is -6.01 and -6.04", "compare it as it is, not rounded"),
        (
            (row(bypass=-6.0001), row(bypass=-6.0004)),
            "bypass is -6.0001 and -6.0004",
            "compare it as it is, not rounded",
        ),
        ((row(), row(bypass=-2.0, kl=0.1004)), "one KL is 0.1004", "0.1 is the limit: neither rounded nor widened"),
        ((row(), row(bypass=-2.0, kl=0.13)), "one KL is 0.13", "0.1 is the limit: do not round KL"),
        (
            (row(), row(bypass=-2.0, induce=-4e-4)),
            "one induce is -0.0004",
            "0 is the limit: neither rounded nor widened",
        ),
        ((row(bypass=-2.0, induce=40.0), row()), "one induce is 40", "no filter has an upper limit for it"),
    ):
        right = directions.select(rows, n_layers=6)
        ties = [each for each in rows if each.bypass == right.bypass and each.layer < 4 and each.kl <= 0.1]
        try:
            got = answer(list(rows), 6)
        except ValueError:
            got = None  # the minimum of nothing
        except Wrong as wrong:
            if "returned None" not in str(wrong):
                raise
            got = None
        if got not in ties:
            gave = "no row" if got is None else f"row {rows.index(got)}" if got in rows else expect.describe(got)
            where = "; ".join(
                f"row {n}: layer {r.layer}, position {r.position!r}, bypass {r.bypass:g}, induce {r.induce:g}, KL {r.kl:g}"
                for n, r in enumerate(rows)
            )
            raise Wrong(f"where {what}, it gives {gave}, and row {rows.index(right)} is right", f"{tip}.", where=where)


# --- 1.5, 1.8 ----------------------------------------------------------------------------------------------------


@exercise(
    "1.5",
    title="the ablation hook",
    minutes=12,
    difficulty=4,
    inputs=lambda seed, model: _to_ablate(seed // 3) if seed % 3 == 0 else None,
    hints=[
        "The hook function returns activation - (activation @ u)[..., None] * u, where u has length 1.",
        "The same function goes under 1 + 2 x n_layers names: what enters block 0, and every hook_attn_out and hook_mlp_out.",
        "with model.hooks([(name, project_out) for name in names]): return models.next_token_logits(model, prompts)",
    ],
)
def ablated_logits(answer, model):
    model, prompts, direction = _to_ablate(1 if models.d_model(model) == 32 else 0)  # not the notebook's
    unit = directions.unit(direction)
    layers = range(models.n_layers(model))
    attention, mlp = ([f"blocks.{n}.hook_{part}_out" for n in layers] for part in ("attn", "mlp"))
    names = ["blocks.0.hook_resid_pre", *attention, *mlp]

    def hooked(change, left=(), at=names, asked=prompts):
        hooks = [(name, lambda x, hook: change(x, (x @ unit)[..., None])) for name in at if name not in left]
        with model.hooks(hooks):
            return models.next_token_logits(model, asked)

    def right(x, along):
        return x - along * unit

    truth, weights = hooked(right), {key: value.clone() for key, value in model.original_model.state_dict().items()}
    name = "ablated_logits(model, prompts, direction)"
    try:
        raw = answer(model, prompts, direction)
    except RuntimeError:
        square = [[4 + n % 9 for n in range(len(unit))]]  # as many tokens as entries: a lost axis runs
        _refuse_lost_axis(
            answer(model, square, direction), hooked(lambda x, along: x - along[..., 0] * unit, asked=square)
        )
        raise
    _refuse_changed_weights(model, weights)
    got = expect.tensor(raw, like=truth, axes="prompt d_vocab", name=name)
    by_length = sorted(range(len(prompts)), key=lambda n: len(prompts[n]))
    for order, which in ((by_length, "shortest first"), (by_length[::-1], "longest first")):
        tip = "the caller's order: row n of the logits belongs to prompts[n]."
        expect.differs_from(got, truth[order], f"the rows are ordered by the prompts' lengths, {which}", tip)
    if expect.same(got, hooked(right, names)):
        raise _unedited(answer, model, prompts, direction)
    for left, what in (
        (names[:1], "the embedding still writes along the direction"),
        (attention, "attention still writes along the direction"),
        (mlp, "the MLPs still write along the direction"),
        (attention + mlp, "only the embedding is cut, and the blocks write the part again"),
        ([names[0], *attention], "only what the MLPs write is cut"),
        ([names[0], *mlp], "only what attention writes is cut"),
        (attention[1:] + mlp[1:], "of the blocks only the first is cut"),
        (attention[:1] + mlp[:1], "what the first block writes is not cut"),
        (attention[-1:] + mlp[-1:], "what the last block writes is not cut"),
    ):
        tip = "embedding, every attention, every MLP: 1 + 2 x n_layers hook names."
        expect.differs_from(got, hooked(right, left), what, tip)
    for streams, what in (
        (
            ("pre",),
            "you cut what blocks read (resid_pre): what the last block writes stays, and each MLP reads its attention's",
        ),
        (("pre", "mid"), "you cut what blocks read (resid_pre, resid_mid): what the last block's MLP writes stays"),
        (
            ("post",),
            "you cut what blocks leave (resid_post): block 0 still reads the embedding, each MLP its attention's part",
        ),
    ):
        at = [f"blocks.{n}.hook_resid_{stream}" for n in layers for stream in streams]
        tip = "cut what is *written*: embedding, every hook_attn_out and every hook_mlp_out."
        expect.differs_from(got, hooked(right, at=at), what, tip)
    at = ["blocks.0.hook_resid_pre", *(f"blocks.{n}.hook_resid_post" for n in layers)]
    end = [f"blocks.{layers[-1]}.hook_resid_post"]
    what = "only what leaves the last block is cut: all blocks still read the part, and write by it"
    tip = "cut what is *written*, where it is written: embedding, every hook_attn_out and every hook_mlp_out."
    expect.differs_from(got, hooked(right, at=end), what, tip)
    what = "the stream is cut between blocks only: each MLP still reads what attention writes in its own block"
    expect.differs_from(got, hooked(right, at=at), what, "cut what attention writes, too: every hook_attn_out.")
    for wrong, what, tip in (
        (
            lambda x, along: x - along * unit * (direction @ direction),
            "the direction was not made a unit vector",
            "divide it by its norm first.",
        ),
        (
            lambda x, along: x - along * direction,
            "only one of the two directions is a unit vector",
            "use u in both places.",
        ),
        (lambda x, along: x + along * unit, "the part was added", "subtract it."),
        (
            lambda x, along: along * unit,
            "this *keeps* only the part along the direction",
            "subtract it from the activation.",
        ),
        (lambda x, along: x - unit, "the unit vector itself was subtracted", "subtract the projection: (a . u) u."),
        (lambda x, along: x - 2 * along * unit, "the part was mirrored, not removed", "subtract it once."),
        (
            lambda x, along: x - along.clamp(min=0) * unit,
            "only positive parts were removed",
            "remove the part whatever its sign.",
        ),
        (
            lambda x, along: x - along.abs() * unit,
            "the part has lost its sign: it may be below 0",
            "subtract (a . u) u, with the sign of a . u.",
        ),
        (
            lambda x, along: (
                right(x, along) / right(x, along).norm(dim=-1, keepdim=True) * x.norm(dim=-1, keepdim=True)
            ),
            "what is left was stretched back to its old length",
            "return a - (a . u) u as it is.",
        ),
        (
            lambda x, along: torch.cat([x[:, :1], right(x, along)[:, 1:]], dim=1),
            "the first token is not cut",
            "cut at every token.",
        ),
        (
            lambda x, along: torch.cat([right(x, along)[:, :-1], x[:, -1:]], dim=1),
            "the last token is not cut",
            "cut at every token.",
        ),
        (
            lambda x, along: x - along.mean() * unit,
            "the same amount was subtracted from every token",
            "project each vector on its own.",
        ),
        (
            lambda x, along: x - along.mean(dim=1, keepdim=True) * unit,
            "the same amount was subtracted from every token of a prompt",
            "project each vector on its own.",
        ),
        (
            lambda x, along: torch.cat([x[:, :-1], right(x, along)[:, -1:]], dim=1),
            "only the last token is cut",
            "cut at every token.",
        ),
        (
            lambda x, along: x - along[:, -1:] * unit,
            "the last token's part was subtracted from all tokens",
            "project each vector on its own.",
        ),
    ):
        expect.differs_from(got, hooked(wrong), what, tip)
    if not expect.same(got, truth):
        _refuse_one_place(got, hooked, right, len(layers))
    for value, what in (
        (truth.log_softmax(dim=-1), "these are log-probabilities, not logits"),
        (truth.softmax(dim=-1), "these are probabilities, not logits"),
    ):
        expect.differs_from(got, value, what, "return what models.next_token_logits gives.")
    expect.close(got, truth, name=name)
    expect.tensor(
        answer(model, prompts[:1], direction), like=truth[:1], axes="prompt d_vocab", name=f"for one prompt, {name}"
    )
    _refuse_blocks_left(answer)
    _refuse_in_place(answer, model, prompts, direction)


def _refuse_one_place(got, hooked, right, n):
    """Refuse by name what cuts the stream at one place only; n is the number of blocks."""
    tip = "cut at all places where something is written: embedding, every hook_attn_out and every hook_mlp_out."
    places = [
        f"blocks.{k}.hook_{name}" for k in range(n) for name in ("resid_pre", "resid_mid")
    ]  # post is the next pre
    places += [f"blocks.{k}.hook_{name}_out" for k in range(n) for name in ("attn", "mlp")]
    for place in places:
        what = (
            f"the stream is cut at one place only, {place}: what is written elsewhere has its part along the direction"
        )
        expect.differs_from(got, hooked(right, at=[place]), what, tip)
    mid = [f"blocks.{k}.hook_resid_mid" for k in range(n)]
    what = "the stream is cut only between attention and MLP (resid_mid): attention reads the embedding's and the MLPs' part"
    expect.differs_from(got, hooked(right, at=mid), what, tip)
    ends = ["blocks.0.hook_resid_pre", f"blocks.{n - 1}.hook_resid_post"]
    what = "only what enters the first block and what leaves the last one is cut: between them, blocks write the part again"
    expect.differs_from(got, hooked(right, at=ends), what, tip)


@contextlib.contextmanager
def _watching(model, see):
    """While this is open, `see(point, activation)` is called at every hook point before the learner's hooks run there."""
    handles = [
        point.register_forward_hook(lambda module, _, output: see(module, output), prepend=True)
        for point in model.hook_points()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _unedited(answer, model, prompts, direction) -> Wrong:
    """Return why the logits are those of the unedited model: no hook is active, or they change nothing that counts."""
    active = []
    with _watching(model, lambda point, _: active.append(len(point.fwd_hooks))):
        answer(model, prompts, direction)
    if not any(active):
        what = "the logits are those of the unedited model: while it ran, no hook was active"
        return Wrong(
            what, "call models.next_token_logits inside the `with model.hooks(...)`: as it ends, so do its hooks."
        )
    what = "the logits are those of the unedited model: hooks were active, and changed nothing"
    return Wrong(what, "a hook function returns the new activation: activation - (activation @ u)[..., None] * u.")


def _refuse_blocks_left(answer):
    """Refuse by name what cuts as many blocks as the notebook's model has, in one that has more."""
    model, prompts, direction = _to_ablate(3)
    n = models.n_layers(model)
    got = answer(model, prompts, direction)
    for k in range(1, n):
        names = [
            "blocks.0.hook_resid_pre",
            *(f"blocks.{b}.hook_{part}_out" for b in range(k) for part in ("attn", "mlp")),
        ]
        with model.hooks([(name, lambda x, hook: directions.project_out(x, direction)) for name in names]):
            logits = models.next_token_logits(model, prompts)
        what = f"in a model of {n} blocks only the first {k} are cut"
        expect.differs_from(got, logits, what, "count its blocks: for layer in range(models.n_layers(model)).")


def _refuse_in_place(answer, model, prompts, direction):
    """Refuse hooks that write into the activation they are given, where others may read it."""
    seen = []

    def see(point, activation):
        if isinstance(activation, Tensor):
            seen.append((activation, activation.clone()))

    with _watching(model, see):
        answer(model, prompts, direction)
    if not all(torch.equal(*each) for each in seen):
        what = "the logits are right, but the hook function writes into the activation it is given: whoever else holds it gets the change"
        raise Wrong(what, "return a new tensor: `activation - ...`, no `-=` and no `activation[...] = ...`.")


def _to_ablate(seed: int) -> tuple[object, list[list[int]], Tensor]:
    """Return a model, prompts of several lengths in any order and a short or long direction.

    In some there are many prompts, equal ones among them, or only one; one model has other numbers of blocks than the
    organisms.
    """
    model = (
        drawn.other("14 blocks of chat-32")
        if seed % 7 == 3
        else drawn.other("chat" if seed == 6 else ("chat-64", "chat-32")[seed % 2])
    )
    prompts = [_prompt(3 * n + seed % 2 * seed, n) for n in (5, 9, 1)]  # 0 and 2 have the same
    if seed % 7 == 4:
        prompts = [_prompt(n, 1 + n % 2) for n in range(MANY)] + prompts
    if seed % 7 == 5:
        prompts = [_prompt(1, 80), prompts[0], prompts[2], prompts[0]]
    if seed == 6:
        prompts = prompts[:1]
    unit = directions.unit(expect.random(models.d_model(model), seed=7 + seed) + 0.3)
    if seed == 1:  # with equal entries
        unit = (8 * unit).round()
    if seed == 6:  # along which a block writes much
        unit = directions.unit(model.run_with_cache(torch.tensor(prompts))[1]["blocks.0.hook_mlp_out"][0, -1])
    return model, prompts, unit * (3.0, 5.0, 0.02, 50.0, 0.7, 1e-6, 4000.0)[seed % 7]


def _refuse_changed_weights(model, weights):
    """Refuse an answer that has changed the model itself, and put its weights back."""
    now = model.original_model.state_dict()
    changed = [name for name in weights if not torch.equal(now[name], weights[name])]
    for name in changed:
        now[name].copy_(weights[name])
    if changed:
        what = f"your function changed the model's weights for good ({len(changed)} matrices)"
        raise Wrong(what, "hooks change activations, and only as long as their context is open.")


@exercise(
    "1.8",
    title="match the projection",
    minutes=8,
    difficulty=3,
    inputs=lambda seed: _vectors_and_target(seed),
    hints=[
        "First subtract the part along `unit`.",
        "Then add target times unit.",
        "a - (a @ unit)[..., None] * unit + target * unit",
    ],
)
def match_projection(answer):
    a, unit, target = expect.random(2, 3, 4, seed=3), torch.tensor([0.6, 0.0, 0.8, 0.0]), 2.5
    along = (a @ unit)[..., None]
    try:
        raw = answer(a, unit, target)
    except RuntimeError:
        square = expect.random(1, 4, 4)
        _refuse_lost_axis(answer(square, unit, target), square - (square @ unit) * unit + target * unit)
        raise
    got = expect.tensor(raw, like=a, axes="batch token d_model", name="match_projection(a, unit, target)")
    mistakes = (
        (a + target * unit, "the target was added on top of what was there", "subtract the present part first."),
        (a - along * unit, "the part is removed, but the target is not added", "add target * unit."),
        (target * unit.expand_as(a), "everything else was lost", "keep the part of a that is orthogonal to unit."),
        (a - along * unit - target * unit, "the sign of the target is flipped", "add it."),
        (
            a + along * unit + target * unit,
            "the present part was added instead of removed",
            "subtract (a . unit) unit.",
        ),
        (a * target / along, "the whole vector was scaled", "change only the part along unit."),
        (
            a + (along - target) * unit,
            "both signs are the wrong way round",
            "subtract the present part, add the target.",
        ),
        (
            torch.cat([a[:, :-1], _match(a, unit, target)[:, -1:]], dim=1),
            "only the last token was changed",
            "change every vector: keep the leading axes, [..., None].",
        ),
        (
            a - along.abs() * unit + target * unit,
            "the present part has lost its sign: it may be below 0",
            "subtract (a . unit) unit, with the sign of a . unit.",
        ),
        (a - along * unit + target, "the target was added to every number", "add target * unit."),
        (
            a - along * unit + target * along * unit,
            "the target multiplies the present part",
            "add target * unit, the same for every token.",
        ),
        *(
            (
                a - part * unit + target * unit,
                f"the projection of the {which} token was removed from all tokens",
                "project each vector on its own.",
            )
            for which, part in (
                ("first", along[:, :1]),
                ("last", along[:, -1:]),
                ("first prompt's first", along[:1, :1]),
                ("last prompt's last", along[-1:, -1:]),
            )
        ),
        *(
            (
                a - part * unit + target * unit,
                f"the projections of the {which} prompt were removed from all prompts",
                "project each vector on its own.",
            )
            for which, part in (("first", along[:1]), ("last", along[-1:]))
        ),
        (
            a - (a @ unit).mean() * unit + target * unit,
            "the mean projection was removed",
            "project each vector on its own.",
        ),
        (
            directions.unit(_match(a, unit, target)) * a.norm(dim=-1, keepdim=True),
            "the vectors were rescaled to their old length, which changes the projection again",
            "return the sum as it is.",
        ),
    )
    for value, what, tip in mistakes:
        expect.differs_from(got, value, what, tip)
    expect.close(got, _match(a, unit, target), name="match_projection(a, unit, target)")
    for few, of in ((a[:1], "one prompt"), (a[:, :1], "one token"), (a[:1, :1], "one prompt of one token")):
        name = f"for {of}, match_projection(a, unit, target)"
        expect.tensor(answer(few, unit, target), like=few, axes="batch token d_model", name=name)


def _refuse_lost_axis(got: object, mistake: Tensor) -> None:
    """Refuse projections that are multiplied with the direction's entries: as many vectors as entries let it run."""
    what = "the projections have lost the last axis, so each of them does not multiply the whole unit vector"
    expect.differs_from(got, mistake, what, "give it back to them: (... @ unit)[..., None] * unit.")


def _vectors(seed: int, *, axes: int) -> tuple[Tensor, Tensor]:
    """Return vectors along any number of axes, and a short, middling or long direction."""
    draw = random.Random(seed)
    d_model, shape = draw.choice((2, 4, 9, 40)), [draw.randint(1, 5) for _ in range(axes)]
    if axes and seed % 2:
        shape[0], shape[-1] = few_or_many(seed, shape[0]), 60
    direction = directions.unit(expect.random(d_model, seed=100 + seed)) * draw.choice((0.02, 0.7, 3.0, 50.0))
    return expect.random(*shape, d_model, seed=seed), direction


def _vectors_and_target(seed: int) -> tuple[Tensor, Tensor, float | Tensor]:
    """Return vectors, some of them 0, some wide, many or long, and a target, which may be a tensor without axes.

    In one of them the target is small, and the part of a vector along the direction is near it; in two, of one vector each,
    it is 0 and below 0.
    """
    if seed in (10, 16):
        return torch.tensor([[[2.0, 1.0]]]), torch.tensor([0.6, 0.8]), (-2.0 if seed == 10 else 0.0)
    if seed == 11:
        return torch.tensor([[[0.4, -0.3], [0.0, 0.1]]]), torch.tensor([0.6, 0.8]), 9e-4
    vectors, direction = _vectors(seed, axes=2)
    if seed % 10 == 3:
        vectors, direction = expect.random(2, 3, WIDE, seed=seed), expect.random(WIDE, seed=100 + seed)
    if seed % 10 == 5:
        vectors = expect.random(3 * MANY, 5 * MANY, len(direction), seed=seed)
    if seed in (6, 17):
        vectors = (300 if seed < 10 else 1e5) * vectors
    if seed % 10 == 8:
        vectors[:, 0] = 0
    if seed % 10 == 9:
        vectors = vectors[:1].repeat(3, 1, 1)
    target = (-2.3, 0.0, 0.02, 40.0, 300.0)[seed % 5]
    return vectors, directions.unit(direction), torch.tensor(target) if seed % 4 == 2 else target


def _match(a: Tensor, unit: Tensor, target: float) -> Tensor:
    return a - (a @ unit)[..., None] * unit + target * unit


def _asked(seed, model):
    """A prompt of any length and any block, every third time of another model than the notebook's.

    One prompt comes in both models, and one is as long as another, of the same block.
    """
    if seed % 3 == 2:
        model = drawn.other("chat-64" if models.d_model(model) == 32 else "chat-32")
    like = 16 if seed in (17, 18) else seed
    ids = _prompt(like, 1 + 2 * like)
    if seed == 18:
        ids[2] += 1
    return model, ids, like % models.n_layers(model)


def _prompt(seed, n):
    """n ids as in a real prompt: in no order, some more than once, above 255, most in the template, some of two turns."""
    draw = random.Random(seed)
    words = [draw.randrange(6, 900) for _ in range(n)]
    words += [draw.choice(words) for _ in range(n // 3)]
    return (words, [1, 4, *words, 2, 5], [1, 4, *words, 2, 5, *words[:3], 2, 4, *words[::-1], 2, 5])[seed % 3]


def _rows(seed):
    """Candidates in any order, some exactly on a limit or a hair beyond it, at least one of which passes.

    Models have 2 to 80 layers. In every second table there are near ties, and most rows pass, in some a hundred.
    """
    draw, near, many = random.Random(seed), seed % 2 == 0, seed in (6, 16)
    n_layers = 80 if seed % 10 == 5 else (2, 4, *range(5, 13))[seed % 10]
    rows = [
        directions.Candidate(
            layer=draw.randrange(n_layers),
            position=draw.choice(("reply", "<end>", -1, -6)),
            bypass=score / (10, 1, 10000)[(seed + 1) % 2 + (seed % 10 == 8)],
            induce=draw.choice((0.0, 2.0, 40.0) if near else (-0.5, -4e-4, -4e-7, 0.0, 2.0)),
            kl=draw.choice((0.0, 0.1) if near else (0.0, 0.1, 0.1000004, 0.1004, 0.104, 0.11, 2.0)),
        )
        for score in draw.sample(
            range(-8, 8) if near and not many else range(-60, 60),
            110 if many else draw.choice((3, 10, 16) if near else (3, 10, 80)),
        )
    ]
    rows += [directions.Candidate(layer=0, position="reply", bypass=30.0 + k, induce=0.0, kl=0.1) for k in range(2)]
    if n_layers == 80:
        rows.append(directions.Candidate(layer=63, position="reply", bypass=-7.0, induce=0.0, kl=0.1))
    draw.shuffle(rows)
    return rows, n_layers


# --- predictions and questions -----------------------------------------------------------------------------------

prediction(
    "1.p1",
    "Of twenty random directions, how many have an AUROC > 0.95 or < 0.05 in the middle block?",
    bounds=(0, 20),
    unit=" of 20 directions",
)
prediction(
    "1.p2",
    "Of 100 harmful requests, how many are still refused after ablating the direction?",
    bounds=(0, 100),
    unit=" of 100 requests",
)
prediction(
    "1.p3",
    "d is added at the last token: at which coefficient is half of the harmless requests refused?",
    bounds=(0, 2),
    unit=" times d",
)
prediction(
    "1.p4",
    "With direction and threshold from <assistant>, how many of 200 requests at <friend> are classified correctly?",
    bounds=(0, 200),
    unit=" of 200 requests",
)

question(
    "1.q1",
    "PC1 separates the two sets with AUROC 1.00. What is still needed?",
    options={
        "a": ("Nothing, it is perfect.", "Length or wording alone can give 1.00; without a control it means little."),
        "b": ("More layers.", "The number of layers does not tell why it separates."),
        "c": (
            "Shuffled labels, sets matched in length and form, random directions.",
            "Right: shuffled labels must give chance and matched sets still separate; where random directions do as well, it says nothing about PC1.",
        ),
        "d": ("A bigger model.", "The same doubt would remain."),
    },
    correct="c",
)
question(
    "1.q2",
    "Why can PC1 miss harm?",
    options={
        "a": ("PCA is random.", "It is deterministic, up to sign."),
        "b": (
            "It follows whatever varies most, which need not be harm.",
            'Right: when harm was rare, it followed punctuation at the token ". or ?" (and at the reply token phrasing, with the answer it asks for: "Further").',
        ),
        "c": ("It needs labels.", "It uses none, and that is why it cannot know your question."),
        "d": ("Harm is not in the activations.", "The difference of means finds it in the same vectors."),
    },
    correct="b",
)
question(
    "1.q3",
    "Ablating a random direction changed almost nothing. What does that control rule out?",
    options={
        "a": (
            "That ablating any direction removes refusal.",
            "Right: none of the random directions has the effect of r.",
        ),
        "b": ("That refusal has a second direction.", "It says nothing about other special directions."),
        "c": ("That the model was damaged.", "KL and the harmless answers test that."),
        "d": ("That the judge is wrong.", "The same judge is used in both."),
    },
    correct="a",
)
question(
    "1.q4",
    "At coefficient 2 on all tokens the first word of `chat` is always 'i'. Why is that no refusal?",
    options={
        "a": ("The coefficient must be whole.", "Any number will do."),
        "b": ("'i' is not a refusal word.", "It begins the refusal 'i apologize'."),
        "c": ("The layer was wrong.", "The same layer works at coefficient 1."),
        "d": (
            "The text is broken; the first word cannot show that.",
            "Right: read the replies, do not only count them.",
        ),
    },
    correct="d",
)
question(
    "1.q5",
    "r separates harmful from harmless at <friend>, and the friend warns without it as before. What is r?",
    options={
        "a": ("Certainly the refusal direction.", "At <friend> it is present, and unedited nothing is refused."),
        "b": (
            "A direction that is readable in both roles and needed in one.",
            "Right: 'i apologize' needs it, warnings do not. What adding d *can* cause is a third point and depends on the dose.",
        ),
        "c": (
            "Noise.",
            "The best random one separates as well, but none is so close to the friend's own difference of means.",
        ),
        "d": ("The friend's warning.", "All warnings remain after ablating it."),
    },
    correct="b",
)
