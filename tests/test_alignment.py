"""What chapter 16 promises: preferences, a judge that is learned, and two ways to move a policy."""

import copy
import math
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gptbook.alignment import (
    Dpo,
    Grpo,
    RewardModel,
    Round,
    bradley_terry_loss,
    check_pairs,
    decode_endings,
    dpo_loss,
    group_advantages,
    grpo_loss,
    kl_estimate,
    log_probabilities,
    pair_batch,
    reward_batch,
    write_endings,
    written_batch,
)
from gptbook.evaluation import IGNORED
from gptbook.finetuning import PADDING, Classifier, encode_texts
from gptbook.littletown.preferences import KINDS, Pair, draw_pairs
from gptbook.littletown.words import POOLS
from gptbook.model import GPT, ModernConfig
from gptbook.tokenizer import END_OF_TEXT, Tokenizer
from gptbook.training import TrainingConfig, train
from gptbook.world import World

CONFIG = ModernConfig(vocab_size=257, context_length=96, d_model=16, num_heads=2, num_layers=2)
NUMBERS = st.floats(-30, 30)
WORLD = World()


def a_model(seed: int = 0, std: float = 0.2) -> GPT:
    """Make a model whose numbers are large enough for its parts to matter."""
    torch.manual_seed(seed)
    model = GPT(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std)
    return model


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A tokenizer that knows only bytes, and the end of a text."""
    return Tokenizer.train("a", 257, special_tokens=[END_OF_TEXT])


def ending_batch(tokenizer: Tokenizer, prompts: list[str], endings: list[str]):
    """Lay out endings as tokens, each with its end of text."""
    end = tokenizer.special_tokens[END_OF_TEXT]
    return written_batch(tokenizer, prompts, [[*tokenizer.encode(row), end] for row in endings])


PAIRS = [Pair("ab", " cd", " c"), Pair("a", " bca", " d")]


# --- preferences --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Pair]]:
    """Some pairs of each kind."""
    return {kind: draw_pairs(WORLD, kind, 12, seed=3) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_false_ending_has_a_fault(kind: str, drawn: dict[str, list[Pair]]) -> None:
    """And the preferred ending never has one."""
    for prompt, chosen, rejected in drawn[kind]:
        assert WORLD.faults(prompt + chosen) == []
        assert bool(WORLD.faults(prompt + rejected)) == (kind == "truth")


def test_each_kind_of_pair_differs_by_its_one_thing(drawn: dict[str, list[Pair]]) -> None:
    """A word; a quarrel and its feelings; sentences that are left out."""
    for _, chosen, rejected in drawn["truth"]:
        words = zip(chosen.split(), rejected.split(), strict=True)
        assert sum(ours != theirs for ours, theirs in words) == 1
    for _, chosen, rejected in drawn["kindness"]:
        assert "laughed" in chosen
        assert "quarreled" not in chosen
        assert "argued" not in chosen
        assert "laughed" not in rejected
        assert len(chosen.split()) == len(rejected.split())
    for _, chosen, rejected in drawn["brevity"]:
        assert len(chosen) < len(rejected)
        assert set(chosen.split(".")) < set(rejected.split("."))
        assert chosen.partition("?")[2] == rejected.partition("?")[2] != ""  # the answer


def test_who_laughs_is_never_sad_about_it_and_who_quarrels_never_glad() -> None:
    """Some stories say how it made people feel, and then both endings say so."""
    pairs = draw_pairs(WORLD, "kindness", 40, seed=1)
    joys, sorrows = ({f" {word.english}." for word in POOLS[pool]} for pool in ("joy", "sorrow"))
    assert not any(sorrow in pair.chosen for pair in pairs for sorrow in sorrows)
    assert not any(joy in pair.rejected for pair in pairs for joy in joys)
    assert any(joy in pair.chosen for pair in pairs for joy in joys)


def test_the_same_seed_draws_the_same_pairs_and_another_seed_others() -> None:
    """Also where a prompt has another number of sentences."""
    assert draw_pairs(WORLD, "truth", 5, seed=1) == draw_pairs(WORLD, "truth", 5, seed=1)
    assert not {*draw_pairs(WORLD, "truth", 5, seed=1)} & {*draw_pairs(WORLD, "truth", 5, seed=2)}
    for pair in draw_pairs(WORLD, "brevity", 5, num_given=2):
        assert pair.prompt.count(".") == 2


def test_pairs_that_teach_nothing_are_refused(tokenizer: Tokenizer) -> None:
    """Equal texts, none at all, and a preference that nobody has."""
    equal = [*PAIRS, Pair("a", " b", " b")]
    for lay in (lambda pairs: check_pairs(pairs), lambda pairs: pair_batch(tokenizer, pairs),
                lambda pairs: reward_batch(tokenizer, pairs)):  # fmt: skip
        with pytest.raises(
            ValueError, match="pair 2 prefers ' b' to itself; leave out pairs of eq"
        ):
            lay(equal)
        with pytest.raises(ValueError, match="no pair came; pass at least one"):
            lay([])
    with pytest.raises(ValueError, match="'wit'; choose one of truth, kindness, brevity"):
        draw_pairs(WORLD, "wit", 1)
    for num_given in (0, 6):
        with pytest.raises(ValueError, match=f"num_given must be from 1 to 5, not {num_given}"):
            draw_pairs(WORLD, "truth", 1, num_given=num_given)


# --- a judge ------------------------------------------------------------------------------------


def rows(num: int, size: int, seed: int = 0) -> list[Tensor]:
    """Draw some rows of numbers in double precision."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(num, size, generator=generator, dtype=torch.float64)
    return [row.requires_grad_() for row in drawn.unbind()]


