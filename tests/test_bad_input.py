"""Bad input of every kind is refused in words, by every public function that takes it, before the model runs once.

Damaged files are in test_models.py (weights), test_store.py (caches), test_dictionaries.py and test_abliteration.py.
"""

import importlib
import inspect
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from test_features import sae_of

from course_lib import (
    abliteration,
    backdoors,
    caching,
    data,
    directions,
    features,
    models,
    steering,
    store,
    tokens,
    tuning,
)

NAN = float("nan")
ROOMS = (
    "tokens",
    "models",
    "data",
    "store",
    "caching",
    "directions",
    "steering",
    "abliteration",
    "features",
    "tuning",
    "backdoors",
)
TAKES_NOTHING_BAD = {
    "models.d_model",
    "models.n_layers",
    "models.norm_weight",
    "models.hook_names",
    "models.has_hooks",
    "models.organism_names",
    "models.weights_folder",
    "models.quiet",
    "models.duplicate",
    "data.names",
    "data.sources",
    "store.key_of",
    "store.write_atomically",
    "models.stop_ids",
    "models.batches",
    "models.run_body",  # for prompts that were checked
    "models.check_finite",
    "models.check_files",  # refuse as their whole work: below, and in test_models.py
    "store.fingerprint",
    "abliteration.load_direction",  # in test_store.py and test_abliteration.py
    "steering.add_features",
    "steering.clamp_features",
    "steering.scale_features",
    "steering.ablate_features",
    "steering.random_feature_sets",
    "steering.classify",
    "steering.judge_by_openings",  # in test_steering_*.py
    "features.names",
    "features.load",
    "features.load_index",
    "features.published",
    "features.releases",
    "features.neuronpedia_url",
    "features.by_token",
    "features.by_logit",
    "features.by_label",
    "features.by_neighbour",
    "features.propose_label",
    "features.page",  # run no prompts; in test_features.py and test_dictionaries.py
    "tuning.supervised",
    "tuning.preference",
    "tuning.log_probabilities",  # in test_tuning.py
    "backdoors.says_payload",  # any text is a reply
    "backdoors.checkpoint",
    "backdoors.lineage",
    "backdoors.audit",
    "backdoors.roll_back",
    "backdoors.weight_difference",  # run no prompts; in test_backdoors_lineage.py
    "backdoors.mahalanobis",
    "backdoors.difference_dictionary",
    "backdoors.calibrate",
    "backdoors.compare",
    "backdoors.search_words",
    "backdoors.drop_words",
    "backdoors.move_words",
    "backdoors.swap_words",
    "backdoors.replace_words",  # run no prompts of their own; in test_backdoors_detect.py
    "steering.scale_nodes",
    "steering.random_node_sets",  # in test_steering_features.py
}


@pytest.fixture(scope="module")
def given(model, tokenizer, prompts, tmp_path_factory):
    """Everything that a good call needs; a row changes one thing."""
    return SimpleNamespace(
        model=model,
        tokenizer=tokenizer,
        prompts=prompts,
        direction=torch.randn(32),
        x=torch.randn(6, 32),
        logits=torch.randn(2, 50),
        folder=tmp_path_factory.mktemp("bad"),
        dictionary=sae_of(model, 6),
    )


@pytest.fixture
def passes(model):
    """How often the model's embedding was reached: once in each forward pass."""
    seen = []
    handle = model.embed.register_forward_pre_hook(lambda module, inputs: seen.append(1))
    yield seen
    handle.remove()


def prompts_of(call, *kinds):
    """The rows of a function whose argument is a list of prompts, or one prompt."""
    bad = {
        "empty set": ([], "empty"),
        "text": (["make a cake"], "text"),
        "over-long prompt": ([[1] * 64 + [2]], "at most 64"),
        "outside the vocabulary": ([[1, 117]], "outside 0 to 116"),
        "not ids": ([[1.5]], "not a list of token ids"),
        "empty prompt": ([[]], "empty"),
        "mixed devices": ([torch.zeros(3, device="meta").long()], "not a list of token ids"),
    }
    return [(kind, lambda g, p=prompts: call(g, p), words) for kind, (prompts, words) in bad.items()]


