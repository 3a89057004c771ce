"""Tenants: whose documents a search may find, where several stores share one knowledge base.

The name of a tenant is compared code point by code point, case included, after Unicode's NFC and without blanks around
it. An index is never asked for the name itself but for a digest of it, so no name can be part of a query's syntax.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

# Shorter than what the tag of a trace keeps, so that two names never become one there.
MAX_TENANT_CHARACTERS = 200
_UNTENANTED_KEY = "-"
# Controls, halves of surrogate pairs, line and paragraph separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


class InvalidTenantError(ValueError):
    """Not the name of a tenant; the message says why."""


class LostTenantsError(ValueError):
    """Documents had tenants, and none has one any more."""


def tenant_name(raw: str) -> str:
    """Return the name of a tenant as it is compared: NFC, without blanks around it.

    Raises:
        InvalidTenantError: If it is empty, longer than 200 characters, or holds control characters.
    """
    name = unicodedata.normalize("NFC", raw).strip()
    if not name:
        raise InvalidTenantError("the name of the tenant is empty")
    if len(name) > MAX_TENANT_CHARACTERS:
        raise InvalidTenantError(
            f"the name of the tenant has {len(name):,} characters, and {MAX_TENANT_CHARACTERS} are allowed"
        )
    if any(character == "\ufeff" or unicodedata.category(character) in _REFUSED_CATEGORIES for character in name):
        raise InvalidTenantError("the name of the tenant has control characters")
    return name


def tenant_key(tenant: str | None) -> str:
    """Return what an index stores of a document's tenant: the SHA-256 of its name, a dash where it has none."""
    return _UNTENANTED_KEY if tenant is None else hashlib.sha256(tenant.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TenantScope:
    """Whose documents a search may find. Made by `of`; `ALL_TENANTS` is for operators, never for a shopper."""

    kind: Literal["tenant", "untenanted", "all"]
    tenant: str | None = None

    def __post_init__(self) -> None:
        if (self.kind == "tenant") != (self.tenant is not None):
            raise ValueError(f"a scope of kind {self.kind!r} and the tenant {self.tenant!r} contradict each other")

    @staticmethod
    def of(tenant: str | None) -> TenantScope:
        """Return what a shopper of a tenant may find: that tenant's documents and those of no tenant.

        A shopper of no tenant finds those of no tenant only.

        Raises:
            InvalidTenantError: If that is not the name of a tenant.
        """
        return UNTENANTED if tenant is None else TenantScope("tenant", tenant_name(tenant))

    @staticmethod
    def of_trace(tenant: str | None) -> TenantScope:
        """Return the scope of the shopper of a stored trace; what is not a valid name counts as no tenant."""
        try:
            return TenantScope.of(tenant)
        except InvalidTenantError:
            return UNTENANTED

    def admits(self, tenant: str | None) -> bool:
        """Return whether a document of that tenant, or of none, may be found."""
        return self.kind == "all" or tenant is None or tenant == self.tenant

    def admitted_keys(self) -> tuple[str, ...] | None:
        """Return the `tenant_key`s that may be found; None where all may."""
        if self.kind == "all":
            return None
        return (_UNTENANTED_KEY,) if self.tenant is None else (_UNTENANTED_KEY, tenant_key(self.tenant))


def opened_documents(before: Mapping[str, str | None], after: Mapping[str, str | None], *, attribute: str) -> list[str]:
    """Return the documents that were a tenant's and are everybody's now.

    `before` and `after` are tenants by document id, `attribute` is what was looked at to find those after.

    Raises:
        LostTenantsError: If there are such documents and no tenant is left: most likely the attribute is another one.
    """
    opened = sorted(name for name, tenant in before.items() if tenant is not None and after.get(name, tenant) is None)
    if opened and not any(tenant is not None for tenant in after.values()):
        raise LostTenantsError(
            f"{len(opened)} documents were a tenant's ({', '.join(opened[:3])}), and now none names one by the "
            f"attribute {attribute!r}, so everybody would see everything: set MANGAASSIST_TENANT_ATTRIBUTE as before, "
            "or run knowledge_chunks with without_tenants to go on without"
        )
    return opened


UNTENANTED: Final = TenantScope("untenanted")
ALL_TENANTS: Final = TenantScope("all")