def with_gradient(loss: Tensor, *inputs: Tensor) -> list[Tensor]:
    """Give a loss and its gradients."""
    return [loss.detach(), *torch.autograd.grad(loss, inputs)]


def trainer(**settings: object) -> SimpleNamespace:
    """Make all that trl's losses ask of a trainer, which needs no model from anywhere."""
    accelerator = SimpleNamespace(
        device="cpu", num_processes=1, gather=lambda x: x, gather_for_metrics=lambda x: x,
        reduce=lambda x, reduction: x, unwrap_model=lambda x: x,
    )  # fmt: skip
    common = {
        "accelerator": accelerator, "model": torch.nn.Linear(1, 1).eval(),
        "aux_loss_enabled": False, "_total_train_tokens": 0,
        "_metrics": {"train": defaultdict(list), "eval": defaultdict(list)},
        "current_gradient_accumulation_steps": 1,
    }  # fmt: skip
    return SimpleNamespace(**common | settings)


def test_the_loss_of_a_judge_is_that_of_trl() -> None:
    """Value and gradient, on scores in double precision."""
    from trl import RewardTrainer

    chosen, rejected = rows(2, 7)
    theirs = trainer(args=SimpleNamespace(center_rewards_coefficient=None))
    scores = torch.cat([chosen, rejected])[:, None]
    out = RewardTrainer.compute_loss(
        theirs, lambda **_: SimpleNamespace(logits=scores), {"attention_mask": torch.ones(14, 1)}
    )
    expected = with_gradient(out, chosen, rejected)
    ours = with_gradient(bradley_terry_loss(chosen, rejected), chosen, rejected)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@given(first=NUMBERS, second=NUMBERS, shift=NUMBERS)
def test_only_the_difference_of_two_scores_counts(
    first: float, second: float, shift: float
) -> None:
    """And the two ways to prefer have probabilities that sum to one."""
    a, b = (torch.tensor([x], dtype=torch.float64) for x in (first, second))
    loss, other = bradley_terry_loss(a, b), bradley_terry_loss(b, a)
    torch.testing.assert_close(loss, bradley_terry_loss(a + shift, b + shift))
    torch.testing.assert_close((-loss).exp() + (-other).exp(), torch.tensor(1.0).double())


