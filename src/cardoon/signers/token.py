"""Keys in PKCS#11 tokens: smart cards, security modules, and SoftHSM that plays one in files.

    pkcs11:token=shop;object=worker?module-path=/usr/lib/softhsm/libsofthsm2.so

For the agent alone: a vendor's library in a process that forks, or that runs code of others, is a risk
of its own. `pip install 'cardoon[pkcs11]'`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from cardoon.exceptions import ImproperlyConfigured, OperationalError, SecurityError
from cardoon.security import files, keys
from cardoon.security.identity import PrivateIdentity, load_identity_elsewhere
from cardoon.signers.trial import try_out

try:
    import pkcs11
    from pkcs11.types import SignMixin
except ModuleNotFoundError as error:
    raise ImproperlyConfigured(
        "--key: pkcs11 needs python-pkcs11; pip install 'cardoon[pkcs11]'"
    ) from error

SCHEME = "pkcs11:"
_PSS: Mapping[keys.Algorithm, tuple[pkcs11.Mechanism, tuple[Any, ...]]] = {
    keys.Algorithm.PS256: (
        pkcs11.Mechanism.SHA256_RSA_PKCS_PSS,
        (pkcs11.Mechanism.SHA256, pkcs11.MGF.SHA256, 32),
    ),
    keys.Algorithm.PS384: (
        pkcs11.Mechanism.SHA384_RSA_PKCS_PSS,
        (pkcs11.Mechanism.SHA384, pkcs11.MGF.SHA384, 48),
    ),
    keys.Algorithm.PS512: (
        pkcs11.Mechanism.SHA512_RSA_PKCS_PSS,
        (pkcs11.Mechanism.SHA512, pkcs11.MGF.SHA512, 64),
    ),
}
"""The salt is as long as the digest, as in `keys`."""


class TokenUri(NamedTuple):
    """Which key in which token (RFC 7512), and the library that speaks to it."""

    token: str
    label: str | None
    id: bytes | None
    module: Path


def parse_uri(uri: str) -> TokenUri:
    """Read a URI of RFC 7512, of which token, object, id and module-path are known here."""
    path, _, query = uri.removeprefix(SCHEME).partition("?")
    found: dict[str, str] = {}
    for part in [*path.split(";"), *query.split("&")]:
        name, mark, value = part.partition("=")
        if name in {"pin-value", "pin-source"}:
            raise ImproperlyConfigured(f"--key: {name} in a URI; give the PIN with --password")
        if name and (not mark or name not in {"token", "object", "id", "module-path"}):
            raise ImproperlyConfigured(
                f"--key: {name!r} in a pkcs11 URI; use token, object, id and module-path"
            )
        found[name] = value
    if not found.get("token") or not (found.get("object") or found.get("id")):
        raise ImproperlyConfigured(
            "--key: which key? pkcs11:token=NAME;object=LABEL?module-path=FILE"
        )
    module = unquote(found.get("module-path", ""))
    if not module.startswith("/"):
        raise ImproperlyConfigured("--key: add ?module-path=/path/to/the/library.so to the URI")
    return TokenUri(
        token=unquote(found["token"]),
        label=unquote(found["object"]) if found.get("object") else None,
        id=unquote_to_bytes(found["id"]) if found.get("id") else None,
        module=Path(module),
    )


class Token:
    """A session with a token, opened when it is needed and again when it has failed."""

    def __init__(self, uri: TokenUri, pin: str | None) -> None:
        files.check_library(uri.module)
        self._uri = uri
        self._pin = pin
        self._key: SignMixin | None = None
        self._session: pkcs11.Session | None = None

    def load_identity(self, certificate: Path, *, domain: str, digest: str) -> PrivateIdentity:
        """The certificate with the key in the token, tried out."""
        private = load_identity_elsewhere(
            certificate, lambda _, public: _TokenKey(self, public), digest=digest
        )
        try_out(private, domain)
        return private

    def sign(self, content: bytes, mechanism: pkcs11.Mechanism, parameter: Any = None) -> bytes:
        """Have bytes signed; `OperationalError` where the token says no."""
        try:
            if self._key is None:
                self._key = self._find()
            signature: bytes = self._key.sign(
                content, mechanism=mechanism, mechanism_param=parameter
            )
        except pkcs11.PKCS11Error as error:
            self.close()
            # These errors say what failed by their names, and mostly nothing else.
            told = f"{type(error).__name__} {error}".strip()
            raise OperationalError(f"token {self._uri.token!r}: {told}") from error
        return signature

    def close(self) -> None:
        """End the session; safe twice."""
        session, self._session, self._key = self._session, None, None
        if session is not None:
            with contextlib.suppress(pkcs11.PKCS11Error):  # as one may have ended by itself
                session.close()

    def _find(self) -> SignMixin:
        uri = self._uri
        token = pkcs11.lib(str(uri.module)).get_token(token_label=uri.token)
        self._session = token.open(user_pin=self._pin)
        key = self._session.get_key(
            object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=uri.label, id=uri.id
        )
        if not isinstance(key, SignMixin):
            raise SecurityError(f"token {uri.token!r}: its key does not sign; name another")
        return key


class _TokenKey:
    """A `KeyElsewhere` in a token. A token that hangs hangs the agent; senders have deadlines."""

    def __init__(self, token: Token, public: keys.PublicKey) -> None:
        self._token = token
        self._public = public

    def public_key(self) -> keys.PublicKey:
        return self._public

    def sign(self, content: bytes, algorithm: keys.Algorithm, timeout: float) -> bytes:  # noqa: ARG002
        if algorithm is keys.Algorithm.ED25519:
            return self._token.sign(content, pkcs11.Mechanism.EDDSA)
        if algorithm is keys.Algorithm.ESP256:
            # Every token signs a digest; few of them make it themselves.
            return self._token.sign(hashlib.sha256(content).digest(), pkcs11.Mechanism.ECDSA)
        mechanism, parameter = _PSS[algorithm]
        return self._token.sign(content, mechanism, parameter)
