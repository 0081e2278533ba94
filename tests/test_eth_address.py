from __future__ import annotations

import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from gateway.eth_address import checksummed


@given(st.binary(min_size=20, max_size=20))
def test_an_address_is_written_as_ethereums_libraries_write_it(address: bytes) -> None:
    assert checksummed(address) == to_checksum_address(address)


@pytest.mark.parametrize(
    "text",
    [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
    ],
)
def test_the_examples_of_eip_55(text: str) -> None:
    assert checksummed(bytes.fromhex(text[2:])) == text


@pytest.mark.parametrize("size", [0, 19, 21, 32])
def test_what_is_not_of_20_bytes_is_no_address(size: int) -> None:
    with pytest.raises(ValueError, match=f"20 bytes, not {size}"):
        checksummed(bytes(size))
