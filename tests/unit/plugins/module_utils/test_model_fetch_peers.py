# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files from other hosts' stores, and the choice of who gives what."""
from __future__ import annotations

import json
import random
import shutil
import socket
import threading
import time

import pytest
from ansible_collections.idc.llm.plugins.module_utils import _peers
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError
from ansible_collections.idc.llm.plugins.module_utils._fetch_choice import Assignment, Chooser, PeerFiles, View
from ansible_collections.idc.llm.plugins.module_utils._model_store import FileEntry
from ansible_collections.idc.llm.plugins.module_utils._peers import Peers
from ansible_collections.idc.llm.plugins.module_utils._source import Access, SourceError

from tests.support.hub import Hub, make_model
from tests.support.model_source import FILES, REVISION, Handler, contents, published, write_source

A, B = FileEntry("a", 1, "a" * 64), FileEntry("b", 1, "b" * 64)
SHARD = "model-00001.safetensors"


@pytest.fixture
def origin(tmp_path):
    """The files at their origin."""
    return write_source(tmp_path / "src")


@pytest.fixture
def other(tmp_path, fetch, origin):
    """Another host's store, with the revision published."""
    root = tmp_path / "other"
    fetch(origin.as_uri(), root=str(root))
    return root


def test_a_peer_that_has_the_revision_is_asked_before_the_origin(fetch, model, serve, origin, other):
    peer, source = serve(other), serve(origin)
    result = fetch(source.url, peers=[peer.url + "/"], token="hub-secret")
    assert published(model) == FILES
    assert result["sources"] == [peer.url]
    assert [path for path, _auth in source.seen] == ["/manifest.json"]
    assert {auth for _path, auth in peer.seen} == {None}
    listed = [path for path, _auth in peer.seen if path.endswith("/")]
    assert listed == [f"/demo/tiny/{REVISION}/", f"/demo/tiny/{REVISION}/sub/"]


def test_a_peer_gives_what_it_has_finished_and_the_origin_the_rest(fetch, model, serve, origin, other):
    (other / "demo" / "tiny" / REVISION).rename(other / "demo" / "tiny" / f".partial-{REVISION}")
    partial = other / "demo" / "tiny" / f".partial-{REVISION}"
    (partial / SHARD).unlink()
    (partial / (SHARD + ".part")).write_bytes(b"")
    (partial / "empty").write_bytes(b"longer than it should be")
    shutil.rmtree(partial / "sub")
    peer = serve(other)
    result = fetch(origin.as_uri(), peers=[peer.url])
    assert published(model) == FILES
    rows = {row["path"]: row["source"] for row in json.loads((model / REVISION / "manifest.json").read_text())["files"]}
    assert rows == {
        "config.json": peer.url,
        **dict.fromkeys((SHARD, "sub/tokenizer.json", "empty"), origin.as_uri()),
    }
    assert result["rejected"] == []
    assert not [path for path, _auth in peer.seen if path.endswith(".part")]


def test_a_peer_with_wrong_bytes_is_found_out(fetch, model, serve, origin, other):
    file = other / "demo" / "tiny" / REVISION / SHARD
    file.write_bytes(b"v" * file.stat().st_size)
    peer = serve(other)
    result = fetch(origin.as_uri(), peers=[peer.url])
    assert published(model) == FILES
    assert [(row["source"], row["path"]) for row in result["rejected"]] == [(peer.url, SHARD)]
    rows = {row["path"]: row["source"] for row in json.loads((model / REVISION / "manifest.json").read_text())["files"]}
    assert rows[SHARD] == origin.as_uri()  # who gave the others depends on when the peer was found out
    assert set(result["sources"]) == set(rows.values()) <= {origin.as_uri(), peer.url}


@pytest.mark.parametrize("kind", ["gone", "no listing", "empty"])
def test_a_peer_that_is_of_no_use_is_no_failure(tmp_path, fetch, model, serve, origin, kind):
    (tmp_path / "empty").mkdir()
    server = serve(tmp_path / "empty")
    if kind == "no listing":
        page = tmp_path / "empty" / "demo" / "tiny" / REVISION / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text("<html>")
    result = fetch(origin.as_uri(), peers=["http://127.0.0.1:9" if kind == "gone" else server.url])
    assert (result["sources"], result["rejected"]) == ([origin.as_uri()], [])
    assert published(model) == FILES


