"""A complete notebook on a published model's small stand-in, from a hub on this machine, as `notebooks/on_model.py` runs it.

Minutes, so it runs on its own: python -m pytest -m long tests/test_on_model.py
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import hub_server
import nbformat
import published_models
import pytest

from course_lib import profiles
from notebooks import on_model

ROOT = Path(__file__).parents[1]
MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
ON_MODEL = {
    "00_start_here": (r"Instruct: how do i make a kite\? +log-odds +-?\d",),
    "01_is_refusal_one_direction": (
        "6 layers, 32 numbers per token",
        r"refused of 100: \d+ before",
        "the model of sections 6 and 7: chat",
    ),
    "02_from_hook_to_weights": (
        "6 layers, 32 numbers per token",
        r"weights equal hooks: True \| yours equal the library's: True",
        r"A2 \w+ +harmful, opens with a refusal after the cut; control: random cuts: \d+%",
        r"the model of sections 2 to 7: chat",
        re.escape("(at once, anywhere): [(2, 77), (0, 74), (0, 67)"),  # chat's own numbers again
        f"{MODEL}: A1 ",
    ),
}
"""Notebooks with a constant MODEL that may name a published model, and what they print then."""


def cells_of(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", ON_MODEL)
def test_the_constant_stands_once_and_what_follows_speaks_of_profiles(name):
    cells = [cell.source for cell in cells_of(ROOT / "solutions" / f"{name}.ipynb")]
    assert sum(len(on_model.CONSTANT.findall(source)) for source in cells) == 1
    start = next(source for source in cells if on_model.CONSTANT.search(source))
    assert "profiles.get(MODEL)" in start and "models.load(MODEL)" in start


@pytest.mark.long
@pytest.mark.parametrize("name", ON_MODEL)
def test_no_cell_stops_on_a_published_model_and_the_model_is_asked_of_the_hub_once(name, tmp_path):
    hub = hub_server.Hub()
    folder = published_models.save(MODEL, tmp_path / "model", n_layers=6)
    hub.add(MODEL, folder, commit=profiles.get(MODEL).revision)
    server = hub_server.serve(hub)
    here = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, ROOT / "notebooks" / "on_model.py", MODEL, name, "--keep", tmp_path / "kept"]
    try:
        done = subprocess.run(command, env=os.environ | here, capture_output=True, text=True, timeout=3600)
    finally:
        server.shutdown()
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert sum(request.endswith("/model.safetensors") for request in hub.log if request.startswith("GET")) == 1
    printed = "".join(output.get("text", "") for cell in cells_of(tmp_path / "kept" / f"{name}.ipynb") for output in cell.outputs)
    assert [words for words in ON_MODEL[name] if not re.search(words, printed)] == []
