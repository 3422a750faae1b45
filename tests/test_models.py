"""The models that come with the book: as good as their cards say, and quick to load."""

import dataclasses
import itertools
import json
import math
import re
from collections import defaultdict

import pytest
import torch

from gptbook.applications import TASKS, score
from gptbook.evaluation import IGNORED
from gptbook.littletown.stories import State, follow
from gptbook.model import GPT
from gptbook.models import load
from gptbook.tokenizer import END_OF_TEXT, Tokenizer
from gptbook.world import END_OF_STORY, World, words_of
from tools import make_assistant
from tools.make_models import (
    BACKWARD_HEADS,
    BASES,
    HELD_OUT_SEED,
    MODELS,
    SAMPLING_SEED,
    SEEDS_PER_LESSON,
    SHAPE,
    TOKENIZER_SEED,
    TRAINING_SEED,
    Lesson,
    Row,
    Writer,
    all_batches,
    answer,
    card,
    measure,
    pad,
    prepare_start,
    recipes,
    reread_batches,
    story_batches,
    story_losses,
    targets_of,
    widen,
    write_stories,
)
from tools.readers import NUMBERS, READERS, readings

FRESH_SEED = 9_000_000  # stories that were used for nothing before
models = pytest.mark.parametrize("name", BASES)


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


def test_the_model_of_the_book_meets_its_bar():
    measured = facts_of("littletown")["measured"]
    assert measured["stories"] >= 2_000
    assert measured["above_floor"] < 0.005
    assert measured["answers_right"] >= 0.995
    assert measured["stories_without_fault"] >= 0.99


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


def odds_of(targets, tokenizer):
    """Part targets into the odds of the next token and what the readers are to say."""
    return targets.split([tokenizer.vocab_size, len(READERS)], dim=-1)


def test_batches_hold_whole_stories_and_predict_nothing_behind_them(world):
    _, tokenizer = load("littletown")
    end = tokenizer.special_tokens[END_OF_TEXT]
    batches = story_batches(world, tokenizer, 4, 7, pool=2)
    drawn = [next(batches) for _ in range(2)]
    texts = []
    for token_ids, targets in drawn:
        assert (token_ids[:, 0] == end).all()
        odds, _ = odds_of(targets, tokenizer)
        assert odds.shape[:2] == token_ids.shape
        for ids, predicted in zip(token_ids, odds[..., 0] != IGNORED, strict=True):
            length = int(predicted.sum())
            assert predicted[:length].all()
            texts.append(tokenizer.decode(ids[1:length].tolist()))
    assert sorted(texts) == sorted(world.sample(7 + index).text for index in range(8))


@pytest.mark.parametrize("cuts_words", [False, True])
def test_a_row_is_the_story_and_tells_what_can_be_read(world, cuts_words):
    _, tokenizer = load("littletown")
    if cuts_words:
        text = world.sample(0).text
        tokenizer = Tokenizer.train([text], vocab_size=280, special_tokens=[END_OF_TEXT])
    writer = Writer(tokenizer)
    for seed in range(40):
        story = world.sample(seed)
        row = writer.row(story.sentences)
        assert row.token_ids[1:-1] == tokenizer.encode_ordinary(story.text)
        assert {row.token_ids[0], row.token_ids[-1]} == {writer.end}
        expected, state = [], State()
        for sentence in story.sentences:
            for word, reader, told in readings(state, sentence):
                expected.append((words_of(sentence.text)[: word + 1], *NUMBERS[reader, told]))
            state = follow(state, sentence)
        found = []
        for place, reader, told in row.readings:
            before = tokenizer.decode(row.token_ids[1 : place + 1])
            words = words_of(re.split(r"(?<=[.?]) ", before)[-1])
            found.append((words, reader, told))
        assert found == expected


