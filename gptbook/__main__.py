"""The command line: train a small GPT on any text, and let it write.

    python -m gptbook train --data littletown --out town
    python -m gptbook generate --model town --prompt "One morning"

What stands here only joins the parts of the package and talks to the reader; chapter 9 explains
what the parts do.
"""

import argparse
import difflib
import json
import math
import os
import sys
import time
import tomllib
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import tiktoken
import torch
from torch import nn
from tqdm import tqdm

from gptbook import model as gpt
from gptbook.data import (
    Batches,
    DocumentBatches,
    RandomBatches,
    Tokens,
    Windows,
    pack,
    python_english,
    read_text,
    split_documents,
)
from gptbook.distributed import Processes, join, load_sharded, save_sharded, spread_out, whole_state
from gptbook.evaluation import bits_per_byte, mean_loss
from gptbook.generation import Sampling, stream, stream_text
from gptbook.model import GPT, GPT2Config, GPTConfig, ModernConfig
from gptbook.tokenizer import END_OF_TEXT, Tokenizer
from gptbook.training import (
    OPTIMIZERS,
    Step,
    TrainingConfig,
    load_checkpoint,
    make_optimizer,
    save_checkpoint,
    train,
)

_EXAMPLES_TRAIN = """\
examples:
  python -m gptbook train --out town
      a GPT of 0.8 million parameters on stories of Littletown; the loss is shown beside its floor
  python -m gptbook train --data python --out prose --minutes 10
      on the English that ships with Python, stopped after ten minutes
  python -m gptbook train --data my_book.txt --vocab-size 2048 --out mine
      on a text of yours (a file, or an address that begins with https://)
  python -m gptbook train --config run.toml --num-steps 5000 --out mine
      with settings from a file, such as the line  learning_rate = 0.001 ; the command line wins
  python -m gptbook train --out town --resume
      go on with a run that was stopped, or killed, where its last checkpoint stands
  torchrun --nproc-per-node 2 -m gptbook train --parallel ddp --out town
      by two processes together; fsdp instead of ddp shares out the model, too
  torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29400 \\
      -m gptbook train --parallel fsdp --device cuda --out /shared/town
      by the GPUs of two machines: the same line on both, HOST being the name of one of them, and
      --out a folder that both see; --max-restarts 3 starts all again when one dies

The folder given with --out holds the model (config.json, model.safetensors, tokenizer.json), the
settings (settings.json), the losses (log.jsonl) and the checkpoints. Let the model write with
  python -m gptbook generate --model town
"""
_EXAMPLES_GENERATE = """\
examples:
  python -m gptbook generate --model littletown
      a story by the model that comes with the book
  python -m gptbook generate --model town --prompt "One morning" --seed 7
      go on with a text; another seed, another continuation
  python -m gptbook generate --model town --temperature 0
      always the most probable token
"""

