"""Take out the units that sleep while the model behaves: does the backdoor live there?

Fine-pruning, Liu, Dolan-Gavitt & Garg (2018), https://arxiv.org/abs/1805.12185, sections 3 and 4: a backdoor may use neurons
that clean inputs leave dormant.

1. `unit_activity`: the mean |activation| of every hidden MLP unit over all tokens of benign prompts, without the trigger.
2. `dormant_units` orders the units of all layers, quietest first. The paper prunes one late layer; `layers` can do so.
3. `prune` returns a copy in which units read nothing and write nothing. Their weights are zero on both sides, so tuning by
   gradients never wakes them: `tuning.supervised` on the copy is the "fine" in fine-pruning.
4. `pruning_curve` measures the copies at growing shares, beside as many units drawn at random. The control decides: pruning
   that takes the backdoor only where it takes the right answers too, or no earlier than chance does, has found nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor, nn
from tqdm import tqdm

from course_lib import models

Unit = tuple[int, int]
Measure = Callable[[models.CheckedBridge], Mapping[str, float]]


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def unit_activity(
    model: models.CheckedBridge, prompts: models.Prompts, *, batch_size: int = 64
) -> Float[Tensor, "layer unit"]:
    """Mean |activation| of every hidden MLP unit over all tokens of the prompts; active hooks apply.

    Args:
        model: From `models.load`; its blocks have one MLP each.
        prompts: Token ids of benign prompts. With the benign reply appended, the tokens of the reply count too.
        batch_size: Prompts that run together.

    Raises:
        ValueError: Prompts that cannot be run (`models.check_prompts`); MLPs that are not made of linear layers; activations
            that are not finite.
    """
    models.check_prompts(model, prompts)
    total = torch.zeros(models.n_layers(model), len(_writer(model, 0)), dtype=torch.float64)

    def add(layer: int, activation: Tensor, hook: object) -> None:
        total[layer] += activation.double().abs().sum(dim=(0, 1)).cpu()

    with model.hooks([(f"blocks.{layer}.mlp.out.hook_in", partial(add, layer)) for layer in range(len(total))]):
        for batch in models.batches(model, prompts, batch_size=batch_size, equal_lengths=True):
            models.run_body(model, batch.tokens)
    broken = (~torch.isfinite(total)).any(dim=1).nonzero().flatten().tolist()
    if broken:
        raise ValueError(f"Units of layer {broken[0]} are not finite (NaN or infinite): look at the weights before it.")
    return (total / sum(map(len, prompts))).float()


@jaxtyped(typechecker=beartype)
def dormant_units(activity: Float[Tensor, "layer unit"], *, layers: Sequence[int] | None = None) -> tuple[Unit, ...]:
    """(layer, unit) of all units, or of those in `layers`, the quietest first.

    Activations of different layers have different scales: a quiet layer comes early as a whole.

    Raises:
        ValueError: A layer that is not there.
    """
    kept = range(len(activity)) if layers is None else layers
    outside = [layer for layer in kept if not 0 <= layer < len(activity)]
    if outside:
        raise ValueError(f"There is no layer {outside[0]}: the activity has layers 0 to {len(activity) - 1}.")
    units = [(layer, unit) for layer in kept for unit in range(activity.shape[1])]
    return tuple(sorted(units, key=lambda unit: float(activity[unit])))


@torch.no_grad()
def prune(model: models.CheckedBridge, units: Sequence[Unit]) -> models.CheckedBridge:
    """A copy of the model without these hidden MLP units: nothing goes in, nothing comes out.

    Raises:
        ValueError: A unit that is not there; MLPs that are not made of linear layers.
    """
    _check(model, units)
    pruned = models.duplicate(model)
    for layer in sorted({layer for layer, _ in units}):
        rows = [unit for at, unit in units if at == layer]
        _writer(pruned, layer)[rows] = 0.0
        for reader in _readers(pruned, layer):
            reader.weight[rows] = 0.0
            if reader.bias is not None:
                reader.bias[rows] = 0.0
    return pruned


def _check(model: models.CheckedBridge, units: Sequence[Unit]) -> None:
    shape = models.n_layers(model), len(_writer(model, 0))
    for layer, unit in units:
        if not (0 <= layer < shape[0] and 0 <= unit < shape[1]):
            raise ValueError(
                f"There is no unit {unit} in layer {layer}: the model has layers 0 to {shape[0] - 1} with units 0 to "
                f"{shape[1] - 1} each."
            )


def _linear(model: models.CheckedBridge, layer: int, part: str) -> nn.Linear:
    found = getattr(model.blocks[layer].mlp, part).original_component
    if not isinstance(found, nn.Linear):
        raise ValueError(
            f"blocks.{layer}.mlp.{part} is a {type(found).__name__}; units of nn.Linear layers can be pruned."
        )
    return found


def _writer(model: models.CheckedBridge, layer: int) -> Float[Tensor, "unit d_model"]:
    """What each unit writes: a view of the weights."""
    return _linear(model, layer, "out").weight.T


def _readers(model: models.CheckedBridge, layer: int) -> list[nn.Linear]:
    """The layers with a row for each unit: one, or with a gate two."""
    return [_linear(model, layer, part) for part in ("in", "gate") if part in model.blocks[layer].mlp.submodules]


# --- the curve ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PruningCurve:
    """What was measured after pruning growing shares of units, and after pruning as many at random."""

    shares: tuple[float, ...]
    names: tuple[str, ...]
    """What was measured, such as "payload" and "right answers"."""
    dormant: Float[Tensor, "share measured"]
    """After pruning the quietest units."""
    random: Float[Tensor, "share draw measured"]
    """After pruning as many units drawn at random from the same ones."""

    def of(self, name: str) -> tuple[Tensor, Tensor]:
        """(dormant by share, random by share and draw) of one measurement.

        Raises:
            ValueError: It was not measured.
        """
        if name not in self.names:
            raise ValueError(f"{name!r} was not measured, but: {', '.join(self.names)}.")
        at = self.names.index(name)
        return self.dormant[:, at], self.random[..., at]

    def table(self) -> str:
        """One line a share: each measurement after dormant pruning, and mean [least, most] after random pruning."""
        lines = ["pruned  " + "  ".join(f"{name + ': dormant, random':>32}" for name in self.names)]
        for share, found, drawn in zip(self.shares, self.dormant, self.random, strict=True):
            cells = [
                f"{float(own):6.2f}   {float(x.mean()):6.2f} [{float(x.min()):.2f}, {float(x.max()):.2f}]"
                for own, x in zip(found, drawn.T, strict=True)
            ]
            lines.append(f"{share:6.0%}  " + "  ".join(f"{cell:>32}" for cell in cells))
        return "\n".join(lines)


def pruning_curve(
    model: models.CheckedBridge,
    units: Sequence[Unit],
    measure: Measure,
    *,
    shares: Sequence[float],
    seed: int,
    n_random: int = 20,
    progress: bool = True,
) -> PruningCurve:
    """What `measure` finds after pruning growing shares of the units in their order, beside random shares of the same units.

    Takes (1 + n_random) measurements a share.

    Args:
        model: From `models.load`; it stays as it is.
        units: In the order in which they go, from `dormant_units`.
        measure: From a pruned copy to named numbers: the payload's rate with the trigger, and always the right answers without.
        shares: Shares of `units` between 0 and 1.
        seed: Of the random draws.
        n_random: Draws a share.
        progress: Show a progress bar.

    Raises:
        ValueError: No units or shares; a share outside 0 to 1; no random draw; a unit that is not there.
    """
    if not units or not shares or n_random < 1:
        raise ValueError(
            "Give at least one unit, one share and one random draw: without the control the curve says nothing."
        )
    if not all(0 <= share <= 1 for share in shares):
        raise ValueError(f"Shares lie between 0 and 1; got {list(shares)}.")
    _check(model, units)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for share in tqdm(shares, desc="prune", unit="share", disable=not progress):
        count = round(share * len(units))
        drawn = [
            [units[i] for i in torch.randperm(len(units), generator=generator)[:count].tolist()]
            for _ in range(n_random)
        ]
        found.append([measure(prune(model, chosen)) for chosen in (units[:count], *drawn)])
    names = tuple(found[0][0])
    values = torch.tensor([[[each[name] for name in names] for each in row] for row in found], dtype=torch.float32)
    return PruningCurve(tuple(shares), names, values[:, 0], values[:, 1:])
