"""What an index, a look-up and a label hold, and how an index lies on disk: safetensors and JSON, nothing pickled."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import torch
from beartype import beartype
from jaxtyping import BFloat16, Float, Int, jaxtyped
from safetensors.torch import load, save
from torch import Tensor

from course_lib import directions, models, store
from course_lib.features import running

QUARTERS = ("75-100 %", "50-75 %", "25-50 %", "0-25 %")
FILES = ("index.json", "index.safetensors")


# --- labels and look-ups ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Detection:
    """How well a rule tells the tokens on which a feature is active from those on which it is silent."""

    rule: str
    """The rule in words."""
    balanced_accuracy: directions.Interval
    """Mean of recall and specificity: 0.5 says nothing, 1 is perfect. Forgives a rule that is too broad, where the feature is
    rare: "any cleaner" scores nearly as well as "two cleaners that react"."""
    f1: directions.Interval
    """Harmonic mean of precision and recall: falls when a rare feature is predicted too often. Labels are ordered by it."""
    precision: float
    recall: float
    specificity: float
    recall_by_quarter: tuple[float, ...]
    """Recall on the weakest quarter of the feature's activations, ..., on the strongest; empty if there are under four."""
    n_active: int
    n_silent: int


@dataclass(frozen=True)
class Label:
    """What somebody takes a feature for. Without a detection score it is no more than that."""

    feature: int
    text: str
    author: str
    """Who or what wrote it: a person's name, or "rule"."""
    detection: Detection | None = None


class Row(NamedTuple):
    """One line of a look-up."""

    feature: int
    value: float
    label: str
    """Text of the feature's best label, or "" """


@dataclass(frozen=True)
class Ranking:
    """The answer to a look-up: features with one number each, largest first."""

    question: str
    statistic: str
    """What the numbers are, and their unit."""
    rows: tuple[Row, ...]

    def top(self, k: int = 10) -> tuple[Row, ...]:
        """The k features with the largest numbers."""
        return self.rows[:k]

    def bottom(self, k: int = 10) -> tuple[Row, ...]:
        """The k features with the smallest numbers, smallest first."""
        return self.rows[::-1][:k]

    def at(self, feature: int) -> float:
        """The number of one feature; 0 if it did not answer the question at all."""
        return {row.feature: row.value for row in self.rows}.get(feature, 0.0)

    def __str__(self) -> str:
        lines = [f"{row.feature:>6} {row.value:>8.3f}  {row.label}".rstrip() for row in self.top()]
        return "\n".join([f"{self.question} ({self.statistic})", *lines])


def ranking(
    question: str,
    statistic: str,
    values: Float[Tensor, " d_sae"],
    index: "FeatureIndex | None",
    kept: Tensor | None = None,
) -> Ranking:
    """The values as a ranking, of the features in `kept` (a mask) if there is one, with the labels of the index."""
    order = values.argsort(descending=True, stable=True).tolist()
    wanted = [i for i in order if kept is None or bool(kept[i])]
    label = label_texts(index)
    return Ranking(question, statistic, tuple(Row(i, float(values[i]), label.get(i, "")) for i in wanted))


def label_texts(index: "FeatureIndex | None") -> dict[int, str]:
    """Feature -> text of its best label."""
    return {} if index is None else {label.feature: label.text for label in reversed(index.labels)}


# --- one feature --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    """Tokens around one activation."""

    tokens: tuple[str, ...]
    values: tuple[float, ...]
    """The feature's activation on each of them, to three digits; 0 where it is silent, and on a prompt's first token."""
    at: int
    """Which of the tokens this is an example of."""
    value: float
    """Activation there."""
    prompt: int
    position: int


@dataclass(frozen=True)
class Feature:
    """What one feature fires on in a corpus, and what it writes."""

    number: int
    density: float
    """Share of the corpus' tokens on which it is active."""
    n_active: int
    max: float
    mean: float
    """Mean activation where it is active."""
    sample: tuple[float, ...]
    """A uniform sample of its activations, smallest first."""
    examples: dict[str, tuple[Example, ...]]
    """"top": the strongest; then, of the uniform sample, those in each quarter by strength."""
    fires_on: tuple[tuple[str, float], ...]
    """Tokens with their share of the feature's whole activation."""
    promotes: tuple[tuple[str, float], ...]
    """Tokens whose logit it pushes up, per unit of activation; the direct path alone (`features.by_logit`)."""
    suppresses: tuple[tuple[str, float], ...]
    neighbours: tuple[tuple[int, float], ...]
    """Features with the nearest decoder directions, with the cosine."""
    labels: tuple[Label, ...]


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class Entries:
    """Kept activations, feature after feature; feature f has those from `starts[f]` to `starts[f + 1]`."""

    starts: Int[Tensor, " d_sae_plus_1"]
    values: Float[Tensor, " entry"]
    shown_starts: Int[Tensor, " d_sae_plus_1"]
    """The first entries of each feature are shown as examples; the same for these."""
    where: Int[Tensor, " shown"]
    """Index into the ids of the corpus."""
    windows: BFloat16[Tensor, "shown window"]
    """Activations around."""


