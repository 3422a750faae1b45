"""The town itself: its words, and the kinds of sentence that are said about it.

Chapter 8 reads this file as one reads a map. `gptbook.world` is the machine that turns it into
stories, probabilities and proofs; nothing of what happens in the town is written there.

A wording is a sentence in English and the same one in Chinese. Between braces stands what the
sentence leaves open:

    {A} {B} {C}   a person: A acts, B is acted on, C is talked of
    {T} {U}       a thing
    {P}           a place
    {at B}        what the town remembers of B: here, where he is ("in the park")
    {way}         a free choice from the pool of that name
    {a mood}      the same with its article ("an orange", "a red")

A role that is `new` in a kind of sentence is drawn from all words that the story does not use yet;
every other role is played by somebody or something that the story has named before.
"""

from typing import NamedTuple


class Word(NamedTuple):
    """A word or phrase in both languages."""

    english: str
    chinese: str


class Name(NamedTuple):
    """What a person is called, and the pronoun for that person."""

    english: str
    chinese: str
    pronoun: str

    @property
    def is_female(self) -> bool:
        """Whether the town says "she"."""
        return self.pronoun == "she"


class Place(NamedTuple):
    """A place, and how one says that something is there."""

    english: str
    chinese: str
    at: Word


class Noun(NamedTuple):
    """A thing, and the Chinese measure word that counts it."""

    english: str
    chinese: str
    measure: str


