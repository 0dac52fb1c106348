"""Frames decoded in part have the same bits as the whole picture; reduced ones show everything at its place."""

from functools import cache, partial

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datamodules.augmentation import Augmentation
from datamodules.dataset import TrackingDataset
from datamodules.frames.frame import IMREAD_FLAGS, Frame, largest_reduction
from datamodules.frames.jpeg import Rectangle, cut_jpeg, read_layout
from datamodules.frames.pictures import UnreadableFrameError, read_picture
from datamodules.sampling import FrameSampler
from datamodules.sequences.sequence import Sequence
from datamodules.sources import Mixture
from tests.datamodules.videos import Videos
from trackers.crops import CropSpec, DecodedRegion, Window
from trackers.dimp.crop_spec import DiMPCropSpec

WIDTH, HEIGHT = 333, 250  # 21 x 16 units of 16 x 16 pixels, of which the last are not full
SAMPLINGS = {"4:4:4": 0x111111, "4:2:2": 0x211111, "4:2:0": 0x221111, "4:4:0": 0x121111, "4:1:1": 0x411111}
PLAIN = Augmentation(gray=0, flip=0, flip_each=0, brightness=0)
SAMPLER = FrameSampler("causal", 0.0, max_gap=200, min_frames=2, min_visible=0)
SPECS = {
    "template": CropSpec(32, 2.0, compat="reference"),
    "search": CropSpec(64, 4.0, 3.0, 0.25, compat="reference"),
    "dimp": DiMPCropSpec(64, 5.0, 4.0, 0.25, count=3, inside=1.5, compat="reference"),
    "dimp exact": DiMPCropSpec(64, 5.0, 4.0, 0.25, count=3, inside=None),
}


@cache
def texture(width=WIDTH, height=HEIGHT, seed=0):
    """Returns a coloured picture with all frequencies."""
    rng = np.random.default_rng(seed)
    octaves = [cv2.resize(rng.random((2**k, 2**k, 3)), (width, height)) for k in range(2, 9)]
    return cv2.normalize(sum(octaves), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


@cache
def video_frame(k, restarts):
    return coded(texture(672, 480, seed=k), restarts=restarts)


def coded(picture, *options, restarts=0):
    return cv2.imencode(".jpg", picture, [*options, cv2.IMWRITE_JPEG_RST_INTERVAL, restarts])[1].tobytes()


def frame(path):
    return Frame(path, partial(read_picture, path))


def decoded(data, of=1):
    return cv2.imdecode(np.frombuffer(data, np.uint8), IMREAD_FLAGS[of])


# Parts of a file


@pytest.mark.parametrize("restarts", [0, 1, 3, 7, 21, 4, 40], ids="restarts every {}".format)
@pytest.mark.parametrize("sampling", [*SAMPLINGS, "gray"])
def test_a_part_of_a_picture_is_the_same_as_in_the_whole(sampling, restarts, capfd):
    picture = texture()
    options = () if sampling == "gray" else (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLINGS[sampling])
    data = coded(picture[..., 0] if sampling == "gray" else picture, *options, restarts=restarts)
    about, rng = read_layout(data), np.random.default_rng(0)
    assert (about.width, about.height, about.restart_interval) == (WIDTH, HEIGHT, restarts)
    smaller = 0
    for r in IMREAD_FLAGS:
        whole = decoded(data, r)
        for _ in range(6):
            left, right = np.sort(rng.choice(WIDTH + 1, 2, replace=False)).tolist()
            top, bottom = np.sort(rng.choice(HEIGHT + 1, 2, replace=False)).tolist()
            file, (x, y, _, _) = cut_jpeg(data, about, Rectangle(left, top, right, bottom))
            part = decoded(file, r)
            rows, columns = slice(top // r, -(-bottom // r)), slice(left // r, -(-right // r))
            shown = part[rows.start - y // r : rows.stop - y // r, columns.start - x // r : columns.stop - x // r]
            assert np.array_equal(shown, whole[rows, columns])
            smaller += part.size < whole.size
    assert smaller > 5
    assert capfd.readouterr().err == ""  # the decoder has nothing to complain of


def test_between_restart_markers_nothing_else_is_decoded():
    data = coded(texture(640, 480), restarts=8)  # pieces of 128 x 16 pixels
    file, place = cut_jpeg(data, read_layout(data), Rectangle(300, 200, 340, 240))
    assert place == (256, 176, 384, 256)
    assert len(file) < len(data) / 8
    assert decoded(file).shape == (80, 128, 3)


def test_damaged_restart_markers_leave_the_picture_whole():
    data = coded(texture(), restarts=7)
    assert cut_jpeg(data.replace(b"\xff\xd3", b"\xff\x00", 1), read_layout(data), Rectangle(0, 0, 9, 9))[1][3] == HEIGHT


@pytest.mark.parametrize("kind", ["progressive", "exif", "png", "cmyk", "cut", "no picture", "empty"])
def test_what_cannot_be_decoded_in_part_is_decoded_whole(tmp_path, kind):
    path, picture = tmp_path / "1.jpg", Image.fromarray(texture())
    turned = Image.Exif()
    turned[0x0112] = 6
    if kind in ("progressive", "exif", "cmyk"):
        options = {"progressive": {"progressive": True}, "exif": {"exif": turned}, "cmyk": {}}[kind]
        (picture.convert("CMYK") if kind == "cmyk" else picture).save(path, **options)
    else:
        file = {"png": cv2.imencode(".png", texture())[1].tobytes(), "cut": coded(texture())[:9000]}
        path.write_bytes(file.get(kind, b"no picture" * (kind == "no picture")))
    assert read_layout(path.read_bytes()) is None
    if kind in ("cut", "no picture", "empty"):
        with pytest.raises(UnreadableFrameError, match=r"1\.jpg"):
            frame(path).request_window(Window(10, 10, 20), 2)
        return
    half = frame(path)
    half.request_window(Window(10, 10, 20), 2)
    assert np.array_equal(half.decoded_region.pixels, read_picture(tmp_path / "1.jpg"))
    assert half.decoded_region.reduction == 1
    assert half.shape == ((WIDTH, HEIGHT, 3) if kind == "exif" else (HEIGHT, WIDTH, 3))


def test_a_missing_frame_is_reported(tmp_path):
    with pytest.raises(UnreadableFrameError, match=r"2\.jpg"):
        frame(tmp_path / "2.jpg").request_window(Window(0, 0, 9), 1)


@pytest.mark.parametrize("restarts", [0, 7])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), min_size=1, max_size=4), st.integers(700, 20000))
def test_damage_is_reported_or_decoded(tmp_path_factory, restarts, changes, length):
    data = bytearray(coded(texture(), restarts=restarts)[:length])
    for at, value in changes:
        data[min(at, length - 1)] = value
    path = tmp_path_factory.mktemp("damaged") / "1.jpg"
    path.write_bytes(data)
    try:
        damaged = frame(path)
        damaged.request_window(Window(10, 10, 20), 1)
        assert damaged.decoded_region.pixels.ndim == 3
    except UnreadableFrameError:
        assert cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR) is None


