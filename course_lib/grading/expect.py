"""Small questions that a check asks of an answer; each raises `Wrong` with a message that names the mistake.

A check reads best in this order: is it the right kind of thing (`tensor`, `number`, `judge`), is it one of
the mistakes people make here (`differs_from`), is it right (`close`).
"""

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_lib.grading.registry import Off, Wrong

OTHER = 7919
"""How far the seeds of the second inputs lie from those of the first."""
_shift = 0


def random(*shape: int, seed: int = 0) -> Tensor:
    """Return seeded numbers on which a learner's function is tried."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + _shift))


@contextlib.contextmanager
def other_inputs() -> Iterator[None]:
    """Let `random` draw other numbers from the same seeds, so that a check can be asked twice."""
    global _shift
    _shift = OTHER
    try:
        yield
    finally:
        _shift = 0


def kind(wrong: Wrong) -> str:
    """Return what is wrong without the numbers in it: two refusals of one kind name the same mistake."""
    return re.sub(r"-?\d[\d.e+-]*", "", str(wrong))


def plain(answer: Any) -> Any:
    """Return the same value in torch's and Python's own kinds: numpy's, float64 and truth values in tensors are as right."""
    if type(answer) in (list, tuple):
        return type(answer)(map(plain, answer))
    if type(answer) is dict:
        return {key: plain(value) for key, value in answer.items()}
    if isinstance(answer, np.generic):
        return answer.item()
    if isinstance(answer, Fraction | Decimal):
        return float(answer)
    if isinstance(answer, np.ndarray) and answer.dtype.kind in "fiub":
        answer = torch.from_numpy(answer.copy())
    if isinstance(answer, Tensor):
        answer = answer.float() if answer.dtype == torch.float64 else answer
        return answer.item() if answer.ndim == 0 and not answer.dtype.is_floating_point else answer
    return answer


def flag(answer: Any, *, try_next: str) -> bool:
    """Return the answer as True or False; 1 and 0 are as good.

    Raises:
        Wrong: anything else, with `try_next`.
    """
    if not isinstance(answer, bool | int) or answer not in (0, 1):
        raise Wrong(f"it gives {answer!r}, not True or False", try_next)
    return bool(answer)


def describe(answer: Any) -> str:
    """Return a few words on what kind of thing an answer is: "a Tensor of shape (4, 8)"."""
    if isinstance(answer, FunctionType):
        return "a function"
    if isinstance(answer, Tensor):
        return f"a Tensor of shape {tuple(answer.shape)}"
    kind = f"model of width {answer.cfg.d_model}" if hasattr(answer, "hook_points") else type(answer).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def tensor(answer: Any, *, like: Tensor, axes: str, name: str = "your answer") -> Tensor:
    """Return the answer if it is a finite tensor of the shape of `like`.

    Args:
        answer: what the learner gave.
        like: a tensor of the right shape.
        axes: names of its axes, such as "layer d_model"; "" for a single number.
        name: what messages call the answer.

    Raises:
        Wrong: no tensor, another shape (a transposed or surplus axis is named), NaN or infinite entries.
    """
    if isinstance(answer, list | tuple) and answer and all(isinstance(part, int | float) for part in answer):
        answer = torch.tensor(answer, dtype=like.dtype)
    if not isinstance(answer, Tensor):
        raise Wrong(f"{name} is {describe(answer)}, not a tensor", "keep to torch operations, or use torch.tensor().")
    if answer.shape != like.shape:
        wanted = f"{tuple(like.shape)}" + (f" ({axes})" if axes else "")
        what = f"{name} has shape {tuple(answer.shape)} where {wanted} is asked for"
        raise Wrong(what, _shape_tip(answer, like, axes))
    bad = int((~torch.isfinite(answer)).sum())
    if bad:
        what = f"{name} has NaN or infinite values in {bad} of {answer.numel()} places"
        raise Wrong(what, "look for a division by 0.")
    return answer


def number(answer: Any, *, low: float = -math.inf, high: float = math.inf, name: str = "your answer") -> float:
    """Return the answer as a float if it is one finite number within [low, high].

    Raises:
        Wrong: no number (True and False are none), several numbers, NaN or infinite, outside the bounds.
    """
    if isinstance(answer, bool | str) or not hasattr(answer, "__float__"):
        raise Wrong(f"{name} is {describe(answer)}, not a number", "give one number, such as 0.25.")
    if getattr(answer, "shape", ()) not in ((), (1,)):
        raise Wrong(f"{name} is {describe(answer)}, not one number", "reduce it to one, for example by a mean.")
    value = float(answer.detach() if isinstance(answer, Tensor) else answer)
    if not math.isfinite(value):
        raise Wrong(f"{name} is {value}", "look for a division by 0 or the mean of an empty set.")
    if not low <= value <= high:
        what = f"{name} is {value:.4g}, outside the possible range {low:g} to {high:g}"
        raise Wrong(what, "60 % is 0.6." if high == 1 < value <= 100 else "check the unit and the sign.")
    return value


