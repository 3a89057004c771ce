"""The reference orchestrator, traced by the contract; used to replay and to simulate."""
