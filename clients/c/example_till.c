/* Reads a review a line, and prints what the customer thinks: example_till [COMMAND] */
#include "ecellm_lite.h"

#include <stdio.h>
#include <stdlib.h>

static const double ENOUGH = 0.8; /* below it a person decides */

/* Return the next line of standard input without its end, to be freed; NULL at the end of the input. */
static char *next_line(void) {
    size_t length = 0, room = 0;
    char *line = NULL;
    for (;;) {
        if (length == room) {
            char *larger = realloc(line, room = room ? 2 * room : 256);
            if (!larger) break;
            line = larger;
        }
        int character = getchar();
        if (character == EOF && !length) break;
        if (character == EOF || character == '\n') {
            if (length && line[length - 1] == '\r') length--;
            line[length] = 0;
            return line;
        }
        line[length++] = (char)character;
    }
    free(line);
    return NULL;
}

int main(int count, char **arguments) {
    ecellm_settings settings = {.command = count > 1 ? arguments[1] : NULL};
    ecellm_answer answer;
    char *review;
    ecellm_client *client = ecellm_start(&settings, &answer);
    if (!client) {
        fprintf(stderr, "%s\n", answer.message);
        ecellm_free(&answer);
        return 1;
    }
    while ((review = next_line())) {
        char *row = ecellm_row("review", review, NULL);
        if (ecellm_ask(client, "sentiment_analysis", row, NULL, 30000, &answer)) {
            int is_sure = !answer.abstained && answer.probability >= ENOUGH;
            printf("%s  %.2f%s\n", answer.text ? answer.text : "not sure", answer.probability, is_sure ? "" : "  ask a person");
        } else {
            printf("no answer (%s): %s  ask a person\n", answer.code, answer.message);
        }
        fflush(stdout);
        ecellm_free(&answer);
        free(row);
        free(review);
    }
    ecellm_close(client);
    return 0;
}
