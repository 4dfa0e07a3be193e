"""Text to token ids and back, chat templates, and the named positions of a prompt.

1. `chat_prompt` renders an instruction with the model's own chat template and returns the token ids up to the point
   where the reply begins. What would silently change the experiment is an error here: roles out of turn, the
   template's own tokens inside the text, words that the model never saw.
2. Positions have names. Arditi et al. (2024, https://arxiv.org/abs/2406.11717, section 2.3) read the residual stream
   at the *post-instruction tokens*: what the template puts after the instruction. Zhao et al. (2025,
   https://arxiv.org/abs/2507.11878) compare them with the *last instruction token*. Both are found by rendering the
   template, so they hold for any chat model (`position_index`).
"""

from __future__ import annotations

import datetime
import difflib
import os.path
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from course_lib import organism

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

POSITIONS = ("last", "reply", "last_instruction")
"""Names that `position_index` knows: the last token; the token after which the reply begins; the last token of the
instruction's own text. In a prompt without a reply, "last" and "reply" are the same token."""

DATE = datetime.datetime(2024, 7, 26)
"""What chat templates take for today: the real date would make every prompt a new one each day."""
TEMPLATE_OPTIONS: dict[str, Any] = {"enable_thinking": False, "date_string": f"{DATE:%d %b %Y}"}
"""Passed to every chat template; most ignore them. Qwen 3 then replies without thinking aloud, and Llama 3.1 and 3.2
write this date."""
_CODES = {f"%{code}": DATE.strftime(f"%{code}") for code in "aAbBcCdDeFgGhHIjmMpRStTuUVwWxXyY"}
_CODES |= {f"%-{code}": _CODES[f"%{code}"].lstrip("0") or "0" for code in "dHIjmMSy"}
_FILLED = "".join(f"|replace('{code}', '{value}')" for code, value in _CODES.items())
_DATED = f"{{% set date = format{_FILLED} %}}{{% if '%' in date %}}{{{{ raise_exception('No fixed ' ~ format) }}}}"
FIXED_DATE = f"{{% macro strftime_now(format) %}}{_DATED}{{% endif %}}{{{{ date }}}}{{% endmacro %}}{{{{ '' }}}}"
"""Put before a template that asks for today's date itself (Llama 3.2, GPT-OSS, SmolLM3): transformers hands it no function."""


def chat_prompt(
    tokenizer: Tokenizer,
    instruction: str | Sequence[Mapping[str, str]],
    *,
    reply_role: str = "assistant",
    unknown_words: Literal["error", "split"] = "error",
) -> list[int]:
    """Return the token ids of the instruction in the model's chat template, up to where the reply begins.

    Args:
        tokenizer: The model's tokenizer, `model.tokenizer`.
        instruction: What the human says; or a whole conversation, `[{"role": "human", "content": ...}, ...]`, in which
            human and assistant take turns and the human speaks first and last; a system message may stand before. None is
            added here, but a model's template may write one of its own (SmolLM2's does).
        reply_role: Who replies. Organisms also know "friend".
        unknown_words: The organisms know a closed list of words and spell every other word letter by letter, which is
            far from anything they were trained on. "error" names such words, "split" lets them through.

    Raises:
        ValueError: Empty text, a role out of turn or unknown, template tokens inside the text, a word or a character
            that the model does not know, a tokenizer without a chat template, or one that leaves the text out.
    """
    turns = [{"role": "human", "content": instruction}] if isinstance(instruction, str) else instruction
    messages = [{**turn, "role": "user" if turn["role"] == "human" else turn["role"]} for turn in turns]
    _check_roles(tokenizer, [message["role"] for message in messages], reply_role)
    for message in messages:
        _check_text(tokenizer, message["content"], unknown_words)
    rendered = _render(tokenizer, messages, reply_role)
    for n, message in enumerate(messages):  # the template may trim it, or drop a thought, but not do without it
        other = [*messages[:n], {**message, "content": message["content"] + "x"}, *messages[n + 1 :]]
        if message["content"].strip() not in rendered and _render(tokenizer, other, reply_role) == rendered:
            raise ValueError(f"The chat template leaves out what the {message['role']} says: {message['content']!r}.")
    return tokenizer(rendered, add_special_tokens=False)["input_ids"]


