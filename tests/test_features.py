"""Features are found where they were planted, counted as a plain loop counts them, and named no better than they score."""

import copy
import hashlib
import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from safetensors.torch import load_file, save_file

from course_lib import data, features, models, store, tokens
from course_lib.features import running

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
    return dictionary, features.index(chat, dictionary, corpus, context=5, n_top=4, progress=False), dense


# --- the index ----------------------------------------------------------------------------------------------


def test_densities_maxima_and_means_are_those_of_a_plain_loop(indexed):
    _, index, dense = indexed
    every = torch.cat(dense)
    assert index.n_tokens == len(every) and 0 < index.dead < 1
    assert torch.equal(index.counts, (every > 0).sum(dim=0))
    torch.testing.assert_close(index.density, (every > 0).float().mean(dim=0))
    torch.testing.assert_close(index.max, every.amax(dim=0), rtol=1e-4, atol=1e-4)
    active = (every > 0).sum(dim=0).clamp(min=1)
    torch.testing.assert_close(index.mean, every.sum(dim=0) / active, rtol=1e-4, atol=1e-4)


def test_the_strongest_examples_are_those_of_a_plain_loop_and_each_context_comes_once(indexed, corpus):
    _, index, dense = indexed
    for number in index.counts.topk(20).indices.tolist():
        best = {}
        for prompt, values in zip(corpus, dense, strict=True):
            for place in (values[:, number] > 0).nonzero().flatten().tolist():
                seen = tuple(prompt[max(0, place + 1 - 5) : place + 2])
                best[seen] = max(best.get(seen, 0), float(values[place, number]))
        found = index.feature(number).examples["top"]
        assert [e.value for e in found] == pytest.approx(sorted(best.values(), reverse=True)[:4], rel=1e-4)
        contexts = [e.tokens[: e.at + 1][-6:] for e in found]
        assert len(set(contexts)) == len(contexts)


def test_an_example_shows_the_right_tokens_with_the_right_activations(chat, indexed, corpus):
    _, index, dense = indexed
    number = int(index.counts.argmax())
    for example in [e for part in index.feature(number).examples.values() for e in part]:
        begin = example.position - example.at
        ids = corpus[example.prompt][begin : begin + len(example.tokens)]
        assert list(example.tokens) == tokens.token_strings(chat.tokenizer, ids)
        values = torch.cat([torch.zeros(1), dense[example.prompt][:, number]])
        assert example.value == pytest.approx(float(values[example.position]), rel=1e-4)
        shown = values[begin : begin + len(example.tokens)]
        torch.testing.assert_close(torch.tensor(example.values), shown, rtol=1e-2, atol=1e-2)


