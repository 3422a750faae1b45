"""Littletown to within 5% of its floor: our recipe, and the same run with `transformers`.

The recipe is that of `tools/make_models.py`, number by number: same weights to begin with, same
batches, learning rates, clipping and decay. Theirs is Llama's model, which has the same parts, and
AdamW as PyTorch gives it. The two take their steps in turn until each is there; only steps count.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import Row, same
from benchmarks.peers import llama_like
from gptbook.model import GPT
from gptbook.training import IGNORED, Batch, TrainingConfig, parameter_groups, train
from gptbook.world import World
from tools.make_models import (
    HELD_OUT_SEED,
    TRAINING_SEED,
    Recipe,
    recipes,
    story_batches,
    story_losses,
    train_tokenizer,
)

TITLE = "Littletown, until within 5% of the floor (one run each)"
NAME, WITHIN, EVERY, NUM_HELD_OUT, TARGET = "littletown", 0.05, 20, 200, 1.2


def run() -> list[Row]:
    """Train both, and compare the seconds."""
    world = World()
    tokenizer = train_tokenizer(world)
    recipe = recipes(tokenizer.vocab_size)[NAME]
    stories = [world.sample(HELD_OUT_SEED + index) for index in range(NUM_HELD_OUT)]
    floor = statistics.fmean(-story.log_probability for story in stories)
    texts = [story.text for story in stories]

    def is_there(model: Callable[[Tensor], Tensor]) -> bool:
        loss = statistics.fmean(story_losses(model, tokenizer, texts))  # type: ignore[arg-type]
        return loss <= (1 + WITHIN) * floor

    batches = story_batches(world, tokenizer, recipe.stories_per_step, TRAINING_SEED)
    return race(recipe, batches, is_there)


def race(
    recipe: Recipe, batches: Iterator[Batch], is_there: Callable[[Callable], bool]
) -> list[Row]:
    """Let both take their steps in turn until each is there."""
    torch.manual_seed(recipe.seed)
    ours = GPT(recipe.config)
    theirs = llama_like(ours)
    mine, its = itertools.tee(batches)
    runners = [
        Runner(ours, (step.loss for step in train(ours, mine, recipe.training))),
        Runner(lambda ids: theirs(input_ids=ids).logits, peer_losses(theirs, its, recipe.training)),
    ]
    for number in range(1, recipe.training.num_steps + 1):
        losses = [runner.step() for runner in runners if not runner.arrived]
        if number <= 2:
            same(f"loss of step {number}", *losses, 1e-3)
        if number % EVERY == 0:
            for runner in runners:
                runner.arrived = runner.arrived or is_there(runner.model)
        if all(runner.arrived for runner in runners):
            break
    return rows(*runners)


class Runner:
    """A model on its way, and the seconds that its steps took."""

    def __init__(self, model: Callable[[Tensor], Tensor], losses: Iterator[float]) -> None:
        self.model, self.losses = model, losses
        self.seconds, self.num_steps, self.arrived = 0.0, 0, False

    def step(self) -> float:
        """Take one step and return its loss."""
        start = time.process_time()
        loss = next(self.losses)
        self.seconds += time.process_time() - start
        self.num_steps += 1
        return loss


def peer_losses(model: nn.Module, batches: Iterator[Batch], config: TrainingConfig) -> Iterator:
    """Train their model as a user would, by the same recipe."""
    groups = parameter_groups(model, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)
    model.train()
    for number in range(config.num_steps):
        token_ids, targets = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(number)
        logits = model(input_ids=token_ids).logits
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        if config.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
        optimizer.step()
        yield loss.item()


def rows(ours: Runner, theirs: Runner) -> list[Row]:
    """Say how long each took, in all and for a step."""
    if not (ours.arrived and theirs.arrived):
        return [Row("seconds", TARGET, note="**not reached** by the end of the recipe")]
    steps = f"{ours.num_steps} steps, theirs {theirs.num_steps}"
    seconds = (ours.seconds, theirs.seconds)
    each = (ours.seconds / ours.num_steps, theirs.seconds / theirs.num_steps)
    found = [
        Row("all the way", TARGET, "s", *seconds, (seconds[1] / seconds[0],), steps),
        Row("one step", None, "s", *each, (each[1] / each[0],)),
    ]
    print(*found, sep="\n", flush=True)
    return found
