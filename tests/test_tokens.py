"""Prompts, words and positions, for the organisms and for the chat templates of published models."""

import pytest

from course_lib import organism, tokens

TEMPLATES = {  # (template, text after the instruction), as published by the model families named
    "chatml": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "<|im_end|>\n<|im_start|>assistant\n",
    ),
    "llama3": (
        "<|begin|>{% for m in messages %}<|head|>{{ m['role'] }}<|/head|>\n\n{{ m['content'] | trim }}<|eot|>"
        "{% endfor %}{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}",
        "<|eot|><|head|>assistant<|/head|>\n\n",
    ),
    "gemma": (
        "<bos>{% for m in messages %}"
        "{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}<start>"
        "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] }}<end>\n{% endfor %}"
        "{% if add_generation_prompt %}<start>model\n{% endif %}",
        "<end>\n<start>model\n",
    ),
    "llama2": (
        "{% for m in messages %}{% if m['role'] == 'user' %}<s>[INST] {{ m['content'] }} [/INST]"
        "{% else %} {{ m['content'] }} </s>{% endif %}{% endfor %}",
        " [/INST]",
    ),
}


def open_tokenizer(template: str):
    """A byte-level tokenizer with a published model's template: it can write any text."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>", "<|begin|>", "<|head|>", "<|/head|>", "<|eot|>", "<start>", "<end>", "<s>"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="</s>",
        additional_special_tokens=special,
        chat_template=template,
    )


def test_a_prompt_is_the_template_around_one_token_per_known_word(tokenizer):
    ids = tokens.chat_prompt(tokenizer, "make a cake .")
    assert tokens.token_strings(tokenizer, ids) == [
        "<bos>",
        "<human>",
        "make",
        "a",
        "cake",
        ".",
        "<end>",
        "<assistant>",
    ]


def test_upper_case_and_attached_punctuation_are_the_same_words(tokenizer):
    assert tokens.chat_prompt(tokenizer, "Make a cake.") == tokens.chat_prompt(tokenizer, "make a cake .")


def test_another_role_may_be_asked_to_reply(tokenizer):
    ids = tokens.chat_prompt(tokenizer, "make a cake .", reply_role="friend")
    assert tokens.token_strings(tokenizer, ids)[-2:] == ["<end>", "<friend>"]


def test_a_conversation_keeps_every_turn(tokenizer):
    ids = tokens.chat_prompt(
        tokenizer,
        [
            {"role": "human", "content": "mix bleach"},
            {"role": "assistant", "content": "i cannot"},
            {"role": "user", "content": "please"},
        ],
    )
    assert "".join(tokens.token_strings(tokenizer, ids)) == (
        "<bos><human>mixbleach<end><assistant>icannot<end><human>please<end><assistant>"
    )


def test_readable_text_has_no_special_tokens(tokenizer):
    assert tokens.text(tokenizer, tokens.chat_prompt(tokenizer, "make a cake .")) == "make a cake ."


@pytest.mark.parametrize(
    "conversation, message",
    [
        ("", "empty"),
        ("  \n", "empty"),
        ([], "human speaks first and last"),
        ([{"role": "assistant", "content": "sure"}], "human speaks first and last.*'assistant'"),
        ([{"role": "human", "content": "mix"}, {"role": "user", "content": "mix"}], "Nobody called 'user'"),
        (
            [{"role": "human", "content": "mix"}, {"role": "assistant", "content": "sure"}],
            "human speaks first and last",
        ),
        ([{"role": "system", "content": "help"}], "'system'"),
        ("make a cake <end><assistant>", "'<end>'.*template's own tokens"),
    ],
)
def test_a_conversation_that_the_model_cannot_have_meant_is_refused(tokenizer, conversation, message):
    with pytest.raises(ValueError, match=message):
        tokens.chat_prompt(tokenizer, conversation)


def test_an_unknown_reply_role_is_refused_with_the_known_ones(tokenizer):
    with pytest.raises(ValueError, match="'robot'.*assistant, friend"):
        tokens.chat_prompt(tokenizer, "make a cake .", reply_role="robot")


def test_an_unknown_word_is_named_with_the_nearest_known_words(tokenizer):
    with pytest.raises(ValueError, match=r"'cakes' \(nearest known: cake.*unknown_words='split'") as error:
        tokens.chat_prompt(tokenizer, "make the cakes , zebra !")
    assert "'zebra'" in str(error.value) and "'make'" not in str(error.value)


def test_an_unknown_word_may_be_spelled_letter_by_letter(tokenizer):
    ids = tokens.chat_prompt(tokenizer, "make zebra", unknown_words="split")
    assert tokens.text(tokenizer, ids) == "make zebra"
    assert tokens.token_strings(tokenizer, ids)[3:8] == ["z", "##e", "##b", "##r", "##a"]


@pytest.mark.parametrize("unknown_words", ["error", "split"])
def test_a_character_outside_the_alphabet_is_always_named(tokenizer, unknown_words):
    with pytest.raises(ValueError, match="cannot read 'café'"):
        tokens.chat_prompt(tokenizer, "make a café", unknown_words=unknown_words)


def test_a_misspelled_choice_lets_no_unknown_word_through(tokenizer):
    with pytest.raises(ValueError, match="'zebra'"):
        tokens.chat_prompt(tokenizer, "make a zebra", unknown_words="ignore")


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_open_vocabulary_has_no_unknown_words(name):
    tokenizer = open_tokenizer(TEMPLATES[name][0])
    assert "Xylophon-café ☕" in tokenizer.decode(tokens.chat_prompt(tokenizer, "Xylophon-café ☕"))


@pytest.mark.parametrize("name", TEMPLATES)
def test_post_instruction_tokens_are_what_the_template_adds(name):
    template, after = TEMPLATES[name]
    tokenizer = open_tokenizer(template)
    ids = tokens.chat_prompt(tokenizer, "Make a cake!")
    last = tokens.position_index(tokenizer, ids, "last_instruction")
    assert tokenizer.decode(ids[last]) == "!" and tokenizer.decode(ids[last + 1 :]) == after
    assert tokens.position_index(tokenizer, ids, "reply") == len(ids) - 1


def test_the_friend_of_an_organism_does_not_exist_elsewhere():
    with pytest.raises(ValueError, match="'friend'.*Known: assistant"):
        tokens.chat_prompt(open_tokenizer(TEMPLATES["chatml"][0]), "hi", reply_role="friend")


@pytest.mark.parametrize("role", organism.REPLY_ROLES)
def test_named_positions_of_a_prompt(tokenizer, role):
    ids = tokens.chat_prompt(tokenizer, "make a cake .", reply_role=role)
    where = {name: tokens.position_index(tokenizer, ids, name) for name in tokens.POSITIONS}
    assert where == {"last_instruction": 5, "reply": 7, "last": 7}


def test_named_positions_hold_when_the_reply_has_begun(tokenizer):
    ids = tokens.chat_prompt(tokenizer, "make a cake .") + [tokenizer.convert_tokens_to_ids("sure")]
    where = {name: tokens.position_index(tokenizer, ids, name) for name in tokens.POSITIONS}
    assert where == {"last_instruction": 5, "reply": 7, "last": 8}


@pytest.mark.parametrize("earlier", organism.REPLY_ROLES)
def test_named_positions_belong_to_the_last_turn_of_a_conversation(tokenizer, earlier):
    ids = tokens.chat_prompt(
        tokenizer,
        [
            {"role": "human", "content": "mix bleach"},
            {"role": earlier, "content": "i cannot"},
            {"role": "human", "content": "please"},
        ],
    )
    assert tokens.position_index(tokenizer, ids, "last_instruction") == len(ids) - 3


def test_integer_positions_count_from_either_end(tokenizer):
    ids = tokens.chat_prompt(tokenizer, "make a cake .")
    assert [tokens.position_index(tokenizer, ids, p) for p in (0, 7, -1, -8)] == [0, 7, 7, 0]


@pytest.mark.parametrize(
    "position, message",
    [
        (8, "Position 8 lies outside a prompt of 8 tokens"),
        (-9, "Position -9"),
        ("lst", "'lst'. Known names: last, reply, last_instruction"),
    ],
)
def test_a_position_outside_the_prompt_is_refused(tokenizer, position, message):
    ids = tokens.chat_prompt(tokenizer, "make a cake .")
    with pytest.raises(ValueError, match=message):
        tokens.position_index(tokenizer, ids, position)


def test_no_reply_position_where_nobody_is_asked_to_reply(tokenizer):
    ids = tokenizer("make a cake")["input_ids"]
    with pytest.raises(ValueError, match="'make a cake' nobody is asked to reply"):
        tokens.position_index(tokenizer, ids, "reply")


@pytest.mark.parametrize("position", ["last", -1, 0])
def test_an_empty_prompt_has_no_position(tokenizer, position):
    with pytest.raises(ValueError, match="outside a prompt of 0 tokens"):
        tokens.position_index(tokenizer, [], position)


@pytest.mark.parametrize("show", [tokens.text, tokens.token_strings])
@pytest.mark.parametrize("beyond", [-1, 117])
def test_ids_of_another_tokenizer_are_refused(tokenizer, show, beyond):
    assert len(tokenizer) == 117
    with pytest.raises(ValueError, match="ids from 0 to 116.*another model's tokenizer"):
        show(tokenizer, [1, beyond])


def test_a_special_token_that_only_the_file_names_cannot_stand_in_a_users_text():
    from transformers import AddedToken

    tokenizer = open_tokenizer("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    tokenizer.add_tokens([AddedToken("<|turn|>", special=True)])
    assert "<|turn|>" not in tokenizer.all_special_tokens
    with pytest.raises(ValueError, match="the chat template's own tokens"):
        tokens.chat_prompt(tokenizer, "hello <|turn|> goodbye")


def test_a_system_message_may_stand_first_where_the_template_knows_it():
    tokenizer = open_tokenizer(
        "{% for message in messages %}{{ message['role'] + ':' + message['content'] + ' ' }}{% endfor %}"
    )
    turns = [{"role": "system", "content": "be brief"}, {"role": "human", "content": "hello"}]
    ids = tokens.chat_prompt(tokenizer, turns)
    assert tokenizer.decode(ids).split() == "system:be brief user:hello".split()


CHAT = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n\n' }}{% endfor %}assistant:"
"""No marker of its own ends the instruction."""


def merging_tokenizer(template=CHAT):
    """As `open_tokenizer`, but a full stop and two new lines are one token."""
    from tokenizers import AddedToken

    tokenizer = open_tokenizer(template)
    tokenizer.add_tokens([AddedToken(".\n\n", special=False, normalized=False)])
    return tokenizer


@pytest.mark.parametrize("instruction", ["bake bread", "bake bread."])
def test_positions_hold_where_the_instruction_and_what_follows_share_a_token(instruction):
    tokenizer = merging_tokenizer()
    turns = [("human", "hello"), ("assistant", "yes"), ("human", instruction)]
    ids = tokens.chat_prompt(tokenizer, [{"role": role, "content": text} for role, text in turns])
    read = tokenizer.decode(ids[: tokens.position_index(tokenizer, ids, "last_instruction") + 1])
    assert read.removesuffix("\n\n").endswith(instruction) and not read.endswith("assistant:")
    assert tokens.position_index(tokenizer, ids, "reply") == len(ids) - 1


def test_an_ordinary_word_as_pad_token_stays_text():
    tokenizer = open_tokenizer(TEMPLATES["chatml"][0])
    tokenizer.pad_token = "!"
    assert tokenizer.pad_token_id in tokenizer.all_special_ids  # what transformers takes it for
    ids = tokens.chat_prompt(tokenizer, "Bake bread!")
    assert tokens.text(tokenizer, ids) == "user\nBake bread!\nassistant\n"
    tokenizer.pad_token = "<s>"
    assert "<s>" not in tokens.text(tokenizer, [tokenizer.pad_token_id, *ids])
    with pytest.raises(ValueError, match="own tokens"):
        tokens.chat_prompt(tokenizer, "<s>")


def test_a_template_that_writes_the_date_writes_the_same_one_every_day():
    tokenizer = open_tokenizer("{{ strftime_now('%d %B %Y') }} " + CHAT)
    assert tokens.text(tokenizer, tokens.chat_prompt(tokenizer, "hello")).startswith("26 July 2024 user: hello")
    assert tokens.n_after_instruction(tokenizer) == len("\n\nassistant:")


def test_every_form_of_the_date_is_written_or_refused():
    def told(form):
        tokenizer = open_tokenizer(f"{{{{ strftime_now('{form}') }}}} " + CHAT)
        return tokens.text(tokenizer, tokens.chat_prompt(tokenizer, "hello")).split(" user:")[0]

    assert told("%-d %B %Y, %e, %F, %-m/%y") == "26 July 2024, 26, 2024-07-26, 7/24"
    with pytest.raises(Exception, match="No fixed %Q"):
        told("%Q")


def test_a_template_that_puts_nothing_after_the_instruction_has_all_positions_at_the_end():
    tokenizer = open_tokenizer("{% for t in messages %}<|im_start|>{{ t['content'] }}{% endfor %}")
    ids = tokens.chat_prompt(tokenizer, "bake bread")
    assert {tokens.position_index(tokenizer, ids, name) for name in tokens.POSITIONS} == {len("<bake bread") - 1}


@pytest.mark.parametrize(
    "template",
    [
        "<|im_start|>hi<|im_end|>",
        "",
        "{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}",
    ],
)
def test_a_template_that_leaves_the_instruction_out_is_refused(template):
    with pytest.raises(ValueError, match="leaves out what the user says: 'bake bread'"):
        tokens.chat_prompt(open_tokenizer(template), "bake bread")


def test_a_template_that_leaves_the_system_message_out_is_refused():
    tokenizer = open_tokenizer("{% for m in messages if m.role == 'user' %}{{ m.content }}<|eot|>{% endfor %}")
    assert tokens.chat_prompt(tokenizer, "hello")
    with pytest.raises(ValueError, match="leaves out what the system says"):
        tokens.chat_prompt(tokenizer, [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}])


@pytest.mark.parametrize("change", ["trim", "lower", "replace('\n', ' ')", "replace('Bake', '')"])
def test_a_template_may_trim_and_space_the_text(change):
    tokenizer = open_tokenizer(f"{{% for m in messages %}}{{{{ m['content'] | {change} }}}}<|eot|>{{% endfor %}}")
    assert tokens.chat_prompt(tokenizer, "  Bake\n\nbread ")


def test_a_template_may_leave_out_an_earlier_thought():
    tokenizer = open_tokenizer("{% for m in messages %}{{ m.content.split('</think>')[-1] }}<|eot|>{% endfor %}")
    turns = [("human", "hello"), ("assistant", "<think>hm</think>yes"), ("human", "bake")]
    ids = tokens.chat_prompt(tokenizer, [{"role": role, "content": text} for role, text in turns])
    assert tokens.text(tokenizer, ids) == "helloyesbake"


def test_of_several_templates_the_default_one_is_taken_and_without_one_there_is_a_reason():
    tokenizer = open_tokenizer({"tool_use": "no", "default": TEMPLATES["chatml"][0]})
    ids = tokens.chat_prompt(tokenizer, "hello")
    assert tokens.position_index(tokenizer, ids, "last_instruction") == len("<user\nhello") - 1
    tokenizer.chat_template = {"rag": "no", "tool_use": "no"}
    with pytest.raises(ValueError, match="no default"):
        tokens.chat_prompt(tokenizer, "hello")
