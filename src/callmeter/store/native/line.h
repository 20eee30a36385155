/* One plain line.

   What is read ends where the line ends: there stands a newline, a carriage return or a zero, and no literal, digit or
   text has one of these in it. */

#pragma once

#include "columns.h"

/* A number of so many digits is exact as a number of JSON. */
#define DIGITS 15
#define MOST_TAGS 64
#define TAGS 10

/* Fields after the tags, in their order: those of words.usage.FIELDS. */
enum {
    F_PROVIDER, F_MODEL, F_SERVED_MODEL, F_TOKENS, F_COST, F_COST_SOURCE, F_ESTIMATE, F_STATUS, F_FINISH_REASON, F_ERROR,
    F_DURATION_MS, F_FIRST_TOKEN_MS, F_ATTEMPTS, F_KEY, F_KEY_FINGERPRINT, F_GENERATION_ID, F_HOST, F_CORRECTS,
    F_RECORDED_AT, F_NOTE, F_ASKED_MODEL, F_POOL, F_PROMPT_SKETCH, F_AUDIT, FIELDS
};

/* A name with its quotes and colon. */
typedef struct { char at[24]; uint32_t size; } name;
#define NAME(s) {"\"" s "\":", sizeof s + 2}

static inline bool starts(const char *p, const name *n) {
    return same((text){p, n->size}, (text){n->at, n->size});
}

static const name FIELD[FIELDS] = {
    NAME("provider"), NAME("model"), NAME("served_model"), NAME("tokens"), NAME("cost"), NAME("cost_source"),
    NAME("estimate"), NAME("status"), NAME("finish_reason"), NAME("error"), NAME("duration_ms"), NAME("first_token_ms"),
    NAME("attempts"), NAME("key"), NAME("key_fingerprint"), NAME("generation_id"), NAME("host"), NAME("corrects"),
    NAME("recorded_at"), NAME("note"), NAME("asked_model"), NAME("pool"), NAME("prompt_sketch"), NAME("audit"),
};
static const name TOKEN[6] = {
    NAME("in"), NAME("out"), NAME("cached"), NAME("cache_write"), NAME("cache_write_1h"), NAME("reasoning"),
};
static const name TAG[TAGS] = {
    NAME("agent"), NAME("session"), NAME("purpose"), NAME("priority"), NAME("environment"), NAME("cost_center"),
    NAME("work_item"), NAME("customer"), NAME("user"), NAME("workflow"),
};
#define WORD(s) {s, sizeof s - 1}
enum { S_OK, S_ERROR, S_REFUSED, S_CANCELLED, S_TIMEOUT, S_TRUNCATED, S_UNKNOWN };
static const name STATUSES[] = {
    WORD("ok"), WORD("error"), WORD("refused"), WORD("cancelled"), WORD("timeout"), WORD("truncated"), WORD("unknown"),
};
static const name SOURCES[] = {
    WORD("provider"), WORD("price"), WORD("estimate"), WORD("reconciled"), WORD("unknown"),
};

typedef struct {
    uint32_t has;  /* a bit for each field */
    uint8_t ident[16], target[16];
    int64_t ms, recorded, cost, estimate, duration, attempts, tokens[6];
    bool priced, credit;  /* its cost is known; is below 0, if by less than a nano-dollar */
    uint64_t sketch;
    int status;
    text texts[FIELDS], tags[TAGS];
    bool escaped;  /* it has backslashes; */
    char *spare;   /* where texts without them go then: there is room for the whole line, and 64 bytes more */
    uint32_t others;
    text other[MOST_TAGS];  /* tags of other names: as they stand there */
} line;

static inline bool literal(const char **p, const char *word, size_t size) {
    if (memcmp(*p, word, size) != 0) return false;
    *p += size;
    return true;
}
#define LITERAL(p, word) literal(p, word, sizeof word - 1)

/* The bytes of a word that are the same as those of another, as 0x80 each; the lowest one is right, others may be not.
   Source: https://graphics.stanford.edu/~seander/bithacks.html#ZeroInWord */
