import pytest

from workers.prompts import size_for


@pytest.mark.parametrize(
    ("ratio", "size"),
    [
        ("square", (1024, 1024)),
        ("portrait", (1024, 1536)),
        ("landscape", (1536, 1024)),
        ("1:1", (1024, 1024)),
        ("3:4", (1024, 1360)),
        ("16:9", (1824, 1024)),
        ("4:1", (4096, 1024)),
        ("100:399", (1024, 4080)),
    ],
)
def test_the_short_side_is_1024_and_both_divide_by_16(ratio: str, size: tuple[int, int]) -> None:
    assert size_for(ratio) == size
