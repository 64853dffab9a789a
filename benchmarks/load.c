/* See load.h. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* §5.2.6 */
#define BLK_T_IN 0u
#define BLK_T_OUT 1u
#define BLK_S_OK 0u

struct request_header {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
};

#define POISON 0xA5u /* no status; also around the data, where no device may write */
#define GUARD 64u    /* bytes of it that are looked at on each side */
#define PAGE 4096u

/* Guest-physical addresses: they differ from offsets in the memory file and from addresses in this process, so
 * that a back end which takes one for another is found out.  Data lies above 4 GiB, as most memory of a PC. */
#define CONTROL_BASE 0x100000ull
#define DATA_BASE 0x100000000ull

static uint64_t nanoseconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t round_up(uint64_t value, uint64_t to)
{
    return (value + to - 1) / to * to;
}

/* splitmix64's finisher: every bit of the result depends on every bit of the argument. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static uint64_t next_random(struct load *load)
{
    load->random_state += 0x9e3779b97f4a7c15ull;
    return mix(load->random_state);
}

/* ---- content ---- */

static uint64_t pattern_word(const struct load *load, uint64_t disk_word, uint32_t generation)
{
    return mix(load->options->seed + disk_word * 0x9e3779b97f4a7c15ull + ((uint64_t)generation << 32));
}

/* Segments lie in memory in reverse order, so that no back end can take them for one. */
static uint64_t *segment_words(const struct load *load, const struct slot *slot, unsigned segment)
{
    uint64_t length = load->options->block_size / load->options->segments;

    return (uint64_t *)(void *)(slot->data + (load->options->segments - 1 - segment) * length);
}

static void stamp(const struct load *load, struct slot *slot, uint32_t generation)
{
    uint64_t words = load->options->block_size / load->options->segments / 8;
    uint64_t disk_word = slot->block * load->options->block_size / 8;

    for (unsigned segment = 0; segment < load->options->segments; segment++) {
        uint64_t *to = segment_words(load, slot, segment);
        for (uint64_t i = 0; i < words; i++)
            to[i] = pattern_word(load, disk_word++, generation);
    }
}

static void verify(const struct load *load, const struct slot *slot)
{
    uint64_t words = load->options->block_size / load->options->segments / 8;
    uint64_t disk_word = slot->block * load->options->block_size / 8;
    uint32_t generation = load->generations[slot->block];

    for (unsigned segment = 0; segment < load->options->segments; segment++) {
        const uint64_t *from = segment_words(load, slot, segment);
        for (uint64_t i = 0; i < words; i++, disk_word++) {
            uint64_t expected = pattern_word(load, disk_word, generation);
            if (from[i] != expected)
                die("wrong content at byte %llu of the disk: %016llx read, %016llx expected (generation %u)",
                    (unsigned long long)disk_word * 8, (unsigned long long)from[i],
                    (unsigned long long)expected, generation);
        }
    }
}

static void verify_guards(const struct load *load, const struct slot *slot)
{
    for (unsigned i = 0; i < GUARD; i++) {
        if (slot->data[-1 - (int)i] != POISON)
            die("block %llu: the device wrote in front of the data", (unsigned long long)slot->block);
        if (slot->data[load->options->block_size + i] != POISON)
            die("block %llu: the device wrote behind the data", (unsigned long long)slot->block);
    }
}

/* ---- memory and chains ---- */

static uint64_t guest_address(const struct load *load, const void *pointer)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct vu_region *r = &load->regions[i];
        uint64_t offset = (uint64_t)(uintptr_t)pointer - r->user_address;
        if (offset < r->size)
            return r->guest_address + offset;
    }
    die("an address outside of guest memory");
}

static void fill_chain(struct load *load, struct slot *slot, struct vq_desc *table, uint16_t first)
{
    unsigned count = load->options->segments + 2;
    uint32_t length = (uint32_t)(load->options->block_size / load->options->segments);

    slot->data_desc = table + first + 1;
    for (unsigned i = 0; i < count; i++) {
        struct vq_desc *d = table + first + i;
        bool last = i == count - 1;
        if (i == 0)
            *d = (struct vq_desc){.address = guest_address(load, slot->header), .length = sizeof *slot->header};
        else if (last)
            *d = (struct vq_desc){
                .address = guest_address(load, slot->status), .length = 1, .flags = VQ_DESC_F_WRITE};
        else
            *d = (struct vq_desc){.address = guest_address(load, segment_words(load, slot, i - 1)),
                                  .length = length,
                                  .flags = VQ_DESC_F_WRITE}; /* a read, until submit() turns it */
        if (!last) {
            d->flags |= VQ_DESC_F_NEXT;
            d->next = (uint16_t)(first + i + 1);
        }
    }
}

