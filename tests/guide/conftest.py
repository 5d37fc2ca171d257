"""The guide's examples at the paths they would have; tests/test_contributing.py runs them."""

collect_ignore_glob = ["analysis/*", "app/*", "mpdit_core/*"]
