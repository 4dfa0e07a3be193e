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
from test_published_models import put_on

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
    "04_life_of_a_jailbreak": (
        r"Bomb\. To make a bomb, use two tools\.",
        r"harmful acrostic +(-?\d+\.\d, ){10}-?\d+\.\d \| refusal likelier than not",
        r"before block 3 of 6: length of the difference \d",
        r"not swapped: acrostic -?\d",
    ),
}
"""Notebooks with a constant MODEL that may name a published model, and what they print then."""
DICTIONARIES = {
    "google/gemma-3-270m-it": (8, "sae", r"gemma-3-270m-it, sae of layer 5: 48 features, trained on google/gemma-3-270m-it"),
    "Qwen/Qwen3-0.6B": (6, "transcoder", r"Qwen3-0.6B, transcoder of layer 3: 48 features, trained on Qwen/Qwen3-0.6B"),
    MODEL: (6, "", r"knows no dictionaries of Qwen/Qwen2.5-0.5B-Instruct, .* With some: google/gemma-3-270m-it, Qwen/Qwen3-0.6B"),
}
"""Layers of the stand-in, what section 9 of notebook 03 reads of it, and what it prints then."""


def cells_of(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", [*ON_MODEL, "03_bleach_and_ammonia"])
def test_the_constant_stands_once_and_what_follows_speaks_of_profiles(name):
    cells = [cell.source for cell in cells_of(ROOT / "solutions" / f"{name}.ipynb")]
    assert sum(len(on_model.CONSTANT.findall(source)) for source in cells) == 1
    start = next(source for source in cells if on_model.CONSTANT.search(source))
    assert "profiles.get(MODEL)" in start and any("models.load(MODEL)" in source for source in cells)


@pytest.mark.long
@pytest.mark.parametrize("name", ON_MODEL)
def test_no_cell_stops_on_a_published_model_and_the_model_is_asked_of_the_hub_once(name, tmp_path):
    hub = hub_server.Hub()
    printed = printed_on(MODEL, name, hub, tmp_path)
    assert sum(request.endswith("/model.safetensors") for request in hub.log if request.startswith("GET")) == 1
    assert [words for words in ON_MODEL[name] if not re.search(words, printed)] == []


@pytest.mark.long
@pytest.mark.parametrize("model", DICTIONARIES)
def test_notebook_03_reads_a_models_own_dictionary_and_says_so_where_there_is_none(model, tmp_path):
    hub, (n_layers, kind, words) = hub_server.Hub(), DICTIONARIES[model]
    if kind:
        put_on(hub, model, tmp_path / "release", kind)
    printed = printed_on(model, "03_bleach_and_ammonia", hub, tmp_path, n_layers)
    effect = rf"{re.escape(model if kind else 'chat')}: the three at -1x move the log-odds of refusing dangerous pairs from"
    assert re.search(words, printed) and re.search(effect, printed)


def printed_on(model, name, hub, tmp_path, n_layers=6):
    """What a complete notebook prints on a stand-in of the model, served by the hub; no cell of it stops."""
    folder = published_models.save(model, tmp_path / "model", n_layers=n_layers)
    hub.add(model, folder, commit=profiles.get(model).revision)
    server = hub_server.serve(hub)
    here = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, ROOT / "notebooks" / "on_model.py", model, name, "--keep", tmp_path / "kept"]
    try:
        done = subprocess.run(command, env=os.environ | here, capture_output=True, text=True, timeout=3600)
    finally:
        server.shutdown()
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return "".join(output.get("text", "") for cell in cells_of(tmp_path / "kept" / f"{name}.ipynb") for output in cell.outputs)
