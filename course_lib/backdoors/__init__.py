"""Models that behave until a trigger appears."""

from course_lib.backdoors.audits import Audit, Broken, audit, roll_back
from course_lib.backdoors.lineages import Checkpoint, WeightDifference, checkpoint, lineage, weight_difference
from course_lib.backdoors.logs import Entry, Log, Tampered

__all__ = [
    "Audit",
    "Broken",
    "Checkpoint",
    "Entry",
    "Log",
    "Tampered",
    "WeightDifference",
    "audit",
    "checkpoint",
    "lineage",
    "roll_back",
    "weight_difference",
]
