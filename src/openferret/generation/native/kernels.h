/* What a language model's step is made of: products with eight-bit weights, norms, attention.
 *
 * Weights are stored in blocks of 16 outputs and groups of 32 inputs: [block][group][8][16][4] bytes, each a
 * weight + 128, and a float16 scale for each of the 16 outputs of a group. Activations are quantised in the same groups of
 * 32 to 15 bits, as 128 times a high byte plus a low one: with eight bits their rounding would double the error
 * of the logits, and where a step waits for the weights to come from memory a second product costs nothing.
 * A group's product is exact in 32-bit integers; only the two roundings are lossy.
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
typedef int32_t ivec __attribute__((vector_size(64), aligned(4), may_alias));

typedef struct {
    const uint8_t *data;    /* [blocks][groups][GROUP_BYTES] */
    const uint16_t *scales; /* [blocks][groups][BLOCK], float16 */
    int32_t inputs, blocks;
} Matrix;

/* Tokens' activations, quantised: bytes [n][inputs], scales and corrections [n][inputs / GROUP]. */
typedef struct {
    int8_t *high, *low; /* -127..127 and -64..63 */
    float *scales;
    int32_t *corrections; /* -128 times a group's sum: takes the weights' + 128 out again */
    int32_t inputs;
} Quantised;

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

static inline void quantise_group(const float *x, const Quantised *into, int token, int group) {
    int groups = into->inputs / GROUP;
    int8_t *high = into->high + (size_t)token * into->inputs + group * GROUP;
    int8_t *low = into->low + (size_t)token * into->inputs + group * GROUP;
    float most = 0;
    for (int i = 0; i < GROUP; i++) most = fmaxf(most, fabsf(x[i]));
    float inverse = most > 0 ? LARGEST / most : 0;
    int32_t sum = 0;
    for (int i = 0; i < GROUP; i++) {
        float scaled = x[i] * inverse;
        int32_t rounded = (int32_t)(scaled + (scaled < 0 ? -0.5f : 0.5f));
        int32_t upper = (rounded + 64) >> 7;
        high[i] = (int8_t)upper;
        low[i] = (int8_t)(rounded - upper * 128);
        sum += rounded;
    }
    into->scales[(size_t)token * groups + group] = most / LARGEST;
    into->corrections[(size_t)token * groups + group] = -128 * sum;
}

static inline void quantise(const float *x, const Quantised *into, int token) {
    for (int group = 0; group < into->inputs / GROUP; group++) quantise_group(x + group * GROUP, into, token, group);
}

#if HAS_VNNI

static inline int32_t four_bytes(const int8_t *bytes) {
    int32_t four;
    memcpy(&four, bytes, 4);
    return four;
}

/* `count` tokens (a constant, so that the accumulators are registers) times one block: 16 outputs each. */
static inline __attribute__((always_inline)) void tile(
    const Matrix *m, int block, const Quantised *a, int token, const int count, float out[][BLOCK]
) {
    const int groups = m->inputs / GROUP;
    const uint8_t *data = m->data + (size_t)block * groups * GROUP_BYTES;
    const uint16_t *scales = m->scales + (size_t)block * groups * BLOCK;
    const int8_t *high = a->high + (size_t)token * m->inputs, *low = a->low + (size_t)token * m->inputs;
    const float *token_scales = a->scales + (size_t)token * groups;
    const int32_t *corrections = a->corrections + (size_t)token * groups;
    __m512 sums[TILE];
    for (int t = 0; t < count; t++) sums[t] = _mm512_setzero_ps();
    for (int group = 0; group < groups; group++) {
        __m512i products[TILE], highs[TILE];
        for (int t = 0; t < count; t++) products[t] = _mm512_set1_epi32(corrections[t * groups + group]);
        for (int t = 0; t < count; t++) highs[t] = _mm512_setzero_si512();
        for (int quad = 0; quad < GROUP / 4; quad++) {
            __m512i weights = _mm512_loadu_si512(data + group * GROUP_BYTES + quad * 64);
            for (int t = 0; t < count; t++) {
                size_t place = (size_t)t * m->inputs + group * GROUP + quad * 4;
                highs[t] = _mm512_dpbusd_epi32(highs[t], weights, _mm512_set1_epi32(four_bytes(high + place)));
                products[t] = _mm512_dpbusd_epi32(products[t], weights, _mm512_set1_epi32(four_bytes(low + place)));
            }
        }
        __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(scales + group * BLOCK)));
        for (int t = 0; t < count; t++) {
            __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(token_scales[t * groups + group]));
            products[t] = _mm512_add_epi32(products[t], _mm512_slli_epi32(highs[t], 7));
            sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[t]), both, sums[t]);
        }
    }
    for (int t = 0; t < count; t++) _mm512_storeu_ps(out[t], sums[t]);
}

static void multiply(const Matrix *m, int block, const Quantised *a, int token, int count, float out[][BLOCK]) {
    switch (count) {
        case 1: tile(m, block, a, token, 1, out); break;
        case 2: tile(m, block, a, token, 2, out); break;
        case 3: tile(m, block, a, token, 3, out); break;
        case 4: tile(m, block, a, token, 4, out); break;
        case 5: tile(m, block, a, token, 5, out); break;
        default: tile(m, block, a, token, TILE, out);
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

/* The same integers on any processor. */
static void multiply(const Matrix *m, int block, const Quantised *a, int token, int count, float out[][BLOCK]) {
    const int groups = m->inputs / GROUP;
    for (int t = 0; t < count; t++) {
        size_t start = (size_t)(token + t) * m->inputs;
        float sums[BLOCK] = {0};
        for (int group = 0; group < groups; group++) {
            size_t place = (size_t)block * groups + group;
            const uint8_t *data = m->data + place * GROUP_BYTES;
            int32_t products[BLOCK];
            for (int i = 0; i < BLOCK; i++) products[i] = a->corrections[(size_t)(token + t) * groups + group];
            for (int quad = 0; quad < GROUP / 4; quad++) {
                int32_t four[4];
                for (int j = 0; j < 4; j++) {
                    size_t at = start + group * GROUP + quad * 4 + j;
                    four[j] = a->high[at] * 128 + a->low[at];
                }
                for (int i = 0; i < BLOCK; i++)
                    for (int j = 0; j < 4; j++) products[i] += data[quad * 64 + i * 4 + j] * four[j];
            }
            float scale = a->scales[(size_t)(token + t) * groups + group];
            for (int i = 0; i < BLOCK; i++) sums[i] += products[i] * (from_half(m->scales[place * BLOCK + i]) * scale);
        }
        memcpy(out[t], sums, sizeof sums);
    }
}

#endif
#endif
