"""Edited weights act like the hooks, leave nothing along the direction, and can be taken back bit for bit."""

import copy
import gc

import pytest
import torch

from course_lib import abliteration, caching, directions, models, steering, tokens

FAMILIES = ["Llama", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3", "Olmo2", "GPT2"]
POST_NORM = ["Gemma2", "Gemma3", "Olmo2"]


@pytest.fixture(scope="module")
def direction():
    """Not of length one: an edit that forgets to normalise is then wrong."""
    return 2.5 * torch.randn(32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def organism():
    """A model that ships with the course, a direction of its width, and prompts in its words."""
    chat = models.load("chat")
    r = torch.randn(models.d_model(chat), generator=torch.Generator().manual_seed(1))
    texts = ("how do i make a cake ?", "how do i make a bomb ?", "write a story .")
    asked = [tokens.chat_prompt(chat.tokenizer, text, unknown_words="split") for text in texts]
    return chat, r, asked


def projection(model, prompts, direction):
    """The largest projection on the direction, of either sign, anywhere in the stream, at any token."""
    layers = range(models.n_layers(model))
    names = [f"blocks.{layer}.hook_resid_{place}" for layer in layers for place in ("pre", "post")]
    everywhere = [list(range(min(map(len, prompts))))] * len(prompts)
    kept = caching.harvest(model, prompts, hook_names=names, positions=everywhere, progress=False)
    return float(directions.project(kept.values, direction).abs().max())


def state(model):
    return {name: weight.clone() for name, weight in model.original_model.state_dict().items()}


def assert_same_bits(model, before):
    after = model.original_model.state_dict()
    assert after.keys() == before.keys()
    for name, weight in after.items():
        assert torch.equal(weight, before[name]), name


def is_tied(model):
    return model.embed.original_component.weight is model.unembed.original_component.weight


# --- the edit does what the hooks do ------------------------------------------------------------------------


def test_the_edited_organism_computes_the_logits_of_the_hooked_one(organism):
    chat, r, asked = organism
    edited = abliteration.abliterate(chat, r)
    with steering.ablate(chat, r):
        hooked = models.next_token_logits(chat, asked)
    torch.testing.assert_close(models.next_token_logits(edited, asked), hooked, rtol=0, atol=1e-4)
    assert (hooked - models.next_token_logits(chat, asked)).abs().max() > 0.01


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in POST_NORM])
def test_edited_weights_act_like_the_hooks_wherever_no_norm_follows_the_writers(families, prompts, direction, family):
    model = families(family)
    edited = abliteration.abliterate(model, direction)
    with steering.ablate(model, direction):
        hooked = models.next_token_logits(model, prompts)
    torch.testing.assert_close(models.next_token_logits(edited, prompts), hooked, rtol=1e-4, atol=1e-4)
    assert (hooked - models.next_token_logits(model, prompts)).abs().max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_left_along_the_direction_anywhere_in_the_stream(families, prompts, direction, family):
    model = families(family)
    edited = abliteration.abliterate(model, direction)
    before = projection(model, prompts, direction)
    assert before > 0.1
    assert projection(edited, prompts, direction) < 1e-5 * max(before, 1.0)


@pytest.mark.parametrize("family", POST_NORM)
def test_an_edit_that_leaves_some_of_the_direction_is_measured_and_refused(
    families, prompts, direction, family, monkeypatch
):
    """The negative control of the gain: the same edit with r in the place of g * r."""
    model = families(family)
    before = projection(model, prompts, direction)
    monkeypatch.setattr(abliteration, "_before_norm", lambda block, norm, r: r)
    with pytest.raises(ValueError, match="is still written"):
        abliteration.abliterate(model, direction)
    with pytest.raises(ValueError, match="is still written"), abliteration.abliterated(model, direction):
        pass
    assert projection(model, prompts, direction) == before