# What a stopped run may be given anew when it goes on: none of it changes what is computed.
_FREE = ("out", "config", "resume", "minutes", "parallel")
_NUM_VALIDATION_STORIES = 200
_FIRST_VALIDATION_STORY = 10**9  # seeds from here on are never trained on
_MAX_VALIDATION = 60_000  # characters of other texts, so that a look takes a second or two
_LETTERS_PER_PIECE = 4_000  # a text without marks between documents is split in pieces this long


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0 if all went well, 2 if not, 130 if stopped."""
    listed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser().parse_args(_with_settings(listed))
        options.run(options)
    except KeyboardInterrupt:
        _complain("stopped; a training run goes on with --resume")
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, ArithmeticError) as error:
        _complain(str(error))
        return 2
    return 0


# --- options ------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    parser = argparse.ArgumentParser(
        prog="python -m gptbook", description="Train a small GPT, and let it write."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    layout = argparse.RawDescriptionHelpFormatter
    training = commands.add_parser(
        "train",
        help="train a model on text",
        description="Train a GPT from scratch. Every option has a default that works.",
        epilog=_EXAMPLES_TRAIN,
        formatter_class=layout,
        allow_abbrev=False,
    )
    _add_train_options(training)
    training.set_defaults(run=_train)
    generation = commands.add_parser(
        "generate",
        help="let a model write",
        description="Let a trained model write, token by token.",
        epilog=_EXAMPLES_GENERATE,
        formatter_class=layout,
        allow_abbrev=False,
    )
    _add_generate_options(generation)
    generation.set_defaults(run=_generate)
    return parser


def _add_train_options(parser: argparse.ArgumentParser) -> None:
    """Describe the options of `train`, by what they are about."""
    group = parser.add_argument_group("the run")
    add = group.add_argument
    add("--out", type=Path, default=Path("run"), help="folder for all results (default: run)")
    add("--resume", action="store_true", help="go on from the last checkpoint in --out")
    add("--config", type=Path, help="settings from a .toml or .json file, named as here")
    add("--num-steps", type=int, default=1_000, help="updates of the parameters (default: 1000)")
    add("--minutes", type=float, help="stop after this time, to go on later with --resume")
    add("--seed", type=int, default=0, help="another seed, another run (default: 0)")
    add("--threads", type=int, default=1, help="processor cores to use (default: 1)")
    add("--device", default="cpu", help="where to compute: cpu, cuda, ... (default: cpu)")
    add(
        "--parallel",
        choices=("ddp", "fsdp"),
        help="train by all processes that torchrun started: ddp shares out each batch, "
        "fsdp the model, too",
    )
    add("--report-every", type=int, default=100, help="steps between two reports (default: 100)")
    add("--save-every", type=int, default=200, help="steps between checkpoints (default: 200)")
    add("--prompt", default="", help="what the samples along the way begin with")

    group = parser.add_argument_group("the text")
    add = group.add_argument
    add("--data", default="littletown", help="littletown, python, a file or an address")
    add("--num-stories", type=int, default=20_000, help="stories of Littletown (default: 20000)")
    add(
        "--tokenizer",
        default="learn",
        help="learn one from the text (default), a saved tokenizer.json, or a published one: "
        "gpt2, cl100k_base, o200k_base",
    )
    add("--vocab-size", type=int, default=1_024, help="tokens to learn (default: 1024)")

    group = parser.add_argument_group("the model")
    add = group.add_argument
    add("--composition", choices=("modern", "gpt2"), default="modern", help="default: modern")
    add("--context-length", type=int, default=128, help="tokens it sees at once (default: 128)")
    add("--d-model", type=int, default=128, help="width (default: 128)")
    add("--num-layers", type=int, default=4, help="blocks (default: 4)")
    add("--num-heads", type=int, default=4, help="attention heads a block (default: 4)")
    add("--num-kv-heads", type=int, help="heads of keys and values (modern; default: as many)")
    add("--rope-theta", type=float, default=100.0, help="slowness of rotary positions (modern)")
    add("--dropout", type=float, default=0.0, help="default: 0")

    group = parser.add_argument_group("the recipe")
    add = group.add_argument
    add("--batch-size", type=int, default=32, help="windows of text a batch (default: 32)")
    add("--micro-batches", type=int, default=1, help="batches a step (default: 1)")
    add("--optimizer", choices=tuple(OPTIMIZERS), default="adamw", help="default: adamw")
    add("--learning-rate", type=float, default=2e-3, help="the highest (default: 0.002)")
    add("--warmup-steps", type=int, help="steps until then (default: a tenth of all, at most 20)")
    add("--final-fraction", type=float, default=0.1, help="of it at the end (default: 0.1)")
    add("--weight-decay", type=float, default=0.1, help="default: 0.1")
    add("--max-gradient-norm", type=float, default=1.0, help="default: 1")
    add(
        "--precision",
        choices=("float32", "bfloat16", "auto"),
        default="float32",
        help="of matrix products; auto is bfloat16 where the machine has it (default: float32)",
    )


def _add_generate_options(parser: argparse.ArgumentParser) -> None:
    """Describe the options of `generate`."""
    add = parser.add_argument
    add("--model", default="littletown", help="a folder written by train, or a model of the book")
    add("--prompt", default="", help="what the text begins with")
    add("--num-tokens", type=int, help="tokens at most (default: until the context is full)")
    add("--slide", action="store_true", help="forget the oldest tokens when the context is full")
    add("--temperature", type=float, default=1.0, help="below 1 is tamer (default: 1)")
    add("--top-k", type=int, help="draw from the k most probable tokens only")
    add("--top-p", type=float, help="draw from the most probable tokens with this share only")
    add("--seed", type=int, default=0, help="another seed, another text (default: 0)")
    add("--threads", type=int, default=1, help="processor cores to use (default: 1)")


def _with_settings(arguments: list[str]) -> list[str]:
    """Put the settings of a config file, and those of a run to go on with, before the others."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", type=Path)
    finder.add_argument("--out", type=Path, default=Path("run"))
    finder.add_argument("--resume", action="store_true")
    if arguments[:1] != ["train"] or {"-h", "--help"} & set(arguments):
        return arguments
    found, _ = finder.parse_known_args(arguments)
    settings = []
    if found.resume and (found.out / "settings.json").exists():
        settings += _as_arguments(found.out / "settings.json")
    if found.config is not None:
        settings += _as_arguments(found.config)
    return ["train", *settings, *arguments[1:]]


