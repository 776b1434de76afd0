/* Powers of two of vectors of eight floats. */
#pragma once

#include "lanes.h"

#include <initializer_list>

namespace {

constexpr float bits_of_e = 0x1.715476p+0f; /* log2 e */

/* 2^(x - base) for a whole number `base` that is not below x, within 2 units in the last place. It is 0 below 2^-125, and
 * NaN if x or `base` is. The power of the fraction of x does not depend on the base. */
inline Floats power_of_two(Floats x, Floats base) {
    const Floats whole = nearest(x), exponent = subtract(whole, base), fraction = subtract(x, whole);
    /* Its Taylor polynomial of degree 6: the fraction times ln 2 is at most 0.347, so the rest is below 2^-23. */
    Floats power = every(0x1.430912p-13f);
    for (const float factor : {0x1.5d87fep-10f, 0x1.3b2ab6p-7f, 0x1.c6b08ep-5f, 0x1.ebfbep-3f, 0x1.62e43p-1f, 1.0f}) {
        power = multiply_add(power, fraction, every(factor));
    }
    const Ints shift = shift_ints_left(nearest_ints(exponent), 23);
    power = floats_of(add_ints(bits_of(power), shift));
    return keep_nan(exponent, zero_below(power, exponent, -125));
}

} // namespace
