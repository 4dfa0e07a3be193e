"""What a direction carried to another contrast shows on data whose truth is known."""

import pytest
import torch

from course_lib import probing

D_MODEL = 32
STEP = torch.zeros(D_MODEL)
STEP[0] = 4.0


def sets(shift, *, spread=1.0, n=80, axis=0):
    """The same questions twice; the first time moved along an axis."""
    questions = spread * torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(1))
    moved = questions.clone()
    moved[:, axis] += shift
    return moved, questions


def test_shift_is_counted_in_lengths_of_the_direction():
    found = probing.transfer(STEP, *sets(2.0))
    assert found.shift.estimate == pytest.approx(0.5, abs=1e-5)
    assert found.shift.low <= 0.5 + 1e-5 and found.shift.high >= 0.5 - 1e-5


def test_a_tiny_shift_ranks_perfectly_where_little_else_varies_and_the_shift_tells():
    tiny, whole = probing.transfer(STEP, *sets(0.2, spread=0.01)), probing.transfer(STEP, *sets(4.0, spread=0.01))
    assert tiny.auroc.estimate == whole.auroc.estimate == 1.0
    assert tiny.shift.estimate < 0.1 < 0.9 < whole.shift.estimate


def test_random_directions_reach_the_auroc_too_when_the_sets_lie_far_apart():
    far = probing.transfer(STEP, *sets(4.0, spread=0.01))
    near = probing.transfer(STEP, *sets(2.0, spread=1.0))
    assert far.share_reaching > 0.5 > near.share_reaching


def test_shift_along_the_direction_exceeds_random_ones_and_shift_beside_it_does_not():
    assert probing.transfer(STEP, *sets(4.0)).exceeds_random
    assert not probing.transfer(STEP, *sets(4.0, axis=7)).exceeds_random


def test_sign_is_reported_not_folded():
    found = probing.transfer(STEP, *sets(-4.0, spread=0.1))
    assert found.auroc.estimate == 0.0 and found.shift.estimate < 0
    assert found.exceeds_random


def test_mixed_sets_have_no_order():
    assert probing.transfer(STEP, *sets(4.0)).shuffled_aurocs.sub(0.5).abs().mean() < 0.1


def test_equal_arguments_give_equal_numbers():
    one, two = (probing.transfer(STEP, *sets(1.0), seed=3) for _ in range(2))
    assert one.table() == two.table()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"direction": torch.zeros(D_MODEL)}, "longer than 0"),
        ({"positive": torch.full((80, D_MODEL), torch.nan)}, "finite"),
        ({"n_random": 0}, "1 random direction"),
    ],
)
def test_what_cannot_be_read_is_refused(change, words):
    moved, questions = sets(1.0)
    with pytest.raises(ValueError, match=words):
        probing.transfer(**({"direction": STEP, "positive": moved, "negative": questions} | change))