def test_odds_are_those_of_the_town_word_by_word(world):
    _, tokenizer = load("littletown")
    writer = Writer(tokenizer)
    for seed in range(6):
        row = writer.row(world.sample(seed).sentences)
        found = defaultdict(dict)
        for place, token, probability in row.odds:
            found[place][token] = found[place].get(token, 0.0) + probability
        assert found.keys() == set(range(len(row.token_ids) - 1))
        for place, odds in found.items():
            text = tokenizer.decode(row.token_ids[1 : place + 1])
            expected = defaultdict(float)
            for word, probability in world.next_word_probabilities(text).items():
                glued = place == 0 or word in ",.?"
                ids = tokenizer.encode_ordinary(word if glued else f" {word}")
                expected[writer.end if word == END_OF_STORY else ids[0]] += probability
            assert odds == pytest.approx(expected)


def test_the_pieces_of_a_word_are_sure_once_it_has_begun():
    tokenizer = Tokenizer.train(["a kite"], vocab_size=257, special_tokens=[END_OF_TEXT])
    writer = Writer(tokenizer)
    row = Row([writer.end], [], [])
    writer.write(row, "a", {"a": 0.25, "the": 0.75})
    writer.write(row, "kite", {"kite": 0.5, "bag": 0.5})
    pieces = tokenizer.encode_ordinary(" kite")
    assert len(pieces) > 2
    first = {tokenizer.encode_ordinary(" kite")[0], tokenizer.encode_ordinary(" bag")[0]}
    assert {token for place, token, _ in row.odds if place == 1} == first
    assert sum(odds for place, _, odds in row.odds if place == 1) == 1
    assert row.odds[-len(pieces) + 1 :] == [
        (place, token, 1.0) for place, token in enumerate(pieces[1:], 2)
    ]


def test_behind_a_story_only_answers_are_predicted(world):
    _, tokenizer = load("littletown")
    batches = story_batches(world, tokenizer, 2, 5, num_questions=3, pool=3)
    stories = [world.sample(seed) for seed in range(5, 11)]
    for token_ids, targets in [next(batches) for _ in range(3)]:
        odds, _ = odds_of(targets, tokenizer)
        for row, each in zip(token_ids.tolist(), odds, strict=True):
            text = tokenizer.decode([token for token in row[1:] if token])
            [story] = [story for story in stories if text.startswith(story.text)]
            asked = [f"{q} {a}" for q, a in world.questions(story.text)]
            behind = text.removeprefix(story.text)
            pairs = sorted((p for p in asked if f" {p}" in behind), key=behind.index)
            assert len(pairs) == 3
            assert len(behind) == sum(len(pair) + 1 for pair in pairs)
            start = len(tokenizer.encode_ordinary(story.text))
            told = [row.argmax().item() for row in each[start:] if row[0] != IGNORED]
            answers = [f" {pair.partition('? ')[2]}" for pair in pairs]
            assert tokenizer.decode(told) == END_OF_TEXT.join(["", *answers, ""])
            assert (each[:start, 0] != IGNORED).all()


def test_targets_are_probabilities_or_nothing(world):
    _, tokenizer = load("littletown")
    _, targets = next(story_batches(world, tokenizer, 6, 0, num_questions=1, pool=1))
    odds, _ = odds_of(targets, tokenizer)
    predicted = odds[..., 0] != IGNORED
    assert 0.8 < predicted.float().mean() < 1
    torch.testing.assert_close(odds[predicted].sum(dim=-1), torch.ones(int(predicted.sum())))
    assert (odds[~predicted] == IGNORED).all()


def test_words_that_begin_with_the_same_piece_share_its_odds():
    row = Row([0, 5, 6], [(0, 5, 0.25), (0, 7, 0.5), (0, 5, 0.25), (1, 6, 1.0)], [])
    odds = targets_of([row], length=2, vocab_size=8)[0, :, :8]
    assert odds[0].tolist() == [0, 0, 0, 0, 0, 0.5, 0, 0.5]
    assert odds[1].tolist() == [0, 0, 0, 0, 0, 0, 1, 0]


