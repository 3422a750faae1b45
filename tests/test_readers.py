"""Readers: they are told what the story says, teach the model, and leave no trace."""

import re
from collections import Counter, defaultdict
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from gptbook.evaluation import IGNORED
from gptbook.littletown.stories import State, follow
from gptbook.model import GPT, ModernConfig
from gptbook.models import load
from gptbook.training import TrainingConfig, train
from gptbook.world import World, words_of
from tools.readers import (
    NOTHING,
    NUMBERS,
    READERS,
    Tutored,
    candidate_ids,
    odds_loss,
    readings,
)


@pytest.fixture(scope="module")
def stories():
    world = World()
    return [world.sample(seed) for seed in range(300)]


def told(story):
    """Give for each sentence its words, its kind, and {word: {reader: answer}}."""
    state = State()
    for sentence in story.sentences:
        found = defaultdict(dict)
        for word, reader, answer in readings(state, sentence):
            assert reader not in found[word]
            found[word][reader] = answer
        yield words_of(sentence.text), sentence.kind, found
        state = follow(state, sentence)


def test_the_first_sentences_of_a_story_are_read_word_by_word():
    rows = list(told(World().sample(3)))
    words, _, found = rows[0]
    assert " ".join(words) == "On a cloudy morning , the bored teacher Mia was at the pool ."
    nothing = dict.fromkeys(
        ("thing to own", "who owns it", "thing to eat", "who may eat it"), NOTHING
    )
    changed = {"person changed": "Mia", "new feeling": "bored", "new place": "pool"}
    assert found == {
        8: {"who": "Mia", "job": "teacher", "feeling": "bored"},
        12: {"about": "Mia"},
        13: changed | {"subject": NOTHING} | nothing,
    }
    words, _, found = rows[1]
    assert " ".join(words) == "In the workshop was the restless driver Hugo ."
    assert found[7]["place"] == "workshop"  # told before the name


def test_every_reader_is_asked_and_may_say_what_it_is_to_say(stories):
    asked = Counter()
    for story in stories:
        for words, _, found in told(story):
            for word, answers in found.items():
                assert word < len(words)
                asked.update(list(answers))
                assert all(row in NUMBERS for row in answers.items())
    assert asked.keys() == READERS.keys()
    assert min(asked.values()) > 100


ASKED = {
    "What is the job of": "job",
    "How does": "feeling",
    "Where is": "place",
    "Where is the": "where it lies",
    "Who has the": "holder",
    "What color is the": "look",
    "Who had the": "first owner",
}


def test_where_a_question_says_of_whom_the_answer_is_read(stories):
    seen = Counter()
    for story in stories:
        *_, (_, kind, found), (answer, said, _) = told(story)
        [answers] = found.values()
        [start] = [s for s in sorted(ASKED, key=len) if story.question.startswith(s)][-1:]
        reader = ASKED[start]
        if said == "it is held":
            reader = "holder"
        telling = answer[-2] if answer[0] in {"He", "She", "It"} else answer[0]
        assert answers[reader] == telling, story.text
        seen[kind, said] += 1
    assert len(seen) == 8  # each kind of question, one of them with two kinds of answer


def test_what_never_changes_is_that_of_the_facts(stories):
    for story in stories:
        for words, _, found in told(story):
            for word, answers in found.items():
                if "job" in answers:
                    assert f"{answers['who']} is a {answers['job']}." in story.facts
                if "look" in answers:
                    assert re.search(rf"\ban? {answers['look']} {words[word]}\b", story.text)


def test_what_a_sentence_says_of_itself_agrees_with_what_is_read(stories):
    seen = Counter()
    for story in stories:
        for words, kind, found in told(story):
            names = [word for word in found if "who" in found[word]]
            things = [word for word in found if "holder" in found[word]]
            end = found.get(len(words) - 1, {})
            if kind == "stay":
                at = [word for word in found if "about" in found[word]]
                assert found[names[0]]["place"] == words[at[0]]
            elif kind == "visit":
                assert end["new place"] == found[names[1]]["place"]
                assert end["person changed"] == found[names[0]]["who"]
                assert found[names[0]]["other"] == found[names[1]]["who"]
            elif kind == "give":
                assert found[names[0]]["thing in hand"] == words[things[0]] == end["thing told of"]
                assert found[things[0]]["holder"] == found[names[0]]["who"]
                assert end["new holder"] == found[names[1]]["who"]
                assert found[names[1]]["thing in hand"] == NOTHING
                assert found[names[0]]["other"] == end["new holder"]
                assert end["new place"] == found[names[1]]["place"]
            elif kind == "trade":
                assert found[names[0]]["thing in hand"] == words[things[0]]
                assert found[names[0]]["thing of the other"] == words[things[1]]
            elif kind == "lose":
                assert end["new place"] == found[names[0]]["place"]
                assert (end["new holder"], end["person changed"]) == (NOTHING, NOTHING)
            elif kind == "fetch":
                noun = words[things[0]]
                assert found[names[0]].get("thing on its own", noun) == noun
                assert end["new place"] == found[things[0]]["where it lies"]
                assert end["new holder"] == end["person changed"] == found[names[0]]["who"]
            elif kind in {"rejoice", "grieve"}:
                assert end["new feeling"] == words[-2]
                assert end["person changed"] == found[0]["who"]
            elif kind == "show":
                assert end["thing told of"] == words[things[0]]
                assert end["new holder"] == NOTHING
            else:
                continue
            seen[kind] += 1
    assert len(seen) == 9
    assert min(seen.values()) > 10


