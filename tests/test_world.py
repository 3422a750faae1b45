import json
import math
import random
import re
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbook.littletown import posts, programs, reviews, scenes, shop
from gptbook.littletown.kinds import KINDS
from gptbook.littletown.next_words import begin, next_words
from gptbook.littletown.reading import read_sentence
from gptbook.littletown.scenes import Focus, average_rest
from gptbook.littletown.stories import Sentence, State, follow
from gptbook.littletown.wordings import WORDINGS, words_of
from gptbook.littletown.words import LOOKS, NAMES, PLACES, POOLS, THINGS
from gptbook.tokenizer import END_OF_TEXT
from gptbook.world import END_OF_STORY, Story, World

WORLD = World()
SEEDS = st.integers(min_value=0, max_value=10**9)

# A story told by hand, in which everything that the tests below change is there to be changed.
OPENING = (
    "One sunny morning, the shy baker Mia was in the park. The calm pilot Tom was also in the park."
)
MORNING = "Mia found a red kite near a stone. She was happy. Mia gave the kite to Tom in the park."
AFTERNOON = "At noon, Tom went for a walk and ended up on the beach. He lost the kite on the beach."
EVENING = "That evening, it began raining."
STORY = f"{OPENING} {MORNING} {AFTERNOON} {EVENING} Where is the kite? It is on the beach."


def faults(text):
    return [(fault.index, fault.kind, fault.reason) for fault in WORLD.faults(text)]


def changed(old, new):
    assert old in STORY
    return STORY.replace(old, new, 1)


# --- one derivation, and its probability ----------------------------------------------------------


@given(SEEDS)
def test_reading_a_story_finds_just_the_way_in_which_it_was_drawn(seed):
    story = WORLD.sample(seed)
    assert WORLD.parse(story.text) == story.sentences
    assert WORLD.log_probability(story.text) == story.log_probability


@given(SEEDS)
def test_the_probabilities_of_the_words_multiply_to_that_of_the_story(seed):
    story = WORLD.sample(seed)
    words = WORLD.word_log_probabilities(story.text)
    assert [word for word, _ in words] == words_of(story.text)
    total = math.fsum(nats for _, nats in words)
    assert total == pytest.approx(story.log_probability, abs=1e-9)


@given(SEEDS, st.floats(min_value=0, max_value=1))
def test_the_probabilities_of_all_next_words_sum_to_one(seed, where):
    text = WORLD.sample(seed).text
    ends = [0, *(match.end() for match in re.finditer(r"\w+|[^\w\s]", text))]
    end = ends[round(where * (len(ends) - 1))]
    probabilities = WORLD.next_word_probabilities(text[:end])
    assert math.fsum(probabilities.values()) == pytest.approx(1, abs=1e-12)
    assert min(probabilities.values()) > 0
    following = words_of(text[end:])
    nats = dict(enumerate(WORLD.word_log_probabilities(text)))
    if following:
        known = nats[len(nats) - len(following)][1]
        assert math.log(probabilities[following[0]]) == pytest.approx(known, abs=1e-9)
    else:
        assert probabilities == {END_OF_STORY: 1.0}


def test_a_story_told_by_hand_is_as_likely_as_its_choices_multiplied_by_hand():
    num_names, num_places, num_nouns = len(NAMES), sum(map(len, PLACES)), sum(map(len, THINGS))
    opening = 3 * 8 * 16 * 24 * num_names * num_places
    # Somebody here, twice as likely as somewhere; in one of two wordings; now only a "he" is left.
    second = 3 / 2 * 2 * 16 * 24 * num_names / 2
    actor = (1 + 1 + scenes.WEATHER) / 1
    find = 5 / weights_of_a_lone_hand()
    found = num_nouns * 3 * 12 * 5
    prefix = f"{OPENING} Mia found a red kite near a stone."
    sentences = prefix_log_probability(prefix)
    by_hand = math.log(find / (opening * second * actor * found))
    assert sentences == pytest.approx(by_hand, abs=1e-12)


def weights_of_a_lone_hand():
    """All that Mia may do: she is outdoors, there is Tom, and nobody has anything."""
    possible = {"walk", "visit", "stay", "find", "talk about work", "play", "quarrel"}
    return sum(kind.weight for kind in KINDS if kind.name in possible)


def prefix_log_probability(text):
    state, total = State(), 0.0
    for sentence in re.findall(r"[^ ][^.?]*[.?]", text):
        read = read_sentence(state, sentence)
        assert isinstance(read, Sentence)
        total += read.log_probability
        state = follow(state, read)
    return total


def test_no_sentence_belongs_to_two_wordings():
    seen = 0
    for kind in KINDS:
        for wording in WORDINGS[kind.name]:
            for seed in range(5):
                draw = random.Random(seed)
                words = []
                for piece in wording.pieces:
                    if isinstance(piece, str):
                        words.append(piece)
                    else:
                        words += piece.english(draw.choice(list(piece.entries()))).split()
                rows = [row for rows in WORDINGS.values() for row in rows if row.match(words)]
                rows += [
                    row for rows in WORDINGS.values() for row in rows if row.match(words) == ()
                ]
                assert {(row.kind.name, row.number) for row in rows} == {
                    (kind.name, wording.number)
                }
                seen += 1
    assert seen > 400


