"""Computes a Llama model with its LoRA adapter, for training on a CPU, with the same results as peft up to rounding.

The adapter is merged into the weights once per step: W' = W + scale * B @ A. So each matrix needs one product in the
forward pass and one in the backward pass. For the gradients of A and B, only products with narrow matrices are needed
(`_Product`).

Nothing is padded. If neighboring lessons (training examples) begin with the same tokens, these tokens are computed once
(`packed`). After the attention, the last layer computes only the states that predict an answer's token. There is no
dropout. All numbers are float32; torch may compute their products in bfloat16 (`torch.set_float32_matmul_precision`).
"""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch.autograd import Function
from torch.nn import functional

from ecellm_lite.training.lesson_batches import packed
from ecellm_lite.training.lessons import Lesson


class MergedLlama:
    """Runs a Llama model with peft's adapter merged into its weights. Call `merge` whenever the adapter has changed."""

    def __init__(self, model: Any) -> None:
        self._llama = model.base_model.model.model
        config = self._llama.config
        self._query_heads: int = config.num_attention_heads
        self._key_heads: int = config.num_key_value_heads
        self._layers = [_Layer(layer) for layer in self._llama.layers]

    def merge(self) -> None:
        """Merge the adapter's current weights into copies of the base's weights."""
        with torch.no_grad():
            for layer in self._layers:
                for matrices in (layer.query_key_value, layer.output, layer.gate_up, layer.down):
                    matrices.merge()

    def answer_states(self, lessons: Sequence[Lesson]) -> Any:
        """Return the hidden states that predict the tokens of the lessons' answers, in the order of the lessons.

        A lesson is a training example. The states have the shape (tokens, width).
        """
        packing = packed(lessons)
        rows = [
            _Row(torch.tensor(places), shared)
            for places, shared in zip(packing.rows, packing.shared, strict=True)
            if shared < len(places)  # else the lesson before has all its tokens
        ]
        answers = torch.tensor(packing.answers)
        states = functional.embedding(torch.tensor(packing.tokens), self._llama.embed_tokens.weight.detach())
        rotations = self._llama.rotary_emb(states[None], torch.tensor([packing.positions]))
        half = rotations[0].shape[-1] // 2  # the second half repeats the first
        cosines, sines = (rotation[0, :, None, :half] for rotation in rotations)
        for layer in self._layers:
            heads = layer.query_key_value(_normed(layer.attention_norm, states))
            heads = heads.view(len(states), -1, 2 * half)
            heads = _Rotation.apply(heads, self._query_heads + self._key_heads, cosines, sines)
            mixed = _Attention.apply(heads, self._key_heads, rows)
            if layer is self._layers[-1]:
                states, mixed = states[answers], mixed[answers]
            states = states + layer.output(mixed)
            states = states + layer.down(_Gate.apply(layer.gate_up(_normed(layer.feed_forward_norm, states))))
        return _normed(self._llama.norm, states)


class _Layer:
    """A layer's norms and matrices. Matrices with the same input are joined into one."""

    def __init__(self, layer: Any) -> None:
        attention, feed_forward = layer.self_attn, layer.mlp
        self.query_key_value = _Matrices([attention.q_proj, attention.k_proj, attention.v_proj])
        self.output = _Matrices([attention.o_proj])
        self.gate_up = _Matrices([feed_forward.gate_proj, feed_forward.up_proj])
        self.down = _Matrices([feed_forward.down_proj])
        self.attention_norm, self.feed_forward_norm = layer.input_layernorm, layer.post_attention_layernorm


class _Matrices:
    """The merged weights of one or more matrices with the same input, one below the other."""

    def __init__(self, linears: Sequence[Any]) -> None:
        self._bases = [linear.base_layer.weight.detach() for linear in linears]
        self._downs = [linear.lora_A["default"].weight for linear in linears]
        self._ups = [linear.lora_B["default"].weight for linear in linears]
        self._scale: float = linears[0].scaling["default"]
        self._merged = torch.cat(self._bases)

    def merge(self) -> None:
        rows = self._merged.split([len(base) for base in self._bases])
        for merged, base, down, up in zip(rows, self._bases, self._downs, self._ups, strict=True):
            torch.addmm(base, up, down, alpha=self._scale, out=merged)

    def __call__(self, states: Any) -> Any:
        factors = chain.from_iterable(zip(self._downs, self._ups, strict=True))
        return _Product.apply(states, self._merged, self._scale, *factors)


