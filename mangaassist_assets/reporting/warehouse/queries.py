"""What is asked of the warehouse, in SQL that DuckDB, PostgreSQL and Amazon Redshift all take.

Redshift has no FILTER clause, no IS DISTINCT FROM, no collations and no array functions (Amazon Redshift Database
Developer Guide, "Unsupported PostgreSQL features"): conditions inside aggregates are CASE, and nothing is ordered by a
text here, since databases disagree on the order of texts.
"""

from __future__ import annotations

OVERALL = "overall"
SATISFACTION_DIMENSIONS = (
    "prompt_version",
    "bedrock_model_id",
    "intent",
    "routing_policy_version",
    "intent_model_version",
    "tenant",
    "team",
)
"""Columns of `chat_turns` that satisfaction is reported by; the retrieval policy is the routing policy's version."""

# The newest event of a turn holds; without one, what the trace itself carries.
_RATED_TURNS = f"""
WITH newest AS (
  SELECT trace_id, feedback,
         ROW_NUMBER() OVER (PARTITION BY trace_id ORDER BY position DESC) AS place
  FROM feedback_events
  WHERE release_bundle = :release_bundle
),
rated_turns AS (
  SELECT {", ".join(f"turns.{name}" for name in SATISFACTION_DIMENSIONS)},
         CAST(turns.duration_ms AS DOUBLE PRECISION) AS duration_ms,
         COALESCE(newest.feedback, turns.user_feedback) AS rating
  FROM chat_turns turns
  LEFT JOIN newest ON newest.trace_id = turns.trace_id AND newest.place = 1
  WHERE turns.release_bundle = :release_bundle
)
"""  # noqa: S608 - names are this module's

_GROUP = """
SELECT '{dimension}' AS dimension, {value} AS value,
       COUNT(*) AS turns,
       CAST(COALESCE(SUM(CASE WHEN rating = 'thumbs_up' THEN 1 ELSE 0 END), 0) AS BIGINT) AS thumbs_up,
       CAST(COALESCE(SUM(CASE WHEN rating = 'thumbs_down' THEN 1 ELSE 0 END), 0) AS BIGINT) AS thumbs_down,
       CAST(PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY duration_ms) AS DOUBLE PRECISION) AS median_ms,
       CAST(PERCENTILE_CONT(0.95) WITHIN GROUP (ORDER BY duration_ms) AS DOUBLE PRECISION) AS p95_ms
FROM rated_turns
{grouping}"""


def satisfaction_query() -> str:
    """Return the statement that counts turns and thumbs of `:release_bundle` by every dimension and over all.

    Columns: dimension, value (null where the turn does not say), turns, thumbs_up, thumbs_down, median_ms, p95_ms.
    A bundle without turns gives no row but that of `overall`, with 0 turns.
    """
    groups = [_GROUP.format(dimension=OVERALL, value="CAST(NULL AS VARCHAR(1024))", grouping="")]
    groups += [
        _GROUP.format(dimension=name, value=name, grouping=f"GROUP BY {name}") for name in SATISFACTION_DIMENSIONS
    ]
    return _RATED_TURNS + "\nUNION ALL\n".join(groups)


STRAY_EVENTS = """
SELECT COUNT(*) AS events,
       CAST(COALESCE(SUM(CASE WHEN turns.trace_id IS NULL THEN 1 ELSE 0 END), 0) AS BIGINT) AS without_turn
FROM feedback_events events
LEFT JOIN chat_turns turns
  ON turns.release_bundle = events.release_bundle AND turns.trace_id = events.trace_id
WHERE events.release_bundle = :release_bundle
"""
"""Feedback events of `:release_bundle`, and how many of them are of no known turn (late, or in quarantine)."""

LOADED = "SELECT digest, load_number FROM bundle_loads WHERE release_bundle = :release_bundle"
"""What the warehouse holds of `:release_bundle`: at most one row."""