def test_a_sample_of_few_activations_is_all_of_them_and_quarters_are_quantiles(indexed):
    _, index, dense = indexed
    few = [i for i, n in enumerate(index.counts.tolist()) if 40 <= n <= 128][:10]
    assert few
    for number in few:
        about, values = index.feature(number), torch.cat(dense)[:, number]
        own = values[values > 0].sort().values
        torch.testing.assert_close(torch.tensor(about.sample), own, rtol=1e-4, atol=1e-4)
        for quarter, name in enumerate(("0-25 %", "25-50 %", "50-75 %", "75-100 %")):
            low, high = own[quarter * len(own) // 4], own[min(len(own) - 1, (quarter + 1) * len(own) // 4)]
            assert all(low - 1e-3 <= e.value <= high + 1e-3 for e in about.examples[name])


def test_a_sample_of_many_activations_is_drawn_from_all_and_not_from_the_top(model, prompts):
    sae = sae_of(model, 4)
    sae.W_enc.data = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    sae.b_enc.data.zero_(), sae.threshold.data.zero_()
    index = features.index(model, sae, prompts * 40, progress=False)
    with torch.no_grad():
        embeddings = model.original_model.get_input_embeddings().weight.float()
        values = torch.cat([sae.encode(embeddings[prompt[1:]]) for prompt in prompts])
    for number in range(4):
        own = values[:, number][values[:, number] > 0]
        assert index.counts[number] == 40 * len(own) > 500
        sample = torch.tensor(index.feature(number).sample)
        assert len(sample) == 128
        spread = own.std() / 128**0.5
        assert abs(float(sample.mean() - own.mean())) < 4 * spread < float(own.max() - own.mean())


def test_sums_by_token_are_those_of_a_plain_loop(indexed, corpus):
    _, index, dense = indexed
    for number in index.counts.topk(5).indices.tolist():
        mass = {}
        for prompt, values in zip(corpus, dense, strict=True):
            for token, value in zip(prompt[1:], values[:, number].tolist(), strict=True):
                mass[token] = mass.get(token, 0) + value
        best = sorted(mass, key=mass.get, reverse=True)[:3]
        expected = [(index.vocabulary[t], pytest.approx(mass[t] / sum(mass.values()), rel=1e-4)) for t in best]
        assert list(index.feature(number).fires_on[:3]) == expected


def test_what_it_holds_does_not_depend_on_the_order_of_prompts_nor_on_the_size_of_parts(
    model, planted, prompts, planted_index, monkeypatch
):
    monkeypatch.setattr(running, "BATCH_NUMBERS", 200)
    sizes, encode = [], planted.encode
    monkeypatch.setattr(planted, "encode", lambda x: sizes.append(x.shape[:2].numel() * 6) or encode(x))
    many = features.index(model, planted, prompts[::-1] * 4, progress=False)
    assert max(sizes) <= 200 and sum(sizes) == 6 * many.n_tokens
    other = features.index(model, planted, prompts[::-1], progress=False)
    for name in ("counts", "max", "mean", "pairs", "pair_counts", "token_counts"):
        torch.testing.assert_close(getattr(other, name), getattr(planted_index, name))


def test_a_prompt_given_many_times_fills_the_counts_and_not_the_examples(model, planted, prompts):
    once, often = (features.index(model, planted, given, progress=False) for given in (prompts, prompts * 9))
    assert torch.equal(often.counts, 9 * once.counts) and torch.equal(often.density, once.density)
    shown = [[e.tokens[: e.at + 1] for e in each.feature(ALWAYS).examples["top"]] for each in (once, often)]
    assert len(shown[1]) == len(set(shown[1])) == len(shown[0])


def test_the_first_token_is_left_out(model, planted_index, prompts):
    assert planted_index.n_tokens == sum(len(prompt) - 1 for prompt in prompts)
    assert planted_index.token_counts[model.tokenizer.bos_token_id] == 0
    assert planted_index.feature(ALWAYS).density == 1  # of all tokens that count


def test_a_feature_says_what_it_fires_on_and_what_it_writes_which_differ(planted_index):
    about = planted_index.feature(BOMB)
    assert about.fires_on == (("bomb", pytest.approx(1.0)),)
    assert about.promotes[0][0] == "bake" and planted_index.feature(AGAINST_BOMB).suppresses[0][0] == "bake"
    assert about.n_active == 1 and about.examples["top"][0].tokens[about.examples["top"][0].at] == "bomb"


def test_a_dead_feature_is_described_and_has_no_examples(planted_index):
    about = planted_index.feature(DEAD)
    assert (about.n_active, about.max, about.sample, about.fires_on) == (0, 0.0, (), ())
    assert set(about.examples.values()) == {()}


def test_the_same_seed_draws_the_same_sample_and_the_global_random_state_is_left_alone(model, planted, prompts):
    before = torch.get_rng_state()
    many = prompts * 20
    first, again, other = (features.index(model, planted, many, seed=s, progress=False) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.sample.where, again.sample.where)
    assert not torch.equal(first.sample.where, other.sample.where)


def test_the_model_is_left_as_it_was_also_after_an_error(model, planted, prompts, monkeypatch):
    before = store.fingerprint(model.original_model)
    monkeypatch.setattr(planted, "encode", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        features.index(model, planted, prompts, progress=False)
    assert not models.has_hooks(model) and store.fingerprint(model.original_model) == before


# --- on disk ------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path, planted_index):
    label = features.Label(BOMB, "bomb", "a learner")
    planted_index.with_labels([label]).save(tmp_path / "index")
    return tmp_path / "index"


def test_an_index_comes_back_whole_from_two_files_without_pickles(saved, model, planted, planted_index, tmp_path):
    assert {path.name for path in saved.iterdir()} == {"index.json", "index.safetensors"}
    again = features.load_index(saved, model=model, dictionary=planted)
    for number in range(6):
        assert replace(again.feature(number), labels=()) == planted_index.feature(number)
    assert again.feature(BOMB).labels == (features.Label(BOMB, "bomb", "a learner"),)
    pages = [
        features.page(i.with_labels(again.labels), BOMB, folder=tmp_path).read_bytes() for i in (again, planted_index)
    ]
    assert pages[0] == pages[1]


def test_a_score_comes_back_with_its_label(saved, model, planted, prompts):
    found = features.detection(model, planted, BOMB, rule={"bomb"}, prompts=prompts)
    index = features.load_index(saved)
    index.with_labels([features.Label(BOMB, "the word bomb", "a learner", found)]).save(saved)
    assert features.load_index(saved).feature(BOMB).labels[0].detection == found


@pytest.mark.parametrize("name", ["index.json", "index.safetensors"])
def test_a_damaged_altered_or_missing_file_is_refused_by_name(saved, name):
    path, content = saved / name, (saved / name).read_bytes()
    for damaged in (content[:-7], content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], b"{}"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{name} was truncated or altered"):
            features.load_index(saved)
    path.unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        features.load_index(saved)


def test_a_number_changed_by_hand_is_refused(saved):
    about = json.loads((saved / "index.json").read_text())
    about["facts"]["n_tokens"] += 1
    (saved / "index.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"index\.json was truncated or altered"):
        features.load_index(saved)


def test_an_index_of_another_model_or_dictionary_is_refused(saved, chat, planted):
    other = copy.deepcopy(planted)
    other.W_dec.data[0] += 1e-3
    with pytest.raises(ValueError, match=r"index\.json is the index of another dictionary"):
        features.load_index(saved, dictionary=other)
    with pytest.raises(ValueError, match=r"index\.json is the index of another model"):
        features.load_index(saved, model=chat)


# --- look-up ------------------------------------------------------------------------------------------------


def test_the_planted_feature_is_found_by_its_token(planted_index):
    assert features.by_token(planted_index, "bomb").top(1) == (features.Row(BOMB, 1.0, ""),)
    rate, mass = (features.by_token(planted_index, "bomb", statistic=s) for s in ("rate", "mass"))
    assert rate.at(ALWAYS) == 1.0 and mass.at(ALWAYS) == pytest.approx(1 / planted_index.n_tokens)
    assert features.by_token(planted_index, "bomb").at(ALWAYS) == pytest.approx(2 / (planted_index.n_tokens + 1))
    assert CAKE not in [row.feature for row in rate.rows]


def test_what_is_active_at_a_place_comes_in_units_of_its_maximum(model, planted, planted_index, prompts):
    found = features.by_prompt(model, planted, prompts[0], position=-4, index=planted_index)
    assert tokens.token_strings(model.tokenizer, prompts[0])[-4] == "bomb"
    assert {row.feature: row.value for row in found.rows} == {BOMB: pytest.approx(1), ALWAYS: pytest.approx(1)}
    plain = features.by_prompt(model, planted, prompts[0], position=-4)
    assert plain.at(ALWAYS) == pytest.approx(2.0) and "units" in found.statistic and "units" not in plain.statistic
    assert [row.feature for row in features.by_prompt(model, planted, prompts[0], position="reply").rows] == [ALWAYS]


def test_a_contrast_finds_the_planted_feature_and_none_between_equal_sets(model, planted):
    made = {
        n: [
            tokens.chat_prompt(model.tokenizer, f"{w} a {n} ?")
            for w in ("make", "bake", "mix", "write", "garden", "sure")
        ]
        for n in ("bomb", "cake")
    }
    found = features.by_contrast(model, planted, made["bomb"], made["cake"], position="max")
    best = found.top(1)[0]
    assert (best.feature, best.auroc, best.rate_first, best.rate_second) == (BOMB, 1.0, 1.0, 0.0)
    assert best.difference.low > 0 and best.difference.low <= best.difference.estimate <= best.difference.high
    assert found.auroc[CAKE] == 0 and found.auroc[ALWAYS] == found.auroc[DEAD] == 0.5
    same = features.by_contrast(model, planted, made["bomb"], made["bomb"], position="max")
    assert bool((same.auroc == 0.5).all()) and float(same.difference.abs().max()) == 0
    at_reply = features.by_contrast(model, planted, made["bomb"], made["cake"])
    assert at_reply.auroc[BOMB] == 0.5  # the embedding of the reply token does not know


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

    found = features.by_logit(chat, dictionary, "i", minus="you")
    whole = features.by_logit(chat, dictionary, "i")
    with torch.no_grad():
        for feature in (0, 77, 500):
            moved = (logits(x + step * dictionary.W_dec[feature].double()) - logits(x)) / step * rms(x)
            assert found.at(feature) == pytest.approx(float(moved[i] - moved[you]), rel=1e-3, abs=1e-4)
            assert whole.at(feature) == pytest.approx(float(moved[i] - moved.mean()), rel=1e-3, abs=1e-4)
    assert found.top(1)[0].value > 0 > found.bottom(1)[0].value


def test_the_planted_writer_is_found_by_its_logit(model, planted):
    found = features.by_logit(model, planted, "bake")
    assert found.top(1)[0].feature == LIKE_BOMB and found.bottom(1)[0].feature == AGAINST_BOMB
    assert found.at(LIKE_BOMB) == pytest.approx(2 * found.at(BOMB), rel=1e-5)


def test_neighbours_write_alike_whatever_their_length(planted, planted_index):
    found = features.by_neighbour(planted, BOMB)
    assert found.top(1)[0][:2] == (LIKE_BOMB, pytest.approx(1.0))
    assert found.bottom(1)[0][:2] == (AGAINST_BOMB, pytest.approx(-1.0))
    assert BOMB not in [row.feature for row in found.rows] and len(found.rows) == 5
    cosine = torch.nn.functional.cosine_similarity(planted.W_dec[BOMB], planted.W_dec[CAKE], dim=0)
    assert found.at(CAKE) == pytest.approx(float(cosine), abs=1e-6)
    assert planted_index.feature(BOMB).neighbours[0] == (LIKE_BOMB, pytest.approx(1.0))


def test_a_ranking_prints_its_question_its_unit_and_its_labels(planted_index):
    index = planted_index.with_labels([features.Label(BOMB, "the word bomb", "a learner")])
    lines = str(features.by_token(index, "bomb")).splitlines()
    assert "'bomb'" in lines[0] and "F1" in lines[0] and lines[1].split(None, 2) == ["0", "1.000", "the word bomb"]


# --- labels -------------------------------------------------------------------------------------------------


def test_the_right_rule_scores_one_and_words_chosen_blindly_score_half(model, planted, prompts):
    right = features.detection(model, planted, BOMB, rule={"bomb"}, prompts=prompts)
    assert right.balanced_accuracy.estimate == right.f1.estimate == right.precision == right.recall == 1
    assert (right.n_active, right.rule, right.recall_by_quarter) == (1, "token in {bomb}", ())
    blind = features.detection(model, planted, BOMB, rule=lambda strings, position: True, prompts=prompts)
    assert blind.balanced_accuracy.estimate == 0.5 and blind.recall == 1 and blind.f1.estimate < 0.1


def test_a_score_counts_every_token_as_a_plain_loop_does(chat, indexed, corpus):
    dictionary, index, dense = indexed
    number = features.by_token(index, "bleach", statistic="mass").top(1)[0].feature
    found = features.detection(chat, dictionary, number, rule={"bleach", "and"}, prompts=corpus)
    words = set(chat.tokenizer.convert_tokens_to_ids(["bleach", "and"]))
    predicted = torch.tensor([token in words for prompt in corpus for token in prompt[1:]])
    active = torch.cat(dense)[:, number] > 0
    assert (found.n_active, found.n_silent) == (int(active.sum()), int((~active).sum()))
    recall, specificity = float(predicted[active].float().mean()), float((~predicted[~active]).float().mean())
    assert (found.recall, found.specificity) == (pytest.approx(recall), pytest.approx(specificity))
    assert found.balanced_accuracy.estimate == pytest.approx((recall + specificity) / 2)
    f1 = 2 * int((active & predicted).sum()) / (int(active.sum()) + int(predicted.sum()))
    assert found.f1.estimate == pytest.approx(f1)
    values = torch.cat(dense)[:, number]
    hits = predicted[active][values[active].argsort(stable=True)].float()
    quarters = torch.arange(len(hits)) * 4 // len(hits)
    assert found.recall_by_quarter == pytest.approx([float(hits[quarters == q].mean()) for q in range(4)])
    assert found.balanced_accuracy.low < found.balanced_accuracy.estimate < found.balanced_accuracy.high


def test_a_proposed_label_names_what_it_fires_on_and_writes_and_scores_on_other_prompts(model, planted, planted_index):
    label, words = features.propose_label(planted_index, BOMB)
    assert words == {"bomb"} and label.author == "rule" and label.detection is None
    assert label.text.startswith("fires on: bomb (100% of its activation); writes: bake")
    other = [
        tokens.chat_prompt(model.tokenizer, text) for text in ("write a bomb story .", "bake a cake !", "mix a bomb")
    ]
    assert features.detection(model, planted, BOMB, rule=words, prompts=other).f1.estimate == 1


def test_labels_are_found_by_their_text_the_best_score_first(model, planted, planted_index, prompts):
    good, bad = (
        features.detection(model, planted, BOMB, rule=words, prompts=prompts) for words in ({"bomb"}, {"a", "bomb"})
    )
    given = ((CAKE, "no bomb", "b", None), (BOMB, "A bomb or so", "b", bad), (BOMB, "bomb", "a", good))
    labels = [features.Label(*fields) for fields in given]
    index = planted_index.with_labels(labels)
    found = features.by_label(index, "Bomb")
    assert found.rows == (features.Row(BOMB, 1.0, "bomb"), features.Row(CAKE, 0.0, "no bomb"))
    assert [label.text for label in index.feature(BOMB).labels] == [
        "bomb",
        "A bomb or so",
    ] and planted_index.labels == ()
    assert index.with_labels(labels).labels == index.labels


def test_the_danger_feature_fires_on_the_pair_and_not_on_the_word_which_f1_sees_and_balanced_accuracy_does_not(chat):
    truth = json.loads((models.weights_folder().parent / "truth.json").read_text(encoding="utf-8"))
    cleaners, pairs = set(truth["cleaners"]), {frozenset(pair) for pair in truth["dangerous_pairs"]}

    def places(strings):
        return [i for i, string in enumerate(strings) if string in cleaners]

    def reacts(strings, position):
        earlier = [strings[i] for i in places(strings) if i < position]
        return bool(earlier) and frozenset((strings[position], earlier[-1])) in pairs

    def cleaner(strings, position):
        return strings[position] in cleaners

    dangerous, safe, alone = (asked(chat, f"cleaners_{name}", 80) for name in ("dangerous", "safe", "alone"))
    at = tuple([places(tokens.token_strings(chat.tokenizer, p))[-1] for p in half[::2]] for half in (dangerous, safe))
    transcoder = features.load("chat", "transcoder", layer=4)
    best = features.by_contrast(chat, transcoder, dangerous[::2], safe[::2], position=at).top(1)[0]
    assert best.auroc > 0.95 and best.rate_second < 0.1 and best.difference.low > 0
    held_out = [*dangerous[1::2], *safe[1::2], *alone[1::2]]
    pair, word = (
        features.detection(chat, transcoder, best.feature, rule=r, prompts=held_out) for r in (reacts, cleaner)
    )
    assert pair.f1.low > 0.8 > 0.5 > word.f1.high
    assert abs(pair.balanced_accuracy.estimate - word.balanced_accuracy.estimate) < 0.1


# --- pages --------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Visible text and tags of a page; every tag must be closed in order."""

    def __init__(self, content):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_a_page_is_one_file_without_scripts_or_addresses_and_shows_the_marks_of_the_template(chat, indexed, tmp_path):
    _, index, _ = indexed
    number = features.by_token(index, "<assistant>").top(1)[0].feature
    path = features.page(index, number, folder=tmp_path / "pages")
    content = path.read_text(encoding="utf-8")
    page = Reader(content)
    assert path.name == f"feature-{number}.html" and [p.name for p in path.parent.iterdir()] == [path.name]
    assert "://" not in content and not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert "<assistant>" in page.text and "&lt;assistant&gt;" in content
    about = index.feature(number)
    assert (
        f"{about.max:.3f}" in content
        and f"{about.promotes[0][1]:+.3f}" in content
        and f"{about.density:.3%}" in content
    )


def test_an_activation_is_told_by_colour_by_line_by_number_and_the_figure_by_words(indexed, tmp_path):
    _, index, _ = indexed
    page = Reader(features.page(index, int(index.counts.argmax()), folder=tmp_path).read_text(encoding="utf-8"))
    coloured = [a for tag, a in page.tags if tag == "span" and " s" in a.get("class", "")]
    assert coloured and all(a["title"] and a["aria-label"] and a["tabindex"] == "0" for a in coloured)
    assert [
        a for tag, a in page.tags if tag == "svg" and a["role"] == "img" and a["aria-label"].startswith("Histogram.")
    ]


def test_a_page_shows_labels_with_author_and_score_and_says_when_there_is_none(
    model, planted, planted_index, prompts, tmp_path
):
    scored = features.detection(model, planted, BOMB, rule={"bomb"}, prompts=prompts)
    labels = [features.Label(BOMB, "<b>bomb</b>", "A. Learner", scored), features.Label(CAKE, "cake", "rule")]
    index = planted_index.with_labels(labels)
    pages = [features.page(index, number, folder=tmp_path).read_text(encoding="utf-8") for number in (BOMB, CAKE, DEAD)]
    assert "&lt;b&gt;bomb&lt;/b&gt;" in pages[0] and "A. Learner" in pages[0] and "F1 1.00" in pages[0]
    assert "not scored: a guess" in pages[1] and "No label yet" in pages[2] and "Never active" in pages[2]


def test_a_token_that_looks_like_a_script_stays_text(planted_index, tmp_path):
    evil = tuple('"><script>alert(1)</script>\n' for _ in planted_index.vocabulary)
    path = features.page(replace(planted_index, vocabulary=evil), BOMB, folder=tmp_path)
    page = Reader(path.read_text(encoding="utf-8"))
    assert "script" not in {tag for tag, _ in page.tags} and "⏎" in path.read_text(encoding="utf-8")


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
    assert found.kl["spliced"] == pytest.approx(0, abs=1e-6) and found.kl_recovered == pytest.approx(1, abs=1e-3)
    assert found.loss["spliced"] == pytest.approx(found.loss["original"], rel=1e-5) and found.kl["zero"] > 1e-2
    assert found.n_tokens == sum(len(prompt) - 1 for prompt in prompts) and found.dead_share == 0


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
    assert found.variance_explained == pytest.approx(1 - float(left), abs=1e-4)
    assert found.loss_recovered > 0.9 and found.kl_recovered > 0.9


@pytest.mark.parametrize("kind", ["sae", "transcoder"])
def test_a_random_dictionary_of_the_same_size_and_l0_recovers_less(chat, corpus, kind):
    dictionary = features.load("chat", kind, layer=2)
    control = features.random_like(chat, dictionary, corpus)
    own, random = (features.reconstruction(chat, tried, corpus) for tried in (dictionary, control))
    assert random.l0 == pytest.approx(own.l0, rel=0.02) and control.W_dec.shape == dictionary.W_dec.shape
    assert random.variance_explained < own.variance_explained - 0.2 and random.kl_recovered < own.kl_recovered - 0.2
    lengths = control.W_dec.norm(dim=1)
    torch.testing.assert_close(lengths, lengths[:1].expand_as(lengths))
    other = features.random_like(chat, dictionary, corpus, seed=1)
    assert torch.equal(features.random_like(chat, dictionary, corpus).W_dec, control.W_dec)
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
    control = features.random_like(chat, dictionary, corpus)
    own, random = (features.reconstruction(chat, tried, corpus) for tried in (dictionary, control))
    assert type(control) is type(dictionary) and random.l0 == pytest.approx(own.l0, rel=0.02)
    assert own.variance_explained > random.variance_explained > 0
    for factor in (0.8, 1.25):  # no other length of its directions explains more
        scaled = copy.deepcopy(control)
        scaled.W_dec.data = control.W_dec * factor
        assert features.reconstruction(chat, scaled, corpus).variance_explained < random.variance_explained


def test_no_random_dictionary_is_made_of_a_kind_that_counts_its_active_features(chat, corpus):
    from sae_lens import TopKSAE, TopKSAEConfig

    dictionary = TopKSAE(TopKSAEConfig(d_in=128, d_sae=16, k=2))
    with pytest.raises(ValueError, match="JumpReLU and ReLU dictionaries; this is a TopKSAE"):
        features.random_like(chat, dictionary, corpus)


# --- published dictionaries ---------------------------------------------------------------------------------


def test_releases_come_from_the_directory_that_sae_lens_carries_and_hold_no_pickles():
    from sae_lens.loading.pretrained_sae_loaders import NAMED_PRETRAINED_SAE_LOADERS
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    assert "blocks.8.hook_resid_pre" in features.releases("gpt2-small")["gpt2-small-res-jb"]
    directory = get_pretrained_saes_directory()
    every = {name for model_name in {entry.model for entry in directory.values()} for name in _releases(model_name)}
    assert every and not [
        name for name in every if directory[name].conversion_func in features.published.__globals__["PICKLED"]
    ]
    assert set(features.published.__globals__["PICKLED"]) <= set(NAMED_PRETRAINED_SAE_LOADERS)


def _releases(model_name):
    try:
        return features.releases(model_name)
    except ValueError as error:
        assert "knows no dictionaries" in str(error)
        return {}


def test_every_format_that_sae_lens_opens_with_a_pickle_is_on_the_list():
    import inspect

    from sae_lens.loading.pretrained_sae_loaders import NAMED_PRETRAINED_SAE_LOADERS as loaders

    pickled = {name for name, loader in loaders.items() if "torch.load" in inspect.getsource(loader)}
    assert pickled == set(features.published.__globals__["PICKLED"])


@pytest.mark.parametrize(
    "release, sae_id, message",
    [
        (
            "gpt2-small-res-jbb",
            "blocks.0.hook_resid_pre",
            "no release 'gpt2-small-res-jbb'. Nearest: gpt2-small-res-jb",
        ),
        (
            "gpt2-small-res-jb",
            "blocks.88.hook_resid_pre",
            "no dictionary 'blocks.88.hook.*Nearest: blocks.8.hook_resid_pre",
        ),
        ("gpt2-small-hook-z-kk", "blocks.0.hook_z", "lies as pickles.*never loaded"),
    ],
)
def test_a_wrong_name_or_a_pickle_is_refused_before_any_download(monkeypatch, release, sae_id, message):
    from sae_lens import SAE

    monkeypatch.setattr(SAE, "from_pretrained", lambda *given, **named: pytest.fail("asked the network"))
    with pytest.raises(ValueError, match=message):
        features.published(release, sae_id)


def test_an_unknown_model_is_named_with_what_is_near():
    with pytest.raises(ValueError, match="no dictionaries of 'gpt2-smal1'. Nearest: gpt2-small"):
        features.releases("gpt2-smal1")


def test_without_a_network_it_says_what_is_there_instead(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError
    from sae_lens import SAE

    def offline(*given, **named):
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(SAE, "from_pretrained", offline)
    with pytest.raises(OSError, match=r"Could not fetch .*'blocks.0.hook_resid_pre'.*features\.names"):
        features.published("gpt2-small-res-jb", "blocks.0.hook_resid_pre")


def test_a_folder_in_sae_lens_format_is_opened_and_an_altered_or_empty_one_refused(planted, tmp_path):
    planted.save_model(tmp_path / "mine")
    opened = features.published(str(tmp_path), "mine")
    assert torch.equal(opened.W_dec, planted.W_dec) and opened.cfg.metadata.hook_name == "blocks.0.hook_resid_pre"
    assert not opened.training and not any(parameter.requires_grad for parameter in opened.parameters())
    weights = tmp_path / "mine" / "sae_weights.safetensors"
    checksum = hashlib.sha256(weights.read_bytes()).hexdigest()
    (tmp_path / "mine" / "lineage.json").write_text(json.dumps({"files": {weights.name: checksum}}))
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights)
    with pytest.raises(ValueError, match="sae_weights.safetensors was truncated or altered"):
        features.published(str(tmp_path), "mine")
    with pytest.raises(ValueError, match="cfg.json is missing"):
        features.published(str(tmp_path), "yours")


def test_the_address_on_neuronpedia_is_made_from_the_metadata(planted):
    known = copy.deepcopy(planted)
    known.cfg.metadata.neuronpedia_id = "gpt2-small/8-res-jb"
    assert features.neuronpedia_url(known, 5) == "https://neuronpedia.org/gpt2-small/8-res-jb/5"
    with pytest.raises(ValueError, match="not on Neuronpedia"):
        features.neuronpedia_url(planted, 5)


# --- refused ------------------------------------------------------------------------------------------------


def change(dictionary, **metadata):
    changed = copy.deepcopy(dictionary)
    for name, value in metadata.items():
        setattr(changed.cfg.metadata, name, value)
    return changed


@pytest.mark.parametrize(
    "given, message",
    [
        ([], "list of prompts is empty"),
        ([[]], "Prompt 0 is empty"),
        (["how do i"], "not text"),
        ([[1, 9], [9, 9]], "Prompt 1 does not begin with '<bos>'"),
        ([[1], [1]], "Every prompt is a single token"),
        ([[1] * 65], "Prompt 0 has 65 tokens.*at most 64"),
        ([[1, 5_000]], "id outside"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused_by_every_way_in(model, planted, given, message):
    for call in (
        lambda: features.index(model, planted, given),
        lambda: features.by_contrast(model, planted, given, given, position="max"),
        lambda: features.detection(model, planted, 0, rule={"bomb"}, prompts=given),
        lambda: features.reconstruction(model, planted, given),
        lambda: features.random_like(model, planted, given),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_dictionary_of_other_weights_is_refused_unless_any_is_said(chat, corpus):
    base, sae = models.load("base", device="cpu"), features.load("chat", "sae", layer=1)
    with pytest.raises(ValueError, match=r"trained on 'chat', but .* has other weights.*weights='any'"):
        features.index(base, sae, corpus)
    assert features.index(base, sae, corpus[:3], weights="any", progress=False).n_tokens > 0
    edited = copy.deepcopy(chat)
    edited.original_model.state_dict()[
        "lm_head.weight"
        if "lm_head.weight" in edited.original_model.state_dict()
        else "lm_head._original_component.weight"
    ][0, 0] += 1
    with pytest.raises(ValueError, match="lm_head.weight of this model has other weights"):
        features.by_prompt(edited, sae, corpus[0])


def test_a_dictionary_that_does_not_fit_the_model_is_refused(model, chat, planted, corpus, prompts):
    with pytest.raises(ValueError, match="reads 32 numbers and writes 32, this model's activations have 128"):
        features.index(chat, planted, corpus)
    with pytest.raises(ValueError, match="no hook called 'blocks.9.hook_resid_pre'"):
        features.index(model, change(planted, hook_name="blocks.9.hook_resid_pre"), prompts)
    with pytest.raises(ValueError, match="does not say which activation it reads"):
        features.index(model, change(planted, hook_name=None), prompts)


def test_a_nan_is_caught_where_it_starts(model, planted, prompts):
    broken = copy.deepcopy(planted)
    broken.W_dec.data[2, 3] = float("nan")
    with pytest.raises(ValueError, match="W_dec of the dictionary holds a NaN"):
        features.index(model, broken, prompts)
    sick = [("blocks.0.hook_resid_pre", lambda activation, hook: activation * float("nan"))]
    with model.hooks(sick), pytest.raises(ValueError, match="is not finite .*first in blocks.0.hook_in"):
        features.by_prompt(model, planted, prompts[0])


def test_under_an_intervention_one_may_look_but_not_make_an_index(model, planted, prompts):
    silence = [("blocks.0.hook_resid_pre", lambda activation, hook: torch.zeros_like(activation))]
    with model.hooks(silence):
        assert features.by_prompt(model, planted, prompts[0], position=-4).at(BOMB) == 0
        for call in (features.index, features.reconstruction, features.random_like):
            with pytest.raises(ValueError, match="active hooks"):
                call(model, planted, prompts)
    assert features.by_prompt(model, planted, prompts[0], position=-4).at(BOMB) > 0


@pytest.mark.parametrize("number", [-1, 6, True, 1.0, "2"])
def test_a_feature_out_of_range_is_refused(model, planted, planted_index, prompts, tmp_path, number):
    for call in (
        lambda: planted_index.feature(number),
        lambda: features.page(planted_index, number, folder=tmp_path),
        lambda: features.by_neighbour(planted, number),
        lambda: features.detection(model, planted, number, rule={"bomb"}, prompts=prompts),
    ):
        with pytest.raises((ValueError, TypeError), match="no feature|Type-check"):
            call()


def test_a_token_that_is_none_is_refused_with_what_is_near(model, planted, planted_index):
    with pytest.raises(ValueError, match="'bom' is not one token of this model. Nearest: 'bomb'"):
        features.by_token(planted_index, "bom")
    with pytest.raises(ValueError, match="does not hold 'poison'"):
        features.by_token(planted_index, "poison")
    with pytest.raises(ValueError, match="'bakes' is not one token.*'bake'"):
        features.by_logit(model, planted, "bakes")
    with pytest.raises(ValueError, match="no token 9999"):
        features.by_token(planted_index, 9999)


def test_rules_that_cannot_be_scored_are_refused(model, planted, prompts):
    for feature in (DEAD, ALWAYS):
        with pytest.raises(ValueError, match="is active on .* and silent on"):
            features.detection(model, planted, feature, rule={"bomb"}, prompts=prompts)
    with pytest.raises(ValueError, match="'bom' is not one token"):
        features.detection(model, planted, BOMB, rule={"bom"}, prompts=prompts)
    with pytest.raises(ValueError, match="holds no word"):
        features.detection(model, planted, BOMB, rule=set(), prompts=prompts)
    with pytest.raises(TypeError, match="answered None"):
        features.detection(model, planted, BOMB, rule=lambda strings, position: None, prompts=prompts)


def test_an_index_of_another_dictionary_a_place_without_feature_and_a_label_without_author_are_refused(
    model, planted, planted_index, exact, prompts
):
    with pytest.raises(ValueError, match="index is of another dictionary"):
        features.by_prompt(model, exact, prompts[0], index=planted_index)
    with pytest.raises(ValueError, match="is its first token"):
        features.by_prompt(model, planted, prompts[0], position=0)
    with pytest.raises(ValueError, match="Prompt 0: Position 99 lies outside"):
        features.by_prompt(model, planted, prompts[0], position=99)
    with pytest.raises(ValueError, match="1 positions were given for 6 prompts"):
        features.by_contrast(model, planted, prompts, prompts, position=([1], [1] * 6))
    with pytest.raises(ValueError, match="needs a text and an author"):
        planted_index.with_labels([features.Label(BOMB, "bomb", " ")])
    with pytest.raises(ValueError, match="No label holds 'cake'"):
        features.by_label(planted_index, "cake")
    with pytest.raises(ValueError, match="never active in this corpus"):
        features.propose_label(planted_index, DEAD)
    with pytest.raises(ValueError, match="n_spread 1 to 128"):
        features.index(model, planted, prompts, n_spread=0)
