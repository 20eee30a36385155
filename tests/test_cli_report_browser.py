"""The review in a real browser: it shows, it prints, no script runs, and nothing is asked of the network."""

from __future__ import annotations

import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from conftest import Run
from usage_lines import call, write

MONDAY = datetime(2026, 11, 9, tzinfo=UTC)
Browse = Callable[..., str]


@pytest.fixture
def browse(need: Callable[[str], str], tmp_path: Path) -> Browse:
    """Run the browser on a page, with further options, and give what it prints."""
    chromium = need("chromium")

    def run(page: Path, *options: str) -> str:
        done = subprocess.run(
            [
                chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1100,900", *options, page.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


class Server(ThreadingHTTPServer):
    """Answers everything, and knows what was asked."""

    asked: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Answer) as found:
        found.asked = []
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def page(run_callmeter: Run, home: Path, tmp_path: Path, server: Server) -> Path:
    """A review of a log in which every name is an attack."""
    attacks = [
        "<script>document.title='ran'</script>",
        f"<script src={server.url}/script></script>",
        f'"><img src={server.url}/image onerror=document.title="ran">',
        f"</style><style>body{{background:url({server.url}/style)}}</style>",
        f"</svg><iframe src={server.url}/frame></iframe>",
        f"<link rel=stylesheet href={server.url}/link><meta http-equiv=refresh content='0;url={server.url}/meta'>",
        "{{ 7 * 191 }}",
    ]
    lines = [
        call(
            MONDAY + timedelta(days=number % 14 - 7, hours=9),
            tags={"agent": attack, "purpose": attack, "environment": attack, "work_item": attack},
            model=attack,
            cost=Decimal(number + 1).scaleb(-1),
            status="error" if number % 5 == 0 else "ok",
            error=attack,
        )
        for number, attack in enumerate(attacks * 4)
    ]
    write(home / "usage.jsonl", lines)
    path = tmp_path / "week.html"
    done = run_callmeter("budget", "report", "--out", path, "--as-of", "2026-11-16T06:00")
    assert done.returncode == 0, done.stderr
    return path


def corner(png: Path) -> tuple[int, ...]:
    """The first pixel of an image: of the page's background."""
    data = png.read_bytes()
    assert data.startswith(b"\x89PNG")
    place, parts = 8, b""
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] == b"IDAT":
            parts += data[place + 8 : place + 8 + size]
        place += size + 12
    return tuple(zlib.decompress(parts)[1:4])  # filters leave the first pixel as it is


def test_no_script_runs_and_nothing_is_asked_of_the_network(browse: Browse, page: Path, server: Server) -> None:
    document = browse(page, "--dump-dom")
    assert "<title>Review of week 46 of 2026, 9 to 15 November</title>" in document
    assert "<script" not in document
    assert "<iframe" not in document
    assert "<img" not in document
    assert "1337" not in document
    assert document.count('role="img"') == 2
    assert server.asked == []


def test_the_page_forbids_what_slips_in(browse: Browse, page: Path, server: Server, tmp_path: Path) -> None:
    slipped = f"<body><img src={server.url}/image><script>document.title='ran'</script>"
    text = page.read_text()
    page.write_text(text.replace("<body>", slipped))
    assert "<title>Review of week 46" in browse(page, "--dump-dom")
    assert server.asked == []
    # And the same page without its policy shows that this browser would have.
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    page.write_text(text.replace("<body>", slipped).replace(policy, "default-src * 'unsafe-inline'"))
    assert "<title>ran</title>" in browse(page, "--dump-dom")
    assert server.asked == ["/image"]


def test_it_is_light_or_dark_as_the_reader_prefers(browse: Browse, page: Path, tmp_path: Path) -> None:
    light, dark = tmp_path / "light.png", tmp_path / "dark.png"
    browse(page, f"--screenshot={light}")
    browse(page, "--blink-settings=preferredColorScheme=0", "--force-dark-mode", f"--screenshot={dark}")
    assert min(corner(light)) > 230
    assert max(corner(dark)) < 40


def test_on_a_phone_sentences_fit_though_tables_scroll(browse: Browse, page: Path) -> None:
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    measure = """<script>document.title = [...document.querySelectorAll('tr.below p')].map(
        p => p.getBoundingClientRect().right <= innerWidth)</script></body>"""
    text = page.read_text().replace(policy, "default-src 'unsafe-inline'")
    page.write_text(text.replace("</body>", measure))
    document = browse(page, "--window-size=420,900", "--dump-dom")
    title = document.partition("<title>")[2].partition("</title>")[0]
    assert set(title.split(",")) == {"true"}


def test_it_prints(browse: Browse, page: Path, tmp_path: Path) -> None:
    paper = tmp_path / "week.pdf"
    browse(page, "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    assert paper.read_bytes().startswith(b"%PDF")
    assert paper.stat().st_size > 10_000
