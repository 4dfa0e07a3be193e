"""One pass over a corpus that keeps, for every feature, how often and how strongly it is active, and where.

1. Counts, sums and maxima over all tokens but the first of each prompt.
2. The strongest activations, each context once: templates repeat, and twelve copies of one sentence teach nothing.
3. A uniform sample of all activations, so that "it fires on bleach" is not read off the top alone. Ranks within the sample
   are the quantiles.
4. Sums by token: on which tokens a feature's activation lies.
5. What it writes: logits and nearest decoder directions, from the weights.

Nothing dense over the corpus is held but one part at a time: memory grows with the number of features, and with the number
of different (feature, token) pairs.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_lib import models, store, tokens
from course_lib.features import running, writing
from course_lib.features.records import Entries, FeatureIndex

N_SAMPLE, N_LOGITS, N_NEIGHBOURS = 128, 10, 8


def index(
    model: models.CheckedBridge,
    dictionary: running.Dictionary,
    prompts: models.Prompts,
    *,
    context: int = 10,
    n_top: int = 12,
    n_spread: int = 16,
    seed: int = 0,
    weights: running.Weights = "own",
    progress: bool = True,
) -> FeatureIndex:
    """What every feature of the dictionary fires on in these prompts, and what it writes.

    Densities and means are those of this corpus: on other text they differ. A feature without examples is dead *here*.

    Args:
        model: From `models.load`.
        dictionary: From `features.load` or `features.published`; or a control from `features.random_like`.
        prompts: Token ids; prompts with replies teach more than prompts alone.
        context: Tokens shown on either side of an example; two examples with the same tokens up to the active one count
            as one.
        n_top: Strongest examples kept for each feature.
        n_spread: Examples kept of a uniform sample of each feature's activations, for the quarters.
        seed: Of that sample.
        weights: "any" allows an organism's dictionary on an edited copy or on another organism.
        progress: Show a progress bar.

    Raises:
        ValueError: Before any work: prompts that cannot be run or do not begin with `<bos>`, a dictionary that does not
            fit the model, active hooks (an index describes a model, and says which). During it: an activation that is
            not finite.
    """
    running.check(model, dictionary, weights)
    running.check_prompts(model, dictionary, prompts)
    if models.has_hooks(model):
        raise ValueError("The model has active hooks, and the index would not say so. Leave the context first.")
    if min(context, n_top, n_spread) < 1 or n_spread > N_SAMPLE:
        given = f"{context}, {n_top}, {n_spread}"
        raise ValueError(f"context and n_top must be at least 1 and n_spread 1 to {N_SAMPLE}; got {given}.")
    corpus = _Corpus(model, prompts, context)
    tally = _Tally(running.d_sae(dictionary), model.cfg.d_vocab)
    strongest, sample = (
        _Best(n_top, running.d_sae(dictionary), distinct=True),
        _Best(N_SAMPLE, running.d_sae(dictionary)),
    )
    generator = torch.Generator().manual_seed(seed)
    for part in running.parts(model, dictionary, prompts, progress=progress, what="index"):
        found = corpus.active(part)
        tally.add(found, n_tokens=part.activations.shape[:2].numel(), all_ids=corpus.tokens(part))
        strongest.add(found, found["value"], part, corpus)
        sample.add(found, torch.rand(len(found["value"]), generator=generator), part, corpus)
    logits, logit_ids = writing.strongest(model, dictionary, min(N_LOGITS, model.cfg.d_vocab))
    near, near_ids = writing.neighbours(dictionary, min(N_NEIGHBOURS, running.d_sae(dictionary) - 1))
    return FeatureIndex(
        hook_names=running.hooks(dictionary),
        model_hash=store.fingerprint(model.original_model),
        dictionary_hash=store.fingerprint(dictionary),
        vocabulary=tuple(tokens.token_strings(model.tokenizer, range(model.cfg.d_vocab))),
        context=context,
        n_tokens=tally.n_tokens,
        ids=corpus.ids.int(),
        starts=corpus.starts,
        counts=tally.counts,
        max=tally.max,
        mean=(tally.sums / tally.counts.clamp(min=1)).float(),
        top=strongest.entries(),
        sample=sample.entries(n_shown=n_spread),
        token_counts=tally.token_counts,
        pairs=tally.pairs,
        pair_counts=tally.pair_counts.int(),
        pair_sums=tally.pair_sums.float(),
        logits=logits,
        logit_ids=logit_ids.int(),
        cosines=near,
        neighbour_ids=near_ids.int(),
    )


class _Corpus:
    """All prompts end to end, and where an activation lies in them."""

    def __init__(self, model: models.CheckedBridge, prompts: models.Prompts, context: int) -> None:
        self.context = context
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        self.starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        self.ids = torch.tensor([token for prompt in prompts for token in prompt])

    def tokens(self, part: running.Part) -> Int[Tensor, "prompt pos"]:
        """The tokens to which a part's activations belong."""
        offsets = torch.arange(1, part.activations.shape[1] + 1)
        return self.ids[self.starts[part.indices][:, None] + offsets]

    def active(self, part: running.Part) -> dict[str, Tensor]:
        """Every active feature of a part: feature, value, token, place in the corpus, row and column in the part."""
        row, column, feature = part.activations.nonzero(as_tuple=True)
        where = self.starts[torch.tensor(part.indices)][row] + column + 1
        found = {"feature": feature, "value": part.activations[row, column, feature], "where": where}
        return found | {"row": row, "column": column, "token": self.ids[where]}

    def windows(self, found: dict[str, Tensor], part: running.Part) -> Float[Tensor, "entry window"]:
        """The same feature's activations on the tokens around; 0 outside the prompt and on its first token."""
        padded = torch.nn.functional.pad(part.activations, (0, 0, self.context, self.context))
        around = found["column"][:, None] + torch.arange(2 * self.context + 1)
        return padded[found["row"][:, None], around, found["feature"][:, None]]

    def context_hashes(self, found: dict[str, Tensor], part: running.Part) -> Int[Tensor, " entry"]:
        """Equal for equal tokens from `context` before the active one up to it."""
        begin = self.starts[torch.tensor(part.indices)][found["row"]]
        total = torch.zeros_like(found["where"])
        for back in range(self.context + 1):
            at = found["where"] - back
            token = torch.where(at >= begin, self.ids[at.clamp(min=0)] + 1, 0)
            total = total * 1_000_003 + token  # wraps around at 64 bits
        return total


