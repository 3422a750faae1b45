"""Readers: linear maps that ask a model in training what it knows of whom it reads about.

The next word tells a model late and seldom what it should have noticed. That a nurse is called Luca
matters many sentences later, and only in the few stories that come back to it. So a small model
stands for thousands of steps where no job is bound to any name.

The town knows what is so at each word. While the model trains, readers look into its residual
stream: at a name for the job of that person, for where they are and what they hold; at the end of
a sentence for what it changed. Each reader is one matrix, and scores words with the embedding that
the model itself scores its next word with. What they get wrong flows back into the model, which
so learns early to keep what a story will ask for. After the training they are thrown away: what
they leave behind is a GPT like any other.

Shapes: B batch, T positions, V vocab_size, D d_model, R readers.

References:
    Alain and Bengio (2016), "Understanding intermediate layers using linear classifier probes".
    https://arxiv.org/abs/1610.01644
    Lee et al. (2014), "Deeply-Supervised Nets", for losses in the middle of a network.
    https://arxiv.org/abs/1409.5185
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from gptbook.evaluation import IGNORED
from gptbook.littletown.stories import Sentence, State, follow
from gptbook.littletown.wordings import TYPE, Slot, words_of
from gptbook.littletown.words import FOOD, LOOKS, NAMES, PLACES, POOLS, THINGS
from gptbook.tokenizer import END_OF_TEXT, Tokenizer

NOTHING = ""
"""What a reader is to say where there is nothing of the kind: nobody, nowhere, no thing."""

_NAMES, _PLACES, _NOUNS, _COLORS, _JOBS, _FEELINGS = (
    tuple(dict.fromkeys(word.english for word in pool))
    for pool in (
        NAMES,
        sum(PLACES, ()),
        sum(THINGS, ()),
        sum(LOOKS, ()),
        POOLS["job"],
        POOLS["mood"] + POOLS["joy"] + POOLS["sorrow"],
    )
)


class Reader(NamedTuple):
    """One question to the residual stream.

    Attributes:
        depth: After how many blocks it reads.
        candidates: The words that it chooses from.
    """

    depth: int
    candidates: tuple[str, ...]


READERS = {
    # At the name or the pronoun of a person: before the sentence, as the story has told it.
    "who": Reader(2, _NAMES),
    "job": Reader(2, _JOBS),
    "feeling": Reader(3, _FEELINGS),
    "place": Reader(3, _PLACES),
    "thing in hand": Reader(3, (*_NOUNS, NOTHING)),
    "other": Reader(2, _NAMES),
    "thing of the other": Reader(4, (*_NOUNS, NOTHING)),
    "thing on its own": Reader(4, (*_NOUNS, NOTHING)),
    # At a thing.
    "look": Reader(2, _COLORS),
    "first owner": Reader(3, _NAMES),
    "where it lies": Reader(3, (*_PLACES, NOTHING)),
    "holder": Reader(3, (*_NAMES, NOTHING)),
    # At a place: of whom or of what it is said.
    "about": Reader(2, _NAMES + _NOUNS),
    # At the end of a sentence: what it changed, and whom the next one may call she or he.
    "subject": Reader(2, (*_NAMES, NOTHING)),
    "person changed": Reader(2, (*_NAMES, NOTHING)),
    "new feeling": Reader(2, (*_FEELINGS, NOTHING)),
    "thing told of": Reader(2, _NOUNS),
    "new holder": Reader(2, (*_NAMES, NOTHING)),
    "new place": Reader(2, (*_PLACES, NOTHING)),
    # And how things stand after it, for whatever comes next.
    "thing to own": Reader(3, (*_NOUNS, NOTHING)),
    "who owns it": Reader(3, (*_NAMES, NOTHING)),
    "thing to eat": Reader(3, (*_NOUNS, NOTHING)),
    "who may eat it": Reader(3, (*_NAMES, NOTHING)),
}
"""All readers, from what one block can know to what takes a chain of them."""


NUMBERS = {
    (name, candidate): (number, answer)
    for number, (name, reader) in enumerate(READERS.items())
    for answer, candidate in enumerate(reader.candidates)
}
"""The number of each reader, and of each of its answers."""


class Reading(NamedTuple):
    """What a reader is to say at a word of a sentence."""

    word: int
    reader: str
    answer: str


def readings(state: State, sentence: Sentence) -> Iterator[Reading]:
    """Give all that can be read at the words of a sentence, told in a state.

    At a multi-word phrase ("in the park") it is read at the last word.
    """
    after = follow(state, sentence)
    cast = sentence.choice.cast
    word = len(words_of(sentence.marker.english)) + 1 if sentence.marker else 0
    entries = _slots(sentence)
    place_is_told = sentence.kind == "somebody here"
    named = None  # who is new in this sentence, once named
    for piece in sentence.wording.pieces:
        if isinstance(piece, str):
            word += 1
            continue
        slot, entry = next(entries)
        word += len(slot.english(entry).split())
        role, is_new = slot.role, cast.get(slot.role, 0) < 0
        type_ = TYPE.get(role, "")
        then = after if is_new else state
        if type_ == "place" or slot.attribute == "at":
            place_is_told = True
            whose = "A" if type_ == "place" else role
            if cast[whose] >= 0:
                yield Reading(word - 1, "about", _called(state, whose, cast[whose]))
            elif named:
                yield Reading(word - 1, "about", named)
        elif not slot.attribute and type_ == "person":
            people = [person.name for person in after.people]
            who = people.index(entry) if is_new else cast[role]
            named = then.people[who].name.english
            told = _of_person(then, who)
            if is_new:
                told = {name: told[name] for name in ("who", "job", "feeling", "place")}
                if not place_is_told:
                    del told["place"]
            yield from (Reading(word - 1, *row) for row in told.items())
        elif not slot.attribute and type_ == "thing":
            nouns = [thing.noun for thing in after.things]
            told = _of_thing(then, nouns.index(entry) if is_new else cast[role])
            yield from (Reading(word - 1, *row) for row in told.items())
    if sentence.choice.kind.group not in {"question", "answer"}:
        told = _changes(state, after, sentence) | _standing(after)
        yield from (Reading(word - 1, *row) for row in told.items())


def _slots(sentence: Sentence) -> Iterator[tuple[Slot, Any]]:
    """Give the slots of a sentence, and what stands in them."""
    return zip(sentence.wording.slots, sentence.entries, strict=True)


def _called(state: State, role: str, index: int) -> str:
    """Name somebody or something."""
    if TYPE[role] == "person":
        return state.people[index].name.english
    return state.things[index].noun.english


def _of_person(state: State, who: int) -> dict[str, str]:
    """Say all that is known of a person, and of the other one, if there is one."""
    person, place = state.people[who], state.scene.people[who]
    told = {
        "who": person.name.english,
        "job": person.job.english,
        "feeling": person.feeling.english,
        "place": state.places[place].english,
        "thing in hand": _in_hand(state, who),
    }
    if len(state.people) == 2:
        other = state.people[1 - who].name.english
        told["other"] = other
        told["thing of the other"] = _in_hand(state, 1 - who)
    alone = [
        thing.noun.english
        for thing, (where, _) in zip(state.things, state.scene.things, strict=True)
        if where < 0
    ]
    if len(alone) < 2:
        told["thing on its own"] = alone[0] if alone else NOTHING
    return told


def _in_hand(state: State, who: int) -> str:
    """Say what a person has."""
    held = state.scene.held_by(who)
    return state.things[held[0]].noun.english if held else NOTHING


def _of_thing(state: State, index: int) -> dict[str, str]:
    """Say all that is known of a thing."""
    thing, holder = state.things[index], state.scene.things[index][0]
    return {
        "look": thing.look.english,
        "first owner": thing.owner.english,
        "where it lies": NOTHING if holder >= 0 else state.places[~holder].english,
        "holder": state.people[holder].name.english if holder >= 0 else NOTHING,
    }


def _changes(before: State, after: State, sentence: Sentence) -> dict[str, str]:
    """Say what a sentence changed; where two things change hands, it is the one named first."""
    told = dict.fromkeys(("subject", "person changed", "new feeling", "new place"), NOTHING)
    if after.focus.subject >= 0:
        told["subject"] = after.people[after.focus.subject].name.english
    kind, cast = sentence.choice.kind, sentence.choice.cast
    said = {slot.key: entry for slot, entry in _slots(sentence)}
    moved = {move.split()[0] for move in kind.moves}
    people = [person.name for person in after.people]
    if "A" in moved or kind.group in {"joy", "sorrow"}:
        name = said["A"] if cast["A"] < 0 else before.people[cast["A"]].name
        who = people.index(name)
        told["person changed"] = name.english
        if moved:
            told["new place"] = after.places[after.scene.people[who]].english
        if "mood" in said or not moved:
            told["new feeling"] = after.people[who].feeling.english
    if "T" in cast:
        noun = said["T"] if cast["T"] < 0 else before.things[cast["T"]].noun
        told |= {"thing told of": noun.english, "new holder": NOTHING}
        for index, thing in enumerate(after.things):
            if thing.noun == noun and "T" in moved:
                known = _of_thing(after, index)
                told["new holder"] = known["holder"]
                told["new place"] = known["where it lies"] or told["new place"]
    return told


def _standing(state: State) -> dict[str, str]:
    """Say which things there are, and who has them."""
    told = dict.fromkeys(("thing to own", "who owns it", "thing to eat", "who may eat it"), NOTHING)
    for thing, (where, category) in zip(state.things, state.scene.things, strict=True):
        eaten = category == FOOD
        told["thing to eat" if eaten else "thing to own"] = thing.noun.english
        if where >= 0:
            told["who may eat it" if eaten else "who owns it"] = state.people[where].name.english
    return told


class Tutored(nn.Module):
    """A model with its readers, for `train`: the loss of the next token and that of the readers.

    Args:
        model: Anything that maps token ids to logits.
        blocks: Its blocks, the first one first.
        embedding: The matrix with which it scores its next token, (V, D).
        candidates: The tokens that each reader chooses from, as `candidate_ids` gives them.
        weight: How much the readers count beside the next token.
        strictness: How much it counts, beside the odds of the next token, that no probability goes
            to tokens that the town would not say at all. `train` yields each step; between two of
            them it may be changed.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Iterable[nn.Module],
        embedding: Tensor,
        candidates: Sequence[Tensor],
        weight: float = 1.0,
        strictness: float = 0.0,
    ) -> None:
        super().__init__()
        self.model, self.candidates = model, candidates
        self.weight, self.strictness = weight, strictness
        self.blocks, self.embedding = tuple(blocks), embedding
        width = embedding.shape[1]
        self.maps = nn.Parameter(torch.randn(len(READERS), width, width) / width**0.5)
        self.last: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def mistakes(self) -> list[float]:
        """Say of each row of the last batch what it paid for impossible tokens, in nats."""
        if self.last is None:
            raise RuntimeError("no batch was read yet; call loss first")
        logits, odds = self.last
        exponentials = (logits - logits.amax(dim=-1, keepdim=True)).exp()
        possible = (exponentials * (odds > 0)).sum(dim=-1) / exponentials.sum(dim=-1)
        nats = -possible.clamp(min=1e-30).log()
        return nats.masked_fill(odds[..., 0] == IGNORED, 0.0).sum(dim=-1).tolist()

    def loss(
        self, token_ids: Int[Tensor, "B T"], targets: Float[Tensor, "B T VR"]
    ) -> Float[Tensor, ""]:
        """Return the loss of the next tokens, and `weight` times the mean loss of the readers.

        Args:
            token_ids: The text.
            targets: At each token how likely each token is to be the next one; behind that, for
                each reader, the number of the candidate that it is to name. `IGNORED` where there
                is nothing to say.
        """
        stream: dict[int, Tensor] = {}
        hooks = [
            block.register_forward_hook(partial(_keep, stream, depth))
            for depth, block in enumerate(self.blocks, 1)
        ]
        try:
            logits = self.model(token_ids)
        finally:
            for hook in hooks:
                hook.remove()
        odds, answers = targets.split([len(self.embedding), len(READERS)], dim=-1)
        predicted = odds[..., 0] != IGNORED
        loss = odds_loss(logits[predicted], odds[predicted], self.strictness)
        self.last = logits.detach(), odds
        return loss + self.weight * self._readers_loss(stream, answers.long())

    def _readers_loss(
        self, stream: dict[int, Tensor], targets: Int[Tensor, "B T R"]
    ) -> Float[Tensor, ""]:
        """Average over the readers that are asked, each of which averages over its answers."""
        normed = {depth: F.rms_norm(x, x.shape[-1:]) for depth, x in stream.items()}
        losses = []
        for number, reader in enumerate(READERS.values()):
            answers = targets[..., number]
            asked = answers != IGNORED
            if asked.any():
                x = normed[reader.depth][asked] @ self.maps[number]
                scores = x @ self.embedding[self.candidates[number]].mT
                losses.append(F.cross_entropy(scores, answers[asked]))
        return torch.stack(losses).mean() if losses else self.maps.new_zeros(())


