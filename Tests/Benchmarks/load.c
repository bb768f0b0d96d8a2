/* The small programs at both ends of a measurement: what iperf3 cannot do.
 *
 *   load serve ADDRESS PORT                 answers until it is ended: over TCP 64 octets for each octet,
 *                                           over UDP nothing, but counts what arrives; SIGTERM: prints that
 *   load connections ADDRESS PORT SECONDS   connect, one octet, 64 back, close; 32 at a time
 *   load requests ADDRESS PORT SECONDS      one octet, 64 back, over one connection, one at a time
 *   load datagrams ADDRESS PORT SECONDS     64-octet datagrams as fast as they go out
 *
 * Clients print one JSON object. Anything that does not work out ends the program with its reason; a
 * connection that fails is counted, and the next one is begun.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { answer_octets = 64, datagram_octets = 64, at_once = 32, batch = 64, events_max = 128 };

static struct sockaddr_in peer;
static volatile sig_atomic_t ended;

static void die(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void end(int signal) {
  (void)signal;
  ended = 1;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static int make_socket(int kind) {
  int one = 1, s = socket(AF_INET, kind | SOCK_CLOEXEC, 0);
  if (s < 0) die("socket");
  if (kind & SOCK_STREAM) setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return s;
}

static void watch(int poll, int s, uint32_t events) {
  struct epoll_event event = {.events = events, .data.fd = s};
  if (epoll_ctl(poll, EPOLL_CTL_ADD, s, &event)) die("epoll");
}

/* ---- the server -------------------------------------------------------------------------------- */

static struct { uint64_t packets; double first, last; } arrived;

static void count_datagrams(int s) {
  static char memory[batch][2048];
  static struct iovec parts[batch];
  static struct mmsghdr messages[batch];
  for (int i = 0; i < batch; i++) {
    parts[i] = (struct iovec){memory[i], sizeof memory[i]};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
  }
  int count = recvmmsg(s, messages, batch, MSG_DONTWAIT, NULL);
  if (count <= 0) return;
  arrived.last = now();
  if (!arrived.packets) arrived.first = arrived.last;
  arrived.packets += count;
}

static void answer(int s) {
  static const char octets[answer_octets];
  char question[256];
  ssize_t count = recv(s, question, sizeof question, 0);
  if (count < 0 && errno == EAGAIN) return;
  for (ssize_t i = 0; i < count; i++)
    if (send(s, octets, sizeof octets, MSG_NOSIGNAL) != sizeof octets) count = 0;
  if (count <= 0) close(s);
}

