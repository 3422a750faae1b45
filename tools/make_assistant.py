"""Fine-tune the model of the book to an assistant and write it, measured, into gptbook/models.

    python tools/dev.py assistant       # same as `make assistant`

Two processes, one for each of two cores, read different chats; after each their gradients are
averaged, so that both make the same step. The same machine writes the same file again.
"""

import dataclasses
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector
from tqdm import tqdm

from gptbook import model as gpt
from gptbook.applications import (
    LESSONS,
    TASKS,
    WORLD,
    choose,
    choose_threshold,
    events,
    run_shop,
    score,
    tradeoff_at,
    translate_by_sentence,
)
from gptbook.evaluation import IGNORED
from gptbook.finetuning import (
    ChatRow,
    Message,
    chat_batch,
    encode_chat,
    encode_prompt,
    nats_above_floor,
)
from gptbook.littletown.next_words import advance, begin, next_words
from gptbook.littletown.reviews import best_accuracy
from gptbook.littletown.shop import SHOPKEEPER
from gptbook.littletown.stories import State, follow
from gptbook.littletown.wordings import words_of
from gptbook.model import GPT
from gptbook.models import load
from gptbook.tokenizer import END_OF_TEXT, Tokenizer
from gptbook.training import Batch, TrainingConfig, train
from gptbook.world import END_OF_STORY
from tools.make_models import MODELS, Row, Writer, targets_of
from tools.readers import READERS, odds_loss

NAME, BASE = "littletown-assistant", "littletown"
NUM_PROCESSES = 2

# Which cases are measured: training draws from other sources of chance.
MEASURED_SEED, OTHER_SEED = 5_000_000, 6_000_000


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        share: What part of the steps it takes.
        weights: How often each lesson is drawn, beside the others.
    """

    share: float
    weights: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that decides what the assistant becomes.

    Attributes:
        training: The optimizer's part.
        stages: Which lessons come when.
        tokens_per_batch: How many tokens each process reads in a step, at the most.
        strictness: How much it counts that a story says nothing impossible; see `odds_loss`.
        memory: What part of the running mean of the weights each step leaves as it was.
        kept: What part of the weights stays as it was before all steps.
        seed: Decides the order of everything.
    """

    training: TrainingConfig
    stages: tuple[Stage, ...]
    tokens_per_batch: int = 1_600
    strictness: float = 4.0
    memory: float = 0.0
    kept: float = 0.0
    seed: int = 0

    def weights(self, step: int) -> dict[str, float]:
        """Give the weights of a step, the first of which is number 0."""
        shares = itertools.accumulate(stage.share for stage in self.stages)
        ends = [round(share * self.training.num_steps) for share in shares]
        return next(s.weights for s, end in zip(self.stages, ends, strict=True) if step < end)


_ALWAYS = {
    "stories": 2.5,
    "about a story": 6.0,
    "program": 1.0,
    "sentiment": 0.8,
    "moderation": 0.6,
}

RECIPES = (
    Recipe(
        TrainingConfig(
            num_steps=8_800,
            optimizer="muon",
            learning_rate=2.5e-3,
            warmup_steps=50,
            final_fraction=0.2,
            weight_decay=0.01,
        ),
        (
            Stage(0.07, {"stories": 1.0, "repeat": 1.0}),
            Stage(0.18, _ALWAYS | {"repeat": 1.0, "sentences": 6.0, "shop": 1.0, "prices": 2.5}),
            Stage(
                0.75,
                _ALWAYS
                | {"repeat": 0.1, "sentences": 0.5, "passage": 9.0, "shop": 1.2, "prices": 1.0},
            ),
        ),
        memory=0.997,
    ),
    Recipe(
        TrainingConfig(
            num_steps=2_400,
            optimizer="muon",
            learning_rate=2e-3,
            warmup_steps=50,
            final_fraction=0.05,
            weight_decay=0.01,
        ),
        (
            Stage(
                1.0,
                {
                    "stories": 2.0,
                    "about a story": 4.5,
                    "program": 0.8,
                    "sentiment": 0.6,
                    "moderation": 0.4,
                    "repeat": 0.5,
                    "sentences": 5.0,
                    "passage": 3.0,
                    "shop": 1.5,
                    "prices": 5.0,
                },
            ),
        ),
        memory=0.99,
        seed=1,
    ),
    Recipe(
        TrainingConfig(
            num_steps=1_300,
            optimizer="muon",
            learning_rate=1.5e-3,
            warmup_steps=50,
            final_fraction=0.05,
            weight_decay=0.01,
        ),
        (
            Stage(
                1.0,
                {
                    "stories": 7.0,
                    "about a story": 6.0,
                    "program": 1.0,
                    "sentiment": 0.4,
                    "moderation": 0.4,
                    "repeat": 0.2,
                    "sentences": 1.6,
                    "passage": 1.6,
                    "shop": 0.8,
                    "prices": 1.0,
                },
            ),
        ),
        memory=0.997,
        kept=0.3,
        seed=2,
    ),
)
"""Each begins with what the one before has learned: the second practices what had gone worst,
prices and single sentences, and the third what was forgotten over that, stories.
"""


