"""Checks text that strangers chose, and makes it safe to show on a terminal.

A control character moves the cursor or clears the screen, a bidirectional override shows a name backwards, and a line
separator forges a line. The joiners with which some names are written (ZWJ, ZWNJ) are allowed.
"""

import re

JOINERS = "\u200c\u200d"
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SECRET = re.compile(
    r"h(rt|ac|dc|at)_|eyJ"  # tokens of ours, and JWTs
    r"|(?=[\w+/=.~-]*\d)(?=[\w+/=.~-]*[A-Za-z])[\w+/=.~-]{12,}"  # long, with letters and digits
    r"|(?:[a-z]{1,2}[A-Z]{1,2}){3,}"  # upper and lower case mixed as in no word
    r"|[\w+/=.~-]{33,}"
)
_TOKEN = re.compile(
    r"h(?:rt|ac|dc|at)_[0-9A-Za-z]{69}"  # a whole token of ours, of any service
    r"|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{20}"  # a signed JWT
)
_SHORTEST_TOKEN = 30
LOOKS_LIKE_A_TOKEN = "holds what looks like a token, and would be kept in the log for good"
NOT_REPEATED = "(a name that is not repeated here: it looks like a secret)"
MAX_NAME_CHARACTERS = 40


def has_controls(text: str) -> bool:
    """Whether the text contains a control character, a line separator or a bidirectional override."""
    return _CONTROLS.search(text) is not None


def holds_token(text: str) -> bool:
    """Whether the text seems to contain a whole token, which must not get into the log."""
    return len(text) >= _SHORTEST_TOKEN and _TOKEN.search(text) is not None


def visible(text: str, keep: str = "") -> str:
    """Replace every character that is not printable by U+FFFD, except joiners and those to `keep`."""
    if text.isprintable():
        return text
    shown = JOINERS + keep
    return "".join(char if char.isprintable() or char in shown else "\ufffd" for char in text)


def unknown_name(name: str) -> str:
    """Show an unknown name to its author, cleaned and shortened; or not at all if it may be a secret."""
    if _SECRET.search(name):
        return NOT_REPEATED
    cleaned = visible(name)
    return cleaned if len(cleaned) <= MAX_NAME_CHARACTERS else f"{cleaned[:MAX_NAME_CHARACTERS]}…"
