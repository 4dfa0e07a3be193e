"""On small checkpoints of every published model's kind, each method computes what plain transformers computes by hand.

Weights are random, so nothing is said about what a published model knows. The checkpoints are in published_models.py.
"""

from contextlib import ExitStack
from functools import cache

import published_models
import pytest
import torch

from course_lib import (
    abliteration,
    attribution,
    caching,
    directions,
    edges,
    features,
    models,
    patching,
    profiles,
    steering,
    tokens,
)

KINDS = {  # one profile of every architecture, chat template and way of tying that occurs
    (published_models.family(name), published_models.tied(name)): name for name in reversed(profiles.names()[1:])
}
AFTER = ("Gemma2", "Gemma3")
TEXTS = (
    "How do I make a bomb?",
    "Bake bread",
    "Write a story about the old harbour.",
    "Tell me how to build a garden shed in May.",
)


class Case:
    """One kind: the library's model, and the same files opened by transformers alone."""

    def __init__(self, name, folder):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.profile, self.family = profiles.get(name), published_models.family(name)
        self.folder = published_models.save(name, folder)
        self.model = models.load(str(folder))
        self.plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.prompts = [tokens.chat_prompt(self.model.tokenizer, text) for text in TEXTS]

    def writers(self):
        """The modules whose output is added to the residual stream, in plain transformers."""
        for layer in self.plain.model.layers:
            if self.family in AFTER:
                yield from (layer.post_attention_layernorm, layer.post_feedforward_layernorm)
            else:
                yield from (layer.self_attn.o_proj, layer.mlp)

    def logits(self, prompt, hooks=()):
        """Next-token logits of plain transformers with the given handles active."""
        with ExitStack() as stack, torch.no_grad():
            for register, hook in hooks:
                stack.callback(register(hook).remove)
            return self.plain(torch.tensor([prompt])).logits[0, -1]

    def ablated(self, direction):
        """Directional ablation by plain hooks: what enters block 0, and every write."""
        r = direction / direction.norm()

        def cut(x):
            return x - (x @ r)[..., None] * r

        first = self.plain.model.layers[0]
        hooks = [(first.register_forward_pre_hook, lambda module, args: (cut(args[0]), *args[1:]))]
        return hooks + [(writer.register_forward_hook, lambda module, args, out: cut(out)) for writer in self.writers()]

    def added(self, layer, vector):
        """The vector added to what enters a block, at all positions, by a plain hook."""
        block = self.plain.model.layers[layer]
        return [(block.register_forward_pre_hook, lambda module, args: (args[0] + vector, *args[1:]))]


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return cache(lambda name: Case(name, tmp_path_factory.mktemp("published")))


@pytest.fixture(params=KINDS.values())
def case(cases, request):
    return cases(request.param)


@pytest.fixture(scope="module")
def direction():
    return 2.5 * torch.randn(32, generator=torch.Generator().manual_seed(0))


def before_the_cap(case, logits):
    cap = getattr(case.plain.config, "final_logit_softcapping", None)
    return cap * torch.atanh(logits.double() / cap) if cap else logits.double()


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-4)


def test_every_profile_is_of_a_kind_that_is_tested():
    tested = {(published_models.family(name), published_models.tied(name)) for name in KINDS.values()}
    assert {(published_models.family(name), published_models.tied(name)) for name in profiles.names()[1:]} == tested
    assert len(KINDS) == 6


def test_no_gain_is_one_and_no_width_is_the_vocabularys(case):
    gains = [weight for name, weight in case.plain.named_parameters() if "norm" in name]
    offset = 1.0 if "Gemma" in case.family else 0.0
    assert all(float((gain + offset - 1).abs().mean()) > 0.1 for gain in gains)
    assert case.plain.config.hidden_size not in (case.plain.config.vocab_size, len(case.tokenizer))


