"""The source of a job's parent: a checkpoint, the pretrained backbone of a library, or random weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import ListConfig

from evaluation.errors import UserError
from evaluation.study.stage_record import hash_file
from trackers.checkpoints.checkpoint import PRETRAINED
from trackers.checkpoints.reading import read_header
from trackers.contents import CheckpointContents


@dataclass(frozen=True)
class ParentSource:
    """The source of a parent: the parent itself, or the start of its training. The header of a file is read once.

    Attributes:
        checkpoint: a file; "pretrained" for the pretrained backbone of its library; None for fresh weights.
        identity: key of the source in the cache: the hash of a file's content, "pretrained" or None.
        header: content of the file without its weights; None for other sources.
    """

    checkpoint: str | None
    identity: str | None
    header: CheckpointContents | None = None

    @classmethod
    def from_checkpoint(cls, checkpoint: str | Path | None) -> "ParentSource":
        """Returns the source that the configuration key `checkpoint` names.

        Raises:
            CheckpointError: the file does not exist or is not a checkpoint.
            UserError: the key holds a list.
        """
        if isinstance(checkpoint, list | ListConfig):
            raise UserError(f"checkpoint={checkpoint} names several files; sweep over them: -m checkpoint=FILE,FILE")
        if checkpoint is None or str(checkpoint) == PRETRAINED:
            name = None if checkpoint is None else PRETRAINED
            return cls(name, name)
        header = read_header(checkpoint)
        return cls(str(checkpoint), hash_file(checkpoint), header)

    @property
    def is_file(self) -> bool:
        """Whether the source is a file."""
        return self.header is not None

    @property
    def is_whole(self) -> bool:
        """Whether the file holds a whole tracker, so that no weight of the parent is drawn at random."""
        return self.recipe is not None

    @property
    def recipe(self) -> dict[str, Any] | None:
        """The recipe in the file, if there is one."""
        return self.header.recipe if self.header else None
