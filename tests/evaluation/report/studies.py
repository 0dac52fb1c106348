"""Made-up results of jobs, for tests of the report."""

import csv
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from datamodules.readers import read_got10k
from evaluation.tracking.result_files import save_track

FASTER = {"ratio": 1.47, "low": 1.42, "high": 1.52, "noise": {"ratio": 1.0, "low": 0.99, "high": 1.01}, "rounds": 50}


def job(tracker: str = "ostrack", ratio: float = 0.5, method: str = "slim", seed: int = 42, ao: float = 0.4) -> dict:
    """Returns the result of a finished job whose parent has AO 0.5."""

    def measured(share: float, score: float) -> dict:
        return {
            "params": int(700_000 * share),
            "macs": {"total": int(9e7 * share), "parts": {"backbone": int(6e7 * share), "head": int(3e7 * share)}},
            "metrics": {
                "synthetic": {"protocol": "GOT-10k", "AO": score, "SR0.5": score, "sequences": 20, "frames": 1180}
            },
            "latency": {"cpu": {"ms": 2 + 7 * share, "threads": 2, "runs": 50, "protocol": "median of 50 forwards"}},
        }

    return {
        "job": f"{tracker}-{method}-{ratio:g}-{seed}",
        "status": "finished",
        "folder": f"jobs/{tracker}-{ratio:g}",
        "tracker": tracker,
        "scale": "tiny",
        "ratio": ratio,
        "ratio_of": "params",
        "method": method,
        "seed": seed,
        "ratio_achieved": ratio,
        "achieved": {"params": ratio, "macs": ratio},
        **measured(ratio, ao),
        "units": {
            "blocks.0.attn": {"kind": "attention", "kept": int(96 * ratio), "size": 96},
            "blocks.0.mlp": {"kind": "mlp", "kept": 0, "size": 384},
        },
        "still_box": {"synthetic": {"protocol": "GOT-10k", "AO": 0.2, "SR0.5": 0.1}},
        "parent": measured(1, 0.5),
        "retention": {"synthetic": {"AO": ao / 0.5, "SR0.5": ao / 0.5}},
        "masked_vs_compacted": 3e-7,
        "seconds": {"parent": "cached", "child": 50.0, "evaluation": 12.0},
        "versions": {"torch": "2.15.0"},
        "config_hash": "ab12cd34",
        "command": "train.py",
    }


def dense(**changes) -> dict:
    """Returns the result of a finished job of a parent alone, with AO 0.5."""
    return {key: value for key, value in job(ratio=1, ao=0.5, **changes).items() if key not in ("parent", "retention")}


def with_ends(
    result: dict,
    child: tuple[float, float] = (0.35, 0.45),
    retention: tuple[float, float] = (0.7, 0.9),
    parent: tuple[float, float] = (0.45, 0.55),
) -> dict:
    """Returns the result with these intervals of AO."""

    def of(pair: tuple[float, float]) -> dict:
        return {"synthetic": {"AO": dict(zip(("low", "high"), pair, strict=True))}}

    more = {"intervals": of(child), "retention_intervals": of(retention)}
    return result | more | {"parent": result["parent"] | {"intervals": of(parent)}}


def with_intervals(result: dict, folder: Path | None = None, sequences: int = 20) -> dict:
    """Returns the result with intervals and a paired speed-up, and writes its `sequences.csv` below `folder`.

    A sequence's overlap lies around the score of the tracker, further for later sequences, and differs between seeds.
    """
    around = np.linspace(-0.1, 0.1, sequences)
    scores = {"AO": result["metrics"]["synthetic"]["AO"] + around + 0.01 * result["seed"] * around[::-1]}
    child = result["ratio"] < 1
    if child:
        scores["parent AO"] = result["parent"]["metrics"]["synthetic"]["AO"] + around[::-1]
    if folder is not None:
        file = folder / result["folder"] / "sequences.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        names = [f"Video_{index:03}" for index in range(sequences)]
        with file.open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["benchmark", "sequence", "frames", "fps", "lost_at", "weight", *scores])
            for index, row in enumerate(zip(names, *scores.values(), strict=True)):
                writer.writerow(["synthetic", row[0], 60, 120, 7 if index == 0 else "", 1, *row[1:]])

    def ends(value: float) -> dict:
        return {"low": value - 0.05, "high": value + 0.05}

    def intervals(measured: dict) -> dict:
        return {"intervals": {"synthetic": {m: ends(measured["metrics"]["synthetic"][m]) for m in ("AO", "SR0.5")}}}

    result = result | intervals(result) | {"interval_protocol": "95 % bootstrap over sequences", "speedup": {}}
    if child:
        ratio = 0.5 + 0.5 / result["ratio"]
        noise = {"ratio": 1.0, "low": 0.98, "high": 1.03}
        result |= {
            "parent": result["parent"] | intervals(result["parent"]),
            "retention_intervals": {"synthetic": {m: ends(r) for m, r in result["retention"]["synthetic"].items()}},
            "speedup": {"cpu": {"ratio": ratio, **ends(ratio), "noise": noise, "rounds": 50, "protocol": "in turns"}},
        }
    return result


def with_tracks(study: list[dict], folder: Path, got10k: Path) -> list[dict]:
    """Writes the configuration and the boxes of each job below the study's `folder`, and returns the results.

    The boxes drift away from the target, further at smaller ratios and on later sequences.
    """
    for result in study:
        place = folder / result["folder"]
        place.mkdir(parents=True, exist_ok=True)
        benchmark = {
            "_target_": "evaluation.tracking.benchmark.Benchmark",
            "name": "synthetic",
            "sequences": {"_target_": "datamodules.readers.read_got10k", "root": str(got10k), "split": "val"},
            "protocols": [],
        }
        OmegaConf.save({"benchmark": benchmark}, place / "config.yaml")
        for index, sequence in enumerate(read_got10k(got10k, "val")):
            drift = (1 - result["ratio"]) * index * np.arange(len(sequence))[:, None] * (1, 0.5, 0, 0)
            save_track(place / "boxes" / "synthetic", sequence, sequence.boxes + drift, np.full(len(sequence), 0.1))
    return study
