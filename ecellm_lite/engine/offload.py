"""Plans which of a model's layers go to which GPU, before llama.cpp allocates anything. It reads only the GGUF header.

Layers are divided as in llama.cpp (`load_tensors` of src/llama-model.cpp, split mode "layer"). The output counts as
the last layer, so a model of L layers has L + 1 places. With n_gpu_layers = N, the last N places go to the devices. The
first device gets the first of these places. A layer's KV memory is on the layer's device. Nothing here imports
llama_cpp. All sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecellm_lite.engine.memory import compute_bytes, kv_bytes_by_layer, largest_weight, padded, weights_by_place
from ecellm_lite.errors import UsageError
from ecellm_lite.models.gguf_header import Header

if TYPE_CHECKING:
    from ecellm_lite.devices import Device

# `auto` leaves this free on each device, as llama.cpp's own fitting does (fit_params_target of common/common.h): for
# a back end's scratch memory, for what compute_bytes misses, and for other programs on the device.
MARGIN = 1 << 30

# Several devices are filled to the same share of their room, a multiple of 1 / _SHARES.
_SHARES = 64


@dataclass(frozen=True, slots=True)
class Load:
    """The part of a model that goes to a GPU with `free` bytes of memory.

    `layers`: the number of layers. The output counts as a layer.
    `weights`, `kv`, `compute`: the bytes that these layers need on the GPU.
    """

    device: str
    free: int
    layers: int = 0
    weights: int = 0
    kv: int = 0
    compute: int = 0

    @property
    def size(self) -> int:
        """The bytes that the layers on this GPU take, for weights, KV memory and compute buffers."""
        return self.weights + self.kv + self.compute


@dataclass(frozen=True, slots=True)
class Placement:
    """How many layers go to each GPU.

    `loads`: each GPU with its number of layers, in llama.cpp's order of the GPUs.
    `description`: the placement in words.
    """

    loads: tuple[Load, ...]
    description: str

    @property
    def n_gpu_layers(self) -> int:
        """The value of llama.cpp's parameter n_gpu_layers."""
        return sum(load.layers for load in self.loads)

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of the devices that take layers. llama.cpp may use only these devices."""
        return tuple(load.device for load in self.loads if load.layers)

    @property
    def tensor_split(self) -> tuple[float, ...]:
        """The value of llama.cpp's parameter tensor_split: the exact number of layers for each of `devices`."""
        return tuple(float(load.layers) for load in self.loads if load.layers)


def on_cpu(gpu_layers: str | int) -> Placement:
    """Return a placement of all layers on the CPU. Raises UsageError if `gpu_layers` asks for a GPU."""
    if gpu_layers not in ("auto", 0):
        raise UsageError(
            f"gpu_layers is {gpu_layers}, but llama.cpp has no GPU device here",
            step="install a GPU build of llama-cpp-python (see docs/gpu.md), or run on the CPU with auto",
            settings=("gpu_layers",),
        )
    return Placement((), "all layers on the CPU: llama.cpp has no GPU device here")


def place(
    header: Header,
    gpus: Sequence[Device],
    gpu_layers: str | int,
    *,
    cells: int,
    kv_type: str,
    micro_batch: int,
    flash_attention: bool,
) -> Placement:
    """Return which layers go to which devices. `gpus` are the devices that llama.cpp would use.

    `gpu_layers` is `auto`, `all` or a number. With `auto`, as many layers go to the GPUs as fit with MARGIN bytes to
    spare. A number larger than the number of layers means `all`. The device with the most free memory gets all layers
    that go to GPUs if it has room for them. Otherwise these layers are divided among the devices. Raises UsageError if
    the layers do not fit.
    """
    plan = _Plan(header, gpus, cells, kv_type, micro_batch, flash_attention)
    fitting = next((count for count in range(plan.places, 0, -1) if plan.divided(count, MARGIN)), 0)
    if gpu_layers == "auto":
        reason = "" if fitting else f": none fits with {_shown(MARGIN)} to spare"
        return plan.placement(plan.divided(fitting, MARGIN), reason)
    layers = plan.places if gpu_layers == "all" else min(int(gpu_layers), plan.places)
    counts = plan.divided(layers, 0)
    if layers and not counts:
        free = " and ".join(f"{gpu.name} has {_shown(gpu.free)} free" for gpu in gpus)
        raise UsageError(
            f"gpu_layers is {gpu_layers}, but {layers} of the {plan.places} layers of {header.path.name} take "
            f"{_shown(plan.needed(layers))} with a context of {cells:,} tokens, and {free}",
            step=f"use auto, which puts {fitting} layers on GPUs, or use a smaller file or context",
            settings=("gpu_layers", "context"),
        )
    return plan.placement(counts)


