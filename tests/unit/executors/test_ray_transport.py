"""What an actor answers becomes events, whatever comes together in one answer. Ray itself is not needed."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from curate.engine.protocol.messages import WorkerFailed
from curate.executors import ray_transport
from curate.executors.framing import FrameType
from curate.executors.ray_transport import RayTransport


@pytest.fixture
def transport(monkeypatch: pytest.MonkeyPatch) -> RayTransport:
    ray = SimpleNamespace(
        put=lambda payload: payload, available_resources=dict, get=lambda ref: ref, kill=lambda handle: None
    )
    monkeypatch.setattr(ray_transport, "import_ray", lambda: ray)
    monkeypatch.setattr(ray_transport, "make_payload", lambda spec, elsewhere: None)
    hops: Any = [SimpleNamespace(hop=SimpleNamespace(name="transcribe"))]
    return RayTransport(hops, [{}], setup_attempts=1, setup_timeout_s=1.0)


def frame(kind: FrameType, message: Any) -> tuple[int, tuple[FrameType, int, bytes]]:
    return 0, (kind, 0, pickle.dumps(message))


def test_failure_of_a_stage_is_reported_when_its_teardown_has_logged_by_then(transport: RayTransport) -> None:
    actor = transport._actors[7] = ray_transport._Actor(object(), 0)
    together = [
        frame(FrameType.FAILED, ("the model is missing", "a traceback")),
        frame(FrameType.LOG, ("WARNING", 30, "torn down")),
    ]
    actor.calls.append(ray_transport._Call([pickle.dumps(together)], streams=False))
    (event,) = transport._answered(7)
    assert isinstance(event, WorkerFailed)
    assert (event.worker, str(event.error)) == (7, "the model is missing")
    assert not transport._actors
