/* Products for ARM processors with dot products of bytes: four outputs an instruction, four inputs each. */
#ifndef OPENFERRET_PRODUCTS_NEON_H
#define OPENFERRET_PRODUCTS_NEON_H

#include "kernels.h"

enum { QUARTERS = BLOCK / 4, AT_ONCE = 3 }; /* tokens: their sums are 24 of 32 registers */

static inline int8x16_t four_bytes(const int8_t *bytes) {
    int32_t four;
    memcpy(&four, bytes, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

/* Weights of four inputs of a group for all 16 outputs, as signed bytes. */
static inline __attribute__((always_inline)) void load_weights(
    const uint8_t *data, const int bits, int quad, int8x16_t weights[QUARTERS]
) {
    for (int i = 0; i < QUARTERS; i++) {
        uint8x16_t raw = vld1q_u8(data + (bits == 4 ? quad / 2 : quad) * 64 + i * 16);
        if (bits == 8) raw = veorq_u8(raw, vdupq_n_u8(128)); /* takes the + 128 out again */
        else raw = quad % 2 ? vshrq_n_u8(raw, 4) : vandq_u8(raw, vdupq_n_u8(15));
        weights[i] = vreinterpretq_s8_u8(raw);
    }
}

/* A group's products with at most AT_ONCE tokens, in whole numbers. */
static inline __attribute__((always_inline)) void group_products(
    const uint8_t *data, const int bits, const Activations *x, const int count, int32x4_t products[][QUARTERS]
) {
    int32x4_t highs[AT_ONCE][QUARTERS];
    for (int t = 0; t < count; t++)
        for (int i = 0; i < QUARTERS; i++) highs[t][i] = products[t][i] = vdupq_n_s32(0);
    for (int quad = 0; quad < GROUP / 4; quad++) {
        int8x16_t weights[QUARTERS];
        load_weights(data, bits, quad, weights);
        for (int t = 0; t < count; t++) {
            int8x16_t high = four_bytes(x[t].high + quad * 4), low = four_bytes(x[t].low + quad * 4);
            for (int i = 0; i < QUARTERS; i++) {
                highs[t][i] = vdotq_s32(highs[t][i], weights[i], high);
                products[t][i] = vdotq_s32(products[t][i], weights[i], low);
            }
        }
    }
    for (int t = 0; t < count; t++)
        for (int i = 0; i < QUARTERS; i++) products[t][i] = vaddq_s32(products[t][i], vshlq_n_s32(highs[t][i], 7));
}

/* `count` tokens, at most AT_ONCE, times one block. */
static inline __attribute__((always_inline)) void few_tokens(
    const Matrix *m, const int bits, int block, const Activations *x, int stride, const int count, float out[][BLOCK]
) {
    const int groups = m->inputs / GROUP, bytes = GROUP_BYTES * bits / 8, halves = bits == 4 ? 2 * BLOCK : BLOCK;
    const uint8_t *data = m->data + (size_t)block * groups * bytes;
    const uint16_t *scales = m->scales + (size_t)block * groups * halves;
    vec sums[AT_ONCE][QUARTERS];
    for (int t = 0; t < count; t++)
        for (int i = 0; i < QUARTERS; i++) sums[t][i] = (vec){0};
    for (int group = 0; group < groups; group++, data += bytes, scales += halves, x += stride) {
        int32x4_t products[AT_ONCE][QUARTERS];
        group_products(data, bits, x, count, products);
        for (int i = 0; i < QUARTERS; i++) {
            vec scale = from_halves(scales + i * 4);
            for (int t = 0; t < count; t++) {
                sums[t][i] += (vec)vcvtq_f32_s32(products[t][i]) * (scale * x[t].scale);
                if (bits == 4) sums[t][i] += from_halves(scales + BLOCK + i * 4) * x[t].total;
            }
        }
    }
    for (int t = 0; t < count; t++)
        for (int i = 0; i < QUARTERS; i++) *(vec *)(out[t] + i * 4) = sums[t][i];
}

/* `count` tokens times one block: 16 outputs each. Bits and count are constants, so that the sums are registers. */
static inline __attribute__((always_inline)) void tile(
    const Matrix *m, const int bits, int block, const Quantised *a, int token, const int count, float out[][BLOCK]
) {
    const Activations *x = activations_of(a, token, 0);
    few_tokens(m, bits, block, x, a->tile, count < AT_ONCE ? count : AT_ONCE, out);
    if (count > AT_ONCE) few_tokens(m, bits, block, x + AT_ONCE, a->tile, count - AT_ONCE, out + AT_ONCE);
}

#endif
