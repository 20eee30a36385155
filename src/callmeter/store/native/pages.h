/* Pages of a Parquet file, from columns.

   Encodings: https://parquet.apache.org/docs/file-format/data-pages/encodings/ */

#pragma once

#include "columns.h"

enum { PLAIN = 0, RLE = 3, DELTA_BINARY_PACKED = 5, DELTA_BYTE_ARRAY = 7, RLE_DICTIONARY = 8 };

/* Where a column's pages are: its data page from `offset` on, its dictionary from `dictionary` on (-1: none), both in
   `size` bytes. `low` and `high` are those of numbers. */
typedef struct { int64_t offset, dictionary, size, values, nulls, encoding, low, high; } chunk;

static inline void put_varint(buffer *b, uint64_t value) {
    for (; value >= 128; value >>= 7) b->at[b->size++] = (uint8_t)(value | 128);
    b->at[b->size++] = (uint8_t)value;
}

static inline uint64_t zigzag(int64_t value) { return (uint64_t)value << 1 ^ (uint64_t)(value >> 63); }

static inline int width_of(uint64_t value) { return value ? 64 - __builtin_clzll(value) : 0; }

typedef struct { uint64_t bits; int have; } packer;

static inline void pack(buffer *b, packer *k, uint64_t value, int width) {
    k->bits |= value << k->have;
    k->have += width;
    if (k->have >= 64) {
        memcpy(b->at + b->size, &k->bits, 8);
        b->size += 8;
        k->have -= 64;
        k->bits = k->have ? value >> (width - k->have) : 0;
    }
}

static inline void pack_rest(buffer *b, packer *k) {
    for (; k->have > 0; k->have -= 8, k->bits >>= 8) b->at[b->size++] = (uint8_t)k->bits;
    k->have = 0, k->bits = 0;
}

/* Differences, less the lowest of 128 of them, each 32 in as many bits as they need. */
static bool put_deltas(buffer *b, const int64_t *values, uint32_t count) {
    if (!reserve(b, 64 + (size_t)count * 9 + 2048)) return false;
    put_varint(b, 128), put_varint(b, 4), put_varint(b, count), put_varint(b, zigzag(count ? values[0] : 0));
    for (uint32_t i = 1; i < count; i += 128) {
        uint32_t n = count - i < 128 ? count - i : 128;
        int64_t delta[128], low = INT64_MAX;
        for (uint32_t j = 0; j < n; j++) {
            delta[j] = (int64_t)((uint64_t)values[i + j] - (uint64_t)values[i + j - 1]);
            if (delta[j] < low) low = delta[j];
        }
        put_varint(b, zigzag(low));
        uint8_t *widths = b->at + b->size;
        memset(widths, 0, 4);
        b->size += 4;
        for (uint32_t m = 0; m < 4 && m * 32 < n; m++) {
            uint32_t stop = n < m * 32 + 32 ? n : m * 32 + 32;
            uint64_t all = 0;
            for (uint32_t j = m * 32; j < stop; j++) all |= (uint64_t)delta[j] - (uint64_t)low;
            int width = width_of(all);
            widths[m] = (uint8_t)width;
            packer k = {0, 0};
            if (width) {
                for (uint32_t j = m * 32; j < m * 32 + 32; j++)
                    pack(b, &k, j < stop ? (uint64_t)delta[j] - (uint64_t)low : 0, width);
                pack_rest(b, &k);
            }
        }
    }
    return true;
}

/* In the four bytes at a place, how many follow them. */
static inline void put_size(buffer *b, size_t at) {
    uint32_t size = (uint32_t)(b->size - at - 4);
    memcpy(b->at + at, &size, 4);
}

/* The RLE and bit-packing hybrid: one run, of one value or packed. */
static bool put_codes(buffer *b, const uint32_t *codes, uint32_t count, int width) {
    if (!reserve(b, (size_t)count * 4 + 64)) return false;
    uint32_t i = 1;
    while (i < count && codes[i] == codes[0]) i++;
    if (i >= count) {
        put_varint(b, (uint64_t)count << 1);
        for (int bits = 0; bits < width; bits += 8) b->at[b->size++] = (uint8_t)(codes[0] >> bits);
        return true;
    }
    uint32_t groups = (count + 7) / 8;
    put_varint(b, (uint64_t)groups << 1 | 1);
    packer k = {0, 0};
    for (i = 0; i < count; i++) pack(b, &k, codes[i], width);
    for (; i < groups * 8; i++) pack(b, &k, 0, width);
    pack_rest(b, &k);
    return true;
}

/* Which of so many rows have a value. */
static bool put_present(buffer *out, const column *c, uint32_t rows) {
    uint32_t groups = (rows + 7) / 8;
    if (!reserve(out, groups + 32)) return false;
    size_t at = out->size;
    out->size += 4;
    if (c->count == rows || c->count == 0) {
        put_varint(out, (uint64_t)rows << 1);
        out->at[out->size++] = c->count != 0;
    } else {
        put_varint(out, (uint64_t)groups << 1 | 1);
        put_bytes(out, c->present, groups);
    }
    put_size(out, at);
    return true;
}

