"""Mistakes written by a machine: every small change of every worked answer, each put to its exercise's check.

    python -m tools.mutants            all exercises
    python -m tools.mutants 01 5.4     those of chapter 01, and exercise 5.4

A check that accepts a changed answer has a hole, unless the change makes no difference. Those that make none stand, with
the reason, in `equivalents.toml` beside the exercises; all others are listed, and the exit status is 1.
"""

import ast
import contextlib
import copy
import importlib
import io
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
TIME_LIMIT_S = 2.0
"""Of CPU time, for one check of one mutant, or four times what the worked answer takes; a learner would notice, so what
takes longer counts as rejected."""
LONGEST = 24
"""Places, rows, runs: what a notebook's own data has no more of, where a constant of it may stand for the argument's length."""
WIDEST, LARGEST = 64, 100.0
"""Entries of the last axis, and size of a number, that a learner may take for all there are."""
ARGUMENTS = {
    "_beginning": f"only the first {LONGEST} of",
    "_columns": f"only the first {WIDEST} columns of",
    "_once": "each but once in",
    "_in_order": "sorted",
    "_coarse": "one decimal of",
    "_cut": f"cut off at {LARGEST:g} and -{LARGEST:g}:",
}
"""What a careless answer may make of an argument, in words: right on a notebook's own data, and wrong on others."""
OTHER_COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt, ast.GtE, ast.Eq),
    ast.LtE: (ast.Lt, ast.Gt, ast.GtE, ast.Eq),
    ast.Gt: (ast.GtE, ast.Lt, ast.LtE, ast.Eq),
    ast.GtE: (ast.Gt, ast.Lt, ast.LtE, ast.Eq),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OTHER_OPERATORS = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult, ast.Sub),
    ast.Pow: (ast.Mult,),
    ast.MatMult: (ast.Mult,),
}
IN_PLACE = {
    ast.Add: "__iadd__",
    ast.Sub: "__isub__",
    ast.Mult: "__imul__",
    ast.Div: "__itruediv__",
    ast.Pow: "__ipow__",
    ast.MatMult: "__imatmul__",
}
OTHER_NAMES = {
    "mean": ("sum", "median"),
    "sum": ("mean", "max"),
    "min": ("max",),
    "max": ("min",),
    "log_softmax": ("softmax",),
    "logsigmoid": ("sigmoid",),
    "startswith": ("endswith",),
    "any": ("all",),
    "all": ("any",),
}


@dataclass(frozen=True)
class Mutant:
    """One changed answer: what was changed, and the text of the whole."""

    change: str
    code: str


# --- what a changed answer calls ------------------------------------------------------------------------------------


def _clamped(value: Any) -> Any:
    return value.clamp(min=0) if isinstance(value, torch.Tensor) else max(value, 0)


