"""A PEFT adapter: what it adds to which matrix of its base, and which tensors it brings whole.

LoRA, rsLoRA and DoRA, with patterns of ranks and alphas. What cannot be merged exactly is refused, with what it is: an
adapter that is left out in part would be a model that nobody trained. The format: PEFT's LoraConfig and
get_peft_model_state_dict (https://github.com/huggingface/peft).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from ecellm_lite.convert.checkpoint import inside, read_json, widened
from ecellm_lite.convert.safetensors_file import WEIGHTS, SafetensorsFile
from ecellm_lite.convert.source import Input
from ecellm_lite.errors import ModelError
from ecellm_lite.models.files import in_words

MAX_PATTERN_LENGTH = 256
MAX_PATTERNS = 1 << 14  # PEFT's largest adapters have one for each of some hundreds of modules
MAX_STEPS = 50_000_000  # of all patterns' matches with all modules: less than a minute

_STEPS_OF_A_MATCH = 8  # what it takes beside its places

_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

# A piece of a pattern: whatever may stand there, some of a class, or one character of a class.
_PIECE = re.compile(r"(?P<all>\.\*)|(?P<class>\\d|\[[\w-]+\])(?P<more>\+?)|(?P<any>\.)|\\?(?P<one>[.-])|(?P<word>\w)")

_PREFIX = "base_model.model."
_FACTORS = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_embedding_A": "embedding_a",
    ".lora_embedding_B": "embedding_b",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
}

_BASE_LAYER = (".base_layer.weight", ".base_layer.bias")

# Settings that change what is computed in a way that no merge here knows, with the values that are harmless.
_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "fan_in_fan_out": (False, None),
    "lora_bias": (False, None),
    "use_qalora": (False, None),
    "use_bdlora": (False, None),
    "layer_replication": (None,),
    "target_parameters": (None, [], ()),
    "trainable_token_indices": (None, [], {}),
    "alora_invocation_tokens": (None, []),
    "ensure_weight_tying": (False, None),
    "bias": ("none", None),
}

# Ways to begin that move a part of the base into the adapter: it fits no base but one that was changed as well.
_MOVED = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, slots=True)
class Factors:
    """What is added to one matrix: scale * b @ a, with `a` (rank, columns) and `b` (rows, rank), both float32.

    `magnitude`, (rows,), is DoRA's: the norm of each row of the sum.
    """

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    scale: float
    magnitude: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole tensor of an adapter, or some of its rows, left in the file, where it can be as large as the embedding.

    `file` is closed, and opened for each reading.
    """

    file: SafetensorsFile
    name: str
    dtype: str
    first: int
    shape: tuple[int, ...]

    def part(self, rows: slice) -> Whole:
        """Return some of its rows."""
        first, end, _ = rows.indices(self.shape[0])
        return replace(self, first=self.first + first, shape=(max(0, end - first), *self.shape[1:]))

    def blocks(self, most: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Go through its rows, widened, some `most` values at a time, each block with its first row's number."""
        with self.file.reopened() as file:
            if not self.shape:
                yield 0, widened(file.rows(self.name), self.dtype)
                return
            step = max(1, most // max(1, math.prod(self.shape[1:])))
            for first in range(0, self.shape[0], step):
                count = min(step, self.shape[0] - first)
                yield first, widened(file.rows(self.name, self.first + first, count), self.dtype)

    def values(self) -> NDArray[np.float32]:
        """Return it all."""
        found = [block for _, block in self.blocks(math.prod(self.shape))]
        return found[0] if found else np.empty(self.shape, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """An adapter: factors by module, in memory; whole tensors by name, and the base tensors that came along.

    Names are those of the base's modules and tensors, as in its checkpoint. `targets`: the ends of the names of modules
    of which each has factors, in every layer, by the adapter's settings; empty where these choose in another way.
    """

    path: Path
    factors: Mapping[str, Factors]
    saved: Mapping[str, Whole]
    base_layers: Mapping[str, Whole]
    base_model: str
    inputs: tuple[Input, ...] = ()
    targets: tuple[str, ...] = ()


def read_adapter(folder: Path) -> PeftAdapter:
    """Return the adapter in a PEFT folder, or raise ModelError with what is wrong or cannot be merged."""
    if not folder.is_dir():
        raise ModelError(f"{folder} is no folder: give that of a PEFT adapter, with its adapter_config.json.")
    config = read_json(inside(folder, "adapter_config.json"))
    _check(config, folder)
    weights = folder / "adapter_model.safetensors"
    if not weights.exists() and (folder / "adapter_model.bin").exists():
        raise ModelError(
            f"{folder} holds its weights as a pickle, which can run code when it is read: save the adapter again with "
            "peft's save_pretrained(FOLDER, safe_serialization=True)."
        )
    described = inside(folder, "adapter_config.json")
    parts: dict[str, dict[str, NDArray[np.float32]]] = {}
    saved: dict[str, Whole] = {}
    base_layers: dict[str, Whole] = {}
    with SafetensorsFile(inside(folder, "adapter_model.safetensors")) as file:
        status = described.stat()
        inputs = (
            Input(described, status.st_size, status.st_mtime_ns),
            Input(file.path, file.size, file.changed),
        )
        check_memory(folder, [one.shape for key, one in file.tensors.items() if key.endswith(tuple(_FACTORS))])
        for key, tensor in file.tensors.items():
            if not key.startswith(_PREFIX):
                raise ModelError(f"{file.path}: the key {key!r} does not begin with {_PREFIX!r}, as PEFT's do.")
            name = key.removeprefix(_PREFIX)
            suffix = next((ending for ending in _FACTORS if name.endswith(ending)), None)
            if suffix:
                module, factor = name.removesuffix(suffix), _FACTORS[suffix]
                if factor in parts.setdefault(module, {}):
                    raise ModelError(f"{file.path} has the magnitudes of {module!r} twice: save the adapter again.")
                parts[module][factor] = widened(file.rows(key), tensor.dtype)
                continue
            if "lora_" in name:
                raise ModelError(f"{file.path}: nothing here knows what to do with the key {key!r}.")
            if tensor.dtype not in WEIGHTS:
                raise ModelError(
                    f"{file.path}: {key!r} is of type {tensor.dtype}: weights come as {', '.join(WEIGHTS)}."
                )
            whole = Whole(file, key, tensor.dtype, 0, tensor.shape)
            if name.endswith(_BASE_LAYER):
                # With an embedding or an output matrix among the targets, PEFT saves what the base has there, too.
                base_layers["".join(name.rsplit(".base_layer", 1))] = whole
                continue
            name = name.replace(".modules_to_save.", ".")
            if name in saved:
                raise ModelError(
                    f"{file.path} has {name!r} twice, once of them under modules_to_save: save the adapter again."
                )
            saved[name] = whole
        file.check_unchanged()
    ranks, alphas = (_patterns(config, name, folder) for name in ("rank_pattern", "alpha_pattern"))
    steps = _Steps(folder, MAX_STEPS)
    factors = {
        module: _factors(
            module,
            part,
            config,
            folder,
            _setting(module, ranks, config.get("r"), steps),
            _setting(module, alphas, config.get("lora_alpha"), steps),
        )
        for module, part in parts.items()
    }
    if not factors and not saved:
        raise ModelError(f"{folder} holds no weights: it is an empty adapter.")
    base_model = str(config.get("base_model_name_or_path") or "")
    return PeftAdapter(folder, factors, saved, base_layers, base_model, inputs, _targets(config))


def check_memory(path: Path, shapes: Iterable[Sequence[int]]) -> None:
    """Raise ModelError if an adapter's factors, of these shapes and kept as float32, are more than is free."""
    needed, free = 4 * sum(map(math.prod, shapes)), psutil.virtual_memory().available
    if needed > free:
        raise ModelError(
            f"{path} takes {in_words(needed)} of memory, and {in_words(free)} are free: "
            "see that it is an adapter, and merge it on a larger machine."
        )


def _check(config: Mapping[str, Any], folder: Path) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ModelError(
            f"{folder} is an adapter of the type {kind!r}: only LORA (with rsLoRA and DoRA) can be merged."
        )
    for name, harmless in _REFUSED.items():
        if config.get(name) not in harmless:
            raise ModelError(f"{folder}: {name} is {config[name]!r}, which cannot be merged here: merge it with peft.")
    started = config.get("init_lora_weights", True)
    if isinstance(started, str) and started.lower().startswith(_MOVED):
        raise ModelError(
            f"{folder}: init_lora_weights is {started!r}, which moved a part of the base into the adapter: "
            "save it as plain LoRA with peft's path_initial_model_for_weight_conversion."
        )


def _targets(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of target_modules, or none where they are a pattern or other settings choose among them."""
    if any(
        config.get(name) not in (None, [], "") for name in ("layers_to_transform", "layers_pattern", "exclude_modules")
    ):
        return ()
    targets = config.get("target_modules")
    return tuple(name for name in targets if isinstance(name, str) and name) if isinstance(targets, list) else ()


def _factors(
    module: str,
    part: Mapping[str, NDArray[np.float32]],
    config: Mapping[str, Any],
    folder: Path,
    rank: Any,
    alpha: Any,
) -> Factors:
    kinds = part.keys() - {"magnitude"}
    if kinds == {"a", "b"}:
        a, b = part["a"], part["b"]
    elif kinds == {"embedding_a", "embedding_b"}:
        # An embedding's rows are tokens: what is added is the transpose of B A.
        a, b = part["embedding_b"].T, part["embedding_a"].T
    else:
        raise ModelError(
            f"{folder}: the module {module!r} has {', '.join(part)} and lacks its other factor, or has too many."
        )
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise ModelError(f"{folder}: the factors of {module!r} have the shapes {a.shape} and {b.shape}.")
    if type(rank) is not int or len(a) != rank or rank < 1:
        raise ModelError(
            f"{folder}: {module!r} has the rank {len(a)}, and its configuration says {repr(rank)[:40]}: "
            "they must be one whole number above 0."
        )
    scale = _scale(alpha, math.sqrt(rank) if config.get("use_rslora") else rank)
    if not scale:
        raise ModelError(
            f"{folder}: the alpha of {module!r} is {repr(alpha)[:40]}, with which nothing can be merged: "
            "see lora_alpha and alpha_pattern in its adapter_config.json."
        )
    magnitude = part.get("magnitude")
    if magnitude is not None and "embedding_a" in part:
        # There they are the norms of columns.
        raise ModelError(f"{folder}: {module!r} is an embedding with DoRA: merge it with peft.")
    if bool(config.get("use_dora")) != (magnitude is not None):
        lacks = "lacks its magnitudes" if magnitude is None else "has magnitudes, and its configuration says no DoRA"
        raise ModelError(f"{folder}: the module {module!r} {lacks}.")
    if magnitude is not None:
        magnitude = magnitude.reshape(-1)
        if magnitude.shape != (len(b),):
            raise ModelError(f"{folder}: {module!r} has {magnitude.size:,} magnitudes for {len(b):,} rows.")
    return Factors(np.ascontiguousarray(a), np.ascontiguousarray(b), scale, magnitude)


def _scale(alpha: object, divisor: float) -> float:
    """Return alpha / divisor, or 0 where float32 has no such number or it would change nothing."""
    if type(alpha) not in (int, float):
        return 0.0
    try:
        scale = float(alpha) / divisor  # type: ignore[arg-type]
    except OverflowError:
        return 0.0
    return scale if is_scale(scale) else 0.0


def is_scale(scale: float) -> bool:
    """Whether float32, in which factors are added, has such a number, and it is not 0."""
    return _SMALLEST <= abs(scale) <= _LARGEST


@dataclass(slots=True)
class _Steps:
    """What the matches of an adapter's patterns may still take."""

    folder: Path
    left: int

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ModelError(
                f"{self.folder}: rank_pattern and alpha_pattern take more than {MAX_STEPS:,} steps: use fewer keys, "
                "and name the modules in simpler words."
            )


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A key of rank_pattern or alpha_pattern, and what it sets.

    `ways`: for each alternative, whether it begins at the name's first letter only, and its pieces.
    """

    ways: Sequence[tuple[bool, Sequence[re.Match[str]]]]
    value: Any

    def fits(self, module: str, steps: _Steps) -> bool:
        """Whether the pattern fits the end of a module's name, from its beginning or from behind a dot, as in PEFT.

        All places that can have been reached are followed together: a match takes no more steps than the product of
        the pattern's and the name's lengths.
        """
        dots = {0} | {place + 1 for place, letter in enumerate(module) if letter == "."}
        for anchored, pieces in self.ways:
            places = {0} if anchored else dots
            steps.take(_STEPS_OF_A_MATCH)
            for piece in pieces:
                steps.take(len(places))
                places = _reached(piece, module, places)
                steps.take(len(places))
                if not places:
                    break
            if len(module) in places:
                return True
        return False


def _reached(piece: re.Match[str], module: str, places: set[int]) -> set[int]:
    if piece["all"]:
        return set(range(min(places), len(module) + 1))
    found: set[int] = set()
    # With a repeated class, a place that is reached leads on to the next ones.
    waiting = list(places)
    while waiting:
        place = waiting.pop()
        if place < len(module) and place + 1 not in found and _is_one(piece, module[place]):
            found.add(place + 1)
            if piece["more"]:
                waiting.append(place + 1)
    return found


def _is_one(piece: re.Match[str], letter: str) -> bool:
    if piece["class"]:
        return bool(re.fullmatch(piece["class"], letter))
    return bool(piece["any"]) or letter == (piece["one"] or piece["word"])


def _patterns(config: Mapping[str, Any], name: str, folder: Path) -> list[_Pattern]:
    said = config.get(name) or {}
    if not isinstance(said, dict):
        raise ModelError(f"{folder}: {name} is {str(said)[:80]}, which names no modules: see PEFT's LoraConfig.")
    if len(said) > MAX_PATTERNS:
        raise ModelError(f"{folder}: {name} has {len(said):,} keys, and {MAX_PATTERNS:,} is the most: use fewer.")
    return [_Pattern([_pieces(way, key, name, folder) for way in key.split("|")], said[key]) for key in said]


def _pieces(way: str, key: str, name: str, folder: Path) -> tuple[bool, list[re.Match[str]]]:
    """Return whether an alternative of a key begins at the name's first letter only, and its pieces.

    What a pattern can say is kept to what PEFT's users write: names, digits, classes, and one `.*`.
    """
    anchored, text = way.startswith("^"), way.removeprefix("^").removesuffix("$")
    pieces: list[re.Match[str]] = []
    place = 0
    while place < len(text):
        piece = _PIECE.match(text, place)
        if not piece or len(key) > MAX_PATTERN_LENGTH or key.count(".*") > 1 or not _is_class(piece["class"]):
            raise ModelError(
                f"{folder}: the {name} of the adapter has the key {key[:80]!r}: name the modules in simpler words, "
                "with letters, dots, \\d+, | and at most one .* in them."
            )
        pieces.append(piece)
        place = piece.end()
    return anchored, pieces


def _is_class(text: str | None) -> bool:
    try:
        return text is None or bool(re.compile(text))
    except re.error:
        return False


def _setting(module: str, patterns: Sequence[_Pattern], default: Any, steps: _Steps) -> Any:
    """Return a module's rank or alpha: that of the first pattern that its name ends with, as PEFT matches them."""
    return next((pattern.value for pattern in patterns if pattern.fits(module, steps)), default)
