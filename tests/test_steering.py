"""What the interventions do to the residual stream, what they leave alone, and that nothing of them stays."""

import math

import pytest
import torch

from course_lib import abliteration, caching, directions, models, steering

RESIDUAL = [f"blocks.{layer}.hook_resid_{place}" for layer in range(4) for place in ("pre", "mid", "post")]


@pytest.fixture(scope="module")
def direction():
    """Not of length one: an intervention that forgets to normalise is then wrong."""
    return 2.5 * torch.randn(32, generator=torch.Generator().manual_seed(0))


def stream(model, prompt):
    """Every point of the residual stream, with the last norm's input: {hook name: [pos, d_model]}."""
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.tensor([prompt]))
    return {name: cache[name][0] for name in [*RESIDUAL, "ln_final.hook_in"]}


def logits(model, prompt):
    with torch.no_grad():
        return model(torch.tensor([prompt]))[0]


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


# --- ablate -------------------------------------------------------------------------------------------------


def test_nothing_is_left_along_an_ablated_direction(model, prompts, direction):
    before = stream(model, prompts[0])
    with steering.ablate(model, direction):
        after = stream(model, prompts[0])
    for name in after:
        assert directions.project(before[name], direction).abs().max() > 0.1
        assert directions.project(after[name], direction).abs().max() < 1e-4, name


def test_what_is_at_right_angles_to_the_ablated_direction_is_written_as_before(model, prompts, direction):
    before = stream(model, prompts[0])["blocks.0.hook_resid_pre"]
    with steering.ablate(model, direction):
        after = stream(model, prompts[0])["blocks.0.hook_resid_pre"]
    close(after, directions.project_out(before, direction))


def test_ablating_acts_like_weights_that_cannot_write_the_direction(model, checkpoint, prompts, direction):
    """The independent way: project the direction out of every matrix that writes to the residual stream."""
    edited = models.load(str(checkpoint))
    network = edited.original_model
    r = directions.unit(direction)
    embedding = network.get_input_embeddings().weight
    embedding.copy_(directions.project_out(embedding, r))
    for name, weight in network.named_parameters():
        if "o_proj" in name or "down_proj" in name:
            weight.copy_(weight - torch.outer(r, r @ weight))
    for prompt in prompts:
        with steering.ablate(model, direction):
            hooked = logits(model, prompt)
        close(hooked, logits(edited, prompt))
        assert not torch.allclose(hooked, logits(model, prompt), atol=0.1)


@pytest.fixture(params=["Llama", "Qwen2", "Qwen3", "Gemma2", "GPT2"])
def other_family(request, families):
    """A tiny model of a published shape: Gemma 2 has norms *after* attention and MLP too."""
    return families(request.param)


def test_nothing_is_left_in_other_families_either(other_family, prompts, direction):
    """Gemma 2 norms what attention and MLP put out before it is added: hooks before that norm would miss."""
    names = [f"blocks.{layer}.hook_resid_{place}" for layer in range(3) for place in ("pre", "mid", "post")]
    plain = caching.harvest(other_family, prompts, hook_names=names, positions=[0, "last"], progress=False)
    with steering.ablate(other_family, direction):
        after = caching.harvest(other_family, prompts, hook_names=names, positions=[0, "last"], progress=False)
    assert directions.project(plain.values, direction).abs().amax(dim=(0, 1)).min() > 0.01
    assert directions.project(after.values, direction).abs().max() < 1e-4


def test_length_and_sign_of_the_ablated_direction_do_not_matter(model, prompts, direction):
    outcomes = []
    for factor in (1.0, -1.0, 7.0):
        with steering.ablate(model, factor * direction):
            outcomes.append(logits(model, prompts[0]))
    close(outcomes[0], outcomes[1])
    close(outcomes[0], outcomes[2])


def test_ablation_holds_while_text_is_generated(model, prompts, direction):
    left = []
    watch = [(name, lambda x, hook: left.append(directions.project(x, direction).abs().max())) for name in RESIDUAL]
    with steering.ablate(model, direction), model.hooks(watch):
        models.generate(model, prompts[:2], max_new_tokens=4)
    assert len(left) == len(RESIDUAL) * 4 * 2 and max(left) < 1e-4


