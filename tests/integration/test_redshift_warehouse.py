"""The Redshift warehouse over the wire: the Data API's protocol, executed on PostgreSQL, rows through a real S3."""

from __future__ import annotations

import uuid
from types import SimpleNamespace

import pytest

from mangaassist_assets.reporting.warehouse.queries import LOADED, STRAY_EVENTS, satisfaction_query
from mangaassist_assets.reporting.warehouse.types import WarehouseError
from resources.aws.clients import AwsResource, DeadlineExceededError
from resources.warehouse.warehouse import DuckDbWarehouseResource, RedshiftWarehouseResource
from tests.support.redshift_data import RedshiftData, redshift_data_server
from tests.support.reports import BUNDLE, EARLIER, bundle_rows, chat_turn, event

pytestmark = pytest.mark.integration

PARAMETERS = {"release_bundle": BUNDLE}
TURNS = [chat_turn(number, intent="don't know" if number % 3 == 0 else None) for number in range(9)]
EVENTS = [event(1, "thumbs_up"), event(1, "thumbs_down", second=5), event(2, "thumbs_up"), event(77, "thumbs_up")]


@pytest.fixture
def redshift(stand_ins_environment, postgres_server, monkeypatch):  # noqa: ARG001 - the environment of clients
    """A warehouse of an empty database and bucket, the server behind it, and its database."""
    aws = AwsResource()
    bucket = f"staging-{uuid.uuid4().hex[:12]}"
    aws.client("s3").create_bucket(Bucket=bucket)
    database = postgres_server.create_database()
    api = RedshiftData(database, s3=aws.client("s3"))
    with redshift_data_server(api) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_REDSHIFT_DATA", url)

        def resource(**settings):
            return RedshiftWarehouseResource(
                aws=AwsResource(),
                **{
                    "database": "analytics",
                    "staging_url": f"s3://{bucket}/mangaassist",
                    "iam_role_arn": "arn:aws:iam::000000000000:role/invented",
                    "workgroup_name": "invented",
                    "poll_interval_s": 0.02,
                    **settings,
                },
            )

        yield SimpleNamespace(
            api=api,
            bucket=bucket,
            database=database,
            resource=resource,
            warehouse=resource().open(),
            s3=aws.client("s3"),
        )


def satisfaction(warehouse):
    rows = warehouse.query(satisfaction_query(), PARAMETERS).rows()
    return sorted(rows, key=lambda row: (row[0], row[1] or ""))


def test_it_answers_as_duckdb_does_page_by_page(redshift, tmp_path):
    duckdb = DuckDbWarehouseResource(path=str(tmp_path)).open()
    for warehouse in (redshift.warehouse, duckdb):
        assert warehouse.load(bundle_rows(TURNS, EVENTS), release_bundle=BUNDLE)
    answered = satisfaction(redshift.warehouse)
    assert answered == satisfaction(duckdb)
    assert ("intent", "don't know", 3, 0, 0, 103.0, 105.7) in answered
    assert len([one for one, _ in redshift.api.requests if one == "GetStatementResult"]) > 1
    assert redshift.warehouse.query(STRAY_EVENTS, PARAMETERS).rows() == [(4, 1)]
    assert redshift.warehouse.query("SELECT COUNT(*) AS n FROM turn_stages").rows() == [(27,)]


def test_a_second_load_of_the_same_rows_writes_nothing_and_leaves_no_file(redshift):
    rows = bundle_rows(TURNS, EVENTS)
    assert redshift.warehouse.load(rows, release_bundle=BUNDLE)
    ran = redshift.api.executed
    assert not redshift.warehouse.load(rows, release_bundle=BUNDLE)
    assert redshift.api.executed - ran == 6  # five CREATE TABLE IF NOT EXISTS and the question what is there
    assert "Contents" not in redshift.s3.list_objects_v2(Bucket=redshift.bucket)


def test_a_bundle_that_goes_back_to_earlier_rows_is_loaded_although_their_token_was_used(redshift):
    first, second = bundle_rows(TURNS, EVENTS), bundle_rows(TURNS[:4], EVENTS)
    for rows in (first, second, first, second, first):
        assert redshift.warehouse.load(rows, release_bundle=BUNDLE)
    assert redshift.warehouse.query("SELECT COUNT(*) AS n FROM chat_turns").rows() == [(9,)]
    assert redshift.warehouse.query(LOADED, PARAMETERS).rows()[0][1] == 5


def test_the_same_load_sent_twice_runs_once(redshift):
    """As when an answer is lost and boto3 repeats the request."""
    redshift.warehouse.load(bundle_rows(TURNS), release_bundle=BUNDLE)
    sent = [body for operation, body in redshift.api.requests if operation == "BatchExecuteStatement"][-1]
    ran = redshift.api.executed
    status, answer = redshift.api.answer("BatchExecuteStatement", sent)
    assert (status, redshift.api.executed) == (200, ran)
    assert redshift.api.answer("DescribeStatement", {"Id": answer["Id"]})[1]["Status"] == "FINISHED"


