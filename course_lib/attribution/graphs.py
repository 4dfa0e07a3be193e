"""Attribution graphs of the local replacement model: which features moved a logit, and through which features.

Ameisen et al. (2025), "Circuit Tracing",
https://transformer-circuits.pub/2025/attribution-graphs/methods.html, with one transcoder per layer:

1. Every MLP's output is written as transcoder features times their decoder vectors, plus an error vector.
   Attention patterns and the norms' denominators are held at their values on the prompt (`frozen.record`).
2. What is left is linear, so the gradient of a target with respect to the stream is exact: a logit difference
   starts it at the unembedding, a feature at its encoder vector. It flows back through attention and the
   residual stream, never through an MLP; targets join this `sweep` at their own layer.
3. Edge = source's vector times the gradient where it is written. A target's edges and its constant (biases on
   the way) sum to its value.
4. Influence: every target's incoming edges, as shares of their absolute sum, are followed back from the logits
   along all paths (a finite power series). Replacement and completeness score say how much of it is explained
   by features rather than errors; pruning keeps the nodes and edges that carry most of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from beartype import beartype
from jaxtyping import Bool, Float, jaxtyped
from torch import Tensor

from course_lib import models
from course_lib.attribution import dictionaries
from course_lib.attribution.dictionaries import Transcoders
from course_lib.attribution.frozen import FrozenRun, Prompt, check_prompt, record
from course_lib.attribution.nodes import Embedding, Error, Feature, Node, Target, resolve
from course_lib.attribution.patching import difference
from course_lib.attribution.supernodes import SupernodeEdges
from course_lib.attribution.sweep import Sweep

Unit = Literal["value", "share", "output"]


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class AttributionGraph:
    """Nodes and direct linear edges of the local replacement model at one prompt, from `graph`. On the CPU."""

    prompt_ids: tuple[int, ...]
    """Up to the last target's position; later tokens cannot matter."""
    sources: tuple[Node, ...]
    """Labels of the columns: active features by layer, position and number; then errors; then embeddings."""
    targets: tuple[Node, ...]
    """Labels of the rows: the same features in the same order, then the targets that were asked for."""
    edges: Float[Tensor, "target source"]
    """What each source adds to each target's value directly, not through other features. In the unit of the
    target: logits, or a feature's pre-activation."""
    constants: Float[Tensor, " target"]
    """What biases add to each target (encoder, decoder, attention, unembedding)."""
    values: Float[Tensor, " target"]
    """Pre-activation of each feature (its activation if it is active); logit difference. In an unpruned graph
    the sum of a row's edges and its constant."""
    weights: Float[Tensor, " asked"]
    """Share of each asked target in the influence."""
    replacement_score: float
    """Share of the embeddings in the influence that reaches embeddings and errors: 1 without errors. Of the
    whole graph, also after pruning."""
    completeness_score: float
    """Share of all targets' incoming edges that comes from features and embeddings instead of errors, weighted
    by the targets' influence. Of the whole graph, also after pruning."""

    @property
    def n_features(self) -> int:
        """Number of feature nodes, which are the first rows and the first columns."""
        return len(self.targets) - len(self.weights)

    @property
    def asked(self) -> tuple[Node, ...]:
        """The targets that were asked for: the last rows."""
        return self.targets[self.n_features :]

    @property
    def influence(self) -> Float[Tensor, " source"]:
        """Share of each source in the asked targets along all paths. Without sign: not an effect."""
        return _influence(_shares(self.edges), self.weights)

    def total_effect(self) -> Float[Tensor, "asked source"]:
        """What each source adds to each asked target along all paths, signed, as long as features stay active.

        The sum over paths of products of edges, each divided by its feature's activation. It is the effect of
        a change in the linear model; a feature that falls below its threshold on the way ends it.
        """
        per_unit = self.edges[: self.n_features] / self.values[: self.n_features, None]
        step = total = self.edges[self.n_features :]
        while bool(step.any()):
            step = step[:, : self.n_features] @ per_unit
            total = total + step
        return total

    @property
    def worth(self) -> Float[Tensor, " target"]:
        """What one unit of each target's value adds to the asked targets along all paths, as `total_effect`.

        With several asked targets, their mean by `weights`; an asked target's own entry is its weight.
        """
        effect = self.weights @ self.total_effect()[:, : self.n_features]
        return torch.cat([effect / self.values[: self.n_features], self.weights])

    def edge(self, source: Node, target: Node) -> float:
        """One direct edge. An asked target comes before a feature of the same name."""
        return float(self.edges[_place(self.targets, target, "target"), _place(self.sources, source, "source")])

    def top(self, k: int = 10) -> tuple[tuple[Node, float], ...]:
        """The k sources of most influence, with it."""
        values, order = self.influence.topk(min(k, len(self.sources)))
        return tuple((self.sources[int(i)], float(v)) for i, v in zip(order, values, strict=True))

    def top_edges(self, target: Node, k: int = 10) -> tuple[tuple[Node, float], ...]:
        """The k sources with the largest direct edges to a target, by size, with the signed edge."""
        row = self.edges[_place(self.targets, target, "target")]
        order = row.abs().topk(min(k, len(row))).indices
        return tuple((self.sources[int(i)], float(row[i])) for i in order)

    def prune(self, *, node_share: float = 0.8, edge_share: float = 0.98) -> "AttributionGraph":
        """The graph with the fewest nodes that hold `node_share` of the influence, and likewise its edges.

        Other edges are set to 0; then features without an incoming or an outgoing edge go too. Embeddings and
        asked targets always stay. Values, constants and both scores stay those of the whole graph.
        """
        for name, share in (("node_share", node_share), ("edge_share", edge_share)):
            if not 0 < share <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, not {share}.")
        stays = _largest(self.influence, node_share)
        stays |= torch.tensor([isinstance(node, Embedding) for node in self.sources])
        graph = _subgraph(self, stays)
        shares = _shares(graph.edges)
        passing = torch.cat([_influence(shares, graph.weights)[: graph.n_features], graph.weights])
        kept = _largest((shares * passing[:, None]).flatten(), edge_share).view_as(shares)
        return _without_dead_ends(replace(graph, edges=graph.edges * kept))

    def by_place(self, places: Mapping[str, Iterable[int]], *, blocks: Sequence[Iterable[int]]) -> dict:
        """Groups for `group`, (place, row) -> nodes: in row 0 the words of a place, in row 1 its features in the blocks of
        the first range, in row 2 those of the second, and so on; ("output", last row) are the asked targets.

        Groups without a node are left out, and so are errors and features outside of all places and ranges.
        """
        place_of = {position: name for name, positions in places.items() for position in positions}
        row_of = {block: row for row, within in enumerate(blocks, start=1) for block in within}
        groups: dict[tuple[str, int], list[Node]] = {}
        for node in self.sources:
            row = 0 if isinstance(node, Embedding) else row_of.get(node.layer) if isinstance(node, Feature) else None
            if row is not None and node.position in place_of:
                groups.setdefault((place_of[node.position], row), []).append(node)
        return {**groups, ("output", len(blocks) + 1): list(self.asked)}

    def group(self, groups: Mapping, *, unit: Unit = "value") -> SupernodeEdges:
        """Signed edges between named groups of nodes (supernodes); nodes in no group are left out.

        A group's row holds what its nodes that are targets receive, its column what its nodes that are sources
        give; an asked target gives nothing, an embedding or an error receives nothing.

        Args:
            groups: Name -> nodes.
            unit: "value", what is added to the summed value of the target group's nodes; "share", that as a share of
                the summed value; "output", that in the unit of the asked targets, by the `worth` of each node. Output
                that flows on is counted at every group that it passes, so edges into different groups do not add up.

        Raises:
            ValueError: A node that the graph does not have, or that is in two groups.
        """
        take = self.scales(groups, unit=unit)
        return SupernodeEdges(tuple(groups), take @ self.edges @ _members(groups, self.sources).T)

    def scales(self, groups: Mapping, *, unit: Unit) -> Float[Tensor, "group target"]:
        """What one unit of each target's value counts in its group: 0 outside of it. See `group` for units and errors."""
        members = [node for nodes in groups.values() for node in nodes]
        known = {*self.targets, *self.sources}
        unknown = [node for node in members if node not in known]
        if unknown:
            raise ValueError(f"The graph has no node {unknown[0]}: is it inactive here, or was it pruned?")
        if len(set(members)) < len(members):
            twice = next(node for node in members if members.count(node) > 1)
            raise ValueError(f"{twice} is in more than one place of the groups. Each node has one group.")
        if unit not in get_args(Unit):
            raise ValueError(f"unit must be one of {', '.join(get_args(Unit))}, not {unit!r}.")
        inside = _members(groups, self.targets)
        if unit == "share":
            total = (inside @ self.values)[:, None]
            return inside / torch.where(total == 0, 1.0, total)
        return inside * self.worth if unit == "output" else inside


