"""What every test stands on: one thread, fixed seeds, a cache of its own, a real browser."""

import os
import random
import shutil
import tempfile

# Before torch is imported: it reads them once. Sums in one thread have one order.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPDIT_CACHE"] = tempfile.mkdtemp(prefix="mpdit-test-cache-")

import hypothesis
import numpy as np
import pytest
import torch
from chromium import ARGUMENTS, chromium_or_reason
from playwright.sync_api import Browser, sync_playwright

torch.set_num_threads(1)


class TorchRandom:
    """torch's global generator for hypothesis, which resets it before each example."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


TORCH_RANDOM = TorchRandom()  # hypothesis holds it by a weak reference only
hypothesis.register_random(TORCH_RANDOM)
# The same examples every time; `HYPOTHESIS_PROFILE=search make test` looks for new ones.
# No deadline: the first forward of a shape is slower than the next, on a busy machine much slower.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.register_profile("search", deadline=None, max_examples=1000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_unconfigure():
    shutil.rmtree(os.environ["MPDIT_CACHE"], ignore_errors=True)


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Every test starts from the same random state, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def chromium():
    """The path of the installed Chromium, for kaleido and for playwright."""
    return chromium_or_reason()


@pytest.fixture(scope="module")
def browser(chromium):
    """A headless Chromium; a module's own, since playwright's event loop blocks others' asyncio."""
    with sync_playwright() as playwright:
        browser: Browser = playwright.chromium.launch(
            executable_path=chromium, args=list(ARGUMENTS)
        )
        yield browser
        browser.close()
