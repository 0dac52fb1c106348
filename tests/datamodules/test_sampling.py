"""The frames of a sample: the two orders, negatives, and the videos that are long enough."""

from collections import Counter

import numpy as np
import pytest

from datamodules.sampling import FrameSampler
from datamodules.sequences.sequence import Sequence
from tests.datamodules.videos import Videos


def sampler(order="causal", negatives=0.0, max_gap=9, min_frames=20, min_visible=5):
    return FrameSampler(order, negatives, max_gap, min_frames, min_visible)


def sequence(visible, name="s"):
    n = len(visible)
    return Sequence(name, None, tuple(map(str, range(n))), np.ones((n, 4)), ~np.array(visible, bool))


def drawn(by, sequences, templates=1, count=500, searches=1):
    rng = np.random.default_rng(0)
    return [by.draw(sequences, rng, templates, searches) for _ in range(count)]


def frames(draws):
    return [tuple(frame for _, frame in (*draw.templates, *draw.search)) for draw in draws]


def test_causal_the_search_frame_follows_the_template_within_the_gap():
    draws = drawn(sampler(), [sequence([i % 3 == 0 for i in range(60)])])
    assert {search - template for template, search in frames(draws)} == {3, 6, 9}
    assert {template for template, _ in frames(draws)} == set(range(0, 57, 3))
    assert all(draw.present for draw in draws)


def test_causal_the_gap_grows_until_a_frame_is_visible():
    draw = sampler(max_gap=5).draw([sequence([True] + [False] * 40 + [True])], np.random.default_rng(0), 1)
    assert frames([draw]) == [(0, 41)]


def test_causal_without_negatives_draws_three_numbers():
    """Otherwise the seeds of earlier studies would give other samples."""
    rng, three = np.random.default_rng(3), np.random.default_rng(3)
    videos = [sequence([True] * n, str(n)) for n in (20, 30, 40)]
    draw = sampler(max_gap=6).draw(videos, rng, 1)
    video = videos[three.integers(3)]
    template = three.integers(len(video) - 1)
    search = three.integers(template + 1, min(template + 7, len(video)))
    assert (draw.templates, draw.search) == ([(video, template)], [(video, search)])
    assert rng.bit_generator.state == three.bit_generator.state


def test_causal_further_templates_come_before_the_first_and_all_search_frames_after_it():
    draws = frames(drawn(sampler(max_gap=4), [sequence([i % 2 == 0 for i in range(40)])], 3, 3000, 2))
    assert {len(draw) for draw in draws} == {5}
    assert {frame - first for first, *near, _, _ in draws for frame in near} == {-2, -4}
    assert {frame - first for first, _, _, *searches in draws for frame in searches} == {2, 4}
    assert {first for first, *_ in draws} == set(range(2, 38, 2))


def test_causal_the_gap_grows_to_both_sides():
    video = sequence([True] + [False] * 30 + [True, True])
    assert frames([sampler(max_gap=5).draw([video], np.random.default_rng(0), 2)]) == [(31, 0, 32)]


def test_trident_has_one_search_region():
    by = sampler("trident")
    for refused in (by.select_usable, lambda videos, *n: by.draw(videos, np.random.default_rng(0), *n)):
        with pytest.raises(ValueError, match=r"one search region, the tracker needs 2.*sampling=causal"):
            refused([sequence([True] * 30)], 1, 2)


def test_trident_first_template_and_search_are_independent_and_uniform():
    draws = drawn(sampler("trident"), [sequence([i % 4 == 0 for i in range(28)])], templates=2, count=4900)
    counts = Counter((first, search) for first, _, search in frames(draws))
    assert set(counts) == {(4 * a, 4 * b) for a in range(7) for b in range(7)}
    assert 60 < min(counts.values()) <= max(counts.values()) < 140  # 100 each, four standard deviations


