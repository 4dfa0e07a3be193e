"""Peers that need an environment of their own: `.venv-<peer>`, made from the requirements beside this file.

Each script here runs alone in that environment and imports nothing of the course. It gets the same prompts and files,
measures its own CPU seconds, and hands back its values, which are compared before its time is used.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Different, check_equal
from course_lib import attribution, models

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def nnsight(folder: str, request: dict, ours: Tensor) -> float:
    """CPU seconds of the same harvest by nnsight."""
    result = run("nnsight", [folder], request)
    check_equal({"caching.harvest": ours, "nnsight": torch.from_numpy(result["values"])}, 1e-4)
    return float(result["seconds"])


def circuit_tracer(organism: str, request: dict, ours: attribution.AttributionGraph) -> tuple[float, float, int]:
    """CPU seconds of the same graph by circuit-tracer, the largest difference of an edge, and how many were compared."""
    weights = models.weights_folder()
    result = run("circuit-tracer", [str(weights / organism), str(weights / "dictionaries" / organism)], request)
    theirs, mine = aligned(result["features"], torch.from_numpy(result["edges"]), ours)
    check_equal({"circuit-tracer": theirs, "attribution.trace": mine}, 1e-4)
    return float(result["seconds"]), float((theirs - mine).abs().max()), int((theirs != 0).sum())


def aligned(features: np.ndarray, theirs: Tensor, ours: attribution.AttributionGraph) -> tuple[Tensor, Tensor]:
    """circuit-tracer's edges and ours, with the same rows and columns."""
    places, comparable = correspondence(features, ours)
    return theirs[:, comparable], ours.edges[places][:, places[comparable]]


def correspondence(features: np.ndarray, ours: attribution.AttributionGraph) -> tuple[Tensor, Tensor]:
    """Our place of each of circuit-tracer's nodes, and whether they can be compared.

    circuit-tracer has no features at position 0 and counts what they write among the errors there; so neither these
    features nor these errors are compared. The order is the same: features, errors by layer and position, tokens, logits.

    Raises:
        Different: Other features are active.
    """
    place = {(node.layer, node.position, node.feature): i for i, node in enumerate(ours.features)}
    theirs = [tuple(map(int, row)) for row in features]
    if set(theirs) != {key for key in place if key[1] > 0}:
        raise Different(f"circuit-tracer has {len(theirs)} active features, attribution.trace others.")
    places = [*(place[key] for key in theirs), *range(len(ours.features), len(ours.nodes))]
    comparable = [not isinstance(ours.nodes[i], attribution.Error) or ours.nodes[i].position > 0 for i in places]
    return torch.tensor(places), torch.tensor(comparable)


def run(peer: str, arguments: list[str], request: dict) -> dict[str, np.ndarray]:
    """What the peer's script wrote. Its environment is made first, if it is not there."""
    python = environment(peer)
    with tempfile.TemporaryDirectory() as folder:
        asked, out = Path(folder) / "request.json", Path(folder) / "out.npz"
        asked.write_text(json.dumps(request), encoding="utf-8")
        script = HERE / f"run_{peer.replace('-', '_')}.py"
        done = subprocess.run(
            [python, script, *arguments, asked, out], capture_output=True, text=True, cwd=folder, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{script.name} failed:\n{done.stderr[-2000:]}")
        with np.load(out, allow_pickle=False) as result:
            return dict(result)


def environment(peer: str) -> Path:
    """The Python of the peer's environment."""
    folder = ROOT / f".venv-{peer}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        print(f"Installing {peer} into {folder.name} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "torch==2.13.0"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", HERE / f"{peer}.txt"], check=True)
    return python