# --- add ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [0, 1, 3])
@pytest.mark.parametrize("coefficient", [1.0, -2, 0.5])
def test_adding_shifts_the_input_of_its_layer_and_nothing_before(model, prompts, direction, layer, coefficient):
    before = stream(model, prompts[0])
    with steering.add(model, direction, layer=layer, coefficient=coefficient):
        after = stream(model, prompts[0])
    close(after[f"blocks.{layer}.hook_resid_pre"], before[f"blocks.{layer}.hook_resid_pre"] + coefficient * direction)
    for name in RESIDUAL[: 3 * layer]:
        assert torch.equal(after[name], before[name]), name
    assert not torch.allclose(after["blocks.3.hook_resid_post"], before["blocks.3.hook_resid_post"], atol=0.1)


@pytest.mark.parametrize("positions, columns", [("last", [-1]), ([-2], [-2]), ([0, 3], [0, 3]), ("all", slice(None))])
def test_adding_moves_the_named_positions_only(model, prompts, direction, positions, columns):
    name = "blocks.2.hook_resid_pre"
    expected = stream(model, prompts[0])[name].clone()
    expected[columns] += 3 * direction
    with steering.add(model, direction, layer=2, coefficient=3, positions=positions):
        close(stream(model, prompts[0])[name], expected)


def generated_with(model, prompt, edit, max_new_tokens=6):
    """Greedy reply without key-value cache: `edit(resid, n_prompt_tokens)` at layer 1 sees all the text."""
    ids = list(prompt)
    hook = ("blocks.1.hook_resid_pre", lambda resid, hook: edit(resid.clone(), len(prompt)))
    while len(ids) < len(prompt) + max_new_tokens and ids[-1] != model.tokenizer.eos_token_id:
        ids.append(int(model.run_with_hooks(torch.tensor([ids]), fwd_hooks=[hook])[0, -1].argmax()))
    return ids[len(prompt) :]


def test_adding_at_the_last_position_means_the_prompts_and_not_the_replys(model, prompts, direction):
    def at_last(resid, n):
        resid[:, n - 1] += 4 * direction
        return resid

    expected = [generated_with(model, prompt, at_last) for prompt in prompts]
    with steering.add(model, direction, layer=1, coefficient=4, positions="last"):
        assert models.generate(model, prompts, max_new_tokens=6) == expected
    assert models.generate(model, prompts, max_new_tokens=6) != expected


def test_adding_at_all_positions_includes_the_reply(model, prompts, direction):
    def everywhere(resid, n):
        return resid + 4 * direction

    expected = [generated_with(model, prompt, everywhere) for prompt in prompts]
    with steering.add(model, direction, layer=1, coefficient=4):
        assert models.generate(model, prompts, max_new_tokens=6) == expected
    with steering.add(model, direction, layer=1, coefficient=4, positions="last"):
        assert models.generate(model, prompts, max_new_tokens=6) != expected


@pytest.mark.parametrize("target", [0.0, 5, -2.5])
def test_projection_matching_sets_the_reach_and_leaves_the_rest(model, prompts, direction, target):
    name = "blocks.2.hook_resid_pre"
    before = stream(model, prompts[0])[name]
    with steering.add_projection_matched(model, direction, layer=2, target=target):
        after = stream(model, prompts[0])[name]
    close(directions.project(after, direction), torch.full((len(after),), float(target)))
    close(directions.project_out(after, direction), directions.project_out(before, direction))


def test_projection_matching_makes_harmless_prompts_reach_as_far_as_harmful_ones(model, prompts, direction):
    harmful, harmless = prompts[:3], prompts[3:]
    target = directions.project(caching.harvest(model, harmful, progress=False).at(1), direction).mean()
    with steering.add_projection_matched(model, direction, layer=1, target=target, positions="last"):
        matched = caching.harvest(model, harmless, progress=False).at(1)
    close(directions.project(matched, direction), target.expand(3))


