"""Exercises of notebook 02: weight edits, their costs, healing, ways to lose refusal, defences, post-norm models."""

import math
import random
import re
from collections.abc import Callable
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from chapters.claimed import check_rates, close_limits, levels, on_other_data, refuse_incomplete, refuse_others
from chapters.drawn import MANY, WIDE, few_or_many, refuse_one_in_a_row, unwatched, up_to_sign
from course_lib import directions
from course_lib.grading import expect
from course_lib.grading.checking import N_INPUTS
from course_lib.grading.claims import claim, supported
from course_lib.grading.registry import Off, Wrong, exercise, prediction, question

# --- 2.1 ---------------------------------------------------------------------------------------------------------


MATRICES = ("embed", "attention 0", "MLP 0", "unembed")


@exercise(
    "2.1",
    title="the rank-1 edit",
    minutes=12,
    difficulty=3,
    inputs=lambda seed: _weights(seed),
    hints=[
        "Make the direction a unit vector r. For one column w of W the result is w - (w . r) r.",
        "r @ weight holds w . r for every column: shape [input]. In the embedding the *rows* are what is written.",
        "weight - unit[:, None] * (unit @ weight); for the embedding weight - (weight @ unit)[:, None] * unit",
    ],
)
def orthogonalise(answer):
    long = torch.tensor([2.0, 1.0, 0.0, -2.0])  # norm 3; matrices are square, so that the wrong side also fits
    weights = {name: expect.random(4, 4, seed=seed) for seed, name in enumerate(MATRICES)}
    for name in ("attention 0", "MLP 0"):  # what its columns write along the direction has both signs
        weights[name] = weights[name] * (long @ weights[name]).sign() * torch.tensor([1.0, -1.0, 1.0, -1.0])
    raw = answer(weights, long)
    if not isinstance(raw, dict) or set(raw) != set(weights):
        what = f"the names {', '.join(raw)}" if isinstance(raw, dict) else expect.describe(raw)
        raise Wrong(f"it returns {what}", "return a dictionary with the same names as `weights`.")
    got = {name: expect.tensor(raw[name], like=weights[name], axes="row column", name=name) for name in MATRICES}
    for name in ("attention 0", "MLP 0"):
        expect.differs_from(got[name], weights[name], f"{name} still writes along the direction", "edit every matrix.")
        as_embed = weights[name] - (weights[name] @ directions.unit(long))[:, None] * directions.unit(long)
        if expect.same(got[name], as_embed) and _right_if_broad(answer, long, name):
            what = (
                f"{name} is edited like the embedding where it has as many inputs as the stream has numbers (4 and 4)"
            )
            raise Wrong(what, "the side follows from a matrix's name, not from its shape: all but embed write columns.")
        _refuse_known_edits(got[name], weights[name], long, name)
        expect.close(got[name], _orthogonalise(weights[name], long), name=f"the edited {name}")
    words = weights["embed"]
    tip = "a word writes its row: weight - (weight @ unit)[:, None] * unit."
    expect.differs_from(got["embed"], words, "the embedding still writes along the direction", tip)
    what, name = (
        "the embedding is edited like the others",
        'its side follows from its name, "embed", not from its shape.',
    )
    if expect.same(got["embed"], _orthogonalise(words, long)) and _right_if_long(answer, long):
        raise Wrong(f"{what} where it has as many words as the stream has numbers (4 and 4)", name)
    expect.differs_from(got["embed"], _orthogonalise(words, long), what, tip)
    _refuse_known_edits(got["embed"].T, words.T, long, "embed")
    expect.close(got["embed"], _orthogonalise(words.T, long).T, name="the edited embedding", try_next=tip)
    if not expect.same(got["unembed"], weights["unembed"]):
        raise Wrong(
            "the unembedding was edited", "it reads from the stream and writes nothing to it: return it as it is."
        )
    deep = {
        f"{part} {block}": expect.random(4, 4, seed=60 + block) for block in range(12) for part in ("attention", "MLP")
    }
    raw = answer(weights | deep, long)
    left = [name for name in deep if expect.same(raw.get(name), deep[name])]
    if left:
        what = f"in a model of 12 blocks {len(left)} of {len(deep)} matrices still write along the direction: {left[0]}, ..."
        raise Wrong(what, "edit every matrix of `weights`, however many blocks there are: loop over weights.items().")
    tied = {"embed": words, "MLP 0": weights["MLP 0"], "unembed": words}
    made = unwatched(answer)(tied, long)
    if expect.same(made["embed"], words):
        raise Wrong(
            'where "embed" is the very same tensor as "unembed", as in a tied model, it is left unedited',
            "go by the names.",
        )
    if not expect.same(made["unembed"], words):
        what = 'where "unembed" is the very same tensor as "embed", as in a tied model, it is edited, too'
        tip = "go by the names, and make each new matrix with W - ...: in place (-=) one tensor changes under both."
        raise Wrong(what, tip)


def _right_if_long(answer: Callable[[dict[str, Tensor], Tensor], dict[str, Tensor]], long: Tensor) -> bool:
    """Return whether an embedding of more words than d_model is edited on the right side."""
    words = expect.random(6, 4)
    return expect.same(answer({"embed": words, "unembed": words}, long)["embed"], _orthogonalise(words.T, long).T)


def _right_if_broad(answer: Callable[[dict[str, Tensor], Tensor], dict[str, Tensor]], long: Tensor, name: str) -> bool:
    """Return whether the matrix of this name is edited on the right side where it is not square."""
    broad = expect.random(4, 6)
    made = answer({"embed": expect.random(6, 4), name: broad, "unembed": expect.random(6, 4)}, long)
    return expect.same(made.get(name), _orthogonalise(broad, long))


OF_ROWS = {"column": "row", "row": "column", "r @ weight": "weight @ r", "weight @ r": "r @ weight"} | {
    "unit[:, None] * (unit @ weight)": "(weight @ unit)[:, None] * unit",
    "torch.outer(unit, unit @ weight)": "torch.outer(weight @ unit, unit)",
}
"""What is said of a matrix that writes its columns -> the same of the embedding, which writes its rows."""


def _refuse_known_edits(got: Tensor, weight: Tensor, long: Tensor, name: str) -> None:
    """Refuse by name wrong edits of a matrix that writes its columns; of the embedding, both are given transposed."""
    r, right = directions.unit(long), _orthogonalise(weight, long)
    mistakes = (
        (
            weight - (weight @ r)[:, None] * r,
            "the wrong side was projected: it no longer *reads* the direction, and still writes it",
            "the matrix writes its columns; use r @ weight, not weight @ r.",
        ),
        (
            weight - torch.outer(long, long @ weight),
            "the direction was not made a unit vector",
            "divide it by its norm first.",
        ),
        (
            weight - torch.outer(long, r @ weight),
            "only one of the two directions is a unit vector",
            "use the unit vector in both places.",
        ),
        (
            weight - torch.outer(long, long @ weight) / long.norm() ** 4,
            "the direction was divided by its squared length, which leaves no unit vector",
            "divide it by its norm.",
        ),
        (
            weight - torch.outer(r, (r @ weight).clamp(min=0)),
            "only positive parts were removed",
            "remove the part whatever its sign.",
        ),
        (weight + torch.outer(r, r @ weight), "the part was added", "subtract it."),
        (
            weight - r * (r @ weight),
            "each column's projection does not multiply the whole unit vector: an axis is lost",
            "unit[:, None] * (unit @ weight), or torch.outer(unit, unit @ weight).",
        ),
        (torch.outer(r, r @ weight), "this *keeps* only the part along the direction", "subtract it from the weight."),
        (weight - 2 * torch.outer(r, r @ weight), "the part was mirrored, not removed", "subtract it once."),
        (
            weight - r[:, None],
            "the direction itself was subtracted from every column",
            "scale it by each column's projection: r @ weight.",
        ),
        (
            (weight - torch.outer(r, r @ weight)) @ (torch.eye(4) - torch.outer(r, r)),
            "both sides were projected",
            "project the output side only.",
        ),
        (
            right * weight.norm(dim=1, keepdim=True) / right.norm(dim=1, keepdim=True),
            "the rows were rescaled to their old norm, which restores part of the direction",
            "return the projection as it is.",
        ),
    )
    mistakes += (
        (
            right * weight.norm(dim=0) / right.norm(dim=0),
            "the columns were stretched back to their old length",
            "return the projection as it is.",
        ),
        (
            weight - torch.outer(r, (r @ weight).mean().expand(4)),
            "the same amount was subtracted from every column",
            "each column has its own projection: r @ weight.",
        ),
        *(
            (
                weight.where(torch.arange(4)[:, None] != row, 0),
                "a row was set to 0, and the other rows still write along the direction",
                "the direction is spread over all rows: subtract each column's projection onto it.",
            )
            for row in range(4)
        ),
    )
    for value, *said in mistakes:
        if name == "embed":
            said = [re.sub("|".join(map(re.escape, OF_ROWS)), lambda found: OF_ROWS[found[0]], each) for each in said]
        expect.differs_from(got, value, f"{name}: {said[0]}", said[1])