def test_the_end_of_a_sentence_says_how_things_stand_by_the_answers_to_all_questions(stories):
    world, seen = World(), Counter()
    for story in stories[:60]:
        for number, (words, _, found) in enumerate(told(story)):
            standing = found.get(len(words) - 1, {})
            if "thing to own" not in standing:
                continue
            prefix = " ".join(sentence.text for sentence in story.sentences[: number + 1])
            answers = dict(world.questions(prefix))
            nouns = {words_of(row)[3] for row in answers if row.startswith("Where is the ")}
            assert nouns == {standing["thing to own"], standing["thing to eat"]} - {NOTHING}
            for thing, owner in (
                ("thing to own", "who owns it"),
                ("thing to eat", "who may eat it"),
            ):
                who = answers.get(f"Who has the {standing[thing]}?", f"{NOTHING} has it.")
                assert who == f"{standing[owner]} has it."
                seen[owner, standing[owner] != NOTHING] += 1
    assert len(seen) == 4
    assert min(seen.values()) > 20


def test_the_next_pronoun_means_whom_the_end_of_a_sentence_named(stories):
    count = 0
    for story in stories:
        rows = list(told(story))
        for (before, _, ended), (words, _, found) in pairwise(rows):
            if words[0] in {"She", "He"} and 0 in found:
                assert ended[len(before) - 1]["subject"] == found[0]["who"]
                count += 1
    assert count > 300


def test_no_two_candidates_of_a_reader_begin_alike():
    _, tokenizer = load("littletown")
    for ids, reader in zip(candidate_ids(tokenizer), READERS.values(), strict=True):
        assert len(set(ids.tolist())) == len(ids) == len(reader.candidates)


CONFIG = ModernConfig(vocab_size=1792, context_length=16, d_model=16, num_heads=2, num_layers=4)


def tutored(weight=1.0):
    torch.manual_seed(0)
    model, (_, tokenizer) = GPT(CONFIG), load("littletown")
    candidates = candidate_ids(tokenizer)
    return Tutored(model, model.blocks, model.token_embedding.weight, candidates, weight)


def one_batch():
    """Two rows of noise, in which some readers are asked something."""
    token_ids = torch.randint(1792, (2, 8))
    targets = torch.full((2, 8, 1792 + len(READERS)), float(IGNORED))
    targets[..., :1792] = torch.rand(2, 8, 1792).softmax(dim=-1)
    targets[1, 6:, :1792] = IGNORED
    for place, (name, word) in enumerate([("job", "nurse"), ("job", "cook"), ("holder", NOTHING)]):
        reader, answer = NUMBERS[name, word]
        targets[1, place, 1792 + reader] = answer
    return token_ids, targets


def plain_loss(tutor, token_ids, targets):
    """Price the odds of the next tokens, computed by hand."""
    odds = targets[..., :1792]
    each = -(odds * tutor.model(token_ids).log_softmax(dim=-1)).sum(dim=-1)
    return each[odds[..., 0] != IGNORED].mean()


def test_the_loss_is_that_of_the_next_token_and_the_mean_of_the_readers():
    tutor = tutored(weight=0.7)
    token_ids, targets = one_batch()
    x = tutor.model.token_embedding(token_ids)
    each = []
    for depth, block in enumerate(tutor.model.blocks, 1):
        x = block(x)
        for number, reader in enumerate(READERS.values()):
            answers = targets[..., 1792 + number].long()
            asked = answers != IGNORED
            if reader.depth == depth and asked.any():
                normed = x[asked] / x[asked].square().mean(dim=-1, keepdim=True).sqrt()
                words = tutor.model.token_embedding.weight[tutor.candidates[number]]
                scores = normed @ tutor.maps[number] @ words.T
                each.append(F.cross_entropy(scores, answers[asked]))
    assert len(each) == 2
    expected = plain_loss(tutor, token_ids, targets) + 0.7 * sum(each) / 2
    torch.testing.assert_close(tutor.loss(token_ids, targets), expected, rtol=1e-5, atol=1e-5)


