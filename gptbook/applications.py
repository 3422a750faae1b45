"""Applications: what a GPT is used for, each use with cases whose right answers are known.

Chapter 15 lets the assistant of the book do them all. A `Task` draws cases from Littletown, asks,
and tells a right answer from a wrong one; `score` counts. Where the text does not say enough for
any answer to be right every time, the best possible score is known too. A shop needs several turns;
`run_shop` lets an assistant keep one.

`LESSONS` are what such an assistant learns from: chats with right answers, as many as one likes.

Shapes: N cases, A answers to choose from.

References:
    Brown et al. (2020), "Language Models are Few-Shot Learners", section 2.4, for answers compared
    by their probability. https://arxiv.org/abs/2005.14165
    Maynez et al. (2020), "On Faithfulness and Factuality in Abstractive Summarization", for facts
    that a summary invents. https://aclanthology.org/2020.acl-main.173
"""

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gptbook.finetuning import Message, encode_chat, encode_prompt, reply
from gptbook.generation import Sampling
from gptbook.littletown.posts import draw_post
from gptbook.littletown.programs import draw_program, holds
from gptbook.littletown.shop import CUSTOMER, NOUNS, SHOPKEEPER, draw_dialogue, visit
from gptbook.littletown.stories import translate
from gptbook.littletown.words import LOOKS, NAMES, PLACES, POOLS
from gptbook.model import GPT
from gptbook.tokenizer import Tokenizer
from gptbook.world import Story, World

WORLD = World()

Chat = list[Message]


