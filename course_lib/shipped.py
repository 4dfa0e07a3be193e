"""Where the models and prompt sets lie that ship with the course: in the package `organisms`, which is never imported."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal


def folder(kind: Literal["weights", "prompts"]) -> Path:
    """The folder of all weights, or of all prompt sets.

    Raises:
        ValueError: The course is not installed beside its library.
    """
    found = find_spec("organisms")
    if found is None or not found.submodule_search_locations:
        raise ValueError(
            "The folder 'organisms' with the course's models and prompts is not installed beside course_lib. Install the "
            "course from its folder: pip install -e . (or start it by course.py)."
        )
    return Path(next(iter(found.submodule_search_locations))) / kind
