"""What a row shares with others: the prefix of its prompt that is in memory, or will be read once for several rows."""

from __future__ import annotations

from ecellm_lite.engine.admission import RESERVE, Admission
from ecellm_lite.engine.interface import Backend
from ecellm_lite.engine.prefix_files import PrefixFiles
from ecellm_lite.engine.prefixes import Match, Prefixes
from ecellm_lite.engine.request import Request
from ecellm_lite.engine.waiting import Waiting

# What rows share beyond their instruction is not worth a sequence of its own if that saves fewer tokens.
LEAST_SAVING = 32


class Sharing:
    """Finds the prefix that a row forks from, and adds to the tree what the rows behind it will share.

    Instructions are loaded from `files`, where there are any. `grouped`: rows share more than their instruction.
    """

    def __init__(
        self,
        backend: Backend,
        prefixes: Prefixes,
        waiting: Waiting,
        admission: Admission,
        *,
        deterministic: bool,
        grouped: bool,
        files: PrefixFiles | None,
    ) -> None:
        self._backend = backend
        self._prefixes = prefixes
        self._waiting = waiting
        self._admission = admission
        self._deterministic = deterministic
        self._grouped = grouped
        self._files = files

    def find(self, request: Request) -> Match:
        """Return the longest prefix of the prompt that is in memory, or is about to be."""
        match = self._prefixes.find(request.prompt)
        if not self._deterministic:
            return match
        # Only the same tokens read in the same call are the same to the bit.
        if match.prefix and len(match.prefix.tokens) == match.length == request.instruction:
            return match
        self._backend.clear()
        self._prefixes.forget()
        return Match()

    def extended(self, request: Request, match: Match) -> Match:
        """Return the match with nodes behind it for what others will share: the instruction, and what neighbours do."""
        prompt = request.prompt
        instruction = request.instruction
        if instruction > match.length:
            match = self._prefixes.add(prompt[:instruction], match, instruction=request.lasting)
            if self._loaded(request, match):
                request.cached = instruction
        while self._grouped and not self._admission.retrying:
            # Of the beginnings that it shares with the rows behind it, the one that saves the most tokens.
            saved, length = max(
                (
                    ((tokens - match.length) * (rows - 1), tokens)
                    for tokens, rows in self._waiting.sharing(prompt, match.length)
                    if tokens < len(prompt)
                ),
                default=(0, 0),
            )
            longer = self._prefixes.add(prompt[:length], match) if saved >= LEAST_SAVING else match
            if longer.length == match.length:
                break
            match = longer
        return match

    def save(self) -> None:
        """Keep the instructions that were read since the last call in files."""
        if self._files:
            for node in self._prefixes.unsaved():
                if state := self._backend.save(node.sequence):
                    self._files.write(node.tokens, state)

    def _loaded(self, request: Request, match: Match) -> bool:
        """Whether the instruction's node, which is new, could be filled from a file."""
        node = match.prefix
        if not self._files or not node or not node.instruction or node.begun:
            return False
        # What is loaded shares no cells with other nodes.
        if node.origin.length + len(request.prompt) - match.length + RESERVE > self._admission.room:
            return False
        # One that does not load is written anew when the node has been filled.
        state = self._files.read(node.tokens)
        return state is not None and self._prefixes.load(node, state)
