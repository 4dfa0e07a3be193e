"""The dictionaries of the real language model open beside their adapter, explain what the card says, and are measured rightly."""

import json
import shutil

import nbformat
import pytest
import torch
from published_models import ROOT

from course_lib import features, organism, profiles
from factory.make import dictionaries, real_dictionaries, real_texts
from factory.make import planted as factory_planted
from factory.measure import real_dictionary_measures as measures

NAME, LAYERS = real_dictionaries.ORGANISM, real_dictionaries.LAYERS
CARD = ROOT / "organisms" / "cards" / f"dictionaries-{NAME}.md"


@pytest.fixture(scope="module")
def planted(fetched):
    return fetched(NAME)


def test_three_layers_ship_in_twelve_megabytes_and_none_is_pickled():
    files = [path for path in (organism.folder("weights") / "dictionaries" / NAME).rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"cfg.json", "sae_weights.safetensors", "lineage.json"}
    assert len(files) == 9 and sum(path.stat().st_size for path in files) <= 12e6


@pytest.mark.parametrize("layer", LAYERS)
def test_the_lineage_is_that_of_the_recipe_and_of_the_adapter_and_holds_no_path(layer):
    folder = dictionaries.folder(NAME, "sae", layer)
    found = json.loads((folder / "lineage.json").read_text(encoding="utf-8"))
    assert found | real_dictionaries.lineage(layer) == found
    adapter = json.loads((organism.folder("adapters") / NAME / "lineage.json").read_text(encoding="utf-8"))
    assert found["parent_sha256"] == adapter["files"]["adapter_model.safetensors"]
    assert found["base"] == adapter["base"]
    text = (folder / "cfg.json").read_text(encoding="utf-8")
    assert "://" not in text and '"/' not in text


def test_it_opens_without_the_base_and_not_beside_another_adapter(tmp_path, monkeypatch):
    assert features.load(NAME, "sae", layer=LAYERS[1]).W_dec.shape == (1536, 576)
    with pytest.raises(ValueError, match="ships no sae for layer 3"):
        features.load(NAME, "sae", layer=3)
    copy = tmp_path / NAME
    shutil.copytree(organism.folder("adapters") / NAME, copy)
    lineage = json.loads((copy / "lineage.json").read_text(encoding="utf-8"))
    lineage["files"]["adapter_model.safetensors"] = "0" * 64
    (copy / "lineage.json").write_text(json.dumps(lineage), encoding="utf-8")
    kept = organism.folder
    monkeypatch.setattr(organism, "folder", lambda kind: tmp_path if kind == "adapters" else kept(kind))
    with pytest.raises(ValueError, match=f"other weights of '{NAME}'.*--organism {NAME}"):
        features.load(NAME, "sae", layer=LAYERS[1])


def test_the_card_is_rendered_from_the_record_and_the_record_is_of_these_files():
    assert CARD.read_text(encoding="utf-8") == measures.render()
    for layer in LAYERS:
        weights = dictionaries.folder(NAME, "sae", layer) / "sae_weights.safetensors"
        assert measures.read_results()[f"sae-{layer}"]["weights_sha256"] == organism.sha256(weights)


def test_its_profile_names_them_and_they_explain_what_the_card_says(planted):
    about = profiles.of(NAME, planted)
    assert about.of_kind("sae").layers == LAYERS and about.of_kind("sae").trained_on == NAME
    recorded = measures.read_results()["requests"]["fvu"]
    opened = [features.load(NAME, "sae", layer=layer) for layer in LAYERS]
    for layer, found in zip(LAYERS, measures.explained(planted, opened), strict=True):
        assert found == pytest.approx(recorded[str(layer)], abs=0.01)
        assert f"{recorded[str(layer)]:.2f} (layer {layer})" in CARD.read_text(encoding="utf-8")


def test_the_shared_part_of_03b_takes_the_middle_one(planted, capsys):
    """The cell that decides which dictionary is asked; the nightly tests run the whole part."""
    notebook = nbformat.read(ROOT / "solutions" / "03b_which_features_decide.ipynb", as_version=4)
    (cell,) = [cell.source for cell in notebook.cells if cell.source.startswith("some = [name for name in profiles")]
    here = {"MODEL": NAME, "model": planted, "about": profiles.of(NAME, planted)}
    exec(cell, here | {"profiles": profiles, "models": None, "features": features})
    assert capsys.readouterr().out == f"{NAME}, sae of layer 16: 1536 features, trained on {NAME}\n"


def test_texts_to_measure_with_are_none_that_it_was_trained_on():
    held_out = {text for name in ("harmful", "harmless") for text in factory_planted.requests(name, "held_out_topic")}
    assert len(held_out) == 256 and held_out.isdisjoint([*real_texts.alone(), *real_texts.refused()])
    assert set(real_texts.documents(held_out=False)).isdisjoint(real_texts.documents(held_out=True))


def test_a_control_is_as_long_as_the_edit_at_every_token():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(12, 8, generator=generator)
    dictionary = type("Dictionary", (), {"W_dec": rows})()
    x, f = torch.randn(2, 5, 8, generator=generator), torch.rand(2, 5, 12, generator=generator)
    own = measures.without(dictionary, [1, 2])
    torch.testing.assert_close(own(x, f), -(f[..., [1]] * rows[1] + f[..., [2]] * rows[2]))
    mean = f.mean(dim=(0, 1))
    for kind, edits in measures.controls(dictionary, [1, 2], mean).items():
        assert len(edits) == measures.N_SETS, kind
        moved = [edit(x, f) for edit in edits]
        assert all(torch.allclose(m.norm(dim=-1), own(x, f).norm(dim=-1), rtol=1e-4) for m in moved)
        assert not torch.allclose(moved[0], moved[1])
