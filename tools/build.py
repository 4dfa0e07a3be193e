"""Build the learner's notebook, the complete one and the reference answers from one text source.

    python tools/build.py              rebuild all; complete ones are run when their source changed
    python tools/build.py 01           the same for sources whose name starts with 01
    python tools/build.py --execute    execute the complete notebooks even if their source did not change
    python tools/build.py --check      write nothing; fail if a rebuild would change anything but outputs

1. A chapter, `chapters/NN_topic`, has one source a notebook: `NN_topic.py`, or `NNa_first.py` and `NNb_second.py` if it
   takes two sittings. A source is in jupytext's percent format with the answers inside. A cell that holds an answer begins
   with a marker line such as `# === Exercise 1.1 (keep this line) ===` (or Prediction, Question), and the answer stands
   between `# BEGIN SOLUTION` and `# END SOLUTION`.
2. In the learner's notebook, `notebooks/NNa_first.ipynb`, each answer is replaced by `...`, or by the text of
   its `# STUB: ` lines. It carries no outputs.
3. The complete notebook, `solutions/NNa_first.ipynb`, keeps the answers and carries the outputs of a run from
   top to bottom. Its outputs are kept as long as its code cells stay the same; the tests run it and compare
   every text output.
4. The worked answers go into `chapters/NN_topic/references.json`, from where `checkpoint` hands them on to learners
   who skip an exercise: the exercise's cell down to its last `# END SOLUTION`, behind the imports that it needs, so
   that it runs whatever became of these names in the notebook.
5. A cell tagged `figure` only draws, or finds what is drawn: JupyterLab shows its code folded. One tagged `organism`
   needs a model of the course; `tools/on_model.py` leaves it out.
6. With an address in COURSE_REPOSITORY (owner/name on GitHub), both begin with a badge that opens the
   learner's notebook in Colab and a cell that sets the course up there and does nothing elsewhere. Without
   one, they do not.

Both have the same cells with the same fixed ids, so a rebuild is equal byte for byte.
"""

import argparse
import ast
import builtins
import json
import os
import re
import symtable
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = os.environ.get("COURSE_REPOSITORY", "")
MAX_CELL_LINES = 40
CELL_TIMEOUT_S = 600

BEGIN, END, STUB = "# BEGIN SOLUTION", "# END SOLUTION", "# STUB: "
MARKER = re.compile(r"# === (Exercise|Prediction|Question|Decision) (\d+\.\w+) \(keep this line\) ===")
CALL = re.compile(r"""^\s*(?:\w+(?:, \w+)* = )?(?:grading\.)?(check|checkpoint)\(["'](\d+\.\w+)["']""", re.MULTILINE)
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
PLOTLY = "application/vnd.plotly.v1+json"


class SourceError(ValueError):
    """Raised for a source that cannot become two good notebooks: which file, which cell, what to change."""


@dataclass(frozen=True)
class Cell:
    """One cell of a source: `kind` is "code" or "markdown"; `tags` are kept in both notebooks."""

    kind: str
    text: str
    tags: tuple[str, ...] = ()

    @property
    def marker(self) -> tuple[str, str] | None:
        """Return ("Exercise", "1.1") for a cell whose first line is a marker, else None."""
        found = MARKER.fullmatch(self.text.split("\n")[0].strip()) if self.kind == "code" else None
        return (found[1], found[2]) if found else None


# --- reading ------------------------------------------------------------------------------------------------


def read_source(path: Path) -> list[Cell]:
    """Return the cells of one source.

    Raises:
        SourceError: the source breaks a rule; the message names the cell and the rule.
    """
    notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    cells = [Cell(c.cell_type, c.source, tuple(c.metadata.get("tags", ()))) for c in notebook.cells]
    for number, cell in enumerate(cells):
        if problems := cell_problems(cell):
            first = cell.text.split("\n")[0]
            raise SourceError(f"{path.stem}, cell {number} ({first[:60]!r}): {'; '.join(problems)}")
    if problems := notebook_problems(cells):
        raise SourceError(f"{path.stem}: {'; '.join(problems)}")
    return cells


