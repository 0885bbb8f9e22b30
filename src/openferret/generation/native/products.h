/* A matrix times some tokens, as this processor does it best: `multiply`. */
#ifndef OPENFERRET_PRODUCTS_H
#define OPENFERRET_PRODUCTS_H

#include "kernels.h"

#if INSTRUCTIONS == PLAIN
#include "products_plain.h"
#else

#if INSTRUCTIONS == VNNI
#include "products_vnni.h"
#elif INSTRUCTIONS == NEON
#include "products_neon.h"
#else
#include "products_avx2.h"
#endif

/* `count` tokens, at most TILE, times one block. */
static void multiply(const Matrix *m, int block, const Quantised *a, int token, int count, float out[][BLOCK]) {
    switch (m->bits * 16 + count) {
        case 129: tile(m, 8, block, a, token, 1, out); break;
        case 130: tile(m, 8, block, a, token, 2, out); break;
        case 131: tile(m, 8, block, a, token, 3, out); break;
        case 132: tile(m, 8, block, a, token, 4, out); break;
        case 133: tile(m, 8, block, a, token, 5, out); break;
        case 134: tile(m, 8, block, a, token, 6, out); break;
        case 65: tile(m, 4, block, a, token, 1, out); break;
        case 66: tile(m, 4, block, a, token, 2, out); break;
        case 67: tile(m, 4, block, a, token, 3, out); break;
        case 68: tile(m, 4, block, a, token, 4, out); break;
        case 69: tile(m, 4, block, a, token, 5, out); break;
        case 70: tile(m, 4, block, a, token, 6, out); break;
    }
}

#endif

#endif