# Crops


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("restarts", [0, 7])
def test_samples_in_full_resolution_are_those_of_whole_pictures(tmp_path, spec, restarts):
    whole, part = (dataset(write(tmp_path, restarts, way), spec) for way in (Whole, Sequence))
    for i in range(12):
        assert all(torch.equal(a, b) for a, b in zip(whole[i].values(), part[i].values(), strict=True))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_reduced_samples_show_the_same_smoother(tmp_path, spec):
    fine, reduced = (dataset(write(tmp_path, 0), spec, reduced_decoding=on) for on in (False, True))
    differences = []
    for a, b in ((fine[i], reduced[i]) for i in range(12)):
        assert all(torch.equal(a[key], b[key]) for key in a if key not in ("template", "search"))
        differences.append((a["search"].int() - b["search"]).abs().float().mean())
    assert 0.5 < np.mean(differences) < 10


@pytest.mark.parametrize("compat", ["exact", "reference"])
@pytest.mark.parametrize("kind", [CropSpec, partial(DiMPCropSpec, inside=1.5)], ids=["constant", "replicated"])
@pytest.mark.parametrize("r", IMREAD_FLAGS)
def test_the_box_of_a_crop_is_where_the_object_is(tmp_path, compat, kind, r):
    """On average, the centroid of a bright square is the centre of its box."""
    spec, around, off = kind(16, 1.5, compat=compat), (9.0 * r, 7.0 * r, 16.0 * r, 16.0 * r), []
    for k in range(12):
        x, y, side = 10 * r + k % (2 * r + 1), 11 * r + 2 * k % (2 * r + 1), 8 * r + k % 3
        picture = np.zeros((64 * r, 48 * r, 3), np.uint8)
        picture[y : y + side, x : x + side] = 255
        (tmp_path / "1.jpg").write_bytes(coded(picture, cv2.IMWRITE_JPEG_QUALITY, 100, restarts=k % 2))
        shown = frame(tmp_path / "1.jpg")
        window = spec.training_window(shown.shape, around)
        assert largest_reduction(window.pixels.side, spec.size) == r
        shown.request_window(window.pixels, r)
        assert shown.decoded_region.reduction == r
        pixels = spec.crop(shown.decoded_region, window)
        weights = pixels[..., 1].astype(float)
        middle = [(weights.sum(axis) * (np.arange(spec.size) + 0.5)).sum() / weights.sum() for axis in (0, 1)]
        left, top, w, h = window.boxes.relative((x, y, side, side)) * spec.size
        off.append((middle[0] - left - w / 2, middle[1] - top - h / 2, weights.sum() / 255 / w / h - 1))
    flaw = 0.5 if compat == "reference" and kind is CropSpec else 0  # the original's
    assert np.mean(off, 0) == pytest.approx([flaw, flaw, 0], abs=0.08)
    assert np.ptp(off, 0).max() < 0.5


