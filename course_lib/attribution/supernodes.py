"""Edges between groups of nodes (supernodes): what is drawn of a graph too large to be drawn whole."""

from collections.abc import Hashable
from dataclasses import dataclass

from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class SupernodeEdges:
    """Edges between named groups of nodes, from `AttributionGraph.group`."""

    names: tuple[Hashable, ...]
    edges: Float[Tensor, "target_group source_group"]
    """Sum of the signed edges from one group's nodes to another's, in the unit that `group` was asked for."""

    def at(self, source: Hashable, target: Hashable) -> float:
        """One edge."""
        return float(self.edges[self._place(target), self._place(source)])

    def top(self, k: int = 10, *, into: Hashable | None = None) -> dict[tuple[Hashable, Hashable], float]:
        """(source, target) -> edge of the k largest by size, edges within a group left out.

        With `into`, only edges that lead to that group: into itself, or into a group from which an edge was already taken.
        Each box of such a drawing has a way to the output; a larger edge that leads nowhere in it is left out.
        """
        every = {(a, b): self.at(a, b) for a in self.names for b in self.names if a != b and self.at(a, b) != 0.0}
        reached = set(self.names) if into is None else {self.names[self._place(into)]}
        taken = {}
        while len(taken) < k:
            open_edges = [edge for edge in every if edge[1] in reached and edge not in taken]
            if not open_edges:
                return taken
            largest = max(open_edges, key=lambda edge: abs(every[edge]))
            taken[largest] = every[largest]
            reached.add(largest[0])
        return taken

    def _place(self, name: Hashable) -> int:
        if name not in self.names:
            raise ValueError(f"There is no group {name!r}. Groups: {', '.join(map(str, self.names))}.")
        return self.names.index(name)
