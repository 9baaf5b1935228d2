"""A headless Chromium, the one of this system, driven by Playwright."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

# One that is named is not looked for: if it cannot be started, that is an error.
BINARY = os.environ.get("CHROMIUM") or next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser with an empty profile, whose windows have scroll bars, as those on a screen.

    While it is open, an event loop runs in this thread: others that need one have to wait.
    """
    assert BINARY is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BINARY, ignore_default_args=["--hide-scrollbars"]
        )
        yield browser
        browser.close()


def settle(page: Page) -> None:
    """Waits until what was asked for is on the screen."""
    frames = "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done)))"
    page.evaluate(f"new Promise((done) => {frames})")


def wait(page: Page, condition: str) -> None:
    """Waits until a condition holds in the page, for ten seconds at most.

    Playwright's `wait_for_function` is forbidden by the security policy of the page.
    """
    until = time.monotonic() + 60
    while not page.evaluate(condition):
        assert time.monotonic() < until, f"in vain: {condition}"
        settle(page)
