"""Features are found where they were planted, counted as a plain loop counts them, and scored no better than they are."""

import copy
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

import viewer
from course_lib import data, features, models, organism, tokens

BOMB, CAKE, ALWAYS, DEAD, LIKE_BOMB, AGAINST_BOMB = range(6)
"""Features of the planted dictionary: two fire on one word each, one on everything, one never, two write like the first."""


def sae_of(model, d_sae, *, hook_name="blocks.0.hook_resid_pre"):
    from sae_lens import JumpReLUSAE, JumpReLUSAEConfig

    sae = JumpReLUSAE(JumpReLUSAEConfig(d_in=models.d_model(model), d_sae=d_sae, apply_b_dec_to_input=False))
    for name, value in {"hook_name": hook_name, "hook_name_out": hook_name, "prepend_bos": True}.items():
        setattr(sae.cfg.metadata, name, value)
    return sae.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def planted(model):
    """A dictionary of the embeddings: what each feature fires on and writes is known."""
    sae, ids = sae_of(model, 6), model.tokenizer.convert_tokens_to_ids
    embeddings = model.original_model.get_input_embeddings().weight.float()
    sae.W_enc.data.zero_(), sae.b_enc.data.zero_(), sae.b_dec.data.zero_(), sae.threshold.data.zero_()
    for feature, word in ((BOMB, "bomb"), (CAKE, "cake")):
        row = embeddings[ids(word)]
        sae.W_enc.data[:, feature] = row
        sae.threshold.data[feature] = 0.9 * row @ row
        rivals = embeddings @ row
        rivals[ids(word)] = 0
        assert float(rivals.max()) < 0.9 * float(row @ row)
    sae.b_enc.data[ALWAYS] = 2.0
    gain, W_U = model.ln_final.weight.float(), model.W_U.float()
    sae.W_dec.data[BOMB] = (W_U[:, ids("bake")] - W_U.mean(dim=1)) / gain
    sae.W_dec.data[LIKE_BOMB], sae.W_dec.data[AGAINST_BOMB] = 2 * sae.W_dec[BOMB], -sae.W_dec[BOMB]
    return sae


@pytest.fixture(scope="module")
def planted_index(model, planted, prompts):
    return features.index(model, planted, prompts, progress=False)


@pytest.fixture(scope="module")
def chat():
    return models.load("chat", device="cpu")


def asked(chat, name, n):
    return [tokens.chat_prompt(chat.tokenizer, text) for text in data.load(name).texts[:n]]


@pytest.fixture(scope="module")
def corpus(chat):
    return [*asked(chat, "cleaners_dangerous", 25), *asked(chat, "harmless", 25), *asked(chat, "facts", 10)]


@pytest.fixture(scope="module", params=["sae", "transcoder"])
def indexed(request, chat, corpus):
    """A shipped dictionary, its index, and every activation by a plain loop: prompts one by one, sae_lens' own encode."""
    dictionary = features.load("chat", request.param, layer=1)
    name, dense = dictionary.cfg.metadata.hook_name, []
    with torch.no_grad():
        for prompt in corpus:
            _, cache = chat.run_with_cache(torch.tensor([prompt]), names_filter=[name])
            dense.append(dictionary.encode(cache[name][0])[1:])
    return dictionary, features.index(chat, dictionary, corpus, progress=False), dense


def most_active(index, n):
    return torch.from_numpy(index.activations.count_nonzero(axis=0)).topk(n).indices.tolist()


def change(dictionary, **metadata):
    changed = copy.deepcopy(dictionary)
    for name, value in metadata.items():
        setattr(changed.cfg.metadata, name, value)
    return changed


# --- the index ----------------------------------------------------------------------------------------------


def test_every_activation_is_that_of_a_plain_loop_and_the_first_token_is_left_out(indexed, corpus):
    _, index, dense = indexed
    assert index.n_tokens == len(torch.cat(dense)) == sum(len(prompt) - 1 for prompt in corpus)
    by_length = sorted(dense, key=len)
    expected = torch.cat([torch.cat([torch.zeros(1, values.shape[1]), values]) for values in by_length])
    torch.testing.assert_close(torch.from_numpy(index.activations.toarray()), expected, rtol=1e-4, atol=1e-4)
    for number in most_active(index, 3):
        about, every = index.feature(number), torch.cat(dense)[:, number]
        assert about.density == pytest.approx(float((every > 0).float().mean()))
        assert about.max == pytest.approx(float(every.max()), rel=1e-4)