def _members(groups: Mapping, nodes: Sequence[Node]) -> Float[Tensor, "group node"]:
    """1 where a node is in a group, else 0."""
    place = {node: row for row, inside in enumerate(groups.values()) for node in inside}
    return (torch.tensor([place.get(node, -1) for node in nodes]) == torch.arange(len(groups))[:, None]).float()


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def graph(
    model: models.CheckedBridge,
    prompt_ids: Prompt,
    *,
    transcoders: Transcoders,
    targets: Sequence,
    weights: Sequence | None = None,
    batch_size: int = 512,
) -> AttributionGraph:
    """The attribution graph of some targets at one prompt.

    Nodes are the features that are active on the prompt, one error for every layer and position, and one
    embedding for every token. A feature that is not active can be a target: its edges say what holds it below
    its threshold, and `values` how far. The graph does not say what formed the attention patterns, what a
    feature does once a threshold is crossed, or what an inactive feature would have done.

    Args:
        model: From `models.load`.
        prompt_ids: Token ids of one prompt.
        transcoders: One sae_lens transcoder per layer, from the MLP's input to its output.
        targets: `Logit(token, minus=other)` or `Feature(layer, position, feature)`.
        weights: Each target's share in influence and scores; by default equal ones.
        batch_size: Targets swept at once at most; bounds the memory.

    Raises:
        ValueError: Before any edge: a prompt that cannot be run, active hooks, a model of another shape,
            transcoders that do not fit, a target that does not exist, weights that do not fit.
    """
    check_prompt(model, prompt_ids)
    dictionaries.check(model, transcoders)
    d_sae = transcoders[0].W_dec.shape[0]
    asked = [resolve(model, target, len(prompt_ids), d_sae) for target in targets]
    shares = _target_shares(asked, weights)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
    run = record(model, prompt_ids[: max(target.position for target in asked) + 1])
    encoded = dictionaries.encode(run, transcoders)
    depth = max(target.layer if isinstance(target, Feature) else run.n_layers for target in asked)
    features = [Feature(*place) for place in encoded.activations[:depth].nonzero().tolist()]
    n_tokens = len(run.prompt_ids)
    errors = [Error(layer, position) for layer in range(depth) for position in range(n_tokens)]
    embeddings = [Embedding(position, token) for position, token in enumerate(run.prompt_ids)]
    sweep = Sweep(run, encoded, transcoders, depth, features)
    edges, constants = sweep.edges([*features, *asked], batch_size)
    values = torch.tensor([_value(run, transcoders, target) for target in [*features, *asked]])
    return AttributionGraph(
        run.prompt_ids,
        (*features, *errors, *embeddings),
        (*features, *asked),
        edges,
        constants,
        values,
        shares,
        *_scores(edges, shares, n_errors=len(errors)),
    )


