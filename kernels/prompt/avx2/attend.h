/* Attention in float32: queries are compared with the cells that any of them may read, a block of cells at a time.
 *
 * A lane is one token's query of one head. Eight lanes are a vector, and all heads that share a KV head are computed
 * together, so that a cell's key and value are converted once for all of them. Cells that no token of a tile may read
 * are left out. If the tokens of a tile read mostly different cells, as those of different rows do, the tile is halved.
 */
#pragma once

#include "attention.h"
#include "panel.h"
#include "softmax.h"

namespace {

constexpr size_t lanes = 8, most_vectors = attention_tokens * attention_heads / lanes;

/* The cells of a block: their keys, or their values, fit into half of 32 KiB of first-level cache. */
constexpr size_t most_cells = 48;
inline size_t block_cells(size_t width) {
    return width <= 96 ? most_cells : most_cells / 2;
}

/* A tile may have this many times as many pairs of a token and a cell as its tokens may read, without being halved. */
constexpr size_t most_waste = 2;

/* The memory of a thread. */
struct Buffer {
    float *queries, *results; /* (vectors, width, lanes) */
    float *keys, *values;     /* (cells, width) */
    float *weights;           /* (vectors of a pass, cells, lanes): scores, then powers of two */

    static size_t bytes(size_t width) {
        return sizeof(float) * (2 * most_vectors * width * lanes + 2 * block_cells(width) * width + 2 * most_cells * lanes);
    }

    Buffer(uint8_t *memory, size_t width) {
        queries = (float *)memory;
        results = queries + most_vectors * width * lanes;
        keys = results + most_vectors * width * lanes;
        values = keys + block_cells(width) * width;
        weights = values + block_cells(width) * width;
    }
};

constexpr uint16_t masked = 0xfc00; /* minus infinity */

/* The mask's rows of a tile's tokens, as 16 rows: with fewer tokens they are repeated. */
class Mask {
    const uint16_t *rows[attention_tokens];

    /* The mask of eight cells from `cell` on; cells beyond the end are masked. */
    __m128i eight(size_t row, size_t cell, size_t cells) const {
        if (cell + 8 <= cells) {
            return _mm_loadu_si128((const __m128i *)(rows[row] + cell));
        }
        alignas(16) uint16_t end[8];
        for (size_t i = 0; i < 8; i++) {
            end[i] = cell + i < cells ? rows[row][cell + i] : masked;
        }
        return _mm_load_si128((const __m128i *)end);
    }

  public:
    /* `size` is a power of two; `tokens`, at most `size`, are the tokens there are. */
    Mask(const Attention &attention, size_t token, size_t tokens, size_t size) {
        for (size_t i = 0; i < attention_tokens; i++) {
            const size_t place = i % size < tokens ? i % size : tokens - 1;
            rows[i] = (const uint16_t *)((const uint8_t *)attention.mask + (token + place) * attention.mask_stride);
        }
    }

    /* For each of eight cells, how many of the first `size` rows are masked, negated, as int16. */
    __m128i counts(size_t cell, size_t cells, size_t size) const {
        __m128i sum = _mm_setzero_si128();
        for (size_t i = 0; i < size; i++) {
            sum = _mm_add_epi16(sum, _mm_cmpeq_epi16(eight(i, cell, cells), _mm_set1_epi16((short)masked)));
        }
        return sum;
    }

    /* The mask of eight cells, 16 rows side by side. */
    void transposed(size_t cell, size_t cells, __m256i columns[8]) const {
        __m256i r[8], pairs[8], fours[8];
        for (size_t i = 0; i < 8; i++) {
            r[i] = _mm256_set_m128i(eight(8 + i, cell, cells), eight(i, cell, cells));
        }
        for (int i = 0; i < 4; i++) {
            pairs[2 * i] = _mm256_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
            pairs[2 * i + 1] = _mm256_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
        }
        for (int i = 0; i < 2; i++) {
            fours[4 * i] = _mm256_unpacklo_epi32(pairs[4 * i], pairs[4 * i + 2]);
            fours[4 * i + 1] = _mm256_unpackhi_epi32(pairs[4 * i], pairs[4 * i + 2]);
            fours[4 * i + 2] = _mm256_unpacklo_epi32(pairs[4 * i + 1], pairs[4 * i + 3]);
            fours[4 * i + 3] = _mm256_unpackhi_epi32(pairs[4 * i + 1], pairs[4 * i + 3]);
        }
        for (int i = 0; i < 4; i++) {
            columns[2 * i] = _mm256_unpacklo_epi64(fours[i], fours[i + 4]);
            columns[2 * i + 1] = _mm256_unpackhi_epi64(fours[i], fours[i + 4]);
        }
    }
};

/* The cells that a tile reads, found in order, a block at a time. */
class Cells {
    const Mask &mask;
    const size_t all, most;
    size_t place = 0;

