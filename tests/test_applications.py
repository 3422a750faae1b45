"""What chapter 15 promises: cases with known answers, graders that know right from wrong."""

import random
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gptbook.applications import (
    LESSONS,
    TASKS,
    WORLD,
    Case,
    Score,
    choose,
    choose_threshold,
    entities,
    events,
    run_shop,
    score,
    shop_chat,
    summary_facts,
    task,
    tradeoff_at,
    translate_by_sentence,
)
from gptbook.finetuning import Message, encode_chat, encode_prompt
from gptbook.littletown.shop import SHOPKEEPER, dialogue_faults
from gptbook.littletown.stories import translate
from gptbook.model import GPT, ModernConfig
from gptbook.tokenizer import END_OF_TEXT, Tokenizer

SEEDS = st.integers(0, 2**31)
names = pytest.mark.parametrize("name", TASKS)

# For each task, what learners and models say who are nearly right.
NEARLY = {
    "story": lambda said: said.rsplit(" ", 1)[0],
    "continuation": lambda said: f"{said} {said}",
    "writing": lambda said: f"{said} It was late.",
    "question": lambda said: said.removesuffix("."),
    "summary": lambda said: said.replace("got nothing", "got the moon"),
    "entities": lambda said: said.replace(".", ", Bob.", 1),
    "translation": lambda said: said.replace("在", "", 1),
    "sentiment": lambda said: {"positive": "negative", "negative": "positive"}[said],
    "moderation": lambda said: {"yes": "no", "no": "yes"}[said],
    "program": lambda said: said.strip('"'),
}


