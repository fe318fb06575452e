"""Folders of images and masks: their shapes, their manifests."""
