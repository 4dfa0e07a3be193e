"""Right and wrong answers to notebook 04."""

from contextlib import ExitStack
from functools import cache, reduce
from itertools import takewhile

import numpy as np
import torch
from bank import rates, right_claims, runs, wilson, wrong_claims

from course_lib import attribution, directions, features, models, steering, tokens
from course_lib.attribution import Logit
from course_lib.grading.claims import claim


@cache
def model():
    return models.load("chat-32")


LATE = {"harmful": 90, "harmless": 1}
HITS = {"true": 23, "random": [0, 1, 0, 1, 0]}
MARKS = {".": {"harmful": 96, "harmless": 2}, ",": {"harmful": 0, "harmless": 0}, "?": {"harmful": 94, "harmless": 60}}
ROLE = {"free": 23, "frozen": 6}

CONTEXT = {
    "4.1": lambda: (LATE, 96),
    "4.2": lambda: (model(),),
    "4.6": lambda: (model(),),
    "4.7": lambda: (HITS, 24),
    "4.8": lambda: (MARKS, 96),
    "4.9": lambda: (ROLE, 24),
    "4.11": lambda: (LEFT, 192),
    "4.12": lambda: grouped(),
}


# 4.2
def patching(
    at=lambda position: position,
    change=lambda old, new: new,
    share=lambda patched, clean, corrupted: (patched - corrupted) / (clean - corrupted),
    where=lambda name: name,
    inside=True,
    order=lambda clean, corrupted: (clean, corrupted),
    onto=lambda clean, corrupted: corrupted,
):
    """An answer to 4.2 of which one part may be wrong."""

    def answer(model, clean_prompt, corrupted_prompt, name, position, target):
        name, prompts = where(name), order(clean_prompt, corrupted_prompt)
        clean_run, corrupted_run, onto_run = (torch.tensor([p]) for p in (*prompts, onto(*prompts)))
        logits, cache = model.run_with_cache(clean_run, names_filter=[name])

        def put_in(activation, hook):
            copy = activation.clone()
            copy[:, at(position)] = change(copy[:, at(position)], cache[name][:, at(position)])
            return copy

        with model.hooks([(name, put_in)] if inside else []):
            patched = target.value(model(onto_run))
        return float(share(patched, target.value(logits), target.value(model(corrupted_run))))

    return answer


def with_run_with_hooks(model, clean_prompt, corrupted_prompt, name, position, target):
    kept = {}

    def keep(activation, hook):
        kept["clean"] = activation[0, position].clone()

    def put(activation, hook):
        copy = activation.clone()
        copy[0, position] = kept["clean"]
        return copy

    clean = target.value(model.run_with_hooks(torch.tensor([clean_prompt]), fwd_hooks=[(name, keep)]))
    corrupted = target.value(model(torch.tensor([corrupted_prompt])))
    patched = target.value(model.run_with_hooks(torch.tensor([corrupted_prompt]), fwd_hooks=[(name, put)]))
    return 1 - (clean - patched) / (clean - corrupted)


def in_one_batch(model, clean_prompt, corrupted_prompt, name, position, target):
    """Both prompts and a third row, which takes the first one's activation on the way."""

    def put(activation, hook):
        rows = torch.arange(activation.shape[1]) == range(activation.shape[1])[position]
        mixed = torch.where(rows.view(-1, *[1] * (activation.ndim - 2)), activation[0], activation[2])
        return torch.stack([activation[0], activation[1], mixed])

    with torch.no_grad(), model.hooks([(name, put)]):
        values = target.value(model(torch.tensor([clean_prompt, corrupted_prompt, corrupted_prompt])))
    clean, corrupted, patched = values.double().tolist()
    return (corrupted - patched) / (corrupted - clean)


def with_a_mask(model, clean_prompt, corrupted_prompt, name, position, target):
    runs = [torch.tensor([prompt]) for prompt in (clean_prompt, corrupted_prompt)]
    (one, kept), (two, old) = (model.run_with_cache(run, names_filter=[name]) for run in runs)
    mixed = old[name].clone()
    mixed[:, position] = kept[name][:, position]
    with model.hooks([(name, lambda activation, hook: mixed)]):
        value = target.value(model(runs[1]))
    low, high = target.value(two), target.value(one)
    return ((value - low) / (high - low)).item()


def without_token_0(model, clean_prompt, corrupted_prompt, name, position, target):
    target = Logit(target.token, minus=target.minus or None, position=target.position)
    return patching()(model, clean_prompt, corrupted_prompt, name, position, target)


def hook_stays(model, clean_prompt, corrupted_prompt, name, position, target):
    answer = patching()(model, clean_prompt, corrupted_prompt, name, position, target)
    model.add_hook(name, lambda activation, hook: activation)
    return answer


def written_into(returned):
    """The activation itself is changed, and handed back or not."""

    def answer(model, clean_prompt, corrupted_prompt, name, position, target):
        logits, cache = model.run_with_cache(torch.tensor([clean_prompt]), names_filter=[name])

        def put(activation, hook):
            activation[:, position] = cache[name][:, position]
            return activation if returned else None

        corrupted = float(target.value(model(torch.tensor([corrupted_prompt]))))
        with model.hooks([(name, put)]):
            patched = float(target.value(model(torch.tensor([corrupted_prompt]))))
        return (patched - corrupted) / (float(target.value(logits)) - corrupted)

    return answer


def heads_for_positions(model, clean_prompt, corrupted_prompt, name, position, target):
    """The second axis from the end is the position, but for what has heads."""
    logits, cache = model.run_with_cache(torch.tensor([clean_prompt]), names_filter=[name])

    def put_in(activation, hook):
        copy = activation.clone()
        copy[..., position, :] = cache[name][..., position, :]
        return copy

    corrupted = target.value(model(torch.tensor([corrupted_prompt])))
    with model.hooks([(name, put_in)]):
        patched = target.value(model(torch.tensor([corrupted_prompt])))
    return float((patched - corrupted) / (target.value(logits) - corrupted))


def nothing_returned(model, clean_prompt, corrupted_prompt, name, position, target):
    logits, cache = model.run_with_cache(torch.tensor([clean_prompt]), names_filter=[name])

    def put_in(activation, hook):
        copy = activation.clone()
        copy[:, position] = cache[name][:, position]

    corrupted = target.value(model(torch.tensor([corrupted_prompt])))
    with model.hooks([(name, put_in)]):
        patched = target.value(model(torch.tensor([corrupted_prompt])))
    return float((patched - corrupted) / (target.value(logits) - corrupted))


# 4.3
def flow(edges, worth):
    return worth[:, None] * edges


