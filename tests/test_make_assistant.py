"""How the assistant of the book is made: what it reads, and that two processes make one step."""

import dataclasses
import itertools
import math
import random
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as processes
from torch import nn

from gptbook import model as gpt
from gptbook.applications import LESSONS
from gptbook.evaluation import IGNORED
from gptbook.littletown.words import NAMES
from gptbook.models import load
from gptbook.tokenizer import END_OF_TEXT
from gptbook.training import TrainingConfig
from gptbook.world import World
from tools.make_assistant import (
    JUDGED,
    RECIPES,
    Recipe,
    Stage,
    StoryWriter,
    Taught,
    all_batches,
    batches_of,
    follow_recipe,
    judged_row,
    prepare_embeddings,
    work,
)
from tools.readers import odds_loss

SHORT = Recipe(
    TrainingConfig(num_steps=4, learning_rate=1e-3),
    (Stage(0.5, {"repeat": 1.0}), Stage(0.5, {"sentences": 1.0, "stories": 1.0})),
    tokens_per_batch=300,
)


def test_each_stage_takes_its_share_of_the_steps():
    lessons = [SHORT.weights(step) for step in range(4)]
    assert lessons == [SHORT.stages[0].weights] * 2 + [SHORT.stages[1].weights] * 2


def test_the_recipe_teaches_every_lesson_and_no_step_is_left_over():
    for recipe in RECIPES:
        taught = {name for stage in recipe.stages for name in stage.weights}
        assert taught >= {*LESSONS} - {"story", "continuation", "writing"}  # with odds instead
        assert taught - {*LESSONS} == {"stories"}
        assert math.isclose(sum(stage.share for stage in recipe.stages), 1)
        assert recipe.weights(recipe.training.num_steps - 1) == recipe.stages[-1].weights
    assert len({recipe.seed for recipe in RECIPES}) == len(RECIPES)  # no chat comes twice


def test_processes_read_the_same_lesson_and_other_chats():
    _, tokenizer = load()
    recipe = dataclasses.replace(SHORT, training=TrainingConfig(num_steps=8))
    first, second, again = (list(all_batches(tokenizer, recipe, rank)) for rank in (0, 1, 0))
    assert len(first) == 8
    for mine, other, repeated in zip(first, second, again, strict=True):
        assert mine[1].dtype == other[1].dtype  # the odds are another kind of target
        assert mine[0].shape != other[0].shape or not torch.equal(mine[0], other[0])
        assert torch.equal(mine[0], repeated[0])
        assert torch.equal(mine[1], repeated[1])


@pytest.mark.parametrize("lesson", [*RECIPES[0].stages[1].weights, "passage"])
def test_a_batch_fits_the_context_and_the_budget(lesson):
    model, tokenizer = load()
    for token_ids, targets in itertools.islice(batches_of(lesson, tokenizer, RECIPES[0], "x"), 3):
        assert token_ids.shape[1] <= model.context_length
        assert token_ids.numel() <= RECIPES[0].tokens_per_batch
        assert targets.shape[:2] == token_ids.shape
        assert (targets != IGNORED).any()


def test_stories_come_with_the_odds_of_every_next_word():
    """Plain, or asked for in a chat; then nothing of what is asked is learned."""
    _, tokenizer = load()
    writer, draw = StoryWriter(tokenizer), random.Random(0)
    end = tokenizer.special_tokens[END_OF_TEXT]
    kinds = Counter()
    for _ in range(60):
        row = writer.row(draw)
        text = tokenizer.decode(row.token_ids)
        told = Counter()
        for place, _, probability in row.odds:
            told[place] += probability
        start = min(told)
        assert sorted(told) == list(range(start, len(row.token_ids) - 1))
        assert all(math.isclose(total, 1, abs_tol=1e-6) for total in told.values())
        assert row.token_ids[-1] == end
        if "User:" in text:
            assert tokenizer.decode(row.token_ids[: start + 1]).endswith("Assistant:")
            answer = tokenizer.decode(row.token_ids[start + 1 : -1])
            kinds[text.split("User: ")[1].split(".")[0].split("?")[0]] += 1
            assert answer.startswith(" ")
            if "last sentence" in text or "Complete what I" in text:
                assert answer.count(".") == 1
        else:
            assert start == 0
            kinds["plain"] += 1
    assert len(kinds) == 7  # two ways of asking for each of three, and the plain ones


