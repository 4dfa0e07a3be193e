"""Steering by features: only the chosen features' part moves, what the dictionary misses stays, at the named places."""

import copy
import math
from contextlib import nullcontext

import pytest
import torch

from course_lib import caching, data, directions, features, models, steering, tokens

LAYER = 2


@pytest.fixture(scope="module")
def chat():
    return models.load("chat", device="cpu")


@pytest.fixture(scope="module", params=["sae", "transcoder"])
def dictionary(request):
    return features.load("chat", request.param, layer=LAYER)


@pytest.fixture(scope="module")
def asked(chat):
    texts = data.load("harmful", split="validation", n=4).texts
    return [tokens.chat_prompt(chat.tokenizer, text) for text in texts]


def logits(model, prompt):
    with torch.no_grad():
        return model(torch.tensor([prompt]))[0]


def every_written(model, dictionary, prompts):
    """What the dictionary's output hook holds, at every position of prompts of one length."""
    seen = {}
    with torch.no_grad(), model.hooks([(dictionary.cfg.metadata.hook_name_out, lambda x, hook: seen.update(x=x))]):
        model(torch.tensor(prompts))
    return seen["x"]


def written(model, dictionary, prompt):
    return every_written(model, dictionary, [prompt])[0]


def activations(model, dictionary, prompt):
    """Feature activations of every position of a run, read in that run."""
    seen = {}
    with model.hooks([(dictionary.cfg.metadata.hook_name, lambda x, hook: seen.update(x=x))]):
        logits(model, prompt)
    return dictionary.encode(seen["x"])[0]


@pytest.fixture
def active(chat, dictionary, asked):
    """The loudest feature at the reply token and its activation there."""
    value, feature = activations(chat, dictionary, asked[0])[-1].max(dim=0)
    return int(feature), float(value)


# --- what is changed, and what stays ------------------------------------------------------------------------


def test_clamping_a_feature_to_the_value_it_has_changes_no_bit(chat, dictionary, asked, active):
    feature, value = active
    before = logits(chat, asked[0])
    with steering.clamp_features(chat, dictionary, {feature: value}, positions="last"):
        assert torch.equal(logits(chat, asked[0]), before)
    with steering.clamp_features(chat, dictionary, {feature: 1.1 * value}, positions="last"):
        assert not torch.equal(logits(chat, asked[0]), before)


def test_once_as_much_of_every_feature_changes_no_bit_since_the_error_term_stays(chat, dictionary, asked):
    """The dictionary's own reconstruction in the activation's place would move the logits."""
    before, everything = logits(chat, asked[0]), dict.fromkeys(range(dictionary.W_dec.shape[0]), 1)
    with steering.scale_features(chat, dictionary, everything):
        assert torch.equal(logits(chat, asked[0]), before)
    about = dictionary.cfg.metadata
    seen = {}
    splice = [
        (about.hook_name, lambda x, hook: seen.update(x=x)),
        (about.hook_name_out, lambda x, hook: dictionary.decode(dictionary.encode(seen["x"]))),
    ]
    with chat.hooks(splice):
        assert not torch.allclose(logits(chat, asked[0]), before, atol=1e-3)


def test_ablating_a_feature_removes_its_decoder_row_times_its_activation(chat, dictionary, asked, active):
    feature, _ = active
    before, found = written(chat, dictionary, asked[0]), activations(chat, dictionary, asked[0])[:, feature]
    with steering.scale_features(chat, dictionary, {feature: 0}):
        after = written(chat, dictionary, asked[0])
    expected = before - found[:, None] * dictionary.W_dec[feature]
    torch.testing.assert_close(after[1:], expected[1:], rtol=1e-4, atol=1e-4)
    assert (after[-1] - before[-1]).norm() > 0.1


def test_every_edit_is_the_change_of_the_reconstruction(chat, dictionary, asked, active):
    feature, value = active
    other = (feature + 1) % dictionary.W_dec.shape[0]
    before, old = written(chat, dictionary, asked[0]), activations(chat, dictionary, asked[0])
    edits = {
        steering.clamp_features(chat, dictionary, {feature: -3, other: 2}, unit=value): (-3 * value, 2 * value),
        steering.scale_features(chat, dictionary, {feature: -2, other: 4}): (-2 * value, 4 * old[-1, other]),
    }
    for context, (first, second) in edits.items():
        new = old[-1].clone()
        new[feature], new[other] = first, second
        with context:
            after = written(chat, dictionary, asked[0])
        moved = dictionary.decode(new[None])[0] - dictionary.decode(old[-1:])[0]
        torch.testing.assert_close(after[-1] - before[-1], moved, rtol=1e-3, atol=1e-3)


def test_the_unit_is_each_features_own_natural_activation(chat, dictionary, asked, active):
    feature, value = active
    natural = steering.natural_activations(chat, dictionary, asked)
    assert natural.shape == (4, dictionary.W_dec.shape[0])
    assert float(natural[0, feature]) == pytest.approx(value, rel=1e-4)
    before = written(chat, dictionary, asked[0])
    with steering.clamp_features(chat, dictionary, {feature: 3}, unit=natural[0], positions="last"):
        moved = written(chat, dictionary, asked[0]) - before
    torch.testing.assert_close(moved[-1], 2 * value * dictionary.W_dec[feature], rtol=1e-3, atol=1e-3)


