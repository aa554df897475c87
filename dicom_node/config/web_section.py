"""The web pages: where they listen, and whom they need not ask."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from dicom_node.config.values import Port, Section


class WithoutSignIn(StrEnum):
    """Who may look, without identifiers and without changing anything, before signing in."""

    LOOPBACK = "loopback"
    NOBODY = "nobody"


class WebSection(Section):
    """The web pages."""

    bind: str = Field(default="127.0.0.1", min_length=1, description="Address the pages listen on.")
    port: Port = Field(default=8080, description="Port of the pages.")
    serve: bool = Field(
        default=True, description="Whether `dicom-node serve` brings the pages; else `dicom-node web` alone does."
    )
    without_sign_in: WithoutSignIn = Field(
        default=WithoutSignIn.LOOPBACK,
        description='Who may look without signing in, at no identifiers: "loopback", or "nobody", as behind a proxy.',
    )
    first_password: str | None = Field(
        default=None,
        pattern=r"^\$argon2id\$",
        description="Argon2 hash of the password of the user admin, which `dicom-node init` printed once.",
        examples=["$argon2id$v=19$m=65536,t=3,p=4$..."],
    )
