// The shims of CLinux.h, which documents them.

#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/errqueue.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <limits.h>
#include <malloc.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// Missing from headers before Linux 5.11; the number is the same on every architecture.
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

_Static_assert(sizeof(struct clinux_message) == sizeof(struct mmsghdr), "layout of mmsghdr");
_Static_assert(
    offsetof(struct clinux_message, octets) == offsetof(struct mmsghdr, msg_len),
    "layout of mmsghdr");

static long answer(long result) { return result < 0 ? -errno : result; }

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

int clinux_keep_freed(int octets) {
#ifdef __GLIBC__
  return mallopt(M_TRIM_THRESHOLD, octets) && mallopt(M_TOP_PAD, octets / 4) ? 0 : -EINVAL;
#else
  (void)octets;
  return -EINVAL;
#endif
}

// By the linker; see end(3).
extern const char __executable_start, etext;

int clinux_forget_code(void) {
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  uintptr_t first = (uintptr_t)&__executable_start & ~(page - 1);
  uintptr_t end = (uintptr_t)&etext & ~(page - 1);
  if (end <= first) return -EINVAL;
  return (int)answer(madvise((void *)first, end - first, MADV_DONTNEED));
}

// The kernel's timespec has 64-bit fields in this call, as has glibc's on 64-bit systems.
int clinux_epoll_wait(
    int epoll, struct epoll_event *events, int count, const struct timespec *timeout) {
  return (int)answer(syscall(SYS_epoll_pwait2, epoll, events, count, timeout, NULL, 0));
}

int clinux_send_messages(int socket, struct clinux_message *messages, unsigned int count) {
  return (int)answer(
      sendmmsg(socket, (struct mmsghdr *)messages, count, MSG_NOSIGNAL | MSG_DONTWAIT));
}

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif

void clinux_set_segment(
    struct clinux_message *message, struct clinux_segment_control *control, uint16_t octets) {
  message->header.msg_control = octets ? control : NULL;
  message->header.msg_controllen = octets ? CMSG_SPACE(sizeof octets) : 0;
  if (!octets) return;
  struct cmsghdr *item = CMSG_FIRSTHDR(&message->header);
  item->cmsg_level = IPPROTO_UDP;
  item->cmsg_type = UDP_SEGMENT;
  item->cmsg_len = CMSG_LEN(sizeof octets);
  memcpy(CMSG_DATA(item), &octets, sizeof octets);
}

uint16_t clinux_segment(
    const struct clinux_message *message, const struct clinux_segment_control *control) {
  const struct cmsghdr *item = (const struct cmsghdr *)control;
  int octets;
  if (message->header.msg_controllen < CMSG_LEN(sizeof octets) ||
      item->cmsg_level != IPPROTO_UDP || item->cmsg_type != UDP_GRO)
    return 0;
  memcpy(&octets, CMSG_DATA(item), sizeof octets);
  return octets > 0 && octets <= UINT16_MAX ? (uint16_t)octets : 0;
}

int clinux_join_datagrams(int socket) {
  int on = 1;
  return (int)answer(setsockopt(socket, IPPROTO_UDP, UDP_GRO, &on, sizeof on));
}

int clinux_receive_messages(
    int socket, struct clinux_message *messages, struct clinux_segment_control *controls,
    unsigned int count) {
  for (unsigned int i = 0; i < count; i++) {
    messages[i].header.msg_control = controls + i;
    messages[i].header.msg_controllen = sizeof controls[i];
  }
  return (int)answer(recvmmsg(socket, (struct mmsghdr *)messages, count, MSG_DONTWAIT, NULL));
}

int clinux_receive_report(int socket, struct clinux_report *report) {
  _Alignas(struct cmsghdr) char control[512];
  struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};
  memset(report, 0, sizeof *report);
  if (recvmsg(socket, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return -errno;
  for (struct cmsghdr *item = CMSG_FIRSTHDR(&message); item; item = CMSG_NXTHDR(&message, item)) {
    bool is_ipv4 = item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_RECVERR;
    bool is_ipv6 = item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_RECVERR;
    struct sock_extended_err told;
    if ((!is_ipv4 && !is_ipv6) || item->cmsg_len < CMSG_LEN(sizeof told)) continue;
    memcpy(&told, CMSG_DATA(item), sizeof told);
    report->error = told.ee_errno;
    report->origin = told.ee_origin;
    report->type = told.ee_type;
    report->code = told.ee_code;
    report->info = told.ee_info;
  }
  return 0;
}

int clinux_unacknowledged_octets(int socket) {
  int octets = 0;
  int result = ioctl(socket, SIOCOUTQ, &octets);
  return result < 0 ? -errno : octets;
}

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

static int send_buffer(int socket) {
  int octets = 0;
  socklen_t size = sizeof octets;
  return getsockopt(socket, SOL_SOCKET, SO_SNDBUF, &octets, &size) < 0 ? -errno : octets;
}

// The kernel doubles what it is told. SO_SNDBUF would do without the privilege, but within
// net.core.wmem_max, which is less than what a socket that has been busy has been given already.
static int set_send_buffer(int socket, int octets) {
  int half = octets / 2;
  return (int)answer(setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &half, sizeof half));
}

