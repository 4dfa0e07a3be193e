"""Runs complete notebooks on another model than the course's own, and says which cells stop.

    python tools/on_model.py Qwen/Qwen2.5-0.5B-Instruct            every notebook
    python tools/on_model.py Qwen/Qwen2.5-0.5B-Instruct 01 02      those whose name starts so
    python tools/on_model.py Qwen/Qwen2.5-0.5B-Instruct --part     only the cells that are about MODEL

The one thing changed is the constant MODEL. A notebook without it is about the course's own models only: one line says so,
and it is not run. The copies go into the folder given by --keep, or nowhere; the notebooks of the course stay as they are.
Needs the network, or the model in the local cache of the hub.

The part about MODEL (`part`) is found in the source:

1. Sections whose heading says "another model" or "on a model": these, after the cell that sets MODEL and a cell with those
   statements from above them, and no others, that define a name they use.
2. No such heading: everything from the top to the cell that goes back to the course's own model, `if not OWN:` with
   `models.load("chat")` in it; without such a cell, to the last one in which MODEL stands.
"""

import argparse
import ast
import builtins
import json
import os
import re
import symtable
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
CONSTANT = re.compile(r'^MODEL = "[^"]*"', re.MULTILINE)
HEADING = re.compile(r"^## .*\b(?:another model|on a model)\b", re.MULTILINE | re.IGNORECASE)
BACK = re.compile(r'^if not OWN:.*\n(?:    .*\n)*?    .*models\.load\("chat"\)', re.MULTILINE)
PEAK = r"""import re, sys
from pathlib import Path
status = Path("/proc/self/status")  # on Linux; what getrusage tells there begins with what the starting process held
if status.exists():
    print(int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) * 1024 / 1e9)
else:
    import resource
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6))"""
CELL_TIMEOUT_S = 3600


@dataclass(frozen=True)
class Run:
    """What came of running a notebook."""

    problems: list[str]
    seconds: float = 0.0
    peak_gb: float | None = None
    """Most memory that its kernel held, the GPU's aside; None on Windows, which does not tell."""

    def __str__(self) -> str:
        memory = "" if self.peak_gb is None else f", {self.peak_gb:.1f} GB at most"
        return f"{len(self.problems)} cells stopped, {self.seconds:.0f} s{memory}"


def is_about_models(notebook: NotebookNode) -> bool:
    """Whether it has a constant MODEL at all."""
    return any(cell.cell_type == "code" and CONSTANT.search(cell.source) for cell in notebook.cells)


def part(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The cells that are about MODEL, as the docstring of this module says; they run without the others."""
    headings = [
        n for n, cell in enumerate(cells) if cell.cell_type == "markdown" and re.search("(?m)^## ", cell.source)
    ]
    begins = [n for n in headings if HEADING.search(cells[n].source)]
    if not begins:
        code = {n: cell.source for n, cell in enumerate(cells) if cell.cell_type == "code"}
        back = [n for n, source in code.items() if BACK.search(source)]
        return cells[: back[0] if back else 1 + max(n for n, source in code.items() if re.search(r"\bMODEL\b", source))]
    start = [cell for cell in cells if cell.cell_type == "code" and CONSTANT.search(cell.source)]
    sections = [cell for n in begins for cell in cells[n : min((m for m in headings if m > n), default=len(cells))]]
    code = [
        [cell.source for cell in some if cell.cell_type == "code"] for some in (cells[: begins[0]], start + sections)
    ]
    above = definitions(*code)
    return [*start, *([nbformat.v4.new_code_cell(above, id="from-above")] if above else []), *sections]


def definitions(above: list[str], used_in: list[str]) -> str:
    """The statements of the cells above that define what the other cells use and do not define, with what those use in turn."""
    wanted, found = _used("\n".join(used_in)) - _defined("\n".join(used_in)), []
    for statement in reversed([node for source in above for node in ast.parse(source).body]):
        text = ast.unparse(statement)
        if _defined(text) & wanted:
            simple = isinstance(
                statement, ast.Assign | ast.AugAssign
            )  # `x = x + 1` wants the x before it, a loop does not
            wanted = wanted - _defined(text) | (_used(text) if simple else _used(text) - _defined(text))
            found.append(text)
    return "\n".join(reversed(found))


def _defined(source: str) -> set[str]:
    """Names that the code gives a value at its top level."""
    symbols = symtable.symtable(source, "cell", "exec").get_symbols()
    return {each.get_name() for each in symbols if each.is_assigned() or each.is_imported() or each.is_namespace()}


def _used(source: str) -> set[str]:
    """Names of the top level that the code reads, inside functions too."""
    whole = symtable.symtable(source, "cell", "exec")
    read = {
        each.get_name()
        for table in _tables(whole)
        for each in table.get_symbols()
        if each.is_referenced() and (table is whole or each.is_global())
    }
    return read - set(dir(builtins))


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for inner in table.get_children():
        yield from _tables(inner)


def on_model(notebook: NotebookNode, name: str) -> int:
    """Puts the model's name where the notebook names its own; returns the number of places."""
    places = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source, n = CONSTANT.subn(lambda _: f"MODEL = {json.dumps(name)}", cell.source)
            places += n
    return places


def failures(notebook: NotebookNode) -> list[str]:
    """Returns what stopped: the cell's id, the error, the line of the cell."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                found.append(f"{cell.id}: {output.ename}: {output.evalue.splitlines()[0] if output.evalue else ''}")
    return found


def run(path: Path, name: str, keep: Path | None, *, only_part: bool = False) -> Run:
    """Runs one notebook on the model, going on after an error; returns what went wrong, time and memory."""
    notebook = nbformat.read(path, as_version=4)
    places = on_model(notebook, name)
    if places != 1:
        return Run([f"MODEL stands in {places} places, one is needed"])
    started = time.perf_counter()
    notebook.cells = [*(part(notebook.cells) if only_part else notebook.cells), nbformat.v4.new_code_cell(PEAK)]
    NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": path.parent}},
    ).execute()
    told = notebook.cells.pop().outputs[0]
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, keep / path.name)
    peak = float(told.text) if told.output_type == "stream" else None
    return Run(failures(notebook), time.perf_counter() - started, peak)


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="what models.load takes: a name on the hub, or a folder")
    parser.add_argument("start", nargs="*", help="only the notebooks whose name starts so")
    parser.add_argument("--part", action="store_true", help="run only the cells that are about MODEL")
    parser.add_argument("--keep", type=Path, help="folder for the copies that were run")
    options = parser.parse_args(arguments)
    chosen = [
        p for p in sorted((ROOT / "solutions").glob("[0-9]*.ipynb")) if p.name.startswith(tuple(options.start) or "")
    ]
    if not chosen:
        print(f"no notebook in solutions starts with {' or '.join(options.start)}")
        return 1
    os.environ["COURSE_PROGRESS"] = "off"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    stopped = 0
    for path in chosen:
        if not is_about_models(nbformat.read(path, as_version=4)):
            print(f"{path.name} is about the course's own models only: not run")
            continue
        done = run(path, options.model, options.keep, only_part=options.part)
        stopped += bool(done.problems)
        print(f"{path.name}: {done}", flush=True)
        for problem in done.problems:
            print(f"    {problem}", flush=True)
    return 1 if stopped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
