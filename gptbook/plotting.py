"""Figures of the book, one function each, so that chapters show ideas and not axes code.

Every function takes numbers and draws them on a given `Axes`. Colors tell apart for color-blind
readers, and no meaning rests on color alone.

References:
    Wong (2011), "Points of view: Color blindness", Nature Methods 8, 441.
    https://doi.org/10.1038/nmeth.1618
"""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def use_book_style() -> None:
    """Set matplotlib's defaults for every figure that follows."""
    plt.rcParams.update({
        "axes.grid": False,
        "axes.prop_cycle": plt.cycler(color=PALETTE),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "figure.constrained_layout.use": True,
        "figure.dpi": 150,
        "figure.facecolor": "white",
        "figure.figsize": (6.0, 3.4),
        "font.family": "DejaVu Sans",  # ships with matplotlib: the same on every machine
        "font.size": 10,
        "image.cmap": "Blues",
        "legend.frameon": False,
        "savefig.dpi": 150,
    })


def plot_attention(
    ax: Axes,
    weights: Float[Tensor, "T S"],
    queries: Sequence[str],
    keys: Sequence[str] | None = None,
    *,
    numbers: bool = False,
) -> None:
    """Draw who attends to whom: one row for each query, one column for each key.

    Args:
        ax: Where to draw.
        weights: Attention weights, from 0 (white) to 1 (dark).
        queries: One label a row.
        keys: One label a column; the queries again by default.
        numbers: Write each weight into its cell, so that the figure reads without color.
    """
    keys = queries if keys is None else keys
    grid = weights.detach().cpu().numpy()
    ax.imshow(grid, vmin=0, vmax=1)
    ax.set_xticks(range(len(keys)), keys, rotation=45, ha="right")
    ax.set_yticks(range(len(queries)), queries)
    ax.set_xlabel("attends to (key)")
    ax.set_ylabel("token (query)")
    ax.spines[:].set_visible(False)
    if numbers:
        for row, column in [(i, j) for i in range(len(queries)) for j in range(len(keys))]:
            weight = grid[row, column].item()
            color = "white" if weight > 0.5 else "black"
            ax.text(column, row, f"{weight:.2f}", ha="center", va="center", color=color, size=8)


def plot_lines(
    ax: Axes,
    x: Sequence[float],
    lines: dict[str, Sequence[float]],
    *,
    xlabel: str,
    ylabel: str,
    legend: bool = True,
) -> None:
    """Draw one named line for each entry of `lines`, told apart by color and by marker.

    Args:
        ax: Where to draw.
        x: Positions on the horizontal axis, shared by all lines.
        lines: Name of each line and its heights.
        xlabel: What `x` is, with its unit.
        ylabel: What the heights are, with their unit.
        legend: Whether to name the lines in a legend.
    """
    for number, (name, heights) in enumerate(lines.items()):
        marker = MARKERS[number % len(MARKERS)]
        color = PALETTE[number % len(PALETTE)]
        ax.plot(x, heights, label=name, marker=marker, markersize=4, color=color)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if legend:
        ax.legend()


def plot_heatmap(
    ax: Axes, grid: Float[Tensor, "rows columns"], *, xlabel: str, ylabel: str, unit: str
) -> None:
    """Draw a table of numbers around zero: blue below, white at zero, red above.

    Args:
        ax: Where to draw.
        grid: The numbers, first row on top.
        xlabel: What the columns are.
        ylabel: What the rows are.
        unit: What the numbers are, for the color bar.
    """
    numbers = grid.detach().cpu().numpy()
    limit = abs(numbers).max()
    image = ax.imshow(
        numbers, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
    )
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.figure.colorbar(image, ax=ax, label=unit)


