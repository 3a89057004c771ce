"""What names of attributes, tags and fields say of their values: users, sessions, secrets, identifiers.

Names are those of MLflow, LiteLLM, OpenTelemetry's semantic conventions and HTTP headers; all but `IDENTIFIERS` are in
lower case.
"""

from __future__ import annotations

from mangaassist_assets.tracing.contract.names import Attribute, Tag

USERS = frozenset(
    {
        "user",
        "user_id",
        "userid",
        "user.id",
        "end_user",
        "end_user_id",
        "enduser.id",
        "customer_id",
        "username",
        "user_name",
        "user_api_key_user_id",
        "user_api_key_end_user_id",
        "mlflow.user",
        "mlflow.trace.user",
        "mlflow.auth.userid",
        "mlflow.auth.username",
        "mlflow.gateway.caller",
    }
)
SESSIONS = frozenset(
    {
        "session",
        "session_id",
        "session.id",
        "sessionid",
        "conversation_id",
        "gen_ai.conversation.id",
        "litellm_session_id",
        "mlflow.trace.session",
    }
)
SECRETS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "x-api-key",
        "api_key",
        "apikey",
        "api-key",
        "user_api_key",
        "user_api_key_hash",
        "password",
        "secret",
        "client_secret",
        "access_token",
        "refresh_token",
        "id_token",
        "aws_secret_access_key",
        "aws_session_token",
        "client.address",
        "client_ip",
        "http.client_ip",
        "ip_address",
        "user_ip",
        "remote_addr",
        "requester_ip_address",
        "net.peer.ip",
        "network.peer.address",
        "source.address",
        "x-forwarded-for",
        "x-real-ip",
        "user.name",
        "user.full_name",
        "user.email",
        "user_email",
        "user_api_key_user_email",
        "email",
        "full_name",
        "first_name",
        "last_name",
        "phone",
        "phone_number",
        "address",
    }
)
IDENTIFIERS = (
    frozenset(Attribute)
    | frozenset(Tag)
    | frozenset(
        {
            "gen_ai.provider.name",
            "gen_ai.system",
            "mlflow.llm.provider",
            "mlflow.sourceRun",
            "mlflow.spanType",
        }
    )
) - {
    *(Tag.SESSION_ID, Tag.USER_FEEDBACK, Attribute.FILTERS, Attribute.REASONS),
    # What a tool was asked and answered is text, even where it is one word.
    *(Attribute.TOOL_ARGUMENTS, Attribute.TOOL_RESULT),
}


def names_model(key: str) -> bool:
    """Return whether a key names a model, some of which are called like people."""
    return key.lower().endswith(("model", "model_id", "modelid", "model_name", "model_group"))