static void serve(void) {
  int one = 1, room = 8 << 20, poll = epoll_create1(EPOLL_CLOEXEC);
  int listener = make_socket(SOCK_STREAM | SOCK_NONBLOCK), datagrams = make_socket(SOCK_DGRAM);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (setsockopt(datagrams, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room))
    setsockopt(datagrams, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  if (bind(listener, (struct sockaddr *)&peer, sizeof peer) || listen(listener, 4096) ||
      bind(datagrams, (struct sockaddr *)&peer, sizeof peer))
    die("listen");
  watch(poll, listener, EPOLLIN);
  watch(poll, datagrams, EPOLLIN);
  while (!ended) {
    struct epoll_event events[events_max];
    int count = epoll_wait(poll, events, events_max, -1);
    for (int i = 0; i < count; i++) {
      int s = events[i].data.fd;
      if (s == datagrams) {
        count_datagrams(s);
      } else if (s == listener) {
        int connection;
        while ((connection = accept4(s, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
          setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
          watch(poll, connection, EPOLLIN);
        }
      } else {
        answer(s);
      }
    }
  }
  printf("{\"packets\": %llu, \"seconds\": %.6f}\n", (unsigned long long)arrived.packets,
         arrived.last - arrived.first);
}

/* ---- clients ----------------------------------------------------------------------------------- */

struct attempt { int socket; int got; int asked; };

static int begin(int poll, struct attempt *a) {
  a->got = a->asked = 0;
  a->socket = make_socket(SOCK_STREAM | SOCK_NONBLOCK);
  struct epoll_event event = {.events = EPOLLOUT, .data.ptr = a};
  if (connect(a->socket, (struct sockaddr *)&peer, sizeof peer) && errno != EINPROGRESS) {
    close(a->socket);
    return 0;
  }
  if (epoll_ctl(poll, EPOLL_CTL_ADD, a->socket, &event)) die("epoll");
  return 1;
}

/* 1: it is complete, -1: it failed, 0: it goes on. */
static int step(int poll, struct attempt *a) {
  char octets[answer_octets];
  if (!a->asked) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = a};
    if (send(a->socket, "?", 1, MSG_NOSIGNAL) != 1) return -1;
    a->asked = 1;
    return epoll_ctl(poll, EPOLL_CTL_MOD, a->socket, &event) ? -1 : 0;
  }
  ssize_t count = recv(a->socket, octets, sizeof octets, 0);
  if (count <= 0) return count < 0 && errno == EAGAIN ? 0 : -1;
  a->got += count;
  return a->got >= answer_octets;
}

static void connections(double seconds) {
  static struct attempt attempts[at_once];
  int poll = epoll_create1(EPOLL_CLOEXEC);
  unsigned long done = 0, failed = 0;
  double began = now(), until = began + seconds;
  for (int i = 0; i < at_once; i++)
    if (!begin(poll, &attempts[i])) die("connect");
  while (now() < until) {
    struct epoll_event events[events_max];
    int count = epoll_wait(poll, events, events_max, 100);
    for (int i = 0; i < count; i++) {
      struct attempt *a = events[i].data.ptr;
      int result = step(poll, a);
      if (!result) continue;
      if (result > 0) done++; else failed++;
      close(a->socket);
      while (!begin(poll, a)) {
        failed++;
        if (now() >= until) break;
      }
    }
  }
  printf("{\"done\": %lu, \"failed\": %lu, \"seconds\": %.6f}\n", done, failed, now() - began);
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void requests(double seconds) {
  enum { most = 1 << 20 };
  static double took[most];
  size_t count = 0;
  char octets[answer_octets];
  struct timeval patience = {.tv_sec = 5};
  int s = make_socket(SOCK_STREAM);
  setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (connect(s, (struct sockaddr *)&peer, sizeof peer)) die("connect");
  double began = now(), until = began + seconds, last = began;
  while (last < until && count < most) {
    if (send(s, "?", 1, MSG_NOSIGNAL) != 1) die("send");
    if (recv(s, octets, sizeof octets, MSG_WAITALL) != sizeof octets) die("receive");
    double at = now();
    took[count++] = at - last;
    last = at;
  }
  qsort(took, count, sizeof *took, by_size);
  printf("{\"done\": %zu, \"seconds\": %.6f, \"median_us\": %.2f, \"p99_us\": %.2f}\n", count, last - began,
         took[count / 2] * 1e6, took[count * 99 / 100] * 1e6);
}

static void datagrams(double seconds) {
  static char octets[datagram_octets];
  static struct iovec parts[batch];
  static struct mmsghdr messages[batch];
  unsigned long sent = 0;
  int s = make_socket(SOCK_DGRAM);
  if (connect(s, (struct sockaddr *)&peer, sizeof peer)) die("connect");
  for (int i = 0; i < batch; i++) {
    parts[i] = (struct iovec){octets, sizeof octets};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
  }
  double began = now(), until = began + seconds;
  while (now() < until) {
    int count = sendmmsg(s, messages, batch, 0);
    if (count > 0) sent += count;
    else if (errno != ENOBUFS && errno != EAGAIN && errno != ECONNREFUSED) die("send");
  }
  printf("{\"sent\": %lu, \"seconds\": %.6f}\n", sent, now() - began);
}

int main(int count, char **words) {
  const char *mode = count > 1 ? words[1] : "";
  struct sigaction action = {.sa_handler = end};
  sigaction(SIGTERM, &action, NULL);
  if (count < 4) return 2;
  peer.sin_family = AF_INET;
  peer.sin_port = htons((uint16_t)atoi(words[3]));
  if (inet_pton(AF_INET, words[2], &peer.sin_addr) != 1) die("address");
  double seconds = count > 4 ? atof(words[4]) : 1;
  if (!strcmp(mode, "serve")) serve();
  else if (!strcmp(mode, "connections")) connections(seconds);
  else if (!strcmp(mode, "requests")) requests(seconds);
  else if (!strcmp(mode, "datagrams")) datagrams(seconds);
  else return 2;
  return 0;
}
