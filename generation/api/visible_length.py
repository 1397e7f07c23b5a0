"""Length of a text in visible characters."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

#: The last two code points of each plane are not characters.
_NONCHARACTERS: Final = "".join(chr(plane | last) for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF))
#: Control characters except white space, Unicode's Default_Ignorable_Code_Point, noncharacters, interlinear
#: annotations, Egyptian format controls, and the few other characters with a blank glyph.
_INVISIBLE: Final = re.compile(
    r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u202a-\u202e\u2060-\u206f\u2800\u3164\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U00013430-\U0001343f\U00013441\U00013442\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a"
    f"\U000e0000-\U000e0fff{_NONCHARACTERS}]+"
)


def visible_length(text: str) -> int:
    """Count the characters from the first to the last visible one, without invisible characters in between.

    Combining marks count only after a base character.
    """
    if text.isascii() and text.isprintable():
        return len(text.strip())
    shown = _INVISIBLE.sub("", text).strip()
    for start, character in enumerate(shown):
        if not (unicodedata.category(character).startswith("M") or character.isspace()):
            return len(shown) - start
    return 0