static inline uint64_t equal_bytes(uint64_t word, uint64_t other) {
    word ^= other;
    return (word - 0x0101010101010101u) & ~word & 0x8080808080808080u;
}

/* A text between quotes, in a line without escapes. */
static inline bool take_plain_text(const char **p, const char *end, text *found) {
    const char *from = *p + 1, *at = from;
    uint64_t quotes;
    while (!(quotes = equal_bytes(word_at(at, 8), 0x2222222222222222u))) {
        at += 8;
        if (at >= end) return false;
    }
    at += __builtin_ctzll(quotes) / 8;
    if (at >= end) return false;
    found->at = from;
    found->size = (uint32_t)(at - from);
    *p = at + 1;
    return true;
}

/* A digit of a lower-case hexadecimal number, plus 1. */
static const uint8_t HEX[256] = {
    ['0'] = 1, ['1'] = 2, ['2'] = 3, ['3'] = 4, ['4'] = 5, ['5'] = 6, ['6'] = 7, ['7'] = 8, ['8'] = 9, ['9'] = 10,
    ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
};
#define DIGIT(c) (HEX[(unsigned char)(c)])

/* The number that four digits are, of either case; -1 for others. */
static int take_four(const char *at) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        char c = at[i] >= 'A' && at[i] <= 'F' ? (char)(at[i] | 0x20) : at[i];
        if (!DIGIT(c)) return -1;
        value = value << 4 | (DIGIT(c) - 1);
    }
    return value;
}

static char *put_unicode(char *to, uint32_t code) {
    if (code < 0x80) {
        *to++ = (char)code;
        return to;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    *to++ = (char)((0xF0 << (3 - more)) | code >> 6 * more);
    while (more--) *to++ = (char)(0x80 | (code >> 6 * more & 0x3F));
    return to;
}

/* What an escape stands for (RFC 8259, 7), which takes less room than it. None for half of a pair, which is no
   character, and for the character 0. */
static bool take_escape(const char **p, char **to) {
    static const char SHORT[][2] = {"\"\"", "\\\\", "//", "b\b", "f\f", "n\n", "r\r", "t\t"};
    const char *at = *p + 1;
    for (uint32_t i = 0; i < COUNT(SHORT); i++)
        if (*at == SHORT[i][0]) {
            *(*to)++ = SHORT[i][1];
            *p = at + 1;
            return true;
        }
    int code = *at == 'u' ? take_four(at + 1) : -1, low = 0;
    if (code <= 0 || (code >= 0xDC00 && code < 0xE000)) return false;
    at += 5;
    if (code >= 0xD800 && code < 0xDC00) {
        if (at[0] != '\\' || at[1] != 'u' || (low = take_four(at + 2)) < 0xDC00 || low >= 0xE000) return false;
        code = 0x10000 + ((code - 0xD800) << 10 | (low - 0xDC00));
        at += 6;
    }
    *to = put_unicode(*to, (uint32_t)code);
    *p = at;
    return true;
}

static bool take_escaped_text(const char **p, const char *end, line *l, text *found) {
    const char *at = *p + 1;
    char *to = l->spare;
    while (at < end && *at != '"')
        if (*at != '\\') *to++ = *at++;
        else if (!take_escape(&at, &to)) return false;
    if (at >= end) return false;
    found->at = l->spare;
    found->size = (uint32_t)(to - l->spare);
    l->spare = to;
    *p = at + 1;
    return true;
}

static inline bool take_text(const char **p, const char *end, line *l, text *found) {
    if (**p != '"') return false;
    return l->escaped ? take_escaped_text(p, end, l, found) : take_plain_text(p, end, found);
}

/* A count: digits without a sign or a leading zero, few enough to be exact as JSON's number. */
static inline bool take_count(const char **p, int64_t *found) {
    const char *from = *p, *at = from;
    int64_t value = 0;
    while ((unsigned)(*at - '0') < 10 && at - from < DIGITS) value = 10 * value + (*at++ - '0');
    if (at == from || (*from == '0' && at - from > 1) || (unsigned)(*at - '0') < 10) return false;
    *p = at;
    *found = value;
    return true;
}

/* An amount in dollars, in nano-dollars, rounded up. */
static inline bool take_money(const char **p, int64_t *found) {
    const char *at = *p;
    bool minus = *at == '-';
    at += minus;
    const char *from = at;
    int64_t pico = 0;
    while ((unsigned)(*at - '0') < 10 && at - from < 6) pico = 10 * pico + (*at++ - '0');
    if (at == from || (*from == '0' && at - from > 1)) return false;
    int places = 0;
    if (*at == '.') {
        at++;
        while ((unsigned)(*at - '0') < 10 && places < 12) pico = 10 * pico + (*at++ - '0'), places++;
        if (!places) return false;
    }
    if ((unsigned)(*at - '0') < 10 || *at == 'e' || *at == 'E' || (minus && !pico)) return false;
    static const int64_t power[13] = {1000000000000, 100000000000, 10000000000, 1000000000, 100000000, 10000000,
        1000000, 100000, 10000, 1000, 100, 10, 1};
    pico *= power[places];
    if (minus) pico = -pico;
    *found = pico / 1000 + (pico > 0 && pico % 1000 != 0);
    *p = at;
    return true;
}

static inline bool take_uuid(const char **p, uint8_t *found) {
    const char *at = *p;
    for (int i = 0; i < 16; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && *at++ != '-') return false;
        int high = DIGIT(at[0]), low = DIGIT(at[1]);
        if (!high || !low) return false;
        found[i] = (uint8_t)((high - 1) << 4 | (low - 1));
        at += 2;
    }
    *p = at;
    return true;
}

