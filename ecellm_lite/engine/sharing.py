"""Finds the prefix that a row shares with other rows, so that the model reads this prefix only once."""

from __future__ import annotations

from ecellm_lite.engine.admission import RESERVE, Admission
from ecellm_lite.engine.interface import Backend
from ecellm_lite.engine.prefix_files import PrefixFiles
from ecellm_lite.engine.prefixes import LEAST_SAVING, Match, Prefixes
from ecellm_lite.engine.request import Request
from ecellm_lite.engine.turns import Turns


class Sharing:
    """Finds the part of a row's prompt that is already in memory, and keeps parts that later rows will share.

    `files`: the files of saved instructions. An instruction in a file is loaded, so the model need not read it.
    `grouped`: whether rows may share more than their instruction.
    `alone`: whether rows run one at a time. The model then reads every prompt in two parts: first the instruction, then
      everything after it.
    """

    def __init__(
        self,
        backend: Backend,
        prefixes: Prefixes,
        waiting: Turns,
        admission: Admission,
        *,
        alone: bool,
        grouped: bool,
        files: PrefixFiles | None,
    ) -> None:
        self._backend = backend
        self._prefixes = prefixes
        self._waiting = waiting
        self._admission = admission
        self._alone = alone
        self._grouped = grouped
        self._files = files

    def find(self, request: Request) -> Match:
        """Return the longest prefix of the prompt that is in memory or is being read.

        If rows run one at a time, only the instruction may be shared: if the prefix is anything else, clear the memory
        and return an empty Match.
        """
        match = self._prefixes.find(request.prompt, request.adapter)
        if not self._alone:
            return match
        # Results are bit-identical only if the same tokens are read in the same call.
        if match.prefix and len(match.prefix.tokens) == match.length == request.instruction:
            return match
        self._backend.clear()
        self._prefixes.forget()
        return Match()

    def extended(self, request: Request, match: Match) -> Match:
        """Add the beginning of a request's prompt to the prefix tree, below `match`, so that other requests share it.

        The instruction becomes the first node. If waiting requests share more text, this text follows in further nodes.
        Return the match with the last node, or `match` if no node was added.
        """
        prompt = request.prompt
        instruction = request.instruction
        if instruction > match.length:
            match = self._prefixes.add(
                prompt[:instruction], match, instruction=request.storable, adapter=request.adapter
            )
            if self._load(request, match):
                request.cached = instruction
        while self._grouped and not self._admission.retrying:
            # Of the prefixes shared with rows that wait, take the one that saves the most tokens.
            saved, length = max(
                (
                    ((tokens - match.length) * (rows - 1), tokens)
                    for tokens, rows in self._waiting.sharing(prompt, match.length)
                    if tokens < len(prompt)
                ),
                default=(0, 0),
            )
            if saved < LEAST_SAVING:
                break
            longer = self._prefixes.add(prompt[:length], match, adapter=request.adapter)
            if longer.length == match.length:
                break
            match = longer
        return match

    def save(self) -> None:
        """Write each instruction's state to a file, unless it has been written already."""
        if self._files:
            for node in self._prefixes.unsaved():
                if state := self._backend.save(node.sequence):
                    self._files.write(node.tokens, state, node.adapter)

    def _load(self, request: Request, match: Match) -> bool:
        """Load a saved state of the instruction from a file, so that the model need not read the instruction.

        Return False if there is no such file, or too little memory.
        """
        node = match.prefix
        if not self._files or not node or not node.instruction or node.begun:
            return False
        # A loaded state shares no cells with other nodes.
        if node.origin.length + len(request.prompt) - match.length + RESERVE > self._admission.room:
            return False
        # If a state does not load, it is computed and written again.
        state = self._files.read(node.tokens, node.adapter)
        return state is not None and self._prefixes.load(node, state)
