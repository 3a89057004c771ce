"""Asset checks. A blocking one is a gate: inside a run, nothing downstream of it is materialized when it fails."""
