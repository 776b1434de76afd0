/* A child process on POSIX. Reading and writing never wait. */
#ifndef ECELLM_LITE_PROCESS_POSIX_H
#define ECELLM_LITE_PROCESS_POSIX_H

#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* macOS has SO_NOSIGPIPE */
#endif

/* One socket is the child's standard input and output. Unlike a pipe, it can be written to without SIGPIPE. */
typedef struct {
    pid_t program;
    int socket;
} process;

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static int process_start(process *child, const char *command, int drop_messages) {
    text line = {0};
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) return 0;
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
#ifdef SO_NOSIGPIPE
    setsockopt(ends[0], SOL_SOCKET, SO_NOSIGPIPE, &(int){1}, sizeof(int));
#endif
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    if (drop_messages) posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    append_string(&line, "exec ");
    append_string(&line, command);
    char *arguments[] = {"sh", "-c", line.data, NULL};
    int failure = posix_spawn(&child->program, "/bin/sh", &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    free(line.data);
    close(ends[1]);
    if (failure) close(ends[0]);
    child->socket = ends[0];
    return !failure;
}

static long moved(long count) {
    return count >= 0 ? count : errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
}

static long process_number(const process *child) {
    return child->program;
}

/* Return how many bytes the child took: 0 if it takes none now, -1 if it is gone. */
static long process_write(process *child, const char *data, size_t length) {
    return moved((long)send(child->socket, data, length, MSG_NOSIGNAL));
}

/* Return how many bytes were read: 0 if there are none now, -1 if there will be no more. */
static long process_read(process *child, char *data, size_t room) {
    long length = (long)recv(child->socket, data, room, 0);
    return length ? moved(length) : -1;
}

static void process_wait(process *child, int wants_to_write, int64_t ms) {
    struct pollfd look = {child->socket, (short)(POLLIN | (wants_to_write ? POLLOUT : 0)), 0};
    poll(&look, 1, ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms);
}

/* Give the child `ms` to end by itself, then kill it. Return its exit code, or minus the signal that ended it. */
static int process_end(process *child, int ms) {
    int status = 0;
    int64_t deadline = now() + ms;
    shutdown(child->socket, SHUT_WR);
    while (waitpid(child->program, &status, WNOHANG) == 0) {
        if (now() >= deadline) {
            kill(child->program, SIGKILL);
            while (waitpid(child->program, &status, 0) < 0 && errno == EINTR) continue;
            break;
        }
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    }
    close(child->socket);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

#endif