@pytest.mark.usefixtures("without_shape_checks")
def test_drawn_words_come_as_often_as_their_probability_says():
    counts, num = Counter(), 20_000
    for story in WORLD.stories(num, seed=5):
        counts[words_of(story.text)[1]] += 1
    for word, probability in WORLD.next_word_probabilities("One").items():
        expected = num * probability * WORLD.next_word_probabilities("")["One"]
        assert abs(counts[word] - expected) < 5 * math.sqrt(num) or word == "one"


# --- entropy --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.slow
def test_the_entropy_in_closed_form_lies_within_the_monte_carlo_interval_of_many_stories():
    num = 100_000
    nats, lengths = [], []
    for story in WORLD.stories(num, seed=11):
        nats.append(-story.log_probability)
        lengths.append(len(words_of(story.text)))
    for mean, sample in ((WORLD.entropy, nats), (WORLD.expected_words, lengths)):
        error = statistics.stdev(sample) / math.sqrt(num)
        assert abs(statistics.fmean(sample) - mean) < 3.29 * error  # 99.9% of a normal law
        assert error < mean / 1_000  # narrow enough to mean something


def states_in(story):
    state = State()
    for sentence in story.sentences:
        yield state
        state = follow(state, sentence)


def has_few_ways_on(state):
    """Whether all next sentences can be listed: nobody new comes in, no marker multiplies them."""
    return all(row.group != "next" and not row.marker for _, row in state.branches[:-1])


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("seed", range(2))
def test_the_entropy_of_a_sentence_is_that_of_all_sentences_listed(seed):
    """Word by word, down every strand: no scene, no fill, no formula is trusted."""
    listable = [row for row in states_in(WORLD.sample(seed)) if has_few_ways_on(row)]
    assert len(listable) > 2
    for state in listable[1:]:
        check_entropy_of_next_sentence(state)


def check_entropy_of_next_sentence(state):
    listed, words, total = 0.0, 0.0, 0.0
    for strand in all_ways(begin(state)):
        listed -= strand[0] * math.log(strand[0])
        words += strand[0] * len(strand[1])
        total += strand[0]
    assert total == pytest.approx(1, abs=1e-9)
    nats, num_words = next_sentence(state)
    assert nats == pytest.approx(listed, rel=1e-9, abs=1e-9)
    assert num_words == pytest.approx(words, rel=1e-9)


def all_ways(strands):
    """Follow each strand to the end of its sentence."""
    for strand in strands:
        if strand.more is None:
            yield strand.probability, strand.ahead
            continue
        for probability, ahead in all_ways(strand.more()):
            yield strand.probability * probability, strand.ahead + ahead


def next_sentence(state):
    """The terms of the closed form that belong to the next sentence alone."""
    nats = words = 0.0
    for probability, branch in state.branches:
        markers = POOLS.get(branch.marker, ())
        own = -math.log(probability) + (math.log(len(markers)) if markers else 0)
        more = statistics.fmean(len(words_of(row.english)) + 1 for row in markers) if markers else 0
        for choice in state.options(branch).choices:
            share = probability * choice.probability
            nats += share * (own + choice.saying.nats - math.log(choice.probability))
            words += share * (more + choice.saying.num_words)
    return nats, words


def test_what_is_left_to_know_is_the_next_sentence_and_what_is_left_after_it():
    """The closed form is a sum over scenes; here over one step of real states."""
    state = State()
    for sentence in WORLD.sample(3).sentences[:-1]:
        focus = state.focus if state.clock.done == 1 else Focus()
        rest = average_rest(state.scene, focus, state.clock)
        after = 0.0
        for probability, branch in state.branches:
            for choice in state.options(branch).choices:
                following = scenes.focus_after(choice, branch)
                following = following if branch.clock.done == 1 else Focus()
                if branch.group != "question":
                    part = average_rest(choice.after.scene, following, branch.clock)
                    after += probability * choice.probability * part.nats
        assert rest.nats == pytest.approx(next_sentence(state)[0] + after, rel=1e-9)
        state = follow(state, sentence)


@given(SEEDS)
def test_scenes_that_are_alike_are_one_scene(seed):
    """Renaming everybody and everything changes no probability."""
    story = WORLD.sample(seed)
    draw = random.Random(seed)
    renamed = story.text
    for pools in ((NAMES[:28],), (NAMES[28:],), PLACES, THINGS):
        for pool in pools:
            words = [row.english for row in pool]
            mapping = dict(zip(words, draw.sample(words, len(words)), strict=True))
            pattern = re.compile(rf"\b({'|'.join(words)})\b")
            renamed = pattern.sub(lambda found, mapping=mapping: mapping[found[0]], renamed)
    for place in (row for pool in PLACES for row in pool):
        renamed = re.sub(rf"\b(in|at|on) the {place.english}\b", place.at.english, renamed)
        renamed = re.sub(
            rf"\b(In|At|On) the {place.english}\b", place.at.english.capitalize(), renamed
        )
    assert WORLD.log_probability(renamed) == pytest.approx(story.log_probability, abs=1e-9)


