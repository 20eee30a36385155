/* Texts, and columns of values: what a text's lines come to before they are written. */

#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "numbers are written as they lie in memory, and Parquet's begin with their lowest byte"
#endif

#define COUNT(array) (sizeof(array) / sizeof *(array))
/* From so many values on that are hardly ever the same, a dictionary is no use. */
#define LOOSE 1024

/* ---- texts ---- */

/* Behind a text's bytes there are always others that may be read: see `lines.c`. */
typedef struct { const char *at; uint32_t size; } text;

/* The first `size` (at most 8) of the bytes at a place, behind which others may be read. */
static inline uint64_t word_at(const char *at, uint32_t size) {
    uint64_t word;
    memcpy(&word, at, 8);
    return size >= 8 ? word : word & ((1ull << 8 * size) - 1);
}

/* Each bit of a number in the lower bits of another, whichever bits of it vary. */
static inline uint32_t mixed(uint64_t h) {
    h *= 0xFF51AFD7ED558CCDu;
    return (uint32_t)((h ^ h >> 32) * 0x9E3779B97F4A7C15u >> 32);
}

static inline uint32_t hash_of(text t, uint64_t seed) {
    uint64_t h = seed ^ t.size * 0x9E3779B97F4A7C15u;
    for (uint32_t i = 0; i < t.size; i += 8) {
        h = (h ^ word_at(t.at + i, t.size - i)) * 0xFF51AFD7ED558CCDu;
        h ^= h >> 32;
    }
    return mixed(h);
}

static inline bool same(text a, text b) {
    if (a.size != b.size) return false;
    for (uint32_t i = 0; i < a.size; i += 8)
        if (word_at(a.at + i, a.size - i) != word_at(b.at + i, b.size - i)) return false;
    return true;
}

/* How many bytes two texts begin with together. */
static inline uint32_t shared_by(text a, text b) {
    uint32_t least = a.size < b.size ? a.size : b.size;
    for (uint32_t i = 0; i < least; i += 8) {
        uint64_t differ = word_at(a.at + i, least - i) ^ word_at(b.at + i, least - i);
        if (differ) return i + (uint32_t)__builtin_ctzll(differ) / 8;
    }
    return least;
}

/* ---- memory ---- */

typedef struct { uint8_t *at; size_t size, room; } buffer;

static bool reserve(buffer *b, size_t more) {
    if (b->size + more <= b->room) return true;
    size_t room = b->room ? b->room : 1 << 16;
    while (room < b->size + more) room *= 2;
    uint8_t *at = realloc(b->at, room);
    if (!at) return false;
    b->at = at;
    b->room = room;
    return true;
}

/* Those below expect that there is room. */
static inline void put_bytes(buffer *b, const void *from, size_t size) {
    memcpy(b->at + b->size, from, size);
    b->size += size;
}

/* Room for one more than `count`. */
static inline bool grow(void **at, uint32_t *room, size_t count, size_t size) {
    if (count < *room) return true;
    size_t more = 2 * count + 64;
    void *moved = more > UINT32_MAX ? NULL : realloc(*at, more * size);
    if (!moved) return false;
    *at = moved;
    *room = (uint32_t)more;
    return true;
}
#define GROW(at, room, count) grow((void **)&(at), &(room), count, sizeof *(at))

/* ---- columns ---- */

enum kind { NUMBER, SMALL, UUID, TRUTH, TEXT };

typedef struct {
    enum kind kind;
    int64_t *numbers;   /* NUMBER, SMALL, TRUTH */
    uint8_t *uuids;     /* UUID */
    text *texts;        /* TEXT: the values, if there are many; otherwise their codes */
    uint32_t *codes;
    buffer words;       /* the texts of the codes, each behind its size, as a dictionary page has them */
    uint32_t *offsets;  /* where they begin there */
    uint32_t *slots;    /* a hash table: codes + 1 */
    uint8_t *present;   /* a bit for each row */
    uint32_t count, distinct, last;
    uint32_t texts_room, codes_room, offsets_room, slots_room;
    bool loose;
} column;

static inline void mark(column *c, uint32_t row) { c->present[row >> 3] |= (uint8_t)(1 << (row & 7)); }

