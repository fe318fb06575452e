"""SAMs whose encoder is a TinyViT, LiteMedSAM and MobileSAM: `family`, over `network` and `shape`."""
