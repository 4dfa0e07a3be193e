"""What a harvest returns: activations with their labels, in memory or on disk."""

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor

from course_lib import store


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
        place = _position_index(self.positions, position), _hook_index(self.hook_names, hook)
        return self.values[:, *place]


@dataclass(frozen=True, eq=False)
class StoredActivations:
    """Activations that lie on disk, from `stored_harvest`: only what is looked at is read."""

    hook_names: tuple[str, ...]
    """Labels of the hook axis."""
    positions: tuple[int | str, ...]
    """Labels of the position axis, as in `Activations`."""
    n_prompts: int
    _shards: store.Shards
    _members: tuple[tuple[int, ...], ...]

    @property
    def folder(self) -> Path:
        """Where the shards lie."""
        return self._shards.folder

    def parts(self) -> Iterator[tuple[list[int], Float[Tensor, "part position hook d_model"]]]:
        """Shard after shard: which prompts these are, and their activations as a memory map, not to be written.

        Raises:
            ValueError: A damaged shard, with its name.
        """
        for number, members in enumerate(self._members):
            yield list(members), self._shards.read(number)

    def at(self, hook: str | int, position: int | str | None = None) -> Float[Tensor, "prompt d_model"]:
        """One activation per prompt, at least float32; arguments and errors as for `Activations.at`."""
        place = _position_index(self.positions, position), _hook_index(self.hook_names, hook)
        return self._gather(lambda part: part[:, *place])

    def load(self) -> Activations:
        """All of it in memory."""
        return Activations(self._gather(lambda part: part), self.hook_names, self.positions)

    def _gather(self, pick: Callable[[Tensor], Tensor]) -> Tensor:
        values = None
        for members, part in self.parts():
            picked = pick(part)
            picked = picked.to(torch.promote_types(picked.dtype, torch.float32))
            values = picked.new_empty(self.n_prompts, *picked.shape[1:]) if values is None else values
            values[members] = picked
        return values


def _hook_index(hook_names: tuple[str, ...], hook: str | int) -> int:
    names = [name for name in hook_names if name == hook or name.startswith(f"blocks.{hook}.")]
    if len(names) != 1:
        near = difflib.get_close_matches(str(hook), hook_names, n=1)
        hint = f"; nearest: {near[0]}" if near else ""
        raise ValueError(f"{len(names)} harvested hooks match {hook!r}{hint}. Harvested: {', '.join(hook_names)}.")
    return hook_names.index(names[0])


def _position_index(positions: tuple[int | str, ...], position: int | str | None) -> int:
    if position is None and len(positions) == 1:
        return 0
    if position not in positions:
        raise ValueError(f"Position {position!r} was not harvested. Harvested: {positions}.")
    return positions.index(position)