def _detached(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        raise _SameProgramError
    return value.detach()


def _in_place(operator: str, left: Any, right: Any) -> Any:
    if not isinstance(left, torch.Tensor | list | set | dict):
        raise _SameProgramError
    return getattr(left, operator)(right)


def _spoilt(value: Any, result: Any) -> Any:
    """Change an argument in place, as a careless answer does on its way, and hand on the right result."""
    if isinstance(value, torch.Tensor):
        value.copy_(~value if value.dtype == torch.bool else value + 1)
    elif isinstance(value, list):
        value.reverse() if len(value) > 1 and value != value[::-1] else value.append(value[0] if value else 0)
    elif isinstance(value, dict):
        value.pop(next(iter(value)), None)
    else:
        raise _SameProgramError
    return result


def _beginning(value: Any) -> Any:
    """Return what a loop over a fixed number of places would see, a number that is enough for the notebook's own data."""
    if isinstance(value, dict) and all(isinstance(each, torch.Tensor) for each in value.values()):
        return dict(list(value.items())[:LONGEST])
    if isinstance(value, dict) and any(isinstance(each, list) for each in value.values()):
        return {key: each[:LONGEST] if isinstance(each, list) else each for key, each in value.items()}
    if isinstance(value, list | tuple) or (isinstance(value, torch.Tensor) and value.ndim):
        return value[:LONGEST]
    if isinstance(value, str):
        return value[: 8 * LONGEST]
    raise _SameProgramError


def _columns(value: Any) -> Any:
    """Return a tensor without what stands behind the width of a head, the rest put to 0."""
    if not isinstance(value, torch.Tensor) or not value.ndim:
        raise _SameProgramError
    kept = value.clone()
    kept[..., WIDEST:] = 0
    return kept


def _once(value: Any) -> Any:
    """Return a list, or the rows of a tensor, each but once, as a set or a dictionary would keep them."""
    if isinstance(value, torch.Tensor) and value.ndim:
        first = {row.numpy().tobytes(): k for k, row in reversed(list(enumerate(value.detach().contiguous())))}
        return value[sorted(first.values())]
    if isinstance(value, list | tuple):
        first = {repr(each): k for k, each in reversed(list(enumerate(value)))}
        return type(value)(value[k] for k in sorted(first.values()))
    raise _SameProgramError


def _in_order(value: Any) -> Any:
    """Return a list, or a tensor of one axis, sorted."""
    if isinstance(value, torch.Tensor) and value.ndim == 1:
        return value.sort().values
    if isinstance(value, list | tuple):
        with contextlib.suppress(TypeError, RuntimeError):
            return type(value)(sorted(value))
    raise _SameProgramError


def _on_numbers(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], Any]:
    """Return a change of a float, a tensor of floats, or a list or dictionary of them."""

    def changed(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return change(value)
        if isinstance(value, float):
            return float(change(torch.tensor(value, dtype=torch.float64)))
        if isinstance(value, dict):
            return {key: changed(part) for key, part in value.items()}
        if isinstance(value, list | tuple) and value:
            return type(value)(map(changed, value))
        raise _SameProgramError

    return changed


class _SameProgramError(BaseException):
    """Raised by a change that does nothing here, such as an in-place sum of two numbers: no mutant at all."""


HELPERS = {
    "_beginning": _beginning,
    "_columns": _columns,
    "_once": _once,
    "_in_order": _in_order,
    "_coarse": _on_numbers(lambda x: x.round(decimals=1)),
    "_cut": _on_numbers(lambda x: x.clamp(-LARGEST, LARGEST)),
    "_clamped": _clamped,
    "_detached": _detached,
    "_in_place": _in_place,
    "_spoilt": _spoilt,
    "_deepcopy": copy.deepcopy,
}


# --- the changes ----------------------------------------------------------------------------------------------------


def mutants(code: str, answer: str) -> Iterator[Mutant]:
    """Yield every small change of the function `answer` in a piece of code, each once."""
    tree = ast.parse(code)
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == answer)
    seen, times = {ast.unparse(tree)}, Counter[str]()
    for old, new, what in [*_of_function(function), *_of_parts(function)]:
        changed = ast.unparse(_replaced(tree, old, new))
        if changed in seen:
            continue
        seen.add(changed)
        times[what] += 1
        yield Mutant(what if times[what] == 1 else f"{what} ({times[what]})", changed)


def _replaced(tree: ast.AST, old: ast.AST, new: ast.AST) -> ast.AST:
    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return new if node is old else self.generic_visit(node)

    memo = {id(old): old}  # the copy keeps `old` itself, so that it is found there
    return ast.fix_missing_locations(Replace().visit(copy.deepcopy(tree, memo)))


