"""The description of a devnet in a file, by which gateways find one that another process has started."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

VARIABLE = "LIVEPEER_DEVNET_FILE"
"""In a gateway's environment: the file that describes the devnet which is to be used."""

Description = Callable[[], dict[str, Any]]
"""Gives the URLs, addresses and current process ids of all parts."""


def write_description(path: Path, description: Mapping[str, Any]) -> None:
    """Replace the file at once: who reads it meanwhile gets the former one. Raises OSError."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(description))
    new.replace(path)


def described_devnet(environ: Mapping[str, str] = os.environ) -> Description | None:
    """What the file of this process's environment says, read each time; None where none is named."""
    path = environ.get(VARIABLE)
    if not path:
        return None

    def read() -> dict[str, Any]:
        return dict(json.loads(Path(path).read_text()))

    return read
