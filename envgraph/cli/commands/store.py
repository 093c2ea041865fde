"""``store verify``, ``store gc``, ``store usage``: look after what is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from envgraph.cli.options import Flag, Operand, Signature, Values
from envgraph.cli.session import Session
from envgraph.cli.views.text import listed, many, size, table
from envgraph.errors import UsageError
from envgraph.model.names import unescape_name

if TYPE_CHECKING:
    from envgraph_store import Store

TASKS: Final = ("verify", "gc", "usage")
EXIT_FINDINGS: Final = 3
_GRACE: Final = 14.0
"""Days that an image in a registry is left alone; the store has a default of its own."""


def _days(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("not a number of days") from None
    if not 0 <= value < 100_000:
        raise ValueError("not a number of days from 0 on")
    return value


_OWNERS: Final = {
    "--repair": "verify",
    "--dry-run": "gc",
    "--grace-days": "gc",
    "--registry": "gc",
    "--delete": "gc",
}
SIGNATURE: Final = Signature(
    operands=(Operand("TASK", "what to do", choices=TASKS),),
    flags=(
        Flag("--repair", "verify: put bad objects aside, so that the next apply makes them anew"),
        Flag("--dry-run", "gc: show what would be removed, remove nothing"),
        Flag("--grace-days", "gc: keep what is younger; default 14", "DAYS", check=_days),
        Flag("--registry", "gc: images in the workspace's registry, instead of the store"),
        Flag("--delete", "gc --registry: delete them, without a question"),
    ),
    notes=(
        "verify hashes everything, walks every environment's history, and exits with 3 when "
        "something is bad. gc removes what no "
        "version, pin or running apply needs; locks and definitions of old versions stay. usage "
        "says what takes the space.",
        "gc --registry lists images that this workspace pushed and that no version in this store's "
        "history needs, and no pin. It deletes nothing unless --delete is given, or the question "
        "is answered. Images of other workspaces are never listed; but where another one made the "
        "very same image they share it, and a version that another machine pushed looks unneeded "
        "here: look at the list.",
    ),
    examples=(
        ("envgraph store verify", "is every byte what its name says?"),
        ("envgraph store gc --dry-run", "what could go"),
        ("envgraph store gc --registry --dry-run", "what could go from the registry"),
    ),
)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The task and its flags. ``grace_days`` None: the store's own default."""

    task: str
    repair: bool
    dry_run: bool
    grace_days: float | None
    registry: bool = False
    delete: bool = False


def read(values: Values) -> Arguments:
    """The verb's arguments; UsageError for a flag of another task."""
    task = values.word("TASK") or ""
    for flag, owner in _OWNERS.items():
        if values.on(flag) and task != owner:
            raise UsageError(f"{flag} is a flag of `store {owner}`")
    if values.on("--delete") and not values.on("--registry"):
        raise UsageError("--delete is a flag of `store gc --registry`")
    if values.on("--delete") and values.on("--dry-run"):
        raise UsageError("--dry-run and --delete exclude each other")
    days = values.text("--grace-days")
    return Arguments(
        task,
        values.on("--repair"),
        values.on("--dry-run"),
        None if days is None else _days(days),
        values.on("--registry"),
        values.on("--delete"),
    )


def run(arguments: Arguments, session: Session) -> int:
    """Do the task; 3 when verify found something bad."""
    with session.open_workspace() as workspace:
        if arguments.registry:
            from envgraph.cli.registry_gc import collect_in_registry

            return collect_in_registry(
                workspace,
                session,
                grace_days=_GRACE if arguments.grace_days is None else arguments.grace_days,
                dry_run=arguments.dry_run,
                delete=arguments.delete,
            )
        store = workspace.store
        if arguments.task == "verify":
            return _verify(arguments, session, store)
        if arguments.task == "gc":
            return _gc(arguments, session, store)
        return _usage(session, store)


