"""Checks, checkpoints and hints: what a learner calls around an exercise.

1. `check("1.3", answer, ...)` says "done", "not done yet", or what is wrong, where, and what to try. A learner's code
   may do anything, and a check never raises for it.
2. `answer = checkpoint("1.3", answer, ...)` hands on the learner's answer if it is right, else the reference, so that
   every exercise can be skipped.
3. `hint("1.3")` shows the next of three hints, and with the last one where the worked answer is.
"""

import contextlib
import copy
import dataclasses
import dis
import functools
import inspect
import io
import linecache
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from course_lib.grading import expect, naming, record
from course_lib.grading.expect import compared, describe, plain, same, shown
from course_lib.grading.registry import EXERCISES, Exercise, Off, Wrong, chapter_of, find, references

N_INPUTS = 20
"""On how many drawn inputs a learner's function has to agree with the worked answer."""

_STUB_OPCODES = {"RESUME", "NOP", "CACHE", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "COPY_FREE_VARS"}
_TIPS = {
    "NameError": "define that name in your cell, or run the cells above; check its spelling.",
    "TypeError": "print the types in that line, and keep the function's first line as it was given.",
    "IndexError": "print the length or shape of what is indexed in that line.",
    "KeyError": "print the keys that exist.",
    "AttributeError": "print `type(...)` of what stands before the dot.",
    "RuntimeError": "print the shapes of the tensors in that line.",
    "ZeroDivisionError": "find out why the denominator is 0.",
    "RecursionError": "see where your function calls itself.",
}


_handed_on: list[Any] = []
"""The worked answers that `checkpoint` gave out: they bear the learner's names, and are not the learner's."""
_converted: dict[Callable[..., Any], FunctionType] = {}
"""What `checkpoint` gave out for a learner's function with its results as tensors -> that function, which checks judge."""


class NotDone(Exception):
    """Raised where the exercise still holds its stub."""


class Verdict(NamedTuple):
    """Outcome of a check; `message` is what the learner reads."""

    state: Literal["done", "wrong", "not done", "not yours"]
    message: str


def check(item: str, answer: Any = ..., *context: Any) -> None:
    """Print whether the answer to exercise `item` is right and, if not, what is wrong, where, and what to try.

    Args:
        item: id of the exercise, such as "1.3".
        answer: the learner's function or value; `...` and None mean "not done yet".
        context: what the exercise's check needs besides, in the order in which the notebook gives it.

    Raises:
        ValueError: no such exercise.
    """
    verdict = judge(item, answer, *context)
    if verdict.state in ("done", "wrong"):
        record.add(chapter_of(item), "check", item, passed=verdict.state == "done")
    print(verdict.message)


def checkpoint(item: str, answer: Any, *context: Any) -> Any:
    """Return the learner's answer if it passes the check, else the notebook's worked answer; print which of the two.

    Raises:
        ValueError: no such exercise.
    """
    state = judge(item, answer, *context).state
    passed, wrong = state == "done", "yours does not pass the check yet; " if state == "wrong" else ""
    print(f"{item}: {wrong}going on with {'your' if passed else 'the reference'} version.")
    if passed and isinstance(answer, FunctionType):
        return _for_later_cells(item, answer, context)
    if not passed:
        answer = copy.copy(reference(item, context, sys._getframe(1).f_globals))
        answer = "".join(list(answer)) if isinstance(answer, str) else answer  # no text of the learner's is this one
        _handed_on.append(answer)
    return answer


def _for_later_cells(item: str, answer: FunctionType, context: Sequence[Any]) -> Callable[..., Any]:
    """Return the learner's function; with its results as tensors of the worked answer's dtype, if they are others' or arrays."""
    drawn = find(EXERCISES, item).inputs or (lambda *_: None)
    inputs = next((each for seed in range(1, N_INPUTS) if (each := drawn(seed, *context)) is not None), None)
    truth = None if inputs is None else reference(item, context, {})(*_copy(inputs))
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()):
        if inputs is None or _as_tensors(made := answer(*_copy(inputs)), truth) is made:
            return answer
    going_on = functools.wraps(answer)(lambda *given, **named: _as_tensors(answer(*given, **named), truth))
    _converted[going_on] = answer
    return going_on


