/*
 * The front end's half of a vhost-user conversation: messages only, no rings.
 *
 * Follows "Vhost-user Protocol" (QEMU, docs/interop/vhost-user.rst).  Every function ends the program
 * through die() when the back end answers with anything but what the document allows.
 */
#ifndef BENCH_VHOST_USER_H
#define BENCH_VHOST_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "Front-end message types" */
enum vu_request {
    VU_GET_FEATURES = 1,
    VU_SET_FEATURES = 2,
    VU_SET_OWNER = 3,
    VU_SET_MEM_TABLE = 5,
    VU_SET_VRING_NUM = 8,
    VU_SET_VRING_ADDR = 9,
    VU_SET_VRING_BASE = 10,
    VU_GET_VRING_BASE = 11,
    VU_SET_VRING_KICK = 12,
    VU_SET_VRING_CALL = 13,
    VU_SET_VRING_ERR = 14,
    VU_GET_PROTOCOL_FEATURES = 15,
    VU_SET_PROTOCOL_FEATURES = 16,
    VU_GET_QUEUE_NUM = 17,
    VU_SET_VRING_ENABLE = 18,
    VU_GET_CONFIG = 24,
};

/* "Protocol features", and the feature bit that announces them */
#define VU_F_PROTOCOL_FEATURES (1ULL << 30)
#define VU_PROTOCOL_F_MQ (1ULL << 0)
#define VU_PROTOCOL_F_REPLY_ACK (1ULL << 3)
#define VU_PROTOCOL_F_CONFIG (1ULL << 9)

#define VU_MAX_REGIONS 8

/* "Memory regions description": one region, all numbers 64 bits. */
struct vu_region {
    uint64_t guest_address;
    uint64_t size;
    uint64_t user_address;
    uint64_t mmap_offset;
};

/* "A vring address description": addresses are the front end's own (user) addresses. */
struct vu_ring_addresses {
    uint32_t index;
    uint32_t flags;
    uint64_t descriptor;
    uint64_t used;
    uint64_t available;
    uint64_t log;
};

struct vu_connection {
    int fd;
    bool reply_ack; /* negotiated: every message without a reply of its own asks for one */
};

/* Prints one line to stderr and exits with status 1: the back end broke a rule, or something failed. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Connects to the back end's listening socket; no message may take longer than timeout_ms. */
void vu_connect(struct vu_connection *c, const char *path, int timeout_ms);

/* Requests that are answered with one 64-bit integer (GET_FEATURES, GET_QUEUE_NUM, ...). */
uint64_t vu_get_u64(struct vu_connection *c, enum vu_request request);

/* Requests that carry one 64-bit integer, or nothing. */
void vu_set_u64(struct vu_connection *c, enum vu_request request, uint64_t value);
void vu_set_owner(struct vu_connection *c);

/* All regions are parts of one memory file. */
void vu_set_mem_table(struct vu_connection *c, const struct vu_region *regions, unsigned count, int memory_fd);

/* "A vring state description": SET_VRING_NUM, SET_VRING_BASE, SET_VRING_ENABLE. */
void vu_set_vring_state(struct vu_connection *c, enum vu_request request, uint32_t index, uint32_t num);
void vu_set_vring_addr(struct vu_connection *c, const struct vu_ring_addresses *addresses);

/* SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR. */
void vu_set_vring_fd(struct vu_connection *c, enum vu_request request, uint8_t index, int fd);

/* Stops the ring; returns the available index from which it would go on. */
uint32_t vu_get_vring_base(struct vu_connection *c, uint32_t index);

/* Reads `size` bytes of the device's configuration space from its start. */
void vu_get_config(struct vu_connection *c, void *config, uint32_t size);

#endif
