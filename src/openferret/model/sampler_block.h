/* The inference of a block of the sampler: its two matrices act on all points (or, where they are fewer, on the cells
 * that the points read), and what they make is pooled in the processor's cache. */

enum { TILE = 5, VECTORS = 4, PANEL = VECTORS * WIDTH, TILES = 16, MOVED_NUMBERS = 1 << 21, LINE = 64 };

typedef struct {
    const void *table;           /* [length][channels]: cells, or the points themselves */
    const float *places;         /* [regions][points][2] */
    const int64_t *anchors;      /* [regions][kept], into a region's points */
    const int64_t *neighbors;    /* [regions][kept][around], likewise */
    const void *of_neighbor;     /* matrix in panels: [channels / PANEL][channels][PANEL], or, if halved, */
    const void *of_anchor;       /* [channels / PANEL][channels / 2][PANEL][2] */
    const float *neighbor_place; /* [2][channels], of a place */
    const float *anchor_place;   /* [2][channels] */
    const float *constant;       /* [channels], of every anchor */
    const float *norm_weight, *norm_bias;
    void *pooled;         /* [regions][kept][channels] */
    float *anchor_places; /* [regions][kept][2] */
    const int64_t *rows;  /* [regions][points][near], of the table; none: its rows are the points */
    const float *weights; /* [regions][points][near] */
    int64_t length, near, channels; /* channels: a multiple of PANEL, MOST_CHANNELS at most */
    int64_t regions, points, kept, around;
    float epsilon;
    int mean;
    int halved; /* table, matrices and pooled are bfloat16 rather than float */
} Block;

/* Rows times a matrix in panels, and what their places add. */
typedef struct {
    const void *table;
    const int64_t *rows; /* [count], of the table; none: the first */
    const void *panels;
    const float *places;             /* [count][2]; none: they add nothing */
    const float *of_place, *constant; /* constant: none: nothing is added */
    float *products;                 /* [count][channels] */
    int64_t count, channels;
    int halved;
} Factor;

typedef struct {
    Factor of_neighbor, of_anchor;
} Factors;

static inline int64_t tiles(const Factor *one) { return (one->count + TILE - 1) / TILE; }

static inline int64_t groups(const Factor *one) { return (tiles(one) + TILES - 1) / TILES; }

static inline int64_t pieces(const Factor *one) { return groups(one) * (one->channels / PANEL); }

/* A panel's products of `count` rows, from the `first` on: all sums stay in registers. */
static inline void multiply_tile(const Factor *job, int64_t first, int64_t panel, const int count, const int halved) {
    const int64_t channels = job->channels, size = halved ? 2 : 4;
    const char *weights = (const char *)job->panels + panel * PANEL * channels * size, *rows[TILE];
    for (int row = 0; row < count; row++)
        rows[row] = (const char *)job->table + (job->rows ? job->rows[first + row] : first + row) * channels * size;
    vec sums[TILE][VECTORS] = {0};
    for (int64_t i = 0; i < channels * size; i += 4) /* one float or two bfloat16 at a time */
#pragma GCC unroll 5
        for (int row = 0; row < count; row++) {
            if (halved) {
                const ivec pair = (ivec){0} + load_int(rows[row] + i);
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++)
                    sums[row][v] = add_pairs(sums[row][v], pair, load_bits(weights + (i * VECTORS + 4 * v) * WIDTH));
            } else {
                const float number = *(const float *)(rows[row] + i);
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++)
                    sums[row][v] += number * load((const float *)weights + (i / 4 * VECTORS + v) * WIDTH);
            }
        }
    float made[TILE][PANEL];
#pragma GCC unroll 5
    for (int row = 0; row < count; row++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) store(made[row] + v * WIDTH, sums[row][v]);
    for (int row = 0; row < count; row++)
        for (int64_t c = 0; c < PANEL; c += WIDTH) {
            const int64_t column = panel * PANEL + c;
            vec sum = load(made[row] + c);
            if (job->places)
                for (int axis = 0; axis < 2; axis++)
                    sum += job->places[2 * (first + row) + axis] * load(job->of_place + axis * channels + column);
            if (job->constant) sum += load(job->constant + column);
            store(job->products + (first + row) * channels + column, sum);
        }
}

