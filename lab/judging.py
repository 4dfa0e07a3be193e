"""The process that knows what is right: it asks a learner's child for values, and judges them by the course's own checks.

Each answer is judged twice: on the check's own inputs, and on inputs drawn from the teacher's seed, which nobody can have
written down.
"""

import contextlib
import dataclasses
import inspect
import io
import json
import linecache
import random
import signal
import socket
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from course_lib.grading import checking, expect, registry
from lab.isolation import Limits
from lab.wire import Channel, Lost, NotSent, Reader, Refused, Writer

MAX_MESSAGE, MAX_ASKED, MAX_PARAMETERS = 2000, 20_000, 20
SEEDS_APART = 27_720
"""A multiple of 1 to 12: what a chapter draws "every third time" stays so for other seeds."""


@dataclasses.dataclass
class Result:
    """What became of one answer."""

    state: str
    """done, wrong, open, timeout, crash, refused, or regrade."""
    message: str = ""
    cpu_s: float = 0.0


class Remote:
    """A learner's answer as the check sees it: a function that asks the child."""

    def __init__(self, channel: Channel, names: dict[str, Any], source: str, file: str) -> None:
        self.channel, self.by_id, self.names = channel, {id(v): k for k, v in names.items()}, names
        self.source, self.file, self.stub = source, file, False
        self.line: int | None = None
        """Of the learner's cell, the last that an exception of theirs passed."""
        self.edited: list[tuple[torch.Tensor, torch.Tensor]] = []
        """Weights of the judge's that are marked as changed, and what they were."""

    def started(self, cells: list[str], name: str) -> Any:
        """Run the cells in the child; return the answer: a value, or a function that asks for values."""
        self.channel.send({"cells": cells, "file": self.file, "name": name}, Writer())
        made = self.channel.receive(Reader())
        if made.get("missing"):
            self._raise(made) if "raised" in made else None
            tip = "keep the cell's first line, and the name that it was given."
            raise registry.Wrong(f"the cell does not make `{name}`", tip)
        if not made.get("function"):
            return made["value"]
        self.stub = made["stub"] is True
        return self._function(made)

    def _function(self, made: dict[str, Any]) -> types.FunctionType:
        def answer(*args: Any, **kwargs: Any) -> Any:
            return self.call(args, kwargs)

        if any(kept := [str(each) for each in made["kept"][:MAX_PARAMETERS]]):
            answer = self._with_defaults([str(name) for name in made["positional"][:MAX_PARAMETERS]], kept) or answer
        line = made["line"] if isinstance(made["line"], int) and 0 < made["line"] < 10_000 else 1
        answer.__code__ = answer.__code__.replace(co_filename=self.file, co_firstlineno=line)
        linecache.cache[self.file] = (
            len(self.source),
            None,
            [f"{text}\n" for text in self.source.split("\n")],
            self.file,
        )
        with contextlib.suppress(
            KeyError, TypeError, ValueError
        ):  # messages name the learner's parameters; without them `args`
            told = [
                inspect.Parameter(str(name), kind, default=None if optional is True else inspect.Parameter.empty)
                for name, kind, optional in made["parameters"][:MAX_PARAMETERS]
            ]
            answer.__signature__ = inspect.Signature(told)  # type: ignore[attr-defined]
        return answer

    def _with_defaults(self, names: list[str], kept: list[str]) -> types.FunctionType | None:
        """Return an answer with parameters of its own, whose last ones have defaults of the kinds `kept` or others.

        A check may make it anew with empty defaults, to see whether they keep what calls put into them. The defaults
        themselves stay in the child: one that is given here only says whether it is the child's own.
        """
        if len(set(names)) < len(names) or len(kept) > len(names) or not all(map(str.isidentifier, names)):
            return None
        own = tuple(_KEPT[kind]() if kind in _KEPT else ... for kind in kept)

        def call(*given: Any) -> Any:
            n = next((n for n, each in enumerate(given) if each is ... or type(each) in _KEPT.values()), len(given))
            known = list(map(id, own))
            return self.call(given[:n], {}, fresh=any(id(each) not in known for each in given[n:]))

        numbers = ", ".join(f"p{n}" for n in range(len(names)))
        scope: dict[str, Any] = {"call": call}
        exec(f"def answer({numbers}):\n    return call({numbers})", scope)
        answer = scope["answer"]
        answer.__code__, answer.__defaults__ = answer.__code__.replace(co_varnames=tuple(names)), own
        return answer

    def call(self, args: Any, kwargs: Any, *, fresh: bool = False) -> Any:
        """Return the child's result for these inputs; what it changed in them is changed here."""
        self.put_back()
        numbered: list[Any] = []
        message = {"args": list(args), "kwargs": kwargs, "fresh": fresh}
        message |= {"calls": sys.getprofile() is not None, "hooks": any(map(_watchers, _points(_models(args))))}
        self.channel.send(message, Writer(self.by_id, numbered))
        for _ in range(MAX_ASKED):
            made = self.channel.receive(Reader())
            if "ask" not in made:
                return self._result(made, args)
            try:
                reply = {"value": self._asked(made, numbered)}
            except Exception as error:
                reply = {"raised": f"{type(error).__name__}: {error}"[:300]}
            self.channel.send(reply, Writer(self.by_id, numbered))
        raise Refused("asks too often")

    def _asked(self, made: dict[str, Any], numbered: list[Any]) -> Any:
        """Return an attribute of an object that this call handed over, or what it gives when called. Nothing private."""
        thing, attribute = numbered[int(made["ask"])], str(made["attribute"])
        if attribute:
            if attribute.startswith("_") or isinstance(thing, types.FunctionType | types.ModuleType):
                raise AttributeError(attribute)
            return getattr(thing, attribute)
        return thing(*made["args"], **made["kwargs"])

    def _result(self, made: dict[str, Any], args: Any) -> Any:
        if "raised" in made:
            self._raise(made)
        models = _models(args)
        trained = [part for part in args if isinstance(part, torch.Tensor) and part.requires_grad]
        for n, now in made.get("after", ()):
            _become(args[n], now)
        for n, grad in made.get("left", ()):
            if isinstance(args[n], torch.Tensor) and (grad.shape, grad.dtype) == (args[n].shape, args[n].dtype):
                args[n].grad = grad
        if made.get("hooked") is True:
            next(_points(models)).add_hook(lambda value, hook: value)
        for n, names in made.get("edited", ()):
            self._edit(models[n].original_model.state_dict(), set(names))
        _tell_of_hooks(list(_points(models)), made.get("seen", ()))
        _tell_of_calls(made.get("called", ()))
        result = made["value"]
        if result is None and self.stub:
            return ...
        if "gradients" in made and isinstance(result, torch.Tensor):
            grads = [g if isinstance(g, torch.Tensor) else None for g in made["gradients"]]
            if len(grads) == len(trained) and all(
                g is None or g.shape == t.shape for g, t in zip(grads, trained, strict=True)
            ):
                return _Graded.apply(result.detach(), grads, *trained)
        if not isinstance(result, torch.Tensor):
            return result
        own = args[made["itself"]] if "itself" in made else None
        is_own = isinstance(own, torch.Tensor) and own.dtype == result.dtype and torch.equal(own, result)
        return own.detach() if is_own else result.detach()

    def _edit(self, weights: dict[str, torch.Tensor], names: set[str]) -> None:
        """Mark weights as changed until the next call: a check may compare them, and the next learner needs them."""
        for weight in (weights[name] for name in names if weights[name].is_floating_point()):
            self.edited.append((weight, weight.clone()))
            weight += 1

    def put_back(self) -> None:
        """Give the judge's model its weights again."""
        while self.edited:
            weight, was = self.edited.pop()
            weight.copy_(was)

    def _raise(self, made: dict[str, Any]) -> None:
        """Raise here what the learner's code raised there, as if from its line."""
        name, text = (str(part)[:400] for part in made["raised"])
        base = getattr(sys.modules["builtins"], name, Exception)
        base = base if isinstance(base, type) and issubclass(base, Exception | SystemExit) else Exception
        base = Exception if issubclass(base, StopIteration) else base  # it would end a check's own loop in silence
        kind = type(name if name.isidentifier() else "Exception", (base,), {"__str__": lambda self: text})
        line = made.get("line")
        program = "raise error"
        if isinstance(line, int) and 0 < line < 10_000:
            linecache.cache[self.file] = (1, None, [f"{t}\n" for t in self.source.split("\n")], self.file)
            program, self.line = "\n" * (line - 1) + program, line
        exec(compile(program, self.file, "exec"), {"error": kind.__new__(kind)})


