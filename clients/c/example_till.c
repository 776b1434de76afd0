/* Reads a review a line, and prints what the customer thinks: example_till [COMMAND] */
#include "ecellm_lite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double ENOUGH = 0.8; /* below it a person decides */

int main(int count, char **arguments) {
    ecellm_settings settings = {.command = count > 1 ? arguments[1] : NULL};
    ecellm_answer answer;
    char review[4096];
    ecellm_client *client = ecellm_start(&settings, &answer);
    if (!client) {
        fprintf(stderr, "%s\n", answer.message);
        ecellm_free(&answer);
        return 1;
    }
    while (fgets(review, sizeof review, stdin)) {
        review[strcspn(review, "\r\n")] = 0;
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
    }
    ecellm_close(client);
    return 0;
}
