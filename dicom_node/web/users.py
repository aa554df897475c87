"""Who may sign in: names, roles and Argon2 hashes of passwords, which nobody chooses and the node makes."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from dicom_node.config import Config
from dicom_node.errors import CommandError
from models.whole_files import make_folder, write_json

FILE: Final = "users.json"
FIRST: Final = "admin"
"""The name that the first password is for."""
_NAME_LETTERS: Final = 32
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_LETTERS: Final = 20
_HASHER: Final = PasswordHasher()


class Role(StrEnum):
    """What somebody may do; each may do what those before it may."""

    VISITOR = "visitor"
    """Look at what names no patient."""
    VIEWER = "viewer"
    """Look at studies, their images and identifiers."""
    OPERATOR = "operator"
    """Decide about studies and deliveries."""
    ADMINISTRATOR = "administrator"
    """Change the configuration and users, and remove studies."""

    def may(self, needed: Role) -> bool:
        """Return whether this role does for what needs another one."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(needed)


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may sign in."""

    role: Role
    password: str


def make_password() -> tuple[str, str]:
    """Return a new password and its hash."""
    letters = "".join(secrets.choice(_ALPHABET) for _ in range(_LETTERS))
    password = "-".join(letters[start : start + 5] for start in range(0, _LETTERS, 5))
    return password, _HASHER.hash(password)


@cache
def _nobody() -> str:
    """Return a hash that no password has; made when somebody signs in, since it takes a tenth of a second."""
    return make_password()[1]


class Users:
    """The users of a node.

    Parameters
    ----------
    config
        Its data folder holds them; the first one may stand in ``[web] first_password``.
    """

    def __init__(self, config: Config) -> None:
        self._file = config.node.data_dir / FILE
        self._first = config.web.first_password

    def all(self) -> Mapping[str, User]:
        """Return the users by name."""
        first = {FIRST: User(Role.ADMINISTRATOR, self._first)} if self._first else {}
        return first | self._stored()

    def signed_in(self, name: str, password: str) -> Role | None:
        """Return the role of a user whose password this is; an unknown name takes as long."""
        user, nobody = self.all().get(name), _nobody()
        with suppress(VerificationError, InvalidHashError):
            _HASHER.verify(user.password if user else nobody, password)
            return user.role if user else None
        return None

    def put(self, name: str, role: Role) -> str:
        """Give a user a role and a new password, and return that.

        Raises
        ------
        CommandError
            If this is no name (``user_invalid``).
        """
        if not (name.isascii() and name.isalnum() and len(name) <= _NAME_LETTERS):
            raise CommandError("A user's name has 1 to 32 letters and digits: choose another one.", "user_invalid")
        password, hashed = make_password()
        self._write(self._stored() | {name: User(role, hashed)})
        return password

    def remove(self, name: str) -> None:
        """Let a user sign in no more.

        Raises
        ------
        CommandError
            If there is none of this name (``user_unknown``).
        """
        if name not in self.all():
            raise CommandError(f'There is no user "{name}": look at `dicom-node user`.', "user_unknown")
        if name == FIRST and self._first:
            self._write(self._stored() | {name: User(Role.VISITOR, "")})
        else:
            self._write({each: user for each, user in self._stored().items() if each != name})

    def _stored(self) -> dict[str, User]:
        try:
            told = json.loads(self._file.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        return {name: User(Role(user["role"]), user["password"]) for name, user in told.items()}

    def _write(self, users: Mapping[str, User]) -> None:
        make_folder(self._file.parent)
        write_json(self._file, {name: asdict(user) for name, user in users.items()})
