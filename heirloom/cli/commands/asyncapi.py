"""`heirloom asyncapi`: the subjects of the service, for tools that make clients and pages of them."""

import click

from service.endpoints.discovery import document


@click.command()
def asyncapi() -> None:
    """Print the AsyncAPI 3.0 document of every subject, as JSON."""
    click.echo(document(), nl=False)