def _as_tensors(made: Any, truth: Any) -> Any:
    if isinstance(truth, Tensor):
        return torch.as_tensor(made, dtype=truth.dtype)
    if isinstance(truth, dict) and isinstance(next(iter(truth.values()), None), Tensor):
        found = {key: _as_tensors(value, truth[next(iter(truth))]) for key, value in made.items()}
        return made if all(found[key] is made[key] for key in made) else found
    return made


def is_handed_on(answer: Any) -> bool:
    """Return whether `checkpoint` gave out this very answer as the course's own."""
    return any(answer is each for each in _handed_on)


def reference(item: str, context: Sequence[Any], notebook: Mapping[str, Any]) -> Any:
    """Return the worked answer to an exercise, run in a namespace of its own.

    Args:
        item: id of the exercise, such as "1.3".
        context: what `checkpoint` gets after the answer.
        notebook: the names of the learner's notebook, used where the worked answer needs more than imports and context.
    """
    worked = references(chapter_of(item))[item]
    names = {name: notebook[name] for name in worked["notebook"]} | dict(zip(worked["context"], context, strict=True))
    exec(compile("\n".join(worked["code"]), f"<reference of {item}>", "exec"), names)
    return names[worked["answer"]]


def hint(item: str) -> None:
    """Print the next hint of exercise `item`; with the last one, also where the worked answer is.

    Raises:
        ValueError: no such exercise.
    """
    hints, chapter = find(EXERCISES, item).hints, chapter_of(item)
    record.add(chapter, "hint", item)
    number = min(len(record.events(chapter, "hint", item)), len(hints))
    print(f"Hint {number} of {len(hints)} for {item}: {hints[number - 1]}")
    if number == len(hints):
        where = f'in the cell "Exercise {item}" of chapter {chapter:02d}, complete notebooks (the course\'s folder solutions)'
        print(f'The worked answer is {where}; checkpoint("{item}", ...) lets you go on with it.')


def judge(item: str, answer: Any, *context: Any) -> Verdict:
    """Return the verdict on an answer without printing or recording it.

    A check may draw random numbers: it always draws the same ones, and the notebook's own generator is put back.
    """
    asked = find(EXERCISES, item)
    try:
        # `plain` raises for what is no number
        answer = _converted.get(answer, answer) if isinstance(answer, FunctionType) else plain(answer)
        if is_handed_on(answer):
            own = f"{item}: this is the course's answer, not yours: it does not count. To do the exercise, write yours into"
            return Verdict("not yours", f'{own} the cell marked "Exercise {item}", and run that cell before this one.')
        _refuse_stub(answer)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            mine = watched(answer) if isinstance(answer, FunctionType) else answer
            try:
                remark = asked.check(mine, *context)
            except Wrong as wrong:
                raise _confirmed(wrong, asked, mine, context) from None
            if asked.inputs and isinstance(answer, FunctionType):
                _agrees(asked, mine, context)
    except NotDone:
        todo = f'{item} not done yet: write your answer in place of the ... in the cell marked "Exercise {item}". '
        return Verdict("not done", todo + f'hint("{item}") helps; the notebook goes on without it.')
    except Wrong as wrong:
        return _wrong(item, _with_names(wrong, item, answer, context))
    except (Exception, SystemExit) as error:  # a learner's code may raise anything; the notebook goes on
        return _wrong(item, _with_names(_explained(item, error, answer), item, answer, context))
    return Verdict("done", f"{item} done: {remark or asked.title}")


def _confirmed(wrong: Wrong, asked: Exercise, mine: Any, context: Sequence[Any]) -> Wrong:
    """Return the diagnosis if it is the same on other inputs; else a coincidence named it, and one input is shown."""
    if not (asked.inputs and callable(mine)):
        return wrong
    try:
        with expect.other_inputs():
            asked.check(mine, *context)
    except Exception as again:  # where the learner's code fails, what it did first is told
        if not isinstance(wrong, Off) and (not isinstance(again, Wrong) or expect.kind(again) == expect.kind(wrong)):
            return wrong
    try:
        _agrees(asked, mine, context)
    except Wrong as shown_input:
        return shown_input
    return wrong


