"""The benchmarks compare what is the same, and write down what they found."""

import itertools
import re

import pytest
import torch
from torch.nn import functional as F

from benchmarks import decode, harness, littletown, loss_memory, train_step
from benchmarks.harness import Row, compare, report, same
from benchmarks.peers import Shape, gpt2_pair, llama_like
from gptbook.evaluation import IGNORED
from gptbook.model import GPT, ModernConfig
from gptbook.training import TrainingConfig
from tools import readers
from tools.make_models import Lesson, Recipe
from tools.readers import READERS

TINY = Shape(2, 16, 30, 40, num_heads=2)
MODERN = ModernConfig(
    vocab_size=30, context_length=12, d_model=16, num_heads=4, num_kv_heads=2, num_layers=2
)


def test_both_sides_of_a_step_have_the_same_loss_and_learn():
    ours, theirs = train_step.steps(TINY, batch_size=3)
    first = ours()
    assert first == pytest.approx(theirs(), abs=1e-5)
    for _ in range(20):
        last = ours()
        assert last == pytest.approx(theirs(), abs=1e-3)
    assert last < first


def test_a_step_is_compared_at_a_tiny_shape(capsys):
    row = train_step.step_row(TINY, batch_size=2, rounds=3, target=0.01)
    assert len(row.ratios) == 3
    assert row.verdict == "met"
    assert row.ours > 0
    assert "2 x 16 x 30 x 40 x 2" in capsys.readouterr().out


def test_both_sides_write_the_same_tokens_and_int8_is_close():
    exact, small = decode.rows(TINY, rounds=1, int8_target=0.01, num_new=4)
    assert exact.target is None
    assert re.fullmatch(r"met; logits off by \d\.\d%", small.verdict)


def test_both_ways_to_the_loss_are_compared():
    assert loss_memory.row(20, 8, 30, rounds=2).unit == "tokens/s"
    plain, chunked = (loss_memory.step(name, 20, 8, 30)() for name in ("plain", "chunked"))
    assert plain == pytest.approx(chunked, abs=1e-6)


def test_llama_with_our_weights_is_our_model():
    torch.manual_seed(0)
    ours = GPT(MODERN)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    token_ids = torch.randint(30, (2, 12))
    theirs = llama_like(ours)(input_ids=token_ids).logits
    torch.testing.assert_close(ours(token_ids), theirs, rtol=1e-4, atol=1e-4)


def spy(loss, seen):
    """Note how strict a loss is asked to be."""
    return lambda logits, odds, strictness: (
        seen.append(strictness) or loss(logits, odds, strictness)
    )


def test_the_race_ends_when_both_are_there(monkeypatch):
    torch.manual_seed(0)
    token_ids, next_ids = torch.randint(30, (2, 12)), torch.randint(30, (2, 12))
    targets = torch.full((2, 12, 30 + len(READERS)), float(IGNORED))
    targets[..., :30] = F.one_hot(next_ids, 30)
    targets[0, 3, 30] = 2  # one reader that looks after two blocks is asked something
    candidates = [torch.arange(len(reader.candidates)) % 30 for reader in READERS.values()]

    def is_there(model) -> bool:
        with torch.no_grad():
            return F.cross_entropy(model(token_ids).flatten(0, 1), next_ids.flatten()).item() < 1.0

    config = TrainingConfig(num_steps=200, learning_rate=1e-2, warmup_steps=5)
    batches = itertools.repeat((token_ids, targets))
    strict = []
    monkeypatch.setattr(readers, "odds_loss", spy(readers.odds_loss, strict))
    lessons = Lesson(2, strictness=3.0), Lesson(198)
    recipe = Recipe(MODERN, config, lessons)
    done, each = littletown.race(GPT(MODERN), recipe, batches, candidates, is_there)
    assert strict[:6] == [3.0, 3.0, 3.0, 3.0, 0.0, 0.0]  # both, step by step
    assert done.ratios[0] > 0
    assert each.target is None
    assert re.match(r".*\d+ steps, theirs \d+", done.verdict)
    short = Recipe(MODERN, TrainingConfig(num_steps=3), (Lesson(3),))
    never = littletown.race(GPT(MODERN), short, batches, candidates, lambda model: False)
    assert "not reached" in str(never[0])

    def only_ours(model) -> bool:
        return isinstance(model, GPT)

    alone, _ = littletown.race(GPT(MODERN), recipe, batches, candidates, only_ours)
    assert alone.ratios[0] > littletown.PATIENCE
    assert re.match(r".*20 steps, theirs \d+, and not there yet", alone.verdict)


def test_what_does_not_agree_is_not_timed(monkeypatch):
    with pytest.raises(ValueError, match=r"loss: ours is 1.0, theirs 1.2"):
        same("loss", 1.0, 1.2, tolerance=0.1)
    with pytest.raises(ValueError, match="ours is nan"):
        same("loss", float("nan"), 1.2, tolerance=0.1)
    monkeypatch.setattr(decode, "generate", lambda *_, **__: [[0, 0, 0, 0]])
    with pytest.raises(ValueError, match="different tokens"):
        decode.rows(TINY, rounds=1, num_new=4)


def test_the_ratio_is_the_median_of_the_rounds(monkeypatch):
    seconds = iter([1.0, 2.0, 1.0, 9.0, 2.0, 2.0])
    monkeypatch.setattr(harness, "_seconds", lambda work: next(seconds))
    row = compare("x", lambda: 0, lambda: 0, work=10, rounds=3, target=1.5)
    assert row.ratios == (2.0, 9.0, 1.0)
    assert row.ratio == 2.0
    assert (row.ours, row.theirs) == (10.0, 5.0)
    assert row.verdict == "met"
    assert Row("x", 2.5, ratios=row.ratios).verdict == "**missed**"


def test_the_report_is_a_table_that_says_what_was_met_and_on_what():
    rows = [
        Row("fast", 1.2, "tokens/s", 1234.0, 617.0, (1.9, 2.0, 2.1)),
        Row("slow", 3.0, "s", 2.0, 2.0, (1.0,), "a note"),
        Row("bfloat16", 2.5, note=harness.NOT_HERE),
    ]
    page = report([("Speed", rows)], [0.1, 4.2])
    assert "| fast | 1,234 tokens/s | 617 | **2.00** | 1.90 to 2.10 | 1.2 | met |" in page
    assert "**1.00** | 1.00 to 1.00 | 3 | **missed**; a note |" in page
    assert f"| bfloat16 | | | | | 2.5 | {harness.NOT_HERE} |" in page
    assert "not a quiet machine" in page
    assert "not a quiet machine" not in report([("Speed", rows)], [0.1])
    assert torch.__version__ in page
    columns = {line.count("|") for line in page.splitlines() if line.startswith("|")}
    assert columns == {8}


def test_a_peer_is_ours_with_other_names():
    ours, theirs = gpt2_pair(TINY)
    token_ids = torch.randint(30, (2, 9))
    torch.testing.assert_close(ours(token_ids), theirs.eval()(token_ids).logits)
