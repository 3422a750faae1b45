"""Fine-tuning: a GPT that has learned a language learns a task.

Chapter 14 takes three ways. A `Classifier` reads a text and chooses a class. A chat shows the model
what a user asks and what an assistant answers, and only what the assistant says is learned. And
LoRA leaves all weights as they are and learns small corrections beside them.

A chat is a list of messages. In tokens, each message begins with the token that ends a text, then
comes the name of its role, and one such token ends the last of them. That token has no spelling: no
message can hold it, whatever a user writes.

Shapes: B batch, T positions, D d_model, C classes, R rank, I inputs and O outputs of a linear
layer.

References:
    Howard and Ruder (2018), "Universal Language Model Fine-tuning for Text Classification".
    https://arxiv.org/abs/1801.06146
    Ouyang et al. (2022), "Training language models to follow instructions with human feedback".
    https://arxiv.org/abs/2203.02155
    Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models".
    https://arxiv.org/abs/2106.09685
"""

import hashlib
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn

from gptbook.evaluation import IGNORED
from gptbook.generation import Filter, generate
from gptbook.layers import check_dropout
from gptbook.model import GPT, read_tensors, write_whole
from gptbook.tokenizer import END_OF_TEXT, Tokenizer

Batch = tuple[Tensor, Tensor]

PADDING = -1  # stands behind a text that is shorter than the longest of its batch


# --- texts into classes -------------------------------------------------------------------------


def last_hidden(model: GPT, token_ids: Int[Tensor, "B T"]) -> Float[Tensor, "B D"]:
    """Read texts, and give the vector of each one's last token, which alone has seen all of it.

    Args:
        model: What reads.
        token_ids: The texts, with `PADDING` behind those that are shorter.

    Raises:
        TypeError: As `GPT.forward`.
        ValueError: As `GPT.forward`, or if a text holds nothing but padding, or padding stands
            anywhere but at its end.
    """
    is_token = token_ids != PADDING
    if token_ids.dim() == 2 and token_ids.numel():
        _check_padding(is_token)
    hidden = model.hidden(token_ids.clamp(min=0) if not is_token.all() else token_ids)
    last = is_token.sum(dim=1) - 1  # (B,), whoever stands behind it was never looked at
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


