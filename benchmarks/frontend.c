/*
 * A vhost-user front end for virtio-blk without a virtual machine: it negotiates as a driver and its hypervisor
 * would, keeps requests in flight, checks every answer, and prints one line of JSON.
 *
 * Follows the vhost-user protocol (QEMU, docs/interop/vhost-user.rst) and VIRTIO 1.4, chapters 2.7 and 5.2.
 * Exit status: 0, 1 when the back end broke a rule or a check failed (one line on stderr), 2 for wrong options.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

/* VIRTIO 1.4 chapter 6, and §5.2.3 */
#define F_INDIRECT_DESC (1ull << 28)
#define F_EVENT_IDX (1ull << 29)
#define F_VERSION_1 (1ull << 32)
#define F_BLK_SEG_MAX (1ull << 2)
#define F_BLK_RO (1ull << 5)
#define F_BLK_FLUSH (1ull << 9)
#define F_BLK_MQ (1ull << 12)

/* The start of §5.2.4's structure.  60 bytes end with write_zeroes_may_unmap and its padding: every back end
 * has these. */
struct blk_config {
    uint64_t capacity; /* in sectors */
    uint32_t size_max;
    uint32_t seg_max;
    uint8_t rest[44];
} __attribute__((packed));

_Noreturn void die(const char *format, ...)
{
    va_list arguments;

    fputs("frontend: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

/* ---- options ---- */

static _Noreturn void usage_error(const char *what, const char *value, const char *expected)
{
    fprintf(stderr, "frontend: %s %s: %s expected\n", what, value, expected);
    exit(2);
}

static uint64_t number(const char *name, const char *text, uint64_t least, uint64_t most)
{
    char expected[80], *end;
    unsigned long long value = strtoull(text, &end, 0);

    if (*text == '-' || end == text || *end || value < least || value > most) {
        snprintf(expected, sizeof expected, "a number from %" PRIu64 " to %" PRIu64, least, most);
        usage_error(name, text, expected);
    }
    return value;
}

static double seconds(const char *text)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value > 0 && value <= 86400))
        usage_error("--seconds", text, "seconds, more than 0 and at most 86400,");
    return value;
}

enum { BS = 1, DEPTH, QUEUES, SEGMENTS, SECONDS, WRITES, SEED, TIMEOUT, SOCKET };
enum { SEQUENTIAL = 32, NO_EVENT_IDX, INDIRECT, BUSY, PREFILL, VERIFY };

static const struct option long_options[] = {
    {"socket", required_argument, NULL, SOCKET},     {"bs", required_argument, NULL, BS},
    {"depth", required_argument, NULL, DEPTH},       {"queues", required_argument, NULL, QUEUES},
    {"segments", required_argument, NULL, SEGMENTS}, {"seconds", required_argument, NULL, SECONDS},
    {"writes", required_argument, NULL, WRITES},     {"seed", required_argument, NULL, SEED},
    {"timeout", required_argument, NULL, TIMEOUT},   {"sequential", no_argument, NULL, SEQUENTIAL},
    {"no-event-idx", no_argument, NULL, NO_EVENT_IDX}, {"indirect", no_argument, NULL, INDIRECT},
    {"busy", no_argument, NULL, BUSY},               {"prefill", no_argument, NULL, PREFILL},
    {"verify", no_argument, NULL, VERIFY},           {0},
};

static void check_options(struct options *o)
{
    unsigned per_request = o->indirect ? 1 : o->segments + 2;

    if (!o->socket)
        usage_error("--socket", "is missing", "the path of a listening socket");
    if (o->block_size % (SECTOR * o->segments))
        usage_error("--bs", "is no multiple", "512 times --segments");
    if (o->depth * per_request > VQ_SIZE)
        usage_error("--depth", "is too much for a queue of 256 descriptors", "less, or --indirect");
}

static void parse_options(int argc, char **argv, struct options *o)
{
    int option;

    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        switch (option) {
        case SOCKET: o->socket = optarg; break;
        case BS: o->block_size = number("--bs", optarg, SECTOR, 16 << 20); break;
        case DEPTH: o->depth = (unsigned)number("--depth", optarg, 1, VQ_SIZE); break;
        case QUEUES: o->queues = (unsigned)number("--queues", optarg, 1, 256); break;
        case SEGMENTS: o->segments = (unsigned)number("--segments", optarg, 1, VQ_SIZE - 2); break;
        case SECONDS: o->seconds = seconds(optarg); break;
        case WRITES: o->writes = (unsigned)number("--writes", optarg, 0, 100); break;
        case SEED: o->seed = number("--seed", optarg, 0, UINT64_MAX); break;
        case TIMEOUT: o->timeout_ms = (int)number("--timeout", optarg, 1, 3600) * 1000; break;
        case SEQUENTIAL: o->sequential = true; break;
        case NO_EVENT_IDX: o->event_idx = false; break;
        case INDIRECT: o->indirect = true; break;
        case BUSY: o->busy = true; break;
        case PREFILL: o->prefill = true; break;
        case VERIFY: o->verify = true; break;
        default: exit(2); /* getopt has said why */
        }
    }
    if (optind < argc)
        usage_error("argument", argv[optind], "options only");
    check_options(o);
}