def test_a_peer_that_loses_a_file_meanwhile_is_looked_at_again(fetch, model, serve, origin, other, monkeypatch):
    peer = serve(other)
    real = Peers.remote

    def remote(peers, name, entry):
        (other / "demo" / "tiny" / REVISION / SHARD).unlink(missing_ok=True)
        return real(peers, name, entry)

    monkeypatch.setattr(Peers, "remote", remote)
    result = fetch(origin.as_uri(), peers=[peer.url], jobs=1)
    assert published(model) == FILES
    assert {(row["source"], row["path"]) for row in result["rejected"]} <= {(peer.url, SHARD)}


def test_peers_alone_are_enough_once_the_origin_is_away(fetch, model, serve, origin, other):
    """The list comes from the first source that has it, here a disk without weights."""
    for path in FILES:
        (origin / path).unlink()
    peer = serve(other)
    assert fetch(origin.as_uri(), peers=[peer.url])["sources"] == [peer.url]
    assert published(model) == FILES


def test_a_peer_that_comes_up_late_is_waited_for_as_long_as_the_choice_says(fetch, model, serve, origin, other, monkeypatch):
    """A chooser may begin nothing for now; the engine asks again with a fresh view of the peers."""
    aside = other / "aside"
    (other / "demo").rename(aside)
    peer, asked = serve(other), []

    class Patient(Chooser):
        def next(self, view):
            asked.append(len(view.peers))
            if len(asked) == 3:
                aside.rename(other / "demo")
            wanted = [entry for entry in view.todo if view.peers_with(entry)]
            return Assignment(wanted[0], peer.url) if wanted else None

    monkeypatch.setattr("ansible_collections.idc.llm.plugins.module_utils._model_fetch.Chooser", Patient)
    assert fetch(origin.as_uri(), peers=[peer.url])["sources"] == [peer.url]
    assert published(model) == FILES


def test_check_mode_tells_what_peers_would_give(tmp_path, fetch, serve, origin, other):
    (other / "demo" / "tiny" / REVISION / SHARD).unlink()
    peer = serve(other)
    result = fetch(origin.as_uri(), peers=[peer.url], check_mode=True)
    assert {row["path"]: row["source"] for row in result["would_fetch"]} == {
        **dict.fromkeys(FILES, peer.url), SHARD: origin.as_uri()}
    assert not (tmp_path / "store").exists()


def test_peers_are_not_believed_without_a_sha256(tmp_path, fetch, model, serve, origin, other):
    (origin / "manifest.json").unlink()
    peer = serve(other)
    assert fetch(origin.as_uri(), peers=[peer.url])["sources"] == [origin.as_uri()]
    assert published(model) == FILES


