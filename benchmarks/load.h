/*
 * The load: virtio-blk requests (VIRTIO 1.4 §5.2.6) kept in flight on one or more virtqueues, each answer checked.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "vhost_user.h"
#include "virtqueue.h"

#define SECTOR 512u
#define POISON 0xA5u /* no status; also around the data, where no device may write */

struct options {
    const char *socket;
    uint64_t block_size; /* bytes a request */
    unsigned depth;      /* requests in flight, each queue */
    unsigned queues;
    unsigned segments; /* data descriptors a request */
    double seconds;
    unsigned writes; /* percent of the requests */
    uint64_t seed;
    int timeout_ms; /* without any progress */
    bool sequential;
    bool event_idx;
    bool indirect;
    bool busy;    /* poll the used index, ask for no interrupts */
    bool prefill; /* first write the pattern of generation 0 over the whole device */
    bool verify;  /* check content: blocks not written by this run hold the pattern of generation 0 */
};

/* Latencies in ns: exact up to 64, then 64 steps for each power of two (1.6 %). */
#define HISTOGRAM_STEPS 64u
#define HISTOGRAM_SIZE (HISTOGRAM_STEPS * 59u)

struct tally {
    uint64_t requests;
    uint64_t verified; /* requests whose content was checked against the pattern */
    double seconds;
    double cpu_seconds; /* used by this process */
    uint64_t latency_sum;
    uint64_t latency_max;
    uint64_t histogram[HISTOGRAM_SIZE];
};

/* §5.2.6 */
struct request_header {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
};

/* One request's place in guest memory; its chain of descriptors is made once. */
struct slot {
    struct request_header *header;
    uint8_t *status;
    uint8_t *data;
    struct vq_desc *data_desc; /* `segments` descriptors, in the table or in an indirect one */
    uint64_t submitted;        /* ns */
    uint64_t block;
    uint16_t head;
    bool write;
    bool in_flight;
};

struct queue {
    struct virtqueue ring;
    struct slot *slots;
    unsigned in_flight;
    struct slot *by_head[VQ_SIZE];
};

struct load {
    const struct options *options;
    struct vu_connection *connection;
    struct queue *queues;
    struct vu_region regions[2];
    int memory_fd;
    int epoll_fd;
    uint64_t blocks; /* the device's capacity in blocks */
    uint64_t random_state;
    uint64_t next_block;    /* of sequential loads */
    uint64_t blocks_left;   /* of a prefill */
    uint64_t deadline;      /* ns; of everything else */
    bool prefilling;
    uint32_t *generations; /* of each block: how often this run wrote it; only with verify or prefill */
    uint8_t *claimed;      /* of each block: in flight now; ditto */
};

/* splitmix64's finisher: every bit of the result depends on every bit of the argument. */
static inline uint64_t mix64(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

/* Fills a slot's data with the pattern of its block in a generation. */
void content_stamp(const struct load *load, struct slot *slot, uint32_t generation);

/* Compares a slot's data with the pattern of its block's present generation; die() where they differ. */
void content_verify(const struct load *load, const struct slot *slot);

/* Looks for writes in front of the data and behind it. */
void content_verify_guards(const struct load *load, const struct slot *slot);

/* Makes guest memory, rings and chains; load->blocks has to be known. */
void load_prepare(struct load *load);

/* Once the rings are started: waits for interrupts on every call eventfd, and for errors. */
void load_watch(struct load *load);

/* Writes the pattern over the whole device once. */
void load_prefill(struct load *load);

/* Keeps requests in flight for options->seconds, and drains. */
void load_run(struct load *load, struct tally *tally);

/* The latency in ns that `fraction` of the requests did not exceed (the middle of its step). */
double tally_quantile(const struct tally *tally, double fraction);

#endif
