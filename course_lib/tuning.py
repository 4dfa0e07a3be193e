"""Tune a copy of a model on replies: by example, or by preference. The model that is given stays as it is.

1. `supervised` raises the log-probability of each given reply: mean cross-entropy over the reply's tokens.
2. `preference` is direct preference optimisation, Rafailov et al. (2023), https://arxiv.org/abs/2305.18290, equation 7:
   with a chosen and a rejected reply to each prompt, and the given model as the frozen reference, it lowers

       -log sigmoid(beta * ((log p(chosen) - log p_ref(chosen)) - (log p(rejected) - log p_ref(rejected)))).

   Nothing in it asks the chosen reply to become likely, only likelier, beside the other, than it was.

Both train all weights of the blocks and the last norm with AdamW at a constant rate, whole batches in an order that the
seed decides. Word embeddings and unembedding keep their values: see docs/decisions.md. Nothing is written to disk.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor
from tqdm import tqdm

from course_lib import models


@dataclass(frozen=True)
class Example:
    """A prompt and the reply that is to be learned, as token ids; a reply ends with the model's end token."""

    prompt: Sequence[int]
    reply: Sequence[int]


@dataclass(frozen=True)
class Pair:
    """A prompt with the reply that is preferred and one that is not, as token ids."""

    prompt: Sequence[int]
    chosen: Sequence[int]
    rejected: Sequence[int]


@dataclass(frozen=True, eq=False)
class Tuned:
    """A tuned copy, and what its training cost."""

    model: models.CheckedBridge
    losses: tuple[float, ...]
    """Loss of each step, on its own batch, before the step: in nats a token (`supervised`) or a pair (`preference`)."""
    tokens_read: int
    """Tokens that went forward and backward through the model, padding left out."""


@jaxtyped(typechecker=beartype)
def supervised(
    model: models.CheckedBridge, examples: Sequence[Example], *, steps: int, seed: int,
    rate: float = 1e-3, batch_size: int = 32, progress: bool = True,
) -> Tuned:  # fmt: skip
    """A copy of the model, tuned to give these replies (supervised fine-tuning), with the loss of each step.

    Args:
        model: From `models.load`, without active hooks.
        examples: Prompts with their replies.
        steps: How many batches are learned from; the examples come round again when they are through.
        seed: Decides the order of the examples, and nothing else is random.
        rate: Learning rate of AdamW.
        batch_size: Examples in a step; fewer if there are fewer.
        progress: Show a progress bar.

    Raises:
        ValueError: No examples; an empty reply; prompt and reply together too long, or ids outside the vocabulary; fewer
            than one step; active hooks.

    Example:
        >>> supervised(model, [Example(ids, reply)], steps=20, seed=0).losses   # doctest: +SKIP
    """
    _check(model, examples, steps)

    def loss(tuned: models.CheckedBridge, batch: list[int]) -> Tensor:
        picked = [examples[i] for i in batch]
        return -_log_probabilities(tuned, picked).sum() / sum(len(example.reply) for example in picked)

    sizes = [len(example.prompt) + len(example.reply) for example in examples]
    return _tune(model, loss, sizes, steps=steps, seed=seed, rate=rate, batch_size=batch_size, progress=progress)