static inline void multiply_group_as(const Factor *job, int64_t piece, const int halved) {
    /* The pieces of a panel follow each other, so that it stays in the cache. */
    const int64_t panel = piece / groups(job), group = piece % groups(job), number = tiles(job);
    const int64_t last = number * (group + 1) / groups(job);
    for (int64_t tile = number * group / groups(job); tile < last; tile++) {
        const int64_t first = job->count * tile / number, count = job->count * (tile + 1) / number - first;
        if (count == 1) multiply_tile(job, first, panel, 1, halved);
        if (count == 2) multiply_tile(job, first, panel, 2, halved);
        if (count == 3) multiply_tile(job, first, panel, 3, halved);
        if (count == 4) multiply_tile(job, first, panel, 4, halved);
        if (count == 5) multiply_tile(job, first, panel, 5, halved);
    }
}

static void multiply_factors(const void *given, int64_t first, int64_t last) {
    const Factors *job = given;
    const int64_t before = pieces(&job->of_neighbor);
    for (int64_t piece = first; piece < last; piece++) {
        const Factor *one = piece < before ? &job->of_neighbor : &job->of_anchor;
        const int64_t own = piece < before ? piece : piece - before;
        if (one->halved)
            multiply_group_as(one, own, 1);
        else
            multiply_group_as(one, own, 0);
    }
}

static int all_below(const int64_t *indices, int64_t count, int64_t limit) {
    int within = 1;
    for (int64_t i = 0; i < count; i++) within &= indices[i] >= 0 && indices[i] < limit;
    return within;
}

/* What a block makes on its way, of as many regions as fit in the cache together. */
typedef struct {
    float *of_cells, *of_anchor_cells; /* [length][channels], where cells are multiplied */
    float *moved;                      /* [some regions][points][channels], the neighbours' part of the pairs */
    float *bracket;                    /* [some regions][kept][channels], the anchors' part */
    void *vectors;                     /* [some regions][points or kept][channels], what is read before it is multiplied */
    int64_t *chosen;                   /* [some regions][kept], the anchors among the points of all of these regions */
    int cells, anchor_cells;           /* whether cells are multiplied, for they are fewer */
} Room;

static void block_of_some(const Block *job, Room room, int64_t first, int64_t regions, int threads, OnThreads on_threads) {
    const int64_t channels = job->channels, points = regions * job->points, anchors = regions * job->kept;
    const int64_t point = first * job->points, anchor = first * job->kept, size = job->halved ? 2 : 4;
    const float *places = job->places + 2 * point;
    float *anchor_places = job->anchor_places + 2 * anchor;
    for (int64_t i = 0; i < anchors; i++) {
        room.chosen[i] = i / job->kept * job->points + job->anchors[anchor + i];
        memcpy(anchor_places + 2 * i, places + 2 * room.chosen[i], 2 * sizeof(float));
    }
    Reading reading = {.near = job->near, .channels = channels};
    Factors factors = {
        {.panels = job->of_neighbor, .of_place = job->neighbor_place, .places = places, .products = room.moved},
        {.panels = job->of_anchor, .of_place = job->anchor_place, .places = anchor_places, .products = room.bracket},
    };
    factors.of_neighbor.channels = factors.of_anchor.channels = channels;
    factors.of_neighbor.halved = factors.of_anchor.halved = job->halved;
    factors.of_neighbor.count = room.cells ? 0 : points;
    factors.of_anchor.count = room.anchor_cells ? 0 : anchors;
    factors.of_anchor.constant = job->constant;
    if (job->rows) {
        reading.rows = job->rows + point * job->near;
        reading.weights = job->weights + point * job->near;
    }
    if (job->rows && !room.anchor_cells) { /* read, then multiply */
        Reading before = reading;
        before.table = job->table;
        before.points = room.vectors;
        before.chosen = room.cells ? room.chosen : 0;
        before.halved = job->halved;
        share(read_points, &before, room.cells ? anchors : points, threads, on_threads);
    }
    factors.of_neighbor.table = factors.of_anchor.table =
        job->rows ? room.vectors : (const char *)job->table + point * channels * size;
    factors.of_anchor.rows = room.cells ? 0 : room.chosen;
    share(multiply_factors, &factors, pieces(&factors.of_neighbor) + pieces(&factors.of_anchor), threads, on_threads);
    if (room.cells) { /* multiplied already, then read */
        Reading after = reading;
        after.table = room.of_cells;
        after.places = places;
        after.of_place = job->neighbor_place;
        after.points = room.moved;
        share(read_points, &after, points, threads, on_threads);
    }
    if (room.anchor_cells) {
        Reading after = reading;
        after.table = room.of_anchor_cells;
        after.chosen = room.chosen;
        after.places = anchor_places;
        after.of_place = job->anchor_place;
        after.constant = job->constant;
        after.points = room.bracket;
        share(read_points, &after, anchors, threads, on_threads);
    }
    const Pooling pooling = {
        .neighbor_part = room.moved,
        .anchor_part = room.bracket,
        .neighbors = job->neighbors + anchor * job->around,
        .weight = job->norm_weight,
        .bias = job->norm_bias,
        .pooled = (char *)job->pooled + anchor * channels * size,
        .near = job->around,
        .channels = channels,
        .points = job->points,
        .kept = job->kept,
        .epsilon = job->epsilon,
        .mean = job->mean,
        .halved = job->halved,
    };
    share(pool, &pooling, anchors, threads, on_threads);
}

