"""The figures of references: what an earlier drawing shows, drawn again in another scene.

A drawing follows from its prompt, so the prompt of the request that made it is all that is needed of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from workers.providers.base import ImageRequest, ReferenceImage
from workers.providers.clipart import clothes, grammar, mandala, scene, words
from workers.providers.clipart.catalogue import Entry, nouns
from workers.providers.clipart.geometry import Backdrop
from workers.providers.clipart.words import Wish
from workers.providers.support import unsupported

#: The names by which a prompt introduces its subject: "Pip the red fox", "Pip, a fox", "a fox called Pip".
_NAMES = (
    re.compile(r"^\W*([A-Z]\w*)(?=\s+the\b)"),
    re.compile(r"\b(?:named|called)\s+([A-Z]\w*)"),
)
_FIRST_WORD = re.compile(r"^\W*([A-Z]\w*)(?=\s+is\b|\s*,)")


@dataclass(frozen=True, slots=True)
class Hero:
    """The figure of a character. ``names`` are the words by which prompts call it."""

    entry: Entry
    names: frozenset[str]


def dressed(wish: Wish) -> Wish:
    """Return the wish whose subject wears the clothes that the wish names, which then lie about no more."""
    main = wish.main
    if main is None or not clothes.fits(main.entry.drawing):
        return wish
    worn = [noun for noun in wish.nouns if noun.entry.drawing in clothes.GARMENTS and noun.count == 1]
    drawing = clothes.put_on(main.entry.drawing, [(noun.entry.drawing, noun.color) for noun in worn])
    figure = replace(main, entry=replace(main.entry, drawing=drawing))
    return replace(wish, nouns=tuple(figure if noun == main else noun for noun in wish.nouns if noun not in worn))


def without_heroes(wish: Wish, heroes: Sequence[Hero]) -> Wish:
    """Return the wish without the nouns that stand for the heroes or for what they wear."""
    drawn = {clothes.without(hero.entry.drawing) for hero in heroes}
    drawn |= {drawing for hero in heroes for drawing in clothes.nouns_of(hero.entry.drawing)}
    return replace(wish, nouns=tuple(noun for noun in wish.nouns if clothes.without(noun.entry.drawing) not in drawn))


def check(request: ImageRequest) -> None:
    """Raise :class:`ProviderError` for an image that was not drawn here, or that is to be changed."""
    if request.mask or any(one.role not in ("character", "style") for one in request.references):
        raise unsupported("Clip art takes characters and a style, no image to change and no composition.")
    if any(not one.subject or one.seed is None for one in request.references):
        raise unsupported("Clip art knows only its own drawings, no uploads and no images of others.")
    if request.type == "background" and _of_role(request, "character"):
        raise unsupported("A background shows no characters.")


def of_request(request: ImageRequest) -> tuple[Hero, ...]:
    """Return the figures of the request's characters in their order, each once. Raises :class:`ProviderError` if a
    reference shows none."""
    heroes: dict[str, Hero] = {}
    for reference in _of_role(request, "character"):
        hero = _hero(reference)
        earlier = heroes.setdefault(hero.entry.drawing, hero)
        heroes[hero.entry.drawing] = replace(earlier, names=earlier.names | hero.names)
    return tuple(heroes.values())


def palette(request: ImageRequest) -> Backdrop | None:
    """Return the backdrop of the style reference, whose colors the image gets; None without one."""
    style = next(iter(_of_role(request, "style")), None)
    if style is None or style.seed is None:
        return None
    wish = words.read(style.subject)
    if wish.nouns or wish.setting:
        return scene.compose(scene.Brief(wish, "illustration", request.width, request.height, style.seed)).backdrop
    text_hash = subject_hash(words.well_formed(style.subject), "illustration")
    return mandala.compose(text_hash, "illustration", request.width, request.height, style.seed).backdrop


def subject_hash(subject: str, type_: str) -> int:
    """Return the number from which all that is not in the seed follows."""
    return int.from_bytes(hashlib.sha256(f"{subject}\0{type_}".encode()).digest()[:8], "big")


def names_in(subject: str) -> frozenset[str]:
    """Return the names that the prompt introduces, in lower case."""
    found = {match[1].lower() for pattern in _NAMES for match in pattern.finditer(subject)}
    if match := _FIRST_WORD.match(subject):  # "Pip, a fox", but not "Dragons, castles"
        found |= {match[1].lower()} - {word for word in words.singulars(match[1].lower()) if word in nouns()}
    return frozenset(found) - grammar.DETERMINERS


def _hero(reference: ReferenceImage) -> Hero:
    found = dressed(words.read(reference.subject)).main
    if found is None:
        raise unsupported("A character reference shows no figure that can be drawn again.")
    names = names_in(reference.subject) | frozenset(reference.name.lower().split())
    return Hero(found.entry, names - grammar.DETERMINERS)


def _of_role(request: ImageRequest, role: str) -> list[ReferenceImage]:
    return [one for one in request.references if one.role == role]
