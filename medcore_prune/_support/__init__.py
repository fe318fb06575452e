"""Private: errors, whole files, registries and plug-ins, progress, devices. It knows nothing of models or images.

Offered as `mp.NAME`: load_plugin, MedcorePruneError.
"""