# --- words that no story has --------------------------------------------------------------------


@torch.no_grad()
def prepare_embeddings(
    model: GPT, tokenizer: Tokenizer, *, num_passages: int = 4_000, seed: int = 0
) -> None:
    """Give tokens that no story of Littletown holds vectors from which they can be told apart.

    In training such tokens are only ever wrong, which pushes all of them in one direction: in the
    model of the book, 425 tokens of Chinese have one and the same vector, and so have most letters.
    Every such token gets a vector of its own. A token of Chinese gets the mean of the English ones
    that most often stand in the other half of a translated passage when it stands in the one,
    by Dice's coefficient, and something that all Chinese has in common.

    References:
        Land and Bartolo (2024), "Fishing for Magikarp: Automatically Detecting Under-trained Tokens
        in Large Language Models". https://arxiv.org/abs/2405.05417
        Minixhofer et al. (2022), "WECHSEL: Effective initialization of subword embeddings for
        cross-lingual transfer of monolingual language models". https://arxiv.org/abs/2112.06598
    """
    weight, size = model.token_embedding.weight, tokenizer.vocab_size
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    english, chinese = torch.zeros(size), torch.zeros(size)  # in how many passages
    together = torch.zeros(size, size)
    for _ in range(num_passages):
        asked, answer = LESSONS["sentences"](draw)
        text = asked.content.partition(". ")[2]
        ids = [sorted({*tokenizer.encode_ordinary(f" {row}")}) for row in (text, answer.content)]
        english[ids[0]] += 1
        chinese[ids[1]] += 1
        together[torch.tensor(ids[1])[:, None], torch.tensor(ids[0])] += 1
    known = torch.zeros(size, dtype=torch.bool)
    for story in WORLD.stories(num_passages, seed):
        known[tokenizer.encode_ordinary(story.text)] = True
    known[tokenizer.special_tokens[END_OF_TEXT]] = True
    length = weight[english > 0].norm(dim=1).mean()

    def own(rows: Tensor) -> Tensor:
        vectors = torch.randn(len(rows), weight.shape[1], generator=generator)
        return vectors / vectors.norm(dim=1, keepdim=True) * length

    unknown = (~known & (chinese == 0)).nonzero()[:, 0]
    foreign = (~known & (chinese > 0)).nonzero()[:, 0]
    dice = 2 * together[foreign] / (chinese[foreign, None] + english)
    best = dice.topk(3, dim=1)
    shares = best.values**2 / (best.values**2).sum(dim=1, keepdim=True)
    meant = (shares[..., None] * weight[best.indices]).sum(dim=1)
    meant *= length / meant.norm(dim=1, keepdim=True)
    weight[foreign] = meant + 0.3 * own(foreign) + own(foreign[:1])
    weight[unknown] = own(unknown)


# --- lessons ------------------------------------------------------------------------------------

JUDGED = ("sentiment", "moderation")


