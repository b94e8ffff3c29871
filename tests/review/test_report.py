"""
The report: complete without scripts, safe with any key, and quiet in a real browser.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.review.conftest import failed, lost, won, write
from toolkit.review import report
from toolkit.review.report.page import asset
from toolkit.review.simulate import Truth

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    '" onmouseover="alert(3)',
    "k\x1b[2J\u202eexe",
    "'-&amp;-${x}$title",
]


@pytest.fixture(scope="module")
def page(simulated: tuple[str, Truth], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(
        simulated[0], tmp_path_factory.mktemp("report") / "deep" / "report.html", title="Load test 7"
    )


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evil")
    lines = [won(n, key=key, writer=key, write_id=f"aa-{n}") for n, key in enumerate(EVIL)]
    lines += [lost(n + 9, key=key, writer=key, winner=f"aa-{n}", call_id=key) for n, key in enumerate(EVIL)]
    lines += [
        failed(n + 20, key=key, call_id=key, op=key, reason=key, error_type=key) for n, key in enumerate(EVIL)
    ]
    return report.write(write(path / "log", lines), path / "report.html", title=EVIL[0])


class Tags(HTMLParser):
    """Collects what could act or load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tags(path: Path) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser.tags


def block(path: Path) -> dict[str, object]:
    found = re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


def test_every_number_stands_in_the_page(page: Path, simulated: tuple[str, Truth]):
    """
    Without a script the page has the totals, every contended key and every pair.
    """
    truth, text = simulated[1], html.unescape(page.read_text(encoding="utf-8"))
    body = text.partition("<main")[2].partition("<script")[0]
    assert f"{truth.conflicts:,}" in body
    for key, losses in truth.losses.most_common(20):
        assert re.search(
            rf'<code class="key">{re.escape(key)}</code></th><td class="n" data-v="{losses}">', body
        )
    for count in truth.pairs.values():
        assert f">{count:,}</span>" in body


def test_the_page_is_small(page: Path):
    """
    At most 150 KB besides the data.
    """
    text = page.read_text(encoding="utf-8")
    fixed = len(asset("vendor/uPlot.iife.min.js")) + sum(
        len(asset(name))
        for name in ("vendor/uPlot.min.css", "assets/report.css", "assets/report.js", "assets/page.html")
    )
    assert fixed < 150_000
    assert len(text) < 500_000


def test_nothing_is_loaded(page: Path, evil: Path):
    """
    No element names an address, and the policy forbids what a mistake could add.
    """
    for path in (page, evil):
        for tag, attributes in tags(path):
            for name in ("src", "href", "action", "srcset", "data", "poster"):
                value = attributes.get(name)
                assert value is None or value.startswith("#") or (tag, value) == ("link", "data:,")
        assert "default-src 'none'" in path.read_text(encoding="utf-8")


def test_keys_are_text(evil: Path, page: Path):
    """
    Whatever a key contains, the page has the same elements with the same handlers: none.
    """
    kinds = {tag for tag, _ in tags(page)}
    assert {tag for tag, _ in tags(evil)} <= kinds
    assert [name for _, attributes in tags(evil) for name in attributes if name.startswith("on")] == []
    assert sum(tag == "script" for tag, _ in tags(evil)) == 3
    text = evil.read_text(encoding="utf-8")
    assert not set("\x1b\u202e") & set(text)
    assert "${x}$title" in html.unescape(text)
    assert {row["key"] for row in block(evil)["heat"]["rows"]} >= {EVIL[0], EVIL[1]}  # type: ignore[index]


def test_tables_and_charts_have_names(page: Path):
    """
    Tables have captions and header scopes, charts a label, the page a language and one first heading.
    """
    found = tags(page)
    assert sum(tag == "table" for tag, _ in found) == sum(tag == "caption" for tag, _ in found)
    assert all("scope" in attributes for tag, attributes in found if tag == "th")
    assert all(
        attributes.get("aria-label")
        for tag, attributes in found
        if tag == "canvas" or attributes.get("role") == "img"
    )
    assert [attributes.get("lang") for tag, attributes in found if tag == "html"] == ["en"]
    assert sum(tag == "h1" for tag, _ in found) == 1
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(ids) == len(set(ids))
    anchors = {str(attributes["href"])[1:] for tag, attributes in found if tag == "a"}
    assert anchors <= set(ids)


