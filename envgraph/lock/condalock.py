"""conda-lock's own models: the only importer of conda_lock.

Importing it takes more than a second, so this module is imported only to read a
lockfile that envgraph did not write as it stands.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

with warnings.catch_warnings():
    # conda-lock's vendored conda warns of its own deprecations; that is not our user's affair.
    warnings.simplefilter("ignore")
    from conda_lock.lockfile.v1.models import Lockfile


def check_document(document: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    """What conda-lock's models object to, as (path, message); empty when nothing."""
    try:
        Lockfile.model_validate(dict(document))
    except ValidationError as error:
        return [
            (tuple(item["loc"]), item["msg"])
            for item in error.errors(include_url=False, include_input=False)
        ]
    return []


def written_again(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as conda-lock itself writes what it read; ValueError if it cannot."""
    written: dict[str, Any] = Lockfile.model_validate(dict(document)).dict_for_output()
    return written
