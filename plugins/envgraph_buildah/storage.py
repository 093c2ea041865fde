"""Where buildah keeps what it works on: a folder of ours, apart from the user's own images."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TextIO

from envgraph.api import Base, BuilderError, Cancel, read_object
from envgraph.errors import IntegrityError
from envgraph_buildah.options import BuildahOptions
from envgraph_buildah.process import NoCancel, run
from envgraph_store.digest import Digest

_PIECE: Final = 1 << 20
_KEPT_VARIABLES: Final = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "XDG_RUNTIME_DIR", "TMPDIR",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
_POLICY: Final = b'{"default": [{"type": "insecureAcceptAnything"}]}\n'
"""What comes in is pinned by digest and verified; buildah need not judge signatures."""

_OTHERS: Final = ("unshare", "--map-auto", "--map-root-user", "--mount", "--net")
"""As :attr:`Storage.without_network` needs it for an ordinary user: as root of a namespace."""

_NO_IDS: Final = "no subuid ranges found"
_WITHOUT_IDS: Final = (
    _NO_IDS, "supplemental groups", "newuidmap", "newgidmap", "insufficient uids",
)  # fmt: skip
_WITHOUT_NAMESPACES: Final = ("user namespace", "cannot clone", "unshare")


IDS_HINT: Final = (
    "give the user ids, as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535"
    " NAME; or use a BuildKit, or run as root"
)


class Storage:
    """buildah with its own storage; safe for threads and processes."""

    def __init__(self, options: BuildahOptions, folder: Path) -> None:
        """Bind; nothing is created yet."""
        self.options = options
        self.folder = folder

    @property
    def environ(self) -> dict[str, str]:
        """The variables that buildah sees: nothing of the user's that could change a build."""
        return {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}

    @cached_property
    def policy(self) -> Path:
        """A policy file of ours."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "policy.json"
        if not path.exists():
            path.write_bytes(_POLICY)
        return path

    @property
    def words(self) -> tuple[str, ...]:
        """The program with its storage: overlay where that works, else vfs."""
        return self._started[0]

    @cached_property
    def _started(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The words, and what buildah said when it was first started with them."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        drivers = (self.options.driver,) if self.options.driver else ("overlay", "vfs")
        said: list[str] = []
        for driver in drivers:
            words = (
                *self.own_mounts,
                self.options.program,
                "--root", str(self.folder / driver),
                "--runroot", str(self.folder / f"{driver}-run"),
                "--storage-driver", driver,
            )  # fmt: skip
            lines: list[str] = []
            if self.run([*words, "info"], lines.append) == 0:
                return words, tuple(lines)
            said += (line for line in lines[-3:] if line not in said)
        raise refused("buildah cannot use its storage here", "\n".join(said))

    @property
    def driver(self) -> str:
        """``overlay`` or ``vfs``."""
        return self.words[-1]

    @cached_property
    def lacks_ids(self) -> bool:
        """Whether this ordinary user has no ids in ``/etc/subuid``: then no step can run."""
        return os.geteuid() != 0 and any(
            _NO_IDS in line for line in self._started[1] if "level=warning" in line
        )

    def run(
        self,
        command: list[str],
        on_line: Callable[[str], None],
        *,
        cancel: Cancel | None = None,
        until: float | None = None,
        folder: Path | None = None,
    ) -> int:
        """Run a command with our variables; its exit code."""
        return run(
            command, self.environ, on_line, cancel=cancel or NoCancel(), until=until,
            folder=str(folder or "/"),
        )  # fmt: skip

    def ask(
        self,
        *words: str,
        cancel: Cancel | None = None,
        until: float | None = None,
        folder: Path | None = None,
    ) -> str:
        """What a subcommand of buildah says; BuilderError when it fails."""
        lines: list[str] = []
        command = [*self.words, *words]
        if self.run(command, lines.append, cancel=cancel, until=until, folder=folder) != 0:
            raise refused(f"buildah {words[0]} failed", "\n".join(lines[-10:]))
        return "\n".join(lines)

    @cached_property
    def version(self) -> str:
        """``1.28.2``."""
        lines: list[str] = []
        if self.run([self.options.program, "--version"], lines.append) != 0:
            raise refused("buildah does not work here", "\n".join(lines))
        words = " ".join(lines).split()
        return words[2] if len(words) > 2 else "?"

    @property
    def has_heredocs(self) -> bool:
        """Since 1.33."""
        try:
            major, minor = (int(part) for part in self.version.split(".")[:2])
        except ValueError:
            return True
        return (major, minor) >= (1, 33)

    @cached_property
    def own_mounts(self) -> tuple[str, ...]:
        """What keeps the mounts of builds out of this machine's sight, root's too.

        buildah leaves them behind when it is killed. Ordinary users' are apart anyway.
        """
        words = ("unshare", "--mount")
        if os.geteuid() != 0 or not _works(words, self.environ):
            return ()
        return words

    @contextmanager
    def building(self) -> Iterator[None]:
        """While a build runs, nobody clears away what killed ones have left."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder / "builds.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            try:
                yield
            except BuilderError as error:
                if error.code in ("cancelled", "builder-timeout"):
                    self._tidy(file)
                raise

    def _tidy(self, file: TextIO) -> None:
        """Remove what killed builds have left, unless another one runs."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        self.run([*self.words, "rm", "--all"], lambda line: None)

    @cached_property
    def without_network(self) -> tuple[str, ...]:
        """What starts a program without any network; empty where that is not to be had."""
        for words in (("unshare", "--net"), _OTHERS):
            if _works(words, self.environ):
                return words
        return ()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for one build, gone afterwards."""
        place = self.folder / "builds"
        place.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=place))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # -- bases -----------------------------------------------------------

    def bring(self, base: Base, scratch: Path, cancel: Cancel, until: float | None) -> BaseImage:
        """Make a base be in the storage; it is there already if it was used before."""
        if base.open_blob is None:
            return self._pull(base, cancel, until)
        data = _blob(base, base.manifest.digest)
        manifest = read_object(data, base.reference)
        config = _blob(base, Digest(manifest["config"]["digest"]))
        image = BaseImage(base, manifest, read_object(config, base.reference))
        identity = manifest["config"]["digest"].removeprefix("sha256:")
        if identity in self.ask("images", "-q", "--no-trunc", "-a"):
            image.identity = identity
            return image
        # The image's name is the path as it is given, and not every path is a name.
        folder = scratch / f"base{base.manifest.digest.hex[:32]}"
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        for layer in manifest["layers"]:
            _copy_blob(base, Digest(layer["digest"]), blobs, cancel)
        (blobs / Digest(manifest["config"]["digest"]).hex).write_bytes(config)
        (blobs / base.manifest.digest.hex).write_bytes(data)
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        entry = {
            "mediaType": manifest.get("mediaType") or base.manifest.media_type,
            "digest": str(base.manifest.digest),
            "size": len(data),
            "annotations": {"org.opencontainers.image.ref.name": "base"},
        }
        index = {"schemaVersion": 2, "manifests": [entry]}
        (folder / "index.json").write_text(json.dumps(index))
        with self._alone():
            said = self.ask(
                "pull", "-q", "--signature-policy", str(self.policy), f"oci:{folder.name}:base",
                cancel=cancel, until=until, folder=scratch,
            )  # fmt: skip
        image.identity = said.split()[-1].removeprefix("sha256:")
        shutil.rmtree(folder, ignore_errors=True)
        return image

    def _pull(self, base: Base, cancel: Cancel, until: float | None) -> BaseImage:
        if not base.pull:
            raise BuilderError(f"{base.reference} is nowhere to be had", code="base-missing")
        said = self.ask(
            "pull", "-q", "--signature-policy", str(self.policy),
            f"docker://{base.pull}@{base.manifest.digest}", cancel=cancel, until=until,
        )  # fmt: skip
        identity = said.split()[-1].removeprefix("sha256:")
        found = json.loads(self.ask("inspect", "--type", "image", identity))
        manifest, config = json.loads(found["Manifest"]), json.loads(found["Config"])
        return BaseImage(base, manifest, config, identity)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One import at a time: two of the same layers would be written twice."""
        with (self.folder / "import.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _works(words: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether a program can be started through these words."""
    if shutil.which(words[0], path=environ.get("PATH")) is None:
        return False
    done = subprocess.run([*words, "true"], capture_output=True, check=False, env=dict(environ))
    return done.returncode == 0


