from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.subjects import Subjects, decode, encode, node_tag

NAMES = st.text(st.sampled_from("abZ09_-.:=*> /ü\u4e2d"), min_size=1, max_size=128)


@given(NAMES)
def test_a_name_is_one_token_and_a_key_and_comes_back(name: str) -> None:
    token = encode(name)
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", token)
    assert decode(token) == name


@given(NAMES, NAMES)
def test_two_names_have_two_tokens(one: str, other: str) -> None:
    assert (encode(one) == encode(other)) == (one == other)


@pytest.mark.parametrize("name", ["cam", "Cam_1-x"])
def test_a_plain_name_stays_as_it_is(name: str) -> None:
    assert encode(name) == name


@pytest.mark.parametrize("token", ["", "a.b", "=", "=2", "=2e", "=41", "=FF", "*", ">"])
def test_what_no_name_is_encoded_as_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match=r"encode|utf-8"):
        decode(token)


def test_a_name_with_dots_cannot_reach_another_subject() -> None:
    subjects = Subjects("one")
    assert subjects.stream("a.b") == "one.stream.a=2Eb"
    assert subjects.stream_id("*") == "one.id.=2A"


def test_the_empty_name_has_no_subject() -> None:
    with pytest.raises(ValueError, match="empty"):
        Subjects("one").stream("")


@pytest.mark.parametrize("cluster", ["", "a.b", "a b", ">", "x" * 33])
def test_a_cluster_has_a_plain_name(cluster: str) -> None:
    with pytest.raises(ValueError, match="name of a cluster"):
        Subjects(cluster)


def test_a_tag_is_the_same_each_time_and_another_for_another_node() -> None:
    assert node_tag("a:1") == node_tag("a:1") != node_tag("a:2")
    assert re.fullmatch(r"[0-9a-f]{12}", node_tag("a:1"))
