"""What `harvest` keeps is what the full cache holds, with less work, and whatever else is hooked."""

import shutil

import pytest
import torch

from course_lib import caching, models, steering, store

RESIDUAL = [f"blocks.{layer}.hook_resid_{place}" for layer in range(4) for place in ("pre", "mid", "post")]


def full_cache(model, prompt):
    with torch.no_grad():
        return model.run_with_cache(torch.tensor([prompt]))[1]


def expected_values(model, prompts, hook_names, columns):
    """The same by TransformerLens' own cache, one prompt at a time: [prompt, position, hook, d_model]."""
    rows = []
    for prompt, wanted in zip(prompts, columns, strict=True):
        cache = full_cache(model, prompt)
        rows.append(torch.stack([cache[name][0, wanted] for name in hook_names], dim=1))
    return torch.stack(rows)


def harvest(model, prompts, **options):
    return caching.harvest(model, prompts, progress=False, **options)


def active_hooks(model):
    return sum(len(point.fwd_hooks) for point in model.hook_points())


@pytest.fixture
def no_work(monkeypatch):
    """Any forward pass fails the test: an error must come before it."""
    monkeypatch.setattr(models, "run_body", lambda *_: pytest.fail("work was done before the error"))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_values_equal_the_plain_full_cache(model, prompts, batch_size):
    harvested = harvest(model, prompts, hook_names=RESIDUAL, positions=["last"], batch_size=batch_size)
    expected = expected_values(model, prompts, RESIDUAL, [[-1]] * len(prompts))
    torch.testing.assert_close(harvested.values, expected, rtol=1e-4, atol=1e-4)


def test_the_default_is_the_input_of_every_block_at_the_last_token(model, prompts):
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(4)]
    harvested = harvest(model, prompts)
    assert harvested.hook_names == tuple(names) and harvested.positions == ("last",)
    expected = expected_values(model, prompts, names, [[-1]] * len(prompts))
    torch.testing.assert_close(harvested.values, expected, rtol=1e-4, atol=1e-4)


def test_named_and_integer_positions_pick_the_tokens_they_name(model, prompts):
    positions = ["last_instruction", "reply", -2, 1]
    names = RESIDUAL[4:6]
    harvested = harvest(model, prompts, hook_names=names, positions=positions)
    columns = [[len(prompt) - 3, len(prompt) - 1, len(prompt) - 2, 1] for prompt in prompts]
    torch.testing.assert_close(harvested.values, expected_values(model, prompts, names, columns), rtol=1e-4, atol=1e-4)
    assert harvested.positions == tuple(positions)


def test_each_prompt_may_have_positions_of_its_own(model, prompts):
    columns = [[number % 3, -1 - number % 2] for number in range(len(prompts))]
    harvested = harvest(model, prompts, hook_names=RESIDUAL[3:5], positions=columns)
    torch.testing.assert_close(
        harvested.values, expected_values(model, prompts, RESIDUAL[3:5], columns), rtol=1e-4, atol=1e-4
    )
    assert harvested.positions == (0, 1)


@pytest.mark.parametrize("name", ["hook_embed", "blocks.2.mlp.hook_post", "ln_final.hook_normalized"])
def test_any_hook_with_one_vector_per_token_can_be_kept(model, prompts, name):
    harvested = harvest(model, prompts, hook_names=[name])
    expected = expected_values(model, prompts, [name], [[-1]] * len(prompts))
    torch.testing.assert_close(harvested.values, expected, rtol=1e-4, atol=1e-4)


def test_the_order_of_the_hooks_is_the_order_asked_for(model, prompts):
    forward, backward = (harvest(model, prompts, hook_names=names) for names in (RESIDUAL, RESIDUAL[::-1]))
    assert torch.equal(forward.values.flip(2), backward.values)


def test_nothing_after_the_last_hook_is_computed(model, prompts):
    fired = []
    watched = ["blocks.2.hook_resid_pre", "blocks.2.hook_attn_out", "blocks.3.hook_resid_pre", "hook_unembed"]
    with model.hooks([(name, lambda _, hook: fired.append(hook.name)) for name in watched]):
        harvest(model, prompts, hook_names=["blocks.2.hook_resid_pre", "blocks.0.hook_resid_pre"])
    assert set(fired) == {"blocks.2.hook_in"}


def test_the_model_answers_as_before_after_a_harvest_that_stopped_early(model, prompts):
    before = models.next_token_logits(model, prompts)
    harvest(model, prompts, hook_names=["blocks.1.hook_resid_pre"])
    assert torch.equal(models.next_token_logits(model, prompts), before)
    assert active_hooks(model) == 0


