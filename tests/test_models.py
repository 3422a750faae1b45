"""The models that come with the book: as good as their cards say, and quick to load."""

import dataclasses
import json
import math
import re
from collections import Counter

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
    TRAINING_SEED,
    Lesson,
    all_batches,
    answer,
    card,
    decided_tokens,
    lesson_batches,
    measure,
    pad,
    prepare_start,
    question_tokens,
    recipes,
    story_batches,
    story_losses,
    widen,
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
        tokens = list(decided_tokens(tokenizer, story.sentences))
        assert [token for token, _ in tokens] == tokenizer.encode_ordinary(story.text)
        decided = "".join(tokenizer.decode([token]) for token, is_so in tokens if is_so).split()
        kinds = zip(words_of(story.text), world.kinds(story.text), strict=True)
        assert decided == [word for word, kind in kinds if kind == "memory"]


def spoken(tokenizer, batch):
    """Give of each row its text and what is predicted, the words foretold in braces."""
    end = tokenizer.special_tokens[END_OF_TEXT]
    for row, goals in zip(*(ids.tolist() for ids in batch), strict=True):
        ids = row[1:]
        while ids[-1] == 0:  # padding
            ids.pop()
        told = ""
        for goal, token in zip(goals, [*ids, end], strict=False):
            if goal >= 0:
                word = tokenizer.decode([goal])
                told += word if goal == token else f"{{{word}}}"
        yield tokenizer.decode(ids), told


@pytest.mark.parametrize("share", [0.0, 1e-9, 1.0])
def test_a_lesson_asks_everything_and_predicts_what_is_decided(world, share):
    _, tokenizer = load("littletown")
    lesson = Lesson(1, None, share, stories_per_step=2)
    batches = lesson_batches(world, tokenizer, lesson, LESSON_SEED, pool=3, longest=2_000)
    texts = dict(pair for _ in range(3) for pair in spoken(tokenizer, next(batches)))
    for seed in range(LESSON_SEED, LESSON_SEED + 6):
        story = world.sample(seed)
        [(text, told)] = [pair for pair in texts.items() if pair[0].startswith(story.text)]
        pairs = world.questions(story.text)
        assert len(text) == len(story.text) + sum(len(q) + len(a) + 2 for q, a in pairs)
        assert all(f" {question} {reply}" in text for question, reply in pairs)
        assert all(f" {reply}" in told for _, reply in pairs)
        assert told.count("{") == len(pairs)
        kinds = zip(words_of(story.text), world.kinds(story.text), strict=True)
        decided = [word for word, kind in kinds if kind == "memory"]
        if share == 0:
            pairs.sort(key=lambda pair: text.rindex(" ".join(pair)))  # not in the story
            assert re.sub(r"{.*?}", "", told) == "".join(f" {reply}" for _, reply in pairs)
        elif share < 1:
            assert told.replace("{", " {").split()[: len(decided)] == decided
        else:
            assert told.startswith(story.text)
            assert told.endswith(END_OF_TEXT)


@pytest.mark.parametrize(
    ("question", "answer", "asked", "foretold"),
    [
        ("What is the job of Mia?", "She is a baker.", " Mia", " baker"),
        ("How does Tom feel?", "He feels happy.", " Tom", " happy"),
        ("Where is the kite?", "It is on the beach.", " kite", " beach"),
        ("Where is the kite?", "Tom has it.", " kite", " Tom"),
        ("Who had the kite first?", "Mia had it first.", " kite", " Mia"),
    ],
)
def test_where_a_question_says_of_whom_the_answer_is_foretold(question, answer, asked, foretold):
    _, tokenizer = load("littletown")
    tokens = question_tokens(tokenizer, question, answer)
    assert tokenizer.decode([token for token, _, _ in tokens]) == f" {question} {answer}"
    [(place, ahead)] = [(i, ahead) for i, (_, ahead, _) in enumerate(tokens) if ahead >= 0]
    assert tokenizer.decode([tokens[place][0]]) == asked
    assert tokenizer.decode([ahead]) == foretold
    assert tokenizer.decode([token for token, _, counts in tokens if counts]) == f" {answer}"