def cell_problems(cell: Cell) -> list[str]:
    """Return what is wrong with one cell on its own."""
    if cell.kind not in ("code", "markdown"):
        return [f"a {cell.kind} cell; use code or markdown"]
    lines = [line.strip() for line in cell.text.split("\n")]
    marks = [line for line in lines if line in (BEGIN, END)]
    has_solution = bool(marks) or any(line.startswith(STUB.strip()) for line in lines)
    problems = []
    if cell.kind == "markdown" and has_solution:
        problems.append("a solution in a markdown cell")
    if cell.kind == "code" and has_solution and cell.marker is None:
        problems.append("a solution outside an exercise; begin the cell with '# === Exercise N.M (keep this line) ==='")
    if cell.marker and BEGIN not in marks:
        problems.append(f"{cell.marker[0]} {cell.marker[1]} has no solution between '{BEGIN}' and '{END}'")
    if marks != [BEGIN, END] * (len(marks) // 2):
        problems.append(f"every '{BEGIN}' needs one '{END}' after it")
    if any("(keep this line)" in line for line in lines[1 if cell.marker else 0 :]):
        problems.append("a marker that is not the first line of its cell, or is misspelt")
    if cell.kind == "code" and not problems:
        longest = max(len(complete_text(cell).split("\n")), len(learners_text(cell).split("\n")))
        if longest > MAX_CELL_LINES:
            problems.append(f"{longest} lines of code, {MAX_CELL_LINES} at most: split it or move code to course_lib")
        problems += leftovers(learners_text(cell)) + leftovers(complete_text(cell))
    return problems


def notebook_problems(cells: list[Cell]) -> list[str]:
    """Return what is wrong with the cells together: ids used twice, checks missing."""
    marked = [cell.marker for cell in cells if cell.marker]
    exercises = {item for kind, item in marked if kind == "Exercise"}
    calls = [call for cell in cells if cell.kind == "code" for call in CALL.findall(cell.text)]
    checked = {item for name, item in calls if name == "check"}
    handed_on = {item for name, item in calls if name == "checkpoint"}
    mixed = [
        c for c in cells if c.kind == "code" and {name for name, _ in CALL.findall(c.text)} == {"check", "checkpoint"}
    ]
    return [
        *(f"{item} is marked {n} times" for (_, item), n in Counter(marked).items() if n > 1),
        *(f"exercise {item} has no check('{item}', ...) cell" for item in sorted(exercises - checked)),
        *(f"exercise {item} has no checkpoint('{item}', ...)" for item in sorted(exercises - handed_on)),
        *(f"{item} is checked, but no cell is marked 'Exercise {item}'" for item in sorted(checked - exercises)),
        *(f"put check and checkpoint into two cells: {c.text.splitlines()[0]!r}" for c in mixed),
    ]


def leftovers(text: str) -> list[str]:
    """Return the solution marks that are still in a built cell."""
    return [
        f"{mark!r} is left over in a built cell" for mark in ("BEGIN SOLUTION", "END SOLUTION", "STUB:") if mark in text
    ]


# --- the two notebooks --------------------------------------------------------------------------------------


def complete_text(cell: Cell) -> str:
    """Return a cell's text with its answer, without the marks around it."""
    dropped = (BEGIN, END)
    lines = [line for line in cell.text.split("\n") if line.strip() not in dropped]
    return "\n".join(line for line in lines if not line.strip().startswith(STUB.strip()))


def learners_text(cell: Cell) -> str:
    """Return a cell's text with each answer replaced by `...` or by its STUB lines."""
    lines: list[str] = []
    stub: list[str] = []
    inside = False
    for line in cell.text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        if line.strip() == BEGIN:
            inside, stub = True, []
        elif line.strip() == END:
            inside = False
            lines += stub or [f"{indent}..."]
        elif not inside:
            lines.append(line)
        elif line.strip().startswith(STUB):
            stub.append(indent + line.strip().removeprefix(STUB))
    return "\n".join(lines)


def built(name: str, cells: list[Cell], *, complete: bool) -> NotebookNode:
    """Return the learner's or the complete notebook, without outputs, with fixed cell ids."""
    text = complete_text if complete else learners_text
    notebook = nbformat.v4.new_notebook(metadata=METADATA)
    for number, cell in enumerate(cells):
        metadata: dict[str, Any] = {"tags": list(cell.tags)} if cell.tags else {}
        if "figure" in cell.tags:
            metadata["jupyter"] = {"source_hidden": True}
        label = f"{cell.marker[0].lower()}-{cell.marker[1].replace('.', '-')}" if cell.marker else f"c{number:03d}"
        node = nbformat.v4.new_code_cell if cell.kind == "code" else nbformat.v4.new_markdown_cell
        source = text(cell) if cell.kind == "code" else cell.text
        notebook.cells.append(node(source, id=f"{name.split('_')[0]}-{label}", metadata=metadata))
    notebook.cells[1:1] = colab_cells(name, REPOSITORY)
    return notebook


BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}.ipynb)"
)
COLAB_CELL = """\
# In Colab: fetch the course and install what is missing beside Colab's own PyTorch. Elsewhere this does nothing.
import sys

if "google.colab" in sys.modules:
    import os
    import subprocess

    if not os.path.isdir("/content/course"):
        subprocess.run(["git", "clone", "--depth", "1", "https://github.com/{repository}", "/content/course"], check=True)
    os.chdir("/content/course/notebooks")
    sys.path.insert(0, "/content/course")
    import course

    course.here()"""


