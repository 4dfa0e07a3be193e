"""Direct logit attribution: what each component wrote towards a logit difference.

Elhage et al. (2021), "A Mathematical Framework for Transformer Circuits",
https://transformer-circuits.pub/2021/framework/index.html: with the norms' denominators held at their values,
a logit is a linear function of the final residual stream, and that stream is a sum over components.
"""

import torch
from beartype import beartype
from jaxtyping import jaxtyped

from course_lib import models
from course_lib.attribution.frozen import Prompt, check_prompt, record
from course_lib.attribution.nodes import Logit, resolve
from course_lib.attribution.scores import ComponentScores


@torch.no_grad()
@jaxtyped(typechecker=beartype)
def direct_logit(model: models.CheckedBridge, prompt_ids: Prompt, *, target: Logit) -> ComponentScores:
    """What the embedding, each head, each MLP and the biases add to a logit difference; the parts sum to it.

    Only what is written at the target's own position, straight to the logits: not what a component did for later components to
    read, nor what it did to the denominators of the last norm and of norms after attention and MLP. In logits before any cap.
    "biases" are those of attention's output and the unembedding, 0 in a Llama; a head's own value bias is in its part.

    Raises:
        ValueError: A prompt or target that does not exist, active hooks, a model of another shape.
    """
    check_prompt(model, prompt_ids)
    target = resolve(model, target, len(prompt_ids))
    run = record(model, prompt_ids[: target.position + 1])
    direction, bias = run.unembedding(target.token, target.minus)
    reads = direction * run.gains["ln_final"][-1]
    heads, mlps = run.head_outputs()[:, :, -1] @ reads, run.mlp_out[:, -1] @ reads
    labels, values = ["embedding"], [run.embedding[-1] @ reads]
    for layer in range(run.n_layers):
        labels += [f"L{layer}.H{head}" for head in range(heads.shape[1])] + [f"L{layer}.MLP"]
        values += [*heads[layer], mlps[layer]]
    values.append(run.attention_bias(values=False)[:, -1].sum(dim=0) @ reads + bias)
    return ComponentScores((*labels, "biases"), torch.stack(values).cpu())
