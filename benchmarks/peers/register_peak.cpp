/* Prints how many products a second one core computes if it does nothing else: no loads, no scales.
 *
 *     c++ -O2 benchmarks/peers/register_peak.cpp -o peak && ./peak
 *
 * One line for each way: its name, and thousand million products a second, the best of several turns. The ways are the
 * AVX2 instructions of kernels/prompt: `words` for Q8_0 (two products of 16 bits to a 32-bit sum), `bytes` for types of
 * six bits and fewer (two products of 8 bits to a 16-bit sum), and `floats` for F16 and BF16.
 */
#include <algorithm>
#include <chrono>
#include <cstdio>

/* Repeat an instruction for twelve sums, which is enough to hide its latency. The factors are in ymm12 and ymm13. */
#define TWELVE(line)                                                                                                   \
    line("0") line("1") line("2") line("3") line("4") line("5") line("6") line("7") line("8") line("9") line("10")     \
        line("11")
#define WORDS(sum) "vpmaddwd %%ymm12, %%ymm13, %%ymm14\n vpaddd %%ymm14, %%ymm" sum ", %%ymm" sum "\n"
#define BYTES(sum) "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n vpaddw %%ymm14, %%ymm" sum ", %%ymm" sum "\n"
#define FLOATS(sum) "vfmadd231ps %%ymm12, %%ymm13, %%ymm" sum "\n"

#define MEASURE(name, line, products)                                                                                  \
    do {                                                                                                               \
        double best = 1e9;                                                                                             \
        for (int turn = 0; turn < 25; turn++) {                                                                        \
            long steps = 200000;                                                                                       \
            const auto start = std::chrono::steady_clock::now();                                                       \
            asm volatile("vzeroall\n1:\n" TWELVE(line) "sub $1, %0\n jnz 1b\n vzeroupper"                              \
                         : "+r"(steps)                                                                                 \
                         :                                                                                             \
                         : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",       \
                           "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                                      \
            best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());    \
        }                                                                                                              \
        std::printf("%s %.2f\n", name, 200000 * 12 * products / best / 1e9);                                           \
    } while (0)

int main() {
    MEASURE("words", WORDS, 16);
    MEASURE("bytes", BYTES, 32);
    MEASURE("floats", FLOATS, 8);
}
