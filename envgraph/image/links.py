"""Where a package's symbolic links may lead: nowhere outside the prefix."""

from __future__ import annotations

from envgraph.image.archive_errors import ArchiveError, Reason, shown


def check_symlink(path: str, target: str, prefix: str) -> None:
    """Refuse a link that leads out of the prefix.

    ``..`` may only come first: after a name, which may itself be a link, nobody
    can say where it leads.
    """
    if target.startswith("/"):
        inside = target == prefix or target.startswith(prefix + "/")
        if not inside or ".." in target.split("/"):
            raise ArchiveError(
                Reason.UNSAFE_LINK, f"links to {shown(target)}, outside the prefix", entry=path
            )
        return
    depth = path.count("/")
    parts = [part for part in target.split("/") if part not in ("", ".")]
    down = False
    for part in parts:
        if part != "..":
            down = True
        elif down:
            raise ArchiveError(
                Reason.UNSAFE_LINK, f"links to {shown(target)}, which goes down and up", entry=path
            )
        else:
            depth -= 1
    if depth < 0:
        raise ArchiveError(
            Reason.UNSAFE_LINK, f"links to {shown(target)}, outside the prefix", entry=path
        )
