"""The verbs as a shell sees them: exit codes, one sentence with a code, no traceback."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from dicom_node.cli import settings
from dicom_node.cli.app import app, main
from dicom_node.cli.settings import load_config, site_rules
from dicom_node.config import Config, load
from dicom_node.engine.held_name import held_name
from dicom_node.engine.worker import Worker
from dicom_node.errors import AlreadyRunningError, NodeError
from dicom_node.studies.spool import Spool, Study
from dicom_node.studies.timeline import Event, State
from models.contrast import Contrast
from pipeline.select import BUILT_IN
from tests.support.services import command, copy_study
from tests.support.studies import SECOND_T2W, TRIPLET, receive_study, series_uid

VERBS = {
    "init", "check", "status", "alarms", "watch", "callers", "user",
    "serve", "receive", "work", "web", "run", "explain", "air-sample", "demo",
    "studies", "show", "retry", "release", "reindex", "echo", "models", "purge", "backup", "restore",
    "synthesize", "cohort", "train", "evaluate",
}  # fmt: skip


def refused(*arguments: str) -> tuple[int, str]:
    """Run a verb that must fail; return its exit code and the only line it wrote to stderr."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "dicom_node", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return done.returncode, lines[0]


def test_all_verbs_are_there():
    registered = {info.name or info.callback.__name__ for info in app.registered_commands}
    assert registered | {group.name for group in app.registered_groups} == VERBS


def test_init_writes_a_configuration_that_loads(tmp_path: Path):
    file = tmp_path / "node.toml"
    command("init", str(file))
    assert load(file).node.ae_title == "TSCNODE"
    code, line = refused("init", str(file))
    assert (code, line.split(":")[0]) == (2, "config_exists")
    command("init", str(file), "--force")


def test_a_missing_configuration(tmp_path: Path):
    code, line = refused("studies", "--config", str(tmp_path / "none.toml"))
    assert (code, line.split(":")[0]) == (2, "config_missing")


def test_a_default_that_cannot_be_looked_at_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # As where the user may not enter the folder, which is no obstacle to root: looking raises another OSError.
    closed = tmp_path / ("x" * 300)
    with pytest.raises(OSError, match="too long"):
        closed.exists()
    monkeypatch.setattr(settings, "CONFIGS", (closed, tmp_path / "node.toml"))
    assert settings.config_file(None) == closed
    assert load_config(None, offline=True) == Config.offline()
    assert site_rules(None) is BUILT_IN
    with pytest.raises(NodeError) as caught:
        load_config(None)
    assert caught.value.code == "config_unreadable"
    (tmp_path / "node.toml").touch()
    assert settings.config_file(None) == tmp_path / "node.toml"


def test_an_unknown_key(tmp_path: Path):
    file = tmp_path / "node.toml"
    file.write_text("[node]\naetitle = 'X'\n")
    code, line = refused("studies", "--config", str(file))
    assert (code, line.split(":")[0]) == (2, "config_unknown_key")
    assert "ae_title" in line


def test_a_folder_that_is_not_there(tmp_path: Path):
    assert refused("explain", str(tmp_path / "none"))[1].startswith("folder_missing:")
    assert refused("explain", str(tmp_path))[1].startswith("folder_empty:")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "node.toml"
    file.write_text('[node]\ndata_dir = "data"\n[receive]\naccept = "any"\n')
    return file


def test_an_unknown_study_and_an_unknown_peer(config: Path):
    for verb in (["show"], ["retry"], ["release", "--role", "T2W=1.2"]):
        assert refused(*verb, "1.2.3", "--config", str(config))[1].startswith("study_unknown:")
    assert refused("show", "../etc", "--config", str(config))[1].startswith("uid_invalid:")
    assert refused("echo", "nobody", "--config", str(config))[1].startswith("peer_unknown:")


def test_no_studies_yet(config: Path):
    assert json.loads(command("studies", "--config", str(config), "--json")) == []


def test_explain_names_the_series_of_each_role(quick_study, sent: Path):
    folder = copy_study(quick_study.files, sent / "study")
    table = json.loads(command("explain", str(folder), "--json"))
    assert table["state"] == "ready"
    assert set(table["roles"]) == {role.value for role in Contrast}
    text = command("explain", str(folder))
    assert text.splitlines()[-1] == "Ready: T1W = series 2, T2W = series 3, FLAIR = series 4"


def test_explain_cuts_nothing_in_a_pipe_of_80_columns(quick_study):
    folder = str(quick_study.files[Contrast.T1W][0].parents[1])
    text = command("explain", folder)
    table = json.loads(command("explain", folder, "--json"))
    assert max(len(line) for line in text.splitlines()) <= 80
    unfolded = " ".join(text.split())
    assert [s["series_number"] for s in table["series"]] == [1, 2, 3, 4]
    for series in table["series"]:
        assert series["series_uid"] in text
        assert all(sentence in unfolded for sentence in series["evidence"])