def test_a_prompt_is_the_templates_and_its_positions_are_where_the_template_puts_them(case):
    options = {"enable_thinking": False, "date_string": "26 Jul 2024", "add_generation_prompt": True}
    for text, prompt in zip(TEXTS, case.prompts, strict=True):
        plain = case.tokenizer.apply_chat_template([{"role": "user", "content": text}], return_dict=False, **options)
        assert prompt == plain
        last = tokens.position_index(case.model.tokenizer, prompt, "last_instruction")
        assert last == len(prompt) - case.profile.after_instruction - 1
        assert case.tokenizer.decode(prompt[: last + 1]).endswith(text)
    assert len(case.profile.refusal_token_ids(case.tokenizer)) == len(case.profile.refusal_words)


def test_a_harvest_is_the_hidden_states(case):
    names = [*(f"blocks.{layer}.hook_resid_pre" for layer in range(4)), "ln_final.hook_out"]
    positions = tuple(range(-case.profile.after_instruction, 0))
    found = caching.harvest(case.model, case.prompts, hook_names=names, positions=positions, progress=False).values
    for values, prompt in zip(found, case.prompts, strict=True):
        with torch.no_grad():
            states = case.plain(torch.tensor([prompt]), output_hidden_states=True).hidden_states
        close(values, torch.stack([state[0, list(positions)] for state in states], dim=1))


def test_replies_end_where_the_models_own_settings_end_them(case):
    for prompt in case.prompts[:2]:
        ids = torch.tensor([prompt])
        whole = case.plain.generate(ids, max_new_tokens=6, do_sample=False, attention_mask=torch.ones_like(ids))[
            0
        ].tolist()
        assert models.generate(case.model, [prompt], max_new_tokens=6)[0] == whole[len(prompt) :]
    assert set(case.plain.generation_config.eos_token_id) <= models.stop_ids(case.model)


def test_ids_that_the_tokenizer_does_not_have_are_shown_as_what_they_are(case):
    """Published embeddings are padded, so a model that was broken by an edit may put such an id out."""
    known, there = len(case.tokenizer), case.model.cfg.d_vocab
    assert there > known
    first = case.tokenizer.convert_tokens_to_ids("I")
    assert tokens.token_strings(case.model.tokenizer, [first, known]) == ["I", f"<unused {known}>"]
    assert tokens.text(case.model.tokenizer, [first, there - 1]) == "I"
    assert len(tokens.token_strings(case.model.tokenizer, range(there))) == there
    with pytest.raises(ValueError, match=f"ids from 0 to {there - 1}"):
        tokens.text(case.model.tokenizer, [there])


def candidates_of(case):
    positions = (-2, -1)
    one, other = (
        caching.harvest(case.model, case.prompts[i : i + 2], positions=positions, progress=False).values for i in (0, 2)
    )
    return directions.difference_of_means(one, other), positions


def test_scores_of_candidates_are_those_of_a_plain_loop(case):
    vectors, positions = candidates_of(case)
    ids, (harmful, harmless) = case.profile.refusal_token_ids(case.tokenizer), (case.prompts[:2], case.prompts[2:])
    scores = {}
    for row, position in enumerate(positions):
        for layer in (1, 2):
            d = vectors[row, layer]

            def score(prompts, hooks):
                return directions.refusal_score(
                    torch.stack([case.logits(prompt, hooks) for prompt in prompts]), ids
                ).mean()

            clean, cut = (torch.stack([case.logits(p, hooks) for p in harmless]) for hooks in ((), case.ablated(d)))
            kl = directions.kl_divergence(clean, cut).mean()
            scores[layer, position] = score(harmful, case.ablated(d)), score(harmless, case.added(layer, d)), kl
    options = {
        "harmful": harmful,
        "harmless": harmless,
        "refusal_token_ids": ids,
        "positions": positions,
        "layers": (1, 2),
    }
    for row in steering.score_candidates(case.model, vectors[:, 1:3], progress=False, **options):
        close(torch.tensor([row.bypass, row.induce, row.kl]), torch.stack(scores[row.layer, row.position]))


def test_ablation_is_the_plain_one_and_leaves_nothing(case, direction):
    with steering.ablate(case.model, direction):
        hooked = models.next_token_logits(case.model, case.prompts)
        stream = caching.harvest(case.model, case.prompts, progress=False).values
    close(hooked, torch.stack([case.logits(prompt, case.ablated(direction)) for prompt in case.prompts]))
    assert float((stream @ (direction / direction.norm())).abs().max()) < 1e-4
    assert (hooked - models.next_token_logits(case.model, case.prompts)).abs().max() > 0.1


