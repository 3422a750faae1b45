"""Figures of the book, one function each, so that chapters show ideas and not axes code.

Every function takes numbers and draws them on a given `Axes`. Colors tell apart for color-blind
readers, and no meaning rests on color alone.

References:
    Wong (2011), "Points of view: Color blindness", Nature Methods 8, 441.
    https://doi.org/10.1038/nmeth.1618
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter
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


def plot_shares(
    ax: Axes, rows: Sequence[str], parts: dict[str, Sequence[float]], *, xlabel: str
) -> None:
    """Draw one bar for each row, cut into parts, with every part that has room numbered.

    Args:
        ax: Where to draw.
        rows: One name a bar, from top to bottom.
        parts: For each name in the legend, its percentage of each bar.
        xlabel: What the whole of a bar is, with its unit.
    """
    left = [0.0] * len(rows)
    hatches = ("", "//", "..", "xx", "--")
    for number, (name, shares) in enumerate(parts.items()):
        color, hatch = PALETTE[number % len(PALETTE)], hatches[number % len(hatches)]
        drawn = ax.barh(
            rows, shares, left=left, label=name, color=color, hatch=hatch, edgecolor="white"
        )
        labels = [f"{share:.0f}" if share >= 4 else "" for share in shares]
        ax.bar_label(drawn, labels, label_type="center", bbox={"facecolor": "white", "pad": 1})
        left = [start + share for start, share in zip(left, shares, strict=True)]
    ax.invert_yaxis()
    ax.set_xlabel(xlabel)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def plot_flow(
    ax: Axes,
    steps: dict[str, Sequence[int]],
    *,
    repeated: tuple[int, int],
    times: str,
    skips: Sequence[tuple[int, int]] = (),
) -> None:
    """Draw the results of a computation from top to bottom, the wider the more numbers they hold.

    Args:
        ax: Where to draw.
        steps: Name of each result, and its shape. Its width grows with the logarithm of its size.
        repeated: First and last of the steps that come again and again, in another color.
        times: How often, written beside them.
        skips: Steps between which there is a second, direct way, drawn as an arc.
    """
    sizes = [math.log(2 * math.prod(shape)) for shape in steps.values()]
    widths = [max(0.13, size / max(sizes)) for size in sizes]
    first, last = repeated
    arrow = {"arrowstyle": "->", "color": "0.3"}
    for row, ((name, shape), width) in enumerate(zip(steps.items(), widths, strict=True)):
        color = PALETTE[4] if first <= row <= last else PALETTE[5]
        corner = (-width / 2, row - 0.32)
        ax.add_patch(plt.Rectangle(corner, width, 0.64, facecolor=color, edgecolor="0.3"))
        ax.text(0, row, str(tuple(shape)), ha="center", va="center", size=8)
        ax.text(-0.55, row, name, ha="right", va="center", size=9)
        if row:
            ax.annotate("", (0, row - 0.32), (0, row - 0.68), arrowprops=arrow)
    for start, stop in skips:
        arc = arrow | {"connectionstyle": f"arc3,rad={-1.2 / (stop - start)}"}
        tail, head = (widths[start] / 2, start), (widths[stop] / 2, stop)
        ax.annotate("", head, tail, arrowprops=arc)
    bracket = [first - 0.3, first - 0.3, last + 0.3, last + 0.3]
    ax.plot([0.54, 0.57, 0.57, 0.54], bracket, color="0.3")
    ax.text(0.6, (first + last) / 2, times, va="center", size=9)
    ax.set_xlim(-1.5, 1.0)
    ax.set_ylim(len(steps) - 0.5, -0.5)
    ax.set_axis_off()


def plot_matrices(
    ax: Axes,
    shapes: dict[str, tuple[int, int]],
    *,
    parts: dict[str, tuple[int, Sequence[str]]],
    ylabel: str,
    num_strips: int = 1,
) -> None:
    """Draw matrices side by side, all to one scale, each with its name and its shape.

    A matrix has the same place whichever of its sides lies, so that two rows can be compared.

    Args:
        ax: Where to draw.
        shapes: Rows and columns of each matrix, by its name.
        parts: Of a matrix that is several in one, along which axis they lie (0: one below the
            other, 1: side by side), and what to write on each.
        ylabel: What the rows are.
        num_strips: Into how many strips thin lines cut each part, along the same axis; the first
            strip is darker.
    """
    longest = max(max(shape) for shape in shapes.values())
    left, gap = 0.0, 0.2 * longest
    for number, (name, (rows, columns)) in enumerate(shapes.items()):
        axis, names = parts.get(name, (0, [""]))
        height = rows if axis else rows / len(names)
        width = columns / len(names) if axis else columns
        color = PALETTE[number % 6]
        for place, part in enumerate(names):
            x, y = (left + place * width, 0.0) if axis else (left, place * height)
            ax.add_patch(
                plt.Rectangle((x, y), width, height, facecolor=color, edgecolor="0.2", alpha=0.5)
            )
            cut = bool(part) and num_strips > 1
            if cut:
                wide, high = (width / num_strips, height) if axis else (width, height / num_strips)
                ax.add_patch(plt.Rectangle((x, y), wide, high, facecolor="0.15"))
                draw, start, end = (ax.vlines, y, y + height) if axis else (ax.hlines, x, x + width)
                begin, step = (x, wide) if axis else (y, high)
                cuts = [begin + step * strip for strip in range(1, num_strips)]
                draw(cuts, start, end, color="0.2", linewidth=0.3)
            behind = {"facecolor": "white", "edgecolor": "none", "pad": 1} if cut else None
            middle = (x + width / 2, y + height / 2)
            ax.text(*middle, part, ha="center", va="center", size=9, bbox=behind)
        label = f"{name}\n{rows:,} × {columns:,}"
        ax.text(left + columns / 2, -0.03 * longest, label, ha="center", va="bottom", size=8)
        left += max(rows, columns) + gap
    tallest = max(rows for rows, _ in shapes.values())
    ax.set_xlim(-gap, left - gap / 2)
    ax.set_ylim(1.03 * tallest, -0.03 * tallest)
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    ax.set_xlabel("columns (to scale)")
    ax.set_ylabel(f"{ylabel}\nrows (to scale)")


def plot_cuts(
    ax: Axes, probabilities: Float[Tensor, " V"], names: Sequence[str], *, cuts: dict[str, int]
) -> None:
    """Draw the most probable tokens of one distribution, and where each method cuts it.

    Args:
        ax: Where to draw.
        probabilities: One number a token, the largest first.
        names: What to write below each bar.
        cuts: For each method, how many tokens it keeps; its line stands to the right of them.
    """
    places = range(len(names))
    ax.bar(places, probabilities.tolist(), color="0.7")
    top = probabilities.max().item()
    for number, (method, num_kept) in enumerate(cuts.items()):
        color, height = PALETTE[number % len(PALETTE)], top * (1 - 0.13 * number)
        place = min(num_kept, len(names)) - 0.5
        ax.axvline(place, color=color, linestyle=("-", "--", ":", "-.")[number % 4])
        label = ax.text(place + 0.15, height, f"{method}: {num_kept}", color=color, va="top")
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
    ax.set_xticks(places, names, rotation=60, ha="right", size=8)
    ax.set_xlabel("next token, the most probable first")
    ax.set_xlim(-0.6, len(names) + 2)
    ax.set_ylabel("probability")


def plot_spread(
    ax: Axes, values: Sequence[float], *, marks: dict[str, float], xlabel: str, ylabel: str
) -> None:
    """Draw how often which values came, and where single ones lie.

    Args:
        ax: Where to draw.
        values: The values to count.
        marks: Names and places of single values, each a line with its name.
        xlabel: What the values are, with their unit.
        ylabel: What was counted.
    """
    ax.hist(values, bins=30, color="0.7")
    top = ax.get_ylim()[1]
    for number, (mark, place) in enumerate(marks.items()):
        color = PALETTE[number % len(PALETTE)]
        ax.axvline(place, color=color, linestyle=("-", "--", ":", "-.")[number % 4])
        height = top * (0.96 - 0.11 * number)
        ax.text(place, height, f"{mark} ", color=color, ha="right", va="top", size=9)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)


def plot_points(
    ax: Axes, points: dict[str, tuple[float, float]], *, xlabel: str, ylabel: str
) -> None:
    """Draw single points, each with its name beside it, told apart by color and by marker.

    Args:
        ax: Where to draw.
        points: For each name its place, across and up.
        xlabel: What is across, with its unit.
        ylabel: What is up, with its unit.
    """
    for number, (name, place) in enumerate(points.items()):
        marker, color = MARKERS[number % len(MARKERS)], PALETTE[number % len(PALETTE)]
        ax.plot(*place, marker, color=color)
        ax.annotate(name, place, xytext=(7, -3), textcoords="offset points", size=9)
    ax.set(xlabel=xlabel, ylabel=ylabel)


def plot_law(
    ax: Axes,
    measured: dict[str, tuple[Sequence[float], Sequence[float]]],
    law: dict[str, tuple[Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
) -> None:
    """Draw what was measured as points, and what a law says as lines, on logarithmic axes.

    Args:
        ax: Where to draw.
        measured: For each name the points, as places across and places up.
        law: For each name the line; it has the color of the points of that name.
        xlabel: What is across, with its unit.
        ylabel: What is up, with its unit.
    """
    names = list(dict.fromkeys([*measured, *law]))
    for number, name in enumerate(names):
        color, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
        if name in law:
            label = None if name in measured else name
            dashes = ("-", "--", ":", "-.")[number % 4]
            ax.plot(*law[name], linestyle=dashes, color=color, linewidth=1.2, label=label)
        if name in measured:
            ax.plot(*measured[name], marker, color=color, markersize=5, label=name)
    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())  # else their labels run into one another
    ax.legend()


def plot_windows(ax: Axes, document_ids: Int[Tensor, "N T"]) -> None:
    """Draw packed windows, one bar each, cut where another document begins; padding stays white.

    Args:
        ax: Where to draw.
        document_ids: Which document the token at each place belongs to; -1 where there is none.
    """
    for row, ids in enumerate(document_ids.tolist()):
        edges = [0, *(i for i in range(1, len(ids)) if ids[i] != ids[i - 1]), len(ids)]
        for start, stop in pairwise(edges):
            if ids[start] >= 0:
                color = PALETTE[ids[start] % 6]  # all but black
                size = stop - start
                ax.barh(row, size, left=start, color=color, edgecolor="white", alpha=0.6)
                if size > len(ids) / 12:
                    middle = (start + stop) / 2
                    ax.text(middle, row, str(ids[start]), ha="center", va="center", size=7)
    ax.set_xlim(0, document_ids.shape[1])
    ax.set_ylim(len(document_ids) - 0.5, -0.5)
    ax.set_xlabel("place in the window (tokens)")


def plot_story(
    axes: Sequence[Axes], words: Sequence[str], nats: Sequence[float], kinds: Sequence[str]
) -> None:
    """Draw how surprising each word of a story is, on as many lines as there are axes.

    Args:
        axes: Where to draw, from top to bottom.
        words: The words, written below their bars.
        nats: The surprise of each.
        kinds: What each is, told by color, hatch and a mark at the foot of the bar.
    """
    names = list(dict.fromkeys(kinds))
    hatches = ("", "//", "..", "xx")
    per_line = math.ceil(len(words) / len(axes))
    for line, ax in enumerate(axes):
        part = slice(line * per_line, (line + 1) * per_line)
        for number, name in enumerate(names):
            heights = [
                n if k == name else 0.0 for n, k in zip(nats[part], kinds[part], strict=True)
            ]
            color, hatch = PALETTE[number % len(PALETTE)], hatches[number % len(hatches)]
            places = range(len(heights))
            ax.bar(places, heights, label=name, color=color, hatch=hatch, edgecolor="white")
            mine = [place for place, kind in enumerate(kinds[part]) if kind == name]
            marker = MARKERS[number % len(MARKERS)]
            ax.plot(mine, [0] * len(mine), marker, color=color, markersize=5, clip_on=False)
        ax.set_xticks(range(len(words[part])), words[part], rotation=60, ha="right", size=8)
        ax.set_xlim(-0.6, per_line - 0.4)
        ax.set_ylim(0, 1.3 * max(nats))
        ax.set_ylabel("surprise (nats)")
    axes[0].legend(ncols=len(names), loc="upper right")
