"""envgraph.yaml: every key, its default, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from envgraph.model.config import ImageOptions, Provider, WorkspaceConfig
from envgraph.spec import discover, load_workspace

CONTRACT = """\
workspace: fraud-models            # [a-z0-9][a-z0-9._-]*
id: 7f3a90c1
environments: [environments/*.yml]
platforms: [linux-64, linux-aarch64]
virtual_packages: {linux-64: {__glibc: "2.34", __cuda: "12.4"}}
registry: {type: oci, url: "127.0.0.1:5000/ml", insecure: true, retries: 3}
registries: {shared: {type: dirs, path: ../shared-registry}}
builder: {type: auto}
compute: {gpu: {type: slurm, partition: a100}}
base_images: Follow
channels: {conda-forge: "http://127.0.0.1:8000/conda-forge", local: ./channel, home: ~/c}
default_channels: [conda-forge, bioconda]
pip_indexes: ["https://${USER}@h.example/simple"]
secrets: {token: env:TOKEN, key: file:secrets/key}
image: {compression: gzip, max_layers: 60, bytecode: none, default_base: "oci:base"}
reserved_prefixes: [Acme-]
"""


def load(folder: Path, text: str) -> tuple[WorkspaceConfig, list[str]]:
    (folder / "envgraph.yaml").write_text(text)
    config, diagnostics = load_workspace(folder)
    return config, [
        f"{d.source.line}:{d.source.column} {d.code}" for d in diagnostics if d.source is not None
    ]


def test_every_key(tmp_path: Path) -> None:
    config, codes = load(tmp_path, CONTRACT)
    assert codes == []
    assert config == WorkspaceConfig(
        name="fraud-models",
        id="7f3a90c1",
        root=str(tmp_path),
        file=str(tmp_path / "envgraph.yaml"),
        environments=("environments/*.yml",),
        platforms=("linux-64", "linux-aarch64"),
        virtual_packages={
            "linux-64": {"__unix": "0", "__linux": "0", "__glibc": "2.34", "__cuda": "12.4"},
            "linux-aarch64": {"__unix": "0", "__linux": "0", "__glibc": "2.28"},
        },
        registry=Provider("oci", {"url": "127.0.0.1:5000/ml", "insecure": True, "retries": 3}),
        registries={"shared": Provider("dirs", {"path": "../shared-registry"})},
        builder=Provider("auto"),
        compute={"local": Provider("local"), "gpu": Provider("slurm", {"partition": "a100"})},
        base_images="follow",
        channels={
            "conda-forge": "http://127.0.0.1:8000/conda-forge",
            "local": str(tmp_path / "channel"),
            "home": str(Path("~/c").expanduser()),
        },
        default_channels=("conda-forge", "bioconda"),
        pip_indexes=("https://${USER}@h.example/simple",),
        secrets={"token": "env:TOKEN", "key": f"file:{tmp_path}/secrets/key"},
        image=ImageOptions("gzip", 60, "none", "oci:base"),
        reserved_prefixes=("Acme-",),
    )


def test_without_a_file_the_defaults(tmp_path: Path) -> None:
    config, diagnostics = load_workspace(tmp_path)
    assert diagnostics == ()
    assert (config.name, config.file, config.root) == ("default", None, str(tmp_path))
    assert config.environments == ("environments/*.yml", "environments/*.yaml")
    assert config.platforms == ("linux-64",)
    assert config.virtual_packages == {
        "linux-64": {"__unix": "0", "__linux": "0", "__glibc": "2.28"}
    }
    assert config.image == ImageOptions("zstd", 80, "auto", "scratch")
    assert config.reserved_prefixes == ("AzureML-", "Microsoft")
    assert config.compute == {"local": Provider("local")}


def test_the_id_is_the_files_or_follows_from_name_and_folder(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    ids = {load_workspace(one)[0].id, load_workspace(two)[0].id, load(one, "workspace: a\n")[0].id}
    assert len(ids) == 3
    assert load_workspace(one)[0].id == load(one, "workspace: a\n")[0].id
    assert load(one, "workspace: a\nid: x\n")[0].id == load(two, "workspace: a\nid: x\n")[0].id


def test_whether_steps_are_trusted_is_no_option_of_the_plugin(tmp_path: Path) -> None:
    text = "workspace: a\nregistry: {type: oci, trust_steps: false}\n"
    more = "registries: {x: {type: dirs, trust_steps: true}}\nbuilder: {type: b, trust_steps: no}\n"
    config, codes = load(tmp_path, text + more)
    assert codes == []
    assert config.registry == Provider("oci", {}, trust_steps=False)
    assert config.registries == {"x": Provider("dirs")}
    assert config.builder == Provider("b", {"trust_steps": "no"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}\n", ["1:1 no-name"]),
        ("- a\n", ["1:1 type"]),
        ("", ["1:1 empty-file"]),
        ("workspace: Fraud\n", ["1:12 workspace-name"]),
        ("workspace: a\nid: a/b\n", ["2:5 workspace-id"]),
        ("workspace: a\nplatform: [linux-64]\n", ["2:1 unknown-key"]),
        ("workspace: a\nplatforms: [linux]\n", ["2:13 platform"]),
        ("workspace: a\nplatforms: []\n", ["2:12 no-platform"]),
        ("workspace: a\nvirtual_packages: {linux-64: {glibc: 2}}\n", ["2:31 virtual-package"]),
        ("workspace: a\nvirtual_packages: {linux-64: {__glibc: [2]}}\n", ["2:40 virtual-package"]),
        ("workspace: a\nvirtual_packages: {linus: {}}\n", ["2:20 platform"]),
        ("workspace: a\nregistry: oci\n", ["2:11 type"]),
        ("workspace: a\nregistry: {url: x}\n", ["2:11 no-type"]),
        ("workspace: a\nregistries: {x: y}\n", ["2:17 type", "2:17 no-type"]),
        ("workspace: a\nregistry: {type: oci, trust_steps: 2}\n", ["2:36 type"]),
        ("workspace: a\nregistries: {x: {type: oci, trust_steps: 'no'}}\n", ["2:42 type"]),
        ("workspace: a\nbase_images: freze\n", ["2:14 choice"]),
        ("workspace: a\nimage: {compression: lz4}\n", ["2:22 choice"]),
        ("workspace: a\nimage: {max_layers: 200}\n", ["2:21 max-layers"]),
        ("workspace: a\nimage: {max_layers: many}\n", ["2:21 max-layers"]),
        ("workspace: a\nimage: {default_base: 'a b'}\n", ["2:23 image-reference"]),
        ("workspace: a\nimage: {layers: 3}\n", ["2:9 unknown-key"]),
        ("workspace: a\nsecrets: {x: canary}\n", ["2:14 secret"]),
        ("workspace: a\nsecrets: {x: [a]}\n", ["2:14 type"]),
        ("workspace: a\nworkspace: b\n", ["2:1 duplicate-key"]),
        ("workspace: {{name}}\n", ["1:12 workspace-name"]),
        ("workspace: a\nchannels: [x]\n", ["2:11 type"]),
        ("workspace: a\nenvironments: [{a: b}]\n", ["2:16 type"]),
    ],
)
def test_what_is_wrong(tmp_path: Path, text: str, expected: list[str]) -> None:
    _, codes = load(tmp_path, text)
    assert codes == expected
    assert "canary" not in str(load_workspace(tmp_path)[1])


def test_a_near_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "envgraph.yaml").write_text("workspace: a\nplatfroms: [linux-64]\n")
    assert load_workspace(tmp_path)[1][0].hint == "did you mean 'platforms'?"


def test_a_folder_instead_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "envgraph.yaml").mkdir()
    config, diagnostics = load_workspace(tmp_path)
    assert [d.code for d in diagnostics] == ["not-a-file"]
    assert config.name == "default"


def test_a_virtual_package_can_be_taken_out(tmp_path: Path) -> None:
    config, codes = load(
        tmp_path, "workspace: a\nvirtual_packages: {linux-64: {__glibc: ~, __cuda: 12}}\n"
    )
    assert codes == []
    assert config.virtual_packages["linux-64"] == {"__unix": "0", "__linux": "0", "__cuda": "12"}


def test_discover(tmp_path: Path) -> None:
    for name in ("environments/b.yml", "environments/a.yaml", "environments/x.txt", "other/c.yml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "environments/dir.yml").mkdir()
    (tmp_path / "environments/gone.yml").symlink_to("nowhere")
    config, _ = load_workspace(tmp_path)
    names = [str(path.relative_to(tmp_path)) for path in discover(config)]
    assert names == ["environments/a.yaml", "environments/b.yml", "environments/gone.yml"]
    config, _ = load(tmp_path, "workspace: a\nenvironments: ['**/*.yml', environments/b.yml]\n")
    names = [str(path.relative_to(tmp_path)) for path in discover(config)]
    assert names == ["environments/b.yml", "environments/gone.yml", "other/c.yml"]
