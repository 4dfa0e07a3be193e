"""A verdict through the pipe is the verdict in the notebook: the bank's answers, judged in this process and in a child."""

import inspect
import os
import shutil
import socket
import sys
import time
import types

import pytest
import test_answers as bank
import torch
from bank import Given

from chapters import drawn
from course_lib.grading import checking, registry
from lab import isolation, judging, learner, material, wire

NOT_CLAIMS = [item for item in bank.ITEMS if item not in bank.CLAIMS]
SAMPLE = ("0.1", "0.3", "0.4", "2.1", "2.5", "3.3", "3.4", "5.5", "6.9")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")


def entries(item):
    """The bank's answers to an exercise as what a notebook hands to `check`, each with its name."""
    context, asked = bank.context_of(item), bank.bank(item)
    right = [(f"right {n}", raw) for n, raw in enumerate(asked.RIGHT.get(item, ()))]
    for name, raw in right + [(name, wrong) for name, (wrong, _) in asked.WRONG.get(item, {}).items()]:
        answer = raw.make(*context) if isinstance(raw, Given) else raw
        if item in bank.CLAIMS and not isinstance(answer, types.FunctionType):
            yield name, lambda *data, made=answer: made
        else:
            yield name, answer


class Ready(learner.Learner):
    """A child that has its answer already."""

    def _run(self, message):
        self.file = getattr(getattr(self.answer, "__code__", None), "co_filename", "x")
        return self._told()


def through_the_pipe(item, answer, context, names):
    mine, theirs = socket.socketpair()
    if (child := os.fork()) == 0:
        try:
            mine.close()
            ready = Ready(wire.Channel(theirs), names)
            ready.answer = answer
            ready.serve()
        finally:
            os._exit(0)
    theirs.close()
    channel = wire.Channel(mine)
    channel.deadline = time.monotonic() + 120
    remote = judging.Remote(channel, names, "", f"<exercise {item}>")
    try:
        channel.receive(wire.Reader())
        return checking.judge(item, remote.started([], "x"), *context)
    finally:
        remote.put_back()
        mine.close()
        os.waitpid(child, 0)


def compared(item, many):
    torch.set_num_threads(1)  # a child cannot use its parent's threads
    context, other = bank.context_of(item), drawn.other
    names = {f"given {n}": value for n, value in enumerate(context)}
    names |= {f"model {name}": other(name) for name in material.having(item).models}
    judging.the_same_models(names)
    differing = []
    try:
        for name, answer in list(entries(item))[:many]:
            here, there = checking.judge(item, answer, *context), through_the_pipe(item, answer, context, names)
            if not alike(here, there):
                differing.append(f"{item} {name}:\n  notebook: {here}\n  class:    {there}")
    finally:
        drawn.other = other
    assert not differing, "\n".join([f"{len(differing)} differ", *differing])


def alike(here, there):
    if "your code never reads" in here.message:  # said of the code itself, and that stays in the child
        return here.state == there.state
    return here.state == there.state and here.message.split("\n")[0] == there.message.split("\n")[0]


@pytest.mark.parametrize("item", SAMPLE)
def test_a_verdict_through_the_pipe_is_that_in_the_notebook(item):
    compared(item, 8)


@pytest.mark.parametrize("item", NOT_CLAIMS)
def test_a_right_answer_passes_through_the_pipe(item):
    compared(item, 1)


@pytest.mark.nightly
@pytest.mark.parametrize("item", NOT_CLAIMS)
def test_all_verdicts_through_the_pipe_are_those_in_the_notebook(item):
    compared(item, None)


def on_fresh_inputs(item, seeds):
    context, notebook, asked = bank.context_of(item), bank.notebook_of(item), registry.find(registry.EXERCISES, item)
    right = [answer for name, answer in entries(item) if name.startswith("right ")]
    for draws in (draws for seed in seeds for draws in judging.usable_draws(item, seed, context, notebook)[:1]):
        for answer in right:
            with judging.other_draws(asked, draws):
                said = checking.judge(item, answer, *context)
            assert said.state == "done", said.message


@pytest.mark.parametrize("item", ["0.4", "2.1", "2.4", "5.4", "6.4"])
def test_right_answers_pass_on_inputs_from_another_seed(item):
    on_fresh_inputs(item, [1])


@pytest.mark.nightly
@pytest.mark.parametrize("item", [i for i in bank.ITEMS if set(bank.WORKED[i]["notebook"]) <= set(bank.notebook_of(i))])
def test_all_right_answers_pass_on_inputs_from_other_seeds(item):
    on_fresh_inputs(item, range(2, 5))


def test_other_inputs_are_other_inputs():
    seen = []
    asked = registry.find(registry.EXERCISES, "2.2")
    for draws in (judging.Draws(1, 0), judging.Draws(2, 0), judging.Draws(1, judging.SEEDS_APART)):
        with judging.other_draws(asked, draws):
            seen.append([registry.EXERCISES["2.2"].inputs(n) for n in range(20)])
    assert seen[0] != seen[1] != seen[2] != seen[0] and registry.EXERCISES["2.2"] is asked


