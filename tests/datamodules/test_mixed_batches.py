"""Batches of rendered scenes and samples of data sets, and the simulated camera on crops of real pictures."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as L
import torch

from datamodules.augmentation import Augmentation, LabelledCrop
from datamodules.crop_camera import apply_cameras, draw_crop_cameras, plan_cameras
from datamodules.errors import DataError
from datamodules.module import TrackingDataModule
from datamodules.readers import read_got10k
from datamodules.sampling import FrameSampler
from datamodules.scenes import BankSpec, PhotoRealism, SceneSource
from datamodules.sources import Source
from trackers.crops import CropSpec

PLAIN = Augmentation(gray=0, flip=0.5, flip_each=0.5, brightness=0)
SAMPLER = FrameSampler("causal", 0.0, max_gap=200, min_frames=5, min_visible=3)
SMALL = BankSpec(objects=8, backdrops=8, object_size=16, height=24, width=32, seed=0)
TEMPLATE, SEARCH = CropSpec(24, 2.0, count=2), CropSpec(48, 4.0, 2.0, 0.2)


@pytest.fixture(scope="module")
def build(got10k, tmp_path_factory):
    """`build(scenes=0.5, real=0.5)` returns a module of small batches with these weights."""
    cache = str(tmp_path_factory.mktemp("bank"))

    def make(scenes=1.0, real=1.0, look=None, sampler=SAMPLER, template=TEMPLATE, split="train", **changes):
        given = {"batch_size": 8, "samples_per_epoch": 24, "val_samples": 0, "workers": 0, "seed": 1} | changes
        source = given.pop("source", {})
        sources = {
            "scenes": SceneSource(SMALL, cache, PLAIN, look, scenes),
            "real": Source(partial(read_got10k, got10k, "train"), real, **source),
        }
        other = {"real": Source(partial(read_got10k, got10k, "val"), 1.0)}
        train, val = (sources, other) if split == "train" else (other, sources)
        module = TrackingDataModule(train, val, template, SEARCH, sampler, PLAIN, **given)
        module.setup("fit")
        return module

    return make


def batches(module, first: int = 0, rank: int = 0, world: int = 1) -> list[dict[str, torch.Tensor]]:
    """Returns the batches of an epoch of one of several processes, after `first` batches that are trained."""
    trained = SimpleNamespace(total_batch_idx=first - 1)
    module.trainer = SimpleNamespace(fit_loop=trained, global_rank=rank, world_size=world, num_devices=world)
    return [prepare(module, batch) for batch in module.train_dataloader()]


def prepare(module, batch):
    return module.on_after_batch_transfer(module.on_before_batch_transfer(batch, 0), 0)


def assert_equal(some, others):
    for a, b in zip(some, others, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert torch.equal(a[name], b[name]), name


def scenes_in(batch: dict) -> int:
    """Returns the number of scenes in a batch, as it comes from the loader."""
    return len(batch["scenes"]["search"]["box"]) if "scenes" in batch else 0


def test_a_batch_has_the_entries_that_trackers_expect(build):
    for batch in batches(build(source={"camera": 0.5})):
        shapes = {name: (*value.shape,) for name, value in batch.items()}
        assert shapes == {
            "template": (8, 2, 3, 24, 24),
            "template_box": (8, 2, 4),
            "template_padding": (8, 2, 2, 24),
            "search": (8, 1, 3, 48, 48),
            "search_box": (8, 1, 4),
            "search_padding": (8, 1, 2, 48),
            "present": (8, 1),
            "unreadable": (8,),
        }
        assert batch["search"].dtype == batch["template"].dtype == torch.uint8
        assert batch["present"].all()


def test_scenes_and_real_samples_come_by_weight(build):
    module = build(scenes=0.3, real=0.5, samples_per_epoch=1600)
    counts = [scenes_in(module._mixed("train", module.scenes["train"], 1)[i]) for i in range(10)]
    assert set(counts) == {3}  # 8 * 0.375
    module = build(scenes=0.3, real=0.3 * 15)  # half a scene in a batch
    drawn = module._mixed("train", module.scenes["train"], 1)
    counts = [scenes_in(drawn[i]) for i in range(30)]
    assert set(counts) == {0, 1}
    assert 0.3 < np.mean(counts) < 0.7


@pytest.mark.parametrize(("scenes", "real"), [(1.0, 0.0), (0.0, 1.0)])
def test_one_source_alone_fills_the_batches(build, scenes, real):
    for batch in batches(build(scenes=scenes, real=real)):
        assert len(batch["search"]) == len(batch["unreadable"]) == 8


def test_without_scenes_the_samples_are_those_of_the_data_set(build):
    module = build(scenes=0.0)
    assert_equal(batches(module), list(module.train_dataloader()))
    mixed = next(iter(build(scenes=0.001).train_dataloader()))["samples"]  # no scene in the first batch
    assert_equal([mixed], [next(iter(module.train_dataloader()))])


def test_batches_depend_on_seed_and_number_only(build):
    first = batches(build(source={"camera": 0.5, "stretch": 0.2, "cover": 0.5}))
    assert_equal(first, batches(build(source={"camera": 0.5, "stretch": 0.2, "cover": 0.5}, workers=2)))
    assert not torch.equal(first[0]["search"], first[1]["search"])
    other = batches(build(seed=2))
    assert not torch.equal(first[0]["search_box"], other[0]["search_box"])


def test_a_training_that_resumes_inside_of_an_epoch_gets_the_same_batches(build):
    module = build(source={"camera": 1.0}, device_batch_size=4)
    whole = batches(module)
    assert len(whole) == 6
    assert_equal(whole[2:], batches(module, first=2)[:4])


class Collecting(L.LightningModule):
    """Collects what it is trained on."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(1)), []

    def training_step(self, batch, index):
        self.seen.append(batch["search"].sum().item())
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_trainer_continues_from_a_checkpoint_with_the_same_batches(build, tmp_path):
    def train(steps, start=None):
        module, quiet = Collecting(), {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = L.Trainer(max_steps=steps, accelerator="cpu", enable_checkpointing=False, **quiet)
        trainer.fit(module, build(source={"camera": 0.5}), ckpt_path=start)
        trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
        return module.seen

    whole = train(7)  # epochs of 3 steps
    assert len(set(whole)) == 7
    assert train(4) + train(7, tmp_path / "4.ckpt") == whole


def test_parts_of_devices_are_the_samples_of_one_batch(build):
    whole = batches(build())
    for world, part in ((2, 4), (2, 2), (4, 2)):
        module, parts = build(device_batch_size=part), 8 // part
        shared = [batches(module, rank=rank, world=world) for rank in range(world)]
        ordered = [batch for step in zip(*shared, strict=True) for batch in step]
        assert len(ordered) == 3 * parts
        for number, batch in enumerate(ordered):
            expected = whole[number // parts]["search_box"][number % parts :: parts]
            assert torch.equal(batch["search_box"], expected)


def test_validation_may_have_scenes_too(build):
    module = build(split="val", val_samples=16)
    loads = [[prepare(module, batch) for batch in module.val_dataloader()] for _ in range(2)]
    assert [len(batch["search"]) for batch in loads[0]] == [8, 8]
    assert_equal(*loads)


def test_content_names_scenes_and_changes_only_if_they_are_used(build):
    plain = build(scenes=0.0).content()
    assert [len(entry) for entry in plain["train"]] == [2]
    others = [
        build().content(),
        build(scenes=2.0).content(),
        build(look=PhotoRealism(hide=1)).content(),
        build(source={"camera": 0.5}).content(),
        build(source={"cover": 0.5}).content(),
    ]
    assert len({repr(content) for content in [plain, *others]}) == 6


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"scenes": -1.0}, "'scenes': -1.0"),
        ({"scenes": 0.0, "real": 0.0}, "at least one must be positive"),
        ({"sampler": replace(SAMPLER, negatives=0.5)}, r"tracker\.recipe\.negatives=0\.5 must be 0"),
        ({"template": replace(TEMPLATE, compat="reference")}, r"tracker\.template\.compat=exact"),
        ({"split": "val", "val_samples": 7}, "7 val samples are fewer than a batch of 8"),
    ],
)
def test_mixtures_that_cannot_be_made_are_refused(build, changes, match):
    with pytest.raises(DataError, match=match):
        build(**changes)


