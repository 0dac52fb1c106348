import atexit

import pytest
from hydra import compose, initialize

from evaluation.processes.own_folder import OwnFolder


def compose_train(*overrides):
    with initialize("../../../conf", version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


@pytest.mark.parametrize(("mode", "start"), [("run", "on_run_start"), ("sweep", "on_multirun_start")])
def test_two_commands_of_one_second_get_two_folders(tmp_path, mode, start):
    pattern = rf"hydra.{mode}.dir='{tmp_path}/it\'s = ${{now:%Y}}'"
    configs = [compose_train(pattern) for _ in range(3)]
    folders = []
    for config in configs:
        getattr(OwnFolder(), start)(config)
        folders.append(config.hydra[mode].dir)
        again = compose_train(*config.hydra.overrides.hydra)  # as each job of a sweep does
        assert again.hydra[mode].dir == config.hydra[mode].dir
    assert folders[1:] == [f"{folders[0]}_2", f"{folders[0]}_3"]


def test_a_folder_that_the_command_names_is_continued(tmp_path):
    (tmp_path / "mine").mkdir()
    config = compose_train(f"hydra.run.dir={tmp_path}/mine")
    OwnFolder().on_run_start(config)
    assert config.hydra.run.dir == str(tmp_path / "mine")


@pytest.mark.parametrize("rank", ["RANK", "SLURM_PROCID", "NODE_RANK"])
def test_other_processes_of_a_job_have_no_folder_beside_that_of_the_first(tmp_path, monkeypatch, rank):
    monkeypatch.setenv(rank, "1")
    config, named = compose_train(f"paths.outputs={tmp_path}"), compose_train(f"hydra.run.dir={tmp_path}/mine")
    temporary = []
    monkeypatch.setattr(atexit, "register", lambda delete, folder, **_: temporary.append(folder))
    for each in (config, named):
        OwnFolder().on_run_start(each)
    assert [config.hydra.run.dir] == list(map(str, temporary))
    assert named.hydra.run.dir == f"{tmp_path}/mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    temporary[0].rmdir()


@pytest.mark.parametrize("named", [False, True])
def test_a_folder_that_cannot_be_created_ends_the_command_with_one_line(tmp_path, named):
    (tmp_path / "taken").write_text("a file")
    config = compose_train(f"hydra.run.dir={tmp_path}/taken" if named else f"paths.outputs={tmp_path}/taken")
    with pytest.raises(SystemExit, match=rf"^error: .*{tmp_path}/taken"):
        OwnFolder().on_run_start(config)
