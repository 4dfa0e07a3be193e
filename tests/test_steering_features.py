"""Steering by features: only the chosen features' part moves, what the dictionary misses stays, at the named places."""

import copy
import math

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


def written(model, dictionary, prompt):
    """What stands where the dictionary writes, at every position."""
    seen = {}
    with model.hooks([(dictionary.cfg.metadata.hook_name_out, lambda x, hook: seen.update(x=x))]):
        logits(model, prompt)
    return seen["x"][0]


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
    with steering.ablate_features(chat, dictionary, [feature]):
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
        steering.add_features(chat, dictionary, {feature: 0.5, other: 1}, unit=value): (
            1.5 * value,
            old[-1, other] + value,
        ),
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
    with steering.add_features(chat, dictionary, {feature: 2}, unit=natural[0], positions="last"):
        moved = written(chat, dictionary, asked[0]) - before
    torch.testing.assert_close(moved[-1], 2 * value * dictionary.W_dec[feature], rtol=1e-3, atol=1e-3)


# --- where --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "positions, expected",
    [("last", [-1]), ("reply", [-1]), ("last_instruction", [-3]), ([2, "last"], [2, -1]), ([-4], [-4])],
)
def test_only_named_positions_are_edited_and_nothing_before_them_changes(chat, dictionary, asked, positions, expected):
    before, plain = written(chat, dictionary, asked[0]), logits(chat, asked[0])
    with steering.add_features(chat, dictionary, {5: 4.0}, positions=positions):
        moved = (written(chat, dictionary, asked[0]) - before).abs().amax(dim=-1) > 0
        after = logits(chat, asked[0])
    places = sorted(place % len(asked[0]) for place in expected)
    assert moved.nonzero().flatten().tolist() == places
    assert torch.equal(after[: places[0]], plain[: places[0]]) and not torch.equal(after[places[0]], plain[places[0]])


def test_a_name_is_looked_up_in_each_prompt_of_a_batch(chat, dictionary, asked):
    """Two texts of one length whose reply begins at different places."""
    words = chat.tokenizer("to bake", add_special_tokens=False).input_ids
    begun = [*tokens.chat_prompt(chat.tokenizer, "how do i bake a cake?"), *words]
    later = tokens.chat_prompt(chat.tokenizer, "how do i bake a cake at home?")
    assert len(begun) == len(later)
    found = steering.scope(
        chat, lambda: steering.add_features(chat, dictionary, {5: 4.0}, positions="reply"), prompts=[begun, later]
    )
    assert found.positions == ((len(begun) - 3,), (len(later) - 1,))


def test_tokens_that_the_dictionary_was_trained_without_are_never_edited(chat, dictionary, asked):
    assert dictionary.cfg.metadata.exclude_special_tokens == [chat.tokenizer.bos_token_id]
    before = written(chat, dictionary, asked[0])
    for positions in ("all", [0, 1]):
        with steering.add_features(chat, dictionary, {5: 4.0}, positions=positions):
            after = written(chat, dictionary, asked[0])
        assert torch.equal(after[0], before[0]) and not torch.equal(after[1], before[1])


def test_all_positions_include_the_reply_and_a_name_does_not(chat, dictionary, asked):
    for positions, generated in (("all", True), ("last", False)):
        found = steering.scope(
            chat, lambda p=positions: steering.add_features(chat, dictionary, {5: 4.0}, positions=p), prompts=asked[:1]
        )
        assert found.generated is generated


# --- contexts -----------------------------------------------------------------------------------------------