static inline void put_number(column *c, uint32_t row, int64_t value) {
    mark(c, row);
    c->numbers[c->count++] = value;
}

/* A value that each row has needs no bit. */
static inline void put_always(column *c, int64_t value) { c->numbers[c->count++] = value; }

static inline void put_uuid(column *c, uint32_t row, const uint8_t *value) {
    mark(c, row);
    memcpy(c->uuids + 16 * (size_t)c->count++, value, 16);
}

static inline text word_of(const column *c, uint32_t code) {
    const uint8_t *at = c->words.at + c->offsets[code];
    text t = {(const char *)at + 4, 0};
    memcpy(&t.size, at, 4);
    return t;
}

static bool rehash(column *c, uint64_t seed) {
    uint32_t size = c->slots_room ? 2 * c->slots_room : 256;
    uint32_t *slots = calloc(size, sizeof *slots);
    if (!slots) return false;
    for (uint32_t code = 0; code < c->distinct; code++) {
        uint32_t at = hash_of(word_of(c, code), seed) & (size - 1);
        while (slots[at]) at = (at + 1) & (size - 1);
        slots[at] = code + 1;
    }
    free(c->slots);
    c->slots = slots;
    c->slots_room = size;
    return true;
}

/* A new word, for the next code. */
static bool put_word(column *c, text t) {
    if (!GROW(c->offsets, c->offsets_room, c->distinct) || !reserve(&c->words, 4 + t.size + 8)) return false;
    c->offsets[c->distinct++] = (uint32_t)c->words.size;
    memcpy(c->words.at + c->words.size, &t.size, 4);
    memcpy(c->words.at + c->words.size + 4, t.at, t.size);
    c->words.size += 4 + t.size;
    return true;
}

/* From here on each value stands for itself. */
static bool loosen(column *c) {
    c->loose = true;
    for (uint32_t i = 0; i < c->count; i++) {
        if (!GROW(c->texts, c->texts_room, i)) return false;
        c->texts[i] = word_of(c, c->codes[i]);
    }
    return true;
}

/* A text may be `passing`: not there any more when the next line is read. */
static bool put_text(column *c, text t, uint64_t seed, bool passing) {
    if (c->loose) {
        if (!GROW(c->texts, c->texts_room, c->count)) return false;
        c->texts[c->count++] = t;
        return true;
    }
    if (!GROW(c->codes, c->codes_room, c->count)) return false;
    if (!c->distinct || !same(word_of(c, c->last), t)) {
        if (2 * c->distinct >= c->slots_room && !rehash(c, seed)) return false;
        uint32_t mask = c->slots_room - 1, at = hash_of(t, seed) & mask, code;
        while ((code = c->slots[at]) && !same(word_of(c, code - 1), t)) at = (at + 1) & mask;
        if (!code) {
            if (!put_word(c, t)) return false;
            code = c->slots[at] = c->distinct;
        }
        c->last = code - 1;
    }
    c->codes[c->count++] = c->last;
    return c->distinct < LOOSE || c->distinct < c->count / 2 || passing || loosen(c);
}

/* Room for so many rows, and nothing in it; `fits` if there is room for them already. */
static bool empty_column(column *c, uint32_t rows, bool fits) {
    if (!fits) {
        free(c->present), free(c->uuids), free(c->numbers);
        c->uuids = c->kind == UUID ? malloc(16 * (size_t)rows + 1) : NULL;
        c->numbers = c->kind != UUID && c->kind != TEXT ? malloc(rows * sizeof *c->numbers + 1) : NULL;
        c->present = malloc(rows / 8 + 1);
        if (!c->present || (c->kind != TEXT && !c->uuids && !c->numbers)) return false;
    }
    memset(c->present, 0, rows / 8 + 1);
    if (c->slots) memset(c->slots, 0, c->slots_room * sizeof *c->slots);
    c->count = c->distinct = c->last = 0;
    c->words.size = 0;
    c->loose = false;
    return true;
}

static void free_column(column *c) {
    free(c->numbers), free(c->uuids), free(c->texts), free(c->codes), free(c->words.at), free(c->offsets);
    free(c->slots), free(c->present);
}