# --- tasks --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Something asked, and what is known of the answer.

    Attributes:
        messages: What the assistant reads.
        answer: A right answer; where there are many, one of them.
        source: What the case was made of: a story, a review, a post, a program.
        begun: A text that the answer continues.
    """

    messages: tuple[Message, ...]
    answer: str
    source: Any
    begun: str = ""


class Drawn(NamedTuple):
    """What a task draws: the text to work on, and the rest of a `Case`."""

    text: str
    answer: str
    source: Any
    begun: str = ""


@dataclass(frozen=True)
class Task:
    """One use of a GPT.

    Attributes:
        name: What it is called here.
        instructions: How it is asked for; any of these will do.
        draw: Draws what a case is made of.
        is_right: Says whether an answer to a case is right.
        sampling: How to draw the answer; without it, the most probable token is taken.
    """

    name: str
    instructions: tuple[str, ...]
    draw: Callable[[random.Random], Drawn]
    is_right: Callable[[Case, str], bool]
    sampling: Sampling | None = None

    def case(self, seed: int) -> Case:
        """Draw the case of a seed, the same on every machine."""
        draw = random.Random(f"{self.name} {seed}")
        instruction = draw.choice(self.instructions)
        drawn = self.draw(draw)
        asked = f"{instruction} {drawn.text}".rstrip()
        return Case((Message("user", asked),), drawn.answer, drawn.source, drawn.begun)

    def cases(self, num: int, seed: int = 0) -> list[Case]:
        """Draw the cases of so many seeds, of which this is the first."""
        return [self.case(number) for number in range(seed, seed + num)]


def task(name: str) -> Task:
    """Look a task up.

    Raises:
        ValueError: If there is none of this name.
    """
    if name not in TASKS:
        raise ValueError(f"no task is called {name!r}; choose one of {', '.join(TASKS)}")
    return TASKS[name]


class Score(NamedTuple):
    """How well an assistant does.

    Attributes:
        num_right: How many answers were right.
        num_cases: Of how many.
        failures: The cases answered wrongly, each with what was said.
    """

    num_right: int
    num_cases: int
    failures: tuple[tuple[Case, str], ...]

    @property
    def share(self) -> float:
        """Which share was right."""
        return self.num_right / self.num_cases


def score(
    model: GPT, tokenizer: Tokenizer, task: Task, cases: Sequence[Case], *, seed: int = 0
) -> Score:
    """Let an assistant answer cases, and count what is right.

    Args:
        model: The assistant.
        tokenizer: Its tokenizer.
        task: What the cases are of.
        cases: The cases.
        seed: Decides the answers of tasks that are sampled.

    Raises:
        ValueError: If there is no case, or one does not fit into the model's context.
    """
    if not cases:
        raise ValueError("there is no case to answer; draw some with task.cases(100)")
    chats = [case.messages for case in cases]
    said = reply(model, tokenizer, chats, sampling=task.sampling, seed=seed)
    answered = list(zip(cases, said, strict=True))
    failures = tuple(pair for pair in answered if not task.is_right(*pair))
    return Score(len(cases) - len(failures), len(cases), failures)


def translate_by_sentence(model: GPT, tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """Translate texts into Chinese, each sentence asked for by itself, and join the answers.

    An assistant that is given a whole text has to find its place in it anew at each sentence. Here
    it cannot lose it. The price is what only a neighbor says, which nothing in Littletown needs.

    Args:
        model: The assistant.
        tokenizer: Its tokenizer.
        texts: English texts, of one sentence or more.

    Raises:
        ValueError: As `reply`.
    """
    rows = [re.split(r"(?<=[.?!]) ", text) for text in texts]
    instruction = TASKS["translation"].instructions[0]
    chats = [[Message("user", f"{instruction} {row}")] for sentences in rows for row in sentences]
    said = iter(reply(model, tokenizer, chats))
    return ["".join(next(said) for _ in sentences) for sentences in rows]


@torch.inference_mode()
def choose(
    model: GPT,
    tokenizer: Tokenizer,
    chats: Sequence[Sequence[Message]],
    answers: Sequence[str],
    *,
    batch_size: int = 50,
) -> Float[Tensor, "N A"]:
    """Say how likely an assistant is to give each of some answers, if it gives one of them.

    Args:
        model: The assistant.
        tokenizer: Its tokenizer.
        chats: What was said, by the user last.
        answers: What to choose from.
        batch_size: How many chats are read side by side.

    Raises:
        ValueError: If there are fewer than two answers, or as `encode_prompt`.
    """
    if len(answers) < 2:
        raise ValueError(f"{len(answers)} answers leave nothing to choose; pass at least two")
    columns = []
    for answer in answers:
        rows = []
        for chat in chats:
            num_read = len(encode_prompt(tokenizer, chat))
            whole = encode_chat(tokenizer, [*chat, Message("assistant", answer)]).token_ids
            rows.append((whole, num_read))
        columns.append(_log_probs(model, rows, batch_size))
    return torch.stack(columns, dim=1).softmax(dim=1)


def _log_probs(model: GPT, rows: Sequence[tuple[list[int], int]], size: int) -> Tensor:
    """Give for each row how likely what stands behind its first tokens is, in nats."""
    was_training = model.training
    model.eval()
    found = []
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        longest = max(len(ids) for ids, _ in some)
        token_ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in some])
        log_probs = model(token_ids[:, :-1]).log_softmax(dim=-1)
        each = log_probs.gather(-1, token_ids[:, 1:, None])[..., 0]  # (N, T - 1)
        place = torch.arange(1, longest)
        firsts = torch.tensor([num_read for _, num_read in some])[:, None]
        ends = torch.tensor([len(ids) for ids, _ in some])[:, None]
        found.append(each.masked_fill((place < firsts) | (place >= ends), 0.0).sum(dim=1))
    model.train(was_training)
    return torch.cat(found)


# --- stories ------------------------------------------------------------------------------------


def events(story: Story) -> str:
    """Give a story without the question at its end."""
    return " ".join(sentence.text for sentence in story.sentences[:-2])


def chinese_events(story: Story) -> str:
    """Give the same in Chinese."""
    return "".join(map(translate, story.states, story.sentences[:-2]))


def entities(story: Story) -> str:
    """Name all people, places and things of a story, in the order in which it does."""
    found: dict[str, dict[str, None]] = {"People": {}, "Places": {}, "Things": {}}
    for state in story.states[: len(story.sentences) - 1]:
        found["People"] |= dict.fromkeys(person.name.english for person in state.people)
        found["Places"] |= dict.fromkeys(place.english for place in state.places)
        found["Things"] |= dict.fromkeys(thing.noun.english for thing in state.things)
    return " ".join(f"{kind}: {', '.join(names) or 'none'}." for kind, names in found.items())


_SUMMARY = re.compile(
    r"The (?P<job>[\w ]+) (?P<name>\w+) (?P<deeds>(?:got|parted with) [^.]+)\. "
    r"In the end (?P=name) is (?P<place>\w+ the \w+) and feels (?P<feeling>\w+)\."
)


def summary_facts(summary: str) -> frozenset[tuple[str, str]]:
    """List what a summary claims: each fact as its kind and its content.

    A text that is no summary of the town's claims one thing, which is true of no story.

    >>> summary = "The cook Mia got the hat. In the end Mia is at the pool and feels sad."
    >>> sorted(summary_facts(summary))
    [('feels', 'sad'), ('got', 'the hat'), ('is', 'at the pool'), ('job', 'cook'), ('name', 'Mia')]
    """
    found = _SUMMARY.fullmatch(summary)
    if found is None:
        return frozenset({("no summary", summary)})
    facts = {("job", found["job"]), ("name", found["name"])}
    facts |= {("is", found["place"]), ("feels", found["feeling"])}
    for deed in re.split(r" and (?=parted with )", found["deeds"]):
        kind = "parted with" if deed.startswith("parted with ") else "got"
        things = deed.removeprefix(f"{kind} ")
        facts |= {(kind, thing) for thing in re.split(r", | and ", things)}
    return frozenset(facts)


def _a_story(draw: random.Random) -> Story:
    """Draw a story."""
    return WORLD.sample(draw.getrandbits(40))


def _question(draw: random.Random) -> Drawn:
    """Draw a story up to its question."""
    story = _a_story(draw)
    return Drawn(story.prompt, story.answer, story)


def _about(answer_of: Callable[[Story], str]) -> Callable[[random.Random], Drawn]:
    """Make a task of what can be said about a story."""

    def draw_one(draw: random.Random) -> Drawn:
        story = _a_story(draw)
        return Drawn(events(story), answer_of(story), story)

    return draw_one


def _whole_story(draw: random.Random) -> Drawn:
    """Draw a story that is asked for with nothing given."""
    story = _a_story(draw)
    return Drawn("", story.text, story)


def _continuation(draw: random.Random) -> Drawn:
    """Cut a story after one of its sentences."""
    story = _a_story(draw)
    texts = [sentence.text for sentence in story.sentences]
    cut = draw.randrange(1, len(texts) - 2)
    begun = " ".join(texts[:cut])
    return Drawn(begun, " ".join(texts[cut:]), story, begun)


def _writing(draw: random.Random) -> Drawn:
    """Cut a story inside of one of its sentences."""
    story = _a_story(draw)
    texts = [sentence.text for sentence in story.sentences]
    cut = draw.randrange(1, len(texts) - 2)
    words = texts[cut].split(" ")
    first = draw.randrange(1, len(words))
    begun = " ".join([*texts[:cut], *words[:first]])
    return Drawn(begun, " ".join(words[first:]), story, begun)


def _is_the_answer(case: Case, said: str) -> bool:
    """Where only one answer is right."""
    return said == case.answer


def _invents_nothing(case: Case, said: str) -> bool:
    """Whether every fact of a summary is so."""
    return summary_facts(said) <= summary_facts(case.answer)


def _has_no_fault(case: Case, said: str) -> bool:
    """Whether the town could go on so."""
    return not WORLD.faults(f"{case.begun} {said}".lstrip())


def _finishes_the_sentence(case: Case, said: str) -> bool:
    """Whether this makes one true sentence of what was begun, and no more."""
    text = f"{case.begun} {said}"
    faults = [fault for fault in WORLD.faults(text) if fault.sentence]  # it may break off after
    return text.endswith(".") and said.count(".") == 1 and not faults


# --- other texts --------------------------------------------------------------------------------


def _review(draw: random.Random) -> Drawn:
    """Draw a review."""
    review = WORLD.review(draw.getrandbits(40))
    return Drawn(review.text, review.label, review)


def _post(draw: random.Random) -> Drawn:
    """Draw a post."""
    post = draw_post(draw.random)
    return Drawn(post.text, "no" if post.is_rude else "yes", post)


def _program(draw: random.Random) -> Drawn:
    """Draw a program up to its last word."""
    program = draw_program(draw.random)
    return Drawn(program.prompt.rstrip(), program.answer, program, program.prompt)


def _holds(case: Case, said: str) -> bool:
    """Whether the program as completed runs, and asserts what is so."""
    try:
        return holds(case.begun + said)
    except ValueError:
        return False


_SAMPLED = Sampling()
TASKS: dict[str, Task] = {
    row.name: row
    for row in (
        Task("story", ("Tell a story.", "Make up a story."), _whole_story, _has_no_fault, _SAMPLED),
        Task(
            "continuation",
            ("Continue this story.", "What happened then?"),
            _continuation,
            _has_no_fault,
            _SAMPLED,
        ),
        Task(
            "writing",
            ("Finish the last sentence.", "Complete what I write."),
            _writing,
            _finishes_the_sentence,
        ),
        Task(
            "question",
            ("Read and answer.", "Answer the question at the end."),
            _question,
            _is_the_answer,
        ),
        Task(
            "summary",
            ("Summarize this story.", "Say in short what happened."),
            _about(lambda story: story.summary),
            _invents_nothing,
        ),
        Task(
            "entities",
            ("List the people, places and things.", "Who, where and what?"),
            _about(entities),
            _is_the_answer,
        ),
        Task(
            "translation",
            ("Translate into Chinese.", "Say it in Chinese."),
            _about(chinese_events),
            _is_the_answer,
        ),
        Task(
            "sentiment",
            ("Is this review positive or negative?", "How does the customer feel?"),
            _review,
            _is_the_answer,
        ),
        Task(
            "moderation",
            ("May this be posted?", "Is this fit for the notice board?"),
            _post,
            _is_the_answer,
        ),
        Task("program", ("Complete this program.", "Finish the code."), _program, _holds),
    )
}
"""All tasks that are done in one turn, by name."""


# --- a shop -------------------------------------------------------------------------------------


def shop_chat(lines: Sequence[str]) -> Chat:
    """Turn the lines of a talk in the shop into a chat in which the assistant keeps the shop.

    What is on the shelf, the system says; lines of one side that follow each other are one message.

    >>> lines = ["On the shelf: ...", "Customer: Hello.", "Shopkeeper: Hello. What would you like?"]
    >>> [role for role, _ in shop_chat(lines)]
    ['system', 'user', 'assistant']
    """
    chat = [Message("system", f"You keep the shop. {lines[0]}")]
    for line in lines[1:]:
        role = "assistant" if line.startswith(SHOPKEEPER) else "user"
        said = line.removeprefix(SHOPKEEPER).removeprefix(CUSTOMER)
        if chat[-1].role == role:
            chat[-1] = Message(role, f"{chat[-1].content} {said}")
        else:
            chat.append(Message(role, said))
    return chat


def run_shop(model: GPT, tokenizer: Tokenizer, num: int, seed: int = 0) -> list[list[str]]:
    """Let an assistant keep the shop for so many customers, and give the lines of each talk.

    A talk that was brought to its end has no fault; any other ends with the first wrong line.

    Args:
        model: The assistant.
        tokenizer: Its tokenizer.
        num: How many customers come.
        seed: Decides who comes, and what they say.
    """
    talks: list[list[str]] = [[] for _ in range(num)]
    visits = {i: visit(random.Random(seed + i).random) for i in range(num)}
    waiting = {i: next(row) for i, row in visits.items()}
    while waiting:
        chats = [shop_chat(lines) for lines in waiting.values()]
        said = reply(model, tokenizer, chats, max_new_tokens=40)
        for i, line in zip(list(waiting), said, strict=True):
            try:
                waiting[i] = visits[i].send(line)
            except StopIteration as end:
                talks[i] = end.value
                del waiting[i]
    return talks


# --- moderation ---------------------------------------------------------------------------------


class Tradeoff(NamedTuple):
    """What holding back everything from a threshold on does.

    Attributes:
        threshold: What is at least so suspicious is held back.
        precision: Which share of what is held back deserves it; 1 if nothing is.
        recall: Which share of what deserves it is held back.
    """

    threshold: float
    precision: float
    recall: float


def tradeoff_at(threshold: float, suspicions: Sequence[float], is_bad: Sequence[bool]) -> Tradeoff:
    """Measure a threshold.

    Args:
        threshold: From which suspicion on to hold back.
        suspicions: How suspicious each text is, such as the probability that it is bad.
        is_bad: Which of them are bad.

    Raises:
        ValueError: If there are not as many suspicions as labels, or nothing is bad.

    >>> tradeoff_at(0.5, [0.9, 0.6, 0.2, 0.1], [True, False, True, False])
    Tradeoff(threshold=0.5, precision=0.5, recall=0.5)
    """
    if len(suspicions) != len(is_bad):
        raise ValueError(
            f"{len(suspicions)} suspicions came for {len(is_bad)} labels; give one each"
        )
    if not any(is_bad):
        raise ValueError("nothing is bad, so there is nothing to find; pass more texts")
    held = [bad for row, bad in zip(suspicions, is_bad, strict=True) if row >= threshold]
    precision = sum(held) / len(held) if held else 1.0
    return Tradeoff(threshold, precision, sum(held) / sum(is_bad))


def choose_threshold(
    suspicions: Sequence[float], is_bad: Sequence[bool], *, recall: float
) -> Tradeoff:
    """Choose the highest threshold that still finds enough of what is bad.

    Do that on other texts than those on which it is measured.

    Args:
        suspicions: How suspicious each text is.
        is_bad: Which of them are bad.
        recall: Which share of the bad ones is to be found.

    Raises:
        ValueError: As `tradeoff_at`, or if `recall` is not above 0 and at most 1.

    >>> choose_threshold([0.9, 0.6, 0.2, 0.1], [True, False, True, False], recall=0.9)
    Tradeoff(threshold=0.2, precision=0.6666666666666666, recall=1.0)
    """
    if not 0 < recall <= 1:
        raise ValueError(f"recall={recall} is no share that can be found; choose one up to 1.0")
    tradeoff_at(0.0, suspicions, is_bad)  # refuses what cannot be measured
    bad = sorted(
        (row for row, is_so in zip(suspicions, is_bad, strict=True) if is_so), reverse=True
    )
    return tradeoff_at(bad[math.ceil(recall * len(bad)) - 1], suspicions, is_bad)


# --- lessons ------------------------------------------------------------------------------------


def _about_a_story(draw: random.Random) -> Chat:
    """Ask several things about a story, one after the other."""
    story = _a_story(draw)
    pairs = WORLD.questions(story.text)
    asked = [
        ("question", *pair) for pair in draw.sample(pairs, min(len(pairs), draw.randint(1, 4)))
    ]
    if draw.random() < 0.75:
        asked.append(("summary", "", story.summary))
    if draw.random() < 0.4:
        asked.append(("entities", "", entities(story)))
    draw.shuffle(asked)
    chat: Chat = []
    for name, text, answer in asked:
        words = [draw.choice(TASKS[name].instructions), events(story), text]
        if chat:  # the story is there already, and a question asks for itself
            words = [text or words[0]]
        chat += [Message("user", " ".join(filter(None, words))), Message("assistant", answer)]
    return chat


def _passage(most: int | None, draw: random.Random) -> Chat:
    """Translate some sentences of a story, or all of them."""
    story = _a_story(draw)
    pairs = list(zip(story.states, story.sentences[:-2], strict=False))
    num = len(pairs) if most is None else min(len(pairs), draw.randint(1, most))
    start = draw.randrange(len(pairs) - num + 1)
    some = pairs[start : start + num]
    words = [draw.choice(TASKS["translation"].instructions), *[row.text for _, row in some]]
    chinese = "".join(translate(state, row) for state, row in some)
    return [Message("user", " ".join(words)), Message("assistant", chinese)]


def _cases(name: str, most: int, draw: random.Random) -> Chat:
    """Ask for several cases of one task, one after the other."""
    chat: Chat = []
    for _ in range(draw.randint(1, most)):
        case = TASKS[name].case(draw.getrandbits(40))
        chat += [*case.messages, Message("assistant", case.answer)]
    return chat


def _dialogue(draw: random.Random) -> Chat:
    """Draw a talk in the shop."""
    return shop_chat(draw_dialogue(draw.random).text.split("\n"))


def _prices(draw: random.Random) -> Chat:
    """Ask for many prices, one half of what is on the shelf, the other mostly of what is not."""
    dialogue = draw_dialogue(draw.random)
    system, *_ = shop_chat(dialogue.text.split("\n"))
    chat = [system]
    for _ in range(draw.randint(3, 8)):
        item = draw.choice(draw.choice(([*dialogue.answerable], NOUNS)))
        price = dialogue.answerable.get(item)
        some = f"{'an' if item[0] in 'aeiou' else 'a'} {item}"
        told = f"I have {some} for {price} coins." if price else f"I am sorry, there is no {item}."
        chat += [Message("user", f"How much is the {item}?"), Message("assistant", told)]
    return chat


def _repeat(draw: random.Random) -> Chat:
    """Say words again that have nothing to do with each other.

    Nothing but looking back helps there, at every word. So a small model soon gets heads that find
    what stood behind an earlier like of the last word, and most other tasks need such heads.

    References:
        Olsson et al. (2022), "In-context Learning and Induction Heads".
        https://arxiv.org/abs/2209.11895
    """
    words = " ".join(draw.choices(_WORDS, k=draw.randint(6, 30)))
    return [Message("user", f"Say again: {words}"), Message("assistant", words)]


_WORDS = [
    *NOUNS,
    *(name.english for name in NAMES),
    *(place.english for place in PLACES[0]),
    *(word.english for word in (*LOOKS[0], *POOLS["price"])),
]

LESSONS: dict[str, Callable[[random.Random], Chat]] = {
    "repeat": _repeat,
    "about a story": _about_a_story,
    "sentences": partial(_passage, 3),
    "passage": partial(_passage, None),
    "sentiment": partial(_cases, "sentiment", 4),
    "moderation": partial(_cases, "moderation", 5),
    "program": partial(_cases, "program", 3),
    "shop": _dialogue,
    "prices": _prices,
    "story": partial(_cases, "story", 1),
    "continuation": partial(_cases, "continuation", 1),
    "writing": partial(_cases, "writing", 1),
}
"""Chats to learn from; each draws one, with right answers, from a source of chance."""