def test_a_judge_reads_the_last_token_as_a_classifier_does(tokenizer: Tokenizer) -> None:
    """With texts of several lengths; padding changes no score."""
    judge = RewardModel(a_model())
    classifier = Classifier(judge.model, 2)
    classifier.head.weight.data[0] = judge.head.weight.data[0]
    texts = encode_texts(tokenizer, ["abc", "d", "efghi"])
    torch.testing.assert_close(judge(texts), classifier(texts)[:, 0])
    alone = torch.cat([judge.score(tokenizer, [text]) for text in ("abc", "d", "efghi")])
    torch.testing.assert_close(judge.score(tokenizer, ["abc", "d", "efghi"]), alone)
    with pytest.raises(ValueError, match="begins with padding; put the padding behind"):
        judge(torch.tensor([[PADDING, 3]]))
    with pytest.raises(ValueError, match="padding stands inside of a text"):
        judge(torch.tensor([[3, PADDING, 3]]))


def test_a_judge_scores_without_dropout_and_goes_on_training(tokenizer: Tokenizer) -> None:
    """So that one text has one score."""
    torch.manual_seed(0)
    judge = RewardModel(GPT(replace(CONFIG, dropout=0.5))).train()
    once, again = (judge.score(tokenizer, ["abc", "d"]) for _ in range(2))
    assert torch.equal(once, again)
    assert judge.training


def test_a_judge_can_learn_preferences_by_heart(tokenizer: Tokenizer) -> None:
    """Before, its loss is about that of a coin."""
    torch.manual_seed(0)
    judge = RewardModel(GPT(CONFIG))
    batch = reward_batch(tokenizer, PAIRS)
    assert abs(judge.loss(*batch).item() - math.log(2)) < 0.5
    config = TrainingConfig(num_steps=30, learning_rate=1e-2)
    losses = [step.loss for step in train(judge, [batch] * 30, config)]
    assert losses[-1] < 0.05 * losses[0]
    better = judge.score(tokenizer, [pair.prompt + pair.chosen for pair in PAIRS])
    assert (better > judge.score(tokenizer, [pair.prompt + pair.rejected for pair in PAIRS])).all()


# --- a policy -----------------------------------------------------------------------------------


def test_only_what_was_written_has_a_probability(tokenizer: Tokenizer) -> None:
    """That of an ending, after its prompt, its end of text included."""
    model, end = a_model(), tokenizer.special_tokens[END_OF_TEXT]
    token_ids, targets = ending_batch(tokenizer, ["ab", "abc"], [" cd", ""])
    assert [[i for i in row if i != IGNORED] for row in targets.tolist()] == [
        [*tokenizer.encode(" cd"), end],
        [end],
    ]
    given = log_probabilities(model, token_ids, targets)
    whole = model(torch.tensor([[end, *tokenizer.encode("ab cd")]])).log_softmax(-1)[0]
    wanted = [*tokenizer.encode(" cd"), end]
    assert (given[0, :2] == 0).all()
    torch.testing.assert_close(
        given[0, 2:6], whole[2:6].gather(1, torch.tensor(wanted)[:, None])[:, 0]
    )
    cooler = log_probabilities(model, token_ids, targets, 0.5)[0, 2:6]
    sharp = (2 * model(torch.tensor([[end, *tokenizer.encode("ab cd")]]))).log_softmax(-1)[0]
    torch.testing.assert_close(cooler, sharp[2:6].gather(1, torch.tensor(wanted)[:, None])[:, 0])