def test_two_sources_of_scenes_are_refused(build):
    scenes = build().scenes["train"]
    with pytest.raises(
        DataError, match=r"scenes and more; leave all but one out, e\.g\. datamodule\.train\.more\.weight=0"
    ):
        TrackingDataModule({"scenes": scenes, "more": scenes}, {}, TEMPLATE, SEARCH, SAMPLER, PLAIN, 8, 8, 0, 0, 0)


def test_a_missing_folder_is_named_with_its_keys(build, tmp_path):
    module = build()
    module.sources["train"]["real"] = Source(partial(read_got10k, tmp_path / "nothing", "train"), 1.0)
    with pytest.raises(DataError, match=r"datamodule\.train\.real.* GOT-10k at .*nothing"):
        module.check()


def test_missing_pictures_of_a_bank_are_named_with_their_keys(build, tmp_path):
    scenes = build().scenes["train"]
    pictures = {"got10k": Source(partial(read_got10k, tmp_path / "nothing", "train"), 1.0)}
    scenes = replace(scenes, bank=replace(SMALL, real_backdrops=0.5), pictures=pictures)
    module = TrackingDataModule({"mine": scenes}, {}, TEMPLATE, SEARCH, SAMPLER, PLAIN, 8, 8, 0, 0, 0)
    with pytest.raises(DataError, match=r"datamodule\.train\.mine\.pictures\.got10k"):
        module.check()


