"""Device authorization: a device asks, a person answers elsewhere (RFC 8628)."""

from datetime import datetime, timedelta
from typing import NamedTuple

from events.aggregates.family import (
    DEVICE_GRANT,
    DeviceAuthorizationDenied,
    DeviceAuthorizationStarted,
    FamilyState,
    GrantAuthorized,
    fold,
)
from service.decide.decision import Decision, Done, Refused, invalid_grant
from service.decide.policy import Rules
from service.decide.scope import narrow, narrow_resources
from service.decide.token_size import check_size
from service.errors import OAuthError

DEVICE_CODE_SECONDS = 600
INTERVAL_SECONDS = 5
MOST_WAITING_OF_TENANT = 5_000
"""Devices of a tenant's clients together; so many names fit into one answer of the broker's."""


class AnswerDevice(NamedTuple):
    """What the person said. `scope` and `resource` may grant less than the device asked for.

    `waiting` is what the device asked for, where that is not in the log yet.
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
    """Whether what a client asked for may be approved: under its rules of today, and if no disabling came between.

    What was asked before a disabling is as dead as what was given before (`void_until`).
    """
    asked_at = started.expires_at - timedelta(seconds=DEVICE_CODE_SECONDS)
    return DEVICE_GRANT in rules.grant_types and (void_until is None or asked_at > void_until)


def answer_device(state: FamilyState | None, command: AnswerDevice) -> Decision:
    """`Done`, with `GrantAuthorized` or `DeviceAuthorizationDenied`; an answer is given once.

    What the device asked for goes before it where the log has nothing of it.
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