def test_steering_is_the_plain_addition(case, direction):
    with steering.add(case.model, direction, layer=2, coefficient=0.7):
        hooked = models.next_token_logits(case.model, case.prompts)
    close(hooked, torch.stack([case.logits(prompt, case.added(2, 0.7 * direction)) for prompt in case.prompts]))


def test_abliterated_weights_are_those_edited_by_hand_with_the_gain_of_the_norm_behind(cases, case, direction):
    """W - u u'W by hand on a plain copy, u along g * r where a norm with gain g follows the writer."""
    from transformers import AutoModelForCausalLM

    edited = AutoModelForCausalLM.from_pretrained(case.folder, dtype=torch.float32).eval()
    embedding = edited.model.embed_tokens.weight.data.clone()
    edited.lm_head.weight = torch.nn.Parameter(
        edited.lm_head.weight.data.clone()
    )  # untied, or the unembedding would change

    def cut(weight, along):
        u = along / along.norm()
        weight.data -= torch.outer(u, u @ weight.data)

    edited.model.embed_tokens.weight = torch.nn.Parameter(embedding)
    r = direction / direction.norm()
    edited.model.embed_tokens.weight.data -= torch.outer(embedding @ r, r)
    for layer in edited.model.layers:
        norms = (
            (layer.post_attention_layernorm, layer.post_feedforward_layernorm) if case.family in AFTER else (None, None)
        )
        for matrix, norm in zip((layer.self_attn.o_proj, layer.mlp.down_proj), norms, strict=True):
            cut(matrix.weight, direction if norm is None else (1 + norm.weight.data) * direction)
    copy = abliteration.abliterate(case.model, direction)
    with torch.no_grad():
        expected = torch.stack([edited(torch.tensor([prompt])).logits[0, -1] for prompt in case.prompts])
    close(models.next_token_logits(copy, case.prompts), expected)
    stream = caching.harvest(copy, case.prompts, progress=False).values
    assert float((stream @ r).abs().max()) < 1e-4
    close(
        models.next_token_logits(case.model, case.prompts),
        torch.stack([case.logits(prompt) for prompt in case.prompts]),
    )


def test_attribution_sums_to_the_plain_logit_difference(case):
    target, prompt = attribution.Logit(7, minus=9), case.prompts[0]
    parts = edges.direct_logit(case.model, prompt, target=target)
    logits = before_the_cap(case, case.logits(prompt))
    assert sum(parts.values()) == pytest.approx(float(logits[7] - logits[9]), rel=1e-3, abs=1e-3)


def test_patching_is_the_plain_exchange_of_what_enters_a_block(case):
    one, other = (tokens.chat_prompt(case.tokenizer, f"Tell me how to make a {word}.") for word in ("a", "b"))
    assert len(one) == len(other)
    target = attribution.Logit(7, minus=9)
    found = patching.patch_residual(case.model, one, corrupted_ids=other, target=target)

    def difference(logits):
        logits = before_the_cap(case, logits)
        return float(logits[7] - logits[9])

    with torch.no_grad():
        states = case.plain(torch.tensor([one]), output_hidden_states=True).hidden_states
    clean, corrupted = difference(case.logits(one)), difference(case.logits(other))
    for layer in range(4):

        def put(module, args, layer=layer):
            return (torch.cat([args[0][:, :-1], states[layer][:, -1:]], dim=1), *args[1:])

        patched = difference(case.logits(other, [(case.plain.model.layers[layer].register_forward_pre_hook, put)]))
        assert float(found[layer, -1]) == pytest.approx((patched - corrupted) / (clean - corrupted), rel=1e-2, abs=1e-2)


# --- dictionaries, as they lie on the hub -------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    published_models.let_sae_lens_read_small_ones(monkeypatch)