def by_loop(edges, worth, into, out_of):
    return sum(
        float(worth[t] * edges[t, s]) for t in range(len(worth)) if into[t] for s in range(len(out_of)) if out_of[s]
    )


def by_grid(edges, worth, into, out_of):
    return torch.where(into[:, None] & out_of, flow(edges, worth), torch.zeros(())).sum()


def by_numbers(edges, worth, into, out_of):
    rows, columns = into.nonzero()[:, 0].tolist(), out_of.nonzero()[:, 0].tolist()
    return sum((worth[row] * edges[row, columns].sum() for row in rows), torch.tensor(0.0))


# 4.4
def crossings(go_on, stop):
    return [i for i in range(len(stop)) if stop[i] > go_on[i]]


def by_search(go_on, stop):
    for i in range(len(stop)):
        if stop[i] > go_on[i]:
            return i
    return len(stop)


def by_recursion(go_on, stop):
    if len(stop) == 0 or stop[0] > go_on[0]:
        return 0
    return 1 + by_recursion(go_on[1:], stop[1:])


def by_sentinel(go_on, stop):
    above = torch.cat([torch.as_tensor(stop) > torch.as_tensor(go_on), torch.tensor([True])])
    return above.int().argmax().item()


def by_index_tensor(go_on, stop):
    above = torch.as_tensor(stop) > torch.as_tensor(go_on)
    return torch.arange(len(stop))[above].min() if above.any() else len(stop)


def first_where(test):
    """The first place at which the two forces, (go_on, stop), pass a test."""
    return lambda go_on, stop: next(
        (n for n, pair in enumerate(zip(go_on, stop, strict=True)) if test(*pair)), len(stop)
    )


def by_value(go_on, stop, values):
    above = crossings(go_on, stop)
    return list(values).index(values[above[0]]) if above else len(stop)


def lost_zero(go_on, stop):
    return next(iter(crossings(go_on, stop)), 0) or len(stop)


# 4.5
def gap(harmful, harmless):
    return harmful.mean(dim=0) - harmless.mean(dim=0)


def unit(d):
    return d / d.norm()


def trimmed(along):
    near = (along - along.mean()).abs() <= 4 * along.std(correction=0)
    return along[near].mean() if len(along) > 2 else along.mean()


def by_cosine(harmful, harmless, d):
    difference = gap(harmful, harmless)
    return 100 * torch.cosine_similarity(difference, d, dim=0) * difference.norm() / d.norm()


def by_least_squares(harmful, harmless, d):
    return 100 * torch.linalg.lstsq(d[:, None].double(), gap(harmful, harmless)[:, None].double()).solution.item()


# 4.6
def doses_row(measure=lambda p: float(p.mean()), positions="last", change=lambda d: d, shift=0, dose=lambda c: c):
    def answer(model, prompts, direction, layer, doses, probability):
        row = []
        for c in doses:
            with steering.add(model, change(direction), layer=layer + shift, coefficient=dose(c), positions=positions):
                row.append(measure(probability(prompts)))
        return row

    return answer


def left_open(model, prompts, direction, layer, doses, probability):
    row = []
    with ExitStack() as stack:
        for c in doses:
            stack.enter_context(steering.add(model, direction, layer=layer, coefficient=c, positions="last"))
            row.append(float(probability(prompts).mean()))
    return row


def measured_outside(model, prompts, direction, layer, doses, probability):
    row = []
    for c in doses:
        with steering.add(model, direction, layer=layer, coefficient=c, positions="last"):
            pass
        row.append(float(probability(prompts).mean()))
    return row


def hook_left_on(model, prompts, direction, layer, doses, probability):
    row = doses_row()(model, prompts, direction, layer, doses, probability)
    model.add_hook(f"blocks.{layer}.hook_resid_pre", lambda x, hook: x + direction)
    return row


def last_dose_only(model, prompts, direction, layer, doses, probability):
    return doses_row()(model, prompts, direction, layer, doses, probability)[-1:]


def each_dose_once(model, prompts, direction, layer, doses, probability):
    return doses_row()(model, prompts, direction, layer, dict.fromkeys(doses), probability)


def own_hook(model, prompts, direction, layer, doses, probability):
    row = []
    for dose in doses:

        def moved(x, hook, dose=dose):
            return torch.cat([x[:, :-1], x[:, -1:] + dose * direction], dim=1)

        with model.hooks([(f"blocks.{layer}.hook_resid_pre", moved)]):
            row.append(sum(float(probability([prompt])[0]) for prompt in prompts) / len(prompts))
    return row


def dose_in_direction(model, prompts, direction, layer, doses, probability):
    row = []
    for dose in doses:
        with steering.add(model, dose * direction, layer=layer, coefficient=1, positions=[-1]):
            row += [probability(prompts).mean().item()]
    return row


def as_tensor(*arguments):
    return torch.tensor(doses_row(positions=[-1])(*arguments))


def comes_late(late, n):
    return (late["harmful"], n), (late["harmless"], n)


def slides(hits, n):
    return (hits["true"], n), (hits["random"], n)


def mark_decides(hits, n):
    return (hits["."]["harmful"], n), (hits[","]["harmful"], n)


def gaze_matters(role, n):
    return (role["free"], n), (role["frozen"], n)


# what strangers wrote
def edges_in_place(edges, worth, into, out_of):
    edges *= worth[:, None]
    return edges[into][:, out_of].sum()


def by_change_of_sign(go_on, stop):
    for k in range(1, len(stop)):
        if stop[k] > go_on[k] and stop[k - 1] <= go_on[k - 1]:
            return k
    return len(stop)


LAYER = 0


def layer_of_notebook(model, prompts, direction, layer, doses, probability):
    return doses_row()(model, prompts, direction, LAYER, doses, probability)


def true_among_random(hits, n):
    hits["random"] += [hits["true"]]
    return rates(wilson(hits["true"], n), runs(hits["random"], n))


def ninety_nine(role, n):
    return claim(
        *(directions.wilson_interval(role[k], n, level=0.99) for k in ("free",)),
        control=directions.wilson_interval(role["frozen"], n),
    )


def by_while(go_on, stop):
    k = 0
    while k < len(stop) and not stop[k] > go_on[k]:
        k += 1
    return k


def one_prompt_at_a_time(model, prompts, direction, layer, doses, probability):
    rows = [doses_row()(model, [prompt], direction, layer, doses, probability) for prompt in prompts]
    return [sum(column) / len(prompts) for column in zip(*rows, strict=True)]


