"""Turns questions into requests to the engine: tokenizes each prompt, and finds the tokens that rows have in common."""

from __future__ import annotations

from ecellm_lite.answers.decoding import AnswerForm, Scene
from ecellm_lite.answers.space import Space
from ecellm_lite.engine.driver import Driver
from ecellm_lite.engine.prefixes import common_length
from ecellm_lite.engine.request import Request, context_error
from ecellm_lite.envelopes import Envelope, Prompt
from ecellm_lite.tasks.task import Question

# How many beginnings of prompts are cached as tokens; each row in ECInstruct's form may have its own instruction.
BEGINNINGS = 64

# No vocabulary has a token of more bytes. A prompt too long even with such tokens is not tokenized at all.
LONGEST_TOKEN = 256


class Prompts:
    """The prompts of one model. All methods are thread-safe.

    `max_length`: the maximum number of tokens of a prompt and its answer together.

    Raises ModelError if the model's vocabulary lacks one of the envelope's control tokens.
    """

    def __init__(self, envelope: Envelope, driver: Driver, max_length: int) -> None:
        self.max_length = max_length
        self._envelope = envelope
        self._driver = driver
        self._beginnings: dict[Prompt, list[int]] = {}  # the tokens of prompts' beginnings
        with driver.model_in_use() as backend:
            self._form = AnswerForm.of(envelope, backend.vocabulary)

    def prompt(self, question: Question) -> Prompt:
        """Return the exact prompt that the model reads."""
        if question.bare:
            return Prompt((question.text,), begin=True)
        if question.turns:
            return self._envelope.conversation(question.instruction, question.turns)
        return self._envelope.wrap(question.instruction, question.text, question.options, question.examples)

    def tokenize(self, prompt: Prompt) -> list[int]:
        """Return a prompt's tokens. Text of a row is never read as a special token."""
        with self._driver.model_in_use() as backend:
            return prompt.tokens(backend.vocabulary)

    def request(self, question: Question, space: Space | None = None, *, seed: int = 0) -> Request:
        """Return the scheduler's request for a question: the prompt's tokens, and the length of its shared beginning.

        The prompts of other rows share this beginning. It has the instruction, then the worked examples if all rows
        have the same examples, then `question.stem`, the part of the text that other questions have too.

        Raises ContextError for a prompt that is too long even to be tokenized.
        """
        prompt = self.prompt(question)
        if self._endless(prompt):
            raise context_error(f"{len(str(prompt)):,} characters", self.max_length, question.advice, question.settings)
        tokens = self.tokenize(prompt)
        # The last characters of the beginning may have merged with the row's first ones into one token.
        shared = common_length(self._beginning(question, question.stem), tokens)
        opening = common_length(self._beginning(question), tokens) if question.stem else shared
        # A row in the data set's form has its own instruction, and no part of a row may be stored on disk.
        storable = question.values is not None and not question.stem
        return Request(
            tokens,
            shared,
            space or question.space,
            seed,
            self._form,
            opening=opening,
            storable=storable,
            advice=question.advice,
            settings=question.settings,
        )

    def needs(self, question: Question, space: Space | None = None) -> int:
        """Return how many tokens a question's prompt and its longest possible answer have together.

        If the prompt alone is too long, the result is not exact, but it is greater than the limit `max_length`.
        """
        prompt = self.prompt(question)
        if self._endless(prompt):
            return len(str(prompt))
        tokens = len(self.tokenize(prompt))
        if tokens >= self.max_length:
            return tokens + 1  # too long already; computing an extraction's room takes time
        with self._driver.model_in_use() as backend:
            scene = Scene(backend.vocabulary, self.max_length, form=self._form)
            return tokens + (space or question.space).longest(scene)

    def _endless(self, prompt: Prompt) -> bool:
        return len(str(prompt)) > LONGEST_TOKEN * self.max_length

    def _beginning(self, question: Question, stem: str = "") -> list[int]:
        """Return the tokens of the beginning that this prompt shares with the prompts of other rows.

        The beginning is the instruction, then the examples if all rows have the same examples, then `stem`. The stem is
        the part of the question's text that other questions share (`Question.stem`).
        """
        if question.bare:
            prompt = Prompt((), begin=True)
        elif question.turns:
            prompt = self._envelope.opening(question.instruction)
        else:
            examples = () if question.nearest else question.examples
            prompt = self._envelope.prefix(question.instruction, examples) + stem
        tokens = self._beginnings.get(prompt)
        if tokens is None:
            tokens = self.tokenize(prompt)
            if len(self._beginnings) >= BEGINNINGS:
                self._beginnings.clear()
            self._beginnings[prompt] = tokens
        return tokens