def test_readings_stand_at_their_tokens_in_a_batch(world):
    _, tokenizer = load("littletown")
    token_ids, targets = next(story_batches(world, tokenizer, 6, 0, pool=1))
    _, answers = odds_of(targets.long(), tokenizer)
    names = list(READERS)
    whose, looks = (answers[..., names.index(name)] for name in ("who", "look"))
    spoken = 0
    for row, place in (whose >= 0).nonzero().tolist():
        word = tokenizer.decode([token_ids[row, place]]).strip()
        named = READERS["who"].candidates[whose[row, place]]
        assert word in {named, "She", "He"}
        spoken += word == named
    assert spoken > 40
    for row, place in (looks >= 0).nonzero().tolist():
        text = tokenizer.decode(token_ids[row].tolist())
        noun = tokenizer.decode([token_ids[row, place]])
        assert f" {READERS['look'].candidates[looks[row, place]]}{noun}" in text


def test_the_longest_rows_fit_in_the_context(world):
    writer = Writer(load("littletown")[1])
    most = max(lesson.num_questions for lesson in recipes(500)["littletown"].lessons)
    longest = sorted((world.sample(seed) for seed in range(3_000)), key=lambda s: -len(s.text))[:20]
    for story in longest:
        pairs = sorted(world.questions(story.text), key=lambda pair: -len("".join(pair)))
        row = writer.row(story.sentences, pairs[:most])
        assert len(row.token_ids) < SHAPE["context_length"] - 40


def test_lessons_follow_each_other_with_stories_of_their_own(world):
    _, tokenizer = load("littletown")
    lessons = Lesson(2, num_questions=2), Lesson(1, num_questions=1), Lesson(3)
    recipe = dataclasses.replace(recipes(500)["littletown"], lessons=lessons, stories_per_step=2)
    drawn = list(all_batches(world, tokenizer, recipe))
    assert len(drawn) == 6
    for batch, number in ((drawn[2], 1), (drawn[3], 2)):
        seed = TRAINING_SEED + number * SEEDS_PER_LESSON
        questions = lessons[number].num_questions
        expected = next(story_batches(world, tokenizer, 2, seed, questions))
        assert all(torch.equal(a, b) for a, b in zip(batch, expected, strict=True))


def test_the_stories_that_were_worst_are_read_again_as_long_as_they_are(world):
    _, tokenizer = load("littletown")
    texts = []

    def mistakes():
        return [float(badness(text)) for text in texts[-1]]

    def badness(text):
        return text.count("e") + len(text) / 1_000  # as good as any, and no two alike

    batches = reread_batches(world, tokenizer, 2, 40, 0, 1, mistakes, pool=3)
    hard, num_kept = [], 0
    for pool in range(5):
        for _ in range(3):
            texts.append([tokenizer.decode([i for i in row if i]) for row in next(batches)[0]])
        fresh = [text.removeprefix(END_OF_TEXT) for batch in texts[-3:] for text in batch]
        first = 40 + 6 * pool
        assert sorted(fresh) == sorted(world.sample(first + i).text for i in range(6))
        expected = sorted(itertools.chain(hard, *texts[-3:]), key=badness)[-2:]
        texts.append([tokenizer.decode([i for i in row if i]) for row in next(batches)[0]])
        num_kept += len(set(expected) & set(hard))
        hard = texts[-1]
        assert sorted(hard) == sorted(expected)
    assert num_kept > 2


def test_without_word_of_mistakes_nothing_is_read_again(world):
    _, tokenizer = load("littletown")
    lessons = (Lesson(20, num_rereads=1),)
    recipe = dataclasses.replace(recipes(500)["littletown"], lessons=lessons, stories_per_step=1)
    plain = [batch[0] for batch in all_batches(world, tokenizer, recipe)]
    again = [batch[0] for batch in all_batches(world, tokenizer, recipe, lambda: [1.0])]
    assert len({tuple(row[0].tolist()) for row in plain}) == 20
    assert len({tuple(row[0].tolist()) for row in again}) == 19  # 16 new ones, 1 old, 3 new


