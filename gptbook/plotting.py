"""Figures of the book, one function each, so that chapters show ideas and not axes code.

Every function takes numbers and draws them on a given `Axes`. Colors tell apart for color-blind
readers, and no meaning rests on color alone.

References:
    Wong (2011), "Points of view: Color blindness", Nature Methods 8, 441.
    https://doi.org/10.1038/nmeth.1618
"""

from collections.abc import Sequence

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
    grid = weights.detach().cpu()
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
