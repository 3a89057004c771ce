"""Which attribute of a document names its tenant: the resource's own, the environment's, or `tenant`."""

from __future__ import annotations

from resources.settings.knowledge import TENANT_VARIABLE, KnowledgeResource


def test_the_attribute_of_the_resource_goes_before_the_environments_and_that_before_the_default(monkeypatch):
    monkeypatch.delenv(TENANT_VARIABLE, raising=False)
    assert KnowledgeResource(folder="x").named_tenant_attribute() == "tenant"
    monkeypatch.setenv(TENANT_VARIABLE, "customer")
    assert KnowledgeResource(folder="x").named_tenant_attribute() == "customer"
    assert KnowledgeResource(folder="x", tenant_attribute="store").named_tenant_attribute() == "store"
