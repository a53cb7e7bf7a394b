"""`heirloom audit what-if` on what the service really wrote, by the command and over the bus."""

import asyncio
from typing import Any

import msgspec
from click.testing import CliRunner, Result

from heirloom.cli.main import main
from tests.system.workspace import Workspace


async def what_if(workspace: Workspace, *options: str) -> Result:
    """What the command says."""
    where = ["--data", str(workspace.service.data), "--tenant", workspace.name]
    return await asyncio.to_thread(CliRunner().invoke, main, ["audit", "what-if", *options, *where])


async def told(workspace: Workspace, *options: str) -> dict[str, Any]:
    """The command's JSON."""
    result = await what_if(workspace, *options, "--json")
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = msgspec.json.decode(result.stdout)
    return answer


async def test_a_lost_answer_would_have_been_spared_and_a_theft_let_through(workspace: Workspace) -> None:
    """A family that a retry without a key ended: grace saves it; without rotation a thief goes unseen; totals agree."""
    await workspace.register("web", required_acr=["pwd", "mfa"])
    async with workspace.client("web") as web:
        quiet = await web.ask("issue", {"sub": "ann", "scope": "read offline_access", "acr": "pwd"})
        hasty = await web.ask("issue", {"sub": "bob", "scope": "read offline_access", "acr": "mfa"})
        begun = await workspace.sequence()
        await web.refresh(quiet["refresh_token"])
        await web.refresh(hasty["refresh_token"])
        assert (await web.refresh(hasty["refresh_token"]))["error"] == "invalid_grant"
        end = await workspace.sequence()
        grace = await told(workspace, "--grace", "60")
        assert (grace["families"], grace["same"], grace["would_have_lived"], grace["retries_spared"]) == (2, 1, 1, 1)
        assert grace["lived_past"] == {"reuse_detected": 1}
        (spared,) = grace["items"]
        assert (spared["sub"], spared["seq"], spared["was"], spared["would_be"]) == (
            "bob",
            end,
            "reuse_detected",
            "repeated",
        )
        reuse = await told(workspace, "--rotation", "reuse")
        assert (reuse["would_have_lived"], reuse["thefts_let_through"]) == (1, 1)
        stricter = await told(workspace, "--required-acr", "mfa")
        assert (stricter["would_have_died"], stricter["died_of"]) == (1, {"policy_changed": 1})
        asked: dict[str, Any] = {"policy": {"refresh_token_grace": 60}, "since": begun, "until": end}
        assert (await workspace.audit("what_if", **asked))["items"] == grace["items"]
        shown = (await what_if(workspace, "--grace", "60")).stdout
        assert "1 (1 reuse_detected)" in shown and "note: Repetitions" in shown
        assert (await what_if(workspace, "--grace", "60", "--csv")).stdout.count("\n") == 2
    for wrong in ((), ("--required-acr", "mfa", "--no-required-acr")):
        refused = await what_if(workspace, *wrong)
        assert (refused.exit_code, "Error: name" in refused.output) == (2, True)


async def test_what_cannot_be_tried_is_refused(workspace: Workspace) -> None:
    """Misspelt, pointless and impossible settings, a wrong period, a tenant that is a wildcard: all named."""
    for policy, fault in {
        ("refresh_token_grce", 1): "did you mean refresh_token_grace?",
        ("refresh_token_grace", "1"): "refresh_token_grace: ",
        ("refresh_token_grace", -1): "refresh_token_grace: ",
        ("access_token_ttl", 60): "no family lives or dies by it",
    }.items():
        assert fault in (await workspace.audit("what_if", policy=dict([policy])))["error_description"]
    tried = {"policy": {"refresh_token_grace": 1}}
    faults: list[dict[str, Any]] = [
        {},
        {"policy": {}},
        tried | {"since": 2, "until": 1},
        tried | {"limit": 0},
        tried | {"clientid": "web"},
    ]
    for wrong in faults:
        assert (await workspace.audit("what_if", **wrong))["error"] == "invalid_request"
    assert (await workspace.audit("what_if", tenant="*", **tried))["error"] == "invalid_request"