# The camera

GREY = [LabelledCrop(np.full((8, 8, 3), 110, np.uint8), np.zeros(4), np.zeros((2, 8), bool))] * 4


def crops_with(cameras: list[dict]) -> dict:
    """Returns a batch of grey crops, whose first row is padding, with drawn cameras."""
    stacked = {name: torch.stack([drawn[name] for drawn in cameras]) for name in cameras[0]}
    generator, count = torch.Generator().manual_seed(0), len(cameras)
    batch = {}
    for role, size in (("template", 16), ("search", 24)):
        batch[role] = torch.randint(60, 160, (count, 2, 3, size, size), generator=generator, dtype=torch.uint8)
        batch[f"{role}_padding"] = torch.zeros(count, 2, 2, size, dtype=torch.bool)
        batch[f"{role}_padding"][:, :, 0, 0] = True
        batch[role][..., 0, :] = 0
    return batch | stacked


def test_the_camera_changes_its_share_of_the_samples_and_no_padding():
    rng = np.random.default_rng(0)
    batch = crops_with([draw_crop_cameras(rng, 0.5, True, GREY, 2) for _ in range(40)])
    changed = apply_cameras(plan_cameras(batch))
    assert changed.keys() == {"template", "search", "template_padding", "search_padding"}
    different = (changed["search"] != batch["search"]).flatten(2).any(2)
    assert torch.equal(different[:, 0], different[:, 1])
    assert 10 < different[:, 0].sum() < 30
    assert torch.equal(different[:, 0], (changed["template"] != batch["template"]).flatten(1).any(1))
    for role in ("template", "search"):
        assert not changed[role][..., 0, :].any()


def test_noise_depends_on_the_seed_of_the_batch_alone():
    rng = np.random.default_rng(0)
    batch = crops_with([draw_crop_cameras(rng, 1.0, True, GREY, 2) for _ in range(20)])
    again = [apply_cameras(plan_cameras(batch))["search"] for _ in range(2)]
    assert torch.equal(*again)
    other = apply_cameras(plan_cameras(batch | {"noise_seed": batch["noise_seed"] + 1}))["search"]
    assert not torch.equal(other, again[0])


def test_crops_of_stills_get_a_camera_each_and_those_of_videos_one():
    rng = np.random.default_rng(0)
    noise = {}
    for still in (True, False):
        drawn = [draw_crop_cameras(rng, 1.0, still, GREY[:2], 1) for _ in range(300)]
        settings = torch.stack([torch.cat([d["template_camera"], d["search_camera"]]) for d in drawn])
        noise[still] = settings[:, :, 10]  # one of the settings that a video's camera keeps
    assert torch.equal(noise[False][:, 0], noise[False][:, 1])
    assert (noise[True][:, 0] != noise[True][:, 1]).float().mean() > 0.4


def test_contrast_keeps_the_brightness_of_a_crop():
    rng = np.random.default_rng(0)
    dark, bright = (
        [LabelledCrop(np.full((8, 8, 3), value, np.uint8), np.zeros(4), np.zeros((2, 8), bool))] * 2
        for value in (20, 200)
    )
    for crops, low, high in ((dark, 0.02, 0.4), (bright, 0.4, 1.3)):
        middle = torch.cat([draw_crop_cameras(rng, 1.0, True, crops, 1)["search_camera"][:, 6] for _ in range(50)])
        assert low < middle.median() < high


def test_padding_does_not_count_as_brightness():
    rng = np.random.default_rng(0)
    half, padding = np.full((8, 8, 3), 200, np.uint8), np.zeros((2, 8), bool)
    half[:4], padding[0, :4] = 0, True
    crops = [LabelledCrop(half, np.zeros(4), padding)] * 2
    middle = torch.cat([draw_crop_cameras(rng, 1.0, True, crops, 1)["search_camera"][:, 6] for _ in range(50)])
    assert middle.median() > 0.6