def test_the_floor_a_token_counts_tokens_and_the_end():
    class Letters:
        def encode(self, text):
            return list(text.encode())

    lengths = [len(story.text) + 1 for story in WORLD.stories(50, seed=4)]
    expected = WORLD.entropy / statistics.fmean(lengths)
    assert WORLD.entropy_per_token(Letters(), num_stories=50, seed=4) == pytest.approx(expected)
    assert WORLD.entropy_per_word == WORLD.entropy / WORLD.expected_words


# --- faults ---------------------------------------------------------------------------------------


def corrupt(text, draw):
    """Change a story in one of the ways in which a model may go wrong."""
    words = re.findall(r"\w+|[^\w\s]|\s", text)
    places = [index for index, word in enumerate(words) if word.strip()]
    index, other = draw.sample(places, 2)
    sentences = re.findall(r"[^ ][^.?]*[.?]", text)
    first, second = draw.sample(range(len(sentences)), 2)
    vocabulary = [row.english for row in NAMES + PLACES[0] + THINGS[0] + THINGS[1]]
    alike = [word for word in vocabulary if word in words]
    way = draw.randrange(8)
    if way == 0:
        words[index] = draw.choice(WORLD.words)
    elif way == 1:
        del words[index]
    elif way == 2:
        words.insert(index, words[index] + " ")
    elif way == 3:
        words[index], words[other] = words[other], words[index]
    elif way == 4:
        old, new = draw.choice(alike), draw.choice(vocabulary)
        words[words.index(old)] = new
    elif way == 5:
        sentences[first], sentences[second] = sentences[second], sentences[first]
        return " ".join(sentences)
    elif way == 6:
        del sentences[first]
        return " ".join(sentences)
    else:
        sentences[-1] = draw.choice([answer for _, answer in WORLD.questions(text)])
        return " ".join(sentences)
    return "".join(words)


def reads_word_by_word(text):
    """Whether a text is a whole story, by the other engine: one word after the other."""
    prefix = ""
    try:
        for match in re.finditer(r"\w+|[^\w\s]", text):
            if match[0] not in WORLD.next_word_probabilities(prefix):
                return False
            prefix = text[: match.end()]
        return WORLD.next_word_probabilities(text) == {END_OF_STORY: 1.0} and text == prefix
    except ValueError:
        return False


@given(SEEDS)
def test_every_corruption_is_found_or_is_itself_a_possible_story(seed):
    draw = random.Random(seed)
    text = corrupt(WORLD.sample(seed).text, draw)
    is_possible = reads_word_by_word(text)
    assert (WORLD.faults(text) == []) == is_possible
    assert (WORLD.log_probability(text) > -math.inf) == is_possible


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.slow
def test_faults_and_probability_agree_on_thousands_of_corruptions():
    draw = random.Random(1)
    found = Counter()
    for story in WORLD.stories(4_000, seed=2):
        text = corrupt(story.text, draw)
        is_faulty = bool(WORLD.faults(text))
        assert is_faulty == (WORLD.log_probability(text) == -math.inf)
        found[is_faulty] += 1
    assert found[True] > 3_000  # most ways of going wrong are wrong
    assert found[False] > 50  # and some make another story


def test_the_story_told_by_hand_has_no_fault():
    assert faults(STORY) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("gave the kite to Tom", "gave the kite to Ann", (4, "language", "no such sentence")),
        ("gave the kite to Tom", "gave the kite to Ben", (4, "contradiction", "no Ben in the")),
        ("gave the kite", "gave the drum", (4, "contradiction", "there is no drum in the story")),
        (
            "to Tom in",
            "to Mia in",
            (4, "contradiction", "cannot give now: that takes somebody else"),
        ),
        (
            "to Tom in the park",
            "to Tom in the barn",
            (4, "contradiction", "Tom is in the park, not"),
        ),
        ("He lost the kite", "She lost the kite", (6, "contradiction", "says 'he', not 'she'")),
        ("on the beach. That", "in the park. That", (6, "contradiction", "Tom is on the beach")),
        ("Tom went", "Mia went", (6, "contradiction", "Mia cannot lose now: Tom has the kite")),
        ("up on the beach", "up in the park", (6, "contradiction", "Tom is in the park, not on")),
        ("It is on the beach", "It is in the park", (9, "contradiction", "not in the park")),
        ("It is on the beach", "Tom has it", (9, "contradiction", "the kite is on the beach")),
        (
            "the kite? It is on the beach",
            "Tom? Tom has it",
            (9, "contradiction", "not what was asked"),
        ),
        ("It is on the beach", "It is red", (9, "contradiction", "not what was asked")),
        ("began raining", "stopped raining", (7, "contradiction", "it was not raining")),
        ("She was happy", "She was sad", (3, "contradiction", "sorrow about what happened")),
        ("She was happy", "She was green", (3, "language", "no such sentence")),
        ("She was happy", "Mia was happy", (3, "contradiction", "says 'She', not 'Mia'")),
        ("At noon", "That evening", (5, "contradiction", "the first event of the afternoon can")),
        ("the calm pilot Tom", "the calm pilot Mia", (1, "contradiction", "Mia is in the story")),
        ("the calm pilot Tom", "the calm pilot Ivy", (1, "contradiction", "called 'she' already")),
        (
            "At noon, Tom",
            "At noon, Mia found a red drum near a wall. Tom",
            (5, "language", "no such"),
        ),
        (
            "At noon, Tom",
            "At noon, Mia found a red drum in a box. Tom",
            (
                5,
                "contradiction",
                "Mia cannot find now: Tom has the kite, and a story has one thing",
            ),
        ),
        ("Mia found", "Mia found found", (2, "language", "no such sentence")),
        ("a red kite", "a tasty kite", (2, "contradiction", "nothing of its kind is called tasty")),
        ("a red kite", "an red kite", (2, "language", "no such sentence")),
        ("Mia gave", "mia gave", (4, "language", "no such sentence")),
        (". Mia gave", ".  Mia gave", (4, "language", "no such sentence")),
        (". Mia gave", ".Mia gave", (4, "language", "no space stands before it")),
    ],
)
def test_a_fault_is_named_where_it_is(old, new, fault):
    text = STORY.replace(
        old.replace("the calm", "The calm"), new.replace("the calm", "The calm"), 1
    )
    assert text != STORY
    index, kind, reason = fault
    first = faults(text)[0]
    if "'" in reason:
        reason = reason.lower()
    assert (first[0], first[1]) == (index, kind)
    assert reason in (first[2].lower() if "'" in reason else first[2])