def _target_shares(asked: Sequence[Target], weights: Sequence | None) -> Float[Tensor, " asked"]:
    if not asked or len(set(asked)) < len(asked):
        raise ValueError(f"The targets must be a list of different targets, at least one; got {list(asked)}.")
    shares = torch.ones(len(asked)) if weights is None else torch.tensor([float(w) for w in weights])
    if len(shares) != len(asked) or not bool((shares >= 0).all()) or not 0 < float(shares.sum()) < torch.inf:
        raise ValueError(f"weights must be {len(asked)} numbers, one per target, none negative; got {weights}.")
    return shares / shares.sum()


def _value(run: FrozenRun, transcoders: Transcoders, target: Target) -> float:
    """The number that a target's edges and constant sum to, as the model has it."""
    if isinstance(target, Feature):
        read = run.mlp_in[target.layer, target.position]
        return float(dictionaries.pre_activation(transcoders[target.layer], read)[target.feature])
    return float(difference(run.logits, target))


# --- influence ----------------------------------------------------------------------------------------------


def _shares(edges: Float[Tensor, "target source"]) -> Float[Tensor, "target source"]:
    """Every target's incoming edges as shares of their absolute sum."""
    return edges.abs() / edges.abs().sum(dim=1, keepdim=True).clamp(min=1e-10)


