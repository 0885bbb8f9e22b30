/* A few threads that share the pieces of one job after another.
 *
 * Whoever is free takes the next piece, so a thread that the system has stopped holds up nothing but the piece in
 * its hands; the caller alone can finish a job. (That also makes it safe after a fork, which leaves the caller alone.)
 * Within a step of the model the helpers watch for the next job without sleeping; between steps they sleep.
 */
#ifndef OPENFERRET_CREW_H
#define OPENFERRET_CREW_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

typedef void (*Work)(void *context, int piece);

typedef struct {
    _Atomic uint64_t next; /* job number << 32 | next piece */
    _Atomic int done;
    _Atomic int pieces;
    _Atomic int awake, leaving;
    _Atomic(Work) work;
    _Atomic(void *) context;
    int helpers;
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    pthread_t threads[64];
} Crew;

static inline void rest(int *waited) {
    if (++*waited % 256 == 0) sched_yield();
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Takes pieces of the present job until none is left. */
static inline void take(Crew *crew) {
    for (;;) {
        uint64_t seen = atomic_load_explicit(&crew->next, memory_order_acquire);
        int piece = (int32_t)(uint32_t)seen;
        if (piece >= atomic_load_explicit(&crew->pieces, memory_order_relaxed)) return;
        Work work = atomic_load_explicit(&crew->work, memory_order_relaxed);
        void *context = atomic_load_explicit(&crew->context, memory_order_relaxed);
        /* Succeeds only if the job is still the one that was read: its end waits for this piece. */
        if (!atomic_compare_exchange_weak(&crew->next, &seen, seen + 1)) continue;
        work(context, piece);
        atomic_fetch_add_explicit(&crew->done, 1, memory_order_release);
    }
}

static void *helper(void *argument) {
    Crew *crew = argument;
    int waited = 0;
    while (!atomic_load(&crew->leaving)) {
        if (!atomic_load_explicit(&crew->awake, memory_order_acquire)) {
            pthread_mutex_lock(&crew->mutex);
            while (!atomic_load(&crew->awake) && !atomic_load(&crew->leaving))
                pthread_cond_wait(&crew->condition, &crew->mutex);
            pthread_mutex_unlock(&crew->mutex);
        }
        take(crew);
        rest(&waited);
    }
    return NULL;
}

static void share(Crew *crew, int pieces, Work work, void *context) {
    if (pieces == 1 || !crew->helpers) {
        for (int piece = 0; piece < pieces; piece++) work(context, piece);
        return;
    }
    uint64_t job = (atomic_load(&crew->next) >> 32) + 1;
    /* Closed while it changes: nobody takes a piece of the old job as one of the new. */
    atomic_store(&crew->next, job << 32 | INT32_MAX);
    atomic_store(&crew->work, work);
    atomic_store(&crew->context, context);
    atomic_store(&crew->done, 0);
    atomic_store(&crew->pieces, pieces);
    atomic_store_explicit(&crew->next, job << 32, memory_order_release);
    take(crew);
    for (int waited = 0; atomic_load_explicit(&crew->done, memory_order_acquire) < pieces;) rest(&waited);
}

static void wake(Crew *crew) {
    if (!crew->helpers) return;
    pthread_mutex_lock(&crew->mutex);
    atomic_store(&crew->awake, 1);
    pthread_cond_broadcast(&crew->condition);
    pthread_mutex_unlock(&crew->mutex);
}

static void let_sleep(Crew *crew) { atomic_store(&crew->awake, 0); }

static Crew *gather(int threads) {
    Crew *crew = calloc(1, sizeof *crew);
    if (!crew) return NULL;
    pthread_mutex_init(&crew->mutex, NULL);
    pthread_cond_init(&crew->condition, NULL);
    for (int i = 0; i + 1 < threads && i < 64; i++)
        if (pthread_create(&crew->threads[crew->helpers], NULL, helper, crew) == 0) crew->helpers++;
    return crew;
}

static void dismiss(Crew *crew) {
    pthread_mutex_lock(&crew->mutex);
    atomic_store(&crew->leaving, 1);
    pthread_cond_broadcast(&crew->condition);
    pthread_mutex_unlock(&crew->mutex);
    for (int i = 0; i < crew->helpers; i++) pthread_join(crew->threads[i], NULL);
    free(crew);
}

#endif
