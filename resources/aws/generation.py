"""Who writes the answer: Bedrock through `converse`, or the local extract. Both behind the chatbot's `Generator`."""

from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field

from mangaassist_assets.chatbot.parts import Generation, GenerationRequest, Generator, StageError
from resources.aws.clients import AwsResource, error_code, error_message

if TYPE_CHECKING:
    from mypy_boto3_bedrock_runtime import BedrockRuntimeClient


class GenerationResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Hands out the generator."""

    aws: AwsResource = Field(description="How AWS is reached; used by the bedrock provider only.")
    provider: Literal["extractive", "bedrock"] = Field(
        default="extractive", description="`extractive` copies sentences of the best passage, `bedrock` asks the model."
    )
    sentences: int = Field(default=2, ge=1, description="Sentences of an extractive answer.")

    def generator(self) -> Generator:
        """Return the generator."""
        from mangaassist_assets.chatbot.generation import ExtractiveGenerator

        return ExtractiveGenerator(self.sentences) if self.provider == "extractive" else BedrockGenerator(self.aws)


class BedrockGenerator:
    """Asks a Bedrock model through the Converse API; the routing document names the model."""

    def __init__(self, aws: AwsResource) -> None:
        self._aws = aws

    def generate(self, request: GenerationRequest) -> Generation:
        """Return the model's answer.

        Raises:
            StageError: Bedrock refused or could not be reached, or answered without text.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        client: BedrockRuntimeClient = self._aws.client("bedrock-runtime")
        try:
            answer = client.converse(
                modelId=request.model_id,
                system=[{"text": request.system}],
                messages=[{"role": "user", "content": [{"text": request.user}]}],
                inferenceConfig={"maxTokens": request.maximum_tokens, "temperature": request.temperature},
            )
        except ClientError as error:
            raise StageError(f"Bedrock {request.model_id}: {error_code(error)}: {error_message(error)}") from error
        except BotoCoreError as error:
            raise StageError(f"Bedrock {request.model_id} could not be reached: {error}") from error
        blocks = answer["output"].get("message", {}).get("content", [])
        text = "".join(block["text"] for block in blocks if "text" in block)
        if not text:
            raise StageError(f"Bedrock {request.model_id} answered without text (stop reason {answer['stopReason']})")
        usage = answer["usage"]
        return Generation(
            text=text,
            model_id=request.model_id,
            input_tokens=usage["inputTokens"],
            output_tokens=usage["outputTokens"],
            stop_reason=answer["stopReason"],
            cache_read_tokens=usage.get("cacheReadInputTokens", 0),
            cache_write_tokens=usage.get("cacheWriteInputTokens", 0),
        )