def _influence(shares: Float[Tensor, "target source"], weights: Float[Tensor, " asked"]) -> Float[Tensor, " source"]:
    """w B (1 + A + A^2 + ...): features read only earlier layers, so the series ends."""
    n_features = len(shares) - len(weights)
    step = total = weights @ shares[n_features:]
    while bool(step[:n_features].any()):
        step = step[:n_features] @ shares[:n_features]
        total = total + step
    return total


def _scores(
    edges: Float[Tensor, "target source"], weights: Float[Tensor, " asked"], *, n_errors: int
) -> tuple[float, float]:
    """Replacement and completeness score, defined as in circuit-tracer."""
    shares = _shares(edges)
    n_features = len(shares) - len(weights)
    influence = _influence(shares, weights)
    errors = slice(n_features, n_features + n_errors)
    from_errors, from_tokens = influence[errors].sum(), influence[n_features + n_errors :].sum()
    explained = 1 - shares[:, errors].sum(dim=1)
    passing = torch.cat([influence[:n_features], weights])
    roots = from_errors + from_tokens  # nodes without inputs count as fully explained
    completeness = ((explained * passing).sum() + roots) / (passing.sum() + roots)
    return float(from_tokens / roots.clamp(min=1e-10)), float(completeness)


# --- pruning ------------------------------------------------------------------------------------------------


def _largest(scores: Float[Tensor, " n"], share: float) -> Bool[Tensor, " n"]:
    """Whether each entry is among the fewest largest ones that hold at least this share of the sum."""
    ordered, order = scores.sort(descending=True)
    before = ordered.cumsum(0) - ordered
    kept = torch.zeros(len(scores), dtype=torch.bool)
    kept[order] = (before < share * scores.sum()) & (ordered > 0)
    return kept


def _subgraph(graph: AttributionGraph, stays: Bool[Tensor, " source"]) -> AttributionGraph:
    """The graph with only some of its sources; a feature leaves as a target too."""
    rows = torch.cat([stays[: graph.n_features], torch.ones(len(graph.weights), dtype=torch.bool)])
    return replace(
        graph,
        sources=tuple(node for node, stay in zip(graph.sources, stays, strict=True) if stay),
        targets=tuple(node for node, stay in zip(graph.targets, rows, strict=True) if stay),
        edges=graph.edges[rows][:, stays],
        constants=graph.constants[rows],
        values=graph.values[rows],
    )


def _without_dead_ends(graph: AttributionGraph) -> AttributionGraph:
    """Drop nodes that give nothing, and features that receive nothing, until none is left."""
    while True:
        embeddings = torch.tensor([isinstance(node, Embedding) for node in graph.sources])
        stays = (graph.edges != 0).any(dim=0) | embeddings
        stays[: graph.n_features] &= (graph.edges != 0).any(dim=1)[: graph.n_features]
        if bool(stays.all()):
            return graph
        graph = _subgraph(graph, stays)


def _place(nodes: Sequence[Node], node: Node, role: str) -> int:
    if node not in nodes:
        raise ValueError(
            f"The graph has no {role} {node}: is the feature inactive here, was it pruned, or does its position "
            "count from the end?"
        )
    return max(place for place, each in enumerate(nodes) if each == node)
