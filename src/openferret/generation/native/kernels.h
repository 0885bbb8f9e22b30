/* What a language model's step is made of: products with weights of eight or four bits, norms, attention.
 *
 * Weights are stored in blocks of 16 outputs and groups of 32 inputs, with float16 numbers for each of the 16 outputs of
 * a group. Eight bits: [block][group][8][16][4] bytes, each a weight in units of its scale, + 128. Four bits:
 * [block][group][4][16][4] bytes, two weights each (the low half is of the even four inputs of eight, the high half of
 * the odd ones), in units of its scale above the lowest.
 * A matrix may have a low-rank part besides: what its `down` makes of the activations, times `up`.
 *
 * Activations are quantised in the same groups of 32 to 15 bits, as 128 times a high byte plus a low one: with eight bits
 * their rounding would be the larger error by far, and where a step waits for the weights to come from memory a second
 * product costs nothing. A group's product is exact in 32-bit integers; only the roundings are lossy.
 */
#ifndef OPENFERRET_KERNELS_H
#define OPENFERRET_KERNELS_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX512F__) && defined(__AVX512VNNI__) && defined(__F16C__)
#include <immintrin.h>
#define HAS_VNNI 1
#else
#define HAS_VNNI 0
#endif

enum { BLOCK = 16, GROUP = 32, GROUP_BYTES = BLOCK * GROUP, TILE = 6, LARGEST = 127 * 128 };

typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));
typedef int8_t bytes16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef int32_t ivec __attribute__((vector_size(64), aligned(4), may_alias));

typedef struct Matrix {
    const uint8_t *data;
    const uint16_t *scales;    /* float16 [blocks][groups][BLOCK]; of four bits [blocks][groups][2][BLOCK], then the lowest */
    const struct Matrix *down; /* of the low-rank part; NULL where there is none */
    const uint16_t *up;        /* float16 [blocks][rank][BLOCK] */
    const int32_t *branch;     /* [blocks]: which `rank` of what `down` gives belong to a block */
    int32_t inputs, blocks, bits, rank;
} Matrix;

/* A token's activations in one group, quantised. */
typedef struct {
    int8_t high[GROUP], low[GROUP]; /* -127..127 and -64..63 */
    float scale, total;
    int32_t correction; /* -128 times the sum, in units of the scale: takes the weights' + 128 out again */
} Activations;

/* Those of many tokens: [tokens / tile][inputs / GROUP][tile]. Tokens that are multiplied together lie together. */
typedef struct {
    Activations *groups;
    int32_t inputs, tile;
} Quantised;

static inline Activations *activations_of(const Quantised *q, int token, int group) {
    return q->groups + ((size_t)(token / q->tile) * (q->inputs / GROUP) + group) * q->tile + token % q->tile;
}

static inline vec splat(float value) { return value - (vec){0}; }

static inline float total(vec v) {
    float sum = 0;
    for (int i = 0; i < 16; i++) sum += v[i];
    return sum;
}

static inline vec choose(ivec mask, vec yes, vec no) {
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
}

/* e to the x: Cephes' polynomial, good to two units in the last place; x is clamped to what float32 holds. */
static inline vec exponential(vec x) {
    x = choose(x > 88.0f, splat(88.0f), x);
    x = choose(x < -87.0f, splat(-87.0f), x);
    vec t = x * 1.44269504088896341f;
    ivec n = __builtin_convertvector(t + choose(t < 0.0f, splat(-0.5f), splat(0.5f)), ivec);
    vec whole = __builtin_convertvector(n, vec);
    vec r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    vec p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (vec)((n + 127) << 23);
}

static inline void rms_norm(const float *x, const float *weight, int width, float epsilon, float *out) {
    vec squares = {0};
    for (int i = 0; i < width; i += 16) {
        vec v = *(const vec *)(x + i);
        squares += v * v;
    }
    float scale = 1.0f / sqrtf(total(squares) / width + epsilon);
    for (int i = 0; i < width; i += 16) *(vec *)(out + i) = *(const vec *)(x + i) * scale * *(const vec *)(weight + i);
}

static inline float largest(vec v) {
#if HAS_VNNI
    return _mm512_reduce_max_ps((__m512)v);
#else
    float most = v[0];
    for (int i = 1; i < 16; i++) most = v[i] > most ? v[i] : most;
    return most;
#endif
}

static inline int32_t whole_total(ivec v) {
#if HAS_VNNI
    return _mm512_reduce_add_epi32((__m512i)v);
#else
    int32_t sum = 0;
    for (int i = 0; i < 16; i++) sum += v[i];
    return sum;
#endif
}

static inline void quantise_group(const float *x, const Quantised *into, int token, int group) {
    Activations *made = activations_of(into, token, group);
    const vec halves[2] = {*(const vec *)x, *(const vec *)(x + BLOCK)};
    const ivec sign = (ivec)splat(-0.0f);
    vec first = (vec)((ivec)halves[0] & ~sign), second = (vec)((ivec)halves[1] & ~sign);
    float most = largest(choose(first > second, first, second));
    float inverse = most > 0 ? LARGEST / most : 0;
    ivec sums = {0};
    for (int half = 0; half < 2; half++) {
        vec scaled = halves[half] * inverse;
        /* Half of one is added with the number's own sign; the conversion cuts off. */
        ivec rounded = __builtin_convertvector(scaled + (vec)(((ivec)scaled & sign) | (ivec)splat(0.5f)), ivec);
        ivec upper = (rounded + 64) >> 7;
        *(bytes16 *)(made->high + half * BLOCK) = __builtin_convertvector(upper, bytes16);
        *(bytes16 *)(made->low + half * BLOCK) = __builtin_convertvector(rounded - upper * 128, bytes16);
        sums += rounded;
    }
    int32_t sum = whole_total(sums);
    made->scale = most / LARGEST;
    made->total = sum * (most / LARGEST);
    made->correction = -128 * sum;
}