def test_active_hooks_show_in_the_values(model, prompts):
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    with steering.ablate(model, direction):
        ablated = harvest(model, prompts, hook_names=RESIDUAL)
        expected = expected_values(model, prompts, RESIDUAL, [[-1]] * len(prompts))
    torch.testing.assert_close(ablated.values, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ablated.values, harvest(model, prompts, hook_names=RESIDUAL).values, atol=0.1)


def test_a_hook_on_one_position_hits_the_same_token_in_every_batch(model, prompts):
    direction = torch.randn(32, generator=torch.Generator().manual_seed(2))
    with steering.add(model, direction, layer=1, coefficient=3.0, positions=[-2]):
        steered = harvest(model, prompts)
        expected = expected_values(model, prompts, steered.hook_names, [[-1]] * len(prompts))
    torch.testing.assert_close(steered.values, expected, rtol=1e-4, atol=1e-4)


def test_an_edit_in_place_further_on_does_not_reach_what_was_kept(model, prompts):
    plain = harvest(model, prompts, hook_names=["blocks.0.hook_resid_post"])
    names = ["blocks.0.hook_resid_post", "blocks.2.hook_resid_pre"]
    with model.hooks([("blocks.1.hook_resid_pre", lambda activation, hook: activation.zero_())]):
        kept = harvest(model, prompts, hook_names=names).at("blocks.0.hook_resid_post")
    torch.testing.assert_close(kept, plain.at(0), rtol=1e-4, atol=1e-4)


def test_half_precision_models_give_float32_values(checkpoint, prompts):
    loaded = models.load(str(checkpoint), dtype=torch.bfloat16)
    harvested = harvest(loaded, prompts[:1])
    assert harvested.values.dtype == torch.float32
    expected = full_cache(loaded, prompts[0])["resid_pre", 3][0, -1]
    assert torch.equal(harvested.at(3)[0], expected.float())


def test_values_carry_no_gradient(model, prompts):
    assert not harvest(model, prompts).values.requires_grad


