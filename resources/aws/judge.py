"""The language model that labels messages and names clusters: a Bedrock model, or none."""

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from resources.aws.clients import AwsResource

if TYPE_CHECKING:
    from mangaassist_assets.labelling.judge import IntentJudge
    from mangaassist_assets.mining.naming.model_names import ClusterNamer
    from mangaassist_assets.privacy import Vocabulary
    from resources.aws.bedrock_tools import BedrockToolModel


class JudgeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Hands out the judge and the namer; the AWS resource says where Bedrock is and how long a call may take."""

    aws: AwsResource = Field(description="How AWS is reached: region, credentials, attempts and timeouts of a call.")
    model_id: str = Field(
        default="",
        description="Bedrock model or inference profile that can be made to call a tool. Empty: there is no judge.",
    )
    concurrency: int = Field(default=4, ge=1, le=32, description="Messages judged at once, each in a call of its own.")
    longest_message: int = Field(
        default=2_000, ge=1, description="Characters; longer messages are not judged, and counted as refused."
    )
    groups_per_call: int = Field(default=8, ge=1, le=50, description="Clusters named by one call.")
    max_tokens: int = Field(default=1_024, ge=64, description="Longest answer of the model.")

    def intent_judge(self, *, vocabulary: "Vocabulary | None" = None) -> "IntentJudge | None":
        """Return the judge, or None where there is no model.

        Args:
            vocabulary: the store's own words, which are no personal data.
        """
        if not self.model_id:
            return None
        from mangaassist_assets.prompting.intent_judge import ModelIntentJudge

        return ModelIntentJudge(
            self._model(),
            concurrency=self.concurrency,
            longest_message=self.longest_message,
            vocabulary=vocabulary,
        )

    def cluster_namer(self, *, vocabulary: "Vocabulary | None" = None) -> "ClusterNamer | None":
        """Return the namer, or None where there is no model; it remembers its proposals as long as it lives.

        Args:
            vocabulary: the store's own words, which are no personal data.
        """
        if not self.model_id:
            return None
        from mangaassist_assets.prompting.cluster_naming import ModelClusterNamer

        return ModelClusterNamer(self._model(), groups_per_call=self.groups_per_call, vocabulary=vocabulary)

    def _model(self) -> "BedrockToolModel":
        from resources.aws.bedrock_tools import BedrockToolModel

        return BedrockToolModel(self.aws, self.model_id, max_tokens=self.max_tokens)
