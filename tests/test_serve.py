"""python -m astrom3.serve as a real process: the numbers of `classify`, one sentence for bad input, a graceful stop."""

import json
import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import numpy as np
import pytest
from data_files import write_ours
from serving import server
from small_models import rows_with_gaps, save_model

from astrom3.errors import UserError
from astrom3.inference.confidence import Calibration, Confidence
from astrom3.inference.novelty import Novelty
from astrom3.inference.trained import TrainedModel
from astrom3.modalities.schema import CLASSES

pytest.importorskip("uvicorn", reason="serving needs astrom3[serve]")
ROWS = rows_with_gaps(20)
CURVE = {"time": [1.0, 2.0, 3.0], "flux": [1.0, 2.0, 1.0], "flux_err": [0.1, 0.1, 0.1]}


def sent(row):
    """An object as a client sends it."""
    found = {"id": row["object_id"], "metadata": row["photo_cols"] | row["meta_cols"]}
    for name in ("light_curve", "spectrum"):
        if row[name] is not None:
            found[name] = {key: np.asarray(values, float).tolist() for key, values in row[name].items()}
    return found


OBJECTS = [sent(row) for row in ROWS]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """An untrained trimodal classifier with a confidence.json of drawn numbers."""
    root = tmp_path_factory.mktemp("serve")
    write_ours(root / "survey", rows_with_gaps(90))
    folder = save_model(root / "model", root / "survey")
    draws = np.random.default_rng(0)
    labels = np.arange(400) % len(CLASSES)
    probabilities = draws.dirichlet(np.ones(len(CLASSES)), 400)
    vectors = draws.normal(size=(800, 24)) + 3 * np.eye(24)[np.arange(800) % len(CLASSES)]
    novelty = Novelty.fit(vectors[:400], labels, vectors[400:])
    Confidence(CLASSES, Calibration.fit(probabilities, labels), (), 0, novelty).save(folder)
    return folder


@pytest.fixture(scope="session")
def address(model_folder, tmp_path_factory):
    """Of a server with narrow limits."""
    output = tmp_path_factory.mktemp("served") / "log"
    options = ["device=cpu", "objects=30", "points=800", "body_mb=1", "wait_ms=20", "seconds=2"]
    with server("serve", [f"model={model_folder}", *options], output) as (found, _):
        yield found
    assert "Traceback" not in output.read_text()


@pytest.fixture(scope="session")
def client(address):
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as one:
        yield one


@pytest.fixture(scope="session")
def expected(model_folder):
    """What the same model says in Python, object by object, None where it refuses."""
    model = TrainedModel.load(model_folder, device="cpu")
    found = []
    for row in ROWS:
        try:
            found.append(
                model.classify(row["light_curve"], row["spectrum"], row["photo_cols"] | row["meta_cols"], coverage=0.9)
            )
        except UserError:  # four points
            found.append(None)
    return found


def test_the_answers_are_those_of_classify(client, expected):
    answer = client.post("/classify", json={"objects": OBJECTS, "coverage": 0.9, "embedding": True}).json()
    assert answer["calibrated"] and answer["model"] == "model" and answer["rejected"] == 0
    assert [one["id"] for one in answer["objects"]] == [row["object_id"] for row in ROWS]
    assert expected.count(None) == 1
    for one, python in zip(answer["objects"], expected, strict=True):
        if python is None:
            assert "fewer than 10 usable points" in one["notes"][0] and one["modalities"] == ["spectra", "metadata"]
            continue
        assert one["class"] == python.labels[0]
        assert one["probabilities"] == pytest.approx(python.as_dicts()[0], abs=2e-5)
        assert set(one["set"]) == set(python.sets[0])
        assert one["novelty"] == pytest.approx(float(python.novelty[0]), rel=1e-4)
        assert one["novelty_quantile"] == pytest.approx(float(python.novelty_quantile[0]), abs=1e-4)
        assert len(one["embedding"]) == 24
    assert answer["vouched"] == pytest.approx(expected[0].vouched, abs=1e-5)


def test_requests_that_come_together_get_their_own_answers(client, expected):
    def ask(place):
        return client.post("/classify", json=OBJECTS[place]).json()["objects"]

    chosen = [place for place in range(20) if expected[place] is not None]
    before = batches(client)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, chosen))
    for place, (one,) in zip(chosen, answers, strict=True):
        assert one["id"] == ROWS[place]["object_id"]
        assert one["probabilities"] == pytest.approx(expected[place].as_dicts()[0], abs=2e-5)
    assert batches(client) - before < len(chosen)


