"""The child in which one learner's answer runs. It answers calls and knows nothing of right or wrong.

Whatever the learner's code does to this process, to this module too, ends as plain data on the socket: a wrong value, a
frame that cannot be read, or silence.
"""

import contextlib
import dis
import inspect
import sys
import traceback
import types
from collections.abc import Iterator
from typing import Any

import torch

from course_lib.grading.checking import _STUB_OPCODES, _copy, _n_hooks, tensors_of
from lab.wire import Channel, Reader, Refused, Writer

MAX_TEXT, MAX_CALLED = 400, 2000


class Learner:
    """What runs in the child.

    Args:
        channel: the socket to the judge.
        names: the notebook's names as they are before the exercise.
    """

    def __init__(self, channel: Channel, names: dict[str, Any]) -> None:
        self.channel, self.names, self.shared = channel, names, dict(names)
        self.answer: Any = None
        self.file = ""

    def serve(self) -> None:
        """Run the cells, then answer every call, until the judge hangs up."""
        self.channel.send({"ready": True}, Writer())
        while True:
            message = self.channel.receive(Reader(self.shared, self._stand_in))
            made = self._run(message) if "cells" in message else self._call(message)
            try:
                self.channel.send(made, Writer())
            except (Exception, Refused) as error:
                text = f"the result is too large or too deep to be judged ({error})"[:MAX_TEXT]
                kind = "ValueError" if isinstance(error, Refused) else type(error).__name__
                self.channel.send({"raised": [kind, text], "line": None}, Writer())

    def _stand_in(self, number: int, kind: str, tensors: dict[str, Any] | None) -> Any:
        if tensors is None:
            return lambda *args, **kwargs: self._ask(number, "", args, kwargs)
        return _StandIn(self, number, kind, tensors)

    def _ask(self, number: int, attribute: str, args: Any, kwargs: Any) -> Any:
        message = {"ask": number, "attribute": attribute, "args": list(args), "kwargs": kwargs}
        self.channel.send(message, Writer())
        reply = self.channel.receive(Reader(self.shared, self._stand_in))
        if "raised" in reply:
            kind, _, text = reply["raised"].partition(": ")
            raise {"AttributeError": AttributeError, "TypeError": TypeError}.get(kind, RuntimeError)(text)
        return reply["value"]

    def _run(self, message: dict[str, Any]) -> dict[str, Any]:
        """Run the helpers and the answer's cell; return the answer, or that it is a function."""
        self.file, error = message["file"], None
        for n, source in enumerate(message["cells"]):
            last = n == len(message["cells"]) - 1
            if last:
                before = self.names.get(message["name"], self)
            try:
                exec(compile(source, self.file if last else f"<your cell {n + 1}>", "exec"), self.names)
            except BaseException as raised:  # noqa: B036  (a learner's code may raise anything)
                error = raised
        answer = self.names.get(message["name"], self)
        if answer is before and (error or answer is self):
            return {"missing": True} | (self._explained(error, self.file) if error else {})
        self.answer = answer
        return self._told()

    def _told(self) -> dict[str, Any]:
        """Return the answer, or what the judge has to know of it if it is a function."""
        answer = self.answer
        if not callable(answer) or isinstance(answer, torch.Tensor):
            return {"value": answer}
        torch.default_generator.manual_seed(0)  # as for a check in the notebook: draws go on from call to call
        code, plain = getattr(answer, "__code__", None), isinstance(answer, types.FunctionType)
        return {
            "function": True,
            "file": getattr(code, "co_filename", self.file)[:100],
            "line": getattr(code, "co_firstlineno", 1),
            "stub": plain and _is_stub(answer),
            "parameters": _parameters(answer),
            "positional": list(code.co_varnames[: code.co_argcount]) if plain else [],
            "kept": [_kept(each) for each in answer.__defaults__ or ()] if plain else [],
        }

    def _call(self, message: dict[str, Any]) -> dict[str, Any]:
        """Call the answer; return its result, what it did to its inputs, and the gradient of the sum of its result.

        What a check may see in the notebook by other ways than the result is told where there is any: which of the
        library's functions were called and what hooks did, where the judge is watching these; changed weights; a gradient
        left on an input; a result that is an input itself.
        """
        args, kwargs = message["args"], message["kwargs"]
        trained = [part for part in args if isinstance(part, torch.Tensor) and part.requires_grad]
        given = _copied(args, {})
        before, models = (
            _copy(list(map(_insides, args))),
            [part for part in args if isinstance(part, torch.nn.Module)],
        )
        hooks, weights = [_n_hooks(model) for model in models], [_copy(_weights(model)) for model in models]
        answer = _forgetful(self.answer) if message.get("fresh") else self.answer
        made: dict[str, Any] = {}
        try:
            with (
                _told_of_hooks(models, made) if message.get("hooks") else contextlib.nullcontext(),
                _told_of_calls(made) if message.get("calls") else contextlib.nullcontext(),
            ):
                result = answer(*given, **kwargs)
        except BaseException as raised:  # noqa: B036
            return self._explained(raised, getattr(getattr(self.answer, "__code__", None), "co_filename", self.file))
        made["value"] = result
        if hooks != [_n_hooks(model) for model in models]:
            made["hooked"] = True
            for model in models:
                model.reset_hooks()
        if edited := [[n, names] for n, model in enumerate(models) if (names := _put_back(model, weights[n]))]:
            made["edited"] = edited
        after = [
            [n, now]
            for n, (was, now) in enumerate(zip(before, map(_insides, given), strict=True))
            if _differ(was, now) or getattr(was, "requires_grad", None) != getattr(now, "requires_grad", None)
        ]
        if after:
            made["after"] = after
        inputs = [(n, part) for n, part in enumerate(given) if isinstance(part, torch.Tensor)]
        if left := [[n, part.grad] for n, part in inputs if part.is_leaf and part.grad is not None]:
            made["left"] = left
        if itself := [n for n, part in inputs if _is_same_memory(result, part)]:
            made["itself"] = itself[0]
        if trained and isinstance(result, torch.Tensor) and result.requires_grad:
            made["gradients"] = list(torch.autograd.grad(result.sum(), trained, allow_unused=True, retain_graph=True))
        return made

    def _explained(self, error: BaseException, file: str) -> dict[str, Any]:
        """Return kind, text, and the last line of the learner's own that the error passed."""
        try:
            text = str(error)[:MAX_TEXT]
        except BaseException:  # noqa: B036
            text = ""
        made: dict[str, Any] = {"raised": [type(error).__name__[:60], text]}
        frames = [f for f in traceback.extract_tb(error.__traceback__, limit=200) if f.filename == file]
        line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
        return made | {"line": line if isinstance(line, int) else None}