  public:
    size_t count = 0; /* of the block */
    size_t cell[most_cells + 8];
    alignas(32) uint16_t added[most_cells + 8][attention_tokens]; /* the mask of each cell */

    Cells(const Mask &mask, size_t all, size_t most) : mask(mask), all(all), most(most) {
    }

    /* Find the next block; false at the end. */
    bool next() {
        const size_t left = count > most ? count - most : 0;
        for (size_t i = 0; i < left; i++) {
            cell[i] = cell[most + i];
            memcpy(added[i], added[most + i], sizeof added[i]);
        }
        count = left;
        for (; count < most && place < all; place += 8) {
            const __m128i full = _mm_set1_epi16(-(short)attention_tokens);
            if (_mm_movemask_epi8(_mm_cmpeq_epi16(mask.counts(place, all, attention_tokens), full)) == 0xffff) {
                continue;
            }
            __m256i columns[8];
            mask.transposed(place, all, columns);
            for (size_t i = 0; i < 8; i++) {
                cell[count] = place + i;
                _mm256_store_si256((__m256i *)added[count], columns[i]);
                count += _mm256_movemask_epi8(_mm256_cmpeq_epi16(columns[i], _mm256_set1_epi16((short)masked))) != -1;
            }
        }
        return count > 0;
    }

    size_t in_block() const {
        return count < most ? count : most;
    }
};

/* How many cells the tokens of a tile read together, and how many each of them, summed up. */
struct Reads {
    size_t cells = 0, pairs = 0;

    Reads(const Attention &attention, size_t token, size_t tokens) {
        const Mask mask(attention, token, tokens, tokens);
        const __m128i all = _mm_set1_epi16(-(short)tokens);
        for (size_t cell = 0; cell < attention.cells; cell += 8) {
            const __m128i counts = mask.counts(cell, attention.cells, tokens);
            const unsigned unread = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi16(counts, all));
            if (unread == 0xffff) {
                continue;
            }
            __m128i sum = _mm_madd_epi16(counts, _mm_set1_epi16(1));
            sum = _mm_hadd_epi32(sum, sum);
            sum = _mm_hadd_epi32(sum, sum);
            cells += 8 - (size_t)__builtin_popcount(unread) / 2;
            pairs += 8 * tokens + (size_t)_mm_cvtsi128_si32(sum); /* the counts are negative */
        }
    }
};

/* A tile: `size` tokens, or fewer at the end, times the heads of a piece. Its lanes go through the tokens of one head,
 * then through those of the next. */
class AttentionTile {
    const Attention &attention;
    const Buffer buffer;
    const size_t token, tokens, size, head, heads, width, vectors;
    alignas(32) float base[most_vectors][lanes], sum[most_vectors][lanes];

    struct Lane {
        bool in_use;
        size_t token, head;
    };
    Lane lane(size_t vector, size_t place) const {
        const size_t number = vector * lanes + place, own = number % size, own_head = number / size;
        return {own < tokens && own_head < heads, token + own, head + own_head};
    }

    void load_queries() {
        for (size_t vector = 0; vector < vectors; vector++) {
            const float *rows[lanes];
            for (size_t i = 0; i < lanes; i++) {
                const Lane one = lane(vector, i);
                const size_t place = one.token * attention.q_stride + one.head * attention.q_head_stride;
                rows[i] = one.in_use ? (const float *)((const uint8_t *)attention.q + place) : nullptr;
            }
            float *const target = buffer.queries + vector * width * lanes;
            const __m256 scale = _mm256_set1_ps(attention.scale * bits_of_e); /* scores are powers of two */
            for (size_t d = 0; d < width; d += 8) {
                __m256i eight[8];
                for (size_t i = 0; i < lanes; i++) {
                    const __m256 x = rows[i] ? _mm256_loadu_ps(rows[i] + d) : _mm256_setzero_ps();
                    eight[i] = _mm256_castps_si256(_mm256_mul_ps(x, scale));
                }
                transpose(eight);
                for (size_t i = 0; i < 8; i++) {
                    _mm256_store_si256((__m256i *)(target + (d + i) * lanes), eight[i]);
                }
            }
        }
    }

    void load_cells(const Cells &cells, const uint16_t *source, size_t stride, size_t head_stride, float *target) {
        const uint8_t *const start = (const uint8_t *)source + head / (attention.heads / attention.kv_heads) * head_stride;
        for (size_t i = 0; i < cells.in_block(); i++) {
            const size_t cell = attention.order ? attention.order[cells.cell[i]] : cells.cell[i];
            const uint16_t *const halves = (const uint16_t *)(start + cell * stride);
            for (size_t d = 0; d < width; d += 8) {
                _mm256_store_ps(target + i * width + d, from_halves(halves + d));
            }
        }
    }

