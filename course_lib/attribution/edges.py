"""Edges between components: what flows from one head or MLP straight into another, exactly and by gradients.

Syed et al. (2023), https://arxiv.org/abs/2310.10348 (edge attribution patching, EAP), and Hanna et al. (2024),
https://arxiv.org/abs/2403.17806 (with integrated gradients, EAP-IG). The residual stream that a component reads
is the sum of what earlier components wrote, so every pair has an edge, and

1. an edge is corrupted by giving its destination, and no other, what the source writes on the corrupted prompt;
2. exactly: the edge's score is what the clean prompt's logit difference loses by that, one run per edge;
3. EAP: (clean - corrupted output of the source) . (gradient of the logit difference at the destination's input),
   all edges from two runs and one backward pass;
4. EAP-IG: the same with the gradient averaged along the straight line from corrupted to clean embeddings.

`_EdgeRun` is the one forward pass behind all: destination v reads stream + sum_u (mask_uv - 1) (z_u - z_u
corrupted), through the real norm. A mask of 0 and 1 is a circuit; the gradient at a mask of ones is EAP.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from beartype import beartype
from jaxtyping import Float, Int, jaxtyped
from torch import Tensor
from tqdm import tqdm

from course_lib import models
from course_lib.attribution.frozen import FrozenRun, gain, keep, record, run_logits
from course_lib.attribution.nodes import Logit, resolve
from course_lib.attribution.patching import check_difference, check_pair, difference
from course_lib.attribution.scores import EdgeScores


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def exact_edges(
    model: models.CheckedBridge,
    clean_prompts: models.Prompts,
    *,
    corrupted_prompts: models.Prompts,
    target: Logit | Sequence[Logit],
    batch_size: int = 64,
    progress: bool = True,
) -> EdgeScores:
    """What the clean logit difference loses when one edge is corrupted, for every edge; mean over the pairs.

    The truth that `eap` approximates, at one run of the model per edge and pair.

    Args:
        model: From `models.load`.
        clean_prompts, corrupted_prompts: Token ids of each clean prompt, and of its partner of the same length.
        target: Where the logit difference is read, one for all pairs or one for each.
        batch_size: Edges run at once at most.
        progress: Show a progress bar.

    Raises:
        ValueError: Before any work: unequal numbers or lengths of prompts, prompts that cannot be run, a target
            that does not exist, active hooks, a model of another shape, a pair without a difference.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
    pairs = make_pairs(model, clean_prompts, corrupted_prompts, target)
    wiring = pairs[0].wiring
    places = wiring.exists.nonzero()
    values = torch.zeros(wiring.exists.shape)
    bar = tqdm(total=len(pairs) * len(places), desc="corrupt edges", unit="edge", disable=not progress)
    with bar:
        for pair in pairs:
            for cut in places.split(batch_size):
                masks = torch.ones(len(cut), *wiring.exists.shape)
                masks[torch.arange(len(cut)), cut[:, 0], cut[:, 1]] = 0.0
                values[cut[:, 0], cut[:, 1]] += (pair.clean - pair.run(masks)) / len(pairs)
                bar.update(len(cut))
    return replace(wiring, values=values)


