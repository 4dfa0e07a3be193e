"""Attribution graphs: which features of the MLPs moved a logit, through which other features, and the test of a graph.

Ameisen et al. (2025), "Circuit Tracing", https://transformer-circuits.pub/2025/attribution-graphs/methods.html, with one
transcoder per layer:

1. `record` runs one prompt and freezes all of the model that is not linear, except for its MLPs: attention patterns and
   the norms' denominators.
2. Every MLP's output becomes transcoder features times their decoder vectors, plus an error vector. What is left is linear.
3. `trace`: the gradient of a target with respect to the stream is then exact. It starts at the unembedding or at a
   feature's encoder vector, and flows back through attention and the stream, never through an MLP. An edge is a source's
   vector times the gradient where it is written. The edges into a target and its constant (biases) sum to its value.
4. `AttributionGraph` follows these edges along all paths, and adds them up between groups of nodes (supernodes).
5. `confirm_edges` and `intervene` test a graph: they change features while the model runs.
6. `score_terms` splits what a graph takes as given: why a head looks where it looks.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from course_lib import models
from course_lib.caching import keep

Transcoders = Annotated[Sequence[Any], "sae_lens transcoders, one per layer, each from the MLP's input to its output"]
Edge = tuple[Hashable, Hashable]
Hooks = list[tuple[str, Callable]]
TOLERANCE = 0.02
"""Largest difference between a linear piece and the model, as a share of the piece's largest entry: rounding in
bfloat16 stays below it, another shape of model does not."""
SHAPES = "use a Llama-, Mistral-, Qwen- or Gemma-shaped model"
BATCH_SIZE = 512
"""Targets whose gradients flow back together."""


# --- nodes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Embedding:
    """The embedding of the token at one position."""

    position: int
    token: int


@dataclass(frozen=True)
class Feature:
    """One feature of one layer's transcoder at one position; as a target, its pre-activation."""

    layer: int
    position: int
    feature: int


@dataclass(frozen=True)
class Error:
    """The part of the MLP's output at one position that the layer's transcoder misses."""

    layer: int
    position: int


@dataclass(frozen=True)
class Logit:
    """A token's logit minus another token's; without `minus`, minus the mean of all logits.

    Where a model caps its logits (Gemma 2), this is the difference before the cap, which keeps their order.
    """

    token: int
    minus: int | None = None
    position: int = -1

    def value(self, logits: Float[Tensor, "*batch pos d_vocab"]) -> Float[Tensor, "*batch"]:
        """Return the logit difference at this target's position."""
        row = logits[..., self.position, :]
        return row[..., self.token] - (row.mean(dim=-1) if self.minus is None else row[..., self.minus])


Source = Feature | Error | Embedding
Target = Feature | Logit
Node = Source | Target


# --- the frozen run -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FrozenRun:
    """Constants of one prompt's forward pass, and what flowed through it: float32, on the model's device.

    A norm multiplies each entry of the stream by a constant, its *gain*: the weight over the root mean square. A head mixes
    positions by constant weights between two fixed matrices. That also holds for norms after attention and MLP and for
    capped attention scores (Gemma 2).
    """

    prompt_ids: tuple[int, ...]
    embedding: Float[Tensor, "pos d_model"]
    patterns: Float[Tensor, "layer head query key"]
    z: Float[Tensor, "layer pos head d_head"]
    gains: dict[str, Float[Tensor, "pos d_model"]]
    """By the name of the norm: "blocks.0.ln1", ..., "ln_final"."""
    post_gain: Float[Tensor, "layer pos d_model"]
    """Gain of the norm after attention; ones if there is none."""
    mlp_in: Float[Tensor, "layer pos d_model"]
    mlp_out: Float[Tensor, "layer pos d_model"]
    """As it is added to the stream, after the norm behind the MLP if there is one."""
    logits: Float[Tensor, "pos d_vocab"]
    """Before any cap."""
    W_V: Float[Tensor, "layer head d_model d_head"]
    W_O: Float[Tensor, "layer head d_head d_model"]
    b_V: Float[Tensor, "layer head d_head"]
    b_O: Float[Tensor, "layer d_model"]
    W_U: Float[Tensor, "d_model d_vocab"]
    b_U: Float[Tensor, " d_vocab"]

    def head_outputs(self) -> Float[Tensor, "layer head pos d_model"]:
        """Return what each head adds to the stream, its value bias included, without b_O."""
        return torch.einsum("lphe,lhed->lhpd", self.z, self.W_O) * self.post_gain[:, None]

    def attention_bias(self, layer: int) -> Float[Tensor, "pos d_model"]:
        """Return what b_O and all b_V add to the stream: b_V by the sum of each pattern, 1 but where heads have sinks."""
        b_V = torch.einsum("hqk,he,hed->qd", self.patterns[layer], self.b_V[layer], self.W_O[layer])
        return (self.b_O[layer] + b_V) * self.post_gain[layer]

    def unembedding(self, target: Logit) -> tuple[Float[Tensor, " d_model"], float]:
        """Return the direction and the constant that make a logit difference of what the last norm puts out."""
        others = slice(None) if target.minus is None else [target.minus]
        direction = self.W_U[:, target.token] - self.W_U[:, others].mean(dim=1)
        return direction, float(self.b_U[target.token] - self.b_U[others].mean())

    def through_attention(self, layer: int, gradient: Float[Tensor, "n pos d"]) -> Float[Tensor, "n pos d"]:
        """Return the gradient at the stream before a block, given that after its attention."""
        at_z = torch.einsum("tqd,hed->tqhe", gradient * self.post_gain[layer], self.W_O[layer])
        at_v = torch.einsum("tqhe,hqk->tkhe", at_z, self.patterns[layer]).flatten(2)
        by_heads = at_v @ self.W_V[layer].transpose(1, 2).flatten(0, 1)
        return gradient + by_heads * self.gains[f"blocks.{layer}.ln1"]


