"""Runs complete notebooks on another model than the course's own, and says which cells stop.

    python tools/on_model.py Qwen/Qwen2.5-0.5B-Instruct            every notebook
    python tools/on_model.py Qwen/Qwen2.5-0.5B-Instruct 01 02      those whose name starts so
    python tools/on_model.py Qwen/Qwen2.5-0.5B-Instruct --part     without cells tagged `organism`
    python tools/on_model.py Qwen/Qwen2.5-0.5B-Instruct --part --few   on few requests: does any cell stop?

The one thing changed is the constant MODEL. A notebook without it is about the course's own models only: one line says so,
and it is not run. The copies go into the folder given by --keep, or nowhere; the notebooks of the course stay as they are.
Needs the network, or the model in the local cache of the hub.

Cells tagged `organism` need what only the course's own models have (other roles, widths, twins, a written truth)
and are left out.
"""

import argparse
import json
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
CONSTANT = re.compile(r'^MODEL = "[^"]*"', re.MULTILINE)
PEAK = r"""import re, sys
from pathlib import Path
status = Path("/proc/self/status")  # on Linux; what getrusage tells there begins with what the starting process held
if status.exists():
    print(int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) * 1024 / 1e9)
else:
    import resource
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6))"""
CELL_TIMEOUT_S = 3600
FEW = """from course_lib import profiles
profiles._SETTINGS["large"] |= dict(n_train=16, n_validation=4, n_asked=8, n_random=2, n_scored=2, n_jacobian=1)
profiles._SETTINGS["large"] |= dict(opening_tokens=4, reply_tokens=8, coefficients=[0.0, 1.0])"""
"""Put before the first cell: every cell runs as ever, on so few requests that no number in it means anything."""


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
    """The cells that any model can run: all but those tagged `organism`."""
    return [cell for cell in cells if "organism" not in cell.metadata.get("tags", ())]


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


def run(path: Path, name: str, keep: Path | None, *, only_part: bool = False, few: bool = False) -> Run:
    """Runs one notebook on the model, going on after an error; returns what went wrong, time and memory.

    With `few` a model that is not the course's own is asked few requests: enough to see whether a cell stops.
    """
    notebook = nbformat.read(path, as_version=4)
    places = on_model(notebook, name)
    if places != 1:
        return Run([f"MODEL stands in {places} places, one is needed"])
    started = time.perf_counter()
    before = [nbformat.v4.new_code_cell(FEW)] if few else []
    kept = part(notebook.cells) if only_part else notebook.cells
    notebook.cells = [*before, *kept, nbformat.v4.new_code_cell(PEAK)]
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
    parser.add_argument("--part", action="store_true", help="leave out what only the course's own models can run")
    parser.add_argument("--few", action="store_true", help="on few requests, to see whether a cell stops")
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
        done = run(path, options.model, options.keep, only_part=options.part, few=options.few)
        stopped += bool(done.problems)
        print(f"{path.name}: {done}", flush=True)
        for problem in done.problems:
            print(f"    {problem}", flush=True)
    return 1 if stopped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
