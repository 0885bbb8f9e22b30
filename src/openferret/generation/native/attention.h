/* Attention of new tokens to a prefix that rows share, and to what stands behind it in each row. */
#ifndef OPENFERRET_ATTENTION_H
#define OPENFERRET_ATTENTION_H

#include "kernels.h"

/* Keys [layers][key_heads][head_width][capacity] and values [layers][key_heads][capacity][head_width]. */
typedef struct {
    float *keys, *values;
    int32_t capacity, length;
} Cache;

typedef struct {
    Cache prefix, own;
} Row;

/* As many sums as there are registers for: 24 of 32, or 12 of 16. */
enum { HEADS_AT_ONCE = 3, STRIPS = INSTRUCTIONS == VNNI ? 8 : 4, PARTS = 4 };

/* Scores of `count` queries against LANES * `strips` keys; both numbers are constants, so that the sums are registers. */
static inline __attribute__((always_inline)) void score_strips(
    const float *queries, const int count, int width, const float *keys, int capacity, const int strips, float factor,
    float *out, int room
) {
    vec sums[HEADS_AT_ONCE][STRIPS] = {0};
    for (int d = 0; d < width; d++, keys += capacity)
        for (int strip = 0; strip < strips; strip++) {
            vec key = *(const vec *)(keys + strip * LANES);
            for (int of = 0; of < count; of++) sums[of][strip] += queries[of * width + d] * key;
        }
    for (int of = 0; of < count; of++)
        for (int strip = 0; strip < strips; strip++)
            *(vec *)(out + (size_t)of * room + strip * LANES) = sums[of][strip] * factor;
}

/* Scores, out [count][room], of queries against `many` keys; room for the next multiple of 16. */
static inline __attribute__((always_inline)) void score(
    const float *queries, const int count, int width, const float *keys, int capacity, int many, float factor,
    float *out, int room
) {
    int i = 0;
    for (; i + STRIPS * LANES <= many; i += STRIPS * LANES)
        score_strips(queries, count, width, keys + i, capacity, STRIPS, factor, out + i, room);
    for (; i + 2 * LANES < many && 3 <= STRIPS; i += 3 * LANES)
        score_strips(queries, count, width, keys + i, capacity, 3, factor, out + i, room);
    for (; i < many; i += LANES) score_strips(queries, count, width, keys + i, capacity, 1, factor, out + i, room);
}

/* Scores [room] -> weights, not yet divided by their sum, which is returned. */
static float weigh(float *scores, int room) {
    vec most = splat(-INFINITY), sum = {0};
    for (int i = 0; i < room; i += LANES) most = choose(*(vec *)(scores + i) > most, *(vec *)(scores + i), most);
    float highest = largest(most);
    for (int i = 0; i < room; i += LANES) {
        vec e = exponential(*(vec *)(scores + i) - highest);
        *(vec *)(scores + i) = e;
        sum += e;
    }
    return total(sum);
}

/* Adds `many` values, each times its weight, to the sums of `count` heads: LANES * `parts` numbers of each. */
static inline __attribute__((always_inline)) void mix(
    vec sums[HEADS_AT_ONCE][PARTS], const int count, const float *values, int width, const int parts, int many,
    const float *weights, int room
) {
    for (int i = 0; i < many; i++, values += width)
        for (int part = 0; part < parts; part++) {
            vec value = *(const vec *)(values + part * LANES);
            for (int of = 0; of < count; of++) sums[of][part] += weights[(size_t)of * room + i] * value;
        }
}

/* `count` query heads that share a key head, whose keys and values are so read once.
 *
 * queries and out [count][width]; key_head counted through all layers; behind: tokens of the row's own cache that are seen.
 */
static inline __attribute__((always_inline)) void attend_heads(
    const Row *row, size_t key_head, int behind, const float *queries, const int count, int width, float *out
) {
    const Cache *prefix = &row->prefix, *own = &row->own;
    const size_t of_prefix = key_head * width * prefix->capacity, of_own = key_head * width * own->capacity;
    int before = prefix->length, start = (before + 15) / 16 * 16, room = start + (behind + 15) / 16 * 16;
    float factor = 1.0f / sqrtf((float)width), weights[count * room], inverse[HEADS_AT_ONCE];
    float *later = weights + start;
    score(queries, count, width, prefix->keys + of_prefix, prefix->capacity, before, factor, weights, room);
    score(queries, count, width, own->keys + of_own, own->capacity, behind, factor, later, room);
    for (int of = 0; of < count; of++) {
        float *scores = weights + (size_t)of * room;
        for (int i = before; i < start; i++) scores[i] = -INFINITY;
        for (int i = start + behind; i < room; i++) scores[i] = -INFINITY;
        inverse[of] = 1.0f / weigh(scores, room);
    }
    for (int d = 0, parts; d < width; d += parts * LANES) {
        const float *prefix_values = prefix->values + of_prefix + d, *own_values = own->values + of_own + d;
        vec sums[HEADS_AT_ONCE][PARTS] = {0};
        parts = d + PARTS * LANES <= width ? PARTS : 1;
        if (parts == PARTS) {
            mix(sums, count, prefix_values, width, PARTS, before, weights, room);
            mix(sums, count, own_values, width, PARTS, behind, later, room);
        } else {
            mix(sums, count, prefix_values, width, 1, before, weights, room);
            mix(sums, count, own_values, width, 1, behind, later, room);
        }
        for (int of = 0; of < count; of++)
            for (int i = 0; i < parts; i++)
                *(vec *)(out + (size_t)of * width + d + i * LANES) = sums[of][i] * inverse[of];
    }
}

#endif
