/* See ecellm_lite.h. From top to bottom: texts, JSON, the child process on POSIX and on Windows, the client. */
#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE /* for SO_NOSIGPIPE */
#include "ecellm_lite.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROTOCOL = 1,
    DEATHS = 2,         /* of children, that fail a request that they had */
    STARTS = 3,         /* that fail in a row, and with them all requests that wait */
    FAREWELL = 5000,    /* ms that a child has to end by itself */
    START = 600000,     /* ms */
    DEEPEST = 500,      /* objects and lists in each other */
    PIECE = 1 << 16     /* bytes read at once */
};

/* ---- texts ---- */

typedef struct {
    char *data; /* ends with a 0, which `length` does not count */
    size_t length, room;
} text;

static void *checked(void *memory) {
    if (!memory) abort();
    return memory;
}

static void append(text *target, const char *data, size_t length) {
    if (target->length + length >= target->room) {
        target->room = 2 * (target->length + length) + 64;
        target->data = checked(realloc(target->data, target->room));
    }
    memcpy(target->data + target->length, data, length);
    target->data[target->length += length] = 0;
}

static void append_string(text *target, const char *string) {
    append(target, string, strlen(string));
}

static char *copy(const char *string) {
    return string ? strcpy(checked(malloc(strlen(string) + 1)), string) : NULL;
}

/* The code point that begins at *at, which moves behind it; U+FFFD for a byte that is no UTF-8. */
static unsigned long code_point(const char **at) {
    static const unsigned long least[] = {0, 0x80, 0x800, 0x10000};
    const unsigned char *byte = (const unsigned char *)(*at)++;
    int more = *byte < 0x80 ? 0 : *byte >> 5 == 6 ? 1 : *byte >> 4 == 14 ? 2 : *byte >> 3 == 30 ? 3 : -1;
    if (more < 0) return 0xfffd;
    unsigned long code = more ? *byte & (0x3f >> more) : *byte;
    for (int i = 1; i <= more; i++) {
        if (byte[i] >> 6 != 2) return 0xfffd;
        code = code << 6 | (byte[i] & 0x3f);
    }
    if (code < least[more] || code > 0x10ffff || code >> 11 == 0x1b) return 0xfffd;
    *at += more;
    return code;
}

static void append_utf8(text *target, unsigned long code) {
    char bytes[4];
    int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    for (int i = more; i > 0; i--, code >>= 6) bytes[i] = (char)(0x80 | (code & 0x3f));
    bytes[0] = (char)(more ? (0xff00 >> (more + 1) & 0xff) | code : code);
    append(target, bytes, (size_t)more + 1);
}

/* Append one character in ASCII, as it may stand in a JSON string. */
static void append_ascii(text *target, unsigned long code) {
    char escape[40];
    if (code >= 0x20 && code < 0x7f) {
        escape[0] = (char)code;
        escape[1] = 0;
    } else if (code < 0x10000) {
        snprintf(escape, sizeof escape, "\\u%04lx", code);
    } else {
        code -= 0x10000;
        snprintf(escape, sizeof escape, "\\u%04lx\\u%04lx", 0xd800 + (code >> 10), 0xdc00 + (code & 0x3ff));
    }
    append_string(target, escape);
}

static void append_json_string(text *target, const char *string) {
    append(target, "\"", 1);
    while (*string) {
        if (*string == '"' || *string == '\\') append(target, "\\", 1);
        append_ascii(target, code_point(&string));
    }
    append(target, "\"", 1);
}

char *ecellm_string(const char *string) {
    text json = {0};
    append_json_string(&json, string);
    return json.data;
}

char *ecellm_row(const char *field, const char *value, ...) {
    text row = {0};
    va_list more;
    append(&row, "{", 1);
    va_start(more, value);
    while (field) {
        append_json_string(&row, field);
        append(&row, ":", 1);
        append_json_string(&row, value ? value : "");
        field = va_arg(more, const char *);
        if (field) {
            value = va_arg(more, const char *);
            append(&row, ",", 1);
        }
    }
    va_end(more);
    append(&row, "}", 1);
    return row.data;
}

/* ---- JSON: a `skip` function returns where what begins here ends, or NULL where it is not JSON ---- */