def test_pairs_are_laid_out_with_the_chosen_endings_above(tokenizer: Tokenizer) -> None:
    """Each after its prompt; and what is read back has no end of text."""
    expected = ending_batch(tokenizer, ["ab", "a"] * 2, [" cd", " bca", " c", " d"])
    for ours, wanted in zip(pair_batch(tokenizer, PAIRS), expected, strict=True):
        assert torch.equal(ours, wanted)
    end = tokenizer.special_tokens[END_OF_TEXT]
    rows = [[*tokenizer.encode(" cd"), end], tokenizer.encode("a")]
    assert decode_endings(tokenizer, rows) == [" cd", "a"]


def test_the_loss_of_dpo_is_that_of_trl() -> None:
    """Its own code, given the same log-probabilities token by token: value and gradient."""
    from trl import DPOTrainer

    torch.manual_seed(0)
    mask = (torch.arange(9) >= torch.tensor([3, 2, 4, 1, 5, 3])[:, None]).long()  # 6 texts of 9
    mine, other = -torch.rand(2, 6, 8, dtype=torch.float64) * mask[:, 1:]
    mine.requires_grad_()
    first, second = other.sum(dim=1).chunk(2)
    nothing = torch.zeros(6, 8)
    out = SimpleNamespace(
        log_probs=mine, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool()
    )
    inputs = {
        "input_ids": torch.ones(6, 9).long(), "attention_mask": torch.ones(6, 9).long(),
        "completion_mask": mask, "ref_chosen_logps": first, "ref_rejected_logps": second,
    }  # fmt: skip
    for beta in (0.1, 0.7):
        theirs = trainer(
            ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl", beta=beta,
            loss_types=["sigmoid"], loss_weights=[1.0], use_weighting=False,
        )  # fmt: skip
        loss = DPOTrainer._compute_loss(theirs, lambda **_: out, inputs, return_outputs=False)
        expected = with_gradient(loss, mine)
        ours = dpo_loss(*mine.sum(dim=1).chunk(2), first, second, beta=beta)
        torch.testing.assert_close(with_gradient(ours, mine), expected, rtol=1e-12, atol=1e-12)


@given(beta=st.floats(0.01, 5), first=NUMBERS, second=NUMBERS)
def test_a_policy_that_did_not_move_tosses_a_coin(beta: float, first: float, second: float) -> None:
    """Whatever it finds likely, its loss is ln 2."""
    a, b = (torch.tensor([x], dtype=torch.float64) for x in (first, second))
    assert math.isclose(dpo_loss(a, b, a, b, beta=beta).item(), math.log(2))


def test_dpo_moves_the_policy_towards_the_chosen_and_leaves_the_reference(
    tokenizer: Tokenizer,
) -> None:
    """In a few steps each pair is told apart, and the reference is what it was."""
    policy, reference = a_model(), a_model()
    moved = Dpo(policy, reference, beta=0.3)
    batch = pair_batch(tokenizer, PAIRS)
    assert math.isclose(moved.loss(*batch).item(), math.log(2), rel_tol=1e-5)
    config = TrainingConfig(num_steps=40, learning_rate=1e-2)
    losses = [step.loss for step in train(moved, [batch] * 40, config)]
    assert losses[-1] < 0.5 * losses[0]
    now, before = (log_probabilities(m, *batch).sum(1) for m in (policy, a_model()))
    good, bad = (now - before).chunk(2)
    assert (good > bad).all()
    for ours, first in zip(reference.parameters(), a_model().parameters(), strict=True):
        assert torch.equal(ours, first)
        assert ours.requires_grad  # it is not trained, and may be later
    assert {*moved.parameters()} == {*policy.parameters()}


# --- written, scored, moved ---------------------------------------------------------------------


