"""Who may see and change what on the pages: the matrix of roles and actions, sessions, forms, passwords."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.config import load
from dicom_node.log import Pseudonym, read_key
from dicom_node.studies.index import Index
from dicom_node.watch import audit
from dicom_node.web.application import make_app
from dicom_node.web.sessions import IDLE_S, LONGEST_S, MOST_FAILURES, WINDOW_S, Sessions
from dicom_node.web.site import Site as Pages
from dicom_node.web.users import Role, Users
from tests.support.audit import messages
from tests.support.pasts import past_uid, write_past
from tests.support.sites import SETTINGS, Answer, Site, site

V, L, OP, A = Role.VISITOR, Role.VIEWER, Role.OPERATOR, Role.ADMINISTRATOR
OPEN = None
ACCESS: dict[tuple[str, str], Role | None] = {
    ("GET", "/"): OPEN,
    ("GET", "/sign-in"): OPEN,
    ("POST", "/sign-in"): OPEN,
    ("POST", "/sign-out"): OPEN,
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/metrics"): OPEN,
    ("GET", "/studies"): V,
    ("GET", "/studies.csv"): L,
    ("GET", "/studies/live"): V,
    ("GET", "/studies/{name}/live"): V,
    ("GET", "/studies/{name}"): V,
    ("GET", "/studies/{name}/series/{row}.png"): L,
    ("GET", "/studies/{name}/result/{which}.png"): L,
    ("POST", "/studies/{name}/retry"): OP,
    ("POST", "/studies/{name}/release"): OP,
    ("POST", "/studies/{name}/purge"): A,
    ("POST", "/deliveries/retry"): OP,
    ("GET", "/peers"): V,
    ("GET", "/peers/{name}"): V,
    ("POST", "/peers/{name}/test"): OP,
    ("POST", "/peers"): A,
    ("POST", "/peers/{name}"): A,
    ("POST", "/peers/{name}/remove"): A,
    ("POST", "/callers/allow"): A,
    ("GET", "/rules"): V,
    ("POST", "/rules/rehearse"): OP,
    ("POST", "/rules"): A,
    ("GET", "/models"): V,
    ("GET", "/system"): V,
    ("GET", "/log"): OP,
    ("POST", "/changes/{when}/back"): A,
}
"""The least role that each page and action needs."""
REFUSED = {303: "/sign-in", 401: "sign_in_needed", 403: "role_missing"}


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> dict[Role, str]:
    return {}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, passwords: dict[Role, str]) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("access")
    Index(folder / "data").catch_up(write_past(folder / "data", 40))
    (folder / "node.toml").write_text(SETTINGS.format(port=1, web=2, extra=""))
    users = Users(load(folder / "node.toml"))
    for role in (L, OP, A):
        passwords[role] = users.put(str(role), role)
    with site(folder) as running:
        yield running


def sign_in(pages: Site, name: str, password: str, **headers: str) -> Answer:
    return pages.ask("POST", "/sign-in", {"name": name, "password": password, "then": "/studies"}, **headers)


def cookie(answer: Answer) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


@pytest.fixture(scope="module")
def cookies(pages: Site, passwords: dict[Role, str]) -> dict[Role, str]:
    return {role: cookie(sign_in(pages, str(role), password)) for role, password in passwords.items()}


def csrf(pages: Site, name: str, **headers: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', pages.get(f"/studies/{name}", **headers).body)
    return found[1] if found else ""


def test_every_route_has_a_place_in_the_matrix(pages: Site):
    config = load(pages.folder / "node.toml")
    paths = make_app(Pages.of(config, pages.folder / "node.toml")).openapi()["paths"]
    found = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert found == ACCESS.keys() - {("GET", "/")}


def test_the_matrix_of_roles_and_actions_holds(pages: Site, cookies: dict[Role, str], capsys):
    name = Pseudonym(read_key(pages.folder / "data"))(past_uid(19))
    rows = []
    for (method, path), needed in ACCESS.items():
        for role in Role:
            headers = {"Cookie": cookies[role]} if role in cookies else {}
            token = csrf(pages, name, **headers) if method == "POST" else ""
            place = path.format(name=name, row=0, which="overlay", when="2026-11-29T08-15-00.123456")
            if needed is None:
                continue
            answer = pages.ask(method, place, {"csrf": token, "sure": "no"} if method == "POST" else None, **headers)
            may = role.may(needed)
            refused = answer.status in REFUSED and REFUSED[answer.status] in answer.body + answer.place
            rows.append(f"{method:5} {path:40} {role:14} {'may' if may else 'may not':8} {answer.status}")
            assert refused is not may, rows[-1]
    with capsys.disabled():
        print("", *rows, sep="\n")


def test_identifiers_are_for_who_signed_in(pages: Site, cookies: dict[Role, str]):
    name = Pseudonym(read_key(pages.folder / "data"))(past_uid(18))
    assert past_uid(18) not in pages.get(f"/studies/{name}").body
    assert past_uid(18) in pages.get(f"/studies/{name}", Cookie=cookies[L]).body
    assert past_uid(18) in pages.get("/studies.csv", Cookie=cookies[L]).body


@pytest.mark.parametrize(
    "headers",
    [{"X_Forwarded_For": "10.1.1.1"}, {"Via": "1.1 proxy"}, {"Host": "evil.example"}, {"Host": "node.hospital:8080"}],
)
def test_what_came_through_a_proxy_or_by_another_name_is_not_from_here(pages: Site, headers: dict[str, str]):
    answer = pages.get("/studies", **headers)
    assert (answer.status, answer.place) == (303, "/sign-in?then=%2Fstudies")


def test_nobody_looks_where_the_configuration_says_so(tmp_path: Path):
    with site(tmp_path, 'without_sign_in = "nobody"') as closed:
        assert closed.get("/studies").status == 303
        assert closed.get("/studies/000000000000").status == 303
        assert closed.get("/static/node.css").status == 200


def test_a_session_is_new_at_each_sign_in(pages: Site, passwords: dict[Role, str]):
    """A token that somebody else laid into the browser is worth nothing, and the last one ends."""
    fixed = "__Host-dicom-node=chosen-by-somebody-else"
    first = sign_in(pages, "viewer", passwords[L], Cookie=fixed)
    assert cookie(first) != fixed
    assert pages.get("/studies.csv", Cookie=fixed).status == 303
    second = sign_in(pages, "viewer", passwords[L], Cookie=cookie(first))
    assert pages.get("/studies.csv", Cookie=cookie(first)).status == 303
    assert pages.get("/studies.csv", Cookie=cookie(second)).status == 200
    pages.ask("POST", "/sign-out", {}, Cookie=cookie(second))
    assert pages.get("/studies.csv", Cookie=cookie(second)).status == 303


def test_a_cookie_is_for_nobody_else(pages: Site, passwords: dict[Role, str]):
    said = sign_in(pages, "viewer", passwords[L]).headers["set-cookie"].lower()
    assert said.startswith("__host-")
    for word in ("httponly", "secure", "samesite=lax", "path=/"):
        assert word in said
    assert "domain" not in said


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({}, {}),
        ({"csrf": "guessed"}, {}),
        ({"csrf": None}, {"Origin": "http://evil.example"}),
        ({"csrf": None}, {"Sec_Fetch_Site": "cross-site"}),
        ({"csrf": None}, {"Sec_Fetch_Site": "same-site"}),
        ({"csrf": None}, {"Origin": "null"}),
    ],
)
def test_a_form_of_another_site_changes_nothing(pages: Site, cookies: dict[Role, str], fields, headers):
    name = Pseudonym(read_key(pages.folder / "data"))(past_uid(17))
    mine = {"Cookie": cookies[OP]}
    sent = {key: value or csrf(pages, name, **mine) for key, value in fields.items()}
    answer = pages.ask("POST", f"/studies/{name}/retry", sent, **mine, **headers)
    assert answer.status == 403
    assert "retried" not in (pages.folder / "data/spool" / past_uid(17) / "timeline.jsonl").read_text()


def test_the_token_of_one_session_is_worth_nothing_in_another(pages: Site, cookies: dict[Role, str]):
    name = Pseudonym(read_key(pages.folder / "data"))(past_uid(16))
    other = csrf(pages, name, Cookie=cookies[A])
    assert pages.ask("POST", f"/studies/{name}/retry", {"csrf": other}, Cookie=cookies[OP]).status == 403


def test_passwords_cannot_be_tried_for_ever(pages: Site, passwords: dict[Role, str]):
    statuses = [sign_in(pages, "operator", f"wrong{number}").status for number in range(MOST_FAILURES + 1)]
    assert statuses == [401] * MOST_FAILURES + [429]
    assert sign_in(pages, "operator", passwords[OP]).status == 429, "the right one too, for a while"
    assert sign_in(pages, "viewer", passwords[L]).status == 303, "and nobody else is kept out"


@pytest.mark.parametrize(
    "then", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:x", "/a\r\nb"]
)
def test_nobody_is_led_elsewhere(pages: Site, passwords: dict[Role, str], then: str):
    answer = pages.ask("POST", "/sign-in", {"name": "viewer", "password": passwords[L], "then": then})
    assert (answer.status, answer.place) == (303, "/studies")


def test_a_form_without_end_is_refused(pages: Site, cookies: dict[Role, str]):
    fields = {"csrf": "x" * 70_000}
    assert "form_too_large" in pages.ask("POST", "/deliveries/retry", fields, Cookie=cookies[OP]).body
    many = {f"f{number}": "1" for number in range(300)}
    assert "form_too_large" in pages.ask("POST", "/deliveries/retry", many, Cookie=cookies[OP]).body


def test_who_signed_in_stands_in_the_audit_trail(pages: Site, cookies: dict[Role, str]):
    name = Pseudonym(read_key(pages.folder / "data"))(past_uid(15))
    pages.get(f"/studies/{name}", Cookie=cookies[L])
    told = messages(pages.folder / "data")
    looked = [line for line in told if past_uid(15) in str(line)]
    assert [line["ActiveParticipant"][0]["UserID"] for line in looked] == ["viewer"]
    assert "User Authentication" in str(told)


def test_users_are_made_listed_and_removed(tmp_path: Path):
    (tmp_path / "node.toml").write_text(SETTINGS.format(port=1, web=2, extra=""))
    users = Users(load(tmp_path / "node.toml"))
    assert users.all() == {}
    password = users.put("anna", Role.OPERATOR)
    assert users.signed_in("anna", password) is Role.OPERATOR
    assert users.signed_in("anna", password + "x") is None
    assert users.signed_in("bert", password) is None
    assert password not in (tmp_path / "data/users.json").read_text()
    assert (tmp_path / "data/users.json").stat().st_mode & 0o077 == 0
    users.remove("anna")
    assert users.signed_in("anna", password) is None


def test_sessions_end_by_themselves():
    now_s = [0.0]
    sessions = Sessions(lambda: now_s[0])
    idle = sessions.open("anna", Role.VIEWER)
    now_s[0] += IDLE_S + 1
    assert sessions.of(idle) is None
    used = sessions.open("anna", Role.VIEWER)
    for _ in range(int(LONGEST_S / IDLE_S) * 2):
        now_s[0] += IDLE_S / 2
        sessions.of(used)
    now_s[0] += 1
    assert sessions.of(used) is None
    for _ in range(MOST_FAILURES):
        sessions.failed("anna")
    assert not sessions.may_try("anna")
    now_s[0] += WINDOW_S + 1
    assert sessions.may_try("anna")


def test_nobody_acts_in_the_trail_where_nobody_signed_in():
    audit.configure(None)
    audit.signed_in("x", "", good=False)
