/* The reader of plain lines under a sanitizer: `native_harness SEED SECONDS` reads mutated lines, each text at the very
   end of its memory; `native_harness oom` lets the n-th request for memory fail, for each n; `native_harness places` looks
   at where texts fall in a table. What goes wrong is printed, and aborts. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t asked, failing = -1, living;
static size_t largest;

static bool refused(size_t size) {
    if (size > largest) largest = size;
    return ++asked == failing;
}
static void *counted(void *at) { return living += at != NULL, at; }
static void *harness_malloc(size_t size) { return refused(size) ? NULL : counted(malloc(size)); }
static void *harness_calloc(size_t count, size_t size) {
    return refused(count * size) ? NULL : counted(calloc(count, size));
}
static void *harness_realloc(void *at, size_t size) {
    if (refused(size)) return NULL;
    void *moved = realloc(at, size);
    living += moved && !at;
    return moved;
}
static void harness_free(void *at) {
    living -= at != NULL;
    free(at);
}

#define malloc harness_malloc
#define calloc harness_calloc
#define realloc harness_realloc
#define free harness_free
#undef __GLIBC__ /* functions in several versions are chosen before a sanitizer is ready */
#include "../src/callmeter/store/native/lines.c"
#undef malloc
#undef calloc
#undef realloc
#undef free

#define CHECK(holds) do { if (!(holds)) { fprintf(stderr, "line %d: %s\n", __LINE__, #holds); abort(); } } while (0)

static const char *const CANONICAL[] = {
    "{\"v\":1,\"id\":\"01a0c669-8800-7417-81c9-000000000000\",\"timestamp\":\"2026-09-22T00:00:00.000Z\",\"tags\":{"
    "\"agent\":\"triage\",\"session\":\"s-5\",\"purpose\":\"pattern_analysis\",\"priority\":\"normal\",\"environment\":"
    "\"prod\",\"cost_center\":\"c\",\"work_item\":\"SUP-0\",\"customer\":\"x\",\"user\":\"u\",\"workflow\":\"w\","
    "\"team\":\"t\",\"te\":\"\",\"team2\":\"u\"},\"provider\":\"openrouter\",\"model\":\"openai/gpt-4o-mini\","
    "\"served_model\":\"m\",\"tokens\":{\"in\":557,\"out\":84,\"cached\":278,\"cache_write\":1,\"cache_write_1h\":2,"
    "\"reasoning\":3},\"cost\":0.00013395,\"cost_source\":\"provider\",\"estimate\":0.001268,\"status\":\"ok\","
    "\"finish_reason\":\"stop\",\"error\":\"e\",\"duration_ms\":962,\"first_token_ms\":201,\"attempts\":1,\"key\":\"k\","
    "\"key_fingerprint\":\"466e8b3f0e23\",\"generation_id\":\"gen-1790035200-2eb482271f9b4c7e1568\",\"host\":\"b\","
    "\"corrects\":\"01a0c669-8800-7417-81c9-000000000001\",\"recorded_at\":\"2026-09-22T00:00:00.001Z\",\"note\":\"n\","
    "\"asked_model\":\"a\",\"pool\":\"p\",\"prompt_sketch\":\"0123456789abcdef\",\"audit\":\"z\"}",
    "{\"v\":1,\"id\":\"01a0c669-8800-7417-81c9-0000000000ff\",\"timestamp\":\"2024-02-29T23:59:59.999Z\",\"tags\":{},"
    "\"provider\":\"\",\"model\":\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82\",\"cost\":null,\"cost_source\":\"unknown\","
    "\"status\":\"refused\",\"attempts\":0}",
    "{\"v\":1,\"id\":\"01a0c450-6c00-7aa0-81e1-0000000000e5\",\"timestamp\":\"2026-11-21T09:30:01.123Z\",\"tags\":{"
    "\"agent\":\"gr\\u00f6\\u00DFe\",\"team\":\"\\ud83d\\ude00\",\"user\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"},\"provider\":\"p\","
    "\"model\":\"\\u20ac\",\"cost\":1,\"cost_source\":\"price\",\"status\":\"\\u006fk\",\"error\":\"say \\\"no\\\"\"}",
    "{\"v\":1,\"id\":\"ffffffff-ffff-ffff-ffff-ffffffffffff\",\"timestamp\":\"9998-12-31T23:59:59.999Z\",\"tags\":{"
    "\"a\":\"1\",\"b\":\"2\",\"c\":\"3\",\"agent\":\"x\"},\"provider\":\"p\",\"model\":\"m\",\"tokens\":{},"
    "\"cost\":-999999.999999999999,\"cost_source\":\"price\",\"estimate\":999999.999999999999,\"status\":\"timeout\","
    "\"duration_ms\":999999999999999,\"corrects\":\"00000000-0000-0000-0000-000000000000\"}",
};

static uint64_t state;
static uint64_t any(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}
static uint32_t below(uint32_t most) { return (uint32_t)(any() >> 33) % most; }

