/*
 * A guest with no operating system: it drives a virtio-mmio disk (VIRTIO 1.4 4.2, version 2) and says what it sees.
 *
 * Entered in 64-bit mode at `start`, with the address of the disk's registers and that of some free memory. Port 0xE9 is
 * the console, port 0xF4 ends the machine with the byte written to it; HLT waits for an interrupt.
 */

#include <stddef.h>
#include <stdint.h>

enum { CONSOLE = 0xE9, EXIT = 0xF4 };

enum { /* registers, VIRTIO 1.4 4.2.2 */
    MAGIC_VALUE = 0x000, VERSION = 0x004, DEVICE_ID = 0x008,
    DEVICE_FEATURES = 0x010, DEVICE_FEATURES_SEL = 0x014,
    DRIVER_FEATURES = 0x020, DRIVER_FEATURES_SEL = 0x024,
    QUEUE_SEL = 0x030, QUEUE_SIZE_MAX = 0x034, QUEUE_SIZE = 0x038, QUEUE_READY = 0x044, QUEUE_NOTIFY = 0x050,
    INTERRUPT_STATUS = 0x060, INTERRUPT_ACK = 0x064, STATUS = 0x070,
    QUEUE_DESC = 0x080, QUEUE_DRIVER = 0x090, QUEUE_DEVICE = 0x0A0,
    CONFIG_GENERATION = 0x0FC, CONFIG = 0x100,
};

enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };
enum { BLOCK_DEVICE = 2, F_FLUSH = 1 << 9, F_VERSION_1_HIGH = 1 };
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8 };
enum { NEXT = 1, WRITE = 2 };
enum { ENTRIES = 8, SECTOR = 512, LENGTH = 4096, FIRST = 100 };

struct desc { uint64_t address; uint32_t length; uint16_t flags, next; };
struct avail { uint16_t flags, index, ring[ENTRIES], used_event; };
struct used { uint16_t flags, index; struct { uint32_t id, length; } ring[ENTRIES]; uint16_t avail_event; };
struct header { uint32_t type, reserved; uint64_t sector; };

struct memory { /* all that the disk sees of us */
    struct desc desc[ENTRIES] __attribute__((aligned(16)));
    struct avail avail;
    struct used used __attribute__((aligned(4)));
    struct header header;
    uint8_t status;
    uint8_t data[LENGTH] __attribute__((aligned(16)));
};

static volatile uint8_t *registers;
static volatile struct memory *shared;

static void out(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static void barrier(void) { __asm__ volatile("mfence" : : : "memory"); }

static uint32_t get(uint32_t at) { return *(volatile uint32_t *)(registers + at); }
static void set(uint32_t at, uint32_t value) { *(volatile uint32_t *)(registers + at) = value; }

static void print(const char *text)
{
    while (*text)
        out(CONSOLE, (uint8_t)*text++);
}

static void print_number(uint64_t number)
{
    char digits[21];
    int at = 20;
    digits[at] = 0;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    print(digits + at);
}

static void end(const char *trouble)
{
    if (trouble) {
        print("failed: ");
        print(trouble);
        print("\n");
    }
    out(EXIT, trouble != NULL);
    for (;;)
        __asm__ volatile("hlt");
}

static uint64_t capacity(void)
{
    uint32_t before, low, high;
    do { /* two halves of one moment, VIRTIO 1.4 2.5.1 */
        before = get(CONFIG_GENERATION);
        low = get(CONFIG);
        high = get(CONFIG + 4);
    } while (get(CONFIG_GENERATION) != before);
    return (uint64_t)high << 32 | low;
}

static void set_address(uint32_t at, volatile void *address)
{
    set(at, (uint32_t)(uintptr_t)address);
    set(at + 4, (uint32_t)((uintptr_t)address >> 32));
}

static void bring_up(void)
{
    if (get(MAGIC_VALUE) != 0x74726976 || get(VERSION) != 2 || get(DEVICE_ID) != BLOCK_DEVICE)
        end("no virtio disk of version 2");
    set(STATUS, 0);
    while (get(STATUS))
        ;
    set(STATUS, ACKNOWLEDGE);
    set(STATUS, ACKNOWLEDGE | DRIVER);
    set(DEVICE_FEATURES_SEL, 0);
    uint32_t low = get(DEVICE_FEATURES) & F_FLUSH;
    set(DRIVER_FEATURES_SEL, 0);
    set(DRIVER_FEATURES, low);
    set(DRIVER_FEATURES_SEL, 1);
    set(DRIVER_FEATURES, F_VERSION_1_HIGH);
    set(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    if (!(get(STATUS) & FEATURES_OK))
        end("the disk refused the features");
    set(QUEUE_SEL, 0);
    if (get(QUEUE_READY) || get(QUEUE_SIZE_MAX) < ENTRIES)
        end("queue 0 cannot be used");
    set(QUEUE_SIZE, ENTRIES);
    set_address(QUEUE_DESC, shared->desc);
    set_address(QUEUE_DRIVER, &shared->avail);
    set_address(QUEUE_DEVICE, &shared->used);
    set(QUEUE_READY, 1);
    set(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

static void describe(int at, volatile void *address, uint32_t length, uint16_t flags)
{
    shared->desc[at].address = (uintptr_t)address;
    shared->desc[at].length = length;
    shared->desc[at].flags = flags;
    shared->desc[at].next = (uint16_t)(at + 1);
}

/* One request with `length` bytes of data, waited for with HLT; ends the program where it fails. */
static void request(uint32_t type, uint64_t sector, uint32_t length, const char *trouble)
{
    int at = 0;
    shared->header.type = type;
    shared->header.reserved = 0;
    shared->header.sector = sector;
    shared->status = 0xFF;
    describe(at++, &shared->header, sizeof(struct header), NEXT);
    if (length)
        describe(at++, shared->data, length, type == T_OUT ? NEXT : NEXT | WRITE);
    describe(at, &shared->status, 1, WRITE);

    uint16_t index = shared->avail.index;
    shared->avail.ring[index % ENTRIES] = 0;
    barrier();
    shared->avail.index = (uint16_t)(index + 1);
    barrier();
    set(QUEUE_NOTIFY, 0);
    while (shared->used.index == index)
        __asm__ volatile("hlt");
    set(INTERRUPT_ACK, get(INTERRUPT_STATUS));
    if (shared->status)
        end(trouble);
}

static uint8_t pattern(uint32_t at) { return (uint8_t)(at * 7 + at / 256); }

void start(uint64_t device, uint64_t memory)
{
    registers = (volatile uint8_t *)device;
    shared = (volatile struct memory *)memory;
    bring_up();
    print("disk of ");
    print_number(capacity());
    print(" sectors");

    request(T_GET_ID, 0, 20, "GET_ID");
    print(", serial ");
    for (int at = 0; at < 20 && shared->data[at]; at++)
        out(CONSOLE, shared->data[at]);
    print("\n");

    for (uint32_t at = 0; at < LENGTH; at++)
        shared->data[at] = pattern(at);
    request(T_OUT, FIRST, LENGTH, "write");
    request(T_FLUSH, 0, 0, "flush");
    print("wrote ");
    print_number(LENGTH);
    print(" bytes at sector ");
    print_number(FIRST);
    print("\n");

    for (uint32_t at = 0; at < LENGTH; at++)
        shared->data[at] = 0;
    request(T_IN, FIRST, LENGTH, "read");
    for (uint32_t at = 0; at < LENGTH; at++)
        if (shared->data[at] != pattern(at))
            end("read back something else");
    print("read them back: all as written\n");

    set(STATUS, 0);
    end(NULL);
}