static inline int two(const char *at) {
    unsigned a = (unsigned)(at[0] - '0'), b = (unsigned)(at[1] - '0');
    return a < 10 && b < 10 ? (int)(10 * a + b) : -1;
}

/* Milliseconds since 1970 of a time as callmeter writes it.
   Days from the civil calendar: https://howardhinnant.github.io/date_algorithms.html#days_from_civil */
static inline bool take_time(const char **p, int64_t *found) {
    const char *t = *p;
    int century = two(t), year = two(t + 2);
    if (century < 10 || year < 0 || t[4] != '-') return false;
    int month = two(t + 5);
    if (month < 1 || month > 12 || t[7] != '-') return false;
    int day = two(t + 8);
    if (day < 1 || t[10] != 'T') return false;
    int hour = two(t + 11);
    if (hour < 0 || hour > 23 || t[13] != ':') return false;
    int minute = two(t + 14);
    if (minute < 0 || minute > 59 || t[16] != ':') return false;
    int second = two(t + 17);
    if (second < 0 || second > 59 || t[19] != '.') return false;
    int tens = two(t + 20), ones = t[22] - '0';
    if (tens < 0 || ones < 0 || ones > 9 || t[23] != 'Z') return false;
    year += 100 * century;
    static const uint8_t length[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (year > 9998 || day > length[month - 1] + (leap && month == 2)) return false;
    int y = year - (month <= 2), era = y / 400, of_era = y - 400 * era;
    int of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t days = (int64_t)era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
    *found = ((days * 24 + hour) * 60 + minute) * 60000 + second * 1000 + 10 * tens + ones;
    *p = t + 24;
    return true;
}

/* `order` says which tags the lines before had in these places. */
static bool take_tags(const char **p, const char *end, line *l, uint8_t *order) {
    if (**p == '}') return ++*p, true;
    for (int place = 0; place < MOST_TAGS; place++) {
        text value;
        int tag = order[place];
        if (tag >= TAGS || !starts(*p, &TAG[tag])) {
            for (tag = 0; tag < TAGS; tag++)
                if (starts(*p, &TAG[tag])) break;
            if (tag < TAGS) order[place] = (uint8_t)tag;
        }
        if (tag < TAGS) {
            *p += TAG[tag].size;
            if (l->tags[tag].at || !take_text(p, end, l, &value)) return false;
            l->tags[tag] = value;
        } else {
            text key;
            const char *from = *p;
            if (!take_text(p, end, l, &key) || key.size + 2 != *p - from) return false;  /* an escape can hide any name */
            if (*(*p)++ != ':' || !take_text(p, end, l, &value)) return false;
            key = (text){from, key.size + 3};  /* with its quotes and colon, so that none begins as another does */
            for (uint32_t i = 0; i < l->others; i++)
                if (l->other[i].size >= key.size && same((text){l->other[i].at, key.size}, key)) return false;
            l->other[l->others++] = (text){from, (uint32_t)(*p - from)};
        }
        if (**p == '}') return ++*p, true;
        if (*(*p)++ != ',') return false;
    }
    return false;
}

static bool take_tokens(const char **p, line *l) {
    if (*(*p)++ != '{') return false;
    if (**p == '}') return ++*p, true;
    for (int i = 0; i < 6; i++) {
        if (!starts(*p, &TOKEN[i])) continue;
        *p += TOKEN[i].size;
        if (!take_count(p, &l->tokens[i])) return false;
        if (**p == '}') return ++*p, true;
        if (*(*p)++ != ',') return false;
    }
    return false;
}

static inline int one_of(text t, const name *words, int count) {
    for (int i = 0; i < count; i++)
        if (same((text){words[i].at, words[i].size}, t)) return i;
    return -1;
}

/* A field's value. That of a text stays where it is. */
static bool take_field(int f, const char **p, const char *end, line *l) {
    text *t = &l->texts[f];
    int64_t ignored;
    switch (f) {
    case F_TOKENS: return take_tokens(p, l);
    case F_COST:
        if (LITERAL(p, "null")) return true;
        l->priced = true;
        l->credit = **p == '-';
        return take_money(p, &l->cost);
    case F_ESTIMATE: return take_money(p, &l->estimate);
    case F_DURATION_MS: return take_count(p, &l->duration);
    case F_FIRST_TOKEN_MS: return take_count(p, &ignored);
    case F_ATTEMPTS: return take_count(p, &l->attempts);
    case F_CORRECTS: return *(*p)++ == '"' && take_uuid(p, l->target) && *(*p)++ == '"';
    case F_RECORDED_AT: return *(*p)++ == '"' && take_time(p, &l->recorded) && *(*p)++ == '"';
    case F_PROMPT_SKETCH:
        if (!take_text(p, end, l, t) || t->size != 16) return false;
        for (int i = 0; i < 16; i++) {
            if (!DIGIT(t->at[i])) return false;
            l->sketch = l->sketch << 4 | (uint64_t)(DIGIT(t->at[i]) - 1);
        }
        return true;
    }
    return take_text(p, end, l, t);
}

/* Whether a line is plain; if so, what it says. It has no control characters. */
static bool take_line(const char *p, const char *end, line *l, uint8_t *order) {
    if (!LITERAL(&p, "{\"v\":1,\"id\":\"") || !take_uuid(&p, l->ident)) return false;
    if (!LITERAL(&p, "\",\"timestamp\":\"") || !take_time(&p, &l->ms)) return false;
    if (!LITERAL(&p, "\",\"tags\":{") || !take_tags(&p, end, l, order)) return false;
    for (int f = 0; *p == ','; f++) {
        p++;
        while (f < FIELDS && !starts(p, &FIELD[f])) f++;
        if (f == FIELDS) return false;
        p += FIELD[f].size;
        if (!take_field(f, &p, end, l)) return false;
        l->has |= 1u << f;
    }
    if (*p != '}' || p + 1 != end) return false;
    const uint32_t needed = 1u << F_PROVIDER | 1u << F_MODEL | 1u << F_COST | 1u << F_COST_SOURCE | 1u << F_STATUS;
    if ((l->has & needed) != needed) return false;
    l->status = one_of(l->texts[F_STATUS], STATUSES, COUNT(STATUSES));
    if (l->status < 0 || one_of(l->texts[F_COST_SOURCE], SOURCES, COUNT(SOURCES)) < 0) return false;
    return !l->credit || l->has & 1u << F_CORRECTS;
}

