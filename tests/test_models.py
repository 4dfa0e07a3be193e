"""Loading, verification, hook names, and batches: what a prompt gets in a batch is what it gets alone."""

import gc
import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge

from course_lib import adapters, caching, models, tuning


def full_logits(model, prompt):
    """Logits of one prompt at its last position, by the model's own unbatched forward pass."""
    with torch.no_grad():
        return model(torch.tensor([prompt]))[0, -1]


def greedy_loop(model, prompt, max_new_tokens):
    """The reply by the plainest way: the whole text again for every new token, no cache, no batch."""
    ids = list(prompt)
    while len(ids) < len(prompt) + max_new_tokens:
        ids.append(int(full_logits(model, ids).argmax()))
        if ids[-1] == model.tokenizer.eos_token_id:
            break
    return ids[len(prompt) :]


@pytest.fixture
def copy(checkpoint, tmp_path):
    """A copy of the checkpoint that a test may damage."""
    return shutil.copytree(checkpoint, tmp_path / "copy")


@pytest.fixture
def organisms(checkpoint, tmp_path, monkeypatch):
    """A folder of organisms with one member, `chat`."""
    shutil.copytree(checkpoint, tmp_path / "weights" / "chat")
    monkeypatch.setattr(models, "weights_folder", lambda: tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise OSError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# --- load ---------------------------------------------------------------------------------------------------


def test_a_loaded_model_computes_what_transformers_computes(model, checkpoint, prompts):
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager")
    for prompt in prompts:
        ids = torch.tensor([prompt])
        torch.testing.assert_close(model(ids), reference(ids).logits.detach(), rtol=1e-4, atol=1e-4)


def test_a_loaded_model_is_in_float32_evaluation_mode_without_gradients(model):
    assert not model.training and not model.original_model.training
    assert {weight.dtype for weight in model.original_model.parameters()} == {torch.float32}
    assert not any(weight.requires_grad for weight in model.original_model.parameters())


def test_another_dtype_may_be_asked_for(checkpoint):
    loaded = models.load(str(checkpoint), dtype=torch.bfloat16)
    assert {weight.dtype for weight in loaded.original_model.parameters()} == {torch.bfloat16}


def test_size_of_the_model(model):
    assert (models.n_layers(model), models.d_model(model)) == (4, 32)


def test_a_folder_is_loaded_without_network_and_without_a_word(copy, no_network, capfd):
    models.load(str(copy))
    assert capfd.readouterr() == ("", "")


def test_loading_leaves_the_log_levels_of_others_alone(checkpoint):
    import logging

    from transformers.utils import logging as transformers_logging

    models.load(str(checkpoint))
    assert transformers_logging.is_progress_bar_enabled() and logging.root.manager.disable == 0


def test_beside_a_gpu_an_organism_stays_where_its_dictionaries_are_and_other_models_go_there(checkpoint, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert str(models.load("chat-32").cfg.device) == "cpu"
    with pytest.raises((RuntimeError, AssertionError), match="(?i)cuda|nvidia"):  # there is none here: it was asked for
        models.load(checkpoint)


def test_an_organism_is_loaded_by_its_short_name(organisms, no_network):
    assert models.organism_names() == ["chat"]
    assert models.load("chat").cfg.n_layers == 4


def test_an_unknown_name_is_answered_with_the_known_ones(organisms):
    with pytest.raises(ValueError, match="'chatt'. Organisms: chat.*owner/name.*Qwen/Qwen2.5-0.5B-Instruct"):
        models.load("chatt")


def test_an_organism_that_cannot_be_verified_is_refused(organisms):
    (organisms / "chat" / "lineage.json").unlink()
    with pytest.raises(ValueError, match="no lineage.json.*git checkout"):
        models.load("chat")


@pytest.mark.parametrize("file_name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_an_altered_file_is_refused_by_name(copy, file_name):
    content = bytearray((copy / file_name).read_bytes())
    content[-2] ^= 1
    (copy / file_name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{file_name} is missing or altered.*git checkout"):
        models.load(str(copy))


def test_truncated_weights_are_refused_by_name(copy):
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="model.safetensors is missing or altered"):
        models.load(str(copy))


def test_a_missing_file_is_refused_by_name(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="model.safetensors is missing or altered"):
        models.load(str(copy))


def test_weights_that_the_lineage_does_not_list_are_refused(copy):
    lineage = json.loads((copy / "lineage.json").read_text())
    del lineage["files"]["model.safetensors"]
    (copy / "lineage.json").write_text(json.dumps(lineage))
    with pytest.raises(ValueError, match="model.safetensors is not listed in lineage.json"):
        models.load(str(copy))


def test_pickled_weights_are_never_opened(copy):
    (copy / "lineage.json").unlink()
    (copy / "model.safetensors").rename(copy / "other.safetensors")  # not what transformers would open
    (copy / "pytorch_model.bin").write_bytes(b"not opened, so it need not be a pickle")
    with pytest.raises(ValueError, match="no safetensors weights.*never loaded"):
        models.load(str(copy))


def test_weights_that_are_missing_or_have_other_names_are_not_drawn_at_random(copy):
    """transformers fills them with random numbers and only warns: the model would be silently another."""
    from safetensors.torch import load_file, save_file

    (copy / "lineage.json").unlink()
    weights = load_file(copy / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.base_layer.weight"] = weights.pop("model.layers.1.mlp.down_proj.weight")
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="no weights for model.layers.1.mlp.down_proj.weight"):
        models.load(str(copy))


def test_a_folder_whose_letters_python_was_started_without_is_said_in_words_that_can_be_printed():
    folder = Path(os.fsdecode("kürs".encode("latin-1")) if os.name != "nt" else "k\udcfcrs")
    with pytest.raises(ValueError, match="Set PYTHONUTF8=1") as refused:
        models._check_folder(folder)
    assert str(refused.value).isascii()


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path, copy):
    with pytest.raises(ValueError, match="no config.json"):
        models.load(str(tmp_path))
    (copy / "lineage.json").unlink()
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="no tokenizer"):
        models.load(str(copy))


def test_a_duplicate_works_like_the_model_and_goes_on_when_the_model_is_gone(checkpoint, prompts):
    model = models.load(str(checkpoint))
    expected, duplicate = models.next_token_logits(model, prompts), models.duplicate(model)
    del model
    gc.collect()
    assert torch.equal(models.next_token_logits(duplicate, prompts), expected)


def test_a_duplicate_shares_no_weight_and_leaves_nothing_of_its_runs_in_the_model(checkpoint, prompts):
    model = models.load(str(checkpoint))
    duplicate, before = models.duplicate(model), models.next_token_logits(model, prompts)
    for block in model.blocks:
        block.attn._captured_pre_ln_residual = None
    duplicate.original_model(torch.tensor([prompts[0]]))
    assert all(block.attn._captured_pre_ln_residual is None for block in model.blocks)
    with torch.no_grad():
        for weight in duplicate.original_model.parameters():
            weight.zero_()
    assert torch.equal(models.next_token_logits(model, prompts), before)


# --- hook names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda model, ids, name: model.hooks([(name, None)]).__enter__(),
        lambda model, ids, name: model.hooks(bwd_hooks=[(name, None)]).__enter__(),
        lambda model, ids, name: model.run_with_hooks(ids, fwd_hooks=[(name, None)]),
        lambda model, ids, name: model.run_with_cache(ids, names_filter=name),
        lambda model, ids, name: model.run_with_cache(ids, names_filter=["blocks.0.hook_resid_pre", name]),
    ],
)
@pytest.mark.parametrize("name", ["blocks.1.hook_resid_prre", "blocks.4.hook_resid_pre"])
def test_a_hook_name_that_does_not_exist_is_an_error(model, prompts, call, name):
    with pytest.raises(ValueError, match=f"no hook called '{name}'.*hook_resid_pre.*layers 0 to 3"):
        call(model, torch.tensor(prompts[:1]), name)