static const char *skip_space(const char *at) {
    return at + strspn(at, " \t\r\n");
}

static const char *skip_string(const char *at) {
    if (*at++ != '"') return NULL;
    while (*at != '"') {
        if ((unsigned char)*at < 0x20) return NULL;
        if (*at++ != '\\') continue;
        int is_escape = *at == 'u' ? strspn(at + 1, "0123456789abcdefABCDEF") >= 4 : *at && strchr("\"\\/bfnrt", *at);
        if (!is_escape) return NULL;
        at++;
    }
    return at + 1;
}

static const char *skip_digits(const char *at) {
    size_t digits = strspn(at, "0123456789");
    return digits ? at + digits : NULL;
}

static const char *skip_number(const char *at) {
    at += *at == '-';
    at = *at == '0' ? at + 1 : skip_digits(at);
    if (at && *at == '.') at = skip_digits(at + 1);
    if (at && (*at == 'e' || *at == 'E')) at = skip_digits(at + 1 + (at[1] == '+' || at[1] == '-'));
    return at;
}

static const char *skip_value(const char *at, int depth) {
    static const char *const words[] = {"true", "false", "null"};
    if (*at == '"') return skip_string(at);
    for (int i = 0; i < 3; i++) {
        if (!strncmp(at, words[i], strlen(words[i]))) return at + strlen(words[i]);
    }
    if (*at != '{' && *at != '[') return skip_number(at);
    char end = *at == '{' ? '}' : ']';
    if (depth == DEEPEST) return NULL;
    at = skip_space(at + 1);
    if (*at == end) return at + 1;
    for (;; at = skip_space(at + 1)) {
        if (end == '}') {
            if (!(at = skip_string(at)) || *(at = skip_space(at)) != ':') return NULL;
            at = skip_space(at + 1);
        }
        if (!(at = skip_value(at, depth + 1))) return NULL;
        at = skip_space(at);
        if (*at == end) return at + 1;
        if (*at != ',') return NULL;
    }
}

static int is_object(const char *json) {
    const char *end = *(json = skip_space(json)) == '{' ? skip_value(json, 0) : NULL;
    return end && !*skip_space(end);
}

const char *ecellm_field(const char *json, const char *name, size_t *length) {
    const char *at = json ? skip_space(json) : "";
    if (*at != '{') return NULL;
    while (*(at = skip_space(at + 1)) == '"') {
        const char *key = at + 1, *key_end = skip_string(at);
        if (!key_end || *(at = skip_space(key_end)) != ':') return NULL;
        const char *value = skip_space(at + 1), *end = skip_value(value, 0);
        if (!end) return NULL;
        if ((size_t)(key_end - 1 - key) == strlen(name) && !memcmp(key, name, strlen(name))) {
            if (length) *length = (size_t)(end - value);
            return value;
        }
        if (*(at = skip_space(end)) != ',') return NULL;
    }
    return NULL;
}

static unsigned long hex(const char *at) {
    char digits[5] = {at[0], at[1], at[2], at[3], 0};
    return strtoul(digits, NULL, 16);
}

char *ecellm_text(const char *json, const char *name) {
    static const char escapes[] = "bfnrt", meanings[] = "\b\f\n\r\t";
    const char *at = ecellm_field(json, name, NULL);
    if (!at || *at++ != '"') return NULL;
    text value = {0};
    append(&value, "", 0);
    while (*at != '"') {
        if (*at != '\\') {
            append(&value, at++, 1);
        } else if (*++at != 'u') {
            const char *escape = strchr(escapes, *at);
            append(&value, escape ? &meanings[escape - escapes] : at, 1);
            at++;
        } else {
            unsigned long code = hex(at + 1);
            at += 5;
            if (code >> 10 == 0x36 && at[0] == '\\' && at[1] == 'u' && hex(at + 2) >> 10 == 0x37) {
                code = 0x10000 + ((code & 0x3ff) << 10 | (hex(at + 2) & 0x3ff));
                at += 6;
            }
            append_utf8(&value, code >> 11 == 0x1b ? 0xfffd : code);
        }
    }
    return value.data;
}