# --- where --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "positions, expected",
    [("last", [-1]), ("reply", [-1]), ("last_instruction", [-3]), ([2, "last"], [2, -1]), ([-4], [-4])],
)
def test_only_named_positions_are_edited_and_nothing_before_them_changes(chat, dictionary, asked, positions, expected):
    before, plain = written(chat, dictionary, asked[0]), logits(chat, asked[0])
    with steering.clamp_features(chat, dictionary, {5: 4.0}, positions=positions):
        moved = (written(chat, dictionary, asked[0]) - before).abs().amax(dim=-1) > 0
        after = logits(chat, asked[0])
    places = sorted(place % len(asked[0]) for place in expected)
    assert moved.nonzero().flatten().tolist() == places
    assert torch.equal(after[: places[0]], plain[: places[0]]) and not torch.equal(after[places[0]], plain[places[0]])


def test_a_name_is_looked_up_in_each_prompt_of_a_batch(chat, dictionary):
    """Two texts of one length whose reply begins at different places."""
    words = chat.tokenizer("to bake", add_special_tokens=False).input_ids
    begun = [*tokens.chat_prompt(chat.tokenizer, "how do i bake a cake?"), *words]
    later = tokens.chat_prompt(chat.tokenizer, "how do i bake a cake at home?")
    assert len(begun) == len(later)
    before = every_written(chat, dictionary, [begun, later])
    with steering.clamp_features(chat, dictionary, {5: 4.0}, positions="reply"):
        moved = (every_written(chat, dictionary, [begun, later]) - before).abs().amax(dim=-1) > 0
    assert moved.nonzero().tolist() == [[0, len(begun) - 3], [1, len(later) - 1]]


def test_tokens_that_the_dictionary_was_trained_without_are_never_edited(chat, dictionary, asked):
    assert dictionary.cfg.metadata.exclude_special_tokens == [chat.tokenizer.bos_token_id]
    before = written(chat, dictionary, asked[0])
    for positions in ("all", [0, 1]):
        with steering.clamp_features(chat, dictionary, {5: 4.0}, positions=positions):
            after = written(chat, dictionary, asked[0])
        assert torch.equal(after[0], before[0]) and not torch.equal(after[1], before[1])


def test_all_positions_include_the_reply_and_a_name_does_not(chat, dictionary, asked):
    for positions, generated in (("all", True), ("last", False)):
        outcomes = []
        for context in (nullcontext(), steering.clamp_features(chat, dictionary, {5: 9.0}, positions=positions)):
            with torch.no_grad():
                cache = chat.original_model(torch.tensor([asked[0]]), use_cache=True).past_key_values
                with context:
                    outcomes.append(chat.original_model(torch.tensor([[20]]), past_key_values=cache).logits)
        assert torch.equal(*outcomes) is not generated


# --- contexts -----------------------------------------------------------------------------------------------


