"""A headless Chromium, and pages in it that note whatever goes wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)


@attrs.define
class Opened:
    """A page in the browser, and what it did that it should not.

    Args:
        requests: whatever was asked for beside the file itself and what is in it.
    """

    page: Any
    errors: list[str]
    requests: list[str]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        yield running
        running.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """Return a function that opens a file: `opened(path, scheme="dark", width=390)`."""
    contexts: list[Any] = []

    def open_file(path: Path, *, scheme: str = "light", width: int = 1280) -> Opened:
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        seen = Opened(page, [], [])
        page.on("console", lambda message: seen.errors.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("dialog", lambda dialog: (seen.errors.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda asked: _note(seen, asked.url, path))
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.dataset.drawn") is not None, seen.errors
        return seen

    yield open_file
    for context in contexts:
        context.close()


def _note(seen: Opened, url: str, path: Path) -> None:
    if url != path.as_uri() and not url.startswith(("data:", "blob:")):
        seen.requests.append(url)
