/* See vhost_user.h. */
#define _GNU_SOURCE
#include "vhost_user.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* "Header", flags */
#define VU_VERSION 1u
#define VU_VERSION_MASK 3u
#define VU_REPLY (1u << 2)
#define VU_NEED_REPLY (1u << 3)

#define CONFIG_MAX 256u /* what the document's structure holds */

struct header {
    uint32_t request;
    uint32_t flags;
    uint32_t size;
};

struct vring_state {
    uint32_t index;
    uint32_t num;
};

struct config_header {
    uint32_t offset;
    uint32_t size;
    uint32_t flags;
};

union payload {
    uint64_t u64;
    struct vring_state state;
    struct vu_ring_addresses addresses;
    struct {
        uint32_t count;
        uint32_t padding;
        struct vu_region regions[VU_MAX_REGIONS];
    } memory;
    struct {
        struct config_header header;
        uint8_t bytes[CONFIG_MAX];
    } config;
};

struct message {
    struct header header;
    union payload payload;
} __attribute__((packed)); /* the payload follows the 12 bytes of the header without a gap */

static const char *name_of(uint32_t request)
{
    static const char *const names[] = {
        [VU_GET_FEATURES] = "GET_FEATURES",
        [VU_SET_FEATURES] = "SET_FEATURES",
        [VU_SET_OWNER] = "SET_OWNER",
        [VU_SET_MEM_TABLE] = "SET_MEM_TABLE",
        [VU_SET_VRING_NUM] = "SET_VRING_NUM",
        [VU_SET_VRING_ADDR] = "SET_VRING_ADDR",
        [VU_SET_VRING_BASE] = "SET_VRING_BASE",
        [VU_GET_VRING_BASE] = "GET_VRING_BASE",
        [VU_SET_VRING_KICK] = "SET_VRING_KICK",
        [VU_SET_VRING_CALL] = "SET_VRING_CALL",
        [VU_SET_VRING_ERR] = "SET_VRING_ERR",
        [VU_GET_PROTOCOL_FEATURES] = "GET_PROTOCOL_FEATURES",
        [VU_SET_PROTOCOL_FEATURES] = "SET_PROTOCOL_FEATURES",
        [VU_GET_QUEUE_NUM] = "GET_QUEUE_NUM",
        [VU_SET_VRING_ENABLE] = "SET_VRING_ENABLE",
        [VU_GET_CONFIG] = "GET_CONFIG",
    };

    return request < sizeof names / sizeof *names && names[request] ? names[request] : "a message of no known type";
}

void vu_connect(struct vu_connection *c, const char *path, int timeout_ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};

    if (strlen(path) >= sizeof address.sun_path)
        die("%s: a socket's path has at most %zu bytes", path, sizeof address.sun_path - 1);
    strcpy(address.sun_path, path);
    c->reply_ack = false;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("%s: %s", path, strerror(errno));
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

/* One message, with up to VU_MAX_REGIONS file descriptors attached to its first byte. */
static void send_message(struct vu_connection *c, struct message *m, const int *fds, unsigned fd_count)
{
    union {
        struct cmsghdr header; /* for its alignment */
        char bytes[CMSG_SPACE(sizeof(int) * VU_MAX_REGIONS)];
    } control = {0};
    size_t length = sizeof m->header + m->header.size;
    struct iovec iov = {.iov_base = m, .iov_len = length};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd_count > 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * fd_count);
    }
    while (iov.iov_len > 0) {
        ssize_t sent = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            die("%s: the back end does not take it: %s", name_of(m->header.request), strerror(errno));
        iov.iov_base = (char *)iov.iov_base + sent;
        iov.iov_len -= (size_t)sent;
        msg.msg_control = NULL;
        msg.msg_controllen = 0;
    }
}

static void receive_bytes(struct vu_connection *c, uint32_t request, void *to, size_t length)
{
    char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(sizeof(size_t))));

    while (length > 0) {
        struct iovec iov = {.iov_base = to, .iov_len = length};
        struct msghdr msg = {
            .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t got = recvmsg(c->fd, &msg, MSG_CMSG_CLOEXEC);
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            die("%s: the back end closed the connection instead of replying", name_of(request));
        if (got < 0)
            die("%s: no reply: %s", name_of(request), strerror(errno));
        if (msg.msg_controllen > 0)
            die("%s: the reply carries file descriptors", name_of(request));
        to = (char *)to + got;
        length -= (size_t)got;
    }
}

/* Receives the reply to m into m.  Its payload has to be `size` bytes; where an empty one has a meaning of its
 * own, `empty_means` says which. */