typedef struct { char *at; uint32_t size; } bytes;
#define LONGEST (1 << 18)

/* `remove` bytes at a place become those of `from`. */
static void splice(bytes *b, uint32_t at, uint32_t remove, const char *from, uint32_t size) {
    if (at > b->size || remove > b->size - at || b->size - remove + size > LONGEST) return;
    memmove(b->at + at + size, b->at + at + remove, b->size - at - remove);
    memmove(b->at + at, from, size);
    b->size += size - remove;
}

static void mutate(bytes *b) {
    static const char *const SEASONING[] = {
        "\"", "\\", "\n", "\r", "\r\n", "\0", ",", ":", "}", "{", "0", "-", "e", ".", "\x80", "\xC0\x80", "\xED\xA0\x80",
        "\xF4\x90\x80\x80", "\xEF\xBB\xBF", "\"a\":\"\",", "\"agent\":\"b\",", "999999999999999", "9999999999999999",
        "\\u00e9", "\\ud83d\\ude00", "\\ud83d", "\\\"", "\\\\", "\\u", "\\n", ",\"cost\":null",
        "\x1F", "\x7F", "null", "1e9", "}}", "\"}", "\":\"",
    };
    uint32_t at = below(b->size + 1), left = b->size - at, some = below(left < 64 ? left + 1 : 64);
    const char *word = SEASONING[below(COUNT(SEASONING))];
    char other = (char)below(256), piece[64];
    switch (below(8)) {
    case 0: if (left) b->at[at] ^= (char)(1 << below(8)); break;
    case 1: splice(b, at, some, "", 0); break;
    case 2: splice(b, at, left ? 1 : 0, word, *word ? (uint32_t)strlen(word) : 1); break;
    case 3: splice(b, at, 0, word, *word ? (uint32_t)strlen(word) : 1); break;
    case 4: memcpy(piece, b->at + at, some), splice(b, below(b->size + 1), 0, piece, some); break;
    case 5: if (below(8) == 0) b->size = at; break;
    case 6: splice(b, at, 0, &other, 1); break;
    case 7: /* tags by the dozen, or a long text */
        if (below(16)) break;
        for (uint32_t i = below(80); i; i--) {
            char tag[32];
            const char *tags = memchr(b->at, '{', b->size) ? strstr(b->at, "\"tags\":{") : NULL;
            if (!tags) break;
            splice(b, (uint32_t)(tags + 8 - b->at), 0, tag, (uint32_t)snprintf(tag, 32, "\"t%u\":\"%u\",", i, below(4)));
        }
        break;
    }
    b->at[b->size] = 0;
}

/* What a text came to holds together. */
static void look_at(const batch *b, int64_t lines, int64_t size) {
    int64_t left = lines, stop = 0;
    for (int64_t i = 0; i < b->gaps; i++) {
        CHECK(b->gap[i].start >= stop && b->gap[i].stop > b->gap[i].start && b->gap[i].stop <= size + 1);
        CHECK(b->gap[i].line >= 0 && b->gap[i].line < lines);
        stop = b->gap[i].stop;
        left--; /* at least */
    }
    CHECK(b->rows >= 0 && b->rows <= left);
    int64_t before = 0;
    for (int i = 0; i < COLUMNS && b->rows; i++) {
        const chunk *k = &b->chunk[i];
        CHECK((k->dictionary < 0 ? k->offset : k->dictionary) == before && k->offset >= before);
        CHECK(k->size > 0 && k->offset < before + k->size);
        CHECK(k->values == b->rows && k->nulls >= 0 && k->nulls <= b->rows);
        CHECK(k->values - k->nulls == b->column[i].count);
        before += k->size;
    }
    if (b->rows) CHECK(before == b->size);
}

static bool read_at_the_end(batch *b, const bytes *text, int64_t lines) {
    char *exact = malloc(text->size + 64);
    CHECK(exact);
    memcpy(exact, text->at, text->size);
    memset(exact + text->size, 0, 64);
    int64_t newlines = 0;
    for (uint32_t i = 0; i < text->size; i++) newlines += text->at[i] == '\n';
    CHECK(callmeter_count(exact, text->size) == newlines);
    bool done = callmeter_read(b, exact, text->size, lines < 0 ? newlines : lines, 3, 5, 7);
    if (done && lines < 0) {
        for (int64_t i = 0; i < b->gaps; i++) b->gap[i].start -= 7, b->gap[i].stop -= 7, b->gap[i].line -= 5;
        look_at(b, newlines, text->size);
    }
    free(exact);
    return done;
}