def batches(client):
    return int(re.search(r"^astrom3_batches_total (\d+)$", client.get("/metrics").text, re.MULTILINE)[1])


def test_embeddings_are_asked_for_by_themselves(client, model_folder):
    answer = client.post("/embed", json={"objects": OBJECTS[:2]}).json()
    row = ROWS[0]
    model = TrainedModel.load(model_folder, device="cpu")
    python = model.embed(row["light_curve"], row["spectrum"], row["photo_cols"] | row["meta_cols"])
    np.testing.assert_allclose(answer["objects"][0]["embedding"], python.mean[0], atol=1e-5)
    assert "probabilities" not in answer["objects"][0]


def test_magnitudes_are_read_with_their_system(client):
    curve = OBJECTS[0]["light_curve"]
    magnitudes = {
        "hjd": curve["time"],
        "mag": (16.4 - 2.5 * np.log10(curve["flux"])).tolist(),
        "mag_err": [0.01] * len(curve["time"]),
    }
    one = {"light_curve": magnitudes, "metadata": OBJECTS[0]["metadata"]}
    relative = client.post("/classify", json=one).json()["objects"][0]
    assert any("relative fluxes" in note for note in relative["notes"])
    found = client.post("/classify", json={"objects": [one], "zero_point": 1e6}).json()["objects"][0]
    assert found["probabilities"] == relative["probabilities"] and "notes" not in found
    assert client.post("/classify", json={"objects": [one], "system": "AB"}).status_code == 200


def test_one_of_several_bands_is_read(client):
    curve = OBJECTS[0]["light_curve"]
    points = len(curve["time"])
    twice = {name: values + values for name, values in curve.items()} | {"band": ["g"] * points + ["r"] * points}
    one = OBJECTS[0] | {"light_curve": twice}
    found = client.post("/classify", json={"objects": [one], "band": "r"}).json()["objects"][0]
    plain = client.post("/classify", json=OBJECTS[0]).json()["objects"][0]
    assert found["probabilities"] == pytest.approx(plain["probabilities"], abs=2e-5)
    refused = client.post("/classify", json={"objects": [one], "band": "z"})
    assert refused.status_code == 422 and "has the bands g, r" in refused.json()["error"]


def test_a_bad_object_is_rejected_and_the_others_are_answered(client):
    bad = {"id": "bad", "light_curve": CURVE | {"flux": [1.0]}}
    few = {"id": "few", "light_curve": CURVE}
    answer = client.post("/classify", json={"objects": [OBJECTS[0], bad, few, OBJECTS[5]]})
    assert answer.status_code == 200 and answer.json()["rejected"] == 2
    first, second, third, last = answer.json()["objects"]
    assert "unequal lengths" in second["rejected"] and "fewer than 10 usable points" in third["rejected"]
    assert "class" in first and "class" in last and "class" not in second


