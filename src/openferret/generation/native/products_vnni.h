/* Products for processors with AVX-512 VNNI: one instruction multiplies 64 bytes and adds them up by fours. */
#ifndef OPENFERRET_PRODUCTS_VNNI_H
#define OPENFERRET_PRODUCTS_VNNI_H

#include "kernels.h"

static inline __m512i four_bytes(const int8_t *bytes) {
    int32_t four;
    memcpy(&four, bytes, 4);
    return _mm512_set1_epi32(four);
}

static inline __attribute__((always_inline)) void load_weights(
    const uint8_t *data, const int bits, int quad, __m512i *even, __m512i *odd
) {
    if (bits == 4) {
        const __m512i nibble = _mm512_set1_epi8(15), both = _mm512_loadu_si512(data + quad * 32);
        *even = _mm512_and_si512(both, nibble);
        *odd = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
    } else {
        *even = _mm512_loadu_si512(data + quad * 64);
        *odd = _mm512_loadu_si512(data + quad * 64 + 64);
    }
}

/* A group's products with `count` tokens, in whole numbers: the high bytes', times 128, and then the low bytes' on top. */
static inline __attribute__((always_inline)) void group_products(
    const uint8_t *data, const int bits, const Activations *x, const int count, __m512i *products
) {
    __m512i weights[GROUP / 4];
    for (int quad = 0; quad < GROUP / 4; quad += 2) load_weights(data, bits, quad, &weights[quad], &weights[quad + 1]);
    for (int t = 0; t < count; t++) products[t] = _mm512_setzero_si512();
    for (int quad = 0; quad < GROUP / 4; quad++)
        for (int t = 0; t < count; t++)
            products[t] = _mm512_dpbusd_epi32(products[t], weights[quad], four_bytes(x[t].high + quad * 4));
    for (int t = 0; t < count; t++) {
        products[t] = _mm512_slli_epi32(products[t], 7);
        if (bits == 8) products[t] = _mm512_add_epi32(products[t], _mm512_set1_epi32(x[t].correction));
    }
    for (int quad = 0; quad < GROUP / 4; quad++)
        for (int t = 0; t < count; t++)
            products[t] = _mm512_dpbusd_epi32(products[t], weights[quad], four_bytes(x[t].low + quad * 4));
}

/* The same for so few tokens that one chain of additions would be waited for: both bytes have their own. */
static inline __attribute__((always_inline)) void few_products(
    const uint8_t *data, const int bits, const Activations *x, const int count, __m512i *products
) {
    __m512i highs[TILE];
    for (int t = 0; t < count; t++) {
        products[t] = bits == 4 ? _mm512_setzero_si512() : _mm512_set1_epi32(x[t].correction);
        highs[t] = _mm512_setzero_si512();
    }
    for (int quad = 0; quad < GROUP / 4; quad += 2) {
        __m512i even, odd;
        load_weights(data, bits, quad, &even, &odd);
        for (int t = 0; t < count; t++) {
            highs[t] = _mm512_dpbusd_epi32(highs[t], even, four_bytes(x[t].high + quad * 4));
            products[t] = _mm512_dpbusd_epi32(products[t], even, four_bytes(x[t].low + quad * 4));
            highs[t] = _mm512_dpbusd_epi32(highs[t], odd, four_bytes(x[t].high + quad * 4 + 4));
            products[t] = _mm512_dpbusd_epi32(products[t], odd, four_bytes(x[t].low + quad * 4 + 4));
        }
    }
    for (int t = 0; t < count; t++) products[t] = _mm512_add_epi32(products[t], _mm512_slli_epi32(highs[t], 7));
}

/* `count` tokens times one block: 16 outputs each. Bits and count are constants, so that the sums are registers. */
static inline __attribute__((always_inline)) void tile(
    const Matrix *m, const int bits, int block, const Quantised *a, int token, const int count, float out[][BLOCK]
) {
    const int groups = m->inputs / GROUP, bytes = GROUP_BYTES * bits / 8, halves = bits == 4 ? 2 * BLOCK : BLOCK;
    const uint8_t *data = m->data + (size_t)block * groups * bytes;
    const uint16_t *scales = m->scales + (size_t)block * groups * halves;
    const Activations *x = activations_of(a, token, 0);
    vec sums[TILE];
    for (int t = 0; t < count; t++) sums[t] = (vec){0};
    for (int group = 0; group < groups; group++, data += bytes, scales += halves, x += a->tile) {
        __m512i products[TILE];
        if (count < 4) few_products(data, bits, x, count, products);
        else group_products(data, bits, x, count, products);
        vec scale = from_halves(scales);
        for (int t = 0; t < count; t++) {
            sums[t] += (vec)_mm512_cvtepi32_ps(products[t]) * (scale * x[t].scale);
            if (bits == 4) sums[t] += from_halves(scales + BLOCK) * x[t].total;
        }
    }
    for (int t = 0; t < count; t++) *(vec *)out[t] = sums[t];
}

#endif