class StoryWriter:
    """Writes stories of which every next word's odds are known, plain or in a chat.

    A model that only sees chats soon forgets what it knew. So it goes on reading stories as it did
    when it learned them, and is asked in chats to tell one, to continue one, or to end a sentence.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.writer = tokenizer, Writer(tokenizer)

    def row(self, draw: random.Random) -> Row:
        """Draw a story, and what is asked of it."""
        story = WORLD.sample(draw.getrandbits(40))
        name = draw.choices(("", "story", "continuation", "writing"), (4, 2, 2, 2))[0]
        texts = [sentence.text for sentence in story.sentences]
        sentence = draw.randrange(1, len(texts) - 2) if name in ("continuation", "writing") else 0
        words: list[str] = []
        if name == "writing":
            words = texts[sentence].split(" ")
            words = words[: draw.randrange(1, len(words))]
        row = Row([self.writer.end], [], [])
        if name:
            asked = [draw.choice(TASKS[name].instructions), *texts[:sentence], *words]
            message = Message("user", " ".join(asked))
            row.token_ids[:] = encode_prompt(self.tokenizer, [message])
        self._write(row, story.sentences, (sentence, len(words_of(" ".join(words)))), bool(words))
        return row

    def _write(self, row: Row, sentences: Sequence[Any], cut: tuple[int, int], one: bool) -> None:
        """Write what stands behind the cut: to the end, or to that of the one sentence."""
        state = State()
        for number, sentence in enumerate(sentences):
            if number >= cut[0]:
                strands = begin(state)
                for place, word in enumerate(words_of(sentence.text)):
                    if (number, place) >= cut:
                        self.writer.write(row, word, next_words(strands))
                    strands = advance(strands, word)
                if one:
                    break
            state = follow(state, sentence)
        self.writer.write(row, END_OF_STORY, {END_OF_STORY: 1.0})


def judged_row(tokenizer: Tokenizer, name: str, draw: random.Random, most: int = 4) -> Row:
    """Draw several texts to be judged, with the odds of both judgments as the town knows them.

    One label says little where a third of the labels is a surprise; the odds say all there is. What
    comes behind an answer's first token is sure and soon known, so only one in four is learned.
    """
    row, chat = Row([], [], []), []
    for _ in range(draw.randint(1, most)):
        case = TASKS[name].case(draw.getrandbits(40))
        chance = case.source.posterior  # of being positive, or of being rude
        answers = {"positive": chance, "negative": 1 - chance}
        if name == "moderation":
            answers = {"no": chance, "yes": 1 - chance}
        chat += [*case.messages]
        first = len(encode_prompt(tokenizer, chat))
        for answer, probability in answers.items():
            whole = encode_chat(tokenizer, [*chat, Message("assistant", answer)]).token_ids
            row.odds.append((first - 1, whole[first], probability))
            if answer == case.answer:
                row.token_ids[:] = whole
        if draw.random() < 1 / 4:
            rest = range(first + 1, len(row.token_ids))
            row.odds.extend((i - 1, row.token_ids[i], 1.0) for i in rest)
        chat.append(Message("assistant", case.answer))
    return row


def rows_of(lesson: str, tokenizer: Tokenizer, seed: str) -> Iterator[Row | ChatRow]:
    """Draw chats of one lesson without end, such as fit into the model's context."""
    draw = random.Random(f"{seed} {lesson}")
    writer = StoryWriter(tokenizer)
    context_length = load(BASE)[0].context_length
    while True:
        if lesson == "stories":
            row: Row | ChatRow = writer.row(draw)
        elif lesson in JUDGED:
            row = judged_row(tokenizer, lesson, draw)
        else:
            row = encode_chat(tokenizer, LESSONS[lesson](draw))
        if len(row.token_ids) <= context_length + 1:
            yield row


def batches_of(
    lesson: str, tokenizer: Tokenizer, recipe: Recipe, seed: str, *, pool: int = 200
) -> Iterator[Batch]:
    """Lay chats of one lesson side by side, those of about the same length in one batch."""
    rows, draw = rows_of(lesson, tokenizer, seed), random.Random(f"{seed} order of {lesson}")
    most = recipe.tokens_per_batch // (2 if lesson == "stories" else 1)  # odds take longer
    while True:
        batches: list[list[Any]] = [[]]
        for row in sorted(itertools.islice(rows, pool), key=lambda row: len(row.token_ids)):
            if (len(batches[-1]) + 1) * len(row.token_ids) > most:
                batches.append([])
            batches[-1].append(row)
        for some in draw.sample(batches, len(batches)):
            has_odds = lesson in ("stories", *JUDGED)
            yield odds_batch(some, tokenizer) if has_odds else chat_batch(some)


def odds_batch(rows: list[Row], tokenizer: Tokenizer) -> Batch:
    """Make a batch of stories, with the odds of every next token as targets."""
    length = max(len(row.token_ids) for row in rows) - 1
    token_ids = torch.zeros(len(rows), length, dtype=torch.long)
    for number, row in enumerate(rows):
        token_ids[number, : len(row.token_ids) - 1] = torch.tensor(row.token_ids[:-1])
    return token_ids, targets_of(rows, length, tokenizer.vocab_size)[..., : -len(READERS)]


