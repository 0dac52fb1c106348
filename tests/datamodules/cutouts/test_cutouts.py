"""Real things and backdrops of the bank: outlines, colours at the edge, choice, file names, and wrong input.

The pictures are drawn here: a red disc on green ground, in the layout of COCO.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from joblib import Parallel
from safetensors.torch import load_file

from datamodules.augmentation import Augmentation
from datamodules.cutouts.backdrops import crop_backdrop
from datamodules.cutouts.collection import RealPictures
from datamodules.cutouts.things import FILL, cut_thing
from datamodules.errors import DataError
from datamodules.frames.pictures import UnreadableFrameError
from datamodules.readers import read_coco
from datamodules.scenes import BankSpec, PhotoRealism, SceneDataModule
from datamodules.scenes.bank import Bank, ensure_bank, load_bank
from datamodules.scenes.draw import TARGET, draw_scenes
from datamodules.scenes.source import SceneSource
from datamodules.sources import Source
from trackers.crops import CropSpec

SIDE, CENTRE, RADIUS = 64, (100, 70), 30
DISC = [70, 40, 61, 61]  # xywh of the disc; the pixels at both ends belong to it
RED, GREEN = (200, 30, 30), (30, 160, 40)
PAINTED = {"objects": 8, "backdrops": 8, "object_size": 16, "height": 24, "width": 32, "seed": 0}


def draw_picture(centre=CENTRE, radius=RADIUS) -> np.ndarray:
    """Returns a picture (140, 200, 3), RGB with noise."""
    picture = np.full((140, 200, 3), GREEN, np.uint8)
    cv2.circle(picture, centre, radius, RED, -1)
    noise = np.random.default_rng(0).normal(0, 6, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def write_coco(root: Path, boxes: list, pictures: int = 1, drawn: np.ndarray | None = None):
    """Writes pictures with one object for each box, in turn, and returns their sequences."""
    folder = root / "images" / "train2017"
    folder.mkdir(parents=True)
    (root / "annotations").mkdir()
    for i in range(pictures):
        cv2.imwrite(str(folder / f"{i}.png"), (draw_picture() if drawn is None else drawn)[..., ::-1])
    images = [{"id": i, "file_name": f"{i}.png", "width": 200, "height": 140} for i in range(pictures)]
    objects = [{"id": i, "image_id": i % pictures, "bbox": box} for i, box in enumerate(boxes)]
    data = {"images": images, "annotations": objects, "categories": []}
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(data))
    return read_coco(root)


def collect(table) -> RealPictures:
    return RealPictures({"coco": table}, {"coco": 1.0})


def cut(table, seed=0):
    return cut_thing(table[0], 0, SIDE, np.random.default_rng(seed))


def test_the_outline_of_a_thing_is_found(tmp_path):
    objects, extents, (unit, x, y) = cut(write_coco(tmp_path, [DISC]))
    assert objects.shape == (8, 4, SIDE, SIDE)
    assert extents.shape == (8, 32, 2)
    assert (x, y) == pytest.approx((0.5, 0.5), abs=0.02)
    assert unit == pytest.approx(FILL, abs=0.03)
    assert np.hypot(*extents[0].T) == pytest.approx(0.5, abs=0.04)  # a disc, in object sizes
    ticks = np.arange(SIDE) + 0.5 - SIDE / 2
    disc = np.hypot(ticks, ticks[:, None]) < SIDE * FILL / 2
    found = objects[0, 3] > 127
    assert (disc & found).sum() / (disc | found).sum() > 0.93


def test_no_background_is_left_at_the_edge(tmp_path):
    red, green, _, alpha = cut(write_coco(tmp_path, [DISC]))[0][0].astype(float)
    edge = (alpha > 20) & (alpha < 235)
    assert edge.sum() > 50
    assert (red[edge] / alpha[edge]).mean() == pytest.approx(RED[0] / 255, abs=0.05)
    assert (green[edge] / alpha[edge]).mean() == pytest.approx(RED[1] / 255, abs=0.05)


def test_extents_bound_each_pose_and_colours_stay_below_alpha(tmp_path):
    objects, extents, (unit, *centre) = cut(write_coco(tmp_path, [DISC]))
    assert (objects[:, :3] <= objects[:, 3:]).all()
    for pose, points in zip(objects, extents, strict=True):
        rows, columns = np.nonzero(pose[3] > 127)
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        low, high = (SIDE * (unit * points + centre)).min(0), (SIDE * (unit * points + centre)).max(0)
        assert seen == pytest.approx([*low, *high], abs=1)
    assert len({pose.tobytes() for pose in objects}) == 8


@pytest.mark.parametrize(
    ("box", "centre", "radius"),
    [
        pytest.param([90, 60, 21, 21], CENTRE, 10, id="too small"),
        pytest.param([0, 40, 61, 61], (30, 70), RADIUS, id="at the left border"),
        pytest.param([70, 79, 61, 61], (100, 109), RADIUS, id="at the lower border"),
        pytest.param([40, 20, 110, 110], CENTRE, RADIUS, id="box too large"),
        pytest.param([20, 10, 60, 40], CENTRE, RADIUS, id="box beside the thing"),
    ],
)
def test_boxes_without_a_whole_thing_give_none(tmp_path, box, centre, radius):
    assert cut(write_coco(tmp_path, [box], drawn=draw_picture(centre, radius))) is None


def test_a_backdrop_shows_its_picture(tmp_path):
    table = write_coco(tmp_path, [DISC])
    backdrop = crop_backdrop(table[0], 0, 40, 60, np.random.default_rng(0))
    assert backdrop.shape == (3, 40, 60)
    assert np.median(backdrop, (1, 2)) == pytest.approx(GREEN, abs=8)


def test_a_bank_takes_its_shares_and_keeps_the_painted_rest(tmp_path):
    pictures = collect(write_coco(tmp_path / "coco", [DISC] * 4, pictures=2))
    spec = BankSpec(**PAINTED, real_objects=0.5, real_backdrops=0.25)
    bank = load_bank(file := ensure_bank(spec, tmp_path, pictures))
    painted = load_bank(ensure_bank(BankSpec(**PAINTED), tmp_path))
    assert not painted.real.any()
    assert bank.real.tolist() == [False, True] * 4  # the occluder, which is the last object, is real
    assert torch.equal(bank.objects[~bank.real], painted.objects[~bank.real])
    assert torch.equal(bank.extents[~bank.real], painted.extents[~bank.real])
    assert bank.object_colours[bank.real] == pytest.approx(np.tile(np.array(RED) / 255, (4, 1)), abs=0.05)
    alike = (bank.backdrops == painted.backdrops).flatten(1).all(1)
    assert alike.sum() == 6
    (tmp_path / "again").mkdir()
    assert ensure_bank(spec, tmp_path / "again", pictures).read_bytes() == file.read_bytes()


def test_painted_banks_keep_their_names_and_entries(tmp_path):
    spec = BankSpec(2000, 1000, 112, 320, 448, 0)
    assert spec.file_name(None) == "scenes-105c477276.safetensors"
    painted = load_file(ensure_bank(BankSpec(**PAINTED), tmp_path))
    assert set(painted) == {"objects", "extents", "frames", "backdrops"}


def test_the_name_of_a_bank_tells_real_pictures_apart(tmp_path):
    spec = BankSpec(**PAINTED, real_backdrops=0.5)
    tables = [write_coco(tmp_path / str(i), boxes) for i, boxes in enumerate([[DISC], [DISC] * 2, [[1, 2, 30, 40]]])]
    names = [spec.file_name(collect(table)) for table in tables]
    assert len(set(names)) == 3
    assert spec.file_name(collect(tables[0])) == names[0]
    assert BankSpec(**PAINTED, real_backdrops=0.25).file_name(collect(tables[0])) != names[0]
    assert spec.file_name(RealPictures({"a": tables[0], "b": tables[1]}, {"a": 1, "b": 2})) != spec.file_name(
        RealPictures({"a": tables[0], "b": tables[1]}, {"a": 2, "b": 1})
    )


def test_sources_give_their_shares(tmp_path):
    small, large = (write_coco(tmp_path / name, [DISC] * 3, pictures=3) for name in ("small", "large"))
    pictures = RealPictures({"small": small, "large": large}, {"small": 1.0, "large": 3.0})
    assert pictures._quotas(8) == [("small", 2), ("large", 6)]


def build(root: Path, cache: Path, weight: float = 1.0, **shares: float) -> SceneDataModule:
    sources = {"coco": Source(lambda: read_coco(root), weight)}
    crops = CropSpec(48, 2.0), CropSpec(96, 4.0)
    spec = BankSpec(**PAINTED | shares)
    return SceneDataModule(spec, cache, *crops, Augmentation(0, 0, 0, 0), None, 2, 4, 0, 0, 1, pictures=sources)


def test_a_datamodule_renders_real_pictures(tmp_path):
    write_coco(tmp_path / "coco", [DISC] * 8)
    module = build(tmp_path / "coco", tmp_path, real_objects=1.0, real_backdrops=1.0)
    module.check()
    module.setup("fit")
    batch = module.on_after_batch_transfer(module.on_before_batch_transfer(next(iter(module._loader("train"))), 0), 0)
    assert batch["search"].shape == (2, 1, 3, 96, 96)


def test_without_shares_no_data_set_is_read(tmp_path):
    module = build(tmp_path / "missing", tmp_path)
    module.check()
    assert module.content() == build(tmp_path / "elsewhere", tmp_path).content()


@pytest.mark.parametrize("name", ["real_objects", "real_backdrops"])
@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(name, share):
    with pytest.raises(DataError, match=rf"datamodule\.bank\.{name}={share} must be between 0 and 1"):
        BankSpec(**PAINTED, **{name: share})


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"datamodule\.pictures\.coco.*nowhere"):
        build(tmp_path / "nowhere", tmp_path, real_objects=0.5).check()


def test_sources_without_weight_are_refused(tmp_path):
    with pytest.raises(DataError, match="at least one must be positive"):
        build(tmp_path, tmp_path, weight=0.0, real_objects=0.5)


def test_changes_of_crops_are_refused_for_pictures_of_a_bank():
    crops = {"coco": Source(lambda: None, 1.0, stretch=0.3)}
    with pytest.raises(DataError, match=r"pictures\.coco has camera=0\.0, stretch=0\.3"):
        SceneSource(BankSpec(**PAINTED), "", Augmentation(0, 0, 0, 0), None, 1.0, crops)


def test_messages_name_the_place_of_the_pictures(tmp_path):
    sources = {"coco": Source(lambda: read_coco(tmp_path / "nowhere"), 1.0)}
    spec, plain = BankSpec(**PAINTED, real_objects=0.5), Augmentation(0, 0, 0, 0)
    scenes = SceneSource(spec, "", plain, None, 1.0, sources, place="train.scenes.pictures")
    with pytest.raises(DataError, match=r"datamodule\.train\.scenes\.pictures\.coco"):
        scenes.check()


def test_too_few_things_are_refused(tmp_path):
    table = write_coco(tmp_path / "coco", [DISC, [1, 2, 20, 20]])
    with pytest.raises(DataError, match=r"1 things .* of 2 boxes, and the bank needs 4; lower .* to 25% of"):
        ensure_bank(BankSpec(**PAINTED, real_objects=0.5), tmp_path, collect(table))


@pytest.mark.parametrize(
    ("boxes", "wanted", "advice"),
    [([DISC, DISC], 3, "real_objects to 66% of"), ([[1, 2, 20, 20]], 4, "the bank to 0, or")],
)
def test_the_advice_for_too_few_things_works(tmp_path, boxes, wanted, advice):
    pictures = collect(write_coco(tmp_path / "coco", boxes))
    with pytest.raises(DataError, match=f"the bank needs {wanted}; .*{advice}"):
        pictures.cut_things(wanted, 16, 0, Parallel(1))


def test_a_data_set_without_objects_gives_no_backdrops(tmp_path):
    table = write_coco(tmp_path / "coco", [[10, 10, 0, 0]])
    with pytest.raises(DataError, match=r"datamodule\.pictures\.coco has no annotated picture"):
        ensure_bank(BankSpec(**PAINTED, real_backdrops=0.5), tmp_path, collect(table))


@pytest.mark.parametrize("shares", [{"real_objects": 0.5}, {"real_backdrops": 0.5}])
def test_an_unreadable_picture_is_named(tmp_path, shares):
    table = write_coco(tmp_path / "coco", [DISC])
    (tmp_path / "coco" / "images" / "train2017" / "0.png").write_bytes(b"no picture")
    with pytest.raises(UnreadableFrameError, match=r"0\.png"):
        ensure_bank(BankSpec(**PAINTED, **shares), tmp_path, collect(table))


@pytest.mark.parametrize(("share", "lowest", "highest"), [(0.0, 0.0, 0.0), (0.4, 0.3, 0.5), (1.0, 1.0, 1.0)])
def test_real_things_are_changed_by_their_share(share, lowest, highest):
    objects = torch.full((8, 1, 4, 16, 16), 255, dtype=torch.uint8)
    corners = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]).repeat(8, 1, 8, 1)
    frames, backdrops = torch.full((8, 3), 0.5), torch.full((8, 3, 24, 32), 60, dtype=torch.uint8)
    bank = Bank.from_pictures(objects, corners, frames, backdrops, torch.ones(8, dtype=torch.bool))
    roles = (("template", CropSpec(48, 2.0)), ("search", CropSpec(96, 4.0)))
    realism = PhotoRealism(hide=1, pattern=2.5, real=share)
    scene = draw_scenes(np.random.default_rng(0), 400, roles, bank, Augmentation(0, 0, 0, 0), realism)["template"]
    strength, gain = scene["pattern_strength"][:, 0, TARGET], scene["gain"][:, 0, TARGET, 0]
    assert lowest <= (strength > 0).mean() <= highest
    assert strength.max() <= 2.5 * share
    assert lowest <= (gain < 0.999).mean() <= highest
    assert gain.min() >= (60 / 255) ** share - 1e-6