def _of_function(function: ast.FunctionDef) -> Iterator[tuple[ast.AST, ast.AST, str]]:
    """Yield changes of the arguments: exchanged, taken from the first call, changed in place; and of all results."""
    names = [a.arg for a in function.args.args]
    for one, other in zip(names, names[1:], strict=False):
        swap = ast.parse(f"{one}, {other} = {other}, {one}").body
        yield function, _with_body(function, [*swap, *function.body]), f"arguments {one} and {other} exchanged"
    for name in names:
        first = ast.parse(f"{name} = _first.setdefault({name!r}, {name})").body
        yield function, _with_body(function, [*first, *function.body]), f"a global for the argument {name}"
        for change, what in ARGUMENTS.items():
            begin = ast.parse(f"{name} = {change}({name})").body
            yield function, _with_body(function, [*begin, *function.body]), f"{what} {name}"
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value:
            text = ast.unparse(node.value)
            for name in names:
                yield (
                    node,
                    ast.parse(f"return _spoilt({name}, {text})", mode="exec").body[0],
                    f"{name} changed in place, then return {text}",
                )
            yield node, ast.parse(f"return _detached({text})").body[0], f"return {text} without its gradient"


def _with_body(function: ast.FunctionDef, body: list[ast.stmt]) -> ast.FunctionDef:
    return ast.FunctionDef(function.name, function.args, body, [], None, None)


def _of_parts(function: ast.FunctionDef) -> Iterator[tuple[ast.AST, ast.AST, str]]:
    parents = {id(child): node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}
    arguments = {a.arg for a in function.args.args}
    for node in ast.walk(function):
        if isinstance(node, ast.expr) and not _is_docstring(node, parents):
            for new in _changed_expression(node, parents.get(id(node)), arguments):
                yield node, new, f"{ast.unparse(node)} -> {ast.unparse(new)}"
        elif isinstance(node, ast.If | ast.While):
            for test in (ast.Constant(True), ast.Constant(False)):
                if not isinstance(node, ast.While) or test.value is False:
                    new = copy.copy(node)
                    new.test = test
                    yield node, new, f"if {ast.unparse(node.test)} -> if {test.value}"
        elif isinstance(node, ast.For | ast.comprehension):
            for cut, what in (("[1:]", "without the first"), ("[:-1]", "without the last"), ("[::-1]", "backwards")):
                new = copy.copy(node)
                new.iter = ast.parse(f"list({ast.unparse(node.iter)}){cut}", mode="eval").body
                yield node, new, f"for ... in {ast.unparse(node.iter)}, {what}"
            for dropped in getattr(node, "ifs", ()):
                new = copy.copy(node)
                new.ifs = [test for test in node.ifs if test is not dropped]
                yield node, new, f"filter {ast.unparse(dropped)} dropped"
        elif isinstance(node, ast.AugAssign):
            for operator in OTHER_OPERATORS.get(type(node.op), ()):
                new = copy.copy(node)
                new.op = operator()
                yield node, new, f"{ast.unparse(node)} -> {ast.unparse(new)}"


def _is_docstring(node: ast.expr, parents: dict[int, ast.AST]) -> bool:
    return isinstance(node, ast.Constant) and isinstance(
        parents.get(id(node)), ast.Expr | ast.JoinedStr | ast.FormattedValue
    )


