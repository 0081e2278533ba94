"""Several gateways on a devnet: the flags that they cannot share."""

from __future__ import annotations

import pytest

from gateway.devnet_cluster import OWN, check_flags
from gateway.flags import FlagError
from gateway.settings import ALL_FLAGS, read_flags


def test_flags_that_each_gateway_has_a_value_of_its_own_for_are_refused() -> None:
    assert set(OWN) <= {flag.name for flag in ALL_FLAGS}
    check_flags(read_flags(["-devnet", "-gateways", "2", "-httpAddr", "127.0.0.1:0"], {}))
    with pytest.raises(FlagError, match="leave out -nodeName"):
        check_flags(read_flags(["-devnet", "-gateways", "2", "-nodeName", "me"], {}))
