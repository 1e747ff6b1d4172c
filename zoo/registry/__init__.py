"""Plugins, the records they yield, look-up by name, and the catalogue of backbones."""
