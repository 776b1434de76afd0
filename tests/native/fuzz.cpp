/* Calls the ABI with arguments that nobody should pass: fuzz SEED CALLS.
 *
 * Built with the address and undefined-behaviour sanitizers, which end the process where something is found. Of the
 * calls that succeed, all variants must give the same bytes. Prints how many calls ended with which status.
 */
#include "ecellm_kernels.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace {

std::mt19937_64 generator;

size_t below(size_t limit) {
    return generator() % limit;
}

bool one_in(size_t chances) {
    return below(chances) == 0;
}

/* A size that is right, now and then one that is not. */
size_t spoilt(size_t right) {
    static const size_t wrong[] = {0, 1, 3, SIZE_MAX, SIZE_MAX / 4 + 1, (size_t)1 << 62};
    return one_in(60) ? (one_in(2) ? wrong[below(6)] : right + below(9) - 4) : right;
}

float value(int kind) {
    switch (kind) {
    case 0:
        return std::normal_distribution<float>()(generator);
    case 1:
        return 0;
    case 2:
        return std::normal_distribution<float>()(generator) * 1e-42f;
    case 3:
        return std::normal_distribution<float>()(generator) * 1e38f;
    case 4:
        return 1.5f;
    default: {
        const uint32_t bits = (uint32_t)generator();
        float any;
        std::memcpy(&any, &bits, sizeof any);
        return std::isfinite(any) ? any : 0;
    }
    }
}

std::vector<float> floats(size_t count) {
    std::vector<float> made(count);
    int kind = (int)below(6);
    for (float &each : made) {
        kind = one_in(64) ? (int)below(6) : kind;
        each = value(kind);
    }
    if (count && one_in(20)) {
        made[below(count)] = one_in(2) ? INFINITY : std::numeric_limits<float>::quiet_NaN();
    }
    return made;
}

/* A stand-in for ggml's functions, which lie outside of this library: bytes that are a weight each. */
void to_float(const void *blocks, float *weights, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        weights[i] = ((const unsigned char *)blocks)[i];
    }
}

size_t quantize_chunk(int type, const float *weights, void *blocks, int64_t start, int64_t rows, int64_t columns,
                      const float *) {
    if (const size_t size = (size_t)rows * ecellm_row_size(type, (size_t)columns)) {
        std::memset((unsigned char *)blocks + start, weights[0] > 0, size);
        return size;
    }
    for (int64_t i = 0; i < rows * columns; i++) {
        ((unsigned char *)blocks)[start + i] = weights[i] > 0;
    }
    return (size_t)(rows * columns);
}

