"""Text to token ids and back, chat templates, and the named positions of a prompt.

1. `chat_prompt` renders an instruction with the model's own chat template and returns the token ids up to the
   point where the reply begins. Every error that would silently change the experiment is raised here: wrong
   roles, empty text, words that the model never saw.
2. Positions have names. Arditi et al. (2024, https://arxiv.org/abs/2406.11717, section 2.3) read the residual
   stream at the *post-instruction tokens*: what the template puts after the instruction (`post_instruction`).
   Zhao et al. (2025, https://arxiv.org/abs/2507.11878) compare them with the *last instruction token*. Both
   are found by asking the template, so they hold for any chat model (`position_index`).
"""

from __future__ import annotations

import difflib
import os.path
from collections.abc import Mapping, Sequence
from functools import lru_cache
from numbers import Integral
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase as Tokenizer

POSITIONS = ("last", "reply", "last_instruction")
"""Names that `position_index` knows: the last token; the token after which the reply begins; the last token
of the instruction's own text. In a prompt without a reply, "last" and "reply" are the same token."""

TEMPLATE_OPTIONS = {"enable_thinking": False, "date_string": "26 Jul 2024"}
"""What templates of published models are told, and others ignore: a model that can think aloud answers at once (Qwen 3), and a
date in the prompt is not today's, which would make every harvest a day's own (Llama 3.1 and 3.2)."""

REPLY_ROLES = ("assistant", "friend")
"""Roles that may answer. "friend" is the organisms' non-assistant role; published models know "assistant"."""


def chat_prompt(
    tokenizer: Tokenizer,
    instruction: str | Sequence[Mapping[str, str]],
    *,
    reply_role: str = "assistant",
    unknown_words: Literal["error", "split"] = "error",
) -> list[int]:
    """Token ids of the instruction in the model's chat template, up to where the reply begins.

    Args:
        tokenizer: The model's tokenizer, `model.tokenizer`.
        instruction: What the human says; or a whole conversation, `[{"role": "human", "content": ...}, ...]`,
            in which human and assistant take turns and the human speaks first and last. No system prompt is
            added.
        reply_role: Who answers. Organisms also know "friend".
        unknown_words: The organisms know a closed list of words and spell every other word letter by letter,
            which is far from anything they were trained on. "error" names such words, "split" lets them
            through.

    Raises:
        ValueError: Empty text, a role out of turn or unknown, template tokens inside the text, a word or a
            character that the model does not know, or a tokenizer without a chat template.
    """
    if unknown_words not in ("error", "split"):
        raise ValueError(f"unknown_words is 'error' or 'split', not {unknown_words!r}.")
    _check_reply_role(tokenizer, reply_role)
    messages = _messages(tokenizer, instruction)
    for message in messages:
        _check_text(tokenizer, message["content"], unknown_words)
    return _ids(tokenizer, _render(tokenizer, messages, reply_role))