def test_a_filter_that_accepts_no_hook_is_an_error(model, prompts):
    with pytest.raises(ValueError, match="accepts none"):
        model.run_with_cache(torch.tensor(prompts[:1]), names_filter=lambda name: name.endswith("resid_prre"))


def test_hook_points_are_collected_once_and_again_where_one_took_anothers_place(model, monkeypatch):
    own = dict(model.hook_dict)
    monkeypatch.setattr(TransformerBridge, "_add_aliases_to_hooks", lambda self, hooks: pytest.fail("collected again"))
    assert model.hook_dict == own
    model.hook_dict.clear()  # a caller's own copy
    assert model.hook_dict == own
    monkeypatch.undo()
    copied = models.duplicate(model)
    assert copied.hook_dict.keys() == own.keys()
    assert not set(map(id, copied.hook_dict.values())) & set(map(id, own.values()))
    other = HookPoint()
    monkeypatch.setitem(model._hook_registry, "blocks.0.hook_out", other)
    assert model.hook_dict["blocks.0.hook_out"] is other


def test_transformer_lens_is_used_as_ever(model, prompts):
    ids = torch.tensor(prompts[:1])
    logits, cache = model.run_with_cache(ids)
    assert cache["resid_pre", 2].shape == (1, len(prompts[0]), 32)
    _, some = model.run_with_cache(ids, names_filter=lambda name: name.endswith("hook_resid_post"))
    assert "blocks.3.hook_resid_post" in some and "blocks.3.hook_resid_pre" not in some
    seen = []
    again = model.run_with_hooks(ids, fwd_hooks=[("blocks.2.hook_in", lambda x, hook: seen.append(x))])
    torch.testing.assert_close(seen[0], cache["resid_pre", 2])
    torch.testing.assert_close(again, logits)