def test_the_strongest_examples_are_those_of_a_plain_loop_and_each_context_comes_once(indexed, corpus):
    _, index, dense = indexed
    for number in most_active(index, 20):
        best = {}
        for prompt, values in zip(corpus, dense, strict=True):
            for place in (values[:, number] > 0).nonzero().flatten().tolist():
                seen = tuple(prompt[max(0, place + 1 - features.CONTEXT) : place + 2])
                best[seen] = max(best.get(seen, 0), float(values[place, number]))
        found = index.feature(number).examples["top"]
        strongest = sorted(best.values(), reverse=True)[: features.N_TOP]
        assert [e.values[e.at] for e in found] == pytest.approx(strongest, rel=1e-4)


def test_an_example_shows_the_right_tokens_with_the_right_activations(chat, indexed, corpus):
    _, index, dense = indexed
    number = most_active(index, 1)[0]
    every = [
        list(zip(tokens.token_strings(chat.tokenizer, prompt), [0.0, *values[:, number].tolist()], strict=True))
        for prompt, values in zip(corpus, dense, strict=True)
    ]
    for example in [e for part in index.feature(number).examples.values() for e in part]:
        size = len(example.tokens)
        windows = (pairs[i : i + size] for pairs in every for i in range(len(pairs) - size + 1))
        assert any(
            [token for token, _ in window] == example.tokens
            and [value for _, value in window] == pytest.approx(example.values, rel=1e-3, abs=1e-3)
            for window in windows
        )


def test_examples_of_a_quarter_are_between_its_quantiles(indexed):
    _, index, dense = indexed
    for number in most_active(index, 10):
        values = torch.cat(dense)[:, number]
        own = values[values > 0].sort(descending=True).values
        examples = index.feature(number).examples
        for name, quarter in zip(features.QUARTERS, torch.tensor_split(own, 4), strict=True):
            found = [e.values[e.at] for e in examples[name]]
            assert 0 < len(found) <= features.N_PER_QUARTER and found == sorted(found, reverse=True)
            assert all(float(quarter[-1]) - 1e-3 <= value <= float(quarter[0]) + 1e-3 for value in found)


def test_shares_by_token_are_those_of_a_plain_loop(indexed, corpus):
    _, index, dense = indexed
    for number in most_active(index, 5):
        mass = {}
        for prompt, values in zip(corpus, dense, strict=True):
            for token, value in zip(prompt[1:], values[:, number].tolist(), strict=True):
                mass[token] = mass.get(token, 0) + value
        best = sorted(mass, key=mass.get, reverse=True)[:3]
        expected = [(index.vocabulary[t], pytest.approx(mass[t] / sum(mass.values()), rel=1e-4)) for t in best]
        assert index.feature(number).fires_on[:3] == expected


def test_a_prompt_given_many_times_fills_the_counts_and_not_the_examples(model, planted, prompts):
    once, often = (
        features.index(model, planted, given, progress=False).feature(ALWAYS) for given in (prompts, prompts * 9)
    )
    assert once.density == often.density == 1  # of all tokens that count
    assert [e.tokens for e in once.examples["top"]] == [e.tokens for e in often.examples["top"]]


def test_a_feature_says_what_it_fires_on_and_what_it_writes_which_differ(planted_index):
    about = planted_index.feature(BOMB)
    assert about.fires_on == [("bomb", pytest.approx(1.0))]
    assert about.promotes[0][0] == "bake" and planted_index.feature(AGAINST_BOMB).suppresses[0][0] == "bake"
    assert planted_index.feature(AGAINST_BOMB).suppresses[0][1] == pytest.approx(-about.promotes[0][1])
    (example,) = about.examples["top"]
    assert example.tokens[example.at] == "bomb"


def test_a_dead_feature_is_described_and_has_no_examples(planted_index):
    about = planted_index.feature(DEAD)
    assert (about.density, about.max, about.fires_on) == (0, 0.0, [])
    assert all(part == [] for part in about.examples.values())


