/* What PyTorch does the sampler's work with too slowly: reading points between cells, pooling.py's `_pool` without its
 * pairs, few rows times a matrix that is read once, and the inference of a whole block (sampler_block.h).
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "sampler_vectors.h"

enum { MOST_ROWS = 4, OUTPUTS = 4, TOGETHER = 2, MOST_TOUCHED = 8 };

typedef struct {
    const void *table;      /* [T][channels] */
    const int64_t *rows;    /* [..][near] */
    const float *weights;   /* [..][near] */
    const int64_t *chosen;  /* [P], those of the points above that are read; none: the first P */
    const float *places;    /* [P][2]; none: the places add nothing */
    const float *of_place;  /* [2][channels] */
    const float *constant;  /* [channels]; none: nothing is added */
    void *points;           /* [P][channels] */
    int64_t near, channels; /* channels: a multiple of WIDTH */
    int halved;             /* table and points are bfloat16 rather than float */
} Reading;

typedef struct {
    const float *neighbor_part; /* [regions][points][channels] */
    const float *anchor_part;   /* [regions][kept][channels] */
    const int64_t *neighbors;   /* [regions][kept][near], into a region's points */
    const float *weight, *bias; /* [channels] */
    void *pooled;               /* [regions][kept][channels] */
    int64_t near, channels;     /* channels: a multiple of WIDTH, MOST_CHANNELS at most */
    int64_t points, kept;
    float epsilon;
    int mean;
    int halved; /* pooled is bfloat16 rather than float */
} Pooling;

typedef struct {
    const void *rows;      /* [count][inputs] */
    const void *matrix;    /* [outputs][inputs] */
    const void *bias;      /* [outputs] */
    void *products;        /* [count][outputs] */
    int64_t count, inputs; /* MOST_ROWS at most; a multiple of 2 * WIDTH */
    int64_t outputs;       /* a multiple of OUTPUTS */
    int halved;            /* all four are bfloat16 rather than float */
} Product;

static inline void read_as(const Reading *job, int64_t first, int64_t last, const int halved) {
    for (int64_t point = first; point < last; point++) {
        const int64_t from = job->chosen ? job->chosen[point] : point;
        const int64_t *rows = job->rows + from * job->near;
        const float *weights = job->weights + from * job->near;
        for (int64_t c = 0; c < job->channels; c += WIDTH) {
            vec sum = {0};
            for (int64_t k = 0; k < job->near; k++)
                sum += weights[k] * load_as(job->table, rows[k] * job->channels + c, halved);
            if (job->places)
                for (int axis = 0; axis < 2; axis++)
                    sum += job->places[2 * point + axis] * load(job->of_place + axis * job->channels + c);
            if (job->constant) sum += load(job->constant + c);
            store_as(job->points, point * job->channels + c, sum, halved);
        }
    }
}

static void read_points(const void *given, int64_t first, int64_t last) {
    const Reading *job = given;
    if (job->halved)
        read_as(job, first, last, 1);
    else
        read_as(job, first, last, 0);
}

/* Normalises a few pairs of one anchor, and adds them to what is pooled so far, or takes the larger. Those few together
 * keep the processor's pipelines full, which the sums of one alone do not. Returns whether all are numbers; if not, what
 * is pooled is none. */
static inline int pool_some(const Pooling *job, const float *own, const float *const *others, float *out,
                            const int count) {
    const int64_t channels = job->channels;
    float pairs[TOGETHER][MOST_CHANNELS] __attribute__((aligned(64))), mean[TOGETHER], scale[TOGETHER];
    vec sums[TOGETHER] = {0}, squares[TOGETHER] = {0};
    for (int64_t c = 0; c < channels; c += WIDTH)
        for (int n = 0; n < count; n++) {
            const vec x = larger((vec){0}, load(others[n] + c) + load(own + c));
            store(pairs[n] + c, x);
            sums[n] += x;
        }
    for (int n = 0; n < count; n++) mean[n] = total(sums[n]) / channels;
    for (int64_t c = 0; c < channels; c += WIDTH)
        for (int n = 0; n < count; n++) {
            const vec x = load(pairs[n] + c) - mean[n];
            squares[n] += x * x;
        }
    int numbers = 1;
    for (int n = 0; n < count; n++) {
        scale[n] = 1.0f / sqrtf(total(squares[n]) / channels + job->epsilon);
        numbers &= scale[n] < INFINITY;
    }
    for (int64_t c = 0; c < channels; c += WIDTH) {
        const vec weight = load(job->weight + c), bias = load(job->bias + c);
        vec so_far = load(out + c);
        for (int n = 0; n < count; n++) {
            const vec x = (load(pairs[n] + c) - mean[n]) * scale[n] * weight + bias;
            if (job->mean)
                so_far += x;
            else
                so_far = larger(so_far, x);
        }
        store(out + c, so_far);
    }
    return numbers;
}

