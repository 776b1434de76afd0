/* Prints how many products a second one core computes if it does nothing else: no loads, no scales.
 *
 *     c++ -O2 benchmarks/peers/register_peak.cpp -o peak && ./peak VARIANT
 *
 * One line for each way: its name, and thousand million products a second, the best of several turns. The ways are the
 * instructions of a variant of kernels/prompt (default: avx2): `words` for Q8_0 (two products of 16 bits to a 32-bit
 * sum), `bytes` for types of six bits and fewer (two products of 8 bits to a 16-bit sum, with VNNI four to a 32-bit sum),
 * and `floats` for F16 and BF16.
 */
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

/* Twelve sums are enough to hide an instruction's latency. The factors are in registers 12 and 13. */
#define TWELVE(line, ...)                                                                                              \
    line("0", __VA_ARGS__) line("1", __VA_ARGS__) line("2", __VA_ARGS__) line("3", __VA_ARGS__) line("4", __VA_ARGS__) \
        line("5", __VA_ARGS__) line("6", __VA_ARGS__) line("7", __VA_ARGS__) line("8", __VA_ARGS__)                    \
            line("9", __VA_ARGS__) line("10", __VA_ARGS__) line("11", __VA_ARGS__)
#define REGISTER(width, number) "%%" width "mm" number
#define TWO_STEPS(sum, width, multiply, add)                                                                           \
    multiply " " REGISTER(width, "12") ", " REGISTER(width, "13") ", " REGISTER(width, "14") "\n"                      \
    add " " REGISTER(width, "14") ", " REGISTER(width, sum) ", " REGISTER(width, sum) "\n"
#define ONE_STEP(sum, width, multiply_add)                                                                             \
    multiply_add " " REGISTER(width, "12") ", " REGISTER(width, "13") ", " REGISTER(width, sum) "\n"

#define MEASURE(name, products, ...)                                                                                   \
    do {                                                                                                               \
        double best = 1e9;                                                                                             \
        for (int turn = 0; turn < 25; turn++) {                                                                        \
            long steps = 200000;                                                                                       \
            const auto start = std::chrono::steady_clock::now();                                                       \
            asm volatile("vzeroall\n1:\n" TWELVE(__VA_ARGS__) "sub $1, %0\n jnz 1b\n vzeroupper"                       \
                         : "+r"(steps)                                                                                 \
                         :                                                                                             \
                         : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",       \
                           "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                                      \
            best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());    \
        }                                                                                                              \
        std::printf("%s %.2f\n", name, 200000 * 12 * products / best / 1e9);                                           \
    } while (0)

int main(int count, char **arguments) {
    const char *const variant = count > 1 ? arguments[1] : "avx2";
    if (std::strncmp(variant, "avx", 3)) {
        std::fprintf(stderr, "%s is none of avx2, avxvnni, avx512 and avx512vnni\n", variant);
        return 2;
    }
    const bool vnni = std::strstr(variant, "vnni"), wide = std::strstr(variant, "avx512");
    if (wide && vnni) {
        MEASURE("words", 32, ONE_STEP, "z", "vpdpwssd");
        MEASURE("bytes", 64, ONE_STEP, "z", "vpdpbusd");
    } else if (wide) {
        MEASURE("words", 32, TWO_STEPS, "z", "vpmaddwd", "vpaddd");
        MEASURE("bytes", 64, TWO_STEPS, "z", "vpmaddubsw", "vpaddw");
    } else if (vnni) {
        MEASURE("words", 16, ONE_STEP, "y", "%{vex%} vpdpwssd");
        MEASURE("bytes", 32, ONE_STEP, "y", "%{vex%} vpdpbusd");
    } else {
        MEASURE("words", 16, TWO_STEPS, "y", "vpmaddwd", "vpaddd");
        MEASURE("bytes", 32, TWO_STEPS, "y", "vpmaddubsw", "vpaddw");
    }
    if (wide) {
        MEASURE("floats", 16, ONE_STEP, "z", "vfmadd231ps");
    } else {
        MEASURE("floats", 8, ONE_STEP, "y", "vfmadd231ps");
    }
}