@jaxtyped(typechecker=beartype)
def eap(
    model: models.CheckedBridge,
    clean_prompts: models.Prompts,
    *,
    corrupted_prompts: models.Prompts,
    target: Logit | Sequence[Logit],
    steps: int = 1,
) -> EdgeScores:
    """Edge attribution patching: a first-order estimate of `exact_edges`, from one backward pass per pair.

    A positive score supports the clean answer. `.nodes()` of it is attribution patching of components. It misses
    what only a large change shows (a saturated attention pattern has no gradient). `steps` of 1 take the gradient at
    the clean prompt (EAP); more average it over that many points up to the clean prompt (EAP-IG; 5 as published).
    Other arguments, and errors, as for `exact_edges`.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}.")
    pairs = make_pairs(model, clean_prompts, corrupted_prompts, target)
    total = sum(pair.gradient(steps) for pair in pairs) / len(pairs)
    wiring = pairs[0].wiring
    return replace(wiring, values=total * wiring.exists)


# --- pairs --------------------------------------------------------------------------------------------------


def no_scores(model: models.CheckedBridge) -> EdgeScores:
    """Labels of sources and destinations, and which of them an edge joins, with scores of 0."""
    sources, destinations, before = ["embedding"], [], []
    for layer, block in enumerate(model.blocks):
        n_heads, n_shared = len(block.attn.W_Q), len(block.attn.W_K)
        kinds = (("q", n_heads), ("k", n_shared), ("v", n_shared))
        inputs = [f"L{layer}.H{head}.{kind}" for kind, n in kinds for head in range(n)]
        heads = [f"L{layer}.H{head}" for head in range(n_heads)]
        destinations += [*inputs, f"L{layer}.MLP"]
        before += [*[len(sources)] * len(inputs), len(sources) + n_heads]
        sources += [*heads, f"L{layer}.MLP"]
    exists = torch.arange(len(sources))[:, None] < torch.tensor([*before, len(sources)])
    return EdgeScores(tuple(sources), (*destinations, "logits"), torch.zeros(exists.shape), exists)


@dataclass(frozen=True, eq=False)
class Pair:
    """A clean and a corrupted prompt, what every component wrote on both, and both logit differences."""

    model: models.CheckedBridge
    wiring: EdgeScores
    target: Logit
    ids: Int[Tensor, " pos"]
    written_clean: Float[Tensor, "source pos d_model"]
    written_corrupted: Float[Tensor, "source pos d_model"]
    clean: float
    corrupted: float

    def run(self, masks: Float[Tensor, "batch source destination"]) -> Float[Tensor, " batch"]:
        """Logit difference of the clean prompt with the edges of each mask; others are corrupted."""
        edge_run = _EdgeRun(self.model, self.written_corrupted, masks.to(self.ids.device))
        return edge_run.metric(self.ids.expand(len(masks), -1), self.target).cpu()

    def gradient(self, steps: int) -> Float[Tensor, "source destination"]:
        """Gradient with respect to the mask, with the sources' differences between clean and corrupted held."""
        change = self.written_clean - self.written_corrupted
        points = torch.arange(1, steps + 1, device=self.ids.device)[:, None, None] / steps
        with torch.enable_grad():
            mask = torch.ones(1, *self.wiring.exists.shape, device=self.ids.device, requires_grad=True)
            edge_run = _EdgeRun(
                self.model,
                self.written_corrupted,
                mask,
                change=change[None],
                embedding=self.written_corrupted[0] + points * change[0],
            )
            metric = edge_run.metric(self.ids.expand(steps, -1), self.target).mean()
            return torch.autograd.grad(metric, mask)[0][0].cpu()


@torch.no_grad()
def make_pairs(
    model: models.CheckedBridge,
    clean_prompts: models.Prompts,
    corrupted_prompts: models.Prompts,
    target: Logit | Sequence[Logit],
) -> list[Pair]:
    """Every pair, checked before any is run."""
    models.check_prompts(model, clean_prompts)
    models.check_prompts(model, corrupted_prompts)
    targets = [target] * len(clean_prompts) if isinstance(target, Logit) else list(target)
    if not len(clean_prompts) == len(corrupted_prompts) == len(targets):
        raise ValueError(
            f"{len(clean_prompts)} clean prompts, {len(corrupted_prompts)} corrupted ones and {len(targets)} "
            "targets were given: every clean prompt needs a partner and a target."
        )
    resolved = []
    for number, (clean, corrupted) in enumerate(zip(clean_prompts, corrupted_prompts, strict=True)):
        with _named(number):
            check_pair(model, clean, corrupted)
            resolved.append(resolve(model, targets[number], len(clean)))
    wiring, pairs = no_scores(model), []
    for number, partners in enumerate(zip(clean_prompts, corrupted_prompts, resolved, strict=True)):
        with _named(number):
            pairs.append(_pair(model, wiring, *partners))
    return pairs


@contextmanager
def _named(number: int) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"Pair {number}: {error}") from error


def _pair(model: models.CheckedBridge, wiring: EdgeScores, clean_ids, corrupted_ids, target: Logit) -> Pair:
    clean, corrupted = record(model, clean_ids), record(model, corrupted_ids)
    metrics = [float(difference(run.logits, target)) for run in (clean, corrupted)]
    check_difference(*metrics)
    ids = torch.tensor(list(clean_ids), device=model.cfg.device)
    return Pair(model, wiring, target, ids, _written(clean), _written(corrupted), *metrics)


def _written(run: FrozenRun) -> Float[Tensor, "source pos d_model"]:
    """What each component wrote, in the order of the sources."""
    blocks = torch.cat([run.head_outputs(), run.mlp_out[:, None]], dim=1).flatten(0, 1)
    return torch.cat([run.embedding[None], blocks])


