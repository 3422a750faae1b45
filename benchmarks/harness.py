"""Time two ways of doing the same work, turn by turn, and write down how they compare.

The two take turns so that whatever else the machine does disturbs both alike; the ratio of each
round is taken by itself, and the median of those is what counts. Seconds are processor time of this
process, which on one thread and a quiet machine is wall time.
"""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
import transformers

RESULTS = Path(__file__).with_name("RESULTS.md")
NOT_HERE = "not measured: this processor multiplies no bfloat16"


@dataclass(frozen=True)
class Row:
    """One line of the table: what was compared, how it came out, what was wanted."""

    what: str
    target: float | None = None
    """The ratio that is wanted; None where a figure only informs."""
    unit: str = "tokens/s"
    ours: float = 0.0
    theirs: float = 0.0
    ratios: tuple[float, ...] = ()
    """How many times as good as theirs, round by round; none if nothing was measured."""
    note: str = ""

    @property
    def ratio(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.ratios)

    @property
    def verdict(self) -> str:
        """Say whether the target was met."""
        if not self.ratios or self.target is None:
            return self.note
        met = "met" if self.ratio >= self.target else "**missed**"
        return f"{met}; {self.note}" if self.note else met

    def __str__(self) -> str:
        wanted = "" if self.target is None else f"{self.target:g}"
        if not self.ratios:
            return f"| {self.what} | | | | | {wanted} | {self.verdict} |"
        lowest, highest = min(self.ratios), max(self.ratios)
        return (
            f"| {self.what} | {self.ours:,.4g} {self.unit} | {self.theirs:,.4g} | "
            f"**{self.ratio:.2f}** | {lowest:.2f} to {highest:.2f} | {wanted} | {self.verdict} |"
        )


def compare(
    what: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    work: float,
    rounds: int,
    target: float | None = None,
    unit: str = "tokens/s",
    note: str = "",
) -> Row:
    """Let both do the work in turn, once to warm up and then `rounds` times.

    Args:
        what: Names the comparison.
        ours: Does the work once.
        theirs: Does the same work.
        work: How many tokens, or whatever `unit` counts, that is.
        rounds: How many times each is timed.
        target: The ratio that is wanted.
        unit: What is done each second.
        note: Said beside the verdict.
    """
    ours(), theirs()
    pairs = [(_seconds(ours), _seconds(theirs)) for _ in range(rounds)]
    row = Row(
        what,
        target,
        unit,
        work / statistics.median(mine for mine, _ in pairs),
        work / statistics.median(its for _, its in pairs),
        tuple(its / mine for mine, its in pairs),
        note,
    )
    print(row, flush=True)
    return row


def same(what: str, ours: float, theirs: float, tolerance: float) -> None:
    """Refuse to time two ways that do not come to the same result.

    Raises:
        ValueError: If they differ by more than `tolerance`.
    """
    if not abs(ours - theirs) <= tolerance:
        raise ValueError(f"{what}: ours is {ours}, theirs {theirs}; nothing to compare")


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def load() -> float | None:
    """How many processes wanted a processor in the last minute, where the system says."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def processor() -> str:
    """Name the processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def report(sections: Iterable[tuple[str, list[Row]]], loads: list[float | None]) -> str:
    """Write all of it as one page."""
    known = [each for each in loads if each is not None]
    busy = f"{min(known):.1f} to {max(known):.1f}" if known else "unknown"
    lines = [
        "# Speed, as `make bench` measured it",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}; {processor()}, {os.cpu_count()} cores, "
        f"{torch.backends.cpu.get_cpu_capability()}, one thread; {platform.system()}, Python "
        f"{platform.python_version()}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}. Load average before each topic: {busy}"
        + (" (**not a quiet machine**)." if known and max(known) > 1.5 else "."),
        "",
        "Ours and theirs take turns in one process; seconds are processor time. The ratio is the "
        "median over the rounds of how many times ours does theirs' work; beside it the lowest and "
        "the highest.",
    ]
    for title, rows in sections:
        lines += ["", f"## {title}", "", "| what | ours | theirs | ratio | range | target | |"]
        lines += ["|---|---|---|---|---|---|---|", *map(str, rows)]
    return "\n".join(lines) + "\n"


def warn_if_busy() -> float | None:
    """Say so if something else is running; return the load."""
    now = load()
    if now is not None and now > 1.5:
        print(f"load average {now:.1f}: something else is running", file=sys.stderr)
    return now