class Knowing(GPT):
    """A model that answers from a list, so that what is done with answers can be tested alone."""

    @property
    def new_caches(self):
        """It looks at all that was said, every time."""
        raise AttributeError

    def __init__(self, tokenizer: Tokenizer, answers: dict[str, str]) -> None:
        sizes = {"d_model": 2, "num_heads": 1, "num_layers": 1, "context_length": 100}
        super().__init__(ModernConfig(vocab_size=tokenizer.vocab_size, **sizes))
        self.next: dict[tuple[int, ...], int] = {}
        for asked, said in answers.items():
            chat = [Message("user", asked)]
            first = len(encode_prompt(tokenizer, chat))
            row = encode_chat(tokenizer, [*chat, Message("assistant", said)]).token_ids
            self.next |= {tuple(row[:k]): row[k] for k in range(first, len(row))}

    def hidden(self, token_ids: Tensor) -> Tensor:
        """Be quite sure of what comes next in an answer from the list, and else of the end."""
        logits = torch.zeros(*token_ids.shape, self.vocab_size)
        for number, ids in enumerate(token_ids.tolist()):
            for place in range(len(ids)):
                logits[number, place, self.next.get(tuple(ids[: place + 1]), 256)] = 50.0
        return logits

    def logits(self, hidden: Tensor) -> Tensor:
        """Leave it at that."""
        return hidden


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A tokenizer that knows only bytes, and the end of a text."""
    return Tokenizer.train("a", 257, special_tokens=[END_OF_TEXT])


# --- cases and graders --------------------------------------------------------------------------


@names
@given(seed=SEEDS)
def test_the_answer_of_a_case_is_right(name: str, seed: int) -> None:
    """And the same seed draws the same case."""
    case = TASKS[name].case(seed)
    assert TASKS[name].is_right(case, case.answer)
    again = TASKS[name].case(seed)
    assert (case.messages, case.answer) == (again.messages, again.answer)
    assert case.answer not in ("", " ")


@names
def test_an_answer_that_is_nearly_right_is_wrong(name: str) -> None:
    """Whatever is missing, too much or swapped."""
    cases = [case for case in TASKS[name].cases(30) if NEARLY[name](case.answer) != case.answer]
    assert len(cases) > 5
    assert not any(TASKS[name].is_right(case, NEARLY[name](case.answer)) for case in cases)
    assert not any(TASKS[name].is_right(case, "") for case in cases)
    others = TASKS[name].cases(30, seed=1_000)
    right = sum(
        TASKS[name].is_right(case, other.answer) for case, other in zip(cases, others, strict=False)
    )
    assert right < len(cases) / 2 + 5 or name in ("story", "sentiment", "moderation")


@names
def test_each_way_of_asking_occurs(name: str) -> None:
    """No instruction is drawn for nothing, and the text stands behind it."""
    asked = [case.messages[0].content for case in TASKS[name].cases(40)]
    for instruction in TASKS[name].instructions:
        assert any(row.startswith(instruction) for row in asked)
    assert all(row == row.strip() for row in asked)


def test_a_summary_that_says_less_invents_nothing() -> None:
    """What it leaves out is another measure."""
    full = "The cook Mia got the hat and the kite and parted with the hat."
    end = "In the end Mia is at the pool and feels sad."
    case = Case((), f"{full} {end}", None)
    assert TASKS["summary"].is_right(case, f"The cook Mia got the hat. {end}")
    assert not TASKS["summary"].is_right(case, f"The cook Mia got the hat and the cup. {end}")
    assert not TASKS["summary"].is_right(case, f"{full} {end.replace('sad', 'glad')}")
    assert summary_facts(case.answer) == {
        ("job", "cook"), ("name", "Mia"), ("got", "the hat"), ("got", "the kite"),
        ("parted with", "the hat"), ("is", "at the pool"), ("feels", "sad"),
    }  # fmt: skip


@given(seed=SEEDS)
def test_every_summary_of_the_town_is_understood(seed: int) -> None:
    """The claims are as many as the sentence makes."""
    story = WORLD.sample(seed)
    facts = summary_facts(story.summary)
    kinds = [kind for kind, _ in facts]
    assert {"job", "name", "is", "feels"} <= {*kinds}
    assert "no summary" not in kinds
    deeds = story.summary.partition(". In the end")[0]
    assert sum(kind in ("got", "parted with") for kind in kinds) == len(
        re.findall(r"the \w+|nothing", deeds.partition(" ")[2])
    )


def test_the_entities_of_a_story_told_by_hand() -> None:
    """In the order in which they are named, each once; who is only asked about adds nothing."""
    story = next(row for row in WORLD.stories(200, seed=3) if len(row.states[-1].things) == 2)
    listed = entities(story)
    text = events(story)
    for kind in ("People", "Places", "Things"):
        found = re.search(rf"{kind}: ([^.]+)\.", listed)
        assert found
        words = found[1].split(", ")
        places = [text.index(word) for word in words]
        assert places == sorted(places)
        assert len({*words}) == len(words)


def test_a_task_that_is_not_there_is_named() -> None:
    """With those that are."""
    with pytest.raises(
        ValueError, match=r"no task is called 'poetry'; choose one of story, .*program"
    ):
        task("poetry")
    assert task("summary") is TASKS["summary"]


# --- scores -------------------------------------------------------------------------------------


def test_a_score_counts_right_answers_and_keeps_the_others(tokenizer: Tokenizer) -> None:
    """In any order of their lengths."""
    asked = {"short": "yes", "a longer one": "no", "x": "yes", "another": "yes", "the last": "yes"}
    cases = [Case((Message("user", text),), "yes", None) for text in asked]
    found = score(Knowing(tokenizer, asked), tokenizer, TASKS["question"], cases)
    assert found == Score(4, 5, ((cases[1], "no"),))
    assert found.share == 4 / 5
    with pytest.raises(ValueError, match="no case to answer; draw some"):
        score(Knowing(tokenizer, asked), tokenizer, TASKS["question"], [])


def test_a_text_translated_by_sentence_is_joined_in_its_own_order(tokenizer: Tokenizer) -> None:
    """And no sentence of one text gets into another."""
    asked = TASKS["translation"].instructions[0]
    chinese = {"It rained.": "下雨。", "He ran.": "他跑。", "She sang.": "她唱。"}
    model = Knowing(tokenizer, {f"{asked} {row}": text for row, text in chinese.items()})
    texts = ["She sang. It rained. She sang.", "He ran."]
    assert translate_by_sentence(model, tokenizer, texts) == ["她唱。下雨。她唱。", "他跑。"]


def test_in_littletown_a_sentence_needs_no_other_to_be_translated() -> None:
    """Which is what lets a text be translated by sentence."""
    known: dict[str, str] = {}
    for story in WORLD.stories(500, seed=1):
        for state, row in zip(story.states, story.sentences[:-2], strict=False):
            assert known.setdefault(row.text, translate(state, row)) == translate(state, row)
    assert len(known) > 2_000


def test_a_case_over_the_context_is_refused(tokenizer: Tokenizer) -> None:
    """And not cut off in silence."""
    config = ModernConfig(vocab_size=257, context_length=30, d_model=8, num_heads=2, num_layers=1)
    with pytest.raises(ValueError, match=r"chat 0 has \d+ tokens.* the 30 that the model reads"):
        score(GPT(config), tokenizer, TASKS["question"], TASKS["question"].cases(1))


def test_answers_are_compared_by_all_of_their_tokens(tokenizer: Tokenizer) -> None:
    """The probability of each whole answer, and its end, by hand; however they are batched."""
    torch.manual_seed(0)
    config = ModernConfig(vocab_size=257, context_length=60, d_model=16, num_heads=2, num_layers=1)
    model = GPT(config).double().eval()
    torch.nn.init.normal_(model.token_embedding.weight)
    chats = [[Message("user", text)] for text in ("a", "some more", "ok")]
    answers = ["yes", "no", "perhaps"]
    expected = torch.zeros(3, 3).double()
    for row, chat in enumerate(chats):
        for column, answer in enumerate(answers):
            first = len(encode_prompt(tokenizer, chat))
            ids = encode_chat(tokenizer, [*chat, Message("assistant", answer)]).token_ids
            log_probs = model(torch.tensor([ids[:-1]]))[0].log_softmax(dim=-1)
            for place in range(first, len(ids)):
                expected[row, column] += log_probs[place - 1, ids[place]].item()
    expected = expected.softmax(dim=1)
    torch.testing.assert_close(choose(model, tokenizer, chats, answers), expected)
    torch.testing.assert_close(choose(model, tokenizer, chats, answers, batch_size=1), expected)
    with pytest.raises(ValueError, match="pass at least two"):
        choose(model, tokenizer, chats, ["yes"])


# --- the shop -----------------------------------------------------------------------------------


def test_a_talk_is_a_chat_with_the_shelf_from_the_system() -> None:
    """Two lines of the customer's in a row are one message."""
    chat = shop_chat([
        "On the shelf: a.",
        "Customer: Hm.",
        "Shopkeeper: So?",
        "Customer: No.",
        "Customer: Bye.",
    ])
    assert chat == [
        ("system", "You keep the shop. On the shelf: a."),
        ("user", "Hm."),
        ("assistant", "So?"),
        ("user", "No. Bye."),
    ]