def test_with_nothing_to_read_it_is_the_loss_of_the_odds():
    tutor = tutored()
    token_ids, targets = one_batch()
    targets[..., 1792:] = IGNORED
    expected = plain_loss(tutor, token_ids, targets)
    torch.testing.assert_close(tutor.loss(token_ids, targets), expected)


def odds_and_logits():
    """Odds of some tokens, of which each place has impossible ones; and what a model says."""
    torch.manual_seed(1)
    odds = torch.rand(5, 9, dtype=torch.float64) * (torch.rand(5, 9) < 0.6)
    odds[:, 0], odds[:, 1] = 0.5, 0
    return odds / odds.sum(dim=-1, keepdim=True), torch.randn(5, 9, dtype=torch.float64)


def gradient(loss, logits):
    logits = logits.clone().requires_grad_()
    loss(logits).backward()
    return logits.grad


def test_strictness_draws_probability_from_what_is_impossible_and_no_more():
    odds, logits = odds_and_logits()

    def impossible(logits):
        possible = logits.softmax(dim=-1).masked_fill(odds == 0, 0).sum(dim=-1)
        return -possible.log().mean()

    strict = gradient(lambda x: odds_loss(x, odds, 3.0), logits)
    plain = gradient(lambda x: odds_loss(x, odds, 0.0), logits)
    torch.testing.assert_close(plain, gradient(lambda x: F.cross_entropy(x, odds), logits))
    torch.testing.assert_close(strict, plain + 3 * gradient(impossible, logits))
    assert gradient(impossible, logits)[odds == 0].min() > 0


def test_the_best_model_stays_the_best_one_however_strict():
    odds, _ = odds_and_logits()
    best = odds.log().clamp(min=-60)
    assert gradient(lambda x: odds_loss(x, odds, 100.0), best).abs().max() < 1e-12


def test_a_tutor_is_as_strict_as_it_is_told():
    tutor = tutored()
    token_ids, targets = one_batch()
    targets[..., 3:1792] *= targets[..., 0, None] == IGNORED  # only three tokens are possible
    targets[..., 1792:] = IGNORED
    predicted = targets[..., 0] != IGNORED
    odds, logits = targets[predicted][:, :1792], tutor.model(token_ids)[predicted]
    losses = []
    for strictness in (0.0, 2.0):
        tutor.strictness = strictness
        losses.append(tutor.loss(token_ids, targets))
        torch.testing.assert_close(losses[-1], odds_loss(logits, odds, strictness))
    assert losses[1] > losses[0]


def test_the_mistakes_of_a_row_are_what_it_paid_for_impossible_tokens():
    tutor = tutored()
    with pytest.raises(RuntimeError, match="call loss first"):
        tutor.mistakes()
    token_ids, targets = one_batch()
    targets[..., 3:1792] *= targets[..., 0, None] == IGNORED  # only three tokens are possible
    tutor.loss(token_ids, targets)
    possible = tutor.model(token_ids).softmax(dim=-1)[..., :3].sum(dim=-1)
    nats = -possible.log()
    expected = [nats[0].sum().item(), nats[1, :6].sum().item()]
    assert tutor.mistakes() == pytest.approx(expected, rel=1e-4)


def test_what_readers_get_wrong_teaches_the_blocks_below_them():
    tutor = tutored()
    token_ids, targets = one_batch()
    gap = tutor.loss(token_ids, targets) - plain_loss(tutor, token_ids, targets)
    gap.backward()
    sizes = [block.feed_forward.contract.weight.grad.norm().item() for block in tutor.model.blocks]
    assert min(sizes[:3]) > 1e-4  # "holder" reads after three blocks
    assert sizes[3] == pytest.approx(0, abs=1e-6)
    assert tutor.maps.grad.abs().amax(dim=(1, 2)).count_nonzero() == 2


def test_readers_leave_no_trace_in_the_model():
    tutor = tutored()
    token_ids, targets = one_batch()
    names = set(tutor.model.state_dict())
    tutor.loss(token_ids, targets)
    with pytest.raises(ValueError, match="token_ids"):
        tutor.loss(token_ids + 1792, targets)
    assert set(tutor.model.state_dict()) == names
    assert all(not block._forward_hooks for block in tutor.model.blocks)


def test_a_model_and_its_readers_learn_together():
    tutor = tutored()
    token_ids, targets = one_batch()
    targets[0, :, :1792] = F.one_hot(token_ids[0], 1792)
    targets[1, :, :1792] = IGNORED
    batch = token_ids, targets
    config = TrainingConfig(num_steps=60, learning_rate=0.02, optimizer="muon")
    before = tutor.maps.detach().clone()
    steps = list(train(tutor, [batch] * 60, config))
    assert steps[-1].loss < 0.2 * steps[0].loss
    assert not torch.equal(tutor.maps, before)
    assert {id(parameter) for parameter in tutor.parameters()} == {
        *(id(parameter) for parameter in tutor.model.parameters()),
        id(tutor.maps),
    }
