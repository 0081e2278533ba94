"""Which packets of a publisher are taken, without a network."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.webrtc.fed import Fed, simulcast
from tests.webrtc.loopback import coded_pictures, nals_of

CAMERA = Path(__file__).parents[1] / "data" / "offers" / "chromium-camera-sendonly.sdp"


STEP = 3_000
"""Ticks from picture to picture."""
PICTURES = [nals_of(picture) for picture in coded_pictures(6, gop=6)]


@pytest.mark.asyncio
async def test_of_simulcast_layers_only_the_one_agreed_on_is_taken() -> None:
    fed = Fed(simulcast(CAMERA.read_text(), "hi", "lo"))
    for at, nals in enumerate(PICTURES):
        fed.picture(nals, at * STEP, ssrc=2, rid="lo")
        fed.picture(nals, at * STEP, ssrc=1, rid="hi" if at < 2 else "")  # named until it was reported on
    assert [unit.pts for unit in fed.units] == [at * STEP for at in range(6)]
    assert fed.publisher.stats().packets_lost == 0
    await fed.publisher.close()


@pytest.mark.asyncio
async def test_a_sender_left_with_one_layer_need_not_name_it() -> None:
    fed = Fed(simulcast(CAMERA.read_text(), "hi", "lo"))
    for at, nals in enumerate(PICTURES):
        fed.picture(nals, at * STEP)
    assert len(fed.units) == 6
    assert fed.publisher.stats().layer == "hi"
    await fed.publisher.close()


@pytest.mark.asyncio
async def test_numbers_that_start_over_are_no_loss_in_any_report() -> None:
    fed = Fed(CAMERA.read_text())
    for second, skipped in enumerate((0, 20_000, 0, 40_000, 0)):
        for at, nals in enumerate(PICTURES):
            fed.picture(nals, (second * 30 + at) * STEP)
            if at == 2:
                fed.skip(skipped)
        fed.publisher.feedback.report(1e6 + second, None, 0)
    assert [(one.packets_lost, one.fraction_lost) for one in fed.sent.reports] == [(0, 0)] * 5
    assert fed.publisher.stats().packets_lost == 0
    await fed.publisher.close()


@pytest.mark.asyncio
async def test_a_senders_round_trip_does_not_contain_the_time_until_its_report_was_read() -> None:
    fed = Fed(CAMERA.read_text())
    fed.picture(PICTURES[0], 0)
    fed.sent.late, fed.now = 0.25, 5.0
    fed.report(0, 7 << 32, ssrc=1)
    fed.publisher.feedback.report(6.0, None, 0)
    (report,) = fed.sent.reports
    assert (report.lsr, report.dlsr / 65536) == (7 << 16, 1.25)
    await fed.publisher.close()


SMALL = [nals_of(picture) for picture in coded_pictures(6, size=(160, 96), gop=6)]


@pytest.mark.asyncio
async def test_of_layers_that_do_not_tell_their_size_the_largest_to_come_is_shown() -> None:
    fed = Fed(simulcast(CAMERA.read_text(), "0", "1"))
    for at in range(6):
        fed.picture(SMALL[at], at * STEP, ssrc=2, rid="0")
    assert fed.publisher.stats().layer == "0"
    assert fed.publisher.size == (160, 96)
    for at in range(6):
        fed.picture(SMALL[at], (6 + at) * STEP, ssrc=2, rid="0")
        fed.picture(PICTURES[at], (900_000 + at) * STEP, ssrc=1, rid="1")
    assert fed.publisher.stats().layer == "1"
    assert fed.publisher.size == (320, 180)
    times = [unit.pts for unit in fed.units]
    assert len(times) == 6 + 1 + 6, "the small layer's until the large one's first"
    assert times == sorted(times)
    assert times[-1] - times[0] < 90_000, "the time line goes on over the change"
    await fed.publisher.close()


@pytest.mark.asyncio
async def test_a_layer_that_falls_silent_gives_way_to_another_that_is_no_longer_named() -> None:
    fed = Fed(simulcast(CAMERA.read_text(), "0", "1"))
    for at in range(3):
        fed.picture(PICTURES[at], at * STEP, ssrc=1, rid="1")
        fed.picture(SMALL[at], at * STEP, ssrc=2, rid="0")
    assert fed.publisher.stats().layer == "1"
    fed.now += 1.5
    fed.picture(SMALL[0], 6 * STEP, ssrc=2)
    assert fed.publisher.stats().layer == "0"
    fed.picture(PICTURES[0], 7 * STEP, ssrc=1)
    assert fed.publisher.stats().layer == "1"
    await fed.publisher.close()


@pytest.mark.asyncio
async def test_parameter_sets_of_the_sdp_alone_are_enough_for_the_first_picture() -> None:
    sets, rest = PICTURES[0][:2], PICTURES[0][2:]
    assert [nal[0] & 0x1F for nal in sets] == [7, 8]
    sprop = ",".join(base64.b64encode(nal).decode() for nal in sets)
    offer = CAMERA.read_text().replace(
        "packetization-mode=1", f"packetization-mode=1;sprop-parameter-sets={sprop}"
    )
    fed = Fed(offer)
    sei = b"\x06\x05\x01\x00\x80"
    fed.picture([sei, *[nal for nal in rest if nal[0] & 0x1F == 5]], 0)
    for at in range(1, 6):
        fed.picture(PICTURES[at], at * STEP)
    assert len(fed.units) == 6
    assert fed.units[0].key
    assert set(sets) <= set(fed.units[0].nals)
    await fed.publisher.close()
