"""Teach the model of the book to see, and write it, measured, into gptbook/models.

    python tools/dev.py eyes               # same as `make eyes`

It begins with `littletown` and an encoder that knows nothing, and shows it pictures that never
repeat, each with its caption or with a question and its answer. The same machine writes the same
files again.
"""

import dataclasses
import itertools
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from gptbook import multimodal
from gptbook.finetuning import ChatRow, nats_above_floor
from gptbook.littletown.pictures import KINDS, SPLITS, Picture, pictures
from gptbook.model import GPT
from gptbook.models import load
from gptbook.multimodal import PatchEncoder, PictureGPT, describe, encode_view, save, view_batch
from gptbook.tokenizer import END_OF_TEXT, Tokenizer
from gptbook.training import Batch, TrainingConfig, train
from gptbook.world import World

NAME, BASE = "littletown-eyes", "littletown"
MODELS = Path(__file__).resolve().parent.parent / "gptbook" / "models"

MEASURED_SEED = 5_000_000
"""Which pictures are measured: training draws from other seeds."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that decides what the model becomes.

    Attributes:
        training: The optimizer's part.
        batch_size: How many pictures a step shows.
        scenes: Which share of them are scenes; the others are sheets with shapes.
        questions: Which share comes with a question instead of a caption.
        pool: Among how many batches' worth of texts those of like length are sought.
        seed: Decides everything that is drawn.
    """

    training: TrainingConfig
    batch_size: int = 32
    scenes: float = 0.4
    questions: float = 0.4
    pool: int = 16
    seed: int = 0


RECIPES = (
    Recipe(
        TrainingConfig(
            num_steps=3_000,
            optimizer="muon",
            learning_rate=4e-3,
            warmup_steps=30,
            final_fraction=1.0,
            weight_decay=0.1,
        ),
    ),
    Recipe(
        TrainingConfig(
            num_steps=1_400,
            optimizer="muon",
            learning_rate=4e-3,
            warmup_steps=10,
            final_fraction=0.0,
            weight_decay=0.1,
        ),
        seed=1,
    ),
)
"""At a steady rate as far as that goes, then gently to the end."""


@torch.no_grad()
def prepare_embeddings(model: GPT, tokenizer: Tokenizer, *, num: int = 500, seed: int = 0) -> None:
    """Give tokens of captions that no story holds vectors from which they can be told apart.

    In training such tokens were only ever wrong, which left all of them with nearly the same
    vector; see `tools.make_assistant.prepare_embeddings`.
    """
    known = {i for story in World().stories(num, seed) for i in tokenizer.encode(story.text)}
    said = {
        token_id
        for kind in KINDS
        for picture in itertools.islice(pictures(kind, "seen", seed), num)
        for row in texts_of(picture, tokenizer)
        for token_id in row.token_ids
    }
    new = torch.tensor(sorted(said - known - {tokenizer.special_tokens[END_OF_TEXT]}))
    weight = model.token_embedding.weight
    length = weight[sorted(known)].norm(dim=1).mean()
    vectors = torch.randn(len(new), weight.shape[1], generator=torch.Generator().manual_seed(seed))
    weight[new] = vectors / vectors.norm(dim=1, keepdim=True) * length


def texts_of(picture: Picture, tokenizer: Tokenizer) -> list[ChatRow]:
    """List all that is said of a picture: its caption, then its questions with their answers."""
    asked = [encode_view(tokenizer, answer, question) for question, answer in picture.questions]
    return [encode_view(tokenizer, picture.caption), *asked]


def batches(tokenizer: Tokenizer, recipe: Recipe) -> Iterator[Batch]:
    """Draw batches without end, of texts of about the same length."""
    draw = random.Random(recipe.seed)
    drawn = {kind: pictures(kind, "seen", recipe.seed) for kind in KINDS}
    while True:
        rows: list[tuple[ChatRow, Picture]] = []
        for _ in range(recipe.batch_size * recipe.pool):
            picture = next(drawn["scene" if draw.random() < recipe.scenes else "shapes"])
            caption, *asked = texts_of(picture, tokenizer)
            rows.append((
                draw.choice(asked) if draw.random() < recipe.questions else caption,
                picture,
            ))
        rows.sort(key=lambda row: len(row[0].token_ids))
        starts = range(0, len(rows), recipe.batch_size)
        for start in draw.sample(starts, len(starts)):
            some = rows[start : start + recipe.batch_size]
            painted = torch.stack([row[1].paint(draw.getrandbits(40)) for row in some])
            yield view_batch(painted, [row[0] for row in some])


def begin(seed: int) -> tuple[PictureGPT, Tokenizer]:
    """Put eyes that have learned nothing on the model of the book."""
    torch.manual_seed(seed)
    gpt, tokenizer = load(BASE)
    prepare_embeddings(gpt, tokenizer)
    return PictureGPT(gpt, PatchEncoder()), tokenizer


def teach(model: PictureGPT, tokenizer: Tokenizer, recipe: Recipe) -> None:
    """Train by a recipe."""
    steps = train(model, batches(tokenizer, recipe), recipe.training)
    bar = tqdm(steps, total=recipe.training.num_steps, mininterval=10)
    for step in bar:
        bar.set_postfix(loss=f"{step.loss:.3f}", refresh=False)
    model.eval()


