"""Train the models of the book and write them, measured, into gptbook/models.

    python tools/dev.py model              # same as `make model`: both, side by side
    python -m tools.make_models littletown # one of them

Each model trains on one thread, so that two cores train two models at once, and the same machine
writes the same file again. The stories never repeat: each step draws new ones from Littletown.
"""

import argparse
import dataclasses
import itertools
import json
import math
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from gptbook import model as gpt
from gptbook.attention import CausalSelfAttention
from gptbook.evaluation import IGNORED
from gptbook.generation import Sampling, generate
from gptbook.littletown.next_words import advance, begin, next_words
from gptbook.littletown.stories import Sentence, State, follow
from gptbook.littletown.wordings import words_of
from gptbook.model import GPT, GPT2Config, GPTConfig, ModernConfig
from gptbook.tokenizer import END_OF_TEXT, Tokenizer
from gptbook.training import Batch, TrainingConfig, train
from gptbook.world import END_OF_STORY, World
from tools.readers import NUMBERS, READERS, Tutored, candidate_ids, readings

MODELS = Path(__file__).resolve().parent.parent / "gptbook" / "models"
BASES = ("littletown", "littletown-gpt2")  # the assistant is made elsewhere, of the first


# Which stories serve for what: none that is measured is trained on.
TOKENIZER_SEED, TRAINING_SEED, HELD_OUT_SEED, SAMPLING_SEED = 1_000_000, 0, 2_000_000, 3_000_000
SEEDS_PER_LESSON = 200_000

NEW_BATCHES = 16  # before the worst of their stories are read again


@dataclasses.dataclass(frozen=True)
class Lesson:
    """One stage of a training.

    Attributes:
        num_steps: How long it lasts.
        num_questions: How many questions follow each story.
        strictness: How much it counts that the model says nothing impossible: see `odds_loss`.
        num_rereads: After every `NEW_BATCHES`, how many are made of the stories it got worst.
    """

    num_steps: int
    num_questions: int = 0
    strictness: float = 0.0
    num_rereads: int = 0


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that decides what a model of the book becomes."""

    config: GPTConfig
    training: TrainingConfig
    lessons: tuple[Lesson, ...]
    stories_per_step: int = 12
    seed: int = 0

    def lesson(self, step: int) -> Lesson:
        """Give the lesson to which a step belongs, the first of which is number 1."""
        ends = itertools.accumulate(lesson.num_steps for lesson in self.lessons)
        return next(row for row, end in zip(self.lessons, ends, strict=True) if step <= end)


SHAPE: dict[str, Any] = {"context_length": 320, "d_model": 128, "num_heads": 4, "num_layers": 5}

# Heads of a model with rotary positions that begin by looking back: layer, head, and how far.
BACKWARD_HEADS = ((0, 0, 1), (0, 1, 2), (1, 0, 1))


def recipes(vocab_size: int) -> dict[str, Recipe]:
    """Give the recipe of every model, for the tokenizer's vocabulary."""
    # What a story asks for is looking back, not knowing much: narrow feed-forward networks do.
    modern = ModernConfig(vocab_size=vocab_size, d_ff=64, rope_theta=1e7, **SHAPE)
    classic = GPT2Config(vocab_size=vocab_size, **SHAPE)
    return {
        "littletown": lessons_of(modern, num_steps=7_600),
        "littletown-gpt2": lessons_of(classic, num_steps=4_800),
    }


def lessons_of(config: GPTConfig, num_steps: int) -> Recipe:
    """Give the recipe of a model: stories with questions behind them, then stories alone."""
    training = TrainingConfig(
        num_steps=num_steps,
        optimizer="muon",
        learning_rate=5e-3,
        warmup_steps=100,
        final_fraction=0.01,
        weight_decay=0.01,
    )
    last = num_steps // 4  # when the steps are small, strictness does no harm
    lessons = (
        Lesson(400, num_questions=3, strictness=0.5),
        Lesson(500, num_questions=1, strictness=2.0),
        Lesson(1_600, num_questions=1, strictness=4.0),
        Lesson(num_steps - 2_500 - last, strictness=4.0, num_rereads=8),
        Lesson(last, strictness=12.0, num_rereads=8),
    )
    return Recipe(config, training, lessons)


