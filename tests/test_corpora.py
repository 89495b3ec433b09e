"""Corpora by name: where they are looked for, how they are checked, and what is said when they are not to be had."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from elman.errors import DataError
from elman.text.corpora import CORPORA, Corpus, available_offline, corpus_names, find_corpus
from elman.training import downloads

DATA = Path(__file__).parents[1].parent / "shared" / "data"
CONTENTS = b"First Citizen:\nBefore we proceed any further, hear me speak.\n" * 5000
RIGHT = hashlib.sha256(CONTENTS).hexdigest()
EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ELMAN_DATA", raising=False)


class _Library(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path != "/play.txt":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENTS)))
        self.end_headers()
        self.wfile.write(CONTENTS)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def library() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Library) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def put_up(monkeypatch: pytest.MonkeyPatch, address: str, sha256: str = RIGHT) -> None:
    """Let the name `shakespeare` stand for a small play at this address."""
    monkeypatch.setitem(CORPORA, "shakespeare", Corpus("shakespeare", "play.txt", sha256, address))


def test_there_are_five_corpora() -> None:
    assert corpus_names() == ("python-docs", "python-source", "persian", "shakespeare", "war-and-peace")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError, match="no corpus is named 'shakespere': did you mean 'shakespeare'"):
        find_corpus("shakespere")
    with pytest.raises(DataError, match=r"no corpus is named 'x' \(there are python-docs"):
        available_offline("x")


def test_the_documentation_of_python_is_prose_and_always_there(tmp_path: Path) -> None:
    assert available_offline("python-docs", cache_folder=tmp_path)
    path = find_corpus("python-docs", cache_folder=tmp_path, download=False)
    text = path.read_text("utf-8")
    assert 300_000 < len(text) < 1_000_000
    assert text.index("\nBoolean operations\n") < text.index('\nThe "while" statement\n')
    assert list(tmp_path.iterdir()) == [path]


def test_the_source_of_python_is_the_same_every_time(tmp_path: Path) -> None:
    first = find_corpus("python-source", cache_folder=tmp_path / "a")
    second = find_corpus("python-source", cache_folder=tmp_path / "b")
    contents = first.read_bytes()
    assert contents == second.read_bytes()
    assert len(contents) > 5_000_000
    assert b"class OrderedDict(dict):" in contents
    assert b"class RegressionTests" not in contents


def test_what_was_made_once_is_not_made_again(tmp_path: Path) -> None:
    path = find_corpus("python-docs", cache_folder=tmp_path)
    before = path.stat().st_mtime_ns
    assert find_corpus("python-docs", cache_folder=tmp_path).stat().st_mtime_ns == before


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not here")
@pytest.mark.parametrize(
    ("name", "file_name"), [("shakespeare", "tinyshakespeare.txt"), ("war-and-peace", "war_and_peace.txt")]
)
def test_a_book_is_found_in_the_data_folder(
    tmp_path: Path, name: str, file_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_corpus(name, data_folder=DATA, cache_folder=tmp_path) == DATA / file_name
    assert not available_offline(name, cache_folder=tmp_path)
    monkeypatch.setenv("ELMAN_DATA", str(DATA))
    assert find_corpus(name, cache_folder=tmp_path) == DATA / file_name
    assert available_offline(name, cache_folder=tmp_path)


def test_a_book_is_downloaded_once_and_reports_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    put_up(monkeypatch, f"{library}/play.txt")
    shares: list[float] = []
    assert not available_offline("shakespeare", cache_folder=tmp_path)
    path = find_corpus("shakespeare", cache_folder=tmp_path, progress=lambda stage, share: shares.append(share))
    assert path.read_bytes() == CONTENTS
    assert list(tmp_path.iterdir()) == [path]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert available_offline("shakespeare", cache_folder=tmp_path)
    put_up(monkeypatch, "http://127.0.0.1:9/nowhere")
    assert find_corpus("shakespeare", cache_folder=tmp_path) == path


def test_a_damaged_file_in_the_cache_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    put_up(monkeypatch, f"{library}/play.txt")
    (tmp_path / "play.txt").write_bytes(CONTENTS[:100])
    assert not available_offline("shakespeare", cache_folder=tmp_path)
    assert find_corpus("shakespeare", cache_folder=tmp_path).read_bytes() == CONTENTS


def test_a_download_with_a_wrong_checksum_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    put_up(monkeypatch, f"{library}/play.txt", EMPTY)
    with pytest.raises(DataError, match=f"SHA-256 {RIGHT}, expected {EMPTY}; .*put play.txt"):
        find_corpus("shakespeare", cache_folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_in_the_data_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "tinyshakespeare.txt"
    mine.write_bytes(b"")
    with pytest.raises(DataError, match=f"SHA-256 is {EMPTY}, expected 86c4e6aa.*name the file itself"):
        find_corpus("shakespeare", data_folder=tmp_path, cache_folder=tmp_path / "cache")
    assert mine.exists()
    assert not available_offline("shakespeare", data_folder=tmp_path, cache_folder=tmp_path / "cache")
    mine.unlink()
    mine.mkdir()
    with pytest.raises(DataError, match=r"cannot read .*tinyshakespeare.txt: Is a directory"):
        find_corpus("shakespeare", data_folder=tmp_path)


@pytest.mark.parametrize("page", ["/missing.txt", None])
def test_a_download_that_fails_says_what_was_tried_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, page: str | None
) -> None:
    address = f"{library}{page}" if page else (tmp_path / "no-such-file").as_uri()
    put_up(monkeypatch, address)
    with pytest.raises(
        DataError, match=f"from {address}: .*; check the network, or put the file as play.txt .*ELMAN_DATA"
    ):
        find_corpus("shakespeare", cache_folder=tmp_path / "cache")
    with pytest.raises(DataError, match=f"as play.txt into the data folder {tmp_path}"):
        find_corpus("shakespeare", data_folder=tmp_path, cache_folder=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_server_that_is_silent_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.05)
    with HTTPServer(("127.0.0.1", 0), _Library) as server:  # listens, never answers
        put_up(monkeypatch, f"http://127.0.0.1:{server.server_port}/play.txt")
        with pytest.raises(DataError, match=r"cannot download .*timed out"):
            find_corpus("shakespeare", cache_folder=tmp_path)


def test_what_is_not_to_be_downloaded_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"nothing is to be downloaded: put https://.* as tinyshakespeare.txt into a folder"
    ):
        find_corpus("shakespeare", cache_folder=tmp_path, download=False)
    with pytest.raises(DataError, match=r"no public address .* put the file war_and_peace.txt \(SHA-256 b0fc81c3"):
        find_corpus("war-and-peace", cache_folder=tmp_path)


def test_a_data_folder_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"the data folder .*/nowhere is not a folder"):
        find_corpus("shakespeare", data_folder=tmp_path / "nowhere")
    monkeypatch.setenv("ELMAN_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match=r"ELMAN_DATA=.*/elsewhere is not a folder"):
        find_corpus("shakespeare", cache_folder=tmp_path)
