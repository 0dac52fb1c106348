"""Picture files: what is decoded, the size of it, and what is no picture."""

import io
import pickle
import struct
import zlib
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules.frames.frame import Frame
from datamodules.frames.pictures import UnreadableFrameError, read_picture
from datamodules.readers import read_folder
from trackers.crops import Window

WIDTH, HEIGHT = 120, 80
ORIENTATION = 0x0112


def picture() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (10, 15, 3), np.uint8)
    return Image.fromarray(cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))


def encoded(form: str, image: Image.Image | None = None, **options) -> bytes:
    file = io.BytesIO()
    (image or picture()).save(file, form, **options)
    return file.getvalue()


def with_segment(data: bytes, content: bytes) -> bytes:
    """A JPEG file with an APP1 segment, in which EXIF and XMP data stand."""
    return data[:2] + b"\xff\xe1" + (len(content) + 2).to_bytes(2) + content + data[2:]


def partial_frame(path: Path) -> Frame:
    """A frame from which a part of the upper left corner is asked."""
    frame = Frame(path, partial(read_picture, path))
    frame.request_window(Window(10, 10, 20), 1)
    return frame


def assert_sizes_agree(path: Path, shape: tuple[int, ...]) -> None:
    """Checks that the frame and its sequence know the shape, and that a part has the pixels of the whole."""
    whole, frame = read_picture(path), partial_frame(path)
    assert whole.shape == frame.shape == shape
    part = frame.decoded_region
    shown = part.pixels[10 - part.top : 30 - part.top, 10 - part.left : 30 - part.left]
    assert np.array_equal(shown, whole[10:30, 10:30])
    (path.parent / "groundtruth.txt").write_text("1,2,3,4\n")
    (sequence,) = read_folder(path.parent)
    assert sequence.size == whole.shape[1::-1]


@pytest.mark.parametrize("orientation", [*range(11), 255, 65535])
@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "tiff"])
def test_the_size_is_that_of_the_turned_picture(form, orientation, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"1.{form}"
    path.write_bytes(encoded(form, exif=exif))
    turned = 5 <= orientation <= 8
    assert_sizes_agree(path, (WIDTH, HEIGHT, 3) if turned else (HEIGHT, WIDTH, 3))


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
XMP += '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{}"/></rdf:RDF></x:xmpmeta>'
SEGMENTS = {
    **{f"XMP {n}": b"http://ns.adobe.com/xap/1.0/\0" + XMP.format(n).encode() for n in (1, 6, 8, 9)},
    "EXIF cut off": b"Exif\0\0MM\0*\0\0",
    "EXIF of noise": b"Exif\0\0" + np.random.default_rng(0).bytes(99),
    "EXIF of nothing": b"Exif\0\0",
    "EXIF with a loop": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\x08",
    "EXIF as text": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x02" + b"6\0\0\0\0\0\0\0",
}


@pytest.mark.parametrize("kind", SEGMENTS)
def test_other_data_about_a_picture_do_not_turn_it(kind, tmp_path):
    path = tmp_path / "1.jpg"
    path.write_bytes(with_segment(encoded("jpeg"), SEGMENTS[kind]))
    assert_sizes_agree(path, (HEIGHT, WIDTH, 3))


def sixteen_bits(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels.astype(np.uint16) * 257)[1].tobytes()


KINDS = {
    "progressive": lambda: encoded("jpeg", progressive=True),
    "grey JPEG": lambda: encoded("jpeg", picture().convert("L")),
    "CMYK": lambda: encoded("jpeg", picture().convert("CMYK")),
    "4:4:4": lambda: encoded("jpeg", subsampling=0),
    "with restart markers": lambda: encoded("jpeg", restart_marker_blocks=4),
    "a JPEG of two pictures, as phones write them": lambda: encoded("mpo", save_all=True, append_images=[picture()]),
    "bytes after the end": lambda: encoded("jpeg") + b"\0" * 99,
    "16 bits": lambda: sixteen_bits(np.asarray(picture())),
    "16 bits, grey": lambda: sixteen_bits(np.asarray(picture())[..., 0]),
    "alpha": lambda: encoded("png", picture().convert("RGBA")),
    "grey and alpha": lambda: encoded("png", picture().convert("LA")),
    "palette": lambda: encoded("png", picture().quantize(16)),
    "one bit": lambda: encoded("png", picture().convert("1")),
    "BMP": lambda: encoded("bmp"),
    "WebP": lambda: encoded("webp", lossless=True),
    "TIFF": lambda: encoded("tiff", compression="tiff_lzw"),
    "GIF": lambda: encoded("gif"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_are_read_whole_and_in_part(kind, tmp_path):
    path = tmp_path / "1.jpg"  # the name says nothing about the format
    path.write_bytes(KINDS[kind]())
    assert_sizes_agree(path, (HEIGHT, WIDTH, 3))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}], ids=str)
