"""Check tracked text for phrases that the project's style avoids, and the length of test names.

Prints one line for each finding and exits with 1 if there is one.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
LONGEST_TEST_NAME: Final = 70
#: Text of other authors, and of tools.
SKIPPED: Final = re.compile(r"(^requirements.*\.txt|\.(png|woff2|svg)|/fonts/.*|^LICENSE|^\.ci/check_prose\.py)$")

#: Right as they are: an element of HTML, an nginx location, a tag of the API, a Unix account, a kind of JPEG file,
#: a word in the answers of vendors, and one of prompts.
ALLOWED: Final = re.compile(
    r"</?picture>|/pictures/|PICTURES|\"Pictures\"|api\.pictures|^## Pictures$|[Mm]ulti-picture|picture frame"
    r"|image\|picture\||account nobody|[`\"]nobody[`\"]|\"grey\""
)

#: Pattern → what to write instead.
PHRASES: Final = {
    r"\b(some|no|any)body('s)?\b": "name the user, client, worker or process",
    r"\beverybody\b": "name the users or clients",
    r"\bwhoever\b": "name the user, client, worker or process",
    r"\banew\b": "again",
    r"\blately\b": "recently",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bledgers?\b": "queue row, GenerationQueue",
    r"\bpictures?\b": "image",
    r"\bleft alone\b|\bleaves? (\w+ ){1,4}alone\b": "not called, skipped",
    r"\bgiv(e|es|en|ing) back\b|\bgave back\b|\bgives? it back\b": "release",
    r"\bis no (page|thing|longer there)\b": "say what it is",
    r"\bpatiently\b": "with retries",
    r"\bvoid claims?\b": "stale claim",
    r"\bwhere it has none\b": "without",
    r"\bwhat is no\b": "name the thing",
    r"\bcomes? to nothing\b|\bcame to nothing\b": "fails, gives no result",
    r"\bthe one that\b": "name the thing",
    r"\b(colour|behaviour|favourite|honour|centre|prioritis(?!e_generationrequest))\w*\b": "American spelling",
    r"\b(normalis|optimis|serialis|initialis|rasteris)\w*\b": "American spelling",
    r"\b(labelled|grey)\b": "American spelling",
}


def findings(name: str, text: str) -> list[str]:
    """Return the findings in a file, each as ``path:line: message``."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        checked = ALLOWED.sub("", line)
        for pattern, instead in PHRASES.items():
            if match := re.search(pattern, checked, re.IGNORECASE):
                found.append(f'{name}:{number}: "{match[0]}": {instead}')
        test = re.match(r"\s*(?:async )?def (test_\w+)", line)
        if test and name.startswith("tests/") and len(test[1]) > LONGEST_TEST_NAME:
            found.append(f"{name}:{number}: test name of {len(test[1])} characters, at most {LONGEST_TEST_NAME}")
    return found


def main() -> int:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    names = [name for name in listed.stdout.splitlines() if not SKIPPED.search(name) and (ROOT / name).is_file()]
    found = [finding for name in names for finding in findings(name, (ROOT / name).read_text(encoding="utf-8"))]
    print(*found, sep="\n", end="\n" if found else "")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