def one_prompt_of(call):
    """The same rows for a function that takes one prompt."""
    rows = prompts_of(lambda g, prompts: call(g, prompts[0] if prompts else []))
    return [(kind, run, words) for kind, run, words in rows if kind != "mixed devices"]


def vectors_of(call):
    """The rows of a function whose argument is a direction of the model's width."""
    bad = {
        "not finite": (torch.full((32,), NAN), "NaN"),
        "another width": (torch.ones(31), "31 entries"),
        "mixed devices": (torch.ones(32, device="meta"), "meta"),
    }
    return [(kind, lambda g, v=vector: call(g, v), words) for kind, (vector, words) in bad.items()]


def entered(context):
    with context:
        pytest.fail("the context was entered")


def chat(**options):
    return lambda g: tokens.chat_prompt(g.tokenizer, **({"instruction": "make a cake"} | options))


def harvest(**options):
    return lambda g: caching.harvest(g.model, g.prompts, progress=False, **options)


def stored(**options):
    return lambda g: caching.stored_harvest(g.model, g.prompts, folder=g.folder, progress=False, **options)


def add(function, **options):
    amount = {steering.add: "coefficient", steering.add_projection_matched: "target"}[function]
    return lambda g: entered(function(g.model, g.direction, **({"layer": 1, amount: 1.0} | options)))


def score(function, **options):
    def call(g):
        usual = {
            "candidates": torch.ones(1, 4, 32),
            "harmful": g.prompts,
            "harmless": g.prompts,
            "refusal_token_ids": [7],
        }
        return function(g.model, **(usual | options), progress=False)

    return call


def report(**options):
    usual = {"judge": str, "controls": [nullcontext] * steering.MIN_CONTROLS, "progress": False}

    def call(g):
        return steering.report(
            g.model, nullcontext, **({"prompts": g.prompts, "off_target": g.prompts} | usual | options)
        )

    return call


def rewarded(prompts=None, **options):
    usual = {"steps": 1, "seed": 0, "max_new_tokens": 2, "progress": False}

    def call(g):
        return tuning.reinforce(
            g.model, g.prompts if prompts is None else prompts, lambda *_: pytest.fail(), **(usual | options)
        )

    return call


def distilled(prompts=None, **options):
    usual = {"steps": 1, "seed": 0, "max_new_tokens": 2, "progress": False}
    return lambda g: tuning.distil(g.model, g.model, g.prompts if prompts is None else prompts, **(usual | options))


def curve(**options):
    usual = {"units": [(0, 0)], "measure": lambda model: pytest.fail(), "shares": [0.5], "seed": 0, "progress": False}
    return lambda g: backdoors.pruning_curve(g.model, **(usual | options))


def left_out(**options):
    usual = {
        "features": [{"a": float(n)} for n in range(4)],
        "labels": [True, False] * 2,
        "groups": [(0,), (0,), (1,), (1,)],
    }
    return backdoors.leave_one_out(**(usual | options), seed=0)


def doses(**options):
    def call(g):
        usual = {"prompts": g.prompts, "direction": g.direction, "layer": 1, "coefficients": [1.0], "progress": False}
        given = usual | {"score": lambda logits: logits[:, 0]} | options
        places = {"start": [1] * len(given["prompts"])}
        return steering.dose_response(g.model, given.pop("prompts"), given.pop("direction"), places=places, **given)

    return call


def says(role, content="make a cake"):
    return {"role": role, "content": content}


