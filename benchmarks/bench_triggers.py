"""How often the feedback trigger fires without a rise, and how soon it finds one. Prints one JSON line.

Streams of votes are simulated and looked at after every 20 votes, by the trigger's own functions
(`tests/support/trigger_simulation.py`; a test compares them with the product's path) and, on the very same votes, by

- `rule_before`: 20 thumbs-downs that are 20 % since the last firing, the rule that this trigger took the place of;
- `repeated_wilson`: the one-sided 99 % Wilson bound of all votes lies above the share before, at any look;
- `no_restart`: the trigger's evidence of its first start alone, at 1 / 1 %: valid for ever, blind for what comes late.

`quiet` are shares of streams of 5,000 votes that ever fire though nothing changes. `found` are shares of rises from 10
to 20 % that are found within 400 votes, after 20 and 60 quiet days of 100 votes. `shoppers` has both where a shopper
has several votes, and where 5 % of the shoppers collude: each presses thumbs down, five times or more, all over the
intents. `tick` is what a tick of the sensor over 100 new events takes after few and many events of history.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.clock import Clock
from mangaassist_assets.triggers.evidence import Reference, log_ratio
from mangaassist_assets.triggers.settings import TriggerConfig
from tests.support.feedback_triggers import Trigger, thumb
from tests.support.trigger_simulation import NEVER, first_firing, first_firings

CONFIG = TriggerConfig()
RATES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
BLOCK, VOTES, A_DAY, REFERENCE, INTENTS = 20, 5_000, 100, 2_000, 6
BEFORE, AFTER, WITHIN = 0.1, 0.2, 400
_WILSON_Z = 2.3263478740408408


def rule_before(downs: np.ndarray, *, first_look: int = 1) -> np.ndarray:
    """Return the block at which the rule of before fires first at or after a look, NEVER where it does not."""
    per_block = downs.reshape(len(downs), -1, BLOCK).sum(axis=2)
    down, votes = np.zeros(len(downs)), np.zeros(len(downs))
    found = np.full(len(downs), NEVER)
    for look in range(1, per_block.shape[1] + 1):
        down += per_block[:, look - 1]
        votes += BLOCK
        fires = (down >= 20) & (down >= 0.2 * votes)
        if look >= first_look:
            found[fires & (found == NEVER)] = look
        down[fires], votes[fires] = 0, 0
    return found


def repeated_wilson(downs: np.ndarray, reference: np.ndarray, *, first_look: int = 1) -> np.ndarray:
    """Return the same of a Wilson bound at every look."""
    down = np.cumsum(downs.reshape(len(downs), -1, BLOCK).sum(axis=2), axis=1)
    votes = BLOCK * np.arange(1, down.shape[1] + 1)
    share, square = down / votes, _WILSON_Z**2
    half = _WILSON_Z * np.sqrt(share * (1 - share) / votes + square / (4 * votes**2))
    low = (share + square / (2 * votes) - half) / (1 + square / votes)
    return _first(low > (reference[:, :1] / reference[:, 1:]), first_look)


def no_restart(downs: np.ndarray, reference: np.ndarray, *, first_look: int = 1) -> np.ndarray:
    """Return the same of the evidence since the first vote."""
    down = np.cumsum(downs.reshape(len(downs), -1, BLOCK).sum(axis=2), axis=1).astype(float)
    votes = np.broadcast_to(BLOCK * np.arange(1, down.shape[1] + 1, dtype=float), down.shape)
    ratios = log_ratio(reference[:, :1], reference[:, 1:], down, votes, odds=CONFIG.odds)
    return _first(ratios >= np.log(100.0), first_look)


def _first(fires: np.ndarray, first_look: int) -> np.ndarray:
    fires = fires.copy()
    fires[:, : first_look - 1] = False
    return np.where(fires.any(axis=1), fires.argmax(axis=1) + 1, NEVER)


def references(generator: np.random.Generator, rate: float, streams: int, votes: int = REFERENCE) -> np.ndarray:
    """Return thumbs-downs and votes of the bundle before, shape (streams, 2), shrunk as the product does."""
    down = generator.binomial(votes, rate, streams).astype(float)
    return np.column_stack([down, np.full(streams, float(votes))])


def quiet(rate: float, streams: int, generator: np.random.Generator) -> dict[str, float]:
    """Return the shares of quiet streams that ever fire."""
    fired: dict[str, list[float]] = {}
    for part in _parts(streams):
        downs = generator.random((part, VOTES), dtype=np.float32) < rate
        reference = references(generator, rate, part)
        small = references(generator, rate, part, 100)
        of_intents = VOTES // INTENTS // BLOCK * BLOCK
        intents = [
            first_firings(
                downs[:, number * of_intents : (number + 1) * of_intents],
                references(generator, rate, part, REFERENCE // INTENTS),
                CONFIG,
                weight=(1 - CONFIG.overall_weight) / INTENTS,
            )
            for number in range(INTENTS)
        ]
        overall = first_firings(downs, reference, CONFIG)
        for name, found in (
            ("trigger", overall),
            ("trigger_with_six_intents", np.minimum(overall, np.min(intents, axis=0))),
            ("trigger_reference_of_100", first_firings(downs, small, CONFIG)),
            ("rule_before", rule_before(downs)),
            ("repeated_wilson", repeated_wilson(downs, reference)),
            ("no_restart", no_restart(downs, reference)),
        ):
            fired.setdefault(name, []).append(float((found != NEVER).sum()))
    return {name: round(sum(counts) / streams, 5) for name, counts in fired.items()}


def found(days: int, streams: int, generator: np.random.Generator) -> dict[str, Any]:
    """Return the shares of rises that are found within 400 votes, and the trigger's curve by votes after the rise."""
    calm = days * A_DAY
    curve: dict[str, np.ndarray] = {}
    for part in _parts(streams):
        rate = np.where(np.arange(calm + 2 * WITHIN) < calm, BEFORE, AFTER)
        downs = generator.random((part, calm + 2 * WITHIN), dtype=np.float32) < rate
        reference = references(generator, BEFORE, part)
        # What fired before the rise found nothing: it is looked at from the rise on.
        look = calm // BLOCK + 1
        for name, at in (
            ("trigger", first_firings(downs, reference, CONFIG, first_look=look)),
            ("rule_before", rule_before(downs, first_look=look)),
            ("repeated_wilson", repeated_wilson(downs, reference, first_look=look)),
            ("no_restart", no_restart(downs, reference, first_look=look)),
        ):
            waited = np.where(at == NEVER, np.inf, (at - look + 1) * BLOCK)
            steps = np.arange(BLOCK, 2 * WITHIN + 1, BLOCK)
            counts = (waited[:, None] <= steps).sum(axis=0)
            curve[name] = curve.get(name, np.zeros(len(steps))) + counts
    shares = {name: counts / streams for name, counts in curve.items()}
    within = WITHIN // BLOCK - 1
    return {
        "within_400": {name: round(float(share[within]), 4) for name, share in shares.items()},
        "curve": {name: [round(float(one), 4) for one in share] for name, share in shares.items()},
    }