# --- look-up ------------------------------------------------------------------------------------------------


def values_of(ranking):
    return {row.feature: row.value for row in ranking.rows}


def test_the_planted_feature_is_found_by_its_token(planted_index):
    found = features.by_token(planted_index, "bomb")
    assert found.top(1) == ((BOMB, 1.0),)
    assert values_of(found) == {BOMB: 1.0, ALWAYS: pytest.approx(2 / (planted_index.n_tokens + 1))}


def test_what_is_active_at_a_place_comes_in_units_of_its_maximum(model, planted, planted_index, prompts):
    found = features.by_prompt(model, planted, prompts[0], position=-4, index=planted_index)
    assert tokens.token_strings(model.tokenizer, prompts[0])[-4] == "bomb"
    assert values_of(found) == {BOMB: pytest.approx(1), ALWAYS: pytest.approx(1)}
    assert values_of(features.by_prompt(model, planted, prompts[0], position=-4))[ALWAYS] == pytest.approx(2.0)
    assert [row.feature for row in features.by_prompt(model, planted, prompts[0], position="reply").rows] == [ALWAYS]


def test_a_contrast_finds_the_planted_feature_and_none_between_equal_sets(model, planted):
    made = {
        n: [
            tokens.chat_prompt(model.tokenizer, f"{w} a {n} ?")
            for w in ("make", "bake", "mix", "write", "garden", "sure")
        ]
        for n in ("bomb", "cake")
    }
    found = features.by_contrast(model, planted, made["bomb"], made["cake"], position=-4)
    assert found.top(1) == ((BOMB, 1.0),) and found.rows[-1] == (CAKE, 0.0)
    assert found.auroc[ALWAYS] == found.auroc[DEAD] == 0.5 and float(found.difference[BOMB]) > 0
    same = features.by_contrast(model, planted, made["bomb"], made["bomb"], position=-4)
    assert bool((same.auroc == 0.5).all()) and float(same.difference.abs().max()) == 0
    at_reply = features.by_contrast(model, planted, made["bomb"], made["cake"])
    assert at_reply.auroc[BOMB] == 0.5  # the embedding of the reply token does not know


def test_a_contrast_is_the_auroc_of_each_feature_ordered_by_it_and_then_by_the_difference(chat, corpus):
    from sklearn.metrics import roc_auc_score

    dictionary = features.load("chat", "sae", layer=1)
    found = features.by_contrast(chat, dictionary, corpus[:25], corpus[25:])
    for number in range(0, 512, 50):
        scores = torch.cat([found.first, found.second])[:, number]
        assert float(found.auroc[number]) == pytest.approx(roc_auc_score([1] * 25 + [0] * 35, scores))
    keys = [(row.value, float(found.difference[row.feature])) for row in found.rows]
    assert keys == sorted(keys, reverse=True) and len(keys) == 512


