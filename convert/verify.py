"""A converted file held against what it was made of: its tokens, and what it makes of prompts.

The original is asked through `tokenizers` or `sentencepiece`, and through transformers (and peft, for adapters) where
torch is installed. How the file is asked is the caller's affair: functions are given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from ecellm_lite.convert.checkpoint import inside, read_json
from ecellm_lite.errors import ModelError

Tokenize = Callable[[str], list[int]]

# Scripts, white space, signs, numbers, emoji and code, as shops' texts have them and as tokenizers trip over them.
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
    "ALLCAPS lowercase MixedCase camelCase snake_case kebab-case",
    "1 12 123 1234 12345 123456 1234567890",
    "zero\u200bwidth, non\u00a0breaking, soft\u00adhyphen, combining e\u0301, \u0085 next line",
    "",
)

# By the file's type: the largest mean KL divergence from the original, in nats, and the least share of places whose
# likeliest token is the original's. A file beyond them is not what its type can be.
LIMITS = {
    "F32": (1e-5, 0.99), "F16": (2e-3, 0.98), "BF16": (5e-3, 0.97), "Q8_0": (0.01, 0.96), "Q6_K": (0.03, 0.93),
    "Q5_K_M": (0.06, 0.90), "Q5_K_S": (0.07, 0.90), "Q5_1": (0.08, 0.89), "Q5_0": (0.08, 0.89),
    "Q4_K_M": (0.15, 0.85), "Q4_K_S": (0.18, 0.84), "Q4_1": (0.25, 0.82), "Q4_0": (0.25, 0.82),
    "Q3_K_L": (0.40, 0.77), "Q3_K_M": (0.45, 0.75), "Q3_K_S": (0.60, 0.70), "Q2_K": (1.00, 0.60),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `passed` is None where it could not be."""

    name: str
    passed: bool | None
    said: str


def check_tokens(ours: Tokenize, original: Tokenize, texts: Sequence[str]) -> Finding:
    """Return whether the file's tokens are the original's, id for id."""
    for text in texts:
        found, wanted = ours(text), original(text)
        if found != wanted:
            place = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), len(found))
            return Finding(
                "tokens",
                False,
                f"{text[:60]!r} becomes {found[place : place + 4]} from token {place} on, "
                f"and the original's tokenizer makes {wanted[place : place + 4]}",
            )
    return Finding("tokens", True, f"the same ids for {len(texts)} texts")


def check_logits(pairs: Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]], file_type: str) -> Finding:
    """Return whether the file predicts as the original does: pairs of its logits and the original's, (tokens, ids).

    Mean KL divergence and the share of equal likeliest tokens, over all places, held against LIMITS.
    """
    divergences: list[NDArray[np.float64]] = []
    same: list[NDArray[np.bool_]] = []
    for ours, original in pairs:
        ids = min(ours.shape[1], original.shape[1])  # some checkpoints pad their vocabulary
        mine, theirs = log_softmax(ours[:, :ids]), log_softmax(original[:, :ids])
        divergences.append((np.exp(theirs) * (theirs - mine)).sum(axis=1))
        same.append(mine.argmax(axis=1) == theirs.argmax(axis=1))
    mean, share = float(np.concatenate(divergences).mean()), float(np.concatenate(same).mean())
    most, least = LIMITS[file_type]
    places = sum(map(len, same))
    near = f"mean KL {mean:.2g} (at most {most:g} for {file_type})"
    said = f"{near}, likeliest token equal at {share:.1%} of {places} places (at least {least:.0%})"
    return Finding("logits", bool(mean <= most and share >= least), said)


def original_tokenizer(folder: Path) -> Tokenize | None:
    """Return the tokenizer of a checkpoint's folder, None where the package for it is not installed."""
    if (folder / "tokenizer.json").is_file() and find_spec("tokenizers"):
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - the package raises Exception itself, and its panics are none
            raise ModelError(f"{folder / 'tokenizer.json'} is no tokenizer ({error}): get it again.") from None
        return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file() and find_spec("tokenizers"):
        return _from_lists(folder)
    if (folder / "tokenizer.model").is_file() and find_spec("sentencepiece"):
        from sentencepiece import SentencePieceProcessor

        try:
            processor = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        except (OSError, RuntimeError) as error:
            raise ModelError(f"{folder / 'tokenizer.model'} is no tokenizer ({error}): get it again.") from None
        return lambda text: list(processor.encode(text))
    return None


def _from_lists(folder: Path) -> Tokenize:
    """Return the tokenizer of GPT-2's files, a vocabulary and its merges, with the tokens that were added to it."""
    from tokenizers import AddedToken
    from tokenizers.implementations import ByteLevelBPETokenizer

    try:
        tokenizer = ByteLevelBPETokenizer(
            str(folder / "vocab.json"), str(folder / "merges.txt"), add_prefix_space=False, trim_offsets=False
        )
        if (folder / "added_tokens.json").is_file():
            added = read_json(inside(folder, "added_tokens.json"))
            texts = sorted(added, key=lambda text: int(added[text]))
            tokenizer.add_tokens([AddedToken(text, normalized=False) for text in texts])
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - as above
        raise ModelError(f"{folder / 'vocab.json'} is no vocabulary ({error}): get it again.") from None
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


def original_logits(
    folder: Path, adapters: Sequence[tuple[Path, float]], prompts: Sequence[Sequence[int]]
) -> Iterator[NDArray[np.float32]]:
    """Yield what the original makes of each prompt's tokens, (tokens, ids), in float32, with its adapters unmerged.

    Raises ModelError where torch, transformers or, for adapters, peft is not installed, or the memory is too small.
    """
    missing = [name for name in ("torch", "transformers", *(["peft"] if adapters else [])) if not find_spec(name)]
    if missing:
        raise ModelError(f"The original cannot be asked without {', '.join(missing)}: pip install {' '.join(missing)}.")
    needed = 2 * sum(path.stat().st_size for path in folder.glob("*.safetensors"))  # 16 bits become 32
    if needed > psutil.virtual_memory().available:
        raise ModelError(f"The original takes {needed / 1e9:.0f} GB of memory, more than is free: verify it elsewhere.")
    other = next((path for path, _ in adapters if not (path / "adapter_model.safetensors").is_file()), None)
    if other:
        raise ModelError(f"peft cannot be asked about {other}: it takes a folder with adapter_model.safetensors.")
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, torch_dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        if adapters:
            model = _with_adapters(model, adapters)
        model.eval()
    except Exception as error:  # noqa: BLE001 - whatever transformers and peft raise: they cannot be asked
        raise ModelError(f"The original could not be asked ({' '.join(str(error).split())[:200]}).") from None
    with torch.inference_mode():
        for prompt in prompts:
            yield model(torch.tensor([list(prompt)])).logits[0].float().numpy()


def _with_adapters(model: object, adapters: Sequence[tuple[Path, float]]) -> object:
    from peft import PeftModel

    names = [f"adapter_{place}" for place in range(len(adapters))]
    found = PeftModel.from_pretrained(model, adapters[0][0], adapter_name=names[0])
    for name, (path, _) in zip(names[1:], adapters[1:], strict=True):
        found.load_adapter(path, adapter_name=name)
    if len(adapters) > 1 or adapters[0][1] != 1:
        for name, (_, weight) in zip(names, adapters, strict=True):
            for module in found.modules():
                # An attention module has a scaling, too, which is a number.
                scaling = getattr(module, "scaling", None)
                if isinstance(scaling, dict) and name in scaling:
                    scaling[name] *= weight
        found.base_model.set_adapter(names)
    return found


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the logarithms of the probabilities, row by row."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=1, keepdims=True)))
