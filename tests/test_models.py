"""The models that come with the book: as good as their cards say, and quick to load."""

import json
import math

import pytest
import torch

from gptbook.model import GPT
from gptbook.models import NAMES, load
from gptbook.tokenizer import END_OF_TEXT, Tokenizer
from gptbook.world import World, words_of
from tools.make_models import (
    LESSON_SEED,
    MODELS,
    SHAPE,
    TOKENIZER_SEED,
    answer,
    card,
    decided_tokens,
    lesson_batches,
    measure,
    pad,
    recipes,
    story_batches,
    story_losses,
    widen_start,
    write_stories,
)

FRESH_SEED = 9_000_000  # stories that were used for nothing before
models = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.fixture(scope="module")
def fresh(world):
    return [world.sample(FRESH_SEED + index) for index in range(300)]


def facts_of(name):
    return json.loads((MODELS / name / "card.json").read_text(encoding="utf-8"))


@models
def test_the_card_says_what_was_measured(name):
    assert (MODELS / name / "README.md").read_text(encoding="utf-8") == card(name, facts_of(name))


@models
def test_the_card_is_of_this_model_and_this_town(name, world):
    model, tokenizer = load(name)
    facts = facts_of(name)
    assert facts["parameters"] == model.num_parameters()
    assert facts["config"]["vocab_size"] == tokenizer.vocab_size
    assert facts["measured"]["entropy"] == pytest.approx(world.entropy, rel=1e-9)


@pytest.mark.slow
@models
def test_fresh_stories_cost_what_the_card_says(name, fresh):
    model, tokenizer = load(name)
    losses = story_losses(model, tokenizer, [story.text for story in fresh])
    floors = [-story.log_probability for story in fresh]
    excess = torch.tensor(losses).double() - torch.tensor(floors).double()
    promised = facts_of(name)["measured"]["above_floor"] * sum(floors) / len(floors)
    error = excess.std().item() / math.sqrt(len(fresh))
    assert abs(excess.mean().item() - promised) < 4 * error


@pytest.mark.slow
@models
def test_fresh_questions_are_answered_as_well_as_the_card_says(name, fresh):
    model, tokenizer = load(name)
    answers = answer(model, tokenizer, [story.prompt for story in fresh])
    right = sum(said == story.answer for said, story in zip(answers, fresh, strict=True))
    promised = facts_of(name)["measured"]["answers_right"]
    assert right / len(fresh) > promised - 4 * spread(promised, len(fresh)) - 0.01


@pytest.mark.slow
@models
def test_fresh_samples_are_as_free_of_faults_as_the_card_says(name, world):
    model, tokenizer = load(name)
    texts = write_stories(model, tokenizer, 200, FRESH_SEED)
    share = sum(not world.faults(text) for text in texts) / len(texts)
    promised = facts_of(name)["measured"]["stories_without_fault"]
    assert share > promised - 4 * spread(promised, len(texts)) - 0.01


def spread(share, number):
    return math.sqrt(share * (1 - share) / number)


def test_hardly_any_word_is_cut_in_two(world, fresh):
    _, tokenizer = load("littletown")
    num_tokens = sum(len(tokenizer.encode_ordinary(story.text)) for story in fresh)
    num_words = sum(len(words_of(story.text)) for story in fresh)
    assert num_words <= num_tokens < 1.005 * num_words


def test_the_tokenizer_learned_from_stories_that_the_model_is_not_measured_on(fresh):
    assert TOKENIZER_SEED + 20_000 < FRESH_SEED


def test_batches_hold_whole_stories_and_predict_nothing_behind_them(world):
    _, tokenizer = load("littletown")
    end = tokenizer.special_tokens[END_OF_TEXT]
    batches = story_batches(world, tokenizer, size=4, first_seed=7, pool=2)
    drawn = [next(batches) for _ in range(2)]
    texts = []
    for token_ids, targets in drawn:
        assert (token_ids[:, 0] == end).all()
        for row in targets:
            ids = row[row >= 0].tolist()
            assert ids[-1] == end
            texts.append(tokenizer.decode(ids[:-1]))
    assert sorted(texts) == sorted(world.sample(7 + index).text for index in range(8))


