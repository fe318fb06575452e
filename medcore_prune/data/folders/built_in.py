"""The layouts that come with the package, in the order of detection: the more particular first."""

from .coco import annotation_files, scan_coco
from .layouts import register_layout
from .listing import SIZES_DIFFER, child
from .published import (
    HAS_CLINICDB,
    clinicdb_places,
    is_colondb,
    is_ham10000,
    is_isic,
    is_ph2,
    scan_busi,
    scan_clinicdb,
    scan_colondb,
    scan_ham10000,
    scan_isic,
    scan_ph2,
)
from .together import has_pairs, scan_together
from .two_folders import IMAGES, MASKS, has, parts_of, scan_parts, two_folders
from .volumes import is_nifti, is_npz, scan_nifti, scan_npz

_PLANES = ("sagittal", "coronal", "axial")
for axis, name in ((2, "nifti"), (1, "nifti_coronal"), (0, "nifti_sagittal")):
    register_layout(
        name,
        title=f"NIfTI in images/ and labels/ (or imagesTr/, labelsTr/), {_PLANES[axis]} slices, a sample a label",
        matches=is_nifti,
    )(scan_nifti(axis))
register_layout("medsam_npz", title="MedSAM-Lite's .npz with imgs and gts, a sample a label", matches=is_npz)(scan_npz)
register_layout(
    "medsam_npy",
    title="imgs/*.npy with label maps in gts/*.npy, a sample a label",
    matches=has(("imgs",), ("gts",)),
    labels=True,
)(two_folders(("imgs",), ("gts",)))
register_layout(
    "cvc_clinicdb",
    title="Original/ and Ground Truth/, frames numbered 1 to 612",
    matches=lambda root: any(map(HAS_CLINICDB, clinicdb_places(root))),
    mask_threshold="half",
)(scan_clinicdb)
register_layout(
    "busi",
    title="benign/ and malignant/ with `name (1).png`, `name (1)_mask.png`; normal/ is skipped",
    matches=lambda root: child(root, "benign") is not None or child(root, "malignant") is not None,
    known_faults=(SIZES_DIFFER,),
)(scan_busi)
register_layout(
    "ph2",
    title="IMD002/IMD002_Dermoscopic_Image/IMD002.bmp and IMD002/IMD002_lesion/IMD002_lesion.bmp",
    matches=is_ph2,
)(scan_ph2)
register_layout(
    "ham10000",
    title="HAM10000_images_part_1/, ... and HAM10000_segmentations_*/, grouped by lesion",
    matches=is_ham10000,
)(scan_ham10000)
register_layout(
    "isic2018",
    title="*_Input/ or *_Data/ISIC_x.jpg and *_GroundTruth/ISIC_x_segmentation.png, in their parts",
    matches=is_isic,
)(scan_isic)
register_layout(
    "coco",
    title="annotations.json, annotations/instances_*.json or train/_annotations.coco.json; a sample an annotation",
    matches=lambda root: bool(annotation_files(root)),
)(scan_coco)
register_layout(
    "parts",
    title="train/, validation/ and test/, each with images/ and masks/ or labels/; kept as the split",
    matches=lambda root: bool(parts_of(root)),
)(scan_parts)
register_layout("cvc_colondb", title="frames and masks by number: 12, p12 or p12mask", matches=is_colondb)(scan_colondb)
register_layout(
    "instances",
    title="images/ with label maps in instances/, a sample a label",
    matches=has(IMAGES, ("instances",)),
    labels=True,
)(two_folders(IMAGES, ("instances",)))
register_layout("kvasir_seg", title="images/ and masks/ with equal stems, JPEG masks")(two_folders(IMAGES, MASKS))
register_layout("plain", title="images/ and masks/ with equal stems", matches=has(IMAGES, MASKS))(
    two_folders(IMAGES, MASKS)
)
register_layout("together", title="a.png and a_mask.png in one folder, or in its sub-folders", matches=has_pairs)(
    scan_together
)