@torch.no_grad()
def record(model: models.CheckedBridge, prompt_ids: models.Prompt) -> FrozenRun:
    """Return the frozen run of one prompt.

    Raises:
        ValueError: A prompt that cannot be run; active hooks; a run that is not finite; a model that is not linear between
            its MLPs when patterns and norms are frozen. Llama, Mistral, Qwen and Gemma are.
    """
    check_prompt(model, prompt_ids)
    check_blocks(model)
    layers, norms = range(models.n_layers(model)), _norms(model)
    parts = ("attn.hook_pattern", "attn.hook_z", "hook_attn_out", "hook_mlp_out")
    names = [f"blocks.{layer}.{part}" for layer in layers for part in parts]
    names += [f"{norm}.{side}" for norm in norms for side in ("hook_in", "hook_out")]
    seen = _seen(model, prompt_ids, [*names, "hook_embed", "unembed.hook_out"])
    models.check_finite(model, [prompt_ids], seen["unembed.hook_out"][None])
    gains = {name: gain(model, model.get_submodule(name), seen[f"{name}.hook_in"]) for name in norms}
    ones = torch.ones_like(seen["hook_embed"])

    def stacked(part: str) -> Tensor:
        return torch.stack([seen[f"blocks.{layer}.{part}"] for layer in layers])

    run = FrozenRun(
        prompt_ids=tuple(prompt_ids),
        embedding=seen["hook_embed"],
        patterns=stacked("attn.hook_pattern"),
        z=stacked("attn.hook_z"),
        gains=gains,
        post_gain=torch.stack([gains.get(f"blocks.{layer}.ln1_post", ones) for layer in layers]),
        mlp_in=stacked("ln2.hook_out"),
        mlp_out=stacked("hook_mlp_out"),
        logits=seen["unembed.hook_out"],
        W_U=model.W_U.detach().float(),
        b_U=model.b_U.detach().float(),
        **_head_weights(model),
    )
    _check_linear(run, seen, stacked("ln1.hook_out"), stacked("hook_attn_out"))
    return run


def check_prompt(model: models.CheckedBridge, prompt_ids: models.Prompt) -> None:
    """Raise ValueError if this one prompt cannot be run, or if the model has active hooks."""
    models.check_prompts(model, [prompt_ids])
    if models.has_hooks(model):
        raise ValueError("The model has active hooks, so an edited model would be described: leave their context.")


def check_blocks(model: models.CheckedBridge) -> None:
    """Raise ValueError unless each block has a norm, attention, a norm and an MLP, as a frozen run takes for granted."""
    for layer, block in enumerate(model.blocks):
        if missing := [part for part in ("ln1", "attn", "ln2", "mlp") if part not in block._modules]:
            raise ValueError(f"blocks.{layer} has no {missing[0]}: {SHAPES}.")