/* strtod would want a comma in many countries. */
double ecellm_number(const char *json, const char *name, double otherwise) {
    const char *at = ecellm_field(json, name, NULL);
    if (!at || !strchr("-0123456789", *at)) return otherwise;
    int is_negative = *at == '-';
    double number = 0;
    long exponent = 0;
    for (at += is_negative; *at >= '0' && *at <= '9'; at++) number = 10 * number + (*at - '0');
    if (*at == '.') {
        for (at++; *at >= '0' && *at <= '9'; at++, exponent--) number = 10 * number + (*at - '0');
    }
    if (*at == 'e' || *at == 'E') exponent += strtol(at + 1, NULL, 10);
    double scale = 1;
    for (long i = labs(exponent); i > 0 && scale < 1e300; i--) scale *= 10;
    return (is_negative ? -1 : 1) * (exponent < 0 ? number / scale : number * scale);
}

/* ---- the child process: started, written to and read without waiting, waited for, ended ---- */

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

typedef struct {
    HANDLE program, input, output;
} process;

static int64_t now(void) {
    return (int64_t)GetTickCount64();
}

static int process_start(process *child, const char *command, int drop_messages) {
    SECURITY_ATTRIBUTES inherited = {sizeof inherited, NULL, TRUE};
    STARTUPINFOW start = {0};
    PROCESS_INFORMATION made;
    DWORD without_waiting = PIPE_NOWAIT;
    WCHAR *line = checked(malloc((strlen(command) + 1) * sizeof *line));
    MultiByteToWideChar(CP_UTF8, 0, command, -1, line, (int)strlen(command) + 1);
    if (!CreatePipe(&start.hStdInput, &child->input, &inherited, PIECE)) return 0;
    if (!CreatePipe(&child->output, &start.hStdOutput, &inherited, PIECE)) return 0;
    SetHandleInformation(child->input, HANDLE_FLAG_INHERIT, 0);
    SetHandleInformation(child->output, HANDLE_FLAG_INHERIT, 0);
    SetNamedPipeHandleState(child->input, &without_waiting, NULL, NULL);
    if (drop_messages) {
        start.hStdError = CreateFileW(L"NUL", GENERIC_WRITE, FILE_SHARE_WRITE, &inherited, OPEN_EXISTING, 0, NULL);
    } else {
        HANDLE host = GetCurrentProcess();
        DuplicateHandle(host, GetStdHandle(STD_ERROR_HANDLE), host, &start.hStdError, 0, TRUE, DUPLICATE_SAME_ACCESS);
    }
    start.cb = sizeof start;
    start.dwFlags = STARTF_USESTDHANDLES;
    BOOL is_started = CreateProcessW(NULL, line, NULL, NULL, TRUE, CREATE_NO_WINDOW, NULL, NULL, &start, &made);
    free(line);
    CloseHandle(start.hStdInput);
    CloseHandle(start.hStdOutput);
    if (start.hStdError) CloseHandle(start.hStdError);
    if (!is_started) {
        CloseHandle(child->input);
        CloseHandle(child->output);
        return 0;
    }
    CloseHandle(made.hThread);
    child->program = made.hProcess;
    return 1;
}

static long process_number(const process *child) {
    return (long)GetProcessId(child->program);
}

/* The bytes that it took, 0 if it takes none now, -1 if it is gone. */
static long process_write(process *child, const char *data, size_t length) {
    DWORD written = 0;
    if (!WriteFile(child->input, data, length < 4096 ? (DWORD)length : 4096, &written, NULL)) return -1;
    return (long)written;
}

/* The bytes that were read, 0 if there are none now, -1 if there will be no more. */
static long process_read(process *child, char *data, size_t room) {
    DWORD there = 0, length = 0;
    if (!PeekNamedPipe(child->output, NULL, 0, NULL, &there, NULL)) return -1;
    if (!there) return 0;
    if (!ReadFile(child->output, data, there < room ? there : (DWORD)room, &length, NULL)) return -1;
    return (long)length;
}

/* Such pipes cannot be waited for: look again soon. */
static void process_wait(process *child, int wants_to_write, int64_t ms) {
    (void)child, (void)wants_to_write;
    Sleep(ms > 0 ? 1 : 0);
}

