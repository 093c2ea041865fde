"""What rattler says when it fails, said again so that a person can act on it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from envgraph.conda import credentials
from envgraph.conda.channels import ChannelSource
from envgraph.conda.request import SolveRequest
from envgraph.errors import Diagnostic, EnvgraphError, FetchError, ResolveError, SourceLocation

if TYPE_CHECKING:
    from rattler import Gateway

    from envgraph.conda.records import Candidate

_MISSING: Final = re.compile(
    r"No candidates were found for (\S+)|(\w[\w.-]*) [^\n]*?, for which no candidates were found"
)
_GLIBC: Final = re.compile(r"__glibc\s*>=\s*([0-9.]+)")
_CPU_BUILD: Final = re.compile(r"cpu", re.IGNORECASE)
_DETAIL_LIMIT: Final = 20_000


def known_secrets(sources: Iterable[ChannelSource]) -> list[str]:
    """Every secret of these channels' addresses, for masking."""
    return [secret for s in sources for secret in credentials.secrets_of(s.secret_address)]


def is_unsatisfiable(error: BaseException) -> bool:
    """Whether the solver had an answer, and it is no."""
    return type(error).__name__ == "SolverError"


def missing_names(text: str) -> list[str]:
    """Names, in the solver's words, that no channel has; virtual packages left out."""
    return sorted(
        {name for pair in _MISSING.findall(text) for name in pair if name and name[:2] != "__"}
    )


def translate(
    error: BaseException,
    sources: Sequence[ChannelSource],
    request: SolveRequest,
    close: Mapping[str, Sequence[str]] | None = None,
    there: Mapping[str, Sequence[str]] | None = None,
) -> EnvgraphError:
    """The typed error for whatever rattler raised, with no secret in it.

    ``close``: for a name that is nowhere, the names that it may have meant. ``there``: for
    one whose versions do not fit, its versions.
    """
    if is_unsatisfiable(error):
        text = _masked(error, sources)
        return _unsatisfiable(text, sources, request, close or {}, there or {})
    return channel_error(error, sources)


def channel_error(error: BaseException, sources: Sequence[ChannelSource]) -> EnvgraphError:
    """The typed error for whatever rattler raised while it read channels, with no secret in it."""
    if isinstance(error, EnvgraphError):
        return error
    text = _masked(error, sources)
    kind = type(error).__name__
    if kind == "PanicException":
        return ResolveError(
            "the solver crashed", code="solver-crash", detail=text, hint="please report this"
        )
    if isinstance(error, (MemoryError, RecursionError)):
        return ResolveError("the solver ran out of memory", code="solver-memory", detail=kind)
    if kind in ("CacheDirError", "IoError") or isinstance(error, OSError):
        return FetchError("the folder for repodata cannot be used", code="cache", detail=text)
    return _channel_failure(text, sources)


def _masked(error: BaseException, sources: Sequence[ChannelSource]) -> str:
    return credentials.mask(str(error), known_secrets(sources))[:_DETAIL_LIMIT].strip()


def is_foreign(error: BaseException) -> bool:
    """Whether rattler or the system raised it; anything else is a bug of ours."""
    return type(error).__module__ in ("exceptions", "rattler.exceptions", "pyo3_runtime") or (
        isinstance(error, (OSError, MemoryError, RecursionError, EnvgraphError))
    )


def _unsatisfiable(
    text: str,
    sources: Sequence[ChannelSource],
    request: SolveRequest,
    close: Mapping[str, Sequence[str]],
    there: Mapping[str, Sequence[str]],
) -> ResolveError:
    reason = text.removeprefix("Cannot solve the request because of:").strip()
    reason = name_channels(reason, sources)
    missing = sorted({a or b for a, b in _MISSING.findall(text)})
    place: SourceLocation | None = None
    for spec in request.specs:
        if spec.name in missing or (place is None and f" {spec.name} " in f" {reason} "):
            place = spec.source
            break
    return ResolveError(
        "no set of packages satisfies the request on " + request.platform,
        code="unsatisfiable",
        detail=reason,
        source=place,
        hint="; ".join(_hints(missing, reason, sources, request, close, there)),
    )


def name_channels(text: str, sources: Sequence[ChannelSource]) -> str:
    """Addresses of channels in ``text`` become the channels' names."""
    for source in sorted(sources, key=lambda s: -len(s.address)):
        text = text.replace(source.address + "/", source.name).replace(source.address, source.name)
    return text


