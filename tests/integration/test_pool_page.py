"""What the page on pools shows: its YAML is read, its commands run, its certificates are taken."""

from __future__ import annotations

import re
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from envgraph.api import BuilderError, BuildRequest, Platform
from envgraph.plugins import Plugins, options_of
from envgraph.spec import load_workspace
from envgraph.testing.builder.material import EPOCH, MemoryContext, steps
from envgraph_buildkit.options import BuildkitOptions, servers
from tests.buildkit import Front, opened
from tests.daemons import Daemon
from tests.services import require_tool

PAGE = Path(__file__).resolve().parents[2] / "plugins/envgraph_buildkit/pool.md"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def manifest() -> dict[str, Any]:
    """Its documents by kind."""
    [text] = [block for block in blocks("yaml") if "apiVersion" in block]
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def options(text: str, folder: Path) -> BuildkitOptions:
    """The ``builder:`` of a block, read as ``plan`` reads it."""
    whole = text if text.startswith("workspace") else f"workspace: w\n{text}"
    (folder / "envgraph.yaml").write_text(whole)
    config, diagnostics = load_workspace(folder)
    assert diagnostics == ()
    assert config is not None
    found = options_of(Plugins().builder("buildkit"), config.builder, "builder")
    assert isinstance(found, BuildkitOptions)
    return found


def test_every_envgraph_yaml_is_good(tmp_path: Path) -> None:
    found = [options(block, tmp_path) for block in blocks("yaml") if "builder:" in block]
    assert [len(each.addresses) for each in found] == [2, 3]
    inline = re.findall(r"`(addresses: \[.*?\])`", PAGE.read_text())
    assert inline
    for text in inline:
        each = options(f"builder: {{type: buildkit, {text}}}", tmp_path)
        assert len(servers(each, False)) == len(each.addresses)


def test_the_manifest_and_envgraph_yaml_name_the_same_servers(tmp_path: Path) -> None:
    service, pods = manifest()["Service"], manifest()["StatefulSet"]
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    [port] = [each["port"] for each in service["spec"]["ports"]]
    assert service["spec"]["clusterIP"] == "None"
    assert pods["spec"]["serviceName"] == name
    [text] = [block for block in blocks("yaml") if block.startswith("workspace")]
    assert list(options(text, tmp_path).addresses) == [
        f"tcp://{pods['metadata']['name']}-{n}.{name}.{namespace}.svc:{port}"
        for n in range(pods["spec"]["replicas"])
    ]
    labels = pods["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == pods["spec"]["selector"]["matchLabels"] == labels
    assert manifest()["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert {each["metadata"]["namespace"] for each in manifest().values()} == {namespace}


def test_the_pods_parts_fit() -> None:
    pod = manifest()["StatefulSet"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    claims = manifest()["StatefulSet"]["spec"]["volumeClaimTemplates"]
    volumes = {each["name"] for each in pod["volumes"]}
    assert set(mounts) == volumes | {claim["metadata"]["name"] for claim in claims}
    files = {a.split("=")[1] for a in container["args"] if a.startswith("--tls")}
    secret = next(block for block in blocks("sh") if "create secret" in block)
    kept = re.findall(r"--from-file=([\w-]+\.pem)", secret)
    assert files == {f"{mounts['certs']}/{name}" for name in kept}
    assert pod["volumes"][0]["secret"]["secretName"] in secret
    ports = [each["containerPort"] for each in container["ports"]]
    assert f"--addr=tcp://0.0.0.0:{ports[0]}" in container["args"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands of the page make."""
    require_tool("openssl")
    folder = tmp_path_factory.mktemp("certs")
    [script] = [block for block in blocks("sh") if "openssl" in block]
    subprocess.run(["sh", "-e", "-c", script], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.services
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["buildkitd-0.buildkitd.build.svc", "buildkitd.build.svc", "buildkitd.other.svc"]
)
def test_the_certificates_are_good_for_pods_and_service(
    current_dockerd: Daemon, certificates: Path, name: str
) -> None:
    server = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem")
    )
    server.load_cert_chain(certificates / "server.pem", certificates / "server-key.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    server.set_alpn_protocols(["h2"])
    tls: dict[str, Any] = {
        "ca": str(certificates / "ca.pem"),
        "cert": str(certificates / "client.pem"),
        "key": str(certificates / "client-key.pem"),
    }
    request = BuildRequest(
        Platform("linux", "amd64"), steps(None, "COPY a /a"), MemoryContext({"a": b"A"}),
        epoch=EPOCH, network=False,
    )  # fmt: skip
    with (
        Front(current_dockerd.address, server) as front,
        opened(front.address, server_name=name, **tls) as builder,
    ):
        if "other" in name:
            with pytest.raises(BuilderError) as caught:
                builder.capabilities()
            assert caught.value.code == "builder-refused"
            return
        with builder.build(request, lambda event: None, threading.Event()) as result:
            assert len(result.layers) == 1