def test_a_jpeg_that_lacks_only_its_end_is_read(options, tmp_path, capfd):
    whole, path = tmp_path / "whole.jpg", tmp_path / "1.jpg"
    whole.write_bytes(encoded("jpeg", **options))
    path.write_bytes(whole.read_bytes().removesuffix(b"\xff\xd9"))
    assert np.array_equal(read_picture(path), read_picture(whole))
    assert np.array_equal(partial_frame(path).decoded_region.pixels, read_picture(whole))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (20_000, 2)], ids=str)
@pytest.mark.parametrize("form", ["jpeg", "png"])
def test_extreme_sizes(size, form, tmp_path):
    path = tmp_path / f"1.{form}"
    path.write_bytes(encoded(form, picture().resize(size)))
    assert read_picture(path).shape == partial_frame(path).shape == (*size[::-1], 3)
    assert partial_frame(path).decoded_region.pixels.size


def huge_png() -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    chunks = (head, b"IDAT" + zlib.compress(bytes(20_000 * 2501)), b"IEND")
    whole = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


def huge_header() -> bytes:
    data = bytearray(encoded("jpeg"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\xff\xdc\xff\xdc"
    return bytes(data)


def animated(form: str) -> bytes:
    return encoded(form, save_all=True, append_images=[picture().rotate(90)])


BAD = {
    "empty": (lambda: b"", "empty or damaged"),
    "text": (lambda: b"no picture\n" * 99, "empty or damaged"),
    "noise": (lambda: np.random.default_rng(0).bytes(999), "empty or damaged"),
    "the start of a JPEG": (lambda: b"\xff\xd8\xff", "empty or damaged"),
    "JPEG, cut in its header": (lambda: encoded("jpeg")[:300], "empty or damaged"),
    "JPEG, cut in half": (lambda: encoded("jpeg")[:1500], "empty or damaged"),
    "JPEG, without its last bytes": (lambda: encoded("jpeg")[:-20], "empty or damaged"),
    "progressive JPEG, cut": (lambda: encoded("jpeg", progressive=True)[:1500], "empty or damaged"),
    "JPEG with EXIF, cut": (lambda: with_segment(encoded("jpeg"), b"Exif\0\0" + b"\xff\xd9" * 9)[:1500], "or damaged"),
    "PNG, cut": (lambda: encoded("png")[:1500], "empty or damaged"),
    "PNG with another checksum": (lambda: encoded("png").replace(b"IDAT", b"IDAX"), "empty or damaged"),
    "BMP, cut": (lambda: encoded("bmp")[:1500], "empty or damaged"),
    "WebP, cut": (lambda: encoded("webp")[:900], "empty or damaged"),
    "TIFF, cut": (lambda: encoded("tiff")[:1500], "empty or damaged"),
    "GIF, cut": (lambda: encoded("gif")[:1500], "empty or damaged"),
    "a PNG of 20,000 x 20,000": (huge_png, "too large"),
    "a JPEG whose header says 65,500 x 65,500": (huge_header, "too large"),
    "animated GIF": (lambda: animated("gif"), "it holds 2 pictures"),
    "animated PNG": (lambda: animated("png"), "it holds 2 pictures"),
    "animated WebP": (lambda: animated("webp"), "it holds 2 pictures"),
    "TIFF of two pages": (lambda: animated("tiff"), "it holds 2 pictures"),
    "SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "empty or damaged"),
    "PDF": (lambda: b"%PDF-1.4\n%%EOF\n", "empty or damaged"),
    "PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "empty or damaged"),
    "a video": (lambda: b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(99), "empty or damaged"),
}


def assert_is_refused(path: Path, reason: str, capfd: pytest.CaptureFixture) -> None:
    for read in (read_picture, lambda path: partial_frame(path).decoded_region):
        with pytest.raises(UnreadableFrameError, match=rf"{path.name}: .*{reason}") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_picture_is_named_in_one_line(kind, tmp_path, capfd):
    content, reason = BAD[kind]
    path = tmp_path / "7.jpg"
    path.write_bytes(content())
    assert_is_refused(path, reason, capfd)


@pytest.mark.parametrize("kind", ["missing", "a folder", "a link to nowhere", "a link to itself"])
def test_a_name_without_a_picture_is_named_in_one_line(kind, tmp_path, capfd):
    path = tmp_path / "7.jpg"
    if kind == "a folder":
        path.mkdir()
    elif kind.startswith("a link"):
        path.symlink_to("nowhere" if kind.endswith("nowhere") else path)
    assert_is_refused(path, "missing", capfd)


def test_an_unreadable_frame_comes_whole_out_of_another_process():
    error = pickle.loads(pickle.dumps(UnreadableFrameError(Path("a/1.jpg"), "it is too large")))
    assert (error.path, error.reason) == (Path("a/1.jpg"), "it is too large")
    assert str(error).count("cannot read the frame") == 1
