"""What loading the definitions costs, measured in fresh interpreters beside `import dagster`.

The garbage collector is off on both sides: `import dagster` ends just before a collection of its hundred thousand
objects is due, and whoever imports anything next would be billed for it (70 of our 140 ms).
"""

import json
import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "sentence_transformers", "mlflow", "ray", "boto3", "botocore", "lancedb")
ALLOWED_RATIO = 4 / 3
RUNS = 10

MEASURE = """
import gc, json, sys, time
gc.disable()
started = time.process_time()
import dagster
base = time.process_time() - started
import mangaassist_assets.definitions
whole = time.process_time() - started
heavy = [name for name in {heavy!r} if name in sys.modules]
print(json.dumps({{"base": base, "whole": whole, "heavy": heavy}}))
"""


@pytest.fixture(scope="module")
def measure(tmp_path_factory):
    """Measure in a fresh interpreter; both sides come from bytecode that the first measurement writes."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(tmp_path_factory.mktemp("bytecode"))

    def once():
        command = [sys.executable, "-c", MEASURE.format(heavy=HEAVY)]
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
        return json.loads(result.stdout)

    once()
    return once


def test_no_heavy_library_is_imported_with_the_definitions(measure):
    assert measure()["heavy"] == []


def test_loading_costs_at_most_a_third_more_than_dagster_itself(measure):
    # The least CPU time of both, each over several runs: a busy machine adds to it and never takes away.
    runs = []
    for _ in range(RUNS):
        runs.append(measure())
        ratio = min(one["whole"] for one in runs) / min(one["base"] for one in runs)
        if len(runs) > 2 and ratio <= ALLOWED_RATIO:
            break
    assert ratio <= ALLOWED_RATIO, runs