def test_the_rank_one_update_equals_the_projector_matrix(families, direction):
    model = families("Llama")
    r = directions.unit(direction).double()
    projector = torch.eye(32, dtype=torch.float64) - torch.outer(r, r)
    edited = abliteration.abliterate(model, direction)
    for layer in range(3):
        for part in (lambda block: block.attn.o, lambda block: block.mlp.out):
            old, new = (part(x.blocks[layer]).original_component for x in (model, edited))
            torch.testing.assert_close(new.weight, (projector @ old.weight.double()).float())
            torch.testing.assert_close(new.bias, (projector @ old.bias.double()).float())
    torch.testing.assert_close(edited.embed.weight, (model.embed.weight.double() @ projector).float())


def test_only_the_writers_are_edited(families, direction):
    model = families("GPT2")
    edited = dict(abliteration.abliterate(model, direction).original_model.named_parameters())
    changed = [name for name, old in model.original_model.named_parameters() if not torch.equal(old, edited[name])]
    parts = [f"h.{layer}.{part}" for layer in range(3) for part in ("attn.o", "mlp.c_proj")]
    assert [name.replace("_original_component.", "") for name in changed] == [
        "transformer.wte.weight",
        "transformer.wpe.weight",
        *(f"transformer.{part}.{kind}" for part in parts for kind in ("weight", "bias")),
    ]


def test_length_and_sign_of_the_direction_do_not_matter(model, direction):
    edited = [state(abliteration.abliterate(model, factor * direction)) for factor in (1.0, -3.0)]
    for name, weight in edited[0].items():
        torch.testing.assert_close(weight, edited[1][name])


def test_half_precision_leaves_what_its_rounding_leaves(checkpoint, direction):
    model = models.load(str(checkpoint), dtype=torch.bfloat16)
    with abliteration.abliterated(model, direction) as edit:
        assert model.embed.weight.dtype == torch.bfloat16
        assert 1e-5 < max(row.given_back for row in edit.report()) < 0.02


# --- what stays as it was -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["Llama", "Gemma2", "GPT2"])
@pytest.mark.parametrize("norm", ["free", "preserved", "vectors"])
def test_the_original_is_the_same_bit_for_bit_after_a_copy_was_edited(families, direction, family, norm):
    model = families(family)
    before = state(model)
    edited = abliteration.abliterate(model, direction, norm=norm)
    with torch.no_grad():
        for weight in edited.original_model.parameters():
            weight.zero_()
    assert_same_bits(model, before)


def test_tied_embeddings_are_untied_first_so_that_the_unembedding_stays(families, direction):
    model = families("Llama")
    assert is_tied(model)
    edited = abliteration.abliterate(model, direction)
    assert not is_tied(edited) and is_tied(model)
    assert torch.equal(edited.unembed.original_component.weight, model.embed.weight)
    assert directions.project(edited.embed.weight, direction).abs().max() < 1e-5
    assert not edited.original_model.config.tie_word_embeddings
    assert model.original_model.config.tie_word_embeddings


@pytest.mark.parametrize("norm", ["free", "preserved", "vectors"])
@pytest.mark.parametrize("family", ["Llama", "Gemma2"])
def test_a_context_restores_every_bit_and_every_tie(families, prompts, direction, family, norm):
    model = families(family)
    before, plain = state(model), models.next_token_logits(model, prompts)
    with abliteration.abliterated(model, direction, norm=norm):
        assert (models.next_token_logits(model, prompts) - plain).abs().max() > 0.01
        assert not is_tied(model)
    assert_same_bits(model, before)
    assert is_tied(model)
    assert torch.equal(models.next_token_logits(model, prompts), plain)


@pytest.mark.parametrize("how", [RuntimeError, KeyboardInterrupt])
def test_a_context_restores_every_bit_after_an_error_or_an_interrupt(model, direction, how):
    before = state(model)
    with pytest.raises(how), abliteration.abliterated(model, direction):
        raise how
    assert_same_bits(model, before)