    /* The scores of `count` cells: products of their keys with one or two vectors of queries. */
    template <int wide, int count>
    void score(const float *queries, const float *keys, float *scores) {
        __m256 sums[count][wide];
#pragma GCC unroll 12
        for (int c = 0; c < count; c++) {
#pragma GCC unroll 2
            for (int v = 0; v < wide; v++) {
                sums[c][v] = _mm256_setzero_ps();
            }
        }
        for (size_t d = 0; d < width; d++) {
            __m256 query[wide];
#pragma GCC unroll 2
            for (int v = 0; v < wide; v++) {
                query[v] = _mm256_load_ps(queries + (v * width + d) * lanes);
            }
#pragma GCC unroll 12
            for (int c = 0; c < count; c++) {
                const __m256 key = _mm256_broadcast_ss(keys + c * width + d);
#pragma GCC unroll 2
                for (int v = 0; v < wide; v++) {
                    sums[c][v] = _mm256_fmadd_ps(key, query[v], sums[c][v]);
                }
            }
        }
#pragma GCC unroll 12
        for (int c = 0; c < count; c++) {
#pragma GCC unroll 2
            for (int v = 0; v < wide; v++) {
                _mm256_store_ps(scores + (v * most_cells + c) * lanes, sums[c][v]);
            }
        }
    }

    /* Add the mask to a vector's scores, and replace each by 2^(score - base). The base is the highest score so far,
     * rounded up. When it grows, the sums so far are multiplied by a power of two, which rounds nothing. So a lane's
     * results do not depend on how its cells are divided into blocks, nor on cells that it must not read. */
    void soften(size_t vector, const Cells &cells, float *scores) {
        const size_t count = cells.in_block(), half = size > lanes ? vector % 2 * lanes : 0;
        const __m256 before = _mm256_load_ps(base[vector]);
        __m256 most = before;
        for (size_t c = 0; c < count; c++) {
            const __m256 mask = from_halves(cells.added[c] + half);
            const __m256 score = _mm256_fmadd_ps(mask, _mm256_set1_ps(bits_of_e), _mm256_load_ps(scores + c * lanes));
            most = _mm256_max_ps(most, score);
            _mm256_store_ps(scores + c * lanes, score);
        }
        const __m256 after = _mm256_ceil_ps(most);
        /* A lane that has read no cell yet has minus infinity as its base, which must not be subtracted. */
        const __m256 none = _mm256_cmp_ps(after, _mm256_set1_ps(-__builtin_inff()), _CMP_EQ_OQ);
        const __m256 zero = _mm256_andnot_ps(none, after);
        const __m256 factor = power_of_two(before, zero);
        __m256 total = _mm256_mul_ps(_mm256_load_ps(sum[vector]), factor);
        for (size_t c = 0; c < count; c++) {
            const __m256 weight = power_of_two(_mm256_load_ps(scores + c * lanes), zero);
            total = _mm256_add_ps(total, weight);
            _mm256_store_ps(scores + c * lanes, weight);
        }
        _mm256_store_ps(base[vector], after);
        _mm256_store_ps(sum[vector], total);
        if (_mm256_movemask_ps(_mm256_cmp_ps(after, before, _CMP_NEQ_UQ))) {
            float *const result = buffer.results + vector * width * lanes;
            for (size_t d = 0; d < width; d++) {
                _mm256_store_ps(result + d * lanes, _mm256_mul_ps(_mm256_load_ps(result + d * lanes), factor));
            }
        }
    }

    /* Add `count` elements of the cells' values, times the weights, to one or two vectors' results. */
    template <int wide, int count>
    void add_values(size_t cells, const float *weights, const float *values, float *results) {
        __m256 sums[count][wide];
#pragma GCC unroll 12
        for (int e = 0; e < count; e++) {
#pragma GCC unroll 2
            for (int v = 0; v < wide; v++) {
                sums[e][v] = _mm256_load_ps(results + (v * width + e) * lanes);
            }
        }
        for (size_t c = 0; c < cells; c++) {
            __m256 weight[wide];
#pragma GCC unroll 2
            for (int v = 0; v < wide; v++) {
                weight[v] = _mm256_load_ps(weights + (v * most_cells + c) * lanes);
            }
#pragma GCC unroll 12
            for (int e = 0; e < count; e++) {
                const __m256 value = _mm256_broadcast_ss(values + c * width + e);
#pragma GCC unroll 2
                for (int v = 0; v < wide; v++) {
                    sums[e][v] = _mm256_fmadd_ps(value, weight[v], sums[e][v]);
                }
            }
        }
#pragma GCC unroll 12
        for (int e = 0; e < count; e++) {
#pragma GCC unroll 2
            for (int v = 0; v < wide; v++) {
                _mm256_store_ps(results + (v * width + e) * lanes, sums[e][v]);
            }
        }
    }