def test_a_shop_is_kept_to_the_end_or_to_the_first_wrong_line(
    monkeypatch: pytest.MonkeyPatch, without_shape_checks: None
) -> None:
    """Several customers at once, each talk on its own."""
    answers: dict[tuple[Message, ...], str] = {}

    def reply_from_list(_model, _tokenizer, chats, **_options):
        return [answers.get(tuple(chat), "Hm.") for chat in chats]

    monkeypatch.setattr("gptbook.applications.reply", reply_from_list)
    talks = run_shop(None, None, 3, seed=5)  # type: ignore[arg-type]
    assert len(talks) == 3
    for lines in talks:
        assert lines[-1] == f"{SHOPKEEPER}Hm."
        assert dialogue_faults("\n".join(lines))[0].index == len(lines) - 1 == 2
    for _ in range(30):  # learn from each mistake what would have been right
        talks = run_shop(None, None, 3, seed=5)  # type: ignore[arg-type]
        for lines in talks:
            for fault in dialogue_faults("\n".join(lines))[:1]:
                said = re.search(rf"{SHOPKEEPER}([^'\"]+)", fault.reason)
                assert said
                answers[tuple(shop_chat(lines[:-1]))] = said[1]
    assert all(lines[-1] == f"{SHOPKEEPER}Goodbye." for lines in talks)
    assert not any(dialogue_faults("\n".join(lines)) for lines in talks)
    assert len({tuple(lines) for lines in talks}) == 3


# --- moderation ---------------------------------------------------------------------------------

marked = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1).filter(
    lambda rows: any(bad for _, bad in rows)
)


@given(rows=marked, threshold=st.floats(0, 1))
def test_precision_and_recall_are_what_they_are_called(
    rows: list[tuple[float, bool]], threshold: float
) -> None:
    """Counted one by one."""
    found = tradeoff_at(threshold, [s for s, _ in rows], [bad for _, bad in rows])
    held = [bad for s, bad in rows if s >= threshold]
    assert found.recall == sum(held) / sum(bad for _, bad in rows)
    assert found.precision == (sum(held) / len(held) if held else 1.0)


@given(rows=marked, recall=st.floats(0.01, 1))
def test_a_chosen_threshold_finds_enough_and_no_higher_one_does(
    rows: list[tuple[float, bool]], recall: float
) -> None:
    """On the texts it was chosen on."""
    suspicions, is_bad = [s for s, _ in rows], [bad for _, bad in rows]
    found = choose_threshold(suspicions, is_bad, recall=recall)
    assert found == tradeoff_at(found.threshold, suspicions, is_bad)
    assert found.recall >= recall - 1e-12
    higher = [s for s in suspicions if s > found.threshold]
    assert all(tradeoff_at(s, suspicions, is_bad).recall < recall for s in higher)


def test_what_cannot_be_moderated_is_refused() -> None:
    """The message says what to do."""
    with pytest.raises(ValueError, match="1 suspicions came for 2 labels; give one each"):
        tradeoff_at(0.5, [0.5], [True, False])
    with pytest.raises(ValueError, match=r"nothing is bad.*pass more texts"):
        tradeoff_at(0.5, [0.5], [False])
    for recall in (0.0, 1.5):
        with pytest.raises(ValueError, match="choose one up to"):
            choose_threshold([0.5], [True], recall=recall)


# --- lessons ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LESSONS)
@given(seed=SEEDS)
def test_a_lesson_is_a_chat_that_ends_with_the_assistant(name: str, seed: int) -> None:
    """Turn by turn, nothing empty."""
    chat = LESSONS[name](random.Random(seed))
    roles = [row.role for row in chat if row.role != "system"]
    assert roles == ["user", "assistant"] * (len(roles) // 2)
    assert all(row.content.strip() for row in chat)


@given(seed=SEEDS)
def test_what_is_taught_about_a_story_is_so(seed: int) -> None:
    """Every question has the town's answer."""
    chat = LESSONS["about a story"](random.Random(seed))
    story = re.sub(r"^.*?(?=Early|On |One )", "", chat[0].content)
    pairs = dict(WORLD.questions(re.sub(r" [A-Z][^.]*\?$", "", story)))
    for asked, said in zip(chat[::2], chat[1::2], strict=True):
        question = re.search(r"[A-Z][^.?]*\?$", asked.content)
        if question and question[0] in pairs:
            assert said.content == pairs[question[0]]
        else:
            assert said.content.startswith(("The ", "People: "))
