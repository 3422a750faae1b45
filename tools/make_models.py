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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from tqdm import tqdm

from gptbook import model as gpt
from gptbook.attention import CausalSelfAttention
from gptbook.generation import Sampling, generate
from gptbook.littletown.next_words import recalled
from gptbook.littletown.stories import Sentence
from gptbook.littletown.wordings import words_of
from gptbook.model import GPT, GPT2Config, GPTConfig, ModernConfig
from gptbook.models import NAMES
from gptbook.tokenizer import END_OF_TEXT, Tokenizer
from gptbook.training import IGNORED, Batch, TrainingConfig, train
from gptbook.world import World

MODELS = Path(__file__).resolve().parent.parent / "gptbook" / "models"


# Which stories serve for what: seeds that never meet.
TOKENIZER_SEED, TRAINING_SEED, HELD_OUT_SEED, SAMPLING_SEED = 1_000_000, 0, 2_000_000, 3_000_000
LESSON_SEED = 4_000_000


@dataclasses.dataclass(frozen=True)
class Lesson:
    """One stage of the lessons with which training begins; `lesson_batches` explains the rest.

    Attributes:
        num_steps: How long it lasts.
        sentences: The fewest and the most sentences told of a story; None tells all.
        share: How many of the words that the story does not decide are predicted; with none of
            them, those that it decides are not either: only the answers are.
        stories_per_step: How many stories a batch has.
    """

    num_steps: int
    sentences: tuple[int, int] | None
    share: float
    stories_per_step: int = 12