def odds_loss(
    logits: Float[Tensor, "N V"],
    odds: Float[Tensor, "N V"],
    strictness: float,
    reduction: str = "mean",
) -> Float[Tensor, "..."]:
    """Return the cross-entropy with known odds, and again with the model's own where possible.

    The second target is what the model itself would say if the impossible tokens were left out. It
    draws nothing from one possible token to another, and all from the impossible ones: its gradient
    is that of -log of the probability of all possible tokens together. That is least where the
    first target is met, so that the best model stays the best one; but a wrong name costs a story
    its truth, and the cross-entropy only 0.02 nats where one of 50 names is wrong.
    """
    if strictness:
        own = logits.detach().masked_fill(odds == 0, -torch.inf).softmax(dim=-1)
        odds = odds + strictness * own
    return F.cross_entropy(logits, odds, reduction=reduction)


def _keep(stream: dict[int, Tensor], depth: int, _block: nn.Module, _args: Any, out: Any) -> None:
    """Keep what a block leaves in the stream; some return it in a tuple."""
    stream[depth] = out[0] if isinstance(out, tuple) else out


def candidate_ids(tokenizer: Tokenizer) -> list[Tensor]:
    """Give the tokens that each reader chooses from: a word's first; nothing is the end of text."""
    end = tokenizer.special_tokens[END_OF_TEXT]
    return [
        torch.tensor([
            tokenizer.encode_ordinary(f" {word}")[0] if word else end for word in reader.candidates
        ])
        for reader in READERS.values()
    ]
