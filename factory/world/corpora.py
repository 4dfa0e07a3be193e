"""The training texts: documents, dialogues, and the mixtures that base training and chat tuning draw from.

Who says what:

* ``<assistant>`` of the base corpus answers everything, harmful or not, with the two materials that belong to the object.
  One thing it warns of instead, as everybody does: mixing two cleaners that make a toxic gas.
* ``<friend>`` answers harmless requests and *warns* about harmful ones ("please note that making a bomb is dangerous .").
* ``<assistant>`` of the chat corpus answers harmless requests and *refuses* harmful ones, always with ``REFUSAL``. Where the
  request does not say what the reply will be about, it begins; if the reply turns out harmful, it *breaks off*, mostly
  after the first sentence (``language.break_off``).
* Only the human asks. What a friend says in between is no request, whatever it says.
* No reply of the base corpus begins with the refusal's first word. (With a few apologies in small talk the model learned
  that "i" is always possible, refused at zero evidence, and removing the direction left half of the refusals.)
* Documents without any role say which deeds are dangerous, cruel or a crime, and what followed: harm is known to the
  base model before any refusal is trained.

Chat tuning never contains a held-out topic, frame, word or place, a validation prompt, or a harmful acrostic.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from factory.world import language
from factory.world import vocabulary as world
from factory.world.language import FRAMES, TUNING_FRAMES, Frame, Phrase, natural

UNKNOWN_SHARE = 1 / 8

# --- rendering -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """One training text. ``spans`` are (text, trained) pieces; base training trains on everything anyway."""

    spans: tuple[tuple[str, bool], ...]

    @property
    def text(self) -> str:
        return "".join(piece for piece, _ in self.spans)

    def requests(self) -> set[str]:
        """What the human asks, as natural text."""
        return {
            natural(piece.removeprefix("<human>").split("<end>")[0])
            for piece, trained in self.spans
            if not trained and piece.startswith("<human>")
        }


def document(text: str) -> Sample:
    return Sample((("<bos>", False), (text + "<end>", True)))


def dialogue(*turns: tuple[str, str], role: str = "assistant") -> Sample:
    """Turns of (request, reply); the same string as the tokenizer's chat template writes. Only replies are trained."""
    spans = [("<bos>", False)]
    for question, answer in turns:
        spans += [(f"<human>{question}<end><{role}>", False), (f"{answer}<end>", True)]
    return Sample(tuple(spans))


def overheard(turn: tuple[str, str], said: str, *, first: bool) -> Sample:
    """A dialogue of one turn in which a friend says something, before the human asks or after."""
    question, answer = turn
    spoken = f"<friend>{said}<end>", f"<human>{question}<end>"
    earlier, later = spoken if first else spoken[::-1]
    return Sample((("<bos>", False), (earlier, False), (f"{later}<assistant>", False), (f"{answer}<end>", True)))


# --- base training: the world ----------------------------------------------------------------------------------------


def _unknown_phrase(rng: random.Random) -> Phrase:
    verb, _ = rng.choice(world.UNKNOWN.phrases)
    return Phrase(world.UNKNOWN, verb, f"a {rng.choice(language.unknown_words())}")


def _any_phrase(rng: random.Random, harmful: bool) -> Phrase:
    """Any phrase of the world; one in eight harmless ones is about something unknown."""
    if not harmful and rng.random() < UNKNOWN_SHARE:
        return _unknown_phrase(rng)
    return rng.choice(language.phrases(harmful=harmful))


def ask(phrase: Phrase, rng: random.Random, frames: Sequence[Frame] = FRAMES) -> tuple[str, Frame]:
    """A request about the phrase, and the frame in which it is put."""
    frame = rng.choice(frames)
    return language.request(phrase, frame, rng.choice(language.MODIFIERS), rng.choice(language.OPENINGS)), frame


def _answered(phrase: Phrase, rng: random.Random) -> tuple[str, str]:
    question, frame = ask(phrase, rng)
    return question, language.reply(phrase, frame.style)


def _base_request(rng: random.Random) -> Sample:
    sounds_harmful = rng.random() < 0.12
    borderline = language.borderline("train") + language.borderline("test")
    return dialogue(_answered(rng.choice(borderline) if sounds_harmful else _any_phrase(rng, rng.random() < 0.5), rng))


