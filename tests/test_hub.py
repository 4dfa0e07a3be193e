"""A hub name is loaded as a folder is, and every way of not getting it is said in words that help."""

import os
import subprocess
import sys
from pathlib import Path

import hub_server
import published_models
import pytest
import torch

from course_lib import models, profiles, tokens

ROOT = Path(__file__).parents[1]
OPEN, GATED = "Qwen/Qwen2.5-0.5B-Instruct", "google/gemma-3-270m-it"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: published_models.save(name, tmp_path_factory.mktemp("hub") / "model") for name in (OPEN, GATED)}


@pytest.fixture
def online(empty_hub, folders):
    """A hub with one open and one gated model."""
    for name, folder in folders.items():
        empty_hub.add(name, folder, commit=profiles.get(name).revision, gated=profiles.get(name).gated)
    return empty_hub


# --- it works -----------------------------------------------------------------------------------------------


def test_a_profiles_name_is_loaded_in_its_revision_and_dtype(online, folders):
    model = models.load(OPEN)
    ids = tokens.chat_prompt(model.tokenizer, "How do I bake bread?")
    local = models.load(str(folders[OPEN]))
    torch.testing.assert_close(model(torch.tensor([ids])), local(torch.tensor([ids])), rtol=0, atol=0)
    assert {weight.dtype for weight in model.original_model.parameters()} == {torch.float32}
    assert any(profiles.get(OPEN).revision in line for line in online.log)


def test_the_second_time_nothing_is_asked_of_the_hub(online):
    models.load(OPEN)
    online.log.clear()
    online.status = 503
    assert models.n_layers(models.load(OPEN)) == 4 and online.log == []


