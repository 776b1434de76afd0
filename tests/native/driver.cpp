/* Quantize what comes on standard input: driver VARIANT TYPE ROWS COLUMNS IMPORTANCE(0 or 1).
 *
 * The importance, if there is one, then the weights, as float32; the blocks go to standard output. For processors that
 * Python does not run on here.
 */
#include "ecellm_kernels.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

int main(int count, char **arguments) {
    if (count != 6) {
        return 2;
    }
    ecellm_block block = {};
    block.rows = std::strtoul(arguments[3], nullptr, 10);
    block.columns = std::strtoul(arguments[4], nullptr, 10);
    std::vector<float> importance(arguments[5][0] == '1' ? block.columns : 0), weights(block.rows * block.columns);
    if (std::fread(importance.data(), 4, importance.size(), stdin) != importance.size()
        || std::fread(weights.data(), 4, weights.size(), stdin) != weights.size()) {
        return 3;
    }
    block.source_type = ECELLM_F32;
    block.source = weights.data();
    block.source_row_size = block.source_stride = block.columns * 4;
    block.source_size = weights.size() * 4;
    block.importance = importance.empty() ? nullptr : importance.data();
    block.target_type = std::atoi(arguments[2]);
    block.target_row_size = ecellm_row_size(block.target_type, block.columns);
    block.target_size = block.rows * block.target_row_size;
    std::vector<unsigned char> blocks(block.target_size);
    block.target = blocks.data();
    const int status = ecellm_convert_block(arguments[1], &block, 2, nullptr);
    if (status) {
        std::fprintf(stderr, "%s\n", ecellm_status_message(status));
        return 4;
    }
    return std::fwrite(blocks.data(), 1, blocks.size(), stdout) == blocks.size() ? 0 : 5;
}
