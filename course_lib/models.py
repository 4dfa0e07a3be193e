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
import hashlib
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Annotated

import torch
from beartype import beartype
from jaxtyping import Float, Int, jaxtyped
from safetensors import safe_open
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from course_lib import hub, organism, profiles

HookName = str | Callable[[str], bool]
Prompts = Annotated[Sequence, "token ids of each prompt; check_prompts explains what is wrong with them"]
Prompt = Annotated[Sequence, "token ids of one prompt"]


TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


class CheckedBridge(TransformerBridge):
    """A `TransformerBridge` that refuses hook names which do not exist. In all else it is TransformerLens."""

    @property
    def hook_dict(self):
        """Every hook point by name, aliases included."""
        return self.__dict__.get("_hooks_read") or super().hook_dict

    @contextlib.contextmanager
    def _reading_once(self) -> Iterator[None]:
        """The parent collects all hook points again for each hook that it sets, which takes longer than a short run."""
        before = self.__dict__.get("_hooks_read")
        self.__dict__["_hooks_read"] = self.hook_dict
        try:
            yield
        finally:
            self.__dict__["_hooks_read"] = before

    def hooks(self, fwd_hooks=(), bwd_hooks=(), **options):
        """A context in which the (hook name, function) pairs are active. Unknown names are a ValueError."""
        check_hook_names(self, [name for name, _ in (*fwd_hooks, *bwd_hooks)])
        return self._entered(super().hooks(list(fwd_hooks), list(bwd_hooks), **options))

    @contextlib.contextmanager
    def _entered(self, hooks) -> Iterator["CheckedBridge"]:
        with contextlib.ExitStack() as active:
            with self._reading_once():
                active.enter_context(hooks)
            yield self

    def run_with_hooks(self, input, fwd_hooks=(), bwd_hooks=(), **options):
        """What the model returns for `input` while the hooks are active. Unknown names are a ValueError."""
        with self._reading_once():
            check_hook_names(self, [name for name, _ in (*fwd_hooks, *bwd_hooks)])
            return super().run_with_hooks(input, list(fwd_hooks), list(bwd_hooks), **options)

    def run_with_cache(self, input, *args, names_filter=None, **options):
        """Output and cache of the hooks that `names_filter` names or accepts. Unknown names are a ValueError."""
        if names_filter is not None:
            check_hook_names(self, names_filter if isinstance(names_filter, list | tuple) else [names_filter])
        names_filter = list(names_filter) if isinstance(names_filter, tuple) else names_filter
        return super().run_with_cache(input, *args, names_filter=names_filter, **options)


@dataclass(frozen=True, eq=False)
class Batch:
    """Prompts that run together, padded on the right if their lengths differ."""

    indices: list[int]
    """Which of the caller's prompts these are."""
    lengths: list[int]
    """Number of real tokens in each row."""
    tokens: Int[Tensor, "batch pos"]


# --- load ---------------------------------------------------------------------------------------------------


def load(
    name: str, *, device: str | None = None, dtype: torch.dtype | None = None, revision: str | None = None
) -> CheckedBridge:
    """The model, ready to be hooked: evaluation mode, no gradients for weights, nothing folded or centred.

    Args:
        name: An organism (`organism_names()`), a folder with a Hugging Face checkpoint (a fine-tune of yours, a merged
            LoRA), or a name on the Hugging Face hub such as "Qwen/Qwen2.5-0.5B-Instruct". A folder never touches the
            network, and neither does a name whose files are in the hub's local cache.
        device: For example "cpu" or "cuda:0"; by default the GPU if there is one, and for an organism always the CPU, which is
            quick enough for it and where its dictionaries are.
        dtype: Number type of the weights; by default the profile's (`profiles.get`), or float32.
        revision: Commit or branch on the hub; by default the profile's, or "main".

    Raises:
        ValueError: An unknown name; a folder that is not a checkpoint, or whose weights are pickled; a file
            that differs from the checksum in the folder's lineage.json; a device that is not there, or a number type
            that is not a floating-point one.
        OSError: A hub name that is neither in the local cache nor can be downloaded, with the reason and the next step: gated,
            misspelled, no such revision, no network, too slow, disk full.
        MemoryError: The weights alone do not fit into the memory that is free. Said before the download where the size is
            known, and again before loading.
    """
    device, profile = device or _default_device(str(name)), profiles.known(str(name))
    dtype = dtype or getattr(torch, profile.dtype if profile else "float32")
    _check_device(device, dtype)
    folder = _folder(str(name), revision, device, dtype)
    _check_folder(folder)
    _check_memory(str(name), profile.parameters if profile else _parameters(folder), device, dtype)
    with quiet():
        bridge = TransformerBridge.boot_transformers(str(folder), device=device, dtype=dtype)
    bridge.__class__ = CheckedBridge  # adds no state: it only checks names before it calls its parent
    bridge.eval()
    bridge.original_model.requires_grad_(False)
    bridge.tokenizer.n_ids = bridge.cfg.d_vocab
    return bridge


