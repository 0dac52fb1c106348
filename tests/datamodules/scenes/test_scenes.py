"""Rendered scenes: boxes lie on their targets, and the same seed and number give the same batch."""

import cv2
import numpy as np
import pytest
import pytorch_lightning as L
import torch
from torch.utils.data import default_convert

from datamodules.augmentation import Augmentation
from datamodules.scenes import BankSpec, PhotoRealism, SceneDataModule
from datamodules.scenes.bank import Bank, ensure_bank, load_bank
from datamodules.scenes.camera import SCALES, SETTINGS, apply_camera
from datamodules.scenes.draw import BEHIND, draw_scenes
from datamodules.scenes.renderer import Renderer
from trackers.crops import CropSpec
from trackers.dimp.crop_spec import DiMPCropSpec

SMALL = BankSpec(objects=8, backdrops=8, object_size=16, height=24, width=32, seed=0)
PLAIN = Augmentation(gray=0, flip=0.5, flip_each=0.5, brightness=0)
NEUTRAL = torch.tensor([1.0, 1, 1, 1, 1, 1, 0.5, 0, 0, 0, 0, 100])
PAINTED, PHOTOGRAPHED = PhotoRealism(), PhotoRealism(hide=1, pattern=2.5, exposure=0.8, contrast=0.17, sharpen=2.5)
BLUR, SHARPEN, NOISE, QUALITY = (SETTINGS.index(name) for name in ("blur", "sharpen", "noise", "quality"))


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    return ensure_bank(SMALL, tmp_path_factory.mktemp("bank"))


def white_squares() -> Bank:
    """Returns a bank of white squares, a quarter of their pictures, and black backdrops."""
    objects = torch.zeros(8, 2, 4, 64, 64, dtype=torch.uint8)
    objects[..., 16:48, 16:48] = 255
    corners = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    return Bank.from_pictures(
        objects,
        corners.repeat(8, 2, 8, 1),
        torch.tensor([0.5, 0.5, 0.5]).repeat(8, 1),
        torch.zeros(8, 3, 24, 32, dtype=torch.uint8),
    )


def specs(kind: type[CropSpec] = CropSpec) -> tuple:
    factor = 4.0 if kind is DiMPCropSpec else 2.0
    return ("template", kind(48, factor, 0.2, 0.05, 2)), ("search", kind(96, 4.0, 2.0, 0.2))


def drawn(
    bank: Bank, kind: type[CropSpec] = CropSpec, seed: int = 0, samples: int = 24, realism: PhotoRealism = PAINTED
) -> dict:
    return default_convert(draw_scenes(np.random.default_rng(seed), samples, specs(kind), bank, PLAIN, realism))


def render(bank: Bank, scene: dict, size: int, repeats_border: bool = False) -> torch.Tensor:
    return Renderer(bank)(scene, size, repeats_border, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [CropSpec, DiMPCropSpec])
def test_boxes_lie_on_their_targets(kind):
    bank = white_squares()
    compared = 0
    for role, spec in specs(kind):
        scene = drawn(bank, kind)[role]
        scene["camera"] = NEUTRAL.expand_as(scene["camera"])
        scene["affected"] = [part[:0] for part in scene["affected"]]
        scene["gain"] = torch.ones_like(scene["gain"])
        nothing = [part[:0] for part in scene["levels"][0]]
        scene["levels"] = [
            reads if layer in (0, BEHIND + 1) else nothing for layer, reads in enumerate(scene["levels"])
        ]
        shown = render(bank, scene, spec.size, kind.repeats_border).flatten(0, 1)
        for picture, box, frame in zip(shown, scene["box"].flatten(0, 1), scene["frame"].flatten(0, 1), strict=True):
            x, y, w, h = (spec.size * box).tolist()
            whole = (frame[:2] < 0).all() and (frame[2:] > 1).all()  # the frame's edge cuts nothing off
            if not (whole and min(x, y) > 0 and max(x + w, y + h) < spec.size):
                continue
            rows, columns = (picture[0] > 127).nonzero(as_tuple=True)
            seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.allclose(seen, [x, y, x + w, y + h], atol=2), (role, seen, (x, y, w, h))
            compared += 1
    assert compared > 10


