"""Fuzz one target with atheris: ``python -m tests.fuzz.fuzz TARGET [libFuzzer's options]``.

``make fuzz`` runs each for a while. Atheris is not among the tests' requirements, as it has no
wheel for every Python: ``pip install atheris``. An input that breaks a target is written to
``crash-…`` in the working folder; make it a case of test_fuzz.py. The Dockerfile parser has Go
inside, whose runtime and libFuzzer's signal handlers disturb each other: a "fatal error" of Go
is theirs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["envgraph", "envgraph_store", "envgraph_oci"]):
    from tests.fuzz.targets import TARGETS, run


def main() -> None:
    """Fuzz until libFuzzer is content; its exit code says whether something broke."""
    name = sys.argv[1]
    target = TARGETS[name]
    for seed in target.seeds:
        run(name, seed)  # what is imported late is imported now: it is no input's fault
    with tempfile.TemporaryDirectory(prefix="envgraph-seeds-") as folder:
        for number, seed in enumerate(target.seeds):
            Path(folder, f"seed-{number}").write_bytes(seed)
        words = Path(folder, "words.dict")
        words.write_text(
            "".join(
                '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words
            )
        )
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for seed in Path(folder).glob("seed-*"):
            seed.rename(corpus / seed.name)
        options = ["-timeout=5", "-rss_limit_mb=1024", f"-dict={words}", *sys.argv[2:]]
        atheris.Setup([sys.argv[0], *options, str(corpus)], lambda data: run(name, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
