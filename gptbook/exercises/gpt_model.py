"""Exercises of chapter 6: sizes, counts, the head, and a test for models that read ahead."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gptbook.exercises import Exercise, compare

_GPT3_TABLE = [
    ("Small", 12, 768, 12, 64),
    ("Medium", 24, 1_024, 16, 64),
    ("Large", 24, 1_536, 16, 96),
    ("XL", 24, 2_048, 24, 128),
    ("2.7B", 32, 2_560, 32, 80),
    ("6.7B", 32, 4_096, 32, 128),
    ("13B", 40, 5_140, 40, 128),
    ("175B", 96, 12_288, 96, 128),
]


def _audit(rows: Sequence[tuple[str, int, int, int, int]]) -> list[str]:
    """Name the rows in which the heads together are not as wide as the model."""
    return [name for name, _, d_model, heads, head_dim in rows if heads * head_dim != d_model]


def _judge_audit(expected: list[str], got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize a list of the rows that do add up, and a test that only divides."""
    difference = compare(expected, got)
    if difference is None:
        return None
    (rows,) = arguments
    mistakes = {
        "these are the rows that do add up": [row[0] for row in rows if row[0] not in expected],
        "a width that can be divided by the heads may still give heads of another width": [
            name for name, _, d_model, heads, _ in rows if d_model % heads
        ],
        "the layers have nothing to do with it": [
            name for name, layers, d_model, _, head_dim in rows if layers * head_dim != d_model
        ],
        "return the names, not the whole rows": [row for row in rows if row[0] in expected],
    }
    return _name_mistake(mistakes, got, difference)


def _num_layers(num_parameters: int, vocab_size: int, context_length: int, d_model: int) -> int:
    """Find how many blocks a model of GPT-2's composition has from the count of its parameters."""
    around = (vocab_size + context_length + 2) * d_model
    layers, rest = divmod(num_parameters - around, 12 * d_model**2 + 13 * d_model)
    if rest or layers < 1:
        raise ValueError(f"no number of blocks gives {num_parameters:,} parameters")
    return layers


