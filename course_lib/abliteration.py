"""A copy of the model whose weights cannot write along a direction.

Weight orthogonalisation of Arditi et al. (2024), https://arxiv.org/abs/2406.11717, section 4.1 and appendix E:

1. the *writers* are all matrices whose output is added to the residual stream: the embedding (and learned
   positions), and the output matrices of every attention and every MLP, with their biases;
2. W' = W - r (r^T W) for each of them, with r of length 1, as a rank-1 update: the matrix r r^T is never made;
3. where the output of a writer passes a norm before it is added (Gemma 2 and 3, OLMo 2), y = g * x / rms(x),
   nothing along r in y needs nothing along g * r in x: so the direction u = g * r / |g * r| is removed there;
4. an embedding that is also the unembedding is untied first: what the model reads off the stream stays.

`norm="preserved"` gives each row of W, one coordinate of the stream, its old length back, as published tools do
(https://huggingface.co/blog/grimjim/norm-preserving-biprojected-abliteration). With n the lengths of the rows,

    W' = s * (W - a c^T),   a = n * r,   c = W^T (r / n),   s = 1 / |rows of (W / n - r c^T)|,

a row scale of a rank-1 update, exact and without any decomposition. It undoes part of step 2, and `Edit.report`
says how much. `norm="vectors"` keeps the length of each column instead, of what one token or one neuron writes,
and gives nothing back, because a vector without r is without r at any length.

The Bridge wraps the Hugging Face modules and holds no weights of its own, so the edit is made in those modules,
and hooks and weights agree. No function here saves a model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from torch import Tensor, nn

from course_lib import directions, models

Norm = Literal["free", "preserved", "vectors"]
Kind = Literal["weight", "bias"]


@dataclass(frozen=True)
class MatrixEdit:
    """Effect of the edit on one weight matrix or bias."""

    name: str
    """Its name in the Bridge, such as "blocks.3.mlp.out.weight"."""
    share: float
    """|u^T W| / |W| before the edit (Frobenius): how much of the matrix wrote along the direction. A random
    direction has about 1 / sqrt(d_model)."""
    given_back: float
    """|u^T W'| / |u^T W|: the part of what was there that is there now. Zero up to rounding for "free" and
    "vectors" (bfloat16: about 0.004), not so for "preserved"."""


@dataclass(frozen=True, eq=False)
class _Writer:
    """A weight or bias that writes to the residual stream, and what it must not write along."""

    name: str
    module: nn.Module
    kind: Kind
    along: Float[Tensor, " d_model"]
    """u, of length 1: r itself, or the normalised g * r before a norm."""

    @property
    def parameter(self) -> nn.Parameter:
        return self.module.get_parameter(self.kind)

    def put(self, new: nn.Parameter) -> None:
        self.module.register_parameter(self.kind, new)

    def matrix(self, parameter: Tensor) -> Float[Tensor, "d_model input"]:
        """Return a view in which each column is what one input writes."""
        if self.kind == "bias":
            return parameter.detach()[:, None]
        written_by_column = isinstance(self.module, nn.Linear)  # the others hold one row for each input
        return parameter.detach() if written_by_column else parameter.detach().T


@dataclass(frozen=True, eq=False)
class Edit:
    """The edit that `abliterated` made, to be read while it lasts."""

    _before: list[tuple[_Writer, nn.Parameter]]

    def report(self) -> tuple[MatrixEdit, ...]:
        """Return what was removed and what was given back, for each matrix, from the weights as they are now."""
        return tuple(_effect(writer, writer.matrix(before)) for writer, before in self._before)


# --- edit ---------------------------------------------------------------------------------------------------


@jaxtyped(typechecker=beartype)
def abliterate(
    model: models.CheckedBridge, direction: Float[Tensor, " d_model"], *, norm: Norm = "free"
) -> models.CheckedBridge:
    """Return a new model that cannot write along the direction; the given one stays as it is, bit for bit.

    Directional ablation as a weight edit: with free norms it computes what the model computes
    under `steering.ablate`, without any hook. (Not on models that norm what attention and MLP put out, such as
    Gemma 2: there the hooks act after that norm and the weights before it, so that both remove the direction and
    the rest differs by a factor.) The direction's length and sign do not matter. The copy needs as much memory
    as the model.

    Args:
        model: From `models.load`, without active hooks.
        direction: What the copy must not write; from `directions.difference_of_means`, for example.
        norm: "free", the published edit; "preserved", every row keeps its length, which gives part of the
            direction back; "vectors", every column (what one token or neuron writes) keeps its length. Biases
            are projected and not rescaled.

    Raises:
        ValueError: A direction that is zero or not finite; active hooks;
            weights on the "meta" device; a block whose attention or MLP has no single output matrix (mixtures of
            experts); a row or column that is parallel to the direction, so that nothing is left to rescale.

    Example:
        >>> edited = abliterate(model, direction)                # doctest: +SKIP
        >>> models.generate(edited, prompts, max_new_tokens=20)  # doctest: +SKIP
    """
    r = directions.unit(directions.of_width(direction.detach(), models.d_model(model)))
    _writers(model, r)  # refuses before the copy is made
    edited = models.duplicate(model)
    _untie(edited)
    for writer in _writers(edited, r):
        _remove(writer, writer.parameter, norm)
    if norm != "preserved":
        models.check_not_written(edited, r)
    return edited


@contextmanager
def abliterated(
    model: models.CheckedBridge, direction: Float[Tensor, " d_model"], *, norm: Norm = "free"
) -> Iterator[Edit]:
    """A context in which the model itself cannot write along the direction; its value is the `Edit`, to be read.

    Afterwards the weights are the old ones, bit for bit, however the context ends. The old weights are kept until
    then. Arguments and errors as for `abliterate`; contexts nest, and are left in reverse order. Of two directions that
    are not orthogonal the second brings some of the first back: `project_out` one of the other first.

    Example:
        >>> with abliterated(model, direction) as edit:          # doctest: +SKIP
        ...     replies = models.generate(model, prompts, max_new_tokens=20)
    """
    r = directions.unit(directions.of_width(direction.detach(), models.d_model(model)))
    before = [(writer, writer.parameter) for writer in _writers(model, r)]
    try:
        for writer, old in before:
            new = nn.Parameter(old.detach().clone(), requires_grad=old.requires_grad)
            _remove(writer, new, norm)
            writer.put(new)  # a new parameter: what was tied to the old one keeps the old one
        if norm != "preserved":
            models.check_not_written(model, r)
        yield Edit(before)
    finally:
        for writer, old in before:
            writer.put(old)


@torch.no_grad()
def _remove(writer: _Writer, parameter: nn.Parameter, norm: Norm) -> None:
    """Write the edited matrix into `parameter`; rounding happens once, in the parameter's own dtype."""
    stored = writer.matrix(parameter)
    exact = stored.to(torch.promote_types(stored.dtype, torch.float32))  # the same memory, unless it is half
    u = writer.along.to(exact)
    if norm == "free" or writer.kind == "bias":
        exact.addr_(u, u @ exact, alpha=-1)
    elif norm == "preserved":
        _remove_and_keep_rows(writer.name, exact, u)
    elif norm == "vectors":
        _remove_and_keep_columns(writer.name, exact, u)
    else:
        raise ValueError(f"norm must be 'free', 'preserved' or 'vectors', not {norm!r}.")
    if exact.dtype != stored.dtype:
        stored.copy_(exact)