def test_what_was_drawn_is_among_what_could_come():
    _, tokenizer = load()
    writer, draw = StoryWriter(tokenizer), random.Random(1)
    for _ in range(20):
        row = writer.row(draw)
        possible = {(place, token) for place, token, probability in row.odds if probability > 0}
        start = min(place for place, _ in possible)
        for place in range(start, len(row.token_ids) - 1):
            assert (place, row.token_ids[place + 1]) in possible


@pytest.mark.parametrize("name", JUDGED)
def test_a_judgment_is_taught_with_the_odds_that_the_town_knows(name):
    """At the answer's first token; the rest of the answer is sure, and nothing else is learned."""
    _, tokenizer = load()
    draw = random.Random(2)
    num_ends = num_answers = 0
    for _ in range(20):
        row = judged_row(tokenizer, name, draw)
        told = Counter()
        for place, token, probability in row.odds:
            told[place] += probability
            if probability == 1.0:
                assert row.token_ids[place + 1] == token
        assert all(math.isclose(total, 1) for total in told.values())
        text = tokenizer.decode(row.token_ids)
        for part in text.split("User: ")[1:]:
            asked, _, rest = part.partition(END_OF_TEXT)
            answer = rest.removeprefix("Assistant: ").partition(END_OF_TEXT)[0]
            opened = next(
                word for word in ("? I ", "? De", "? He", "? To", "? Li", "? ") if word in asked
            )
            body = asked[asked.index(opened) + 2 :]
            chance = World().review_posterior if name == "sentiment" else World().post_posterior
            wanted = {"positive", "no"}
            expected = chance(body) if answer in wanted else 1 - chance(body)
            first = tokenizer.encode_ordinary(f" {answer}")[0]
            given = [p for _, token, p in row.odds if token == first and p < 1]
            assert any(math.isclose(p, expected) for p in given)
        learned = tokenizer.decode([row.token_ids[place + 1] for place in sorted(told)])
        num_ends += learned.count(END_OF_TEXT)
        num_answers += text.count("Assistant:")
        assert "User" not in learned
    assert 0.1 < num_ends / num_answers < 0.5  # the rest of an answer is learned in one of four


def test_tokens_that_no_story_has_can_be_told_apart_and_the_others_stay():
    model, tokenizer = load()
    before = model.token_embedding.weight.detach().clone()
    prepare_embeddings(model, tokenizer, num_passages=1_500)
    after = model.token_embedding.weight.detach()
    changed = (after != before).any(dim=1)
    assert 1_000 < changed.sum() < 1_500
    likeness = nn.functional.cosine_similarity(before[changed][:, None], before[changed], dim=-1)
    assert likeness.mean() > 0.95  # one vector for all of them: that is what there is to mend
    likeness = nn.functional.cosine_similarity(after[changed][:, None], after[changed], dim=-1)
    assert likeness.fill_diagonal_(0).max() < 0.97
    assert likeness.mean() < 0.3
    near = 0
    names = [name for name in NAMES if len(tokenizer.encode_ordinary(name.chinese)) == 1]
    english = [tokenizer.encode_ordinary(f" {name.english}")[0] for name in names]
    for name, own in zip(names, english, strict=True):
        [token] = tokenizer.encode_ordinary(name.chinese)
        scores = after[english] @ after[token]
        near += int(english[scores.argmax()] == own)
    assert len(names) > 10
    assert near > 0.9 * len(names)
    kept = tokenizer.encode_ordinary(" Mia gave the kite to Tom.")
    assert not changed[kept].any()


