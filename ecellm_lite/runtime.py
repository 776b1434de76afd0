"""Runtime: an Answerer that runs the model in this process. It connects the tasks with the engine.

>>> from ecellm_lite import Runtime
>>> with Runtime("demo") as runtime:                                                       # doctest: +SKIP
...     answer = runtime.answer("sentiment_analysis", {"review": "Works, but it is loud."})
...     print(answer.value, answer.probability)
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecellm_lite.answer_policy import AnswerPolicy
from ecellm_lite.answerer import RequestOptions, Row, check_options
from ecellm_lite.answers.answer import AdapterName, Answer, ModelName
from ecellm_lite.answers.space import Space
from ecellm_lite.deadlines import Deadlines
from ecellm_lite.engine.driver import Driver
from ecellm_lite.engine.interface import Backend
from ecellm_lite.engine.prefix_files import PrefixFiles
from ecellm_lite.engine.request import Request
from ecellm_lite.engine.scheduler import Scheduler
from ecellm_lite.engine.waiting import GROUP
from ecellm_lite.envelopes import Prompt, get_envelope
from ecellm_lite.errors import InputError
from ecellm_lite.frames import FrameMap, answers_frame
from ecellm_lite.loading import LoadedAdapter, LoadedModel, load_model
from ecellm_lite.models.calibrations import Calibration, CalibrationChoice, Calibrations
from ecellm_lite.option_checks import checked_adapter, checked_deadline
from ecellm_lite.prompts import Prompts
from ecellm_lite.read_ahead import read_ahead
from ecellm_lite.submission import Submission
from ecellm_lite.tasks.registry import task_names
from ecellm_lite.tasks.task import Question, Task

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

# Rows read ahead of the next answer: the group that runs, and the next one, which fills the calls as the first ends.
WINDOW = 2 * GROUP


class Runtime:
    """A loaded model that answers tasks: an Answerer. It is a context manager and thread-safe.

    RequestOptions lists the options of a request. The arguments of Runtime are:

    `model`: a path to a GGUF file, a name in the store, a catalogue name, or `demo`. The default is the environment
      variable ECELLM_MODEL, then the store's only model besides the demo, then the demo.
    `envelope`: the text around each prompt: `alpaca`, `mistral`, or a chat form such as `qwen2.5` (docs/envelopes.md).
      It is needed only if the model's file does not name its envelope.
    `deterministic`: whether the same row always gets the same answer, byte for byte, whatever other rows run with it.
    `prefix_files`: whether to save to a file what the model computed for an instruction. The next process reads this
      file and computes less. Rows are never stored. With layers on a GPU, nothing is stored.
    `grouped`: whether rows whose prompts have the same beginning run together. Answers still come in the rows' order.
    `drafts`: whether to guess the next words of a free text from the prompt. The model then checks several guesses in
      one call. This is done only while few rows run.
    `adapters`: LoRA adapters to load with the model. The key is the name that requests use, the value is the adapter's
      file (see convert/adapter_file.py).

    engine.settings.Settings describes the other settings. The defaults of `threads`, `kv_type`, `micro_batch`,
    `flash_attention` and `prompt_kernels` are the values tuned for this model and machine, if there are any. A
    deterministic runtime ignores the tuned values.

    The attribute `placement` says which layers are on which GPU; it is None for a runtime made by `over`. The attribute
    `intended_tasks` has the tasks that the model's file lists; it is empty if the file lists none.

    Raises ModelError if there is no such model or its file is damaged. Raises UsageError for invalid settings, or if no
    model is named and the store has several besides the demo.
    """

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
        prompt_kernels: str = "auto",
        deterministic: bool = False,
        prefix_files: bool = True,
        grouped: bool = True,
        drafts: bool = True,
        adapters: Mapping[str, str | Path] | None = None,
    ) -> None:
        loaded = load_model(
            model,
            envelope=envelope,
            prefix_files=prefix_files,
            adapters=adapters,
            context=context,
            threads=threads,
            gpu_layers=gpu_layers,
            kv_type=kv_type,
            micro_batch=micro_batch,
            flash_attention=flash_attention,
            prompt_kernels=prompt_kernels,
            deterministic=deterministic,
        )
        self._start(loaded, deterministic=deterministic, grouped=grouped, drafts=drafts)

    @classmethod
    def over(
        cls,
        backend: Backend,
        *,
        envelope: str = "alpaca",
        name: ModelName | None = None,
        deterministic: bool = False,
        grouped: bool = True,
        drafts: bool = True,
        files: PrefixFiles | None = None,
        calibrations: Calibrations | None = None,
        adapters: Mapping[str, LoadedAdapter] | None = None,
    ) -> Runtime:
        """Return a runtime over the caller's own backend, such as the fake engine.

        Closing the runtime also closes the backend.

        `name`: the model's name and sha256, as answers show them.
        `files`: where to save what the model computed for an instruction. None saves nothing.
        `adapters`: the names and calibrations of the backend's adapters.
        """
        runtime = cls.__new__(cls)
        name = name or ModelName("fake", "")
        known = {
            adapter: LoadedAdapter(replace(name, adapter=AdapterName(adapter, ""))) for adapter in backend.adapters
        }
        known.update(adapters or {})
        loaded = LoadedModel(backend, name, envelope, calibrations, files, adapters=known)
        runtime._start(loaded, deterministic=deterministic, grouped=grouped, drafts=drafts)
        return runtime

    def _start(self, loaded: LoadedModel, *, deterministic: bool, grouped: bool, drafts: bool) -> None:
        self.model = loaded.model
        self.envelope = get_envelope(loaded.envelope)
        self.placement = loaded.placement
        self.intended_tasks = loaded.intended_tasks
        self.deterministic = deterministic
        models: dict[str | None, LoadedAdapter] = {None: LoadedAdapter(loaded.model, loaded.calibrations)}
        models.update(loaded.adapters)
        self._policies = {
            name: AnswerPolicy(own.model, loaded.envelope, deterministic, own.calibrations)
            for name, own in models.items()
        }
        self._deadlines = Deadlines()
        self._backend = backend = loaded.backend
        try:
            scheduler = Scheduler(
                backend, deterministic=deterministic, grouped=grouped, drafts=drafts, files=loaded.files
            )
            self._driver = Driver(scheduler, backend)
            self._prompts = Prompts(self.envelope, self._driver, backend.max_length)
        except BaseException:
            backend.close()
            raise
        # A runtime that is garbage-collected, or still open at exit, must not leave a thread in native code.
        self._close = weakref.finalize(self, self._driver.close)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the available tasks: the ten tasks of eCeLLM, the task of CASLIE, and the user's own tasks."""
        return task_names()

    @property
    def one_at_a_time(self) -> str | None:
        """The reason why rows run one at a time in deterministic mode, or None if rows run together."""
        return self._backend.unstable or None if self.deterministic else None

    @property
    def adapters(self) -> Mapping[str, str]:
        """The adapters that a request may name, each with the SHA-256 of its file."""
        names = (policy.model.adapter for policy in self._policies.values())
        return {name.name: name.sha256 for name in names if name}

    def submit(self, task: str | Task, row: Row | InputError, **options: Unpack[RequestOptions]) -> Future[Answer]:
        """Queue a row, and return a future for its answer. The answer to a bad row holds the error.

        If the caller could not read a row, it passes the InputError as `row`, and the answer holds this error.
        """
        return self._submit(task, row, options)[1]

    def answer(self, task: str | Task, row: Row, **options: Unpack[RequestOptions]) -> Answer:
        """Wait for the answer to one row and return it, or raise the row's error."""
        submission, future = self._submit(task, row, options)
        try:
            answer = future.result()
        finally:
            future.cancel()
        if submission.error:
            raise submission.error
        return answer

    def answers(
        self, task: str | Task, rows: Iterable[Row | InputError], **options: Unpack[RequestOptions]
    ) -> Iterator[Answer]:
        """Yield one answer for each row, in order. The answer to a bad row holds the error.

        A separate thread reads up to 256 rows ahead. Rows whose prompts have the same beginning run together. Identical
        rows are computed once.
        """
        policy = self._policy(options.get("adapter"))
        calibrations = policy.chosen_calibrations(options.get("calibration", "auto"))
        checked_task = policy.checked_task(task, calibrations, options.get("instruction"))

        def submit(row: Row | InputError) -> Future[Answer]:
            return self._submit(checked_task, row, options, more=True)[1]

        yield from read_ahead(rows, submit, most=WINDOW, finish=self._driver.no_more)

    def answers_frame(
        self,
        task: str | Task,
        frame: Any,
        *,
        map: FrameMap | None = None,  # noqa: A002 - as the option of the command line is called
        constants: Mapping[str, Any] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Any:
        """Return a copy of a data frame (pandas, polars or pyarrow) with each row's answer in added columns.

        `map`: {field: column} for each field whose column has another name. If a field takes several columns, give a
          list of their names.
        `constants`: values of fields that are the same in all rows.

        frames.answers_frame lists the columns and errors.
        """
        return answers_frame(self, task, frame, map=map, constants=constants, **options)

    def uncalibrated(
        self,
        task: str | Task,
        row: Row | None = None,
        *,
        instruction: str | None = None,
        calibration: CalibrationChoice = "auto",
        adapter: str | None = None,
    ) -> str | None:
        """Return the reason why a task's stored calibration is not used. Return None if it is used or does not exist.

        A calibration applies only to the instruction that it was fitted with.

        `instruction`: an instruction in place of the task's own.
        `row`: the row to be answered. Only a row in ECInstruct's form matters here, because it may have an instruction
          of its own.

        Raises UsageError if `calibration` names a file that does not apply. Raises InputError for an invalid row, but
        only if the task has a calibration.
        """
        policy = self._policy(adapter)
        calibrations = policy.chosen_calibrations(calibration)
        checked_task = policy.checked_task(task, calibrations, instruction)
        if row is None:
            return policy.refusal(calibrations, checked_task, instruction)
        return policy.refusal_of_row(calibrations, checked_task, row, instruction)

    def kept_calibration(
        self, task: str | Task, *, calibration: CalibrationChoice = "auto", adapter: str | None = None
    ) -> Calibration | None:
        """Return the calibration that is used for a task, or None.

        A row with its own instruction or options may be answered without this calibration.
        """
        policy = self._policy(adapter)
        calibrations = policy.chosen_calibrations(calibration)
        checked_task = policy.checked_task(task)
        return calibrations.get(checked_task.name) if calibrations else None

    def prompt(self, task: str | Task, row: Row, *, instruction: str | None = None) -> str:
        """Return the exact prompt of a row."""
        question = self._policies[None].checked_task(task).question(row, instruction=instruction)
        return str(self._prompts.prompt(question))

    def request(self, question: Question, space: Space | None = None, *, seed: int = 0) -> Request:
        """Return the request to the engine for a question. The request has the prompt's tokens.

        `space`: an answer space that replaces the question's own.
        """
        return self._prompts.request(question, space, seed=seed)

    def tokenize(self, prompt: str) -> list[int]:
        """Return a text's tokens.

        A BOS token comes first if the model expects one. Text is never read as a special token.
        """
        return self._prompts.tokenize(Prompt((prompt,), begin=True))

    def progress(self) -> tuple[bool, int]:
        """Return whether the engine has work, and how often it has called the model so far."""
        return self._driver.progress()

    def close(self) -> None:
        """Free the model. Unanswered requests fail with ClosedError. A second call does nothing."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _policy(self, adapter: str | None) -> AnswerPolicy:
        """Return the answer policy of an adapter. Raises UsageError if there is no such adapter."""
        return self._policies[None if adapter is None else checked_adapter(adapter, self.adapters)]

    def _submit(
        self, task: str | Task, row: Row | InputError, options: RequestOptions, *, more: bool = False
    ) -> tuple[Submission, Future[Answer]]:
        self._driver.check_open()
        check_options(options)
        started, deadline_ms = time.monotonic(), checked_deadline(options.get("deadline_ms"))
        policy = self._policy(options.get("adapter"))
        submission = policy.submission(task, row, options, prompts=self._prompts, request_of=self.request)
        future: Future[Answer] = Future()
        request = submission.request
        if request is None or submission.failure:
            future.set_result(policy.answer(submission))
            return submission, future
        request.ended = partial(policy.settle, submission, future)
        if deadline_ms is not None:
            expire = partial(policy.expire, submission, future, deadline_ms)
            withdraw = self._deadlines.add(started + deadline_ms / 1000, expire)
            future.add_done_callback(lambda _: withdraw())
        self._driver.submit(request, more=more)
        future.add_done_callback(lambda _: submission.cancel())
        return submission, future
