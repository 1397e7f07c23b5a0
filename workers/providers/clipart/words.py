"""Parse a prompt: its nouns, their numbers, the setting, and unwanted objects."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from workers.providers.clipart import drawings, grammar
from workers.providers.clipart.catalogue import Entry, by_drawing, nouns, setting_words

_TOKEN = re.compile(
    r"(?P<emoji>[\u2600-\u27bf\u2b50\u231a\u23f0\U0001f300-\U0001faff]"
    r"(?:\ufe0f|[\U0001f3fb-\U0001f3ff]|\u200d[\u2600-\u27bf\u2b1b\U0001f300-\U0001faff])*)"
    r"|(?P<word>[^\W\d_]+(?:'[^\W\d_]+)?)|(?P<number>\d+)|(?P<stop>[.,;:!?()\[\]\n/|])"
)
_LONGEST_COMPOUND = 4
_MOST_OF_ONE = 12
# Emoji that are signs rather than things, where the catalogue does not know better.
_SIGNS = re.compile(r"[\u2600-\u27bf\U0001f3fb-\U0001f3ff\U0001f4af\U0001f500-\U0001f523\U0001f532-\U0001f53d]")


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun of the prompt. ``count`` is ``None`` for a plural that names no number, ``color`` empty for none."""

    entry: Entry
    count: int | None = 1
    color: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a prompt asks for, in the order in which it says so."""

    nouns: tuple[Noun, ...] = ()
    setting: str = ""
    unwanted: frozenset[str] = frozenset()
    unwanted_kinds: frozenset[str] = frozenset()
    at_night: bool = False

    @property
    def main(self) -> Noun | None:
        """The subject of the image: the first creature or person, else the first thing that is not sky."""
        for choose in (
            lambda noun: noun.entry.is_character,
            lambda noun: noun.entry.kind != "sky" or noun.entry.place == "air",
            lambda noun: True,
        ):
            for noun in self.nouns:
                if choose(noun):
                    return noun
        return None

    def allows(self, entry: Entry) -> bool:
        """Whether the prompt says nothing against ``entry``."""
        return entry.drawing not in self.unwanted and entry.kind not in self.unwanted_kinds


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def read(prompt: str, negative_prompt: str = "", *, names: Collection[str] = ()) -> Wish:
    """Read a prompt. Any text is fine: what is not understood is passed over. ``names`` are those of figures that are
    drawn anyway, in lower case."""
    reader = _Reader(list(_tokens(prompt)), names)
    reader.run()
    against = _Reader(list(_tokens(negative_prompt)))
    against.run()
    unwanted = reader.unwanted | {noun.entry.drawing for noun in against.nouns}
    kinds = reader.unwanted_kinds | against.kinds_seen
    settings = [setting for setting in reader.settings if setting not in against.settings]
    wish = Wish(setting=settings[0] if settings else "", unwanted=frozenset(unwanted), unwanted_kinds=frozenset(kinds))
    kept: dict[str, Noun] = {}
    for noun in reader.nouns:
        if wish.allows(noun.entry):
            kept.setdefault(noun.entry.drawing, noun)
    return replace(wish, nouns=tuple(kept.values()), at_night=reader.at_night)


def well_formed(text: str) -> str:
    """The text without lone surrogates and control characters, its white space single."""
    encodable = text.encode("utf-8", "ignore").decode("utf-8")
    return " ".join("".join(char if char.isprintable() or char == "\u200d" else " " for char in encodable).split())


def _tokens(text: str) -> Iterator[_Token]:
    # Emoji sequences lose nothing under NFKC, while letters in fancy alphabets become plain ones.
    plain = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("-", " ").lower()
    for match in _TOKEN.finditer(plain):
        word = match.group().removesuffix("'s") if match.lastgroup == "word" else match.group()
        yield _Token(match.lastgroup or "", word)


def singulars(word: str) -> Iterator[str]:
    """The word itself, then what it may be the plural of, likeliest first."""
    yield word
    if word in grammar.IRREGULAR_PLURALS:
        yield grammar.IRREGULAR_PLURALS[word]
        return
    if len(word) < 4 or word.endswith("ss"):
        return
    if word.endswith("ies"):
        yield word[:-3] + "y"
    if word.endswith("ves"):
        yield word[:-3] + "f"
        yield word[:-3] + "fe"
    if word.endswith("es"):
        yield word[:-2]
    if word.endswith("s"):
        yield word[:-1]


class _Reader:
    """One walk over the tokens of a text."""

    def __init__(self, tokens: list[_Token], names: Collection[str] = ()) -> None:
        self.tokens = tokens
        self.names = names
        self.nouns: list[Noun] = []
        self.settings: list[str] = []
        self.unwanted: set[str] = set()
        self.unwanted_kinds: set[str] = set()
        self.kinds_seen: set[str] = set()
        self.at_night = False
        self._noun_ends = {-1}
        self._count: int | None = None
        self._negated = False

    def run(self) -> None:
        position = 0
        while position < len(self.tokens):
            position += self._read_at(position)

    def _read_at(self, position: int) -> int:
        token = self.tokens[position]
        if token.kind == "stop":
            self._negated = False
            self._count = None
            return 1
        if token.kind == "emoji":
            self._add(_emoji_entry(token.text), 1)
            self._noun_ends.add(position)
            return 1
        if token.kind == "number":
            self._count = min(int(token.text[:4]), _MOST_OF_ONE)
            return 1
        length = 1 if token.text in self.names else self._compound_at(position)
        if length:
            self._noun_ends.add(position + length - 1)
            return length
        self._read_plain(position, token.text)
        return 1

    def _read_plain(self, position: int, word: str) -> None:
        """A word that names nothing: it may count, negate or end something."""
        if word in grammar.NUMBER_WORDS and (word not in grammar.COLLECTIVES or self._word(position + 1) == "of"):
            self._count = grammar.NUMBER_WORDS[word]
        elif word in grammar.NEGATIONS:
            self._negated = True
        elif word in grammar.NEGATION_ENDS:
            self._negated = False
            self._count = None
        elif word in ("a", "an", "the"):
            self._count = None
            self._negated = self._negated and self._word(position - 1) != "and"
        if word in grammar.NIGHT_WORDS and not self._negated:
            self.at_night = True
        for singular in singulars(word):
            if singular in grammar.KINDS:
                self._note_kind(grammar.KINDS[singular])

    def _note_kind(self, kind: str) -> None:
        self.kinds_seen.add(kind)
        if self._negated:
            self.unwanted_kinds.add(kind)

    def _compound_at(self, position: int) -> int:
        """The number of tokens of the longest noun or setting that starts here; 0 for none."""
        words = []
        for token in self.tokens[position : position + _LONGEST_COMPOUND]:
            if token.kind != "word":
                break
            words.append(token.text)
        if not words or (words[0] in grammar.COLLECTIVES and self._word(position + 1) == "of"):
            return 0
        for length in range(len(words), 0, -1):
            head = words[: length - 1]
            for singular in singulars(words[length - 1]):
                phrase = " ".join([*head, singular])
                if self._take(phrase, position, length, plural=singular != words[length - 1]):
                    return length
        return 0

    def _take(self, phrase: str, position: int, length: int, *, plural: bool) -> bool:
        place = setting_words().get(phrase)
        entry = nouns().get(phrase)
        if place is None and entry is None:
            return False
        if phrase in grammar.VERBS_TOO and not self._noun_fits(position, length):
            return False
        if place is not None and not self._negated and (not place[1] or self._is_inside(position)):
            self.settings.append(place[0])
            return True
        if entry is None:
            # An unwanted setting is passed over together with its word.
            return True
        if not plural and self._modifies(phrase, entry, position + length):
            return True
        if phrase in grammar.KINDS:
            self._note_kind(grammar.KINDS[phrase])
        self._add(entry, None if plural and self._count is None else self._count or 1, self._color_before(position))
        return True

    def _color_before(self, position: int) -> str:
        """The color of the noun that starts here: the nearest before it, through at most one other adjective."""
        for before in (position - 1, position - 2):
            if color := grammar.COLORS.get(self._word(before)):
                return color
            if before in self._noun_ends or self._word(before) in grammar.PREPOSITIONS:
                break
        return ""

    def _add(self, entry: Entry | None, count: int | None, color: str = "") -> None:
        self._count = None
        if entry is None:
            return
        if self._negated:
            self.unwanted.add(entry.drawing)
        else:
            self.nouns.append(Noun(entry, count, color))

    def _word(self, position: int) -> str:
        return self.tokens[position].text if 0 <= position < len(self.tokens) else ""

    def _is_inside(self, position: int) -> bool:
        """Whether "in", "at" or the like leads here, through at most three words such as "a big old"."""
        for before in range(position - 1, max(position - 5, -1), -1):
            if self._word(before) in grammar.INSIDE:
                return True
            if before in self._noun_ends or self.tokens[before].kind != "word":
                return False
        return False

    def _modifies(self, phrase: str, entry: Entry, position: int) -> bool:
        """Whether a noun only says what the one at ``position`` is like: "an orange cat", "a superhero dog"."""
        if position >= len(self.tokens) or self.tokens[position].kind != "word":
            return False
        word = self.tokens[position].text
        if word in grammar.PREPOSITIONS:
            return False
        candidates = [*singulars(word), f"{word} {self._word(position + 1)}"]
        following = next((nouns()[candidate] for candidate in candidates if candidate in nouns()), None)
        if following is None:
            return False
        return phrase in grammar.MODIFIERS or (entry.is_character and following.is_character)

    def _noun_fits(self, position: int, length: int) -> bool:
        """Whether a word that is a verb too stands where a noun must."""
        before = position - 1
        while before >= 0 and self.tokens[before].kind == "word":
            word = self.tokens[before].text
            if word in grammar.VERB_LEADERS:
                return False
            if word in ("and", "or"):
                return before - 1 in self._noun_ends
            if word in grammar.DETERMINERS or word in grammar.PREPOSITIONS or word in grammar.NUMBER_WORDS:
                return True
            if word in grammar.NEGATIONS:
                return True
            if before in self._noun_ends:
                return False
            before -= 1
        # The start of a clause: an order ("watch the moon") or a noun with its adjectives.
        return before != position - 1 or self._word(position + length) not in grammar.VERB_FOLLOWERS


def _emoji_entry(text: str) -> Entry | None:
    """The entry of an emoji: the catalogue's own, else whatever OpenMoji draws for it, if that is a thing."""
    points = [f"{ord(char):X}" for char in text if not "\U0001f3fb" <= char <= "\U0001f3ff"]
    if not points:
        return None
    full, bare = "-".join(points), "-".join(point for point in points if point != "FE0F")
    # OpenMoji's neutral person stands for the man and the woman of the same trade.
    neutral = re.sub("^1F46[89]-", "1F9D1-", full)
    for code in (full, bare, f"{bare}-FE0F", neutral, f"{neutral}-FE0F", points[0]):
        if code in by_drawing():
            return by_drawing()[code]
    if _SIGNS.match(text):
        return None
    for code in (full, bare, points[0]):
        if drawings.exists(code):
            return Entry(code, code, "ground", 3, "objects")
    return None
