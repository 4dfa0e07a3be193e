"""Run prompts through a model and keep named activations at named positions, and nothing else.

`run_with_cache` keeps every activation of every token and unembeds all of them; for "the last token's residual stream
at every layer, for 1,024 prompts" that is hundreds of times the memory that is wanted. `harvest` returns the same
numbers:

1. prompts are sorted by length, so that little padding is computed;
2. one hook per name copies the wanted positions while the model runs, so that later edits cannot reach them;
3. the forward pass stops at the last hook that was asked for, and never reaches the unembedding;
4. a batch for which the device has no room is halved;
5. on a GPU the copy to the host runs beside the next batch.

`forecast` says beforehand what a run will take on the machine at hand.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from beartype import beartype
from jaxtyping import Float, Int, jaxtyped
from torch import Tensor
from tqdm import tqdm

from course_lib import models, tokens

Positions = Sequence[int | str] | Sequence[Sequence[int]]
N_TIMED = 8
"""Prompts that `forecast` runs, twice, to find the speed."""


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class Activations:
    """Activations with their labels, from `harvest`."""

    values: Float[Tensor, "prompt position hook d_model"]
    """On the CPU, at least float32, prompts in the order given."""
    hook_names: tuple[str, ...]
    """Labels of the hook axis."""
    positions: tuple[int | str, ...]
    """Labels of the position axis as asked for; 0, 1, ... if each prompt had positions of its own."""

    def at(self, hook: str | int, position: int | str | None = None) -> Float[Tensor, "prompt d_model"]:
        """Return one activation per prompt, as a view.

        Args:
            hook: A hook name; or a layer, if only one hook of that layer was harvested.
            position: A label of `positions`; may be left out if there is only one.

        Raises:
            ValueError: The hook or the position was not harvested, or it is not clear which one is meant.
        """
        hooks = [i for i, name in enumerate(self.hook_names) if name == hook or name.startswith(f"blocks.{hook}.")]
        if len(hooks) != 1:
            raise ValueError(f"{len(hooks)} harvested hooks match {hook!r}. Harvested: {', '.join(self.hook_names)}.")
        if position is None and len(self.positions) == 1:
            position = self.positions[0]
        if position not in self.positions:
            raise ValueError(f"Position {position!r} was not harvested. Harvested: {self.positions}.")
        return self.values[:, self.positions.index(position), hooks[0]]


def keep(into: dict[str, Tensor], name: str) -> Callable:
    """Return a hook that stores the activation in `into` under `name` and changes nothing."""
    return lambda activation, hook: into.update({name: activation})


# --- harvest ------------------------------------------------------------------------------------------------


def harvest(
    model: models.CheckedBridge,
    prompts: models.Prompts,
    *,
    hook_names: Sequence[str] | None = None,
    positions: Positions = ("last",),
    batch_size: int = 64,
    progress: bool = True,
) -> Activations:
    """Return the activations of each prompt at the named hooks and positions, equal to those in `run_with_cache`.

    With the defaults, the input of Arditi et al. (2024, section 2.3): the residual stream before every block at the
    last token. Active hooks apply, and their effect is in the values if they were added at an earlier hook or at the
    same one. The prompt is run, no reply is generated.

    Args:
        model: From `models.load`.
        prompts: Token ids of each prompt, from `tokens.chat_prompt`.
        hook_names: Different hooks whose activation has the shape (batch, position, width), all of one width. By default
            `blocks.{layer}.hook_resid_pre` of every layer.
        positions: Names (`tokens.POSITIONS`) or integers, negative ones counted from the end; the same for all
            prompts. Or one list of integers for each prompt, all of the same length.
        batch_size: Prompts run at once at most. Where the device runs out of memory, the batch is halved.
        progress: Show a progress bar.

    Raises:
        ValueError: Before any work: prompts that cannot be run (`models.check_prompts`), an unknown hook name, a
            position outside a prompt. During the work: an activation of another shape, or one that is not finite,
            with its hook and prompt.
        torch.OutOfMemoryError: A prompt does not fit, even alone.
    """
    models.check_prompts(model, prompts)
    names = _names(model, hook_names)
    labels, wanted = _resolved(model, prompts, positions)
    collector, equal_lengths = _Collector(model, names, wanted), models.has_hooks(model)
    batches = models.batches(model, prompts, batch_size=batch_size, equal_lengths=equal_lengths)
    values = torch.empty(0)
    with tqdm(total=len(prompts), desc="harvest", unit="prompt", disable=not progress) as bar, collector.hooks():
        for indices, kept in _on_host(_fitting(batches, collector.run, batch_size)):
            models.check_finite(model, [prompts[i] for i in indices], kept, numbers=indices)
            values = values if len(values) else kept.new_empty(len(prompts), *kept.shape[1:])
            values[indices] = kept
            bar.update(len(indices))
    return Activations(values, names, labels)


def _names(model: models.CheckedBridge, hook_names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the hooks to keep, all of which exist."""
    if hook_names is None:
        return tuple(f"blocks.{layer}.hook_resid_pre" for layer in range(models.n_layers(model)))
    models.check_hook_names(model, hook_names)
    return tuple(hook_names)


