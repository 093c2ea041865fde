"""docker-registry with logins: basic and tokens, by TLS, from docker's config.json; and skopeo."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from envgraph.api import OCI_IMAGE_MANIFEST, Credentials, Digest, RegistryError
from envgraph.model.config import Provider, WorkspaceConfig
from envgraph.registry.remotes import Remotes
from envgraph.testing.registry.scripted import ScriptedRegistry
from tests.oci import Logins, ask_everything, code_of, manifest, opened, push, read
from tests.registries import Certificates, RunningRegistry, docker_registry, make_certificates
from tests.registry_tokens import Signer
from tests.services import require_tool

NAME, PASSWORD = "ada", "pass:wörd"
LOGIN = Credentials(NAME, PASSWORD)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), rsa=True)


@pytest.fixture(scope="module")
def secure(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[RunningRegistry]:
    """With a login, by TLS."""
    folder = tmp_path_factory.mktemp("secure")
    with docker_registry(folder, users={NAME: PASSWORD}, certificates=certificates) as found:
        yield found


def test_basic_by_tls(secure: RunningRegistry, certificates: Certificates) -> None:
    lookup = Logins({secure.host: LOGIN})
    with opened(secure.host, lookup=lookup, ca=str(certificates.ca)) as registry:
        registry.check()
        ask_everything(registry)
        data = b"x" * 2_000_000
        push(registry.repository("a"), data)
        assert registry.repository("b").mount(Digest.of(data), "a") is True
        assert read(registry.repository("b"), data) == data
    for login in (Credentials(NAME, "wrong"), None):
        lookup = Logins({secure.host: login} if login else {})
        with opened(secure.host, lookup=lookup, ca=str(certificates.ca)) as registry:
            with pytest.raises(RegistryError) as caught:
                push(registry.repository("a"), b"data")
            assert code_of(caught.value) == "registry-denied"


def test_the_login_comes_from_docker_s_file(
    secure: RunningRegistry,
    certificates: Certificates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through the host: the entry point, the hook, a relative CA, retries."""
    pair = base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(
        json.dumps({"auths": {secure.host: {"auth": pair}}})
    )
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "ca.pem").write_bytes(certificates.ca.read_bytes())
    options = {"url": f"https://{secure.host}/team", "ca": "ca.pem"}
    config = WorkspaceConfig("test", "1", str(tmp_path), registry=Provider("oci", options))
    with Remotes(config) as remotes:
        for remote in (remotes.workspace(), remotes.for_host(secure.host)):
            assert remote is not None
            ask_everything(remote.registry, "docker-s-file")
            assert remote.repository("docker-s-file").resolve("1") is not None


def test_skopeo_with_the_same_login(
    secure: RunningRegistry, certificates: Certificates, tmp_path: Path
) -> None:
    skopeo = require_tool("skopeo")
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "ca.crt").write_bytes(certificates.ca.read_bytes())

    def run(*arguments: str | Path) -> bytes:
        done = subprocess.run([skopeo, *arguments], capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    lookup = Logins({secure.host: LOGIN})
    with opened(secure.host, lookup=lookup, ca=str(certificates.ca)) as registry:
        repository = registry.repository("both")
        data = manifest(repository, b"a layer that is no tar: skopeo copies it as it is")
        repository.put_manifest("1", data, OCI_IMAGE_MANIFEST)
        place = f"docker://{secure.host}/both"
        login = ["--creds", f"{NAME}:{PASSWORD}", f"--cert-dir={tmp_path / 'certs'}"]
        assert run("inspect", "--raw", *login, f"{place}:1") == data
        both = [
            f"--src-creds={NAME}:{PASSWORD}", f"--dest-creds={NAME}:{PASSWORD}",
            f"--src-cert-dir={tmp_path / 'certs'}", f"--dest-cert-dir={tmp_path / 'certs'}",
        ]  # fmt: skip
        run("copy", "--preserve-digests", *both, f"{place}:1", f"{place}-copied:2")
        assert registry.repository("both-copied").get_manifest("2").data == data


def test_tokens_of_another_service(certificates: Certificates, tmp_path: Path) -> None:
    """The service is another port of the same host, by https, and so gets the login."""
    pair = (certificates.certificate, certificates.key)
    signer = Signer(certificates, tmp_path, (NAME, PASSWORD))
    with ScriptedRegistry(certificate=pair) as service:
        signer.serve(service)
        settings = signer.settings(f"{service.url}/token")
        with docker_registry(
            tmp_path / "registry", token=settings, certificates=certificates
        ) as running:
            lookup = Logins({running.host: LOGIN})
            with opened(running.host, lookup=lookup, ca=str(certificates.ca)) as registry:
                registry.check()
                ask_everything(registry, "a")
                push(registry.repository("a"), b"shared")
                assert registry.repository("b").mount(Digest.of(b"shared"), "a") is True
                assert read(registry.repository("b"), b"shared") == b"shared"
                assert set(registry.list()) == {"a", "b"}
                registry.repository("a").delete(
                    str(registry.repository("a").get_manifest("1").digest)
                )
            assert ["repository:b:pull,push", "repository:a:pull"] in signer.granted
            assert all(len({s.split(":")[1] for s in g}) <= 2 for g in signer.granted)
            wrong = Logins({running.host: Credentials(NAME, "wrong")})
            with (
                opened(running.host, lookup=wrong, ca=str(certificates.ca)) as registry,
                pytest.raises(RegistryError) as caught,
            ):
                registry.check()
            assert code_of(caught.value) == "registry-denied"
