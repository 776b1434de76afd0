"""Trains a LoRA adapter on a base model, and saves checkpoints."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    get_peft_model,
    get_peft_model_state_dict,
    load_peft_weights,
    set_peft_model_state_dict,
)
from torch.nn import functional
from transformers import DynamicCache

from ecellm_lite.errors import ModelError, UsageError
from ecellm_lite.models.files import sha256_of, write_json
from ecellm_lite.training.adapter_folder import half_weights, write_adapter
from ecellm_lite.training.checkpoint import read_checkpoint, reading, write_checkpoint
from ecellm_lite.training.lesson_batches import batches, parts, shared_tokens
from ecellm_lite.training.lessons import VALIDATION, Lesson, Lessons
from ecellm_lite.training.merged_llama import MergedLlama
from ecellm_lite.training.recipe import MATRICES, Recipe
from ecellm_lite.training.validation import Validation

EVERY = 25  # steps between two points of the loss curve, and between two checkpoints


def is_merged(recipe: Recipe, device: str) -> bool:
    """Return whether each training step computes with a copy of the base that has the adapter merged into it.

    This is faster on a CPU. It is not done on other devices or with dropout.
    """
    return device == "cpu" and not recipe.dropout


class Learning:
    """A training run. `folder` holds its checkpoint, its curves and the best adapter so far.

    `batches` has the lessons (training examples) of each step.

    Each lesson was made for one numbered pass over the training rows. The run learns from the lessons of `passes`
    consecutive passes, beginning with pass `first_pass` (counted from 0). By default, it continues to the last pass
    that there are lessons for. Raises UsageError if there are no lessons for one of these passes, or if `passes` is
    less than 1.

    `base_sha256`: the hash of the base's file. A checkpoint of another base cannot be resumed.
    """

    def __init__(
        self,
        base: Any,
        lessons: Lessons,
        recipe: Recipe,
        folder: Path,
        *,
        first_pass: int = 0,
        passes: int | None = None,
        device: str = "cpu",
        base_sha256: str | None = None,
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.device = device
        settings = LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=recipe.dropout,
            target_modules=list(MATRICES),
            task_type="CAUSAL_LM",
        )
        merges = is_merged(recipe, device)
        # The adapter stays in 32 bits, so that small steps add up. Merged weights are rounded only within a product.
        frozen = base.to(device=device, dtype=torch.bfloat16 if recipe.bfloat16 and not merges else torch.float32)
        self.model = get_peft_model(frozen, settings, autocast_adapter_dtype=True)
        self._merged = MergedLlama(self.model) if merges else None
        # "medium" computes products of 32-bit numbers in bfloat16 if the CPU has instructions for it.
        torch.set_float32_matmul_precision("medium" if recipe.bfloat16 else "highest")
        self.recipe = recipe
        self.folder = folder
        self._lessons = lessons
        last = lessons.passes if passes is None else first_pass + passes
        if not first_pass < last <= lessons.passes:
            raise UsageError(
                f"The lessons have {lessons.passes} passes, and no pass {max(last, first_pass + 1)}",
                step="make lessons with more passes, or train on fewer",
                settings=("passes", "first_pass"),
            )
        self._first_pass = first_pass
        self._base = base_sha256
        self.batches: list[list[Lesson]] = []
        self._pass_ends: set[int] = set()
        for number, turn in enumerate(range(first_pass, last)):
            # The order depends only on the pass, not on the step from which the training resumes.
            self.batches += batches(lessons.of(turn), recipe.rows, Random(recipe.seed + number))  # noqa: S311
            self._pass_ends.add(len(self.batches))
        tokens = [lesson.tokens for batch in self.batches for lesson in batch]
        self._digest = hashlib.sha256(json.dumps(tokens).encode()).hexdigest()
        self._learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(self._learning, lr=recipe.rate, weight_decay=0.0, fused=device == "cuda")
        self.step = 0
        self._start: str | None = None  # the hash of the trained adapter that the run starts from
        self.best = -math.inf
        self.losses: list[dict[str, float]] = []
        self.validations: list[dict[str, Any]] = []

    @property
    def steps(self) -> int:
        """The number of steps of the whole training run."""
        return len(self.batches)

    def run(self, *, until: int | None = None, report: Callable[[str], None] = print) -> None:
        """Learn up to the step `until`, or to the end.

        A checkpoint is written after every `EVERY` steps, after each pass, and at the end. The adapter is validated
        after each pass, and the best one is kept. If the run starts from an older adapter (`start_from`), that adapter
        is validated first.

        Raises UsageError if the adapter's weights become infinite. This can happen if the learning rate is too high.
        """
        end = self.steps if until is None else min(until, self.steps)
        if self._start and self.step == 0 and self._lessons.of(VALIDATION):
            self._validate(report)
        started, since = time.monotonic(), self.step
        recent: list[float] = []
        while self.step < end:
            recent.append(self._learn(self.batches[self.step]))
            self.step += 1
            if self.step % EVERY == 0 or self.step == end or self.step in self._pass_ends:
                point = {"step": self.step, "loss": round(sum(recent) / len(recent), 5)}
                self.losses.append(point)
                rate = (self.step - since) / (time.monotonic() - started)
                report(f"step {self.step} of {self.steps}: loss {point['loss']:.3f}, {rate:.2f} steps/s")
                recent = []
                half_weights(self.model)  # refuses weights that have diverged, before they are kept
                if self.step in self._pass_ends:
                    self._validate(report)
                self.save()

    def save(self) -> None:
        """Write two files: `checkpoint.pt`, from which `resume` continues, and the learning curves."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step,
            "adapter": get_peft_model_state_dict(self.model, save_embedding_layers=False),
            "optimizer": self._optimizer.state_dict(),
            "best": self.best,
            "curves": self._curves(),
        }
        write_checkpoint(self.folder / "checkpoint.pt", state)
        write_json(self.folder / "curves.json", self._curves())

    def resume(self) -> None:
        """Continue from the folder's checkpoint if there is one.

        Raises UsageError if the checkpoint is from another training run (see `read_checkpoint`), and ModelError if it
        is damaged.
        """
        path = self.folder / "checkpoint.pt"
        if path.is_file():
            with reading(path):
                state = read_checkpoint(path, self._curves(), self.device)
                set_peft_model_state_dict(self.model, state["adapter"])
                self._optimizer.load_state_dict(state["optimizer"])
                self.step, self.best = state["step"], state["best"]
                self.losses, self.validations = state["curves"]["losses"], state["curves"]["validations"]
                self._start = state["curves"].get("start")

    def start_from(self, folder: Path) -> None:
        """Start from the weights of the trained adapter in a folder.

        Raises ModelError if there is no adapter, or if its rank, alpha or matrices differ from this run's.
        """
        if not all((folder / name).is_file() for name in ("adapter_config.json", "adapter_model.safetensors")):
            raise ModelError(
                f"{folder} has no adapter", step="give the folder of adapter_model.safetensors and its config"
            )
        trained = PeftConfig.from_pretrained(str(folder))
        shape = (trained.r, trained.lora_alpha, {*trained.target_modules})
        if shape != (self.recipe.rank, self.recipe.alpha, {*MATRICES}):
            raise ModelError(
                f"The adapter in {folder} has rank {trained.r} and alpha {trained.lora_alpha} on "
                f"{len(trained.target_modules)} matrices",
                step=f"train with the adapter's own rank and alpha; it must be one of {', '.join(MATRICES)}",
                settings=("rank", "alpha"),
            )
        set_peft_model_state_dict(self.model, load_peft_weights(str(folder), device=self.device))
        self._start = sha256_of(folder / "adapter_model.safetensors")

    def _learn(self, batch: Sequence[Lesson]) -> float:
        """Take one step on a batch, and return the loss: the mean of -log(probability of the answer) over the batch."""
        torch.manual_seed(self.recipe.seed + self.step)  # dropout depends on the step alone, so a resume repeats it
        self.model.train()
        self._merge()
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.step, self.steps)
        total = 0.0
        for part in parts(sorted(batch, key=lambda lesson: [*lesson.tokens]), self.recipe.tokens):
            states = self._answer_states(part)
            labels = torch.tensor([token for lesson in part for token in lesson.tokens[-lesson.answer :]])
            logits = self._output(states)
            losses = functional.cross_entropy(logits.float(), labels.to(self.device), reduction="none")
            weights = [lesson.answer**-self.recipe.length_penalty for lesson in part for _ in range(lesson.answer)]
            (losses @ torch.tensor(weights, device=self.device) / len(batch)).backward()
            total += float(losses.detach().sum()) / len(batch)
        torch.nn.utils.clip_grad_norm_(self._learning, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total

    def _merge(self) -> None:
        if self._merged:
            self._merged.merge()

    def _answer_states(self, part: Sequence[Lesson]) -> Any:
        """Return the hidden states that predict the answers' tokens: (tokens, width), lesson after lesson.

        If all lessons begin with the same tokens, such as an instruction, these tokens are computed once.
        """
        if self._merged:
            return self._merged.answer_states(part)
        shared = shared_tokens(part)
        longest = max(len(lesson.tokens) for lesson in part) - shared
        tokens = torch.zeros(len(part), longest, dtype=torch.int64)
        places = torch.zeros(len(part), longest, dtype=torch.bool)
        for row, lesson in enumerate(part):
            own = lesson.tokens[shared:]
            tokens[row, : len(own)] = torch.tensor(own)
            places[row, len(own) - lesson.answer - 1 : len(own) - 1] = True
        model, cache = self.model.base_model.model.model, None
        # Padding comes last, and causal attention never looks ahead, so no mask is needed.
        with torch.autocast(self.device, torch.bfloat16, enabled=self.recipe.bfloat16):
            if shared:
                cache = DynamicCache()
                # The cache is an argument by place, because its name differs between versions of transformers.
                model(torch.tensor([part[0].tokens[:shared]], device=self.device), None, None, cache, use_cache=True)
                cache.batch_repeat_interleave(len(part))
            states = model(tokens.to(self.device), None, None, cache, use_cache=cache is not None)
        return states.last_hidden_state[places.to(self.device)]

    def _neighbors(self, lesson: Lesson) -> Any:
        """Return a key to sort held-out lessons by, so that similar lessons are computed together."""
        return [*lesson.tokens] if self._merged else len(lesson.tokens)

    def _output(self, states: Any) -> Any:
        return functional.linear(states.to(self._embedding.dtype), self._embedding)

    @property
    def _embedding(self) -> Any:
        return self.model.base_model.model.model.embed_tokens.weight

    def _validate(self, report: Callable[[str], None]) -> None:
        lessons = self._lessons.of(VALIDATION)
        if not lessons:  # without validation, keep the last adapter
            self._keep()
            return
        validation = Validation()
        self.model.eval()
        self._merge()
        with torch.inference_mode():
            for part in parts(sorted(lessons, key=self._neighbors), self.recipe.tokens):
                logits = self._output(self._answer_states(part)).float().cpu()
                first = 0
                for lesson in part:
                    validation.add(lesson, logits[first : first + lesson.answer].numpy())
                    first += lesson.answer
        result = validation.result()
        self.validations.append({"step": self.step, **result})
        report(f"step {self.step}: {result['score']:.4f}  {json.dumps(result['tasks'])}")
        if result["score"] > self.best:
            self.best = result["score"]
            self._keep()

    def _keep(self) -> None:
        """Write the adapter into the training's folder."""
        write_adapter(self.model, self.folder / "adapter")

    def _curves(self) -> dict[str, Any]:
        return {
            "recipe": asdict(self.recipe),
            "steps": self.steps,
            "first_pass": self._first_pass + 1,
            "passes": len(self._pass_ends),
            "lessons": self._digest,
            "base": self._base,
            "start": self._start,
            "losses": self.losses,
            "validations": self.validations,
        }
