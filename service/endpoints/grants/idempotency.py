"""Recognising a repeated redemption (CONTRACT §2, "retry without fear")."""

import msgspec

from events.aggregates.family_events import Retry
from service.endpoints.grants.token_request import TokenRequest
from service.keys.mac_tokens import short_digest
from service.request import Request, idempotency_key


def retry_of(request: Request, parameters: TokenRequest) -> Retry | None:
    """Digests of the `Idempotency-Key` and of the parameters; None without a key. Raises `invalid_request`."""
    key = idempotency_key(request.headers)
    if key is None:
        return None
    # neither the layout of the JSON nor a repeated `client_id` makes another request of it
    asked = msgspec.structs.replace(parameters, client_id=None)
    return Retry(short_digest(key.encode()), short_digest(msgspec.json.encode(asked)))
