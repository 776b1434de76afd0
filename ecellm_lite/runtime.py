"""Tasks and an engine become answers: the one place where the two meet.

>>> from ecellm_lite import Runtime
>>> with Runtime("demo") as runtime:                                                       # doctest: +SKIP
...     answer = runtime.answer("sentiment_analysis", {"review": "Works, but it is loud."})
...     print(answer.value, answer.probability)
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ecellm_lite.answers.answer import Answer, ModelName
from ecellm_lite.answers.room import answer_room
from ecellm_lite.answers.space import Space
from ecellm_lite.engine.interface import Backend
from ecellm_lite.engine.offload import Placement
from ecellm_lite.engine.prefix_files import PrefixFiles
from ecellm_lite.engine.prefixes import common
from ecellm_lite.engine.request import Request
from ecellm_lite.engine.scheduler import Scheduler
from ecellm_lite.engine.waiting import GROUP
from ecellm_lite.envelopes import get_envelope
from ecellm_lite.errors import ContextError, EcellmError, InputError
from ecellm_lite.models.calibrations import Calibrations, Chosen, chosen_calibrations
from ecellm_lite.submitted import Answering, Submitted, id_of, known_task
from ecellm_lite.tasks.task import Question, Task

if TYPE_CHECKING:
    from typing_extensions import Self

# Rows that are read ahead of the answer that is due next: one group that is run, and one that fills calls at its end.
WINDOW = 2 * GROUP

# Instructions whose tokens are remembered; rows in the data set's own form may each bring another.
INSTRUCTIONS = 64

# Seconds that a thread waits for its turn to drive the model before it looks whether another has done its row.
TURN = 0.02

# No vocabulary has a token of more bytes: a longer prompt than this a token cannot fit, and is not even tokenized.
LONGEST_TOKEN = 256


class Runtime:
    """A loaded model that answers tasks; a context manager, and safe to call from several threads at once.

    `model`: a path to a GGUF file, a name in the store, a catalogue name, or `demo` (default: ECELLM_MODEL, else
    the only model in the store, else the demo). `envelope`: `alpaca` or `mistral`, where the model does not say.
    `deterministic`: the same row gets the same answer, byte for byte, whatever runs beside or ran before it.
    `seed` is what drawn text follows (a Text space with a temperature). `prefix_files`: what the model read of an
    instruction is kept in the user's store, so that the next process need not read it again (a row never is; nothing
    is where layers are on a GPU).
    `grouped`: rows are run in an order in which they share most; their answers come in the rows' own order. `drafts`:
    words of the prompt are tried as the next ones of a free text, while few rows run. `calibration`: "auto" takes what
    `ecellm-lite calibrate` kept for the model where it holds, False nothing, a path that file. `min_probability`:
    answers less probable are abstentions, and with a calibration rows that look unlike those it was fitted on.

    The other settings are those of engine.llama.Settings; where `threads`, `kv_type`, `micro_batch` or
    `flash_attention` is not given, and the runtime is not deterministic, it is what `ecellm-lite bench --tune` kept for
    this model and machine.

    `placement` says afterwards which layers are on which GPU (None over a backend of one's own), and `tasks` what the
    model's file says it is for (empty where it does not say).

    Raises ModelError if there is no such model or its file is damaged, UsageError for settings that do not fit.
    """

    placement: Placement | None = None
    tasks: tuple[str, ...] = ()

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        envelope: str | None = None,
        context: int | None = None,
        threads: int | None = None,
        gpu_layers: str | int = "auto",
        kv_type: str | None = None,
        micro_batch: int | None = None,
        flash_attention: str | None = None,
        deterministic: bool = False,
        seed: int = 0,
        prefix_files: bool = True,
        grouped: bool = True,
        drafts: bool = True,
        calibration: Chosen = "auto",
        min_probability: float | None = None,
    ) -> None:
        from ecellm_lite.demo.build import ensure_demo
        from ecellm_lite.engine.llama import LlamaBackend
        from ecellm_lite.engine.tuned import tuned_settings
        from ecellm_lite.models.resolve import resolve
        from ecellm_lite.models.store import Store

        if envelope:
            get_envelope(envelope)  # raises before a model is looked for
        store = Store()
        found = resolve(str(model) if model else None, store, {"demo": ensure_demo}, envelope=envelope)
        envelope = envelope or found.manifest.envelope
        calibrations = chosen_calibrations(calibration, store, found, envelope)
        name = ModelName(found.manifest.name, found.manifest.sha256)
        answering = Answering(name, envelope, deterministic, calibrations, min_probability)
        settings = tuned_settings(
            store,
            found,
            context=context,
            threads=threads,
            gpu_layers=gpu_layers,
            kv_type=kv_type,
            micro_batch=micro_batch,
            flash_attention=flash_attention,
            deterministic=deterministic,
        )
        backend = LlamaBackend(found.path, settings)
        try:
            self.placement = backend.placement
            self.tasks = found.tasks
            circumstances = f"{name.sha256} {backend.circumstances}"
            # A GPU reads an instruction in milliseconds: to keep its state would only cost room.
            kept = prefix_files and not backend.placement.n_gpu_layers
            files = PrefixFiles(store.root / "prefixes", circumstances) if kept else None
            scheduler = Scheduler(backend, deterministic=deterministic, grouped=grouped, drafts=drafts, files=files)
        except BaseException:
            backend.close()
            raise
        self._start(backend, scheduler, answering, seed)

    @classmethod
    def over(
        cls,
        backend: Backend,
        *,
        envelope: str = "alpaca",
        name: ModelName | None = None,
        deterministic: bool = False,
        seed: int = 0,
        grouped: bool = True,
        drafts: bool = True,
        files: PrefixFiles | None = None,
        calibrations: Calibrations | None = None,
        min_probability: float | None = None,
    ) -> Runtime:
        """Return a runtime over a backend of one's own, the fake engine say; the runtime closes it."""
        runtime = cls.__new__(cls)
        name = name or ModelName("fake", "")
        answering = Answering(name, envelope, deterministic, calibrations, min_probability)
        scheduler = Scheduler(backend, deterministic=deterministic, grouped=grouped, drafts=drafts, files=files)
        runtime._start(backend, scheduler, answering, seed)
        return runtime

    def _start(self, backend: Backend, scheduler: Scheduler, answering: Answering, seed: int) -> None:
        self.envelope = get_envelope(answering.envelope)
        self.model = answering.model
        self._answering = answering
        self.deterministic = scheduler.deterministic
        self._seed = seed
        self._backend = backend
        self._scheduler = scheduler
        self._instructions: dict[str, list[int]] = {}  # the tokens of a prompt's beginning, by its instruction
        self._lock = threading.Lock()  # held by the thread that drives the model
        self._tokenizer = threading.Lock()  # held while a row is tokenized: the model must not be freed meanwhile
        self._closed = False

    def answer(
        self,
        task: str | Task,
        row: Mapping[str, Any],
        *,
        instruction: str | None = None,
        space: Space | None = None,
        shorten: bool = False,
    ) -> Answer:
        """Return the answer to one row.

        `instruction` takes the place of the task's seed instruction; `space` the place of the row's own answers (a
        JSON schema, say). With `shorten` a row that is too long for the context is cut, in the fields of its task
        that may be, and the answer says what was cut. Raises UsageError for an unknown task, and InputError
        (ContextError, GrammarError) where a job's row would carry the error.
        """
        submitted = self._submit(self._answering.asked(task, instruction), row, instruction, space, shorten)
        try:
            self._wait(submitted)
        finally:
            submitted.cancel()
        error = submitted.error or (submitted.request and submitted.request.error)
        if error:
            raise error
        return self._answering.answer(submitted)

    def answers(
        self,
        task: str | Task,
        rows: Iterable[Mapping[str, Any] | InputError],
        *,
        instruction: str | None = None,
        space: Space | None = None,
        shorten: bool = False,
    ) -> Iterator[Answer]:
        """Yield one answer for each row, in order.

        Up to 256 rows are read ahead and run together, those that share most at a time; rows that ask exactly the
        same are answered once.
        A row that fails has an answer with an error; so has an InputError that stands in a row's place.
        """
        known = self._answering.asked(task, instruction)
        ahead: deque[Submitted] = deque()
        try:
            for row in rows:
                ahead.append(self._submit(known, row, instruction, space, shorten))
                if len(ahead) >= WINDOW:
                    yield self._next(ahead)
            while ahead:
                yield self._next(ahead)
        finally:
            for submitted in ahead:
                submitted.cancel()

    def uncalibrated(
        self, task: str | Task, row: Mapping[str, Any] | None = None, *, instruction: str | None = None
    ) -> str | None:
        """Return why the stored calibration of a task is not used, a sentence; None where it is or there is none.

        A calibration holds for the instruction that it was fitted with, and another may be given, as to `answer`; a
        row in the data set's form brings its own. With a row it is why its answer is not calibrated.

        Raises UsageError where it was named, as answering would, and InputError for a wrong row where there is one.
        """
        known = self._answering.asked(task, instruction)
        if row is None:
            return self._answering.refusal(known, instruction)
        return self._answering.refusal_of_row(known, row, instruction)

    def prompt(self, task: str | Task, row: Mapping[str, Any], *, instruction: str | None = None) -> str:
        """Return the exact prompt that a row becomes."""
        question = known_task(task).question(row, instruction=instruction)
        return self.envelope.prompt(question.instruction, question.text, question.options)

    def request(self, question: Question, space: Space | None = None) -> Request:
        """Return what a question becomes for the scheduler: its tokens, and how many of them its task's rows share.

        Raises ContextError for a prompt that is far too long to be tokenized at all; one that the context cannot hold
        has a request with that error.
        """
        prompt = self.envelope.prompt(question.instruction, question.text, question.options)
        if len(prompt) > LONGEST_TOKEN * self._backend.longest:
            raise ContextError(
                f"The prompt has {len(prompt):,} characters, far more than the {self._backend.longest:,} tokens "
                f"of the context: {question.advice}."
            )
        tokens = self.tokenize(prompt)
        # The row's first characters may have drawn the instruction's last ones into a token of their own.
        shared = common(self._instruction(question.instruction), tokens)
        # A row in the data set's form brings its own instruction, and nothing of a row goes to the disk.
        lasting = question.values is not None
        request = Request(tokens, shared, space or question.space, self._seed, lasting=lasting)
        if len(tokens) >= self._backend.longest:
            request.error = ContextError(
                f"The prompt has {len(tokens):,} tokens and the context holds {self._backend.longest:,}: "
                f"{question.advice}, or give a larger --context if the model allows one."
            )
        return request

    def _instruction(self, instruction: str) -> list[int]:
        tokens = self._instructions.get(instruction)
        if tokens is None:
            tokens = self.tokenize(self.envelope.prefix(instruction))
            if len(self._instructions) >= INSTRUCTIONS:
                self._instructions.clear()
            self._instructions[instruction] = tokens
        return tokens

    def tokenize(self, prompt: str) -> list[int]:
        """Return the ids that the model sees for a prompt, its BOS included; text is never read as a special token."""
        with self._tokenizer:
            self._check_open()
            return self._backend.vocabulary.tokenize(prompt, begin=True)

    def close(self) -> None:
        """Free the model; answers that are still waited for fail. A second call does nothing."""
        self._closed = True
        with self._lock, self._tokenizer:
            self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _submit(
        self,
        task: Task,
        row: Mapping[str, Any] | InputError,
        instruction: str | None,
        space: Space | None,
        shorten: bool,
    ) -> Submitted:
        if isinstance(row, InputError):
            return Submitted(None, task, error=row)
        self._check_open()
        submitted = Submitted(None, task)
        try:
            submitted.id = id_of(row)
            question = task.question(row, instruction=instruction)
            if shorten:
                question = task.shortened(question, lambda asked: self._needs(asked, space), self._backend.longest)
                submitted.shortened = question.shortened
            submitted.request = self.request(question, space)
            submitted.type = submitted.request.space.type
            if space is None:
                submitted.calibration = self._answering.calibration(task, question)
        except EcellmError as error:
            submitted.error = error
        else:
            if not submitted.request.done:
                self._scheduler.submit(submitted.request)
        return submitted

    def _needs(self, question: Question, space: Space | None) -> int:
        """Return how many tokens of the context a question takes with the room for its answer, or a few more."""
        prompt = self.envelope.prompt(question.instruction, question.text, question.options)
        longest = self._backend.longest
        if len(prompt) > LONGEST_TOKEN * longest:
            return len(prompt)
        tokens = len(self.tokenize(prompt))
        if tokens >= longest:
            return tokens + 1  # too long already: the room of an extraction takes time to find
        with self._tokenizer:
            self._check_open()
            return tokens + answer_room(space or question.space, self._backend.vocabulary, longest)

    def _check_open(self) -> None:
        if self._closed:
            raise EcellmError("The runtime is closed: keep it open until the answers are in.")

    def _next(self, ahead: deque[Submitted]) -> Answer:
        self._wait(ahead[0])
        return self._answering.answer(ahead.popleft())

    def _wait(self, row: Submitted) -> None:
        """Drive the scheduler until the row is done; whichever thread drives it runs the others' rows along."""
        request = row.request
        while request and not request.done:
            self._check_open()
            mine = False
            try:
                # A lock is not fair: a thread that cannot get it looks again whether its row was run along.
                mine = self._lock.acquire(timeout=TURN)
                if mine and not request.done and not self._closed:
                    self._scheduler.step()
            finally:
                if mine:
                    self._lock.release()
