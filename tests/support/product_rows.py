"""Makes rows that compare products and share prefixes, and lets a fake engine compute the tokens of the prefixes."""

from __future__ import annotations

from ecellm_lite.engine.fake import FakeBackend
from ecellm_lite.engine.prefixes import Prefixes

INSTRUCTION = list(b"an instruction that every row shares, and some more of it. ")


def product_rows(products: int, candidates: int) -> list[list[int]]:
    """Return the tokens of rows, each of which compares a product with a candidate.

    The products alternate, so neighboring rows have only their instruction in common.
    """
    texts = [b"product %d is a thing with a long description, %d pages of it, " % (n, n * 7) for n in range(products)]
    return [
        [*INSTRUCTION, *texts[number % products], *b"candidate %d" % (number // products)]
        for number in range(products * candidates)
    ]


def fill(prefixes: Prefixes, backend: FakeBackend) -> None:
    while nodes := list(prefixes.unfilled()):
        backend.decode([prefixes.chunk(nodes[0], backend.batch)])