def text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Return the ids as readable text, without special and unused tokens; `token_strings` shows them.

    Raises:
        ValueError: An id that this tokenizer's model does not have.
    """
    _check_ids(tokenizer, ids)
    left_out = special_ids(tokenizer)
    return str(tokenizer.decode([token for token in map(int, ids) if token < len(tokenizer) and token not in left_out]))


def special_ids(tokenizer: Tokenizer) -> set[int]:
    """Return the ids of the tokens that are not text: those of the template, and the pad token if it is no ordinary word."""
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    own = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}
    ordinary = {tokenizer.pad_token_id} if str(tokenizer.pad_token)[:1] not in "<[" else set()
    return {*added, *tokenizer.all_special_ids} - (ordinary - own)


def token_strings(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Return one string per id, special tokens included: labels for a figure's axis, not text to be joined again.

    Published models often have more output rows than their tokenizer has tokens: such an id is "<unused 151700>".

    Raises:
        ValueError: An id that this tokenizer's model does not have.
    """
    _check_ids(tokenizer, ids)
    known = len(tokenizer)
    return [str(tokenizer.decode([token_id])) if token_id < known else f"<unused {token_id}>" for token_id in ids]


def position_index(tokenizer: Tokenizer, ids: Sequence[int], position: int | str) -> int:
    """Return the index into `ids`, counted from 0, of a named or (negative) integer position.

    "reply" and "last_instruction" are those of the last turn of a conversation, and also hold in a prompt that
    already contains the beginning of the reply (not if the template puts nothing after the instruction).

    Raises:
        ValueError: An unknown name, an integer outside the prompt, or ids in which nobody is asked to reply.
    """
    if position == "last":
        position = -1
    if isinstance(position, str):
        return _template_index(tokenizer, list(ids), position)
    if not -len(ids) <= position < len(ids):
        raise ValueError(f"Position {position} lies outside a prompt of {len(ids)} tokens.")
    return position % len(ids)


def _template_index(tokenizer: Tokenizer, ids: list[int], name: str) -> int:
    """Find the last run of post-instruction tokens in the ids, whoever is asked to reply."""
    if name not in POSITIONS:
        raise ValueError(f"Unknown position {name!r}. Known names: {', '.join(POSITIONS)}; or give an integer.")
    found = []
    for role in organism.REPLY_ROLES:
        after = list(_post_instruction_ids(tokenizer, tokenizer.get_chat_template(), role))
        found += [ends for i in range(1, len(ids) + 1) if (ends := _ends(tokenizer, ids, i, after))]
    if not found:
        what = f"In {text(tokenizer, ids)!r} nobody is asked to reply"
        raise ValueError(f"{what}: build the prompt with tokens.chat_prompt, or give an integer.")
    reply, last_instruction = max(found)
    return last_instruction if name == "last_instruction" else reply


def _ends(tokenizer: Tokenizer, ids: list[int], i: int, after: list[int]) -> tuple[int, int] | None:
    """Return where post-instruction tokens that begin at i end, and the instruction's last token; None if there are none.

    Where a template has no token of its own for it, the instruction's end and the first of them may be one: ".\n\n".
    """
    if ids[i : i + len(after)] == after:
        return i + len(after) - 1, i - 1
    for k in range(1, len(after)):
        if ids[i + 1 : i + 1 + len(after) - k] == after[k:]:
            shared, own = (str(tokenizer.decode(part)) for part in (after[:k], [ids[i]]))
            if shared and own.endswith(shared):
                return i + len(after) - k, i
    return None


def n_after_instruction(tokenizer: Tokenizer) -> int:
    """Return how many tokens the chat template puts after the instruction, up to where the reply begins."""
    return len(_post_instruction_ids(tokenizer, tokenizer.get_chat_template(), "assistant"))


