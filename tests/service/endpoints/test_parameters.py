"""The decoders of each endpoint's parameters: every parameter at most once, and of its type (CONTRACT §2)."""

import json
from typing import Any

import msgspec
import pytest

from service.endpoints.authorize import AuthorizeRequest
from service.endpoints.device_authorization import DeviceAuthorizationRequest
from service.endpoints.grants.token_request import TokenRequest
from service.endpoints.introspect import IntrospectRequest
from service.endpoints.issue import IssueRequest
from service.endpoints.revoke import RevokeRequest
from service.errors import OAuthError
from service.request import decode

REQUESTS = (
    AuthorizeRequest,
    DeviceAuthorizationRequest,
    IntrospectRequest,
    IssueRequest,
    RevokeRequest,
    TokenRequest,
)
TYPES: dict[str, tuple[type, ...]] = {
    "amr": (list,),
    "approved": (bool,),
    "audience": (str, list),
    "auth_time": (int,),
    "resource": (str, list),
}
"""The types of the parameters that are not strings; lists contain strings."""
VALUES: tuple[Any, ...] = ("x", 7, 1.5, True, {"x": "y"}, ["x"], [7], [None], [["x"]])
EACH = [
    pytest.param(request, name, id=f"{request.__name__}-{name}")
    for request in REQUESTS
    for name in request.__struct_fields__
]


@pytest.mark.parametrize(("request_", "name"), EACH)
def test_a_parameter_of_another_type(request_: type[msgspec.Struct], name: str) -> None:
    """It is `invalid_request`; null is always accepted."""
    decoder = msgspec.json.Decoder(request_)
    types = TYPES.get(name, (str,))
    for value in VALUES:
        body = json.dumps({name: value}).encode()
        if type(value) in types and (not isinstance(value, list) or value == ["x"]):
            assert getattr(decode(body, decoder), name) is not None
        else:
            with pytest.raises(OAuthError, match=rf"invalid_request.*{name}"):
                decode(body, decoder)
    assert getattr(decode(json.dumps({name: None}).encode(), decoder), name) is None


@pytest.mark.parametrize(("request_", "name"), EACH)
def test_a_repeated_parameter(request_: type[msgspec.Struct], name: str) -> None:
    """With another value or the same, first or last, plain or escaped: it is `invalid_request`."""
    decoder = msgspec.json.Decoder(request_)
    good = json.dumps("x" if str in TYPES.get(name, (str,)) else None)
    rest = f'"{name}": {good}, "unknown": ""'
    for again in (name, f"\\u{ord(name[0]):04x}{name[1:]}"):
        for value in (good, '"x"', "null", "[]"):
            for body in (f'{{"{again}": {value}, {rest}}}', f'{{{rest}, "{again}": {value}}}'):
                with pytest.raises(OAuthError, match="twice"):
                    decode(body.encode(), decoder)