_KEPT = {kind.__name__: type("Kept", (kind,), {}) for kind in (list, dict, set)}


def _models(args: Any) -> list[Any]:
    return [part for part in args if isinstance(part, torch.nn.Module) and hasattr(part, "hook_points")]


def _points(models: list[Any]) -> Iterator[Any]:
    return (point for model in models for point in model.hook_points())


def _watchers(point: Any) -> list[Callable[..., Any]]:
    """Return what a check has put at a hook point to watch it, beside the model's hooks."""
    own = {handle.hook.id for handle in point.fwd_hooks}
    return [watch for key, watch in point._forward_hooks.items() if key not in own]


def _tell_of_hooks(points: list[Any], seen: list[Any]) -> None:
    """Let those who watch a model know what hooks did in the child: there were so many, and they wrote into an activation."""
    for n, many, written in seen[:MAX_ASKED]:
        point, activation = points[n], torch.zeros(1)
        watchers, own = _watchers(point), list(point.fwd_hooks)
        try:
            point.fwd_hooks.extend([None] * min(int(many), MAX_PARAMETERS))  # a watcher counts them
            for watch in watchers:
                watch(point, None, activation)
        finally:
            point.fwd_hooks[:] = own
        activation += written is True


def _tell_of_calls(called: list[Any]) -> None:
    """Let a check that watches calls know of those in the child; their names are looked up, and nothing is called."""
    if (watch := sys.getprofile()) is None:
        return
    for module, name in called[:MAX_ASKED]:
        function = vars(sys.modules[module]).get(name) if module in sys.modules else None
        if isinstance(function, types.FunctionType):
            watch(types.SimpleNamespace(f_code=inspect.unwrap(function).__code__), "call", None)  # type: ignore[arg-type]