def _remove_and_keep_rows(name: str, weight: Float[Tensor, "d_model input"], u: Float[Tensor, " d_model"]) -> None:
    """W <- s * (W - a c^T) in place, in the notation at the top of this page."""
    n = _lengths(weight, 1)
    safe = torch.where(n > 0, n, 1)  # a row of zeros stays one
    c = (u / safe) @ weight
    # |w/n - u_i c|^2 of row i, where |w/n| = 1: 1 - 2 u_i (w/n . c) + u_i^2 |c|^2
    squares = 1 - 2 * u * (weight @ c) / safe + u.square() * (c @ c)
    _check_something_left(name, "row", squares, n > 0)
    weight.addr_(n * u, c, alpha=-1)
    weight.mul_(torch.where(n > 0, squares.clamp(min=0).rsqrt(), 1)[:, None])


def _remove_and_keep_columns(name: str, weight: Float[Tensor, "d_model input"], u: Float[Tensor, " d_model"]) -> None:
    """Take from every column its part along u and give it its old length: |w - (w . u) u|^2 = |w|^2 - (w . u)^2."""
    n = _lengths(weight, 0)
    c = u @ weight
    safe = torch.where(n > 0, n, 1)
    squares = 1 - (c / safe).square()
    _check_something_left(name, "column", squares, n > 0)
    weight.addr_(u, c, alpha=-1)
    weight.mul_(torch.where(n > 0, squares.clamp(min=0).rsqrt(), 1))


