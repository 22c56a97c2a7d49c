"""Finding and downloading weight files: order, digests, offline, mirrors, interruptions."""

from __future__ import annotations

import hashlib
import http.server
import multiprocessing
import os
import re
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from foveate.core.errors import WeightsError
from foveate.core.files import cache_folder
from foveate.models.weights import resolve, table
from foveate.models.weights.builtin import built_in
from foveate.models.weights.resolve import check_address, download
from foveate.models.weights.table import WeightFile

DATA = bytes(range(256)) * 4000
FILE = WeightFile(
    "net.bin", len(DATA), hashlib.sha256(DATA).hexdigest(), ("https://weights.invalid/net.bin",)
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    """Isolate tests from settings of the machine, with an empty cache."""
    for name in ("FOVEATE_WEIGHTS", "FOVEATE_WEIGHTS_URL", "FOVEATE_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def no_network(monkeypatch):
    """Fail at the first socket."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def serve(monkeypatch):
    """Return a function that starts a local server and sets it as the mirror."""
    running = []

    def start(respond):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # name required by http.server
                respond(self)

            def log_message(self, *_args):
                """Keep the output of the tests clean."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        running.append((server, thread))
        base = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("FOVEATE_WEIGHTS_URL", f"{base}/mirror/")
        return base

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


def send(data, length=None):
    """A handler that responds with some bytes."""

    def respond(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data) if length is None else length))
        handler.end_headers()
        handler.wfile.write(data)

    return respond


def cached_names():
    """Names in the cache."""
    folder = cache_folder()
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def test_folders_of_the_user_are_searched_first_and_in_order(monkeypatch, tmp_path, no_network):
    folders = [tmp_path / name for name in ("empty", "a", "b")]
    for folder in folders:
        folder.mkdir()
    for folder in folders[1:]:
        (folder / FILE.name).write_bytes(DATA)
    cache_folder().mkdir()
    (cache_folder() / FILE.name).write_bytes(DATA)
    monkeypatch.setenv("FOVEATE_WEIGHTS", os.pathsep.join(map(str, folders)))
    assert resolve.locate(FILE) == folders[1] / FILE.name
    monkeypatch.delenv("FOVEATE_WEIGHTS")
    assert resolve.locate(FILE) == cache_folder() / FILE.name


