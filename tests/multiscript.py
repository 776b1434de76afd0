"""Texts of many scripts, as tokenizers trip over them."""

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


def strings(count: int, seed: int) -> Iterator[str]:
    """Yield texts of many scripts, with white space of every kind, emoji, and any character at all."""
    generator = random.Random(seed)
    for _ in range(count):
        parts = []
        for _ in range(generator.randint(1, 12)):
            if generator.random() < 0.15:
                code = generator.choice([generator.randrange(0x20, 0x250), generator.randrange(0x250, 0xD800)])
                parts.append(chr(generator.choice([code, generator.randrange(0xE000, 0x110000)])))
            else:
                parts.append(generator.choice(_PARTS))
            if generator.random() < 0.5:
                parts.append(" ")
        yield "".join(parts)
