"""Computes a Llama model with its LoRA adapter, for training on a CPU, with the same results as peft up to rounding.

The adapter is merged into the weights once per step: W' = W + scale * B @ A. So each matrix takes one product in the
forward pass and one in the backward pass. The gradients of A and B need only narrow products (`_Product`).

Nothing is padded, and tokens with which lessons begin alike are computed once (`packed`). The last layer computes only
the states that predict an answer's token, and its keys and values. All of this is in float32, without dropout.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch.autograd import Function
from torch.nn import functional

from ecellm_lite.training.lesson_batches import packed
from ecellm_lite.training.lessons import Lesson


class MergedLlama:
    """A Llama model that peft has given an adapter. Call `merge` whenever the adapter has changed."""

    def __init__(self, model: Any) -> None:
        self._llama = model.base_model.model.model
        config = self._llama.config
        self._query_heads: int = config.num_attention_heads
        self._key_heads: int = config.num_key_value_heads
        self._layers = [_Layer(layer) for layer in self._llama.layers]

    def merge(self) -> None:
        """Merge the adapter's present weights into copies of the base's weights."""
        with torch.no_grad():
            for layer in self._layers:
                for matrices in (layer.query_key_value, layer.output, layer.gate_up, layer.down):
                    matrices.merge()

    def answer_states(self, lessons: Sequence[Lesson]) -> Any:
        """Return the states that predict the tokens of the answers, lesson after lesson: (tokens, width)."""
        packing = packed(lessons)
        places = torch.tensor([place for row in packing.rows for place in row])
        answers = torch.tensor(packing.answers)
        states = functional.embedding(torch.tensor(packing.tokens), self._llama.embed_tokens.weight.detach())
        rotations = self._llama.rotary_emb(states[None], torch.tensor([packing.positions]))
        half = rotations[0].shape[-1] // 2  # the second half repeats the first
        cosines, sines = (rotation[0, :, None, :half] for rotation in rotations)
        for layer in self._layers:
            heads = layer.query_key_value(layer.attention_norm(states))
            heads = heads.view(len(states), self._query_heads + 2 * self._key_heads, 2 * half)
            heads = _Rotation.apply(heads, self._query_heads + self._key_heads, cosines, sines)
            mixed = self._attention(heads[places], [len(row) for row in packing.rows], packing.shared)
            if layer is self._layers[-1]:
                states, mixed = states[answers], mixed[answers]
            states = states + layer.output(mixed)
            states = states + layer.down(_Gate.apply(layer.gate_up(layer.feed_forward_norm(states))))
        return _Norm.apply(states, self._llama.norm.weight.detach(), self._llama.norm.variance_epsilon)

    def _attention(self, heads: Any, lengths: Sequence[int], shared: Sequence[int]) -> Any:
        """Return the attention's output for the tokens that each lesson does not share with the one before it.

        `heads` (tokens, heads, head width) has each lesson with all its tokens.
        """
        outputs = []
        for row, first in zip(heads.split(lengths), shared, strict=True):
            query, key, value = row.transpose(0, 1)[None].split(
                (self._query_heads, self._key_heads, self._key_heads), dim=1
            )
            output = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
            outputs.append(output[0, :, first:].transpose(0, 1).flatten(1))
        return torch.cat(outputs)


class _Layer:
    """A layer's norms and matrices. Matrices with the same input are one."""

    def __init__(self, layer: Any) -> None:
        attention, feed_forward = layer.self_attn, layer.mlp
        self.query_key_value = _Matrices([attention.q_proj, attention.k_proj, attention.v_proj])
        self.output = _Matrices([attention.o_proj])
        self.gate_up = _Matrices([feed_forward.gate_proj, feed_forward.up_proj])
        self.down = _Matrices([feed_forward.down_proj])
        self._norms = (layer.input_layernorm, layer.post_attention_layernorm)

    def attention_norm(self, states: Any) -> Any:
        norm = self._norms[0]
        return _Norm.apply(states, norm.weight.detach(), norm.variance_epsilon)

    def feed_forward_norm(self, states: Any) -> Any:
        norm = self._norms[1]
        return _Norm.apply(states, norm.weight.detach(), norm.variance_epsilon)


class _Matrices:
    """Matrices with the same input, one below the other, each with its adapter merged."""

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
    """The product x @ W'.T with the merged weights W' of one or more matrices, and gradients of x and each A and B.

    For a matrix with the output y and the gradient dy: dA = scale * (dy @ B).T @ x, and dB = scale * dy.T @ (x @ A.T).
    """

    @staticmethod
    def forward(ctx: Any, x: Any, merged: Any, scale: float, *factors: Any) -> Any:
        ctx.scale = scale
        ctx.save_for_backward(x, merged, *factors)
        return x @ merged.T

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        x, merged, *factors = ctx.saved_tensors
        downs, ups = factors[::2], factors[1::2]
        gradients = gradient.split([len(up) for up in ups], dim=1)  # of each matrix's output
        narrow = torch.cat([one @ up for one, up in zip(gradients, ups, strict=True)], dim=1)
        of_downs = ((narrow.T @ x) * ctx.scale).split([len(down) for down in downs])
        inner = (x @ torch.cat(downs).T).split([len(down) for down in downs], dim=1)
        of_ups = [(part.T @ one).T * ctx.scale for part, one in zip(inner, gradients, strict=True)]
        of_x = gradient @ merged if ctx.needs_input_grad[0] else None
        return of_x, None, None, *chain.from_iterable(zip(of_downs, of_ups, strict=True))


class _Norm(Function):  # type: ignore[misc]
    """RMSNorm with a fixed weight."""

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
    """silu(gate) * up, where x has the gate's columns and then those of up."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        gate, up = x.chunk(2, dim=1)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        (x,) = ctx.saved_tensors
        gate, up = x.chunk(2, dim=1)
        of_gate = torch.ops.aten.silu_backward(gradient * up, gate)
        return torch.cat((of_gate, functional.silu(gate).mul_(gradient)), dim=1)


class _Rotation(Function):  # type: ignore[misc]
    """The rotary position embedding of the first heads of x (tokens, heads, head width); the other heads are values."""

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
    first, second = x[:, :heads].chunk(2, dim=-1)
    rotated = torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1)
    return torch.cat((rotated, x[:, heads:]), dim=1)