def prepare_start(model: GPT) -> None:
    """Give the weights a start from which looking back is soon learned.

    To say what the job of Ruby is, one layer has to bring the word before "Ruby" to it, and another
    to find that "Ruby" again. Each is of no use without the other, so that from random weights the
    model stood for thousands of steps at any job of the story. Therefore the matrices start as
    wide as a narrow model needs them, every head looks for tokens like its own, and where positions
    are rotary the heads of `BACKWARD_HEADS` look one token back or, for the feeling before the job,
    two.

    References:
        Trockman and Kolter (2023), "Mimetic Initialization of Self-Attention Layers".
        https://arxiv.org/abs/2305.09828
    """
    widen(model)
    match_alike(model)
    if isinstance(model.config, ModernConfig):
        for layer, head, distance in BACKWARD_HEADS:
            look_back(model, layer, head, distance)


@torch.no_grad()
def widen(model: GPT) -> None:
    """Scale the matrices up to what a narrow model needs.

    GPT-2's deviation of 0.02 serves a width of 768. A sum of fewer products is smaller, so that at
    a width of 128 attention begins nearly blind and takes several times as long to look anywhere.
    """
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.mul_(math.sqrt(768 / model.config.d_model))


@torch.no_grad()
def match_alike(model: GPT, gain: float = 1.5) -> None:
    """Make keys of the same weights as queries, so that a token looks for its like."""
    width = model.config.d_model
    for layer in range(model.config.num_layers):
        weight = attention_of(model, layer).query_key_value.weight
        weight[:width] *= gain
        weight[width : 2 * width] = weight[:width]