def _parts(streams: int, size: int = 2_000) -> list[int]:
    return [min(size, streams - start) for start in range(0, streams, size)]


def several_votes(mean: float, streams: int, generator: np.random.Generator) -> dict[str, float]:
    """Return shares of rises found within 400 votes, and of campaigns of 2,000 votes that fire, shoppers alike."""
    rises, campaigns = 0, 0
    for _ in range(streams):
        reference = Reference(down=float(generator.binomial(REFERENCE, BEFORE)), votes=float(REFERENCE))
        calm, risen = _stream(VOTES // 2, BEFORE, mean, generator), _stream(WITHIN, AFTER, mean, generator, "r")
        look = VOTES // 2 // BLOCK + 1
        both = [*calm[0], *risen[0]], np.concatenate([calm[1], risen[1]])
        rises += first_firing(*both, reference, CONFIG, first_look=look) != NEVER
        attack = _stream(2_000, BEFORE, mean, generator, "c", colluding=20)
        both = [*calm[0], *attack[0]], np.concatenate([calm[1], attack[1]])
        intents = [f"intent-{one}" for one in generator.integers(INTENTS, size=len(both[0]))]
        campaigns += first_firing(*both, reference, CONFIG, intents=intents, first_look=look, every=2) != NEVER
    return {"found_within_400": rises / streams, "colluders_fire": campaigns / streams}


def _stream(
    votes: int, rate: float, mean: float, generator: np.random.Generator, name: str = "q", *, colluding: int = 0
) -> tuple[list[str], np.ndarray]:
    """Return shoppers and thumbs; with `colluding` every so many-th shopper presses thumbs down as often as counts."""
    shoppers: list[str] = []
    downs: list[bool] = []
    number = 0
    while len(shoppers) < votes:
        number += 1
        colludes = colluding > 0 and number % colluding == 0
        most = CONFIG.shopper_votes
        cast = most if colludes else min(most, int(generator.geometric(1 / mean)) if mean > 1 else 1)
        shoppers += [f"{name}{number}"] * cast
        downs += [True] * cast if colludes else (generator.random(cast) < rate).tolist()
    # Shoppers come at the same time.
    order = np.argsort(np.arange(len(shoppers)) + generator.uniform(0, 60, len(shoppers)))[:votes]
    return [shoppers[place] for place in order], np.array(downs)[order]


def one_shopper() -> int:
    """Return how often the product fires when one shopper presses thumbs down 10,000 times after a quiet week."""
    trigger = Trigger()
    generator = np.random.default_rng(5)
    quiet_ones = [thumb(number, down=bool(generator.random() < BEFORE)) for number in range(700)]
    flood = [
        thumb(700, down=True, shopper="one", trace_id=f"tr-x{number}", event=f"x{number}", session=f"s{number}")
        for number in range(10_000)
    ]
    return len(trigger.hear(quiet_ones)) + len(trigger.hear(flood, every=500))


def tick(history: int, repeats: int) -> dict[str, float]:
    """Return the median seconds of a tick of the sensor over 100 new events, and the size of cursor and state."""
    import dagster as dg

    from mangaassist_assets.definitions import build_definitions
    from mangaassist_assets.partitions import release_bundles
    from mangaassist_assets.tracing.feedback.events import FeedbackEvent
    from mangaassist_assets.tracing.feedback.sources import FeedbackBatch
    from resources.aws.clients import AwsResource
    from resources.feedback.feedback_stream import KinesisFeedbackResource
    from resources.settings.privacy import PrivacyResource
    from resources.settings.triggers import TriggersResource
    from resources.store import StoreResource
    from sensors.feedback_threshold import build_feedback_sensor

    class Stream(KinesisFeedbackResource):
        """Makes events as they are asked for."""

        ready: ClassVar[list[int]] = [0]

        def read_new(self, cursor: dict[str, str], limit: int = 10_000) -> FeedbackBatch:
            start = int(cursor.get("shard", "0"))
            end = min(self.ready[0], start + limit)
            events = tuple(_event(FeedbackEvent, number) for number in range(start, end))
            return FeedbackBatch(events=events, cursor={"shard": str(end)}, rejects=())

    definitions = build_definitions("local")
    jobs = [definitions.resolve_job_def(name) for name in ("retraining", "champion_evaluation")]
    sensor = build_feedback_sensor(*jobs)
    with tempfile.TemporaryDirectory() as folder, dg.DagsterInstance.local_temp(folder) as instance:
        instance.add_dynamic_partitions(str(release_bundles.name), ["bundle"])
        resources = {
            "feedback_stream": Stream(aws=AwsResource()),
            "privacy": PrivacyResource(key="00" * 32),
            "store": StoreResource(root=f"{folder}/store", cache_folder=f"{folder}/cache"),
            "triggers": TriggersResource(),
        }

        def look(cursor: str | None) -> str:
            with dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context:
                return str(sensor(context).cursor)

        Stream.ready[0] = 0
        cursor = look(None)
        while Stream.ready[0] < history:
            Stream.ready[0] = min(history, Stream.ready[0] + 5_000)
            cursor = look(cursor)
        _age(Path(folder, "store/triggers"))
        times = []
        for _ in range(repeats):
            Stream.ready[0] += 100
            clock = Clock()
            cursor = look(cursor)
            times.append(clock.seconds())
        states = sorted(Path(folder, "store/triggers/feedback/states").iterdir(), key=lambda one: one.stat().st_mtime)
        return {
            "seconds": round(statistics.median(wall for wall, _ in times), 4),
            "cpu_seconds": round(statistics.median(cpu for _, cpu in times), 4),
            "cursor_bytes": len(cursor),
            "state_bytes": states[-1].stat().st_size,
        }


def _age(folder: Path) -> None:
    """Let what was written stand as of a day before: a million events do not come within an hour."""
    long_ago = time.time() - 24 * 60 * 60
    for path in folder.glob("feedback/states/*"):
        os.utime(path, (long_ago, long_ago))
    for path in list(folder.glob("ledger/*")):
        path.rename(path.with_name("2026-01-01"))


def _event(kind: Any, number: int) -> Any:  # noqa: ANN401 - a feedback event
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return kind(
        event_id=f"e{number}",
        trace_id=f"tr-{number:032x}",
        response_id=None,
        feedback="thumbs_down" if number % 10 == 0 else "thumbs_up",
        timestamp=moment.isoformat(timespec="milliseconds"),
        time_from="event",
        release_bundle="bundle",
        session_id=f"{number // 2:032x}",
        user=f"user-{number // 2}",
    )


def draw(path: Path, quiet_shares: dict[str, Any], curves: dict[str, Any]) -> None:
    """Write the plot: false alarms by base rate, and rises found by votes after them."""
    from matplotlib.figure import Figure

    from mangaassist_assets.core.plotting import png

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    labels = {
        "trigger": "the trigger",
        "trigger_with_six_intents": "… with six intents",
        "no_restart": "no restart",
        "repeated_wilson": "repeated Wilson bound",
        "rule_before": "rule of before",
    }
    rates = [float(rate) for rate in quiet_shares]
    for name, label in labels.items():
        shares = [max(of[name], 1e-4) for of in quiet_shares.values()]
        left.plot([100 * rate for rate in rates], shares, marker="o", markersize=3, label=label)
    left.axhline(0.01, color="black", linewidth=0.8, linestyle="--")
    left.set_yscale("log")
    left.set_xlabel("thumbs-down, %, unchanged")
    left.set_ylabel("streams that ever fire in 5,000 votes")
    left.legend(fontsize=7)
    steps = np.arange(BLOCK, 2 * WITHIN + 1, BLOCK)
    for days, style in (("20", "-"), ("60", "--")):
        for number, name in enumerate(("trigger", "no_restart", "repeated_wilson")):
            right.plot(
                steps,
                curves[days]["curve"][name],
                style,
                color=f"C{(0, 2, 3)[number]}",
                label=f"{labels[name]}, {days} days",
            )
    right.axvline(WITHIN, color="black", linewidth=0.8, linestyle=":")
    right.axhline(0.9, color="black", linewidth=0.8, linestyle=":")
    right.set_xlabel("votes after a rise from 10 % to 20 %")
    right.set_ylabel("found")
    right.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    path.write_bytes(png(figure))


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=10_000, help="quiet streams in all, and rises of each kind")
    parser.add_argument("--shoppers", type=int, default=100, help="streams of shoppers with several votes, each kind")
    parser.add_argument("--history", type=int, default=1_000_000, help="events before the ticks that are timed")
    parser.add_argument("--chart", type=Path, help="where to write the plot")
    options = parser.parse_args()
    start = time.perf_counter()
    each = -(-options.streams // len(RATES))
    quiet_shares = {str(rate): quiet(rate, each, np.random.default_rng(number)) for number, rate in enumerate(RATES)}
    curves = {str(days): found(days, options.streams, np.random.default_rng(100 + days)) for days in (20, 60)}
    shoppers = {
        str(mean): several_votes(mean, options.shoppers, np.random.default_rng(200 + number))
        for number, mean in enumerate((1.0, 2.0, 3.0))
    }
    print(json.dumps({"quiet": quiet_shares, "found": curves, "shoppers": shoppers}), file=sys.stderr, flush=True)
    overall = {name: float(np.mean([of[name] for of in quiet_shares.values()])) for name in quiet_shares["0.1"]}
    ticks = {str(history): tick(history, 15) for history in (1_000, options.history)}
    if options.chart:
        draw(options.chart, quiet_shares, curves)
    print(
        json.dumps(
            {
                "benchmark": "triggers",
                "streams": options.streams,
                "false_alarms": round(overall["trigger_with_six_intents"], 5),
                "baseline_rule_before": round(overall["rule_before"], 5),
                "ratio": round(overall["rule_before"] / max(overall["trigger_with_six_intents"], 1e-5), 1),
                "quiet_overall": {name: round(share, 5) for name, share in overall.items()},
                "quiet": quiet_shares,
                "found": {days: of["within_400"] for days, of in curves.items()},
                "curve": {days: of["curve"]["trigger"] for days, of in curves.items()},
                "shoppers": shoppers,
                "one_shopper_with_10000": one_shopper(),
                "tick": ticks,
                "tick_ratio": round(ticks[str(options.history)]["cpu_seconds"] / ticks["1000"]["cpu_seconds"], 3),
                "seconds": round(time.perf_counter() - start, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
