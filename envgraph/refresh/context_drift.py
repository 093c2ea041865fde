"""Ask where build contexts came from whether there is something else by now."""

from __future__ import annotations

import os
from collections.abc import Sequence

from envgraph.conda import credentials
from envgraph.errors import EnvgraphError, FetchError
from envgraph.lock.contexts import Contexts
from envgraph.lock.fetcharchive import mark_now, sha256_of
from envgraph.model.config import WorkspaceConfig
from envgraph.model.drift import ContextStanding
from envgraph.model.locked import ContextOrigin
from envgraph.refresh.asking import Asking, Subject
from envgraph.spec.context_address import BadContextError, GitContext, parse_context, shown_address
from envgraph_store import Store

_GONE = frozenset({"context-ref", "context-repository"})
Answer = ContextStanding | EnvgraphError | None


def ask_contexts(
    config: WorkspaceConfig,
    store: Store,
    subjects: Sequence[Subject],
    asking: Asking,
    *,
    offline: bool,
) -> dict[ContextOrigin, ContextStanding | None]:
    """What the contexts' addresses have now; None for one that never moves, or was not asked.

    Each is asked once: a branch costs a question to its repository, an archive one without a
    body. Why somebody could not be asked goes to ``asking``.
    """
    users: dict[ContextOrigin, list[str]] = {}
    written: dict[str, str] = {}
    for subject in subjects:
        context, spec = subject.lock.context, subject.spec
        if context is not None and context.origin is not None:
            users.setdefault(context.origin, []).append(subject.record.environment)
            if spec is not None and spec.build is not None:  # credentials stand there alone
                written[shown_address(spec.build.path)] = spec.build.path
    contexts = Contexts(config, store, offline=offline)
    found: dict[ContextOrigin, ContextStanding | None] = {}
    for origin, names in users.items():
        address = written.get(origin.address, origin.address)
        answer = _ask(contexts, origin, address, config, offline)
        if isinstance(answer, EnvgraphError):
            asking.skip(f"context {origin.address}", names, answer)
        found[origin] = None if isinstance(answer, EnvgraphError) else answer
    return found


def _ask(
    contexts: Contexts, origin: ContextOrigin, address: str, config: WorkspaceConfig, offline: bool
) -> Answer:
    try:
        context = parse_context(address)
        if isinstance(context, GitContext):
            if not origin.ref:
                return None
            return ContextStanding(contexts.meant(context)[0])
        if address.startswith("file://"):
            return ContextStanding(sha256_of(address))
        if not origin.validator:
            return FetchError(
                f"{origin.address} has no ETag: only fetching it would tell",
                code="context-not-asked",
            )
        full = credentials.expand(address, os.environ, config.secrets)
        mark = mark_now(full, offline=offline)
        return ContextStanding(origin.pinned if mark == origin.validator else mark)
    except BadContextError as error:
        return EnvgraphError(str(error), code="context-address")
    except EnvgraphError as error:
        [first, *_] = error.diagnostics
        gone = first.code in _GONE or getattr(error, "status", 0) in (404, 410)
        return ContextStanding(None) if gone else error
