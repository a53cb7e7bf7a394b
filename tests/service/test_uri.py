"""A URI is accepted exactly as written or refused: nothing is normalised before a comparison."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.aggregates.settings import ClientSettings, TenantSettings
from service.errors import OAuthError
from service.registry.parse_settings import parse as parse_settings
from service.uri import is_resource, page_fault, parse, redirect_fault

GOOD_REDIRECTS = [
    "https://app.example/cb",
    "https://app.example:8443/cb?x=1&y=%20",
    "https://app.example",
    "https://[2001:db8::1]/cb",
    "https://[::ffff:192.0.2.1]/cb",
    "https://192.0.2.1/cb",
    "https://xn--mnchen-3ya.example/cb",
    "https://a--b.1a.example/cb",
    "https://intranet/cb",
    "http://127.0.0.1/cb",
    "http://127.0.0.1:51234/cb",
    "http://[::1]:80/cb",
    "http://localhost:3000/cb",
    "com.example.app:/oauth2redirect/example-provider",
    "com.example.app://cb",
]
BAD_EVERYWHERE = [
    "https://app.example/c\tb",
    "https://app.example/cb\r\n",
    "https://app.example/cb\n",
    "https://app.example/c b",
    " https://app.example/cb",
    "https://app.example/cb#",
    "https://app.example/cb#x",
    "https://app.example\\@evil.example/",
    "https://app.example/%zz",
    "https://app.example/é",
    "https://exa\u200bmple.org/",
    "https://[::1",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "data:text/html,x",
    "vbscript:x",
    "https:",
    "https://",
    "https:///cb",
    "https:app.example",
    "https://:443/cb",
    "https://app.example:99999/cb",
    "https://app.example:0/cb",
    "https://app.example:/cb",
    "https://user@app.example/cb",
    "https://user:pass@app.example/cb",
    "https://@app.example/cb",
    "http://app.example/cb",
    "http://127.0.0.1.evil.example/cb",
    "http://user@127.0.0.1/cb",
    "http://127.0.0.1/cb#x",
    "http://127.1/cb",
    "https://[....]/cb",
    "https://[1:2]/cb",
    "https://[::1%25eth0]/cb",
    "https://[127.0.0.1]/cb",
    "https://%00/cb",
    "https://%61pp.example/cb",
    "https://*.example.com/cb",
    "https://./cb",
    "https://-/cb",
    "https://-a.example/cb",
    "https://a-.example/cb",
    "https://a..example/cb",
    "https://app.example./cb",
    "https://a_b.example/cb",
    "https://a,b.example/cb",
    "https://" + "a" * 64 + ".example/cb",
    "https://" + "a." * 127 + "example/cb",
    "https://1/cb",
    "https://127.1/cb",
    "https://127.0.0.01/cb",
    "https://0x7f.0.0.0x1/cb",
    "https://app.0x/cb",
    "https://256.0.0.1/cb",
    "//app.example/cb",
    "/cb",
    "app.example/cb",
    "",
    "x" * 3000,
    "https://app.example/" + "x" * 2048,
]
BAD_REDIRECTS = [
    *BAD_EVERYWHERE,
    "app:/cb",
    "urn:ietf:wg:oauth:2.0:oob",
    "com.example.app:",
    "com.example.app:/",
    "x.:/a",
]
BAD_PAGES = [
    *BAD_EVERYWHERE,
    "https://acme.example/?q",
    "https://acme.example?",
    "urn:heirloom:other",
    "com.example.app:/x",
]


@pytest.mark.parametrize("uri", GOOD_REDIRECTS)
def test_redirect_uris_of_web_and_native_apps_are_accepted(uri: str) -> None:
    """RFC 8252 §7.1 to §7.3: an app's own scheme, https, and the loopback with any port."""
    assert redirect_fault(uri) is None
    assert parse_settings(ClientSettings, {"redirect_uris": [uri]}).redirect_uris == (uri,)


