"""What the command line says of itself: help, completion, and refusals of what it does not understand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from dicom_node.cli.app import app, main
from dicom_node.cli.listed import print_studies
from dicom_node.cli.settings import refusing
from dicom_node.config import load
from dicom_node.errors import CommandError, NodeError
from dicom_node.studies.filters import Filters
from dicom_node.studies.overview import Order
from dicom_node.studies.spool import Spool
from dicom_node.studies.timeline import Event, State
from models.bundle import ModelError
from pipeline.errors import HoldReason

Shell = tuple[pytest.MonkeyPatch, pytest.CaptureFixture[str]]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.setenv("COLUMNS", "80")
    return monkeypatch, capsys


def run(shell: Shell, *arguments: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of the program, in this process."""
    monkeypatch, capsys = shell
    monkeypatch.setattr(sys, "argv", ["dicom-node", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    printed = capsys.readouterr()
    return int(caught.value.code or 0), printed.out, printed.err


def words(text: str) -> str:
    """Return a text without what folding changes: blanks, line ends, and a hyphen where a line was broken."""
    return "".join(text.split())


def verbs() -> Iterator[tuple[str, ...]]:
    """Yield every verb, those of groups as two words."""
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        yield (name,)
        yield from ((name, verb) for verb in getattr(command, "commands", {}))


def documented(path: tuple[str, ...]) -> Iterator[str]:
    """Yield what the definitions of a verb say: its sentence, and the help of each of its parameters."""
    command = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]  # type: ignore[attr-defined]
    yield command.help or ""
    yield from (parameter.help or "" for parameter in command.params)  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", [(), *verbs()], ids=" ".join)
def test_help_says_every_word_of_the_definitions(verb: tuple[str, ...], shell: Shell):
    code, printed, problem = run(shell, *verb, "--help")
    assert (code, problem) == (0, "")
    for sentence in documented(verb):
        assert words(sentence) in words(printed)


@pytest.mark.parametrize("group", [(), ("models",), ("cohort",)], ids=" ".join)
def test_who_names_no_verb_is_shown_all_of_them_in_whole_sentences(group: tuple[str, ...], shell: Shell):
    code, printed, problem = run(shell, *group)
    assert (code, problem) == (2, "")
    for verb in verbs():
        if verb[:-1] == group:
            assert words(f"{verb[-1]} {next(documented(verb))}") in words(printed)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command 'nonsense': see `dicom-node --help`."),
        (["models", "nonsense"], "No such command 'nonsense': see `dicom-node models --help`."),
        (["show"], "Missing argument 'UID': see `dicom-node show --help`."),
        (["check", "--bogus"], "No such option: --bogus: see `dicom-node check --help`."),
        (["studies", "--state", "heldd"], "'heldd' is not one of 'receiving'"),
        (["studies", "--last", "0"], "greater than or equal to 1"),
        (["user", "x", "--role", "king"], "'viewer', 'operator', 'administrator'"),
    ],
)
def test_what_is_not_understood_is_refused_in_one_sentence(arguments: list[str], said: str, shell: Shell):
    code, printed, problem = run(shell, *arguments)
    assert (code, printed, problem.count("\n")) == (2, "", 1)
    assert problem.startswith("command_invalid: ")
    assert said in problem


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_shell_completes_verbs_and_states(name: str, shell: Shell):
    monkeypatch, _ = shell
    # What Typer asks else is the shell among the parent processes, and a test runner may have none.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    code, script, _ = run(shell, "--show-completion", name)
    assert (code, "dicom-node" in script) == (0, True)
    monkeypatch.setenv("_DICOM_NODE_COMPLETE", "complete_bash")
    for typed, completed in (("dicom-node stu", "studies"), ("dicom-node studies --state del", "delivered")):
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", f"{len(typed.split()) - 1}")
        assert completed in run(shell)[1].split()


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "node.toml"
    file.write_text(
        '[node]\ndata_dir = "data"\n[[peers]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\n'
        'roles = ["source"]\n'
    )
    return str(file)


def test_a_peer_or_reason_that_there_is_not_is_refused_with_what_there_is(
    config: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    def asked(**filters: Any) -> str:
        print_studies(load(Path(config)), Filters(**filters), Order.CHANGED, 50, as_json=False)
        return capsys.readouterr().out

    for _ in ("nothing was received", "a study was"):
        with pytest.raises(CommandError, match='There is no peer "nobody": use PACS, pacs'):
            asked(peer="nobody")
        with pytest.raises(CommandError, match='no reason "missing_rol": use missing_role'):
            asked(codes=("missing_rol",))
        assert asked(peer="PACS", codes=(HoldReason.AMBIGUOUS_ROLE,)) == asked(peer="pacs")
        spool = Spool(tmp_path / "data")
        spool.store("2.25.1", "2.25.1.1", b"content")
        spool.study("2.25.1").note(Event.FAILED, State.FAILED, code="odd_reason", sentence="Odd.")
    assert "2.25.1" in asked(codes=("odd_reason",))


@pytest.mark.parametrize("code", ["output_exists", "bundle_exists", "cohort_folder_taken", "cohort_folder_not_empty"])
def test_what_is_there_already_is_a_wrong_command_whoever_says_so(code: str):
    with pytest.raises(NodeError) as caught, refusing():
        raise ModelError(code, "It is there already.")
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    with pytest.raises(NodeError) as caught, refusing():
        raise ModelError("bundle_pickle", "It is a pickle.")
    assert caught.value.exit_code == 1