def test_every_listed_hook_name_is_accepted(model):
    names = models.hook_names(model)
    assert {"blocks.3.hook_resid_pre", "blocks.0.hook_in", "hook_embed", "ln_final.hook_normalized"} <= set(names)
    models.check_hook_names(model, names)


# --- run ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad, message",
    [
        ([], "empty"),
        ("make a cake", "not text.*chat_prompt"),
        (["make a cake"], "not text.*chat_prompt"),
        ([1, 2, 3], "or one prompt"),
        (torch.tensor([[1, 2, 3]]), "a tensor"),  # its ids equal none of a set, so padding would not be seen
        ([[1], []], "Prompt 1 is empty"),
        ([[1, 2], [1, 10_000]], "Prompt 1 has an id outside 0 to"),
        ([[1, -1]], "Prompt 0 has an id outside"),
        ([[1, 2], [1] * 65], "Prompt 1 has 65 tokens.*at most 64"),
    ],
)
@pytest.mark.parametrize(
    "run",
    [
        models.next_token_logits,
        lambda model, prompts: models.generate(model, prompts, max_new_tokens=1),
        lambda model, prompts: models.reply_logits(model, prompts, [[5]] * len(prompts)),
    ],
)
def test_prompts_that_cannot_be_run_are_refused(model, run, bad, message):
    with pytest.raises(ValueError, match=message):
        run(model, bad)


