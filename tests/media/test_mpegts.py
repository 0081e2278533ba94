from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media import opus
from gateway.media.mpegts import (
    ElementaryStream,
    ProgramMap,
    crc32,
    is_current,
    parse_pat,
    pat_section,
    registrations,
)

STREAMS = st.builds(
    ElementaryStream,
    stream_type=st.integers(0, 255),
    pid=st.integers(16, 0x1FFE),
    descriptors=st.binary(max_size=60),
)


def test_the_checksum_is_that_of_the_standard() -> None:
    assert crc32(b"123456789") == 0x0376E6E7


@given(streams=st.lists(STREAMS, max_size=6), version=st.integers(0, 31), pcr_pid=st.integers(16, 0x1FFE))
def test_a_program_map_comes_back(streams: list[ElementaryStream], version: int, pcr_pid: int) -> None:
    program = ProgramMap(3, pcr_pid, tuple(streams))
    section = program.section(version)
    assert crc32(section) == 0
    assert is_current(section)
    assert ProgramMap.parse(section) == program


def test_a_program_association_comes_back_without_the_networks_entry() -> None:
    assert parse_pat(pat_section(7, 0x1000, 0)) == {7: 0x1000}
    assert parse_pat(pat_section(0, 0x0010, 0)) == {}


def test_opus_is_known_by_its_registration() -> None:
    assert registrations(opus.descriptors(2)) == {b"Opus"}
    assert ElementaryStream(0x06, 0x101, opus.descriptors(2)).is_opus
    assert not ElementaryStream(0x06, 0x101).is_opus
    assert not ElementaryStream(0x0F, 0x101, opus.descriptors(2)).is_opus


@given(data=st.binary(max_size=80))
def test_noise_is_read_or_refused(data: bytes) -> None:
    for table, parse in ((0x00, parse_pat), (0x02, ProgramMap.parse)):
        try:
            parse(bytes([table]) + data)
        except ValueError:
            continue


def test_a_table_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="table"):
        ProgramMap.parse(pat_section(1, 0x1000, 0))
