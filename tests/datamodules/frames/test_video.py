"""Video files: frame `i` is the `i`-th one that is shown, in any order of reading, in all formats."""

import multiprocessing
import shutil
import threading
from pathlib import Path

import av
import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.frames import video as video_module
from datamodules.frames.decoder import Decoder
from datamodules.frames.pictures import UnreadableFrameError
from datamodules.frames.video import OPEN_FILES, VideoReader, index_video, read_video_frame
from datamodules.readers import read_folder
from datamodules.sequences.sequence import Sequence
from tests.datamodules.frames.encoding import (
    CONSTANT,
    COUNT,
    HEIGHT,
    VARIABLE,
    WIDTH,
    add_video,
    number_of,
    picture,
    write_video,
)

FORMATS = {
    "h264": ("mp4", "mkv", "mov", "avi", "ts", "flv"),
    "h264-intra-refresh": ("mp4", "mkv"),
    "h265": ("mp4", "mkv", "mov", "ts"),
    "vp8": ("webm", "avi"),
    "vp9": ("webm", "mkv", "mp4"),
    "av1": ("mp4", "webm"),
    "mpeg4": ("mp4", "mkv", "avi", "mov"),
    "mjpeg": ("avi", "mov"),
    "ffv1": ("mkv",),
    "mpeg2": ("mpg", "mkv"),
    "wmv2": ("wmv",),
}
RATES = {"constant": CONSTANT, "variable": VARIABLE}
CONSTANT_ONLY = ("mpeg2", "wmv2")
RARE = ("avi", "mov", "ts", "flv", "mpg", "wmv")
CASES = [
    pytest.param(codec, container, rate, marks=[pytest.mark.attack] * (container in RARE or rate == "constant"))
    for codec, containers in FORMATS.items()
    for container in containers
    for rate in RATES
    if rate == "constant" or codec not in CONSTANT_ONLY
]


def annotate(path: Path, count: int = COUNT) -> Path:
    """Writes the annotation beside a video file."""
    path.with_suffix(".txt").write_text("".join(f"{i},2,3,4\n" for i in range(count)))
    return path


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """walk.mp4 with a variable rate, its annotation beside it. No test may change it."""
    return annotate(write_video(tmp_path_factory.mktemp("encoded") / "walk.mp4", times=VARIABLE))


@pytest.fixture
def video(encoded: Path, tmp_path: Path) -> Path:
    """walk.mp4 and walk.txt of one test."""
    for suffix in (".mp4", ".txt"):
        shutil.copy(encoded.with_suffix(suffix), tmp_path)
    return tmp_path / "walk.mp4"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, list]:
    """The files that are opened, and the times to which decoders are moved."""
    calls = {"opened": [], "sought": []}
    start, seek = Decoder.__init__, Decoder.seek
    monkeypatch.setattr(Decoder, "__init__", lambda self, path: calls["opened"].append(path) or start(self, path))
    monkeypatch.setattr(Decoder, "seek", lambda self, time: calls["sought"].append(time) or seek(self, time))
    return calls


def numbers(pictures: list[np.ndarray]) -> list[int]:
    return [number_of(p) for p in pictures]


def decoded_with_times(path: Path) -> list[np.ndarray]:
    """All frames as PyAV returns them when it is used as its manual says."""
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24", interpolation="BICUBIC") for frame in file.decode(video=0)]


def assert_any_order_is_the_same(path: Path, count: int) -> list[np.ndarray]:
    """Checks that reading in order, at random and backwards gives the same `count` frames. Returns the frames."""
    index, (width, height) = index_video(path)
    with VideoReader(path, index) as reader:
        frames = [reader.frame(i) for i in range(len(index))]
        assert len(frames) == count
        assert {f.shape for f in frames} == {(height, width, 3)}
        for order in (np.random.default_rng(0).permutation(count), range(count - 1, -1, -1)):
            assert all(np.array_equal(reader.frame(int(i)), frames[i]) for i in order)
    return frames


# Formats


