"""Asks `/healthz` all the time, in a process of its own; a line on stdin asks for the slowest answer."""

from __future__ import annotations

import http.client
import sys
import threading
import time
from urllib.parse import urlsplit

PAUSE = 0.005


def main(url: str) -> None:
    host = urlsplit(url).netloc
    slowest = [0.0]

    def ask() -> None:
        while True:
            before = time.monotonic()
            try:
                connection = http.client.HTTPConnection(host, timeout=60)
                connection.request("GET", "/healthz")
                connection.getresponse().read()
                connection.close()
            except OSError:
                slowest[0] = max(slowest[0], 60.0)
            slowest[0] = max(slowest[0], time.monotonic() - before)
            time.sleep(PAUSE)

    threading.Thread(target=ask, daemon=True).start()
    for _ in sys.stdin:
        print(slowest[0], flush=True)
        slowest[0] = 0.0


if __name__ == "__main__":
    main(sys.argv[1])
