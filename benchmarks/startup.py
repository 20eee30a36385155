"""What one call from a shell costs in CPU, as multiples of `python -c pass`, all measured in one run.

    python benchmarks/startup.py [--runs 30] [--write]

A loopback server gives every caller the same canned answer. Callers: curl alone, the curl + jq script that a user
would write (`benchmarks/llm-call.sh`), this `llm-call` with its log line, `llm` (if it is installed), and the
imports that the hot path avoids. CPU is that of the process and its children; the median of interleaved runs.
`--write` puts the table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent

SERVER = r"""
import json, socketserver, sys, threading
CHUNKS = "".join("data: " + json.dumps(c) + "\n\n" for c in [
    {"id": "gen-1", "model": "openai/gpt-4o-mini", "choices": [{"index": 0, "delta": {"content": w}}]} for w in
    ("Four ", "words ", "of ", "answer.")] + [
    {"id": "gen-1", "model": "openai/gpt-4o-mini", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"id": "gen-1", "model": "openai/gpt-4o-mini", "choices": [],
     "usage": {"prompt_tokens": 12, "completion_tokens": 4, "total_tokens": 16, "cost": 0.0000042}}])
CHUNKS += "data: [DONE]\n\n"
WHOLE = json.dumps({"id": "gen-1", "model": "openai/gpt-4o-mini", "choices": [{"index": 0, "finish_reason": "stop",
    "message": {"role": "assistant", "content": "Four words of answer."}}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 4, "total_tokens": 16, "cost": 0.0000042}})

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        length = 0
        while True:
            line = self.rfile.readline()
            if line in (b"\r\n", b""):
                break
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        streams = json.loads(self.rfile.read(length) or b"{}").get("stream")
        body, media = (CHUNKS, "text/event-stream") if streams else (WHOLE, "application/json")
        self.wfile.write((f"HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n"
                          "X-Generation-Id: gen-1\r\nConnection: close\r\n\r\n" + body).encode())

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True
    request_queue_size = 128

server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def cpu_of(command: list[str], env: dict[str, str]) -> float:
    """CPU seconds, user and system, of a command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{command[0]} failed: {done.stderr.decode()}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def quotas() -> list[dict[str, object]]:
    """Twenty quotas, two of which a call of the agent `code` falls under."""
    others: list[dict[str, object]] = [{"subject": f"agent:a{number}", "limit": 1} for number in range(18)]
    return [*others, {"subject": "agent:code", "limit": 1000}, {"subject": "total", "limit": 1000}]


def write(name: str, lines: list[str]) -> None:
    """Put lines between the two marks of a name in docs/benchmarks.md."""
    page = HERE.parent / "docs" / "benchmarks.md"
    before, _, rest = page.read_text().partition(f"<!-- {name} -->\n")
    _, _, after = rest.partition(f"<!-- end {name} -->\n")
    page.write_text(f"{before}<!-- {name} -->\n" + "\n".join(lines) + f"\n<!-- end {name} -->\n{after}")


def _another(command: list[str]) -> list[str]:
    """The command with another prompt: equal ones are a loop, which a policy's breaker writes down."""
    return [os.urandom(24).hex() if word == "Hello" else word for word in command]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=30)
    options.add_argument("--write", action="store_true")
    arguments = options.parse_args()

    # Where bytecode is not written at run time, an edited module would be compiled anew at each start.
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(HERE.parent / "src")], check=True)
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    base = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
    with tempfile.TemporaryDirectory() as home:
        env = {
            **os.environ,
            "CALLMETER_HOME": home,
            "CALLMETER_API_KEY": "sk-benchmark-0000000000000000",
            "LLM_USER_PATH": home,
            "LLM_LOAD_PLUGINS": "",  # the weights of the local model come as a plugin that cannot load here
            "USAGE_LOG": f"{home}/script.jsonl",
            "BASE_URL": base,
            "OPENAI_API_KEY": "sk-benchmark-0000000000000000",
        }
        call = [str(BIN / "llm-call"), "--base-url", base, "-m", "openai/gpt-4o-mini"]
        tags = ["--agent", "code", "--session", "s-1", "--purpose", "bench"]
        python = sys.executable
        with_policy = f"{home}/with-policy"
        Path(with_policy).mkdir(mode=0o700)
        (Path(with_policy) / "budget.json").write_text(json.dumps({"enforcement": "hard", "quotas": quotas()}))
        callers = {
            "python -c pass": [python, "-c", "pass"],
            "curl + jq script": [str(HERE / "llm-call.sh"), "openai/gpt-4o-mini", "code", "s-1", "bench", "Hello"],
            "llm-call": [*call, *tags, "Hello"],
            "llm-call, hard policy of 20 quotas": ["env", f"CALLMETER_HOME={with_policy}", *call, *tags, "Hello"],
            "budget quota left, 20 quotas": [
                "env",
                f"CALLMETER_HOME={with_policy}",
                str(BIN / "callmeter"),
                *["budget", "quota", "left", "--agent", "code"],
            ],
            "llm-call --help (Typer)": [*call[:1], "--help"],
            "import typer": [python, "-c", "import typer"],
            "import httpx": [python, "-c", "import httpx"],
        }
        llm = shutil.which("llm", path=f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}")
        if llm:
            (Path(home) / "extra-openai-models.yaml").write_text(
                f"- model_id: bench\n  model_name: openai/gpt-4o-mini\n  api_base: {base}\n"
            )
            callers["llm"] = [llm, "-m", "bench", "Hello"]
        for command in callers.values():
            cpu_of(_another(command), env)
        times: dict[str, list[float]] = {name: [] for name in callers}
        for _ in range(arguments.runs):
            for name, command in callers.items():
                times[name].append(cpu_of(_another(command), env))
        medians = {name: statistics.median(found) for name, found in times.items()}
        floor, script = medians["python -c pass"], medians["curl + jq script"]
        jq = subprocess.run(["jq", "--version"], capture_output=True, text=True).stdout.strip()
        table = [
            f"Python {sys.version.split()[0]}, {jq}, {arguments.runs} runs, CPU of the process and its children:",
            "",
            "| what | × `python -c pass` | × script |",
            "|---|---|---|",
            *(f"| {name} | {median / floor:.1f} | {median / script:.2f} |" for name, median in medians.items()),
        ]
        print("\n".join(table))
        if arguments.write:
            write("startup", table)
        lines = [json.loads(line) for line in (Path(home) / "usage.jsonl").read_text().splitlines()]
        assert len(lines) == arguments.runs + 1 and all(line["status"] == "ok" for line in lines)
    server.terminate()
    server.wait()


if __name__ == "__main__":
    main()