def judge(
    answer: Callable[[str], Any], replies: Sequence[tuple[str, bool, str]], *, swapped: str, try_next: str
) -> None:
    """Refuse a function that does not judge every reply as it should: True or False.

    Args:
        answer: the learner's function of a reply.
        replies: each reply, its verdict, and what a judge that errs on it has overlooked.
        swapped: what to try if all verdicts are the wrong way round.
        try_next: what to try otherwise.

    Raises:
        Wrong: the first reply that is judged wrongly is named.
    """
    verdicts = [flag(answer(text), try_next='`"some words" in reply` is True or False.') for text, _, _ in replies]
    if all(verdict != truth for verdict, (_, truth, _) in zip(verdicts, replies, strict=True)):
        raise Wrong("True and False are swapped", swapped)
    if len(set(verdicts)) == 1:
        raise Wrong(f"it gives {verdicts[0]} for every reply", try_next)
    for verdict, (text, truth, overlooked) in zip(verdicts, replies, strict=True):
        if verdict != truth:
            raise Wrong(overlooked, try_next, where=f"reply {text!r}")


def differs_from(answer: Any, mistake: Any, what: str, try_next: str, *, tolerance: float = 1e-4) -> None:
    """Refuse an answer that equals the result of a known mistake: raise Wrong(what, try_next)."""
    if _distance(answer, mistake) <= tolerance * (1 + _size(mistake)):
        raise Wrong(what, try_next)


def close(answer: Any, truth: Any, *, name: str = "your answer", try_next: str = "", tolerance: float = 1e-4) -> None:
    """Refuse an answer that is off by more than `tolerance` times (1 + the largest entry of the truth).

    Raises:
        Off: with the size of the difference and the place where it is largest.
    """
    difference = _distance(answer, truth)
    if difference <= tolerance * (1 + _size(truth)):
        return
    place, one, other = _farthest(answer, truth)
    tip = try_next or "work a tiny example by hand, and compare step by step."
    where = f"{f'at index {place} ' if place else ''}it gives {one:.4g}, and {other:.4g} is right"
    raise Off(f"{name} is off by up to {difference:.3g}", tip, where=where)


def same(got: Any, truth: Any) -> bool:
    """Return whether two results agree: numbers and tensors within 1e-4 of (1 + the largest), all else exactly."""
    if isinstance(truth, dict):
        return isinstance(got, dict) and got.keys() == truth.keys() and all(same(got[key], truth[key]) for key in truth)
    if isinstance(truth, list | tuple):
        return len(got) == len(truth) and all(map(same, got, truth))
    if isinstance(truth, Tensor | int | float):
        return _distance(got, truth) <= 1e-4 * (1 + _size(truth))
    return bool(got == truth)


def compared(got: Any, truth: Any) -> str:
    """Return both results in few words; where these would be the same words, the first place at which they differ."""
    if shown(got) != shown(truth) and (not isinstance(truth, Tensor) or truth.numel() <= 12):
        return f"it gives {shown(got)}, and {shown(truth)} is right"
    if isinstance(truth, list | tuple) and len(got) == len(truth):
        at = next(n for n, pair in enumerate(zip(got, truth, strict=True)) if not same(*pair))
        return f"at index {at} {compared(got[at], truth[at])}"
    if isinstance(truth, Tensor) and torch.as_tensor(got).shape == truth.shape:
        place, one, other = _farthest(got, truth)
        return f"{f'at index {place} ' if place else ''}it gives {one:.6g}, and {other:.6g} is right"
    return f"it gives {shown(got)}, and right is {shown(truth)}, which is not equal to it"


def shown(value: Any) -> str:
    """Return a value in few words: short ones as they are, numbers rounded, others by their kind."""
    short = value.numel() <= 12 if isinstance(value, Tensor) else isinstance(value, type) or not callable(value)
    if not short and not dataclasses.is_dataclass(value):
        return describe(value)
    if isinstance(value, Tensor):
        digits = value.detach().cpu().double().round(decimals=6)  # what is smaller hangs on the processor's rounding
        value = (digits.apply_(lambda x: float(f"{x:.4g}") + 0.0) if value.is_floating_point() else value).tolist()
    said: Any = "{:.6g}".format if isinstance(value, float) else str if dataclasses.is_dataclass(value) else repr
    text = said(value)
    if len(text) > 120 and isinstance(value, str | list | tuple | dict):
        return f"{text[:110]} ..."
    return text if len(text) <= 120 else describe(value)


def _farthest(answer: Any, truth: Any) -> tuple[list[int], float, float]:
    """Return the index at which two results of one shape differ most, and their entries there."""
    one, other = (torch.as_tensor(each).detach().double() for each in (answer, truth))
    gap = (one - other).abs()
    place = [int(i) for i in torch.unravel_index(gap.argmax(), gap.shape)] if gap.ndim else []
    return place, float(one[tuple(place)]), float(other[tuple(place)])


def _distance(a: Any, b: Any) -> float:
    a, b = (torch.as_tensor(value).detach().double() for value in (a, b))
    return float((a - b).abs().max()) if a.shape == b.shape and a.numel() else math.inf


def _size(value: Any) -> float:
    return float(torch.as_tensor(value).detach().double().abs().max())


def _shape_tip(answer: Tensor, like: Tensor, axes: str) -> str:
    if answer.shape == like.shape[::-1]:
        return "the axes are the other way round; transpose with `.T`."
    if answer.squeeze().shape == like.squeeze().shape:
        return "an axis of length 1 is too many or missing; see `squeeze`, `unsqueeze` and `keepdim`."
    tip = f"the result has the axes {axes or '(none)'}."
    if answer.ndim > like.ndim:
        return f"an axis is left over: take the mean or index over it; {tip}"
    return f"an axis was lost; {tip}" if answer.ndim < like.ndim else f"print the shape after each step; {tip}"
