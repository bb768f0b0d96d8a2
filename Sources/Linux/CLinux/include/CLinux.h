// What Swift cannot import of the kernel's interface: request numbers made by macros, variadic
// calls, and calls that the C library hides behind feature macros or does not wrap at all.
//
// Every function is one call, non-variadic, and answers as the kernel does: the call's result, or
// the error number negated. None touches state of its own. Constants that Swift can spell itself are
// not repeated here.

#ifndef CLINUX_H
#define CLINUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

// A message of a batch; the layout of struct mmsghdr.
struct clinux_message {
  struct msghdr header;
  unsigned int octets;
};

// mallopt(3) with M_TRIM_THRESHOLD, and a quarter of that as M_TOP_PAD. -EINVAL where the C library has
// no such choice.
int clinux_keep_freed(int octets);

// madvise(2) with MADV_DONTNEED for the pages of the program's file that nothing writes to, from its first
// to the last of its code.
int clinux_forget_code(void);

// epoll_pwait2(2) without a signal mask; a null timeout waits for ever. -ENOSYS before Linux 5.11.
int clinux_epoll_wait(
    int epoll, struct epoll_event *events, int count, const struct timespec *timeout);

// Room for the one control message that a datagram comes with, or goes with: UDP_GRO or UDP_SEGMENT (udp(7)).
struct clinux_segment_control {
  _Alignas(struct cmsghdr) unsigned char octets[CMSG_SPACE(sizeof(int))];
};

// Lets a message go out as datagrams of so many octets each, the last one shorter; 0: as one datagram.
// Kernels before Linux 4.18 take no notice.
void clinux_set_segment(
    struct clinux_message *message, struct clinux_segment_control *control, uint16_t octets);

// The length of the datagrams that a received message was joined from; 0: it is one datagram.
uint16_t clinux_segment(
    const struct clinux_message *message, const struct clinux_segment_control *control);

// setsockopt(2) with UDP_GRO: what is received may be several datagrams. -ENOPROTOOPT before Linux 5.0.
int clinux_join_datagrams(int socket);

// sendmmsg(2) with MSG_NOSIGNAL | MSG_DONTWAIT.
int clinux_send_messages(int socket, struct clinux_message *messages, unsigned int count);

// recvmmsg(2) with MSG_DONTWAIT; one control message for each message.
int clinux_receive_messages(
    int socket, struct clinux_message *messages, struct clinux_segment_control *controls,
    unsigned int count);

// One entry of a socket's error queue: the fields of struct sock_extended_err.
struct clinux_report {
  uint32_t error;
  uint8_t origin;
  uint8_t type;
  uint8_t code;
  uint32_t info;
};

// recvmsg(2) with MSG_ERRQUEUE | MSG_DONTWAIT: takes the next entry, 0 with `error` 0 where that is not
// of IP_RECVERR or IPV6_RECVERR; -EAGAIN when there is none.
int clinux_receive_report(int socket, struct clinux_report *report);

// SIOCOUTQ: octets that the peer has not acknowledged yet.
int clinux_unacknowledged_octets(int socket);

// SO_MEMINFO: the nine words of SK_MEMINFO_* (linux/sock_diag.h), zero where the kernel gave fewer.
int clinux_socket_memory(int socket, uint32_t words[9]);

// Has both of a socket's buffers take so many octets (doubled by the kernel, which counts its overhead too) if
// they take less; without CAP_NET_ADMIN no more than net.core.rmem_max and wmem_max say.
void clinux_widen_buffers(int socket, int octets);

// Raises SO_SNDBUF so that the socket takes so many octets more than it holds. Returns the bound before,
// 0 when it suffices as it is, -EPERM without CAP_NET_ADMIN.
int clinux_raise_send_buffer(int socket, int octets);

// Sets SO_SNDBUF back and leaves it to the kernel's own adjustment again (SO_BUF_LOCK, Linux 5.15).
void clinux_restore_send_buffer(int socket, int octets);

// getrandom(2), flags 0.
long clinux_random(void *memory, size_t octets);

// setns(2) for a network namespace; the calling thread only.
int clinux_join_network_namespace(int descriptor);