class _StandIn:
    """A small object that stays with the judge: what is no tensor of it is asked for when it is used."""

    def __init__(self, learner: Learner, number: int, kind: str, tensors: dict[str, Any]) -> None:
        self.__dict__.update(tensors | {"_learner": learner, "_number": number, "_kind": kind})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._learner._ask(self._number, name, (), {})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._learner._ask(self._number, "", args, kwargs)

    def __repr__(self) -> str:
        return f"<{self._kind}>"


def _parameters(answer: Any) -> list[list[Any]]:
    """Return name, kind and whether it may be left out, of each parameter; nothing where that cannot be said."""
    try:
        told = inspect.signature(answer).parameters.values()
        return [[p.name[:50], int(p.kind), p.default is not p.empty] for p in told][:20]
    except BaseException:  # noqa: B036  (a learner's callable may raise anything when it is asked)
        return []


def _is_stub(function: types.FunctionType) -> bool:
    return {step.opname for step in dis.get_instructions(function)} <= _STUB_OPCODES


def _kept(default: Any) -> str:
    """Return the kind of a default value that keeps what calls put into it; "" for one that does not."""
    return next((kind.__name__ for kind in (list, dict, set) if isinstance(default, kind)), "")


def _forgetful(answer: Any) -> Any:
    """Return the function with such default values made anew."""
    if not isinstance(answer, types.FunctionType):
        return answer
    empty = tuple(type(each)() if _kept(each) else each for each in answer.__defaults__ or ())
    return types.FunctionType(answer.__code__, answer.__globals__, argdefs=empty, closure=answer.__closure__)


