/* See load.h. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* §5.2.6 */
#define BLK_T_IN 0u
#define BLK_T_OUT 1u
#define BLK_S_OK 0u

static uint64_t nanoseconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t next_random(struct load *load)
{
    load->random_state += 0x9e3779b97f4a7c15ull;
    return mix64(load->random_state);
}

/* ---- requests ---- */

static uint64_t choose_block(struct load *load)
{
    uint64_t block;

    if (load->options->sequential || load->prefilling) {
        block = load->next_block;
        load->next_block = (load->next_block + 1) % load->blocks;
    } else {
        block = next_random(load) % load->blocks;
    }
    /* Two requests at once for one block, one of them a write, have no defined result to verify. */
    while (load->claimed && load->claimed[block])
        block = (block + 1) % load->blocks;
    return block;
}

static void submit(struct load *load, struct queue *q, struct slot *slot, uint64_t now)
{
    const struct options *o = load->options;
    bool write = load->prefilling || (o->writes > 0 && next_random(load) % 100 < o->writes);

    slot->block = choose_block(load);
    if (load->prefilling)
        load->blocks_left--;
    if (load->claimed)
        load->claimed[slot->block] = 1;
    if (slot->write != write) {
        slot->write = write;
        for (unsigned i = 0; i < o->segments; i++)
            slot->data_desc[i].flags = (uint16_t)(VQ_DESC_F_NEXT | (write ? 0 : VQ_DESC_F_WRITE));
    }
    if (write && load->generations)
        content_stamp(load, slot, load->prefilling ? 0 : ++load->generations[slot->block]);
    slot->header->type = write ? BLK_T_OUT : BLK_T_IN;
    slot->header->reserved = 0;
    slot->header->sector = slot->block * (o->block_size / SECTOR);
    *slot->status = POISON;
    slot->submitted = now;
    slot->in_flight = true;
    q->in_flight++;
    vq_add(&q->ring, slot->head);
}

static unsigned histogram_step(uint64_t ns)
{
    unsigned power;

    if (ns < HISTOGRAM_STEPS)
        return (unsigned)ns;
    power = 63u - (unsigned)__builtin_clzll(ns); /* at least 6 */
    return (power - 5) * HISTOGRAM_STEPS + (unsigned)(ns >> (power - 6)) % HISTOGRAM_STEPS;
}

double tally_quantile(const struct tally *tally, double fraction)
{
    uint64_t wanted = (uint64_t)(fraction * (double)tally->requests);
    uint64_t seen = 0;

    for (unsigned i = 0; i < HISTOGRAM_SIZE; i++) {
        seen += tally->histogram[i];
        if (seen > wanted) {
            if (i < HISTOGRAM_STEPS)
                return i;
            double width = (double)(1ull << (i / HISTOGRAM_STEPS - 1));
            return (HISTOGRAM_STEPS + i % HISTOGRAM_STEPS + 0.5) * width;
        }
    }
    return (double)tally->latency_max;
}

static void complete(struct load *load, struct queue *q, struct slot *slot, struct tally *tally, uint64_t now)
{
    uint64_t latency = now - slot->submitted;

    slot->in_flight = false;
    q->in_flight--;
    if (*slot->status != BLK_S_OK)
        die("block %llu: status %#x after a %s; 0 expected", (unsigned long long)slot->block, *slot->status,
            slot->write ? "write" : "read");
    if (load->options->verify) {
        if (!slot->write)
            content_verify(load, slot);
        content_verify_guards(load, slot);
        tally->verified += !slot->write;
    }
    if (load->claimed)
        load->claimed[slot->block] = 0;
    tally->requests++;
    tally->latency_sum += latency;
    tally->histogram[histogram_step(latency)]++;
    if (latency > tally->latency_max)
        tally->latency_max = latency;
}

/* The slot that a used element gives back; §2.7.8: `length` counts what the device wrote, the status included. */
static struct slot *check_element(const struct load *load, struct queue *q, struct vq_used_element element)
{
    struct slot *slot = element.id < VQ_SIZE ? q->by_head[element.id] : NULL;
    uint64_t length;

    if (!slot)
        die("used element with id %u, which is no chain's head", element.id);
    if (!slot->in_flight)
        die("used element with id %u, which is not in flight", element.id);
    length = slot->write ? 1 : load->options->block_size + 1;
    if (element.length != length)
        die("block %llu: used length %u after a %s of %llu bytes; %llu expected", (unsigned long long)slot->block,
            element.length, slot->write ? "write" : "read", (unsigned long long)load->options->block_size,
            (unsigned long long)length);
    return slot;
}

static bool more_to_do(const struct load *load, uint64_t now)
{
    return load->prefilling ? load->blocks_left > 0 : now < load->deadline;
}

/* Takes what is done and puts new requests in its place; returns how many were done.  Time is taken once for a
 * batch: when it was seen. */
