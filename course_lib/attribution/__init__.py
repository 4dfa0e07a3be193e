"""How much each component, head or feature moved a logit difference.

From cheap and partial to exact and slow, each module with its paper:

1. `components`: what each component wrote straight to the logits;
2. `patching`: what comes back when one clean activation is put into a corrupted run, exactly;
3. `edges`: what one component gave straight to another, exactly or by gradients;
4. `faithfulness`: whether a circuit of such edges does what the model does;
5. `graphs`: which features of the MLPs moved a logit, through which other features;
6. `interventions`: the test of a graph, setting features while the model runs;
7. `confirming`: that test for every edge drawn between groups of features.

All but 2 need a model of the Llama, Mistral, Qwen or Gemma shape, and refuse any other.
"""

from course_lib.attribution.components import direct_logit
from course_lib.attribution.confirming import confirm
from course_lib.attribution.edges import eap, exact_edges
from course_lib.attribution.faithfulness import MIB_SHARES, FaithfulnessCurve, faithfulness
from course_lib.attribution.graphs import AttributionGraph, graph
from course_lib.attribution.interventions import intervene
from course_lib.attribution.nodes import Embedding, Error, Feature, Logit
from course_lib.attribution.patching import Patching, patch_heads, patch_residual
from course_lib.attribution.scores import ComponentScores, EdgeScores
from course_lib.attribution.supernodes import SupernodeEdges

__all__ = [
    "MIB_SHARES",
    "AttributionGraph",
    "ComponentScores",
    "EdgeScores",
    "Embedding",
    "Error",
    "FaithfulnessCurve",
    "Feature",
    "Logit",
    "Patching",
    "SupernodeEdges",
    "confirm",
    "direct_logit",
    "eap",
    "exact_edges",
    "faithfulness",
    "graph",
    "intervene",
    "patch_heads",
    "patch_residual",
]