class _Graded(torch.autograd.Function):
    """The child's result, with the gradients that it sent."""

    @staticmethod
    def forward(ctx: Any, result: torch.Tensor, grads: list[Any], *trained: torch.Tensor) -> torch.Tensor:
        ctx.grads = grads
        return result.clone()

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        scale = outer[0].reshape(-1)[0]
        return None, None, *(None if g is None else scale * g for g in ctx.grads)


def _become(was: Any, now: Any) -> None:
    """Change a list, set, dictionary or tensor into what the child made of its copy."""
    if isinstance(was, torch.Tensor) and isinstance(now, torch.Tensor):
        with torch.no_grad():
            was.data = now.detach().clone().to(was.dtype)
            if was.is_leaf and was.is_floating_point():
                was.requires_grad_(now.requires_grad)
    elif isinstance(was, list) and isinstance(now, list):
        was[:] = now
    elif isinstance(was, dict | set) and isinstance(now, type(was)):
        was.clear()
        was.update(now)
    elif isinstance(was, tuple) and isinstance(now, tuple):
        for one, other in zip(was, now, strict=False):
            _become(one, other)
    elif isinstance(now, dict):
        for name, held in checking.tensors_of(was).items():
            _become(held, now.get(name))


# --- one exercise -----------------------------------------------------------------------------------------------------


class _Reached(BaseException):
    """Raised where the notebook calls the check: what it is given is known now."""


def context_of(item: str, names: dict[str, Any], cells: list[str]) -> tuple[Any, ...]:
    """Return what the check of an exercise gets besides the answer, by running the complete notebook up to its call."""
    met: list[Any] = []

    def reached(asked: str, answer: Any = ..., *context: Any) -> None:
        if asked == item:
            met.append(context)
            raise _Reached

    names["check"] = reached
    for source in cells:
        with contextlib.suppress(_Reached), contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, "<complete notebook>", "exec"), names)
        if met:
            return met[0]
    raise RuntimeError(f"the notebook does not check {item}")


