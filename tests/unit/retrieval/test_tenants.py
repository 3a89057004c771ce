"""Whose documents a search may find: names are compared exactly, and no name becomes part of a query."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mangaassist_assets.retrieval.tenants import (
    ALL_TENANTS,
    UNTENANTED,
    InvalidTenantError,
    LostTenantsError,
    TenantScope,
    opened_documents,
    tenant_key,
    tenant_name,
)

HOSTILE = [
    "' OR 1=1 --",
    "a' OR tenant_key IS NOT NULL OR 'a'='",
    'x"; DROP TABLE kb; --',
    "-",
    "*",
    "%",
    "\\'",
    "O'Brien",
]


def named(text: str) -> str | None:
    try:
        return tenant_name(text)
    except InvalidTenantError:
        return None


def test_a_shopper_sees_the_documents_of_their_tenant_and_those_of_no_tenant():
    scope = TenantScope.of("acme")
    assert [scope.admits(tenant) for tenant in ("acme", None, "other")] == [True, True, False]
    assert [UNTENANTED.admits(tenant) for tenant in ("acme", None)] == [False, True]
    assert TenantScope.of(None) == UNTENANTED
    assert ALL_TENANTS.admits("acme")


def test_names_are_compared_with_their_case_and_after_nfc():
    assert not TenantScope.of("Acme").admits("acme")
    assert not TenantScope.of("Acme").admits("Ａｃｍｅ")
    assert TenantScope.of(" Cafe\u0301 ") == TenantScope.of("Café")


@pytest.mark.parametrize("name", ["", "  ", "\u3000", "a\x00b", "a\nb", "\ud800", "a\ufeffb", "x" * 201])
def test_what_is_no_name_is_refused_and_never_means_everybody(name):
    with pytest.raises(InvalidTenantError):
        TenantScope.of(name)
    assert TenantScope.of_trace(name) == UNTENANTED


def test_a_scope_cannot_be_put_together_by_mistake():
    with pytest.raises(ValueError, match="contradict"):
        TenantScope("all", "acme")
    with pytest.raises(ValueError, match="contradict"):
        TenantScope("tenant")


def test_documents_that_are_opened_to_everybody_are_told_and_never_all_of_them():
    before = {"a.md": "StoreA", "b.md": "StoreB", "hours.md": None, "gone.md": "StoreA"}
    assert opened_documents(before, {**before, "a.md": None}, attribute="customer") == ["a.md"]
    assert opened_documents(before, {**before, "a.md": "StoreB"}, attribute="customer") == []
    # Held back or deleted: nobody sees them.
    assert opened_documents(before, {"hours.md": None}, attribute="customer") == []
    nobodys = dict.fromkeys(before)
    with pytest.raises(LostTenantsError, match="by the attribute 'tenant', so everybody would see everything"):
        opened_documents(before, nobodys, attribute="tenant")


@given(st.text() | st.sampled_from(HOSTILE))
def test_a_name_is_the_same_when_it_is_read_again(text):
    name = named(text)
    assume(name is not None)
    assert tenant_name(name) == name


@given(st.text() | st.sampled_from(HOSTILE), st.text() | st.sampled_from(HOSTILE))
def test_two_tenants_share_a_key_only_if_they_have_one_name(first, second):
    assume(named(first) is not None and named(second) is not None)
    scope, other = TenantScope.of(first), tenant_name(second)
    assert (tenant_key(other) in scope.admitted_keys()) == (named(first) == other) == scope.admits(other)
    assert tenant_key(None) in scope.admitted_keys()
    assert all(re.fullmatch(r"-|[0-9a-f]{64}", key) for key in scope.admitted_keys())
