"""The two ways to harvest: into memory, and into a folder."""

import importlib.metadata
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from course_lib import models, store, tokens
from course_lib.caching.activations import Activations, StoredActivations
from course_lib.caching.running import Request, Runner

SHARD_PROMPTS = 256
"""Most prompts in one shard of a stored harvest: what a crash can cost."""
SHARD_BYTES = 256 * 2**20
"""Most bytes in one shard, which is held in memory until it is full."""
VERSIONS = ("torch", "transformers", "transformer_lens")
"""Libraries whose version is part of a stored harvest's key."""


def harvest(
    model: models.CheckedBridge,
    prompts: models.Prompts,
    *,
    hook_names: Sequence[str] | None = None,
    positions: Sequence[int | str] | Sequence[Sequence[int]] = ("last",),
    batch_size: int = 64,
    max_memory: int | None = None,
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
        batch_size: Prompts run at once at most. Where the device runs out of memory, the batch is halved.
        max_memory: Bytes that the activations of one batch may take, beside the weights and the result; batches
            are made smaller to fit. Estimated from the model's shape, on the safe side for usual architectures.
        progress: Show a progress bar.

    Raises:
        ValueError: Before any work: prompts that cannot be run (`models.check_prompts`), an unknown hook
            name, a position outside a prompt, a budget that is too small for the longest prompt. During the
            work: an activation of another shape, or one that is not finite, with its hook and prompt.
        torch.OutOfMemoryError: A prompt does not fit, even alone.
    """
    request = _request(model, prompts, hook_names, positions)
    runner, values = Runner(model, prompts, request, batch_size, max_memory), None
    bar = tqdm(total=len(prompts), desc="harvest", unit="prompt", disable=not progress)
    with bar, runner.hooks():
        for indices, kept in runner.run(range(len(prompts))):
            values = kept.new_empty(len(prompts), *kept.shape[1:]) if values is None else values
            values[indices] = kept
            bar.update(len(indices))
    return Activations(values, request.names, request.labels)


def stored_harvest(
    model: models.CheckedBridge,
    prompts: models.Prompts,
    *,
    folder: str | Path,
    hook_names: Sequence[str] | None = None,
    positions: Sequence[int | str] | Sequence[Sequence[int]] = ("last",),
    dtype: torch.dtype = torch.float32,
    batch_size: int = 64,
    max_memory: int | None = None,
    progress: bool = True,
) -> StoredActivations:
    """The activations of `harvest`, kept in `folder`; what lies there already is not computed again.

    What is stored is found again by a hash of the model's weights and settings, the prompts, hooks, positions,
    `dtype` and library versions. After a crash the same call goes on where it stopped, to the same bits if
    `batch_size` and device are the same too (sums are taken in another order otherwise). Any number of
    processes may ask for the same at once; under `accelerate launch` they divide the work.

    Args:
        folder: Where to; each request gets a folder of its own inside.
        dtype: Number type on disk; half precision halves the space. What is read is float32 again.
        model, prompts, hook_names, positions, batch_size, max_memory, progress: As for `harvest`. A shard in the
            making takes up to `SHARD_BYTES` more.

    Raises:
        ValueError: As for `harvest`; active hooks, which no key describes; a shard that is damaged or belongs to
            something else, with its name.
    """
    request = _request(model, prompts, hook_names, positions)
    if not dtype.is_floating_point:
        raise ValueError(f"Activations are not whole numbers: dtype must be a floating-point type, not {dtype}.")
    if models.has_hooks(model):
        raise ValueError(
            "The model has active hooks, whose effect could not be told apart on disk from activations without "
            "them. Use harvest, or edit the weights: course_lib.abliteration."
        )
    members = _members(model, prompts, request, dtype)
    shards = store.Shards(folder, _facts(model, prompts, request, dtype, members), len(members))
    runner = Runner(model, prompts, request, batch_size, max_memory)
    done = len(prompts) - sum(len(members[number]) for number in shards.missing())
    bar = tqdm(total=len(prompts), initial=done, desc="harvest", unit="prompt", disable=not progress)
    with bar, runner.hooks():
        for number in _own_share(model, shards):
            shards.write(number, _as(dtype, _shard(runner, members[number])))
            bar.update(len(members[number]))
    return StoredActivations(request.names, request.labels, len(prompts), shards, members)


def _request(
    model: models.CheckedBridge,
    prompts: models.Prompts,
    hook_names: Sequence[str] | None,
    positions: Sequence[int | str] | Sequence[Sequence[int]],
) -> Request:
    models.check_prompts(model, prompts)
    names = tuple(hook_names) if hook_names is not None else _resid_pre_names(model)
    if (
        not names
        or len(set(names)) < len(names)
        or isinstance(hook_names, str)
        or not all(isinstance(n, str) for n in names)
    ):
        raise ValueError(f"hook_names must be a list of different names, at least one; got {hook_names!r}.")
    models.check_hook_names(model, names)
    return Request(names, *_resolve_positions(model, prompts, positions))


def _resid_pre_names(model: models.CheckedBridge) -> tuple[str, ...]:
    return tuple(f"blocks.{layer}.hook_resid_pre" for layer in range(models.n_layers(model)))


def _resolve_positions(
    model: models.CheckedBridge, prompts: models.Prompts, positions: Sequence[int | str] | Sequence[Sequence[int]]
) -> tuple[tuple[int | str, ...], Int[Tensor, "prompt position"]]:
    """Labels of the position axis, and for each prompt the token indices that they stand for."""
    if isinstance(positions, str) or not isinstance(positions, Sequence) or len(positions) == 0:
        raise ValueError(f"positions must be a list of at least one position, such as ['last']; got {positions!r}.")
    own_lists = isinstance(positions[0], Sequence) and not isinstance(positions[0], str)
    if own_lists and len(positions) != len(prompts):
        raise ValueError(f"{len(positions)} lists of positions were given for {len(prompts)} prompts.")
    rows = positions if own_lists else [positions] * len(prompts)
    if len({len(row) for row in rows}) != 1 or len(rows[0]) == 0:
        raise ValueError("Every prompt needs the same number of positions, at least one.")
    indices = []
    for number, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        try:
            indices.append([tokens.position_index(model.tokenizer, prompt, position) for position in row])
        except ValueError as error:
            raise ValueError(f"Prompt {number}: {error}") from error
    labels = tuple(range(len(rows[0]))) if own_lists else tuple(positions)
    return labels, torch.tensor(indices)


# --- shards -------------------------------------------------------------------------------------------------


def _members(
    model: models.CheckedBridge, prompts: models.Prompts, request: Request, dtype: torch.dtype
) -> tuple[tuple[int, ...], ...]:
    """Which prompts each shard holds: sorted by length and cut. Depends on the request alone."""
    row = request.wanted.shape[1] * len(request.names) * models.d_model(model) * dtype.itemsize
    size = max(1, min(SHARD_PROMPTS, SHARD_BYTES // row))
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    return tuple(tuple(order[start : start + size]) for start in range(0, len(order), size))


def _facts(
    model: models.CheckedBridge,
    prompts: models.Prompts,
    request: Request,
    dtype: torch.dtype,
    members: tuple[tuple[int, ...], ...],
) -> dict[str, object]:
    """Everything that decides what is stored."""
    return {
        "model": store.fingerprint(model.original_model),
        "prompts": store.key_of({"ids": [[int(token_id) for token_id in prompt] for prompt in prompts]}),
        "positions": store.key_of({"indices": request.wanted.tolist()}),
        "hook_names": list(request.names),
        "dtype": str(dtype),
        "shard_sizes": [len(part) for part in members],
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
    }


def _own_share(model: models.CheckedBridge, shards: store.Shards) -> Iterator[int]:
    """Numbers of the shards that this process is to compute, each asked for only when its turn comes.

    Processes of one `accelerate launch` take every n-th shard, long prompts and short ones alike, and wait for
    each other at the end. Processes that know nothing of each other begin at random places.
    """
    from accelerate import PartialState

    team = PartialState(cpu=torch.device(model.cfg.device).type == "cpu")
    if team.num_processes > 1:
        dealt = [n for first in range(team.num_processes) for n in range(first, shards.count, team.num_processes)]
        with team.split_between_processes(dealt) as own:
            yield from (number for number in own if not shards.path(number).exists())
        team.wait_for_everyone()
    start = secrets.randbelow(shards.count)
    for number in (*range(start, shards.count), *range(start)):
        if not shards.path(number).exists():
            yield number


def _shard(runner: Runner, members: tuple[int, ...]) -> Float[Tensor, "part position hook d_model"]:
    """The activations of one shard, in the order of its members."""
    values, row = None, {prompt: number for number, prompt in enumerate(members)}
    for indices, kept in runner.run(members):
        values = kept.new_empty(len(members), *kept.shape[1:]) if values is None else values
        values[[row[index] for index in indices]] = kept
    return values


def _as(dtype: torch.dtype, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    rounded = values.to(dtype)
    if not bool(torch.isfinite(rounded).all()):
        raise ValueError(
            f"Activations up to {float(values.abs().max()):,.0f} are too large for {dtype}. Store them as "
            "torch.bfloat16 or torch.float32."
        )
    return rounded
