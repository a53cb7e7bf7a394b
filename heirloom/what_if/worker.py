"""The process that decides a tenant's history again: `python -m heirloom.what_if.worker SCENARIO`, fed through a pipe.

It keeps what it must remember of each family in a temporary file, so its memory does not grow with the log.
"""

import sqlite3
import sys
from datetime import datetime
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from events.aggregates.aggregate_names import AggregateName
from events.aggregates.commit import UnreadableCommit
from events.aggregates.family import FamilyCommit
from events.aggregates.settings import ClientSettings, TenantSettings
from events.log.grammar import Foreign, read_commit
from events.log.stored_message import StoredMessage
from events.worker.child import serve
from heirloom.what_if.findings import Findings, Scenario, changes_of, nothing_yet
from service.decide.policy import ANY, Rules, resolve
from service.decide.what_if.rerun import Rerun, follow, verdict

MODULE = "heirloom.what_if.worker"
"""The name by which `run_worker` starts it."""
RUNS = "CREATE TABLE runs (began INTEGER PRIMARY KEY, family_id TEXT NOT NULL UNIQUE, run BLOB NOT NULL)"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Rerun).decode


class FollowedBatch(msgspec.Struct, omit_defaults=True):
    """The sequence decided again last, or why the rerun cannot go on."""

    seq: int
    fault: str | None = None


class _Both(NamedTuple):
    in_fact: Rules
    instead: Rules


class History:
    """Takes the commits of a tenant, and makes the findings."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._changes = changes_of(scenario.changes)
        self._tenant = TenantSettings()
        self._clients: dict[str, ClientSettings] = {}
        self._rules: dict[str, _Both] = {}
        self._now = scenario.now
        self._runs = sqlite3.connect("", isolation_level=None)  # a file without a name, removed with its process
        self._runs.execute(RUNS)
        self._runs.execute("BEGIN")

    def take(self, stored: StoredMessage) -> None:
        """Take the next message of the log; a foreign one decided nothing.

        Raises `UnreadableCommit`, and `ValueError` for a commit that cannot follow the ones before it.
        """
        commit = read_commit(stored)
        if isinstance(commit, Foreign):
            return
        name = AggregateName.parse(stored.subject)
        match name.kind:
            case "tenant":
                self._tenant = commit.state.settings
                self._rules.clear()
            case "client":
                self._clients[name.id] = commit.state.settings
                self._rules.pop(name.id, None)
            case "family":
                self._take_family(name.id, stored, commit)

    def findings(self) -> Findings:
        """The findings for the commits so far."""
        found = nothing_yet(self._scenario.changes, self._now)
        for family_id, encoded in self._runs.execute("SELECT family_id, run FROM runs ORDER BY began"):
            run = _decode(encoded)
            if run.fact.generation is not None:  # otherwise none of these policies matters
                rules = self._rules_of(run.fact.client_id)
                judged = verdict(run, rules.in_fact, rules.instead, self._now)
                found.count(family_id, run, judged, self._scenario.limit)
        return found

    def _take_family(self, family_id: str, stored: StoredMessage, commit: FamilyCommit) -> None:
        seq = stored.seq
        if isinstance(self._scenario.until, datetime) and commit.at > self._scenario.until:
            return
        if isinstance(self._scenario.until, int):
            self._now = commit.at
        known = self._runs.execute("SELECT run FROM runs WHERE family_id = ?", (family_id,)).fetchone()
        if known is None and not self._is_asked_for(seq, commit):
            return
        # a redeemed token was within what its client could request, which none of these policies changes
        rules = replace(self._rules_of(commit.state.client_id).instead, scope=commit.state.scope)
        run = _encode(follow(None if known is None else _decode(known[0]), seq, commit, rules, stored.stored_at))
        if known is None:
            self._runs.execute("INSERT INTO runs VALUES (?, ?, ?)", (seq, family_id, run))
        else:
            self._runs.execute("UPDATE runs SET run = ? WHERE family_id = ?", (run, family_id))

    def _is_asked_for(self, seq: int, commit: FamilyCommit) -> bool:
        since, client_id = self._scenario.since, self._scenario.client_id
        if commit.prev is not None or client_id not in (None, commit.state.client_id):
            return False
        return since is None or (seq >= since if isinstance(since, int) else commit.at >= since)

    def _rules_of(self, client_id: str) -> _Both:
        """The rules of a client, actual and hypothetical, after the commits so far."""
        if client_id not in self._rules:
            tenant, client = self._tenant, self._clients.get(client_id, ClientSettings())
            tenant = replace(tenant, audiences=(ANY,))  # a token's audience decides nothing about families here
            instead = resolve(replace(tenant, **self._changes), replace(client, **self._changes, audiences=None))
            self._rules[client_id] = _Both(resolve(tenant, replace(client, audiences=None)), instead)
        return self._rules[client_id]


def main() -> None:
    """Decide every batch again; an empty batch requests the findings."""
    history = History(msgspec.json.decode(sys.argv[1], type=Scenario))
    progress = FollowedBatch(0)

    def answer(commits: list[StoredMessage]) -> bytes:
        if not commits:
            return msgspec.json.encode(history.findings())
        for stored in commits:
            if progress.fault is not None:
                break
            try:
                history.take(stored)
                progress.seq = stored.seq
            except (UnreadableCommit, ValueError) as error:
                progress.fault = f"sequence {stored.seq}: {error}"
        return msgspec.json.encode(progress)

    serve(answer)


if __name__ == "__main__":
    main()
