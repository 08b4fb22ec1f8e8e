"""Waiting for something to become true."""

import time
from concurrent.futures import ThreadPoolExecutor


def wait_until(predicate, wait_s=20, step_s=0.05, what=None):
    """The first true value of predicate(). AssertionError after wait_s, with
    `what` (text, or a function that makes it)."""
    deadline = time.monotonic() + wait_s
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise AssertionError(f"not within {wait_s} s: "
                                 f"{text or predicate.__name__}")
        time.sleep(step_s)


def together(function, cases):
    """function(case) of all at once; their results. A refusal takes a second."""
    with ThreadPoolExecutor(len(cases)) as pool:
        return list(pool.map(function, cases))