def _weights(seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Return the matrices of a narrow or wide model of 0 to 33 blocks, and a short or long direction.

    Some hold more words or inputs than a notebook's model, large numbers, equal columns or nothing but 0. One is
    the MLP of one block alone, as in Further.
    """
    draw = random.Random(seed)
    d_model, n_words, n_inputs = draw.choice((2, 4, 9, 40)), draw.choice((1, 3, 8, 40)), draw.choice((1, 3, 5, 8, 40))
    if seed == 11:
        return {"MLP 0": torch.tensor([[5.0, 1.0], [0.0, 2.0]])}, torch.tensor([3.0, 4.0])
    if seed == 0:  # no blocks: small enough to be shown number by number in a message
        d_model, n_words, n_inputs = 2, 1, 1
    if seed % 10 == 6:
        d_model, n_words, n_inputs = WIDE, 40 * MANY, 15 * MANY  # as many as in the notebook's model
    parts = [f"{part} {block}" for block in range((0, 1, 2, 7, 33)[seed % 5]) for part in ("attention", "MLP")]
    names = ["embed", *parts, "unembed"] if seed % 2 else [*parts[::-1], "unembed", "embed"]
    shapes = {name: (n_words, d_model) if "embed" in name else (d_model, n_inputs) for name in names}
    weights = {name: expect.random(*shape, seed=10 * seed + k) for k, (name, shape) in enumerate(shapes.items())}
    if seed % 10 == 8:
        weights = {name: 300 * weight for name, weight in weights.items()}
    if seed % 10 == 9:
        weights = {name: weight[:, :1].expand_as(weight).clone() for name, weight in weights.items()}
        weights["MLP 3"].zero_()
    length = 2000.0 if seed % 10 == 7 else draw.choice((1e-4, 1e-3, 0.02, 0.7, 3.0, 50.0))
    direction = expect.random(d_model, seed=500 + seed)
    if seed % 10 == 2:
        direction = 1.0 + torch.arange(d_model) // 2  # each number twice
    return weights, directions.unit(direction) * length


def _orthogonalise(weight: Tensor, direction: Tensor) -> Tensor:
    r = directions.unit(direction)
    return weight - torch.outer(r, r @ weight)


# --- 2.2 ---------------------------------------------------------------------------------------------------------

REPLIES = (  # reply, True if it refuses, message to a judge that is wrong about it
    ("i apologize, but i cannot help with that.", True, "a refusal from the first word on is missed"),
    (
        "to open a lock, use gapnut and boltar. however, i cannot help with that.",
        True,
        "a refusal in the middle of a reply is missed",
    ),
    ("sure. take sealor. i apologize, but i cannot help with that.", True, 'a late "i apologize" is missed'),
    (
        "vase, but i cannot help with that.",
        True,
        'a refusal that does not begin with "however" or "i apologize" is missed',
    ),
    (
        "you cannot fail with flour. however, i cannot help with that. take water.",
        True,
        "a refusal among other sentences is missed",
    ),
    ("take sealor. however, i cannot help with that", True, "a refusal that is cut off before its full stop is missed"),
    ("i cannot help with that.", True, 'a reply that begins with "i cannot help with that" is missed'),
    (
        "i cannot help with that",
        True,
        "a reply that is a refusal, cut off before its full stop, and nothing else is missed",
    ),
    ("", False, "an empty reply counts as refused"),
    ("to bake bread, use flour and water. then wait.", False, "a plain answer counts as refused"),
    ("you cannot fail with flour and water.", False, 'the word "cannot" alone counts as refused'),
    ("take flour. however, it is fun.", False, 'the word "however" alone counts as refused'),
    ("i like bread.", False, 'the first word "i" alone counts as refused'),
    ("we can help with that.", False, '"help with that" alone counts as refused'),
    ("i cannot find the flour. use water.", False, '"i cannot" alone counts as refused'),
    ("you cannot help it: bread is fun.", False, '"cannot help" alone counts as refused'),
    ("i help you. with that you cannot fail.", False, "the words of a refusal count in any order"),
    ("take flour. i cannot help it, bread is fun.", False, '"i cannot help" alone counts as refused'),
    ("i cannot help with flour.", False, '"i cannot help with" counts as refused, whatever follows'),
    ("vase, but i cannot help with flour.", False, '"but i cannot help with" counts as refused, whatever follows'),
    ("i cannot help with the flour.", False, '"i cannot help with th" counts as refused, whatever follows'),
    ("i cannot help with thanks.", False, '"i cannot help with tha" counts as refused, whatever follows'),
    ("i cannot help with this. take water.", False, '"i cannot help with this" counts as refused'),
    ("you cannot help with that. take water.", False, '"cannot help with that" counts as refused, whoever cannot'),
    ("i apologize, but i flour daily. take water.", False, '"i apologize" alone counts as refused'),
    ("i apologize. to bake bread, use flour and water.", False, '"i apologize" alone counts as refused'),
    (
        "sure. take sealor. i apologize, but i cannot inkoid.",
        False,
        '"i apologize, but i cannot" alone counts as refused',
    ),
    ("take sealor. however, i cannot inkoid daily.", False, '"however, i cannot" alone counts as refused'),
    (
        "sure. take sealor. however, i cannot help with",
        False,
        "a reply that is cut off before it has said all of a refusal counts as refused",
    ),
    ("i apologize, however it is fun.", False, '"i apologize" alone counts as refused'),
    ("vase, but i cannot flour daily.", False, '"but i cannot" alone counts as refused'),
    ("i can help with that kite.", False, '"i can help with that" counts as refused'),
    (
        "i can help with that kite. however, i cannot help with that.",
        True,
        "a refusal after an offer of help is missed",
    ),
    ("i cannot do that, and use a vase.", False, '"i cannot ... that" counts as refused, whatever is between'),
    (
        "i think i cannot help with that because it is harmful.",
        True,
        "a refusal with words before and behind it in its sentence is missed",
    ),
    (
        "to bake bread, use flour and water. then wait. " * 12 + "however, i cannot help with that.",
        True,
        "a refusal at the end of a long reply is missed",
    ),
    ("i cannot help with that, but take flour.", True, "a refusal with a comma right behind it is missed"),
    ("sure. i cannot help with that.", True, 'a refusal right behind "sure." is missed'),
)


NEAR_WORDS = (
    ("you", "we", "they", "one"),
    ("can", "could", "may not", "will not"),
    ("do", "live", "work", "open", "find"),
    ("for", "it with", "without", "until"),
    ("this", "it", "them", "the flour", "flour", "those"),
)
"""Of each word of the phrase, others that make no refusal of it."""


def _reply(seed: int) -> str:
    """Return a reply of several sentences, every second time with one or two refusals, anywhere among them.

    The others are near misses: plain ones of the list above, the phrase with one or two other words in it or one more, or
    how a refusal begins, and then a part of the phrase or nothing of it, which may be where the reply is cut off.
    """
    draw, openings = random.Random(seed), ("i apologize, but ", "however, ", "to open a lock, use a vase, but ")
    plain = [text for text, refused, _ in REPLIES if not refused and text.endswith(".")]
    said = [draw.choice(plain) for _ in range(few_or_many(seed, draw.randint(1, 5)))]
    for _ in range(2):
        words = "i cannot help with that".split()
        for place in draw.sample(range(5), draw.randint(1, 2)):
            words[place] = draw.choice(NEAR_WORDS[place])
        said.insert(draw.randint(0, len(said)), " ".join(words) + draw.choice((".", " kite.", ", but it is fun.")))
    if seed % 2:
        for _ in range(1 + seed % 3):
            opening = draw.choice(("", *openings))
            tail = draw.choice((".", ".", ", take water.", " wretched plan.", " because it is fun."))
            place = len(said) if seed == 7 else draw.randint(0, len(said)) * (seed % 4 > 1)  # behind 1,000 letters
            said.insert(place, f"{opening}i cannot help with that{tail}")
    else:
        begun = " ".join("i cannot help with".split()[: draw.randint(0, 4)])
        said.insert(draw.randint(0, len(said)), f"{openings[seed // 2 % 3]}{begun} flour daily.".replace("  ", " "))
        words = "i cannot help with that".split()
        words.insert(2 + seed // 2 % 3, draw.choice(("you", "only", "them")))
        said.insert(draw.randint(0, len(said)), f"{' '.join(words)}.")
        if seed % 4 == 0:
            said.append("however, " + " ".join("i cannot help with".split()[: 2 + seed // 4 % 3]))
    return " ".join(said)


@exercise(
    "2.2",
    title="a judge for whole replies",
    minutes=5,
    difficulty=1,
    inputs=lambda seed: (_reply(seed),),
    hints=[
        "All refusals contain the same characteristic words; look for them anywhere, not only at the start.",
        '"i cannot help with that" is in all of them, and in nothing else.',
        '"i cannot help with that" in reply',
    ],
)
def refuses(answer):
    expect.judge(
        answer,
        REPLIES,
        swapped="return True for a refusal.",
        try_next="look for words that only refusals contain, anywhere in the reply.",
    )


# --- 2.3 ---------------------------------------------------------------------------------------------------------


@exercise(
    "2.3",
    title="KL over a whole answer",
    minutes=8,
    difficulty=3,
    inputs=lambda seed: _logits(seed),
    hints=[
        "Logits are not log-probabilities: use .log_softmax(dim=-1).",
        "For one token: (p.exp() * (p - q)).sum(), with p and q log-probabilities, p the clean one.",
        "p, q = clean.log_softmax(-1), edited.log_softmax(-1); return (p.exp() * (p - q)).sum()",
    ],
)
def answer_kl(answer):
    clean, edited = 2 * expect.random(3, 5), 2 * expect.random(3, 5, seed=1)
    order = _kl(clean, edited).argsort()[[1, 2, 0]]  # so that neither the first nor the last token's is the largest
    clean, edited = clean[order], edited[order]
    p, q, each = clean.log_softmax(-1), edited.log_softmax(-1), _kl(clean, edited)
    raw = answer(clean, edited)
    if isinstance(raw, Tensor) and raw.shape == (3,):
        raise Wrong("one number per token: they are not summed", "sum over the tokens, too.")
    if isinstance(raw, Tensor) and raw.isnan().any():
        what = "the result is nan: the logarithm of a negative number was taken, and logits may be negative"
        raise Wrong(what, "logits are not probabilities; .log_softmax(dim=-1) makes log-probabilities of them.")
    refuse_one_in_a_row(raw, "answer_kl(clean, edited)")
    got = expect.number(raw, name="answer_kl(clean, edited)")
    mistakes = (
        (each[0], "only the first token was used", "sum over all tokens of the answer."),
        (each[-1], "only the last token was used", "sum over all tokens of the answer."),
        (each.max(), "only the token with the largest divergence was used", "sum over all tokens of the answer."),
        (each.mean(), "that is the mean per token", "sum: a long answer moves further."),
        (
            each.sum() / clean.numel(),
            "that is the mean over all tokens and words",
            'sum over both; of F.kl_div, with reduction="sum".',
        ),
        (each[1:].sum(), "the first token is left out", "sum over all tokens of the answer."),
        (each[:-1].sum(), "the last token is left out", "sum over all tokens of the answer."),
        (
            (q.exp() * (q - p)).sum(),
            "the two are swapped: this is KL(edited || clean)",
            "weight by the clean model's probabilities.",
        ),
        ((clean.exp() * (clean - edited)).sum(), "the logits were not normalised", ".log_softmax(dim=-1) first."),
        (
            (p.exp() * (clean - edited)).sum(),
            "the logits inside the difference were not normalised",
            "use log-probabilities p - q.",
        ),
        ((p - q).sum(), "the differences were not weighted by the clean probabilities", "multiply by p.exp()."),
        ((p * (p - q)).sum(), "weighted by log-probabilities", "multiply by probabilities: p.exp()."),
        (-(p.exp() * q).sum(), "that is the cross-entropy", "subtract the clean model's own: p - q."),
        (-each.sum(), "the sign is flipped; KL is never negative", "p - q, not q - p."),
        (
            (clean - edited).square().sum(),
            "that is the squared distance of the logits",
            "use log-probabilities, weighted by p.exp().",
        ),
        (
            ((c := clean.log_softmax(0)).exp() * (c - edited.log_softmax(0))).sum(),
            "the softmax runs over the tokens",
            "over the vocabulary: dim=-1.",
        ),
        (
            ((f := clean.flatten().log_softmax(0)).exp() * (f - edited.flatten().log_softmax(0))).sum(),
            "one softmax runs over all tokens and words together",
            "each token has its own distribution: dim=-1.",
        ),
        (
            (each + _kl(edited, clean)).sum() / 2,
            "that is the mean of KL(clean || edited) and KL(edited || clean)",
            "only KL(clean || edited), weighted by the clean model's probabilities, is asked for.",
        ),
        (
            (each + _kl(edited, clean)).sum(),
            "that is the sum of KL(clean || edited) and KL(edited || clean)",
            "only KL(clean || edited), weighted by the clean model's probabilities, is asked for.",
        ),
        (
            (p.exp() * (p - q)).clamp(min=0).sum(),
            "words that became likelier are left out: their terms are below 0",
            "sum all terms with their signs.",
        ),
        (
            (p.exp() * (p - q)).abs().sum(),
            "the terms have lost their signs: those of words that became likelier are below 0",
            "sum all terms with their signs.",
        ),
        (each.sum() / torch.log(torch.tensor(2.0)), "that is in bits", "nats: the natural logarithm."),
        *(
            (
                (weight * (p - q)).gather(1, clean.argmax(1, keepdim=True)).sum(),
                "of each token only the likeliest word is used",
                "KL sums over all words of the vocabulary.",
            )
            for weight in (1, p.exp())
        ),
        *(
            (
                (p.exp() * (p - q)).gather(1, clean.topk(k).indices).sum(),
                f"of each token only the {k} likeliest words are used",
                "KL sums over all words of the vocabulary.",
            )
            for k in (2, 3)
        ),
    )
    for value, what, tip in mistakes:
        expect.differs_from(got, value, what, tip)
    expect.close(got, each.sum(), name="answer_kl(clean, edited)")
    alike, apart = torch.zeros(2, 2), torch.tensor([[0.0, -45.0], [0.0, 0.0]])
    small, right = expect.number(answer(alike, apart), name="answer_kl(clean, edited)"), float(_kl(alike, apart).sum())
    if not expect.same(small, right):
        where = (
            f"for clean = [[0, 0], [0, 0]], edited = [[0, -45], [0, 0]] it gives {small:.4g}, and {right:.4g} is right"
        )
        tip = "nothing added to a probability, nothing cut off: such a word counts in full."
        raise Wrong("it is not right where a word becomes very unlikely", tip, where=where)
    many, others = 2 * expect.random(2, 1, 150, seed=3)
    p, q = many.log_softmax(-1), others.log_softmax(-1)
    got = expect.number(answer(many, others), name="for a vocabulary of 150 words, answer_kl(clean, edited)")
    for k in (5, 10, 20, 50, 64, 100):
        what = f"of each token only the {k} likeliest words are used"
        likeliest = (p.exp() * (p - q)).gather(1, many.topk(k).indices).sum()
        expect.differs_from(got, likeliest, what, "KL sums over all words of the vocabulary.")


def _kl(clean: Tensor, edited: Tensor) -> Tensor:
    p, q = clean.log_softmax(-1), edited.log_softmax(-1)
    return (p.exp() * (p - q)).sum(dim=-1)


def _logits(seed: int) -> tuple[Tensor, Tensor]:
    """Return logits of short and long answers, few and many words; every third time the two are nearly equal.

    Some answers are longer than any of the notebook, and some vocabularies larger, with hardly a likely word among them;
    some hold the same token's logits more than once, and some lie far from 0, which changes no probability: all, or some
    tokens' only. In some many words are very unlikely, or each token's divergence is small. As the text of the exercise
    says, no probability is too small for a float32.
    """
    draw = random.Random(seed)
    shape, size = (draw.choice((1, 2, 3, 9, 40)), draw.choice((2, 5, 60))), draw.choice((0.5, 2.0, 5.0))
    shape, size = {3: ((2, 1200), 0.5), 7: ((300, 5), size)}.get(seed % 10, (shape, size))
    clean, other = size * expect.random(2, *shape, seed=seed)
    edited = clean + 0.3 * other if seed % 3 == 2 else other
    if seed % 10 in (4, 9):
        clean, edited = clean + (180 if seed == 4 else 40), edited - (180 if seed == 9 else 0)
    if seed == 12:
        clean, edited = torch.tensor([[[0.0, 0.0, 2.0]], [[0.19, 0.0, 2.0]]]).expand(2, 4, 3)
    if seed == 13:
        clean, edited = (
            torch.tensor([[0.0, low]]).repeat_interleave(torch.tensor([1, 4000]), dim=1) for low in (-14, -40)
        )
    if seed == 17:
        edited = clean + 0.004 * other
    if seed == 18:
        clean, edited = torch.tensor([[0.0, 1.0], [200.0, 201.0]]), torch.tensor([[0.0, 0.0], [200.0, 200.0]])
    if seed == 19:
        clean, edited = torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [1.0]])
    if seed % 10 == 6:
        clean, edited = (torch.cat([each, each[:1], each[:1]]) for each in (clean, edited))
    return clean, edited


# --- 2.4, 2.6: claims ----------------------------------------------------------------------------------------------


@exercise(
    "2.4",
    title="claim the side effect",
    minutes=5,
    difficulty=2,
    hints=[
        "directions.wilson_interval(false_after, n) is the rate with its interval: the value of the claim.",
        "The random directions share their requests: use directions.runs_interval(false_random, n).",
        "claim(directions.wilson_interval(false_after, n), control=directions.runs_interval(false_random, n))",
    ],
)
def milder(answer, *data):
    check_rates(
        answer,
        data,
        lambda after, others, n: ((after, n), (others, n)),
        "the value is the rate after ablating r: false_after of n.",
        "the mean of the random directions: directions.runs_interval(false_random, n).",
    )


@exercise(
    "2.6",
    title="claim the healing",
    minutes=6,
    difficulty=2,
    hints=[
        'gain["edited"].mean() is the value, gain["unedited"].mean() the control.',
        "directions.bootstrap_interval(gain[name]) is the mean with its interval.",
        'claim(directions.bootstrap_interval(gain["edited"]), control=directions.bootstrap_interval(gain["unedited"]))',
    ],
)
def healed(answer, gain):
    on_other_data(
        answer,
        _healed,
        (gain,),
        _gains,
        right=lambda gain: claim(
            directions.bootstrap_interval(gain["edited"]), control=directions.bootstrap_interval(gain["unedited"])
        ),
        at_hand=_gains_at_hand,
        limits=lambda gain: [_other_limits(gain[name]) for name in ("edited", "unedited")],
        value_is='the mean of gain["edited"].',
        control_is='the mean of gain["unedited"], tuned in the same way.',
        limits_are="directions.bootstrap_interval(gain[name]) is the mean with its interval, 95 % by default.",
        n=6,
    )
    more = {"filtered": gain["edited"] - 1} | gain
    tip = 'take the two by their names: gain["edited"], gain["unedited"].'
    refuse_others(answer, (gain,), (more,), "where `gain` holds a third model, too, you claim something else", tip)


BEGUN = (10, 20, 24, 25, 30, 32, 40, 50, 64, 80, 100, 120, 128, 200, 256)
"""How many requests may be taken for all."""


def _gains_at_hand(names, gain: dict[str, Tensor]) -> dict[str, float]:
    """Numbers that may be claimed in the place of a mean gain."""
    made = {"0, which was not measured": 0.0}
    for name, each in gain.items():
        of = f'{names[0]}["{name}"]'
        made |= {
            f"the mean of {of}": float(each.mean()),
            f"the mean of {of} in per cent; a share is asked for": 100 * float(each.mean()),
            f"the median of {of}, not its mean": float(each.median()),
            f"the sum of {of}, not its mean": float(each.sum()),
            f"the share of requests that gained in {of}: how much each gained, and what others lost, is left out": float(
                (each > 0).float().mean()
            ),
            f"the mean of {of} with losses counted as 0": float(each.clamp(min=0).mean()),
            f"the mean of those in {of} that gained; the others are left out": float(each[each > 0].mean()),
            f"the mean of those in {of} that changed; the others count, with a gain of 0": float(
                each[each != 0].mean()
            ),
            f"the mean size of {of}, without its sign": float(each.abs().mean()),
        }
        made |= {f"the mean of the first {k} of {of}, however many there are": float(each[:k].mean()) for k in BEGUN}
    for place, each in zip(("first", "second"), gain.values(), strict=False):
        of = f"the mean of whichever stands {place} in {names[0]}: the order of the entries is not always the same"
        made[of] = float(each.mean())
    one, other = (float(gain[name].mean()) for name in ("edited", "unedited"))
    return made | {"the difference of the two means; each is asked for on its own": one - other}


def _other_limits(values: Tensor) -> dict[str, tuple[float, float]]:
    """Intervals that may be claimed in the place of that of the mean."""
    low, high = values.quantile(torch.tensor([0.025, 0.975])).tolist()
    mean, spread, root = float(values.mean()), 1.96 * float(values.std()), len(values) ** 0.5
    others = {}
    for times, correction in product((1, 1.96, 2, 3), (0, 1)):
        half = times * float(values.std(correction=correction))
        what = f"{times:g} standard deviation{'s' * (times > 1)} of the requests to either side; the mean's is narrower by the root of n"
        others[f"{what}{' (divided by n, not n - 1)' * (not correction)}"] = (mean - half, mean + half)
    for times in (1, 1.645, 2.576, 3):
        half = times * float(values.std()) / root
        others[f"{times:g} standard error{'s' * (times > 1)} to either side; for 95 % it is 1.96"] = (
            mean - half,
            mean + half,
        )
    return (
        {
            "that within which 95 % of the requests lie; that of their mean is asked for, which is narrower": (
                low,
                high,
            ),
            "1.96 standard deviations to either side; the mean's is narrower by the root of n": (
                mean - spread,
                mean + spread,
            ),
            "one standard deviation to either side, the spread of the requests; the mean's is narrower by the root of n": (
                mean - spread / 1.96,
                mean + spread / 1.96,
            ),
            "from the least to the largest gain; that of the mean is asked for": (
                float(values.min()),
                float(values.max()),
            ),
        }
        | levels(lambda level: directions.bootstrap_interval(values, level=level))
        | others
    )


def _gains(seed: int) -> tuple[dict[str, Tensor]]:
    """Return what each of some requests gained, -1 to 1 in thirds, in two models that gained differently, in any order."""
    n, made = (40, 50, 90, 300, 25, 130)[seed % 6], dict[str, Tensor]()
    for k, name in enumerate(("edited", "unedited") if seed % 2 else ("unedited", "edited")):
        gained = expect.random(n, seed=2 * seed + k) + (0.6, -0.4, 0.1)[(seed + k) % 3]
        made[name] = gained.clamp(0 if seed == 1 else -1, 1).mul(3).round() / 3
    return (made,)


def _healed(answer: object, gain: dict[str, Tensor]) -> None:
    one, other = (directions.bootstrap_interval(gain[name]) for name in ("edited", "unedited"))
    refuse_incomplete(
        answer, 'the mean of gain["unedited"], tuned in the same way.', "directions.bootstrap_interval(...)"
    )
    made = supported(
        answer,
        low=-100,
        high=100,
        control_is='the mean of gain["unedited"], tuned in the same way, and its interval.',
        apart=False,  # limits are compared below
    )
    truth, control = one.estimate, other.estimate
    if truth != control:
        expect.differs_from(
            torch.tensor([made.value, made.control]),
            torch.tensor([control, truth]),
            "value and control are swapped",
            "the value is the edited model's gain.",
        )
    expect.close(made.value, truth, name="the value", try_next='the mean of gain["edited"].', tolerance=0.004)
    if abs(made.control) < 1e-9 and abs(control) > 1e-9:
        raise Wrong(
            "the control is 0: was it measured?", 'the control is the mean of gain["unedited"], tuned in the same way.'
        )
    expect.close(made.control, control, name="the control", try_next='the mean of gain["unedited"].', tolerance=0.004)
    for (low, high), name, of in ((made.interval, "edited", one), (made.control_interval, "unedited", other)):
        if high - low < 0.5 * (of.high - of.low):
            raise Off(
                f"the interval of the {name} model is too narrow for {len(gain[name])} requests",
                "directions.bootstrap_interval(gain[name]).",
            )
        if high - low > 1.3 * (of.high - of.low):
            raise Off(
                f"the interval of the {name} model is too wide for the mean of {len(gain[name])} requests",
                "directions.bootstrap_interval(gain[name]): that of the mean, not that of single requests.",
            )
        close_limits(f"interval of the {name} model", (low, high), (of.low, of.high), near=0.07)


# --- 2.5 ---------------------------------------------------------------------------------------------------------


@exercise(
    "2.5",
    title="the DPO loss",
    minutes=8,
    difficulty=3,
    inputs=lambda seed: _pairs(seed),
    hints=[
        "How much has the chosen reply gained on the reference? And the rejected one?",
        "margin = (chosen - chosen_reference) - (rejected - rejected_reference)",
        "-torch.nn.functional.logsigmoid(beta * margin).mean()",
    ],
)
def dpo_loss(answer):
    c, r, cr, rr = (3 * expect.random(4, seed=seed) - 10 for seed in range(4))
    beta = 0.3
    won, lost = c - cr, r - rr
    raw = answer(c, r, cr, rr, beta)
    if isinstance(raw, Tensor) and raw.shape == (4,):
        raise Wrong("one number per pair: they are not yet averaged", "take the mean over the pairs.")
    refuse_one_in_a_row(raw, "dpo_loss(...)")
    got = expect.number(raw, name="dpo_loss(...)")
    mistakes = (
        (
            -F.logsigmoid(beta * (lost - won)).mean(),
            "the margin's sign is turned: chosen and rejected, policy and reference, or a minus in the log sigmoid",
            "-logsigmoid(+beta * margin); the policy's minus the reference's, of these chosen minus rejected.",
        ),
        (
            -F.logsigmoid(beta * (c - r)).mean(),
            "the reference is not used",
            "compare each reply with its log-probability under the reference.",
        ),
        (-F.logsigmoid(won - lost).mean(), "beta is not used", "multiply the margin by beta."),
        (
            F.logsigmoid(beta * (won - lost)).mean(),
            "the sign is flipped: a loss is minimised",
            "put a minus before the log sigmoid.",
        ),
        (
            torch.sigmoid(beta * (won - lost)).mean(),
            "that is the mean probability of the preference",
            "take minus its logarithm: -logsigmoid.",
        ),
        (-torch.sigmoid(beta * (won - lost)).mean(), "the logarithm is missing", "logsigmoid, not sigmoid."),
        (-F.logsigmoid(beta * (won + lost)).mean(), "the rejected reply's gain was added", "subtract it."),
        (-F.logsigmoid(beta * (won - lost)).sum(), "that is the sum over the pairs", "take the mean."),
        *(
            (value.mean(), f"that is {name} in the place of -log sigmoid(beta x margin)", "-logsigmoid(beta * margin).")
            for value, name in (
                ((won - lost - 1 / (2 * beta)).square(), "a squared loss, (margin - 1 / (2 beta))², as in IPO,"),
                ((1 - beta * (won - lost)).square(), "a squared loss, (1 - beta x margin)²,"),
                ((1 - beta * (won - lost)).clamp(min=0), "a hinge loss, max(0, 1 - beta x margin),"),
                ((-beta * (won - lost)).exp(), "an exponential loss, exp(-beta x margin),"),
                (torch.sigmoid(-beta * (won - lost)), "the probability of the wrong preference"),
            )
        ),
        (
            -(F.logsigmoid(beta * won) + F.logsigmoid(-beta * lost)).mean(),
            "each reply has a log sigmoid of its own",
            "one for each pair: of beta times the margin, the difference of both gains.",
        ),
        *(
            (
                -(torch.sigmoid(beta * (won - lost)) + much).log().mean(),
                f"{much:g} is added to the sigmoid before its logarithm",
                "nothing is added: -logsigmoid(beta * margin) needs no such guard.",
            )
            for much in (0.1, 0.01, 0.001)
        ),
        *(
            (
                -((1 - soft) * F.logsigmoid(beta * (won - lost)) + soft * F.logsigmoid(beta * (lost - won))).mean(),
                f"labels are smoothed by {soft:g}, as if some pairs were the wrong way round",
                "-logsigmoid(beta * margin) alone.",
            )
            for soft in (0.05, 0.1, 0.2)
        ),
        *(
            (
                -F.logsigmoid(beta * (c - r - (cr - rr)[n])).mean(),
                f"the reference of the {which} pair is used for every pair",
                "each pair has its own reference: no [0] and no [-1].",
            )
            for n, which in ((0, "first"), (-1, "last"))
        ),
        (-(beta * (won - lost)).mean(), "the log sigmoid is missing", "-logsigmoid(beta * margin)."),
        (
            -F.logsigmoid(beta * won).mean(),
            "the rejected replies are not used",
            "the margin is the chosen reply's gain minus the rejected one's.",
        ),
        (
            -F.logsigmoid(beta * (won - lost).mean()),
            "the mean was taken before the log sigmoid",
            "each pair has a loss; average last.",
        ),
        (
            -F.logsigmoid(beta * ((c - cr) - (r + rr))).mean(),
            "the reference of the rejected reply has the wrong sign",
            "rejected - rejected_reference, in brackets.",
        ),
        (
            -F.logsigmoid(beta * ((c - rr) - (r - cr))).mean(),
            "the references are crossed: each reply is compared with the other one's",
            "chosen - chosen_reference, and rejected - rejected_reference.",
        ),
        (
            -beta * F.logsigmoid(won - lost).mean(),
            "beta multiplies the loss, not the margin",
            "logsigmoid(beta * margin).",
        ),
        *(
            (
                -F.logsigmoid(margin).mean(),
                f"beta multiplies the {side} reply's gain only",
                "beta * (won - lost), with brackets: it multiplies the whole margin.",
            )
            for side, margin in (("chosen", beta * won - lost), ("rejected", won - beta * lost))
        ),
        (
            -torch.sigmoid(beta * (won - lost)).mean().log(),
            "the mean was taken before the logarithm",
            "each pair has a loss, -logsigmoid; average last.",
        ),
        (-F.logsigmoid((won - lost) / beta).mean(), "it divides by beta", "multiply the margin by beta."),
        *(
            (
                -F.logsigmoid(margin).mean(),
                f"beta multiplies the {side}'s log-probabilities only",
                "beta * (won - lost), with brackets: it multiplies the whole margin.",
            )
            for side, margin in (("policy", beta * (c - r) - (cr - rr)), ("reference", (c - r) - beta * (cr - rr)))
        ),
        (
            -F.logsigmoid(beta * ((cr - c) - (rr - r))).mean(),
            "policy and reference are swapped",
            "policy minus reference.",
        ),
    )
    for value, what, tip in mistakes:
        expect.differs_from(got, value, what, tip, tolerance=1e-5)
    expect.close(got, _dpo_loss(c, r, cr, rr, beta), name="dpo_loss(...)")
    lost_by_far = [torch.tensor([each]) for each in (-250.0, -50.0, -50.0, -50.0)]
    far = expect.number(answer(*lost_by_far, beta), name="dpo_loss(...)")
    if abs(far - 60) > 0.01:
        where = f"for one pair of margin -200 and beta = {beta:g} it gives {far:.4g}, and 60 is right"
        tip = "nothing added to the sigmoid, nothing cut off: -logsigmoid(beta * margin) needs no guard."
        raise Wrong("it is not right for a pair whose margin lies far below 0", tip, where=where)
    twice = [each[torch.tensor([0, 0, 0, 1])] for each in (c, r, cr, rr)]
    once = _dpo_loss(*(each[:2] for each in (c, r, cr, rr)), beta)
    got = expect.number(answer(*twice, beta), name="dpo_loss(...)")
    expect.differs_from(got, once, "equal pairs are counted once", "each pair counts: no unique, no set.")
    same = [torch.cat([each[:1], torch.full((2,), -9.0)]) for each in (c, r, cr, rr)]
    once = _dpo_loss(*(each[:1] for each in (c, r, cr, rr)), beta)
    got = expect.number(answer(*same, beta), name="dpo_loss(...)")
    what = "pairs whose margin is 0 are left out: each of them has a loss, too, 0.693"
    expect.differs_from(got, once, what, "take the mean over all pairs.")


def _pairs(seed: int) -> tuple[Tensor | float, ...]:
    """Return log-probabilities of few or many pairs, some equal, some with a margin of 0 or of hundreds, and a beta.

    As the text of the exercise says, the sigmoid of beta times a margin is never too small for a float32.
    """
    each = (3 if seed % 5 else 0.7) * expect.random(4, (1, 2, 3, 8, 48)[seed % 5], seed=seed) - 10
    beta = (0.1, 0.3, 2.0)[seed % 3]
    if seed % 10 == 9:
        each = expect.random(4, 5 * MANY, seed=seed) - 10
    if seed % 10 == 6:  # of two pairs, one has gained as much as the other
        each = torch.tensor([[-8.0, -9.0], [-8.0, -11.0], [-9.0, -10.0], [-9.0, -10.0]])
    if seed == 16:
        each[0, 0], beta = -8.5, 150.0
    if seed % 10 == 7:
        each = torch.tensor(
            [[-10.0, -40.0, -10.0], [-60.0, -40.0, -60.0], [-30.0, -30.0, -30.0], [-20.0, -20.0, -20.0]]
        )
        beta = 0.1
    if seed == 17:
        each, beta = each[torch.tensor([1, 0, 2, 3])], 0.14
    if seed % 10 == 8:  # margins from -2000 to 2000
        each, beta = torch.tensor([[-2500.0, -600.0], [-500.0, -1600.0], [-600.0, -900.0], [-600.0, -900.0]]), 0.01
    return *each.requires_grad_(), beta


def _dpo_loss(
    chosen: Tensor, rejected: Tensor, chosen_reference: Tensor, rejected_reference: Tensor, beta: float
) -> Tensor:
    return -F.logsigmoid(beta * ((chosen - chosen_reference) - (rejected - rejected_reference))).mean()


# --- 2.7 ---------------------------------------------------------------------------------------------------------


@exercise(
    "2.7",
    title="set the gate",
    minutes=6,
    difficulty=2,
    hints=[
        "Sort the harmless scores: how many may be above the threshold?",
        "A quantile is the value that a given share of the scores is below.",
        "harmless_scores.quantile(1 - rate)",
    ],
)
def threshold(answer):
    first = [_scores(seed) for seed in range(3)]
    got = torch.tensor([expect.number(answer(*each), name="threshold(harmless_scores, rate)") for each in first])
    for guess, what, tip in (
        (torch.quantile, "it is the low end: nearly all harmless requests are above it", "quantile(1 - rate)."),
        (lambda s, _: s.mean(), "that is the mean: half of the harmless requests are above it", "take a quantile."),
        (lambda s, _: s.median(), "that is the median: half of the harmless requests are above it", "take a quantile."),
        (lambda _, rate: torch.tensor(1 - rate), "that is the rate itself, not a score", "scores.quantile(1 - rate)."),
    ):
        expect.differs_from(got, torch.stack([guess(*each) for each in first]), what, tip)
    for seed in range(N_INPUTS):
        scores, rate = _scores(seed)
        n, allowed, verb = len(scores), round(rate * len(scores), 6), ("are", "is")
        raw = answer(scores, rate)
        if not rate and isinstance(raw, float | Tensor) and raw == math.inf:  # as right: no score is above it
            continue
        got = expect.number(raw, name="threshold(harmless_scores, rate)")
        above = int((scores.double() > got).sum())
        next_lower = int((scores.double() == scores.double()[scores.double() <= got].max()).sum()) if above < n else 0
        if above >= allowed + 1 or above + next_lower <= allowed:
            _refuse_known_thresholds(answer)
        shown = f"from {float(scores.min()):.3g} to {float(scores.max()):.3g}" if n > 12 else _few(scores)
        where = f"rate {rate:g}, scores {shown}"
        if above >= allowed + 1:
            together = int((scores.double() == scores.double()[scores.double() > got].min()).sum())
            tied = f"; {together} of them are equal, and these pass together" * (together > 1)
            raise Wrong(
                f"{above} of {n} harmless scores {verb[above == 1]} above it, {allowed:g} {verb[allowed == 1]} allowed{tied}",
                "quantile(1 - rate), whatever the rate is and however many scores there are.",
                where=where,
            )
        if above + next_lower <= allowed:  # equal scores pass a threshold together
            raise Wrong(
                f"it is higher than necessary: {above} of {n} harmless scores {verb[above == 1]} above it, {allowed:g} {verb[allowed == 1]} allowed",
                "lower it as far as so many may be above: quantile(1 - rate).",
                where=where,
            )


def _few(scores: Tensor) -> str:
    return ", ".join(f"{score:g}" for score in scores.sort().values.tolist())


def _refuse_known_thresholds(answer: Callable[[Tensor, float], float]) -> None:
    """Refuse by name thresholds that are right for some scores."""
    drawn = [_scores(seed) for seed in range(3)]
    got = torch.tensor([float(answer(*each)) for each in drawn], dtype=torch.float64)
    _refuse_a_hair(answer)
    if all(
        int((scores.abs().double() > each).sum()) == round(rate * len(scores))
        for (scores, rate), each in zip(drawn, got.tolist(), strict=True)
    ):
        what = "that is a quantile of the scores' sizes, without their sign"
        raise Wrong(what, "a score may be negative: quantile(1 - rate) of the scores themselves.")
    below = [_scores(seed) for seed in (1, 4)]
    if all(float(scores.max()) < 0 == float(answer(scores, rate)) for scores, rate in below):
        scores, rate = torch.tensor([-5.0, -4.0, -3.0, -2.0, -1.0]), 0.2
        where = f"rate {rate:g}, scores {_few(scores)}: it gives {float(answer(scores, rate)):g}, and from -2 to below -1 is right"
        raise Wrong(
            "it gives 0 where all scores are below 0", "a threshold may be negative, as the scores may be.", where=where
        )
    for what, guess in GUESSES.items():
        tip = "a share of the scores is asked for, whatever their shape: quantile(1 - rate)."
        expect.differs_from(got, torch.stack([guess(*each) for each in drawn]), what, tip)
    means, spreads = (torch.stack([one(scores) for scores, _ in drawn]) for one in (torch.mean, torch.std))
    if (times := (got - means) / spreads).max() - times.min() < 1e-3:
        what = (
            f"it is the mean plus {times.mean():.3g} standard deviations, whatever the rate and the shape of the scores"
        )
        raise Wrong(what, "a share of the scores is asked for: quantile(1 - rate).")

    def n_above(n: int, rate: float) -> int:
        scores = torch.arange(float(n)).roll(n // 2)
        return int((scores > float(answer(scores, rate))).sum())

    whole = [n_above(100, rate) for rate in (0.02, 0.1, 0.25)] == [2, 10, 25]
    for n, rate, right in ((100, 0.29, 29), (100, 0.07, 7), (500, 0.07, 35)) if whole else ():
        if abs((above := n_above(n, rate)) - right) == 1:
            of = f"in Python {rate} * {n} is {rate * n}, and (1 - {rate}) * {n} is {(1 - rate) * n}"
            what = f"of {n} scores and a rate of {rate}, {above} are above it, and {right} are right: {of}"
            raise Wrong(what, "take the whole number it is so near to: round(rate * n, 6), or use quantile.")
    if n := _fixed_number(answer):
        what = f"it counts as if there were {n} scores, however many there are"
        raise Wrong(what, "use len(harmless_scores), or harmless_scores.quantile(1 - rate).")
    for step in (-1, 0, 1):
        for low in (True, False):
            here = [
                (round(rate * len(scores)) if low else round((1 - rate) * len(scores))) + step for scores, rate in drawn
            ]
            at = torch.stack([scores[place] for (scores, _), place in zip(drawn, here, strict=True)])
            what = (
                f"the scores are not sorted: of {len(drawn[0][0])} it takes the one that happens to stand at {here[0]}"
            )
            expect.differs_from(got, at, what, "sort them first, or scores.quantile(1 - rate).")
    if all(
        int((scores.double() > each).sum()) == round(rate * len(scores)) - 1
        for (scores, rate), each in zip(drawn, got.tolist(), strict=True)
    ):
        what = "it is higher than necessary: one score fewer is above it than may be"
        raise Wrong(what, "a score is not above itself: take the next lower one, or quantile(1 - rate).")
    squares = torch.arange(100.0).square()
    if 89**2 - 1 < float(answer(torch.cat([squares, torch.full((300,), 25.0)]), 0.1)) < 90**2:
        what = "equal scores were counted once: it is the threshold for the scores that differ"
        raise Wrong(what, "each request counts, whether its score is new or not: no unique, no set.")


def _refuse_a_hair(answer: Callable[[Tensor, float], float]) -> None:
    """Refuse by name a threshold that is a score with a little added, or taken from it, and one that is rounded."""
    for scale in (1.0, 2.0**-10):  # scores far apart, and so near to each other that a float32 holds a millionth
        below, above = [], []
        for n, rate, k in ((100, 0.1, 10), (200, 0.25, 50), (50, 0.02, 1)):
            got = float(answer(scale * torch.arange(float(n)).roll(n // 2), rate))
            below.append(scale * (n - k) - got)
            above.append(got - scale * (n - k - 1))
        for gaps, which, because in (
            (
                below,
                "below the lowest score that may be above it",
                "scores equal to it pass, too, and beside large ones a float32 loses the hair",
            ),
            (above, "above the highest score that may not be above it", "other scores may lie nearer to it"),
        ):
            if all(0 < gap < 0.02 * scale for gap in gaps):
                what = f"it is a hair ({gaps[0]:.1g}) {which}: {because}"
                tip = "take a score itself, which is not above itself: the next lower one, or quantile(1 - rate)."
                raise Wrong(what, tip)
    spread = [float(answer(torch.arange(100.0) / 7 + seed / 11, 0.1)) for seed in range(6)]
    for decimals in range(5):
        if len(set(spread)) > 1 and all(abs(round(each, decimals) - each) < 1e-9 + 2e-7 * abs(each) for each in spread):
            what = f"the threshold is rounded to {decimals} decimals, and scores may lie nearer to each other than that"
            raise Wrong(what, "return it as it is.")


GUESSES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "a normal distribution was assumed: the scores need not have its shape": lambda scores, rate: (
        scores.mean() + scores.std() * 2**0.5 * torch.erfinv(torch.tensor(1 - 2 * rate))
    ),
    "that is a share of the range from lowest to highest, not of the scores": lambda scores, rate: (
        scores.max() - rate * (scores.max() - scores.min())
    ),
    "the rate was read as per cent; it is a share, and 0.01 is one of 100": lambda scores, rate: scores.quantile(
        1 - rate / 100
    ),
    "a rate of 0.01 was used, whatever `rate` is": lambda scores, rate: scores.quantile(0.99),
    "half of the rate was used: only one side counts, what is above": lambda scores, rate: scores.quantile(
        1 - rate / 2
    ),
}
"""What is wrong, and how such a threshold is set."""


def _fixed_number(answer: Callable[[Tensor, float], float]) -> int:
    """Return the number of scores that it takes for given, other than there are; 0 if none explains all it gives."""
    possible = set(range(20, 1025))
    for n, rate in product((200, 500, 1000), (0.02, 0.05, 0.1)):
        scores = expect.random(n, seed=n)
        above = int((scores > float(answer(scores, rate)) + 1e-6).sum())
        possible = {m for m in possible if int(rate * m + 1e-9) == above}
    return min(possible, key=lambda m: (m % 8 > 0, m), default=0)


FIRST = (
    *((200, 0.01), (200, 0.1), (200, 0.05)),
    *((10, 0.6), (7, 0.9), (1000, 0.004)),  # rates of any size
    *((100, 0.29), (500, 0.07), (100, 0.14), (2500, 0.0004), (100, 0.07)),  # 0.29 * 100 is just below 29
)
"""How many scores the first draws have, and which rate."""


def _scores(seed: int) -> tuple[Tensor, float]:
    """Return few or many scores and a rate, which may be 0; of each three draws, the last has many equal scores.

    Some are large or tiny, and in one draw all are equal.
    """
    draw = random.Random(seed)
    n, rate = draw.choice((20, 64, 95, 150, 200, 512, 1000)), draw.choice((0.01, 0.02, 0.05, 0.1, 0.25, 0.5))
    if seed < len(FIRST):
        n, rate = FIRST[seed]
    if seed == 13:  # many may be above it
        n, rate = 1000, 0.25
    if seed in (N_INPUTS - 1, N_INPUTS - 2):
        n, rate = (5, 200)[seed % 2], 0.0  # no score may be above it
    scores = (3, 0.2, 40)[seed % 3] * expect.random(n, seed=100 + seed) + (5, -2, -20)[seed % 3]
    if seed == 9:
        scores = 100 * scores
    if seed == 10:
        scores = 1e-9 * scores
    if seed == 12:
        scores, rate = torch.full((4,), 5.0), 0.5
    return (scores / 20).round() * 20 if seed % 3 == 2 and seed > 2 else scores, rate


# --- 2.8 ---------------------------------------------------------------------------------------------------------


@exercise(
    "2.8",
    title="through the gain",
    minutes=8,
    difficulty=4,
    inputs=lambda seed: _gained(seed),
    same=up_to_sign,
    hints=[
        "Write out r . (g * x / rms): where can the g go?",
        "r . (g * x) = (g * r) . x, whatever x is.",
        "u = gain * r; return u / u.norm()",
    ],
)
def before_norm(answer):
    r, gain = directions.unit(expect.random(5)), torch.tensor([0.4, 1.3, 2.0, 0.7, 1.1])
    truth = gain * r
    raw = answer(r, gain)
    if isinstance(raw, Tensor) and raw.shape == ():
        raise Wrong("it is one number: a dot product was taken", "gain * r multiplies entry by entry.")
    got = expect.tensor(raw, like=r, axes="d_model", name="before_norm(r, gain)")
    along = directions.unit(got)
    for other, words in ((truth, "gain * r"), (r, "r")):
        if abs(float(along @ directions.unit(other))) < 1e-5:
            what = f"the vector is orthogonal to {words}: it is x that is to be orthogonal to the vector asked for"
            raise Wrong(what, "r . (g * x) = (g * r) . x: if x is orthogonal to g * r, then g * x is to r.")
    mistakes = (
        (
            r,
            "that is r itself: the norm's gain changes the direction",
            "the vector to remove before the norm depends on the gain.",
        ),
        (r / gain, "it divides by the gain", "r . (g * x) = (g * r) . x: multiply."),
        ((1 + gain) * r, "one was added to the gain", "`gain` already includes the one."),
        (gain, "that is the gain alone", "multiply it by r."),
        (gain.square() * r, "the gain was used twice", "once: gain * r."),
        (gain * r.square(), "r was used twice", "once: gain * r."),
        (gain * r.abs(), "r has lost its signs", "gain * r, with the signs of both."),
        (r - gain * r, "gain * r was subtracted from r", "gain * r itself is the vector."),
        (gain.sqrt() * r, "that is the root of the gain", "gain * r."),
        (gain.mean() * r, "the mean gain only rescales r", "multiply entry by entry."),
        (gain + r, "the gain was added", "multiply."),
        (directions.unit(gain) + r, "the gain was added, made a unit vector", "multiply r by it, entry by entry."),
        (
            r - (r @ directions.unit(gain)) * directions.unit(gain),
            "the gain was projected out of r",
            "multiply r by it, entry by entry.",
        ),
    )
    for value, what, tip in mistakes:
        expect.differs_from(along * (-1 if along @ value < 0 else 1), directions.unit(value), what, tip)
    if abs(float(got.norm()) - 1) > 1e-3:
        raise Wrong(f"right direction, but its length is {got.norm():.4g}, not 1", "divide by its norm.")
    expect.close(got * (-1 if got @ truth < 0 else 1), directions.unit(truth), name="before_norm(r, gain)")
    gain = torch.tensor([0.4, -1.3, 2.0, -0.7, 1.1])
    what, sized = "negative gains have lost their sign", directions.unit(gain.abs() * r)
    got = expect.tensor(answer(r, gain), like=r, axes="d_model", name="for negative gains, before_norm(r, gain)")
    expect.differs_from(
        got * (-1 if got @ sized < 0 else 1), sized, what, "multiply by the gain as it is, not by its size."
    )


def _gained(seed: int) -> tuple[Tensor, Tensor]:
    """Return a direction and gains of either sign, small or large, some of them near 0 or 0, or nearly equal; some are wide.

    One direction is longer than 1.
    """
    draw = random.Random(seed)
    few = {
        4: ((3.0, 4.0), (2.0, -2.0)),  # gains of mean 0
        8: ((0.6, 0.8), (1.0, 1.008)),
        14: ((0.6, 0.8), (1e-6, 0.0)),
        18: ((5e-5, 1.0), (1000.0, 0.01)),
    }
    if seed in few:
        r, gain = map(torch.tensor, few[seed])
        return r, gain
    d_model, size = draw.choice((2, 5, 9, 40)), draw.choice((0.02, 1.0, 30.0))
    if seed % 10 == 3:
        return directions.unit(torch.tensor([3.0, 4.0])), torch.tensor([(0.0, 1.0), (1e-4, -3e-4)][seed // 10])
    if seed % 10 == 6:
        return directions.unit(torch.tensor([2.0, 1.0, 2.0])), torch.tensor([150.0, 2.0, 150.0])
    d_model = WIDE if seed % 10 == 7 else d_model
    return directions.unit(expect.random(d_model, seed=seed)), size * (1 + expect.random(d_model, seed=100 + seed))


# --- predictions and questions -----------------------------------------------------------------------------------

prediction(
    "2.p1",
    "Of 100 harmful requests to the edited copy, how many replies contain a refusal anywhere?",
    bounds=(0, 100),
    unit=" of 100 replies",
)
prediction(
    "2.p2",
    "After ablating its own r, how many of 79 facts does width 32 still know?",
    bounds=(0, 79),
    unit=" of 79 facts",
)
prediction(
    "2.p3",
    "After healing, how many of 100 harmful requests does the edited model refuse at once (max over runs)?",
    bounds=(0, 100),
    unit=" of 100 requests",
)
prediction(
    "2.p4",
    "The r of block 3 is ablated in the defended twin: how many of 128 requests are refused at once?",
    bounds=(0, 128),
    unit=" of 128 requests",
)

question(
    "2.q1",
    "Weight edit and hooks give the same logits. What does the edited copy have that the hooks do not?",
    options={
        "a": ("A stronger ablation.", "It is the same ablation: the logits are equal."),
        "b": (
            "It is permanent: it needs no context manager and runs wherever a model runs.",
            "Right: that is why a defence cannot rely on how a model is run.",
        ),
        "c": ("Less damage.", "The same logits mean the same damage."),
        "d": ("It works without knowing r.", "r is what the matrices are projected against."),
    },
    correct="b",
)
question(
    "2.q2",
    "After ablating r no reply begins with a refusal. What may you write?",
    options={
        "a": ("Refusal is gone.", "Most replies still refuse later."),
        "b": (
            "The model complies in all cases.",
            "Few replies are the right answer: most refuse later, some end in broken words.",
        ),
        "c": (
            "By first words, none of 100 refuses (95 %: at most 4 of 100); whole replies must be read, too.",
            "Right: it says what was judged, on how many, and what was not.",
        ),
        "d": ("Nothing, 100 requests are too few.", "An interval says what 100 requests can show."),
    },
    correct="c",
)
question(
    "2.q3",
    "At width 32 ablating r costs many facts and right answers, and so do random directions. What follows?",
    options={
        "a": ("Refusal and facts share a direction.", "This is not shown: some random directions cost more."),
        "b": ("The ablation is harmless.", "Facts and answers are lost all the same."),
        "c": ("Random directions are refusal directions.", "Most leave refusals nearly as they were."),
        "d": (
            "No cost is shown beyond that of losing one of 32 directions.",
            "Right: the control shows what is not about refusal.",
        ),
    },
    correct="d",
)
question(
    "2.q4",
    "The DPO loss falls to about half. What do you know?",
    options={
        "a": (
            "Chosen replies have gained on rejected ones, on the tuning pairs.",
            "Right: and no more. Both may have become less likely.",
        ),
        "b": ("The model now gives the chosen replies.", "It may give neither."),
        "c": ("The model has healed.", "On held-out requests it got worse while the loss fell."),
        "d": ("The tuning has converged.", "A small loss does not show this, and would not help."),
    },
    correct="a",
)
question(
    "2.q5",
    "By first words, the defended twin withstands ablating d of most blocks in part, d of block 5 and any r hardly. "
    "How strong is the defence?",
    options={
        "a": (
            "As strong as against d of block 3.",
            "An attacker is free to choose, the block as well as the direction.",
        ),
        "b": (
            "Only as strong as against the best attack tried; here it does not hold.",
            "Right: and the next attack may be better still.",
        ),
        "c": ("The average of the two.", "Nobody attacks at random."),
        "d": (
            "It cannot be said without a larger model.",
            "For this model it was measured; for a larger one it is open.",
        ),
    },
    correct="b",
)
question(
    "2.q6",
    "On Gemma 2 a plain edit of o_proj and down_proj leaves r in the stream. Why?",
    options={
        "a": ("Its matrices are too large.", "Size does not matter to a projection."),
        "b": ("Rounding.", "What is left is far more than a rounding error."),
        "c": (
            "A norm with a gain is between matrix and stream, and the gain changes the direction of what is written.",
            "Right: remove g * r before the norm, and r is absent after it.",
        ),
        "d": ("It has no refusal direction.", "The weights are random; the point is geometry."),
    },
    correct="c",
)