def test_giving_what_somebody_else_has_is_told_with_who_has_it():
    text = STORY.replace(
        "At noon, Tom went for a walk and ended up on the beach. He",
        "At noon, Mia hid the kite in the park. Tom",
    )
    assert faults(text)[0] == (5, "contradiction", "Mia cannot leave now: Tom has the kite")


def test_each_sentence_that_the_town_does_not_have_is_a_fault_of_its_own():
    found = faults(changed(OPENING, f"{OPENING} The moon sang. Nobody knows."))
    language = [fault[:2] for fault in found if fault[1] == "language"]
    assert language == [(2, "language"), (3, "language")]


def test_who_meets_somebody_is_where_they_met():
    met = Counter()
    for seed in range(300):
        state = State()
        for sentence in WORLD.sample(seed).sentences:
            state = follow(state, sentence)
            if "A meets B" in sentence.choice.kind.needs:
                places = [state.scene.people[sentence.choice.cast[role]] for role in "AB"]
                assert places[0] == places[1], sentence.text
                met[sentence.kind] += 1
    kinds = {kind.name for kind in KINDS if "A meets B" in kind.needs}
    assert kinds == set(met)


def test_people_who_are_too_many_are_a_fault_and_no_error():
    third = "The calm pilot Ben was also in the park. The shy cook Ivy was also in the park."
    found = faults(changed(OPENING, f"{OPENING} {third}"))
    assert [fault[:2] for fault in found] == [(2, "contradiction")]  # the same reason counts once


def test_a_story_that_breaks_off_is_said_to():
    for text in ("", OPENING, STORY.removesuffix(" It is on the beach.")):
        assert faults(text)[-1][1:] == ("language", "the story breaks off before its answer")
        assert WORLD.log_probability(text) == -math.inf


def test_nothing_comes_after_the_answer():
    assert faults(STORY + " It is on the beach.") == [(10, "contradiction", "the story was over")]
    assert faults(STORY + " ") != []
    assert faults(STORY + "\n") != []


def test_one_slip_counts_once():
    slip = changed("was also in the park", "was in the school")
    slip = slip.replace("The calm pilot Tom", "The calm pilot Ben", 1)
    assert len(faults(slip)) <= 2
    believed = changed("He lost the kite on the beach", "He lost the kite in the school")
    believed = believed.replace("It is on the beach.", "It is in the school.")
    assert [index for index, *_ in faults(believed)] == [6]
    lost = changed("Mia gave the kite to Tom", "Mia gives the kite to Tom")
    assert [index for index, *_ in faults(lost)] == [4, 6]  # from there on Mia has the kite


@given(SEEDS, st.integers(min_value=0, max_value=5))
def test_any_text_at_all_is_read_without_an_exception(seed, num):
    draw = random.Random(seed)
    text = WORLD.sample(seed).text
    for _ in range(num):
        text = (
            corrupt(text, draw)
            if len(re.findall("[.?]", text)) > 3
            and any(row.english in words_of(text) for row in NAMES)
            and not WORLD.faults(text)
            else text[: draw.randrange(len(text) + 1)]
        )
    WORLD.faults(text)
    WORLD.log_probability(text)


@given(st.text(alphabet="ab .?,AB", max_size=30))
def test_noise_is_no_story(text):
    assert WORLD.faults(text)
    assert WORLD.log_probability(text) == -math.inf


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.slow
def test_every_pair_of_kinds_in_the_wrong_place_is_still_read():
    """Sentences of one story, dealt into another, make every sort of contradiction."""
    draw = random.Random(3)
    sentences = [row.text for story in WORLD.stories(300, seed=3) for row in story.sentences]
    kinds = set()
    for story in WORLD.stories(2_000, seed=4):
        rows = [row.text for row in story.sentences]
        for _ in range(3):
            rows[draw.randrange(len(rows))] = draw.choice(sentences)
        text = " ".join(rows)
        found = WORLD.faults(text)
        assert bool(found) == (WORLD.log_probability(text) == -math.inf)
        kinds.update(re.sub(r"\b[A-Z]\w+\b", "X", fault.reason)[:20] for fault in found)
    assert len(kinds) > 40


