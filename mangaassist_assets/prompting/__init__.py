"""Asking a language model about what people wrote, so that nothing they wrote can give it orders.

Messages go out redacted and encoded as data; an answer comes back only as the arguments of one tool, which are checked
against what was asked. Which model and how it is reached is `resources.aws.judge`'s.
"""
