"""Configuration: defaults, the example, and every refusal as a sentence with key, value and remedy."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from dicom_node import config
from dicom_node.config import Config, PeerRole, example_toml, load, parse
from dicom_node.config import sentences as config_text
from dicom_node.errors import ConfigError
from models.contrast import Contrast
from pipeline.geometry import MIN_SLICES
from pipeline.select import SiteRules

PEER = (
    '[[peers]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 4242\nroles = ["source", "destination"]\n'
)


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.exit_code == 2
    assert "pydantic" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


def test_defaults_are_those_of_the_design():
    settings = parse(PEER)
    assert (settings.node.ae_title, settings.node.port) == ("TSCNODE", 11112)
    assert (settings.receive.accept, settings.receive.quiet_s, settings.receive.deadline_s) == ("peers", 60, 5400)
    assert settings.receive.disk_reserve_gb == 5
    assert settings.selection.rules() == SiteRules(names=dict.fromkeys(Contrast, ()))
    assert settings.selection.min_slices == MIN_SLICES
    assert settings.brain.weights == "embedded"
    assert (settings.model.bundle, settings.model.device) == ("synthetic-demo", "auto")
    assert (settings.report.send, settings.report.title) == (("sr", "summary"), "private")
    assert (settings.delivery.retry_s, settings.delivery.give_up_hours) == (30, 72)
    assert settings.delivery.commitment_timeout_s == 300


def test_the_example_is_accepted_and_says_what_the_defaults_are(tmp_path: Path):
    path = tmp_path / "node.toml"
    path.write_text(example_toml())
    settings = load(path)
    assert settings.model_copy(update={"peers": ()}) == Config.offline().model_copy(
        update={"receive": settings.receive, "node": settings.node}
    )
    assert settings.receive == config.ReceiveSection()
    assert settings.peer("pacs").roles == (PeerRole.SOURCE, PeerRole.DESTINATION)


def test_every_key_is_documented_and_in_the_example():
    example = example_toml()
    for name, field in Config.model_fields.items():
        section = config_text.section_of(field)
        assert section is not None
        assert issubclass(section, BaseModel)
        assert f"[{name}]" in example
        for key, definition in section.model_fields.items():
            assert definition.description, f"{name}.{key} has no description"
            assert f"# {definition.description}" in example
            assert f"{key} = " in example


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ('[node]\nae_titel = "X"\n' + PEER, "config_unknown_key", ["node.ae_titel", "use ae_title"]),
        ("[recieve]\n" + PEER, "config_unknown_key", ["recieve", "use receive"]),
        (PEER + "colour = 1\n", "config_unknown_key", ["peers.0.colour", "known keys here are name, ae_title"]),
        ('[brain]\nmode = "accurate"\n' + PEER, "config_contradiction", ["brain", '"hd-bet-v1"', "remove mode"]),
        ('[receive]\nquiet_s = "60"\n' + PEER, "config_bad_value", ["receive.quiet_s", '"60"', "number"]),
        ("[receive]\nquiet_s = -1\n" + PEER, "config_bad_value", ["receive.quiet_s", "-1", "greater than 0"]),
        ("[receive]\nquiet_s = nan\n" + PEER, "config_bad_value", ["receive.quiet_s", "finite"]),
        ('[receive]\naccept = "all"\n' + PEER, "config_bad_value", ["receive.accept", '"all"', "'peers' or 'any'"]),
        ("[node]\nport = true\n" + PEER, "config_bad_value", ["node.port", "true"]),
        ("[node]\nport = 70000\n" + PEER, "config_bad_value", ["node.port", "70000", "65535"]),
        ('[node]\nae_title = "SEVENTEEN_LETTERS"\n' + PEER, "config_bad_value", ["node.ae_title", "1 to 16"]),
        ('[node]\nae_title = ""\n' + PEER, "config_bad_value", ["node.ae_title", "1 to 16"]),
        ("[node]\nae_title = 'A\\B'\n" + PEER, "config_bad_value", ["node.ae_title", "backslash"]),
        ('[node]\nae_title = "Ä"\n' + PEER, "config_bad_value", ["node.ae_title", "ASCII"]),
        ('[model]\ndevice = "gpu"\n' + PEER, "config_bad_value", ["model.device", '"gpu"']),
        ("[report]\nsend = []\n" + PEER, "config_bad_value", ["report.send", "at least 1"]),
        (PEER.replace("source", "sauce"), "config_bad_value", ["peers.0.roles", '"sauce"', "'source'"]),
        (PEER.replace("[[peers]]", "[peers]"), "config_bad_value", ["peers", "double brackets"]),
        (PEER.replace('host = "127.0.0.1"\n', ""), "config_missing_key", ["peers.0.host is missing"]),
        (PEER.replace("port = 4242\n", ""), "config_contradiction", ["port is missing", '"destination"', '"pacs"']),
        (PEER + PEER, "config_contradiction", ['"pacs" is used 2 times']),
        (PEER.replace('"source", ', ""), "config_contradiction", ['no peer has the role "source"', '"any"']),
        ("[receive]\nquiet_s = 9\ndeadline_s = 5\n" + PEER, "config_contradiction", ["deadline_s (5)", "quiet_s (9)"]),
        ("[selection]\nnever = ['(']\n" + PEER, "config_bad_value", ["selection.never.0", '"("', "put \\ before"]),
        ("[selection]\nt1w = ['ok', '[[a]']\n" + PEER, "config_bad_value", ["selection.t1w.1", "nested set"]),
        ("[selection]\nt2w = ['a*']\n" + PEER, "config_bad_value", ["selection.t2w.0", '"a*"', "every description"]),
        ("[selection]\nflair = ['']\n" + PEER, "config_bad_value", ["selection.flair.0", "at least one character"]),
        (f"[selection]\nflair = ['{'a' * 201}']\n" + PEER, "config_bad_value", ["selection.flair.0", "200 characters"]),
        ("[selection]\nflair = 'fl'\n" + PEER, "config_bad_value", ["selection.flair", '"fl"', "a list"]),
        ("[selection]\nmin_slices = 14\n" + PEER, "config_bad_value", ["selection.min_slices", "14", "15"]),
        ("[selection]\nmin_slices = 401\n" + PEER, "config_bad_value", ["selection.min_slices", "401", "400"]),
        ('[selection]\ncontrast = "yes"\n' + PEER, "config_bad_value", ["selection.contrast", "'refuse' or 'allow'"]),
        ('[selection]\nplane = "oblique"\n' + PEER, "config_bad_value", ["selection.plane", '"oblique"', "'any'"]),
        ('[selection]\nt1 = ["x"]\n' + PEER, "config_unknown_key", ["selection.t1", "use t1w"]),
        ('[selection]\nt1w = "^sag"\n' + PEER, "config_bad_value", ["selection.t1w", 'write t1w = ["^sag"]']),
        ("[tls]\nca = 3\n" + PEER, "config_bad_value", ["tls.ca", "a list"]),
        ('[alarms]\nto = ""\n' + PEER, "config_bad_value", ["alarms.to", "write to = []"]),
        ("[node]\ndata_dir = 3\n" + PEER, "config_bad_value", ["node.data_dir", "a path in quotes"]),
        ("[node]\nae_title = 3\n" + PEER, "config_bad_value", ["node.ae_title", "text in quotes"]),
        ('[node]\nport = "104"\n' + PEER, "config_bad_value", ["node.port", "a whole number without quotes"]),
        ('[web]\nserve = "on both"\n' + PEER, "config_bad_value", ["web.serve", "true or false without quotes"]),
        (PEER.replace('"pacs"', '"the pacs"'), "config_bad_value", ["peers.0.name", "1 to 32 letters"]),
        ("[node\n", "config_syntax", ["line 1"]),
        ("a = " + "[" * 10**5, "config_syntax", ["nested too deeply"]),
        ("", "config_contradiction", ['no peer has the role "source"']),
    ],
)
def test_what_is_wrong_is_refused_with_key_value_and_remedy(text: str, code: str, words: list[str]):
    error = refused(text)
    assert error.code == code
    for word in words:
        assert word in str(error)


@pytest.mark.parametrize("role", ["print", "sauce"])
def test_what_follows_from_a_refused_value_is_not_told_as_well(role: str):
    sentence = str(refused(PEER.replace('["source", "destination"]', f'["{role}"]')))
    assert sentence.count("not allowed") == 1
    assert "at least" not in sentence


def test_a_file_that_is_no_configuration_is_not_read_whole(tmp_path: Path):
    (tmp_path / "image.toml").write_bytes(b"#" * 2**21)
    with pytest.raises(ConfigError, match="too large") as caught:
        load(tmp_path / "image.toml")
    assert caught.value.code == "config_unreadable"


def test_rules_of_the_site_reach_the_selection():
    text = """[selection]
