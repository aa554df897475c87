"""Peers on the pages: the file is changed with its comments, validated, taken over at once, and put back."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.config import Config, load
from dicom_node.config.writing import change, changes, go_back, put_peer, remove_peer
from dicom_node.engine.taking_over import taking_over
from dicom_node.errors import ConfigError
from dicom_node.net.ladder import climb, sentence_for
from dicom_node.net.scp import Receiver
from dicom_node.studies.spool import Spool
from dicom_node.web.users import Role, Users
from tests.support.services import listens, wait_for
from tests.support.sites import Site, site

PEER = '# our PACS\n[[peers]]\nname = "pacs"  # short\nae_title = "PACS"\nhost = "127.0.0.1"\nroles = ["source"]\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(f'# of the hospital\n[node]\nbind = "127.0.0.1"\ndata_dir = "data"\n\n{PEER}')
    path.chmod(0o640)
    return path


def test_a_change_keeps_comments_and_has_a_way_back(file: Path):
    data_dir, before = file.parent / "data", file.read_text()
    values = {"name": "mr", "ae_title": "MR1", "host": "10.1.1.2", "roles": ["source"]}
    config = change(file, data_dir, "anna", "peer mr added", lambda document: put_peer(document, "mr", values))
    assert [peer.name for peer in config.peers] == ["pacs", "mr"]
    assert load(file).peers == config.peers
    for comment in ("# of the hospital", "# our PACS", "# short"):
        assert comment in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640
    ((name, told),) = changes(data_dir).items()
    assert (told.who, told.what) == ("anna", "peer mr added")
    assert '+ae_title = "MR1"' in told.diff
    go_back(file, data_dir, "bert", name)
    assert file.read_text() == before
    assert [each.who for each in changes(data_dir).values()] == ["bert", "anna"]


def test_what_would_be_refused_is_not_written(file: Path):
    before = file.read_text()
    with pytest.raises(ConfigError, match="no peer has the role"):
        change(file, file.parent / "data", "anna", "", lambda document: remove_peer(document, "pacs"))
    bad = {"ae_title": "much too long a title"}
    with pytest.raises(ConfigError, match="AE title"):
        change(file, file.parent / "data", "anna", "", lambda document: put_peer(document, "pacs", bad))
    assert file.read_text() == before
    assert changes(file.parent / "data") == {}


def test_a_changed_file_is_taken_over_and_a_broken_one_is_not(file: Path):
    config = load(file)
    taken: list[Config] = []
    with taking_over(file, config, taken.append):
        file.write_text("[broken")
        file.write_text(file.read_text() + "\n")
        file.write_text(f"# by hand\n{PEER.replace('PACS', 'PACS2')}[node]\nport = 4711\n")
        wait_for(lambda: taken and taken[-1].peers[0].ae_title == "PACS2", 30, "the change")
    assert taken[-1].node == config.node, "a port is opened by a restart alone"


def test_a_receiver_knows_a_caller_from_the_next_association_on(file: Path, tmp_path: Path):
    from pynetdicom import AE
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

    config = load(file).model_copy()
    config = config.model_copy(update={"node": config.node.model_copy(update={"port": 0})})
    receiver = Receiver(config, Spool(tmp_path / "data"))
    receiver.start()
    try:
        entity = AE("NEWMR")
        entity.add_requested_context(Verification)
        assert entity.associate("127.0.0.1", receiver.port, ae_title="TSCNODE").is_rejected
        added = config.peers[0].model_copy(update={"name": "new", "ae_title": "NEWMR"})
        receiver.reconfigure(config.model_copy(update={"peers": (*config.peers, added)}))
        association = entity.associate("127.0.0.1", receiver.port, ae_title="TSCNODE")
        assert association.is_established
        association.release()
    finally:
        receiver.stop()


def test_the_ladder_ends_at_the_rung_that_fails(file: Path):
    config = load(file)
    peer = config.peers[0].model_copy(update={"port": 1})
    *_, name, connection = climb(config, peer)
    assert (name.good, connection.good, connection.what) == (True, False, "connection")
    assert "check port and firewall" in connection.sentence
    (lost,) = climb(config, peer.model_copy(update={"host": "no-such-host.invalid"}))
    assert "name service knows no" in lost.sentence
    assert "TSCNODE" in sentence_for(config, peer)


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[tuple[Site, dict[str, str]]]:
    with site(tmp_path) as running:
        password = Users(load(tmp_path / "node.toml")).put("boss", Role.ADMINISTRATOR)
        answer = running.ask("POST", "/sign-in", {"name": "boss", "password": password, "then": "/"})
        yield running, {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


def test_a_peer_is_added_tested_changed_and_removed(pages):
    running, mine = pages
    assert listens(running.port)

    def send(path: str, **fields: str):
        found = re.search(r'name="csrf" value="([^"]+)"', running.get("/peers", **mine).body)
        return running.ask("POST", path, {"csrf": found[1], **fields}, **mine)

    def written():
        return tomllib.loads((running.folder / "node.toml").read_text()).get("peers", [])

    added = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": "1", "roles": "destination"}
    assert send("/peers", **added, verify="none").status == 303
    assert written()[0]["port"] == 1
    assert "peer_known" in send("/peers", **added).body
    assert "check port and firewall" in send("/peers/pacs/test").body
    refused = send("/peers/pacs", **(added | {"port": "99999"}), verify="none")
    assert refused.status == 409
    assert "99999" in refused.body
    assert send("/peers/pacs", **(added | {"port": "104"}), verify="none").status == 303
    assert written()[0]["port"] == 104
    assert send("/peers/pacs/remove").status == 303
    assert written() == []
    assert running.get("/peers/pacs", **mine).status == 409
    assert "caller_unknown" in send("/callers/allow", title="X", address="1.2.3.4").body