class Classifier(nn.Module):
    """A GPT that has read a text, and a small head that says to which class it belongs.

    The last token is the only one that has seen the whole text, so the head reads its vector. A GPT
    may be shared by several classifiers.

    Args:
        model: What reads.
        num_classes: From how many classes to choose.

    Raises:
        TypeError: If `num_classes` is not a whole number.
        ValueError: If there are fewer than two classes.

    References:
        Radford et al. (2018), "Improving Language Understanding by Generative Pre-Training",
        section 3.2.
    """

    def __init__(self, model: GPT, num_classes: int) -> None:
        super().__init__()
        if isinstance(num_classes, bool) or not isinstance(num_classes, int):
            raise TypeError(f"num_classes must be a whole number, not {num_classes!r}")
        if num_classes < 2:
            raise ValueError(
                f"num_classes={num_classes} leaves nothing to choose; ask for at least 2"
            )
        self.model = model
        self.head = nn.Linear(model.config.d_model, num_classes, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)

    @property
    def num_classes(self) -> int:
        """From how many classes it chooses."""
        return self.head.out_features

    def forward(self, token_ids: Int[Tensor, "B T"]) -> Float[Tensor, "B C"]:
        """Score every class for each text.

        Args:
            token_ids: The texts, with `PADDING` behind those that are shorter.

        Raises:
            TypeError: As `GPT.forward`.
            ValueError: As `GPT.forward`, or if a text holds nothing but padding, or padding stands
                anywhere but at its end.
        """
        return self.head(last_hidden(self.model, token_ids))

    def loss(self, token_ids: Int[Tensor, "B T"], labels: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """Return how surprised it is by the right classes, in nats a text, on average.

        Raises:
            TypeError: As `forward`.
            ValueError: As `forward`, or if the labels are not one a text, or no classes.
        """
        self._check_labels(token_ids, labels)
        return F.cross_entropy(self(token_ids), labels)

    @torch.inference_mode()
    def predict(self, token_ids: Int[Tensor, "B T"]) -> Float[Tensor, "B C"]:
        """Say how likely each text is of which class, without dropout."""
        was_training = self.training
        try:
            return self.eval()(token_ids).softmax(dim=-1)
        finally:
            self.train(was_training)

    def _check_labels(self, token_ids: Tensor, labels: Tensor) -> None:
        """Refuse labels that are not one class a text."""
        if labels.shape != token_ids.shape[:1]:
            raise ValueError(
                f"labels of shape {tuple(labels.shape)} came for {len(token_ids)} texts; give each "
                "text one"
            )
        outside = (labels < 0) | (labels >= self.num_classes)
        if outside.any():
            raise ValueError(
                f"label {int(labels[outside][0])} is none of the {self.num_classes} classes, which "
                f"are 0 to {self.num_classes - 1}; renumber the labels, or ask for more classes"
            )


def encode_texts(tokenizer: Tokenizer, texts: Iterable[str]) -> Int[Tensor, "B T"]:
    """Turn texts into the rows that a `Classifier` reads: each between two ends of text.

    Raises:
        ValueError: If there is no text, or one is empty.
    """
    end = tokenizer.special_tokens[END_OF_TEXT]
    rows = [tokenizer.encode_ordinary(text) for text in texts]
    if not rows or not all(rows):
        raise ValueError("there is no text, or an empty one; give each at least one character")
    return _filled([[end, *row, end] for row in rows], PADDING)


PARTS = ("head", "last block", "whole")
"""What of a `Classifier` can be chosen to learn."""


def choose_trained(classifier: Classifier, part: str) -> None:
    """Let only a part of a classifier learn.

    Args:
        classifier: The classifier.
        part: "head" for the new head alone; "last block" for the head, the GPT's last block and
            its last norm; "whole" for everything.

    Raises:
        ValueError: If it is none of the `PARTS`.
    """
    if part not in PARTS:
        raise ValueError(f"{part!r} cannot be chosen to learn; choose one of {', '.join(PARTS)}")
    classifier.requires_grad_(part == "whole")
    classifier.head.requires_grad_(True)
    if part == "last block":
        classifier.model.blocks[-1].requires_grad_(True)
        classifier.model.final_norm.requires_grad_(True)


def num_trained(module: nn.Module) -> int:
    """Count the numbers that training will change."""
    return sum(row.numel() for row in module.parameters() if row.requires_grad)


def _check_padding(is_token: Tensor) -> None:
    """Refuse texts without a token, and padding inside of one."""
    if not is_token[:, 0].all():
        raise ValueError("a text begins with padding; put the padding behind the text")
    if (is_token[:, 1:] & ~is_token[:, :-1]).any():
        raise ValueError("padding stands inside of a text; put it behind the text")


# --- chats --------------------------------------------------------------------------------------

ROLES = ("system", "user", "assistant")
"""Whoever runs the model, whoever uses it, and the model itself."""


class Message(NamedTuple):
    """What one side says.

    Attributes:
        role: One of `ROLES`.
        content: The text.
    """

    role: str
    content: str


class ChatRow(NamedTuple):
    """A chat as tokens, and which of them are learned.

    Attributes:
        token_ids: All that was said.
        is_learned: For each token whether the model is to learn to say it.
    """

    token_ids: list[int]
    is_learned: list[bool]


def encode_chat(
    tokenizer: Tokenizer, messages: Sequence[Message], *, learn_prompt: bool = False
) -> ChatRow:
    """Turn a chat into tokens, of which those that the assistant says are to be learned.

    Args:
        tokenizer: The model's.
        messages: What was said, in order.
        learn_prompt: Whether everything is learned, what the user says, too.

    Raises:
        ValueError: If there is no message, one is empty, or its role is none of `ROLES`.

    >>> from gptbook.models import load
    >>> _, tokenizer = load("littletown")
    >>> chat = [Message("user", "Who has the pear?"), Message("assistant", "Max has it.")]
    >>> token_ids, is_learned = encode_chat(tokenizer, chat)
    >>> tokenizer.decode(token_ids)
    '<|endoftext|>User: Who has the pear?<|endoftext|>Assistant: Max has it.<|endoftext|>'
    >>> tokenizer.decode([i for i, learned in zip(token_ids, is_learned) if learned])
    ' Max has it.<|endoftext|>'
    """
    _check_messages(messages)
    end = tokenizer.special_tokens[END_OF_TEXT]
    row = ChatRow([end], [False])
    for role, content in messages:
        head = tokenizer.encode_ordinary(_head(role))
        said = [*tokenizer.encode_ordinary(f" {content}"), end]
        row.token_ids.extend(head + said)
        is_learned = learn_prompt or role == "assistant"
        row.is_learned.extend([learn_prompt] * len(head) + [is_learned] * len(said))
    return row


def encode_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """Turn a chat into tokens after which it is for the assistant to speak.

    Raises:
        ValueError: As `encode_chat`, or if the assistant has had the last word.
    """
    row = encode_chat(tokenizer, messages)
    if messages[-1].role == "assistant":
        raise ValueError("the assistant has had the last word; add what the user says to it")
    return row.token_ids + tokenizer.encode_ordinary(_head("assistant"))


def chat_batch(rows: Sequence[ChatRow]) -> Batch:
    """Lay chats side by side: what is read, and what is predicted, `IGNORED` where nothing is.

    >>> chat_batch([ChatRow([5, 6, 7], [False, True, True])])
    (tensor([[5, 6]]), tensor([[6, 7]]))
    """
    targets = [
        [i if learned else IGNORED for i, learned in zip(*row, strict=True)][1:] for row in rows
    ]
    return _filled([row.token_ids[:-1] for row in rows], 0), _filled(targets, IGNORED)


def chat_batches(
    rows: Iterable[ChatRow], batch_size: int, seed: int = 0, *, pool: int = 24
) -> Iterator[Batch]:
    """Lay chats side by side as they come, those of about the same length in one batch.

    Args:
        rows: The chats; what is left when they end is left out.
        batch_size: How many make a batch.
        seed: Decides the order of the batches.
        pool: Among how many batches' worth of chats those of like length are sought.
    """
    order = random.Random(seed)
    some: list[ChatRow] = []
    for row in rows:
        some.append(row)
        if len(some) == batch_size * pool:
            some.sort(key=lambda row: len(row.token_ids))
            starts = range(0, len(some), batch_size)
            for start in order.sample(starts, len(starts)):
                yield chat_batch(some[start : start + batch_size])
            some = []


def reply(
    model: GPT,
    tokenizer: Tokenizer,
    chats: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int | None = None,
    batch_size: int = 50,
    sampling: Filter | None = None,
    seed: int = 0,
) -> list[str]:
    """Say what the assistant answers to each chat.

    Args:
        model: A GPT that has learned to answer.
        tokenizer: Its tokenizer.
        chats: What was said so far, by the user last.
        max_new_tokens: Where an answer ends at the latest; by default where the context does.
        batch_size: How many chats are answered side by side.
        sampling: What to draw from; by default the most probable token is taken.
        seed: Decides what is drawn.

    Raises:
        ValueError: As `encode_prompt`, or if a chat leaves no room for an answer.
    """
    end = tokenizer.special_tokens[END_OF_TEXT]
    prompts = [encode_prompt(tokenizer, chat) for chat in chats]
    for number, prompt in enumerate(prompts):
        if len(prompt) >= model.context_length:
            raise ValueError(
                f"chat {number} has {len(prompt)} tokens, and with its answer it must fit into the "
                f"{model.context_length} that the model reads; shorten it, or leave out its "
                "oldest messages"
            )
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    said = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        some = order[start : start + batch_size]
        room = model.context_length - max(len(prompts[number]) for number in some)
        rows = generate(
            model,
            [prompts[number] for number in some],
            max_new_tokens=room if max_new_tokens is None else min(room, max_new_tokens),
            stop=[end],
            sampling=sampling,
            seed=seed + start,
        )
        for number, row in zip(some, rows, strict=True):
            said[number] = tokenizer.decode([i for i in row if i != end]).removeprefix(" ")
    return said


def _head(role: str) -> str:
    """Give what stands before a message."""
    return f"{role.capitalize()}:"


def _check_messages(messages: Sequence[Message]) -> None:
    """Refuse what is no chat."""
    if not messages:
        raise ValueError("no message came; pass at least one, such as Message('user', 'Hello.')")
    for number, (role, content) in enumerate(messages):
        if role not in ROLES:
            raise ValueError(
                f"message {number} is of the role {role!r}; choose one of {', '.join(ROLES)}"
            )
        if not content.strip():
            raise ValueError(f"message {number}, of the {role}, is empty; put a text into it")


def _filled(rows: Sequence[Sequence[int]], filler: int) -> Int[Tensor, "B T"]:
    """Lay rows of different lengths side by side, filled up to the longest."""
    length = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (length - len(row))] for row in rows])


