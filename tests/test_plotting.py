"""What the figures promise: labels, and nothing that only color tells."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch

from gptbook.plotting import (
    MARKERS,
    PALETTE,
    plot_attention,
    plot_bars,
    plot_clock,
    plot_cuts,
    plot_dots,
    plot_flow,
    plot_heads,
    plot_heatmap,
    plot_law,
    plot_lines,
    plot_matrices,
    plot_points,
    plot_shares,
    plot_spread,
    plot_story,
    plot_windows,
    use_book_style,
)

mpl.use("Agg")
WEIGHTS = torch.tensor([[1.0, 0.0], [0.25, 0.75]])


@pytest.fixture
def ax():
    with mpl.rc_context():
        figure, ax = plt.subplots()
        yield ax
        plt.close(figure)


def labels(axis_labels):
    return [label.get_text() for label in axis_labels]


def test_an_attention_map_names_queries_down_and_keys_across(ax):
    plot_attention(ax, WEIGHTS, ["Mia", "gave"], ["who", "what"])
    assert labels(ax.get_yticklabels()) == ["Mia", "gave"]
    assert labels(ax.get_xticklabels()) == ["who", "what"]
    assert "key" in ax.get_xlabel()
    assert "query" in ax.get_ylabel()
    assert ax.images[0].get_clim() == (0, 1)
    assert ax.images[0].get_array().tolist() == WEIGHTS.tolist()


def test_an_attention_map_reads_without_color_when_asked(ax):
    plot_attention(ax, WEIGHTS, ["Mia", "gave"], numbers=True)
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written == {(0, 0): "1.00", (1, 0): "0.00", (0, 1): "0.25", (1, 1): "0.75"}


def test_numbers_stand_out_from_their_cell(ax):
    plot_attention(ax, WEIGHTS, ["Mia", "gave"], numbers=True)
    color = {text.get_text(): text.get_color() for text in ax.texts}
    assert (color["1.00"], color["0.00"]) == ("white", "black")


def test_lines_differ_in_marker_as_well_as_in_color(ax):
    lines = {f"line {number}": [number / 2, 1.0] for number in range(len(PALETTE))}
    plot_lines(ax, [0.0, 1.0], lines, xlabel="x (tokens)", ylabel="y (nats)")
    assert len({line.get_marker() for line in ax.lines}) == len(PALETTE)
    assert len({line.get_color() for line in ax.lines}) == len(PALETTE)
    assert labels(ax.get_legend().get_texts()) == list(lines)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x (tokens)", "y (nats)")


def test_there_is_a_marker_for_every_color():
    assert len(set(MARKERS)) == len(MARKERS) == len(set(PALETTE)) == len(PALETTE)


def test_bars_differ_in_hatching_and_carry_their_numbers(ax):
    plot_bars(ax, ["a", "b"], {"one": [1.0, 2.0], "two": [3.0, 4.0]}, ylabel="tokens")
    assert {bar.get_hatch() for bar in ax.patches} == {"", "//"}
    assert sorted(text.get_text() for text in ax.texts) == ["1", "2", "3", "4"]


def test_a_heatmap_is_white_at_zero(ax):
    plot_heatmap(ax, torch.tensor([[-1.0, 3.0]]), xlabel="x", ylabel="y", unit="value")
    image = ax.images[0]
    assert image.get_clim() == (-3, 3)
    assert min(image.to_rgba(0.0)[:3]) > 0.95


def test_a_clock_starts_at_the_top_and_turns_right(ax):
    plot_clock(ax, torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]), title="pair 0")
    tips = [line.get_xydata()[-1].tolist() for line in ax.lines if line.get_marker() == "o"]
    assert tips == [[0.0, 1.0], [1.0, 0.0]]


def test_dots_stand_in_rows_named_once(ax):
    series = {"near": {"none": 2.0, "rotary": 0.0}, "far": {"rotary": 3.0}}
    plot_dots(ax, series, marks={"floor": 0.0}, xlabel="loss (nats)")
    assert labels(ax.get_yticklabels()) == ["none", "rotary"]
    near, far = ax.lines[:2]
    assert near.get_xydata().tolist() == [[2.0, 0.0], [0.0, 1.0]]
    assert far.get_xydata().tolist() == [[3.0, 1.0]]
    assert near.get_marker() != far.get_marker()


def test_heads_share_the_names_of_their_rows():
    figure, axes = plt.subplots(1, 2)
    plot_heads(axes, WEIGHTS.expand(2, 2, 2), ["Mia", "gave"], titles=["head 0", "head 1"])
    assert [ax.get_title() for ax in axes] == ["head 0", "head 1"]
    assert labels(axes[0].get_yticklabels()) == ["Mia", "gave"]
    assert labels(axes[1].get_yticklabels()) == ["", ""]
    plt.close(figure)


def test_a_cut_stands_behind_the_last_token_it_keeps(ax):
    plot_cuts(ax, torch.tensor([0.5, 0.3, 0.2]), ["Mia", "Tom", "Ben"], cuts={"k": 2, "all": 9})
    assert [line.get_xdata()[0] for line in ax.lines] == [1.5, 2.5]
    assert labels(ax.texts) == ["k: 2", "all: 9"]
    assert len({line.get_linestyle() for line in ax.lines}) == 2
    assert labels(ax.get_xticklabels()) == ["Mia", "Tom", "Ben"]


def test_single_values_are_named_beside_the_spread(ax):
    plot_spread(ax, [1.0, 2.0, 2.0], marks={"one": 1.5, "two": 5.0}, xlabel="nats", ylabel="texts")
    assert [line.get_xdata()[0] for line in ax.lines] == [1.5, 5.0]
    assert [text.strip() for text in labels(ax.texts)] == ["one", "two"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("nats", "texts")
    assert sum(patch.get_height() for patch in ax.patches) == 3


def test_shares_follow_on_each_other_and_small_ones_carry_no_number(ax):
    plot_shares(ax, ["a", "b"], {"one": [97.0, 40.0], "two": [3.0, 60.0]}, xlabel="share (%)")
    assert [bar.get_x() for bar in ax.patches] == [0.0, 0.0, 97.0, 40.0]
    assert {bar.get_hatch() for bar in ax.patches} == {"", "//"}
    assert [text.get_text() for text in ax.texts] == ["97", "40", "", "60"]
    assert ax.yaxis_inverted()


def test_a_flow_names_every_result_with_its_shape_and_widens_with_its_size(ax):
    steps = {"ids": (1, 2), "vectors": (1, 2, 512), "again": (1, 2, 512)}
    plot_flow(ax, steps, repeated=(1, 2), times="× 6", skips=[(0, 2)])
    boxes = [patch for patch in ax.patches if patch.get_height() == 0.64]
    widths = [box.get_width() for box in boxes]
    assert widths[0] < widths[1] == widths[2] == 1
    assert boxes[0].get_facecolor() != boxes[1].get_facecolor() == boxes[2].get_facecolor()
    written = [text.get_text() for text in ax.texts if text.get_text()]
    assert written == ["(1, 2)", "ids", "(1, 2, 512)", "vectors", "(1, 2, 512)", "again", "× 6"]
    assert len(ax.texts) - len(written) == 3  # the arrows


def test_the_style_draws_on_white_with_a_font_that_ships_with_matplotlib():
    with mpl.rc_context():
        use_book_style()
        assert plt.rcParams["figure.facecolor"] == "white"
        assert plt.rcParams["font.family"] == ["DejaVu Sans"]
        assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == list(PALETTE)


def test_windows_show_where_documents_begin_and_leave_padding_white(ax):
    plot_windows(ax, torch.tensor([[7, 7, 7, 8], [9, 9, -1, -1]]))
    bars = [(bar.get_y() + 0.4, bar.get_x(), bar.get_width()) for bar in ax.patches]
    assert bars == [(0, 0, 3), (0, 3, 1), (1, 0, 2)]
    assert [text.get_text() for text in ax.texts] == ["7", "8", "9"]
    assert ax.get_xlim() == (0, 4)


def test_a_story_is_drawn_word_by_word_with_its_kinds_in_a_legend():
    figure, axes = plt.subplots(2)
    plot_story(list(axes), ["Mia", "has", "it"], [2.0, 0.5, 1.0], ["choice", "grammar", "choice"])
    assert labels(axes[0].get_xticklabels()) == ["Mia", "has"]
    assert labels(axes[1].get_xticklabels()) == ["it"]
    drawn = [bar.get_height() for bar in axes[0].patches]
    assert sorted(drawn) == [0.0, 0.0, 0.5, 2.0]
    assert labels(axes[0].get_legend().get_texts()) == ["choice", "grammar"]
    assert axes[0].get_ylim() == axes[1].get_ylim()
    plt.close(figure)


def test_matrices_are_drawn_to_scale_and_cut_along_the_right_axis(ax):
    shapes = {"wide": (4, 12), "tall": (12, 4), "whole": (5, 5)}
    parts = {"wide": (1, ["a", "b", "c"]), "tall": (0, ["d", "e"])}
    plot_matrices(ax, shapes, parts=parts, ylabel="in the file")
    sizes = [(bar.get_height(), bar.get_width()) for bar in ax.patches]
    assert sizes == [(4, 4)] * 3 + [(6, 4)] * 2 + [(5, 5)]
    corners = [bar.get_xy() for bar in ax.patches]
    assert [y for _, y in corners] == [0, 0, 0, 0, 6, 0]
    assert corners[1][0] - corners[0][0] == 4
    assert corners[3][0] == corners[4][0] > corners[2][0] + 4  # no two lie on each other
    written = [text.get_text() for text in ax.texts]
    assert written == ["a", "b", "c", "wide\n4 × 12", "d", "e", "tall\n12 × 4", "", "whole\n5 × 5"]
    assert "rows" in ax.get_ylabel()
    assert "columns" in ax.get_xlabel()


def test_a_turned_matrix_keeps_its_place_and_is_cut_into_as_many_strips(ax):
    plot_matrices(ax, {"lies": (4, 12), "next": (4, 4)}, parts={"lies": (1, ["a"])}, ylabel="")
    corners = [bar.get_xy() for bar in ax.patches]
    ax.clear()
    parts = {"stands": (0, ["a"])}
    shapes = {"stands": (12, 4), "next": (4, 4)}
    plot_matrices(ax, shapes, parts=parts, ylabel="", num_strips=3)
    whole, strip, beside = ax.patches
    assert [whole.get_xy(), beside.get_xy()] == corners
    assert (strip.get_height(), strip.get_width()) == (4, 4)
    [cuts] = ax.collections
    assert [line[0].tolist() for line in cuts.get_segments()] == [[0, 4], [0, 8]]


def test_every_point_stands_with_its_name_where_it_belongs(ax):
    points = {"head": (0.0, 0.6), "whole": (28.0, 0.8)}
    plot_points(ax, points, xlabel="forgotten (nats)", ylabel="accuracy")
    assert {text.get_text(): text.xy for text in ax.texts} == points
    assert [line.get_xydata().tolist() for line in ax.lines] == [[list(p)] for p in points.values()]
    assert len({(line.get_marker(), line.get_color()) for line in ax.lines}) == 2
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("forgotten (nats)", "accuracy")


def test_a_law_is_a_line_and_what_was_measured_are_points_of_its_color(ax):
    measured = {"small": ([1.0, 10.0], [0.9, 0.5]), "large": ([1.0], [0.4])}
    law = {"small": ([1.0, 10.0], [0.8, 0.6]), "theirs": ([1.0, 10.0], [0.3, 0.2])}
    plot_law(ax, measured, law, xlabel="tokens", ylabel="nats")
    of = {line.get_label(): line for line in ax.lines}
    assert labels(ax.get_legend().get_texts()) == ["small", "large", "theirs"]
    line, points = ax.lines[0], of["small"]
    assert line.get_color() == points.get_color()
    assert (line.get_linestyle(), points.get_linestyle()) == ("-", "None")
    assert points.get_marker() != of["large"].get_marker()
    assert of["theirs"].get_linestyle() != "-"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
