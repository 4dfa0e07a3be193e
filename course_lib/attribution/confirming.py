"""The test of a drawn graph: take one group of nodes out, and measure what the groups that it points to lose.

Ameisen et al. (2025), "Circuit Tracing", https://transformer-circuits.pub/2025/attribution-graphs/methods.html, section on
validation by intervention, for groups:

1. Attention, norms and every other feature's output stay as on the unchanged prompt (`intervene`, "constant"), so that
   a change acts through direct edges only.
2. The features of one group are set to 0, its embeddings taken away.
3. What each other group's nodes read is compared with before, in the unit of the drawing.

It is one run of the model, not a sum of gradients, but of a model whose attention is held: agreement says that the drawing
is right given where the model looks.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor

from course_lib import models
from course_lib.attribution import dictionaries
from course_lib.attribution.dictionaries import Transcoders
from course_lib.attribution.graphs import AttributionGraph, Unit
from course_lib.attribution.interventions import intervene
from course_lib.attribution.nodes import Embedding, Feature, Node
from course_lib.attribution.patching import difference

Pair = tuple[Hashable, Hashable]


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def confirm(
    model: models.CheckedBridge,
    graph: AttributionGraph,
    *,
    transcoders: Transcoders,
    groups: Mapping,
    edges: Iterable,
    unit: Unit = "value",
) -> dict[Pair, float]:
    """(source, target) -> what the target group loses when the source group alone is taken out, measured in a run.

    To be compared with `graph.group(groups, unit=unit).at(source, target)`, of a graph that is not pruned. It does
    not test what formed the attention patterns, nor whether a group's name fits it.

    Args:
        model: The model that the graph is of.
        graph: From `attribution.graph`.
        transcoders: Those of the graph.
        groups: Name -> nodes, as they were drawn.
        edges: (source, target) names of the edges to measure; one run for each source.
        unit: That of the drawing.

    Raises:
        ValueError: Before any run: a name without a group, an error in a source group (it is not taken out by an
            intervention), active hooks, transcoders that do not fit.
    """
    wanted: list[Pair] = [(source, target) for source, target in edges]
    _check(groups, wanted)
    scale = graph.scales(groups, unit=unit)
    before, lost = _values(model, graph, transcoders), {}
    for source in dict.fromkeys(source for source, _ in wanted):
        with _without(model, graph, groups[source], transcoders):
            lost[source] = before - _values(model, graph, transcoders)
    return {(source, target): float(scale[list(groups).index(target)] @ lost[source]) for source, target in wanted}


def _check(groups: Mapping, edges: Sequence[Pair]) -> None:
    for name in {end for edge in edges for end in edge} - set(groups):
        raise ValueError(f"There is no group {name!r}. Groups: {', '.join(map(str, groups))}.")
    for name in {source for source, _ in edges}:
        if not all(isinstance(node, Embedding | Feature) for node in groups[name]):
            raise ValueError(
                f"Group {name!r} holds an error or a target, which cannot be taken out: leave it out of the group."
            )


def _values(model: models.CheckedBridge, graph: AttributionGraph, transcoders: Transcoders) -> Float[Tensor, " target"]:
    """The value of each target of the graph in this very run, also inside an intervention. On the CPU."""
    names = [f"blocks.{layer}.mlp.hook_in" for layer in range(len(transcoders))]
    prompt = torch.tensor([list(graph.prompt_ids)], device=model.cfg.device)
    _, cache = model.run_with_cache(prompt, names_filter=[*names, "unembed.hook_out"])
    read = [dictionaries.pre_activation(t, cache[name][0].float()) for t, name in zip(transcoders, names, strict=True)]
    logits = cache["unembed.hook_out"][0].float()
    return torch.stack(
        [
            read[node.layer][node.position, node.feature] if isinstance(node, Feature) else difference(logits, node)
            for node in graph.targets
        ]
    ).cpu()


@contextmanager
def _without(
    model: models.CheckedBridge, graph: AttributionGraph, nodes: Sequence[Node], transcoders: Transcoders
) -> Iterator[None]:
    """A context in which features are 0 and embeddings gone, and nothing but direct edges acts."""
    words = [node.position for node in nodes if isinstance(node, Embedding)]
    off = {node: 0.0 for node in nodes if isinstance(node, Feature)}

    def remove(activation: Tensor, hook: object) -> Tensor:
        kept = torch.ones(activation.shape[1], 1).index_fill(0, torch.tensor(words, dtype=torch.long), 0.0)
        return activation * kept.to(activation)

    frozen = intervene(
        model, graph.prompt_ids, transcoders=transcoders, changes=off, attention="frozen", mlps="constant"
    )
    with frozen, model.hooks([("hook_embed", remove)]):
        yield