class _Plan:
    """How many bytes each layer of a model takes, and how the layers can be divided among devices.

    The tensors of the model's output count as the last layer.
    """

    def __init__(
        self, header: Header, gpus: Sequence[Device], cells: int, kv_type: str, micro_batch: int, flash_attention: bool
    ) -> None:
        self.gpus = gpus
        self.weights = weights_by_place(header)
        self.kv = [size * padded(cells) for size in (*kv_bytes_by_layer(header, kv_type), 0)]
        self.places = len(self.weights)
        # The CPU layers' large batches are still computed on a device, which copies their weights one by one.
        self._borrowed = largest_weight(header) + max(self.kv)
        self._compute = {
            (output, pipelined): compute_bytes(
                header,
                cells=cells,
                tokens=micro_batch,
                flash_attention=flash_attention,
                output=output,
                pipelined=pipelined,
            )
            for output in (False, True)
            for pipelined in (False, True)
        }

    def divided(self, count: int, margin: int) -> tuple[int, ...] | None:
        """Return how many of the last `count` layers each device takes. None if they do not fit, or if `count` is 0.

        `margin` bytes stay free on each device.
        """
        rooms = [max(gpu.free - margin, 0) for gpu in self.gpus]
        best = rooms.index(max(rooms))
        if counts := self._filled(count, [room * (index == best) for index, room in enumerate(rooms)], False):
            return counts
        pipelined = count == self.places
        if not self._filled(count, rooms, pipelined):
            return None
        shares = ([room * share // _SHARES for room in rooms] for share in range(1, _SHARES + 1))
        return next(counts for share in shares if (counts := self._filled(count, share, pipelined)))

    def placement(self, counts: tuple[int, ...] | None, reason: str = "") -> Placement:
        """Return the placement in which each device gets as many layers as `counts` says.

        `reason` is added to the placement's description. If `counts` is None, all layers stay on the CPU.
        """
        counts = counts or (0,) * len(self.gpus)
        count = sum(counts)
        pipelined = count == self.places and sum(map(bool, counts)) > 1
        loads = []
        start = self.places - count
        for gpu, layers in zip(self.gpus, counts, strict=True):
            end = start + layers
            weights, kv = sum(self.weights[start:end]), sum(self.kv[start:end])
            compute = self._computing(count, end == self.places, pipelined) if layers else 0
            loads.append(Load(gpu.name, gpu.free, layers, weights, kv, compute))
            start = end
        return Placement(tuple(loads), _described(loads, self.places) + reason)

    def needed(self, count: int) -> int:
        """Return the bytes that the last `count` layers take on one device."""
        start = self.places - count
        return sum(self.weights[start:]) + sum(self.kv[start:]) + self._computing(count, True, False)

    def _computing(self, count: int, output: bool, pipelined: bool) -> int:
        return self._compute[output, pipelined] + (self._borrowed if count < self.places else 0)

    def _filled(self, count: int, rooms: Sequence[int], pipelined: bool) -> tuple[int, ...] | None:
        """Fill one device after another with the last `count` layers, and return how many layers each device takes.

        `rooms`: the memory for each device, in bytes.
        `pipelined`: whether all layers are on GPUs, and more than one GPU is used. The compute buffers are larger then.

        Return None if some layers do not fit, or if `count` is 0.
        """
        place = self.places - count
        counts = []
        for room in rooms:
            start = place
            size = 0
            while place < self.places:
                size += self.weights[place] + self.kv[place]
                if size + self._computing(count, place == self.places - 1, pipelined) > room:
                    break
                place += 1
            counts.append(place - start)
        return tuple(counts) if count and place == self.places else None


def _described(loads: Sequence[Load], places: int) -> str:
    used = [load for load in loads if load.layers]
    if not used:
        return f"0 of {places} layers on {', '.join(f'{load.device} ({_shown(load.free)} free)' for load in loads)}"
    each = [f"{load.device} ({_shown(load.size)} of {_shown(load.free)})" for load in used]
    where = f"on {each[0]}"
    if len(used) > 1:
        where = "on GPUs, " + ", ".join(f"{load.layers} on {name}" for load, name in zip(used, each, strict=True))
    kv = sum(load.kv for load in used)
    return f"{sum(load.layers for load in used)} of {places} layers {where}, including {_shown(kv)} of KV memory"


def _shown(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB" if size < 1 << 30 else f"{size / 2**30:.1f} GiB"