class _Tally:
    """Counts, sums and maxima by feature, and by feature and token."""

    def __init__(self, n_features: int, d_vocab: int) -> None:
        self.d_vocab, self.n_tokens = d_vocab, 0
        self.counts, self.max = torch.zeros(n_features, dtype=torch.int64), torch.zeros(n_features)
        self.sums = torch.zeros(n_features, dtype=torch.float64)
        self.token_counts = torch.zeros(d_vocab, dtype=torch.int64)
        self.pairs, self.pair_counts = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
        self.pair_sums = torch.empty(0, dtype=torch.float64)

    def add(self, found: dict[str, Tensor], *, n_tokens: int, all_ids: Int[Tensor, "prompt pos"]) -> None:
        feature, value = found["feature"], found["value"]
        self.n_tokens += n_tokens
        self.token_counts += all_ids.flatten().bincount(minlength=self.d_vocab)
        self.counts += feature.bincount(minlength=len(self.counts))
        self.sums.index_add_(0, feature, value.double())
        self.max = self.max.scatter_reduce(0, feature, value, "amax")
        pairs = torch.cat([self.pairs, feature * self.d_vocab + found["token"]])
        self.pairs, place = pairs.unique(return_inverse=True)
        counts, sums = (
            torch.cat([self.pair_counts, torch.ones_like(feature)]),
            torch.cat([self.pair_sums, value.double()]),
        )
        self.pair_counts = torch.zeros_like(self.pairs).index_add_(0, place, counts)
        self.pair_sums = torch.zeros(len(self.pairs), dtype=torch.float64).index_add_(0, place, sums)


class _Best:
    """For every feature, the n entries with the largest keys; with `distinct`, of each context the best alone."""

    def __init__(self, n: int, n_features: int, *, distinct: bool = False) -> None:
        self.n, self.distinct, self.kept = n, distinct, {}
        self.floor = torch.full((n_features,), -torch.inf)
        """Keys that do not exceed it cannot be among the best any more."""

    def add(self, found: dict[str, Tensor], key: Float[Tensor, " entry"], part: running.Part, corpus: _Corpus) -> None:
        good = key > self.floor[found["feature"]]
        new = {name: column[good] for name, column in found.items()}
        new |= {"key": key[good], "window": corpus.windows(new, part), "hash": corpus.context_hashes(new, part)}
        merged = {name: torch.cat([self.kept[name], new[name]]) for name in new} if self.kept else new
        order = merged["key"].argsort(descending=True, stable=True)
        if self.distinct:
            order = self._without_copies(merged, order)
        order = order[merged["feature"][order].argsort(stable=True)]
        order = order[_ranks(merged["feature"][order]) < self.n]
        self.kept = {name: column[order] for name, column in merged.items()}
        last = _ranks(self.kept["feature"]) == self.n - 1
        self.floor[self.kept["feature"][last]] = self.kept["key"][last]

    def _without_copies(self, merged: dict[str, Tensor], order: Int[Tensor, " entry"]) -> Int[Tensor, " entry"]:
        by_hash = order[merged["hash"][order].argsort(stable=True)]
        grouped = by_hash[merged["feature"][by_hash].argsort(stable=True)]
        pair = torch.stack([merged["feature"][grouped], merged["hash"][grouped]])
        first = torch.ones(len(grouped), dtype=torch.bool)
        first[1:] = (pair[:, 1:] != pair[:, :-1]).any(dim=0)
        kept = torch.zeros_like(first)
        kept[grouped[first]] = True
        return order[kept[order]]

    def entries(self, n_shown: int | None = None) -> Entries:
        """What was kept, features in order, each feature's best keys first; examples of the first `n_shown` alone."""
        feature = self.kept["feature"]
        shown = _ranks(feature) < (self.n if n_shown is None else n_shown)
        starts, shown_starts = (self._starts(part) for part in (feature, feature[shown]))
        where, windows = self.kept["where"][shown].int(), self.kept["window"][shown].bfloat16()
        return Entries(starts, self.kept["value"], shown_starts, where, windows)

    def _starts(self, feature: Int[Tensor, " entry"]) -> Int[Tensor, " d_sae_plus_1"]:
        """Where each feature's entries begin, and where the last one's end."""
        counts = feature.bincount(minlength=len(self.floor))
        return torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])


def _ranks(feature: Int[Tensor, " entry"]) -> Int[Tensor, " entry"]:
    """Place of each entry among those of its feature, for entries in the order of features."""
    first = torch.searchsorted(feature, feature.unique())
    lengths = torch.diff(first, append=torch.tensor([len(feature)]))
    return torch.arange(len(feature)) - first.repeat_interleave(lengths)
