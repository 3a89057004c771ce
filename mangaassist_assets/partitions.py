"""The one partitions definition: a release bundle of the chatbot, discovered from its traces."""

import dagster as dg

release_bundles = dg.DynamicPartitionsDefinition(name="release_bundles")
