"""Tests: from outside, each name a sentence."""