static unsigned reap(struct load *load, struct queue *q, struct tally *tally)
{
    unsigned count = vq_pending(&q->ring);
    uint64_t now;

    if (count == 0)
        return 0;
    if (count > q->in_flight)
        die("the used index runs ahead: %u new elements with %u requests in flight", count, q->in_flight);
    now = nanoseconds();
    for (unsigned i = 0; i < count; i++) {
        struct slot *slot = check_element(load, q, vq_take(&q->ring));
        complete(load, q, slot, tally, now);
        if (more_to_do(load, now))
            submit(load, q, slot, now);
    }
    vq_publish(&q->ring);
    return count;
}

/* ---- waiting ---- */

enum { WATCH_CALL, WATCH_ERR, WATCH_SOCKET };

static void watch(struct load *load, int fd, uint32_t events, uint32_t what)
{
    struct epoll_event event = {.events = events, .data.u32 = what};

    if (epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll: %s", strerror(errno));
}

void load_watch(struct load *load)
{
    load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < load->options->queues; i++) {
        /* Edge-triggered: each call wakes us although the counter is never read, which so keeps the number of
         * calls until the end. */
        watch(load, load->queues[i].ring.call_fd, EPOLLIN | EPOLLET, WATCH_CALL);
        watch(load, load->queues[i].ring.err_fd, EPOLLIN, WATCH_ERR);
    }
    watch(load, load->connection->fd, EPOLLIN | EPOLLRDHUP, WATCH_SOCKET);
}

/* Waits for a call; false when none came in time. */
static bool wait_for_events(struct load *load, int timeout_ms)
{
    struct epoll_event events[8];
    int count = epoll_wait(load->epoll_fd, events, 8, timeout_ms);

    for (int i = 0; i < count; i++) {
        if (events[i].data.u32 == WATCH_ERR)
            die("the back end signals an error on a queue");
        if (events[i].data.u32 == WATCH_SOCKET)
            die("the back end %s", events[i].events & (EPOLLRDHUP | EPOLLHUP)
                                       ? "closed the connection"
                                       : "sent a message that nobody asked for");
    }
    return count > 0 || (count < 0 && errno == EINTR);
}

static _Noreturn void stalled(const struct load *load)
{
    unsigned in_flight = 0;

    for (unsigned i = 0; i < load->options->queues; i++) {
        if (vq_pending(&load->queues[i].ring) && !load->options->busy)
            die("queue %u: requests were completed without the interrupt that was asked for", i);
        in_flight += load->queues[i].in_flight;
    }
    die("no request was completed for %d ms; %u are in flight", load->options->timeout_ms, in_flight);
}

static void sleep_until_used(struct load *load)
{
    bool there = false;

    for (unsigned i = 0; i < load->options->queues; i++)
        there |= vq_enable_interrupts(&load->queues[i].ring);
    if (!there && !wait_for_events(load, load->options->timeout_ms))
        stalled(load);
    for (unsigned i = 0; i < load->options->queues; i++)
        vq_disable_interrupts(&load->queues[i].ring);
}

/* One turn of a busy wait; `turns` counts those since the last progress. */
static void spin(struct load *load, uint64_t turns, uint64_t last_progress)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
    if (turns % 65536 != 65535)
        return;
    wait_for_events(load, 0);
    if (nanoseconds() - last_progress > (uint64_t)load->options->timeout_ms * 1000000u)
        stalled(load);
}

/* ---- the loop ---- */

static void start_requests(struct load *load)
{
    for (unsigned i = 0; i < load->options->queues; i++) {
        struct queue *q = &load->queues[i];
        vq_disable_interrupts(&q->ring);
        for (unsigned s = 0; s < load->options->depth; s++) {
            uint64_t now = nanoseconds();
            if (more_to_do(load, now))
                submit(load, q, &q->slots[s], now);
        }
        vq_publish(&q->ring);
    }
}

static void drive(struct load *load, struct tally *tally)
{
    uint64_t turns = 0, last_progress = nanoseconds();

    start_requests(load);
    for (;;) {
        unsigned in_flight = 0, done = 0;
        for (unsigned i = 0; i < load->options->queues; i++) {
            done += reap(load, &load->queues[i], tally);
            in_flight += load->queues[i].in_flight;
        }
        if (in_flight == 0)
            return;
        if (done > 0) {
            turns = 0;
            continue;
        }
        if (!load->options->busy) {
            sleep_until_used(load);
            continue;
        }
        if (turns == 0)
            last_progress = nanoseconds();
        spin(load, turns++, last_progress);
    }
}

void load_prefill(struct load *load)
{
    struct tally ignored = {0};

    load->prefilling = true;
    load->next_block = 0;
    load->blocks_left = load->blocks;
    drive(load, &ignored);
    load->prefilling = false;
    load->next_block = 0;
}

static double cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void load_run(struct load *load, struct tally *tally)
{
    uint64_t start = nanoseconds();
    double cpu = cpu_seconds();

    load->deadline = start + (uint64_t)(load->options->seconds * 1e9);
    drive(load, tally);
    tally->seconds = (double)(nanoseconds() - start) / 1e9;
    tally->cpu_seconds = cpu_seconds() - cpu;
}
