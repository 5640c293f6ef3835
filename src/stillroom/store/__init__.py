"""The one cache for what teachers emit: a folder that describes itself, survives a kill, refuses what does not fit."""

from stillroom.store.folder import Store as Store
from stillroom.store.folder import merge as merge
from stillroom.store.header import Header as Header
from stillroom.store.header import Signal as Signal
from stillroom.store.keep import cut_below as cut_below
from stillroom.store.keep import cut_to_nucleus as cut_to_nucleus
from stillroom.store.keep import draw as draw
from stillroom.store.keep import keep_top_k as keep_top_k
from stillroom.store.writer import Writer as Writer
