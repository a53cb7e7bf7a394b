"""Device authorization: a device asks, a person answers elsewhere (RFC 8628)."""

from datetime import datetime, timedelta
from typing import NamedTuple

from events.family import (
    DEVICE_GRANT,
    DeviceAuthorizationDenied,
    DeviceAuthorizationStarted,
    FamilyState,
    GrantAuthorized,
)
from service.decide.outcome import Decision, Done, Refused, invalid_grant
from service.decide.size import check_size
from service.errors import OAuthError
from service.scope import narrow, narrow_resources

DEVICE_CODE_SECONDS = 600
INTERVAL_SECONDS = 5


class StartDevice(NamedTuple):
    """Begin a family that waits for approval."""

    now: datetime
    client_id: str
    scope: str
    audience: tuple[str, ...]
    seed: str


class AnswerDevice(NamedTuple):
    """What the person said. `scope` and `resource` may grant less than the device asked for."""

    now: datetime
    approved: bool
    sub: str
    scope: str | None
    resource: tuple[str, ...] | None
    acr: str | None
    amr: tuple[str, ...]
    auth_time: int | None


def start_device(state: FamilyState | None, command: StartDevice) -> Decision:
    """`Done`, with `DeviceAuthorizationStarted`. `Refused` when the user code has been in use before."""
    if state is not None:
        return Decision(Refused(OAuthError("server_error", "the user code is taken; try again")))
    expires_at = command.now + timedelta(seconds=DEVICE_CODE_SECONDS)
    started = DeviceAuthorizationStarted(command.client_id, command.scope, command.audience, command.seed, expires_at)
    return Decision(Done(), (started,))


def answer_device(state: FamilyState | None, command: AnswerDevice) -> Decision:
    """`Done`, with `GrantAuthorized` or `DeviceAuthorizationDenied`; an answer is given once."""
    if state is None or state.device is None or state.device.status != "pending" or state.revoked is not None:
        return Decision(invalid_grant())
    if state.device.expires_at <= command.now:
        return Decision(invalid_grant())
    if not command.approved:
        return Decision(Done(), (DeviceAuthorizationDenied(command.sub),))
    try:
        scope = narrow(command.scope, state.scope)
        audience = narrow_resources(command.resource, state.audience, state.audience)
        check_size(command.sub, scope, audience, command.acr, command.amr)
    except OAuthError as error:
        return Decision(Refused(error))
    granted = GrantAuthorized(
        client_id=state.client_id,
        sub=command.sub,
        scope=scope,
        audience=audience,
        grant=DEVICE_GRANT,
        seed=state.seed,
        acr=command.acr,
        amr=command.amr,
        auth_time=command.auth_time,
    )
    return Decision(Done(), (granted,))
