"""What a wrong function does, in one sentence that its code, or its results on all inputs tried, leave no doubt about."""

import contextlib
import dis
from collections import Counter
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType, UnionType
from typing import Any

import torch
from torch import Tensor

from course_lib.grading.expect import same, shown

Tried = Sequence[tuple[Sequence[Any], Any, Any]]
"""Inputs, what the learner's function gives for them, and what is right; at least one of them differs."""
Changed = Callable[[Tensor], Tensor]

CHANGES: tuple[tuple[str, Changed], ...] = (
    ("the sign is flipped", lambda t: -t),
    ("the sign is thrown away: negative results come out positive", lambda t: t.abs()),
    ("it gives 1 minus the right result", lambda t: 1 - t),
    ("it gives the logarithm of the right result", lambda t: t.log()),
    ("what is below 0 is cut off", lambda t: t.clamp(min=0)),
    ("what is above 1 is cut off", lambda t: t.clamp(max=1)),
    ("what is below 0 or above 1 is cut off", lambda t: t.clamp(0, 1)),
    *((f"it is rounded to {n} decimals", lambda t, n=n: t.round(decimals=n)) for n in range(4)),
    ("the last two axes are exchanged (transposed)", lambda t: t.transpose(-2, -1)),
    ("the order is reversed", lambda t: t.flip(0)),
    ("the results are sorted", lambda t: t.sort(dim=0).values),
    ("each result stands one place too late", lambda t: t.roll(1, 0)),
    ("each result stands one place too early", lambda t: t.roll(-1, 0)),
)
"""Words, and what makes a wrong result of a right one."""


def relation(tried: Tried, named: Sequence[str]) -> str:
    """Return how the results differ from the right ones, or "" where no one sentence holds for all inputs (called `named`)."""
    inputs, gots, truths = zip(*tried, strict=True)
    if len(tried) < 3 or _all_same(truths, truths[:1] * len(tried)):
        return ""
    if _all_same(gots, gots[:1] * len(tried)):
        return f"it gives {shown(gots[0])} whatever it is given"
    with contextlib.suppress(Exception):  # results of another kind than the right ones: nothing is said
        if isinstance(truths[0], bool):
            wrong = [got for got, truth in zip(gots, truths, strict=True) if got != truth]
            every = "True and False are swapped" if len(wrong) == len(tried) else ""
            always = f"it gives {wrong[0]} where {not wrong[0]} is right, and never the reverse"
            return every or (always if len(set(wrong)) == 1 else "")
        if isinstance(truths[0], str):
            return "only the spaces are wrong" if [g.split() for g in gots] == [t.split() for t in truths] else ""
        if isinstance(truths[0], Tensor | float | int):
            return _of_numbers(inputs, named, list(map(_double, gots)), list(map(_double, truths)))
        pairs = [(_entries(got), _entries(truth)) for got, truth in zip(gots, truths, strict=True)]
        if all(mine == right for mine, right in pairs):
            return "the entries are right, and their order is not"
        if all(mine <= right for mine, right in pairs):
            return "entries are missing; those it has are right"
        if all(mine >= right for mine, right in pairs):
            return "it has entries too many, and all right ones"
    return ""


def _of_numbers(inputs: Sequence[Sequence[Any]], named: Sequence[str], gots: list[Tensor], truths: list[Tensor]) -> str:
    for words, change in CHANGES:
        with contextlib.suppress(RuntimeError, IndexError):  # a number has no axes
            if _all_same(gots, list(map(change, truths))):
                return words
    for n, given in enumerate(inputs[0]):  # before a plain factor: where lengths do not vary, it is the same
        for axis in range(given.ndim if isinstance(given, Tensor) else 0):
            lengths = [each[n].shape[axis] for each in inputs]
            for word, power in (("times", 1), ("divided by", -1)):
                if _all_same(gots, [length**power * truth for length, truth in zip(lengths, truths, strict=True)]):
                    return f"it gives the right result {word} {named[n]}.shape[{axis}]: sum and mean, mixed up?"
    pairs = list(zip(gots, truths, strict=True))
    factors = [float((got * truth).sum() / (truth * truth).sum()) for got, truth in pairs]
    middle, gap = sorted(factors)[len(factors) // 2], float((gots[0] - truths[0]).mean())
    if _all_same(gots, [middle * truth for truth in truths]):
        return f"it gives {middle:.4g} times the right result"
    if _all_same(gots, [truth + gap for truth in truths]):
        return f"it gives {abs(gap):.4g} too {'much' if gap > 0 else 'little'}"
    if not _all_same(gots, [factor * truth for factor, truth in zip(factors, truths, strict=True)]):
        return ""
    multiple = min(factors) > 0 and truths[0].numel() > 2
    return "it gives a multiple of the right result: only its length is wrong" if multiple else ""


def unread(answer: FunctionType, worked: FunctionType) -> str:
    """Return which arguments the code never reads, and which values of the notebook it reads; "" if it reads as it should."""
    (mine, outside), (theirs, known) = _reads(answer.__code__), _reads(worked.__code__)
    pairs = zip(_arguments(answer), _arguments(worked), strict=False)
    lost = [f"`{name}`" for name, other in pairs if name not in mine and other in theirs]
    values = {name: answer.__globals__[name] for name in sorted(outside - known) if name in answer.__globals__}
    tables = () if lost else (dict, str)
    # tables in capitals, and what begins with _, are the learner's own, and no stand-ins for an input
    own = {n for n, v in values.items() if n.startswith("_") or n.isupper() and isinstance(v, tables)}
    given = (n for n, v in values.items() if not isinstance(v, _CODE) and n not in own)
    others = [f"`{name}`" for name in given]
    others = [name for name in others if name.lower() in lost] or others  # a namesake is to blame, no constant beside
    says = [f"never reads its argument{'s' * (len(lost) > 1)} {' and '.join(lost)}"] * bool(lost)
    says += [f"reads the notebook's {' and '.join(others)}, the same whatever it is given"] * bool(others)
    return f"your code {', and '.join(says)}" if says else ""


_CODE = FunctionType | BuiltinFunctionType | ModuleType | type | UnionType


def _arguments(function: FunctionType) -> tuple[str, ...]:
    return function.__code__.co_varnames[: function.__code__.co_argcount]


def _reads(code: CodeType) -> tuple[set[str], set[str]]:
    """Return the names that a code, or a function inside it, reads; then those of them that stand outside it."""
    names, outside = set(code.co_cellvars), set[str]()
    for step in dis.get_instructions(code):
        if step.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME")):
            outside.add(step.argval)
        elif step.opname.startswith(("LOAD_FAST", "LOAD_DEREF")):
            names |= set(step.argval if isinstance(step.argval, tuple) else (step.argval,))
    for inner in (_reads(each) for each in code.co_consts if isinstance(each, CodeType)):
        names, outside = names | inner[0], outside | inner[1]
    return names, outside


def _all_same(some: Sequence[Any], others: Sequence[Any]) -> bool:
    with contextlib.suppress(Exception):  # what cannot be compared is not the same
        return all(map(same, some, others))
    return False


def _entries(value: Any) -> Counter[str]:
    return Counter(map(repr, value.items() if isinstance(value, dict) else value))


def _double(value: Any) -> Tensor:
    return torch.as_tensor(value).detach().double()
