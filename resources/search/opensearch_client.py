"""The client of OpenSearch and OpenSearch Serverless, and how it signs its requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from opensearchpy import OpenSearch


def connect(
    url: str,
    *,
    auth: Literal["none", "basic", "sigv4"],
    service: Literal["es", "aoss"] = "es",
    username: str | None = None,
    password: str | None = None,
    region_name: str | None = None,
    timeout_seconds: float = 30.0,
) -> OpenSearch:
    """Return a client; nothing is sent yet.

    Args:
        url: Address of the cluster or collection.
        auth: How requests are signed.
        service: AWS's name of the service, for sigv4: `es` or `aoss`.
        username: For basic authentication.
        password: For basic authentication.
        region_name: For sigv4; None for boto3's own resolution.
        timeout_seconds: Longest wait for one request.

    Raises:
        ValueError: If what `auth` needs is missing.
    """
    from opensearchpy import OpenSearch, Urllib3AWSV4SignerAuth, Urllib3HttpConnection

    http_auth: Any = None
    if auth == "basic":
        if not username or not password:
            raise ValueError("basic authentication for OpenSearch needs a username and a password")
        http_auth = (username, password)
    elif auth == "sigv4":
        import boto3

        session = boto3.Session(region_name=region_name)
        credentials = session.get_credentials()
        if credentials is None or session.region_name is None:
            missing = "credentials" if credentials is None else "region"
            raise ValueError(f"no AWS {missing} to sign requests to OpenSearch with: configure them, or set auth")
        http_auth = Urllib3AWSV4SignerAuth(credentials, session.region_name, service)
    return OpenSearch(
        hosts=[url],
        http_auth=http_auth,
        connection_class=Urllib3HttpConnection,
        timeout=timeout_seconds,
        max_retries=3,
        retry_on_status=(429, 502, 503, 504),
        http_compress=True,
        pool_maxsize=16,
    )
