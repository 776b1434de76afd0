/* Holds quotient() of lanes.h against a division, for each numerator of search_scale.h and each fraction of a divisor.
 *
 * Nothing but the exponent changes with a divisor's exponent, as long as nothing underflows: the ends of its range and
 * the middle are tried.
 */
#include "lanes.h"

#include <cstdio>
#include <initializer_list>

int main() {
    long checked = 0;
    for (int most = 4; most <= 32; most += 28) {
        for (int step = -9; step <= 9; step++) {
            const float a = -((float)most + 0.1f * (float)step);
            for (uint32_t bits = 0; bits < 1u << 23; bits += lanes) {
                for (const int exponent : {-100, 0, 99}) {
                    Ints b = every_int((int32_t)(bits | (uint32_t)(exponent + 127) << 23));
                    for (int lane = 0; lane < lanes; lane++) {
                        b[lane] += lane;
                    }
                    const Floats divisor = (Floats)b, wanted = a / divisor;
                    if (any((Ints)quotient(a, divisor, 1.0f / divisor) != (Ints)wanted)) {
                        std::fprintf(stderr, "%a / 0x%x\n", a, (unsigned)b[0]);
                        return 1;
                    }
                    checked += lanes;
                }
            }
        }
    }
    std::printf("%ld\n", checked);
    return 0;
}