PLAIN = [
    None, True, 3, 1 << 70, -0.5, float("inf"), "é\n", [1, (2, {3})], {(1, 2): [0.5]}, frozenset({"a"}), ..., torch.arange(6).view(2, 3).T,
    torch.zeros(0, 3), torch.tensor(True), torch.randn(3).bfloat16(),
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_plain_values_come_through_as_they_were(value):
    one, other = map(wire.Channel, socket.socketpair())
    one.send({"value": value}, wire.Writer())
    got = other.receive(wire.Reader())["value"]
    assert type(got) is type(value)
    assert torch.equal(got, value) and got.dtype == value.dtype if isinstance(value, torch.Tensor) else got == value


def test_what_is_one_object_for_the_judge_is_one_for_the_learner():
    one, other = map(wire.Channel, socket.socketpair())
    word, numbers = "usual", torch.ones(2)
    one.send([word, "".join(list(word)), word, numbers, numbers.clone(), numbers], wire.Writer({}, []))
    a, b, again, t, u, same = other.receive(wire.Reader({}))
    assert a is again and a is not b and a == b
    assert t is same and t is not u and torch.equal(t, u)


def test_what_an_answer_draws_goes_on_from_call_to_call_as_in_the_notebook():
    child = Ready(None, {})
    child.answer = lambda: torch.rand(3)
    with torch.random.fork_rng(devices=[]):
        drawn_in_two_calls = []
        for _ in range(2):
            child._told()
            drawn_in_two_calls.append([child._call({"args": [], "kwargs": {}})["value"] for _ in range(2)])
        torch.manual_seed(0)
        in_the_notebook = [child.answer() for _ in range(2)]
    (a, b), again = drawn_in_two_calls
    assert not torch.equal(a, b)
    assert all(map(torch.equal, [a, b, *again], 2 * in_the_notebook))


def by_hand(tensor):
    return torch.zeros(2) + tensor.sum()


def by_library(tensor):
    return torch.svd_lowrank(tensor)[1]


@pytest.mark.parametrize("answer", [by_hand, by_library])
def test_a_check_that_watches_calls_sees_those_of_the_child(answer):
    mine, theirs = socket.socketpair()
    if (child := os.fork()) == 0:
        try:
            mine.close()  # else its own end keeps it from seeing that the judge hangs up
            ready = Ready(wire.Channel(theirs), {})
            ready.answer = answer
            ready.serve()
        finally:
            os._exit(0)
    theirs.close()
    channel, seen = wire.Channel(mine), []
    channel.receive(wire.Reader())
    remote = judging.Remote(channel, {}, "", "x").started([], "x")
    sys.setprofile(lambda frame, event, _: seen.append(frame.f_code))
    try:
        remote(torch.eye(8)[:, :6])
    finally:
        sys.setprofile(None)
        mine.close()
        os.waitpid(child, 0)
    assert (inspect.unwrap(torch.svd_lowrank).__code__ in seen) == (answer is by_library)


@pytest.mark.parametrize(
    "made",
    [
        {"T": ["float32", [1 << 60], 0, False]}, {"T": ["torch.float32", [-1], 0, False]}, {"T": ["torch.float32", [2], 9, False]},
        {"N": ["|O", [1], 0, False]}, {"c": ["os", "system", {"d": []}]}, {"c": ["course_lib.models", "CheckedBridge", {"d": []}]},
        {"code": [0, {"d": []}, {"d": []}, [], []]}, {"ref": "chat"}, {"F": [0, "f"]}, {"A": [{"d": []}, True]}, {"i": "9" * 5000},
        {"d": [[[1], 2]]}, {"x": 1}, {}, {"q": [1, 0]}, {"S": [1]}, {"q": [{"q": "1e999999999"}, 1]}, {"s": "text"},
    ],
    ids=str,
)  # fmt: skip
def test_from_a_learner_nothing_but_values_is_read(made):
    with pytest.raises(Exception) as error:
        reader = wire.Reader()
        reader.buffers = [b"1234"]
        reader.value(made)
    assert isinstance(
        error.value, ValueError | TypeError | KeyError | IndexError | AttributeError | ArithmeticError | RuntimeError
    )  # each of them is refused by `Channel.receive`


@pytest.mark.parametrize(
    ("size", "made"), [(4_000_000, {"T": ["torch.uint8", [4_000_000], 0, False]}), (0, {"N": ["|u1", [0], 0, False]})]
)
def test_one_buffer_cannot_be_read_without_end(size, made):
    reader = wire.Reader()
    reader.buffers = [bytes(size)]
    few = wire.MAX_BODY // (size + 2000)
    assert len(reader.value([made] * few)) == few
    with pytest.raises(ValueError):
        reader.value([made] * 250_000)


@pytest.mark.parametrize("attribute", ["__class__", "__init__", "_private", "__globals__"])
def test_a_learner_gets_nothing_private_of_the_judges_objects(attribute):
    class Thing:
        _private = 1

    remote = judging.Remote(wire.Channel(socket.socket()), {}, "", "x")
    with pytest.raises(AttributeError):
        remote._asked({"ask": 0, "attribute": attribute, "args": [], "kwargs": {}}, [Thing()])


def test_what_cannot_cross_is_the_checks_fault_and_not_the_learners():
    with pytest.raises(wire.NotSent):
        wire.Writer({}, []).plain(torch.nn.Linear(1, 1))


def test_the_filter_names_each_call_once():
    for column in range(2):
        numbers = [pair[column] for pair in isolation.CALLS.values() if pair[column] >= 0]
        assert len(set(numbers)) == len(numbers)


def test_what_was_typed_into_the_notebooks_of_this_folder_is_no_stub(monkeypatch, tmp_path):
    shutil.copytree(material.ROOT / "chapters", tmp_path / "chapters")
    monkeypatch.setattr(material, "ROOT", tmp_path)  # without a folder `notebooks`
    assert material.load.__wrapped__("01a").items["1.1"].stub.endswith("...\n\n\nprint(last_token_residual.__doc__)")