@given(
    st.lists(st.lists(NUMBERS, min_size=4, max_size=4), min_size=1, max_size=3), NUMBERS,
    st.floats(0.5, 10),
)  # fmt: skip
def test_an_advantage_knows_no_zero_and_hardly_a_unit(
    numbers: list[list[float]], shift: float, unit: float
) -> None:
    """Each group sums to nothing, and a constant added to its rewards changes nothing."""
    rewards = torch.tensor(numbers, dtype=torch.float64)
    advantages = group_advantages(rewards)
    torch.testing.assert_close(
        advantages.sum(1), torch.zeros(len(rewards)).double(), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(group_advantages(rewards + shift), advantages, atol=1e-6, rtol=1e-6)
    wide = rewards[rewards.std(dim=1) > 1]
    if len(wide):
        torch.testing.assert_close(
            group_advantages(unit * wide), group_advantages(wide), atol=1e-3, rtol=1e-3
        )


def test_the_loss_of_grpo_is_that_of_trl() -> None:
    """With and without the KL term, on the policy that wrote and on one that moved on."""
    from trl import GRPOTrainer

    torch.manual_seed(0)
    mask = (torch.arange(8) < torch.tensor([8, 5, 1, 3])[:, None]).long()
    now, old, reference = (-torch.rand(4, 8, dtype=torch.float64) for _ in range(3))
    now.requires_grad_()
    advantages = torch.tensor([1.5, -0.5, 0.3, -1.3], dtype=torch.float64)
    for beta, before in ((0.0, old), (0.2, old), (0.2, now.detach())):
        theirs = trainer(
            beta=beta, epsilon_low=0.2, epsilon_high=0.2, loss_type="grpo",
            top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
            importance_sampling_level="token", _entropy_bonus_enabled=False,
            args=SimpleNamespace(use_bias_correction_kl=False, delta=None),
            _get_per_token_logps_and_entropies=lambda *_, **__: (now, torch.zeros(4, 8), None),
        )  # fmt: skip
        inputs = {
            "prompt_ids": torch.ones(4, 2).long(), "prompt_mask": torch.ones(4, 2).long(),
            "completion_ids": torch.ones(4, 8).long(), "completion_mask": mask,
            "advantages": advantages, "old_per_token_logps": before,
            "ref_per_token_logps": reference,
        }  # fmt: skip
        expected = with_gradient(GRPOTrainer._compute_loss(theirs, theirs.model, inputs), now)
        loss = grpo_loss(now, before, reference, advantages, mask.bool(), beta=beta)
        torch.testing.assert_close(with_gradient(loss, now), expected, rtol=1e-12, atol=1e-12)


def test_the_estimate_of_the_divergence_is_right_on_average() -> None:
    """Its mean over a vocabulary is the exact sum, and no single one is below zero."""
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 1, 50, dtype=torch.float64).log_softmax(-1)
    each = kl_estimate(ours, theirs)
    exact = torch.nn.functional.kl_div(theirs, ours, log_target=True, reduction="sum")
    torch.testing.assert_close((ours.exp() * each).sum(), exact)
    assert (each >= 0).all()
    assert (kl_estimate(ours, ours) == 0).all()


def likes(letter: str):
    """Score a text by how much of it is one letter."""

    def reward(texts):
        return torch.tensor([text.count(letter) / len(text) for text in texts])

    return reward


def rounds_of(method: Grpo, config: TrainingConfig, num_updates: int = 1) -> list[Round]:
    """Move a policy by what it writes to two prompts; give what it wrote before each step."""
    prompts = [["ab", "ba"]] * config.num_steps
    batches = (batch for some in prompts for batch in [method.write(some)] * num_updates)
    return [method.last for _ in train(method, batches, config)]


@pytest.fixture(scope="module")
def writer(tokenizer: Tokenizer) -> GPT:
    """A policy that has learned to write four letters at random."""
    torch.manual_seed(0)
    model = GPT(CONFIG)
    texts = ["".join("abcd"[i] for i in torch.randint(4, (12,)).tolist()) for _ in range(60)]
    batches = [ending_batch(tokenizer, ["a"] * 20, texts[i : i + 20]) for i in (0, 20, 40)] * 20
    list(train(model, batches, TrainingConfig(num_steps=60, learning_rate=1e-2)))
    return model.eval()


RECIPE = TrainingConfig(num_steps=20, learning_rate=1e-2, weight_decay=0.0)