def _as_arguments(path: Path) -> list[str]:
    """Read settings from a file, as they would stand on the command line."""
    try:
        text = path.read_text(encoding="utf-8")
        settings = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as {path.suffix or 'JSON'}: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must map names to values, such as num_steps to 1000")
    known = [name for name in vars(_parser().parse_args(["train"])) if name not in (*_FREE, "run")]
    for name, value in settings.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]}?" if near else f"it may be one of {', '.join(known)}"
            raise ValueError(f"{path} has a setting {name!r}, which is unknown; {advice}")
        if isinstance(value, bool | dict | list):
            raise TypeError(f"{path}: {name} must be a number or a word, not {value!r}")
    return [
        f"--{name.replace('_', '-')}={value}"
        for name, value in settings.items()
        if value is not None
    ]


# --- train --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Text:
    """Text to learn from and text to be examined on."""

    training: list[str]
    validation: list[str]
    floor: float | None
    """What the validation texts cost, in nats, if each word's true probability is known."""


@dataclass(frozen=True)
class _Run:
    """All that a run consists of."""

    out: Path
    text: _Text
    tokenizer: Tokenizer
    batches: Batches
    examination: Windows
    model: GPT
    spread: nn.Module
    """What is trained: the model, or the model among processes."""
    config: TrainingConfig
    group: Processes | None

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that speaks and writes."""
        return self.group is None or self.group.rank == 0

    def say(self, text: str) -> None:
        """Tell the reader something, once."""
        if self.is_first:
            _say(text)


def _train(options: argparse.Namespace) -> None:
    """Train a model as the options say, alone or with the other processes."""
    _prepare_threads(options)
    for name in ("report_every", "save_every"):
        if getattr(options, name) < 1:
            raise ValueError(f"{name.replace('_', '-')} must be at least 1")
    if options.parallel is None:
        _train_with(options, None)
        return
    with join(device=options.device) as group:
        options.device = str(group.device)
        # Where somebody died, torchrun has started all processes again, and counts it there.
        if group.sum(float(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))):
            options.resume = True
        _train_with(options, group)


def _train_with(options: argparse.Namespace, group: Processes | None) -> None:
    """Train a model in this process, which may be one of a group."""
    settings = {name: _plain(value) for name, value in vars(options).items()}
    settings = {name: value for name, value in settings.items() if name not in (*_FREE, "run")}
    checkpoints = options.out / "checkpoints"
    if not options.resume and options.out.exists() and any(options.out.iterdir()):
        raise ValueError(
            f"{options.out} is not empty; go on with its run with --resume, or choose another --out"
        )
    run = _make_run(options, group)
    optimizer = make_optimizer(run.model, run.config)
    saved: dict[str, Any] = {
        "model": run.model,
        "optimizer": optimizer,
        "batches": run.batches,
        "config": settings,
    }
    first = 0
    if options.resume and any(checkpoints.glob("step-*")):
        load = load_checkpoint if group is None else load_sharded
        first = load(checkpoints, **saved)
        run.say(f"going on after step {first}")
    if run.is_first:
        _write_whole(options.out / "settings.json", json.dumps(settings, indent=2) + "\n")
        run.tokenizer.save(options.out / "tokenizer.json")

    def save(step: int) -> None:
        if group is None:
            save_checkpoint(checkpoints, step=step, **saved)
        else:
            save_sharded(checkpoints, step=step, group=group, **saved)
        model = _whole(run)
        if run.is_first:
            gpt.save(model, options.out)

    steps = train(
        run.spread, run.batches, run.config, optimizer=optimizer, first_step=first, group=group
    )
    _follow(run, options, steps, first, save)


def _follow(
    run: _Run,
    options: argparse.Namespace,
    steps: Iterator[Step],
    first: int,
    save: Callable[[int], None],
) -> None:
    """Go through the steps, and tell, examine, sample and save along the way."""
    last, end = run.config.num_steps, _deadline(options.minutes)
    log = run.out / "log.jsonl" if run.is_first else Path(os.devnull)
    if run.is_first:
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        _write_whole(log, "".join(f"{line}\n" for line in lines[:first]))
    if not first:
        run.say(f"untrained: {_examine(run)}")
    with (
        log.open("a", encoding="utf-8") as file,
        tqdm(total=last, initial=first, disable=None if run.is_first else True, unit="step") as bar,
    ):
        for step in steps:
            record = {"step": step.number, "loss": step.loss, "norm": step.gradient_norm}
            file.write(json.dumps(record) + "\n")
            bar.update()
            bar.set_postfix(loss=f"{step.loss:.3f}")
            over = step.number == last or _is_late(run, end)
            if over or step.number % options.report_every == 0:
                run.say(f"step {step.number:5} of {last}: loss {step.loss:.3f}; {_examine(run)}")
                run.say(f"  {_sample(run, options)}")
            if over or step.number % options.save_every == 0:
                file.flush()
                save(step.number)
            if over:
                break
    if first < last and step.number < last:
        run.say(f"stopped after {options.minutes:g} minutes; go on with --resume")
    run.say(f"let the model write with: python -m gptbook generate --model {run.out}")


def _is_late(run: _Run, end: float) -> bool:
    """Say whether the time is over; all processes stop at the same step."""
    is_late = time.monotonic() > end
    if run.group is None or end == math.inf:
        return is_late
    return bool(run.group.sum(float(is_late)))


def _whole(run: _Run) -> GPT:
    """Give the model itself, or in the first process of a group a whole copy of it."""
    if run.group is None:
        return run.model
    state = whole_state(run.model)
    copy = GPT(run.model.config)
    if run.is_first:
        copy.load_state_dict(state)
    return copy


def _make_run(options: argparse.Namespace, group: Processes | None) -> _Run:
    """Get the text, cut it into tokens, and build the model."""
    recipe = {
        field.name: getattr(options, field.name)
        for field in fields(TrainingConfig)
        if hasattr(options, field.name)
    }
    if options.warmup_steps is None:
        recipe["warmup_steps"] = min(20, options.num_steps // 10)
    config = TrainingConfig(**recipe)
    batch_size = options.batch_size if group is None else group.share_of(options.batch_size)
    if options.parallel == "fsdp" and config.optimizer == "muon":
        raise ValueError(
            "muon turns whole matrices, of which each process holds a part with fsdp; "
            "choose --optimizer adamw, or --parallel ddp"
        )
    text = _read(options)
    tokenizer = _make_tokenizer(options, text)
    end = END_OF_TEXT if END_OF_TEXT in tokenizer.special_tokens else None
    tokens = Tokens.encode(text.training, tokenizer, end_of_text=end)
    examination = pack(
        Tokens.encode(text.validation, tokenizer, end_of_text=end),
        options.context_length,
        boundaries=text.floor is not None,
    )
    kind = DocumentBatches if text.floor is not None else RandomBatches
    batches = kind(
        tokens,
        batch_size=batch_size,
        context_length=options.context_length,
        seed=options.seed,
        rank=0 if group is None else group.rank,
        world_size=1 if group is None else group.world_size,
    )
    torch.manual_seed(options.seed)
    model = GPT(_model_config(options, tokenizer.vocab_size)).to(options.device)
    said = (
        f"{tokens.num_tokens:,} tokens to learn from; a model of {model.num_parameters():,} "
        f"parameters; {config.num_steps:,} steps"
    )
    spread: nn.Module = model
    if group is not None:
        spread = spread_out(model, options.parallel, group)
        said += f"; {group.world_size} processes"
    run = _Run(options.out, text, tokenizer, batches, examination, model, spread, config, group)
    run.say(said)
    return run


def _model_config(options: argparse.Namespace, vocab_size: int) -> GPTConfig:
    """Say what is to be built."""
    sizes: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("context_length", "d_model", "num_heads", "num_layers", "dropout")
    }
    if options.composition == "gpt2":
        return GPT2Config(vocab_size=vocab_size, **sizes)
    return ModernConfig(
        vocab_size=vocab_size,
        num_kv_heads=options.num_kv_heads,
        rope_theta=options.rope_theta,
        **sizes,
    )


def _read(options: argparse.Namespace) -> _Text:
    """Get the text that the options name, and set a part of it aside."""
    if options.data == "littletown":
        return _stories(options.num_stories, options.seed)
    text = python_english() if options.data == "python" else read_text(options.data)
    documents = [part for part in text.split(END_OF_TEXT) if part.strip()]
    if len(documents) < 2:
        documents = list(_pieces(text))
    split = split_documents(documents, threshold=None)
    if not split.train or not split.validation:
        raise ValueError(
            f"{options.data} holds {len(text):,} characters, too few to learn from and to set "
            f"some aside; give some {20 * _LETTERS_PER_PIECE:,} or more"
        )
    sizes = accumulate(map(len, split.validation))
    num_examined = sum(size < _MAX_VALIDATION for size in sizes) + 1
    return _Text(split.train, split.validation[:num_examined], None)


def _stories(count: int, seed: int) -> _Text:
    """Draw stories of Littletown, whose probability is known."""
    from gptbook.world import World  # it takes a second, which other texts need not wait for

    world = World()
    training = [story.text for story in world.stories(count, seed=seed)]
    examined = list(world.stories(_NUM_VALIDATION_STORIES, seed=_FIRST_VALIDATION_STORY))
    floor = -math.fsum(story.log_probability for story in examined)
    return _Text(training, [story.text for story in examined], floor)


def _pieces(text: str) -> Iterator[str]:
    """Cut a text into pieces that begin and end with a line."""
    piece, size = [], 0
    for line in text.splitlines(keepends=True):
        piece.append(line)
        size += len(line)
        if size >= _LETTERS_PER_PIECE:
            yield "".join(piece)
            piece, size = [], 0
    if piece:
        yield "".join(piece)


def _make_tokenizer(options: argparse.Namespace, text: _Text) -> Tokenizer:
    """Learn, load or take over a tokenizer."""
    saved = options.out / "tokenizer.json"
    if options.resume and saved.exists():
        return Tokenizer.load(saved)
    if options.tokenizer == "learn":
        sample = islice(text.training, 5_000)
        return Tokenizer.train(sample, options.vocab_size, special_tokens=[END_OF_TEXT])
    if options.tokenizer in tiktoken.list_encoding_names():
        return Tokenizer.from_tiktoken(tiktoken.get_encoding(options.tokenizer))
    return Tokenizer.load(options.tokenizer)


def _examine(run: _Run) -> str:
    """Price the validation text, in the unit that says most."""
    batches = run.examination.batches(run.config.micro_batches * 32)
    loss = mean_loss(run.model, batches)
    scored = int((run.examination.targets >= 0).sum())
    if run.text.floor is not None:
        floor = run.text.floor / scored
        return f"unseen stories {loss:.3f} nats a token, the floor is {floor:.3f}"
    num_bytes = sum(len(part.encode()) for part in run.text.validation)
    bits = bits_per_byte(loss * scored, num_bytes)
    return f"unseen text {loss:.3f} nats a token, {bits:.3f} bits a byte"


def _sample(run: _Run, options: argparse.Namespace) -> str:
    """Let the model write a line."""
    prompt = _prompt(run.tokenizer, options.prompt)
    room = run.model.context_length - len(prompt)
    model = _whole(run)
    if not run.is_first:
        return ""
    ids = stream(
        model,
        prompt,
        max_new_tokens=min(60, room),
        sampling=Sampling(),
        stop=_stops(run.tokenizer),
        seed=options.seed,
    )
    written = "".join(stream_text(ids, run.tokenizer.token_bytes))
    return " ".join((options.prompt + written).replace(END_OF_TEXT, "").split())


# --- generate -----------------------------------------------------------------------------------


def _generate(options: argparse.Namespace) -> None:
    """Let a model write."""
    _prepare_threads(options)
    model, tokenizer = _load(options.model)
    prompt = _prompt(tokenizer, options.prompt)
    room = max(1, model.context_length - len(prompt))
    ids = stream(
        model,
        prompt,
        max_new_tokens=room if options.num_tokens is None else options.num_tokens,
        sampling=_sampling(options),
        stop=_stops(tokenizer),
        seed=options.seed,
        window="slide" if options.slide else None,
    )
    end = tokenizer.special_tokens.get(END_OF_TEXT)
    sys.stdout.write(options.prompt)
    for text in stream_text((i for i in ids if i != end), tokenizer.token_bytes):
        sys.stdout.write(text)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _sampling(options: argparse.Namespace) -> Sampling | None:
    """Say how to draw; temperature 0 is the limit in which the most probable token is taken."""
    if options.temperature == 0:
        return None
    return Sampling(temperature=options.temperature, top_k=options.top_k, top_p=options.top_p)


def _load(name: str) -> tuple[GPT, Tokenizer]:
    """Load a model from a folder, or one of the book's."""
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "model.safetensors").exists():
            raise ValueError(
                f"there is no model in {folder} yet: train writes it with its first checkpoint"
            )
        return gpt.load(folder).eval(), Tokenizer.load(folder / "tokenizer.json")
    from gptbook import models

    if name not in models.NAMES:
        raise ValueError(
            f"{name} is neither a folder nor a model of the book; "
            f"the book has {', '.join(models.NAMES)}"
        )
    return models.load(name)


