"""Scores with their labels: of components, and of the edges between them."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from beartype import beartype
from jaxtyping import Bool, Float, jaxtyped
from torch import Tensor

from course_lib import directions


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class ComponentScores:
    """One number for the embedding ("embedding"), each head ("L2.H5") and each MLP ("L2.MLP")."""

    labels: tuple[str, ...]
    values: Float[Tensor, " component"]

    def at(self, label: str) -> float:
        """The score of one component."""
        return float(self.values[_index(self.labels, label)])

    def top(self, k: int = 10) -> tuple[tuple[str, float], ...]:
        """The k components with the largest scores by size, signed."""
        order = self.values.abs().topk(min(k, len(self.labels))).indices
        return tuple((self.labels[int(i)], float(self.values[i])) for i in order)

    def auroc(self, route: Collection[str]) -> float:
        """How well the scores' sizes tell the components of a known route from all others: 0.5 is chance."""
        for label in route:
            _index(self.labels, label)
        return _auroc(self.values.abs(), torch.tensor([label in route for label in self.labels]))


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class EdgeScores:
    """One number for every edge between components, positions taken together.

    Sources are components; destinations are the query, key and value inputs of heads ("L2.H5.q"; with shared
    keys and values the number after H is the shared one's), MLPs ("L2.MLP") and "logits".
    """

    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    values: Float[Tensor, "source destination"]
    """In the metric's unit: how much of it the edge carries. 0 where no edge exists."""
    exists: Bool[Tensor, "source destination"]
    """Whether the source is written before the destination reads."""

    def at(self, source: str, destination: str) -> float:
        """The score of one edge.

        Raises:
            ValueError: A label that does not exist, or a source that is written too late for the destination.
        """
        place = self._place(source, destination)
        return float(self.values[place])

    def top(self, k: int = 10) -> tuple[tuple[str, str, float], ...]:
        """(source, destination, score) of the k edges with the largest scores by size, signed."""
        order = self.values.abs().flatten().topk(min(k, int(self.exists.sum()))).indices.tolist()
        places = [divmod(place, len(self.destinations)) for place in order]
        return tuple((self.sources[i], self.destinations[j], float(self.values[i, j])) for i, j in places)

    def nodes(self) -> ComponentScores:
        """Every component's score: the sum over its outgoing edges. For `eap` scores, attribution patching."""
        return ComponentScores(self.sources, self.values.sum(dim=1))

    def auroc(self, route: Collection[tuple[str, str]]) -> float:
        """How well the scores' sizes tell the edges of a known route from all others: 0.5 is chance."""
        true = torch.zeros_like(self.exists)
        for source, destination in route:
            true[self._place(source, destination)] = True
        return _auroc(self.values.abs()[self.exists], true[self.exists])

    def _place(self, source: str, destination: str) -> tuple[int, int]:
        place = _index(self.sources, source), _index(self.destinations, destination)
        if not bool(self.exists[place]):
            raise ValueError(f"There is no edge from {source} to {destination}: it would run backwards.")
        return place


def _index(labels: tuple[str, ...], label: str) -> int:
    if label not in labels:
        raise ValueError(f"There is no {label!r}. Labels: {', '.join(labels[:4])}, ..., {labels[-1]}.")
    return labels.index(label)


def _auroc(sizes: Float[Tensor, " n"], true: Bool[Tensor, " n"]) -> float:
    if not bool(true.any()) or bool(true.all()):
        raise ValueError("The route must hold some of the components or edges, not none and not all.")
    return directions.auroc(sizes[true], sizes[~true])