static void widen(int socket, int forced, int option, int octets) {
  int bound = 0;
  socklen_t size = sizeof bound;
  if (getsockopt(socket, SOL_SOCKET, option, &bound, &size) == 0 && bound / 2 >= octets) return;
  if (setsockopt(socket, SOL_SOCKET, forced, &octets, sizeof octets) < 0) {
    setsockopt(socket, SOL_SOCKET, option, &octets, sizeof octets);
  }
}

void clinux_widen_buffers(int socket, int octets) {
  widen(socket, SO_RCVBUFFORCE, SO_RCVBUF, octets);
  widen(socket, SO_SNDBUFFORCE, SO_SNDBUF, octets);
}

int clinux_raise_send_buffer(int socket, int octets) {
  uint32_t words[9];
  int before = send_buffer(socket);
  int result = clinux_socket_memory(socket, words);
  if (before < 0 || result < 0) return before < 0 ? before : result;
  // Word 5, SK_MEMINFO_WMEM_QUEUED: what is queued with its overhead, which new octets have too.
  int64_t wanted = (int64_t)words[5] + 2 * (int64_t)octets + 65536;
  if (wanted <= before) return 0;
  result = set_send_buffer(socket, wanted > INT_MAX ? INT_MAX : (int)wanted);
  return result < 0 ? result : before;
}

void clinux_restore_send_buffer(int socket, int octets) {
  int unlocked = 0;
  set_send_buffer(socket, octets);
  setsockopt(socket, SOL_SOCKET, SO_BUF_LOCK, &unlocked, sizeof unlocked);
}

int clinux_socket_memory(int socket, uint32_t words[9]) {
  socklen_t octets = 9 * sizeof(uint32_t);
  memset(words, 0, octets);
  return (int)answer(getsockopt(socket, SOL_SOCKET, SO_MEMINFO, words, &octets));
}

long clinux_random(void *memory, size_t octets) { return answer(getrandom(memory, octets, 0)); }

int clinux_join_network_namespace(int descriptor) {
  return (int)answer(setns(descriptor, CLONE_NEWNET));
}

int clinux_new_network_namespace(void) { return (int)answer(unshare(CLONE_NEWNET)); }

int clinux_processors(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 ? (int)online : 1;
}

int clinux_thread_number(void) { return (int)syscall(SYS_gettid); }

int clinux_current_processor(void) { return sched_getcpu(); }

int clinux_keep_off(int thread, int processor) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) < 0) return -errno;
  if (processor >= 0 && processor < CPU_SETSIZE) CPU_CLR(processor, &set);
  return (int)answer(sched_setaffinity(thread, sizeof set, &set));
}

int clinux_name_thread(const char *name) { return -pthread_setname_np(pthread_self(), name); }

int clinux_keep_capabilities(bool keep) {
  return (int)answer(prctl(PR_SET_KEEPCAPS, keep ? 1L : 0L, 0L, 0L, 0L));
}

int clinux_refuse_new_privileges(void) {
  return (int)answer(prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L));
}

int clinux_leave_groups(void) { return (int)answer(setgroups(0, NULL)); }

int clinux_become_group(uint32_t group) { return (int)answer(setresgid(group, group, group)); }

int clinux_become_user(uint32_t user) { return (int)answer(setresuid(user, user, user)); }

int clinux_set_capabilities(uint64_t mask) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  struct __user_cap_data_struct data[2] = {
      {.effective = (uint32_t)mask, .permitted = (uint32_t)mask},
      {.effective = (uint32_t)(mask >> 32), .permitted = (uint32_t)(mask >> 32)},
  };
  return (int)answer(syscall(SYS_capset, &header, data));
}

// Everything but `kept`, whose device, sockets and log would otherwise outlive the daemon.
static void close_others(int kept) {
  if ((kept == 0 || syscall(SYS_close_range, 0U, (unsigned int)kept - 1, 0U) == 0) &&
      syscall(SYS_close_range, (unsigned int)kept + 1, ~0U, 0U) == 0)
    return;
  long count = sysconf(_SC_OPEN_MAX);
  for (int number = 0; number < count; number++)
    if (number != kept) close(number);
}