def organism_names() -> list[str]:
    """Short names of the organisms that ship with the course."""
    return sorted(path.parent.name for path in weights_folder().glob("*/config.json"))


def _default_device(name: str) -> str:
    return "cuda" if torch.cuda.is_available() and name not in organism_names() else "cpu"


def _check_device(device: str, dtype: torch.dtype) -> None:
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating-point type such as torch.float32, not {dtype!r}.")
    kind, _, number = str(device).partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if not (number or "0").isdigit() or int(number or 0) >= there.get(kind, 0):
        found = [name for name, count in there.items() if count]
        raise ValueError(f"This machine has no device {device!r} for a model. It has: {', '.join(found)}.")


def weights_folder() -> Path:
    """Where the weights lie that ship with the course."""
    return organism.folder("weights")


def _folder(name: str, revision: str | None, device: str, dtype: torch.dtype) -> Path:
    """Where the checkpoint lies: an organism's folder, the given folder, or the hub's local copy."""
    if name in organism_names():
        folder = weights_folder() / name
        if not (folder / "lineage.json").is_file():
            raise ValueError(
                f"Organism {name!r} has no lineage.json, so its weights cannot be verified. "
                f"Restore the folder: git checkout -- {folder}"
            )
        return folder
    if Path(name).is_dir():
        return Path(name)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _download(name, revision, device, dtype)
    known = [*organism_names(), *profiles.names()]
    near = difflib.get_close_matches(name, known, n=1) or [
        full for full in known if full.lower().endswith(f"/{name.lower()}")
    ]
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ValueError(
        f"No organism and no folder is called {name!r}{hint} {_organisms_listed()} Models on "
        f"the Hugging Face hub are written owner/name, for example {profiles.names()[2]!r}."
    )


def _organisms_listed() -> str:
    return f"Organisms: {', '.join(organism_names()) or 'none installed'}."