@pytest.mark.parametrize("equal_lengths", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_batches_hold_every_prompt_once_with_padding_on_the_right(model, prompts, batch_size, equal_lengths):
    seen = []
    for batch in models.batches(model, prompts, batch_size=batch_size, equal_lengths=equal_lengths):
        assert len(batch.indices) <= batch_size
        assert len(set(batch.lengths)) == 1 or not equal_lengths
        for index, length, row in zip(batch.indices, batch.lengths, batch.tokens.tolist(), strict=True):
            assert row[:length] == list(prompts[index])
            seen.append(index)
    assert sorted(seen) == list(range(len(prompts)))


def test_prompts_of_one_length_share_a_batch(model):
    lengths = [5, 3, 5, 3, 5]
    prompts = [[7] * length for length in lengths]
    runs = models.batches(model, prompts, batch_size=4, equal_lengths=True)
    assert [sorted(batch.indices) for batch in runs] == [[1, 3], [0, 2, 4]]


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_next_token_logits_are_those_of_each_prompt_alone(model, prompts, batch_size):
    expected = torch.stack([full_logits(model, prompt) for prompt in prompts])
    logits = models.next_token_logits(model, prompts, batch_size=batch_size)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_only_last_positions_are_unembedded(model, prompts):
    positions = []
    hook = ("unembed.hook_in", lambda x, hook: positions.append(x.shape[1]))
    with model.hooks([hook]):
        models.next_token_logits(model, prompts)
    assert positions and set(positions) == {1}


def double_last_position(activation, hook):
    edited = activation.clone()
    edited[:, -1] = edited[:, -1] * 2 + 1
    return edited


def test_a_hook_on_the_last_position_finds_it_in_prompts_of_any_length(model, prompts):
    with model.hooks([("blocks.1.hook_resid_pre", double_last_position)]):
        expected = torch.stack([full_logits(model, prompt) for prompt in prompts])
        hooked = models.next_token_logits(model, prompts)
    torch.testing.assert_close(hooked, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(hooked, models.next_token_logits(model, prompts), atol=0.1)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_reply_logits_are_those_that_stand_before_each_token(model, prompts, batch_size):
    replies = [[7, 8, 9], [4], [30, 31], [5, 5, 5, 5], [9], [11, 12]]
    found = models.reply_logits(model, prompts, replies, batch_size=batch_size)
    for logits, prompt, reply in zip(found, prompts, replies, strict=True):
        expected = [full_logits(model, [*prompt, *reply[:n]]) for n in range(len(reply))]
        torch.testing.assert_close(logits, torch.stack(expected), rtol=1e-4, atol=1e-4)


def test_reply_logits_are_read_as_text_is_generated(model, prompts):
    """A hook on the last position meets the prompt's last token, then each token of the reply by itself."""
    lengths = []
    with model.hooks([("blocks.1.hook_resid_pre", lambda x, hook: lengths.append(x.shape[1]))]):
        models.reply_logits(model, prompts[:1], [[7, 8, 9]])
    assert lengths == [len(prompts[0]), 1, 1]


@pytest.mark.parametrize("replies", [[], [[1]], [[1]] * 3])
def test_reply_logits_need_a_reply_for_each_prompt(model, prompts, replies):
    with pytest.raises(ValueError, match="2 prompts need as many replies"):
        models.reply_logits(model, prompts[:2], replies)


@pytest.mark.parametrize("batch_size", [1, 2, 512])
def test_replies_are_those_of_a_plain_loop_over_each_prompt(model, prompts, batch_size, monkeypatch):
    batches = models.batches
    monkeypatch.setattr(
        models, "batches", lambda *args, **options: batches(*args, **options | {"batch_size": batch_size})
    )
    expected = [greedy_loop(model, prompt, 12) for prompt in prompts]
    assert models.generate(model, prompts, max_new_tokens=12) == expected


def test_hooks_act_on_the_reply_as_well(model, prompts):
    zero = [("blocks.2.hook_attn_out", lambda activation, hook: activation * 0)]
    plain = models.generate(model, prompts, max_new_tokens=6)
    with model.hooks(zero):
        expected = [greedy_loop(model, prompt, 6) for prompt in prompts]
        assert models.generate(model, prompts, max_new_tokens=6) == expected
    assert expected != plain
    assert models.generate(model, prompts, max_new_tokens=6) == plain


def test_a_reply_ends_with_the_end_token(model, prompts):
    """The end token is forced at the third step, in one row of the batch only: the other row goes on."""
    end, calls = model.tokenizer.eos_token_id, []

    def end_first_row_at_third_step(logits, hook):
        calls.append(hook.name)
        logits = logits.clone()
        logits[:, :, end] = -1e9
        if len(calls) == 3:
            logits[0, :, end] = 1e9
        return logits

    twins = [prompts[0], prompts[0]]
    with model.hooks([("unembed.hook_out", end_first_row_at_third_step)]):
        first, second = models.generate(model, twins, max_new_tokens=5)
    assert len(first) == 3 and first[-1] == end
    assert len(second) == 5 and end not in second


def test_generation_stops_when_every_reply_has_ended(model, prompts):
    """The first row ends at step 1 and the second at step 2: no step 3."""
    end, calls = model.tokenizer.eos_token_id, []

    def end_in_turn(logits, hook):
        calls.append(hook.name)
        logits = torch.zeros_like(logits)
        logits[len(calls) - 1, :, end] = 1.0
        return logits

    with model.hooks([("unembed.hook_out", end_in_turn)]):
        assert models.generate(model, [prompts[0]] * 2, max_new_tokens=9) == [[end], [0, end]]
    assert len(calls) == 2


def test_every_end_token_of_the_generation_settings_counts(checkpoint, prompts):
    loaded = models.load(str(checkpoint))
    reply = models.generate(loaded, prompts[:1], max_new_tokens=6)[0]
    second = next(token for token in reply[1:] if token != reply[0])
    loaded.original_model.generation_config.eos_token_id = [loaded.tokenizer.eos_token_id, second]
    shorter = models.generate(loaded, prompts[:1], max_new_tokens=6)[0]
    assert shorter == reply[: reply.index(second) + 1]


def test_a_reply_that_would_not_fit_is_refused(model, prompts):
    with pytest.raises(ValueError, match="at most 64, 60 new ones included"):
        models.generate(model, prompts, max_new_tokens=60)
    with pytest.raises(ValueError, match="at most 64, 60 new ones included"):
        models.reply_logits(model, prompts, [[5] * 60] * len(prompts))


# --- NaNs ---------------------------------------------------------------------------------------------------

RUNS = (models.next_token_logits, lambda model, prompts: models.generate(model, prompts, max_new_tokens=2))


@pytest.mark.parametrize("run", RUNS)
def test_a_nan_in_the_weights_is_reported_with_the_place_where_it_begins(checkpoint, prompts, run):
    model = models.load(str(checkpoint))
    model.blocks[3].mlp.out.original_component.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"prompt \d is not finite .* first in blocks\.3\.mlp\.out\.hook_out"):
        run(model, prompts)
    assert not models.has_hooks(model)


@pytest.mark.parametrize("run", RUNS)
def test_a_nan_of_one_token_is_reported_with_its_prompt(checkpoint, prompts, run):
    model = models.load(str(checkpoint))
    broken = prompts[4][4]  # a cake, which is in no other prompt
    model.embed.original_component.weight[broken] = float("nan")
    spared = [number for number, prompt in enumerate(prompts) if broken not in prompt]
    run(model, [prompts[number] for number in spared])
    first = min(set(range(len(prompts))) - set(spared))
    with pytest.raises(ValueError, match=rf"prompt {first} is not finite .* first in embed\.hook_out"):
        run(model, prompts)


def test_a_nan_that_a_hook_makes_is_reported_at_the_hook(model, prompts):
    with model.hooks([("blocks.1.hook_mlp_out", lambda x, hook: x * float("nan"))]):
        with pytest.raises(ValueError, match=r"prompt 0 .* first in blocks\.1\.mlp\.hook_out"):
            models.next_token_logits(model, prompts)


# --- what users bring -------------------------------------------------------------------------------------------------


def rewritten(folder, change):
    """The folder with its weights passed through `change`, and without the record that would refuse that."""
    from safetensors.torch import load_file, save_file

    (folder / "lineage.json").unlink()
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model."])
def test_a_prefix_before_all_names_is_named(copy, prefix):
    folder = rewritten(copy, lambda weights: {prefix + name: value for name, value in weights.items()})
    with pytest.raises(ValueError, match=f"begin with '{prefix}': save it without"):
        models.load(folder)


def test_a_file_with_more_layers_than_its_config_is_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "lineage.json").unlink()
    (copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": config["num_hidden_layers"] - 1}))
    with pytest.raises(ValueError, match="weights that the model has no place for"):
        models.load(str(copy))


def test_a_model_that_reads_pictures_is_refused_and_nothing_is_installed(copy, monkeypatch):
    """TransformerLens would run pip for what such a model needs."""
    import subprocess

    def refuse(*command, **_):
        raise AssertionError(f"a process was started: {command}")

    monkeypatch.setattr(subprocess, "check_call", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    config = json.loads((copy / "config.json").read_text())
    (copy / "lineage.json").unlink()
    text = {key: config[key] for key in ("hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size")}
    both = {
        "model_type": "gemma3",
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": text | {"model_type": "gemma3_text", "num_attention_heads": 4, "head_dim": 8},
        "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 16, "num_hidden_layers": 1},
    }
    (copy / "config.json").write_text(json.dumps(both))
    with pytest.raises(ValueError, match="reads pictures or sound beside text"):
        models.load(str(copy))


@pytest.mark.parametrize(
    "content, what",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (b"\x10\0\0\0\0\0\0\0{", "damaged"),
    ],
)
def test_weights_that_are_no_weights_are_named(copy, content, what):
    (copy / "lineage.json").unlink()
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=f"model.safetensors is .*{what}"):
        models.load(str(copy))