int clinux_start_remover(int pipe, const char *path, const char *directory) {
  struct stat made;
  if (lstat(path, &made) < 0) return -errno;
  pid_t process = fork();
  if (process != 0) return process < 0 ? -errno : process;
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, NULL);
  close_others(pipe);
  prctl(PR_SET_NAME, "ferry-remover", 0L, 0L, 0L);
  // Without that capability, root still owns what is root's.
  if (clinux_set_capabilities(1ULL << CAP_DAC_OVERRIDE) < 0) clinux_set_capabilities(0);
  clinux_refuse_new_privileges();
  (void)!chdir("/");
  char word;
  ssize_t octets;
  while ((octets = read(pipe, &word, 1)) < 0 && errno == EINTR) {}
  struct stat found;
  if (octets == 1 && lstat(path, &found) == 0 && S_ISSOCK(found.st_mode) &&
      found.st_dev == made.st_dev && found.st_ino == made.st_ino)
    unlink(path);
  if (octets == 1 && directory) rmdir(directory);
  _exit(0);
}

int clinux_await_process(int process) {
  int status = 0;
  pid_t result;
  while ((result = waitpid(process, &status, 0)) < 0 && errno == EINTR) {}
  return result < 0 ? -errno : status;
}

int clinux_tun_attach(int descriptor, char *name, bool multi_queue, bool exclusive) {
  struct ifreq request;
  memset(&request, 0, sizeof request);
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  unsigned int flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  if (multi_queue) flags |= IFF_MULTI_QUEUE;
  if (exclusive) flags |= IFF_TUN_EXCL;
  request.ifr_flags = (short)flags;
  int result = ioctl(descriptor, TUNSETIFF, &request);
  if (result < 0) return -errno;
  memcpy(name, request.ifr_name, IFNAMSIZ);
  name[IFNAMSIZ - 1] = 0;
  return 0;
}

int clinux_tun_supports(int descriptor, bool multi_queue) {
  unsigned int features = 0;
  if (ioctl(descriptor, TUNGETFEATURES, &features) < 0) return -errno;
  unsigned int wanted = IFF_VNET_HDR | (multi_queue ? IFF_MULTI_QUEUE : 0);
  return (features & wanted) == wanted;
}

int clinux_tun_set_header_octets(int descriptor, int octets) {
  return (int)answer(ioctl(descriptor, TUNSETVNETHDRSZ, &octets));
}

int clinux_tun_set_offload(int descriptor, unsigned int mask) {
  return (int)answer(ioctl(descriptor, TUNSETOFFLOAD, (unsigned long)mask));
}

int clinux_tun_set_persistent(int descriptor, bool persistent) {
  return (int)answer(ioctl(descriptor, TUNSETPERSIST, persistent ? 1UL : 0UL));
}

int clinux_tun_set_steering(int descriptor, int program) {
  return (int)answer(ioctl(descriptor, TUNSETSTEERINGEBPF, &program));
}

int clinux_make_shared_map(unsigned int octets) {
  union bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.map_type = BPF_MAP_TYPE_ARRAY;
  attributes.key_size = 4;
  attributes.value_size = octets;
  attributes.max_entries = 1;
  attributes.map_flags = BPF_F_MMAPABLE;
  memcpy(attributes.map_name, "ferry_homes", 12);
  return (int)answer(syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes));
}

void *clinux_map_shared(int map, size_t octets, int *error) {
  void *memory = mmap(NULL, octets, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
  *error = memory == MAP_FAILED ? -errno : 0;
  return memory == MAP_FAILED ? NULL : memory;
}

int clinux_load_socket_filter(const void *instructions, unsigned int count) {
  union bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  attributes.insns = (uint64_t)(uintptr_t)instructions;
  attributes.insn_cnt = count;
  attributes.license = (uint64_t)(uintptr_t) "";
  memcpy(attributes.prog_name, "ferry_steering", 15);
  return (int)answer(syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes));
}

int clinux_run_socket_filter(
    int program, const void *frame, unsigned int octets, uint32_t *result) {
  union bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.test.prog_fd = (uint32_t)program;
  attributes.test.data_in = (uint64_t)(uintptr_t)frame;
  attributes.test.data_size_in = octets;
  int done = (int)answer(syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attributes, sizeof attributes));
  *result = attributes.test.retval;
  return done;
}

int clinux_query_link(const char *name, void *reply, size_t octets) {
  struct {
    struct nlmsghdr header;
    struct ifinfomsg link;
    struct rtattr attribute;
    char name[IFNAMSIZ];
  } request;
  memset(&request, 0, sizeof request);
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = RTM_GETLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.link.ifi_family = AF_UNSPEC;
  request.attribute.rta_type = IFLA_IFNAME;
  request.attribute.rta_len = RTA_LENGTH(IFNAMSIZ);
  strncpy(request.name, name, IFNAMSIZ - 1);

  int route = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (route < 0) return -errno;
  ssize_t result = send(route, &request, sizeof request, 0);
  if (result >= 0) result = recv(route, reply, octets, 0);
  int error = errno;
  close(route);
  return result < 0 ? -error : (int)result;
}
