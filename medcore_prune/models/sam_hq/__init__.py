"""SAM-HQ: `family`, over `network`."""
