/* A LLaMA-like language model: embeddings of new tokens -> logits, for several sequences at once.
 *
 * Every sequence ("row") reads a prefix that it shares with others and writes behind it into a cache of its own.
 * New tokens of all rows stand one after the other, without padding.
 */
#include "attention.h"
#include "crew.h"
#include "kernels.h"
#include "products.h"

typedef struct {
    const float *attention_norm, *feed_norm;
    Matrix query_key_value, output, gate_up, down; /* gate and up take turns: a block of one, a block of the other */
} Layer;

typedef struct {
    int32_t hidden, intermediate, heads, key_heads, head_width, layers, vocabulary; /* hidden = heads * head_width */
    float epsilon;
    const float *frequencies; /* [head_width / 2], of the rotary embedding */
    const float *final_norm;
    Matrix head;
    const Layer *layer;
} Model;

typedef struct {
    const Model *model;
    const Row *rows;
    const int32_t *row, *place; /* of each token: its row, and its place in that row's own cache */
    int n, layer, outputs, per_piece;
    const int32_t *chosen; /* tokens whose logits are wanted */
    float *x, *normed, *projected, *mixed, *logits;
    float *cosines, *sines; /* [n][head_width / 2] */
    Quantised narrow, wide; /* activations of hidden and of intermediate width */
    float *reduced;         /* [n][reduced_width], what the present matrix's low-rank part begins with */
    int reduced_width;
    const float *norm;
    const Matrix *matrix;
    const Quantised *activations;
    float *target;
    int target_width, adds;
} Step;

static int least(int a, int b) { return a < b ? a : b; }

static void normalise(void *context, int piece) {
    Step *s = context;
    const Model *m = s->model;
    for (int t = piece * 8; t < least(s->n, piece * 8 + 8); t++) {
        float *out = s->normed + (size_t)t * m->hidden;
        rms_norm(s->x + (size_t)t * m->hidden, s->norm, m->hidden, m->epsilon, out);
        quantise(out, &s->narrow, t);
    }
}

static void quantise_mixed(void *context, int piece) {
    Step *s = context;
    int width = s->model->hidden;
    for (int t = piece * 8; t < least(s->n, piece * 8 + 8); t++) quantise(s->mixed + (size_t)t * width, &s->narrow, t);
}

/* Tokens t to t + count times a block, its low-rank part included. */
static void product(
    const Step *s, const Matrix *matrix, int block, const Quantised *activations, int t, int count, float out[][BLOCK]
) {
    multiply(matrix, block, activations, t, count, out);
    if (matrix->down)
        add_low_rank(matrix, block, s->reduced + (size_t)t * s->reduced_width, s->reduced_width, count, out);
}

/* target [n][target_width] = (or, if it adds, +=) matrix x activations, for `per_piece` blocks. */
static void project(void *context, int piece) {
    Step *s = context;
    float out[TILE][BLOCK];
    for (int block = piece * s->per_piece; block < least(s->matrix->blocks, (piece + 1) * s->per_piece); block++)
        for (int t = 0; t < s->n; t += TILE) {
            int count = least(TILE, s->n - t);
            product(s, s->matrix, block, s->activations, t, count, out);
            for (int i = 0; i < count; i++) {
                float *place = s->target + (size_t)(t + i) * s->target_width + block * BLOCK;
                for (int lane = 0; lane < BLOCK; lane += LANES)
                    *(vec *)(place + lane) = *(vec *)(out[i] + lane) + (s->adds ? *(vec *)(place + lane) : (vec){0});
            }
        }
}

/* silu(gate) * up, quantised at once: two blocks of each are a group of the next product's inputs. */
static void feed(void *context, int piece) {
    Step *s = context;
    const Matrix *m = &s->model->layer[s->layer].gate_up;
    float gate[TILE][BLOCK], up[TILE][BLOCK], group[TILE][GROUP];
    for (int t = 0; t < s->n; t += TILE) {
        int count = least(TILE, s->n - t);
        for (int half = 0; half < 2; half++) {
            product(s, m, piece * 4 + half * 2, &s->narrow, t, count, gate);
            product(s, m, piece * 4 + half * 2 + 1, &s->narrow, t, count, up);
            for (int i = 0; i < count; i++)
                for (int lane = 0; lane < BLOCK; lane += LANES) {
                    vec g = *(vec *)(gate[i] + lane);
                    *(vec *)(group[i] + half * BLOCK + lane) = g / (exponential(-g) + 1.0f) * *(vec *)(up[i] + lane);
                }
        }
        for (int i = 0; i < count; i++) quantise_group(group[i], &s->wide, t + i, piece);
    }
}

