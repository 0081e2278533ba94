from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media.h264 import (
    NalType,
    ParameterSets,
    decode_sprop,
    has_idr,
    has_recovery_point,
    join_annex_b,
    nal_type,
    split_annex_b,
)
from gateway.media.rtp_h264 import MAX_NALS
from gateway.media.sps import Sps
from harness.cost import TURN, cpu_seconds
from harness.waiting import SLACK

LONG_CODE = "0" * 15 + "1" + "0" * 15
SLOW_SPS = int(("10010001101" + ("1" + LONG_CODE * 64) * 12)[:8000], 2).to_bytes(1000, "big")
"""Behind the profile: scaling lists of the longest codes, as many as one that is read can hold."""

NALS = st.lists(
    st.binary(min_size=1, max_size=60)
    .map(lambda data: data.replace(b"\x00", b"\x02"))
    .filter(lambda data: not data.endswith(b"\x00")),
    max_size=8,
)


def sets_of(nals: list[bytes]) -> tuple[bytes, bytes]:
    sps = next(nal for nal in nals if nal_type(nal) == NalType.SPS)
    return sps, next(nal for nal in nals if nal_type(nal) == NalType.PPS)


def bare(nals: list[bytes]) -> list[bytes]:
    return [nal for nal in nals if nal_type(nal) not in (NalType.SPS, NalType.PPS)]


@given(nals=NALS)
def test_a_byte_stream_is_split_into_what_it_was_joined_from(nals: list[bytes]) -> None:
    assert split_annex_b(join_annex_b(nals)) == nals


@given(data=st.binary(max_size=300))
def test_any_bytes_split_without_error_into_nal_units_that_split_no_further(data: bytes) -> None:
    nals = split_annex_b(data)
    assert split_annex_b(join_annex_b(nals)) == nals


def test_short_start_codes_and_padding_are_no_part_of_a_nal_unit() -> None:
    data = b"\xff\x00\x00\x00\x01\x67a\x00\x00\x00\x00\x01\x68b\x00\x00\x01\x65\x00\x00\x03\x01\x00\x00"
    assert split_annex_b(data) == [b"\x67a", b"\x68b", b"\x65\x00\x00\x03\x01"]


def test_a_key_picture_that_lacks_its_parameter_sets_gets_those_seen_before(make_sample) -> None:
    key = make_sample().video[0].nals
    sps, pps = sets_of(key)
    sets = ParameterSets()
    assert not sets.complete
    assert sets.ahead_of([b"\x65x"]) == [b"\x65x"]
    sets.observe(key)
    assert sets.complete
    assert sets.ahead_of([b"\x65x"]) == [sps, pps, b"\x65x"]
    assert sets.ahead_of([b"\x06s", sps, b"\x65x"]) == [b"\x06s", sps, pps, b"\x65x"]
    assert sets.ahead_of([pps, b"\x65x"]) == [sps, pps, b"\x65x"]
    assert sets.ahead_of(key) is key


def test_parameter_sets_of_the_session_description_serve_as_well(make_sample) -> None:
    sps, pps = sets_of(make_sample().video[0].nals)
    sprop = ",".join(base64.b64encode(nal).decode() for nal in (sps, pps))
    sets = ParameterSets(sprop)
    assert sets.complete
    assert sets.sps is not None
    assert sets.sps.size == (160, 120)
    assert sets.ahead_of([b"\x65x"]) == [sps, pps, b"\x65x"]


@pytest.mark.parametrize("sprop", ["", ",", "%%%", "Zw", "Z0IAH5WoFAFuQA=="])
def test_session_descriptions_that_cannot_be_read_are_no_error(sprop: str) -> None:
    assert all(decode_sprop(sprop))
    assert not ParameterSets(sprop).complete


def test_another_size_is_seen_at_its_key_picture_and_only_there(make_sample) -> None:
    small, large = make_sample().video[0].nals, make_sample(size=(320, 176)).video[0].nals
    sets = ParameterSets()
    assert not sets.observe(small)
    assert not sets.observe(small)
    assert not sets.observe(list(sets_of(large)))
    assert sets.observe(bare(large))
    assert sets.sps is not None
    assert sets.sps.size == (320, 176)
    assert not sets.observe(large)
    assert sets.observe(small)
    assert has_idr(small)


@given(nals=st.lists(st.binary(max_size=40), max_size=20))
def test_noise_is_no_parameter_set_and_no_error(nals: list[bytes]) -> None:
    sets = ParameterSets()
    sets.observe(nals)
    sets.ahead_of(nals)


def slow_sps(number: int) -> bytes:
    return b"\x67\x64\x00\x1e" + SLOW_SPS + number.to_bytes(4, "big")


def test_parameter_sets_that_are_slow_to_read_do_not_hold_up_the_loop() -> None:
    picture = [slow_sps(number) for number in range(MAX_NALS)]
    sprop = ",".join(base64.b64encode(nal).decode() for nal in picture)[:65_000]
    assert cpu_seconds(lambda: ParameterSets().observe(picture)) < SLACK * TURN
    assert cpu_seconds(lambda: ParameterSets(sprop)) < SLACK * TURN
    assert cpu_seconds(lambda: has_recovery_point([b"\x06" + bytes(2_000_000)] * 4)) < SLACK * TURN


def test_an_sps_is_read_once_and_few_others_a_second(make_sample) -> None:
    now, reads = 0.0, list[bytes]()
    sets = ParameterSets(clock=lambda: now, parse=lambda nal: reads.append(nal) or Sps.parse(nal))
    key, other = make_sample().video[0].nals, [slow_sps(0)]
    for _ in range(100):
        sets.observe(key)
        sets.observe(other)
    assert len(reads) == 2
    for number in range(100):
        sets.observe([slow_sps(number)])
    assert len(reads) == ParameterSets.READS_AT_ONCE
    now = 1.0
    large = make_sample(size=(320, 176)).video[0].nals
    assert sets.observe(large), "a new one is read again a little later"


def test_what_is_put_before_a_key_picture_has_a_limit() -> None:
    sets = ParameterSets()
    codes = [f"{number + 1:b}" for number in range(256)]
    ids = [int(("0" * (len(code) - 1) + code + "1").ljust(32, "0"), 2) for code in codes]
    sets.observe([b"\x68" + pps.to_bytes(4, "big") + b"\xff" * 1000 for pps in ids])
    sets.observe([b"\x68" + pps.to_bytes(4, "big") + b"\xfe" * 900 for pps in ids])
    ahead = sets.ahead_of([b"\x65x"])
    assert len(ahead) > 10
    assert sum(map(len, ahead)) <= ParameterSets.MAX_TOTAL_BYTES + 2
