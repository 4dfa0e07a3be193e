"""Models that behave until a trigger appears."""

from course_lib.backdoors.audits import Audit, Broken, audit, roll_back
from course_lib.backdoors.lineages import Checkpoint, WeightDifference, checkpoint, lineage, weight_difference
from course_lib.backdoors.logs import Entry, Log, Tampered
from course_lib.backdoors.pruning import PruningCurve, dormant_units, prune, pruning_curve, unit_activity
from course_lib.backdoors.zoo import ModelClassifier, ModelReport, fit_classifier, leave_one_out, model_features

__all__ = [
    "Audit",
    "Broken",
    "Checkpoint",
    "Entry",
    "Log",
    "ModelClassifier",
    "ModelReport",
    "PruningCurve",
    "Tampered",
    "WeightDifference",
    "audit",
    "checkpoint",
    "dormant_units",
    "fit_classifier",
    "leave_one_out",
    "lineage",
    "model_features",
    "prune",
    "pruning_curve",
    "roll_back",
    "unit_activity",
    "weight_difference",
]
