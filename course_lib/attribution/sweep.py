"""The backward pass of the local replacement model: edges from all sources to many targets at once.

The gradient of a target with respect to the stream starts where the target reads (a feature before its own MLP, a
logit after the last block) and goes back layer by layer. Passing an MLP, it is multiplied with what the layer's
features and errors wrote there; the MLP itself passes nothing on. Passing attention, it takes the frozen paths.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.attribution.dictionaries import Encoded, Transcoders
from course_lib.attribution.frozen import FrozenRun
from course_lib.attribution.nodes import Feature, Target


@dataclass(frozen=True, eq=False)
class Sweep:
    """The backward pass of the local replacement model for many targets at once."""

    run: FrozenRun
    encoded: Encoded
    transcoders: Transcoders
    depth: int
    """Layers below this one have nodes."""
    features: Sequence[Feature]

    def edges(
        self, targets: Sequence[Target], batch_size: int
    ) -> tuple[Float[Tensor, "target source"], Float[Tensor, " target"]]:
        """Edges from all sources, and constants, of each target."""
        n_tokens = len(self.run.prompt_ids)
        edges = torch.empty(len(targets), len(self.features) + (self.depth + 1) * n_tokens)
        constants = torch.empty(len(targets))
        order = sorted(range(len(targets)), key=lambda i: self._layer(targets[i]))
        for begin in range(0, len(order), batch_size):
            rows = order[begin : begin + batch_size]
            batch = self._batch([targets[row] for row in rows], edges.shape[1])
            edges[rows], constants[rows] = batch[0].cpu(), batch[1].cpu()
        return edges, constants

    def _layer(self, target: Target) -> int:
        return target.layer if isinstance(target, Feature) else self.run.n_layers

    def _batch(self, targets: Sequence[Target], n_sources: int) -> tuple[Tensor, Tensor]:
        """Targets in order of their layer, so that those which have joined the sweep are the last rows."""
        run, n_tokens = self.run, len(self.run.prompt_ids)
        gradient = run.embedding.new_zeros(len(targets), *run.embedding.shape)
        edges = gradient.new_zeros(len(targets), n_sources)
        constants = gradient.new_zeros(len(targets))
        for row, target in enumerate(targets):
            gradient[row, target.position], constants[row] = self._start(target)
        layers = [self._layer(target) for target in targets]
        for layer in reversed(range(min(run.n_layers, layers[-1] + 1))):
            reads_above = sum(at <= layer for at in layers)  # first row that reads the MLP of this layer
            if reads_above < len(targets):
                self._read_mlp(layer, gradient[reads_above:], edges[reads_above:], constants[reads_above:])
            joined = sum(at < layer for at in layers)
            constants[joined:] += (gradient[joined:] * run.attention_bias(values=True)[layer]).sum(dim=(1, 2))
            gradient[joined:] += run.attention_backward(layer, gradient[joined:])
        edges[:, -n_tokens:] = (gradient * run.embedding).sum(dim=-1)
        return edges, constants

    def _start(self, target: Target) -> tuple[Float[Tensor, " d_model"], float]:
        """Gradient of a target with respect to the stream it reads, and its own bias."""
        run = self.run
        if isinstance(target, Feature):
            transcoder = self.transcoders[target.layer]
            encoder = (
                transcoder.W_enc[:, target.feature].float() * run.gains[f"blocks.{target.layer}.ln2"][target.position]
            )
            return encoder, float(transcoder.b_enc[target.feature])
        direction, bias = run.unembedding(target.token, target.minus)
        return direction * run.gains["ln_final"][target.position], bias

    def _read_mlp(self, layer: int, gradient: Tensor, edges: Tensor, constants: Tensor) -> None:
        """Write the columns of one layer's features, position by position, and errors; add its bias."""
        active, W_dec = self.encoded.activations[layer], self.transcoders[layer].W_dec.float()
        column = int((self.encoded.activations[:layer] > 0).sum())
        for position, row in enumerate(active):
            numbers = row.nonzero()[:, 0]
            written = W_dec[numbers] * row[numbers, None]
            edges[:, column : column + len(numbers)] = gradient[:, position] @ written.T
            column += len(numbers)
        first = len(self.features) + layer * len(active)
        edges[:, first : first + len(active)] = (gradient * self.encoded.errors[layer]).sum(dim=-1)
        constants += (gradient @ self.transcoders[layer].b_dec.float()).sum(dim=1)
