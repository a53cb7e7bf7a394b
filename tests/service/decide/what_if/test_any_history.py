"""Replays of generated histories agree with deciding every recorded request again."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.decide.what_if.rerun import verdict
from tests.service.decide.what_if.test_rerun import World, agree, happened, what_if

policies = st.fixed_dictionaries(
    {},
    optional={
        "refresh_token_grace": st.sampled_from([0, 10, 100]),
        "refresh_token_rotation": st.sampled_from(["rotate", "reuse"]),
        "refresh_token_ttl": st.sampled_from([1000, 1000, 1000, 200, 200, 0]),
        "refresh_token_idle_ttl": st.sampled_from([0, 30, 300]),
        "required_acr": st.sampled_from([None, None, ("mfa",), ("pwd", "mfa")]),
        "require_offline_access": st.booleans(),
        "scope_narrowing": st.sampled_from(["request", "sticky"]),
    },
)
waiting = st.tuples(st.just("wait"), st.sampled_from([1, 9, 11, 29, 31, 99, 150, 301]))
presenting = st.tuples(
    st.just("present"),
    st.sampled_from([0] * 12 + [1, 1, 2, -1]),  # most families must live long enough to be harmed
    st.sampled_from([None, None, "a", "a", "b"]),
    st.sampled_from([None, None, None, "read", "read admin"]),
)
registered = st.fixed_dictionaries({}, optional={"scope": st.sampled_from(["read write", "read offline_access"])})
configuring = st.tuples(st.just("configure"), st.builds(dict.__or__, policies, registered))
others = st.tuples(
    st.just("other"),
    st.sampled_from(["exchange", "revoke access token", "cut off", "cut off", "sign out", "redeem_code"]),
)
steps = st.sampled_from([waiting] * 5 + [presenting] * 10 + [configuring] * 2 + [others]).flatmap(lambda step: step)


histories = st.builds(
    happened,
    st.sampled_from(["issue", "issue", "authorize"]),
    st.sampled_from(["mfa", "mfa", "pwd", None]),
    policies,
    st.lists(steps, min_size=8, max_size=40),
)


LATE_REUSE = [
    *[("wait", 1), ("present", 0, None, None), ("configure", {"required_acr": ("mfa",)})],
    *[("other", "cut off"), ("present", 1, None, None)],
]
"""A reuse after the end of a family that would have lived; its only event is `TokenReuseDetected`."""


@settings(max_examples=300, deadline=None)
@given(histories, policies)
@example(happened("issue", "pwd", {}, LATE_REUSE), {"refresh_token_grace": 10, "required_acr": None})
def test_it_agrees_with_deciding_every_request_again(world: World, changes: dict[str, Any]) -> None:
    """For every history and policy; no policy decides on a family that never had a refresh token."""
    rerun = what_if(world, changes)
    if rerun.fact.generation is not None:
        agree(world, rerun, changes)


@settings(max_examples=200, deadline=None)
@given(histories)
def test_a_replay_under_the_actual_policy_is_the_history(world: World) -> None:
    """The rerun ends in exactly the state of the log."""
    rerun = what_if(world, {})
    assert rerun.instead == rerun.fact == world.state
    assert rerun.first_difference is None
    assert verdict(rerun, world.rules, world.rules, world.now).outcome == "same"