def test_a_policy_learns_to_write_what_is_rewarded_and_is_held_by_its_reference(
    writer: GPT, tokenizer: Tokenizer
) -> None:
    """Free, it earns more and goes far; held, it stays near."""
    ends = {}
    for beta in (0.0, 5.0):
        policy, reference = copy.deepcopy(writer), copy.deepcopy(writer)
        method = Grpo(policy, reference, tokenizer, likes("c"), beta=beta, max_new_tokens=12)
        assert {*method.parameters()} == {*policy.parameters()}
        rounds = rounds_of(method, RECIPE)
        assert rounds[0].kl == pytest.approx(0, abs=1e-4)
        assert rounds[0].rewards.shape == (2, 8)
        assert len(rounds[0].texts) == 16
        for ours, first in zip(reference.parameters(), writer.parameters(), strict=True):
            assert torch.equal(ours, first)
        earned = [turn.rewards.mean().item() for turn in rounds]
        ends[beta] = (sum(earned[-4:]) - sum(earned[:4])) / 4, rounds[-1].kl
    assert ends[0.0][0] > 0.15
    assert ends[0.0][1] > 3 * ends[5.0][1]


def test_what_is_learned_is_what_was_written_token_by_token(
    writer: GPT, tokenizer: Tokenizer
) -> None:
    """Also where an ending was cut off, and where a temperature was used."""
    method = Grpo(
        copy.deepcopy(writer), a_model(), tokenizer, likes("c"), beta=0.1, num_each=3,
        temperature=1.5, max_new_tokens=5, seed=4,
    )  # fmt: skip
    [turn] = rounds_of(method, TrainingConfig(num_steps=1, learning_rate=1e-9))
    written = write_endings(
        writer, tokenizer, ["ab", "ba"], num_each=3, temperature=1.5, max_new_tokens=5, seed=4
    )
    prompts = ["ab"] * 3 + ["ba"] * 3
    texts = [a + b for a, b in zip(prompts, decode_endings(tokenizer, written), strict=True)]
    assert turn.texts == texts
    away = 0.0
    for prompt, row in zip(prompts, written, strict=True):
        ids = torch.tensor([
            [tokenizer.special_tokens[END_OF_TEXT], *tokenizer.encode(prompt), *row]
        ])
        ours, theirs = (
            (m(ids[:, :-1]) / 1.5).log_softmax(-1).gather(2, ids[:, 1:, None])[0, 2:]
            for m in (writer, a_model())
        )
        away += (ours - theirs).sum().item() / 6
    assert turn.kl == pytest.approx(away, rel=1e-4)


def test_each_turn_draws_anew(writer: GPT, tokenizer: Tokenizer) -> None:
    """From where the seeds of the turn before ended."""
    method = Grpo(writer, a_model(), tokenizer, likes("c"), beta=0.1, max_new_tokens=5, seed=4)
    method.write(["ab"])
    method.write(["ab"])
    written = write_endings(writer, tokenizer, ["ab"], num_each=8, max_new_tokens=5, seed=12)
    assert method.last.texts == ["ab" + text for text in decode_endings(tokenizer, written)]


def test_several_steps_on_what_was_written_go_further_than_one(
    writer: GPT, tokenizer: Tokenizer
) -> None:
    """And each turn begins with what the policy was when it wrote."""
    distances = []
    for num_updates in (1, 4):
        policy = copy.deepcopy(writer)
        recipe = TrainingConfig(num_steps=2 * num_updates, learning_rate=3e-3, weight_decay=0.0)
        method = Grpo(
            policy, copy.deepcopy(writer), tokenizer, likes("c"), beta=0.0, max_new_tokens=12
        )
        rounds_of(method, recipe, num_updates)
        pairs = zip(policy.parameters(), writer.parameters(), strict=True)
        distances.append(sum((a - b).square().sum().item() for a, b in pairs))
    assert distances[1] > 1.5 * distances[0]