/* Let it end by itself for so long, then kill it; return its exit code. */
static int process_end(process *child, int ms) {
    DWORD code = 0;
    CloseHandle(child->input);
    if (WaitForSingleObject(child->program, (DWORD)ms) != WAIT_OBJECT_0) TerminateProcess(child->program, 1);
    WaitForSingleObject(child->program, INFINITE);
    GetExitCodeProcess(child->program, &code);
    CloseHandle(child->program);
    CloseHandle(child->output);
    return (int)code;
}

#else
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* macOS has SO_NOSIGPIPE */
#endif

/* One socket is the child's standard input and output: unlike a pipe it can be written to without SIGPIPE. */
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

/* The bytes that it took, 0 if it takes none now, -1 if it is gone. */
static long process_write(process *child, const char *data, size_t length) {
    return moved((long)send(child->socket, data, length, MSG_NOSIGNAL));
}

/* The bytes that were read, 0 if there are none now, -1 if there will be no more. */
static long process_read(process *child, char *data, size_t room) {
    long length = (long)recv(child->socket, data, room, 0);
    return length ? moved(length) : -1;
}

static void process_wait(process *child, int wants_to_write, int64_t ms) {
    struct pollfd look = {child->socket, (short)(POLLIN | (wants_to_write ? POLLOUT : 0)), 0};
    poll(&look, 1, ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms);
}

/* Let it end by itself for so long, then kill it; return its exit code, below 0 for a signal. */
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

/* ---- the client ---- */

typedef struct request {
    int64_t id;
    char *line;
    int deaths; /* of children that had it */
    struct request *next;
} request;

typedef struct finished {
    ecellm_answer answer;
    struct finished *next;
} finished;

struct ecellm_client {
    ecellm_settings settings;
    process child;
    int is_running, is_ready, has_answered; /* of the child */
    int64_t start_deadline;
    char *code, *message; /* why the child had to go, or NULL */
    int restarts, failed_starts; /* in a row */
    int64_t last_id;
    size_t longest_line;
    request *open, **last_open; /* a child that is ready has been sent all of them */
    finished *finished, **last_finished;
    text in, out;
    size_t searched, written; /* bytes of `in` that have no line's end, and of `out` that the child has */
};

static void finish(ecellm_client *client, ecellm_answer answer) {
    finished *one = checked(malloc(sizeof *one));
    one->answer = answer;
    one->next = NULL;
    *client->last_finished = one;
    client->last_finished = &one->next;
}

static void finish_failed(ecellm_client *client, int64_t id, const char *code, const char *message) {
    finish(client, (ecellm_answer){.id = id, .code = copy(code), .message = copy(message), .probability = -1});
}

/* Take the open request with this id out; 0 if there is none. */
static int take_open(ecellm_client *client, int64_t id) {
    for (request **place = &client->open; *place; place = &(*place)->next) {
        request *one = *place;
        if (one->id != id) continue;
        *place = one->next;
        if (!one->next) client->last_open = place;
        free(one->line);
        free(one);
        return 1;
    }
    return 0;
}

/* Take the oldest outcome of a request out, 0 for that of any. */
static int take_finished(ecellm_client *client, int64_t id, ecellm_answer *answer) {
    for (finished **place = &client->finished; *place; place = &(*place)->next) {
        finished *one = *place;
        if (id && one->answer.id != id) continue;
        *place = one->next;
        if (!one->next) client->last_finished = place;
        *answer = one->answer;
        free(one);
        return 1;
    }
    return 0;
}

static void send_line(ecellm_client *client, const char *line) {
    if (client->is_running && client->is_ready) append_string(&client->out, line);
}

static void fail(ecellm_client *client, const char *code, const char *message) {
    if (client->code) return;
    client->code = copy(code);
    client->message = copy(message);
}

static void ended(ecellm_client *client, int code);

static void start_child(ecellm_client *client) {
    free(client->code);
    free(client->message);
    client->code = client->message = NULL;
    client->is_ready = client->has_answered = 0;
    client->in.length = client->out.length = client->searched = client->written = 0;
    client->start_deadline = now() + client->settings.start_ms;
    client->is_running = process_start(&client->child, client->settings.command, client->settings.drop_messages);
    if (!client->is_running) ended(client, -1);
}

