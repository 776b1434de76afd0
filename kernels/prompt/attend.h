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

/* How far a score may be below a base that grows. Powers down to 2^-101, times halves, are multiples of 2^-148, which
 * floats can hold: these sums can be scaled, and in any order, without rounding. */
constexpr float most_depth = 100;

constexpr uint16_t masked = 0xfc00; /* minus infinity */

/* The mask's rows of a tile's tokens, as 16 rows: with fewer tokens they are repeated. */
class Mask {
    const uint16_t *rows[attention_tokens];

    /* The mask of eight cells from `cell` on; cells beyond the end are masked. */
    Words eight(size_t row, size_t cell, size_t cells) const {
        if (cell + 8 <= cells) {
            return load_words(rows[row] + cell);
        }
        alignas(16) uint16_t end[8];
        for (size_t i = 0; i < 8; i++) {
            end[i] = cell + i < cells ? rows[row][cell + i] : masked;
        }
        return load_words(end);
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
    Words counts(size_t cell, size_t cells, size_t size) const {
        Words sum = equal_words(eight(0, cell, cells), masked);
        for (size_t i = 1; i < size; i++) {
            sum = add_words(sum, equal_words(eight(i, cell, cells), masked));
        }
        return sum;
    }

    /* The mask of eight cells, 16 rows side by side. */
    void transposed(size_t cell, size_t cells, Ints columns[8]) const {
        Words all[attention_tokens];
        for (size_t i = 0; i < attention_tokens; i++) {
            all[i] = eight(i, cell, cells);
        }
        transpose_words(all, columns);
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
            const Words counts = mask.counts(place, all, attention_tokens);
            if (count_equal(counts, (uint16_t)-attention_tokens) == 8) {
                continue;
            }
            Ints columns[8];
            mask.transposed(place, all, columns);
            for (size_t i = 0; i < 8; i++) {
                cell[count] = place + i;
                store_ints(added[count], columns[i]);
                count += !all_words_equal(columns[i], masked);
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
        for (size_t cell = 0; cell < attention.cells; cell += 8) {
            const Words counts = mask.counts(cell, attention.cells, tokens);
            const int unread = count_equal(counts, (uint16_t)-tokens);
            if (unread < 8) {
                cells += 8 - (size_t)unread;
                pairs += 8 * tokens + (size_t)sum_of_words(counts); /* the counts are negative */
            }
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
    alignas(32) float depth[most_vectors][lanes]; /* how far the lowest score so far is below the base */

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
            const Floats scale = every(attention.scale * bits_of_e); /* scores are powers of two */
            for (size_t d = 0; d < width; d += 8) {
                Ints eight[8];
                for (size_t i = 0; i < lanes; i++) {
                    const Floats x = rows[i] ? load_floats(rows[i] + d) : every(0);
                    eight[i] = bits_of(multiply(x, scale));
                }
                transpose(eight);
                for (size_t i = 0; i < 8; i++) {
                    store_ints(target + (d + i) * lanes, eight[i]);
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
                store_floats(target + i * width + d, from_halves(halves + d));
            }
        }
    }

    /* The scores of `count` cells: products of their keys with one or two vectors of queries. */
    template <int wide, int count>
    void score(const float *queries, const float *keys, float *scores) {
        Floats sums[count][wide];
#pragma GCC unroll 12
        for (int c = 0; c < count; c++) {
#pragma GCC unroll 2
            for (int v = 0; v < wide; v++) {
                sums[c][v] = every(0);
            }
        }
        for (size_t d = 0; d < width; d++) {
            Floats query[wide];
#pragma GCC unroll 2
            for (int v = 0; v < wide; v++) {
                query[v] = load_floats(queries + (v * width + d) * lanes);
            }
#pragma GCC unroll 12
            for (int c = 0; c < count; c++) {
                const Floats key = every(keys[c * width + d]);
#pragma GCC unroll 2
                for (int v = 0; v < wide; v++) {
                    sums[c][v] = multiply_add(key, query[v], sums[c][v]);
                }
            }
        }
#pragma GCC unroll 12
        for (int c = 0; c < count; c++) {
#pragma GCC unroll 2
            for (int v = 0; v < wide; v++) {
                store_floats(scores + (v * most_cells + c) * lanes, sums[c][v]);
            }
        }
    }

    /* Add the mask to a vector's scores. */
    void add_mask(const Cells &cells, size_t vector, float *scores) {
        const size_t half = size > lanes ? vector % 2 * lanes : 0;
        for (size_t c = 0; c < cells.in_block(); c++) {
            const Floats mask = from_halves(cells.added[c] + half);
            const Floats score = multiply_add(mask, every(bits_of_e), load_floats(scores + c * lanes));
            store_floats(scores + c * lanes, score);
        }
    }

    /* The highest score so far, rounded up. */
    Floats next_base(size_t vector, size_t count, const float *scores) const {
        Floats most = load_floats(base[vector]);
        for (size_t c = 0; c < count; c++) {
            most = larger(most, load_floats(scores + c * lanes));
        }
        return round_up(most);
    }

    /* Whether all cells can be added with the base that the block ends with: the results then have the same bits as if
     * the base grew from cell to cell. */
    bool at_once(size_t vector, size_t count, const float *scores) {
        const Floats before = load_floats(base[vector]), after = next_base(vector, count, scores);
        const Floats growth = zero_where_equal(subtract(after, before), before, -__builtin_inff());
        Floats most = add(load_floats(depth[vector]), growth);
        for (size_t c = 0; c < count; c++) {
            const Floats score = load_floats(scores + c * lanes);
            most = larger(zero_where_equal(subtract(after, score), score, -__builtin_inff()), most);
        }
        store_floats(depth[vector], most);
        return !any_differ(after, before) || !any_differ(larger(most, every(most_depth)), every(most_depth));
    }

    /* Replace each of a vector's scores by 2^(score - base). The base is the highest score so far, rounded up. When it
     * grows, the sums so far are multiplied by a power of two, which rounds nothing (see `at_once`). So a lane's results
     * do not depend on how its cells are divided into blocks, nor on cells that it must not read. */
    void soften(size_t vector, size_t count, float *scores) {
        const Floats before = load_floats(base[vector]), after = next_base(vector, count, scores);
        /* A lane that has read no cell yet has minus infinity as its base, which must not be subtracted. */
        const Floats zero = zero_where_equal(after, after, -__builtin_inff());
        const Floats factor = power_of_two(before, zero);
        Floats total = multiply(load_floats(sum[vector]), factor);
        for (size_t c = 0; c < count; c++) {
            const Floats weight = power_of_two(load_floats(scores + c * lanes), zero);
            total = add(total, weight);
            store_floats(scores + c * lanes, weight);
        }
        store_floats(base[vector], after);
        store_floats(sum[vector], total);
        if (any_differ(after, before)) {
            float *const result = buffer.results + vector * width * lanes;
            for (size_t d = 0; d < width; d++) {
                store_floats(result + d * lanes, multiply(load_floats(result + d * lanes), factor));
            }
        }
    }

    /* Add `count` elements of the cells' values, times the weights, to one or two vectors' results. */
    template <int wide, int count>
    void add_values(size_t cells, const float *weights, const float *values, float *results) {
        Floats sums[count][wide];
#pragma GCC unroll 12
        for (int e = 0; e < count; e++) {
#pragma GCC unroll 2
            for (int v = 0; v < wide; v++) {
                sums[e][v] = load_floats(results + (v * width + e) * lanes);
            }
        }
        for (size_t c = 0; c < cells; c++) {
            Floats weight[wide];
#pragma GCC unroll 2
            for (int v = 0; v < wide; v++) {
                weight[v] = load_floats(weights + (v * most_cells + c) * lanes);
            }
#pragma GCC unroll 12
            for (int e = 0; e < count; e++) {
                const Floats value = every(values[c * width + e]);
#pragma GCC unroll 2
                for (int v = 0; v < wide; v++) {
                    sums[e][v] = multiply_add(value, weight[v], sums[e][v]);
                }
            }
        }
#pragma GCC unroll 12
        for (int e = 0; e < count; e++) {
#pragma GCC unroll 2
            for (int v = 0; v < wide; v++) {
                store_floats(results + (v * width + e) * lanes, sums[e][v]);
            }
        }
    }

    /* Add cells whose scores are known to one or two vectors. */
    template <int wide>
    void add_cells(size_t vector, size_t count, float *scores, const float *values) {
        constexpr int most = 12 / wide;
        float *const results = buffer.results + vector * width * lanes;
        for (int v = 0; v < wide; v++) {
            soften(vector + v, count, scores + v * most_cells * lanes);
        }
        size_t d = 0;
        for (; d + most <= width; d += most) {
            add_values<wide, most>(count, scores, values + d, results + d * lanes);
        }
        for (; d + 4 <= width; d += 4) {
            add_values<wide, 4>(count, scores, values + d, results + d * lanes);
        }
        for (; d < width; d += 2) {
            add_values<wide, 2>(count, scores, values + d, results + d * lanes);
        }
    }

    /* Add a block of cells to one or two vectors. */
    template <int wide>
    void add_block(size_t vector, const Cells &cells) {
        constexpr int count = 12 / wide;
        const float *const queries = buffer.queries + vector * width * lanes;
        const size_t in_block = cells.in_block();
        for (size_t c = 0; c < in_block; c += count) { /* what comes after the block is ignored */
            score<wide, count>(queries, buffer.keys + c * width, buffer.weights + c * lanes);
        }
        bool together = true;
        for (int v = 0; v < wide; v++) {
            float *const scores = buffer.weights + v * most_cells * lanes;
            add_mask(cells, vector + v, scores);
            together &= at_once(vector + v, in_block, scores);
        }
        const size_t step = together ? in_block : 1;
        for (size_t c = 0; c < in_block; c += step) {
            add_cells<wide>(vector, step, buffer.weights + c * lanes, buffer.values + c * width);
        }
    }

    void write() {
        for (size_t vector = 0; vector < vectors; vector++) {
            const Floats total = load_floats(sum[vector]);
            const Floats factor = zero_where_equal(divide(every(1), total), total, 0);
            for (size_t d = 0; d < width; d += 8) {
                Ints eight[8];
                for (size_t i = 0; i < 8; i++) {
                    const Floats x = load_floats(buffer.results + (vector * width + d + i) * lanes);
                    eight[i] = bits_of(multiply(x, factor));
                }
                transpose(eight);
                for (size_t i = 0; i < lanes; i++) {
                    const Lane one = lane(vector, i);
                    if (one.in_use) {
                        const size_t place = one.token * attention.y_stride + one.head * attention.y_head_stride;
                        store_ints((float *)((uint8_t *)attention.y + place) + d, eight[i]);
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
            store_floats(base[vector], every(-__builtin_inff()));
            store_floats(sum[vector], every(0));
            store_floats(depth[vector], every(0));
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
