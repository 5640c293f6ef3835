"""Data: the user's files, data sets of the hub, and real data that works offline."""

from stillroom.data.cache import build_once, cache_folder, fingerprint
from stillroom.data.files import BUILT_IN, load
from stillroom.data.rows import FORMATS, check, recognise, row_id
from stillroom.data.tables import split_rows

__all__ = [
    "BUILT_IN",
    "FORMATS",
    "build_once",
    "cache_folder",
    "check",
    "fingerprint",
    "load",
    "recognise",
    "row_id",
    "split_rows",
]