# --- what was forgotten -------------------------------------------------------------------------


@runtime_checkable
class Known(Protocol):
    """A text whose exact probability is known, such as a story of Littletown."""

    @property
    def text(self) -> str:
        """What is written."""

    @property
    def log_probability(self) -> float:
        """How likely it is, in nats."""


@torch.inference_mode()
def nats_above_floor(
    model: GPT, tokenizer: Tokenizer, stories: Sequence[Known], *, batch_size: int = 50
) -> Float[Tensor, " N"]:
    """Say for each story how much more a model pays for it than it has to, in nats.

    Once, averaged over stories of another seed, that is how far the model is from the best there
    can be; before and after a fine-tuning, it is how much the model has forgotten.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        stories: Texts with their exact probabilities; each is read from one end of text to the
            next.
        batch_size: How many are read side by side.
    """
    end = tokenizer.special_tokens[END_OF_TEXT]
    was_training = model.training
    model.eval()
    paid = []
    for start in range(0, len(stories), batch_size):
        some = stories[start : start + batch_size]
        rows = [[end, *tokenizer.encode_ordinary(story.text), end] for story in some]
        targets = _filled([row[1:] for row in rows], IGNORED)
        logits = model(_filled([row[:-1] for row in rows], 0)).mT.double()
        each = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")
        paid.append(each.sum(dim=1))
    model.train(was_training)
    floors = torch.tensor([-story.log_probability for story in stories], dtype=torch.float64)
    return torch.cat(paid) - floors


