"""One call from activations to a report, and the report."""

from collections.abc import Mapping
from dataclasses import dataclass

from course_lib import caching, directions
from course_lib.probing import controls
from course_lib.probing.causal import CausalEffect, Intervention, causal_effect
from course_lib.probing.controls import Reference, Threshold, fold
from course_lib.probing.examples import Examples, Split, check_finite
from course_lib.probing.probes import Fit, Place, Probe, difference_of_means, select

NOTABLE = 0.75
"""A baseline without activations is warned of from this AUROC on, even if the probe does better."""
RARE = 0.01
"""A larger share of random directions that do as well as the probe is warned of."""
SURPRISING = 0.05
"""A larger share of shuffled labels that do as well as the probe is warned of."""
MOST = 0.5
"""An effect smaller than this, in the units of the outcome (0 to 1), is warned of even if random directions have none."""


@dataclass(frozen=True, eq=False)
class ProbeReport:
    """What a probe is worth on a test part that had no say in making it, from `evaluate`."""

    probe: Probe
    places: tuple[Place, ...]
    """All layers and positions with their validation AUROC, best first."""
    sizes: dict[str, tuple[int, int]]
    """Prompts and topics in each part."""
    auroc: directions.Interval
    """On the test part; the interval from topics drawn again."""
    accuracy: directions.Interval
    """On the test part, at the threshold that the fit has set; the interval takes prompts as independent."""
    random: Reference
    shuffled: Reference
    length: directions.Interval
    """Test AUROC of the prompt's length alone."""
    words: directions.Interval
    """Test AUROC of the bag of words alone."""
    threshold: Threshold
    causal: tuple[CausalEffect, ...]

    def top(self, k: int = 5) -> tuple[Place, ...]:
        """The k places with the best validation AUROC."""
        return self.places[:k]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What undermines the claim, in words. None is no proof: only what was measured can warn."""
        found = [*_of_the_test(self), *_of_controls(self), *_of_the_threshold(self), *_of_causes(self)]
        return tuple(found)

    def table(self) -> str:
        """All numbers and warnings as text, to print."""
        rows = _rows(self)
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value}" for name, value in rows]
        return "\n".join([*lines, *(f"! {warning}" for warning in self.warnings)])


def evaluate(
    examples: Examples,
    split: Split,
    *,
    method: Fit = difference_of_means,
    near_misses: Mapping[str, caching.Activations] | None = None,
    benign: caching.Activations | None = None,
    interventions: Mapping[str, Intervention] | None = None,
    max_false_positives: float = 0.01,
    n_random: int = 1000,
    n_shuffles: int = 100,
    n_random_interventions: int = 20,
    seed: int = 0,
) -> ProbeReport:
    """Fit at every place, choose one on the validation part, open the test part once, and report with all controls.

    Calling it again with other settings after reading the report uses the test part to choose: then a fresh one is
    needed.

    Args:
        examples: Activations at all places to choose from, with labels, topics and token ids.
        split: From `split_by_topic`, or by hand: then it is checked.
        method: `difference_of_means` or `logistic_regression`.
        near_misses: By name, activations (same hooks and positions) of prompts that look like what the probe should
            find and are not: none should raise alarm.
        benign: Activations of harmless prompts on which to set the threshold; by default the validation prompts
            labelled False. 1 % needs at least 100.
        interventions: By name, functions that run the model with the direction changed; see `causal_effect`.
        max_false_positives: Share of benign prompts that may exceed the threshold.
        n_random: Random directions to compare with.
        n_shuffles: Refits on shuffled labels.
        n_random_interventions: Random directions per intervention.
        seed: Of everything drawn.

    Raises:
        ValueError: Before any fit: a division that leaks a topic or lacks one kind, sets that are empty, not finite
            or were not harvested at the same places, counts below 1. While the interventions run: as for
            `causal_effect`.
    """
    _check(examples, near_misses or {}, benign, max_false_positives, min(n_random, n_shuffles, n_random_interventions))
    probe, places = select(examples, split, method=method)
    x = examples.activations.at(probe.hook_name, probe.position)
    y, test = examples.labels[split.test], x[split.test]
    scores = probe.scores(test)
    auroc = controls.clustered_interval(scores, examples, split.test, seed=seed)
    quiet = split.validation[~examples.labels[split.validation]]
    return ProbeReport(
        probe,
        places,
        {
            name: (len(rows), len({examples.topics[row] for row in rows.tolist()}))
            for name, rows in split.parts().items()
        },
        auroc,
        directions.wilson_interval(int(((scores > 0) == y).sum()), len(y)),
        controls.random_reference(test, y, probe, auroc.estimate, n=n_random, seed=seed),
        controls.shuffled_reference(examples, split, probe, auroc.estimate, fit=method, n=n_shuffles, seed=seed),
        controls.length_baseline(examples, split, seed=seed),
        controls.words_baseline(examples, split, seed=seed),
        controls.set_threshold(
            probe.scores(x[quiet] if benign is None else benign.at(probe.hook_name, probe.position)),
            max_false_positives,
            negative=scores[~y],
            positive=scores[y],
            near_misses={
                name: probe.scores(near.at(probe.hook_name, probe.position))
                for name, near in (near_misses or {}).items()
            },
        ),
        tuple(
            causal_effect(probe, intervention, name=name, n_random=n_random_interventions, seed=seed)
            for name, intervention in (interventions or {}).items()
        ),
    )


def _check(
    examples: Examples,
    near_misses: Mapping[str, caching.Activations],
    benign: caching.Activations | None,
    max_false_positives: float,
    fewest: int,
) -> None:
    if fewest < 1 or not 0 < max_false_positives < 1:
        raise ValueError(
            "n_random, n_shuffles and n_random_interventions must be at least 1, and max_false_positives between 0 "
            f"and 1; got {fewest} as the smallest, and {max_false_positives}."
        )
    others = {f"near misses {name!r}": activations for name, activations in near_misses.items()}
    for name, other in (others | ({"the benign set": benign} if benign else {})).items():
        mine, theirs = ((a.hook_names, a.positions, a.values.shape[-1]) for a in (examples.activations, other))
        if mine != theirs:
            raise ValueError(f"{name} must be harvested as the examples were, at {mine}; they are at {theirs}.")
        check_finite(other, name)


# --- in words -----------------------------------------------------------------------------------------------


def _range(interval: directions.Interval) -> str:
    return f"{interval.estimate:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _percent(interval: directions.Interval) -> str:
    return f"{interval.estimate:.0%} ({interval.low:.0%} to {interval.high:.0%})"


def _rows(report: ProbeReport) -> list[tuple[str, str]]:
    probe, threshold = report.probe, report.threshold
    rows = [
        ("probe", f"{probe.method}, {probe.hook_name}, position {probe.position!r}"),
        ("prompts (topics)", ", ".join(f"{name} {n} ({topics})" for name, (n, topics) in report.sizes.items())),
        ("test AUROC", f"{_range(report.auroc)}, topics drawn again"),
        ("test accuracy", _percent(report.accuracy)),
        ("random directions", _reference(report.random)),
        ("shuffled labels", f"mean {float(report.shuffled.aurocs.mean()):.2f}, {_reference(report.shuffled)}"),
        ("length alone", _range(report.length)),
        ("bag of words alone", _range(report.words)),
        (
            f"threshold at {threshold.wanted:.0%}",
            f"{_percent(threshold.calibration)} of {threshold.n_calibration} where set",
        ),
        ("  false positives", f"{_percent(threshold.false_positives)} on test"),
        ("  true positives", f"{_percent(threshold.true_positives)} on test"),
    ]
    rows += [(f"  near misses {name!r}", _percent(rate)) for name, rate in threshold.near_misses.items()]
    return rows + [(f"causal {effect.name!r}", _effect(effect)) for effect in report.causal]


def _reference(reference: Reference) -> str:
    return (
        f"95 % of {len(reference.aurocs)} below {reference.quantile(0.95):.2f}, best {reference.quantile(1.0):.2f}; "
        f"{reference.share_reaching:.1%} reach the probe"
    )


def _effect(effect: CausalEffect) -> str:
    low, high = float(effect.random.min()), float(effect.random.max())
    return (
        f"{_percent(effect.unchanged)} -> {_percent(effect.changed)}; random directions {low:.0%} to {high:.0%}: "
        f"{'beyond all of them' if effect.causes else 'does not cause'}"
    )


def _of_the_test(report: ProbeReport) -> list[str]:
    found, auroc = [], report.auroc
    best = report.places[0].validation_auroc
    tied = sum(place.validation_auroc == best for place in report.places)
    if auroc.low <= 0.5:
        found.append(f"Test AUROC {_range(auroc)} is not above chance.")
    if auroc.low == auroc.high:
        found.append(
            f"The interval of the AUROC has no width: {report.sizes['test'][1]} topics, drawn again, cannot show what "
            "a new topic would do."
        )
    if tied > 1:
        found.append(
            f"{tied} of {len(report.places)} places share the best validation AUROC, {best:.2f}: that this is *the* "
            "layer or position is not shown."
        )
    return found


def _of_controls(report: ProbeReport) -> list[str]:
    found = []
    for name, baseline, reads in (
        ("Prompt length", report.length, "length"),
        ("The bag of words", report.words, "words"),
    ):
        highest = max(baseline.high, 1 - baseline.low)
        if fold(baseline.estimate) >= NOTABLE or highest >= report.auroc.low:
            found.append(f"{name} alone reaches AUROC {_range(baseline)}: the probe may read {reads}.")
    if report.random.share_reaching > RARE:
        found.append(
            f"{report.random.share_reaching:.0%} of random directions reach the probe's AUROC: the two kinds differ "
            "along many directions, and that this one separates them is not special."
        )
    if report.shuffled.share_reaching > SURPRISING:
        found.append(
            f"{report.shuffled.share_reaching:.0%} of probes on shuffled labels reach the probe's AUROC: with so few "
            "topics chance can do it."
        )
    return found


def _of_the_threshold(report: ProbeReport) -> list[str]:
    threshold, found = report.threshold, []
    if threshold.n_calibration * threshold.wanted < 1:
        found.append(
            f"{threshold.n_calibration} benign prompts are too few to set a threshold at {threshold.wanted:.0%}: the "
            "highest of their scores was taken."
        )
    if threshold.false_positives.low > threshold.wanted:
        found.append(
            f"The threshold for {threshold.wanted:.0%} gives {_percent(threshold.false_positives)} false positives on "
            "topics it was not set on."
        )
    for name, rate in threshold.near_misses.items():
        if rate.low > threshold.wanted:
            found.append(f"The threshold fires on {_percent(rate)} of the near misses {name!r}.")
    if not threshold.near_misses:
        found.append("No near misses were tried: what else makes the probe fire is open.")
    return found


def _of_causes(report: ProbeReport) -> list[str]:
    if not report.causal:
        return ["No intervention was tried: the probe reads, and whether the model uses what it reads is open."]
    found = []
    for effect in report.causal:
        moved = f"{effect.name!r} takes the outcome from {_percent(effect.unchanged)} to {_percent(effect.changed)}"
        if not effect.causes:
            found.append(
                f"The probe reads but does not cause: {moved}, no further than random directions do, or than chance."
            )
        elif abs(effect.difference.estimate) < MOST:
            found.append(f"The probe's direction is a small cause: {moved}; the rest does not go through it.")
    return found
