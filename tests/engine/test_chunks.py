"""Every frame of a shot is written exactly once, whatever the length and the grid."""

from __future__ import annotations

import pytest

from vsr.engine.chunks import Chunk, Chunker, ChunkGrid, iterate_chunks

GRIDS = [(1, 0), (1, 1), (2, 1), (3, 0), (5, 2), (4, 6), (15, 3)]


@pytest.mark.parametrize(("chunk", "context"), GRIDS)
def test_every_frame_written_exactly_once(chunk: int, context: int) -> None:
    for num_frames in range(3 * (chunk + context) + 2):
        calls = list(iterate_chunks(range(num_frames), ChunkGrid(chunk, context)))
        written = [item for call in calls for item in call.items[: call.num_written]]
        assert written == list(range(num_frames))


@pytest.mark.parametrize(("chunk", "context"), GRIDS)
def test_size_is_fixed_except_in_the_last_call(chunk: int, context: int) -> None:
    for num_frames in range(1, 3 * (chunk + context) + 2):
        calls = list(iterate_chunks(range(num_frames), ChunkGrid(chunk, context)))
        for call in calls[:-1]:
            assert len(call.items) == chunk + context
            assert call.num_context == context
            assert call.num_written == chunk
        assert len(calls[-1].items) <= chunk + context


def test_context_comes_again_as_first_frames() -> None:
    calls = list(iterate_chunks("abcdefgh", ChunkGrid(3, 2)))
    assert calls == [
        Chunk(tuple("abcde"), 2),
        Chunk(tuple("defgh"), 2),
        Chunk(tuple("gh"), 0),
    ]


def test_shorter_shot_than_a_chunk_is_one_call_without_context() -> None:
    assert list(iterate_chunks("ab", ChunkGrid(4, 2))) == [Chunk(("a", "b"), 0)]


def test_empty_shot_gives_no_call() -> None:
    assert list(iterate_chunks("", ChunkGrid(4, 2))) == []


def test_chunker_can_be_used_for_the_next_shot_after_finish() -> None:
    chunker: Chunker[str] = Chunker(ChunkGrid(2, 1))
    assert chunker.push("a") is None
    assert chunker.finish() == Chunk(("a",), 0)
    assert chunker.finish() is None
    assert chunker.push("b") is None
    assert chunker.push("c") is None
    assert chunker.push("d") == Chunk(("b", "c", "d"), 1)


def test_holds_no_more_than_one_call() -> None:
    chunker: Chunker[int] = Chunker(ChunkGrid(3, 2))
    for index in range(1000):
        chunker.push(index)
        assert len(chunker._held) < 5


@pytest.mark.parametrize(("chunk", "context"), GRIDS)
def test_a_shot_that_goes_on_elsewhere_is_written_up_to_its_border(
    chunk: int, context: int
) -> None:
    for num_written in range(1, 3 * (chunk + context) + 2):
        for lookahead in range(context + 1):
            chunker: Chunker[int] = Chunker(ChunkGrid(chunk, context))
            calls = [chunker.push(item) for item in range(num_written + lookahead)]
            calls.append(chunker.finish(lookahead))
            made = [call for call in calls if call is not None]
            written = [item for call in made for item in call.items[: call.num_written]]
            assert written == list(range(num_written))
            # Every call but a shot's last sees its whole context.
            assert all(call.num_context == context for call in made[:-1])
            assert chunker.is_empty