def the_real_course() -> None:
    """Replace the stand-in under which the notebook ran by the chapters themselves."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "chapters"]:
        del sys.modules[name]
    import chapters  # noqa: F401


def the_same_models(names: dict[str, Any]) -> None:
    """Let a check that brings a model along get the one that its children have, too."""
    from chapters import drawn

    other = drawn.other
    drawn.other = lambda name: names.get(f"model {name}") or other(name)


@dataclasses.dataclass(frozen=True)
class Draws:
    """Which numbers a check draws instead of its own: `shift` reseeds what is random, `apart` moves its numbered inputs."""

    shift: int
    apart: int


@contextlib.contextmanager
def other_draws(asked: registry.Exercise, other: Draws) -> Iterator[None]:
    """Let a check draw other random tensors, inputs and counts."""
    inputs, own = asked.inputs, random.Random

    class Reseeded(own):  # type: ignore[misc, valid-type]
        def __init__(self, seed: Any = None) -> None:
            super().__init__(f"{other.shift} {seed}")

    moved = inputs and (lambda n, *context: inputs(n + other.apart, *context))
    registry.EXERCISES[asked.id], expect._shift = dataclasses.replace(asked, inputs=moved), other.shift
    random.Random = Reseeded  # type: ignore[misc]
    try:
        yield
    finally:
        registry.EXERCISES[asked.id], expect._shift, random.Random = asked, 0, own  # type: ignore[misc]


def usable_draws(item: str, seed: int, context: tuple[Any, ...], names: dict[str, Any]) -> list[Draws]:
    """Return three draws from a seed for which the worked answer is right.

    Where a check cannot take inputs with far numbers (a prompt grows with it), it gets nearer ones.
    """
    asked, draw = registry.find(registry.EXERCISES, item), random.Random(f"{seed} {item}")
    right = checking.reference(item, context, names)
    found: list[Draws] = []
    for apart in (SEEDS_APART * draw.randrange(1, 1000), 12, 0):
        for _ in range(5):
            other = Draws(draw.randrange(10**5, 10**6), apart)
            with other_draws(asked, other):
                if checking.judge(item, right, *context).state == "done":
                    found.append(other)
                elif not found:
                    break
            if len(found) == 3:
                return found
    if not found:
        raise RuntimeError(f"{item}: the worked answer fails its own check on other inputs")
    return found


def _on(draws: Draws, asked: registry.Exercise, answer: Any, context: tuple[Any, ...]) -> checking.Verdict:
    with other_draws(asked, draws):
        return checking.judge(asked.id, answer, *context)


def verdict(item: str, remote: Remote, order: dict[str, Any], context: tuple[Any, ...], draws: list[Draws]) -> Result:
    """Return what the course's check says to one answer, on its own inputs and on others."""
    asked = registry.find(registry.EXERCISES, item)
    try:
        answer = remote.started([*order["helpers"], order["source"]], order["name"])
    except registry.Wrong as wrong:
        return Result("wrong", checking._wrong(item, wrong).message)
    except (Exception, SystemExit) as error:
        where = f"line {remote.line} of your cell" if remote.line else ""
        raised = registry.Wrong(f"your cell raised {type(error).__name__}: {error}", "run it by itself.", where=where)
        return Result("wrong", checking._wrong(item, raised).message)
    said = checking.judge(item, answer, *context)
    if said.state == "done":
        again = _on(draws[0], asked, answer, context)
        # a check that compares random intervals errs on one draw in thirty: refused is what fails on another one, too
        if again.state != "done" and any(
            _on(other, asked, answer, context).state != "done" for other in draws[1:] or draws
        ):
            said = again
    return Result({"done": "done", "wrong": "wrong"}.get(said.state, "open"), said.message)


def mark(
    item: str,
    order: dict[str, Any],
    spawn: Callable[[], Any],
    names: dict[str, Any],
    context: Any,
    draws: list[Draws],
    limits: Limits,
) -> Result:
    """Return the result for one learner's answer, run in a child that `spawn` makes and `end` ends."""
    child = spawn()
    channel = Channel(child.socket)
    channel.deadline = time.monotonic() + limits.wall_s
    remote = Remote(channel, names, order["source"], f"<exercise {item}>")
    try:
        hello = channel.receive(Reader())
        if not isinstance(hello, dict) or hello.get("ready") is not True:
            raise Refused("no greeting")
    except (Lost, Refused):
        ended = child.end()
        return Result(
            "regrade", f"{item}: the child did not start ({ended.get('why') or 'no reason given'}): mark again."
        )
    lost = ""
    try:
        signal.setitimer(signal.ITIMER_REAL, 2 * limits.wall_s)  # what it sent may keep the check itself busy
        with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()):
            result = verdict(item, remote, order, context, draws)
    except Lost as why:
        lost, result = str(why), Result("crash")
    except NotSent as why:
        result = Result("regrade", f"{item}: {why}: please report it.")
    except (Refused, MemoryError) as why:
        result = Result("refused", f"{item}: the answer sent something that is no answer ({why}).")
    except RecursionError:
        result = Result("refused", f"{item}: the answer's result is nested too deeply.")
    except Exception as error:  # whatever happened, the bench waits for the child's end
        result = Result("regrade", f"{item}: the judge failed ({type(error).__name__}: {error}): mark again.")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        remote.put_back()
    ended = child.end()
    result.cpu_s = round(ended.get("cpu", 0.0), 2)
    if lost:
        return _after_loss(item, lost, ended, limits, result)
    result.message = result.message[:MAX_MESSAGE]
    return result


