/* Plain lines of a usage log as the column chunks of a Parquet file.

   A line is plain if it is written as callmeter writes lines: its fields in their order, ids and times in their one
   shape. Such a line can mean one thing only. All others are left to who calls: they are gaps.

   Nothing here is trusted: the text may hold any bytes. Behind it are 64 zeros, so that what looks at several bytes at
   once need not ask how many are left. */

#include "line.h"
#include "pages.h"

#include <math.h>
#include <stddef.h>

#define MAX_LINE 65536
#define MIN_LINE 128  /* none with all that is needed is so short */
#define PACES 24
#define SPARE (1 << 20)  /* more than a line and its padding */
/* Loops over bytes, for as many at once as the processor can. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

/* Columns in the order of index_columns.COLUMNS. */
enum {
    SOURCE, LINE, START, SIZE, IDENT, RANK, ID, MS, RECORDED, TARGET, CORRECTS, COST, ESTIMATE, SIZED, TOKENS_IN,
    TOKENS_OUT, TOKENS_CACHED, TOKENS_CACHE_WRITE, TOKENS_CACHE_WRITE_1H, TOKENS_REASONING, DURATION_MS, ATTEMPTS, KIND,
    PACE, SKETCH, PROMPT_SKETCH, MODEL, SERVED_MODEL, PROVIDER, STATUS, KEY, KEY_FINGERPRINT, HOST, FINISH_REASON,
    ERROR_, COST_SOURCE, GENERATION_ID, POOL, TAG_AGENT, MORE = TAG_AGENT + TAGS, COLUMNS
};

/* What this was made for: callers ask before they use it. The number grows with what rows mean. */
const char *callmeter_columns(void) {
    return "1 source line start size ident rank id ms recorded target corrects cost estimate sized tokens_in tokens_out "
        "tokens_cached tokens_cache_write tokens_cache_write_1h tokens_reasoning duration_ms attempts kind pace sketch "
        "prompt_sketch model served_model provider status key key_fingerprint host finish_reason error cost_source "
        "generation_id pool tag_agent tag_session tag_purpose tag_priority tag_environment tag_cost_center tag_work_item "
        "tag_customer tag_user tag_workflow more";
}

static enum kind kind_of(int c) {
    switch (c) {
    case SOURCE: case SIZE: case KIND: case PACE: return SMALL;
    case IDENT: case TARGET: return UUID;
    case SIZED: return TRUTH;
    case ID: case CORRECTS: case PROMPT_SKETCH: return TEXT;
    }
    return c < MODEL ? NUMBER : TEXT;
}

/* The fields of the columns from MODEL on, before those of tags. */
static const uint8_t FIELD_OF[TAG_AGENT - MODEL] = {
    F_MODEL, F_SERVED_MODEL, F_PROVIDER, F_STATUS, F_KEY, F_KEY_FINGERPRINT, F_HOST, F_FINISH_REASON, F_ERROR,
    F_COST_SOURCE, F_GENERATION_ID, F_POOL,
};

/* The bytes from `start` to `stop` of the source, after `line` lines. */
typedef struct { int64_t start, line, stop; } gap;

/* What a text came to, and the memory for it, which serves one text after the other. Callers know what is before
   `column`. */
typedef struct {
    int64_t rows, gaps, distinct, size;
    gap *gap;
    uint8_t *body;
    chunk chunk[COLUMNS];
    column column[COLUMNS];
    buffer out, more;
    uint64_t *ranks;  /* a hash table, in which 0 is no rank */
    uint32_t rows_room, gap_room, ranks_room;
    char **spare;     /* memory for texts that had escapes, in pieces that stay where they are */
    uint32_t spares, spare_place, spare_room;
    size_t spare_used;
    uint64_t seed;
    uint8_t order[MOST_TAGS];
} batch;

/* ---- rows ---- */

enum { CORRECTION = 1, REFUSED = 2, FAILED = 4, RETRIED = 8, SENT = 16, PRICED = 32, SIZED_ = 64, ANSWER = 128 };
static inline bool is_failure(int status) {
    return status == S_ERROR || status == S_TIMEOUT || status == S_TRUNCATED || status == S_UNKNOWN;
}

