/* Products in plain C: the same integers on any processor. */
#ifndef OPENFERRET_PRODUCTS_PLAIN_H
#define OPENFERRET_PRODUCTS_PLAIN_H

#include "kernels.h"

static void multiply(const Matrix *m, int block, const Quantised *a, int token, int count, float out[][BLOCK]) {
    const int groups = m->inputs / GROUP, four = m->bits == 4;
    for (int t = 0; t < count; t++) {
        memset(out[t], 0, sizeof out[t]);
        for (int group = 0; group < groups; group++) {
            const Activations *x = activations_of(a, token + t, group);
            size_t place = (size_t)block * groups + group;
            const uint8_t *data = m->data + place * (four ? GROUP_BYTES / 2 : GROUP_BYTES);
            const uint16_t *scales = m->scales + place * (four ? 2 * BLOCK : BLOCK);
            int32_t products[BLOCK];
            for (int i = 0; i < BLOCK; i++) products[i] = four ? 0 : x->correction;
            for (int quad = 0; quad < GROUP / 4; quad++)
                for (int j = 0; j < 4; j++) {
                    int32_t activation = x->pairs[quad * 4 + j % 2 * 2 + j / 2];
                    for (int i = 0; i < BLOCK; i++) {
                        int byte = data[(four ? quad / 2 : quad) * 64 + i * 4 + j];
                        products[i] += activation * (four ? byte >> quad % 2 * 4 & 15 : byte);
                    }
                }
            for (int i = 0; i < BLOCK; i++) {
                out[t][i] += (float)products[i] * (from_half(scales[i]) * x->scale);
                if (four) out[t][i] += from_half(scales[BLOCK + i]) * x->total;
            }
        }
    }
}

#endif
