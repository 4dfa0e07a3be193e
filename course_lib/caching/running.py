"""Forward passes that stop early, keep only what was asked for, and fit into memory."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_lib import models


@dataclass(frozen=True, eq=False)
class Request:
    """What is to be kept: the hooks, the labels of the positions, and their token indices in each prompt."""

    names: tuple[str, ...]
    labels: tuple[int | str, ...]
    wanted: Int[Tensor, "prompt position"]


class Runner:
    """Runs prompts in batches that fit, and hands on what was asked for, on the host and checked."""

    def __init__(
        self,
        model: models.CheckedBridge,
        prompts: models.Prompts,
        request: Request,
        batch_size: int,
        max_memory: int | None,
    ) -> None:
        self.model, self.prompts, self.request = model, prompts, request
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number of at least 1, not {batch_size}.")
        self.limit, self.max_memory = batch_size, max_memory
        self._collector, self._equal_lengths = _Collector(request.names), models.has_hooks(model)
        longest = max(len(prompt) for prompt in prompts)
        if max_memory is not None and self.bytes_for(longest) > max_memory:
            raise ValueError(
                f"max_memory is {max_memory:,} bytes, but one prompt of {longest} tokens takes about "
                f"{self.bytes_for(longest):,}. Allow that much, or leave long prompts out."
            )

    def bytes_for(self, n_tokens: int) -> int:
        """About what one prompt takes: its activations, and what is kept of them."""
        kept = 3 * self.request.wanted.shape[1] * len(self.request.names) * self.model.cfg.d_model
        return activation_bytes(self.model, n_tokens) + kept * max(4, self.model.cfg.dtype.itemsize)

    def hooks(self) -> AbstractContextManager:
        """The context in which `run` works: hooks that keep what was asked for. It belongs to the caller, so that
        an interrupt anywhere in the caller's loop takes the hooks off the model."""
        names = self.request.names
        return self.model.hooks([(name, partial(self._collector.keep, name)) for name in names])

    def run(self, indices: Sequence[int]) -> Iterator[tuple[list[int], Tensor]]:
        """Batch after batch: which prompts these were, and their activations."""
        waiting = None
        for batch_indices, kept in self._batches(list(indices)):
            copy = _HostCopy(kept)  # on its way while the next batch is computed
            if waiting is not None:
                yield self._checked(*waiting)
            waiting = batch_indices, copy
        yield self._checked(*waiting)

    def _batches(self, indices: list[int]) -> Iterator[tuple[list[int], Tensor]]:
        """As large as the limits allow; a batch that does not fit is halved, and so are all that follow."""
        prompts = [self.prompts[i] for i in indices]
        for batch in models.batches(self.model, prompts, batch_size=self.limit, equal_lengths=self._equal_lengths):
            own, kept = [indices[i] for i in batch.indices], None
            if len(own) <= self._allowed(max(batch.lengths)):
                try:
                    kept = self._collector.run(self.model, batch.tokens, self.request.wanted[own])
                except torch.OutOfMemoryError as error:
                    if len(own) == 1:
                        raise torch.OutOfMemoryError(
                            f"Prompt {own[0]} with {batch.lengths[0]} tokens does not fit into the memory of "
                            f"{batch.tokens.device}, even alone. Shorten it, or load the model in bfloat16."
                        ) from error
                    self.limit = len(own) // 2
            if kept is not None:
                yield own, kept
                continue
            self._collector.forget()  # outside the except clause, whose traceback would keep the batch alive
            if batch.tokens.is_cuda:
                torch.cuda.empty_cache()
            size = min(self.limit, self._allowed(max(batch.lengths)))
            for start in range(0, len(own), size):
                yield from self._batches(own[start : start + size])

    def _allowed(self, n_tokens: int) -> int:
        if self.max_memory is None:
            return self.limit
        return min(self.limit, self.max_memory // self.bytes_for(n_tokens))

    def _checked(self, indices: list[int], copy: "_HostCopy") -> tuple[list[int], Tensor]:
        kept = copy.wait()
        models.check_finite(self.model, [self.prompts[i] for i in indices], kept, numbers=indices)
        return indices, kept


def activation_bytes(model: models.CheckedBridge, n_tokens: int) -> int:
    """About what the activations of one prompt take at their peak: the stream and, whichever is larger, the
    MLP's or the attention's, scores written out. The factors are rounded up from measurements."""
    cfg = model.cfg
    mlp = 6 * (cfg.d_mlp or 4 * cfg.d_model)
    attention = 8 * cfg.n_heads * cfg.d_head + 5 * cfg.n_heads * n_tokens
    return n_tokens * (4 * cfg.d_model + max(mlp, attention)) * max(4, cfg.dtype.itemsize)


class _HostCopy:
    """A tensor on its way to the host, in at least float32: from a GPU by a stream of its own, into pinned memory."""

    def __init__(self, kept: Tensor) -> None:
        dtype, self.arrived = torch.promote_types(kept.dtype, torch.float32), None
        if kept.device.type != "cuda":
            self.values = kept.to("cpu", dtype)
            return
        self.values = torch.empty(kept.shape, dtype=kept.dtype, pin_memory=True)
        stream = torch.cuda.Stream(kept.device)
        stream.wait_stream(torch.cuda.current_stream(kept.device))
        with torch.cuda.stream(stream):
            self.values.copy_(kept, non_blocking=True)
            self.arrived = stream.record_event()
        kept.record_stream(stream)

    def wait(self) -> Tensor:
        """The values, once they are there."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.values.to(torch.promote_types(self.values.dtype, torch.float32))


class _Enough(Exception):
    """Every hook has fired; the rest of the forward pass is not needed."""


class _Collector:
    """Copies the wanted positions out of each batch, and ends its forward pass when every hook has fired."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.forget()

    def run(
        self, model: models.CheckedBridge, ids: Int[Tensor, "batch pos"], wanted: Int[Tensor, "batch position"]
    ) -> Float[Tensor, "batch position hook d_model"]:
        """The activations of one batch, while `keep` is hooked to every name."""
        self.kept: dict[str, Tensor] = {}
        self.shape: torch.Size | None = ids.shape
        self.rows, self.columns = torch.arange(len(ids), device=ids.device)[:, None], wanted.to(ids.device)
        try:
            models.run_body(model, ids)
        except _Enough:
            pass
        self._check_kept()
        stacked = torch.stack([self.kept[name] for name in self.names], dim=2)
        self.forget()
        return stacked

    def forget(self) -> None:
        """Let go of what was kept of the last batch."""
        self.kept, self.shape = {}, None

    def keep(self, name: str, activation: Tensor, hook: object) -> None:
        if self.shape is None:  # a run that is none of ours
            return
        if activation.ndim != 3 or activation.shape[:2] != self.shape:
            raise ValueError(
                f"{name} has the shape {tuple(activation.shape)}, expected (batch, position, "
                "width). Read it with model.run_with_cache."
            )
        self.kept[name] = activation[self.rows, self.columns]  # indexing with tensors copies
        if len(self.kept) == len(self.names):
            raise _Enough

    def _check_kept(self) -> None:
        silent = [name for name in self.names if name not in self.kept]
        if silent:
            raise ValueError(f"{', '.join(silent)} did not fire before the unembedding, so there is nothing to keep.")
        widths = {name: self.kept[name].shape[-1] for name in self.names}
        if len(set(widths.values())) > 1:
            raise ValueError(f"The hooks differ in width: {widths}. Harvest one width at a time.")