@pytest.mark.parametrize("positions", ["last", "reply", "last_instruction", "all", [-1], [0]])
def test_a_prompt_in_a_batch_of_several_lengths_is_edited_as_it_is_alone(model, prompts, direction, positions):
    assert len(set(map(len, prompts))) > 2
    with steering.add(model, direction, layer=1, coefficient=3.0, positions=positions):
        alone = torch.cat([models.next_token_logits(model, [prompt]) for prompt in prompts])
        close(models.next_token_logits(model, prompts), alone)
        replies = [models.generate(model, [prompt], max_new_tokens=6)[0] for prompt in prompts]
        assert models.generate(model, prompts, max_new_tokens=6) == replies
    assert not torch.allclose(models.next_token_logits(model, prompts), alone, atol=0.1)


def test_a_number_outside_the_shortest_prompt_is_refused_in_a_batch_of_longer_ones(model, prompts, direction):
    short, long = min(map(len, prompts)), max(map(len, prompts))
    assert short < long
    with steering.add(model, direction, layer=1, coefficient=3.0, positions=[-long]):
        with pytest.raises(ValueError, match="outside a prompt"):
            models.next_token_logits(model, prompts)


# --- contexts -----------------------------------------------------------------------------------------------


def test_nested_contexts_act_in_the_order_in_which_they_are_entered(model, prompts, direction):
    other = torch.roll(direction, 1)
    name = "blocks.0.hook_resid_pre"
    before = stream(model, prompts[0])[name]
    with steering.ablate(model, direction), steering.add(model, other, layer=0, coefficient=2):
        close(stream(model, prompts[0])[name], directions.project_out(before, direction) + 2 * other)
    with steering.add(model, other, layer=0, coefficient=2), steering.ablate(model, direction):
        close(stream(model, prompts[0])[name], directions.project_out(before + 2 * other, direction))


def test_a_direction_in_half_precision_is_ablated_as_the_same_in_float32(model, prompts, direction):
    half = direction.to(torch.bfloat16)
    with steering.ablate(model, half):
        left = stream(model, prompts[0])["blocks.1.hook_resid_pre"]
    assert float(directions.project(left, half.float()).abs().max()) < 1e-4


def test_leaving_an_inner_context_keeps_the_outer_one(model, prompts, direction):
    with steering.ablate(model, direction):
        alone = logits(model, prompts[0])
        with steering.add(model, direction, layer=1, coefficient=3):
            assert not torch.allclose(logits(model, prompts[0]), alone, atol=0.1)
        assert torch.equal(logits(model, prompts[0]), alone)


def interventions(model, direction):
    return [
        lambda: steering.ablate(model, direction),
        lambda: steering.add(model, direction, layer=1, coefficient=2, positions="last"),
        lambda: steering.add_projection_matched(model, direction, layer=1, target=2),
    ]


