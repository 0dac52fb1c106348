"""Messages about keys that a configuration does not have."""

from hydra.core.override_parser.types import Override

from evaluation.command_line.script_keys import ScriptKeys
from evaluation.command_line.suggestions import did_you_mean

# What to do instead of a key that eval.py does not have.
INSTEAD = {"trainer": "device=cuda scores on a GPU", "datamodule": "benchmark=NAME chooses what is scored"}

# Words of other projects, and what does the same here.
ELSEWHERE = {
    "lr": "stages.child.lr_scale=0.5 multiplies the rate of the recipe",
    "epochs": "stages.child.steps=1000 sets the length of a stage",
    "max_epochs": "stages.child.steps=1000 sets the length of a stage",
    "gpus": "trainer=gpu trains on one GPU, trainer=ddp on all",
    "gpu": "trainer=gpu trains, scores and times on a GPU",
    "output": "hydra.run.dir=FOLDER is the folder of the job",
    "output_dir": "hydra.run.dir=FOLDER is the folder of the job",
    "camera": "eval.py action=video source=0 follows an object in the picture of a camera",
    "dataset": "datamodule=NAME trains on a data set, benchmark=NAME scores on one",
    "model": "tracker=NAME chooses the tracker of train.py, checkpoint=FILE that of prune.py and eval.py",
    "weights": "checkpoint=FILE names the weights",
    "method": "pruning=NAME chooses the method",
    "sparsity": "ratio=0.25 is the fraction that is kept",
}


def describe_key(override: Override, keys: ScriptKeys) -> str:
    """Returns words about an override of a key that does not exist, or about an addition of one that does; else ""."""
    key, line = override.key_or_group, str(override.input_line)
    if override.is_force_add():
        return ""
    if override.is_add():
        value = override.value()
        if keys.has(key) and not isinstance(value, dict | list) and not key.startswith("hydra."):
            return f"{key} is there already; write {line[1:]}"
        return ""
    if keys.has(key):
        return ""
    if key.startswith("hydra.launcher."):
        return f"this launcher has no {key.rpartition('.')[2]}; choose another one, e.g. hydra/launcher=joblib"
    return describe_foreign(override, keys)


def describe_foreign(override: Override, keys: ScriptKeys) -> str:
    """Returns words about a key or a group that the script does not have."""
    key, line, script = override.key_or_group, str(override.input_line), f"{keys.script}.py"
    section = key.split(".")[0].split("/")[0]
    if section == "tracker" and keys.script != "train":
        if "." in key:
            return f"the recipe of the tracker comes with the checkpoint; a + changes it: +{line}"
        return (
            f"the tracker comes with the checkpoint, so {script} takes no {line}; leave it out. "
            "A + changes its recipe, e.g. +tracker.online.min_size=4"
        )
    others = keys.others_with(section) if section not in keys.tree else []
    if others:
        have = f"{' and '.join(others)} {'have' if len(others) > 1 else 'has'}"
        return f"{script} has no {section}, {have}; {INSTEAD.get(section, f'leave {line} out')}"
    if key in ELSEWHERE:
        return f"{script} has no key {key}; {ELSEWHERE[key]}"
    return f"{script} has no key {key}; {did_you_mean(key, keys.all()) or f'python {script} --cfg job prints all keys'}"
