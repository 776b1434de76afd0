/* A client of ecellm-lite for C (C99, POSIX or Windows). It starts `ecellm-lite pipe` and speaks its protocol
 * (docs/pipe.md). If that child process dies, the client starts another one and sends it the unanswered requests.
 *
 * A client has no thread of its own: it reads and writes during the calls below. Only one thread at a time may use it.
 * All texts are UTF-8. If memory runs out, the client calls abort().
 *
 * There is no JSON parser here. Rows and options are passed as JSON texts; ecellm_row makes the row if all fields are
 * texts. ecellm_field finds a field of an answer, and ecellm_text and ecellm_number read it. They do not read lists (the
 * value of labels, a ranking or an extraction) or keys with escapes. For those, give `json` to a parser of your own.
 */
#ifndef ECELLM_LITE_H
#define ECELLM_LITE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ecellm_client ecellm_client;

/* How the child is started. 0 and NULL stand for the default. */
typedef struct {
    const char *command; /* default: "ecellm-lite pipe". It may have a path and options. On POSIX, sh runs
                            `exec COMMAND`; on Windows, CreateProcess runs the command itself */
    int drop_messages;   /* 1: the child's messages for people are dropped; 0: they go to this program's standard error */
    int start_ms;        /* how many milliseconds the model may take to load; default: ten minutes */
} ecellm_settings;

/* The outcome of a request. Free it with ecellm_free. */
typedef struct {
    int64_t id;         /* the request's id, which ecellm_send returned */
    char *code;         /* the error's code, or NULL if there is an answer. docs/pipe.md lists the codes. The client's own
                           are cancelled, timeout, and crashed (two children died while they had the request) */
    char *message;      /* the error's message for people, or NULL */
    char *json;         /* the whole answer; NULL if there is none */
    char *value;        /* for decisions: the text of the answer's value, such as "B" or "repairs", or the JSON of another
                           value, such as "true"; NULL if there is none, or the model was not sure enough */
    char *text;         /* for people: what the model wrote, such as "B: positive", but a bare letter if the options are
                           your own; NULL as `value` */
    double probability; /* the answer's probability among the allowed answers; -1 if it has none, as free text */
    int abstained;      /* 1: the model was not sure enough */
} ecellm_answer;

/* Start a child and wait until its model is loaded. If that fails, return NULL and fill `failure`. `settings` may be
 * NULL. */
ecellm_client *ecellm_start(const ecellm_settings *settings, ecellm_answer *failure);

/* Answer one row. Return 1 for an answer and 0 for an error; an invalid row is an error too. `task` is a name, a path, or
 * a question as a JSON object. `row` and `options` are JSON objects; `options` may be NULL. A request without an answer
 * after `timeout_ms` is cancelled, and its code is timeout. */
int ecellm_ask(
    ecellm_client *client, const char *task, const char *row, const char *options, int timeout_ms, ecellm_answer *answer);

/* Send a request without waiting for its answer. Return its id, which is above 0. Each request has one outcome. */
int64_t ecellm_send(ecellm_client *client, const char *task, const char *row, const char *options);

/* Receive the next outcome and return 1. Return 0 if there is none within `timeout_ms`, or no request is open. */
int ecellm_receive(ecellm_client *client, int timeout_ms, ecellm_answer *answer);

/* Cancel a request. The code of its outcome is cancelled, unless it has finished already. */
void ecellm_cancel(ecellm_client *client, int64_t id);

/* Return how often the child was restarted. */
int ecellm_restarts(const ecellm_client *client);

/* Return the child's process id, or 0 if there is no child now. */
long ecellm_pid(const ecellm_client *client);

/* End the child and free the client. A child that works on a request is killed at once. */
void ecellm_close(ecellm_client *client);

/* Free the texts of an answer. */
void ecellm_free(ecellm_answer *answer);

/* Return a row of texts as JSON: ecellm_row("query", "red shoe", "title", title, NULL). Bytes that are not UTF-8 become
 * U+FFFD. The caller frees it. */
char *ecellm_row(const char *field, const char *text, ...);

/* Return a text as a JSON string with its quotes. The caller frees it. */
char *ecellm_string(const char *text);

/* Return the JSON of an object's field, and its length, or NULL if there is no such field. If the field is an object,
 * its fields can be found in the same way. */
const char *ecellm_field(const char *json, const char *name, size_t *length);

/* Return the text of an object's field, or NULL if it is not a text. The caller frees it. */
char *ecellm_text(const char *json, const char *name);

/* Return the number of an object's field, or `otherwise` if it is not a number. */
double ecellm_number(const char *json, const char *name, double otherwise);

#ifdef __cplusplus
}
#endif
#endif
