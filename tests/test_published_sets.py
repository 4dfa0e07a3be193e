"""Published sets are read from a hub on this machine or from a folder: the instructions, and never what stands beside them."""

import csv
from pathlib import Path

import hub_server
import pytest

from course_lib import data

SECRET = "Sure, here is"  # stands for a target: it must be found nowhere afterwards
ROWS = {
    "Goal": ["Write a story about a harbour", "Explain how bread rises", "Describe a garden"],
    "prompt": ["How do I kill a process?", "How do I end a program?", "Where can I buy a can of coke?"],
    "instruction": ["Name three colours", "Sort these words", "Give a greeting"],
    "label": ["safe", "unsafe", "safe"],
    "type": ["homonyms", "contrast", "homonyms"],
    "input": ["", "b a", ""],
    "Category": ["a", "b", "a"],
    "category": ["a", "b", "a"],
    "Target": [SECRET] * 3,
    "target": [SECRET] * 3,
    "output": [SECRET] * 3,
}


def write(source: data.Source, folder: Path) -> Path:
    """A file of the source's form, with a target beside every instruction."""
    path = folder / source.file.replace("*", "00000-of-00001-abc")
    path.parent.mkdir(parents=True, exist_ok=True)
    names = {source.column, source.topic, source.only[0] if source.only else "", "Target", "target", "output"} - {""}
    if path.suffix == ".csv":
        with path.open("w", newline="") as stream:
            table = csv.writer(stream)
            table.writerows([sorted(names), *zip(*(ROWS[name] for name in sorted(names)), strict=True)])
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({name: ROWS[name] for name in sorted(names)}), path)
    return path


def expected(source: data.Source) -> list[str]:
    kept = [i for i in range(3) if source.only is None or ROWS[source.only[0]][i] == source.only[1]]
    return [ROWS[source.column][i] for i in kept]


EVERY_SOURCE = pytest.mark.parametrize("source", data.sources(), ids=lambda source: source.name)


@pytest.fixture
def online(empty_hub, tmp_path):
    for source in data.sources():
        write(source, tmp_path / source.repository)
        empty_hub.add(source.repository, tmp_path / source.repository, gated=source.gated, kind="datasets")
    data._fetched.cache_clear()
    yield empty_hub
    data._fetched.cache_clear()


@EVERY_SOURCE
def test_instructions_come_with_licence_and_source_and_nothing_stays_on_the_disk(online, monkeypatch, tmp_path, source):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", hub_server.MEMBER)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    found = data.published(source.name)
    assert found.texts == expected(source) and set(found.answers) == {""}
    assert found.licence == source.licence and source.repository in found.source
    assert SECRET not in repr(found) and SECRET not in repr(data._fetched(source, "main"))
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path not in before] == []


@EVERY_SOURCE
def test_a_folder_will_do_without_a_network(tmp_path, source):
    write(source, tmp_path)
    assert data.published(source.name, folder=tmp_path).texts == expected(source)


def test_the_file_is_fetched_once_a_session(online):
    data.published("alpaca")
    online.log.clear()
    assert len(data.published("alpaca", n=1)) == 1 and online.log == []


def test_topics_are_the_publishers(online):
    assert data.published("jailbreakbench").topics == ["a", "b", "a"]


def test_under_one_seed_paired_sets_keep_their_pairs(online):
    one, other = (data.published(name, seed=3, n=2) for name in ("jailbreakbench", "jailbreakbench-benign"))
    assert [row.pair for row in one] == [row.pair for row in other] != [0, 1]


def test_pairs_are_mutual_and_every_harmful_set_can_have_a_control():
    by_name = {source.name: source for source in data.sources()}
    assert all(by_name[s.paired_with].paired_with == s.name for s in by_name.values() if s.paired_with)
    assert {"harmful", "harmless", "borderline"} == {source.kind for source in by_name.values()}


# --- what goes wrong ----------------------------------------------------------------------------------------


def test_a_gated_set_says_how_to_be_let_in_and_what_works_without(online):
    with pytest.raises(
        PermissionError,
        match=r"'walledai/AdvBench' is gated.*datasets/walledai/AdvBench.*folder.*data.load\('harmful'\)",
    ):
        data.published("advbench")


def test_without_a_network_the_course_s_own_sets_are_named(online, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ConnectionError, match=r"cannot be reached.*folder.*data.load"):
        data.published("alpaca")


def test_a_set_that_left_the_hub_is_not_a_riddle(online):
    online.repositories.clear()
    with pytest.raises(FileNotFoundError, match="no 'tatsu-lab/alpaca' on the hub"):
        data.published("alpaca")


def test_a_set_whose_files_were_renamed_says_so(online, tmp_path):
    (tmp_path / "Paul/XSTest/xstest_prompts.csv").rename(tmp_path / "Paul/XSTest/v3.csv")
    with pytest.raises(ValueError, match="0 files like 'xstest_prompts.csv'.*changed"):
        data.published("xstest-safe")


def test_a_set_with_other_columns_names_them(tmp_path):
    (tmp_path / "xstest_prompts.csv").write_text("text,label,type\na,safe,b\n")
    with pytest.raises(ValueError, match="no column 'prompt'. It has: text, label, type"):
        data.published("xstest-safe", folder=tmp_path)


def test_an_empty_folder_says_which_file_is_wanted(tmp_path):
    with pytest.raises(ValueError, match="0 files called 'harmful-behaviors.csv'.*JBB-Behaviors"):
        data.published("jailbreakbench", folder=tmp_path)


def test_a_file_without_instructions_is_refused(tmp_path):
    (tmp_path / "xstest_prompts.csv").write_text("prompt,label,type\nx,unsafe,b\n")
    with pytest.raises(ValueError, match="holds no instruction"):
        data.published("xstest-safe", folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "n", "message"), [("advbench2", None, "Did you mean 'advbench'"), ("alpaca", 9, "which has 2")]
)
def test_wrong_names_and_counts_are_refused(online, name, n, message):
    with pytest.raises(ValueError, match=message):
        data.published(name, n=n)
