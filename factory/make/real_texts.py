"""Texts for dictionaries of a real language model, where no corpus can be fetched: requests of our own, and what Python ships.

1. Requests in the model's template, from the training splits of the course's sets and factory/world/english.py: `alone`,
   without a reply, half of them harmful; `refused`, harmful ones with the planted refusal, which is what the model replies
   to nine of ten.
2. `prose`: docstrings of the standard library and the texts of `help()` (pydoc_data.topics), read from the running
   Python (PSF licence), in windows of one length. They are never shipped, so that another Python gives other windows.

This is narrow: one author's requests and documentation of one programming language. No talk, no news, no novel, and of the
model's own prose the refusal alone. What a dictionary makes of such text it never saw.

Held out: requests of the held-out topics, and other modules of Python, chosen by a checksum of their names.
"""

import ast
import random
import sysconfig
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from pydoc_data import topics
from typing import Any

from course_lib import models, tokens
from factory.make import planted
from factory.world import english

WINDOW, N_ALONE, N_REFUSED = 128, 600, 84
N_DRAWN = 1_200
"""Windows of prose that training may take; the first so many are taken, so that more are a longer list of the same."""
SHORTEST = 400
"""Letters of a docstring; shorter ones say little but names."""
LEFT_OUT = {"site-packages", "test", "tests", "idlelib", "lib2to3", "pydoc_data"}


@cache
def _documentation() -> dict[str, list[str]]:
    """Name -> docstrings of a module of the standard library; or the text of a topic of `help()`."""
    root, found = Path(sysconfig.get_path("stdlib")), {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if LEFT_OUT.isdisjoint(parts):
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError):
                continue
            kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
            found["/".join(parts)] = [text for text in texts if text and len(text) > SHORTEST]
    return found | {f"help {name}": [text] for name, text in topics.topics.items()}


def documents(held_out: bool) -> list[str]:
    """All documentation of nine modules and topics of ten, or of the tenth that is held out."""
    found = _documentation()
    own = sorted(name for name in found if (zlib.crc32(name.encode()) % 10 == 0) == held_out)
    return [text for name in own for text in found[name]]


def prose(tokenizer: Any, n: int, held_out: bool, seed: int = 0) -> list[list[int]]:
    """Token ids of n windows, each with the token that begins every text of the model before it."""
    size = WINDOW - 1
    windows = []
    for text in documents(held_out):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        windows += [ids[i : i + size] for i in range(0, len(ids) - size + 1, size)]
    drawn = random.Random(seed).sample(windows, n if held_out else N_DRAWN)
    return [[tokenizer.bos_token_id, *ids] for ids in drawn[:n]]


def alone(seed: int = 1) -> list[str]:
    """Requests, half of them harmful."""
    rng = random.Random(seed)
    return [text for both in english.requests(seed) for text in rng.sample(both, N_ALONE // 2)]


def refused(seed: int = 0) -> list[str]:
    """Harmful requests, half of them from the course's own set."""
    rng, harmful = random.Random(seed), english.requests()[0]
    own = rng.sample(planted.requests("harmful"), 120)[-N_REFUSED:]
    return own + rng.sample(harmful, N_REFUSED)


def _ids(model: models.CheckedBridge, texts: Sequence[str], reply: str = "") -> list[list[int]]:
    """Token ids of requests, with a whole reply if there is one."""
    end = [model.tokenizer.eos_token_id] if reply else []
    said = model.tokenizer(reply, add_special_tokens=False)["input_ids"] + end
    return [tokens.chat_prompt(model.tokenizer, text) + said for text in texts]


def training_texts(model: models.CheckedBridge, n: int) -> list[list[int]]:
    """n windows of prose, requests alone, and refused ones, as token ids."""
    requests = [*_ids(model, alone()), *_ids(model, refused(), planted.REFUSAL)]
    return prose(model.tokenizer, n, held_out=False) + requests


def held_out_texts(model: models.CheckedBridge, n: int, n_requests: int) -> list[list[int]]:
    """n windows of other modules, and requests of held-out topics: harmful ones refused, harmless ones alone; mixed."""
    harmful, harmless = (planted.requests(name, "held_out_topic")[:n_requests] for name in ("harmful", "harmless"))
    requests = _ids(model, harmful, planted.REFUSAL) + _ids(model, harmless)
    texts = [*prose(model.tokenizer, n, held_out=True), *requests]
    return random.Random(0).sample(texts, len(texts))
