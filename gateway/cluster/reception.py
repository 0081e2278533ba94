"""Puts the messages of a stream's owner together again: frames in order, and none that cannot be decoded."""

from __future__ import annotations

from gateway.cluster.wire import MAX_FRAME, BadMediaMessage, Held, Message, MessageKind, decode, decode_frame
from gateway.media.frames import AccessUnit, Frame

MAX_EARLY_BYTES = 8 << 20
MAX_EARLY_MESSAGES = 1_000
"""Limits of what is kept until the owner has answered; beyond them all of it is dropped."""


class FrameReception:
    """What has come of one stream.

    `join` begins with the owner's answer, which holds the pictures since its last key frame; `take` goes on
    with its messages, also with those that came before the answer. Where messages are missing, pictures wait
    for the next key frame, and sound goes on. Of two owners the one with the higher epoch counts.
    """

    def __init__(self) -> None:
        self.joined = False
        """Whether the owner has answered, and its stream goes on."""
        self.waits_for_key = False
        """Whether pictures wait for a key frame; only of use while it is joined."""
        self.news = False
        """An owner began, ended or took the place of another: ask anew. Set back by who asks."""
        self.began = 0
        """How often an owner said that it has the stream now."""
        self.gaps = 0
        """How often messages were missing."""
        self.frames_skipped = 0
        """Pictures that came whole and could not be decoded without those that are missing."""
        self.bad = 0
        """Messages and frames that could not be read."""
        self.epoch = 0
        """The highest seen; 0 before the first."""
        self._next = 0
        self._pieces: list[memoryview] = []
        self._pieces_size = 0
        self._early: list[Message] = []
        self._early_size = 0

    def join(self, held: Held) -> list[Frame] | None:
        """Begin with the owner's answer. Returns the frames to go on with; None for an owner of the past."""
        if held.epoch < self.epoch:
            return None
        if held.epoch > self.epoch:
            self._leave(held.epoch)
        early = self._early
        self._leave(held.epoch)
        self.joined, self.news = True, False
        self.waits_for_key = not held.frames
        self._next = held.sequence
        followed = [self._follow(message) for message in early]
        return [*held.frames, *(frame for frame in followed if frame is not None)]

    def forget(self) -> None:
        """Begin anew with whoever answers next, though its epoch be lower."""
        self._leave(0)
        self.news = False

    def take(self, data: bytes) -> Frame | None:
        """Take one message as it came. Returns the frame that it completes."""
        try:
            message = decode(data)
        except BadMediaMessage:
            self.bad += 1
            return None
        if message.epoch < self.epoch:
            return None
        if message.epoch > self.epoch:
            self._leave(message.epoch)
            self.news = True
        if message.kind is MessageKind.BEGAN:
            self.news = True
            self.began += 1
        elif message.kind is MessageKind.ENDED:
            self._leave(message.epoch)
            self.news = True
        elif self.joined:
            return self._follow(message)
        else:
            self._keep(message)
        return None

    def _leave(self, epoch: int) -> None:
        """Wait for the answer of this epoch's owner."""
        self.epoch = epoch
        self.joined = False
        self._early, self._early_size = [], 0
        self._drop_pieces()

    def _keep(self, message: Message) -> None:
        if len(self._early) >= MAX_EARLY_MESSAGES or self._early_size + message.size > MAX_EARLY_BYTES:
            self._early, self._early_size = [], 0
        self._early.append(message)
        self._early_size += message.size

    def _follow(self, message: Message) -> Frame | None:
        if message.sequence < self._next:
            return None  # it came twice, or is in the answer
        if message.sequence > self._next:
            self._miss()
        self._next = message.sequence + 1
        if message.kind is MessageKind.FRAME:
            return self._frame(message.body)
        if message.kind is MessageKind.FIRST:
            self._drop_pieces()
        elif not self._pieces:
            return None
        self._pieces.append(message.body)
        self._pieces_size += message.size
        if self._pieces_size > MAX_FRAME:
            self._miss()
        elif message.kind is MessageKind.LAST:
            body = memoryview(b"".join(self._pieces))
            self._drop_pieces()
            return self._frame(body)
        return None

    def _frame(self, body: memoryview) -> Frame | None:
        try:
            frame = decode_frame(body)
        except BadMediaMessage:
            self.bad += 1
            self.waits_for_key = True
            return None
        if isinstance(frame, AccessUnit):
            if frame.key:
                self.waits_for_key = False
            elif self.waits_for_key:
                self.frames_skipped += 1
                return None
        return frame

    def _miss(self) -> None:
        self.gaps += 1
        self.waits_for_key = True
        self._drop_pieces()

    def _drop_pieces(self) -> None:
        self._pieces, self._pieces_size = [], 0
