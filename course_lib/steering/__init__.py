"""Change what a model computes while it runs. Weights are never touched."""

from course_lib.steering.vectors import ablate, add, add_projection_matched, score_candidates

__all__ = [
    "ablate",
    "add",
    "add_projection_matched",
    "score_candidates",
]