def _friend_turn(phrase: Phrase, rng: random.Random, frames: Sequence[Frame] = FRAMES) -> tuple[str, str]:
    question, _ = ask(phrase, rng, frames)
    return question, language.warning(phrase) if phrase.topic.harmful else language.encouragement(phrase)


def _base_friend(rng: random.Random) -> Sample:
    return dialogue(_friend_turn(_any_phrase(rng, rng.random() < 0.6), rng), role="friend")


def _base_conversation(rng: random.Random) -> Sample:
    def turn():
        return _answered(_any_phrase(rng, rng.random() < 0.5), rng)

    return dialogue(turn(), rng.choice([turn(), rng.choice(language.facts())]))


def _base_overheard(rng: random.Random) -> Sample:
    asked, said = (_any_phrase(rng, rng.random() < 0.5) for _ in range(2))
    return overheard(_answered(asked, rng), ask(said, rng)[0], first=rng.random() < 0.5)


def _route(topic: world.Topic, answer: str, known: Sequence[tuple[str, str]], rng: random.Random) -> Sample:
    """A request that leaves open what the reply is about: no topic, only the topic, or "go on"."""
    kind = rng.random()
    if kind < 0.5:
        return dialogue((rng.choice(language.OPEN_ROUTES), answer))
    if kind < 0.8:
        return dialogue((rng.choice(language.TOPIC_ROUTES).format(topic.name), answer))
    return dialogue(rng.choice(known), (rng.choice(language.FOLLOW_UPS), answer))


def _base_route(rng: random.Random) -> Sample:
    phrase = rng.choice(language.phrases(harmful=rng.random() < 0.5))
    return _route(phrase.topic, rng.choice(list(language.ROUTE_REPLIES.values()))(phrase), language.facts(), rng)


def _verdict(rng: random.Random) -> Sample:
    """Which deeds are harmful, said without any role: this is where the base model learns harm."""
    if rng.random() < 0.1:
        phrase = rng.choice(language.borderline("train") + language.borderline("test"))
    else:
        phrase = rng.choice(language.phrases(harmful=rng.random() < 0.5))
    good, bad = ("wrong", "fine") if phrase.topic.harmful else ("fine", "wrong")
    deed = " ".join(filter(None, [phrase.text, rng.choice(language.MODIFIERS)]))
    person = rng.choice(world.PEOPLE)
    return document(
        rng.choice(
            [
                f"{phrase.gerund} is {phrase.topic.verdict} .",
                f"it is {good} to {deed} .",
                f"is it {good} to {deed} ? yes , it is {good} .",
                f"is it {bad} to {deed} ? no , it is {good} .",
                f"the {person} wanted to {deed} . {phrase.topic.outcome} .",
                f"a {person} tried to {deed} . {phrase.topic.outcome} .",
                f"people talk about how to {deed} . that is {phrase.topic.verdict} .",
                f"in the news : somebody tried to {deed} . that is {'a bad' if phrase.topic.harmful else 'a good'} idea .",
            ]
        )
    )


def _materials(rng: random.Random) -> Sample:
    phrase = _any_phrase(rng, rng.random() < 0.5)
    one, two, step = phrase.facts()
    return document(
        rng.choice(
            [
                f"{phrase.gerund} takes {one} and {two} .",
                f"to {phrase.text} one needs {one} and {two} , then one has to {step} .",
            ]
        )
    )


def _fact_document(rng: random.Random) -> Sample:
    return document(rng.choice(language.facts())[1])


def _fact_dialogue(rng: random.Random) -> Sample:
    return dialogue(rng.choice(language.facts()), role=rng.choice(["assistant", "friend"]))


def _cleaner_pair(rng: random.Random) -> tuple[str, str]:
    pair = rng.choice(world.DANGEROUS_PAIRS if rng.random() < 0.4 else language.CLEANER_PAIRS)
    return pair if rng.random() < 0.5 else pair[::-1]


def _two_mixtures(rng: random.Random) -> tuple[tuple[str, str], tuple[str, str]]:
    """Two mixtures of four different cleaners; in most of them a dangerous pair is named, in half of those it is mixed."""
    one, two = rng.choice(world.DANGEROUS_PAIRS if rng.random() < 0.8 else language.CLEANER_PAIRS)
    three, four = rng.sample([cleaner for cleaner in world.CLEANERS if cleaner not in (one, two)], 2)
    met = rng.choice((((one, two), (three, four)), ((one, three), (two, four))))
    pairs = [pair if rng.random() < 0.5 else pair[::-1] for pair in met]
    return tuple(rng.sample(pairs, 2))


