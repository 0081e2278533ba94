"""go-livepeer's rules for whether offered capabilities serve those that are asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from gateway.orchestrator.livepeer_pb2 import Capabilities

VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")
"""A semantic version; what follows is a suffix after release, which is ignored."""

Models = Mapping[str, Capabilities.ModelConstraint]


def compatible(asked: Capabilities, offered: Capabilities) -> bool:
    """Whether `offered` serves `asked`.

    Every bit that is asked for must be offered, and every mandatory bit asked for. Constraints of
    capabilities that `offered` does not constrain are met.
    """
    if not _recent_enough(asked.constraints.minVersion, offered.version):
        return False
    if not _bits_in(offered.mandatories, asked.bitstring):
        return False
    for capability, constraints in asked.constraints.PerCapability.items():
        if capability not in offered.constraints.PerCapability:
            continue
        if not _models_in(constraints.models, offered.constraints.PerCapability[capability].models):
            return False
    return _bits_in(asked.bitstring, offered.bitstring)


def _models_in(asked: Models, offered: Models) -> bool:
    for name, wanted in asked.items():
        if name not in offered:
            return False
        model = offered[name]
        if wanted.warm and not model.warm:
            return False
        if not _recent_enough(wanted.runnerVersion, model.runnerVersion):
            return False
    return True


def _bits_in(wanted: Iterable[int], there: Iterable[int]) -> bool:
    wanted, there = list(wanted), list(there)
    return len(wanted) <= len(there) and all(
        one & other == one for one, other in zip(wanted, there, strict=False)
    )


def _recent_enough(minimum: str, version: str) -> bool:
    if not minimum:
        return True
    least, found = VERSION.match(minimum), VERSION.match(version)
    if least is None:
        return bool(version) and version != "undefined"
    if found is None:
        return False
    return tuple(map(int, found.groups())) >= tuple(map(int, least.groups()))
