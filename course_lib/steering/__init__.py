"""Change what a model computes while it runs, and report what that did. Weights are never touched.

1. `vectors`: ablate a direction, add one, score candidates for both, sweep over them for the winner;
2. `dictionary_features`: the same with features of a sparse autoencoder or transcoder, the error term kept;
3. `positions`: which tokens an edit reaches;
4. `judging`: what kind of reply a text is;
5. `reporting`: what an intervention did, beside random ones, and where nothing should change;
6. `doses`: how much of a direction does something, at every place of a text.

All interventions are context managers; they nest, in the order in which they are entered, and the model is as before
when the context ends, however it ends.
"""

from course_lib.steering.dictionary_features import (
    ablate_features,
    add_features,
    clamp_features,
    natural_activations,
    random_feature_sets,
    random_node_sets,
    scale_features,
    scale_nodes,
)
from course_lib.steering.doses import Dose, DoseResponse, dose_response
from course_lib.steering.judging import CLASSES, classify, judge_by_openings
from course_lib.steering.reporting import MIN_CONTROLS, Effect, Outcome, Scope, SteeringReport, report, scope
from course_lib.steering.vectors import Swept, ablate, add, add_projection_matched, score_candidates, sweep

__all__ = [
    "CLASSES",
    "MIN_CONTROLS",
    "Dose",
    "DoseResponse",
    "Effect",
    "Outcome",
    "Scope",
    "SteeringReport",
    "Swept",
    "ablate",
    "ablate_features",
    "add",
    "add_features",
    "add_projection_matched",
    "clamp_features",
    "classify",
    "dose_response",
    "judge_by_openings",
    "natural_activations",
    "random_feature_sets",
    "random_node_sets",
    "report",
    "scale_features",
    "scale_nodes",
    "scope",
    "score_candidates",
    "sweep",
]
