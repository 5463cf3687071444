"""The tests; a package, so that no package of the same name in the environment is."""
