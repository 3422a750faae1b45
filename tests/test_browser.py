"""What a reader's browser promises: the built book works, and calls nobody else.

Needs the built book (`make book`) and a Chromium; says so and skips where there is none.
A screenshot of the top of every page is left in `_build/screenshots` to be looked at; with the
environment variable SCREENSHOTS=all (`make screenshots`), the whole page in pieces.
"""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import yaml

from tests.notebooks import NAMES, ROOT, repository_url

pytestmark = pytest.mark.browser

HTML = ROOT / "_build" / "html"
SCREENSHOTS = ROOT / "_build" / "screenshots"
CANDIDATES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
PIECE = 4000  # pixels
WHOLE_PAGES = os.environ.get("SCREENSHOTS") == "all"


def pages() -> list[str]:
    """Every page of the book, from the table of contents."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *files]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    if not (HTML / "index.html").exists():
        pytest.skip("the book is not built; run `make book` first")
    handler = functools.partial(QuietHandler, directory=str(HTML))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CANDIDATES)), None)
    if found is None:
        pytest.skip(f"no Chromium here (looked for {', '.join(CANDIDATES)}; or set CHROMIUM)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, origin):
    """Open a page; at the end, nothing may have been asked of another origin or failed."""
    foreign, failed, errors = [], [], []

    def record(response):
        if response.status >= 400:
            failed.append(response.url)

    def go(page_name, viewport=DESKTOP, scheme="light"):
        context = browser.new_context(
            viewport=viewport, color_scheme=scheme, reduced_motion="reduce"
        )
        page = context.new_page()
        page.on(
            "request",
            lambda request: (
                foreign.append(request.url)
                if urlsplit(request.url).scheme in {"http", "https", "ws", "wss"}
                and not request.url.startswith(origin)
                else None
            ),
        )
        page.on("response", record)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{origin}/{page_name}.html", wait_until="networkidle")
        page.wait_for_function("document.documentElement.dataset.theme !== ''")
        contexts.append(context)
        return page

    contexts: list = []
    yield go
    for context in contexts:
        context.close()
    assert foreign == [], "the page asked another origin"
    assert failed == [], "something on the page is missing"
    assert errors == [], "a script failed"


def photograph(page, name):
    """Take the whole page in pieces: Chromium leaves the end of a long picture black."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    width, height = page.viewport_size["width"], page.evaluate("document.body.scrollHeight")
    tops = range(0, height, PIECE)
    for number, top in enumerate(tops if WHOLE_PAGES else tops[:1], start=1):
        clip = {"x": 0, "y": top, "width": width, "height": min(PIECE, height - top)}
        path = SCREENSHOTS / f"{name}-{number:02}.png"
        page.screenshot(path=path, full_page=True, clip=clip)


@pytest.mark.parametrize("name", pages())
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_page_fits_its_screen_and_calls_nobody(visit, name, viewport, scheme):
    page = visit(name, viewport, scheme)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    sideways = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert sideways <= 0, f"the page is {sideways} pixels wider than the screen"
    device = "phone" if viewport is PHONE else "desktop"
    photograph(page, f"{name.replace('/', '-')}-{device}-{scheme}")


@pytest.mark.parametrize("name", NAMES)
def test_every_chapter_has_its_buttons(visit, name):
    page = visit(f"notebooks/{name}")
    links = page.eval_on_selector_all("a", "all => all.map(a => a.href)")
    repository = repository_url().removeprefix("https://github.com/")
    colab = (
        f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}.ipynb"
    )
    assert colab in links
    assert any(link.endswith(f"/_sources/notebooks/{name}.ipynb") for link in links), "download"
    source = f"{repository_url()}/blob/main/notebooks/{name}.ipynb"
    assert any(link.partition("?")[0] == source for link in links), "source"
    assert repository_url() in links


@pytest.mark.parametrize("name", NAMES)
def test_every_formula_is_set_and_every_figure_described(visit, name):
    page = visit(f"notebooks/{name}")
    page.wait_for_selector("mjx-container")
    assert page.locator("mjx-merror").count() == 0
    alts = page.eval_on_selector_all(".cell_output img", "all => all.map(i => i.alt)")
    assert alts, "a chapter without a figure"
    assert all(len(alt.split()) >= 8 for alt in alts)


def test_pictures_whose_colors_are_told_keep_them_in_the_dark(visit):
    """A red kite stays red, though figures are turned over."""
    page = visit("notebooks/17_multimodality", scheme="dark")
    filters = {
        kind: page.eval_on_selector_all(
            f".cell_output img{kind}", "all => all.map(i => getComputedStyle(i).filter)"
        )
        for kind in (".true-colors", ":not(.true-colors)")
    }
    assert len(filters[".true-colors"]) == 4
    assert set(filters[".true-colors"]) == {"none"}
    assert all("invert" in row for row in filters[":not(.true-colors)"])


@pytest.mark.parametrize("name", NAMES)
def test_hints_and_solutions_open_when_asked(visit, name):
    page = visit(f"notebooks/{name}")
    fold = page.locator("details", has_text="Solution").last
    code = fold.locator("pre").first
    assert not code.is_visible()
    fold.locator("summary").first.click()
    assert code.is_visible()


def test_links_of_the_claims_lead_to_the_sections_that_decide_them(visit):
    page = visit("notebooks/02_attention")
    targets = page.eval_on_selector_all(
        ".cell_output table a[href^='#']", "all => all.map(a => a.getAttribute('href'))"
    )
    assert len(targets) >= 10
    for target in set(targets):
        assert page.locator(f"[id='{target[1:]}']").count() == 1, target


def test_the_picture_on_the_first_page_leads_to_every_chapter(visit):
    page = visit("book/index")
    links = page.eval_on_selector_all("svg.gpt-map a", "all => all.map(a => a.href.baseVal)")
    assert {link.removeprefix("../notebooks/") for link in links} == {
        f"{name}.html" for name in NAMES
    }
    for link in links:
        assert page.request.get(page.url.replace("/book/index.html", link[2:])).ok, link


def test_every_page_says_under_which_license_it_stands(visit):
    page = visit("notebooks/02_attention")
    assert page.locator("footer a[href*='creativecommons.org/licenses/by/4.0']").count() == 1


def test_search_finds_a_chapter(visit):
    page = visit("search")
    page.goto(page.url + "?q=causal+mask", wait_until="networkidle")
    page.wait_for_selector("ul.search li a")
    found = page.eval_on_selector_all("ul.search li a", "all => all.map(a => a.href)")
    assert any("02_attention" in link for link in found)


def test_the_theme_can_be_changed(visit):
    page = visit("book/index")
    seen = set()
    for _ in range(3):
        page.locator("button.theme-switch-button:visible").first.click()
        seen.add(page.evaluate("document.documentElement.dataset.theme"))
    assert seen == {"light", "dark"}


def test_a_phone_can_reach_every_chapter(visit):
    page = visit("book/index", PHONE)
    link = page.locator(".bd-sidebar-primary a", has_text="Attention").first
    page.locator("button.primary-toggle:visible, label.sidebar-toggle:visible").first.click()
    link.scroll_into_view_if_needed()
    assert link.is_visible()