class _Product(Function):  # type: ignore[misc]
    """Computes x @ W'.T, and the gradients of x and of each matrix's factors A and B.

    W' consists of one or more matrices, one below the other. Each is merged with its adapter.

    For a matrix with the output y and the gradient dy: dA = scale * (dy @ B).T @ x, and dB = scale * dy.T @ (x @ A.T).
    """

    @staticmethod
    def forward(ctx: Any, x: Any, merged: Any, scale: float, *factors: Any) -> Any:
        ctx.scale = scale
        ctx.save_for_backward(x, merged, *factors)
        return _times(x, merged.T)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        x, merged, *factors = ctx.saved_tensors
        downs, ups = factors[::2], factors[1::2]
        gradients = gradient.split([len(up) for up in ups], dim=1)  # of each matrix's output
        narrow = torch.cat([one @ up for one, up in zip(gradients, ups, strict=True)], dim=1)
        of_downs = ((narrow.T @ x) * ctx.scale).split([len(down) for down in downs])
        inner = (x @ torch.cat(downs).T).split([len(down) for down in downs], dim=1)
        of_ups = [(part.T @ one).T * ctx.scale for part, one in zip(inner, gradients, strict=True)]
        of_x = _times(gradient, merged) if ctx.needs_input_grad[0] else None
        return of_x, None, None, *chain.from_iterable(zip(of_downs, of_ups, strict=True))


def _times(x: Any, y: Any) -> Any:
    """Return x @ y. With one thread on AMD's processors, numpy's OpenBLAS computes this faster than torch's MKL."""
    if _is_slow_mkl():
        return torch.from_numpy(x.detach().numpy() @ y.numpy())
    return x @ y


def _is_slow_mkl() -> bool:
    return torch.backends.mkl.is_available() and torch.get_num_threads() == 1 and "AuthenticAMD" in _processor()


@cache
def _processor() -> str:
    """Return a text that contains the name of the processor's maker, such as AuthenticAMD."""
    description = Path("/proc/cpuinfo")
    return description.read_text("utf-8") if description.is_file() else platform.processor()


def _normed(norm: Any, states: Any) -> Any:
    return _Norm.apply(states, norm.weight.detach(), norm.variance_epsilon)


class _Norm(Function):  # type: ignore[misc]
    """RMSNorm with a weight that is not trained."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, epsilon: float) -> Any:
        inverse = torch.rsqrt(x.square().mean(1, keepdim=True) + epsilon)
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        x, weight, inverse = ctx.saved_tensors
        weighted = gradient * weight
        along = (weighted * x).mean(1, keepdim=True) * inverse.square()  # what changes only the length of x
        return torch.addcmul(weighted, x, along, value=-1).mul_(inverse), None, None


class _Gate(Function):  # type: ignore[misc]
    """Computes silu(gate) * up. The first half of x's columns is `gate`, and the second half is `up`."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        gate, up = x.chunk(2, dim=1)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        (x,) = ctx.saved_tensors
        gate, up = x.chunk(2, dim=1)
        of_x = torch.empty_like(x)
        of_gate, of_up = of_x.chunk(2, dim=1)
        sigmoid = torch.sigmoid(gate)
        silu = gate * sigmoid
        torch.mul(silu, gradient, out=of_up)
        # The derivative of silu is sigmoid + silu * (1 - sigmoid).
        torch.addcmul(sigmoid + silu, silu, sigmoid, value=-1, out=of_gate).mul_(up).mul_(gradient)
        return of_x