/* Turns queries and keys by their position, and puts keys and values into the rows' caches. */
static void place_tokens(void *context, int piece) {
    Step *s = context;
    const Model *m = s->model;
    int width = m->head_width, half = width / 2, all = (m->heads + 2 * m->key_heads) * width;
    for (int t = piece * 8; t < least(s->n, piece * 8 + 8); t++) {
        float *base = s->projected + (size_t)t * all;
        const float *cosine = s->cosines + (size_t)t * half, *sine = s->sines + (size_t)t * half;
        for (int head = 0; head < m->heads + m->key_heads; head++) {
            float *first = base + head * width, *second = first + half;
            for (int d = 0; d < half; d++) {
                float a = first[d], b = second[d];
                first[d] = a * cosine[d] - b * sine[d];
                second[d] = b * cosine[d] + a * sine[d];
            }
        }
        const Cache *own = &s->rows[s->row[t]].own;
        int place = s->place[t];
        for (int head = 0; head < m->key_heads; head++) {
            size_t start = ((size_t)s->layer * m->key_heads + head) * width * own->capacity;
            const float *key = base + (m->heads + head) * width, *value = key + m->key_heads * width;
            for (int d = 0; d < width; d++) own->keys[start + (size_t)d * own->capacity + place] = key[d];
            memcpy(own->values + start + (size_t)place * width, value, width * sizeof *value);
        }
    }
}

static void attend(void *context, int piece) {
    const Step *s = context;
    const Model *m = s->model;
    int width = m->head_width, shared = m->heads / m->key_heads, t = piece / m->key_heads, head = piece % m->key_heads;
    const Row *row = &s->rows[s->row[t]];
    size_t key_head = (size_t)s->layer * m->key_heads + head;
    const float *queries = s->projected + (size_t)t * (m->heads + 2 * m->key_heads) * width;
    float *out = s->mixed + (size_t)t * m->hidden;
    int first = head * shared, end = first + shared, behind = s->place[t] + 1;
    for (; first + HEADS_AT_ONCE <= end; first += HEADS_AT_ONCE)
        attend_heads(row, key_head, behind, queries + first * width, HEADS_AT_ONCE, width, out + first * width);
    for (; first < end; first++)
        attend_heads(row, key_head, behind, queries + first * width, 1, width, out + first * width);
}

static void attend_token(void *context, int piece) {
    int heads = ((Step *)context)->model->key_heads;
    for (int head = 0; head < heads; head++) attend(context, piece * heads + head);
}

static void write_logits(void *context, int piece) {
    Step *s = context;
    const Matrix *head = &s->model->head;
    float out[TILE][BLOCK];
    for (int block = piece * s->per_piece; block < least(head->blocks, (piece + 1) * s->per_piece); block++)
        for (int t = 0; t < s->outputs; t += TILE) {
            int count = least(TILE, s->outputs - t), used = least(BLOCK, s->model->vocabulary - block * BLOCK);
            multiply(head, block, &s->narrow, t, count, out);
            for (int i = 0; i < count; i++)
                memcpy(s->logits + (size_t)(t + i) * s->model->vocabulary + block * BLOCK, out[i], used * sizeof(float));
        }
}

static void share_norm(Crew *crew, Step *s, const float *weight) {
    s->norm = weight;
    share(crew, (s->n + 7) / 8, normalise, s);
}

static void share_reduced(Crew *crew, Step *s, const Matrix *matrix, const Quantised *activations);

static void share_product(
    Crew *crew, Step *s, const Matrix *matrix, const Quantised *activations, float *target, int adds
) {
    share_reduced(crew, s, matrix, activations);
    s->matrix = matrix;
    s->activations = activations;
    s->target = target;
    s->target_width = matrix->blocks * BLOCK;
    s->adds = adds;
    s->per_piece = s->n < 4 ? 4 : 1;
    share(crew, (matrix->blocks + s->per_piece - 1) / s->per_piece, project, s);
}

/* The first half of a matrix's low-rank part, where it has one. */
static void share_reduced(Crew *crew, Step *s, const Matrix *matrix, const Quantised *activations) {
    if (!matrix->down) return;
    share_product(crew, s, matrix->down, activations, s->reduced, 0);
    s->reduced_width = s->target_width;
}

static int widest_reduced(const Model *model) {
    int widest = 1;
    for (int i = 0; i < model->layers; i++) {
        const Layer *layer = &model->layer[i];
        const Matrix *all[] = {&layer->query_key_value, &layer->output, &layer->gate_up, &layer->down};
        for (int j = 0; j < 4; j++)
            if (all[j]->down && all[j]->down->blocks * BLOCK > widest) widest = all[j]->down->blocks * BLOCK;
    }
    return widest;
}

