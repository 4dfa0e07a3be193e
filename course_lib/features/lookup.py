"""Six ways to find a feature, and what none of them says.

1. `by_token`: on which features a token's activation lies, from the index.
2. `by_prompt`: what is active at one place of one prompt.
3. `by_contrast`: what is active on one set of prompts and not on another.
4. `by_label`: what somebody has named.
5. `by_logit`: what pushes a token up or down.
6. `by_neighbour`: whose decoder directions point the same way.

Loud is not deciding: a feature that marks a contrast perfectly may do nothing, and another that hardly moves may decide.
Look-up proposes; only an intervention (`course_lib.attribution`, `course_lib.steering`) shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor

from course_lib import directions, models, store, tokens
from course_lib.features import running, writing
from course_lib.features.records import FeatureIndex, Label, Ranking, label_texts, ranking, score_of

STATISTICS = {
    "f1": "F1 of the rule 'active exactly on this token'",
    "mass": "share of the feature's whole activation that lies on this token",
    "rate": "share of this token's occurrences on which the feature is active",
}


@jaxtyped(typechecker=beartype)
def by_token(index: FeatureIndex, token: str | int, *, statistic: Literal["f1", "mass", "rate"] = "f1") -> Ranking:
    """Features that are active on a token in the index's corpus.

    "mass" alone puts features first that were active once, "rate" alone those that are active everywhere; "f1" asks for
    both. A feature that needs more than the token (a mixture, a role) is found too, if it is often active on it.

    Raises:
        ValueError: Text that is not one token, or a token that the corpus does not hold; an unknown statistic.

    Example:
        `features.by_token(index, "bleach").top(5)`
    """
    if statistic not in STATISTICS:
        raise ValueError(f"statistic is {', '.join(map(repr, STATISTICS))}, not {statistic!r}.")
    n, number = len(index.vocabulary), running.token_id(index.vocabulary, token)
    string, seen = index.vocabulary[number], int(index.token_counts[number])
    if not seen:
        raise ValueError(f"The corpus of this index does not hold {string!r}. Make an index of prompts that do.")
    own = index.pairs % n == number
    which, counts = index.pairs[own] // n, index.pair_counts[own].float()
    totals = {"f1": (index.counts[which] + seen) / 2, "rate": torch.full_like(counts, seen)}
    totals["mass"] = index.mean[which] * index.counts[which]
    values = torch.zeros(index.n_features)
    values[which] = (index.pair_sums[own] if statistic == "mass" else counts) / totals[statistic]
    return ranking(f"active on {string!r}", STATISTICS[statistic], values, index, values > 0)


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def by_prompt(
    model: models.CheckedBridge,
    dictionary: running.Dictionary,
    prompt_ids: models.Prompt,
    *,
    position: int | str = "last",
    index: FeatureIndex | None = None,
    weights: running.Weights = "own",
) -> Ranking:
    """Features that are active at one position of one prompt; with an index, in units of each feature's own maximum.

    Without the index the largest numbers belong to the loudest features; with it, to those that are near their own
    strongest. Active hooks apply: the same look-up inside `steering.ablate` shows what is left.

    Raises:
        ValueError: A prompt that cannot be run, a position outside it or its first token, a dictionary that does not fit
            the model, or an index of another dictionary.

    Example:
        `features.by_prompt(chat, sae, prompt, position="reply", index=index).top(5)`
    """
    running.check(model, dictionary, weights)
    _check_index(index, dictionary)
    values = _at(model, dictionary, [prompt_ids], _columns(model, dictionary, [prompt_ids], position))[0]
    kept, unit = values > 0, "activation"
    if index is not None:
        values, unit = values / index.max.clamp(min=1e-6), "activation in units of the feature's maximum in the index"
        kept = kept & (index.max > 0)
    return ranking(f"active at {position!r}", unit, values, index, kept)


class ContrastRow(NamedTuple):
    """One feature of a contrast."""

    feature: int
    auroc: float
    """Chance that a prompt of the first set has more of it than one of the second; ties count half."""
    difference: directions.Interval
    """Mean activation on the first set minus that on the second; bootstrap over prompts."""
    rate_first: float
    rate_second: float
    """Share of prompts of each set with the feature active."""
    label: str


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class Contrast:
    """How each feature differs between two sets of prompts.

    Best of hundreds of features: the first one of a contrast is partly luck, and an interval does not know that it was
    chosen. Look at it again on prompts that were not part of the choice. And loud is not deciding.
    """

    question: str
    first: Float[Tensor, "n_first d_sae"]
    second: Float[Tensor, "n_second d_sae"]
    auroc: Float[Tensor, " d_sae"]
    labels: dict[int, str]

    @property
    def difference(self) -> Float[Tensor, " d_sae"]:
        """Mean activation on the first set minus that on the second."""
        return self.first.mean(dim=0) - self.second.mean(dim=0)

    def top(self, k: int = 10) -> tuple[ContrastRow, ...]:
        """The k features that tell the first set best from the second: by AUROC, then by difference."""
        difference = self.difference
        order = sorted(range(len(self.auroc)), key=lambda i: (-float(self.auroc[i]), -float(difference[i])))
        return tuple(self.row(i) for i in order[:k])

    def row(self, feature: int) -> ContrastRow:
        """One feature's line, with its interval.

        Raises:
            ValueError: There is no such feature, or fewer than two prompts in a set.
        """
        running.check_feature(feature, len(self.auroc))
        first, second = self.first[:, feature], self.second[:, feature]
        return ContrastRow(
            feature,
            float(self.auroc[feature]),
            _difference(first, second),
            float((first > 0).float().mean()),
            float((second > 0).float().mean()),
            self.labels.get(feature, ""),
        )


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def by_contrast(
    model: models.CheckedBridge,
    dictionary: running.Dictionary,
    first: models.Prompts,
    second: models.Prompts,
    *,
    position: int | str | tuple[Sequence[int], Sequence[int]] = "last",
    index: FeatureIndex | None = None,
    weights: running.Weights = "own",
) -> Contrast:
    """What is active on one set of prompts and not on the other, at one position, or wherever it is strongest.

    Args:
        position: A name or an integer as everywhere; "max", the largest activation in each prompt; or two lists with an
            integer for each prompt of either set, for a word that stands elsewhere in each.
        index: For the labels alone.

    Raises:
        ValueError: As for `by_prompt`.

    Example:
        `features.by_contrast(chat, sae, dangerous, safe, position="max").top(5)`
    """
    running.check(model, dictionary, weights)
    _check_index(index, dictionary)
    places = position if isinstance(position, tuple) else (position, position)
    columns = [_columns(model, dictionary, *pair) for pair in zip((first, second), places, strict=True)]
    values = [_at(model, dictionary, *pair) for pair in zip((first, second), columns, strict=True)]
    both = torch.cat(values)
    auroc = torch.full((both.shape[1],), 0.5)
    for i in (both > 0).any(dim=0).nonzero().flatten().tolist():
        auroc[i] = directions.auroc(values[0][:, i], values[1][:, i])
    where = "given positions" if isinstance(position, tuple) else repr(position)
    question = f"{len(first)} prompts against {len(second)}, at {where}"
    return Contrast(question, *values, auroc, label_texts(index))


@jaxtyped(typechecker=beartype)
def by_label(labels: FeatureIndex | Sequence[Label], text: str) -> Ranking:
    """Features with a label that holds the text, best detection score (F1) first; a label nobody scored counts 0.

    Raises:
        ValueError: No label holds the text.
    """
    known = labels.labels if isinstance(labels, FeatureIndex) else labels
    found = [label for label in known if text.lower() in label.text.lower()]
    if not text.strip() or not found:
        some = "; ".join(label.text for label in known[:5]) or "none: FeatureIndex.with_labels adds them"
        raise ValueError(f"No label holds {text!r}. There are {len(known)}: {some}.")
    best = {label.feature: label for label in sorted(found, key=score_of)}
    values = torch.zeros(max(best) + 1)
    for number, label in best.items():
        values[number] = score_of(label)
    kept = torch.tensor([i in best for i in range(len(values))])
    plain = ranking(f"labels with {text!r}", "F1 of the label's rule", values, None, kept)
    rows = tuple(row._replace(label=best[row.feature].text) for row in plain.rows)
    return Ranking(plain.question, plain.statistic, rows)


@jaxtyped(typechecker=beartype)
def by_logit(
    model: models.CheckedBridge,
    dictionary: running.Dictionary,
    token: str | int,
    *,
    minus: str | int | None = None,
    index: FeatureIndex | None = None,
    weights: running.Weights = "own",
) -> Ranking:
    """How far each feature pushes a token's logit up (`.top`) or down (`.bottom`), for one unit of activation.

    W_dec, times the last norm's gain, through the unembedding; less the mean over the vocabulary, or less another
    token's logit. An approximation: the direct path alone. Later layers, which may undo it, and the last norm's
    denominator, by which all of it is divided at any one place, are left out. A feature of an early layer speaks to
    later layers first, and its direct effect says little.

    Raises:
        ValueError: Text that is not one token; a dictionary that does not fit the model, or an index of another one.
    """
    running.check(model, dictionary, weights)
    _check_index(index, dictionary)
    vocabulary = tokens.token_strings(model.tokenizer, range(model.cfg.d_vocab))
    wanted, W_U = running.token_id(vocabulary, token), model.W_U.detach().float().cpu()
    other = W_U.mean(dim=1) if minus is None else W_U[:, running.token_id(vocabulary, minus)]
    values = writing.read_by_unembedding(model, dictionary.W_dec.detach().float().cpu()) @ (W_U[:, wanted] - other)
    against = "the mean of all tokens" if minus is None else repr(minus)
    unit = "logits per unit of activation, direct path, before the last norm's denominator"
    return ranking(f"writes {vocabulary[wanted]!r} against {against}", unit, values, index)


@jaxtyped(typechecker=beartype)
def by_neighbour(dictionary: running.Dictionary, feature: int, *, index: FeatureIndex | None = None) -> Ranking:
    """Cosine of every other feature's decoder direction with this one's: what writes alike, or against it.

    Raises:
        ValueError: There is no such feature.
    """
    running.check_feature(feature, running.d_sae(dictionary))
    _check_index(index, dictionary)
    values = writing.cosines(dictionary, dictionary.W_dec.detach().float().cpu()[feature : feature + 1])[0]
    others = torch.arange(len(values)) != feature
    return ranking(f"writes like feature {feature}", "cosine of decoder directions", values, index, others)


def _columns(
    model: models.CheckedBridge,
    dictionary: running.Dictionary,
    prompts: models.Prompts,
    position: int | str | Sequence[int],
) -> list[int] | None:
    """Index of the position in each prompt; None stands for the largest activation of each."""
    running.check_prompts(model, dictionary, prompts)
    if position == "max":
        return None
    own = [position] * len(prompts) if isinstance(position, int | str) else position
    if len(own) != len(prompts):
        raise ValueError(f"{len(own)} positions were given for {len(prompts)} prompts.")
    return [_column(model, *each) for each in zip(range(len(prompts)), prompts, own, strict=True)]


def _at(
    model: models.CheckedBridge, dictionary: running.Dictionary, prompts: models.Prompts, columns: list[int] | None
) -> Float[Tensor, "prompt d_sae"]:
    """Activations of each prompt at its column, or the largest of each prompt."""
    values = torch.zeros(len(prompts), running.d_sae(dictionary))
    for part in running.parts(model, dictionary, prompts, progress=False, what="look-up"):
        if columns is None:
            values[part.indices] = part.activations.amax(dim=1)
        else:
            own = torch.tensor([columns[i] - 1 for i in part.indices])
            values[part.indices] = part.activations[torch.arange(len(own)), own]
    return values


def _column(model: models.CheckedBridge, number: int, prompt: Sequence[int], position: int | str) -> int:
    """Index of the position in the prompt. The first token has none that counts."""
    try:
        place = tokens.position_index(model.tokenizer, prompt, position)
    except ValueError as error:
        raise ValueError(f"Prompt {number}: {error}") from error
    if place == 0:
        raise ValueError(
            f"Position {position!r} of prompt {number} is its first token, of which a dictionary says nothing."
        )
    return place


def _check_index(index: FeatureIndex | None, dictionary: running.Dictionary) -> None:
    if index is not None and index.dictionary_hash != store.fingerprint(dictionary):
        raise ValueError("The index is of another dictionary. Make one of this dictionary: features.index.")


def _difference(first: Float[Tensor, " n"], second: Float[Tensor, " m"]) -> directions.Interval:
    """Difference of means; all prompts are drawn again together, so that the sizes of the two sets vary too."""
    sides = torch.cat([torch.ones(len(first)), torch.zeros(len(second))])
    rows = torch.stack([torch.cat([first, second]), sides], dim=1)

    def statistic(drawn: Float[Tensor, "n 2"]) -> Tensor:
        one = drawn[:, 1] == 1
        return (drawn[one, 0].sum() / one.sum().clamp(min=1)) - (drawn[~one, 0].sum() / (~one).sum().clamp(min=1))

    return directions.bootstrap_interval(rows, statistic, n_resamples=500)
