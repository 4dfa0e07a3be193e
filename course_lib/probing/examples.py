"""Labelled activations, and their division by topic."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from beartype import beartype
from jaxtyping import Int, jaxtyped
from torch import Tensor

from course_lib import caching

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Examples:
    """What probes are fitted and tested on; checked when it is made.

    Raises:
        ValueError: No prompts, lengths that do not match, labels that are not boolean or all the same, tensors on
            different devices, an empty prompt, or an activation that is not finite (with its prompt, position and
            hook).
    """

    activations: caching.Activations
    """From `caching.harvest`, all layers and positions from which one is to be chosen."""
    labels: Tensor
    """One boolean a prompt: True is what the probe is to find."""
    topics: Sequence[str]
    """One a prompt (`data.PromptSet.topics`): prompts of one topic stay together in every division."""
    prompts: Sequence[Sequence[int]]
    """Token ids of each prompt, for the baselines that see no activation."""

    def __post_init__(self) -> None:
        _check_labels(self.labels)
        counts = {
            "activations": len(self.activations.values),
            "labels": len(self.labels),
            "topics": len(self.topics),
            "prompts": len(self.prompts),
        }
        if len(set(counts.values())) > 1:
            given = ", ".join(f"{n} {name}" for name, n in counts.items())
            raise ValueError(f"Every prompt needs one activation, one label, one topic and its ids; got {given}.")
        if self.labels.device != self.activations.values.device:
            raise ValueError(
                f"The labels are on {self.labels.device}, the activations on {self.activations.values.device}: "
                "move one of them with .to(...)."
            )
        empty = [index for index, ids in enumerate(self.prompts) if len(ids) == 0]
        if empty:
            raise ValueError(f"Prompt {empty[0]} has no tokens.")
        check_finite(self.activations, "the examples")


def _check_labels(labels: Tensor) -> None:
    if not isinstance(labels, Tensor) or labels.dtype != torch.bool or labels.ndim != 1:
        given = f"{labels.dtype}, shape {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"labels must be one boolean a prompt, such as torch.tensor([True, False]); got {given}.")
    if bool(labels.all()) or not bool(labels.any()):
        raise ValueError(
            f"{len(labels)} labels, {int(labels.sum())} of them True: a probe needs prompts of both kinds."
        )


def check_finite(activations: caching.Activations, name: str) -> None:
    """Refuse an empty set, and name the first place with a NaN: the earliest hook in which one occurs."""
    if len(activations.values) == 0:
        raise ValueError(f"There are no prompts in {name}.")
    bad = ~torch.isfinite(activations.values).all(dim=-1)  # [prompt, position, hook]
    if bool(bad.any()):
        hook, prompt, position = bad.permute(2, 0, 1).nonzero()[0].tolist()
        raise ValueError(
            f"An activation of {name} is NaN or infinite, first at {activations.hook_names[hook]} in prompt {prompt}, "
            f"position {activations.positions[position]!r}; {int(bad.any(dim=(1, 2)).sum())} prompts are affected."
        )


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class Split:
    """Indices of the prompts in each part, from `split_by_topic` or put together by hand."""

    train: Int[Tensor, " train"]
    validation: Int[Tensor, " validation"]
    test: Int[Tensor, " test"]

    def parts(self) -> dict[str, Tensor]:
        """The three parts by name."""
        return {name: getattr(self, name) for name in PARTS}


@jaxtyped(typechecker=beartype)
def split_by_topic(
    topics: Sequence[str], labels: Tensor, *, shares: tuple[float, float, float] = (0.5, 0.25, 0.25), seed: int = 0
) -> Split:
    """Training, validation and test part, none of which shares a topic with another.

    Topics that occur with True only, with False only, and with both are divided each for themselves, in random order,
    so that every part gets its share of each kind. Topics stay whole: the shares of prompts are met roughly.

    Args:
        topics: One a prompt.
        labels: One boolean a prompt.
        shares: Of the prompts that should be in the training, validation and test part.
        seed: Of the order in which topics are dealt out.

    Raises:
        ValueError: Lengths that do not match, labels that are not boolean, shares that are not positive, or too few
            topics for prompts of both kinds in each part.

    Example:
        >>> topics = [f"topic {number}" for number in range(8) for _ in range(10)]
        >>> split = split_by_topic(topics, torch.arange(80) < 40)
        >>> {name: len(rows) for name, rows in split.parts().items()}
        {'train': 40, 'validation': 20, 'test': 20}
    """
    _check_labels(labels)
    if len(topics) != len(labels):
        raise ValueError(f"Every prompt needs a topic and a label; got {len(topics)} topics and {len(labels)} labels.")
    if min(shares) <= 0:
        raise ValueError(f"Each part needs a share above 0, got {shares}.")
    generator = torch.Generator().manual_seed(seed)
    dealt: list[list[int]] = [[], [], []]
    for groups in strata(topics, labels, torch.arange(len(topics))):
        order = torch.randperm(len(groups), generator=generator).tolist()
        _deal([groups[k] for k in order], shares, dealt)
    split = Split(*(torch.tensor(sorted(part), dtype=torch.long) for part in dealt))
    check_split(split, topics, labels)
    return split


def strata(topics: Sequence[str], labels: Tensor, rows: Tensor) -> list[list[Tensor]]:
    """The given rows, grouped by topic; the groups sorted into those all False, all True, and mixed."""
    groups: dict[str, list[int]] = {}
    for row in rows.tolist():
        groups.setdefault(topics[row], []).append(row)
    kinds: list[list[Tensor]] = [[], [], []]
    for group in groups.values():
        true = int(labels[group].sum())
        kinds[2 if 0 < true < len(group) else int(true > 0)].append(torch.tensor(group))
    return kinds


def _deal(groups: list[Tensor], shares: tuple[float, float, float], dealt: list[list[int]]) -> None:
    """One topic for each part, then each topic to the part that lacks most."""
    total, got = sum(map(len, groups)), [0, 0, 0]
    for number, group in enumerate(groups):
        lacking = [share / sum(shares) * total - n for share, n in zip(shares, got, strict=True)]
        part = number if number < len(PARTS) else lacking.index(max(lacking))
        dealt[part].extend(group.tolist())
        got[part] += len(group)


def check_split(split: Split, topics: Sequence[str], labels: Tensor) -> None:
    """Refuse indices out of range, a part without both labels, and a topic or a prompt in two parts."""
    seen: dict[str, str] = {}
    for name, rows in split.parts().items():
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(topics):
            raise ValueError(f"The {name} part holds an index outside the {len(topics)} prompts.")
        if len(rows.unique()) < len(rows):
            raise ValueError(f"The {name} part holds a prompt twice.")
        for label in (True, False):
            if not bool((labels[rows] == label).any()):
                n = len({topic for topic, given in zip(topics, labels.tolist(), strict=True) if given == label})
                raise ValueError(
                    f"The {name} part has no prompt labelled {label}: there are only {n} topics with such prompts "
                    "to divide. Each of the three parts needs its own; more prompts of the same topics do not help."
                )
        for topic in dict.fromkeys(topics[row] for row in rows.tolist()):
            if seen.setdefault(topic, name) != name:
                raise ValueError(
                    f"Topic {topic!r} is in the {seen[topic]} part and in the {name} part, so the {name} part would "
                    "test memory of the topic. Divide with probing.split_by_topic."
                )