@pytest.mark.parametrize(("codec", "container", "rate"), CASES)
def test_frames_in_any_order(codec, container, rate, tmp_path, counted):
    path = write_video(tmp_path / f"walk.{container}", codec, RATES[rate])
    frames = assert_any_order_is_the_same(path, COUNT)
    assert numbers(frames) == list(range(COUNT))
    assert all(map(np.array_equal, frames, decoded_with_times(path)))
    if container not in ("ts", "mpg") and codec != "h264-intra-refresh":
        assert len(counted["opened"]) <= 3  # for the index, for the reader, and before the first key frame
        assert len(counted["sought"]) <= 2 * COUNT  # no seek goes wrong


def test_reading_in_order_never_seeks(video, counted):
    index, _ = index_video(video)
    with VideoReader(video, index) as reader:
        assert numbers([reader.frame(i) for i in range(COUNT)]) == list(range(COUNT))
        assert numbers([reader.frame(i) for i in (24, 26, 27)]) == [24, 26, 27]
    assert len(counted["sought"]) == 1
    assert len(counted["opened"]) == 2


@pytest.mark.parametrize("size", [(63, 95), (64, 97), (35, 64)], ids=str)
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p"])
def test_odd_sizes(size, pixels, tmp_path):
    path = write_video(tmp_path / "walk.mkv", "ffv1", size=size, pixels=pixels)
    frames = assert_any_order_is_the_same(path, COUNT)
    assert frames[0].shape == (*size, 3)
    assert numbers(frames) == list(range(COUNT))


@pytest.mark.parametrize("colours", [1, 5, 6, 9])  # BT.709, BT.601 in two variants, BT.2020
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_are_those_that_the_file_names(colours, full_range, tmp_path):
    path = write_video(tmp_path / "walk.mkv", "ffv1", pixels="yuv444p", colorspace=colours, color_range=1 + full_range)
    with av.open(str(path)) as file:
        y, cb, cr = next(file.decode(video=0)).to_ndarray().astype(float)
    if full_range:
        y, cb, cr = y / 255, (cb - 128) / 255, (cr - 128) / 255
    else:
        y, cb, cr = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    red, blue = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}.get(colours, (0.299, 0.114))
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    g = (y - red * r - blue * b) / (1 - red - blue)
    index, _ = index_video(path)
    expected = np.clip(np.stack([r, g, b], -1) * 255, 0, 255)
    assert np.abs(read_video_frame(path, index, 0) - expected).max() < 3


ONE, UNIT = 1 << 16, 1 << 30
TURNS = {  # the display matrix of an MP4 file, and what a player shows
    "none": ([ONE, 0, 0, 0, ONE, 0, 0, 0, UNIT], lambda p: p),
    "90": ([0, ONE, 0, -ONE, 0, 0, HEIGHT * ONE, 0, UNIT], lambda p: np.rot90(p, -1)),
    "180": ([-ONE, 0, 0, 0, -ONE, 0, WIDTH * ONE, HEIGHT * ONE, UNIT], lambda p: np.rot90(p, 2)),
    "270": ([0, -ONE, 0, ONE, 0, 0, 0, WIDTH * ONE, UNIT], np.rot90),
    "mirrored": ([-ONE, 0, 0, 0, ONE, 0, WIDTH * ONE, 0, UNIT], np.fliplr),
    "upside down": ([ONE, 0, 0, 0, -ONE, 0, 0, HEIGHT * ONE, UNIT], np.flipud),
    "transposed": ([0, ONE, 0, ONE, 0, 0, 0, 0, UNIT], lambda p: p.swapaxes(0, 1)),
    "transposed and turned": ([0, -ONE, 0, -ONE, 0, 0, 0, 0, UNIT], lambda p: np.rot90(p.swapaxes(0, 1), 2)),
    "45, which no player turns": ([46341, 46341, 0, -46341, 46341, 0, 0, 0, UNIT], lambda p: p),
    "zeros": ([0] * 9, lambda p: p),
}


