"""Multimodality: a GPT that is shown pictures, and says in words what it sees.

Chapter 17 draws pictures of Littletown (`gptbook.littletown.pictures`), so that what is right to
say of each is known. An encoder cuts a picture into patches and makes a vector of each, a
projection turns these into vectors such as the GPT has for its tokens, and the GPT reads them
before the text. It learns with the loop of `gptbook.training`: a batch is one tensor of whole
numbers, a row the picture's pixels, from 0 to 255, and then its tokens. It speaks with
`gptbook.generation`, through `PictureGPT.viewing`.

Shapes: B pictures, Z pixels along a side, N patches, P numbers in a patch, T tokens,
R = 3 Z Z + T, E the encoder's width, D the GPT's, H heads, L blocks, V vocab_size.

References:
    Dosovitskiy et al. (2021), "An Image is Worth 16x16 Words: Transformers for Image Recognition at
    Scale". https://arxiv.org/abs/2010.11929
    Liu et al. (2023), "Visual Instruction Tuning", section 4.1 (the projection).
    https://arxiv.org/abs/2304.08485
"""

import json
from collections.abc import Iterable, Sequence
from importlib.resources import as_file, files
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn

from gptbook import model as gpt_files
from gptbook.attention import KVCache
from gptbook.finetuning import ChatRow, chat_batch
from gptbook.generation import generate
from gptbook.kernels import linear_cross_entropy
from gptbook.layers import FeedForward, LayerNorm
from gptbook.littletown.pictures import CELL, SIZE
from gptbook.model import GPT, differences, read_tensors, write_whole
from gptbook.seq2seq import CrossAttention
from gptbook.tokenizer import END_OF_TEXT, Tokenizer
from gptbook.training import Batch

# --- looking ------------------------------------------------------------------------------------


def cut_patches(pictures: Float[Tensor, "B 3 Z Z"], size: int) -> Float[Tensor, "B N P"]:
    """Cut pictures into square patches, row by row, and lay out the numbers of each.

    Of a patch come first all its red, then all its green, then all its blue values.

    Raises:
        TypeError: If what came is no tensor of floats.
        ValueError: If it is no batch of square color pictures, or patches of this size do not fill
            them.

    >>> cut_patches(torch.zeros(2, 3, 48, 48), size=16).shape
    torch.Size([2, 9, 768])
    """
    if not isinstance(pictures, Tensor) or not pictures.is_floating_point():
        kind = pictures.dtype if isinstance(pictures, Tensor) else type(pictures).__name__
        raise TypeError(
            f"pictures must be a tensor of floats from 0 to 1, not {kind}; write pictures / 255"
        )
    shape = tuple(pictures.shape)
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or not pictures.numel():
        raise ValueError(
            f"pictures of shape {shape} came, but they must be (pictures, 3 colors, side, side); "
            "give a single one a batch axis with picture[None], and put the colors first"
        )
    if size < 1 or shape[2] % size:
        raise ValueError(
            f"patches of {size} by {size} pixels do not fill a picture of {shape[2]} by "
            f"{shape[2]}; choose a size that divides its side"
        )
    num = shape[2] // size
    patches = pictures.reshape(-1, 3, num, size, num, size)
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


class EncoderBlock(nn.Module):
    """A block as GPT-2's, but every patch sees every other."""

    def __init__(self, *, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.attention = CrossAttention(d_model=d_model, num_heads=num_heads)
        self.attention_norm = LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model=d_model, activation="gelu")
        self.feed_forward_norm = LayerNorm(d_model)

    def forward(self, x: Float[Tensor, "B N E"]) -> Float[Tensor, "B N E"]:
        """Add to each vector what attention and the feed-forward network make of it."""
        normed = self.attention_norm(x)
        x = x + self.attention(normed, self.attention.read(normed))
        return x + self.feed_forward(self.feed_forward_norm(x))


