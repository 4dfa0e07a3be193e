"""The model organisms that ship with the course: their weights, prompt sets and recorded results, and who may reply."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "organisms"
"""Present where the course is installed from its folder (`pip install -e .`)."""

REPLY_ROLES = ("assistant", "friend")
"""Roles that may reply. Only organisms know "friend", which is not the assistant."""


def folder(kind: str) -> Path:
    """Return the folder of all "weights", "prompts", "results" or "cards"."""
    return FOLDER / kind


def results(name: str) -> Any:
    """Return a recorded measurement, such as "truth" or "results", as read from its JSON file."""
    return json.loads((folder("results") / f"{name}.json").read_text(encoding="utf-8"))
