"""Measuring variants of one thing side by side.

All variants take turns, so that what disturbs the machine disturbs each of them; every turn is
short, and of many turns the median counts. What is measured is the time that the process has on
the processor, so that other processes disturb little. The garbage collector is on, as in
production.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from time import process_time_ns

#: Does one thing as many times as it is told.
Variant = Callable[[int], object]

ROUNDS = 300
#: A turn is about this long.
TURN_NS = 2_000_000


def medians(variants: Mapping[str, Variant], *, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the nanoseconds that each variant takes to do its thing once."""
    times = max(1, int(TURN_NS / min(_nanoseconds(run, 20) for run in variants.values())))
    turns: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    for turn in range(rounds):
        # Nobody always follows the same neighbour.
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            turns[name].append(_nanoseconds(variants[name], times))
    return {name: median(nanoseconds) for name, nanoseconds in turns.items()}


def _nanoseconds(run: Variant, times: int) -> float:
    begin = process_time_ns()
    run(times)
    return (process_time_ns() - begin) / times
