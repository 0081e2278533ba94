"""Loading the Ethereum libraries leaves the interpreter as it was."""

from __future__ import annotations

import subprocess
import sys


def test_nested_json_still_ends_in_an_error_and_versions_are_known_once_a_chain_can_be_read() -> None:
    program = (
        "import sys; before = sys.getrecursionlimit()\n"
        "import gateway.chain.reader, gateway.devnet.chain.server, json\n"
        "from gateway.devnet.chain.contracts import compiled; compiled('Controller')\n"
        "from gateway.chain.luck_chart import luck_chart; luck_chart([])\n"
        "assert sys.getrecursionlimit() == before\n"
        "assert all(hasattr(finder, 'find_spec') for finder in sys.meta_path)\n"
        "from importlib.metadata import version; version('livepeer-live-gateway')\n"
        "try: json.loads('[' * 200_000)\n"
        "except RecursionError: print('refused')\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "refused\n", done.stderr
