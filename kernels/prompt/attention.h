/* Attention over the KV memory: its shape, how it is cut into pieces, and how threads compute them. */
#pragma once

#include "ecellm_prompt.h"
#include "memory.h"
#include "product.h"

#include <cstddef>
#include <cstdint>

/* See struct ecellm_attention in ecellm_prompt.h. */
using Attention = ecellm_attention;

/* Up to `attention_tokens` tokens from `token` on, and up to `attention_heads` heads that share a KV head. */
constexpr size_t attention_tokens = 16, attention_heads = 4;

/* The widest head that fits into the memory of a piece. */
constexpr int64_t most_width = 256;

struct AttentionPiece {
    size_t token, tokens, head, heads;
};

/* Compute attention on `threads` threads of OpenMP's pool. Return false if there is no memory. A piece is computed by one
 * thread, so results do not depend on the number of threads. */
bool attend(const Variant &variant, const Attention &attention, int threads, Memory &memory);
