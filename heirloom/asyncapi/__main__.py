"""Writes the document into the file that is served, for `make asyncapi`."""

from heirloom.asyncapi.document import encoded
from service.endpoints.discovery import ASYNCAPI

if __name__ == "__main__":
    ASYNCAPI.write_bytes(encoded())
