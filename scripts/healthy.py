"""Exit status 0 while the gateway at LP_HTTPADDR answers /healthz, over http or https: for HEALTHCHECK.

Nodes of a cluster may share that port; LP_NODEADDR is this one's own.
"""

import os
import ssl
import sys
import urllib.request

address = os.environ.get("LP_NODEADDR") or os.environ.get("LP_HTTPADDR", "127.0.0.1:9935")
port = address.rpartition(":")[2]
anybody = ssl.create_default_context()
anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE  # the certificate is not for 127.0.0.1
for scheme in ("http", "https"):
    try:
        with urllib.request.urlopen(f"{scheme}://127.0.0.1:{port}/healthz", timeout=2, context=anybody):  # noqa: S310
            sys.exit(0)
    except OSError:
        continue
sys.exit(1)
