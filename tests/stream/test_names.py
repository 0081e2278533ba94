from __future__ import annotations

import pytest

from gateway.stream.names import BadName, check_name, output_name


@pytest.mark.parametrize("name", ["a", "my-stream", "A.b_c-9", "x" * 128, "-out.", "out"])
def test_names_of_letters_digits_and_a_few_signs_are_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 129, "a b", "a/b", "ä", "a\n", "x-out", "-out", "a%20b"])
def test_other_names_are_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(
        BadName, match=r"is no stream name: (it takes 1 to 128 letters|names that end in '-out')"
    ):
        check_name(name)


def test_a_playback_path_ends_in_out() -> None:
    assert output_name("cam-81f3-out") == "cam-81f3"
    assert output_name("cam") is None