static void pool(const void *given, int64_t first, int64_t last) {
    const Pooling *job = given;
    const int64_t channels = job->channels;
    float out[MOST_CHANNELS] __attribute__((aligned(64)));
    for (int64_t anchor = first; anchor < last; anchor++) {
        const float *own = job->anchor_part + anchor * channels;
        const float *region = job->neighbor_part + anchor / job->kept * job->points * channels;
        int numbers = 1;
        for (int64_t c = 0; c < channels; c++) out[c] = job->mean ? 0.0f : -INFINITY;
        for (int64_t k = 0; k < job->near; k += TOGETHER) {
            const float *others[TOGETHER];
            const int count = job->near - k < TOGETHER ? job->near - k : TOGETHER;
            for (int n = 0; n < count; n++)
                others[n] = region + job->neighbors[anchor * job->near + k + n] * channels;
            if (count == TOGETHER)
                numbers &= pool_some(job, own, others, out, TOGETHER);
            else
                for (int n = 0; n < count; n++) numbers &= pool_some(job, own, others + n, out, 1);
        }
        const float factor = !numbers ? NAN : job->mean ? 1.0f / job->near : 1.0f;
        for (int64_t c = 0; c < channels; c += WIDTH)
            store_as(job->pooled, anchor * channels + c, load(out + c) * factor, job->halved);
    }
}

#include "sampler_block.h"

typedef struct {
    const float *points;    /* [regions][count][2], x and y in 0..1 */
    const int64_t *picture; /* [regions], which of the maps */
    int64_t *rows;          /* [regions][count][4], of `touched` or of all cells */
    float *weights;         /* [regions][count][4] */
    int64_t *touched;       /* [maps * height * width], the cells that are read, in order */
    int64_t regions, count, maps, height, width;
    int aligned; /* 0 and 1 are the centres of the outermost cells */
} Cells;

/* The four cells around each point, as sampler.py's `map_features`. Returns how many are touched in all, or the number of
 * cells where that is nearly all and rows are of all cells; -1 where a region is of no map; -2 where there is no memory. */
int64_t openferret_cells(const Cells *job) {
    const int64_t cells = job->maps * job->height * job->width, all = job->regions * job->count, side[] = {job->width, job->height};
    int64_t *const number = calloc(cells, sizeof *number), touched = 0;
    if (!number) return -2;
    int known = 1;
    for (int64_t region = 0; region < job->regions; region++)
        known &= job->picture[region] >= 0 && job->picture[region] < job->maps;
    for (int64_t point = 0; known && point < all; point++) {
        const float *given = job->points + 2 * point;
        int64_t *rows = job->rows + 4 * point, at[2][2];
        float *weights = job->weights + 4 * point, part[2][2];
        for (int axis = 0; axis < 2; axis++) {
            const float last = side[axis] - 1;
            float place = job->aligned ? given[axis] * last : given[axis] * (float)side[axis] - 0.5f;
            place = place > 0 ? place < last ? place : last : 0; /* borders repeat the outermost cell */
            at[axis][0] = place;
            at[axis][1] = at[axis][0] + (at[axis][0] + 1 < side[axis]);
            part[axis][1] = place - at[axis][0];
            part[axis][0] = 1 - part[axis][1];
        }
        const int64_t above = job->picture[point / job->count] * job->height;
        for (int near = 0; near < 4; near++) {
            rows[near] = (above + at[1][near / 2]) * job->width + at[0][near % 2];
            weights[near] = part[1][near / 2] * part[0][near % 2];
            number[rows[near]] = 1;
        }
    }
    for (int64_t cell = 0; known && cell < cells; cell++)
        if (number[cell]) {
            job->touched[touched] = cell;
            number[cell] = touched++;
        }
    if (MOST_TOUCHED * touched > (MOST_TOUCHED - 1) * cells) /* a copy without the others costs more than they do */
        touched = cells;
    else
        for (int64_t i = 0; known && i < 4 * all; i++) job->rows[i] = number[job->rows[i]];
    free(number);
    return known ? touched : -1;
}

