"""Every small change of a worked answer is refused by its check, or noted with the reason why it changes nothing."""

import pytest

from tools import mutants

SAMPLE = {"0.4", "1.6", "2.7", "3.2", "4.4", "5.3", "6.9", "7.5"}
"""Run in every suite: one exercise a chapter, half of them with a limit or an order that is easily missed."""
REST = sorted({*mutants.exercises()} - SAMPLE)


@pytest.mark.parametrize("item", sorted(SAMPLE))
def test_the_check_refuses_every_mutant_that_is_not_equivalent(item):
    outcome = mutants.put_to_check(item)
    assert not outcome.holes and not outcome.stale


@pytest.mark.nightly
@pytest.mark.parametrize("item", REST)
def test_so_does_the_check_of_every_other_exercise(item):
    outcome = mutants.put_to_check(item)
    assert not outcome.holes and not outcome.stale


def test_the_changes_are_those_that_people_make():
    code = "def f(a, b):\n    return a - b.mean(dim=0)"
    made = {mutant.change for mutant in mutants.mutants(code, "f")}
    assert {
        "arguments a and b exchanged",
        "a global for the argument a",
        "a changed in place, then return a - b.mean(dim=0)",
        "a - b.mean(dim=0) -> a + b.mean(dim=0)",
        "a - b.mean(dim=0) -> a",
        "b.mean(dim=0) -> b.sum(dim=0)",
        "b.mean(dim=0) -> abs(b.mean(dim=0))",
        "0 -> 1",
    } <= made


def test_every_reason_belongs_to_an_exercise():
    items = set(mutants.exercises())
    assert all(set(mutants.equivalents(chapter)) <= items for chapter in range(8))
