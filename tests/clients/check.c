/* check json|talk|die|start COMMAND: the client for C against the pipe over the fake engine. */
#define _POSIX_C_SOURCE 200809L
#include "ecellm_lite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

enum { LIMIT = 60000, MOST = 300 };

static const char TASK[] = "sentiment_analysis", GOOD[] = "{\"review\": \"It works.\"}";
static ecellm_answer answer;

static void check_code(const char *code) {
    CHECK(answer.code ? code && answer.message && !strcmp(answer.code, code) : !code && answer.text);
    ecellm_free(&answer);
}

static void check_ask(ecellm_client *client, const char *row, int limit, const char *code) {
    CHECK(ecellm_ask(client, TASK, row, NULL, limit, &answer) == !code);
    check_code(code);
}

/* Ask so many rows, kill the child after some outcomes where asked to, and see that each is answered once. */
static void check_many(ecellm_client *client, int count, int kill_after) {
    int64_t ids[MOST];
    int outcomes[MOST] = {0};
    for (int i = 0; i < count; i++) {
        char row[64];
        snprintf(row, sizeof row, "{\"id\": %d, \"review\": \"row %d\"}", i, i);
        ids[i] = ecellm_send(client, TASK, row, "{\"calibration\": false}");
    }
    for (int received = 0; received < count; received++) {
        if (received == kill_after) kill((pid_t)ecellm_pid(client), SIGKILL);
        CHECK(ecellm_receive(client, LIMIT, &answer));
        int number = (int)ecellm_number(answer.json, "id", -1);
        CHECK(number >= 0 && number < count && answer.id == ids[number] && !outcomes[number]++);
        check_code(NULL);
    }
    CHECK(!ecellm_receive(client, LIMIT, &answer));
}