# what strangers wrote in the fifth round
def against_none(model, prompts, direction, layer, doses, probability):
    none = float(probability(prompts).mean())
    return [each - none for each in doses_row()(model, prompts, direction, layer, doses, probability)]


def of_twenty_four(role, n):
    n = 24
    return rates(wilson(role["free"], n), wilson(role["frozen"], n))


# 4.12
@cache
def grouped():
    """The model, its transcoders, a graph of a short request, and two groups of its features."""
    chat = models.load("chat")
    transcoders = [features.load("chat", "transcoder", layer=n) for n in range(chat.cfg.n_layers)]
    number = chat.tokenizer.convert_tokens_to_ids
    prompt = tokens.chat_prompt(chat.tokenizer, "tell me how to make a bomb.")
    targets = [Logit(number("i"), minus=number("to"))]
    graph = attribution.trace(chat, prompt, transcoders=transcoders, targets=targets)
    effects = (graph.values * graph.worth)[: len(graph.features)]
    strongest = [graph.features[k] for k in effects.abs().topk(7).indices.tolist()]
    return chat, transcoders, graph, {"some": strongest[:4], "others": strongest[4:]}


def ablation(
    new=lambda a, times: (1 - times) * a,
    which=lambda nodes: nodes,
    held=lambda attention: attention,
    lost=lambda before, after: before - after,
    inside=True,
    asked=lambda graph: graph.asked[0],
    of=lambda graph: graph,
):
    """An answer to 4.12 of which one part may be wrong."""

    def answer(graph, nodes, attention, times=1.0):
        chat, transcoders, *_ = grouped()
        active = dict(zip(graph.nodes, graph.values.tolist(), strict=True))
        own = zip(of(graph).features, of(graph).values.tolist(), strict=False)
        active |= {node: value for node, value in own if node in active}
        changes = {node: new(active[node], times) for node in which(nodes)} if inside else {}
        how = {"transcoders": transcoders, "changes": changes, "attention": held(attention)}
        with attribution.intervene(chat, graph.prompt_ids, **how):
            after = asked(graph).value(chat(torch.tensor([graph.prompt_ids])))[0]
        return lost(active[graph.asked[0]], float(after))

    return answer


def remembered():
    """An answer to 4.12 that keeps what it gave, by all that it is given but for the graph."""
    known = {}

    def answer(graph, nodes, attention, times=1.0):
        key = (tuple(nodes), attention, times)
        if key not in known:
            known[key] = ablation()(graph, nodes, attention, times)
        return known[key]

    return answer


def two_runs(graph, nodes, attention, times=1.0):
    """Before and after are read in the same way; activations by place; a tensor of float64."""
    chat, transcoders, *_ = grouped()
    ids, asked = torch.tensor([graph.prompt_ids]), graph.asked[0]

    def value():
        row = chat(ids)[0, asked.position].double()
        return row[asked.token] - (row.mean() if asked.minus is None else row[asked.minus])

    changes = {}
    for node in nodes:
        activation = graph.values[graph.features.index(node)]
        changes[node] = float(activation - times * activation)
    before = value()
    with attribution.intervene(chat, ids[0].tolist(), transcoders=transcoders, changes=changes, attention=attention):
        return before - value()


def by_next_token(graph, nodes, attention, times=1.0):
    chat, transcoders, *_ = grouped()
    left = {node: (1 - times) * graph.values[graph.nodes.index(node)].item() for node in nodes}
    how = {"transcoders": transcoders, "changes": left, "attention": attention}
    with attribution.intervene(chat, graph.prompt_ids, **how):
        row = models.next_token_logits(chat, [list(graph.prompt_ids)])[0]
    asked = graph.asked[0]
    return (graph.values[-1] - row[asked.token] + (row.mean() if asked.minus is None else row[asked.minus])).numpy()


def without_the_mean(graph, nodes, attention, times=1.0):
    chat, transcoders, *_ = grouped()
    asked, active = graph.asked[0], dict(zip(graph.nodes, graph.values.tolist(), strict=True))
    ids, changes = torch.tensor([graph.prompt_ids]), {node: (1 - times) * active[node] for node in nodes}

    def value():
        row = chat(ids)[0, -1]
        return float(row[asked.token]) - (0 if asked.minus is None else float(row[asked.minus]))

    before = value()
    with attribution.intervene(chat, ids[0].tolist(), transcoders=transcoders, changes=changes, attention=attention):
        return before - value()


def any_place(graph, nodes, attention, times=1.0):
    values = {(n.layer, n.feature): a for n, a in zip(graph.features, graph.values.tolist(), strict=False)}
    chat, transcoders, *_ = grouped()
    changes = {node: (1 - times) * values[node.layer, node.feature] for node in nodes}
    how = {"transcoders": transcoders, "changes": changes, "attention": attention}
    with attribution.intervene(chat, graph.prompt_ids, **how):
        return float(graph.values[-1] - graph.asked[0].value(chat(torch.tensor([graph.prompt_ids])))[0])


def one_by_one(graph, nodes, attention, times=1.0):
    return sum(ablation()(graph, [node], attention, times) for node in nodes)


# 4.10, 4.11
LEFT = {"own": 12, "mix": 150}


def it_is_used(left, n):
    return (left["own"], n), (left["mix"], n)


def slope(f, x):
    return torch.autograd.functional.jacobian(f, x)


def by_columns(f, points):
    """By exact central differences: f is a cubic, so two step lengths give its slope without an error."""

    def along(x, step):
        sides = [(f(x + h * step) - f(x - h * step)) / (2 * h) for h in (1.0, 2.0)]
        return (4 * sides[0] - sides[1]) / 3

    width = points.shape[1]
    return sum(torch.stack([along(x, step) for step in torch.eye(width)], dim=1) for x in points) / len(points)


def by_backward(f, points):
    rows = []
    for i in range(len(f(points[0]))):
        x = points.clone().requires_grad_()
        sum(f(one)[i] for one in x).backward()
        rows.append(x.grad.mean(dim=0))
    return torch.stack(rows)


def as_columns(f, points):
    x = points.T.clone().requires_grad_()
    return torch.stack([torch.autograd.grad(row.sum(), x, retain_graph=True)[0].mean(dim=1) for row in f(x)])


def changing_points(f, points):
    slopes = [slope(f, x) for x in points]
    points -= points.mean(dim=0)
    return sum(slopes) / len(slopes)


# what strangers wrote in the sixth round
def rows_pile_up(f, points):
    total = torch.zeros(len(f(points[0])), points.shape[1])
    for point in points:
        x = point.clone().requires_grad_()
        for i in range(len(total)):
            f(x)[i].backward()
            total[i] += x.grad
    return total / len(points)