/* What one slot needs in the control region: its header, its status byte, an indirect table. */
static uint64_t control_size(const struct options *o)
{
    return round_up(sizeof(struct request_header) + 1, 64) +
           round_up(sizeof(struct vq_desc) * (o->segments + 2), 64);
}

static uint64_t data_size(const struct options *o)
{
    return round_up(o->block_size, PAGE) + PAGE; /* a page of poison behind each */
}

static void prepare_queue(struct load *load, struct queue *q, uint8_t *control, uint8_t *data)
{
    const struct options *o = load->options;

    q->ring.areas = (struct vq_areas *)(void *)control;
    q->ring.event_idx = o->event_idx;
    q->ring.kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    q->ring.call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    q->ring.err_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    q->slots = calloc(o->depth, sizeof *q->slots);
    if (!q->slots || q->ring.kick_fd < 0 || q->ring.call_fd < 0 || q->ring.err_fd < 0)
        die("a queue cannot be made: %s", strerror(errno));
    control += round_up(sizeof(struct vq_areas), PAGE);
    for (unsigned i = 0; i < o->depth; i++) {
        struct slot *slot = &q->slots[i];
        struct vq_desc *table = (struct vq_desc *)(void *)(control + 64);
        slot->header = (struct request_header *)(void *)control;
        slot->status = control + sizeof *slot->header;
        slot->data = data;
        slot->head = (uint16_t)(o->indirect ? i : i * (o->segments + 2));
        q->by_head[slot->head] = slot;
        if (o->indirect) {
            fill_chain(load, slot, table, 0);
            q->ring.areas->desc[slot->head] =
                (struct vq_desc){.address = guest_address(load, table),
                                 .length = (uint32_t)(sizeof *table * (o->segments + 2)),
                                 .flags = VQ_DESC_F_INDIRECT};
        } else {
            fill_chain(load, slot, q->ring.areas->desc, slot->head);
        }
        control += control_size(o);
        data += data_size(o);
    }
}

void load_prepare(struct load *load)
{
    const struct options *o = load->options;
    uint64_t queue_control = round_up(sizeof(struct vq_areas), PAGE) + round_up(control_size(o) * o->depth, PAGE);
    uint64_t queue_data = data_size(o) * o->depth;
    uint64_t control_total = queue_control * o->queues;
    uint64_t data_total = PAGE + queue_data * o->queues; /* the first guard */
    uint8_t *memory;

    load->memory_fd = memfd_create("guest memory", MFD_CLOEXEC);
    if (load->memory_fd < 0 || ftruncate(load->memory_fd, (off_t)(control_total + data_total)) < 0)
        die("guest memory: %s", strerror(errno));
    memory = mmap(NULL, control_total + data_total, PROT_READ | PROT_WRITE, MAP_SHARED, load->memory_fd, 0);
    if (memory == MAP_FAILED)
        die("guest memory: %s", strerror(errno));
    memset(memory + control_total, POISON, data_total);
    load->regions[0] = (struct vu_region){.guest_address = CONTROL_BASE,
                                          .size = control_total,
                                          .user_address = (uint64_t)(uintptr_t)memory};
    load->regions[1] = (struct vu_region){.guest_address = DATA_BASE,
                                          .size = data_total,
                                          .user_address = (uint64_t)(uintptr_t)memory + control_total,
                                          .mmap_offset = control_total};
    load->queues = calloc(o->queues, sizeof *load->queues);
    if (o->verify || o->prefill) {
        load->generations = calloc(load->blocks, sizeof *load->generations);
        load->claimed = calloc(load->blocks, 1);
    }
    if (!load->queues || ((o->verify || o->prefill) && (!load->generations || !load->claimed)))
        die("not enough memory");
    for (unsigned i = 0; i < o->queues; i++)
        prepare_queue(load, &load->queues[i], memory + i * queue_control,
                      memory + control_total + PAGE + i * queue_data);
    load->random_state = o->seed;
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
        stamp(load, slot, load->prefilling ? 0 : ++load->generations[slot->block]);
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
            verify(load, slot);
        verify_guards(load, slot);
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