def _resolved(
    model: models.CheckedBridge, prompts: models.Prompts, positions: Sequence[Any]
) -> tuple[tuple[int | str, ...], Int[Tensor, "prompt position"]]:
    """Return the labels of the position axis, and the token indices that they mean in each prompt."""
    own_lists = isinstance(positions[0], Sequence) and not isinstance(positions[0], str)
    rows = positions if own_lists else [positions] * len(prompts)
    indices = [
        [tokens.position_index(model.tokenizer, prompt, position) for position in row]
        for prompt, row in zip(prompts, rows, strict=True)
    ]
    labels = tuple(range(len(rows[0]))) if own_lists else tuple(positions)
    return labels, torch.tensor(indices)


# --- forward passes -----------------------------------------------------------------------------------------


class _AllFired(Exception):
    """Every hook has fired; the rest of the forward pass is not needed."""


class _Collector:
    """Copies the wanted positions out of each batch, and ends its forward pass when every hook has fired."""

    def __init__(
        self, model: models.CheckedBridge, names: tuple[str, ...], wanted: Int[Tensor, "prompt position"]
    ) -> None:
        self.model, self.names, self.wanted = model, names, wanted
        self.kept: dict[str, Tensor] | None = None

    def hooks(self) -> AbstractContextManager:
        """Return the context in which `run` works."""
        return self.model.hooks([(name, partial(self._keep, name)) for name in self.names])

    def run(self, batch: models.Batch) -> Float[Tensor, "batch position hook d_model"]:
        """Return the activations of one batch."""
        device = batch.tokens.device
        self.shape, self.kept = batch.tokens.shape, {}
        self.rows = torch.arange(len(batch.indices), device=device)[:, None]
        self.columns = self.wanted[batch.indices].to(device)
        try:
            models.run_body(self.model, batch.tokens)
        except _AllFired:
            pass
        finally:
            kept, self.kept = self.kept, None
        silent = [name for name in self.names if name not in kept]
        if silent:
            raise ValueError(f"{', '.join(silent)} did not fire before the unembedding, so there is nothing to keep.")
        return torch.stack([kept[name] for name in self.names], dim=2)

    def _keep(self, name: str, activation: Tensor, hook: object) -> None:
        if self.kept is None:  # another run than ours, such as the search for the first NaN
            return
        if activation.ndim != 3 or activation.shape[:2] != self.shape:
            raise ValueError(f"{name} has the shape {tuple(activation.shape)}, not (batch, position, width).")
        self.kept[name] = activation[self.rows, self.columns]  # indexing with tensors copies
        if len(self.kept) == len(self.names):
            raise _AllFired