/* ---- conversation ---- */

static uint64_t required(uint64_t offered, uint64_t bit, const char *name)
{
    if (!(offered & bit))
        die("the back end does not offer %s", name);
    return bit;
}

static uint64_t choose_features(const struct options *o, uint64_t offered)
{
    uint64_t features = required(offered, F_VERSION_1, "VIRTIO_F_VERSION_1") |
                        required(offered, VU_F_PROTOCOL_FEATURES, "VHOST_USER_F_PROTOCOL_FEATURES");

    if (o->event_idx)
        features |= required(offered, F_EVENT_IDX, "VIRTIO_F_EVENT_IDX");
    if (o->indirect)
        features |= required(offered, F_INDIRECT_DESC, "VIRTIO_F_INDIRECT_DESC");
    if (o->queues > 1)
        features |= required(offered, F_BLK_MQ, "VIRTIO_BLK_F_MQ");
    if ((o->writes || o->prefill) && offered & F_BLK_RO)
        die("the disk is read-only; nothing can be written to it");
    /* Without FLUSH no write may stay in a cache (§5.2.6.2): that would measure the disk. */
    return features | (offered & (F_BLK_SEG_MAX | F_BLK_RO | F_BLK_FLUSH));
}

static void negotiate_protocol(struct vu_connection *c, const struct options *o)
{
    uint64_t offered = vu_get_u64(c, VU_GET_PROTOCOL_FEATURES);
    uint64_t chosen = required(offered, VU_PROTOCOL_F_CONFIG, "VHOST_USER_PROTOCOL_F_CONFIG") |
                      (offered & (VU_PROTOCOL_F_MQ | VU_PROTOCOL_F_REPLY_ACK));

    vu_set_u64(c, VU_SET_PROTOCOL_FEATURES, chosen);
    c->reply_ack = chosen & VU_PROTOCOL_F_REPLY_ACK;
    if (chosen & VU_PROTOCOL_F_MQ) {
        uint64_t queues = vu_get_u64(c, VU_GET_QUEUE_NUM);
        if (queues < o->queues)
            die("the back end has %" PRIu64 " queues; %u are wanted", queues, o->queues);
    } else if (o->queues > 1) {
        die("the back end does not offer VHOST_USER_PROTOCOL_F_MQ");
    }
}

/* Sets load->blocks from the device's capacity, and checks what else the configuration space limits. */
static void read_config(struct load *load, uint64_t features)
{
    const struct options *o = load->options;
    struct blk_config config;

    _Static_assert(sizeof config == 60, "§5.2.4");
    vu_get_config(load->connection, &config, sizeof config);
    if (features & F_BLK_SEG_MAX && o->segments > config.seg_max)
        die("the device takes %" PRIu32 " segments a request; %u are wanted", config.seg_max, o->segments);
    load->blocks = config.capacity / (o->block_size / SECTOR);
    if (load->blocks < 2ull * o->depth * o->queues) /* so that verified requests never wait for a free block */
        die("the disk's %" PRIu64 " sectors are too few for %u requests of %" PRIu64 " bytes in flight",
            config.capacity, o->depth * o->queues, o->block_size);
}

static uint64_t user_address(const void *pointer)
{
    return (uint64_t)(uintptr_t)pointer;
}

static void start_ring(struct vu_connection *c, uint8_t index, const struct virtqueue *ring)
{
    vu_set_vring_state(c, VU_SET_VRING_NUM, index, VQ_SIZE);
    vu_set_vring_state(c, VU_SET_VRING_BASE, index, 0);
    vu_set_vring_addr(c, &(struct vu_ring_addresses){
                             .index = index,
                             .descriptor = user_address(ring->areas->desc),
                             .available = user_address(&ring->areas->avail),
                             .used = user_address(&ring->areas->used),
                         });
    vu_set_vring_fd(c, VU_SET_VRING_ERR, index, ring->err_fd);
    vu_set_vring_fd(c, VU_SET_VRING_CALL, index, ring->call_fd);
    vu_set_vring_fd(c, VU_SET_VRING_KICK, index, ring->kick_fd);
    vu_set_vring_state(c, VU_SET_VRING_ENABLE, index, 1);
}