def _judge_layers(expected: int, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Recognize biases and norms that were forgotten, and a number that is not whole."""
    difference = compare(expected, got)
    if difference is None:
        return None if isinstance(got, int) else f"a whole number of blocks was expected, not {got}"
    num_parameters, vocab_size, context_length, d_model = arguments
    tables = (vocab_size + context_length) * d_model
    mistakes = {
        "the embedding counts once, for the head uses it again": (
            (num_parameters - tables - vocab_size * d_model) // (12 * d_model**2 + 13 * d_model)
        ),
        "the biases and norms of a block are missing": (
            (num_parameters - tables) // (12 * d_model**2)
        ),
        "take the tables away first": num_parameters // (12 * d_model**2 + 13 * d_model),
    }
    return _name_mistake(mistakes, got, difference)


def _count(d_model: int, num_layers: int, vocab_size: int, context_length: int) -> int:
    """Count the parameters of a model of GPT-2's composition."""
    tables = (vocab_size + context_length + 2) * d_model
    return tables + num_layers * (12 * d_model**2 + 13 * d_model)


def _widest(budget: int, num_layers: int, vocab_size: int, context_length: int) -> int:
    """Find the largest multiple of 64 whose model has at most `budget` parameters."""
    d_model = 0
    while _count(d_model + 64, num_layers, vocab_size, context_length) <= budget:
        d_model += 64
    return d_model


def _judge_widest(expected: int, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Say whether the width is too large, too small or no multiple of 64, and by how much."""
    difference = compare(expected, got)
    if difference is None or isinstance(got, bool) or not isinstance(got, int):
        return difference
    budget, *sizes = arguments
    if got % 64 or got < 0:
        return f"the width must be a multiple of 64, or 0; {difference}"
    if got > expected:
        needed = _count(got, *sizes)
        return f"{got} needs {needed:,} parameters and the budget is {budget:,}; {difference}"
    needed = _count(got + 64, *sizes)
    return f"{got + 64} fits as well, with {needed:,} of {budget:,} parameters; {difference}"


def _fold(weight: Tensor, bias: Tensor, head: Tensor) -> tuple[Tensor, Tensor]:
    """Move a norm's weight (D) and bias (D) into the head (V, D) behind it."""
    return head * weight, head @ bias


def _judge_fold(
    expected: tuple[Tensor, Tensor], got: Any, arguments: tuple[Any, ...]
) -> str | None:
    """Say which of the two is wrong, and recognize rows scaled for columns and a bias scaled."""
    if isinstance(got, Tensor):
        return "two tensors were expected (matrix, bias), but one came"
    difference = compare(expected, got)
    if difference is None or not isinstance(got, tuple | list) or len(got) != 2:
        return difference
    weight, bias, head = arguments
    wrong_matrix, wrong_bias = (compare(*pair) for pair in zip(expected, got, strict=True))
    if wrong_matrix and not compare(head / weight, got[0]):
        return (
            f"z is multiplied by g before the head reads it, so the head takes g on; {difference}"
        )
    if wrong_matrix and not compare(expected[0].mT, got[0]):
        return f"the matrix is transposed, it should be (V, D) like the head; {difference}"
    if wrong_matrix and not compare(head, got[0]):
        return f"the matrix is still the old head; {difference}"
    if wrong_matrix:
        return f"the matrix: {wrong_matrix}"
    if not compare(head @ (weight * bias), got[1]):
        return f"b is added after g has been multiplied, so g does not touch it; {wrong_bias}"
    if not compare(bias, got[1]):
        return f"the norm's bias has one number a channel, the head's one a token; {wrong_bias}"
    return f"the bias: {wrong_bias}"


@dataclass(frozen=True)
class _Suspect:
    """A small model, honest or not, that shows itself by a name in a report."""

    name: str
    peek: Callable[[Tensor], Tensor] | None = None
    vocab_size: int = 11

    def __call__(self, token_ids: Tensor) -> Tensor:
        """Score by a sum over the past with decaying weights, and by what is seen ahead."""
        num_tokens = token_ids.shape[1]
        table = torch.randn(self.vocab_size, self.vocab_size, generator=_fixed())
        scores = table[token_ids]  # (B, T, V)
        place = torch.arange(num_tokens)
        past = 0.9 ** (place[:, None] - place).clamp(min=0) * (place[:, None] >= place)
        logits = past @ scores
        if self.peek is None:
            return logits
        return logits + torch.einsum("bts,bsv->btv", self.peek(token_ids), scores)

    def __repr__(self) -> str:
        return f"<{self.name}>"


def _fixed() -> torch.Generator:
    """Start the same random numbers for everyone."""
    return torch.Generator().manual_seed(0)


def _peeks(token_ids: Tensor) -> Tensor:
    """Weights (B, T, T) of nothing, for a peek to fill in."""
    batch_size, num_tokens = token_ids.shape
    return torch.zeros(batch_size, num_tokens, num_tokens)


def _one_ahead(token_ids: Tensor) -> Tensor:
    """Let every place see its successor, a little."""
    weights = _peeks(token_ids)
    return weights + 0.1 * torch.ones_like(weights[0]).triu(1).tril(1)


def _last_from_last_but_one(token_ids: Tensor) -> Tensor:
    """Let only the last place but one see what comes, the last token."""
    weights = _peeks(token_ids)
    weights[:, -2, -1] = 0.1
    return weights


def _first_sees_second(token_ids: Tensor) -> Tensor:
    """Let only the first place see what comes, and only the second token."""
    weights = _peeks(token_ids)
    weights[:, 0, 1] = 0.1
    return weights


def _first_sees_last(token_ids: Tensor) -> Tensor:
    """Let only the first place see the last token, with nothing between."""
    weights = _peeks(token_ids)
    weights[:, 0, -1] = 0.1
    return weights


def _two_ahead_in_the_middle(token_ids: Tensor) -> Tensor:
    """Let one place in the middle see the token after the next."""
    weights, middle = _peeks(token_ids), token_ids.shape[1] // 2
    weights[:, middle - 1, middle + 1] = 0.1
    return weights


def _future_of_even_tokens(token_ids: Tensor) -> Tensor:
    """Let places with an even token see their successor."""
    return _one_ahead(token_ids) * (token_ids % 2 == 0)[:, :, None]


def _looks_ahead(model: Callable[[Tensor], Tensor], vocab_size: int, num_tokens: int) -> bool:
    """Say whether a change of some token moves a logit before it."""
    generator = _fixed()
    for _ in range(8):
        text = torch.randint(vocab_size, (1, num_tokens), generator=generator)
        logits = model(text)
        for place in range(1, num_tokens):
            changed = text.clone()
            changed[0, place] = (changed[0, place] + 1) % vocab_size
            if not torch.allclose(logits[:, :place], model(changed)[:, :place], atol=1e-6):
                return True
    return False


def _judge_test(expected: bool, got: Any, arguments: tuple[Any, ...]) -> str | None:
    """Say whether an honest model was accused or a cheat got through."""
    if isinstance(got, Tensor) and got.dtype == torch.bool and got.numel() == 1:
        got = got.item()
    difference = compare(expected, got)
    if difference is None or not isinstance(got, bool):
        return difference
    if got:
        return (
            f"{arguments[0]} is honest; a token may move its own logits and later ones, "
            f"and rounding is no look ahead; {difference}"
        )
    return f"{arguments[0]} got through; {difference}"


def _name_mistake(mistakes: dict[str, Any], got: Any, difference: str) -> str:
    """Put the first mistake that gives this very answer in front of the difference."""
    for mistake, answer in mistakes.items():
        if not compare(answer, got):
            return f"{mistake}; {difference}"
    return difference


EXERCISES = {
    "audit": Exercise(
        _audit,
        cases=lambda: [
            ([("good", 2, 8, 2, 4), ("bad", 2, 8, 2, 3)],),
            ([("layers", 4, 8, 2, 4), ("divides", 2, 12, 2, 5), ("odd", 3, 7, 2, 3)],),
            ([("a", 1, 6, 3, 2)],),
            (_GPT3_TABLE,),
        ],
        judge=_judge_audit,
    ),
    "num_layers": Exercise(
        _num_layers,
        cases=lambda: [
            (124_439_808, 50_257, 1_024, 768),
            (1_557_611_200, 50_257, 1_024, 1_600),
            (_count(8, 40, 50, 16), 50, 16, 8),
            (_count(4, 1, 3, 2), 3, 2, 4),
            (117_000_000, 50_257, 1_024, 768),
            (_count(8, 3, 50, 16) + 1, 50, 16, 8),
            (_count(8, 0, 50, 16), 50, 16, 8),
        ],
        judge=_judge_layers,
        raises=(ValueError,) * 3,
    ),
    "widest": Exercise(
        _widest,
        cases=lambda: [
            (124_439_808, 12, 50_257, 1_024),
            (124_439_807, 12, 50_257, 1_024),
            (124_439_808, 6, 50_257, 1_024),
            (124_439_808, 48, 50_257, 1_024),
            (1_000_000, 2, 50_257, 1_024),
            (_count(128, 3, 100, 16), 3, 100, 16),
        ],
        judge=_judge_widest,
    ),
    "fold": Exercise(
        _fold,
        cases=lambda: [
            (torch.tensor([2.0, 1.0]), torch.tensor([0.5, 0.0]), torch.eye(2)),
            tuple(torch.randn(shape, generator=_fixed()) for shape in ((4,), (4,), (7, 4))),
            (torch.ones(3), torch.randn(3, generator=_fixed()), torch.arange(15.0).view(5, 3)),
            (torch.tensor([-1.0, 0.5, 3.0]), torch.zeros(3), torch.arange(9.0).view(3, 3)),
        ],
        judge=_judge_fold,
    ),
    "looks_ahead": Exercise(
        _looks_ahead,
        cases=lambda: [
            (_Suspect("honest model"), 11, 6),
            (_Suspect("cheat who sees one token ahead", _one_ahead), 11, 6),
            (
                _Suspect(
                    "cheat who sees the last token from the one before", _last_from_last_but_one
                ),
                11,
                6,
            ),
            (_Suspect("cheat whose first place sees the second", _first_sees_second), 11, 6),
            (_Suspect("cheat whose first place sees the last", _first_sees_last), 11, 6),
            (_Suspect("cheat who sees two ahead in the middle", _two_ahead_in_the_middle), 11, 7),
            (_Suspect("cheat who looks only from even tokens", _future_of_even_tokens), 11, 6),
            (_Suspect("honest model", vocab_size=3), 3, 2),
        ],
        judge=_judge_test,
    ),
}