static void fuzz(uint64_t seed, double seconds) {
    state = seed * 0x9E3779B97F4A7C15u + 1;
    bytes text = {malloc(LONGEST + 65536), 0}, one = {malloc(LONGEST + 1), 0};
    batch *b = NULL;
    int64_t read = 0, rows = 0;
    clock_t until = clock() + (clock_t)(seconds * CLOCKS_PER_SEC);
    while (clock() < until) {
        if (!b || !below(50)) {
            if (b) callmeter_free(b);
            b = callmeter_new(any());
        }
        text.size = 0;
        for (uint32_t left = below(8) ? below(6) + 1 : below(600) + 1; left && text.size < LONGEST / 2; left--) {
            const char *canonical = CANONICAL[below(COUNT(CANONICAL))];
            one.size = 0;
            splice(&one, 0, 0, canonical, (uint32_t)strlen(canonical));
            one.at[one.size] = 0;
            if (!below(200)) {
                char *model = strstr(one.at, "\"model\":\"");
                static char many[65536];
                memset(many, 'x', sizeof many);
                if (model) splice(&one, (uint32_t)(model + 9 - one.at), 0, many, 65536 - one.size + below(4) - 1);
            }
            for (uint32_t changes = below(3) ? below(4) : 0; changes; changes--) mutate(&one);
            splice(&one, one.size, 0, "\n", 1);
            if (text.size + one.size > LONGEST + 65535) break;
            memcpy(text.at + text.size, one.at, one.size);
            text.size += one.size;
        }
        if (!below(20)) text.size -= below(text.size);
        CHECK(read_at_the_end(b, &text, below(50) ? -1 : (int64_t)below(10)));
        read++, rows += b->rows;
    }
    callmeter_free(b);
    free(text.at), free(one.at);
    printf("%lld texts, %lld rows\n", (long long)read, (long long)rows);
    CHECK(rows);
}

static void without_memory(void) {
    bytes text = {malloc(1 << 20), 0};
    for (int i = 0; i < 1200; i++) { /* more generations than a dictionary is for, and a gap after every tenth line */
        text.size += (uint32_t)sprintf(text.at + text.size,
            "{\"v\":1,\"id\":\"01a0c669-8800-7417-81c9-%012x\",\"timestamp\":\"2026-09-22T00:00:00.000Z\",\"tags\":{"
            "\"agent\":\"a%d\",\"team\":\"%d\"},\"provider\":\"p\",\"model\":\"m\",\"cost\":1,\"cost_source\":\"price\","
            "\"status\":\"ok\",\"generation_id\":\"%d\",\"prompt_sketch\":\"%016x\"}\n%s", i, i % 300, i, i, i,
            i % 10 ? "" : "odd\n");
    }
    bool done = false;
    int64_t fails = 0;
    for (failing = 1; !done; failing++) {
        asked = 0;
        batch *b = callmeter_new(7);
        if (b) {
            done = read_at_the_end(b, &text, -1);
            if (!done && failing % 8 == 0) {
                int64_t n = failing;
                failing = -1;
                CHECK(read_at_the_end(b, &text, -1) && b->rows == 1200 && b->gaps == 120);
                failing = n;
            }
            callmeter_free(b);
        }
        fails += !done;
        CHECK(living == 0);
    }
    printf("%lld requests\n", (long long)fails);
    CHECK(fails > 100);
    /* Nothing but ends of lines takes no memory for rows. */
    largest = 0, failing = -1, text.size = 1 << 20;
    memset(text.at, '\n', text.size);
    batch *b = callmeter_new(7);
    CHECK(read_at_the_end(b, &text, -1) && !b->rows && b->gaps == 1 && largest < text.size);
    callmeter_free(b);
    free(text.at);
}

/* Chance would leave some 790 of 2,048 places. */
static void count_places(uint64_t seed, const char *pattern, int shift) {
    static bool taken[2048];
    memset(taken, 0, sizeof taken);
    int places = 0;
    for (uint64_t i = 1; i <= 1000; i++) {
        char at[64] = "";
        uint32_t size = pattern ? (uint32_t)snprintf(at, sizeof at, pattern, (int)i) : 0;
        bool *place = &taken[(pattern ? hash_of((text){at, size}, seed) : mixed(i << shift ^ seed)) & 2047];
        places += !*place;
        *place = true;
    }
    if (places < 500) fprintf(stderr, "%s %d: %d places\n", pattern ? pattern : "ranks", shift, places);
    CHECK(places >= 500);
}

static void places(void) {
    for (uint64_t seed = 0; seed < 20; seed++) {
        uint64_t some = seed * 0xD1B54A32D192ED03u;
        const char *const patterns[] = {"%d", "%04d", "s-%06d", "team%04d", "session-s-%06d", "x%07d-", "%04d-and-so-on-0"};
        for (size_t i = 0; i < COUNT(patterns); i++) count_places(some, patterns[i], 0);
        for (int shift = 0; shift <= 54; shift++) count_places(some, NULL, shift);
    }
}

int main(int count, char **given) {
    if (count == 2 && strcmp(given[1], "oom") == 0) without_memory();
    else if (count == 2) places();
    else fuzz(strtoull(given[1], NULL, 10), atof(given[2]));
    CHECK(living == 0);
    return 0;
}