def colab_cells(name: str, repository: str) -> list[NotebookNode]:
    """Return the badge and the set-up cell of one notebook; none without a repository."""
    if not repository:
        return []
    number, address = name.split("_")[0], {"repository": repository, "name": name}
    return [
        nbformat.v4.new_markdown_cell(BADGE.format(**address), id=f"{number}-badge"),
        nbformat.v4.new_code_cell(COLAB_CELL.format(**address), id=f"{number}-colab"),
    ]


def as_bytes(notebook: NotebookNode) -> bytes:
    """Return the notebook as it is written to disk: keys sorted, one newline at the end."""
    text = nbformat.writes(notebook, sort_keys=True, indent=1, ensure_ascii=False)
    return (text.rstrip("\n") + "\n").encode()


def code_of(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the code cells, on which outputs depend."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


# --- the reference answers ----------------------------------------------------------------------------------


def references(cells: list[Cell]) -> dict[str, dict[str, Any]]:
    """Return the worked answer of each exercise, as `course_lib.grading.registry.references` describes it."""
    tree = ast.parse("\n".join(complete_text(cell) for cell in cells if cell.kind == "code"))
    worked = {cell.marker[1]: worked_answer(cell) for cell in cells if cell.marker and cell.marker[0] == "Exercise"}
    imports = dict(pair for node in ast.walk(tree) for pair in imported(node))
    found = {}
    for item, answer, context in checkpoints(tree):
        outside = sorted(free_names(worked[item]) - set(context))
        code = [imports[name] for name in outside if name in imports] + worked[item].split("\n")
        notebook = [name for name in outside if name not in imports]
        found[item] = {"answer": answer, "context": context, "notebook": notebook, "code": code}
    return found


def chapter_references(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the worked answers of all notebooks of a chapter."""
    return {
        item: worked
        for path in sorted(folder.glob("[0-9]*.py"))
        for item, worked in references(read_source(path)).items()
    }


def worked_answer(cell: Cell) -> str:
    """Return the complete text of an exercise's cell between its marker line and its last `# END SOLUTION`."""
    lines = cell.text.split("\n")
    last = max(number for number, line in enumerate(lines) if line.strip() == END)
    return complete_text(Cell("code", "\n".join(lines[1:last])))


def checkpoints(tree: ast.Module) -> Iterator[tuple[str, str, list[str]]]:
    """Yield item, name of the answer, and further arguments of each `checkpoint(item, answer, ...)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "checkpoint":
            item, answer, *context = node.args
            yield ast.literal_eval(item), ast.unparse(answer), [ast.unparse(part) for part in context]


def imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield each name that an import statement binds, with an import of that name alone."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            alone = ast.Import([alias]) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, [alias], 0)
            yield (alias.asname or alias.name).split(".")[0], ast.unparse(alone)


def free_names(code: str) -> set[str]:
    """Return the names that a piece of code takes from outside, builtins left out."""
    module = symtable.symtable(code, "answer", "exec")
    tables = [module]
    for table in tables:
        tables += table.get_children()
    used = {name.get_name() for t in tables for name in t.get_symbols() if name.is_referenced() and name.is_global()}
    bound = {name.get_name() for name in module.get_symbols() if name.is_assigned() or name.is_imported()}
    return used - bound - set(dir(builtins))


# --- outputs ------------------------------------------------------------------------------------------------


def with_outputs_of(notebook: NotebookNode, other: NotebookNode) -> NotebookNode:
    """Return the notebook with the outputs and counts of another one that has the same code cells."""
    for cell, donor in zip(code_of(notebook), code_of(other), strict=True):
        cell.outputs, cell.execution_count = donor.outputs, donor.execution_count
    return notebook


def executed(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Return the notebook with the outputs of a run in `folder`, cleaned of what differs by run."""
    os.environ.update(run_environment())
    NotebookClient(
        notebook, timeout=CELL_TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = cleaned(cell.outputs)
    return notebook


def run_environment() -> dict[str, str]:
    """Return what makes outputs reproducible: one thread, no progress file, no network."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {"OMP_NUM_THREADS": "1", "COURSE_PROGRESS": "off", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}


def cleaned(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Return the outputs without progress bars, prints joined, figures as plotly JSON and text."""
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and output.name == "stderr":
            continue
        if output.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text
            continue
        if PLOTLY in output.get("data", {}):
            output.data = {mime: data for mime, data in output.data.items() if mime in (PLOTLY, "text/plain")}
        kept.append(output)
    return kept


# --- the command --------------------------------------------------------------------------------------------


def sources(root: Path) -> list[Path]:
    """Return the source of every notebook, in order."""
    return sorted((root / "chapters").glob("[0-9]*/[0-9]*.py"), key=lambda path: path.name)


def build(source: Path, *, execute: bool = False, check: bool = False) -> list[str]:
    """Build everything that one source makes; return what was written, or with `check` what would change.

    Raises:
        SourceError: the source breaks a rule.
    """
    root, name, cells = source.parents[2], source.stem, read_source(source)
    learner, complete = built(name, cells, complete=False), built(name, cells, complete=True)
    learners_path, complete_path = (root / folder / f"{name}.ipynb" for folder in ("notebooks", "solutions"))
    references_path = source.with_name("references.json")
    worked = (json.dumps(chapter_references(source.parent), indent=1) + "\n").encode()
    old = nbformat.read(complete_path, as_version=4) if complete_path.exists() else nbformat.v4.new_notebook()
    if [cell.source for cell in code_of(old)] == [cell.source for cell in code_of(complete)] and not execute:
        complete = with_outputs_of(complete, old)
    elif not check:
        references_path.write_bytes(worked)  # a new exercise's check asks for it
        complete_path.parent.mkdir(exist_ok=True)
        complete = executed(complete, complete_path.parent)
    made = {learners_path: as_bytes(learner), complete_path: as_bytes(complete), references_path: worked}
    changed = [path for path, content in made.items() if not path.exists() or path.read_bytes() != content]
    for path in () if check else changed:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(made[path])
    return [path.relative_to(root).as_posix() for path in changed]


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", nargs="*", help="build only the sources whose name starts so")
    parser.add_argument("--check", action="store_true", help="write nothing, fail on any difference")
    parser.add_argument("--execute", action="store_true", help="execute the complete notebooks in any case")
    options = parser.parse_args(arguments)
    chosen = [path for path in sources(ROOT) if path.name.startswith(tuple(options.start) or "")]
    if not chosen:
        print(f"no notebook starts with {' or '.join(options.start) or 'a number'}")
        return 1
    try:
        changed = [name for path in chosen for name in build(path, execute=options.execute, check=options.check)]
    except (SourceError, CellExecutionError) as error:
        print(error)
        return 1
    verdict = "differs from a rebuild: run python tools/build.py" if options.check else "written"
    for name in changed:
        print(f"{name} {verdict}")
    if not changed:
        print(f"{len(chosen)} sources: notebooks and solutions are up to date")
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