def test_reduced_crops_are_smooth_where_shrinking_alone_is_not(tmp_path):
    stripes = np.zeros((480, 640, 3), np.uint8)
    stripes[:, ::3] = 255
    (tmp_path / "1.jpg").write_bytes(coded(stripes, cv2.IMWRITE_JPEG_QUALITY, 100))
    spec, contrast = CropSpec(100, 4.0), []
    for r in (1, 4):
        shown = frame(tmp_path / "1.jpg")
        shown.request_window(Window(100, 40, 400), r)
        window = spec.training_window(shown.shape, (250.0, 190.0, 100.0, 100.0))
        contrast.append(spec.crop(shown.decoded_region, window).std())
    assert contrast[1] < contrast[0] * 0.6


def test_a_resampled_window_is_a_resized_one():
    picture = texture()
    part = DecodedRegion(picture[30:240, 40:300], picture.shape, left=40, top=30)
    for left, top, side, size in ((50, 40, 100, 70), (61, 33, 180, 179)):
        resized = cv2.resize(picture[top : top + side, left : left + side], (size, size))
        moved = part.resampled(Window(left, top, side), size, cv2.BORDER_CONSTANT)
        assert np.abs(resized.astype(int) - moved)[1:-1, 1:-1].max() <= 4  # OpenCV counts in steps of 1/32 pixel


@given(st.floats(1, 5000), st.integers(8, 400))
def test_no_crop_is_finer_than_its_picture(side, size):
    r = largest_reduction(side, size)
    assert r == 1 or side / r >= size
    assert r == 8 or side / (2 * r) < size


def test_a_picture_with_several_crops_is_decoded_once(tmp_path, monkeypatch):
    boxes = np.array([[200.0, 100, 160, 150]])
    still = write(tmp_path, 0, frames=["1.jpg"], boxes=boxes, absent=np.zeros(1, bool), still=True)
    calls = []
    monkeypatch.setattr(cv2, "imdecode", lambda *given, decode=cv2.imdecode: calls.append(1) or decode(*given))
    monkeypatch.setattr(cv2, "imread", None)
    sample = dataset(still, SPECS["dimp"], reduced_decoding=True)[0]
    assert sample["template"].shape[0] == sample["search"].shape[0] == 3
    assert len(calls) == 1


class Whole(Sequence):
    """A sequence whose frames are always decoded whole."""

    def frame(self, i):
        return Frame(self.folder, partial(self.image, i))


def write(folder, restarts, way=Sequence, **changes):
    """Writes a video of 16 frames with boxes of all sizes, some of them across the edge."""
    for k in range(16):
        (folder / f"{k}.jpg").write_bytes(video_frame(k % 4, restarts))
    boxes = np.array([[600.0, 10, 90, 70], [10, 440, 24, 30], [200, 100, 160, 150], [-20, 200, 300, 200]] * 4)
    about = {"frames": [f"{k}.jpg" for k in range(16)], "boxes": boxes, "absent": np.zeros(16, bool)} | changes
    return way("video", folder, **about)


def dataset(video, spec, **options):
    template = spec if spec.count > 1 else SPECS["template"]
    videos = Videos([video])
    videos.still = video.still
    mixture = Mixture({"": videos}, {"": 1}, SAMPLER, template.count, spec.count)
    return TrackingDataset(mixture, SAMPLER, template, spec, PLAIN, seed=0, train=True, **options)
