"""Tests of the protocol core; a package, so that the models beside the tests can be imported."""
