"""Status messages as events, once each, and secrets that are cut in two."""

from __future__ import annotations

from typing import Any

from envgraph.testing.builder.material import Events
from envgraph_buildkit.messages import encode, message
from envgraph_buildkit.progress import Progress, Redactor

SECRET = b"hunter2-e3b0c442"


def status(**parts: Any) -> Any:
    """Through its bytes, as from a server."""
    kind = message("StatusResponse")
    return kind.FromString(encode(kind(**parts)))


def vertex(done: bool = False, **values: Any) -> Any:
    time = message("Timestamp")(seconds=1)
    return message("Vertex")(
        digest="v", name="[1/1] RUN x", started=time, completed=time if done else None, **values
    )


def log(data: bytes) -> Any:
    return message("VertexLog")(vertex="v", msg=data)


def test_each_change_once() -> None:
    events = Events()
    progress = Progress(events, Redactor())
    part = message("VertexStatus")(vertex="v", ID="transferring", current=5, total=9)
    progress.take(status(statuses=[part]))
    progress.take(status(vertexes=[vertex()]))
    progress.take(status(vertexes=[vertex()]))
    progress.take(status(vertexes=[vertex(True, cached=True)], logs=[log(b"last words")]))
    progress.take(status(vertexes=[vertex(True)], statuses=[part]))
    assert [event.kind for event in events] == ["start", "progress", "message", "skipped"]
    assert (events[1].bytes_done, events[1].bytes_total) == (5, 9)
    assert events[3].name == "[1/1] RUN x"


def test_a_failure_is_remembered_with_its_output() -> None:
    progress = Progress(Events(), Redactor())
    progress.take(status(vertexes=[vertex()], logs=[log(b"a\nb")]))
    progress.take(status(vertexes=[vertex(True, error="exit code: 3")]))
    assert (progress.failed, progress.output("v")) == ("v", "a\nb")


def test_a_secret_in_pieces() -> None:
    events, redactor = Events(), Redactor()
    redactor.learn(SECRET + b"\n")
    progress = Progress(events, redactor)
    line = b"it is " + SECRET + b", yes\n"
    for cut in range(1, len(line)):
        progress.take(status(vertexes=[vertex()], logs=[log(line[:cut]), log(line[cut:])]))
    progress.take(status(logs=[log(SECRET)]))
    progress.finish()
    assert SECRET.decode() not in repr(events) + progress.output("v")
    assert events.output.count("***") == len(line)


def test_lines_of_a_secret() -> None:
    redactor = Redactor()
    redactor.learn(b"first-line\nsecond-line\n\nx\n")
    cleaned = redactor.clean(b"second-line first-line x")
    assert cleaned == b"*** *** x"


def test_a_step_out_of_another_cache_completes_before_it_is_told_to_be_cached() -> None:
    events = Events()
    progress = Progress(events, Redactor())
    progress.take(status(vertexes=[vertex(inputs=["i"])]))
    progress.take(status(vertexes=[vertex(True)]))  # its layer is fetched
    progress.take(status(vertexes=[vertex(True, inputs=["i"], cached=True)]))
    progress.finish()
    assert [event.kind for event in events] == ["start", "skipped"]
    assert (progress.count("skipped"), progress.count("done")) == (1, 0)


def test_an_end_that_no_other_follows_is_one() -> None:
    events = Events()
    progress = Progress(events, Redactor())
    progress.take(status(vertexes=[vertex(inputs=["i"])]))
    progress.take(status(vertexes=[vertex(True)]))
    assert [event.kind for event in events] == ["start"]
    progress.finish()
    assert [event.kind for event in events] == ["start", "done"]