// unshare(2) for a network namespace; the calling thread only.
int clinux_new_network_namespace(void);

// Processors that the calling thread may run on (sched_getaffinity(2)), at least 1; those that are there,
// where they are more than the call has room for.
int clinux_processors(void);

// gettid(2).
int clinux_thread_number(void);

// sched_getcpu(3).
int clinux_current_processor(void);

// sched_setaffinity(2) of another thread: where the calling one may run, but not on `processor`. -EINVAL
// where that leaves none.
int clinux_keep_off(int thread, int processor);

// pthread_setname_np(3): at most 15 octets; the calling thread.
int clinux_name_thread(const char *name);

// PR_SET_KEEPCAPS for the calling thread.
int clinux_keep_capabilities(bool keep);

// PR_SET_NO_NEW_PRIVS for the calling thread and those it starts.
int clinux_refuse_new_privileges(void);

// setgroups(2) to none; every thread.
int clinux_leave_groups(void);

// setresgid(2) and setresuid(2): real, effective and saved; every thread.
int clinux_become_group(uint32_t group);
int clinux_become_user(uint32_t user);

// capset(2), version 3: the permitted and effective sets become `mask`, the inheritable set empty;
// the calling thread only.
int clinux_set_capabilities(uint64_t mask);

// Starts a process that keeps root after this one gave it up, for one deed: when `pipe` (its reading
// end) brings an octet, it removes the socket file `path`, if that is still the one of now, and then the
// directory `directory` (null: none) if it is empty. It then ends, as it does without a deed when the
// pipe ends. It has no other descriptor, hears no signal but SIGKILL and has no capability but
// CAP_DAC_OVERRIDE, if that. Answers with its number. This one is more than a call: between fork and exit, in a
// process that has threads, nothing but calls of the kernel may be made.
int clinux_start_remover(int pipe, const char *path, const char *directory);

// waitpid(2) of one process, to its end.
int clinux_await_process(int process);

// TUNSETIFF with IFF_TUN | IFF_NO_PI | IFF_VNET_HDR. `name` holds 16 octets, zero-terminated, and
// becomes the name given. `exclusive` (IFF_TUN_EXCL) refuses with -EBUSY a name that exists.
int clinux_tun_attach(int descriptor, char *name, bool multi_queue, bool exclusive);

// TUNGETFEATURES: whether the driver knows IFF_VNET_HDR and, if asked for, IFF_MULTI_QUEUE: 1 or 0.
int clinux_tun_supports(int descriptor, bool multi_queue);

// TUNSETVNETHDRSZ.
int clinux_tun_set_header_octets(int descriptor, int octets);

// TUNSETOFFLOAD: a mask of TUN_F_*; -EINVAL when the kernel lacks one of the bits.
int clinux_tun_set_offload(int descriptor, unsigned int mask);

// TUNSETPERSIST.
int clinux_tun_set_persistent(int descriptor, bool persistent);

// TUNSETSTEERINGEBPF: a socket filter chooses the queue of each packet from now on; -1 takes it away. The
// device keeps the program, `program` can be closed.
int clinux_tun_set_steering(int descriptor, int program);

// BPF_MAP_CREATE of an array with one value of so many octets, zeros, that can be mapped into memory.
// Answers with its descriptor. -EPERM as for a program.
int clinux_make_shared_map(unsigned int octets);

// mmap of such a map's value; NULL, and -errno in `error`, where that fails.
void *clinux_map_shared(int map, size_t octets, int *error);

// BPF_PROG_LOAD of a socket filter; `instructions` are `count` of eight octets. Answers with its
// descriptor. -EPERM without CAP_BPF (or CAP_SYS_ADMIN), where others may not load any.
int clinux_load_socket_filter(const void *instructions, unsigned int count);

// BPF_PROG_TEST_RUN: what the socket filter makes of a frame, an Ethernet header in front of the packet.
int clinux_run_socket_filter(
    int program, const void *frame, unsigned int octets, uint32_t *result);

// One RTM_GETLINK request for a link by name (at most 15 octets), in the calling thread's network
// namespace. The kernel's answer is put into `reply` as it is; answers with its octets.
int clinux_query_link(const char *name, void *reply, size_t octets);

#endif