/* The child is gone, and all that it wrote was read. What it had is asked again, once. */
static void ended(ecellm_client *client, int code) {
    char message[80];
    int64_t lost;
    snprintf(message, sizeof message, "The child process died (exit code %d).", code);
    fail(client, "crashed", message);
    client->is_running = 0;
    client->failed_starts = client->is_ready ? 0 : client->failed_starts + 1;
    for (request *one = client->open; one; one = one->next) {
        if (client->failed_starts >= STARTS) one->deaths = DEATHS;
        else if (client->is_ready) one->deaths++;
    }
    do {
        lost = 0;
        for (request *one = client->open; one && !lost; one = one->next) lost = one->deaths >= DEATHS ? one->id : 0;
        if (lost) finish_failed(client, lost, client->code, client->message);
    } while (lost && take_open(client, lost));
    /* No endless loop: each restart costs an answer, a failed start, or a request one of its deaths. */
    if (client->open || client->has_answered) {
        client->restarts++;
        start_child(client);
    }
}

static void received(ecellm_client *client, const char *line) {
    char *type = ecellm_text(line, "type");
    int64_t id = (int64_t)ecellm_number(line, "id", 0);
    const char *error = ecellm_field(line, "error", NULL);
    size_t length = 0;
    const char *json = ecellm_field(line, "answer", &length);
    if (!type) {
        fail(client, "crashed", "The child process wrote what is no message.");
    } else if (!strcmp(type, "ready")) {
        client->is_ready = ecellm_number(line, "protocol", 0) == PROTOCOL;
        if (!client->is_ready) fail(client, "crashed", "The child process speaks another protocol.");
        client->longest_line = (size_t)ecellm_number(ecellm_field(line, "limits", NULL), "line_bytes", 1 << 24);
        for (request *one = client->open; one; one = one->next) send_line(client, one->line);
    } else if (error && !client->is_ready) {
        client->code = ecellm_text(error, "code"); /* it does not start */
        client->message = ecellm_text(error, "message");
    } else if ((json || error || !strcmp(type, "cancelled")) && take_open(client, id)) {
        ecellm_answer answer = {.id = id, .probability = ecellm_number(json, "probability", -1)};
        if (json) {
            const char *abstained = ecellm_field(json, "abstained", NULL);
            text whole = {0};
            append(&whole, json, length);
            answer.json = whole.data;
            answer.text = ecellm_text(json, "text");
            answer.abstained = abstained && *abstained == 't';
            error = ecellm_field(json, "error", NULL);
            client->has_answered = 1;
        }
        answer.code = ecellm_text(error, "code");
        answer.message = ecellm_text(error, "message");
        finish(client, answer);
    }
    free(type);
}

/* Write what waits and read what is there; where that is nothing, wait until there is something, or the deadline. */
static void transfer(ecellm_client *client, int64_t deadline) {
    static const char late[] = "The child process was not ready in time.";
    char piece[PIECE];
    long written = 0, length;
    size_t read = client->in.length, start = 0;
    if (!client->is_running) return;
    if (client->out.length > client->written) {
        written = process_write(&client->child, client->out.data + client->written, client->out.length - client->written);
        if (written > 0) client->written += (size_t)written;
        if (client->written == client->out.length) client->written = client->out.length = 0;
    }
    while ((length = process_read(&client->child, piece, sizeof piece)) > 0) append(&client->in, piece, (size_t)length);
    read = client->in.length - read;
    while (read) {
        char *end = memchr(client->in.data + client->searched, '\n', client->in.length - client->searched);
        if (!end) break;
        *end = 0;
        if (!client->code) received(client, client->in.data + start);
        client->searched = start = (size_t)(end + 1 - client->in.data);
    }
    if (start) memmove(client->in.data, client->in.data + start, client->in.length -= start);
    client->searched = client->in.length;
    if (!client->is_ready && now() >= client->start_deadline) fail(client, "crashed", late);
    if (client->code || length < 0) {
        ended(client, process_end(&client->child, 1000));
    } else if (!read && written <= 0) {
        if (!client->is_ready && client->start_deadline < deadline) deadline = client->start_deadline;
        process_wait(&client->child, client->out.length > 0, deadline - now());
    }
}

