"""Tests of `core`. The folder is a package, so that tests can import the models beside them."""
