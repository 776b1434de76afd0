#include "attention.h"

#include <atomic>
#include <omp.h>

namespace {

size_t parts_of(size_t whole, size_t part) {
    return (whole + part - 1) / part;
}

/* The pieces of an attention, numbered so that neighbours read the same part of the mask. */
class Pieces {
    const Attention &attention;
    size_t sharing, chunks; /* heads that share a KV head, and the pieces they are cut into */

  public:
    const size_t count;

    explicit Pieces(const Attention &attention)
        : attention(attention), sharing(attention.heads / attention.kv_heads), chunks(parts_of(sharing, attention_heads)),
          count(parts_of(attention.tokens, attention_tokens) * attention.kv_heads * chunks) {
    }

    AttentionPiece at(size_t number) const {
        const size_t chunk = number % chunks, kv_head = number / chunks % attention.kv_heads;
        const size_t token = number / chunks / attention.kv_heads * attention_tokens, tokens = attention.tokens - token;
        const size_t first = chunk * attention_heads, heads = sharing - first;
        return {token, tokens < attention_tokens ? tokens : attention_tokens, kv_head * sharing + first,
                heads < attention_heads ? heads : attention_heads};
    }
};

} // namespace

bool attend(const Variant &variant, const Attention &attention, int threads, Memory &memory) {
    const size_t bytes = variant.attention_bytes(attention);
    uint8_t *const buffers = memory.get(bytes * (size_t)threads);
    if (!buffers) {
        return false;
    }
    const Pieces pieces(attention);
    std::atomic<size_t> next{0};
#pragma omp parallel num_threads(threads)
    {
        uint8_t *const buffer = buffers + bytes * (size_t)omp_get_thread_num();
        for (size_t piece; (piece = next++) < pieces.count;) {
            variant.attend(attention, buffer, pieces.at(piece));
        }
    }
    return true;
}