class Kind(NamedTuple):
    """One kind of sentence: who takes part, when it may be said, what it changes, how it is said.

    Attributes:
        name: What the book calls it.
        group: When it comes: "first" or "next" (somebody enters), "event", "joy" or
            "sorrow" (how somebody feels about it), "question", "answer".
        weight: How likely it is beside the others that are possible.
        roles: One letter for each part, as in the wordings.
        needs: What must be so before, each as "A holds T"; `gptbook.world` knows the verbs.
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


def _pairs(text: str) -> tuple[Word, ...]:
    """Read "sunny 晴朗, windy 刮风": phrases, each followed by its Chinese."""
    return tuple(Word(*pair.strip().rsplit(" ", 1)) for pair in text.split(","))


def _names(pronoun: str, text: str) -> tuple[Name, ...]:
    """Read names that share a pronoun."""
    return tuple(Name(*pair, pronoun) for pair in _pairs(text))


def _places(preposition: str, text: str) -> tuple[Place, ...]:
    """Read places that share a preposition: "park 公园 里" is 公园, and in it is 公园里."""
    rows = ([*row.split(), ""][:3] for row in text.split(","))
    return tuple(
        Place(place, chinese, Word(f"{preposition} the {place}", chinese + inside))
        for place, chinese, inside in rows
    )


def _nouns(text: str) -> tuple[Noun, ...]:
    """Read "kite 风筝 只": a thing, its Chinese, its measure word."""
    return tuple(Noun(*row.split()) for row in text.split(","))


NAMES = _names(
    "she",
    "Mia 米娅, Anna 安娜, Lily 莉莉, Emma 艾玛, Nora 诺拉, Ruby 露比, Clara 克拉拉, Lucy 露西,"
    "Sofia 索菲亚, Zoe 佐伊, Ella 埃拉, Grace 格蕾丝, Alice 爱丽丝, Maya 玛雅, Ivy 艾薇,"
    "Rosa 罗莎, Leila 莱拉, Amira 阿米拉, Nina 妮娜, Olga 奥尔加, Priya 普丽娅, Mei 小梅,"
    "Eva 伊娃, Greta 格蕾塔, Paula 宝拉, Yuki 由纪, Hanna 汉娜, Tilda 蒂尔达",
) + _names(
    "he",
    "Tom 汤姆, Ben 本杰明, Max 马克斯, Leo 利奥, Sam 萨姆, Jack 杰克, Oscar 奥斯卡, Hugo 雨果,"
    "Felix 菲利克斯, Adam 亚当, Noah 诺亚, Omar 奥马尔, Ravi 拉维, Paul 保罗, Peter 彼得,"
    "Ivan 伊万, Luca 卢卡, Karl 卡尔, Finn 芬恩, David 大卫, Simon 西蒙, Victor 维克多,"
    "Emil 埃米尔, Diego 迭戈, Jonas 约纳斯, Theo 西奥, Wei 小伟, Kenji 健二",
)

PLACES = (
    _places(
        "in",
        "kitchen 厨房 里, garden 花园 里, park 公园 里, forest 森林 里, library 图书馆 里,"
        "school 学校 里, museum 博物馆 里, barn 谷仓 里, attic 阁楼 里, workshop 作坊 里,"
        "meadow 草地 上, orchard 果园 里",
    )
    + _places("at", "station 车站, harbor 港口, lake 湖边, theater 剧院 里, pool 泳池 边")
    + _places("on", "beach 海滩 上, hill 小山 上, bridge 石桥 上"),
    _places("at", "market 集市 上, bazaar 大巴扎 里") + _places("in", "shop 小店 里, mall 商场 里"),
)
"""Places where things are found, and places where they are bought."""

THINGS = (
    _nouns(
        "kite 风筝 只, ball 球 个, doll 娃娃 个, drum 鼓 面, flute 长笛 支, guitar 吉他 把,"
        "book 书 本, pencil 铅笔 支, brush 刷子 把, lamp 灯 盏, candle 蜡烛 支, basket 篮子 个,"
        "bucket 水桶 只, bag 包 个, cup 杯子 个, bowl 碗 只, spoon 勺子 把, plate 盘子 个,"
        "bottle 瓶子 个, hammer 锤子 把, rope 绳子 根, shovel 铲子 把, umbrella 雨伞 把,"
        "hat 帽子 顶, scarf 围巾 条, coat 外套 件, shirt 衬衫 件, ring 戒指 枚, clock 钟 座,"
        "mirror 镜子 面, blanket 毯子 条, pillow 枕头 个, chair 椅子 把, bell 铃铛 个,"
        "puzzle 拼图 副, flag 旗子 面, vase 花瓶 只, broom 扫帚 把, ladder 梯子 架, wallet 钱包 个,"
        "parrot 鹦鹉 只, fish 鱼 条, bird 小鸟 只, butterfly 蝴蝶 只, snail 蜗牛 只, frog 青蛙 只"
    ),
    _nouns(
        "apple 苹果 个, pear 梨 个, cake 蛋糕 块, cookie 饼干 块, pie 馅饼 个, sandwich 三明治 个,"
        "pancake 煎饼 张, plum 李子 颗, peach 桃子 个, muffin 松饼 个, banana 香蕉 根,"
        "carrot 胡萝卜 根, tomato 西红柿 个, waffle 华夫饼 块, dumpling 饺子 个, melon 甜瓜 个"
    ),
)
"""What people own, and what they eat."""

FOOD = 1

LOOKS = (
    _pairs(
        "red 红色的, blue 蓝色的, green 绿色的, yellow 黄色的, white 白色的, black 黑色的,"
        "brown 棕色的, pink 粉色的, purple 紫色的, orange 橙色的, gray 灰色的, golden 金色的"
    ),
    _pairs("big 大大的, small 小小的, fresh 新鲜的, tasty 美味的, soft 软软的, sweet 香甜的"),
)
"""Colors for what people own; for food, what it is like."""

POOLS: dict[str, tuple[Word, ...]] = {
    "sky": _pairs(
        "sunny 晴朗, windy 刮风, cold 寒冷, warm 温暖, cloudy 多云, foggy 起雾, rainy 下雨,"
        "stormy 风雨交加"
    ),
    "job": _pairs(
        "baker 面包师, teacher 老师, doctor 医生, farmer 农夫, painter 画家, gardener 园丁,"
        "sailor 水手, singer 歌手, tailor 裁缝, carpenter 木匠, librarian 图书管理员, driver 司机,"
        "cook 厨师, nurse 护士, musician 音乐家, potter 陶艺师, shepherd 牧羊人, writer 作家,"
        "dentist 牙医, barber 理发师, pilot 飞行员, florist 花艺师, plumber 水管工, judge 法官"
    ),
    "mood": _pairs(
        "cheerful 愉快, calm 平静, sleepy 困倦, tired 疲惫, curious 好奇, hungry 饥饿, shy 害羞,"
        "lonely 孤单, nervous 紧张, relaxed 轻松, bored 无聊, hopeful 充满希望, worried 担忧,"
        "restless 烦躁, thirsty 口渴, confident 自信"
    ),
    "joy": _pairs(
        "happy 高兴, glad 开心, pleased 满意, delighted 欣喜, joyful 快乐, thankful 感激,"
        "proud 自豪, excited 兴奋"
    ),
    "sorrow": _pairs(
        "sad 难过, upset 心烦, unhappy 不快, gloomy 沮丧, sorry 遗憾, miserable 痛苦,"
        "troubled 苦恼, disappointed 失望"
    ),
    "afternoon": _pairs(
        "at noon 中午, after lunch 午饭后, that afternoon 当天下午, at teatime 下午茶时"
    ),
    "evening": _pairs(
        "that evening 当晚, at sunset 日落时, before supper 晚饭前, after dark 天黑后"
    ),
    "way": _pairs("on foot 步行, by bicycle 骑车, by bus 坐公交车, by tram 坐电车, at once 立刻"),
    "spot": _pairs(
        "on the ground 地上, under a bench 长凳下, behind a wall 墙后, near a stone 石头旁,"
        "in a box 盒子里"
    ),
    "price": _pairs("two 两, three 三, four 四, five 五, six 六, seven 七, eight 八, nine 九"),
    "manner": _pairs("slowly 慢慢地, quickly 很快地, with pleasure 津津有味地, in silence 默默地"),
    "gaze": _pairs(
        "for a while 好一会儿, with a smile 微笑着, in silence 默默地, with great care 仔细地"
    ),
    "topic": _pairs(
        "the weather 天气, money 钱, the news 新闻, an old song 一首老歌, a silly joke 一个傻笑话,"
        "a dream 一个梦, the holidays 假期, dinner 晚餐"
    ),
    "game": _pairs(
        "cards 打牌, chess 下棋, checkers 下跳棋, tag 玩追人游戏, hide and seek 捉迷藏,"
        "dominoes 玩多米诺骨牌"
    ),
    "time": _pairs(
        "an hour 一个小时, ten minutes 十分钟, a long time 很久, a moment 片刻, half an hour 半小时"
    ),
}
"""What may be chosen freely, each word as likely as the others of its pool."""

PRONOUNS = {"she": Word("she", "她"), "he": Word("he", "他")}
TURNS = (Word("it began raining", "下起雨来了"), Word("it stopped raining", "雨停了"))
"""How the weather turns when it is dry, and when it rains."""
WET = ("rainy", "stormy")
"""The skies under which it rains."""

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
        "somebody elsewhere",
        "next",
        1,
        "AP",
        new="AP",
        moves=("A to P",),
        wordings=(
            ("the {mood} {job} {A} was {at P}.", "{mood}的{job}{A}在{at P}。"),
            ("{at P} was the {mood} {job} {A}.", "在{at P}的是{mood}的{job}{A}。"),
        ),
    ),
    Kind(
        "somebody here",
        "next",
        1,
        "AP",
        new="A",
        moves=("A to P",),
        wordings=(
            ("the {mood} {job} {A} was also {at P}.", "{mood}的{job}{A}也在{at P}。"),
            ("the {mood} {job} {A} was {at P}, too.", "同在{at P}的还有{mood}的{job}{A}。"),
        ),
    ),
    # People go about.
    Kind(
        "walk",
        "event",
        2,
        "AP",
        any="P",
        needs=("A leaves for P",),
        moves=("A to P",),
        wordings=(
            ("{A} walked to the {P}.", "{A}走到了{P}。"),
            ("{A} went to the {P} {way}.", "{A}{way}去了{P}。"),
            ("{A} hurried to the {P}.", "{A}匆匆赶到了{P}。"),
            ("{A} took a walk to the {P}.", "{A}散步去了{P}。"),
        ),
    ),
    Kind(
        "visit",
        "event",
        3.5,
        "AB",
        needs=("A is away from B",),
        moves=("A to place of B",),
        wordings=(
            ("{A} visited {B} {at B}.", "{A}去{place B}看望{B}。"),
            ("{A} met {B} {at B}.", "{A}在{at B}遇见了{B}。"),
            ("{A} joined {B} {at B}.", "{A}来到{place B}，和{B}待在一起。"),
            ("{A} went to see {B} {at B}.", "{A}去{place B}见{B}。"),
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
        needs=("there is room", "A has empty hands", "A is far from shops"),
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
        needs=("there is room", "A has empty hands", "A is in a shop"),
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
        needs=("A holds T", "A is with B", "B has empty hands"),
        moves=("T to B",),
        cheers="B",
        wordings=(
            ("{A} gave the {T} to {B}.", "{A}把{T}给了{B}。"),
            ("{A} gave {B} the {T}.", "{A}给了{B}那{measure T}{T}。"),
            ("{A} handed the {T} to {B}.", "{A}把{T}递给了{B}。"),
            ("{A} let {B} have the {T}.", "{A}把{T}让给了{B}。"),
        ),
    ),
    Kind(
        "trade",
        "event",
        4,
        "ATUB",
        needs=("A holds T", "A is with B", "B holds U"),
        moves=("T to B", "U to A"),
        cheers="A",
        wordings=(
            ("{A} traded the {T} for the {U} with {B}.", "{A}和{B}做了交换，用{T}换来了{U}。"),
            ("{A} gave {B} the {T} and got the {U}.", "{A}把{T}给了{B}，得到了{U}。"),
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
        "pick up",
        "event",
        6,
        "AT",
        needs=("A has empty hands", "A sees T"),
        moves=("T to A",),
        cheers="A",
        wordings=(
            ("{A} picked up the {T}.", "{A}捡起了{T}。"),
            ("{A} took the {T}.", "{A}拿走了{T}。"),
            ("{A} saw the {T} and took it.", "{A}看见了{T}，就拿了起来。"),
        ),
    ),
    Kind(
        "fetch",
        "event",
        5,
        "AT",
        needs=("A has empty hands", "A is far from T"),
        moves=("A to place of T", "T to A"),
        cheers="A",
        wordings=(
            ("{A} looked for the {T} and found it {at T}.", "{A}四处寻找{T}，在{at T}找到了它。"),
            ("{A} managed to find the {T} {at T}.", "{A}终于在{at T}找到了{T}。"),
            ("{A} recovered the {T} {at T}.", "{A}在{at T}拿回了{T}。"),
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
        needs=("A holds T", "T is food", "A is with B"),
        moves=("T is gone",),
        cheers="B",
        wordings=(
            ("{A} shared the {T} with {B}.", "{A}和{B}分吃了{T}。"),
            ("{A} and {B} ate the {T} together.", "{A}和{B}一起吃了{T}。"),
        ),
    ),
    # What is remembered comes up again.
    Kind(
        "show",
        "event",
        1.5,
        "ATB",
        needs=("A holds T", "A is with B"),
        wordings=(
            ("{A} showed {B} the {look T} {T}.", "{A}给{B}看了{look T}{T}。"),
            ("{A} let {B} hold the {look T} {T}.", "{A}让{B}拿了一会儿{look T}{T}。"),
            ("{A} told {B} about the {look T} {T}.", "{A}跟{B}讲起了{look T}{T}。"),
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
        needs=("A is with B",),
        wordings=(
            ("{A} asked {B} about life as a {job B}.", "{A}向{B}打听当{job B}的生活。"),
            ("{A} told {B} about life as a {job A}.", "{A}给{B}讲了当{job A}的生活。"),
            (
                "{A} learned from {B} how a {job B} works.",
                "{A}听{B}讲了{job B}是怎么工作的。",
            ),
        ),
    ),
    Kind(
        "tell where a thing is",
        "event",
        8,
        "ABT",
        needs=("A is with B", "A is far from T"),
        wordings=(
            ("{A} told {B} that the {T} was {at T}.", "{A}告诉{B}，{T}在{at T}。"),
            ("{A} said to {B} that the {T} was {at T}.", "{A}对{B}说，{T}在{at T}。"),
        ),
    ),
    Kind(
        "tell where somebody is",
        "event",
        0.8,
        "ABC",
        needs=("A is with B", "A is away from C"),
        wordings=(
            ("{A} told {B} that {C} was {at C}.", "{A}告诉{B}，{C}在{at C}。"),
            ("{A} said to {B} that {C} was {at C}.", "{A}对{B}说，{C}在{at C}。"),
        ),
    ),
    # How people get on, and the sky above them.
    Kind(
        "play",
        "event",
        1,
        "AB",
        needs=("A is with B",),
        cheers="A",
        wordings=(
            ("{A} played {game} with {B}.", "{A}和{B}一起{game}。"),
            ("{A} danced with {B}.", "{A}和{B}跳了一支舞。"),
            ("{A} laughed with {B} about {topic}.", "{A}和{B}说起{topic}，都笑了。"),
        ),
    ),
    Kind(
        "quarrel",
        "event",
        0.8,
        "AB",
        needs=("A is with B",),
        saddens="A",
        wordings=(
            ("{A} argued with {B} about {topic}.", "{A}和{B}为了{topic}争论起来。"),
            ("{A} quarreled with {B} about {topic}.", "{A}和{B}为了{topic}吵了一架。"),
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
            ("{A} looked {joy}.", "{A}看上去很{joy}。"),
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
            ("{A} looked {sorrow}.", "{A}看上去很{sorrow}。"),
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
