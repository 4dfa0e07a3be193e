"""Open checkpoints whole or not at all, and LoRA adapters as `peft` saves them: the course's own, and any of a user's.

An adapter is a small change of a base model, which it names. The base is loaded, the change is added to its weights in
memory (`merge_and_unload`), and nothing is written. What the course planted on a real language model is in
organisms/adapters; every such behaviour was put there by training, and its card says how.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor

from course_lib import organism

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ROUNDED = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}
"""By how much of the largest number rounding may move one, by dtype of the weights."""
TOLD: Any = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"""With these, transformers hands over what does not fit, and `check_keys` says it."""
SAMPLE = 9
"""Tokens of the prompt on which a model is compared with plain transformers when it is loaded."""


def names() -> list[str]:
    """Return the short names of the adapters that ship with the course."""
    return sorted(path.parent.name for path in organism.folder("adapters").glob(f"*/{CONFIG}"))


def base(folder: Path) -> str:
    """Return the name or folder of the model that the adapter changes.

    Raises:
        ValueError: Pickled weights, or none; a configuration without a base.
    """
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} has no {WEIGHTS}. Pickles can run code, and are never loaded.")
    name = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not name:
        raise ValueError(f"{folder / CONFIG} names no base model: write it there as base_model_name_or_path.")
    return str(name)


def merged(network: Any, folder: Path) -> Any:
    """Return the network with the adapter's change added to its weights.

    Raises:
        ValueError: Weights of the adapter that have no place in this network, or places that it leaves unfilled; a change
            that is none of weights, or one that the merged network computes otherwise (of a matrix that is used twice).
    """
    from peft import PeftModel, get_peft_model_state_dict

    try:
        changed: Any = PeftModel.from_pretrained(network, str(folder))
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            stray = set(file.keys()) ^ set(get_peft_model_state_dict(changed))  # peft itself would only warn
        right = sample_logits(changed)
        whole = changed if stray else changed.merge_and_unload(safe_merge=True)
    except (RuntimeError, AttributeError) as error:  # other shapes; prompt tuning, which has nothing to merge
        raise ValueError(f"{folder} does not fit its base, or is no LoRA: {' '.join(str(error).split())}") from error
    if stray:
        raise ValueError(f"{folder} does not fit its base: {len(stray)} weights differ by name, such as {min(stray)}.")
    if differ(sample_logits(whole), right, whole.dtype):
        raise ValueError(f"{folder} cannot be merged into its base: it changes what is used twice (tied or copied).")
    return whole


@dataclass
class Checkpoint:
    """The checkpoint's own class in transformers, which would only warn of weights that are missing, and draw them."""

    adapter: Path | None
    compared: bool
    """Whether the Bridge's numbers are to be compared with this network's own."""
    logits: Any = None
    """[pos, d_vocab], of the sample prompt, before the Bridge puts its own modules into the network."""

    def from_pretrained(self, folder: str, **options: Any) -> Any:
        """Return the plain network with every weight from the folder, the adapter's change added.

        Raises:
            ValueError: A model that reads more than text; weights that are missing or have no place.
        """
        from transformer_lens.model_bridge.sources import transformers as sources

        architecture = sources.determine_architecture_from_hf_config(options["config"])
        if any(hasattr(options["config"], part) for part in ("vision_config", "audio_config")):
            raise ValueError(f"{folder} reads pictures or sound beside text ({architecture}): save its text part.")
        if getattr(options["config"], "transformers_weights", None):  # which may be a pickle
            raise ValueError(f"{folder} names its weights in config.json (transformers_weights): remove it there.")
        model_class = sources.get_hf_model_class_for_architecture(architecture)
        network, about = model_class.from_pretrained(folder, **TOLD, **options)
        check_keys(folder, about)
        network = merged(network, self.adapter) if self.adapter else network
        if self.compared:
            self.logits = sample_logits(network)
        return network


def check_keys(folder: str, about: dict[str, Any]) -> None:
    """Refuse a checkpoint whose weights are not those of the model, and name what a prefix may explain."""
    missing, unexpected = set(about["missing_keys"]), set(about["unexpected_keys"])
    if shapes := sorted(about["mismatched_keys"]):
        raise ValueError(f"{folder} has {len(shapes)} weights of other shapes than its config says: {shapes[:2]}.")
    if not missing and not unexpected:
        return
    prefixes = {name.removesuffix(key) for key in missing for name in unexpected if name.endswith(f".{key}")}
    what = [f"no weights for {', '.join(sorted(missing)[:4])}"] if missing else []
    what += [f"weights that the model has no place for: {', '.join(sorted(unexpected)[:4])}"] if unexpected else []
    hint = f" Its names begin with {prefixes.pop()!r}: save it without." if len(prefixes) == 1 else ""
    raise ValueError(f"{folder} has {' and '.join(what)} ({len(missing)} and {len(unexpected)} in all).{hint}")


def not_saved(*folder: Any, **options: Any) -> None:
    """Refuse to save: the Bridge has put modules of its own into the network, and edited weights stay in memory."""
    what = "The course saves no model: what it edits stays in memory, and the Bridge's own modules are no checkpoint."
    raise ValueError(f"{what} A network that you train is saved by transformers before it is loaded here.")


def sample_ids(d_vocab: int) -> list[int]:
    """Return some ids of any vocabulary, always the same."""
    return torch.randint(d_vocab, (SAMPLE,), generator=torch.Generator().manual_seed(0)).tolist()


@torch.no_grad()
def sample_logits(network: Any) -> Tensor:
    """Return a plain network's logits, [pos, d_vocab], of the sample prompt."""
    ids = torch.tensor([sample_ids(network.config.get_text_config().vocab_size)], device=network.device)
    return network.eval()(ids, use_cache=False).logits[0].float().cpu()


def differ(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Whether logits differ by more than the rounding of weights of this dtype."""
    return not float((found - expected).abs().max()) <= ROUNDED[dtype] * float(expected.abs().max())  # a NaN differs


def tokenizer(folder: Path, base_folder: Path) -> "Tokenizer":
    """Return the adapter's tokenizer where it has one, else its base's; its chat template counts in both cases."""
    from transformers import AutoTokenizer

    own = (folder / "tokenizer_config.json").is_file()
    found = AutoTokenizer.from_pretrained(folder if own else base_folder)
    if (folder / "chat_template.jinja").is_file():
        found.chat_template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return found