# --- the index ----------------------------------------------------------------------------------------------


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class FeatureIndex:
    """Every feature of a dictionary over one corpus, from `features.index`."""

    hook_names: tuple[str, str]
    """Read and written."""
    model_hash: str
    dictionary_hash: str
    vocabulary: tuple[str, ...]
    context: int
    n_tokens: int
    ids: Int[Tensor, " token"]
    """All prompts, end to end."""
    starts: Int[Tensor, " prompt_plus_1"]
    counts: Int[Tensor, " d_sae"]
    """Tokens on which a feature is active."""
    max: Float[Tensor, " d_sae"]
    mean: Float[Tensor, " d_sae"]
    """Where it is active."""
    top: Entries
    sample: Entries
    pairs: Int[Tensor, " pair"]
    """feature * d_vocab + token, of all pairs that occur, in order."""
    pair_counts: Int[Tensor, " pair"]
    pair_sums: Float[Tensor, " pair"]
    token_counts: Int[Tensor, " d_vocab"]
    logits: Float[Tensor, "d_sae two_k"]
    logit_ids: Int[Tensor, "d_sae two_k"]
    cosines: Float[Tensor, "d_sae neighbour"]
    neighbour_ids: Int[Tensor, "d_sae neighbour"]
    labels: tuple[Label, ...] = ()

    @property
    def n_features(self) -> int:
        """Number of features, dead ones among them."""
        return len(self.counts)

    @property
    def density(self) -> Float[Tensor, " d_sae"]:
        """Share of the corpus' tokens on which each feature is active."""
        return self.counts / self.n_tokens

    @property
    def dead(self) -> float:
        """Share of features that are never active in this corpus."""
        return float((self.counts == 0).float().mean())

    def with_labels(self, labels: Sequence[Label]) -> "FeatureIndex":
        """A copy that holds these labels too, the best of each feature first.

        Raises:
            ValueError: A label without text or author, or of a feature that does not exist.
        """
        for label in labels:
            running.check_feature(label.feature, self.n_features)
            if not label.text.strip() or not label.author.strip():
                raise ValueError(
                    f"The label of feature {label.feature} needs a text and an author (a name, or 'rule')."
                )
        kept = dict.fromkeys((*self.labels, *labels))
        return replace(self, labels=tuple(sorted(kept, key=lambda label: (label.feature, -score_of(label)))))

    def feature(self, number: int) -> Feature:
        """What one feature fires on and what it writes.

        Raises:
            ValueError: There is no such feature.
        """
        running.check_feature(number, self.n_features)
        half = self.logits.shape[1] // 2
        written = [
            (self.vocabulary[i], float(v)) for i, v in zip(self.logit_ids[number], self.logits[number], strict=True)
        ]
        near = zip(self.neighbour_ids[number].tolist(), self.cosines[number].tolist(), strict=True)
        return Feature(
            number,
            float(self.density[number]),
            int(self.counts[number]),
            float(self.max[number]),
            float(self.mean[number]),
            tuple(sorted(self._entries(self.sample, number)[0].tolist())),
            self._examples(number),
            self._fires_on(number),
            tuple(written[:half]),
            tuple(written[half:]),
            tuple(near),
            tuple(label for label in self.labels if label.feature == number),
        )

    def save(self, folder: str | Path) -> None:
        """Write the index, labels included, as two files into a folder; an index that lies there is replaced."""
        folder, tensors, facts = Path(folder), _tensors(self), _facts(self)
        folder.mkdir(parents=True, exist_ok=True)
        content = save(tensors, metadata={"key": store.key_of(facts)})
        checksum = hashlib.sha256(content).hexdigest()
        text = json.dumps({"key": store.key_of(facts), "sha256": checksum, "facts": facts}, indent=1)
        store.write_atomically(folder / FILES[1], content)
        store.write_atomically(folder / FILES[0], text.encode())

    def _entries(self, entries: Entries, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """All values of one feature, and places and windows of those that are shown."""
        kept, shown = (slice(int(s[number]), int(s[number + 1])) for s in (entries.starts, entries.shown_starts))
        return entries.values[kept], entries.where[shown], entries.windows[shown]

    def _examples(self, number: int) -> dict[str, tuple[Example, ...]]:
        examples = {"top": [self._example(*entry) for entry in zip(*self._entries(self.top, number), strict=True)]}
        values, where, windows = self._entries(self.sample, number)
        ranks = values.argsort(stable=True).argsort()
        shown = zip(range(len(windows)), values, where, windows, strict=False)
        spread = [(int(ranks[i]), self._example(*entry)) for i, *entry in shown]
        for quarter, name in enumerate(reversed(QUARTERS)):
            own = [pair for pair in spread if pair[0] * 4 // len(values) == quarter]
            own = {example.tokens: example for _, example in sorted(own, key=lambda pair: pair[0])}
            examples[name] = list(own.values())[::-1]
        return {name: tuple(examples[name]) for name in ("top", *QUARTERS)}

    def _example(self, value: Tensor, where: Tensor, window: Tensor) -> Example:
        prompt = int(torch.searchsorted(self.starts, int(where), right=True)) - 1
        first, last = int(self.starts[prompt]), int(self.starts[prompt + 1])
        begin, end = max(first, int(where) - self.context), min(last, int(where) + self.context + 1)
        skipped = begin - (int(where) - self.context)
        values = window[skipped : skipped + end - begin].float().tolist()
        strings = tuple(self.vocabulary[i] for i in self.ids[begin:end].tolist())
        return Example(strings, tuple(values), int(where) - begin, float(value), prompt, int(where) - first)

    def _fires_on(self, number: int, k: int = 8) -> tuple[tuple[str, float], ...]:
        n = len(self.vocabulary)
        low, high = torch.searchsorted(self.pairs, torch.tensor([number * n, (number + 1) * n])).tolist()
        sums = self.pair_sums[low:high]
        order = sums.argsort(descending=True, stable=True)[:k]
        shares = (sums[order] / sums.sum()).tolist()
        return tuple(
            (self.vocabulary[int(self.pairs[low + i]) % n], s) for i, s in zip(order.tolist(), shares, strict=True)
        )


def score_of(label: Label) -> float:
    """F1 of a label's rule; 0 where nobody scored it."""
    return label.detection.f1.estimate if label.detection else 0.0


# --- on disk ------------------------------------------------------------------------------------------------


def load_index(
    folder: str | Path, *, model: models.CheckedBridge | None = None, dictionary: running.Dictionary | None = None
) -> FeatureIndex:
    """The index that `FeatureIndex.save` wrote, after its checksums; of this model and dictionary, if they are given.

    Raises:
        ValueError: A file that is missing, damaged or altered, or an index of another model or dictionary, by name.
    """
    facts, content = _read(Path(folder))
    for name, thing in {"model": model, "dictionary": dictionary}.items():
        network = getattr(thing, "original_model", thing)
        if thing is not None and store.fingerprint(network) != facts[f"{name}_hash"]:
            path = Path(folder) / FILES[0]
            raise ValueError(f"{path} is the index of another {name}. Make one of this {name}: features.index.")
    tensors = load(content)
    parts = {
        name: Entries(**{f.name: tensors.pop(f"{name}.{f.name}") for f in fields(Entries)})
        for name in ("top", "sample")
    }
    labels = tuple(_label(label) for label in facts.pop("labels"))
    facts |= {name: tuple(facts[name]) for name in ("hook_names", "vocabulary")}
    return FeatureIndex(**facts, **tensors, **parts, labels=labels)


def _read(folder: Path) -> tuple[dict, bytes]:
    """Facts and tensors of an index, whole and belonging together."""
    paths = [folder / name for name in FILES]
    for path in paths:
        if not path.is_file():
            raise ValueError(
                f"{path} is missing, so there is no whole index here. Make it again: features.index, then save."
            )
    content = paths[1].read_bytes()
    try:
        about = json.loads(paths[0].read_text(encoding="utf-8"))
        key, checksum, facts = about["key"], about["sha256"], about["facts"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(_refusal(paths[0])) from error
    if store.key_of(facts) != key:
        raise ValueError(_refusal(paths[0]))
    if hashlib.sha256(content).hexdigest() != checksum:
        raise ValueError(_refusal(paths[1]))
    return facts, content


def _refusal(path: Path) -> str:
    return f"{path} was truncated or altered, so it is not used. Delete the folder and make the index again: features.index."


def _tensors(index: FeatureIndex) -> dict[str, Tensor]:
    tensors = {f.name: getattr(index, f.name) for f in fields(index) if isinstance(getattr(index, f.name), Tensor)}
    for name in ("top", "sample"):
        tensors |= {f"{name}.{f.name}": getattr(getattr(index, name), f.name) for f in fields(Entries)}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _facts(index: FeatureIndex) -> dict[str, object]:
    names = ("hook_names", "model_hash", "dictionary_hash", "vocabulary", "context", "n_tokens")
    return {name: getattr(index, name) for name in names} | {"labels": [asdict(label) for label in index.labels]}


def _label(stored: dict) -> Label:
    detection = stored.pop("detection")
    if detection is not None:
        measured = {name: directions.Interval(**detection.pop(name)) for name in ("balanced_accuracy", "f1")}
        quarters = tuple(detection.pop("recall_by_quarter"))
        detection = Detection(**detection, **measured, recall_by_quarter=quarters)
    return Label(**stored, detection=detection)