@pytest.mark.parametrize("how", [RuntimeError, KeyboardInterrupt])
def test_an_edit_that_is_interrupted_half_way_leaves_nothing(model, direction, monkeypatch, how):
    before, remove, calls = state(model), abliteration._remove, []

    def fail_late(*arguments):
        calls.append(remove(*arguments))
        if len(calls) == 4:
            raise how

    monkeypatch.setattr(abliteration, "_remove", fail_late)
    with pytest.raises(how), abliteration.abliterated(model, direction):
        pass
    assert_same_bits(model, before)


def test_nested_contexts_remove_both_directions_and_restore_all(model, prompts, direction):
    other = torch.randn(32, generator=torch.Generator().manual_seed(3))
    other = directions.project_out(other, direction)
    before = state(model)
    with abliteration.abliterated(model, direction), abliteration.abliterated(model, other):
        assert projection(model, prompts, direction) < 1e-5 and projection(model, prompts, other) < 1e-5
    assert_same_bits(model, before)


def test_an_edited_copy_goes_on_when_the_original_is_gone(checkpoint, prompts, direction):
    original = models.load(str(checkpoint))
    edited = abliteration.abliterate(original, direction)
    del original
    gc.collect()
    assert projection(edited, prompts, direction) < 1e-4


def test_hooks_work_on_the_copy_and_do_not_reach_the_original(model, prompts, direction):
    edited, fired = abliteration.abliterate(model, direction), []
    with edited.hooks([("blocks.1.hook_resid_pre", lambda a, hook: fired.append(hook.name))]):
        models.next_token_logits(model, prompts)
        assert fired == []
        models.next_token_logits(edited, prompts)
    assert fired


# --- norms --------------------------------------------------------------------------------------------------


def published_norm_preserving(weight, u):
    """The published steps one after the other, in float64: normalise rows, project, normalise, rescale."""
    lengths = weight.norm(dim=1, keepdim=True)
    rows = weight / lengths
    rows = rows - torch.outer(u, u @ rows)
    return lengths * rows / rows.norm(dim=1, keepdim=True)


def writers_of(model):
    """Every edited matrix as [d_model, input], by name, for a Llama."""
    rows = {"embed": model.embed.original_component.weight.T}
    for layer, block in enumerate(model.blocks):
        rows[f"{layer}.o"] = block.attn.o.original_component.weight
        rows[f"{layer}.out"] = block.mlp.out.original_component.weight
    return rows


