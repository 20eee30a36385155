"""Scenarios in which the bytes on the wire, or their absence, are the trouble."""

from __future__ import annotations

from servers.misbehaving import Client
from servers.pieces import delta, error_body, event, said, scenario, whole

EVENT_STREAM = "Content-Type: text/event-stream"


def raw(name: str, data: bytes, *, then_stall: bool = False) -> None:
    def play(client: Client) -> None:
        client.write(data)
        if then_stall:
            client.stall()

    scenario(name)(play)


_BODY = b"".join(whole())
_FRAMED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_BODY), _BODY)
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
_LENGTH = b"Content-Length: %d\r\n" % len(_BODY)

raw("extensions", _CHUNKED + b'%X;name="v;a";b \r\n%b\r\n0;last\r\nX-Trailer: t\r\n\r\n' % (len(_BODY), _BODY))
raw("interim", b"HTTP/1.1 100 Continue\r\n\r\n" + _CHUNKED + _FRAMED)
raw("interim-hints", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + _CHUNKED + _FRAMED)
raw("bare-lf", (_OK + _LENGTH).replace(b"\r\n", b"\n") + b"\n" + _BODY)
raw("length-twice", _OK + _LENGTH + _LENGTH + b"\r\n" + _BODY)
raw("close-head", b"")
raw("close-mid-head", _OK)
raw("close-mid-chunk", _CHUNKED + b"%x\r\n%b" % (len(_BODY), _BODY[:100]))
raw("close-early", _OK + _LENGTH + b"\r\n" + _BODY[:100])
raw("stall-head", b"", then_stall=True)
raw("stall-body", _CHUNKED, then_stall=True)
raw("stall-mid-stream", _CHUNKED + b"%x\r\n%b\r\n" % (len(said()[0]), said()[0]), then_stall=True)
raw("stall-unframed", _OK + b"\r\n" + said()[0], then_stall=True)
raw("done-then-open", _CHUNKED + b"%x\r\n%b\r\n" % (len(_BODY), _BODY), then_stall=True)
raw("error-stall", b"HTTP/1.1 500 X\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{", then_stall=True)
raw("huge-header", _OK + b"X-Big: " + b"x" * (1 << 20) + b"\r\n" + _LENGTH + b"\r\n" + _BODY)
raw("many-headers", _OK + b"X-More: some\r\n" * 75_000 + _LENGTH + b"\r\n" + _BODY)
raw("huge-length", _OK + b"Content-Length: 1000000000000000\r\n\r\n" + _BODY)
raw("not-http", b"SSH-2.0-OpenSSH_9.2p1\r\n" + b"\r\n" * 10)
raw("http-09", _BODY)
raw("status-garbage", b"HTTP/1.1 2xx OK\r\n\r\n")
raw("status-101", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", then_stall=True)
raw("status-204", b"HTTP/1.1 204 No Content\r\n\r\n", then_stall=True)
raw("status-304", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n", then_stall=True)
raw("no-colon", _OK + b"what is this\r\n" + _LENGTH + b"\r\n" + _BODY)
raw("folded", _OK + b"X-Long: begins\r\n and goes on\r\n" + _LENGTH + b"\r\n" + _BODY)
raw("nul-header", _OK + b"X-Nul: a\x00b\r\n" + _LENGTH + b"\r\n" + _BODY)
raw("space-before-colon", _OK + b"X-Odd : a\r\n" + _LENGTH + b"\r\n" + _BODY)
raw("length-conflict", _OK + _LENGTH + b"Content-Length: 5\r\n\r\n" + _BODY)
raw("length-and-chunks", _OK + _LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + _FRAMED)
raw("length-garbage", _OK + b"Content-Length: many\r\n\r\n" + _BODY)
raw("length-negative", _OK + b"Content-Length: -1\r\n\r\n" + _BODY)
raw("length-underscore", _OK + b"Content-Length: 1_0\r\n\r\n" + _BODY)
raw("chunk-garbage", _CHUNKED + b"zz\r\n" + _BODY)
raw("chunk-giant", _CHUNKED + b"f" * 40 + b"\r\n" + _BODY)
raw("chunk-negative", _CHUNKED + b"-5\r\n" + _BODY)
raw("chunk-too-long", _CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n")
raw("coding-gzip", _OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + _FRAMED)


@scenario("ok-until-close")
def _until_close(client: Client) -> None:
    client.head(200, EVENT_STREAM)
    client.write(_BODY)
    client.farewell()


@scenario("until-close-cut")
def _until_close_cut(client: Client) -> None:
    client.head(200, EVENT_STREAM)
    client.write(_BODY[:100])


@scenario("echo")
def _echo(client: Client) -> None:
    text = client.request.raw_head.decode("latin-1") + "\n\n" + client.request.body.decode()
    client.stream()
    client.chunks(whole(text))


@scenario("echo-error")
def _echo_error(client: Client) -> None:
    key = client.request.headers.get("authorization", "none")
    message = f"bad request with authorization {key} and body {client.request.body.decode()}"
    client.answer(400, error_body(400, message, raw=key), f"X-Echo: {key}")


@scenario("reset-head")
def _reset_head(client: Client) -> None:
    client.reset()


@scenario("reset-unread", reads_body=False)
def _reset_unread(client: Client) -> None:
    client.reset()


@scenario("reset-mid-stream")
def _reset_mid_stream(client: Client) -> None:
    client.stream()
    client.chunks(said()[:2], end=False)
    client.reset()


@scenario("drip")
def _drip(client: Client) -> None:
    client.head(200, EVENT_STREAM)
    client.drip(_BODY)


@scenario("drip-head")
def _drip_head(client: Client) -> None:
    client.drip(_OK + _LENGTH + b"\r\n" + _BODY)


@scenario("drip-comments")
def _drip_comments(client: Client) -> None:
    client.head(200, EVENT_STREAM)
    client.repeat(b": OPENROUTER PROCESSING\n\n", 0.02)


@scenario("slow-interim")
def _slow_interim(client: Client) -> None:
    client.repeat(b"HTTP/1.1 100 Continue\r\n\r\n", 0.1)


@scenario("endless-interim")
def _endless_interim(client: Client) -> None:
    client.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


@scenario("endless-headers")
def _endless_headers(client: Client) -> None:
    client.write(_OK)
    client.repeat(b"X-More: and more\r\n" * 100)


@scenario("endless-comments")
def _endless_comments(client: Client) -> None:
    client.head(200, EVENT_STREAM)
    client.repeat(b": keep-alive\n\n" * 5000)


@scenario("endless-tokens")
def _endless_tokens(client: Client) -> None:
    client.head(200, EVENT_STREAM)
    client.repeat(event(delta("and ")) * 500)


@scenario("endless-line")
def _endless_line(client: Client) -> None:
    client.head(200, EVENT_STREAM)
    client.write(b'data: {"choices":[{"delta":{"content":"')
    client.repeat(b"a" * 65536)


@scenario("endless-json")
def _endless_json(client: Client) -> None:
    client.head(200, "Content-Type: application/json")
    client.write(b'{"choices":[{"message":{"content":"')
    client.repeat(b"a" * 65536)


@scenario("endless-extension")
def _endless_extension(client: Client) -> None:
    client.stream()
    client.write(b"5;a=")
    client.repeat(b"a" * 65536)


@scenario("endless-trailers")
def _endless_trailers(client: Client) -> None:
    client.stream()
    client.chunks(said(), end=False)
    client.write(b"0\r\n")
    client.repeat(b"X-More: and more\r\n" * 100)


@scenario("early-413", reads_body=False)
def _early_413(client: Client) -> None:
    client.answer(413, error_body(413, "Request too large", error_type="payload_too_large"))


@scenario("early-401-hold", reads_body=False)
def _early_401_hold(client: Client) -> None:
    client.answer(401, error_body(401, "User not found."))
    client.hold()


@scenario("slow-reader", reads_body=False)
def _slow_reader(client: Client) -> None:
    length = int(client.request.headers["content-length"])
    while len(client.request.body) < length:
        client.read_body(min(65536, length - len(client.request.body)))
        client.pause(0.005)
    client.stream()
    client.chunks(whole())


@scenario("never-reads", reads_body=False)
def _never_reads(client: Client) -> None:
    client.hold()