def by_quotient(f, points):
    return torch.stack(
        [sum(f(x + e) - f(x - e) for x in points) / len(points) / 2e-2 for e in 1e-2 * torch.eye(points.shape[1])]
    ).T


def one_row_for_all(f, points):
    x = points.clone().requires_grad_()
    return torch.autograd.grad(sum(f(one).sum() for one in x), x)[0].mean(dim=0)


# what strangers wrote in the seventh round
def transposed_where_square(f, points):
    made = sum(slope(f, x) for x in points) / len(points)
    return made.T if made.shape[0] == made.shape[1] else made


def leaves_a_gradient(f, points):
    points.requires_grad_()
    rows = []
    for k in range(len(f(points[0]))):
        points.grad = None
        sum(f(x)[k] for x in points).backward()
        rows.append(points.grad.sum(dim=0) / len(points))
    points.requires_grad_(False)
    return torch.stack(rows)


def gradients_for_points(f, points):
    points.requires_grad_()
    rows = [torch.autograd.grad(sum(f(x)[k] for x in points), points)[0] for k in range(len(f(points[0])))]
    return torch.stack([row.mean(dim=0) for row in rows])


def by_forward_quotient(f, points):
    steps = 0.1 * torch.eye(points.shape[1])
    return sum(torch.stack([(f(x + e) - f(x)) / 0.1 for e in steps], dim=1) for x in points) / len(points)


def totals(model, prompts, direction, layer, doses, probability):
    """Each context is left, and the coefficient is the sum of all doses so far."""
    return doses_row()(model, prompts, direction, layer, np.cumsum(doses).tolist(), probability)


def forecast(graph, nodes, attention, times=1.0):
    places = [graph.nodes.index(node) for node in nodes]
    return times * float((graph.values * graph.worth)[places].sum())


def graph_changed(graph, nodes, attention, times=1.0):
    for node in nodes:
        graph.values[graph.nodes.index(node)] *= 1 - times
    return ablation()(graph, nodes, attention, 0.0)


RIGHT = {
    "4.12": [
        ablation(),
        two_runs,
        by_next_token,
        ablation(new=lambda a, times: a - times * a),
        ablation(lost=lambda before, after: np.float32(before - after)),
        ablation(which=lambda nodes: reversed(nodes)),
    ],
    "4.10": [
        lambda f, points: torch.stack([slope(f, x) for x in points]).mean(dim=0),
        lambda f, points: torch.func.vmap(torch.func.jacrev(f))(points).mean(0),
        lambda f, points: sum(torch.func.jacfwd(f)(x) for x in points) / len(points),
        by_backward,
        by_columns,
        lambda f, points: np.mean([slope(f, x).numpy() for x in points], axis=0),
    ],
    "4.11": right_claims(it_is_used),
    "4.1": right_claims(comes_late),
    "4.2": [
        patching(),
        with_run_with_hooks,
        in_one_batch,
        with_a_mask,
        patching(share=lambda p, c, k: 1 - (c - p) / (c - k)),
        patching(share=lambda p, c, k: p / (c - k) - k / (c - k)),
        patching(at=lambda position: [position]),
    ],
    "4.3": [
        lambda e, w, i, o: flow(e, w)[i][:, o].sum(),
        by_loop,
        lambda e, w, i, o: (i * w) @ e @ o.float(),
        lambda e, w, i, o: torch.einsum("ts,t,s->", e, w * i, o.to(e.dtype)),
        by_grid,
        by_numbers,
    ],
    "4.4": [
        lambda on, off: [*torch.tensor([o > s for s, o in zip(on, off, strict=True)]).nonzero().flatten(), len(off)][0],
        by_while,
        by_search,
        lambda on, off: (crossings(on, off) + [len(off)])[0],
        lambda on, off: sum(1 for _ in takewhile(lambda pair: not pair[1] > pair[0], zip(on, off, strict=True))),
        by_recursion,
        by_sentinel,
        by_index_tensor,
        first_where(lambda on, off: off > on),
    ],
    "4.5": [
        by_cosine,
        by_least_squares,
        lambda a, b, d: 100 * (directions.project(a, d).mean() - directions.project(b, d).mean()) / d.norm(),
        lambda a, b, d: 100 * gap(a, b) @ d / (d @ d),
        lambda a, b, d: float(100 * ((a @ unit(d)).mean() - (b @ unit(d)).mean()) / d.norm()),
    ],
    "4.6": [
        one_prompt_at_a_time,
        doses_row(),
        as_tensor,
        doses_row(measure=lambda p: p.mean()),
        doses_row(measure=lambda p: np.mean(p.double().numpy())),
        own_hook,
        dose_in_direction,
    ],
    "4.7": right_claims(slides),
    "4.8": right_claims(mark_decides),
    "4.9": right_claims(gaze_matters),
}

