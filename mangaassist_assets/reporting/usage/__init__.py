"""Usage: latency, tokens and cost, by prompt, model, experiment, tenant and team."""