def test_a_lesson_may_tell_only_the_beginning_of_a_story(world):
    _, tokenizer = load("littletown")
    lesson = Lesson(1, (1, 2), 1.0, stories_per_step=20)
    batch = next(lesson_batches(world, tokenizer, lesson, first_seed=0, pool=1))
    lengths = Counter(text.partition("?")[0].count(". ") for text, _ in spoken(tokenizer, batch))
    assert set(lengths) == {1, 2}


def test_a_beginning_as_long_as_the_story_leaves_its_own_question_out(world):
    _, tokenizer = load("littletown")
    lesson = Lesson(1, (99, 99), 1.0, stories_per_step=4)
    batch = next(lesson_batches(world, tokenizer, lesson, first_seed=0, pool=1, longest=2_000))
    for text, _ in spoken(tokenizer, batch):
        questions = re.findall(r"[A-Z][^.?]*\?", text)
        assert len(questions) > 3
        assert len(set(questions)) == len(questions)


def test_a_lesson_is_no_longer_than_the_model_reads(world):
    _, tokenizer = load("littletown")
    lesson = Lesson(1, None, 0.3, stories_per_step=4)
    batches = lesson_batches(world, tokenizer, lesson, LESSON_SEED, pool=2, longest=150)
    widths = [next(batches)[0].shape[1] for _ in range(2)]
    assert 100 < max(widths) <= 150 < SHAPE["context_length"]


def test_the_lessons_come_first_and_then_the_stories(world):
    _, tokenizer = load("littletown")
    lessons = (Lesson(2, (1, 3), 0.0, stories_per_step=3), Lesson(1, None, 0.3))
    recipe = dataclasses.replace(recipes(500)["littletown"], lessons=lessons, stories_per_step=5)
    batches = all_batches(world, tokenizer, recipe)
    drawn = [next(batches)[0] for _ in range(4)]
    assert [len(token_ids) for token_ids in drawn] == [3, 3, 12, 5]
    [first] = {len(row) for row in next(story_batches(world, tokenizer, 5, TRAINING_SEED))[0]}
    assert drawn[3].shape == (5, first)


def test_matrices_start_wider_and_norms_do_not():
    torch.manual_seed(0)
    model = GPT(recipes(vocab_size=500)["littletown"].config)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    widen(model)
    for name, parameter in model.named_parameters():
        factor = math.sqrt(6) if parameter.dim() == 2 else 1.0
        torch.testing.assert_close(parameter, before[name] * factor)


def first_attention(model, token_ids):
    """Give the weights of the first layer's attention, computed by hand."""
    attention, config = model.blocks[0].attention, model.config
    x = model.blocks[0].attention_norm(model.token_embedding(token_ids))
    query, key, _ = attention.query_key_value(x).split(config.d_model, dim=-1)
    query, key = (
        attention.rotary(part.unflatten(-1, (config.num_heads, -1)).transpose(-2, -3))
        for part in (query, key)
    )
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    ahead = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(ahead, -math.inf).softmax(dim=-1)


@torch.no_grad()
def test_a_prepared_model_begins_by_looking_back_and_for_its_like():
    torch.manual_seed(0)
    model = GPT(recipes(vocab_size=500)["littletown"].config)
    token_ids = torch.randperm(500)[:60]
    token_ids[50] = token_ids[20]
    before = first_attention(model, token_ids)
    prepare_start(model)
    after = first_attention(model, token_ids)
    places = torch.arange(1, 60)
    assert before[0, places, places - 1].mean() < 0.2
    assert after[0, places, places - 1].mean() > 0.85
    others = torch.cat([after[1, 50, :20], after[1, 50, 21:50]])
    assert after[1, 50, 20] > 4 * others.mean()
    assert before[1, 50, 20] < 2 * before[1, 50, :50].mean()
    second = model.blocks[1].attention.query_key_value.weight
    assert second[:64, 1:].abs().max() == 0  # the head that looks back sees the first channel alone
    torch.testing.assert_close(second[64:128], second[192:256])


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
