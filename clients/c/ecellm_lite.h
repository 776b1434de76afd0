/* Asks ecellm-lite from C (C99, POSIX or Windows). A client starts `ecellm-lite pipe`, speaks its protocol
 * (docs/pipe.md), starts it again when it dies, and asks it again what it had not answered.
 *
 * A client has no thread of its own: it reads and writes inside the calls below. One thread at a time may use it. All
 * texts are UTF-8. Where memory runs out, it calls abort().
 *
 * There is no JSON parser here. Rows and options go in as JSON texts, which ecellm_row makes for rows of plain texts;
 * of an answer's JSON, ecellm_field finds a field, ecellm_text and ecellm_number read it. They do not read lists (the
 * value of labels, a ranking or an extraction), nor keys with escapes: for those give `json` to a parser of your own.
 */
#ifndef ECELLM_LITE_H
#define ECELLM_LITE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ecellm_client ecellm_client;

/* How a child is started; what is 0 or NULL is as if left out. */
typedef struct {
    const char *command; /* "ecellm-lite pipe", where needed with a path and options; sh runs `exec COMMAND`, and Windows'
                            CreateProcess the command itself */
    int drop_messages;   /* 1: what it says to people goes nowhere; 0: to this program's standard error */
    int start_ms;        /* how long the model may take to load; ten minutes */
} ecellm_settings;

/* What became of a request. Give it to ecellm_free. */
typedef struct {
    int64_t id;         /* the request's, as ecellm_send returned it */
    char *code;         /* NULL if there is an answer; else why not: docs/pipe.md lists the codes, and the client's own are
                           cancelled, timeout, and crashed (two children died while they had the request) */
    char *message;      /* why there is no answer, for people; or NULL */
    char *json;         /* the whole answer; NULL if there is none */
    char *text;         /* such as "B: positive"; NULL if there is none, or the model was not sure enough */
    double probability; /* of this answer among those allowed; -1 where they cannot be counted */
    int abstained;      /* 1: the model was not sure enough */
} ecellm_answer;

/* Start a child, and wait until its model is loaded. NULL if that failed, and why is in `failure`. `settings` may be NULL. */
ecellm_client *ecellm_start(const ecellm_settings *settings, ecellm_answer *failure);

/* Answer one row: 1 for an answer, 0 for an error, which a row that is wrong has too. `task` is a name, a path, or a
 * question as a JSON object; `row` and `options` are JSON objects, and `options` may be NULL. A request that has no answer
 * after `timeout_ms` is cancelled, with the code timeout. */
int ecellm_ask(
    ecellm_client *client, const char *task, const char *row, const char *options, int timeout_ms, ecellm_answer *answer);

/* Ask without waiting; return the request's id, which is above 0. Every request has one outcome to receive. */
int64_t ecellm_send(ecellm_client *client, const char *task, const char *row, const char *options);

/* Receive one outcome, as they finish: 1, or 0 if there was none within `timeout_ms` or nothing is asked. */
int ecellm_receive(ecellm_client *client, int timeout_ms, ecellm_answer *answer);

/* Give up a request. Its outcome has the code cancelled, unless it was there already. */
void ecellm_cancel(ecellm_client *client, int64_t id);

/* How often the child was started again. */
int ecellm_restarts(const ecellm_client *client);

/* The child's process number; 0 while there is none. */
long ecellm_pid(const ecellm_client *client);

/* End the child, at once if it still works on a request. */
void ecellm_close(ecellm_client *client);

/* Free what is in an answer. */
void ecellm_free(ecellm_answer *answer);

/* A row of texts: ecellm_row("query", "red shoe", "title", title, NULL). Bytes that are no UTF-8 become U+FFFD. Free it. */
char *ecellm_row(const char *field, const char *text, ...);

/* A text as a JSON string, quotes included. Free it. */
char *ecellm_string(const char *text);

/* The value of an object's field, and its length; NULL if there is none. An object that is found is searched the same way. */
const char *ecellm_field(const char *json, const char *name, size_t *length);

/* The text of an object's field, NULL if it is none. Free it. */
char *ecellm_text(const char *json, const char *name);

/* The number of an object's field, or `otherwise` if it is none. */
double ecellm_number(const char *json, const char *name, double otherwise);

#ifdef __cplusplus
}
#endif
#endif
