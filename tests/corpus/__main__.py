"""Write the sound images to a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.corpus.sound import SOUND


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in SOUND.items():
        kind, _, rest = name.partition(": ")
        (folder / f"{kind}-{rest.replace(' ', '-').replace(',', '')}.{kind.lower()}").write_bytes(make().data)


if __name__ == "__main__":
    main()
