/* A few threads that share the pieces of one job after another.
 *
 * Every member has a part of the pieces, which follow each other: so it reads one stretch of memory from end to end, and
 * what the processor fetches ahead is what it needs. Whoever is through with its own takes what is left of others', so a
 * thread that the system has stopped holds up nothing but the piece in its hands; the caller alone can finish a job.
 * (That also makes it safe after a fork, which leaves the caller alone.)
 * Within a step of the model the helpers watch for the next job without sleeping; between steps they sleep.
 */
#ifndef OPENFERRET_CREW_H
#define OPENFERRET_CREW_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef void (*Work)(void *context, int piece);

enum { MEMBERS = 64 };

/* A member's part of the pieces, on a cache line of its own. */
typedef struct {
    _Alignas(64) _Atomic uint64_t next; /* job number << 32 | next piece */
    _Atomic int end;
} Part;

typedef struct {
    Part parts[MEMBERS];
    _Atomic int done;
    _Atomic int awake, leaving;
    _Atomic(Work) work;
    _Atomic(void *) context;
    int helpers; /* all members but the caller, who is number 0 */
    _Atomic int numbered;
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    pthread_t threads[MEMBERS];
} Crew;

static inline void rest(int *waited) {
    if (++*waited % 256 == 0) sched_yield();
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Takes pieces of the present job until none is left: first its own part, then what others have left of theirs. */
static inline void take(Crew *crew, int self) {
    int members = crew->helpers + 1;
    for (int i = 0; i < members; i++) {
        Part *part = &crew->parts[(self + i) % members];
        for (;;) {
            uint64_t seen = atomic_load_explicit(&part->next, memory_order_acquire);
            int piece = (int32_t)(uint32_t)seen;
            if (piece >= atomic_load_explicit(&part->end, memory_order_relaxed)) break;
            Work work = atomic_load_explicit(&crew->work, memory_order_relaxed);
            void *context = atomic_load_explicit(&crew->context, memory_order_relaxed);
            /* Succeeds only if the job is still the one that was read: its end waits for this piece. */
            if (!atomic_compare_exchange_weak(&part->next, &seen, seen + 1)) continue;
            work(context, piece);
            atomic_fetch_add_explicit(&crew->done, 1, memory_order_release);
        }
    }
}

static void *helper(void *argument) {
    Crew *crew = argument;
    int waited = 0, self = atomic_fetch_add(&crew->numbered, 1) + 1;
    while (!atomic_load(&crew->leaving)) {
        if (!atomic_load_explicit(&crew->awake, memory_order_acquire)) {
            pthread_mutex_lock(&crew->mutex);
            while (!atomic_load(&crew->awake) && !atomic_load(&crew->leaving))
                pthread_cond_wait(&crew->condition, &crew->mutex);
            pthread_mutex_unlock(&crew->mutex);
        }
        take(crew, self);
        rest(&waited);
    }
    return NULL;
}

static inline int first_piece(int pieces, int member, int members) {
    return (int)((int64_t)pieces * member / members);
}

static void share(Crew *crew, int pieces, Work work, void *context) {
    if (pieces == 1 || !crew->helpers) {
        for (int piece = 0; piece < pieces; piece++) work(context, piece);
        return;
    }
    int members = crew->helpers + 1;
    uint64_t job = (atomic_load(&crew->parts[0].next) >> 32) + 1;
    /* Closed while it changes: nobody takes a piece of the old job as one of the new. */
    for (int i = 0; i < members; i++) atomic_store(&crew->parts[i].next, job << 32 | INT32_MAX);
    atomic_store(&crew->work, work);
    atomic_store(&crew->context, context);
    atomic_store(&crew->done, 0);
    for (int i = 0; i < members; i++) {
        atomic_store(&crew->parts[i].end, first_piece(pieces, i + 1, members));
        atomic_store_explicit(&crew->parts[i].next, job << 32 | first_piece(pieces, i, members), memory_order_release);
    }
    take(crew, 0);
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
    Crew *crew = aligned_alloc(_Alignof(Crew), sizeof *crew);
    if (!crew) return NULL;
    memset(crew, 0, sizeof *crew);
    pthread_mutex_init(&crew->mutex, NULL);
    pthread_cond_init(&crew->condition, NULL);
    for (int i = 0; i + 1 < threads && i + 1 < MEMBERS; i++)
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