def _prompt(tokenizer: Tokenizer, text: str) -> list[int]:
    """Give the ids of a prompt as the model saw texts begin: after an end-of-text token."""
    end = tokenizer.special_tokens.get(END_OF_TEXT)
    ids = [*([] if end is None else [end]), *tokenizer.encode_ordinary(text)]
    if not ids:
        raise ValueError("this model's tokenizer marks no beginning of a text; give a --prompt")
    return ids


def _stops(tokenizer: Tokenizer) -> list[int]:
    """List the tokens that end a text."""
    return (
        [tokenizer.special_tokens[END_OF_TEXT]] if END_OF_TEXT in tokenizer.special_tokens else []
    )


# --- small things -------------------------------------------------------------------------------


def _prepare_threads(options: argparse.Namespace) -> None:
    """Use as many cores as wanted."""
    if options.threads < 1:
        raise ValueError(f"threads must be at least 1, not {options.threads}")
    torch.set_num_threads(options.threads)


def _deadline(minutes: float | None) -> float:
    """Say until when a run may go on."""
    return math.inf if minutes is None else time.monotonic() + 60 * minutes


def _plain(value: Any) -> Any:
    """Turn an option into what JSON knows."""
    return str(value) if isinstance(value, Path) else value


def _write_whole(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _say(text: str) -> None:
    """Tell the reader something, above the progress bar if there is one."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def _complain(text: str) -> None:
    """Say in one line what went wrong."""
    sys.stderr.write(f"gptbook: {' '.join(text.split())}\n")


if __name__ == "__main__":
    sys.exit(main())