# --- what is known of a story ---------------------------------------------------------------------


def test_the_story_told_by_hand_is_known_through_and_through():
    story = Story(WORLD.parse(STORY))
    assert story.text == STORY
    assert story.question == "Where is the kite?"
    assert story.answer == "It is on the beach."
    assert story.prompt == STORY.removesuffix(" It is on the beach.")
    assert story.sentiment == "positive"
    assert story.summary == (
        "The baker Mia got the kite and parted with the kite. In the end Mia is in the park and "
        "feels happy."
    )
    assert set(story.facts) == {
        "Mia is a baker.", "Mia is in the park.", "Mia feels happy.",
        "Tom is a pilot.", "Tom is on the beach.", "Tom feels calm.",
        "The kite is on the beach.", "The kite is red.", "Mia had the kite first.",
    }  # fmt: skip
    assert story.chinese == (
        "一个晴朗的早晨，害羞的面包师米娅在公园里。平静的飞行员汤姆也在公园里。"
        "米娅在石头旁发现了一只红色的风筝。她很高兴。米娅在公园里把风筝给了汤姆。"
        "中午，汤姆出去散步，最后到了海滩上。他在海滩上弄丢了风筝。当晚，下起雨来了。"
        "风筝在哪里？它在海滩上。"
    )


def test_all_questions_that_can_be_answered_are_listed():
    pairs = {
        ("Where is the kite?", "It is on the beach."),
        ("Where is Mia?", "She is in the park."),
        ("Where is Tom?", "He is on the beach."),
        ("What color is the kite?", "It is red."),
        ("Who had the kite first?", "Mia had it first."),
        ("What is the job of Mia?", "She is a baker."),
        ("What is the job of Tom?", "He is a pilot."),
        ("How does Mia feel?", "She feels happy."),
        ("How does Tom feel?", "He feels calm."),
    }
    events = f"{OPENING} {MORNING} {AFTERNOON} {EVENING}"
    for text in (STORY, events, f"{events} Where is the kite?"):
        assert set(WORLD.questions(text)) == pairs
    for question, answer in pairs:
        assert faults(f"{events} {question} {answer}") == []
    wrong = {answer for _, answer in pairs}
    for question, answer in pairs:
        for other in wrong - {answer}:
            assert faults(f"{events} {question} {other}") != []


@given(SEEDS)
def test_the_question_of_a_story_is_one_of_those_that_can_be_answered(seed):
    story = WORLD.sample(seed)
    assert (story.question, story.answer) in WORLD.questions(story.text)
    assert WORLD.questions(story.prompt) == WORLD.questions(story.text)


def test_kinds_tell_memory_from_choice_and_grammar():
    kinds = dict(zip(words_of(STORY), WORLD.kinds(STORY), strict=True))  # the last of each word
    assert len(WORLD.kinds(STORY)) == len(words_of(STORY))
    expected = {"Tom": "memory", "kite": "memory", "beach": "memory", "on": "memory"}
    expected |= {"red": "choice", "went": "choice", "stone": "grammar", "noon": "choice"}
    expected |= {"the": "grammar", ".": "grammar", "began": "memory", "raining": "grammar"}
    assert {word: kinds[word] for word in expected} == expected
    first = WORLD.kinds(STORY)[:12]
    assert first[:3] == ["choice", "choice", "grammar"]


@given(SEEDS)
def test_what_is_neither_chosen_nor_remembered_is_certain(seed):
    text = WORLD.sample(seed).text
    rows = zip(WORLD.kinds(text), WORLD.word_log_probabilities(text), strict=True)
    costs = defaultdict(list)
    for kind, (_, nats) in rows:
        costs[kind].append(nats)
    assert max(map(abs, costs["grammar"])) < 1e-9
    assert max(costs["choice"]) < -1e-9
    assert costs["memory"]


@pytest.mark.usefixtures("without_shape_checks")
def test_no_two_stories_are_the_same_in_chinese():
    english, chinese = set(), set()
    for story in WORLD.stories(20_000, seed=8):
        english.add(story.text)
        chinese.add(story.chinese)
    assert len(chinese) == len(english)


def test_chinese_is_written_in_chinese():
    for story in WORLD.stories(300, seed=9):
        assert re.fullmatch(r"[\u4e00-\u9fff，。？]+", story.chinese)
        assert story.chinese.count("。") + story.chinese.count("？") == len(story.sentences)


def test_no_two_wordings_or_words_are_the_same_in_chinese():
    wordings = [chinese for kind in KINDS for _, chinese in kind.wordings]
    assert len(set(wordings)) == len(wordings)
    for pool in (NAMES, *PLACES, *THINGS, *LOOKS, *POOLS.values()):
        assert len({row.chinese for row in pool}) == len({row.english for row in pool}) == len(pool)


def test_nobody_in_a_story_shares_a_name_and_stories_are_short():
    for story in WORLD.stories(3_000, seed=10):
        words = words_of(story.text)
        names = [word for word in words if word in {row.english for row in NAMES}]
        assert 2 <= len(set(names)) <= 3
        assert 30 <= len(words) <= 127
        assert "\n" not in story.text