t1w = ['^sag bravo']
flair = ['dark.fluid', 'fl3d']
never = ['_research\\b']
contrast = "allow"
min_slices = 20
plane = "any"
"""
    rules = parse(text + PEER).selection.rules()
    assert rules.named_role("SAG BRAVO +C") == (Contrast.T1W, "SAG BRAVO")
    assert rules.named_role("t2_Dark_Fluid") == (Contrast.FLAIR, "Dark_Fluid")
    assert rules.excluded("t2_research") == "_research"
    assert (rules.contrast, rules.min_slices, rules.plane) == ("allow", 20, "any")


def test_the_longest_pattern_is_accepted():
    assert parse(f"[selection]\nnever = ['{'a' * 200}']\n" + PEER).selection.never == ("a" * 200,)


def test_a_missing_or_unreadable_file_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="dicom-node init") as caught:
        load(tmp_path / "none.toml")
    assert caught.value.code == "config_missing"
    (tmp_path / "latin.toml").write_bytes(b"# \xe4\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(tmp_path / "latin.toml")


def test_a_relative_data_dir_starts_at_the_file(tmp_path: Path):
    path = tmp_path / "node.toml"
    path.write_text(f'[node]\ndata_dir = "data"\n{PEER}')
    assert load(path).node.data_dir == tmp_path / "data"


def test_peers_by_name_and_role():
    archive = '[[peers]]\nname = "archive"\nae_title = "ARC"\nhost = "arc"\nport = 104\nroles = ["destination"]\n'
    settings = parse(PEER + archive)
    assert [peer.name for peer in settings.sources] == ["pacs"]
    assert [peer.name for peer in settings.destinations] == ["pacs", "archive"]
    assert settings.peer("archive").ae_title == "ARC"
    with pytest.raises(ConfigError, match="pacs, archive") as caught:
        settings.peer("nobody")
    assert caught.value.code == "peer_unknown"


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        parse(PEER).node.port = 1