def _hints(
    missing: list[str],
    reason: str,
    sources: Sequence[ChannelSource],
    request: SolveRequest,
    close: Mapping[str, Sequence[str]],
    there: Mapping[str, Sequence[str]],
) -> list[str]:
    hints = []
    names = ", ".join(source.name for source in sources)
    for name in missing:
        if name == "__cuda":
            hints.append(
                f'for GPUs, set virtual_packages: {{{request.platform}: {{__cuda: "12.4"}}}} '
                "in envgraph.yaml"
            )
        elif name.startswith("__"):
            hints.append(
                f"{name} is a property of the machine: see virtual_packages in envgraph.yaml"
            )
        elif there.get(name):
            hints.append(f"{names} has {name} in {', '.join(there[name])}")
        else:
            hints.append(f"no package {name} for {request.platform} in {names}")
            if close.get(name):
                hints.append(f"did you mean {' or '.join(close[name])}?")
    nowhere = [
        name for name in missing if not (name[:2] == "__" or close.get(name) or name in there)
    ]
    if nowhere and not {"defaults", "pkgs/main"} & {source.name for source in sources}:
        hints.append("is a channel missing? `defaults` is never added where it is not named")
    wanted = _GLIBC.search(reason)
    if wanted and "__glibc" in request.virtual_packages:
        hints.append(
            f"glibc {wanted[1]} is wanted, and the lock is for "
            f"{request.virtual_packages['__glibc']}: see virtual_packages in envgraph.yaml"
        )
    if "strict channel priority" in reason:
        hints.append(
            "a package is taken from the first channel that has its name: reorder the channels, "
            "or write CHANNEL::NAME"
        )
    return hints


def _channel_failure(text: str, sources: Sequence[ChannelSource]) -> FetchError:
    guilty = [source for source in sources if source.address in text]
    if not guilty:
        guilty = [s for s in sources if _shares_host(s.address, text)]
    if len(guilty) > 1:
        longest = max(len(source.address) for source in guilty)
        guilty = [source for source in guilty if len(source.address) == longest]
    named = guilty or list(sources)
    error = FetchError(
        "the channel " + " or ".join(source.title for source in named) + " cannot be read",
        code="channel",
        detail=text,
        hint=_channel_hint(text, named),
    )
    error.retryable = not any(source.is_file for source in named) and "404" not in text
    return error


def _shares_host(address: str, text: str) -> bool:
    host = address.split("://", 1)[-1].split("/", 1)[0]
    return bool(host) and host in text


def _channel_hint(text: str, sources: Sequence[ChannelSource]) -> str:
    if all(source.is_file for source in sources):
        return "the folder needs noarch/repodata.json: is the path right, and the channel indexed?"
    if "404" in text or "could not find subdir" in text:
        return "is the channel's name or address right?"
    if "401" in text or "403" in text:
        return "credentials go into netrc, or as ${VARIABLE} into the channel's address"
    if "certificate" in text.lower():
        return "SSL_CERT_FILE names the certificates to trust"
    return "is the server there? `channels:` in envgraph.yaml can name a mirror"


def close_names(names: Iterable[str], known: Sequence[str]) -> dict[str, list[str]]:
    """For each name up to three known ones that it may have meant."""
    return {n: difflib.get_close_matches(n, known, n=3, cutoff=0.75) for n in names}


async def versions_there(
    gateway: Gateway, sources: Sequence[ChannelSource], request: SolveRequest, names: Sequence[str]
) -> dict[str, list[str]]:
    """For each of these packages its versions in the channels, the newest five first."""
    import rattler

    if not names:
        return {}
    found = await gateway.query(
        [rattler.Channel(source.address) for source in sources],
        [rattler.Subdir(request.platform), rattler.Subdir("noarch")],
        [rattler.MatchSpec(name) for name in names],
        recursive=False,
        channel_relations="disabled",
    )
    versions: dict[str, set[rattler.Version]] = {}
    for record in (r for channel in found for r in channel):
        versions.setdefault(record.name.normalized, set()).add(record.version)
    return {n: [str(v) for v in sorted(known, reverse=True)[:5]] for n, known in versions.items()}


async def hints_after_success(
    gateway: Gateway,
    sources: Sequence[ChannelSource],
    candidates: Sequence[Candidate],
    request: SolveRequest,
) -> tuple[Diagnostic, ...]:
    """Say it when a CPU build won only because no ``__cuda`` was solved for."""
    if "__cuda" in request.virtual_packages:
        return ()
    import rattler

    doubtful = [c for c in candidates if c.direct or _CPU_BUILD.search(c.build)]
    if not doubtful:
        return ()
    specs = [rattler.MatchSpec(f"{c.name} =={c.version}", strict=False) for c in doubtful]
    found = await gateway.query(
        [rattler.Channel(source.address) for source in sources],
        [rattler.Subdir(request.platform), rattler.Subdir("noarch")],
        specs,
        recursive=False,
        channel_relations="disabled",
    )
    chosen = {c.name: c for c in doubtful}
    gpu = sorted(
        {
            record.name.normalized
            for records in found
            for record in records
            if any(depend.split(" ")[0] == "__cuda" for depend in record.depends)
            and record.name.normalized in chosen
            and record.channel.rstrip("/") == chosen[record.name.normalized].channel.address
        }
    )
    return tuple(
        Diagnostic(
            "cpu-build",
            f"{name} {chosen[name].version}: a CPU build was chosen, a GPU build exists",
            detail=f"the lock is solved for {request.platform} without __cuda",
            hint="for GPUs, set virtual_packages: {"
            + request.platform
            + ': {__cuda: "12.4"}} in envgraph.yaml',
            severity="info",
        )
        for name in gpu
    )