def test_features_and_directions_nest_in_the_order_of_entering(chat, asked):
    sae, direction = features.load("chat", "sae", layer=LAYER), torch.ones(128)
    before = written(chat, sae, asked[0])
    with (
        steering.ablate(chat, direction),
        steering.add_features(chat, sae, {5: 4.0}),
        steering.add_features(chat, sae, {6: 1.0}),
    ):
        both = written(chat, sae, asked[0])
    with steering.ablate(chat, direction):
        cut = written(chat, sae, asked[0])
    assert directions.project(cut, direction).abs().max() < 1e-3 < directions.project(before, direction).abs().max()
    torch.testing.assert_close(both[1:], cut[1:] + 4 * sae.W_dec[5] + sae.W_dec[6], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("ending", [None, RuntimeError, KeyboardInterrupt])
def test_the_model_is_bit_identical_after_a_feature_context_however_it_ends(chat, dictionary, asked, ending):
    before = logits(chat, asked[0])
    try:
        with steering.add_features(chat, dictionary, {5: 40.0}):
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
    with chat.hooks(watch), steering.add_features(chat, dictionary, {5: 4.0}):
        caching.harvest(chat, asked[:1], hook_names=names[1:], progress=False)
    assert len(kept) >= 2 and all(torch.equal(given, then) for given, then in kept)


# --- controls -----------------------------------------------------------------------------------------------


def test_random_sets_are_other_features_of_nearly_the_same_activation(chat, dictionary, asked):
    natural = steering.natural_activations(chat, dictionary, asked)[0]
    chosen = natural.topk(8).indices.tolist()[5:]
    sets = steering.random_feature_sets(natural, chosen, n=20, seed=0, nearest=3)
    assert sets == steering.random_feature_sets(natural, chosen, n=20, seed=0, nearest=3)
    assert len(set(sets)) > 1
    for drawn in sets:
        assert len(set(drawn)) == 3 and not set(drawn) & set(chosen)
        assert 0.5 < float(natural[list(drawn)].sum() / natural[chosen].sum()) < 2


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"values": {}}, "No feature was given"),
        ({"values": {999: 1.0}}, "Feature 999 does not exist.*features 0 to"),
        ({"values": {-1: 1.0}}, "Feature -1 does not exist"),
        ({"values": {5: math.nan}}, "feature 5 got nan"),
        ({"values": {5: math.inf}}, "feature 5 got inf"),
        ({"values": {5: 1.0}, "unit": 0.0}, "units of 0"),
        ({"values": {5: 1.0}, "unit": -2.0}, "units of -2"),
        ({"values": {5: 1.0}, "unit": math.nan}, "units of nan"),
        ({"values": {5: 1.0}, "unit": torch.ones(7)}, "7 entries.*natural_activations"),
    ],
)
def test_a_feature_or_strength_that_means_nothing_is_refused_at_once(chat, dictionary, options, message):
    with pytest.raises(ValueError, match=message):
        steering.clamp_features(chat, dictionary, **options)


def test_an_inactive_features_activation_is_no_unit(chat, dictionary, asked):
    natural = steering.natural_activations(chat, dictionary, asked)[0]
    silent = int((natural == 0).nonzero()[0])
    with pytest.raises(
        ValueError, match=f"Feature {silent} cannot be counted in units of 0.*where the feature is active"
    ):
        steering.add_features(chat, dictionary, {silent: 1.0}, unit=natural)


def test_another_models_dictionary_is_refused(model, dictionary, prompts):
    with pytest.raises(ValueError, match="128 numbers.*32.*another model"):
        steering.natural_activations(model, dictionary, prompts)
    deeper = features.load("chat", "sae", layer=5)
    with (
        pytest.raises(ValueError, match="no hook called 'blocks.5.hook_resid_post'.*layers 0 to 3"),
        steering.ablate_features(model, deeper, [1]),
    ):
        pass


def test_a_dictionary_on_another_device_is_refused(chat, dictionary, asked):
    elsewhere = copy.deepcopy(dictionary).to("meta")
    with pytest.raises(ValueError, match="on meta, the model on cpu.*Move it"):
        steering.natural_activations(chat, elsewhere, asked)


def test_a_dictionary_that_rescales_what_it_decodes_is_refused(chat, dictionary, asked, monkeypatch):
    scaled = copy.deepcopy(dictionary)
    plain = scaled.decode
    monkeypatch.setattr(scaled, "decode", lambda found: 2 * plain(found), raising=False)
    with pytest.raises(ValueError, match="Fold that into its weights"):
        steering.natural_activations(chat, scaled, asked)


@pytest.mark.parametrize("position", [60, -60])
def test_a_position_outside_the_prompt_is_refused_while_the_model_runs(chat, dictionary, asked, position):
    with (
        steering.add_features(chat, dictionary, {5: 1.0}, positions=[position]),
        pytest.raises(ValueError, match=f"Position {position} lies outside a prompt"),
    ):
        logits(chat, asked[0])


@pytest.mark.parametrize(
    "features_, message",
    [([0], "Feature 0 is inactive"), ([3], "1 features were given and 0 others"), ([], "0 features")],
)
def test_a_control_that_cannot_be_drawn_is_refused(features_, message):
    with pytest.raises(ValueError, match=message):
        steering.random_feature_sets(torch.tensor([0.0, 0.0, 0.0, 2.0]), features_, n=3, seed=0)


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


@pytest.mark.parametrize("nodes", [[], [(3, 0)], [(-1, 0)]])
def test_a_node_without_a_layer_is_refused(chat, nodes):
    with pytest.raises(ValueError, match="layer, feature"):
        steering.random_node_sets([torch.ones(4)] * 3, nodes, n=1, seed=0)