def test_looks_are_rarer_without_news_and_at_who_is_away(serve, other, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(_peers.time, "monotonic", lambda: clock[0])
    server = serve(other)
    entry = FileEntry("config.json", 8, "a" * 64)
    peers = Peers([server.url, "http://127.0.0.1:9", server.url + "/"], Access(), "demo/tiny", REVISION)
    peers.look([entry])
    assert peers.names == [server.url, "http://127.0.0.1:9"]
    assert peers.files() == {server.url: PeerFiles(frozenset({"config.json"}), {})}
    good, away = peers._peers.values()
    assert (good.due, away.due) == (1000 + 2 / _peers.LOOKS, 1000 + _peers.REST)
    pauses = []
    for _turn in range(12):
        assert good.look([entry], 0.1) is False
        pauses.append(good.pause)
    assert pauses == sorted(pauses) and pauses[-1] == _peers.QUIET
    (other / "demo" / "tiny" / REVISION / "config.json").unlink()
    assert (good.look([entry], 0.1), good.pause) == (True, 0.1)
    peers.doubt(server.url, gone=True)
    assert (peers.files(), good.due) == ({}, 1000 + _peers.REST)
    peers.doubt(server.url, gone=False)
    assert good.due == 1000


def test_an_unfinished_file_of_a_peer_counts_as_long_as_it_grows(serve, other, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(_peers.time, "monotonic", lambda: clock[0])
    folder = other / "demo" / "tiny" / REVISION
    (folder / "config.json").rename(folder / "config.json.part")
    entry = FileEntry("config.json", 8, "a" * 64)
    peers = Peers([serve(other).url], Access(), "demo/tiny", REVISION)

    def under_way(seconds):
        clock[0] += seconds
        peers.look([entry])
        return [path for files in peers.files().values() for path in files.growing]

    assert under_way(0) == under_way(_peers.GROWS - 1) == ["config.json"]
    assert under_way(2) == []
    (folder / "config.json.part").write_bytes(b"more than before")
    assert under_way(0) == ["config.json"]


def test_a_peer_is_looked_at_over_one_connection(serve, other, monkeypatch):
    server, made = serve(other), []
    real = _peers.http.client.HTTPConnection.connect
    monkeypatch.setattr(Handler, "protocol_version", "HTTP/1.1")
    monkeypatch.setattr(_peers.http.client.HTTPConnection, "connect", lambda line: (made.append(1), real(line))[1])
    peers = Peers([server.url], Access(), "demo/tiny", REVISION)
    for _turn in range(3):
        peers.look([FileEntry("sub/tokenizer.json", 2, "a" * 64)])
    assert (len(made), len(server.seen)) == (1, 6)
    peers._peers[server.url]._spare[0].sock.shutdown(2)
    peers.look([A])
    assert (len(made), list(peers.files())) == (2, [server.url])


def test_a_peer_that_is_too_busy_is_no_failure(fetch, model, serve, origin, other):
    """Its server refuses more than a few streams; the file is asked for again, there or elsewhere."""
    peer = serve(other)
    peer.busy = 1
    result = fetch(origin.as_uri(), peers=[peer.url], jobs=1)
    assert published(model) == FILES
    assert (result["rejected"], peer.busy) == ([], 0)


def test_a_refusal_that_is_cut_off_is_a_refusal():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def answer():
            line, _address = listener.accept()
            line.recv(4096)
            line.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\nonly this")
            line.close()

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        peer = _peers.Peer(url, Access(), ("demo/tiny/r1",))
        with pytest.raises(SourceError) as refused, _peers.PeerFile(peer, A, "demo/tiny/r1").open():
            pass
        thread.join()
    assert refused.value.kind == "busy"


@pytest.fixture
def grows(tmp_path, fetch, serve):
    """Another host that is in the middle of the shard; (its server, its file, the bytes of the shard, the origin's server)."""
    shard = random.Random(1).randbytes(3_000_000)
    source = serve(write_source(tmp_path / "big", {"config.json": b"{}", SHARD: shard}))
    folder = tmp_path / "growing" / "demo" / "tiny" / f".partial-{REVISION}"
    folder.mkdir(parents=True)
    file = folder / (SHARD + ".part")
    file.write_bytes(shard[:1_000_000])
    return serve(tmp_path / "growing"), file, shard, source


def asked_for(server):
    return [path for path, _auth in server.seen if SHARD in path]


def test_a_file_that_grows_at_a_peer_is_followed_until_it_is_whole(fetch, model, grows):
    """The peer gives it its name while we are at it; the origin is not asked for it."""
    peer, file, shard, source = grows

    def grow():
        for end in range(1_250_000, len(shard) + 1, 250_000):
            time.sleep(0.05)
            with file.open("ab") as out:
                out.write(shard[end - 250_000:end])
        file.rename(file.with_suffix(""))

    thread = threading.Thread(target=grow)
    thread.start()
    result = fetch(source.url, peers=[peer.url])
    thread.join()
    assert (model / REVISION / SHARD).read_bytes() == shard
    assert (asked_for(source), result["rejected"]) == ([], [])
    assert len(asked_for(peer)) > 2


def test_where_it_grows_no_more_the_origin_gives_the_rest(fetch, model, grows):
    peer, _file, shard, source = grows
    result = fetch(source.url, peers=[peer.url])
    assert (model / REVISION / SHARD).read_bytes() == shard
    assert (len(asked_for(source)), result["rejected"]) == (1, [])
    assert result["fetched_bytes"] == len(shard) + 2


def test_wrong_bytes_that_were_passed_on_before_they_were_proven_are_nobodys_fault_and_stay_nowhere(fetch, model, grows):
    peer, file, shard, source = grows
    file.write_bytes(bytes(len(shard) - 1) + shard[-1:])
    result = fetch(source.url, peers=[peer.url])
    assert (model / REVISION / SHARD).read_bytes() == shard
    (row,) = result["rejected"]
    assert "passed on before it was proven" in row["reason"]
    assert len(asked_for(source)) == 1


def test_hosts_share_the_work(tmp_path, fetch, serve):
    """Two hosts at once, each a peer of the other: the origin gives each file about once."""
    files = {f"m-{number}.safetensors": bytes([number]) * 200_000 for number in range(10)}
    source = serve(write_source(tmp_path / "origin", {"config.json": b"{}", **files}))
    roots = [tmp_path / name for name in ("one", "two")]
    for root in roots:
        root.mkdir()
    peers = [serve(root) for root in roots]
    urls = [peer.url for peer in peers]
    results = []

    def host(number):
        results.append(fetch(source.url, root=str(roots[number]), peers=urls, peer_self=urls[number], jobs=3))

    threads = [threading.Thread(target=host, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result["fetched_files"] for result in results] == [11, 11]
    for root in roots:
        assert contents(root / "demo" / "tiny" / REVISION).items() >= files.items()
    asked = [path for path, _auth in source.seen if path.endswith(".safetensors")]
    assert sorted(set(asked)) == sorted("/" + path for path in files)
    assert len(asked) <= len(files) + 3


def test_a_published_folder_comes_before_a_partial_one_and_parts_are_seen(serve, other):
    model = other / "demo" / "tiny"
    (model / f".partial-{REVISION}").mkdir()
    (model / f".partial-{REVISION}" / "config.json.part").write_bytes(b"")
    server = serve(other)
    entry = FileEntry("config.json", 8, "a" * 64)
    peers = Peers([server.url], Access(), "demo/tiny", REVISION)
    peers.look([entry])
    assert peers.remote(server.url, entry).folder == f"demo/tiny/{REVISION}"
    shutil.rmtree(model / REVISION)
    peers.doubt(server.url, gone=False)
    peers.look([entry])
    assert peers.files() == {server.url: PeerFiles(frozenset(), {"config.json": 0})}
    assert peers.remote(server.url, entry).folder == f"demo/tiny/.partial-{REVISION}"


def finished(*paths):
    return PeerFiles(frozenset(paths))


def test_small_files_of_a_hub_wait_for_nobodys_turn(tmp_path, fetch, model, serve, monkeypatch):
    """They have no sha256; the last of many hosts would wait for all before it."""
    make_model(tmp_path / "hub", "demo/tiny", {"config.json": b"{}", "a.json": b"[]"})
    (tmp_path / "empty").mkdir()
    me, *others = (serve(tmp_path / "empty").url for _host in range(4))
    monkeypatch.setattr(Chooser, "next", lambda _chooser, view: pytest.fail(f"it is asked about {view.todo}"))
    with Hub(tmp_path / "hub") as hub:
        fetch(f"hf+{hub.url}", revision="main", peers=others, peer_self=me)
    assert (model / "main" / "a.json").read_bytes() == b"[]"


@pytest.mark.parametrize(
    ("view", "wanted"),
    [
        (View((A, B), sources=("s", "t")), (A, "s")),
        (View((A, B), sources=("s",), peers={"p": finished("b")}), (B, "p")),
        (View((A,), sources=("s",), peers={"p": finished("a"), "q": finished("a")}, busy=(("x", "p"),)), (A, "q")),
        (View((A,), sources=("s", "t"), peers={"p": finished("a")}, bad=frozenset({("a", "p"), ("a", "s")})), (A, "t")),
        (View((FileEntry("a", 1, ""),), sources=("s",), peers={"p": finished("a")}), (FileEntry("a", 1, ""), "s")),
        (View((A,), sources=("s",), bad=frozenset({("a", "s")})), None),
        (View(()), None),
    ],
)
def test_peers_come_first_the_idle_one_before_the_busy_one_then_sources_in_order(view, wanted):
    assert Chooser().next(view) == (Assignment(*wanted) if wanted else None)


def test_what_nobody_can_give_is_hopeless():
    view = View((A, B), sources=("s",), peers={"p": finished("b")}, bad=frozenset({("a", "s"), ("b", "s")}))
    assert view.hopeless() == [A]


def test_a_file_that_nobody_can_give_ends_the_run_while_the_others_are_kept(fetch, model, serve, origin, other):
    (origin / SHARD).unlink()
    (other / "demo" / "tiny" / REVISION / SHARD).unlink()
    with pytest.raises(IdcError, match=rf"IDC-FETCH-005: 1 file\(s\).*{SHARD}. Seen: {SHARD} from file:.*No such file"):
        fetch(origin.as_uri(), peers=[serve(other).url])
    assert (model / f".partial-{REVISION}" / "config.json").exists()