def test_crops_beyond_the_frame_are_black_or_repeat_the_border(painted):
    bank = load_bank(painted)
    role, spec = specs()[1]
    scene = drawn(bank)[role]
    shown, padding = render(bank, scene, spec.size)[:, 0], scene["padding"][:, 0]
    assert padding.any()
    for picture, (rows, columns) in zip(shown, padding, strict=True):
        # The first padded row may still show a part of the frame's last one.
        inner = torch.nn.functional.max_pool1d(1.0 - torch.stack([rows, columns]).float()[:, None], 3, 1, 1)[:, 0] == 0
        assert not picture[:, inner[0]].any()
        assert not picture[:, :, inner[1]].any()
    role, spec = specs(DiMPCropSpec)[1]
    scene = drawn(bank, DiMPCropSpec)[role]
    assert not scene["padding"].any()
    beyond = (scene["frame"][:, 0, 1] > 0.15).nonzero()[:, 0]
    assert len(beyond)
    scene["camera"][..., NOISE] = 0
    shown = render(bank, scene, spec.size, repeats_border=True)[beyond, 0].int()
    first = (scene["frame"][beyond, 0, 1] * spec.size).int() - 1
    for picture, row in zip(shown, first.tolist(), strict=True):
        assert picture[:, : row - 8].float().std(1).mean() < 1  # all rows above the frame are one


def test_a_batch_is_a_function_of_its_number(painted):
    module = build(painted)
    module.setup("fit")
    first, again, other = (list(module._loader("train"))[i] for i in (0, 0, 1))
    flat = [default_convert(batch)["search"]["backdrop_map"] for batch in (first, again, other)]
    assert torch.equal(flat[0], flat[1])
    assert not torch.equal(flat[0], flat[2])
    assert first["seed"] == again["seed"] != other["seed"]
    with_workers = build(painted, workers=2)
    with_workers.setup("fit")
    assert [b["seed"] for b in with_workers._loader("train")] == [b["seed"] for b in module._loader("train")]
    validation = build(painted, val_samples=8)
    validation.setup("fit")
    assert next(iter(validation._loader("val")))["seed"] != first["seed"]


