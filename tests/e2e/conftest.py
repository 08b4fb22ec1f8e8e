"""Fixtures of the end-to-end tests.

    world            servers and a running mailhauld of this test alone
    shared_world     the same, one for all tests of a module
    servers          the servers alone, without mailhaul, one a module
    make_world       a function that makes more of them
    flipping         shared_world with gates before legacy (lib/flipping.py)

Options of dev-up (devservers.world.Settings) by marker or module variable:
@pytest.mark.world(legacy_prefix=True), WORLD = {"cutover": "manual"}; of
shared_world also by indirect parameters.
With KEEP=1 in the environment the servers of a failed test keep running.
"""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent),
                str(HERE.parents[1] / "scripts")]

from devservers import node  # noqa: E402
from lib.flipping import Flipping  # noqa: E402
from lib.running import RunningWorld  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "world(**settings): how dev-up makes this test's world")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.when == "call":
        item.has_failed = report.failed


@pytest.fixture(scope="session", autouse=True)
def root_only():
    if os.getuid() != 0:
        pytest.exit("the servers of these tests start as root only", 2)


def _begin(run=True, **settings):
    if run and not node.binaries():
        pytest.fail("no programs in $BIN or build/release: run make")
    return RunningWorld.begin(run=run, **settings)


def _end(world, failed):
    keep = failed and os.environ.get("KEEP")
    if failed:
        print(f"--- mailhauld's log, last lines\n{world.log_tail()}")
    if keep:
        print(f"--- left running in {world.folder}")
    else:
        world.end()


@pytest.fixture
def world(request):
    settings = dict(getattr(request.module, "WORLD", {}))
    marker = request.node.get_closest_marker("world")
    if marker:
        settings.update(marker.kwargs)
    made = _begin(**settings)
    yield made
    _end(made, getattr(request.node, "has_failed", False))


@pytest.fixture(scope="module")
def shared_world(request):
    failed_before = request.session.testsfailed
    made = _begin(**{**getattr(request.module, "WORLD", {}),
                     **getattr(request, "param", {})})
    yield made
    _end(made, request.session.testsfailed > failed_before)


@pytest.fixture(scope="module")
def gated_world(shared_world):
    made = Flipping(shared_world)
    yield made
    made.close()


@pytest.fixture
def flipping(request, gated_world):
    yield gated_world
    gated_world.calm()
    if getattr(request.node, "has_failed", False):
        print(f"--- mailhauld's log at the end of this test\n"
              f"{gated_world.world.log_tail(60)}")


@pytest.fixture(scope="module")
def servers(request):
    failed_before = request.session.testsfailed
    made = _begin(run=False, **getattr(request.module, "SERVERS", {}))
    yield made
    _end(made, request.session.testsfailed > failed_before)


@pytest.fixture
def make_world(request):
    made = []

    def make(run=True, **settings):
        made.append(_begin(run=run, **settings))
        return made[-1]
    yield make
    for one in made:
        _end(one, getattr(request.node, "has_failed", False))