def _agrees(asked: Exercise, mine: Callable[..., Any], context: Sequence[Any]) -> None:
    """Refuse a function that differs from the worked answer on a drawn input: the message shows the shortest of these.

    What it prints there is dropped: a learner who prints to see what happens has seen the check's own calls.
    """
    right, agree = reference(asked.id, context, {}), asked.same or same
    names, tried, off = right.__code__.co_varnames, [], []
    for seed in range(N_INPUTS):
        if (inputs := asked.inputs(seed, *context)) is None:  # type: ignore[misc]
            continue
        truth, told = right(*_copy(inputs)), ", ".join(f"{n} = {shown(x)}" for n, x in zip(names, inputs, strict=False))
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                got = mine(*inputs)
        except Exception as error:
            error.add_note(f"for {told}")
            raise
        tried.append((inputs, got, truth))
        if not agree(got, truth):
            off.append(f"for {told} {compared(got, truth)}")
        elif isinstance(truth, Tensor) and truth.requires_grad and not off:
            _same_gradient(got, truth, inputs)
    if off:
        n_right, known = len(tried) - len(off), naming.relation(tried, names)
        how_often = f"{f'some inputs only, {n_right}' if n_right else 'none'} of the {len(tried)} drawn"
        tip = "work this input by hand, step by step: signs, order, lengths and ties may differ from your example."
        tip = "follow this input through your code, up to the step that does it." if known else tip
        if re.search(r"= an? \w|\.\.\.", shortest := min(off, key=lambda text: ("Tensor of shape" in text, len(text)))):
            tip = "make an input of this kind (if long, as long), and compare what each step gives with what the text asks for."
        raise Off(known or f"it is right for {how_often}", tip, where=shortest)


def _same_gradient(got: Any, truth: Tensor, inputs: Sequence[Any]) -> None:
    tip = "a model is trained through it: no .detach(), .item() or float(...), unequal means, exp out of range."
    if not getattr(got, "requires_grad", False):
        raise Wrong("the result has lost its gradient", tip)
    trained = [value for value in inputs if isinstance(value, Tensor) and value.requires_grad]
    mine, right = (torch.autograd.grad(value.sum(), trained, allow_unused=True) for value in (got, truth))
    if not all(a is not None and same(a, b) for a, b in zip(mine, right, strict=True) if b is not None):
        raise Wrong("the value is right here, and its gradient is not", tip)


def watched(function: FunctionType) -> Callable[..., Any]:
    """Return the function, called with copies of tensors; refuse stubs, no `return`, inputs changed in place."""

    @functools.wraps(function)
    def call(*inputs: Any, **named_inputs: Any) -> Any:
        copies = _copy((inputs, named_inputs))
        held = {id(value): _copy(tensors_of(value)) for value in (*inputs, *named_inputs.values())}
        models = [value for value in inputs if hasattr(value, "hook_points")]
        hooked = list(map(_n_hooks, models))
        result = function(*copies[0], **copies[1])
        if hooked != list(map(_n_hooks, models)):
            for model in models:
                model.reset_hooks()
            tip = "use `with model.hooks(...)` or the library's contexts: they end by themselves."
            raise Wrong("your function left a hook on the model", tip)
        if result is None and not {step.opname for step in dis.get_instructions(function)} <= _STUB_OPCODES:
            tip = "end each way through it with `return`, also the one past a loop."
            raise Wrong("your function returned None", tip)
        _refuse_stub(result)
        bind = inspect.signature(function).bind
        before, after = bind(*inputs, **named_inputs).arguments, bind(*copies[0], **copies[1]).arguments
        if changed := " and ".join(
            f"`{n}`" for n, was in before.items() if _differ(was, after[n]) or _put_back(was, held)
        ):
            tip = "build a new one: `x = x + y`, no `x += y`, no `x[...] = y`, no methods ending in _, no .append() or .pop()."
            raise Wrong(f"your function changed {changed} in place: what it is given belongs to its caller", tip)
        return plain(result)

    return call


def tensors_of(value: Any) -> dict[str, Tensor]:
    """Return the tensors that an object (a cache, a graph, a dictionary) holds, by name: they could be changed in place."""
    held = getattr(value, "cache_dict", getattr(value, "__dict__", {}))
    return {name: part for name, part in held.items() if isinstance(part, Tensor)}


