"""The console's login, sessions, host names and headers."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from heirloom.console.access_gate import COOKIE
from heirloom.console.login import GUESSES, GUESSES_SECONDS, Login, TooManyGuesses
from heirloom.console.options import CannotServe, ConsoleOptions, check, new_token, read_token
from tests.console.site import TOKEN, Site, site

PATHS = (
    *("/", "/read-model", "/read-model.json", "/read-model/incidents", "/read-model/incidents.json"),
    *(
        "/read-model/readable_families",
        "/read-model/readable_families.csv",
        "/read-model/readable_families.csv?_stream=1",
    ),
    *(
        "/read-model?sql=select+1",
        "/read-model.db",
        "/_internal",
        "/-/",
        "/-/plugins",
        "/-/plugins.json",
        "/-/versions.json",
    ),
    *("/-/metadata.json", "/-/settings.json", "/-/databases.json", "/-/threads.json", "/-/actor.json", "/-/patterns"),
    *("/-/allow-debug", "/-/permissions", "/-/messages", "/-/logout", "/-/auth-token?token=x", "/-/static/app.css"),
    *("/-/static-plugins/x/y", "/favicon.ico", "/robots.txt", "//", "/static/../login.py", "/login/", "/logout"),
)


@pytest.fixture
async def stranger(read_model: Path) -> AsyncIterator[Site]:
    """A browser that has not logged in."""
    async with site(read_model, logged_in=False) as browser:
        yield browser


async def test_nothing_is_shown_without_the_login(stranger: Site) -> None:
    """Browsers are redirected to the login, programs are refused."""
    for path in PATHS:
        person, program = await stranger.get(path), await stranger.client.get(path)
        assert person.status_code in (303, 401), path
        assert person.text in ("", "Log in first.\n"), path
        if person.status_code == 303:
            assert person.headers["location"].startswith("/login?next=")
        assert (program.status_code, program.text) == (401, "Log in first.\n"), path


@pytest.mark.parametrize("path", ["/login", "/static/console.css", "/static/icon.svg"])
async def test_public_pages(stranger: Site, path: str) -> None:
    """The login form, its style and its icon."""
    response = await stranger.get(path)
    assert response.status_code == 200
    assert "hrt_" not in response.text


async def test_logging_in_and_out(stranger: Site) -> None:
    """The token opens a session; the cookie is HttpOnly, and void after the logout."""
    asked = await stranger.get("/read-model/incidents?sub=user2")
    onward = "/read-model/incidents?sub=user2"
    assert asked.headers["location"] == "/login?next=%2Fread-model%2Fincidents%3Fsub%3Duser2"
    answer = await stranger.client.post("/login", data={"token": f" {TOKEN}\n", "next": onward})
    assert (answer.status_code, answer.headers["location"]) == (303, onward)
    for attribute in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=28800"):
        assert attribute in answer.headers["set-cookie"]
    assert TOKEN not in answer.headers["set-cookie"]
    cookie = stranger.cookie
    assert cookie is not None
    assert (await stranger.get("/")).status_code == 200
    assert (await stranger.client.post("/logout")).headers["location"] == "/login"
    assert (await stranger.get("/", headers={"cookie": f"{COOKIE}={cookie}", "accept": "text/html"})).status_code == 303


@pytest.mark.parametrize(
    "token", ["", "wrong", TOKEN[:-1], TOKEN.upper(), "\ud83d".encode("utf-8", "replace").decode()]
)
async def test_a_wrong_token(stranger: Site, token: str) -> None:
    """It is refused, and not repeated."""
    answer = await stranger.log_in(token)
    assert (answer.status_code, stranger.cookie) == (401, None)
    assert "That is not the token." in answer.text
    assert not token or token not in answer.text


@pytest.mark.parametrize("change", ["", "x", "cut", "of another console"])
async def test_a_forged_cookie(stranger: Site, change: str) -> None:
    """Only a cookie signed by this console is accepted."""
    await stranger.log_in()
    cookie = stranger.cookie or ""
    forged = {"": "", "x": cookie + "x", "cut": cookie[4:], "of another console": Login(TOKEN).open(TOKEN, "") or ""}
    headers = {"cookie": f"{COOKIE}={forged[change]}"}
    stranger.client.cookies.clear()
    assert (await stranger.client.get("/read-model.json", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    "onward", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere", "/-/x", "", "\n/"]
)
async def test_the_login_redirects_only_within_the_console(stranger: Site, onward: str) -> None:
    """Whatever `next` says."""
    answer = await stranger.client.post("/login", data={"token": TOKEN, "next": onward})
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.example"},
        {"origin": "https://localhost.elsewhere.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site"},
    ],
    ids=["origin", "alike", "null", "another port", "cross-site"],
)
@pytest.mark.parametrize("path", ["/login", "/logout"])
async def test_forms_of_other_sites(console: Site, path: str, headers: dict[str, str]) -> None:
    """They neither open nor end a session."""
    answer = await console.client.post(path, data={"token": TOKEN}, headers=headers)
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert (await console.get("/")).status_code == 200


async def test_a_form_that_is_too_long(stranger: Site) -> None:
    """It is not read into memory."""
    answer = await stranger.client.post("/login", content=b"token=" + b"x" * 100_000)
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "host", ["elsewhere.example", "127.0.0.1.elsewhere.example:8001", "", "localhost@evil:1", "[::2]"]
)
async def test_another_host_name(console: Site, host: str) -> None:
    """A name that somebody else points at this address shows nothing (DNS rebinding)."""
    answer = await console.client.get("/static/console.css", headers={"host": host})
    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8001", "localhost", "[::1]:8001", "LOCALHOST:1"])
async def test_its_own_host_names(console: Site, host: str) -> None:
    """With any port, which a proxy may change."""
    assert (await console.get("/", headers={"host": host, "accept": "text/html"})).status_code == 200


async def test_security_headers(console: Site) -> None:
    """On every response: no script, nothing from other sites, no frame, no cache, no sniffing of types."""
    answers = [
        await console.get(path) for path in ("/", "/read-model/incidents.json", "/static/console.css", "/nowhere")
    ]
    answers.append(await console.client.get("/", headers={"host": "elsewhere.example"}))
    for headers in (answer.headers for answer in answers):
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'")
        assert "script-src" not in policy
        assert "unsafe" not in policy
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


async def test_behind_tls(read_model: Path, tmp_path: Path) -> None:
    """The cookie is for https and this host only, and HSTS is on."""
    async with site(read_model, logged_in=False, host="0.0.0.0", names=("console.example",), cert=tmp_path) as browser:
        browser.client.base_url = httpx.URL("https://console.example")
        answer = await browser.log_in()
        assert answer.headers["set-cookie"].startswith(f"__Host-{COOKIE}=")
        assert "Secure" in answer.headers["set-cookie"]
        assert answer.headers["strict-transport-security"]
        assert (await browser.get("/")).status_code == 200


async def test_without_a_login(read_model: Path) -> None:
    """Everybody on this machine may see it, but only by its own host names."""
    async with site(read_model, login=False) as browser:
        assert (await browser.get("/")).status_code == 200
        assert (await browser.get("/", headers={"host": "elsewhere.example"})).status_code == 421


def test_guessing_is_slow() -> None:
    """After some wrong tokens each further one must wait; the right one always opens; other addresses do not wait."""
    now = 0.0
    login = Login(TOKEN, clock=lambda: now)
    for _ in range(GUESSES):
        assert login.open("guess", "10.0.0.1") is None
        now += 1
    with pytest.raises(TooManyGuesses) as wait:
        login.open("guess", "10.0.0.1")
    assert 0 < wait.value.seconds <= GUESSES_SECONDS
    assert login.open(TOKEN, "10.0.0.1") is not None
    assert login.open("guess", "10.0.0.2") is None
    now += GUESSES_SECONDS
    assert login.open("guess", "10.0.0.1") is None


async def test_too_many_guesses_are_refused(stranger: Site) -> None:
    """With the time to wait; the right token still logs in from the same address."""
    for _ in range(GUESSES):
        assert (await stranger.log_in("guess")).status_code == 401
    answer = await stranger.log_in("guess")
    assert (answer.status_code, stranger.cookie) == (429, None)
    assert int(answer.headers["retry-after"]) > 0
    assert (await stranger.log_in()).status_code == 303
    assert (await stranger.get("/")).status_code == 200


OPEN_TO_OTHERS = ConsoleOptions(
    Path("model"), host="0.0.0.0", cert=Path("c"), key=Path("k"), names=("console.example",)
)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (OPEN_TO_OTHERS._replace(login=False, names=()), "--no-login is for a loopback address alone"),
        (OPEN_TO_OTHERS._replace(cert=None, key=None), "--tls-cert and --tls-key"),
        (OPEN_TO_OTHERS._replace(host="192.0.2.1", cert=None, key=None), "--tls-cert and --tls-key"),
        (OPEN_TO_OTHERS._replace(host="console.example", cert=None, key=None), "--tls-cert and --tls-key"),
        (OPEN_TO_OTHERS._replace(key=None), "needs its key"),
        (OPEN_TO_OTHERS._replace(names=()), "--name"),
        (OPEN_TO_OTHERS._replace(sql=True, tenant="acme"), "every tenant"),
        (ConsoleOptions(Path("model"), login=False, sql=True), "--sql needs the login"),
        (ConsoleOptions(Path("model"), login=False, names=("console.example",)), "proxy"),
    ],
)
def test_unsafe_options_are_refused(options: ConsoleOptions, why: str) -> None:
    """In one line."""
    with pytest.raises(CannotServe, match=why):
        check(options)


def test_safe_options() -> None:
    """The default, without login on loopback, and on another address with everything in place."""
    for options in (ConsoleOptions(Path("m")), ConsoleOptions(Path("m"), host="::1", login=False), OPEN_TO_OTHERS):
        check(options)


def test_a_token_from_a_file(tmp_path: Path) -> None:
    """It must be private and long enough."""
    file = tmp_path / "token"
    file.write_text(f"{new_token()}\n")
    file.chmod(0o644)
    with pytest.raises(CannotServe, match="chmod 600"):
        read_token(file)
    file.chmod(0o600)
    assert len(read_token(file)) == 43
    file.write_text("short")
    with pytest.raises(CannotServe, match="short enough to be guessed"):
        read_token(file)
    with pytest.raises(CannotServe, match="cannot read"):
        read_token(tmp_path / "nowhere")
