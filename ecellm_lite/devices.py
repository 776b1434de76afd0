"""Lists the devices that llama.cpp can compute on, and chooses the devices to offload layers to."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ecellm_lite.ggml import c_text, start_library, symbol

# enum ggml_backend_dev_type of ggml-backend.h, in its order.
KINDS = ("cpu", "gpu", "integrated gpu", "accelerator", "meta")

# The device of this package's own prompt kernels, once they are loaded. It is not a device of llama.cpp's build.
PROMPT_KERNELS = "ecellm"


@dataclass(frozen=True, slots=True)
class Device:
    """A device that this build of llama.cpp can compute on.

    `kind`: one of KINDS.
    `free`, `total`: the device's memory in bytes, or 0 if unknown.
    `backend`: ggml's name for the device's driver (CPU, CUDA, MTL, Vulkan).
    `id`: the card's id, or empty if unknown. Two devices with the same id are one card with two drivers.
    """

    name: str
    description: str
    kind: str
    free: int
    total: int
    backend: str = ""
    id: str = ""


class _Properties(ctypes.Structure):
    """struct ggml_backend_dev_props of ggml-backend.h, with extra space for fields of later versions."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("more", ctypes.c_char * 64),
    )


def devices() -> list[Device]:
    """Return the devices that llama.cpp's build supports: the CPU, and the GPUs for which it has a back end."""
    start_library()
    count = symbol("ggml_backend_dev_count", ctypes.c_size_t)()
    get = symbol("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    name = symbol("ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)
    description = symbol("ggml_backend_dev_description", ctypes.c_char_p, ctypes.c_void_p)
    kind = symbol("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    registry = symbol("ggml_backend_dev_backend_reg", ctypes.c_void_p, ctypes.c_void_p)
    registry_name = symbol("ggml_backend_reg_name", ctypes.c_char_p, ctypes.c_void_p)
    size = ctypes.POINTER(ctypes.c_size_t)
    memory = symbol("ggml_backend_dev_memory", None, ctypes.c_void_p, size, size)
    properties_of = symbol("ggml_backend_dev_get_props", None, ctypes.c_void_p, ctypes.POINTER(_Properties))
    entries = []
    for index in range(count):
        device = get(index)
        if c_text(name(device)) == PROMPT_KERNELS:
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        memory(device, ctypes.byref(free), ctypes.byref(total))
        properties = _Properties()
        properties_of(device, ctypes.byref(properties))
        entries.append(
            Device(
                name=c_text(name(device)),
                description=c_text(description(device)).strip(),
                kind=KINDS[kind(device)],
                free=free.value,
                total=total.value,
                backend=c_text(registry_name(registry(device))),
                # A correct type shows that the library's struct is laid out as above.
                id=c_text(properties.device_id) if properties.type == kind(device) else "",
            )
        )
    return entries


def gpus(candidates: Sequence[Device]) -> list[Device]:
    """Return the devices among `candidates` that llama.cpp itself would offload layers to.

    If two devices are the same card, only the first is returned. Integrated GPUs are returned only if there is no other
    GPU, and only those with the same ggml back end as the first one. A device that does not report its memory gets the
    memory sizes of the host.

    Sources: llama.cpp's functions llama_prepare_model_devices (src/llama.cpp) and load_tensors (src/llama-model.cpp).
    """
    cards: dict[str, Device] = {}
    for device in candidates:
        if device.kind == "gpu":
            cards.setdefault(device.id or device.name, device)
    integrated = [device for device in candidates if device.kind == "integrated gpu"]
    integrated = [device for device in integrated if device.backend == integrated[0].backend]
    host = next((device for device in candidates if device.kind == "cpu"), None)
    usable = [*cards.values()] or integrated
    return [
        replace(device, free=host.free, total=host.total) if host and not device.total else device
        for device in usable[: symbol("llama_max_devices", ctypes.c_size_t)()]
    ]


def device_list(names: Sequence[str]) -> Any:
    """Return the devices with these names as a null-terminated array of pointers, as llama.cpp expects them."""
    by_name = symbol("ggml_backend_dev_by_name", ctypes.c_void_p, ctypes.c_char_p)
    return (ctypes.c_void_p * (len(names) + 1))(*[by_name(name.encode()) for name in names])