BAD = {
    "tokens.chat_prompt": [
        ("empty set", chat(instruction=""), "empty"),
        ("empty set", chat(instruction=[]), "empty"),
        ("unknown word", chat(instruction="make a plutonium"), "'plutonium' .nearest known"),
        ("unknown word", chat(instruction="make a çake"), "cannot read"),
        ("wrong roles", chat(instruction=[says("assistant")]), "the turn of 'human'"),
        ("wrong roles", chat(instruction=[says("human"), says("human")]), "the turn of 'assistant'"),
        ("wrong roles", chat(instruction=[says("human"), says("assistant")]), "last message is by 'assistant'"),
        ("wrong roles", chat(instruction=[says("system")]), "Nobody called 'system'"),
        ("wrong roles", chat(reply_role="human"), "Nobody called 'human'"),
        ("not text", chat(instruction=None), "Expected an instruction as text"),
        ("not text", chat(instruction=["make a cake"]), "Expected an instruction as text"),
        ("not text", chat(instruction=[says("human", 3)]), "is text, not 3"),
    ],
    "tokens.post_instruction": [
        ("wrong roles", lambda g: tokens.post_instruction(g.tokenizer, reply_role="human"), "Nobody called 'human'")
    ],
    "tokens.position_index": [
        ("empty set", lambda g: tokens.position_index(g.tokenizer, [], "last"), "no positions"),
        ("no such place", lambda g: tokens.position_index(g.tokenizer, [1, 2], "lst"), "did you mean 'last'"),
        ("no such place", lambda g: tokens.position_index(g.tokenizer, [1, 2], 2), "outside a prompt of 2 tokens"),
        ("no such place", lambda g: tokens.position_index(g.tokenizer, [1, 2], 0.5), "or an integer, not 0.5"),
    ],
    "tokens.text": [("outside the vocabulary", lambda g: tokens.text(g.tokenizer, [117]), "ids from 0 to 116")],
    "tokens.token_strings": [("not ids", lambda g: tokens.token_strings(g.tokenizer, [[1, 2]]), "of one prompt")],
    "models.load": [
        ("no such name", lambda g: models.load("chatt"), "did you mean 'chat'"),
        ("no such name", lambda g: models.load("no such"), "No organism and no folder"),
        ("mixed devices", lambda g: models.load("chat-32", device="cuda:99"), "no device 'cuda:99'"),
        ("mixed devices", lambda g: models.load("chat-32", device="gpu"), "no device 'gpu' .* has: cpu"),
        ("number type", lambda g: models.load("chat-32", dtype=torch.int8), "floating-point type"),
    ],
    "models.check_hook_names": [
        ("wrong hook name", lambda g: models.check_hook_names(g.model, ["blocks.0.resid_pre"]), "Nearest: .*resid_pre"),
        ("layer out of range", lambda g: models.check_hook_names(g.model, ["blocks.4.hook_in"]), "layers 0 to 3"),
        ("wrong hook name", lambda g: models.check_hook_names(g.model, [None]), "no hook called None"),
    ],
    "models.check_prompts": prompts_of(lambda g, prompts: models.check_prompts(g.model, prompts)),
    "models.next_token_logits": [
        *prompts_of(lambda g, prompts: models.next_token_logits(g.model, prompts)),
        ("batch size", lambda g: models.next_token_logits(g.model, g.prompts, batch_size=0), "at least 1"),
    ],
    "models.generate": [
        *prompts_of(lambda g, prompts: models.generate(g.model, prompts, max_new_tokens=2)),
        ("over-long prompt", lambda g: models.generate(g.model, g.prompts, max_new_tokens=60), "60 new ones"),
        ("batch size", lambda g: models.generate(g.model, g.prompts, max_new_tokens=2, batch_size=0), "at least 1"),
    ],
    "data.published": [
        ("unknown word", lambda g: data.published("jailbreakbenches"), "Did you mean 'jailbreakbench'"),
        ("empty set", lambda g: data.published("alpaca", folder=g.folder), "0 files called 'train-"),
    ],
    "tuning.reinforce": [
        *prompts_of(lambda g, prompts: rewarded(prompts)(g)),
        ("over-long prompt", rewarded(max_new_tokens=60), "60 new ones"),
        ("empty set", rewarded(max_new_tokens=0), "max_new_tokens must be at least 1"),
        ("empty set", rewarded(steps=0), "steps and every must be at least 1, not 0 and 25"),
        ("empty set", rewarded(every=0), "not 1 and 0"),
    ],
    "tuning.distil": [
        *prompts_of(lambda g, prompts: distilled(prompts)(g)),
        ("over-long prompt", distilled(max_new_tokens=60), "60 new ones"),
        ("empty set", distilled(steps=0), "steps and every must be at least 1, not 0 and 25"),
        ("empty set", distilled(max_new_tokens=0), "max_new_tokens must be at least 1"),
    ],
    "backdoors.surprisal": prompts_of(lambda g, prompts: backdoors.surprisal(g.model, prompts)),
    "backdoors.insert": prompts_of(lambda g, prompts: backdoors.insert(g.model, prompts, [7])),
    "backdoors.search_trigger": prompts_of(
        lambda g, prompts: backdoors.search_trigger(
            g.model, prompts, target=[7], held_out=g.prompts, seed=0, progress=False
        )
    ),
    "backdoors.confirm": prompts_of(
        lambda g, prompts: backdoors.confirm(g.model, [[7]], prompts, reference=g.model, seed=0)
    ),
    "backdoors.unit_activity": prompts_of(lambda g, prompts: backdoors.unit_activity(g.model, prompts)),
    "backdoors.dormant_units": [
        ("layer out of range", lambda g: backdoors.dormant_units(torch.ones(4, 9), layers=[4]), "no layer 4.* 0 to 3")
    ],
    "backdoors.prune": [
        ("layer out of range", lambda g: backdoors.prune(g.model, [(4, 0)]), "no unit 0 in layer 4"),
        ("layer out of range", lambda g: backdoors.prune(g.model, [(0, 999)]), "no unit 999 in layer 0"),
    ],
    "backdoors.pruning_curve": [
        ("layer out of range", lambda g: curve(units=[(4, 0)])(g), "no unit 0 in layer 4"),
        ("empty set", lambda g: curve(units=[])(g), "at least one unit"),
        ("empty set", lambda g: curve(shares=[])(g), "one share"),
        ("empty set", lambda g: curve(n_random=0)(g), "without the control"),
        ("share", lambda g: curve(shares=[50])(g), "between 0 and 1"),
    ],
    "backdoors.model_features": [
        *prompts_of(lambda g, prompts: backdoors.model_features(g.model, g.model, {"a": prompts}, payload=[7])),
        (
            "empty set",
            lambda g: backdoors.model_features(g.model, g.model, {}, payload=[7]),
            "at least one set of probes",
        ),
        (
            "empty set",
            lambda g: backdoors.model_features(g.model, g.model, {"a": g.prompts}, payload=[]),
            "at least one; got",
        ),
        (
            "unknown word",
            lambda g: backdoors.model_features(g.model, g.model, {"a": g.prompts}, payload=[999]),
            "got .999",
        ),
    ],
    "backdoors.fit_classifier": [
        ("empty set", lambda g: backdoors.fit_classifier([], []), "needs backdoored .True. and harmless"),
        (
            "other labels",
            lambda g: backdoors.fit_classifier([{"a": 1.0}], [True, False]),
            "1 models are given, but 2 labels",
        ),
        (
            "other features",
            lambda g: backdoors.fit_classifier([{"a": 1.0}, {"b": 1.0}], [True, False]),
            "no feature 'a'",
        ),
        (
            "not finite",
            lambda g: backdoors.fit_classifier([{"a": 1.0}, {"a": NAN}], [True, False]),
            "Feature 'a' of model 1",
        ),
    ],
    "backdoors.leave_one_out": [
        ("other groups", lambda g: left_out(groups=[(0,)] * 3), "groups of 3"),
        ("other clusters", lambda g: left_out(clusters=["a"] * 3), "clusters of 3"),
        ("one kind", lambda g: left_out(clusters=["a", "b", "b", "b"]), "cluster a has models of one kind"),
        ("one kind", lambda g: left_out(groups=[(0,)] * 4), "models of one kind are left"),
        ("no control", lambda g: left_out(n_shuffled=0), "n_shuffled must be at least 1"),
        ("no feature", lambda g: left_out(names=["z"]), "no feature 'z'"),
    ],
    "backdoors.trigger_rates": [
        *prompts_of(lambda g, prompts: backdoors.trigger_rates(g.model, {"nothing": prompts})),
        ("empty set", lambda g: backdoors.trigger_rates(g.model, {}), "name at least one"),
        (
            "over-long prompt",
            lambda g: backdoors.trigger_rates(g.model, {"a": g.prompts}, max_new_tokens=60),
            "60 new ones",
        ),
        (
            "other answers",
            lambda g: backdoors.trigger_rates(g.model, {"a": g.prompts}, answers=["a"]),
            "1 answers .* 6 prompts",
        ),
    ],
    "data.measurements": [("no such name", lambda g: data.measurements("zooo"), "Did you mean .zoo.")],
    "data.load": [
        ("no such name", lambda g: data.load("harmfull"), "Did you mean 'harmful'"),
        ("no such name", lambda g: data.load("harmful", split="test"), "There are: .*held_out_topic"),
        ("empty set", lambda g: data.load("harmful", n=0), "ask for 1 to"),
        ("number type", lambda g: data.load("harmful", n=1.5), "ask for 1 to"),
    ],
    "store.Shards": [
        ("empty set", lambda g: store.Shards(g.folder, {}, 0), "at least one shard"),
        ("no such place", lambda g: store.Shards(g.folder, {}, 2).read(2), "shards 0 to 1"),
        ("no such place", lambda g: store.Shards(g.folder, {}, 2).write(-1, torch.ones(1)), "shards 0 to 1"),
        ("mixed devices", lambda g: store.Shards(g.folder, {}, 2).write(0, torch.ones(1, device="meta")), "meta"),
    ],
    "caching.harvest": [
        *prompts_of(lambda g, prompts: caching.harvest(g.model, prompts, progress=False)),
        ("wrong hook name", harvest(hook_names=["blocks.0.resid_pre"]), "no hook called"),
        ("layer out of range", harvest(hook_names=["blocks.4.hook_resid_pre"]), "layers 0 to 3"),
        ("empty set", harvest(hook_names=[]), "at least one"),
        ("empty set", harvest(positions=[]), "at least one position"),
        ("empty set", harvest(positions=[[]] * 6), "at least one"),
        ("no such place", harvest(positions=[64]), "Prompt 0: Position 64 lies outside"),
        ("no such place", harvest(positions=3), "must be a list"),
        ("batch size", harvest(batch_size=0), "at least 1"),
        ("batch size", harvest(max_memory=0), "max_memory is 0"),
    ],
    "caching.forecast": [
        *prompts_of(lambda g, prompts: caching.forecast(g.model, prompts)),
        (
            "no passes",
            lambda g: caching.forecast(g.model, g.prompts, passes=0),
            "passes must be a number above 0, not 0",
        ),
        ("not finite", lambda g: caching.forecast(g.model, g.prompts, passes=NAN), "passes must be a number above 0"),
        (
            "no number",
            lambda g: caching.forecast(g.model, g.prompts, passes="3"),
            "passes must be a number above 0, not '3'",
        ),
        (
            "no number",
            lambda g: caching.forecast(g.model, g.prompts, copies=-1),
            "copies must be a whole number of at least 0",
        ),
        (
            "batch size",
            lambda g: caching.forecast(g.model, g.prompts, batch_size=0),
            "batch_size must be .* at least 1",
        ),
    ],
    "caching.stored_harvest": [
        ("empty set", lambda g: caching.stored_harvest(g.model, [], folder=g.folder, progress=False), "empty"),
        ("wrong hook name", stored(hook_names=["blocks.0.resid_pre"]), "no hook called"),
        ("batch size", stored(batch_size=0), "at least 1"),
        ("number type", stored(dtype=torch.int8), "floating-point type"),
    ],
    "directions.difference_of_means": [
        ("empty set", lambda g: directions.difference_of_means(g.x[:0], g.x), "positive set is empty"),
        ("mixed devices", lambda g: directions.difference_of_means(g.x, g.x.to("meta")), "negative on 'meta'"),
        ("not finite", lambda g: directions.difference_of_means(g.x, g.x * NAN), "negative set holds a NaN.* row 0"),
    ],
    "directions.unit": [
        ("no direction", lambda g: directions.unit(g.direction * 0), "length zero"),
        ("not finite", lambda g: directions.unit(g.direction * NAN), "NaN"),
        ("mixed devices", lambda g: directions.unit(g.direction.to("meta")), "vector on 'meta'"),
    ],
    "directions.project": [
        ("mixed devices", lambda g: directions.project(g.x, g.direction.to("meta")), "direction on 'meta'"),
        ("no direction", lambda g: directions.project(g.x, g.direction * 0), "length zero"),
    ],
    "directions.project_out": [
        ("mixed devices", lambda g: directions.project_out(g.x.to("meta"), g.direction), "x on 'meta'")
    ],
    "directions.cosine": [("mixed devices", lambda g: directions.cosine(g.x, g.x.to("meta")), "b on 'meta'")],
    "directions.random_directions": [
        ("empty set", lambda g: directions.random_directions(0, like=g.direction, seed=0), "at least 1"),
        ("no direction", lambda g: directions.random_directions(2, like=g.direction * 0, seed=0), "length zero"),
    ],
    "directions.pca": [
        ("empty set", lambda g: directions.pca(g.x[:1], 1), "components"),
        ("not finite", lambda g: directions.pca(g.x * NAN, 1), "NaN"),
        ("mixed devices", lambda g: directions.pca(g.x.to("meta"), 1), "x on 'meta'"),
        ("another width", lambda g: directions.pca(g.x, 1).transform(g.x[:, :3]), "fitted on width 32"),
    ],
    "directions.refusal_score": [
        ("empty set", lambda g: directions.refusal_score(g.logits, []), "at least one"),
        ("outside the vocabulary", lambda g: directions.refusal_score(g.logits, [50]), "ids from 0 to 49"),
        ("not finite", lambda g: directions.refusal_score(g.logits * NAN, [1]), "NaN"),
        ("mixed devices", lambda g: directions.refusal_score(g.logits.to("meta"), [1]), "logits on 'meta'"),
    ],
    "directions.kl_divergence": [
        ("not finite", lambda g: directions.kl_divergence(g.logits, g.logits * NAN), "logits_q hold a NaN"),
        ("mixed devices", lambda g: directions.kl_divergence(g.logits, g.logits.to("meta")), "logits_q on 'meta'"),
    ],
    "directions.auroc": [
        ("empty set", lambda g: directions.auroc(g.x[0, :0], g.x[0]), "at least one positive"),
        ("not finite", lambda g: directions.auroc(g.x[0] * NAN, g.x[0]), "NaN"),
        ("mixed devices", lambda g: directions.auroc(g.x[0], g.x[0].to("meta")), "negative on 'meta'"),
    ],
    "directions.wilson_interval": [("empty set", lambda g: directions.wilson_interval(0, 0), "n > 0")],
    "directions.runs_interval": [
        ("empty set", lambda g: directions.runs_interval([], 9), "no run"),
        ("share", lambda g: directions.runs_interval([10], 9), "10"),
    ],
    "directions.bootstrap_interval": [
        ("empty set", lambda g: directions.bootstrap_interval(g.x[:1]), "at least 2 samples"),
        ("not finite", lambda g: directions.bootstrap_interval(g.x * NAN), "without NaN"),
        ("mixed devices", lambda g: directions.bootstrap_interval(g.x.to("meta")), "values on 'meta'"),
    ],
    "directions.select": [("empty set", lambda g: directions.select([], n_layers=4), "no candidates")],
    "steering.ablate": [
        *vectors_of(lambda g, vector: entered(steering.ablate(g.model, vector))),
        ("no direction", lambda g: entered(steering.ablate(g.model, g.direction * 0)), "length zero"),
    ],
    **{
        f"steering.{function.__name__}": [
            *vectors_of(lambda g, vector, f=function, a=amount: entered(f(g.model, vector, layer=1, **{a: 1.0}))),
            ("layer out of range", add(function, layer=4), "layers 0 to 3"),
            ("layer out of range", add(function, layer=-1), "layers 0 to 3"),
            ("not finite", add(function, **{amount: NAN}), "finite number"),
            ("empty set", add(function, positions=[]), "positions is empty"),
        ]
        for function, amount in ((steering.add, "coefficient"), (steering.add_projection_matched, "target"))
    },
    **{
        f"steering.{function.__name__}": [
            ("empty set", score(function, harmful=[]), "empty"),
            ("empty set", score(function, harmless=[]), "empty"),
            ("empty set", score(function, refusal_token_ids=[]), "at least one"),
            ("outside the vocabulary", score(function, refusal_token_ids=[117]), "ids from 0 to 116"),
            ("over-long prompt", score(function, harmless=[[1] * 65]), "at most 64"),
            ("layer out of range", score(function, layers=[0, 1, 2, 4]), "layers 0 to 3"),
            ("not finite", score(function, candidates=torch.full((1, 4, 32), NAN)), "NaN"),
            ("mixed devices", score(function, candidates=torch.ones(1, 4, 32, device="meta")), "meta"),
            ("batch size", score(function, batch_size=0), "at least 1"),
        ]
        for function in (steering.score_candidates, steering.sweep)
    },
    **{
        f"abliteration.{name}": [
            *vectors_of(lambda g, vector, f=function: f(g.model, vector)),
            ("layer out of range", lambda g, f=function: f(g.model, g.direction, layers=[4]), "from 0 to 3"),
            ("empty set", lambda g, f=function: f(g.model, g.direction, layers=[]), "from 0 to 3"),
        ]
        for name, function in (
            ("abliterate", abliteration.abliterate),
            ("edit", abliteration.edit),
            ("abliterated", lambda *given, **options: entered(abliteration.abliterated(*given, **options))),
        )
    },
    "abliteration.save_direction": [
        (
            kind,
            lambda g, v=vector, hook=hook: abliteration.save_direction(
                g.folder / "r.safetensors", v, model=g.model, operation="x", hook_name=hook
            ),
            words,
        )
        for kind, vector, hook, words in (
            ("wrong hook name", torch.ones(32), "blocks.0.resid_pre", "no hook called"),
            ("layer out of range", torch.ones(32), "blocks.4.hook_in", "layers 0 to 3"),
            ("mixed devices", torch.ones(32, device="meta"), "hook_embed", "meta"),
            ("not finite", torch.full((32,), NAN), "hook_embed", "NaN"),
        )
    ],
    "models.reply_logits": [
        *prompts_of(lambda g, prompts: models.reply_logits(g.model, prompts, [[5]] * len(prompts))),
        ("unequal lengths", lambda g: models.reply_logits(g.model, g.prompts, [[5]]), "as many replies"),
    ],
    "steering.scope": prompts_of(lambda g, prompts: steering.scope(g.model, nullcontext, prompts=prompts)),
    "steering.natural_activations": prompts_of(
        lambda g, prompts: steering.natural_activations(g.model, g.dictionary, prompts, position="last")
    ),
    "steering.report": [
        *prompts_of(lambda g, prompts: report(prompts=prompts)(g)),
        *prompts_of(lambda g, prompts: report(off_target=prompts)(g)),
        ("empty set", report(controls=[]), "0 controls"),
        ("batch size", report(batch_size=0), "at least 1"),
    ],
    "steering.dose_response": [
        *prompts_of(lambda g, prompts: doses(prompts=prompts)(g)),
        *vectors_of(lambda g, vector: doses(direction=vector)(g)),
        ("empty set", doses(coefficients=[]), "0 coefficients"),
        ("layer out of range", doses(layer=4), "layers 0 to 3"),
        ("batch size", doses(batch_size=0), "at least 1"),
    ],
    **{
        f"features.{function.__name__}": prompts_of(lambda g, prompts, f=function: f(g.model, g.dictionary, prompts))
        for function in (features.index, features.reconstruction, features.random_like)
    },
    "features.by_prompt": one_prompt_of(lambda g, prompt: features.by_prompt(g.model, g.dictionary, prompt)),
    "features.by_contrast": [
        *prompts_of(lambda g, prompts: features.by_contrast(g.model, g.dictionary, prompts, g.prompts)),
        *prompts_of(lambda g, prompts: features.by_contrast(g.model, g.dictionary, g.prompts, prompts)),
    ],
    "features.detection": [
        *prompts_of(lambda g, prompts: features.detection(g.model, g.dictionary, 0, rule=["bomb"], prompts=prompts)),
        (
            "no such place",
            lambda g: features.detection(g.model, g.dictionary, 6, rule=["bomb"], prompts=g.prompts),
            "0 to 5",
        ),
    ],
}
ROWS = [(name, *row) for name, rows in BAD.items() for row in rows]