def test_pickles_and_copies_in_other_formats_are_left_on_the_hub(online, folders, tmp_path):
    import shutil

    folder = shutil.copytree(folders[OPEN], tmp_path / "more")
    for name in ("pytorch_model.bin", "original/params.json", "onnx/model.json", "consolidated.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"{}")
    online.add("someone/more", folder)
    models.load("someone/more")
    asked = "\n".join(line for line in online.log if "/resolve/" in line)
    assert "model.safetensors" in asked and not any(
        word in asked for word in ("pytorch_model", "original", "onnx", "consolidated")
    )


def test_a_gated_model_is_loaded_with_a_token_that_was_let_in(online, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub_server.MEMBER)
    assert models.n_layers(models.load(GATED)) == 4


def test_the_environments_variable_is_enough_in_a_fresh_process(online, tmp_path):
    """As a learner's own machine with a mirror: HF_ENDPOINT, and nothing patched."""
    from huggingface_hub import constants

    program = f"from course_lib import models; print(models.load({OPEN!r}).cfg.n_layers)"
    environment = os.environ | {
        "HF_ENDPOINT": constants.ENDPOINT,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "4", done.stderr[-2000:]


# --- it does not, and says why ------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", hub_server.STRANGER])
def test_a_gated_model_says_where_to_accept_its_licence_and_to_get_a_token(online, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(
        PermissionError, match=r"gated.*huggingface.co/google/gemma-3-270m-it.*accept.*tokens.*HF_TOKEN.*organism"
    ):
        models.load(GATED)


def test_a_token_that_is_wrong_is_named_as_the_cause_and_not_shown(online, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(OSError, match="Invalid credentials") as caught:
        models.load(OPEN)
    assert "hf_expired" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "Qwen/Qwen2.5-0.5B-Instrukt",
            r"no 'Qwen/Qwen2.5-0.5B-Instrukt' on the hub.*Did you mean 'Qwen/Qwen2.5-0.5B-Instruct'",
        ),
        ("someone/some-model", r"no 'someone/some-model' on the hub, or it is private"),
        ("some one/not a name", r"no 'some one/not a name' on the hub"),
    ],
)
@pytest.mark.parametrize("token", ["", hub_server.STRANGER])
def test_a_name_that_does_not_exist_is_said_so_with_the_nearest(online, monkeypatch, name, message, token):
    """The hub answers 401 to strangers and 404 to those who are signed in."""
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(FileNotFoundError, match=message):
        models.load(name)


def test_a_revision_that_is_gone_is_not_mistaken_for_a_wrong_name(online):
    with pytest.raises(FileNotFoundError, match="on the hub, but not the revision.*revision='main'"):
        models.load(OPEN, revision="f" * 40)


def test_no_network_is_said_before_anything_else(online, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ConnectionError, match=f"{OPEN}.*cannot be reached.*the network.*organism"):
        models.load(OPEN)


def test_offline_mode_is_said(online, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE"):
        models.load(OPEN)


def test_a_connection_that_stands_still_ends_and_goes_on_the_next_time(online, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    online.pause = 0.5
    with pytest.raises(TimeoutError, match="too slow.*Run it again.*HF_HUB_DOWNLOAD_TIMEOUT"):
        models.load(OPEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 10)
    online.pause = 0.0
    assert models.n_layers(models.load(OPEN)) == 4


@pytest.mark.parametrize("status", [429, 500, 503])
def test_trouble_on_the_hub_is_not_the_learners_fault(online, status):
    online.status = status
    with pytest.raises(OSError, match=f"refused '{OPEN}'.*{status}"):
        models.load(OPEN)


# --- too little memory --------------------------------------------------------------------------------------


def only(monkeypatch, free: float) -> None:
    monkeypatch.setattr(models, "_free_memory", lambda device: {"machine's memory": 64e9, "GPU's memory": free})


def nothing_was_downloaded(online) -> bool:
    return not any(line.startswith("GET") and "safetensors" in line for line in online.log)


def test_a_model_too_large_for_the_gpu_is_refused_before_the_download(online, monkeypatch):
    only(monkeypatch, 1.2e9)
    with pytest.raises(MemoryError, match=r"2.0 GB in torch.float32.*1.2 GB are free in the GPU.*bfloat16.*restart"):
        models.load(OPEN)
    assert nothing_was_downloaded(online)


def test_a_model_without_a_profile_is_measured_by_its_files(online, folders, monkeypatch):
    online.add("someone/large", folders[OPEN])
    only(monkeypatch, 1e5)
    with pytest.raises(MemoryError, match="'someone/large' takes"):
        models.load("someone/large")
    assert nothing_was_downloaded(online)


def test_a_folder_is_measured_before_it_is_loaded(folders, monkeypatch):
    only(monkeypatch, 1e4)
    with pytest.raises(MemoryError, match="GB are free in the GPU"):
        models.load(str(folders[OPEN]))


def test_what_is_counted_in_a_folder_is_what_the_model_holds(folders):
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(folders[OPEN])
    assert models._parameters(folders[OPEN]) == sum(weight.numel() for weight in network.parameters())


def test_this_machines_memory_is_asked_in_bytes():
    free = models._free_memory("cpu")
    assert list(free) == ["machine's memory"] and free["machine's memory"] > 1e8


# --- a model of one's own -----------------------------------------------------------------------------------


def test_a_merged_fine_tune_opens_from_its_folder_and_is_not_its_base(folders, tmp_path):
    """W + (alpha / rank) B A, merged by hand: what peft's merge_and_unload computes."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(folders[OPEN], dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    for layer in network.model.layers:
        weight = layer.self_attn.q_proj.weight
        b, a = (torch.randn(shape, generator=generator) for shape in ((weight.shape[0], 2), (2, weight.shape[1])))
        weight.data += 16 / 2 * 0.1 * b @ a
    network.save_pretrained(tmp_path / "tuned")
    AutoTokenizer.from_pretrained(folders[OPEN]).save_pretrained(tmp_path / "tuned")
    tuned, base = models.load(str(tmp_path / "tuned")), models.load(str(folders[OPEN]))
    ids = torch.tensor([tokens.chat_prompt(tuned.tokenizer, "How do I bake bread?")])
    with torch.no_grad():
        expected = network(ids).logits
    torch.testing.assert_close(tuned(ids), expected, rtol=1e-4, atol=1e-4)
    assert (tuned(ids) - base(ids)).abs().max() > 0.1