def _put_back(value: Any, held: dict[int, dict[str, Tensor]]) -> bool:
    """Return whether an object's tensors are others than those held by its id; give them these numbers again."""
    was, now = held.get(id(value), {}), tensors_of(value)
    for name in was.keys() & now if (changed := _differ(was, now)) else ():
        now[name].data = was[name]
    return changed


def _n_hooks(model: Any) -> int:
    return sum(len(point.fwd_hooks) for point in model.hook_points())


def _refuse_stub(value: Any) -> None:
    """Raise NotDone for `...` and None, and for a collection or a claim that holds `...`."""
    parts = value if isinstance(value, tuple | list) else value.values() if isinstance(value, dict) else ()
    if dataclasses.is_dataclass(value):
        parts = vars(value).values()
    if value is None or value is ... or any(part is ... for part in parts):
        raise NotDone


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copy(part) for part in value)
    return value.clone() if isinstance(value, Tensor) else set(value) if type(value) is set else value


def _differ(before: Any, after: Any) -> bool:
    if isinstance(before, dict):
        return before.keys() != after.keys() or any(_differ(before[key], after[key]) for key in before)
    if type(before) in (list, tuple):
        return len(before) != len(after) or any(map(_differ, before, after))
    if isinstance(before, Tensor):
        return not torch.equal(torch.nan_to_num(before), torch.nan_to_num(after))
    return before != after if type(before) is set else before is not after


def _wrong(item: str, wrong: Wrong) -> Verdict:
    where = [f"  where: {wrong.where}"] if wrong.where else []
    lines = [f"{item} not right yet: {wrong}", *where, f"  try:   {wrong.try_next}", f'  stuck: hint("{item}")']
    return Verdict("wrong", "\n".join(lines))


def _explained(item: str, error: BaseException, answer: Any) -> Wrong:
    """Return in a learner's words what went wrong when a check failed on an answer with an exception."""
    problem = f"{type(error).__name__}: {error}".rstrip(": ")
    tip = _TIPS.get(type(error).__name__, "run your code on a small example in a cell of its own, and print as you go.")
    if where := " ".join([_learners_line(error, answer), *getattr(error, "__notes__", [])]).strip():
        return Off(f"your code raised {problem}", tip, where=where)
    worked = references(chapter_of(item))[item]
    is_function = f"def {worked['answer']}(" in "\n".join(worked["code"])
    if is_function and not isinstance(answer, FunctionType):
        return Wrong(f"you gave {describe(answer)}, and a function is asked for", "hand on the function, not called.")
    changed = "if your cell rebinds a name that the check is given, run the cells above again, and leave it alone."
    return Wrong(f"your answer could not be used ({problem})", tip if is_function else changed)


def _with_names(wrong: Wrong, item: str, answer: Any, context: Sequence[Any]) -> Wrong:
    """Return the refusal with what the learner's code never reads, and what it reads of the notebook instead."""
    try:
        names = naming.unread(answer, reference(item, context, answer.__globals__))
    except Exception:  # no function, or the worked one cannot be made without its notebook
        names = ""
    no_name = str(wrong).startswith("your code raised NameError")
    # the cause of all else, but where a name is not there at all
    if "never" in names and not no_name and (isinstance(wrong, Off) or "reads the notebook" in names):
        tip = "use what the function is given: the check gives it other values than the notebook has."
        told = "" if str(wrong).startswith("your code raised") else str(wrong)
        return Wrong(names, tip, where="; ".join(filter(None, (told, wrong.where))))
    if not isinstance(wrong, Off):  # a mistake that is known is told first
        names = names * ("never" in names)
    return Wrong(str(wrong), wrong.try_next, where="; ".join(filter(None, (wrong.where, names))))


def _learners_line(error: BaseException, answer: Any) -> str:
    """Return the last line of the learner's cell that the error passed, with its number, or ""."""
    cell = answer.__code__.co_filename if isinstance(answer, FunctionType) else None
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == cell]
    if not frames or frames[-1].lineno is None:
        return ""
    line = linecache.getline(frames[-1].filename, frames[-1].lineno).strip()
    return f"line {frames[-1].lineno} of your cell" + (f": {line}" if line else "")