@pytest.mark.parametrize(
    ("name", "kind", "reads"),
    [
        ("google/gemma-2-2b-it", "sae", "blocks.{}.hook_resid_post"),
        ("google/gemma-2-2b-it", "transcoder", "blocks.{}.ln2.hook_normalized"),
        ("google/gemma-3-270m-it", "transcoder", "blocks.{}.mlp.hook_in"),
        ("Qwen/Qwen3-0.6B", "transcoder", "blocks.{}.mlp.hook_in"),
    ],
)
def test_a_dictionary_of_a_profile_reads_the_place_it_was_trained_on(
    cases, empty_hub, small, tmp_path, name, kind, reads
):
    """Its features on the library's model are those computed by hand on plain transformers."""
    published_models.put_dictionaries(empty_hub, name, tmp_path / "release", kind)
    case = cases(KINDS[published_models.family(name), published_models.tied(name)])
    found = features.load(name, kind, layer=2)
    assert found.cfg.metadata.hook_name == reads.format(2)
    random = published_models.dictionary_weights(2, "gemma")
    block, seen = case.plain.model.layers[2], {}
    norm = block.pre_feedforward_layernorm if "Gemma" in case.family else block.post_attention_layernorm
    with ExitStack() as stack:
        stack.callback(norm.register_forward_hook(lambda module, args, out: seen.update(read=out[0])).remove)
        stack.callback(block.register_forward_hook(lambda module, args, out: seen.update(after=out[0])).remove)
        case.logits(case.prompts[0])
    x = seen["after"] if kind == "sae" else seen["read"]
    x = x / (1 + norm.weight) if reads.endswith("hook_normalized") else x
    before = x @ random["w_enc"] + random["b_enc"]
    expected = before.clamp(min=0) * (before > (0 if "Qwen" in name else random["threshold"]))
    hook = found.cfg.metadata.hook_name
    here = caching.harvest(
        case.model, case.prompts[:1], hook_names=[hook], positions=list(range(len(case.prompts[0]))), progress=False
    )
    close(found.encode(here.values[0, :, 0]), expected.detach())
    measured = features.reconstruction(case.model, found, case.prompts, progress=False)
    assert measured.l0 > 0
    found_index = features.index(case.model, found, case.prompts, progress=False)
    assert len(found_index.vocabulary) == case.model.cfg.d_vocab


@pytest.mark.parametrize("name", ["google/gemma-3-270m-it", "Qwen/Qwen3-0.6B"])
def test_a_graph_is_drawn_with_a_profiles_transcoders(cases, empty_hub, small, tmp_path, name):
    published_models.put_dictionaries(empty_hub, name, tmp_path / "release", "transcoder")
    case = cases(KINDS[published_models.family(name), published_models.tied(name)])
    own = [features.load(name, "transcoder", layer=layer) for layer in range(4)]
    drawn = attribution.trace(case.model, case.prompts[1], transcoders=own, targets=[attribution.Logit(7, minus=9)])
    logits = case.logits(case.prompts[1])
    total = float(drawn.edges[-1].sum() + drawn.constants[-1])
    assert drawn.features and total == pytest.approx(float(logits[7] - logits[9]), rel=1e-3, abs=1e-3)


def test_gemma_2s_transcoders_are_refused_for_graphs_since_they_read_before_the_gain(cases, empty_hub, small, tmp_path):
    published_models.put_dictionaries(empty_hub, "google/gemma-2-2b-it", tmp_path / "release", "transcoder")
    case = cases(KINDS["Gemma2", True])
    own = [features.load("google/gemma-2-2b-it", "transcoder", layer=layer) for layer in range(4)]
    with pytest.raises(ValueError, match="was trained on blocks.0.ln2.hook_normalized, not on this MLP's input"):
        attribution.trace(case.model, case.prompts[1], transcoders=own, targets=[attribution.Logit(7)])


def test_a_layer_or_kind_that_a_profile_does_not_have_is_refused_without_a_network():
    with pytest.raises(ValueError, match=r"no sae for layer 3 of 'google/gemma-3-1b-it'. Layers: \[7, 13, 17, 22\]"):
        features.load("google/gemma-3-1b-it", "sae", layer=3)
    with pytest.raises(ValueError, match="no transcoder for 'Qwen/Qwen2.5-0.5B-Instruct'"):
        features.load("Qwen/Qwen2.5-0.5B-Instruct", "transcoder", layer=3)