static void give_up(ecellm_client *client, int64_t id, const char *code, const char *message) {
    char line[64];
    if (!take_open(client, id)) return;
    snprintf(line, sizeof line, "{\"id\": %lld, \"type\": \"cancel\"}\n", (long long)id);
    send_line(client, line);
    finish_failed(client, id, code, message);
    transfer(client, 0);
}

ecellm_client *ecellm_start(const ecellm_settings *settings, ecellm_answer *failure) {
    ecellm_client *client = checked(calloc(1, sizeof *client));
    if (settings) client->settings = *settings;
    if (!client->settings.start_ms) client->settings.start_ms = START;
    client->settings.command = copy(client->settings.command ? client->settings.command : "ecellm-lite pipe");
    client->last_open = &client->open;
    client->last_finished = &client->finished;
    start_child(client);
    while (client->is_running && !client->is_ready) transfer(client, INT64_MAX);
    if (client->is_running) return client;
    *failure = (ecellm_answer){.code = copy(client->code), .message = copy(client->message), .probability = -1};
    ecellm_close(client);
    return NULL;
}

int64_t ecellm_send(ecellm_client *client, const char *task, const char *row, const char *options) {
    const char *parts[] = {*task == '{' ? task : "", ",\"row\":", row, ",\"options\":", options ? options : "{}"};
    char start[48];
    text line = {0};
    int64_t id = ++client->last_id;
    if (!is_object(row) || !is_object(parts[4]) || (*task == '{' && !is_object(task))) {
        finish_failed(client, id, "input", "The row, the options or the question are no JSON object.");
        return id;
    }
    snprintf(start, sizeof start, "{\"id\":%lld,\"task\":", (long long)id);
    append_string(&line, start);
    if (*task != '{') append_json_string(&line, task);
    for (int i = 0; i < 5; i++) { /* a control character in valid JSON can only be space between its parts */
        for (const char *at = parts[i]; *at;) {
            unsigned long code = code_point(&at);
            append_ascii(&line, code < 0x20 ? ' ' : code);
        }
    }
    append_string(&line, "}\n");
    if (line.length > client->longest_line) {
        finish_failed(client, id, "protocol", "The request is too long: send a shorter row.");
        free(line.data);
        return id;
    }
    if (client->is_running) transfer(client, 0); /* finds out whether it died while nothing was asked */
    request *one = checked(malloc(sizeof *one));
    *one = (request){.id = id, .line = line.data};
    *client->last_open = one;
    client->last_open = &one->next;
    send_line(client, line.data);
    if (!client->is_running) {
        client->restarts++;
        start_child(client);
    }
    return id;
}

int ecellm_receive(ecellm_client *client, int timeout_ms, ecellm_answer *answer) {
    int64_t deadline = now() + timeout_ms;
    while (!take_finished(client, 0, answer)) {
        if (!client->open || now() > deadline) return 0;
        transfer(client, deadline);
    }
    return 1;
}

int ecellm_ask(
    ecellm_client *client, const char *task, const char *row, const char *options, int timeout_ms, ecellm_answer *answer) {
    int64_t deadline = now() + timeout_ms, id = ecellm_send(client, task, row, options);
    while (!take_finished(client, id, answer)) {
        if (now() < deadline) transfer(client, deadline);
        else give_up(client, id, "timeout", "There was no answer in time.");
    }
    return !answer->code;
}

void ecellm_cancel(ecellm_client *client, int64_t id) {
    give_up(client, id, "cancelled", "The request was cancelled.");
}

int ecellm_restarts(const ecellm_client *client) {
    return client->restarts;
}

long ecellm_pid(const ecellm_client *client) {
    return client->is_running ? process_number(&client->child) : 0;
}

void ecellm_close(ecellm_client *client) {
    ecellm_answer answer;
    if (!client) return;
    if (client->is_running) process_end(&client->child, client->open || !client->is_ready ? 0 : FAREWELL);
    while (client->open) take_open(client, client->open->id);
    while (take_finished(client, 0, &answer)) ecellm_free(&answer);
    free(client->in.data);
    free(client->out.data);
    free(client->code);
    free(client->message);
    free((char *)client->settings.command);
    free(client);
}

void ecellm_free(ecellm_answer *answer) {
    free(answer->code);
    free(answer->message);
    free(answer->json);
    free(answer->text);
    *answer = (ecellm_answer){.probability = -1};
}