def test_explain_goes_by_the_rules_of_a_configuration(quick_study, config: Path):
    folder = str(quick_study.files[Contrast.T1W][0].parents[1])
    config.write_text(config.read_text() + "[selection]\nnever = ['flair']\n")
    table = json.loads(command("explain", folder, "--config", str(config), "--json", code=3))
    assert (table["state"], table["reason"]) == ("held", "missing_role")
    assert "description is never chosen at this site ('flair')" in table["series"][3]["evidence"]


def test_explain_wants_a_folder_or_a_number_of_studies(config: Path, tmp_path: Path):
    for arguments in ([], [str(tmp_path), "--replay", "3"]):
        code, line = refused("explain", *arguments, "--config", str(config))
        assert (code, line.split(":")[0]) == (2, "command_invalid")


def test_explain_exits_3_where_a_role_is_missing(quick_study, sent: Path):
    folder = copy_study({Contrast.T1W: quick_study.files[Contrast.T1W]}, sent / "study")
    assert "missing_role" in command("explain", str(folder), code=3)


@pytest.fixture
def held(config: Path, sent: Path) -> Study:
    """Return a study of this node that is held for two equally good T2W series."""
    spool = Spool(config.parent / "data")
    study = receive_study(spool, sent, "2.25.7001", *TRIPLET, SECOND_T2W)
    Worker(load(config), spool, models=None).select(study.uid)
    return study


def test_show_lists_the_series_to_choose_from(config: Path, held: Study):
    text = command("show", held.uid, "--config", str(config))
    assert f"series 5, T2W, t2_tse_tra: {series_uid(held.uid, 5)}" in " ".join(text.split())
    told = json.loads(command("show", held.uid, "--config", str(config), "--json"))
    assert (told["selection"]["reason"], told["choices"]) == ("ambiguous_role", {})


def test_release_queues_a_study_with_the_chosen_series(config: Path, held: Study):
    release = ["release", held.uid, "--config", str(config)]
    assert command(*release, "--role", f"T2W={series_uid(held.uid, 5)}") == "Queued as attempt 1.\n"
    assert held.timeline().events == ["selected", "released", "retried", "queued"]
    assert held.state() == "queued"
    Worker(load(config), Spool(config.parent / "data"), models=None).select(held.uid)
    assert "T2W = series 5, t2_tse_tra, chosen by hand" in command("show", held.uid, "--config", str(config))
    assert "Forgotten" in command(*release, "--forget")
    assert held.choices() == {}


def test_every_failed_study_is_read_again_and_no_other_one(config: Path):
    spool = Spool(config.parent / "data")
    states = (State.FAILED, State.DELIVERED, State.FAILED, State.HELD)
    for number, state in enumerate(states):
        spool.store(f"2.25.{number}", f"2.25.{number}.1", b"content")
        spool.study(f"2.25.{number}").note(Event.FAILED if state == State.FAILED else Event.READ, state)
    told = command("retry", "--all-failed", "--config", str(config))
    assert told == "0 deliveries are tried at once.\n2 failed studies are read again.\n"
    after = [spool.study(f"2.25.{number}").state() for number in range(4)]
    assert after == ["queued", "delivered", "queued", "held"]


def test_release_refuses_what_would_still_be_held(config: Path, held: Study):
    before = held.timeline()
    code, line = refused("release", held.uid, "--role", "T2W=1.2.3", "--config", str(config))
    assert (code, line.split(":")[0]) == (3, "choice_unusable")
    for arguments, error in ((["--role", "T2W"], "role_invalid"), ([], "command_invalid")):
        code, line = refused("release", held.uid, *arguments, "--config", str(config))
        assert (code, line.split(":")[0]) == (2, error)
    assert (held.timeline(), held.choices()) == (before, {})


def test_a_missing_device_stops_run_before_anything_is_read(tmp_path: Path, config: Path, quick_study):
    config.write_text(config.read_text() + '[model]\ndevice = "cuda:9"\n')
    folder = str(quick_study.files[Contrast.T1W][0].parent)
    code, line = refused("run", folder, "--out", str(tmp_path / "out"), "--config", str(config))
    assert (code, line.split(":")[0]) == (1, "device_missing")