class PatchEncoder(nn.Module):
    """A vision Transformer (ViT): a picture in, one vector for each of its patches out.

    Args:
        size: How many pixels wide and high every picture is.
        patch_size: The same of a patch.
        d_model: Width of the vectors.
        num_heads: How many attention heads a block has.
        num_layers: How many blocks there are.

    Raises:
        ValueError: If the patches do not fill a picture, or the heads not the width.

    References:
        Dosovitskiy et al. (2021), section 3.1; without the class token, as all patches are used.

    >>> PatchEncoder(d_model=16, num_heads=2, num_layers=1)(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 16, 16])
    """

    def __init__(
        self,
        *,
        size: int = SIZE,
        patch_size: int = CELL,
        d_model: int = 128,
        num_heads: int = 4,
        num_layers: int = 2,
    ) -> None:
        super().__init__()
        self.config = {
            "size": size,
            "patch_size": patch_size,
            "d_model": d_model,
            "num_heads": num_heads,
            "num_layers": num_layers,
        }
        self.size, self.patch_size, self.d_model = size, patch_size, d_model
        _, self.num_patches, d_patch = cut_patches(torch.empty(1, 3, size, size), patch_size).shape
        self.embed = nn.Linear(d_patch, d_model)
        self.positions = nn.Parameter(0.02 * torch.randn(self.num_patches, d_model))
        self.blocks = nn.ModuleList(
            EncoderBlock(d_model=d_model, num_heads=num_heads) for _ in range(num_layers)
        )
        self.final_norm = LayerNorm(d_model)

    def forward(self, pictures: Float[Tensor, "B 3 Z Z"]) -> Float[Tensor, "B N E"]:
        """Make a vector of each patch, which knows the whole picture.

        Raises:
            TypeError: As `cut_patches`.
            ValueError: As `cut_patches`, or if the pictures are of another size, or their numbers
                not from 0 to 1.
        """
        patches, side = cut_patches(pictures, self.patch_size), pictures.shape[-1]
        if side != self.size:
            raise ValueError(
                f"a picture of {side} by {side} pixels came, but this encoder has learned to look "
                f"at {self.size} by {self.size}; resize it, as with "
                f"torch.nn.functional.interpolate(pictures, {self.size})"
            )
        low, high = patches.detach().aminmax()
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"the numbers of the pictures run from {low:g} to {high:g}, not from 0 to 1; of "
                "bytes, write pictures / 255"
            )
        x = self.embed(2 * patches - 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.final_norm(x)


# --- looking and reading ------------------------------------------------------------------------


class PictureGPT(nn.Module):
    """A GPT that reads a picture before the text, one vector a patch, as it reads one a token.

    Args:
        gpt: What reads and writes. It is not copied.
        encoder: What looks.

    References:
        Liu et al. (2023), section 4.1.
    """

    def __init__(self, gpt: GPT, encoder: PatchEncoder) -> None:
        super().__init__()
        self.gpt, self.encoder = gpt, encoder
        self.projection = nn.Linear(encoder.d_model, gpt.config.d_model)

    @property
    def room(self) -> int:
        """How many tokens the model reads at most, after the picture."""
        return self.gpt.context_length - self.encoder.num_patches

    def see(self, pictures: Float[Tensor, "B 3 Z Z"]) -> Float[Tensor, "B N D"]:
        """Turn pictures into vectors of the kind that the GPT has for its tokens."""
        return self.projection(self.encoder(pictures))

    def join(
        self, pictures: Float[Tensor, "B 3 Z Z"], token_ids: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B NT D"]:
        """Lay what is seen before what is read: all that the GPT's first block gets.

        Raises:
            TypeError: As `GPT.forward` and `PatchEncoder.forward`.
            ValueError: As these two, or if pictures and texts are not as many, or a text is longer
                than the room behind the picture.
        """
        self.gpt._check_ids(token_ids, 0)
        seen = self.see(pictures)
        if len(pictures) != len(token_ids):
            raise ValueError(
                f"{len(pictures)} pictures came with {len(token_ids)} texts; give each text one"
            )
        if token_ids.shape[1] > self.room:
            raise ValueError(
                f"{token_ids.shape[1]} tokens do not fit behind a picture: its "
                f"{self.encoder.num_patches} patches leave room for {self.room}; shorten the text"
            )
        x = torch.cat([seen, self.gpt._embed(token_ids)], dim=1)
        return x if self.gpt.positions is None else self.gpt.positions(x, 0)

    def hidden(
        self, pictures: Float[Tensor, "B 3 Z Z"], token_ids: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """Return what the head reads, at the tokens. Errors are those of `join`."""
        x = self.join(pictures, token_ids)
        for block in self.gpt.blocks:
            x = block(x)
        return self.gpt.final_norm(x[:, self.encoder.num_patches :])

    def forward(
        self, pictures: Float[Tensor, "B 3 Z Z"], token_ids: Int[Tensor, "B T"]
    ) -> Float[Tensor, "B T V"]:
        """Score every token as the next one, at each of the text. Errors are those of `join`."""
        return self.gpt.logits(self.hidden(pictures, token_ids))

    def loss(self, rows: Int[Tensor, "B R"], targets: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
        """Return how surprised it is by the targets, in nats a token, on average.

        Args:
            rows: Pixels and tokens, as `view_batch` lays them out.
            targets: At each token the one that should come next, or `IGNORED`.
        """
        side = self.encoder.size
        pixels, token_ids = rows.split([3 * side * side, targets.shape[1]], dim=1)
        hidden = self.hidden(pixels.view(-1, 3, side, side) / 255, token_ids)
        return linear_cross_entropy(hidden.flatten(0, 1), self.gpt.head.weight, targets.flatten())

    @torch.no_grad()
    def looks(
        self, pictures: Float[Tensor, "B 3 Z Z"], token_ids: Int[Tensor, "B T"]
    ) -> Float[Tensor, "L B H T N"]:
        """Return how much each token attends to each patch, in every block and head.

        What is missing to 1 goes to the tokens of the text. Errors are those of `join`.
        """
        x, num, found = self.join(pictures, token_ids), self.encoder.num_patches, []
        for block in self.gpt._each_block():
            found.append(block.attention.weights(block.attention_norm(x))[:, :, num:, :num])
            x = block(x)
        return torch.stack(found)

    def viewing(self, pictures: Float[Tensor, "B 3 Z Z"]) -> "Viewing":
        """Give the functions of `gptbook.generation` a GPT that has seen these pictures.

        Each row of what it is given continues a text on the picture in that row.
        """
        return Viewing(self, pictures)


class ViewCache:
    """What one block remembers: the patches, and the text after them, which alone is counted."""

    def __init__(self, cache: KVCache) -> None:
        self.cache, self.num_patches = cache, len(cache)
        self.select_rows = cache.select_rows

    def __len__(self) -> int:
        """How many tokens are remembered."""
        return len(self.cache) - self.num_patches

    def truncate(self, length: int) -> None:
        """Forget every token from `length` on."""
        self.cache.truncate(self.num_patches + length)


class Viewing(nn.Module):
    """A GPT that has seen its pictures, one a row, and writes on."""

    def __init__(self, model: PictureGPT, pictures: Float[Tensor, "B 3 Z Z"]) -> None:
        super().__init__()
        self.gpt, self.context_length, self.vocab_size = model.gpt, model.room, model.gpt.vocab_size
        with torch.no_grad():
            x = model.see(pictures)
            self._seen = x if model.gpt.positions is None else model.gpt.positions(x, 0)

    @torch.no_grad()
    def new_caches(self, batch_size: int, context_length: int) -> list[ViewCache]:
        """Make a cache for each block, which remembers the picture and no text yet.

        Raises:
            ValueError: If there are not as many rows as pictures.
        """
        num_pictures, num_patches, _ = self._seen.shape
        if batch_size != num_pictures:
            raise ValueError(
                f"{batch_size} prompts came for {num_pictures} pictures; begin one for each"
            )
        caches, x = self.gpt.new_caches(batch_size, num_patches + context_length), self._seen
        for block, cache in zip(self.gpt.blocks, caches, strict=True):
            x = block(x, cache, 0)
        return [ViewCache(cache) for cache in caches]

    def forward(
        self, token_ids: Int[Tensor, "B T"], caches: list[ViewCache]
    ) -> Float[Tensor, "B T V"]:
        """Score every token as the next one, after the picture and what the caches hold."""
        return self.gpt(token_ids, [row.cache for row in caches])


# --- what is said -------------------------------------------------------------------------------


def encode_view(tokenizer: Tokenizer, answer: str, question: str = "") -> ChatRow:
    """Turn what is said of a picture into tokens, of which those of the answer are learned.

    Without a question the answer is a caption.

    >>> from gptbook.models import load
    >>> row = encode_view(load()[1], "It is red.", "What color is the hat?")
    >>> sum(row.is_learned), len(row.token_ids)
    (5, 13)
    """
    end = tokenizer.special_tokens[END_OF_TEXT]
    prompt = [end, *tokenizer.encode_ordinary(question)]
    said = [*tokenizer.encode_ordinary(f" {answer}" if question else answer), end]
    return ChatRow(prompt + said, [False] * len(prompt) + [True] * len(said))


def view_batch(pictures: Float[Tensor, "B 3 Z Z"], rows: Sequence[ChatRow]) -> Batch:
    """Lay pictures and what is said of them side by side as whole numbers, with the targets."""
    token_ids, targets = chat_batch(rows)
    return torch.cat([(255 * pictures).round().long().flatten(1), token_ids], dim=1), targets


def describe(
    model: PictureGPT,
    tokenizer: Tokenizer,
    pictures: Float[Tensor, "B 3 Z Z"],
    questions: Iterable[str] | None = None,
    *,
    max_new_tokens: int = 40,
) -> list[str]:
    """Say of each picture what it shows, or answer a question about it, by the likeliest tokens.

    Raises:
        TypeError: As `PatchEncoder.forward`.
        ValueError: As `PatchEncoder.forward`, or if there is not one question for each picture.
    """
    end = tokenizer.special_tokens[END_OF_TEXT]
    asked = [""] * len(pictures) if questions is None else list(questions)
    prompts = [[end, *tokenizer.encode_ordinary(question)] for question in asked]
    new = generate(model.viewing(pictures), prompts, max_new_tokens=max_new_tokens, stop=[end])
    return [tokenizer.decode([i for i in row if i != end]).strip() for row in new]


# --- files --------------------------------------------------------------------------------------

_EYES = "eyes.safetensors"


def _eyes(model: PictureGPT) -> dict[str, nn.Parameter]:
    """Name all that is not the GPT's."""
    return {name: row for name, row in model.named_parameters() if not name.startswith("gpt.")}


def save(
    model: PictureGPT, tokenizer: Tokenizer, folder: str | Path, dtype: torch.dtype = torch.float16
) -> None:
    """Write a model: the GPT as `gptbook.model.save` does, what looks as eyes.safetensors."""
    gpt_files.save(model.gpt, folder, dtype=dtype)
    tokenizer.save(Path(folder) / "tokenizer.json")
    tensors = {name: row.detach().to(dtype).contiguous() for name, row in _eyes(model).items()}
    told = {"encoder": json.dumps(model.encoder.config)}
    write_whole(Path(folder) / _EYES, lambda path: save_file(tensors, path, metadata=told))


def load(folder: str | Path | None = None) -> tuple[PictureGPT, Tokenizer]:
    """Load what `save` wrote, in float32 and ready to use; by default the book's littletown-eyes.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a file is damaged, or the files do not belong together.
    """
    if folder is None:
        with as_file(files("gptbook.models") / "littletown-eyes") as own:
            return load(own)
    tensors, told = read_tensors(Path(folder) / _EYES)
    if "encoder" not in told:
        raise ValueError(f"{_EYES} in {folder} does not say how its encoder is built; save again")
    model = PictureGPT(gpt_files.load(folder), PatchEncoder(**json.loads(told["encoder"])))
    if faults := differences(tensors, _eyes(model)):
        raise ValueError(f"{_EYES} in {folder} does not fit:\n" + "\n".join(faults))
    with torch.no_grad():
        for name, parameter in _eyes(model).items():
            parameter.copy_(tensors[name])
    return model.eval(), Tokenizer.load(Path(folder) / "tokenizer.json")