def test_features_and_directions_nest_in_the_order_of_entering(chat, asked):
    sae, direction = features.load("chat", "sae", layer=LAYER), torch.ones(128)
    before = written(chat, sae, asked[0])
    with (
        steering.ablate(chat, direction),
        steering.clamp_features(chat, sae, {5: 4.0}),
        steering.clamp_features(chat, sae, {6: 1.0}),
    ):
        both = written(chat, sae, asked[0])
    with steering.ablate(chat, direction):
        ablated = written(chat, sae, asked[0])
    assert directions.project(ablated, direction).abs().max() < 1e-3 < directions.project(before, direction).abs().max()
    with_5 = ablated + (4 - sae.encode(ablated)[:, [5]]) * sae.W_dec[5]
    expected = with_5 + (1 - sae.encode(with_5)[:, [6]]) * sae.W_dec[6]
    torch.testing.assert_close(both[1:], expected[1:], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("ending", [None, RuntimeError, KeyboardInterrupt])
def test_the_model_is_bit_identical_after_a_feature_context_however_it_ends(chat, dictionary, asked, ending):
    before = logits(chat, asked[0])
    try:
        with steering.clamp_features(chat, dictionary, {5: 40.0}):
            assert not torch.equal(logits(chat, asked[0]), before)
            if ending:
                raise ending
    except (RuntimeError, KeyboardInterrupt):
        assert ending
    assert torch.equal(logits(chat, asked[0]), before)
    assert not models.has_hooks(chat)


def test_a_harvest_sees_the_edit_and_no_activation_is_changed_in_place(chat, dictionary, asked):
    names = [dictionary.cfg.metadata.hook_name_out, f"blocks.{LAYER + 1}.hook_resid_pre"]
    kept = []
    watch = [(name, lambda x, hook: kept.append((x, x.clone()))) for name in names]
    with chat.hooks(watch), steering.clamp_features(chat, dictionary, {5: 4.0}):
        caching.harvest(chat, asked[:1], hook_names=names[1:], progress=False)
    assert len(kept) >= 2 and all(torch.equal(given, then) for given, then in kept)


# --- controls -----------------------------------------------------------------------------------------------


def test_random_sets_are_other_features_of_nearly_the_same_activation(chat, dictionary, asked):
    natural = steering.natural_activations(chat, dictionary, asked)[0]
    chosen = natural.topk(8).indices.tolist()[5:]
    sets = steering.random_feature_sets(natural, chosen, n=20, seed=0)
    assert sets == steering.random_feature_sets(natural, chosen, n=20, seed=0)
    assert len(set(sets)) > 1
    for drawn in sets:
        assert len(set(drawn)) == 3 and not set(drawn) & set(chosen)
        assert 0.5 < float(natural[list(drawn)].sum() / natural[chosen].sum()) < 2


def test_nodes_of_several_layers_are_scaled_as_layer_by_layer(chat, asked):
    transcoders = [features.load("chat", "transcoder", layer=layer) for layer in range(3)]
    at_reply = [steering.natural_activations(chat, t, asked).mean(dim=0) for t in transcoders]
    nodes = [(layer, int(at_reply[layer].argmax())) for layer in (2, 0)]
    with steering.scale_nodes(chat, transcoders, nodes, -2.0, positions="reply"):
        together = logits(chat, asked[0])
    with steering.scale_features(chat, transcoders[0], {nodes[1][1]: -2.0}, positions="reply"):
        with steering.scale_features(chat, transcoders[2], {nodes[0][1]: -2.0}, positions="reply"):
            apart = logits(chat, asked[0])
    assert torch.equal(together, apart) and not torch.allclose(together, logits(chat, asked[0]))
    sets = steering.random_node_sets(at_reply, nodes, n=5, seed=0)
    assert all(sorted(layer for layer, _ in chosen) == [0, 2] and not set(chosen) & set(nodes) for chosen in sets)


# --- what would be silently wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"values": {}},
        {"values": {-1: 1.0}},
        {"values": {5: math.nan}},
        {"values": {5: math.inf}},
        {"values": {5: 1.0}, "unit": 0.0},
        {"values": {5: 1.0}, "unit": -2.0},
        {"values": {5: 1.0}, "unit": math.nan},
    ],
)
def test_a_feature_or_strength_that_means_nothing_is_refused_at_once(chat, dictionary, options):
    with pytest.raises(ValueError, match="finite"):
        steering.clamp_features(chat, dictionary, **options)


def test_units_of_another_dictionary_and_features_beyond_it_are_refused(chat, dictionary):
    with pytest.raises(RuntimeError, match="size"):
        steering.clamp_features(chat, dictionary, {5: 1.0}, unit=torch.ones(700))
    with pytest.raises(IndexError), steering.scale_features(chat, dictionary, {999: 1.0}):
        pass


def test_an_inactive_features_activation_is_no_unit(chat, dictionary, asked):
    natural = steering.natural_activations(chat, dictionary, asked)[0]
    silent = int((natural == 0).nonzero()[0])
    with pytest.raises(ValueError, match="above zero"):
        steering.clamp_features(chat, dictionary, {silent: 1.0}, unit=natural)


def test_another_models_dictionary_is_refused(model, dictionary, prompts):
    with steering.scale_features(model, dictionary, {5: 2.0}), pytest.raises(RuntimeError, match="size|shape"):
        logits(model, prompts[0])
    deeper = features.load("chat", "sae", layer=5)
    with (
        pytest.raises(ValueError, match="no hook called 'blocks.5.hook_resid_post'.*layers 0 to 3"),
        steering.scale_features(model, deeper, {1: 0.0}),
    ):
        pass


def test_a_dictionary_that_rescales_what_it_decodes_is_refused(chat, dictionary, monkeypatch):
    scaled = copy.deepcopy(dictionary)
    plain = scaled.decode
    monkeypatch.setattr(scaled, "decode", lambda found: 2 * plain(found), raising=False)
    with pytest.raises(ValueError, match="Fold that into its weights"), steering.scale_features(chat, scaled, {5: 2.0}):
        pass


@pytest.mark.parametrize("features_, error", [([0], "inactive"), ([3], "from")])
def test_a_control_that_cannot_be_drawn_is_refused(features_, error):
    with pytest.raises((ValueError, RuntimeError), match=error):
        steering.random_feature_sets(torch.tensor([0.0, 0.0, 0.0, 2.0]), features_, n=3, seed=0)


@pytest.mark.parametrize("nodes", [[], [(-1, 0)]])
def test_a_node_without_a_layer_is_refused(nodes):
    with pytest.raises(ValueError, match="layer, feature"):
        steering.random_node_sets([torch.ones(4)] * 3, nodes, n=1, seed=0)


def test_a_dictionary_at_a_place_that_does_not_reach_the_stream_is_refused(chat, dictionary):
    """`hook_resid_mid` can be read; what is written there goes nowhere."""
    other = copy.deepcopy(dictionary)
    other.cfg.metadata.hook_name_out = f"blocks.{LAYER}.hook_resid_mid"
    with (
        pytest.raises(ValueError, match="hook_resid_mid does not reach the stream"),
        steering.scale_features(chat, other, {0: 0.0}),
    ):
        pass