def test_check_names_what_is_wrong(config: Path):
    config.write_text(
        config.read_text()
        + '[[peers]]\nname = "away"\nae_title = "AWAY"\nhost = "127.0.0.1"\nport = 9\nroles = ["destination"]\n'
    )
    verdicts = json.loads(command("check", "--json", "--config", str(config), code=1))
    assert not verdicts["good"]
    bad = [row for row in verdicts["checks"] if not row["good"]]
    assert [row["what"] for row in bad] == ["peer away", "commitment away"]
    assert all(row["sentence"].startswith("peer_unreachable:") for row in bad)


def test_a_quick_check_loads_no_model_and_calls_no_peer(config: Path):
    peer = '[[peers]]\nname = "away"\nae_title = "AWAY"\nhost = "127.0.0.1"\nport = 9\nroles = ["destination"]\n'
    config.write_text(config.read_text() + peer)
    code = (
        "import sys; from dicom_node.cli.app import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        "    heavy = {'torch', 'monai', 'nnunetv2', 'scipy'} & set(sys.modules)\n"
        "    print(end.code, sorted(heavy), file=sys.stderr)\n"
    )
    arguments = ["check", "--quick", "--json", "--config", str(config)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert [row["what"] for row in json.loads(done.stdout)["checks"]] == ["data folder", "database"]
    assert done.stderr.strip() == "0 []"


# --- what a stranger types first --------------------------------------------------------------------------------------


def test_the_program_says_what_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    for argument, words in (("--version", f"dicom-node {version('dicom-node')}"), ("--help", "Brain MR of tuberous")):
        monkeypatch.setattr(sys, "argv", ["dicom-node", argument])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 0
        printed = capsys.readouterr().out
        assert words in printed
        assert "the verbs put together" not in printed


@pytest.mark.parametrize("name", ["missing/folder/file", "a file/node.toml"])
def test_init_on_a_path_that_cannot_be_written(tmp_path: Path, name: str):
    (tmp_path / "a file").touch()
    code, line = refused("init", str(tmp_path / name))
    assert (code, line.split(":")[0]) == (1, "file_refused")
    assert str(tmp_path) in line


def test_run_on_a_path_that_cannot_be_written(tmp_path: Path, quick_study):
    (tmp_path / "file").touch()
    code, line = refused("run", str(quick_study.files[Contrast.T1W][0].parent), "--out", str(tmp_path / "file" / "out"))
    assert (code, line.split(":")[0]) == (1, "file_refused")


def test_a_fault_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def fail(**_: object) -> None:
        raise KeyError("SEEDED\x1b[31m")

    monkeypatch.setattr("dicom_node.cli.app.app", fail)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert capsys.readouterr().err.startswith("internal_error: A fault in the node (KeyError)")


def test_who_only_looks_makes_no_data_folder(config: Path):
    assert json.loads(command("studies", "--config", str(config), "--json")) == []
    refused("show", "1.2.3", "--config", str(config))
    assert not (config.parent / "data").exists()


def test_a_data_folder_that_cannot_be_one_is_told_from_one_that_is_not_ours(tmp_path: Path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(
            NodeError, match=r"a file is in its place, so name another folder in node\.data_dir"
        ) as caught:
            Spool(folder)
        assert caught.value.code == "spool_unusable"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EROFS, "mount its disk for writing"),
        (errno.ENOSPC, "free space on its disk"),
        (errno.EACCES, "give it to this user"),
    ],
)
def test_a_disk_that_takes_nothing_is_named_by_whoever_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
):
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("dicom_node.engine.held_name.open_own", refuse)
    taken = AlreadyRunningError("taken", "receiver_running")
    with pytest.raises(NodeError, match=remedy) as caught, held_name(tmp_path, "receiver", taken):
        pytest.fail("the name was given")
    assert caught.value.code == "spool_unusable"


def test_a_rehearsed_purge_of_a_study_that_arrives_says_what_it_takes(config: Path):
    Spool(config.parent / "data").store("2.25.1", "2.25.1.1", b"content")
    arguments = ["purge", "2.25.1", "--config", str(config)]
    said = command(*arguments, "--dry-run")
    assert said.endswith("1 images and its results, but only with --force.\n")
    assert "force" not in command(*arguments, "--dry-run", "--force")
    assert refused(*arguments, "--yes")[1].startswith("study_busy")


def test_release_says_which_of_its_options_is_wrong(config: Path, held: Study):
    release = ["release", held.uid, "--config", str(config)]
    for arguments in (["--copy", "oldest"], ["--copy", ""], ["--identity", ""]):
        code, line = refused(*release, *arguments)
        assert (code, line.split(":")[0]) == (2, "command_invalid")
        assert "--copy takes only newest" in line


def test_an_empty_uid_is_not_the_senders_fault(config: Path):
    for text in ("", "..", "x" * 100):
        code, line = refused("show", text, "--config", str(config))
        assert (code, line.split(":")[0]) == (1, "uid_invalid")
        assert "sender" not in line
