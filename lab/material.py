"""What the course itself says about a notebook: its cells, its exercises, its questions. Read as data; no import of torch."""

import ast
import functools
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools import build

ROOT = Path(__file__).resolve().parents[1]
MARKER = re.compile(r"^\s*#\s*=*\s*(Exercise|Prediction|Question|Decision)\s+(\d+\.\w+)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """One exercise: its cell, and the name that the answer bears."""

    id: str
    cell: str
    answer: str
    title: str
    stub: str


@dataclass(frozen=True)
class Material:
    """One notebook of the course."""

    key: str
    """What its name begins with: "03" or, of a chapter in two sittings, "03a"."""
    name: str
    items: dict[str, Item]
    questions: dict[str, dict[str, Any]]
    """Question -> its text, options (letter -> text and explanation) and the correct letter."""
    predictions: dict[str, str]
    given: dict[str, str]
    """Id -> source of the learner's cells as they were handed out."""
    worked: list[tuple[str, str]]
    """Id and source of the complete notebook's code cells, in order."""
    models: list[str]
    """Models of the course that a check brings along, besides the notebook's own."""
    fingerprint: str
    """Of all that a verdict depends on."""

    def cells_of(self, item: str) -> tuple[int, int]:
        """Return where in `worked` the cell of an exercise stands, and the cell that checks it."""
        start = next(n for n, (cell, _) in enumerate(self.worked) if cell == self.items[item].cell)
        call = re.compile(rf"""^\s*check\(["']{re.escape(item)}["']""", re.MULTILINE)
        return start, next(n for n, (_, text) in enumerate(self.worked) if n > start and call.search(text))


def text_of(cell: Any) -> str:
    """Return the source of a cell, which is one string or a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(part for part in source if isinstance(part, str))


def marker(source: str) -> tuple[str, str] | None:
    """Return ("Exercise", "3.4") if one of a cell's first lines is a marker; it may have been edited a little.

    >>> marker("#=== exercise 3.4 (keep)\\n...")
    ('Exercise', '3.4')
    """
    for line in source.strip().split("\n")[:3]:
        if found := MARKER.match(line[:200]):
            return found[1].capitalize(), found[2]
    return None


@functools.cache
def load(key: str) -> Material:
    """Return what is known of one notebook.

    Raises:
        ValueError: there is none of that name.
    """
    if key not in (known := keys()):
        raise ValueError(f"there is no notebook {key}, only {', '.join(known)}")
    path = _source(key)
    folder = path.parent
    learner, worked = (_cells(notebook(key, complete=complete)) for complete in (False, True))
    references = json.loads((folder / "references.json").read_text(encoding="utf-8"))
    calls = _registered(folder / "exercises.py")
    stubs = {found: (cell, text) for cell, text in learner.items() if (found := marker(text))}
    items = {
        item: Item(item, cell, references[item]["answer"], calls[item].get("title", item), text)
        for (kind, item), (cell, text) in stubs.items()
        if kind == "Exercise"
    }
    sources = [*sorted(folder.glob("*.json")), folder / "exercises.py", *sorted(Path(__file__).parent.glob("*.py"))]
    sources += sorted((ROOT / "chapters").glob("*.py"))  # what tries claims on other data is there
    sources += sorted(path for kind in ("*.py", "*.toml") for path in (ROOT / "course_lib").rglob(kind))
    digest = hashlib.sha256(json.dumps([learner, worked], sort_keys=True).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return Material(
        key,
        path.stem,
        dict(sorted(items.items(), key=lambda pair: list(worked).index(pair[1].cell))),
        {item: call for item, call in calls.items() if ("Question", item) in stubs},
        {item: call["text"] for item, call in calls.items() if ("Prediction", item) in stubs},
        learner,
        list(worked.items()),
        _models(folder / "exercises.py"),
        digest.hexdigest()[:16],
    )


def keys() -> list[str]:
    """Return what the names of all notebooks begin with."""
    return [path.stem.split("_")[0] for path in build.sources(ROOT)]


def notebook(key: str, *, complete: bool = False) -> dict[str, Any]:
    """Return a notebook as its source makes it: the one in the folder `notebooks` may have been worked in."""
    path = _source(key)
    return build.built(path.stem, build.read_source(path), complete=complete)


def _source(key: str) -> Path:
    return next(path for path in build.sources(ROOT) if path.stem.startswith(f"{key}_"))


def having(item: str) -> Material:
    """Return the notebook that asks an exercise. Raise StopIteration if none does."""
    return next(course for course in map(load, keys()) if item in course.items)


def _cells(made: dict[str, Any]) -> dict[str, str]:
    return {cell["id"]: text_of(cell) for cell in made["cells"] if cell["cell_type"] == "code"}


def _registered(path: Path) -> dict[str, dict[str, Any]]:
    """Return what a chapter registers, from the text of its module: item -> kind, text and the keywords that are plain."""
    found: dict[str, dict[str, Any]] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("exercise", "question", "prediction") and node.args:
                words: dict[str, Any] = {"kind": node.func.id, "text": _plain(node.args[1]) if node.args[1:] else ""}
                words |= {word.arg: _plain(word.value) for word in node.keywords if word.arg}
                found[_plain(node.args[0])] = words
    return found


def _models(path: Path) -> list[str]:
    """Return the models that a chapter's checks load, from the text of its module: what `drawn.other(...)` names."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    named = [call for call in calls if ast.unparse(call.func) == "drawn.other"]
    found = {
        part.value for call in named for arg in call.args for part in ast.walk(arg) if isinstance(part, ast.Constant)
    }
    return sorted(name for name in found if isinstance(name, str))


def _plain(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
