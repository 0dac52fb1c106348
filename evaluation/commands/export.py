"""Writes a tracker for other programs: `action=export`."""

import logging
from pathlib import Path
from time import perf_counter

from omegaconf import DictConfig
from rich.table import Table

from evaluation.commands.checkpoint_kinds import has_recipe
from evaluation.commands.evaluated_tracker import evaluated_trackers, named_checkpoints, only_tracker
from evaluation.commands.setup import console
from evaluation.errors import UserError
from evaluation.export.conversion.export_folder import Export, write_export
from evaluation.export.conversion.parity import PROTOCOL, Parity
from evaluation.export.huggingface import write_huggingface_folder
from evaluation.processes.invocation import Invocation
from evaluation.processes.shell_command import hydra_value
from evaluation.report.files_guide import command, display_path
from evaluation.report.formatting import wrapped
from evaluation.study.provenance import provenance
from trackers.base import Tracker
from trackers.exported import PRECISIONS

log = logging.getLogger(__name__)

HUGGINGFACE = "huggingface"


def export(cfg: DictConfig, invocation: Invocation) -> None:
    """Writes the tracker of `cfg.checkpoint` to `cfg.folder`, as `cfg.format` and `cfg.precision` say.

    Raises:
        UserError: the format or the precision is not known, there are several checkpoints, or the export differs from
            PyTorch by more than its precision allows.
        TrackerError: a package for the conversion is not installed, or the checkpoint cannot be loaded.
    """
    _check(cfg)
    folder = Path(cfg.folder)
    tracker = only_tracker(evaluated_trackers(cfg, invocation), "export")
    if cfg.format == HUGGINGFACE:
        if tracker.changes:
            raise UserError("format=huggingface writes the checkpoint as it is; leave the changes +tracker... out")
        written = write_huggingface_folder(tracker.cfg.checkpoint, folder)
        print(f"{display_path(written)}/  for load_tracker, and for a model hub")
        return
    source, file = tracker.read(), Path(tracker.cfg.checkpoint)
    assert isinstance(source, Tracker)  # see `_check`
    about = {
        "tracker": type(source).__name__,
        "recipe": tracker.reading["recipe"],
        "checkpoint": {"name": file.name, "sha256": tracker.identity},
        "made_with": provenance(),
        **{key: value for key, value in tracker.size().items() if key in ("params", "macs")},
    }
    log.info("converting %s to %s and comparing it with PyTorch", file.name, cfg.format)
    started = perf_counter()
    exported = write_export(source, folder, cfg.format, cfg.precision, about)
    seconds = perf_counter() - started
    print(f"\n{file.name} ({file.stat().st_size:,} bytes) for {cfg.format}, {cfg.precision}, in {seconds:.0f} s")
    console(80).print(_table(exported))
    print(f"{_boxes(exported.parity)}\n{wrapped(PROTOCOL)}\n\n{display_path(folder)}/  for load_tracker(folder)")
    if cfg.precision == "int8":
        print(wrapped("8-bit integers cost accuracy, and the presence keeps its fit: score the export on a benchmark"))
    print(f"next: {command('eval', f'checkpoint={hydra_value(display_path(folder))}')}")


def _check(cfg: DictConfig) -> None:
    formats = [*PRECISIONS, HUGGINGFACE]
    if cfg.format not in formats:
        raise UserError(f"format={cfg.format} is not known; choose one of {', '.join(formats)}")
    known = PRECISIONS.get(cfg.format, ("fp32",))
    if cfg.precision not in known:
        raise UserError(f"format={cfg.format} has no precision={cfg.precision}; choose one of {', '.join(known)}")
    for checkpoint in named_checkpoints(cfg.checkpoint).values():
        if not has_recipe(checkpoint):
            raise UserError(
                f"checkpoint={checkpoint} has no network to export; give a file of train.py or prune.py, or an "
                "official one"
            )


def _table(exported: Export) -> Table:
    """Returns the graphs with their sizes and the largest difference of an output."""
    table = Table("graph", "bytes", "outputs differ by")
    for name, size in exported.sizes.items():
        found = exported.parity.outputs.get(name, {})
        worst = f"{max(found.values()):.1e}" if found else "not asked for"
        table.add_row(name + " (integers)" * (name in exported.quantised), f"{size:,}", worst)
    table.add_row("all", f"{sum(exported.sizes.values()):,}", "", style="bold")
    return table


def _boxes(parity: Parity) -> str:
    """Returns the differences of boxes in words."""
    return wrapped(
        f"{parity.frames} rendered frames: boxes differ by at most {parity.pixels:.2g} pixels, overlap "
        f"{parity.overlap:.4f}; free {parity.free_pixels:.2g} pixels, overlap {parity.free_overlap:.4f}."
    )