@torch.no_grad()
def look_back(
    model: GPT,
    layer: int,
    head: int,
    distance: int,
    *,
    constant: float = 0.3,
    sharpness: float = 6.0,
) -> None:
    """Let a head with rotary positions begin by looking so many tokens back, whatever is there.

    All embeddings get the same first channel. From it alone the head makes a key, and a query that
    is the key turned back by the distance: they agree best where the key stands so far before.
    The three pairs of channels that turn fastest are enough to tell neighbors apart.
    """
    config = model.config
    assert isinstance(config, ModernConfig)
    width, head_dim = config.d_model, config.d_model // config.num_heads
    embedding = model.token_embedding.weight
    embedding[:, 0] = constant
    normed = constant / embedding.square().mean(dim=1).sqrt().mean().item()
    size = math.sqrt(sharpness * math.sqrt(head_dim)) / normed
    query, key, value = (
        attention_of(model, layer).query_key_value.weight[start : start + head_dim]
        for start in range(head * head_dim, 3 * width, width)
    )
    query.zero_()
    key.zero_()
    value[:, 0] = 0
    for pair in range(3):
        turn = distance * config.rope_theta ** (-2 * pair / head_dim)
        query[pair, 0] = size * math.cos(turn)
        query[pair + head_dim // 2, 0] = -size * math.sin(turn)
        key[pair, 0] = size


def attention_of(model: GPT, layer: int) -> CausalSelfAttention:
    """Give the attention of one layer."""
    attention = model.blocks[layer].attention
    assert isinstance(attention, CausalSelfAttention)
    return attention


def train_tokenizer(world: World, num_stories: int = 10_000) -> Tokenizer:
    """Learn tokens until every English word is one; what is left of the vocabulary is Chinese."""
    stories = [world.sample(TOKENIZER_SEED + index) for index in range(num_stories)]
    english = [story.text for story in stories]
    texts = english * 16 + [story.chinese for story in stories]
    return Tokenizer.train(texts, vocab_size=1792, special_tokens=[END_OF_TEXT])


def tutor(model: GPT, tokenizer: Tokenizer) -> Tutored:
    """Give a model its readers."""
    head = model.token_embedding.weight
    return Tutored(model, model.blocks, head, candidate_ids(tokenizer))


class Row(NamedTuple):
    """A story as a model in training sees it.

    Attributes:
        token_ids: The story between two tokens that end a story.
        odds: How likely which token comes next: the place, the token, the probability.
        readings: What can be read where: the place, the reader's number, and its answer's number.
    """

    token_ids: list[int]
    odds: list[tuple[int, int, float]]
    readings: list[tuple[int, int, int]]


class Writer:
    """Writes stories as rows of tokens, with all that is known of them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.end = tokenizer.special_tokens[END_OF_TEXT]
        self.tokens = cache(tokenizer.encode_ordinary)

    def row(self, sentences: Iterable[Sentence], pairs: Iterable[tuple[str, str]] = ()) -> Row:
        """Write a story, and questions with their answers behind it.

        Of the questions behind it only the answers are predicted. Where a question begins, the end
        of the story is: that is what the town says after an answer.
        """
        row = Row([self.end], [], [])
        state, over = State(), {END_OF_STORY: 1.0}
        for sentence in sentences:
            strands, ends = begin(state), []
            for word in words_of(sentence.text):
                self.write(row, word, next_words(strands))
                ends.append(len(row.token_ids) - 1)
                strands = advance(strands, word)
            for number, reader, answer in readings(state, sentence):
                row.readings.append((ends[number], *NUMBERS[reader, answer]))
            state = follow(state, sentence)
        for question, answer in pairs:
            for number, word in enumerate(words_of(question)):
                self.write(row, word, {} if number else over)
            for word in words_of(answer):
                self.write(row, word, {word: 1.0})
        self.write(row, END_OF_STORY, over)
        return row

    def write(self, row: Row, word: str, odds: dict[str, float]) -> None:
        """Write a word, and how likely it and the others were; the pieces of a word are sure."""
        place = len(row.token_ids) - 1
        for candidate, probability in odds.items():
            row.odds.append((place, self.pieces(candidate, place)[0], probability))
        first, *rest = self.pieces(word, place)
        row.token_ids.append(first)
        for piece in rest:
            row.odds.append((len(row.token_ids) - 1, piece, 1.0))
            row.token_ids.append(piece)

    def pieces(self, word: str, place: int) -> list[int]:
        """Cut a word into tokens; a space stands before it, but not at the start of a story."""
        if word == END_OF_STORY:
            return [self.end]
        return self.tokens(word if place == 0 or word in ",.?" else f" {word}")


def all_batches(
    world: World,
    tokenizer: Tokenizer,
    recipe: Recipe,
    mistakes: Callable[[], list[float]] | None = None,
) -> Iterator[Batch]:
    """Give the batches of a whole training, one lesson after another.

    Args:
        world: The town.
        tokenizer: Its tokenizer.
        recipe: The recipe.
        mistakes: Says how much was wrong in each row of the last batch; without it no story is
            read again.
    """
    for number, lesson in enumerate(recipe.lessons):
        seed = TRAINING_SEED + number * SEEDS_PER_LESSON
        size, questions = recipe.stories_per_step, lesson.num_questions
        if mistakes and lesson.num_rereads:
            batches = reread_batches(
                world, tokenizer, size, seed, questions, lesson.num_rereads, mistakes
            )
        else:
            batches = story_batches(world, tokenizer, size, seed, questions)
        yield from itertools.islice(batches, lesson.num_steps)


def story_batches(
    world: World,
    tokenizer: Tokenizer,
    size: int,
    first_seed: int,
    num_questions: int = 0,
    *,
    pool: int = 32,
) -> Iterator[Batch]:
    """Draw stories without end, in batches of about equal length: one story a row.

    A row begins with the token that ends a story, so that the first word is predicted too. Targets
    are (rows, tokens, vocab_size + readers): how likely each token is to be the next one, and what
    each reader is to say.

    The town knows the odds of every next word, and a model that is told them all learns from one
    story what it would otherwise have to gather from many. Most of what a story pays is for free
    choices; the word that happened to be drawn says nothing of the others that could have been.

    References:
        Hinton et al. (2015), "Distilling the Knowledge in a Neural Network", for learning from
        probabilities. https://arxiv.org/abs/1503.02531
    """
    shuffle = random.Random(first_seed)
    for rows in pools(world, tokenizer, size * pool, first_seed, num_questions, shuffle):
        for batch in in_batches(rows, size, shuffle):
            yield batch_of(batch, tokenizer)


def reread_batches(
    world: World,
    tokenizer: Tokenizer,
    size: int,
    first_seed: int,
    num_questions: int,
    num_rereads: int,
    mistakes: Callable[[], list[float]],
    *,
    pool: int = NEW_BATCHES,
) -> Iterator[Batch]:
    """Draw stories without end as `story_batches` does, and come back to the worst of them.

    Most stories soon hold nothing that a model gets wrong, and what it does get wrong is rare in
    each: a name from no story at all, or a color that is asked for at the end. So after each pool
    the stories in which most went to impossible words are read again, and among them those of
    earlier pools that are still as bad. That changes how often something is practiced, and not the
    odds that it is told.

    References:
        Schaul et al. (2016), "Prioritized Experience Replay". https://arxiv.org/abs/1511.05952
    """
    shuffle = random.Random(first_seed)
    hard: list[tuple[float, Row]] = []
    for rows in pools(world, tokenizer, size * pool, first_seed, num_questions, shuffle):
        for batch in in_batches(rows, size, shuffle):
            yield batch_of(batch, tokenizer)
            hard += zip(mistakes(), batch, strict=True)
        worst = sorted(hard, key=lambda pair: pair[0], reverse=True)[: size * num_rereads]
        hard = []
        for batch in in_batches([row for _, row in worst], size, shuffle):
            yield batch_of(batch, tokenizer)
            hard += zip(mistakes(), batch, strict=True)


def pools(
    world: World,
    tokenizer: Tokenizer,
    num_rows: int,
    first_seed: int,
    num_questions: int,
    shuffle: random.Random,
) -> Iterator[list[Row]]:
    """Draw so many stories at a time, without end, each with so many questions behind it."""
    writer = Writer(tokenizer)
    for start in itertools.count(first_seed, num_rows):
        rows = []
        for seed in range(start, start + num_rows):
            story = world.sample(seed)
            pairs = world.questions(story.text) if num_questions else []
            shuffle.shuffle(pairs)
            rows.append(writer.row(story.sentences, pairs[:num_questions]))
        yield rows


def in_batches(rows: list[Row], size: int, shuffle: random.Random) -> list[list[Row]]:
    """Put rows of about equal length together, and the batches in any order."""
    rows = sorted(rows, key=lambda row: len(row.token_ids))
    batches = [rows[first : first + size] for first in range(0, len(rows), size)]
    shuffle.shuffle(batches)
    return batches


def batch_of(rows: list[Row], tokenizer: Tokenizer) -> Batch:
    """Make a batch of rows."""
    token_ids, _ = pad([row.token_ids for row in rows])
    return token_ids, targets_of(rows, token_ids.shape[1], tokenizer.vocab_size)


def targets_of(batch: Sequence[Row], length: int, vocab_size: int) -> Float[Tensor, "B T VR"]:
    """Say of each token how likely each next one is, and what each reader is to say."""
    targets = torch.zeros(len(batch), length, vocab_size + len(READERS))
    targets[..., vocab_size:] = IGNORED
    for number, row in enumerate(batch):
        places, tokens, probabilities = zip(*row.odds, strict=True)
        at = torch.tensor(places), torch.tensor(tokens)
        targets[number].index_put_(at, torch.tensor(probabilities), accumulate=True)
        for place, reader, answer in row.readings:
            targets[number, place, vocab_size + reader] = answer
    unknown = targets[..., :vocab_size].sum(dim=-1) == 0
    targets[..., :vocab_size][unknown] = IGNORED
    return targets


def pad(rows: list[list[int]]) -> Batch:
    """Make a batch of rows of different lengths; nothing is predicted behind their ends."""
    longest = max(len(row) for row in rows) - 1
    token_ids = torch.zeros(len(rows), longest, dtype=torch.long)
    targets = torch.full((len(rows), longest), IGNORED)
    for row, ids in enumerate(rows):
        token_ids[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        targets[row, : len(ids) - 1] = torch.tensor(ids[1:])
    return token_ids, targets


@torch.inference_mode()
def story_losses(model: GPT, tokenizer: Tokenizer, texts: list[str], size: int = 50) -> list[float]:
    """Give what the model pays for each whole story and its end, in nats."""
    end = tokenizer.special_tokens[END_OF_TEXT]
    losses: list[float] = []
    for first in range(0, len(texts), size):
        batch = texts[first : first + size]
        token_ids, targets = pad([[end, *tokenizer.encode_ordinary(text), end] for text in batch])
        logits = model(token_ids)
        each = torch.nn.functional.cross_entropy(
            logits.mT, targets, ignore_index=IGNORED, reduction="none"
        )
        losses += each.sum(dim=1, dtype=torch.float64).tolist()
    return losses


def write_stories(model: GPT, tokenizer: Tokenizer, num: int, seed: int) -> list[str]:
    """Let the model write whole stories, drawn at temperature 1 with nothing cut off."""
    end = tokenizer.special_tokens[END_OF_TEXT]
    texts = []
    for first in range(0, num, 100):
        rows = generate(
            model,
            [[end]],
            max_new_tokens=model.context_length - 1,
            sampling=Sampling(),
            num_sequences=min(100, num - first),
            stop=[end],
            seed=seed + first,
        )
        texts += [tokenizer.decode([token for token in row if token != end]) for row in rows]
    return texts


def answer(model: GPT, tokenizer: Tokenizer, prompts: list[str]) -> list[str]:
    """Let the model end each story after its question, greedily."""
    end = tokenizer.special_tokens[END_OF_TEXT]
    texts = []
    for first in range(0, len(prompts), 100):
        rows = [[end, *tokenizer.encode_ordinary(text)] for text in prompts[first : first + 100]]
        for row in generate(model, rows, max_new_tokens=16, stop=[end]):
            texts.append(tokenizer.decode([token for token in row if token != end]).strip())
    return texts


def measure(model: GPT, tokenizer: Tokenizer, world: World, num_stories: int) -> dict[str, float]:
    """Measure a model on stories that it has never seen, against what is exactly known."""
    held_out = [world.sample(HELD_OUT_SEED + index) for index in range(num_stories)]
    losses = story_losses(model, tokenizer, [story.text for story in held_out])
    floors = [-story.log_probability for story in held_out]
    excess = [loss - floor for loss, floor in zip(losses, floors, strict=True)]
    answers = answer(model, tokenizer, [story.prompt for story in held_out])
    right = sum(said == story.answer for said, story in zip(answers, held_out, strict=True))
    written = write_stories(model, tokenizer, num_stories, SAMPLING_SEED)
    return {
        "stories": num_stories,
        "entropy": world.entropy,
        "loss": statistics.fmean(losses),
        "floor": statistics.fmean(floors),
        "above_floor": statistics.fmean(excess) / statistics.fmean(floors),
        "above_floor_error": statistics.stdev(excess) / math.sqrt(num_stories) / world.entropy,
        "answers_right": right / num_stories,
        "stories_without_fault": sum(not world.faults(text) for text in written) / num_stories,
    }


def make(name: str, num_stories: int = 2000) -> None:
    """Train one model, measure it, and write it with its card."""
    torch.set_num_threads(1)
    world = World()
    tokenizer = train_tokenizer(world)
    recipe = recipes(tokenizer.vocab_size)[name]
    torch.manual_seed(recipe.seed)
    model = GPT(recipe.config)
    prepare_start(model)
    tutored = tutor(model, tokenizer)
    start, tokens = time.perf_counter(), 0

    def batches() -> Iterator[Batch]:
        nonlocal tokens
        for token_ids, targets in all_batches(world, tokenizer, recipe, tutored.mistakes):
            tokens += int((targets[..., 0] != IGNORED).sum())
            yield token_ids, targets

    num_steps = recipe.training.num_steps
    with tqdm(total=num_steps, desc=name, unit="step", mininterval=10) as bar:
        tutored.strictness = recipe.lesson(1).strictness
        for step in train(tutored, batches(), recipe.training):
            tutored.strictness = recipe.lesson(min(step.number + 1, num_steps)).strictness
            bar.set_postfix(loss=f"{step.loss:.3f}", refresh=False)
            bar.update()
    minutes = (time.perf_counter() - start) / 60
    folder = MODELS / name
    gpt.save(model, folder, dtype=torch.float16)
    tokenizer.save(folder / "tokenizer.json")
    measured = measure(gpt.load(folder), tokenizer, world, num_stories)
    facts = {
        "composition": type(recipe.config).__name__,
        "config": dataclasses.asdict(recipe.config),
        "training": dataclasses.asdict(recipe.training),
        "readers": {name: reader.depth for name, reader in READERS.items()},
        "lessons": [dataclasses.asdict(lesson) for lesson in recipe.lessons],
        "stories_per_step": recipe.stories_per_step,
        "seed": recipe.seed,
        "parameters": model.num_parameters(),
        "tokens": tokens,
        "minutes": round(minutes, 1),
        "torch": torch.__version__,
        "measured": measured,
    }
    (folder / "card.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(name, facts), encoding="utf-8")
    print(f"{name}: {measured}")


CARD = """# {name}

A GPT of {parameters:,} parameters that writes stories of Littletown. {composition}: {num_layers}
layers, width {d_model}, {num_heads} heads, {vocab_size:,} tokens, a context of {context_length}.

```python
from gptbook.models import load

model, tokenizer = load("{name}")
```

## How it was trained

`make model` made it: {num_steps:,} steps of {stories_per_step} stories, {tokens:,} predicted
tokens, in {minutes} minutes on one thread (torch {torch}, seed {seed}). It was told
more than the text. At each word it learned the odds of all next words, which the town knows
exactly, and not only the one that was drawn; what it gave to words that are impossible there cost
it more (`strictness` in `card.json`). And {readers} linear readers asked its residual stream what
is so in the story: at a name for the place, the job and the feeling of that person, at the end of a
sentence for what it changed and for who has what. What they got wrong flowed back into the model;
then they were thrown away, and what is stored is a plain GPT. Up to step {lesson_steps:,}
questions with their answers stood behind each story ({questions}); after that, stories stood alone.
Of those alone the worst were read again, {num_rereads} batches after every {new_batches} new ones;
no other story came twice. They are those of the seeds from {training_seed:,} on; the tokenizer
learned from those from {tokenizer_seed:,} on. The weights are stored in half precision. `card.json`
holds every number of the recipe.

## How good it is

Measured on {stories:,} stories that it never saw, with the stored weights.

| | |
|---|---|
| entropy of a story, exact | {entropy:.3f} nats |
| exact information in these stories | {floor:.3f} nats a story |
| what the model pays for them | {loss:.3f} nats a story |
| above the floor | {above_floor:.2%} (standard error {above_floor_error:.2%}) |
| questions answered rightly, greedily | {answers_right:.2%} |
| own stories without a fault, temperature 1 | {stories_without_fault:.2%} |

It knows nothing but Littletown, and is meant for nothing but learning from it.
"""


def card(name: str, facts: dict[str, Any]) -> str:
    """Say in words what `card.json` says in numbers."""
    seeds = {"training_seed": TRAINING_SEED, "tokenizer_seed": TOKENIZER_SEED}
    asking = [lesson for lesson in facts["lessons"] if lesson["num_questions"]]
    counts = {
        "lesson_steps": sum(lesson["num_steps"] for lesson in asking),
        "questions": ", then ".join(dict.fromkeys(str(row["num_questions"]) for row in asking)),
        "readers": len(facts["readers"]),
        "new_batches": NEW_BATCHES,
        "num_rereads": facts["lessons"][-1]["num_rereads"],
    }
    flat = facts | facts["config"] | facts["training"] | facts["measured"] | seeds | counts
    return CARD.format(**flat | {"name": name})


def main() -> int:
    """Train the models named, or all of them, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", nargs="?", choices=BASES, help="only this one")
    name = parser.parse_args().name
    if name:
        make(name)
        return 0
    command = [sys.executable, "-m", "tools.make_models"]
    return max(run.wait() for run in [subprocess.Popen([*command, name]) for name in BASES])


if __name__ == "__main__":
    sys.exit(main())
