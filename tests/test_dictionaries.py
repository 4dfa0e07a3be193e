"""The shipped dictionaries are sae_lens' own, explain what their cards say, and can be made again alike."""

import json
import shutil
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from course_lib import features, models
from course_lib import organism as shipped
from factory.__main__ import WITH_DICTIONARIES, verify
from factory.make import dictionaries
from factory.measure import cards
from factory.measure import dictionary_measures as measures

LAYERS = range(6)
EACH = [
    (organism, kind, layer)
    for organism in WITH_DICTIONARIES
    for kind in dictionaries.SHIPPED[organism]
    for layer in LAYERS
]
every_one = pytest.mark.parametrize("organism, kind, layer", EACH, ids=lambda value: str(value))
MOST_UNEXPLAINED = {"sae": 0.10, "transcoder": 0.10}  # on held-out texts
TINY = dictionaries.Recipe("sae", k=4, rate=1e-3, d_sae=16, n_texts=30, steps=5, tokens_per_step=64)


@pytest.fixture(scope="module")
def plain():
    """(organism, kind, layer) -> what the block read and wrote on held-out texts, by transformers alone."""
    found = {}
    for organism in WITH_DICTIONARIES:
        path = models.weights_folder() / organism
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        texts = SimpleNamespace(tokenizer=AutoTokenizer.from_pretrained(path))
        prompts = dictionaries.token_ids(texts, 200, seed=12_345)
        for layer, block in enumerate(model.model.layers):
            found[organism, "sae", layer], found[organism, "transcoder", layer] = ([], []), ([], [])
            block.register_forward_hook(_keep(found[organism, "sae", layer], both=True))
            block.mlp.register_forward_hook(_keep(found[organism, "transcoder", layer]))
        with torch.no_grad():
            for prompt in prompts:
                model(torch.tensor([prompt]), use_cache=False)
    return {key: (torch.cat(read), torch.cat(written)) for key, (read, written) in found.items()}


def _keep(into, *, both=False):
    def hook(module, inputs, output):
        written = output[0] if isinstance(output, tuple) else output
        into[0].append((written if both else inputs[0])[0, 1:])
        into[1].append(written[0, 1:])

    return hook


