"""Clocks, the check that comes before them, and the table that comes after."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import torch
from torch import Tensor


class Different(AssertionError):
    """Two ways that should compute the same did not, so their times are not comparable."""


@dataclass(frozen=True)
class Way:
    """One way to do the work of a table."""

    name: str
    run: Callable[[], Tensor | None]
    """Does the work. What it returns must equal what the first way with a value returns; None for a floor."""
    once: bool = False
    """Too slow to repeat: timed in one run only."""


@dataclass
class Table:
    """What one benchmark found."""

    title: str
    setting: str
    seconds: dict[str, float]
    """Median of the repeats for each way, in the order of the ways."""
    reference: str
    """The way whose time is 1."""
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        lines = [f"### {self.title}", self.setting, "", f"| way | seconds | times {self.reference} |", "|---|---|---|"]
        for name, seconds in self.seconds.items():
            lines.append(f"| {name} | {seconds:.3g} | {seconds / self.seconds[self.reference]:.2f} |")
        return "\n".join([*lines, "", *(f"* {note}" for note in self.notes)]).rstrip()


def clock(run: Callable[[], Tensor | None], device: str) -> tuple[float, Tensor | None]:
    """Seconds of the process's own CPU time, on a GPU of the wall after it has finished; and what was computed."""
    if device == "cpu":
        begin = time.process_time()
        value = run()
        return time.process_time() - begin, value
    torch.cuda.synchronize()
    begin = time.perf_counter()
    value = run()
    torch.cuda.synchronize()
    return time.perf_counter() - begin, value


def timed(ways: Sequence[Way], *, repeats: int, device: str = "cpu", tolerance: float = 1e-4) -> dict[str, float]:
    """Median seconds of each way, after one run of all whose values are compared.

    Raises:
        Different: A way's values are not those of the first way that has any.
    """
    first = {way.name: clock(way.run, device) for way in ways}
    check_equal({name: value for name, (_, value) in first.items() if value is not None}, tolerance)
    seconds = {way.name: [first[way.name][0]] if way.once else [] for way in ways}
    for _ in range(repeats):
        for way in ways:
            if not way.once:
                seconds[way.name].append(clock(way.run, device)[0])
    return {name: median(values) for name, values in seconds.items()}


def check_equal(values: dict[str, Tensor], tolerance: float) -> None:
    """Do nothing if all values are equal, up to a tolerance relative to the largest, else raise `Different`."""
    names = list(values)
    for name in names[1:]:
        expected, got = values[names[0]].detach().cpu().double(), values[name].detach().cpu().double()
        if expected.shape != got.shape:
            raise Different(f"{name} gives the shape {tuple(got.shape)}, {names[0]} {tuple(expected.shape)}.")
        gap = float((expected - got).abs().max() / expected.abs().max())
        if not gap <= tolerance:
            raise Different(f"{name} differs from {names[0]} by {gap:.2g} of the largest value; no ratio is printed.")


def peak_bytes(run: Callable[[], object], device: str) -> int:
    """The most bytes of tensors that were allocated at a time while `run` ran, beyond those before it."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        kept = run()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    del kept
    return peak
