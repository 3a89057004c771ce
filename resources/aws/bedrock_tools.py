"""A Bedrock model that answers through a tool: `converse` with `toolConfig`, one forced tool, temperature 0."""

from typing import TYPE_CHECKING, Any

from mangaassist_assets.prompting.tools import ToolAnswer, ToolPrompt
from resources.aws.clients import AwsResource, error_code

if TYPE_CHECKING:
    from mypy_boto3_bedrock_runtime import BedrockRuntimeClient


class BedrockToolModel:
    """Asks one model; retries and timeouts are those of the AWS resource. Neither question nor answer is logged."""

    def __init__(self, aws: AwsResource, model_id: str, *, max_tokens: int) -> None:
        self._aws = aws
        self._model_id = model_id
        self._max_tokens = max_tokens

    @property
    def model_id(self) -> str:
        """The Bedrock model or inference profile."""
        return self._model_id

    def ask(self, prompt: ToolPrompt) -> ToolAnswer:
        """Return the arguments of the tool, or why there are none; nothing AWS does is raised.

        The reason names the error, never its message: Bedrock's validation errors may quote the request.
        """
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        try:
            client: BedrockRuntimeClient = self._aws.client("bedrock-runtime")
            answer = client.converse(
                modelId=self._model_id,
                system=[{"text": prompt.system}],
                messages=[{"role": "user", "content": [{"text": prompt.user}]}],
                inferenceConfig={"maxTokens": self._max_tokens, "temperature": 0.0},
                toolConfig={
                    "tools": [
                        {
                            "toolSpec": {
                                "name": prompt.tool.name,
                                "description": prompt.tool.description,
                                "inputSchema": {"json": dict(prompt.tool.schema)},
                            }
                        }
                    ],
                    "toolChoice": {"tool": {"name": prompt.tool.name}},
                },
            )
        except ClientError as error:
            return ToolAnswer(refused=f"Bedrock failed: {error_code(error) or 'an error without a code'}", failed=True)
        except (BotoCoreError, ResponseParserError) as error:
            return ToolAnswer(refused=f"Bedrock failed: {type(error).__name__}", failed=True)
        return _read(dict(answer), prompt.tool.name)


def _read(answer: dict[str, Any], tool: str) -> ToolAnswer:
    stopped = answer.get("stopReason")
    if stopped != "tool_use":
        known = stopped if stopped in _STOP_REASONS else "for an unknown reason"
        return ToolAnswer(refused=f"the model stopped without the tool: {known}")
    content = ((answer.get("output") or {}).get("message") or {}).get("content") or []
    calls = [block["toolUse"] for block in content if block.get("toolUse")]
    if len(calls) != 1 or calls[0].get("name") != tool:
        return ToolAnswer(refused="the answer is not one call of the tool")
    return ToolAnswer(arguments=calls[0].get("input"))


_STOP_REASONS = frozenset(
    {"end_turn", "max_tokens", "stop_sequence", "guardrail_intervened", "content_filtered", "malformed_model_output"}
    | {"malformed_tool_use", "model_context_window_exceeded"}
)