@pytest.mark.parametrize("uri", BAD_REDIRECTS)
def test_a_redirect_uri_that_could_lead_elsewhere_is_refused(uri: str) -> None:
    """RFC 6749 §3.1.2, RFC 8252 §7, §8.3: absolute, without fragment, script and user, with a real host."""
    assert redirect_fault(uri) is not None
    with pytest.raises(OAuthError, match="redirect_uris: "):
        parse_settings(ClientSettings, {"redirect_uris": [uri]})


@pytest.mark.parametrize("name", ["issuer", "verification_uri"])
@pytest.mark.parametrize("uri", BAD_PAGES)
def test_an_issuer_and_a_page_for_people_are_https_urls(name: str, uri: str) -> None:
    """RFC 8414 §2, RFC 8628 §3.2: no URL that a browser would run, or that reads as another one."""
    with pytest.raises(OAuthError, match=f"{name}: "):
        parse_settings(TenantSettings, {name: uri})


@pytest.mark.parametrize("uri", ["https://acme.example", "https://acme.example/a/b", "http://localhost:8080/t"])
def test_https_and_the_loopback_are_issuers(uri: str) -> None:
    """Exactly as written, with or without a slash at the end."""
    assert parse_settings(TenantSettings, {"issuer": uri, "verification_uri": uri}).issuer == uri
    assert page_fault(uri) is None


@pytest.mark.parametrize(
    ("given_uri", "registered", "same"),
    [
        ("http://127.0.0.1:5/cb", "http://127.0.0.1/cb", True),
        ("http://[::1]:5/cb?a=1", "http://[::1]:9/cb?a=1", True),
        ("http://127.0.0.1:5/CB", "http://127.0.0.1/cb", False),
        ("http://127.0.0.1:5/cb?", "http://127.0.0.1/cb", False),
        ("http://127.0.0.1:5/cb#", "http://127.0.0.1/cb", False),
        ("http://me@127.0.0.1:5/cb", "http://127.0.0.1/cb", False),
        ("http://[::1]:5/cb", "http://127.0.0.1/cb", False),
        ("http://localhost:5/cb", "http://localhost/cb", False),
        ("https://127.0.0.1:5/cb", "https://127.0.0.1/cb", False),
        ("http://127.0.0.1:99999/cb", "http://127.0.0.1/cb", False),
    ],
)
def test_only_the_port_of_a_loopback_address_may_differ(given_uri: str, registered: str, same: bool) -> None:
    """RFC 8252 §7.3, §8.3: no user, no fragment, no other host or path; `localhost` is compared literally."""
    theirs, ours = parse(given_uri), parse(registered)
    assert ours is not None and (theirs is not None and theirs.is_same_loopback(ours)) == same


@pytest.mark.parametrize(("uri", "good"), [("urn:x:y", True), ("https://a.example/?q", True), ("nowhere", False)])
def test_a_resource_is_an_absolute_uri(uri: str, good: bool) -> None:
    """RFC 8707 §2."""
    assert is_resource(uri) is good
    assert not is_resource(uri + "#")


@given(st.text(st.sampled_from("ht:/#?@[]%\\\t\r\n \x0b\x0c\x00aA1.é"), max_size=24))
def test_an_accepted_uri_is_what_was_written(text: str) -> None:
    """RFC 3986: its parts put together give the same text, and the standard library finds the same host."""
    uri = parse("https://" + text)
    if uri is None or uri.host is None:
        return
    user = "" if uri.userinfo is None else f"{uri.userinfo}@"
    port = "" if uri.port is None else f":{uri.port}"
    query = "" if uri.query is None else f"?{uri.query}"
    fragment = "" if uri.fragment is None else f"#{uri.fragment}"
    assert f"{uri.scheme}://{user}{uri.host}{port}{uri.path}{query}{fragment}" == "https://" + text
    if uri.is_web:
        assert urlsplit("https://" + text).hostname == uri.host.strip("[]").lower()
