/* The guest's memory: rings and chains at their places, and what data buffers hold.  See load.h. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUARD 64u /* bytes of poison that are looked at on each side of the data */
#define PAGE 4096u

/* Guest-physical addresses: they differ from offsets in the memory file and from addresses in this process, so
 * that a back end which takes one for another is found out.  Data lies above 4 GiB, as most memory of a PC. */
#define CONTROL_BASE 0x100000ull
#define DATA_BASE 0x100000000ull

static uint64_t round_up(uint64_t value, uint64_t to)
{
    return (value + to - 1) / to * to;
}

/* ---- content ---- */

static uint64_t pattern_word(const struct load *load, uint64_t disk_word, uint32_t generation)
{
    return mix64(load->options->seed + disk_word * 0x9e3779b97f4a7c15ull + ((uint64_t)generation << 32));
}

/* Segments lie in memory in reverse order, so that no back end can take them for one. */
static uint64_t *segment_words(const struct load *load, const struct slot *slot, unsigned segment)
{
    uint64_t length = load->options->block_size / load->options->segments;

    return (uint64_t *)(void *)(slot->data + (load->options->segments - 1 - segment) * length);
}

void content_stamp(const struct load *load, struct slot *slot, uint32_t generation)
{
    uint64_t words = load->options->block_size / load->options->segments / 8;
    uint64_t disk_word = slot->block * load->options->block_size / 8;

    for (unsigned segment = 0; segment < load->options->segments; segment++) {
        uint64_t *to = segment_words(load, slot, segment);
        for (uint64_t i = 0; i < words; i++)
            to[i] = pattern_word(load, disk_word++, generation);
    }
}

void content_verify(const struct load *load, const struct slot *slot)
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

void content_verify_guards(const struct load *load, const struct slot *slot)
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