def _download(name: str, revision: str | None, device: str, dtype: torch.dtype) -> Path:
    """The hub's files without its pickles, from the local cache when they are there."""
    profile = profiles.known(name)
    files = {
        "revision": revision or (profile.revision if profile else "main"),
        "files": ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"],
        "without": ["original/*", "onnx/*", "consolidated*"],
    }
    folder = hub.cached(name, **files)
    if folder is not None:
        return folder
    near = [] if profile else difflib.get_close_matches(name, profiles.names(), n=1)
    instead = f"{f'Did you mean {near[0]!r}? ' if near else ''}An organism needs no network. {_organisms_listed()}"
    sizes = hub.sizes(name, **files, instead=instead)
    stored = sum(size for file, size in sizes.items() if file.endswith(".safetensors"))
    _check_memory(name, profile.parameters if profile else stored // 4, device, dtype)  # a number takes 4 bytes at most
    return hub.snapshot(name, **files, instead=instead)


def _check_memory(name: str, parameters: int, device: str, dtype: torch.dtype) -> None:
    """Refuse weights that cannot fit. Activations come on top, so what passes may still be too large to work with."""
    needed, free = parameters * dtype.itemsize, _free_memory(device)
    place = min(free, key=free.get)
    if needed <= free[place]:
        return
    half = dtype.itemsize > 2 and needed / 2 <= free[place]
    fitting = [p for p in map(profiles.get, profiles.names()[1:]) if p.memory_gb * 1e9 < free[place]]
    steps = [
        "load it in half precision: models.load(name, dtype=torch.bfloat16)" if half else "",
        f"take a smaller model that fits here, such as {fitting[-1].name!r}"
        if fitting
        else "take an organism, such as 'chat'",
        "free what else is loaded (restart the kernels of other notebooks)",
    ]
    raise MemoryError(
        f"{name!r} has {parameters / 1e9:.2f} billion parameters, which take {needed / 1e9:.1f} GB in "
        f"{str(dtype).removeprefix('torch.')} before anything runs, and {free[place] / 1e9:.1f} GB are free in the {place}. "
        f"What to do: {'; or '.join(step for step in steps if step)}."
    )


def _free_memory(device: str) -> dict[str, int]:
    """Free bytes of every place that weights go through on their way to the device."""
    import psutil

    free = {"machine's memory": psutil.virtual_memory().available}
    if str(device).startswith("cuda"):
        free["GPU's memory"] = torch.cuda.mem_get_info(torch.device(device))[0]
    return free


def _parameters(folder: Path) -> int:
    """Numbers in the weights of a checkpoint, from the heads of its files; an output matrix that may be tied is left out."""
    shapes = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            shapes |= {key: weights.get_slice(key).get_shape() for key in weights.keys()}
    return sum(math.prod(shape) for key, shape in shapes.items() if key != "lm_head.weight")


def _check_folder(folder: Path) -> None:
    """Refuse what is not a safetensors checkpoint with a tokenizer, or not the one that was packaged."""
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder} holds a LoRA adapter, not a whole model. Merge it into its base with the package peft and save both: "
            "merged = PeftModel.from_pretrained(base, adapter).merge_and_unload(); merged.save_pretrained(new_folder); "
            "tokenizer.save_pretrained(new_folder). Then load new_folder."
        )
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no config.json, so it is not a Hugging Face checkpoint.")
    check_files(folder)
    if not any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        pickled = sorted(path.name for path in folder.glob("*.bin")) or ["no weights at all"]
        raise ValueError(
            f"{folder} holds {', '.join(pickled)} instead of safetensors weights. Pickled "
            "weights can run code when they are opened and are never loaded; convert them with "
            "save_pretrained(folder), which writes safetensors."
        )
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ValueError(f"{folder} holds no tokenizer. Save one into it: tokenizer.save_pretrained(folder).")


