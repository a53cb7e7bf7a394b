"""Text that others chose: what of it is taken in, and how it is shown to a person on a terminal.

A control character moves the cursor or clears a screen, a bidirectional override shows a name backwards,
and a separator of lines forges one. Marks that names are written with (ZWJ, ZWNJ) are no such characters.
"""

import re

JOINERS = "\u200c\u200d"
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SECRET = re.compile(
    r"h(rt|ac|dc|at)_|eyJ"  # tokens of ours, and whatever is a JWT
    r"|(?=[\w+/=.~-]*\d)(?=[\w+/=.~-]*[A-Za-z])[\w+/=.~-]{12,}"  # letters and digits, long
    r"|(?:[a-z]{1,2}[A-Z]{1,2}){3,}"  # mixed as no word is
    r"|[\w+/=.~-]{33,}"
)
_TOKEN = re.compile(
    r"h(?:rt|ac|dc|at)_[0-9A-Za-z]{69}"  # a whole one of ours, of whichever service
    r"|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{20}"  # a JWT that is signed
)
_SHORTEST_TOKEN = 30
LOOKS_LIKE_A_TOKEN = "holds what looks like a token, and would be kept in the log for good"
NOT_REPEATED = "(a name that is not repeated here: it looks like a secret)"
LONGEST_NAME = 40


def has_controls(text: str) -> bool:
    """Whether it holds a character that is not text: a control, a line separator, a bidirectional override."""
    return _CONTROLS.search(text) is not None


def holds_token(text: str) -> bool:
    """Whether a whole token seems to stand in it, which must not come into the log."""
    return len(text) >= _SHORTEST_TOKEN and _TOKEN.search(text) is not None


def visible(text: str, keep: str = "") -> str:
    """The text with U+FFFD for each character that is not seen, but for those to `keep`."""
    if text.isprintable():
        return text
    shown = JOINERS + keep
    return "".join(char if char.isprintable() or char in shown else "\ufffd" for char in text)


def unknown_name(name: str) -> str:
    """A name that is not known, for whoever wrote it: cleaned and cut; not at all where a secret may stand there."""
    if _SECRET.search(name):
        return NOT_REPEATED
    cleaned = visible(name)
    return cleaned if len(cleaned) <= LONGEST_NAME else f"{cleaned[:LONGEST_NAME]}…"
