"""Device authorization: a device requests tokens, and a person approves or denies on another device (RFC 8628)."""

from datetime import datetime, timedelta
from typing import NamedTuple

from events.aggregates.family import DEVICE_GRANT, FamilyState, fold
from events.aggregates.family_events import DeviceAuthorizationDenied, DeviceAuthorizationStarted, GrantAuthorized
from service.decide.decision import Decision, Done, Refused, invalid_grant
from service.decide.policy import Rules
from service.decide.scope import narrow, narrow_resources
from service.decide.token_size import check_size
from service.errors import OAuthError

DEVICE_CODE_SECONDS = 600
INTERVAL_SECONDS = 5
MAX_WAITING_OF_TENANT = 5_000
"""Waiting devices of all clients of a tenant; one reply of the broker has room for so many names."""


class AnswerDevice(NamedTuple):
    """A person approves or denies. `scope` and `resource` may grant less than the device requested.

    `waiting` is the device's request if it is not in the log yet.
    """

    now: datetime
    waiting: DeviceAuthorizationStarted | None
    approved: bool
    sub: str
    scope: str | None
    resource: tuple[str, ...] | None
    acr: str | None
    amr: tuple[str, ...]
    auth_time: int | None


def still_may(started: DeviceAuthorizationStarted, rules: Rules, void_until: datetime | None) -> bool:
    """Whether the request may be approved: the client's rules of today allow it, and no disabling came after it.

    `void_until` voids requests from before a disabling as it voids tokens from before it.
    """
    asked_at = started.expires_at - timedelta(seconds=DEVICE_CODE_SECONDS)
    return DEVICE_GRANT in rules.grant_types and (void_until is None or asked_at > void_until)


def answer_device(state: FamilyState | None, command: AnswerDevice) -> Decision:
    """`Done`, with `GrantAuthorized` or `DeviceAuthorizationDenied`. A request is answered once.

    If the log does not have the device's request yet, its event comes first in the same commit.
    """
    if state is not None or command.waiting is None:
        return _answer(state, command)
    answer = _answer(fold(None, (command.waiting,), command.now), command)
    return Decision(answer.outcome, (command.waiting, *answer.events)) if answer.events else answer


def _answer(state: FamilyState | None, command: AnswerDevice) -> Decision:
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