/* Adds the products of 2 * WIDTH pairs of numbers. */
static inline vec add_products(vec sum, const Product *job, int64_t row, int64_t place, const int halved) {
    if (halved)
        return add_pairs(sum, load_bits((const uint16_t *)job->rows + row),
                         load_bits((const uint16_t *)job->matrix + place));
    for (int i = 0; i < 2 * WIDTH; i += WIDTH)
        sum += load((const float *)job->rows + row + i) * load((const float *)job->matrix + place + i);
    return sum;
}

static inline void multiply_rows(const Product *job, int64_t first, int64_t last, const int count, const int halved) {
    /* Several outputs at once, far from each other: a core reads from memory faster at several places than at one, and
     * where it goes on at each for long. */
    const int64_t apart = last - first;
    for (int64_t output = first * OUTPUTS; output < first * OUTPUTS + apart; output++) {
        vec sums[MOST_ROWS][OUTPUTS] = {0}, made[MOST_ROWS][OUTPUTS];
        for (int64_t i = 0; i < job->inputs; i += 2 * WIDTH)
#pragma GCC unroll 4
            for (int o = 0; o < OUTPUTS; o++)
#pragma GCC unroll 4
                for (int row = 0; row < count; row++)
                    sums[row][o] = add_products(sums[row][o], job, row * job->inputs + i,
                                                (output + o * apart) * job->inputs + i, halved);
#pragma GCC unroll 4
        for (int row = 0; row < count; row++)
#pragma GCC unroll 4
            for (int o = 0; o < OUTPUTS; o++) made[row][o] = sums[row][o];
        for (int row = 0; row < count; row++)
            for (int o = 0; o < OUTPUTS; o++) {
                const int64_t column = output + o * apart, place = row * job->outputs + column;
                const float product = total(made[row][o]) + number_as(job->bias, column, halved);
                if (halved)
                    ((uint16_t *)job->products)[place] = narrow(product);
                else
                    ((float *)job->products)[place] = product;
            }
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

void openferret_read(const Reading *job, int64_t points, int threads, OnThreads on_threads) {
    share(read_points, job, points, threads, on_threads);
}

void openferret_pool(const Pooling *job, int64_t anchors, int threads, OnThreads on_threads) {
    share(pool, job, anchors, threads, on_threads);
}

/* A block or a product: the other is none. */
typedef struct {
    const Block *block;
    const Product *product;
} Step;

/* Steps that follow each other. Returns 0; or what went wrong, as `run_block`. */
int openferret_run(const Step *steps, int64_t count, int threads, OnThreads on_threads) {
    int failed = 0;
    for (const Step *step = steps; step < steps + count && !failed; step++)
        if (step->block)
            failed = run_block(step->block, threads, on_threads);
        else
            share(multiply, step->product, step->product->outputs / OUTPUTS, threads, on_threads);
    return failed;
}

/* Asks the system to put memory that is used already on huge pages, of 2 MiB: a core reads on past the end of a small
 * page more slowly. Where it cannot, nothing changes. */
void openferret_join_pages(void *memory, int64_t bytes) {
#ifdef __linux__
    const uintptr_t page = 1 << 21, collapse = 25; /* MADV_COLLAPSE, which older headers lack */
    const uintptr_t first = ((uintptr_t)memory + page - 1) & -page, last = ((uintptr_t)memory + bytes) & -page;
    if (first < last) (void)madvise((void *)first, last - first, collapse);
#endif
}
