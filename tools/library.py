"""Write docs/library.md from the docstrings of course_lib: `python -m tools.library`."""

import ast
import sys
from pathlib import Path

from tools import house

PAGE = house.ROOT / "docs" / "library.md"
HEAD = """# The library, module by module

Written from the docstrings by `python -m tools.library`; `help(name)` in a notebook says more. A module imports only
from those above it.
"""
ORDER = (
    "hub organism tokens profiles models data caching directions lineage patching tuning steering features labels "
    "abliteration attribution edges probing backdoors plotting grading"
).split()


def first_line(node: ast.AST) -> str:
    """Return the first sentence or line of a docstring, on one line, safe inside a table."""
    text = (ast.get_docstring(node) or "").split("\n\n")[0]
    return " ".join(text.split()).replace("|", "\\|")


def public(tree: ast.Module) -> list[tuple[str, str]]:
    """Return (name, first line) of every public function and class, in the order of the file."""
    kinds = ast.FunctionDef | ast.ClassDef
    return [(node.name, first_line(node)) for node in tree.body if isinstance(node, kinds) and node.name[0] != "_"]


def offered(package: Path) -> list[tuple[str, str]]:
    """Return (name, first line) of what a package's __init__ names in __all__."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.glob("*.py"))]
    names = dict(pair for tree in trees for pair in public(tree))
    listed = next(node for node in trees[0].body if isinstance(node, ast.Assign) and node.targets[0].id == "__all__")
    return [(name, names[name]) for name in ast.literal_eval(listed.value) if name in names]


def section(module: str) -> str:
    """Return the part of the page about one module."""
    path = house.LIBRARY / f"{module}.py"
    file = path if path.exists() else house.LIBRARY / module / "__init__.py"
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = public(tree) if path.exists() else offered(file.parent)
    rows = [f"| `{module}.{name}` | {line} |" for name, line in names]
    table = ["| name | what it returns or does |", "|---|---|", *rows] if rows else []
    return "\n".join([f"## {module}", first_line(tree), "", *table])


def page() -> str:
    """Return the whole page."""
    modules = {
        path.stem for path in house.LIBRARY.iterdir() if not path.name.startswith("__") and path.suffix in ("", ".py")
    }
    unknown = modules - set(ORDER)
    return "\n\n".join([HEAD.rstrip(), *(section(m) for m in (*ORDER, *sorted(unknown)) if m in modules)]) + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    print(f"{PAGE.relative_to(house.ROOT)} written", file=sys.stderr)


if __name__ == "__main__":
    main()
