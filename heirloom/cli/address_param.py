"""The address of a listener, as a parameter on the command line."""

from typing import Any

import click

from heirloom.broker import nats_server


class Address(click.ParamType[tuple[str, int]]):
    """Host and port, or a port of the loopback interface."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """The host and port. Fails with the usage's exit code."""
        host, _, port = str(value).rpartition(":")
        if not port.isdecimal() or len(port) > 5 or int(port) > 65535:
            self.fail(f"{value!r} is neither PORT nor HOST:PORT", param, ctx)
        return host.strip("[]") or nats_server.HOST, int(port)
