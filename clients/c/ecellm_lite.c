/* The client: requests that wait, outcomes that nobody has received yet, and a child that is started again when it dies.
 * What it does is described in ecellm_lite.h. */
#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE /* for SO_NOSIGPIPE */
#include "ecellm_lite.h"
#include "internal/json.h"
#include "internal/text.h"
#ifdef _WIN32
#include "internal/process_windows.h"
#else
#include "internal/process_posix.h"
#endif

enum {
    PROTOCOL = 1,
    DEATHS = 2,         /* a request fails when so many children died while they had it */
    STARTS = 3,         /* all waiting requests fail when so many starts in a row have failed */
    FAREWELL = 5000,    /* how many ms a child gets to end by itself */
    START = 600000,     /* how many ms a child gets to load its model */
    ABSENT = 127,       /* the exit code of sh for a command that it does not find */
    NO_PROGRAM = 126,   /* the exit code of sh for a file that it cannot run */
    NO_CHILD = -1,      /* in place of an exit code, if no child could be started */
    PIECE = 1 << 16     /* how many bytes are read at once */
};

typedef struct request {
    int64_t id;
    char *line;
    int deaths; /* how many children died while they had this request */
    struct request *next;
} request;

typedef struct finished {
    ecellm_answer answer;
    struct finished *next;
} finished;

struct ecellm_client {
    ecellm_settings settings;
    process child;
    int is_running, is_ready, has_answered; /* the child */
    int64_t start_deadline;
    char *code, *message; /* the error for which the child must end, or NULL */
    int restarts;
    int failed_starts; /* in a row */
    int64_t last_id;
    size_t longest_line;
    request *open, **last_open; /* a child that is ready has got all of them */
    finished *finished, **last_finished;
    text in, out;
    size_t searched; /* how many bytes of `in` were searched for the end of a line */
    size_t written;  /* how many bytes of `out` the child has taken */
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

/* Remove the open request with this id. Return 0 if there is none. */
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

/* Remove the oldest outcome of the request with this id, or of any request if `id` is 0. Return 0 if there is none. */
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
    if (!client->is_running) ended(client, NO_CHILD);
}

/* Handle the end of the child, after all its output was read. Its requests are sent to a new child, once. */
static void ended(ecellm_client *client, int code) {
    static const char step[] = ": give the path of ecellm-lite as the command, if it is not on the PATH";
    char message[160];
    int64_t lost;
    int is_absent = !client->is_ready && (code == ABSENT || code == NO_PROGRAM || code == NO_CHILD);
    snprintf(message, sizeof message, "The child process died (exit code %d)%s.", code, is_absent ? step : "");
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
    /* This cannot loop forever: a child that gave no answer uses up a failed start, or one of its requests' deaths. */
    if (client->open || client->has_answered) {
        client->restarts++;
        start_child(client);
    }
}

/* Return the value of an answer: a text as it is, another value as JSON, and null as NULL. */
static char *value_of(const char *json) {
    size_t length;
    const char *value = ecellm_field(json, "value", &length);
    text whole = {0};
    if (!value || *value == 'n') return NULL;
    if (*value == '"') return ecellm_text(json, "value");
    append(&whole, value, length);
    return whole.data;
}

static void received(ecellm_client *client, const char *line) {
    char *type = ecellm_text(line, "type");
    int64_t id = (int64_t)ecellm_number(line, "id", 0);
    const char *error = ecellm_field(line, "error", NULL);
    size_t length = 0;
    const char *json = ecellm_field(line, "answer", &length);
    if (!type) {
        fail(client, "crashed", "The child process wrote a line that is not a message.");
    } else if (!strcmp(type, "ready")) {
        client->is_ready = ecellm_number(line, "protocol", 0) == PROTOCOL;
        if (!client->is_ready) fail(client, "crashed", "The child process speaks another protocol.");
        client->longest_line = (size_t)ecellm_number(ecellm_field(line, "limits", NULL), "line_bytes", 1 << 24);
        for (request *one = client->open; one; one = one->next) send_line(client, one->line);
    } else if (error && !client->is_ready) {
        client->code = ecellm_text(error, "code"); /* the child cannot start */
        client->message = ecellm_text(error, "message");
    } else if ((json || error || !strcmp(type, "cancelled")) && take_open(client, id)) {
        ecellm_answer answer = {.id = id, .probability = ecellm_number(json, "probability", -1)};
        if (json) {
            const char *abstained = ecellm_field(json, "abstained", NULL);
            text whole = {0};
            append(&whole, json, length);
            answer.json = whole.data;
            answer.value = value_of(json);
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

/* Write what waits and read what has come. If there is neither, wait for the child until the deadline. */
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
        finish_failed(client, id, "input", "The row, the options or the question is not a JSON object.");
        return id;
    }
    snprintf(start, sizeof start, "{\"id\":%lld,\"task\":", (long long)id);
    append_string(&line, start);
    if (*task != '{') append_json_string(&line, task);
    for (int i = 0; i < 5; i++) { /* in valid JSON, a control character is white space between values */
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
    if (client->is_running) transfer(client, 0); /* notices a child that died between two requests */
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
    free(answer->value);
    free(answer->text);
    *answer = (ecellm_answer){.probability = -1};
}