class _Rotation(Function):  # type: ignore[misc]
    """Applies the rotary position embedding to the first `heads` heads of x (tokens, heads, head width).

    The remaining heads hold the attention's values, and stay unchanged.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, heads: int, cosines: Any, sines: Any) -> Any:
        ctx.heads = heads
        ctx.save_for_backward(cosines, sines)
        return _rotated(x, heads, cosines, sines)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        cosines, sines = ctx.saved_tensors
        return _rotated(gradient, ctx.heads, cosines, -sines), None, None, None


def _rotated(x: Any, heads: int, cosines: Any, sines: Any) -> Any:
    rotated = x.clone()
    first, second = x[:, :heads].chunk(2, dim=-1)
    left, right = rotated[:, :heads].chunk(2, dim=-1)
    left.mul_(cosines).addcmul_(second, sines, value=-1)
    right.mul_(cosines).addcmul_(first, sines)
    return rotated


class _Row:
    """Where a lesson's tokens are in the list of all tokens to compute. A lesson is a training example.

    The lesson's first `shared` tokens are the same as in the lesson before it, and are only once in the list.
    """

    def __init__(self, places: Any, shared: int) -> None:
        self.places = places
        own = len(places) - shared
        self.own = slice(int(places[shared]), int(places[shared]) + own)
        # Added to the scores of each own token (row) with each token (column): none sees a later one.
        self.mask = torch.full((own, len(places)), -math.inf).triu(shared + 1)


class _Attention(Function):  # type: ignore[misc]
    """Causal attention within each row. Each key head serves several neighboring query heads.

    The input (tokens, heads, head width) has the queries' heads, then the keys', then the values'. The output is
    (tokens, query heads * head width). The backward pass computes the attention weights again, because keeping them
    would need much memory.
    """

    @staticmethod
    def forward(ctx: Any, heads: Any, key_heads: int, rows: Sequence[_Row]) -> Any:
        query, others = _parts(heads, key_heads)
        output = torch.empty_like(query)
        for row in rows:
            key, value = others[row.places].transpose(0, 1).chunk(2)  # each (key heads, tokens, head width)
            weights = _weights(_by_key(query[row.own]), key, row.mask)
            output[row.own] = _by_token(_times(weights, value), query.shape[2])
        ctx.rows, ctx.key_heads = rows, key_heads
        ctx.save_for_backward(heads, output)
        return output.flatten(1)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        heads, output = ctx.saved_tensors
        query, others = _parts(heads, ctx.key_heads)
        gradient = gradient.view_as(output)
        of_heads = torch.zeros_like(heads)
        of_query, of_others = _parts(of_heads, ctx.key_heads)
        for row in ctx.rows:
            key, value = others[row.places].transpose(0, 1).chunk(2)
            own, of_output = _by_key(query[row.own]), _by_key(gradient[row.own])
            weights = _weights(own, key, row.mask)
            mean = (of_output * _by_key(output[row.own])).sum(-1, keepdim=True)
            of_scores = _times(of_output, value.mT).sub_(mean).mul_(weights).mul_(own.shape[-1] ** -0.5)
            of_query[row.own] = _by_token(_times(of_scores, key), query.shape[2])
            both = torch.cat((_times(of_scores.mT, own), _times(weights.mT, of_output)))
            of_others.index_add_(0, row.places, both.transpose(0, 1))
        return of_heads, None, None


def _parts(heads: Any, key_heads: int) -> tuple[Any, Any]:
    """Split `heads`, of shape (tokens, heads, width), into the queries, and the keys and values.

    The queries have the shape (tokens, key heads, group, width). A group has the query heads that share a key head.
    The keys and values have the shape (tokens, 2 * key heads, width).
    """
    return heads[:, : -2 * key_heads].unflatten(1, (key_heads, -1)), heads[:, -2 * key_heads :]


def _weights(query: Any, key: Any, mask: Any) -> Any:
    """Return the attention weights, of shape (key heads, queries, tokens).

    `mask` is 0 where a query may attend to a token, and minus infinity elsewhere.
    """
    masks = mask.repeat(query.shape[1] // len(mask), 1).expand(len(query), -1, -1)
    return torch.baddbmm(masks, query, key.mT, alpha=query.shape[-1] ** -0.5).softmax(-1)


def _by_key(queries: Any) -> Any:
    """Reshape queries from (tokens, key heads, group, width) to (key heads, group * tokens, width).

    `group`: how many query heads share a key head.
    """
    return queries.permute(1, 2, 0, 3).flatten(1, 2)


def _by_token(queries: Any, group: int) -> Any:
    """Reshape queries from (key heads, group * tokens, width) to (tokens, key heads, group, width).

    `group`: how many query heads share a key head.
    """
    return queries.unflatten(1, (group, -1)).permute(2, 0, 1, 3)
