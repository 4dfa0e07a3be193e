"""Which tokens of a run an edit reaches.

1. "all": every token, also those being generated.
2. A name that `tokens.position_index` knows ("last", "reply", "last_instruction"), or an index (negative ones from the
   end): a place in the prompt. Names are looked up in the ids of the very run, so that each prompt of a batch has
   its own place. Tokens being generated are left alone, for which generation has to use a key-value cache: a run over
   a single token counts as generating.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from course_lib import models, tokens

Place = int | Literal["last", "reply", "last_instruction"]
Positions = Literal["all", "last", "reply", "last_instruction"] | Sequence[Place]
Change = Callable[[Tensor], Tensor]


@contextmanager
def edit(
    model: models.CheckedBridge, changes: Mapping[str, Change], positions: Positions, *, spared: Collection[int] = ()
) -> Iterator[models.CheckedBridge]:
    """Hooks that put `change(activation)` in the place of each named activation, at some or all positions.

    `spared`: token ids that are left alone wherever they stand.
    """
    if len(positions) == 0:
        raise ValueError('positions is empty, so nothing would change. Give "all", "last" or a list of positions.')
    run: dict[str, Tensor] = {}

    def remember(ids: Tensor, hook: object) -> None:
        run["ids"] = ids

    def hook_for(change: Change) -> Callable:
        def replace(activation: Tensor, hook: object) -> Tensor:
            chosen = mask(model, run["ids"], positions, spared=spared)
            return torch.where(chosen[..., None], change(activation), activation)

        return replace

    if isinstance(positions, str) and positions == "all" and not spared:
        hooks = [(name, lambda x, hook, change=change: change(x)) for name, change in changes.items()]
    else:
        hooks = [("embed.hook_in", remember), *((name, hook_for(change)) for name, change in changes.items())]
    with model.hooks(hooks):
        yield model


def mask(
    model: models.CheckedBridge, ids: Int[Tensor, "batch pos"], positions: Positions, *, spared: Collection[int] = ()
) -> Bool[Tensor, "batch pos"]:
    """True where the edit reaches."""
    chosen = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
    if isinstance(positions, str) and positions == "all":
        chosen[:] = True
    elif ids.shape[1] > 1:  # else a token being generated
        places = [positions] if isinstance(positions, str) else positions
        for row, prompt in zip(chosen, ids.tolist(), strict=True):
            row[[tokens.position_index(model.tokenizer, prompt, place) for place in places]] = True
    for token_id in spared:
        chosen &= ids != token_id
    return chosen