def text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The ids as readable text. Special tokens, and ids that stand for nothing, are left out; `token_strings` shows them.

    Raises:
        ValueError: Something else than ids of this tokenizer.
    """
    _check_ids(tokenizer, ids)
    return tokenizer.decode([token_id for token_id in ids if token_id < len(tokenizer)], skip_special_tokens=True)


def token_strings(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """One string per id, special tokens included: labels for a figure's axis, not text to be joined again.

    Published models often have more rows in their output than their tokenizer has tokens: such an id is "<unused 151700>".

    Raises:
        ValueError: Something else than ids of this tokenizer.
    """
    _check_ids(tokenizer, ids)
    known = len(tokenizer)
    return [tokenizer.decode([token_id]) if token_id < known else f"<unused {token_id}>" for token_id in ids]


def post_instruction(tokenizer: Tokenizer, *, reply_role: str = "assistant") -> tuple[int, ...]:
    """Positions of all template tokens after the instruction, as negative indices: (-2, -1) for an organism.

    The candidate positions of Arditi et al. (section 2.3); five tokens for Qwen, Gemma and Llama 3.
    """
    _check_reply_role(tokenizer, reply_role)
    return tuple(range(-len(_post_instruction_ids(tokenizer, tokenizer.chat_template, reply_role)), 0))


def position_index(tokenizer: Tokenizer, ids: Sequence[int], position: int | str) -> int:
    """Index into `ids`, counted from 0, of a named or (negative) integer position.

    "reply" and "last_instruction" look for the last place where the template hands over to the reply, so they
    also hold in a conversation, and in a prompt that already contains the beginning of the reply.

    Raises:
        ValueError: An unknown name, an integer outside the prompt, or ids in which nobody is asked to reply.
    """
    if isinstance(position, str):
        return _named_index(tokenizer, ids, position)
    if not isinstance(position, Integral) or isinstance(position, bool):
        raise ValueError(f"A position is one of {', '.join(POSITIONS)} or an integer, not {position!r}.")
    if not -len(ids) <= position < len(ids):
        raise ValueError(
            f"Position {position} lies outside a prompt of {len(ids)} tokens (allowed: {-len(ids)} to {len(ids) - 1})."
        )
    return position % len(ids)


def _named_index(tokenizer: Tokenizer, ids: Sequence[int], name: str) -> int:
    if name not in POSITIONS:
        near = difflib.get_close_matches(name, POSITIONS, n=1)
        raise ValueError(
            f"Unknown position {name!r}{f', did you mean {near[0]!r}' if near else ''}? "
            f"Known names: {', '.join(POSITIONS)}; or give an integer."
        )
    if len(ids) == 0:
        raise ValueError("An empty prompt has no positions.")
    if name == "last":
        return len(ids) - 1
    start, length = _handover(tokenizer, list(ids))
    return start - 1 if name == "last_instruction" else start + length - 1


def _handover(tokenizer: Tokenizer, ids: list[int]) -> tuple[int, int]:
    """Start and length of the last run of post-instruction tokens in the ids, whoever is asked to reply."""
    found = []
    for role in REPLY_ROLES:
        after = list(_post_instruction_ids(tokenizer, tokenizer.chat_template, role))
        starts = [i for i in range(1, len(ids) - len(after) + 1) if ids[i : i + len(after)] == after]
        found += [(starts[-1], len(after))] if starts else []
    if not found:
        raise ValueError(
            f"In {text(tokenizer, ids)!r} nobody is asked to reply: the tokens that the chat "
            "template puts after an instruction do not occur. Build the prompt with "
            "tokens.chat_prompt, or give the position as an integer."
        )
    return max(found)


@lru_cache(maxsize=32)
def _post_instruction_ids(tokenizer: Tokenizer, chat_template: str, reply_role: str) -> tuple[int, ...]:
    """What two renderings that differ only in the instruction have in common at their end, as token ids."""
    one, other = (_render(tokenizer, [{"role": "user", "content": letter}], reply_role) for letter in "ab")
    shared = len(os.path.commonprefix([one[::-1], other[::-1]]))
    encoded = tokenizer(one, add_special_tokens=False, return_offsets_mapping=True)
    spans = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return tuple(token_id for token_id, (start, _) in spans if start >= len(one) - shared)


def _check_ids(tokenizer: Tokenizer, ids: Sequence[int]) -> None:
    there = getattr(tokenizer, "n_ids", len(tokenizer))  # what its model can put out, as `models.load` says
    if any(not isinstance(token_id, Integral) or not 0 <= token_id < there for token_id in ids):
        raise ValueError(
            f"Expected ids from 0 to {there - 1} of one prompt or reply, got {ids!r}. Were they made with another "
            "model's tokenizer?"
        )


def _ids(tokenizer: Tokenizer, content: str) -> list[int]:
    return tokenizer(content, add_special_tokens=False)["input_ids"]


def _render(tokenizer: Tokenizer, messages: list[dict[str, str]], reply_role: str) -> str:
    """The conversation as the model will read it, up to where the reply begins."""
    if not tokenizer.chat_template:
        raise ValueError(
            "This tokenizer has no chat template, so its model is not a chat model. Load a chat "
            "model, or encode plain text with tokenizer(text)['input_ids']."
        )
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, reply_role=reply_role, **TEMPLATE_OPTIONS
    )


def _check_reply_role(tokenizer: Tokenizer, reply_role: str) -> None:
    """Only the organisms' template reads `reply_role`; any other would ignore a "friend" in silence."""
    special = tokenizer.all_special_tokens
    known = [role for role in REPLY_ROLES if role == "assistant" or f"<{role}>" in special]
    if reply_role not in known:
        raise ValueError(f"Nobody called {reply_role!r} can reply in this chat template. Known: {', '.join(known)}.")


