"""What stands in the learner's cell: not answered yet, a value, or a function to be called with care.

1. `...` and None, and what a stub function returns, count as "not done yet".
2. A function is called through `watched`, which also notices a missing `return` and inputs changed in place.
3. When a call fails, `learners_line` finds the line of the learner's own cell.
"""

import dataclasses
import dis
import functools
import linecache
import traceback
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from course_lib.grading.registry import Wrong

_STUB_OPCODES = {"RESUME", "NOP", "CACHE", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "COPY_FREE_VARS"}


class NotDone(Exception):
    """The exercise still holds its stub."""


def prepared(answer: Any) -> Any:
    """Returns the answer as the check gets it: functions watched, everything else as it is.

    Raises:
        NotDone: the answer is `...` or None, or contains `...`.
    """
    _refuse_stub(answer)
    return watched(answer) if isinstance(answer, FunctionType) else answer


def watched(function: FunctionType) -> Callable[..., Any]:
    """Returns the function, given copies of tensors; refuses stubs, no `return`, inputs changed in place."""

    @functools.wraps(function)
    def call(*inputs: Any, **named_inputs: Any) -> Any:
        copies = [_copy(x) for x in inputs]
        named_copies = {name: _copy(x) for name, x in named_inputs.items()}
        result = function(*copies, **named_copies)
        if result is None and not _is_stub(function):
            raise Wrong("your function returned None", "end it with `return` and the result.")
        _refuse_stub(result)
        pairs = [*zip(inputs, copies, strict=True), *((named_inputs[k], x) for k, x in named_copies.items())]
        if any(_differ(before, after) for before, after in pairs):
            raise Wrong(
                "your function changed its input in place",
                "build a new tensor: `x = x - y`, not `x -= y`; no `x[...] = ...`, no methods ending in _.",
            )
        return result

    return call


def describe(answer: Any) -> str:
    """Returns a few words on what kind of thing an answer is: "a Tensor of shape (4, 8)"."""
    if isinstance(answer, FunctionType):
        return "a function"
    if isinstance(answer, Tensor):
        return f"a Tensor of shape {tuple(answer.shape)}"
    kind = type(answer).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def learners_line(error: BaseException, answer: Any) -> str:
    """Returns "line 3: <the source line>" for the last line of the learner's cell that the error passed, or
    ""."""
    function = getattr(answer, "__wrapped__", answer)
    cell = function.__code__.co_filename if isinstance(function, FunctionType) else None
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == cell]
    if not frames:
        return ""
    line = linecache.getline(frames[-1].filename, frames[-1].lineno).strip()
    return f"line {frames[-1].lineno} of your cell" + (f": {line}" if line else "")


def _refuse_stub(value: Any) -> None:
    parts = value if isinstance(value, tuple | list) else value.values() if isinstance(value, dict) else ()
    if dataclasses.is_dataclass(value):  # a claim whose numbers are still to come
        parts = vars(value).values()
    if value is None or value is ... or any(part is ... for part in parts):
        raise NotDone


def _is_stub(function: FunctionType) -> bool:
    return {step.opname for step in dis.get_instructions(function)} <= _STUB_OPCODES


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copy(part) for part in value)
    return value.clone() if isinstance(value, Tensor) else value


def _differ(before: Any, after: Any) -> bool:
    if isinstance(before, dict):
        return before.keys() != after.keys() or any(_differ(before[key], after[key]) for key in before)
    if type(before) in (list, tuple):
        return len(before) != len(after) or any(map(_differ, before, after))
    return isinstance(before, Tensor) and not torch.equal(torch.nan_to_num(before), torch.nan_to_num(after))
