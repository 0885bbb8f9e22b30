/* What PyTorch does the sampler's work with too slowly: reading points between cells, pooling.py's `_pool` without its
 * pairs, and few rows times a matrix that is read once.
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

enum { WIDTH = 16, MOST_CHANNELS = 8192, MOST_THREADS = 64, MOST_ROWS = 4, OUTPUTS = 4, PARTS = 4 };

typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t uvec __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t half __attribute__((vector_size(32), aligned(2), may_alias));

typedef struct {
    const float *table;     /* [T][channels] */
    const int64_t *rows;    /* [P][near] */
    const float *weights;   /* [P][near] */
    float *points;          /* [P][channels] */
    int64_t near, channels; /* channels: a multiple of WIDTH */
} Reading;

typedef struct {
    const float *neighbor_part; /* [P][channels] */
    const float *anchor_part;   /* [A][channels] */
    const int64_t *neighbors;   /* [A][near] */
    const float *weight, *bias; /* [channels] */
    float *pooled;              /* [A][channels] */
    int64_t near, channels;     /* channels: a multiple of WIDTH, MOST_CHANNELS at most */
    float epsilon;
    int mean;
} Pooling;

typedef struct {
    const float *rows;     /* [count][inputs] */
    const void *matrix;    /* [outputs][inputs] */
    float *products;       /* [count][outputs] */
    int64_t count, inputs; /* MOST_ROWS at most; a multiple of WIDTH */
    int64_t outputs;       /* a multiple of OUTPUTS */
    int halved;            /* the matrix is bfloat16 rather than float */
} Product;

typedef void (*Work)(const void *job, int64_t first, int64_t last);

typedef struct {
    Work work;
    const void *job;
    int64_t pieces, parts;
    atomic_llong next; /* the first part that nobody has begun */
} Shared;

/* OpenMP's GOMP_parallel: calls a function with its argument on each of so many threads, and waits for them. */
typedef void (*OnThreads)(void (*function)(void *), void *argument, unsigned threads, unsigned flags);

static inline vec load(const float *at) { return *(const vec *)at; }

static inline vec widen(const uint16_t *at) {
    return (vec)(__builtin_convertvector(*(const half *)at, uvec) << 16);
}

static inline float total(vec v) {
    float sum = 0;
    for (int i = 0; i < WIDTH; i++) sum += v[i];
    return sum;
}

static inline vec choose(ivec mask, vec yes, vec no) {
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
}

static void read_points(const void *given, int64_t first, int64_t last) {
    const Reading *job = given;
    for (int64_t point = first; point < last; point++) {
        const int64_t *rows = job->rows + point * job->near;
        const float *weights = job->weights + point * job->near;
        for (int64_t c = 0; c < job->channels; c += WIDTH) {
            vec sum = {0};
            for (int64_t k = 0; k < job->near; k++) sum += weights[k] * load(job->table + rows[k] * job->channels + c);
            *(vec *)(job->points + point * job->channels + c) = sum;
        }
    }
}

static void pool(const void *given, int64_t first, int64_t last) {
    const Pooling *job = given;
    const int64_t channels = job->channels;
    float pair[MOST_CHANNELS + WIDTH];
    for (int64_t anchor = first; anchor < last; anchor++) {
        const float *own = job->anchor_part + anchor * channels;
        float *out = job->pooled + anchor * channels;
        for (int64_t k = 0; k < job->near; k++) {
            const float *other = job->neighbor_part + job->neighbors[anchor * job->near + k] * channels;
            vec sum = {0}, squares = {0};
            for (int64_t c = 0; c < channels; c += WIDTH) {
                vec x = load(other + c) + load(own + c);
                x = choose(x < 0.0f, (vec){0}, x); /* not a number stays that */
                *(vec *)(pair + c) = x;
                sum += x;
            }
            const float mean = total(sum) / channels;
            for (int64_t c = 0; c < channels; c += WIDTH) {
                vec x = load(pair + c) - mean;
                squares += x * x;
            }
            const float scale = 1.0f / sqrtf(total(squares) / channels + job->epsilon);
            for (int64_t c = 0; c < channels; c += WIDTH) {
                vec x = (load(pair + c) - mean) * scale * load(job->weight + c) + load(job->bias + c);
                if (k) {
                    vec so_far = load(out + c);
                    if (job->mean)
                        x += so_far;
                    else
                        x = choose((x > so_far) | (x != x), x, so_far);
                }
                *(vec *)(out + c) = x;
            }
        }
        if (job->mean)
            for (int64_t c = 0; c < channels; c += WIDTH) *(vec *)(out + c) /= (float)job->near;
    }
}

static inline vec weights_at(const Product *job, int64_t place, const int halved) {
    return halved ? widen((const uint16_t *)job->matrix + place) : load((const float *)job->matrix + place);
}

static inline void multiply_rows(const Product *job, int64_t first, int64_t last, const int count, const int halved) {
    for (int64_t output = first * OUTPUTS; output < last * OUTPUTS; output += OUTPUTS) {
        vec sums[MOST_ROWS][OUTPUTS] = {0};
        for (int64_t i = 0; i < job->inputs; i += WIDTH)
            for (int o = 0; o < OUTPUTS; o++) {
                vec weights = weights_at(job, (output + o) * job->inputs + i, halved);
                for (int row = 0; row < count; row++)
                    sums[row][o] += weights * load(job->rows + row * job->inputs + i);
            }
        for (int row = 0; row < count; row++)
            for (int o = 0; o < OUTPUTS; o++)
                job->products[row * job->outputs + output + o] = total(sums[row][o]);
    }
}

/* The number of rows and the type are constants in each branch, so that the sums stay in registers. */
static inline void multiply_as(const Product *job, int64_t first, int64_t last, const int halved) {
    if (job->count == 1) multiply_rows(job, first, last, 1, halved);
    if (job->count == 2) multiply_rows(job, first, last, 2, halved);
    if (job->count == 3) multiply_rows(job, first, last, 3, halved);
    if (job->count == 4) multiply_rows(job, first, last, 4, halved);
}

static void multiply(const void *given, int64_t first, int64_t last) {
    const Product *job = given;
    if (job->halved)
        multiply_as(job, first, last, 1);
    else
        multiply_as(job, first, last, 0);
}

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

void openferret_read(const Reading *job, int64_t points, int threads, OnThreads on_threads) {
    share(read_points, job, points, threads, on_threads);
}

void openferret_pool(const Pooling *job, int64_t anchors, int threads, OnThreads on_threads) {
    share(pool, job, anchors, threads, on_threads);
}

void openferret_multiply(const Product *job, int threads, OnThreads on_threads) {
    share(multiply, job, job->outputs / OUTPUTS, threads, on_threads);
}