/* Returns 0; 1 where there is no memory; 2 where an index is out of its range. */
static int run_block(const Block *job, int threads, OnThreads on_threads) {
    const int64_t channels = job->channels, size = job->halved ? 2 : 4;
    const int64_t points = job->regions * job->points, anchors = job->regions * job->kept;
    if (!(job->rows ? all_below(job->rows, points * job->near, job->length) : job->length == points) ||
        !all_below(job->anchors, anchors, job->points) ||
        !all_below(job->neighbors, anchors * job->around, job->points))
        return 2;
    int64_t step = MOVED_NUMBERS / (job->points * channels); /* regions at once */
    if (step < 1) step = 1;
    if (step > job->regions) step = job->regions;
    const int cells = job->rows && job->length < points, anchor_cells = cells && job->length < anchors;
    const int64_t read = !job->rows || anchor_cells ? 0 : cells ? step * job->kept : step * job->points;
    const int64_t made = (cells + anchor_cells) * job->length + step * (job->points + job->kept);
    const int64_t bytes = made * channels * sizeof(float) + read * channels * size + step * job->kept * sizeof(int64_t);
    float *const begin = aligned_alloc(LINE, (bytes + LINE - 1) / LINE * LINE);
    if (!begin) return 1;
    Room room = {.of_cells = begin, .cells = cells, .anchor_cells = anchor_cells};
    room.of_anchor_cells = room.of_cells + cells * job->length * channels;
    room.moved = room.of_anchor_cells + anchor_cells * job->length * channels;
    room.bracket = room.moved + step * job->points * channels;
    room.chosen = (int64_t *)(room.bracket + step * job->kept * channels);
    room.vectors = room.chosen + step * job->kept;
    if (cells) {
        const Factor of_table = {.table = job->table, .count = job->length, .channels = channels, .halved = job->halved};
        Factors factors = {of_table, of_table};
        factors.of_neighbor.panels = job->of_neighbor;
        factors.of_neighbor.products = room.of_cells;
        factors.of_anchor.panels = job->of_anchor;
        factors.of_anchor.products = room.of_anchor_cells;
        if (!anchor_cells) factors.of_anchor.count = 0;
        share(multiply_factors, &factors, pieces(&factors.of_neighbor) + pieces(&factors.of_anchor), threads, on_threads);
    }
    for (int64_t first = 0; first < job->regions; first += step)
        block_of_some(job, room, first, first + step < job->regions ? step : job->regions - first, threads, on_threads);
    free(begin);
    return 0;
}

/* Whether the products above are as fast here as PyTorch's: the sums of a tile fill the 32 registers of AVX-512; and
 * with AMX, PyTorch's products of bfloat16 are much faster. */
int openferret_block_is_fast(int halved) {
#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
    return 1 | halved;
#elif defined(__AVX512F__)
    return !halved;
#else
    return 0 & halved;
#endif
}