def test_trident_further_templates_are_near_the_search_frame_on_the_side_of_the_first():
    video = sequence([i % 2 == 0 for i in range(40)])
    draws = frames(drawn(sampler("trident", max_gap=5), [video], templates=3, count=3000))
    offsets = {side: set() for side in (True, False)}
    for first, *extra, search in draws:
        offsets[first >= search] |= {frame - search for frame in extra}
    assert offsets == {True: {0, 1, 2, 3, 4, 5}, False: {0, -1, -2, -3, -4, -5}}  # odd ones from even are invisible
    everything = {frame for draw in draws for frame in draw}
    assert (min(everything), max(everything)) == (0, 39)
    assert any(a != b for _, a, b, _ in draws)


def test_trident_passes_over_frames_without_a_box():
    video = sequence([i % 2 == 0 for i in range(40)])
    video.boxes[1::4, 2:] = 0
    extra = {extra for _, extra, _ in frames(drawn(sampler("trident"), [video], templates=2))}
    assert extra == set(range(40)) - set(range(1, 40, 4))


def test_trident_needs_more_than_two_visible_frames_a_crop():
    few, enough, more = (sequence([True] * n + [False] * 20) for n in (6, 7, 8))
    assert list(sampler("trident").select_usable(Videos([few, enough]), 2)) == [enough]
    assert list(sampler("trident").select_usable(Videos([few, enough]), 1)) == [few, enough]
    assert list(sampler("trident", min_visible=8).select_usable(Videos([few, enough, more]), 2)) == [more]
    with pytest.raises(ValueError, match=r"of which 7 are visible \(these crops need more than 6\)"):
        sampler("trident").select_usable(Videos([few]), 2)


def test_short_sequences_are_left_out_and_none_left_is_an_error():
    long, short, hidden = sequence([True] * 30), sequence([True] * 10), sequence([True] * 4 + [False] * 30)
    assert list(sampler().select_usable(Videos([long, short, hidden]), 1)) == [long]
    with pytest.raises(ValueError, match=r"20 frames of which 5 are visible; lower .*min_frames or min_visible"):
        sampler().select_usable(Videos([short, hidden]), 1)


@pytest.mark.parametrize("order", ["causal", "trident"])
def test_negatives_are_invisible_frames_of_the_same_video(order):
    videos = [sequence([i not in hidden for i in range(30)], str(hidden)) for hidden in ((7, 8), (20, 21))]
    draws = drawn(sampler(order, 0.3), videos, count=2000)
    assert 500 < sum(not draw.present for draw in draws) < 700
    for draw in draws:
        [(video, frame)] = draw.search
        assert video is draw.templates[0][0]
        assert video.visible[frame] == draw.present
    assert {draw.search[0][1] for draw in draws if not draw.present} == {7, 8, 20, 21}


def test_negatives_of_videos_without_invisible_frames_come_from_another():
    names = ("a", "b", "c")
    videos = [sequence([True] * 20, "a"), sequence([True] * 20, "b"), sequence([True] * 10 + [False] * 10, "c")]
    draws = [d for d in drawn(sampler("trident", 0.9), videos, count=3000) if not d.present]
    pairs = Counter((draw.templates[0][0].name, draw.search[0][0].name) for draw in draws)
    assert set(pairs) == {(x, y) for x in names for y in names if x != y and x != "c"} | {("c", "c")}
    assert min(pairs.values()) > 400
    borrowed = {d.search[0][1] for d in draws if d.search[0][0].name == "c" and d.templates[0][0].name != "c"}
    assert borrowed == set(range(10))


def test_negatives_need_another_video():
    video = sequence([True] * 30)
    with pytest.raises(ValueError, match=r"only s of 2 is usable.*negatives=0"):
        sampler(negatives=0.5).select_usable(Videos([video, sequence([True] * 3)]), 1)
    assert len(sampler(negatives=0.5).select_usable(Videos([video, video]), 1)) == 2


@pytest.mark.parametrize("negatives", [-0.1, 1.0, float("nan")])
def test_shares_out_of_range_are_refused(negatives):
    with pytest.raises(ValueError, match=f"negatives={negatives} must be in"):
        sampler(negatives=negatives)


def test_unknown_orders_are_refused():
    with pytest.raises(ValueError, match=r"order=random is not known.*causal or trident"):
        sampler("random")
