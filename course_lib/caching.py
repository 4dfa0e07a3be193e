"""Run prompts through a model and keep named activations at named positions, and nothing else.

`run_with_cache` keeps every activation of every token and unembeds all of them; for "the last token's
residual stream at every layer, for 1,024 prompts" that is hundreds of times the memory that is wanted.
`harvest` returns the same numbers:

1. prompts are sorted by length, so that little padding is computed;
2. one hook per name copies the wanted positions while the model runs, so that later edits cannot reach them;
3. the forward pass stops at the last hook that was asked for, and never reaches the unembedding.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from beartype import beartype
from jaxtyping import Float, Int, jaxtyped
from torch import Tensor
from tqdm import tqdm

from course_lib import models, tokens


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
        """One activation per prompt, as a view.

        Args:
            hook: A hook name; or a layer, if only one hook of that layer was harvested.
            position: A label of `positions`; may be left out if there is only one.

        Raises:
            ValueError: The hook or the position was not harvested, or it is not clear which one is meant.
        """
        return self.values[:, self._position_index(position), self._hook_index(hook)]

    def _hook_index(self, hook: str | int) -> int:
        names = [name for name in self.hook_names if name == hook or name.startswith(f"blocks.{hook}.")]
        if len(names) != 1:
            near = difflib.get_close_matches(str(hook), self.hook_names, n=1)
            hint = f"; nearest: {near[0]}" if near else ""
            raise ValueError(
                f"{len(names)} harvested hooks match {hook!r}{hint}. Harvested: {', '.join(self.hook_names)}."
            )
        return self.hook_names.index(names[0])

    def _position_index(self, position: int | str | None) -> int:
        if position is None and len(self.positions) == 1:
            return 0
        if position not in self.positions:
            raise ValueError(f"Position {position!r} was not harvested. Harvested: {self.positions}.")
        return self.positions.index(position)


def harvest(
    model: models.CheckedBridge,
    prompts: models.Prompts,
    *,
    hook_names: Sequence[str] | None = None,
    positions: Sequence[int | str] | Sequence[Sequence[int]] = ("last",),
    batch_size: int = 64,
    progress: bool = True,
) -> Activations:
    """Activations of each prompt at the named hooks and positions, equal to those in `run_with_cache`.

    With the defaults, the input of Arditi et al. (2024, section 2.3): the residual stream before every block
    at the last token. Active hooks apply, and their effect is in the values, if they were added at an earlier
    hook or at the same one. The prompt is run, no reply is generated.

    Args:
        model: From `models.load`.
        prompts: Token ids of each prompt, from `tokens.chat_prompt`.
        hook_names: Hooks whose activation has the shape (batch, position, width), all of one width. By
            default `blocks.{layer}.hook_resid_pre` of every layer.
        positions: Names (`tokens.POSITIONS`) or integers, negative ones counted from the end; the same for
            all prompts. Or one list of integers for each prompt, all of the same length.
        batch_size: Prompts run at once at most.
        progress: Show a progress bar.

    Raises:
        ValueError: Before any work: prompts that cannot be run (`models.check_prompts`), an unknown hook
            name, a position outside a prompt. During the work: an activation of another shape, or one that is
            not finite, with its hook and prompt.
    """
    models.check_prompts(model, prompts)
    names = tuple(hook_names) if hook_names is not None else _resid_pre_names(model)
    if not names or len(set(names)) < len(names) or isinstance(hook_names, str):
        raise ValueError(f"hook_names must be a list of different names, at least one; got {hook_names!r}.")
    models.check_hook_names(model, names)
    labels, wanted = _resolve_positions(model, prompts, positions)
    batches = models.batches(model, prompts, batch_size=batch_size, equal_lengths=models.has_hooks(model))
    collector, values = _Collector(names), None
    bar = tqdm(total=len(prompts), desc="harvest", unit="prompt", disable=not progress)
    with bar, model.hooks([(name, partial(collector.keep, name)) for name in names]):
        for batch in batches:
            kept = collector.run(model, batch.tokens, wanted[batch.indices])
            _check_finite(kept, names, batch.indices)
            values = kept.new_empty(len(prompts), *kept.shape[1:]) if values is None else values
            values[batch.indices] = kept
            bar.update(len(batch.indices))
    return Activations(values, names, labels)


class _Enough(Exception):
    """Every hook has fired; the rest of the forward pass is not needed."""


class _Collector:
    """Copies the wanted positions out of each batch, and ends its forward pass when every hook has fired."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def run(
        self,
        model: models.CheckedBridge,
        ids: Int[Tensor, "batch pos"],
        wanted: Int[Tensor, "batch position"],
    ) -> Float[Tensor, "batch position hook d_model"]:
        """The activations of one batch, while `keep` is hooked to every name."""
        self.kept: dict[str, Tensor] = {}
        self.shape = ids.shape
        self.rows, self.columns = torch.arange(len(ids), device=ids.device)[:, None], wanted.to(ids.device)
        try:
            models.run_body(model, ids)
        except _Enough:
            pass
        self._check_kept()
        stacked = torch.stack([self.kept[name] for name in self.names], dim=2)
        return stacked.to("cpu", torch.promote_types(stacked.dtype, torch.float32))

    def keep(self, name: str, activation: Tensor, hook: object) -> None:
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
            raise ValueError(
                f"{', '.join(silent)} did not fire before the unembedding, so there is nothing to keep."
            )
        widths = {name: self.kept[name].shape[-1] for name in self.names}
        if len(set(widths.values())) > 1:
            raise ValueError(f"The hooks differ in width: {widths}. Harvest one width at a time.")


def _check_finite(
    kept: Float[Tensor, "batch position hook d_model"], names: tuple[str, ...], indices: list[int]
) -> None:
    if bool(torch.isfinite(kept).all()):
        return
    broken = (~torch.isfinite(kept)).any(dim=-1).any(dim=1)  # prompt, hook
    hook = int(broken.any(dim=0).nonzero()[0])
    prompt = indices[int(broken[:, hook].nonzero()[0])]
    raise ValueError(
        f"{names[hook]} is not finite (NaN or infinite) for prompt {prompt}. If the model runs "
        "in half precision, load it in float32 or bfloat16; otherwise look at the active hooks."
    )


def _resid_pre_names(model: models.CheckedBridge) -> tuple[str, ...]:
    return tuple(f"blocks.{layer}.hook_resid_pre" for layer in range(models.n_layers(model)))


def _resolve_positions(
    model: models.CheckedBridge,
    prompts: models.Prompts,
    positions: Sequence[int | str] | Sequence[Sequence[int]],
) -> tuple[tuple[int | str, ...], Int[Tensor, "prompt position"]]:
    """Labels of the position axis, and for each prompt the token indices that they stand for."""
    if isinstance(positions, str) or len(positions) == 0:
        raise ValueError(
            f"positions must be a list of at least one position, such as ['last']; got {positions!r}."
        )
    own_lists = not isinstance(positions[0], int | str)
    if own_lists and len(positions) != len(prompts):
        raise ValueError(f"{len(positions)} lists of positions were given for {len(prompts)} prompts.")
    rows = positions if own_lists else [positions] * len(prompts)
    if len({len(row) for row in rows}) != 1:
        raise ValueError("Every prompt needs the same number of positions.")
    indices = []
    for number, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        try:
            indices.append([tokens.position_index(model.tokenizer, prompt, position) for position in row])
        except ValueError as error:
            raise ValueError(f"Prompt {number}: {error}") from error
    labels = tuple(range(len(rows[0]))) if own_lists else tuple(positions)
    return labels, torch.tensor(indices)
