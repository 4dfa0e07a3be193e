"""How large the library is, and what of it nobody calls: `python -m tools.house`.

A public name lives if a chapter, the factory, the examination or a benchmark calls it, or something that lives does.
A page is no caller, and a test is none.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "course_lib"
CALLERS = (
    "chapters/*/[0-9]*.py",
    "chapters/*/exercises.py",
    "chapters/*.py",
    "factory/**/*.py",
    "examination/*.py",
    "benchmarks/**/*.py",
    "lab/*.py",
    "tools/*.py",
    "viewer/*.py",
)
MAX_LINES, MAX_FILE_LINES = 5000, 450
Name = tuple[str, str]
Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


def code_lines(source: str) -> set[int]:
    """Return the numbers of the lines that hold code: no docstrings, comments or blank lines."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            documented |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in layout:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return lines - documented


def sizes() -> dict[str, int]:
    """Return the number of code lines of each file of the library."""
    return {
        path.relative_to(LIBRARY).as_posix(): len(code_lines(path.read_text(encoding="utf-8")))
        for path in sorted(LIBRARY.rglob("*.py"))
    }


def module_of(path: Path) -> str:
    """Return "steering" for course_lib/steering.py, "grading.card" for course_lib/grading/card.py."""
    return ".".join(path.relative_to(LIBRARY).with_suffix("").parts).removesuffix(".__init__")


def defined(tree: ast.Module) -> dict[str, Definition]:
    """Return the top-level definitions of a module by name."""
    found: dict[str, Definition] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id: node for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return found


def imports(tree: ast.AST, modules: Iterable[str]) -> tuple[dict[str, str], dict[str, Name]]:
    """Return what a file calls the library's modules, and the names that it imports from them."""
    aliases, names = {}, {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "course_lib":
            base = (node.module or "").removeprefix("course_lib").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                if inner in modules:
                    aliases[alias.asname or alias.name] = inner
                else:
                    names[alias.asname or alias.name] = (base, alias.name)
    return aliases, names


def references(node: ast.AST, aliases: dict[str, str], names: dict[str, Name]) -> Iterator[Name]:
    """Yield every (module, name) of the library that a piece of code mentions."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in aliases:
            yield aliases[part.value.id], part.attr
        elif isinstance(part, ast.Name) and part.id in names:
            yield names[part.id]


def living() -> tuple[set[Name], dict[Name, Definition]]:
    """Return the names that somebody calls, and all definitions of the library."""
    trees = {module_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(LIBRARY.rglob("*.py"))}
    known = {module: defined(tree) for module, tree in trees.items()}
    scopes = {module: imports(tree, trees) for module, tree in trees.items()}
    definitions = {(module, name): node for module, names in known.items() for name, node in names.items()}
    waiting: list[Name] = []
    for pattern in CALLERS:
        for path in ROOT.glob(pattern):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            aliases, names = imports(tree, trees)
            waiting += [*references(tree, aliases, names), *names.values()]
    for module, tree in trees.items():  # what runs when a module is imported
        loose = [
            node
            for node in tree.body
            if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign)
        ]
        waiting += [
            name
            for node in loose
            if not isinstance(node, ast.Import | ast.ImportFrom)
            for name in _own(node, module, known, scopes)
        ]
    alive: set[Name] = set()
    while waiting:
        module, name = waiting.pop()
        if (module, name) not in definitions and module in scopes and name in scopes[module][1]:
            waiting.append(scopes[module][1][name])  # a package that offers what its file defines
        if (module, name) in definitions and (module, name) not in alive:
            alive.add((module, name))
            waiting += _own(definitions[module, name], module, known, scopes)
    return alive, definitions


def _own(node: ast.AST, module: str, known: dict, scopes: dict) -> list[Name]:
    here = [(module, part.id) for part in ast.walk(node) if isinstance(part, ast.Name) and part.id in known[module]]
    return here + list(references(node, *scopes[module]))


def idle_methods() -> list[str]:
    """Return public methods and properties whose name stands nowhere but in tests and in their own definition."""
    paths = [path for pattern in (*CALLERS, "course_lib/**/*.py") for path in ROOT.glob(pattern)]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    used = {part.attr for tree in trees for part in ast.walk(tree) if isinstance(part, ast.Attribute)}
    _, definitions = living()
    return sorted(
        f"{module}.{name}.{part.name}"
        for (module, name), node in definitions.items()
        if isinstance(node, ast.ClassDef)
        for part in node.body
        if isinstance(part, ast.FunctionDef) and not part.name.startswith("_") and part.name not in used
    )


def idle() -> list[str]:
    """Return the top-level names of the library, public and private, that nobody calls."""
    alive, definitions = living()
    ignored = ("__all__",)
    return sorted(
        f"{module}.{name}" for module, name in definitions if (module, name) not in alive and name not in ignored
    )


def main() -> int:
    """Print the table; with --check, return 1 where a bound is broken."""
    table = sizes()
    for name, lines in table.items():
        print(f"{lines:5}  {name}" + (f"  over {MAX_FILE_LINES}" if lines > MAX_FILE_LINES else ""))
    print(f"{sum(table.values()):5}  in all, of at most {MAX_LINES}")
    waiting = idle() + idle_methods()
    print("called by nobody:", ", ".join(waiting) or "nothing")
    broken = sum(table.values()) > MAX_LINES or max(table.values()) > MAX_FILE_LINES or bool(waiting)
    return int(broken and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