LESSONS = (
    Lesson(150, (1, 3), share=0.0, stories_per_step=24),
    Lesson(300, (1, 6), share=0.0),
    Lesson(1_600, None, share=0.3),
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that decides what a model of the book becomes."""

    config: GPTConfig
    training: TrainingConfig
    lessons: tuple[Lesson, ...] = LESSONS
    stories_per_step: int = 12
    seed: int = 0


SHAPE: dict[str, Any] = {"context_length": 320, "d_model": 128, "num_heads": 2, "num_layers": 4}

# Heads of a model with rotary positions that begin by looking one token back: (layer, head).
BACKWARD_HEADS = ((0, 0), (1, 0))


def recipes(vocab_size: int) -> dict[str, Recipe]:
    """Give the recipe of every model, for the tokenizer's vocabulary."""
    training = TrainingConfig(
        num_steps=5_650,
        optimizer="muon",
        learning_rate=5e-3,
        warmup_steps=100,
        final_fraction=0.01,
        weight_decay=0.01,
    )
    shorter = dataclasses.replace(training, num_steps=4_500)
    # What a story asks for is looking back, not knowing much: narrow feed-forward networks do.
    modern = ModernConfig(vocab_size=vocab_size, d_ff=128, rope_theta=1e7, **SHAPE)
    return {
        "littletown": Recipe(modern, training),
        "littletown-gpt2": Recipe(GPT2Config(vocab_size=vocab_size, **SHAPE), shorter),
    }


def prepare_start(model: GPT) -> None:
    """Give the weights a start from which looking back is soon learned.

    To say what the job of Ruby is, one layer has to bring the word before "Ruby" to it, and another
    to find that "Ruby" again. Each is of no use without the other, so that from random weights the
    model stood for thousands of steps at any job of the story. Therefore the matrices start as
    wide as a narrow model needs them, every head looks for tokens like its own, and where positions
    are rotary a head in each of the first two layers looks one token back.

    References:
        Trockman and Kolter (2023), "Mimetic Initialization of Self-Attention Layers".
        https://arxiv.org/abs/2305.09828
    """
    widen(model)
    match_alike(model)
    if isinstance(model.config, ModernConfig):
        for layer, head in BACKWARD_HEADS:
            look_back(model, layer, head)


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
    model: GPT, layer: int, head: int, *, constant: float = 0.3, sharpness: float = 6.0
) -> None:
    """Let a head with rotary positions begin by looking at the token before, whatever it is.

    All embeddings get the same first channel. From it alone the head makes a key, and a query that
    is the key turned back by one position: they agree best where the key stands one token before.
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
        turn = config.rope_theta ** (-2 * pair / head_dim)
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


LessonToken: TypeAlias = tuple[int, int, bool]
"""A token, what to foretell after it instead of the next one, and whether it is to be predicted."""


def lesson_batches(
    world: World,
    tokenizer: Tokenizer,
    lesson: Lesson,
    first_seed: int,
    *,
    longest: int = SHAPE["context_length"],
    pool: int = 64,
) -> Iterator[Batch]:
    """Draw stories or their beginnings, each followed by all that can be asked, with the answers.

    Predicted are the answers and the words that the story decides, and of all other words only the
    lesson's share. Most of what a story pays is for free choices, of which nothing can be learned
    but their odds; the noise of their gradients drowns that of the rare words for which attention
    has to look back.

    Where a question says of whom or of what it asks, the word predicted is not the next one, but
    the one that answers. There the name to look for is at hand; after "She is a" it is four words
    away, and learning to fetch it and to look for it at once takes many times as long.

    References:
        Gloeckle et al. (2024), "Better & Faster Large Language Models via Multi-token Prediction",
        for targets further ahead than the next token. https://arxiv.org/abs/2404.19737
    """
    shuffle = random.Random(first_seed)
    end = tokenizer.special_tokens[END_OF_TEXT]
    size = lesson.stories_per_step
    for start in itertools.count(first_seed, size * pool):
        rows = []
        for seed in range(start, start + size * pool):
            sentences = world.sample(seed).sentences
            if lesson.sentences:
                sentences = sentences[:-2][: shuffle.randint(*lesson.sentences)]
            tokens: list[LessonToken] = [(end, IGNORED, False)]
            for token, is_decided in decided_tokens(tokenizer, sentences):
                tokens.append((token, IGNORED, is_decided and lesson.share > 0))
            questions = world.questions(" ".join(sentence.text for sentence in sentences))
            shuffle.shuffle(questions)
            for question, answer in questions:
                more = question_tokens(tokenizer, question, answer)
                if len(tokens) + len(more) <= longest:
                    tokens += more
            rows.append([*tokens, (end, IGNORED, lesson.share > 0)])
        rows.sort(key=len)
        batches = [rows[first : first + size] for first in range(0, len(rows), size)]
        shuffle.shuffle(batches)
        for batch in batches:
            token_ids, targets = pad([[token for token, _, _ in row] for row in batch])
            for row, tokens in enumerate(batch):
                for place, (_, _, counts) in enumerate(tokens[1:]):
                    if not counts and shuffle.random() >= lesson.share:
                        targets[row, place] = IGNORED
                for place, (_, ahead, _) in enumerate(tokens[:-1]):
                    if ahead != IGNORED:
                        targets[row, place] = ahead
            yield token_ids, targets


def decided_tokens(
    tokenizer: Tokenizer, sentences: Sequence[Sentence]
) -> Iterator[tuple[int, bool]]:
    """Give the tokens of a story, each with whether the story decides the word it belongs to."""
    for index, sentence in enumerate(sentences):
        words = zip(words_of(sentence.text), recalled(sentence), strict=True)
        rest, is_decided = "", False
        for token in tokenizer.encode_ordinary(" " * bool(index) + sentence.text):
            if not rest:
                rest, is_decided = next(words)
            rest = rest.removeprefix(tokenizer.decode([token]).strip())
            yield token, is_decided


def question_tokens(tokenizer: Tokenizer, question: str, answer: str) -> list[LessonToken]:
    """Give the tokens of a question and its answer; what is asked about foretells the answer."""
    words = answer.rstrip(".").split()
    telling = words[-1] if words[0] in {"He", "She", "It"} else words[0]
    beginning = question.rstrip("?").removesuffix(" feel").removesuffix(" first")
    tokens: list[LessonToken] = [
        (token, IGNORED, False) for token in tokenizer.encode_ordinary(f" {question}")
    ]
    asked = len(tokenizer.encode_ordinary(f" {beginning}")) - 1
    tokens[asked] = (tokens[asked][0], tokenizer.encode_ordinary(f" {telling}")[0], False)
    tokens += [(token, IGNORED, True) for token in tokenizer.encode_ordinary(f" {answer}")]
    return tokens


def all_batches(world: World, tokenizer: Tokenizer, recipe: Recipe) -> Iterator[Batch]:
    """Give the batches of a whole training: the lessons one after another, then stories."""
    for number, lesson in enumerate(recipe.lessons):
        seed = LESSON_SEED + number * 1_000_000
        batches = lesson_batches(world, tokenizer, lesson, seed)
        yield from itertools.islice(batches, lesson.num_steps)
    yield from story_batches(world, tokenizer, recipe.stories_per_step, TRAINING_SEED)


def story_batches(
    world: World, tokenizer: Tokenizer, size: int, first_seed: int, pool: int = 64
) -> Iterator[Batch]:
    """Draw stories without end, in batches of about equal length: one story a row.

    A row begins with the token that ends a story, so that the first word is predicted too.
    """
    shuffle = random.Random(first_seed)
    end = tokenizer.special_tokens[END_OF_TEXT]
    for start in itertools.count(first_seed, size * pool):
        rows = [
            [end, *tokenizer.encode_ordinary(world.sample(seed).text), end]
            for seed in range(start, start + size * pool)
        ]
        rows.sort(key=len)
        batches = [rows[first : first + size] for first in range(0, len(rows), size)]
        shuffle.shuffle(batches)
        yield from (pad(batch) for batch in batches)


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
    batches = all_batches(world, tokenizer, recipe)
    start, tokens = time.perf_counter(), 0
    with tqdm(total=recipe.training.num_steps, desc=name, unit="step", mininterval=10) as bar:
        for step in train(model, batches, recipe.training):
            tokens += step.tokens
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

`make model` made it: {num_steps:,} steps, most of {stories_per_step} stories, {tokens:,} predicted
tokens, no story twice, in {minutes} minutes on one thread (torch {torch}, seed {seed}). The first
{lesson_steps:,} steps are lessons: beginnings of stories and then whole ones, each followed by all
that can be asked, with the answers, while few of the words that the story does not decide are
predicted. After that come plain stories. They are those of the seeds from {training_seed:,} on, and
from {lesson_seed:,} on for the lessons; the tokenizer learned from those from {tokenizer_seed:,}
on. The weights are stored in half precision. `card.json` holds every number of the recipe.

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
    seeds["lesson_seed"] = LESSON_SEED
    seeds["lesson_steps"] = sum(lesson["num_steps"] for lesson in facts["lessons"])
    flat = facts | facts["config"] | facts["training"] | facts["measured"] | seeds
    return CARD.format(**flat | {"name": name})


def main() -> int:
    """Train the models named, or all of them, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", nargs="?", choices=NAMES, help="only this one")
    name = parser.parse_args().name
    if name:
        make(name)
        return 0
    command = [sys.executable, "-m", "tools.make_models"]
    return max(run.wait() for run in [subprocess.Popen([*command, name]) for name in NAMES])


if __name__ == "__main__":
    sys.exit(main())
