"""The chapters: notebook, exercises and answer bank side by side; this module is what a notebook imports.

Each folder `NN_topic` holds the source of its notebook, or of two (`NNa_...py` and `NNb_...py`), with `exercises.py`
(checks, hints, questions, predictions), `answers.py` (right and wrong answers that the checks must tell apart) and
`references.json` (the worked answers, taken from the notebooks by `tools/build.py`). `claimed.py` holds the checks of those
exercises that ask for a claim.
"""

from pathlib import Path

from course_lib.grading import registry
from course_lib.grading.asking import predict, quiz, reveal
from course_lib.grading.card import calibration, progress
from course_lib.grading.checking import check, checkpoint, hint
from course_lib.grading.claims import claim, supported

__all__ = ["calibration", "check", "checkpoint", "claim", "hint", "predict", "progress", "quiz", "reveal", "supported"]

for _folder in sorted(Path(__file__).parent.glob("[0-9][0-9]_*")):
    registry.MODULES[int(_folder.name[:2])] = f"{__name__}.{_folder.name}.exercises"
