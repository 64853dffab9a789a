/*
 * A driver's side of one split virtqueue (VIRTIO 1.4 §2.7) in memory shared with a back end.
 *
 * The layout of a chain never changes, so chains are written once and made available again and again.
 */
#ifndef BENCH_VIRTQUEUE_H
#define BENCH_VIRTQUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define VQ_SIZE 256u

/* §2.7.5 */
#define VQ_DESC_F_NEXT 1u
#define VQ_DESC_F_WRITE 2u
#define VQ_DESC_F_INDIRECT 4u

/* §2.7.6 and §2.7.8: flags of the two rings */
#define VQ_AVAIL_F_NO_INTERRUPT 1u
#define VQ_USED_F_NO_NOTIFY 1u

struct vq_desc {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
};

struct vq_avail {
    _Atomic uint16_t flags;
    _Atomic uint16_t idx;
    uint16_t ring[VQ_SIZE];
    _Atomic uint16_t used_event;
};

struct vq_used_element {
    uint32_t id;
    uint32_t length;
};

struct vq_used {
    _Atomic uint16_t flags;
    _Atomic uint16_t idx;
    struct vq_used_element ring[VQ_SIZE];
    _Atomic uint16_t avail_event;
};

/* The three areas at fixed places of one block of memory; each keeps the alignment §2.7 asks for. */
struct vq_areas {
    struct vq_desc desc[VQ_SIZE];
    _Alignas(64) struct vq_avail avail;
    _Alignas(64) struct vq_used used;
};

struct virtqueue {
    struct vq_areas *areas;
    bool event_idx;
    uint16_t next_avail; /* the driver's index: chains put into the ring, perhaps not shown yet */
    uint16_t shown;      /* what avail->idx says */
    uint16_t last_used;  /* used elements taken so far */
    int kick_fd;
    int call_fd;
    int err_fd;
    uint64_t kicks;
    uint64_t publications; /* times that avail->idx moved: each could have been a kick */
};

/* Puts the chain that starts at `head` into the available ring; vq_publish shows it to the device. */
static inline void vq_add(struct virtqueue *q, uint16_t head)
{
    q->areas->avail.ring[q->next_avail % VQ_SIZE] = head;
    q->next_avail++;
}

/* Shows what was added, and kicks unless the device said that it looks by itself. */
void vq_publish(struct virtqueue *q);

/* The number of used elements not taken yet.  The device's index is loaded with acquire order. */
static inline uint16_t vq_pending(const struct virtqueue *q)
{
    return (uint16_t)(atomic_load_explicit(&q->areas->used.idx, memory_order_acquire) - q->last_used);
}

/* Takes the next used element; only to be called for as many as vq_pending said. */
static inline struct vq_used_element vq_take(struct virtqueue *q)
{
    return q->areas->used.ring[q->last_used++ % VQ_SIZE];
}

/* Asks for an interrupt for the next used element; true if one is there already, and none may come. */
bool vq_enable_interrupts(struct virtqueue *q);

/* Asks the device not to interrupt. */
void vq_disable_interrupts(struct virtqueue *q);

#endif