@pytest.mark.parametrize("ending", [None, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("number", range(3))
def test_the_model_is_bit_identical_after_a_context_however_it_ends(model, prompts, direction, number, ending):
    weights = {name: weight.clone() for name, weight in model.original_model.named_parameters()}
    before, kept_direction = logits(model, prompts[0]), direction.clone()
    try:
        with interventions(model, direction)[number]():
            assert not torch.equal(logits(model, prompts[0]), before)
            if ending:
                raise ending
    except (RuntimeError, KeyboardInterrupt):
        assert ending
    assert torch.equal(logits(model, prompts[0]), before)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.original_model.named_parameters())
    assert not any(point.fwd_hooks for point in model.hook_points())
    assert torch.equal(direction, kept_direction)


def test_an_interrupt_inside_the_forward_pass_leaves_the_model_as_it_was(model, prompts, direction):
    def interrupt(activation, hook):
        raise KeyboardInterrupt

    before = logits(model, prompts[0])
    with pytest.raises(KeyboardInterrupt), steering.ablate(model, direction):
        model.run_with_hooks(torch.tensor(prompts[:1]), fwd_hooks=[("blocks.2.hook_attn_out", interrupt)])
    assert torch.equal(logits(model, prompts[0]), before)


@pytest.mark.parametrize("number", range(3))
def test_no_activation_is_edited_in_place(model, prompts, direction, number):
    """An edit in place at the input of layer 1 would also change the cached output of layer 0."""
    before = stream(model, prompts[0])["blocks.0.hook_resid_post"]
    kept = {}
    names = ["blocks.0.hook_resid_post", "hook_embed"]
    watch = [(name, lambda x, hook: kept.update({hook.name: (x, x.clone())})) for name in names]
    with model.hooks(watch), interventions(model, direction)[number]():
        logits(model, prompts[0])
    assert all(torch.equal(given, at_the_time) for given, at_the_time in kept.values())
    if number:
        assert torch.equal(kept["blocks.0.hook_out"][0][0], before)


# --- score_candidates ---------------------------------------------------------------------------------------


def test_scores_are_those_of_a_plain_loop(model, prompts):
    harmful, harmless, refusal = prompts[:3], prompts[3:], [9, 40]
    activations = caching.harvest(model, prompts, positions=[-3, "last"], progress=False).values
    candidates = directions.difference_of_means(activations[:3], activations[3:])[:, 1:]
    rows = steering.score_candidates(
        model,
        candidates,
        harmful=harmful,
        harmless=harmless,
        refusal_token_ids=refusal,
        layers=[1, 2, 3],
        positions=[-3, "last"],
        progress=False,
    )

    def log_odds(next_logits):
        p = next_logits.softmax(-1)[refusal].sum()
        return float((p / (1 - p)).log())

    def mean(values):
        return sum(values) / len(values)

    for row, (position, layer) in zip(rows, [(p, i) for p in range(2) for i in range(3)], strict=True):
        candidate = candidates[position, layer]
        r = candidate / candidate.norm()
        writes = ["hook_embed"] + [f"blocks.{i}.hook_{part}_out" for i in range(4) for part in ("attn", "mlp")]
        ablation = [(name, lambda x, hook, r=r: x - (x @ r)[..., None] * r) for name in writes]
        addition = [(f"blocks.{layer + 1}.hook_resid_pre", lambda x, hook, c=candidate: x + c)]

        def run(prompt, hooks):
            return model.run_with_hooks(torch.tensor([prompt]), fwd_hooks=hooks)[0, -1]

        bypass = mean([log_odds(run(prompt, ablation)) for prompt in harmful])
        induce = mean([log_odds(run(prompt, addition)) for prompt in harmless])
        kl = mean(
            [
                float((p.exp() * (p - q)).sum())
                for p, q in (
                    (run(prompt, []).log_softmax(-1), run(prompt, ablation).log_softmax(-1)) for prompt in harmless
                )
            ]
        )
        assert (row.position, row.layer) == ([-3, "last"][position], layer + 1)
        assert (row.bypass, row.induce, row.kl) == pytest.approx((bypass, induce, kl), rel=1e-3, abs=1e-3)


def test_by_default_candidates_are_labelled_as_all_layers_at_the_last_positions(model, prompts):
    candidates = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(1))
    rows = steering.score_candidates(
        model, candidates, harmful=prompts[:1], harmless=prompts[:1], refusal_token_ids=[9], progress=False
    )
    assert [(row.position, row.layer) for row in rows] == [(p, layer) for p in (-2, -1) for layer in range(4)]


