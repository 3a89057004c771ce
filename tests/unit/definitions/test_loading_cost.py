"""What loading the definitions costs, measured in fresh interpreters beside `import dagster`."""

import json
import statistics
import subprocess
import sys

HEAVY = ("torch", "transformers", "sentence_transformers", "mlflow", "ray", "boto3", "botocore", "lancedb")
ALLOWED_RATIO = 1.3
PAIRS = 5

MEASURE = """
import json, sys, time
started = time.process_time()
import dagster
base = time.process_time() - started
import mangaassist_assets.definitions
whole = time.process_time() - started
heavy = [name for name in {heavy!r} if name in sys.modules]
print(json.dumps({{"base": base, "whole": whole, "heavy": heavy}}))
"""


def measure():
    code = MEASURE.format(heavy=HEAVY)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return json.loads(result.stdout)


def test_no_heavy_library_is_imported_with_the_definitions():
    assert measure()["heavy"] == []


def test_loading_costs_at_most_a_third_more_than_dagster_itself():
    # CPU time of one process, so that a busy machine does not decide; the first pair warms the file cache.
    measure()
    ratios = [run["whole"] / run["base"] for run in (measure() for _ in range(PAIRS))]
    assert statistics.median(ratios) <= ALLOWED_RATIO, ratios
