"""Checks, messages, predictions, claims and progress: what a learner calls in a notebook.

Answers live in the learner's notebook and are handed over explicitly: `check("1.3", my_function)`. What each
exercise asks, and the mistakes its check knows by name, is written beside its notebook in `chapters/`, as are
the wrong answers that every check must refuse. These checks are there to learn by: they run beside the
learner's code and are no protection against cheating.
"""

from course_lib.grading import expect
from course_lib.grading.card import progress
from course_lib.grading.checking import check, checkpoint, hint
from course_lib.grading.claims import claim, supported
from course_lib.grading.predicting import predict, reveal
from course_lib.grading.quizzing import quiz
from course_lib.grading.registry import Wrong, exercise, prediction, question

__all__ = [
    "Wrong",
    "check",
    "checkpoint",
    "claim",
    "exercise",
    "expect",
    "hint",
    "predict",
    "prediction",
    "progress",
    "question",
    "quiz",
    "reveal",
    "supported",
]