def test_a_wrong_file_in_a_folder_of_the_user_is_an_error(monkeypatch, tmp_path, no_network):
    (tmp_path / FILE.name).write_bytes(DATA[:-1])
    monkeypatch.setenv("FOVEATE_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        resolve.locate(FILE)
    text = str(caught.value)
    for part in (str(tmp_path / FILE.name), FILE.sha256, hashlib.sha256(DATA[:-1]).hexdigest()):
        assert part in text


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_does_not_use_the_network(monkeypatch, no_network, how):
    if how == "environment":
        monkeypatch.setenv("FOVEATE_OFFLINE", "1")
    with pytest.raises(WeightsError) as caught:
        resolve.locate(FILE, offline=how == "argument")
    text = str(caught.value)
    assert "\n" not in text
    for part in (FILE.name, FILE.sha256[:12], "FOVEATE_WEIGHTS", str(cache_folder())):
        assert part in text


def test_the_error_of_a_missing_file_names_the_command(no_network):
    entry = table.entries()[0]
    with pytest.raises(WeightsError, match=re.escape(f"weights fetch {entry.name}")):
        resolve.locate(entry.file, offline=True)


@pytest.mark.parametrize(("value", "expected"), [("0", False), ("", False), ("1", True)])
def test_offline_by_environment(monkeypatch, value, expected):
    monkeypatch.setenv("FOVEATE_OFFLINE", value)
    assert resolve.is_offline() is expected


def test_download_from_a_mirror(serve):
    asked, seen = [], []

    def respond(handler):
        asked.append(handler.path)
        send(DATA)(handler)

    serve(respond)
    path = resolve.locate(FILE, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == DATA
    assert asked == ["/mirror/net.bin"]
    assert seen[-1] == (len(DATA), len(DATA))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert cached_names() == [FILE.name]
    # The second time it is in the cache.
    assert resolve.locate(FILE) == path
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("respond", "message"),
    [
        (send(DATA[:5000]), "ended after 5000 of"),
        (send(DATA[:5000], len(DATA)), "net.bin"),
        (send(DATA + b"x"), "longer than"),
        (send(DATA[:-1] + b"x"), "sha256"),
        (lambda handler: handler.send_error(404), "Not Found"),
        (lambda handler: handler.connection.close(), "net.bin"),
    ],
    ids=["short", "cut", "long", "wrong", "missing", "closed"],
)
def test_bad_downloads_leave_nothing(serve, respond, message):
    serve(respond)
    with pytest.raises(WeightsError, match=message):
        resolve.locate(FILE)
    assert cached_names() == []


def test_a_damaged_file_in_the_cache_is_replaced(serve):
    serve(send(DATA))
    cache_folder().mkdir()
    (cache_folder() / FILE.name).write_bytes(b"damaged")
    assert resolve.locate(FILE).read_bytes() == DATA


def test_an_interrupted_download_keeps_the_old_file(serve):
    serve(send(DATA))

    def stop(_done, _total):
        raise KeyboardInterrupt

    cache_folder().mkdir()
    target = cache_folder() / FILE.name
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        resolve.locate(FILE, progress=stop)
    assert target.read_bytes() == b"old"
    assert cached_names() == [FILE.name]


def test_a_file_mirror(monkeypatch, tmp_path):
    (tmp_path / FILE.name).write_bytes(DATA)
    monkeypatch.setenv("FOVEATE_WEIGHTS_URL", tmp_path.as_uri())
    assert resolve.locate(FILE).read_bytes() == DATA


def test_the_error_of_a_missing_file_names_built_in_models(monkeypatch, no_network):
    entry = table.find("movinet-a0-stream-lite.k600")
    for file in entry.files:
        with pytest.raises(WeightsError) as caught:
            resolve.locate(file, offline=True)
        said = str(caught.value)
        assert "foveate weights fetch movinet-a0-stream-lite.k600" in said
        for name in built_in():
            assert name in said
        assert "\n" not in said
    assert built_in()
    assert len(entry.file.addresses) == 3
    assert len(set(entry.file.addresses)) == 3


def test_addresses_are_tried_in_order(tmp_path):
    (tmp_path / "there").write_bytes(DATA)
    addresses = ((tmp_path / "not-there").as_uri(), (tmp_path / "there").as_uri())
    assert resolve.locate(replace(FILE, addresses=addresses)).read_bytes() == DATA


def test_redirects_to_unsafe_urls_are_rejected(serve, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(DATA)
    for target in (secret.as_uri(), "http://weights.invalid/net.bin", "ftp://127.0.0.1/net.bin"):

        def respond(handler, target=target):
            handler.send_response(302)
            handler.send_header("Location", target)
            handler.end_headers()

        serve(respond)
        with pytest.raises(WeightsError):
            resolve.locate(FILE)
    assert cached_names() == []


def test_safe_redirects_are_followed(serve):
    def respond(handler):
        if handler.path.endswith("elsewhere"):
            send(DATA)(handler)
            return
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere")
        handler.end_headers()

    serve(respond)
    assert resolve.locate(FILE).read_bytes() == DATA


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("https://example.org/x", True),
        ("http://127.0.0.1:8000/x", True),
        ("http://[::1]/x", True),
        ("http://localhost/x", True),
        ("file:///x", True),
        ("http://example.org/x", False),
        ("http://localhost.example.org/x", False),
        ("ftp://127.0.0.1/x", False),
        ("x", False),
    ],
)
def test_which_addresses_are_allowed(address, allowed):
    if allowed:
        check_address(address)
    else:
        with pytest.raises(WeightsError, match="only https"):
            check_address(address)


def test_a_folder_that_cannot_be_written(serve, monkeypatch, tmp_path):
    serve(send(DATA))
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match="cannot be written"):
        resolve.locate(FILE)


def _fetch(address, target):
    download(address, FILE, Path(target))


def test_two_processes_at_once(serve, tmp_path):
    base = serve(send(DATA))
    target = tmp_path / "shared" / FILE.name
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_fetch, args=(f"{base}/net.bin", str(target))) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert target.read_bytes() == DATA
    assert [p.name for p in target.parent.iterdir()] == [FILE.name]


def test_verify_finds_wrong_files(monkeypatch, tmp_path):
    entry = replace(table.entries()[0], file=FILE, labels=replace(FILE, name="labels.txt"))
    monkeypatch.setattr(table, "_ENTRIES", {entry.name: entry})
    monkeypatch.setenv("FOVEATE_WEIGHTS", str(tmp_path))
    assert resolve.verify() == []
    (tmp_path / FILE.name).write_bytes(DATA)
    (tmp_path / "labels.txt").write_bytes(b"other")
    assert [(found.file.name, found.ok) for found in resolve.verify()] == [
        ("net.bin", True),
        ("labels.txt", False),
    ]