def _changed_expression(node: ast.expr, parent: ast.AST | None, arguments: set[str]) -> Iterator[ast.expr]:
    match node:
        case ast.BinOp():
            yield from (node.left, node.right)
            yield from (ast.BinOp(node.left, op(), node.right) for op in OTHER_OPERATORS.get(type(node.op), ()))
            if isinstance(node.op, ast.Sub | ast.Div | ast.Pow | ast.MatMult):
                yield ast.BinOp(node.right, node.op, node.left)
            if isinstance(node.left, ast.Name) and node.left.id in arguments and type(node.op) in IN_PLACE:
                special = IN_PLACE[type(node.op)]
                yield _call("_in_place", ast.Constant(special), node.left, node.right)
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
            for dropped in node.values:
                rest = [value for value in node.values if value is not dropped]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        case ast.Compare(ops=[op]):
            yield from (
                ast.Compare(node.left, [other()], node.comparators) for other in OTHER_COMPARISONS.get(type(op), ())
            )
            yield from (ast.Constant(True), ast.Constant(False))
        case ast.IfExp():
            yield from (node.body, node.orelse, ast.IfExp(node.test, node.orelse, node.body))
        case ast.UnaryOp(op=ast.USub()):
            yield node.operand
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int()):
            yield from (ast.Constant(node.value + 1), ast.Constant(node.value - 1))
            if isinstance(parent, ast.Subscript | ast.keyword | ast.Tuple):
                yield ast.Constant(-1 - node.value)
        case ast.Constant(value=float()):
            yield from (ast.Constant(node.value * factor) for factor in (0.5, 1.1, 2))
        case ast.Constant(value=str()) if len(node.value.split()) > 1:
            yield from (ast.Constant(node.value.split()[0]), ast.Constant(node.value.split()[-1]))
        case ast.Call():
            yield from _changed_call(node)
        case ast.Subscript(slice=ast.Tuple(elts=parts)):
            for dropped in parts:
                if isinstance(dropped, ast.Slice) or (isinstance(dropped, ast.Constant) and dropped.value is None):
                    rest = [part for part in parts if part is not dropped]
                    yield ast.Subscript(
                        node.value, rest[0] if len(rest) == 1 else ast.Tuple(rest, ast.Load()), node.ctx
                    )
            yield ast.Subscript(node.value, ast.Tuple(parts[::-1], ast.Load()), node.ctx)
    if _is_value(node, parent):
        yield from (ast.UnaryOp(ast.USub(), node), _call("abs", node), _call("_clamped", node))


def _changed_call(node: ast.Call) -> Iterator[ast.expr]:
    for k in range(len(node.args) - 1):
        yield ast.Call(node.func, [*node.args[:k], node.args[k + 1], node.args[k], *node.args[k + 2 :]], node.keywords)
    for dropped in node.keywords:
        yield ast.Call(node.func, node.args, [word for word in node.keywords if word is not dropped])
    called = node.func
    if isinstance(called, ast.Attribute):
        yield from (
            _renamed(node, ast.Attribute(called.value, name, ast.Load())) for name in OTHER_NAMES.get(called.attr, ())
        )
        if not isinstance(called.value, ast.Name) or called.value.id not in {"torch", "directions", "steering"}:
            yield called.value
    if isinstance(called, ast.Name):
        yield from (_renamed(node, ast.Name(name, ast.Load())) for name in OTHER_NAMES.get(called.id, ()))
    if len(node.args) == 1 and not isinstance(node.args[0], ast.GeneratorExp | ast.Starred):
        yield node.args[0]


def _renamed(node: ast.Call, called: ast.expr) -> ast.Call:
    return ast.Call(called, node.args, node.keywords)


def _call(name: str, *inputs: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(inputs), [])


def _is_value(node: ast.expr, parent: ast.AST | None) -> bool:
    """Return whether an expression may be a number or tensor that a change of sign would alter."""
    if isinstance(
        parent, ast.Attribute | ast.JoinedStr | ast.FormattedValue | ast.withitem | ast.For | ast.comprehension
    ):
        return isinstance(parent, ast.Attribute) and isinstance(node, ast.BinOp | ast.Call)
    if isinstance(parent, ast.Call) and parent.func is node:
        return False
    if isinstance(node, ast.Name):
        return isinstance(node.ctx, ast.Load) and node.id not in {
            "torch",
            "directions",
            "steering",
            "dictionary",
            "model",
        }
    return isinstance(node, ast.BinOp | ast.Call | ast.Subscript) and not isinstance(
        getattr(node, "ctx", None), ast.Store
    )


