/* A variant of the kernels, compiled for one kind of processor. ECELLM_VARIANT is its name. The files of x86/ or neon/
 * have what differs: vectors (lanes.h, wide.h), how weights and activations are stored (formats.h), and sums of products
 * (products.h; with AMX amx_products.h too). */
#include "attend.h"
#include "few.h"
#include "processor.h"
#include "tile.h"
#if defined(ECELLM_AMX)
#include "amx_products.h"
#endif

namespace {

/* How a type is computed. */
struct Kernel {
    int type;
    size_t block_weights, group_columns;
    size_t (*activation_bytes)(const Product &);
    void (*quantize)(const Product &, uint8_t *, size_t);
    void (*multiply)(const Product &, const uint8_t *, const Piece &);
    size_t least_columns = 0; /* with fewer columns another kernel is faster */
};

/* One group of columns, `columns` of them in use. */
template <int columns, bool minima, class Block, class X>
inline void multiply_group(const Product &product, const Block *panel, const X *x, size_t count, float *y, size_t rows,
                           bool first) {
    Tile<columns> tile;
    multiply_slice<columns, minima>(panel, x, count, tile);
    write(tile, y, product.y_stride, rows, first);
}

template <class Weights, class Block, class X, bool minima>
struct Of {
    static Activations<X> activations(const Product &product, const uint8_t *memory) {
        return Activations<X>(product, memory, panel_blocks<Block>);
    }

    static size_t bytes(const Product &product) {
        return activations(product, nullptr).bytes();
    }

    static void quantize(const Product &product, uint8_t *memory, size_t group) {
        activations(product, memory).quantize(product, group);
    }