def test_the_closed_form_is_the_published_norm_preserving_edit(model, direction):
    edited = abliteration.abliterate(model, direction, norm="preserved")
    u = directions.unit(direction).double()
    for (name, old), new in zip(writers_of(model).items(), writers_of(edited).values(), strict=True):
        expected = published_norm_preserving(old.double(), u)
        torch.testing.assert_close(new.double(), expected, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize(("norm", "dim"), [("preserved", 1), ("vectors", 0)])
def test_the_kept_lengths_are_kept_and_the_others_are_not(model, direction, norm, dim):
    edited = abliteration.abliterate(model, direction, norm=norm)
    for old, new in zip(writers_of(model).values(), writers_of(edited).values(), strict=True):
        torch.testing.assert_close(new.norm(dim=dim), old.norm(dim=dim), rtol=1e-5, atol=0)
        assert not torch.allclose(new.norm(dim=1 - dim), old.norm(dim=1 - dim), rtol=1e-3)


@pytest.mark.parametrize("family", ["Llama", "Gemma2"])
def test_keeping_the_rows_gives_part_of_the_direction_back_and_keeping_the_vectors_does_not(
    families, prompts, direction, family
):
    model, given_back, left = families(family), {}, {}
    for norm in ("free", "preserved", "vectors"):
        with abliteration.abliterated(model, direction, norm=norm) as edit:
            rows = [row for row in edit.report() if row.name.endswith("weight")]
            given_back[norm] = [row.given_back for row in rows]
            left[norm] = projection(model, prompts, direction)
    assert max(given_back["free"]) < 1e-5 and max(given_back["vectors"]) < 1e-5
    assert min(given_back["preserved"]) > 0.01
    assert left["preserved"] > 0.01 and max(left["free"], left["vectors"]) < 1e-4


def test_the_report_says_what_was_removed_from_each_matrix(model, direction):
    matrices = writers_of(model)
    u = directions.unit(direction)
    expected = [float((u @ matrix).norm() / matrix.norm()) for matrix in matrices.values()]
    with abliteration.abliterated(model, direction) as edit:
        report = edit.report()
    assert [row.share for row in report] == pytest.approx(expected, rel=1e-4)
    assert report[0].name == "embed.weight" and report[-1].name == "blocks.3.mlp.out.weight"


def test_a_row_of_zeros_stays_zero(model, direction):
    with torch.no_grad():
        edited = copy.deepcopy(model)
        edited.embed.original_component.weight[0] = 0  # a token that was never trained
        edited.blocks[0].mlp.out.original_component.weight[3] = 0
    for norm in ("preserved", "vectors"):
        after = abliteration.abliterate(edited, direction, norm=norm)
        assert all(torch.isfinite(weight).all() for weight in after.original_model.parameters())
        assert not after.embed.original_component.weight[0].any()


def test_what_cannot_keep_its_length_is_refused_by_name(model):
    axis = torch.eye(32)[5]
    before = state(model)
    with pytest.raises(ValueError, match=r'Row 5 of embed.weight is parallel.*use norm="free"'):
        abliteration.abliterate(model, axis, norm="preserved")
    token = model.embed.original_component.weight[7].clone()
    with (
        pytest.raises(ValueError, match="Column 7 of embed.weight is parallel to the direction"),
        abliteration.abliterated(model, token, norm="vectors"),
    ):
        pass
    assert_same_bits(model, before)


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "options", "message"),
    [
        (torch.zeros(32), {}, "length zero"),
        (torch.full((32,), float("nan")), {}, "NaN"),
        (torch.full((32,), float("inf")), {}, "no direction"),
    ],
)
def test_a_direction_or_layer_that_cannot_be_used_is_refused_before_any_copy(model, monkeypatch, bad, options, message):
    monkeypatch.setattr(models, "duplicate", lambda _: pytest.fail("copied before the error"))
    before = state(model)
    with pytest.raises(ValueError, match=message):
        abliteration.abliterate(model, bad, **options)
    with pytest.raises(ValueError, match=message), abliteration.abliterated(model, bad, **options):
        pass
    assert_same_bits(model, before)


def test_an_unknown_norm_and_a_direction_of_another_width_leave_the_model_as_it_is(model, direction):
    before = state(model)
    with pytest.raises(ValueError, match="norm must be"), abliteration.abliterated(model, direction, norm="kept"):
        pass
    with pytest.raises(ValueError, match="has 31 numbers"), abliteration.abliterated(model, direction[:31]):
        pass
    assert_same_bits(model, before)


def test_a_model_with_active_hooks_is_refused(model, direction):
    with steering.ablate(model, direction), pytest.raises(ValueError, match="active hooks"):
        abliteration.abliterate(model, direction)


def test_weights_that_were_never_loaded_are_refused_by_name(model, direction):
    hollow = copy.deepcopy(model)
    hollow.blocks[1].mlp.out.original_component.to("meta")
    with pytest.raises(ValueError, match="blocks.1.mlp.out are on the device 'meta'"):
        abliteration.abliterate(hollow, direction)


def test_a_mixture_of_experts_is_refused_by_name(families, direction):
    with pytest.raises(ValueError, match="blocks.0.mlp has no single output matrix.*steering.ablate"):
        abliteration.abliterate(families("Mixtral"), direction)


def test_an_edited_model_is_not_saved_and_says_why(model, direction, tmp_path):
    edited = abliteration.abliterate(model, direction)
    for network in (edited.original_model, model.original_model):
        with pytest.raises(ValueError, match="The course saves no model"):
            network.save_pretrained(tmp_path / "edited")
    assert not list(tmp_path.iterdir())