def plot_clock(
    ax: Axes, sines: Float[Tensor, " T"], cosines: Float[Tensor, " T"], *, title: str
) -> None:
    """Draw one pair of channels as a clock hand: up at position 0, turning to the right.

    Positions are numbered where there is room.

    Args:
        ax: Where to draw.
        sines: The pair's first channel, one number a position.
        cosines: The pair's second channel.
        title: Which pair it is.
    """
    ax.add_patch(plt.Circle((0, 0), 1, fill=False, color="0.8"))
    hands = zip(sines.tolist(), cosines.tolist(), strict=True)
    numbered: list[tuple[float, float]] = []
    for position, (x, y) in enumerate(hands):
        ax.plot([0, x], [0, y], color=PALETTE[0], linewidth=1)
        ax.plot(x, y, "o", color=PALETTE[1], markersize=3)
        if all(abs(x - other_x) + abs(y - other_y) > 0.25 for other_x, other_y in numbered):
            ax.text(1.2 * x, 1.2 * y, str(position), ha="center", va="center", size=8)
            numbered.append((x, y))
    ax.set_xlim(-1.4, 1.4)
    ax.set_ylim(-1.4, 1.4)
    ax.set_aspect("equal")
    ax.set_xlabel("sine")
    ax.set_ylabel("cosine")
    ax.set_xticks([-1, 0, 1])
    ax.set_yticks([-1, 0, 1])
    ax.set_title(title, size=10)


def plot_dots(
    ax: Axes, series: dict[str, dict[str, float]], *, marks: dict[str, float], xlabel: str
) -> None:
    """Draw one row for each name, with a dot for each series, and lines to compare with.

    Args:
        ax: Where to draw.
        series: For each series its name, and the value of each row.
        marks: Names and places of vertical lines.
        xlabel: What the values are, with their unit.
    """
    rows = list(dict.fromkeys(row for values in series.values() for row in values))
    for number, (name, values) in enumerate(series.items()):
        heights = [rows.index(row) for row in values]
        marker, color = MARKERS[number], PALETTE[number]
        ax.plot(list(values.values()), heights, marker, label=name, color=color)
    for mark, place in marks.items():
        ax.axvline(place, color="0.6", linestyle="--", linewidth=1)
        ax.text(place, -0.7, mark, ha="center", va="bottom", size=9, color="0.3")
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.7)
    ax.set_xlabel(xlabel)
    if len(series) > 1:
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def plot_heads(
    axes: Iterable[Axes],
    weights: Float[Tensor, "H T S"],
    queries: Sequence[str],
    keys: Sequence[str] | None = None,
    *,
    titles: Sequence[str],
    numbers: bool = False,
) -> None:
    """Draw the attention maps of several heads side by side.

    Args:
        axes: Where to draw, one for each head.
        weights: Attention weights of each head, from 0 (white) to 1 (dark).
        queries: One label a row; written beside the first map only.
        keys: One label a column; the queries again by default.
        titles: One a head.
        numbers: Write each weight into its cell, so that the figure reads without color.
    """
    for number, (ax, grid, title) in enumerate(zip(axes, weights, titles, strict=True)):
        plot_attention(ax, grid, queries, keys, numbers=numbers)
        ax.set_title(title)
        if number:
            ax.set_yticks(range(len(queries)), [""] * len(queries))
            ax.set_ylabel("")


def plot_bars(
    ax: Axes,
    groups: Sequence[str],
    bars: dict[str, Sequence[float]],
    *,
    ylabel: str,
    number_format: str = "{:g}",
) -> None:
    """Draw groups of bars side by side, each bar with its number on top.

    Args:
        ax: Where to draw.
        groups: Names of the groups, from left to right.
        bars: For each name in the legend, one height a group.
        ylabel: What the heights are, with their unit.
        number_format: How the numbers are written.
    """
    width = 0.8 / len(bars)
    hatches = ("", "//", "..", "xx")
    for number, (name, heights) in enumerate(bars.items()):
        left = [place + (number - (len(bars) - 1) / 2) * width for place in range(len(groups))]
        color, hatch = PALETTE[number % len(PALETTE)], hatches[number % len(hatches)]
        drawn = ax.bar(
            left, heights, width, label=name, color=color, hatch=hatch, edgecolor="white"
        )
        ax.bar_label(drawn, fmt=number_format, padding=2)
    ax.set_xticks(range(len(groups)), groups)
    ax.set_ylabel(ylabel)
    ax.margins(y=0.12)
    if len(bars) > 1:
        ax.legend()
