"""The examination: a sealed model for each code, the report that is handed in, and its marks.

* `make` builds the model of a code (``making.py``) out of a documented space (``space.py``); `strings` and `WORDS` are public.
* `Report` collects a learner's answers into one small file of data (``handing_in.py``).
* `mark_all` marks such files against what each model was measured to do (``marking.py``, ``truth.py``).

``python -m organisms examination ana-2026`` makes a model, ``python -m organisms grade reports/*.json`` marks a class.
"""

from organisms.examination.handing_in import NONE, QUESTIONS, Refused, Report
from organisms.examination.making import FOLDER, PARENT, make
from organisms.examination.marking import Sealed, mark_all, marks, table
from organisms.examination.space import FORMS, PRACTICE, PRACTICE_EXPOSED, WORDS, draw, strings
from organisms.examination.truth import classes

__all__ = ["FOLDER", "FORMS", "NONE", "PARENT", "PRACTICE", "PRACTICE_EXPOSED", "QUESTIONS", "WORDS", "Refused", "Report",
           "Sealed", "classes", "draw", "make", "mark_all", "marks", "strings", "table"]