def gain(model: models.CheckedBridge, norm: torch.nn.Module, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
    """Return what a norm multiplies its input x by, entry by entry: its weight over the root mean square of x."""
    scale = (x.float().pow(2).mean(dim=-1, keepdim=True) + model.cfg.eps).rsqrt()
    return models.norm_weight(model, norm) * scale


def _seen(model: models.CheckedBridge, prompt_ids: models.Prompt, names: Sequence[str]) -> dict[str, Tensor]:
    """Return activations of one run by hook name, without the batch dimension, in float32."""
    ids = torch.tensor([list(prompt_ids)], device=model.cfg.device)
    _, cache = model.run_with_cache(ids, names_filter=list(names))
    return {name: cache[name][0].float() for name in names}


def _norms(model: models.CheckedBridge) -> list[str]:
    """Return the names of the norms before attention and MLP, of those after them if there are any, and of the last."""
    kinds = [kind for kind in ("ln1", "ln2", "ln1_post", "ln2_post") if kind in model.blocks[0]._modules]
    return [*(f"blocks.{layer}.{kind}" for layer in range(models.n_layers(model)) for kind in kinds), "ln_final"]


def _head_weights(model: models.CheckedBridge) -> dict[str, Tensor]:
    """Return W_V, W_O, b_V and b_O of all layers; values that heads share are repeated, missing biases are 0."""
    rows = []
    for attention in (block.attn for block in model.blocks):
        W_V, W_O = attention.W_V.detach().float(), attention.W_O.detach().float()
        b_V, b_O = _or_zeros(attention.b_V, W_V[:, 0]), _or_zeros(attention.b_O, W_O[0, 0])
        shared_by = len(W_O) // len(W_V)
        rows.append((W_V.repeat_interleave(shared_by, 0), W_O, b_V.repeat_interleave(shared_by, 0), b_O))
    return dict(zip(("W_V", "W_O", "b_V", "b_O"), map(torch.stack, zip(*rows, strict=True)), strict=True))


def _or_zeros(bias: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if bias is None else bias.detach().float().view_as(like)


def _check_linear(run: FrozenRun, seen: Mapping[str, Tensor], attn_in: Tensor, attn_out: Tensor) -> None:
    """Compare every linear piece with what the model computed."""
    values = torch.einsum("lkd,lhde->lkhe", attn_in, run.W_V) + run.b_V[:, None]
    pieces = {name: (seen[f"{name}.hook_in"] * gain, seen[f"{name}.hook_out"]) for name, gain in run.gains.items()} | {
        "attention's mixing": (torch.einsum("lhqk,lkhe->lqhe", run.patterns, values), run.z),
        "attention's output": (run.head_outputs().sum(dim=1) + run.b_O[:, None] * run.post_gain, attn_out),
        "the residual stream": (run.embedding + (attn_out + run.mlp_out).sum(dim=0), seen["ln_final.hook_in"]),
        "the unembedding": (seen["ln_final.hook_out"] @ run.W_U + run.b_U, run.logits),
    }
    for name, (linear, actual) in pieces.items():
        if (linear - actual).abs().max() > TOLERANCE * actual.abs().max():
            raise ValueError(f"{name} is not linear when frozen: {SHAPES}.")


# --- the local replacement model ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LocalModel:
    """The frozen run of one prompt, every MLP written as the features of its transcoder and an error."""

    run: FrozenRun
    transcoders: Transcoders
    activations: Float[Tensor, "layer pos d_sae"]
    errors: Float[Tensor, "layer pos d_model"]
    """MLP output minus the transcoder's output."""

    def layer(self, node: Node) -> int:
        """Return the layer at whose MLP a node is: -1 for an embedding, n_layers for a logit."""
        if isinstance(node, Feature | Error):
            return node.layer
        return -1 if isinstance(node, Embedding) else len(self.transcoders)

    def written(self, node: Source) -> Float[Tensor, " d_model"]:
        """Return what a source adds to the stream at its position."""
        if isinstance(node, Embedding):
            return self.run.embedding[node.position]
        if isinstance(node, Error):
            return self.errors[node.layer, node.position]
        decoder = self.transcoders[node.layer].W_dec[node.feature].float()
        return self.activations[node.layer, node.position, node.feature] * decoder

    def read(self, target: Target) -> tuple[Float[Tensor, " d_model"], float]:
        """Return the gradient of a target with respect to the stream that it reads, and its own bias."""
        if isinstance(target, Feature):
            transcoder, gain = self.transcoders[target.layer], self.run.gains[f"blocks.{target.layer}.ln2"]
            encoder = transcoder.W_enc[:, target.feature].float() * gain[target.position]
            return encoder, float(transcoder.b_enc[target.feature])
        direction, bias = self.run.unembedding(target)
        return direction * self.run.gains["ln_final"][target.position], bias

    def edges(self, sources: Sequence[Source], asked: Sequence[Target]) -> tuple[Tensor, Tensor]:
        """Return edges [target, source] and constants [target] of sources, then asked targets, both on the CPU.

        The gradients of targets of one layer flow back together.
        """
        places: dict[tuple[int, int], list[int]] = defaultdict(list)
        targets: dict[int, dict[int, Target]] = defaultdict(dict)
        for place, node in enumerate((*sources, *asked)):
            if place < len(sources):
                places[self.layer(node), node.position].append(place)
            if isinstance(node, Feature | Logit):
                targets[self.layer(node)][place] = node
        written, n = torch.stack([self.written(node) for node in sources]), len(sources) + len(asked)
        edges, constants = torch.zeros(n, n), torch.zeros(n)
        for layer, of_layer in targets.items():
            for rows in torch.tensor(list(of_layer)).split(BATCH_SIZE):
                into, constant = self._back(layer, [of_layer[row] for row in rows.tolist()], written, places)
                edges[rows, : len(sources)], constants[rows] = into.cpu(), constant.cpu()
        return edges, constants

    def _back(self, layer: int, targets: Sequence[Target], written: Tensor, places: Mapping) -> tuple[Tensor, Tensor]:
        """Return edges and constants of targets that read the stream at the MLP of `layer`, or after the last block.

        Args:
            layer: Number of MLPs that write before the targets read.
            targets: All of this layer.
            written: Vector of each source [source, d_model].
            places: (layer, position) -> the sources that are written there, by their places in `written`.
        """
        gradient = self.run.embedding.new_zeros(len(targets), *self.run.embedding.shape)
        edges, constants = gradient.new_zeros(len(targets), len(written)), gradient.new_zeros(len(targets))
        for row, target in enumerate(targets):
            gradient[row, target.position], constants[row] = self.read(target)
        for below in reversed(range(-1, layer)):
            if below + 1 < len(self.transcoders):
                constants += (gradient * self.run.attention_bias(below + 1)).sum(dim=(1, 2))
                gradient = self.run.through_attention(below + 1, gradient)
            for position in range(gradient.shape[1]):
                here = places[below, position]
                edges[:, here] = gradient[:, position] @ written[here].T
            if below >= 0:
                constants += (gradient @ self.transcoders[below].b_dec.float()).sum(dim=1)
        return edges, constants

    def values(self, nodes: Sequence[Node], mlp_in: Tensor, logits: Tensor) -> Float[Tensor, " node"]:
        """Return pre-activations of features, logit differences, and 0 for errors and embeddings, of some run.

        Args:
            nodes: Whose values.
            mlp_in: Inputs of the MLPs [layer, pos, d_model].
            logits: Before any cap [pos, d_vocab].
        """
        before = torch.stack([_pre_activation(t, x) for t, x in zip(self.transcoders, mlp_in, strict=True)]).cpu()
        values = torch.zeros(len(nodes))
        for place, node in enumerate(nodes):
            if isinstance(node, Feature):
                values[place] = before[node.layer, node.position, node.feature]
            elif isinstance(node, Logit):
                values[place] = node.value(logits)
        return values


def check_transcoders(model: models.CheckedBridge, transcoders: Transcoders) -> None:
    """Raise ValueError if these are not one transcoder per layer, in order, each a plain one of the MLP's input."""
    if len(transcoders) != models.n_layers(model):
        raise ValueError(f"{len(transcoders)} transcoders were given for a model of {models.n_layers(model)} layers.")
    for layer, transcoder in enumerate(transcoders):
        hook_name = getattr(getattr(transcoder.cfg, "metadata", None), "hook_name", None)
        if hook_name not in (None, f"blocks.{layer}.mlp.hook_in", f"blocks.{layer}.ln2.hook_out"):
            raise ValueError(f"The transcoder of layer {layer} was trained on {hook_name}, not on this MLP's input.")
        normalisation = getattr(transcoder.cfg, "normalize_activations", "none")
        if normalisation != "none" or getattr(transcoder, "W_skip", None) is not None:
            raise ValueError(f"The transcoder of layer {layer} has a skip path, or a normalisation not folded in.")


def _pre_activation(transcoder: Any, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_sae"]:
    """Return what each feature's threshold is compared with."""
    return x @ transcoder.W_enc.detach().float() + transcoder.b_enc.detach().float()


def _local_model(model: models.CheckedBridge, prompt_ids: models.Prompt, transcoders: Transcoders) -> LocalModel:
    check_transcoders(model, transcoders)
    run = record(model, prompt_ids)
    activations, errors = [], []
    for layer, (transcoder, x) in enumerate(zip(transcoders, run.mlp_in, strict=True)):
        active = transcoder.encode(x).float()
        gap = torch.where(active > 0, active - _pre_activation(transcoder, x), 0.0).abs().max()
        if float(gap) > 1e-3 * max(1.0, float(active.max())):
            raise ValueError(f"Active features of layer {layer} are not their pre-activations, so they have no edges.")
        activations.append(active)
        errors.append(run.mlp_out[layer] - active @ transcoder.W_dec.float() - transcoder.b_dec.float())
    return LocalModel(run, transcoders, torch.stack(activations), torch.stack(errors))


# --- the graph ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class AttributionGraph:
    """Direct linear edges between the nodes of one prompt, from `trace`. On the CPU.

    Rows and columns of `edges`, and the entries of every vector, are in the order of `nodes`.
    """

    prompt_ids: tuple[int, ...]
    """Up to the last target's position; later tokens cannot matter."""
    features: tuple[Feature, ...]
    """Those that are active, by layer, position and number."""
    errors: tuple[Error, ...]
    """By layer and position."""
    embeddings: tuple[Embedding, ...]
    asked: tuple[Target, ...]
    """The targets that were asked for."""
    edges: Float[Tensor, "target source"]
    """Direct contribution of each source to each target's value, not through other features: in logits, or in the unit of
    a feature's pre-activation. 0 in the rows of errors and embeddings and in the columns of asked targets."""
    constants: Float[Tensor, " node"]
    """Contribution of biases (encoder, decoder, attention, unembedding) to each target."""
    values: Float[Tensor, " node"]
    """Pre-activation of each feature, logit difference of each asked target, 0 for errors and embeddings: the sum of a row
    of edges and its constant."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Return all nodes in the order of the edges' rows and columns."""
        return (*self.features, *self.errors, *self.embeddings, *self.asked)

    @property
    def influence(self) -> Float[Tensor, " node"]:
        """Share of each source in the asked targets along all paths. Without sign: not an effect."""
        sizes = self.edges.abs()
        return _along_paths(self._asked().mean(dim=0), sizes, sizes.sum(dim=1).clamp(min=1e-10))

    @property
    def replacement_score(self) -> float:
        """Share of the influence that begins at tokens and not at errors, as in circuit-tracer."""
        _, errors, embeddings, _ = self._parts(self.influence)
        return float(embeddings.sum() / (errors.sum() + embeddings.sum()).clamp(min=1e-10))

    @property
    def completeness_score(self) -> float:
        """Share of the nodes' inputs that does not come from errors, weighted by influence, as in circuit-tracer."""
        sizes, weights = self.edges.abs(), self.influence + self._asked().mean(dim=0)
        from_errors = self._parts(sizes)[1].sum(dim=1) / sizes.sum(dim=1).clamp(min=1e-10)
        return float(((1 - from_errors) * weights).sum() / weights.sum())

    @property
    def worth(self) -> Float[Tensor, " node"]:
        """Effect of one unit of each node's value on the mean of the asked targets, along all paths."""
        return (self._asked() + self.total_effect()).mean(dim=0) / self._units()

    def total_effect(self) -> Float[Tensor, "asked node"]:
        """Return what each source adds to each asked target along all paths, signed, as long as features stay active.

        The sum over paths of products of edges, each divided by its feature's activation. It is the effect of a change in
        the linear model; a feature that falls below its threshold on the way ends it.
        """
        return _along_paths(self._asked(), self.edges, self._units())

    def group(self, groups: Mapping, *, unit: Literal["value", "output"] = "value") -> dict[Edge, float]:
        """Return (source, target) -> summed edges, for named groups of nodes (supernodes), where it is not 0.

        Args:
            groups: Name -> nodes. Nodes in no group are left out. A feature that was itself asked counts as the target that
                it is: what it adds to others is left out.
            unit: "value": what is added to the summed value of the target group's nodes. "output": what that adds to the
                asked targets, by `worth`. Output that flows on is counted at every group that it passes.
        """
        sums = self.scales(groups, unit=unit) @ self.edges @ self.scales(groups, unit="value").T
        return {
            (source, target): float(sums[row, column])
            for row, target in enumerate(groups)
            for column, source in enumerate(groups)
            if source != target and sums[row, column] != 0
        }

    def scales(self, groups: Mapping, *, unit: Literal["value", "output"]) -> Float[Tensor, "group node"]:
        """Return what one unit of each node's value counts in each group: 0 for nodes outside of it."""
        place = {node: i for i, node in enumerate(self.nodes)}
        members = torch.zeros(len(groups), len(self.values))
        for row, nodes in enumerate(groups.values()):
            members[row, [place[node] for node in nodes]] = 1.0
        return members * self.worth if unit == "output" else members

    def _asked(self) -> Float[Tensor, "asked node"]:
        """Return 1 where a node is an asked target, else 0."""
        return pad(torch.eye(len(self.asked)), (len(self.values) - len(self.asked), 0))

    def _units(self) -> Float[Tensor, " node"]:
        """Return the activations of features, 1 for all other nodes."""
        n = len(self.features)
        return pad(self.values[:n], (0, len(self.values) - n), value=1.0)

    def _parts(self, x: Float[Tensor, "... node"]) -> tuple[Tensor, ...]:
        """Split the last dimension into features, errors, embeddings and asked targets."""
        return x.split([len(part) for part in (self.features, self.errors, self.embeddings, self.asked)], dim=-1)


def _along_paths(start: Float[Tensor, "*of n"], edges: Float[Tensor, "n n"], units: Tensor) -> Float[Tensor, "*of n"]:
    """Return start (A + A^2 + ...), A the edges per unit of a target: features read earlier layers, so the series ends."""
    step = total = (start / units) @ edges
    for _ in edges:  # a path has at most as many edges as there are nodes
        if not bool(step.any()):
            return total
        step = (step / units) @ edges
        total = total + step
    raise ValueError("The graph's edges run in a circle, or a node that something reads has no value.")


def strongest(edges: Mapping[Edge, float], k: int, *, into: Hashable) -> dict[Edge, float]:
    """Return the k largest edges by size that lead to the group `into`, directly or through an edge already taken.

    Each box of such a drawing has a way to the output; a larger edge that leads nowhere in it is left out.
    """
    taken: dict[Edge, float] = {}
    reached = {into}
    while len(taken) < k and (candidates := [edge for edge in edges if edge[1] in reached and edge not in taken]):
        largest = max(candidates, key=lambda edge: abs(edges[edge]))
        taken[largest] = edges[largest]
        reached.add(largest[0])
    return taken


@torch.no_grad()
def trace(
    model: models.CheckedBridge, prompt_ids: models.Prompt, *, transcoders: Transcoders, targets: Sequence[Target]
) -> AttributionGraph:
    """Return the attribution graph of some targets at one prompt.

    A feature that is not active can be a target: its edges say what holds it below its threshold, and `values` how far. The
    graph does not say what formed the attention patterns, what a feature does once a threshold is crossed, or what an
    inactive feature would have done.

    Args:
        model: From `models.load`.
        prompt_ids: Token ids of one prompt.
        transcoders: One sae_lens transcoder per layer, from the MLP's input to its output.
        targets: `Logit(token, minus=other)` or `Feature(layer, position, feature)`; positions may count from the end.

    Raises:
        ValueError: As `record`; transcoders that do not fit.
    """
    places = range(len(prompt_ids))
    asked: tuple[Target, ...] = tuple(replace(target, position=places[target.position]) for target in targets)
    n_tokens = 1 + max(target.position for target in asked)
    local = _local_model(model, prompt_ids[:n_tokens], transcoders)
    depth = max(map(local.layer, asked))
    features = tuple(Feature(*place) for place in local.activations[:depth].nonzero().tolist())
    errors = tuple(Error(layer, position) for layer in range(depth) for position in range(n_tokens))
    embeddings = tuple(Embedding(position, token) for position, token in enumerate(local.run.prompt_ids))
    sources: tuple[Source, ...] = (*features, *errors, *embeddings)
    edges, constants = local.edges(sources, asked)
    values = local.values((*sources, *asked), local.run.mlp_in, local.run.logits)
    return AttributionGraph(local.run.prompt_ids, features, errors, embeddings, asked, edges, constants, values)


# --- why a head looks where it looks ------------------------------------------------------------------------


@torch.no_grad()
def score_terms(
    model: models.CheckedBridge,
    prompt_ids: models.Prompt,
    *,
    layer: int,
    head: int,
    query: int,
    key: int,
    parts: tuple[Float[Tensor, "query_part d_model"], Float[Tensor, "key_part d_model"]],
) -> Float[Tensor, "query_term key_term"]:
    """Return one attention score, before the softmax, split by what meets what: its terms sum to it.

    The score is the query that one position asks with times the key that another answers with. Each is linear in the stream
    before the block once the norm's gain is frozen, so with the stream written as a sum of parts on both sides, such as features
    of a dictionary, the score is a sum over pairs. (Kamath et al. 2025, "Tracing Attention Computation Through Feature
    Interactions", https://transformer-circuits.pub/2025/attention-qk/index.html.)

    A pair says what adds up here. What taking a part out does to the attention is more than its terms: the norm's gain reacts,
    and a weight is a share, so that it also depends on all other keys.

    Args:
        model: From `models.load`.
        prompt_ids: Token ids of one prompt.
        layer: Of the block, from 0.
        head: Of this block, from 0.
        query: Position that looks; it may count from the end.
        key: Position that is looked at.
        parts: Vectors that add up to the stream before the block, at the query and at the key.

    Returns:
        Rows are the query's parts in order, then its bias; columns likewise the key's. Biases of 0 where the model has none.

    Raises:
        ValueError: As `record`; parts that do not add up to the stream; a score that is not of this form, as where queries and
            keys are normalised (Qwen 3, Gemma 3).
    """
    check_prompt(model, prompt_ids)
    check_blocks(model)
    names = ("ln1.hook_in", "attn.hook_cos", "attn.hook_sin", "attn.hook_attn_scores")
    seen = _seen(model, prompt_ids, [f"blocks.{layer}.{name}" for name in names])
    stream, cos, sin, scores = (seen[f"blocks.{layer}.{name}"] for name in names)
    norm, attention, sides = model.blocks[layer].ln1, model.blocks[layer].attn, []
    weights = (attention.W_Q, attention.b_Q), (attention.W_K, attention.b_K)
    for position, own, (weight, bias) in zip((query, key), parts, weights, strict=True):
        at = head * len(weight) // model.cfg.n_heads  # heads may share a key
        read = own.to(stream) * gain(model, norm, stream[position]) @ weight[at].detach().float()
        read = torch.cat([read, _or_zeros(bias, weight[:, 0])[at, None]])
        first, second = read.chunk(2, dim=1)
        sides.append(read * cos[position] + torch.cat([-second, first], dim=1) * sin[position])  # rotary positions
    terms = sides[0] @ sides[1].T * attention.original_component.scaling
    size = sides[0].sum(dim=0).norm() * sides[1].sum(dim=0).norm() * attention.original_component.scaling
    if (terms.sum() - scores[head, query, key]).abs() > TOLERANCE * size:
        why = "the parts do not add up to the stream, or it is no product of a plain query and key"
        raise ValueError(f"The terms do not sum to the score: {why}.")
    return terms.cpu()


# --- interventions ------------------------------------------------------------------------------------------


def intervene(
    model: models.CheckedBridge,
    prompt_ids: models.Prompt,
    *,
    transcoders: Transcoders,
    changes: Mapping[Feature, float],
    attention: Literal["free", "frozen"] = "free",
) -> AbstractContextManager:
    """Return a context in which some features have the activations they are given, on one prompt.

    An MLP's output is shifted by (new - old) times the decoder vector of each changed feature, where old is its activation
    in this very run; what the transcoder misses stays. Read the result with `models.next_token_logits(model, [prompt_ids])`
    or `models.generate`. Only the prompt is changed: tokens that are being generated see it through the key-value cache.

    Args:
        model: From `models.load`.
        prompt_ids: The prompt to run in the context. Another one of its length is run with *this* one's frozen attention:
            what would these words do if the model looked where it looked before?
        transcoders: One sae_lens transcoder per layer.
        changes: Feature -> new activation; its position may count from the end.
        attention: "frozen" holds patterns and norms at the unchanged prompt's values, as a graph does; "free" lets them react.
            The two can give opposite answers: show both.

    Raises:
        ValueError: At once: unusable prompt or transcoders, active hooks. While the model runs: a prompt of another length.
    """
    if attention not in ("free", "frozen"):
        raise ValueError(f"attention must be 'free' or 'frozen', not {attention!r}.")
    check_prompt(model, prompt_ids)
    check_transcoders(model, transcoders)
    by_layer: list[dict[Feature, float]] = [{} for _ in transcoders]
    for feature, value in changes.items():
        by_layer[range(len(transcoders))[feature.layer]][feature] = value
    hooks = _frozen(record(model, prompt_ids)) if attention == "frozen" else []
    for layer, changed in enumerate(by_layer):
        hooks += _set_features(layer, transcoders[layer], changed, len(prompt_ids)) if changed else []
    return model.hooks(hooks)


@torch.no_grad()
def confirm_edges(
    model: models.CheckedBridge,
    graph: AttributionGraph,
    *,
    transcoders: Transcoders,
    groups: Mapping,
    edges: Collection[Edge],
    unit: Literal["value", "output"] = "value",
) -> dict[Edge, float]:
    """Return (source, target) -> what the target group loses when the source group is taken out, measured in a run.

    Ameisen et al. (2025), section on validation by intervention, for groups. The nodes of one group are not written;
    attention, norms and the output of every MLP stay as on the unchanged prompt, so that only direct edges act. To be
    compared with `graph.group(groups, unit=unit)`. It does not test what formed the attention patterns, nor whether a
    group's name fits it.

    Args:
        model: The model that the graph is of.
        graph: From `trace`.
        transcoders: Those of the graph.
        groups: Name -> nodes, as they were drawn.
        edges: (source, target) names of the edges to measure; one run for each source.
        unit: That of the drawing.

    Raises:
        ValueError: As `trace`.
    """
    local, names = _local_model(model, graph.prompt_ids, transcoders), list(groups)
    before = local.values(graph.nodes, local.run.mlp_in, local.run.logits)
    scales, lost = graph.scales(groups, unit=unit), {}
    for source in {source for source, _ in edges}:
        lost[source] = before - _values_without(model, local, groups[source], graph.nodes)
    return {(source, target): float(scales[names.index(target)] @ lost[source]) for source, target in edges}


def _values_without(
    model: models.CheckedBridge, local: LocalModel, removed: Sequence[Source], nodes: Sequence[Node]
) -> Float[Tensor, " node"]:
    """Return the values of all nodes in a frozen run in which some sources are not written."""
    run = local.run
    embedding, mlp_out = run.embedding.clone(), run.mlp_out.clone()
    for node in dict.fromkeys(removed):
        written = embedding if isinstance(node, Embedding) else mlp_out[node.layer]
        written[node.position] -= local.written(node)
    hooks = [*_frozen(run), ("hook_embed", _constant(embedding))]
    hooks += [(f"blocks.{layer}.hook_mlp_out", _constant(out)) for layer, out in enumerate(mlp_out)]
    reads = [f"blocks.{layer}.mlp.hook_in" for layer in range(len(mlp_out))]
    with model.hooks(hooks):
        seen = _seen(model, run.prompt_ids, [*reads, "unembed.hook_out"])
    return local.values(nodes, torch.stack([seen[name] for name in reads]), seen["unembed.hook_out"])


def _frozen(run: FrozenRun) -> Hooks:
    """Return hooks that hold patterns and norms; to be added first, or a norm after the MLP undoes its change."""
    hooks: Hooks = []
    read: dict[str, Tensor] = {}
    for name, gain in run.gains.items():
        hooks += [(f"{name}.hook_in", keep(read, name)), (f"{name}.hook_out", _scaled(read, name, gain))]
    return hooks + [(f"blocks.{layer}.attn.hook_pattern", _constant(p)) for layer, p in enumerate(run.patterns)]


def _on_prompt(n_tokens: int, change: Callable[[Tensor], Tensor]) -> Callable:
    """Return a hook that changes the activations of a prompt, and not those of a token that is being generated."""

    def edit(activation: Tensor, hook: object) -> Tensor | None:
        length = activation.shape[-2]
        if length not in (1, n_tokens):
            raise ValueError(f"The context is for a prompt of {n_tokens} tokens, not {length}: open one for each.")
        return change(activation) if length == n_tokens else None

    return edit


def _constant(value: Float[Tensor, "... pos d"]) -> Callable:
    return _on_prompt(value.shape[-2], lambda activation: value.to(activation).expand_as(activation))


def _scaled(read: dict[str, Tensor], name: str, gain: Float[Tensor, "pos d_model"]) -> Callable:
    return _on_prompt(len(gain), lambda activation: read[name] * gain.to(activation))


def _set_features(layer: int, transcoder: Any, changed: Mapping[Feature, float], n_tokens: int) -> Hooks:
    """Return hooks that shift an MLP's output by what the changes of its features write."""
    read: dict[str, Tensor] = {}

    def shifted(mlp_out: Tensor) -> Tensor:
        old = transcoder.encode(read["mlp"]).float()
        new = old.clone()
        for feature, value in changed.items():
            new[..., feature.position, feature.feature] = value
        return mlp_out + ((new - old) @ transcoder.W_dec.float()).to(mlp_out)

    block, moved = f"blocks.{layer}", _on_prompt(n_tokens, shifted)
    return [(f"{block}.mlp.hook_in", keep(read, "mlp")), (f"{block}.hook_mlp_out", moved)]
