"""The plan of the runs that the scaling law is fitted to."""

import pytest

from gptbook.scaling import training_flops
from gptbook.scaling_runs import TOKENS_PER_STORY, Run, read_runs, small_config
from tools import make_scaling
from tools.make_scaling import AMOUNTS, BUDGETS, MIDDLE, UNIQUE, affordable, make, plan


def test_the_grid_has_at_least_twelve_runs_over_sizes_and_tokens():
    grid = [row for row in plan() if row[0] == "grid"]
    assert len(grid) >= 12
    assert len({row[1:3] for row in grid}) >= 4
    assert len({row[3] for row in grid}) >= 4


@pytest.mark.parametrize("purpose", ["width", "depth"])
def test_runs_that_are_compared_cost_the_same(purpose):
    found = []
    for _, d_model, num_layers, tokens, _ in (row for row in plan() if row[0] == purpose):
        flops = training_flops(small_config(d_model, num_layers), tokens, length=TOKENS_PER_STORY)
        found.append(min(abs(flops / budget - 1) for budget in BUDGETS))
    assert max(found) < 1e-4
    for budget, tokens in zip(BUDGETS, AMOUNTS[1:3], strict=True):
        assert affordable(*MIDDLE, budget) == tokens
        assert ("grid", *MIDDLE, tokens, tokens) in plan()


def test_every_amount_that_is_read_again_is_read_as_new_text_too():
    repeats = {row[3:] for row in plan() if row[0] == "repeats"}
    again = {tokens for tokens, unique in repeats if unique == UNIQUE}
    assert again == {tokens for tokens, unique in repeats if unique == tokens}


def test_the_table_that_ships_is_of_this_plan():
    made = {(row.purpose, row.d_model, row.num_layers) for row in read_runs()}
    assert made == {row[:3] for row in plan()}
    assert len(read_runs()) == len(plan())
    for purpose, d_model, num_layers, tokens, unique in plan():
        assert any(
            (row.purpose, row.d_model, row.num_layers) == (purpose, d_model, num_layers)
            and abs(row.tokens / tokens - 1) < 0.02
            and abs(row.unique_tokens / unique - 1) < 0.02
            for row in read_runs()
        )


class InLine:
    """Stands for a pool of processes: does each run at once."""

    def __init__(self, *arguments, **options): ...

    def __enter__(self):
        return self

    def __exit__(self, *error): ...

    def submit(self, function, *arguments):
        done = make_scaling.Future()
        done.set_result(function(*arguments))
        return done


def test_all_runs_of_the_plan_are_written_in_its_order(tmp_path, monkeypatch):
    def measure(row):
        return Run(row[0], row[1], row[2], 1, row[3], row[4], 1, 1.0, 0.1)

    monkeypatch.setattr(make_scaling, "ProcessPoolExecutor", InLine)
    monkeypatch.setattr(make_scaling, "measure", measure)
    make(tmp_path / "runs.csv")
    written = read_runs(tmp_path / "runs.csv")
    assert len(written) == len(plan())
    purposes = [row.purpose for row in written]
    assert sorted(purposes, key=("grid", "width", "depth", "repeats").index) == purposes