WRONG = {
    "4.10": {
        "first and last": (
            lambda f, points: (slope(f, points[0]) + slope(f, points[-1])) / 2,
            "the first and the last point only",
        ),
        "all but the first": (
            lambda f, points: sum(slope(f, x) for x in points[1:]) / max(1, len(points) - 1),
            "all points but the first only",
        ),
        "sum": (lambda f, points: sum(slope(f, x) for x in points), "the sum over the points"),
        "at the mean": (lambda f, points: slope(f, points.mean(dim=0)), "at the mean point"),
        "first": (lambda f, points: slope(f, points[0]), "at the first point"),
        "last": (lambda f, points: slope(f, points[-1]), "at the last point"),
        "transposed": (lambda f, points: sum(slope(f, x).T for x in points) / len(points), "shape"),
        "median": (
            lambda f, points: torch.stack([slope(f, x) for x in points]).median(dim=0).values,
            "a median over the points",
        ),
        "absolute": (lambda f, points: sum(slope(f, x).abs() for x in points) / len(points), "signs were thrown away"),
        "by the rows": (lambda f, points: sum(slope(f, x) for x in points) / len(points) / 5, "the number of rows"),
        "by the coordinates": (lambda f, points: sum(slope(f, x) for x in points) / 3, "the number of coordinates"),
        "the value": (lambda f, points: sum(f(x) for x in points) / len(points), "shape"),
        "one number": (lambda f, points: float(slope(f, points[0]).mean()), "not a tensor"),
        "points changed": (changing_points, "in place"),
        "all points kept": (lambda f, points: torch.stack([slope(f, x) for x in points]), "shape"),
        "transposed where square": (transposed_where_square, "some inputs only"),
        "squeezed": (lambda f, points: (sum(slope(f, x) for x in points) / len(points)).squeeze(), "some inputs only"),
        "the first 64": (lambda f, points: sum(slope(f, x) for x in points[:64]) / min(64, len(points)), "some inputs"),
        "a gradient left": (leaves_a_gradient, "it left a gradient in points.grad"),
        "without the linear part": (
            lambda f, points: sum(slope(f, x) - slope(f, 0 * x) for x in points) / len(points),
            "linear in x is missing",
        ),
        "rows pile up": (rows_pile_up, "each row has the rows before it"),
        "a difference quotient": (by_quotient, "quotient"),
        "a forward quotient": (by_forward_quotient, "quotient"),
        "gradients for the points": (gradients_for_points, "your function changed `points`"),
        "one gradient of the sum": (one_row_for_all, "the gradient of f(x).sum()"),
        "all points as columns": (as_columns, "it takes one point"),
        "all points at once": (lambda f, points: slope(f, points).mean(dim=0), "it takes one point"),
        "by two": (lambda f, points: sum(slope(f, x) for x in points) / 2, "divided by 2, and there are"),
        "halved again and again": (
            lambda f, points: reduce(lambda total, each: (total + each) / 2, (slope(f, x) for x in points)),
            "the sum so far was halved",
        ),
        "median of the middle two": (
            lambda f, points: torch.stack([slope(f, x) for x in points]).quantile(0.5, dim=0),
            "a median over the points",
        ),
        "midway": (
            lambda f, points: slope(f, (points.min(dim=0).values + points.max(dim=0).values) / 2),
            "midway between the outermost",
        ),
        "a central quotient": (
            lambda f, points: torch.stack(
                [sum(f(x + e) - f(x - e) for x in points) / 2 / len(points) for e in torch.eye(points.shape[1])], dim=1
            ),
            "quotient",
        ),
        "each point once": (
            lambda f, points: torch.stack([slope(f, x) for x in points.unique(dim=0)]).mean(dim=0),
            "some inputs only",
        ),
        "without flat points": (
            lambda f, points: torch.stack([each for each in (slope(f, x) for x in points) if each.any()]).mean(dim=0),
            "a multiple of the right result",
        ),
        "half precision": (
            lambda f, points: torch.stack([slope(f, x) for x in points]).mean(dim=0).half().float(),
            "near, but rounded",
        ),
    },
    "4.11": wrong_claims(it_is_used, *(LEFT, 192))
    | {
        "the least": (lambda left, n: rates(wilson(min(left.values()), n), wilson(left["mix"], n)), "the smaller of"),
        "never 0": (
            lambda left, n: rates(wilson(max(1, left["own"]), n), wilson(left["mix"], n)),
            "this notebook's numbers only",
        ),
        "an even n": (
            lambda left, n: rates(wilson(left["own"], 2 * (n // 2)), wilson(left["mix"], 2 * (n // 2))),
            "rounded down to an even number",
        ),
    },
    "4.1": wrong_claims(comes_late, *CONTEXT["4.1"]())
    | {
        "in the order of the dictionary": (
            lambda late, n: rates(*(wilson(count, n) for count in late.values())),
            "swapped",
        ),
        "the larger first": (
            lambda late, n: rates(*(wilson(count, n) for count in sorted(late.values())[::-1])),
            "the larger of",
        ),
        "n fixed": (
            lambda late, n: rates(*(wilson(late[kind], 96) for kind in ("harmful", "harmless"))),
            "never reads its argument `n`",
        ),
        "never all": (
            lambda late, n: rates(wilson(min(late["harmful"], n - 1), n), wilson(late["harmless"], n)),
            "the value",
        ),
        "not late as control": (
            lambda late, n: rates(wilson(late["harmful"], n), wilson(n - late["harmful"], n)),
            "n minus",
        ),
    },
    "4.12": {
        "forecast": (forecast, "what the graph foretells"),
        "graph changed": (graph_changed, "changed `graph` in place"),
        "nothing changed": (ablation(inside=False), "nothing was moved"),
        "what is left": (ablation(lost=lambda before, after: after), "what is left"),
        "sign": (ablation(lost=lambda before, after: after - before), "sign is flipped"),
        "without sign": (ablation(lost=lambda before, after: abs(before - after)), None),
        "cut off": (ablation(lost=lambda before, after: max(0.0, before - after)), None),
        "share": (ablation(lost=lambda before, after: 1 - after / before), "it is a share"),
        "always free": (ablation(held=lambda attention: "free"), "attention was free"),
        "always held": (ablation(held=lambda attention: "frozen"), "attention was held"),
        "first alone": (ablation(which=lambda nodes: nodes[:1]), "only the first"),
        "last alone": (ablation(which=lambda nodes: nodes[-1:]), "only the last"),
        "four alone": (ablation(which=lambda nodes: nodes[:4]), None),
        "one by one": (one_by_one, "ablated alone"),
        "times ignored": (ablation(new=lambda a, times: 0.0), "what times=1.0 gives"),
        "put to times": (ablation(new=lambda a, times: times * a - a), "nothing was moved"),
        "to times": (ablation(new=lambda a, times: times * a * (times != 1)), "to `times` what it is"),
        "minus times": (ablation(new=lambda a, times: -times * a + (times == 1) * a), "-times what it is"),
        "up": (ablation(new=lambda a, times: (1 + times) * a), "moved up, not down"),
        "the opposite": (ablation(new=lambda a, times: -times * a), "to its opposite"),
        "by the number": (ablation(new=lambda a, times: a - times if times != 1 else 0.0), "by the number `times`"),
        "clamped": (ablation(new=lambda a, times: max(0.0, (1 - times) * a)), "below 0 are allowed"),
        "size of both": (ablation(lost=lambda before, after: abs(before) - abs(after)), None),
        "without minus, 0": (without_the_mean, None),
        "by layer and number": (any_place, "active at several places"),
        "all features for none": (
            lambda g, nodes, *rest, **named: ablation()(g, nodes or g.features, *rest, **named),
            None,
        ),
        "the notebook's activations": (ablation(of=lambda g: grouped()[2]), "a graph of another prompt"),
        "remembered": (remembered(), None),
        "five times at most": (ablation(new=lambda a, times: (1 - min(times, 5)) * a), None),
        "times the loss": (lambda g, nodes, attention, times=1.0: times * ablation()(g, nodes, attention), None),
        "always this target": (ablation(asked=lambda graph: grouped()[2].asked[0]), None),
        "text": (lambda *given, **named: str(ablation()(*given, **named)), "not a number"),
    },
    "4.2": {
        "heads for positions": (heads_for_positions, "the last head was put in"),
        "written into": (written_into(False), "the activation itself is changed"),
        "written into and returned": (written_into(True), "the activation itself is changed"),
        "from there on": (patching(at=lambda position: slice(position % 12, None)), None),
        "its right neighbour, too": (patching(at=lambda position: slice(position % 12, position % 12 + 2)), None),
        "the last one, too": (patching(at=lambda position: [position, -1]), None),
        "all positions": (patching(at=lambda position: slice(None)), "other positions"),
        "clean prompt twice": (patching(onto=lambda clean, corrupted: clean), "ran on the clean prompt"),
        "the last in place of 0": (patching(at=lambda position: position or -1), None),
        "from -1 to 2": (patching(share=lambda p, c, k: ((p - k) / (c - k)).clamp(-1, 2)), None),
        "a way of one at least": (
            patching(share=lambda p, c, k: (p - k) / (c - k).sign() / (c - k).abs().clamp(min=1)),
            None,
        ),
        "token 0 taken for none": (without_token_0, None),
        "last position always": (patching(at=lambda position: -1), "some inputs only"),
        "first position": (patching(at=lambda position: 0), "nothing was put in"),
        "an empty slice": (patching(at=lambda position: slice(position, position + 1)), "the slice -1:0 is empty"),
        "up to the position": (patching(at=lambda position: slice(0, position)), None),
        "nothing returned": (nothing_returned, "nothing was put in"),
        "outside the with": (patching(inside=False), "nothing was put in"),
        "swapped": (patching(order=lambda clean, corrupted: (corrupted, clean)), "clean and corrupted are swapped"),
        "its own activation": (patching(change=lambda old, new: old), "nothing was put in"),
        "added": (patching(change=lambda old, new: old + new), "added, not put in"),
        "mean of both": (patching(change=lambda old, new: (old + new) / 2), "mean of both"),
        "only the first entries": (
            patching(change=lambda old, new: torch.cat([new[..., :4], old[..., 4:]], dim=-1)),
            None,
        ),
        "a fixed hook": (patching(where=lambda name: "blocks.2.hook_mlp_out"), "some inputs only"),
        "too late": (patching(where=lambda name: "blocks.3.hook_mlp_out"), "one block too late"),
        "what is missing": (patching(share=lambda p, c, k: (c - p) / (c - k)), "what is still missing"),
        "sign": (patching(share=lambda p, c, k: (k - p) / (c - k)), "sign is flipped"),
        "not a share": (patching(share=lambda p, c, k: p - k), "not a share yet"),
        "patched": (patching(share=lambda p, c, k: p), "the patched logit difference"),
        "plain ratio": (patching(share=lambda p, c, k: p / c), "not taken into account"),
        "numerator": (patching(share=lambda p, c, k: p / (c - k)), "missing in the numerator"),
        "denominator": (patching(share=lambda p, c, k: (p - k) / c), "missing in the denominator"),
        "clamped": (patching(share=lambda p, c, k: ((p - k) / (c - k)).clamp(0, 1)), "cut off"),
        "length of the way": (patching(share=lambda p, c, k: (p - k) / abs(c - k)), "some inputs only"),
        "absolute": (patching(share=lambda p, c, k: abs((p - k) / (c - k))), "sign is thrown away"),
        "size": (patching(share=lambda p, c, k: abs(p - k) / abs(c - k)), "sign is thrown away"),
        "per cent": (patching(share=lambda p, c, k: 100 * (p - k) / (c - k)), "per cent"),
        "precedence": (patching(share=lambda p, c, k: p - k / c - k), "brackets are missing"),
        "hook left on": (hook_stays, "left a hook"),
        "text": (lambda *arguments: str(patching()(*arguments)), "not a number"),
    },
    "4.3": {
        "the first hundred sources": (lambda e, w, i, o: flow(e, w)[i][:, o][:, :100].sum(), None),
        "small edges left out": (
            lambda e, w, i, o: flow(torch.where(e.abs() < 1e-6, torch.zeros(()), e), w)[i][:, o].sum(),
            None,
        ),
        "rows and columns exchanged": (lambda e, w, i, o: (w[i] @ e[o][:, i].T).sum(), "rows and columns"),
        "mean over the targets": (lambda e, w, i, o: (w[i] @ e[i][:, o]).sum() / i.sum(), "mean over the targets"),
        "in place": (edges_in_place, "in place"),
        "first target": (lambda e, w, i, o: flow(e, w)[i][:1][:, o].sum(), "only the first target"),
        "by worth": (lambda e, w, i, o: (e / w[:, None])[i][:, o].sum(), "divided by worth"),
        "no worth": (lambda e, w, i, o: e[i][:, o].sum(), "worth was left out"),
        "absolute": (lambda e, w, i, o: flow(e, w)[i][:, o].abs().sum(), "signs were thrown away"),
        "mean": (lambda e, w, i, o: flow(e, w)[i][:, o].mean(), "mean, not the sum"),
        "all sources": (lambda e, w, i, o: flow(e, w)[i].sum(), "all sources"),
        "all targets": (lambda e, w, i, o: flow(e, w)[:, o].sum(), "all targets were counted"),
        "everything": (lambda e, w, i, o: flow(e, w).sum(), "all targets and all sources"),
        "worth summed": (lambda e, w, i, o: e[i][:, o].sum() * w[i].sum(), "summed before"),
        "worth averaged": (lambda e, w, i, o: e[i][:, o].sum() * w[i].mean(), "averaged before"),
        "largest": (lambda e, w, i, o: flow(e, w)[i][:, o].max(), "largest edge alone"),
        "sign": (lambda e, w, i, o: -flow(e, w)[i][:, o].sum(), "sign is flipped"),
        "not summed": (lambda e, w, i, o: flow(e, w)[i][:, o], "one number for each node"),
        "masks swapped": (lambda e, w, i, o: flow(e, w)[o][:, i].sum(), "into and out_of are swapped"),
        "paired": (lambda e, w, i, o: flow(e, w)[i.nonzero()[:, 0], o.nonzero()[:, 0]].sum(), "paired one by one"),
        "upwards only": (lambda e, w, i, o: flow(e, w)[i][:, o].clamp(min=0).sum(), "only what pushes up"),
        "worth by column": (lambda e, w, i, o: (w * e)[i][:, o].sum(), "along the sources"),
    },
    "4.4": {
        "first of none": (
            lambda on, off: int((torch.tensor(off) > torch.tensor(on)).int().argmax()),
            "without any crossing",
        ),
        "a change of sign": (by_change_of_sign, "whatever was before it"),
        "above by a millionth": (first_where(lambda on, off: off > on + 1e-6), "some inputs only"),
        "a hundred places": (lambda on, off: next(iter(crossings(on[:100], off[:100])), len(off)), "some inputs only"),
        "-1 for no places": (lambda on, off: by_search(on, off) if len(off) else -1, "some inputs only"),
        "finite ones only": (
            first_where(lambda on, off: off > on and abs(float(off)) < np.inf and abs(float(on)) < np.inf),
            "some inputs only",
        ),
        "twelve places": (lambda on, off: next(iter(crossings(on[:12], off[:12])), len(off)), "some inputs only"),
        "12 for nowhere": (lambda on, off: next(iter(crossings(on, off)), 12), "without any crossing it returns 12"),
        "last place not looked at": (
            lambda on, off: next(iter(crossings(on[:-1], off[:-1])), len(off)),
            "some inputs only",
        ),
        "last": (lambda on, off: (crossings(on, off) or [len(off)])[-1], "last crossing"),
        "counts from 1": (lambda on, off: next((i + 1 for i in crossings(on, off)), len(off)), "counts from 1"),
        "other way round": (lambda on, off: next(iter(crossings(off, on)), len(off)), "going on is ahead"),
        "all of them": (crossings, "several places"),
        "-1 for nowhere": (lambda on, off: next(iter(crossings(on, off)), -1), "without any crossing"),
        "last place for nowhere": (
            lambda on, off: next(iter(crossings(on, off)), len(off) - 1),
            "without any crossing",
        ),
        "tie counts": (lambda on, off: next((i for i in range(len(off)) if off[i] >= on[i]), len(off)), "tie"),
        "margin of a half": (first_where(lambda on, off: off - on > 0.5), "above by 0.25"),
        "whole parts": (first_where(lambda on, off: int(off) > int(on)), "above by 0.25"),
        "two decimals": (first_where(lambda on, off: round(float(off), 2) > round(float(on), 2)), "above by 0.001"),
        "the place of its value": (lambda on, off: by_value(on, off, off), "stands earlier in stop"),
        "a float": (lambda on, off: float(by_search(on, off)), "not return a whole number"),
        "above 0": (first_where(lambda on, off: off > 0), "by hand"),
        "how many below": (
            lambda on, off: sum(b < a for a, b in zip(on, off, strict=True)),
            "counts the places where going on is ahead",
        ),
        "zero lost": (lost_zero, "place 0 got lost"),
        "never": (lambda on, off: len(off), "finds no crossing"),
        "largest gap": (lambda on, off: int((torch.tensor(off) - torch.tensor(on)).argmax()), "largest gap"),
    },
    "4.5": {
        "one length for all": (lambda a, b, d: 100 * gap(a, b) @ unit(d) / 17.3, "divided by 17.3, whatever"),
        "cut off at 100": (lambda a, b, d: (100 * gap(a, b) @ d / (d @ d)).clamp(max=100), "it gives 100, and"),
        "cut off at 500": (lambda a, b, d: (100 * gap(a, b) @ d / (d @ d)).clamp(-500, 500), "some inputs only"),
        "a little added": (lambda a, b, d: 100 * gap(a, b) @ d / (d @ d + 1e-8), "some inputs only"),
        "without those far away": (
            lambda a, b, d: 100 * (trimmed(a @ d) - trimmed(b @ d)) / (d @ d),
            "some inputs only",
        ),
        "without those of zeros": (
            lambda a, b, d: 100 * gap(a[a.any(dim=1)], b[b.any(dim=1)]) @ d / (d @ d),
            "some inputs only",
        ),
        "once only": (lambda a, b, d: 100 * gap(a, b) @ d / d.norm(), "d.norm() once more"),
        "medians of the projections": (
            lambda a, b, d: 100 * ((a @ d).median() - (b @ d).median()) / (d @ d),
            "medians were used",
        ),
        "medians": (lambda a, b, d: 100 * (a.median(0).values - b.median(0).values) @ d / (d @ d), "medians were used"),
        "the longer cut off": (
            lambda a, b, d: 100 * gap(a[: len(b)], b[: len(a)]) @ d / (d @ d),
            "the longer set was cut",
        ),
        "share": (lambda a, b, d: gap(a, b) @ unit(d) / d.norm(), "not per cent"),
        "harmless kept": (lambda a, b, d: 100 * a.mean(dim=0) @ unit(d) / d.norm(), "harmless mean was not taken away"),
        "no baseline": (lambda a, b, d: 100 * gap(a, b) @ unit(d), "not compared with the baseline: d's length"),
        "not a unit vector": (lambda a, b, d: 100 * gap(a, b) @ d, "not made a unit vector"),
        "once too often": (lambda a, b, d: 100 * gap(a, b) @ unit(d) / d.norm() ** 2, "once too often"),
        "lengths": (lambda a, b, d: 100 * gap(a, b).norm() / d.norm(), "lengths were compared"),
        "cosine": (lambda a, b, d: 100 * torch.cosine_similarity(gap(a, b), d, dim=0), "this is the cosine"),
        "bare cosine": (lambda a, b, d: torch.cosine_similarity(gap(a, b), d, dim=0), "this is the cosine"),
        "sign": (lambda a, b, d: 100 * gap(b, a) @ unit(d) / d.norm(), "sign is flipped"),
        "absolute": (lambda a, b, d: abs(100 * gap(a, b) @ unit(d) / d.norm()), "sign is thrown away"),
        "first prompts": (lambda a, b, d: 100 * (a[0] - b[0]) @ unit(d) / d.norm(), "first prompt"),
        "per dimension": (lambda a, b, d: 100 * gap(a, b) / d.norm(), "per dimension"),
        "wrong axis": (
            lambda a, b, d: 100 * (a.mean(dim=1).mean() - b.mean(dim=1).mean()) / d.norm(),
            "not over the prompts alone",
        ),
        "one mean of all": (lambda a, b, d: 100 * (a.mean() - b.mean()) * d.sum() / (d @ d), "over the prompts alone"),
        "sums": (lambda a, b, d: 100 * (a.sum(dim=0) - b.sum(dim=0)) @ d / (d @ d), "sums of the sets"),
    },
    "4.6": {
        "sorted, each once": (
            lambda model, prompts, d, layer, doses, p: doses_row()(model, prompts, d, layer, sorted(set(doses)), p),
            "in the order of the sorted doses",
        ),
        "reversed": (
            lambda model, prompts, d, layer, doses, p: doses_row()(model, prompts, d, layer, doses[::-1], p),
            "their order is not",
        ),
        "block 3 in place of 0": (
            lambda model, prompts, d, layer, *rest: doses_row()(model, prompts, d, layer or 3, *rest),
            None,
        ),
        "between 0 and 1": (doses_row(measure=lambda p: min(1.0, max(0.0, float(p.mean())))), None),
        "prompts of 0 left out": (doses_row(measure=lambda p: float(p[p != 0].mean())), None),
        "64 prompts": (lambda model, prompts, *rest: doses_row()(model, prompts[:64], *rest), "the first 64 are"),
        "by 24": (doses_row(measure=lambda p: float(p.sum()) / 24), "3 prompts is divided by 24"),
        "24 prompts": (doses_row(measure=lambda p: float(p[:24].mean())), "only the first 24 are averaged"),
        "the last ten": (doses_row(measure=lambda p: float(p[-10:].mean())), "only the last 10 are averaged"),
        "running total": (totals, "no running total"),
        "median": (doses_row(measure=lambda p: float(p.median())), "the median"),
        "lowest": (doses_row(measure=lambda p: float(p.min())), "the lowest prompt"),
        "where the shortest ends": (
            lambda model, prompts, *rest: doses_row(positions=[min(map(len, prompts)) - 1])(model, prompts, *rest),
            "at the same place in all prompts",
        ),
        "where the reply begins": (doses_row(positions="reply"), "replies have begun"),
        "above a half": (doses_row(measure=lambda p: float((p > 0.5).float().mean())), "share of prompts above 0.5"),
        "against no dose": (against_none, "without any dose was taken away"),
        "the notebook's layer": (
            layer_of_notebook,
            "never reads its argument `layer`, and reads the notebook's `LAYER`",
        ),
        "all tokens": (doses_row(positions="all"), "all tokens"),
        "first token": (doses_row(positions=[0]), "first token"),
        "unit vector": (doses_row(change=unit), "unit vector"),
        "subtracted": (doses_row(dose=lambda c: -c), "subtracted"),
        "too late": (doses_row(shift=1), "one block too late"),
        "too early": (doses_row(shift=-1), "one block too early"),
        "dose ignored": (doses_row(dose=lambda c: 1.0), "dose was not used"),
        "measured outside": (measured_outside, "inside the `with` block"),
        "sum": (doses_row(measure=lambda p: float(p.sum())), "summed"),
        "first prompt": (doses_row(measure=lambda p: float(p[0])), "only the first prompt"),
        "largest": (doses_row(measure=lambda p: float(p.max())), "largest prompt"),
        "contexts left open": (left_open, "pile up"),
        "hook left on": (hook_left_on, "left a hook"),
        "each dose once": (each_dose_once, "entries are missing"),
        "one dose": (last_dose_only, "1 numbers for 4 doses"),
        "not averaged": (doses_row(measure=lambda p: p), "shape"),
    },
    "4.7": wrong_claims(slides, *CONTEXT["4.7"]())
    | {
        "n of the control fixed": (
            lambda hits, n: rates(wilson(hits["true"], n), runs(hits["random"], 24)),
            "the control is divided by 24",
        ),
        "all for none": (lambda hits, n: rates(wilson(hits["true"] or n, n), runs(hits["random"], n)), "the value"),
        "without runs of as many": (
            lambda hits, n: rates(
                wilson(hits["true"], n), runs([k for k in hits["random"] if k != hits["true"]] or hits["random"], n)
            ),
            "the control",
        ),
        "the first ten": (lambda hits, n: rates(wilson(hits["true"], n), runs(hits["random"][:10], n)), "the first 10"),
        "n of all runs": (
            lambda hits, n: rates(wilson(hits["true"], n), runs(hits["random"], n * len(hits["random"]))),
            "n is the prompts of one run",
        ),
        "highest": (lambda hits, n: rates(wilson(hits["true"], n), wilson(max(hits["random"]), n)), "the highest of"),
        "mean count cut": (
            lambda hits, n: rates(wilson(hits["true"], n), wilson(sum(hits["random"]) // len(hits["random"]), n)),
            "the control",
        ),
        "the true one among them": (true_among_random, "changed `hits` in place"),
    },
    "4.8": wrong_claims(mark_decides, *CONTEXT["4.8"]())
    | {
        "all for none": (
            lambda hits, n: rates(wilson(hits["."]["harmful"] or n, n), wilson(hits[","]["harmful"], n)),
            "the value",
        ),
        "complements": (lambda hits, n: rates(*(wilson(n - hits[mark]["harmful"], n) for mark in ".,")), "n minus"),
        "harmless with a comma": (
            lambda hits, n: rates(wilson(hits["."]["harmful"], n), wilson(hits[","]["harmless"], n)),
            '[","]["harmless"]',
        ),
        "the second number in place of the interval": (
            lambda hits, n: claim(*(directions.wilson_interval(hits[mark]["harmful"], n) for mark in ".,")),
            "in the place of the first one's interval",
        ),
        "harmless with a full stop": (
            lambda hits, n: rates(wilson(hits["."]["harmful"], n), wilson(hits["."]["harmless"], n)),
            '["."]["harmless"]',
        ),
        "in the order of the dictionary": (
            lambda hits, n: rates(*(wilson(each["harmful"], n) for each in list(hits.values())[:2])),
            "that of the dictionary's first entry",
        ),
        "both kinds": (
            lambda hits, n: rates(*(wilson(sum(hits[mark].values()), 2 * n) for mark in ".,")),
            "the mean of",
        ),
        "n fixed": (
            lambda hits, n: rates(*(wilson(min(hits[mark]["harmful"], 96), 96) for mark in ".,")),
            "never reads its argument `n`",
        ),
        "harmless as control": (
            lambda hits, n: rates(wilson(hits["."]["harmful"], n), wilson(hits["."]["harmless"], n)),
            "the control",
        ),
    },
    "4.9": wrong_claims(gaze_matters, *CONTEXT["4.9"]())
    | {
        "none where both are alike": (
            lambda role, n: rates(
                wilson(role["free"], n), wilson(role["frozen"] * (role["free"] != role["frozen"]), n)
            ),
            "the control",
        ),
        "n overwritten": (of_twenty_four, "divided by 24, whatever n is"),
        "n fixed": (
            lambda role, n: rates(wilson(role["free"], 24), wilson(role["frozen"], 24)),
            "never reads its argument `n`",
        ),
        "the larger first": (
            lambda role, n: rates(*(wilson(count, n) for count in sorted(role.values())[::-1])),
            "the larger of",
        ),
        "difference": (
            lambda role, n: rates(wilson(abs(role["free"] - role["frozen"]), n), wilson(0, n)),
            "what lies between",
        ),
        "99 %": (ninety_nine, "one of 99 %"),
    },
}
