/* Writes rows as JSON, and reads the fields of JSON objects. */
#ifndef ECELLM_LITE_JSON_H
#define ECELLM_LITE_JSON_H

#include "../ecellm_lite.h"
#include "text.h"

#include <stdarg.h>

enum { DEEPEST_JSON = 500 }; /* objects and lists within each other */

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

/* A `skip` function returns where the part of JSON that begins here ends, or NULL if it is not JSON. */

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
    if (depth == DEEPEST_JSON) return NULL;
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

/* Not strtod, which wants a comma in many countries. */
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

#endif
