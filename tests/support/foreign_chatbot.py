"""A chatbot of somebody else: an agent in LangGraph on Amazon Bedrock, traced by MLflow's LangChain autologging alone.

Nothing in it knows the trace contract. What it tells beside the autologging it tells in its own words: its nodes are
`screen`, `topic`, `gather`, `reorder`, `compose`, `agent` and `tools`, its tags `lg_session`, `release`, `route_book`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import boto3
import mlflow
from botocore.config import Config
from langchain_aws import ChatBedrockConverse
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from tests.support.bedrock_wire import Answer, BedrockWire

MODEL = "anthropic.claude-3-5-sonnet-20241022-v2:0"
RELEASE = "store-2026.11"
SHELF = {
    "ships-1": ("shipping", "Parcels to Japan take three days."),
    "ships-2": ("shipping", "Parcels to Europe take nine days."),
    "stock-1": ("stock", "Lantern Street Blues 3 is back in stock."),
}
CITIES = {"Osaka": "Thursday"}
REFUSED = "I only talk about manga."


@tool
def copies_left(volume: int, name: str) -> str:
    """Return how many copies of a volume are left."""
    return f"{volume} copies of {name}"


@tool
def deliver_by(city: str) -> str:
    """Return the day a parcel arrives in a city."""
    if city not in CITIES:
        raise ValueError(f"no delivery to {city}")
    return CITIES[city]


class ShelfRetriever(BaseRetriever):
    """Finds texts by meaning and by words."""

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        del run_manager
        here = mlflow.get_current_active_span()
        assert here is not None
        here.set_attribute("shelf_build", "build-88")
        with mlflow.start_span("vectorise") as span:
            span.set_attribute("embedder", "amazon.titan-embed-text-v2:0")
        with mlflow.start_span("nearest") as span:
            span.set_outputs(["ships-2", "ships-1"])
        with mlflow.start_span("words") as span:
            span.set_outputs(["stock-1"] if "stock" in query else [])
        return [
            Document(
                page_content=said,
                id=key,
                metadata={"chunk_id": key, "source": source, "score": 1.0 / place},
            )
            for place, (key, (source, said)) in enumerate(SHELF.items(), start=1)
        ]


class State(MessagesState):
    """The state of a conversation: its messages and the texts that were found for the last one."""

    shelf: list[Document]
    refused: bool


def _tell(**attributes: object) -> None:
    span = mlflow.get_current_active_span()
    assert span is not None
    span.set_attributes(attributes)


class ForeignChatbot:
    """One conversation after the other, each turn one trace."""

    def __init__(self, wire: BedrockWire) -> None:
        """Compile the graph over a model that is served by `wire`."""
        client = boto3.client(
            "bedrock-runtime",
            endpoint_url=wire.url,
            region_name="us-east-1",
            aws_access_key_id="example",
            aws_secret_access_key="example",
            config=Config(retries={"total_max_attempts": 1}),
        )
        tools = [copies_left, deliver_by]
        model: Any = ChatBedrockConverse(model=MODEL, client=client, temperature=0.2, max_tokens=300)
        self._model = model.bind_tools(tools)
        graph = StateGraph(State)
        graph.add_node("screen", self._screen)
        graph.add_node("topic", self._topic)
        graph.add_node("gather", self._gather)
        graph.add_node("reorder", self._reorder)
        graph.add_node("compose", self._compose)
        graph.add_node("agent", self._agent)
        graph.add_node("tools", ToolNode(tools, handle_tool_errors=True))
        graph.add_edge(START, "screen")
        graph.add_conditional_edges("screen", lambda state: END if state["refused"] else "topic")
        for before, after in (("topic", "gather"), ("gather", "reorder"), ("reorder", "compose"), ("compose", "agent")):
            graph.add_edge(before, after)
        graph.add_conditional_edges("agent", tools_condition)
        graph.add_edge("tools", "agent")
        self._graph = graph.compile(checkpointer=InMemorySaver())

    def ask(self, session: str, question: str) -> str:
        """Return the answer to a shopper's question."""
        found = self._graph.invoke(
            {"messages": [HumanMessage(question)]},
            config=RunnableConfig(configurable={"thread_id": f"thread of {session}"}),
        )
        return str(found["messages"][-1].text)

    def _screen(self, state: State, config: RunnableConfig) -> dict[str, Any]:
        session = str(config["configurable"]["thread_id"]).removeprefix("thread of ")
        mlflow.update_current_trace(tags={"lg_session": session, "release": RELEASE, "route_book": "routes-3"})
        refused = "politics" in self._question(state)
        _tell(action="deny" if refused else "allow", revision="policy-7")
        return {"refused": refused, **({"messages": [AIMessage(REFUSED)]} if refused else {})}

    def _topic(self, state: State) -> dict[str, Any]:
        _tell(
            label="delivery" if "arrive" in self._question(state) else "stock", certainty=0.83, topic_model="topics-12"
        )
        return {}

    def _gather(self, state: State) -> dict[str, Any]:
        return {"shelf": ShelfRetriever().invoke(self._question(state))}

    def _reorder(self, state: State) -> dict[str, Any]:
        _tell(ranker="ranker-4")
        best_first = [
            Document(
                page_content=one.page_content, id=one.id, metadata={**one.metadata, "relevance_score": 0.9 - place / 10}
            )
            for place, one in enumerate(reversed(state["shelf"]))
        ]
        return {"shelf": best_first}

    def _compose(self, state: State) -> dict[str, Any]:
        kept = state["shelf"][:2]
        _tell(template="template-9", kept=[one.id for one in kept])
        return {"shelf": kept}

    def _agent(self, state: State) -> dict[str, Any]:
        known = "\n".join(one.page_content for one in state["shelf"])
        return {"messages": [self._model.invoke([SystemMessage(f"You sell manga.\n{known}"), *state["messages"]])]}

    def _question(self, state: State) -> str:
        return next(str(one.content) for one in reversed(state["messages"]) if isinstance(one, HumanMessage))


def use(use_id: str, called: str, /, **arguments: object) -> dict[str, Any]:
    """Return a content block by which a model asks for a tool."""
    return {"toolUse": {"toolUseId": use_id, "name": called, "input": arguments}}


def answer(text: str, *uses: Mapping[str, Any], stop_reason: str | None = None) -> Answer:
    """Return an answer of Converse: 40 input tokens beside 10 from the cache, and 9 output tokens."""
    content: Sequence[Mapping[str, Any]] = [{"text": text}, *uses]
    return Answer(
        body={
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": stop_reason or ("tool_use" if uses else "end_turn"),
            "usage": {"inputTokens": 40, "outputTokens": 9, "totalTokens": 59, "cacheReadInputTokens": 10},
            "metrics": {"latencyMs": 12},
        }
    )