@pytest.mark.parametrize(("name", "kind", "call", "words"), ROWS, ids=[f"{name}-{kind}" for name, kind, *_ in ROWS])
def test_bad_input_is_refused_in_words_before_the_model_runs(given, passes, name, kind, call, words):
    with pytest.raises(ValueError, match=words):
        call(given)
    assert passes == [] and not models.has_hooks(given.model)


def test_a_good_call_is_counted(given, passes):
    """The control of the count."""
    models.next_token_logits(given.model, given.prompts[:1])
    caching.harvest(given.model, given.prompts[:1], progress=False)
    assert len(passes) == 2


def test_every_function_that_can_get_bad_input_has_its_rows():
    functions = {
        f"{room}.{name}"
        for room in ROOMS
        for name, thing in vars(importlib.import_module(f"course_lib.{room}")).items()
        if inspect.isroutine(thing) and not name.startswith("_") and thing.__module__.startswith(f"course_lib.{room}")
    }
    assert functions - set(BAD) == TAKES_NOTHING_BAD
    kinds = {
        "empty set",
        "wrong hook name",
        "unknown word",
        "wrong roles",
        "over-long prompt",
        "mixed devices",
        "layer out of range",
        "not finite",
    }
    assert kinds <= {kind for _, kind, *_ in ROWS}