# --- put to the checks ----------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What the check of one exercise made of its mutants."""

    item: str
    made: int
    accepted: list[Mutant]
    equivalent: dict[str, str]

    @property
    def holes(self) -> list[Mutant]:
        """The accepted mutants that are not known to make no difference."""
        return [mutant for mutant in self.accepted if mutant.change not in self.equivalent]

    @property
    def stale(self) -> list[str]:
        """The changes that are noted as making no difference, and are refused or made no longer."""
        return sorted(set(self.equivalent) - {mutant.change for mutant in self.accepted})


def exercises() -> list[str]:
    """Return the ids of all exercises whose answer is a function."""
    importlib.import_module("chapters")
    from course_lib.grading.registry import MODULES, references

    found = [(item, worked) for chapter in sorted(MODULES) for item, worked in references(chapter).items()]
    return [item for item, worked in found if f"def {worked['answer']}(" in "\n".join(worked["code"])]


def put_to_check(item: str) -> Outcome:
    """Return what the check of an exercise makes of every change of its worked answer."""
    from course_lib.grading import checking, registry

    chapter = registry.chapter_of(item)
    bank = importlib.import_module(registry.MODULES[chapter].replace("exercises", "answers"))
    context = tuple(getattr(bank, "CONTEXT", {}).get(item, tuple)())
    worked, notebook = registry.references(chapter)[item], getattr(bank, "NOTEBOOK", {}).get(item, {})
    outcome = Outcome(item, 0, [], equivalents(chapter).get(item, {}))
    for _ in range(2):  # what loads slowly, such as models, is loaded in the first
        start = time.process_time()
        checking.judge(item, checking.reference(item, context, notebook), *context)
    limit = max(TIME_LIMIT_S, 4 * (time.process_time() - start))
    for mutant in mutants("\n".join(worked["code"]), worked["answer"]):
        names = notebook | dict(zip(worked["context"], context, strict=True)) | HELPERS | {"_first": {}}
        exec(compile(mutant.code, "<mutant>", "exec"), names)
        try:
            state = _within_time(lambda f=names[worked["answer"]]: checking.judge(item, f, *context).state, limit)
        except _SameProgramError:
            continue
        outcome.made += 1
        if state == "done":
            outcome.accepted.append(mutant)
    return outcome


def equivalents(chapter: int) -> dict[str, dict[str, str]]:
    """Return the changes of a chapter's answers that make no difference: exercise -> change -> why.

    The file has a table an exercise, and in it each reason with the list of changes that it explains.
    """
    path = next((ROOT / "chapters").glob(f"{chapter:02d}_*")) / "equivalents.toml"
    tables = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {
        item: {change: why for why, changes in reasons.items() for change in changes}
        for item, reasons in tables.items()
    }


def _within_time(run: Callable[[], str], limit: float) -> str:
    def stop(_: int, __: FrameType | None) -> None:
        raise TimeoutError

    signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return run()
    except TimeoutError:
        return "wrong"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def main(wanted: list[str]) -> int:
    """Run the command; return its exit status."""
    chosen = [i for i in exercises() if not wanted or i in wanted or f"{int(i.split('.')[0]):02d}" in wanted]
    outcomes = []
    for item in chosen:
        outcomes.append(outcome := put_to_check(item))
        print(_line(item, [outcome]), flush=True)
        for mutant in outcome.holes:
            print(f"    accepted: {mutant.change}")
        for change in outcome.stale:
            print(f"    noted as equivalent, and is none: {change}")
    print(_line(f"{len(chosen)} exercises", outcomes))
    return 1 if any(outcome.holes or outcome.stale for outcome in outcomes) else 0


def _line(name: str, outcomes: list[Outcome]) -> str:
    made, accepted, holes = (
        sum(map(count, outcomes)) for count in (lambda o: o.made, lambda o: len(o.accepted), lambda o: len(o.holes))
    )
    return f"{name}: {made - accepted} of {made - accepted + holes} mutants rejected, {accepted - holes} more are equivalent"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