@pytest.mark.parametrize("turn", TURNS)
def test_frames_are_turned_as_players_do(video, turn):
    matrix, shown = TURNS[turn]
    upright = assert_any_order_is_the_same(video, COUNT)
    data = bytearray(video.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = np.array(matrix, ">i4").tobytes()
    video.write_bytes(data)
    frames = assert_any_order_is_the_same(video, COUNT)
    assert all(np.array_equal(f, shown(u)) for f, u in zip(frames, upright, strict=True))
    (s,) = read_folder(video)
    assert s.size == (s.image(3).shape[1], s.image(3).shape[0])


def test_the_main_track_is_that_of_players(tmp_path):
    """Sound comes first, then a small picture track that is not the default, then the video, then a cover picture."""
    path = tmp_path / "walk.mp4"
    with av.open(str(path), "w") as file:
        sound = file.add_stream("aac", rate=8000, layout="mono")
        other, other_packets = add_video(file, size=(160, 192))
        other.disposition = av.stream.Disposition(0)
        main, packets = add_video(file)
        main.disposition = av.stream.Disposition.default
        cover, cover_packets = add_video(file, "mjpeg", CONSTANT[:1], size=(320, 480))
        cover.disposition = av.stream.Disposition.attached_pic
        quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        quiet.rate, quiet.pts = 8000, 0
        every = [*sound.encode(quiet), *sound.encode(), *other_packets(), *packets(), *cover_packets()]
        file.mux(every)
    frames = assert_any_order_is_the_same(path, COUNT)
    assert frames[0].shape == (HEIGHT, WIDTH, 3)
    assert numbers(frames) == list(range(COUNT))


def test_a_live_stream_says_nothing_of_its_length(tmp_path):
    path = write_video(tmp_path / "walk.webm", "vp9", VARIABLE, options={"live": "1", "cluster_time_limit": "100"})
    assert numbers(assert_any_order_is_the_same(path, COUNT)) == list(range(COUNT))


def test_an_edit_list_drops_frames(video):
    """A file that was cut without encoding it again shows its frames from the cut on."""
    path = video.with_name("cut.mp4")
    with av.open(str(video)) as source, av.open(str(path), "w") as file:
        track = file.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                cut = int(VARIABLE[6] / 1000 / packet.time_base)
                packet.stream, packet.pts, packet.dts = track, packet.pts - cut, packet.dts - cut
                file.mux(packet)
    assert numbers(assert_any_order_is_the_same(path, COUNT - 6)) == list(range(6, COUNT))


def test_equal_times_do_not_confuse_frames(tmp_path):
    """All packets of a track that was written with errors have the same time or none."""
    path = write_video(tmp_path / "walk.avi", "mpeg4", CONSTANT)
    with av.open(str(path)) as source, av.open(str(tmp_path / "walk.mkv"), "w") as file:
        track = file.add_stream_from_template(source.streams.video[0])
        for i, packet in enumerate(p for p in source.demux(video=0) if p.size):
            packet.stream, packet.pts, packet.dts = track, i // 10, i // 10
            file.mux(packet)
    frames = assert_any_order_is_the_same(tmp_path / "walk.mkv", COUNT)
    assert numbers(frames) == list(range(COUNT))


# Damage


@pytest.mark.parametrize(
    ("codec", "container", "options"),
    [
        ("h264", "mp4", {"movflags": "faststart"}),
        ("h264", "mp4", {"movflags": "frag_keyframe"}),
        ("h264", "mkv", {}),
        ("h265", "mkv", {}),
        ("h264", "ts", {}),
        ("vp9", "webm", {}),
        ("mpeg4", "avi", {}),
        ("mjpeg", "avi", {}),
        ("mpeg2", "mpg", {}),
        ("av1", "webm", {}),
    ],
)
def test_a_video_that_is_cut_off_has_the_frames_that_can_be_read(codec, container, options, tmp_path):
    path = annotate(write_video(tmp_path / f"walk.{container}", codec, options=options))
    data = path.read_bytes()
    pictures = data.find(b"idx1") if container == "avi" else len(data)
    path.write_bytes(data[: int(0.6 * pictures)])
    count = len(index_video(path)[0])
    assert 5 < count < COUNT
    frames = assert_any_order_is_the_same(path, count)
    assert numbers(frames)[:-3] == list(range(count - 3))
    with pytest.raises(DataError, match=rf"walk\.{container} has {count} frames and {COUNT} annotated boxes"):
        read_folder(path)
    path.with_suffix(".txt").write_text("1,2,3,4\n")
    (s,) = read_folder(path)
    assert len(s) == count


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "mpeg4", "av1"])
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.attack) for seed in range(1, 6))])
def test_damaged_bytes_give_the_same_frames_in_any_order(codec, seed, tmp_path):
    path = write_video(tmp_path / "walk.mkv", codec)
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    rng = np.random.default_rng(seed)
    data[rng.integers(len(data) // 4, len(data), 6)] = rng.integers(0, 256, 6)
    path.write_bytes(data)
    assert_any_order_is_the_same(path, len(index_video(path)[0]))


@pytest.mark.parametrize("codec", ["h264", "mpeg4", "vp9", "av1"])
def test_damage_is_told(codec, tmp_path, caplog):
    path = annotate(write_video(tmp_path / "walk.mkv", codec))
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    data[np.random.default_rng(1).integers(len(data) // 4, len(data) - 300, 30)] ^= 0xFF
    path.write_bytes(data)
    count = len(assert_any_order_is_the_same(path, len(index_video(path)[0])))
    assert "walk.mkv is damaged: " in caplog.text
    with pytest.raises(DataError, match=f"has {count} frames and {COUNT} annotated boxes"):
        read_folder(path)


@pytest.mark.parametrize("codec", ["h264", "vp9", "mpeg4"])
def test_frames_before_the_first_key_frame_are_those_of_the_decoder(codec, tmp_path):
    path = write_video(tmp_path / "walk.mkv", codec)
    with av.open(str(path)) as source, av.open(str(tmp_path / "late.mkv"), "w") as file:
        track = file.add_stream_from_template(source.streams.video[0])
        for packet in [p for p in source.demux(video=0) if p.size][5:]:
            packet.stream = track
            file.mux(packet)
    frames = assert_any_order_is_the_same(tmp_path / "late.mkv", len(index_video(tmp_path / "late.mkv")[0]))
    assert numbers(frames)[-20:] == list(range(20, COUNT))


def no_pictures(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as file:
        sound = file.add_stream("aac", rate=8000, layout="mono")
        quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        quiet.rate, quiet.pts = 8000, 0
        file.mux([*sound.encode(quiet), *sound.encode()])


def two_sizes(path: Path) -> None:
    """Two recordings of different sizes in one MPEG stream."""
    small, large = (write_video(path.with_name(f"{h}.ts"), times=CONSTANT[:9], size=(h, 96)) for h in (64, 80))
    path.write_bytes(small.read_bytes() + large.read_bytes())


def rewritten(change) -> object:
    """A way to write walk.mp4 and to change its bytes."""

    def write(path: Path) -> None:
        data = bytearray(write_video(path.with_name("good.mp4"), times=CONSTANT[:9]).read_bytes())
        path.write_bytes(change(data))

    return write


def blank_pictures(data: bytearray) -> bytearray:
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    return data


BAD_VIDEOS = {
    "empty": (lambda path: path.touch(), "it is no video"),
    "text": (lambda path: path.write_text("no video\n" * 99), "it is no video"),
    "zeros": (lambda path: path.write_bytes(bytes(9999)), "it is no video"),
    "noise": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(9999)), "it is no video"),
    "a playlist": (
        lambda path: path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nx.ts\n"),
        "it is no video",
    ),
    "a list of files": (lambda path: path.write_text("ffconcat version 1.0\nfile good.mp4\n"), "it is no video"),
    "a description": (
        lambda path: path.write_text("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 1 RTP/AVP 96\n"),
        "no video",
    ),
    "a picture": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)), "it is no video"),
    "an archive": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(999)), "it is no video"),
    "sound alone": (no_pictures, "it has no picture track"),
    "two sizes": (two_sizes, "the size changes from 96x64 to 96x80 in frame 9"),
    "its end is missing": (rewritten(lambda d: d[: d.index(b"moov")]), "it is no video"),
    "its start is missing": (rewritten(lambda d: d[200:]), "it is no video"),
    "its head alone": (rewritten(lambda d: d[:32]), "it is no video"),
    "an unknown codec": (rewritten(lambda d: d.replace(b"avc1", b"xyz1")), "known codec|no frame"),
    "blank pictures": (rewritten(blank_pictures), "no frame of it can be decoded"),
}