static void json(void) {
    char *string = ecellm_string("\" \\ \n \xf0\x9f\x9b\x92 \xc3\xa4 \xff \xed\xa0\x80 \xc0\x80");
    CHECK(!strcmp(string, "\"\\\" \\\\ \\u000a \\ud83d\\uded2 \\u00e4 \\ufffd \\ufffd\\ufffd\\ufffd \\ufffd\\ufffd\""));
    free(string);
    char *row = ecellm_row("a", "1", "b", "\"", NULL);
    CHECK(!strcmp(row, "{\"a\":\"1\",\"b\":\"\\\"\"}"));
    free(row);
    const char *object = " { \"x\" : {\"y\": [1, {\"z\": \"}\"}], \"n\": -12.5e-1} , \"t\":\"\\ud83d\\uded2\\n\\u00e4\\ud83d\", \"e\": {} }";
    size_t length;
    const char *empty = ecellm_field(object, "e", &length);
    CHECK(length == 2 && !strncmp(empty, "{}", length));
    CHECK(ecellm_number(ecellm_field(object, "x", NULL), "n", 0) == -1.25);
    CHECK(ecellm_number(object, "t", 7) == 7 && ecellm_number(object, "nothing", 7) == 7 && !ecellm_text(object, "x"));
    char *text = ecellm_text(object, "t");
    CHECK(!strcmp(text, "\xf0\x9f\x9b\x92\n\xc3\xa4\xef\xbf\xbd"));
    free(text);
    static const char *const wrong[] = {"", "[", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":01}", "{\"a\":tru}", "{\"a\":\"\\x\"}", "{\"a\":[1,]}", "{\"a\":\"\\u12\"}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) CHECK(!ecellm_field(wrong[i], "b", NULL));
}

static void talk(const char *command) {
    ecellm_client *client = ecellm_start(&(ecellm_settings){.command = command}, &answer);
    CHECK(client);
    pid_t pid = (pid_t)ecellm_pid(client);
    CHECK(ecellm_ask(client, TASK, GOOD, "{\"calibration\": false, \"priority\": \"urgent\"}", LIMIT, &answer));
    CHECK(answer.probability > 0 && answer.probability <= 1);
    char *value = ecellm_text(answer.json, "value");
    CHECK(ecellm_number(ecellm_field(answer.json, "probabilities", NULL), value, -1) == answer.probability);
    CHECK(!strcmp(value, answer.value));
    free(value);
    check_code(NULL);
    check_many(client, 200, -1);

    static const char question[] = "{\"type\": \"predicate\",\n\"instructions\": \"Does the customer want a refund?\"}";
    CHECK(ecellm_ask(client, question, "{\"state\": \"I want my money back.\"}", NULL, LIMIT, &answer));
    CHECK(!strcmp(answer.value, !strcmp(answer.text, "yes") ? "true" : "false"));
    check_code(NULL);

    static const char choice[] = "{\"type\": \"choice\", \"instructions\": \"Which desk?\", \"choices\": [{\"value\": \"repairs\"}, {\"value\": \"billing\"}]}";
    CHECK(ecellm_ask(client, choice, "{\"state\": \"It broke.\"}", NULL, LIMIT, &answer));
    CHECK(!strcmp(answer.value, *answer.text == 'A' ? "repairs" : "billing"));
    check_code(NULL);

    CHECK(ecellm_ask(client, TASK, GOOD, "{\"min_probability\": 1}", LIMIT, &answer));
    CHECK(answer.abstained && !answer.value && !answer.text);
    ecellm_free(&answer);

    static const char id[] = "\xf0\x9f\x9b\x92 \xe2\x80\x9cit's\xe2\x80\x9d \"quoted\" \\ \x07 gr\xc3\xb6\xc3\x9f" "e \xe6\xbc\xa2\xe5\xad\x97";
    char *row = ecellm_row("id", id, "review", id, NULL);
    CHECK(ecellm_ask(client, TASK, row, NULL, LIMIT, &answer));
    char *same = ecellm_text(answer.json, "id");
    CHECK(!strcmp(same, id));
    free(same);
    free(row);
    check_code(NULL);
    check_ask(client, "{\r\n\t\"review\": \"gr\xc3\xb6\xc3\x9f" "e \xff\"\n}", LIMIT, NULL);

    check_ask(client, "{}", LIMIT, "input");
    check_ask(client, "no JSON", LIMIT, "input");
    check_ask(client, "{\"review\": \"a\", \"review\": \"b\"}", LIMIT, "protocol");
    CHECK(!ecellm_ask(client, "nonsense", GOOD, NULL, LIMIT, &answer));
    check_code("usage");
    char *long_text = malloc(17000001);
    CHECK(long_text);
    memset(long_text, 'x', 17000000);
    long_text[17000000] = 0;
    row = ecellm_row("review", long_text, NULL);
    check_ask(client, row, LIMIT, "protocol");
    free(row);
    free(long_text);

    int64_t asked = ecellm_send(client, TASK, GOOD, NULL), dropped = ecellm_send(client, TASK, GOOD, NULL);
    ecellm_cancel(client, dropped);
    ecellm_cancel(client, 1);
    for (int i = 0; i < 2; i++) {
        CHECK(ecellm_receive(client, LIMIT, &answer) && (answer.id == asked || answer.id == dropped));
        check_code(answer.id == asked ? NULL : "cancelled");
    }
    CHECK(!ecellm_receive(client, LIMIT, &answer));
    CHECK(!ecellm_restarts(client));
    ecellm_close(client);
    CHECK(kill(pid, 0));
}

static void die(const char *command) {
    ecellm_client *client = ecellm_start(&(ecellm_settings){.command = command}, &answer);
    CHECK(client);
    check_many(client, MOST, 20);
    check_ask(client, GOOD, LIMIT, NULL);
    CHECK(ecellm_restarts(client) == 1);

    kill((pid_t)ecellm_pid(client), SIGKILL);
    check_ask(client, GOOD, LIMIT, NULL);
    CHECK(ecellm_restarts(client) == 2);

    check_ask(client, "{\"review\": \"poison\"}", LIMIT, "crashed");
    check_ask(client, GOOD, LIMIT, NULL);

    check_ask(client, "{\"review\": \"hang\"}", 300, "timeout");
    kill((pid_t)ecellm_pid(client), SIGKILL);
    check_ask(client, GOOD, LIMIT, NULL);

    ecellm_send(client, TASK, "{\"review\": \"hang\"}", NULL);
    CHECK(!ecellm_receive(client, 300, &answer));
    pid_t pid = (pid_t)ecellm_pid(client);
    ecellm_close(client);
    CHECK(kill(pid, 0));
}

static void check_start(const char *command, const char *how, int start_ms, const char *code) {
    char line[1024];
    snprintf(line, sizeof line, "%s %s", command, how);
    CHECK(!ecellm_start(&(ecellm_settings){.command = line, .drop_messages = 1, .start_ms = start_ms}, &answer));
    check_code(code);
}

static void start(const char *command) {
    check_start(command, "missing", 0, "model");
    check_start(command, "crash", 0, "crashed");
    check_start(command, "foreign", 0, "crashed");
    check_start(command, "never", 300, "crashed");
    check_start("echo hello #", "", 0, "crashed");
    check_start("/nonsense/ecellm-lite", "", 0, "crashed");
    CHECK(!ecellm_start(&(ecellm_settings){.command = "/nonsense/ecellm-lite", .drop_messages = 1}, &answer));
    CHECK(strstr(answer.message, "PATH"));
    ecellm_free(&answer);
    CHECK(!ecellm_start(&(ecellm_settings){.command = "false"}, &answer));
    CHECK(!strstr(answer.message, "PATH"));
    ecellm_free(&answer);
    char line[1024];
    snprintf(line, sizeof line, "%s noisy", command);
    ecellm_client *client = ecellm_start(&(ecellm_settings){.command = line, .drop_messages = 1}, &answer);
    CHECK(client);
    check_ask(client, GOOD, LIMIT, NULL);
    _exit(0); /* no close: the child ends with this program */
}

int main(int count, char **arguments) {
    if (count == 2) json();
    else if (!strcmp(arguments[1], "talk")) talk(arguments[2]);
    else if (!strcmp(arguments[1], "die")) die(arguments[2]);
    else if (!strcmp(arguments[1], "start")) start(arguments[2]);
    else return 2;
    return 0;
}