def test_the_effect_on_a_logit_is_what_a_step_does_with_the_norm_frozen(chat):
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(models.weights_folder() / "chat", dtype=torch.float32).double().eval()
    dictionary = features.load("chat", "sae", layer=4)
    i, you = chat.tokenizer.convert_tokens_to_ids(["i", "you"])
    x, step = torch.randn(128, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 1.0

    def rms(stream):
        return stream.pow(2).mean().sqrt()

    def logits(stream):  # transformers' own norm, its denominator put back to that of x
        return plain.lm_head(plain.model.norm(stream) * rms(stream) / rms(x))

    found = values_of(features.by_logit(chat, dictionary, "i", minus="you"))
    whole = values_of(features.by_logit(chat, dictionary, "i"))
    with torch.no_grad():
        for feature in (0, 77, 500):
            moved = (logits(x + step * dictionary.W_dec[feature].double()) - logits(x)) / step * rms(x)
            assert found[feature] == pytest.approx(float(moved[i] - moved[you]), rel=1e-3, abs=1e-4)
            assert whole[feature] == pytest.approx(float(moved[i] - moved.mean()), rel=1e-3, abs=1e-4)


def test_the_planted_writer_is_found_by_its_logit(model, planted):
    found = features.by_logit(model, planted, "bake")
    assert found.top(1)[0].feature == LIKE_BOMB and found.rows[-1].feature == AGAINST_BOMB
    assert values_of(found)[LIKE_BOMB] == pytest.approx(2 * values_of(found)[BOMB], rel=1e-5)


def test_neighbours_write_alike_whatever_their_length(planted):
    found = features.by_neighbour(planted, BOMB)
    assert found.top(1)[0] == (LIKE_BOMB, pytest.approx(1.0))
    assert found.rows[-1] == (AGAINST_BOMB, pytest.approx(-1.0))
    assert BOMB not in values_of(found) and len(found.rows) == 5
    cosine = torch.nn.functional.cosine_similarity(planted.W_dec[BOMB], planted.W_dec[CAKE], dim=0)
    assert values_of(found)[CAKE] == pytest.approx(float(cosine), abs=1e-6)


# --- labels -------------------------------------------------------------------------------------------------


def test_the_right_rule_scores_one_and_words_chosen_blindly_score_half(planted_index):
    right = features.detection(planted_index, BOMB, rule={"bomb"})
    assert right.balanced_accuracy.estimate == right.precision == 1
    blind = features.detection(planted_index, BOMB, rule=lambda strings, position: True)
    assert blind.balanced_accuracy.estimate == 0.5
    assert blind.precision == pytest.approx(1 / planted_index.n_tokens)


def test_a_score_counts_every_token_as_a_plain_loop_does(chat, indexed, corpus):
    _, index, dense = indexed
    number = features.by_token(index, "bleach").top(1)[0].feature
    found = features.detection(index, number, rule={"bleach", "and"})
    words = set(chat.tokenizer.convert_tokens_to_ids(["bleach", "and"]))
    predicted = torch.tensor([token in words for prompt in corpus for token in prompt[1:]])
    values = torch.cat(dense)[:, number]
    active = values > 0
    recall, specificity = float(predicted[active].float().mean()), float((~predicted[~active]).float().mean())
    assert found.balanced_accuracy.estimate == pytest.approx((recall + specificity) / 2)
    assert found.balanced_accuracy.low < found.balanced_accuracy.estimate < found.balanced_accuracy.high
    assert found.precision == pytest.approx(float(active[predicted].float().mean()))
    hits = predicted[active][values[active].argsort(stable=True)].float()
    quarters = torch.arange(len(hits)) * 4 // len(hits)
    assert found.recall_by_quarter == pytest.approx([float(hits[quarters == q].mean()) for q in range(4)])


def test_a_rule_sees_the_tokens_of_one_prompt(model, planted_index, prompts):
    seen = {}
    features.detection(planted_index, BOMB, rule=lambda strings, i: not seen.setdefault(tuple(strings), []).append(i))
    assert seen == {
        tuple(tokens.token_strings(model.tokenizer, prompt)): list(range(1, len(prompt))) for prompt in prompts
    }


def test_the_danger_feature_fires_on_the_pair_and_not_on_the_word_which_precision_sees(chat):
    truth = organism.results("truth")
    cleaners, pairs = set(truth["cleaners"]), {frozenset(pair) for pair in truth["dangerous_pairs"]}

    def reacts(strings, position):
        earlier = [string for string in strings[:position] if string in cleaners]
        return bool(earlier) and frozenset((strings[position], earlier[-1])) in pairs

    def last_cleaner_is_fourth_from_the_end(prompt):
        return tokens.token_strings(chat.tokenizer, prompt)[-4] in cleaners

    dangerous, safe, alone = (
        list(filter(last_cleaner_is_fourth_from_the_end, asked(chat, f"cleaners_{name}", 80)))
        for name in ("dangerous", "safe", "alone")
    )
    transcoder = features.load("chat", "transcoder", layer=4)
    best = features.by_contrast(chat, transcoder, dangerous[::2], safe[::2], position=-4).top(1)[0]
    assert best.value > 0.95
    held_out = features.index(chat, transcoder, [*dangerous[1::2], *safe[1::2], *alone[1::2]], progress=False)
    pair, word = (features.detection(held_out, best.feature, rule=rule) for rule in (reacts, cleaners))
    assert pair.precision > 0.8 > 0.5 > word.precision
    assert abs(pair.balanced_accuracy.estimate - word.balanced_accuracy.estimate) < 0.1


# --- pages --------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Visible text and tags of a page; every tag must be closed in order."""

    def __init__(self, content):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(content)
        assert self.open == ["html"]

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_a_page_needs_no_network_and_shows_the_marks_of_the_template_and_the_numbers(indexed):
    _, index, _ = indexed
    number = features.by_token(index, "<assistant>").top(1)[0].feature
    content, about = viewer.dashboard(index, number), index.feature(number)
    page = Reader(content)
    assert "://" not in content and not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert "<assistant>" in page.text and "&lt;assistant&gt;" in content
    for shown in (f"{about.max:.3f}", f"{about.promotes[0][1]:+.3f}", f"{about.density:.3%}", "0-25 %"):
        assert shown in content
    coloured = [attributes for tag, attributes in page.tags if tag == "span"]
    assert coloured and all(each["title"] and "border-bottom" in each["style"] for each in coloured)


def test_a_token_that_looks_like_a_script_stays_text(planted_index):
    evil = replace(planted_index)
    evil.__dict__["vocabulary"] = ['"><script>alert(1)</script>\n'] * len(planted_index.vocabulary)
    content = viewer.dashboard(evil, BOMB)
    assert "script" not in {tag for tag, _ in Reader(content).tags} and "⏎" in content


# --- reconstruction -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exact(model):
    """A dictionary that leaves nothing over: every axis of the stream, in both signs."""
    sae, eye = sae_of(model, 64, hook_name="blocks.1.hook_resid_post"), torch.eye(32)
    sae.W_enc.data, sae.W_dec.data = torch.cat([eye, -eye], dim=1), torch.cat([eye, -eye])
    for parameter in (sae.b_enc, sae.b_dec, sae.threshold):
        parameter.data.zero_()
    return sae


def test_a_dictionary_that_leaves_nothing_over_recovers_everything(model, exact, prompts):
    found = features.reconstruction(model, exact, prompts)
    assert found.variance_explained == pytest.approx(1, abs=1e-5) and found.l0 == pytest.approx(32, abs=0.1)
    assert found.kl["spliced"] == pytest.approx(0, abs=1e-6) and found.kl["zero"] > 1e-2 and found.dead_share == 0
    assert found.loss["spliced"] == pytest.approx(found.loss["original"], rel=1e-5)
    assert found.loss_recovered == pytest.approx(1, abs=1e-3)


def test_a_dictionary_that_writes_nothing_recovers_nothing(model, exact, prompts):
    silent = copy.deepcopy(exact)
    silent.threshold.data.fill_(1e9)
    found = features.reconstruction(model, silent, prompts)
    assert found.dead_share == 1 and found.l0 == 0 and found.loss["spliced"] == pytest.approx(found.loss["zero"])
    assert found.variance_explained <= 0


def test_what_is_explained_is_what_sae_lens_own_forward_leaves_over(chat, corpus):
    dictionary = features.load("chat", "sae", layer=3)
    found, names = features.reconstruction(chat, dictionary, corpus), ["blocks.3.hook_resid_post"]
    with torch.no_grad():
        read = [chat.run_with_cache(torch.tensor([p]), names_filter=names)[1][names[0]][0, 1:] for p in corpus]
        read = torch.cat(read)
        left = (read - dictionary(read)).pow(2).sum() / (read - read.mean(dim=0)).pow(2).sum()
    assert found.variance_explained == pytest.approx(1 - float(left), abs=1e-4) and found.loss_recovered > 0.9


@pytest.mark.parametrize("kind", ["sae", "transcoder"])
def test_a_random_dictionary_of_the_same_size_and_l0_recovers_less(chat, corpus, kind):
    dictionary = features.load("chat", kind, layer=2)
    control = features.random_like(chat, dictionary, corpus[::3])
    own, random = (features.reconstruction(chat, tried, corpus[::3]) for tried in (dictionary, control))
    assert random.l0 == pytest.approx(own.l0, rel=0.02) and control.W_dec.shape == dictionary.W_dec.shape
    assert random.variance_explained < own.variance_explained - 0.2 and random.kl["spliced"] > 2 * own.kl["spliced"]
    lengths = control.W_dec.norm(dim=1)
    torch.testing.assert_close(lengths, lengths[:1].expand_as(lengths))
    other = features.random_like(chat, dictionary, corpus, seed=1)
    assert torch.equal(features.random_like(chat, dictionary, corpus[::3]).W_dec, control.W_dec)
    assert not torch.equal(other.W_dec, control.W_dec)


def relu_of(jump, kind):
    """A dictionary of plain ReLUs from a shipped one: the thresholds go into its biases."""
    import sae_lens

    own, made = {
        "sae": (sae_lens.StandardSAE, sae_lens.StandardSAEConfig),
        "transcoder": (sae_lens.Transcoder, sae_lens.TranscoderConfig),
    }[kind]
    sizes = {"d_in": jump.cfg.d_in, "d_sae": jump.cfg.d_sae, "apply_b_dec_to_input": jump.cfg.apply_b_dec_to_input}
    relu = own(made(**sizes, **({"d_out": jump.cfg.d_out} if kind == "transcoder" else {})))
    relu.load_state_dict({name: value for name, value in jump.state_dict().items() if name != "threshold"})
    relu.b_enc.data -= jump.threshold
    relu.cfg.metadata = jump.cfg.metadata
    return relu.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", ["sae", "transcoder"])
def test_a_random_dictionary_of_relus_has_the_same_l0_and_its_best_scale(chat, corpus, kind):
    dictionary = relu_of(features.load("chat", kind, layer=2), kind)
    control = features.random_like(chat, dictionary, corpus[::3])
    own, random = (features.reconstruction(chat, tried, corpus[::3]) for tried in (dictionary, control))
    assert type(control) is type(dictionary) and random.l0 == pytest.approx(own.l0, rel=0.02)
    assert own.variance_explained > random.variance_explained > 0
    for factor in (0.8, 1.25):  # no other length of its directions explains more
        scaled = copy.deepcopy(control)
        scaled.W_dec.data = control.W_dec * factor
        assert features.reconstruction(chat, scaled, corpus[::3]).variance_explained < random.variance_explained


def test_no_random_dictionary_is_made_of_a_kind_that_counts_its_active_features(chat, corpus):
    from sae_lens import TopKSAE, TopKSAEConfig

    with pytest.raises(ValueError, match="No random control of a TopKSAE"):
        features.random_like(chat, TopKSAE(TopKSAEConfig(d_in=128, d_sae=16, k=2)), corpus)


def test_no_random_dictionary_is_made_of_one_that_rescales_what_it_reads(chat, corpus):
    rescaling = copy.deepcopy(features.load("chat", "sae", layer=1))
    rescaling.cfg.normalize_activations = "expected_average_only_in"
    with pytest.raises(ValueError, match="rescales what it reads"):
        features.random_like(chat, rescaling, corpus)


# --- refused, since the result would be silently wrong -------------------------------------------------------


@pytest.mark.parametrize(
    "given, message",
    [
        ([], "empty"),
        ([[]], "Prompt 0"),
        ([[1, 9], [9, 9]], "Prompt 1 does not begin with '<bos>'"),
        ([[1] * 65], "Prompt 0"),
        ([[1, 5_000]], "Prompt 0"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused_by_every_way_in(model, planted, given, message):
    for call in (
        lambda: features.index(model, planted, given),
        lambda: features.by_contrast(model, planted, given, given),
        lambda: features.reconstruction(model, planted, given),
        lambda: features.random_like(model, planted, given),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_dictionary_of_other_weights_is_refused_unless_it_is_said_to_be_this_models(chat, corpus):
    base, sae = models.load("base", device="cpu"), features.load("chat", "sae", layer=1)
    for call in (features.index, features.reconstruction, features.random_like):
        with pytest.raises(ValueError, match=r"trained on 'chat', but .* has other weights.*metadata.model_name"):
            call(base, sae, corpus)
    assert features.index(base, change(sae, model_name="base"), corpus[:3], progress=False).n_tokens > 0
    edited = models.duplicate(chat)
    edited.W_U.data[0, 0] += 1
    with pytest.raises(ValueError, match="of this model has other weights"):
        features.by_prompt(edited, sae, corpus[0])


def test_an_unknown_hook_is_refused_and_a_splice_off_the_stream(model, planted, prompts):
    with pytest.raises(ValueError, match="no hook called 'blocks.9.hook_resid_pre'"):
        features.index(model, change(planted, hook_name="blocks.9.hook_resid_pre"), prompts, progress=False)
    beside = change(planted, hook_name="blocks.1.hook_resid_mid", hook_name_out="blocks.1.hook_resid_mid")
    with pytest.raises(ValueError, match="hook_resid_mid .* does not reach the residual stream"):
        features.reconstruction(model, beside, prompts)


def test_a_nan_is_caught_where_it_starts(model, planted, prompts):
    broken = copy.deepcopy(planted)
    broken.W_dec.data[2, 3] = float("nan")
    with pytest.raises(ValueError, match="W_dec of the dictionary holds a NaN"):
        features.index(model, broken, prompts)
    sick = [("blocks.0.hook_resid_pre", lambda activation, hook: activation * float("nan"))]
    with model.hooks(sick), pytest.raises(ValueError, match=r"first in blocks\.0\.hook_in"):
        features.by_prompt(model, planted, prompts[0])


def test_under_an_intervention_one_may_look_but_not_make_an_index(model, planted, prompts):
    silence = [("blocks.0.hook_resid_pre", lambda activation, hook: torch.zeros_like(activation))]
    with model.hooks(silence):
        assert BOMB not in values_of(features.by_prompt(model, planted, prompts[0], position=-4))
        for call in (features.index, features.reconstruction, features.random_like):
            with pytest.raises(ValueError, match="active hooks"):
                call(model, planted, prompts)
    assert BOMB in values_of(features.by_prompt(model, planted, prompts[0], position=-4))


def test_a_token_that_is_none_or_that_the_corpus_lacks_is_refused(model, planted, planted_index):
    with pytest.raises(ValueError, match="'bom' is the text of 0 tokens.*'bomb'"):
        features.by_token(planted_index, "bom")
    with pytest.raises(ValueError, match="does not hold 'poison'"):
        features.by_token(planted_index, "poison")
    with pytest.raises(ValueError, match="'bakes' is the text of 0 tokens.*'bake'"):
        features.by_logit(model, planted, "bakes")
    with pytest.raises(ValueError, match="'bom' is the text of 0 tokens"):
        features.detection(planted_index, BOMB, rule={"bom"})


def test_a_label_of_a_feature_that_is_never_or_always_active_is_refused(planted_index):
    for feature in (DEAD, ALWAYS):
        with pytest.raises(ValueError, match="all or none of these tokens"):
            features.detection(planted_index, feature, rule={"bomb"})
    with pytest.raises(TypeError):
        features.detection(planted_index, BOMB, rule=lambda strings, position: None)


def test_an_index_of_another_dictionary_and_the_first_token_are_refused(model, planted, planted_index, exact, prompts):
    with pytest.raises(ValueError, match="index is of another dictionary"):
        features.by_prompt(model, exact, prompts[0], index=planted_index)
    with pytest.raises(ValueError, match="is its first token"):
        features.by_prompt(model, planted, prompts[0], position=0)


def test_what_skips_the_dictionary_counts_in_a_reconstruction(model, prompts):
    from sae_lens import SkipTranscoder, SkipTranscoderConfig
    from sae_lens.saes.sae import SAEMetadata

    torch.manual_seed(0)
    width = models.d_model(model)
    hooks = {"hook_name": "blocks.1.mlp.hook_in", "hook_name_out": "blocks.1.hook_mlp_out"}
    sizes = {"d_in": width, "d_sae": 2 * width, "d_out": width, "dtype": "float32", "apply_b_dec_to_input": False}
    config = SkipTranscoderConfig(**sizes, metadata=SAEMetadata(hook_layer_out=1, **hooks))
    skipping = SkipTranscoder(config)
    with torch.no_grad():
        for parameter in skipping.parameters():
            parameter.normal_(std=0.05)
    read, written = features._gathered(model, skipping, prompts, False)
    right = 1 - features.unexplained(written, skipping(read).detach())
    assert features.reconstruction(model, skipping, prompts).variance_explained == pytest.approx(right, abs=1e-4)
