"""The examination: a sealed model for each code, the report that is handed in, and its marks.

* `make` builds the model of a code (``making.py``) out of a documented space (``space.py``); `strings` and `WORDS` are public.
* `Report` collects a learner's answers into one small file of data (``handing_in.py``).
* `mark_all` marks such files against what each model was measured to do (``marking.py``, ``truth.py``).

``python -m examination make ana-2026`` makes a model, ``python -m examination grade reports/*.json`` marks a class.
"""

import importlib
import importlib.util
from typing import Any

if importlib.util.find_spec("factory") is None:
    raise ImportError(
        "The folder 'factory' of the course is missing, and without it no model is made or marked: get the whole course."
    )

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

_HOMES = {
    "handing_in": ("NONE", "QUESTIONS", "Refused", "Report"),
    "making": ("FOLDER", "PARENT", "make"),
    "marking": ("Sealed", "mark_all", "marks", "table"),
    "space": ("FORMS", "PRACTICE", "PRACTICE_EXPOSED", "WORDS", "draw", "strings"),
    "truth": ("classes",),
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: the help of the commands needs neither torch nor a model."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"examination.{module}"), name)
    raise AttributeError(f"module 'examination' has no attribute {name!r}")
