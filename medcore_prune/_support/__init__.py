"""Private: errors, whole files, records, memos, registries, progress, devices. It knows nothing of models or images.

Offered as `mp.NAME`: load_plugin, machines, MedcorePruneError.
"""
