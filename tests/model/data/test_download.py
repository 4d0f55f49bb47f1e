"""Downloads from a real server on this machine: whole, cut, slow, wrong, and none at all."""

import errno
import hashlib
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

import files
from model.data.download import Digest, DownloadFailed, Published, cache_folder, download
from model.data.web import Patience
from tests.homes import Home, direct, serving
from tests.waiting import wait_until

__all__ = ["direct"]
pytestmark = pytest.mark.usefixtures("direct")

CONTENT = b"weights" * 50_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
IMPATIENT = Patience(silence=1.0, window=1.0, rate=5_000)  # for servers that are slow; no loaded machine is as slow
NOTHING = "http://127.0.0.1:9/file"  # no server: port 9 is refused


def wanted(*urls: str, digits: str = SHA256, limit: int = len(CONTENT)) -> Published:
    return Published(urls, Digest("sha256", digits), limit)


def get(published: Published, file: Path, patience: Patience = Patience()) -> None:
    download(published, file, by_hand="give it with --weights FILE", patience=patience)


def failure(published: Published, file: Path) -> str:
    with pytest.raises(DownloadFailed) as raised:
        get(published, file)
    assert not file.exists()
    return str(raised.value)


def test_a_file_is_downloaded_once_checked_and_then_used_without_the_network(tmp_path: Path) -> None:
    file, seen = tmp_path / "new" / "file", []
    with serving(Home({"file": b"x" * 2_500_000})) as home:
        digits = hashlib.sha256(home.files["file"]).hexdigest()[:8]  # the first digits, as torchvision publishes them
        published = wanted(home.url("file"), digits=digits, limit=2_500_000)
        for _ in range(2):
            download(published, file, by_hand="", report=lambda *told: seen.append(told))
    assert file.read_bytes() == b"x" * 2_500_000
    assert home.asked == [""]
    assert seen[-1] == ("file", 2, 2)
    assert sorted(seen) == seen
    assert sorted(os.listdir(file.parent)) == ["file", "file.lock"]


def test_a_cut_download_is_continued_also_by_a_later_call(tmp_path: Path) -> None:
    file, half = tmp_path / "file", len(CONTENT) // 2
    with serving(Home({"file": CONTENT}, cut=half)) as home:
        get(wanted(home.url("file")), file)
    assert (file.read_bytes(), home.asked) == (CONTENT, ["", f"bytes={half}-"])
    with serving(Home({"file": CONTENT}, cut=10)) as home:
        text = failure(wanted(home.url("file")), tmp_path / "later")
    assert f"cut after 50 of {len(CONTENT):,} bytes" in text  # five attempts, each of which brought ten
    assert home.asked == ["", "bytes=10-", "bytes=20-", "bytes=30-", "bytes=40-"]
    with serving(Home({"file": CONTENT})) as home:
        get(wanted(NOTHING, home.url("file")), tmp_path / "later")
    assert ((tmp_path / "later").read_bytes(), home.asked) == (CONTENT, ["bytes=50-"])


def test_a_server_that_cannot_continue_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    with serving(Home({"file": CONTENT}, ranges=False)) as home:
        get(wanted(home.url("file")), tmp_path / "file")
    assert ((tmp_path / "file").read_bytes(), home.asked) == (CONTENT, ["bytes=1000-"])


@pytest.mark.parametrize("part", [b"other" * 10, b"x" * len(CONTENT) * 2], ids=["other bytes", "longer"])
def test_a_part_that_is_not_the_files_beginning_is_thrown_away(tmp_path: Path, part: bytes) -> None:
    (tmp_path / "file.part").write_bytes(part)
    with serving(Home({"file": CONTENT})) as home:
        get(wanted(home.url("file")), tmp_path / "file")
    assert ((tmp_path / "file").read_bytes(), home.asked) == (CONTENT, [f"bytes={len(part)}-", ""])