@lru_cache(maxsize=32)
def _post_instruction_ids(tokenizer: Tokenizer, chat_template: str, reply_role: str) -> tuple[int, ...]:
    """Return the ids of what two renderings that differ only in the instruction have in common at their end.

    The template is an argument only for the cache: a tokenizer may be given another one.
    """
    one, other = (_render(tokenizer, [{"role": "user", "content": letter}], reply_role) for letter in "ab")
    shared = len(os.path.commonprefix([one[::-1], other[::-1]]))
    encoded = tokenizer(one, add_special_tokens=False, return_offsets_mapping=True)
    spans = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return tuple(token_id for token_id, (start, _) in spans if start >= len(one) - shared)


def _render(tokenizer: Tokenizer, messages: list[dict[str, str]], reply_role: str) -> str:
    """Return the conversation as the model will read it, up to where the reply begins."""
    template = tokenizer.get_chat_template()
    options = TEMPLATE_OPTIONS | {"reply_role": reply_role, "add_generation_prompt": True}
    if "strftime_now" in template:
        options["chat_template"] = FIXED_DATE + template
    return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))


def _check_ids(tokenizer: Tokenizer, ids: Sequence[int]) -> None:
    n_ids = getattr(tokenizer, "n_ids", len(tokenizer))  # rows of the model's output, set by `models.load`
    if not all(0 <= token_id < n_ids for token_id in ids):
        raise ValueError(f"Expected ids from 0 to {n_ids - 1}, got {ids!r}. Are they of another model's tokenizer?")


def _check_roles(tokenizer: Tokenizer, roles: list[str], reply_role: str) -> None:
    if roles[:1] == ["system"] and not tokenizer.init_kwargs.get("closed_vocabulary", False):  # organisms know none
        roles = roles[1:]
    special = tokenizer.all_special_tokens
    known = [role for role in organism.REPLY_ROLES if role == "assistant" or f"<{role}>" in special]
    for role in (reply_role, *roles[1::2]):
        if role not in known:  # other templates than the organisms' would ignore a "friend" in silence
            raise ValueError(f"Nobody called {role!r} can reply in this chat template. Known: {', '.join(known)}.")
    if len(roles) % 2 == 0 or set(roles[::2]) != {"user"}:
        raise ValueError(f"The human speaks first and last, and every other message is a reply; the roles are {roles}.")


def _check_text(tokenizer: Tokenizer, content: str, unknown_words: str) -> None:
    if not content.strip():
        raise ValueError("The instruction is empty.")
    special = tokenizer.convert_ids_to_tokens(sorted(special_ids(tokenizer)))
    smuggled = [token for token in sorted(special) if token in content]
    if smuggled:
        raise ValueError(f"The text contains {smuggled}, which would be read as the chat template's own tokens.")
    if not tokenizer.init_kwargs.get("closed_vocabulary", False):
        return
    encoded = tokenizer(content, add_special_tokens=False)
    pieces = Counter(encoded.word_ids())
    words = {number: content[slice(*encoded.word_to_chars(number))] for number in pieces}
    for token_id, number in zip(encoded["input_ids"], encoded.word_ids(), strict=True):
        if token_id == tokenizer.unk_token_id:
            raise ValueError(f"This model cannot read {words[number]!r}. Use a to z, digits and plain punctuation.")
    spelled = [words[number].lower() for number, count in pieces.items() if count > 1]
    if spelled and unknown_words != "split":
        raise ValueError(_unknown_words_message(tokenizer, list(dict.fromkeys(spelled))))


def _unknown_words_message(tokenizer: Tokenizer, spelled: list[str]) -> str:
    vocabulary = sorted(entry for entry in tokenizer.get_vocab() if entry.isalpha() and len(entry) > 1)
    near = {word: difflib.get_close_matches(word, vocabulary, n=3, cutoff=0.5) for word in spelled}
    hints = [f"{word!r} (nearest known: {', '.join(found) or 'none'})" for word, found in near.items()]
    return (
        f"This model has never seen {'; '.join(hints)}. Use known words, or pass unknown_words='split' "
        "to have them spelled letter by letter; expect odd answers then."
    )
