"""The words of Littletown, in English and Chinese: who may live there, where, and with what."""

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
