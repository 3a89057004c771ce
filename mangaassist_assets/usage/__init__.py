"""Usage: how long turns take, how many tokens they cost and what those cost, by prompt, model and experiment arm."""
