"""The responses of the decision and text routes, as pydantic models for the OpenAPI document.

Tests check real responses against these models.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ecellm_lite.serve.replies import Reply


class PredicateAnswer(Reply):
    """The probability that the statement is true."""

    type: Literal["predicate"]
    name: str | None
    probability: float = Field(ge=0, le=1)


class ChoiceShare(Reply):
    """A choice and its probability. The probabilities of a question's choices add up to 1."""

    value: str | bool
    probability: float = Field(ge=0, le=1)


class ChoiceAnswer(Reply):
    """The most probable choice, and the probability of each choice."""

    type: Literal["choice"]
    name: str | None
    choice: str | bool
    confidence: float = Field(ge=0, le=1)
    probabilities: list[ChoiceShare]


class LevelShare(Reply):
    """A level of a scale, and its probability. The probabilities of a question's levels add up to 1."""

    value: int
    label: str
    probability: float = Field(ge=0, le=1)


class ScoreAnswer(Reply):
    """The score, and the probability of each level.

    The score is the mean of the levels' positions, counted from 0 and weighted by the levels' probabilities.
    """

    type: Literal["score"]
    name: str | None
    score: float = Field(ge=0)
    confidence: float = Field(ge=0, le=1)
    probabilities: list[LevelShare]


class RefusedAnswer(Reply):
    """A question that could not be answered."""

    type: Literal["refusal"]
    name: str | None


class CachedTokens(Reply):
    """How many of the prompt's tokens were still in memory from an earlier request."""

    cached_tokens: int
    cache_write_tokens: Literal[0]


class ReasoningTokens(Reply):
    """The number of reasoning tokens: always 0, because the model writes no reasoning."""

    reasoning_tokens: Literal[0]


class DecisionUsage(Reply):
    """How many tokens the model read. A token that several questions share counts once."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: Literal[0]
    output_tokens_details: ReasoningTokens
    total_tokens: int


class DecisionsReply(Reply):
    """The answers to the questions, in order."""

    answers: list[PredicateAnswer | ChoiceAnswer | ScoreAnswer | RefusedAnswer]
    model: str
    usage: DecisionUsage


class NoulReply(Reply):
    """The answer to a yes-or-no question, which TypeSafe calls `noul`: the probability of yes."""

    type: Literal["noul"]
    noul: float = Field(ge=0, le=1)


class LabelReply(Reply):
    """The most probable label, and the probability of each label."""

    type: Literal["choice"]
    choice: str
    confidence: float = Field(ge=0, le=1)
    probabilities: dict[str, float]


class LevelReply(Reply):
    """The score, and the probability of each level.

    The score is the mean of the levels' positions, counted from 0 and weighted by the levels' probabilities.
    """

    type: Literal["score"]
    score: float = Field(ge=0)
    confidence: float = Field(ge=0, le=1)
    legend: dict[str, Any]
    probabilities: dict[str, float]


class TypeSafeUsage(Reply):
    """How many tokens the model read. A token that several questions share counts once."""

    input_tokens: int
    output_tokens: Literal[0]


class SystemOneReply(Reply):
    """The answer to each question, by the question's id."""

    model: str
    answers: dict[str, NoulReply | LabelReply | LevelReply]
    usage: TypeSafeUsage


class PromptTokens(Reply):
    """How many of the prompt's tokens were still in memory from an earlier request."""

    cached_tokens: int


class TextUsage(Reply):
    """How many tokens the prompt and the generated texts have."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens


class TopToken(Reply):
    """A token and its log-probability."""

    token: str
    bytes: list[int]
    logprob: float


class ChatToken(TopToken):
    """A token of a text, and the most probable tokens at its position."""

    top_logprobs: list[TopToken]


class ChatLogprobs(Reply):
    """The log-probabilities of a text's tokens."""

    content: list[ChatToken]
    refusal: None


class ChatMessage(Reply):
    """A text that the model wrote."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Reply):
    """One text that the model wrote. A request can ask for several."""

    index: int
    message: ChatMessage
    finish_reason: Literal["stop", "length"]
    logprobs: ChatLogprobs | None


class ChatReply(Reply):
    """A completed conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TextUsage


class CompletionLogprobs(Reply):
    """The log-probabilities of a text's tokens."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Reply):
    """One text that the model wrote. A request can ask for several."""

    index: int
    text: str
    finish_reason: Literal["stop", "length"]
    logprobs: CompletionLogprobs | None


class CompletionsReply(Reply):
    """The texts that the model wrote after the prompts."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: TextUsage
