"""Headless Chromium with its own profile, and a console started as its users start it."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service as Driver

from tests.system.service import HEIRLOOM, PATIENCE_SECONDS

WIDTH, HEIGHT = 1400, 840
_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)


@contextmanager
def chromium(profile: Path, *, scale: int = 1) -> Iterator[webdriver.Chrome]:
    """A browser with `scale` dots to a pixel; the test is skipped if none is installed."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs Chromium and chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for option in (
        *_OPTIONS,
        f"--user-data-dir={profile}",
        f"--window-size={WIDTH},{HEIGHT}",
        f"--force-device-scale-factor={scale}",
    ):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Driver(driver))  # both paths given: no search, no download
    try:
        browser.set_page_load_timeout(PATIENCE_SECONDS)
        yield browser
    finally:
        browser.quit()


class Console:
    """A running `heirloom console`: its URL and its login token."""

    def __init__(self, process: subprocess.Popen[str], url: str, token: str) -> None:
        self.url = url
        self.token = token
        self._process = process

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Stop it; the exit status."""
        self._process.send_signal(signum)
        return self._process.wait(PATIENCE_SECONDS)


@contextmanager
def running(*arguments: str | os.PathLike[str]) -> Iterator[Console]:
    """The command on a free port; killed at the end."""
    with subprocess.Popen(
        [HEIRLOOM, "console", "--port", "0", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            ready = process.stdout.readline()
            assert ready.startswith("ready http"), process.stderr.read()
            token = "" if "--no-login" in arguments else process.stderr.readline().rpartition(" ")[2].strip()
            yield Console(process, ready.split()[1], token)
        finally:
            process.kill()