def check_files(folder: Path) -> None:
    """Do nothing if every file that the folder's lineage.json lists has its checksum, or there is none; else raise.

    Raises:
        ValueError: A file that is missing, truncated or altered, or weights that are not listed, by name.
    """
    lineage = folder / "lineage.json"
    if not lineage.is_file():
        return
    checksums = json.loads(lineage.read_text(encoding="utf-8"))["files"]
    unlisted = sorted(path.name for path in folder.glob("*.safetensors") if path.name not in checksums)
    if unlisted:
        raise ValueError(
            f"{folder / unlisted[0]} is not listed in lineage.json, so it cannot be verified. "
            "Remove it, or package the model again."
        )
    for file_name, expected in checksums.items():
        path = folder / file_name
        if not path.is_file():
            raise ValueError(f"{path} is missing, though lineage.json lists it. Restore it: git checkout -- {path}")
        if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise ValueError(
                f"{path} was truncated or altered: its checksum differs from the one in "
                f"lineage.json, so it is not loaded. Restore it: git checkout -- {path}"
            )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars and warnings about loading, which a learner cannot act on, off the page."""
    from transformers.utils import logging as transformers_logging

    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    disabled_below = logging.root.manager.disable
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled_below)
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


# --- hook names ---------------------------------------------------------------------------------------------


def hook_names(model: CheckedBridge) -> list[str]:
    """Every hook name of the model. Many hooks have two: `blocks.0.hook_in` is `blocks.0.hook_resid_pre`."""
    return list(model.hook_dict)


def check_hook_names(model: CheckedBridge, names: Sequence[HookName]) -> None:
    """Do nothing if all names exist (a function counts as a filter and must accept one), else raise.

    Raises:
        ValueError: A name that the model does not have, with the nearest names that it has.
    """
    known = dict.fromkeys(hook_names(model))
    for name in names:
        if callable(name):
            if not any(name(candidate) for candidate in known):
                raise ValueError(
                    "The filter accepts none of the model's hook names; list them with models.hook_names(model)."
                )
        elif name not in known:
            near = difflib.get_close_matches(str(name), known, n=3)
            raise ValueError(
                f"This model has no hook called {name!r}. "
                f"{'Nearest: ' + ', '.join(near) + '. ' if near else ''}It has layers 0 to "
                f"{n_layers(model) - 1}; list all names with models.hook_names(model)."
            )


def duplicate(model: CheckedBridge) -> CheckedBridge:
    """A copy of the model with weights and hooks of its own, for an edit or for tuning; needs as much memory again.

    `copy.deepcopy` alone is not enough: some hooks that the Bridge sets for itself would still write into the given model,
    and the copy would stop working when that model is gone.
    """
    copied = copy.deepcopy(model)
    for block in copied.blocks:
        block._teardown_capture_hooks()
        block._maybe_wire_capture_hooks()
    return copied


def n_layers(model: CheckedBridge) -> int:
    """Number of transformer blocks."""
    return model.cfg.n_layers


def d_model(model: CheckedBridge) -> int:
    """Width of the residual stream."""
    return model.cfg.d_model


def norm_weight(model: CheckedBridge, norm: torch.nn.Module) -> Float[Tensor, " d_model"]:
    """What an RMSNorm or LayerNorm of the model multiplies by, entry by entry, in float32: Gemma stores it less one."""
    offset = 1.0 if getattr(model.cfg, "rmsnorm_uses_offset", False) else 0.0
    return norm.weight.detach().float() + offset


# --- run ----------------------------------------------------------------------------------------------------


def check_prompts(model: CheckedBridge, prompts: Prompts, *, new_tokens: int = 0) -> None:
    """Do nothing if the prompts can be run, else raise before any work is done.

    Raises:
        ValueError: No prompts; one prompt instead of a list of them; text, a tensor or anything else instead of ids;
            an empty prompt; an id outside the vocabulary; a prompt that is too long, together with `new_tokens`, for
            the model.
    """
    if isinstance(prompts, Tensor) or not isinstance(prompts, Sequence):
        raise ValueError(
            f"Expected a list of prompts, each a list of token ids, not a {type(prompts).__name__}. A tensor: .tolist()."
        )
    if isinstance(prompts, str) or any(isinstance(prompt, str) for prompt in prompts):
        raise ValueError(
            "The prompts are text. Turn each into token ids first: tokens.chat_prompt(model.tokenizer, instruction)."
        )
    if len(prompts) == 0:
        raise ValueError("The list of prompts is empty.")
    if any(isinstance(prompt, int) for prompt in prompts):
        raise ValueError("This is one prompt (a list of ids), a list of prompts is expected. Write [prompt].")
    for number, prompt in enumerate(prompts):
        _check_are_ids(number, prompt)
        if len(prompt) == 0:
            raise ValueError(f"Prompt {number} is empty.")
        if len(prompt) + new_tokens > model.cfg.n_ctx:
            asked = f" and {new_tokens} new ones" if new_tokens else ""
            raise ValueError(
                f"Prompt {number} has {len(prompt)} tokens{asked}, but the model reads at most "
                f"{model.cfg.n_ctx}. Shorten it or leave it out."
            )
        if not 0 <= min(prompt) <= max(prompt) < model.cfg.d_vocab:
            raise ValueError(
                f"Prompt {number} has an id outside 0 to {model.cfg.d_vocab - 1}. Was it made "
                "with another model's tokenizer?"
            )


def _check_are_ids(number: int, prompt: object) -> None:
    is_list = isinstance(prompt, Sequence) and not isinstance(prompt, Tensor)
    other = [i for i in prompt if not isinstance(i, Integral) or isinstance(i, bool)] if is_list else [prompt]
    if other:
        raise ValueError(
            f"Prompt {number} is not a list of token ids: it holds {other[0]!r}. Text becomes ids by tokens.chat_prompt, a "
            "tensor by .tolist()."
        )


def batches(model: CheckedBridge, prompts: Prompts, *, batch_size: int, equal_lengths: bool) -> Iterator[Batch]:
    """The prompts sorted by length and cut into batches; with `equal_lengths` no batch needs padding.

    Without it, a batch that is half full still ends where the length changes: a little padding buys fuller
    batches. Padding stands on the right, where a causal model's real tokens cannot see it.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number of at least 1, not {batch_size}.")
    fewest = 1 if equal_lengths else max(1, batch_size // 2)
    group: list[int] = []
    for index in sorted(range(len(prompts)), key=lambda i: len(prompts[i])):
        longer = bool(group) and len(prompts[index]) > len(prompts[group[-1]])
        if len(group) == batch_size or (longer and len(group) >= fewest):
            yield _batch(model, prompts, group)
            group = []
        group.append(index)
    if group:
        yield _batch(model, prompts, group)


def _batch(model: CheckedBridge, prompts: Prompts, indices: list[int]) -> Batch:
    lengths = [len(prompts[i]) for i in indices]
    rows = [[*prompts[i], *[0] * (max(lengths) - len(prompts[i]))] for i in indices]
    return Batch(indices, lengths, torch.tensor(rows, device=model.cfg.device))


def has_hooks(model: CheckedBridge) -> bool:
    """Whether any hook is active. Then batches hold prompts of one length only, so that a hook which edits
    position 3 or -1 finds the same token there as it would if every prompt ran alone."""
    return any(point.fwd_hooks for point in model.hook_points())


def check_finite(
    model: CheckedBridge, prompts: Prompts, values: Float[Tensor, "prompt ..."], *, numbers: Sequence[int] | None = None
) -> None:
    """Do nothing if what came out of each prompt's run is finite, else raise.

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
        raise ValueError(
            f"The run of prompt {row if numbers is None else numbers[row]} is not finite (NaN or infinite), "
            f"first in {_first_not_finite(model, prompts[row])}. If the model runs in half precision, load it in float32 "
            "or bfloat16; otherwise look at the weights of that place, and at the active hooks."
        )


@torch.no_grad()
def _first_not_finite(model: CheckedBridge, prompt: Sequence[int]) -> str:
    """The first input or output of a module that is not finite when one prompt runs again; active hooks apply."""
    seen: list[str] = []

    def look(name: str, activation: object, hook: object) -> None:
        if not seen and isinstance(activation, Tensor) and not bool(torch.isfinite(activation).all()):
            seen.append(name)

    names = [name for name in hook_names(model) if name.endswith((".hook_in", ".hook_out"))]
    with model.hooks([(name, partial(look, name)) for name in names]):
        model.original_model(torch.tensor([list(prompt)], device=model.cfg.device), use_cache=False)
    return seen[0] if seen else "a place that is finite when the prompt runs alone"


@torch.no_grad()
def run_body(model: CheckedBridge, tokens: Int[Tensor, "batch pos"]) -> None:
    """Run the model for its hooks alone: up to the last norm, without the unembedding."""
    model.original_model.base_model(tokens, use_cache=False, output_attentions=False)


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def next_token_logits(
    model: CheckedBridge, prompts: Prompts, *, batch_size: int = 64
) -> Float[Tensor, "prompt d_vocab"]:
    """Logits for the token that follows each prompt, in the order of the prompts.

    Active hooks apply. Only the last position is unembedded. At least float32.

    Raises:
        ValueError: Prompts that cannot be run (`check_prompts`); logits that are not finite (`check_finite`).
    """
    check_prompts(model, prompts)
    logits: list[Tensor] = [torch.empty(0)] * len(prompts)
    for batch in batches(model, prompts, batch_size=batch_size, equal_lengths=has_hooks(model)):
        ends = sorted(set(batch.lengths))
        keep = torch.tensor([end - 1 for end in ends], device=batch.tokens.device)
        kept = model.original_model(batch.tokens, use_cache=False, output_attentions=False, logits_to_keep=keep).logits
        kept = kept.to("cpu", torch.promote_types(kept.dtype, torch.float32))
        for row, (index, length) in enumerate(zip(batch.indices, batch.lengths, strict=True)):
            logits[index] = kept[row, ends.index(length)]
    check_finite(model, prompts, torch.stack(logits))
    return torch.stack(logits)


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def generate(model: CheckedBridge, prompts: Prompts, *, max_new_tokens: int, batch_size: int = 64) -> list[list[int]]:
    """The model's greedy reply to each prompt (the likeliest token each time): its new ids, prompts in order.

    A reply ends with the model's end token, which is kept: a reply without it was cut at `max_new_tokens`.
    Active hooks apply. Prompts of one length run together without padding, so a reply is the one the prompt
    gets alone.

    Raises:
        ValueError: Prompts that cannot be run (`check_prompts`), fewer than one new token asked for; logits that are
            not finite (`check_finite`).
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, not {max_new_tokens}.")
    check_prompts(model, prompts, new_tokens=max_new_tokens)
    replies: list[list[int]] = [[]] * len(prompts)
    for batch in batches(model, prompts, batch_size=batch_size, equal_lengths=True):
        for index, reply in zip(batch.indices, _greedy(model, batch, max_new_tokens), strict=True):
            replies[index] = reply
    return replies


@torch.no_grad()
def reply_logits(
    model: CheckedBridge, prompts: Prompts, replies: Sequence[Sequence[int]], *, batch_size: int = 64
) -> list[Float[Tensor, "token d_vocab"]]:
    """Logits from which each token of a given reply is predicted: row t stands before token t. On the CPU, at least float32.

    The reply is read as `generate` writes it, the prompt once and then token by token, so that active hooks do the same
    as while generating: an edit at the prompt's last token stays there.

    Raises:
        ValueError: Prompts that cannot be run, not one reply for each, or an empty reply.
    """
    check_prompts(model, prompts)
    if len(replies) != len(prompts) or not all(len(reply) for reply in replies):
        raise ValueError(
            f"{len(prompts)} prompts need as many replies of at least one token; got {list(map(len, replies))}."
        )
    check_prompts(model, prompts, new_tokens=max(map(len, replies)))
    found: list[Tensor] = [torch.empty(0)] * len(prompts)
    for batch in batches(model, prompts, batch_size=batch_size, equal_lengths=True):
        said = [list(replies[index]) for index in batch.indices]
        rows = torch.stack(list(_forced(model, batch.tokens, said)), dim=1)
        for index, reply, logits in zip(batch.indices, said, rows, strict=True):
            found[index] = logits[: len(reply)]
    return found


def _forced(model: CheckedBridge, tokens: Int[Tensor, "batch pos"], replies: list[list[int]]) -> Iterator[Tensor]:
    """Next-token logits after the prompt and after each token of the longest reply but the last."""
    cache = None
    for step in range(max(map(len, replies))):
        output = model.original_model(
            tokens, past_key_values=cache, use_cache=True, logits_to_keep=1, output_attentions=False
        )
        kept, cache = output.logits[:, -1], output.past_key_values
        yield kept.to("cpu", torch.promote_types(kept.dtype, torch.float32))
        tokens = torch.tensor([[reply[step] if step < len(reply) else 0] for reply in replies], device=tokens.device)


def _greedy(model: CheckedBridge, batch: Batch, max_new_tokens: int) -> list[list[int]]:
    stops = torch.tensor(sorted(stop_ids(model)), device=batch.tokens.device)
    cache, chosen, columns = None, batch.tokens, []
    ended = torch.zeros(len(chosen), dtype=torch.bool, device=chosen.device)
    while len(columns) < max_new_tokens and not ended.all():
        output = model.original_model(
            chosen, past_key_values=cache, use_cache=True, logits_to_keep=1, output_attentions=False
        )
        if not torch.isfinite(output.logits).all():  # all that was read so far is put together only to say where
            check_finite(model, torch.cat([batch.tokens, *columns], dim=1), output.logits, numbers=batch.indices)
        cache, chosen = output.past_key_values, output.logits[:, -1].argmax(dim=-1, keepdim=True)
        columns.append(chosen)
        ended |= torch.isin(chosen[:, 0], stops)
    return [_until_stop(row, set(stops.tolist())) for row in torch.cat(columns, dim=1).tolist()]


def _until_stop(ids: list[int], stops: set[int]) -> list[int]:
    ends = [position for position, token_id in enumerate(ids) if token_id in stops]
    return ids[: ends[0] + 1] if ends else ids


def stop_ids(model: CheckedBridge) -> set[int]:
    """Tokens that end a reply: of the tokenizer and of the generation settings (published chat models may have several)."""
    configured = model.original_model.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    return {token_id for token_id in (*listed, model.tokenizer.eos_token_id) if token_id is not None}