int call(std::vector<size_t> &statuses, const std::vector<std::string> &variants) {
    static const int types[] = {ECELLM_F32, ECELLM_F16, ECELLM_BF16, ECELLM_Q2_K, ECELLM_Q3_K, ECELLM_Q4_K,
                                ECELLM_Q5_K, ECELLM_Q6_K, ECELLM_Q4_0, ECELLM_Q4_1, ECELLM_Q5_0, ECELLM_Q5_1,
                                ECELLM_Q8_0, -1, 20, 99};
    ecellm_block block = {};
    const size_t rows = below(20);
    const size_t columns = one_in(8) ? below(600) : one_in(8) ? 32 * below(20) : 256 * (1 + below(3));
    block.source_type = types[one_in(12) ? below(16) : below(3)];
    block.target_type = types[one_in(3) ? below(16) : 3 + below(10)];
    const bool foreign_source = !ecellm_row_size(block.source_type, 256);
    const bool foreign_target = !ecellm_row_size(block.target_type, 256);
    const size_t row_size = foreign_source ? columns : ecellm_row_size(block.source_type, columns);
    const size_t stride = row_size + (one_in(4) ? 8 : 0), source_size = rows ? (rows - 1) * stride + row_size : 0;
    const size_t target_row = foreign_target ? columns : ecellm_row_size(block.target_type, columns);

    /* Exactly as large as they are said to be, so that the sanitizer sees one byte too many. */
    std::vector<float> source_values = floats((source_size + 3) / 4);
    std::vector<unsigned char> source(source_size), target(rows * target_row);
    if (source_size) {
        std::memcpy(source.data(), source_values.data(), source_size);
    }
    std::vector<std::vector<float>> factors;
    std::vector<ecellm_adapter> adapters(one_in(2) ? 0 : below(4));
    for (ecellm_adapter &adapter : adapters) {
        adapter.rank = 1 + below(9);
        factors.push_back(floats(adapter.rank * columns));
        adapter.a = factors.back().data();
        factors.push_back(floats(rows * adapter.rank));
        adapter.b = factors.back().data();
        adapter.scale = one_in(9) ? value(5) : 0.5f;
        adapter.rank = one_in(50) ? (one_in(2) ? 0 : 257) : adapter.rank;
        adapter.a = one_in(80) ? nullptr : adapter.a;
        adapter.b = one_in(80) ? nullptr : adapter.b;
    }
    const std::vector<float> magnitudes = floats(rows), importance = floats(columns);
    std::vector<uint32_t> order(rows);
    for (uint32_t &row : order) {
        row = (uint32_t)below(rows + (one_in(40) ? 1 : 0));
    }

    /* A shape that is claimed to be larger than it is can only be found out by the sizes. */
    block.rows = spoilt(rows) == rows ? rows : rows + 1;
    block.columns = columns;
    block.source = one_in(60) ? nullptr : source.data() + (one_in(60) && source_size ? 1 : 0);
    block.source_stride = spoilt(stride);
    block.source_size = source_size;
    block.source_row_size = spoilt(row_size);
    if (foreign_source && block.source_row_size != row_size) {
        block.source_row_size = row_size; /* ggml's function reads what the caller says a row is */
    }
    block.to_float = foreign_source && !one_in(20) ? to_float : nullptr;
    block.adapters = one_in(60) ? nullptr : adapters.data();
    block.adapter_count = one_in(80) ? 65 : adapters.size();
    block.magnitudes = one_in(3) ? magnitudes.data() : nullptr;
    block.order = one_in(3) ? order.data() : nullptr;
    block.importance = one_in(2) ? importance.data() : nullptr;
    block.target = one_in(60) ? nullptr : target.data();
    block.target_size = spoilt(target.size());
    block.target_row_size = foreign_target ? target_row : spoilt(target_row);
    block.quantize_chunk = one_in(20) ? nullptr : quantize_chunk;
    if (block.source && block.target && one_in(60) && source_size && target.size() <= source_size) {
        block.target = source.data(); /* they overlap */
    }
    if (block.source != source.data() && block.source) {
        block.source_size = source_size - 1; /* it begins one byte later */
    }
    if (one_in(60)) {
        block.source_size = SIZE_MAX;
    }
    if (one_in(60) && columns) {
        block.importance = (const float *)((const char *)importance.data() + 2); /* not read: it is not aligned */
    }
    if (one_in(60)) { /* more than memory can hold: no buffer is as large as it would be */
        block.rows = (size_t)1 << 60;
        block.columns = (size_t)1 << 12;
    }
    if (block.rows > rows) { /* the other arrays are taken at their word, so they may not be short */
        block.magnitudes = nullptr;
        block.order = nullptr;
        block.adapter_count = 0;
    }

    std::vector<unsigned char> first;
    int result = ECELLM_OK;
    for (const std::string &variant : variants) {
        ecellm_place place = {};
        const char *name = one_in(50) ? (one_in(2) ? nullptr : "abacus") : variant.c_str();
        result = ecellm_convert_block(name, &block, one_in(50) ? UINT32_MAX : (unsigned)below(4), &place);
        statuses[(size_t)result]++;
        if (result == ECELLM_NOT_FINITE && (place.row > block.rows || place.column >= block.columns)) {
            std::fprintf(stderr, "a place that is not there\n");
            std::abort();
        }
        if (result == ECELLM_OK && block.target == target.data()) {
            if (first.empty()) {
                first = target;
            } else if (first != target) {
                std::fprintf(stderr, "%s gives other bytes for type %d\n", variant.c_str(), block.target_type);
                std::abort();
            }
        }
    }
    return result;
}

} // namespace

int main(int count, char **arguments) {
    if (count != 3) {
        return 2;
    }
    generator.seed(std::strtoull(arguments[1], nullptr, 10));
    std::vector<std::string> variants;
    std::istringstream names(ecellm_variants());
    for (std::string name; names >> name;) {
        variants.push_back(name);
    }
    std::vector<size_t> statuses(11);
    if (ecellm_convert_block(nullptr, nullptr, 1, nullptr) != ECELLM_NULL_POINTER) {
        std::abort();
    }
    for (long calls = std::strtol(arguments[2], nullptr, 10); calls > 0; calls--) {
        call(statuses, variants);
    }
    for (int status = 0; status < (int)statuses.size(); status++) {
        std::printf("%8zu  %s\n", statuses[(size_t)status], ecellm_status_message(status));
    }
    return 0;
}
