/* Vectors as wide as the registers, and work shared among threads: what the C of the sampler is written with. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

/* Numbers of a vector: wider ones than the processor's registers would be kept in memory. */
#if defined(__AVX512F__)
#define WIDTH 16
#elif defined(__AVX__)
#define WIDTH 8
#else
#define WIDTH 4
#endif

enum { MOST_CHANNELS = 8192, MOST_THREADS = 64, PARTS = 32 };

typedef float vec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef uint32_t uvec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef uint16_t half __attribute__((vector_size(2 * WIDTH), aligned(2), may_alias));

static inline vec load(const float *at) { return *(const vec *)at; }

static inline ivec load_bits(const void *at) { return *(const ivec *)at; }

static inline int32_t load_int(const void *at) {
    int32_t number;
    memcpy(&number, at, sizeof number);
    return number;
}

static inline void store(float *at, vec v) { *(vec *)at = v; }

/* A vector of an array that holds bfloat16 or float. */
static inline vec load_as(const void *array, int64_t place, const int halved) {
    if (!halved) return load((const float *)array + place);
    return (vec)(__builtin_convertvector(*(const half *)((const uint16_t *)array + place), uvec) << 16);
}

/* One of them. */
static inline float number_as(const void *array, int64_t place, const int halved) {
    if (!halved) return ((const float *)array)[place];
    const uint32_t bits = (uint32_t)((const uint16_t *)array)[place] << 16;
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* Rounds to the nearest bfloat16, to the even one of two; what is not a number stays that. */
static inline uint16_t narrow(float number) {
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    if (number != number) return 0x7fc0;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static inline ivec choose_bits(ivec mask, ivec yes, ivec no) { return (mask & yes) | (~mask & no); }

static inline vec choose(ivec mask, vec yes, vec no) { return (vec)choose_bits(mask, (ivec)yes, (ivec)no); }

/* The larger; `other` where one of them is not a number. */
static inline vec larger(vec one, vec other) {
#ifdef __AVX512F__
    return (vec)_mm512_max_ps((__m512)one, (__m512)other);
#else
    return choose(one > other, one, other);
#endif
}

static inline void store_as(void *array, int64_t place, vec v, const int halved) {
    if (!halved) {
        store((float *)array + place, v);
        return;
    }
    const uvec bits = (uvec)v, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const ivec kept = choose_bits(v != v, (ivec){0} + 0x7fc0, (ivec)rounded);
    *(half *)((uint16_t *)array + place) = __builtin_convertvector((uvec)kept, half);
}

static inline float total(vec v) {
    float parts[WIDTH];
    store(parts, v);
#pragma GCC unroll 4
    for (int apart = WIDTH / 2; apart; apart /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < apart; i++) parts[i] += parts[i + apart];
    return parts[0];
}

/* Sums, to each of which the products of two bfloat16 are added; where the processor has no such instruction,
 * the numbers are made wide first. */
static inline vec add_pairs(vec sum, ivec one, ivec other) {
#ifdef __AVX512BF16__
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)one, (__m512bh)other);
#else
    const ivec low = (ivec){0} + (int32_t)0xffff0000;
    return sum + (vec)(one << 16) * (vec)(other << 16) + (vec)(one & low) * (vec)(other & low);
#endif
}

typedef void (*Work)(const void *job, int64_t first, int64_t last);

typedef struct {
    Work work;
    const void *job;
    int64_t pieces, parts;
    atomic_llong next; /* the first part that nobody has begun */
} Shared;

/* OpenMP's GOMP_parallel: calls a function with its argument on each of so many threads, and waits for them. */
typedef void (*OnThreads)(void (*function)(void *), void *argument, unsigned threads, unsigned flags);

static void run(void *given) {
    Shared *shared = given;
    int64_t part;
    while ((part = atomic_fetch_add(&shared->next, 1)) < shared->parts)
        shared->work(shared->job, shared->pieces * part / shared->parts, shared->pieces * (part + 1) / shared->parts);
}

static void *run_thread(void *given) {
    run(given);
    return 0;
}

/* Shares pieces among threads: PyTorch's own where they are given, for those spin for a while after their last work, and
 * others would wait for the core. A thread that cannot be started leaves its share to the rest. */
static void share(Work work, const void *job, int64_t pieces, int threads, OnThreads on_threads) {
    Shared shared = {work, job, pieces, threads > 1 ? threads * PARTS : 1, 0};
    if (threads > 1 && on_threads) {
        on_threads(run, &shared, threads, 0);
        return;
    }
    pthread_t started[MOST_THREADS];
    int number = 0;
    while (number < threads - 1 && number < MOST_THREADS && !pthread_create(&started[number], 0, run_thread, &shared))
        number++;
    run(&shared);
    while (number) pthread_join(started[--number], 0);
}
