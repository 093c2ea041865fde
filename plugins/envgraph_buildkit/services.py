"""What BuildKit may ask for while a build runs, beside files and blobs: logins, secrets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from envgraph.api import Credentials, SecretReader
from envgraph_buildkit.messages import encode, message
from envgraph_buildkit.progress import Redactor
from envgraph_buildkit.quiet import grpc
from envgraph_buildkit.session import Refusal

Login = Callable[[str], Credentials | None]
"""The login for a ``host[:port]``; None where there is none."""


def logins(login: Login, redactor: Redactor) -> dict[str, Any]:
    """``moby.filesync.v1.Auth``: logins for the registries that BuildKit speaks to."""

    def credentials(request: Any, context: Any) -> Any:
        host = "docker.io" if request.Host == "registry-1.docker.io" else request.Host
        found = login(host)
        if found is None or not found.password:
            return message("CredentialsResponse")()
        redactor.learn(found.password.encode())
        return message("CredentialsResponse")(Username=found.username, Secret=found.password)

    return {
        "/moby.filesync.v1.Auth/Credentials": grpc.unary_unary_rpc_method_handler(
            credentials, message("CredentialsRequest").FromString, encode
        )
    }


def secrets(readers: Mapping[str, SecretReader], redactor: Redactor) -> dict[str, Any]:
    """``moby.buildkit.secrets.v1.Secrets``: secrets by id, read when a step asks."""

    def get(request: Any, context: Any) -> Any:
        reader = readers.get(request.ID)
        if reader is None:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"secret {request.ID[:100]}: not found")
        data = reader()
        redactor.learn(data)
        return message("GetSecretResponse")(data=data)

    return {
        "/moby.buildkit.secrets.v1.Secrets/GetSecret": grpc.unary_unary_rpc_method_handler(
            get, message("GetSecretRequest").FromString, encode
        )
    }