CASES = [
    ("{", 400, "no JSON"),
    ("", 400, "no JSON"),
    (b"\xff\xfe", 400, "UTF-8"),
    ("[" * 100_000, 400, "nested too deeply"),
    ("[1]", 400, "the body is a list"),
    ('"text"', 400, "the body is text"),
    ('{"metadata": {"period": NaN}}', 400, "NaN is no number of JSON"),
    ('{"metadata": {"period": -Infinity}}', 400, "-Infinity is no number"),
    ('{"metadata": {"period": 1.0, "period": 2.0}}', 400, "the key 'period' stands twice"),
    ({}, 400, "there are no objects"),
    ({"objects": []}, 400, "empty list"),
    ({"objects": {}}, 400, "not a list of objects"),
    ({"objects": [None]}, 400, "object 0 is null"),
    ({"object": []}, 400, "object is no field"),
    ({"x" * 1000: 1}, 400, "is no field of a request"),
    ({"objects": [{"lightcurve": CURVE}]}, 400, "lightcurve is no field of an object"),
    ({"objects": [OBJECTS[0]], "spectrum": {}}, 400, "spectrum stands beside objects"),
    ({"objects": [{"id": {}, "light_curve": CURVE}]}, 400, "id of object 0"),
    ({"metadata": {"period": 1.0}, "coverage": 2}, 400, "coverage=2.0 must lie between 0 and 1"),
    ({"metadata": {"period": 1.0}, "coverage": "high"}, 400, "coverage is text"),
    ({"metadata": {"period": 1.0}, "embedding": 1}, 400, "embedding is a number"),
    ({"metadata": {"period": 1.0}, "system": 3}, 400, "system is a number"),
    ({"metadata": {"period": 1.0}, "band": 3}, 400, "band is a number"),
    ({"metadata": {"period": 1.0}, "wavelengths": {"g": -1}}, 400, "wavelengths must be positive"),
    ({"light_curve": CURVE | {"band": [{}, 1, 2]}}, 422, "holds an object, not the name of a band"),
    ({"light_curve": CURVE | {"band": ["g"]}}, 422, "3 points and 1 bands"),
    ({"metadata": {"period": 1.0}, "zero_point": -1}, 400, "zero_point must be a positive"),
    ({"metadata": {"period": 1.0}, "air": "yes"}, 400, "air is text"),
    ({"objects": [{"metadata": {"period": 1.0}}] * 31}, 413, "31 objects are too many: send at most 30"),
    (" " * 2**20 + "{}", 413, "send at most 1 MB"),
    ({"light_curve": "/etc/passwd"}, 422, "light_curve is text"),
    ({"light_curve": [1, 2, 3]}, 422, "light_curve is a list"),
    ({"light_curve": CURVE | {"time": "now"}}, 422, "the column time of the light_curve is text"),
    ({"light_curve": CURVE | {"time": ["now", 1, 2]}}, 422, "is not a list of numbers"),
    ({"light_curve": CURVE | {"time": [[1], [2], [3]]}}, 422, "is not a list of numbers"),
    ({"light_curve": CURVE | {"time": [1.0, 2.0, True]}}, 422, "is not a list of numbers"),
    ('{"light_curve": {"time": [1e999], "flux": [1], "flux_err": [1]}}', 422, "too large"),
    ({"light_curve": CURVE | {"colour": [1, 2, 3]}}, 422, "colour is no column of a light_curve"),
    ({"light_curve": {"time": [1.0]}}, 422, "has no column"),
    ({"light_curve": {k: [1.0] * 801 for k in CURVE}}, 422, "has 801 points: send at most 800"),
    ({"light_curve": {k: [None] * 20 for k in CURVE}}, 422, "usable points"),
    ({"light_curve": CURVE | {"flux": [1.0]}}, 422, "unequal lengths"),
    ({"light_curve": {"time": [1.0, 2.0], "mag": [1.0, 2.0], "mag_err": [1.0]}, "system": "AB"}, 422, "lengths: 2, 1"),
    ({"light_curve": {"time": [1.0, 2.0], "mag": [], "mag_err": [1.0, 2.0]}, "system": "AB"}, 422, "lengths: 0, 2"),
    ({"spectrum": {"wavelength": [1.0], "flux": [1.0]}}, 422, "no column ivar"),
    ({"spectrum": []}, 422, "spectrum is a list"),
    ({"metadata": []}, 422, "metadata is a list"),
    ({"metadata": {"perod": 1.0}}, 422, "did you mean period"),
    ({"metadata": {"period": "long"}}, 422, "period of the metadata is text"),
    ({"metadata": {"period": [1.0, 2.0]}}, 422, "period of the metadata is a list"),
    ({"metadata": {"period": 10**400}}, 422, "too large"),
    ({"image": {"g": [[1.0]]}}, 422, "not images"),
    ({"metadata": {"period": 1.0}, "features": "some"}, 422, "features='some' does not exist"),
    ({"light_curve": {"time": [1.0], "mag": [1.0], "mag_err": [1.0]}, "system": "x"}, 422, "system=x is not known"),
]


@pytest.mark.parametrize("body, status, words", CASES, ids=[f"{s} {w}" for _, s, w in CASES])
def test_bad_input_is_answered_in_a_sentence(client, body, status, words):
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    answer = client.post("/classify", content=content)
    assert answer.status_code == status, answer.text
    sentence = answer.json()["error"]
    assert words in sentence and "\n" not in sentence and len(sentence) < 400


def test_other_paths_and_methods_are_refused_in_a_sentence(client):
    assert (
        client.get("/nowhere").status_code == 404 and "there is no /nowhere" in client.get("/nowhere").json()["error"]
    )
    assert client.get("/classify").status_code == 405 and "POST" in client.get("/classify").json()["error"]
    assert client.post("/embed", json=OBJECTS[0] | {"coverage": 0.9}).status_code == 400


@pytest.mark.slow
def test_a_body_that_does_not_arrive_is_not_waited_for(address):
    host, port = re.fullmatch(r"http://(.+):(\d+)", address).groups()
    with socket.create_connection((host, int(port)), timeout=30) as slow:
        slow.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert b"408" in slow.recv(4096).splitlines()[0]
    with socket.create_connection((host, int(port)), timeout=30) as broken:
        broken.sendall(b"no http at all\r\n\r\n")
        assert b"400" in broken.recv(4096).splitlines()[0]