@contextlib.contextmanager
def _told_of_calls(made: dict[str, Any]) -> Iterator[None]:
    """Tell by module and name which functions of the course's library and of torch are called."""
    called: set[tuple[str, str]] = set()

    def see(frame: Any, event: str, _: Any) -> None:
        module = frame.f_globals.get("__name__")
        if event == "call" and isinstance(module, str) and module.startswith(("course_lib.", "torch.")):
            called.add((module, frame.f_code.co_name))

    sys.setprofile(see)
    try:
        yield
    finally:
        sys.setprofile(None)
        made["called"] = list(called)[:MAX_CALLED]


@contextlib.contextmanager
def _told_of_hooks(models: list[Any], made: dict[str, Any]) -> Iterator[None]:
    """Tell at which hook points hooks were active, how many, and whether they wrote into what they were given."""
    points, seen = [point for model in models for point in model.hook_points()], list[Any]()

    def see(n: int, point: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and point.fwd_hooks:
            seen.append((n, len(point.fwd_hooks), output, output.clone()))

    handles = [
        point.register_forward_hook(lambda module, _, output, n=n: see(n, module, output), prepend=True)
        for n, point in enumerate(points)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        made["seen"] = sorted({(n, many, not torch.equal(now, was)) for n, many, now, was in seen})


def _weights(model: Any) -> dict[str, torch.Tensor]:
    return getattr(model, "original_model", model).state_dict()


def _put_back(model: Any, weights: dict[str, torch.Tensor]) -> list[str]:
    """Give a model its weights again, for the judge's has them still; return the names of those that had changed."""
    now = _weights(model)
    changed = [name for name, was in weights.items() if name not in now or not torch.equal(now[name], was)]
    with torch.no_grad():
        for name in changed:
            if name in now and now[name].shape == weights[name].shape:
                now[name].copy_(weights[name])
    return changed


def _is_same_memory(result: Any, given: torch.Tensor) -> bool:
    return (
        isinstance(result, torch.Tensor)
        and (result.shape, result.dtype) == (given.shape, given.dtype)
        and result.numel() > 0
        and result.data_ptr() == given.data_ptr()
    )


def _copied(value: Any, done: dict[int, torch.Tensor]) -> Any:
    """Return a copy in which a tensor that stands in two places is one still."""
    if isinstance(value, torch.Tensor):
        return done[id(value)] if id(value) in done else done.setdefault(id(value), value.clone())
    if isinstance(value, dict):
        return {key: _copied(part, done) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copied(part, done) for part in value)
    return _copy(value)


def _insides(value: Any) -> Any:
    """Return the tensors that an object holds, which is handed over as it is; all else as it is."""
    return tensors_of(value) or value


def _differ(before: Any, after: Any) -> bool:
    if isinstance(before, dict):
        return (
            not isinstance(after, dict)
            or before.keys() != after.keys()
            or any(_differ(before[k], after[k]) for k in before)
        )
    if type(before) in (list, tuple):
        return len(before) != len(after) or any(map(_differ, before, after))
    if isinstance(before, torch.Tensor):
        return before.shape != after.shape or not torch.equal(torch.nan_to_num(before), torch.nan_to_num(after))
    return isinstance(before, int | float | str | bool | set) and (
        type(before) is not type(after) or before != after and before == before
    )


def forget_the_way_here(names: dict[str, Any]) -> None:
    """Drop what the process need not hold while a learner's code runs in it."""
    for module in [name for name in sys.modules if name.startswith(("lab.stage", "lab.judging", "__mp_main__"))]:
        del sys.modules[module]
    names.pop("__lab__", None)