@jaxtyped(typechecker=beartype)
def preference(
    model: models.CheckedBridge, pairs: Sequence[Pair], *, steps: int, seed: int, beta: float = 0.1,
    rate: float = 1e-3, batch_size: int = 32, progress: bool = True,
) -> Tuned:  # fmt: skip
    """A copy of the model, tuned to prefer each chosen reply to the rejected one (DPO), with the loss of each step.

    The given model is the reference and stays as it is. The first loss is log 2 = 0.69, whatever the data: the copy still is
    its own reference.

    Args:
        model: From `models.load`, without active hooks.
        pairs: Prompts with a preferred and a rejected reply.
        steps: How many batches are learned from; the pairs come round again when they are through.
        seed: Decides the order of the pairs, and nothing else is random.
        beta: How dear it is to leave the reference: small values let the copy go further.
        rate: Learning rate of AdamW.
        batch_size: Pairs in a step; fewer if there are fewer.
        progress: Show a progress bar.

    Raises:
        ValueError: As for `supervised`; a pair whose two replies are the same; a beta that is not positive.

    Example:
        >>> preference(model, [Pair(ids, right, wrong)], steps=20, seed=0).losses   # doctest: +SKIP
    """
    both = [Example(pair.prompt, reply) for pair in pairs for reply in (pair.chosen, pair.rejected)]
    _check(model, both, steps)
    same = [number for number, pair in enumerate(pairs) if list(pair.chosen) == list(pair.rejected)]
    if same:
        raise ValueError(f"In pair {same[0]} the chosen and the rejected reply are the same: leave it out.")
    if beta <= 0:
        raise ValueError(f"beta must be above 0, not {beta}.")
    reference = log_probabilities(model, both).to(model.cfg.device).view(-1, 2)

    def loss(tuned: models.CheckedBridge, batch: list[int]) -> Tensor:
        picked = [both[2 * i + k] for i in batch for k in (0, 1)]
        gained = _log_probabilities(tuned, picked).view(-1, 2) - reference[batch]
        return -F.logsigmoid(beta * (gained[:, 0] - gained[:, 1])).mean()

    sizes = [2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected) for pair in pairs]
    return _tune(model, loss, sizes, steps=steps, seed=seed, rate=rate, batch_size=batch_size, progress=progress)


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def log_probabilities(
    model: models.CheckedBridge, examples: Sequence[Example], *, batch_size: int = 64
) -> Float[Tensor, " example"]:
    """log p(reply | prompt) of each example in nats, summed over the reply's tokens. Longer replies have less of it.

    What `supervised` raises and `preference` compares. Hooks must not be active: they would also see padding.

    Raises:
        ValueError: No examples; an empty reply; ids that the model cannot read (`models.check_prompts`); active hooks.
    """
    _check(model, examples)
    parts = [examples[i : i + batch_size] for i in range(0, len(examples), batch_size)]
    return torch.cat([_log_probabilities(model, part) for part in parts]).cpu()


def _check(model: models.CheckedBridge, examples: Sequence[Example], steps: int = 1) -> None:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}.")
    if models.has_hooks(model):
        raise ValueError("The model has active hooks. Leave their context first.")
    empty = [number for number, example in enumerate(examples) if len(example.reply) == 0]
    if empty:
        raise ValueError(f"Reply {empty[0]} is empty, so there is nothing to learn from it. Leave it out.")
    models.check_prompts(model, [[*example.prompt, *example.reply] for example in examples])


def _tune(
    model: models.CheckedBridge, loss_of: Callable[[models.CheckedBridge, list[int]], Tensor], sizes: Sequence[int], *,
    steps: int, seed: int, rate: float, batch_size: int, progress: bool,
) -> Tuned:  # fmt: skip
    tuned = models.duplicate(model)
    trained = _trained(tuned)
    optimizer = torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    losses, tokens_read = [], 0
    order = _order(len(sizes), min(batch_size, len(sizes)), seed)
    for _ in tqdm(range(steps), desc="tune", unit="step", disable=not progress):
        batch = next(order)
        loss = loss_of(tuned, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        losses.append(loss.item())
        tokens_read += sum(sizes[i] for i in batch)
    tuned.original_model.requires_grad_(False)
    optimizer.zero_grad()
    return Tuned(tuned, tuple(losses), tokens_read)


def _trained(model: models.CheckedBridge) -> list[torch.nn.Parameter]:
    """All parameters but those of embedding and unembedding, made trainable."""
    kept = {id(weight) for part in (model.embed, model.unembed) for weight in part.parameters()}
    found = [weight for weight in model.original_model.parameters() if id(weight) not in kept]
    for weight in found:
        weight.requires_grad_(True)
    return found


def _order(n: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Batches of indices without end; each passage through all of them is shuffled anew, and its remainder left out."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        shuffled = torch.randperm(n, generator=generator).tolist()
        yield from (shuffled[i : i + batch_size] for i in range(0, n - batch_size + 1, batch_size))


def _log_probabilities(model: models.CheckedBridge, examples: Sequence[Example]) -> Float[Tensor, " example"]:
    """The same for one batch, with gradients. Padding stands on the right, where no real token sees it."""
    lengths = [(len(example.prompt), len(example.prompt) + len(example.reply)) for example in examples]
    ids = torch.zeros(len(examples), max(end for _, end in lengths), dtype=torch.long)
    is_reply = torch.zeros_like(ids, dtype=torch.bool)
    for row, (example, (start, end)) in enumerate(zip(examples, lengths, strict=True)):
        ids[row, :end] = torch.tensor([*example.prompt, *example.reply])
        is_reply[row, start:end] = True
    ids, is_reply = ids.to(model.cfg.device), is_reply.to(model.cfg.device)
    logits = model.original_model(ids, use_cache=False, output_attentions=False).logits[:, :-1]
    of_reply = is_reply[:, 1:]
    each = -F.cross_entropy(logits[of_reply], ids[:, 1:][of_reply], reduction="none")
    return torch.zeros(len(examples), device=each.device).index_add(0, of_reply.nonzero()[:, 0], each)