# --- the forward pass ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)  # a hook is printed when it is added: tensors and all
class _EdgeRun:
    """A forward pass in which every destination reads a stream of its own."""

    model: models.CheckedBridge
    corrupted: Float[Tensor, "source pos d_model"]
    mask: Float[Tensor, "batch source destination"]
    change: Float[Tensor, "1 source pos d_model"] | None = None
    """What a mask of 0 takes away; by default what the source writes in this run minus corrupted."""
    embedding: Float[Tensor, "batch pos d_model"] | None = None
    """Stands for the embedding of the ids."""
    written: list[Float[Tensor, "batch source pos d_model"]] = field(default_factory=list)
    stream: dict[str, Float[Tensor, "batch pos d_model"]] = field(default_factory=dict)

    def metric(self, ids: Int[Tensor, "batch pos"], target: Logit) -> Float[Tensor, " batch"]:
        return difference(run_logits(self.model, ids, list(self._hooks())), target)

    def _hooks(self) -> Iterator[tuple[str, Callable]]:
        yield "hook_embed", self._embed
        column = 0
        for layer, block in enumerate(self.model.blocks):
            at, attention = f"blocks.{layer}", block.attn
            yield f"{at}.ln1.hook_in", keep(self.stream, "attention")
            for kind, weight, bias in (
                ("q", attention.W_Q, attention.b_Q),
                ("k", attention.W_K, attention.b_K),
                ("v", attention.W_V, attention.b_V),
            ):
                yield f"{at}.attn.{kind}.hook_out", self._project(block.ln1, column, weight, bias)
                column += len(weight)
            yield f"{at}.attn.hook_z", keep(self.stream, "z")
            yield f"{at}.attn.o.hook_out", keep(self.stream, "mixed")
            yield f"{at}.hook_attn_out", self._heads(block)
            yield f"{at}.ln2.hook_in", keep(self.stream, "mlp")
            yield f"{at}.ln2.hook_out", self._norm("mlp", block.ln2, column)
            yield f"{at}.hook_mlp_out", lambda activation, hook: self._write(activation[:, None])
            column += 1
        yield "ln_final.hook_in", keep(self.stream, "final")
        yield "ln_final.hook_out", self._norm("final", self.model.ln_final, column)

    def _write(self, outputs: Float[Tensor, "batch source pos d_model"]) -> None:
        first = sum(part.shape[1] for part in self.written)
        self.written.append(outputs - self.corrupted[first : first + outputs.shape[1]])

    def _embed(self, activation: Tensor, hook: object) -> Tensor:
        used = activation if self.embedding is None else self.embedding.to(activation)
        self._write(used[:, None])
        return used

    def _heads(self, block: torch.nn.Module) -> Callable:
        def write(activation: Tensor, hook: object) -> None:
            heads = torch.einsum("bphe,hed->bhpd", self.stream["z"], block.attn.W_O)
            if "ln1_post" in block._modules:
                heads = heads * gain(self.model, block.ln1_post, self.stream["mixed"])[:, None]
            self._write(heads)

        return write

    def _read(self, name: str, norm: torch.nn.Module, columns: slice) -> Float[Tensor, "batch destination pos d_model"]:
        """What some destinations read, after their norm."""
        n_written = sum(part.shape[1] for part in self.written)
        change = torch.cat(self.written, dim=1) if self.change is None else self.change[:, :n_written]
        taken = self.mask[:, :n_written, columns] - 1
        shift = torch.einsum("bspd,bsv->bvpd", change.expand(max(len(change), len(taken)), -1, -1, -1), taken)
        x = self.stream[name][:, None] + shift
        return x * gain(self.model, norm, x)

    def _norm(self, name: str, norm: torch.nn.Module, column: int) -> Callable:
        return lambda activation, hook: self._read(name, norm, slice(column, column + 1))[:, 0].to(activation)

    def _project(self, norm: torch.nn.Module, column: int, weight: Tensor, bias: Tensor | None) -> Callable:
        def read(activation: Tensor, hook: object) -> Tensor:
            inputs = self._read("attention", norm, slice(column, column + len(weight)))
            out = torch.einsum("bhpd,hde->bphe", inputs, weight.float())
            out = out if bias is None else out + bias.float().reshape(len(weight), -1)
            return out.to(activation).view_as(activation)

        return read
