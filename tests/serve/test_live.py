"""``WS /v1/live``: frames in, tracked instances out."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from serve.conftest import Start, image
from serve.fake_model import SLOW


def test_frames_are_answered_with_tracks(client: TestClient) -> None:
    with client.websocket_connect("/v1/live?model=two&score_threshold=0.2") as socket:
        ids = []
        for index in range(5):
            socket.send_bytes(image(12))
            said = socket.receive_json()
            assert (said["frame"], said["dropped"], said["size"]) == (index, 0, [24, 32])
            assert said["ms"] > 0
            ids += [one["track_id"] for one in said["instances"]]
    assert len(ids) >= 3
    assert len(set(ids)) == 1


def test_without_tracks_every_instance_is_given(client: TestClient) -> None:
    with client.websocket_connect("/v1/live?track=0") as socket:
        socket.send_bytes(image(6))
        (one,) = socket.receive_json()["instances"]
    assert "track_id" not in one
    assert one["box"] == [0, 0, 6, 6]


def test_frames_that_come_too_fast_are_dropped_and_counted(client: TestClient) -> None:
    with client.websocket_connect("/v1/live?track=0") as socket:
        socket.send_bytes(image(SLOW))
        first = None
        for red in (3, 4, 5):
            socket.send_bytes(image(red))
        first, second = socket.receive_json(), socket.receive_json()
    assert (first["frame"], second["frame"]) in {(0, 3), (3, 3)}
    assert second["dropped"] == 2
    assert second["instances"][0]["box"][2] == 5


def test_a_frame_that_cannot_be_read_does_not_end_the_stream(client: TestClient) -> None:
    with client.websocket_connect("/v1/live") as socket:
        socket.send_bytes(b"broken")
        assert "frame 0: not an image" in socket.receive_json()["error"]
        socket.send_bytes(image(8))
        assert socket.receive_json()["frame"] == 1


@pytest.mark.parametrize("query", ["model=three", "score_threshold=5", "nothing=1"])
def test_a_query_that_does_not_fit_closes_the_socket(client: TestClient, query: str) -> None:
    with client.websocket_connect(f"/v1/live?{query}") as socket, pytest.raises(WebSocketDisconnect) as closed:
        socket.receive_json()
    assert closed.value.code == 1008
    assert closed.value.reason


def test_text_is_no_frame(client: TestClient) -> None:
    with client.websocket_connect("/v1/live") as socket:
        socket.send_text("hello")
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
    assert closed.value.code == 1003


def test_the_key_comes_as_a_protocol_where_headers_cannot_be_set(start: Start) -> None:
    client = start(key="secret")
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/live"):
        pass
    with client.websocket_connect("/v1/live", subprotocols=["key.secret"]) as socket:
        socket.send_bytes(image(6))
        assert socket.receive_json()["frame"] == 0
