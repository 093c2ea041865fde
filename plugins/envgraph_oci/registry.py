"""A registry: its repositories, its list, and whether it answers."""

from __future__ import annotations

from collections.abc import Iterator

from envgraph.api import RegistryError
from envgraph_oci.answers import Call
from envgraph_oci.repository import OciRepository
from envgraph_oci.wire import Wire


class OciRegistry:
    """An OCI registry; :class:`envgraph.api.Registry`. Opens nothing until it is asked."""

    def __init__(self, wire: Wire) -> None:
        """Speak over ``wire``, and close it at the end."""
        self._wire = wire

    @property
    def title(self) -> str:
        """The host as the user writes it."""
        return self._wire.title

    def repository(self, name: str) -> OciRepository:
        """The repository of that name, there or not."""
        return OciRepository(self._wire, name)

    def check(self) -> None:
        """Ask whether it answers and takes the user's login; RegistryError says why not."""
        answer = self._wire.auth.send(Call("GET", self._wire.base, "ask whether it answers"))
        if answer.status != 200:
            raise answer.error()
        answer.discard()

    def list(self, prefix: str = "") -> Iterator[str]:
        """Repositories by prefix, from ``_catalog``, which many registries refuse."""
        own = f"{self._wire.place.prefix}/" if self._wire.place.prefix else ""
        try:
            for page in self._wire.pages(
                f"{self._wire.base}_catalog?n=1000",
                ("registry:catalog:*",),
                "list the repositories",
            ):
                for name in page.get("repositories") or ():
                    if isinstance(name, str) and name.startswith(own + prefix):
                        yield name.removeprefix(own)
        except RegistryError as error:
            if error.retryable:
                raise
            raise RegistryError(
                f"{self._wire.title} does not tell which repositories it has",
                code="registry-unsupported",
                detail=str(error),
            ) from None

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()
