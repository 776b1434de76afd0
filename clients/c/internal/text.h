/* Texts that grow, and UTF-8. Without memory, the program is aborted. */
#ifndef ECELLM_LITE_TEXT_H
#define ECELLM_LITE_TEXT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char *data; /* ends with a 0 that `length` does not count */
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

/* Return the code point that begins at *at, and move *at past it. A byte that is not UTF-8 becomes U+FFFD. */
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

/* Append one character of a JSON string in ASCII. Quotes and backslashes are not escaped. */
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

#endif
