"""From a noun to its drawing: the tables of nouns, read once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from workers.providers.clipart import nouns_alive, nouns_things
from workers.providers.clipart.settings import HOMES, SETTINGS


@dataclass(frozen=True, slots=True)
class Entry:
    """A noun that can be drawn. ``kind`` is the name of its table, see :mod:`.nouns_alive` for the rest."""

    name: str
    drawing: str
    place: str
    size: int
    kind: str

    @property
    def is_character(self) -> bool:
        """Return whether an image may be about it rather than merely show it: creatures and people."""
        return self.kind in ("animals", "people")


_TABLES = {
    "animals": nouns_alive.ANIMALS,
    "people": nouns_alive.PEOPLE,
    "plants": nouns_alive.PLANTS,
    "sky": nouns_things.SKY,
    "buildings": nouns_things.BUILDINGS,
    "vehicles": nouns_things.VEHICLES,
    "objects": nouns_things.OBJECTS,
    "food": nouns_things.FOOD,
}


# Emoji, most of them mere heads, whose noun has a better drawing.
_EMOJI_OF_NOUNS = {
    "1F409": "dragon", "1F432": "dragon", "1F333": "tree", "1F436": "dog", "1F431": "cat", "1F430": "rabbit",
    "1F42D": "mouse", "1F42E": "cow", "1F42F": "tiger", "1F434": "horse", "1F437": "pig", "1F984": "unicorn",
    "1F435": "monkey", "1F43B": "bear", "1F98A": "fox", "1F414": "chicken", "1FACE": "deer", "1F433": "whale",
    "1F308": "rainbow",
}  # fmt: skip


def normalized(phrase: str) -> str:
    """A word or compound as the catalogue spells it: hyphens are spaces."""
    return " ".join(phrase.replace("-", " ").split())


def _words(text: str) -> Iterator[str]:
    return (word for word in map(normalized, text.split(",")) if word)


@lru_cache(maxsize=1)
def nouns() -> Mapping[str, Entry]:
    """Every word and compound, in the singular, with what it draws."""
    found: dict[str, Entry] = {}
    for kind, table in _TABLES.items():
        for line in table.strip().splitlines():
            drawing, place, size, text = line.split(None, 3)
            words = list(_words(text))
            entry = Entry(words[0], drawing, place, int(size), kind)
            for word in words:
                found.setdefault(word, entry)
    return MappingProxyType(found)


@lru_cache(maxsize=1)
def by_drawing() -> Mapping[str, Entry]:
    """The entries by the name of their drawing, also by the plain OpenMoji code of one with a part added."""
    found: dict[str, Entry] = {}
    for entry in nouns().values():
        found.setdefault(entry.drawing, entry)
    for entry in nouns().values():
        found.setdefault(entry.drawing.partition("+")[0], entry)
    for code, word in _EMOJI_OF_NOUNS.items():
        found.setdefault(code, nouns()[word])
    return MappingProxyType(found)


@lru_cache(maxsize=1)
def setting_words() -> Mapping[str, tuple[str, bool]]:
    """The words that name a setting; the flag says that they do so only after "in", "at" or "on"."""
    found: dict[str, tuple[str, bool]] = {}
    for name, setting in SETTINGS.items():
        for word in _words(setting.words):
            found.setdefault(word, (name, False))
    for name, setting in SETTINGS.items():
        for word in _words(setting.inside):
            found.setdefault(word, (name, True))
    return MappingProxyType(found)


@lru_cache(maxsize=1)
def homes() -> Mapping[str, str]:
    """The setting in which a noun is at home, by the noun's name."""
    return MappingProxyType({word: setting for setting, text in HOMES.items() for word in _words(text)})
