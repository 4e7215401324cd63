"""What a request costs `armlift serve`, an event that is sent to it, and one that it follows."""

import json
import time
from pathlib import Path

import bench_serving
import httpx
import psutil
from scale_lab import ScaleLab, produce
from scale_meter import Meter, told
from serving_lab import Answering, serving

REQUESTS, BATCHES = 2_000, 200
IDLE_SECONDS = 5.0
Costs = dict[str, tuple[float, int]]


def serve(folder: Path, lab: ScaleLab) -> Costs:
    """Let `armlift serve` answer, be sent events, and follow the topic's; what it takes idle is left out."""
    bench_serving.UNITS = REQUESTS
    served = bench_serving.make_lab(folder)
    asks = [
        {"method": "POST", "path": "/v1/recommend",
         "body": json.dumps({"unit_id": f"u{number}", "experiment": "speed", "k": bench_serving.K})}
        for number in range(REQUESTS)
    ]  # fmt: skip
    sends = [
        {"method": "POST", "path": "/v1/events", "body": bench_serving.batch(number)}
        for number in range(BATCHES)
    ]
    sent = BATCHES * bench_serving.A_BATCH
    with serving(served) as answering:
        meter = Meter(api=psutil.Process(answering.process.pid))
        time.sleep(IDLE_SECONDS)
        idle = meter.cpu("api") / meter.seconds

        def taken() -> float:
            return meter.cpu("api") - idle * meter.seconds

        before = followed(answering)
        meter.set_back()
        with told("events that API processes follow"):
            produce(lab)
            while followed(answering) < before + lab.messages:
                time.sleep(0.2)
        follow = taken() / lab.all_events
        with told("requests"):
            bench_serving.load(answering.port, asks[:100])
            meter.set_back()
            answered = bench_serving.load(answering.port, asks[100:])
            recommend = taken() / (REQUESTS - 100)
        with told("batches of events"):
            meter.set_back()
            accepted = bench_serving.load(answering.port, sends)
            # The events come back to it by the stream, which is counted apart.
            accept = taken() / sent - follow
    assert bench_serving.good(answered), answered
    assert bench_serving.good(accepted), accepted
    return {
        "follow_cpu": (follow, lab.all_events),
        "recommend_cpu": (recommend, REQUESTS - 100),
        "accept_cpu": (accept, sent),
    }


def followed(answering: Answering) -> float:
    """Read how many records of the stream an API process has read."""
    text = httpx.get(f"{answering.url}/metrics", trust_env=False).text
    (line,) = (one for one in text.splitlines() if one.startswith("armlift_serve_follower_records"))
    return float(line.split()[1])