class BaseImage:
    """A base in the storage: its documents, and its id there."""

    def __init__(
        self, base: Base, manifest: dict[str, Any], config: dict[str, Any], identity: str = ""
    ) -> None:
        """Take what was read."""
        self.base = base
        self.layers: list[dict[str, Any]] = manifest["layers"]
        self.config = config
        self.identity = identity

    @property
    def diff_ids(self) -> list[str]:
        """Of its layers."""
        return list(self.config["rootfs"].get("diff_ids") or [])


def _blob(base: Base, digest: Digest) -> bytes:
    assert base.open_blob is not None
    with base.open_blob(digest) as stream:
        data = stream.read()
    if Digest.of(data) != digest:
        raise IntegrityError(f"{base.reference}: {digest} is not what it says")
    return data


def _copy_blob(base: Base, digest: Digest, folder: Path, cancel: Cancel) -> None:
    import hashlib

    assert base.open_blob is not None
    path, sha = folder / digest.hex, hashlib.sha256()
    if path.exists():
        return
    with base.open_blob(digest) as stream, path.open("wb") as out:
        while piece := stream.read(_PIECE):
            if cancel.is_set():
                raise BuilderError("the build was cancelled", code="cancelled")
            sha.update(piece)
            out.write(piece)
    if sha.hexdigest() != digest.hex:
        raise IntegrityError(f"{base.reference}: the layer {digest} is not what it says")


def refused(summary: str, detail: str) -> BuilderError:
    """What buildah says, with the way out where user namespaces or ids are the matter."""
    low = detail.lower()
    hint = ""
    if any(word in low for word in _WITHOUT_IDS):
        hint = IDS_HINT
    elif any(word in low for word in _WITHOUT_NAMESPACES):
        hint = (
            "this machine lets ordinary users have no user namespaces: as root, sysctl -w"
            " kernel.unprivileged_userns_clone=1 or kernel.apparmor_restrict_unprivileged_userns=0"
            " (in a container, its seccomp profile may forbid them); or use a BuildKit, or run"
            " as root"
        )
    code = "builder-down" if hint or "storage" in summary else "builder-refused"
    return BuilderError(summary, code=code, detail=detail, hint=hint)