def test_a_part_that_is_whole_needs_no_server(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    get(wanted(NOTHING), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_every_address_is_named_with_its_reason_and_how_to_give_the_file(tmp_path: Path) -> None:
    page = b"<html>log in</html>"
    with serving(Home({"file": page}, kind="text/html")) as portal, serving(Home({})) as empty:
        urls = (NOTHING, portal.url("file"), empty.url("file"))
        text = failure(wanted(*urls), tmp_path / "file")
    assert text == (
        f"file cannot be downloaded ({NOTHING}: Connection refused; "
        f"{urls[1]}: 19 bytes of text/html, not the published file (sha256 {SHA256}); {urls[2]}: 404 Not Found): "
        "give it with --weights FILE"
    )
    assert os.listdir(tmp_path) == ["file.lock"]
    assert portal.asked == [""]


@pytest.mark.parametrize(
    ("fault", "limit", "reason"),
    [
        (Home({}, cut=40_000, pause=0.05), len(CONTENT), r"too slow: [\d,]+ bytes in \d+ s"),
        (Home({}, cut=0, pause=5), len(CONTENT), r"nothing more for 1 s after 0 of 350,000 bytes"),
        (Home({}, headers_pause=0.05), len(CONTENT), r"no answer within 1 s"),
        (Home({}), len(CONTENT) - 1, "a file of 350,000 bytes; at most 349,999 are accepted"),
        (Home({}, length=False), len(CONTENT), "does not say how long the file is"),
    ],
    ids=["trickling", "silent", "trickling headers", "too long", "no length"],
)
def test_a_server_that_would_hold_it_up_or_fill_the_disk_is_given_up(
    tmp_path: Path, fault: Home, limit: int, reason: str
) -> None:
    begun = time.monotonic()
    with (
        serving(replace(fault, files={"file": CONTENT}, asked=[])) as home,
        pytest.raises(DownloadFailed, match=reason),
    ):
        get(wanted(home.url("file"), limit=limit), tmp_path / "file", IMPATIENT)
    assert time.monotonic() - begun < 20
    assert home.asked == [""]
    assert not (tmp_path / "file").exists()


HUGE = b"9" * 5_000  # digits, which int() refuses


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n" % HUGE, "does not say how long the file is"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            "does not say how long the file is",
        ),
        (b"HTTP/1.1 302 Found\r\nLocation: http://[/\r\n\r\n", "Invalid IPv6 URL"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://%b.org/\r\n\r\n" % HUGE, "label .*too long"),
        (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", "not allowed"),
        (b"HTTP/1.1 404 \x1b[31mred\r\n\r\n", r"404 \\x1b\[31mred"),
        (b"\x00" * 5_000, r"\\x00"),
        (b"", "closed connection"),
    ],
    ids=["huge length", "chunked", "no address", "no host", "another protocol", "escape", "long noise", "nothing"],
)
def test_an_answer_of_any_bytes_is_one_short_line(tmp_path: Path, answer: bytes, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        text = failure(wanted(f"http://127.0.0.1:{server.getsockname()[1]}/file"), tmp_path / "file")
        thread.join()
    assert re.search(reason, text)
    assert text.isprintable()
    assert len(text) < 2_000


def test_a_file_of_that_name_with_another_hash_stays_and_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    with pytest.raises(DownloadFailed, match=r"file: not the published file \(sha256 [0-9a-f]{64}\); remove it"):
        get(wanted(NOTHING), file)
    assert file.read_bytes() == b"mine"
    with pytest.raises(DownloadFailed, match=f"{tmp_path}: cannot be read: Is a directory"):
        get(wanted(NOTHING), tmp_path)


def test_two_processes_do_not_write_one_part(tmp_path: Path) -> None:
    with files.locked(tmp_path / "file.lock"), serving(Home({"file": CONTENT})) as home:
        assert "another process is downloading it" in failure(wanted(home.url("file")), tmp_path / "file")
        assert home.asked == []
    with serving(Home({"file": CONTENT})) as home:
        get(wanted(home.url("file")), tmp_path / "file")
    with files.locked(tmp_path / "file.lock"):
        get(wanted(NOTHING), tmp_path / "file")  # a whole file needs no lock: its folder may be read-only


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(DownloadFailed, match=r"folder.*: cannot be written: (Not a directory|File exists)"):
        get(wanted(NOTHING), tmp_path / "folder" / "file")


def test_the_cache_lies_outside_the_checkout() -> None:
    assert cache_folder({"XDG_CACHE_HOME": "/somewhere"}) == Path("/somewhere/fc7")
    assert cache_folder({}) == cache_folder({"XDG_CACHE_HOME": ""}) == Path.home() / ".cache" / "fc7"


def test_a_full_disk_is_one_line_and_what_came_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with serving(Home({"file": CONTENT})) as home, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DownloadFailed, match="file: no space left on the disk; make room and run it again"):
            get(wanted(home.url("file")), tmp_path / "file")
    assert not (tmp_path / "file").exists()
    get(wanted(NOTHING), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.slow
def test_after_kill_9_the_next_process_continues(tmp_path: Path) -> None:
    half = len(CONTENT) // 2
    with serving(Home({"file": CONTENT}, cut=half, pause=60)) as home:
        published = wanted(home.url("file"))
        program = "from pathlib import Path\nfrom model.data.download import Digest, Published, download\n"
        program += f"download({published!r}, Path('file'), by_hand='')"
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment) as process:
            part = tmp_path / "file.part"
            wait_until(lambda: part.exists() and part.stat().st_size > half - 10_000)
            process.kill()
    had = part.stat().st_size
    with serving(Home({"file": CONTENT})) as home:
        get(wanted(home.url("file")), tmp_path / "file")
    assert ((tmp_path / "file").read_bytes(), home.asked) == (CONTENT, [f"bytes={had}-"])
