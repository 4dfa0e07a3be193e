"""The library stays small, its imports go downwards, and nothing in it waits for a caller."""

import ast
from statistics import median

import pytest

from tools import house

OUTSIDE = {"chapters", "tests", "factory", "examination", "benchmarks", "tools", "lab", "viewer"}
LEVELS = (  # a module imports only from lines above its own
    {"organism"},
    {"adapters", "hub", "judging", "packed", "store", "tokens", "profiles"},
    {"models", "data"},
    {"caching", "directions"},
    {"tuning", "steering", "features", "lenses"},
    {"abliteration", "attribution", "patching", "edges", "probing"},
    {"backdoors"},
    {"plotting", "grading"},
)
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
SAME_LEVEL = {
    ("models", "data"),
    ("packed", "adapters"),
    ("profiles", "judging"),
    ("profiles", "tokens"),
    ("patching", "attribution"),
    ("edges", "attribution"),
    ("edges", "patching"),
}  # (importer, imported)
ONLY_IN = {"plotly": "plotting", "sae_lens": "features"}
MAX_VIEWER_LINES = 540
RUNS_THE_LEARNERS_CODE = "grading/checking.py"  # which may raise anything, and the notebook must go on
TREES = {
    path.relative_to(house.LIBRARY).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(house.LIBRARY.rglob("*.py"))
}


def imported(tree):
    """Every imported module or name by its full dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or '.'}.{alias.name}" for alias in node.names)


def broken_imports(module, tree):
    """What is wrong with the imports of one module."""
    for name in imported(tree):
        top, *rest = name.split(".")
        if top in OUTSIDE or not top:
            yield f"{module} may not import {name}"
        if ONLY_IN.get(top, module) != module:
            yield f"{module} may not import {top}: only {ONLY_IN[top]} knows it"
        other = rest[0] if top == "course_lib" else module
        if other != module and LEVEL[other] >= LEVEL[module] and (module, other) not in SAME_LEVEL:
            yield f"{module} may not import {other}"


def test_the_library_is_as_small_as_it_says(record_property):
    sizes = house.sizes()
    record_property(
        "report",
        f"course_lib: {sum(sizes.values())} code lines of at most {house.MAX_LINES}, "
        f"largest file {max(sizes, key=sizes.get)} with {max(sizes.values())}",
    )
    assert sum(sizes.values()) <= house.MAX_LINES
    assert max(sizes.values()) <= house.MAX_FILE_LINES
    assert {name.split("/")[0] for name in sizes if "/" in name} <= {"grading"}


def test_every_name_is_called_by_a_chapter_the_factory_the_examination_or_a_benchmark():
    assert house.idle() + house.idle_methods() == []


def test_imports_go_downwards_only():
    assert [
        problem
        for name, tree in TREES.items()
        for problem in broken_imports(name.split("/")[0].removesuffix(".py"), tree)
        if name != "__init__.py"
    ] == []


@pytest.mark.parametrize(
    ("module", "planted"),
    [
        ("directions", "from course_lib import steering"),
        ("directions", "import course_lib.grading"),
        ("directions", "def later():\n    from course_lib.plotting import show"),
        ("data", "from factory import world"),
        ("models", "import plotly.graph_objects as go"),
        ("directions", "def load():\n    import sae_lens"),
    ],
)
def test_a_planted_upward_or_foreign_import_is_caught(module, planted):
    assert len(list(broken_imports(module, ast.parse(planted)))) == 1


def test_a_name_that_only_a_page_or_a_test_mentions_is_caught(tmp_path, monkeypatch):
    (tmp_path / "course_lib").mkdir()
    (tmp_path / "course_lib" / "tool.py").write_text(
        "LIMIT = 3\n\ndef used():\n    return _own() + LIMIT\n\ndef _own():\n    return 1\n\n"
        "def forgotten():\n    return LIMIT\n",
        encoding="utf-8",
    )
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "run.py").write_text("from course_lib import tool\ntool.used()\n", encoding="utf-8")
    monkeypatch.setattr(house, "ROOT", tmp_path)
    monkeypatch.setattr(house, "LIBRARY", tmp_path / "course_lib")
    assert house.idle() == ["tool.forgotten"]


def test_the_viewer_stays_beside_the_library_and_small(record_property):
    sources = {path.name: path.read_text(encoding="utf-8") for path in sorted((house.ROOT / "viewer").glob("*.py"))}
    lines = sum(len(house.code_lines(source)) for source in sources.values())
    record_property("report", f"viewer: {lines} code lines of at most {MAX_VIEWER_LINES}")
    assert lines <= MAX_VIEWER_LINES
    tops = {name.split(".")[0] for source in sources.values() for name in imported(ast.parse(source))}
    assert tops & (OUTSIDE | {"course"}) == {"viewer"}


def test_functions_are_short():
    functions = [
        (name, node) for name, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    ]
    lengths = sorted(
        node.end_lineno - node.body[bool(ast.get_docstring(node))].lineno + 1 if len(node.body) > 1 else 1
        for _, node in functions
    )
    assert median(lengths) <= 12 and lengths[int(0.95 * len(lengths))] <= 50 and max(lengths) <= 60


def test_only_grading_prints_and_no_error_is_swallowed_wholesale():
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                assert name.startswith("grading/"), f"{name} prints"
            if isinstance(node, ast.ExceptHandler) and name != RUNS_THE_LEARNERS_CODE:
                caught = {
                    part.id for part in ast.walk(node.type or ast.Name("BaseException")) if isinstance(part, ast.Name)
                }
                assert not caught & {"Exception", "BaseException"}, f"{name} swallows every error"
