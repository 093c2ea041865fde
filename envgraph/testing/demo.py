"""``make demo``: a real channel, then the commands that a person would type.

Everything happens below one folder (``.demo`` by default), which is made anew and can
be deleted afterwards. The commands are the real ones, each in a process of its own;
the demo stops at the first that does not do what it should.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import envgraph
from envgraph.errors import PlatformError
from envgraph.testing.base import Base, make_base
from envgraph.testing.channel import ChannelMaker
from envgraph.testing.container import Runtime, find_runtime, image_digest, run_in_image

WHEELS = ("numpy", "click", "tqdm")
SECOND_VERSION = "tqdm==4.66.5"
_MARK = "made-by-envgraph-demo"


class DemoFailedError(Exception):
    """A command did not do what it should."""


class Demo:
    """One run of the demo in ``folder``."""

    def __init__(self, folder: Path, *, color: bool) -> None:
        self.folder = folder
        self.workspace = folder / "quickstart"
        self._color = color
        self._environment = {
            **os.environ,
            "ENVGRAPH_STORE": str(folder / "store"),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }

    def run(self) -> None:
        """Everything, in order."""
        started = time.monotonic()
        self._empty_folder()
        self._make_channel()
        self._copy_example(self._make_base())
        self._first_time()
        self._use_it()
        self._change_one_dependency()
        self._in_the_image()
        self._say(f"Done in {time.monotonic() - started:.0f} s.")
        print(f"All of it is in {self._shown(self.folder)}: look around, then delete it.")

    def _empty_folder(self) -> None:
        if self.folder.exists():
            if not (self.folder / _MARK).is_file():
                raise DemoFailedError(f"{self.folder} is there and was not made by the demo")
            for path in self.folder.rglob("*"):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o755)
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        (self.folder / _MARK).touch()

    def _make_channel(self) -> None:
        started = time.monotonic()
        self._say("A conda channel, made on this machine")
        maker = ChannelMaker(self.folder / "channel")
        python = maker.python
        print(
            f"CPython {python.version} ({python.kind}) becomes conda packages; its libraries too."
        )
        print(f"Wheels of {', '.join(WHEELS)} come from your pip's index, {SECOND_VERSION} beside.")
        maker.add_python().add_wheels(WHEELS)
        maker.add_wheels([SECOND_VERSION], dependencies=False).index()
        packages = sorted(maker.folder.glob("*/*.conda"))
        size = sum(path.stat().st_size for path in packages) / 1e6
        seconds = time.monotonic() - started
        print(f"{len(packages)} packages, {size:.0f} MB, in {seconds:.0f} s.")

    def _make_base(self) -> Base:
        base = make_base(self.folder / "base")
        shell = {"busybox": "busybox", "sh": "its sh", "": "no shell"}[base.shell]
        print(
            f"A base image of {base.size / 1e6:.1f} MB: glibc {base.glibc} of this machine", end=""
        )
        print(f" and {shell}. Labels in it say so: it is not portable.")
        return base

    def _copy_example(self, base: Base) -> None:
        example = Path(envgraph.__file__).parent.parent / "examples" / "quickstart"
        if not example.is_dir():
            raise DemoFailedError("the demo needs a checkout: examples/quickstart is not here")
        shutil.copytree(example, self.workspace)
        settings = self.workspace / "envgraph.yaml"
        text = settings.read_text()
        channel = (self.folder / "channel").as_uri()
        text = text.replace("file:///put/your/channel/here", channel)
        text = text.replace("default_base: scratch", f'default_base: "{base.reference}"')
        settings.write_text(text)
        self._say("An environment file, nothing pinned")
        self._show_file(self.workspace / "environment.yml")

    def _first_time(self) -> None:
        self._say("What would happen?")
        self._envgraph("plan")
        self._expect(changes=True)
        self._say("Do it: pin, build an image without a daemon, store, register")
        self._envgraph("apply", "--auto-approve")
        self._say("And again: nothing to do")
        self._envgraph("plan")
        self._expect(changes=False)

    def _use_it(self) -> None:
        self._say("Train with exactly these packages, on this machine")
        self._envgraph("run", "train", "--", "python", "train.py")

    def _change_one_dependency(self) -> None:
        self._say("Change one dependency")
        path = self.workspace / "environment.yml"
        pinned = SECOND_VERSION.replace("==", "=")
        path.write_text(path.read_text().replace("- tqdm\n", f"- {pinned}\n"))
        print(self._paint("31", "-   - tqdm"))
        print(self._paint("32", f"+   - {pinned}"))
        self._say("Exactly what is rebuilt")
        self._envgraph("plan")
        self._expect(changes=True, built=1)
        self._envgraph("apply", "--auto-approve")
        self._envgraph("list")

    def _in_the_image(self) -> None:
        self._say("The same in the image, on the small base")
        try:
            runtime = find_runtime()
        except PlatformError as error:
            problem = error.diagnostics[0]
            print(f"Not run: {problem.summary} ({problem.detail}).")
            print(f"To see it, {problem.hint}.")
            return
        words = ["python", "train.py", "--steps", "500"]
        if runtime.name in ("bwrap", "runc"):
            self._envgraph("run", "train", "--container", "--", *words)
        else:
            self._by_engine(runtime, words)

    def _by_engine(self, runtime: Runtime, words: Sequence[str]) -> None:
        layout = self.folder / "image"
        self._envgraph("export", "train", "--format", "oci", "--output", str(layout))
        print(self._paint("1", f"$ {runtime.name} load; {runtime.name} run … {shlex.join(words)}"))
        done = run_in_image(
            layout,
            words,
            manifest=image_digest(layout),
            runtime=runtime,
            workspace=self.workspace,
        )
        print(done.stdout + done.stderr, end="")
        if done.returncode != 0:
            raise DemoFailedError(f"{runtime.name} ended with {done.returncode}")

    def _envgraph(self, *words: str) -> None:
        """Run the real command in the workspace, its output as it comes."""
        print(self._paint("1", f"$ envgraph {shlex.join(words)}"), flush=True)
        command = [sys.executable, "-m", "envgraph", *words]
        done = subprocess.run(command, cwd=self.workspace, env=self._environment, check=False)
        if done.returncode != 0:
            raise DemoFailedError(f"`envgraph {shlex.join(words)}` ended with {done.returncode}")

    def _expect(self, *, changes: bool, built: int | None = None) -> None:
        """Ask the same in JSON, unseen: the demo must not show something else than it says."""
        done = subprocess.run(
            [sys.executable, "-m", "envgraph", "plan", "--json"],
            cwd=self.workspace,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DemoFailedError(f"`envgraph plan --json` ended with {done.returncode}")
        plan = json.loads(done.stdout)
        if plan["changes"] is not changes:
            raise DemoFailedError(f"the plan should say {'some' if changes else 'no'} changes")
        if built is not None and plan["summary"]["build"] != built:
            raise DemoFailedError(f"the plan should build {built}, not {plan['summary']['build']}")

    def _show_file(self, path: Path) -> None:
        print(self._paint("1", f"$ cat {path.name}"))
        lines = path.read_text().splitlines()
        print("\n".join(line for line in lines if not line.startswith("#")))

    def _shown(self, path: Path) -> str:
        try:
            return str(path.relative_to(Path.cwd()))
        except ValueError:
            return str(path)

    def _say(self, text: str) -> None:
        print(f"\n{self._paint('1;36', f'== {text}')}", flush=True)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._color else text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when every command did what it should."""
    parser = argparse.ArgumentParser(prog="make demo", description="Show what envgraph does.")
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="default: .demo")
    chosen = parser.parse_args(arguments)
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    try:
        Demo(chosen.folder.resolve(), color=color).run()
    except (DemoFailedError, RuntimeError, PlatformError) as error:
        print(f"\nThe demo stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