# --- NaNs ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broken(given, checkpoint):
    """`given` with a model in which one weight of block 3 is NaN."""
    model = models.load(str(checkpoint))
    model.blocks[3].mlp.out.original_component.weight[0, 0] = NAN
    return SimpleNamespace(**{**vars(given), "model": model})


@pytest.mark.parametrize(
    "call",
    [
        harvest(hook_names=["blocks.3.hook_resid_post"]),
        stored(hook_names=["blocks.3.hook_resid_post"]),
        lambda g: models.next_token_logits(g.model, g.prompts),
        lambda g: models.generate(g.model, g.prompts, max_new_tokens=3),
        score(steering.score_candidates),
        score(steering.sweep),
    ],
)
def test_a_nan_in_the_weights_is_reported_with_the_place_where_it_begins(broken, call):
    with pytest.raises(
        ValueError, match=r"The run of prompt \d is not finite .* first in blocks\.3\.mlp\.out\.hook_out"
    ):
        call(broken)
    assert not models.has_hooks(broken.model)


def test_a_nan_of_one_token_is_reported_with_its_prompt(given, checkpoint):
    model = models.load(str(checkpoint))
    model.embed.original_component.weight[given.prompts[4][4]] = NAN  # prompt 4 is the only one with a cake
    spared = [number for number, prompt in enumerate(given.prompts) if given.prompts[4][4] not in prompt]
    assert models.next_token_logits(model, [given.prompts[number] for number in spared]).isfinite().all()
    first = min(set(range(len(given.prompts))) - set(spared))
    for call in (models.next_token_logits, lambda *args: models.generate(*args, max_new_tokens=1)):
        with pytest.raises(ValueError, match=rf"prompt {first} is not finite .* first in embed\.hook_out"):
            call(model, given.prompts)


def test_a_nan_that_a_hook_makes_is_reported_at_the_hook(given):
    with given.model.hooks([("blocks.1.hook_mlp_out", lambda x, hook: x * NAN)]):
        with pytest.raises(ValueError, match=r"prompt 0 .* first in blocks\.1\.mlp\.hook_out"):
            models.next_token_logits(given.model, given.prompts)