def test_an_erased_user_is_gone_and_the_bundle_can_be_loaded_anew(redshift):
    turns = [chat_turn(number, user_key="ab" * 16 if number < 2 else None) for number in range(5)]
    redshift.warehouse.load(bundle_rows(turns), release_bundle=BUNDLE)
    assert redshift.warehouse.erase("user_key", ["ab" * 16]) == 2
    assert redshift.warehouse.erase("trace_id", ["tr-0", "tr-1", "it's \\ nobody's"]) == 2 * 3 + 2
    assert redshift.warehouse.query("SELECT COUNT(*) AS n FROM chat_turns").rows() == [(3,)]
    assert redshift.warehouse.load(bundle_rows(turns), release_bundle=BUNDLE)
    assert redshift.warehouse.query("SELECT COUNT(*) AS n FROM turn_stages").rows() == [(15,)]


def test_other_bundles_stay(redshift):
    earlier = [chat_turn(number, release_bundle=EARLIER) for number in range(3)]
    redshift.warehouse.load(bundle_rows(earlier, release_bundle=EARLIER), release_bundle=EARLIER)
    redshift.warehouse.load(bundle_rows(TURNS), release_bundle=BUNDLE)
    counted = redshift.warehouse.query("SELECT release_bundle, COUNT(*) AS n FROM chat_turns GROUP BY release_bundle")
    assert dict(counted.rows()) == {EARLIER: 3, BUNDLE: 9}


def test_a_load_that_fails_half_way_changes_nothing_and_names_its_statement(redshift):
    redshift.warehouse.load(bundle_rows(TURNS), release_bundle=BUNDLE)
    # The last table's rows do not fit any more, after the others were deleted and filled.
    redshift.warehouse.query("ALTER TABLE feedback_events ADD COLUMN added BIGINT")
    with pytest.raises(
        WarehouseError, match=r"statement [0-9a-f-]{36} at [0-9a-f-]{36}:\d+ is FAILED: ERROR: 8 columns"
    ) as raised:
        redshift.warehouse.load(bundle_rows(TURNS[:2], EVENTS), release_bundle=BUNDLE)
    assert "SYS_LOAD_ERROR_DETAIL" in str(raised.value)
    assert redshift.warehouse.query("SELECT COUNT(*) AS n FROM chat_turns").rows() == [(9,)]
    assert "Contents" not in redshift.s3.list_objects_v2(Bucket=redshift.bucket)


def test_a_statement_that_takes_too_long_is_cancelled_and_named(redshift):
    import psycopg2
    import sqlalchemy as sa

    redshift.warehouse.load(bundle_rows(TURNS), release_bundle=BUNDLE)
    uri = sa.make_url(redshift.database).set(drivername="postgresql").render_as_string(hide_password=False)
    holder = psycopg2.connect(uri)
    try:
        holder.cursor().execute("LOCK TABLE chat_turns IN ACCESS EXCLUSIVE MODE")
        impatient = redshift.resource(timeout_s=0.5).open()
        with pytest.raises(DeadlineExceededError, match=r"statement [0-9a-f-]{36}; it was cancelled"):
            impatient.query("SELECT COUNT(*) AS n FROM chat_turns")
    finally:
        holder.close()
    assert redshift.api.requests[-1][0] == "CancelStatement"
    assert redshift.warehouse.query("SELECT COUNT(*) AS n FROM chat_turns").rows() == [(9,)]


def test_what_redshift_does_not_know_is_refused_with_its_reason(redshift):
    with pytest.raises(WarehouseError, match="FILTER"):
        redshift.warehouse.query("SELECT COUNT(*) FILTER (WHERE 1 = 1) AS n FROM bundle_loads")


def test_a_parameter_is_a_value_and_never_sql(redshift):
    redshift.warehouse.load(bundle_rows(TURNS), release_bundle=BUNDLE)
    hostile = {"release_bundle": "'; DROP TABLE chat_turns; --"}
    assert redshift.warehouse.query(LOADED, hostile).rows() == []
    assert redshift.warehouse.query("SELECT COUNT(*) AS n FROM chat_turns").rows() == [(9,)]


@pytest.mark.parametrize(
    "settings",
    [
        {"workgroup_name": None},
        {"cluster_identifier": "c"},
        {"workgroup_name": None, "cluster_identifier": "c"},
        {"db_user": "u"},
        {"staging_url": "a-folder"},
    ],
)
def test_settings_that_name_no_database_or_two_are_refused(redshift, settings):
    with pytest.raises(ValueError, match=r"Redshift|S3"):
        redshift.resource(**settings).open()


def test_a_provisioned_cluster_is_reached_by_its_user(redshift):
    cluster = redshift.resource(workgroup_name=None, cluster_identifier="invented", db_user="reporter").open()
    assert cluster.load(bundle_rows(TURNS), release_bundle=BUNDLE)
    sent = redshift.api.requests[0][1]
    assert (sent["ClusterIdentifier"], sent["DbUser"], sent["Database"]) == ("invented", "reporter", "analytics")