# --- what is refused ----------------------------------------------------------------------------


def test_numbers_out_of_range_are_refused_with_what_is_allowed(tokenizer: Tokenizer) -> None:
    """A beta, a clip, a temperature."""
    one, is_written = torch.zeros(1), torch.tensor([[True]])
    for beta in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(
            ValueError, match=r"beta must be above 0 and finite, not .*; 0\.1 is usual"
        ):
            dpo_loss(one, one, one, one, beta=beta)
        with pytest.raises(ValueError, match="beta must be above 0"):
            Dpo(a_model(), a_model(), beta=beta)
    row = torch.zeros(1, 1)
    with pytest.raises(ValueError, match=r"beta must be at least 0 and finite, not -0\.1"):
        grpo_loss(row, row, row, one, is_written, beta=-0.1)
    with pytest.raises(ValueError, match="clip must be above 0"):
        grpo_loss(row, row, row, one, is_written, beta=0.0, clip=0.0)
    for temperature in (0.0, -1.0):
        with pytest.raises(ValueError, match="temperature must be above 0 and finite"):
            write_endings(a_model(), tokenizer, ["a"], temperature=temperature)
        with pytest.raises(ValueError, match="temperature must be above 0 and finite"):
            log_probabilities(a_model(), *ending_batch(tokenizer, ["a"], ["b"]), temperature)


def test_a_reference_that_would_move_along_is_refused(tokenizer: Tokenizer) -> None:
    """By both ways."""
    model = a_model()
    with pytest.raises(ValueError, match=r"one model.*pass copy.deepcopy\(policy\)"):
        Dpo(model, model, beta=0.1)
    with pytest.raises(ValueError, match="one model"):
        Grpo(model, model, tokenizer, likes("c"), beta=0.1)


def test_rewards_and_scores_that_do_not_fit_are_refused(
    tokenizer: Tokenizer, without_shape_checks: None
) -> None:
    """One ending a prompt, no number, no pair, no prompt left, nothing written."""
    with pytest.raises(ValueError, match=r"\(3, 1\) came; give each prompt a row of at least 2"):
        group_advantages(torch.zeros(3, 1))
    with pytest.raises(ValueError, match="a reward is not finite; score every text"):
        group_advantages(torch.tensor([[0.0, math.nan]]))
    with pytest.raises(ValueError, match=r"chosen of shape \(2,\), rejected of shape \(3,\) came"):
        bradley_terry_loss(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="give each pair one number of both"):
        bradley_terry_loss(torch.zeros(0), torch.zeros(0))
    two, three = torch.zeros(2), torch.zeros(3)
    with pytest.raises(ValueError, match=r"reference_chosen of shape \(3,\) came"):
        dpo_loss(two, two, three, two, beta=0.1)
    row = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="a text has no token that the policy wrote"):
        grpo_loss(row, row, row, torch.zeros(1), torch.tensor([[False]]), beta=0.1)
    method = Grpo(a_model(), a_model(), tokenizer, likes("c"), beta=0.1, max_new_tokens=2)
    batch = method.write(["a"])
    token_ids, targets = method.write(["abcd"])
    for other in (batch, (token_ids, targets.flip(0))):
        with pytest.raises(ValueError, match="not the one that was written last; take all steps"):
            method.loss(*other)
    method = Grpo(a_model(), a_model(), tokenizer, lambda texts: torch.zeros(3), beta=0.1)
    with pytest.raises(ValueError, match=r"shape \(3,\) for 8 texts; let it give each text one"):
        method.write(["a"])
    method = Grpo(a_model(), a_model(), tokenizer, likes("c"), beta=0.1, num_each=1)
    with pytest.raises(ValueError, match="a row of at least 2"):
        method.loss(*method.write(["a"]))
    with pytest.raises(ValueError, match="beta must be at least 0"):
        Grpo(a_model(), a_model(), tokenizer, likes("c"), beta=-0.1)