def _verify(arguments: Arguments, session: Session, store: Store) -> int:
    from envgraph.history.check import BROKEN, broken_histories

    timeout = session.common.lock_timeout
    with session.console.status("Hashing everything that is kept") as tell:
        report = store.verify(
            repair=arguments.repair,
            timeout=timeout,
            progress=lambda done, total: tell(f"{done:,} of {many(total, 'object')} hashed"),
        )
    histories = list(broken_histories(store))
    if session.common.json:
        bad = [
            {"digest": b.digest, "problem": b.problem, "used_by": list(b.used_by), "area": b.area}
            for b in report.bad
        ]
        bad += [
            {"digest": h.head, "problem": h.problem, "used_by": [f"ref:{h.ref}"],
             "area": "history", "code": BROKEN}
            for h in histories
        ]  # fmt: skip
        session.answer(
            {
                "checked": report.checked,
                "bytes": report.bytes,
                "bad": bad,
                "repaired": report.repaired,
            }
        )
    else:
        show = session.console.out
        for item in report.bad:
            show(f"{item.digest}: {item.problem}")
            users = list(dict.fromkeys(_user(name) for name in item.used_by))
            if session.common.verbose:
                users = list(item.used_by)
            if users:
                show("  needed by ", listed(users, 6))
        text = f"{many(report.checked, 'object')}, {size(report.bytes)} checked"
        for broken in histories:
            show(f"{broken.problem} [{BROKEN}]")
            if session.common.verbose:
                show(f"  {broken.ref} at {broken.head}")
        if histories:
            show(f"{text}. {many(len(histories), 'history')} not whole: nothing can repair that.")
        elif not report.bad:
            show(f"{text}: all good.")
        elif arguments.repair:
            show(f"{text}: {len(report.bad):,} bad, put aside. The next apply makes them anew.")
        else:
            show(f"{text}: {len(report.bad):,} bad. `store verify --repair` puts them aside.")
    return EXIT_FINDINGS if report.bad or histories else 0


_USERS: Final = {
    "environments": "environment {}",
    "images": "the image of {}",
    "lockfiles": "the lockfile of {}",
}


def _user(name: str) -> str:
    """``ref:environments/12345678/train`` in words; ``-v`` shows it as it is."""
    kind, _, rest = name.partition(":")
    area, _, tail = rest.partition("/")
    if kind == "action":
        return "a build step"
    if kind == "ref" and area in _USERS:
        return _USERS[area].format(unescape_name(tail.rpartition("/")[2]))
    return "a pin" if kind == "ref" and area == "pins" else name


def _gc(arguments: Arguments, session: Session, store: Store) -> int:
    grace = None if arguments.grace_days is None else arguments.grace_days * 86400
    report = store.gc(
        dry_run=arguments.dry_run, grace_seconds=grace, timeout=session.common.lock_timeout
    )
    if session.common.json:
        session.answer(
            {
                "dry_run": report.dry_run,
                "removed": [
                    {"area": r.area, "name": r.name, "size": r.size} for r in report.removed
                ],
                "bytes_freed": report.bytes_freed,
                "live": report.live,
                "young": report.young,
                "leftovers": report.leftovers,
                "missing": list(report.missing),
            }
        )
        return 0
    show = session.console.out
    if session.common.verbose:
        for line in table([[r.area, r.name, size(r.size)] for r in report.removed], right=(2,)):
            show(*line)
    verb = "would be removed" if report.dry_run else "removed"
    show(f"{many(len(report.removed), 'object')} {verb}, {size(report.bytes_freed)}.")
    young = f", {report.young:,} too young to judge" if report.young else ""
    show(f"{report.live:,} needed{young}.")
    if report.missing:
        show(f"{many(len(report.missing), 'needed object')} missing: envgraph store verify")
    return 0


def _usage(session: Session, store: Store) -> int:
    report = store.usage()
    areas = {
        "blobs": (report.blobs, "layers, manifests, configs, locks, records"),
        "packages": (report.packages, "archives, kept to build again"),
        "actions": (report.actions, "what was built from what"),
        "refs": (report.refs, "names"),
        "stage": (report.stage, "being written"),
        "quarantine": (report.quarantine, "put aside by verify --repair"),
        "memo": (report.memo, "hints; may be removed"),
    }
    if session.common.json:
        document: dict[str, object] = {
            name: {"files": use.files, "bytes": use.bytes} for name, (use, _) in areas.items()
        }
        session.answer({"path": str(store.root), "areas": document, "bytes": report.total_bytes})
        return 0
    rows = [
        [name, f"{use.files:,}", size(use.bytes), meaning]
        for name, (use, meaning) in areas.items()
        if use.files or name in ("blobs", "packages")
    ]
    session.console.out(str(store.root), f"  {size(report.total_bytes)}")
    for line in table(rows, header=["", "FILES", "SIZE", ""], right=(1, 2), indent="  "):
        session.console.out(*line)
    return 0