def _fitting(
    batches: Iterable[models.Batch], run: Callable[[models.Batch], Tensor], limit: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield the prompts of each batch and what `run` makes of it. One that does not fit is halved, and so are all after it."""
    for batch in batches:
        waiting = [batch]
        while waiting:
            part = waiting.pop(0)
            if len(part.indices) > limit:
                waiting = [*_split(part, limit), *waiting]
            elif (kept := _attempt(run, part)) is not None:
                yield part.indices, kept
            else:
                limit = len(part.indices) // 2
                waiting.insert(0, part)


def _attempt(run: Callable[[models.Batch], Tensor], batch: models.Batch) -> Tensor | None:
    """Return what `run` makes of the batch, or None if the device has no room for it and it can be halved."""
    try:
        return run(batch)
    except torch.OutOfMemoryError:
        if len(batch.indices) == 1:
            raise
    torch.cuda.empty_cache()  # outside the except clause, whose traceback would keep the batch alive
    return None


def _split(batch: models.Batch, size: int) -> list[models.Batch]:
    parts = [slice(start, start + size) for start in range(0, len(batch.indices), size)]
    return [models.Batch(batch.indices[part], batch.lengths[part], batch.tokens[part]) for part in parts]


def _on_host(batches: Iterable[tuple[list[int], Tensor]]) -> Iterator[tuple[list[int], Tensor]]:
    """Yield each batch from host memory, in at least float32, one batch late: on a GPU its copy runs beside the next one."""
    waiting: list[tuple[list[int], Tensor, torch.cuda.Event | None]] = []
    for indices, kept in batches:
        copied = kept.to("cpu", non_blocking=kept.is_cuda)  # into pinned memory
        arrived = torch.cuda.current_stream(kept.device).record_event() if kept.is_cuda else None
        waiting.append((indices, copied, arrived))
        if len(waiting) > 1:
            yield _waited_for(*waiting.pop(0))
    yield _waited_for(*waiting.pop())


def _waited_for(indices: list[int], copied: Tensor, arrived: torch.cuda.Event | None) -> tuple[list[int], Tensor]:
    if arrived is not None:
        arrived.synchronize()
    return indices, copied.to(torch.promote_types(copied.dtype, torch.float32))


# --- forecast -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Forecast:
    """An estimate from one small batch. Larger batches are faster on a GPU, so `seconds` is rather too long there."""

    n_tokens: int
    """Tokens read, without padding and without tokens that are generated."""
    seconds: float
    gigabytes: float
    """Weights and the activations of one batch, in 10^9 bytes."""

    def __str__(self) -> str:
        took = f"{self.seconds:.0f} s" if self.seconds < 100 else f"{self.seconds / 60:.0f} minutes"
        return f"{self.n_tokens:,} tokens to read: about {took} and {self.gigabytes:.1f} GB"


def forecast(
    model: models.CheckedBridge,
    prompts: models.Prompts,
    *,
    passes: float = 1,
    new_tokens: int = 0,
    batch_size: int = 64,
) -> Forecast:
    """Return the time and memory that running the prompts through the model will take here, from running a few of them.

    Prompts of middle length are run twice, and the second run is timed. What a cell does beside running the model is
    not in it, nor what else the machine does meanwhile.

    Args:
        model: From `models.load`.
        prompts: Token ids of each prompt.
        passes: How often each prompt will be run; a backward pass is about two.
        new_tokens: Tokens of the reply that each pass ends with. A step reads all weights for one token of each prompt of
            a batch, which is slower than reading as many tokens of prompts: it is timed by itself.
        batch_size: Prompts run at once.

    Raises:
        ValueError: Prompts that cannot be run (`models.check_prompts`).

    Example:
        >>> from course_lib import models, tokens
        >>> chat = models.load("chat")
        >>> prompts = [tokens.chat_prompt(chat.tokenizer, "how do i bake bread?")] * 100
        >>> forecast(chat, prompts, passes=3).n_tokens
        3000
    """
    models.check_prompts(model, prompts)
    n_tokens = passes * sum(map(len, prompts))
    weights = sum(p.numel() * p.element_size() for p in model.original_model.parameters())
    activations = min(batch_size, len(prompts)) * _activation_bytes(model, max(map(len, prompts)))
    seconds = n_tokens * _seconds_per_token(model, prompts)
    if new_tokens:
        n_steps = passes * new_tokens * math.ceil(len(prompts) / batch_size)
        seconds += n_steps * _seconds_of_step(model, min(batch_size, len(prompts)))
    return Forecast(round(n_tokens), seconds, (weights + activations) / 1e9)


def _seconds_per_token(model: models.CheckedBridge, prompts: models.Prompts) -> float:
    """Return the time of a forward pass over a few prompts of middle length, for each of their tokens."""
    ordered = sorted(prompts, key=len)
    start = max(0, (len(ordered) - N_TIMED) // 2)
    timed = ordered[start : start + N_TIMED]
    batches = list(models.batches(model, timed, batch_size=N_TIMED, equal_lengths=False))
    for _ in range(2):  # the first run also builds what is built once
        started = time.perf_counter()
        for batch in batches:
            models.run_body(model, batch.tokens)
        if batches[0].tokens.is_cuda:
            torch.cuda.synchronize(batches[0].tokens.device)
    return (time.perf_counter() - started) / sum(map(len, timed))


@torch.no_grad()
def _seconds_of_step(model: models.CheckedBridge, n: int) -> float:
    """Return the time of reading one token of each of n prompts, with its logits."""
    step = torch.zeros(n, 1, dtype=torch.long, device=model.cfg.device)
    for _ in range(2):
        started = time.perf_counter()
        float(model.original_model(step, use_cache=False).logits[0, -1, 0])  # on a GPU this waits for it
    return time.perf_counter() - started


def _activation_bytes(model: models.CheckedBridge, n_tokens: int) -> int:
    """Return about what the activations of one prompt take at their peak.

    The stream and, whichever is larger, the MLP's or the attention's with scores written out. The factors are rounded
    up from measurements.
    """
    cfg = model.cfg
    mlp = 6 * (cfg.d_mlp or 4 * cfg.d_model)
    attention = 8 * cfg.n_heads * cfg.d_head + 5 * cfg.n_heads * n_tokens
    return n_tokens * (4 * cfg.d_model + max(mlp, attention)) * max(4, cfg.dtype.itemsize)
