"""The accounts section of the broker's configuration, made from the role table."""

from events.aggregates.aggregate_names import CHECKPOINT, CHECKPOINTS
from events.log.stream import REVOKED, REVOKED_STORED
from events.strict_json import MAX_PAYLOAD
from heirloom.broker.credentials import Credentials
from heirloom.broker.quoted import quoted
from heirloom.broker.roles import (
    API,
    BOOKS,
    LOG_ACCOUNT,
    LOG_API,
    PUBLISHERS_ACCOUNT,
    ROLES,
    SHOWN,
    SYSTEM,
    Role,
    inbox,
)
from service.registry.broker_accounts import ROLE_ACCOUNTS
from service.registry.named_role import below
from service.revocations.stream import HEARD, PROGRESS, STORED
from service.revocations.stream import STREAM as REVOCATIONS

SYSTEM_ACCOUNT = "SYS"
MAX_SUBSCRIPTIONS = 32
"""For each connection in the accounts of callers; the broker closes a connection that subscribes to more."""
UNBOUNDED = (ROLE_ACCOUNTS["operator"], ROLE_ACCOUNTS["auditor"])
"""Accounts whose answers are longer than `MAX_PAYLOAD`, which would bound answers, too; the broker allows 1 MiB."""
HEARING = list(dict.fromkeys(role.account for role in ROLES.values() if set(HEARD) & set(role.subscribe)))
"""The accounts that receive the revocation feed."""
ANSWERED_BY_SEVERAL = (
    *(f"{API}.DIRECT.GET.{stream}" for stream in (BOOKS, CHECKPOINTS, REVOCATIONS)),
    *(subject for subject in SYSTEM if ".PING." in subject),
)
"""Subjects on which one request gets several messages in reply."""


def accounts(credentials: Credentials) -> str:
    """The section in the broker's notation. The system account has no users."""
    exported: dict[str, list[str]] = {}
    others: list[str] = []
    for account in dict.fromkeys(role.account for role in ROLES.values() if role.account != LOG_ACCOUNT):
        members = {name: role for name, role in ROLES.items() if role.account == account}
        reaching = _reaching_log(members)
        for arriving in reaching.values():
            exported.setdefault(arriving, []).append(account)
        imports = [_service_import(LOG_ACCOUNT, arriving, subject) for subject, arriving in reaching.items()]
        if any(REVOKED in role.subscribe for role in members.values()):
            exported.setdefault(REVOKED_STORED, []).append(account)
            mapped = REVOKED.replace("*", "$1", 1).replace("*", "$2", 1)
            imports.append(f'{{ stream: {{ account: {LOG_ACCOUNT}, subject: "{REVOKED_STORED}" }}, to: "{mapped}" }}')
        heard = [subject for subject in HEARD if any(subject in role.subscribe for role in members.values())]
        imports += [f'{{ stream: {{ account: {PUBLISHERS_ACCOUNT}, subject: "{subject}" }} }}' for subject in heard]
        lent = [_export(subject, HEARING) for subject in HEARD] if account == PUBLISHERS_ACCOUNT else []
        others.append(_account(account, _users(members, credentials), lent, imports, _limits(account)))
    processes = {name: role for name, role in ROLES.items() if role.account == LOG_ACCOUNT}
    exports = [_export(subject, to) for subject, to in exported.items()]
    system = [_service_import(SYSTEM_ACCOUNT, subject, subject) for subject in SYSTEM]
    log = _account(LOG_ACCOUNT, _users(processes, credentials), exports, system, "jetstream: enabled")
    lent = [_export(subject, [LOG_ACCOUNT]) for subject in SYSTEM]
    return "\n".join(
        ["accounts {", _account(SYSTEM_ACCOUNT, [], lent, []), log, *others, "}", f"system_account: {SYSTEM_ACCOUNT}"]
    )


def _limits(account: str) -> str:
    """The limits of each connection. The service limits their number, which one caller could use up for an account."""
    payload = "" if account in UNBOUNDED else f", max_payload: {MAX_PAYLOAD}"
    return f"limits: {{ max_subscriptions: {MAX_SUBSCRIPTIONS}{payload} }}"


def _reaching_log(members: dict[str, Role]) -> dict[str, str]:
    """Maps the subjects by which an account's members reach the log to their names in the log's account.

    Every other request is answered inside the account: nats-server loses other members' replies after a request to
    another account whose reply subject has wildcards (ADR 0036).
    """
    published = {subject for role in members.values() for subject in role.publish}
    reaching = sorted(subject for subject in published if subject.startswith((LOG_API, CHECKPOINT, STORED, PROGRESS)))
    # a request that two imports cover would arrive twice
    needed = [subject for subject in reaching if not any(_covers(other, subject) for other in reaching)]
    return {subject: subject.replace(LOG_API, API, 1) for subject in needed}


def _covers(pattern: str, subject: str) -> bool:
    """Whether the pattern covers another one of as many parts."""
    parts = pattern.split("."), subject.split(".")
    same_length = len(parts[0]) == len(parts[1]) and pattern != subject
    return same_length and all(part in ("*", other) for part, other in zip(*parts, strict=True))


def _export(subject: str, to: list[str]) -> str:
    kind = "stream" if subject in (REVOKED_STORED, *HEARD) else "service"
    several = ", response_type: stream" if subject in ANSWERED_BY_SEVERAL else ""
    return f'{{ {kind}: "{subject}", accounts: [{", ".join(to)}]{several} }}'


def _service_import(account: str, subject: str, local: str) -> str:
    renamed = f', to: "{local}"' if local != subject else ""
    return f'{{ service: {{ account: {account}, subject: "{subject}" }}{renamed} }}'


def _users(roles: dict[str, Role], credentials: Credentials) -> list[str]:
    """Every role by its nkey, and the roles of `passwords` by password, too."""
    proofs = [(name, f"nkey: {credentials.nkey(name)}") for name in roles]
    shown = [name for name in roles if name in credentials.passwords]
    proofs += [(name, f"user: {name}, password: {quoted(credentials.passwords[name])}") for name in shown]
    return [f"{{ {proof}, permissions: {_permissions(name, roles[name])} }}" for name, proof in proofs]


def _permissions(name: str, role: Role) -> str:
    own = below(inbox(name)) if name in SHOWN else [f"{inbox(name)}.>"]
    listens = (*role.subscribe, *own)
    publish = f"{{ allow: {_list(role.publish)}, deny: {_list(role.denied)} }}" if role.denied else _list(role.publish)
    return f"{{ publish: {publish}, subscribe: {_list(listens)} }}"


def _account(name: str, users: list[str], exports: list[str], imports: list[str], more: str = "") -> str:
    parts = [f"    {more}"] if more else []
    for section, entries in (("users", users), ("exports", exports), ("imports", imports)):
        if entries:
            parts.append(f"    {section}: [\n" + "\n".join(f"      {entry}" for entry in entries) + "\n    ]")
    return f"  {name} {{\n" + "\n".join(parts) + "\n  }"


def _list(subjects: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{subject}"' for subject in subjects) + "]"