/* A page's header, in Thrift's compact protocol; the page is in `b` from `at` on, and moves. */
static bool put_header(buffer *b, size_t at, bool dictionary, uint32_t values, int encoding) {
    uint8_t space[64];
    buffer h = {space, 0, sizeof space};
    size_t size = b->size - at;
    h.at[h.size++] = 0x15, put_varint(&h, dictionary ? 4 : 0);
    h.at[h.size++] = 0x15, put_varint(&h, (uint64_t)size << 1);
    h.at[h.size++] = 0x15, put_varint(&h, (uint64_t)size << 1);
    h.at[h.size++] = dictionary ? 0x4C : 0x2C;
    h.at[h.size++] = 0x15, put_varint(&h, (uint64_t)values << 1);
    h.at[h.size++] = 0x15, put_varint(&h, (uint64_t)encoding << 1);
    if (!dictionary) {
        h.at[h.size++] = 0x15, put_varint(&h, RLE << 1);
        h.at[h.size++] = 0x15, put_varint(&h, RLE << 1);
    }
    h.at[h.size++] = 0, h.at[h.size++] = 0;
    if (!reserve(b, h.size)) return false;
    memmove(b->at + at + h.size, b->at + at, size);
    memcpy(b->at + at, space, h.size);
    b->size += h.size;
    return true;
}

/* Of each text how much it begins as the one before does, and the rest of it. */
static bool put_texts(buffer *out, const text *texts, uint32_t count) {
    int64_t *sizes = malloc(2 * (size_t)count * sizeof *sizes);
    if (!sizes) return false;
    int64_t *shared = sizes + count;
    size_t all = 0;
    text before = {texts[0].at, 0};
    for (uint32_t i = 0; i < count; i++) {
        shared[i] = shared_by(before, texts[i]);
        all += (size_t)(sizes[i] = texts[i].size - shared[i]);
        before = texts[i];
    }
    bool fits = put_deltas(out, shared, count) && put_deltas(out, sizes, count) && reserve(out, all);
    for (uint32_t i = 0; fits && i < count; i++) put_bytes(out, texts[i].at + shared[i], (size_t)sizes[i]);
    free(sizes);
    return fits;
}

/* A column's values; with a dictionary, their codes. */
static bool put_values(buffer *out, const column *c, chunk *k) {
    k->encoding = PLAIN;
    if (c->kind == NUMBER || c->kind == SMALL) {
        k->encoding = DELTA_BINARY_PACKED;
        return put_deltas(out, c->numbers, c->count);
    }
    if (c->kind == UUID) {
        if (!reserve(out, 16 * (size_t)c->count)) return false;
        put_bytes(out, c->uuids, 16 * (size_t)c->count);
        return true;
    }
    if (c->kind == TRUTH) {
        if (!reserve(out, c->count / 8 + 16)) return false;
        packer p = {0, 0};
        for (uint32_t i = 0; i < c->count; i++) pack(out, &p, (uint64_t)c->numbers[i], 1);
        pack_rest(out, &p);
        return true;
    }
    if (!c->count) return true;
    if (!c->loose) {
        int width = width_of(c->distinct - 1);
        k->encoding = RLE_DICTIONARY;
        if (!reserve(out, 1)) return false;
        out->at[out->size++] = (uint8_t)width;
        return put_codes(out, c->codes, c->count, width);
    }
    k->encoding = DELTA_BYTE_ARRAY;
    return put_texts(out, c->texts, c->count);
}

static void put_bounds(const column *c, chunk *k, bool is_signed) {
    const uint64_t flip = is_signed ? 0 : 1ull << 63;
    int64_t low = INT64_MAX, high = INT64_MIN;
    for (uint32_t i = 0; i < c->count; i++) {
        int64_t value = (int64_t)((uint64_t)c->numbers[i] ^ flip);
        if (value < low) low = value;
        if (value > high) high = value;
    }
    k->low = (int64_t)((uint64_t)low ^ flip);
    k->high = (int64_t)((uint64_t)high ^ flip);
}

/* A column's pages for so many rows. */
static bool put_chunk(buffer *out, const column *c, uint32_t rows, bool is_signed, chunk *k) {
    size_t begin = out->size;
    k->dictionary = -1;
    if (c->kind == TEXT && !c->loose && c->count) {
        if (!reserve(out, c->words.size)) return false;
        put_bytes(out, c->words.at, c->words.size);
        if (!put_header(out, begin, true, c->distinct, PLAIN)) return false;
        k->dictionary = (int64_t)begin;
    }
    size_t page = out->size;
    if (!put_present(out, c, rows) || !put_values(out, c, k)) return false;
    if (!put_header(out, page, false, rows, (int)k->encoding)) return false;
    k->offset = (int64_t)page;
    k->size = (int64_t)(out->size - begin);
    k->values = rows;
    k->nulls = rows - c->count;
    if ((c->kind == NUMBER || c->kind == SMALL) && c->count) put_bounds(c, k, is_signed);
    return true;
}