def test_a_missing_shard_is_named(copy):
    (copy / "lineage.json").unlink()
    (copy / "model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (copy / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    with pytest.raises(ValueError, match="lacks model-00002-of-00002.safetensors, one of 2"):
        models.load(str(copy))


def test_an_index_that_points_at_a_pickle_is_refused(copy):
    from safetensors.torch import load_file

    (copy / "lineage.json").unlink()
    weights = load_file(copy / "model.safetensors")
    torch.save(weights, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "pytorch_model.bin")}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="Pickles can run code"):
        models.load(str(copy))


def test_a_config_that_names_a_pickle_is_refused(copy):
    (copy / "lineage.json").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"transformers_weights": "pytorch_model.bin"}))
    with pytest.raises(ValueError, match="transformers_weights"):
        models.load(str(copy))


@pytest.mark.parametrize("configured", [None, 9])
def test_no_end_token_is_made_up_where_the_tokenizer_has_none(copy, prompts, configured):
    from transformers import AutoTokenizer, GenerationConfig

    (copy / "lineage.json").unlink()
    tokenizer = AutoTokenizer.from_pretrained(copy)
    for role in ("bos_token", "eos_token", "pad_token"):
        setattr(tokenizer, role, None)
    tokenizer.add_tokens(["<|endoftext|>"])
    tokenizer.save_pretrained(copy)
    config = json.loads((copy / "config.json").read_text())
    ends = {"eos_token_id": configured, "bos_token_id": None, "pad_token_id": None}
    (copy / "config.json").write_text(json.dumps(config | ends))
    GenerationConfig(**ends).save_pretrained(copy)
    loaded = models.load(str(copy))
    assert models.stop_ids(loaded) == {configured} - {None}
    reply = models.generate(loaded, prompts[:1], max_new_tokens=12)[0]
    assert len(reply) == 12 or reply[-1] == configured


