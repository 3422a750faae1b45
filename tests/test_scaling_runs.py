"""The runs of the scaling law: what each one is, and that the table that ships is of this kind."""

import itertools
import math

import pytest
import torch

from gptbook.evaluation import IGNORED
from gptbook.model import GPT, count_parameters
from gptbook.scaling import training_flops
from gptbook.scaling_runs import (
    STORIES_PER_BATCH,
    TOKENS_PER_STORY,
    Run,
    above_floor,
    read_runs,
    run,
    small_config,
    small_tokenizer,
    story_batches,
    write_runs,
)
from gptbook.world import World


@pytest.fixture(scope="module")
def short_run():
    return run("trial", 16, 1, 5_000)


def test_batches_are_stories_that_never_come_again():
    tokenizer = small_tokenizer()
    end = tokenizer.special_tokens["<|endoftext|>"]
    seen = []
    for token_ids, targets in itertools.islice(story_batches(tokenizer), 3):
        for row, target in zip(token_ids, targets, strict=True):
            length = int((target != IGNORED).sum())
            assert (row[0], target[length - 1]) == (end, end)
            assert torch.equal(row[1:length], target[: length - 1])
            seen.append(tokenizer.decode(row[1:length].tolist()))
    assert seen == [World().sample(seed).text for seed in range(3 * STORIES_PER_BATCH)]


def test_a_story_has_about_as_many_tokens_as_is_said():
    batches = itertools.islice(story_batches(small_tokenizer()), 40)
    counts = [int((targets != IGNORED).sum()) for _, targets in batches]
    assert abs(sum(counts) / 40 / STORIES_PER_BATCH - TOKENS_PER_STORY) < 3


def test_a_run_says_what_it_was(short_run):
    config = small_config(16, 1)
    assert (short_run.purpose, short_run.d_model, short_run.num_layers) == ("trial", 16, 1)
    assert short_run.parameters == count_parameters(config)
    assert abs(short_run.tokens - 5_000) < 600
    assert short_run.unique_tokens == short_run.tokens
    flops = training_flops(config, short_run.tokens, length=TOKENS_PER_STORY)
    assert short_run.flops == flops
    assert 1.0 < short_run.above_floor < 7.0  # five batches teach little
    assert 0.0 < short_run.error < 0.2


def test_a_model_that_knows_nothing_pays_for_all_tokens_alike():
    """Of equal scores, each token costs the logarithm of their number, and the floor is known."""
    model = GPT(small_config(16, 1))
    torch.nn.init.zeros_(model.head.weight)
    tokenizer, world = small_tokenizer(), World()
    stories = list(world.stories(400, 2_000_000))
    num = sum(len(tokenizer.encode_ordinary(story.text)) + 1 for story in stories)
    floor = -sum(story.log_probability for story in stories) / num
    paid, error = above_floor(model)
    assert abs(paid - (math.log(1_024) - floor)) < 1e-4
    assert 0.01 < error < 0.2


def test_the_same_run_ends_the_same(short_run):
    assert run("trial", 16, 1, 5_000) == short_run


def test_text_that_is_read_again_is_counted_once(short_run):
    again = run("trial", 16, 1, 10_000, 5_000)
    assert again.unique_tokens == short_run.tokens
    assert again.tokens == 2 * short_run.tokens


@pytest.mark.parametrize(("tokens", "unique"), [(100, None), (5_000, 100), (5_000, 9_000)])
def test_a_run_without_a_batch_or_with_more_new_than_read_is_refused(tokens, unique):
    with pytest.raises(ValueError, match="read at least a batch, about 1020"):
        run("trial", 16, 1, tokens, unique)


def test_a_table_is_read_as_it_was_written(tmp_path, short_run):
    rows = [short_run, Run("grid", 16, 2, 3, 4, 5, 6, 0.25, 1e-05)]
    write_runs(rows, tmp_path / "runs.csv")
    assert read_runs(tmp_path / "runs.csv") == rows
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs.csv"]


def test_a_table_of_something_else_is_refused(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("purpose,d_model\ngrid,16\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"the columns \['purpose', 'd_model'\] came; a table of"):
        read_runs(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match=r"the columns \[\] came"):
        read_runs(path)
    write_runs([], path)
    path.write_text(path.read_text(encoding="utf-8") + "grid,wide,2,3,4,5,6,1,1\n", "utf-8")
    with pytest.raises(ValueError, match="wide"):
        read_runs(path)


def test_the_table_that_ships_is_what_this_package_counts():
    for row in read_runs():
        config = small_config(row.d_model, row.num_layers)
        assert row.parameters == count_parameters(config)
        assert row.flops == training_flops(config, row.tokens, length=TOKENS_PER_STORY)
        assert row.unique_tokens <= row.tokens
        assert row.above_floor > 5 * row.error > 0
