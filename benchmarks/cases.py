"""The models and prompts that are measured: a shipped organism, and a random model of a more usual size."""

import random
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers

from course_lib import data, models, tokens

ANSWER = "sure."


@dataclass(frozen=True)
class Setting:
    """What the command line asked for."""

    device: str = "cpu"
    quick: bool = False
    repeats: int = 5
    peers: bool = False


@dataclass(frozen=True, eq=False)
class Case:
    """A model with prompts of mixed length."""

    name: str
    folder: str
    model: models.CheckedBridge
    prompts: list[list[int]]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.prompts))


def organism(setting: Setting) -> Case:
    """`chat` with 512 + 512 training requests, each after none to three earlier ones: prompts of mixed length."""
    name, n = ("chat-32", 8) if setting.quick else ("chat", 512)
    model, draw = models.load(name, device=setting.device), random.Random(0)
    asked = [text for kind in ("harmful", "harmless") for text in data.load(kind, split="train", n=n).texts]
    prompts = []
    for text in asked:
        before = draw.sample(asked, draw.randint(0, 3))
        turns = [turn for earlier in before for turn in (("user", earlier), ("assistant", ANSWER))]
        messages = [{"role": role, "content": content} for role, content in (*turns, ("user", text))]
        prompts.append(tokens.chat_prompt(model.tokenizer, messages))
    return Case(name, str(models.weights_folder() / name), model, prompts)


def random_llama(setting: Setting) -> Case:
    """A Llama with random weights, made here and thrown away, with prompts of 8 to 64 random tokens."""
    shape = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 6, "vocab_size": 32000}
    if setting.quick:
        shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 1098}
    torch.manual_seed(0)
    config = transformers.LlamaConfig(num_attention_heads=8, num_key_value_heads=8, **shape)
    name = f"random Llama {shape['num_hidden_layers']} x {shape['hidden_size']}, vocabulary {shape['vocab_size']}"
    return of_random_weights(
        name, lambda: transformers.LlamaForCausalLM(config), 8 if setting.quick else 128, setting.device
    )


def of_random_weights(name: str, build: Callable[[], transformers.PreTrainedModel], n: int, device: str) -> Case:
    """What `build` makes, saved and loaded again, with n prompts of 8 to 64 random tokens. The folder goes when the case does."""
    folder, network = tempfile.mkdtemp(prefix="benchmarks-"), build()
    dtype = network.dtype
    network.save_pretrained(folder)
    del network  # before the same is loaded once more
    transformers.AutoTokenizer.from_pretrained(models.weights_folder() / "chat").save_pretrained(folder)
    draw = random.Random(0)
    prompts = [[draw.randrange(7, 1000) for _ in range(draw.randint(8, 64))] for _ in range(n)]
    case = Case(name, folder, models.load(folder, device=device, dtype=dtype), prompts)
    weakref.finalize(case, shutil.rmtree, folder)
    return case