def test_weights_of_another_shape_are_named(copy):
    (copy / "lineage.json").unlink()
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}))
    with pytest.raises(ValueError, match=r"other shapes than its config says: .*layers.0.mlp.*48"):
        models.load(str(copy))


def test_float64_may_be_asked_for(copy, prompts):
    (copy / "lineage.json").unlink()
    double, single = (models.load(str(copy), dtype=dtype) for dtype in (torch.float64, torch.float32))
    found, right = (models.next_token_logits(model, prompts) for model in (double, single))
    assert found.dtype == torch.float64 and torch.allclose(found, right.double(), atol=1e-3)
    replies = [models.generate(model, prompts, max_new_tokens=4) for model in (double, single)]
    assert replies[0] == replies[1]


def test_an_adapter_beside_a_whole_model_is_not_passed_over(copy):
    (copy / "lineage.json").unlink()
    (copy / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="a whole model and a LoRA adapter"):
        models.load(str(copy))


def test_a_model_that_the_bridge_computes_otherwise_is_refused(copy, monkeypatch):
    """Cohere, HunYuan and MPT do, in this version; here a wrong number is put in its place."""
    (copy / "lineage.json").unlink()
    right = adapters.Checkpoint.from_pretrained

    def another(self, folder, **options):
        network = right(self, folder, **options)
        if self.compared:
            self.logits = self.logits + 0.01 * self.logits.abs().max()
        return network

    monkeypatch.setattr(adapters.Checkpoint, "from_pretrained", another)
    with pytest.raises(ValueError, match="LlamaForCausalLM, which TransformerLens' Bridge computes otherwise"):
        models.load(str(copy))
    assert models.load(str(copy), checked=False).cfg.n_layers, "on trust"


@pytest.mark.parametrize("place", [0, -1])
def test_padding_is_not_read_as_text(model, prompts, place):
    padded = list(prompts[0])
    padded.insert(place if place == 0 else len(padded), model.tokenizer.pad_token_id)
    with pytest.raises(ValueError, match="Prompt 0 is padded"):
        models.generate(model, [padded], max_new_tokens=1)
    with pytest.raises(ValueError, match="Prompt 0 is padded"):
        models.next_token_logits(model, [padded])
    with pytest.raises(ValueError, match="Prompt 0 is padded"):
        models.reply_logits(model, [padded], [[5]])


