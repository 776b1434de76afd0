"""Texts that are hard for tokenizers, because they use many scripts."""

from __future__ import annotations

import random
from collections.abc import Iterator

_WORDS = """
the Product réduction naïve Größe ẞ ñandú коврик Ελλάδα שלום مرحبا नमस्ते ไทย កាន់ 产品 日本語のテキスト 한국어
👍 👩\u200d👧 🇩🇪 ✅ ﷺ ½ №5 3.14 1,000 2024-05-06 's 'RE don't $9.99 100% (a) [INST] ### -- … “x” a_b C++ x=y
<0x0A> \\n {[1]} http://a.b/c?d=e ▁ Ġ
"""
_SPACES = ["  ", "   ", "     ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u200b", "\u3000", "\ufeff", "e\u0301", "\x7f"]
_PARTS = [*_WORDS.split(), *_SPACES]


# The 4,382 letters and digits that Unicode 16 has added, and what lies between: tokenizers knows them, and llama.cpp's
# tables, which are older, do not, so that a byte-level vocabulary cuts the words around them elsewhere.
_NEW_LETTERS = (
    (0x1C89, 0x1C8A), (0xA7CB, 0xA7DC), (0x105C0, 0x105F3), (0x10D40, 0x10D85), (0x10EC2, 0x10EC4), (0x11380, 0x113D3),
    (0x116D0, 0x116E3), (0x11BC0, 0x11BF9), (0x13460, 0x143FA), (0x16100, 0x16139), (0x16D40, 0x16D79),
    (0x18CFF, 0x18CFF), (0x1CCF0, 0x1CCF9), (0x1E5D0, 0x1E5FA),
)  # fmt: skip


def strings(count: int, seed: int) -> Iterator[str]:
    """Yield random texts in many scripts, with all kinds of white space, emoji and random characters."""
    generator = random.Random(seed)
    for _ in range(count):
        parts = []
        for _ in range(generator.randint(1, 12)):
            if generator.random() < 0.15:
                parts.append(_any_character(generator))
            else:
                parts.append(generator.choice(_PARTS))
            if generator.random() < 0.5:
                parts.append(" ")
        yield "".join(parts)


def _any_character(generator: random.Random) -> str:
    while True:
        low = generator.choice([generator.randrange(0x20, 0x250), generator.randrange(0x250, 0xD800)])
        code = generator.choice([low, generator.randrange(0xE000, 0x110000)])
        if not any(first <= code <= last for first, last in _NEW_LETTERS):
            return chr(code)
