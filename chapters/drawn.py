"""How large the inputs are that a check draws."""

MANY = 30
"""More than any notebook shows at once, so that a number of the notebook does not do for the length of an argument."""


def few_or_many(seed: int, few: int) -> int:
    """Return `few`, and for one of ten seeds MANY."""
    return MANY if seed % 10 == 7 else few
