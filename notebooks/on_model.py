"""Runs complete notebooks on another model than the course's own, and says which cells stop.

    python notebooks/on_model.py Qwen/Qwen2.5-0.5B-Instruct            every notebook
    python notebooks/on_model.py Qwen/Qwen2.5-0.5B-Instruct 01 02      those whose name starts so

The one thing changed is the constant MODEL. The copies go into the folder given by --keep, or nowhere; the notebooks of
the course stay as they are. Needs the network, or the model in the local cache of the hub.
"""

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
CONSTANT = re.compile(r'^MODEL = "[^"]*"', re.MULTILINE)
CELL_TIMEOUT_S = 3600


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


def run(path: Path, name: str, keep: Path | None) -> list[str]:
    """Runs one notebook on the model, going on after an error; returns what went wrong."""
    notebook = nbformat.read(path, as_version=4)
    places = on_model(notebook, name)
    if places != 1:
        return [f"MODEL stands in {places} places, one is needed"]
    NotebookClient(
        notebook, timeout=CELL_TIMEOUT_S, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": path.parent}}
    ).execute()
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, keep / path.name)
    return failures(notebook)


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="what models.load takes: a name on the hub, or a folder")
    parser.add_argument("start", nargs="*", help="only the notebooks whose name starts so")
    parser.add_argument("--keep", type=Path, help="folder for the copies that were run")
    options = parser.parse_args(arguments)
    chosen = [p for p in sorted((ROOT / "solutions").glob("[0-9]*.ipynb")) if p.name.startswith(tuple(options.start) or "")]
    if not chosen:
        print(f"no notebook in solutions starts with {' or '.join(options.start)}")
        return 1
    os.environ["COURSE_PROGRESS"] = "off"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    stopped = 0
    for path in chosen:
        started = time.perf_counter()
        problems = run(path, options.model, options.keep)
        stopped += bool(problems)
        print(f"{path.name}: {len(problems)} cells stopped, {time.perf_counter() - started:.0f} s")
        for problem in problems:
            print(f"    {problem}")
    return 1 if stopped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
