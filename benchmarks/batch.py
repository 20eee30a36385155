"""How near a batch comes to what its width allows: calls a second against a loopback server with a fixed latency.

    python benchmarks/batch.py [--calls 3000] [--concurrency 64] [--latency 0.05]

The ideal is concurrency / latency. Each call has its own log line, breadcrumb and place in the progress file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

SCRIPT = Path(sys.executable).parent / "llm-call"
ANSWER = (
    b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"answer"},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"cost":0.000125}}\n\ndata: [DONE]\n\n'
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def serve(latency: float, port: Connection) -> None:
    """Answer every request after `latency` seconds."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            await asyncio.sleep(latency)
            writer.write(HEAD + ANSWER)
            await writer.drain()
        finally:
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--replay", action="store_true", help="then run the finished batch again")
    wanted = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(wanted.latency, theirs), daemon=True)
    server.start()
    port = ours.recv()
    with tempfile.TemporaryDirectory() as home:
        batch = Path(home) / "batch.jsonl"
        with batch.open("w") as file:
            for number in range(wanted.calls):
                file.write(json.dumps({"id": number, "prompt": f"prompt {number}", "agent": "bench"}) + "\n")
        for what in ("calls", "replays")[: 2 if wanted.replay else 1]:
            arguments = [str(SCRIPT), "--base-url", f"http://127.0.0.1:{port}/v1", "-m", "m", "--batch", str(batch)]
            begun = time.perf_counter()
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(
                [*arguments, "--concurrency", str(wanted.concurrency)],
                env={**os.environ, "CALLMETER_HOME": home},
                stdout=subprocess.PIPE,
                check=True,
            )
            seconds = time.perf_counter() - begun
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert done.stdout.count(b"\n") == wanted.calls
            rate = wanted.calls / seconds
            cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / wanted.calls * 1000
            ideal = wanted.concurrency / wanted.latency
            share = f"{rate / ideal:.0%} of the ideal {ideal:.0f}" if what == "calls" else "from the record"
            print(f"{rate:7.0f} {what}/s, {share}; {cpu:.2f} ms of CPU each, {after.ru_maxrss / 1024:.0f} MiB at most")
    server.terminate()


if __name__ == "__main__":
    main()
