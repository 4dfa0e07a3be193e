"""Set transcoder features to values while the model runs, with attention frozen or free.

Ameisen et al. (2025), "Circuit Tracing", section on validating graphs; Lindsey et al. (2025), "On the Biology
of a Large Language Model", whose interventions set features to multiples of their activation:

1. An MLP's output is shifted by (new - old) times the decoder vector of each changed feature, where old is the
   activation in this very run. What the transcoder misses (the error) stays.
2. What follows is a choice. `mlps`: the model's own MLPs react; or the transcoders stand for them, with the
   error vectors of the unchanged prompt; or every other feature keeps its activation. `attention`: patterns and
   norms react, or stay as on the unchanged prompt.

With frozen attention and `mlps="constant"` a change acts through direct edges only; with `mlps="transcoders"`,
through all paths of the graph (`AttributionGraph.total_effect`), up to features that cross their threshold.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

from course_lib import models
from course_lib.attribution import dictionaries
from course_lib.attribution.dictionaries import Encoded, Transcoders
from course_lib.attribution.frozen import FrozenRun, Prompt, check_prompt, keep, record
from course_lib.attribution.nodes import Feature, resolve

Changes = Mapping[tuple[int, int, int] | Feature, float]
Attention = Literal["free", "frozen"]
MLPs = Literal["model", "transcoders", "constant"]


def intervene(
    model: models.CheckedBridge,
    prompt_ids: Prompt,
    *,
    transcoders: Transcoders,
    changes: Changes,
    attention: Attention = "free",
    mlps: MLPs = "model",
) -> AbstractContextManager:
    """A context in which some features have the values they are given, on one prompt.

    Read the result with `models.next_token_logits(model, [prompt_ids])`, `models.generate` or `caching.harvest`. Only the
    prompt is changed: tokens that are being generated see it through the key-value cache, with attention and MLPs free.

    Args:
        model: From `models.load`.
        prompt_ids: The prompt to run in the context. Another one of its length is run with *this* one's frozen
            attention: what would these words do if the model looked where it looked before?
        transcoders: One sae_lens transcoder per layer.
        changes: New activation of each (layer, position, feature); a negative position counts from the end.
            For multiples, read the activation from a graph or from the transcoder first.
        attention: "frozen" holds patterns and norms at the unchanged prompt's values. The two can give opposite
            answers: show both.
        mlps: What the MLPs do: "model", "transcoders" or "constant", see the module's step 2.

    Raises:
        ValueError: At once: unusable prompt or transcoders, active hooks, a feature or position that does not
            exist, a value that is not finite. While the model runs: a prompt of another length.
    """
    for name, value, known in (("attention", attention, get_args(Attention)), ("mlps", mlps, get_args(MLPs))):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}.")
    check_prompt(model, prompt_ids)
    dictionaries.check(model, transcoders)
    wanted = _checked(model, changes, len(prompt_ids), transcoders[0].W_dec.shape[0])
    run = record(model, prompt_ids)
    intervention = _Intervention(run, dictionaries.encode(run, transcoders), transcoders, wanted, mlps)
    return model.hooks(intervention.hooks(frozen=attention == "frozen"))


def _checked(model: models.CheckedBridge, changes: Changes, n_tokens: int, d_sae: int) -> dict[Feature, float]:
    """The changes by feature, positions counted from 0."""
    wanted = {}
    for place, value in changes.items():
        if not isinstance(place, Feature) and len(place) != 3:
            raise ValueError(f"A feature is named by (layer, position, feature), not by {place}.")
        feature = resolve(model, place if isinstance(place, Feature) else Feature(*place), n_tokens, d_sae)
        if feature in wanted:
            raise ValueError(f"{feature} is changed twice. Give each feature one value.")
        if not math.isfinite(value):
            raise ValueError(f"{feature} must get a finite value, not {value}.")
        wanted[feature] = float(value)
    return wanted


@dataclass(frozen=True, eq=False, repr=False)  # a hook is printed when it is added: tensors and all
class _Intervention:
    run: FrozenRun
    encoded: Encoded
    transcoders: Transcoders
    changes: Mapping[Feature, float]
    mlps: MLPs
    read: dict[str, Tensor] = field(default_factory=dict)
    """What each norm or MLP reads in this very run."""

    def hooks(self, *, frozen: bool) -> list[tuple[str, Callable]]:
        """(hook name, function) of the whole intervention; norms first, or a norm after the MLP undid its change."""
        run, pairs = self.run, []
        if frozen:
            pairs += [pair for name, gain in run.gains.items() for pair in self._norm(name, gain)]
            patterns = enumerate(run.patterns)
            pairs += [(f"blocks.{layer}.attn.hook_pattern", self._constant(pattern)) for layer, pattern in patterns]
        return pairs + [pair for layer in range(run.n_layers) for pair in self._mlp(layer)]

    def _generated(self, activation: Tensor) -> bool:
        """Whether this is a token being generated; refuses another prompt."""
        n_tokens, expected = activation.shape[1], len(self.run.prompt_ids)
        if n_tokens not in (1, expected):
            raise ValueError(
                f"The intervention is on a prompt of {expected} tokens, but a prompt of {n_tokens} was run in its "
                "context. Open a context for each prompt."
            )
        return n_tokens != expected

    def _constant(self, pattern: Float[Tensor, "head query key"]) -> Callable:
        def freeze(activation: Tensor, hook: object) -> Tensor | None:
            if activation.shape[-2:] != pattern.shape[-2:]:
                return None  # the pattern of a generated token
            return pattern.to(activation).expand_as(activation)

        return freeze

    def _norm(self, name: str, gain: Float[Tensor, "pos d_model"]) -> list[tuple[str, Callable]]:
        def freeze(activation: Tensor, hook: object) -> Tensor | None:
            return None if self._generated(activation) else self.read[name] * gain.to(activation)

        return [(f"{name}.hook_in", keep(self.read, name)), (f"{name}.hook_out", freeze)]

    def _mlp(self, layer: int) -> list[tuple[str, Callable]]:
        name = f"blocks.{layer}.mlp.hook_in"
        changes = {feature: value for feature, value in self.changes.items() if feature.layer == layer}
        if self.mlps == "model" and not changes:
            return []

        def replace(activation: Tensor, hook: object) -> Tensor | None:
            return None if self._generated(activation) else self._output(layer, activation, changes)

        return [(name, keep(self.read, name)), (f"blocks.{layer}.hook_mlp_out", replace)]

    def _output(self, layer: int, mlp_out: Tensor, changes: Mapping[Feature, float]) -> Tensor:
        """The MLP's output after the change."""
        transcoder, recorded = self.transcoders[layer], self.encoded.activations[layer]
        old = recorded
        if self.mlps != "constant":
            old = transcoder.encode(self.read[f"blocks.{layer}.mlp.hook_in"]).float()
        new = old.clone()
        for feature, value in changes.items():
            new[..., feature.position, feature.feature] = value
        if self.mlps == "model":
            return mlp_out + ((new - old) @ transcoder.W_dec.float()).to(mlp_out)
        shift = (new - recorded) @ transcoder.W_dec.float()
        return (self.run.mlp_out[layer] + shift).to(mlp_out).expand_as(mlp_out)