@pytest.mark.usefixtures("without_shape_checks")
def test_the_town_is_rich_enough():
    assert len(WORLD.words) >= 300
    assert len([kind for kind in KINDS if kind.group == "event"]) >= 8
    seen = {word for story in WORLD.stories(6_000, seed=12) for word in words_of(story.text)}
    assert seen == set(WORLD.words)
    told = {row.kind for story in WORLD.stories(6_000, seed=12) for row in story.sentences}
    assert told == {kind.name for kind in KINDS}


def test_a_seed_gives_the_same_story_and_another_seed_another():
    assert WORLD.sample(5).text == World().sample(5).text != WORLD.sample(6).text
    first, second = WORLD.stories(2, seed=5)
    assert first.text == WORLD.sample(5).text != second.text
    assert repr(first) == f"Story({first.text!r})"


def test_the_end_of_a_story_is_what_tokenizers_end_a_text_with():
    assert END_OF_STORY == END_OF_TEXT


# --- speed ----------------------------------------------------------------------------------------


MEASURE_SPEED = """
import json
import time

from gptbook.world import World


def seconds(work):
    start = time.process_time()
    work()
    return time.process_time() - start


world = World()
quiet = seconds(lambda: sum(number * number for number in range(3_000_000)))  # 0.2 if it is quiet
stories = []


def tell():
    stories.extend(world.stories(10_000, seed=13))
    assert all(story.text and story.chinese for story in stories)


telling = seconds(tell)
scoring = seconds(lambda: [world.log_probability(story.text) for story in stories[:2_000]])
prefixes = [" ".join(story.text.split()[:40]) for story in stories[:60]]
for prefix in prefixes:
    world.next_word_probabilities(prefix)
looking = seconds(lambda: [world.next_word_probabilities(prefix) for prefix in prefixes])
slowness = max(1.0, quiet / 0.2)
print(json.dumps([telling / slowness, scoring / 2_000 / slowness, looking / 60 / slowness]))
"""


def test_ten_thousand_stories_take_less_than_five_seconds_and_a_next_word_ten_milliseconds():
    # In a process of its own: here the checks of shapes, and all that the other tests left in
    # memory, would be measured too. The best of three counts: a machine is never faster by chance.
    runs = []
    for _ in range(3):
        command = [sys.executable, "-c", MEASURE_SPEED]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        runs.append(json.loads(printed))
        telling, scoring, looking = map(min, zip(*runs, strict=True))
        if telling < 5 and scoring < 0.002 and looking < 0.010:
            break
    assert telling < 5, "seconds for 10,000 stories in both languages"
    assert scoring < 0.002, "seconds for the probability of one story"
    assert looking < 0.010, "seconds for the probabilities of the next word, asked again"


# --- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("One purple", "word 1 of 'One purple' cannot be 'purple'; cut the text before it"),
        (f"{OPENING} Mia found a red kite near Tom.", "sentence 2, .* no such sentence"),
        (f"{OPENING} Mia gave", "word 1 of 'Mia gave' cannot be 'gave'"),
        ("One  sunny", "is not spaced as the stories are; put one space"),
        (f"{OPENING}Mia", "is not spaced as the stories are; put one space"),
        (f"{STORY} The", "word 0 of 'The' cannot be 'The'"),
    ],
)
def test_an_impossible_prefix_is_refused_with_the_word_that_makes_it_so(prefix, message):
    with pytest.raises(ValueError, match=message):
        WORLD.next_word_probabilities(prefix)


def test_the_state_decides_which_words_may_come():
    after_gift = f"{OPENING} {MORNING} At noon, Tom"
    assert WORLD.next_word_probabilities(after_gift)["lost"] > 0
    assert "lost" not in WORLD.next_word_probabilities(f"{OPENING} {MORNING} At noon, Mia")
    assert WORLD.next_word_probabilities(f"{after_gift} lost the") == {"kite": 1.0}
    assert WORLD.next_word_probabilities(f"{after_gift} lost the kite in the ") == {"park": 1.0}
    strands = begin(State())
    assert set(next_words(strands)) == {"One", "On", "Early"}


def test_parsing_what_the_town_cannot_tell_names_the_first_fault():
    with pytest.raises(
        ValueError, match=r"sentence 6, 'He lost .*: Tom is on the beach, not in the"
    ):
        WORLD.parse(changed("He lost the kite on the beach", "He lost the kite in the park"))
    for method in (WORLD.kinds, WORLD.word_log_probabilities, WORLD.parse):
        with pytest.raises(ValueError, match=r"world\.faults"):
            method("Hello.")
    with pytest.raises(ValueError, match="no story of Littletown begins so: sentence 0"):
        WORLD.questions("Hello.")


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    "method", [WORLD.sample, WORLD.dialogue, WORLD.review, WORLD.post, WORLD.program]
)
def test_a_seed_is_a_number_from_zero_up(method):
    with pytest.raises(ValueError, match="seed must not be negative, but is -1"):
        method(-1)
    for seed in (1.0, "1", True, None):
        with pytest.raises(TypeError, match=r"seed must be an integer.*convert it with int"):
            method(seed)


def test_a_number_of_stories_is_not_negative():
    with pytest.raises(ValueError, match="num must not be negative, but is -2"):
        next(WORLD.stories(-2))
    assert list(WORLD.stories(0)) == []