@pytest.mark.parametrize("cuts_words", [False, True])
def test_what_a_story_decides_is_found_token_by_token(world, cuts_words):
    _, tokenizer = load("littletown")
    if cuts_words:
        tokenizer = Tokenizer.train([world.sample(0).text], vocab_size=280)
    for seed in range(40):
        story = world.sample(seed)
        tokens = list(decided_tokens(tokenizer, story))
        assert [token for token, _ in tokens] == tokenizer.encode_ordinary(story.text)
        decided = "".join(tokenizer.decode([token]) for token, is_so in tokens if is_so).split()
        kinds = zip(words_of(story.text), world.kinds(story.text), strict=True)
        assert decided == [word for word, kind in kinds if kind == "memory"]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_lesson_asks_everything_and_predicts_what_is_decided(world, share):
    _, tokenizer = load("littletown")
    end = tokenizer.special_tokens[END_OF_TEXT]
    batches = lesson_batches(world, tokenizer, 2, LESSON_SEED, share=share, pool=3, longest=2_000)
    texts = {}
    for token_ids, targets in [next(batches) for _ in range(3)]:
        for row, goals in zip(token_ids.tolist(), targets.tolist(), strict=True):
            ids, goals = row[1 : goals.index(end) + 1], goals[: goals.index(end) + 1]
            assert all(goal in (-100, i) for goal, i in zip(goals, [*ids, end], strict=True))
            texts[tokenizer.decode(ids)] = tokenizer.decode([goal for goal in goals if goal >= 0])
    for seed in range(LESSON_SEED, LESSON_SEED + 6):
        story = world.sample(seed)
        [(text, predicted)] = [pair for pair in texts.items() if pair[0].startswith(story.text)]
        pairs = world.questions(story.text)
        assert len(text) == len(story.text) + sum(len(q) + len(a) + 2 for q, a in pairs)
        assert all(f" {question} {reply}" in text for question, reply in pairs)
        if share:
            assert predicted == text + END_OF_TEXT
        else:
            assert all(predicted.count(reply) for _, reply in pairs)
            assert "?" not in predicted


def test_a_lesson_is_no_longer_than_the_model_reads(world):
    _, tokenizer = load("littletown")
    batches = lesson_batches(world, tokenizer, 4, LESSON_SEED, pool=2, longest=150)
    widths = [next(batches)[0].shape[1] for _ in range(2)]
    assert 100 < max(widths) <= 150 < SHAPE["context_length"]


def test_matrices_start_wider_and_norms_do_not():
    torch.manual_seed(0)
    config = recipes(vocab_size=500)["littletown"].config
    model = GPT(config)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    widen_start(model)
    for name, parameter in model.named_parameters():
        factor = math.sqrt(6) if parameter.dim() == 2 else 1.0
        torch.testing.assert_close(parameter, before[name] * factor)


def test_the_loss_of_a_story_does_not_depend_on_its_neighbors(world):
    model, tokenizer = load("littletown")
    texts = [world.sample(seed).text for seed in range(5)]
    together = story_losses(model, tokenizer, texts)
    alone = [story_losses(model, tokenizer, [text])[0] for text in texts]
    assert together == pytest.approx(alone, rel=1e-4)


def test_padding_is_no_target():
    token_ids, targets = pad([[1, 2, 3], [4, 5]])
    assert token_ids.tolist() == [[1, 2], [4, 0]]
    assert targets.tolist() == [[2, 3], [5, -100]]


def test_an_unknown_model_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="no model is called 'gpt5'; the book has littletown"):
        load("gpt5")


def test_measure_finds_a_model_that_knows_nothing(world):
    torch.manual_seed(0)
    model, tokenizer = load("littletown")
    model.reset_parameters()
    measured = measure(model, tokenizer, world, num_stories=8)
    assert measured["above_floor"] > 3
    assert measured["answers_right"] == 0
    assert measured["stories_without_fault"] == 0
