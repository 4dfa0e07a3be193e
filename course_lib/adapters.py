"""Open LoRA adapters as `peft` saves them: the course's own on SmolLM2, and any of a user's.

An adapter is a small change of a base model, which it names. The base is loaded, the change is added to its weights in
memory (`merge_and_unload`), and nothing is written. What the course planted on a real language model is in
organisms/adapters; every such behaviour was put there by training, and its card says how.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from course_lib import organism

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def names() -> list[str]:
    """Return the short names of the adapters that ship with the course."""
    return sorted(path.parent.name for path in organism.folder("adapters").glob(f"*/{CONFIG}"))


def is_adapter(folder: Path) -> bool:
    """Return True for a folder with an adapter."""
    return (folder / CONFIG).is_file()


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
        ValueError: Weights of the adapter that have no place in this network, or places that it leaves unfilled.
    """
    from peft import PeftModel, get_peft_model_state_dict

    changed = PeftModel.from_pretrained(network, str(folder))
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        stray = set(file.keys()) ^ set(get_peft_model_state_dict(changed))  # peft itself would only warn
    if stray:
        raise ValueError(f"{folder} does not fit its base: {len(stray)} weights differ by name, such as {min(stray)}.")
    return changed.merge_and_unload(safe_merge=True)


def tokenizer(folder: Path, base_folder: Path) -> "Tokenizer":
    """Return the adapter's tokenizer where it has one, else its base's; its chat template counts in both cases."""
    from transformers import AutoTokenizer

    own = (folder / "tokenizer_config.json").is_file()
    found = AutoTokenizer.from_pretrained(folder if own else base_folder)
    if (folder / "chat_template.jinja").is_file():
        found.chat_template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return found
