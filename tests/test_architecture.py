"""The rooms of course_lib import downwards only, stay small, and keep to the house rules."""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "course_lib"
FLOORS = {
    "plotting": 5,
    "grading": 5,
    "steering": 4,
    "abliteration": 4,
    "features": 4,
    "attribution": 4,
    "tuning": 4,
    "probing": 4,
    "backdoors": 4,
    "directions": 3,
    "caching": 3,
    "models": 2,
    "data": 2,
    "store": 2,
    "tokens": 1,
    "shipped": 1,
    "profiles": 1,
    "hub": 1,
}
OUTSIDE = {"notebooks", "solutions", "tests", "organisms", "benchmarks"}
RUNS_THE_LEARNERS_CODE = "grading/checking.py"  # which may raise anything, and the notebook must go on
ONLY_IN = {"plotly": "plotting", "circuitsvis": "plotting", "sae_lens": "features"}

FILES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(LIBRARY.rglob("*.py"))}
EVERY_FILE = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(LIBRARY).as_posix())


def room_of(path: Path) -> str:
    """The room of a file: its name, or the name of the folder when a room has several files."""
    return path.relative_to(LIBRARY).with_suffix("").parts[0]


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Every imported module by its full dotted name; `package` is where `from . import x` starts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def broken_rules(tree: ast.AST, room: str, package: str = "course_lib") -> list[str]:
    """What is wrong with the imports of one file of a room."""
    problems = []
    for name in imported(tree, package):
        top, *rest = name.split(".")
        if top in OUTSIDE:
            problems.append(f"{room} may not import from {top}")
        if ONLY_IN.get(top, room) != room:
            problems.append(f"{room} may not import {top}: only {ONLY_IN[top]} knows it")
        other = rest[0] if top == "course_lib" and rest else room
        if other != room and FLOORS[other] >= FLOORS[room]:
            problems.append(f"{room} (floor {FLOORS[room]}) may not import {other} (floor {FLOORS[other]})")
    return problems


def length(function: ast.FunctionDef) -> int:
    """Lines from `def` to the end, without the docstring."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function) is not None
    docstring = first.end_lineno - first.lineno + 1 if has_docstring else 0
    return function.end_lineno - function.lineno + 1 - docstring


def functions() -> dict[str, ast.FunctionDef]:
    return {
        f"{path.relative_to(LIBRARY).as_posix()}:{node.name}:{node.lineno}": node
        for path, tree in FILES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_room_has_a_floor():
    assert {room_of(path) for path in FILES} - {"__init__"} <= set(FLOORS)


def test_the_package_itself_is_only_a_docstring():
    body = FILES[LIBRARY / "__init__.py"].body
    assert len(body) == 1 and isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str)


@EVERY_FILE
def test_imports_go_downwards_only_and_keep_to_the_house(path):
    package = ".".join(path.relative_to(ROOT).parent.parts)
    if path != LIBRARY / "__init__.py":
        assert broken_rules(FILES[path], room_of(path), package) == []


@pytest.mark.parametrize(
    ("room", "planted"),
    [
        ("directions", "from course_lib import steering"),
        ("directions", "import course_lib.grading"),
        ("directions", "def later():\n    from course_lib.plotting import show"),
        ("directions", "from . import steering"),
        ("grading", "from ..plotting import show"),
        ("caching", "from course_lib import directions"),
        ("data", "from organisms import language"),
        ("steering", "import tests.helpers"),
        ("models", "import plotly.graph_objects as go"),
        ("grading", "from circuitsvis.tokens import colored_tokens"),
        ("directions", "def load():\n    import sae_lens"),
    ],
)
def test_a_planted_upward_sideways_or_foreign_import_is_caught(room, planted):
    package = "course_lib.grading" if room == "grading" else "course_lib"
    assert len(broken_rules(ast.parse(planted), room, package)) == 1


def test_a_downward_import_is_allowed():
    source = "import torch\nfrom course_lib import directions, models\nfrom . import tokens\n"
    assert broken_rules(ast.parse(source), "steering") == []


def test_functions_are_short():
    lengths = sorted(length(function) for function in functions().values())
    assert median(lengths) <= 12
    assert lengths[int(0.95 * len(lengths))] <= 50
    assert {name: length(function) for name, function in functions().items() if length(function) > 60} == {}


@EVERY_FILE
def test_nothing_is_printed_outside_grading(path):
    calls = [node.func for node in ast.walk(FILES[path]) if isinstance(node, ast.Call)]
    printing = [call.lineno for call in calls if isinstance(call, ast.Name) and call.id == "print"]
    assert room_of(path) == "grading" or printing == []


@EVERY_FILE
def test_no_error_is_swallowed_wholesale(path):
    handlers = [node for node in ast.walk(FILES[path]) if isinstance(node, ast.ExceptHandler)]
    caught = {name.id for handler in handlers for name in ast.walk(handler) if isinstance(name, ast.Name)}
    assert all(handler.type for handler in handlers), "a bare except also stops Ctrl+C"
    allowed = {"Exception"} if path.relative_to(LIBRARY).as_posix() == RUNS_THE_LEARNERS_CODE else set()
    assert caught & {"Exception", "BaseException"} <= allowed


def exported(path: Path) -> set[str]:
    """Names that a room of several files offers, from its `__all__`."""
    for node in FILES[path.parent / "__init__.py"].body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


@EVERY_FILE
def test_public_functions_spell_out_their_arguments(path):
    for node in FILES[path].body:
        public = isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
        if public and (path.parent == LIBRARY or node.name in exported(path)):
            defaults = [*node.args.defaults, *node.args.kw_defaults]
            shared = [d for d in defaults if isinstance(d, ast.List | ast.Dict | ast.Set | ast.Call)]
            assert not shared, f"{node.name} has a default that is made once and shared by all calls"
            assert node.args.kwarg is None, f"{node.name} takes any keyword: name them"


@EVERY_FILE
def test_nothing_is_imported_by_star(path):
    assert not [name for name in imported(FILES[path], "course_lib") if name.endswith("*")]