# --- low-rank corrections -----------------------------------------------------------------------

LORA_TARGETS = ("query_key_value", "output", "expand", "contract")
"""The linear layers of a block, by the names that they have in attention and feed-forward."""


class LoRALinear(nn.Module):
    """A linear layer as it was, and beside it a correction that is learned.

    The correction is the product of two narrow matrices, `up` times `down`, of which `up` begins at
    zero, so that at first nothing is corrected.

    Args:
        base: The layer; its numbers stay as they are.
        rank: How many directions the correction has.
        alpha: The correction is multiplied by `alpha / rank`; by default by 1.
        dropout: Probability with which, in training, an input to the correction is dropped.

    Raises:
        TypeError: If `rank` is not a whole number.
        ValueError: If it is less than 1, `alpha` is not above 0, or `dropout` is no probability.

    References:
        Hu et al. (2021), section 4.1.

    >>> layer = LoRALinear(nn.Linear(8, 6), rank=2)
    >>> torch.equal(layer(torch.ones(1, 8)), layer.base(torch.ones(1, 8)))
    True
    """

    def __init__(
        self, base: nn.Linear, *, rank: int, alpha: float | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if isinstance(rank, bool) or not isinstance(rank, int):
            raise TypeError(f"rank must be a whole number, not {rank!r}")
        if rank < 1:
            raise ValueError(f"rank must be at least 1, not {rank}; 4 to 64 is usual")
        alpha = float(rank) if alpha is None else float(alpha)
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha must be above 0, not {alpha}; the rank, or twice it, is usual")
        check_dropout(dropout)
        self.base = base.requires_grad_(False)
        self.rank, self.alpha, self.dropout = rank, alpha, dropout
        self.down = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.up = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    @property
    def scale(self) -> float:
        """What the correction is multiplied by."""
        return self.alpha / self.rank

    @property
    def in_features(self) -> int:
        """How wide a vector comes in."""
        return self.base.in_features

    @property
    def weight(self) -> Float[Tensor, "O I"]:
        """The matrix as corrected."""
        return self.base.weight + self.scale * (self.up @ self.down)

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        """Apply the layer, and add the correction."""
        seen = F.dropout(x, self.dropout, self.training) if self.dropout else x
        return self.base(x) + self.scale * F.linear(F.linear(seen, self.down), self.up)

    def extra_repr(self) -> str:
        """Show the settings where PyTorch prints the module."""
        return f"rank={self.rank}, alpha={self.alpha}, dropout={self.dropout}"


def add_lora(
    model: nn.Module,
    *,
    rank: int,
    alpha: float | None = None,
    dropout: float = 0.0,
    targets: Sequence[str] = LORA_TARGETS,
) -> None:
    """Freeze a model, and put a correction beside each of its linear layers of these names.

    Args:
        model: The model; it is changed in place.
        rank: How many directions each correction has.
        alpha: See `LoRALinear`.
        dropout: See `LoRALinear`.
        targets: The last part of the layers' names.

    Raises:
        TypeError: As `LoRALinear`.
        ValueError: As `LoRALinear`, or if the model has corrections already, or no such layer.
    """
    if _corrections(model):
        raise ValueError("the model has corrections already; merge them first with merge_lora")
    places = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if name in targets and isinstance(layer, nn.Linear)
    ]
    if missing := [name for name in targets if name not in {name for _, name, _ in places}]:
        raise ValueError(
            f"the model has no linear layer called {', '.join(missing)}; a block of a GPT has "
            f"{', '.join(LORA_TARGETS)}"
        )
    made = [LoRALinear(row, rank=rank, alpha=alpha, dropout=dropout) for _, _, row in places]
    model.requires_grad_(False)
    for (parent, name, _), layer in zip(places, made, strict=True):
        layer.down.requires_grad_(True)
        layer.up.requires_grad_(True)
        setattr(parent, name, layer)


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Add each correction to its matrix, and leave plain linear layers behind, ready to learn.

    Raises:
        ValueError: If the model has no corrections.
    """
    places = _places(model)
    if not places:
        raise ValueError("the model has no corrections to merge; add_lora makes them")
    for parent, name, layer in places:
        layer.base.weight.copy_(layer.weight)
        setattr(parent, name, layer.base)
    model.requires_grad_(True)


def remove_lora(model: nn.Module) -> None:
    """Take the corrections away: what is left is, to the last bit, the model before `add_lora`.

    Raises:
        ValueError: If the model has no corrections.
    """
    places = _places(model)
    if not places:
        raise ValueError("the model has no corrections to remove; add_lora makes them")
    for parent, name, layer in places:
        setattr(parent, name, layer.base)
    model.requires_grad_(True)


def save_lora(model: nn.Module, path: str | Path) -> None:
    """Write a model's corrections, and which model they correct, to one small safetensors file.

    The file appears whole or not at all.

    Raises:
        OSError: If it cannot be written.
        ValueError: If the model has no corrections.
    """
    corrections = _corrections(model)
    if not corrections:
        raise ValueError("the model has no corrections to save; add_lora makes them")
    layer = next(iter(corrections.values()))
    metadata = {
        "rank": str(layer.rank),
        "alpha": repr(layer.alpha),
        "targets": " ".join(sorted({name.rpartition(".")[2] for name in corrections})),
        "model": fingerprint(model),
    }
    tensors = {
        f"{name}.{side}": getattr(row, side).detach().cpu().contiguous()
        for name, row in corrections.items()
        for side in ("down", "up")
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda place: save_file(tensors, place, metadata=metadata))


def load_lora(model: nn.Module, path: str | Path) -> None:
    """Put saved corrections beside the layers of the model that they were learned for.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged, holds no corrections, or those of another model; or if the
            model has corrections already. The model is then as it was.
    """
    tensors, told = read_tensors(path)
    if told.keys() != {"rank", "alpha", "targets", "model"}:
        raise ValueError(f"{path} holds no corrections; save_lora writes such files")
    if told["model"] != fingerprint(model):
        raise ValueError(
            f"{path} corrects another model than this one; load the weights that it was learned on"
        )
    if _corrections(model):
        raise ValueError("the model has corrections already; merge them first with merge_lora")
    targets = told["targets"].split()
    wanted = {
        f"{name}.{side}": shape
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and name.rpartition(".")[2] in targets
        for side, shape in (
            ("down", (int(told["rank"]), layer.in_features)),
            ("up", (layer.out_features, int(told["rank"]))),
        )
    }
    came = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if came != wanted:
        differing = sorted(name for name in {*came, *wanted} if came.get(name) != wanted.get(name))
        raise ValueError(f"{path} does not fit the model in {', '.join(differing)}; save it again")
    add_lora(model, rank=int(told["rank"]), alpha=float(told["alpha"]), targets=targets)
    for name, layer in _corrections(model).items():
        layer.down.data.copy_(tensors[f"{name}.down"])
        layer.up.data.copy_(tensors[f"{name}.up"])


def fingerprint(model: nn.Module) -> str:
    """Give 16 characters that no other model has: a digest of its weights without corrections."""
    digest = hashlib.sha256()
    for name, tensor in sorted(_base_parameters(model).items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _base_parameters(model: nn.Module) -> Mapping[str, Tensor]:
    """List a model's parameters under the names that they have without corrections."""
    corrected = _corrections(model)
    skipped = {f"{name}.{side}" for name in corrected for side in ("down", "up")}
    return {
        name.replace(".base.", "."): row
        for name, row in model.named_parameters()
        if name not in skipped
    }


def _corrections(model: nn.Module) -> dict[str, LoRALinear]:
    """Find the layers that are corrected, by name."""
    return {name: row for name, row in model.named_modules() if isinstance(row, LoRALinear)}


def _places(model: nn.Module) -> list[tuple[nn.Module, str, LoRALinear]]:
    """Find the layers that are corrected, each with its parent and its name there."""
    return [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, LoRALinear)
    ]