def _messages(tokenizer: Tokenizer, instruction: str | Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The conversation as chat-template messages, after checking that the roles take turns."""
    turns = [{"role": "human", "content": instruction}] if isinstance(instruction, str) else instruction
    if not isinstance(turns, Sequence) or not all(isinstance(turn, Mapping) for turn in turns):
        raise ValueError(
            f"Expected an instruction as text, or a list of messages with 'role' and 'content'; got {instruction!r}."
        )
    if not turns:
        raise ValueError("The conversation is empty. Give an instruction, or at least one message of the human.")
    messages = []
    for number, turn in enumerate(turns, start=1):
        if set(turn) != {"role", "content"}:
            raise ValueError(f"Message {number} needs exactly the keys 'role' and 'content', it has {sorted(turn)}.")
        role = "user" if turn["role"] in ("human", "user") else turn["role"]
        if role != "user":
            _check_reply_role(tokenizer, role)
        if (role == "user") != (number % 2 == 1):
            expected = "human" if number % 2 else "assistant"
            raise ValueError(
                f"Message {number} is by {turn['role']!r}, but it is the turn of {expected!r}: "
                "the human speaks first, then human and assistant alternate."
            )
        messages.append({"role": role, "content": turn["content"]})
    if len(messages) % 2 == 0:
        raise ValueError(
            f"The last message is by {turns[-1]['role']!r}. A prompt ends with the human's "
            "turn; append the ids of a reply that has begun to the prompt yourself."
        )
    return messages


def _check_text(tokenizer: Tokenizer, content: str, unknown_words: str) -> None:
    if not isinstance(content, str):
        raise ValueError(f"The content of a message is text, not {content!r}.")
    if not content.strip():
        raise ValueError("The instruction is empty. Write at least one word.")
    smuggled = [token for token in tokenizer.all_special_tokens if token in content]
    if smuggled:
        raise ValueError(
            f"The text contains {', '.join(map(repr, smuggled))}, which the tokenizer would "
            "read as the chat template's own tokens. Remove them, or pass a conversation as "
            "messages."
        )
    if tokenizer.init_kwargs.get("closed_vocabulary", False):
        _check_vocabulary(tokenizer, content, unknown_words)


def _check_vocabulary(tokenizer: Tokenizer, content: str, unknown_words: str) -> None:
    """Always refuse characters that become <unk>; refuse spelled words unless the caller allows them."""
    encoded = tokenizer(content, add_special_tokens=False, return_offsets_mapping=True)
    pieces: dict[int, list[tuple[int, int, int]]] = {}
    for token_id, word, (start, end) in zip(
        encoded["input_ids"], encoded.word_ids(), encoded["offset_mapping"], strict=True
    ):
        pieces.setdefault(word, []).append((token_id, start, end))
    spelled = []
    for parts in pieces.values():
        word = content[parts[0][1] : parts[-1][2]]
        if any(token_id == tokenizer.unk_token_id for token_id, _, _ in parts):
            unknown = [letter for letter in word if tokenizer.unk_token_id in _ids(tokenizer, letter)]
            raise ValueError(
                "This model cannot read "
                f"{', '.join(map(repr, dict.fromkeys(unknown or [word])))} in {word!r}. Use the "
                "letters a to z, digits and plain punctuation."
            )
        if len(parts) > 1:
            spelled.append(word.lower())
    if spelled and unknown_words == "error":
        raise ValueError(_unknown_words_message(tokenizer, list(dict.fromkeys(spelled))))


def _unknown_words_message(tokenizer: Tokenizer, spelled: list[str]) -> str:
    vocabulary = sorted(entry for entry in tokenizer.get_vocab() if entry.isalpha() and len(entry) > 1)
    hints = []
    for word in spelled:
        near = difflib.get_close_matches(word, vocabulary, n=3, cutoff=0.5)
        hints.append(f"{word!r} (nearest known: {', '.join(near) if near else 'none'})")
    return (
        f"This model has never seen {'; '.join(hints)}. Use known words, or pass unknown_words='split' "
        "to have them spelled letter by letter; expect odd answers then."
    )