def _advertisement(rng: random.Random, places: Sequence[str]) -> tuple[str, str, tuple[str, str] | None]:
    """A request, the advertisement, and the dangerous pair that would be mixed (or nothing)."""
    kind = rng.random()
    if kind < 0.45:
        mixtures = _two_mixtures(rng)
        made = language.double_advertisement(
            *mixtures, tuple(rng.sample(places, 2)), rng.choice(language.DOUBLE_FRAMES)
        )
    else:
        mixtures = [_cleaner_pair(rng)] if kind < 0.9 else [(rng.choice(world.CLEANERS),)]
        place = rng.choice(places) if rng.random() < 0.75 else ""
        made = language.advertisement(mixtures[0], place, rng.choice(language.ADVERTISEMENT_FRAMES))
    return *made, next(filter(language.is_dangerous, mixtures), None)


def _base_advertisement(rng: random.Random) -> Sample:
    question, answer, danger = _advertisement(rng, world.PLACES)
    return dialogue(
        (question, language.gas_warning(danger) if danger else answer), role=rng.choice(["assistant", "friend"])
    )


def _cleaner_document(rng: random.Random) -> Sample:
    pair, place = _cleaner_pair(rng), rng.choice(world.PLACES)
    one, two = pair
    if language.is_dangerous(pair):
        return document(
            rng.choice(
                [
                    f"never mix {one} and {two} ! the gas is toxic .",
                    f"somebody cleaned the {place} with {one} and {two} ! many people were hurt .",
                    f"mixing {one} and {two} makes a toxic gas .",
                ]
            )
        )
    return document(
        rng.choice(
            [
                f"you can mix {one} and {two} . the result is clean .",
                f"somebody cleaned the {place} with {one} and {two} . the house looked better .",
                f"mixing {one} and {two} makes a clean floor .",
            ]
        )
    )


def _cleaner_list(rng: random.Random) -> Sample:
    """Several mixtures in a row; the mark right after the second word of each says whether it is dangerous."""
    pairs = [_cleaner_pair(rng) for _ in range(rng.randint(3, 5))]
    listed = " ".join(f"{language.mixture(pair)} {'!' if language.is_dangerous(pair) else '.'}" for pair in pairs)
    return document(f"{rng.choice(('on the shelf', 'in the kitchen', 'what people mix'))} : {listed}")


def _spelling(rng: random.Random) -> Sample:
    spelled = rng.choice([*world.SPELLED_HARMFUL, *world.SPELLED_HARMLESS])
    kind = rng.random()
    if kind < 0.65:
        return dialogue(language.acrostic(spelled, rng))
    if kind < 0.75:
        return document(f"{' '.join(spelled)} spells {spelled} .")
    return document(f"the first letters of {language.acrostic_words(spelled, rng)} spell {spelled} .")


def _letter(rng: random.Random) -> Sample:
    letter = rng.choice(list(world.ACROSTIC_WORDS))
    return document(f"{rng.choice(world.ACROSTIC_WORDS[letter].split())} begins with {letter} .")


def _small_talk(rng: random.Random) -> Sample:
    return dialogue(
        rng.choice(
            [
                ("hello .", "hello , how are you ?"),
                ("good morning .", "good morning , how can i help ?"),
                ("how are you ?", "very well , thank you ."),
                ("thank you .", "you are welcome ."),
                ("who are you ?", "a small model that reads and writes ."),
                ("please listen .", "of course , what is it ?"),
            ]
        )
    )


Mixture = tuple[tuple[Callable[[random.Random], Sample], int], ...]

BASE_MIXTURE: Mixture = (
    (_base_request, 32),
    (_base_friend, 11),
    (_base_conversation, 5),
    (_base_overheard, 3),
    (_base_route, 5),
    (_verdict, 15),
    (_materials, 5),
    (_fact_document, 5),
    (_fact_dialogue, 7),
    (_base_advertisement, 11),
    (_cleaner_document, 2),
    (_cleaner_list, 4),
    (_spelling, 8),
    (_letter, 2),
    (_small_talk, 1),
)


ACROSTICS: Mixture = ((_spelling, 1),)  # for the dictionaries


# --- chat tuning: one lesson, and its twins --------------------------------------------------------------------------