@cache
def opened(organism):
    return models.load(organism, device="cpu")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A copy of what features.load needs for one dictionary, to be damaged."""
    weights = models.weights_folder()
    shutil.copytree(weights / "dictionaries" / "chat" / "sae-0", tmp_path / "dictionaries" / "chat" / "sae-0")
    (tmp_path / "chat").mkdir()
    shutil.copy(weights / "chat" / "lineage.json", tmp_path / "chat")
    monkeypatch.setattr(models, "weights_folder", lambda: tmp_path)
    return tmp_path / "dictionaries" / "chat" / "sae-0"


# --- what ships ---------------------------------------------------------------------------------------------


def test_the_files_are_intact_small_and_never_pickled():
    root = dictionaries.WEIGHTS / "dictionaries"
    files = [path for organism in WITH_DICTIONARIES for path in (root / organism).rglob("*") if path.is_file()]
    assert verify() == []
    assert {path.name for path in files} == {"cfg.json", "sae_weights.safetensors", "lineage.json"}
    assert sum(path.stat().st_size for path in files) <= 6e6


def test_no_configuration_holds_a_path_or_an_address():
    for organism, kind, layer in EACH:
        text = (dictionaries.folder(organism, kind, layer) / "cfg.json").read_text(encoding="utf-8")
        assert "://" not in text and '"/' not in text and "\\\\" not in text


@every_one
def test_the_lineage_names_the_parent_the_recipe_and_the_versions(organism, kind, layer):
    lineage = json.loads((dictionaries.folder(organism, kind, layer) / "lineage.json").read_text(encoding="utf-8"))
    assert (lineage["organism"], lineage["kind"], lineage["layer"]) == (organism, kind, layer)
    assert lineage["parent_sha256"] == shipped.sha256(dictionaries.WEIGHTS / organism / "model.safetensors")
    assert lineage["recipe"]["seed"] == 0 and set(lineage["versions"]) == {"torch", "sae-lens"}


@every_one
def test_sae_lens_alone_opens_it_and_it_explains_what_transformers_alone_computes(plain, organism, kind, layer):
    from sae_lens import SAE

    dictionary = SAE.load_from_disk(dictionaries.folder(organism, kind, layer))
    assert type(dictionary).__name__ == {"sae": "JumpReLUSAE", "transcoder": "JumpReLUTranscoder"}[kind]
    assert dictionary.W_dec.dtype == torch.float32
    read, written = plain[organism, kind, layer]
    with torch.no_grad():
        assert features.unexplained(written, dictionary(read)) < MOST_UNEXPLAINED[kind]


@pytest.mark.parametrize("organism, kind, layer", [case for case in EACH if case[2] in (0, 5)], ids=str)
def test_a_random_dictionary_of_the_same_size_and_l0_explains_far_less(plain, organism, kind, layer):
    read, written = plain[organism, kind, layer]
    dictionary, model = features.load(organism, kind, layer=layer), opened(organism)
    control = features.random_like(model, dictionary, dictionaries.token_ids(model, 200, seed=12_345))
    with torch.no_grad():
        active = [(tried.encode(read) > 0).float().sum(dim=1).mean() for tried in (dictionary, control)]
        own, random = (features.unexplained(written, tried(read)) for tried in (dictionary, control))
    torch.testing.assert_close(active[0], active[1], rtol=0.02, atol=0)
    assert random > 5 * own and random < 1.01  # the best factor cannot be worse than the mean


@every_one
def test_about_as_many_features_are_active_as_the_recipe_says(plain, organism, kind, layer):
    read, _ = plain[organism, kind, layer]
    active = (features.load(organism, kind, layer=layer).encode(read) > 0).float().sum(dim=1).mean()
    assert float(active) == pytest.approx(dictionaries.RECIPES[kind].k, rel=0.25)


def test_a_transcoder_gives_the_mlp_of_its_own_layer_and_of_no_other(plain):
    opened = [features.load("chat", "transcoder", layer=layer) for layer in LAYERS]
    for layer in LAYERS:
        read, written = plain["chat", "transcoder", layer]
        missed = [features.unexplained(written, transcoder(read)) for transcoder in opened]
        assert missed[layer] < MOST_UNEXPLAINED["transcoder"] and min(missed[:layer] + missed[layer + 1 :]) > 0.5


@every_one
def test_the_hooks_it_names_exist_and_carry_what_transformers_alone_computes(plain, organism, kind, layer):
    dictionary = features.load(organism, kind, layer=layer)
    about = dictionary.cfg.metadata
    assert (about.hook_name, about.hook_name_out) == dictionaries.hooks(kind, layer)
    assert not any(parameter.requires_grad for parameter in dictionary.parameters()) and not dictionary.training


@pytest.mark.parametrize("organism", WITH_DICTIONARIES)
def test_the_bridge_serves_the_same_activations_as_transformers_alone(plain, organism):
    model = opened(organism)
    prompts = dictionaries.token_ids(model, 200, seed=12_345)
    names = dict.fromkeys(
        name for kind in dictionaries.KINDS for layer in LAYERS for name in dictionaries.hooks(kind, layer)
    )
    found = dictionaries.harvest(model, prompts, list(names))
    for kind in dictionaries.KINDS:
        for layer in LAYERS:
            for name, expected in zip(dictionaries.hooks(kind, layer), plain[organism, kind, layer], strict=True):
                assert found[name].shape == expected.shape  # the order of tokens differs: by length, not as drawn
                torch.testing.assert_close(found[name].mean(dim=0), expected.mean(dim=0), rtol=1e-3, atol=1e-3)
                torch.testing.assert_close(found[name].std(dim=0), expected.std(dim=0), rtol=1e-3, atol=1e-3)


# --- what was measured --------------------------------------------------------------------------------------


@pytest.mark.parametrize("organism", WITH_DICTIONARIES)
def test_the_card_says_what_was_measured_of_the_shipped_files(organism):
    card = (cards.FOLDER / f"dictionaries-{organism}.md").read_text(encoding="utf-8")
    assert card == measures.render(organism)
    results = measures.read_results()[organism]
    for kind in dictionaries.SHIPPED[organism]:
        for layer in LAYERS:
            weights = dictionaries.folder(organism, kind, layer) / "sae_weights.safetensors"
            assert results[f"{kind}-{layer}"]["weights_sha256"] == shipped.sha256(weights)


@pytest.mark.parametrize("organism, kind, layer", EACH, ids=str)
def test_the_model_predicts_with_it_and_not_with_a_random_one(organism, kind, layer):
    found = measures.read_results()[organism][f"{kind}-{layer}"]
    assert found["trained"]["kl_recovered_from_mean"] > 0.8
    assert found["random"]["kl_recovered_from_mean"] < found["trained"]["kl_recovered_from_mean"] - 0.2


def test_the_model_predicts_with_all_transcoders_at_once_and_not_without_mlps():
    found = measures.read_results()["chat"]["transcoders together"]
    assert found["trained"]["kl_recovered_from_mean"] > 0.8 and found["random"]["kl_recovered_from_mean"] < 0.5


@pytest.mark.nightly
def test_measuring_a_shipped_dictionary_again_gives_the_recorded_numbers():
    recorded = measures.read_results()["chat"]["transcoder-1"]
    model = opened("chat")
    prompts = dictionaries.token_ids(model, measures.HELD_OUT_TEXTS, measures.HELD_OUT_SEED)
    measured = measures.measure(features.load("chat", "transcoder", layer=1), model, prompts)
    assert measured["tokens"] == recorded["tokens"]
    for name in ("fvu", "l0", "loss_nats"):
        assert measured["trained"][name] == pytest.approx(recorded["trained"][name], rel=1e-3)


def test_splicing_in_the_mlp_itself_leaves_the_loss_as_it_is_and_zeros_do_not():
    model = opened("chat")
    prompts = dictionaries.token_ids(model, 40, seed=1)

    plain_chat = AutoModelForCausalLM.from_pretrained(models.weights_folder() / "chat", dtype=torch.float32)

    class Mlp:
        W_enc = torch.empty(0)
        cfg = SimpleNamespace(
            metadata=SimpleNamespace(hook_name="blocks.2.mlp.hook_in", hook_name_out="blocks.2.hook_mlp_out")
        )

        def __call__(self, read):
            return plain_chat.model.layers[2].mlp(read)

    conditions = {
        "itself": features.spliced(Mlp()),
        "zero": features.replaced("blocks.2.hook_mlp_out", torch.zeros(128)),
    }
    found = features.effects(model, prompts, conditions)
    assert found["itself"]["loss_nats"] == pytest.approx(found["original"]["loss_nats"], rel=1e-5)
    assert found["original"]["kl_nats"] == 0 and found["itself"]["kl_nats"] < 1e-6 < 1e-3 < found["zero"]["kl_nats"]
    assert features.effects(model, prompts, {})["original"] == found["original"]


def test_nothing_is_unexplained_by_the_thing_itself_and_all_of_it_by_its_mean():
    values = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) + 3
    assert features.unexplained(values, values) == 0
    assert features.unexplained(values, values.mean(dim=0).expand_as(values)) == pytest.approx(1)


# --- refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sae_weights.safetensors", "cfg.json"])
def test_an_altered_truncated_or_missing_file_is_refused_by_name(installed, name):
    path, content = installed / name, (installed / name).read_bytes()
    for damaged in (content[:-7], content[:-1] + bytes([content[-1] ^ 1])):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{name} .*altered.*git checkout"):
            features.load("chat", "sae", layer=0)
    path.unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        features.load("chat", "sae", layer=0)


def test_without_a_lineage_nothing_is_opened(installed):
    (installed / "lineage.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"sae-0.lineage\.json"):
        features.load("chat", "sae", layer=0)


def test_a_dictionary_of_other_weights_is_refused(installed):
    path = installed.parents[2] / "chat" / "lineage.json"
    lineage = json.loads(path.read_text(encoding="utf-8"))
    lineage["files"]["model.safetensors"] = "0" * 64
    path.write_text(json.dumps(lineage), encoding="utf-8")
    with pytest.raises(ValueError, match="trained on other weights of 'chat'.*factory dictionaries --organism chat"):
        features.load("chat", "sae", layer=0)


def test_opening_a_dictionary_leaves_the_screen_empty(capfd, recwarn):
    features.load("chat", "sae", layer=0)
    assert capfd.readouterr() == ("", "") and not recwarn.list


# --- made again ---------------------------------------------------------------------------------------------


def made(path, recipe, seed):
    generator = torch.Generator().manual_seed(7)
    read, written = (torch.randn(300, 8, generator=generator) for _ in range(2))
    trained = dictionaries.train(replace(recipe, seed=seed), read, written)
    dictionaries.package(path, trained, {"organism": "chat", "kind": recipe.kind, "layer": 0}, bos=1)
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize("kind", dictionaries.KINDS)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path, kind):
    recipe = replace(TINY, kind=kind)
    first, again, other = (made(tmp_path / name, recipe, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first == again and first["sae_weights.safetensors"] != other["sae_weights.safetensors"]


def test_training_does_not_touch_the_global_random_state():
    before = torch.get_rng_state()
    dictionaries.train(TINY, torch.randn(100, 8, generator=torch.Generator().manual_seed(1)), torch.empty(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_too_few_tokens_for_one_step_are_refused_before_training():
    with pytest.raises(ValueError, match="63 tokens.*one step takes 64"):
        dictionaries.train(TINY, torch.zeros(63, 8), torch.zeros(63, 8))


def test_a_finished_dictionary_is_kept_and_an_interrupted_one_is_made_again(tmp_path, monkeypatch):
    dictionaries.make("chat", TINY, root=tmp_path)
    weights = [tmp_path / "chat" / f"sae-{layer}" / "sae_weights.safetensors" for layer in LAYERS]
    finished = [path.read_bytes() for path in weights]
    (weights[1].parent / "lineage.json").unlink()  # written last: not there yet when training was interrupted
    weights[4].write_bytes(finished[4][:-1])
    trained, train = [], dictionaries.train
    monkeypatch.setattr(dictionaries, "train", lambda *given: trained.append(1) or train(*given))
    dictionaries.make("chat", TINY, root=tmp_path)
    assert len(trained) == 2 and [path.read_bytes() for path in weights] == finished
    dictionaries.make("chat", TINY, root=tmp_path)
    assert len(trained) == 2


def test_a_transcoder_learns_its_target_and_not_its_input():
    generator = torch.Generator().manual_seed(3)
    read = torch.randn(4_000, 8, generator=generator).relu()
    written = read @ torch.randn(8, 8, generator=generator)
    recipe = dictionaries.Recipe("transcoder", k=8, rate=5e-3, d_sae=32, steps=400, tokens_per_step=128)
    trained = dictionaries.train(recipe, read, written)
    with torch.no_grad():
        output = trained.decode(trained.encode(read))
    assert features.unexplained(written, output) < 0.2 and features.unexplained(read, output) > 1