    static void multiply(const Product &product, const uint8_t *memory, const Piece &piece) {
        alignas(64) Block blocks[panel_blocks<Block>];
        const Activations<X> x = activations(product, memory);
        const size_t row = piece.panel * panel_rows, rows = product.rows - row;
        const PanelRows weights(product, row), next(product, piece.next * panel_rows);
        constexpr size_t block_bytes = sizeof(Weights) * block_depth / weights_in<Weights>;
        for (size_t start = 0; start < x.depth; start += x.slice) {
            const size_t count = start + x.slice < x.depth ? x.slice : x.depth - start, end = start + count;
            unpack<Weights>(weights, start, count, blocks);
            const bool whole = end == x.depth; /* the next panel comes next */
            Ahead ahead(whole ? next : weights, whole ? 0 : end * block_bytes, count * block_bytes, piece.last - piece.first);
            for (size_t group = piece.first; group < piece.last; group++) {
                ahead.fetch();
                const size_t column = group * columns_in_group;
                float *y = (float *)((uint8_t *)product.y + column * product.y_stride) + row;
                const X *block = x.at(start, group);
                const size_t left = product.columns - column;
                switch (left < columns_in_group ? left : columns_in_group) {
                case 1: multiply_group<1, minima>(product, blocks, block, count, y, rows, start == 0); break;
                case 2: multiply_group<2, minima>(product, blocks, block, count, y, rows, start == 0); break;
                case 3: multiply_group<3, minima>(product, blocks, block, count, y, rows, start == 0); break;
                case 4: multiply_group<4, minima>(product, blocks, block, count, y, rows, start == 0); break;
                case 5: multiply_group<5, minima>(product, blocks, block, count, y, rows, start == 0); break;
                default: multiply_group<6, minima>(product, blocks, block, count, y, rows, start == 0);
                }
            }
        }
    }
};

template <class Weights, class Block, class X, bool minima>
constexpr Kernel kernel(int type) {
    using One = Of<Weights, Block, X, minima>;
    return {type, weights_in<Weights>, columns_in_group, One::bytes, One::quantize, One::multiply};
}

constexpr Kernel kernels[] = {
    kernel<Q4_0, BytePanelBlock, ByteActivations, false>(type_q4_0),
    kernel<Q4_1, BytePanelBlock, ByteActivations, true>(type_q4_1),
    kernel<Q5_0, BytePanelBlock, ByteActivations, false>(type_q5_0),
    kernel<Q5_1, BytePanelBlock, ByteActivations, true>(type_q5_1),
    kernel<Q4_K, BytePanelBlock, ByteActivations, true>(type_q4_k),
    kernel<Q5_K, BytePanelBlock, ByteActivations, true>(type_q5_k),
    kernel<Q2_K, HalfMinimumPanelBlock, HalfByteActivations, true>(type_q2_k),
    kernel<F16, FloatPanelBlock, FloatActivations, false>(type_f16),
    kernel<BF16, FloatPanelBlock, FloatActivations, false>(type_bf16),
    kernel<Q3_K, HalfPanelBlock, ByteActivations, false>(type_q3_k),
    kernel<Q6_K, HalfPanelBlock, ByteActivations, false>(type_q6_k),
    kernel<Q8_0, WordPanelBlock, WordActivations, false>(type_q8_0),
};

/* Of products of few columns; floats have none of their own. */
template <class Few>
constexpr Kernel few_kernel(int type) {
    using One = FewColumns<Few>;
    return {type, weights_in<typename Few::Weights>, columns_in_group, One::bytes, One::quantize, One::multiply};
}

constexpr Kernel few_kernels[] = {
    few_kernel<FewOfBytes<Q4_0, BytePanelBlock, false>>(type_q4_0),
    few_kernel<FewOfBytes<Q4_1, BytePanelBlock, true>>(type_q4_1),
    few_kernel<FewOfBytes<Q5_0, BytePanelBlock, false>>(type_q5_0),
    few_kernel<FewOfBytes<Q5_1, BytePanelBlock, true>>(type_q5_1),
    few_kernel<FewOfBytes<Q4_K, BytePanelBlock, true>>(type_q4_k),
    few_kernel<FewOfBytes<Q5_K, BytePanelBlock, true>>(type_q5_k),
    few_kernel<FewOfHalves<Q2_K, HalfMinimumPanelBlock, true>>(type_q2_k),
    few_kernel<FewOfHalves<Q3_K, HalfPanelBlock, false>>(type_q3_k),
    few_kernel<FewOfHalves<Q6_K, HalfPanelBlock, false>>(type_q6_k),
    few_kernel<FewOfWords<Q8_0, WordPanelBlock, false>>(type_q8_0),
};

#if defined(ECELLM_AMX)
/* With fewer columns than `least`, unpacking takes longer than AMX saves. Measured with SmolLM2-135M's shapes. */
template <class Type, size_t least>
constexpr Kernel amx_kernel(int type) {
    using One = AmxColumns<Type>;
    return {type, weights_in<typename Type::Weights>, amx_columns, One::bytes, One::quantize, One::multiply, least};
}

/* F16 has none: in bfloat16 its products would be less exact than ggml's. */
constexpr Kernel amx_kernels[] = {
    amx_kernel<Pairs<Q4_0, EightScales, false>, 64>(type_q4_0),
    amx_kernel<Pairs<Q4_1, EightScales, true>, 64>(type_q4_1),
    amx_kernel<Pairs<Q5_0, EightScales, false>, 64>(type_q5_0),
    amx_kernel<Pairs<Q5_1, EightScales, true>, 64>(type_q5_1),
    amx_kernel<Pairs<Q4_K, EightScales, true>, 64>(type_q4_k),
    amx_kernel<Pairs<Q5_K, EightScales, true>, 64>(type_q5_k),
    amx_kernel<Pairs<Q2_K, EightHalfScales, true>, 32>(type_q2_k),
    amx_kernel<Pairs<Q3_K, EightHalfScales, false>, 32>(type_q3_k),
    amx_kernel<Pairs<Q6_K, EightHalfScales, false>, 32>(type_q6_k),
    amx_kernel<Pairs<Q8_0, EightScales, false>, 32>(type_q8_0),
    amx_kernel<Pairs<BF16, void, false>, 16>(type_bf16),
};
#endif

template <size_t count>
const Kernel *find(const Kernel (&kernels)[count], int type) {
    for (const Kernel &each : kernels) {
        if (each.type == type) {
            return &each;
        }
    }
    return nullptr;
}

const Kernel &kernel_of(const Product &product) {
    const Kernel *found = nullptr;
#if defined(ECELLM_AMX)
    found = find(amx_kernels, product.type);
    if (found && !product.stable && product.columns < found->least_columns) {
        found = nullptr;
    }
#endif
    if (!found && product.columns <= few_columns) {
        found = find(few_kernels, product.type);
    }
    return found ? *found : *find(kernels, product.type);
}

bool runs() {
    return processor_runs();
}

bool has_type(int type) {
    return find(kernels, type) != nullptr;
}

size_t block_weights(int type) {
    return find(kernels, type)->block_weights;
}

size_t group_columns_of(const Product &product) {
    return kernel_of(product).group_columns;
}

size_t activation_bytes(const Product &product) {
    return kernel_of(product).activation_bytes(product);
}

void quantize(const Product &product, uint8_t *activations, size_t group) {
    kernel_of(product).quantize(product, activations, group);
}

void multiply(const Product &product, const uint8_t *activations, const Piece &piece) {
    kernel_of(product).multiply(product, activations, piece);
}

size_t attention_bytes(const Attention &attention) {
    return (Buffer::bytes(attention.width) + 63) / 64 * 64;
}

void attend(const Attention &attention, uint8_t *memory, const AttentionPiece &piece) {
    attend_tile(attention, memory, piece, attention_tokens);
}

} // namespace

#define ECELLM_JOIN(a, b) a##b
#define ECELLM_SYMBOL(name) ECELLM_JOIN(prompt_variant_, name)
#define ECELLM_TEXT(name) #name
#define ECELLM_NAME(name) ECELLM_TEXT(name)

extern "C" const Variant ECELLM_SYMBOL(ECELLM_VARIANT);
const Variant ECELLM_SYMBOL(ECELLM_VARIANT) = {
    ECELLM_NAME(ECELLM_VARIANT), panel_rows, runs,     has_type,        block_weights, group_columns_of,
    activation_bytes,            quantize,   multiply, attention_bytes, attend,
};
