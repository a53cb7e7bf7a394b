"""The console in a real browser: the theft of the demo is found by clicking."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.console.browser import chromium, running
from tests.seed import client, seed, tenant
from tests.system.service import PATIENCE_SECONDS, Service
from tests.system.service import running as service_running

SEED = seed(tenant("acme"), client("web", grant_types=["refresh_token"], scope="read offline_access", may_issue=True))

PAGES = "family?family_id=f2", "incidents", "readable_families?status=live", "readable_revocations"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """One browser for all tests of this module."""
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def service(browser: webdriver.Chrome, tmp_path: Path) -> Iterator[Service]:
    """A service, only started if there is a browser."""
    with service_running(tmp_path / "data", seed=SEED) as service:
        yield service


async def test_the_theft_is_found_by_clicking(browser: webdriver.Chrome, service: Service) -> None:
    """Log in; from the dashboard to the incident's family, its timeline, its blast radius and its person; log out."""
    await theft(service)
    with running("--data", service.data) as console:
        browser.get(console.url)
        assert heading(browser) == "Heirloom"
        browser.find_element(By.ID, "token").send_keys("a guess")
        with another_page(browser):
            click(browser, "button")
        assert "not the token" in browser.find_element(By.CSS_SELECTOR, "[role=alert]").text
        browser.find_element(By.ID, "token").send_keys(console.token)
        with another_page(browser):
            click(browser, "button")
        assert heading(browser) == "The last 24 hours"
        assert browser.find_element(By.CSS_SELECTOR, ".reuse figcaption b").text == "1"
        assert "generation 0 shown by web, the newest was 2" in text(browser, ".incidents")
        follow(browser, ".incidents td:nth-child(3) a")
        assert heading(browser) == "Timeline of a family"
        assert "reuse_detected" in text(browser, "dl.family")
        events = [row.text.split() for row in browser.find_elements(By.CSS_SELECTOR, "td.events")]
        assert [row[0] for row in events] == ["GrantAuthorized", "TokenRedeemed", "TokenRedeemed", "TokenReuseDetected"]
        assert text(browser, "tbody tr:last-child td.presented") == "generation 0 by web"
        follow(browser, ".onward a:nth-of-type(2)")
        assert heading(browser) == "Blast radius of a theft"
        kinds = [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "td.kind")]
        assert kinds == ["access", "access", "access", "refresh"]
        follow(browser, "dl.family a[href*='sub=']")
        assert heading(browser) == "History of a subject"
        with another_page(browser):
            click(browser, ".logout button")
        browser.get(f"{console.url}/read-model/incidents")
        assert "/login?next=" in browser.current_url
        assert_quiet(browser, ignoring="/login - Failed to load resource: the server responded with a status of 401")


def test_every_kind_of_page_opens(browser: webdriver.Chrome, read_model: Path) -> None:
    """Without browser errors: the policy refuses nothing, and nothing is missing."""
    with running("--read-model", read_model, "--no-login") as console:
        for page in ("", "/read-model", *(f"/read-model/{name}" for name in PAGES)):
            browser.get(f"{console.url}{page}")
            assert heading(browser)
            assert not browser.find_elements(By.CSS_SELECTOR, "[role=alert]")
        assert_quiet(browser)


async def theft(service: Service) -> None:
    """The demo's theft: a sign-in, two refreshes, and the first refresh token again."""
    async with service.client() as app, service.role("auditor") as auditor:
        first = await app.issue("alice", "read offline_access")
        second = await app.refresh(first["refresh_token"])
        await app.refresh(second["refresh_token"])
        assert (await app.refresh(first["refresh_token"]))["error"] == "invalid_grant"
        end = (await auditor.ask("audit.acme.position", {}))["log_seq"]
        await auditor.ask("audit.acme.position", {"min_seq": end})


def heading(browser: webdriver.Chrome) -> str:
    """The page's heading."""
    return text(browser, "h1")


def text(browser: webdriver.Chrome, selector: str) -> str:
    """The text of the first such element."""
    return browser.find_element(By.CSS_SELECTOR, selector).text


def click(browser: webdriver.Chrome, selector: str) -> None:
    """Click the first such element."""
    browser.find_element(By.CSS_SELECTOR, selector).click()


def follow(browser: webdriver.Chrome, selector: str) -> None:
    """Click a link and wait for the next page."""
    with another_page(browser):
        click(browser, selector)


@contextmanager
def another_page(browser: webdriver.Chrome) -> Iterator[None]:
    """Wait at the end until the former page is gone."""
    page = browser.find_element(By.TAG_NAME, "html").id
    yield
    waiting = WebDriverWait(browser, PATIENCE_SECONDS)
    waiting.until(lambda browser: browser.find_element(By.TAG_NAME, "html").id != page)


def assert_quiet(browser: webdriver.Chrome, ignoring: str = "nothing") -> None:
    """Fails if the browser's console has new messages."""
    said = [entry["message"] for entry in browser.get_log("browser") if ignoring not in entry["message"]]  # type: ignore[no-untyped-call]
    assert said == []