static int make_quantised(Quantised *q, int n, int inputs) {
    q->inputs = inputs;
    q->tile = least(TILE, n);
    q->groups = malloc((size_t)(n + q->tile - 1) / q->tile * q->tile * (inputs / GROUP) * sizeof(Activations));
    return q->groups != NULL;
}

Crew *openferret_gather(int threads) { return gather(threads); }

void openferret_dismiss(Crew *crew) { dismiss(crew); }

/* What the products were compiled for: PLAIN, AVX2, VNNI or NEON. */
int openferret_instructions(void) { return INSTRUCTIONS; }

size_t openferret_sizes(int which) {
    size_t sizes[] = {sizeof(Matrix), sizeof(Layer), sizeof(Model), sizeof(Cache), sizeof(Row)};
    return sizes[which];
}

/* Adds n tokens to their rows; 0, or 1 where memory is short.
 *
 * embeddings [n][hidden]; row [n]; place [n] in the row's own cache, which has room; position [n], which the
 * rotary embedding turns by; chosen [outputs], the tokens whose logits [outputs][vocabulary] are written.
 */
int openferret_step(
    Crew *crew, const Model *model, const Row *rows, int n, const float *embeddings, const int32_t *row,
    const int32_t *place, const int32_t *position, int outputs, const int32_t *chosen, float *logits
) {
    int hidden = model->hidden, width = model->head_width, half = width / 2;
    int all = (model->heads + 2 * model->key_heads) * width, most = n > outputs ? n : outputs;
    Step s = {.model = model, .rows = rows, .row = row, .place = place, .n = n};
    s.outputs = outputs;
    s.chosen = chosen;
    s.logits = logits;
    s.x = malloc((size_t)n * hidden * sizeof(float));
    s.normed = malloc((size_t)most * hidden * sizeof(float));
    s.projected = malloc((size_t)n * all * sizeof(float));
    s.mixed = malloc((size_t)n * hidden * sizeof(float));
    s.reduced = malloc((size_t)n * widest_reduced(model) * sizeof(float));
    s.cosines = malloc((size_t)n * half * sizeof(float));
    s.sines = malloc((size_t)n * half * sizeof(float));
    int fits = make_quantised(&s.narrow, most, hidden) & make_quantised(&s.wide, n, model->intermediate);
    fits = fits && s.x && s.normed && s.projected && s.mixed && s.reduced && s.cosines && s.sines;
    if (fits) {
        memcpy(s.x, embeddings, (size_t)n * hidden * sizeof(float));
        for (int t = 0; t < n; t++)
            for (int d = 0; d < half; d++) {
                float angle = (float)position[t] * model->frequencies[d];
                s.cosines[(size_t)t * half + d] = cosf(angle);
                s.sines[(size_t)t * half + d] = sinf(angle);
            }
        int eighths = (n + 7) / 8;
        wake(crew);
        for (s.layer = 0; s.layer < model->layers; s.layer++) {
            const Layer *layer = &model->layer[s.layer];
            share_norm(crew, &s, layer->attention_norm);
            share_product(crew, &s, &layer->query_key_value, &s.narrow, s.projected, 0);
            share(crew, eighths, place_tokens, &s);
            if (!outputs && s.layer == model->layers - 1) break; /* only its keys and values are ever read */
            if (n < 4) share(crew, n * model->key_heads, attend, &s);
            else share(crew, n, attend_token, &s);
            share(crew, eighths, quantise_mixed, &s);
            share_product(crew, &s, &layer->output, &s.narrow, s.x, 1);
            share_norm(crew, &s, layer->feed_norm);
            share_reduced(crew, &s, &layer->gate_up, &s.narrow);
            share(crew, model->intermediate / GROUP, feed, &s);
            share_product(crew, &s, &layer->down, &s.wide, s.x, 1);
        }
        for (int i = 0; i < outputs; i++) {
            float *out = s.normed + (size_t)i * hidden;
            rms_norm(s.x + (size_t)chosen[i] * hidden, model->final_norm, hidden, model->epsilon, out);
            quantise(out, &s.narrow, i);
        }
        s.per_piece = 32;
        if (outputs) share(crew, (model->head.blocks + 31) / 32, write_logits, &s);
        let_sleep(crew);
    }
    free(s.x);
    free(s.normed);
    free(s.projected);
    free(s.mixed);
    free(s.reduced);
    free(s.cosines);
    free(s.sines);
    free(s.narrow.groups);
    free(s.wide.groups);
    return !fits;
}