static bool put_line(batch *b, const line *l, int64_t number, int64_t start, int64_t size) {
    column *c = b->column;
    uint32_t row = (uint32_t)b->rows;
#define HAS(f) ((l->has >> (f)) & 1)
    put_always(&c[LINE], number);
    put_always(&c[START], start);
    put_always(&c[SIZE], size);
    put_uuid(&c[IDENT], row, l->ident);
    uint64_t rank = 0;
    for (int i = 0; i < 6; i++) rank = rank << 8 | l->ident[i];
    rank = rank << 16 | (uint64_t)l->ident[14] << 8 | l->ident[15];
    put_always(&c[RANK], (int64_t)rank);
    put_always(&c[MS], l->ms);
    if (HAS(F_RECORDED_AT)) put_number(&c[RECORDED], row, l->recorded * 1000);
    bool corrects = HAS(F_CORRECTS);
    if (corrects) put_uuid(&c[TARGET], row, l->target);
    if (l->priced) put_number(&c[COST], row, l->cost);
    if (HAS(F_ESTIMATE)) put_number(&c[ESTIMATE], row, l->estimate);
    put_always(&c[SIZED], HAS(F_TOKENS));
    put_always(&c[TOKENS_IN], l->tokens[0]);
    put_always(&c[TOKENS_OUT], l->tokens[1]);
    put_always(&c[TOKENS_CACHED], l->tokens[2]);
    put_always(&c[TOKENS_CACHE_WRITE], l->tokens[3] + l->tokens[4]);
    put_always(&c[TOKENS_CACHE_WRITE_1H], l->tokens[4]);
    put_always(&c[TOKENS_REASONING], l->tokens[5]);
    bool timed = HAS(F_DURATION_MS), ok = l->status == S_OK;
    if (timed) put_number(&c[DURATION_MS], row, l->duration);
    put_always(&c[ATTEMPTS], l->attempts);
    int kind = (corrects ? CORRECTION : 0) | (l->priced ? PRICED : 0) | (HAS(F_TOKENS) ? SIZED_ : 0)
        | (l->attempts > 0 ? SENT : 0) | (l->attempts > 1 ? RETRIED : 0) | (ok && timed ? ANSWER : 0)
        | (l->status == S_REFUSED ? REFUSED : 0)
        | (is_failure(l->status) ? FAILED : 0);
    put_always(&c[KIND], kind);
    if (ok && timed && !corrects) put_number(&c[PACE], row, (int64_t)(PACES * log2((double)(l->duration + 1))));
    if (HAS(F_PROMPT_SKETCH)) put_number(&c[SKETCH], row, (int64_t)l->sketch);
    for (int i = MODEL; i < MORE; i++) {
        text t = i < TAG_AGENT ? l->texts[FIELD_OF[i - MODEL]] : l->tags[i - TAG_AGENT];
        if (!t.at) continue;
        mark(&c[i], row);
        if (!put_text(&c[i], t, b->seed, false)) return false;
    }
    if (l->others) {
        b->more.size = 0;
        for (uint32_t i = 0; i < l->others; i++) {
            if (!reserve(&b->more, l->other[i].size + 16)) return false;
            b->more.at[b->more.size++] = i ? ',' : '{';
            put_bytes(&b->more, l->other[i].at, l->other[i].size);
        }
        b->more.at[b->more.size++] = '}';
        mark(&c[MORE], row);
        if (!put_text(&c[MORE], (text){(char *)b->more.at, (uint32_t)b->more.size}, b->seed, true)) return false;
    }
    b->rows++;
    return true;
}

/* ---- lines ---- */

static bool put_gap(batch *b, int64_t start, int64_t number, int64_t stop) {
    if (b->gaps && b->gap[b->gaps - 1].stop == start) {
        b->gap[b->gaps - 1].stop = stop;
        return true;
    }
    if (!GROW(b->gap, b->gap_room, (size_t)b->gaps)) return false;
    b->gap[b->gaps++] = (gap){start, number, stop};
    return true;
}

/* Well-formed UTF-8: The Unicode Standard, table 3-7. */
static bool is_unicode(const unsigned char *at, const unsigned char *end) {
    while (at < end) {
        unsigned char c = *at++;
        if (c < 0x80) continue;
        int more = c < 0xC2 ? 0 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : c < 0xF5 ? 3 : 0;
        if (!more || end - at < more) return false;
        unsigned char low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80, high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
        if (*at < low || *at > high) return false;
        for (at++; --more; at++)
            if ((*at & 0xC0) != 0x80) return false;
    }
    return true;
}

/* Whether a line is text without control characters; and whether it has escapes. */
WIDE static bool is_text(const char *from, const char *end, bool *escaped) {
    unsigned char control = 0, wide = 0, backslash = 0;
    for (const char *at = from; at < end; at++) {
        unsigned char c = (unsigned char)*at;
        control |= c < 0x20;
        backslash |= c == '\\';
        wide |= c;
    }
    *escaped = backslash;
    return !control && (wide < 0x80 || is_unicode((const unsigned char *)from, (const unsigned char *)end));
}

/* Room for the texts of a line without their escapes, for as long as the texts before stay; NULL if there is none. */
static char *spare_for(batch *b, size_t size) {
    if (b->spare_used + size + 64 > SPARE) b->spare_place++, b->spare_used = 0;
    if (b->spare_place == b->spares) {
        if (!GROW(b->spare, b->spare_room, b->spares) || !(b->spare[b->spares] = malloc(SPARE))) return NULL;
        b->spares++;
    }
    return b->spare[b->spare_place] + b->spare_used;
}