def _after_loss(item: str, lost: str, ended: dict[str, Any], limits: Limits, result: Result) -> Result:
    if lost == "late" or (result.cpu_s >= limits.cpu_s - 1 and ended.get("signal") in (9, 24)):
        within = f"{limits.cpu_s:g} s of computing, {limits.wall_s:g} s in all"
        what = f"{item}: no result within {within}: an endless loop, or a sleep?"
        return Result("timeout", what, result.cpu_s)
    return Result("crash", f"{item}: your code ended its process ({_how(ended)}).", result.cpu_s)


def _how(ended: dict[str, Any]) -> str:
    return f"signal {ended['signal']}" if ended.get("signal") else f"exit status {ended.get('status', '?')}"


# --- the process ------------------------------------------------------------------------------------------------------


class Child:
    """A learner's child as the bench made it."""

    def __init__(self, bench: socket.socket) -> None:
        self.bench = bench
        bench.sendall(b"s")
        message, handles, _, _ = socket.recv_fds(bench, 1, 1)
        if not message or not handles:
            raise RuntimeError("the bench makes no children")
        self.socket = socket.socket(fileno=handles[0])

    def end(self) -> dict[str, Any]:
        """End the child and all it started; return how it ended."""
        self.bench.sendall(b"e")
        size = int.from_bytes(_read(self.bench, 4), "big")
        self.socket.close()
        return json.loads(_read(self.bench, size))


def _too_late(*_: object) -> None:
    raise Lost("late")


def _read(end: socket.socket, n: int) -> bytes:
    parts = b""
    while len(parts) < n:
        if not (part := end.recv(n - len(parts))):
            raise RuntimeError("the bench is gone")
        parts += part
    return parts


def run(bench: socket.socket, names: dict[str, Any], order: dict[str, Any], start: int = 0, why: str = "") -> None:
    """Judge all answers to one exercise that an order lists; append a line of JSON for each to its file.

    Args:
        bench: where children are asked for.
        names: the notebook's names.
        order: what to judge, from `marking`.
        start: the first answer to judge: a judge before this one was lost with the one before it.
        why: how that judge was lost, "late" or "died".
    """
    item, limits, path = order["item"], Limits(**order["limits"]), Path(order["results"])
    signal.signal(signal.SIGALRM, _too_late)
    told = path.read_text(encoding="utf-8") if start else ""
    with path.open("a", encoding="utf-8") as results:
        results.write("\n" if start else "")  # the last line may have been cut off

        def tell(answer: dict[str, Any], result: Result, begun: float) -> None:
            wall = round(time.monotonic() - begun, 2)
            line = dataclasses.asdict(result) | {"key": answer["key"], "item": item, "wall_s": wall}
            results.write(json.dumps(line) + "\n")
            results.flush()

        for answer in order["answers"][:start]:
            if f'"key": "{answer["key"]}", "item"' not in told:
                tell(answer, _lost(item, why), time.monotonic())
        if start == len(order["answers"]):
            return
        try:
            kept = dict(names)  # what children hold as well, by the same names
            context = context_of(item, names, order["cells"])
            the_real_course()
            the_same_models(kept)
            draws = usable_draws(item, order["seed"], context, names)
            problem = ""
        except Exception as error:
            problem = f"{item}: the teacher's own run failed ({type(error).__name__}: {error}): mark again."
        for answer in order["answers"][start:]:
            begun = time.monotonic()
            if problem:
                result = Result("regrade", problem[:MAX_MESSAGE])
            else:
                result = mark(item, answer, lambda: Child(bench), kept, context, draws, limits)
            tell(answer, result, begun)


def _lost(item: str, why: str) -> Result:
    """Return the result for the answer with which a judge was lost."""
    if why == "late":
        return Result("timeout", f"{item}: checking what your answer gives never ended: return a plain, small value.")
    return Result("regrade", f"{item}: the judge died at this answer: mark again.")
