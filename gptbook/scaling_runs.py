"""Runs that a scaling law is fitted to: small GPTs of many sizes on many amounts of Littletown.

Every story's exact probability is known, so each run says what a model pays above the lowest loss
there can be. That takes an hour; the table that came out of it, `scaling_runs.csv`, ships with the
package, and `make scaling` makes it anew.
"""

import csv
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from gptbook.evaluation import IGNORED
from gptbook.finetuning import nats_above_floor
from gptbook.model import GPT, ModernConfig, write_whole
from gptbook.scaling import training_flops
from gptbook.tokenizer import END_OF_TEXT, Tokenizer
from gptbook.training import Batch, TrainingConfig, train
from gptbook.world import World

VOCAB_SIZE, CONTEXT_LENGTH, STORIES_PER_BATCH, NUM_HELD_OUT = 1_024, 320, 10, 400
TOKENS_PER_STORY = 102  # about; what length the scores of attention are counted for
# Which stories serve for what: none that is measured is trained on.
_TOKENIZER_SEED, _TRAINING_SEED, _HELD_OUT_SEED = 1_000_000, 0, 2_000_000


@dataclass(frozen=True)
class Run:
    """One row of the table: a model, what it read, and what it pays."""

    purpose: str
    """Which question it was made for, one of grid, width, depth and repeats."""
    d_model: int
    """Width."""
    num_layers: int
    """How many blocks."""
    parameters: int
    """How many numbers it learned, the table of tokens included."""
    tokens: int
    """How many it read in all."""
    unique_tokens: int
    """How many of those it read for the first time."""
    flops: int
    """What its training took, by `gptbook.scaling.training_flops`."""
    above_floor: float
    """What a held-out token costs it above the floor, in nats."""
    error: float
    """The standard error of that, if other stories had been held out."""


def small_config(d_model: int, num_layers: int) -> ModernConfig:
    """Give the shape of a small GPT for stories, with a head for each 32 of its width.

    >>> small_config(64, 4).num_heads
    2
    """
    return ModernConfig(
        vocab_size=VOCAB_SIZE,
        context_length=CONTEXT_LENGTH,
        d_model=d_model,
        num_heads=max(2, d_model // 32),
        num_layers=num_layers,
        rope_theta=1e7,
    )


@cache
def small_tokenizer() -> Tokenizer:
    """Learn the tokenizer that all runs share; it takes seconds and is kept."""
    texts = [story.text for story in World().stories(2_000, _TOKENIZER_SEED)]
    return Tokenizer.train(texts, vocab_size=VOCAB_SIZE, special_tokens=[END_OF_TEXT])


def story_batches(tokenizer: Tokenizer) -> Iterator[Batch]:
    """Draw stories without end, `STORIES_PER_BATCH` side by side; the same for every model."""
    world, end = World(), tokenizer.special_tokens[END_OF_TEXT]
    for first in itertools.count(_TRAINING_SEED, STORIES_PER_BATCH):
        texts = [world.sample(first + number).text for number in range(STORIES_PER_BATCH)]
        rows = [torch.tensor([end, *tokenizer.encode_ordinary(text), end]) for text in texts]
        token_ids = pad_sequence([row[:-1] for row in rows], batch_first=True, padding_value=end)
        targets = pad_sequence([row[1:] for row in rows], batch_first=True, padding_value=IGNORED)
        yield token_ids, targets


def above_floor(model: GPT) -> tuple[float, float]:
    """Say what a held-out token costs a model above the floor, in nats, and the standard error.

    The stories are the same for every model, and none that a run reads is among them.
    """
    tokenizer = small_tokenizer()
    stories = list(World().stories(NUM_HELD_OUT, _HELD_OUT_SEED))
    above = nats_above_floor(model, tokenizer, stories)  # (NUM_HELD_OUT,)
    length = sum(len(tokenizer.encode_ordinary(story.text)) + 1 for story in stories) / len(stories)
    return above.mean().item() / length, above.std().item() / len(stories) ** 0.5 / length


def run(
    purpose: str, d_model: int, num_layers: int, tokens: int, unique_tokens: int | None = None
) -> Run:
    """Train one model on about so many tokens, from seed 0, and measure it.

    The learning rate rises for a twentieth of the steps and falls to nearly nothing at the last.
    Its peak is lower for wide models and for long runs, as trials with widths from 16 to 128 asked
    for, so that each run is about as good as its size and its tokens allow.

    Args:
        purpose: What the row is for.
        d_model: Width.
        num_layers: How many blocks.
        tokens: How many it reads in all, rounded to whole batches.
        unique_tokens: How many of them are new; these are then read again and again, in the same
            order. All are, by default.

    Raises:
        ValueError: If there are fewer tokens than in a batch, or more new ones than are read.
    """
    from tqdm.auto import tqdm  # what it imports depends on where it runs: a notebook or not

    unique_tokens = tokens if unique_tokens is None else unique_tokens
    per_batch = STORIES_PER_BATCH * TOKENS_PER_STORY
    num_steps, num_unique = round(tokens / per_batch), round(unique_tokens / per_batch)
    if not 1 <= num_unique <= num_steps:
        raise ValueError(
            f"tokens={tokens} and unique_tokens={unique_tokens} came; read at least a batch, about "
            f"{per_batch}, and not more new ones than in all"
        )
    tokenizer, config = small_tokenizer(), small_config(d_model, num_layers)
    batches = story_batches(tokenizer)
    if num_unique < num_steps:
        batches = itertools.cycle(list(itertools.islice(batches, num_unique)))
    torch.manual_seed(0)
    model = GPT(config)
    recipe = TrainingConfig(
        num_steps=num_steps,
        optimizer="muon",
        learning_rate=3 / math.sqrt(num_steps * d_model),
        warmup_steps=num_steps // 20,
        final_fraction=0.01,
        weight_decay=0.01,
    )
    steps = tqdm(train(model, batches, recipe), total=num_steps, desc=f"{d_model} x {num_layers}")
    read = [step.tokens for step in steps]
    paid, error = above_floor(model)
    return Run(
        purpose,
        d_model,
        num_layers,
        model.num_parameters(),
        sum(read),
        sum(read[:num_unique]),
        training_flops(config, sum(read), length=TOKENS_PER_STORY),
        round(paid, 6),
        round(error, 6),
    )


def read_runs(path: Path | None = None) -> list[Run]:
    """Read the table that ships with the package, or another of the same columns.

    Raises:
        ValueError: If its columns are not those of `Run`, or a number is none.

    >>> len(read_runs()) > 12
    True
    """
    source = files("gptbook") / "scaling_runs.csv" if path is None else path
    rows = csv.reader(StringIO(source.read_text(encoding="utf-8")))
    columns, wanted = next(rows, []), [field.name for field in fields(Run)]
    if columns != wanted:
        raise ValueError(f"the columns {columns} came; a table of runs has {wanted}")
    kinds: dict[str, Callable[[str], Any]] = {"purpose": str, "above_floor": float, "error": float}
    return [
        Run(**{name: kinds.get(name, int)(cell) for name, cell in zip(wanted, row, strict=True)})
        for row in rows
    ]


def write_runs(runs: list[Run], path: Path) -> None:
    """Write the table, whole or not at all."""
    text = StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Run)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(run) for run in runs)
    write_whole(path, lambda partial: partial.write_text(text.getvalue(), encoding="utf-8"))
