"""Weight edits of one matrix: in place by rank 1, beside what it costs to touch the matrix, and beside other ways."""

import torch
from torch import Tensor

from benchmarks import cases
from benchmarks.measure import Table, Way, check_equal, timed
from course_lib import abliteration, directions


def tables(setting: cases.Setting) -> list[Table]:
    """The two published edits, on matrices of real models."""
    sizes = [(64, 96)] if setting.quick else [(4096, 4096), (2048, 8192)]
    return [make(d, n, setting) for d, n in sizes for make in (_free, _preserved)]


def _layer(d_model: int, n_inputs: int, device: str) -> tuple[torch.nn.Linear, Tensor]:
    torch.manual_seed(0)
    linear = torch.nn.Linear(n_inputs, d_model, bias=False, device=device).requires_grad_(False)
    return linear, directions.unit(torch.randn(d_model, device=device))


def _free(d_model: int, n_inputs: int, setting: cases.Setting) -> Table:
    linear, r = _layer(d_model, n_inputs, setting.device)
    weight = linear.weight
    writer = abliteration._Writer("matrix", linear, "weight", r)
    expected, identity = weight - torch.outer(r, r @ weight), torch.eye(d_model, device=r.device)

    def in_place() -> Tensor:  # a second time changes nothing, so it can be repeated in place
        abliteration._remove(writer, weight, "free")
        return weight

    def touched() -> None:
        weight.mul_(1.0)

    def touched_twice() -> None:
        weight.norm(dim=1)
        weight.mul_(1.0)

    edit = 'in place, rank 1 (`norm="free"`)'
    ways = [
        Way(edit, in_place),
        Way("one read and write of the matrix", touched),
        Way("floor: one read, then one read and write", touched_twice),
        Way("W - r (r^T W), not in place", lambda: expected - torch.outer(r, r @ expected)),
        Way("projector matrix: (I - r r^T) W", lambda: (identity - torch.outer(r, r)) @ expected),
    ]
    table = Table(
        f"Abliterate: {d_model} x {n_inputs}",
        "One output matrix in float32.",
        timed(ways, repeats=setting.repeats, device=setting.device),
        edit,
    )
    table.notes = [
        "What is removed must be known before the first entry changes, so the matrix is read twice and written once. "
        "One thread reads as slowly as it reads and writes, so the floor in time is two passes, not one and a half."
    ]
    return table


def _preserved(d_model: int, n_inputs: int, setting: cases.Setting) -> Table:
    linear, r = _layer(d_model, n_inputs, setting.device)
    weight, original = linear.weight, linear.weight.clone()
    writer = abliteration._Writer("matrix", linear, "weight", r)

    def published() -> Tensor:
        lengths = original.norm(dim=1, keepdim=True)
        rows = original / lengths
        rows = rows - torch.outer(r, r @ rows)
        return lengths * rows / rows.norm(dim=1, keepdim=True)

    def closed_form() -> None:
        abliteration._remove(writer, weight, "preserved")

    def low_rank(q: int, niter: int) -> None:
        """As published tools keep the edit: its difference as a product of rank 3."""
        torch.manual_seed(0)
        torch.svd_lowrank(published() - original, q=q, niter=niter)

    def full() -> None:
        torch.linalg.svd(published() - original, full_matrices=False)

    closed_form()
    check_equal({"the published steps": published(), "the closed form": weight}, 1e-4)
    edit = 'closed form, in place (`norm="preserved"`)'
    ways = [
        Way(edit, closed_form),
        Way("one read and write of the matrix", lambda: _done(original.mul_(1.0))),
        Way("the published steps, one after the other", lambda: _done(published())),
        Way("rank-3 SVD of the difference, torch's defaults (q=6, niter=2)", lambda: low_rank(6, 2)),
        Way("the same, q=10, niter=6", lambda: low_rank(10, 6), once=True),
    ]
    if d_model == n_inputs or setting.quick:
        ways.append(Way("full SVD of the difference", full, once=True))
    table = Table(
        f"Abliterate with kept row lengths: {d_model} x {n_inputs}",
        "One output matrix in float32; the closed form equals the published steps.",
        timed(ways, repeats=setting.repeats, device=setting.device),
        edit,
    )
    error = _rank_3_error(published() - original)
    table.notes = [f"The rank-3 product misses {error:.1%} of the difference; the closed form misses nothing."]
    return table


def _done(_: Tensor) -> None:
    """For ways whose values were compared beforehand."""


def _rank_3_error(difference: Tensor) -> float:
    torch.manual_seed(0)
    U, S, V = torch.svd_lowrank(difference, q=6, niter=2)
    return float((difference - (U[:, :3] * S[:3]) @ V[:, :3].T).norm() / difference.norm())
