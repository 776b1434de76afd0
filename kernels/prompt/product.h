/* One matrix product, and the functions by which a variant of the kernels computes products and attention. */
#pragma once

#include "ecellm_prompt.h"

#include <cstddef>
#include <cstdint>

/* y = w x for each column of x: w (rows, depth) in blocks of a quantized type, x (columns, depth) and y (columns, rows)
 * in float32. Strides are bytes from one row of w, or one column of x or y, to the next. `depth` is a multiple of the
 * type's block. */
struct Product {
    int type;
    const uint8_t *w;
    const float *x;
    float *y;
    size_t w_stride, x_stride, y_stride;
    size_t depth, rows, columns;
    bool stable; /* whether a column must have the same bits whatever the number of columns */
};

/* The work that a thread does at a time: a panel's rows for the groups [first, last) of columns. `next` is the panel
 * that the thread will probably compute next. */
struct Piece {
    size_t panel, next, first, last;
};

struct AttentionPiece; /* see attention.h */

struct Variant {
    const char *name;

    /* The number of rows of w in a panel. */
    size_t panel_rows;

    /* Whether this processor and operating system can run it. */
    bool (*runs)();

    /* Whether there are kernels for a type of weights (ggml's number), and how many weights its block has. */
    bool (*has_type)(int type);
    size_t (*block_weights)(int type);

    /* The number of columns of x in a group. */
    size_t (*group_columns)(const Product &product);

    /* Bytes for the quantized activations of a product; the memory must be aligned to 64. */
    size_t (*activation_bytes)(const Product &product);

    /* Quantize a group of columns of x into `activations`. */
    void (*quantize)(const Product &product, uint8_t *activations, size_t group);

    /* Compute a piece. A column's result depends neither on the other columns' values nor on how the work is cut. */
    void (*multiply)(const Product &product, const uint8_t *activations, const Piece &piece);

    /* Bytes that a thread needs for an attention; the memory must be aligned to 64. */
    size_t (*attention_bytes)(const ecellm_attention &attention);

    /* Compute a piece of an attention. */
    void (*attend)(const ecellm_attention &attention, uint8_t *memory, const AttentionPiece &piece);
};
