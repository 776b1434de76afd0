"""LoRA adapters of three shops for one tiny base model, as PEFT folders, as GGUF files, and merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ecellm_lite.convert.adapter_file import write_adapter_file
from ecellm_lite.convert.conversion import prepare_conversion
from ecellm_lite.convert.request import ConversionRequest
from tests.support.small_checkpoints import factors, write_adapter
from tests.support.tiny_models import write_tiny_model

WIDTH, INNER, KEYS, LAYERS = 32, 64, 16, 2
SHOPS = ("shop-a", "shop-b", "shop-c")
MODULES = {
    "self_attn.q_proj": (WIDTH, WIDTH), "self_attn.k_proj": (KEYS, WIDTH), "self_attn.v_proj": (KEYS, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH), "mlp.gate_proj": (INNER, WIDTH), "mlp.up_proj": (INNER, WIDTH),
    "mlp.down_proj": (WIDTH, INNER),
}  # fmt: skip


def write_base(path: Path, **options: Any) -> Path:
    """Write the base model of the three shops: a tiny model in F32, whose context is long enough for whole prompts."""
    return write_tiny_model(path, layers=LAYERS, context=4096, **options)


def shop_weights(seed: int, *, rank: int = 4) -> dict[str, NDArray[Any]]:
    """Return an adapter's random tensors by their names: the factors A and B for each matrix in the base's layers."""
    weights: dict[str, NDArray[Any]] = {}
    for layer in range(LAYERS):
        for name, (rows, columns) in MODULES.items():
            weights |= factors(f"model.layers.{layer}.{name}", rows, columns, rank=rank, seed=100 * seed + layer)
    return weights


def write_shop(folder: Path, seed: int, *, rank: int = 4, **config: Any) -> Path:
    """Write a shop's adapter in PEFT's format. It is so strong that the answers differ from those of the base alone."""
    return write_adapter(folder, shop_weights(seed, rank=rank), **{"r": rank, "lora_alpha": 48, **config})


def write_shops(folder: Path, base: Path, file_type: str = "F32") -> dict[str, Path]:
    """Write the adapters of three shops, in PEFT's format and as GGUF files. Return each shop's GGUF file."""
    files = {}
    for seed, name in enumerate(SHOPS, start=1):
        files[name] = folder / f"{name}.gguf"
        write_adapter_file(str(base), write_shop(folder / name, seed), files[name], file_type=file_type)
    return files


def merged(base: Path, adapter: Path, target: Path, *, weight: float = 1.0, file_type: str = "F32") -> Path:
    """Merge an adapter into the base model, and return the file of the merged model."""
    request = ConversionRequest(str(base), target, file_type, ((adapter, weight),), envelope="alpaca")
    with prepare_conversion(request) as conversion:
        conversion.run()
    return target