def test_health_metrics_and_index_say_what_is_there(client):
    assert client.get("/health").json()["status"] == "ok"
    client.post("/classify", content="{")
    text = client.get("/metrics").text
    values = dict(re.findall(r"^(\S+(?:\{.*\})?) (\S+)$", text, re.MULTILINE))
    assert int(values['astrom3_requests_total{path="/classify",status="400"}']) >= 1
    buckets = [int(v) for name, v in values.items() if name.startswith("astrom3_request_seconds_bucket")]
    assert buckets == sorted(buckets) and buckets[-1] == int(values["astrom3_request_seconds_count"]) > 0
    page = client.get("/")
    assert all(word in page.text for word in ("RRAB", "light_curve", "spectrum", "metadata", "curl -s http://"))
    assert "script" not in page.headers["content-security-policy"]


@pytest.mark.slow
def test_a_stop_answers_what_is_in_flight(model_folder, tmp_path):
    options = [f"model={model_folder}", "device=cpu", "wait_ms=1500", "batch=4000"]
    with server("serve", options, tmp_path / "log") as (address, process):
        answers = []

        def ask():
            answers.append(httpx.post(f"{address}/classify", json=OBJECTS[0], trust_env=False, timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        end = time.monotonic() + 30
        while httpx.get(f"{address}/health", trust_env=False).json()["waiting"] == 0 and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGTERM)
        asking.join(60)
        process.join(60)
        assert answers[0].status_code == 200 and "class" in answers[0].json()["objects"][0]
        assert process.exitcode == 0
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said and "stopped after 1 batches" in said


def test_a_model_without_classes_gives_embeddings_only(model_folder):
    from starlette.testclient import TestClient

    from astrom3.serve.app import application
    from astrom3.serve.batcher import Batcher
    from astrom3.serve.request import Limits

    model = TrainedModel.load(model_folder, device="cpu")
    backbone = replace(model, network=model.backbone, confidence=None)
    batcher = Batcher(backbone, 8, 0.0, 100)
    try:
        client = TestClient(application(backbone, batcher, Limits(2**20, 10, 1000, 64, 10)))
        refused = client.post("/classify", json=OBJECTS[0])
        assert refused.status_code == 422 and "no class head" in refused.json()["error"]
        assert len(client.post("/embed", json=OBJECTS[0]).json()["objects"][0]["embedding"]) == 24
        assert "no classes" in client.get("/").text
    finally:
        batcher.close()
    assert client.post("/embed", json=OBJECTS[0]).status_code == 503


def test_a_batch_is_half_of_the_objects_that_are_on_their_way(model_folder):
    from astrom3.serve.batcher import FEW, Batcher

    batcher = Batcher(TrainedModel.load(model_folder, device="cpu"), 64, 0.0, 1000)
    try:
        for waiting, latest, most in ((1, 0, FEW), (32, 0, 16), (16, 16, 16), (9, 24, 17), (500, 64, 64)):
            batcher.waiting, batcher.latest = waiting, latest
            assert batcher.limit() == most
    finally:
        batcher.waiting = 0
        batcher.close()


def test_a_server_leaves_room_beside_the_network(monkeypatch):
    import torch

    from astrom3.serve.__main__ import leave_room

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
        leave_room()
        assert torch.get_num_threads() == 4
        monkeypatch.delenv("OMP_NUM_THREADS")
        leave_room()
        leave_room()
        leave_room()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_fault_of_ours_is_a_sentence_and_spoils_no_other_object(model_folder):
    from astrom3.serve.batcher import Batcher

    model = TrainedModel.load(model_folder, device="cpu")
    batcher = Batcher(model, 8, 0.05, 100)
    try:
        good = {"metadata": OBJECTS[0]["metadata"]}
        futures = [batcher.submit([one], {}) for one in (good, {"light_curve": object()}, good)]
        first, broken, last = [future.result(60) for future in futures]
    finally:
        batcher.close()
    assert list(broken.rejected) == [0] and "Traceback" not in broken.rejected[0]
    assert first.pieces and last.pieces and not first.rejected


@pytest.mark.parametrize(
    "options, words",
    [
        ([], "give model="),
        (["model=nowhere", "port=70000"], "port=70000"),
        (["model=x", "host=nowhere.invalid"], "cannot be used"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(options, words):
    from astrom3.cli.config import compose
    from astrom3.serve.__main__ import serve

    with pytest.raises(UserError, match=words):
        serve(compose(options, "serve"))


def test_a_port_that_is_taken_is_said(model_folder):
    from astrom3.serve.host import bind

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="cannot be used"):
            bind("127.0.0.1", taken.getsockname()[1])