# --- how good it is -----------------------------------------------------------------------------


def held_out(kind: str, split: str, num: int) -> tuple[list[Picture], Tensor]:
    """Draw pictures for measuring, painted as none in training."""
    drawn = list(itertools.islice(pictures(kind, split, MEASURED_SEED), num))
    return drawn, torch.stack([row.paint(MEASURED_SEED + i) for i, row in enumerate(drawn)])


def measure(model: PictureGPT, tokenizer: Tokenizer, num: int) -> dict[str, Any]:
    """Count exact captions and exact answers, of each kind and part."""
    shares: dict[str, dict[str, dict[str, float]]] = {"captions": {}, "answers": {}}
    for kind, split in itertools.product(KINDS, SPLITS):
        drawn, painted = held_out(kind, split, num)
        asked = [random.Random(i).choice(row.questions) for i, row in enumerate(drawn)]
        captions = describe(model, tokenizer, painted)
        answers = describe(model, tokenizer, painted, [question for question, _ in asked])
        right = [row.caption == said for row, said in zip(drawn, captions, strict=True)]
        answered = [pair[1] == said for pair, said in zip(asked, answers, strict=True)]
        shares["captions"].setdefault(kind, {})[split] = statistics.fmean(right)
        shares["answers"].setdefault(kind, {})[split] = statistics.fmean(answered)
    stories = list(World().stories(min(num, 100), MEASURED_SEED))
    return {
        "pictures": num,
        **shares,
        "above_floor": nats_above_floor(model.gpt, tokenizer, stories).mean().item(),
        "above_floor_before": nats_above_floor(*load(BASE), stories).mean().item(),
    }


CARD = """# littletown-eyes

`{base}` with eyes: an encoder of {eyes:,} parameters looks at a picture of 64 by 64 pixels and
hands the GPT one vector for each of {patches} patches. {parameters:,} parameters in all.

```python
from gptbook.littletown.pictures import Scene
from gptbook.multimodal import describe, load

model, tokenizer = load()
picture = Scene("Mia", "Tom", "red", "kite", "in the park").paint(seed=0)
describe(model, tokenizer, picture[None])
describe(model, tokenizer, picture[None], ["Who has the kite?"])
```

## How it was trained

`make eyes` makes it: {num_steps:,} steps of {batch_size} pictures,
in {minutes} minutes of processor time on one thread (torch {torch}). The encoder and the
projection began at random, the GPT with the weights of `{base}`, and all of it learned, at a
steady rate that sank to zero over the last {num_last:,} steps. No picture was painted twice in the
same way. {questions:.0%} came with a question and its answer, the others with their captions, and
only what is to be said was learned. The weights are stored in half precision. `card.json` holds
every number of the recipe.

## How good it is

Shares of captions and answers that are right to the last letter, on {pictures:,} pictures of each
kind and part. "Seen" combinations may have been drawn in training, in other places on the picture;
"new" ones never were, though each color came with each form that it has there; in the "never
paired" ones some color has a form that it never had.

| | seen | new | never paired |
|---|---|---|---|
{rows}

Nats above the floor, a story: {above_floor:.1f} (before: {above_floor_before:.1f}). It was told no
story while it learned to see.
"""


def card(facts: dict[str, Any]) -> str:
    """Say in words what `card.json` says in numbers."""
    measured = facts["measured"]
    rows = [
        f"| {what}, {kind} | "
        + " | ".join(f"{measured[what][kind][split]:.1%}" for split in SPLITS)
        + " |"
        for what in ("captions", "answers")
        for kind in KINDS
    ]
    steps = [recipe["training"]["num_steps"] for recipe in facts["recipes"]]
    flat = facts | facts["recipes"][0] | measured
    flat |= {"num_steps": sum(steps), "num_last": steps[-1], "rows": "\n".join(rows)}
    return CARD.format(**flat)


def make(
    folder: Path = MODELS / NAME, recipes: Sequence[Recipe] = RECIPES, num: int = 1_000
) -> None:
    """Train the model, measure it, and write it with its card."""
    torch.set_num_threads(1)
    start = time.process_time()
    model, tokenizer = begin(recipes[0].seed)
    for recipe in recipes:
        teach(model, tokenizer, recipe)
    save(model, tokenizer, folder)
    write_card(folder, recipes, (time.process_time() - start) / 60, num)


def write_card(folder: Path, recipes: Sequence[Recipe], minutes: float, num: int) -> None:
    """Measure what was stored, and write it down."""
    model, tokenizer = multimodal.load(folder)
    parameters = sum(row.numel() for row in model.parameters())
    facts = {
        "base": BASE,
        "recipes": [dataclasses.asdict(recipe) for recipe in recipes],
        "parameters": parameters,
        "eyes": parameters - model.gpt.num_parameters(),
        "patches": model.encoder.num_patches,
        "minutes": round(minutes, 1),
        "torch": torch.__version__,
        "measured": measure(model, tokenizer, num),
    }
    (folder / "card.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(facts), encoding="utf-8")
    print(json.dumps(facts["measured"], indent=2))


if __name__ == "__main__":
    make()
    sys.exit(0)
