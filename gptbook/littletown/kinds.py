"""The kinds of sentence of Littletown: all that may happen there, and how it is said.

Chapter 8 reads this file as one reads a map: nothing that happens in the town is written anywhere
else. A wording is a sentence in English and the same one in Chinese. Between braces stands what the
sentence leaves open:

    {A} {B}       a person: A acts, B is acted on or talked of
    {T} {U}       a thing
    {at P}        a place, and that somebody is there
    {at B}        what the town remembers of B: here, where B is ("in the park")
    {way}         a free choice from the pool of that name
    {a look}      the same with its article ("an orange", "a red")

A role that is `new` in a kind of sentence is drawn from all words that the story does not use yet;
every other role is played by somebody or something that the story has named before.
"""

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of sentence: who takes part, when it may be said, what it changes, how it is said.

    Attributes:
        name: What the book calls it.
        group: When it comes: "first" or "next" (somebody enters), "event", "joy" or
            "sorrow" (how somebody feels about it), "question", "answer".
        weight: How likely it is beside the others that are possible.
        roles: One letter for each part, as in the wordings.
        needs: What must be so before, each as "A holds T"; `scenes.TESTS` knows the verbs.
        moves: What it changes, each as "T to B" (B has it), "A to P" (A is there), "T to place of
            A" (it lies there), "T is gone" or "the weather turns".
        wordings: Each in English and in Chinese.
        new: The roles whose word the story has not used yet.
        any: The roles whose word may be a new or a used one.
        cheers: Who may be said to be happy about it in the next sentence.
        saddens: Who may be said to be sad about it in the next sentence.
        answers: For a question: the kinds of which exactly one is the answer.
    """

    name: str
    group: str
    weight: float
    roles: str
    wordings: tuple[tuple[str, str], ...]
    needs: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()
    new: str = ""
    any: str = ""
    cheers: str = ""
    saddens: str = ""
    answers: tuple[str, ...] = ()


KINDS = (
    # Who is there, and where.
    Kind(
        "opening",
        "first",
        1,
        "AP",
        new="AP",
        moves=("A to P",),
        wordings=(
            (
                "one {sky} morning, the {mood} {job} {A} was {at P}.",
                "一个{sky}的早晨，{mood}的{job}{A}在{at P}。",
            ),
            (
                "on a {sky} morning, the {mood} {job} {A} was {at P}.",
                "在一个{sky}的早晨，{mood}的{job}{A}正在{at P}。",
            ),
            (
                "early one {sky} morning, the {mood} {job} {A} was {at P}.",
                "一个{sky}的清晨，{mood}的{job}{A}在{at P}。",
            ),
        ),
    ),
    Kind(
        "somebody somewhere",
        "next",
        1,
        "AP",
        new="A",
        any="P",
        moves=("A to P",),
        wordings=(
            ("the {mood} {job} {A} was {at P}.", "{mood}的{job}{A}在{at P}。"),
            ("{at P} was the {mood} {job} {A}.", "在{at P}的是{mood}的{job}{A}。"),
        ),
    ),
    Kind(
        "somebody here",
        "next",
        2,
        "AP",
        new="A",
        moves=("A to P",),
        wordings=(
            ("the {mood} {job} {A} was also {at P}.", "{mood}的{job}{A}也在{at P}。"),
            ("also {at P} was the {mood} {job} {A}.", "同在{at P}的还有{mood}的{job}{A}。"),
        ),
    ),
    # People go about.
    Kind(
        "walk",
        "event",
        2,
        "AP",
        any="P",
        moves=("A to P",),
        wordings=(
            ("{A} went for a walk and ended up {at P}.", "{A}出去散步，最后到了{at P}。"),
            ("{A} set out {way} and ended up {at P}.", "{A}{way}出门，最后到了{at P}。"),
            ("{A} walked about and came to rest {at P}.", "{A}四处走走，在{at P}歇下了。"),
            ("{A} went out and spent some time {at P}.", "{A}出了门，在{at P}待了一阵子。"),
        ),
    ),
    Kind(
        "visit",
        "event",
        2.5,
        "AB",
        needs=("A meets B",),
        moves=("A to place of B",),
        wordings=(
            ("{A} met {B} {at B}.", "{A}在{at B}遇见了{B}。"),
            ("{A} kept {B} company {at B}.", "{A}在{at B}陪着{B}。"),
            ("{A} had tea with {B} {at B}.", "{A}和{B}在{at B}喝茶。"),
            ("{A} spent {time} with {B} {at B}.", "{A}和{B}在{at B}待了{time}。"),
        ),
    ),
    Kind(
        "stay",
        "event",
        0.5,
        "A",
        wordings=(
            ("{A} stayed {at A} for {time}.", "{A}在{at A}待了{time}。"),
            ("{A} rested {at A} for {time}.", "{A}在{at A}休息了{time}。"),
            ("{A} waited {at A} for {time}.", "{A}在{at A}等了{time}。"),
        ),
    ),
    # Things come, go from hand to hand, get lost, turn up again.
    Kind(
        "find",
        "event",
        5,
        "AT",
        new="T",
        needs=("T is one of a kind", "A has empty hands", "A is far from shops"),
        moves=("T to A",),
        cheers="A",
        wordings=(
            ("{A} found {a look} {T} {spot}.", "{A}在{spot}发现了一{measure T}{look}{T}。"),
            (
                "{A} discovered {a look} {T} {spot}.",
                "{A}意外地在{spot}看到一{measure T}{look}{T}，就收下了。",
            ),
            ("{A} came across {a look} {T} {spot}.", "{A}在{spot}碰巧捡到一{measure T}{look}{T}。"),
        ),
    ),
    Kind(
        "buy",
        "event",
        9,
        "AT",
        new="T",
        needs=("T is one of a kind", "A has empty hands", "A is in a shop"),
        moves=("T to A",),
        cheers="A",
        wordings=(
            (
                "{A} bought {a look} {T} for {price} coins.",
                "{A}花{price}枚硬币买了一{measure T}{look}{T}。",
            ),
            (
                "{A} paid {price} coins for {a look} {T}.",
                "{A}付了{price}枚硬币，买下一{measure T}{look}{T}。",
            ),
            (
                "{A} chose {a look} {T}, which cost {price} coins.",
                "{A}挑了一{measure T}{look}{T}，价钱是{price}枚硬币。",
            ),
        ),
    ),
    Kind(
        "give",
        "event",
        7,
        "ATB",
        needs=("A holds T", "A meets B", "B has empty hands"),
        moves=("A to place of B", "T to B"),
        cheers="B",
        wordings=(
            ("{A} gave the {T} to {B} {at B}.", "{A}在{at B}把{T}给了{B}。"),
            ("{A} gave {B} the {T} {at B}.", "{A}在{at B}给了{B}那{measure T}{T}。"),
            ("{A} handed the {T} to {B} {at B}.", "{A}在{at B}把{T}递给了{B}。"),
            ("{A} let {B} have the {T} {at B}.", "{A}在{at B}把{T}让给了{B}。"),
        ),
    ),
    Kind(
        "trade",
        "event",
        4,
        "ATUB",
        needs=("A holds T", "A meets B", "B holds U"),
        moves=("A to place of B", "T to B", "U to A"),
        cheers="A",
        wordings=(
            (
                "{A} traded the {T} for the {U} with {B} {at B}.",
                "{A}和{B}在{at B}做了交换，用{T}换来了{U}。",
            ),
            (
                "{A} met {B} {at B} and traded the {T} for the {U}.",
                "{A}在{at B}遇见{B}，用{T}换来了{U}。",
            ),
        ),
    ),
    Kind(
        "lose",
        "event",
        4,
        "AT",
        needs=("A holds T",),
        moves=("T to place of A",),
        saddens="A",
        wordings=(
            ("{A} lost the {T} {at A}.", "{A}在{at A}弄丢了{T}。"),
            ("{A} forgot the {T} {at A}.", "{A}把{T}忘在了{at A}。"),
            ("{A} dropped the {T} somewhere {at A}.", "{A}不小心把{T}掉在了{at A}。"),
        ),
    ),
    Kind(
        "leave",
        "event",
        2.5,
        "AT",
        needs=("A holds T",),
        moves=("T to place of A",),
        wordings=(
            ("{A} left the {T} {at A}.", "{A}把{T}留在了{at A}。"),
            ("{A} put the {T} down {at A}.", "{A}把{T}放在了{at A}。"),
            ("{A} hid the {T} {at A}.", "{A}把{T}藏在了{at A}。"),
        ),
    ),
    Kind(
        "fetch",
        "event",
        8,
        "AT",
        needs=("A has empty hands", "T is on its own"),
        moves=("A to place of T", "T to A"),
        cheers="A",
        wordings=(
            ("{A} searched for the {T} and found it {at T}.", "{A}四处寻找{T}，在{at T}找到了它。"),
            ("{A} managed to find the {T} {at T}.", "{A}终于在{at T}找到了{T}。"),
            ("{A} picked up the {T} {at T}.", "{A}在{at T}捡起了{T}。"),
        ),
    ),
    Kind(
        "eat",
        "event",
        4,
        "AT",
        needs=("A holds T", "T is food"),
        moves=("T is gone",),
        cheers="A",
        wordings=(
            ("{A} ate the {T}.", "{A}吃了{T}。"),
            ("{A} ate the {T} {manner}.", "{A}{manner}吃了{T}。"),
            ("{A} sat down and ate the {T}.", "{A}坐下来吃了{T}。"),
        ),
    ),
    Kind(
        "share",
        "event",
        3,
        "ATB",
        needs=("A holds T", "T is food", "A meets B"),
        moves=("A to place of B", "T is gone"),
        cheers="B",
        wordings=(
            ("{A} shared the {T} with {B} {at B}.", "{A}和{B}在{at B}分吃了{T}。"),
            ("{A} and {B} ate the {T} together {at B}.", "{A}和{B}在{at B}一起吃了{T}。"),
        ),
    ),
    # What is remembered comes up again.
    Kind(
        "show",
        "event",
        1.5,
        "ATB",
        needs=("A holds T", "A meets B"),
        moves=("A to place of B",),
        wordings=(
            ("{A} showed {B} the {look T} {T} {at B}.", "{A}在{at B}给{B}看了{look T}{T}。"),
            (
                "{A} let {B} hold the {look T} {T} {at B}.",
                "{A}在{at B}让{B}拿了一会儿{look T}{T}。",
            ),
            (
                "{A} met {B} {at B} and talked about the {look T} {T}.",
                "{A}在{at B}跟{B}讲起了{look T}{T}。",
            ),
        ),
    ),
    Kind(
        "admire",
        "event",
        1,
        "AT",
        needs=("A holds T",),
        wordings=(
            ("{A} looked at the {look T} {T} {gaze}.", "{A}{gaze}看着{look T}{T}。"),
            ("{A} held on to the {look T} {T}.", "{A}舍不得放下{look T}{T}。"),
            ("{A} liked the {look T} {T} very much.", "{A}非常喜欢{look T}{T}。"),
        ),
    ),
    Kind(
        "talk about work",
        "event",
        1.2,
        "AB",
        needs=("A meets B",),
        moves=("A to place of B",),
        wordings=(
            (
                "{A} met {B} {at B} and asked about life as a {job B}.",
                "{A}在{at B}向{B}打听当{job B}的生活。",
            ),
            (
                "{A} met {B} {at B} and told about life as a {job A}.",
                "{A}在{at B}给{B}讲了当{job A}的生活。",
            ),
            (
                "{A} met {B} {at B} and learned how a {job B} works.",
                "{A}在{at B}听{B}讲了{job B}是怎么工作的。",
            ),
        ),
    ),
    Kind(
        "tell where a thing is",
        "event",
        6,
        "ABT",
        needs=("A meets B", "T is on its own"),
        moves=("A to place of B",),
        wordings=(
            (
                "{A} met {B} {at B} and said that the {T} was {at T}.",
                "{A}在{at B}对{B}说，{T}在{at T}。",
            ),
            ("{A} told {B} {at B} that the {T} was {at T}.", "{A}在{at B}告诉{B}，{T}在{at T}。"),
        ),
    ),
    # How people get on, and the sky above them.
    Kind(
        "play",
        "event",
        1,
        "AB",
        needs=("A meets B",),
        moves=("A to place of B",),
        cheers="A",
        wordings=(
            ("{A} played {game} with {B} {at B}.", "{A}和{B}在{at B}{game}。"),
            ("{A} danced with {B} {at B}.", "{A}和{B}在{at B}跳了一支舞。"),
            ("{A} laughed about {topic} with {B} {at B}.", "{A}和{B}在{at B}说起{topic}，都笑了。"),
        ),
    ),
    Kind(
        "quarrel",
        "event",
        0.8,
        "AB",
        needs=("A meets B",),
        moves=("A to place of B",),
        saddens="A",
        wordings=(
            ("{A} argued about {topic} with {B} {at B}.", "{A}和{B}在{at B}为了{topic}争论起来。"),
            (
                "{A} quarreled about {topic} with {B} {at B}.",
                "{A}和{B}在{at B}为了{topic}吵了一架。",
            ),
        ),
    ),
    Kind(
        "the weather turns",
        "event",
        1,
        "",
        moves=("the weather turns",),
        wordings=(
            ("{turn}.", "{turn}。"),
            ("{turn} all at once.", "一下子{turn}。"),
            ("{turn} after a while.", "过了一会儿，{turn}。"),
        ),
    ),
    # How it feels.
    Kind(
        "rejoice",
        "joy",
        1,
        "A",
        wordings=(
            ("{A} was {joy}.", "{A}很{joy}。"),
            ("{A} felt {joy}.", "{A}感到{joy}。"),
            ("{A} seemed {joy}.", "{A}看上去很{joy}。"),
        ),
    ),
    Kind(
        "grieve",
        "sorrow",
        1,
        "A",
        wordings=(
            ("{A} was {sorrow}.", "{A}很{sorrow}。"),
            ("{A} felt {sorrow}.", "{A}感到{sorrow}。"),
            ("{A} seemed {sorrow}.", "{A}看上去很{sorrow}。"),
        ),
    ),
    # What the reader is asked, and the answer.
    Kind(
        "where is the thing",
        "question",
        4,
        "T",
        wordings=(("where is the {T}?", "{T}在哪里？"),),
        answers=("it lies", "it is held"),
    ),
    Kind(
        "who has it",
        "question",
        2,
        "T",
        needs=("T is in hand",),
        wordings=(("who has the {T}?", "{T}在谁手里？"),),
        answers=("it is held",),
    ),
    Kind(
        "where is the person",
        "question",
        2,
        "A",
        wordings=(("where is {A}?", "{A}在哪里？"),),
        answers=("the place",),
    ),
    Kind(
        "what color",
        "question",
        2,
        "T",
        needs=("T has a color",),
        wordings=(("what color is the {T}?", "{T}是什么颜色的？"),),
        answers=("the color",),
    ),
    Kind(
        "who had it first",
        "question",
        1,
        "T",
        wordings=(("who had the {T} first?", "谁最先有{T}？"),),
        answers=("the first owner",),
    ),
    Kind(
        "what work",
        "question",
        1,
        "A",
        wordings=(("what is the job of {A}?", "{A}是做什么工作的？"),),
        answers=("the job",),
    ),
    Kind(
        "how does it feel",
        "question",
        2,
        "A",
        wordings=(("how does {A} feel?", "{A}感觉怎么样？"),),
        answers=("the feeling",),
    ),
    Kind(
        "it lies",
        "answer",
        1,
        "T",
        needs=("T is on its own",),
        wordings=(("it is {at T}.", "它在{at T}。"),),
    ),
    Kind(
        "it is held",
        "answer",
        1,
        "T",
        needs=("T is in hand",),
        wordings=(("{holder T} has it.", "它在{holder T}手里。"),),
    ),
    Kind("the place", "answer", 1, "A", wordings=(("{she A} is {at A}.", "{she A}在{at A}。"),)),
    Kind("the color", "answer", 1, "T", wordings=(("it is {look T}.", "它是{look T}。"),)),
    Kind(
        "the first owner",
        "answer",
        1,
        "T",
        wordings=(("{owner T} had it first.", "最先有它的是{owner T}。"),),
    ),
    Kind("the job", "answer", 1, "A", wordings=(("{she A} is a {job A}.", "{she A}是{job A}。"),)),
    Kind(
        "the feeling",
        "answer",
        1,
        "A",
        wordings=(("{she A} feels {feeling A}.", "{she A}感到{feeling A}。"),),
    ),
)
