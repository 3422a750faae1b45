"""Littletown to within 5% of its floor: our recipe, and the same run with `transformers`.

The recipe is that of `tools/make_models.py`, number by number: same weights to begin with, same
batches, readers, strictness, learning rates, clipping and decay; only no story is read again.
Theirs is Llama's model, which has the same parts, and AdamW as PyTorch gives it. The two take
their steps in turn until each is there, or one has taken twice the time that the other needed;
only steps count.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from benchmarks.harness import Row, same
from benchmarks.peers import llama_like
from gptbook.model import GPT
from gptbook.training import Batch, TrainingConfig, parameter_groups, train
from gptbook.world import World
from tools.make_models import (
    HELD_OUT_SEED,
    Recipe,
    all_batches,
    prepare_start,
    recipes,
    story_losses,
    train_tokenizer,
)
from tools.readers import Tutored, candidate_ids

TITLE = "Littletown, until within 5% of the floor (one run each)"
NAME, WITHIN, EVERY, NUM_HELD_OUT, TARGET = "littletown", 0.05, 20, 200, 1.2
PATIENCE = 2.0


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

    torch.manual_seed(recipe.seed)
    model = GPT(recipe.config)
    prepare_start(model)
    batches = all_batches(world, tokenizer, recipe)
    return race(model, recipe, batches, candidate_ids(tokenizer), is_there)


def race(
    ours: GPT,
    recipe: Recipe,
    batches: Iterator[Batch],
    candidates: Sequence[Tensor],
    is_there: Callable[[Callable], bool],
) -> list[Row]:
    """Let both take their steps in turn until each is there."""
    theirs, config = Peer(ours), recipe.training
    torch.manual_seed(0)
    mine = Tutored(ours, ours.blocks, ours.token_embedding.weight, candidates)
    its = Tutored(theirs, theirs.model.model.layers, theirs.model.lm_head.weight, candidates)
    its.maps.data.copy_(mine.maps.data)
    given: list[Batch] = []  # the batch of this step, drawn outside the time of either
    both = (given[0] for _ in itertools.count()), (given[0] for _ in itertools.count())
    runners = [
        Runner(ours, (step.loss for step in train(mine, both[0], config))),
        Runner(theirs, peer_losses(its, both[1], config)),
    ]
    for number in range(1, config.num_steps + 1):
        given[:] = [next(batches)]
        mine.strictness = its.strictness = recipe.lesson(number).strictness
        losses = [runner.step() for runner in runners if not runner.arrived]
        if number == 1:  # after it the optimizers part
            same("loss of the first step", *losses, 1e-3)
        if number % EVERY == 0:
            for runner in runners:
                runner.arrived = runner.arrived or is_there(runner.model)
        if all(runner.arrived for runner in runners) or is_hopeless(*runners):
            break
    return rows(*runners)


class Peer(nn.Module):
    """Their model as one that maps token ids to logits."""

    def __init__(self, ours: GPT) -> None:
        super().__init__()
        self.model = llama_like(ours)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Score every token as the next one."""
        return self.model(input_ids=token_ids).logits


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


def peer_losses(model: Tutored, batches: Iterator[Batch], config: TrainingConfig) -> Iterator:
    """Train their model as a user would, by the same recipe."""
    groups = parameter_groups(model, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)
    model.train()
    for number in range(config.num_steps):
        token_ids, targets = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(number)
        loss = model.loss(token_ids, targets)
        optimizer.zero_grad()
        loss.backward()
        if config.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
        optimizer.step()
        yield loss.item()


def is_hopeless(ours: Runner, theirs: Runner) -> bool:
    """Say whether one is there and the other has had `PATIENCE` times its seconds."""
    return any(
        first.arrived and not second.arrived and second.seconds > PATIENCE * first.seconds
        for first, second in ((ours, theirs), (theirs, ours))
    )


def rows(ours: Runner, theirs: Runner) -> list[Row]:
    """Say how long each took, in all and for a step."""
    if not ours.arrived:
        return [Row("seconds", TARGET, note=f"**not reached** in {ours.num_steps} steps")]
    still = "" if theirs.arrived else ", and not there yet"
    steps = f"{ours.num_steps} steps, theirs {theirs.num_steps}{still}"
    seconds = (ours.seconds, theirs.seconds)
    each = (ours.seconds / ours.num_steps, theirs.seconds / theirs.num_steps)
    found = [
        Row("all the way", TARGET, "s", *seconds, (seconds[1] / seconds[0],), steps),
        Row("one step", None, "s", *each, (each[1] / each[0],)),
    ]
    print(*found, sep="\n", flush=True)
    return found
