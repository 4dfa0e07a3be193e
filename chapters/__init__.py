"""The chapters: notebook, exercises and answer bank side by side; this module is what a notebook imports.

Each folder `NN_topic` holds `notebook.py` (the source of both notebooks), `exercises.py` (checks, hints, questions,
predictions) and `answers.py` (right and wrong answers that the checks must tell apart).
"""

from course_lib.grading import check, checkpoint, claim, hint, predict, progress, quiz, registry, reveal, supported

__all__ = ["check", "checkpoint", "claim", "hint", "predict", "progress", "quiz", "reveal", "supported"]

registry.add_chapters(__name__, __path__)
