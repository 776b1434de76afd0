"""Compares a converted file with its original: the tokens of texts, and the logits of prompts.

No model runs here: the caller passes the tokenizers and the logits. original.py computes the original's logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecellm_lite.convert.original import Tokenize

# Scripts, white space, symbols, numbers, emoji and code: as in shops' texts, and where tokenizers go wrong.
TEXTS = (
    "A plain English sentence, with a comma; a semicolon: and a full stop.",
    "  leading, trailing and   inner   spaces  ",
    "lines\nand\n\n\nmore lines\r\nand\ttabs\t\tof\t\t\tall kinds\n",
    'Prices: $1,299.00, 49,99 €, £5, ¥1200; sizes 10x15cm, 5\'11", 3/4", 100%; SKU: ABC-123_x.9 #42',
    "it's, IT'S, don't, we'll, I'd, they've, you're, o'clock, rock 'n' roll",
    "Größe, Übergröße, façade, naïve, señor, Łódź, İstanbul, smørrebrød",
    "Качество хорошее, но доставка была долгой.",
    "この商品はとても良いです。サイズ：Ｌ、色：黒。",
    "这个产品质量很好，价格也合理！",
    "제품이 마음에 들어요. 배송도 빨라요.",
    "المنتج جيد جدا والسعر مناسب",
    "यह उत्पाद बहुत अच्छा है।",
    "ผลิตภัณฑ์นี้ดีมาก",
    "😀 👍🏽 👩‍👩‍👧‍👦 🇩🇪 ✔️ ™ © ° ½ … – — “quotes” ‘more’",
    "def f(x):\n    return {'a': [1, 2.5e-3], \"b\": None}  # code",
    "<p>HTML &amp; entities</p> http://example.com/a?b=c&d=%20e",
    "ЦЕНАтовара нашаЦена éÀ ÀÉ",
    "ALLCAPS lowercase MixedCase camelCase snake_case kebab-case",
    "1 12 123 1234 12345 123456 1234567890",
    "zero\u200bwidth, non\u00a0breaking, soft\u00adhyphen, combining e\u0301, \u0085 next line",
    "",
)

# By file type: the largest allowed mean KL divergence from the original, in nats, and the smallest allowed share of
# positions with the same likeliest token. A file outside these limits is worse than its type explains.
LIMITS = {
    "F32": (1e-5, 0.99), "F16": (2e-3, 0.98), "BF16": (5e-3, 0.97), "Q8_0": (0.01, 0.96), "Q6_K": (0.03, 0.93),
    "Q5_K_M": (0.06, 0.90), "Q5_K_S": (0.07, 0.90), "Q5_1": (0.08, 0.89), "Q5_0": (0.08, 0.89),
    "Q4_K_M": (0.15, 0.85), "Q4_K_S": (0.18, 0.84), "Q4_1": (0.25, 0.82), "Q4_0": (0.25, 0.82),
    "Q3_K_L": (0.40, 0.77), "Q3_K_M": (0.45, 0.75), "Q3_K_S": (0.60, 0.70), "Q2_K": (1.00, 0.60),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check. `passed` is None if the check could not be made."""

    name: str
    passed: bool | None
    detail: str


def check_tokens(tokenize: Tokenize, original: Tokenize, texts: Sequence[str]) -> CheckResult:
    """Check that the GGUF file's tokenizer produces exactly the same ids as the original tokenizer."""
    for text in texts:
        tokens, expected = tokenize(text), original(text)
        if tokens == expected:
            continue
        pairs = enumerate(zip(tokens, expected, strict=False))
        place = next((i for i, (token, other) in pairs if token != other), min(len(tokens), len(expected)))
        detail = (
            f"{text[:60]!r} becomes {tokens[place : place + 4]} from token {place} on, "
            f"and {expected[place : place + 4]} with the original's tokenizer"
        )
        return CheckResult("tokens", False, detail)
    return CheckResult("tokens", True, f"the same ids for {len(texts)} texts")


def check_logits(pairs: Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]], file_type: str) -> CheckResult:
    """Check that the GGUF file's logits are close to the original's.

    For each prompt, `pairs` has the file's logits and the original's, of shape (tokens, vocabulary). Two figures are
    compared with the file type's LIMITS: the mean KL divergence, and the fraction of positions with the same most
    likely token.
    """
    divergences: list[NDArray[np.float64]] = []
    same: list[NDArray[np.bool_]] = []
    for logits, original in pairs:
        ids = min(logits.shape[1], original.shape[1])  # some checkpoints pad their vocabulary
        ours, theirs = log_softmax(logits[:, :ids]), log_softmax(original[:, :ids])
        divergences.append((np.exp(theirs) * (theirs - ours)).sum(axis=1))
        same.append(ours.argmax(axis=1) == theirs.argmax(axis=1))
    mean, share = float(np.concatenate(divergences).mean()), float(np.concatenate(same).mean())
    most, least = LIMITS[file_type]
    positions = sum(map(len, same))
    detail = (
        f"mean KL {mean:.2g} (at most {most:g} for {file_type}), likeliest token equal at {share:.1%} of {positions} "
        f"positions (at least {least:.0%})"
    )
    return CheckResult("logits", bool(mean <= most and share >= least), detail)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the log-softmax of each row of logits."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=1, keepdims=True)))