    /* Add a block of cells to one or two vectors. */
    template <int wide>
    void add_block(size_t vector, const Cells &cells) {
        constexpr int count = 12 / wide;
        const float *const queries = buffer.queries + vector * width * lanes;
        float *const results = buffer.results + vector * width * lanes;
        const size_t in_block = cells.in_block();
        for (size_t c = 0; c < in_block; c += count) { /* what comes after the block is ignored */
            score<wide, count>(queries, buffer.keys + c * width, buffer.weights + c * lanes);
        }
        for (int v = 0; v < wide; v++) {
            soften(vector + v, cells, buffer.weights + v * most_cells * lanes);
        }
        size_t d = 0;
        for (; d + count <= width; d += count) {
            add_values<wide, count>(in_block, buffer.weights, buffer.values + d, results + d * lanes);
        }
        for (; d + 4 <= width; d += 4) {
            add_values<wide, 4>(in_block, buffer.weights, buffer.values + d, results + d * lanes);
        }
        for (; d < width; d += 2) {
            add_values<wide, 2>(in_block, buffer.weights, buffer.values + d, results + d * lanes);
        }
    }

    void write() {
        for (size_t vector = 0; vector < vectors; vector++) {
            const __m256 total = _mm256_load_ps(sum[vector]);
            const __m256 none = _mm256_cmp_ps(total, _mm256_setzero_ps(), _CMP_EQ_OQ);
            const __m256 factor = _mm256_andnot_ps(none, _mm256_div_ps(_mm256_set1_ps(1), total));
            for (size_t d = 0; d < width; d += 8) {
                __m256i eight[8];
                for (size_t i = 0; i < 8; i++) {
                    const __m256 x = _mm256_load_ps(buffer.results + (vector * width + d + i) * lanes);
                    eight[i] = _mm256_castps_si256(_mm256_mul_ps(x, factor));
                }
                transpose(eight);
                for (size_t i = 0; i < lanes; i++) {
                    const Lane one = lane(vector, i);
                    if (one.in_use) {
                        const size_t place = one.token * attention.y_stride + one.head * attention.y_head_stride;
                        _mm256_storeu_si256((__m256i *)((float *)((uint8_t *)attention.y + place) + d), eight[i]);
                    }
                }
            }
        }
    }

  public:
    AttentionTile(const Attention &attention, uint8_t *memory, const AttentionPiece &piece, size_t size)
        : attention(attention), buffer(memory, attention.width), token(piece.token), tokens(piece.tokens), size(size),
          head(piece.head), heads(piece.heads), width(attention.width), vectors((size * heads + lanes - 1) / lanes) {
    }

    void compute() {
        load_queries();
        memset(buffer.results, 0, vectors * width * lanes * sizeof(float));
        for (size_t vector = 0; vector < vectors; vector++) {
            _mm256_store_ps(base[vector], _mm256_set1_ps(-__builtin_inff()));
            _mm256_store_ps(sum[vector], _mm256_setzero_ps());
        }
        const Mask mask(attention, token, tokens, size);
        Cells cells(mask, attention.cells, block_cells(width));
        while (cells.next()) {
            load_cells(cells, attention.k, attention.k_stride, attention.k_head_stride, buffer.keys);
            load_cells(cells, attention.v, attention.v_stride, attention.v_head_stride, buffer.values);
            size_t vector = 0;
            for (; vector + 2 <= vectors; vector += 2) {
                add_block<2>(vector, cells);
            }
            if (vector < vectors) {
                add_block<1>(vector, cells);
            }
        }
        write();
    }
};

/* Compute a piece as one tile, or as two halves if its tokens read mostly different cells. */
inline void attend_tile(const Attention &attention, uint8_t *memory, const AttentionPiece &piece, size_t size) {
    while (size / 2 >= piece.tokens) {
        size /= 2;
    }
    if (size > 1) {
        const Reads reads(attention, piece.token, piece.tokens);
        if (reads.cells * piece.tokens > most_waste * reads.pairs) {
            const size_t half = size / 2;
            attend_tile(attention, memory, {piece.token, half, piece.head, piece.heads}, half);
            attend_tile(attention, memory, {piece.token + half, piece.tokens - half, piece.head, piece.heads}, half);
            return;
        }
    }
    AttentionTile(attention, memory, piece, size).compute();
}

} // namespace
