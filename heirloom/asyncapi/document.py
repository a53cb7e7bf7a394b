"""The AsyncAPI 3.0 document (https://www.asyncapi.com/docs/reference/specification/v3.0.0)."""

import re
from collections.abc import Iterable
from typing import Any, TypeAlias, get_args

import msgspec

from events.aggregates.aggregate_names import CLIENT_ID, FAMILY_ID, TENANT
from heirloom import __version__
from heirloom.asyncapi.subjects import Subject, subjects
from service.errors import Code, ErrorResponse
from service.request import IDEMPOTENCY_KEY

Json: TypeAlias = dict[str, Any]

ABOUT = (
    "OAuth 2.0 over NATS. A request is one NATS request with a JSON object; a refusal has the header "
    "Nats-Service-Error. docs/contract.md says what each subject promises, and docs/security.md who may use it."
)
PARAMETERS: Json = {
    "tenant": {"description": f"One OAuth issuer: {TENANT.pattern}"},
    "client_id": {"description": f"The calling client: {CLIENT_ID.pattern}"},
    "family_id": {"description": f"A token family, the `sid` of its tokens: {FAMILY_ID.pattern}"},
}
ERROR = "ErrorResponse"
OBJECT: Json = {"type": "object"}
"""The schema of a message that no struct describes."""
_RETRIES: Json = {
    "type": "object",
    "properties": {"Idempotency-Key": {"type": "string", "pattern": f"^{IDEMPOTENCY_KEY.pattern}$"}},
}
_ERROR_HEADERS: Json = {
    "type": "object",
    "properties": {
        "Nats-Service-Error": {"type": "string", "enum": list(get_args(Code))},
        "Nats-Service-Error-Code": {"type": "string", "description": "The status of the same answer over HTTP"},
    },
    "required": ["Nats-Service-Error", "Nats-Service-Error-Code"],
}
_REPLIES = "replies"
"""The one channel of all replies: their address is the requester's own."""


def document() -> Json:
    """The document, of all tenants."""
    known = list(subjects())
    kinds = [kind for subject in known for kind in (subject.message, subject.reply)]
    schemas, components = _schemas([*kinds, ErrorResponse])
    messages = {_name(kind): {"payload": schemas.get(kind, OBJECT)} for kind in kinds}
    for subject in known:
        if subject.may_retry:
            messages[_name(subject.message)]["headers"] = _RETRIES
    messages[ERROR] = {"headers": _ERROR_HEADERS, "payload": schemas[ErrorResponse]}
    replies = {_name(subject.reply) for subject in known if subject.is_answered} | {ERROR}
    channels = {subject.name: _channel(subject) for subject in known}
    channels[_REPLIES] = {"address": None, "messages": {name: _message(name) for name in sorted(replies)}}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Heirloom", "version": __version__, "description": ABOUT, "license": {"name": "Apache-2.0"}},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": {subject.name: _operation(subject) for subject in known},
        "components": {"schemas": components, "messages": messages, "parameters": PARAMETERS},
    }


def encoded() -> bytes:
    """The document as it is served."""
    return msgspec.json.encode(document()) + b"\n"


def _channel(subject: Subject) -> Json:
    names = re.findall(r"{(\w+)}", subject.address)
    message = _name(subject.message)
    return {
        "address": subject.address,
        "parameters": {name: {"$ref": f"#/components/parameters/{name}"} for name in names},
        "messages": {message: _message(message)},
    }


def _operation(subject: Subject) -> Json:
    action: Json = {
        "action": "receive" if subject.is_answered else "send",
        "channel": {"$ref": f"#/channels/{subject.name}"},
        "summary": subject.summary,
        "tags": [{"name": subject.tag}],
    }
    if not subject.is_answered:
        return action
    messages = [{"$ref": f"#/channels/{_REPLIES}/messages/{name}"} for name in (_name(subject.reply), ERROR)]
    reply = {"channel": {"$ref": f"#/channels/{_REPLIES}"}, "messages": messages}
    return action | {"reply": reply}


def _message(name: str) -> Json:
    return {"$ref": f"#/components/messages/{name}"}


def _name(kind: Any) -> str:
    """The name of a message: that of its type, or of its types."""
    if kind is None:
        return "Object"
    return "Or".join(part.__name__.lstrip("_") for part in get_args(kind) or (kind,))


def _schemas(kinds: Iterable[Any]) -> tuple[dict[Any, Json], Json]:
    """The schema of each type, and the components that they refer to, as AsyncAPI has them."""
    known = list(dict.fromkeys(kind for kind in kinds if kind is not None))
    schemas, components = msgspec.json.schema_components(known, ref_template="#/components/schemas/{name}")
    found = {kind: _plain(schema) for kind, schema in zip(known, schemas, strict=True)}
    return found, {name.lstrip("_"): _plain(schema) for name, schema in components.items()}


def _plain(value: Any) -> Any:
    """JSON Schema as AsyncAPI and other languages read it: without the names of Python's private types.

    A discriminator is no object there; the constant in the tag of each type says the same. The document has to fit into
    one message, so it says nothing twice.
    """
    if not isinstance(value, dict):
        return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
    if "anyOf" in value and set(value) <= {"anyOf", "default"} and (simple := _nullable(value["anyOf"])) is not None:
        return simple
    return {name: _word(name, part) for name, part in value.items() if not _is_said_already(name, part)}


def _is_said_already(name: str, value: Any) -> bool:
    if name == "title":
        return isinstance(value, str)  # the name by which the type is referred to
    return name == "discriminator" or (name, value) in (("default", None), ("required", []))


def _nullable(kinds: list[Json]) -> Json | None:
    """The schema of a simple type or null in one; None for any others."""
    if len(kinds) == 2 and kinds[1] == {"type": "null"} and isinstance(kinds[0].get("type"), str):
        return {**_plain(kinds[0]), "type": [kinds[0]["type"], "null"]}
    return None


def _word(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return _plain(value)
    match name:
        case "$ref":
            return value.replace("/_", "/")
        case "pattern":
            return value.replace(r"\A", "^").replace(r"\Z", "$")
        case "description":
            return value.partition("\n\n")[0].replace("\n", " ")
    return value