def _lengths(weight: Float[Tensor, "d_model input"], dim: int) -> Float[Tensor, " line"]:
    """Return the lengths of the rows (dim 1) or columns (dim 0).

    torch's norm across the memory takes 40 times as long as along it; both layouts occur, because an embedding is
    stored with one row for each token.
    """
    if weight.stride(dim) == 1:
        return weight.norm(dim=dim)
    stored = weight if dim == 0 else weight.T
    return sum(rows.square().sum(dim=0) for rows in stored.split(256)).sqrt()


def _check_something_left(name: str, line: str, squares: Tensor, counts: Tensor) -> None:
    gone = ((squares < 1e-6) & counts).nonzero()
    if len(gone):
        which = f"{line.capitalize()} {int(gone[0])} of {name}"
        raise ValueError(f'{which} is parallel to the direction, so nothing is left to rescale: use norm="free".')


def _effect(writer: _Writer, before: Float[Tensor, "d_model input"]) -> MatrixEdit:
    u = writer.along.to(before.device, torch.promote_types(before.dtype, torch.float32))
    after = writer.matrix(writer.parameter).to(u.dtype)
    before = before.to(u.dtype)
    was, now = (u @ before).norm(), (u @ after).norm()
    share = float(was / before.norm()) if before.any() else 0.0
    return MatrixEdit(writer.name, share, float(now / was) if was > 0 else 0.0)


# --- writers ------------------------------------------------------------------------------------------------


def _writers(model: models.CheckedBridge, r: Float[Tensor, " d_model"]) -> list[_Writer]:
    """Return every weight and bias that is to be edited, with what it must not write along."""
    if models.has_hooks(model):
        raise ValueError("The model has active hooks. Leave their context before you edit its weights.")
    found = []
    for at in [at for at in ("embed", "pos_embed") if at in model._modules]:
        found += _of_module(at, getattr(model, at).original_component, r)
    for layer, block in enumerate(model.blocks):
        for name, part, norm in (("attn", "o", "ln1"), ("mlp", "out", "ln2")):
            bridge = getattr(block, name, None)
            if bridge is None or part not in bridge.submodules:
                raise ValueError(f"blocks.{layer}.{name} has no single output matrix: try steering.ablate.")
            along = _before_norm(block, norm, r)
            found += _of_module(f"blocks.{layer}.{name}.{part}", getattr(bridge, part).original_component, along)
    return found


def _of_module(name: str, module: nn.Module, along: Float[Tensor, " d_model"]) -> list[_Writer]:
    every: tuple[Kind, ...] = ("weight", "bias")
    kinds = [kind for kind in every if getattr(module, kind, None) is not None]
    if any(getattr(module, kind).is_meta for kind in kinds):
        raise ValueError(f"The weights of {name} are on the device 'meta': they were never loaded.")
    return [_Writer(f"{name}.{kind}", module, kind, along) for kind in kinds]


@torch.no_grad()
def _before_norm(block: Any, norm: str, r: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
    """Return what may not be in a writer's output: r, or g * r at length 1 if a norm with the gain g follows."""
    after = block._modules.get(f"{norm}_post")
    first = block._modules.get("ln1")
    if after is None and first is not None and (first.name or "").startswith("post_"):
        after = block._modules[norm]  # OLMo 2 has no other norms than those after attention and MLP
    if after is None:
        return r
    ones = torch.ones(1, len(r), device=next(after.original_component.parameters()).device)
    gain = after.original_component(ones)[0]  # up to a factor, in every way to write an RMSNorm
    return directions.unit(gain.to(r) * r)


def _untie(model: models.CheckedBridge) -> None:
    """Give the unembedding a weight of its own, if it shares the embedding's."""
    embedding = model.embed.original_component
    if model.unembed.original_component.weight is embedding.weight:
        embedding.weight = nn.Parameter(embedding.weight.detach().clone(), requires_grad=False)
        config: Any = model.original_model.config
        config.tie_word_embeddings = False
