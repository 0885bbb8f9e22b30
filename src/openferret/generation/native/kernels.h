/* What a language model's step is made of: products with weights of eight or four bits, norms, attention.
 *
 * Weights are stored in blocks of 16 outputs and groups of 32 inputs, with float16 numbers for each of the 16 outputs of
 * a group. Eight bits: [block][group][8][16][4] bytes, each a weight in units of its scale, + 128. Four bits:
 * [block][group][4][16][4] bytes, two weights each (the low half is of the even four inputs of eight, the high half of
 * the odd ones), in units of its scale above the lowest.
 * A matrix may have a low-rank part besides: what its `down` makes of the activations, times `up`.
 *
 * Activations are quantised in the same groups of 32 to 15 bits: with eight their rounding would be the larger error by
 * far. Processors that multiply bytes get 128 times a high byte plus a low one, and where a step waits for the weights to
 * come from memory the second product costs nothing. A group's product is exact in 32-bit integers; only the roundings are
 * lossy.
 */
#ifndef OPENFERRET_KERNELS_H
#define OPENFERRET_KERNELS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* What the products are written for: `products_*.h`. */
#define PLAIN 0
#define AVX2 1
#define VNNI 2
#define NEON 3
#if defined(__AVX512F__) && defined(__AVX512VNNI__) && defined(__F16C__)
#define INSTRUCTIONS VNNI
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define INSTRUCTIONS AVX2
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define INSTRUCTIONS NEON
#else
#define INSTRUCTIONS PLAIN
#endif
#if INSTRUCTIONS == NEON
#include <arm_neon.h>
#elif INSTRUCTIONS != PLAIN
#include <immintrin.h>
#endif
/* Whether these multiply bytes, so that 15 bits are two. */
#define BYTES (INSTRUCTIONS == VNNI || INSTRUCTIONS == NEON)

/* Numbers of a vector register: the compiler keeps wider vectors in memory, where everything takes several times as long. */
#if INSTRUCTIONS == VNNI
#define LANES 16
#elif INSTRUCTIONS == AVX2
#define LANES 8
#else
#define LANES 4
#endif

enum { BLOCK = 16, GROUP = 32, GROUP_BYTES = BLOCK * GROUP, TILE = 6, LARGEST = 127 * 128 };

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int16_t shorts __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
typedef int8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

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
#if BYTES
    int8_t high[GROUP], low[GROUP]; /* -127..127 and -64..63 */
#else
    int16_t pairs[GROUP]; /* the first, third, second and fourth of every four */
#endif
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
    for (int i = 0; i < LANES; i++) sum += v[i];
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
    for (int i = 0; i < width; i += LANES) {
        vec v = *(const vec *)(x + i);
        squares += v * v;
    }
    float scale = 1.0f / sqrtf(total(squares) / width + epsilon);
    for (int i = 0; i < width; i += LANES) *(vec *)(out + i) = *(const vec *)(x + i) * scale * *(const vec *)(weight + i);
}

static inline float largest(vec v) {
#if INSTRUCTIONS == VNNI
    return _mm512_reduce_max_ps((__m512)v);
#else
    float most = v[0];
    for (int i = 1; i < LANES; i++) most = v[i] > most ? v[i] : most;
    return most;
#endif
}

static inline int32_t whole_total(ivec v) {
#if INSTRUCTIONS == VNNI
    return _mm512_reduce_add_epi32((__m512i)v);
#else
    int32_t sum = 0;
    for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
#endif
}

/* Puts LANES rounded activations, -LARGEST..LARGEST, where the products look for them. */
static inline void store_rounded(ivec rounded, Activations *made, int first) {
#if BYTES
    ivec upper = (rounded + 64) >> 7;
    *(bytes *)(made->high + first) = __builtin_convertvector(upper, bytes);
    *(bytes *)(made->low + first) = __builtin_convertvector(rounded - upper * 128, bytes);
#else
    shorts narrow = __builtin_convertvector(rounded, shorts);
    for (int i = 0; i < LANES; i += 4) {
        int16_t *four = made->pairs + first + i;
        four[0] = narrow[i], four[1] = narrow[i + 2], four[2] = narrow[i + 1], four[3] = narrow[i + 3];
    }
#endif
}

static inline void quantise_group(const float *x, const Quantised *into, int token, int group) {
    Activations *made = activations_of(into, token, group);
    const ivec sign = (ivec)splat(-0.0f);
    vec largest_yet = {0};
    for (int i = 0; i < GROUP; i += LANES) {
        vec magnitude = (vec)(*(const ivec *)(x + i) & ~sign);
        largest_yet = choose(magnitude > largest_yet, magnitude, largest_yet);
    }
    float most = largest(largest_yet);
    float inverse = most > 0 ? LARGEST / most : 0;
    ivec sums = {0};
    for (int i = 0; i < GROUP; i += LANES) {
        vec scaled = *(const vec *)(x + i) * inverse;
        /* Half of one is added with the number's own sign; the conversion cuts off. */
        ivec rounded = __builtin_convertvector(scaled + (vec)(((ivec)scaled & sign) | (ivec)splat(0.5f)), ivec);
        store_rounded(rounded, made, i);
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

#if INSTRUCTIONS == VNNI

static inline vec from_halves(const uint16_t *halves) {
    return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)halves));
}

#elif INSTRUCTIONS == AVX2

static inline vec from_halves(const uint16_t *halves) {
    return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)halves));
}

#elif INSTRUCTIONS == NEON

static inline vec from_halves(const uint16_t *halves) {
    return (vec)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves)));
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
    for (int i = 0; i < LANES; i++) values[i] = from_half(halves[i]);
    return values;
}

#endif

enum { RANKS = 16 };

/* Some ranks of `add_low_rank`; their number is a constant where it can be, so that the loops are unrolled. */
static inline void add_ranks(
    const uint16_t *up, const float *reduced, int width, const int ranks, int count, float out[][BLOCK]
) {
    for (int first = 0; first < BLOCK; first += LANES) {
        vec ups[RANKS];
        for (int r = 0; r < ranks; r++) ups[r] = from_halves(up + r * BLOCK + first); /* once for all tokens */
        for (int t = 0; t < count; t++) {
            const float *from = reduced + (size_t)t * width;
            vec sums[2] = {*(vec *)(out[t] + first), {0}};
            for (int r = 0; r < ranks; r++) sums[r % 2] += ups[r] * from[r];
            *(vec *)(out[t] + first) = sums[0] + sums[1];
        }
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
