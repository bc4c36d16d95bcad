// What systemd does for a service with Type=notify and FileDescriptorStoreMax=, as far as knp uses it: sd_notify(3) and
// sd_listen_fds(3). Starts the service when it is told to, and keeps what it is given.
//
//   service-manager SOCKET COMMAND...
//
// Reads words, a line each, from its input: `start`, `kill NUMBER`, `drop` (the store). Prints, a line each: `started PID`,
// `ended STATUS` (as wait(2) has it), `notified TEXT` (lines joined by `|`), `dropped`. Ends, and the service with it, when its
// input ends. With KEEP_NOTHING in its environment it closes what it is given to keep.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_KEPT = 64, FIRST = 3 };

static struct {
  int fd;
  char name[256];
} kept[MAX_KEPT];
static int kept_count;
static pid_t service;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void forget(const char *name) {
  int left = 0;
  for (int i = 0; i < kept_count; i++) {
    if (name == NULL || strcmp(kept[i].name, name) == 0) {
      close(kept[i].fd);
    } else {
      kept[left++] = kept[i];
    }
  }
  kept_count = left;
}

static void start(const char *notify, char **command) {
  fflush(stdout);
  service = fork();
  if (service < 0) fail("fork");
  if (service == 0) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    char names[MAX_KEPT * 257] = "";
    // Out of the way of the numbers they get; these have no close-on-exec.
    for (int i = 0; i < kept_count; i++) kept[i].fd = fcntl(kept[i].fd, F_DUPFD_CLOEXEC, FIRST + MAX_KEPT);
    for (int i = 0; i < kept_count; i++) {
      if (dup2(kept[i].fd, FIRST + i) < 0) fail("dup2");
      if (i > 0) strcat(names, ":");
      strcat(names, kept[i].name);
    }
    char text[16];
    setenv("NOTIFY_SOCKET", notify, 1);
    if (kept_count > 0) {
      snprintf(text, sizeof text, "%d", getpid());
      setenv("LISTEN_PID", text, 1);
      snprintf(text, sizeof text, "%d", kept_count);
      setenv("LISTEN_FDS", text, 1);
      setenv("LISTEN_FDNAMES", names, 1);
    }
    execvp(command[0], command);
    fail(command[0]);
  }
  printf("started %d\n", service);
}

static void receive(int notify, bool keeps) {
  char text[4096];
  char name[256] = "stored";
  union {
    char bytes[CMSG_SPACE(sizeof(int) * MAX_KEPT)];
    struct cmsghdr align;
  } control;
  struct iovec body = {text, sizeof text - 1};
  struct msghdr message = {.msg_iov = &body, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  const ssize_t length = recvmsg(notify, &message, MSG_CMSG_CLOEXEC);
  if (length < 0) fail("recvmsg");
  text[length] = '\0';
  bool stores = false;
  bool removes = false;
  for (char *line = text, *next; line != NULL; line = next) {
    next = strchr(line, '\n');
    if (next != NULL) *next++ = '\0';
    if (strcmp(line, "FDSTORE=1") == 0) stores = true;
    if (strcmp(line, "FDSTOREREMOVE=1") == 0) removes = true;
    if (strncmp(line, "FDNAME=", 7) == 0) snprintf(name, sizeof name, "%s", line + 7);
    printf("%s%s", line == text ? "notified " : "|", line);
  }
  printf("\n");
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    int fds[MAX_KEPT];
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(header), count * sizeof(int));
    for (size_t i = 0; i < count; i++) {
      if (!stores || !keeps || kept_count == MAX_KEPT) {
        close(fds[i]);
        continue;
      }
      kept[kept_count].fd = fds[i];
      strcpy(kept[kept_count++].name, name);
    }
  }
  if (removes) forget(name);
}

static void obey(char *word, const char *notify, char **command) {
  int number;
  if (strcmp(word, "start") == 0) {
    start(notify, command);
  } else if (sscanf(word, "kill %d", &number) == 1) {
    kill(service, number);
  } else if (strcmp(word, "drop") == 0) {
    forget(NULL);
    printf("dropped\n");
  }
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  setvbuf(stdout, NULL, _IOLBF, 0);
  const bool keeps = getenv("KEEP_NOTHING") == NULL;
  const int notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[1]);
  socklen_t size = sizeof address;
  if (argv[1][0] == '@') {
    address.sun_path[0] = '\0';
    size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(argv[1]));
  }
  if (bind(notify, (struct sockaddr *)&address, size) != 0) fail(argv[1]);

  sigset_t children;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  sigprocmask(SIG_BLOCK, &children, NULL);
  const int ends = signalfd(-1, &children, SFD_CLOEXEC);

  char input[256];
  size_t held = 0;
  for (;;) {
    struct pollfd watched[] = {{notify, POLLIN, 0}, {ends, POLLIN, 0}, {0, POLLIN, 0}};
    if (poll(watched, 3, -1) < 0) {
      if (errno == EINTR) continue;
      fail("poll");
    }
    if (watched[0].revents != 0) receive(notify, keeps);
    if (watched[1].revents != 0) {
      struct signalfd_siginfo info;
      if (read(ends, &info, sizeof info) < 0) fail("signalfd");
      int status;
      while (waitpid(-1, &status, WNOHANG) > 0) printf("ended %d\n", status);
    }
    if (watched[2].revents != 0) {
      const ssize_t length = read(0, input + held, sizeof input - 1 - held);
      if (length <= 0) break;
      held += (size_t)length;
      input[held] = '\0';
      char *line = input;
      for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        obey(line, argv[1], argv + 2);
      }
      held = strlen(line);
      memmove(input, line, held);
    }
  }
  if (service > 0) kill(service, SIGKILL);
  return 0;
}
