"""Azure ML's environment YAML as it is, and envgraph's own keys."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from envgraph.model.config import ImageOptions, WorkspaceConfig
from envgraph.spec import LoadResult, load_environment
from tests.unit.spec.conftest import Read

Said = Callable[[LoadResult], list[str]]
HEAD = "name: a\nimage: python:3.12\n"


def test_the_whole_of_it(read: Read) -> None:
    result = read(
        {
            "environment.yml": """\
$schema: https://azuremlschemas.azureedge.net/latest/environment.schema.json
id: azureml:/x
creation_context: {created_at: 1}
name: Train env
version: 18.04:2022
description: "text"
tags: {a: 1, b: , c: {d: [1, x]}}
properties: {p: 3.10}
image: python
conda_file: sub/conda.yml
os_type: Linux
environment_variables: {A: 010, B: true}
platforms: [linux-64, linux-aarch64]
docker_steps:
- run apt-get update
- |
  RUN a && \\
      b
inference_config:
  liveness_route: {port: 5001, path: /live}
  readiness_route: {port: 5001, path: /ready}
  scoring_route: {port: 5001, path: /score}
""",
            "sub/conda.yml": "dependencies: [xz]\nvariables: {C: 1}\n",
        }
    )
    assert result.diagnostics == ()
    spec = result.spec
    assert spec is not None
    assert (spec.name, spec.version) == ("Train env", "18.04:2022")
    assert spec.image == "docker.io/library/python:latest"
    assert spec.tags == {"a": "1", "b": "", "c": '{"d": ["1", "x"]}'}
    assert spec.properties == {"p": "3.10"}
    assert spec.environment_variables == {"A": "010", "B": "true"}
    assert spec.platforms == ("linux-64", "linux-aarch64")
    assert [step.instruction for step in spec.docker_steps] == [
        "RUN apt-get update",
        "RUN a && \\\n    b",
    ]
    assert spec.inference_config is not None
    assert spec.inference_config.scoring_route.path == "/score"
    assert spec.conda is not None
    assert spec.conda.file == "sub/conda.yml"
    assert [Path(path).name for path in spec.inputs] == ["environment.yml", "conda.yml"]
    assert all(os.path.isabs(path) for path in spec.inputs)  # noqa: PTH117


@pytest.mark.parametrize(("number", "text"), [("1", "1"), ("1.10", "1.10"), ("'1'", "1")])
def test_versions_are_text(read: Read, number: str, text: str) -> None:
    spec = read(HEAD + f"version: {number}\n").spec
    assert spec is not None
    assert spec.version == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image: x\n", ["1:1 no-name"]),
        ("name:\nimage: x\n", ["1:1 no-name"]),
        ("name: a\n", ["1:1 no-image"]),
        ("name: a\nimage: x\nbuild: {path: .}\n",
         ["3:1 image-and-build", "3:15 missing-dockerfile"]),
        ("name: a/b\nimage: x\n", ["1:7 name"]),
        ("name: a@b\nimage: x\n", ["1:7 name"]),
        ("name: " + "x" * 256 + "\nimage: x\n", ["1:7 name"]),
        ("name: [a]\nimage: x\n", ["1:7 type"]),
        (HEAD + "version: a/b\n", ["3:10 version"]),
        (HEAD + "version: {a: b}\n", ["3:10 type"]),
        ("name: a\nimage: UPPER/x\n", []),
        ("name: a\nimage: x/UPPER\n", ["2:8 image-reference"]),
        ("name: a\nimage: https://h/x\n", ["2:8 image-reference"]),
        ("name: a\nimage: {name: x}\n", ["1:1 not-environment"]),
        (HEAD + "conda_file: gone.yml\n", ["3:13 missing-file"]),
        (HEAD + "conda_file: .\n", ["3:13 not-a-file"]),
        (HEAD + "conda_file: [a]\n", ["3:13 type"]),
        (HEAD + "conda_file: https://h/c.yml\n", ["3:13 remote-conda-file"]),
        (HEAD + "conda_file: {}\n", ["3:13 no-dependencies"]),
        ("name: a\nbuild: {}\n", ["2:8 no-build-path"]),
        ("name: a\nbuild: x\n", ["2:8 type"]),
        ("name: a\nbuild: {path: gone}\n", ["2:15 missing-folder"]),
        ("name: a\nbuild: {path: ., dockerfile_path: ../D}\n", ["2:35 dockerfile-outside"]),
        ("name: a\nbuild: {path: ., file: D}\n", ["2:15 missing-dockerfile", "2:18 unknown-key"]),
        ("name: a\nbuild: {path: 'https://u:canary@h/x.git#main:sub'}\n", []),
        ("name: a\nbuild: {path: 'https://u:canary@h/x/y/'}\n", ["2:15 remote-context?"]),
        ("name: a\nbuild: {path: 'https://h/x.git#main:../up'}\n", ["2:15 context-address"]),
        ("name: a\nbuild: {path: 'git+ext::sh -c x'}\n", ["2:15 context-address"]),
        ("name: a\nbuild: {path: .}\nconda_file: {dependencies: [a]}\n",
         ["2:15 missing-dockerfile", "3:1 conda-file-with-build"]),
        (HEAD + "os_type: solaris\n", ["3:10 os-type"]),
        (HEAD + "os_type: Windows\n", ["3:10 windows?"]),
        (HEAD + "conda_fil: x\n", ["3:1 unknown-key"]),
        (HEAD + "platforms: [linux-65]\n", ["3:13 platform"]),
        (HEAD + "tags: [a]\n", ["3:7 type"]),
        (HEAD + "inference_config: {scoring_route: {port: 1, path: /}}\n",
         ["3:19 no-route", "3:19 no-route"]),
        (HEAD + "environment_variables: {'A=B': 1, C: [x]}\n", ["3:25 variable-name", "3:38 type"]),
        (HEAD + "datastore: x\nauto_delete_setting: {condition: a, valu: 1}\n",
         ["3:1 cloud-only?", "4:1 cloud-only?", "4:37 unknown-key"]),
        (HEAD + "docker_steps: RUN x\n", ["3:15 type"]),
        (HEAD + "docker_steps: [FROM x, JUMP y, RUN, {a: b}]\n",
         ["3:16 docker-step", "3:24 docker-step", "3:32 docker-step", "3:37 type"]),
        ("type: command\ncommand: x\nenvironment: azureml:a:1\n", ["1:1 not-environment"]),
        ("name: {{n}}\nimage: '{{i}}'\nversion: {{v}}\n",
         ["1:7 template", "2:8 template", "3:10 template"]),
        ("name: ${{n}}\nimage: x/${{ i }}\nversion: ${{v}}\nconda_file: ${{c}}\n",
         ["1:7 template", "2:8 template", "3:10 template", "4:13 template"]),
        (HEAD + "conda_file:\n  channels: ['${{ a }}']\n  dependencies: ['b=${{v}}', {pip: "
         "['-r ${{f}}', 'git+https://h/${{ p }}']}]\n  variables: {A: '${{x}}'}\n",
         ["4:14 template", "5:18 template", "5:37 template", "5:50 template"]),
        (HEAD + "environment_variables: {A: '${{inputs.x}}'}\ntags: {b: '${{c}}'}\n"
         "docker_steps: ['RUN echo ${{d}}']\n", []),
    ],
)  # fmt: skip
def test_what_is_wrong(read: Read, said: Said, text: str, expected: list[str]) -> None:
    result = read(text)
    assert said(result) == [f"environment.yml:{line}" for line in expected]
    assert (result.spec is None) is any(not line.endswith("?") for line in expected)
    assert "canary" not in str(result.diagnostics)


def test_bad_ports(read: Read, said: Said) -> None:
    for port in ("0", "65536", "x", "1.5", "-1", "٣"):
        route = f"{{port: {port}, path: /}}"
        text = HEAD + "inference_config:\n" + "".join(
            f"  {name}_route: {route}\n" for name in ("liveness", "readiness", "scoring")
        )  # fmt: skip
        assert said(read(text)) == [f"environment.yml:{n}:27 port".replace(":27", f":{c}")
                                    for n, c in ((4, 26), (5, 27), (6, 25))]  # fmt: skip


def test_a_near_key_and_a_near_file_are_named(read: Read) -> None:
    result = read({"environment.yml": HEAD + "Conda_File: conda.yml\n", "conda.yml": ""})
    assert result.diagnostics[0].hint == "did you mean 'conda_file'?"
    result = read({"environment.yml": HEAD + "conda_file: conda.yaml\n", "conda.yml": ""})
    assert result.diagnostics[0].hint == "did you mean 'conda.yml'?"


def test_the_conda_file_may_lie_elsewhere_and_be_inline(read: Read) -> None:
    inner = "channels: [./ch]\ndependencies: [python, {pip: [-r r.txt]}]\n"
    files = {"conda/c.yml": inner, "conda/r.txt": "six\n"}
    for text in ("../conda/c.yml", "file:../conda/c.yml"):
        spec = read({"env/e.yml": HEAD + f"conda_file: {text}\n", **files}).spec
        assert spec is not None
        assert spec.conda is not None
        assert spec.conda.channel_paths == {"./ch": str(Path("conda/ch").absolute())}
        assert spec.conda.pip[0].text == "six"
    inline = HEAD + "conda_file:\n  " + inner.replace("\n", "\n  ") + "\n"
    spec = read({"conda/e.yml": inline, "conda/r.txt": "six\n"}).spec
    assert spec is not None
    assert spec.conda is not None
    assert spec.conda.channel_paths == {"./ch": str(Path("conda/ch").absolute())}


def test_problems_of_both_files_come_together(read: Read, said: Said) -> None:
    result = read(
        {
            "environment.yml": "nam: a\nimage: x\nconda_file: c.yml\n",
            "c.yml": "dependencies:\n- a >>1\n- '{{t}}'\n",
        }
    )
    assert said(result) == [
        "c.yml:2:3 match-spec",
        "c.yml:3:3 template",
        "environment.yml:1:1 no-name",
        "environment.yml:1:1 unknown-key",
    ] or said(result) == [
        "environment.yml:1:1 unknown-key",
        "environment.yml:1:1 no-name",
        "c.yml:2:3 match-spec",
        "c.yml:3:3 template",
    ]


def test_a_build_context(read: Read) -> None:
    files = {
        "environment.yml": "name: a\nbuild: {path: ctx, dockerfile_path: docker/D}\n",
        "ctx/docker/D": "FROM scratch\n",
        "ctx/a": "1",
        "ctx/skip/b": "2",
        "ctx/.dockerignore": "skip\ndocker\n",
    }
    first = read(files)
    assert first.spec is not None
    assert first.spec.build is not None
    assert first.spec.kind == "user-managed"
    watched = {str(Path(p).relative_to(Path.cwd())) for p in first.inputs}
    assert {"ctx", "ctx/a", "ctx/docker", "ctx/docker/D", "ctx/.dockerignore"} <= watched

    def tree(**more: str) -> object:
        spec = read({**files, **{f"ctx/{name}": text for name, text in more.items()}}).spec
        assert spec is not None
        assert spec.build is not None
        return spec.build.tree

    assert tree() == first.spec.build.tree
    assert tree(**{"skip/b": "3"}) == tree()
    assert tree(**{"docker/D": "FROM x\n"}) != first.spec.build.tree
    assert tree(**{"new": ""}) != first.spec.build.tree


def test_images_on_disk_are_found_beside_the_file(read: Read, tmp_path: Path, said: Said) -> None:
    (tmp_path / "e/base").mkdir(parents=True)
    spec = read({"e/environment.yml": "name: a\nimage: oci:base:x\n"}).spec
    assert spec is not None
    assert (spec.image, spec.image_path) == ("oci:base:x", str(tmp_path / "e/base"))
    assert str(tmp_path / "e/base") in spec.inputs
    result = read("name: a\nimage: docker-archive:gone.tar\n")
    assert said(result) == []  # it may be pinned already
    assert str(tmp_path / "gone.tar") in result.inputs


def test_the_default_base_of_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("dependencies: [a]\n")
    config = WorkspaceConfig(
        "w", "1", str(tmp_path), image=ImageOptions(default_base="oci:images/base")
    )
    spec = load_environment(tmp_path / "c.yml", config).spec
    assert spec is not None
    assert (spec.image, spec.image_path) == ("oci:images/base", str(tmp_path / "images/base"))


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "device", "dangling", "loop"])
def test_what_is_no_file_is_named_and_never_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "e.yml"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "dangling":
        path.symlink_to("gone")
    elif kind == "loop":
        path.symlink_to("e.yml")
    result = load_environment(path)
    assert result.spec is None
    assert result.diagnostics[0].code in ("missing-file", "not-a-file", "unreadable-file")
    assert str(path) in result.diagnostics[0].summary


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        path = Path("/proc/self/mem")  # root may open anything; reading this one fails
    else:
        path = tmp_path / "e.yml"
        path.write_text("name: a\n")
        path.chmod(0)
    result = load_environment(path)
    assert [d.code for d in result.diagnostics] == ["unreadable-file"]


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.yml"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert [d.code for d in load_environment(path).diagnostics] == ["file-too-large"]


def test_copied_files(read: Read, said: Said, tmp_path: Path) -> None:
    files = {"environment.yml": "", "a.txt": "1", "d/x.py": "2", "d/y.py": "3"}

    def steps(*lines: str) -> LoadResult:
        text = HEAD + "docker_steps:\n" + "".join(f"- {line!r}\n" for line in lines)
        return read({**files, "environment.yml": text})

    result = steps(
        "COPY --chown=1:1 a.txt d /x/",
        'ADD ["a.txt", "/x"]',
        "COPY d/*.py /x/",
        "COPY --from=other /a /b",
        "ADD --checksum=sha256:0 https://h/a /x",
        "RUN x",
    )
    assert result.diagnostics == ()
    assert result.spec is not None
    copied = [[item.path for item in step.inputs] for step in result.spec.docker_steps]
    assert copied == [["a.txt", "d"], ["a.txt"], ["d/x.py", "d/y.py"], [], [], []]
    assert str(tmp_path / "d/x.py") in result.spec.inputs
    wrong = steps("COPY gone /x", "COPY ../up /x", "ADD https://u:canary@h/a /x", "COPY a.txt")
    assert [line.split()[1] for line in said(wrong)] == [
        "missing-file", "outside-context", "unpinned-add", "docker-step",
    ]  # fmt: skip
    assert "canary" not in str(wrong.diagnostics)


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (["Dockerfile.gpu"], "write `dockerfile_path: Dockerfile.gpu`"),
        (["dockerfile", "x.txt"], "write `dockerfile_path: dockerfile`"),
        (["docker/Containerfile", "app.Dockerfile"], "write `dockerfile_path: app.Dockerfile` (th"),
        (["Dockerfile.dockerignore", "y"], "`dockerfile_path` starts at the folder"),
    ],
)
def test_what_is_called_like_a_dockerfile_is_named(
    tmp_path: Path, names: list[str], hint: str
) -> None:
    for name in names:
        (tmp_path / "context" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "context" / name).write_text("")
    (tmp_path / "a.yml").write_text("name: a\nbuild: {path: context}\n")
    loaded = load_environment(tmp_path / "a.yml")
    [found] = [d for d in loaded.diagnostics if d.code == "missing-dockerfile"]
    assert found.hint.startswith(hint)