def all_batches(tokenizer: Tokenizer, recipe: Recipe, rank: int) -> Iterator[Batch]:
    """Draw the batches of one process: at each step all processes read the same lesson."""
    draw, lessons = random.Random(recipe.seed), {}
    for step in range(recipe.training.num_steps):
        weights = recipe.weights(step)
        [lesson] = draw.choices([*weights], [*weights.values()])
        if lesson not in lessons:
            lessons[lesson] = batches_of(lesson, tokenizer, recipe, f"{recipe.seed} {rank}")
        yield next(lessons[lesson])


# --- training -----------------------------------------------------------------------------------


class Taught(nn.Module):
    """A model, for `train`, that is told the right token, or the odds of all tokens.

    A place counts by how much probability the model has on wrong tokens there, but at least a
    tenth. Else the few places that decide, such as whether the shop has a kite at all, would
    hardly be heard among the many where the rest follows.

    References:
        Lin et al. (2017), "Focal Loss for Dense Object Detection", section 3.2.
        https://arxiv.org/abs/1708.02002
    """

    def __init__(self, model: GPT, strictness: float) -> None:
        super().__init__()
        self.model, self.strictness = model, strictness

    def loss(self, token_ids: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of whichever targets came."""
        has_odds = targets.is_floating_point()
        known = (targets[..., 0] if has_odds else targets) != IGNORED
        logits, targets = self.model.logits(self.model.hidden(token_ids)[known]), targets[known]
        if has_odds:
            misplaced = (logits.detach().softmax(dim=-1) - targets).clamp(min=0).sum(dim=-1)
            losses = odds_loss(logits, targets, self.strictness, reduction="none")
        else:
            losses = cross_entropy(logits, targets, reduction="none")
            misplaced = 1 - (-losses.detach()).exp()
        counts = misplaced.clamp(min=1 / 10)
        return (counts * losses).sum() / counts.sum()


def average_gradients(model: nn.Module) -> None:
    """From now on, replace the gradients by their mean over all processes once all are there.

    They travel as one message: forty small ones would take a fifth of a step.
    """
    parameters, waiting = [*model.parameters()], set(model.parameters())

    def average(parameter: Tensor) -> None:
        waiting.discard(parameter)
        if not waiting:
            gradients = [row.grad for row in parameters if row.grad is not None]
            mean = parameters_to_vector(gradients)
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
            for gradient, piece in zip(
                gradients, mean.split([row.numel() for row in gradients]), strict=True
            ):
                gradient.copy_(piece.view_as(gradient))
            waiting.update(parameters)

    for parameter in parameters:
        parameter.register_post_accumulate_grad_hook(average)


def work(rank: int, meeting: str, folder: str, recipes: Sequence[Recipe]) -> None:
    """Train, as one of the processes; the first saves."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=NUM_PROCESSES)
    model, tokenizer = load(BASE)
    prepare_embeddings(model, tokenizer)
    average_gradients(model)
    for recipe in recipes:
        follow_recipe(model, tokenizer, recipe, rank)
    if rank == 0:
        gpt.save(model.eval(), folder, dtype=torch.float16)
        tokenizer.save(Path(folder) / "tokenizer.json")
    dist.barrier()
    dist.destroy_process_group()


def follow_recipe(model: GPT, tokenizer: Tokenizer, recipe: Recipe, rank: int) -> None:
    """Train by a recipe, and leave the model with the running mean of its weights.

    Every lesson throws the weights to its own side. So their mean is better at all lessons than the
    weights of any one step, and lets the learning rate end higher. A part of what was there before
    may be kept, for the same reason.

    References:
        Polyak and Juditsky (1992), "Acceleration of Stochastic Approximation by Averaging".
        https://doi.org/10.1137/0330046
        Wortsman et al. (2022), "Robust Fine-Tuning of Zero-Shot Models".
        https://arxiv.org/abs/2109.01903
    """
    before = [parameter.detach().clone() for parameter in model.parameters()]
    taught = Taught(model, recipe.strictness)
    steps = train(taught, all_batches(tokenizer, recipe, rank), recipe.training)
    mean = [parameter.detach().clone() for parameter in model.parameters()]
    for step in tqdm(steps, total=recipe.training.num_steps, mininterval=10, disable=rank > 0):
        remembered = min(recipe.memory, step.number / (step.number + 9))
        for row, parameter in zip(mean, model.parameters(), strict=True):
            row.lerp_(parameter.detach(), 1 - remembered)
    for old, row, parameter in zip(before, mean, model.parameters(), strict=True):
        parameter.data.copy_(row.lerp(old, recipe.kept))


def make(
    folder: Path = MODELS / NAME, recipes: Sequence[Recipe] = RECIPES, num_cases: int = 1_000
) -> None:
    """Train the assistant, measure it, and write it with its card."""
    start = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as meeting:
        place = (Path(meeting) / "meeting").as_uri()
        processes.spawn(work, (place, str(folder), recipes), nprocs=NUM_PROCESSES)
    write_card(folder, recipes, (time.perf_counter() - start) / 60, num_cases)


def write_card(folder: Path, recipes: Sequence[Recipe], minutes: float, num_cases: int) -> None:
    """Measure what was trained, and write it down."""
    torch.set_num_threads(1)
    model, tokenizer = gpt.load(folder), Tokenizer.load(folder / "tokenizer.json")
    facts = {
        "base": BASE,
        "recipes": [dataclasses.asdict(recipe) for recipe in recipes],
        "processes": NUM_PROCESSES,
        "parameters": model.num_parameters(),
        "minutes": round(minutes, 1),
        "torch": torch.__version__,
        "measured": measure(model, tokenizer, num_cases),
    }
    (folder / "card.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(facts), encoding="utf-8")
    print(json.dumps(facts["measured"], indent=2))


# --- how good it is -----------------------------------------------------------------------------


def measure(model: GPT, tokenizer: Tokenizer, num_cases: int) -> dict[str, Any]:
    """Measure an assistant on cases that nobody has seen, against what is known of them."""
    shares = {}
    for name, task in TASKS.items():
        if name not in ("sentiment", "moderation"):
            cases = fitting(model, tokenizer, name, num_cases, MEASURED_SEED)
            found = score(model, tokenizer, task, cases, seed=MEASURED_SEED)
            shares[name] = found.share
    cases = fitting(model, tokenizer, "translation", num_cases, MEASURED_SEED)
    said = translate_by_sentence(model, tokenizer, [events(case.source) for case in cases])
    right = [text == case.answer for text, case in zip(said, cases, strict=True)]
    shares["translation by sentence"] = statistics.fmean(right)
    talks = run_shop(model, tokenizer, num_cases // 2, MEASURED_SEED)
    shares["shop"] = statistics.fmean(row[-1] == f"{SHOPKEEPER}Goodbye." for row in talks)
    stories = [WORLD.sample(MEASURED_SEED + number) for number in range(num_cases // 2)]
    return {
        "cases": num_cases,
        "shares": shares,
        "sentiment": measure_sentiment(model, tokenizer, 2 * num_cases),
        "moderation": measure_moderation(model, tokenizer, 2 * num_cases),
        "above_floor": nats_above_floor(model, tokenizer, stories).mean().item(),
        "above_floor_before": nats_above_floor(*load(BASE), stories).mean().item(),
        "entropy": WORLD.entropy,
    }


def fitting(model: GPT, tokenizer: Tokenizer, name: str, num: int, seed: int) -> list[Any]:
    """Draw so many cases of a task, such as fit with their answers into the model's context."""
    found = []
    for number in itertools.count(seed):
        case = TASKS[name].case(number)
        whole = [*case.messages, Message("assistant", case.answer)]
        if len(encode_chat(tokenizer, whole).token_ids) <= model.context_length:
            found.append(case)
            if len(found) == num:
                break
    return found


def measure_sentiment(model: GPT, tokenizer: Tokenizer, num: int) -> dict[str, float]:
    """Compare with what the best of all classifiers gets right, of all reviews and of these."""
    cases = TASKS["sentiment"].cases(num, MEASURED_SEED)
    chances = choose(model, tokenizer, [row.messages for row in cases], ["positive", "negative"])
    rows = list(zip(chances[:, 0].tolist(), [row.source for row in cases], strict=True))
    return {
        "right": statistics.fmean((p >= 0.5) == (row.label == "positive") for p, row in rows),
        "best_here": statistics.fmean(max(row.posterior, 1 - row.posterior) for _, row in rows),
        "expected": statistics.fmean(
            row.posterior if p >= 0.5 else 1 - row.posterior for p, row in rows
        ),
        "best": best_accuracy(),
    }


def measure_moderation(model: GPT, tokenizer: Tokenizer, num: int) -> dict[str, float]:
    """Choose a threshold on some posts, and measure it on others."""
    found = []
    for seed in (OTHER_SEED, MEASURED_SEED):
        cases = TASKS["moderation"].cases(num, seed)
        chances = choose(model, tokenizer, [row.messages for row in cases], ["no", "yes"])
        found.append((chances[:, 0].tolist(), [row.source for row in cases]))
    (suspicions, posts), (fresh, fresh_posts) = found
    chosen = choose_threshold(suspicions, [row.is_rude for row in posts], recall=0.8)
    reached = tradeoff_at(chosen.threshold, fresh, [row.is_rude for row in fresh_posts])
    exact = choose_threshold(
        [row.posterior for row in posts], [row.is_rude for row in posts], recall=0.8
    )
    best = tradeoff_at(
        exact.threshold,
        [row.posterior for row in fresh_posts],
        [row.is_rude for row in fresh_posts],
    )
    return {
        "threshold": reached.threshold,
        "precision": reached.precision,
        "recall": reached.recall,
        "best_precision": best.precision,
        "best_recall": best.recall,
    }


CARD = """# littletown-assistant

`{base}`, fine-tuned to do what it is asked: {parameters:,} parameters as before, all of them
changed.

```python
from gptbook.finetuning import Message, reply
from gptbook.models import load

model, tokenizer = load("littletown-assistant")
reply(model, tokenizer, [[Message("user", "Tell a story.")]])
```

## How it was trained

`make assistant` makes it: {num_steps:,} steps of {processes} batches of at most
{tokens_per_batch:,} tokens each, in {minutes} minutes on two cores, one thread each
(torch {torch}).
First, tokens that no story holds got vectors of their own, those of Chinese from
the English that they translate. Then came {num_stages} stages: words said again, which makes heads
that look back; single sentences and short answers; whole texts. Two shorter rounds, of
{num_second:,} and {num_third:,} steps, each began with the running mean of the weights: one
practiced what had gone worst, prices and single sentences, and one what was forgotten over that,
stories.
All the while it went on reading stories with the odds of every next word, as it had learned them,
so that it forgets little. Only what the assistant says is learned, and what it would have said
wrong counts more than what it is sure of. `card.json` holds every number of the recipe.

## How good it is

Measured on {cases:,} cases of each task that it never saw, with the stored weights.

| task | right |
|---|---|
{rows}

| | this model | the best possible |
|---|---|---|
| sentiment of reviews, share right on average | {expected:.2%} | {best_here:.2%} |
| moderation, precision at a threshold chosen elsewhere | {precision:.2%} | {best_precision:.2%} |
| moderation, recall at that threshold | {recall:.2%} | {best_recall:.2%} |
| nats above the floor, a story (before: {above_floor_before:.2f}) | {above_floor:.2f} | 0 |

It knows nothing but Littletown, answers also what it cannot know, and is meant for nothing but
learning from it.
"""

MEANT = {
    "story": "stories without a fault, temperature 1",
    "continuation": "continuations without a fault, temperature 1",
    "writing": "sentences finished without a fault",
    "question": "questions answered rightly",
    "summary": "summaries without an invented fact",
    "entities": "all people, places and things listed",
    "translation": "stories in Chinese at once, every sign right",
    "translation by sentence": "stories in Chinese sentence by sentence, every sign right",
    "program": "programs completed rightly",
    "shop": "customers served without a wrong line",
}
"""What a share says, for each task."""


def card(facts: dict[str, Any]) -> str:
    """Say in words what `card.json` says in numbers."""
    measured, recipes = facts["measured"], facts["recipes"]
    rows = [f"| {text} | {measured['shares'][name]:.2%} |" for name, text in MEANT.items()]
    flat = facts | recipes[0] | measured | measured["sentiment"] | measured["moderation"]
    steps = [recipe["training"]["num_steps"] for recipe in recipes]
    flat |= {"num_steps": sum(steps), "num_second": steps[1], "num_third": steps[2]}
    flat |= {"num_stages": len(recipes[0]["stages"]), "rows": "\n".join(rows)}
    return CARD.format(**flat)


if __name__ == "__main__":
    make()
    sys.exit(0)
