/* See virtqueue.h. */
#include "virtqueue.h"

#include <assert.h>
#include <stddef.h>
#include <unistd.h>

#include "vhost_user.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings are little endian (VIRTIO 1.4 §1.4)");
_Static_assert(sizeof(struct vq_desc) == 16, "§2.7.5");
_Static_assert(offsetof(struct vq_avail, used_event) == 4 + 2 * VQ_SIZE, "§2.7.6");
_Static_assert(offsetof(struct vq_used, avail_event) == 4 + 8 * VQ_SIZE, "§2.7.8");

/* Whether the step of an index from `old` to `now` passes `event` (§2.7.7.1, §2.7.10). */
static bool passes(uint16_t event, uint16_t now, uint16_t old)
{
    return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

static bool kick_wanted(struct virtqueue *q, uint16_t old)
{
    struct vq_used *used = &q->areas->used;

    if (q->event_idx)
        return passes(atomic_load_explicit(&used->avail_event, memory_order_relaxed), q->shown, old);
    return !(atomic_load_explicit(&used->flags, memory_order_relaxed) & VQ_USED_F_NO_NOTIFY);
}

void vq_publish(struct virtqueue *q)
{
    uint16_t old = q->shown;
    const uint64_t one = 1;

    if (old == q->next_avail)
        return;
    q->shown = q->next_avail;
    q->publications++;
    atomic_store_explicit(&q->areas->avail.idx, q->shown, memory_order_release);
    /* The index has to be visible before the device's wish is read (§2.7.13.4.1). */
    atomic_thread_fence(memory_order_seq_cst);
    if (!kick_wanted(q, old))
        return;
    q->kicks++;
    if (write(q->kick_fd, &one, sizeof one) != sizeof one)
        die("the kick eventfd takes no more kicks: the back end does not read it");
}

bool vq_enable_interrupts(struct virtqueue *q)
{
    if (q->event_idx)
        atomic_store_explicit(&q->areas->avail.used_event, q->last_used, memory_order_relaxed);
    else
        atomic_store_explicit(&q->areas->avail.flags, 0, memory_order_relaxed);
    /* The wish has to be visible before the used index is read again (§2.7.14). */
    atomic_thread_fence(memory_order_seq_cst);
    return vq_pending(q) != 0;
}

void vq_disable_interrupts(struct virtqueue *q)
{
    if (q->event_idx) /* just passed: 65535 more elements until it is reached */
        atomic_store_explicit(&q->areas->avail.used_event, (uint16_t)(q->last_used - 1), memory_order_relaxed);
    else
        atomic_store_explicit(&q->areas->avail.flags, VQ_AVAIL_F_NO_INTERRUPT, memory_order_relaxed);
}