static bool read_lines(
    batch *b, const char *text, int64_t size, int64_t lines, int64_t source, int64_t before, int64_t start
) {
    const char *at = text, *stop = text + size;
    line l;
    for (int64_t number = before; at < stop && number - before < lines; number++) {
        const char *end = memchr(at, '\n', (size_t)(stop - at));
        if (!end) end = stop;
        const char *last = end - (end > at && end[-1] == '\r');
        memset(&l, 0, offsetof(line, other));
        l.attempts = 1;
        bool plain = last - at >= MIN_LINE && last - at <= MAX_LINE && is_text(at, last, &l.escaped);
        if (plain && l.escaped && !(l.spare = spare_for(b, (size_t)(last - at)))) return false;
        if (plain && take_line(at, last, &l, b->order)) {
            put_always(&b->column[SOURCE], source);
            if (!put_line(b, &l, number + 1, start + (at - text), end - at)) return false;
            if (l.escaped) b->spare_used = (size_t)(l.spare - b->spare[b->spare_place]);
        } else if (!put_gap(b, start + (at - text), number, start + (end - text) + 1)) return false;
        at = end + 1;
    }
    return true;
}

/* How many newlines there are. */
WIDE int64_t callmeter_count(const char *text, int64_t size) {
    int64_t count = 0;
    while (size > 0) {
        /* So few that the compiler can count in bytes, of many places at once. */
        int stop = size < 255 ? (int)size : 255;
        uint8_t here = 0;
        for (int i = 0; i < stop; i++) here += text[i] == '\n';
        count += here;
        text += stop;
        size -= stop;
    }
    return count;
}

/* ---- a text ---- */

/* Room for the rows of so many lines, and nothing in it. */
static bool empty(batch *b, uint32_t lines) {
    bool fits = b->rows_room && lines <= b->rows_room;
    b->rows = b->gaps = 0;
    b->out.size = b->spare_used = 0;
    b->spare_place = 0;
    if (!fits) b->rows_room = 0;
    for (int i = 0; i < COLUMNS; i++)
        if (!empty_column(&b->column[i], lines, fits)) return false;
    if (!fits) b->rows_room = lines;
    return true;
}

/* Whether no two ranks are the same. */
static bool see_ranks(batch *b) {
    uint32_t size = 256;
    while (size < 2 * b->rows) size *= 2;
    if (size > b->ranks_room) {
        free(b->ranks);
        b->ranks = malloc(size * sizeof *b->ranks);
        b->ranks_room = b->ranks ? size : 0;
        if (!b->ranks) return false;
    }
    memset(b->ranks, 0, size * sizeof *b->ranks);
    b->distinct = true;
    for (int64_t row = 0; row < b->rows && b->distinct; row++) {
        uint64_t rank = (uint64_t)b->column[RANK].numbers[row];
        uint32_t at = mixed(rank ^ b->seed) & (size - 1);
        while (b->ranks[at] && b->ranks[at] != rank) at = (at + 1) & (size - 1);
        b->distinct = !b->ranks[at] && rank;
        b->ranks[at] = rank;
    }
    return true;
}

/* Memory for texts; NULL if there is none. Tables of texts are ordered by `seed`, which nobody else knows. */
batch *callmeter_new(uint64_t seed) {
    batch *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->seed = seed;
    memset(b->order, 255, sizeof b->order);
    for (int i = 0; i < COLUMNS; i++) b->column[i].kind = kind_of(i);
    return b;
}

void callmeter_free(batch *b) {
    for (int i = 0; i < COLUMNS; i++) free_column(&b->column[i]);
    for (uint32_t i = 0; i < b->spares; i++) free(b->spare[i]);
    free(b->spare), free(b->gap), free(b->out.at), free(b->more.at), free(b->ranks), free(b);
}

/* Read `lines` lines, which follow `before` lines and `start` bytes of the source. False if there is no memory for it. */
int callmeter_read(
    batch *b, const char *text, int64_t size, int64_t lines, int64_t source, int64_t before, int64_t start
) {
    int64_t most = size / MIN_LINE;  /* of rows: a text of empty lines has millions of these */
    if (lines < 0 || most > UINT32_MAX / 2 || !empty(b, (uint32_t)(lines < most ? lines : most))) return false;
    if (!read_lines(b, text, size, lines, source, before, start) || !see_ranks(b)) return false;
    for (int i = 0; i < COLUMNS && b->rows; i++) {
        bool is_signed = i != RANK && i != SKETCH;
        if (!put_chunk(&b->out, &b->column[i], (uint32_t)b->rows, is_signed, &b->chunk[i])) return false;
    }
    b->body = b->out.at;
    b->size = (int64_t)b->out.size;
    return true;
}