# --- the shop -------------------------------------------------------------------------------------


@given(SEEDS)
def test_a_talk_in_the_shop_is_read_as_it_was_drawn(seed):
    dialogue = WORLD.dialogue(seed)
    read = shop.dialogue_log_probability(dialogue.text)
    assert read == pytest.approx(dialogue.log_probability, abs=1e-9)
    assert shop.dialogue_faults(dialogue.text) == []
    lines = dialogue.text.split("\n")
    assert 6 <= len(lines) <= 25
    for item, price in dialogue.answerable.items():
        assert f"{item} for {price} coins" in lines[0]


def test_what_may_be_said_in_the_shop_sums_to_one():
    for seed in range(40):
        talk = shop._Talk("greeting", WORLD.dialogue(seed).answerable)
        draw = random.Random(seed)
        while talk.stage != "over":
            turns = list(shop._turns(talk))
            assert math.fsum(turn.probability for turn in turns) == pytest.approx(1, abs=1e-12)
            assert len({turn.line for turn in turns}) == len(turns)
            talk = draw.choice(turns).after


TALK = """On the shelf: kite for five coins, apple for two coins, hat for nine coins.
Customer: Hello.
Shopkeeper: Hello. What would you like?
Customer: How much is the kite?
Shopkeeper: I have a kite for five coins.
Customer: I will take it. Here are five coins.
Shopkeeper: Thank you. Here is your kite.
Customer: Do you have a kite?
Shopkeeper: I am sorry, there is no kite.
Customer: Goodbye.
Shopkeeper: Goodbye."""


@pytest.mark.parametrize(
    ("old", "new", "index"),
    [
        ("have a kite for five", "have a kite for six", 4),
        ("Here are five", "Here are four", 5),
        ("is your kite", "is your hat", 6),
        ("there is no kite", "there is no hat", 8),
        ("I am sorry, there is no kite.", "I have a kite for five coins.", 8),
        ("for five coins", "for six coins", 4),
        ("for five coins", "for fifty coins", 0),
        ("kite for", "hat for", 0),
        ("\nShopkeeper: Goodbye.", "", 10),
        ("Shopkeeper: Goodbye.", "Shopkeeper: Goodbye.\nCustomer: Hello.", 11),
    ],
)
def test_a_wrong_price_or_stock_is_found(old, new, index):
    assert shop.dialogue_faults(TALK) == []
    text = TALK.replace(old, new, 1)
    found = shop.dialogue_faults(text)
    assert found[0].index == index
    assert found[0].reason
    assert shop.dialogue_log_probability(text) == -math.inf


# --- reviews --------------------------------------------------------------------------------------


def test_the_posterior_is_that_of_bayes_by_hand():
    text = (
        "I bought a red kite at the market for two coins. The price was lovely. The size was poor. "
        "I gave it away."
    )
    content, discontent = 7 * 3 * 1, 3 * 7 * 4
    assert WORLD.review_posterior(text) == pytest.approx(content / (content + discontent))


def test_no_classifier_is_better_than_the_posterior_and_it_is_as_good_as_said():
    rows = [WORLD.review(seed) for seed in range(4_000)]
    right = [
        (row.posterior > 1 / 2) == (row.label == "positive") for row in rows if row.posterior != 0.5
    ]
    best = reviews.best_accuracy()
    assert abs(statistics.fmean(right) - best) < 4 * math.sqrt(best * (1 - best) / 4_000) + 0.005
    bins = defaultdict(list)
    for row in rows:
        bins[round(row.posterior * 5)].append((row.posterior, row.label == "positive"))
    for pairs in bins.values():
        said, was = (statistics.fmean(column) for column in zip(*pairs, strict=True))
        assert abs(said - was) < 4 * math.sqrt(0.25 / len(pairs))


@given(SEEDS)
def test_a_review_is_read_as_it_was_drawn(seed):
    review = WORLD.review(seed)
    assert WORLD.review_posterior(review.text) == review.posterior
    assert 0 < review.posterior < 1
    assert review.label in {"positive", "negative"}
    assert reviews.review_log_probability(review.text) == review.log_probability < 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a red kite", "an red kite"),
        ("a red kite", "a red idea"),
        ("at the market", "in the market"),
        ("The size", "The price"),
        ("poor", "terrible"),
        ("I gave it away.", "I gave it."),
        (" The size was poor.", ""),
        (". The", ".  The"),
        ("I bought", "We bought"),
    ],
)
def test_what_is_no_review_is_refused(old, new):
    text = (
        "I bought a red kite at the market for two coins. The price was lovely. The size was poor. "
        "I gave it away."
    )
    assert WORLD.review_posterior(text) > 0
    for other in (text.replace(old, new, 1), "", "Hello."):
        with pytest.raises(ValueError, match="is no review of Littletown; pass the text of World"):
            WORLD.review_posterior(other)


# --- a shopkeeper who is not of the town ----------------------------------------------------------


def play(seed: int, shopkeeper: Callable[[list[str]], str]) -> list[str]:
    """Let a customer of this seed talk with a shopkeeper until the end, and give the lines."""
    visit = shop.visit(random.Random(seed).random)
    lines = next(visit)
    while True:
        try:
            lines = visit.send(shopkeeper(lines))
        except StopIteration as end:
            return end.value


