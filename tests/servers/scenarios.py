"""What the misbehaving server can do, by name.

| scenario | the client sees |
|---|---|
| **an answer that is fine** | |
| `ok` | an event stream in chunks, finish reason, usage with cost 0.0096, `[DONE]` |
| `ok-json` | one JSON object, although a stream was asked for |
| `ok-length`, `ok-until-close` | the event stream with Content-Length; with neither length nor chunks |
| `crlf`, `cr`, `bom` | lines that end in \\r\\n, in \\r; a byte order mark first |
| `comments` | `: OPENROUTER PROCESSING` and empty comments between the events |
| `one-byte`, `split-utf8` | one byte a chunk; emoji and umlauts cut anywhere |
| `line-separators` | U+2028, U+2029, U+0085, VT and FF inside the text |
| `multi-line-data`, `no-space`, `other-fields` | JSON over several `data` lines; `data:{`; `event`, `id`, `retry` fields |
| `no-final-newline` | the last event without its blank line |
| `usage-with-finish`, `usage-each-chunk`, `usage-early` | usage in the finishing chunk; in each, growing; before the end |
| `done-then-open` | everything, then the connection stays open in silence |
| `no-done` | everything but `[DONE]` |
| `extensions` | chunk extensions and trailers |
| `interim`, `interim-hints` | 100 Continue, or 103 Early Hints, before the answer |
| `bare-lf` | a head whose lines end in \\n |
| `length-twice` | the same Content-Length twice |
| `reasoning` | reasoning deltas, then the text; reasoning tokens in the usage |
| `echo` | the request's own headers and body as the text of an event stream |
| **an answer that is incomplete, or odd** | |
| `no-finish`, `finish-length`, `finish-filter`, `finish-tools` | no finish reason; `length`; `content_filter`; `tool_calls` |
| `empty-text`, `null-text`, `parts-text`, `number-text` | content "", null, a list of parts, a number |
| `no-choices`, `null-choices`, `empty-choices-only` | chunks without choices; `choices` null; only empty lists |
| `close-head`, `close-mid-head`, `reset-head`, `reset-unread` | the end before a head; inside it; RST; RST without reading the body |
| `close-mid-chunk`, `close-mid-event`, `close-early`, `reset-mid-stream` | the end inside a chunk; between chunks; before Content-Length; RST |
| `until-close-cut` | an unframed stream that is cut (over TLS: without a farewell) |
| `stall-head`, `stall-body`, `stall-mid-stream`, `stall-unframed` | silence before the head; after it; after some text; the same without chunks |
| `drip`, `drip-head`, `drip-comments`, `slow-interim` | a byte at a time; the head too; comments for ever; 100 Continue for ever |
| **more than anyone can take** | |
| `endless-comments`, `endless-tokens`, `endless-line`, `endless-json` | a stream without an end, without a newline; a JSON body |
| `endless-interim`, `endless-headers`, `huge-header`, `many-headers` | heads without an end; 1 MiB in one header, in many |
| `endless-extension`, `endless-trailers` | chunk framing without an end |
| `huge-length` | Content-Length of a petabyte |
| **bodies that are not what they say** | |
| `json-as-text`, `json-as-sse`, `sse-as-json`, `sse-untyped` | the wrong Content-Type, or none |
| `html-200`, `html-502`, `empty-200`, `text-200` | a login page; a proxy's page; nothing; plain words |
| `gzip`, `deflate`, `br`, `zstd` | a compressed answer |
| `gzip-bomb`, `gzip-429` | a gigabyte in a megabyte; a compressed error |
| `invalid-utf8`, `not-json`, `not-object`, `nan-json`, `nul-bytes` | events that are not UTF-8; not JSON; `5`; with NaN; with NUL |
| `duplicate-keys`, `deep-nesting`, `giant-int`, `surrogates` | `cost` twice; 100,000 brackets; 5,000 digits; lone surrogates |
| `escapes` | terminal escape sequences, bidi and zero-width characters in the text |
| **HTTP that is not** | |
| `not-http`, `http-09`, `status-garbage`, `status-101` | other protocols; a status that is no number; an upgrade |
| `no-colon`, `folded`, `nul-header`, `space-before-colon` | malformed header lines |
| `length-conflict`, `length-and-chunks`, `length-garbage`, `length-negative`, `length-underscore` | lengths that cannot be trusted |
| `chunk-garbage`, `chunk-giant`, `chunk-negative`, `chunk-too-long`, `coding-gzip` | chunks that cannot be trusted |
| `status-204`, `status-304` | an answer without a body |
| **redirects** | |
| `redirect-301`, `-302`, `-303`, `-307`, `-308` | to the stranger, with the whole path |
| **errors under 200** | |
| `error-json`, `error-json-code`, `error-json-text` | a JSON error with a number as code; with a string; `error` a string |
| `error-choice` | `finish_reason` `error` and the error inside the choice, after some text |
| `error-first`, `error-mid-stream`, `error-mid-code` | an error event first; after text; with a string as code |
| `error-bare`, `error-event` | `data: error` words; `event: error` |
| **usage that is missing or absurd** | |
| `usage-missing`, `usage-null`, `usage-list`, `usage-string` | no usage; null; a list; words |
| `cost-null`, `-negative`, `-nan`, `-inf`, `-true`, `-text`, `-string`, `-huge`, `-digits`, `-object`, `-list`, `-zero`, `-tiny` | such a cost; `-string` is a good number in quotes, `-object` has `total_cost` |
| `tokens-negative`, `-float`, `-huge`, `-string`, `-null`, `-true` | such token counts, no cost |
| `byok`, `byok-no-upstream`, `not-byok-upstream` | `is_byok` with upstream cost; without; upstream cost without `is_byok` |
| `x-groq` | usage under `x_groq` |
| **HTTP errors** | |
| `400`, `400-context`, `401`, `402-credits`, `402-afford`, `402-in-flight`, `402-key-limit` | OpenRouter's bodies; in-flight has Retry-After: 2 |
| `403-key-limit`, `403-guardrail`, `403-moderation`, `404`, `408`, `413`, `422`, `451` | with their metadata |
| `429`, `429-date`, `429-milliseconds`, `429-nonsense`, `429-huge`, `429-negative`, `429-none`, `429-upstream`, `429-quota` | Retry-After 1; as a date in 2 s; in ms; …; `insufficient_quota` |
| `500`, `502`, `503`, `503-retry`, `504`, `524`, `529` | with a generation id; `503-retry` has Retry-After: 1 |
| `error-empty`, `error-huge`, `error-stall`, `error-escapes`, `error-list` | status 500 and no body; 1 MiB; a body that never comes; escape sequences; `[]` |
| `echo-error` | status 400 whose message repeats the Authorization header and the body |
| **better the next time** | |
| `401-then-ok`, `402-then-ok`, `429-then-ok`, `500-then-ok`, `503-then-ok`, `529-then-ok`, `reset-then-ok`, `error-then-ok` | the failure once (429 twice), then `ok` |
| **while the request is being sent** | |
| `early-413` | 413 after the head, the body unread, then the end |
| `early-401-hold` | 401 after the head, the body unread, and the connection left open |
| `slow-reader`, `never-reads` | the body read a little at a time, then `ok`; never read |

A GET of `…/models`, `…/key` or `…/generation` is answered properly under every name.
"""
# ruff: noqa: E501 - a table

from servers import answers, sockets, streams
from servers.answers import any_other_path
from servers.pieces import SCENARIOS

__all__ = ["SCENARIOS", "answers", "any_other_path", "sockets", "streams"]
