"""For tests of programs that use this library: an issuer in memory, whose time and replies the test decides about."""

from heirloom_client.testing.issuer import Issuer

__all__ = ["Issuer"]
