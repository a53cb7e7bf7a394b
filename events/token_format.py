"""The text of the service's own tokens (CONTRACT §1, ADR 0003): a prefix, then fields of base62, each of a fixed width.

key id (2) | family id (22) | number (6 or 11) | short tag (11) | long tag (22) | CRC-32 (6)
"""

from typing import Literal, TypeAlias

TokenKind: TypeAlias = Literal["refresh", "code", "device", "access"]

FORM: dict[TokenKind, tuple[str, int]] = {
    "refresh": ("hrt_", 6),
    "code": ("hac_", 6),
    "device": ("hdc_", 6),
    "access": ("hat_", 11),
}
"""The prefix of each kind, and the width of its number: a generation, 0, 0, the commit's sequence."""
KEY_WIDTH, FAMILY_WIDTH, SHORT_TAG_WIDTH, LONG_TAG_WIDTH, CRC_WIDTH = 2, 22, 11, 22, 6
"""The widths of the other fields, in characters."""
