"""What names of files and folders say: which mask belongs to which image, and in which part of a split a file lies.

Names are compared in Unicode's composed form (NFC), whatever form an archive or a file share left them in.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from ..readers import suffix_of

Key = Callable[[str], str | None]

_MASK = r"(?:masks?|segmentations?|seg|ground[ _-]?truth|gt|labels?|lesion|annotations?)"
_IMAGE = r"(?:images?|img|im|original|orig|input)"
_MASK_LAST = re.compile(rf"[ _.-]*{_MASK}(?:[ _-]?\d+)?$")
_MASK_FIRST = re.compile(rf"^{_MASK}(?=[ _.-]|\d)[ _.-]*")
_IMAGE_LAST = re.compile(rf"[ _.-]+{_IMAGE}$")
_IMAGE_FIRST = re.compile(rf"^{_IMAGE}(?=[ _.-]|\d)[ _.-]*")
_NUMBERED_MASK = re.compile(rf"(.+?)[ _.-]*{_MASK}([ _-]?\d+)")
_NUMBER_LAST = re.compile(r"[ _-]?\d+$")
_ROLES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def composed(text: str) -> str:
    """Return a name in Unicode's composed form, in which accents are part of their letters."""
    return normalize("NFC", text)


def stem_of(path: Path) -> str:
    """Return a file's name without the end that says what reads it (`.nii.gz` is one), composed."""
    suffix = suffix_of(path)
    return composed(path.stem if suffix is None else path.name[: -len(suffix)])


def role_of(words: Iterable[str]) -> str | None:
    """Return the part of a split that one of the words names (`train`, `val`, `Test`, ...), the first that does."""
    return next((_ROLES[word.lower()] for word in words if word.lower() in _ROLES), None)


def folded(key: str) -> str:
    """Return a key without regard to case."""
    return composed(key).casefold()


def without_mask_words(key: str) -> str:
    """Return a key without what says that it is of a mask: `_mask`, `_segmentation`, `mask_`, a kept `.jpg`, ..."""
    return _on_name(key, lambda name: _without_suffix(_stripped(_without_suffix(name), _MASK_LAST, _MASK_FIRST)))


def with_number(key: str) -> str | None:
    """Return what else a numbered mask may belong to: `a_mask_1` is the second mask of `a`, or the one of `a_1`."""
    folder, slash, name = folded(key).rpartition("/")
    found = _NUMBERED_MASK.fullmatch(_without_suffix(name))
    return folder + slash + found[1] + found[2] if found else None


def without_image_words(key: str) -> str:
    """Return a key without what says that it is of an image: `image_`, `img_`, `_image`, ..."""
    return _on_name(key, lambda name: _stripped(name, _IMAGE_LAST, _IMAGE_FIRST))


def are_numbered(keys: Iterable[str]) -> bool:
    """Whether keys are those of masks that are one after the number at the end: `a_mask`, `a_mask_1`, `a_mask_2`."""
    names = [_without_suffix(folded(key)) for key in keys]
    return len({*names}) == len(names) and len({_NUMBER_LAST.sub("", name) for name in names}) == 1


def _on_name(key: str, change: Callable[[str], str]) -> str:
    folder, slash, name = folded(key).rpartition("/")
    return folder + slash + change(name)


def _stripped(name: str, *patterns: re.Pattern[str]) -> str:
    """Take away the first pattern that leaves something."""
    return next((rest for pattern in patterns if (rest := pattern.sub("", name)) and rest != name), name)


def _without_suffix(name: str) -> str:
    suffix = suffix_of(Path(name))
    return name if suffix is None or name == suffix else name[: -len(suffix)]


def _name(key: str) -> str:
    return PurePosixPath(key).name


def _flat(change: Callable[[str], str]) -> Key:
    return lambda key: None if "/" in key else change(key)


def _named(change: Callable[[str], str]) -> Key:
    return lambda key: change(_name(key)) if "/" in key else None


# how images and masks are compared, the strictest first; None takes no part
_ALIKE: list[tuple[Callable[[str], str], Callable[[str], str]]] = [
    (composed, composed),
    (folded, folded),
    (folded, without_mask_words),
    (without_image_words, without_mask_words),
]
TIERS: list[tuple[Key, Key]] = [
    *_ALIKE,
    # one side in sub-folders, the other not
    *((_named(image), _flat(mask)) for image, mask in _ALIKE),
    *((_flat(image), _named(mask)) for image, mask in _ALIKE),
]