static void receive_reply(struct vu_connection *c, struct message *m, uint32_t size, const char *empty_means)
{
    uint32_t request = m->header.request;

    receive_bytes(c, request, &m->header, sizeof m->header);
    if (m->header.request != request)
        die("%s: the reply is one to %s", name_of(request), name_of(m->header.request));
    if ((m->header.flags & VU_VERSION_MASK) != VU_VERSION || !(m->header.flags & VU_REPLY))
        die("%s: flags of the reply are %#x; version 1 and the reply flag expected", name_of(request),
            m->header.flags);
    if (m->header.size == 0 && empty_means)
        die("%s: %s", name_of(request), empty_means);
    if (m->header.size != size)
        die("%s: the reply has %u bytes of payload; %u expected", name_of(request), m->header.size, size);
    receive_bytes(c, request, &m->payload, size);
}

/* Sends a message which has no reply of its own, and reads the acknowledgement if that was negotiated. */
static void set(struct vu_connection *c, struct message *m, const int *fds, unsigned fd_count)
{
    m->header.flags = VU_VERSION | (c->reply_ack ? VU_NEED_REPLY : 0);
    send_message(c, m, fds, fd_count);
    if (!c->reply_ack)
        return;
    receive_reply(c, m, sizeof m->payload.u64, NULL);
    if (m->payload.u64 != 0)
        die("%s: refused with %#llx", name_of(m->header.request), (unsigned long long)m->payload.u64);
}

uint64_t vu_get_u64(struct vu_connection *c, enum vu_request request)
{
    struct message m = {.header = {.request = request, .flags = VU_VERSION}};

    send_message(c, &m, NULL, 0);
    receive_reply(c, &m, sizeof m.payload.u64, NULL);
    return m.payload.u64;
}

void vu_set_u64(struct vu_connection *c, enum vu_request request, uint64_t value)
{
    struct message m = {.header = {.request = request, .size = sizeof value}, .payload.u64 = value};

    set(c, &m, NULL, 0);
}

void vu_set_owner(struct vu_connection *c)
{
    struct message m = {.header = {.request = VU_SET_OWNER}};

    set(c, &m, NULL, 0);
}

void vu_set_mem_table(struct vu_connection *c, const struct vu_region *regions, unsigned count, int memory_fd)
{
    struct message m = {
        .header = {.request = VU_SET_MEM_TABLE, .size = (uint32_t)(8 + count * sizeof *regions)}};
    int fds[VU_MAX_REGIONS];

    m.payload.memory.count = count;
    for (unsigned i = 0; i < count; i++) {
        m.payload.memory.regions[i] = regions[i];
        fds[i] = memory_fd;
    }
    set(c, &m, fds, count);
}

void vu_set_vring_state(struct vu_connection *c, enum vu_request request, uint32_t index, uint32_t num)
{
    struct message m = {.header = {.request = request, .size = sizeof m.payload.state},
                        .payload.state = {.index = index, .num = num}};

    set(c, &m, NULL, 0);
}

void vu_set_vring_addr(struct vu_connection *c, const struct vu_ring_addresses *addresses)
{
    struct message m = {.header = {.request = VU_SET_VRING_ADDR, .size = sizeof *addresses},
                        .payload.addresses = *addresses};

    set(c, &m, NULL, 0);
}

void vu_set_vring_fd(struct vu_connection *c, enum vu_request request, uint8_t index, int fd)
{
    struct message m = {.header = {.request = request, .size = sizeof m.payload.u64}, .payload.u64 = index};

    set(c, &m, &fd, 1);
}

uint32_t vu_get_vring_base(struct vu_connection *c, uint32_t index)
{
    struct message m = {
        .header = {.request = VU_GET_VRING_BASE, .flags = VU_VERSION, .size = sizeof m.payload.state},
        .payload.state = {.index = index}};

    send_message(c, &m, NULL, 0);
    receive_reply(c, &m, sizeof m.payload.state, NULL);
    if (m.payload.state.index != index)
        die("GET_VRING_BASE of queue %u is answered for queue %u", index, m.payload.state.index);
    return m.payload.state.num;
}

void vu_get_config(struct vu_connection *c, void *config, uint32_t size)
{
    struct message m = {.header = {.request = VU_GET_CONFIG,
                                   .flags = VU_VERSION,
                                   .size = (uint32_t)sizeof(struct config_header) + size},
                        .payload.config.header = {.size = size}};

    if (size > CONFIG_MAX)
        die("GET_CONFIG of %u bytes; at most %u can be asked for", size, CONFIG_MAX);
    send_message(c, &m, NULL, 0);
    receive_reply(c, &m, m.header.size, "answered with an error (an empty payload)");
    if (m.payload.config.header.offset != 0 || m.payload.config.header.size != size)
        die("GET_CONFIG of %u bytes at 0 is answered with %u bytes at %u", size, m.payload.config.header.size,
            m.payload.config.header.offset);
    memcpy(config, m.payload.config.bytes, size);
}
