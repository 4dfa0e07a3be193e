"""Every check refuses its plausible wrong answers, most of them by name, and accepts every right one."""

import importlib
from types import FunctionType

import pytest
import torch
from bank import Given

import chapters  # noqa: F401  (registers them)
from course_lib.grading import registry
from course_lib.grading.checking import checkpoint, judge, reference

MIN_RIGHT, MIN_WRONG, MIN_NAMED, N_HINTS = 5, 6, 0.8, 3
MAX_NEEDING_NOTEBOOK = 0.1
BANKS = {
    number: importlib.import_module(module.replace("exercises", "answers"))
    for number, module in registry.MODULES.items()
}
NOTEBOOKS = sorted(BANKS)
ITEMS = [exercise.id for number in NOTEBOOKS for exercise in registry.items_of(registry.EXERCISES, number)]
WORKED = {item: worked for number in NOTEBOOKS for item, worked in registry.references(number).items()}
CLAIMS = {item for item, worked in WORKED.items() if "return claim(" in "\n".join(worked["code"])}
RIGHT = [(item, n) for item in ITEMS for n in range(len(BANKS[registry.chapter_of(item)].RIGHT.get(item, ())))]
WRONG = [(item, name) for item in ITEMS for name in BANKS[registry.chapter_of(item)].WRONG.get(item, ())]


def bank(item):
    return BANKS[registry.chapter_of(item)]


def context_of(item):
    make = getattr(bank(item), "CONTEXT", {}).get(item)
    return tuple(make()) if make else ()


def notebook_of(item):
    return getattr(bank(item), "NOTEBOOK", {}).get(item, {})


def verdict_on(item, answer):
    """The verdict on one entry of a bank; a claim stands for the function that always returns it."""
    context = context_of(item)
    answer = answer.make(*context) if isinstance(answer, Given) else answer
    if item in CLAIMS and not isinstance(answer, FunctionType):
        return judge(item, lambda *data: answer, *context)
    return judge(item, answer, *context)


@pytest.mark.parametrize("item", ITEMS)
def test_every_exercise_has_a_bank_that_is_large_enough(item):
    right, wrong = bank(item).RIGHT.get(item, ()), bank(item).WRONG.get(item, {})
    assert len(right) >= MIN_RIGHT and len(wrong) >= MIN_WRONG


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_every_entry_of_a_bank_belongs_to_an_exercise(notebook):
    entries = {*BANKS[notebook].RIGHT, *BANKS[notebook].WRONG, *getattr(BANKS[notebook], "CONTEXT", {})}
    assert entries <= set(ITEMS)


@pytest.mark.parametrize("item, number", RIGHT)
def test_a_right_answer_is_accepted(item, number):
    verdict = verdict_on(item, bank(item).RIGHT[item][number])
    assert verdict.state == "done", verdict.message


@pytest.mark.parametrize(
    "item, answer, words",
    [
        ("0.2", "blocks.3.ln1.hook_in", "first norm of block 3"),
        ("0.3", BANKS[0].stream("resid_mid", "mlp_out"), "from two entries"),
    ],
)
def test_a_right_answer_of_another_kind_is_told_so(item, answer, words):
    assert words in verdict_on(item, answer).message
    assert words not in verdict_on(item, bank(item).RIGHT[item][0]).message


@pytest.mark.parametrize("item", [item for item in WORKED if set(WORKED[item]["notebook"]) <= set(notebook_of(item))])
def test_the_reference_is_accepted_by_its_own_check(item):
    """Those that need names of their notebook which the bank lacks are used by its run: see left_open.py."""
    context = context_of(item)
    assert judge(item, reference(item, context, notebook_of(item)), *context).state == "done"


@pytest.mark.parametrize("item, name", WRONG)
def test_a_wrong_answer_is_refused_and_named(item, name):
    answer, words = bank(item).WRONG[item][name]
    verdict = verdict_on(item, answer)
    assert verdict.state == "wrong", f"{name}: {verdict.message}"
    assert words is None or words in verdict.message, f"{words!r} is not in: {verdict.message}"


@pytest.mark.parametrize("item", ITEMS)
def test_an_untouched_exercise_is_not_done_rather_than_wrong(item):
    assert judge(item, ..., *context_of(item)).state == "not done"


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_most_mistakes_are_named(notebook):
    named = [words is not None for wrong in BANKS[notebook].WRONG.values() for _, words in wrong.values()]
    assert sum(named) >= MIN_NAMED * len(named), f"{sum(named)} of {len(named)} wrong answers are named"


def test_every_exercise_has_a_reference_and_few_need_their_notebook():
    assert set(WORKED) == set(ITEMS)
    assert sum(bool(worked["notebook"]) for worked in WORKED.values()) <= MAX_NEEDING_NOTEBOOK * len(WORKED)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_every_item_is_whole(notebook):
    for exercise in registry.items_of(registry.EXERCISES, notebook):
        assert len(set(map(str.strip, exercise.hints)) - {""}) == N_HINTS
        assert exercise.title.strip() and exercise.minutes > 0 and 1 <= exercise.difficulty <= 5
    for question in registry.items_of(registry.QUESTIONS, notebook):
        assert len(question.options) > 1 and question.correct in question.options
        assert all(text and explanation for text, explanation in question.options.values())
    for prediction in registry.items_of(registry.PREDICTIONS, notebook):
        assert len(prediction.options) > 1 or prediction.bounds[0] < prediction.bounds[1]


@pytest.mark.parametrize("turned", [lambda x: x.numpy(), lambda x: x.double(), lambda x: x])
def test_what_goes_on_is_a_tensor_of_the_dtype_that_later_cells_need(turned, capsys):
    def before_norm(r, gain):
        return turned(gain * r / (gain * r).norm())

    right = checkpoint("2.8", before_norm)
    made = right(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0]))
    assert "going on with your version" in capsys.readouterr().out
    assert isinstance(made, torch.Tensor) and made.dtype == torch.float32
    assert judge("2.8", right).state == "done"


def test_what_a_learner_put_around_a_function_is_judged_with_it():
    """Without gradients the loss of 2.5 trains nothing, wherever they were switched off."""
    right = reference("2.5", (), {})
    assert judge("2.5", right).state == "done"
    assert judge("2.5", torch.no_grad()(right)).state == "wrong"