def test_an_empty_log_is_a_page(tmp_path: Path):
    """
    Nothing to show is said, not shown as an error.
    """
    text = report.write(write(tmp_path / "log", []), tmp_path / "r.html").read_text(encoding="utf-8")
    assert "no events" in text
    assert "Nobody lost." in text


def test_the_vendored_library_is_the_noted_one():
    """
    The hashes in its note are those of the files.
    """
    note = asset("vendor/README.md")
    for name in ("uPlot.iife.min.js", "uPlot.min.css"):
        assert f"`{name}` | `{hashlib.sha256(asset(f'vendor/{name}').encode()).hexdigest()}`" in note


browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr", "--v=0",
    "--virtual-time-budget=4000",
)  # fmt: skip

# Acts as a user would, then writes what it saw into the page.
PROBE = """<script>addEventListener("load", () => {
const heat = document.getElementById("heat"), seen = {};
seen.plots = document.querySelectorAll(".u-wrap canvas").length;
seen.drawn = heat && !heat.hidden && new Set(heat.getContext("2d").getImageData(0, 0, heat.width, 18).data).size > 4;
heat.focus();
heat.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
seen.said = document.getElementById("heat-said").textContent;
heat.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
seen.filter = document.getElementById("filter").value;
seen.shown = document.getElementById("shown").textContent;
document.querySelectorAll("details[data-table]").forEach((one) => { one.open = true; });
const hot = document.getElementById("hot");
hot.querySelectorAll("th button")[1].click();
seen.sort = hot.tHead.rows[0].cells[1].getAttribute("aria-sort");
document.getElementById("theme").click();
seen.theme = document.documentElement.dataset.theme;
seen.wide = document.documentElement.scrollWidth - innerWidth;
setTimeout(() => {
  seen.numbers = [...document.querySelectorAll("details[data-table] table")].map((one) => one.rows.length);
  document.title = "SEEN" + JSON.stringify(seen) + "SEEN";
}, 500);
});</script>"""


def browse(page: str, tmp_path: Path, width: int = 1280) -> tuple[str, str]:
    ran = subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    return ran.stdout, "\n".join(line for line in ran.stderr.splitlines() if "CONSOLE" in line)


@browser
@pytest.mark.parametrize("width", [500, 900, 1400])
def test_it_works_in_a_browser(page: Path, tmp_path: Path, width: int):
    """
    Charts are drawn, keyboard, filter, sort, theme and the tables of numbers work, nothing is wider than the window,
    and the console stays empty.
    """
    probed = tmp_path / "probed.html"
    probed.write_text(
        page.read_text(encoding="utf-8").replace("</body>", PROBE + "</body>"), encoding="utf-8"
    )
    dom, console = browse(probed.as_uri(), tmp_path, width)
    assert console == ""
    seen = json.loads(html.unescape(dom.split("SEEN")[1]))
    assert seen["plots"] == 2
    assert seen["drawn"] is True
    assert "losses in the" in seen["said"]
    assert seen["filter"] == block(page)["heat"]["rows"][0]["key"]  # type: ignore[index]
    assert re.fullmatch(r"\d+ of \d+ keys", seen["shown"])
    assert seen["sort"] == "descending"
    assert seen["theme"] in ("light", "dark")
    assert all(rows > 2 for rows in seen["numbers"])
    assert len(seen["numbers"]) == 3
    assert seen["wide"] <= 0


@browser
def test_evil_keys_do_nothing_in_a_browser(evil: Path, tmp_path: Path):
    """
    No alert, no error: the page is drawn with its keys as text.
    """
    dom, console = browse(evil.as_uri(), tmp_path)
    assert console == ""
    assert "u-wrap" in dom


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str], Path]]:
    paths: list[str] = []
    holder: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(holder["page"])

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/report.html", paths, holder  # type: ignore[misc]
    server.shutdown()
    thread.join()
    server.server_close()


@browser
def test_a_browser_asks_for_nothing_else(
    page: Path, tmp_path: Path, asked: tuple[str, list[str], dict[str, bytes]]
):
    """
    Served over HTTP, where relative addresses and icons would be asked for, there is one request: the page.
    """
    url, paths, holder = asked
    holder["page"] = page.read_bytes()
    browse(url, tmp_path)
    assert paths == ["/report.html"]