static inline void quantise(const float *x, const Quantised *into, int token) {
    for (int group = 0; group < into->inputs / GROUP; group++) quantise_group(x + group * GROUP, into, token, group);
}

#if HAS_VNNI

static inline vec from_halves(const uint16_t *halves) {
    return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)halves));
}

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

static void multiply(const Matrix *m, int block, const Quantised *a, int token, int count, float out[][BLOCK]) {
    switch (m->bits * 16 + count) {
        case 129: tile(m, 8, block, a, token, 1, out); break;
        case 130: tile(m, 8, block, a, token, 2, out); break;
        case 131: tile(m, 8, block, a, token, 3, out); break;
        case 132: tile(m, 8, block, a, token, 4, out); break;
        case 133: tile(m, 8, block, a, token, 5, out); break;
        case 134: tile(m, 8, block, a, token, 6, out); break;
        case 65: tile(m, 4, block, a, token, 1, out); break;
        case 66: tile(m, 4, block, a, token, 2, out); break;
        case 67: tile(m, 4, block, a, token, 3, out); break;
        case 68: tile(m, 4, block, a, token, 4, out); break;
        case 69: tile(m, 4, block, a, token, 5, out); break;
        case 70: tile(m, 4, block, a, token, 6, out); break;
    }
}

#else

static inline float from_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 31, fraction = half & 1023, bits;
    float value;
    if (exponent == 0) {
        value = (float)fraction / 16777216.0f;
        memcpy(&bits, &value, 4);
        bits |= sign;
    } else {
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    }
    memcpy(&value, &bits, 4);
    return value;
}

static inline vec from_halves(const uint16_t *halves) {
    vec values;
    for (int i = 0; i < BLOCK; i++) values[i] = from_half(halves[i]);
    return values;
}

/* The same integers on any processor. */
static void multiply(const Matrix *m, int block, const Quantised *a, int token, int count, float out[][BLOCK]) {
    const int groups = m->inputs / GROUP, four = m->bits == 4;
    for (int t = 0; t < count; t++) {
        vec sums = {0};
        for (int group = 0; group < groups; group++) {
            const Activations *x = activations_of(a, token + t, group);
            size_t place = (size_t)block * groups + group;
            const uint8_t *data = m->data + place * (four ? GROUP_BYTES / 2 : GROUP_BYTES);
            const uint16_t *scales = m->scales + place * (four ? 2 * BLOCK : BLOCK);
            ivec products = (four ? 0 : x->correction) - (ivec){0};
            for (int quad = 0; quad < GROUP / 4; quad++)
                for (int j = 0; j < 4; j++) {
                    int32_t activation = x->high[quad * 4 + j] * 128 + x->low[quad * 4 + j];
                    for (int i = 0; i < BLOCK; i++) {
                        int byte = data[(four ? quad / 2 : quad) * 64 + i * 4 + j];
                        products[i] += activation * (four ? byte >> quad % 2 * 4 & 15 : byte);
                    }
                }
            sums += __builtin_convertvector(products, vec) * (from_halves(scales) * x->scale);
            if (four) sums += from_halves(scales + BLOCK) * x->total;
        }
        *(vec *)out[t] = sums;
    }
}

#endif

enum { RANKS = 16 };

/* Some ranks of `add_low_rank`; their number is a constant where it can be, so that the loops are unrolled. */
static inline void add_ranks(
    const uint16_t *up, const float *reduced, int width, const int ranks, int count, float out[][BLOCK]
) {
    vec ups[RANKS];
    for (int r = 0; r < ranks; r++) ups[r] = from_halves(up + r * BLOCK); /* once for all tokens */
    for (int t = 0; t < count; t++) {
        const float *from = reduced + (size_t)t * width;
        vec sums[2] = {*(vec *)out[t], {0}};
        for (int r = 0; r < ranks; r++) sums[r % 2] += ups[r] * from[r];
        *(vec *)out[t] = sums[0] + sums[1];
    }
}

/* Adds a block's low-rank part; `reduced` [count][width] is what the matrix's `down` gave for these tokens. */
static inline void add_low_rank(
    const Matrix *m, int block, const float *reduced, int width, int count, float out[][BLOCK]
) {
    const uint16_t *up = m->up + (size_t)block * m->rank * BLOCK;
    const float *from = reduced + m->branch[block] * m->rank;
    int r = 0;
    for (; r + RANKS <= m->rank; r += RANKS) add_ranks(up + r * BLOCK, from + r, width, RANKS, count, out);
    if (r < m->rank) add_ranks(up + r * BLOCK, from + r, width, m->rank - r, count, out);
}

#endif
