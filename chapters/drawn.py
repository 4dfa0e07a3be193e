"""What checks of several chapters share: how large the inputs are that they draw, and what is equal but for its sign."""

import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from course_lib import models
from course_lib.grading import expect
from course_lib.grading.registry import Wrong

MANY = 30
"""More than any notebook shows at once, so that a number of the notebook does not do for the length of an argument."""

WIDE = 80
"""More numbers than a head has, so that the first 64 of a vector do not do for the whole."""


def few_or_many(seed: int, few: int) -> int:
    """Return `few`, and for one of ten seeds MANY."""
    return MANY if seed % 10 == 7 else few


@cache
def other(name: str) -> Any:
    """Return another model than the notebook's, loaded or made once: a name, or "14 blocks of NAME" with random weights."""
    n_layers, made, of = name.rpartition(" blocks of ")
    if not made:
        return models.load(name)
    import transformers  # slow to import

    config = transformers.AutoConfig.from_pretrained(models.weights_folder() / of)
    config.num_hidden_layers, config.initializer_range = int(n_layers), 0.2
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder, models.quiet():
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        other(of).tokenizer.save_pretrained(folder)
        return models.load(folder, device="cpu", checked=False)


def up_to_sign(got: object, truth: Tensor) -> bool:
    """Return whether both agree but for their sign; the truth takes that of the other, with which a message shows it."""
    if isinstance(got, Tensor | list | tuple) and float((torch.as_tensor(got).to(truth) * truth).sum()) < 0:
        truth.neg_()
    return expect.same(got, truth)


def refuse_one_in_a_row(raw: object, name: str) -> None:
    """Refuse one number that still has an axis, where a number is asked for."""
    if isinstance(raw, Tensor) and raw.shape == (1,):
        raise Wrong(f"{name} has shape (1,), a row of one number, where one number is asked for", "take it out: [0].")


def unwatched(answer: Callable[..., Any]) -> Any:
    """Return the learner's function without what the check puts around it, which calls it with copies."""
    return getattr(answer, "__wrapped__", answer)


def refuse_memory(answer: Callable[..., Any], given: Sequence[Any], truth: object) -> None:
    """Refuse a function that errs on an input only because of what earlier calls left in a default value of its first line."""
    function = unwatched(answer)
    defaults = function.__defaults__ or ()
    kept = [isinstance(each, list | dict | set) for each in defaults]
    if not any(kept) or expect.same(answer(*given), truth):
        return
    empty = tuple(type(each)() if own else each for each, own in zip(defaults, kept, strict=True))
    fresh = FunctionType(function.__code__, function.__globals__, argdefs=empty, closure=function.__closure__)
    if expect.same(fresh(*given), truth):
        names = function.__code__.co_varnames[: function.__code__.co_argcount][-len(kept) :]
        name = names[kept.index(True)]
        what = (
            f"your function keeps what earlier calls put into `{name}`: a default value is made once, not for each call"
        )
        raise Wrong(what, "make it within the function, not in its first line.")
