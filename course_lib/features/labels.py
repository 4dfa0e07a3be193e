"""Labels that can be wrong: a rule predicts, from the tokens alone, where a feature is active.

Detection scoring of Paulo et al. (2024, https://arxiv.org/abs/2410.13928), with a rule in the place of a language model: on
prompts that the author of the label has not looked at, every token is either one on which the feature is active or one on
which it is silent, and the rule says which. Weak activations count as much as strong ones, and the silent tokens include
the near misses: the word "bleach" where the feature for the mixture stays silent.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import torch
from beartype import beartype
from jaxtyping import Bool, Float, jaxtyped
from torch import Tensor

from course_lib import directions, models, tokens
from course_lib.features import running
from course_lib.features.records import Detection, FeatureIndex, Label

Rule = Callable[[Sequence[str], int], bool] | Collection[str]
"""From the tokens of a prompt and a position to whether the feature is active there; or the words on which it is."""


class _Judged(NamedTuple):
    """One prompt's tokens, the first left out."""

    active: Bool[Tensor, " pos"]
    predicted: Bool[Tensor, " pos"]
    values: Float[Tensor, " pos"]


@jaxtyped(typechecker=beartype)
def detection(
    model: models.CheckedBridge,
    dictionary: running.Dictionary,
    feature: int,
    *,
    rule: Rule,
    prompts: models.Prompts,
    weights: running.Weights = "own",
    seed: int = 0,
    progress: bool = False,
) -> Detection:
    """How well the rule predicts on which tokens of these prompts the feature is active.

    Use prompts that nobody looked at when the label was written, and put near misses among them. A high score says that
    the rule describes *when* the feature is active, not what the model uses it for. Intervals are over prompts (bootstrap).

    Args:
        rule: Words, such as {"bleach", "ammonia"}; or a function of a prompt's tokens and a position, which must not look
            behind the position: the model cannot either.
        prompts: Token ids.
        weights: As for `features.index`.
        seed: Of the bootstrap.

    Raises:
        ValueError: No such feature; a word that is no token; prompts that cannot be run, fewer than two of them, or on
            which the feature is never, or always, active.
        TypeError: A rule that does not answer with True or False.
    """
    running.check(model, dictionary, weights)
    running.check_prompts(model, dictionary, prompts)
    running.check_feature(feature, running.d_sae(dictionary))
    predict, name = _predictor(model, rule)
    judged = _judge(model, dictionary, feature, predict, prompts, progress)
    counts = torch.stack([_confusion(one) for one in judged])
    n_active, n_silent = int(counts[:, :2].sum()), int(counts[:, 2:].sum())
    if len(judged) < 2 or not n_active or not n_silent:
        raise ValueError(
            f"Feature {feature} is active on {n_active} and silent on {n_silent} tokens of {len(judged)} prompts: both "
            "kinds and two prompts are needed. Give prompts on which it is sometimes active."
        )
    hit, missed, false_alarm, correct = counts.sum(dim=0).tolist()
    return Detection(
        name,
        directions.bootstrap_interval(counts, _balanced_accuracy, n_resamples=1000, seed=seed),
        directions.bootstrap_interval(counts, _f1, n_resamples=1000, seed=seed),
        precision=hit / max(1.0, hit + false_alarm),
        recall=hit / n_active,
        specificity=correct / n_silent,
        recall_by_quarter=_by_quarter(judged),
        n_active=n_active,
        n_silent=n_silent,
    )


def propose_label(
    index: FeatureIndex, feature: int, *, share: float = 0.8, at_most: int = 6
) -> tuple[Label, frozenset[str]]:
    """A label by the author "rule", and the words to score it with: those that hold `share` of the activation.

    Says on which words the feature is active and which it pushes up, nothing about the words around them: a feature for a
    mixture and one for its second word get the same label, and the score of the words tells them apart.

    Raises:
        ValueError: No such feature, or one that is dead in this corpus.
    """
    about = index.feature(feature)
    if not about.n_active:
        raise ValueError(f"Feature {feature} is never active in this corpus, so there is nothing to say about it.")
    words, held = [], 0.0
    for word, part in about.fires_on[:at_most]:
        if held < share:
            words.append(word)
            held += part
    writes = ", ".join(word for word, _ in about.promotes[:3])
    text = f"fires on: {', '.join(words)} ({held:.0%} of its activation); writes: {writes}"
    return Label(feature, text, author="rule"), frozenset(words)


def _predictor(model: models.CheckedBridge, rule: Rule) -> tuple[Callable[[Sequence[str], int], bool], str]:
    if callable(rule):
        return rule, getattr(rule, "__name__", "a rule")
    words = {rule} if isinstance(rule, str) else set(rule)
    vocabulary = tokens.token_strings(model.tokenizer, range(model.cfg.d_vocab))
    if not words:
        raise ValueError("The rule holds no word. Give at least one, or a function of tokens and position.")
    for word in words:
        if word not in vocabulary:
            running.token_id(vocabulary, word)  # says what is near
    return (lambda strings, position: strings[position] in words), f"token in {{{', '.join(sorted(words))}}}"


def _judge(
    model: models.CheckedBridge,
    dictionary: running.Dictionary,
    feature: int,
    predict: Callable[[Sequence[str], int], bool],
    prompts: models.Prompts,
    progress: bool,
) -> list[_Judged]:
    judged = []
    for part in running.parts(model, dictionary, prompts, progress=progress, what="detection"):
        for row, prompt in enumerate(part.indices):
            strings, values = tokens.token_strings(model.tokenizer, prompts[prompt]), part.activations[row, :, feature]
            answers = [predict(strings, position) for position in range(1, len(strings))]
            if not all(isinstance(answer, bool) for answer in answers):
                raise TypeError(f"The rule answered {answers[0]!r}; it must answer True or False for each position.")
            judged.append(_Judged(values > 0, torch.tensor(answers), values))
    return judged


def _confusion(one: _Judged) -> Float[Tensor, " 4"]:
    """Hits, misses, false alarms, correct silences."""
    active, predicted, _ = one
    cells = (active & predicted, active & ~predicted, ~active & predicted, ~active & ~predicted)
    return torch.stack([cell.sum() for cell in cells]).float()


def _balanced_accuracy(counts: Float[Tensor, "prompt 4"]) -> Tensor:
    hit, missed, false_alarm, correct = counts.sum(dim=0)
    return (hit / (hit + missed).clamp(min=1) + correct / (correct + false_alarm).clamp(min=1)) / 2


def _f1(counts: Float[Tensor, "prompt 4"]) -> Tensor:
    hit, missed, false_alarm, _ = counts.sum(dim=0)
    return 2 * hit / (2 * hit + missed + false_alarm).clamp(min=1)


def _by_quarter(judged: list[_Judged]) -> tuple[float, ...]:
    values = torch.cat([one.values[one.active] for one in judged])
    hits = torch.cat([one.predicted[one.active] for one in judged])[values.argsort(stable=True)]
    if len(hits) < 4:
        return ()
    quarters = torch.arange(len(hits)) * 4 // len(hits)
    return tuple(float(hits[quarters == q].float().mean()) for q in range(4))
