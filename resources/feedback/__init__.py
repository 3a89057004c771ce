"""The feedback stream: Kinesis, and what Firehose delivered to S3."""