def test_parts_of_a_batch_are_its_samples_for_any_number_of_devices(painted):
    def batches(part: int) -> list[dict]:
        module = build(painted, batch_size=6, samples_per_epoch=16, device_batch_size=part)
        module.setup("fit")
        return [default_convert(batch)["search"] for batch in module._loader("train")]

    whole = batches(6)
    assert len(whole) == 2
    for part in (1, 2, 3):
        shared = batches(part)
        assert len(shared) == 2 * (parts := 6 // part)
        for i, scene in enumerate(shared):
            for name in ("box", "object_map", "camera", "padding"):
                assert torch.equal(scene[name], whole[i // parts][name][i % parts :: parts])
    rendered = build(painted, batch_size=6, samples_per_epoch=12, device_batch_size=2)
    rendered.setup("fit")
    for batch in rendered._loader("train"):
        shown = rendered.on_after_batch_transfer(rendered.on_before_batch_transfer(batch, 0), 0)
        assert shown["search"].shape == (2, 1, 3, 96, 96)


def build(painted, **changes) -> SceneDataModule:
    template, search = (spec for _, spec in specs())
    given = {"batch_size": 4, "samples_per_epoch": 8, "val_samples": 0, "workers": 0, "seed": 1} | changes
    return SceneDataModule(SMALL, painted.parent, template, search, PLAIN, **{"look": PHOTOGRAPHED} | given)


def test_batches_have_the_entries_that_trackers_expect(painted):
    module = build(painted)
    module.setup("fit")
    batch = module.on_after_batch_transfer(module.on_before_batch_transfer(next(iter(module._loader("train"))), 0), 0)
    shapes = {name: tuple(value.shape) for name, value in batch.items()}
    assert shapes == {
        "template": (4, 2, 3, 48, 48),
        "template_box": (4, 2, 4),
        "template_padding": (4, 2, 2, 48),
        "search": (4, 1, 3, 96, 96),
        "search_box": (4, 1, 4),
        "search_padding": (4, 1, 2, 96),
        "present": (4, 1),
    }
    assert batch["search"].dtype == torch.uint8
    assert batch["search"].float().std() > 5  # something is shown


class Collecting(L.LightningModule):
    """Collects the sums of the boxes that it is trained on."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(1)), []

    def training_step(self, batch, index):
        self.seen.append(batch["search_box"].sum().item())
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_an_epoch_continues_where_the_last_one_ended(painted, tmp_path):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "accelerator": "cpu"}
    module = Collecting()
    L.Trainer(max_epochs=3, default_root_dir=tmp_path, enable_model_summary=False, **quiet).fit(module, build(painted))
    assert len(set(module.seen)) == 6


def test_a_bank_is_painted_once_and_the_same_everywhere(painted, tmp_path):
    before = painted.stat().st_mtime_ns
    assert ensure_bank(SMALL, painted.parent) == painted
    assert painted.stat().st_mtime_ns == before
    assert ensure_bank(SMALL, tmp_path).read_bytes() == painted.read_bytes()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"batch_size": 9}, "8 train samples are fewer than a batch of 9"),
        ({"val_samples": 3}, "3 val samples"),
    ],
)
def test_too_few_samples_are_refused(painted, changes, match):
    with pytest.raises(ValueError, match=match):
        build(painted, **changes)


def test_reference_crops_are_refused(painted):
    crops = CropSpec(48, 2.0, compat="reference"), CropSpec(96, 4.0)
    with pytest.raises(ValueError, match=r"tracker\.template\.compat=exact"):
        SceneDataModule(SMALL, painted.parent, *crops, PLAIN, PAINTED, 4, 8, 0, 0, 1)


def test_negatives_are_refused(painted):
    with pytest.raises(ValueError, match=r"tracker\.recipe\.negatives=0\.5 must be 0"):
        build(painted, negatives=0.5)


def test_an_empty_bank_is_refused():
    with pytest.raises(ValueError, match=r"bank\.objects=0"):
        BankSpec(0, 8, 16, 24, 32, 0)


def test_without_photo_realism_scenes_are_as_they_are_painted(painted):
    module = build(painted, look=None)
    module.setup("fit")
    scene = next(iter(module._loader("train")))["search"]
    assert not scene["pattern_strength"].any()
    assert (scene["camera"][..., SETTINGS.index("contrast")] == 1).all()


@pytest.mark.parametrize("name", ["hide", "pattern", "exposure", "contrast", "sharpen"])
def test_photo_realism_out_of_range_is_refused(name):
    with pytest.raises(ValueError, match=rf"look\.{name}=-1 must be between 0 and"):
        PhotoRealism(**{name: -1})


def targets(bank: Bank, realism: PhotoRealism) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Returns pixels (3, n) in 0..255 inside of each target and around it, with a neutral camera."""
    role, spec = specs()[0]
    scene = drawn(bank, samples=64, realism=realism)[role]
    scene |= {"camera": NEUTRAL.expand_as(scene["camera"]), "affected": [part[:0] for part in scene["affected"]]}
    nothing = [part[:0] for part in scene["levels"][0]]
    scene["levels"] = [level if layer in (0, BEHIND + 1) else nothing for layer, level in enumerate(scene["levels"])]
    ticks = (torch.arange(spec.size) + 0.5) / spec.size
    found = []
    for picture, box in zip(render(bank, scene, spec.size).flatten(0, 1), scene["box"].flatten(0, 1), strict=True):
        away = [(ticks - low - side / 2).abs() / side for low, side in zip(box[:2], box[2:], strict=True)]
        away = torch.maximum(away[0], away[1][:, None])
        around = (away > 0.5) & (picture > 0).any(0)
        found.append((picture[:, away < 0.25].float(), picture[:, around].float()))
    return [(own, other) for own, other in found if own.numel() and other.numel()]


def test_patterns_are_seen_on_things_and_nowhere_else():
    squares = white_squares()
    ground = squares.backdrops.clone()
    ground[:] = torch.tensor([60, 120]).repeat_interleave(4).repeat(4)
    bank = Bank.from_pictures(squares.objects // 2, squares.extents, squares.frames, ground)
    plain, worn = (targets(bank, realism) for realism in (PAINTED, PhotoRealism(pattern=5)))
    (inside, around), (inside_worn, around_worn) = (
        [np.median([float(pixels.std(1).mean()) for pixels in part]) for part in zip(*found, strict=True)]
        for found in (plain, worn)
    )
    assert inside_worn > inside + 5
    assert around_worn == pytest.approx(around, abs=0.1)


def test_hidden_things_come_near_their_backdrops_colour(painted):
    bank = load_bank(painted)
    open_, hidden = (
        np.median([float((own.mean(1) - other.mean(1)).abs().mean()) for own, other in targets(bank, realism)])
        for realism in (PAINTED, PhotoRealism(hide=1))
    )
    assert hidden < 0.8 * open_


def test_backdrops_get_the_brightness_and_contrast_of_photographs(painted):
    """The bank is darkened and greyed before."""
    bank = load_bank(painted)
    dull = Bank.from_pictures(bank.objects, bank.extents, bank.frames, bank.backdrops // 4 + 20)
    measured = []
    for realism in (PAINTED, PhotoRealism(exposure=1, contrast=0.2)):
        scene = drawn(dull, realism=realism, samples=200)["search"]
        light, pictures = scene["camera"].flatten(0, 1), dull.backdrops[scene["backdrop"].flatten()] / 255
        light[:, [BLUR, SHARPEN, NOISE, SETTINGS.index("haze")]] = 0
        light[:, SETTINGS.index("saturation")] = 1
        shown = apply_camera(pictures, light, unchanged(), torch.Generator())
        measured.append((shown.mean(), shown.mean(1).flatten(1).std(1).median()))
    (dark, flat), (middle, wide) = measured
    assert dark < 0.25 < 0.35 < middle < 0.6
    assert flat < 0.06
    assert 2 * flat < wide < 0.3


def unchanged() -> list[torch.Tensor]:
    return [torch.zeros(0, dtype=torch.long)] * (1 + len(SCALES))


def smooth(size: int = 40) -> torch.Tensor:
    noise = np.random.default_rng(0).random((5, 5, 3), dtype=np.float32)
    return torch.from_numpy(cv2.resize(noise, (size, size), interpolation=cv2.INTER_LINEAR)).permute(2, 0, 1)[None]


def test_a_neutral_camera_changes_nothing():
    picture = smooth().clamp(1e-3, 1)
    assert torch.allclose(
        apply_camera(picture.clone(), NEUTRAL[None], unchanged(), torch.Generator()), picture, atol=1e-6
    )


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_compression_is_that_of_jpeg(quality):
    """The picture is grey, since JPEG lowers the resolution of colour."""
    picture = smooth().mean(1, keepdim=True).expand(-1, 3, -1, -1).contiguous()
    light = NEUTRAL.clone()
    light[QUALITY] = quality
    ours = apply_camera(
        picture.clone(), light[None], [unchanged()[0], torch.tensor([0]), *unchanged()[2:]], torch.Generator()
    )
    grey = (255 * picture[0, 0]).round().to(torch.uint8).numpy()
    packed = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    theirs = cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE)
    difference = np.abs(255 * ours[0, 0].numpy() - theirs)
    assert difference.mean() < 1
    assert difference.max() < 8  # a coefficient in the middle between two may go to either
    assert difference.mean() < 0.7 * np.abs(theirs.astype(int) - grey).mean() or quality == 90


def test_blur_keeps_the_mean_and_lowers_the_contrast():
    picture, light = torch.rand(1, 3, 32, 32), NEUTRAL.clone()
    light[BLUR] = 1.5
    blurred = apply_camera(picture.clone(), light[None], [torch.tensor([0]), *unchanged()[1:]], torch.Generator())
    assert abs(blurred.mean() - picture.mean()) < 0.02
    assert blurred.std() < 0.6 * picture.std()


def test_sharpening_keeps_the_mean_and_raises_the_contrast():
    picture, light = torch.rand(1, 3, 32, 32) * 0.2 + 0.4, NEUTRAL.clone()
    light[SHARPEN] = 2
    sharp = apply_camera(picture.clone(), light[None], unchanged(), torch.Generator())
    assert abs(sharp.mean() - picture.mean()) < 0.01
    assert sharp.diff().abs().mean() > 1.2 * picture.diff().abs().mean()


def test_contrast_keeps_what_is_as_bright_as_the_middle():
    picture, light = torch.full((1, 3, 8, 8), 0.3), NEUTRAL.clone()
    light[SETTINGS.index("contrast")], light[SETTINGS.index("middle")] = 3, 0.3
    picture[..., 4:] = 0.4
    seen = apply_camera(picture.clone(), light[None], unchanged(), torch.Generator())
    assert torch.allclose(seen[..., :4], picture[..., :4])
    assert torch.allclose(seen[..., 4:], torch.tensor(0.6))