def test_a_candidate_that_is_zero_up_to_rounding_changes_nothing(model, prompts):
    """At the last token all prompts have the same embedding, so the first layer's candidate is zero."""
    values = caching.harvest(model, prompts, progress=False).values
    candidates = directions.difference_of_means(values[:3], values[3:])
    candidates[0, 0] = 1e-9 * candidates[0, 1]
    first = steering.score_candidates(
        model, candidates, harmful=prompts[:3], harmless=prompts[3:], refusal_token_ids=[9], progress=False
    )[0]
    unchanged = directions.refusal_score(models.next_token_logits(model, prompts), [9])
    assert first.bypass == pytest.approx(float(unchanged[:3].mean()), abs=1e-4)
    assert first.induce == pytest.approx(float(unchanged[3:].mean()), abs=1e-4)
    assert first.kl == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"candidates": torch.ones(1, 3, 32)},  # four layers
        {"positions": [-2, -1]},
        {"layers": [0, 1, 2, -1]},
        {"candidates": torch.full((1, 4, 32), math.nan)},
    ],
)
def test_candidates_that_are_wrongly_labelled_or_not_finite_are_refused(model, prompts, changes):
    arguments = {
        "candidates": torch.ones(1, 4, 32),
        "harmful": prompts[:1],
        "harmless": prompts[:1],
        "refusal_token_ids": [9],
        "progress": False,
    } | changes
    with pytest.raises(ValueError):
        steering.score_candidates(model, arguments.pop("candidates"), **arguments)


# --- what would be silently wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [4, -1])
@pytest.mark.parametrize(
    "function, amount", [(steering.add, "coefficient"), (steering.add_projection_matched, "target")]
)
def test_a_layer_that_does_not_exist_is_refused(model, direction, function, amount, layer):
    with (
        pytest.raises(ValueError, match="no hook called.*layers 0 to 3"),
        function(model, direction, layer=layer, **{amount: 1.0}),
    ):
        pass


@pytest.mark.parametrize("bad", [torch.full((32,), math.nan), torch.zeros(32)])
def test_a_vector_without_a_direction_is_refused(model, bad):
    with pytest.raises(ValueError, match="no direction"):
        steering.ablate(model, bad)
    with pytest.raises(ValueError, match="no direction"):
        steering.add_projection_matched(model, bad, layer=1, target=1.0)


@pytest.mark.parametrize("amount", [math.nan, math.inf])
def test_an_amount_that_is_not_finite_is_refused(model, direction, amount):
    with pytest.raises(ValueError, match="must be finite"):
        steering.add(model, direction, layer=1, coefficient=amount)
    with pytest.raises(ValueError, match="must be finite"):
        steering.add(model, direction * amount, layer=1, coefficient=1.0)
    with pytest.raises(ValueError, match="must be finite"):
        steering.add_projection_matched(model, direction, layer=1, target=amount)


@pytest.mark.parametrize("positions, message", [([20], "outside a prompt"), ([-20], "outside"), (["lst"], "Unknown")])
def test_a_position_that_a_prompt_does_not_have_is_refused_while_the_model_runs(
    model, prompts, direction, positions, message
):
    with (
        steering.add(model, direction, layer=1, coefficient=1.0, positions=positions),
        pytest.raises(ValueError, match=message),
    ):
        logits(model, prompts[0])


def test_no_position_is_refused(model, direction):
    with (
        pytest.raises(ValueError, match="positions is empty"),
        steering.add(model, direction, layer=1, coefficient=1.0, positions=[]),
    ):
        pass


def test_a_direction_of_another_width_is_refused_by_every_edit(model):
    short = torch.ones(1)  # one number would be added to all coordinates
    for edit in (
        lambda: steering.add(model, short, layer=1, coefficient=5.0),
        lambda: steering.ablate(model, short),
        lambda: steering.add_projection_matched(model, short, layer=1, target=1.0),
        lambda: abliteration.abliterate(model, short),
    ):
        with pytest.raises(ValueError, match="has 1 numbers, and this model's residual stream has"):
            edit()


def test_a_model_whose_ablation_was_not_measured_is_not_ablated_inside_another_edit(model, monkeypatch):
    """Other hooks would be measured with it; Gemma 4 and Falcon H1 were ablated in silence so."""
    monkeypatch.setitem(model.__dict__, "_writers_checked", False)
    r = torch.ones(models.d_model(model))
    with (
        steering.add(model, r, layer=0, coefficient=0.0),
        pytest.raises(ValueError, match="not yet tried on this model alone"),
    ):
        steering.ablate(model, r)
    with steering.ablate(model, r), steering.ablate(model, r.roll(1)):
        assert model._writers_checked