@pytest.mark.parametrize("kind", BAD_VIDEOS)
def test_a_bad_video_is_named_in_one_line(kind, tmp_path, capfd):
    write, reason = BAD_VIDEOS[kind]
    path = annotate(tmp_path / "walk.mp4")
    write(path)
    with pytest.raises(DataError, match=rf"walk\.mp4 cannot be read: .*({reason})") as caught:
        read_folder(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_video_that_changes_after_it_was_indexed_is_an_error(video):
    (s,) = read_folder(video)
    images = s.images()
    assert number_of(next(images)) == 0
    write_video(video, times=VARIABLE[:20], size=(48, 96))
    for read in (lambda: s.image(7), lambda: list(s.images())):
        with pytest.raises(UnreadableFrameError, match="has changed since it was indexed"):
            read()


# Readers of sequences


def test_a_video_is_read_with_its_annotation(video):
    (s,) = read_folder(video)
    assert (s.name, len(s), s.size, s.annotated) == ("walk", COUNT, (WIDTH, HEIGHT), True)
    assert s.boxes[:, 0].tolist() == [*range(COUNT)]
    assert numbers(s.images()) == list(range(COUNT))


def test_a_cached_index_gives_the_same_frames_without_decoding_the_file_again(video, tmp_path, counted):
    for _ in range(2):
        (s,) = read_folder(video, cache=tmp_path / "cache")
        assert [number_of(s.image(i)) for i in (30, 7, 8, 39)] == [30, 7, 8, 39]
    assert len(counted["opened"]) == 2  # to index the file, and to read from it


def test_past_the_end(video):
    (s,) = read_folder(video)
    with pytest.raises(IndexError):
        s.image(COUNT)
    longer = Sequence(s.name, s.folder, ("",) * (COUNT + 1), s.boxes, s.absent, video=s.video)
    with pytest.raises(UnreadableFrameError, match=r"walk\.mp4/frame 40"):
        longer.image(COUNT)
    assert number_of(longer.image(3)) == 3


def test_few_files_stay_open(video, counted, monkeypatch):
    closed = []
    close = VideoReader.close
    monkeypatch.setattr(VideoReader, "close", lambda self: closed.append(self.path) or close(self))
    index, _ = index_video(video)
    paths = [shutil.copy(video, video.with_name(f"{k}.mp4")) for k in range(OPEN_FILES + 2)]
    assert all(number_of(read_video_frame(path, index, i)) == i for i in (0, 1, 2) for path in paths[:OPEN_FILES])
    assert counted["opened"][1:] == paths[:OPEN_FILES]
    for path in paths:
        read_video_frame(path, index, 0)
    assert len(closed) >= 2
    assert len(video_module._of_thread.readers) == OPEN_FILES


def all_frames_match(s: Sequence) -> bool:
    return all(number_of(s.image(int(i))) == i for i in np.random.default_rng(1).permutation(COUNT))


def test_forks_do_not_share_an_open_video(video):
    (s,) = read_folder(video)
    assert number_of(s.image(7)) == 7
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert all(pool.map_async(all_frames_match, [s, s]).get(timeout=600))
    assert number_of(s.image(8)) == 8


def test_threads_do_not_share_an_open_video(video):
    (s,) = read_folder(video)
    right = []
    threads = [threading.Thread(target=lambda: right.append(all_frames_match(s))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert right == [True] * 4


def test_a_video_needs_an_annotation(video):
    video.with_suffix(".txt").unlink()
    with pytest.raises(
        DataError, match=r"walk\.mp4 has no annotation .*walk\.txt: write a line x,y,w,h into it for each"
    ):
        read_folder(video)


def test_a_video_and_a_folder_of_one_name_are_refused(video):
    folder = video.with_suffix("")
    folder.mkdir()
    (folder / "1.jpg").touch()
    (folder / "groundtruth.txt").write_text("1,2,3,4")
    with pytest.raises(DataError, match="lists walk more than once"):
        read_folder(video.parent)


def test_numbers_survive_the_smallest_picture():
    assert [number_of(picture(i)) for i in range(COUNT)] == list(range(COUNT))