def test_a_target_is_a_token_or_the_odds_of_all():
    torch.manual_seed(0)
    model, tokenizer = load()
    taught = Taught(model, strictness=2.0)
    token_ids, targets = next(batches_of("continuation", tokenizer, SHORT, "x"))
    known = targets != IGNORED
    right = model(token_ids)[known].softmax(dim=-1).gather(1, targets[known][:, None])[:, 0]
    counts = (1 - right).clamp(min=0.1)
    assert counts.min() == 0.1 < 0.9 < counts.max()  # some are known already, some are not
    expected = -(counts * right.log()).sum() / counts.sum()
    torch.testing.assert_close(taught.loss(token_ids, targets), expected)
    assert expected > model.loss(token_ids, targets)
    token_ids, targets = next(batches_of("stories", tokenizer, SHORT, "x"))
    known = targets[..., 0] != IGNORED
    logits, odds = model(token_ids)[known], targets[known]
    counts = (logits.softmax(dim=-1) - odds).abs().sum(dim=-1).div(2).clamp(min=0.1)
    each = torch.stack([
        odds_loss(row[None], truth[None], 2.0) for row, truth in zip(logits, odds, strict=True)
    ])
    assert counts.max() > 0.2
    torch.testing.assert_close(
        taught.loss(token_ids, targets), (counts * each).sum() / counts.sum()
    )


@pytest.mark.slow
def test_two_processes_make_the_step_of_their_mean_gradient(tmp_path: Path):
    """One step, by two processes and by hand; its length goes with the gradient."""
    options = {"learning_rate": 0.1, "eps": 1.0, "weight_decay": 0.0}
    training = TrainingConfig(num_steps=1, max_gradient_norm=None, **options)
    recipe = dataclasses.replace(SHORT, training=training)
    meeting = (tmp_path / "meeting").as_uri()
    processes.spawn(work, (meeting, str(tmp_path / "model"), [recipe]), nprocs=2)
    made = dict(gpt.load(tmp_path / "model").named_parameters())

    model, tokenizer = load()
    prepare_embeddings(model, tokenizer)
    before = model.token_embedding.weight.detach().clone()
    taught = Taught(model, recipe.strictness)
    for rank in (0, 1):
        (taught.loss(*next(all_batches(tokenizer, recipe, rank))) / 2).backward()
    rule = torch.optim.AdamW(model.parameters(), lr=0.1, eps=1.0, weight_decay=0.0)
    rule.step()
    assert (made["token_embedding.weight"] - before).abs().max() > 0.01
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(made[name], parameter, rtol=2e-3, atol=2e-4)


@pytest.mark.slow
def test_what_is_saved_is_the_running_mean_of_the_weights(tmp_path: Path):
    """After two steps, by the rule that weighs the first few alike."""
    saved = {}
    for num_steps, memory in ((1, 0.0), (2, 0.0), (2, 0.99)):
        training = TrainingConfig(num_steps=num_steps, learning_rate=0.01, final_fraction=1.0)
        stages = (Stage(1.0, {"repeat": 1.0}),)
        recipe = dataclasses.replace(SHORT, training=training, stages=stages, memory=memory)
        folder = tmp_path / f"{num_steps} {memory}"
        meeting = (tmp_path / f"meeting {num_steps} {memory}").as_uri()
        processes.spawn(work, (meeting, str(folder), [recipe]), nprocs=2)
        saved[num_steps, memory] = gpt.load(folder).final_norm.weight
    model, _ = load()
    first = model.final_norm.weight.lerp(saved[1, 0.0], 1 - 1 / 10)
    expected = first.lerp(saved[2, 0.0], 1 - 2 / 11)
    assert not torch.allclose(saved[1, 0.0], saved[2, 0.0], atol=2e-3)
    torch.testing.assert_close(saved[2, 0.99], expected, atol=1e-3, rtol=0)


def test_a_part_of_the_weights_before_may_be_kept() -> None:
    training = TrainingConfig(num_steps=2, learning_rate=0.01, final_fraction=1.0)
    stages = (Stage(1.0, {"repeat": 1.0}),)
    ends = {}
    for kept in (0.0, 0.3, 1.0):
        model, tokenizer = load()
        recipe = dataclasses.replace(SHORT, training=training, stages=stages, kept=kept)
        follow_recipe(model, tokenizer, recipe, rank=1)
        ends[kept] = model.final_norm.weight.detach()
    assert torch.equal(ends[1.0], load()[0].final_norm.weight)
    assert (ends[0.0] - ends[1.0]).abs().max() > 1e-3
    torch.testing.assert_close(ends[0.3], ends[0.0].lerp(ends[1.0], 0.3))