@pytest.mark.parametrize(
    "options, message",
    [
        ({"hook_names": ["blocks.0.hook_resid_pre", "blocks.9.hook_resid_pre"]}, "no hook called 'blocks.9"),
        ({"hook_names": "blocks.0.hook_resid_pre"}, "no hook called 'b'"),
        ({"positions": "last"}, "(?i)position 'l'"),
        ({"positions": ["lst"]}, "Known names: last"),
        ({"positions": [9]}, "Position 9 lies outside a prompt of 6 tokens"),
        ({"positions": [-7]}, "Position -7 lies outside"),
        ({"positions": [[0], [1]]}, "shorter"),
        ({"positions": [[0], [0], [0, 1], [0], [0], [0]]}, "length"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_before_any_work(model, prompts, no_work, options, message):
    with pytest.raises(ValueError, match=message):
        harvest(model, prompts, **options)


@pytest.mark.parametrize("bad, message", [([], "empty"), ([[1] * 65], "at most 64"), ([1, 2], "one prompt")])
def test_prompts_that_cannot_be_run_are_refused_before_any_work(model, no_work, bad, message):
    with pytest.raises(ValueError, match=message):
        harvest(model, bad)


@pytest.mark.parametrize(
    "names, message",
    [
        (["blocks.0.attn.hook_pattern"], "hook_pattern has the shape"),
        (["blocks.0.hook_resid_pre", "unembed.hook_in"], "unembed.hook_in did not fire"),
    ],
)
def test_an_activation_that_does_not_fit_is_named(model, prompts, names, message):
    with pytest.raises(ValueError, match=message):
        harvest(model, prompts, hook_names=names)
    assert active_hooks(model) == 0


def test_a_nan_is_reported_where_it_starts(model, prompts):
    def spoil(activation, hook):
        is_the_bread_prompt = activation.shape[1] == len(prompts[5])
        return activation * float("nan") if is_the_bread_prompt else activation

    with (
        model.hooks([("blocks.1.hook_mlp_out", spoil)]),
        pytest.raises(ValueError, match="prompt 5 is not finite .* first in blocks.1.mlp.hook_out"),
    ):
        harvest(model, prompts)


def test_activations_are_found_by_name_or_layer(model, prompts):
    harvested = harvest(model, prompts, positions=["last_instruction", "last"])
    assert torch.equal(harvested.at("blocks.2.hook_resid_pre", "last"), harvested.values[:, 1, 2])
    assert torch.equal(harvested.at(2, "last_instruction"), harvested.values[:, 0, 2])
    only = harvest(model, prompts)
    assert torch.equal(only.at(3), only.values[:, 0, 3])


@pytest.mark.parametrize(
    "hook, position, message",
    [
        (0, None, "Position None was not harvested.*last_instruction"),
        (0, "first", "Position 'first' was not harvested"),
        (7, "last", "0 harvested hooks match 7"),
        (1, "last", "2 harvested hooks match 1"),
        ("blocks.0.hook_resid_pr", "last", "0 harvested hooks match.*blocks.0.hook_resid_pre"),
    ],
)
def test_an_ambiguous_or_missing_label_is_an_error(model, prompts, hook, position, message):
    names = ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre", "blocks.1.hook_resid_post"]
    harvested = harvest(model, prompts, hook_names=names, positions=["last_instruction", "last"])
    with pytest.raises(ValueError, match=message):
        harvested.at(hook, position)


def test_a_forecast_counts_every_token_that_is_read_and_leaves_no_hook_behind(model, prompts):
    once, thrice = caching.forecast(model, prompts), caching.forecast(model, prompts, passes=3)
    assert once.n_tokens == sum(map(len, prompts)) and thrice.n_tokens == 3 * once.n_tokens
    assert once.seconds > 0 and f"{once.n_tokens:,} tokens" in str(once)
    assert active_hooks(model) == 0


def test_a_forecast_counts_the_steps_of_replies(model, prompts, monkeypatch):
    monkeypatch.setattr(caching, "_seconds_of_step", lambda model, n: 100.0 * n)
    plain, replying = caching.forecast(model, prompts), caching.forecast(model, prompts, new_tokens=3, batch_size=2)
    steps = 3 * -(-len(prompts) // 2)
    assert replying.seconds - plain.seconds == pytest.approx(steps * 200, abs=1)


# --- a device that is full ----------------------------------------------------------------------------------


@pytest.fixture
def full(model):
    """Make the device be full for more than so many prompts, by a hook as late as block 2; return the sizes tried."""
    handles = []

    def install(limit):
        sizes = []

        def refuse(module, arguments):
            sizes.append(len(arguments[0]))
            if len(arguments[0]) > limit:
                raise torch.OutOfMemoryError("the device is full")

        handles.append(model.blocks[2].register_forward_pre_hook(refuse))
        return sizes

    yield install
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_batch_that_does_not_fit_is_halved_until_it_does(model, prompts, full, limit):
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(4)]
    expected = expected_values(model, prompts, names, [[-1]] * len(prompts))
    sizes = full(limit)
    torch.testing.assert_close(harvest(model, prompts).values, expected, rtol=1e-4, atol=1e-4)
    assert max(sizes) > limit
    assert sum(size for size in sizes if size <= limit) == len(prompts), "no prompt is computed twice"


def test_after_one_halving_no_larger_batch_is_tried(model, prompts, full):
    sizes = full(4)
    harvest(model, [prompts[0]] * 16, batch_size=8)
    assert sizes == [8, 4, 4, 4, 4]


def test_a_prompt_that_does_not_fit_alone_is_an_error_and_leaves_no_hook(model, prompts, full):
    full(0)
    with pytest.raises(torch.OutOfMemoryError):
        harvest(model, prompts)
    assert not models.has_hooks(model)


# --- a model's fingerprint ----------------------------------------------------------------------------------


def test_the_same_model_in_another_folder_has_the_same_fingerprint(checkpoint, model, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "elsewhere")
    other = models.load(str(tmp_path / "elsewhere"))
    assert store.fingerprint(other.original_model) == store.fingerprint(model.original_model)
    half = models.load(str(checkpoint), dtype=torch.bfloat16)
    assert store.fingerprint(half.original_model) != store.fingerprint(model.original_model)


def test_a_buffer_that_a_long_prompt_changes_is_no_part_of_the_fingerprint(checkpoint):
    """Rotary tables are worked out anew for long prompts; they are not saved, and say nothing of the weights."""
    other = models.load(str(checkpoint))
    before = store.fingerprint(other.original_model)
    tables = [b for name, b in other.original_model.named_buffers() if name.endswith("inv_freq")]
    for table in tables:
        table.mul_(2)
    assert tables and store.fingerprint(other.original_model) == before
    with torch.no_grad():
        next(other.original_model.parameters()).add_(1e-3)
    assert store.fingerprint(other.original_model) != before


def test_padded_prompts_are_refused_by_a_harvest(model, prompts):
    padded = [*prompts[0], model.tokenizer.pad_token_id]
    with pytest.raises(ValueError, match="Prompt 1 is padded"):
        caching.harvest(model, [prompts[1], padded], progress=False)
