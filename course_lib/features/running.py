"""A dictionary over many prompts, in parts that fit into memory, after everything that could be wrong was checked."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from beartype import beartype
from jaxtyping import Float, jaxtyped
from safetensors import safe_open
from torch import Tensor
from tqdm import tqdm

from course_lib import caching, models

Dictionary = Annotated[torch.nn.Module, "a sae_lens SAE or transcoder"]
Weights = Literal["own", "any"]
"""Whether a dictionary of an organism may only be used on that organism, or on any model that fits in shape: an edited
copy, or the base model under the chat model's dictionary."""
BATCH_NUMBERS = 2**24
"""Most feature activations held at once, 64 MiB; a single prompt may need more."""


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True, eq=False)
class Part:
    """Some prompts of one length, all their tokens but the first."""

    indices: list[int]
    """Which of the caller's prompts these are."""
    read: Float[Tensor, "prompt pos d_in"]
    written: Float[Tensor, "prompt pos d_out"]
    """What the model has where the dictionary writes; for an sae the same as `read`."""
    activations: Float[Tensor, "prompt pos d_sae"]


def hooks(dictionary: Dictionary) -> tuple[str, str]:
    """Names of the hooks that a dictionary reads and writes.

    Raises:
        ValueError: Its metadata do not say.
    """
    about = dictionary.cfg.metadata
    if not about.hook_name:
        raise ValueError(
            "This dictionary does not say which activation it reads. Set dictionary.cfg.metadata.hook_name, for example "
            "to 'blocks.2.hook_resid_post'."
        )
    return about.hook_name, about.hook_name_out or about.hook_name


def d_sae(dictionary: Dictionary) -> int:
    """Number of features."""
    return dictionary.W_dec.shape[0]


def check(model: models.CheckedBridge, dictionary: Dictionary, weights: Weights) -> None:
    """Do nothing if the dictionary can be used on the model, else raise.

    Raises:
        ValueError: Hooks that the model does not have, another width, weights of the dictionary that are not finite, or
            (unless `weights` is "any") an organism's dictionary on another organism or an edited copy.
    """
    if weights not in ("own", "any"):
        raise ValueError(f"weights is 'own' or 'any', not {weights!r}.")
    models.check_hook_names(model, hooks(dictionary))
    width, sizes = models.d_model(model), (dictionary.W_enc.shape[0], dictionary.W_dec.shape[1])
    if sizes != (width, width):
        raise ValueError(
            f"The dictionary reads {sizes[0]} numbers and writes {sizes[1]}, this model's activations have {width}. "
            "Was it trained on another model?"
        )
    for name, parameter in dictionary.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ValueError(f"{name} of the dictionary holds a NaN or an infinite number. Load the dictionary again.")
    if weights == "own":
        _check_weights(model, str(dictionary.cfg.metadata.model_name))


def _check_weights(model: models.CheckedBridge, organism: str) -> None:
    """Organisms share their shape, so only their weights tell them apart. Of real models only the shape is compared."""
    if organism not in models.organism_names():
        return
    own = {n.replace("_original_component.", ""): w for n, w in model.original_model.state_dict().items()}
    with safe_open(models.weights_folder() / organism / "model.safetensors", framework="pt") as file:
        for name in file.keys():
            if name not in own or not torch.equal(file.get_tensor(name).to(own[name].dtype), own[name].cpu()):
                raise ValueError(
                    f"The dictionary was trained on {organism!r}, but {name} of this model has other weights. Load "
                    f"models.load({organism!r}), or pass weights='any' if you mean to read another model with it."
                )


def check_prompts(model: models.CheckedBridge, dictionary: Dictionary, prompts: models.Prompts) -> None:
    """Do nothing if the prompts can be run and begin as those the dictionary was trained on, else raise."""
    models.check_prompts(model, prompts)
    bos = model.tokenizer.bos_token_id
    own = model.tokenizer.init_kwargs.get("bos_token")  # the Bridge gives a tokenizer that has none its end token
    if dictionary.cfg.metadata.prepend_bos and own is not None:
        for number, prompt in enumerate(prompts):
            if prompt[0] != bos:
                raise ValueError(
                    f"Prompt {number} does not begin with {model.tokenizer.bos_token!r}, as all texts did on which the "
                    "dictionary was trained. Put it in front: [model.tokenizer.bos_token_id, *prompt]."
                )
    if max(len(prompt) for prompt in prompts) < 2:
        raise ValueError(
            "Every prompt is a single token, and the first token of a prompt is left out. Give longer ones."
        )


@torch.no_grad()
def parts(
    model: models.CheckedBridge, dictionary: Dictionary, prompts: models.Prompts, *, progress: bool, what: str
) -> Iterator[Part]:
    """Part after part, shortest prompts first, after `check` and `check_prompts`. Active hooks apply."""
    read_name, written_name = hooks(dictionary)
    names = list(dict.fromkeys((read_name, written_name)))
    groups = _groups([len(prompt) for prompt in prompts], d_sae(dictionary))
    with tqdm(total=len(prompts), desc=what, unit="prompt", disable=not progress) as bar:
        for members in groups:
            own = [prompts[i] for i in members]
            positions = list(range(1, len(own[0])))
            found = caching.harvest(model, own, hook_names=names, positions=positions, progress=False).values
            read, written = found[:, :, 0], found[:, :, -1]
            weight = dictionary.W_enc
            activations = dictionary.encode(read.to(weight.device, weight.dtype)).float().cpu()
            yield Part(members, read, written, activations)
            bar.update(len(members))


def _groups(lengths: list[int], features: int) -> Iterator[list[int]]:
    """Prompts of one length, and of no more than `BATCH_NUMBERS` activations; single tokens are left out."""
    by_length: dict[int, list[int]] = {}
    for number, length in enumerate(lengths):
        by_length.setdefault(length, []).append(number)
    by_length.pop(1, None)
    for length, members in sorted(by_length.items()):
        size = max(1, BATCH_NUMBERS // (length * features))
        yield from (members[start : start + size] for start in range(0, len(members), size))


def check_feature(number: int, n_features: int) -> None:
    """Do nothing if there is a feature of this number, else raise."""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < n_features:
        raise ValueError(f"There is no feature {number!r}: this dictionary has features 0 to {n_features - 1}.")


def token_id(strings: tuple[str, ...] | list[str], token: str | int) -> int:
    """Id of a token given as text or as an id.

    Raises:
        ValueError: No such token, with the nearest ones, or several that look alike.
    """
    if isinstance(token, int):
        if not 0 <= token < len(strings):
            raise ValueError(f"There is no token {token}: ids are 0 to {len(strings) - 1}.")
        return token
    ids = [number for number, string in enumerate(strings) if string == token]
    if len(ids) == 1:
        return ids[0]
    if ids:
        raise ValueError(f"{token!r} is the text of the tokens {ids}. Give the id of the one you mean.")
    near = difflib.get_close_matches(token, [s for s in strings if s.strip()], n=3, cutoff=0.5)
    hint = f"Nearest: {', '.join(map(repr, near))}." if near else "Nothing is near."
    raise ValueError(
        f"{token!r} is not one token of this model. {hint} Ask for a word of several tokens by one of its parts."
    )
