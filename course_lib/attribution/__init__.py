"""How much each component, head or feature moved a logit difference."""

from course_lib.attribution.graphs import AttributionGraph, SupernodeEdges, graph
from course_lib.attribution.interventions import intervene
from course_lib.attribution.nodes import Embedding, Error, Feature, Logit

__all__ = ["AttributionGraph", "Embedding", "Error", "Feature", "Logit", "SupernodeEdges", "graph", "intervene"]