@pytest.fixture(scope="module")
def long_rope(tmp_path_factory):
    """A Phi 3 that reads positions by other numbers beyond 16 tokens: the library's model, and the plain one."""
    from tools import architectures

    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0, 3.0, 7.0, 9.0]}
    special = architectures.GROUPED | {"original_max_position_embeddings": 16, "rope_parameters": rope}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(architectures.ARCHITECTURES, "Phi 3, long", ("phi3", special))
        folder = tmp_path_factory.mktemp("rope")
        plain = architectures.save("Phi 3, long", folder)
    return models.load(str(folder)), plain


def test_a_long_prompt_beside_it_does_not_change_a_short_one(long_rope):
    model, plain = long_rope
    ids = torch.randint(20, 900, (40,), generator=torch.Generator().manual_seed(0)).tolist()
    prompts = [ids[:n] for n in (12, 30, 16, 17)]
    with torch.no_grad():
        right = torch.stack([plain(torch.tensor([prompt]), use_cache=False).logits[0, -1] for prompt in prompts])
        switched = plain(torch.tensor([prompts[1]])).logits[0, 11]  # the first prompt's last token, in a longer run
    assert (switched - right[0]).abs().max() > 0.1
    torch.testing.assert_close(models.next_token_logits(model, prompts), right, rtol=1e-4, atol=1e-4)
    streams = [caching.harvest(model, batch, progress=False).values for batch in (prompts, prompts[:1])]
    torch.testing.assert_close(streams[0][0], streams[1][0], rtol=1e-4, atol=1e-4)


def test_a_reply_stays_on_one_side_of_the_switch_or_is_refused(long_rope):
    model, plain = long_rope
    ids = torch.randint(20, 900, (40,), generator=torch.Generator().manual_seed(0)).tolist()
    for prompt, n in ((ids[:12], 5), (ids[:17], 8)):
        reply, read = models.generate(model, [prompt], max_new_tokens=n)[0], list(prompt)
        for token in reply:
            with torch.no_grad():
                logits = plain(torch.tensor([read]), use_cache=False).logits[0, -1]
            assert float(logits[token]) == pytest.approx(float(logits.max()), abs=1e-3)
            read.append(token)
    with pytest.raises(ValueError, match="12 tokens, and its reply would pass 16"):
        models.generate(model, [ids[:12]], max_new_tokens=6)
    with pytest.raises(ValueError, match="one kind"):
        tuning.log_probabilities(model, [tuning.Example(ids[:9], ids[:2]), tuning.Example(ids[:30], ids[:2])])


def test_hooks_that_come_one_by_one_act_as_a_list_of_them(model, prompts):
    names = ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre"]
    ids, plain = torch.tensor([prompts[0]]), models.next_token_logits(model, prompts[:1])
    with model.hooks([(name, lambda x, hook: 0 * x) for name in names]):
        expected = models.next_token_logits(model, prompts[:1])
    with model.hooks((name, lambda x, hook: 0 * x) for name in names):
        assert torch.equal(models.next_token_logits(model, prompts[:1]), expected)
    found = model.run_with_hooks(ids, fwd_hooks=zip(names, [lambda x, hook: 0 * x] * 2, strict=True))[:, -1]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected, plain, atol=0.1)


def test_no_copy_is_made_of_a_model_with_active_hooks(model):
    with model.hooks([("blocks.0.hook_resid_pre", lambda x, hook: x)]):
        with pytest.raises(ValueError, match="keep the active hooks"):
            models.duplicate(model)
    assert not models.has_hooks(models.duplicate(model))


def test_a_reply_whose_logits_are_not_finite_is_refused(model, prompts):
    with model.hooks([("blocks.1.hook_resid_pre", lambda x, hook: x * float("nan"))]):
        with pytest.raises(ValueError, match="not finite"):
            models.reply_logits(model, prompts[:2], [[5], [6, 7]])


def test_one_text_is_no_list_of_requests_and_no_reply_has_no_tokens(model, prompts):
    with pytest.raises(ValueError, match="a list of requests"):
        models.ask(model, "hello", max_new_tokens=2)
    with pytest.raises(ValueError, match="at least 1"):
        models.generate(model, prompts, max_new_tokens=0)