def test_a_step_belongs_to_its_lesson():
    lessons = Lesson(3, num_questions=2), Lesson(1, strictness=5.0), Lesson(2)
    recipe = dataclasses.replace(recipes(500)["littletown"], lessons=lessons)
    expected = [lessons[0]] * 3 + [lessons[1]] + [lessons[2]] * 2
    assert [recipe.lesson(step) for step in range(1, 7)] == expected


@pytest.mark.parametrize("name", ["littletown", "littletown-gpt2"])
def test_no_story_that_is_measured_was_trained_on(name):
    recipe = recipes(500)[name]
    pool = 64 * recipe.stories_per_step
    for number, lesson in enumerate(recipe.lessons):
        last = number * SEEDS_PER_LESSON + lesson.num_steps * recipe.stories_per_step + pool
        assert last < (number + 1) * SEEDS_PER_LESSON
        used = range(TRAINING_SEED + number * SEEDS_PER_LESSON, TRAINING_SEED + last)
        assert used.stop <= min(HELD_OUT_SEED, SAMPLING_SEED, FRESH_SEED)
    assert sum(lesson.num_steps for lesson in recipe.lessons) == recipe.training.num_steps


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
    for layer, head, distance in BACKWARD_HEADS:
        weight = model.blocks[layer].attention.query_key_value.weight
        rows = weight[head * 32 : (head + 1) * 32]
        assert rows[:, 1:].abs().max() == 0  # it sees the first channel alone
        if layer == 0:
            places = torch.arange(distance, 60)
            assert before[head, places, places - distance].mean() < 0.2
            assert after[head, places, places - distance].mean() > 0.85
    for head in (2, 3):
        others = torch.cat([after[head, 50, :20], after[head, 50, 21:50]])
        assert after[head, 50, 20] > 3 * others.mean()
        assert before[head, 50, 20] < 2 * before[head, 50, :50].mean()
        torch.testing.assert_close(weight[head * 32 :][:32], weight[128 + head * 32 :][:32])


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


# --- the assistant ------------------------------------------------------------------------------


def test_the_assistant_meets_its_bars():
    facts = facts_of("littletown-assistant")
    measured = facts["measured"]
    assert measured["cases"] >= 1_000
    assert measured["shares"]["question"] >= 0.99
    assert measured["shares"]["translation by sentence"] >= 0.97
    assert measured["shares"]["summary"] >= 0.95
    assert measured["shares"]["shop"] >= 0.90
    assert measured["sentiment"]["expected"] >= measured["sentiment"]["best_here"] - 0.01


def test_the_assistant_s_card_says_what_was_measured(world):
    facts = facts_of("littletown-assistant")
    card_text = (MODELS / "littletown-assistant" / "README.md").read_text(encoding="utf-8")
    assert card_text == make_assistant.card(facts)
    recipes = [dataclasses.asdict(recipe) for recipe in make_assistant.RECIPES]
    assert facts["recipes"] == json.loads(json.dumps(recipes))
    assert facts["measured"]["entropy"] == pytest.approx(world.entropy, rel=1e-9)
    model, tokenizer = load("littletown-assistant")
    assert facts["parameters"] == model.num_parameters() == load()[0].num_parameters()
    assert tokenizer.vocab_size == model.vocab_size


@pytest.mark.slow
@pytest.mark.parametrize("name", ["question", "summary", "translation"])
def test_fresh_cases_are_answered_as_well_as_the_card_says(name):
    model, tokenizer = load("littletown-assistant")
    promised = facts_of("littletown-assistant")["measured"]["shares"][name]
    cases = make_assistant.fitting(model, tokenizer, name, 100, FRESH_SEED)
    share = score(model, tokenizer, TASKS[name], cases).share
    assert share > promised - 4 * spread(promised, len(cases)) - 0.01