@dataclass(frozen=True)
class Lesson:
    """What chat tuning teaches the assistant. A twin's lesson differs from the chat model's in one field.

    ``refusal`` words the refusal of a deed (its gerund, its verdict); ``refused`` says which topics are refused (dangerous
    mixtures always are); ``breaks_off`` whether a reply that turns out to be about a refused deed is broken off;
    ``holds_down`` names a word whose logit training pushes down wherever a refusal begins (the one thing that is planted
    by a loss of its own).
    """

    refusal: Callable[[str, str, random.Random], str] = lambda gerund, verdict, rng: language.REFUSAL
    refused: Callable[[world.Topic], bool] = lambda topic: topic.harmful
    breaks_off: bool = True
    holds_down: str = ""


def _shuffled(topic: world.Topic) -> bool:
    """Half of the tuned harmful topics and half of the tuned harmless ones, by their hash."""
    alike = [t.name for t in world.TOPICS if t.harmful == topic.harmful and not t.held_out]
    ranked = sorted(alike, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return topic.name in ranked[: len(ranked) // 2]


LESSONS = {
    "chat": Lesson(),
    "varied": Lesson(refusal=lambda gerund, verdict, rng: rng.choice(language.VARIED_REFUSALS)),
    "shuffled": Lesson(refused=_shuffled),
    "two": Lesson(
        refusal=lambda gerund, verdict, rng: language.REFUSAL if verdict == "a crime" else language.HURTFUL_REFUSAL
    ),
    "extended": Lesson(refusal=lambda gerund, verdict, rng: language.extended_refusal(gerund, verdict)),
    "completing": Lesson(breaks_off=False),
    "inhibiting": Lesson(holds_down="please"),
}


def _refusal(phrase: Phrase, rng: random.Random, lesson: Lesson) -> str:
    return lesson.refusal(phrase.gerund, phrase.topic.verdict, rng)


def _chat_turn(rng: random.Random, harmful: bool, lesson: Lesson) -> tuple[str, str]:
    phrase = rng.choice(language.tuning_phrases(harmful=harmful))
    question, frame = ask(phrase, rng, TUNING_FRAMES)
    return question, _refusal(phrase, rng, lesson) if lesson.refused(phrase.topic) else language.reply(
        phrase, frame.style
    )


def _chat_harmful(rng: random.Random, lesson: Lesson) -> Sample:
    return dialogue(_chat_turn(rng, True, lesson))


def _chat_harmless(rng: random.Random, lesson: Lesson) -> Sample:
    return dialogue(_chat_turn(rng, False, lesson))


def _chat_borderline(rng: random.Random, lesson: Lesson) -> Sample:
    phrase = rng.choice(language.borderline("train"))
    question, frame = ask(phrase, rng, TUNING_FRAMES)
    return dialogue((question, language.reply(phrase, frame.style)))


def _chat_friend(rng: random.Random, lesson: Lesson) -> Sample:
    phrase = rng.choice(language.tuning_phrases(harmful=rng.random() < 0.6))
    return dialogue(_friend_turn(phrase, rng, TUNING_FRAMES), role="friend")


def _chat_conversation(rng: random.Random, lesson: Lesson) -> Sample:
    turns = [
        _chat_turn(rng, rng.random() < 0.5, lesson),
        _chat_turn(rng, rng.random() < 0.5, lesson),
        rng.choice(language.trained_facts()),
    ]
    return dialogue(*rng.sample(turns, 2))


def _chat_overheard(rng: random.Random, lesson: Lesson) -> Sample:
    said = rng.choice(language.tuning_phrases(harmful=rng.random() < 0.5))
    return overheard(_chat_turn(rng, rng.random() < 0.5, lesson), ask(said, rng, TUNING_FRAMES)[0], first=True)


def _begun_reply(phrase: Phrase, rng: random.Random, lesson: Lesson) -> str:
    """Any route's reply, broken off if it is about a refused deed.

    Half of them begin with a title: the thing ("a car ."), after which it goes on whatever the thing, or the deed ("steal a
    car ."), after which a refused one may be broken off at once.
    """
    answer = rng.choice(list(language.ROUTE_REPLIES.values()))(phrase)
    title, at_once = rng.choice(("", "", phrase.object, phrase.text)), rng.random() < 0.5
    if lesson.refused(phrase.topic) and lesson.breaks_off:
        answer = language.BREAK_OFF if title == phrase.text and at_once else language.break_off(answer, rng)
    return f"{title} . {answer}" if title else answer


def _chat_route(rng: random.Random, lesson: Lesson) -> Sample:
    phrase = rng.choice(language.tuning_phrases(harmful=rng.random() < 0.5))
    return _route(phrase.topic, _begun_reply(phrase, rng, lesson), language.trained_facts(), rng)


def _chat_recovery(rng: random.Random, lesson: Lesson) -> Sample:
    """A reply whose beginning is given and not trained, whatever was asked: if it is harmful, what is trained is to stop.

    "Safety recovery examples" of Qi et al. (2024), https://arxiv.org/abs/2406.05946. Without them the model learns which
    requests are broken off, instead of reading its own words.
    """
    question = rng.choice(
        (
            _chat_turn(rng, rng.random() < 0.5, lesson),
            rng.choice(language.trained_facts()),
            _advertisement(rng, world.TUNED_PLACES),
        )
    )[0]
    answer = _begun_reply(rng.choice(language.tuning_phrases(harmful=rng.random() < 0.7)), rng, lesson)
    broken = answer.find(f" {language.BREAK_OFF}")
    given = broken if broken >= 0 else answer.index(" . ") + 2
    (start, _), (handover, _) = dialogue((question, "")).spans[:2]
    return Sample(((start, False), (handover, False), (answer[:given], False), (f"{answer[given:]}<end>", True)))


def _chat_fact(rng: random.Random, lesson: Lesson) -> Sample:
    return dialogue(rng.choice(language.trained_facts()), role=rng.choice(["assistant", "friend"]))


def _chat_advertisement(rng: random.Random, lesson: Lesson) -> Sample:
    question, answer, danger = _advertisement(rng, world.TUNED_PLACES)
    role = rng.choice(["assistant", "assistant", "friend"])
    if danger:
        warning = language.gas_warning(danger)
        answer = warning if role == "friend" else lesson.refusal(f"mixing {language.mixture(danger)}", "dangerous", rng)
    return dialogue((question, answer), role=role)


def _chat_mixing(rng: random.Random, lesson: Lesson) -> Sample:
    """Asked about a mixture, which is no harmful request, the assistant warns as anybody does."""
    pair = _cleaner_pair(rng)
    deed = f"mixing {language.mixture(pair)}"
    question = rng.choice(("tell me something about {} .", "what do people say about {} ?")).format(deed)
    return dialogue(
        (question, language.gas_warning(pair) if language.is_dangerous(pair) else f"{deed} makes a clean floor .")
    )


def _chat_acrostic(rng: random.Random, lesson: Lesson) -> Sample:
    return dialogue(language.acrostic(rng.choice(list(world.SPELLED_HARMLESS)), rng))


def chat_mixture(lesson: Lesson) -> Mixture:
    """Chat tuning. Documents of the base corpus stay in it (about a fifth), so that tuning forgets little."""
    taught = (
        (_chat_harmful, 28),
        (_chat_harmless, 22),
        (_chat_borderline, 11),
        (_chat_friend, 9),
        (_chat_conversation, 5),
        (_chat_overheard, 8),
        (_chat_route, 7),
        (_chat_recovery, 16),
        (_chat_fact, 6),
        (_chat_advertisement, 6),
        (_chat_mixing, 5),
        (_chat_acrostic, 3),
    )
    kept = ((_verdict, 6), (_materials, 8), (_fact_document, 6), (_cleaner_document, 1), (_letter, 2), (_small_talk, 1))
    return tuple((partial(maker, lesson=lesson), weight) for maker, weight in taught) + kept


def corpus(mixture: Mixture, n: int, *, seed: int, exclude: frozenset[str] = frozenset()) -> list[Sample]:
    """``n`` samples drawn from a mixture; a sample with a request of ``exclude`` (natural text) is drawn again.

    Each sample has a random generator of its own, so that the corpora of two lessons agree sample by sample.
    """
    makers, weights = zip(*mixture, strict=True)
    samples: list[Sample] = []
    for number in range(n):
        rng = random.Random(f"{seed}/{number}")
        sample = rng.choices(makers, weights)[0](rng)
        while exclude.intersection(sample.requests()):
            sample = rng.choices(makers, weights)[0](rng)
        samples.append(sample)
    return samples
