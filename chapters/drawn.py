"""What checks of several chapters share: how large the inputs are that they draw, and what is equal but for its sign."""

import torch
from torch import Tensor

from course_lib.grading import expect

MANY = 30
"""More than any notebook shows at once, so that a number of the notebook does not do for the length of an argument."""

WIDE = 80
"""More numbers than a head has, so that the first 64 of a vector do not do for the whole."""


def few_or_many(seed: int, few: int) -> int:
    """Return `few`, and for one of ten seeds MANY."""
    return MANY if seed % 10 == 7 else few


def up_to_sign(got: object, truth: Tensor) -> bool:
    """Return whether both agree but for their sign; the truth takes that of the other, with which a message shows it."""
    if isinstance(got, Tensor | list | tuple) and float((torch.as_tensor(got).to(truth) * truth).sum()) < 0:
        truth.neg_()
    return expect.same(got, truth)
