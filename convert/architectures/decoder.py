"""The common parts of Llama, Qwen, SmolLM3, OLMo 2 and Granite: a decoder's shapes, tensors and metadata.

Each layer has an attention block and a feed-forward network with a gate. In the attention block, queries and keys are
rotated (rotary position embedding). Several query heads may share a key head and a value head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ecellm_lite.convert.architectures.hyperparameters import Hyperparameters, unsupported
from ecellm_lite.convert.architectures.recipes import Recipes, general_metadata
from ecellm_lite.convert.architectures.rotation import rotation_order
from ecellm_lite.convert.blueprint import Blueprint, MetadataValue, TensorRecipe
from ecellm_lite.convert.checkpoint import Checkpoint
from ecellm_lite.convert.mixture import ModelShape
from ecellm_lite.errors import ModelError

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
MAX_HEADS, MAX_HEAD_SIZE = 1024, 1024  # at most a million rows, whose order is kept in memory

EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_COMPARED_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The sizes of a decoder's parts.

    `width`: how many numbers a hidden state has.
    `size`: how many numbers an attention head has.
    `inner`: the width of the feed-forward network.
    """

    width: int
    vocabulary: int
    layers: int
    heads: int
    kv_heads: int
    size: int
    inner: int

    @classmethod
    def of(cls, config: Hyperparameters, kv_heads: int | None = None, size: int | None = None) -> Dimensions:
        """Return the dimensions in a config.json. Raises ModelError if they contradict each other.

        `kv_heads`: the number of key heads if config.json does not state it. None means as many as query heads.
        `size`: the size of a head if config.json does not state it. None means width / heads.
        """
        width, heads = config.count("hidden_size"), config.count("num_attention_heads", most=MAX_HEADS)
        kv_heads = config.count("num_key_value_heads", kv_heads or heads)
        divided = size is None and config.values.get("head_dim") is None
        size = config.count("head_dim", size or max(width // heads, 1), most=MAX_HEAD_SIZE)
        if heads % kv_heads or size % 2 or (divided and width % heads):
            raise unsupported(
                f"has {heads} heads of size {size} for a width of {width}, and {kv_heads} for keys and values, which "
                "do not divide each other",
                "num_attention_heads",
            )
        layers, inner = config.count("num_hidden_layers", most=MAX_LAYERS), config.count("intermediate_size")
        return cls(width, config.count("vocab_size"), layers, heads, kv_heads, size, inner)

    def check_head_size(self) -> None:
        """Raise ModelError if the size of a head is not the model's width divided by the number of heads.

        For some architectures, llama.cpp assumes that a head has this size.
        """
        if self.size * self.heads != self.width:
            raise unsupported(
                f"has head_dim = {self.size} with {self.heads} heads for a width of {self.width}, but llama.cpp knows "
                "no head_dim for this architecture",
                "head_dim",
            )


def checked_config(checkpoint: Checkpoint) -> Hyperparameters:
    """Return the values of a checkpoint's config.json.

    Raises ModelError for a quantized checkpoint, or for an activation function other than SiLU.
    """
    config = Hyperparameters(checkpoint.config)
    config.refuse("quantization_config", "only 16-bit checkpoints can be converted")
    config.one_of("hidden_act", ("silu",), "silu")
    return config


class Decoder:
    """Collects the metadata and the recipes of a decoder's GGUF file.

    A recipe says how a tensor is made (see blueprint.py).
    """

    def __init__(self, architecture: str, checkpoint: Checkpoint, dimensions: Dimensions) -> None:
        self.architecture, self.dimensions, self.recipes = architecture, dimensions, Recipes(checkpoint)
        self._checkpoint, self._ignored = checkpoint, frozenset[str]()
        self._output: TensorRecipe | None = None
        self._tied = False

    def take_ends(self, tied: bool, *, added: float = 0.0) -> None:
        """Add recipes (how a tensor is computed) for the embedding, the output norm, and the output matrix.

        - `tied`: whether the embedding is also the output matrix. If so, there is no separate output matrix.
        - `added`: a number that is added to the output norm's weights.
        """
        shape = (self.dimensions.vocabulary, self.dimensions.width)
        self.recipes.take("token_embd.weight", EMBEDDING, shape)
        self.recipes.take("output_norm.weight", "model.norm.weight", shape[1:], added=added)
        self._tied = tied
        if not tied:
            self.recipes.take("output.weight", OUTPUT, shape)
            return
        self._output = TensorRecipe("output.weight", EMBEDDING, shape, "lm_head")
        if OUTPUT in self._checkpoint:
            _check_tied(self._checkpoint)
            self._ignored = frozenset({OUTPUT})

    def take_layers(
        self,
        *,
        interleaved: bool = False,
        biased: Mapping[str, bool | None] | None = None,
        norms: Mapping[str, str] = NORMS,
        added: float = 0.0,
    ) -> None:
        """Add recipes (how a tensor is computed) for the matrices and the norms of all layers.

        - `interleaved`: whether llama.cpp rotates neighboring rows in pairs (see rotation_order).
        - `biased`: maps a matrix's GGUF name to True if the matrix has a bias, or to None if it may have one. A matrix
          that is not in the mapping has no bias.
        - `norms`: maps the GGUF name of each norm to its name in the checkpoint.
        - `added`: a number that is added to the weights of the norms.
        """
        sizes, biases = self.dimensions, biased or {}
        query = rotation_order(sizes.heads, sizes.size) if interleaved else None
        key = rotation_order(sizes.kv_heads, sizes.size) if interleaved else None
        queries, keys = sizes.heads * sizes.size, sizes.kv_heads * sizes.size
        for layer in range(sizes.layers):
            ours, theirs = f"blk.{layer}.", f"model.layers.{layer}."
            for name, source in norms.items():
                self.recipes.take(f"{ours}{name}.weight", f"{theirs}{source}.weight", (sizes.width,), added=added)
            for name, source, shape, order in (
                ("attn_q", "self_attn.q_proj", (queries, sizes.width), query),
                ("attn_k", "self_attn.k_proj", (keys, sizes.width), key),
                ("attn_v", "self_attn.v_proj", (keys, sizes.width), None),
                ("attn_output", "self_attn.o_proj", (sizes.width, queries), None),
                ("ffn_gate", "mlp.gate_proj", (sizes.inner, sizes.width), None),
                ("ffn_up", "mlp.up_proj", (sizes.inner, sizes.width), None),
                ("ffn_down", "mlp.down_proj", (sizes.width, sizes.inner), None),
            ):
                self.recipes.take(f"{ours}{name}.weight", f"{theirs}{source}.weight", shape, order)
                if (bias := biases.get(name, False)) is not False:
                    take = self.recipes.take if bias else self.recipes.take_if_present
                    take(f"{ours}{name}.bias", f"{theirs}{source}.bias", shape[:1], order)

    def take_vectors(self, name: str, source: str, length: int, *, added: float = 0.0) -> None:
        """Add recipes (how a tensor is computed) for a vector that every layer has, such as the query norm's weights.

        `name`: the vector's name in the GGUF file, without the layer.
        `source`: the vector's name in the checkpoint, without the layer.
        `length`: how many values the vector has.
        `added`: a number that is added to each value.
        """
        for layer in range(self.dimensions.layers):
            self.recipes.take(f"blk.{layer}.{name}", f"model.layers.{layer}.{source}", (length,), added=added)

    def metadata(self, config: Hyperparameters, *, epsilon: float = 1e-6) -> dict[str, MetadataValue]:
        """Return the metadata that all decoders have.

        `epsilon`: the value to use if the configuration lacks rms_norm_eps. It should be transformers' default.
        """
        sizes, prefix = self.dimensions, f"{self.architecture}."
        return {
            **general_metadata(self.architecture, self._checkpoint),
            f"{prefix}block_count": ("UINT32", sizes.layers),
            f"{prefix}context_length": ("UINT32", config.count("max_position_embeddings")),
            f"{prefix}embedding_length": ("UINT32", sizes.width),
            f"{prefix}feed_forward_length": ("UINT32", sizes.inner),
            f"{prefix}attention.head_count": ("UINT32", sizes.heads),
            f"{prefix}attention.head_count_kv": ("UINT32", sizes.kv_heads),
            f"{prefix}attention.layer_norm_rms_epsilon": ("FLOAT32", config.number("rms_norm_eps", epsilon)),
        }

    def head_metadata(self) -> dict[str, MetadataValue]:
        """Return the metadata key_length and value_length: the size of an attention head."""
        size, prefix = ("UINT32", self.dimensions.size), f"{self.architecture}.attention."
        return {f"{prefix}key_length": size, f"{prefix}value_length": size}

    def finish(self, metadata: Mapping[str, MetadataValue]) -> Blueprint:
        """Return the GGUF file's blueprint: its metadata, and a recipe that says how each tensor is made.

        Raises ModelError if a tensor of the checkpoint has no recipe.
        """
        sizes = self.dimensions
        shape = ModelShape(sizes.layers, sizes.heads, sizes.kv_heads)
        recipes = self.recipes.finish(self._ignored)
        return Blueprint(self.architecture, shape, metadata, recipes, tied=self._tied, output=self._output)


def _check_tied(checkpoint: Checkpoint) -> None:
    """Raise ModelError if a checkpoint's embedding and output matrix differ.

    This check is for a checkpoint that has both matrices although its config.json has `tie_word_embeddings`, which
    means that they are one matrix.
    """
    embedding, output = checkpoint.tensor(EMBEDDING), checkpoint.tensor(OUTPUT)
    same = embedding.shape == output.shape and embedding.type == output.type
    for first in range(0, embedding.shape[0] if same else 0, _COMPARED_ROWS):
        count = min(_COMPARED_ROWS, embedding.shape[0] - first)
        rows = [checkpoint.rows(name, first, count) for name in (EMBEDDING, OUTPUT)]
        same = same and rows[0].tobytes() == rows[1].tobytes()
    if not same:
        raise ModelError(
            f"{checkpoint.folder}: config.json ties {OUTPUT} to {EMBEDDING}, but they differ",
            step="set tie_word_embeddings to false if the model has an output matrix of its own",
            file=str(checkpoint.folder / "config.json"),
            field="tie_word_embeddings",
        )
