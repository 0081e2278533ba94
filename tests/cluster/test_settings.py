from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cluster.settings import MAX_CREDENTIALS, Credentials
from gateway.flags import FlagError
from gateway.settings import Settings, read_flags, settings_from

NODE = ("-orchAddr", "x:1", "-cluster", "nats-1, nats://nats-2:4223", "-ledger", "postgresql://me@db/ledger")


def settings(folder: Path, *argv: str) -> Settings:
    return settings_from(read_flags((*argv, "-dataDir", str(folder)), {}))


def test_without_the_flag_there_are_no_other_nodes(tmp_path: Path) -> None:
    assert settings(tmp_path, "-orchAddr", "x:1").cluster is None


def test_a_node_is_called_by_its_host_and_port(tmp_path: Path) -> None:
    cluster = settings(tmp_path, *NODE, "-httpAddr", "127.0.0.1:1234").cluster
    assert cluster is not None
    assert cluster.servers == ("nats://nats-1", "nats://nats-2:4223")
    assert (cluster.name, cluster.node_name.partition(":")[2]) == ("livepeer", "1234")


def test_what_is_given_goes_before(tmp_path: Path) -> None:
    (tmp_path / "login").write_text("gateway:se:cret\n")
    flags = (
        "-nodeName",
        "a",
        "-clusterName",
        "b",
        "-reusePort",
        "-clusterCredentials",
        str(tmp_path / "login"),
    )
    cluster = settings(tmp_path, *NODE, *flags).cluster
    assert cluster is not None
    assert (cluster.node_name, cluster.name, cluster.reuse_port) == ("a", "b", True)
    assert cluster.credentials == Credentials(user="gateway", password="se:cret")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("-orchAddr", "x:1", "-nodeName", "a"), "-nodeName needs -cluster"),
        (("-orchAddr", "x:1", "-reusePort"), "-reusePort needs -cluster"),
        ((*NODE[:4],), "-cluster needs a -ledger"),
        ((*NODE[:4], "-ledger", "ledger.sqlite3"), "-cluster needs a -ledger"),
        ((*NODE, "-reusePort"), "-reusePort needs -nodeName"),
        ((*NODE, "-httpAddr", "127.0.0.1:0"), "needs -nodeName"),
        ((*NODE, "-clusterName", "a.b"), "-clusterName 'a.b' is refused"),
        ((*NODE, "-nodeName", "a b"), "-nodeName 'a b' is refused"),
        ((*NODE[:2], "-cluster", "http://x"), "nats:// or tls:// URLs"),
        ((*NODE[:2], "-cluster", ","), "nats:// or tls:// URLs"),
        ((*NODE, "-clusterCredentials", "/nowhere"), "cannot be read"),
    ],
)
def test_what_makes_no_sense_is_refused(argv: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(FlagError) as refused:
        settings(tmp_path, *argv)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("text", ["", "\n", "a:b\nc:d", "x\n" * MAX_CREDENTIALS])
def test_a_file_of_more_than_one_login_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "login"
    path.write_text(text)
    with pytest.raises(FlagError, match="takes one line"):
        Credentials.read(path)


def test_one_word_is_a_token(tmp_path: Path) -> None:
    path = tmp_path / "login"
    path.write_text(" secret\n")
    assert Credentials.read(path) == Credentials(token="secret")
