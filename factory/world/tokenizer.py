"""A closed word-level vocabulary as a fast Hugging Face tokenizer with a chat template.

Each word of the world is one token, so that a position is a word and a figure can be read. A word outside the
vocabulary is split into letters (``zebra`` -> ``z ##e ##b ##r ##a``), never lost; a character outside it becomes
``<unk>``. ``closed_vocabulary`` in the tokenizer's configuration tells ``course_lib.tokens`` to name such words.
"""

import string
from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerFast

from factory.world import corpora, language, vocabulary

SPECIAL = ("<pad>", "<bos>", "<end>", "<unk>", "<human>", "<assistant>", "<friend>")

CHAT_TEMPLATE = (
    "{{ '<bos>' }}"
    "{% for message in messages %}"
    "{{ '<human>' if message['role'] in ['human', 'user'] else '<' + message['role'] + '>' }}"
    "{{ message['content'] }}{{ '<end>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<' + (reply_role | default('assistant')) + '>' }}{% endif %}"
)


def words() -> list[str]:
    """Every word and punctuation mark that the corpora can contain, sorted; found by enumerating, not by sampling."""
    pieces = [
        *language.VARIED_REFUSALS,
        language.BREAK_OFF,
        language.extended_refusal("", ""),
        *language.MODIFIERS,
        *language.OPENINGS,
        *language.ACROSTIC_FRAMES,
        *language.OPEN_ROUTES,
        *language.TOPIC_ROUTES,
        *language.FOLLOW_UPS,
        *vocabulary.PEOPLE,
        *vocabulary.PLACES,
        *vocabulary.CLEANERS,
        *vocabulary.ACROSTIC_WORDS.values(),
        *vocabulary.SPELLED_HARMFUL,
        *vocabulary.SPELLED_HARMLESS,
        *vocabulary.NUMBERS,
    ]
    pieces += [frame.text for frame in language.FRAMES]
    pieces += [text for fact in language.facts() for text in fact]
    every = [p for harmful in (True, False) for p in language.phrases(harmful=harmful)]
    every += [*language.borderline("train"), *language.borderline("test")]
    for phrase in every:
        pieces += [phrase.gerund, language.warning(phrase), language.encouragement(phrase), phrase.topic.outcome]
        pieces += [language.reply(phrase, style) for style in language.REPLIES]
    pieces += [topic.name for topic in vocabulary.TOPICS]
    pieces += [
        sample.text for sample in corpora.corpus(corpora.BASE_MIXTURE, 20_000, seed=0)
    ]  # the templates' fixed words
    text = " ".join(pieces).replace("{}", " ")
    for token in SPECIAL:
        text = text.replace(token, " ")
    return sorted(set(text.split()) - set(language.unknown_words()))


def build() -> PreTrainedTokenizerFast:
    """The tokenizer of the base and chat models and the twins (all widths, seeds and stages share it)."""
    return closed(".,?!:;'\"()-", words(), pre_tokenizers.BertPreTokenizer())


def closed(marks: str, known: Sequence[str], pre_tokenizer: pre_tokenizers.PreTokenizer) -> PreTrainedTokenizerFast:
    """A closed vocabulary: marks, letters, and known words as one token each; other words fall into letters."""
    letters = string.ascii_lowercase + string.digits
    entries = dict.fromkeys([*SPECIAL, *letters, *(f"##{c}" for c in letters), *marks, *known])
    tokenizer = Tokenizer(
        WordPiece({entry: i for i, entry in enumerate(entries)}, unk_token="<unk>", continuing_subword_prefix="##")
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]
    )
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<end>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<human>", "<assistant>", "<friend>"],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=128,
        clean_up_tokenization_spaces=False,
        closed_vocabulary=True,
    )
