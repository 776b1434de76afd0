"""Computes the tokens and logits of an original checkpoint. The converted file is compared with them.

The tokens come from the packages tokenizers or sentencepiece, and the logits from transformers and, for adapters, peft.
All these packages are optional.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from ecellm_lite.convert.reading import damaged, inside, read_json
from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import size_text

Tokenize = Callable[[str], list[int]]


def original_tokenizer(folder: Path) -> Tokenize | None:
    """Return the tokenizer in a checkpoint's folder, or None if the tokenizer or its package is missing."""
    if (folder / "tokenizer.json").is_file() and find_spec("tokenizers"):
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - the package's panics are not derived from Exception
            raise damaged(folder / "tokenizer.json", f"is not a usable tokenizer ({error})") from None
        return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file() and find_spec("tokenizers"):
        return _from_lists(folder)
    if (folder / "tokenizer.model").is_file() and find_spec("sentencepiece"):
        from sentencepiece import SentencePieceProcessor

        try:
            processor = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        except (OSError, RuntimeError) as error:
            raise damaged(folder / "tokenizer.model", f"is not a usable tokenizer ({error})") from None
        return lambda text: list(processor.encode(text))
    return None


def original_logits(
    folder: Path, adapters: Sequence[tuple[Path, float]], prompts: Sequence[Sequence[int]]
) -> Iterator[NDArray[np.float32]]:
    """Yield the original model's logits for each prompt, in float32, of shape (tokens, vocabulary).

    `adapters` has the path and the weight of each adapter. peft applies the adapters without merging them.

    Raises ModelError if torch, transformers or (for adapters) peft is not installed, or if the memory is too small.
    """
    missing = [name for name in ("torch", "transformers", *(["peft"] if adapters else [])) if not find_spec(name)]
    if missing:
        raise ModelError(f"The original needs {', '.join(missing)} to run", step=f"pip install {' '.join(missing)}")
    weights = list(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError(f"The original's weights are not in {folder}", step="keep them when you pull the model")
    needed = 2 * sum(path.stat().st_size for path in weights)  # from 16 to 32 bits
    if needed > psutil.virtual_memory().available:
        raise ModelError(
            f"The original needs {size_text(needed)} of memory, more than is free", step="verify it on a larger machine"
        )
    other = next((path for path, _ in adapters if not (path / "adapter_model.safetensors").is_file()), None)
    if other:
        raise ModelError(
            f"peft cannot load {other}", step="give a folder with adapter_model.safetensors", file=str(other)
        )
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            torch_dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="eager",  # the others leave out Gemma 2's soft cap
        )
        if adapters:
            model = _with_adapters(model, adapters)
        model.eval()
    except Exception as error:  # noqa: BLE001 - transformers and peft raise all kinds of errors here
        raise ModelError(
            f"The original cannot be loaded ({' '.join(str(error).split())[:200]})", step="check its folder"
        ) from None
    with torch.inference_mode():
        for prompt in prompts:
            yield model(torch.tensor([list(prompt)])).logits[0].float().numpy()


def _from_lists(folder: Path) -> Tokenize:
    """Return a tokenizer from GPT-2's files: a vocabulary, its merges, and added tokens."""
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
        raise damaged(folder / "vocab.json", f"is not a usable vocabulary ({error})") from None
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids)


def _with_adapters(model: object, adapters: Sequence[tuple[Path, float]]) -> object:
    from peft import PeftModel

    names = [f"adapter_{place}" for place in range(len(adapters))]
    adapted = PeftModel.from_pretrained(model, adapters[0][0], adapter_name=names[0])
    for name, (path, _) in zip(names[1:], adapters[1:], strict=True):
        adapted.load_adapter(path, adapter_name=name)
    if len(adapters) > 1 or adapters[0][1] != 1:
        for name, (_, weight) in zip(names, adapters, strict=True):
            for module in adapted.modules():
                # An attention module has a `scaling` too, but as a number.
                scaling = getattr(module, "scaling", None)
                if isinstance(scaling, dict) and name in scaling:
                    scaling[name] *= weight
        adapted.base_model.set_adapter(names)
    return adapted
