"""`scripts/fuzz [target] -minutes N -seed N`: one JSON object for each target, 1 where there is a finding."""

from __future__ import annotations

import argparse
import json
import sys
import time

from benchmarks.fuzz.http import fuzz_http
from benchmarks.fuzz.run import fuzz
from benchmarks.fuzz.targets import TARGETS

HTTP = "http"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=[*TARGETS, HTTP], help="one only; by default all")
    parser.add_argument("-minutes", type=float, default=3.0, help="how long, for all together")
    parser.add_argument("-seed", type=int, default=time.time_ns() % 10**6, help="makes a run repeatable")
    options = parser.parse_args()
    names = [options.target] if options.target else [*TARGETS, HTTP]
    seconds = 60 * options.minutes / len(names)
    found = False
    for name in names:
        row = fuzz_http(seconds, options.seed) if name == HTTP else fuzz(TARGETS[name], seconds, options.seed)
        print(json.dumps({**row, "seed": options.seed}), flush=True)
        found = found or row["finding"] is not None
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
