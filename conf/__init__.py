"""The configuration. It is a package because Hydra finds the files of an installed wheel by the name of a package."""
