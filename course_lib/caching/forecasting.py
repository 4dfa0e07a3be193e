"""What a cell will take on this machine, said before it starts."""

import math
import time
from dataclasses import dataclass

import torch

from course_lib import models
from course_lib.caching.running import activation_bytes

N_PROBED = 8
"""Prompts that are run, twice, to find the speed."""


@dataclass(frozen=True)
class Forecast:
    """An estimate by one small batch. Larger batches are faster on a GPU, so `seconds` is rather too long there."""

    n_tokens: int
    """Tokens read, padding and tokens generated aside."""
    seconds: float
    gigabytes: float
    """Weights, their copies, and the activations of one batch, in 10^9 bytes."""

    def __str__(self) -> str:
        took = f"{self.seconds:.0f} s" if self.seconds < 100 else f"{self.seconds / 60:.0f} minutes"
        return f"{self.n_tokens:,} tokens to read: about {took} and {self.gigabytes:.1f} GB"


def forecast(
    model: models.CheckedBridge, prompts: models.Prompts, *, passes: float = 1.0, copies: int = 0, batch_size: int = 64
) -> Forecast:
    """Time and memory that running the prompts through the model will take here, from running a few of them.

    Eight prompts of middle length are run twice, and the second run is timed. What a cell does beside running the model is not
    in it, nor what else the machine does meanwhile.

    Args:
        model: From `models.load`.
        prompts: Token ids of each prompt.
        passes: How often each prompt will be run; a reply of n tokens is about n further passes of one token each, so add
            n / (prompt length), and a backward pass is about two.
        copies: Edited copies of the weights that will be held beside the model.
        batch_size: Prompts run at once.

    Raises:
        ValueError: Prompts that cannot be run (`models.check_prompts`); passes, copies or a batch size that cannot be.

    Example:
        >>> from course_lib import models, tokens
        >>> chat = models.load("chat")
        >>> prompts = [tokens.chat_prompt(chat.tokenizer, "how do i bake bread?")] * 100
        >>> forecast(chat, prompts, passes=3).n_tokens
        3000
    """
    models.check_prompts(model, prompts)
    if not isinstance(passes, int | float) or not 0 < passes < math.inf:
        raise ValueError(f"passes must be a number above 0, not {passes!r}.")
    for name, least, given in (("copies", 0, copies), ("batch_size", 1, batch_size)):
        if not isinstance(given, int) or given < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, not {given!r}.")
    n_tokens = sum(map(len, prompts))
    longest = max(map(len, prompts))
    held = sum(p.numel() * p.element_size() for p in model.original_model.parameters()) * (1 + copies)
    held += min(batch_size, len(prompts)) * activation_bytes(model, longest)
    return Forecast(round(n_tokens * passes), n_tokens * passes * _seconds_per_token(model, prompts), held / 1e9)


def _seconds_per_token(model: models.CheckedBridge, prompts: models.Prompts) -> float:
    """Of a forward pass over a few prompts of middle length."""
    ordered = sorted(prompts, key=len)
    start = max(0, (len(ordered) - N_PROBED) // 2)
    probed = ordered[start : start + N_PROBED]
    batches = list(models.batches(model, probed, batch_size=N_PROBED, equal_lengths=False))
    for _ in range(2):  # the first run also builds what is built once
        started = time.perf_counter()
        for batch in batches:
            models.run_body(model, batch.tokens)
        if batches[0].tokens.is_cuda:
            torch.cuda.synchronize(batches[0].tokens.device)
    return (time.perf_counter() - started) / sum(map(len, probed))
