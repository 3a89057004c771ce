"""Failure signals, the rules that read them, and the stage a failure is blamed on."""