static void start(struct load *load)
{
    struct vu_connection *c = load->connection;
    uint64_t features = choose_features(load->options, vu_get_u64(c, VU_GET_FEATURES));

    negotiate_protocol(c, load->options);
    vu_set_owner(c);
    read_config(load, features);
    load_prepare(load);
    vu_set_u64(c, VU_SET_FEATURES, features);
    vu_set_mem_table(c, load->regions, 2, load->memory_fd);
    for (unsigned i = 0; i < load->options->queues; i++)
        start_ring(c, (uint8_t)i, &load->queues[i].ring);
    load_watch(load);
}

/* The eventfd is shared, open file description and all: a back end that makes it block hangs a hypervisor. */
static void check_still_nonblocking(int fd, const char *name)
{
    if (!(fcntl(fd, F_GETFL) & O_NONBLOCK))
        die("the back end cleared O_NONBLOCK on the %s eventfd, which it shares with the front end", name);
}

static void stop(struct load *load)
{
    for (unsigned i = 0; i < load->options->queues; i++) {
        struct virtqueue *ring = &load->queues[i].ring;
        uint32_t base;
        vu_set_vring_state(load->connection, VU_SET_VRING_ENABLE, i, 0);
        base = vu_get_vring_base(load->connection, i);
        if (base != ring->shown)
            die("GET_VRING_BASE of queue %u gives %" PRIu32 "; %u expected", i, base, ring->shown);
        if (vq_pending(ring))
            die("queue %u: more used elements than requests", i);
        check_still_nonblocking(ring->kick_fd, "kick");
        check_still_nonblocking(ring->call_fd, "call");
    }
}

/* ---- report ---- */

struct notifications {
    uint64_t kicks;
    uint64_t publications;
    uint64_t interrupts;
};

/* Interrupts are counted since the last call of this; the rest since the start. */
static struct notifications count_notifications(const struct load *load)
{
    struct notifications sum = {0};

    for (unsigned i = 0; i < load->options->queues; i++) {
        const struct virtqueue *ring = &load->queues[i].ring;
        uint64_t calls = 0;
        if (read(ring->call_fd, &calls, sizeof calls) == sizeof calls)
            sum.interrupts += calls;
        sum.kicks += ring->kicks;
        sum.publications += ring->publications;
    }
    return sum;
}

static void report(const struct load *load, const struct tally *t, const struct notifications *before)
{
    struct notifications n = count_notifications(load);
    double requests = t->requests ? (double)t->requests : 1;
    uint64_t kicks = n.kicks - before->kicks, publications = n.publications - before->publications;

    printf("{\"requests\": %" PRIu64 ", \"seconds\": %.6f, \"iops\": %.1f, \"mib_per_second\": %.1f, ",
           t->requests, t->seconds, (double)t->requests / t->seconds,
           (double)t->requests * (double)load->options->block_size / t->seconds / 1048576.0);
    printf("\"latency_us\": {\"mean\": %.2f, \"p50\": %.2f, \"p99\": %.2f, \"max\": %.2f}, ",
           (double)t->latency_sum / requests / 1e3, tally_quantile(t, 0.5) / 1e3, tally_quantile(t, 0.99) / 1e3,
           (double)t->latency_max / 1e3);
    /* What could have been: a kick each time the available index moved, an interrupt for each used element. */
    printf("\"kicks\": %" PRIu64 ", \"kicks_suppressed\": %" PRIu64 ", ", kicks, publications - kicks);
    printf("\"interrupts\": %" PRIu64 ", \"interrupts_suppressed\": %" PRIu64 ", ", n.interrupts,
           t->requests > n.interrupts ? t->requests - n.interrupts : 0);
    printf("\"verified\": %" PRIu64 ", \"cpu_seconds\": %.6f}\n", t->verified, t->cpu_seconds);
}

int main(int argc, char **argv)
{
    static struct tally tally;
    struct options options = {.block_size = 4096,
                              .depth = 1,
                              .queues = 1,
                              .segments = 1,
                              .seconds = 1,
                              .seed = 1,
                              .timeout_ms = 10000,
                              .event_idx = true};
    struct vu_connection connection;
    struct load load = {.options = &options, .connection = &connection};
    struct notifications before;

    parse_options(argc, argv, &options);
    vu_connect(&connection, options.socket, options.timeout_ms);
    start(&load);
    if (options.prefill)
        load_prefill(&load);
    before = count_notifications(&load);
    load_run(&load, &tally);
    stop(&load);
    report(&load, &tally, &before);
    return 0;
}