def knowing_shopkeeper(lines: list[str]) -> str:
    """Say what the program would say, found by asking which lines leave no fault but the end."""
    said = {
        "Hello. What would you like?",
        "Goodbye.",
        *(f"I have {shop._a(n)} for {p} coins." for n in shop.NOUNS for p in shop._PRICES),
        *(f"I am sorry, there is no {noun}." for noun in shop.NOUNS),
        *(f"Thank you. Here is your {noun}." for noun in shop.NOUNS),
    }
    return next(
        row
        for row in sorted(said)
        if all(
            fault.reason == "the talk breaks off"
            for fault in shop.dialogue_faults("\n".join([*lines, shop.SHOPKEEPER + row]))
        )
    )


@settings(max_examples=5)
@given(SEEDS)
def test_a_shopkeeper_who_is_right_comes_to_the_end(seed):
    talk = "\n".join(play(seed, knowing_shopkeeper))
    assert shop.dialogue_faults(talk) == []
    assert talk.endswith("Shopkeeper: Goodbye.")


def test_a_talk_ends_with_the_first_wrong_line():
    lines = play(1, lambda lines: "Hello. What would you like?")
    [fault, _] = shop.dialogue_faults("\n".join(lines))
    assert fault.line == lines[-1] == "Shopkeeper: Hello. What would you like?"
    assert fault.index == len(lines) - 1 > 2
    assert play(1, lambda lines: "Hm.")[-1] == "Shopkeeper: Hm."


# --- posts ----------------------------------------------------------------------------------------


def test_how_rude_a_post_is_by_hand():
    text = "To Mia. Your hat is ugly. Thank you."
    rude = 1 / 8 * 6 / 20 * 8 / 42 * 2 / 20
    friendly = 7 / 8 * 3 / 20 * 2 / 39 * 10 / 20
    assert WORLD.post_posterior(text) == pytest.approx(rude / (rude + friendly))


@given(SEEDS)
def test_a_post_is_read_as_it_was_drawn(seed):
    post = WORLD.post(seed)
    assert WORLD.post_posterior(post.text) == post.posterior
    assert 0 < post.posterior < 1


def test_the_best_moderator_is_found_in_the_draws():
    """Drawn posts are as often rude as said, and the tradeoff computed is the one counted."""
    rows = [WORLD.post(seed) for seed in range(8_000)]
    rude = sum(row.is_rude for row in rows)
    assert rude / len(rows) == pytest.approx(posts.RUDE_SHARE, abs=0.012)
    for threshold in (0.1, 0.5, 0.9):
        best = min(
            (row for row in posts.best_tradeoffs() if row.threshold >= threshold),
            key=lambda row: row.threshold,
        )
        held = [row for row in rows if row.posterior >= threshold]
        right = sum(row.is_rude for row in held)
        assert right / len(held) == pytest.approx(best.precision, abs=0.04)
        assert right / rude == pytest.approx(best.recall, abs=0.04)


def test_a_lower_threshold_holds_back_more():
    rows = posts.best_tradeoffs()
    assert [row.threshold for row in rows] == sorted({row.threshold for row in rows}, reverse=True)
    assert all(a.recall < b.recall for a, b in pairwise(rows))
    assert all(a.precision > b.precision for a, b in pairwise(rows))
    assert rows[-1].recall == pytest.approx(1)
    assert rows[-1].precision == pytest.approx(posts.RUDE_SHARE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("ugly", "huge"), ("hat", "moon"), ("Mia", "Bob"), (" Thank you.", ""), ("To ", "to ")],
)
def test_what_is_no_post_is_refused(old, new):
    text = "To Mia. Your hat is ugly. Thank you."
    assert WORLD.post_posterior(text) > 0
    with pytest.raises(ValueError, match="is no post of Littletown; pass the text of World"):
        WORLD.post_posterior(text.replace(old, new))


def test_a_thing_is_not_judged_twice():
    with pytest.raises(ValueError, match="is no post"):
        WORLD.post_posterior("To Mia. Your hat is ugly. Your hat is useful. Thank you.")


# --- programs -------------------------------------------------------------------------------------


@given(SEEDS)
def test_a_program_holds_with_its_answer_alone(seed):
    """As this package runs it, and as Python does."""
    program = WORLD.program(seed)
    text = program.prompt + program.answer
    assert programs.holds(text)
    exec(text, {})
    others = {name.english for name in NAMES} - {program.answer.strip('"')}
    assert not any(programs.holds(f'{program.prompt}"{name}"') for name in others)


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "print('x')",
        "a = b",
        "a = 1",
        "a, b = 'x'",
        "a, b = 'x', 'y', 'z'",
        "a.b = 'x'",
        "a = 'x'; assert a != 'y'",
        "assert a == 'x'",
        "a = 'x' + 'y'",
    ],
)
def test_nothing_but_assignments_is_run(text):
    with pytest.raises(ValueError, match="cannot stand here; a program of Littletown assigns"):
        programs.holds(text)


def test_what_is_no_python_is_said_so():
    with pytest.raises(ValueError, match=r"is no program: .*; write one as Python has it"):
        programs.holds("kite = ")
