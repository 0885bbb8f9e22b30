/* Products for processors with AVX2, whose instruction for pairs of 16 bits needs no second product for 15-bit activations.
 *
 * In a 16-bit lane lie the weights of two inputs (eight bits) or of four (four bits). Masks and shifts leave one of them
 * in every lane, so nothing is ever moved from lane to lane: a lane and its neighbour are then the first and the third
 * input of four, or the second and the fourth, and activations lie in this order.
 */
#ifndef OPENFERRET_PRODUCTS_AVX2_H
#define OPENFERRET_PRODUCTS_AVX2_H

#include "kernels.h"

static inline __m256i two_activations(const int16_t *pair) {
    int32_t both;
    memcpy(&both, pair, 4);
    return _mm256_set1_epi32(both);
}

/* Weights of 16 outputs, a pair of inputs each, times the activations of `count` tokens. */
static inline __attribute__((always_inline)) void add_pairs(
    __m256i first, __m256i second, const Activations *x, int pair, const int count, __m256i products[][2]
) {
    for (int t = 0; t < count; t++) {
        __m256i both = two_activations(x[t].pairs + pair * 2);
        products[t][0] = _mm256_add_epi32(products[t][0], _mm256_madd_epi16(first, both));
        products[t][1] = _mm256_add_epi32(products[t][1], _mm256_madd_epi16(second, both));
    }
}

/* A group's products with `count` tokens, in whole numbers. */
static inline __attribute__((always_inline)) void group_products(
    const uint8_t *data, const int bits, const Activations *x, const int count, __m256i products[][2]
) {
    const __m256i mask = _mm256_set1_epi16(bits == 4 ? 15 : 255);
    for (int t = 0; t < count; t++)
        products[t][0] = products[t][1] = _mm256_set1_epi32(bits == 4 ? 0 : x[t].correction);
    for (int quad = 0; quad < GROUP / 4; quad += 8 / bits, data += 64) {
        __m256i first = _mm256_loadu_si256((const __m256i *)data), second = _mm256_loadu_si256((const __m256i *)data + 1);
        if (bits == 4) {
            __m256i first_odd = _mm256_srli_epi16(first, 4), second_odd = _mm256_srli_epi16(second, 4);
            add_pairs(_mm256_and_si256(first, mask), _mm256_and_si256(second, mask), x, quad * 2, count, products);
            add_pairs(
                _mm256_and_si256(_mm256_srli_epi16(first, 8), mask), _mm256_and_si256(_mm256_srli_epi16(second, 8), mask),
                x, quad * 2 + 1, count, products
            );
            add_pairs(
                _mm256_and_si256(first_odd, mask), _mm256_and_si256(second_odd, mask), x, quad * 2 + 2, count, products
            );
            add_pairs(_mm256_srli_epi16(first, 12), _mm256_srli_epi16(second, 12), x, quad * 2 + 3, count, products);
        } else {
            add_pairs(_mm256_and_si256(first, mask), _mm256_and_si256(second, mask), x, quad * 2, count, products);
            add_pairs(_mm256_srli_epi16(first, 8), _mm256_srli_epi16(second, 8), x, quad * 2 + 1, count, products);
        }
    }
}

/* `count` tokens times one block: 16 outputs each. Bits and count are constants, so that the sums are registers. */
static inline __attribute__((always_inline)) void tile(
    const Matrix *m, const int bits, int block, const Quantised *a, int token, const int count, float out[][BLOCK]
) {
    const int groups = m->inputs / GROUP, bytes = GROUP_BYTES * bits / 8, halves = bits == 4 ? 2 * BLOCK : BLOCK;
    const uint8_t *data = m->data + (size_t)block * groups * bytes;
    const uint16_t *scales = m->scales + (size_t)block * groups * halves;
    const Activations *x = activations_of(a, token, 0);
    __m256 sums[TILE][2];
    for (int t = 0; t < count; t++) sums[t][0] = sums[t][1] = _mm256_setzero_ps();
    for (int group = 0; group < groups; group++, data += bytes, scales += halves, x += a->tile) {
        __m256i products[TILE][2];
        group_products(data, bits, x, count, products);
        for (int half = 0; half < 2; half++) {
            __m256 scale = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)scales + half));
            for (int t = 0; t < count; t++) {
                __m256 factor = _mm256_mul_ps(scale, _mm256_set1_ps(x[t].scale));
                sums[t][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products[t][half]), factor, sums[t][half]);
            }
            if (bits == 4) {
                __m256 lowest = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)scales + 2 + half));
                for (int t = 0; t < count; t++)
                    sums[t][half] = _mm256_fmadd_ps(lowest, _mm256_set1_ps(x[t].total), sums[t][half]);
            }
        }
    }
    for (int t = 0; t < count; t++)
        for (int half = 0; half < 2; half++) _mm256_storeu_ps(out[t] + half * 8, sums[t][half]);
}

#endif
