"""Greedy decoding with a cache, batch 1, beside `transformers.generate` on the same weights.

Ours is prepared once, by `kernels.lay_out` in float32 or by `kernels.quantize`, outside the time.
"""

from collections.abc import Callable

import torch
from transformers import GPT2LMHeadModel

from benchmarks.harness import Row, compare, same
from benchmarks.peers import Shape, gpt2_pair
from gptbook.generation import generate
from gptbook.kernels import lay_out, quantize
from gptbook.model import GPT

TITLE = "Decoding (layers x d_model x vocabulary x context; prompt 32, 64 new tokens)"
SMALLEST = Shape(4, 128, 512, 128, num_heads=4)
GPT2 = Shape(12, 768, 50_257, 1_024, num_heads=12)
PROMPT, NEW = 32, 64


def run() -> list[Row]:
    """Compare at the smallest shape, and at GPT-2's in float32 and with weights of 8 bits."""
    return [*rows(SMALLEST, 15, target=3.0), *rows(GPT2, 7, target=1.05, int8_target=1.7)]


def rows(
    shape: Shape,
    rounds: int,
    *,
    target: float | None = None,
    int8_target: float | None = None,
    num_new: int = NEW,
) -> list[Row]:
    """Compare, after making sure that both write the same tokens."""
    model, peer = gpt2_pair(shape)
    model.eval(), peer.eval()
    prompt = torch.randint(shape.vocab_size, (1, PROMPT))
    ours, theirs = writer(lay_out(model), prompt, num_new), peer_writer(peer, prompt, num_new)
    if ours() != theirs():
        raise ValueError(f"{shape}: the two write different tokens; nothing to compare")
    found = [compare(f"{shape}, float32", ours, theirs, work=num_new, rounds=rounds, target=target)]
    if int8_target is not None:
        small = quantize(model)
        with torch.inference_mode():
            logits, exact = small(prompt), model(prompt)
        off = ((logits - exact).norm() / exact.norm()).item()
        same("int8 logits, relative to float32", off, 0.0, 0.05)
        found.append(
            compare(
                f"{shape}, int8 weights",
                writer(small, prompt, num_new),
                theirs,
                work=num_new,
                rounds=rounds,
                target=int8_target,
                note=f"logits off by {off:.1%}",
            )
        )
    return found


def writer(model: GPT, prompt: torch.Tensor, num_new: int) -> Callable[[], list[int]]:
    """Make our way of writing."""
    return lambda: generate(model, prompt.tolist(), max_new_tokens=num_new)[0]


def peer_writer(
    model: GPT2LMHeadModel, prompt: torch.Tensor, num_new: int
) -> Callable[[], list[int]]:
    """Make their way of writing."""
    mask = torch.ones_like(prompt)

    def write() -> list[int]:
        with torch.inference_mode():
            rows = model.generate(
                prompt, attention_mask=mask, max_new_tokens=num_new, do_sample=False
            )
        return rows[0, prompt.shape[1] :].tolist()

    return write
