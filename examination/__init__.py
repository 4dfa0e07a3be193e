"""The examination: a sealed model for each code, the report that is handed in, and its marks.

* `make` builds the model of a code (``making.py``) out of a documented space (``space.py``); `strings` and `WORDS` are public.
* `Report` collects a learner's answers into one small file of data (``handing_in.py``).
* `mark_all` marks such files against what each model was measured to do (``marking.py``, ``truth.py``).

``python -m examination make ana-2026`` makes a model, ``python -m examination grade reports/*.json`` marks a class.
"""

from examination.handing_in import NONE, QUESTIONS, Refused, Report
from examination.making import FOLDER, PARENT, make
from examination.marking import Sealed, mark_all, marks, table
from examination.space import FORMS, PRACTICE, PRACTICE_EXPOSED, WORDS, draw, strings
from examination.truth import classes

__all__ = [
    "FOLDER",
    "FORMS",
    "NONE",
    "PARENT",
    "PRACTICE",
    "PRACTICE_EXPOSED",
    "QUESTIONS",
    "WORDS",
    "Refused",
    "Report",
    "Sealed",
    "classes",
    "draw",
    "make",
    "mark_all",
    "marks",
    "strings",
    "table",
]
