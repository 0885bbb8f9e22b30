/* Products and steps of a small random model, the same numbers on every processor: what they give is printed.
 *
 * Compiled with the engine's own source, for processors that this machine may only be able to imitate.
 */
#include "llama.c"
#include <stdio.h>

enum { HIDDEN = 64, INTERMEDIATE = 96, HEADS = 4, KEY_HEADS = 2, WIDTH = 16, LAYERS = 2, WORDS = 41, RANK = 16, ROOM = 32 };

static uint32_t state = 12345;

static uint32_t next_number(void) {
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

static float between(float most) { return ((float)(next_number() % 20001) / 10000.0f - 1.0f) * most; }

static uint16_t small_half(void) { return 0x1c00 + next_number() % 0x400; } /* 0.004 to 0.008 */

static float *numbers(int count, float base, float spread) {
    float *made = malloc(count * sizeof *made);
    for (int i = 0; i < count; i++) made[i] = base + between(spread);
    return made;
}

static Matrix matrix(int outputs, int inputs, int bits, int rank, int branches) {
    Matrix m = {.inputs = inputs, .blocks = (outputs + BLOCK - 1) / BLOCK, .bits = bits};
    size_t bytes = (size_t)m.blocks * inputs * BLOCK * bits / 8;
    size_t halves = (size_t)m.blocks * (inputs / GROUP) * BLOCK * (bits == 4 ? 2 : 1);
    uint8_t *data = malloc(bytes);
    uint16_t *scales = malloc(halves * sizeof *scales);
    for (size_t i = 0; i < bytes; i++) data[i] = (uint8_t)next_number();
    for (size_t i = 0; i < halves; i++) {
        scales[i] = small_half();
        if (bits == 4 && i / BLOCK % 2) scales[i] = (scales[i] + 0xc00) | 0x8000; /* the lowest is some -8 steps */
    }
    m.data = data;
    m.scales = scales;
    if (!rank) return m;
    Matrix *down = malloc(sizeof *down);
    uint16_t *up = malloc((size_t)m.blocks * rank * BLOCK * sizeof *up);
    int32_t *branch = malloc(m.blocks * sizeof *branch);
    *down = matrix(rank * branches, inputs, 8, 0, 0);
    for (int i = 0; i < m.blocks * rank * BLOCK; i++) up[i] = small_half() | (next_number() & 1) << 15;
    for (int i = 0; i < m.blocks; i++) branch[i] = i % branches;
    m.down = down;
    m.rank = rank;
    m.up = up;
    m.branch = branch;
    return m;
}

static void print_products(void) {
    for (int bits = 4; bits <= 8; bits += 4)
        for (int count = 1; count <= TILE; count++) {
            Matrix m = matrix(32, 96, bits, 0, 0);
            Quantised q = {.inputs = 96, .tile = count, .groups = malloc(sizeof(Activations) * count * 3)};
            float out[TILE][BLOCK];
            for (int t = 0; t < count; t++) quantise(numbers(96, 0, 3), &q, t);
            for (int block = 0; block < m.blocks; block++) {
                multiply(&m, block, &q, 0, count, out);
                for (int i = 0; i < count * BLOCK; i++) printf("%.5f\n", out[i / BLOCK][i % BLOCK]);
            }
        }
}

static Cache empty_cache(void) {
    size_t size = LAYERS * KEY_HEADS * WIDTH * ROOM;
    return (Cache){calloc(size, sizeof(float)), calloc(size, sizeof(float)), ROOM, 0};
}

static void print_steps(int threads) {
    Layer layers[LAYERS];
    for (int i = 0; i < LAYERS; i++) {
        layers[i].attention_norm = numbers(HIDDEN, 1, 0.1f);
        layers[i].feed_norm = numbers(HIDDEN, 1, 0.1f);
        layers[i].query_key_value = matrix((HEADS + 2 * KEY_HEADS) * WIDTH, HIDDEN, 4, RANK, 3);
        layers[i].output = matrix(HIDDEN, HIDDEN, 4, RANK, 1);
        layers[i].gate_up = matrix(2 * INTERMEDIATE, HIDDEN, i ? 8 : 4, i ? 0 : RANK, 2);
        layers[i].down = matrix(HIDDEN, INTERMEDIATE, 4, RANK, 1);
    }
    float frequencies[WIDTH / 2];
    for (int i = 0; i < WIDTH / 2; i++) frequencies[i] = 1.0f / (1 + i);
    Model model = {
        HIDDEN, INTERMEDIATE, HEADS, KEY_HEADS, WIDTH, LAYERS, WORDS, 1e-5f, frequencies,
        numbers(HIDDEN, 1, 0.1f), matrix(WORDS, HIDDEN, 8, 0, 0), layers
    };
    Crew *crew = gather(threads);
    enum { BEFORE = 19 };
    int32_t row[BEFORE] = {0}, place[BEFORE];
    for (int i = 0; i < BEFORE; i++) place[i] = i;
    Row beginning = {empty_cache(), empty_cache()};
    openferret_step(crew, &model, &beginning, BEFORE, numbers(BEFORE * HIDDEN, 0, 1), row, place, place, 0, NULL, NULL);
    Cache prefix = beginning.own;
    prefix.length = BEFORE;
    Row rows[2] = {{prefix, empty_cache()}, {prefix, empty_cache()}};
    int held[2] = {0, 0};
    for (int step = 0; step < 4; step++) {
        int32_t of[7], places[7], positions[7], last[2];
        int more[2] = {step ? 1 : 4, step ? 1 : 3}, count = 0;
        for (int r = 0; r < 2; r++) {
            for (int i = 0; i < more[r]; i++, count++) {
                of[count] = r;
                places[count] = held[r]++;
                positions[count] = BEFORE + places[count];
            }
            last[r] = count - 1;
        }
        float logits[2 * WORDS];
        if (openferret_step(
                crew, &model, rows, count, numbers(count * HIDDEN, 0, 1), of, places, positions, 2, last, logits
            ))
            exit(1);
        for (int i = 0; i < 2 * WORDS; i++) printf("%.4f\n", logits[i]);
    }
    dismiss(crew);
}

int main(int count, char **arguments) {
    printf("%d\n", openferret_instructions());
    print_products();
    print_steps(count > 1 ? atoi(arguments[1]) : 1);
    return 0;
}
